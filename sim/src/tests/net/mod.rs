//! The network: streams, links, partitions, half-open connections, and faults that are aimed.
//!
//! Each kind of fault is shown to happen when it is on and not to when it is off, and each that has
//! a direction is shown to work in that one only.

mod aimed;
mod dials;
mod half_open;
mod links;
mod partitions;
mod property;
mod streams;

use std::cell::Cell;
use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use woodchuck_io::{Env as _, Listener as _, Net as _, Stream as _};

use super::run;
use crate::{FaultKind, Faults, MachineId, NetFaults, SimEnv, SimStream, World, WorldOptions};

const PORT: u16 = 9092;

fn any() -> SocketAddr {
    SocketAddr::new("0.0.0.0".parse().expect("an address"), PORT)
}

/// Starts a server on a machine of its own that treats each connection as `serve` does.
fn serve<F: Future<Output = ()> + 'static>(
    world: &World,
    serve: impl Fn(SimEnv, SimStream) -> F + 'static,
) -> SocketAddr {
    let machine = world.machine("server");
    let serve = Rc::new(serve);
    world.start(machine, 1, move |env| {
        let serve = Rc::clone(&serve);
        async move {
            let listener = env.net().listen(any()).await.expect("free");
            assert_eq!(listener.local_address(), any());
            loop {
                let (stream, _) = listener.accept().await.expect("it listens");
                env.spawn("connection", serve(env.clone(), stream)).detach();
            }
        }
    });
    SocketAddr::new(world.address(machine), PORT)
}

async fn connect(env: &SimEnv, address: SocketAddr) -> SimStream {
    loop {
        if let Ok(stream) = env.net().connect(address).await {
            return stream;
        }
        env.sleep(Duration::from_micros(100)).await;
    }
}

/// Reads to the end or to an error.
async fn drain(stream: &SimStream) -> (Vec<usize>, Vec<u8>, Option<ErrorKind>) {
    let (mut pieces, mut all) = (Vec::new(), Vec::new());
    loop {
        let (result, bytes) = stream.read(BytesMut::with_capacity(1 << 16)).await;
        match result {
            Ok(0) => return (pieces, all, None),
            Ok(length) => {
                assert_eq!(length, bytes.len());
                pieces.push(length);
                all.extend_from_slice(&bytes);
            }
            Err(error) => return (pieces, all, Some(error.kind())),
        }
    }
}

fn numbered(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 % 251) as u8).collect()
}

/// A world in which nothing but this goes wrong by itself.
fn world_with(seed: u64, net: NetFaults) -> World {
    let faults = Faults { net, ..Faults::none() };
    World::with_options(WorldOptions { faults, ..WorldOptions::new(seed) })
}

/// A world in which nothing goes wrong by itself.
fn calm(seed: u64) -> World {
    world_with(seed, NetFaults::none())
}

fn faults(world: &World, kind: FaultKind) -> u64 {
    world.statistics().faults(kind)
}

/// What one side of a chat has seen.
#[derive(Default)]
struct Side {
    /// Bytes received.
    received: Cell<usize>,
    /// Bytes among them that were not what the other side had sent.
    wrong: Cell<usize>,
    /// How reading ended: with an end, or with an error.
    end: Cell<Option<Result<(), ErrorKind>>>,
    /// How writing ended.
    write_error: Cell<Option<ErrorKind>>,
}

/// A connection between two machines over which both may say one byte each millisecond.
struct Chat {
    client: MachineId,
    server: MachineId,
    at_client: Rc<Side>,
    at_server: Rc<Side>,
}

/// Who speaks in a chat.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Both,
    Client,
    Nobody,
}

impl Chat {
    /// Starts a chat between the machines of these names, which is connected on return.
    fn between(world: &World, client: &str, server: &str, speaks: Speaks) -> Self {
        let (client, server) = (world.machine(client), world.machine(server));
        let (at_client, at_server) = (Rc::new(Side::default()), Rc::new(Side::default()));
        let side = Rc::clone(&at_server);
        world.start(server, 1, move |env| {
            let side = Rc::clone(&side);
            async move {
                let listener = env.net().listen(any()).await.expect("free");
                let (stream, _) = listener.accept().await.expect("it listens");
                side.talk(&env, stream, speaks == Speaks::Both).await;
            }
        });
        let address = SocketAddr::new(world.address(server), PORT);
        let connected = Rc::new(Cell::new(false));
        let (side, flag) = (Rc::clone(&at_client), Rc::clone(&connected));
        world.start(client, 1, move |env| {
            let (side, flag) = (Rc::clone(&side), Rc::clone(&flag));
            async move {
                let stream = connect(&env, address).await;
                flag.set(true);
                side.talk(&env, stream, speaks != Speaks::Nobody).await;
            }
        });
        assert!(world.run_until(move || connected.get(), Duration::from_secs(10)));
        world.run_for(Duration::from_millis(20));
        Self { client, server, at_client, at_server }
    }

    fn new(world: &World, speaks: Speaks) -> Self {
        Self::between(world, "client", "server", speaks)
    }

    /// How many bytes reach the server and the client in a time.
    fn progress(&self, world: &World, duration: Duration) -> (usize, usize) {
        let before = (self.at_server.received.get(), self.at_client.received.get());
        world.run_for(duration);
        let after = (self.at_server.received.get(), self.at_client.received.get());
        (after.0 - before.0, after.1 - before.1)
    }
}

impl Side {
    /// Reads for ever, and says something each millisecond.
    async fn talk(self: Rc<Self>, env: &SimEnv, stream: SimStream, speaks: bool) {
        let (side, reading) = (Rc::clone(&self), stream.clone());
        let reader = env.spawn("reader", async move {
            let end = loop {
                let (result, bytes) = reading.read(BytesMut::with_capacity(4096)).await;
                match result {
                    Ok(0) => break Ok(()),
                    Ok(_) => side.take(&bytes),
                    Err(error) => break Err(error.kind()),
                }
            };
            side.end.set(Some(end));
        });
        if speaks {
            self.write_error.set(Some(speak(env, &stream).await));
        }
        reader.await;
        std::future::pending::<()>().await;
    }

    fn take(&self, bytes: &[u8]) {
        let before = self.received.get();
        let wrong =
            bytes.iter().enumerate().filter(|(index, byte)| **byte != (before + index) as u8);
        self.wrong.set(self.wrong.get() + wrong.count());
        self.received.set(before + bytes.len());
    }

    /// Whether reading has ended with this error.
    fn failed_with(&self, kind: ErrorKind) -> bool {
        self.end.get() == Some(Err(kind))
    }
}

/// Says something each millisecond until it cannot any more.
async fn speak(env: &SimEnv, stream: &SimStream) -> ErrorKind {
    let mut said = 0_usize;
    loop {
        if let Err(error) = stream.write(vec![Bytes::copy_from_slice(&[said as u8])]).await {
            return error.kind();
        }
        said += 1;
        env.sleep(Duration::from_millis(1)).await;
    }
}

/// Lets time pass until `condition` holds, and returns how much did.
fn time_until(world: &World, condition: impl FnMut() -> bool) -> Duration {
    let before = world.now();
    assert!(world.run_until(condition, Duration::from_secs(10_000)), "it never happened");
    world.now() - before
}
