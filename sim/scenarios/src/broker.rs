//! A broker and its clients in one world, and what strikes the broker down.
//!
//! A seed draws the numbers of shards, partitions and clients, their habits, the log's sizes, the
//! world's faults, and a plan: rounds of work, each ended by a kill, an operating system crash, a
//! power cut or a graceful stop, and a start after a pause. In the end the broker runs undisturbed,
//! the clients come to their ends, and an auditor reads everything.
//!
//! In half of all worlds acknowledged data is then damaged on the disk, and the broker started once
//! more. That is beyond what it promises to survive; what it promises is to say so. It must either
//! refuse to open, or still have everything.
//!
//! What must hold is said in [`history`](crate::history). Besides: the broker opens its data after
//! every crash, a graceful stop succeeds, nothing panics, deadlocks or spins, and everybody is done
//! in bounded time once the faults end.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use woodchuck::EngineOptions;
use woodchuck_io::Env;
use woodchuck_io::limits::BLOCK_BYTES;
use woodchuck_server::kafka::KafkaOptions;
use woodchuck_server::{Serve, ServeError};
use woodchuck_sim::{Faults, MachineId, SimEnv, Site, Statistics, Tape, World, WorldOptions};
use woodchuck_wal::LogOptions;

use crate::bots::{Habits, Shared, consume, harass, produce, read_all, tidy};

const PORT: u16 = 9092;

/// How long the clients may take to come to their ends once the faults have ended.
const END_LIMIT: Duration = Duration::from_secs(300);

/// How long a graceful stop may take: a disk may stall for a minute.
const STOP_LIMIT: Duration = Duration::from_secs(300);

/// How long the broker is left alone before its data is damaged.
const IDLE: Duration = Duration::from_millis(500);

/// What a world did and found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Equal in two runs of one seed.
    pub trace_hash: u64,
    /// Time that passed in the world.
    pub elapsed: Duration,
    /// Kills, crashes, power cuts and stops.
    pub strikes: u64,
    /// Whether data was damaged, and if so whether the broker refused to open it.
    pub damage: Option<Refused>,
    /// Records acknowledged.
    pub acknowledged: u64,
    /// Records read, each time they were.
    pub read: u64,
    /// What happened in the world.
    pub statistics: Statistics,
}

/// Whether the broker refused to open damaged data. If not, the damage did not matter.
pub type Refused = bool;

/// Why a world failed.
#[derive(Clone, Debug)]
pub struct ScenarioFailure {
    /// The world's seed.
    pub seed: u64,
    /// What went wrong, with the latest events.
    pub message: String,
    /// The choices that led there.
    pub tape: Tape,
}

impl fmt::Display for ScenarioFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}\nto see it again: woodchuck sim replay {}", self.message, self.seed)
    }
}

impl std::error::Error for ScenarioFailure {}

/// Runs the world of a seed.
///
/// # Errors
/// If anything does not hold that must.
pub fn run(seed: u64) -> Result<Report, Box<ScenarioFailure>> {
    let faults = Faults::swarm(seed);
    let world = World::with_options(WorldOptions { faults, ..WorldOptions::new(seed) });
    let scenario = Scenario::new(world.clone());
    scenario
        .run()
        .map_err(|message| Box::new(ScenarioFailure { seed, message, tape: world.tape() }))
}

struct Scenario {
    world: World,
    broker: MachineId,
    clients: MachineId,
    shards: usize,
    serve: Serve,
    shared: Shared,
    bots: usize,
    /// What went wrong with the broker's process, if anything did.
    broken: Rc<RefCell<Option<ServeError>>>,
}

impl Scenario {
    fn new(world: World) -> Self {
        let (broker, clients) = (world.machine("broker"), world.machine("clients"));
        let draw = |below| world.choose(Site::Workload, 0, below);
        let shards = 1 + draw(3) as usize;
        let partitions = 1 + draw(6) as i32;
        let log = LogOptions {
            frames_in_flight: 1 + draw(4) as usize,
            queue_bytes: 8 << (10 + draw(4)),
            ..LogOptions::small()
        };
        let mut engine = EngineOptions::new("/data".into());
        engine.log = log;
        engine.tail_bytes = 1 << (10 + draw(8));
        let address = SocketAddr::new(world.address(broker), PORT);
        let kafka =
            KafkaOptions { default_partitions: partitions as u32, ..KafkaOptions::new(address) };
        let shared = Shared {
            address,
            partitions,
            history: Rc::default(),
            ending: Rc::new(Cell::new(false)),
            ended: Rc::default(),
        };
        let serve = Serve { engine, kafka };
        Self { world, broker, clients, shards, serve, shared, bots: 0, broken: Rc::default() }
    }

