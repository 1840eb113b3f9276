//! What the log must remember, may remember and must not.
//!
//! The model stands outside the world, so no crash takes anything from it. Of each commit it knows
//! behind which other of its lane it was submitted, and of the log's present line what was
//! acknowledged or served. A commit **must** survive if it was acknowledged, or served by a
//! recovery, and is not below a trim point that the process asked for; it **may** if it was submitted
//! since the latest recovery and not acknowledged, and all before it in its lane are there; every
//! other **must not** be there. How much of that can be asked for is a [`Promise`], and depends on
//! what the disk has done.
//!
//! Commits that are submitted in no lane are a lane of their own. A log without lanes so has one
//! line, the whole of which is in the order of submission.

mod line;

use std::collections::{BTreeMap, VecDeque};

use woodchuck_wal::{Committed, Lane, Location, Lsn, Recovered, Recovery, Statistics, Verdict};

/// Shortest commit that is told from every other by its content alone.
pub(super) const UNIQUE_BYTES: usize = 16;

/// What a log promises on a disk that has done what it has done; each promises less than the one
/// before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Promise {
    /// Nothing on media changed by itself: all that was acknowledged or served is there, and behind
    /// it any number of the commits that wait, in the order of each lane. Opening never says that it
    /// is damaged.
    Everything,
    /// One block was spoilt. Opening may be refused. If it is not, all frames are there that a later
    /// durable frame says were durable; what may be missing is an end of the rest.
    Witnessed,
    /// Any number of blocks were spoilt, or writes undone. Opening may be refused. If it is not, what
    /// is served is one line of commits as they were submitted, one behind the other in each lane,
    /// and the first of them is not above the trim point. The line may end sooner than it did.
    OneLine,
}

/// A commit that was made.
#[derive(Debug, Default)]
struct Made {
    length: usize,
    lane: Option<Lane>,
    /// Whether it may stand beside the frames, and be overtaken by others.
    is_large: bool,
    /// The commit before it in its lane, if any.
    before: Option<u64>,
    /// The commit in front of it in the log, of whatever lane, if that is known.
    behind: Option<u64>,
    /// The frame it was acknowledged or served in.
    lsn: Option<Lsn>,
    /// Where it is then, if that is beside the frames.
    body: Option<Location>,
    /// What was known durable when it was submitted: its frame's watermark is not below it. `None`
    /// if no log took it.
    durable: Option<Lsn>,
}

/// A commit of the log's present line.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) length: usize,
    pub(super) lsn: Lsn,
    pub(super) location: Location,
    /// Whether it stands beside the frames.
    pub(super) is_body: bool,
}

/// Where the latest commits are: the next are behind them.
#[derive(Debug, Default)]
struct Places {
    in_frames: Option<Location>,
    /// In each file of bodies, of each lane.
    in_bodies: BTreeMap<(u64, Option<Lane>), Location>,
}

impl Places {
    /// Whether the next commit may be there.
    fn advance(&mut self, lane: Option<Lane>, is_body: bool, location: Location) -> bool {
        let last = if is_body {
            self.in_bodies.insert((location.segment, lane), location)
        } else {
            self.in_frames.replace(location)
        };
        last.is_none_or(|last| last < location)
    }
}

/// What happened to one log, over all processes of a world. Its methods give what contradicts it.
#[derive(Debug, Default)]
pub(super) struct Model {
    made: Vec<Made>,
    /// The present line: acknowledged, or served by a recovery, oldest first.
    pub(super) kept: Vec<Entry>,
    /// Submitted since the latest recovery and not acknowledged, oldest first in each lane; no lane
    /// is empty.
    pending: BTreeMap<Option<Lane>, VecDeque<u64>>,
    /// The last of each lane that was acknowledged or served, and not lost.
    lasts: BTreeMap<Option<Lane>, Option<u64>>,
    places: Places,
    /// No frame below it is needed.
    trim: Option<Lsn>,
    /// A durable frame says that all frames below it were durable.
    witnessed: Option<Lsn>,
    /// The least promise that a recovery did not keep, and how. Whether the disk allowed that is for
    /// others to say.
    pub(super) broken: Option<(Promise, String)>,
    pub(super) told: Counts,
    /// What logs have done that are not open any more.
    statistics: Statistics,
    /// What the latest log had done when it was last looked at.
    latest: Statistics,
}

