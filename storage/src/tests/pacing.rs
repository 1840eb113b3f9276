//! Writers at full speed are slowed, never stopped, and never refused.

use std::cell::Cell;
use std::io::ErrorKind;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::{Disk, Env, Task};
use woodchuck_sim::{DiskOperation, SimEnv};

use super::place::{quiet, random, run_in, run_on};
use crate::compaction::{LevelledOptions, levelled_debt};
use crate::limits::RETRY_MS;
use crate::store::{Limit, Operators, PacingOptions, Store, StoreOptions};
use crate::{
    BatchView, BlockCache, Compression, Keyspace, KeyspaceOptions, ManifestOptions, StorageError,
    WriteBatch,
};

const KEYS: u64 = 4_000;
const COMMITS: u64 = 40_000;
const VALUE_BYTES: usize = 100;

fn options() -> StoreOptions {
    StoreOptions {
        manifest: ManifestOptions::small(),
        table_bytes: 32 << 10,
        levelled: LevelledOptions { runs: 4, base_bytes: 64 << 10, growth: 4, overlap: 10 },
        pacing: PacingOptions {
            memtable_bytes: 64 << 10,
            memory: Limit { slow: 128 << 10, busy: 512 << 10 },
            runs: Limit { slow: 8, busy: 24 },
            debt: Limit { slow: 256 << 10, busy: 4 << 20 },
        },
        ..StoreOptions::default()
    }
}

/// A store with one keyspace, which looks after itself.
async fn maintained(env: &SimEnv) -> (Store<SimEnv>, u64, Task<()>) {
    env.disk().create_directory(Path::new("/store")).await.expect("a directory can be made");
    env.disk().sync_directory(Path::new("/")).await.expect("its name can be made durable");
    let (operators, cache) = (Operators::default(), BlockCache::new(1 << 20));
    let opened = Store::open(env, Path::new("/store"), options(), operators, &cache).await;
    let (store, _) = opened.expect("there is nothing");
    let uncompressed =
        KeyspaceOptions { compression: Compression::None, ..KeyspaceOptions::default() };
    let id = store.create_keyspace("k", uncompressed).await.expect("there is none");
    let maintenance = env.spawn("maintenance", store.clone().maintain());
    (store, id, maintenance)
}

async fn put(
    store: &Store<SimEnv>,
    keyspace: u64,
    sequence: u64,
    key: u64,
) -> Result<(), StorageError> {
    let (mut batch, mut bytes) = (WriteBatch::new(), Vec::new());
    let value = [sequence as u8; VALUE_BYTES];
    batch.put(keyspace, &key.to_be_bytes(), &value).expect("it is within all bounds");
    batch.encode(&mut bytes);
    store.admit(bytes.len()).await?;
    store.apply(sequence, &BatchView::parse(&bytes).expect("it was encoded"));
    Ok(())
}

fn keyspace(store: &Store<SimEnv>, id: u64) -> Rc<Keyspace> {
    Rc::clone(store.version().keyspace(id).expect("it is there"))
}

/// Runs of level 0, and entries of all tables.
fn size(keyspace: &Keyspace) -> (usize, u64) {
    let runs = keyspace.levels().first().map_or(0, |level| level.runs().count());
    (runs, keyspace.tables().map(|table| table.entries).sum())
}

#[test]
fn writers_at_full_speed_are_slowed_and_go_on_all_the_time() {
    for seed in 0..4 {
        let slowed = Rc::new(Cell::new(0_u64));
        let counted = Rc::clone(&slowed);
        run_in(&quiet(seed), move |env| async move {
            let (store, id, _maintenance) = maintained(&env).await;
            let pacing = options().pacing;
            let mut random = random(seed);
            let mut longest = Duration::ZERO;
            for sequence in 1..=COMMITS {
                let before = env.now();
                let written = put(&store, id, sequence, random.below(KEYS)).await;
                written.expect("nobody is refused");
                let took = env.now() - before;
                longest = longest.max(took);
                counted.set(counted.get() + u64::from(took > Duration::ZERO));
                // Other tasks have their turn, as they have while a log writes.
                env.yield_now().await;
                let behind = keyspace(&store, id);
                let (runs, _) = size(&behind);
                assert!((runs as u64) < pacing.runs.busy, "seed {seed}: {runs} runs");
                assert!((store.memtable_bytes() as u64) < pacing.memory.busy, "seed {seed}");
                let debt = levelled_debt(&behind, &options().levelled);
                assert!(debt < pacing.debt.busy, "seed {seed}: {debt}");
            }
            assert!(longest < Duration::from_millis(20), "seed {seed}: {longest:?}");
            store.flush(id).await.expect("the disk is healthy");
            // Whatever is left to be done.
            env.sleep(Duration::from_secs(10)).await;
            let left = keyspace(&store, id);
            assert_eq!(levelled_debt(&left, &options().levelled), 0, "seed {seed}");
            let (runs, entries) = size(&left);
            assert!(runs < options().levelled.runs, "seed {seed}: {runs} runs");
            // A quarter of it, and of that, above the last level; and what level 0 may have.
            assert!(entries < KEYS * 7 / 4, "seed {seed}: {entries} entries of {KEYS} keys");
        });
        assert!(slowed.get() > COMMITS / 40, "seed {seed}: {} were slowed", slowed.get());
    }
}

