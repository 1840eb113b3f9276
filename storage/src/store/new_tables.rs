//! Tables that flushes and compactions make.

use woodchuck_io::{Disk, Env, Group};

use super::Store;
use crate::compaction::Output;
use crate::error::StorageError;
use crate::limits::BEAT_BYTES;
use crate::{Edit, Keyspace, TableId, TableOptions, TableWriter};

/// Tables that are made for a keyspace.
pub(super) struct NewTables<'a, E: Env> {
    store: &'a Store<E>,
    /// Of the group whose work it is.
    env: E,
    keyspace: u64,
    options: TableOptions,
    /// Bytes that were read since others had their turn.
    beat: usize,
    /// Of the tables that were begun.
    pub(super) numbers: Vec<u64>,
}

impl<'a, E: Env> NewTables<'a, E> {
    pub(super) fn of(store: &'a Store<E>, keyspace: &Keyspace, group: Group) -> Self {
        let env = store.inner.env.in_group(group);
        let of_keyspace = keyspace.options();
        let (compression, prefix) = (of_keyspace.compression, of_keyspace.prefix);
        let options = TableOptions { compression, prefix, ..store.inner.options.table.clone() };
        Self { store, env, keyspace: keyspace.id(), options, beat: 0, numbers: Vec::new() }
    }
}

impl<E: Env> Output for NewTables<'_, E> {
    type Disk = E::Disk;

    async fn begin(&mut self) -> Result<TableWriter<E::Disk>, StorageError> {
        let inner = &*self.store.inner;
        let number = inner.manifest.take_numbers(1).await?.start;
        self.numbers.push(number);
        let id = TableId { store: self.store.version().store(), keyspace: self.keyspace, number };
        TableWriter::create(self.env.disk(), &inner.directory, id, self.options.clone()).await
    }

    async fn pace(&mut self, bytes: usize) {
        self.store.inner.pacer.work(bytes);
        self.beat += bytes;
        if self.beat >= BEAT_BYTES {
            self.beat = 0;
            self.env.yield_now().await;
        }
    }
}

impl<E: Env> Store<E> {
    /// Takes over what a call that was dropped half done may have changed.
    pub(super) async fn settle(&self) -> Result<(), StorageError> {
        let _editing = self.inner.editing.lock().await;
        self.take_over(self.inner.manifest.settled().await?);
        Ok(())
    }

    /// Makes an edit of a keyspace, for which tables of these numbers were made. If the keyspace is
    /// gone, or the edit is certainly not in the manifest, the tables are removed; if nobody knows,
    /// they stay, and the next opening decides.
    ///
    /// The edit is made of the version that it will change. Returns whether it was made.
    pub(super) async fn put_in_place(
        &self,
        id: u64,
        numbers: &[u64],
        edit: impl FnOnce(&Keyspace) -> Edit,
    ) -> Result<bool, StorageError> {
        let _editing = self.inner.editing.lock().await;
        let edit = self.version().keyspace(id).map(|keyspace| edit(keyspace));
        let Some(edit) = edit else {
            self.give_up(id, numbers).await;
            return Ok(false);
        };
        match self.inner.manifest.commit(edit).await {
            Ok(version) => {
                self.take_over(version);
                Ok(true)
            }
            Err(error) => {
                if was_not_written(&error) {
                    self.give_up(id, numbers).await;
                }
                Err(error)
            }
        }
    }

    /// Removes tables that nothing speaks of. What cannot be removed is an orphan, which the next
    /// opening removes: nothing depends on it.
    pub(super) async fn give_up(&self, keyspace: u64, numbers: &[u64]) {
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
