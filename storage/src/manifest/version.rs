//! What the manifest says at one moment. It never changes: an edit makes another, which shares with
//! this one all that the edit leaves alone.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::change::{Change, KeyspaceOptions, TableMetadata};
use crate::table::TableId;

/// All keyspaces of a store and their tables, as they are after one edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub(super) store: u128,
    pub(super) number: u64,
    pub(super) numbers_below: u64,
    pub(super) keyspaces: BTreeMap<u64, Rc<Keyspace>>,
    pub(super) names: Rc<BTreeMap<String, u64>>,
}

impl Version {
    pub(crate) fn empty(store: u128, number: u64, numbers_below: u64) -> Self {
        let names = Rc::default();
        Self { store, number, numbers_below, keyspaces: BTreeMap::new(), names }
    }

    /// The identity of the store, which all its tables bear.
    #[must_use]
    pub const fn store(&self) -> u128 {
        self.store
    }

    /// How many edits made it.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// No table or keyspace has this number or a greater one.
    #[must_use]
    pub const fn numbers_below(&self) -> u64 {
        self.numbers_below
    }

    /// All keyspaces, by number.
    pub fn keyspaces(&self) -> impl Iterator<Item = &Rc<Keyspace>> {
        self.keyspaces.values()
    }

    /// The keyspace with this number.
    #[must_use]
    pub fn keyspace(&self, id: u64) -> Option<&Rc<Keyspace>> {
        self.keyspaces.get(&id)
    }

    /// The keyspace with this name.
    #[must_use]
    pub fn keyspace_by_name(&self, name: &str) -> Option<&Rc<Keyspace>> {
        self.keyspaces.get(self.names.get(name)?)
    }

    /// Which table one of this store is.
    #[must_use]
    pub fn table_id(&self, table: &TableMetadata) -> TableId {
        TableId { store: self.store, keyspace: table.keyspace, number: table.number }
    }

    /// The changes that make it of an empty one.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Change> {
        self.keyspaces.values().flat_map(|keyspace| {
            let Keyspace { id, name, options, flushed, .. } = &**keyspace;
            let create =
                Change::CreateKeyspace { id: *id, name: name.clone(), options: options.clone() };
            let flushed = Change::Flushed { keyspace: *id, lsn: *flushed };
            let tables = keyspace.tables().map(|table| Change::AddTable((**table).clone()));
            [create, flushed].into_iter().chain(tables)
        })
    }
}

/// A keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyspace {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) options: KeyspaceOptions,
    pub(super) flushed: u64,
    /// Without empty ones at the end.
    pub(super) levels: Vec<Rc<Level>>,
}

impl Keyspace {
    /// Its number.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it was created with.
    #[must_use]
    pub const fn options(&self) -> &KeyspaceOptions {
        &self.options
    }

    /// What commits up to this one said of it is in tables; 0 if nothing is.
    #[must_use]
    pub const fn flushed(&self) -> u64 {
        self.flushed
    }

    /// Its levels, the newest first; none behind the last that has a table.
    #[must_use]
    pub fn levels(&self) -> &[Rc<Level>] {
        &self.levels
    }

    /// All its tables: by level, then the newest run first, then by key.
    pub fn tables(&self) -> impl Iterator<Item = &Rc<TableMetadata>> {
        self.levels.iter().flat_map(|level| level.runs()).flat_map(|run| run.tables())
    }
}

/// A level of a keyspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// By number; none is empty.
    pub(super) runs: BTreeMap<u64, Rc<Run>>,
}

impl Level {
    /// Its runs, the newest first.
    pub fn runs(&self) -> impl Iterator<Item = &Rc<Run>> {
        self.runs.values().rev()
    }

    /// The run with this number.
    #[must_use]
    pub fn run(&self, number: u64) -> Option<&Rc<Run>> {
        self.runs.get(&number)
    }
}

/// Tables that do not overlap, in the order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    pub(super) tables: Vec<Rc<TableMetadata>>,
}

impl Run {
    /// A run of some tables of a run.
    pub(crate) const fn of(tables: Vec<Rc<TableMetadata>>) -> Self {
        Self { tables }
    }

    /// Its tables.
    #[must_use]
    pub fn tables(&self) -> &[Rc<TableMetadata>] {
        &self.tables
    }

    /// The one table that can hold something of a user key.
    #[must_use]
    pub fn table_of(&self, user_key: &[u8]) -> Option<&Rc<TableMetadata>> {
        let behind = self.tables.partition_point(|table| table.smallest_key.as_slice() <= user_key);
        self.tables[..behind].last().filter(|table| table.may_hold(user_key))
    }

    /// Whether a table can hold something of keys from `start` up to, not including, `end`.
    #[must_use]
    pub fn may_have(&self, start: &[u8], end: &[u8]) -> bool {
        let first = self.tables.partition_point(|table| table.is_in_front_of(start));
        self.tables.get(first).is_some_and(|table| table.smallest_key.as_slice() < end)
    }

    /// Puts a table in its place.
    ///
    /// # Errors
    /// The table that it overlaps.
    pub(super) fn insert(&mut self, table: Rc<TableMetadata>) -> Result<(), Rc<TableMetadata>> {
        let at = self.tables.partition_point(|other| other.smallest_key <= table.smallest_key);
        if let Some(before) = self.tables[..at].last()
            && !before.is_before(&table)
        {
            return Err(Rc::clone(before));
        }
        if let Some(behind) = self.tables.get(at)
            && !table.is_before(behind)
        {
            return Err(Rc::clone(behind));
        }
        self.tables.insert(at, table);
        Ok(())
    }

    /// Takes a table out, which must be there.
    pub(super) fn remove(&mut self, table: &TableMetadata) {
        let behind = |other: &Rc<TableMetadata>| other.smallest_key < table.smallest_key;
        let at = self.tables.partition_point(behind);
        assert_eq!(self.tables[at].number, table.number, "a table stands where its keys say");
        self.tables.remove(at);
    }
}
