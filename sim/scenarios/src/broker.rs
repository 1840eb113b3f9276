//! A broker and its clients in one world, and what strikes the broker down.
//!
//! A seed draws the numbers of shards, partitions and clients, their habits, the log's sizes, the
//! kind of disk, the link between clients and broker, the world's faults, and a plan: rounds of
//! work, some of them hindered by a partition, a clog, a pause, a stall or a clock that jumps, each
//! ended by a kill, an operating system crash, a power cut, a reboot or a graceful stop, and a start
//! after a pause. In the end the broker runs undisturbed, the clients come to their ends, and an
//! auditor reads everything.
//!
//! In half of all worlds acknowledged data is then damaged on the disk, and the broker started once
//! more. That is beyond what it promises to survive; what it promises is to say so. It must either
//! refuse to open, or still have everything.
//!
//! What must hold is said in [`history`](crate::history). Besides: the broker opens its data after
//! every crash, a graceful stop succeeds, nothing panics, deadlocks or spins, and everybody is done
//! in bounded time once the faults end. From then on nobody loses a connection, and when all is
//! done, the broker holds no more than one that has just opened the same data.
//!
//! Under unrestricted faults the broker may give up, and may refuse to open. As long as it answers,
//! its answers must be right. Two things are left out. On a disk that lies about what it has
//! written, or that spoils it, what was acknowledged may be lost: all of it if it was never written,
//! and else the last group, if it is spoilt before a later one bears witness of it. Without another
//! machine that cannot be told from what a crash has torn. And nothing is corrupted on the network:
//! outside of batches Kafka's protocol has no checksum, so that clients would ask for something
//! else, or be told something else, and nobody could know.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use woodchuck::EngineOptions;
use woodchuck_io::limits::BLOCK_BYTES;
use woodchuck_server::kafka::KafkaOptions;
use woodchuck_server::{Serve, ServeError};
use woodchuck_sim::check::leaks::{self, Resources};
use woodchuck_sim::check::liveness::Recovery;
use woodchuck_sim::check::{Anomaly, Verdict};
use woodchuck_sim::scenario::{Director, Limits, Observer, Scenario, Stage};
use woodchuck_sim::{Cut, DiskProfile, FaultKind, Faults, LinkProfile, MachineId, Regime};
use woodchuck_wal::LogOptions;

use crate::bots::{Allowed, Bot, Habits, Shared, consume, harass, produce, read_all, tidy};

const PORT: u16 = 9092;

/// Events of a run. A usual one has about ten thousand; one that has a million spins.
const STEPS: u64 = 1_000_000;

/// How long the clients may take to come to their ends once the faults have ended.
const END_LIMIT: Duration = Duration::from_secs(300);

/// How long a graceful stop may take: a disk may stall for a minute.
const STOP_LIMIT: Duration = Duration::from_secs(300);

/// How long to wait for the disk to be at work before the broker is struck down.
const DISK_WAIT: Duration = Duration::from_millis(20);

/// How long the broker is left alone before its data is damaged.
const IDLE: Duration = Duration::from_millis(500);

/// What cannot happen under budgeted faults: no disk breaks, rots, lies or fills up, nothing is
/// corrupted on its way, and the broker reads nothing that it is still writing. Nor does the plan
/// wipe disks or lose patience with a stop, a panic fails the world, and a few clients never fill a
/// backlog.
const UNAFFECTED_BY: &[FaultKind] = &[
    FaultKind::DiskError,
    FaultKind::AskedError,
    FaultKind::UnknownBlock,
    FaultKind::StorageFull,
    FaultKind::ReadRace,
    FaultKind::LatentError,
    FaultKind::BitRot,
    FaultKind::MisdirectedRead,
    FaultKind::MisdirectedWrite,
    FaultKind::LostWrite,
    FaultKind::StickyError,
    FaultKind::MetadataFull,
    FaultKind::LyingFlush,
    FaultKind::CorruptPacket,
    FaultKind::FullBacklog,
    FaultKind::Wipe,
    FaultKind::GraceOver,
    FaultKind::TaskPanic,
];

/// How long the broker is left alone before what it holds is counted, where everything is quick.
const REST: Duration = Duration::from_secs(1);

/// Numbers of the clients, by what they do.
const PRODUCERS: u32 = 0;
const CONSUMERS: u32 = 32;
const JANITOR: u32 = 64;
const HOSTILE: u32 = 65;
const AUDITOR: u32 = 66;

