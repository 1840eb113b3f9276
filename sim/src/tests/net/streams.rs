//! Streams: order, segments, windows, ends, resets and silence.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use woodchuck_io::{Env as _, Listener as _, Mesh as _, Net as _, Stream as _};

use super::{PORT, any, connect, drain, numbered, run, serve};
use crate::{FaultKind, Faults, NetFaults, SimStream, World, WorldOptions};

#[test]
fn bytes_arrive_in_order_in_any_pieces_through_any_window() {
    let (mut full_windows, mut single_bytes) = (0, 0);
    for seed in 0..20 {
        let world = World::new(seed);
        let address = serve(&world, |_, stream| async move {
            let (_, bytes, error) = drain(&stream).await;
            assert_eq!((bytes.len(), error), (300_000, None));
            // Half closed: the other direction still works.
            stream.write(vec![Bytes::from(bytes)]).await.expect("the client reads");
        });
        let pieces = run(&world, move |env| async move {
            let stream = connect(&env, address).await;
            let sent = numbered(300_000);
            let (first, rest) = sent.split_at(7);
            let segments =
                vec![Bytes::copy_from_slice(first), Bytes::new(), Bytes::copy_from_slice(rest)];
            stream.write(segments).await.expect("the server reads");
            stream.shutdown().await.expect("open");
            stream.shutdown().await.expect("once more does no harm");
            let error = stream.write(vec![Bytes::from_static(b"x")]).await.expect_err("shut down");
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            let (pieces, received, error) = drain(&stream).await;
            assert_eq!((received == sent, error), (true, None));
            pieces
        });
        assert!(pieces.len() > 1, "{pieces:?}");
        single_bytes += pieces.iter().filter(|&&piece| piece == 1).count();
        full_windows += world.statistics().faults(FaultKind::FullWindow);
    }
    assert!(full_windows > 5 && single_bytes > 5, "{full_windows} {single_bytes}");
}

#[test]
fn a_writer_waits_for_a_reader_that_does_not_read() {
    let world = World::new(1);
    let address = serve(&world, |env, stream| async move {
        env.sleep(Duration::from_secs(5)).await;
        drain(&stream).await;
    });
    run(&world, move |env| async move {
        let stream = connect(&env, address).await;
        let before = env.now();
        stream.write(vec![Bytes::from(vec![0; 4 << 20])]).await.expect("read in the end");
        assert!(env.now() - before > Duration::from_secs(4));
    });
}

#[test]
fn nobody_listens_and_nobody_is_there() {
    let world = World::new(1);
    let (off, here) = (world.machine("off"), world.machine("m"));
    world.start(off, 1, |_| std::future::pending());
    world.power_cut(off);
    let (off, here) = (world.address(off), world.address(here));
    run(&world, move |env| async move {
        let error = |result: std::io::Result<SimStream>| match result {
            Ok(_) => panic!("nobody is there"),
            Err(error) => error.kind(),
        };
        let refused = env.net().connect(SocketAddr::new(here, 1)).await;
        assert_eq!(error(refused), ErrorKind::ConnectionRefused);
        let before = env.now();
        assert_eq!(error(env.net().connect(SocketAddr::new(off, 1)).await), ErrorKind::TimedOut);
        assert!(env.now() - before >= Duration::from_secs(5));
        let unknown = "192.168.1.1:1".parse().expect("an address");
        assert_eq!(error(env.net().connect(unknown).await), ErrorKind::TimedOut);
    });
}

