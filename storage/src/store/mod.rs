//! The store of a shard: keyspaces, changed by the commits of a log.
//!
//! The fault model: a crash may come at any moment, any operation on the disk may fail, and any
//! call may be dropped half done. What the log has acknowledged is in the store: in a memtable,
//! which the log's commits make anew, or in tables that the manifest speaks of, durable before it
//! does.
//!
//! # How it belongs to a log
//!
//! The store has no log of its own: its owner commits batches to the log of the shard, beside all
//! else that the shard commits.
//!
//! 1. **Opening.** The owner opens the store, and gives it every commit of the log that holds a
//!    batch, in the order of the log ([`apply`](Store::apply)). What is in tables already is passed
//!    over.
//! 2. **Writing.** A batch has its values' [ends](Store::end_values) decided, is
//!    [admitted](Store::admit), [checked](Store::check), and submitted to the log. When it is
//!    durable, it is applied, in the order of the log.
//! 3. **Trimming.** The log keeps its commits from [`needed_from`](Store::needed_from) on.
//!
//! A commit's **sequence** is its place in the log. What is applied is seen by all reads that begin
//! afterwards, and by no snapshot that was taken before.
//!
//! 4. **Maintenance.** The owner runs [`maintain`](Store::maintain) as a task, which flushes and
//!    compacts. What is too far back in the log, it has [flushed](Store::flush_older_than).
//!
//! # How readers and changes go together
//!
//! A reader takes what there is when it begins: memtables and a version of the manifest, neither of
//! which goes while it holds them. What it sees changes at one moment: a flush puts its tables into
//! the version and drops its memtable in one step, and changes of the version are made one after
//! the other. The file of a table is removed when no reader can come to it any more.

mod background;
mod checkpoint;
mod compact;
mod ends;
mod flush;
mod new_tables;
mod options;
mod pacing;
mod sequences;
mod snapshots;
mod statistics;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use event_listener::Event;
use futures_util::lock::Mutex;
use woodchuck_io::{Disk, Env, Group};

use background::Failures;
pub use checkpoint::Checkpoint;
pub use options::{Operators, StoreOptions};
use pacing::{Behind, Pacer};
pub use pacing::{Limit, PacingOptions};
pub use sequences::Sequences;
pub use snapshots::Snapshot;
use snapshots::Snapshots;
pub use statistics::{
    CacheStatistics, KeyspaceStatistics, LevelStatistics, MemtableStatistics, Statistics,
};

use crate::counters::count;
use crate::error::StorageError;
use crate::limits::COMPACTION_OPEN_TABLES;
use crate::scan::{self, Layer, MergeOperator, SnapshotCursor, View};
use crate::{
    BatchView, BlockCache, Bounds, Edit, Keyspace, KeyspaceOptions, Manifest, ManifestOpened,
    Memtable, TableMetadata, Tables, Version,
};

/// The store of a shard. Clones are the same store.
pub struct Store<E: Env> {
    inner: Rc<Inner<E>>,
}

impl<E: Env> Clone for Store<E> {
    fn clone(&self) -> Self {
        Self { inner: Rc::clone(&self.inner) }
    }
}

struct Inner<E: Env> {
    env: E,
    directory: PathBuf,
    options: StoreOptions,
    operators: Operators,
    manifest: Manifest<E>,
    tables: Tables<E::Disk>,
    /// The same as compactions read them: in their share of the disk, and past the cache.
    compaction_tables: Tables<E::Disk>,
    state: RefCell<State>,
    snapshots: Rc<Snapshots>,
    /// Who changes the version holds it, so that what readers see changes in the manifest's order.
    editing: Mutex<()>,
    /// Memtables of a keyspace are flushed one after the other, the oldest first.
    flushing: Mutex<()>,
    /// Tables are compacted by one at a time.
    compacting: Mutex<()>,
    /// A memtable was frozen.
    flush_wanted: Event,
    /// There are other tables than before.
    compaction_wanted: Event,
    failures: RefCell<Failures>,
    pacer: Pacer,
    /// Checkpoints are made one at a time.
    checkpointing: Mutex<()>,
}

