//! Machines: pauses, restarts, reboots, exits, wipes; and that erasure is whole.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use woodchuck_io::{
    Buffer, Disk as _, Durability, Env, File as _, Listener as _, Mesh as _, Net as _, OpenMode,
    Program, Stream as _,
};

use super::{blocks, create, write};
use crate::{
    Exit, FaultKind, Faults, MachineFaults, Resources, RestartPolicy, SimEnv, World, WorldOptions,
};

const SOON: Duration = Duration::from_millis(1);

/// A world in which nothing goes wrong by itself.
fn calm(seed: u64) -> World {
    World::with_options(WorldOptions { faults: Faults::none(), ..WorldOptions::new(seed) })
}

/// Runs until `condition` holds, which it must within a minute.
fn until(world: &World, condition: impl Fn(&World) -> bool) {
    let inner = world.clone();
    let holds = world.run_until(move || condition(&inner), Duration::from_secs(60));
    assert!(holds, "seed {} at {:?}", world.seed(), world.now());
}

/// Counts and does nothing until it is asked to stop, if it listens to that.
fn counting(count: &Rc<Cell<u32>>, stops: bool) -> impl Fn(SimEnv) -> BoxedMain + 'static {
    let count = Rc::clone(count);
    move |env| {
        count.set(count.get() + 1);
        Box::pin(async move {
            env.stopping().await;
            if !stops {
                std::future::pending::<()>().await;
            }
        })
    }
}

type BoxedMain = std::pin::Pin<Box<dyn Future<Output = ()>>>;

#[test]
fn a_process_that_does_not_stop_in_time_is_killed() {
    for (stops, exit, faults) in [(true, Exit::Code(0), 0), (false, Exit::Killed, 1)] {
        let world = calm(1);
        let machine = world.machine("m");
        world.start(machine, 2, counting(&Rc::default(), stops));
        world.run_for(SOON);
        assert_eq!(world.last_exit(machine), None);
        world.stop_within(machine, Duration::from_secs(2));
        world.run_for(Duration::from_millis(1999));
        assert_eq!(world.is_running(machine), !stops);
        world.run_for(Duration::from_millis(2));
        assert_eq!(world.last_exit(machine), Some(exit));
        assert_eq!(world.statistics().faults(FaultKind::GraceOver), faults);
        // The alarm was for that process, not for the next one.
        world.start(machine, 1, counting(&Rc::default(), false));
        world.run_for(Duration::from_secs(5));
        assert!(world.is_running(machine));
    }
}

#[test]
fn a_process_exits_with_the_first_code_that_is_not_zero() {
    let world = calm(1);
    let machine = world.machine("m");
    world.start(machine, 3, |env| async move {
        let shard = env.mesh().shard();
        env.sleep(Duration::from_millis(shard as u64)).await;
        env.set_exit_code([0, 7, 9][shard]);
    });
    world.run_to_idle();
    assert_eq!(world.last_exit(machine), Some(Exit::Code(7)));
}

#[test]
fn a_supervised_process_comes_back_whatever_ended_it() {
    for seed in 0..20 {
        let world = calm(seed);
        let machine = world.machine("m");
        let count: Rc<Cell<u32>> = Rc::default();
        let after = Duration::from_millis(100);
        world.supervise(machine, 1, counting(&count, true), RestartPolicy::Always { after });
        let strikes: [fn(&World, crate::MachineId); 6] = [
            |world, machine| world.stop(machine),
            |world, machine| world.kill(machine),
            |world, machine| world.crash_os(machine),
            |world, machine| world.power_cut(machine),
            |world, machine| world.wipe(machine),
            |world, machine| world.reboot(machine, SOON),
        ];
        for (index, strike) in strikes.into_iter().enumerate() {
            let expected = index as u32 + 1;
            until(&world, |world| world.starts(machine) == expected);
            world.run_for(Duration::from_millis(20));
            strike(&world, machine);
            let struck = world.now();
            until(&world, |world| !world.is_running(machine));
            until(&world, |world| world.is_running(machine));
            let away = world.now() - struck;
            let most = if index == 5 { Duration::from_secs(11) } else { 2 * after + SOON };
            assert!(away <= most && (index == 5 || away >= after), "strike {index}: {away:?}");
        }
        until(&world, |_| count.get() == 7);
        world.unsupervise(machine);
        world.kill(machine);
        world.run_for(Duration::from_secs(60));
        assert_eq!((world.starts(machine), world.is_running(machine)), (7, false));
    }
}

