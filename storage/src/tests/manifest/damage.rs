//! Damage to a manifest is never taken for another state.

use std::rc::Rc;

use woodchuck_sim::{MachineId, World};

use super::super::place::{quiet, random, run_on};
use super::{open, table};
use crate::manifest::Version;
use crate::{Edit, KeyspaceOptions, StorageError, TableMetadata};

/// A store with a snapshot and edits behind it, closed: all that was acknowledged is witnessed.
fn made(world: &World, machine: MachineId) -> Rc<Version> {
    run_on(world, machine, |env| async move {
        let (manifest, _) = open(&env).await.expect("there is nothing");
        let given = manifest.take_numbers(40).await.expect("the disk is healthy");
        let id = given.start;
        let edit = Edit::new().create_keyspace(id, "mine", KeyspaceOptions::default());
        let mut version = manifest.commit(edit.flushed(id, 9)).await.expect("it is right");
        for number in id + 1..given.end {
            let added = TableMetadata { level: 0, run: number, ..table(id, number, "a", "b") };
            let edit = Edit::new().add_table(added);
            version = manifest.commit(edit).await.expect("it is right");
        }
        manifest.close().await.expect("the disk is healthy");
        version
    })
}

/// Opens the store: what it finds must be what was written, or an error.
fn check(world: &World, machine: MachineId, written: &Rc<Version>, what: &str) -> bool {
    let (written, what) = (Rc::clone(written), what.to_owned());
    run_on(world, machine, |env| async move {
        match open(&env).await {
            Ok((manifest, _)) => {
                assert_eq!(*manifest.version(), *written, "{what}: another state");
                manifest.close().await.expect("the disk is healthy");
                true
            }
            Err(StorageError::Manifest { .. } | StorageError::ManifestCorrupt(_)) => false,
            Err(error) => panic!("{what}: {error}"),
        }
    })
}

fn segments(world: &World, machine: MachineId) -> Vec<(String, Vec<u8>)> {
    let disk = world.disk(machine);
    let files = disk.files().into_iter().filter(|file| file.ends_with(".wal"));
    files.map(|file| (file.clone(), disk.read(&file).expect("it is there"))).collect()
}

#[test]
fn flipped_bits_are_never_another_state() {
    let mut random = random(1);
    let (mut same, mut refused) = (0, 0);
    for seed in 0..250 {
        let world = quiet(seed);
        let machine = world.machine("one");
        let written = made(&world, machine);
        let segments = segments(&world, machine);
        let (file, bytes) = &segments[random.below(segments.len() as u64) as usize];
        // Where there is something, mostly.
        let used = bytes.iter().rposition(|&byte| byte != 0).map_or(1, |last| last + 1) as u64;
        let at = random.below(used + used / 20);
        let disk = world.disk(machine);
        disk.flip_bit(file, at.min(bytes.len() as u64 - 1), random.below(8) as u8);
        if random.below(4) == 0 {
            disk.zero(file, at / 4096 * 4096, 4096);
        }
        if check(&world, machine, &written, &format!("seed {seed}: byte {at} of {file}")) {
            same += 1;
        } else {
            refused += 1;
        }
    }
    assert!(same > 10 && refused > 10, "{same} {refused}");
}

#[test]
fn a_missing_segment_is_never_another_state() {
    let world = quiet(7);
    let machine = world.machine("one");
    // Segments of a small manifest hold 64 blocks, with one edit each.
    let written = {
        let mut written = made(&world, machine);
        for round in 0..3 {
            written = run_on(&world, machine, move |env| async move {
                let options = crate::ManifestOptions {
                    edit_bytes_min: 1 << 30,
                    ..crate::ManifestOptions::small()
                };
                let (manifest, _) = super::open_with(&env, options).await.expect("it is whole");
                let id = manifest.version().keyspaces().next().expect("it is there").id();
                for lsn in 1..30 {
                    let edit = Edit::new().flushed(id, 100 * (round + 1) + lsn);
                    manifest.commit(edit).await.expect("it is right");
                }
                let version = manifest.version();
                manifest.close().await.expect("the disk is healthy");
                version
            });
        }
        written
    };
    // One is prepared ahead, and holds nothing yet.
    let mut all = segments(&world, machine);
    all.retain(|(_, bytes)| bytes.iter().any(|&byte| byte != 0));
    assert!(all.len() > 2, "it has a few segments");
    let disk = world.disk(machine);
    // That the newest is missing, the log cannot know.
    for (file, _) in &all[..all.len() - 1] {
        disk.remove(file);
        let is_there = check(&world, machine, &written, &format!("without {file}"));
        assert!(!is_there, "each of them is needed");
        for (file, bytes) in &all {
            disk.write(file, bytes);
        }
    }
    assert!(check(&world, machine, &written, "with all of them"));
}
