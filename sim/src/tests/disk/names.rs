//! Names: what a crash keeps of them, and of the content behind them.

use std::collections::BTreeSet;
use std::path::Path;

use woodchuck_io::{Disk as _, Durability, Env as _, File as _, OpenMode};

use super::{blocks, create, run, world_with, write};
use crate::{DiskProfile, FaultKind, NameOrder, SimEnv, World};

async fn create_unsynced(env: &SimEnv, path: &str) {
    env.disk().open(Path::new(path), OpenMode::CreateNew).await.expect("new");
}

#[test]
fn without_order_any_names_may_be_lost_but_none_comes_back_to_front() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let world = World::new(seed);
        let machine = world.machine("m");
        world.set_disk(machine, DiskProfile::NVME.with_name_order(NameOrder::Any));
        run(&world, |env| async move {
            create(&env, "/synced").await;
            create_unsynced(&env, "/a").await;
            create_unsynced(&env, "/b").await;
            env.disk().rename(Path::new("/a"), Path::new("/c")).await.expect("there");
        });
        world.power_cut(machine);
        seen.insert(world.disk(machine).files().join(" "));
    }
    let expected =
        ["/a /b /synced", "/a /synced", "/b /c /synced", "/b /synced", "/c /synced", "/synced"];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn without_order_a_name_is_not_taken_again_before_it_was_given_up() {
    let (mut taken, mut back) = (0, 0);
    for seed in 0..100 {
        let world = World::new(seed);
        let machine = world.machine("m");
        world.set_disk(machine, DiskProfile::NVME.with_name_order(NameOrder::Any));
        run(&world, |env| async move {
            let old = create(&env, "/a").await;
            write(&old, 0, 1, 1, Durability::Durable).await;
            env.disk().rename(Path::new("/a"), Path::new("/b")).await.expect("there");
            create_unsynced(&env, "/a").await;
            let new = super::open(&env, "/a").await;
            write(&new, 0, 1, 2, Durability::Durable).await;
        });
        world.power_cut(machine);
        let disk = world.disk(machine);
        let old = vec![1; 4096];
        if disk.read("/a").is_some_and(|content| content == old) {
            assert!(!disk.exists("/b"), "seed {seed}: one file with two names");
            back += 1;
        } else {
            assert_eq!(disk.read("/b"), Some(old), "seed {seed}: a synced file was lost");
            taken += u32::from(disk.exists("/a"));
        }
    }
    assert!(taken > 10 && back > 10, "{taken} taken again, {back} back");
}

#[test]
fn a_rename_without_a_directory_flush_is_lost_in_some_seeds() {
    for order in [NameOrder::Prefix, NameOrder::Any] {
        let mut lost = 0;
        for seed in 0..60 {
            let world = World::new(seed);
            let machine = world.machine("m");
            world.set_disk(machine, DiskProfile::NVME.with_name_order(order));
            run(&world, |env| async move {
                let file = create(&env, "/new").await;
                write(&file, 0, 1, 1, Durability::Durable).await;
                env.disk().rename(Path::new("/new"), Path::new("/old")).await.expect("there");
            });
            world.power_cut(machine);
            let files = world.disk(machine).files();
            assert!(files == ["/new"] || files == ["/old"], "{files:?}");
            let content = world.disk(machine).read(&files[0]);
            assert_eq!(content, Some(vec![1; 4096]), "it is lost, its file is not");
            lost += u64::from(files == ["/new"]);
            let counted = world.statistics().faults(FaultKind::LostName);
            assert_eq!(counted, u64::from(files == ["/new"]));
        }
        assert!((10..50).contains(&lost), "{lost} of 60 lost with {order:?}");
    }
}

#[test]
fn a_file_renamed_before_its_data_was_synced_may_be_empty() {
    let mut lengths = BTreeSet::new();
    for seed in 0..100 {
        let world = World::new(seed);
        let machine = world.machine("m");
        let synced = seed % 2 == 1;
        run(&world, move |env| async move {
            let file = create(&env, "/new").await;
            write(&file, 0, 1, 1, Durability::Volatile).await;
            if synced {
                file.sync_data().await.expect("healthy");
            }
            let disk = env.disk();
            disk.rename(Path::new("/new"), Path::new("/target")).await.expect("there");
            disk.sync_directory(Path::new("/")).await.expect("healthy");
        });
        world.power_cut(machine);
        let content = world.disk(machine).read("/target").expect("its name was synced");
        assert!(!synced || content == vec![1; 4096], "its data was synced");
        lengths.insert(content.len());
    }
    assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [0, 4096]);
}

#[test]
fn names_and_allocations_are_refused_at_a_rate() {
    let world = world_with(1, "metadata_full", 300_000);
    let refused = run(&world, |env| async move {
        let disk = env.disk();
        let full = |result: std::io::Result<()>| match result {
            Ok(()) => 0_u64,
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
                1
            }
        };
        let file = loop {
            if let Ok(file) = disk.open(Path::new("/f"), OpenMode::CreateNew).await {
                break file;
            }
        };
        let mut refused = [0; 4];
        for index in 0..50 {
            let path = format!("/{index}");
            let created = disk.open(Path::new(&path), OpenMode::CreateNew).await;
            refused[0] += full(created.map(drop));
            refused[1] += full(disk.create_directory(Path::new(&format!("/d{index}"))).await);
            let (from, to) = if index % 2 == 0 { ("/x", "/y") } else { ("/y", "/x") };
            if disk.open(Path::new(from), OpenMode::Read).await.is_err() {
                drop(disk.open(Path::new(from), OpenMode::CreateNew).await);
            } else {
                refused[2] += full(disk.rename(Path::new(from), Path::new(to)).await);
            }
            refused[3] += full(file.allocate(index * 4096).await);
            let (written, _) = file.write_at(blocks(1, 1), 0, Durability::Durable).await;
            written.expect("writes are not refused");
            file.sync_data().await.expect("nor are syncs");
        }
        refused
    });
    assert!(refused.iter().all(|&count| count > 2), "{refused:?}");
    let counted = world.statistics().faults(FaultKind::MetadataFull);
    assert!(counted >= refused.iter().sum::<u64>(), "{counted} of {refused:?}");
}

#[test]
fn a_full_disk_takes_no_new_name_and_gives_names_up() {
    let world = world_with(1, "metadata_full", 0);
    let disk = world.disk(world.machine("m"));
    disk.write("/old", &[1; 4096]);
    disk.fill(0);
    run(&world, |env| async move {
        let disk = env.disk();
        let kind = |result: std::io::Result<()>| result.expect_err("it is full").kind();
        let full = std::io::ErrorKind::StorageFull;
        let (old, new) = (Path::new("/old"), Path::new("/new"));
        assert_eq!(kind(disk.open(new, OpenMode::CreateNew).await.map(drop)), full);
        assert_eq!(kind(disk.create_directory(new).await), full);
        assert_eq!(kind(disk.rename(old, new).await), full);
        assert_eq!(kind(disk.lock(new).await.map(drop)), full);
        drop(disk.lock(old).await.expect("it is there"));
        let exists = disk.open(old, OpenMode::CreateNew).await.map(drop);
        assert_eq!(kind(exists), std::io::ErrorKind::AlreadyExists);
        disk.create_directory(Path::new("/")).await.expect("it is there");
        drop(disk.open(old, OpenMode::Write).await.expect("nothing new"));
        disk.remove(old).await.expect("that takes no room");
        disk.open(new, OpenMode::CreateNew).await.expect("there is room again");
    });
    assert_eq!(world.statistics().faults(FaultKind::MetadataFull), 4);
}
