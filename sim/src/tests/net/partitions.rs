//! Partitions and clogs: what they stop, what they do not, and that they end.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use super::{Chat, Speaks, calm, faults, time_until, world_with};
use crate::{Cut, FaultKind, MachineId, NetFaults, World};

const SECOND: Duration = Duration::from_secs(1);

/// Whether bytes come to the server and to the client.
fn passes(chat: &Chat, world: &World) -> (bool, bool) {
    let (up, down) = chat.progress(world, SECOND);
    (up > 500, down > 500)
}

/// Ends in a way that shows that nothing was lost.
fn goes_on(chat: &Chat, world: &World) -> bool {
    world.run_for(SECOND);
    passes(chat, world) == (true, true)
        && (chat.at_server.wrong.get(), chat.at_client.wrong.get()) == (0, 0)
}

#[test]
fn a_one_way_partition_is_one_way() {
    for cut in [Cut::Hold, Cut::Drop] {
        for there in [true, false] {
            let world = calm(1);
            let chat = Chat::new(&world, Speaks::Both);
            assert_eq!(passes(&chat, &world), (true, true));
            assert_eq!(faults(&world, FaultKind::CutPacket), 0);
            let (from, to) =
                if there { (chat.client, chat.server) } else { (chat.server, chat.client) };
            world.partition_one_way(&[from], &[to], cut);
            assert_eq!(passes(&chat, &world), (!there, there), "{cut:?}");
            for link in world.link_statistics() {
                assert_eq!(link.held > 0, (link.from, link.to) == (from, to), "{link:?}");
            }
            world.heal(to, from);
            assert_eq!(passes(&chat, &world), (!there, there), "the other way was healed");
            world.heal(from, to);
            assert!(goes_on(&chat, &world), "{cut:?}");
        }
    }
}

#[test]
fn a_partition_that_holds_packets_never_ends_a_connection_and_one_that_drops_them_does() {
    for there in [true, false] {
        for (cut, ends) in [(Cut::Hold, false), (Cut::Drop, true)] {
            let world = calm(2);
            let chat = Chat::new(&world, Speaks::Both);
            let (from, to) =
                if there { (chat.client, chat.server) } else { (chat.server, chat.client) };
            world.partition_one_way(&[from], &[to], cut);
            world.run_for(10 * SECOND);
            assert!(chat.at_client.end.get().is_none(), "nobody gives up so soon");
            world.run_for(60 * SECOND);
            for side in [&chat.at_client, &chat.at_server] {
                assert_eq!(side.failed_with(ErrorKind::TimedOut), ends, "{:?}", side.end.get());
            }
            assert_eq!(faults(&world, FaultKind::SilentPeer), if ends { 2 } else { 0 });
            world.heal_all();
            assert!(ends || goes_on(&chat, &world));
        }
    }
}

#[test]
fn a_dropping_partition_that_heals_in_time_ends_nothing() {
    let world = calm(3);
    let chat = Chat::new(&world, Speaks::Both);
    for _ in 0..10 {
        world.partition(&[chat.client], &[chat.server], Cut::Drop);
        world.run_for(14 * SECOND);
        world.heal(chat.client, chat.server);
        world.run_for(SECOND / 10);
        world.heal(chat.server, chat.client);
    }
    world.run_for(100 * SECOND);
    assert!(goes_on(&chat, &world));
    assert_eq!(faults(&world, FaultKind::SilentPeer), 0);
}

#[test]
fn a_dropping_partition_that_heals_one_way_ends_connections_all_the_same() {
    let world = calm(10);
    let chat = Chat::new(&world, Speaks::Both);
    world.partition(&[chat.client], &[chat.server], Cut::Drop);
    world.heal(chat.client, chat.server);
    world.run_for(60 * SECOND);
    assert!(chat.at_client.failed_with(ErrorKind::TimedOut));
    assert!(chat.at_server.failed_with(ErrorKind::TimedOut));
}

/// A partition that heals clears the silence it made, and no other.
#[test]
fn a_heal_does_not_help_what_is_silent_for_another_reason() {
    type Silence = fn(&World, &Chat);
    let silences: [Silence; 3] = [
        |world, chat| world.power_cut(chat.server),
        |world, chat| world.forget_connections(chat.server, chat.client),
        |world, chat| world.drop_packets(chat.client, chat.server, 6),
    ];
    for (index, silence) in silences.into_iter().enumerate() {
        let world = calm(11);
        let speaks = if index == 2 { Speaks::Client } else { Speaks::Nobody };
        let chat = Chat::new(&world, speaks);
        silence(&world, &chat);
        world.run_for(SECOND);
        world.partition(&[chat.client], &[chat.server], Cut::Drop);
        world.heal_all();
        world.run_for(60 * SECOND);
        assert!(chat.at_client.failed_with(ErrorKind::TimedOut), "silence {index}");
    }
}

#[test]
fn a_partition_need_not_be_transitive() {
    let world = calm(4);
    let pairs = [("a", "b"), ("b2", "c"), ("a2", "c2")];
    let chats = pairs.map(|(one, other)| Chat::between(&world, one, other, Speaks::Both));
    let [a, b, b2, c, a2, c2] = ["a", "b", "b2", "c", "a2", "c2"].map(|name| world.machine(name));
    assert_eq!((chats[0].client, chats[0].server, chats[1].client), (a, b, b2));
    world.partition(&[a, a2], &[c, c2], Cut::Hold);
    let all: Vec<_> = chats.iter().map(|chat| passes(chat, &world)).collect();
    assert_eq!(all, [(true, true), (true, true), (false, false)]);
    world.heal_all();
    assert!(goes_on(&chats[2], &world));
}

