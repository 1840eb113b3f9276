//! What an edit of the manifest is made of.

use std::fmt;

use rkyv::{Archive, Deserialize, Serialize};

use crate::compression::Compression;
use crate::limits::{CHANGE_BYTES, KEY_BYTES, LEVELS, NAME_BYTES, PAGE_BYTES, TABLE_BYTES};
use crate::options::PrefixExtractor;
use crate::table::Finished;

/// How the tables of a keyspace are kept in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Strategy {
    /// Level 0 has runs that may overlap; each level below is one run.
    #[default]
    Levelled,
    /// Any number of runs in any level.
    Universal,
    /// All runs are in level 0, and tables go when all in them has ended, the oldest first.
    Fifo {
        /// How long a value lasts that is not given an end of its own, in milliseconds; at least 1.
        /// See [`Store::end_values`](crate::store::Store::end_values).
        ttl_ms: u64,
    },
}

/// What a keyspace was created with, for its life: what is written depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct KeyspaceOptions {
    /// How its tables are kept in order.
    pub strategy: Strategy,
    /// Which part of a key is its prefix.
    pub prefix: Option<PrefixExtractor>,
    /// The name of what puts merge operands together.
    pub merge_operator: Option<String>,
    /// How data blocks are compressed.
    pub compression: Compression,
}

/// A live table, as the manifest knows it.
#[derive(Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct TableMetadata {
    /// The keyspace that it belongs to.
    pub keyspace: u64,
    /// Its number: no two tables of a store ever have the same.
    pub number: u64,
    /// The level in which it stands.
    pub level: u8,
    /// The run of that level. Tables of one run do not overlap. Of the runs of a level, greater
    /// numbers are newer. Only level 0 of a levelled keyspace, and all levels of others, have runs
    /// other than 0.
    pub run: u64,
    /// The first user key, of range tombstones also.
    pub smallest_key: Vec<u8>,
    /// The last user key, or the end of the last range tombstone.
    pub largest_key: Vec<u8>,
    /// Whether `largest_key` is the end of a range tombstone and no key of the table: then the next
    /// table of the run may begin with it.
    pub is_largest_excluded: bool,
    /// The oldest commit of which it holds something.
    pub smallest_sequence: u64,
    /// The newest.
    pub largest_sequence: u64,
    /// Entries of all kinds but range tombstones.
    pub entries: u64,
    /// Range tombstones.
    pub range_tombstones: u64,
    /// Bytes of its file.
    pub file_bytes: u64,
    /// From when on nothing is seen of it but what it hides of older tables: its values have ended,
    /// in milliseconds since 1970; 0 if it has none. `None` if it has something that does not end.
    pub ends_at_ms: Option<u64>,
}

impl TableMetadata {
    /// What is to be said of a table that was written. `deleted` are the start of its first range
    /// tombstone and the end of its last, if it has any: a table does not say.
    #[must_use]
    pub fn of(finished: &Finished, level: u8, run: u64, deleted: Option<(&[u8], &[u8])>) -> Self {
        let Finished { id, file_bytes, properties } = finished;
        let (mut smallest, mut largest) =
            (properties.smallest_key.as_slice(), properties.largest_key.as_slice());
        let mut is_largest_excluded = false;
        if let Some((start, end)) = deleted {
            let has_no_keys = properties.entries == 0;
            if has_no_keys || start < smallest {
                smallest = start;
            }
            if has_no_keys || end > largest {
                (largest, is_largest_excluded) = (end, true);
            }
        }
        Self {
            keyspace: id.keyspace,
            number: id.number,
            level,
            run,
            smallest_key: smallest.to_owned(),
            largest_key: largest.to_owned(),
            is_largest_excluded,
            smallest_sequence: properties.smallest_sequence,
            largest_sequence: properties.largest_sequence,
            entries: properties.entries,
            range_tombstones: properties.range_tombstones,
            file_bytes: *file_bytes,
            ends_at_ms: properties.ends_at_ms(),
        }
    }

