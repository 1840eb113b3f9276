//! `woodchuck inspect manifest`, `table`, `block`, and `verify` of stores.

use std::path::{Path, PathBuf};

use serde_json::Value;
use woodchuck_cli::exit::Exit;
use woodchuck_io::runtime::{Backend, Runtime, RuntimeOptions};
use woodchuck_io::{Env, Program};
use woodchuck_storage::store::{Operators, Store, StoreOptions};
use woodchuck_storage::{BatchView, BlockCache, KeyspaceOptions, ManifestOptions, WriteBatch};

use crate::data::{Folder, complains, exits, json, json_lines, text, told};

/// Makes a store of two keyspaces, with a table each, and a checkpoint of it, in the data directory.
#[derive(Clone)]
struct Work {
    store: PathBuf,
    copy: PathBuf,
}

impl Program for Work {
    type Output = Result<(), String>;

    async fn run<E: Env>(self, env: E) -> Self::Output {
        let make = async {
            let options =
                StoreOptions { manifest: ManifestOptions::small(), ..StoreOptions::default() };
            let (operators, cache) = (Operators::default(), BlockCache::new(0));
            let opened = Store::open(&env, &self.store, options, operators, &cache).await?;
            let store = opened.0;
            for (sequence, name) in [(1, "orders"), (2, "parcels")] {
                let id = store.create_keyspace(name, KeyspaceOptions::default()).await?;
                let mut batch = WriteBatch::new();
                let long = [b'l'; 100];
                batch.put(id, b"tab\t", b"value").expect("it is within all bounds");
                batch
                    .put_expiring(id, b"soon", b"over", u64::MAX)
                    .expect("it is within all bounds");
                batch.put(id, &long, &[7; 30]).expect("it is within all bounds");
                for number in 0..300 {
                    let key = format!("n {number:03}");
                    batch.put(id, key.as_bytes(), &[7; 30]).expect("it is within all bounds");
                }
                let mut bytes = Vec::new();
                batch.encode(&mut bytes);
                store.apply(sequence, &BatchView::parse(&bytes).expect("it was encoded"));
                store.flush(id).await?;
            }
            store.checkpoint(&self.copy).await?;
            store.close().await
        };
        let made: Result<(), woodchuck_storage::StorageError> = make.await;
        made.map_err(|error| error.to_string())
    }
}

/// A filled data directory that has a store on shard 0, and a checkpoint of it beside the data
/// directory.
fn folder_with_store(name: &str) -> Folder {
    let folder = Folder::filled(name);
    let work = Work { store: store(&folder), copy: folder.path("copy") };
    let options = RuntimeOptions {
        shards: 1,
        backend: Backend::Posix,
        pin: false,
        ..RuntimeOptions::default()
    };
    for output in Runtime::start(options, work).expect("starts").join() {
        output.expect("no panic").expect("it is made");
    }
    folder
}

fn store(folder: &Folder) -> PathBuf {
    folder.data().join("shard-0000").join("store")
}

fn tables(store: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(store).expect("a store");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut tables: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "table")).collect();
    tables.sort();
    tables
}

