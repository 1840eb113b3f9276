//! Faults that a plan aims at one link, and what is counted there.

use std::io::ErrorKind;
use std::time::Duration;

use super::{Chat, Speaks, calm, faults, world_with};
use crate::{FaultKind, LinkStatistics, MachineId, NetFaults, World};

const SECOND: Duration = Duration::from_secs(1);

/// Both ways through a chat: the fault aimed from the first machine at the second, and which of the
/// two directions that is.
fn both_ways(
    seed: u64,
    aim: impl Fn(&World, MachineId, MachineId),
    check: impl Fn(&World, &Chat, bool),
) {
    for there in [true, false] {
        let world = calm(seed);
        let chat = Chat::new(&world, Speaks::Both);
        let (from, to) =
            if there { (chat.client, chat.server) } else { (chat.server, chat.client) };
        aim(&world, from, to);
        check(&world, &chat, there);
    }
}

/// How many bytes come the way that was aimed at, and the other, in a time.
fn aimed_and_other(world: &World, chat: &Chat, there: bool, duration: Duration) -> (usize, usize) {
    let (up, down) = chat.progress(world, duration);
    if there { (up, down) } else { (down, up) }
}

fn link(world: &World, from: MachineId, to: MachineId) -> LinkStatistics {
    let links = world.link_statistics();
    *links.iter().find(|link| (link.from, link.to) == (from, to)).expect("it was used")
}

#[test]
fn the_next_packets_are_dropped() {
    both_ways(
        1,
        |world, from, to| world.drop_packets(from, to, 2),
        |world, chat, there| {
            let (aimed, other) = aimed_and_other(world, chat, there, Duration::from_millis(550));
            assert!(aimed < 3 && other > 400, "200 ms, and twice that: {aimed} {other}");
            let (aimed, _) = aimed_and_other(world, chat, there, Duration::from_millis(100));
            assert!(aimed > 500, "and then all at once: {aimed}");
            assert_eq!(faults(world, FaultKind::LostPacket), 2);
            assert_eq!(chat.at_server.wrong.get() + chat.at_client.wrong.get(), 0);
        },
    );
}

#[test]
fn the_next_packet_is_delayed() {
    both_ways(
        2,
        |world, from, to| world.delay_packet(from, to, SECOND),
        |world, chat, there| {
            let (aimed, other) = aimed_and_other(world, chat, there, Duration::from_millis(900));
            assert!(aimed < 3 && other > 700, "{aimed} {other}");
            let (aimed, _) = aimed_and_other(world, chat, there, Duration::from_millis(200));
            assert!(aimed > 800, "{aimed}");
            assert_eq!(faults(world, FaultKind::SlowPacket), 1);
        },
    );
}

#[test]
fn the_next_packet_is_corrupted() {
    both_ways(
        3,
        |world, from, to| world.corrupt_packet(from, to),
        |world, chat, there| {
            world.run_for(SECOND);
            let wrong = (chat.at_server.wrong.get(), chat.at_client.wrong.get());
            assert_eq!(wrong, if there { (1, 0) } else { (0, 1) });
            assert_eq!(faults(world, FaultKind::CorruptPacket), 1);
        },
    );
}

#[test]
fn packets_are_corrupted_if_faults_say_so() {
    for (corrupt, on) in [(0, false), (10_000, true)] {
        let world = world_with(4, NetFaults { corrupt, ..NetFaults::none() });
        let chat = Chat::new(&world, Speaks::Both);
        world.run_for(5 * SECOND);
        assert_eq!(chat.at_server.wrong.get() > 10, on);
        assert_eq!(chat.at_client.wrong.get() > 10, on);
        let wrong = chat.at_server.wrong.get() + chat.at_client.wrong.get();
        assert_eq!(faults(&world, FaultKind::CorruptPacket), wrong as u64);
        let counted: u64 = world.link_statistics().iter().map(|link| link.corrupted).sum();
        assert_eq!(counted, wrong as u64);
    }
}

#[test]
fn connections_between_two_machines_are_reset_now() {
    both_ways(
        5,
        |world, one, other| world.reset_connections(one, other),
        |world, chat, _| {
            world.run_for(Duration::from_millis(1));
            for side in [&chat.at_client, &chat.at_server] {
                assert!(side.failed_with(ErrorKind::ConnectionReset), "{:?}", side.end.get());
            }
            assert_eq!(faults(world, FaultKind::AskedReset), 2);
        },
    );
    let world = calm(5);
    let chat = Chat::new(&world, Speaks::Both);
    let third = world.machine("third");
    world.reset_connections(chat.client, third);
    world.reset_connections(chat.server, third);
    let (up, down) = chat.progress(&world, SECOND);
    assert!(up > 500 && down > 500, "other connections live on");
    assert_eq!(faults(&world, FaultKind::AskedReset), 0);
}

#[test]
fn what_was_aimed_and_did_not_hit_is_forgotten_with_everything() {
    let world = calm(6);
    let chat = Chat::new(&world, Speaks::Client);
    world.drop_packets(chat.server, chat.client, 3);
    world.corrupt_packet(chat.client, chat.server);
    world.delay_packet(chat.client, chat.server, SECOND);
    world.cap_bandwidth(chat.client, chat.server, 1, Duration::MAX);
    world.gray_link(chat.client, chat.server, (100, 100), Duration::MAX);
    world.clog(chat.client, chat.server, Duration::MAX);
    world.block(chat.client, chat.server);
    world.refuse_connects(chat.server, 1, Duration::MAX);
    world.heal_all();
    let (up, _) = chat.progress(&world, SECOND);
    assert!(up > 700, "{up}");
    let link = link(&world, chat.client, chat.server);
    assert_eq!((link.lost, link.delayed, link.held, link.corrupted), (0, 0, 0, 0), "{link:?}");
}

#[test]
fn links_count_what_happens_on_them() {
    let world = calm(7);
    let chat = Chat::new(&world, Speaks::Client);
    world.run_for(SECOND);
    let up = link(&world, chat.client, chat.server);
    let down = link(&world, chat.server, chat.client);
    let sent = chat.at_server.received.get() as u64;
    assert!((sent..sent + 3).contains(&up.bytes), "{up:?}");
    assert!(up.packets > up.bytes && up.packets < up.bytes + 5, "each byte and the dials: {up:?}");
    assert_eq!((up.connections, down.connections), (1, 0));
    assert!((1..5).contains(&down.packets) && down.bytes == 0, "{down:?}");
    assert_eq!((up.resets, down.resets), (0, 0));
    world.forget_connections(chat.server, chat.client);
    world.run_for(SECOND);
    let down = link(&world, chat.server, chat.client);
    assert_eq!(down.resets, 1, "the answer to a byte that nobody knew");
    let pairs: Vec<_> = world.link_statistics().iter().map(|link| (link.from, link.to)).collect();
    assert!(pairs.is_sorted() && pairs.len() == 2, "{pairs:?}");
}
