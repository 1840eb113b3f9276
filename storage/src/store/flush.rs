//! Flushes: what a keyspace has in memory goes into tables.
//!
//! # The algorithm
//!
//! 1. The active memtable is frozen, and an empty one takes its place.
//! 2. The oldest frozen one is rewritten into tables of a new run of level 0, each durable.
//! 3. One edit of the manifest adds the tables, and says up to which commit the keyspace is
//!    flushed.
//! 4. When it is durable, the version with the tables takes the place of the memtable, for all
//!    reads that begin then.
//!
//! A crash, or a failure, before 3 is durable leaves tables that nothing speaks of, which are
//! removed, now or by the next opening; the log still has what they hold. If the edit itself fails,
//! nobody knows whether it is durable: the tables stay, and the next opening decides.

use woodchuck_io::{Env, Group};

use super::Store;
use super::new_tables::NewTables;
use crate::compaction::{Cuts, Older, Retention, rewrite};
use crate::counters::count;
use crate::error::StorageError;
use crate::{Bounds, Edit, Keyspace, Memtable};

impl<E: Env> Store<E> {
    /// Flushes what a keyspace has in memory. When this returns, all that was applied before is in
    /// tables.
    ///
    /// # Errors
    /// `NoKeyspace`; those of writing tables; `Manifest`. What was not flushed is still in memory.
    pub async fn flush(&self, keyspace: u64) -> Result<(), StorageError> {
        {
            let state = &mut *self.inner.state.borrow_mut();
            let memtables = state.keyspaces.get_mut(&keyspace);
            memtables.ok_or(StorageError::NoKeyspace { id: keyspace })?.freeze();
            state.measure_memory();
        }
        self.flush_frozen(keyspace).await
    }

    /// Flushes the memtables of a keyspace that are frozen.
    ///
    /// # Errors
    /// As with [`flush`](Self::flush).
    pub(super) async fn flush_frozen(&self, keyspace: u64) -> Result<(), StorageError> {
        let _flushing = self.inner.flushing.lock().await;
        self.settle().await?;
        loop {
            let oldest = {
                let state = self.inner.state.borrow();
                let memtables = state.keyspaces.get(&keyspace);
                memtables.and_then(|memtables| memtables.frozen.front().cloned())
            };
            let Some(oldest) = oldest else { return Ok(()) };
            self.flush_memtable(keyspace, &oldest).await?;
        }
    }

    /// Flushes the oldest memtable of a keyspace that is frozen. Who calls it holds `flushing`.
    pub(super) async fn flush_memtable(
        &self,
        id: u64,
        memtable: &Memtable,
    ) -> Result<(), StorageError> {
        let Some((_, newest)) = memtable.sequences() else { return Ok(()) };
        let version = self.version();
        let Some(keyspace) = version.keyspace(id) else { return Ok(()) };
        let operator = self.operator(keyspace);
        let snapshots = self.inner.snapshots.live();
        let retention = Retention {
            snapshots: &snapshots,
            now_ms: self.now_ms(),
            operator: operator.as_deref(),
        };
        let mut output = NewTables::of(self, keyspace, Group::Flush);
        let sources = vec![memtable.cursor(Bounds::all())];
        let tombstones = memtable.range_tombstones();
        let cuts = Cuts::at(self.inner.options.table_bytes);
        let older = AllTables(keyspace);
        let made = rewrite(sources, &tombstones, retention, &older, &mut output, cuts).await;
        let numbers = output.numbers;
        let made = match made {
            Ok(made) => made,
            Err(error) => {
                self.give_up(id, &numbers).await;
                return Err(error);
            }
        };
        let edit = |keyspace: &Keyspace| {
            let run = newest_run(keyspace) + 1;
            let tables = made.iter().map(|one| one.metadata(0, run));
            tables.fold(Edit::new(), Edit::add_table).flushed(id, newest)
        };
        let bytes = made.iter().map(|one| one.finished.file_bytes).sum();
        if self.put_in_place(id, &numbers, edit).await? {
            count(&self.inner.tables.counters().flushed_bytes, bytes);
        }
        Ok(())
    }
}

/// The newest run of level 0; 0 if there is none.
fn newest_run(keyspace: &Keyspace) -> u64 {
    let tables = keyspace.levels().first().into_iter().flat_map(|level| level.runs());
    tables.flat_map(|run| run.tables()).map(|table| table.run).max().unwrap_or(0)
}

/// All tables of a keyspace.
struct AllTables<'a>(&'a Keyspace);

impl Older for AllTables<'_> {
    fn may_have(&self, start: &[u8], end: &[u8]) -> bool {
        let mut runs = self.0.levels().iter().flat_map(|level| level.runs());
        runs.any(|run| run.may_have(start, end))
    }
}
