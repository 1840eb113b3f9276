//! A process that works with a log until it dies.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::{Env, RandomStream};
use woodchuck_sim::SimEnv;
use woodchuck_sim::scenario::Observer;
use woodchuck_wal::{Lane, Log, LogError, LogOptions, Lsn, Recovered};

use super::model::{Entry, Model, content};

pub(super) const DIRECTORY: &str = "/data/log";

/// How much longer large commits of lanes are, at most, than they must be to stand beside the frames.
const LARGE_BYTES: u64 = 12 << 10;

/// What a process is to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Orders {
    pub(super) options: LogOptions,
    /// Commits to submit before it closes the log and exits.
    pub(super) commits: u64,
    /// Largest usual commit.
    pub(super) bytes: u64,
    pub(super) trims: bool,
    /// How many lanes it submits in, besides those commits that it submits in none.
    pub(super) lanes: u64,
    /// Bytes of its shortest commits.
    pub(super) least: usize,
    /// With what it opens the log once more when it has closed it, if it does.
    pub(super) again: Option<LogOptions>,
}

impl Orders {
    /// Only opens the log, and closes it.
    pub(super) const fn look() -> Self {
        let options = LogOptions::small();
        Self { options, commits: 0, bytes: 1, trims: false, lanes: 0, least: 0, again: None }
    }
}

/// How a process ended, if it came to an end.
#[derive(Debug)]
pub(super) enum Ending {
    /// It closed its log.
    Closed,
    /// Its log could not be opened.
    Refused(LogError),
    /// Its log broke.
    Broken(LogError),
}

/// What a process shares with what is outside of its world.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) model: Rc<RefCell<Model>>,
    pub(super) ending: Rc<RefCell<Option<Ending>>>,
    /// Whether an operation may fail for another reason than a full disk.
    pub(super) may_break: Rc<Cell<bool>>,
    /// Whether the disk may be full.
    pub(super) may_be_full: Rc<Cell<bool>>,
    pub(super) observer: Observer,
}

type SimLog = Log<SimEnv, u64>;

impl Shared {
    fn check(&self, property: &str, result: Result<(), String>) {
        if let Err(text) = result {
            self.observer.violated(property, text);
        }
    }

    fn require(&self, property: &str, holds: bool, text: impl FnOnce() -> String) {
        self.observer.require(property, holds, text);
    }
}

/// The process.
pub(super) async fn run(env: SimEnv, shared: Shared, orders: Orders) {
    let mut ending = work(&env, &shared, orders).await;
    if let (Ending::Closed, Some(options)) = (&ending, orders.again) {
        ending = work(&env, &shared, Orders { options, ..orders }).await;
    }
    *shared.ending.borrow_mut() = Some(ending);
}

async fn work(env: &SimEnv, shared: &Shared, orders: Orders) -> Ending {
    let log = match open(env, shared, orders.options).await {
        Ok(log) => log,
        Err(error) => return Ending::Refused(error),
    };
    let acknowledge = env.spawn("acknowledge", acknowledge(log.clone(), shared.clone()));
    submit_all(env, &log, shared, orders).await;
    let closing = log.clone();
    let closed = log.close().await;
    acknowledge.await;
    let mut model = shared.model.borrow_mut();
    model.look(closing.statistics());
    match closed {
        // On a full disk there may have been no room for the witness.
        Ok(()) if shared.may_be_full.get() => Ending::Closed,
        Ok(()) => {
            shared.check("closes-with-all", model.closed());
            Ending::Closed
        }
        Err(error) => Ending::Broken(error),
    }
}

/// Opens the log, and holds what it finds against the model.
async fn open(env: &SimEnv, shared: &Shared, options: LogOptions) -> Result<SimLog, LogError> {
    let mut found: Vec<Recovered> = Vec::new();
    let replay = |recovered| {
        found.push(recovered);
        Ok(())
    };
    let opened = Log::open(env.clone(), PathBuf::from(DIRECTORY), options, replay).await;
    let (log, recovery) = opened?;
    let mut model = shared.model.borrow_mut();
    model.gone();
    shared.check("recovers", model.opened(&found, &recovery));
    model.look(log.statistics());
    Ok(log)
}

