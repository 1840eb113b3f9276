//! One store with its log on one disk, and all that can happen to them.
//!
//! One machine, and on it a series of processes: each opens the store and the log that it belongs
//! to, commits from several tasks at a time, reads, walks, takes snapshots, flushes, compacts,
//! trims the log, and is struck down at any moment, also while it opens. A seed draws the kind of
//! disk, what keyspaces are like, the processes' options, among them blocks, tables and caches of a
//! few keys, the world's faults, and what hinders each process: a disk that stalls, is slow, is
//! full, or fails an operation. In most processes the store flushes and compacts by itself, and its limits
//! are so near that writers are slowed and refused.
//!
//! A model outside the world has every keyspace as it must be: what was acknowledged, in its order,
//! and of what was in flight at a crash a first part. Every answer of every process is held against
//! it, and in the end a process that nothing disturbs is asked for all of it.
//!
//! Under unrestricted faults a disk fails by itself, and spoils nothing: what a log and a manifest
//! can promise on disks that lie is the scenario `log`'s to say.

mod model;
mod process;

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_sim::scenario::{Director, Limits, Observer, Scenario, Stage};
use woodchuck_sim::{DiskOperation, DiskProfile, Faults, MachineId, Regime, World};
use woodchuck_storage::compaction::{LevelledOptions, UniversalOptions};
use woodchuck_storage::store::{Limit, PacingOptions, StoreOptions};
use woodchuck_storage::{
    Compression, KeyspaceOptions, ManifestOptions, PrefixExtractor, ReadOptions, StorageError,
    Strategy, TableOptions,
};
use woodchuck_wal::{LogError, LogOptions};

use crate::log::{UNAFFECTED_BY, UNAFFECTED_UNRESTRICTED};
use model::{KEYSPACES, Model};
use process::{Ending, Orders, Shared, run};

/// Events of a run. A usual one has some ten thousand; one that has a million spins.
const STEPS: u64 = 1_000_000;

/// How long a process may take to come to its end when nothing strikes it.
const END_LIMIT: Duration = Duration::from_secs(600);

/// Commits of a writer, at most.
const COMMITS: u64 = 90;

/// How long a process lives at most: while it opens, and while it works.
const LIFE_MICROS: (u64, u64) = (6_000, 60_000);

/// How long to wait for the disk to be at work before a process is struck down.
const BUSY_WAIT: Duration = Duration::from_millis(5);

/// Room on a disk that is nearly full, at most.
const ROOM_BYTES: u64 = 400 << 10;

/// What operations are made to fail.
const OPERATIONS: [DiskOperation; 12] = [
    DiskOperation::Write,
    DiskOperation::Write,
    DiskOperation::Write,
    DiskOperation::Sync,
    DiskOperation::Sync,
    DiskOperation::SyncDirectory,
    DiskOperation::SyncDirectory,
    DiskOperation::Open,
    DiskOperation::Remove,
    DiskOperation::List,
    DiskOperation::Rename,
    DiskOperation::Read,
];

/// Marks that some world of a campaign must hit.
const STRUCK_EARLY: &str = "struck while it opened";
const BROKEN: &str = "a store could not be opened, or a call of it failed";
const REFUSED: &str = "a writer was refused";
const ORPHANS: &str = "orphans were removed";
const FOUND: &str = "what was not acknowledged was found";
const REMOVED: &str = "a file that nobody needed was removed";

/// The scenario.
#[must_use]
pub fn scenario() -> Scenario {
    let about = "A store and its log, while their processes die and their disk fails.";
    Scenario::new("store", about, set)
        .without(UNAFFECTED_BY)
        .without_unrestricted(UNAFFECTED_UNRESTRICTED)
}

