//! Registers that are read, written, and compared and set, while their machine is struck.
//!
//! A small service (`service`) on one machine, and two to eight clients that all work on a few
//! keys. Whatever strikes, every operation must seem to happen at one instant between question and
//! answer: the history is linearizable, key by key. An operation whose answer never came may have
//! happened, at any time from then on, or not at all.
//!
//! A seed draws the clients, the keys, the kind of disk, the world's faults, and when the machine is
//! stopped, killed, crashed or unplugged. In the end, when the clients are gone, the service must
//! hold what an idle one holds, and after a graceful stop nothing.
//!
//! The service keeps one copy on one disk, and can only tell damage from what a crash tore by its
//! checksum. So it is never judged on disks that fail, lie or rot: under unrestricted faults those
//! stay off, and so does corruption on the network, which its wire has no checksum against.

mod service;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use woodchuck_io::{Env, Net, RandomStream};
use woodchuck_sim::check::Check;
use woodchuck_sim::check::linearizability::{History, Model};
use woodchuck_sim::scenario::{ChaosMonkey, Limits, Observer, Scenario, Stage};
use woodchuck_sim::{DiskProfile, FaultKind, Faults, MachineId, Regime, World};

use service::{Answer, Ask, PORT, Registers, ask};

/// Events of a run. A usual one has some thousand; one that has a million spins.
const STEPS: u64 = 1_000_000;

/// Steps of the model for each key. A history of two hundred operations takes some thousand.
const BUDGET: u64 = 1_000_000;

/// How long it takes at most to the next strike: a client has done some twenty operations by then.
const STRIKE_EVERY: Duration = Duration::from_millis(60);

/// Kinds of disks. Most are such that a power cut can tear what is on them.
const DISKS: [DiskProfile; 4] =
    [DiskProfile::SATA_SSD, DiskProfile::SATA_SSD, DiskProfile::HDD, DiskProfile::NVME];

/// Changes of a key whose answers never came, from which on it is only read. The search has to try
/// each of them everywhere, or nowhere.
const UNKNOWN_CHANGES: u32 = 4;

/// How long a client waits for an answer. A machine without power says nothing at all.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// How long a client pauses at most after an operation, and after one that was not answered.
const PAUSE_MICROS: (u64, u64) = (3_000, 20_000);

/// How long it may take to read all registers in the end.
const READ_LIMIT: Duration = Duration::from_secs(300);

/// How long a graceful stop may take: a disk may stall for a minute.
const STOP_LIMIT: Duration = Duration::from_secs(300);

/// How long the server may hold what clients left behind: connections that broke on one side only
/// are given up after some silence.
const IDLE_LIMIT: Duration = Duration::from_secs(300);

/// What cannot happen here: no disk fails, nothing is done by hand but what the monkey does, requests
/// are too small to fill a window or to be read short, and nobody looks at a wall clock. And, the
/// last of these, what comes in so few of these short worlds that a campaign may do without.
const UNAFFECTED_BY: &[FaultKind] = &[
    FaultKind::DiskError,
    FaultKind::AskedError,
    FaultKind::UnknownBlock,
    FaultKind::StorageFull,
    FaultKind::ShortRead,
    FaultKind::ReadRace,
    FaultKind::BitRot,
    FaultKind::MisdirectedRead,
    FaultKind::MisdirectedWrite,
    FaultKind::LostWrite,
    FaultKind::StickyError,
    FaultKind::MetadataFull,
    FaultKind::LyingFlush,
    FaultKind::FullWindow,
    FaultKind::GrayPacket,
    FaultKind::CappedPacket,
    FaultKind::CutPacket,
    FaultKind::CorruptPacket,
    FaultKind::FullBacklog,
    FaultKind::AskedReset,
    FaultKind::Wipe,
    FaultKind::Reboot,
    FaultKind::GraceOver,
    FaultKind::TaskPanic,
    FaultKind::WallOffset,
    FaultKind::WallDrift,
    FaultKind::WallJump,
    FaultKind::WallFreeze,
    FaultKind::WallLeap,
    FaultKind::LostBlock,
    FaultKind::ShornSector,
    FaultKind::GarbageSector,
    FaultKind::UnreadableBlock,
    FaultKind::LatentError,
    FaultKind::DiskStall,
    FaultKind::DialTimeout,
    FaultKind::Pause,
    FaultKind::SuspendedClock,
];

/// Marks that some world of a campaign must hit.
const UNANSWERED: &str = "an answer never came";
const SET: &str = "a compare and set was done";
const NOT_SET: &str = "a compare and set was refused";

/// Bugs that tests plant in the service, to see that they are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Changes are answered when they are written, before they are durable.
    AnswersBeforeDurable,
    /// A change looks at a register's value, and does not keep others from changing it until its
    /// own is durable.
    ChangesOverlap,
    /// Connections that have ended are never let go.
    KeepsConnections,
}

/// The scenario.
#[must_use]
pub fn scenario() -> Scenario {
    with_bug(None)
}

