//! A process that works with a store, and the log it belongs to, until it dies.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use woodchuck_io::{Disk, Env, RandomStream, Task};
use woodchuck_sim::SimEnv;
use woodchuck_sim::scenario::Observer;
use woodchuck_storage::store::{Operators, Sequences, Snapshot, Store, StoreOptions};
use woodchuck_storage::{BlockCache, Bounds, KeyspaceOptions, StorageError};
use woodchuck_wal::{Log, LogError, LogOptions, Lsn};

use super::model::{Commit, KEYSPACES, Model, State, draw_key};

pub(super) const LOG: &str = "/data/log";
pub(super) const STORE: &str = "/data/store";

const NAMES: [&str; KEYSPACES] = ["first", "second", "third"];

/// Snapshots that a process holds at most.
const SNAPSHOTS: usize = 4;

/// How long a writer that was refused waits at most.
const BUSY_MICROS: u64 = 30_000;

/// What a process is to do.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    pub(super) log: LogOptions,
    pub(super) store: StoreOptions,
    pub(super) keyspaces: [KeyspaceOptions; KEYSPACES],
    pub(super) cache_bytes: u64,
    /// Tasks that commit, and how many commits each makes.
    pub(super) writers: u64,
    pub(super) commits: u64,
    /// Whether the store flushes and compacts by itself.
    pub(super) is_maintained: bool,
}

/// How a process ended, if it came to an end.
#[derive(Debug)]
pub(super) enum Ending {
    /// It did all that it was to do.
    Done,
    /// The log could not be opened, or broke.
    Log(LogError),
    /// The store could not be opened, or a call failed.
    Store(StorageError),
}

impl From<StorageError> for Ending {
    fn from(error: StorageError) -> Self {
        Self::Store(error)
    }
}

impl From<LogError> for Ending {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

/// What a process shares with what is outside of its world.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) model: Rc<RefCell<Model>>,
    pub(super) ending: Rc<RefCell<Option<Ending>>>,
    /// Whether an operation may fail.
    pub(super) may_break: Rc<Cell<bool>>,
    pub(super) observer: Observer,
}

impl Shared {
    fn check<T>(&self, property: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|text| self.observer.violated(property, text)).ok()
    }

    fn require(&self, property: &str, holds: bool, text: impl FnOnce() -> String) {
        self.observer.require(property, holds, text);
    }
}

/// The process.
pub(super) async fn run(env: SimEnv, shared: Shared, orders: Orders) {
    let ending = match work(&env, &shared, &orders).await {
        Ok(()) => Ending::Done,
        Err(ending) => ending,
    };
    *shared.ending.borrow_mut() = Some(ending);
}

struct Opened {
    log: Log<SimEnv, u64>,
    sequences: Sequences,
    store: Store<SimEnv>,
    keyspaces: [u64; KEYSPACES],
}

