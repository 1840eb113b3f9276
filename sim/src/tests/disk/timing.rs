//! How long operations take, and the bad times of a disk.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::{Disk as _, Durability, Env as _, File as _};

use super::{blocks, create, run, world_with, write};
use crate::{DiskProfile, FaultKind, Faults, SimEnv, World, WorldOptions};

/// Times of some syncs, one after the other.
fn sync_times(world: &World, count: usize) -> Vec<Duration> {
    run(world, move |env| async move {
        let mut times = Vec::new();
        for _ in 0..count {
            let start = env.now();
            env.disk().sync_directory(Path::new("/")).await.expect("healthy");
            times.push(env.now() - start);
        }
        times
    })
}

fn calm(seed: u64) -> World {
    World::with_options(WorldOptions { faults: Faults::none(), ..WorldOptions::new(seed) })
}

#[test]
fn a_stall_holds_everything_up_and_ends() {
    let (mut stalls, mut long) = (0, 0);
    for seed in 0..50 {
        let world = world_with(seed, "stall", 10_000);
        let times = sync_times(&world, 100);
        let stalled = times.iter().filter(|&&time| time >= Duration::from_millis(90)).count();
        let longest = times.iter().max().copied().unwrap_or_default();
        assert!(longest < Duration::from_secs(61), "seed {seed}: {longest:?}");
        let counted = world.statistics().faults(FaultKind::DiskStall);
        assert_eq!(counted, stalled as u64, "one operation at a time is held up once a stall");
        stalls += counted;
        long += u32::from(longest > Duration::from_secs(5));
    }
    assert!(stalls > 20 && long > 3, "{stalls} stalls, {long} seeds with a long one");
    let world = world_with(1, "stall", 0);
    assert!(sync_times(&world, 1000).iter().all(|time| *time < Duration::from_millis(1)));
    assert_eq!(world.statistics().faults(FaultKind::DiskStall), 0);
}

#[test]
fn a_stalled_disk_completes_nothing_that_was_under_way() {
    let world = calm(3);
    let machine = world.machine("m");
    run(&world, |env| async move { drop(create(&env, "/f").await) });
    let done = Rc::new(RefCell::new(Vec::new()));
    let shared = Rc::clone(&done);
    world.start(machine, 1, move |env| {
        let shared = Rc::clone(&shared);
        async move {
            let file = super::open(&env, "/f").await;
            let writes = (0..32).map(|block| {
                let (env, file, shared) = (env.clone(), file.clone(), Rc::clone(&shared));
                async move {
                    write(&file, block, 1, 1, Durability::Durable).await;
                    shared.borrow_mut().push(env.now());
                }
            });
            futures_util::future::join_all(writes).await;
        }
    });
    world.run_for(Duration::from_micros(250));
    let before = done.borrow().len();
    let written = || {
        let content = world.disk(machine).read("/f").unwrap_or_default();
        content.iter().filter(|&&byte| byte == 1).count() / 4096
    };
    let happened = written();
    assert!(happened > before, "{happened} happened and {before} were seen to");
    world.disk(machine).stall(Duration::from_secs(2));
    world.run_for(Duration::from_millis(1900));
    assert_eq!((done.borrow().len(), written()), (before, happened), "nothing moves");
    world.run_for(Duration::from_millis(200));
    assert_eq!((done.borrow().len(), written()), (32, 32));
    assert_eq!(world.statistics().faults(FaultKind::DiskStall), 1);
}

