//! Compactions: tables are rewritten into fewer, or removed.
//!
//! # The algorithm
//!
//! 1. It is picked which tables go where, as the keyspace's strategy wants it.
//! 2. They are rewritten, without what nobody can see, into tables that are durable.
//! 3. One edit of the manifest removes the old tables and adds the new ones.
//! 4. When it is durable, the version with it is what reads see that begin then. The old files go
//!    when nobody reads from them any more.
//!
//! What a crash or a failure leaves is as with a flush.

use std::rc::Rc;

use woodchuck_io::{Env, Group};

use super::new_tables::NewTables;
use super::{Store, StoreOptions};
use crate::compaction::{
    Action, Cuts, Older, Pick, Retention, pick_fifo, pick_levelled, pick_universal, rewrite,
};
use crate::counters::count;
use crate::error::StorageError;
use crate::limits::RUN_TABLES;
use crate::scan::RunCursor;
use crate::{Bounds, Edit, Keyspace, RangeTombstone, Run, Strategy, TableMetadata};

impl<E: Env> Store<E> {
    /// Compacts what a keyspace needs most. Returns whether there was anything: if so,
    /// there may be more.
    ///
    /// # Errors
    /// `NoKeyspace`; those of reading and writing tables; `Manifest`. All tables are as they were.
    pub async fn compact(&self, id: u64) -> Result<bool, StorageError> {
        let _compacting = self.inner.compacting.lock().await;
        self.settle().await?;
        let version = self.version();
        let keyspace = version.keyspace(id).ok_or(StorageError::NoKeyspace { id })?;
        let Some(pick) = self.pick(keyspace) else { return Ok(false) };
        let cuts = self.cuts(keyspace, &pick);
        match pick.action {
            Action::Remove => return self.replace(id, &pick, Vec::new(), &[]).await,
            Action::Move if !pick.tables().any(|table| cuts.are_needed_by(table)) => {
                let moved = pick.tables().map(|table| TableMetadata {
                    level: pick.into,
                    run: pick.run,
                    ..(**table).clone()
                });
                let moved: Vec<TableMetadata> = moved.collect();
                return self.replace(id, &pick, moved, &[]).await;
            }
            Action::Move | Action::Rewrite => {}
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
        let older = Behind::of(keyspace, &pick);
        let made = rewrite(sources, &tombstones, retention, &older, &mut output, cuts).await;
        let numbers = output.numbers;
        match made {
            Ok(made) => {
                let read = pick.tables().map(|table| table.file_bytes).sum();
                let written = made.iter().map(|one| one.finished.file_bytes).sum();
                let made = made.iter().map(|one| one.metadata(pick.into, pick.run)).collect();
                let is_done = self.replace(id, &pick, made, &numbers).await?;
                if is_done {
                    let counters = self.inner.tables.counters();
                    count(&counters.compacted_bytes_read, read);
                    count(&counters.compacted_bytes_written, written);
                }
                Ok(is_done)
            }
            Err(error) => {
                self.give_up(id, &numbers).await;
                Err(error)
            }
        }
    }

    fn pick(&self, keyspace: &Keyspace) -> Option<Pick> {
        let options = &self.inner.options;
        match keyspace.options().strategy {
            Strategy::Levelled => pick_levelled(keyspace, &options.levelled),
            Strategy::Universal => pick_universal(keyspace, &options.universal),
            Strategy::Fifo { .. } => pick_fifo(keyspace, &options.fifo, self.now_ms()),
        }
    }

    /// Where the tables end that are made of others.
    fn cuts<'a>(&self, keyspace: &'a Keyspace, pick: &Pick) -> Cuts<'a> {
        let StoreOptions { table_bytes, levelled, .. } = self.inner.options;
        if keyspace.options().strategy != Strategy::Levelled {
            return Cuts::at(table_bytes.max(pick.bytes() / RUN_TABLES));
        }
        let below = keyspace.levels().get(usize::from(pick.into) + 1);
        let below = below.and_then(|level| level.run(0)).map_or(&[][..], |run| run.tables());
        let below_bytes = table_bytes.saturating_mul(levelled.overlap as u64);
        Cuts { table_bytes, below, below_bytes }
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

/// The tables of a keyspace that are older than those that were picked.
struct Behind<'a> {
    keyspace: &'a Keyspace,
    level: usize,
    run: u64,
}

impl<'a> Behind<'a> {
    fn of(keyspace: &'a Keyspace, pick: &Pick) -> Self {
        let (level, run) = pick.oldest();
        Self { keyspace, level: usize::from(level), run }
    }
}

impl Older for Behind<'_> {
    fn may_have(&self, start: &[u8], end: &[u8]) -> bool {
        let levels = self.keyspace.levels();
        let beside = levels.get(self.level).into_iter().flat_map(|level| level.runs());
        let beside =
            beside.filter(|run| run.tables().first().is_some_and(|table| table.run < self.run));
        let below = levels.iter().skip(self.level + 1).flat_map(|level| level.runs());
        beside.chain(below).any(|run| run.may_have(start, end))
    }
}
