//! The manifest against a model, through crashes at any moment.
//!
//! In each world one process after the other opens the store, and makes random edits, with tables
//! that it writes beforehand and removes when they are not live any more. Power, system or process
//! end at any moment, with the world's usual faults of the disk: operations in any order, short
//! reads, blocks that were not flushed lost, kept or torn; in every fourth world, writes and flushes
//! that fail besides. Each next process must find
//!
//! - the state after all edits that were acknowledged, or after the one besides that was under way;
//! - all live tables, with their lengths, and no other ones: orphans are removed;
//! - numbers that nobody was ever given.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::{Buffer, Disk, Durability, Env, File, OpenMode, RandomStream};
use woodchuck_sim::{DiskOperation, SimEnv, World};

use super::super::place::{DIRECTORY, random};
use super::{SimManifest, open_with, table};
use crate::manifest::Version;
use crate::{
    Edit, KeyspaceOptions, ManifestOpened, ManifestOptions, StorageError, Strategy, TableMetadata,
};

/// How many worlds there are.
const SEEDS: u64 = 600;

const PROCESSES: u64 = 6;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    /// By number: the name, what is flushed, the tables.
    keyspaces: BTreeMap<u64, (String, u64, BTreeMap<u64, TableMetadata>)>,
}

impl Model {
    fn of(version: &Version) -> Self {
        let keyspaces = version.keyspaces().map(|keyspace| {
            let tables = keyspace.tables().map(|table| (table.number, (**table).clone()));
            (keyspace.id(), (keyspace.name().to_owned(), keyspace.flushed(), tables.collect()))
        });
        Self { keyspaces: keyspaces.collect() }
    }

    fn tables(&self) -> impl Iterator<Item = &TableMetadata> {
        self.keyspaces.values().flat_map(|(_, _, tables)| tables.values())
    }
}

/// What the tests know of a store, over all its processes.
#[derive(Default)]
struct History {
    acknowledged: Model,
    /// What an edit under way would make of it.
    attempted: Option<Model>,
    given: BTreeSet<u64>,
    edits: u64,
    found_attempted: u64,
    orphans: u64,
    snapshots: u64,
    failures: u64,
    /// Whether the store was made, and a process told of it.
    is_made: bool,
    /// Stores that were made after a process before had ended while it was at that.
    made_again: u64,
}

impl History {
    fn acknowledge(&mut self, model: Model) {
        (self.acknowledged, self.attempted) = (model, None);
        self.edits += 1;
    }
}

struct Process {
    seed: u64,
    /// How many were there before it in its world.
    process: u64,
    env: SimEnv,
    random: RandomStream,
    history: Rc<RefCell<History>>,
}

impl Process {
    fn path(number: u64) -> String {
        format!("{DIRECTORY}/{number:016x}.table")
    }

    /// What a process finds: see the module's text.
    async fn open(&self) -> Option<SimManifest> {
        let options = ManifestOptions { edit_bytes_min: 600, ..ManifestOptions::small() };
        let seed = self.seed;
        let (manifest, opened) = match open_with(&self.env, options).await {
            Ok(opened) => opened,
            // The disk was told to fail.
            Err(StorageError::Manifest { source, .. }) if !source.is_corrupt() => return None,
            Err(StorageError::Io { .. }) => return None,
            Err(error) => panic!("seed {seed}: {error}"),
        };
        let live = self.compare(&manifest.version(), &opened);
        let files = self.env.disk().list(Path::new(DIRECTORY)).await.expect("it is there");
        let there: BTreeSet<_> =
            files.into_iter().map(|file| file.name).filter(|name| name != "manifest").collect();
        let live: BTreeSet<_> = live.iter().map(|number| format!("{number:016x}.table")).collect();
        assert_eq!(there, live, "seed {seed}: exactly the live tables are there");
        Some(manifest)
    }

