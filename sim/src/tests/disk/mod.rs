//! The disk: every fault happens, and what is promised holds under all of them.

mod decay;
mod errors;
mod lies;
mod names;
mod profiles;
mod timing;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::{Buffer, Disk as _, Durability, Env as _, File as _, OpenMode};

use super::{blocks, create, run, write};
use crate::{
    DiskFaults, DiskOperation, DiskProfile, FaultKind, Faults, NameOrder, Site, World, WorldOptions,
};

/// Kinds of faults that happen in the tests of these modules only: their knobs are off by default.
pub(super) const TESTED_ALONE: [FaultKind; 11] = [
    FaultKind::UnreadableBlock,
    FaultKind::DiskStall,
    FaultKind::SlowPeriod,
    FaultKind::LatentError,
    FaultKind::BitRot,
    FaultKind::MisdirectedRead,
    FaultKind::MisdirectedWrite,
    FaultKind::LostWrite,
    FaultKind::StickyError,
    FaultKind::MetadataFull,
    FaultKind::LyingFlush,
];

/// A world in which one disk knob is set and all others are at 0.
fn world_with(seed: u64, knob: &str, value: u32) -> World {
    let mut faults = Faults::none();
    assert!(faults.set(&format!("disk.{knob}"), value), "there is no knob {knob}");
    World::with_options(WorldOptions { faults, ..WorldOptions::new(seed) })
}

/// Reads some blocks of a file, whole.
async fn read(file: &crate::SimFile, block: u64, count: usize) -> std::io::Result<Vec<u8>> {
    let (result, buffer) = file.read_at(Buffer::with_capacity(count * 4096), block * 4096).await;
    result.map(|length| buffer[..length].to_vec())
}

/// Opens a file that is there.
async fn open(env: &crate::SimEnv, path: &str) -> crate::SimFile {
    env.disk().open(Path::new(path), OpenMode::Write).await.expect("it is there")
}

/// What each of several crashes made of a file of some blocks of ones, overwritten by twos.
fn crashes(count: u64, synced: bool, crash: impl Fn(&World)) -> (Vec<Vec<u8>>, Vec<World>) {
    let (mut contents, mut worlds) = (Vec::new(), Vec::new());
    for seed in 0..count {
        let world = World::new(seed);
        run(&world, move |env| async move {
            let file = create(&env, "/f").await;
            write(&file, 0, 4, 1, Durability::Durable).await;
            write(&file, 0, 4, 2, Durability::Volatile).await;
            if synced {
                file.sync_data().await.expect("healthy");
            }
        });
        crash(&world);
        contents.push(world.disk(world.machine("m")).read("/f").expect("its name is durable"));
        worlds.push(world);
    }
    (contents, worlds)
}

fn total(worlds: &[World], kind: FaultKind) -> u64 {
    worlds.iter().map(|world| world.statistics().faults(kind)).sum()
}

#[test]
fn a_power_cut_tears_unsynced_writes() {
    let (contents, worlds) = crashes(200, false, |world| world.power_cut(world.machine("m")));
    let is = |content: &Vec<u8>, byte: u8| content.iter().all(|&other| other == byte);
    assert!(contents.iter().filter(|content| is(content, 1)).count() > 10, "all lost");
    assert!(contents.iter().filter(|content| is(content, 2)).count() > 10, "all kept");
    let mixed = |size: usize| {
        contents
            .iter()
            .filter(move |content| content.chunks(size).any(|part| part[0] != part[size - 1]))
    };
    assert!(mixed(4096).count() > 30, "torn between sectors");
    assert!(mixed(512).count() > 5, "torn within a sector");
    for kind in [
        FaultKind::LostBlock,
        FaultKind::LostSector,
        FaultKind::ShornSector,
        FaultKind::GarbageSector,
        FaultKind::PowerCut,
    ] {
        assert!(total(&worlds, kind) > 0, "{kind:?} never changed anything");
    }
}

#[test]
fn a_crash_of_the_system_loses_whole_blocks() {
    let (contents, worlds) = crashes(200, false, |world| world.crash_os(world.machine("m")));
    for content in &contents {
        for block in content.chunks(4096) {
            assert!(block.iter().all(|&byte| byte == block[0]) && matches!(block[0], 1 | 2));
        }
    }
    let mixed = contents.iter().filter(|content| content[0] != content[4096 * 3]);
    assert!(mixed.count() > 10, "blocks are lost one by one");
    assert!(total(&worlds, FaultKind::LostBlock) > 0);
}

