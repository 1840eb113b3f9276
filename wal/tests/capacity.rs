//! A log that may have only so many bytes: it refuses, harms nothing, and goes on when trimmed. Files
//! of bodies count: in every second world all is submitted in a lane, and most commits have bodies.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::Env;
use woodchuck_sim::{Faults, MachineId, SimEnv, Site, World, WorldOptions};
use woodchuck_wal::{Lane, Log, LogError, LogOptions, Lsn};

const DIRECTORY: &str = "/data/log";
const SEGMENTS: u64 = 4;
const WORLDS: u64 = 60;

fn options() -> LogOptions {
    let usual = LogOptions { indirect_bytes: 1000, ..LogOptions::small() };
    LogOptions { capacity_bytes: SEGMENTS * usual.segment_bytes, ..usual }
}

/// Longer than any disk stalls.
const LONGEST_STALL_MS: u64 = 2000;

/// What happened, over all processes of one world.
#[derive(Default)]
struct Facts {
    /// The newest commit that was submitted, and of those acknowledged the newest, with its frame.
    submitted: u64,
    acknowledged: (u64, u64),
    /// Frames below it may be gone.
    trim: u64,
    /// The most commits of one process that had bodies.
    bodies: u64,
    /// A commit is being refused, and how often one was in all.
    refused: bool,
    refusals: u64,
    finished: bool,
    /// What was trimmed is gone, and nothing is written.
    settled: bool,
}

impl Facts {
    fn refused(&mut self, error: &LogError) {
        self.refused = true;
        if let LogError::AtCapacity { capacity } = error {
            assert_eq!(*capacity, options().capacity_bytes);
            self.refusals += 1;
        } else {
            assert!(matches!(error, LogError::Busy { .. }), "{error}");
        }
    }
}

type Shared = Rc<RefCell<Facts>>;

