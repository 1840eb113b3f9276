//! Disks that fail.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use woodchuck_io::{Disk, Env};
use woodchuck_sim::DiskOperation;

use super::super::place::{DIRECTORY, quiet, run_on};
use super::{open, open_with, table};
use crate::{Edit, KeyspaceOptions, ManifestOptions, StorageError};

const MANIFEST: &str = "/store/manifest";

fn create(id: u64) -> Edit {
    Edit::new().create_keyspace(id, "name", KeyspaceOptions::default())
}

#[test]
fn a_failed_write_poisons_the_manifest() {
    for seed in 0..40 {
        let world = quiet(seed);
        let machine = world.machine("one");
        let disk = world.disk(machine);
        let last = run_on(&world, machine, move |env| async move {
            let (manifest, _) = open(&env).await.expect("there is nothing");
            let id = manifest.take_numbers(1).await.expect("the disk is healthy").start;
            let before = manifest.commit(create(id)).await.expect("it is right");
            env.sleep(Duration::from_millis(50)).await;
            disk.fail_next_at(DiskOperation::Write, MANIFEST, 1, ErrorKind::Other);
            let failed = manifest.commit(Edit::new().flushed(id, 1)).await;
            let failed = failed.expect_err("its write failed");
            assert_eq!(manifest.version(), before, "what is not durable is not served");
            let text = failed.to_string();
            assert!(text.contains(MANIFEST) && text.contains("restart the process"), "{text}");
            for _ in 0..2 {
                let poisoned = manifest.commit(Edit::new().flushed(id, 2)).await;
                let poisoned = poisoned.expect_err("nothing more is taken");
                assert!(matches!(&poisoned, StorageError::Manifest { source, .. }
                    if !source.is_retryable() && !source.is_corrupt()));
                let reserved = manifest.version().numbers_below();
                assert!(manifest.take_numbers(reserved).await.is_err());
            }
            assert!(manifest.close().await.is_err());
            before
        });
        run_on(&world, machine, move |env| async move {
            let (manifest, _) = open(&env).await.expect("what was acknowledged is there");
            let flushed = manifest.version().keyspaces().next().expect("it is there").flushed();
            assert!(flushed <= 1, "the one that failed is there or not");
            assert!(manifest.version().number() - last.number() == flushed);
        });
    }
}

#[test]
fn a_full_disk_takes_no_edit_and_loses_none() {
    let world = quiet(3);
    let machine = world.machine("one");
    let disk = world.disk(machine);
    let version = run_on(&world, machine, move |env| async move {
        // Without snapshots, so that the log has to grow.
        let options = ManifestOptions { edit_bytes_min: 1 << 30, ..ManifestOptions::small() };
        let (manifest, _) = open_with(&env, options).await.expect("there is nothing");
        let given = manifest.take_numbers(2).await.expect("the disk is healthy");
        let (id, number) = (given.start, given.start + 1);
        let edit = create(id).flushed(id, 9).add_table(table(id, number, "a", "b"));
        manifest.commit(edit).await.expect("it is right");
        disk.set_free_space(0);
        let mut lsn = 9;
        let full = loop {
            match manifest.commit(Edit::new().flushed(id, lsn + 1)).await {
                Ok(_) => lsn += 1,
                Err(error) => break error,
            }
            assert!(lsn < 1000, "the disk is full");
        };
        assert!(matches!(&full, StorageError::Manifest { source, .. } if source.is_retryable()));
        assert_eq!(manifest.version().keyspace(id).expect("it is there").flushed(), lsn);
        // What makes room is still taken.
        manifest.commit(Edit::new().remove_table(id, number)).await.expect("there is a reserve");
        disk.set_free_space(1 << 30);
        env.sleep(Duration::from_secs(1)).await;
        let version = manifest.commit(Edit::new().flushed(id, lsn + 1)).await;
        version.expect("there is room again")
    });
    run_on(&world, machine, move |env| async move {
        let (manifest, _) = open(&env).await.expect("it is whole");
        assert_eq!(*manifest.version(), *version);
    });
}

#[test]
fn an_orphan_that_cannot_be_removed_is_told() {
    let world = quiet(4);
    let machine = world.machine("one");
    let disk = world.disk(machine);
    run_on(&world, machine, |env| async move {
        let (manifest, _) = open(&env).await.expect("there is nothing");
        manifest.take_numbers(3).await.expect("the disk is healthy");
        manifest.close().await.expect("the disk is healthy");
    });
    let orphan = format!("{DIRECTORY}/0000000000000002.table");
    disk.write(&orphan, b"begun");
    disk.fail_next_at(DiskOperation::Remove, &orphan, 1, ErrorKind::PermissionDenied);
    for (orphans, left) in [(0, 1), (1, 0), (0, 0)] {
        run_on(&world, machine, move |env| async move {
            let (manifest, opened) = open(&env).await.expect("it is whole");
            assert_eq!((opened.orphans.len(), opened.left_alone.len()), (orphans, left));
            manifest.close().await.expect("the disk is healthy");
        });
    }
    assert!(!disk.exists(&orphan));
}

/// Whatever stands in the folder of the manifest and is not the log's keeps the store closed.
#[test]
fn a_file_among_the_manifests_is_told() {
    let world = quiet(5);
    let machine = world.machine("one");
    run_on(&world, machine, |env| async move {
        open(&env).await.expect("there is nothing").0.close().await.expect("it is healthy");
        let file = Path::new(MANIFEST).join("notes.txt");
        let made = env.disk().open(&file, woodchuck_io::OpenMode::CreateNew).await;
        drop(made.expect("the disk is healthy"));
        let refused = open(&env).await.err().expect("it is no log");
        assert!(refused.to_string().contains("notes.txt"), "{refused}");
    });
}
