//! A manifest that is opened, edited, and opened again.

use std::path::Path;

use futures_util::FutureExt;
use futures_util::future::{join, join_all};
use woodchuck_io::{Disk, Env};

use super::super::place::{DIRECTORY, quiet, run_in, run_on};
use super::{open, open_with, table};
use crate::limits::{KEY_BYTES, NUMBERS_TAKEN};
use crate::{Edit, KeyspaceOptions, ManifestOptions, StorageError, TableMetadata};

fn create(id: u64) -> Edit {
    Edit::new().create_keyspace(id, &format!("name {id}"), KeyspaceOptions::default())
}

#[test]
fn what_was_committed_is_there_again() {
    let world = quiet(1);
    let machine = world.machine("one");
    let version = run_on(&world, machine, |env| async move {
        let (manifest, opened) = open(&env).await.expect("there is nothing");
        assert!(opened.is_new && opened.edits == 0);
        let id = manifest.take_numbers(1).await.expect("the disk is healthy").start;
        let created = manifest.commit(create(id)).await.expect("it is right");
        assert_eq!(created.keyspace(id).expect("it was made").name(), format!("name {id}"));
        let flushed = manifest.commit(Edit::new().flushed(id, 7)).await.expect("it is right");
        assert_eq!(flushed, manifest.version());
        assert_eq!(created.keyspace(id).expect("it was made").flushed(), 0, "it never changes");
        manifest.close().await.expect("the disk is healthy");
        flushed
    });
    for _ in 0..3 {
        let version = version.clone();
        run_on(&world, machine, |env| async move {
            let (manifest, opened) = open(&env).await.expect("it is whole");
            assert_eq!(*manifest.version(), *version);
            assert!(!opened.is_new && opened.edits == 3, "{opened:?}");
            assert!(opened.orphans.is_empty() && opened.left_alone.is_empty());
            manifest.close().await.expect("the disk is healthy");
        });
    }
}

#[test]
fn stores_have_identities_of_their_own() {
    let world = quiet(2);
    let machine = world.machine("one");
    let stores = run_on(&world, machine, |env| async move {
        let mut stores = Vec::new();
        for directory in ["/a", "/b"] {
            let opened =
                crate::Manifest::open(&env, Path::new(directory), ManifestOptions::small()).await;
            stores.push(opened.expect("there is nothing").0.version().store());
        }
        stores
    });
    assert!(stores[0] != stores[1] && stores[0] != 0);
}

#[test]
fn a_wrong_edit_is_not_written() {
    let world = quiet(3);
    let machine = world.machine("one");
    run_on(&world, machine, |env| async move {
        let (manifest, _) = open(&env).await.expect("there is nothing");
        let id = manifest.take_numbers(1).await.expect("the disk is healthy").start;
        let before = manifest.commit(create(id)).await.expect("it is right");
        // Reserved, and not given out.
        let next = manifest.version().numbers_below() - 1;
        for edit in [Edit::new(), create(id), create(next), Edit::new().remove_table(id, 9)] {
            let refused = manifest.commit(edit).await.expect_err("it is wrong");
            assert!(matches!(refused, StorageError::EditRefused { .. }), "{refused}");
        }
        assert_eq!(before, manifest.version());
        manifest.commit(Edit::new().flushed(id, 1)).await.expect("nothing is wrong with the log");
        manifest.close().await.expect("the disk is healthy");
    });
    run_on(&world, machine, |env| async move {
        let (manifest, opened) = open(&env).await.expect("it is whole");
        assert_eq!((opened.edits, manifest.version().number()), (3, 3));
    });
}

#[test]
fn an_edit_that_is_too_large_is_refused() {
    run_in(&quiet(4), |env| async move {
        let (manifest, _) = open(&env).await.expect("there is nothing");
        let numbers = manifest.take_numbers(9).await.expect("the disk is healthy");
        let id = numbers.start;
        manifest.commit(create(id).flushed(id, 9)).await.expect("it is right");
        let add = |edit: Edit, number: u64| {
            let key = |last: &str| "k".repeat(KEY_BYTES - 2) + &number.to_string() + last;
            let (from, to) = (key("a"), key("b"));
            edit.add_table(table(id, number, &from, &to))
        };
        let three = (2..5).fold(Edit::new(), add);
        assert!(three.bytes() > 256 << 10);
        let refused = manifest.commit(three).await.expect_err("three do not fit a segment");
        assert!(matches!(refused, StorageError::EditRefused { .. }), "{refused}");
        for number in 2..5 {
            manifest.commit(add(Edit::new(), number)).await.expect("each of them does");
        }
        // A snapshot of them was written meanwhile.
        let tables =
            manifest.version().keyspace(id).map_or(0, |keyspace| keyspace.tables().count());
        assert_eq!(tables, 3);
    });
}

