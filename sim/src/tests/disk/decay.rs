//! Data that changes, vanishes or strays without a word.

use woodchuck_io::{Durability, File as _};

use super::{blocks, create, open, read, run, world_with, write};
use crate::{FaultKind, Faults, World, WorldOptions};

fn calm(seed: u64) -> World {
    World::with_options(WorldOptions { faults: Faults::none(), ..WorldOptions::new(seed) })
}

/// Two files of 16 blocks, the first of ones and the second of twos, and many reads of both. Returns
/// how many reads failed and how many gave other bytes.
fn many_reads(world: &World) -> (u64, u64) {
    run(world, |env| async move {
        let files = [create(&env, "/a").await, create(&env, "/b").await];
        for (file, byte) in files.iter().zip([1, 2]) {
            write(file, 0, 16, byte, Durability::Durable).await;
        }
        let (mut failed, mut wrong) = (0, 0);
        for round in 0..400 {
            let which = round % 2;
            match read(&files[which], round as u64 / 2 % 16, 1).await {
                Ok(bytes) => {
                    wrong += u64::from(bytes.iter().any(|&byte| byte != which as u8 + 1));
                }
                Err(_) => failed += 1,
            }
        }
        (failed, wrong)
    })
}

#[test]
fn latent_errors_come_in_clusters_and_go_when_the_block_is_written() {
    let mut clusters = 0;
    for seed in 0..20 {
        let world = world_with(seed, "latent_error", 20_000);
        let (failed, wrong) = many_reads(&world);
        assert_eq!(wrong, 0, "a block that cannot be read says so");
        assert_eq!(world.statistics().faults(FaultKind::LatentError), failed);
        clusters += run(&world, |env| async move {
            let file = open(&env, "/a").await;
            let mut neighbours = 0;
            let mut before = false;
            for block in 0..16 {
                let broken = read(&file, block, 1).await.is_err();
                neighbours += u64::from(broken && before);
                before = broken;
            }
            neighbours
        });
    }
    assert!(clusters > 20, "{clusters} blocks next to a broken one");
    let world = world_with(1, "latent_error", 0);
    assert_eq!(many_reads(&world), (0, 0));
    assert_eq!(world.statistics().faults(FaultKind::LatentError), 0);
}

#[test]
fn broken_blocks_can_be_repaired_in_any_order() {
    let world = calm(1);
    let disk = world.disk(world.machine("m"));
    disk.write("/f", &[1; 8 * 4096]);
    (2..6).for_each(|block| disk.break_block("/f", block * 4096));
    run(&world, |env| async move {
        let file = open(&env, "/f").await;
        let mut broken = vec![2, 3, 4, 5];
        for repaired in [5, 2, 4, 3] {
            write(&file, repaired, 1, 7, Durability::Durable).await;
            broken.retain(|&block| block != repaired);
            for block in 0..8 {
                let read = read(&file, block, 1).await;
                assert_eq!(read.is_err(), broken.contains(&block), "block {block}");
            }
        }
        assert_eq!(read(&file, 2, 4).await.expect("repaired"), vec![7; 4 * 4096]);
    });
}

#[test]
fn a_repair_that_was_not_synced_is_lost_with_its_data() {
    let (mut broken, mut repaired) = (0, 0);
    for seed in 0..60 {
        let world = calm(seed);
        let machine = world.machine("m");
        world.disk(machine).write("/f", &[1; 4096]);
        world.disk(machine).break_block("/f", 0);
        run(&world, |env| async move {
            let file = open(&env, "/f").await;
            write(&file, 0, 1, 2, Durability::Volatile).await;
            assert_eq!(read(&file, 0, 1).await.expect("newer bytes hide it"), vec![2; 4096]);
        });
        world.crash_os(machine);
        let whole = run(&world, |env| async move {
            let file = open(&env, "/f").await;
            read(&file, 0, 1).await.is_ok_and(|bytes| bytes == vec![2; 4096])
        });
        *(if whole { &mut repaired } else { &mut broken }) += 1;
    }
    assert!(broken > 10 && repaired > 10, "{broken} broken, {repaired} repaired");
}

