//! The files of a store: orphans go, live tables never do, what is damaged is told.

use std::path::Path;

use woodchuck_sim::{MachineId, SimEnv, World};

use super::super::history::History;
use super::super::place::{DIRECTORY, quiet, run_on};
use super::{SimManifest, open, table};
use crate::{
    BlockCache, Edit, Entry, KeyspaceOptions, Kind, ReadOptions, StorageError, Table, TableId,
    TableMetadata, TableOptions, TableWriter,
};

use woodchuck_io::Env;

fn name(number: u64) -> String {
    format!("{DIRECTORY}/{number:016x}.table")
}

/// Writes a table for real, and gives what the manifest is to know of it.
async fn write(env: &SimEnv, id: TableId) -> TableMetadata {
    let directory = Path::new(DIRECTORY);
    let mut writer = TableWriter::create(env.disk(), directory, id, TableOptions::default())
        .await
        .expect("the disk is healthy");
    for (user_key, value) in [(b"b", b"first"), (b"d", b"other")] {
        let (kind, expires_at_ms) = (Kind::Value, None);
        let entry = Entry { user_key, sequence: 6, kind, expires_at_ms, value };
        writer.add(&entry).await.expect("the disk is healthy");
    }
    let finished = writer.finish().await.expect("the disk is healthy");
    let metadata = table(id.keyspace, id.number, "b", "d");
    TableMetadata { level: 0, run: id.number, file_bytes: finished.file_bytes, ..metadata }
}

/// A store with one keyspace, two live tables and one that was never committed. Gives their numbers.
async fn make(env: &SimEnv) -> (SimManifest, [u64; 3]) {
    let (manifest, _) = open(env).await.expect("there is nothing");
    let given = manifest.take_numbers(4).await.expect("the disk is healthy");
    let id = given.start;
    let edit = Edit::new().create_keyspace(id, "mine", KeyspaceOptions::default()).flushed(id, 9);
    manifest.commit(edit).await.expect("it is right");
    let store = manifest.version().store();
    let mut numbers = [0; 3];
    for (index, number) in (id + 1..given.end).enumerate() {
        let metadata = write(env, TableId { store, keyspace: id, number }).await;
        if index < 2 {
            manifest.commit(Edit::new().add_table(metadata)).await.expect("it is right");
        }
        numbers[index] = number;
    }
    (manifest, numbers)
}

fn made(world: &World, machine: MachineId) -> (u128, [u64; 3]) {
    run_on(world, machine, |env| async move {
        let (manifest, numbers) = make(&env).await;
        let store = manifest.version().store();
        manifest.close().await.expect("the disk is healthy");
        (store, numbers)
    })
}

#[test]
fn orphans_go_and_nothing_else_does() {
    let world = quiet(1);
    let machine = world.machine("one");
    let disk = world.disk(machine);
    let (_, [one, two, orphan]) = made(&world, machine);
    // One that was begun and not written, and names that no table has.
    disk.write(&name(orphan + 1), b"");
    let others = ["notes.txt", "12.table", "000000000000000A.table", "0000000000000001.table.old"];
    for other in others {
        disk.write(&format!("{DIRECTORY}/{other}"), b"mine");
    }
    let orphan_bytes = disk.length(&name(orphan)).expect("it is there");
    for round in 0..2 {
        let opened = run_on(&world, machine, move |env| async move {
            let (manifest, opened) = open(&env).await.expect("it is whole");
            let version = manifest.version();
            let cache = BlockCache::new(1 << 20);
            for metadata in version.keyspace_by_name("mine").expect("it is there").tables() {
                let (disk, directory) = (env.disk(), Path::new(DIRECTORY));
                let (id, options) = (version.table_id(metadata), ReadOptions::default());
                let table = Table::open(disk, directory, id, &cache, options).await;
                let found = table.expect("it is whole").get(b"d", 9).await.expect("it is whole");
                assert_eq!(&found.expect("it is there").value[..], b"other");
            }
            manifest.close().await.expect("the disk is healthy");
            opened
        });
        assert!(opened.damaged.is_empty());
        let orphans: Vec<_> = opened.orphans.iter().map(|one| (one.number, one.bytes)).collect();
        let expected = [(orphan, orphan_bytes), (orphan + 1, 0)];
        assert_eq!(orphans, if round == 0 { &expected[..] } else { &[] });
        let mut left: Vec<_> = opened.left_alone.iter().map(|left| left.name.as_str()).collect();
        left.sort_by_key(|left| others.iter().position(|other| other == left));
        assert_eq!(left, others);
        assert!(disk.exists(&name(one)) && disk.exists(&name(two)));
        assert!(!disk.exists(&name(orphan)) && !disk.exists(&name(orphan + 1)));
    }
}

