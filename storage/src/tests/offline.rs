//! Stores that are looked at without being opened: whole ones, and each way to be damaged.

use std::path::Path;

use woodchuck_io::Env;
use woodchuck_sim::{DiskInspector, MachineId, SimEnv, World};

use super::place::{quiet, run_on};
use crate::limits::PAGE_BYTES;
use crate::offline::verify::{StoreVerification, verify};
use crate::offline::{BlockContent, Inspection, find, identify, inspect, is_store, stray_block};
use crate::store::{Operators, Store, StoreOptions};
use crate::{
    BatchView, BlockCache, Damage, Edit, KeyspaceOptions, Kind, Manifest, ManifestOptions,
    StorageError, Table, TableOptions, WriteBatch,
};

const STORE: &str = "/data/shard-0000/store";

/// Where the tables of a store are, in the order of their numbers.
struct Made {
    world: World,
    machine: MachineId,
    disk: DiskInspector,
    tables: Vec<String>,
}

/// A store with three tables of some blocks each: two of one keyspace, of which one has a range
/// tombstone, and one of another; and with a manifest of several edits.
fn made() -> Made {
    let world = quiet(1);
    let machine = world.machine("one");
    run_on(&world, machine, |env| async move {
        let options = StoreOptions {
            manifest: ManifestOptions::small(),
            table: TableOptions {
                block_bytes: 512,
                partition_bytes: 300,
                ..TableOptions::default()
            },
            ..StoreOptions::default()
        };
        let (operators, cache) = (Operators::default(), BlockCache::new(0));
        let opened = Store::open(&env, Path::new(STORE), options, operators, &cache).await;
        let store = opened.expect("there is nothing").0;
        let one = store.create_keyspace("one", KeyspaceOptions::default()).await;
        let other = store.create_keyspace("other", KeyspaceOptions::default()).await;
        let (one, other) = (one.expect("there is none"), other.expect("there is none"));
        for (sequence, id) in [(1, one), (2, one), (3, other)] {
            let mut batch = WriteBatch::new();
            if sequence == 2 {
                // Over keys of the first table: else a flush would leave it out.
                batch.delete_range(id, b"key 050", b"key 060").expect("it is within all bounds");
            }
            for number in 0..200 {
                let key = format!("key {number:03}");
                batch.put(id, key.as_bytes(), &[b'v'; 30]).expect("it is within all bounds");
            }
            let mut bytes = Vec::new();
            batch.encode(&mut bytes);
            store.apply(sequence, &BatchView::parse(&bytes).expect("it was encoded"));
            store.flush(id).await.expect("the disk is healthy");
        }
        store.close().await.expect("all is durable");
    });
    let disk = world.disk(machine);
    let mut tables = disk.files();
    tables.retain(|file| file.ends_with(".table"));
    assert_eq!(tables.len(), 3);
    Made { world, machine, disk, tables }
}

impl Made {
    fn run<T: 'static, F: Future<Output = T> + 'static>(
        &self,
        body: impl FnOnce(SimEnv) -> F + 'static,
    ) -> T {
        run_on(&self.world, self.machine, body)
    }

    /// What is found, and that nothing was changed.
    fn look(&self) -> (Result<Inspection, StorageError>, Result<StoreVerification, StorageError>) {
        let content = |disk: &DiskInspector| {
            let files = disk.files();
            files.into_iter().map(|file| (disk.read(&file), file)).collect::<Vec<_>>()
        };
        let before = content(&self.disk);
        let found = self.run(|env| async move {
            let (disk, store) = (env.disk(), Path::new(STORE));
            let mut read = 0;
            let verified = verify(disk, store, |bytes| read = bytes).await;
            assert_eq!(verified.as_ref().map_or(read, |found| found.bytes), read);
            (inspect(disk, store).await, verified)
        });
        assert!(before == content(&self.disk), "who looks changes nothing");
        found
    }

    fn verify(&self) -> StoreVerification {
        self.look().1.expect("it is a store")
    }

    /// The one damaged place.
    fn damage(&self) -> Damage {
        let found = self.verify();
        assert_eq!((found.damaged, found.damage.len(), found.tables), (1, 1, 3), "{found:?}");
        assert!(found.is_damaged() && found.failure().is_none());
        found.damage[0].clone()
    }
}

