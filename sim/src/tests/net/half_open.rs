//! Connections of which one end knows more than the other.

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use woodchuck_io::{Env as _, Net as _, Stream as _};

use super::{Chat, Speaks, calm, connect, drain, faults, run, serve, time_until, world_with};
use crate::{Cut, FaultKind, NetFaults};

#[test]
fn a_direction_that_ended_leaves_the_other_as_it_is() {
    let world = calm(1);
    let address = serve(&world, |env, stream| async move {
        let (_, request, error) = drain(&stream).await;
        assert_eq!((&request[..], error), (&b"all I have to say"[..], None));
        for _ in 0..100 {
            env.sleep(Duration::from_millis(10)).await;
            stream.write(vec![Bytes::from_static(b"ten bytes.")]).await.expect("it reads");
        }
    });
    run(&world, move |env| async move {
        let stream = connect(&env, address).await;
        stream.write(vec![Bytes::from_static(b"all I have to say")]).await.expect("open");
        stream.shutdown().await.expect("open");
        let (_, reply, error) = drain(&stream).await;
        assert_eq!((reply.len(), error), (1000, None));
    });
}

#[test]
fn a_reader_alone_learns_of_a_half_open_connection_in_the_end() {
    for forgetful_client in [true, false] {
        let world = calm(2);
        let chat = Chat::new(&world, Speaks::Nobody);
        assert_eq!(faults(&world, FaultKind::HalfOpen), 0);
        let (machine, peer, other) = if forgetful_client {
            (chat.client, chat.server, &chat.at_server)
        } else {
            (chat.server, chat.client, &chat.at_client)
        };
        world.forget_connections(machine, peer);
        assert_eq!(faults(&world, FaultKind::HalfOpen), 1);
        let side = Rc::clone(other);
        let took = time_until(&world, move || side.end.get().is_some());
        assert!(other.failed_with(ErrorKind::TimedOut));
        assert!((15..60).contains(&took.as_secs()), "{took:?}");
    }
}

#[test]
fn whoever_sends_on_a_half_open_connection_learns_of_it_at_once() {
    let world = calm(3);
    let chat = Chat::new(&world, Speaks::Client);
    world.forget_connections(chat.server, chat.client);
    assert!(chat.at_client.end.get().is_none(), "it was not told");
    let side = Rc::clone(&chat.at_client);
    let took = time_until(&world, move || side.end.get().is_some());
    assert!(chat.at_client.failed_with(ErrorKind::ConnectionReset));
    assert!(chat.at_server.failed_with(ErrorKind::ConnectionReset));
    assert!(took < Duration::from_millis(10), "{took:?}");
}

#[test]
fn a_lost_reset_leaves_a_connection_half_open() {
    for lost in [true, false] {
        let world = calm(4);
        let chat = Chat::new(&world, Speaks::Nobody);
        if lost {
            world.partition_one_way(&[chat.server], &[chat.client], Cut::Drop);
        }
        // The reset and the end are drawn; what is on its way meets the partition.
        world.kill(chat.server);
        world.run_for(Duration::from_secs(1));
        assert_eq!(chat.at_client.end.get().is_none(), lost);
        world.heal_all();
        let side = Rc::clone(&chat.at_client);
        time_until(&world, move || side.end.get().is_some());
        let end = chat.at_client.end.get();
        assert!(lost || matches!(end, Some(Ok(()) | Err(ErrorKind::ConnectionReset))), "{end:?}");
    }
    // In some worlds it was a reset that was lost.
    let timed_out = |seed| {
        let world = calm(seed);
        let chat = Chat::new(&world, Speaks::Nobody);
        world.partition_one_way(&[chat.server], &[chat.client], Cut::Drop);
        world.kill(chat.server);
        world.run_for(Duration::from_secs(1));
        world.heal_all();
        let side = Rc::clone(&chat.at_client);
        let took = time_until(&world, move || side.end.get().is_some());
        let timed_out = chat.at_client.failed_with(ErrorKind::TimedOut);
        assert_eq!(timed_out, took > Duration::from_secs(10), "seed {seed}: {took:?}");
        assert_eq!(faults(&world, FaultKind::HalfOpen) > 0, timed_out);
        timed_out
    };
    let count = (0..20).filter(|&seed| timed_out(seed)).count();
    assert!((3..18).contains(&count), "{count}");
}

#[test]
fn a_connection_may_come_to_be_on_one_side_only() {
    let mut seen = [0; 3];
    for seed in 0..40 {
        for (one_sided, on) in [(0, false), (1_000_000, true)] {
            let world = world_with(seed, NetFaults { one_sided, ..NetFaults::none() });
            let accepted = Rc::new(Cell::new(None));
            let slot = Rc::clone(&accepted);
            let address = serve(&world, move |_, stream| {
                let slot = Rc::clone(&slot);
                async move {
                    let (_, _, error) = drain(&stream).await;
                    slot.set(Some(error));
                }
            });
            let dialled = run(&world, move |env| async move {
                env.sleep(Duration::from_millis(1)).await;
                let stream = env.net().connect(address).await.map_err(|error| error.kind())?;
                stream.write(vec![Bytes::from_static(b"hello?")]).await.expect("open");
                stream.shutdown().await.expect("open");
                let (result, _) = stream.read(BytesMut::with_capacity(9)).await;
                result.map_err(|error| error.kind())
            });
            world.run_for(Duration::from_secs(100));
            let count = faults(&world, FaultKind::OneSidedConnect);
            assert_eq!(count > 0, on);
            match dialled {
                Ok(0) => assert!(!on && accepted.get() == Some(None), "both sides have it"),
                Err(ErrorKind::ConnectionReset) => {
                    // The server never had it, or has one that an earlier request left behind.
                    assert!(matches!(accepted.get(), None | Some(Some(ErrorKind::TimedOut))));
                    seen[0] += usize::from(accepted.get().is_none());
                }
                Err(ErrorKind::TimedOut) => {
                    seen[1] += 1;
                    seen[2] += usize::from(accepted.get() == Some(Some(ErrorKind::TimedOut)));
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(seen.iter().all(|&count| count > 3), "{seen:?}");
}