#[test]
fn a_table_of_another_store_is_left_alone() {
    let world = quiet(2);
    let machine = world.machine("one");
    let disk = world.disk(machine);
    let (store, [.., orphan]) = made(&world, machine);
    let other = TableId { store: store + 1, keyspace: 1, number: orphan + 1 };
    run_on(&world, machine, move |env| async move {
        write(&env, other).await;
    });
    let opened =
        run_on(&world, machine, |env| async move { open(&env).await.expect("it is whole").1 });
    assert_eq!(opened.orphans.len(), 1);
    assert_eq!(opened.left_alone.len(), 1);
    assert!(opened.left_alone[0].reason.contains("of store"), "{:?}", opened.left_alone);
    assert!(disk.exists(&name(orphan + 1)) && !disk.exists(&name(orphan)));
}

#[test]
fn damaged_tables_are_told_and_the_rest_is_served() {
    let world = quiet(3);
    let machine = world.machine("one");
    let disk = world.disk(machine);
    let (_, [one, two, orphan]) = made(&world, machine);
    disk.remove(&name(one));
    let mut cut = disk.read(&name(two)).expect("it is there");
    cut.truncate(cut.len() - 4096);
    disk.write(&name(two), &cut);
    run_on(&world, machine, move |env| async move {
        let (manifest, opened) = open(&env).await.expect("tables do not keep a store closed");
        let version = manifest.version();
        let keyspace = version.keyspace_by_name("mine").expect("it is there");
        assert_eq!(keyspace.tables().count(), 2, "they are there still, and fail their reads");
        assert!(opened.orphans.is_empty(), "it may be what is left of something");
        assert!(opened.left_alone[0].reason.contains("are damaged"), "{:?}", opened.left_alone);
        let told: Vec<_> = opened.damaged.iter().map(|damaged| damaged.table.number).collect();
        assert_eq!(told, [one, two]);
        for (damaged, what) in opened.damaged.iter().zip(["missing", "it was written with"]) {
            assert_eq!(damaged.keyspace_name, "mine");
            let error = damaged.error();
            assert!(error.is_corrupt());
            let text = error.to_string();
            for part in [what, "\"b\" up to \"d\"", "(mine)", &name(damaged.table.number)] {
                assert!(text.contains(part), "{text:?} does not say {part:?}");
            }
        }
    });
    assert!(disk.exists(&name(orphan)));
}

/// Everything in the store that is no file of its manifest.
fn tables(world: &World, machine: MachineId) -> Vec<String> {
    let files = world.disk(machine).files();
    files.into_iter().filter(|file| file.ends_with(".table")).collect()
}

#[test]
fn tables_without_a_manifest_are_refused() {
    for what_is_left in ["nothing", "an empty folder", "a begun log"] {
        let world = quiet(4);
        let machine = world.machine("one");
        let disk = world.disk(machine);
        made(&world, machine);
        let before = tables(&world, machine);
        let files = disk.files();
        for file in files.iter().filter(|file| file.contains("/manifest/")) {
            disk.remove(file);
        }
        if what_is_left == "a begun log" {
            // As of a store that was made and has not got its first snapshot.
            run_on(&world, machine, |env| async move {
                let folder = Path::new(DIRECTORY).join("manifest");
                let options = woodchuck_wal::LogOptions::small();
                let opened = woodchuck_wal::Log::<_, ()>::open(env, folder, options, |_| Ok(()));
                opened.await.expect("there is nothing").0.close().await.expect("it is healthy");
            });
        }
        for _ in 0..2 {
            run_on(&world, machine, |env| async move {
                let refused = open(&env).await.err().expect("nothing says which are live");
                assert!(matches!(refused, StorageError::NoManifest { tables: 3, .. }), "{refused}");
            });
            assert_eq!(tables(&world, machine), before, "{what_is_left}");
        }
    }
}

