//! A store has what its log acknowledged, through crashes at any moment.
//!
//! In each world one process after the other opens a log and a store, and commits batches to two
//! keyspaces, flushes, trims the log, drops tables that are not needed, takes snapshots, and reads:
//! each answer is compared with a map that is changed commit by commit. Power, system or process
//! end at any moment, with the world's usual faults of the disk; in every fourth world, writes and
//! flushes of the disk fail besides. The next process must find every commit that was acknowledged,
//! and of those under way either all or nothing.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use woodchuck_io::{Disk, Env, RandomStream, Task};
use woodchuck_sim::{DiskOperation, SimEnv, World};
use woodchuck_wal::{Log, LogOptions, Lsn};

use super::history::draw_key;
use super::place::{draw_options, quiet, random, run_in, run_on};
use super::scan::{Commits, Operation, walk};
use crate::compaction::{FifoOptions, LevelledOptions, UniversalOptions};
use crate::limits::LEVELLED_LEVELS;
use crate::store::{Limit, Operators, PacingOptions, Sequences, Snapshot, Store, StoreOptions};
use crate::{
    BatchView, BlockCache, Bounds, KeyspaceOptions, ManifestOptions, ReadOptions, StorageError,
    Strategy, WriteBatch,
};

const SEEDS: u64 = 400;
const PROCESSES: u64 = 5;
const KEYSPACES: [&str; 2] = ["one", "other"];
/// Of the last, what is not given an end lasts longer than any world.
const STRATEGIES: [Strategy; 3] =
    [Strategy::Levelled, Strategy::Universal, Strategy::Fifo { ttl_ms: 1 << 40 }];

type Changes = [Vec<Operation>; 2];
type Flushing = Task<Result<(), StorageError>>;
/// Which keyspace, and how often.
type Compacting = Task<Result<(u64, u64), StorageError>>;

/// What was committed, over all processes.
#[derive(Default)]
struct History {
    /// By keyspace.
    commits: [Commits; 2],
    /// A commit that is under way: what it changes, and its bytes.
    attempted: Option<(Changes, Vec<u8>)>,
    acknowledged: u64,
    found_attempted: u64,
    flushes: u64,
    /// By strategy.
    compactions: [u64; 3],
    refused: u64,
    replayed: u64,
    failures: u64,
    removed: u64,
}

struct Process {
    seed: u64,
    env: SimEnv,
    random: RandomStream,
    history: Rc<RefCell<History>>,
}

/// A log and the store of its batches.
struct Opened {
    log: Log<SimEnv, ()>,
    sequences: Sequences,
    store: Store<SimEnv>,
    keyspaces: [u64; 2],
}

impl Process {
    fn options(&mut self) -> StoreOptions {
        StoreOptions {
            manifest: ManifestOptions { edit_bytes_min: 600, ..ManifestOptions::small() },
            table: draw_options(&mut self.random),
            read: ReadOptions { pin_partitions: self.random.below(2) == 0 },
            table_bytes: [1, 3000, 1 << 20][self.random.below(3) as usize],
            levelled: LevelledOptions {
                runs: 1 + self.random.below(4) as usize,
                // The same in all processes: in every other world levels become deep.
                base_bytes: [1, 20_000, 1, 1 << 20][self.seed as usize % 4],
                growth: 2,
                overlap: 1 + self.random.below(3) as usize,
            },
            universal: UniversalOptions {
                runs: 1 + self.random.below(2) as usize,
                ratio_percent: self.random.below(100),
                space_percent: [25, 200, 2000][self.random.below(3) as usize],
            },
            fifo: FifoOptions {
                runs: 2,
                small_bytes: [1, 30_000, 1 << 20][self.random.below(3) as usize],
            },
            pacing: self.pacing(),
            open_tables: 1 + self.random.below(3) as usize,
        }
    }

