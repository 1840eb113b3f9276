//! What the log must remember.

use std::collections::VecDeque;

use woodchuck_wal::{Committed, Location, Lsn, Recovered, Recovery, Statistics, Verdict};

/// A commit that the log must never forget.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) length: usize,
    pub(crate) lsn: Lsn,
    pub(crate) location: Location,
}

/// What happened, over all processes of one world.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) seed: u64,
    next_id: u64,
    /// Acknowledged, or served by a recovery, oldest first.
    pub(crate) history: Vec<Entry>,
    /// Submitted since the last recovery that succeeded, not acknowledged, oldest first: id and
    /// length.
    pub(crate) pending: VecDeque<(u64, usize)>,
    /// What was trimmed: frames below it need not be found.
    pub(crate) trim: Lsn,
    /// Contexts given back by a poisoned log.
    pub(crate) failed: u64,
    pub(crate) opened: u64,
    pub(crate) poisoned: u64,
    pub(crate) refused_full: u64,
    pub(crate) torn: u64,
    pub(crate) torn_frames: u64,
    /// Commits that were never acknowledged, and served by recovery.
    pub(crate) unacknowledged_served: u64,
    pub(crate) unacknowledged_lost: u64,
    pub(crate) reads: u64,
    /// What earlier processes did.
    pub(crate) statistics: Statistics,
    /// What the latest process had done when it was last looked at.
    pub(crate) latest: Statistics,
}