fn set(stage: &mut Stage) {
    let machine = stage.machine("store");
    let world = stage.world().clone();
    let disk = stage.draw("disk", 8) as usize;
    if let Some(profile) = DiskProfile::ALL.get(disk.saturating_sub(4)) {
        world.set_disk(machine, profile.clone());
    }
    be_honest(&world);
    let budgeted = stage.regime() == Regime::Budgeted;
    for mark in [STRUCK_EARLY, BROKEN, REFUSED, ORPHANS, FOUND, REMOVED] {
        stage.sometimes(mark);
    }
    stage.limit(Limits { steps: STEPS, ..Limits::default() });
    let shared = Shared {
        model: Rc::default(),
        ending: Rc::default(),
        may_break: Rc::new(Cell::new(!budgeted)),
        observer: stage.observer(),
    };
    let model = Rc::clone(&shared.model);
    let rounds = 1 + stage.draw("rounds", 7);
    let keyspaces = std::array::from_fn(|which| {
        let draw = |name, range| stage.draw_nth(name, which as u64, range);
        KeyspaceOptions {
            strategy: match draw("strategy", 3) {
                2 => Strategy::Universal,
                _ => Strategy::Levelled,
            },
            compression: match draw("compression", 3) {
                0 => Compression::None,
                1 => Compression::Lz4,
                _ => Compression::Zstd { level: 1 },
            },
            prefix: (draw("prefix", 2) == 1).then_some(PrefixExtractor::Length(2)),
            merge_operator: Some("append".to_owned()),
        }
    });
    let levelled = LevelledOptions {
        runs: 1 + stage.draw("runs", 4) as usize,
        base_bytes: [1, 20_000, 1 << 20][stage.draw("base", 3) as usize],
        growth: 2 + stage.draw("growth", 3),
        ..LevelledOptions::default()
    };
    stage.plan(move |director| async move {
        let plan = Plan { director, machine, shared, budgeted, keyspaces, levelled };
        for _ in 0..rounds {
            plan.round().await;
        }
        plan.end().await;
    });
    stage.verify(move |observer| tell(&model.borrow(), observer));
}

/// No disk of this scenario spoils what it has.
fn be_honest(world: &World) {
    let mut faults = world.faults();
    let disk = &mut faults.disk;
    for rate in [
        &mut disk.lying_flush,
        &mut disk.lying_period,
        &mut disk.lost_write,
        &mut disk.misdirected_write,
        &mut disk.misdirected_read,
        &mut disk.latent_error,
        &mut disk.bit_rot,
    ] {
        *rate = 0;
    }
    world.set_faults(faults);
}

/// Tells what the stores of a world did.
fn tell(model: &Model, observer: &Observer) {
    let told = &model.told;
    for (mark, what, number) in [
        ("", "acknowledged", told.acknowledged),
        (FOUND, "unacknowledged found", told.found_unacknowledged),
        ("", "unacknowledged lost", told.lost_unacknowledged),
        ("", "replayed", told.replayed),
        ("", "reads", told.reads),
        ("", "walks", told.walks),
        ("", "reads of snapshots", told.snapshot_reads),
        ("", "flushes asked for", told.flushes),
        ("", "compactions asked for", told.compactions),
        (REMOVED, "files removed", told.files_removed),
        (REFUSED, "refused", told.refused),
        (ORPHANS, "orphans removed", told.orphans),
    ] {
        observer.count(what, number);
        if !mark.is_empty() && number > 0 {
            observer.hit(mark);
        }
    }
}

struct Plan {
    director: Director,
    machine: MachineId,
    shared: Shared,
    budgeted: bool,
    keyspaces: [KeyspaceOptions; KEYSPACES],
    levelled: LevelledOptions,
}

impl Plan {
    fn world(&self) -> &World {
        self.director.world()
    }

    fn choose(&self, range: u64) -> u64 {
        self.director.choose(range)
    }