#[test]
fn bytes_rot_by_bits_bursts_and_sectors() {
    let (mut bits, mut bursts, mut sectors) = (0, 0, 0);
    for seed in 0..40 {
        let world = world_with(seed, "bit_rot", 5_000);
        let (failed, wrong) = many_reads(&world);
        let rotten = world.statistics().faults(FaultKind::BitRot);
        assert_eq!(failed, 0, "rot is silent");
        assert!(wrong == 0 || rotten > 0, "{wrong} wrong and nothing rots");
        if rotten != 1 {
            continue;
        }
        let disk = world.disk(world.machine("m"));
        let changed = [("/a", 1), ("/b", 2)].map(|(path, byte)| {
            let content = disk.read(path).expect("there");
            content.iter().filter(|&&other| other != byte).count()
        });
        match changed.iter().sum::<usize>() {
            1 => bits += 1,
            2..=64 => bursts += 1,
            400.. => sectors += 1,
            other => panic!("{other} bytes changed"),
        }
    }
    assert!(bits > 0 && bursts > 0 && sectors > 0, "{bits} bits, {bursts}, {sectors} sectors");
    let world = world_with(1, "bit_rot", 0);
    assert_eq!(many_reads(&world), (0, 0));
    assert_eq!(world.statistics().faults(FaultKind::BitRot), 0);
}

#[test]
fn misdirected_reads_return_what_lies_elsewhere_and_change_nothing() {
    let world = world_with(1, "misdirected_read", 100_000);
    let (failed, wrong) = many_reads(&world);
    assert_eq!((failed, wrong), (0, world.statistics().faults(FaultKind::MisdirectedRead)));
    assert!((5..40).contains(&wrong), "{wrong} of 400; half of a tenth meet the same bytes");
    let disk = world.disk(world.machine("m"));
    assert_eq!(disk.read("/a"), Some(vec![1; 16 * 4096]));
    assert_eq!(disk.read("/b"), Some(vec![2; 16 * 4096]));
    let world = world_with(1, "misdirected_read", 0);
    assert_eq!(many_reads(&world), (0, 0));
}

/// Overwrites the first of two files of 16 blocks, and returns both with the count of a fault.
fn overwritten(knob: &str, rate: u32, seed: u64, kind: FaultKind) -> (Vec<u8>, Vec<u8>, u64) {
    let world = world_with(seed, knob, rate);
    let disk = world.disk(world.machine("m"));
    disk.write("/a", &[1; 16 * 4096]);
    disk.write("/b", &[2; 16 * 4096]);
    run(&world, |env| async move {
        let file = open(&env, "/a").await;
        for block in 0..16 {
            write(&file, block, 1, 3, Durability::Durable).await;
        }
    });
    let read = |path| disk.read(path).expect("there");
    (read("/a"), read("/b"), world.statistics().faults(kind))
}

fn count(content: &[u8], byte: u8) -> u64 {
    content.chunks(4096).filter(|block| block.iter().all(|&other| other == byte)).count() as u64
}

#[test]
fn misdirected_writes_change_another_place_and_not_their_own() {
    let (mut strayed, mut abroad) = (0, 0);
    for seed in 0..30 {
        let kind = FaultKind::MisdirectedWrite;
        let (a, b, counted) = overwritten("misdirected_write", 200_000, seed, kind);
        assert_eq!(count(&b, 2) + count(&b, 3), 16, "whole blocks land");
        assert!(count(&a, 1) + count(&b, 3) == 0 || counted > 0);
        abroad += count(&b, 3);
        strayed += count(&a, 1);
    }
    assert!(strayed > 10 && abroad > 10, "{strayed} left old, {abroad} landed elsewhere");
    let (a, b, counted) = overwritten("misdirected_write", 0, 1, FaultKind::MisdirectedWrite);
    assert_eq!((count(&a, 3), count(&b, 2), counted), (16, 16, 0));
}