    /// Compares what was found with what must be, which it is from now on. Gives the live tables.
    fn compare(&self, version: &Version, opened: &ManifestOpened) -> BTreeSet<u64> {
        let (seed, found) = (self.seed, Model::of(version));
        let mut history = self.history.borrow_mut();
        let attempted = history.attempted.take();
        if Some(&found) == attempted.as_ref() && found != history.acknowledged {
            history.found_attempted += 1;
        } else {
            assert_eq!(found, history.acknowledged, "seed {seed}: not {attempted:?} either");
        }
        history.acknowledged = found;
        assert_eq!(opened.damaged, [], "seed {seed}: a live table is gone");
        assert_eq!(opened.left_alone, [], "seed {seed}");
        history.orphans += opened.orphans.len() as u64;
        assert!(!(opened.is_new && history.is_made), "seed {seed}: a store is made once");
        history.is_made = true;
        history.made_again += u64::from(opened.is_new && self.process > 0);
        history.snapshots += u64::from(opened.edits < version.number());
        let live: BTreeSet<_> = history.acknowledged.tables().map(|table| table.number).collect();
        let orphans = opened.orphans.iter().map(|orphan| orphan.number);
        assert!(orphans.into_iter().all(|number| !live.contains(&number)), "seed {seed}");
        live
    }

    /// Writes a file of a table's length, durably, as a table writer does.
    async fn write(&self, number: u64) -> std::io::Result<()> {
        let disk = self.env.disk();
        let file = disk.open(Path::new(&Self::path(number)), OpenMode::CreateNew).await?;
        let (written, _) = file.write_at(Buffer::zeroed(3 * 4096), 0, Durability::Volatile).await;
        written?;
        file.sync_data().await?;
        disk.sync_directory(Path::new(DIRECTORY)).await
    }

    async fn take(&self, manifest: &SimManifest, count: u64) -> Option<u64> {
        let given = manifest.take_numbers(count).await.ok()?;
        let mut history = self.history.borrow_mut();
        for number in given.clone() {
            assert!(history.given.insert(number), "seed {}: {number} is given twice", self.seed);
        }
        Some(given.start)
    }

    /// Makes a random edit, and what it makes of the model. `None` if the disk fails.
    async fn draw(&mut self, manifest: &SimManifest) -> Option<(Edit, Model, Vec<u64>)> {
        let mut model = self.history.borrow().acknowledged.clone();
        let ids: Vec<_> = model.keyspaces.keys().copied().collect();
        let pick = |random: &mut RandomStream| ids[random.below(ids.len() as u64) as usize];
        if ids.is_empty() || ids.len() < 4 && self.random.below(6) == 0 {
            let id = self.take(manifest, 1).await?;
            let name = format!("keyspace {id}");
            let strategy = Strategy::Universal;
            let options = KeyspaceOptions { strategy, ..KeyspaceOptions::default() };
            model.keyspaces.insert(id, (name.clone(), 0, BTreeMap::new()));
            return Some((Edit::new().create_keyspace(id, &name, options), model, Vec::new()));
        }
        let id = pick(&mut self.random);
        if self.random.below(25) == 0 {
            let (_, _, tables) = model.keyspaces.remove(&id).expect("it is there");
            return Some((Edit::new().drop_keyspace(id), model, tables.into_keys().collect()));
        }
        // A flush, or a compaction of some tables into others.
        let lsn = model.keyspaces[&id].1 + self.random.below(9) + 1;
        let mut edit = Edit::new().flushed(id, lsn);
        let mut removed = Vec::new();
        if self.random.below(3) == 0 {
            let tables = model.keyspaces[&id].2.keys().copied();
            removed = tables.filter(|_| self.random.below(2) == 0).collect();
            edit = removed.iter().fold(edit, |edit, &number| edit.remove_table(id, number));
        }
        let count = self.random.below(3);
        let first = self.take(manifest, count + 1).await?;
        let (_, flushed, tables) = model.keyspaces.get_mut(&id).expect("it is there");
        *flushed = lsn;
        tables.retain(|number, _| !removed.contains(number));
        for number in first..first + count {
            self.write(number).await.ok()?;
            let key = |last| format!("key {:03} {last}", self.seed % 100);
            let added = TableMetadata {
                level: (number % 3) as u8,
                run: number,
                smallest_sequence: lsn,
                largest_sequence: lsn,
                ..table(id, number, &key('a'), &key('b'))
            };
            tables.insert(number, added.clone());
            edit = edit.add_table(added);
        }
        Some((edit, model, removed))
    }

