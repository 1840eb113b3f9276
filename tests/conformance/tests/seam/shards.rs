//! Tasks, timers, mail between shards, stopping, and the end of a shard.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::limits::MAILBOX_PARCELS;
use woodchuck_io::runtime::{Backend, Runtime, RuntimeOptions};
use woodchuck_io::{Env, Mesh, Program};
use woodchuck_sim::{Exit, World, WorldOptions};

use crate::common::{self, ALL_SEEDS, FEW_SEEDS, poll_once, quiet_world};

check!(timers_fire_in_order_and_not_early, 1, |env, directory| {
    let fired = Rc::new(RefCell::new(Vec::new()));
    let start = env.now();
    let sleepers: Vec<_> = [30_u64, 5, 20, 10, 10, 0, 15]
        .into_iter()
        .enumerate()
        .map(|(index, milliseconds)| {
            let (env, fired) = (env.clone(), Rc::clone(&fired));
            let sleeper = env.clone();
            env.spawn("sleep", async move {
                let duration = Duration::from_millis(milliseconds);
                sleeper.sleep_until(start + duration).await;
                assert!(sleeper.now() - start >= duration);
                fired.borrow_mut().push((milliseconds, index));
            })
        })
        .collect();
    for sleeper in sleepers {
        sleeper.await;
    }
    // Between equal deadlines there is no order.
    fired.borrow_mut()[2..4].sort_unstable();
    assert_eq!(*fired.borrow(), [(0, 5), (5, 1), (10, 3), (10, 4), (15, 6), (20, 2), (30, 0)]);
    // A dropped timer is forgotten.
    assert!(poll_once(env.sleep(Duration::from_secs(3600))).await.is_none());
    env.sleep(Duration::from_micros(100)).await;
    assert!(env.wall().as_millis() > 1_700_000_000_000);
});