impl Model {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            next_id: 0,
            history: Vec::new(),
            pending: VecDeque::new(),
            trim: Lsn::FIRST,
            failed: 0,
            opened: 0,
            poisoned: 0,
            refused_full: 0,
            torn: 0,
            torn_frames: 0,
            unacknowledged_served: 0,
            unacknowledged_lost: 0,
            reads: 0,
            statistics: Statistics::default(),
            latest: Statistics::default(),
        }
    }

    /// The next commit: its number and bytes.
    pub(crate) fn compose(&mut self, length: usize) -> (u64, Vec<u8>) {
        let id = self.next_id;
        self.next_id += 1;
        (id, content(id, length))
    }

    /// A commit was taken.
    pub(crate) fn submitted(&mut self, id: u64, length: usize) {
        self.pending.push_back((id, length));
    }

    /// A commit was acknowledged: it must be the one submitted first of those that wait.
    pub(crate) fn acknowledged(&mut self, committed: &Committed<u64>) {
        let seed = self.seed;
        let (id, length) = self.pending.pop_front().expect("acknowledged without submission");
        assert_eq!(committed.context, id, "seed {seed}: acknowledged out of order");
        assert_eq!(committed.bytes, content(id, length), "seed {seed}: other bytes");
        let (lsn, location) = (committed.lsn, committed.location);
        assert_eq!(location.length as usize, length, "seed {seed}");
        if let Some(last) = self.history.last() {
            assert!(last.lsn <= lsn, "seed {seed}: frames out of order");
            assert!(last.location < location, "seed {seed}: locations out of order");
        }
        self.history.push(Entry { id, length, lsn, location });
    }

    /// What a recovery found is what it may find. Returns where it begins in the history, and what
    /// the history is from there on.
    fn check(&self, found: &[Recovered]) -> (usize, Vec<Entry>) {
        let seed = self.seed;
        let needed = self.history.partition_point(|entry| entry.lsn < self.trim);
        // It may begin anywhere in what was trimmed.
        let start = found
            .first()
            .map_or(needed, |first| self.history.partition_point(|entry| entry.lsn < first.lsn));
        assert!(
            start <= needed,
            "seed {seed}: commits {start} to {needed} are missing in front, of {}; trim {}",
            self.history.len(),
            self.trim
        );
        let known = &self.history[start..];
        assert!(
            found.len() >= known.len(),
            "seed {seed}: {} commits were acknowledged, the last in frame {}, and {} are found",
            known.len(),
            known.last().map_or(Lsn::new(0), |entry| entry.lsn),
            found.len()
        );
        assert!(
            found.len() <= known.len() + self.pending.len(),
            "seed {seed}: {} commits that nobody submitted since the last recovery",
            found.len() - known.len() - self.pending.len()
        );
        for (entry, recovered) in known.iter().zip(found) {
            assert_eq!(entry.lsn, recovered.lsn, "seed {seed}: commit {} moved", entry.id);
        }
        let known = known.iter().map(|entry| (entry.id, entry.length));
        let expected = known.chain(self.pending.iter().copied());
        let entries: Vec<Entry> = expected
            .zip(found)
            .map(|((id, length), recovered)| {
                let bytes = content(id, length);
                assert_eq!(recovered.bytes, bytes, "seed {seed}: not commit {id}");
                Entry { id, length, lsn: recovered.lsn, location: recovered.location }
            })
            .collect();
        assert!(entries.is_sorted_by_key(|entry| entry.location), "seed {seed}");
        (start, entries)
    }

    /// The log is open: what was found stays, what was not found never comes back.
    pub(crate) fn opened(&mut self, found: &[Recovered], recovery: &Recovery) {
        let (start, entries) = self.check(found);
        let extension = entries.len() - (self.history.len() - start);
        assert_eq!(recovery.commits, found.len() as u64);
        self.opened += 1;
        if let Verdict::TornTail { frames, .. } = recovery.verdict {
            self.torn += 1;
            self.torn_frames += frames;
        }
        self.unacknowledged_served += extension as u64;
        self.unacknowledged_lost += (self.pending.len() - extension) as u64;
        self.history.truncate(start);
        self.history.extend(entries);
        self.pending.clear();
        let done = std::mem::take(&mut self.latest);
        self.count(&done);
    }

    /// Adds what a log did.
    fn count(&mut self, done: &Statistics) {
        let sum = &mut self.statistics;
        sum.data_frames += done.data_frames;
        sum.start_frames += done.start_frames;
        sum.witness_frames += done.witness_frames;
        sum.carried_frames += done.carried_frames;
        sum.commits += done.commits;
        sum.bytes_written += done.bytes_written;
        sum.most_in_flight = sum.most_in_flight.max(done.most_in_flight);
        sum.completed_out_of_order += done.completed_out_of_order;
        sum.segments_prepared += done.segments_prepared;
        sum.segments_recycled += done.segments_recycled;
        sum.refused_busy += done.refused_busy;
        sum.refused_full += done.refused_full;
    }

    /// Adds what another model counted.
    pub(crate) fn absorb(&mut self, other: &Self) {
        self.count(&other.statistics);
        self.count(&other.latest);
        self.history.extend(other.history.iter().cloned());
        self.failed += other.failed;
        self.opened += other.opened;
        self.poisoned += other.poisoned;
        self.refused_full += other.refused_full;
        self.torn += other.torn;
        self.torn_frames += other.torn_frames;
        self.unacknowledged_served += other.unacknowledged_served;
        self.unacknowledged_lost += other.unacknowledged_lost;
        self.reads += other.reads;
    }
}

/// The bytes of a commit: told from every other's, and from itself at every other place.
pub(crate) fn content(id: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    let mut word = id.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    while bytes.len() < length {
        bytes.extend_from_slice(&word.to_le_bytes());
        word = word.wrapping_mul(0x2545_F491_4F6C_DD1D).rotate_left(29).wrapping_add(id);
    }
    bytes.truncate(length);
    bytes
}

/// The seeds of a campaign: so many, or as the environment says. `WOODCHUCK_SEED` gives a single
/// one, to look into a failure; `WOODCHUCK_SEEDS` how many, for a longer campaign.
pub(crate) fn seeds(usual: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("WOODCHUCK_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WOODCHUCK_SEEDS").unwrap_or(usual).max(1),
    }
}
