//! Frames that opening carries over, and that refer to bodies.
//!
//! Bug: opening looked at the bodies before it changed anything, and read them once more to replay
//! them, when the new segment stood. A body that went bad in between was called damage then, with
//! the assurance that nothing had been changed. Now they are read once, and kept until they are
//! replayed.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::Env;
use woodchuck_sim::{Faults, MachineId, SimEnv, World, WorldOptions};
use woodchuck_wal::{Lane, Log, LogError, LogOptions, Recovered};

const DIRECTORY: &str = "/data/log";
const LARGE: usize = 6000;
const END_LIMIT: Duration = Duration::from_secs(60);

/// Commits that make a file of bodies worth having, and those that have bodies.
const FIRST: u8 = 3;
const WITH_BODIES: u8 = 3;

type Opened = Result<Vec<Recovered>, LogError>;

/// Leaves a log whose last commits have bodies, and are not known durable.
async fn fill(env: SimEnv) {
    let witness_delay = Duration::from_secs(3600);
    let options = LogOptions { witness_delay, ..LogOptions::small() };
    let opened = Log::open(env.clone(), PathBuf::from(DIRECTORY), options, |_| Ok(())).await;
    let (log, _) = opened.expect("a new log can be made");
    for id in 0..FIRST + WITH_BODIES {
        let submitted = log.submit_in(Lane(1), &[&[id; LARGE]], ());
        submitted.expect("there is room");
        if id < FIRST || id == FIRST + WITH_BODIES - 1 {
            while log.committed().await.expect("the log is open").last().is_none() {}
            env.sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Runs a process until it has set its flag.
fn run<W: Future<Output = ()> + 'static>(
    world: &World,
    machine: MachineId,
    work: impl Fn(SimEnv) -> W + 'static,
) {
    let done = Rc::new(Cell::new(false));
    let ended = Rc::clone(&done);
    let work = Rc::new(work);
    world.start(machine, 1, move |env| {
        let (work, done) = (Rc::clone(&work), Rc::clone(&done));
        async move {
            work(env).await;
            done.set(true);
        }
    });
    assert!(world.run_until(|| ended.get(), END_LIMIT), "the process ends");
    world.kill(machine);
}

/// Opens the log, and does something when a commit is replayed: a process may do anything then, and
/// so may its disk.
fn open(world: &World, machine: MachineId, then: impl Fn(&World, bool) + 'static) -> Opened {
    let outcome: Rc<RefCell<Option<Opened>>> = Rc::default();
    let (given, then, outer) = (Rc::clone(&outcome), Rc::new(then), world.clone());
    run(world, machine, move |env| {
        let (given, then, world) = (Rc::clone(&given), Rc::clone(&then), outer.clone());
        async move {
            let mut found: Vec<Recovered> = Vec::new();
            let replay = |recovered: Recovered| {
                then(&world, recovered.is_body);
                found.push(recovered);
                Ok(())
            };
            let directory = PathBuf::from(DIRECTORY);
            let opened = Log::<_, ()>::open(env, directory, LogOptions::small(), replay).await;
            *given.borrow_mut() = Some(opened.map(|_| found));
        }
    });
    outcome.take().expect("the process came to its end")
}

fn bodies(world: &World, machine: MachineId) -> Vec<String> {
    let files = world.disk(machine).files().into_iter();
    files.filter(|path| path.ends_with(".body")).collect()
}

fn world() -> (World, MachineId) {
    let options = WorldOptions { faults: Faults::none(), ..WorldOptions::new(1) };
    let world = World::with_options(options);
    let machine = world.machine("one");
    run(&world, machine, fill);
    assert_eq!(bodies(&world, machine).len(), 1);
    (world, machine)
}

fn expected(opened: &[Recovered]) {
    assert_eq!(opened.len(), usize::from(FIRST + WITH_BODIES));
    for (id, recovered) in (0..).zip(opened) {
        assert!(recovered.bytes == vec![id; LARGE], "commit {id}");
        assert_eq!(recovered.is_body, id >= FIRST, "commit {id}");
    }
}

#[test]
fn a_body_is_not_read_again_when_its_frame_was_carried_over() {
    let (world, machine) = world();
    let segments = move |world: &World| {
        let files = world.disk(machine).files().into_iter();
        files.filter(|path| path.ends_with(".wal")).collect::<Vec<_>>()
    };
    let (before, carried) = (segments(&world), Rc::new(Cell::new(0)));
    let counted = Rc::clone(&carried);
    let opened = open(&world, machine, move |world, is_body| {
        if segments(world) == before {
            return;
        }
        // The new segment stands.
        counted.set(counted.get() + u32::from(is_body));
        for path in bodies(world, machine) {
            world.disk(machine).zero(&path, 0, usize::from(WITH_BODIES) * 2 * 4096);
        }
    });
    expected(&opened.expect("what was read was whole"));
    assert!(carried.get() > 1, "{} bodies were carried over", carried.get());
}

#[test]
fn a_body_that_is_damaged_before_changes_nothing() {
    let (world, machine) = world();
    let disk = world.disk(machine);
    let contents = || {
        let files = disk.files().into_iter();
        files.map(|path| (path.clone(), disk.read(&path))).collect::<Vec<_>>()
    };
    let path = bodies(&world, machine).remove(0);
    // The last of them.
    let at = u64::from(WITH_BODIES - 1) * 8192 + 100;
    disk.flip_bit(&path, at, 3);
    let before = contents();
    let opened = open(&world, machine, |_, _| ());
    assert!(matches!(opened, Err(LogError::Corrupt { .. })), "{:?}", opened.err());
    assert!(contents() == before, "nothing was changed");
    disk.flip_bit(&path, at, 3);
    expected(&open(&world, machine, |_, _| ()).expect("it is as it was"));
}
