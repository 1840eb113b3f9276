//! What is in a FIFO keyspace ends, and goes with its table, and nothing that was hidden comes back.

use std::path::Path;
use std::time::Duration;

use woodchuck_io::{Disk, Env};
use woodchuck_sim::SimEnv;

use super::history::draw_key;
use super::place::{quiet, random, run_in};
use super::scan::{Commits, Operation, walk};
use crate::compaction::FifoOptions;
use crate::limits::{BATCH_BYTES, VALUE_BYTES};
use crate::store::{Operators, Store, StoreOptions};
use crate::{
    BatchError, BatchView, BlockCache, Bounds, KeyspaceOptions, Kind, ManifestOptions, Strategy,
    WriteBatch,
};

const TTL_MS: u64 = 1000;

/// A store with a FIFO keyspace, and one that is not.
struct Fixture {
    env: SimEnv,
    store: Store<SimEnv>,
    id: u64,
    other: u64,
    sequence: u64,
}

impl Fixture {
    async fn new(env: SimEnv, fifo: FifoOptions, table_bytes: u64) -> Self {
        env.disk().create_directory(Path::new("/store")).await.expect("a directory can be made");
        env.disk().sync_directory(Path::new("/")).await.expect("its name can be made durable");
        let manifest = ManifestOptions::small();
        let options = StoreOptions { manifest, fifo, table_bytes, ..StoreOptions::default() };
        let (operators, cache) = (Operators::default(), BlockCache::new(1 << 20));
        let opened = Store::open(&env, Path::new("/store"), options, operators, &cache).await;
        let (store, _) = opened.expect("there is nothing");
        let merge_operator = Some("append".to_owned());
        let plain = KeyspaceOptions { merge_operator, ..KeyspaceOptions::default() };
        let strategy = Strategy::Fifo { ttl_ms: TTL_MS };
        let ending = KeyspaceOptions { strategy, ..plain.clone() };
        let id = store.create_keyspace("ending", ending).await.expect("there is none");
        let other = store.create_keyspace("other", plain).await.expect("there is none");
        Self { env, store, id, other, sequence: 0 }
    }

    fn now_ms(&self) -> u64 {
        self.env.wall().as_millis() as u64
    }

    async fn wait(&self, milliseconds: u64) {
        self.env.sleep(Duration::from_millis(milliseconds)).await;
    }

    /// Commits a batch as the owner of a store does, without a log.
    fn commit(&mut self, mut batch: WriteBatch) {
        self.store.end_values(&mut batch).expect("there is room");
        let mut bytes = Vec::new();
        batch.encode(&mut bytes);
        self.sequence += 1;
        self.store.apply(self.sequence, &BatchView::parse(&bytes).expect("it was encoded"));
    }

    /// Commits changes, and flushes them into a run of their own.
    async fn flush(&mut self, fill: impl FnOnce(&mut WriteBatch, u64)) {
        let mut batch = WriteBatch::new();
        fill(&mut batch, self.id);
        self.commit(batch);
        self.store.flush(self.id).await.expect("the disk is healthy");
    }

    async fn compact(&self) -> u64 {
        let mut count = 0;
        while self.store.compact(self.id).await.expect("the disk is healthy") {
            count += 1;
        }
        count
    }

    /// How many tables there are, and how many files once nobody reads from others.
    async fn tables(&self) -> (usize, usize) {
        self.store.remove_obsolete().await.expect("the disk is healthy");
        let files = self.env.disk().list(Path::new("/store")).await.expect("it is there");
        let files = files.iter().filter(|file| file.name.ends_with(".table")).count();
        let version = self.store.version();
        (version.keyspace(self.id).expect("it is there").tables().count(), files)
    }

    async fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let found = self.store.get(self.id, key, None).await.expect("the disk is healthy");
        found.map(|value| value.to_vec())
    }
}

const NEVER: FifoOptions = FifoOptions { runs: 64, small_bytes: 0 };

#[test]
fn tables_go_when_their_values_have_ended() {
    run_in(&quiet(1), |env| async move {
        let mut fixture = Fixture::new(env, NEVER, 1 << 20).await;
        for key in [b"a", b"b", b"c"] {
            fixture.flush(|batch, id| batch.put(id, key, b"v").expect("there is room")).await;
            fixture.wait(400).await;
        }
        assert_eq!((fixture.compact().await, fixture.tables().await), (1, (2, 2)));
        assert_eq!(fixture.get(b"a").await, None);
        assert_eq!(fixture.get(b"b").await.as_deref(), Some(&b"v"[..]));
        // Who reads from a table reads on.
        let cursor = fixture.store.cursor(fixture.id, &Bounds::all(), None);
        let mut cursor = cursor.expect("the keyspace is there");
        cursor.seek_to_first().await.expect("the disk is healthy");
        fixture.wait(TTL_MS).await;
        assert_eq!((fixture.compact().await, fixture.tables().await), (1, (0, 2)));
        let mut seen = Vec::new();
        while let Some(key) = cursor.key() {
            seen.extend_from_slice(key);
            cursor.next().await.expect("the disk is healthy");
        }
        assert_eq!(seen, b"bc");
        drop(cursor);
        assert_eq!((fixture.compact().await, fixture.tables().await), (0, (0, 0)));
    });
}