#[test]
fn restart_policies_differ() {
    let starts = |policy, code| {
        let world = calm(1);
        let machine = world.machine("m");
        let main = move |env: SimEnv| async move {
            env.sleep(Duration::from_millis(50)).await;
            env.set_exit_code(code);
        };
        world.supervise(machine, 1, main, policy);
        world.run_for(Duration::from_secs(2));
        world.unsupervise(machine);
        world.starts(machine)
    };
    let after = Duration::from_millis(50);
    let (always, on_crash) =
        (RestartPolicy::Always { after }, RestartPolicy::OnCrash { after, at_most: 3 });
    assert_eq!((starts(RestartPolicy::Never, 0), starts(RestartPolicy::Never, 1)), (1, 1));
    assert_eq!((starts(on_crash, 0), starts(on_crash, 1)), (1, 4));
    assert!((12..=20).contains(&starts(always, 0)), "{}", starts(always, 0));
    assert_eq!(starts(always, 0), starts(always, 1));
}

#[derive(Clone)]
struct Failing;

impl Program for Failing {
    type Output = usize;

    async fn run<E: Env>(self, env: E) -> usize {
        env.sleep(SOON).await;
        env.mesh().shard()
    }
}

#[test]
fn what_a_supervised_program_returns_becomes_its_exit_code() {
    let world = calm(1);
    let machine = world.machine("m");
    let policy = RestartPolicy::OnCrash { after: SOON, at_most: 2 };
    world.supervise_program(machine, 2, Failing, policy, |_, shard| shard as i32 * 3);
    world.run_to_idle();
    assert_eq!((world.starts(machine), world.last_exit(machine)), (3, Some(Exit::Code(3))));
}

#[test]
fn restarts_are_the_same_in_two_runs() {
    let live = |seed| {
        let options = WorldOptions { faults: Faults::swarm(seed), ..WorldOptions::new(seed) };
        let world = World::with_options(options);
        let machine = world.machine("m");
        let policy = RestartPolicy::Always { after: SOON };
        world.supervise(machine, 2, counting(&Rc::default(), true), policy);
        for round in 0..20 {
            world.run_for(Duration::from_millis(7));
            match round % 4 {
                0 => world.kill(machine),
                1 => world.reboot(machine, SOON),
                2 => world.pause_for(machine, Duration::from_millis(3)),
                _ => world.wipe(machine),
            }
        }
        (world.trace_hash(), world.statistics())
    };
    (0..20).for_each(|seed| assert_eq!(live(seed), live(seed), "seed {seed}"));
}

#[test]
fn a_reboot_keeps_what_was_synced_and_is_off_for_a_while() {
    for stops in [true, false] {
        let world = calm(3);
        let machine = world.machine("m");
        world.start(machine, 1, move |env| async move {
            let file = create(&env, "/f").await;
            write(&file, 0, 1, 9, Durability::Durable).await;
            env.stopping().await;
            if !stops {
                std::future::pending::<()>().await;
            }
        });
        world.run_for(Duration::from_millis(50));
        world.reboot(machine, Duration::from_secs(1));
        until(&world, |world| !world.is_powered(machine));
        until(&world, |world| world.is_powered(machine));
        world.run_for(Duration::from_secs(20));
        assert!(!world.is_running(machine), "nobody supervises it");
        assert_eq!(world.disk(machine).read("/f"), Some(vec![9; 4096]));
        let statistics = world.statistics();
        assert_eq!(statistics.faults(FaultKind::Reboot), 1);
        assert_eq!(statistics.faults(FaultKind::GraceOver), u64::from(!stops));
    }
}