#[test]
fn a_whole_store_is_told_as_it_is() {
    let made = made();
    let (inspected, verified) = made.look();
    let (inspected, verified) = (inspected.expect("a store"), verified.expect("a store"));
    assert!(inspected.verdict.is_ok() && !verified.is_damaged(), "{inspected:?}");
    let version = inspected.version.expect("it is whole");
    let names: Vec<&str> = version.keyspaces().map(|keyspace| keyspace.name()).collect();
    assert_eq!(names, ["one", "other"]);
    assert_eq!(
        (inspected.damaged, inspected.orphans, inspected.left_alone),
        (vec![], vec![], vec![])
    );
    assert_eq!((verified.tables, verified.entries, verified.damaged), (3, 600, 0), "{verified:?}");
    assert!(verified.blocks > 60 && verified.failure().is_none(), "{verified:?}");
    made.run(|env| async move {
        let disk = env.disk();
        let found = find(disk, Path::new("/")).await.expect("the disk is healthy");
        assert_eq!(found, [Path::new(STORE)]);
        assert!(is_store(disk, Path::new(STORE)).await.expect("the disk is healthy"));
        let none = inspect(disk, Path::new("/data")).await.expect_err("it is none");
        assert!(matches!(none, StorageError::NotAStore { .. }), "{none}");
    });
}

#[test]
fn a_damaged_block_is_told_with_its_file_place_and_keys_and_the_rest_is_read() {
    let made = made();
    let blocks = made.verify().blocks;
    made.disk.flip_bit(&made.tables[1], 3 * PAGE_BYTES as u64 + 100, 3);
    let found = made.damage();
    assert_eq!(found.file, made.tables[1]);
    assert!(found.offset <= 3 * PAGE_BYTES as u64 + 100, "{found}");
    let (above, to) = found.keys.expect("the index tells");
    assert!(
        above < to && above.starts_with(b"key ") && to.starts_with(b"key "),
        "{above:?} {to:?}"
    );
    let verified = made.verify();
    assert_eq!(verified.blocks, blocks, "all blocks were looked at");
    assert!((580..600).contains(&verified.entries), "{verified:?}");
}

#[test]
fn missing_cut_and_unreadable_tables_are_damage() {
    let missing = made();
    missing.disk.remove(&missing.tables[0]);
    let found = missing.verify();
    assert_eq!((found.damaged, found.tables, found.entries), (1, 2, 400), "{found:?}");
    assert!(found.damage[0].what.contains("missing"), "{found:?}");

    let cut = made();
    let whole = cut.disk.read(&cut.tables[2]).expect("it is there");
    cut.disk.write(&cut.tables[2], &whole[..2 * PAGE_BYTES]);
    let found = cut.verify();
    assert_eq!((found.damaged, found.entries), (1, 400), "{found:?}");
    assert_eq!(found.damage[0].file, cut.tables[2]);
    assert!(found.damage[0].keys.is_some(), "the manifest tells");

    let footer = made();
    let length = footer.disk.length(&footer.tables[0]).expect("it is there");
    footer.disk.flip_bit(&footer.tables[0], length - 4000, 0);
    let found = footer.damage();
    assert!(found.what.contains("last page") && found.keys.is_some(), "{found}");

    let broken = made();
    broken.disk.break_block(&broken.tables[0], 0);
    let found = broken.verify();
    assert_eq!((found.damaged, found.unreadable.len(), found.entries), (0, 1, 400), "{found:?}");
    assert!(matches!(found.failure(), Some(StorageError::Io { .. })), "{found:?}");
}

#[test]
fn a_whole_table_that_is_not_what_the_manifest_says_is_damage() {
    let made = made();
    // The manifest comes to say of the first table that it has one entry less.
    made.run(|env| async move {
        let opened = Manifest::open(&env, Path::new(STORE), ManifestOptions::small()).await;
        let manifest = opened.expect("it is whole").0;
        let version = manifest.version();
        let table = version.keyspaces().flat_map(|keyspace| keyspace.tables()).last();
        let mut table = (**table.expect("there are tables")).clone();
        let remove = Edit::new().remove_table(table.keyspace, table.number);
        table.entries -= 1;
        manifest.commit(remove.add_table(table)).await.expect("it looks right");
        manifest.close().await.expect("the disk is healthy");
    });
    let found = made.damage();
    assert!(found.what.contains("199 entries") && found.what.contains("200 entries"), "{found}");
    assert!(found.keys.is_some(), "{found}");
}

#[test]
fn a_damaged_manifest_is_told_and_the_tables_are_read_all_the_same() {
    let made = made();
    let segments = made.disk.files().into_iter().filter(|file| file.ends_with(".wal"));
    let mut damaged = 0;
    for segment in segments {
        let whole = made.disk.read(&segment).expect("it is there");
        for page in 0..whole.len() / PAGE_BYTES {
            // The bytes behind a frame's header; where there is no frame, nothing is damaged.
            let at = (page * PAGE_BYTES + 70) as u64;
            made.disk.flip_bit(&segment, at, 1);
            let (inspected, verified) = made.look();
            let (inspected, verified) = (inspected.expect("a store"), verified.expect("a store"));
            assert_eq!(inspected.verdict.is_err(), verified.is_damaged());
            if let Err(error) = &inspected.verdict {
                damaged += 1;
                assert!(error.is_corrupt(), "{error}");
                // Those that the rest speaks of; if nothing does, all that there are.
                assert_eq!((verified.damaged, verified.tables <= 3), (0, true), "{verified:?}");
                let is_told = inspected.version.is_some();
                assert!(is_told || verified.tables == 3, "{verified:?}");
            }
            made.disk.write(&segment, &whole);
        }
    }
    assert!(damaged >= 4, "{damaged}");
}