/// What was printed, wherever its lines end: that depends on how long paths are.
fn words(output: &std::process::Output) -> String {
    text(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn of_type<'a>(lines: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    lines.iter().filter(move |line| line["type"] == kind)
}

#[test]
fn a_manifest_is_shown_and_nothing_is_changed() {
    let folder = folder_with_store("manifest");
    let (store, before) = (store(&folder), folder.content());
    let output = told("inspect manifest", &store, "");
    exits(&output, Exit::Done);
    let shown = words(&output);
    for part in ["\"orders\"", "\"parcels\"", "level 0: 1 runs, 1 tables", "verdict: opens"] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    // A segment of the manifest, or its folder, is of the same store. So is a copy.
    let manifest = store.join("manifest");
    let segment = std::fs::read_dir(&manifest).expect("a folder").flatten().map(|one| one.path());
    let segment = segment.filter(|path| path.extension().is_some_and(|end| end == "wal")).min();
    for path in [manifest, segment.expect("there is one")] {
        assert_eq!(words(&told("inspect manifest", &path, "")), shown);
    }
    let lines = json_lines(&told("inspect manifest", &store, "--json"));
    let names: Vec<&str> =
        of_type(&lines, "keyspace").filter_map(|line| line["name"].as_str()).collect();
    assert_eq!(names, ["orders", "parcels"]);
    assert_eq!(of_type(&lines, "table").count(), 2);
    let verdict = lines.last().expect("a verdict");
    assert_eq!((&verdict["type"], &verdict["verdict"]), (&"verdict".into(), &"clean".into()));
    let copy = json_lines(&told("inspect manifest", &folder.path("copy"), "--json"));
    assert_eq!(copy[0]["store"], lines[0]["store"]);
    assert!(before == folder.content(), "who looks changes nothing");

    std::fs::copy(&tables(&store)[0], store.join("0000000000000001.table")).expect("copied");
    std::fs::remove_file(&tables(&store)[1]).expect("removed");
    let lines = json_lines(&told("inspect manifest", &store, "--json"));
    assert_eq!(of_type(&lines, "orphan").count(), 1);
    let damaged: Vec<&Value> = of_type(&lines, "damaged_table").collect();
    assert!(damaged[0]["damage"]["what"].as_str().is_some_and(|what| what.contains("missing")));
    complains(&told("inspect manifest", &folder.data(), ""), Exit::Failed, &["not the directory"]);
}

#[test]
fn a_table_and_its_blocks_are_shown_also_where_one_is_damaged() {
    let folder = folder_with_store("table");
    let file = tables(&store(&folder))[0].clone();
    let output = told("inspect table", &file, "--entries --limit 4");
    exits(&output, Exit::Done);
    let shown = words(&output);
    let long = format!("\"{}\"... of 100 bytes", "l".repeat(64));
    for part in [&long, "\"n 000\" commit", "299 entries are not shown", "blocks are whole"] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    let lines = json_lines(&told("inspect table", &file, "--entries --json"));
    let entries: Vec<&Value> = of_type(&lines, "entry").collect();
    assert_eq!(entries.len(), 303);
    let kinds = |kind: &str| entries.iter().filter(|entry| entry["kind"] == kind).count();
    assert_eq!((kinds("value"), kinds("expiring_value")), (302, 1));
    assert_eq!(entries.last().expect("there is one")["key"]["escaped"], "tab\\t");
    let blocks: Vec<Value> =
        of_type(&lines, "block").filter(|block| block["kind"] == "data").cloned().collect();
    assert!(blocks.len() > 2 && blocks.iter().all(|block| block["whole"] == true));

    let at = blocks[1]["offset"].as_u64().expect("a number");
    let block = json_lines(&told("inspect block", &file, &format!("--at {} --json", at + 9)));
    assert_eq!((&block[0]["offset"], &block[0]["kind"]), (&at.into(), &"data".into()));
    assert_eq!(Some(block.len() as u64 - 1), block[0]["entries"].as_u64());
    folder.flip(&file, at as usize + 40);
    let lines = json_lines(&told("inspect table", &file, "--json"));
    let damaged: Vec<&Value> =
        of_type(&lines, "block").filter(|block| block["whole"] == false).collect();
    assert_eq!((damaged.len(), damaged[0]["offset"].as_u64()), (1, Some(at)));
    let output = told("inspect block", &file, &format!("--at {at}"));
    exits(&output, Exit::Done);
    let shown = words(&output);
    assert!(shown.contains("is damaged at") && shown.contains("keys above"), "{shown}");
    complains(&told("inspect block", &file, "--at 7"), Exit::Damaged, &["no block"]);

    // Without its last page nothing tells where blocks are; who knows can still see one.
    let bytes = std::fs::read(&file).expect("readable");
    std::fs::write(&file, &bytes[..bytes.len() - 4096]).expect("written");
    complains(&told("inspect table", &file, ""), Exit::Damaged, &["its last page"]);
    let first = blocks[0]["offset"].as_u64().expect("a number");
    let shown = told("inspect block", &file, &format!("--at {first} --json"));
    assert_eq!(json_lines(&shown)[0]["whole"], true);
}

#[test]
fn verify_reads_the_stores_of_a_data_directory_and_one_by_itself() {
    let folder = folder_with_store("verify-stores");
    let store = store(&folder);
    let before = folder.content();
    for (path, logs) in [(folder.data(), 2), (store.clone(), 0), (folder.path("copy"), 0)] {
        let output = told("verify", &path, "");
        exits(&output, Exit::Done);
        let shown = words(&output);
        assert!(shown.contains("clean; 2 tables of") && shown.contains("606 entries"), "{shown}");
        let document = json(&told("verify", &path, "--json"));
        assert_eq!(document["verdict"], "clean");
        assert_eq!(document["logs"].as_array().map(Vec::len), Some(logs));
        assert_eq!(document["stores"][0]["tables"], 2);
    }
    assert!(before == folder.content(), "who looks changes nothing");

    // The checkpoint has the same file, and so the same damage.
    folder.flip(&tables(&store)[1], 5000);
    for path in [folder.data(), store.clone(), folder.path("copy")] {
        let output = told("verify", &path, "");
        exits(&output, Exit::Damaged);
        let shown = words(&output);
        for part in [".table", "is damaged at", "keys above"] {
            assert!(shown.contains(part), "{part:?} is not in {shown}");
        }
        let document = json(&told("verify", &path, "--json"));
        let found = &document["stores"][0];
        assert_eq!((&document["verdict"], &found["damaged"]), (&"damaged".into(), &1.into()));
        assert_eq!(found["tables"], 2, "the other was read, too");
        assert!(found["damage"][0]["keys_to"]["escaped"].is_string(), "{found}");
    }
    std::fs::remove_dir_all(store.join("manifest")).expect("removed");
    complains(&told("inspect manifest", &store, ""), Exit::Damaged, &["no manifest"]);
}

#[test]
#[expect(clippy::disallowed_types, reason = "a file is locked as a broker locks it")]
fn a_store_of_a_broker_that_runs_is_inspected_and_not_verified() {
    let folder = folder_with_store("locked-store");
    let lock = std::fs::File::open(folder.data().join("LOCK")).expect("it was opened once");
    lock.lock().expect("nobody has it");
    let store = store(&folder);
    for path in [folder.data(), store.clone()] {
        complains(&told("verify", &path, ""), Exit::Locked, &["in use by another process"]);
    }
    exits(&told("inspect manifest", &store, ""), Exit::Done);
    exits(&told("inspect table", &tables(&store)[0], ""), Exit::Done);
}
