//! Numbers of a store, checkpoints and destruction, on small stores whose every file is known.

use std::io::ErrorKind;
use std::path::Path;

use woodchuck_io::{Disk, Env};
use woodchuck_sim::{DiskOperation, SimEnv};

use super::place::{quiet, run_in, run_on};
use crate::compaction::LevelledOptions;
use crate::offline::destroy::destroy;
use crate::offline::{find, is_store};
use crate::store::{Checkpoint, Operators, Sequences, Store, StoreOptions};
use crate::{
    BatchView, BlockCache, KeyspaceOptions, ManifestOptions, StorageError, Strategy, WriteBatch,
};

async fn open(env: &SimEnv, directory: &str) -> Result<Store<SimEnv>, StorageError> {
    let levelled = LevelledOptions { runs: 1, ..LevelledOptions::default() };
    let manifest = ManifestOptions::small();
    let options = StoreOptions { manifest, levelled, ..StoreOptions::default() };
    let (operators, cache) = (Operators::default(), BlockCache::new(1 << 20));
    let (store, opened) =
        Store::open(env, Path::new(directory), options, operators, &cache).await?;
    assert_eq!((opened.damaged, opened.left_alone), (vec![], vec![]));
    Ok(store)
}

/// An empty store in `/store`, with a keyspace.
async fn small_store(env: &SimEnv) -> (Store<SimEnv>, u64) {
    env.disk().create_directory(Path::new("/store")).await.expect("a directory can be made");
    env.disk().sync_directory(Path::new("/")).await.expect("its name can be made durable");
    let store = open(env, "/store").await.expect("there is nothing");
    let id = store.create_keyspace("k", KeyspaceOptions::default()).await;
    (store, id.expect("there is none"))
}

fn put(store: &Store<SimEnv>, keyspace: u64, sequence: u64, key: &[u8], value: &[u8]) {
    let (mut batch, mut bytes) = (WriteBatch::new(), Vec::new());
    batch.put(keyspace, key, value).expect("it is within all bounds");
    batch.encode(&mut bytes);
    store.apply(sequence, &BatchView::parse(&bytes).expect("it was encoded"));
}

async fn value(store: &Store<SimEnv>, keyspace: u64, key: &[u8]) -> Option<Vec<u8>> {
    let found = store.get(keyspace, key, None).await.expect("the disk is healthy");
    found.map(|value| value.to_vec())
}

async fn names(env: &SimEnv, directory: &str) -> Vec<String> {
    let entries = env.disk().list(Path::new(directory)).await.expect("it is there");
    let mut names: Vec<String> = entries.into_iter().map(|entry| entry.name).collect();
    names.sort();
    names
}

#[test]
fn the_numbers_of_a_store_are_exact() {
    run_in(&quiet(1), |env| async move {
        let (store, id) = small_store(&env).await;
        let none = store.statistics();
        assert_eq!((none.write_amplification(), none.read_amplification()), (None, None));
        assert_eq!(none.keyspaces[0].space_amplification(), None);
        assert_eq!((none.cache.budget, none.keyspaces[0].levels.len()), (1 << 20, 0));

        put(&store, id, 1, b"one", b"value");
        put(&store, id, 2, b"two", b"value");
        let of = store.statistics();
        assert_eq!((of.applied_bytes, of.flushed_bytes), (16, 0));
        let active = of.keyspaces[0].active;
        assert_eq!((active.memtables, active.entries), (1, 2));
        assert_eq!(active.bytes, store.memtable_bytes());
        assert_eq!(of.keyspaces[0].frozen.memtables, 0);
        // In memory: no table is looked into.
        assert!(value(&store, id, b"one").await.is_some());
        assert_eq!((store.statistics().point_reads, store.statistics().tables_read), (1, 0));

        store.flush(id).await.expect("the disk is healthy");
        let of = store.statistics();
        let bytes = of.keyspaces[0].table_bytes();
        assert_eq!((of.flushed_bytes, of.keyspaces[0].active.entries), (bytes, 0));
        let levels = &of.keyspaces[0].levels;
        assert_eq!((levels.len(), levels[0].runs, levels[0].tables), (1, 1, 1));
        assert_eq!((levels[0].entries, levels[0].bytes), (2, bytes));
        assert_eq!(of.write_amplification(), Some(bytes as f64 / 16.0));
        assert_eq!(of.keyspaces[0].space_amplification(), Some(1.0));

        // The second has another of the two keys: a filter passes the read on, or lets it in.
        put(&store, id, 3, b"one", b"newer");
        store.flush(id).await.expect("the disk is healthy");
        let before = store.statistics();
        assert_eq!(value(&store, id, b"one").await.as_deref(), Some(&b"newer"[..]));
        let of = store.statistics();
        let asked = |of: &crate::store::Statistics| {
            (of.point_reads, of.tables_read, of.filters_asked, of.filters_denied, of.filters_false)
        };
        assert_eq!(asked(&before), (1, 0, 0, 0, 0));
        assert_eq!(asked(&of), (2, 1, 1, 0, 0), "the newer table decides");
        // Filter, partition and block of that table were read.
        assert_eq!((of.cache.hits, of.cache.misses), (0, 3));
        assert!(value(&store, id, b"one").await.is_some());
        assert_eq!((store.statistics().cache.hits, store.statistics().cache.misses), (3, 3));
        // Between the keys of the older table, and outside of the newer one.
        assert_eq!(value(&store, id, b"other").await, None);
        let of = store.statistics();
        assert_eq!((of.point_reads, of.tables_read, of.filters_asked), (4, 3, 3));
        assert_eq!(of.filters_denied + of.filters_false, 1, "ten bits a key, or a false one");
        assert_eq!(of.read_amplification(), Some(0.75));
        assert_eq!(of.keyspaces[0].space_amplification(), Some(2.0), "two runs of one page more");

        let flushed = of.flushed_bytes;
        assert!(store.compact(id).await.expect("the disk is healthy"));
        let of = store.statistics();
        let left = of.keyspaces[0].table_bytes();
        assert_eq!((of.compacted_bytes_read, of.compacted_bytes_written), (flushed, left));
        assert_eq!((of.obsolete_tables, of.obsolete_bytes), (2, flushed));
        assert_eq!(of.write_amplification(), Some((flushed + left) as f64 / 24.0));
        assert_eq!(store.remove_obsolete().await.expect("the disk is healthy"), 2);
        assert_eq!((store.statistics().obsolete_tables, store.statistics().obsolete_bytes), (0, 0));
        let fifo = KeyspaceOptions {
            strategy: Strategy::Fifo { ttl_ms: 1 },
            ..KeyspaceOptions::default()
        };
        let fifo = store.create_keyspace("fifo", fifo).await.expect("there is none");
        put(&store, fifo, 4, b"one", b"value");
        store.flush(fifo).await.expect("the disk is healthy");
        let of = store.statistics();
        assert_eq!(
            (of.keyspaces[1].levels[0].tables, of.keyspaces[1].space_amplification()),
            (1, None)
        );
    });
}

