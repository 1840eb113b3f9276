//! A process that writes to a log until it dies.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::{Env, RandomStream};
use woodchuck_sim::SimEnv;
use woodchuck_wal::{Log, LogError, LogOptions, Lsn, Recovered};

use super::model::{Model, content};

pub(crate) const DIRECTORY: &str = "/data/log";

/// What a process is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Orders {
    pub(crate) options: LogOptions,
    /// Commits to submit before closing the log and exiting.
    pub(crate) commits: u64,
    /// Largest usual commit.
    pub(crate) bytes: u64,
    /// Whether opening may fail.
    pub(crate) may_fail: bool,
    /// Whether anything is trimmed.
    pub(crate) trims: bool,
}

impl Orders {
    pub(crate) const fn usual() -> Self {
        Self {
            options: LogOptions::small(),
            commits: 400,
            bytes: 900,
            may_fail: false,
            trims: true,
        }
    }

    /// Only opens the log, and closes it.
    pub(crate) const fn look() -> Self {
        Self { commits: 0, ..Self::usual() }
    }
}

/// How the last process that got so far ended.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    pub(crate) closed: Option<Result<(), LogError>>,
    pub(crate) refused: Option<LogError>,
}

pub(crate) type SharedModel = Rc<RefCell<Model>>;
pub(crate) type SharedEnding = Rc<RefCell<Ending>>;

type SimLog = Log<SimEnv, u64>;

/// Opens the log and holds what it finds against the model.
pub(crate) async fn open(
    env: &SimEnv,
    model: &SharedModel,
    options: LogOptions,
) -> Result<SimLog, LogError> {
    let mut found: Vec<Recovered> = Vec::new();
    let replay = |recovered| {
        found.push(recovered);
        Ok(())
    };
    let opened = Log::open(env.clone(), PathBuf::from(DIRECTORY), options, replay).await;
    let (log, recovery) = opened?;
    model.borrow_mut().opened(&found, &recovery);
    Ok(log)
}

/// The process.
pub(crate) async fn run(env: SimEnv, model: SharedModel, ending: SharedEnding, orders: Orders) {
    let log = match open(&env, &model, orders.options).await {
        Ok(log) => log,
        Err(error) => {
            assert!(orders.may_fail, "seed {}: opening failed: {error}", model.borrow().seed);
            ending.borrow_mut().refused = Some(error);
            return;
        }
    };
    let acknowledge = env.spawn("acknowledge", acknowledge(log.clone(), Rc::clone(&model)));
    submit_all(&env, &log, &model, orders).await;
    let closing = log.clone();
    let closed = log.close().await;
    acknowledge.await;
    model.borrow_mut().latest = closing.statistics();
    if closed.is_ok() {
        assert!(model.borrow().pending.is_empty(), "closed with commits waiting");
    }
    ending.borrow_mut().closed = Some(closed);
}

async fn submit_all(env: &SimEnv, log: &SimLog, model: &SharedModel, orders: Orders) {
    let mut random = env.random("writer");
    for _ in 0..orders.commits {
        let length = draw_length(&mut random, orders);
        let (id, bytes) = model.borrow_mut().compose(length);
        loop {
            let cut = random.below(length as u64 + 1) as usize;
            let parts = [&bytes[..cut], &[], &bytes[cut..]];
            match log.submit(&parts, id) {
                Ok(()) => break,
                Err((error, context)) => {
                    assert_eq!(context, id, "another context came back");
                    if !error.is_retryable() {
                        return;
                    }
                    model.borrow_mut().refused_full +=
                        u64::from(matches!(error, LogError::Full { .. }));
                    match error {
                        LogError::Busy { .. } => log.room(length).await,
                        _ => log.space(length).await,
                    }
                }
            }
        }
        model.borrow_mut().submitted(id, length);
        pause(env, &mut random).await;
        if orders.trims && random.below(20) == 0 {
            trim(log, model, &mut random);
        }
        if random.below(25) == 0 {
            read_back(log, model, &mut random).await;
        }
    }
}

fn draw_length(random: &mut RandomStream, orders: Orders) -> usize {
    let most = match random.below(40) {
        0 => return 0,
        1 => 30_000,
        2..=5 => 5000,
        _ => orders.bytes,
    };
    random.below(most) as usize
}

/// Commits come in bursts, one by one, or after the log has been idle.
async fn pause(env: &SimEnv, random: &mut RandomStream) {
    match random.below(12) {
        0 => env.sleep(Duration::from_micros(random.below(3000))).await,
        1..=3 => env.sleep(Duration::from_micros(random.below(200))).await,
        4 | 5 => env.yield_now().await,
        _ => {}
    }
}

fn trim(log: &SimLog, model: &SharedModel, random: &mut RandomStream) {
    let mut model = model.borrow_mut();
    let Some(last) = model.history.last() else { return };
    // Seldom everything, mostly leaving some.
    let keep = if random.below(8) == 0 { 0 } else { random.below(60) };
    let below = Lsn::new(last.lsn.get().saturating_sub(keep).max(1));
    model.trim = model.trim.max(below);
    drop(model);
    log.trim(below);
    assert!(log.oldest() >= below || below > log.durable());
}

async fn read_back(log: &SimLog, model: &SharedModel, random: &mut RandomStream) {
    let entry = {
        let model = model.borrow();
        let needed = model.history.partition_point(|entry| entry.lsn < model.trim);
        let known = &model.history[needed..];
        if known.is_empty() {
            return;
        }
        known[random.below(known.len() as u64) as usize].clone()
    };
    let from = random.below(entry.length as u64 + 1) as usize;
    let part = random.below((entry.length - from) as u64 + 1) as usize;
    let mut location = entry.location;
    location.offset += from as u64;
    location.length = part as u32;
    match log.read(location).await {
        Ok(bytes) => assert_eq!(bytes, content(entry.id, entry.length)[from..from + part]),
        Err(error) => assert!(
            matches!(error, LogError::Poisoned { .. } | LogError::Io { .. }),
            "reading {location}: {error}"
        ),
    }
    model.borrow_mut().reads += 1;
}

async fn acknowledge(log: SimLog, model: SharedModel) {
    loop {
        match log.committed().await {
            Ok(commits) => {
                assert!(!commits.is_empty());
                let mut model = model.borrow_mut();
                commits.iter().for_each(|committed| model.acknowledged(committed));
                model.latest = log.statistics();
            }
            Err(LogError::Closed) => return,
            Err(error) => {
                let mut model = model.borrow_mut();
                assert!(matches!(error, LogError::Poisoned { .. }), "{error}");
                let failed = log.take_failed();
                let pending: Vec<u64> = model.pending.iter().map(|&(id, _)| id).collect();
                assert_eq!(failed, pending, "seed {}: contexts are lost", model.seed);
                model.failed += failed.len() as u64;
                model.poisoned += 1;
                return;
            }
        }
    }
}