/// The scenario, with a bug in its service.
#[must_use]
pub fn with_bug(bug: Option<Bug>) -> Scenario {
    let about = "Registers stay linearizable while their machine is struck.";
    Scenario::new("register", about, move |stage| set(stage, bug)).without(UNAFFECTED_BY)
}

fn set(stage: &mut Stage, bug: Option<Bug>) {
    let (server, clients) = (stage.machine("server"), stage.machine("clients"));
    leave_out_unsurvivable(stage);
    let world = stage.world().clone();
    let disk = DISKS[stage.draw("disk", DISKS.len() as u64) as usize].clone();
    world.set_disk(server, disk);
    let observer = stage.observer();
    stage.program(server, 1, Registers { bug }, move |_, outcome| {
        observer.require("keeps-running", outcome.is_ok(), || format!("{outcome:?}"));
    });
    for mark in [UNANSWERED, SET, NOT_SET] {
        stage.sometimes(mark);
    }
    let shared = Shared {
        server: SocketAddr::new(world.address(server), PORT),
        keys: 1 + stage.draw("keys", 4),
        operations: 10 + stage.draw("operations", 50),
        history: Rc::default(),
        unknown: Rc::default(),
        observer: stage.observer(),
    };
    for client in 1..=2 + stage.draw("clients", 7) {
        let shared = shared.clone();
        stage.bot(clients, "client", move |env| work(env, shared.clone(), client));
    }
    ChaosMonkey::on(&[server]).every(Duration::ZERO..STRIKE_EVERY).strikes(2..14).release(stage);
    stage.limit(Limits { steps: STEPS, ..Limits::default() });
    read_in_the_end(stage, &world, clients, &shared);
    judge_leaks(stage, &world, server);
    stage.verify(move |observer| {
        let verdict = shared.history.borrow().check(&Register, BUDGET);
        observer.judge("linearizable", &verdict);
    });
}

/// Switches off what the service cannot notice.
fn leave_out_unsurvivable(stage: &Stage) {
    if stage.regime() == Regime::Unrestricted {
        let mut faults = stage.world().faults();
        for knob in Faults::knobs().filter(|knob| knob.regime == Regime::Unrestricted) {
            faults.set(knob.name, 0);
        }
        stage.world().set_faults(faults);
    }
}

/// Reads every register when nobody strikes any more: the latest strike may have come after all that
/// the clients did.
fn read_in_the_end(stage: &mut Stage, world: &World, clients: MachineId, shared: &Shared) {
    let (world, shared) = (world.clone(), shared.clone());
    stage.verify(move |observer| {
        world.kill(clients);
        world.start(clients, 1, move |env| read_all(env, shared.clone()));
        let running = world.clone();
        let read = world.try_run_until(move || !running.is_running(clients), READ_LIMIT);
        match read {
            Ok(read) => observer.verify("reads-end", &[Check::equal("read", true, read)]),
            Err(failure) => observer.violated("reads-end", failure.to_string()),
        }
    });
}

/// Nothing may be left of clients that are gone, and nothing at all of a server that has stopped.
fn judge_leaks(stage: &mut Stage, world: &World, server: MachineId) {
    let idle = world.clone();
    stage.eventually("idle-holds-little", IDLE_LIMIT, move || {
        let held = idle.resources(server);
        let serves = (held.tasks, held.listeners, held.open_files) == (1, 1, 1);
        serves && held.connections + held.half_closed + held.disk_operations == 0
    });
    let world = world.clone();
    stage.verify(move |observer| {
        world.stop(server);
        let running = world.clone();
        match world.try_run_until(move || !running.is_running(server), STOP_LIMIT) {
            Ok(stopped) => observer.verify("stops", &[Check::equal("stopped", true, stopped)]),
            Err(failure) => observer.violated("stops", failure.to_string()),
        }
        let held = world.resources(server);
        let checks = held.iter().map(|(name, count)| Check::equal(name, 0, count));
        observer.verify("stopped-holds-nothing", &checks.collect::<Vec<_>>());
    });
}

/// What clients asked and were told.
type Operations = History<u64, Ask, Answer>;

/// How one register behaves when it is asked one thing at a time. Every answer tells the value, also
/// that to a compare and set that was refused; so the search has less to try than with a register
/// that only says no.
struct Register;

impl Model for Register {
    type State = u64;
    type Input = Ask;
    type Output = Answer;

    fn initial(&self) -> u64 {
        0
    }

    fn step(&self, &value: &u64, ask: &Ask, answer: Option<&Answer>) -> Option<u64> {
        let (done, value) = match *ask {
            Ask::Read => (true, value),
            Ask::Write(new) => (true, new),
            Ask::CompareAndSet { expected, new } if expected == value => (true, new),
            Ask::CompareAndSet { .. } => (false, value),
        };
        answer.is_none_or(|answer| *answer == Answer { done, value }).then_some(value)
    }
}

/// What clients share.
#[derive(Clone)]
struct Shared {
    server: SocketAddr,
    keys: u64,
    /// Of each client.
    operations: u64,
    history: Rc<RefCell<Operations>>,
    /// Changes of each key whose answers never came.
    unknown: Rc<RefCell<BTreeMap<u64, u32>>>,
    observer: Observer,
}