/// What happened how often.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) recoveries: u64,
    pub(super) torn_tails: u64,
    pub(super) torn_frames: u64,
    pub(super) acknowledged: u64,
    /// Commits that were not acknowledged, and served by a recovery.
    pub(super) unacknowledged_served: u64,
    pub(super) unacknowledged_lost: u64,
    /// Acknowledged commits that a damaged disk cost.
    pub(super) acknowledged_lost: u64,
    pub(super) reads: u64,
    /// Those of commits that stand beside the frames.
    pub(super) bodies_read: u64,
    pub(super) trims: u64,
    /// Those after which nothing in some segment, or in some file of bodies, was needed any more.
    pub(super) segments_trimmed: u64,
    pub(super) bodies_trimmed: u64,
    pub(super) poisoned: u64,
    pub(super) refused_full: u64,
    pub(super) refused_at_capacity: u64,
    /// Commits that were needed when somebody began to read them, and no more when they were read.
    pub(super) trimmed_while_read: u64,
    /// Acknowledged commits that stand beside the frames.
    pub(super) bodies: u64,
    /// Those that a recovery served.
    pub(super) bodies_served: u64,
    /// Commits acknowledged before one that was submitted earlier, in another lane.
    pub(super) overtakings: u64,
}

impl Model {
    /// The next commit: its number and bytes.
    pub(super) fn compose(&mut self, length: usize) -> (u64, Vec<u8>) {
        let id = self.made.len() as u64;
        self.made.push(Made { length, ..Made::default() });
        (id, content(id, length))
    }

    fn made(&self, id: u64) -> &Made {
        &self.made[id as usize]
    }

    fn bytes(&self, id: u64) -> Vec<u8> {
        content(id, self.made(id).length)
    }

    pub(super) fn trim_point(&self) -> Lsn {
        self.trim.unwrap_or(Lsn::FIRST)
    }

    /// The present line from the trim point on.
    pub(super) fn needed(&self) -> &[Entry] {
        let trim = self.trim_point();
        &self.kept[self.kept.partition_point(|entry| entry.lsn < trim)..]
    }

    /// A commit was taken by a log in which all frames below `durable` are.
    pub(super) fn submitted(&mut self, id: u64, lane: Option<Lane>, is_large: bool, durable: Lsn) {
        let last = self.lasts.get(&lane).copied().flatten();
        let pending = self.pending.entry(lane).or_default();
        let before = pending.back().copied().or(last);
        pending.push_back(id);
        let made = &mut self.made[id as usize];
        let (durable, is_large) = (Some(durable), is_large && lane.is_some());
        *made = Made { lane, is_large, before, durable, ..std::mem::take(made) };
    }

