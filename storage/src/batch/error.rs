//! What can be wrong with a batch.

use std::error::Error;
use std::fmt;

/// Why a batch did not take a change, or bytes are no batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchError {
    /// A key or value has more bytes than one may have. The batch is as it was.
    TooLong {
        /// What is too long.
        what: &'static str,
        /// Its bytes.
        bytes: usize,
        /// How many it may have.
        limit: usize,
    },
    /// A range ends where it starts, or before. The batch is as it was.
    EmptyRange,
    /// With this the batch would have more than one may have. It is as it was.
    Full {
        /// What there would be too much of.
        what: &'static str,
        /// How much of it there may be.
        limit: usize,
    },
    /// The bytes were written by another version of the format.
    WrongVersion {
        /// The version they were written with.
        found: u8,
        /// The version that this build reads and writes.
        supported: u8,
    },
    /// The bytes are no batch.
    Malformed {
        /// Where in them.
        offset: usize,
        /// What is wrong there.
        what: &'static str,
    },
}

impl fmt::Display for BatchError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { what, bytes, limit } => {
                write!(formatter, "a {what} has {bytes} bytes, it may have {limit}")
            }
            Self::EmptyRange => write!(formatter, "a range ends where it starts, or before"),
            Self::Full { what, limit } => write!(
                formatter,
                "a batch may have {limit} {what}, and would have more: commit it, and put the rest \
                 into another"
            ),
            Self::WrongVersion { found, supported } => write!(
                formatter,
                "a batch has format version {found}, this build reads version {supported}"
            ),
            Self::Malformed { offset, what } => {
                write!(formatter, "no batch has this at its byte {offset}: {what}")
            }
        }
    }
}

impl Error for BatchError {}
