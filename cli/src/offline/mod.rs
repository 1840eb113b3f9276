//! `woodchuck inspect`, `verify` and `repair`: a data directory that no process has open.
//!
//! **What lives here.** The arguments, and what is written for people and for programs. What is
//! found out is the engine's, the log's and the store's business: `woodchuck::offline`,
//! `woodchuck_wal::offline`, `woodchuck_storage::offline`.
//!
//! **JSON.** Frame numbers (`frame`, `first_frame`, `next_frame`, `watermark`, `trim`, ...) are
//! strings of decimal digits: they have 64 bits, and many readers keep 53. Generations of segments
//! and identities are strings of hexadecimal digits, as in the names of files. Everything else is a
//! number: places in segments, bytes and counts stay far below 2^53.
//!
//! **What must never be here.** Anything that writes to the directory that is looked at.

pub(crate) mod inspect;
mod inspect_store;
pub(crate) mod repair;
mod stores;
pub(crate) mod verify;
mod verify_store;

use std::fmt::Display;
use std::io::{self, BufWriter, StdoutLock, Write as _};
use std::path::{Path, PathBuf};

use serde_json::Value;
use woodchuck::offline::{OfflineDirectory, OfflineError};
use woodchuck_io::mapped::{MappedDisk, at_once};
use woodchuck_wal::Lsn;

use crate::exit::{Exit, Trouble};

/// The longest line for people.
const WIDTH: usize = 100;

/// The directory as its parents can be found from it.
fn absolute(directory: &Path) -> Result<PathBuf, Trouble> {
    if directory.as_os_str().is_empty() {
        return Err(Trouble::usage("a directory has no name"));
    }
    std::path::absolute(directory).map_err(|error| {
        Trouble::from(format!("cannot tell where {} is: {error}", directory.display()))
    })
}

fn open(directory: &Path) -> Result<OfflineDirectory<MappedDisk>, Trouble> {
    let path = absolute(directory)?;
    Ok(finished(at_once(OfflineDirectory::open(MappedDisk, path)))??)
}

/// What came of something that only waits for mapped files.
fn finished<T>(output: Option<T>) -> Result<T, Trouble> {
    output
        .ok_or_else(|| Trouble::from("this is a bug: a mapped file made somebody wait".to_owned()))
}

impl From<OfflineError> for Trouble {
    fn from(error: OfflineError) -> Self {
        let exit = match error {
            OfflineError::Locked(_) => Exit::Locked,
            OfflineError::WrongVersion(_) => Exit::WrongVersion,
            OfflineError::Damaged(_) => Exit::Damaged,
            OfflineError::Failed(_) => Exit::Failed,
        };
        Self { exit, message: error.to_string() }
    }
}

/// A frame's number in JSON.
fn lsn(lsn: Lsn) -> Value {
    Value::String(lsn.to_string())
}

/// A segment's generation, in JSON and in tables.
fn generation(generation: u64) -> String {
    format!("{generation:016x}")
}

/// An identity, likewise.
fn identity(identity: u128) -> String {
    format!("{identity:032x}")
}

/// Standard output. A reader that has gone away is no failure, and gets nothing more.
struct Output {
    lines: BufWriter<StdoutLock<'static>>,
    failed: Option<io::Error>,
}

impl Output {
    fn new() -> Self {
        Self { lines: BufWriter::new(io::stdout().lock()), failed: None }
    }

    fn line(&mut self, line: impl Display) {
        if self.failed.is_none() {
            self.failed = writeln!(self.lines, "{line}").err();
        }
    }

    fn finish(mut self) -> Result<(), Trouble> {
        let flushed = self.lines.flush().err();
        match self.failed.or(flushed) {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(format!("cannot write to standard output: {error}").into())
            }
            _ => Ok(()),
        }
    }
}