async fn submit_all(env: &SimEnv, log: &SimLog, shared: &Shared, orders: Orders) {
    let mut random = env.random("writer");
    for _ in 0..orders.commits {
        let (lane, length) = draw(&mut random, orders);
        let is_large = length >= orders.options.indirect_bytes;
        let (id, bytes) = shared.model.borrow_mut().compose(length);
        loop {
            let cut = random.below(length as u64 + 1) as usize;
            let durable = log.durable();
            let parts = [&bytes[..cut], &[], &bytes[cut..]];
            let submitted = match lane {
                Some(lane) => log.submit_in(lane, &parts, id),
                None => log.submit(&parts, id),
            };
            match submitted {
                Ok(()) => {
                    shared.model.borrow_mut().submitted(id, lane, is_large, durable);
                    break;
                }
                Err((error, context)) => {
                    shared.require("gives-back", context == id, || format!("{context}, not {id}"));
                    if matches!(error, LogError::TooLarge { .. }) {
                        break;
                    }
                    if !error.is_retryable() {
                        return;
                    }
                    let full = matches!(error, LogError::Full { .. });
                    shared.model.borrow_mut().told.refused_full += u64::from(full);
                    match error {
                        LogError::Busy { .. } => log.room(bytes.len()).await,
                        _ => log.space(bytes.len()).await,
                    }
                }
            }
        }
        pause(env, &mut random).await;
        if orders.trims && random.below(20) == 0 {
            trim(log, shared, &mut random);
        }
        if random.below(25) == 0 {
            read_back(log, shared, &mut random).await;
        }
    }
}

/// In which lane the next commit is, if in any, and how long it is.
fn draw(random: &mut RandomStream, orders: Orders) -> (Option<Lane>, usize) {
    if orders.lanes == 0 {
        return (None, draw_length(random, orders).max(orders.least));
    }
    let lane = Some(Lane(random.below(orders.lanes + 1))).filter(|lane| lane.0 < orders.lanes);
    let length = if random.below(4) == 0 {
        orders.options.indirect_bytes + random.below(LARGE_BYTES) as usize
    } else {
        draw_length(random, orders)
    };
    (lane, length.max(orders.least))
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

fn trim(log: &SimLog, shared: &Shared, random: &mut RandomStream) {
    let mut model = shared.model.borrow_mut();
    let Some(last) = model.kept.last() else { return };
    // Seldom everything, mostly leaving some.
    let keep = if random.below(8) == 0 { 0 } else { random.below(60) };
    let below = Lsn::new(last.lsn.get().saturating_sub(keep).max(1));
    model.trimmed(below);
    drop(model);
    log.trim(below);
    shared.require("trims", log.oldest() >= below || below > log.durable(), || {
        format!("trimmed below {below}, the oldest is {}", log.oldest())
    });
}

async fn read_back(log: &SimLog, shared: &Shared, random: &mut RandomStream) {
    let entry: Entry = {
        let model = shared.model.borrow();
        let needed = model.needed();
        if needed.is_empty() {
            return;
        }
        needed[random.below(needed.len() as u64) as usize].clone()
    };
    let from = random.below(entry.length as u64 + 1) as usize;
    let part = random.below((entry.length - from) as u64 + 1) as usize;
    let mut location = entry.location;
    location.offset += from as u64;
    location.length = part as u32;
    match log.read(location).await {
        // What a disk that spoils bytes gives is what it gives.
        Ok(bytes) => shared.require(
            "reads-back",
            bytes == content(entry.id, entry.length)[from..from + part] || shared.may_break.get(),
            || format!("commit {} has other bytes at {location}", entry.id),
        ),
        Err(error) => shared.require("reads", shared.may_break.get(), || error.to_string()),
    }
    let told = &mut shared.model.borrow_mut().told;
    told.reads += 1;
    told.bodies_read += u64::from(entry.is_body);
}

async fn acknowledge(log: SimLog, shared: Shared) {
    loop {
        match log.committed().await {
            Ok(commits) => {
                let mut model = shared.model.borrow_mut();
                for committed in &commits {
                    shared.check("acknowledges", model.acknowledged(committed));
                }
                model.look(log.statistics());
            }
            Err(LogError::Closed) => return,
            Err(error) => {
                let mut model = shared.model.borrow_mut();
                let poisoned = matches!(error, LogError::Poisoned { .. });
                shared.require("stays-well", poisoned && shared.may_break.get(), || {
                    error.to_string()
                });
                shared.check("gives-contexts-back", model.failed(&log.take_failed()));
                return;
            }
        }
    }
}
