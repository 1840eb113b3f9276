//! However a store is set up, the same operations have the same answers.
//!
//! Operations are drawn once, and made on stores that differ in all that can be chosen: blocks,
//! compression, filters, prefixes, how large tables and memtables become, how keyspaces are
//! compacted, what of them stays open and in memory. One store keeps everything in its memtable, and
//! the others are compared with it, answer by answer.

use std::collections::BTreeMap;
use std::path::Path;

use woodchuck_io::{Disk, Env, RandomStream};
use woodchuck_sim::SimEnv;

use super::history::draw_key;
use super::place::{draw_options, quiet, random, run_in};
use super::scan::Operation;
use crate::compaction::{FifoOptions, LevelledOptions, UniversalOptions};
use crate::store::{Operators, PacingOptions, Snapshot, Store, StoreOptions};
use crate::{
    BatchView, BlockCache, Bounds, Keyspace, KeyspaceOptions, ManifestOptions, ReadOptions,
    Strategy, TableMetadata, WriteBatch,
};

const SEEDS: u64 = 200;
/// Besides the store that has all in memory.
const STORES: u64 = 4;
const STEPS: u64 = 60;

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Operation>),
    Flush,
    /// Until there is nothing to be done.
    Compact,
    TakeSnapshot,
    DropSnapshot(usize),
    Get(Option<usize>, Vec<u8>),
    Walk(Option<usize>, Bounds, Vec<Move>),
}

#[derive(Clone, Debug)]
enum Move {
    First,
    Last,
    Seek(Vec<u8>),
    SeekForPrev(Vec<u8>),
    Next,
    Prev,
}

/// What was asked, and what was found.
type Answer = Option<(Vec<u8>, Vec<u8>)>;

impl Step {
    fn draw_all(random: &mut RandomStream) -> Vec<Self> {
        let keys: Vec<Vec<u8>> = (0..30).map(|_| draw_key(random)).collect();
        let mut snapshots = 0;
        let mut step = |number: u64| {
            let of =
                (snapshots > 0 && random.below(3) == 0).then(|| random.below(snapshots) as usize);
            match random.below(20) {
                0..10 => {
                    let operations = (0..=random.below(4)).map(|_| {
                        Operation::draw(random, &keys, &format!("{number};"), &[1, u64::MAX])
                    });
                    Self::Commit(operations.collect())
                }
                10 | 11 => Self::Flush,
                12 => Self::Compact,
                13 => {
                    snapshots += 1;
                    Self::TakeSnapshot
                }
                14 if snapshots > 0 => {
                    snapshots -= 1;
                    Self::DropSnapshot(random.below(snapshots + 1) as usize)
                }
                15 | 16 => Self::Get(of, keys[random.below(30) as usize].clone()),
                _ => {
                    let (one, other) = (draw_key(random), draw_key(random));
                    let bounds = match random.below(4) {
                        0 => Bounds::prefix(&one),
                        1 if one < other => Bounds::range(Some(&one), Some(&other)),
                        2 => Bounds::range(None, Some(&one)),
                        _ => Bounds::all(),
                    };
                    Self::Walk(of, bounds, Move::draw_all(random))
                }
            }
        };
        let mut steps: Vec<Self> = (0..STEPS).map(&mut step).collect();
        let [forwards, backwards] = [(Move::First, Move::Next), (Move::Last, Move::Prev)]
            .map(|(first, next)| [vec![first], vec![next; 40]].concat());
        steps.extend([
            Self::Flush,
            Self::Compact,
            Self::Walk(None, Bounds::all(), forwards),
            Self::Walk(None, Bounds::all(), backwards),
        ]);
        steps
    }
}

impl Move {
    fn draw_all(random: &mut RandomStream) -> Vec<Self> {
        let first = [Self::First, Self::Last][random.below(2) as usize].clone();
        let others = (0..random.below(20)).map(|_| match random.below(12) {
            0 => Self::Seek(draw_key(random)),
            1 => Self::SeekForPrev(draw_key(random)),
            2..8 => Self::Next,
            _ => Self::Prev,
        });
        [first].into_iter().chain(others).collect()
    }
}