#[test]
fn a_store_looks_by_itself_whether_tables_have_ended() {
    run_in(&quiet(1), |env| async move {
        let mut fixture = Fixture::new(env, NEVER, 1 << 20).await;
        let _maintenance = fixture.env.spawn("maintenance", fixture.store.clone().maintain());
        for key in [b"a", b"b"] {
            fixture.flush(|batch, id| batch.put(id, key, b"v").expect("there is room")).await;
            fixture.wait(TTL_MS / 2).await;
        }
        // The first ends about now.
        fixture.wait(TTL_MS / 4).await;
        assert_eq!(fixture.tables().await, (1, 1));
        fixture.wait(TTL_MS / 2).await;
        assert_eq!(fixture.tables().await, (0, 0));
    });
}

/// What hides an older value stays until that has ended, too: a value that ended first, a deletion,
/// a range deletion.
#[test]
fn what_hides_an_older_value_stays_as_long_as_that() {
    type Hide = fn(&mut WriteBatch, u64);
    let hides: [Hide; 3] = [
        |batch, id| batch.put_expiring(id, b"k", b"short", 1).expect("there is room"),
        |batch, id| batch.delete(id, b"k").expect("there is room"),
        |batch, id| batch.delete_range(id, b"a", b"z").expect("there is room"),
    ];
    for hide in hides {
        run_in(&quiet(1), move |env| async move {
            let mut fixture = Fixture::new(env, NEVER, 1 << 20).await;
            fixture.flush(|batch, id| batch.put(id, b"k", b"long").expect("there is room")).await;
            fixture.flush(hide).await;
            fixture.wait(TTL_MS / 2).await;
            assert_eq!((fixture.compact().await, fixture.tables().await), (0, (2, 2)));
            assert_eq!(fixture.get(b"k").await, None);
            fixture.wait(TTL_MS / 2).await;
            assert_eq!((fixture.compact().await, fixture.tables().await), (1, (0, 0)));
        });
    }
}

#[test]
fn small_runs_are_merged_and_end_together() {
    run_in(&quiet(1), |env| async move {
        let small_bytes = 1 << 20;
        let mut fixture = Fixture::new(env, FifoOptions { runs: 3, small_bytes }, 1 << 20).await;
        for (key, wait) in [(b"a", 10), (b"b", 20), (b"c", 0)] {
            fixture.flush(|batch, id| batch.put(id, key, b"v").expect("there is room")).await;
            assert!(key == b"c" || fixture.compact().await == 0);
            fixture.wait(wait).await;
        }
        assert_eq!((fixture.compact().await, fixture.tables().await), (1, (1, 1)));
        for key in [b"a", b"b", b"c"] {
            assert_eq!(fixture.get(key).await.as_deref(), Some(&b"v"[..]));
        }
        fixture.wait(TTL_MS - 5).await;
        assert_eq!(fixture.get(b"b").await, None);
        assert_eq!((fixture.compact().await, fixture.tables().await), (0, (1, 1)));
        fixture.wait(5).await;
        assert_eq!((fixture.compact().await, fixture.tables().await), (1, (0, 0)));
    });
}

