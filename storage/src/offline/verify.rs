//! All of a store read, and every damaged place told.
//!
//! The fault model: any bytes may have changed or be missing, and any read may fail. What cannot be
//! read or believed is told with its file, its place and the keys that it had, and all else is
//! looked at all the same. A damaged place is never told as nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use woodchuck_io::{Disk, File};

use super::inspect;
use crate::error::{Damage, StorageError};
use crate::manifest::{Inspection, list, table_number};
use crate::table::Finished;
use crate::{BlockCache, ReadOptions, Table, TableMetadata, Verified};

/// What was found in a store.
#[derive(Clone, Debug)]
pub struct StoreVerification {
    /// The manifest, and the files beside it.
    pub manifest: Inspection,
    /// Tables that were read: the live ones; if no manifest can be read, all that there are.
    pub tables: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their blocks that were looked at.
    pub blocks: u64,
    /// Their entries in blocks that are whole.
    pub entries: u64,
    /// Damaged places of tables, the missing among them.
    pub damaged: u64,
    /// The first of them, of each table.
    pub damage: Vec<Damage>,
    /// What could not be read at all, or was written by another version.
    pub unreadable: Vec<StorageError>,
}

impl StoreVerification {
    /// Whether something is damaged or missing.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.damaged > 0
            || self.manifest.verdict.as_ref().err().is_some_and(StorageError::is_corrupt)
    }

    /// Why the manifest could not be read, if that says nothing about damage.
    #[must_use]
    pub fn failure(&self) -> Option<&StorageError> {
        let manifest = self.manifest.verdict.as_ref().err().filter(|error| !error.is_corrupt());
        manifest.or(self.unreadable.first())
    }

    fn take(&mut self, damage: Damage) {
        self.damaged += 1;
        self.damage.push(damage);
    }

    fn take_verified(&mut self, verified: Result<Verified, StorageError>) {
        match verified {
            Ok(verified) => {
                self.blocks += verified.blocks;
                self.entries += verified.entries;
                self.damaged += verified.damaged;
                self.damage.extend(verified.damage);
            }
            Err(StorageError::Corrupt(damage)) => self.take(*damage),
            Err(error) => self.unreadable.push(error),
        }
    }
}

/// Checks all of a store: its manifest with every edit, and every live table with every block, in
/// itself and against what the manifest says of it. `progress` is told, again and again, how many
/// bytes of tables have been read.
///
/// # Errors
/// Those of [`inspect`]. What is wrong with the store is no error: it is in the answer.
pub async fn verify<D: Disk>(
    disk: &D,
    directory: &Path,
    mut progress: impl FnMut(u64),
) -> Result<StoreVerification, StorageError> {
    let manifest = inspect(disk, directory).await?;
    let mut found = StoreVerification {
        manifest,
        tables: 0,
        bytes: 0,
        blocks: 0,
        entries: 0,
        damaged: 0,
        damage: Vec::new(),
        unreadable: Vec::new(),
    };
    let Some(version) = found.manifest.version.clone() else {
        for entry in list(disk, directory).await? {
            if table_number(&entry).is_some() {
                found.tables += 1;
                let verified = verify_alone(disk, &directory.join(&entry.name)).await;
                found.take_verified(verified);
                progress(found.bytes);
            }
        }
        return Ok(found);
    };
    let mut known = BTreeSet::new();
    for damaged in found.manifest.damaged.clone() {
        known.insert(damaged.table.number);
        found.take(damaged.damage);
    }
    for keyspace in version.keyspaces() {
        for table in keyspace.tables().filter(|table| !known.contains(&table.number)) {
            let id = version.table_id(table);
            let cache = BlockCache::new(0);
            let opened = Table::open(disk, directory, id, &cache, ReadOptions::default()).await;
            let verified = match opened {
                Ok(opened) => verify_live(&opened, table).await,
                Err(error) => Err(error.with_keys(|| keys_of(table))),
            };
            found.tables += 1;
            found.bytes += table.file_bytes;
            found.take_verified(verified);
            progress(found.bytes);
        }
    }
    Ok(found)
}

/// Checks a table of which only the file is known.
///
/// # Errors
/// `Corrupt`, `Io` or `WrongVersion` if it cannot be opened; damage behind that is in the answer.
pub async fn verify_alone<D: Disk>(disk: &D, path: &Path) -> Result<Verified, StorageError> {
    Table::open_alone(disk, path).await?.verify().await
}

/// A table by itself, and what the manifest says of it.
async fn verify_live<F: File>(
    table: &Table<F>,
    metadata: &Rc<TableMetadata>,
) -> Result<Verified, StorageError> {
    let mut verified = table.verify().await?;
    let tombstones = table.range_tombstones();
    let first = tombstones.iter().next();
    let last = tombstones.iter().last();
    let deleted = first.as_ref().zip(last.as_ref());
    let deleted = deleted.map(|(first, last)| (first.start.as_slice(), &last.end[..]));
    let finished = Finished {
        id: table.id(),
        file_bytes: table.file_bytes(),
        properties: table.properties().clone(),
    };
    let says = TableMetadata::of(&finished, metadata.level, metadata.run, deleted);
    if says != **metadata {
        let what = format!("the manifest says {metadata:?}, and the table says {says:?}");
        let StorageError::Corrupt(damage) = table.corrupt(0, what) else { return Ok(verified) };
        verified.damaged += 1;
        verified.damage.push(Damage { keys: Some(keys_of(metadata)), ..*damage });
    }
    Ok(verified)
}

fn keys_of(table: &TableMetadata) -> (Bytes, Bytes) {
    let copy = |key: &[u8]| Bytes::copy_from_slice(key);
    (copy(&table.smallest_key), copy(&table.largest_key))
}
