//! The chronicle tells what happened, in order, with numbers that match.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use woodchuck_io::{
    Disk as _, Durability, Env as _, Listener as _, Net as _, OpenMode, Stream as _,
};

use super::determinism::live;
use super::{create, write};
use crate::limits::CHRONICLE_OCCURRENCES;
use crate::{
    Chronicle, DiskOperation, FaultKind, Faults, Happening, Occurrence, SimEnv, World, WorldOptions,
};

fn chronicled(seed: u64, faults: Faults) -> World {
    World::with_options(WorldOptions { chronicle: true, faults, ..WorldOptions::new(seed) })
}

/// Stores the first thing it is sent, and answers.
async fn store_one(env: SimEnv) {
    let file = create(&env, "/old").await;
    write(&file, 1, 2, 1, Durability::Durable).await;
    env.disk().rename(Path::new("/old"), Path::new("/log")).await.expect("healthy");
    let listener = env.net().listen("0.0.0.0:9".parse().expect("an address")).await.expect("free");
    let (stream, _) = listener.accept().await.expect("it listens");
    let (_, bytes) = stream.read(BytesMut::with_capacity(100)).await;
    write(&file, 0, 1, bytes[0], Durability::Durable).await;
    stream.write(vec![Bytes::from_static(b"ok")]).await.expect("open");
    std::future::pending::<()>().await;
}

async fn ask_one(env: SimEnv, server: IpAddr) {
    drop(env.net().connect((server, 7).into()).await);
    env.sleep(Duration::from_millis(10)).await;
    let operation = env.operation(3, format_args!("store {}", 5));
    let stream = env.net().connect((server, 9).into()).await.expect("it listens");
    stream.write(vec![Bytes::from_static(b"hello")]).await.expect("open");
    let (_, bytes) = stream.read(BytesMut::with_capacity(100)).await;
    env.operation_ended(operation, String::from_utf8_lossy(&bytes));
    let (result, _) = stream.read(BytesMut::with_capacity(100)).await;
    env.note(format_args!("sees {}", result.expect_err("it never answers").kind()));
}

/// A server that stores one thing and loses power, and a client.
fn small() -> World {
    let world = chronicled(1, Faults::none());
    let (server, client) = (world.machine("server"), world.machine("client"));
    let address = world.address(server);
    world.start(server, 1, store_one);
    world.start(client, 1, move |env| ask_one(env, address));
    world.run_for(Duration::from_millis(50));
    world.note(server, "enough");
    world.block(client, server);
    world.heal(client, server);
    world.stop(server);
    world.power_cut(server);
    world.run_for(Duration::from_secs(100));
    world
}

/// What happened on a machine.
fn on(chronicle: &Chronicle, name: &str) -> Vec<Happening> {
    let on = chronicle.occurrences.iter().filter(|it| chronicle.machine_name(it.machine) == name);
    on.map(|it| it.what.clone()).collect()
}

