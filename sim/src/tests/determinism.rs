//! One seed, one run; and a tape repeats it.

use std::cell::Cell;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use woodchuck_io::{
    Buffer, Disk as _, Durability, Env as _, File as _, Listener as _, Mesh as _, Net as _,
    OpenMode, Stream as _,
};

use super::{blocks, create, write};
use crate::limits::CHECKPOINT_EVENTS;
use crate::{
    ChoiceName, EventKind, FaultKind, Faults, SimEnv, Site, Tape, TraceEntry, TraceRun, Traced,
    World, WorldOptions, diverge,
};

/// A server that writes what it is sent, twice mirrored through the mesh.
async fn serve(env: SimEnv) {
    let shard = env.mesh().shard();
    let path = format!("/data-{shard}");
    // Another shard may rename it between the two attempts.
    let file = loop {
        if let Ok(file) = env.disk().open(Path::new(&path), OpenMode::CreateNew).await {
            break file;
        }
        if let Ok(file) = env.disk().open(Path::new(&path), OpenMode::Write).await {
            break file;
        }
    };
    env.disk().sync_directory(Path::new("/")).await.expect("healthy");
    let echo = env.clone();
    env.spawn("mesh", async move {
        loop {
            let (from, parcel) = echo.mesh().receive().await;
            let hops: u32 = *parcel.downcast().expect("a number");
            if hops > 0 {
                echo.mesh().send(from, Box::new(hops - 1)).await;
            }
        }
    })
    .detach();
    let listener = env.net().listen("0.0.0.0:9".parse().expect("an address")).await.expect("free");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (inner, file, mut random) = (env.clone(), file.clone(), env.random("writes"));
        let delay = Duration::from_micros(random.below(100));
        env.spawn("connection", async move {
            loop {
                let (result, bytes) = stream.read(BytesMut::with_capacity(64)).await;
                if result.is_err() || bytes.is_empty() {
                    return;
                }
                let offset = random.below(16) * 4096;
                let durability =
                    if bytes[0] & 1 == 0 { Durability::Durable } else { Durability::Volatile };
                let (_, buffer) = file.write_at(blocks(1, bytes[0]), offset, durability).await;
                drop(buffer);
                let next = (shard + 1) % inner.mesh().shards();
                inner.mesh().send(next, Box::new(3_u32)).await;
                let (_, _) = file.read_at(Buffer::with_capacity(65536), 0).await;
                let (one, two) = (Path::new("/data-1"), Path::new("/moved"));
                let (from, to) = if bytes[0] & 2 == 0 { (one, two) } else { (two, one) };
                drop(inner.disk().rename(from, to).await);
                if stream.write(vec![bytes.freeze()]).await.is_err() {
                    return;
                }
            }
        })
        .detach();
        env.sleep(delay).await;
    }
}

async fn ask(env: SimEnv, server: std::net::IpAddr) {
    loop {
        let Ok(stream) = env.net().connect((server, 9).into()).await else {
            env.sleep(Duration::from_millis(1)).await;
            continue;
        };
        for byte in 0..20_u8 {
            if stream.write(vec![Bytes::from(vec![byte; 100])]).await.is_err() {
                break;
            }
            let (result, _) = stream.read(BytesMut::with_capacity(1000)).await;
            if !matches!(result, Ok(1..)) {
                break;
            }
        }
    }
}

/// A busy life with every kind of crash.
pub(super) fn live(world: &World) -> u64 {
    let (server, client) = (world.machine("server"), world.machine("client"));
    let address = world.address(server);
    world.start(client, 2, move |env| ask(env, address));
    for round in 0..4 {
        world.start(server, 3, serve);
        world.run_for(Duration::from_millis(5 + world.choose(Site::Plan, 0, 5)));
        match world.choose(Site::Plan, 1, 3).max(round % 3) {
            0 => world.kill(server),
            1 => world.crash_os(server),
            _ => world.power_cut(server),
        }
        world.run_for(Duration::from_millis(3));
    }
    world.trace_hash()
}

#[test]
fn one_seed_gives_one_run() {
    let mut hashes = Vec::new();
    for seed in 0..50 {
        let options = || WorldOptions { faults: Faults::swarm(seed), ..WorldOptions::new(seed) };
        let hash = live(&World::with_options(options()));
        assert_eq!(hash, live(&World::with_options(options())), "seed {seed} diverged");
        hashes.push(hash);
    }
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 50, "different seeds live different lives");
}