    /// In every other world the store flushes and compacts by itself, and is often behind.
    fn pacing(&mut self) -> PacingOptions {
        if !self.is_maintained() {
            return PacingOptions::default();
        }
        PacingOptions {
            memtable_bytes: 1 + self.random.below(6000) as usize,
            memory: Limit { slow: 6000, busy: 6001 + self.random.below(20_000) },
            runs: Limit { slow: 4, busy: 5 + self.random.below(6) },
            debt: Limit { slow: 0, busy: 1 + self.random.below(100_000) },
        }
    }

    fn is_maintained(&self) -> bool {
        self.seed % 2 == 1
    }

    /// Whether the disk was told to fail, and this is that.
    fn is_failing_disk(error: &StorageError) -> bool {
        match error {
            StorageError::Io { .. } | StorageError::Abandoned => true,
            StorageError::Manifest { source, .. } => !source.is_corrupt(),
            StorageError::Failing { source } => Self::is_failing_disk(source),
            _ => false,
        }
    }

    /// Ends the process if the disk fails, in a world where it may.
    fn check<T>(&self, result: Result<T, StorageError>) -> Option<T> {
        let may_fail = |error: &StorageError| self.disk_fails() && Self::is_failing_disk(error);
        match result {
            Ok(done) => Some(done),
            Err(error) => {
                assert!(may_fail(&error), "seed {}: {error}", self.seed);
                None
            }
        }
    }

    fn disk_fails(&self) -> bool {
        self.seed % 4 == 3
    }

    async fn open(&mut self) -> Option<Opened> {
        let disk = self.env.disk();
        for directory in ["/log", "/store"] {
            disk.create_directory(Path::new(directory)).await.ok()?;
        }
        disk.sync_directory(Path::new("/")).await.ok()?;
        let mut recovered: Vec<(u64, Bytes)> = Vec::new();
        let mut sequences = Sequences::default();
        let opened =
            Log::open(self.env.clone(), PathBuf::from("/log"), LogOptions::small(), |commit| {
                recovered.push((sequences.next(commit.lsn.get()), commit.bytes));
                Ok(())
            });
        let (log, _) = match opened.await {
            Ok(opened) => opened,
            Err(error) => {
                assert!(self.disk_fails() && !error.is_corrupt(), "seed {}: {error}", self.seed);
                return None;
            }
        };
        let cache = BlockCache::new([0, 10_000, 1 << 20][self.random.below(3) as usize]);
        let options = self.options();
        let operators = Operators::default();
        let opened = Store::open(&self.env, Path::new("/store"), options, operators, &cache).await;
        let (store, opened) = self.check(opened)?;
        assert_eq!(opened.damaged, [], "seed {}", self.seed);
        let mut keyspaces = [0; 2];
        for (id, name) in keyspaces.iter_mut().zip(KEYSPACES) {
            let there = store.version().keyspace_by_name(name).map(|keyspace| keyspace.id());
            *id = match there {
                Some(there) => there,
                None => {
                    let options = KeyspaceOptions {
                        strategy: STRATEGIES[self.random.below(3) as usize],
                        merge_operator: Some("append".to_owned()),
                        ..KeyspaceOptions::default()
                    };
                    self.check(store.create_keyspace(name, options).await)?
                }
            };
        }
        let mut history = self.history.borrow_mut();
        history.replayed += recovered.len() as u64;
        for (sequence, bytes) in recovered {
            let batch = BatchView::parse(&bytes).expect("it was encoded");
            store.apply(sequence, &batch);
            let newest = history.commits.iter().filter_map(Commits::newest).max();
            if newest.is_none_or(|newest| sequence > newest) {
                let attempted = history.attempted.take();
                let (changes, attempted) = attempted.expect("only acknowledged commits are found");
                assert_eq!(attempted, bytes, "seed {}: another commit", self.seed);
                history.found_attempted += 1;
                history.insert(sequence, changes);
            }
        }
        history.attempted = None;
        drop(history);
        Some(Opened { log, sequences, store, keyspaces })
    }

