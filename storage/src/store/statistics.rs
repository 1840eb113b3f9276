//! What a store is like, in numbers.

use std::collections::BTreeSet;

use woodchuck_io::Env;

use super::{Memtables, Store};
use crate::{Keyspace, Level, Memtable, Strategy};

/// What a store is like at one moment, and what it did since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Of each keyspace, by number.
    pub keyspaces: Vec<KeyspaceStatistics>,
    /// Tables that are not live any more and whose files wait until no reader needs them.
    pub obsolete_tables: usize,
    /// Their bytes.
    pub obsolete_bytes: u64,
    /// Bytes of keys and values that were applied since opening, what was replayed then included.
    pub applied_bytes: u64,
    /// Bytes of tables that flushes have put in place since.
    pub flushed_bytes: u64,
    /// Bytes of tables that compactions have replaced since. A table that only goes to another level
    /// is neither read nor written.
    pub compacted_bytes_read: u64,
    /// Bytes of the tables that they have put there.
    pub compacted_bytes_written: u64,
    /// Reads of one key since opening.
    pub point_reads: u64,
    /// Tables that these looked into, be it only into the filter.
    pub tables_read: u64,
    /// Filters that these asked.
    pub filters_asked: u64,
    /// How many of these said that the key is not there.
    pub filters_denied: u64,
    /// How many did not, and the table had nothing of the key that the read could see.
    pub filters_false: u64,
    /// The block cache, which stores of a shard share.
    pub cache: CacheStatistics,
}

/// A keyspace in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyspaceStatistics {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// How its tables are kept in order.
    pub strategy: Strategy,
    /// Its levels, the newest first; none behind the last that has a table.
    pub levels: Vec<LevelStatistics>,
    /// The memtable that takes what is applied.
    pub active: MemtableStatistics,
    /// Those that wait to be flushed, together.
    pub frozen: MemtableStatistics,
    /// Bytes of the oldest run: what is there longest, and was compacted most.
    pub oldest_run_bytes: u64,
}

/// A level in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelStatistics {
    /// Its runs.
    pub runs: usize,
    /// Their tables.
    pub tables: usize,
    /// The bytes of their files.
    pub bytes: u64,
    /// Their entries, but for range tombstones.
    pub entries: u64,
}

/// Memtables in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemtableStatistics {
    /// How many there are.
    pub memtables: usize,
    /// About how much memory they take, in bytes.
    pub bytes: usize,
    /// Their entries, but for range tombstones.
    pub entries: u64,
}

/// A block cache in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatistics {
    /// Blocks that were asked for and there.
    pub hits: u64,
    /// Blocks that were not, and were read then. What walks read ahead is not among them.
    pub misses: u64,
    /// Bytes that it holds.
    pub bytes: u64,
    /// Bytes that it may hold.
    pub budget: u64,
}

impl Statistics {
    /// Bytes written into tables for each byte applied; `None` if none was. The log, which comes
    /// first, is not counted.
    #[must_use]
    pub fn write_amplification(&self) -> Option<f64> {
        ratio(self.flushed_bytes + self.compacted_bytes_written, self.applied_bytes)
    }

    /// Tables looked into for each read of one key; `None` if there was none.
    #[must_use]
    pub fn read_amplification(&self) -> Option<f64> {
        ratio(self.tables_read, self.point_reads)
    }
}

impl KeyspaceStatistics {
    /// Bytes of its tables.
    #[must_use]
    pub fn table_bytes(&self) -> u64 {
        self.levels.iter().map(|level| level.bytes).sum()
    }

    /// About how many bytes there are for each that is needed: the oldest run is taken for what is
    /// needed, and the newer ones for what takes its place. `None` if that cannot be told: there are
    /// no tables, or runs go as they are when they are over.
    #[must_use]
    pub fn space_amplification(&self) -> Option<f64> {
        match self.strategy {
            Strategy::Levelled | Strategy::Universal => {
                ratio(self.table_bytes(), self.oldest_run_bytes)
            }
            Strategy::Fifo { .. } => None,
        }
    }

    fn new(keyspace: &Keyspace, memtables: Option<&Memtables>) -> Self {
        let active = memtables.map(|memtables| &memtables.active);
        let frozen = memtables.into_iter().flat_map(|memtables| &memtables.frozen);
        let runs = keyspace.levels().iter().flat_map(|level| level.runs());
        let oldest = runs.last().into_iter().flat_map(|run| run.tables());
        Self {
            id: keyspace.id(),
            name: keyspace.name().to_owned(),
            strategy: keyspace.options().strategy,
            levels: keyspace.levels().iter().map(|level| LevelStatistics::new(level)).collect(),
            active: MemtableStatistics::new(active),
            frozen: MemtableStatistics::new(frozen),
            oldest_run_bytes: oldest.map(|table| table.file_bytes).sum(),
        }
    }
}

impl LevelStatistics {
    fn new(level: &Level) -> Self {
        let tables = || level.runs().flat_map(|run| run.tables());
        Self {
            runs: level.runs().count(),
            tables: tables().count(),
            bytes: tables().map(|table| table.file_bytes).sum(),
            entries: tables().map(|table| table.entries).sum(),
        }
    }
}

impl MemtableStatistics {
    fn new<'a>(memtables: impl IntoIterator<Item = &'a Memtable>) -> Self {
        memtables.into_iter().fold(Self::default(), |all, memtable| Self {
            memtables: all.memtables + 1,
            bytes: all.bytes + memtable.bytes(),
            entries: all.entries + memtable.entries(),
        })
    }
}

fn ratio(of: u64, to: u64) -> Option<f64> {
    (to > 0).then(|| of as f64 / to as f64)
}

impl<E: Env> Store<E> {
    /// What the store is like now, and what it did since it was opened.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let state = self.inner.state.borrow();
        let keyspaces = state
            .version
            .keyspaces()
            .map(|keyspace| KeyspaceStatistics::new(keyspace, state.keyspaces.get(&keyspace.id())));
        // A table that was moved is in older versions, too, and is live.
        let live = state.version.keyspaces().flat_map(|keyspace| keyspace.tables());
        let mut known: BTreeSet<u64> = live.map(|table| table.number).collect();
        let obsolete = state.obsolete.iter().filter(|table| known.insert(table.number));
        let obsolete: Vec<u64> = obsolete.map(|table| table.file_bytes).collect();
        let (counters, cache) = (self.inner.tables.counters(), self.inner.tables.cache());
        Statistics {
            keyspaces: keyspaces.collect(),
            obsolete_tables: obsolete.len(),
            obsolete_bytes: obsolete.iter().sum(),
            applied_bytes: counters.applied_bytes.get(),
            flushed_bytes: counters.flushed_bytes.get(),
            compacted_bytes_read: counters.compacted_bytes_read.get(),
            compacted_bytes_written: counters.compacted_bytes_written.get(),
            point_reads: counters.point_reads.get(),
            tables_read: counters.tables_read.get(),
            filters_asked: counters.filters_asked.get(),
            filters_denied: counters.filters_denied.get(),
            filters_false: counters.filters_false.get(),
            cache: CacheStatistics {
                hits: cache.hits(),
                misses: cache.loads(),
                bytes: cache.bytes(),
                budget: cache.budget(),
            },
        }
    }
}
