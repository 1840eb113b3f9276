//! What a link does to packets: latency, tail, loss, bandwidth, each way for itself.

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use woodchuck_io::{Env as _, Stream as _};

use super::{Chat, Speaks, calm, connect, drain, faults, run, serve, time_until, world_with};
use crate::{FaultKind, LinkProfile, NetFaults, World};

/// The least and the most time of round trips of one byte between "m" and "server".
fn round_trips(world: &World, count: usize) -> (Duration, Duration) {
    let address = serve(world, |_, stream| async move {
        loop {
            let (result, bytes) = stream.read(bytes::BytesMut::with_capacity(9)).await;
            if result.is_err() || stream.write(vec![bytes.freeze()]).await.is_err() {
                return;
            }
        }
    });
    run(world, move |env| async move {
        let stream = connect(&env, address).await;
        let mut extremes = (Duration::MAX, Duration::ZERO);
        for _ in 0..count {
            let before = env.now();
            stream.write(vec![Bytes::from_static(b"x")]).await.expect("open");
            let (result, _) = stream.read(bytes::BytesMut::with_capacity(9)).await;
            assert_eq!(result.expect("open"), 1);
            let took = env.now() - before;
            extremes = (extremes.0.min(took), extremes.1.max(took));
        }
        extremes
    })
}

#[test]
fn latencies_are_those_of_the_profile() {
    for (name, profile) in LinkProfile::NAMED {
        assert_eq!(LinkProfile::named(name), Some(profile));
        let world = calm(1);
        world.set_default_link(LinkProfile { tail: 0, loss: 0, ..profile });
        let (least, most) = round_trips(&world, 200);
        // Polls take some time too, and so does the line.
        let slack = Duration::from_micros(50);
        assert!(least >= 2 * profile.least, "{profile:?}: {least:?}");
        assert!(least <= 2 * profile.least + profile.spread / 2 + slack, "{profile:?}: {least:?}");
        assert!(most <= 2 * (profile.least + profile.spread) + slack, "{profile:?}: {most:?}");
        assert!(most >= 2 * profile.least + profile.spread, "{profile:?}: {most:?}");
    }
}

#[test]
fn a_packet_costs_one_choice_when_nothing_goes_wrong() {
    let world = calm(1);
    let before = world.statistics().choices;
    round_trips(&world, 200);
    let made = world.statistics().choices - before;
    assert!((400..430).contains(&made), "two packets for each round trip, and a start: {made}");
}

#[test]
fn a_link_that_was_spoken_of_keeps_its_profile_and_each_way_has_its_own() {
    let world = calm(1);
    let (client, server) = (world.machine("client"), world.machine("server"));
    let slow = LinkProfile { least: Duration::from_secs(1), ..LinkProfile::RACK };
    for (way, expected) in [((client, server), (0, 1)), ((server, client), (1, 0))] {
        let world = calm(1);
        let chat = Chat::new(&world, Speaks::Both);
        world.run_for(Duration::from_secs(1));
        world.set_link_one_way(way.0, way.1, slow);
        world.set_default_link(LinkProfile::RACK);
        // Nothing arrives the slow way for a second but what was on its way.
        let (up, down) = chat.progress(&world, Duration::from_millis(900));
        assert!((up > 500, down > 500) == (expected.0 == 1, expected.1 == 1), "{up} {down}");
        assert!(up.min(down) < 5, "{up} {down}");
    }
}

#[test]
fn the_tail_is_many_times_longer() {
    let tail = NetFaults { tail: 100_000, ..NetFaults::none() };
    let profile = LinkProfile { tail: 100_000, ..LinkProfile::RACK };
    for (net, profile, on) in [
        (NetFaults::none(), LinkProfile::RACK, false),
        (tail, LinkProfile::RACK, true),
        (NetFaults::none(), profile, true),
    ] {
        let world = world_with(1, net);
        world.set_default_link(profile);
        let (_, most) = round_trips(&world, 200);
        assert_eq!(most > Duration::from_millis(3), on, "{most:?}");
        assert_eq!(faults(&world, FaultKind::TailPacket) > 5, on);
        assert_eq!(world.link_statistics().iter().any(|link| link.delayed > 0), on);
    }
}