#[test]
fn orphans_and_foreign_files_are_told_and_stay() {
    let made = made();
    let bytes = made.disk.read(&made.tables[0]).expect("it is there");
    made.disk.write(&format!("{STORE}/0000000000000001.table"), &bytes);
    made.disk.write(&format!("{STORE}/notes"), b"mine");
    let found = made.look().0.expect("it is a store");
    assert_eq!(found.orphans.len(), 1, "{found:?}");
    assert_eq!((found.orphans[0].number, found.orphans[0].bytes), (1, bytes.len() as u64));
    assert_eq!(found.left_alone.len(), 1, "{found:?}");
    assert!(!made.verify().is_damaged());
}

#[test]
fn a_store_without_a_manifest_is_refused_by_name() {
    let made = made();
    for file in made.disk.files().into_iter().filter(|file| file.contains("/manifest/")) {
        made.disk.remove(&file);
    }
    let (inspected, verified) = made.look();
    for error in [inspected.err(), verified.err()] {
        let error = error.expect("there is no manifest");
        assert!(matches!(error, StorageError::NoManifest { tables: 3, .. }), "{error}");
    }
}

#[test]
fn a_table_is_shown_block_by_block_and_a_block_by_any_place_in_it() {
    let made = made();
    let (file, disk) = (made.tables[1].clone(), made.world.disk(made.machine));
    made.run(move |env| async move {
        let path = Path::new(&file);
        let opened = Table::open_alone(env.disk(), path).await;
        let table = opened.expect("it is whole");
        assert_eq!(identify(env.disk(), path).await.expect("it is whole"), table.id());
        let mut blocks = Vec::new();
        table.blocks(|block| blocks.push(block)).await;
        let of = |kind: &str| blocks.iter().filter(|block| block.kind == kind).count();
        let partitions = table.properties().partitions as usize;
        assert!(partitions > 1);
        assert_eq!((of("filter"), of("index_partition")), (partitions, partitions));
        assert_eq!((of("range_tombstones"), of("top_index"), of("properties")), (1, 1, 1));
        assert_eq!(of("data") as u64, table.properties().data_blocks);
        let mut keys = Vec::new();
        for block in &blocks {
            let content = block.content.as_ref().expect("it is whole");
            for at in [block.offset, block.offset + block.bytes - 1] {
                let again = table.block_at(at).await.expect("it stands there");
                assert_eq!((again.kind, again.offset), (block.kind, block.offset));
            }
            let stray = stray_block(env.disk(), path, block.offset).await.expect("it is whole");
            assert_eq!((stray.kind, stray.bytes), (block.kind, block.bytes));
            assert!(stray.content.is_ok());
            match (block.kind, content) {
                ("data", BlockContent::Entries(entries)) => {
                    let (above, to) = block.keys.clone().expect("the index tells");
                    for entry in entries.iter() {
                        assert!(above <= entry.user_key && entry.user_key <= to);
                        assert_eq!((entry.sequence, entry.kind), (2, Kind::Value));
                        keys.push(entry.user_key);
                    }
                }
                ("range_tombstones", BlockContent::Entries(entries)) => {
                    let all: Vec<_> = entries.iter().collect();
                    let range = (&all[0].user_key[..], &all[0].value[..]);
                    assert_eq!(range, (&b"key 050"[..], &b"key 060"[..]));
                }
                _ => {}
            }
        }
        assert!(keys.len() == 200 && keys.is_sorted());
        let none = table.block_at(8).await.expect_err("that is the first page");
        assert!(matches!(none, StorageError::Corrupt(_)), "{none}");
        let none = stray_block(env.disk(), path, blocks[0].offset + 1).await;
        assert!(none.is_err() || none.is_ok_and(|block| block.content.is_err()));

        let data = blocks.iter().find(|block| block.kind == "data").expect("there is one");
        disk.flip_bit(&file, data.offset + 30, 0);
        let found = table.block_at(data.offset).await.expect("the index speaks of it");
        let Err(StorageError::Corrupt(damage)) = found.content else { panic!("{found:?}") };
        assert_eq!((&damage.file, damage.offset, &damage.keys), (&file, data.offset, &data.keys));
        let mut damaged = 0;
        table.blocks(|block| damaged += usize::from(block.content.is_err())).await;
        assert_eq!(damaged, 1, "the others are read");
    });
}