#[test]
fn shards_share_a_port_and_others_may_not() {
    let world = World::new(3);
    let server = world.machine("server");
    let served: Rc<[Cell<u32>; 3]> = Rc::default();
    let counts = Rc::clone(&served);
    world.start(server, 3, move |env| {
        let counts = Rc::clone(&counts);
        async move {
            let listener = env.net().listen(any()).await.expect("shards share");
            loop {
                let (_stream, peer) = listener.accept().await.expect("it listens");
                assert_eq!(peer.ip().to_string(), "10.0.0.2");
                let count = &counts[env.mesh().shard()];
                count.set(count.get() + 1);
            }
        }
    });
    let address = SocketAddr::new(world.address(server), PORT);
    world.occupy_port(world.machine("m"), 5);
    run(&world, move |env| async move {
        for _ in 0..60 {
            connect(&env, address).await;
        }
        let error = |address: &str| {
            let listening = env.net().listen(address.parse().expect("an address"));
            async move {
                match listening.await {
                    Ok(_) => panic!("it is not free"),
                    Err(error) => error.kind(),
                }
            }
        };
        assert_eq!(error("0.0.0.0:5").await, ErrorKind::AddrInUse);
        assert_eq!(error("10.0.0.1:6").await, ErrorKind::AddrNotAvailable);
        let one = env.net().listen("127.0.0.1:0".parse().expect("an address")).await.expect("free");
        let two = env.net().listen("127.0.0.1:0".parse().expect("an address")).await.expect("free");
        assert_ne!(one.local_address().port(), two.local_address().port());
        let port = one.local_address().port();
        drop(one);
        let closed = SocketAddr::new("127.0.0.1".parse().expect("an address"), port);
        assert!(env.net().connect(closed).await.is_err(), "nobody listens there any more");
        let remote =
            SocketAddr::new("10.0.0.2".parse().expect("an address"), two.local_address().port());
        assert!(
            env.net().connect(remote).await.is_err(),
            "a loopback listener hears loopback only"
        );
        env.net().connect(two.local_address()).await.expect("it listens");
    });
    assert!(served.iter().all(|count| count.get() > 5), "{served:?}");
}

#[test]
fn shards_share_sockets_and_none_has_one_twice() {
    for seed in 0..20 {
        let world = World::new(seed);
        let machine = world.machine("m");
        let ports = Rc::new(std::cell::RefCell::new(Vec::new()));
        let told = Rc::clone(&ports);
        world.start(machine, 3, move |env| {
            let ports = Rc::clone(&told);
            async move {
                let any = "127.0.0.1:0".parse().expect("an address");
                let one = env.net().listen(any).await.expect("free");
                let two = env.net().listen(any).await.expect("free");
                ports.borrow_mut().push((one.local_address(), two.local_address()));
                let again = env.net().listen(one.local_address()).await;
                assert_eq!(again.err().expect("it has it").kind(), ErrorKind::AddrInUse);
                std::future::pending::<()>().await;
            }
        });
        world.run_to_idle();
        let ports = ports.borrow();
        assert!(ports.len() == 3 && ports.iter().all(|both| both == &ports[0]), "{ports:?}");
        assert_ne!(ports[0].0, ports[0].1);
    }
}

#[test]
fn reads_without_room_are_refused_and_writes_of_nothing_succeed() {
    let world = World::new(3);
    let address = serve(&world, |_, stream| async move {
        stream.read(BytesMut::with_capacity(9)).await.0.ok();
    });
    run(&world, move |env| async move {
        let stream = connect(&env, address).await;
        let (result, buffer) = stream.read(BytesMut::new()).await;
        let error = result.expect_err("there is no room");
        assert_eq!((error.kind(), buffer.len()), (ErrorKind::InvalidInput, 0));
        stream.shutdown().await.expect("open");
        stream.write(vec![Bytes::new()]).await.expect("nothing to send");
        assert!(stream.write(vec![Bytes::from_static(b"x")]).await.is_err());
    });
}

/// What a client that reads sees after its server got something from it and was then struck.
fn struck(seed: u64, strike: impl Fn(&World) + 'static) -> (Option<ErrorKind>, usize, Duration) {
    let world = World::new(seed);
    let got = Rc::new(Cell::new(false));
    let flag = Rc::clone(&got);
    let address = serve(&world, move |_, stream| {
        let flag = Rc::clone(&flag);
        async move {
            stream.write(vec![Bytes::from(numbered(5000))]).await.expect("open");
            let (_, _) = stream.read(BytesMut::with_capacity(9)).await;
            flag.set(true);
            std::future::pending::<()>().await;
        }
    });
    let seen = Rc::new(RefCell::new(None));
    let sink = Rc::clone(&seen);
    world.start(world.machine("client"), 1, move |env| {
        let sink = Rc::clone(&sink);
        async move {
            let stream = connect(&env, address).await;
            stream.write(vec![Bytes::from_static(b"hello")]).await.expect("open");
            let (_, received, error) = drain(&stream).await;
            assert!(numbered(5000).starts_with(&received), "a prefix of what was sent");
            *sink.borrow_mut() = Some((error, received.len()));
        }
    });
    assert!(world.run_until(move || got.get(), Duration::from_secs(1)));
    strike(&world);
    let before = world.now();
    let done = Rc::clone(&seen);
    assert!(world.run_until(move || done.borrow().is_some(), Duration::from_secs(1000)));
    let (error, received) = seen.take().expect("it was seen");
    (error, received, world.now() - before)
}

