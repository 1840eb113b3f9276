//! A process that works with a log until it dies.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{join_all, select};
use woodchuck_io::{Env, RandomStream};
use woodchuck_sim::SimEnv;
use woodchuck_sim::scenario::Observer;
use woodchuck_wal::{Lane, Log, LogError, LogOptions, Lsn, Recovered};

use super::model::{Entry, Model, content};

pub(super) const DIRECTORY: &str = "/data/log";

/// How much longer large commits of lanes are, at most, than they must be to stand beside the frames.
const LARGE_BYTES: u64 = 12 << 10;

/// How long a process rests at most.
const REST_MICROS: u64 = 2_000;

/// What a process is to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Orders {
    pub(super) options: LogOptions,
    /// Commits to submit before it closes the log and exits.
    pub(super) commits: u64,
    /// Largest usual commit.
    pub(super) bytes: u64,
    pub(super) trims: bool,
    /// Whether it often does nothing behind a trim, so that what says it comes late.
    pub(super) rests: bool,
    /// Whether it does other things while it reads.
    pub(super) reads_beside: bool,
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
        Self {
            options,
            commits: 0,
            bytes: 1,
            trims: false,
            rests: false,
            reads_beside: false,
            lanes: 0,
            least: 0,
            again: None,
        }
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
            // At its capacity, either.
            let has_witness = orders.options.capacity_bytes == u64::MAX;
            shared.check("closes-with-all", model.closed(has_witness));
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
    let mut reads = Vec::new();
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
                        join_all(reads).await;
                        return;
                    }
                    let full = matches!(error, LogError::Full { .. });
                    shared.model.borrow_mut().told.refused_full += u64::from(full);
                    match error {
                        LogError::Busy { .. } => log.room(bytes.len()).await,
                        LogError::AtCapacity { capacity } => {
                            let has = orders.options.capacity_bytes;
                            shared.require("keeps-its-capacity", capacity == has, || {
                                format!("it is {has} bytes, not {capacity}")
                            });
                            make_room(env, log, shared, bytes.len(), &mut random).await;
                        }
                        _ => log.space(bytes.len()).await,
                    }
                }
            }
        }
        pause(env, &mut random).await;
        if orders.trims && random.below(20) == 0 {
            trim(log, shared, &mut random);
            if orders.rests && random.below(2) == 0 {
                env.sleep(Duration::from_micros(random.below(REST_MICROS))).await;
            }
        }
        if random.below(25) == 0
            && let Some(read) = read_back(log, shared, &mut random)
        {
            if orders.reads_beside {
                reads.push(env.spawn("read", read));
            } else {
                read.await;
            }
        }
    }
    // A log is not closed while somebody reads it.
    join_all(reads).await;
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
    // Seldom everything, mostly leaving some.
    let keep = if random.below(8) == 0 { 0 } else { random.below(60) };
    let last = shared.model.borrow().kept.last().map(|last| last.lsn.get());
    if let Some(last) = last {
        trim_below(log, shared, Lsn::new(last.saturating_sub(keep).max(1)));
    }
}

/// Trims something, or all that was acknowledged, and waits a little for room.
///
/// Whoever trims all, again and again, is let go on in the end: a process that comes to its end is
/// waited for.
async fn make_room(
    env: &SimEnv,
    log: &SimLog,
    shared: &Shared,
    bytes: usize,
    random: &mut RandomStream,
) {
    shared.model.borrow_mut().told.refused_at_capacity += 1;
    let (first, last) = {
        let model = shared.model.borrow();
        let last = model.kept.last().map(|last| last.lsn.next());
        (model.needed().first().map(|first| first.lsn), last)
    };
    if let Some(last) = last {
        let first = first.unwrap_or(last);
        let middle = Lsn::new(u64::midpoint(first.get(), last.get()));
        trim_below(log, shared, if random.below(2) == 0 { last } else { middle });
    }
    let time = Duration::from_micros(100 + random.below(3000));
    select(pin!(log.space(bytes)), pin!(env.sleep(time))).await;
}

fn trim_below(log: &SimLog, shared: &Shared, below: Lsn) {
    shared.model.borrow_mut().trimmed(below);
    log.trim(below);
    shared.require("trims", log.oldest() >= below || below > log.durable(), || {
        format!("trimmed below {below}, the oldest is {}", log.oldest())
    });
}

/// A reading of some commit that is needed now, if any is.
fn read_back(
    log: &SimLog,
    shared: &Shared,
    random: &mut RandomStream,
) -> Option<impl Future<Output = ()> + use<>> {
    let entry: Entry = {
        let model = shared.model.borrow();
        let needed = model.needed();
        if needed.is_empty() {
            return None;
        }
        needed[random.below(needed.len() as u64) as usize].clone()
    };
    let from = random.below(entry.length as u64 + 1) as usize;
    let part = random.below((entry.length - from) as u64 + 1) as usize;
    let mut location = entry.location;
    location.offset += from as u64;
    location.length = part as u32;
    let (log, shared) = (log.clone(), shared.clone());
    Some(async move {
        let is_trimmed = || entry.lsn < shared.model.borrow().trim_point();
        let was_trimmed = is_trimmed();
        match log.read(location).await {
            // What a disk that spoils bytes gives is what it gives.
            Ok(bytes) => shared.require(
                "reads-back",
                bytes == content(entry.id, entry.length)[from..from + part]
                    || shared.may_break.get(),
                || format!("commit {} has other bytes at {location}", entry.id),
            ),
            // Between its choice and its reading, it may have gone.
            Err(LogError::Trimmed { .. }) if was_trimmed => {}
            Err(error) => shared.require("reads", shared.may_break.get(), || error.to_string()),
        }
        let trimmed_while_read = !was_trimmed && is_trimmed();
        let told = &mut shared.model.borrow_mut().told;
        told.reads += 1;
        told.bodies_read += u64::from(entry.is_body);
        told.trimmed_while_read += u64::from(trimmed_while_read);
    })
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