    async fn commit(&mut self, opened: &mut Opened) -> Option<()> {
        let keys: Vec<Vec<u8>> = (0..6).map(|_| draw_key(&mut self.random)).collect();
        let number = self.random.next_u64();
        let changes = [0, 1].map(|_| {
            let count = self.random.below(4);
            let ends = [1, u64::MAX];
            (0..count)
                .map(|_| Operation::draw(&mut self.random, &keys, &format!("{number:x};"), &ends))
                .collect::<Vec<_>>()
        });
        let mut batch = WriteBatch::new();
        for (id, changes) in opened.keyspaces.iter().zip(&changes) {
            changes.iter().for_each(|operation| operation.add_to(&mut batch, *id));
        }
        opened.store.end_values(&mut batch).expect("it is within all bounds");
        let mut bytes = Vec::new();
        batch.encode(&mut bytes);
        match opened.store.admit(bytes.len()).await {
            Err(StorageError::Busy { .. }) => {
                assert!(self.is_maintained(), "seed {}: nobody is to be refused", self.seed);
                self.history.borrow_mut().refused += 1;
                return Some(());
            }
            admitted => self.check(admitted)?,
        }
        self.history.borrow_mut().attempted = Some((changes.clone(), bytes.clone()));
        let view = BatchView::parse(&bytes).expect("it was encoded");
        opened.store.check(&view).expect("the keyspaces are there");
        opened.log.submit(&[&bytes], ()).ok()?;
        let committed = opened.log.committed().await.ok()?;
        assert_eq!(committed.len(), 1, "one is under way");
        let sequence = opened.sequences.next(committed[0].lsn.get());
        opened.store.apply(sequence, &view);
        let mut history = self.history.borrow_mut();
        history.attempted = None;
        history.acknowledged += 1;
        history.insert(sequence, changes);
        Some(())
    }

    /// Compares what is read with the model, now or in a snapshot.
    async fn read(&mut self, opened: &Opened, snapshot: Option<&Snapshot>) -> Option<()> {
        let which = self.random.below(2) as usize;
        let id = opened.keyspaces[which];
        let sequence = snapshot.map_or(u64::MAX, Snapshot::sequence);
        let expected = self.history.borrow().commits[which].seen(sequence, 2);
        for _ in 0..4 {
            let mut key = draw_key(&mut self.random);
            if !expected.is_empty() && self.random.below(2) == 0 {
                let at = self.random.below(expected.len() as u64) as usize;
                key.clone_from(&expected[at].0);
            }
            let found = self.check(opened.store.get(id, &key, snapshot).await)?;
            let is_there = expected.iter().find(|(other, _)| *other == key);
            let is_there = is_there.map(|(_, value)| &value[..]);
            assert_eq!(found.as_deref(), is_there, "seed {}: {key:?}", self.seed);
        }
        let cursor = opened.store.cursor(id, &Bounds::all(), snapshot);
        let mut cursor = cursor.expect("the keyspace is there");
        walk(&mut cursor, &expected, &mut self.random, false).await;
        Some(())
    }

