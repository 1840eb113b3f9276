//! Rewriting changes nothing that a live snapshot sees, and leaves out what none can see.

use std::path::Path;
use std::rc::Rc;

use woodchuck_io::{Disk, Env};
use woodchuck_sim::{SimEnv, World};

use super::history::{History, Key, Value, Version};
use super::manifest::table;
use super::place::{
    DIRECTORY, ID, SimTable, create, draw_options, quiet, random, run_in, write_as,
};
use super::scan::{COMMITS, Commits, TIMES, walk};
use crate::compaction::{Cuts, Older, Output, Produced, Retention, rewrite};
use crate::scan::{Append, MergeOperator, SnapshotCursor};
use crate::{
    BlockCache, Bounds, Cursor, Kind, RangeTombstone, ReadOptions, StorageError, Table, TableId,
    TableMetadata, TableOptions, TableWriter,
};

type SimDisk = <SimEnv as Env>::Disk;
type SimFile = <SimDisk as Disk>::File;

/// Tables of a directory, numbered as they are made.
pub(super) struct Numbered {
    env: SimEnv,
    options: TableOptions,
    /// Of the table that was made last.
    id: TableId,
    paced: usize,
}

impl Numbered {
    pub(super) fn new(
        env: &SimEnv,
        options: TableOptions,
        store: u128,
        keyspace: u64,
        number: u64,
    ) -> Self {
        Self { env: env.clone(), options, id: TableId { store, keyspace, number }, paced: 0 }
    }
}

impl Output for Numbered {
    type Disk = SimDisk;

    async fn begin(&mut self) -> Result<TableWriter<SimDisk>, StorageError> {
        self.id.number += 1;
        let directory = Path::new(DIRECTORY);
        TableWriter::create(self.env.disk(), directory, self.id, self.options.clone()).await
    }

    async fn pace(&mut self, bytes: usize) {
        self.paced += bytes;
    }
}

impl Older for History {
    fn may_have(&self, start: &[u8], end: &[u8]) -> bool {
        self.entries.keys().any(|(key, _)| start <= &key[..] && &key[..] < end)
            || self.tombstones.iter().any(|(from, to, _)| start < &to[..] && &from[..] < end)
    }
}

async fn open(env: &SimEnv, number: u64) -> SimTable {
    let id = TableId { number, ..ID };
    let (cache, options) = (BlockCache::new(1 << 20), ReadOptions::default());
    let table = Table::open(env.disk(), Path::new(DIRECTORY), id, &cache, options).await;
    table.expect("it was finished")
}

/// Everything that a table has.
async fn contents(table: &SimTable) -> History {
    let mut history = History::default();
    let mut cursor: Cursor<SimFile> = table.cursor(Bounds::all());
    cursor.seek_to_first().await.expect("the disk is healthy");
    while let Some(entry) = cursor.entry() {
        let version = Version { sequence: entry.sequence, kind: entry.kind };
        let content = (entry.expires_at_ms, entry.value.to_vec());
        history.entries.insert((entry.user_key.to_vec(), version), content);
        cursor.next().await.expect("the disk is healthy");
    }
    let tombstones = table.range_tombstones().iter();
    history.tombstones =
        tombstones.map(|one| (one.start, one.end.to_vec(), one.sequence)).collect();
    history
}

/// What there is to rewrite, and how.
struct Case {
    tables: Vec<SimTable>,
    older: History,
    snapshots: Vec<u64>,
    now_ms: u64,
    table_bytes: u64,
    operator: Rc<dyn MergeOperator>,
}

/// Appends, and cannot say what several operands do together.
struct OneByOne;

impl MergeOperator for OneByOne {
    fn name(&self) -> &str {
        "one by one"
    }

    fn merge(
        &self,
        key: &[u8],
        existing: Option<&[u8]>,
        operands: &[&[u8]],
    ) -> Result<Vec<u8>, String> {
        Append.merge(key, existing, operands)
    }
}

impl Case {
    async fn rewrite(&self, output: &mut Numbered) -> Vec<Produced> {
        let sources = self.tables.iter().map(|table| table.cursor(Bounds::all())).collect();
        let of_tables = self.tables.iter().flat_map(|table| table.range_tombstones().iter());
        let tombstones: Vec<RangeTombstone> = of_tables.collect();
        let operator = Some(&*self.operator);
        let retention = Retention { snapshots: &self.snapshots, now_ms: self.now_ms, operator };
        let cuts = Cuts::at(self.table_bytes);
        let made = rewrite(sources, &tombstones, retention, &self.older, output, cuts).await;
        made.expect("the disk is healthy")
    }
}

const SEEDS: u64 = 600;

#[test]
fn rewriting_changes_nothing_that_a_snapshot_sees() {
    for seed in 0..SEEDS {
        run_in(&World::new(seed), move |env| compare(env, seed));
    }
}

