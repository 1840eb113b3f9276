//! The files of a store, beside what the manifest says of them.
//!
//! The fault model: a crash may leave tables that no edit speaks of, whole or not; files may have
//! been lost, cut, or put there by somebody else.
//!
//! # What is removed
//!
//! A file is removed only if all of this holds:
//!
//! 1. the manifest was opened and replayed to its end, and is durable: what it does not name now, no
//!    crash makes it name again;
//! 2. the file's name is that of a table, and the version has no table of this number;
//! 3. its number is below those that were reserved: then it was given to a table that was being
//!    written or is not needed any more, and to no other, ever;
//! 4. its first page does not say that it is another store's;
//! 5. no live table is missing or has another length. Where something was lost, what nothing speaks
//!    of may be all that is left of it, and the manifest itself an older one.
//!
//! A table whose number was never reserved was written by what the manifest does not know of: then
//! it is an old copy, and to open it would lose what came later, and give numbers twice. That is
//! refused.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use woodchuck_io::{Buffer, DirectoryEntry, Disk, File, OpenMode};

use super::state::State;
use super::{FOLDER, TableMetadata};
use crate::error::{Damage, StorageError};
use crate::limits::{PAGE_BYTES, TABLES_CHECKED};
use crate::table::TableId;
use crate::table::ends::header_id;

/// A file of a table that nothing speaks of: a crash came before the edit that would have added it,
/// or before the file was removed that an edit made superfluous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// The table's number.
    pub number: u64,
    /// Bytes of its file; 0 if that could not be told.
    pub bytes: u64,
}

/// What stands in a store's directory and was left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftAlone {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// A live table whose file is missing or has another length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedTable {
    /// What the manifest says of it.
    pub table: Rc<TableMetadata>,
    /// The name of its keyspace.
    pub keyspace_name: String,
    /// The file, what is wrong with it, and the keys that cannot be read.
    pub damage: Damage,
}

impl DamagedTable {
    /// The error of a read that needs it.
    #[must_use]
    pub fn error(&self) -> StorageError {
        StorageError::Corrupt(Box::new(self.damage.clone()))
    }
}

/// What was found in a store's directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) orphans: Vec<Orphan>,
    pub(crate) left_alone: Vec<LeftAlone>,
    pub(crate) damaged: Vec<DamagedTable>,
}

/// The number of the table whose file has this name.
pub(crate) fn table_number(entry: &DirectoryEntry) -> Option<u64> {
    let digits = entry.name.strip_suffix(".table")?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    let id = TableId { store: 0, keyspace: 0, number };
    (!entry.is_directory && id.file_name() == entry.name).then_some(number)
}