#[test]
fn a_tape_repeats_its_run() {
    for seed in 0..10 {
        let first = World::new(seed);
        let hash = live(&first);
        let text = first.tape().to_string();
        let tape: Tape = text.parse().expect("what was printed can be parsed");
        let second = World::replay(tape.clone());
        assert_eq!(live(&second), hash, "the tape of seed {seed} replays something else");
        assert_eq!(second.tape(), tape);
        assert_eq!(second.statistics(), first.statistics());
    }
}

#[test]
fn any_part_of_a_tape_can_be_played() {
    let first = World::new(3);
    live(&first);
    let full = first.tape();
    for stride in [2, 7, 1_000_000] {
        let mut tape = full.clone();
        let mut index = 0;
        tape.retain(|_, _| {
            index += 1;
            index % stride == 0
        });
        tape.set(ChoiceName { site: Site::Workload, node: 9, count: 99 }, 5);
        let hash = live(&World::replay(tape.clone()));
        assert_eq!(live(&World::replay(tape)), hash);
    }
}

#[test]
fn random_streams_depend_on_name_count_shard_and_start() {
    let draws = |seed| {
        let world = World::new(seed);
        let machine = world.machine("m");
        let drawn = Rc::new(std::cell::RefCell::new(Vec::new()));
        for _ in 0..2 {
            let drawn = Rc::clone(&drawn);
            world.start(machine, 2, move |env| {
                let drawn = Rc::clone(&drawn);
                async move {
                    for name in ["a", "b", "a"] {
                        drawn.borrow_mut().push(env.random(name).next_u64());
                    }
                }
            });
            world.run_to_idle();
        }
        drawn.take()
    };
    let mut first = draws(1);
    assert_eq!(first, draws(1));
    first.extend(draws(2));
    first.sort_unstable();
    first.dedup();
    assert_eq!(first.len(), 24, "every stream is another");
}

#[test]
fn every_kind_of_fault_changes_some_outcome() {
    let mut effects = [0; FaultKind::COUNT];
    for seed in 0..60 {
        let mut faults = Faults::default();
        faults.disk.read_error = 1000;
        faults.disk.write_error = 1000;
        faults.disk.short_read = 100_000;
        faults.net.reset = 1000;
        faults.net.tail = 10_000;
        faults.net.loss = 10_000;
        faults.net.clog = 1000;
        faults.net.one_sided = 50_000;
        faults.net.corrupt = 1000;
        faults.machine.poll_stall = 5000;
        let world = World::with_options(WorldOptions { faults, ..WorldOptions::new(seed) });
        live(&world);
        world.power_cut(world.machine("server"));
        world.run_for(Duration::from_secs(60));
        let statistics = world.statistics();
        for (effect, kind) in effects.iter_mut().zip(FaultKind::ALL.iter().copied()) {
            *effect += statistics.faults(kind);
        }
    }
    // These need a test of their own, and have it.
    let mut elsewhere = vec![
        FaultKind::AskedError,
        FaultKind::StorageFull,
        FaultKind::FullWindow,
        FaultKind::GrayPacket,
        FaultKind::CappedPacket,
        FaultKind::CutPacket,
        FaultKind::FullBacklog,
        FaultKind::AskedReset,
        FaultKind::Wipe,
        FaultKind::Reboot,
        FaultKind::GraceOver,
        FaultKind::TaskPanic,
        FaultKind::Pause,
        FaultKind::WallOffset,
        FaultKind::WallDrift,
        FaultKind::WallJump,
        FaultKind::WallFreeze,
        FaultKind::WallLeap,
        FaultKind::MonotonicDrift,
        FaultKind::SlowMonotonic,
        FaultKind::SuspendedClock,
    ];
    elsewhere.extend(super::disk::TESTED_ALONE);
    for (effect, kind) in effects.iter().zip(FaultKind::ALL.iter().copied()) {
        assert!(*effect > 0 || elsewhere.contains(&kind), "{kind:?} never changed an outcome");
    }
}

/// Sleeps `before` times alike in all runs, and then as long as `outside` says.
fn wander(seed: u64, window: Option<Range<u64>>, before: u32, outside: &Cell<u64>) -> TraceRun {
    let world = World::with_options(WorldOptions {
        trace_window: window,
        faults: Faults::none(),
        ..WorldOptions::new(seed)
    });
    outside.set(outside.get() + 1);
    let leaked = outside.get();
    world.start(world.machine("m"), 1, move |env| async move {
        for _ in 0..before {
            env.sleep(Duration::from_micros(10)).await;
        }
        env.sleep(Duration::from_nanos(leaked)).await;
        for _ in 0..3000 {
            env.sleep(Duration::from_micros(10)).await;
        }
    });
    world.run_to_idle();
    world.trace_run()
}