#[test]
fn a_small_world_is_told_in_order_with_numbers_that_match() {
    use Happening as H;
    let chronicle = small().chronicle();
    assert_eq!(chronicle.machines, ["server", "client"]);
    let disk = |told: &mut Vec<H>, operation, kind, path: &str, bytes| {
        let (path, error) = (Some(path.to_owned()), None);
        told.push(H::DiskSubmitted { operation, kind, path, bytes });
        told.push(H::DiskHappened { operation, error });
        told.push(H::DiskCompleted { operation, kind, bytes, error });
    };
    let mut expected = vec![H::Started { process: 1 }];
    disk(&mut expected, 1, DiskOperation::Open, "/old", 0);
    disk(&mut expected, 2, DiskOperation::SyncDirectory, "/", 0);
    disk(&mut expected, 3, DiskOperation::Write, "/old", 8192);
    disk(&mut expected, 4, DiskOperation::Rename, "/old", 0);
    let (packet, connection, client) = (1, 1, 1);
    expected.push(H::PacketArrived { packet, connection, from: client, bytes: 5, rest: 0 });
    disk(&mut expected, 5, DiskOperation::Write, "/log", 4096);
    expected.push(H::PacketSent { packet: 2, connection, to: client, bytes: 2 });
    expected.push(H::Note { text: "enough".to_owned() });
    expected.extend([H::AskedToStop, H::PowerCut]);
    // Nobody synced the rename.
    expected.push(H::Lost { kind: FaultKind::LostName, count: 1 });
    assert_eq!(on(&chronicle, "server"), expected, "{chronicle}");

    let mut told = on(&chronicle, "client").into_iter();
    let mut next = || told.next().expect("more happened");
    assert_eq!(next(), H::Started { process: 2 });
    assert!(matches!(next(), H::ConnectionRefused { to } if to.port() == 7));
    let H::OperationBegan { operation, client: 3, text } = next() else { panic!("{chronicle}") };
    assert_eq!((operation.number(), text.as_str()), (1, "store 5"));
    assert_eq!(next(), H::ConnectionOpened { connection, to: 0 });
    assert_eq!(next(), H::PacketSent { packet, connection, to: 0, bytes: 5 });
    assert_eq!(next(), H::PacketArrived { packet: 2, connection, from: 0, bytes: 2, rest: 0 });
    let outcome = "ok".to_owned();
    assert_eq!(next(), H::OperationEnded { operation, client: 3, outcome });
    assert_eq!(next(), H::LinkBlocked { to: 0 });
    assert_eq!(next(), H::LinkHealed { to: 0 });
    assert_eq!(next(), H::ConnectionReset { connection, error: ErrorKind::TimedOut });
    assert_eq!(next(), H::Note { text: "sees timed out".to_owned() });
    assert_eq!(next(), H::ConnectionClosed { connection });
    assert_eq!(next(), H::Exited { process: 2 });
    assert_eq!(told.next(), None);

    let note = Happening::Note { text: "enough".to_owned() };
    let noted = chronicle.occurrences.iter().find(|it| it.what == note);
    assert_eq!(noted.map(|it| it.time), Some(Duration::from_millis(50)));
    let text = chronicle.to_string();
    assert_eq!(text.lines().count(), chronicle.occurrences.len());
    assert!(text.contains("client/0  packet 1 to server on 1, 5 bytes\n"), "{text}");
    assert!(text.contains("server/0  disk 5 Write /log, 4096 bytes\n"), "{text}");
}

/// What is left out of a world without a chronicle is not even made.
struct NeverMade;

impl fmt::Display for NeverMade {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("nobody asked for a text")
    }
}

#[test]
fn without_a_chronicle_nothing_is_told_and_the_run_is_the_same() {
    let faults = Faults::unrestricted(6);
    let silent =
        World::with_options(WorldOptions { faults: faults.clone(), ..WorldOptions::new(6) });
    let telling = chronicled(6, faults);
    assert_eq!(live(&silent), live(&telling));
    let machine = silent.machine("server");
    silent.note(machine, NeverMade);
    let operation = silent.operation(machine, 1, NeverMade);
    silent.operation_ended(operation, NeverMade);
    assert_eq!((silent.chronicle(), operation.number()), (Chronicle::default(), 0));
    assert!(telling.chronicle().occurrences.len() > 1000);
}

#[test]
fn two_runs_are_told_alike() {
    for seed in 0..5 {
        let (one, two) =
            (chronicled(seed, Faults::swarm(seed)), chronicled(seed, Faults::swarm(seed)));
        live(&one);
        live(&two);
        assert_eq!(one.chronicle(), two.chronicle());
    }
}

/// Matches what belongs together in a chronicle from which nothing was forgotten.
fn check(world: &World) -> BTreeSet<FaultKind> {
    use Happening as H;
    let chronicle = world.chronicle();
    let mut faults = BTreeSet::new();
    // What is still to arrive of each packet, and how far each disk operation has come.
    let (mut packets, mut disk) = (BTreeMap::new(), BTreeMap::new());
    let (mut opened, mut arrived) = (0, 0);
    let (mut lost, mut time) = (BTreeMap::new(), Duration::ZERO);
    for Occurrence { time: at, machine, what, .. } in &chronicle.occurrences {
        assert!(*at >= time, "in order of time");
        time = *at;
        match what {
            H::ConnectionOpened { connection, .. } => {
                opened += 1;
                assert_eq!(*connection, opened);
            }
            H::PacketSent { packet, connection, to, bytes } => {
                assert_eq!(*packet, packets.len() as u64 + 1);
                packets.insert(*packet, (*connection, *machine, *to, Some(*bytes)));
            }
            H::PacketArrived { packet, connection, from, bytes, rest } => {
                let (on, sender, to, left) = packets.get_mut(packet).expect("it was sent");
                assert_eq!((&*on, &*sender, &*to), (connection, from, machine));
                assert_eq!(left.expect("not arrived before"), bytes + rest);
                *left = (*rest > 0).then_some(*rest);
                arrived += bytes;
            }
            H::PacketLost { packet, .. } => {
                let left = &mut packets.get_mut(packet).expect("it was sent").3;
                assert!(left.take().is_some(), "not arrived before");
            }
            H::DiskSubmitted { operation, path, .. } => {
                assert_eq!(disk.insert(*operation, (*machine, 0)), None);
                assert!(path.as_ref().is_some_and(|path| path.starts_with('/')), "{path:?}");
            }
            H::DiskHappened { operation, .. } => {
                assert_eq!(disk.insert(*operation, (*machine, 1)), Some((*machine, 0)));
            }
            H::DiskCompleted { operation, .. } => {
                assert_eq!(disk.insert(*operation, (*machine, 2)), Some((*machine, 1)));
            }
            H::Fault { kind, .. } => {
                faults.insert(*kind);
            }
            H::Lost { kind, count } => *lost.entry(*kind).or_insert(0) += count,
            H::Controlled { note } => panic!("{note} has no name of its own"),
            _ => {}
        }
    }
    let statistics = world.statistics();
    assert_eq!((opened, arrived), (statistics.connections, statistics.net_bytes));
    assert!(packets.len() > 100 && disk.values().any(|(_, state)| *state == 2));
    for kind in [FaultKind::LostBlock, FaultKind::ShornSector, FaultKind::LostName] {
        assert_eq!(lost.get(&kind).copied().unwrap_or(0), statistics.faults(kind), "{kind:?}");
    }
    faults.extend(lost.into_keys());
    faults
}

