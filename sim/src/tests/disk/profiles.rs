//! Kinds of disks, their sectors, and disks that are replaced.

use std::time::Duration;

use woodchuck_io::{Disk as _, Durability, Env as _, File as _, OpenMode};

use super::{create, run, write};
use crate::{DiskProfile, FaultKind, NameOrder, World};

/// What power cuts make of blocks of ones, overwritten by twos that were not synced.
fn power_cuts(profile: &DiskProfile, in_flight: bool) -> (Vec<Vec<u8>>, Vec<World>) {
    let (mut contents, mut worlds) = (Vec::new(), Vec::new());
    for seed in 0..200 {
        let world = World::new(seed);
        let machine = world.machine("m");
        world.set_disk(machine, profile.clone());
        run(&world, move |env| async move {
            let file = create(&env, "/f").await;
            write(&file, 0, 4, 1, Durability::Durable).await;
            if !in_flight {
                write(&file, 0, 4, 2, Durability::Volatile).await;
            }
        });
        if in_flight {
            world.start(machine, 1, |env| async move {
                let file = super::open(&env, "/f").await;
                write(&file, 0, 4, 2, Durability::Durable).await;
            });
            let flying = (profile.metadata.spread + profile.durable_write.least) / 2;
            world.run_for(Duration::from_nanos(flying));
        }
        world.power_cut(machine);
        contents.push(world.disk(machine).read("/f").expect("its name is durable"));
        worlds.push(world);
    }
    (contents, worlds)
}

fn is_mixed(part: &[u8]) -> bool {
    part.iter().any(|&byte| byte != part[0])
}

/// How many parts of such a size hold bytes that differ.
fn mixed(contents: &[Vec<u8>], size: usize) -> usize {
    contents.iter().flat_map(|content| content.chunks(size)).filter(|part| is_mixed(part)).count()
}

#[test]
fn large_sectors_are_torn_whole() {
    let small = DiskProfile::NVME.with_sector_bytes(512);
    let (contents, worlds) = power_cuts(&small, false);
    assert!(super::total(&worlds, FaultKind::LostSector) > 50);
    let (blocks, sectors) = (mixed(&contents, 4096), mixed(&contents, 512));
    assert!(blocks > 100 && sectors > 30, "{blocks} blocks, {sectors} sectors");

    let large = DiskProfile::NVME.with_sector_bytes(4096);
    let (contents, worlds) = power_cuts(&large, false);
    assert_eq!(super::total(&worlds, FaultKind::LostSector), 0, "sectors are blocks");
    let torn = super::total(&worlds, FaultKind::ShornSector)
        + super::total(&worlds, FaultKind::GarbageSector);
    assert_eq!(mixed(&contents, 4096) as u64, torn, "a block is mixed only if it was torn");
    assert!(torn > 5, "{torn}");
}

#[test]
fn the_sector_size_and_the_order_of_names_are_drawn_from_the_seed() {
    let drawn = |seed| {
        let world = World::new(seed);
        let machine = world.machine("m");
        run(&world, |env| async move {
            for path in ["/a", "/b"] {
                env.disk().open(path.as_ref(), OpenMode::CreateNew).await.expect("new");
            }
        });
        world.power_cut(machine);
        let profile = world.disk_profile(machine);
        (profile.sector_bytes.expect("drawn"), profile.name_order.expect("drawn"))
    };
    let all: Vec<(usize, NameOrder)> = (0..40).map(drawn).collect();
    for sector in [512, 4096] {
        for order in [NameOrder::Prefix, NameOrder::Any] {
            assert!(all.contains(&(sector, order)), "{sector} and {order:?} never came");
        }
    }
    assert_eq!(drawn(3), all[3]);
}

#[test]
fn a_kind_of_disk_is_drawn_from_the_seed() {
    let name = |seed| {
        let world = World::new(seed);
        let machine = world.machine("m");
        let profile = world.draw_disk(machine);
        assert_eq!(world.disk_profile(machine), profile);
        profile.name
    };
    for profile in DiskProfile::ALL {
        assert!((0..40).any(|seed| name(seed) == profile.name), "{} never came", profile.name);
    }
    let world = World::new(1);
    let machine = world.machine("m");
    assert_eq!(world.disk_profile(machine), DiskProfile::NVME, "unless a test says otherwise");
    world.set_disk(machine, DiskProfile::HDD);
    assert_eq!(world.disk(machine).free_space(), DiskProfile::HDD.capacity);
}

#[test]
fn a_protected_cache_tears_nothing() {
    let protected = DiskProfile { power_loss_protection: true, ..DiskProfile::NVME };
    let protected = protected.with_sector_bytes(512);
    for in_flight in [false, true] {
        let (contents, worlds) = power_cuts(&protected, in_flight);
        let size = if in_flight { 512 } else { 4096 };
        assert_eq!(mixed(&contents, size), 0, "old or new, and nothing else");
        assert!(contents.iter().flatten().all(|byte| matches!(byte, 1 | 2)));
        for kind in [FaultKind::ShornSector, FaultKind::GarbageSector] {
            assert_eq!(super::total(&worlds, kind), 0, "{kind:?}");
        }
        let mixed = contents.iter().filter(|content| is_mixed(content)).count();
        assert!(mixed > 10, "{mixed} with some of the write; it was above the disk");
    }
}

#[test]
fn a_wiped_disk_is_empty_and_works() {
    let world = World::new(1);
    let machine = world.machine("m");
    let disk = world.disk(machine);
    disk.set_free_space(10 * 4096);
    run(&world, |env| async move {
        let file = create(&env, "/f").await;
        write(&file, 0, 4, 1, Durability::Durable).await;
    });
    disk.fail_disk();
    world.wipe_disk(machine);
    assert_eq!((disk.files().len(), disk.durable_files().len()), (0, 0));
    assert_eq!(disk.free_space(), 10 * 4096);
    run(&world, |env| async move {
        let file = create(&env, "/f").await;
        assert_eq!(file.length().await.expect("healthy"), 0);
        write(&file, 0, 10, 2, Durability::Durable).await;
    });
    world.power_cut(machine);
    assert_eq!(disk.read("/f"), Some(vec![2; 10 * 4096]));
}

#[test]
#[should_panic(expected = "running process")]
fn a_disk_is_not_wiped_under_a_process() {
    let world = World::new(1);
    let machine = world.machine("m");
    world.start(machine, 1, |_| std::future::pending());
    world.wipe_disk(machine);
}