#[test]
fn a_kill_loses_nothing_that_completed() {
    let (contents, _) = crashes(50, false, |world| {
        world.start(world.machine("m"), 1, |_| std::future::pending());
        world.kill(world.machine("m"));
    });
    assert!(contents.iter().all(|content| content.iter().all(|&byte| byte == 2)));
}

#[test]
fn what_was_synced_survives_every_crash() {
    let (contents, _) = crashes(300, true, |world| world.power_cut(world.machine("m")));
    assert!(contents.iter().all(|content| content.iter().all(|&byte| byte == 2)));
}

/// Random durable and volatile writes by several tasks, then a power cut: acknowledged durable
/// blocks hold what was acknowledged last, or what was in flight behind it.
fn durable_writes_survive(seed: u64, profile: DiskProfile) -> u64 {
    let world = World::new(seed);
    let machine = world.machine("m");
    let usual = DiskProfile::NVME.durable_write.spread;
    let slower = (profile.durable_write.spread + profile.flush.spread).div_ceil(2) / usual;
    world.set_disk(machine, profile);
    // By block: the byte acknowledged last, and the one in flight.
    let model: Rc<RefCell<BTreeMap<u64, (u8, u8)>>> = Rc::default();
    let shared = Rc::clone(&model);
    world.start(machine, 1, move |env| {
        let shared = Rc::clone(&shared);
        async move {
            let file = create(&env, "/f").await;
            for writer in 0..4_u64 {
                let (env, file, shared) = (env.clone(), file.clone(), Rc::clone(&shared));
                env.clone()
                    .spawn("writer", async move {
                        let mut random = env.random("writes");
                        for byte in 1..=255_u8 {
                            let block = writer * 8 + random.below(8);
                            shared.borrow_mut().entry(block).or_default().1 = byte;
                            if random.below(4) == 0 {
                                write(&file, block, 1, byte, Durability::Volatile).await;
                                file.sync_data().await.expect("healthy");
                            } else {
                                write(&file, block, 1, byte, Durability::Durable).await;
                            }
                            shared.borrow_mut().entry(block).or_default().0 = byte;
                        }
                    })
                    .detach();
            }
            std::future::pending::<()>().await;
        }
    });
    let time = Duration::from_micros(2_000 + world.choose(Site::Plan, 0, 8_000));
    world.run_for(time * slower as u32);
    world.power_cut(machine);
    let content = world.disk(machine).read("/f").unwrap_or_default();
    for (&block, &(acknowledged, flying)) in model.borrow().iter() {
        let start = (block as usize * 4096).min(content.len());
        let bytes = &content[start..(start + 4096).min(content.len())];
        if acknowledged == flying {
            assert_eq!(bytes.len(), 4096, "seed {seed}: block {block} is beyond the file");
            let lost = bytes.iter().position(|&byte| byte != acknowledged);
            assert_eq!(lost, None, "seed {seed}: durable block {block} was lost");
        }
    }
    world.statistics().faults(FaultKind::UnacknowledgedWrite)
}

#[test]
fn acknowledged_durable_writes_survive_a_thousand_power_cuts() {
    for profile in DiskProfile::ALL {
        for sector in [512, 4096] {
            let profile = profile.clone().with_sector_bytes(sector);
            let unacknowledged: u64 =
                (0..1000).map(|seed| durable_writes_survive(seed, profile.clone())).sum();
            assert!(unacknowledged > 100, "writes in flight were seen to have happened");
        }
    }
}