struct State {
    version: Rc<Version>,
    keyspaces: BTreeMap<u64, Memtables>,
    /// The last commit that is in memtables or tables.
    applied: u64,
    /// Tables as they stood in older versions, and no longer do: those that are gone, whose files
    /// are still there, and those that stand in another level now. A reader that holds one may come
    /// to its file.
    obsolete: Vec<Rc<TableMetadata>>,
    /// How far the tables of the version are behind.
    behind: Behind,
    /// What the active memtables take, and what all take, in bytes.
    active_bytes: usize,
    memory: usize,
}

impl State {
    fn measure_memory(&mut self) {
        let all = self.keyspaces.values();
        self.active_bytes = all.clone().map(|memtables| memtables.active.bytes()).sum();
        let frozen = all.flat_map(|memtables| &memtables.frozen);
        self.memory = self.active_bytes + frozen.map(Memtable::bytes).sum::<usize>();
    }

    /// Freezes the active memtable that takes the most memory. Returns whether it has anything.
    fn freeze_largest(&mut self) -> bool {
        let all = self.keyspaces.values_mut().filter(|memtables| !memtables.active.is_empty());
        let Some(memtables) = all.max_by_key(|memtables| memtables.active.bytes()) else {
            return false;
        };
        self.active_bytes -= memtables.active.bytes();
        memtables.freeze();
        self.active_bytes += memtables.active.bytes();
        true
    }

    fn pressure(&self, options: &PacingOptions) -> (u64, &'static str) {
        self.behind.pressure(self.memory, options)
    }

    /// Takes out a table whose file nobody can come to any more.
    fn take_unused(&mut self) -> Option<Rc<TableMetadata>> {
        loop {
            let at = self.obsolete.iter().position(|table| Rc::strong_count(table) == 1)?;
            let table = self.obsolete.swap_remove(at);
            let keyspace = self.version.keyspace(table.keyspace);
            let mut live = keyspace.into_iter().flat_map(|keyspace| keyspace.tables());
            let mut elsewhere = self.obsolete.iter();
            let is_same = |other: &Rc<TableMetadata>| other.number == table.number;
            // Of a table that was moved, the last place that anybody holds takes the file along.
            if !live.any(is_same) && !elsewhere.any(is_same) {
                return Some(table);
            }
        }
    }
}

/// What a keyspace has in memory.
#[derive(Default)]
struct Memtables {
    active: Memtable,
    /// Those that are being flushed, the oldest first.
    frozen: VecDeque<Memtable>,
    /// Commits up to this one are in tables.
    flushed: u64,
}

impl Memtables {
    fn newest_first(&self) -> Vec<Memtable> {
        [&self.active].into_iter().chain(self.frozen.iter().rev()).cloned().collect()
    }

    /// Puts an empty memtable in the place of the active one, which is to be flushed, if it has
    /// anything.
    fn freeze(&mut self) {
        if !self.active.is_empty() {
            let active = std::mem::take(&mut self.active);
            active.freeze();
            self.frozen.push_back(active);
        }
    }

    /// The oldest commit of which something is in memory.
    fn oldest(&self) -> Option<u64> {
        let all = self.frozen.iter().chain([&self.active]);
        all.filter_map(|memtable| memtable.sequences()).map(|(oldest, _)| oldest).min()
    }
}

