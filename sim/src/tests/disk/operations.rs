//! Operations, their failures, space and locks.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::{Buffer, Disk as _, Durability, Env as _, File as _, OpenMode};

use super::{blocks, create, run, write};
use crate::{DiskFaults, DiskOperation, FaultKind, Faults, World, WorldOptions};

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
