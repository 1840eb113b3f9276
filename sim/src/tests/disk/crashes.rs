//! What crashes leave, and what no crash takes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::{Buffer, Disk as _, Durability, Env as _, File as _, OpenMode};

use super::{blocks, create, run, total, write};
use crate::{DiskProfile, FaultKind, Faults, NameOrder, Site, World, WorldOptions};

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