    /// Whether all its keys are in front of those of `next`.
    #[must_use]
    pub fn is_before(&self, next: &Self) -> bool {
        if self.is_largest_excluded {
            self.largest_key <= next.smallest_key
        } else {
            self.largest_key < next.smallest_key
        }
    }

    /// Whether all its keys are in front of this one.
    #[must_use]
    pub fn is_in_front_of(&self, user_key: &[u8]) -> bool {
        let last = self.largest_key.as_slice();
        last < user_key || (self.is_largest_excluded && last == user_key)
    }

    /// Whether it can hold something of a user key.
    #[must_use]
    pub fn may_hold(&self, user_key: &[u8]) -> bool {
        self.smallest_key.as_slice() <= user_key
            && (user_key < self.largest_key.as_slice()
                || !self.is_largest_excluded && user_key == self.largest_key)
    }

    /// What is wrong with it by itself.
    fn problem(&self) -> Option<String> {
        let length = self.smallest_key.len().max(self.largest_key.len());
        let page = PAGE_BYTES as u64;
        if length > KEY_BYTES {
            return Some(format!("has a key of {length} bytes, keys have {KEY_BYTES} at most"));
        }
        if self.smallest_key > self.largest_key
            || self.is_largest_excluded && self.smallest_key == self.largest_key
        {
            return Some("ends in front of where it begins".to_owned());
        }
        if self.smallest_sequence > self.largest_sequence {
            let (smallest, largest) = (self.smallest_sequence, self.largest_sequence);
            return Some(format!("has commits from {smallest} to {largest}"));
        }
        if self.entries == 0 && self.range_tombstones == 0 {
            return Some("is empty".to_owned());
        }
        if self.file_bytes < 3 * page
            || !self.file_bytes.is_multiple_of(page)
            || self.file_bytes > 2 * TABLE_BYTES
        {
            return Some(format!("has a file of {} bytes, which no table has", self.file_bytes));
        }
        (usize::from(self.level) >= LEVELS)
            .then(|| format!("is in level {}, there are {LEVELS}", self.level))
    }
}

impl fmt::Debug for TableMetadata {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keyspace, number, level, run, .. } = self;
        let ending = if self.is_largest_excluded { ')' } else { ']' };
        write!(
            formatter,
            "table {number:016x} of keyspace {keyspace} in run {run} of level {level}, [{}, {}{ending}, \
             commits {} to {}, {} entries, {} range tombstones, {} bytes, ends at {:?}",
            self.smallest_key.escape_ascii(),
            self.largest_key.escape_ascii(),
            self.smallest_sequence,
            self.largest_sequence,
            self.entries,
            self.range_tombstones,
            self.file_bytes,
            self.ends_at_ms
        )
    }
}

/// One thing that an edit says. New kinds are added behind the others, with a new version.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(crate) enum Change {
    CreateKeyspace {
        id: u64,
        name: String,
        options: KeyspaceOptions,
    },
    /// Its tables go with it.
    DropKeyspace {
        id: u64,
    },
    AddTable(TableMetadata),
    RemoveTable {
        keyspace: u64,
        number: u64,
    },
    /// What the keyspace's commits up to this one said is in tables.
    Flushed {
        keyspace: u64,
        lsn: u64,
    },
    /// Numbers below this may be given to tables and keyspaces.
    ReserveNumbers {
        below: u64,
    },
}

impl Change {
    /// The keyspace that it is about; 0, which none has, if it is about none.
    pub(super) fn keyspace(&self) -> u64 {
        match self {
            Self::CreateKeyspace { id, .. } | Self::DropKeyspace { id } => *id,
            Self::AddTable(table) => table.keyspace,
            Self::RemoveTable { keyspace, .. } | Self::Flushed { keyspace, .. } => *keyspace,
            Self::ReserveNumbers { .. } => 0,
        }
    }

