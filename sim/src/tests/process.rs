//! Processes: starting, stopping, erasure, scheduling.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use woodchuck_io::{
    Buffer, Disk as _, Durability, Env, File as _, Mesh as _, Net as _, OpenMode, Program,
    Stream as _,
};

use super::{blocks, run};
use crate::{Faults, MachineFaults, Policy, SimEnv, World, WorldOptions};

#[test]
fn stop_is_seen_at_once_and_later() {
    let world = World::new(1);
    let machine = world.machine("m");
    let seen = Rc::new(Cell::new(0));
    let count = Rc::clone(&seen);
    world.start(machine, 2, move |env| {
        let count = Rc::clone(&count);
        async move {
            env.stopping().await;
            env.stopping().await;
            count.set(count.get() + 1);
        }
    });
    world.run_for(Duration::from_millis(1));
    assert_eq!((seen.get(), world.is_running(machine)), (0, true));
    world.stop(machine);
    world.run_for(Duration::from_millis(1));
    assert_eq!((seen.get(), world.is_running(machine)), (2, false));
}

#[derive(Clone)]
struct Doubler(u64);

impl Program for Doubler {
    type Output = u64;

    async fn run<E: Env>(self, env: E) -> u64 {
        env.sleep(Duration::from_millis(1)).await;
        self.0 * 2 + env.mesh().shard() as u64
    }
}

#[test]
fn programs_give_their_output() {
    let world = World::new(1);
    let outputs = Rc::new(RefCell::new(Vec::new()));
    let sink = Rc::clone(&outputs);
    let told = move |shard, output| sink.borrow_mut().push((shard, output));
    world.start_program(world.machine("m"), 3, Doubler(21), told);
    world.run_to_idle();
    outputs.borrow_mut().sort_unstable();
    assert_eq!(*outputs.borrow(), [(0, 42), (1, 43), (2, 44)]);
}

