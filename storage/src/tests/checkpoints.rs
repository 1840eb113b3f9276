//! Checkpoints and destruction, cut by crashes at any moment.
//!
//! In each world a process opens a store, which begins empty; its history is the list of values that
//! it was given, one after the other, in two keyspaces at a time: each commit puts its number under
//! one key in both, so that a state that is no moment shows as two numbers that differ. Beside the
//! commits, it flushes and compacts, and makes checkpoints. Then power, system or process end. The
//! next process opens what has the name of a checkpoint: it must be whole, and of a moment that is
//! not older than the call, nor newer than its return.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::{Disk, Env, RandomStream, Task};
use woodchuck_sim::{SimEnv, World};

use super::place::{quiet, random, run_on};
use crate::compaction::LevelledOptions;
use crate::offline::destroy::destroy;
use crate::offline::verify::verify;
use crate::store::{Checkpoint, Operators, PacingOptions, Store, StoreOptions};
use crate::{BatchView, BlockCache, KeyspaceOptions, ManifestOptions, StorageError, WriteBatch};

const SEEDS: u64 = 300;
const KEYSPACES: [&str; 2] = ["one", "other"];
const COPY: &str = "/copy";

/// What is known of the checkpoint.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The last commit before the call.
    from: u64,
    /// The last commit so far, or when it returned.
    to: u64,
    returned: Option<Checkpoint>,
}

fn options(random: &mut RandomStream) -> StoreOptions {
    StoreOptions {
        manifest: ManifestOptions::small(),
        table_bytes: [1, 1 << 20][random.below(2) as usize],
        levelled: LevelledOptions {
            runs: 1,
            base_bytes: 1,
            growth: 2,
            ..LevelledOptions::default()
        },
        // In every other store, memtables are frozen by themselves all the time.
        pacing: PacingOptions {
            memtable_bytes: [2_000, 64 << 20][random.below(2) as usize],
            ..PacingOptions::default()
        },
        ..StoreOptions::default()
    }
}

async fn open(
    env: &SimEnv,
    directory: &str,
    random: &mut RandomStream,
) -> Result<Store<SimEnv>, StorageError> {
    let (operators, cache) = (Operators::default(), BlockCache::new(1 << 16));
    let options = options(random);
    let opened = Store::open(env, Path::new(directory), options, operators, &cache).await?;
    assert_eq!(opened.1.damaged, []);
    Ok(opened.0)
}

/// The key that a commit changes, besides the one that all do.
fn key(number: u64) -> Vec<u8> {
    format!("key {}", number % 7).into_bytes()
}

fn commit(store: &Store<SimEnv>, ids: [u64; 2], number: u64) {
    let (mut batch, mut bytes) = (WriteBatch::new(), Vec::new());
    for id in ids {
        batch.put(id, b"all", &number.to_le_bytes()).expect("it is within all bounds");
        batch.put(id, &key(number), &number.to_le_bytes()).expect("it is within all bounds");
    }
    batch.encode(&mut bytes);
    store.apply(number, &BatchView::parse(&bytes).expect("it was encoded"));
}

/// The last commit that a store has, which has to have all before it and nothing behind.
async fn state(store: &Store<SimEnv>) -> Result<u64, StorageError> {
    let mut last = None;
    for name in KEYSPACES {
        let version = store.version();
        let id = version.keyspace_by_name(name).expect("it was there").id();
        let number = |value: Option<bytes::Bytes>| {
            value.map_or(0, |value| {
                value.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
            })
        };
        let all = number(store.get(id, b"all", None).await?);
        assert!(last.is_none_or(|last| last == all), "keyspaces of two moments");
        last = Some(all);
        for before in (1..=all).rev().take(7) {
            assert_eq!(number(store.get(id, &key(before), None).await?), before);
        }
    }
    Ok(last.unwrap_or(0))
}

async fn work(
    env: SimEnv,
    mut random: RandomStream,
    known: Rc<RefCell<Option<Known>>>,
) -> Result<(), StorageError> {
    env.disk().create_directory(Path::new("/store")).await.expect("a directory can be made");
    env.disk().sync_directory(Path::new("/")).await.expect("its name can be made durable");
    let store = open(&env, "/store", &mut random).await?;
    let mut ids = [0; 2];
    for (id, name) in ids.iter_mut().zip(KEYSPACES) {
        *id = store.create_keyspace(name, KeyspaceOptions::default()).await?;
    }
    let mut last = 0;
    let mut busy: Vec<Task<Result<(), StorageError>>> = Vec::new();
    for step in 0.. {
        if step == 20 {
            let (copying, shared) = (store.clone(), Rc::clone(&known));
            *known.borrow_mut() = Some(Known { from: last, to: last, returned: None });
            busy.push(env.spawn("checkpoint", async move {
                let made = copying.checkpoint(Path::new(COPY)).await?;
                if let Some(known) = &mut *shared.borrow_mut() {
                    known.returned = Some(made);
                }
                Ok(())
            }));
        }
        last += 1;
        commit(&store, ids, last);
        if let Some(known) = &mut *known.borrow_mut()
            && known.returned.is_none()
        {
            known.to = last;
        }
        let id = ids[random.below(2) as usize];
        let one = store.clone();
        match random.below(8) {
            0 => busy.push(env.spawn("flush", async move { one.flush(id).await })),
            1 => busy.push(env.spawn("compact", async move { one.compact(id).await.map(drop) })),
            2 => drop(store.remove_obsolete().await?),
            _ => env.sleep(Duration::from_micros(random.below(400))).await,
        }
        for done in busy.extract_if(.., |task| task.is_finished()) {
            done.await?;
        }
    }
    Ok(())
}