    fn run(mut self) -> Result<Report, String> {
        self.start_broker();
        self.start_clients();
        let strikes = 1 + self.plan(6);
        for _ in 0..strikes {
            // Every third time while it is still opening, or has only just begun.
            let longest_us = if self.plan(3) == 1 { 3_000 } else { 120_000 };
            self.pass(Duration::from_micros(self.plan(longest_us)))?;
            self.strike()?;
            let pause = Duration::from_micros(self.plan(30_000));
            self.pass(pause)?;
            self.start_broker();
        }
        self.shared.ending.set(true);
        self.wait("the clients", self.bots)?;
        self.check_audit(self.audit()?)?;
        let damage = if self.plan(2) == 1 { Some(self.damage()?) } else { None };
        if damage != Some(true) {
            self.world.stop(self.broker);
            self.wait_for_exit()?;
        }
        let history = self.shared.history.borrow();
        Ok(Report {
            trace_hash: self.world.trace_hash(),
            elapsed: self.world.now(),
            strikes,
            damage,
            acknowledged: history.acknowledged,
            read: history.read,
            statistics: self.world.statistics(),
        })
    }

    fn plan(&self, below: u64) -> u64 {
        self.world.choose(Site::Plan, 0, below)
    }

    fn start_broker(&self) {
        let broken = Rc::clone(&self.broken);
        self.world.start_program(
            self.broker,
            self.shards,
            self.serve.clone(),
            move |_, outcome| {
                if let Err(error) = outcome {
                    *broken.borrow_mut() = Some(error);
                }
            },
        );
    }

    /// All clients share one machine and one shard: what is tested is the broker.
    fn start_clients(&mut self) {
        let draw = |below| self.world.choose(Site::Workload, 1, below);
        let habits = |producer| Habits {
            producer,
            idempotent: draw(2) == 1,
            window: 1 + draw(4) as usize,
            records: 1 + draw(4),
            filler: 1 << draw(12),
            acks: if draw(4) == 1 { 1 } else { -1 },
            pause_ms: draw(3) * 4,
            version: [3, 7, 9, 10][draw(4) as usize],
        };
        let producers: Vec<Habits> = (0..1 + draw(3) as u32).map(habits).collect();
        let consumers: Vec<i16> = (0..1 + draw(2)).map(|_| [4, 11, 12][draw(3) as usize]).collect();
        let janitors = usize::from(draw(3) == 1);
        let hostiles = usize::from(draw(4) == 1);
        self.bots = producers.len() + consumers.len() + janitors + hostiles;
        let shared = self.shared.clone();
        self.world.start(self.clients, 1, move |env: SimEnv| {
            for &habits in &producers {
                env.spawn("producer", produce(env.clone(), shared.clone(), habits)).detach();
            }
            for &version in &consumers {
                env.spawn("consumer", consume(env.clone(), shared.clone(), version)).detach();
            }
            for _ in 0..janitors {
                env.spawn("janitor", tidy(env.clone(), shared.clone())).detach();
            }
            for _ in 0..hostiles {
                env.spawn("hostile", harass(env.clone(), shared.clone())).detach();
            }
            std::future::pending()
        });
    }

    fn pass(&self, time: Duration) -> Result<(), String> {
        self.world.try_run_for(time).map_err(|failure| failure.to_string())?;
        self.check_broker()
    }

    fn strike(&self) -> Result<(), String> {
        match self.plan(4) {
            0 => {
                self.world.stop(self.broker);
                self.wait_for_exit()
            }
            1 => {
                self.world.kill(self.broker);
                Ok(())
            }
            2 => {
                self.world.crash_os(self.broker);
                Ok(())
            }
            _ => {
                self.world.power_cut(self.broker);
                Ok(())
            }
        }
    }

