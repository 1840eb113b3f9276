//! The file that is measured.
//!
//! It has one fixed name, so that what a killed run left is known for what it is, also to an engine
//! that is to make the directory its own. It is locked, so that two probes of one directory do not
//! take each other's. Whoever holds the lock may remove it.

use std::io;
use std::path::{Path, PathBuf};

pub(super) use woodchuck::PROBE_NAME as SCRATCH_NAME;
use woodchuck_io::{Disk, Env, OpenMode};

/// An empty file of ours.
pub(super) struct Scratch<D: Disk> {
    disk: D,
    path: PathBuf,
    pub(super) file: D::File,
    /// Whether an earlier run had left one.
    pub(super) replaced: bool,
    _lock: D::Lock,
}

impl<D: Disk> Scratch<D> {
    /// Makes the file, in place of one that was left over.
    ///
    /// Fails if it cannot be made, or if another probe is at work in the directory.
    pub(super) async fn create<E: Env<Disk = D>>(
        env: &E,
        directory: &Path,
    ) -> Result<Self, String> {
        let disk = env.disk().clone();
        let path = directory.join(SCRATCH_NAME);
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::WouldBlock => format!(
                "another probe is at work in {}; wait until it is done",
                directory.display()
            ),
            _ => format!("cannot make {}: {error}", path.display()),
        };
        let names = disk.list(directory).await.map_err(failed)?;
        let there = names.iter().find(|entry| entry.name == SCRATCH_NAME);
        if there.is_some_and(|entry| entry.is_directory) {
            return Err(format!(
                "{} is a directory, where the scratch file should be; rename or remove it",
                path.display()
            ));
        }
        let replaced = there.is_some();
        let mut lock = disk.lock(&path).await.map_err(failed)?;
        if replaced {
            // Not cut short and used again: it may be a link to something else.
            disk.remove(&path).await.map_err(failed)?;
            lock = disk.lock(&path).await.map_err(failed)?;
        }
        match disk.open(&path, OpenMode::Write).await {
            Ok(file) => Ok(Self { disk, path, file, replaced, _lock: lock }),
            Err(error) => {
                // What is told is why there is no probe; the file is empty.
                let _removed = disk.remove(&path).await;
                Err(failed(error))
            }
        }
    }

    /// Removes the file.
    pub(super) async fn remove(self) -> Result<(), String> {
        let removed = self.disk.remove(&self.path).await;
        removed.map_err(|error| {
            format!("cannot remove {}: {error}; remove it by hand", self.path.display())
        })
    }
}
