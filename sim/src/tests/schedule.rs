//! Policies: they differ, each is fair in the end, and each finds what the others cannot.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use woodchuck_io::{Env as _, Mesh as _};

use super::run;
use crate::limits::{DEFERRED_TURNS, PASSED_OVER};
use crate::{EventKind, Faults, Policy, SimEnv, Tape, World, WorldOptions};

fn world_by(policy: Policy, seed: u64) -> World {
    let options = WorldOptions { policy: Some(policy), ..WorldOptions::new(seed) };
    World::with_options(WorldOptions { faults: Faults::none(), ..options })
}

/// Gives the core back without letting everybody else run: ready again at once.
async fn step() {
    let mut woken = false;
    poll_fn(|context| {
        if std::mem::replace(&mut woken, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Runs tasks that take `steps` steps each; gives the order of all steps.
fn order(policy: Policy, seed: u64, tasks: usize, steps: usize) -> Vec<usize> {
    run(&world_by(policy, seed), move |env| async move {
        let order = Rc::new(RefCell::new(Vec::new()));
        for task in 0..tasks {
            let order = Rc::clone(&order);
            env.spawn("steps", async move {
                for _ in 0..steps {
                    order.borrow_mut().push(task);
                    step().await;
                }
            })
            .detach();
        }
        env.sleep(Duration::from_millis(100)).await;
        order.take()
    })
}

#[test]
fn policies_order_tasks_differently() {
    let mut orders: Vec<Vec<usize>> =
        Policy::ALL.iter().map(|&policy| order(policy, 5, 4, 400)).collect();
    let starved = orders.pop().expect("the last policy");
    assert_eq!(starved, orders[0], "on one core, there is nobody else to prefer");
    assert_eq!(orders[0][..8], [0, 1, 2, 3, 0, 1, 2, 3]);
    orders.sort_unstable();
    orders.dedup();
    assert_eq!(orders.len(), Policy::ALL.len() - 1);
}

#[test]
fn no_policy_starves_a_task() {
    for policy in Policy::ALL {
        for seed in 0..20 {
            let order = order(policy, seed, 3, 600);
            let bound = 3 * (PASSED_OVER as usize + 1);
            for task in 0..3 {
                let turns = order.iter().enumerate().filter(|&(_, &other)| other == task);
                let mut last = 0;
                for (index, _) in turns {
                    assert!(index - last <= bound, "{} starves, seed {seed}", policy.name());
                    last = index;
                }
            }
        }
    }
}

#[test]
fn a_tape_without_choices_is_first_in_first_out() {
    for policy in Policy::ALL.into_iter().filter(|&policy| policy != Policy::Lifo) {
        let tape = Some(Tape::new(3));
        let options = WorldOptions { policy: Some(policy), tape, ..WorldOptions::new(0) };
        let order = run(&World::with_options(options), |env| async move {
            let order = Rc::new(RefCell::new(Vec::new()));
            for task in 0..5 {
                let order = Rc::clone(&order);
                env.spawn("t", async move { order.borrow_mut().push(task) }).detach();
            }
            env.sleep(Duration::from_millis(1)).await;
            order.take()
        });
        assert_eq!(order, [0, 1, 2, 3, 4], "{}", policy.name());
    }
}

#[test]
fn every_policy_is_drawn() {
    let mut drawn: Vec<&str> = (0..200).map(|seed| World::new(seed).policy().name()).collect();
    drawn.sort_unstable();
    drawn.dedup();
    assert_eq!(drawn.len(), Policy::ALL.len(), "{drawn:?}");
}

/// Steps of each task of the planted bugs.
const STEPS: u32 = 40;

/// A bug of depth 1: the second task must not be through before the first has begun.
async fn needs_an_order(env: SimEnv) -> bool {
    let (begun, failed) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
    let (begin, first, fail) = (Rc::clone(&begun), env.clone(), Rc::clone(&failed));
    env.spawn("first", async move {
        begin.set(true);
        drop(first);
    })
    .detach();
    env.spawn("second", async move {
        for _ in 0..STEPS {
            step().await;
        }
        fail.set(!begun.get());
    })
    .detach();
    env.sleep(Duration::from_millis(1)).await;
    failed.get()
}

/// A bug of depth 2: the first task looks, the second runs from its beginning to its end, and the
/// first acts on what it saw.
async fn acts_on_what_was(env: SimEnv) -> bool {
    let (state, failed) = (Rc::new(Cell::new(0_u32)), Rc::new(Cell::new(false)));
    let (changing, fail) = (Rc::clone(&state), Rc::clone(&failed));
    env.spawn("looks", async move {
        for _ in 0..STEPS {
            let seen = state.get();
            step().await;
            let ran_through = seen == 0 && state.get() == STEPS;
            fail.set(fail.get() || ran_through);
        }
    })
    .detach();
    env.spawn("changes", async move {
        for _ in 0..STEPS {
            changing.set(changing.get() + 1);
            step().await;
        }
    })
    .detach();
    env.sleep(Duration::from_millis(1)).await;
    failed.get()
}

/// In how many of some seeds a bug shows.
fn found<F>(policy: Policy, seeds: u64, bug: fn(SimEnv) -> F) -> usize
where
    F: Future<Output = bool> + 'static,
{
    (0..seeds).filter(|&seed| run(&world_by(policy, seed), bug)).count()
}

#[test]
fn priorities_find_what_first_in_first_out_cannot() {
    for depth in 1..=4 {
        let found = found(Policy::Pct { depth }, 40, needs_an_order);
        assert!((5..35).contains(&found), "depth {depth}: {found} of 40");
    }
    assert_eq!(found(Policy::Fifo, 40, needs_an_order), 0);
}

#[test]
fn a_bug_of_depth_two_needs_a_change_of_priority() {
    assert_eq!(found(Policy::Fifo, 100, acts_on_what_was), 0);
    assert_eq!(found(Policy::Uniform, 100, acts_on_what_was), 0);
    assert_eq!(found(Policy::Pct { depth: 1 }, 100, acts_on_what_was), 0);
    for depth in 2..=4 {
        let found = found(Policy::Pct { depth }, 100, acts_on_what_was);
        assert!(found > 0, "depth {depth} found nothing");
    }
}

/// Polls of each shard of a busy process in the first two milliseconds.
fn polls_by_shard(policy: Policy, seed: u64) -> [u32; 3] {
    let world = world_by(policy, seed);
    let polls: Rc<[Cell<u32>; 3]> = Rc::default();
    let counted = Rc::clone(&polls);
    world.start(world.machine("m"), 3, move |env| {
        let counted = Rc::clone(&counted);
        async move {
            loop {
                let count = &counted[env.mesh().shard()];
                count.set(count.get() + 1);
                step().await;
            }
        }
    });
    world.run_for(Duration::from_millis(2));
    std::array::from_fn(|shard| polls[shard].get())
}

#[test]
fn a_starved_core_waits_for_the_others_but_not_for_ever() {
    let ratio = |polls: [u32; 3]| {
        let (least, most) = (polls.iter().min(), polls.iter().max());
        most.unwrap_or(&0) / least.unwrap_or(&1).max(&1)
    };
    let mut starved = 0;
    for seed in 0..20 {
        assert!(ratio(polls_by_shard(Policy::Fifo, seed)) <= 10, "polls cost 200 ns to 2 us");
        let polls = polls_by_shard(Policy::StarveCore, seed);
        assert!(polls.iter().all(|&polls| polls >= 10), "seed {seed} starves: {polls:?}");
        starved += u32::from(ratio(polls) > DEFERRED_TURNS / 2);
    }
    assert!((5..20).contains(&starved), "a core was starved in {starved} of 20 seeds");
}

#[test]
fn a_starved_core_runs_when_the_others_are_idle() {
    for seed in 0..20 {
        let world = world_by(Policy::StarveCore, seed);
        let machine = world.machine("m");
        world.start(machine, 3, |env| async move {
            if env.mesh().shard() == 0 {
                for _ in 0..1000 {
                    step().await;
                }
            }
        });
        world.run_to_idle();
        let took = world.now();
        assert!(took < Duration::from_millis(3), "seed {seed}: {took:?}");
        assert!(world.statistics().events(EventKind::Poll) >= 1000);
    }
}
