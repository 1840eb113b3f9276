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

use woodchuck_io::{Disk, Env};

use super::Store;
use crate::compaction::{Older, Output, Retention, rewrite};
use crate::error::StorageError;
use crate::{Bounds, Edit, Keyspace, Memtable, TableId, TableOptions, TableWriter};

impl<E: Env> Store<E> {
    /// Flushes what a keyspace has in memory. When this returns, all that was applied before is in
    /// tables.
    ///
    /// # Errors
    /// `NoKeyspace`; those of writing tables; `Manifest`. What was not flushed is still in memory.
    pub async fn flush(&self, keyspace: u64) -> Result<(), StorageError> {
        let _flushing = self.inner.flushing.lock().await;
        {
            // A flush that was dropped half done may have ended: its memtable is in tables.
            let _editing = self.inner.editing.lock().await;
            self.take_over(self.inner.manifest.settled().await?);
        }
        self.freeze(keyspace)?;
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

    fn freeze(&self, id: u64) -> Result<(), StorageError> {
        let mut state = self.inner.state.borrow_mut();
        let memtables = state.keyspaces.get_mut(&id).ok_or(StorageError::NoKeyspace { id })?;
        if !memtables.active.is_empty() {
            let active = std::mem::take(&mut memtables.active);
            active.freeze();
            memtables.frozen.push_back(active);
        }
        Ok(())
    }

    async fn flush_memtable(&self, id: u64, memtable: &Memtable) -> Result<(), StorageError> {
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
        let mut output = NewTables::of(self, keyspace);
        let sources = vec![memtable.cursor(Bounds::all())];
        let tombstones = memtable.range_tombstones();
        let bytes = self.inner.options.table_bytes;
        let older = AllTables(keyspace);
        let made = rewrite(sources, &tombstones, retention, &older, &mut output, bytes).await;
        let numbers = output.numbers;
        let made = match made {
            Ok(made) => made,
            Err(error) => {
                self.give_up(id, &numbers).await;
                return Err(error);
            }
        };
        let _editing = self.inner.editing.lock().await;
        let is_there = self.inner.state.borrow().keyspaces.contains_key(&id);
        if !is_there {
            self.give_up(id, &numbers).await;
            return Ok(());
        }
        let run = self.version().keyspace(id).map_or(1, |keyspace| newest_run(keyspace) + 1);
        let edit = made.iter().fold(Edit::new(), |edit, one| edit.add_table(one.metadata(0, run)));
        match self.inner.manifest.commit(edit.flushed(id, newest)).await {
            Ok(version) => {
                self.take_over(version);
                Ok(())
            }
            Err(error) => {
                if was_not_written(&error) {
                    self.give_up(id, &numbers).await;
                }
                Err(error)
            }
        }
    }

    /// Removes tables that nothing speaks of. What cannot be removed is an orphan, which the next
    /// opening removes: nothing depends on it.
    async fn give_up(&self, keyspace: u64, numbers: &[u64]) {
        let store = self.version().store();
        for &number in numbers {
            let name = TableId { store, keyspace, number }.file_name();
            let _removed = self.inner.env.disk().remove(&self.inner.directory.join(name)).await;
        }
    }
}

/// Whether it is certain that an edit which failed is not in the manifest.
fn was_not_written(error: &StorageError) -> bool {
    match error {
        StorageError::EditRefused { .. } => true,
        StorageError::Manifest { source, .. } => source.is_retryable(),
        _ => false,
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

/// Tables that are made for a keyspace.
struct NewTables<'a, E: Env> {
    store: &'a Store<E>,
    keyspace: u64,
    options: TableOptions,
    /// Of the tables that were begun.
    numbers: Vec<u64>,
}

impl<'a, E: Env> NewTables<'a, E> {
    fn of(store: &'a Store<E>, keyspace: &Keyspace) -> Self {
        let of_keyspace = keyspace.options();
        let (compression, prefix) = (of_keyspace.compression, of_keyspace.prefix);
        let options = TableOptions { compression, prefix, ..store.inner.options.table.clone() };
        Self { store, keyspace: keyspace.id(), options, numbers: Vec::new() }
    }
}

impl<E: Env> Output for NewTables<'_, E> {
    type Disk = E::Disk;

    async fn begin(&mut self) -> Result<TableWriter<E::Disk>, StorageError> {
        let inner = &*self.store.inner;
        let number = inner.manifest.take_numbers(1).await?.start;
        self.numbers.push(number);
        let id = TableId { store: self.store.version().store(), keyspace: self.keyspace, number };
        TableWriter::create(inner.env.disk(), &inner.directory, id, self.options.clone()).await
    }

    async fn pace(&mut self, _bytes: usize) {}
}
