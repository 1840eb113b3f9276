//! What can go wrong, by what the caller can do about it.

use std::fmt;

use woodchuck_stream::{BatchError, Offset};

/// Why the engine did not do what it was asked. Cheap to clone: an error may have to cross shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineError {
    /// A queue is full. Nothing happened; try again later.
    Busy(&'static str),
    /// No such topic or partition on this data directory.
    UnknownPartition,
    /// A topic of that name is there already.
    TopicExists,
    /// The request itself is wrong; trying it again will not help.
    Invalid(String),
    /// The batch is not one that can be taken.
    Batch(BatchError),
    /// The partition has no such offset.
    OffsetOutOfRange {
        /// Its first offset.
        start: Offset,
        /// The offset after its last.
        end: Offset,
    },
    /// An earlier batch of the same producer is missing.
    OutOfOrderSequence {
        /// The sequence number that was due.
        expected: i32,
        /// The one the batch bears.
        found: i32,
    },
    /// A newer instance of the producer has taken over.
    Fenced,
    /// The shard cannot make data durable, or cannot read what it wrote. What was asked may or may
    /// not have happened.
    Storage(String),
    /// The data directory cannot be opened.
    Open(String),
    /// The engine is closing.
    Closed,
}

impl EngineError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::UnknownPartition)
    }

    /// Whether it is certain that nothing happened. False: it may or may not have.
    #[must_use]
    pub const fn is_definite(&self) -> bool {
        !matches!(self, Self::Storage(_) | Self::Closed)
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(queue) => write!(formatter, "the {queue} is full; try again later"),
            Self::UnknownPartition => formatter.write_str("there is no such topic or partition"),
            Self::TopicExists => formatter.write_str("a topic of this name exists"),
            Self::Invalid(message) | Self::Open(message) => formatter.write_str(message),
            Self::Batch(error) => error.fmt(formatter),
            Self::OffsetOutOfRange { start, end } => {
                write!(formatter, "the partition holds offsets {start} up to, not including, {end}")
            }
            Self::OutOfOrderSequence { expected, found } => write!(
                formatter,
                "the producer's sequence number {found} does not follow: {expected} was due"
            ),
            Self::Fenced => formatter.write_str("a newer instance of this producer has taken over"),
            Self::Storage(message) => write!(formatter, "storage failed: {message}"),
            Self::Closed => formatter.write_str("the engine is closing"),
        }
    }
}

impl std::error::Error for EngineError {}

impl From<BatchError> for EngineError {
    fn from(error: BatchError) -> Self {
        Self::Batch(error)
    }
}
