//! Stores that no process has open, or that nobody may change: for tools.
//!
//! **What lives here.** [`inspect`] tells what a manifest says, and what is wrong with the files
//! beside it; [`verify`](verify::verify) reads all of a store and tells every damaged place;
//! [`find`] finds the stores of a data directory; [`destroy`](destroy::destroy) removes one. Tables
//! are shown by [`Table::blocks`](crate::Table::blocks).
//!
//! **How data flows.** Through any [`Disk`], usually one that maps files.
//!
//! **What must never be here.** A decision of its own about what is live or whole: that is the
//! manifest's and the table's. But for `destroy`, anything that writes.

pub mod destroy;
pub mod verify;

use std::path::{Path, PathBuf};

use woodchuck_io::Disk;

pub use crate::manifest::{Inspection, inspect, is_store};
pub use crate::table::{
    BlockContent, BlockEntries, FoundBlock, IndexEntry, StoredEntry, identify, stray_block,
};

use crate::error::StorageError;
use crate::limits::STORE_DEPTH;
use crate::manifest::list;
use destroy::DESTROYED;

/// What a folder is called while it becomes a checkpoint, behind its name.
pub(crate) const PARTIAL: &str = ".partial";

/// The stores in a directory, in the order of their paths: itself, or those in folders below it. A
/// store has no others in it. Folders that are becoming a checkpoint, or are being removed, are none.
///
/// # Errors
/// `Io` if a folder cannot be listed.
pub async fn find<D: Disk>(disk: &D, directory: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let mut stores = Vec::new();
    let mut unvisited = vec![(directory.to_owned(), 0)];
    while let Some((folder, depth)) = unvisited.pop() {
        if is_store(disk, &folder).await? {
            stores.push(folder);
        } else if depth < STORE_DEPTH {
            let entries = list(disk, &folder).await?;
            let folders = entries.iter().filter(|entry| {
                let is_passing = [PARTIAL, DESTROYED].iter().any(|end| entry.name.ends_with(end));
                // Filesystems make one, which nobody may list.
                entry.is_directory && !is_passing && entry.name != "lost+found"
            });
            unvisited.extend(folders.map(|entry| (folder.join(&entry.name), depth + 1)));
        }
    }
    stores.sort();
    Ok(stores)
}