async fn compare(env: SimEnv, seed: u64) {
    let mut random = random(seed);
    let commits = Commits::draw(&mut random);
    let mut histories = commits.spread_in_order(2 + random.below(4));
    let mut older = History::default();
    if random.below(2) == 0 {
        older = histories.remove(0);
    }
    let mut number = 0;
    let mut tables = Vec::new();
    for history in histories.iter_mut().chain([&mut older]) {
        history.cut_tombstones();
        if !history.entries.is_empty() || !history.tombstones.is_empty() {
            number += 1;
            let id = TableId { number, ..ID };
            write_as(&env, id, history, TableOptions::default()).await.expect("it is healthy");
            tables.push(open(&env, number).await);
        }
    }
    let has_older = !older.entries.is_empty() || !older.tombstones.is_empty();
    let below = has_older.then(|| tables.pop().expect("it was written last"));
    let mut snapshots: Vec<u64> = (0..random.below(5)).map(|_| random.below(COMMITS + 2)).collect();
    snapshots.sort_unstable();
    snapshots.dedup();
    let table_bytes = [1, 5000, 20_000, 1 << 20][random.below(4) as usize];
    let now_ms = random.below(TIMES);
    let operator: Rc<dyn MergeOperator> =
        if random.below(2) == 0 { Rc::new(Append) } else { Rc::new(OneByOne) };
    let case = Case { tables, older, snapshots, now_ms, table_bytes, operator };
    let options = draw_options(&mut random);
    let mut output = Numbered::new(&env, options, ID.store, ID.keyspace, number);
    let made = case.rewrite(&mut output).await;
    let read: u64 = case.tables.iter().map(|table| table.properties().user_bytes).sum();
    let of_ranges: usize = case
        .tables
        .iter()
        .flat_map(|table| table.range_tombstones().iter())
        .map(|tombstone| tombstone.start.len() + tombstone.end.len())
        .sum();
    assert_eq!(output.paced + of_ranges, read as usize, "all that was read is told of");
    let mut rewritten = Vec::new();
    for produced in &made {
        rewritten.push(open(&env, produced.finished.id.number).await);
    }
    check_shape(&case, &made, &rewritten).await;

    let live = case.snapshots.iter().copied().chain([u64::MAX]);
    for snapshot in live {
        let now_ms = case.now_ms + random.below(TIMES - case.now_ms + 1);
        let all = rewritten.iter().chain(&below);
        let sources = all.map(|table| table.cursor(Bounds::all())).collect();
        let mut cursor = SnapshotCursor::new(sources, snapshot, now_ms, Some(Rc::new(Append)));
        walk(&mut cursor, &commits.seen(snapshot, now_ms), &mut random, false).await;
    }
}

/// Tables are in order, hold what they say, and nothing that nobody can see.
async fn check_shape(case: &Case, made: &[Produced], tables: &[SimTable]) {
    let metadata: Vec<_> = made.iter().map(|produced| produced.metadata(1, 0)).collect();
    assert!(metadata.is_sorted_by(TableMetadata::is_before), "{metadata:?}");
    let stripes = case.snapshots.len() + 1;
    for (metadata, table) in metadata.iter().zip(tables) {
        let history = contents(table).await;
        let keys: Vec<&Vec<u8>> = history.entries.keys().map(|(key, _)| key).collect();
        assert!(keys.iter().all(|key| metadata.may_hold(key)), "{metadata:?}");
        let in_range = |(from, to, _): &(Vec<u8>, Vec<u8>, u64)| {
            metadata.may_hold(from) && *to <= metadata.largest_key
        };
        assert!(history.tombstones.iter().all(in_range), "{metadata:?}");
        for versions in keys.chunk_by(|one, next| one == next) {
            assert!(versions.len() <= 2 * stripes, "{} versions", versions.len());
        }
        if case.snapshots.is_empty() && case.older.entries.is_empty() {
            let is_seen = |(entry, (ends, _)): (&Key, &Value)| {
                entry.1.kind != Kind::Deletion && ends.is_none_or(|ends| ends > case.now_ms)
            };
            assert!(history.entries.iter().all(is_seen), "{history:?}");
            assert!(history.tombstones.is_empty() || !case.older.tombstones.is_empty());
        }
    }
}