impl<E: Env> Store<E> {
    /// Opens the store in `directory`, or makes one. Its blocks share `cache` with other stores of
    /// the shard.
    ///
    /// # Errors
    /// Those of [`Manifest::open`], and `Options`.
    pub async fn open(
        env: &E,
        directory: &Path,
        options: StoreOptions,
        operators: Operators,
        cache: &BlockCache,
    ) -> Result<(Self, ManifestOpened), StorageError> {
        options.check()?;
        let (manifest, opened) = Manifest::open(env, directory, options.manifest).await?;
        let version = manifest.version();
        let open_tables = |env: &E, cache: &BlockCache, most: usize| {
            let (directory, store) = (directory.to_owned(), version.store());
            Tables::new(env.disk(), directory, store, cache, options.read, most)
        };
        let tables = open_tables(env, cache, options.open_tables);
        let in_background = env.in_group(Group::Compaction);
        let compaction_tables =
            open_tables(&in_background, &BlockCache::new(0), COMPACTION_OPEN_TABLES);
        let keyspaces = version.keyspaces().map(|keyspace| {
            let flushed = keyspace.flushed();
            (keyspace.id(), Memtables { flushed, ..Memtables::default() })
        });
        let keyspaces: BTreeMap<u64, Memtables> = keyspaces.collect();
        let applied = keyspaces.values().map(|memtables| memtables.flushed).max().unwrap_or(0);
        let behind = Behind::of(&version, &options.levelled);
        let (obsolete, active_bytes, memory) = (Vec::new(), 0, 0);
        let state = State { version, keyspaces, applied, obsolete, behind, active_bytes, memory };
        let inner = Inner {
            env: env.clone(),
            directory: directory.to_owned(),
            options,
            operators,
            manifest,
            tables,
            compaction_tables,
            state: RefCell::new(state),
            snapshots: Rc::default(),
            editing: Mutex::new(()),
            flushing: Mutex::new(()),
            compacting: Mutex::new(()),
            flush_wanted: Event::new(),
            compaction_wanted: Event::new(),
            failures: RefCell::default(),
            pacer: Pacer::default(),
            checkpointing: Mutex::new(()),
        };
        Ok((Self { inner: Rc::new(inner) }, opened))
    }

    /// What the manifest says now.
    #[must_use]
    pub fn version(&self) -> Rc<Version> {
        Rc::clone(&self.inner.state.borrow().version)
    }

