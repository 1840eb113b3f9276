//! All that is told of a volume: what the kernel says, what was measured, and what the engine will
//! use.

use std::path::PathBuf;
use std::time::Duration;

use woodchuck_io::probe::{DirectIo, Machine, Rings, Volume};
use woodchuck_io::runtime::{Backend, CompletionMode};

use super::measure::{Entry, Figures, Measured, Operation};

/// All that is told of a volume.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) directory: PathBuf,
    pub(super) volume: Volume,
    pub(super) direct_io: DirectIo,
    /// What rings can do, or why there are none.
    pub(super) rings: Result<Rings, String>,
    pub(super) machine: Machine,
    pub(super) scratch_bytes: u64,
    /// How long each measurement took.
    pub(super) each: Duration,
    pub(super) measured: Measured,
    pub(super) settings: Settings,
}

/// What the engine will use in this directory, unless it is told otherwise.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Also what was measured.
    pub(super) backend: Backend,
    pub(super) completion_mode: CompletionMode,
    pub(super) ring_flags: Vec<&'static str>,
    pub(super) ring_submissions: u32,
    pub(super) ring_completions: u32,
    /// What each ring takes of the memory that may be locked, on kernels that count rings.
    pub(super) ring_locked_bytes: u64,
    /// Threads of each shard that make file calls, where there is no ring.
    pub(super) helper_threads: usize,
    /// Whether each shard has a CPU of its own.
    pub(super) pinned: bool,
    /// How many shards a new data directory gets.
    pub(super) shards: usize,
    pub(super) block_bytes: usize,
    pub(super) frames_in_flight: usize,
    /// Why so many, as part of a sentence.
    pub(super) frames_in_flight_reason: String,
    pub(super) frame_bytes: usize,
    pub(super) segment_bytes: u64,
    pub(super) queue_bytes: usize,
    pub(super) witness_delay: Duration,
}

impl Report {
    /// Whether files are kept in memory, and nowhere else.
    pub(super) fn is_memory(&self) -> bool {
        matches!(&*self.volume.filesystem, "tmpfs" | "ramfs")
    }

    /// What was measured with this operation, size and depth.
    pub(super) fn figures(
        &self,
        operation: Operation,
        block_bytes: usize,
        depth: usize,
    ) -> Option<&Figures> {
        let wanted = |entry: &&Entry| {
            (entry.operation, entry.block_bytes, entry.depth) == (operation, block_bytes, depth)
        };
        self.measured.matrix.iter().find(wanted).map(|entry| &entry.figures)
    }
}
