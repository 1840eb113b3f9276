//! How worlds fail: panics, deadlocks and livelocks are reported with who, where and when.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use woodchuck_io::{Env as _, Listener as _, Mesh as _, Net as _, Stream as _};

use crate::{Failure, FailureKind, SimEnv, World, WorldOptions};

#[test]
fn a_panic_names_seed_time_machine_shard_and_task() {
    let world = World::new(77);
    let machine = world.machine("broker");
    world.start(machine, 2, |env| async move {
        let inner = env.clone();
        let task = env.spawn("flusher", async move {
            inner.sleep(Duration::from_millis(3)).await;
            assert!(inner.mesh().shard() != 1, "shard 1 fails");
        });
        task.await;
    });
    let failure = world.try_run_for(Duration::from_secs(1)).expect_err("a task panics");
    let FailureKind::Panic { machine, shard, task, message } = &failure.kind else {
        panic!("{failure}");
    };
    assert_eq!((machine.as_str(), *shard, *task), ("broker", 1, "flusher"));
    assert!(message.contains("shard 1 fails"));
    assert_eq!(failure.seed, 77);
    assert!(failure.time >= Duration::from_millis(3) && failure.time < Duration::from_millis(6));
    assert!(failure.to_string().contains("seed 77"), "{failure}");
    assert!(failure.trace.contains("flusher"), "{failure}");
    let again = world.try_run_for(Duration::from_secs(1));
    assert_eq!(again, Err(failure), "a failed world stays failed");
}

#[test]
#[should_panic(expected = "seed 5, at")]
fn run_for_panics_with_the_report() {
    let world = World::new(5);
    world.start(world.machine("m"), 1, |_| async { panic!("no reason") });
    world.run_for(Duration::from_secs(1));
}

fn waits_for_ever(world: &World) -> Failure {
    world.start(world.machine("m"), 1, |env| async move {
        let inner = env.clone();
        env.spawn("receiver", async move { drop(inner.mesh().receive().await) }).detach();
        env.sleep(Duration::MAX).await;
    });
    world.try_run_until(|| false, Duration::from_secs(9)).expect_err("nothing can happen")
}

#[test]
fn a_deadlock_names_who_waits() {
    let failure = waits_for_ever(&World::new(1));
    let FailureKind::Deadlock { waiting } = &failure.kind else { panic!("{failure}") };
    assert_eq!(waiting.len(), 2, "{waiting:?}");
    let begins = |line: &str, start: &str| assert!(line.starts_with(start), "{line}");
    begins(&waiting[0], "m/0 \"main\" (task 0) waits for a timer that never fires since ");
    begins(&waiting[1], "m/0 \"receiver\" (task 1) waits for a parcel since ");
}

/// One task for each thing that can be waited for and never come.
async fn wait_for_everything(env: SimEnv) {
    let anywhere = "0.0.0.0:9".parse().expect("an address");
    let here = "127.0.0.1:9".parse().expect("an address");
    let listener = env.net().listen(anywhere).await.expect("free");
    let reader = env.net().connect(here).await.expect("a listener");
    let writer = env.net().connect(here).await.expect("a listener");
    let (one, _) = listener.accept().await.expect("a peer");
    let (other, _) = listener.accept().await.expect("a peer");
    env.spawn("accepts", async move { drop(listener.accept().await) }).detach();
    env.spawn("reads", async move { drop(reader.read(BytesMut::with_capacity(1)).await) }).detach();
    let much = vec![Bytes::from(vec![0; 2 << 20])];
    env.spawn("writes", async move { drop(writer.write(much).await) }).detach();
    let inner = env.clone();
    env.spawn("sends", async move {
        loop {
            inner.mesh().send(1, Box::new(1)).await;
        }
    })
    .detach();
    let stopping = env.stopping();
    env.spawn("stops", stopping).detach();
    env.spawn("is lost", std::future::pending::<()>()).detach();
    let (read, stopping) = (one.read(BytesMut::with_capacity(1)), env.stopping());
    drop((futures_util::future::join(read, stopping).await, other));
}

