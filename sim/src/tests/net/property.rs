//! Whatever budgeted faults do, what arrives is a prefix of what was sent.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use woodchuck_io::{Env as _, Listener as _, Net as _, Stream as _};

use super::{PORT, any};
use crate::{
    Cut, FaultKind, Faults, LinkProfile, MachineId, NetFaults, SimEnv, SimStream, Site, World,
    WorldOptions,
};

/// Bytes that each side of a connection sends.
const BYTES: usize = 40_000;

/// Byte `index` of what is sent: two ways differ, and neither repeats itself soon.
fn byte(way: usize, index: usize) -> u8 {
    (index * 31 + index / 251 * 7 + way * 101) as u8
}

/// What came of one side of a connection.
#[derive(Debug)]
struct Outcome {
    /// All bytes were as they were sent, as far as they came.
    exact: bool,
    received: usize,
    error: Option<ErrorKind>,
}

/// Sends everything in drawn pieces, and takes what comes.
async fn exchange(env: &SimEnv, stream: SimStream, way: usize) -> Outcome {
    let mut random = env.random("pieces");
    let sending = stream.clone();
    let writer = env.spawn("writer", async move {
        let mut sent = 0;
        while sent < BYTES {
            let length = (1 + random.below(3000) as usize).min(BYTES - sent);
            let piece: Vec<u8> = (sent..sent + length).map(|index| byte(way, index)).collect();
            if sending.write(vec![Bytes::from(piece)]).await.is_err() {
                return;
            }
            sent += length;
        }
        drop(sending.shutdown().await);
    });
    let mut outcome = Outcome { exact: true, received: 0, error: None };
    loop {
        let (result, bytes) = stream.read(BytesMut::with_capacity(4096)).await;
        match result {
            Ok(0) => break,
            Ok(_) => {
                let before = outcome.received;
                let mut values = bytes.iter().enumerate();
                outcome.exact &=
                    values.all(|(index, value)| byte(1 - way, before + index) == *value);
                outcome.received += bytes.len();
            }
            Err(error) => {
                outcome.error = Some(error.kind());
                break;
            }
        }
    }
    writer.await;
    outcome
}

/// Something that a plan does between two machines.
fn strike(world: &World, one: MachineId, other: MachineId) {
    let draw = |range| world.choose(Site::Plan, 0, range);
    let second = Duration::from_secs(1);
    let (from, to) = if draw(2) == 0 { (one, other) } else { (other, one) };
    match draw(12) {
        1 => world.partition_one_way(&[from], &[to], Cut::Hold),
        2 => world.partition_one_way(&[from], &[to], Cut::Drop),
        3 => world.partition(&[from], &[to], Cut::Drop),
        4 => world.clog(from, to, 20 * second),
        5 => world.gray_link(from, to, (1000, 10), 20 * second),
        6 => world.cap_bandwidth(from, to, 5_000, 20 * second),
        7 => world.drop_packets(from, to, 1 + draw(6) as u32),
        8 => world.delay_packet(from, to, second),
        9 => world.set_link(from, to, LinkProfile::MOBILE_3G),
        10 => world.swizzle(&[one, other], second),
        11 => world.reset_connections(one, other),
        _ => {}
    }
}

/// One client and one server that exchange what they have over and over, under this plan.
fn exchanges(seed: u64, net: NetFaults) -> (Vec<Outcome>, [u64; FaultKind::COUNT]) {
    let faults = Faults { net, ..Faults::none() };
    let world = World::with_options(WorldOptions { faults, ..WorldOptions::new(seed) });
    let (client, server) = (world.machine("client"), world.machine("server"));
    let outcomes: Rc<RefCell<Vec<Outcome>>> = Rc::default();
    let sink = Rc::clone(&outcomes);
    world.start(server, 1, move |env| {
        let sink = Rc::clone(&sink);
        async move {
            let listener = env.net().listen(any()).await.expect("free");
            loop {
                let (stream, _) = listener.accept().await.expect("it listens");
                let (inner, sink) = (env.clone(), Rc::clone(&sink));
                env.spawn("connection", async move {
                    let outcome = exchange(&inner, stream, 1).await;
                    sink.borrow_mut().push(outcome);
                })
                .detach();
            }
        }
    });
    let address = (world.address(server), PORT).into();
    let sink = Rc::clone(&outcomes);
    world.start(client, 1, move |env| {
        let sink = Rc::clone(&sink);
        async move {
            loop {
                if let Ok(stream) = env.net().connect(address).await {
                    let outcome = exchange(&env, stream, 0).await;
                    sink.borrow_mut().push(outcome);
                }
                env.sleep(Duration::from_secs(2)).await;
            }
        }
    });
    for _ in 0..6 {
        world.run_for(Duration::from_millis(200 + world.choose(Site::Plan, 1, 2000)));
        strike(&world, client, server);
    }
    world.run_for(Duration::from_secs(20));
    world.heal_all();
    world.run_for(Duration::from_secs(100));
    let before = outcomes.borrow().len();
    world.run_for(Duration::from_secs(100));
    assert!(outcomes.borrow().len() > before, "seed {seed}: nothing goes on after all healed");
    let statistics = world.statistics();
    let mut counts = [0; FaultKind::COUNT];
    for &kind in FaultKind::ALL {
        counts[kind as usize] = statistics.faults(kind);
    }
    (outcomes.take(), counts)
}

#[test]
fn streams_are_exact_prefixes_under_all_budgeted_faults() {
    let (mut totals, mut complete, mut broken) = ([0; FaultKind::COUNT], 0, 0);
    for seed in 0..40 {
        let (outcomes, counts) = exchanges(seed, Faults::swarm(seed).net);
        for outcome in &outcomes {
            assert!(outcome.exact && outcome.received <= BYTES, "seed {seed}: {outcome:?}");
            match outcome.error {
                None => {
                    assert_eq!(outcome.received, BYTES, "seed {seed}: an end follows all bytes")
                }
                Some(ErrorKind::ConnectionReset | ErrorKind::TimedOut) => {}
                Some(other) => panic!("seed {seed}: {other:?}"),
            }
            complete += usize::from(outcome.error.is_none());
            broken += usize::from(outcome.error.is_some());
        }
        totals.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
    }
    assert!(complete > 1000 && broken > 50, "{complete} {broken}");
    for kind in [
        FaultKind::SlowPacket,
        FaultKind::TailPacket,
        FaultKind::LostPacket,
        FaultKind::GrayPacket,
        FaultKind::CappedPacket,
        FaultKind::CloggedPacket,
        FaultKind::CutPacket,
        FaultKind::OneSidedConnect,
        FaultKind::HalfOpen,
        FaultKind::SilentPeer,
        FaultKind::RandomReset,
        FaultKind::AskedReset,
        FaultKind::PeerReset,
        FaultKind::ShortReceive,
        FaultKind::FullWindow,
        FaultKind::DialTimeout,
    ] {
        assert!(totals[kind as usize] > 0, "{kind:?} never mattered");
    }
    assert_eq!(totals[FaultKind::CorruptPacket as usize], 0);
}

#[test]
fn corruption_is_found_by_the_same_test() {
    let net = NetFaults { corrupt: 1000, ..NetFaults::none() };
    let (outcomes, counts) = exchanges(1, net);
    assert!(outcomes.iter().any(|outcome| !outcome.exact));
    assert!(counts[FaultKind::CorruptPacket as usize] > 0);
}