#[test]
fn slow_packets_are_slow() {
    for (slow, on) in [(0, false), (100_000, true)] {
        let world = world_with(1, NetFaults { slow, ..NetFaults::none() });
        let (_, most) = round_trips(&world, 200);
        assert_eq!(most > Duration::from_millis(10), on, "{most:?}");
        assert_eq!(faults(&world, FaultKind::SlowPacket) > 5, on);
    }
}

#[test]
fn a_lost_packet_is_a_late_one() {
    let loss = NetFaults { loss: 100_000, ..NetFaults::none() };
    let profile = LinkProfile { loss: 100_000, ..LinkProfile::RACK };
    for (net, profile, on) in [
        (NetFaults::none(), LinkProfile::RACK, false),
        (loss, LinkProfile::RACK, true),
        (NetFaults::none(), profile, true),
    ] {
        let world = world_with(1, net);
        world.set_default_link(profile);
        let (_, most) = round_trips(&world, 200);
        assert_eq!(most > Duration::from_millis(200), on, "{most:?}");
        assert_eq!(faults(&world, FaultKind::LostPacket) > 5, on);
        let lost: u64 = world.link_statistics().iter().map(|link| link.lost).sum();
        assert_eq!(lost, faults(&world, FaultKind::LostPacket));
    }
}

#[test]
fn more_packets_are_more_likely_to_lose_one() {
    let lost = |bytes: usize| {
        let world = calm(1);
        world.set_default_link(LinkProfile { loss: 10_000, ..LinkProfile::RACK });
        let address = serve(&world, |_, stream| async move {
            drain(&stream).await;
        });
        run(&world, move |env| async move {
            let stream = connect(&env, address).await;
            for _ in 0..100 {
                stream.write(vec![Bytes::from(vec![0; bytes])]).await.expect("open");
            }
        });
        faults(&world, FaultKind::LostPacket)
    };
    let (small, large) = (lost(1), lost(14_600));
    assert!(small < 5 && large > 5, "{small} {large}");
}

#[test]
fn a_sender_whose_packets_are_lost_too_often_gives_up() {
    let world = calm(1);
    let chat = Chat::new(&world, Speaks::Client);
    world.drop_packets(chat.client, chat.server, 6);
    let side = Rc::clone(&chat.at_client);
    let took = time_until(&world, move || side.write_error.get().is_some());
    assert_eq!(chat.at_client.write_error.get(), Some(ErrorKind::TimedOut));
    assert!((12..14).contains(&took.as_secs()), "{took:?}");
    assert!(chat.at_server.end.get().is_none(), "nobody has told the server");
    assert_eq!(faults(&world, FaultKind::HalfOpen), 1);
    let side = Rc::clone(&chat.at_server);
    let took = time_until(&world, move || side.end.get().is_some());
    assert!(chat.at_server.failed_with(ErrorKind::TimedOut) && took > Duration::from_secs(10));
    assert_eq!(chat.at_server.wrong.get(), 0);
}

/// How long so many bytes take from "m" to "server".
fn send(world: &World, bytes: usize) -> Duration {
    let arrived = Rc::new(Cell::new(0));
    let sum = Rc::clone(&arrived);
    let address = serve(world, move |_, stream| {
        let sum = Rc::clone(&sum);
        async move { sum.set(drain(&stream).await.1.len()) }
    });
    let before = world.now();
    world.start(world.machine("m"), 1, move |env| async move {
        let stream = connect(&env, address).await;
        for _ in 0..100 {
            stream.write(vec![Bytes::from(vec![0; bytes / 100])]).await.expect("open");
        }
        stream.shutdown().await.expect("open");
        let (_, rest, error) = drain(&stream).await;
        assert!(rest.is_empty() && error.is_none());
    });
    let running = world.clone();
    time_until(world, move || !running.is_running(running.machine("m")));
    assert_eq!(arrived.get(), bytes);
    world.now() - before
}

