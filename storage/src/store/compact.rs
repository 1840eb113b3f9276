//! Compactions: tables are rewritten into fewer, further down.
//!
//! # The algorithm
//!
//! 1. It is picked which tables go where.
//! 2. They are rewritten, without what nobody can see, into tables that are durable.
//! 3. One edit of the manifest removes the old tables and adds the new ones.
//! 4. When it is durable, the version with it is what reads see that begin then. The old files go
//!    when nobody reads from them any more.
//!
//! What a crash or a failure leaves is as with a flush.

use std::rc::Rc;

use woodchuck_io::{Env, Group};

use super::Store;
use super::new_tables::NewTables;
use crate::compaction::{Older, Pick, Retention, pick_levelled, rewrite};
use crate::error::StorageError;
use crate::scan::RunCursor;
use crate::{Bounds, Edit, Keyspace, RangeTombstone, Run, Strategy, TableMetadata};

impl<E: Env> Store<E> {
    /// Compacts what a levelled keyspace needs most. Returns whether there was anything: if so,
    /// there may be more.
    ///
    /// # Errors
    /// `NoKeyspace`; those of reading and writing tables; `Manifest`. All tables are as they were.
    pub async fn compact(&self, id: u64) -> Result<bool, StorageError> {
        let _compacting = self.inner.compacting.lock().await;
        self.settle().await?;
        let version = self.version();
        let keyspace = version.keyspace(id).ok_or(StorageError::NoKeyspace { id })?;
        let pick = match keyspace.options().strategy {
            Strategy::Levelled => pick_levelled(keyspace, &self.inner.options.levelled),
            Strategy::Universal | Strategy::Fifo { .. } => None,
        };
        let Some(pick) = pick else { return Ok(false) };
        if pick.is_move {
            let moved = pick.tables().map(|table| TableMetadata {
                level: pick.into,
                run: 0,
                ..(**table).clone()
            });
            let moved: Vec<TableMetadata> = moved.collect();
            return self.replace(id, &pick, moved, &[]).await;
        }
        let operator = self.operator(keyspace);
        let snapshots = self.inner.snapshots.live();
        let retention = Retention {
            snapshots: &snapshots,
            now_ms: self.now_ms(),
            operator: operator.as_deref(),
        };
        let tables = &self.inner.compaction_tables;
        let mut tombstones: Vec<RangeTombstone> = Vec::new();
        for table in pick.tables().filter(|table| table.range_tombstones > 0) {
            let table = tables.table(table.keyspace, table.number).await?;
            tombstones.extend(table.range_tombstones().iter());
        }
        let runs = pick.inputs.iter().map(|run| Rc::new(Run::of(run.clone())));
        let sources = runs.map(|run| RunCursor::new(run, tables.clone(), Bounds::all())).collect();
        let mut output = NewTables::of(self, keyspace, Group::Compaction);
        let bytes = self.inner.options.table_bytes;
        let older = Below { keyspace, level: usize::from(pick.into) };
        let made = rewrite(sources, &tombstones, retention, &older, &mut output, bytes).await;
        let numbers = output.numbers;
        match made {
            Ok(made) => {
                let made = made.iter().map(|one| one.metadata(pick.into, 0)).collect();
                self.replace(id, &pick, made, &numbers).await
            }
            Err(error) => {
                self.give_up(id, &numbers).await;
                Err(error)
            }
        }
    }

    /// Puts tables in the place of others. `numbers` are those that were made for it.
    async fn replace(
        &self,
        id: u64,
        pick: &Pick,
        made: Vec<TableMetadata>,
        numbers: &[u64],
    ) -> Result<bool, StorageError> {
        let removed = pick.tables().map(|table| table.number);
        let edit = removed.fold(Edit::new(), |edit, number| edit.remove_table(id, number));
        let edit = made.into_iter().fold(edit, Edit::add_table);
        self.put_in_place(id, numbers, |_| edit).await
    }
}

/// The tables of a keyspace below a level.
struct Below<'a> {
    keyspace: &'a Keyspace,
    level: usize,
}

impl Older for Below<'_> {
    fn may_have(&self, start: &[u8], end: &[u8]) -> bool {
        let below = self.keyspace.levels().iter().skip(self.level + 1);
        below.flat_map(|level| level.runs()).any(|run| run.may_have(start, end))
    }
}
