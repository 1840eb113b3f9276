//! The one durable log of a shard.
//!
//! Everything durable goes through a shard's log first. A **commit** is any bytes; it is appended
//! whole or not at all, and acknowledged when it is durable. Commits that arrive while earlier
//! ones are being written share the next durable write: a **frame**. Frames are numbered ([`Lsn`])
//! and stand in **segments**, files of a fixed length that are prepared ahead and used again.
//!
//! # What is promised
//!
//! - A commit that [`Log::committed`] handed out survives process crash, OS crash and power cut,
//!   on a disk that honours flushes.
//! - [`Log::open`] serves the commits in the order of their submission, without holes: all that
//!   were acknowledged, perhaps some behind them that were not; and what it served once it serves
//!   for ever, until trimmed. Commits of different [lanes](Lane) are ordered as they were
//!   acknowledged: a large one may be overtaken.
//! - Damage to what was acknowledged makes `open` fail with [`LogError::Corrupt`]; it is never
//!   taken for the torn tail of a crash. What makes the difference is the **watermark** that every
//!   frame carries: all frames below it were durable when it was built. One hole is left: damage
//!   to the very last group, when nothing was written after it. When the log goes idle it closes
//!   the hole with a small **witness** frame.
//! - After a failed durable write or flush the log is **poisoned**: it takes nothing more, and
//!   retries nothing.
//!
//! # What is where
//!
//! `format` has the bytes and when to trust them; `recovery` the algorithm that decides what
//! survived; `writer` the state of an open log, from submission to acknowledgement; `tasks` what
//! drives it; `segments` the life of the files; `log` the public handle; [`offline`] looks at logs
//! that are not opened. Data flows one way: down through [`Log::submit`], up through
//! [`Log::committed`].
//!
//! What must never be here: anything that knows what a commit means.

mod blocks;
mod error;
mod format;
pub mod limits;
mod log;
pub mod offline;
mod options;
mod reader;
mod recovery;
mod segments;
mod signal;
mod tasks;
mod types;
mod writer;

pub use error::LogError;
pub use format::{is_file_of_a_log, is_segment};
pub use log::Log;
pub use options::LogOptions;
pub use types::{Committed, Lane, Location, Lsn, Recovered, Recovery, Statistics, Verdict};

#[cfg(test)]
mod tests;