#[test]
fn the_first_event_that_differs_is_named() {
    for before in [0, 1, 2046, 2047, 2048, 5000] {
        let outside = Cell::new(0);
        let found = diverge::compare(|window| wander(1, window, before, &outside));
        let found = found.expect("what leaks in changes the run");
        let difference = found.difference.clone().expect("it comes again");
        // The start, the first poll, then a timer and a poll for each sleep.
        let expected = 2 + 2 * u64::from(before);
        assert_eq!((difference.event, found.runs), (expected, 4), "{found}");
        assert!(found.events.contains(&expected), "{found}");
        let (first, second) = (&difference.first[0], &difference.second[0]);
        assert_eq!((first.event, second.event), (expected, expected));
        assert_eq!(second.time.checked_sub(first.time), Some(Duration::from_nanos(1)));
        assert!(matches!(first.what, Traced::Event { kind: EventKind::Timer, .. }), "{first}");
        assert!(difference.before.iter().all(|entry| entry.event < expected));
        let text = found.to_string();
        assert!(text.contains(&format!("< {first}")) && text.contains(&format!("> {second}")));
    }
    let outside = Cell::new(0);
    let same = diverge::compare(|window| {
        outside.set(0);
        wander(1, window, 3000, &outside)
    });
    assert_eq!(same, None);
}

#[test]
fn a_choice_that_differs_is_named_though_no_event_does() {
    let outside = Cell::new(0);
    let found = diverge::compare(|trace_window| {
        let world = World::with_options(WorldOptions { trace_window, ..WorldOptions::new(5) });
        world.choose(Site::Plan, 3, 10);
        outside.set(outside.get() + 1);
        world.choose(Site::Plan, 4 + outside.get(), 10);
        world.trace_run()
    });
    let difference = found.and_then(|found| found.difference).expect("another node chose");
    let place = |entries: &[TraceEntry]| entries[0].place.clone();
    assert_eq!(place(&difference.first), "node 7");
    assert_eq!(place(&difference.second), "node 8");
    assert_eq!(difference.before.last().map(|entry| entry.place.as_str()), Some("node 3"));
}

/// Writes and sends bytes that `outside` decides; nothing else depends on it.
fn scribble(trace_window: Option<Range<u64>>, trace_contents: bool, outside: [u8; 2]) -> TraceRun {
    let options = WorldOptions { trace_window, trace_contents, ..WorldOptions::new(1) };
    let world = World::with_options(options);
    world.start(world.machine("m"), 1, move |env| async move {
        let file = create(&env, "/f").await;
        write(&file, 0, 1, outside[0], Durability::Durable).await;
        let listener = env.net().listen("127.0.0.1:9".parse().expect("an address")).await;
        let stream = env.net().connect(listener.expect("free").local_address()).await;
        let bytes = Bytes::copy_from_slice(&[1, 2, 3, outside[1]]);
        stream.expect("it listens").write(vec![bytes]).await.expect("open");
    });
    world.run_to_idle();
    world.trace_run()
}

#[test]
fn contents_that_differ_are_named_if_they_are_traced() {
    for (which, expected) in [(0, 4096), (1, 4)] {
        let runs = Cell::new([0; 2]);
        let run = |window, contents| {
            let mut outside = runs.get();
            outside[which] += 1;
            runs.set(outside);
            scribble(window, contents, outside)
        };
        assert_eq!(diverge::compare(|window| run(window, false)), None);
        let found = diverge::compare(|window| run(window, true)).expect("the bytes differ");
        let difference = found.difference.expect("it comes again");
        let what = &difference.first[0].what;
        assert!(matches!(what, Traced::Contents { bytes, .. } if *bytes == expected), "{what:?}");
    }
}

#[test]
fn a_divergence_that_moves_is_followed_to_where_it_is_earliest() {
    // The first two runs part late, those after them early.
    let outside = Cell::new(0);
    let found = diverge::compare(|window| {
        let before = if outside.get() < 2 { 6000 } else { 500 };
        wander(1, window, before, &outside)
    });
    let found = found.expect("it diverges");
    assert_eq!(found.difference.as_ref().map(|it| it.event), Some(1002), "{found}");
    assert_eq!((found.events, found.runs), (0..CHECKPOINT_EVENTS, 6));
    // One that came once and never again is still said to have been there.
    let runs = Cell::new(0);
    let found = diverge::compare(|window| {
        runs.set(runs.get() + 1);
        let outside = Cell::new(u64::from(runs.get() == 2));
        wander(1, window, 6000, &outside)
    });
    let found = found.expect("it diverged once");
    assert_eq!((found.difference.clone(), found.events.contains(&12002)), (None, true), "{found}");
}