    /// What waits in other lanes, and was submitted before a commit.
    fn overtaken<'a>(
        &self,
        id: u64,
        mut fronts: impl Iterator<Item = &'a u64>,
    ) -> Result<bool, String> {
        let mut is_first = true;
        // Only a large commit is ever overtaken, or what stands behind one in its lane.
        let kept_waiting = fronts.find(|front| {
            is_first &= **front >= id;
            **front < id && !self.made(**front).is_large
        });
        match kept_waiting {
            Some(front) => Err(format!("commit {id} came before {front}, which waits for nothing")),
            None => Ok(!is_first),
        }
    }

    /// The log was asked to trim.
    pub(super) fn trimmed(&mut self, below: Lsn) {
        self.told.segments_trimmed += u64::from(self.frees_file(below, false));
        self.told.bodies_trimmed += u64::from(self.frees_file(below, true));
        self.trim = Some(self.trim_point().max(below));
        self.told.trims += 1;
    }

    /// Whether trimming below a frame lets a file go, of bodies or of frames.
    fn frees_file(&self, below: Lsn, of_bodies: bool) -> bool {
        let entries = self.kept.iter().filter(|entry| entry.is_body == of_bodies);
        // The last entry of each stays.
        let newest = entries.map(|entry| (entry.location.segment, entry.lsn));
        let newest: BTreeMap<u64, Lsn> = newest.collect();
        // The last file may be written to.
        let trim = self.trim_point();
        newest.values().rev().skip(1).any(|&lsn| (trim..below).contains(&lsn))
    }

    /// A commit was acknowledged: of its lane, it must be the one submitted first of those that wait.
    pub(super) fn acknowledged(&mut self, committed: &Committed<u64>) -> Result<(), String> {
        let &Committed { context, lsn, location, is_body, .. } = committed;
        let lane = self.made(context).lane;
        let waiting = self.pending.get_mut(&lane);
        let id = waiting.and_then(VecDeque::pop_front);
        self.pending.retain(|_, waiting| !waiting.is_empty());
        if id != Some(context) {
            return Err(format!("commit {context} was acknowledged before {id:?}"));
        }
        let fronts = self.pending.values().filter_map(VecDeque::front);
        self.told.overtakings += u64::from(self.overtaken(context, fronts)?);
        if committed.bytes != self.bytes(context)
            || location.length as usize != self.made(context).length
        {
            return Err(format!("commit {context} was acknowledged with other bytes"));
        }
        if is_body && !self.made(context).is_large {
            return Err(format!("commit {context} is beside the frames, and is not large"));
        }
        let behind = self.kept.last();
        if !self.places.advance(lane, is_body, location)
            || behind.is_some_and(|last| last.lsn > lsn)
        {
            return Err(format!(
                "commit {context} is in frame {lsn} at {location}, and in front of it {behind:?}"
            ));
        }
        let behind = behind.map(|last| last.id);
        let made = &mut self.made[context as usize];
        (made.lsn, made.behind, made.body) = (Some(lsn), behind, is_body.then_some(location));
        self.witnessed = self.witnessed.max(made.durable);
        self.kept.push(Entry { id: context, length: made.length, lsn, location, is_body });
        self.lasts.insert(lane, Some(context));
        self.told.acknowledged += 1;
        self.told.bodies += u64::from(is_body);
        Ok(())
    }

    /// The log was closed, with a witness behind its last commit if there was room for it.
    pub(super) fn closed(&mut self, has_witness: bool) -> Result<(), String> {
        if has_witness {
            self.witnessed = self.witnessed.max(self.kept.last().map(|entry| entry.lsn.next()));
        }
        let left = self.pending_count();
        if left == 0 { Ok(()) } else { Err(format!("closed while {left} commits wait")) }
    }

    /// The log was poisoned, and gave back the contexts of what was lost: those that wait, in the
    /// order of each lane.
    pub(super) fn failed(&mut self, failed: &[u64]) -> Result<(), String> {
        self.told.poisoned += 1;
        let mut lanes: BTreeMap<Option<Lane>, VecDeque<u64>> = BTreeMap::new();
        for &id in failed {
            lanes.entry(self.made(id).lane).or_default().push_back(id);
        }
        if lanes == self.pending {
            Ok(())
        } else {
            Err(format!("{lanes:?} failed, and {:?} wait", self.pending))
        }
    }

    fn pending_count(&self) -> usize {
        self.pending.values().map(VecDeque::len).sum()
    }

    /// The log is open: what was found stays, and what was not found never comes back. An error if
    /// it is not even [one line](Promise::OneLine).
    pub(super) fn opened(
        &mut self,
        found: &[Recovered],
        recovery: &Recovery,
    ) -> Result<(), String> {
        let line = match self.present_line(found, Promise::Everything) {
            Ok(line) => line,
            Err(text) => {
                let line = self.any_line(found)?;
                let worse = self.present_line(found, Promise::Witnessed).err();
                let worse = worse.map(|text| (Promise::Witnessed, text));
                let broken = worse.unwrap_or((Promise::Everything, text));
                let before = self.broken.take().filter(|(promise, _)| *promise >= broken.0);
                self.broken = before.or(Some(broken));
                line
            }
        };
        self.check_front(found, &line)?;
        if recovery.commits != found.len() as u64 || recovery.trim > self.trim_point() {
            return Err(format!("{} commits were found, and told is {recovery:?}", found.len()));
        }
        if let Some(last) = found.last()
            && last.lsn >= recovery.next_lsn
        {
            return Err(format!("frame {} was found, and told is {recovery:?}", last.lsn));
        }
        if !found.is_sorted_by_key(|recovered| recovered.lsn) {
            return Err("frames are not in order".to_owned());
        }
        self.places = Places::default();
        for (&id, recovered) in line.iter().zip(found) {
            let &Recovered { location, is_body, .. } = recovered;
            if !self.places.advance(self.made(id).lane, is_body, location) {
                return Err(format!("locations are not in order at {location}"));
            }
        }
        self.settle(found, &line, recovery);
        Ok(())
    }

    /// What was found is the present line now.
    fn settle(&mut self, found: &[Recovered], line: &[u64], recovery: &Recovery) {
        self.told.recoveries += 1;
        if let Verdict::TornTail { frames, .. } = recovery.verdict {
            self.told.torn_tails += 1;
            self.told.torn_frames += frames;
        }
        let pending = std::mem::take(&mut self.pending);
        let is_pending = |id: &&u64| {
            let waiting = pending.get(&self.made(**id).lane);
            waiting.is_some_and(|waiting| waiting.contains(id))
        };
        let served = line.iter().filter(is_pending).count();
        let waited: usize = pending.values().map(VecDeque::len).sum();
        self.told.unacknowledged_served += served as u64;
        self.told.unacknowledged_lost += (waited - served) as u64;
        let first = found.first().map_or(recovery.trim, |first| first.lsn);
        let known = self.kept.iter().filter(|entry| entry.lsn >= first).count();
        self.told.acknowledged_lost += known.saturating_sub(line.len()) as u64;
        self.go_back(found.first().map_or(recovery.next_lsn, |first| first.lsn));
        self.kept.clear();
        for (&id, recovered) in line.iter().zip(found) {
            let &Recovered { lsn, location, is_body, .. } = recovered;
            let behind = self.kept.last().map(|last| last.id);
            let made = &mut self.made[id as usize];
            made.lsn = Some(lsn);
            made.body = is_body.then_some(location);
            made.behind = made.behind.or(behind);
            self.kept.push(Entry { id, length: made.length, lsn, location, is_body });
            self.lasts.insert(made.lane, Some(id));
            self.told.bodies_served += u64::from(is_body);
        }
        self.witnessed = self.witnessed.min(Some(recovery.next_lsn));
    }

    /// Forgets of each lane's last commits those that are not in front of a frame.
    fn go_back(&mut self, frame: Lsn) {
        for last in self.lasts.values_mut() {
            while let Some(id) = *last {
                let made = &self.made[id as usize];
                if made.lsn.is_some_and(|lsn| lsn < frame) {
                    break;
                }
                *last = made.before;
            }
        }
    }

    /// What the open log has done so far.
    pub(super) const fn look(&mut self, latest: Statistics) {
        self.latest = latest;
    }

    /// The log that was open is not any more.
    pub(super) fn gone(&mut self) {
        let done = std::mem::take(&mut self.latest);
        let sum = &mut self.statistics;
        sum.data_frames += done.data_frames;
        sum.start_frames += done.start_frames;
        sum.witness_frames += done.witness_frames;
        sum.carried_frames += done.carried_frames;
        sum.most_in_flight = sum.most_in_flight.max(done.most_in_flight);
        sum.completed_out_of_order += done.completed_out_of_order;
        sum.segments_prepared += done.segments_prepared;
        sum.segments_recycled += done.segments_recycled;
        sum.body_files_recycled += done.body_files_recycled;
        sum.refused_busy += done.refused_busy;
        sum.refused_full += done.refused_full;
    }

    /// What all logs have done that are not open any more.
    pub(super) const fn statistics(&self) -> &Statistics {
        &self.statistics
    }
}

/// The bytes of a commit: told from every other's, if there are eight of them, and from themselves
/// at every other place.
pub(super) fn content(id: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    let mut word = first_word(id);
    while bytes.len() < length {
        bytes.extend_from_slice(&word.to_le_bytes());
        word = word.wrapping_mul(0x2545_F491_4F6C_DD1D).rotate_left(29).wrapping_add(id);
    }
    bytes.truncate(length);
    bytes
}

/// Odd factors make each word of a commit another one than the same word of any other.
const fn first_word(id: u64) -> u64 {
    id.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x5851_F42D_4C95_7F2D)
}