#[test]
fn a_deadlock_says_what_everybody_waits_for() {
    let world = World::new(1);
    let machine = world.machine("m");
    world.start(machine, 2, |env| async move {
        match env.mesh().shard() {
            0 => wait_for_everything(env).await,
            _ => std::future::pending().await,
        }
    });
    let paused = world.machine("paused");
    world.start(paused, 1, |env| async move { env.yield_now().await });
    world.pause(paused);
    let failure = world.try_run_until(|| false, Duration::from_secs(99)).expect_err("all wait");
    let text = failure.to_string();
    for line in [
        "m/0 \"main\" (task 0) waits for a connection read and 1 more since ",
        "m/0 \"accepts\" (task 1) waits for an accept since ",
        "m/0 \"reads\" (task 2) waits for a connection read since ",
        "m/0 \"writes\" (task 3) waits for a connection write since ",
        "m/0 \"sends\" (task 4) waits for room in a mailbox since ",
        "m/0 \"stops\" (task 5) waits for being asked to stop since ",
        "m/0 \"is lost\" (task 6) waits for an event of its own since ",
        "m/1 \"main\" (task 0) waits for an event of its own since ",
        "paused/0 \"main\" (task 0) has not begun; the machine is paused",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert!(text.contains(&format!("tasks picked by: {}", world.policy().name())), "{text}");
}

#[test]
fn waiting_for_a_distant_timer_is_no_deadlock() {
    let world = World::new(1);
    world.start(world.machine("m"), 1, |env| async move {
        env.sleep(Duration::from_secs(100)).await;
    });
    assert!(!world.run_until(|| false, Duration::from_secs(9)));
    assert_eq!(world.now(), Duration::from_secs(9));
}

#[test]
fn a_livelock_names_who_runs() {
    let world =
        World::with_options(WorldOptions { livelock_polls: 10_000, ..WorldOptions::new(1) });
    world.start(world.machine("m"), 2, |env| async move {
        let inner = env.clone();
        let spin = async move {
            loop {
                inner.yield_now().await;
            }
        };
        env.spawn("spinner", spin).await;
    });
    let failure = world.try_run_for(Duration::from_secs(100)).expect_err("it never rests");
    let FailureKind::Livelock { running } = &failure.kind else { panic!("{failure}") };
    assert_eq!(running.len(), 2, "{running:?}");
    assert!(running[0].starts_with("m/0 \"spinner\": "), "{running:?}");
    assert!(running[0].ends_with("polls, last waiting for its next turn"), "{running:?}");
}

#[test]
fn a_poll_that_never_ends_is_said_to_spin() {
    let world = World::new(1);
    world.start(world.machine("m"), 1, |env| async move {
        let late = env.now() + Duration::from_millis(1);
        while env.now() < late {}
    });
    let failure = world.try_run_for(Duration::from_secs(1)).expect_err("it waits in a loop");
    assert!(failure.to_string().contains("it spins"), "{failure}");
}

#[test]
fn a_world_that_never_rests_does_not_run_to_idle() {
    let world = World::new(1);
    world.start(world.machine("m"), 1, |env| async move {
        loop {
            env.sleep(Duration::from_secs(100)).await;
        }
    });
    let failure = world.try_run_to_idle().expect_err("it never rests");
    assert!(matches!(failure.kind, FailureKind::Livelock { .. }), "{failure}");
}

#[test]
fn a_world_ends_with_its_owner() {
    let alive = std::rc::Rc::new(());
    let world = World::new(1);
    let held = std::rc::Rc::clone(&alive);
    world.start(world.machine("m"), 1, move |env| {
        let held = std::rc::Rc::clone(&held);
        async move {
            env.sleep(Duration::from_secs(9)).await;
            drop(held);
        }
    });
    world.run_for(Duration::from_secs(1));
    assert!(std::rc::Rc::strong_count(&alive) > 1);
    drop(world);
    assert_eq!(std::rc::Rc::strong_count(&alive), 1, "nothing of the world is left");
}
