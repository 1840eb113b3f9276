//! Mailboxes: order, bounds, and what dies with the process.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::limits::MAILBOX_PARCELS;
use woodchuck_io::{Env as _, Mesh as _};

use crate::World;

#[test]
fn parcels_of_a_pair_keep_their_order_and_pairs_do_not() {
    let mut interleavings = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let world = World::new(seed);
        let received = Rc::new(RefCell::new(Vec::new()));
        let sink = Rc::clone(&received);
        world.start(world.machine("m"), 3, move |env| {
            let sink = Rc::clone(&sink);
            async move {
                let mesh = env.mesh().clone();
                if mesh.shard() > 0 {
                    for number in 0..100_u32 {
                        mesh.send(0, Box::new(number)).await;
                    }
                    return;
                }
                while sink.borrow().len() < 200 {
                    let (from, parcel) = mesh.receive().await;
                    let number: u32 = *parcel.downcast().expect("a number");
                    sink.borrow_mut().push((from, number));
                }
            }
        });
        world.run_for(Duration::from_secs(1));
        let received = received.take();
        for sender in [1, 2] {
            let numbers = received.iter().filter(|(from, _)| *from == sender);
            assert!(numbers.map(|(_, number)| *number).eq(0..100), "sender {sender}");
        }
        interleavings.insert(received);
    }
    assert!(interleavings.len() > 10, "pairs interleave as the seed has it");
}

#[test]
fn senders_wait_for_room_and_go_on_in_order() {
    let world = World::new(2);
    let sent = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&sent);
    world.start(world.machine("m"), 2, move |env| {
        let log = Rc::clone(&log);
        async move {
            let mesh = env.mesh().clone();
            if mesh.shard() == 1 {
                env.sleep(Duration::from_millis(100)).await;
                for expected in 0..MAILBOX_PARCELS + 10 {
                    let (_, parcel) = mesh.receive().await;
                    assert_eq!(*parcel.downcast::<usize>().expect("a number"), expected);
                }
                return;
            }
            for number in 0..MAILBOX_PARCELS {
                mesh.send(1, Box::new(number)).await;
            }
            assert!(env.now().as_nanos() > 0);
            // A sender that gives up takes its parcel with it.
            let gives_up = Box::pin(mesh.send(1, Box::new(usize::MAX)));
            let timeout = Box::pin(env.sleep(Duration::from_millis(1)));
            assert!(matches!(
                futures_util::future::select(gives_up, timeout).await,
                futures_util::future::Either::Right(_)
            ));
            for number in 0..10 {
                let (inner, log) = (env.clone(), Rc::clone(&log));
                env.spawn("late sender", async move {
                    inner.mesh().send(1, Box::new(MAILBOX_PARCELS + number)).await;
                    log.borrow_mut().push(number);
                })
                .detach();
                env.sleep(Duration::from_micros(100)).await;
            }
            assert!(log.borrow().is_empty(), "the mailbox is full");
            env.sleep(Duration::from_secs(1)).await;
        }
    });
    world.run_to_idle();
    sent.borrow_mut().sort_unstable();
    assert!(sent.borrow().iter().copied().eq(0..10));
}

#[test]
fn a_shard_sends_to_itself_and_to_one_that_has_ended() {
    let world = World::new(3);
    world.start(world.machine("m"), 2, |env| async move {
        let mesh = env.mesh().clone();
        if mesh.shard() == 1 {
            return;
        }
        mesh.send(0, Box::new("me")).await;
        let (from, parcel) = mesh.receive().await;
        assert_eq!((from, *parcel.downcast::<&str>().expect("text")), (0, "me"));
        for _ in 0..3 * MAILBOX_PARCELS {
            mesh.send(1, Box::new(())).await;
        }
    });
    world.run_for(Duration::from_secs(1));
    assert!(!world.is_running(world.machine("m")));
}

#[test]
fn parcels_die_with_the_process() {
    let world = World::new(4);
    let machine = world.machine("m");
    let alive = std::sync::Arc::new(());
    let held = std::sync::Arc::clone(&alive);
    world.start(machine, 2, move |env| {
        let held = std::sync::Arc::clone(&held);
        async move {
            if env.mesh().shard() == 0 {
                for _ in 0..2 * MAILBOX_PARCELS {
                    env.mesh().send(1, Box::new(std::sync::Arc::clone(&held))).await;
                }
            }
            std::future::pending::<()>().await;
        }
    });
    world.run_for(Duration::from_millis(50));
    assert!(std::sync::Arc::strong_count(&alive) > MAILBOX_PARCELS);
    world.kill(machine);
    assert_eq!(std::sync::Arc::strong_count(&alive), 1);
    world.start(machine, 2, |env| async move {
        let inner = env.clone();
        env.spawn("receiver", async move {
            inner.mesh().receive().await;
            panic!("a parcel from the dead");
        })
        .detach();
        env.sleep(Duration::from_secs(1)).await;
    });
    world.run_to_idle();
}