    /// Bytes that it takes in an archive, at most.
    pub(crate) fn bytes(&self) -> usize {
        CHANGE_BYTES
            + match self {
                Self::AddTable(table) => table.smallest_key.len() + table.largest_key.len(),
                Self::CreateKeyspace { name, options, .. } => {
                    name.len() + options.merge_operator.as_ref().map_or(0, String::len)
                }
                _ => 0,
            }
    }

    /// What is wrong with it, whatever the state.
    pub(crate) fn problem(&self) -> Option<String> {
        match self {
            Self::CreateKeyspace { id, name, options } => options_problem(name, options)
                .map(|problem| format!("keyspace {id} cannot be created: {problem}")),
            Self::AddTable(table) => {
                let problem = table.problem()?;
                Some(format!("table {:016x} {problem}", table.number))
            }
            _ => None,
        }
    }
}

fn options_problem(name: &str, options: &KeyspaceOptions) -> Option<String> {
    let merge = options.merge_operator.as_deref();
    for (what, name) in [("its name", Some(name)), ("its merge operator's name", merge)] {
        if let Some(name) = name
            && !(1..=NAME_BYTES).contains(&name.len())
        {
            return Some(format!("{what} has {} bytes, not 1 to {NAME_BYTES}", name.len()));
        }
    }
    if options.strategy == (Strategy::Fifo { ttl_ms: 0 }) {
        return Some("its entries would last no time".to_owned());
    }
    if options.prefix == Some(PrefixExtractor::Length(0)) {
        return Some("its prefixes have no bytes".to_owned());
    }
    options.compression.check().err().map(|error| error.to_string())
}

/// What one commit of the manifest changes: all of it, or nothing. Changes are made in the order in
/// which they were added, so a table that takes the place of others is added behind their removal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    pub(crate) changes: Vec<Change>,
}

impl Edit {
    /// An edit that changes nothing, and is refused.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that it takes in the manifest, at most. An edit above
    /// [`EDIT_BYTES`](crate::limits::EDIT_BYTES) is refused.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.changes.iter().map(Change::bytes).sum()
    }

    fn with(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }

    /// Creates a keyspace, under a number that
    /// [`take_numbers`](crate::Manifest::take_numbers) gave and a name that no other has.
    #[must_use]
    pub fn create_keyspace(self, id: u64, name: &str, options: KeyspaceOptions) -> Self {
        self.with(Change::CreateKeyspace { id, name: name.to_owned(), options })
    }

    /// Drops a keyspace and all its tables.
    #[must_use]
    pub fn drop_keyspace(self, id: u64) -> Self {
        self.with(Change::DropKeyspace { id })
    }

    /// Adds a table, which is durable: its [`TableWriter`](crate::TableWriter) has finished.
    #[must_use]
    pub fn add_table(self, table: TableMetadata) -> Self {
        self.with(Change::AddTable(table))
    }

    /// Removes a table. Its file may be removed when the edit is durable and no reader needs it.
    #[must_use]
    pub fn remove_table(self, keyspace: u64, number: u64) -> Self {
        self.with(Change::RemoveTable { keyspace, number })
    }

    /// Says that what commits up to `lsn` said of a keyspace is in tables. No table of the keyspace
    /// may hold anything newer.
    #[must_use]
    pub fn flushed(self, keyspace: u64, lsn: u64) -> Self {
        self.with(Change::Flushed { keyspace, lsn })
    }

    /// Whether it makes room on the disk and takes none.
    pub(crate) fn makes_room(&self) -> bool {
        let adds =
            |change: &Change| matches!(change, Change::AddTable(_) | Change::CreateKeyspace { .. });
        let removes = |change: &Change| {
            matches!(change, Change::RemoveTable { .. } | Change::DropKeyspace { .. })
        };
        self.changes.iter().any(removes) && !self.changes.iter().any(adds)
    }
}