/// An older copy of the manifest would give numbers again, and take newer tables for orphans.
#[test]
fn an_old_copy_of_the_manifest_is_refused() {
    let world = quiet(5);
    let machine = world.machine("one");
    let disk = world.disk(machine);
    made(&world, machine);
    let manifest = |file: &String| file.contains("/manifest/");
    let files = disk.files().into_iter().filter(manifest);
    let old: Vec<_> = files.map(|file| (disk.read(&file).expect("it is there"), file)).collect();
    run_on(&world, machine, |env| async move {
        let (manifest, _) = open(&env).await.expect("it is whole");
        let version = manifest.version();
        let given = manifest.take_numbers(20).await.expect("the disk is healthy");
        let keyspace = version.keyspaces().next().expect("it is there").id();
        let id = TableId { store: version.store(), keyspace, number: given.end - 1 };
        let metadata = write(&env, id).await;
        manifest.commit(Edit::new().add_table(metadata)).await.expect("it is right");
        manifest.close().await.expect("the disk is healthy");
    });
    disk.files().iter().filter(|file| manifest(file)).for_each(|file| disk.remove(file));
    old.iter().for_each(|(bytes, file)| disk.write(file, bytes));
    let before = tables(&world, machine);
    for _ in 0..2 {
        run_on(&world, machine, |env| async move {
            let refused = open(&env).await.err().expect("it does not know of the table");
            assert!(matches!(refused, StorageError::ManifestCorrupt(_)), "{refused}");
            assert!(refused.to_string().contains("not the newest manifest"), "{refused}");
        });
        assert_eq!(tables(&world, machine), before);
    }
}

#[test]
fn tables_of_a_writer_can_be_added() {
    let world = quiet(6);
    let machine = world.machine("one");
    run_on(&world, machine, |env| async move {
        let (manifest, _) = open(&env).await.expect("there is nothing");
        let given = manifest.take_numbers(2).await.expect("the disk is healthy");
        let (keyspace, number) = (given.start, given.start + 1);
        let create = Edit::new().create_keyspace(keyspace, "k", KeyspaceOptions::default());
        manifest.commit(create).await.expect("it is right");
        let id = TableId { store: manifest.version().store(), keyspace, number };
        let history = History::numbered(200, 30);
        let finished = super::super::place::write_as(&env, id, &history, TableOptions::default());
        let finished = finished.await.expect("the disk is healthy");
        let metadata = TableMetadata::of(&finished, 0, number, None);
        assert_eq!((metadata.entries, metadata.file_bytes), (200, finished.file_bytes));
        let lsn = metadata.largest_sequence;
        let edit = Edit::new().flushed(keyspace, lsn).add_table(metadata);
        manifest.commit(edit).await.expect("it is right");
        manifest.close().await.expect("the disk is healthy");
        let (_, opened) = open(&env).await.expect("it is whole");
        assert!(opened.damaged.is_empty() && opened.orphans.is_empty());
        // With range tombstones that end behind the last key, at it, and in front of the first.
        let last = finished.properties.largest_key.as_slice();
        for (end, largest, is_excluded) in
            [(&b"b"[..], last, false), (last, last, false), (b"zzz", b"zzz", true)]
        {
            let metadata = TableMetadata::of(&finished, 0, number, Some((b"a", end)));
            assert_eq!(metadata.smallest_key, b"a");
            assert_eq!(
                (&metadata.largest_key[..], metadata.is_largest_excluded),
                (largest, is_excluded)
            );
        }
    });
}
