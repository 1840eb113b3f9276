//! Removing the directory of a store.
//!
//! The fault model: a crash may come at any moment, and any operation may fail. What is left then is
//! the whole store; or nothing under its name, and beside it, under a name that says so, what the
//! next call removes. Never is there anything that opens as another store, or as an older state of
//! this one.
//!
//! # The algorithm
//!
//! 1. The directory is a store's, and has nothing but what stores have: else it is refused.
//! 2. It is renamed, and that is made durable: from now on there is no store of this name.
//! 3. Its manifest is renamed, and that is made durable: from now on there is no store at all, for
//!    tables without a manifest are refused.
//! 4. Tables, the manifest's files and both folders are removed.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use woodchuck_io::{DirectoryEntry, Disk};

use crate::error::StorageError;
use crate::manifest::{FOLDER, is_store, list, table_number};

/// What the directory of a store is called while it is removed, behind its name.
pub(super) const DESTROYED: &str = ".destroyed";

/// What its manifest is called then.
const FORMER_MANIFEST: &str = "manifest.destroyed";

/// Removes the directory of a store that no process has open; the caller holds a lock for that. When
/// this returns, it is gone for good. What a crash left of an earlier call is removed, too; if there
/// is nothing else, that is all.
///
/// # Errors
/// [`StorageError::NotAStore`] if there is no store there, or something that no store has; nothing
/// was changed. [`StorageError::Io`]: call it again.
pub async fn destroy<D: Disk>(disk: &D, directory: &Path) -> Result<(), StorageError> {
    let refused = |reason: String| {
        let directory = directory.display().to_string();
        StorageError::NotAStore { directory, reason }
    };
    let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else {
        return Err(refused("it has no name".to_owned()));
    };
    let former = parent.join(with(name, DESTROYED));
    let had_leftover = remove_leftover(disk, &former, Leftover::Destroyed).await?;
    if !is_store(disk, directory).await? {
        if had_leftover && list(disk, directory).await?.is_empty() {
            return Ok(());
        }
        return Err(refused(format!("it has no folder {FOLDER:?} with the segments of a log")));
    }
    if let Some(other) = foreign(disk, directory).await? {
        return Err(refused(format!("{} is in it, which no store has", other.display())));
    }
    let renamed = disk.rename(directory, &former).await;
    renamed.map_err(during("rename", directory))?;
    disk.sync_directory(parent).await.map_err(during("sync", parent))?;
    remove_leftover(disk, &former, Leftover::Destroyed).await?;
    Ok(())
}

fn with(name: &OsStr, end: &str) -> PathBuf {
    let mut name = name.to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// What a folder is that was left.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leftover {
    /// A checkpoint that was not finished.
    Checkpoint,
    /// A store that was being removed.
    Destroyed,
}

/// Removes what is left of a store that was not finished, or was being removed. Returns whether
/// there was anything.
pub(crate) async fn remove_leftover<D: Disk>(
    disk: &D,
    directory: &Path,
    what: Leftover,
) -> Result<bool, StorageError> {
    match disk.list(directory).await {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(during("list", directory)(error)),
    }
    if let Some(other) = foreign(disk, directory).await? {
        let directory = directory.display().to_string();
        let reason = match what {
            Leftover::Checkpoint => "remains of a checkpoint",
            Leftover::Destroyed => "remains of a store",
        };
        let reason = format!("it would be removed with the {reason}, and has {}", other.display());
        return Err(StorageError::NotAStore { directory, reason });
    }
    let (manifest, former) = (directory.join(FOLDER), directory.join(FORMER_MANIFEST));
    remove_folder(disk, &former).await?;
    match disk.rename(&manifest, &former).await {
        Ok(()) => disk.sync_directory(directory).await.map_err(during("sync", directory))?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(during("rename", &manifest)(error)),
    }
    for table in list(disk, directory).await?.iter().filter(|entry| !entry.is_directory) {
        remove(disk, &directory.join(&table.name)).await?;
    }
    remove_folder(disk, &former).await?;
    disk.remove_directory(directory).await.map_err(during("remove", directory))?;
    if let Some(parent) = directory.parent() {
        disk.sync_directory(parent).await.map_err(during("sync", parent))?;
    }
    Ok(true)
}

/// Removes a folder of files, if it is there.
async fn remove_folder<D: Disk>(disk: &D, folder: &Path) -> Result<(), StorageError> {
    for entry in list(disk, folder).await? {
        remove(disk, &folder.join(&entry.name)).await?;
    }
    match disk.remove_directory(folder).await {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(during("remove", folder)(error)),
        _ => Ok(()),
    }
}

async fn remove<D: Disk>(disk: &D, file: &Path) -> Result<(), StorageError> {
    disk.remove(file).await.map_err(during("remove", file))
}

/// Something in a directory that neither a store has, nor one that is being removed.
async fn foreign<D: Disk>(disk: &D, directory: &Path) -> Result<Option<PathBuf>, StorageError> {
    for entry in list(disk, directory).await? {
        let path = directory.join(&entry.name);
        let is_manifest = entry.is_directory && [FOLDER, FORMER_MANIFEST].contains(&&*entry.name);
        if is_manifest {
            let files = list(disk, &path).await?;
            if let Some(other) = files.iter().find(|file| !is_of_a_log(file)) {
                return Ok(Some(path.join(&other.name)));
            }
        } else if table_number(&entry).is_none() {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Whether the log of a manifest may have such a file.
fn is_of_a_log(entry: &DirectoryEntry) -> bool {
    let name = entry.name.as_str();
    let is_named = woodchuck_wal::is_file_of_a_log(name);
    !entry.is_directory && is_named
}

fn during(doing: &str, path: &Path) -> impl Fn(io::Error) -> StorageError {
    let doing = format!("{doing} {}", path.display());
    move |error| StorageError::io(doing.clone(), error)
}