/// Marks that some world of a campaign must hit.
const REFUSED: &str = "damaged data was refused";
const HARMLESS: &str = "damage did no harm";
const STRUCK_EARLY: &str = "struck while it opened";

/// The scenario.
#[must_use]
pub fn scenario() -> Scenario {
    let about = "A broker and its clients, while it is killed, crashed, unplugged and stopped.";
    Scenario::new("broker", about, set).without(UNAFFECTED_BY)
}

fn set(stage: &mut Stage) {
    let (broker, clients) = (stage.machine("broker"), stage.machine("clients"));
    let partitions = 1 + stage.draw("partitions", 6) as i32;
    let allowed = allowed(stage);
    let shared = Shared {
        address: SocketAddr::new(stage.world().address(broker), PORT),
        partitions,
        history: Rc::default(),
        observer: stage.observer(),
        ending: Rc::default(),
        quiet: Rc::default(),
        busy: Rc::default(),
        allowed,
    };
    if allowed.loss {
        shared.history.borrow_mut().allow_loss();
    }
    let broken = set_broker(stage, broker, &shared);
    set_clients(stage, clients, &shared);
    let pace = set_link(stage, broker, clients);
    for mark in [REFUSED, HARMLESS, STRUCK_EARLY] {
        if stage.regime() == Regime::Budgeted {
            stage.sometimes(mark);
        }
    }
    stage.limit(Limits { steps: STEPS, ..Limits::default() });
    let history = Rc::clone(&shared.history);
    let rounds = 1 + stage.draw("rounds", 6);
    let damaged = stage.draw("damaged", 2) == 1;
    stage.plan(move |director| async move {
        let plan = Plan { director, broker, clients, shared, broken, pace };
        plan.strike(rounds).await;
        plan.end(damaged).await;
    });
    stage.verify(move |observer| {
        let history = history.borrow();
        observer.count("acknowledged", history.acknowledged);
        observer.count("read", history.read);
    });
}

/// What the faults of this world allow the broker.
fn allowed(stage: &Stage) -> Allowed {
    let world = stage.world();
    let mut faults = world.faults();
    faults.net.corrupt = 0;
    let disk = &mut faults.disk;
    let mut lies = [
        &mut disk.lying_flush,
        &mut disk.lying_period,
        &mut disk.lost_write,
        &mut disk.misdirected_write,
        &mut disk.misdirected_read,
        &mut disk.latent_error,
        &mut disk.bit_rot,
    ];
    // Half of all disks break as they like but are honest: nothing may be lost on them.
    if stage.draw("lies", 2) == 0 {
        lies.iter_mut().for_each(|rate| **rate = 0);
    }
    let loss = lies.iter().any(|rate| **rate > 0);
    world.set_faults(faults);
    Allowed { storage_errors: stage.regime() == Regime::Unrestricted, loss }
}

/// Draws the broker's disk and the way to it. Gives how many times longer everything takes than on
/// the quickest.
fn set_link(stage: &Stage, broker: MachineId, clients: MachineId) -> u32 {
    let world = stage.world();
    // Most worlds have what production has.
    let disk = stage.draw("disk", 8) as usize;
    let disk_pace = match DiskProfile::ALL.get(disk.saturating_sub(3)) {
        Some(profile) => {
            world.set_disk(broker, profile.clone());
            if *profile == DiskProfile::HDD { 10 } else { 1 }
        }
        None => 1,
    };
    let link = stage.draw("link", 16) as usize;
    let Some(&(_, profile)) = LinkProfile::NAMED.get(link.wrapping_sub(9)) else {
        return disk_pace;
    };
    world.set_link(broker, clients, profile);
    let latency = profile.least + profile.spread;
    disk_pace.max((latency.as_micros() / 1000).clamp(1, 100) as u32)
}

/// Why the broker gave up, if it did.
type Broken = Rc<RefCell<Option<ServeError>>>;

fn set_broker(stage: &mut Stage, broker: MachineId, shared: &Shared) -> Broken {
    let shards = 1 + stage.draw("shards", 3) as usize;
    let log = LogOptions {
        frames_in_flight: 1 + stage.draw("frames in flight", 4) as usize,
        queue_bytes: 8 << (10 + stage.draw("queue", 4)),
        ..LogOptions::small()
    };
    let mut engine = EngineOptions::new("/data".into());
    engine.log = log;
    engine.tail_bytes = 1 << (10 + stage.draw("tail", 8));
    let kafka = KafkaOptions {
        default_partitions: shared.partitions as u32,
        ..KafkaOptions::new(shared.address)
    };
    let broken = Broken::default();
    let noted = Rc::clone(&broken);
    stage.program(broker, shards, Serve { engine, kafka }, move |_, outcome| {
        if let Err(error) = outcome {
            *noted.borrow_mut() = Some(error);
        }
    });
    broken
}

