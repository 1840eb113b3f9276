//! Tasks: started, let go, cancelled, taking turns; and the random streams they draw from.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use futures_util::FutureExt as _;
use woodchuck_io::{Env, Mesh};

use crate::common::{A_WHILE, poll_once};

check!(a_task_gives_its_value_to_who_awaits_it, 1, |env, directory| {
    let text = String::from("owned");
    let task = env.spawn("value", async move { text + " and back" });
    assert_eq!(task.await, "owned and back");
    // One that is done before it is awaited.
    let task = env.spawn("value", async { 7 });
    while !task.is_finished() {
        env.yield_now().await;
    }
    assert_eq!(task.await, 7);
});

check!(a_task_that_was_let_go_runs_to_its_end, 1, |env, directory| {
    let done = Rc::new(Cell::new(0));
    for _ in 0..10 {
        let (done, inner) = (Rc::clone(&done), env.clone());
        env.spawn("let go", async move {
            inner.sleep(A_WHILE / 10).await;
            inner.yield_now().await;
            done.set(done.get() + 1);
        })
        .detach();
    }
    while done.get() < 10 {
        env.sleep(A_WHILE / 10).await;
    }
});

check!(a_task_does_not_begin_before_its_spawner_waits, 1, |env, directory| {
    let begun = Rc::new(Cell::new(false));
    let told = Rc::clone(&begun);
    let task = env.spawn("begin", async move { told.set(true) });
    assert!(!begun.get(), "a shard does one thing at a time");
    env.yield_now().await;
    assert!(begun.get(), "it was ready, and this one has yielded");
    task.await;
});

check!(a_task_cancelled_before_it_began_never_runs, 1, |env, directory| {
    let begun = Rc::new(Cell::new(false));
    for _ in 0..10 {
        let told = Rc::clone(&begun);
        drop(env.spawn("never", async move { told.set(true) }));
    }
    for _ in 0..5 {
        env.yield_now().await;
    }
    assert!(!begun.get());
    assert_eq!(Rc::strong_count(&begun), 1);
});

check!(yielding_lets_all_others_run_once, 1, |env, directory| {
    for others in [1, 10, 500] {
        let counts = Rc::new(RefCell::new(vec![0_u32; others]));
        let tasks: Vec<_> = (0..others)
            .map(|index| {
                let (counts, inner) = (Rc::clone(&counts), env.clone());
                env.spawn("count", async move {
                    for _ in 0..5 {
                        counts.borrow_mut()[index] += 1;
                        inner.yield_now().await;
                    }
                })
            })
            .collect();
        for round in 1..=5 {
            env.yield_now().await;
            let counts = counts.borrow();
            assert!(counts.iter().all(|&count| count >= round), "round {round}: {counts:?}");
        }
        for task in tasks {
            task.await;
        }
    }
});

check!(a_task_that_always_yields_starves_nobody, 1, |env, directory| {
    let inner = env.clone();
    let busy = env.spawn("busy", async move {
        loop {
            inner.yield_now().await;
        }
    });
    // Timers, mail and the disk are still looked at.
    env.sleep(A_WHILE / 10).await;
    env.mesh().send(0, Box::new(())).await;
    env.mesh().receive().await;
    let path = directory.join("a");
    crate::common::put(&crate::common::create(&env, &path).await, 0, 1, 1).await;
    assert!(!busy.is_finished());
});

check!(tasks_may_start_tasks, 1, |env, directory| {
    /// A task that starts two more, so deep, and counts all that ran.
    fn tree<E: Env>(env: E, depth: u32, count: Rc<Cell<u32>>) -> impl Future<Output = ()> {
        async move {
            count.set(count.get() + 1);
            if depth > 0 {
                let below = |_| env.spawn("tree", tree(env.clone(), depth - 1, Rc::clone(&count)));
                let below: Vec<_> = (0..2).map(below).collect();
                for task in below {
                    task.await;
                }
            }
        }
        .boxed_local()
    }
    let count = Rc::new(Cell::new(0));
    tree(env.clone(), 8, Rc::clone(&count)).await;
    assert_eq!(count.get(), (1 << 9) - 1);
});

check!(a_cancelled_task_takes_those_it_awaits_along, 1, |env, directory| {
    let held = Rc::new(());
    let (holding, inner) = (Rc::clone(&held), env.clone());
    let outer = env.spawn("outer", async move {
        inner
            .spawn("inner", async move {
                let _holding = holding;
                std::future::pending::<()>().await;
            })
            .await;
    });
    env.yield_now().await;
    env.yield_now().await;
    assert_eq!(Rc::strong_count(&held), 2);
    drop(outer);
    for _ in 0..4 {
        env.yield_now().await;
    }
    assert_eq!(Rc::strong_count(&held), 1);
});

check!(nobody_is_asked_to_stop_by_itself, 2, |env, directory| {
    assert!(poll_once(env.stopping()).await.is_none());
    env.sleep(A_WHILE).await;
    assert!(poll_once(env.stopping()).await.is_none());
});

check!(random_streams_of_one_name_differ, 2, |env, directory| {
    let mut seen = BTreeSet::new();
    for _ in 0..20 {
        for name in ["one", "two"] {
            assert!(seen.insert(env.random(name).next_u128()), "two streams are the same");
        }
    }
    // And from those of the other shard.
    let other = 1 - env.mesh().shard();
    env.mesh().send(other, Box::new(seen.clone())).await;
    let (_, parcel) = env.mesh().receive().await;
    let theirs = *parcel.downcast::<BTreeSet<u128>>().expect("what was sent");
    assert!(theirs.is_disjoint(&seen));
});

check!(random_numbers_keep_to_their_bounds, 1, |env, directory| {
    let mut random = env.random("bounds");
    for bound in [1, 2, 3, 10, 1 << 40, u64::MAX] {
        assert!((0..200).all(|_| random.below(bound) < bound));
    }
    let mut drawn = [0_u32; 8];
    for _ in 0..8000 {
        drawn[random.below(8) as usize] += 1;
    }
    // A thousand each are expected; seven hundred is nine deviations away.
    assert!(drawn.iter().all(|&count| count > 700), "{drawn:?}");
    let mut bytes = [0; 64];
    random.fill(&mut bytes);
    assert!(bytes.iter().any(|&byte| byte != 0));
});
