//! Disks that fail, and disks that are full.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_sim::{DiskOperation, MachineId, Site, World};
use woodchuck_wal::LogError;

use super::model::{Model, seeds};
use super::process::{Orders, SharedEnding, SharedModel, run};

fn start(
    world: &World,
    machine: MachineId,
    model: &SharedModel,
    ending: &SharedEnding,
    orders: Orders,
) {
    ending.take();
    let (model, ending) = (Rc::clone(model), Rc::clone(ending));
    world.start(machine, 1, move |env| run(env, Rc::clone(&model), Rc::clone(&ending), orders));
}

fn ended(ending: &SharedEnding) -> bool {
    let ending = ending.borrow();
    ending.closed.is_some() || ending.refused.is_some()
}

/// An operation fails, sometimes while the log is open, sometimes while it is opened. Then power
/// fails, and whatever the failed operation left must be survived.
#[test]
fn after_a_failed_write_or_flush_nothing_is_acknowledged_and_nothing_is_lost() {
    let kinds = [
        DiskOperation::Write,
        DiskOperation::Sync,
        DiskOperation::SyncDirectory,
        DiskOperation::Rename,
        DiskOperation::Allocate,
        DiskOperation::Open,
    ];
    let (mut poisoned, mut refused) = (0, 0);
    for seed in seeds(200) {
        let world = World::new(seed);
        let machine = world.machine("one");
        let model: SharedModel = Rc::new(RefCell::new(Model::new(seed)));
        let ending = SharedEnding::default();
        for _ in 0..4 {
            let trims = world.choose(Site::Plan, 4, 2) == 0;
            let orders = Orders { may_fail: true, trims, ..Orders::usual() };
            start(&world, machine, &model, &ending, orders);
            world.run_for(Duration::from_micros(world.choose(Site::Plan, 1, 20_000)));
            let kind = kinds[world.choose(Site::Plan, 2, kinds.len() as u64) as usize];
            world.disk(machine).fail_next(kind, 1, ErrorKind::Other);
            // A failure that went unnoticed must not be trimmed away before anybody looks.
            let longest = [1, 5, 20, 200][world.choose(Site::Plan, 5, 4) as usize];
            world.run_until(|| ended(&ending), Duration::from_millis(longest));
            refused += u32::from(ending.borrow().refused.is_some());
            if let Some(closed) = &ending.borrow().closed {
                assert!(
                    matches!(closed, Ok(()) | Err(LogError::Poisoned { .. })),
                    "seed {seed}: {closed:?}"
                );
            }
            world.disk(machine).fail_no_more();
            match world.choose(Site::Plan, 3, 2) {
                0 => world.kill(machine),
                _ => world.power_cut(machine),
            }
        }
        start(&world, machine, &model, &ending, Orders::look());
        assert!(world.run_until(|| ended(&ending), Duration::from_secs(60)), "seed {seed}");
        assert!(matches!(ending.borrow().closed, Some(Ok(()))), "seed {seed}");
        poisoned += model.borrow().poisoned;
    }
    println!("{poisoned} logs poisoned, {refused} openings refused");
    assert!(seeds(200).count() < 200 || (poisoned > 100 && refused > 20));
}

#[test]
fn a_full_disk_refuses_and_recovers_when_there_is_room() {
    let mut refused = 0;
    for seed in seeds(40) {
        let world = World::new(seed);
        let machine = world.machine("one");
        let model: SharedModel = Rc::new(RefCell::new(Model::new(seed)));
        let ending = SharedEnding::default();
        let orders = Orders { trims: false, ..Orders::usual() };
        // Room for the first segments, not for all.
        let room = (2 + world.choose(Site::Plan, 1, 3)) * orders.options.segment_bytes;
        world.disk(machine).set_free_space(room + (32 << 10));
        start(&world, machine, &model, &ending, orders);
        assert!(!world.run_until(|| ended(&ending), Duration::from_secs(2)), "seed {seed}");
        let acknowledged = model.borrow().history.len();
        refused += model.borrow().refused_full;
        if world.choose(Site::Plan, 2, 2) == 0 {
            // Nothing acknowledged is harmed, even by a power cut now.
            world.power_cut(machine);
            world.disk(machine).set_free_space(u64::MAX / 2);
            start(&world, machine, &model, &ending, Orders::look());
        } else {
            world.disk(machine).set_free_space(u64::MAX / 2);
        }
        assert!(world.run_until(|| ended(&ending), Duration::from_secs(60)), "seed {seed}");
        assert!(matches!(ending.borrow().closed, Some(Ok(()))), "seed {seed}");
        assert!(model.borrow().history.len() >= acknowledged);
        assert_eq!(model.borrow().poisoned, 0, "seed {seed}: a full disk is no failure");
    }
    println!("{refused} commits refused");
    assert!(refused > seeds(40).count() as u64 / 2);
}
