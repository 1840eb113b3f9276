//! Clocks: what each fault does to a reading, and that monotonic time never goes back.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::{Env as _, Monotonic};

use super::run;
use crate::{FaultKind, Faults, MachineFaults, MachineId, Suspension, World, WorldOptions};

/// A world in which nothing goes wrong but what the test sets.
fn world_with(seed: u64, set: impl FnOnce(&mut MachineFaults)) -> World {
    let mut faults = Faults::none();
    set(&mut faults.machine);
    World::with_options(WorldOptions { faults, ..WorldOptions::new(seed) })
}

/// Wall time, in milliseconds, every so often.
type Readings = Rc<RefCell<Vec<i64>>>;

/// Reads both clocks every `pause` of the machine's own time.
fn watch(world: &World, machine: MachineId, pause: Duration) -> Readings {
    let readings: Readings = Rc::default();
    let log = Rc::clone(&readings);
    world.start(machine, 1, move |env| {
        let log = Rc::clone(&log);
        async move {
            loop {
                env.now();
                log.borrow_mut().push(env.wall().as_millis());
                env.sleep(pause).await;
            }
        }
    });
    readings
}

/// What a second of wall time, read each millisecond, is off by at its end, with a strike in
/// between; and whether a reading went back.
fn struck(world: &World, strike: impl FnOnce(&World, MachineId)) -> (i64, bool) {
    let machine = world.machine("m");
    let readings = watch(world, machine, Duration::from_millis(1));
    world.run_for(Duration::from_millis(100));
    let first = readings.borrow()[0];
    strike(world, machine);
    world.run_for(Duration::from_millis(1900));
    let readings = readings.borrow();
    let last = *readings.last().expect("it was read");
    let back = readings.windows(2).any(|pair| pair[1] < pair[0]);
    (last - first - 2000, back)
}

/// Within a few milliseconds, which polls and the time between readings take.
fn near(value: i64, expected: i64) -> bool {
    (value - expected).abs() <= 5
}

#[test]
fn wall_time_jumps_when_asked() {
    for (distance, back) in [(5000, false), (-5000, true)] {
        let world = world_with(1, |_| ());
        let (off, went_back) = struck(&world, |world, machine| world.jump_wall(machine, distance));
        assert!(near(off, distance) && went_back == back, "{off} {went_back}");
        assert_eq!(world.statistics().faults(FaultKind::WallJump), 1);
    }
}

#[test]
fn wall_time_freezes_when_asked_and_is_right_again_or_late() {
    for late in [false, true] {
        let world = world_with(1, |_| ());
        let freeze = Duration::from_millis(700);
        let (off, back) = struck(&world, |world, machine| world.freeze_wall(machine, freeze, late));
        assert!(near(off, if late { -700 } else { 0 }) && !back, "{off}");
        assert_eq!(world.statistics().faults(FaultKind::WallFreeze), 1);
    }
}

#[test]
fn a_freeze_that_made_wall_time_late_keeps_it_late_through_the_next() {
    let world = world_with(1, |_| ());
    let (off, _) = struck(&world, |world, machine| {
        world.freeze_wall(machine, Duration::from_millis(300), true);
        world.pause_for(machine, Duration::from_millis(400));
        world.run_for(Duration::from_millis(350));
        world.freeze_wall(machine, Duration::from_millis(200), false);
    });
    // The world ran 350 ms more than `struck` knows of.
    assert!(near(off, 350 - 300), "{off}");
}

#[test]
fn wall_time_leaps_when_asked() {
    let world = world_with(1, |_| ());
    let (off, back) = struck(&world, World::leap_wall);
    assert!(near(off, -1000) && back, "a second came twice: {off}");
    assert_eq!(world.statistics().faults(FaultKind::WallLeap), 1);
}

#[test]
fn a_fault_of_a_clock_that_nobody_reads_does_not_count() {
    let world = world_with(1, |machine| machine.wall_offset_ms = 500);
    let machine = world.machine("m");
    world.jump_wall(machine, 5);
    world.freeze_wall(machine, Duration::from_secs(1), true);
    world.set_monotonic_speed(machine, 400);
    world.run_for(Duration::from_secs(2));
    let statistics = world.statistics();
    assert!(FaultKind::ALL.iter().all(|&kind| statistics.faults(kind) == 0));
}

/// A fault with the knob that turns it on.
type Knobbed = (FaultKind, fn(&mut MachineFaults));

const KNOBBED: [Knobbed; 8] = [
    (FaultKind::WallOffset, |knobs| knobs.wall_offset_ms = 500),
    (FaultKind::WallDrift, |knobs| knobs.wall_drift_ppm = 1_600),
    (FaultKind::WallJump, |knobs| knobs.wall_jump = 10_000),
    (FaultKind::WallFreeze, |knobs| knobs.wall_freeze = 10_000),
    (FaultKind::WallLeap, |knobs| knobs.wall_leap = 10_000),
    (FaultKind::MonotonicDrift, |knobs| knobs.monotonic_drift_ppm = 500),
    (FaultKind::SlowMonotonic, |knobs| knobs.monotonic_slow = 500_000),
    (FaultKind::SuspendedClock, |knobs| knobs.pause = 10_000),
];