/// Fills memory until writers are slowed, with nobody to flush.
fn press(store: &Store<SimEnv>, id: u64) {
    let mut sequence = 0;
    while (store.memtable_bytes() as u64) < options().pacing.memory.slow + 1000 {
        sequence += 1;
        let (mut batch, mut bytes) = (WriteBatch::new(), Vec::new());
        let key = u64::to_be_bytes(sequence);
        batch.put(id, &key, &[7; VALUE_BYTES]).expect("it is within all bounds");
        batch.encode(&mut bytes);
        store.apply(sequence, &BatchView::parse(&bytes).expect("it was encoded"));
    }
}

#[test]
fn who_waits_for_more_work_than_there_is_goes_on_when_it_is_done() {
    run_in(&quiet(1), |env| async move {
        let (store, id, maintenance) = maintained(&env).await;
        drop(maintenance);
        press(&store, id);
        let _maintenance = env.spawn("maintenance", store.clone().maintain());
        store.admit(1 << 20).await.expect("there is room");
        assert!((store.memtable_bytes() as u64) < options().pacing.memory.slow);
    });
}

#[test]
fn who_waits_when_a_flush_fails_is_told() {
    let world = quiet(1);
    let machine = world.machine("one");
    let disk = world.disk(machine);
    run_on(&world, machine, move |env| async move {
        let (store, id, maintenance) = maintained(&env).await;
        drop(maintenance);
        press(&store, id);
        disk.fail_next(DiskOperation::Sync, u32::MAX, ErrorKind::StorageFull);
        let _maintenance = env.spawn("maintenance", store.clone().maintain());
        let error = store.admit(1 << 20).await.expect_err("nothing can be flushed");
        assert!(matches!(error, StorageError::Failing { .. }), "{error}");
    });
}

#[test]
fn who_would_wait_for_what_fails_is_told_why_and_goes_on_when_it_succeeds() {
    let world = quiet(1);
    let machine = world.machine("one");
    let disk = world.disk(machine);
    run_on(&world, machine, move |env| async move {
        let (store, id, _maintenance) = maintained(&env).await;
        disk.fail_next(DiskOperation::Sync, u32::MAX, ErrorKind::StorageFull);
        let mut sequence = 0;
        let error = loop {
            sequence += 1;
            if let Err(error) = put(&store, id, sequence, sequence).await {
                break error;
            }
            env.sleep(Duration::from_micros(10)).await;
        };
        assert!(matches!(error, StorageError::Failing { .. }), "{error}");
        assert!(error.to_string().contains("flushes or compactions fail"), "{error}");
        let memory = store.memtable_bytes() as u64;
        let limit = options().pacing.memory;
        assert!(memory >= limit.slow && memory < limit.busy, "what there was room for was taken");
        disk.fail_no_more();
        env.sleep(Duration::from_millis(3 * RETRY_MS)).await;
        put(&store, id, sequence, sequence).await.expect("the disk is healthy again");
        for sequence in 1..=sequence {
            let found = store.get(id, &sequence.to_be_bytes(), None).await;
            assert!(found.expect("the disk is healthy").is_some(), "{sequence}");
        }
    });
}

#[test]
fn what_is_too_far_back_in_the_log_is_flushed_and_nothing_else() {
    run_in(&quiet(1), |env| async move {
        let (store, old, _maintenance) = maintained(&env).await;
        let new = store.create_keyspace("new", KeyspaceOptions::default()).await;
        let new = new.expect("there is none");
        put(&store, old, 1, 1).await.expect("there is room");
        put(&store, new, 2, 1).await.expect("there is room");
        put(&store, old, 3, 1).await.expect("there is room");
        store.flush_older_than(2);
        env.sleep(Duration::from_secs(1)).await;
        assert_eq!(store.needed_from(), 2);
        let tables = [old, new].map(|id| keyspace(&store, id).tables().count());
        assert_eq!(tables, [1, 0]);
        store.flush_older_than(4);
        env.sleep(Duration::from_secs(1)).await;
        assert_eq!((store.needed_from(), store.memtable_bytes()), (4, 0));
    });
}

#[test]
fn a_keyspace_that_cannot_be_compacted_does_not_keep_others_from_it() {
    let world = quiet(1);
    let machine = world.machine("one");
    let disk = world.disk(machine);
    run_on(&world, machine, move |env| async move {
        let (store, damaged, maintenance) = maintained(&env).await;
        let other = store.create_keyspace("other", KeyspaceOptions::default()).await;
        let other = other.expect("there is none");
        drop(maintenance);
        let mut sequence = 0;
        for _ in 0..options().levelled.runs {
            for id in [damaged, other] {
                sequence += 1;
                put(&store, id, sequence, 1).await.expect("there is room");
                store.flush(id).await.expect("the disk is healthy");
            }
        }
        let version = store.version();
        let first = keyspace(&store, damaged).tables().next().cloned().expect("there are some");
        let file = format!("/store/{}", version.table_id(&first).file_name());
        disk.zero(&file, 0, 8192);
        drop((version, first));
        let _maintenance = env.spawn("maintenance", store.clone().maintain());
        env.sleep(Duration::from_millis(5 * RETRY_MS)).await;
        let counts = [damaged, other].map(|id| keyspace(&store, id).tables().count());
        assert_eq!(counts, [options().levelled.runs, 1]);
        put(&store, damaged, sequence + 1, 2).await.expect("there is no pressure yet");
    });
}