#[test]
fn unsynced_names_may_be_lost_and_synced_ones_never() {
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..100 {
        let world = World::new(seed);
        let profile = DiskProfile::NVME.with_name_order(NameOrder::Prefix);
        world.set_disk(world.machine("m"), profile);
        run(&world, |env| async move {
            create(&env, "/synced").await;
            let disk = env.disk();
            disk.open(Path::new("/new"), OpenMode::CreateNew).await.expect("new");
            disk.rename(Path::new("/new"), Path::new("/renamed")).await.expect("there");
            disk.open(Path::new("/last"), OpenMode::CreateNew).await.expect("new");
        });
        let disk = world.disk(world.machine("m"));
        assert_eq!(disk.files(), ["/last", "/renamed", "/synced"]);
        assert_eq!(disk.durable_files(), ["/synced"]);
        if seed % 2 == 0 {
            world.crash_os(world.machine("m"));
        } else {
            world.power_cut(world.machine("m"));
        }
        let files = disk.files();
        let prefixes = [
            &["/synced"][..],
            &["/new", "/synced"],
            &["/renamed", "/synced"],
            &["/last", "/renamed", "/synced"],
        ];
        assert!(
            prefixes.iter().any(|prefix| files == *prefix),
            "no prefix of what was done: {files:?}"
        );
        lost += u32::from(files.len() == 1);
        kept += u32::from(files.len() == 3);
    }
    assert!(lost > 5 && kept > 5, "{lost} lost all, {kept} kept all");
}

#[test]
fn a_removed_name_may_come_back_with_its_content() {
    let mut back = 0;
    for seed in 0..40 {
        let world = World::new(seed);
        run(&world, |env| async move {
            let file = create(&env, "/f").await;
            write(&file, 0, 1, 9, Durability::Durable).await;
            drop(file);
            env.disk().remove(Path::new("/f")).await.expect("there");
            for index in 0..100 {
                let path = format!("/{index}");
                drop(env.disk().open(Path::new(&path), OpenMode::CreateNew).await.expect("new"));
                env.disk().remove(Path::new(&path)).await.expect("there");
            }
        });
        world.power_cut(world.machine("m"));
        if let Some(content) = world.disk(world.machine("m")).read("/f") {
            assert_eq!(content, vec![9; 4096]);
            back += 1;
        }
    }
    assert!(back > 0, "an unsynced removal was lost");
}

#[test]
fn lengths_are_durable_with_a_sync_only() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let world = World::new(seed);
        run(&world, |env| async move {
            let file = create(&env, "/f").await;
            file.allocate(8192).await.expect("room");
            write(&file, 0, 2, 5, Durability::Durable).await;
            file.sync_data().await.expect("healthy");
            file.truncate(4096).await.expect("healthy");
            file.allocate(16384).await.expect("room");
        });
        world.power_cut(world.machine("m"));
        let content = world.disk(world.machine("m")).read("/f").expect("durable");
        assert!(content[..4096].iter().all(|&byte| byte == 5));
        let second = content.get(4096..8192).unwrap_or_default();
        match content.len() {
            16384 => assert!(content[4096..].iter().all(|&byte| byte == 0), "old bytes came back"),
            8192 => assert!(second.iter().all(|&byte| byte == second[0]), "torn by a cut"),
            4096 => {}
            length => panic!("{length} was never its length"),
        }
        lengths.insert(content.len());
    }
    assert_eq!(lengths.len(), 3, "each length was seen: {lengths:?}");
}

#[test]
fn writes_in_flight_may_be_there_in_part_after_a_kill() {
    let (mut none, mut all, mut some) = (0, 0, 0);
    for seed in 0..200 {
        let world = World::new(seed);
        let machine = world.machine("m");
        run(&world, |env| async move {
            let file = create(&env, "/f").await;
            write(&file, 0, 8, 1, Durability::Durable).await;
        });
        world.start(machine, 1, |env| async move {
            let file = env.disk().open(Path::new("/f"), OpenMode::Write).await.expect("there");
            let (_, _) = file.write_at(blocks(8, 2), 0, Durability::Durable).await;
            std::future::pending::<()>().await;
        });
        let disk = world.disk(machine);
        world.run_for(Duration::from_micros(50 + world.choose(Site::Plan, 0, 150)));
        let before = disk.read("/f").expect("durable");
        world.kill(machine);
        let after = disk.read("/f").expect("durable");
        assert!(after.chunks(4096).all(|block| block.iter().all(|&byte| byte == block[0])));
        if before[0] == 2 {
            assert_eq!(after, before, "what happened stays");
            continue;
        }
        match after.iter().filter(|&&byte| byte == 2).count() {
            0 => none += 1,
            32768 => all += 1,
            _ => some += 1,
        }
    }
    assert!(none > 5 && all > 5 && some > 5, "{none} none, {some} some, {all} all");
}