/// All clients share one machine and one shard: what is tested is the broker.
fn set_clients(stage: &mut Stage, clients: MachineId, shared: &Shared) {
    for number in 0..1 + stage.draw("producers", 3) {
        let draw = |what, range| stage.draw_nth(what, number, range);
        let idempotent = draw("idempotent", 2) == 1;
        let habits = Habits {
            idempotent,
            window: 1 + draw("window", 4) as usize,
            records: 1 + draw("records", 4),
            filler: 1 << draw("filler", 12),
            acks: match draw("acks", 4) {
                1 => 1,
                // Who sends again has to know whether it must.
                2 if !idempotent => 0,
                _ => -1,
            },
            pause_ms: draw("pause", 3) * 4,
            version: [3, 7, 9, 10][draw("produce version", 4) as usize],
        };
        let number = PRODUCERS + number as u32;
        add_bot(stage, clients, shared, ("producer", number), move |bot| produce(bot, habits));
    }
    for number in 0..1 + stage.draw("consumers", 2) {
        let version = [4, 11, 12][stage.draw_nth("fetch version", number, 3) as usize];
        let number = CONSUMERS + number as u32;
        add_bot(stage, clients, shared, ("consumer", number), move |bot| consume(bot, version));
    }
    if stage.draw("janitor", 3) == 1 {
        add_bot(stage, clients, shared, ("janitor", JANITOR), tidy);
    }
    if stage.draw("hostile", 4) == 1 {
        add_bot(stage, clients, shared, ("hostile", HOSTILE), harass);
    }
}

/// Adds a bot that is busy until it comes to its end.
fn add_bot<F: Future<Output = ()> + 'static>(
    stage: &mut Stage,
    clients: MachineId,
    shared: &Shared,
    (name, number): (&'static str, u32),
    run: impl Fn(Bot) -> F + 'static,
) {
    shared.busy.borrow_mut().insert(number, name);
    let shared = shared.clone();
    stage.bot(clients, name, move |env| {
        let running = run(Bot::new(env, shared.clone(), name, number));
        let busy = Rc::clone(&shared.busy);
        async move {
            running.await;
            busy.borrow_mut().remove(&number);
        }
    });
}

/// Whether an audit was made to its end.
type Audited = bool;

struct Plan {
    director: Director,
    broker: MachineId,
    clients: MachineId,
    shared: Shared,
    broken: Broken,
    /// How many times longer than usual everything takes.
    pace: u32,
}

impl Plan {
    fn observer(&self) -> &Observer {
        self.director.observer()
    }

    fn may_give_up(&self) -> bool {
        self.shared.allowed.storage_errors
    }

    /// Strikes the broker down so many times, with work in between.
    async fn strike(&self, rounds: u64) {
        for _ in 0..rounds {
            // Every third time while it is still opening, or has only just begun.
            let early = self.director.choose(3) == 1;
            let longest = Duration::from_micros(if early { 3_000 } else { 120_000 }) * self.pace;
            if !early && self.director.choose(3) == 1 {
                self.pass(self.director.duration(Duration::ZERO..longest / 2)).await;
                self.hinder();
            }
            self.pass(self.director.duration(Duration::ZERO..longest)).await;
            if early && !self.may_give_up() {
                self.observer().hit(STRUCK_EARLY);
            }
            if self.director.choose(2) == 1 {
                self.await_disk().await;
            }
            self.observer().count("strikes", 1);
            let world = self.director.world();
            match self.director.choose(5) {
                0 => self.stop().await,
                1 => world.kill(self.broker),
                2 => world.crash_os(self.broker),
                3 => world.power_cut(self.broker),
                _ => self.reboot().await,
            }
            if self.director.choose(2) == 1 {
                self.heal();
            }
            let pause = self.director.duration(Duration::ZERO..Duration::from_millis(30));
            self.pass(pause).await;
            self.director.start(self.broker);
        }
    }

    /// Waits for a moment at which the broker's disk is at work: what is in flight in a crash is what
    /// may be torn.
    async fn await_disk(&self) {
        let (world, broker) = (self.director.world().clone(), self.broker);
        let at_work = move || world.resources(broker).disk_operations > 0;
        self.director.until(DISK_WAIT, at_work).await;
        self.check_broker().await;
    }

