//! Media that damage what was acknowledged: always noticed, never repaired behind the user's back.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_sim::{MachineId, Site, World};
use woodchuck_wal::LogError;

use super::model::{Entry, Model, seeds};
use super::process::{DIRECTORY, Orders, SharedEnding, SharedModel, run};

/// Runs a process to its end.
fn run_once(
    world: &World,
    machine: MachineId,
    model: &SharedModel,
    orders: Orders,
) -> Result<(), LogError> {
    let ending = SharedEnding::default();
    let (given, kept) = (Rc::clone(model), Rc::clone(&ending));
    world.start(machine, 1, move |env| run(env, Rc::clone(&given), Rc::clone(&kept), orders));
    let ended = || {
        let ending = ending.borrow();
        ending.closed.is_some() || ending.refused.is_some()
    };
    assert!(world.run_until(ended, Duration::from_secs(60)));
    world.kill(machine);
    let ending = ending.take();
    ending.refused.map_or_else(|| ending.closed.unwrap_or(Ok(())), Err)
}

fn segment(entry: &Entry) -> String {
    format!("{DIRECTORY}/{:016x}.wal", entry.location.segment)
}

/// A commit that the log still needs.
fn draw(world: &World, model: &Model) -> Option<Entry> {
    let needed = model.history.partition_point(|entry| entry.lsn < model.trim);
    let known: Vec<&Entry> =
        model.history[needed..].iter().filter(|entry| entry.length > 0).collect();
    let index = world.choose(Site::Plan, 1, known.len().max(1) as u64) as usize;
    known.get(index).map(|entry| (*entry).clone())
}

#[test]
fn damage_to_acknowledged_data_is_never_silent() {
    let look = Orders { may_fail: true, ..Orders::look() };
    let mut noticed = 0;
    for seed in seeds(150) {
        let world = World::new(seed);
        let machine = world.machine("one");
        let model: SharedModel = Rc::new(RefCell::new(Model::new(seed)));
        for _ in 0..=world.choose(Site::Plan, 2, 3) {
            let orders = Orders { commits: 120, ..Orders::usual() };
            run_once(&world, machine, &model, orders).expect("nothing is damaged yet");
        }
        let Some(entry) = draw(&world, &model.borrow()) else { continue };
        let (path, disk) = (segment(&entry), world.disk(machine));
        let at = entry.location.offset + world.choose(Site::Plan, 3, entry.length as u64);
        let whole = disk.read(&path).expect("the segment is there");
        match world.choose(Site::Plan, 4, 5) {
            0 => disk.flip_bit(&path, at, world.choose(Site::Plan, 5, 8) as u8),
            1 => disk.zero(&path, at / 4096 * 4096, 4096),
            2 => disk.break_block(&path, at / 4096 * 4096),
            3 => disk.zero(&path, 0, 4096),
            _ => {
                // A write meant for another place.
                let from = (at / 4096 * 4096 + 4096) % whole.len() as u64;
                disk.overwrite(&path, at / 4096 * 4096, &whole[from as usize..][..4096]);
            }
        }
        let before = disk.files();
        match run_once(&world, machine, &model, look) {
            Err(LogError::Corrupt { first_lost, lost_below, .. }) => {
                assert!(first_lost <= entry.lsn && first_lost < lost_below, "seed {seed}");
            }
            other => panic!("seed {seed}: {entry:?} was damaged: {other:?}"),
        }
        noticed += 1;
        assert_eq!(world.disk(machine).files(), before, "seed {seed}: something was changed");
        disk.overwrite(&path, 0, &whole);
        // A broken block heals when a process writes it; until then it stays broken.
        if world.choose(Site::Plan, 6, 1) == 0 && readable(&world, machine, &model, look) {
            run_once(&world, machine, &model, Orders::usual()).expect("the damage is undone");
        }
    }
    assert!(seeds(150).count() < 150 || noticed > 100, "{noticed}");
}

/// Whether the log opens again now that its bytes are as they were.
fn readable(world: &World, machine: MachineId, model: &SharedModel, look: Orders) -> bool {
    run_once(world, machine, model, look).is_ok()
}

/// A segment that is lost whole.
#[test]
fn a_missing_segment_is_never_silent() {
    let mut noticed = 0;
    for seed in seeds(60) {
        let world = World::new(seed);
        let machine = world.machine("one");
        let model: SharedModel = Rc::new(RefCell::new(Model::new(seed)));
        let orders = Orders { commits: 200, bytes: 2000, ..Orders::usual() };
        run_once(&world, machine, &model, orders).expect("nothing is damaged yet");
        let Some(entry) = draw(&world, &model.borrow()) else { continue };
        let newest = model.borrow().history.last().map(|last| last.location.segment);
        if newest == Some(entry.location.segment) {
            continue;
        }
        world.disk(machine).remove(&segment(&entry));
        let look = Orders { may_fail: true, ..Orders::look() };
        let error = run_once(&world, machine, &model, look).expect_err("a segment is missing");
        assert!(error.is_corrupt(), "seed {seed}: {error}");
        noticed += 1;
    }
    assert!(seeds(60).count() < 60 || noticed > 20, "{noticed}");
}