#[test]
fn a_write_happens_before_it_is_seen_to_complete() {
    let mut unseen = 0;
    for seed in 0..50 {
        let world = World::new(seed);
        let machine = world.machine("m");
        let told = Rc::new(Cell::new(false));
        let flag = Rc::clone(&told);
        world.start(machine, 1, move |env| {
            let flag = Rc::clone(&flag);
            async move {
                let file = create(&env, "/f").await;
                write(&file, 0, 1, 1, Durability::Durable).await;
                flag.set(true);
                std::future::pending::<()>().await;
            }
        });
        let disk = world.disk(machine);
        let there = || disk.read("/f").is_some_and(|content| !content.is_empty());
        assert!(world.run_until(there, Duration::from_secs(1)));
        world.run_for(Duration::from_micros(5));
        world.power_cut(machine);
        assert_eq!(disk.read("/f"), Some(vec![1; 4096]), "what happened stays");
        unseen += u32::from(!told.get());
    }
    assert!(unseen > 30, "{unseen} of 50 were on media and nobody was told");
}

#[test]
fn a_dropped_write_goes_on() {
    let world = World::new(1);
    run(&world, |env| async move {
        let file = create(&env, "/f").await;
        let write = Box::pin(file.write_at(blocks(1, 3), 0, Durability::Durable));
        let sleep = Box::pin(env.sleep(Duration::from_micros(1)));
        drop(futures_util::future::select(write, sleep).await);
        env.sleep(Duration::from_millis(20)).await;
        let (result, buffer) = file.read_at(Buffer::with_capacity(4096), 0).await;
        assert_eq!((result.expect("healthy"), buffer[0]), (4096, 3));
    });
}

#[test]
fn what_an_exiting_process_left_in_flight_happens_before_the_next_process() {
    for seed in 0..20 {
        let world = World::new(seed);
        run(&world, |env| async move {
            let file = create(&env, "/f").await;
            let write = Box::pin(file.write_at(blocks(1, 3), 0, Durability::Volatile));
            let sleep = Box::pin(env.sleep(Duration::from_micros(1)));
            drop(futures_util::future::select(write, sleep).await);
        });
        assert_eq!(world.disk(world.machine("m")).read("/f"), Some(vec![3; 4096]));
    }
}

#[test]
fn a_read_may_see_part_of_a_write_in_flight() {
    let mut mixed = 0;
    let mut raced = 0;
    for seed in 0..200 {
        let world = World::new(seed);
        mixed += run(&world, |env| async move {
            let file = create(&env, "/f").await;
            write(&file, 0, 1, 1, Durability::Durable).await;
            let writing = file.write_at(blocks(1, 2), 0, Durability::Durable);
            let reading = file.read_at(Buffer::with_capacity(4096), 0);
            let (_, (result, buffer)) = futures_util::future::join(writing, reading).await;
            result.expect("healthy");
            for sector in buffer.chunks(512) {
                assert!(sector.iter().all(|&byte| byte == sector[0]) && matches!(sector[0], 1 | 2));
            }
            u32::from(buffer.iter().any(|&byte| byte != buffer[0]))
        });
        raced += world.statistics().faults(FaultKind::ReadRace);
    }
    assert!(mixed > 10 && raced > 10, "{mixed} mixed of {raced}");
}

#[test]
fn completions_come_in_any_order_and_some_are_slow() {
    let world = World::new(6);
    let order = run(&world, |env| async move {
        let file = create(&env, "/f").await;
        let order = Rc::new(RefCell::new(Vec::new()));
        let writes = (0..4000_u64).map(|block| {
            let (file, order) = (file.clone(), Rc::clone(&order));
            async move {
                write(&file, block, 1, 1, Durability::Durable).await;
                order.borrow_mut().push(block);
            }
        });
        futures_util::future::join_all(writes).await;
        order.take()
    });
    assert!(!order.is_sorted());
    let statistics = world.statistics();
    assert!(statistics.faults(FaultKind::Reordered) > 100);
    assert!(statistics.faults(FaultKind::SlowDisk) > 0);
}

