//! Dialling what is slow to answer, has no room, or refuses.

use std::cell::Cell;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::{Env as _, Listener as _, Net as _};

use super::{PORT, any, calm, faults, run, serve, world_with};
use crate::limits::BACKLOG_CONNECTIONS;
use crate::{Cut, FaultKind, NetFaults, SimEnv, World};

/// How an attempt to connect ended, and after how long.
async fn dial(env: &SimEnv, address: SocketAddr) -> (Option<ErrorKind>, Duration) {
    let before = env.now();
    let outcome = env.net().connect(address).await;
    (outcome.err().map(|error| error.kind()), env.now() - before)
}

/// A server that listens and accepts.
fn server(world: &World) -> SocketAddr {
    let address = serve(world, |_, _stream| std::future::pending());
    world.run_for(Duration::from_millis(1));
    address
}

#[test]
fn a_request_with_no_room_in_the_backlog_is_dropped_and_sent_again() {
    for sleep in [3, 100] {
        let world = calm(1);
        let machine = world.machine("server");
        world.start(machine, 1, move |env| async move {
            let listener = env.net().listen(any()).await.expect("free");
            env.sleep(Duration::from_secs(sleep)).await;
            let mut accepted = Vec::new();
            loop {
                accepted.push(listener.accept().await.expect("it listens"));
            }
        });
        world.run_for(Duration::from_millis(1));
        let address = SocketAddr::new(world.address(machine), PORT);
        let (error, took) = run(&world, move |env| async move {
            let mut streams = Vec::new();
            for _ in 0..BACKLOG_CONNECTIONS {
                streams.push(env.net().connect(address).await.expect("there is room"));
            }
            dial(&env, address).await
        });
        assert!(faults(&world, FaultKind::FullBacklog) > 1);
        if sleep == 3 {
            assert_eq!(error, None, "there was room again");
            assert!(took > Duration::from_secs(1), "{took:?}");
        } else {
            assert_eq!(error, Some(ErrorKind::TimedOut));
            assert!(took >= Duration::from_secs(5), "{took:?}");
        }
    }
}

#[test]
fn a_dialler_asks_again_until_a_partition_heals() {
    for (cut, heals_after, reaches) in
        [(Cut::Hold, 2, true), (Cut::Drop, 2, true), (Cut::Hold, 60, false), (Cut::Drop, 60, false)]
    {
        for there in [true, false] {
            let world = calm(2);
            let address = server(&world);
            let (client, server) = (world.machine("client"), world.machine("server"));
            let (from, to) = if there { (client, server) } else { (server, client) };
            world.partition_one_way(&[from], &[to], cut);
            let outcome = Rc::new(Cell::new(None));
            let slot = Rc::clone(&outcome);
            world.start(client, 1, move |env| {
                let slot = Rc::clone(&slot);
                async move { slot.set(Some(dial(&env, address).await.0)) }
            });
            world.run_for(Duration::from_secs(heals_after));
            assert_eq!(outcome.get().is_none(), reaches);
            world.heal_all();
            world.run_for(Duration::from_secs(60));
            assert_eq!(outcome.get(), Some((!reaches).then_some(ErrorKind::TimedOut)));
            assert_eq!(faults(&world, FaultKind::DialTimeout), u64::from(!reaches));
            assert!(faults(&world, FaultKind::CutPacket) > 0);
        }
    }
}

#[test]
fn requests_and_answers_are_lost_and_sent_again() {
    for there in [true, false] {
        let world = calm(3);
        let address = server(&world);
        let (client, server) = (world.machine("m"), world.machine("server"));
        let (from, to) = if there { (client, server) } else { (server, client) };
        world.drop_packets(from, to, 1);
        let (error, took) = run(&world, move |env| async move { dial(&env, address).await });
        assert_eq!(error, None);
        assert!((1000..1010).contains(&took.as_millis()), "{took:?}");
        world.drop_packets(from, to, 100);
        let (error, took) = run(&world, move |env| async move { dial(&env, address).await });
        assert_eq!(error, Some(ErrorKind::TimedOut));
        assert!(took >= Duration::from_secs(5), "{took:?}");
    }
    let world = world_with(3, NetFaults { loss: 1_000_000, ..NetFaults::none() });
    let address = server(&world);
    let (error, _) = run(&world, move |env| async move { dial(&env, address).await });
    assert_eq!(error, Some(ErrorKind::TimedOut));
}

#[test]
fn a_port_refuses_for_a_time() {
    let world = calm(4);
    let address = server(&world);
    let refuse = |port| {
        world.refuse_connects(world.machine("server"), port, Duration::from_secs(1));
        run(&world, move |env| async move {
            let (now, _) = dial(&env, address).await;
            env.sleep(Duration::from_secs(1)).await;
            (now, dial(&env, address).await.0)
        })
    };
    assert_eq!(refuse(PORT), (Some(ErrorKind::ConnectionRefused), None));
    assert_eq!(refuse(PORT + 1), (None, None), "that is another port");
    assert_eq!(faults(&world, FaultKind::Refused), 1);
}

#[test]
fn a_request_crawls_through_a_clog() {
    for there in [true, false] {
        let world = calm(5);
        let address = server(&world);
        let (client, server) = (world.machine("m"), world.machine("server"));
        let (from, to) = if there { (client, server) } else { (server, client) };
        world.clog(from, to, Duration::MAX);
        let (error, took) = run(&world, move |env| async move { dial(&env, address).await });
        assert_eq!(error, None);
        assert!((50..60).contains(&took.as_millis()), "{took:?}");
    }
}
