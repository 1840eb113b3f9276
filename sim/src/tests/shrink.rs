//! Failures that were planted are made simple, and stay what they are.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use woodchuck_io::{
    Disk as _, Durability, Env as _, File as _, Listener as _, Net as _, OpenMode, Stream as _,
};

use super::blocks;
use crate::shrink::{Outcome, Progress, ShrinkError, ShrinkOptions, Shrunk, shrink};
use crate::{Faults, SimEnv, Site, SiteClass, Tape, World, WorldOptions};

/// A life that may end in a failure, and then says in which.
type Life = fn(&World) -> Option<&'static str>;

fn faults() -> Faults {
    let mut faults = Faults::default();
    faults.net.reset = 5_000;
    faults
}

/// Lives once, from a seed or from a tape.
fn run(seed: u64, tape: Option<Tape>, life: Life) -> Outcome {
    let options = WorldOptions { faults: faults(), tape, ..WorldOptions::new(seed) };
    let world = World::with_options(options);
    let fingerprint = life(&world).map(str::to_owned);
    Outcome { fingerprint, played: world.tape() }
}

/// The tape of the first seed that fails and has something to shrink.
fn failing(life: Life) -> Tape {
    let mut runs = (0..200).map(|seed| run(seed, None, life));
    let worthy = |outcome: &Outcome| outcome.fingerprint.is_some() && outcome.played.len() > 200;
    runs.find(worthy).expect("some seed fails").played
}

/// Shrinks the first failure of a life to a tenth at most, twice alike.
fn shrunk(life: Life, fingerprint: &str) -> Shrunk {
    let tape = failing(life);
    let options = ShrinkOptions::default();
    let test = |tape: &Tape| run(0, Some(tape.clone()), life);
    let shrunk = shrink(&tape, &options, test, |_| ()).expect("it fails");
    assert_eq!((shrunk.fingerprint.as_str(), shrunk.from), (fingerprint, tape.len()));
    assert!(shrunk.complete && shrunk.to == shrunk.tape.len(), "{shrunk:?}");
    assert!(shrunk.to * 10 <= shrunk.from, "{} of {}", shrunk.to, shrunk.from);
    let again = run(0, Some(shrunk.tape.to_string().parse().expect("a tape")), life);
    assert_eq!(again.fingerprint.as_deref(), Some(fingerprint));
    assert_eq!(again.played, shrunk.tape, "nothing on it is unused");
    assert_eq!(shrink(&tape, &options, test, |_| ()), Ok(shrunk.clone()));
    shrunk
}

/// Writes block after block and takes each for stored, though only some are synced.
async fn store(env: SimEnv, stored: Rc<RefCell<BTreeSet<u64>>>) {
    let file = env.disk().open(Path::new("/log"), OpenMode::CreateNew).await.expect("new");
    env.disk().sync_directory(Path::new("/")).await.expect("healthy");
    for block in 0_u64..300 {
        let (written, _) = file.write_at(blocks(1, 1), block * 4096, Durability::Volatile).await;
        written.expect("healthy");
        if block % 5 == 4 {
            file.sync_data().await.expect("healthy");
        }
        stored.borrow_mut().insert(block);
    }
    std::future::pending::<()>().await;
}

fn loses_unsynced_writes(world: &World) -> Option<&'static str> {
    let stored = Rc::new(RefCell::new(BTreeSet::new()));
    let (machine, inside) = (world.machine("m"), Rc::clone(&stored));
    world.start(machine, 1, move |env| store(env, Rc::clone(&inside)));
    world.run_for(Duration::from_micros(1000 + 200 * world.choose(Site::Plan, 0, 200)));
    world.power_cut(machine);
    let bytes = world.disk(machine).read("/log").unwrap_or_default();
    let there = |block: u64| bytes.get(block as usize * 4096) == Some(&1);
    let lost = stored.borrow().iter().any(|&block| !there(block));
    lost.then_some("a write that was taken for stored is lost")
}

#[test]
fn a_lost_write_shrinks_to_the_crash_that_loses_it() {
    let shrunk = shrunk(loses_unsynced_writes, "a write that was taken for stored is lost");
    let schedule = [SiteClass::Schedule, SiteClass::Timing];
    let superfluous = |(name, _): &(crate::ChoiceName, u64)| schedule.contains(&name.site.class());
    assert!(shrunk.to <= 2 && !shrunk.tape.iter().any(|it| superfluous(&it)), "{}", shrunk.tape);
}

fn depends_on_task_order(world: &World) -> Option<&'static str> {
    let failed = Rc::new(Cell::new(false));
    let seen = Rc::clone(&failed);
    world.start(world.machine("m"), 1, move |env| {
        let failed = Rc::clone(&seen);
        async move {
            for _ in 0..300 {
                env.sleep(Duration::from_millis(1)).await;
                let ready = Rc::new(Cell::new(false));
                let (set, get, failed) = (Rc::clone(&ready), ready, Rc::clone(&failed));
                env.spawn("bystander", async {}).detach();
                env.spawn("prepares", async move { set.set(true) }).detach();
                env.spawn("relies", async move { failed.set(failed.get() | !get.get()) }).detach();
            }
        }
    });
    world.run_to_idle();
    failed.get().then_some("relied on what was not prepared")
}

#[test]
fn a_race_shrinks_to_the_order_of_its_tasks() {
    let shrunk = shrunk(depends_on_task_order, "relied on what was not prepared");
    let class = SiteClass::Schedule;
    assert!(shrunk.tape.iter().all(|(name, _)| name.site.class() == class), "{}", shrunk.tape);
    assert!(shrunk.to <= 3, "{}", shrunk.tape);
}