/// Counts drops and remembers whether anything ran after the death.
struct Guard(Rc<Cell<u32>>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn nothing_of_a_killed_process_runs_again() {
    for seed in 0..30 {
        let world = World::new(seed);
        let machine = world.machine("m");
        let (ran, dropped) = (Rc::new(Cell::new(0_u64)), Rc::new(Cell::new(0)));
        let (counter, drops) = (Rc::clone(&ran), Rc::clone(&dropped));
        world.start(machine, 2, move |env| {
            let (counter, drops) = (Rc::clone(&counter), Rc::clone(&drops));
            async move {
                for _ in 0..5 {
                    let (env, counter) = (env.clone(), Rc::clone(&counter));
                    let guard = Guard(Rc::clone(&drops));
                    env.clone()
                        .spawn("worker", async move {
                            let _guard = guard;
                            loop {
                                counter.set(counter.get() + 1);
                                env.sleep(Duration::from_micros(50)).await;
                            }
                        })
                        .detach();
                }
                std::future::pending::<()>().await;
            }
        });
        world.run_for(Duration::from_millis(1));
        assert!(ran.get() > 20, "seed {seed}: {}", ran.get());
        match seed % 3 {
            0 => world.kill(machine),
            1 => world.crash_os(machine),
            _ => world.power_cut(machine),
        }
        let before = ran.get();
        assert_eq!((dropped.get(), world.is_running(machine)), (10, false));
        world.run_for(Duration::from_millis(10));
        assert_eq!(ran.get(), before);
    }
}

/// Does a bit of everything, and tells whether any of it completed.
async fn try_everything(env: SimEnv, done: Rc<Cell<bool>>) {
    let nowhere: SocketAddr = "10.0.0.1:1".parse().expect("an address");
    env.random("r").next_u64();
    let attempts: Vec<std::pin::Pin<Box<dyn Future<Output = ()>>>> = {
        let (one, two, three, four) = (env.clone(), env.clone(), env.clone(), env.clone());
        vec![
            Box::pin(async move { drop(one.disk().open(Path::new("/f"), OpenMode::Read).await) }),
            Box::pin(async move { drop(two.net().connect(nowhere).await) }),
            Box::pin(async move { drop(three.net().listen(nowhere).await) }),
            Box::pin(async move { four.mesh().send(0, Box::new(1)).await }),
            Box::pin(env.sleep(Duration::from_micros(1))),
        ]
    };
    futures_util::future::select_all(attempts).await;
    done.set(true);
}

#[test]
fn an_environment_that_outlives_its_process_is_inert() {
    let world = World::new(1);
    let (dead, living) = (world.machine("dead"), world.machine("living"));
    let kept = Rc::new(RefCell::new(None));
    let keep = Rc::clone(&kept);
    world.start(dead, 1, move |env| {
        let keep = Rc::clone(&keep);
        async move {
            let file = env.disk().open(Path::new("/f"), OpenMode::CreateNew).await.expect("new");
            let (listening, connecting) = (env.clone(), env.clone());
            let listener = listening.net().listen("0.0.0.0:7".parse().expect("an address"));
            let listener = listener.await.expect("free");
            let address = "127.0.0.1:7".parse().expect("an address");
            let stream = connecting.net().connect(address).await.expect("somebody listens");
            let lock = env.disk().lock(Path::new("/lock")).await.expect("free");
            *keep.borrow_mut() = Some((env.clone(), file, listener, stream, lock));
            std::future::pending::<()>().await;
        }
    });
    world.run_for(Duration::from_millis(50));
    assert!(kept.borrow().is_some(), "all was set up");
    world.power_cut(dead);
    let (env, file, listener, stream, lock) = kept.take().expect("it was kept");
    let done = Rc::new(Cell::new(false));
    let (flag, used) = (Rc::clone(&done), (env.clone(), file, stream, listener));
    let used = Rc::new(RefCell::new(Some(used)));
    world.start(living, 1, move |_| {
        let (used, flag) = (Rc::clone(&used), Rc::clone(&flag));
        async move {
            use woodchuck_io::Listener as _;
            let (env, file, stream, listener) = used.take().expect("started once");
            let write = file.write_at(blocks(1, 1), 0, Durability::Durable);
            let read = file.read_at(Buffer::with_capacity(1), 0);
            let receive = stream.read(BytesMut::with_capacity(1));
            let send = stream.write(vec![Bytes::from_static(b"x")]);
            let accept = listener.accept();
            let flags = Rc::clone(&flag);
            let others = async move {
                futures_util::future::select_all([
                    Box::pin(async move { drop(write.await) })
                        as std::pin::Pin<Box<dyn Future<Output = ()>>>,
                    Box::pin(async move { drop(read.await) }),
                    Box::pin(async move { drop(receive.await) }),
                    Box::pin(async move { drop(send.await) }),
                    Box::pin(async move { drop(accept.await) }),
                ])
                .await;
                flags.set(true);
            };
            futures_util::future::join(others, try_everything(env, flag)).await;
        }
    });
    world.run_for(Duration::from_secs(100));
    assert!(!done.get(), "what a dead process starts never completes");
    drop((env.now(), env.wall(), lock));
    env.spawn("ghost", async { panic!("a ghost ran") }).detach();
    world.start(dead, 1, |_| async {});
    world.run_to_idle();
}

#[test]
fn a_yield_lets_every_ready_task_run_whatever_the_policy() {
    for policy in Policy::ALL {
        for seed in 0..20 {
            let world = World::with_options(WorldOptions {
                policy: Some(policy),
                ..WorldOptions::new(seed)
            });
            run(&world, |env| async move {
                let rounds: Rc<[Cell<u32>; 5]> = Rc::default();
                let ready = Rc::new(Cell::new(0));
                for index in 0..5 {
                    let (env, rounds, ready) = (env.clone(), Rc::clone(&rounds), Rc::clone(&ready));
                    env.clone()
                        .spawn("rounds", async move {
                            ready.set(ready.get() + 1);
                            while ready.get() < 5 {
                                env.yield_now().await;
                            }
                            for _ in 0..50 {
                                rounds[index].set(rounds[index].get() + 1);
                                env.yield_now().await;
                                let all = rounds.iter().map(Cell::get);
                                let behind =
                                    all.clone().max().unwrap_or(0) - all.min().unwrap_or(0);
                                assert!(behind <= 1, "a task was left behind: {rounds:?}");
                            }
                        })
                        .detach();
                }
                // Long enough for a shard that is starved.
                env.sleep(Duration::from_millis(100)).await;
                assert!(rounds.iter().all(|round| round.get() == 50), "{rounds:?}");
            });
        }
    }
}

#[test]
fn policies_differ_and_none_starves() {
    let order = |policy| {
        let options = WorldOptions { policy: Some(policy), ..WorldOptions::new(4) };
        run(&World::with_options(options), |env| async move {
            let order = Rc::new(RefCell::new(Vec::new()));
            for index in 0..6 {
                let order = Rc::clone(&order);
                env.spawn("t", async move { order.borrow_mut().push(index) }).detach();
            }
            env.sleep(Duration::from_millis(1)).await;
            order.take()
        })
    };
    assert_eq!(order(Policy::Fifo), [0, 1, 2, 3, 4, 5]);
    assert_eq!(order(Policy::Lifo), [5, 4, 3, 2, 1, 0]);
    assert_ne!(order(Policy::Uniform), order(Policy::Fifo));
    let options = WorldOptions { policy: Some(Policy::Lifo), ..WorldOptions::new(1) };
    run(&World::with_options(options), |env| async move {
        let oldest = Rc::new(Cell::new(false));
        let ran = Rc::clone(&oldest);
        env.spawn("oldest", async move { ran.set(true) }).detach();
        let mut polls = 0;
        while !oldest.get() {
            // Wakes itself without yielding, so last in, first out always prefers it.
            let mut woken = false;
            std::future::poll_fn(|context| {
                if std::mem::replace(&mut woken, true) {
                    return std::task::Poll::Ready(());
                }
                context.waker().wake_by_ref();
                std::task::Poll::Pending
            })
            .await;
            polls += 1;
            assert!(polls < 100, "the longest waiting task was starved");
        }
    });
}

#[test]
fn polls_of_a_shard_cost_time_and_shards_run_side_by_side() {
    let world = World::with_options(WorldOptions {
        faults: Faults::none(),
        policy: Some(Policy::Fifo),
        ..WorldOptions::new(3)
    });
    let polls: Rc<RefCell<Vec<(usize, u64)>>> = Rc::default();
    let log = Rc::clone(&polls);
    world.start(world.machine("m"), 2, move |env| {
        let log = Rc::clone(&log);
        async move {
            for _ in 0..100 {
                log.borrow_mut().push((env.mesh().shard(), env.now().as_nanos()));
                env.yield_now().await;
            }
        }
    });
    world.run_to_idle();
    let polls = polls.take();
    for shard in [0, 1] {
        let times: Vec<u64> =
            polls.iter().filter(|poll| poll.0 == shard).map(|poll| poll.1).collect();
        assert!(
            times.windows(2).all(|pair| (200..2000).contains(&(pair[1] - pair[0]))),
            "{times:?}"
        );
    }
    let switches = polls.windows(2).filter(|pair| pair[0].0 != pair[1].0).count();
    assert!(switches > 20, "{switches} switches between shards");
}

#[test]
fn clocks_run_and_begin_anew_with_a_boot() {
    let machine = MachineFaults { wall_offset_ms: 500, ..MachineFaults::none() };
    let faults = Faults { machine, ..Faults::none() };
    let world = World::with_options(WorldOptions { faults, ..WorldOptions::new(8) });
    let clocks = || {
        run(&world, |env| async move {
            let (before, wall) = (env.now(), env.wall());
            env.sleep(Duration::from_secs(10)).await;
            let slept = env.now() - before;
            assert!(slept >= Duration::from_secs(10) && slept < Duration::from_millis(10_001));
            let walled = env.wall().as_millis() - wall.as_millis();
            assert!((10_000..=10_001).contains(&walled), "{walled}");
            env.sleep_until(before).await;
            (env.now(), env.wall())
        })
    };
    let first = clocks();
    let machine = world.machine("m");
    world.kill(machine);
    let second = clocks();
    assert!(second.0 - first.0 >= Duration::from_secs(10), "a process restart is no boot");
    world.power_cut(machine);
    world.jump_wall(machine, -60_000);
    let third = clocks();
    assert!(third.1 < second.1, "wall time jumps");
}
