//! Whatever a crash leaves of a table is no table, or the whole of it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_sim::{MachineId, World};

use super::history::History;
use super::place::{FILE, create, open, run_on};
use crate::{BlockCache, Bounds, Compression, Entry, Kind, ReadOptions, TableOptions};

/// How far the writer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Adding,
    Finishing,
    Finished,
}

const ENTRIES: u32 = 300;

fn options() -> TableOptions {
    TableOptions {
        chunk_bytes: 4096,
        writes_in_flight: 4,
        partition_bytes: 300,
        compression: Compression::None,
        ..TableOptions::default()
    }
}

fn history() -> History {
    History::numbered(ENTRIES, 100)
}

/// Writes a table, until power is cut after `time`, or something like it happens. Gives how far the
/// writer came.
fn crash(world: &World, machine: MachineId, time: Duration, kind: u64) -> Stage {
    let stage = Rc::new(Cell::new(Stage::Adding));
    let seen = Rc::clone(&stage);
    world.start(machine, 1, move |env| {
        let stage = Rc::clone(&seen);
        async move {
            let mut writer = create(&env, options()).await.expect("the disk is healthy");
            for ((user_key, version), (_, value)) in &history().entries {
                let (sequence, kind) = (version.sequence, Kind::Value);
                let entry = Entry { user_key, sequence, kind, expires_at_ms: None, value };
                writer.add(&entry).await.expect("the disk is healthy");
            }
            stage.set(Stage::Finishing);
            writer.finish().await.expect("the disk is healthy");
            stage.set(Stage::Finished);
        }
    });
    world.run_for(time);
    let stage = stage.get();
    match kind {
        0 => world.power_cut(machine),
        1 => world.crash_os(machine),
        _ => world.kill(machine),
    }
    stage
}

#[test]
fn a_crash_leaves_no_table_or_a_whole_one() {
    let (mut stages, mut opened, mut refused) = ([0; 3], [0; 3], 0);
    for seed in 0..3000 {
        // With the usual faults: what was not flushed is lost, kept or torn, sector by sector.
        let world = World::new(seed);
        let machine = world.machine("one");
        let time = Duration::from_micros(1 + seed * 1_309 % 4000);
        let stage = crash(&world, machine, time, seed % 3);
        stages[stage as usize] += 1;
        world.run_for(Duration::from_millis(200));
        let is_there = world.disk(machine).exists(FILE);
        let verified = run_on(&world, machine, |env| async move {
            let cache = BlockCache::new(1 << 20);
            let table = open(&env, &cache, ReadOptions::default()).await.ok()?;
            let mut cursor = table.cursor(Bounds::all());
            cursor.seek_to_first().await.expect("a table is whole");
            for ((key, _), (_, value)) in &history().entries {
                let entry = cursor.entry().expect("a table is whole");
                assert_eq!((entry.user_key, entry.value), (&key[..], &value[..]));
                cursor.next().await.expect("a table is whole");
            }
            Some(table.verify().await.expect("it can be read"))
        });
        if let Some(verified) = verified {
            assert!(stage >= Stage::Finishing, "seed {seed}: a table before its end");
            assert_eq!(
                (verified.damaged, verified.entries),
                (0, u64::from(ENTRIES)),
                "seed {seed}"
            );
            opened[stage as usize] += 1;
        } else {
            assert!(stage < Stage::Finished, "seed {seed}: a finished table is gone");
            refused += usize::from(is_there);
        }
    }
    assert!(stages.iter().all(|&count| count > 200), "crashes come at any moment: {stages:?}");
    assert!(opened[1] > 0, "some that were not told to be finished are whole: {opened:?}");
    assert!(refused > 200, "some are there and not finished: {refused}");
}