#[test]
fn what_belongs_together_matches_through_every_kind_of_crash() {
    let mut told = BTreeSet::new();
    for seed in 0..20 {
        let mut faults = Faults::swarm(seed);
        faults.net.segment = 200_000;
        let world = chronicled(seed, faults);
        live(&world);
        world.run_for(Duration::from_secs(60));
        told.extend(check(&world));
    }
    let kinds = [FaultKind::SlowDisk, FaultKind::SlowPacket, FaultKind::LateTimer];
    for kind in kinds.into_iter().chain([FaultKind::LostBlock, FaultKind::LostName]) {
        assert!(told.contains(&kind), "{kind:?} is told");
    }
    for kind in [FaultKind::PowerCut, FaultKind::PeerReset, FaultKind::Refused] {
        assert!(!told.contains(&kind), "{kind:?} is told as what it is");
    }
}

#[test]
fn lost_packets_panics_and_errors_are_told() {
    use Happening as H;
    let world = chronicled(3, Faults::none());
    let (server, client) = (world.machine("server"), world.machine("client"));
    let address = world.address(server);
    world.start(server, 1, |env| async move {
        let listener = env.net().listen("0.0.0.0:9".parse().expect("an address")).await;
        let _stream = listener.expect("free").accept().await.expect("it listens");
        std::future::pending::<()>().await;
    });
    world.start(client, 1, move |env| async move {
        let missing = env.disk().open(Path::new("/missing"), OpenMode::Read).await;
        assert!(missing.is_err());
        env.sleep(Duration::from_millis(1)).await;
        let stream = env.net().connect((address, 9).into()).await.expect("it listens");
        env.sleep(Duration::from_millis(10)).await;
        stream.write(vec![Bytes::from_static(b"hello")]).await.expect("open");
        env.sleep(Duration::from_secs(1)).await;
        panic!("on purpose");
    });
    world.run_for(Duration::from_millis(5));
    world.power_cut(server);
    world.try_run_for(Duration::from_secs(5)).expect_err("the client panics");
    let chronicle = world.chronicle();
    let told = on(&chronicle, "client");
    let error = Some(ErrorKind::NotFound);
    let (operation, kind, bytes) = (1, DiskOperation::Open, 0);
    assert!(told.contains(&H::DiskHappened { operation, error }), "{chronicle}");
    assert!(told.contains(&H::DiskCompleted { operation, kind, bytes, error }), "{chronicle}");
    let panic = H::TaskPanicked { task: "main", message: "on purpose".to_owned() };
    assert_eq!(told.last(), Some(&panic), "{chronicle}");
    let lost = H::PacketLost { packet: 1, connection: 1, from: 1 };
    assert_eq!(on(&chronicle, "server").last(), Some(&lost), "{chronicle}");
}

#[test]
fn the_oldest_is_forgotten() {
    let world = chronicled(1, Faults::none());
    let machine = world.machine("m");
    for number in 0..CHRONICLE_OCCURRENCES + 7 {
        world.note(machine, number);
    }
    let chronicle = world.chronicle();
    assert_eq!((chronicle.occurrences.len(), chronicle.forgotten), (CHRONICLE_OCCURRENCES, 7));
    assert_eq!(chronicle.occurrences[0].what, Happening::Note { text: "7".to_owned() });
    assert!(chronicle.to_string().starts_with("7 earlier occurrences are forgotten\n"));
}
