//! Flushes and compactions as they are needed.
//!
//! The fault model: what fails is tried again after [`RETRY_MS`], for as long as the store runs;
//! until it succeeds, writers who would have to wait are told why instead. A compaction that fails
//! does not keep other keyspaces from theirs.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{join, select};
use woodchuck_io::{Env, Group};

use super::Store;
use crate::Strategy;
use crate::error::StorageError;
use crate::limits::{END_WAIT_MS, RETRY_MS};

/// What a store does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chore {
    Flush,
    Compaction,
}

/// Why chores failed the last time.
#[derive(Default)]
pub(super) struct Failures {
    flush: Option<StorageError>,
    compaction: Option<StorageError>,
}

impl Failures {
    fn of(&mut self, chore: Chore) -> &mut Option<StorageError> {
        match chore {
            Chore::Flush => &mut self.flush,
            Chore::Compaction => &mut self.compaction,
        }
    }

    /// One of them.
    pub(super) fn any(&self) -> Option<&StorageError> {
        self.flush.as_ref().or(self.compaction.as_ref())
    }
}

impl<E: Env> Store<E> {
    /// Flushes and compacts as it is needed, for as long as it is polled: it never ends. Run it as
    /// a task. It may be dropped at any moment.
    pub async fn maintain(self) {
        let [flushes, compactions] =
            [Group::Flush, Group::Compaction].map(|group| self.inner.env.in_group(group));
        let store = self.clone();
        let flushes = flushes.spawn("flushes", async move { store.flush_as_needed().await });
        let compactions =
            compactions.spawn("compactions", async move { self.compact_as_needed().await });
        join(flushes, compactions).await;
    }

    async fn flush_as_needed(&self) {
        loop {
            let wanted = self.inner.flush_wanted.listen();
            let Some(keyspace) = self.frozen_keyspace() else {
                wanted.await;
                continue;
            };
            match self.flush_frozen(keyspace).await {
                // It may have been dropped meanwhile.
                Ok(()) | Err(StorageError::NoKeyspace { .. }) => self.has_succeeded(Chore::Flush),
                Err(error) => {
                    self.has_failed(Chore::Flush, error);
                    self.rest().await;
                }
            }
        }
    }

    /// The keyspace that has the oldest memtable to be flushed.
    fn frozen_keyspace(&self) -> Option<u64> {
        let state = self.inner.state.borrow();
        let all = state.keyspaces.iter();
        let frozen = all.filter_map(|(&id, memtables)| {
            let (oldest, _) = memtables.frozen.front()?.sequences()?;
            Some((oldest, id))
        });
        frozen.min().map(|(_, id)| id)
    }

    async fn compact_as_needed(&self) {
        // Their compaction failed: they are left alone while others go on.
        let mut resting = BTreeSet::new();
        loop {
            let wanted = self.inner.compaction_wanted.listen();
            let ids: Vec<u64> = self.version().keyspaces().map(|keyspace| keyspace.id()).collect();
            let mut was_idle = true;
            for id in ids {
                if resting.contains(&id) {
                    continue;
                }
                match self.compact_once(id).await {
                    Ok(had_some) => was_idle &= !had_some,
                    Err(StorageError::NoKeyspace { .. }) => {}
                    Err(error) => {
                        self.has_failed(Chore::Compaction, error);
                        resting.insert(id);
                    }
                }
            }
            if !was_idle {
                continue;
            }
            if resting.is_empty() {
                self.has_succeeded(Chore::Compaction);
                match self.next_end() {
                    Some(time) => drop(select(wanted, pin!(self.inner.env.sleep(time))).await),
                    None => wanted.await,
                }
            } else {
                self.rest().await;
                resting.clear();
            }
        }
    }

    /// How long it is until all of some table has ended; a while, at most.
    fn next_end(&self) -> Option<Duration> {
        let (now_ms, version) = (self.now_ms(), self.version());
        let fifo = version
            .keyspaces()
            .filter(|keyspace| matches!(keyspace.options().strategy, Strategy::Fifo { .. }));
        let ends = fifo.flat_map(|keyspace| keyspace.tables()).filter_map(|table| table.ends_at_ms);
        // Those that have ended already wait for others.
        let next = ends.filter(|&end| end > now_ms).min()?;
        Some(Duration::from_millis((next - now_ms).min(END_WAIT_MS)))
    }

    async fn compact_once(&self, id: u64) -> Result<bool, StorageError> {
        let had_some = self.compact(id).await?;
        if had_some {
            self.remove_obsolete().await?;
        }
        Ok(had_some)
    }

    async fn rest(&self) {
        self.inner.env.sleep(Duration::from_millis(RETRY_MS)).await;
    }

    fn has_succeeded(&self, chore: Chore) {
        *self.inner.failures.borrow_mut().of(chore) = None;
    }

    fn has_failed(&self, chore: Chore, error: StorageError) {
        let doing = match chore {
            Chore::Flush => "flush",
            Chore::Compaction => "compaction",
        };
        tracing::warn!(
            "{}: a {doing} failed, and is tried again in {RETRY_MS} ms: {error}",
            self.inner.directory.display()
        );
        *self.inner.failures.borrow_mut().of(chore) = Some(error);
        // Who waits for what does not happen shall hear why.
        self.inner.pacer.release();
    }
}