    async fn run(mut self) -> Option<()> {
        let mut opened = self.open().await?;
        let maintenance = opened.store.clone().maintain();
        let _maintenance = self.is_maintained().then(|| self.env.spawn("maintenance", maintenance));
        let mut snapshots: Vec<Snapshot> = Vec::new();
        let mut flushing: Option<Flushing> = None;
        let mut compacting: Option<Compacting> = None;
        loop {
            match self.random.below(26) {
                0..14 => self.commit(&mut opened).await?,
                14 | 15 => {
                    // A flush goes on beside what comes next, until the next flush is to begin.
                    // Every fourth is dropped wherever it is.
                    let is_dropped = self.random.below(4) == 0;
                    if let Some(flush) = flushing.take().filter(|_| !is_dropped) {
                        self.check(flush.await)?;
                        self.history.borrow_mut().flushes += 1;
                    }
                    let id = opened.keyspaces[self.random.below(2) as usize];
                    let store = opened.store.clone();
                    flushing = Some(self.env.spawn("flush", async move { store.flush(id).await }));
                }
                // As compactions do, of which there may be nothing to do.
                21 | 22 => {
                    if let Some(compaction) = compacting.take() {
                        let (id, count) = self.check(compaction.await)?;
                        let version = opened.store.version();
                        let strategy = version.keyspace(id).map(|it| it.options().strategy);
                        let which = STRATEGIES.iter().position(|of| Some(*of) == strategy);
                        let which = which.expect("it was drawn of these");
                        self.history.borrow_mut().compactions[which] += count;
                    }
                    let id = opened.keyspaces[self.random.below(2) as usize];
                    let store = opened.store.clone();
                    let compact_some = async move {
                        let mut count = 0;
                        while count < 4 && store.compact(id).await? {
                            count += 1;
                        }
                        Ok((id, count))
                    };
                    let compaction = self.env.spawn("compaction", compact_some);
                    // Every fourth is dropped somewhere on its way.
                    if self.random.below(4) == 0 {
                        self.env.sleep(Duration::from_micros(self.random.below(1000))).await;
                        drop(compaction);
                    } else {
                        compacting = Some(compaction);
                    }
                }
                16 => opened.log.trim(Lsn::new(Sequences::lsn(opened.store.needed_from()))),
                17 => {
                    let removed = self.check(opened.store.remove_obsolete().await)?;
                    self.history.borrow_mut().removed += removed as u64;
                }
                18 => snapshots.push(opened.store.snapshot()),
                19 if !snapshots.is_empty() => {
                    let at = self.random.below(snapshots.len() as u64) as usize;
                    drop(snapshots.swap_remove(at));
                }
                20 if !snapshots.is_empty() => {
                    let at = self.random.below(snapshots.len() as u64) as usize;
                    self.read(&opened, Some(&snapshots[at])).await?;
                }
                _ => self.read(&opened, None).await?,
            }
        }
    }
}

impl History {
    fn insert(&mut self, sequence: u64, changes: Changes) {
        for (commits, changes) in self.commits.iter_mut().zip(changes) {
            commits.insert(sequence, changes);
        }
    }
}

#[test]
fn a_store_has_what_its_log_acknowledged_through_all_crashes() {
    let mut all = BTreeMap::new();
    for seed in 0..SEEDS {
        let world = World::new(seed);
        let machine = world.machine("one");
        let history = Rc::new(RefCell::new(History::default()));
        let mut choices = random(seed);
        for process in 0..PROCESSES {
            let (shared, failed) = (Rc::clone(&history), Rc::new(Cell::new(false)));
            let ended = Rc::clone(&failed);
            world.start(machine, 1, move |env| {
                let (history, ended) = (Rc::clone(&shared), Rc::clone(&ended));
                let random = random(seed * PROCESSES + process);
                let process = Process { seed, env, random, history };
                async move { ended.set(process.run().await.is_none()) }
            });
            let time = Duration::from_micros(1000 + choices.below(60_000));
            if seed % 4 == 3 && process + 1 < PROCESSES && choices.below(2) == 0 {
                world.run_for(time / 2);
                let operation = [DiskOperation::Write, DiskOperation::Sync];
                let operation = operation[choices.below(2) as usize];
                world.disk(machine).fail_next(operation, 1, ErrorKind::Other);
                world.run_for(time / 2);
                world.disk(machine).fail_no_more();
            } else {
                world.run_for(time);
            }
            history.borrow_mut().failures += u64::from(failed.get());
            match choices.below(3) {
                0 => world.power_cut(machine),
                1 => world.crash_os(machine),
                _ => world.kill(machine),
            }
            world.run_for(Duration::from_millis(50));
        }
        let history = history.borrow();
        for (what, count) in [
            ("commits", history.acknowledged),
            ("found though not acknowledged", history.found_attempted),
            ("flushes", history.flushes),
            ("levelled compactions", history.compactions[0]),
            ("universal compactions", history.compactions[1]),
            ("FIFO compactions", history.compactions[2]),
            ("refused", history.refused),
            ("files removed", history.removed),
            ("replayed", history.replayed),
            ("failed disks", history.failures),
        ] {
            *all.entry(what).or_insert(0) += count;
        }
    }
    let least = BTreeMap::from([
        ("commits", 40 * SEEDS),
        ("found though not acknowledged", SEEDS / 8),
        ("flushes", 2 * SEEDS),
        ("levelled compactions", SEEDS / 4),
        ("universal compactions", SEEDS / 10),
        ("FIFO compactions", SEEDS / 10),
        ("refused", SEEDS),
        ("files removed", SEEDS),
        ("replayed", 20 * SEEDS),
        ("failed disks", SEEDS / 8),
    ]);
    assert!(least.iter().all(|(what, least)| all[what] >= *least), "{all:?}");
}