#[test]
fn numbers_are_given_once() {
    let world = quiet(5);
    let machine = world.machine("one");
    let mut below = 0;
    for round in 0..4 {
        let next = run_on(&world, machine, move |env| async move {
            let (manifest, _) = open(&env).await.expect("it is whole");
            assert!(manifest.take_numbers(NUMBERS_TAKEN + 1).await.is_err());
            let mut next = manifest.version().numbers_below();
            assert!(next >= below, "round {round}");
            for count in [0, 1, 3, 7, 100, 8, 1] {
                let given = manifest.take_numbers(count).await.expect("the disk is healthy");
                assert_eq!((given.start, given.end), (next, next + count));
                next = given.end;
                assert!(next <= manifest.version().numbers_below(), "it is durable");
            }
            // Not closed: the process ends.
            next
        });
        assert!(next > below);
        below = next;
    }
}

#[test]
fn edits_at_the_same_time_are_made_one_after_the_other() {
    for seed in 0..20 {
        run_in(&quiet(seed), |env| async move {
            let (manifest, _) = open(&env).await.expect("there is nothing");
            let work = (0..10).map(|index| {
                let manifest = &manifest;
                async move {
                    let given = manifest.take_numbers(1 + index % 3).await;
                    let given = given.expect("the disk is healthy");
                    let version = manifest.commit(create(given.start)).await.expect("it is right");
                    assert!(version.keyspace(given.start).is_some());
                    given
                }
            });
            let mut given: Vec<_> = join_all(work).await;
            given.sort_by_key(|range| range.start);
            assert!(given.windows(2).all(|two| two[0].end <= two[1].start), "{given:?}");
            assert_eq!(manifest.version().keyspaces().count(), 10);
            let same = join(manifest.commit(create(1 << 20)), manifest.take_numbers(1)).await;
            assert!(same.0.is_err() && same.1.is_ok());
        });
    }
}

/// A call that is dropped at any moment leaves nothing that a later one does not know of.
#[test]
fn calls_may_be_dropped_half_done() {
    let (mut made, mut not_made) = (0, 0);
    for polls in 0..60 {
        let world = quiet(polls);
        let machine = world.machine("one");
        let version = run_on(&world, machine, move |env| async move {
            let (manifest, _) = open(&env).await.expect("there is nothing");
            let id = manifest.take_numbers(1).await.expect("the disk is healthy").start;
            manifest.commit(create(id)).await.expect("it is right");
            let mut calls = 0;
            // Enough for a few snapshots to be cut.
            for lsn in 1..30 {
                let mut call = Box::pin(manifest.commit(Edit::new().flushed(id, lsn)));
                for _ in 0..(polls + lsn * 7) % 23 {
                    if (&mut call).now_or_never().is_some() {
                        calls += 1;
                        break;
                    }
                    env.sleep(std::time::Duration::from_micros(13)).await;
                }
            }
            let last = manifest.commit(Edit::new().flushed(id, 100)).await.expect("it is right");
            let edits = last.number() - 3;
            assert!(edits >= calls && edits <= 29, "{calls} of {edits}");
            manifest.close().await.expect("the disk is healthy");
            last
        });
        made += version.number() - 3;
        not_made += 29 - (version.number() - 3);
        run_on(&world, machine, move |env| async move {
            let (manifest, _) = open(&env).await.expect("it is whole");
            assert_eq!(*manifest.version(), *version, "seed {polls}");
        });
    }
    assert!(made > 100 && not_made > 20, "{made} {not_made}");
}

/// However many edits there were, the log holds a snapshot and what came behind it.
#[test]
fn the_log_stays_short() {
    let world = quiet(7);
    let machine = world.machine("one");
    run_on(&world, machine, |env| async move {
        let options = ManifestOptions { numbers_reserved: 10_000, ..ManifestOptions::small() };
        let (manifest, _) = open_with(&env, options).await.expect("there is nothing");
        let id = manifest.take_numbers(1).await.expect("the disk is healthy").start;
        manifest.commit(create(id).flushed(id, 9)).await.expect("it is right");
        let mut live = Vec::new();
        for round in 0..600 {
            let number = manifest.take_numbers(1).await.expect("the disk is healthy").start;
            let added = TableMetadata { level: 0, run: number, ..table(id, number, "a", "b") };
            let mut edit = Edit::new().add_table(added);
            live.push(number);
            if live.len() > 30 {
                edit = edit.remove_table(id, live.remove(round * 7 % 30));
            }
            manifest.commit(edit).await.expect("it is right");
        }
        manifest.close().await.expect("the disk is healthy");
        let files = env.disk().list(&Path::new(DIRECTORY).join("manifest")).await;
        assert!(files.expect("it is there").len() <= 6);
    });
    run_on(&world, machine, |env| async move {
        let (manifest, opened) = open(&env).await.expect("it is whole");
        assert_eq!(opened.damaged.len(), 30, "the tables were never written");
        assert!(opened.edits < 200, "{}", opened.edits);
        let version = manifest.version();
        assert_eq!(version.keyspaces().next().expect("it is there").tables().count(), 30);
        assert!(version.number() > 600);
    });
}