#[test]
fn a_wiped_disk_is_empty_and_works() {
    for seed in 0..20 {
        let world = World::new(seed);
        let machine = world.machine("m");
        let main = |env: SimEnv| async move {
            let file = create(&env, "/f").await;
            loop {
                // Always something in flight, whose events must not speak of the new disk.
                write(&file, 0, 1, 9, Durability::Durable).await;
            }
        };
        world.start(machine, 3, move |env| async move {
            if env.mesh().shard() == 0 {
                main(env).await;
            }
        });
        world.run_for(Duration::from_millis(20));
        assert!(world.disk(machine).read("/f").is_some());
        world.wipe(machine);
        assert_eq!(world.disk(machine).read("/f"), None);
        let done = Rc::new(Cell::new(false));
        let flag = Rc::clone(&done);
        world.start(machine, 1, move |env| {
            let flag = Rc::clone(&flag);
            async move {
                let file = create(&env, "/f").await;
                for _ in 0..20 {
                    write(&file, 0, 1, 8, Durability::Durable).await;
                }
                flag.set(true);
            }
        });
        world.run_for(Duration::from_secs(1));
        assert!(done.get(), "seed {seed}: the new disk hangs");
        assert_eq!(world.statistics().faults(FaultKind::Wipe), 1);
    }
}

#[test]
fn events_of_a_wiped_disk_do_not_touch_the_new_one() {
    for seed in 0..300 {
        let world = calm(seed);
        let machine = world.machine("m");
        let open = |env: SimEnv| async move {
            drop(env.disk().open(Path::new("/f"), OpenMode::CreateNew).await);
        };
        world.start(machine, 1, open);
        world.run_for(Duration::from_micros(seed % 100));
        world.wipe(machine);
        world.start(machine, 1, open);
        // The first operation of the new disk has the number of the first of the old one.
        until(&world, |world| !world.is_running(machine));
        assert_eq!(world.disk(machine).read("/f"), Some(Vec::new()), "seed {seed}");
    }
}

/// Answers each byte that arrives, and writes to its disk before.
async fn answer(env: SimEnv) {
    let file = create(&env, "/f").await;
    let listener = env.net().listen("0.0.0.0:9".parse().expect("an address")).await.expect("free");
    loop {
        let (stream, _) = listener.accept().await.expect("a listener that lives");
        let file = file.clone();
        env.spawn("connection", async move {
            loop {
                let (result, bytes) = stream.read(BytesMut::with_capacity(64)).await;
                if result.is_err() || bytes.is_empty() {
                    return;
                }
                write(&file, 0, 1, bytes[0], Durability::Durable).await;
                if stream.write(vec![bytes.freeze()]).await.is_err() {
                    return;
                }
            }
        })
        .detach();
    }
}

/// Sends bytes and counts the answers.
async fn ask(env: SimEnv, server: std::net::IpAddr, answers: Rc<Cell<u32>>) {
    let stream = env.net().connect((server, 9).into()).await.expect("somebody listens");
    for byte in 0..=255_u8 {
        stream.write(vec![Bytes::from(vec![byte])]).await.expect("it is there");
        let (result, bytes) = stream.read(BytesMut::with_capacity(64)).await;
        assert_eq!((result.ok(), bytes.first()), (Some(1), Some(&byte)));
        answers.set(answers.get() + 1);
    }
}