#[test]
fn an_isolated_machine_is_alone() {
    let world = calm(5);
    let one = Chat::between(&world, "a", "b", Speaks::Both);
    let two = Chat::between(&world, "c", "d", Speaks::Both);
    world.isolate(one.server, Cut::Drop);
    assert_eq!((passes(&one, &world), passes(&two, &world)), ((false, false), (true, true)));
    world.heal_all();
    assert!(goes_on(&one, &world));
}

#[test]
fn a_clog_slows_its_direction_to_a_crawl_and_ends() {
    for there in [true, false] {
        let world = calm(6);
        let chat = Chat::new(&world, Speaks::Both);
        let (from, to) =
            if there { (chat.client, chat.server) } else { (chat.server, chat.client) };
        world.clog(from, to, 10 * SECOND);
        let (up, down) = chat.progress(&world, 5 * SECOND);
        let (clogged, free) = if there { (up, down) } else { (down, up) };
        assert!((80..120).contains(&clogged) && free > 4000, "{clogged} {free}");
        for link in world.link_statistics() {
            assert_eq!(link.delayed > 0, (link.from, link.to) == (from, to), "{link:?}");
        }
        world.run_for(6 * SECOND);
        assert!(goes_on(&chat, &world), "it ended by itself");
        world.clog(from, to, Duration::MAX);
        world.run_for(5 * SECOND);
        world.unclog(from, to);
        assert!(goes_on(&chat, &world), "what waited went on");
    }
}

#[test]
fn a_clogged_machine_neither_sends_nor_receives_as_it_should() {
    for clogs_client in [true, false] {
        let world = calm(6);
        let chat = Chat::new(&world, Speaks::Both);
        let machine = if clogs_client { chat.client } else { chat.server };
        world.clog_machine(machine, 10 * SECOND);
        let (up, down) = chat.progress(&world, 5 * SECOND);
        assert!((80..120).contains(&up) && (80..120).contains(&down), "{up} {down}");
        world.unclog_machine(machine);
        assert!(goes_on(&chat, &world), "what waited went on");
    }
}

#[test]
fn a_clog_under_a_partition_goes_on_when_that_heals() {
    let world = calm(7);
    let chat = Chat::new(&world, Speaks::Both);
    world.clog(chat.client, chat.server, Duration::MAX);
    world.block(chat.client, chat.server);
    let (up, _) = chat.progress(&world, 5 * SECOND);
    assert_eq!(up, 0);
    world.heal(chat.client, chat.server);
    let (up, _) = chat.progress(&world, 5 * SECOND);
    assert!((80..120).contains(&up), "{up}");
    world.block(chat.client, chat.server);
    world.unclog(chat.client, chat.server);
    let (up, _) = chat.progress(&world, 5 * SECOND);
    assert_eq!(up, 0);
    world.heal_all();
    assert!(goes_on(&chat, &world));
}

#[test]
fn the_last_packet_comes_through_a_clog_when_its_partition_heals() {
    let world = calm(9);
    let chat = Chat::new(&world, Speaks::Nobody);
    world.clog(chat.server, chat.client, Duration::MAX);
    world.block(chat.server, chat.client);
    world.kill(chat.server);
    world.run_for(SECOND);
    assert!(chat.at_client.end.get().is_none());
    world.heal(chat.server, chat.client);
    world.run_for(SECOND);
    assert!(chat.at_client.end.get().is_some(), "no other packet came to push it");
}

#[test]
fn links_clog_by_themselves_if_faults_say_so() {
    for (clog, on) in [(0, false), (1000, true)] {
        let world = world_with(8, NetFaults { clog, ..NetFaults::none() });
        let chat = Chat::new(&world, Speaks::Both);
        let tenths = (0..200).map(|_| chat.progress(&world, SECOND / 10));
        let (up, down) =
            tenths.fold((100, 100), |least, now| (least.0.min(now.0), least.1.min(now.1)));
        assert_eq!(up < 5 && down < 5, on, "{up} {down}");
        assert!(on || up > 50 && down > 50, "{up} {down}");
        assert_eq!(faults(&world, FaultKind::CloggedPacket) > 0, on);
        let side = Rc::clone(&chat.at_server);
        assert!(time_until(&world, move || side.received.get() > 40_000) < 200 * SECOND);
    }
}

#[test]
fn a_swizzle_ends_with_everything_healed() {
    let mut shapes = BTreeSet::new();
    for seed in 0..16 {
        let world = calm(seed);
        let one = Chat::between(&world, "a", "b", Speaks::Both);
        let two = Chat::between(&world, "c", "d", Speaks::Both);
        let chats = [one, two];
        let machines: Vec<MachineId> = chats.iter().flat_map(|it| [it.client, it.server]).collect();
        let before = world.now();
        world.swizzle(&machines, SECOND);
        let links = world.link_statistics();
        let clogged = |chat: &Chat| {
            let hit =
                |from, to| links.iter().any(|l| (l.from, l.to) == (from, to) && l.delayed > 0);
            (hit(chat.client, chat.server), hit(chat.server, chat.client))
        };
        shapes.insert((clogged(&chats[0]), clogged(&chats[1])));
        assert!(world.now() - before <= 8 * SECOND);
        assert!(chats.iter().all(|chat| goes_on(chat, &world)), "seed {seed}");
        let slow = faults(&world, FaultKind::CloggedPacket);
        world.run_for(SECOND);
        assert_eq!(faults(&world, FaultKind::CloggedPacket), slow, "nothing is clogged any more");
    }
    let (both, none) = ((true, true), (false, false));
    let expected = [(none, both), (both, none), (both, both)];
    assert!(expected.iter().all(|shape| shapes.contains(shape)), "{shapes:?}");
    assert!(shapes.iter().all(|(one, two)| one.0 == one.1 && two.0 == two.1), "{shapes:?}");
}
