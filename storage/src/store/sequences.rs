//! From the frames of a log to sequences.

use crate::limits::{FRAME_COMMITS_BITS, FRAME_COMMITS_MAX, LSN_MAX};

/// Gives commits their sequences, in the order of the log: the number of a commit's frame, and
/// which of the frame's commits it is. Each commit has to be counted, whatever it holds, so that
/// replaying the log gives it the same sequence: frames are trimmed, and carried over by recovery,
/// as a whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sequences {
    lsn: u64,
    commits: u64,
    /// Frames in front of the log's first.
    before: u64,
}

impl Sequences {
    /// For a log that begins behind this sequence: of a store that was opened from a checkpoint, and
    /// that begins a log of its own. The owner keeps that sequence for as long as it has the log: it
    /// has to be the same each time.
    #[must_use]
    pub const fn behind(sequence: u64) -> Self {
        Self { lsn: 0, commits: 0, before: sequence >> FRAME_COMMITS_BITS }
    }

    /// The sequence of the next commit of the log, which is in this frame.
    ///
    /// # Panics
    /// If frames go backwards, or have more commits than frames can have.
    pub fn next(&mut self, lsn: u64) -> u64 {
        assert!(lsn >= self.lsn, "commits come in the order of the log");
        assert!(lsn <= LSN_MAX - self.before, "frames have numbers that sequences can hold");
        if lsn > self.lsn {
            (self.lsn, self.commits) = (lsn, 0);
        }
        assert!(self.commits < FRAME_COMMITS_MAX, "a frame has so many commits at most");
        let sequence = ((self.before + lsn) << FRAME_COMMITS_BITS) | self.commits;
        self.commits += 1;
        sequence
    }

    /// The frame of this log in which a sequence is; 0 if it is in front of the first.
    #[must_use]
    pub const fn frame_of(&self, sequence: u64) -> u64 {
        Self::lsn(sequence).saturating_sub(self.before)
    }

    /// The frame of a sequence, of a log that begins behind nothing.
    #[must_use]
    pub const fn lsn(sequence: u64) -> u64 {
        sequence >> FRAME_COMMITS_BITS
    }
}