#[test]
fn peers_of_a_killed_process_see_an_end_or_a_reset_soon() {
    let outcomes: Vec<_> =
        (0..60).map(|seed| struck(seed, |world| world.kill(world.machine("server")))).collect();
    assert!(outcomes.iter().all(|(_, _, after)| *after < Duration::from_millis(100)));
    let ends = outcomes.iter().filter(|(error, ..)| error.is_none());
    assert!(ends.clone().all(|(_, received, _)| *received == 5000), "an end follows all bytes");
    let resets = outcomes.iter().filter(|(error, ..)| *error == Some(ErrorKind::ConnectionReset));
    assert!(ends.clone().count() > 10 && resets.clone().count() > 10);
    assert_eq!(ends.count() + resets.count(), 60);
}

#[test]
fn peers_of_a_dead_machine_see_silence() {
    let outcomes: Vec<_> = (0..20)
        .map(|seed| struck(seed, |world| world.power_cut(world.machine("server"))))
        .collect();
    for (error, _, after) in &outcomes {
        assert_eq!(*error, Some(ErrorKind::TimedOut));
        assert!(*after > Duration::from_secs(10), "{after:?}");
    }
    let (error, _, after) = struck(1, |world| {
        let server = world.machine("server");
        world.crash_os(server);
        world.run_for(Duration::from_secs(3));
        world.start(server, 1, |_| std::future::pending());
    });
    assert_eq!(error, Some(ErrorKind::ConnectionReset), "the machine that is back says so");
    assert!(after < Duration::from_millis(100));
}

#[test]
fn dropping_a_stream_is_an_end_and_writing_to_it_a_reset() {
    let mut resets = 0;
    for seed in 0..40 {
        let world = World::new(seed);
        let address = serve(&world, |_, stream| async move {
            stream.write(vec![Bytes::from_static(b"bye")]).await.expect("open");
        });
        resets += run(&world, move |env| async move {
            let stream = connect(&env, address).await;
            let (_, received, error) = drain(&stream).await;
            assert_eq!((&received[..], error), (&b"bye"[..], None));
            loop {
                match stream.write(vec![Bytes::from_static(b"anyone there?")]).await {
                    Ok(()) => env.sleep(Duration::from_millis(1)).await,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                        return 1;
                    }
                }
            }
        });
    }
    assert_eq!(resets, 40);
}

#[test]
fn a_writer_does_not_wait_for_room_from_one_who_has_closed() {
    // Closed while the writer waits, and before it begins to: with the window full in both cases.
    for closes_after in [Duration::from_millis(50), Duration::from_millis(5)] {
        for seed in 0..40 {
            let world = World::new(seed);
            let address = serve(&world, move |env, stream| async move {
                env.sleep(closes_after).await;
                drop(stream);
            });
            let error = run(&world, move |env| async move {
                let stream = connect(&env, address).await;
                loop {
                    let written = stream.write(vec![Bytes::from(vec![0; 16 << 10])]).await;
                    if let Err(error) = written {
                        return error.kind();
                    }
                    env.sleep(Duration::from_micros(100)).await;
                }
            });
            assert_eq!(error, ErrorKind::ConnectionReset, "seed {seed}");
        }
    }
}