/// Range tombstones that do not fit one table go into several, without a key in common.
#[test]
fn range_tombstones_go_into_as_many_tables_as_they_need() {
    run_in(&quiet(1), |env| async move {
        let key = |number: usize| [&number.to_be_bytes()[..], &[7; 60_000]].concat();
        let mut history = History::default();
        for number in 0..100 {
            history.tombstones.push((key(2 * number), key(2 * number + 3), 5 + number as u64));
            if number % 10 == 0 {
                let version = Version { sequence: 1000, kind: Kind::Value };
                history.entries.insert((key(2 * number), version), (None, b"v".to_vec()));
            }
        }
        let all: Vec<RangeTombstone> = history
            .tombstones
            .iter()
            .map(|(start, end, sequence)| RangeTombstone {
                start: start.clone(),
                end: end.clone().into(),
                sequence: *sequence,
            })
            .collect();
        drop(create(&env, TableOptions::default()).await.expect("the directory is made"));
        let mut output = Numbered::new(&env, TableOptions::default(), ID.store, ID.keyspace, 100);
        let older = history.clone();
        let retention = Retention { snapshots: &[], now_ms: 0, operator: None };
        let sources = super::scan::plain(
            &[History { tombstones: vec![], ..history.clone() }],
            0,
            &Rc::default(),
            &mut random(1),
        );
        let cuts = Cuts::at(1 << 30);
        let made = rewrite(sources, &all, retention, &older, &mut output, cuts).await;
        let made = made.expect("the disk is healthy");
        assert!(made.len() > 2, "{} tables", made.len());
        let metadata: Vec<_> = made.iter().map(|produced| produced.metadata(1, 0)).collect();
        assert!(metadata.is_sorted_by(TableMetadata::is_before), "{metadata:?}");
        let (mut entries, mut covered) = (0, vec![0; 203]);
        for metadata in &metadata {
            let found = contents(&open(&env, metadata.number).await).await;
            entries += found.entries.len();
            for (start, end, sequence) in &found.tombstones {
                assert!(metadata.may_hold(start) && *end <= metadata.largest_key);
                for (number, newest) in covered.iter_mut().enumerate() {
                    if *start <= key(number) && key(number) < *end {
                        assert_eq!(*newest, 0, "one remains over each key");
                        *newest = *sequence;
                    }
                }
            }
        }
        assert_eq!(entries, 10);
        for (number, newest) in covered.iter().enumerate() {
            let expected = history.tombstone_over(&key(number), u64::MAX).unwrap_or(0);
            assert_eq!(*newest, expected, "over key {number}");
        }
    });
}

/// A table ends where it would lie over too much, counting what stands between two of its keys.
#[test]
fn tables_end_where_they_would_lie_over_too_much() {
    run_in(&quiet(1), |env| async move {
        drop(create(&env, TableOptions::default()).await.expect("the directory is made"));
        let key = |number: u64| format!("{number:04}");
        // Each over ten keys, with a gap in front of the next, and over nothing from 50 to 69.
        let below = (0..10).filter(|tens| !(5..7).contains(tens)).map(|tens| {
            let (first, last) = (key(10 * tens), key(10 * tens + 8));
            Rc::new(TableMetadata { level: 5, ..table(1, 500 + tens, &first, &last) })
        });
        let below: Vec<_> = below.collect();
        let file = below[0].file_bytes;
        let bounds = [0, 10, 20, 30, 40, 70, 80, 90, 100];
        let each = bounds.windows(2).map(|pair| (pair[0], pair[1])).collect();
        let mut number = 1000;
        for (step, below_bytes, expected) in [
            // Over one each, over two, over all.
            (1, file, each),
            (1, 2 * file, vec![(0, 20), (20, 40), (40, 80), (80, 100)]),
            (1, 3 * file - 1, vec![(0, 20), (20, 40), (40, 80), (80, 100)]),
            (1, 8 * file, vec![(0, 100)]),
            // From one key to the next are several: no table has both.
            (35, file, vec![(0, 1), (35, 36), (70, 71)]),
            (35, 4 * file, vec![(0, 36), (70, 71)]),
        ] {
            let mut history = History::default();
            for number in (0..100).step_by(step) {
                let version = Version { sequence: 100, kind: Kind::Value };
                history.entries.insert((key(number).into(), version), (None, b"v".to_vec()));
            }
            let sources = super::scan::plain(&[history], 0, &Rc::default(), &mut random(number));
            let retention = Retention { snapshots: &[], now_ms: 0, operator: None };
            let mut output =
                Numbered::new(&env, TableOptions::default(), ID.store, ID.keyspace, number);
            let cuts = Cuts { table_bytes: 1 << 30, below: &below, below_bytes };
            let older = History::default();
            let made = rewrite(sources, &[], retention, &older, &mut output, cuts).await;
            let made = made.expect("the disk is healthy");
            let of = |produced: &Produced| {
                let metadata = produced.metadata(4, 0);
                (metadata.smallest_key, metadata.largest_key)
            };
            let found: Vec<_> = made.iter().map(of).collect();
            let last = |end: u64| (0..end).rev().find(|one| one.is_multiple_of(step as u64));
            let named = |&(start, end): &(u64, u64)| {
                let last = last(end).expect("0 is one of them");
                (key(start).into_bytes(), key(last).into_bytes())
            };
            assert_eq!(found, expected.iter().map(named).collect::<Vec<_>>(), "{below_bytes}");
            number += 200;
        }
    });
}