/// The names in a directory, in order; none if it is not there.
pub(crate) async fn list<D: Disk>(
    disk: &D,
    directory: &Path,
) -> Result<Vec<DirectoryEntry>, StorageError> {
    match disk.list(directory).await {
        Ok(mut entries) => {
            entries.sort();
            Ok(entries)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(StorageError::io(format!("list {}", directory.display()), error)),
    }
}

/// Compares the files of a store with its state, which is durable, and removes orphans.
pub(crate) async fn tidy<D: Disk>(
    disk: &D,
    directory: &Path,
    state: &State,
) -> Result<Found, StorageError> {
    let (mut found, superfluous) = compare(disk, directory, state).await?;
    for (number, name) in superfluous {
        if found.damaged.is_empty() {
            let store = state.version().store();
            remove_orphan(disk, directory, store, (number, &name), &mut found).await;
        } else {
            let reason = "nothing speaks of it, and it is kept because live tables are damaged";
            let reason = reason.to_owned();
            found.left_alone.push(LeftAlone { name, reason });
        }
    }
    Ok(found)
}

/// The same for who only looks: nothing is removed.
pub(crate) async fn look<D: Disk>(
    disk: &D,
    directory: &Path,
    state: &State,
) -> Result<Found, StorageError> {
    let (mut found, superfluous) = compare(disk, directory, state).await?;
    let store = state.version().store();
    for (number, name) in superfluous {
        let (id, bytes) = identify(disk, &directory.join(&name)).await;
        match id.filter(|id| id.store != store) {
            Some(id) => {
                let reason = format!("it is {id}, and this is store {store:032x}");
                found.left_alone.push(LeftAlone { name, reason });
            }
            None => found.orphans.push(Orphan { number, bytes }),
        }
    }
    Ok(found)
}

/// Compares the files of a store with its state. Gives the tables that nothing speaks of besides:
/// number and name.
async fn compare<D: Disk>(
    disk: &D,
    directory: &Path,
    state: &State,
) -> Result<(Found, Vec<(u64, String)>), StorageError> {
    let entries = list(disk, directory).await?;
    let mut found = Found::default();
    let mut files = BTreeMap::new();
    for entry in entries {
        match table_number(&entry) {
            Some(number) => {
                files.insert(number, entry.name);
            }
            None if entry.name == FOLDER && entry.is_directory => {}
            None => {
                let reason = "no file of a store has such a name".to_owned();
                found.left_alone.push(LeftAlone { name: entry.name, reason });
            }
        }
    }
    let below = state.version().numbers_below();
    if let Some((number, name)) = files.range(below..).next() {
        let offset = 0;
        let what = format!(
            "there is a table {name}, and only numbers below {below:016x} were ever given: this is \
             not the newest manifest of the store, or {number} is another store's table and belongs \
             elsewhere"
        );
        let file = directory.join(FOLDER).display().to_string();
        return Err(StorageError::ManifestCorrupt(Box::new(Damage {
            file,
            offset,
            what,
            keys: None,
        })));
    }
    let checks = state.live().values().map(|table| check(disk, directory, state, table));
    let mut checks = stream::iter(checks).buffered(TABLES_CHECKED);
    while let Some(damaged) = checks.next().await {
        found.damaged.extend(damaged);
    }
    drop(checks);
    files.retain(|number, _| !state.live().contains_key(number));
    Ok((found, files.into_iter().collect()))
}

/// Removes the file of a table that is not live. If it cannot be, it is left for the next opening.
async fn remove_orphan<D: Disk>(
    disk: &D,
    directory: &Path,
    store: u128,
    (number, name): (u64, &str),
    found: &mut Found,
) {
    let path = directory.join(name);
    let (id, bytes) = identify(disk, &path).await;
    if let Some(id) = id.filter(|id| id.store != store) {
        let reason = format!("it is {id}, and this is store {store:032x}");
        found.left_alone.push(LeftAlone { name: name.to_owned(), reason });
        return;
    }
    match disk.remove(&path).await {
        Ok(()) => found.orphans.push(Orphan { number, bytes }),
        Err(error) => {
            let reason = format!("it is not needed, and cannot be removed: {error}");
            found.left_alone.push(LeftAlone { name: name.to_owned(), reason });
        }
    }
}

/// Which table a file says that it is, if it does, and its length. Whatever is wrong with it, it may
/// be a table that was never finished.
async fn identify<D: Disk>(disk: &D, path: &Path) -> (Option<TableId>, u64) {
    let Ok(file) = disk.open(path, OpenMode::Read).await else { return (None, 0) };
    let bytes = file.length().await.unwrap_or(0);
    let (read, page) = file.read_at(Buffer::with_capacity(PAGE_BYTES), 0).await;
    (read.ok().and_then(|_| header_id(&page)), bytes)
}

/// What is wrong with the file of a live table, as far as can be told without reading it.
async fn check<D: Disk>(
    disk: &D,
    directory: &Path,
    state: &State,
    table: &Rc<TableMetadata>,
) -> Option<DamagedTable> {
    let path = directory.join(state.version().table_id(table).file_name());
    let length = match disk.open(&path, OpenMode::Read).await {
        Ok(file) => file.length().await,
        Err(error) => Err(error),
    };
    let expected = table.file_bytes;
    let what = match length {
        Ok(length) if length == expected => return None,
        Ok(length) => format!("it has {length} bytes, it was written with {expected}"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "it is missing".to_owned(),
        Err(error) => format!("it cannot be looked at: {error}"),
    };
    let keyspace = state.version().keyspace(table.keyspace);
    let keyspace_name = keyspace.map_or_else(String::new, |keyspace| keyspace.name().to_owned());
    let what = format!("{what}; it is of keyspace {} ({keyspace_name})", table.keyspace);
    let smallest = Bytes::copy_from_slice(&table.smallest_key);
    let keys = Some((smallest, Bytes::copy_from_slice(&table.largest_key)));
    let damage = Damage { file: path.display().to_string(), offset: 0, what, keys };
    Some(DamagedTable { table: Rc::clone(table), keyspace_name, damage })
}
