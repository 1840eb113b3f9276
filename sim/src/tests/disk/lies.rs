//! Devices that lie about flushes, and flushes that fail.

use std::path::Path;
use std::time::Duration;

use woodchuck_io::{Disk as _, Durability, Env as _, File as _};

use super::{create, run, world_with, write};
use crate::{DiskOperation, DiskProfile, FaultKind, World};

/// A durable write, a synced volatile one, a durable one beyond the end, a synced name: what of it
/// is there after a crash.
fn acknowledged(world: &World, crash: impl Fn(&World)) -> [bool; 4] {
    let machine = world.machine("m");
    let disk = world.disk(machine);
    disk.write("/f", &[1; 2 * 4096]);
    run(world, |env| async move {
        let file = super::open(&env, "/f").await;
        write(&file, 0, 1, 2, Durability::Durable).await;
        write(&file, 1, 1, 2, Durability::Volatile).await;
        file.sync_data().await.expect("it says so");
        write(&file, 2, 1, 2, Durability::Durable).await;
        create(&env, "/new").await;
    });
    assert_eq!(disk.read("/f"), Some(vec![2; 3 * 4096]), "reads see all of it");
    crash(world);
    let content = disk.read("/f").expect("its name is durable");
    let is_new = |block: &[u8]| block.iter().all(|&byte| byte == 2);
    let longer = content.len() == 3 * 4096 && is_new(&content[2 * 4096..]);
    [is_new(&content[..4096]), is_new(&content[4096..2 * 4096]), longer, disk.exists("/new")]
}

fn cut(world: &World) {
    world.power_cut(world.machine("m"));
}

#[test]
fn what_a_device_lied_about_may_be_lost_at_a_power_cut() {
    let mut lost = [0; 4];
    for seed in 0..60 {
        let world = world_with(seed, "lying_flush", 1_000_000);
        let kept = acknowledged(&world, cut);
        let differ = kept.iter().filter(|&&kept| !kept).count() as u64;
        let counted = world.statistics().faults(FaultKind::LyingFlush);
        assert!(counted >= differ && (differ > 0) == (counted > 0), "{counted}, {kept:?}");
        lost.iter_mut().zip(kept).for_each(|(lost, kept)| *lost += u32::from(!kept));
    }
    assert!(lost.iter().all(|&lost| (10..55).contains(&lost)), "{lost:?} of 60");
    for seed in 0..60 {
        let world = world_with(seed, "lying_flush", 0);
        assert_eq!(acknowledged(&world, cut), [true; 4]);
        assert_eq!(world.statistics().faults(FaultKind::LyingFlush), 0);
    }
}

#[test]
fn a_crash_of_the_system_and_a_protected_cache_leave_lies_unnoticed() {
    for seed in 0..60 {
        let world = world_with(seed, "lying_flush", 1_000_000);
        let crash = |world: &World| world.crash_os(world.machine("m"));
        assert_eq!(acknowledged(&world, crash), [true; 4], "the device kept its power");
        let world = world_with(seed, "lying_flush", 1_000_000);
        let protected = DiskProfile { power_loss_protection: true, ..DiskProfile::NVME };
        world.set_disk(world.machine("m"), protected);
        assert_eq!(acknowledged(&world, cut), [true; 4], "its cache kept its power");
        assert_eq!(world.statistics().faults(FaultKind::LyingFlush), 0);
    }
}

#[test]
fn an_honest_flush_makes_up_for_lies_before_it() {
    for seed in 0..60 {
        let world = world_with(seed, "lying_flush", 0);
        let machine = world.machine("m");
        let disk = world.disk(machine);
        disk.lie_about_flushes(true);
        run(&world, |env| async move {
            let file = create(&env, "/f").await;
            write(&file, 0, 4, 1, Durability::Durable).await;
        });
        assert_eq!(disk.read_durable("/f"), None, "it lied about the name");
        if seed % 2 == 0 {
            disk.lie_about_flushes(false);
        } else {
            disk.heal();
        }
        run(&world, |env| async move {
            let file = super::open(&env, "/f").await;
            file.sync_data().await.expect("healthy");
            env.disk().sync_directory(Path::new("/")).await.expect("healthy");
        });
        world.power_cut(machine);
        assert_eq!(disk.read("/f"), Some(vec![1; 4 * 4096]));
    }
}

#[test]
fn a_device_lies_for_a_while() {
    let (mut lied, mut honest, mut lost) = (0, 0, 0);
    for seed in 0..40 {
        let world = world_with(seed, "lying_period", 50_000);
        let machine = world.machine("m");
        let disk = world.disk(machine);
        run(&world, |env| async move {
            let file = create(&env, "/f").await;
            for block in 0..100 {
                write(&file, block, 1, 1, Durability::Durable).await;
            }
            env.sleep(Duration::from_secs(11)).await;
        });
        let dirty = disk.dirty_blocks("/f");
        lied += u32::from(dirty > 0);
        honest += u32::from(dirty < 100);
        world.power_cut(machine);
        lost += world.statistics().faults(FaultKind::LyingFlush);
    }
    assert!(lied > 20 && honest > 20 && lost > 20, "{lied} lied, {honest} not, {lost} lost");
    let world = world_with(1, "lying_period", 0);
    assert_eq!(acknowledged(&world, cut), [true; 4]);
}

#[test]
fn a_failed_flush_is_not_retried_into_success() {
    let mut lost = 0;
    for seed in 0..100 {
        let world = world_with(seed, "sync_error", 0);
        let machine = world.machine("m");
        let disk = world.disk(machine);
        disk.write("/f", &[1; 4 * 4096]);
        disk.fail_next_at(DiskOperation::Sync, "/f", 1, std::io::ErrorKind::Other);
        run(&world, |env| async move {
            let file = super::open(&env, "/f").await;
            write(&file, 0, 4, 2, Durability::Volatile).await;
            assert!(file.sync_data().await.is_err(), "it was asked to fail");
            for _ in 0..5 {
                file.sync_data().await.expect("healthy again");
            }
        });
        assert_eq!(disk.dirty_blocks("/f"), 0, "all that can be flushed was");
        world.crash_os(machine);
        lost += u32::from(disk.read("/f") != Some(vec![2; 4 * 4096]));
    }
    assert!(lost > 50, "{lost} of 100 lost blocks that a later flush was asked for");
}
