//! Segment files: how they come to be, and what becomes of them.
//!
//! The fault model: a crash may come between any two steps; a name that was not made durable by a
//! directory sync may vanish or stay; the disk may have no room. Whatever is found at the next
//! opening is either a segment of full length whose name is durable, or can be thrown away.
//!
//! A fresh segment:
//!
//! 1. create `filling-<n>`, reserve its space, write zeros over all of it: a durable write into
//!    blocks that were written before costs no journal commit of the filesystem;
//! 2. `sync_data`: the zeros and the length are durable;
//! 3. rename to `<generation>.wal`, `sync_directory`: the name is durable.
//!
//! A file of bodies is made in the same way, and called `<generation>.body`; both kinds share the
//! generations and the spares.
//!
//! A segment used again takes step 3 alone, from `spare-<n>`: its stale frames carry another
//! generation and are never taken for frames of the new one. Nothing is written to a segment
//! before step 3 is done.

use std::io;
use std::path::{Path, PathBuf};

use woodchuck_io::limits::BLOCK_BYTES;
use woodchuck_io::{Buffer, Disk, Durability, File, OpenMode};

use crate::error::LogError;
use crate::format::Name;
use crate::limits::ZEROS_BYTES;

/// What a file of the log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    Frames,
    /// The bytes of large commits, one behind the other, each at a block.
    Bodies,
}

impl Holds {
    /// The name of such a file.
    pub(crate) const fn name(self, generation: u64) -> Name {
        match self {
            Self::Frames => Name::Segment(generation),
            Self::Bodies => Name::Bodies(generation),
        }
    }
}

/// A file that holds frames of the log or bodies, or is about to.
#[derive(Debug)]
pub(crate) struct Segment<F> {
    pub(crate) holds: Holds,
    /// The number in its name and in all its frames.
    pub(crate) generation: u64,
    /// The number of its start frame. Every frame of older segments is below it. 0 of a file of
    /// bodies.
    pub(crate) first_lsn: u64,
    /// Length of the file.
    pub(crate) bytes: u64,
    pub(crate) file: F,
}

impl<F> Segment<F> {
    pub(crate) const fn name(&self) -> Name {
        self.holds.name(self.generation)
    }
}

/// The directory of a log.
#[derive(Clone, Debug)]
pub(crate) struct Folder<D> {
    disk: D,
    path: PathBuf,
}

impl<D: Disk> Folder<D> {
    pub(crate) fn new(disk: D, path: PathBuf) -> Self {
        Self { disk, path }
    }

    pub(crate) fn disk(&self) -> &D {
        &self.disk
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self, name: Name) -> PathBuf {
        self.path.join(name.to_string())
    }

    /// Makes the directory, if it is not there, and its name durable. Each name on the way to it
    /// may have been made by this call, or by one that a crash interrupted.
    pub(crate) async fn create(&self) -> Result<(), LogError> {
        self.disk
            .create_directory(&self.path)
            .await
            .map_err(|error| self.problem_of(BLOCK_BYTES as u64, "creating", &self.path, error))?;
        for (distance, ancestor) in self.path.ancestors().skip(1).enumerate() {
            let is_here = ancestor.as_os_str().is_empty();
            let ancestor = if is_here { Path::new(".") } else { ancestor };
            match self.disk.sync_directory(ancestor).await {
                Ok(()) => {}
                // What may not be opened was not changed either.
                Err(error) if distance > 0 && is_forbidden(&error) => break,
                Err(error) => {
                    return Err(self.problem("making durable the names in", ancestor, error));
                }
            }
        }
        Ok(())
    }

    /// Steps 1 and 2 for `filling-<number>`. If they fail, the file is removed again.
    pub(crate) async fn fill(&self, number: u64, bytes: u64) -> Result<Name, LogError> {
        assert!(bytes.is_multiple_of(BLOCK_BYTES as u64), "segments are made of blocks");
        let name = Name::Filling(number);
        let path = self.file(name);
        let filled = self.fill_file(&path, bytes).await;
        if let Err(error) = filled {
            // The error that matters is the first; a file left behind is removed when opening.
            let _removed = self.disk.remove(&path).await;
            return Err(self.problem_of(bytes, "preparing", &path, error));
        }
        Ok(name)
    }

    async fn fill_file(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let file = self.disk.open(path, OpenMode::CreateNew).await?;
        file.allocate(bytes).await?;
        let step = ZEROS_BYTES.min(usize::try_from(bytes).unwrap_or(ZEROS_BYTES));
        let mut zeros = Buffer::zeroed(step);
        let mut offset = 0;
        while offset < bytes {
            let left = usize::try_from(bytes - offset).unwrap_or(step);
            zeros.resize(step.min(left));
            let length = zeros.len() as u64;
            let (written, buffer) = file.write_at(zeros, offset, Durability::Volatile).await;
            written?;
            zeros = buffer;
            offset += length;
        }
        file.sync_data().await
    }

    /// Step 3: gives a spare or filled file its place in the log. If it answers `Full`, the file is
    /// where it was.
    pub(crate) async fn place(&self, from: Name, to: Name) -> Result<D::File, LogError> {
        self.rename(from, to).await?;
        self.sync().await?;
        self.open(to).await
    }

    /// Opens a file of the log.
    pub(crate) async fn open(&self, name: Name) -> Result<D::File, LogError> {
        let path = self.file(name);
        self.disk
            .open(&path, OpenMode::Write)
            .await
            .map_err(|error| self.problem("opening", &path, error))
    }

    /// Makes the names in the directory durable.
    pub(crate) async fn sync(&self) -> Result<(), LogError> {
        self.disk
            .sync_directory(&self.path)
            .await
            .map_err(|error| self.problem("making durable the names in", &self.path, error))
    }

    /// Keeps a file that is not needed, for use as a segment later.
    pub(crate) async fn retire(&self, from: Name, number: u64) -> Result<(), LogError> {
        self.rename(from, Name::Spare(number)).await
    }

    /// A filesystem without a free block may refuse even this.
    async fn rename(&self, from: Name, to: Name) -> Result<(), LogError> {
        let (from, to) = (self.file(from), self.file(to));
        let renamed = self.disk.rename(&from, &to).await;
        renamed.map_err(|error| self.problem_of(BLOCK_BYTES as u64, "renaming", &from, error))
    }

    /// Removes a file that is not needed.
    pub(crate) async fn remove(&self, name: Name) -> Result<(), LogError> {
        let path = self.file(name);
        self.disk.remove(&path).await.map_err(|error| self.problem("removing", &path, error))
    }

    pub(crate) fn problem(&self, doing: &str, path: &Path, error: io::Error) -> LogError {
        LogError::io(format!("{doing} {}", path.display()), error)
    }

    fn problem_of(&self, bytes: u64, doing: &str, path: &Path, error: io::Error) -> LogError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                LogError::Full { needed: bytes }
            }
            _ => self.problem(doing, path, error),
        }
    }
}

fn is_forbidden(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::Unsupported
            | io::ErrorKind::InvalidInput
    )
}