    /// One process, from its start to its end.
    async fn round(&self) {
        self.start(self.orders());
        let early = self.choose(4) == 1;
        let longest = if early { LIFE_MICROS.0 } else { LIFE_MICROS.1 };
        let pace = if self.world().disk_profile(self.machine).name == "hdd" { 20 } else { 1 };
        if self.choose(3) == 1 {
            self.pass(self.choose(longest / 2) * pace).await;
            self.hinder();
        }
        self.pass(self.choose(longest) * pace).await;
        if early && self.shared.ending.borrow().is_none() {
            self.director.observer().hit(STRUCK_EARLY);
        }
        if self.choose(2) == 1 {
            let (world, machine) = (self.world().clone(), self.machine);
            let busy = move || world.resources(machine).disk_operations > 1;
            self.director.until(BUSY_WAIT, busy).await;
        }
        let world = self.world();
        match self.choose(6) {
            0 => self.ended().await,
            1 => world.kill(self.machine),
            2 => world.crash_os(self.machine),
            _ => world.power_cut(self.machine),
        }
        self.judge().await;
        self.heal();
    }

    fn orders(&self) -> Orders {
        let table = TableOptions {
            block_bytes: [128, 500, 4000][self.choose(3) as usize],
            ..TableOptions::default()
        };
        let is_maintained = self.choose(4) > 0;
        let store = StoreOptions {
            manifest: ManifestOptions { edit_bytes_min: 600, ..ManifestOptions::small() },
            table,
            read: ReadOptions { pin_partitions: self.choose(2) == 0 },
            table_bytes: [1, 3000, 1 << 20][self.choose(3) as usize],
            levelled: self.levelled,
            universal: UniversalOptions { runs: self.levelled.runs, ..UniversalOptions::default() },
            pacing: if is_maintained { self.pacing() } else { PacingOptions::default() },
            open_tables: 1 + self.choose(3) as usize,
            ..StoreOptions::default()
        };
        Orders {
            log: LogOptions {
                frames_in_flight: 1 + self.choose(4) as usize,
                ..LogOptions::small()
            },
            store,
            keyspaces: self.keyspaces.clone(),
            cache_bytes: [0, 10_000, 1 << 20][self.choose(3) as usize],
            writers: 1 + self.choose(3),
            commits: 4 + self.choose(COMMITS),
            is_maintained,
        }
    }

    fn pacing(&self) -> PacingOptions {
        let memtable_bytes = 1 + self.choose(12_000);
        let slow = memtable_bytes + self.choose(6_000);
        let runs = self.levelled.runs as u64 + self.choose(4);
        PacingOptions {
            memtable_bytes: memtable_bytes as usize,
            memory: Limit { slow, busy: slow + 2_000 + self.choose(20_000) },
            runs: Limit { slow: runs, busy: runs + 2 + self.choose(6) },
            debt: Limit { slow: 0, busy: 20_000 + self.choose(300_000) },
        }
    }

    fn start(&self, orders: Orders) {
        self.shared.ending.take();
        let shared = self.shared.clone();
        self.world().start(self.machine, 1, move |env| {
            let (shared, orders) = (shared.clone(), orders.clone());
            async move { run(env, shared, orders).await }
        });
    }

    /// Makes something hard for the process.
    fn hinder(&self) {
        let disk = self.world().disk(self.machine);
        let time = self.director.duration(Duration::from_millis(1)..Duration::from_millis(300));
        match self.choose(7) {
            0 => disk.stall(time),
            1 => disk.slow_down(10 + self.choose(90) as u32, time),
            2 => {
                disk.set_free_space(self.choose(ROOM_BYTES));
                self.shared.may_break.set(true);
            }
            _ => {
                let kind = OPERATIONS[self.choose(OPERATIONS.len() as u64) as usize];
                disk.fail_next(kind, 1, ErrorKind::Other);
                self.shared.may_break.set(true);
            }
        }
    }