    /// Makes something hard for a while, without striking anybody down.
    fn hinder(&self) {
        let (world, broker, clients) = (self.director.world(), self.broker, self.clients);
        let time = self.director.duration(Duration::from_millis(5)..Duration::from_millis(500));
        self.observer().count("hindrances", 1);
        let cut = if self.director.choose(2) == 1 { Cut::Drop } else { Cut::Hold };
        match self.director.choose(12) {
            0 => world.clog_machine(broker, time),
            1 => world.clog(clients, broker, time),
            2 => world.partition(&[broker], &[clients], cut),
            3 => world.partition_one_way(&[broker], &[clients], cut),
            4 => world.partition_one_way(&[clients], &[broker], cut),
            5 => world.gray_link(broker, clients, (1000, 10), time),
            6 => world.reset_connections(broker, clients),
            7 => world.forget_connections(broker, clients),
            8 => world.pause_for(broker, time),
            9 => world.disk(broker).stall(time),
            10 => world.jump_wall(broker, self.director.choose(20_000) as i64 - 10_000),
            _ => world.cap_bandwidth(broker, clients, 50_000, time),
        }
    }

    /// Ends whatever makes something hard.
    fn heal(&self) {
        let world = self.director.world();
        world.heal_all();
        world.resume(self.broker);
        world.disk(self.broker).heal();
    }

    async fn reboot(&self) {
        let (world, broker) = (self.director.world().clone(), self.broker);
        world.reboot(broker, STOP_LIMIT);
        self.director.expect("reboots", STOP_LIMIT * 2, move || !world.is_running(broker)).await;
        self.check_broker().await;
    }

    /// Nothing strikes any more: everybody comes to their end, and everything is looked at.
    async fn end(&self, damaged: bool) {
        self.heal();
        if self.may_give_up() {
            return self.end_unrestricted().await;
        }
        // Clocks stay as wrong as they are, and what a crash may lose it may.
        self.director.world().set_faults(Faults::default());
        self.shared.quiet.set(true);
        self.shared.ending.set(true);
        self.expect_bots().await;
        self.check_broker().await;
        if !self.audit().await {
            self.check_broker().await;
            self.observer().violated("audit", "the audit did not take place");
            self.director.halt().await;
        }
        self.shared.quiet.set(false);
        if damaged {
            if self.damage().await {
                return;
            }
        } else {
            self.expect_no_leaks().await;
        }
        self.stop().await;
        let left = self.held();
        self.require("leak", &leaks::compare(&Resources::new(), &left)).await;
    }

    /// All bots come to their ends within the limit from now on.
    async fn expect_bots(&self) {
        let mut recovery = Recovery::within(END_LIMIT);
        recovery.faults_ended(self.now());
        let busy = Rc::clone(&self.shared.busy);
        let beyond = END_LIMIT + Duration::from_millis(1);
        if self.director.until(beyond, move || busy.borrow().is_empty()).await {
            recovery.finished(self.now());
        }
        let verdict = recovery.judge(self.now());
        if verdict.is_violated() {
            let waiting = self.director.world().waiting().join("\n  ");
            let busy = format!("not at their ends: {:?}\n  {waiting}", self.shared.busy.borrow());
            let verdict = verdict.and(Verdict::Violated(vec![Anomaly::new("stalled", busy)]));
            self.require("stalled", &verdict).await;
        }
    }

    fn now(&self) -> Duration {
        self.director.world().now()
    }

    /// What the broker holds.
    fn held(&self) -> Resources {
        self.director.world().resources(self.broker).iter().collect()
    }

    /// The broker has nothing to do any more. It must not hold more than one that has only just
    /// opened the same data.
    async fn expect_no_leaks(&self) {
        self.director.world().kill(self.clients);
        self.pass(REST * self.pace).await;
        let worked = self.held();
        self.stop().await;
        self.director.start(self.broker);
        let opened = self.now();
        while self.held().count("listeners") < worked.count("listeners") {
            self.pass(REST).await;
            let within = self.now() - opened;
            self.observer().require("opens-its-data", within < END_LIMIT, || {
                format!("it does not listen {within:?} after it was started")
            });
        }
        self.pass(REST * self.pace).await;
        let fresh = self.held();
        self.require("leak", &leaks::compare(&fresh, &worked)).await;
    }

    /// Reports what a checker found wrong, and ends the run then.
    async fn require(&self, property: &str, verdict: &Verdict) {
        if verdict.is_violated() {
            self.observer().judge(property, verdict);
            self.director.halt().await;
        }
    }