#[test]
fn a_sync_covers_what_completed_before_even_if_it_is_overwritten_meanwhile() {
    for seed in 0..300 {
        let mut faults = Faults::default();
        faults.disk.torn_sectors = 0;
        let world = World::with_options(WorldOptions { faults, ..WorldOptions::new(seed) });
        run(&world, |env| async move {
            let file = create(&env, "/f").await;
            write(&file, 0, 1, 1, Durability::Durable).await;
            write(&file, 0, 1, 2, Durability::Volatile).await;
            let (synced, ()) = futures_util::future::join(
                file.sync_data(),
                write(&file, 0, 1, 3, Durability::Volatile),
            )
            .await;
            synced.expect("healthy");
        });
        world.power_cut(world.machine("m"));
        let content = world.disk(world.machine("m")).read("/f").expect("durable");
        let lost = content.iter().find(|&&byte| byte != 2 && byte != 3);
        assert_eq!(lost, None, "seed {seed}: what was synced is lost");
    }
}

#[test]
fn after_a_failed_sync_a_later_one_proves_nothing() {
    let (mut lost, mut reverted) = (0, 0);
    for seed in 0..200 {
        let world = World::new(seed);
        let machine = world.machine("m");
        world.disk(machine).fail_next(DiskOperation::Sync, 1, std::io::ErrorKind::Other);
        reverted += run(&world, |env| async move {
            let file = create(&env, "/f").await;
            write(&file, 0, 1, 1, Durability::Durable).await;
            write(&file, 0, 1, 2, Durability::Volatile).await;
            assert!(file.sync_data().await.is_err(), "it was asked to fail");
            file.sync_data().await.expect("healthy again");
            let (_, buffer) = file.read_at(Buffer::with_capacity(4096), 0).await;
            u32::from(buffer[0] == 1)
        });
        world.power_cut(machine);
        lost += u32::from(world.disk(machine).read("/f").expect("durable")[0] == 1);
        assert_eq!(world.statistics().faults(FaultKind::AskedError), 1);
    }
    assert!(reverted > 10 && lost > reverted + 10, "{reverted} reverted of {lost} lost");
    assert!(lost < 190, "some survive");
}

#[test]
fn a_failed_write_leaves_any_of_its_blocks() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let world = World::new(seed);
        let machine = world.machine("m");
        world.disk(machine).fail_next(DiskOperation::Write, 1, std::io::ErrorKind::Other);
        run(&world, |env| async move {
            let file = create(&env, "/f").await;
            file.allocate(2 * 4096).await.expect("room");
            let (result, buffer) = file.write_at(blocks(2, 7), 0, Durability::Durable).await;
            assert!(result.is_err());
            assert!(buffer.iter().all(|&byte| byte == 7), "the buffer comes back unchanged");
        });
        let disk = world.disk(machine);
        let first = |content: Vec<u8>| (content.first().copied(), content.get(4096).copied());
        let visible = first(disk.read("/f").expect("there"));
        let durable = first(disk.read_durable("/f").expect("there"));
        seen.insert((visible, durable));
    }
    assert!(seen.len() > 8, "{seen:?}");
}

#[test]
fn rates_make_operations_fail() {
    let disk = DiskFaults {
        read_error: 200_000,
        write_error: 200_000,
        sync_error: 200_000,
        other_error: 200_000,
        short_read: 200_000,
        ..DiskFaults::none()
    };
    let faults = Faults { disk, ..Faults::none() };
    let world = World::with_options(WorldOptions { faults, ..WorldOptions::new(1) });
    let failed = run(&world, |env| async move {
        let disk = env.disk();
        let file = loop {
            if let Ok(file) = disk.open(Path::new("/f"), OpenMode::CreateNew).await {
                break file;
            }
        };
        let mut failed = [0; 5];
        for _ in 0..100 {
            let (result, _) = file.write_at(blocks(4, 1), 0, Durability::Volatile).await;
            failed[0] += u32::from(result.is_err());
            let (result, buffer) = file.read_at(Buffer::with_capacity(4 * 4096), 0).await;
            failed[1] += u32::from(result.is_err());
            assert_eq!(buffer.len(), result.as_ref().map_or(0, |&length| length));
            failed[4] += u32::from(matches!(result, Ok(1..16384)));
            failed[2] += u32::from(file.sync_data().await.is_err());
            failed[3] += u32::from(disk.list(Path::new("/")).await.is_err());
        }
        failed
    });
    assert!(failed.iter().all(|&count| count > 5), "{failed:?}");
    assert!(world.statistics().faults(FaultKind::DiskError) > 40);
    assert!(world.statistics().faults(FaultKind::ShortRead) > 5);
}