#[test]
fn a_pause_halts_everything_and_loses_nothing() {
    for seed in 0..20 {
        let world = calm(seed);
        let (server, client) = (world.machine("server"), world.machine("client"));
        world.start(server, 1, answer);
        world.run_for(Duration::from_millis(5));
        let (address, answers) = (world.address(server), Rc::new(Cell::new(0)));
        let count = Rc::clone(&answers);
        world.start(client, 1, move |env| ask(env, address, Rc::clone(&count)));
        world.run_for(Duration::from_millis(20));
        assert!(answers.get() > 5 && answers.get() < 200, "{}", answers.get());
        world.pause(server);
        world.pause(server);
        assert!(world.is_paused(server));
        world.run_for(Duration::from_millis(2));
        let before = answers.get();
        world.run_for(Duration::from_secs(5));
        assert_eq!(answers.get(), before, "nothing of a paused machine runs");
        world.resume(server);
        let all = Rc::clone(&answers);
        until(&world, move |_| all.get() == 256);
        assert_eq!(world.statistics().faults(FaultKind::Pause), 1);
        assert!(!world.is_paused(server));
    }
}

#[test]
fn a_pause_ends_by_itself_or_with_its_process() {
    let world = calm(1);
    let machine = world.machine("m");
    world.pause(machine);
    assert!(!world.is_paused(machine), "nothing runs there");
    world.start(machine, 1, counting(&Rc::default(), true));
    world.pause_for(machine, SOON);
    world.run_for(2 * SOON);
    assert!(!world.is_paused(machine));
    world.pause_for(machine, SOON);
    world.stop_within(machine, 10 * SOON);
    world.run_for(SOON / 2);
    assert!(world.is_running(machine), "it cannot even notice that it should stop");
    world.run_for(SOON);
    assert!(!world.is_running(machine));
    world.start(machine, 1, counting(&Rc::default(), true));
    world.pause_for(machine, SOON);
    world.kill(machine);
    assert!(!world.is_paused(machine) && !world.is_running(machine));
    world.start(machine, 1, counting(&Rc::default(), true));
    world.pause(machine);
    world.run_for(10 * SOON);
    assert!(world.is_paused(machine), "the end of an earlier pause does not end this one");
}

#[test]
fn pauses_come_at_a_rate() {
    let pauses = |rate| {
        let mut pauses = 0;
        for seed in 0..10 {
            let faults = Faults {
                machine: MachineFaults { pause: rate, ..MachineFaults::none() },
                ..Faults::none()
            };
            let world = World::with_options(WorldOptions { faults, ..WorldOptions::new(seed) });
            let server = world.machine("server");
            world.start(server, 2, |env| async move {
                loop {
                    env.yield_now().await;
                    env.sleep(Duration::from_millis(1)).await;
                }
            });
            world.run_for(Duration::from_secs(30));
            pauses += world.statistics().faults(FaultKind::Pause);
        }
        pauses
    };
    assert_eq!(pauses(0), 0);
    assert!(pauses(1_000) > 10, "{}", pauses(1_000));
}

#[test]
fn a_panic_may_end_a_process_instead_of_the_world() {
    let options = WorldOptions { panics_crash: true, ..WorldOptions::new(1) };
    let world = World::with_options(options);
    let (machine, other) = (world.machine("m"), world.machine("other"));
    world.start(other, 1, counting(&Rc::default(), true));
    let policy = RestartPolicy::OnCrash { after: SOON, at_most: 1 };
    let main = |env: SimEnv| async move {
        env.sleep(SOON).await;
        assert!(env.mesh().shard() != 1, "shard 1 fails");
        std::future::pending::<()>().await;
    };
    world.supervise(machine, 2, main, policy);
    world.try_run_for(Duration::from_secs(1)).expect("the world goes on");
    assert_eq!((world.starts(machine), world.is_running(machine)), (2, false));
    let Some(Exit::Panic(message)) = world.last_exit(machine) else { panic!("it panicked") };
    assert!(message.contains("task \"main\" of shard 1: shard 1 fails"), "{message}");
    assert!(world.is_running(other));
    assert_eq!(world.statistics().faults(FaultKind::TaskPanic), 2);
    assert_eq!(world.statistics().faults(FaultKind::Kill), 0);
}