#[test]
fn a_healed_disk_goes_on_at_once() {
    let world = calm(1);
    let machine = world.machine("m");
    let (disk, finished) = (world.disk(machine), Rc::new(RefCell::new(0)));
    let shared = Rc::clone(&finished);
    world.start(machine, 1, move |env| {
        let shared = Rc::clone(&shared);
        async move {
            let file = create(&env, "/f").await;
            for block in 0..400 {
                write(&file, block, 1, 1, Durability::Durable).await;
                *shared.borrow_mut() += 1;
            }
        }
    });
    for _ in 0..10 {
        disk.stall(Duration::from_secs(60));
        world.run_for(Duration::from_secs(1));
        let before = *finished.borrow();
        disk.heal();
        world.run_for(Duration::from_millis(2));
        assert!(*finished.borrow() > before, "{before} were written, and nothing goes on");
    }
    world.run_to_idle();
    assert_eq!(*finished.borrow(), 400);
    assert_eq!(disk.read("/f"), Some(vec![1; 400 * 4096]));
}

#[test]
fn a_slow_period_slows_everything_down_for_a_while() {
    let mut periods = 0;
    for seed in 0..20 {
        let world = world_with(seed, "slow_period", 2_000);
        let times = sync_times(&world, 1000);
        let slow = times.iter().filter(|&&time| time > Duration::from_micros(500)).count() as u64;
        let counted = world.statistics().faults(FaultKind::SlowPeriod);
        assert!(slow >= counted, "{slow} slow in {counted} periods");
        assert!(slow < 1000 || counted > 1, "it ends");
        periods += counted;
    }
    assert!(periods > 10, "{periods}");
    let world = world_with(1, "slow_period", 0);
    assert!(sync_times(&world, 1000).iter().all(|time| *time < Duration::from_micros(400)));
    assert_eq!(world.statistics().faults(FaultKind::SlowPeriod), 0);
}

#[test]
fn a_disk_that_a_test_slows_down_is_that_much_slower() {
    let mean = |world: &World| sync_times(world, 300).iter().sum::<Duration>() / 300;
    let usual = mean(&calm(1));
    let world = calm(1);
    world.disk(world.machine("m")).slow_down(50, Duration::from_secs(3600));
    let slow = mean(&world);
    assert!(slow > usual * 45 && slow < usual * 55, "{slow:?} and usually {usual:?}");
    world.disk(world.machine("m")).heal();
    assert!(mean(&world) < usual * 2);
}

/// How long so many reads of some blocks take, all submitted at once.
fn time_of_reads(profile: DiskProfile, count: u64, size: usize) -> Duration {
    let world = calm(7);
    world.set_disk(world.machine("m"), profile);
    world.disk(world.machine("m")).write("/f", &vec![1; size * 4096]);
    run(&world, move |env: SimEnv| async move {
        let file = super::open(&env, "/f").await;
        let start = env.now();
        let reads = (0..count).map(|_| file.read_at(blocks(size, 0), 0));
        for (result, _) in futures_util::future::join_all(reads).await {
            result.expect("healthy");
        }
        env.now() - start
    })
}

#[test]
fn operations_share_the_bandwidth() {
    for profile in DiskProfile::ALL {
        let bytes = 64 * 256 * 4096_u64;
        let least = Duration::from_nanos(bytes * 1_000_000_000 / profile.bandwidth);
        let time = time_of_reads(profile.clone(), 64, 256);
        assert!(time >= least, "{}: {time:?}, and {least:?} at least", profile.name);
        assert!(time < least * 2 + Duration::from_millis(200), "{}: {time:?}", profile.name);
    }
}

#[test]
fn operations_beyond_the_queue_wait_for_a_slot() {
    let wide = DiskProfile { bandwidth: 1 << 50, ..DiskProfile::NVME };
    let at_once = time_of_reads(wide.clone(), 64, 1);
    let by_four = time_of_reads(DiskProfile { queue_depth: 4, ..wide.clone() }, 64, 1);
    let one_by_one = time_of_reads(DiskProfile { queue_depth: 1, ..wide }, 64, 1);
    assert!(at_once < Duration::from_micros(200), "{at_once:?}");
    assert!(by_four > at_once * 5 && one_by_one > by_four * 3, "{by_four:?}, {one_by_one:?}");
    assert!(one_by_one < Duration::from_micros(64 * 155), "{one_by_one:?}");
}
