//! Disks that fail.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use woodchuck_io::{Disk, Env};
use woodchuck_sim::{DiskOperation, World};

use super::history::{History, numbered_key};
use super::place::{DIRECTORY, FILE, create, open, quiet, run_in, run_on, write};
use crate::{BlockCache, Bounds, Entry, Kind, ReadOptions, StorageError, TableOptions};

fn options() -> TableOptions {
    TableOptions { chunk_bytes: 4096, ..TableOptions::default() }
}

/// The writer tells of the failure, or, if it comes while nobody waits, at the latest when it is
/// finished; and takes nothing afterwards.
#[test]
fn a_failed_write_abandons_the_table() {
    // With time between entries, writes end while others begin; without, when they are waited for.
    let cases =
        [(DiskOperation::Write, true), (DiskOperation::Write, false), (DiskOperation::Sync, true)];
    for (operation, has_time) in cases {
        let world = quiet(1);
        let machine = world.machine("one");
        run_on(&world, machine, |env| async move {
            let made = env.disk().create_directory(Path::new(DIRECTORY)).await;
            made.expect("the disk is healthy");
        });
        world.disk(machine).fail_next(operation, 1, ErrorKind::Other);
        run_on(&world, machine, move |env| async move {
            let mut writer = create(&env, options()).await.expect("no chunk is full yet");
            let mut failure = None;
            for number in 0..2000 {
                let key = numbered_key(number);
                let (kind, expires_at_ms) = (Kind::Value, None);
                let entry =
                    Entry { user_key: &key, sequence: 1, kind, expires_at_ms, value: &[7; 50] };
                if has_time && number % 100 == 0 {
                    env.sleep(Duration::from_millis(10)).await;
                }
                match (&failure, writer.add(&entry).await) {
                    (None, Ok(())) => {}
                    (None, Err(error)) => failure = Some(error),
                    (Some(_), added) => assert!(matches!(added, Err(StorageError::Abandoned))),
                }
            }
            let finished = writer.finish().await.expect_err("a write failed");
            assert!(
                failure.is_some() == (operation == DiskOperation::Write),
                "as soon as it is known"
            );
            let told = failure.unwrap_or(finished);
            assert!(matches!(told, StorageError::Io { .. }), "{told}");
        });
    }
}

#[test]
fn a_directory_that_cannot_be_synced_is_told() {
    let world = quiet(3);
    let machine = world.machine("one");
    let disk = world.disk(machine);
    disk.fail_next_at(DiskOperation::SyncDirectory, DIRECTORY, 1, ErrorKind::Other);
    run_on(&world, machine, |env| async move {
        let finished = write(&env, &History::numbered(10, 10), options()).await;
        assert!(matches!(finished, Err(StorageError::Io { .. })));
    });
}

#[test]
fn a_full_disk_is_told() {
    let world = quiet(4);
    let machine = world.machine("one");
    world.disk(machine).set_free_space(20 * 4096);
    run_on(&world, machine, |env| async move {
        let finished = write(&env, &History::numbered(2000, 100), options()).await;
        let Err(StorageError::Io { source, .. }) = finished else { panic!("there is no room") };
        assert_eq!(source.kind(), ErrorKind::StorageFull);
    });
}

/// Unreadable pages cost the reads that need them, and a scan that reads ahead no more than these.
#[test]
fn unreadable_pages_are_errors_and_nothing_else() {
    const ENTRIES: u32 = 1500;
    let world = quiet(5);
    let machine = world.machine("one");
    run_on(&world, machine, |env| async move {
        let written = write(&env, &History::numbered(ENTRIES, 100), options()).await;
        written.expect("the disk is healthy");
    });
    for page in [3, 4, 9] {
        world.disk(machine).break_block(FILE, page * 4096);
    }
    run_on(&world, machine, |env| async move {
        let cache = BlockCache::new(1 << 20);
        let table = open(&env, &cache, ReadOptions::default()).await.expect("its ends are whole");
        let (mut errors, mut answers) = (0, 0);
        for number in 0..ENTRIES {
            match table.get(&numbered_key(number), u64::MAX).await {
                Ok(found) => answers += u32::from(found.is_some()),
                Err(StorageError::Io { .. }) => errors += 1,
                Err(error) => panic!("nothing is damaged: {error}"),
            }
        }
        assert!(errors > 60 && errors < 150 && errors + answers == ENTRIES, "{errors} {answers}");
        let empty = BlockCache::new(0);
        let table = open(&env, &empty, ReadOptions::default()).await.expect("its ends are whole");
        let mut cursor = table.cursor(Bounds::all());
        let (mut seen, mut next) = (0, 0);
        while next < ENTRIES {
            let mut moved = cursor.seek(&numbered_key(next), u64::MAX).await;
            while moved.is_ok() && cursor.entry().is_some() {
                (seen, next) = (seen + 1, next + 1);
                moved = cursor.next().await;
            }
            assert!(moved.is_err() == (next < ENTRIES), "the scan ends early");
            next += u32::from(moved.is_err());
            // Those behind it in the unreadable block cannot be sought either.
        }
        assert_eq!(seen, answers, "a scan sees all that points see");
    });
}

/// Short reads, and operations that end in any order.
#[test]
fn usual_faults_change_no_answer() {
    for seed in 0..20 {
        run_in(&World::new(seed), |env| async move {
            let history = History::numbered(3000, 100);
            let options = TableOptions { block_bytes: 20_000, ..options() };
            write(&env, &history, options).await.expect("nothing fails for good");
            let cache = BlockCache::new(0);
            let table = open(&env, &cache, ReadOptions::default()).await.expect("it was finished");
            let mut cursor = table.cursor(Bounds::all());
            cursor.seek_to_first().await.expect("it can be read");
            for ((key, _), (_, value)) in &history.entries {
                let entry = cursor.entry().expect("no fewer than there are");
                assert_eq!((entry.user_key, entry.value), (&key[..], &value[..]));
                cursor.next().await.expect("it can be read");
            }
            assert_eq!(cursor.entry(), None);
        });
    }
}
