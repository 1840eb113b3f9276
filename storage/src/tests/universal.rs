//! A universal keyspace keeps its runs in the order of their age, whatever is merged.

use std::path::Path;
use std::rc::Rc;

use futures_util::future::join;
use woodchuck_io::{Disk, Env};
use woodchuck_sim::SimEnv;

use super::place::{quiet, run_in};
use crate::compaction::UniversalOptions;
use crate::store::{Operators, Store, StoreOptions};
use crate::{
    BatchView, BlockCache, KeyspaceOptions, ManifestOptions, Strategy, TableMetadata, WriteBatch,
};

/// A store with a universal keyspace.
async fn universal_store(env: &SimEnv, universal: UniversalOptions) -> (Store<SimEnv>, u64) {
    env.disk().create_directory(Path::new("/store")).await.expect("a directory can be made");
    env.disk().sync_directory(Path::new("/")).await.expect("its name can be made durable");
    let manifest = ManifestOptions::small();
    let options = StoreOptions { manifest, universal, ..StoreOptions::default() };
    let (operators, cache) = (Operators::default(), BlockCache::new(1 << 20));
    let opened = Store::open(env, Path::new("/store"), options, operators, &cache).await;
    let (store, _) = opened.expect("there is nothing");
    let strategy = Strategy::Universal;
    let options = KeyspaceOptions { strategy, ..KeyspaceOptions::default() };
    let id = store.create_keyspace("k", options).await.expect("there is none");
    (store, id)
}

/// Commits changes, and flushes them into a run of their own.
async fn flush(store: &Store<SimEnv>, id: u64, sequence: u64, fill: impl FnOnce(&mut WriteBatch)) {
    let (mut batch, mut bytes) = (WriteBatch::new(), Vec::new());
    fill(&mut batch);
    batch.encode(&mut bytes);
    store.apply(sequence, &BatchView::parse(&bytes).expect("it was encoded"));
    store.flush(id).await.expect("the disk is healthy");
}

fn put(id: u64, key: &[u8], value: &[u8]) -> impl FnOnce(&mut WriteBatch) {
    move |batch| batch.put(id, key, value).expect("there is room")
}

fn tables(store: &Store<SimEnv>, id: u64) -> Vec<Rc<TableMetadata>> {
    let version = store.version();
    version.keyspace(id).expect("it is there").tables().cloned().collect()
}

async fn get(store: &Store<SimEnv>, id: u64, key: &[u8]) -> Option<Vec<u8>> {
    let found = store.get(id, key, None).await.expect("the disk is healthy");
    found.map(|value| value.to_vec())
}

/// A flush that begins and ends while runs are merged has the newer run, and its values are read.
#[test]
fn what_is_flushed_while_runs_are_merged_is_newer() {
    for seed in 0..20 {
        run_in(&quiet(seed), |env| async move {
            let universal = UniversalOptions { runs: 1, ..UniversalOptions::default() };
            let (store, id) = universal_store(&env, universal).await;
            // Enough that it takes longer to merge than to flush.
            let much = vec![7; 3 << 20];
            for sequence in 1..=2 {
                let old = put(id, b"k", b"old");
                let fill = |batch: &mut WriteBatch| {
                    put(id, &[sequence as u8], &much)(batch);
                    old(batch);
                };
                flush(&store, id, sequence, fill).await;
            }
            let merge = async {
                assert!(store.compact(id).await.expect("the disk is healthy"));
                assert_eq!(tables(&store, id).len(), 2, "the flush ended before");
            };
            let beside = async {
                flush(&store, id, 3, put(id, b"k", b"new")).await;
                assert_eq!(tables(&store, id).len(), 3, "what is merged is still there");
                assert_eq!(get(&store, id, b"k").await.as_deref(), Some(&b"new"[..]));
            };
            join(merge, beside).await;
            assert_eq!(get(&store, id, b"k").await.as_deref(), Some(&b"new"[..]));
            let sequences: Vec<u64> =
                tables(&store, id).iter().map(|table| table.largest_sequence).collect();
            assert_eq!(sequences, [3, 2], "the newest run comes first");
        });
    }
}