    /// Ends whatever makes something hard. Only when no process runs.
    fn heal(&self) {
        let disk = self.world().disk(self.machine);
        disk.fail_no_more();
        disk.heal();
        disk.set_free_space(u64::MAX / 4);
        self.shared.may_break.set(!self.budgeted);
    }

    async fn pass(&self, micros: u64) {
        self.director.sleep(Duration::from_micros(micros)).await;
    }

    /// Waits for the process to come to its end.
    async fn ended(&self) {
        let ending = Rc::clone(&self.shared.ending);
        self.director.expect("ends", END_LIMIT, move || ending.borrow().is_some()).await;
        self.world().kill(self.machine);
    }

    /// Holds a process's end, if it came to one, against what may happen.
    async fn judge(&self) {
        let (may_happen, error) = match self.shared.ending.take() {
            None | Some(Ending::Done) => return,
            Some(Ending::Log(error)) => {
                let may = matches!(
                    error,
                    LogError::Io { .. } | LogError::Poisoned { .. } | LogError::Full { .. }
                );
                self.director.observer().hit(BROKEN);
                (may, error.to_string())
            }
            Some(Ending::Store(error)) => {
                self.director.observer().hit(BROKEN);
                (is_of_the_disk(&error), error.to_string())
            }
        };
        if !may_happen || !self.shared.may_break.get() {
            self.director.observer().violated("keeps-running", error);
            self.director.halt().await;
        }
    }

    /// Opens the store undisturbed, and asks it for all that it has.
    async fn end(&self) {
        self.heal();
        self.world().set_faults(Faults::default());
        self.shared.may_break.set(false);
        self.start(Orders { writers: 1, commits: 3, ..self.orders() });
        self.ended().await;
        self.judge().await;
    }
}

/// Whether it is what a disk that fails, and spoils nothing, can cause.
fn is_of_the_disk(error: &StorageError) -> bool {
    match error {
        StorageError::Io { .. } | StorageError::Abandoned => true,
        StorageError::Manifest { source, .. } => !source.is_corrupt(),
        StorageError::Failing { source } => is_of_the_disk(source),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use woodchuck_sim::scenario::{Campaign, RunOptions, Tally};

    use super::*;

    /// Plays these worlds; none may fail.
    fn play(seeds: std::ops::Range<u64>, regime: Regime) -> Tally {
        let tally = Campaign { regime, ..Campaign::new(scenario(), seeds) }.run(|_| ());
        if let Some(run) = tally.failures.first() {
            panic!("{run}");
        }
        println!("{:?}\nmissed: {:?}", tally.counts, tally.missed_marks());
        tally
    }

    /// Each number is a third of what these worlds have, or less: a campaign in which something
    /// hardly happens says little about it.
    #[test]
    fn budgeted_worlds_hold_and_all_of_it_happens() {
        let tally = play(0..150, Regime::Budgeted);
        for (what, least) in [
            ("acknowledged", 4_000),
            ("unacknowledged found", 30),
            ("unacknowledged lost", 90),
            ("replayed", 5_000),
            ("reads", 1_000),
            ("walks", 1_000),
            ("reads of snapshots", 250),
            ("flushes asked for", 300),
            ("compactions asked for", 250),
            ("files removed", 1_000),
            ("refused", 1_000),
            ("orphans removed", 500),
        ] {
            let count = tally.counts.get(what).copied().unwrap_or(0);
            assert!(count >= least, "{what}: {count} in all, and at least {least} are wanted");
        }
        assert_eq!(tally.missed_marks(), [""; 0], "these were never seen");
    }

    #[test]
    fn unrestricted_worlds_hold() {
        play(0..60, Regime::Unrestricted);
    }

    #[test]
    fn a_seed_repeats_itself() {
        let hash = |seed| scenario().run(&RunOptions::new(seed)).trace_hash;
        for seed in 0..5 {
            assert_eq!(hash(seed), hash(seed), "seed {seed}");
        }
        assert_ne!(hash(0), hash(1));
    }
}