    fn wait_for_exit(&self) -> Result<(), String> {
        let (world, broker) = (&self.world, self.broker);
        let exited = world.try_run_until(|| !world.is_running(broker), STOP_LIMIT);
        self.check_broker()?;
        match exited {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.late("the broker did not stop")),
            Err(failure) => Err(failure.to_string()),
        }
    }

    fn wait(&self, who: &str, bots: usize) -> Result<(), String> {
        let ended = Rc::clone(&self.shared.ended);
        let done = self.world.try_run_until(|| ended.get() >= bots, END_LIMIT);
        self.check_broker()?;
        match done {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.late(&format!("{who} did not come to their end"))),
            Err(failure) => Err(failure.to_string()),
        }
    }

    /// Reads everything, and checks it against all that was seen. False: it could not be read
    /// because the broker gave up.
    fn audit(&self) -> Result<bool, String> {
        self.world.kill(self.clients);
        let done = Rc::new(Cell::new(false));
        let (shared, auditor_done) = (self.shared.clone(), Rc::clone(&done));
        self.world.start(self.clients, 1, move |env| {
            let (shared, done) = (shared.clone(), Rc::clone(&auditor_done));
            async move {
                let all = read_all(env, shared.clone()).await;
                for (partition, records) in (0_i32..).zip(&all) {
                    shared.history.borrow_mut().check_end(partition, records);
                }
                done.set(true);
            }
        });
        let settled = || done.get() || self.broken.borrow().is_some();
        match self.world.try_run_until(settled, END_LIMIT) {
            Ok(true) => Ok(done.get()),
            Ok(false) => Err(self.late("the auditor did not come to its end")),
            Err(failure) => Err(failure.to_string()),
        }
    }

    fn check_audit(&self, passed: bool) -> Result<(), String> {
        self.check_broker()?;
        if passed { Ok(()) } else { Err(self.late("the audit did not take place")) }
    }

    /// Damages one place of a log, and starts the broker on it. Returns whether it refused.
    fn damage(&self) -> Result<Refused, String> {
        // The log is idle for long enough to have said that all of it is durable.
        self.pass(IDLE)?;
        self.world.kill(self.broker);
        let disk = self.world.disk(self.broker);
        let logs: Vec<String> =
            disk.files().into_iter().filter(|path| path.ends_with(".wal")).collect();
        let path = &logs[self.plan(logs.len() as u64) as usize];
        let bytes = disk.read(path).unwrap_or_default();
        let is_used = |block: &u64| {
            let start = *block as usize * BLOCK_BYTES;
            bytes[start..start + BLOCK_BYTES].iter().any(|&byte| byte != 0)
        };
        let blocks = (bytes.len() / BLOCK_BYTES) as u64;
        let used: Vec<u64> = (0..blocks).filter(is_used).collect();
        if !used.is_empty() {
            let start = used[self.plan(used.len() as u64) as usize] * BLOCK_BYTES as u64;
            let byte = self.plan(BLOCK_BYTES as u64);
            match self.plan(4) {
                0 => disk.flip_bit(path, start + byte, self.plan(8) as u8),
                1 => disk.zero(path, start, BLOCK_BYTES),
                2 => disk.overwrite(path, start + byte / 2, b"something else altogether"),
                _ => disk.break_block(path, start),
            }
        }
        self.start_broker();
        if self.audit()? {
            return Ok(false);
        }
        match &*self.broken.borrow() {
            Some(ServeError::Open(_)) => Ok(true),
            Some(error) => Err(self.late(&format!("on damaged data, the broker gave up: {error}"))),
            None => Err(self.late("the audit of damaged data did not take place")),
        }
    }

    fn check_broker(&self) -> Result<(), String> {
        match &*self.broken.borrow() {
            None => Ok(()),
            Some(error) => Err(self.late(&format!("the broker gave up: {error}"))),
        }
    }

    fn late(&self, what: &str) -> String {
        let (seed, now) = (self.world.seed(), self.world.now());
        format!("seed {seed}, at {now:?}: {what}\nlatest events:\n{}", self.world.trace(60))
    }
}
