//! A keyspace of memtables, runs and levels answers as a map that was changed commit by commit.

use std::path::Path;
use std::rc::Rc;

use woodchuck_io::{Disk, Env, RandomStream};
use woodchuck_sim::{SimEnv, World};

use super::compaction::Numbered;
use super::history::{History, draw_key};
use super::place::{DIRECTORY, draw_options, random, run_in};
use super::scan::{COMMITS, Commits, TIMES, walk};
use crate::compaction::{Cuts, Older, Retention, rewrite};
use crate::scan::{Append, Layer, SnapshotCursor, View, get};
use crate::{
    BlockCache, Bounds, Edit, Entry, KeyspaceOptions, Kind, Manifest, ManifestOptions, Memtable,
    ReadOptions, Strategy, Tables, Version,
};

type SimDisk = <SimEnv as Env>::Disk;

const SEEDS: u64 = 400;

#[test]
fn a_keyspace_answers_as_a_map_does() {
    for seed in 0..SEEDS {
        run_in(&World::new(seed), move |env| compare(env, seed));
    }
}

/// Nothing may be left out: what is below is not told.
struct SomethingOlder;

impl Older for SomethingOlder {
    fn may_have(&self, _start: &[u8], _end: &[u8]) -> bool {
        true
    }
}

fn memtable(history: &History) -> Memtable {
    let memtable = Memtable::new();
    for ((user_key, version), (expires_at_ms, value)) in &history.entries {
        let (sequence, kind, expires_at_ms) = (version.sequence, version.kind, *expires_at_ms);
        memtable.insert(&Entry { user_key, sequence, kind, expires_at_ms, value });
    }
    for (start, end, sequence) in &history.tombstones {
        let (sequence, kind, expires_at_ms) = (*sequence, Kind::RangeDeletion, None);
        memtable.insert(&Entry { user_key: start, sequence, kind, expires_at_ms, value: end });
    }
    memtable
}

/// A keyspace of which the newest commits are in memtables, those before in runs of level 0, and the
/// oldest in levels below.
struct Store {
    memtables: Vec<Memtable>,
    version: Rc<Version>,
    keyspace: u64,
    tables: Tables<SimDisk>,
}

impl Store {
    async fn build(
        env: &SimEnv,
        random: &mut RandomStream,
        mut histories: Vec<History>,
        snapshots: &[u64],
    ) -> Self {
        let directory = Path::new(DIRECTORY);
        env.disk().create_directory(directory).await.expect("a directory can be made");
        env.disk().sync_directory(Path::new("/")).await.expect("its name can be made durable");
        let manifest = Manifest::open(env, directory, ManifestOptions::default()).await;
        let (manifest, _) = manifest.expect("there is nothing");
        let numbers = manifest.take_numbers(1000).await.expect("there are numbers");
        let keyspace = numbers.start;
        let strategy = Strategy::Levelled;
        let options = KeyspaceOptions { strategy, ..KeyspaceOptions::default() };
        let mut edit = Edit::new().create_keyspace(keyspace, "test", options);
        let version = manifest.version();
        let mut output =
            Numbered::new(env, draw_options(random), version.store(), keyspace, keyspace);
        let in_memory = random.below(3).min(histories.len() as u64) as usize;
        let newest = histories.split_off(histories.len() - in_memory);
        let runs = random.below(3).min(histories.len() as u64) as usize;
        let in_runs = histories.split_off(histories.len() - runs);
        let levels = histories.len();
        let below = histories.iter().enumerate().map(|(at, one)| ((levels - at) as u8, 0, one));
        let above = in_runs.iter().enumerate().map(|(at, one)| (0, at as u64 + 1, one));
        let mut flushed = 0;
        for (level, run, history) in below.chain(above) {
            let memtable = memtable(history);
            let Some((_, newest)) = memtable.sequences() else { continue };
            let retention = Retention { snapshots, now_ms: 0, operator: Some(&Append) };
            let sources = vec![memtable.cursor(Bounds::all())];
            let tombstones = memtable.range_tombstones();
            let bytes = [1, 2000, 20_000][random.below(3) as usize];
            let made = rewrite(
                sources,
                &tombstones,
                retention,
                &SomethingOlder,
                &mut output,
                Cuts::at(bytes),
            );
            for produced in made.await.expect("the disk is healthy") {
                edit = edit.add_table(produced.metadata(level, run));
            }
            flushed = flushed.max(newest);
        }
        edit = edit.flushed(keyspace, flushed);
        let version = manifest.commit(edit).await.expect("the tables are in order");
        manifest.close().await.expect("all is durable");
        let cache = BlockCache::new([0, 20_000, 10 << 20][random.below(3) as usize]);
        let options = ReadOptions { pin_partitions: random.below(2) == 0 };
        let open_tables = random.below(4) as usize;
        let directory = directory.to_owned();
        let tables =
            Tables::new(env.disk(), directory, version.store(), &cache, options, open_tables);
        // The newest first.
        let memtables = newest.iter().rev().map(memtable).collect();
        Self { memtables, version, keyspace, tables }
    }
}

async fn compare(env: SimEnv, seed: u64) {
    let mut random = random(seed);
    let commits = Commits::draw(&mut random);
    let histories = commits.spread_in_order(1 + random.below(7));
    let mut snapshots: Vec<u64> = (0..3).map(|_| random.below(COMMITS + 1)).collect();
    snapshots.sort_unstable();
    let store = Store::build(&env, &mut random, histories, &snapshots).await;
    let keyspace = store.version.keyspace(store.keyspace).expect("it was created");
    for snapshot in snapshots.into_iter().chain([u64::MAX]) {
        let now_ms = random.below(TIMES);
        let expected = commits.seen(snapshot, now_ms);
        let view = View { snapshot, now_ms, operator: Some(&Append) };
        let absent = (0..10).map(|_| draw_key(&mut random));
        let asked: Vec<Vec<u8>> =
            expected.iter().map(|(key, _)| key.clone()).chain(absent).collect();
        for key in asked {
            let found = get(&key, view, &store.memtables, keyspace, &store.tables).await;
            let found = found.expect("the disk is healthy");
            let is_there = expected.iter().find(|(other, _)| *other == key);
            assert_eq!(found.as_deref(), is_there.map(|(_, value)| &value[..]), "{key:?}");
        }
        let bounds = draw_bounds(&mut random);
        let sources = Layer::all(&store.memtables, keyspace, &store.tables, &bounds);
        let mut cursor = SnapshotCursor::new(sources, snapshot, now_ms, Some(Rc::new(Append)));
        let within: Vec<_> = expected.into_iter().filter(|(key, _)| bounds.has(key)).collect();
        walk(&mut cursor, &within, &mut random, false).await;
    }
}

fn draw_bounds(random: &mut RandomStream) -> Bounds {
    match random.below(3) {
        0 => Bounds::all(),
        1 => Bounds::prefix(&draw_key(random)),
        _ => {
            let (one, other) = (draw_key(random), draw_key(random));
            let lower = (random.below(3) > 0).then_some(one.as_slice().min(&other));
            let upper = (random.below(3) > 0).then_some(one.as_slice().max(&other));
            Bounds::range(lower, upper)
        }
    }
}