#[test]
fn each_fault_of_a_clock_happens_when_it_is_on_and_only_then() {
    for (on, set) in KNOBBED {
        let mut effects = [0; KNOBBED.len()];
        for seed in 0..20 {
            let world = world_with(seed, set);
            watch(&world, world.machine("m"), Duration::from_millis(10));
            world.run_for(Duration::from_secs(20));
            for (effect, (kind, _)) in effects.iter_mut().zip(KNOBBED) {
                *effect += world.statistics().faults(kind);
            }
        }
        for (effect, (kind, _)) in effects.into_iter().zip(KNOBBED) {
            assert_eq!(effect > 0, kind == on, "{kind:?} with {on:?} on");
        }
    }
}

#[test]
fn monotonic_time_never_goes_back_and_no_timer_is_early() {
    for seed in 0..60 {
        let mut faults = Faults::swarm(seed);
        faults.machine.pause = 2_000;
        faults.machine.wall_jump = 100_000;
        let world = World::with_options(WorldOptions { faults, ..WorldOptions::new(seed) });
        let machine = world.machine("m");
        let reads = Rc::new(Cell::new(0));
        let count = Rc::clone(&reads);
        world.start(machine, 2, move |env| {
            let count = Rc::clone(&count);
            async move {
                let mut latest = env.now();
                let mut random = env.random("sleeps");
                loop {
                    env.wall();
                    let deadline = env.now() + Duration::from_micros(random.below(20_000));
                    env.sleep_until(deadline).await;
                    let now = env.now();
                    assert!(now >= deadline, "a timer was early");
                    assert!(now >= latest, "monotonic time went back");
                    latest = now;
                    count.set(count.get() + 1);
                }
            }
        });
        for step in 0..20 {
            world.run_for(Duration::from_millis(200));
            match (seed + step) % 5 {
                0 => world.set_monotonic_speed(machine, -900_000),
                1 => world.set_monotonic_speed(machine, 500_000),
                2 => {
                    let length = Some(Duration::from_millis(70));
                    world.suspend(machine, Suspension::MonotonicStops, length);
                }
                3 => {
                    world.suspend(machine, Suspension::BothStop, None);
                    world.set_monotonic_speed(machine, 0);
                    world.run_for(Duration::from_millis(90));
                    world.resume(machine);
                }
                _ => world.jump_wall(machine, -1_000_000),
            }
        }
        assert!(reads.get() > 20, "seed {seed}: {} readings", reads.get());
    }
}

#[test]
fn timers_follow_the_machines_own_clock() {
    for (ppm, expected_ms) in [(0, 1000), (500_000, 667), (-500_000, 2000)] {
        let world = world_with(1, |_| ());
        let machine = world.machine("m");
        world.set_monotonic_speed(machine, ppm);
        run(&world, |env| async move { env.sleep(Duration::from_secs(1)).await });
        let took = world.now().as_millis() as i64;
        assert!(near(took, expected_ms), "{ppm} ppm: {took} ms");
    }
}

/// How long a sleep of a second takes, by world, monotonic and wall time, with a pause of three
/// seconds in it.
fn sleep_through(suspension: Suspension) -> (i64, i64, i64) {
    let world = world_with(1, |_| ());
    let machine = world.machine("m");
    let woke: Rc<Cell<Option<(Monotonic, i64)>>> = Rc::default();
    let begun: Rc<Cell<Option<(Monotonic, i64)>>> = Rc::default();
    let (begin, end) = (Rc::clone(&begun), Rc::clone(&woke));
    world.start(machine, 1, move |env| {
        let (begin, end) = (Rc::clone(&begin), Rc::clone(&end));
        async move {
            begin.set(Some((env.now(), env.wall().as_millis())));
            env.sleep(Duration::from_secs(1)).await;
            end.set(Some((env.now(), env.wall().as_millis())));
        }
    });
    world.run_for(Duration::from_millis(500));
    world.suspend(machine, suspension, Some(Duration::from_secs(3)));
    let ended = Rc::clone(&woke);
    assert!(world.run_until(move || ended.get().is_some(), Duration::from_secs(20)));
    let (begin, end) = (begun.get().expect("it began"), woke.get().expect("it ended"));
    (world.now().as_millis() as i64, (end.0 - begin.0).as_millis() as i64, end.1 - begin.1)
}

#[test]
fn a_suspended_machine_keeps_its_clocks_or_loses_them() {
    let close = |(world, monotonic, wall), expected: (i64, i64, i64)| {
        let near = near(world, expected.0) && near(monotonic, expected.1) && near(wall, expected.2);
        assert!(near, "{world} {monotonic} {wall}, not {expected:?}");
    };
    close(sleep_through(Suspension::ClocksRun), (3500, 3500, 3500));
    close(sleep_through(Suspension::MonotonicStops), (4000, 1000, 4000));
    close(sleep_through(Suspension::BothStop), (4000, 1000, 1000));
}
