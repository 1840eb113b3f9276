//! Processes die, machines crash, power fails: at any moment, again and again.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_sim::{Faults, Site, World, WorldOptions};
use woodchuck_wal::LogOptions;

use super::model::{Model, seeds};
use super::process::{Orders, SharedEnding, SharedModel, run};

/// Worlds in one campaign.
const SEEDS: u64 = 400;

/// How a process may end.
fn strike(world: &World, machine: woodchuck_sim::MachineId) {
    match world.choose(Site::Plan, 1, 4) {
        0 => world.kill(machine),
        1 => world.crash_os(machine),
        _ => world.power_cut(machine),
    }
}

fn orders(world: &World) -> Orders {
    let usual = Orders::usual();
    let options = LogOptions {
        frames_in_flight: 1 + world.choose(Site::Plan, 2, 5) as usize,
        segment_bytes: (48 << 10) << world.choose(Site::Plan, 3, 2),
        frame_bytes: 4096 << world.choose(Site::Plan, 4, 3),
        ..usual.options
    };
    // Mostly small commits, sometimes so large that a segment holds few.
    let bytes = 100 << (3 * world.choose(Site::Plan, 5, 3));
    Orders { options, bytes, trims: world.choose(Site::Plan, 6, 4) > 0, ..usual }
}

/// One world: a disk on which up to twelve processes write to one log.
fn crash_and_recover(seed: u64) -> Model {
    let options = WorldOptions { faults: Faults::swarm(seed), ..WorldOptions::new(seed) };
    let world = World::with_options(options);
    let machine = world.machine("one");
    let model: SharedModel = Rc::new(RefCell::new(Model::new(seed)));
    let ending = SharedEnding::default();
    for _ in 0..2 + world.choose(Site::Plan, 7, 10) {
        let (given, kept, orders) = (Rc::clone(&model), Rc::clone(&ending), orders(&world));
        world.start(machine, 1, move |env| run(env, Rc::clone(&given), Rc::clone(&kept), orders));
        // Often while the log is opened or created, mostly while it is written to, sometimes after
        // it was closed.
        let longest = if world.choose(Site::Plan, 8, 3) == 0 { 4_000 } else { 60_000 };
        let limit = Duration::from_micros(world.choose(Site::Plan, 9, longest));
        world.run_for(limit);
        strike(&world, machine);
    }
    ending.take();
    let (given, kept) = (Rc::clone(&model), Rc::clone(&ending));
    world.start(machine, 1, move |env| {
        run(env, Rc::clone(&given), Rc::clone(&kept), Orders::look())
    });
    let exited = world.run_until(|| ending.borrow().closed.is_some(), Duration::from_secs(60));
    assert!(exited, "seed {seed}: the last process does not exit");
    world.kill(machine);
    drop(world);
    Rc::into_inner(model).expect("the world is gone").into_inner()
}

#[test]
fn what_was_acknowledged_survives_and_nothing_else_appears() {
    let mut sum = Model::new(0);
    for seed in seeds(SEEDS) {
        let outcome = std::panic::catch_unwind(|| crash_and_recover(seed));
        match outcome {
            Ok(model) => sum.absorb(&model),
            Err(panic) => {
                println!("seed {seed} failed; repeat with WOODCHUCK_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!(
        "{} recoveries, {} torn tails of {} frames, {} acknowledged or served, {} served \
         unacknowledged, {} lost unacknowledged, {} read back\n{:?}",
        sum.opened,
        sum.torn,
        sum.torn_frames,
        sum.history.len(),
        sum.unacknowledged_served,
        sum.unacknowledged_lost,
        sum.reads,
        sum.statistics
    );
    if seeds(SEEDS).count() as u64 >= SEEDS {
        all_of_it_happened(&sum);
    }
}

/// A campaign in which something never happened says nothing about it.
fn all_of_it_happened(sum: &Model) {
    let Model { statistics, .. } = sum;
    assert!(sum.opened > SEEDS && sum.torn > SEEDS / 8 && sum.torn_frames > sum.torn);
    assert!(sum.history.len() as u64 > 20 * SEEDS);
    assert!(sum.unacknowledged_served > SEEDS && sum.unacknowledged_lost > SEEDS);
    assert!(sum.reads > SEEDS);
    assert!(statistics.most_in_flight >= 4);
    assert!(statistics.completed_out_of_order > SEEDS / 2);
    assert!(statistics.start_frames > SEEDS && statistics.witness_frames > SEEDS);
    assert!(statistics.segments_recycled > SEEDS / 4);
    assert!(statistics.refused_busy > 0);
}

#[test]
fn a_seed_repeats_itself() {
    let hash = |seed| {
        let options = WorldOptions { faults: Faults::swarm(seed), ..WorldOptions::new(seed) };
        let world = World::with_options(options);
        let machine = world.machine("one");
        let model: SharedModel = Rc::new(RefCell::new(Model::new(seed)));
        let ending = SharedEnding::default();
        for _ in 0..3 {
            let (given, kept) = (Rc::clone(&model), Rc::clone(&ending));
            world.start(machine, 1, move |env| {
                run(env, Rc::clone(&given), Rc::clone(&kept), Orders::usual())
            });
            world.run_for(Duration::from_millis(20));
            world.power_cut(machine);
        }
        world.trace_hash()
    };
    for seed in 0..5 {
        assert_eq!(hash(seed), hash(seed), "seed {seed}");
    }
    assert_ne!(hash(0), hash(1));
}