/// Tries to change the world as it is dropped.
struct Parting {
    env: SimEnv,
    file: crate::SimFile,
    stream: crate::SimStream,
    ran: Rc<Cell<u32>>,
    drops: Rc<Cell<u32>>,
}

impl Drop for Parting {
    fn drop(&mut self) {
        self.drops.set(self.drops.get() + 1);
        let mut context = std::task::Context::from_waker(Waker::noop());
        let mut begin = |future: BoxedMain| {
            let mut future = future;
            assert!(future.as_mut().poll(&mut context).is_pending(), "it had an effect");
        };
        let (file, stream, env) = (self.file.clone(), self.stream.clone(), self.env.clone());
        let ran = Rc::clone(&self.ran);
        begin(Box::pin(async move {
            drop(file.write_at(blocks(1, 66), 0, Durability::Durable).await);
        }));
        begin(Box::pin(async move { drop(stream.write(vec![Bytes::from_static(b"!")]).await) }));
        begin(Box::pin(async move {
            drop(env.disk().open(Path::new("/parting"), OpenMode::CreateNew).await);
        }));
        self.env.spawn("ghost", async move { ran.set(ran.get() + 1) }).detach();
        self.env.set_exit_code(66);
        self.env.wall();
        self.env.now();
    }
}

#[test]
fn destructors_change_nothing_when_a_process_is_killed() {
    for seed in 0..30 {
        let mut faults = Faults::none();
        faults.machine.wall_jump = 1_000_000;
        let world = World::with_options(WorldOptions { faults, ..WorldOptions::new(seed) });
        let (machine, peer) = (world.machine("m"), world.machine("peer"));
        let received = Rc::new(RefCell::new(BytesMut::new()));
        let sink = Rc::clone(&received);
        world.start(peer, 1, move |env| {
            let sink = Rc::clone(&sink);
            async move {
                let listener = env.net().listen("0.0.0.0:9".parse().expect("an address")).await;
                let (stream, _) = listener.expect("free").accept().await.expect("a peer");
                while let (Ok(1..), bytes) = stream.read(BytesMut::with_capacity(64)).await {
                    sink.borrow_mut().extend_from_slice(&bytes);
                }
            }
        });
        world.run_for(SOON);
        let (ran, drops) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (run, dropped, address) = (Rc::clone(&ran), Rc::clone(&drops), world.address(peer));
        world.start(machine, 1, move |env| {
            let (ran, drops) = (Rc::clone(&run), Rc::clone(&dropped));
            async move {
                let file = create(&env, "/f").await;
                write(&file, 0, 1, 1, Durability::Durable).await;
                let stream = env.net().connect((address, 9).into()).await.expect("a listener");
                let parting = Parting { env: env.clone(), file, stream, ran, drops };
                std::future::pending::<()>().await;
                drop(parting);
            }
        });
        world.run_for(Duration::from_millis(50));
        match seed % 3 {
            0 => world.kill(machine),
            1 => world.crash_os(machine),
            _ => world.power_cut(machine),
        }
        assert_eq!(drops.get(), 1, "seed {seed}: its memory is free");
        assert!(world.resources(machine).is_empty(), "{}", world.resources(machine));
        world.run_for(Duration::from_secs(60));
        assert_eq!((ran.get(), drops.get()), (0, 1), "seed {seed}: nothing of it ran");
        assert!(received.borrow().is_empty(), "seed {seed}: it sent something");
        assert_eq!(world.disk(machine).read("/f"), Some(vec![1; 4096]), "seed {seed}");
        assert_eq!(world.disk(machine).read("/parting"), None, "seed {seed}");
        assert!(!matches!(world.last_exit(machine), Some(Exit::Code(_))));
        assert_eq!(world.statistics().faults(FaultKind::WallJump), 0, "it chose something");
    }
}