/// How a store is set up.
#[derive(Clone, Debug)]
struct Setup {
    options: StoreOptions,
    keyspace: KeyspaceOptions,
    cache_bytes: u64,
    /// Commits between two flushes besides those that are asked for; none if it is never flushed.
    flush_every: Option<u64>,
}

impl Setup {
    fn in_memory() -> Self {
        let merge_operator = Some("append".to_owned());
        let keyspace = KeyspaceOptions { merge_operator, ..KeyspaceOptions::default() };
        let options = StoreOptions::default();
        Self { options, keyspace, cache_bytes: 1 << 20, flush_every: None }
    }

    fn draw(random: &mut RandomStream, strategy: Strategy) -> Self {
        fn one_of<T: Copy, const N: usize>(random: &mut RandomStream, of: [T; N]) -> T {
            of[random.below(N as u64) as usize]
        }
        let table = draw_options(random);
        let keyspace = KeyspaceOptions {
            strategy,
            prefix: table.prefix,
            merge_operator: Some("append".to_owned()),
            compression: table.compression,
        };
        let options = StoreOptions {
            manifest: ManifestOptions::small(),
            table,
            read: ReadOptions { pin_partitions: random.below(2) == 0 },
            table_bytes: one_of(random, [1, 3000, 1 << 20]),
            levelled: LevelledOptions {
                runs: 1 + random.below(3) as usize,
                base_bytes: one_of(random, [1, 30_000, 1 << 20]),
                growth: 2 + random.below(3),
                overlap: one_of(random, [1, 2, 10]),
            },
            universal: UniversalOptions {
                runs: 1 + random.below(5) as usize,
                ratio_percent: one_of(random, [0, 1, 50]),
                space_percent: one_of(random, [10, 100, 1000]),
            },
            fifo: FifoOptions {
                runs: 2 + random.below(3) as usize,
                small_bytes: one_of(random, [0, 40_000, 1 << 20]),
            },
            pacing: PacingOptions::default(),
            open_tables: one_of(random, [1, 1, 3, 100]),
        };
        let cache_bytes = one_of(random, [0, 5000, 1 << 20]);
        Self { options, keyspace, cache_bytes, flush_every: Some(1 + random.below(12)) }
    }
}

/// What happened, so that it is known that it did.
type Counts = BTreeMap<&'static str, u64>;

struct Running {
    store: Store<SimEnv>,
    setup: Setup,
    id: u64,
    sequence: u64,
    snapshots: Vec<Snapshot>,
    answers: Vec<Answer>,
    counts: Counts,
}

/// Makes all steps on a new store, and gives the answers.
async fn answers(env: SimEnv, setup: Setup, steps: &[Step]) -> (Vec<Answer>, Counts) {
    env.disk().create_directory(Path::new("/store")).await.expect("a directory can be made");
    env.disk().sync_directory(Path::new("/")).await.expect("its name can be made durable");
    let (operators, cache) = (Operators::default(), BlockCache::new(setup.cache_bytes));
    let options = setup.options.clone();
    let opened = Store::open(&env, Path::new("/store"), options, operators, &cache).await;
    let (store, _) = opened.expect("there is nothing");
    let id = store.create_keyspace("k", setup.keyspace.clone()).await.expect("there is none");
    let mut running = Running {
        store,
        setup,
        id,
        sequence: 0,
        snapshots: Vec::new(),
        answers: Vec::new(),
        counts: Counts::new(),
    };
    for step in steps {
        running.make(step).await;
    }
    (running.answers, running.counts)
}

impl Running {
    fn count(&mut self, what: &'static str, by: u64) {
        *self.counts.entry(what).or_default() += by;
    }