    /// The last commit that reads see.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.inner.state.borrow().applied
    }

    /// The log has to keep its commits from this one on: what those before said is in tables.
    #[must_use]
    pub fn needed_from(&self) -> u64 {
        let state = self.inner.state.borrow();
        let oldest = state.keyspaces.values().filter_map(Memtables::oldest).min();
        oldest.unwrap_or(state.applied + 1)
    }

    /// About how much memory the memtables take, in bytes.
    #[must_use]
    pub fn memtable_bytes(&self) -> usize {
        self.inner.state.borrow().memory
    }

    /// Creates a keyspace. When this returns its number, it is durable.
    ///
    /// # Errors
    /// `EditRefused` if there is one of that name, or the options make no sense; `Options` if its
    /// merge operator is not among those that the store was opened with; `Manifest`.
    pub async fn create_keyspace(
        &self,
        name: &str,
        options: KeyspaceOptions,
    ) -> Result<u64, StorageError> {
        if let Some(operator) = &options.merge_operator
            && self.inner.operators.get(operator).is_none()
        {
            let reason = format!("there is no merge operator {operator:?}");
            return Err(StorageError::Options { reason });
        }
        let id = self.inner.manifest.take_numbers(1).await?.start;
        let _editing = self.inner.editing.lock().await;
        let edit = Edit::new().create_keyspace(id, name, options);
        self.take_over(self.inner.manifest.commit(edit).await?);
        Ok(id)
    }

    /// Drops a keyspace with all that it has. When this returns, it is gone for good; who reads
    /// from it meanwhile goes on.
    ///
    /// # Errors
    /// `EditRefused` if there is none; `Manifest`.
    pub async fn drop_keyspace(&self, id: u64) -> Result<(), StorageError> {
        let _editing = self.inner.editing.lock().await;
        self.take_over(self.inner.manifest.commit(Edit::new().drop_keyspace(id)).await?);
        Ok(())
    }

    /// Takes over what the manifest says, in one step for all readers. That may be more than the
    /// caller's edit: one whose call was dropped half done is durable all the same. Who calls it
    /// holds `editing`.
    fn take_over(&self, version: Rc<Version>) {
        let state = &mut *self.inner.state.borrow_mut();
        if Rc::ptr_eq(&state.version, &version) {
            return;
        }
        let before = std::mem::replace(&mut state.version, Rc::clone(&version));
        for old in before.keyspaces() {
            let new = version.keyspace(old.id());
            if new.is_some_and(|new| Rc::ptr_eq(new, old)) {
                continue;
            }
            let live = new.into_iter().flat_map(|keyspace| keyspace.tables());
            let live: BTreeMap<u64, _> = live.map(|table| (table.number, table)).collect();
            let gone = old.tables().filter(|table| {
                live.get(&table.number).is_none_or(|there| !Rc::ptr_eq(there, table))
            });
            state.obsolete.extend(gone.cloned());
        }
        state.keyspaces.retain(|&id, _| version.keyspace(id).is_some());
        for keyspace in version.keyspaces() {
            let memtables = state.keyspaces.entry(keyspace.id()).or_default();
            memtables.flushed = keyspace.flushed();
            memtables.frozen.retain(|memtable| {
                memtable.sequences().is_some_and(|(_, newest)| newest > keyspace.flushed())
            });
        }
        state.measure_memory();
        state.behind = Behind::of(&version, &self.inner.options.levelled);
        let (pressure, _) = state.pressure(&self.inner.options.pacing);
        if pressure == 0 {
            self.inner.pacer.release();
        }
        self.inner.compaction_wanted.notify(1);
    }

    /// Whether a batch can be committed: its keyspaces are there. One that is dropped before the
    /// batch is applied takes its part of the batch with it.
    ///
    /// # Errors
    /// `NoKeyspace`.
    pub fn check(&self, batch: &BatchView<'_>) -> Result<(), StorageError> {
        let state = self.inner.state.borrow();
        match batch.entries(0).find(|(id, _)| !state.keyspaces.contains_key(id)) {
            Some((id, _)) => Err(StorageError::NoKeyspace { id }),
            None => Ok(()),
        }
    }

    /// Applies a batch that is durable in the log, at its place there.
    ///
    /// # Panics
    /// If commits are not applied in the order of the log.
    pub fn apply(&self, sequence: u64, batch: &BatchView<'_>) {
        let state = &mut *self.inner.state.borrow_mut();
        for (keyspace, entry) in batch.entries(sequence) {
            let Some(memtables) = state.keyspaces.get_mut(&keyspace) else { continue };
            if sequence > memtables.flushed {
                let newest = memtables.active.sequences().map_or(0, |(_, newest)| newest);
                assert!(newest <= sequence, "commits are applied in the order of the log");
                let before = memtables.active.bytes();
                memtables.active.insert(&entry);
                let after = memtables.active.bytes();
                state.active_bytes = state.active_bytes - before + after;
                state.memory = state.memory - before + after;
                let bytes = entry.user_key.len() + entry.value.len();
                count(&self.inner.tables.counters().applied_bytes, bytes as u64);
            }
        }
        state.applied = state.applied.max(sequence);
        // Behind the last entry: a memtable has the whole of a commit.
        let mut has_frozen = false;
        while state.active_bytes > self.inner.options.pacing.memtable_bytes
            && state.freeze_largest()
        {
            has_frozen = true;
        }
        if has_frozen {
            self.inner.flush_wanted.notify(1);
        }
    }

    /// Waits until `bytes` may be committed: who writes faster than the store can put in order is
    /// slowed, by what flushes and compactions have done meanwhile. To be awaited before a batch of
    /// so many bytes goes to the log. Writers go on in the order of the calls.
    ///
    /// # Errors
    /// `Busy` if the store is too far behind; `Failing` if it is behind because flushes or
    /// compactions fail.
    pub async fn admit(&self, bytes: usize) -> Result<(), StorageError> {
        let pressure = self.check_pressure()?;
        if let Some(turn) = self.inner.pacer.line_up(bytes, pressure)? {
            // It is never dropped unanswered.
            let _told = turn.await;
            self.check_pressure()?;
        }
        Ok(())
    }

    fn check_pressure(&self) -> Result<u64, StorageError> {
        let (pressure, what) = self.inner.state.borrow().pressure(&self.inner.options.pacing);
        if pressure > 0
            && let Some(error) = self.inner.failures.borrow().any()
        {
            return Err(StorageError::Failing { source: Box::new(error.clone()) });
        }
        if pressure >= 1000 { Err(StorageError::Busy { what }) } else { Ok(pressure) }
    }

    /// Begins flushes of all that holds commits older than this one, so that the log needs to keep
    /// no more than what comes from it on.
    pub fn flush_older_than(&self, sequence: u64) {
        let state = &mut *self.inner.state.borrow_mut();
        for memtables in state.keyspaces.values_mut() {
            if memtables.active.sequences().is_some_and(|(oldest, _)| oldest < sequence) {
                memtables.freeze();
            }
        }
        state.measure_memory();
        self.inner.flush_wanted.notify(1);
    }

    /// A snapshot of all keyspaces, as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::take(&self.inner.snapshots, self.applied())
    }

    /// The value of a key, now or in a snapshot.
    ///
    /// # Errors
    /// `NoKeyspace`; `Corrupt`, `Io` if a table that had to be looked into cannot be read; `Value`.
    pub async fn get(
        &self,
        keyspace: u64,
        key: &[u8],
        snapshot: Option<&Snapshot>,
    ) -> Result<Option<Bytes>, StorageError> {
        let reader = self.reader(keyspace, snapshot)?;
        count(&self.inner.tables.counters().point_reads, 1);
        let Reader { memtables, keyspace, sequence, now_ms, operator } = &reader;
        let operator = operator.as_deref();
        let view = View { snapshot: *sequence, now_ms: *now_ms, operator };
        scan::get(key, view, memtables, keyspace, &self.inner.tables).await
    }

    /// A walk over keys, as they are now or in a snapshot. It sees the same however long it takes.
    ///
    /// # Errors
    /// `NoKeyspace`.
    pub fn cursor(
        &self,
        keyspace: u64,
        bounds: &Bounds,
        snapshot: Option<&Snapshot>,
    ) -> Result<SnapshotCursor<Layer<E::Disk>>, StorageError> {
        let Reader { memtables, keyspace, sequence, now_ms, operator } =
            self.reader(keyspace, snapshot)?;
        let sources = Layer::all(&memtables, &keyspace, &self.inner.tables, bounds);
        Ok(SnapshotCursor::new(sources, sequence, now_ms, operator))
    }

    fn reader(&self, id: u64, snapshot: Option<&Snapshot>) -> Result<Reader, StorageError> {
        let state = self.inner.state.borrow();
        let memtables = state.keyspaces.get(&id).ok_or(StorageError::NoKeyspace { id })?;
        let keyspace = state.version.keyspace(id).ok_or(StorageError::NoKeyspace { id })?;
        Ok(Reader {
            memtables: memtables.newest_first(),
            keyspace: Rc::clone(keyspace),
            sequence: snapshot.map_or(state.applied, Snapshot::sequence),
            now_ms: self.now_ms(),
            operator: self.operator(keyspace),
        })
    }

    fn operator(&self, keyspace: &Keyspace) -> Option<Rc<dyn MergeOperator>> {
        self.inner.operators.get(keyspace.options().merge_operator.as_deref()?)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.inner.env.wall().as_millis()).unwrap_or(0)
    }

    /// Removes the files of tables that nobody can come to any more. Gives how many there were.
    ///
    /// # Errors
    /// `Io` if one cannot be removed; it is tried again the next time.
    pub async fn remove_obsolete(&self) -> Result<usize, StorageError> {
        let mut removed = 0;
        loop {
            let unused = self.inner.state.borrow_mut().take_unused();
            let Some(table) = unused else { return Ok(removed) };
            self.inner.tables.forget(table.number);
            self.inner.compaction_tables.forget(table.number);
            let path = self.path_of(&table);
            if let Err(error) = self.inner.env.disk().remove(&path).await
                && error.kind() != std::io::ErrorKind::NotFound
            {
                self.inner.state.borrow_mut().obsolete.push(table);
                return Err(StorageError::io(format!("remove {}", path.display()), error));
            }
            removed += 1;
        }
    }

    fn path_of(&self, table: &TableMetadata) -> PathBuf {
        let id = self.inner.state.borrow().version.table_id(table);
        self.inner.directory.join(id.file_name())
    }

    /// Waits until all that was begun is durable. What is in memtables stays in the log alone.
    ///
    /// # Errors
    /// `Manifest` if not all became durable.
    ///
    /// # Panics
    /// If there are other clones of it.
    pub async fn close(self) -> Result<(), StorageError> {
        let inner = Rc::into_inner(self.inner).expect("nobody else uses the store");
        inner.manifest.close().await
    }
}

/// What one read sees.
struct Reader {
    memtables: Vec<Memtable>,
    keyspace: Rc<Keyspace>,
    sequence: u64,
    now_ms: u64,
    operator: Option<Rc<dyn MergeOperator>>,
}