/// Deletions go with what they delete, not before.
#[test]
fn deletions_stay_while_an_older_run_may_have_their_keys() {
    run_in(&quiet(1), |env| async move {
        let universal = UniversalOptions { runs: 2, ratio_percent: 0, space_percent: 10_000 };
        let (store, id) = universal_store(&env, universal).await;
        let much = vec![7; 1 << 20];
        flush(&store, id, 1, |batch| {
            put(id, b"a", &much)(batch);
            put(id, b"b", b"old")(batch);
            put(id, b"c", b"old")(batch);
        })
        .await;
        flush(&store, id, 2, |batch| {
            batch.delete(id, b"b").expect("there is room");
            batch.delete(id, b"d").expect("there is room");
        })
        .await;
        flush(&store, id, 3, |batch| {
            batch.delete_range(id, b"c", b"d").expect("there is room");
        })
        .await;
        assert!(store.compact(id).await.expect("the disk is healthy"));
        assert!(!store.compact(id).await.expect("the disk is healthy"), "two runs may be there");
        let now = tables(&store, id);
        assert_eq!((now.len(), now[0].entries, now[0].range_tombstones), (2, 1, 1));
        for key in [b"b", b"c", b"d"] {
            assert_eq!(get(&store, id, key).await, None);
        }
        // With the oldest run, they go.
        let much = vec![7; 2 << 20];
        flush(&store, id, 4, put(id, b"a", &much)).await;
        while store.compact(id).await.expect("the disk is healthy") {}
        let now = tables(&store, id);
        let counts: Vec<_> =
            now.iter().map(|table| (table.entries, table.range_tombstones)).collect();
        assert_eq!(counts, [(1, 0)]);
    });
}

/// What is overwritten takes no more room than was asked for, and reads look into few runs.
#[test]
fn what_is_overwritten_takes_the_room_that_it_may() {
    for (runs, space_percent) in [(1, 1000), (3, 50), (4, 200), (8, 25)] {
        run_in(&quiet(1), move |env| async move {
            let universal = UniversalOptions { runs, ratio_percent: 1, space_percent };
            let (store, id) = universal_store(&env, universal).await;
            let value = vec![7; 5000];
            let fill = |first: u8, count: u8| {
                let value = &value;
                move |batch: &mut WriteBatch| {
                    (0..count).for_each(|key| put(id, &[first.wrapping_add(key)], value)(batch));
                }
            };
            let bytes = |store: &Store<SimEnv>| -> u64 {
                tables(store, id).iter().map(|table| table.file_bytes).sum()
            };
            flush(&store, id, 1, fill(0, u8::MAX)).await;
            let (all, mut most, mut most_runs, mut merges) = (bytes(&store), 0, 0, 0);
            for sequence in 2..150 {
                flush(&store, id, sequence, fill((17 * sequence) as u8, 20)).await;
                while store.compact(id).await.expect("the disk is healthy") {
                    merges += 1;
                }
                (most, most_runs) =
                    (most.max(bytes(&store)), most_runs.max(tables(&store, id).len()));
            }
            // Keys are added where the first flush left one out: a page or two.
            let may_have = (all + 2 * 5000) * (100 + space_percent) / 100;
            assert!(most <= may_have, "{most} of {may_have} bytes");
            assert!(most_runs <= runs && merges > 20, "{most_runs} runs, {merges} merges");
            store.remove_obsolete().await.expect("the disk is healthy");
            let files = env.disk().list(Path::new("/store")).await.expect("it is there");
            let files = files.iter().filter(|file| file.name.ends_with(".table")).count();
            assert_eq!(files, tables(&store, id).len());
        });
    }
}