#[test]
fn connections_are_reset_at_random_if_faults_say_so() {
    let net = NetFaults { reset: 100_000, ..NetFaults::default() };
    let faults = Faults { net, ..Faults::default() };
    let world = World::with_options(WorldOptions { faults, ..WorldOptions::new(2) });
    let address = serve(&world, |_, stream| async move {
        drain(&stream).await;
    });
    run(&world, move |env| async move {
        let stream = connect(&env, address).await;
        while stream.write(vec![Bytes::from_static(b"x")]).await.is_ok() {
            env.sleep(Duration::from_millis(1)).await;
        }
    });
    assert_eq!(world.statistics().faults(FaultKind::RandomReset), 1);
}

#[test]
fn a_blocked_link_holds_packets_back_until_it_heals() {
    let world = World::new(4);
    let address = serve(&world, |_, stream| async move {
        let (_, bytes, _) = drain(&stream).await;
        stream.write(vec![Bytes::from(bytes)]).await.expect("open");
    });
    let (client, server) = (world.machine("client"), world.machine("server"));
    let phase = Rc::new(Cell::new(0));
    let shared = Rc::clone(&phase);
    world.start(client, 1, move |env| {
        let phase = Rc::clone(&shared);
        async move {
            let stream = connect(&env, address).await;
            phase.set(1);
            env.sleep(Duration::from_millis(10)).await;
            for byte in 0..100_u8 {
                stream.write(vec![Bytes::copy_from_slice(&[byte])]).await.expect("handed over");
            }
            stream.shutdown().await.expect("open");
            let (_, echoed, error) = drain(&stream).await;
            assert!(error.is_none() && echoed.into_iter().eq(0..100), "in order after the heal");
            phase.set(2);
        }
    });
    let connected = Rc::clone(&phase);
    assert!(world.run_until(move || connected.get() == 1, Duration::from_secs(1)));
    world.block(client, server);
    world.run_for(Duration::from_secs(60));
    assert_eq!(phase.get(), 1, "nothing passed");
    world.heal(client, server);
    world.run_for(Duration::from_secs(1));
    assert_eq!(phase.get(), 2);
}

#[test]
fn a_connection_attempt_that_is_dropped_closes_what_came_of_it() {
    let world = World::new(5);
    let ended = Rc::new(Cell::new(0_u32));
    let count = Rc::clone(&ended);
    let address = serve(&world, move |_, stream| {
        let count = Rc::clone(&count);
        async move {
            drain(&stream).await;
            count.set(count.get() + 1);
        }
    });
    run(&world, move |env| async move {
        connect(&env, address).await;
        for micros in 0..100 {
            let connecting = Box::pin(env.net().connect(address));
            let timeout = Box::pin(env.sleep(Duration::from_micros(micros * 5)));
            drop(futures_util::future::select(connecting, timeout).await);
        }
        env.sleep(Duration::from_secs(1)).await;
    });
    let accepted = world.statistics().connections;
    assert!(accepted > 20, "{accepted}");
    assert_eq!(u64::from(ended.get()), accepted, "no connection is left open");
}

/// A reset may throw away what has arrived and was not read, and with it the end that stood behind.
#[test]
fn a_reset_never_makes_an_end_of_what_it_throws_away() {
    let mut resets = 0;
    for seed in 0..40 {
        let world = World::new(seed);
        let address = serve(&world, |_, stream| async move {
            stream.write(vec![Bytes::from(numbered(5000))]).await.expect("open");
            stream.shutdown().await.expect("open");
            std::future::pending::<()>().await;
        });
        let seen = Rc::new(Cell::new(None));
        let (sink, client) = (Rc::clone(&seen), world.machine("client"));
        world.start(client, 1, move |env| {
            let sink = Rc::clone(&sink);
            async move {
                let stream = connect(&env, address).await;
                env.sleep(Duration::from_secs(1)).await;
                let (_, received, error) = drain(&stream).await;
                sink.set(Some((received.len(), error)));
            }
        });
        world.run_for(Duration::from_millis(500));
        world.reset_connections(client, world.machine("server"));
        world.run_for(Duration::from_secs(1));
        let (received, error) = seen.get().expect("it was seen");
        assert_eq!(error.is_none(), received == 5000, "seed {seed}: {received} {error:?}");
        resets += usize::from(error.is_some());
    }
    assert!((5..35).contains(&resets), "{resets}");
}