#[test]
fn a_filter_that_lets_a_read_in_for_nothing_is_counted() {
    run_in(&quiet(1), |env| async move {
        let (store, id) = small_store(&env).await;
        for key in [&b"a"[..], b"z"] {
            put(&store, id, 1 + u64::from(key == b"z"), key, b"value");
        }
        store.flush(id).await.expect("the disk is healthy");
        // A snapshot in front of the entry: the filter knows the key, and nothing of it is seen.
        put(&store, id, 9, b"m", b"value");
        let reads = 2000_u32;
        for number in 0..reads {
            assert_eq!(value(&store, id, format!("b{number}").as_bytes()).await, None);
        }
        let of = store.statistics();
        assert_eq!(of.filters_asked, u64::from(reads));
        assert_eq!(of.filters_denied + of.filters_false, u64::from(reads));
        assert!(of.filters_false < u64::from(reads) / 20, "{of:?}");
        assert!(of.filters_denied > 0, "{of:?}");
    });
}

#[test]
fn a_checkpoint_is_the_store_at_one_moment_and_both_go_their_own_ways() {
    run_in(&quiet(1), |env| async move {
        let (store, id) = small_store(&env).await;
        put(&store, id, 1, b"one", b"flushed");
        store.flush(id).await.expect("the disk is healthy");
        put(&store, id, 2, b"two", b"in memory");
        let made = store.checkpoint(Path::new("/copy")).await.expect("nothing is there");
        let bytes = store.statistics().keyspaces[0].table_bytes();
        assert_eq!(made, Checkpoint { sequence: 2, tables: 2, bytes });
        assert_eq!(names(&env, "/").await, ["copy", "store"]);
        put(&store, id, 3, b"one", b"later");
        store.flush(id).await.expect("the disk is healthy");
        // All tables that the checkpoint has are removed from the store.
        while store.compact(id).await.expect("the disk is healthy") {}
        assert_eq!(store.remove_obsolete().await.expect("the disk is healthy"), 3);

        let copy = open(&env, "/copy").await.expect("it is whole");
        assert_eq!((copy.applied(), copy.needed_from()), (2, 3));
        assert_eq!(value(&copy, id, b"one").await.as_deref(), Some(&b"flushed"[..]));
        assert_eq!(value(&copy, id, b"two").await.as_deref(), Some(&b"in memory"[..]));
        put(&copy, id, 3, b"one", b"elsewhere");
        copy.flush(id).await.expect("the disk is healthy");
        while copy.compact(id).await.expect("the disk is healthy") {}
        copy.remove_obsolete().await.expect("the disk is healthy");
        assert_eq!(value(&copy, id, b"one").await.as_deref(), Some(&b"elsewhere"[..]));
        copy.close().await.expect("all is durable");
        destroy(env.disk(), Path::new("/copy")).await.expect("it is a store");
        assert_eq!(value(&store, id, b"one").await.as_deref(), Some(&b"later"[..]));

        // And the other way round: the copy is whole when the store is gone.
        let other = store.checkpoint(Path::new("/other")).await.expect("nothing is there");
        assert_eq!(other.sequence, 3);
        store.close().await.expect("all is durable");
        destroy(env.disk(), Path::new("/store")).await.expect("it is a store");
        assert_eq!(names(&env, "/").await, ["other"]);
        let other = open(&env, "/other").await.expect("it is whole");
        assert_eq!(value(&other, id, b"one").await.as_deref(), Some(&b"later"[..]));
        assert_eq!(value(&other, id, b"two").await.as_deref(), Some(&b"in memory"[..]));
        let number = other.create_keyspace("new", KeyspaceOptions::default()).await;
        assert!(number.expect("there is none") > id, "numbers go on");
    });
}