    async fn make(&mut self, step: &Step) {
        match step {
            Step::Commit(operations) => self.commit(operations).await,
            Step::Flush => self.flush().await,
            Step::Compact => self.compact().await,
            Step::TakeSnapshot => self.snapshots.push(self.store.snapshot()),
            Step::DropSnapshot(at) => drop(self.snapshots.remove(*at)),
            Step::Get(of, key) => {
                let snapshot = of.map(|at| &self.snapshots[at]);
                let found = self.store.get(self.id, key, snapshot).await;
                let found = found.expect("the disk is healthy");
                self.answers.push(found.map(|value| (key.clone(), value.to_vec())));
            }
            Step::Walk(of, bounds, moves) => {
                let snapshot = of.map(|at| &self.snapshots[at]);
                let cursor = self.store.cursor(self.id, bounds, snapshot);
                let mut cursor = cursor.expect("the keyspace is there");
                for step in moves {
                    let moved = match step {
                        Move::First => cursor.seek_to_first().await,
                        Move::Last => cursor.seek_to_last().await,
                        Move::Seek(key) => cursor.seek(key).await,
                        Move::SeekForPrev(key) => cursor.seek_for_prev(key).await,
                        Move::Next => cursor.next().await,
                        Move::Prev => cursor.prev().await,
                    };
                    moved.expect("the disk is healthy");
                    let value = cursor.value().map(|value| value.to_vec());
                    self.answers.push(cursor.key().map(<[u8]>::to_vec).zip(value));
                }
            }
        }
    }

    async fn commit(&mut self, operations: &[Operation]) {
        let (mut batch, mut bytes) = (WriteBatch::new(), Vec::new());
        operations.iter().for_each(|operation| operation.add_to(&mut batch, self.id));
        self.store.end_values(&mut batch).expect("it is within all bounds");
        batch.encode(&mut bytes);
        self.sequence += 1;
        self.store.apply(self.sequence, &BatchView::parse(&bytes).expect("it was encoded"));
        if self.setup.flush_every.is_some_and(|every| self.sequence.is_multiple_of(every)) {
            self.flush().await;
        }
    }

    async fn flush(&mut self) {
        if self.setup.flush_every.is_some() {
            self.store.flush(self.id).await.expect("the disk is healthy");
            self.count("flushes", 1);
        }
    }

    async fn compact(&mut self) {
        let keyspace = |store: &Store<SimEnv>, id| {
            std::rc::Rc::clone(store.version().keyspace(id).expect("it is there"))
        };
        let mut before = keyspace(&self.store, self.id);
        while self.store.compact(self.id).await.expect("the disk is healthy") {
            let now = keyspace(&self.store, self.id);
            self.check_compaction(&before, &now);
            before = now;
        }
        let runs = before.levels().iter().flat_map(|level| level.runs());
        let runs = runs.map(|run| run.tables().iter().map(|table| table.file_bytes).sum());
        let sizes: Vec<u64> = runs.collect();
        if self.setup.keyspace.strategy == Strategy::Universal
            && let Some((&oldest, newer)) = sizes.split_last()
        {
            let options = self.setup.options.universal;
            assert!(sizes.len() <= options.runs, "{sizes:?}");
            let newer: u64 = newer.iter().sum();
            assert!(100 * newer <= options.space_percent * oldest, "{sizes:?}");
            self.count("universal runs beside the oldest", sizes.len() as u64 - 1);
        }
        self.store.remove_obsolete().await.expect("the disk is healthy");
    }