#[test]
fn lost_writes_are_acknowledged_and_never_done() {
    let (a, b, counted) = overwritten("lost_write", 300_000, 1, FaultKind::LostWrite);
    assert_eq!((count(&a, 1), count(&a, 3), count(&b, 2)), (counted, 16 - counted, 16));
    assert!((1..12).contains(&counted), "{counted} of 16");
    let (a, _, counted) = overwritten("lost_write", 0, 1, FaultKind::LostWrite);
    assert_eq!((count(&a, 3), counted), (16, 0));
}

#[test]
fn a_lost_write_extends_its_file_all_the_same() {
    let world = calm(1);
    let disk = world.disk(world.machine("m"));
    disk.lose_next_write("/f");
    run(&world, |env| async move {
        let file = create(&env, "/f").await;
        write(&file, 0, 3, 1, Durability::Durable).await;
        write(&file, 1, 1, 2, Durability::Durable).await;
    });
    world.power_cut(world.machine("m"));
    let content = disk.read("/f").expect("durable");
    assert_eq!((content.len(), count(&content, 0), count(&content, 2)), (3 * 4096, 2, 1));
    assert_eq!(world.statistics().faults(FaultKind::LostWrite), 1);
}

#[test]
fn reads_and_writes_are_misdirected_where_a_test_aims() {
    let world = calm(1);
    let machine = world.machine("m");
    let disk = world.disk(machine);
    disk.write("/log/a", &[1; 4 * 4096]);
    disk.write("/log/b", &[2; 4 * 4096]);
    disk.misdirect_next_write(".none", "/log/b", 0);
    disk.misdirect_next_write("/log/", "/log/b", 2 * 4096);
    disk.misdirect_next_read("b", "/log/a", 0);
    run(&world, |env| async move {
        let (a, b) = (open(&env, "/log/a").await, open(&env, "/log/b").await);
        write(&a, 0, 1, 9, Durability::Durable).await;
        assert_eq!(read(&a, 0, 1).await.expect("healthy"), vec![1; 4096]);
        assert_eq!(read(&b, 0, 1).await.expect("healthy"), vec![1; 4096], "of the other file");
        assert_eq!(read(&b, 0, 1).await.expect("healthy"), vec![2; 4096], "once");
        assert_eq!(read(&b, 2, 1).await.expect("healthy"), vec![9; 4096], "it landed here");
        let (result, _) = a.write_at(blocks(1, 8), 0, Durability::Durable).await;
        result.expect("healthy");
        assert_eq!(read(&a, 0, 1).await.expect("healthy"), vec![8; 4096], "once");
    });
    assert_eq!(world.statistics().faults(FaultKind::MisdirectedWrite), 1);
    assert_eq!(world.statistics().faults(FaultKind::MisdirectedRead), 1);
}

#[test]
fn a_power_cut_may_leave_blocks_that_cannot_be_read() {
    let mut unreadable = 0;
    for seed in 0..100 {
        for knob in [0, 1] {
            let world = world_with(seed, "unreadable_blocks", knob);
            let machine = world.machine("m");
            world.disk(machine).write("/f", &[1; 8 * 4096]);
            run(&world, |env| async move {
                let file = open(&env, "/f").await;
                write(&file, 0, 8, 2, Durability::Volatile).await;
            });
            world.power_cut(machine);
            let failed = run(&world, |env| async move {
                let file = open(&env, "/f").await;
                let mut failed = 0;
                for block in 0..8 {
                    failed += u64::from(read(&file, block, 1).await.is_err());
                }
                failed
            });
            assert_eq!(world.statistics().faults(FaultKind::UnreadableBlock), failed);
            assert!(knob == 1 || failed == 0, "{failed} failed with the knob off");
            unreadable += failed;
        }
    }
    assert!(unreadable > 5, "{unreadable}");
}