async fn work(env: &SimEnv, shared: &Shared, orders: &Orders) -> Result<(), Ending> {
    let Opened { log, sequences, store, keyspaces } = open(env, shared, orders).await?;
    let random = &mut env.random("process");
    for (which, id) in keyspaces.iter().enumerate() {
        let expected = shared.model.borrow().states()[which].clone();
        walk(shared, random, &store, *id, &expected, None, true).await?;
    }
    let _maintenance: Option<Task<()>> =
        orders.is_maintained.then(|| env.spawn("maintenance", store.clone().maintain()));
    let applied = apply(log.clone(), store.clone(), sequences, shared.clone());
    let applied = env.spawn("apply", applied);
    let writers: Vec<Task<Result<(), Ending>>> = (0..orders.writers)
        .map(|_| {
            let (log, store, shared) = (log.clone(), store.clone(), shared.clone());
            let commits = orders.commits;
            let env_of_writer = env.clone();
            env.spawn("writer", async move {
                write(&env_of_writer, &shared, &log, &store, &keyspaces, commits).await
            })
        })
        .collect();
    let mut snapshots: Vec<(Snapshot, [State; KEYSPACES])> = Vec::new();
    while !writers.iter().all(Task::is_finished) && !applied.is_finished() {
        let which = random.below(KEYSPACES as u64) as usize;
        let id = keyspaces[which];
        match random.below(12) {
            0 => {
                store.flush(id).await?;
                shared.model.borrow_mut().told.flushes += 1;
            }
            1 | 2 => {
                let had_some = store.compact(id).await?;
                shared.model.borrow_mut().told.compactions += u64::from(had_some);
            }
            3 => {
                let removed = store.remove_obsolete().await?;
                shared.model.borrow_mut().told.files_removed += removed as u64;
            }
            4 => log.trim(Lsn::new(Sequences::lsn(store.needed_from()))),
            5 => store.flush_older_than(store.applied()),
            6 if snapshots.len() < SNAPSHOTS => {
                let states = shared.model.borrow().states().clone();
                snapshots.push((store.snapshot(), states));
            }
            6 => {
                let at = random.below(SNAPSHOTS as u64) as usize;
                drop(snapshots.swap_remove(at));
            }
            7 if !snapshots.is_empty() => {
                let at = random.below(snapshots.len() as u64) as usize;
                let (snapshot, states) = &snapshots[at];
                shared.model.borrow_mut().told.snapshot_reads += 1;
                walk(shared, random, &store, id, &states[which], Some(snapshot), false).await?;
            }
            8 => {
                let expected = shared.model.borrow().states()[which].clone();
                walk(shared, random, &store, id, &expected, None, false).await?;
            }
            _ => get(shared, random, &store, id, which).await?,
        }
        env.sleep(Duration::from_micros(random.below(300))).await;
    }
    for writer in writers {
        writer.await?;
    }
    log.close().await?;
    applied.await
}

/// Opens the store and its log, and holds what they find against the model.
async fn open(env: &SimEnv, shared: &Shared, orders: &Orders) -> Result<Opened, Ending> {
    let doing = |error: std::io::Error| StorageError::Io {
        doing: "make the directories".to_owned(),
        source: std::sync::Arc::new(error),
    };
    for directory in ["/data", LOG, STORE] {
        let path = Path::new(directory);
        env.disk().create_directory(path).await.map_err(doing)?;
        let parent = path.parent().unwrap_or(path);
        env.disk().sync_directory(parent).await.map_err(doing)?;
    }
    let cache = BlockCache::new(orders.cache_bytes);
    let (operators, options) = (Operators::default(), orders.store.clone());
    let opened = Store::open(env, Path::new(STORE), options, operators, &cache).await;
    let (store, opened) = opened?;
    shared.model.borrow_mut().told.orphans += opened.orphans.len() as u64;
    // One that cannot be looked at is told of as well.
    let is_whole = opened.damaged.is_empty() || shared.may_break.get();
    shared.require("keeps-tables", is_whole, || format!("{:?}", opened.damaged));
    let mut sequences = Sequences::default();
    let mut found: Vec<(u64, Bytes)> = Vec::new();
    let replay = |commit: woodchuck_wal::Recovered| {
        let sequence = sequences.next(commit.lsn.get());
        store.apply(sequence, &Commit::view(&commit.bytes));
        found.push((sequence, commit.bytes));
        Ok(())
    };
    let (log, _) = Log::open(env.clone(), PathBuf::from(LOG), orders.log, replay).await?;
    let _judged = shared.check("recovers", shared.model.borrow_mut().opened(&found));
    let mut keyspaces = [0; KEYSPACES];
    for ((id, name), options) in keyspaces.iter_mut().zip(NAMES).zip(&orders.keyspaces) {
        let there = store.version().keyspace_by_name(name).map(|keyspace| keyspace.id());
        *id = match there {
            Some(there) => there,
            None => store.create_keyspace(name, options.clone()).await?,
        };
    }
    Ok(Opened { log, sequences, store, keyspaces })
}