    /// Counts what was done, and looks at what came of it.
    fn check_compaction(&mut self, before: &Keyspace, now: &Keyspace) {
        let was_there =
            |table: &TableMetadata| before.tables().any(|other| other.number == table.number);
        let made: Vec<_> = now.tables().filter(|table| !was_there(table)).collect();
        let is_smaller = now.tables().count() < before.tables().count();
        let what = match (self.setup.keyspace.strategy, made.len()) {
            (Strategy::Levelled, 0) => "levelled moves",
            (Strategy::Levelled, 1) => "levelled into one",
            (Strategy::Levelled, _) => "levelled into several",
            (Strategy::Universal, 0 | 1) => "universal into one",
            (Strategy::Universal, _) => "universal into several",
            (Strategy::Fifo { .. }, 0) if is_smaller => "FIFO removals",
            (Strategy::Fifo { .. }, _) => "FIFO merges",
        };
        self.count(what, 1);
        if self.setup.keyspace.strategy != Strategy::Levelled {
            assert!(now.levels().len() <= 1, "all runs are in level 0");
            return;
        }
        let StoreOptions { table_bytes, levelled, .. } = self.setup.options;
        let most = table_bytes * levelled.overlap as u64;
        let stood_there = |table: &&std::rc::Rc<TableMetadata>| {
            before.tables().any(|other| (other.number, other.level) == (table.number, table.level))
        };
        // Those that were moved, too; where range tombstones go by themselves, nothing is cut.
        let placed = now.tables().filter(|table| !stood_there(table));
        for table in placed.filter(|table| table.range_tombstones == 0) {
            let below = before.levels().get(usize::from(table.level) + 1);
            let below = below.into_iter().flat_map(|level| level.runs());
            let below = below.flat_map(|run| run.tables());
            let over = below.filter(|below| !below.is_before(table) && !table.is_before(below));
            let over: Vec<u64> = over.map(|below| below.file_bytes).collect();
            let bytes: u64 = over.iter().sum();
            assert!(over.len() <= 1 || bytes <= most, "{table:?} is over {over:?}");
            self.count("levelled over others", u64::from(!over.is_empty()));
        }
    }
}

#[test]
fn however_a_store_is_set_up_it_has_the_same_answers() {
    let (mut all, mut found) = (Counts::new(), 0);
    for seed in 0..SEEDS {
        let mut random = random(seed);
        let steps = Step::draw_all(&mut random);
        let mut expected = Vec::new();
        for store in 0..=STORES {
            let fifo = Strategy::Fifo { ttl_ms: 1 << 40 };
            let setup = match store {
                0 => Setup::in_memory(),
                1 => Setup::draw(&mut random, Strategy::Levelled),
                2 => Setup::draw(&mut random, Strategy::Universal),
                3 => Setup::draw(&mut random, fifo),
                _ => {
                    let strategies = [Strategy::Levelled, Strategy::Universal, fifo];
                    let strategy = strategies[random.below(3) as usize];
                    Setup::draw(&mut random, strategy)
                }
            };
            let (steps, of_setup) = (steps.clone(), setup.clone());
            let (answers, counts) =
                run_in(&quiet(seed), |env| async move { answers(env, of_setup, &steps).await });
            for (what, count) in counts {
                *all.entry(what).or_default() += count;
            }
            if store == 0 {
                found += answers.iter().flatten().count();
                expected = answers;
                continue;
            }
            assert_eq!(answers.len(), expected.len());
            let differ = answers.iter().zip(&expected).position(|(one, other)| one != other);
            if let Some(at) = differ {
                let (one, other) = (&answers[at], &expected[at]);
                panic!("seed {seed}: answer {at} is {one:?}, in memory {other:?}: {setup:?}");
            }
        }
    }
    let least = Counts::from([
        ("flushes", 30 * SEEDS),
        ("levelled moves", SEEDS / 4),
        ("levelled into one", SEEDS / 2),
        ("levelled into several", SEEDS / 2),
        ("levelled over others", SEEDS / 8),
        ("universal into one", SEEDS / 2),
        ("universal into several", SEEDS / 2),
        ("universal runs beside the oldest", SEEDS / 2),
        ("FIFO merges", SEEDS / 2),
        ("FIFO removals", SEEDS / 10),
    ]);
    let count = |what: &str| all.get(what).copied().unwrap_or(0);
    assert!(least.iter().all(|(what, least)| count(what) >= *least), "{all:?}");
    assert!(found as u64 > 30 * SEEDS, "{found} answers have a value");
}