/// Applies what it is sent, and says so.
async fn apply(env: SimEnv, applied: Rc<Cell<u32>>) {
    let listener = env.net().listen("0.0.0.0:9".parse().expect("an address")).await.expect("free");
    while let Ok((stream, _)) = listener.accept().await {
        let applied = Rc::clone(&applied);
        env.spawn("connection", async move {
            loop {
                let (result, bytes) = stream.read(BytesMut::with_capacity(1)).await;
                if !matches!(result, Ok(1)) {
                    return;
                }
                applied.set(applied.get() + 1);
                drop(stream.write(vec![bytes.freeze()]).await);
            }
        })
        .detach();
    }
}

/// Sends again what was not answered, though it may have been applied.
async fn insist(env: SimEnv, server: std::net::IpAddr, answered: Rc<Cell<u32>>) {
    while answered.get() < 200 {
        let Ok(stream) = env.net().connect((server, 9).into()).await else {
            env.sleep(Duration::from_millis(1)).await;
            continue;
        };
        while answered.get() < 200 {
            if stream.write(vec![Bytes::from_static(b"x")]).await.is_err() {
                break;
            }
            let (result, _) = stream.read(BytesMut::with_capacity(9)).await;
            if !matches!(result, Ok(1)) {
                break;
            }
            answered.set(answered.get() + 1);
        }
    }
}

fn repeats_after_a_reset(world: &World) -> Option<&'static str> {
    let (server, client) = (world.machine("server"), world.machine("client"));
    let (applied, answered) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (address, inside) = (world.address(server), Rc::clone(&applied));
    world.start(server, 1, move |env| apply(env, Rc::clone(&inside)));
    let inside = Rc::clone(&answered);
    world.start(client, 1, move |env| insist(env, address, Rc::clone(&inside)));
    world.run_to_idle();
    (applied.get() > answered.get()).then_some("applied twice")
}

#[test]
fn a_repetition_shrinks_to_the_reset_that_makes_it() {
    let shrunk = shrunk(repeats_after_a_reset, "applied twice");
    assert_eq!(shrunk.tape.sites(), [(Site::NetReset, 1)], "{}", shrunk.tape);
}

#[test]
fn what_does_not_fail_or_fails_otherwise_is_not_shrunk() {
    let tape = failing(repeats_after_a_reset);
    let otherwise =
        ShrinkOptions { fingerprint: Some("another".into()), ..ShrinkOptions::default() };
    let test = |tape: &Tape| run(0, Some(tape.clone()), repeats_after_a_reset);
    let error = shrink(&tape, &otherwise, test, |_| ()).expect_err("it is another failure");
    assert_eq!(error, ShrinkError::FailsOtherwise { fingerprint: "applied twice".into() });
    let error = shrink(&Tape::new(0), &ShrinkOptions::default(), test, |_| ());
    assert_eq!(error, Err(ShrinkError::Passes));
}

/// Fails if the tape has three of the choices, with another failure if it has two.
fn needs_three(tape: &Tape) -> Outcome {
    let of_three = |count| [7, 300, 911].contains(&count);
    let found = tape.iter().filter(|(name, value)| of_three(name.count) && *value >= 10).count();
    let fingerprint = match found {
        3 => Some("three".to_owned()),
        2 => Some("two".to_owned()),
        _ => None,
    };
    Outcome { fingerprint, played: tape.clone() }
}

#[test]
fn what_is_needed_together_is_kept_and_runs_are_bounded() {
    let mut tape = Tape::new(1);
    for count in 0..1000 {
        tape.set(crate::ChoiceName { site: Site::Task, node: 0, count }, 1000);
    }
    let mut told: Vec<Progress> = Vec::new();
    let options = ShrinkOptions { runs: 300, ..ShrinkOptions::default() };
    let mut runs = 0;
    let test = |tape: &Tape| {
        runs += 1;
        needs_three(tape)
    };
    let least = shrink(&tape, &options, test, |progress| told.push(*progress)).expect("it fails");
    let left: Vec<(u32, u64)> =
        least.tape.iter().map(|(name, value)| (name.count, value)).collect();
    // 1000, halved six times, is the least that is not below 10.
    assert_eq!(left, [(7, 15), (300, 15), (911, 15)]);
    assert_eq!((least.runs, least.complete, least.fingerprint.as_str()), (runs, true, "three"));
    assert_eq!(told.len() + 1, runs);
    assert!(told.windows(2).all(|pair| pair[1].to <= pair[0].to && pair[1].runs > pair[0].runs));
    let options = ShrinkOptions { runs: 20, ..ShrinkOptions::default() };
    let begun = shrink(&tape, &options, needs_three, |_| ()).expect("it fails");
    assert_eq!((begun.runs, begun.complete), (20, false));
    assert!(begun.to < 1000 && needs_three(&begun.tape).fingerprint.as_deref() == Some("three"));
}

#[test]
fn what_a_run_did_not_ask_for_is_gone_at_once() {
    let mut tape = Tape::new(1);
    for count in 0..1000 {
        tape.set(crate::ChoiceName { site: Site::Task, node: 0, count }, 1);
    }
    // Asks for the first twenty, and then fails.
    let test = |tape: &Tape| Outcome {
        fingerprint: (tape.len() > 3).then(|| "it".to_owned()),
        played: tape.kept(|name, _| name.count < 20),
    };
    let options = ShrinkOptions { runs: 1, ..ShrinkOptions::default() };
    let begun = shrink(&tape, &options, test, |_| ()).expect("it fails");
    assert_eq!((begun.from, begun.to, begun.runs), (1000, 20, 1));
}
