//! What the log must remember, may remember and must not.
//!
//! The model stands outside the world, so no crash takes anything from it. Of each commit it knows
//! behind which other it was submitted, and of the log's present line what was acknowledged or
//! served. A commit **must** survive if it was acknowledged, or served by a recovery, and is not
//! below a trim point that the process asked for; it **may** if it was submitted since the latest
//! recovery and not acknowledged; every other **must not** be there. How much of that can be asked
//! for is a [`Promise`], and depends on what the disk has done.

use std::collections::VecDeque;

use woodchuck_wal::{Committed, Location, Lsn, Recovered, Recovery, Statistics, Verdict};

/// What a log promises on a disk that has done what it has done; each promises less than the one
/// before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Promise {
    /// Nothing on media changed by itself: all that was acknowledged or served is there, and behind
    /// it any number of the commits that wait, in order. Opening never says that it is damaged.
    Everything,
    /// One block was spoilt. Opening may be refused. If it is not, all frames are there that a later
    /// durable frame says were durable; what may be missing is an end of the rest.
    Witnessed,
    /// Any number of blocks were spoilt, or writes undone. Opening may be refused. If it is not, what
    /// is served is one line of commits as they were submitted, one behind the other, and the first
    /// of them is not above the trim point. The line may end sooner than it did.
    OneLine,
}

/// A commit that was made.
#[derive(Debug)]
struct Made {
    length: usize,
    /// The commit before it in the log, if any.
    before: Option<u64>,
    /// The frame it was acknowledged or served in.
    lsn: Option<Lsn>,
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
}

/// What happened to one log, over all processes of a world. Its methods give what contradicts it.
#[derive(Debug, Default)]
pub(super) struct Model {
    made: Vec<Made>,
    /// The present line: acknowledged, or served by a recovery, oldest first.
    pub(super) kept: Vec<Entry>,
    /// Submitted since the latest recovery and not acknowledged, oldest first.
    pub(super) pending: VecDeque<u64>,
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
    pub(super) trims: u64,
    pub(super) poisoned: u64,
    pub(super) refused_full: u64,
}