async fn small_store(env: &SimEnv) -> Store<SimEnv> {
    env.disk().create_directory(Path::new("/store")).await.expect("a directory can be made");
    env.disk().sync_directory(Path::new("/")).await.expect("its name can be made durable");
    let levelled = LevelledOptions { runs: 1, ..LevelledOptions::default() };
    let manifest = ManifestOptions::small();
    let options = StoreOptions { manifest, levelled, ..StoreOptions::default() };
    let (operators, cache) = (Operators::default(), BlockCache::new(1 << 20));
    let opened = Store::open(env, Path::new("/store"), options, operators, &cache).await;
    opened.expect("there is nothing").0
}

fn put(store: &Store<SimEnv>, keyspace: u64, sequence: u64, key: &[u8]) {
    let (mut batch, mut bytes) = (WriteBatch::new(), Vec::new());
    batch.put(keyspace, key, b"value").expect("it is within all bounds");
    batch.encode(&mut bytes);
    store.apply(sequence, &BatchView::parse(&bytes).expect("it was encoded"));
}

async fn table_files(env: &SimEnv) -> usize {
    let files = env.disk().list(Path::new("/store")).await.expect("it is there");
    files.iter().filter(|file| file.name.ends_with(".table")).count()
}

#[test]
fn who_reads_from_a_keyspace_that_is_dropped_reads_on() {
    run_in(&quiet(1), |env| async move {
        let store = small_store(&env).await;
        let id = store.create_keyspace("k", KeyspaceOptions::default()).await;
        let id = id.expect("there is none");
        for sequence in 1..=3 {
            put(&store, id, sequence, &[sequence as u8]);
            store.flush(id).await.expect("the disk is healthy");
        }
        assert_eq!((table_files(&env).await, store.needed_from()), (3, 4));
        let mut cursor = store.cursor(id, &Bounds::all(), None).expect("it is there");
        cursor.seek_to_first().await.expect("the disk is healthy");
        store.drop_keyspace(id).await.expect("it is there");
        assert_eq!(store.remove_obsolete().await.expect("the disk is healthy"), 0);
        let mut seen = Vec::new();
        while let Some(key) = cursor.key() {
            seen.push(key.to_vec());
            cursor.next().await.expect("its tables are there");
        }
        assert_eq!(seen, [[1], [2], [3]]);
        assert_eq!(table_files(&env).await, 3);
        drop(cursor);
        assert_eq!(store.remove_obsolete().await.expect("the disk is healthy"), 3);
        assert_eq!(table_files(&env).await, 0);
        let gone = store.get(id, b"k", None).await.expect_err("it was dropped");
        assert!(matches!(gone, StorageError::NoKeyspace { id: of } if of == id), "{gone}");
        // What a commit says of it is passed over, and the rest is not.
        let other = store.create_keyspace("other", KeyspaceOptions::default()).await;
        let other = other.expect("there is none");
        let (mut batch, mut bytes) = (WriteBatch::new(), Vec::new());
        batch.put(id, b"k", b"gone").expect("it is within all bounds");
        batch.put(other, b"k", b"there").expect("it is within all bounds");
        batch.encode(&mut bytes);
        let batch = BatchView::parse(&bytes).expect("it was encoded");
        assert!(matches!(store.check(&batch), Err(StorageError::NoKeyspace { .. })));
        store.apply(4, &batch);
        let found = store.get(other, b"k", None).await.expect("it is in memory");
        assert_eq!(found.as_deref(), Some(&b"there"[..]));
        store.close().await.expect("all is durable");
    });
}