#[test]
fn a_checkpoint_is_whole_and_of_a_moment_or_not_there() {
    let (mut made, mut found, mut absent) = (0, 0, 0);
    for seed in 0..SEEDS {
        let world = World::new(seed);
        let machine = world.machine("one");
        let known = Rc::new(RefCell::new(None));
        let mut choices = random(seed);
        let shared = Rc::clone(&known);
        world.start(machine, 1, move |env| {
            let working = work(env, random(seed), Rc::clone(&shared));
            async move { working.await.expect("the disk is healthy") }
        });
        world.run_for(Duration::from_micros(8_000 + choices.below(40_000)));
        match choices.below(3) {
            0 => world.power_cut(machine),
            1 => world.crash_os(machine),
            _ => world.kill(machine),
        }
        world.run_for(Duration::from_millis(50));
        let Some(Known { from, to, returned }) = *known.borrow() else { continue };
        made += u64::from(returned.is_some());
        let moment = run_on(&world, machine, move |env| async move {
            let disk = env.disk();
            let entries = disk.list(Path::new("/")).await.expect("the disk is healthy");
            if !entries.iter().any(|entry| entry.name == "copy") {
                return None;
            }
            let verified = verify(disk, Path::new(COPY), |_| {}).await.expect("it is a store");
            assert!(!verified.is_damaged(), "seed {seed}: {verified:?}");
            let copy = open(&env, COPY, &mut random(seed)).await;
            let copy = copy.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let moment = state(&copy).await.expect("it is whole");
            assert_eq!(moment, copy.applied(), "seed {seed}");
            copy.close().await.expect("all is durable");
            Some(moment)
        });
        match moment {
            Some(moment) => {
                found += 1;
                assert!((from..=to).contains(&moment), "seed {seed}: {from} {moment} {to}");
                assert!(returned.is_none_or(|made| made.sequence == moment), "seed {seed}");
            }
            None => {
                absent += 1;
                assert!(returned.is_none(), "seed {seed}: a checkpoint that was made is gone");
            }
        }
    }
    let enough = made > SEEDS / 5 && found >= made && absent > SEEDS / 20;
    assert!(enough, "{made} made, {found} found, {absent} not there");
}

#[test]
fn a_store_that_is_destroyed_is_whole_or_gone() {
    let (mut whole, mut gone, mut remains) = (0, 0, 0);
    for seed in 0..SEEDS {
        let world = quiet(seed);
        let machine = world.machine("one");
        let mut choices = random(seed);
        let all = run_on(&world, machine, move |env| async move {
            let disk = env.disk();
            disk.create_directory(Path::new("/store")).await.expect("a directory can be made");
            disk.sync_directory(Path::new("/")).await.expect("its name can be made durable");
            let store = open(&env, "/store", &mut random(seed)).await.expect("there is nothing");
            let mut ids = [0; 2];
            for (id, name) in ids.iter_mut().zip(KEYSPACES) {
                let made = store.create_keyspace(name, KeyspaceOptions::default()).await;
                *id = made.expect("there is none");
            }
            for number in 1..=3 {
                commit(&store, ids, number);
                for id in ids {
                    store.flush(id).await.expect("the disk is healthy");
                }
            }
            let version = store.version();
            store.close().await.expect("all is durable");
            version.keyspaces().map(|keyspace| keyspace.tables().count()).sum::<usize>()
        });
        let returned = Rc::new(RefCell::new(false));
        let shared = Rc::clone(&returned);
        world.start(machine, 1, move |env| {
            let shared = Rc::clone(&shared);
            async move {
                destroy(env.disk(), Path::new("/store")).await.expect("it is a store");
                *shared.borrow_mut() = true;
            }
        });
        world.run_for(Duration::from_micros(choices.below(4000)));
        match choices.below(3) {
            0 => world.power_cut(machine),
            1 => world.crash_os(machine),
            _ => world.kill(machine),
        }
        world.run_for(Duration::from_millis(50));
        let returned = *returned.borrow();
        let names = run_on(&world, machine, move |env| async move {
            let disk = env.disk();
            let entries = disk.list(Path::new("/")).await.expect("the disk is healthy");
            let names: Vec<String> = entries.into_iter().map(|entry| entry.name).collect();
            for name in &names {
                let verified = verify(disk, &Path::new("/").join(name), |_| {}).await;
                match (name.as_str(), verified) {
                    ("store", Ok(found)) => assert!(!found.is_damaged(), "seed {seed}: {found:?}"),
                    // It may be the store as it was, or what is refused as none.
                    ("store.destroyed", Ok(found)) => {
                        let tables = found.manifest.version.as_ref().map_or(0, |version| {
                            version.keyspaces().map(|keyspace| keyspace.tables().count()).sum()
                        });
                        assert_eq!((found.is_damaged(), tables), (false, all), "seed {seed}");
                    }
                    ("store.destroyed", Err(StorageError::NoManifest { .. })) => {}
                    ("store.destroyed", Err(StorageError::NotAStore { .. })) => {}
                    (name, other) => panic!("seed {seed}: {name}: {other:?}"),
                }
            }
            // Another call ends what was begun.
            if !names.is_empty() {
                destroy(disk, Path::new("/store")).await.expect("there is something");
            }
            assert_eq!(disk.list(Path::new("/")).await.expect("the disk is healthy"), []);
            names
        });
        assert!(!returned || names.is_empty(), "seed {seed}: {names:?}");
        match names.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => gone += 1,
            ["store"] => whole += 1,
            _ => remains += 1,
        }
    }
    let enough = [whole, gone, remains].iter().all(|&count| count > SEEDS / 20);
    assert!(enough, "{whole} whole, {gone} gone, {remains} with remains");
}