/// A client: one operation after another, on one connection for as long as it lasts.
async fn work<E: Env>(env: E, shared: Shared, client: u64) {
    let mut random = env.random("client");
    // What it last saw, to have something to compare with.
    let mut seen = BTreeMap::new();
    let mut connection = None;
    for number in 1..=shared.operations {
        let stream = match connection.take() {
            Some(stream) => stream,
            None => connect(&env, &shared, &mut random).await,
        };
        let key = random.below(shared.keys);
        let known = shared.unknown.borrow().get(&key).is_none_or(|&count| count < UNKNOWN_CHANGES);
        let asked = match random.below(4) {
            0 => Ask::Read,
            _ if !known => Ask::Read,
            // No value is ever written twice.
            1 => Ask::Write(client << 32 | number),
            _ => {
                let expected = seen.get(&key).copied().unwrap_or(0);
                Ask::CompareAndSet { expected, new: client << 32 | number }
            }
        };
        let answer = operate(&env, &shared, &stream, client, (key, asked)).await;
        let pause = if answer.is_ok() { PAUSE_MICROS.0 } else { PAUSE_MICROS.1 };
        if let Ok(answer) = answer {
            seen.insert(key, answer.value);
            connection = Some(stream);
        }
        env.sleep(Duration::from_micros(random.below(pause))).await;
    }
}

/// Reads every register, each until it is answered.
async fn read_all<E: Env>(env: E, shared: Shared) {
    let mut random = env.random("last reads");
    for key in 0..shared.keys {
        loop {
            let stream = connect(&env, &shared, &mut random).await;
            if operate(&env, &shared, &stream, 0, (key, Ask::Read)).await.is_ok() {
                break;
            }
        }
    }
}

/// Connects, trying again until it works.
async fn connect<E: Env>(
    env: &E,
    shared: &Shared,
    random: &mut RandomStream,
) -> <E::Net as Net>::Stream {
    loop {
        if let Ok(stream) = env.net().connect(shared.server).await {
            return stream;
        }
        env.sleep(Duration::from_micros(random.below(PAUSE_MICROS.1))).await;
    }
}

/// Asks for one operation, and writes down what was asked and answered.
async fn operate<E: Env>(
    env: &E,
    shared: &Shared,
    stream: &<E::Net as Net>::Stream,
    client: u64,
    (key, asked): (u64, Ask),
) -> io::Result<Answer> {
    let Shared { history, observer, .. } = shared;
    let call = history.borrow_mut().invoke(client, key, asked);
    let answering = pin!(ask(stream, key, asked));
    let answer = match select(answering, pin!(env.sleep(ANSWER_LIMIT))).await {
        Either::Left((answer, _)) => answer,
        Either::Right(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    match answer {
        Ok(answer) => {
            if let Ask::CompareAndSet { .. } = asked {
                observer.hit(if answer.done { SET } else { NOT_SET });
            }
            history.borrow_mut().complete(call, answer);
            observer.count("answered", 1);
        }
        // A read that nobody saw the answer of is as good as none.
        Err(_) if asked == Ask::Read => history.borrow_mut().withdraw(call),
        // The call is dropped: whether it was done, nobody knows.
        Err(_) => {
            *shared.unknown.borrow_mut().entry(key).or_default() += 1;
            observer.hit(UNANSWERED);
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use woodchuck_sim::scenario::{Campaign, RunOptions};

    use super::*;

    /// Plays the scenario with a bug until that is found. Gives the property that is violated.
    fn found(bug: Bug) -> String {
        let scenario = with_bug(Some(bug));
        let mut runs = (0..300).map(|seed| scenario.run(&RunOptions::new(seed)));
        let failed = runs.find(|run| run.violation().is_some());
        let failed = failed.unwrap_or_else(|| panic!("{bug:?} is not found"));
        failed.violation().map(|violation| violation.property.clone()).unwrap_or_default()
    }

    #[test]
    fn registers_are_linearizable() {
        let tally = scenario().check(0..200);
        assert_eq!((tally.passed, tally.inconclusive), (200, 0));
        assert!(tally.counts["answered"] > 10_000, "{:?}", tally.counts);
    }

    #[test]
    fn under_unrestricted_faults_what_nobody_could_notice_stays_off() {
        let regime = Regime::Unrestricted;
        let tally = Campaign { regime, ..Campaign::new(scenario(), 0..50) }.run(|_| ());
        assert_eq!(tally.passed, 50, "{:?}", tally.failures.first());
    }

    #[test]
    fn an_answer_that_comes_before_its_write_is_durable_is_found() {
        assert_eq!(found(Bug::AnswersBeforeDurable), "linearizable");
    }

    #[test]
    fn changes_that_overlap_are_found() {
        assert_eq!(found(Bug::ChangesOverlap), "linearizable");
    }

    #[test]
    fn connections_that_are_kept_are_found() {
        assert_eq!(found(Bug::KeepsConnections), "idle-holds-little");
    }
}