#[test]
fn keyspaces_that_make_no_sense_are_refused() {
    run_in(&quiet(1), |env| async move {
        let store = small_store(&env).await;
        let options = KeyspaceOptions::default();
        store.create_keyspace("k", options.clone()).await.expect("there is none");
        let twice = store.create_keyspace("k", options.clone()).await;
        assert!(matches!(twice, Err(StorageError::EditRefused { .. })), "{twice:?}");
        let merge_operator = Some("divide".to_owned());
        let unknown = KeyspaceOptions { merge_operator, ..options };
        let error = store.create_keyspace("other", unknown).await.expect_err("nobody divides");
        assert!(error.to_string().contains("no merge operator \"divide\""), "{error}");
        let names: Vec<String> =
            store.version().keyspaces().map(|keyspace| keyspace.name().to_owned()).collect();
        assert_eq!(names, ["k"]);
        let error = store.drop_keyspace(77).await.expect_err("there is none");
        assert!(matches!(error, StorageError::EditRefused { .. }), "{error}");
    });
}

#[test]
fn a_flush_that_fails_leaves_no_files_and_loses_nothing() {
    let world = quiet(1);
    let machine = world.machine("one");
    let disk = world.disk(machine);
    run_on(&world, machine, move |env| async move {
        let store = small_store(&env).await;
        let id = store.create_keyspace("k", KeyspaceOptions::default()).await;
        let id = id.expect("there is none");
        put(&store, id, 1, b"one");
        disk.fail_next(DiskOperation::Sync, 1, ErrorKind::Other);
        let failed = store.flush(id).await.expect_err("the table cannot be made durable");
        assert!(matches!(failed, StorageError::Io { .. }), "{failed}");
        assert_eq!((table_files(&env).await, store.needed_from()), (0, 1));
        put(&store, id, 2, b"two");
        store.flush(id).await.expect("the disk is healthy again");
        assert_eq!((table_files(&env).await, store.needed_from()), (2, 3));
        for key in [&b"one"[..], b"two"] {
            let found = store.get(id, key, None).await.expect("the disk is healthy");
            assert_eq!(found.as_deref(), Some(&b"value"[..]));
        }
    });
}

#[test]
fn who_reads_from_a_table_that_goes_down_a_level_and_is_rewritten_there_reads_on() {
    run_in(&quiet(1), |env| async move {
        let store = small_store(&env).await;
        let id = store.create_keyspace("k", KeyspaceOptions::default()).await;
        let id = id.expect("there is none");
        put(&store, id, 1, b"one");
        store.flush(id).await.expect("the disk is healthy");
        let mut cursor = store.cursor(id, &Bounds::all(), None).expect("it is there");
        let numbers = |store: &Store<SimEnv>| {
            let version = store.version();
            let keyspace = version.keyspace(id).expect("it is there");
            keyspace.tables().map(|table| (table.number, table.level)).collect::<Vec<_>>()
        };
        let before = numbers(&store);
        assert!(store.compact(id).await.expect("the disk is healthy"));
        assert_eq!(numbers(&store), [(before[0].0, LEVELLED_LEVELS as u8 - 1)], "as it was");
        put(&store, id, 2, b"one");
        store.flush(id).await.expect("the disk is healthy");
        assert!(store.compact(id).await.expect("the disk is healthy"));
        assert!(!store.compact(id).await.expect("the disk is healthy"), "there is no more");
        assert_eq!(store.remove_obsolete().await.expect("the disk is healthy"), 1);
        cursor.seek_to_first().await.expect("its table is there");
        assert_eq!(cursor.key(), Some(&b"one"[..]));
        drop(cursor);
        assert_eq!(store.remove_obsolete().await.expect("the disk is healthy"), 1);
        assert_eq!((numbers(&store).len(), table_files(&env).await), (1, 1));
    });
}
