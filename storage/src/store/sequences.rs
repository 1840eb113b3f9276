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
}

impl Sequences {
    /// The sequence of the next commit of the log, which is in this frame.
    ///
    /// # Panics
    /// If frames go backwards, or have more commits than frames can have.
    pub fn next(&mut self, lsn: u64) -> u64 {
        assert!(lsn >= self.lsn && lsn <= LSN_MAX, "commits come in the order of the log");
        if lsn > self.lsn {
            *self = Self { lsn, commits: 0 };
        }
        assert!(self.commits < FRAME_COMMITS_MAX, "a frame has so many commits at most");
        let sequence = (lsn << FRAME_COMMITS_BITS) | self.commits;
        self.commits += 1;
        sequence
    }

    /// The frame of a sequence.
    #[must_use]
    pub const fn lsn(sequence: u64) -> u64 {
        sequence >> FRAME_COMMITS_BITS
    }
}