#[test]
fn a_waker_brings_nothing_back() {
    let world = calm(1);
    let machine = world.machine("m");
    let (kept, polls) = (Rc::new(RefCell::new(None)), Rc::new(Cell::new(0)));
    let (keep, count) = (Rc::clone(&kept), Rc::clone(&polls));
    world.start(machine, 1, move |_| {
        let (keep, count) = (Rc::clone(&keep), Rc::clone(&count));
        std::future::poll_fn(move |context| {
            count.set(count.get() + 1);
            *keep.borrow_mut() = Some(context.waker().clone());
            std::task::Poll::Pending
        })
    });
    world.run_for(SOON);
    let waker = kept.take().expect("it was polled");
    waker.wake_by_ref();
    world.run_for(SOON);
    assert_eq!(polls.get(), 2, "it wakes what lives");
    world.kill(machine);
    world.start(machine, 1, |_| std::future::pending());
    waker.wake_by_ref();
    world.run_for(SOON);
    waker.wake();
    world.run_to_idle();
    assert_eq!(polls.get(), 2);
}

/// Holds one of everything: awaits what it holds in the end, or exits.
async fn hold_everything(env: SimEnv, exit: Rc<Cell<bool>>) {
    if env.mesh().shard() == 1 {
        return std::future::pending().await;
    }
    let file = env.disk().open(Path::new("/f"), OpenMode::CreateNew).await.expect("new");
    let lock = env.disk().lock(Path::new("/lock")).await.expect("free");
    let anywhere = "0.0.0.0:9".parse().expect("an address");
    let listener = env.net().listen(anywhere).await.expect("free");
    let here = "127.0.0.1:9".parse().expect("an address");
    let one = env.net().connect(here).await.expect("a listener");
    let (other, _) = listener.accept().await.expect("a peer");
    let third = env.net().connect(here).await.expect("a listener");
    for _ in 0..=woodchuck_io::limits::MAILBOX_PARCELS {
        let env = env.clone();
        env.clone().spawn("parcel", async move { env.mesh().send(1, Box::new(1)).await }).detach();
    }
    let read = file.read_at(Buffer::with_capacity(1), 0);
    let sleep = env.sleep(Duration::from_secs(1000));
    let nowhere = env.net().connect("10.9.9.9:9".parse().expect("an address"));
    let waiting = futures_util::future::join3(read, sleep, nowhere);
    let waiting = env.spawn("waiting", waiting);
    while !exit.get() {
        env.sleep(SOON).await;
    }
    drop((lock, one, other, third, waiting));
}

#[test]
fn what_a_process_holds_is_counted_and_gone_with_it() {
    for (seed, way) in (0..20).flat_map(|seed| (0..4).map(move |way| (seed, way))) {
        let world = World::new(seed);
        let machine = world.machine("m");
        let exit = Rc::new(Cell::new(false));
        let asked = Rc::clone(&exit);
        world.start(machine, 2, move |env| {
            let (asked, env) = (Rc::clone(&asked), env);
            async move {
                let last = env.clone();
                if env.mesh().shard() == 1 {
                    while !asked.get() {
                        last.sleep(SOON).await;
                    }
                    return;
                }
                hold_everything(env, asked).await;
            }
        });
        world.run_for(Duration::from_millis(300));
        let held = world.resources(machine);
        let leaked: Vec<&str> =
            held.iter().filter(|&(_, count)| count > 0).map(|(name, _)| name).collect();
        for name in [
            "tasks",
            "timers",
            "open_files",
            "locks",
            "connects",
            "connections",
            "listeners",
            "unaccepted",
            "parcels",
            "waiting_senders",
        ] {
            assert!(leaked.contains(&name), "seed {seed}: {name} is not among {held}");
        }
        assert_eq!((held.open_files, held.locks, held.listeners), (1, 1, 1), "{held}");
        assert_eq!((held.connections, held.unaccepted, held.connects), (4, 1, 1), "{held}");
        match way {
            0 => world.kill(machine),
            1 => world.crash_os(machine),
            2 => world.power_cut(machine),
            _ => exit.set(true),
        }
        world.run_for(Duration::from_millis(100));
        assert!(!world.is_running(machine));
        let held = world.resources(machine);
        assert_eq!(held, Resources::default(), "seed {seed}, way {way}: {held}");
        assert!(held.is_empty() && held.to_string() == "nothing");
    }
}

