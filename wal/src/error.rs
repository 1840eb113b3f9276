//! What can go wrong, and what the caller can do about it.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::{Location, Lsn};

/// Why the log did not do what was asked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LogError {
    /// Data that was acknowledged is damaged or missing. Opening is refused, and nothing on the
    /// disk was changed.
    Corrupt {
        /// The segment with the first frame that is missing.
        segment: u64,
        /// Where in that segment the frame should be.
        offset: u64,
        /// The first frame that is lost.
        first_lost: Lsn,
        /// The first frame after that which is not known to have been durable: the frames in
        /// between were, and cannot all be read.
        lost_below: Lsn,
        /// What shows it.
        evidence: String,
    },
    /// A segment was written by another version of the format.
    WrongVersion {
        /// The segment.
        segment: u64,
        /// The version it was written with.
        found: u32,
        /// The version that this build reads and writes.
        supported: u32,
    },
    /// The directory holds something that is not part of this log.
    NotOurs {
        /// The file.
        name: String,
        /// Why it is not part of the log.
        reason: String,
    },
    /// A durable write or a flush failed. What was in flight is unknown for ever; this log takes
    /// nothing more.
    Poisoned {
        /// What failed.
        cause: String,
    },
    /// As much is waiting as may wait. Nothing was taken.
    Busy {
        /// Bytes waiting.
        waiting: usize,
        /// Bytes that may wait.
        limit: usize,
    },
    /// The commit is larger than the log takes. Nothing was taken.
    TooLarge {
        /// Bytes of the commit.
        bytes: usize,
        /// Bytes of the largest commit.
        limit: usize,
    },
    /// The disk has no room for the next segment, and the current one is full. Nothing was taken.
    Full {
        /// Bytes that the next segment needs.
        needed: u64,
    },
    /// The log has as much as it may have
    /// ([`LogOptions::capacity_bytes`](crate::LogOptions::capacity_bytes)), and all of it is
    /// needed. Nothing was taken.
    AtCapacity {
        /// Bytes that it may have.
        capacity: u64,
    },
    /// The log was closed. Nothing was taken.
    Closed,
    /// What was asked for lies below the trim point, or was never in this log.
    Trimmed {
        /// What was asked for.
        location: Location,
        /// The oldest segment that is still there.
        oldest_segment: u64,
    },
    /// The options contradict themselves.
    Options {
        /// How.
        reason: String,
    },
    /// What replays the recovered commits refused one.
    Replay {
        /// The frame of the commit.
        lsn: Lsn,
        /// What it said.
        reason: String,
    },
    /// The operating system refused something that harms no data.
    Io {
        /// What the log was doing.
        doing: String,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
}

impl LogError {
    /// Whether the same call may succeed later, with nothing repaired and nothing restarted.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Full { .. } | Self::AtCapacity { .. })
    }

    /// Whether it is certain that what was asked did not happen. `false` for a poisoned log
    /// alone: commits that were in flight may or may not be found by the next recovery.
    #[must_use]
    pub const fn is_definite(&self) -> bool {
        !matches!(self, Self::Poisoned { .. })
    }

    /// Whether acknowledged data is lost or damaged.
    #[must_use]
    pub const fn is_corrupt(&self) -> bool {
        matches!(self, Self::Corrupt { .. })
    }

    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Io { doing: doing.into(), source: Arc::new(source) }
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt { segment, offset, first_lost, lost_below, evidence } => write!(
                formatter,
                "acknowledged data is damaged: frames {first_lost} up to, not including, \
                 {lost_below} are not all readable, from segment {segment:016x} offset {offset} \
                 on ({evidence}); nothing was changed: restore the data directory from a copy, or \
                 save what is proven with `woodchuck repair DIR --to NEW_DIR`; `woodchuck verify \
                 DIR` tells of all logs, `woodchuck inspect log DIR` of all that can be read"
            ),
            Self::WrongVersion { segment, found, supported } => write!(
                formatter,
                "segment {segment:016x} has format version {found}, this build reads version \
                 {supported}: open it with the version of Woodchuck that wrote it"
            ),
            Self::NotOurs { name, reason } => write!(
                formatter,
                "{name} is not part of this log ({reason}): move it elsewhere, or choose another \
                 directory"
            ),
            Self::Poisoned { cause } => write!(
                formatter,
                "the log can no longer make anything durable ({cause}): restart the process, \
                 which recovers what is on the disk; replace the disk if it happens again"
            ),
            Self::Busy { waiting, limit } => write!(
                formatter,
                "{waiting} bytes wait to become durable, {limit} may: try again when some have"
            ),
            Self::TooLarge { bytes, limit } => write!(
                formatter,
                "a commit of {bytes} bytes is above the largest, {limit}: split it, or use larger \
                 segments"
            ),
            Self::Full { needed } => write!(
                formatter,
                "the disk has no room for the next segment of {needed} bytes: free some space; \
                 the log goes on by itself when there is"
            ),
            Self::AtCapacity { capacity } => write!(
                formatter,
                "the log needs all of the {capacity} bytes that it may have: it goes on by itself \
                 when something was trimmed; open it with a larger capacity if that happens often"
            ),
            Self::Closed => write!(formatter, "the log was closed: open it again"),
            Self::Trimmed { location, oldest_segment } => write!(
                formatter,
                "{location} is not in the log, whose oldest segment is {oldest_segment:016x}: it \
                 was trimmed away"
            ),
            Self::Options { reason } => {
                write!(formatter, "the log's options cannot work: {reason}")
            }
            Self::Replay { lsn, reason } => {
                write!(formatter, "a commit of frame {lsn} was refused by its replay: {reason}")
            }
            Self::Io { doing, source } => write!(formatter, "{doing}: {source}"),
        }
    }
}

impl Error for LogError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(&**source),
            _ => None,
        }
    }
}