/// Commits are numbers, and something behind them.
fn commit(number: u64) -> Vec<u8> {
    // Some are larger than a frame that gathers.
    let length = if number.is_multiple_of(40) { 20_000 } else { 8 + (number as usize * 37) % 3000 };
    let mut bytes = vec![number as u8; length];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

async fn run(env: SimEnv, facts: Shared, commits: u64, in_a_lane: bool) {
    let mut found = Vec::new();
    let replay = |recovered: woodchuck_wal::Recovered| {
        let number = recovered.bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        assert_eq!(recovered.bytes, commit(number));
        found.push((number, recovered.lsn.get()));
        Ok(())
    };
    let opened = Log::open(env.clone(), PathBuf::from(DIRECTORY), options(), replay).await;
    let (log, _) = opened.expect("nothing is damaged, and the disk has room");
    assert!(found.is_sorted_by(|left, right| left.0 + 1 == right.0), "holes in {found:?}");
    {
        let mut facts = facts.borrow_mut();
        let (acknowledged, lsn) = facts.acknowledged;
        let newest = found.last().copied().unwrap_or((0, 0));
        assert!(newest.0 >= acknowledged || lsn < facts.trim, "{newest:?} of {acknowledged}");
        assert!(newest.0 <= facts.submitted);
        // What was served is durable.
        facts.acknowledged = newest.max(facts.acknowledged);
        facts.submitted = facts.acknowledged.0;
    }
    let trimming = env.spawn("trim", trim(env.clone(), log.clone(), Rc::clone(&facts)));
    let taking = env.spawn("acknowledge", acknowledge(log.clone(), Rc::clone(&facts)));
    for _ in 0..commits {
        let number = facts.borrow().submitted + 1;
        let bytes = commit(number);
        let submit = || match in_a_lane {
            true => log.submit_in(Lane(1), &[&bytes], ()),
            false => log.submit(&[&bytes], ()),
        };
        while let Err((error, ())) = submit() {
            facts.borrow_mut().refused(&error);
            match error {
                LogError::Busy { .. } => log.room(bytes.len()).await,
                _ => log.space(bytes.len()).await,
            }
        }
        facts.borrow_mut().submitted = number;
        facts.borrow_mut().refused = false;
        let most = facts.borrow().bodies.max(log.statistics().bodies);
        facts.borrow_mut().bodies = most;
        if number.is_multiple_of(16) {
            env.sleep(Duration::from_micros(50)).await;
        }
    }
    // The last may have been taken on trust: it finds its place when something is trimmed.
    while facts.borrow().acknowledged.0 < facts.borrow().submitted {
        facts.borrow_mut().refused = true;
        env.sleep(Duration::from_millis(1)).await;
    }
    facts.borrow_mut().refused = false;
    drop(trimming);
    // What was trimmed goes first.
    env.sleep(Duration::from_millis(20)).await;
    facts.borrow_mut().settled = true;
    env.sleep(Duration::from_millis(1)).await;
    facts.borrow_mut().settled = false;
    log.shrink().await.expect("the log is open");
    log.close().await.expect("all of it becomes durable");
    taking.await;
    facts.borrow_mut().finished = true;
}

async fn acknowledge(log: Log<SimEnv, ()>, facts: Shared) {
    loop {
        match log.committed().await {
            Ok(committed) => {
                let mut facts = facts.borrow_mut();
                for commit in committed {
                    let number = commit.bytes.first_chunk().expect("at least a number");
                    facts.acknowledged = (u64::from_le_bytes(*number), commit.lsn.get());
                }
            }
            Err(LogError::Closed) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The user of the log: gives up half of what it keeps, while a commit is being refused.
async fn trim(env: SimEnv, log: Log<SimEnv, ()>, facts: Shared) {
    loop {
        env.sleep(Duration::from_micros(300)).await;
        if !facts.borrow().refused {
            continue;
        }
        // What was taken does not wait for what is trimmed.
        let taken = facts.borrow().submitted;
        for moment in 0.. {
            // One may have been taken on trust.
            if facts.borrow().acknowledged.0 + 1 >= taken {
                break;
            }
            assert!(moment < LONGEST_STALL_MS, "commit {taken} was taken and finds no place");
            env.sleep(Duration::from_millis(1)).await;
        }
        let mut facts = facts.borrow_mut();
        if facts.refused {
            let middle = u64::midpoint(log.oldest().get(), log.durable().get());
            facts.trim = facts.trim.max(middle);
            log.trim(Lsn::new(middle));
        }
    }
}

fn bytes_of_files(world: &World, machine: MachineId) -> u64 {
    let disk = world.disk(machine);
    let files = disk.files().into_iter().filter(|path| path.starts_with(DIRECTORY));
    files.filter_map(|path| disk.length(&path)).sum()
}

#[test]
fn a_log_keeps_to_its_capacity_and_goes_on_when_trimmed() {
    let (mut refusals, mut most) = (0, 0);
    for seed in 0..WORLDS {
        let in_a_lane = seed % 2 == 1;
        let faults = Faults::swarm(seed);
        let world = World::with_options(WorldOptions { faults, ..WorldOptions::new(seed) });
        let machine = world.machine("one");
        let facts = Shared::default();
        let segment = options().segment_bytes;
        let limit = options().capacity_bytes + 4 * segment;
        for round in 0..4 {
            let given = Rc::clone(&facts);
            world.start(machine, 1, move |env| run(env, Rc::clone(&given), 1200, in_a_lane));
            // Long enough to come to its end in the last round.
            let moments = if round < 3 { world.choose(Site::Plan, 1, 300) } else { 50_000 };
            for _ in 0..moments {
                world.run_for(Duration::from_micros(100));
                let bytes = bytes_of_files(&world, machine);
                assert!(bytes <= limit, "seed {seed}: {bytes} bytes of {limit}");
                let settled = facts.borrow().settled;
                assert!(!settled || bytes <= limit - 4 * segment, "seed {seed}: {bytes} settled");
                most = most.max(bytes);
                if facts.borrow().finished {
                    break;
                }
            }
            if !facts.borrow().finished {
                world.power_cut(machine);
            }
            let mut facts = facts.borrow_mut();
            assert!(round < 3 || facts.finished, "seed {seed}: it does not go on");
            (facts.refused, facts.settled, facts.finished) = (false, false, false);
        }
        // Nothing was trimmed after it shrank.
        let spares = world.disk(machine).files().into_iter().filter(|path| path.contains("spare"));
        assert_eq!(spares.count(), 0, "seed {seed}");
        refusals += facts.borrow().refusals;
        let bodies = facts.borrow().bodies;
        assert!(if in_a_lane { bodies > 100 } else { bodies == 0 }, "seed {seed}: {bodies} bodies");
    }
    println!("{refusals} refusals, at most {most} bytes");
    assert!(refusals > WORLDS);
    assert!(most >= options().capacity_bytes, "the capacity is used: {most}");
}