#[test]
fn a_connection_whose_other_end_is_gone_is_told_apart() {
    let world = calm(1);
    let (server, client) = (world.machine("server"), world.machine("client"));
    let address = world.address(server);
    world.start(server, 1, |env| async move {
        let listener = env.net().listen("0.0.0.0:9".parse().expect("an address")).await;
        let accepted = listener.expect("free").accept().await;
        env.stopping().await;
        drop(accepted);
    });
    world.run_for(SOON);
    world.start(client, 1, move |env| async move {
        let stream = env.net().connect((address, 9).into()).await;
        std::future::pending::<()>().await;
        drop(stream);
    });
    world.run_for(Duration::from_millis(50));
    assert_eq!(world.resources(client).to_string(), "tasks=1 connections=1");
    assert_eq!(world.resources(server).to_string(), "tasks=1 connections=1");
    world.stop(server);
    world.run_for(Duration::from_millis(50));
    assert_eq!(world.resources(client).to_string(), "tasks=1 half_closed=1");
    assert!(world.resources(server).is_empty());
}

#[test]
fn a_leak_is_seen() {
    let world = calm(1);
    let machine = world.machine("m");
    world.start(machine, 1, |env| async move {
        let file = create(&env, "/f").await;
        std::mem::forget(file);
        env.stopping().await;
        env.sleep(Duration::MAX).await;
    });
    world.run_for(Duration::from_millis(50));
    assert_eq!(world.resources(machine).to_string(), "tasks=1 open_files=1");
    world.stop(machine);
    world.run_for(SOON);
    assert_eq!(world.resources(machine).to_string(), "tasks=1 timers=1 open_files=1");
    world.kill(machine);
}

#[test]
fn machine_faults_of_plans_happen_when_asked_and_only_then() {
    let kinds = [
        FaultKind::Kill,
        FaultKind::OsCrash,
        FaultKind::PowerCut,
        FaultKind::Wipe,
        FaultKind::Reboot,
        FaultKind::Pause,
        FaultKind::StarvedShard,
        FaultKind::Stall,
        FaultKind::LateTimer,
    ];
    let busy = |env: SimEnv| async move {
        loop {
            env.sleep(Duration::from_micros(100)).await;
        }
    };
    for on in kinds {
        let mut faults = Faults::none();
        match on {
            FaultKind::StarvedShard => faults.machine.starved_shard = 1_000_000,
            FaultKind::Stall => faults.machine.poll_stall = 10_000,
            FaultKind::LateTimer => faults.machine.timer_late = 10_000,
            _ => {}
        }
        let world = World::with_options(WorldOptions { faults, ..WorldOptions::new(1) });
        let machine = world.machine("m");
        world.start(machine, 2, busy);
        world.run_for(Duration::from_millis(50));
        match on {
            FaultKind::Kill => world.kill(machine),
            FaultKind::OsCrash => world.crash_os(machine),
            FaultKind::PowerCut => world.power_cut(machine),
            FaultKind::Wipe => world.wipe(machine),
            FaultKind::Reboot => world.reboot(machine, SOON),
            FaultKind::Pause => world.pause_for(machine, SOON),
            _ => {}
        }
        world.run_for(Duration::from_millis(50));
        let statistics = world.statistics();
        for kind in kinds {
            // A process that does not stop is killed by a reboot, and a wipe cuts the power.
            let implied = (on, kind) == (FaultKind::Reboot, FaultKind::Kill)
                || (on, kind) == (FaultKind::Wipe, FaultKind::PowerCut);
            assert_eq!(statistics.faults(kind) > 0, kind == on || implied, "{kind:?} by {on:?}");
        }
    }
}