/// Reads are those of a map with ends, while time goes on and tables go.
#[test]
fn a_fifo_keyspace_is_a_map_whose_values_end() {
    let (mut removed, mut merged, mut seen) = (0, 0, 0);
    for seed in 0..150 {
        let counts = run_in(&quiet(seed), move |env| async move {
            let mut random = random(seed);
            let small_bytes = [0, 30_000, 1 << 20][random.below(3) as usize];
            let table_bytes = [1, 3000, 1 << 20][random.below(3) as usize];
            let fifo = FifoOptions { runs: 2, small_bytes };
            let mut fixture = Fixture::new(env, fifo, table_bytes).await;
            let has_operands = seed % 4 == 0;
            let (mut commits, mut counts) = (Commits::default(), [0; 3]);
            let keys: Vec<Vec<u8>> = (0..12).map(|_| draw_key(&mut random)).collect();
            for number in 0..60 {
                let (now, mut batch) = (fixture.now_ms(), WriteBatch::new());
                let ends: Vec<u64> = [1, 300, 4000].iter().map(|after| now + after).collect();
                let mut operations = Vec::new();
                for _ in 0..=random.below(3) {
                    let value = format!("{number};");
                    let mut operation = Operation::draw(&mut random, &keys, &value, &ends);
                    if let Operation::Merge(key, value) = &operation
                        && !has_operands
                    {
                        operation = Operation::Put(key.clone(), value.clone());
                    }
                    operation.add_to(&mut batch, fixture.id);
                    // In the model, its end is said.
                    operations.push(match operation {
                        Operation::Put(key, value) => {
                            Operation::PutExpiring(key, value, now + TTL_MS)
                        }
                        other => other,
                    });
                }
                fixture.commit(batch);
                commits.insert(fixture.sequence, operations);
                if random.below(4) == 0 {
                    fixture.store.flush(fixture.id).await.expect("the disk is healthy");
                }
                if random.below(4) == 0 {
                    let numbers = |fixture: &Fixture| {
                        let version = fixture.store.version();
                        version.keyspace(fixture.id).map_or(0, |of| {
                            of.tables().map(|table| table.number).max().unwrap_or(0)
                        })
                    };
                    let before = (numbers(&fixture), fixture.tables().await.0);
                    let compacted = fixture.store.compact(fixture.id).await;
                    if compacted.expect("the disk is healthy") {
                        let is_merge = numbers(&fixture) > before.0;
                        counts[usize::from(is_merge)] += 1;
                    }
                }
                fixture.wait([0, 1, 50, 200, 1500][random.below(5) as usize]).await;
                let expected = commits.seen(u64::MAX, fixture.now_ms());
                counts[2] += expected.len();
                let cursor = fixture.store.cursor(fixture.id, &Bounds::all(), None);
                let mut cursor = cursor.expect("the keyspace is there");
                walk(&mut cursor, &expected, &mut random, false).await;
                for _ in 0..2 {
                    let key = &keys[random.below(keys.len() as u64) as usize];
                    let expected = commits.seen(u64::MAX, fixture.now_ms());
                    let expected = expected.into_iter().find(|(other, _)| other == key);
                    let found = fixture.get(key).await;
                    assert_eq!(found, expected.map(|(_, value)| value), "seed {seed}: {key:?}");
                }
            }
            // With time, all goes that can end.
            fixture.store.flush(fixture.id).await.expect("the disk is healthy");
            fixture.wait(5000).await;
            fixture.compact().await;
            if !has_operands {
                assert_eq!(fixture.tables().await, (0, 0), "seed {seed}");
            }
            counts
        });
        removed += counts[0];
        merged += counts[1];
        seen += counts[2];
    }
    assert!(removed > 400 && merged > 100 && seen > 10_000, "{removed} {merged} {seen}");
}

#[test]
fn values_of_fifo_keyspaces_are_given_their_end_before_they_are_committed() {
    run_in(&quiet(1), |env| async move {
        let fixture = Fixture::new(env, NEVER, 1 << 20).await;
        let (id, other) = (fixture.id, fixture.other);
        let mut batch = WriteBatch::new();
        for of in [id, other] {
            batch.put(of, b"a", b"value").expect("there is room");
            batch.put_expiring(of, b"b", b"sooner", 17).expect("there is room");
            batch.put_expiring(of, b"c", b"later", u64::MAX).expect("there is room");
            batch.delete(of, b"d").expect("there is room");
            batch.merge(of, b"e", b"operand").expect("there is room");
            batch.put(of, b"f", b"base").expect("there is room");
            batch.merge(of, b"f", b"operand").expect("there is room");
            batch.delete_range(of, b"x", b"z").expect("there is room");
        }
        let end = fixture.now_ms() + TTL_MS;
        fixture.store.end_values(&mut batch).expect("there is room");
        fixture.wait(500).await;
        // Once it is said, it is said.
        let bytes = |batch: &WriteBatch| {
            let mut bytes = Vec::new();
            batch.encode(&mut bytes);
            bytes
        };
        let first = bytes(&batch);
        fixture.store.end_values(&mut batch).expect("there is room");
        assert_eq!(bytes(&batch), first);
        let view = BatchView::parse(&first).expect("it was encoded");
        let ends = |of: u64| {
            let entries = view.entries(1).filter(move |(keyspace, _)| *keyspace == of);
            let ends = entries.map(|(_, entry)| (entry.kind, entry.expires_at_ms));
            ends.collect::<Vec<_>>()
        };
        let expected = |kind, end| {
            [
                (Kind::RangeDeletion, None),
                (kind, end),
                (Kind::ExpiringValue, Some(17)),
                (Kind::ExpiringValue, Some(u64::MAX)),
                (Kind::Deletion, None),
                (Kind::Merge, None),
                (Kind::Merge, None),
                (kind, end),
            ]
        };
        assert_eq!(ends(id), expected(Kind::ExpiringValue, Some(end)));
        assert_eq!(ends(other), expected(Kind::Value, None));
    });
}

#[test]
fn a_batch_that_has_no_room_for_ends_stays_as_it_is() {
    let mut batch = WriteBatch::new();
    batch.put(1, b"a", &vec![0; VALUE_BYTES]).expect("there is room");
    let rest = BATCH_BYTES - batch.bytes() - 16;
    batch.put(1, b"b", &vec![0; rest]).expect("there is room");
    assert!((1..16).contains(&(BATCH_BYTES - batch.bytes())), "{}", batch.bytes());
    let before = batch.clone();
    assert!(matches!(batch.end_values(1, 9), Err(BatchError::Full { .. })));
    assert!(batch == before);
    batch.end_values(2, 9).expect("nothing is given to its keys");
    assert!(batch == before);
    batch.put(1, b"b", b"short").expect("there is room");
    let bytes = batch.bytes();
    batch.end_values(1, 9).expect("there is room");
    assert_eq!(batch.bytes(), bytes + 16);
}