check!(tasks_are_spawned_yield_and_are_cancelled, 1, |env, directory| {
    let trace = Rc::new(RefCell::new(Vec::new()));
    let tasks: Vec<_> = (0..3)
        .map(|task| {
            let (env, trace) = (env.clone(), Rc::clone(&trace));
            let inner = env.clone();
            env.spawn("trace", async move {
                for round in 0..3 {
                    trace.borrow_mut().push((round, task));
                    inner.yield_now().await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await;
    }
    let rounds: Vec<i32> = trace.borrow().iter().map(|&(round, _)| round).collect();
    assert!(rounds.is_sorted(), "{trace:?}");
    let alive = Rc::new(());
    let held = Rc::clone(&alive);
    let cancelled = env.spawn("never", async move {
        let _held = held;
        std::future::pending::<()>().await;
    });
    env.yield_now().await;
    assert_eq!(Rc::strong_count(&alive), 2);
    drop(cancelled);
    env.yield_now().await;
    env.yield_now().await;
    assert_eq!(Rc::strong_count(&alive), 1);
    let (mut one, mut two) = (env.random("a"), env.random("a"));
    assert_ne!(one.next_u128(), two.next_u128());
});

check!(mail_keeps_its_order_when_boxes_are_full, 4, FEW_SEEDS, |env, directory| {
    // Three times what a box holds, from everybody to everybody at once, with two senders a pair
    // whose sends interleave, and receivers that take pauses.
    const PARCELS: usize = 3 * MAILBOX_PARCELS;
    let mesh = env.mesh();
    let mut senders = Vec::new();
    for to in 0..mesh.shards() {
        let next = Rc::new(RefCell::new(0_usize));
        for _ in 0..2 {
            let (mesh, next) = (mesh.clone(), Rc::clone(&next));
            senders.push(env.spawn("send", async move {
                loop {
                    let number = *next.borrow();
                    if number == PARCELS {
                        return;
                    }
                    *next.borrow_mut() += 1;
                    mesh.send(to, Box::new((mesh.shard(), number))).await;
                }
            }));
        }
    }
    let mut expected = vec![0; mesh.shards()];
    let mut random = env.random("pauses");
    for _ in 0..PARCELS * mesh.shards() {
        let (from, parcel) = mesh.receive().await;
        let parcel = parcel.downcast::<(usize, usize)>().expect("what was sent");
        assert_eq!(*parcel, (from, expected[from]), "to {}", mesh.shard());
        expected[from] += 1;
        if random.below(500) == 0 {
            env.sleep(Duration::from_micros(random.below(300))).await;
        }
    }
    for sender in senders {
        sender.await;
    }
    assert!(poll_once(mesh.receive()).await.is_none(), "a parcel came twice");
});

check!(a_dropped_send_sends_nothing, 1, |env, directory| {
    let mesh = env.mesh();
    for number in 0..MAILBOX_PARCELS {
        mesh.send(0, Box::new(number)).await;
    }
    // The box is full: these wait, and the one in the middle gives up.
    let mut first = Box::pin(mesh.send(0, Box::new(MAILBOX_PARCELS)));
    let mut dropped = Box::pin(mesh.send(0, Box::new(usize::MAX)));
    let mut last = Box::pin(mesh.send(0, Box::new(MAILBOX_PARCELS + 1)));
    assert!(poll_once(&mut first).await.is_none());
    assert!(poll_once(&mut dropped).await.is_none());
    assert!(poll_once(&mut last).await.is_none());
    drop(dropped);
    for number in 0..MAILBOX_PARCELS + 2 {
        let (from, parcel) = mesh.receive().await;
        assert_eq!((from, *parcel.downcast::<usize>().expect("what was sent")), (0, number));
    }
    first.await;
    last.await;
    assert!(poll_once(mesh.receive()).await.is_none());
});

check!(a_later_send_never_overtakes_one_that_waits, 1, |env, directory| {
    let mesh = env.mesh();
    for number in 0..MAILBOX_PARCELS {
        mesh.send(0, Box::new(number)).await;
    }
    let mut waits = Box::pin(mesh.send(0, Box::new(MAILBOX_PARCELS)));
    assert!(poll_once(&mut waits).await.is_none());
    // There is room now, and the shard has not yet looked at who waits for it.
    mesh.receive().await;
    let mut later = Box::pin(mesh.send(0, Box::new(MAILBOX_PARCELS + 1)));
    poll_once(&mut later).await;
    for number in 1..MAILBOX_PARCELS + 2 {
        let (_, parcel) = mesh.receive().await;
        assert_eq!(*parcel.downcast::<usize>().expect("what was sent"), number);
    }
    later.await;
    waits.await;
});

check!(mail_wakes_shards_that_sleep, 2, |env, directory| {
    let mesh = env.mesh();
    let other = 1 - mesh.shard();
    for round in 0..300_u32 {
        if mesh.shard() == 0 {
            // Long enough for the other to fall asleep, now and then.
            if round % 3 == 0 {
                env.sleep(Duration::from_micros(200)).await;
            }
            mesh.send(other, Box::new(round)).await;
            let (_, answer) = mesh.receive().await;
            assert_eq!(*answer.downcast::<u32>().expect("what was sent"), round + 1);
        } else {
            let (_, asked) = mesh.receive().await;
            let asked = *asked.downcast::<u32>().expect("what was sent");
            mesh.send(other, Box::new(asked + 1)).await;
        }
    }
});

/// Waits to be stopped.
#[derive(Clone)]
struct Idle;

impl Program for Idle {
    type Output = usize;

    async fn run<E: Env>(self, env: E) -> usize {
        env.stopping().await;
        // At once the second time.
        env.stopping().await;
        env.mesh().shard()
    }
}

fn stop_while_idle(backend: Backend, pause: Duration) {
    let Some(runtime) = common::start(backend, 3, Idle) else { return };
    let stopper = runtime.stopper();
    let stopping = std::thread::spawn(move || {
        std::thread::sleep(pause);
        stopper.stop();
        stopper.stop();
    });
    assert_eq!(runtime.join(), [Ok(0), Ok(1), Ok(2)]);
    stopping.join().expect("no panic");
}

#[test]
fn idle_shards_stop_on_both_backends() {
    for &backend in common::BACKENDS {
        for milliseconds in [0, 0, 0, 1, 50] {
            stop_while_idle(backend, Duration::from_millis(milliseconds));
        }
    }
}

#[test]
fn idle_shards_stop_in_simulation() {
    for seed in 0..ALL_SEEDS {
        for pause in [Duration::ZERO, Duration::from_millis(1)] {
            let world = quiet_world(seed);
            let machine = world.machine("machine");
            let ended = Rc::new(RefCell::new(Vec::new()));
            let told = Rc::clone(&ended);
            world.start_program(machine, 3, Idle, move |_, shard| told.borrow_mut().push(shard));
            world.run_for(pause);
            assert!(world.is_running(machine), "nobody asked it to stop");
            world.stop(machine);
            world.stop(machine);
            world.run_to_idle();
            ended.borrow_mut().sort_unstable();
            assert_eq!(*ended.borrow(), [0, 1, 2]);
        }
    }
}

/// Shard 1 panics in a task nobody waits for; the others wait to be stopped.
#[derive(Clone)]
struct Panics;

impl Program for Panics {
    type Output = ();

    async fn run<E: Env>(self, env: E) {
        if env.mesh().shard() == 1 {
            env.spawn("panic", async { panic!("on {}", "purpose") }).detach();
            std::future::pending::<()>().await;
        }
        env.stopping().await;
    }
}

#[test]
fn a_panic_ends_its_shard_and_stops_the_others() {
    for &backend in common::BACKENDS {
        let Some(runtime) = common::start(backend, 3, Panics) else { continue };
        let ended = runtime.join();
        assert_eq!((&ended[0], &ended[2]), (&Ok(()), &Ok(())));
        let panic = ended[1].as_ref().expect_err("it panicked");
        assert_eq!(panic.to_string(), "shard 1 panicked: on purpose");
    }
}

// Of panics the seam's text says nothing. The runtime ends the shard and asks the others to stop;
// the simulator fails the world, or ends the whole process if it is told to.
#[test]
fn a_panic_ends_a_simulated_process() {
    let options = WorldOptions { panics_crash: true, ..WorldOptions::new(7) };
    let world = World::with_options(options);
    let machine = world.machine("machine");
    world.start_program(machine, 3, Panics, |_, ()| panic!("no shard is left to return"));
    world.run_to_idle();
    assert!(!world.is_running(machine));
    let Some(Exit::Panic(message)) = world.last_exit(machine) else { panic!("it panicked") };
    assert_eq!(message, "task \"panic\" of shard 1: on purpose");
}

#[test]
fn shards_are_counted_and_pinned() {
    for shards in [0, 1_000_000] {
        let options = RuntimeOptions { shards, ..RuntimeOptions::default() };
        let error = Runtime::start(options, Idle).expect_err("no such number");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
    // More shards than CPUs share them.
    let options = RuntimeOptions { shards: 5, pin: true, ..RuntimeOptions::default() };
    let runtime = Runtime::start(options, Idle).expect("started");
    assert_ne!(runtime.backend(), Backend::Automatic);
    runtime.stopper().stop();
    assert_eq!(runtime.join().len(), 5);
}

#[test]
fn a_dropped_runtime_asks_its_shards_to_stop() {
    let runtime = Runtime::start(common::options(Backend::Posix, 2), Idle).expect("started");
    let stopper = runtime.stopper();
    drop(runtime);
    assert_eq!(format!("{stopper:?}"), "Stopper { stopping: true }");
}