    async fn run(mut self) -> Option<()> {
        let manifest = self.open().await?;
        loop {
            let (edit, model, removed) = self.draw(&manifest).await?;
            if self.random.below(8) == 0 {
                // Its tables stay, as orphans.
                continue;
            }
            self.history.borrow_mut().attempted = Some(model.clone());
            let version = manifest.commit(edit).await.ok()?;
            assert_eq!(Model::of(&version), model, "seed {}", self.seed);
            self.history.borrow_mut().acknowledge(model);
            for number in removed {
                self.env.disk().remove(Path::new(&Self::path(number))).await.ok()?;
            }
            if self.random.below(100) == 0 {
                return manifest.close().await.ok();
            }
        }
    }
}

#[test]
fn a_manifest_is_what_was_acknowledged_through_all_crashes() {
    let mut all = History::default();
    for seed in 0..SEEDS {
        let world = World::new(seed);
        let machine = world.machine("one");
        let history = Rc::new(RefCell::new(History::default()));
        let mut choices = random(seed);
        for process in 0..PROCESSES {
            let (shared, ended) = (Rc::clone(&history), Rc::new(Cell::new(false)));
            let ends = Rc::clone(&ended);
            world.start(machine, 1, move |env| {
                let (history, ends) = (Rc::clone(&shared), Rc::clone(&ends));
                let random = random(seed * PROCESSES + process);
                let process = Process { seed, process, env, random, history };
                async move {
                    let failed = process.run().await.is_none();
                    ends.set(failed);
                }
            });
            // Some end while they open the store, or make it.
            let longest = if choices.below(4) == 0 { 4_000 } else { 60_000 };
            let time = Duration::from_micros(1 + choices.below(longest));
            if seed % 4 == 3 && process + 1 < PROCESSES && choices.below(2) == 0 {
                world.run_for(time / 2);
                let operation = [DiskOperation::Write, DiskOperation::Sync];
                let operation = operation[choices.below(2) as usize];
                let count = 1 + choices.below(2) as u32;
                world.disk(machine).fail_next(operation, count, ErrorKind::Other);
                world.run_for(time / 2);
                world.disk(machine).fail_no_more();
            } else {
                world.run_for(time);
            }
            history.borrow_mut().failures += u64::from(ended.get());
            match choices.below(3) {
                0 => world.power_cut(machine),
                1 => world.crash_os(machine),
                _ => world.kill(machine),
            }
            world.run_for(Duration::from_millis(50));
        }
        let history = history.borrow();
        all.edits += history.edits;
        all.found_attempted += history.found_attempted;
        all.orphans += history.orphans;
        all.snapshots += history.snapshots;
        all.failures += history.failures;
        all.made_again += history.made_again;
    }
    let History { edits, found_attempted, orphans, snapshots, failures, made_again, .. } = all;
    let seen = format!(
        "{edits} edits, {found_attempted} that were not acknowledged and are there, {orphans} \
         orphans, {snapshots} openings with snapshots, {failures} failed disks, {made_again} \
         stores made again"
    );
    assert!(edits > 50 * SEEDS && found_attempted > SEEDS / 4 && orphans > 5 * SEEDS, "{seen}");
    assert!(made_again > SEEDS / 20, "{seen}");
    assert!(snapshots > 2 * SEEDS && failures > SEEDS / 5, "{seen}");
}
