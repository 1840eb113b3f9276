//! The sources of a keyspace.

use bytes::Bytes;
use woodchuck_io::Disk;

use super::run::RunCursor;
use super::source::Source;
use crate::error::StorageError;
use crate::tables::Tables;
use crate::{Bounds, Entry, Keyspace, Memtable, MemtableCursor, RangeTombstone};

/// A memtable, or a run of tables.
pub enum Layer<D: Disk> {
    /// A memtable.
    Memtable(MemtableCursor),
    /// A run.
    Run(Box<RunCursor<D>>),
}

impl<D: Disk> Layer<D> {
    /// Cursors over all that a keyspace has: its memtables, and its tables.
    pub fn all<'a>(
        memtables: impl IntoIterator<Item = &'a Memtable>,
        keyspace: &Keyspace,
        tables: &Tables<D>,
        bounds: &Bounds,
    ) -> Vec<Self> {
        let memtables = memtables.into_iter();
        let memtables = memtables.map(|one| Self::Memtable(one.cursor(bounds.clone())));
        let runs = keyspace.levels().iter().flat_map(|level| level.runs());
        let runs = runs.map(|run| {
            let cursor = RunCursor::new(run.clone(), tables.clone(), bounds.clone());
            Self::Run(Box::new(cursor))
        });
        memtables.chain(runs).collect()
    }
}

impl<D: Disk> Source for Layer<D> {
    fn entry(&self) -> Option<Entry<'_>> {
        match self {
            Self::Memtable(cursor) => cursor.entry(),
            Self::Run(cursor) => cursor.entry(),
        }
    }

    fn value(&self) -> Option<Bytes> {
        match self {
            Self::Memtable(cursor) => cursor.value(),
            Self::Run(cursor) => cursor.value(),
        }
    }

    fn newest_sequence(&self) -> u64 {
        match self {
            Self::Memtable(cursor) => cursor.newest_sequence(),
            Self::Run(cursor) => cursor.newest_sequence(),
        }
    }

    async fn seek(&mut self, user_key: &[u8], snapshot: u64) -> Result<(), StorageError> {
        match self {
            Self::Memtable(cursor) => Source::seek(cursor, user_key, snapshot).await,
            Self::Run(cursor) => cursor.seek(user_key, snapshot).await,
        }
    }

    async fn seek_before(&mut self, user_key: &[u8]) -> Result<(), StorageError> {
        match self {
            Self::Memtable(cursor) => Source::seek_before(cursor, user_key).await,
            Self::Run(cursor) => cursor.seek_before(user_key).await,
        }
    }

    async fn seek_to_last(&mut self) -> Result<(), StorageError> {
        match self {
            Self::Memtable(cursor) => Source::seek_to_last(cursor).await,
            Self::Run(cursor) => cursor.seek_to_last().await,
        }
    }

    async fn next(&mut self) -> Result<(), StorageError> {
        match self {
            Self::Memtable(cursor) => Source::next(cursor).await,
            Self::Run(cursor) => cursor.next().await,
        }
    }

    async fn prev(&mut self) -> Result<(), StorageError> {
        match self {
            Self::Memtable(cursor) => Source::prev(cursor).await,
            Self::Run(cursor) => cursor.prev().await,
        }
    }

    fn has_range_tombstones(&self) -> bool {
        match self {
            Self::Memtable(cursor) => cursor.has_range_tombstones(),
            Self::Run(cursor) => cursor.has_range_tombstones(),
        }
    }

    async fn range_tombstone_over(
        &mut self,
        user_key: &[u8],
        snapshot: u64,
    ) -> Result<Option<RangeTombstone>, StorageError> {
        match self {
            Self::Memtable(cursor) => cursor.range_tombstone_over(user_key, snapshot).await,
            Self::Run(cursor) => cursor.range_tombstone_over(user_key, snapshot).await,
        }
    }
}