async fn write(
    env: &SimEnv,
    shared: &Shared,
    log: &Log<SimEnv, u64>,
    store: &Store<SimEnv>,
    keyspaces: &[u64; KEYSPACES],
    commits: u64,
) -> Result<(), Ending> {
    let mut random = env.random("writer");
    for _ in 0..commits {
        let commit = shared.model.borrow_mut().compose(&mut random, keyspaces);
        loop {
            match store.admit(commit.bytes.len()).await {
                Ok(()) => {}
                Err(StorageError::Busy { .. }) => {
                    shared.model.borrow_mut().told.refused += 1;
                    env.sleep(Duration::from_micros(1 + random.below(BUSY_MICROS))).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            store.check(&Commit::view(&commit.bytes))?;
            match log.submit(&[&commit.bytes], commit.id) {
                Ok(()) => break,
                Err((LogError::Busy { .. }, _)) => log.room(commit.bytes.len()).await,
                Err((error, _)) => return Err(error.into()),
            }
        }
        shared.model.borrow_mut().submitted(commit);
        match random.below(6) {
            0 => env.sleep(Duration::from_micros(random.below(2000))).await,
            1 | 2 => env.yield_now().await,
            _ => {}
        }
    }
    Ok(())
}

/// Applies what is durable, to the store and to the model at one moment.
async fn apply(
    log: Log<SimEnv, u64>,
    store: Store<SimEnv>,
    mut sequences: Sequences,
    shared: Shared,
) -> Result<(), Ending> {
    loop {
        let commits = match log.committed().await {
            Ok(commits) => commits,
            Err(LogError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for commit in &commits {
            let sequence = sequences.next(commit.lsn.get());
            let due = shared.model.borrow_mut().acknowledged(commit.context, sequence);
            let Some(bytes) = shared.check("acknowledges", due) else { continue };
            store.apply(sequence, &Commit::view(&bytes));
        }
    }
}

/// Reads one key, as it is now.
async fn get(
    shared: &Shared,
    random: &mut RandomStream,
    store: &Store<SimEnv>,
    id: u64,
    which: usize,
) -> Result<(), Ending> {
    let key = draw_key(random);
    let expected = shared.model.borrow().states()[which].get(&key).cloned();
    let found = store.get(id, &key, None).await?;
    shared.require("reads-what-was-written", found.as_deref() == expected.as_deref(), || {
        format!("{} is {found:?}, not {expected:?}", key.escape_ascii())
    });
    shared.model.borrow_mut().told.reads += 1;
    Ok(())
}

/// Walks over keys of a keyspace, one way or the other, all or those within bounds.
async fn walk(
    shared: &Shared,
    random: &mut RandomStream,
    store: &Store<SimEnv>,
    id: u64,
    expected: &State,
    snapshot: Option<&Snapshot>,
    is_whole: bool,
) -> Result<(), Ending> {
    let (first, second) = (draw_key(random), draw_key(random));
    let (start, end) = (first.clone().min(second.clone()), first.max(second));
    let is_whole = is_whole || random.below(2) == 0;
    let bounds = if is_whole { Bounds::all() } else { Bounds::range(Some(&start), Some(&end)) };
    let mut cursor = store.cursor(id, &bounds, snapshot)?;
    let mut due: Vec<(&Vec<u8>, &Vec<u8>)> =
        expected.iter().filter(|(key, _)| is_whole || (**key >= start && **key < end)).collect();
    let backwards = random.below(2) == 0;
    if backwards {
        due.reverse();
        cursor.seek_to_last().await?;
    } else {
        cursor.seek_to_first().await?;
    }
    let mut due = due.into_iter();
    loop {
        let expected = due.next();
        let found = cursor.key().zip(cursor.value());
        let same = found.map(|(key, value)| (key.to_vec(), value.to_vec()))
            == expected.map(|(key, value)| (key.clone(), value.clone()));
        shared.require("walks-over-what-was-written", same, || {
            format!("{found:?} stands where {expected:?} is due, backwards {backwards}")
        });
        if !same || expected.is_none() {
            break;
        }
        if backwards {
            cursor.prev().await?;
        } else {
            cursor.next().await?;
        }
    }
    shared.model.borrow_mut().told.walks += 1;
    Ok(())
}
