//! What can be chosen about a store.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::pacing::PacingOptions;
use crate::compaction::{FifoOptions, LevelledOptions, UniversalOptions};
use crate::error::StorageError;
use crate::limits::{GROWTH_MAX, OPEN_TABLES_MAX, OVERLAP_MAX, PERCENT_MAX, RUNS_MAX, TABLE_BYTES};
use crate::options::within;
use crate::scan::{Add, Append, Largest, MergeOperator};
use crate::{ManifestOptions, ReadOptions, TableOptions};

/// What can be chosen about a store. Every choice may change from one opening to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Of its manifest.
    pub manifest: ManifestOptions,
    /// How tables are written. Compression and prefixes are the keyspace's.
    pub table: TableOptions,
    /// How tables are read.
    pub read: ReadOptions,
    /// Bytes of a table, about.
    pub table_bytes: u64,
    /// When the levels of levelled keyspaces are compacted.
    pub levelled: LevelledOptions,
    /// How far flushes and compactions may be behind.
    pub pacing: PacingOptions,
    /// When the runs of universal keyspaces are merged.
    pub universal: UniversalOptions,
    /// When the runs of FIFO keyspaces are merged.
    pub fifo: FifoOptions,
    /// How many tables stay open, besides those that are being read.
    pub open_tables: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            manifest: ManifestOptions::default(),
            table: TableOptions::default(),
            read: ReadOptions::default(),
            table_bytes: 64 << 20,
            levelled: LevelledOptions::default(),
            pacing: PacingOptions::default(),
            universal: UniversalOptions::default(),
            fifo: FifoOptions::default(),
            open_tables: 1024,
        }
    }
}

impl StoreOptions {
    pub(super) fn check(&self) -> Result<(), StorageError> {
        self.table.check()?;
        within("table_bytes", self.table_bytes as usize, 1, TABLE_BYTES as usize / 4)?;
        within("the runs of level 0", self.levelled.runs, 1, RUNS_MAX)?;
        within("the growth of levels", self.levelled.growth as usize, 2, GROWTH_MAX)?;
        self.pacing.check(&self.levelled, &self.universal)?;
        within("the tables to lie over", self.levelled.overlap, 1, OVERLAP_MAX)?;
        let UniversalOptions { runs, ratio_percent, space_percent } = self.universal;
        within("the runs of universal keyspaces", runs, 1, RUNS_MAX)?;
        let most = PERCENT_MAX as usize;
        within("the ratio of runs in percent", ratio_percent as usize, 0, most)?;
        within("the space of runs in percent", space_percent as usize, 1, most)?;
        within("the runs that are merged of FIFO keyspaces", self.fifo.runs, 2, RUNS_MAX)?;
        within("open_tables", self.open_tables, 1, OPEN_TABLES_MAX)
    }
}

/// The merge operators that keyspaces can be created with, by their names.
#[derive(Clone)]
pub struct Operators {
    by_name: BTreeMap<String, Rc<dyn MergeOperator>>,
}

impl Default for Operators {
    /// Those that come with the store: [`Add`], [`Append`] and [`Largest`].
    fn default() -> Self {
        let none = Self { by_name: BTreeMap::new() };
        none.with(Rc::new(Add)).with(Rc::new(Append)).with(Rc::new(Largest))
    }
}

impl Operators {
    /// These and one more, which takes the place of one with its name.
    #[must_use]
    pub fn with(mut self, operator: Rc<dyn MergeOperator>) -> Self {
        self.by_name.insert(operator.name().to_owned(), operator);
        self
    }

    pub(super) fn get(&self, name: &str) -> Option<Rc<dyn MergeOperator>> {
        self.by_name.get(name).cloned()
    }
}
