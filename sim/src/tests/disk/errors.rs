//! Errors that stick, errors that are aimed, and what survives all that a product must survive.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use woodchuck_io::{Disk as _, Durability, Env as _, File as _, OpenMode};

use super::{blocks, create, open, read, run, world_with, write};
use crate::{DiskOperation, FaultKind, Faults, World, WorldOptions};

#[test]
fn blocks_files_and_disks_begin_to_fail_until_they_are_healed() {
    let (mut some_blocks, mut one_file, mut all) = (0, 0, 0);
    for seed in 0..60 {
        let world = world_with(seed, "sticky_error", 20_000);
        let machine = world.machine("m");
        let disk = world.disk(machine);
        for path in ["/a", "/b"] {
            disk.write(path, &[1; 8 * 4096]);
        }
        let count = || world.statistics().faults(FaultKind::StickyError);
        let failing = run(&world, |env| async move {
            let mut failing = [0; 2];
            let Ok(a) = env.disk().open(Path::new("/a"), OpenMode::Write).await else {
                return [9; 2];
            };
            let Ok(b) = env.disk().open(Path::new("/b"), OpenMode::Write).await else {
                return [9; 2];
            };
            for round in 0..2 {
                for (file, failing) in [&a, &b].into_iter().zip(&mut failing) {
                    for block in 0..8 {
                        let data = blocks(1, 1);
                        let (result, _) =
                            file.write_at(data, block * 4096, Durability::Durable).await;
                        let reads = read(file, block, 1).await.is_ok();
                        assert!(!reads || result.is_ok(), "once it fails it fails");
                        *failing += u32::from(round == 1 && !reads);
                    }
                }
            }
            failing
        });
        assert_eq!(failing == [0; 2], count() == 0, "seed {seed}: {failing:?}");
        match failing {
            [0, 0] => {}
            [8 | 9, 8 | 9] => all += 1,
            [8, 0] | [0, 8] => one_file += 1,
            _ => some_blocks += 1,
        }
    }
    assert!(some_blocks > 2 && one_file > 2 && all > 2, "{some_blocks}, {one_file}, {all}");
}

#[test]
fn a_place_and_a_disk_fail_until_they_are_healed() {
    let world = world_with(1, "sticky_error", 0);
    let disk = world.disk(world.machine("m"));
    disk.write("/log/1.segment", &[1; 4096]);
    disk.write("/other", &[1; 4096]);
    let works = |path: &'static str| {
        run(&world, move |env| async move {
            match env.disk().open(Path::new(path), OpenMode::Read).await {
                Ok(file) => read(&file, 0, 1).await.is_ok(),
                Err(_) => false,
            }
        })
    };
    for place in ["/log/", ".segment", "/log/1.segment"] {
        disk.fail_place(place);
        assert_eq!([works("/log/1.segment"), works("/other")], [false, true], "{place}");
        assert!(!works("/log/1.segment"), "it sticks");
        disk.heal();
        assert!(works("/log/1.segment"));
    }
    disk.fail_disk();
    assert_eq!([works("/log/1.segment"), works("/other")], [false; 2]);
    disk.heal();
    assert_eq!([works("/log/1.segment"), works("/other")], [true; 2]);
    assert_eq!(world.statistics().faults(FaultKind::StickyError), 8);
}

#[test]
fn errors_are_aimed_at_a_kind_and_a_place() {
    let world = world_with(1, "read_error", 0);
    let disk = world.disk(world.machine("m"));
    disk.write("/a", &[1; 4096]);
    disk.write("/b", &[1; 4096]);
    disk.fail_next_at(DiskOperation::Read, "/b", 2, ErrorKind::TimedOut);
    disk.fail_next_at(DiskOperation::Rename, "/c", 1, ErrorKind::Other);
    run(&world, |env| async move {
        let (a, b) = (open(&env, "/a").await, open(&env, "/b").await);
        read(&a, 0, 1).await.expect("another file");
        write(&b, 0, 1, 2, Durability::Durable).await;
        for _ in 0..2 {
            assert_eq!(read(&b, 0, 1).await.expect_err("aimed").kind(), ErrorKind::TimedOut);
        }
        read(&b, 0, 1).await.expect("two were to fail");
        let (from, to) = (Path::new("/a"), Path::new("/c"));
        env.disk().rename(from, to).await.expect_err("aimed");
        env.disk().rename(from, to).await.expect("one was to fail");
    });
    assert_eq!(world.statistics().faults(FaultKind::AskedError), 3);
}

/// Writes and syncs under all budgeted faults at their strongest, a crash of each kind between, and
/// says whether each block holds what was synced last.
fn what_was_synced_survives(seed: u64) -> [u64; 4] {
    let mut faults = Faults::none();
    for knob in ["slow", "stall", "slow_period", "short_read", "torn_sectors"] {
        let known = crate::DiskFaults::KNOBS.iter().find(|known| known.name.ends_with(knob));
        let most = known.map_or(0, |knob| knob.range.1);
        assert!(faults.set(&format!("disk.{knob}"), most * if most < 1000 { 50 } else { 1 }));
    }
    let world = World::with_options(WorldOptions { faults, ..WorldOptions::new(seed) });
    let machine = world.machine("m");
    world.draw_disk(machine);
    run(&world, |env| async move { drop(create(&env, "/f").await) });
    let mut model = BTreeMap::new();
    for round in 1..=6_u8 {
        run(&world, move |env| async move {
            let file = open(&env, "/f").await;
            write(&file, u64::from(round % 3) * 4, 4, round, Durability::Volatile).await;
            file.sync_data().await.expect("healthy");
            write(&file, 12, 4, round, Durability::Volatile).await;
        });
        model.extend((0..4).map(|block| (u64::from(round % 3) * 4 + block, round)));
        match round % 3 {
            0 => world.power_cut(machine),
            1 => world.crash_os(machine),
            _ => world.kill(machine),
        }
        let expected = model.clone();
        run(&world, move |env| {
            let expected = expected.clone();
            async move {
                let file = open(&env, "/f").await;
                for (block, byte) in expected {
                    let bytes = read(&file, block, 1).await.expect("healthy");
                    assert!(bytes.iter().all(|&other| other == byte), "block {block} was lost");
                }
            }
        });
    }
    let statistics = world.statistics();
    [FaultKind::DiskStall, FaultKind::SlowPeriod, FaultKind::SlowDisk, FaultKind::LostBlock]
        .map(|kind| statistics.faults(kind))
}

#[test]
fn what_was_synced_survives_all_budgeted_faults() {
    let mut effects = [0; 4];
    for seed in 0..300 {
        let seen = what_was_synced_survives(seed);
        effects.iter_mut().zip(seen).for_each(|(effect, seen)| *effect += seen);
    }
    assert!(effects.iter().all(|&effect| effect > 20), "{effects:?}");
}