#[test]
fn a_checkpoint_is_made_where_nothing_is_and_not_in_the_store() {
    run_in(&quiet(1), |env| async move {
        let (store, id) = small_store(&env).await;
        put(&store, id, 1, b"one", b"value");
        env.disk().create_directory(Path::new("/there")).await.expect("created");
        for place in ["/there", "/store", "/store/copy", "/", "/no/copy"] {
            let refused = store.checkpoint(Path::new(place)).await.expect_err(place);
            assert!(matches!(refused, StorageError::Options { .. }), "{place}: {refused}");
        }
        assert_eq!(names(&env, "/").await, ["store", "there"]);
    });
}

#[test]
fn a_checkpoint_that_fails_leaves_nothing_and_can_be_made_again() {
    for operation in [
        DiskOperation::Link,
        DiskOperation::CreateDirectory,
        DiskOperation::Write,
        DiskOperation::Rename,
    ] {
        let world = quiet(1);
        let machine = world.machine("one");
        let disk = world.disk(machine);
        run_on(&world, machine, move |env| async move {
            let (store, id) = small_store(&env).await;
            put(&store, id, 1, b"one", b"value");
            store.flush(id).await.expect("the disk is healthy");
            disk.fail_next_at(operation, "/copy.partial", 1, ErrorKind::CrossesDevices);
            let failed = store.checkpoint(Path::new("/copy")).await;
            let failed = failed.expect_err("the disk fails").to_string();
            let advice = failed.contains("make it on the filesystem of the store");
            assert_eq!(advice, operation == DiskOperation::Link, "{failed}");
            disk.fail_no_more();
            assert!(!names(&env, "/").await.contains(&"copy".to_owned()), "{operation:?}");
            store.checkpoint(Path::new("/copy")).await.expect("the disk is healthy again");
            assert_eq!(names(&env, "/").await, ["copy", "store"], "{operation:?}");
            let copy = open(&env, "/copy").await.expect("it is whole");
            assert_eq!(value(&copy, id, b"one").await.as_deref(), Some(&b"value"[..]));
        });
    }
}

#[test]
fn only_a_store_is_destroyed() {
    run_in(&quiet(1), |env| async move {
        let (store, id) = small_store(&env).await;
        put(&store, id, 1, b"one", b"value");
        store.flush(id).await.expect("the disk is healthy");
        store.close().await.expect("all is durable");
        let disk = env.disk();
        disk.create_directory(Path::new("/data/store")).await.expect("created");
        for no_store in ["/data", "/data/store", "/missing", "/", "/store/manifest"] {
            let refused = destroy(disk, Path::new(no_store)).await.expect_err(no_store);
            assert!(matches!(refused, StorageError::NotAStore { .. }), "{no_store}: {refused}");
        }
        let foreign = Path::new("/store/notes");
        disk.open(foreign, woodchuck_io::OpenMode::CreateNew).await.expect("created");
        let refused = destroy(disk, Path::new("/store")).await.expect_err("it has notes");
        assert!(refused.to_string().contains("/store/notes"), "{refused}");
        disk.remove(foreign).await.expect("it is there");
        let found = find(disk, Path::new("/")).await.expect("the disk is healthy");
        assert_eq!(found, [Path::new("/store")], "nothing was changed");
        let store = open(&env, "/store").await.expect("it is whole");
        assert!(value(&store, id, b"one").await.is_some());
        store.close().await.expect("all is durable");
        destroy(disk, Path::new("/store")).await.expect("it is a store");
        assert_eq!(names(&env, "/").await, ["data"]);
        assert!(!is_store(disk, Path::new("/store")).await.expect("the disk is healthy"));
        let again = destroy(disk, Path::new("/store")).await.expect_err("it is gone");
        assert!(matches!(again, StorageError::NotAStore { .. }), "{again}");
    });
}

#[test]
fn the_commits_of_a_log_that_begins_behind_a_checkpoint_are_newer_than_what_it_has() {
    let mut first = Sequences::default();
    let last = [1, 1, 7].map(|lsn| first.next(lsn))[2];
    let mut own = Sequences::behind(last);
    let (one, two, three) = (own.next(1), own.next(1), own.next(2));
    assert!(last < one && one < two && two < three, "{last} {one} {two} {three}");
    assert_eq!((own.frame_of(one), own.frame_of(two), own.frame_of(three)), (1, 1, 2));
    assert_eq!(own.frame_of(last), 0, "no frame of this log is needed for it");
    let again = Sequences::behind(last).next(1);
    assert_eq!(again, one, "a restart counts the same");
}
