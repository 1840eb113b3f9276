//! What the log gives its users.

use std::fmt;

use bytes::Bytes;

/// The number of a frame: 1, 2, 3, ... without gaps, for the life of the log. The commits of one
/// frame share its number; their [`Location`] orders them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

impl Lsn {
    /// The first frame of a log.
    pub const FIRST: Self = Self(1);

    /// The frame with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The frame after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Where a commit's bytes are in the log: to the byte, not aligned to anything. A part of a commit
/// has a location too. Locations in frames are ordered as the commits are; those of large commits
/// ([`LogOptions::indirect_bytes`](crate::LogOptions::indirect_bytes)) are in files of their own.
///
/// A location is good for as long as the log is open. Recovery writes the last few commits anew
/// elsewhere, if they are not known durable; it tells where in [`Recovered`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// Generation of the segment or, for a large commit, of the file.
    pub segment: u64,
    /// Where in the segment.
    pub offset: u64,
    /// How many bytes.
    pub length: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} bytes at offset {} of segment {:016x}",
            self.length, self.offset, self.segment
        )
    }
}

/// Commits of one lane keep the order in which they were submitted, among themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(pub u64);

/// A commit that became durable.
#[derive(Debug)]
pub struct Committed<T> {
    /// What was submitted with it.
    pub context: T,
    /// Its frame.
    pub lsn: Lsn,
    /// Where it is, for [`Log::read`](crate::Log::read).
    pub location: Location,
    /// Whether its bytes stand beside the frames.
    pub is_body: bool,
    /// Its bytes, sharing the memory of its frame: what is kept keeps up to twice the frame. A large
    /// commit's have memory of their own.
    pub bytes: Bytes,
}

/// A commit that was found when the log was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Its frame.
    pub lsn: Lsn,
    /// Where it is now, for [`Log::read`](crate::Log::read).
    pub location: Location,
    /// Whether its bytes stand beside the frames.
    pub is_body: bool,
    /// Its bytes, sharing the memory in which its part of the segment was read.
    pub bytes: Bytes,
}

/// What opening found behind the last frame. Damage to acknowledged data is an error instead
/// ([`LogError::Corrupt`](crate::LogError::Corrupt)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Clean,
    /// Remains of frames that were being written when the process or the machine died: provably
    /// not acknowledged, and dropped.
    TornTail {
        /// The segment in which the log ends.
        segment: u64,
        /// Where it ends.
        offset: u64,
        /// Frames whose header was found there.
        frames: u64,
        /// Their bytes.
        bytes: u64,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean => write!(formatter, "clean"),
            Self::TornTail { segment, offset, frames, bytes } => write!(
                formatter,
                "torn tail: dropped {frames} frames of {bytes} bytes that were never \
                 acknowledged, behind offset {offset} of segment {segment:016x}"
            ),
        }
    }
}

/// What opening a log found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// What stood behind the last frame.
    pub verdict: Verdict,
    /// Frames that were read.
    pub frames: u64,
    /// Commits that were replayed.
    pub commits: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Segments that hold them.
    pub segments: u64,
    /// Blocks that the disk could not read, in places that do not matter.
    pub unreadable_blocks: u64,
    /// The number that the first new frame got.
    pub next_lsn: Lsn,
    /// The trim point: nothing below it is needed.
    pub trim: Lsn,
}

/// What a log has done since it was opened, and what is waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Frames with commits.
    pub data_frames: u64,
    /// First frames of segments.
    pub start_frames: u64,
    /// Witnesses.
    pub witness_frames: u64,
    /// Frames that were found when opening, not known durable, and written again.
    pub carried_frames: u64,
    /// Commits acknowledged.
    pub commits: u64,
    /// Commits whose bytes were given a place beside the frames.
    pub bodies: u64,
    /// Bytes handed to the disk, headers and padding included.
    pub bytes_written: u64,
    /// Most frames that were in flight at once.
    pub most_in_flight: u64,
    /// Frames that became durable before one in front of them.
    pub completed_out_of_order: u64,
    /// Segments that were prepared while the log was open.
    pub segments_prepared: u64,
    /// Segments that were put away to be used again.
    pub segments_recycled: u64,
    /// Those of them that held the bytes of large commits.
    pub body_files_recycled: u64,
    /// Segments and spares that were removed.
    pub segments_removed: u64,
    /// Submissions refused because the queue was full.
    pub refused_busy: u64,
    /// Submissions refused because the disk was full, or the log at its capacity.
    pub refused_full: u64,
    /// What is charged for commits that were submitted and not yet handed out, in bytes.
    pub bytes_waiting: u64,
}