#[test]
fn damage_is_done_where_it_is_asked_for() {
    let world = World::new(1);
    let machine = world.machine("m");
    let disk = world.disk(machine);
    disk.write("/deep/down/f", &vec![1; 10_000]);
    disk.flip_bit("/deep/down/f", 5000, 1);
    disk.overwrite("/deep/down/f", 4094, b"abcd");
    disk.zero("/deep/down/f", 0, 2);
    world.power_cut(machine);
    let content = disk.read("/deep/down/f").expect("it is durable");
    assert_eq!((content.len(), content[5000], &content[4094..4098]), (10_000, 3, &b"abcd"[..]));
    assert_eq!(content[..3], [0, 0, 1]);
    assert_eq!(disk.read_durable("/deep/down/f"), Some(content));
    disk.break_block("/deep/down/f", 4096);
    run(&world, |env| async move {
        let path = Path::new("/deep/down/f");
        let file = env.disk().open(path, OpenMode::Write).await.expect("there");
        let (result, buffer) = file.read_at(Buffer::with_capacity(8192), 0).await;
        assert!(result.is_err() && buffer.is_empty());
        let (result, _) = file.read_at(Buffer::with_capacity(4096), 0).await;
        assert_eq!(result.expect("not broken"), 4096);
        write(&file, 1, 1, 8, Durability::Durable).await;
        let (result, _) = file.read_at(Buffer::with_capacity(4096), 4096).await;
        assert_eq!(result.expect("written again"), 4096);
    });
    disk.remove("/deep/down/f");
    assert!(!disk.exists("/deep/down/f") && disk.exists("/deep/down"));
}

#[test]
fn space_runs_out_and_comes_back() {
    let world = World::new(1);
    let machine = world.machine("m");
    world.disk(machine).set_free_space(10 * 4096);
    run(&world, |env| async move {
        let disk = env.disk();
        let file = create(&env, "/f").await;
        let full = file.allocate(11 * 4096).await.expect_err("too much").kind();
        assert_eq!(full, std::io::ErrorKind::StorageFull);
        assert_eq!(
            file.length().await.expect("healthy"),
            0,
            "a refused allocation changes nothing"
        );
        file.allocate(8 * 4096).await.expect("room");
        write(&file, 0, 8, 1, Durability::Volatile).await;
        let other = create(&env, "/g").await;
        let (result, _) = other.write_at(blocks(3, 1), 0, Durability::Durable).await;
        assert_eq!(result.expect_err("two fit").kind(), std::io::ErrorKind::StorageFull);
        drop(file);
        disk.remove(Path::new("/f")).await.expect("there");
        other.allocate(10 * 4096).await.expect("the removed file gave its space back");
        other.truncate(4096).await.expect("healthy");
        let third = create(&env, "/h").await;
        third.allocate(9 * 4096).await.expect("the cut file gave its space back");
    });
    assert_eq!(world.disk(machine).free_space(), 0);
    assert!(world.statistics().faults(FaultKind::StorageFull) >= 2);
}

#[test]
fn locks_exclude_others_and_end_with_the_process() {
    let world = World::new(1);
    let machine = world.machine("m");
    let held = Rc::new(Cell::new(false));
    let flag = Rc::clone(&held);
    world.start(machine, 1, move |env| {
        let flag = Rc::clone(&flag);
        async move {
            let _lock = env.disk().lock(Path::new("/lock")).await.expect("free");
            flag.set(true);
            std::future::pending::<()>().await;
        }
    });
    let seen = Rc::clone(&held);
    world.run_until(move || seen.get(), Duration::from_secs(1));
    world.kill(machine);
    run(&world, |env| async move {
        let lock = env.disk().lock(Path::new("/lock")).await.expect("its holder is dead");
        drop(lock);
        let _again = env.disk().lock(Path::new("/lock")).await.expect("released");
    });
    world.disk(machine).hold_lock("/lock");
    run(&world, |env| async move {
        let Err(error) = env.disk().lock(Path::new("/lock")).await else { panic!("it is held") };
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    });
    world.disk(machine).release_lock("/lock");
    run(
        &world,
        |env| async move { drop(env.disk().lock(Path::new("/lock")).await.expect("free")) },
    );
}