#[test]
fn bandwidth_bounds_throughput() {
    let slow = LinkProfile { bytes_per_second: 1_000_000, ..LinkProfile::RACK };
    let took = |set: &dyn Fn(&World)| {
        let world = calm(2);
        let _ = (world.machine("server"), world.machine("m"));
        set(&world);
        send(&world, 3_000_000)
    };
    assert!(took(&|_| {}) < Duration::from_secs(1));
    let both = took(&|world| world.set_link(world.machine("m"), world.machine("server"), slow));
    assert!((3000..3300).contains(&both.as_millis()), "{both:?}");
    let way = |world: &World| (world.machine("m"), world.machine("server"));
    let there = took(&|world| world.set_link_one_way(way(world).0, way(world).1, slow));
    assert!((3000..3300).contains(&there.as_millis()), "{there:?}");
    let back = took(&|world| world.set_link_one_way(way(world).1, way(world).0, slow));
    assert!(back < Duration::from_secs(1), "only the other way is slow: {back:?}");
}

#[test]
fn connections_share_the_line_of_their_link() {
    let world = calm(3);
    world.set_default_link(LinkProfile { bytes_per_second: 1_000_000, ..LinkProfile::RACK });
    let address = serve(&world, |_, stream| async move {
        drain(&stream).await;
    });
    let took = run(&world, move |env| async move {
        let (one, two) = (connect(&env, address).await, connect(&env, address).await);
        let before = env.now();
        for stream in [&one, &two, &one, &two] {
            stream.write(vec![Bytes::from(vec![0; 500_000])]).await.expect("open");
        }
        for stream in [one, two] {
            stream.shutdown().await.expect("open");
            drain(&stream).await;
        }
        env.now() - before
    });
    assert!((2000..2300).contains(&took.as_millis()), "{took:?}");
}

#[test]
fn a_capped_line_is_slow_for_as_long_as_it_is_capped() {
    let capped = |there: bool, duration| {
        let world = calm(2);
        let (server, client) = (world.machine("server"), world.machine("m"));
        let (from, to) = if there { (client, server) } else { (server, client) };
        world.cap_bandwidth(from, to, 1_000_000, duration);
        (send(&world, 3_000_000), faults(&world, FaultKind::CappedPacket))
    };
    let (took, count) = capped(true, Duration::MAX);
    assert!((3000..3300).contains(&took.as_millis()) && count > 10, "{took:?} {count}");
    let (took, _) = capped(true, Duration::from_secs(1));
    assert!((1000..1300).contains(&took.as_millis()), "{took:?}");
    let (took, _) = capped(false, Duration::MAX);
    assert!(took < Duration::from_secs(1), "{took:?}");
    let world = calm(2);
    let (server, client) = (world.machine("server"), world.machine("m"));
    world.cap_bandwidth(client, server, u64::MAX, Duration::MAX);
    send(&world, 3_000_000);
    assert_eq!(faults(&world, FaultKind::CappedPacket), 0, "the line is slower than that");
}

#[test]
fn a_gray_link_is_bad_in_one_direction_for_a_time() {
    for there in [true, false] {
        let world = calm(4);
        let chat = Chat::new(&world, Speaks::Both);
        let (from, to) =
            if there { (chat.client, chat.server) } else { (chat.server, chat.client) };
        world.gray_link(from, to, (100, 10), Duration::from_secs(5));
        world.run_for(Duration::from_secs(5));
        for link in world.link_statistics() {
            let bad = (link.from, link.to) == (from, to);
            assert_eq!(link.lost > 10, bad, "{link:?}");
            assert_eq!(link.delayed > 1000, bad, "{link:?}");
            assert!(bad || link.lost + link.delayed == 0, "{link:?}");
        }
        let lost = faults(&world, FaultKind::LostPacket);
        assert!(faults(&world, FaultKind::GrayPacket) > 1000);
        world.run_for(Duration::from_secs(5));
        assert_eq!(faults(&world, FaultKind::LostPacket), lost, "it is over");
        assert_eq!((chat.at_server.wrong.get(), chat.at_client.wrong.get()), (0, 0));
    }
}