impl Model {
    /// The next commit: its number and bytes.
    pub(super) fn compose(&mut self, length: usize) -> (u64, Vec<u8>) {
        let id = self.made.len() as u64;
        self.made.push(Made { length, before: None, lsn: None, durable: None });
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
    pub(super) fn submitted(&mut self, id: u64, durable: Lsn) {
        let last = self.kept.last().map(|entry| entry.id);
        let before = self.pending.back().copied().or(last);
        let made = &mut self.made[id as usize];
        (made.before, made.durable) = (before, Some(durable));
        self.pending.push_back(id);
    }

    /// The log was asked to trim.
    pub(super) fn trimmed(&mut self, below: Lsn) {
        self.trim = Some(self.trim_point().max(below));
        self.told.trims += 1;
    }

    /// A commit was acknowledged: it must be the one submitted first of those that wait.
    pub(super) fn acknowledged(&mut self, committed: &Committed<u64>) -> Result<(), String> {
        let &Committed { context, lsn, location, .. } = committed;
        let id = self.pending.pop_front();
        if id != Some(context) {
            return Err(format!("commit {context} was acknowledged before {id:?}"));
        }
        if committed.bytes != self.bytes(context)
            || location.length as usize != self.made(context).length
        {
            return Err(format!("commit {context} was acknowledged with other bytes"));
        }
        if let Some(last) = self.kept.last()
            && (last.lsn > lsn || last.location >= location)
        {
            return Err(format!(
                "commit {context} is in frame {lsn} at {location}, the one before it in {} at {}",
                last.lsn, last.location
            ));
        }
        let made = &mut self.made[context as usize];
        made.lsn = Some(lsn);
        self.witnessed = self.witnessed.max(made.durable);
        self.kept.push(Entry { id: context, length: made.length, lsn, location });
        self.told.acknowledged += 1;
        Ok(())
    }

    /// The log was closed with a witness behind its last commit.
    pub(super) fn closed(&mut self) -> Result<(), String> {
        self.witnessed = self.witnessed.max(self.kept.last().map(|entry| entry.lsn.next()));
        let left = self.pending.len();
        if left == 0 { Ok(()) } else { Err(format!("closed while {left} commits wait")) }
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
        self.check_front(found, line.first().copied())?;
        if recovery.commits != found.len() as u64 || recovery.trim > self.trim_point() {
            return Err(format!("{} commits were found, and told is {recovery:?}", found.len()));
        }
        if let Some(last) = found.last()
            && last.lsn >= recovery.next_lsn
        {
            return Err(format!("frame {} was found, and told is {recovery:?}", last.lsn));
        }
        if !found.is_sorted_by_key(|recovered| recovered.location) {
            return Err("locations are not in order".to_owned());
        }
        self.settle(found, &line, recovery);
        Ok(())
    }

    /// Which commits were found, if they must be those of the present line and of those that wait.
    fn present_line(&self, found: &[Recovered], promise: Promise) -> Result<Vec<u64>, String> {
        let needed = self.kept.len() - self.needed().len();
        let start = found.first().map_or(needed, |first| {
            self.kept.partition_point(|entry| entry.lsn < first.lsn).min(needed)
        });
        let known = &self.kept[start..];
        let must = match promise {
            Promise::Everything => known.len(),
            _ => known.partition_point(|entry| Some(entry.lsn) < self.witnessed),
        };
        if found.len() < must {
            return Err(format!(
                "{must} commits must be there, the last in frame {}, and {} are",
                known[must - 1].lsn,
                found.len()
            ));
        }
        if found.len() > known.len() + self.pending.len() {
            let more = found.len() - known.len() - self.pending.len();
            return Err(format!("{more} commits that nobody submitted since the latest recovery"));
        }
        let line = known.iter().map(|entry| entry.id).chain(self.pending.iter().copied());
        let line: Vec<u64> = line.take(found.len()).collect();
        for (&id, recovered) in line.iter().zip(found) {
            self.check_commit(id, recovered)?;
        }
        Ok(line)
    }

    fn check_commit(&self, id: u64, recovered: &Recovered) -> Result<(), String> {
        let (lsn, known) = (recovered.lsn, self.made(id).lsn);
        if recovered.bytes != self.bytes(id) {
            return Err(format!("in frame {lsn} there is something else than commit {id}"));
        }
        if known.is_some_and(|known| known != lsn) {
            return Err(format!("commit {id} of frame {known:?} is in frame {lsn}"));
        }
        Ok(())
    }

    /// Which commits were found, if they may be of any line that there ever was.
    fn any_line(&self, found: &[Recovered]) -> Result<Vec<u64>, String> {
        // Short commits look alike, so that several lines may fit. A line follows from its last
        // commit, as each knows the one before it.
        let Some(first) = found.first() else { return Ok(Vec::new()) };
        let taken = |&id: &u64| self.made(id).durable.is_some();
        let all = || (0..self.made.len() as u64).filter(taken);
        let mut lasts: Vec<u64> =
            all().filter(|&id| self.check_commit(id, first).is_ok()).collect();
        for (index, recovered) in found.iter().enumerate().skip(1) {
            let follows =
                |&id: &u64| self.made(id).before.is_some_and(|before| lasts.contains(&before));
            let later = all().filter(follows);
            let later = later.filter(|&id| self.check_commit(id, recovered).is_ok()).collect();
            if lasts.is_empty() {
                break;
            }
            let earlier = std::mem::replace(&mut lasts, later);
            if lasts.is_empty() {
                return Err(format!(
                    "the commit in frame {}, the {}th that was found, was never submitted behind \
                     commit {earlier:?}",
                    recovered.lsn,
                    index + 1
                ));
            }
        }
        let mut last = lasts.last().copied();
        let mut line: Vec<u64> = Vec::with_capacity(found.len());
        while let Some(id) = last.filter(|_| line.len() < found.len()) {
            line.push(id);
            last = self.made(id).before;
        }
        line.reverse();
        if line.len() == found.len() {
            Ok(line)
        } else {
            Err(format!("in frame {} there is no commit that was submitted", first.lsn))
        }
    }

    /// What is missing in front was trimmed.
    fn check_front(&self, found: &[Recovered], first: Option<u64>) -> Result<(), String> {
        let missing = first.and_then(|id| self.made(id).before).and_then(|id| self.made(id).lsn);
        match missing.filter(|&lsn| lsn >= self.trim_point()) {
            Some(lsn) => Err(format!(
                "frame {lsn} is missing in front of {}, and was not trimmed: {} was",
                found[0].lsn,
                self.trim_point()
            )),
            None => Ok(()),
        }
    }

    /// What was found is the present line now.
    fn settle(&mut self, found: &[Recovered], line: &[u64], recovery: &Recovery) {
        self.told.recoveries += 1;
        if let Verdict::TornTail { frames, .. } = recovery.verdict {
            self.told.torn_tails += 1;
            self.told.torn_frames += frames;
        }
        let served = line.iter().filter(|id| self.pending.contains(id)).count();
        self.told.unacknowledged_served += served as u64;
        self.told.unacknowledged_lost += (self.pending.len() - served) as u64;
        let first = found.first().map_or(recovery.trim, |first| first.lsn);
        let known = self.kept.iter().filter(|entry| entry.lsn >= first).count();
        self.told.acknowledged_lost += known.saturating_sub(line.len()) as u64;
        self.kept = line
            .iter()
            .zip(found)
            .map(|(&id, recovered)| {
                let &Recovered { lsn, location, .. } = recovered;
                self.made[id as usize].lsn = Some(lsn);
                Entry { id, length: self.made(id).length, lsn, location }
            })
            .collect();
        self.pending.clear();
        self.witnessed = self.witnessed.min(Some(recovery.next_lsn));
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
    // Odd factors make each word of a commit another one than the same word of any other.
    let mut word = id.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x5851_F42D_4C95_7F2D);
    while bytes.len() < length {
        bytes.extend_from_slice(&word.to_le_bytes());
        word = word.wrapping_mul(0x2545_F491_4F6C_DD1D).rotate_left(29).wrapping_add(id);
    }
    bytes.truncate(length);
    bytes
}