    /// Disks may have broken: what the broker has, if it still opens, must be right.
    async fn end_unrestricted(&self) {
        let world = self.director.world();
        self.director.dismiss_bots();
        world.set_faults(Faults::none());
        self.shared.ending.set(true);
        world.kill(self.broker);
        self.broken.borrow_mut().take();
        self.director.start(self.broker);
        let what = if self.audit().await { "audited" } else { "gave up" };
        self.observer().count(what, 1);
        world.kill(self.clients);
    }

    async fn pass(&self, time: Duration) {
        self.director.sleep(time).await;
        self.check_broker().await;
    }

    /// Stops the broker as an administrator does.
    async fn stop(&self) {
        self.director.stop(self.broker, STOP_LIMIT).await;
        self.check_broker().await;
    }

    /// Reads everything, and checks it against all that was seen. False: it could not be read
    /// because the broker gave up.
    async fn audit(&self) -> Audited {
        let world = self.director.world();
        world.kill(self.clients);
        let done = Rc::new(Cell::new(false));
        let (shared, auditor_done) = (self.shared.clone(), Rc::clone(&done));
        world.start(self.clients, 1, move |env| {
            let bot = Bot::new(env, shared.clone(), "auditor", AUDITOR);
            let done = Rc::clone(&auditor_done);
            async move {
                read_all(bot).await;
                done.set(true);
            }
        });
        let (finished, broken) = (Rc::clone(&done), Rc::clone(&self.broken));
        let settled = move || finished.get() || broken.borrow().is_some();
        if self.may_give_up() {
            self.director.until(END_LIMIT, settled).await;
        } else {
            self.director.expect("audit-finishes", END_LIMIT, settled).await;
        }
        if done.get() {
            self.judge_history().await;
        }
        done.get()
    }

    /// Judges all that clients did and saw.
    async fn judge_history(&self) {
        let verdict = self.shared.history.borrow().judge();
        self.require("", &verdict).await;
        // Where nothing was acknowledged, nothing had to be kept.
        let judged = if verdict.holds() { "judged" } else { "without anything to judge" };
        self.observer().count(judged, 1);
    }

    /// Damages one place of a log, and starts the broker on it. Gives whether it refused.
    async fn damage(&self) -> bool {
        // The log is idle for long enough to have said that all of it is durable.
        self.pass(IDLE).await;
        self.director.world().kill(self.broker);
        self.damage_a_log();
        self.director.start(self.broker);
        if self.audit().await {
            self.observer().hit(HARMLESS);
            return false;
        }
        let broken = self.broken.borrow().as_ref().map(|error| match error {
            ServeError::Open(_) => Ok(()),
            error => Err(format!("on damaged data, the broker gave up: {error}")),
        });
        match broken {
            Some(Ok(())) => {
                self.observer().hit(REFUSED);
                true
            }
            Some(Err(text)) => {
                self.observer().violated("damage-is-refused", text);
                self.director.halt().await;
                true
            }
            None => unreachable!("an audit ends when it is done or the broker gave up"),
        }
    }

    fn damage_a_log(&self) {
        let choose = |range: u64| self.director.choose(range);
        let disk = self.director.world().disk(self.broker);
        let logs: Vec<String> =
            disk.files().into_iter().filter(|path| path.ends_with(".wal")).collect();
        let path = &logs[choose(logs.len() as u64) as usize];
        let bytes = disk.read(path).unwrap_or_default();
        let is_used = |block: &u64| {
            let start = *block as usize * BLOCK_BYTES;
            bytes[start..start + BLOCK_BYTES].iter().any(|&byte| byte != 0)
        };
        let blocks = (bytes.len() / BLOCK_BYTES) as u64;
        let used: Vec<u64> = (0..blocks).filter(is_used).collect();
        if used.is_empty() {
            return;
        }
        let start = used[choose(used.len() as u64) as usize] * BLOCK_BYTES as u64;
        let byte = choose(BLOCK_BYTES as u64);
        match choose(4) {
            0 => disk.flip_bit(path, start + byte, choose(8) as u8),
            1 => disk.zero(path, start, BLOCK_BYTES),
            2 => disk.overwrite(path, start + byte / 2, b"something else altogether"),
            _ => disk.break_block(path, start),
        }
    }

    /// The broker must not have given up.
    async fn check_broker(&self) {
        if self.may_give_up() {
            return;
        }
        let broken = self.broken.borrow().as_ref().map(ToString::to_string);
        if let Some(error) = broken {
            let text = format!("the broker gave up: {error}");
            self.observer().violated_on("broker", "keeps-running", text);
            self.director.halt().await;
        }
    }
}
