//! The Kafka broker of one shard.
//!
//! Every shard listens on the same address and serves whatever connections it gets; a request for
//! a partition of another shard goes there through the engine. To its clients the whole process is
//! one broker.
//!
//! What is answered where: `connection` reads requests and writes answers; `produce` and `fetch`
//! move records; `offsets` and `topics` answer the rest; `errors` says which of Kafka's error
//! codes each of the engine's errors is.

mod budget;
mod connection;
mod errors;
mod fetch;
mod offsets;
mod produce;
mod topics;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use event_listener::Event;
use futures_util::future::{Either, select};
use woodchuck::Engine;
use woodchuck_io::{Env, Listener, Net};

use crate::limits::{
    ACCEPT_RETRY, ANSWER_BUDGET_BYTES, CONNECTIONS, RECEIVE_BUDGET_BYTES, STOP_GRACE,
};
use budget::Budget;

/// The one broker's number.
const NODE_ID: i32 = 0;

/// How the broker presents itself.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    /// Where to listen. Port 0 picks a free port.
    pub address: SocketAddr,
    /// The host and port that clients are told to connect to. If absent, the address listened on.
    pub advertised: Option<(String, u16)>,
    /// Whether a client that asks for a topic that is not there gets it created.
    pub auto_create_topics: bool,
    /// How many partitions a topic gets when its creator does not say.
    pub default_partitions: u32,
}

impl KafkaOptions {
    /// The usual settings, on this address.
    #[must_use]
    pub const fn new(address: SocketAddr) -> Self {
        Self { address, advertised: None, auto_create_topics: true, default_partitions: 1 }
    }
}

/// The broker of one shard, listening.
pub struct Kafka<E: Env> {
    listener: <E::Net as Net>::Listener,
    broker: Broker<E>,
}

/// What all connections of one shard share. Cheap to clone.
struct Broker<E: Env> {
    inner: Rc<BrokerInner<E>>,
}

impl<E: Env> Clone for Broker<E> {
    fn clone(&self) -> Self {
        Self { inner: Rc::clone(&self.inner) }
    }
}

struct BrokerInner<E: Env> {
    env: E,
    engine: Engine<E>,
    advertised_host: String,
    advertised_port: u16,
    auto_create_topics: bool,
    default_partitions: u32,
    /// For requests that arrive, and those that are not answered.
    requests: Budget,
    /// For records on their way to consumers.
    answers: Budget,
    connections: Cell<usize>,
    disconnected: Event,
    /// Set when the broker is asked to stop: connections finish what they began.
    stopping: Cell<bool>,
    stop: Event,
}

impl<E: Env> Kafka<E> {
    /// Starts to listen.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub async fn listen(env: E, engine: Engine<E>, options: KafkaOptions) -> std::io::Result<Self> {
        let listener = env.net().listen(options.address).await?;
        let local = listener.local_address();
        let (advertised_host, advertised_port) =
            options.advertised.unwrap_or_else(|| (advertised_host(local), local.port()));
        let inner = BrokerInner {
            env,
            engine,
            advertised_host,
            advertised_port,
            auto_create_topics: options.auto_create_topics,
            default_partitions: options.default_partitions,
            requests: Budget::new(RECEIVE_BUDGET_BYTES),
            answers: Budget::new(ANSWER_BUDGET_BYTES),
            connections: Cell::new(0),
            disconnected: Event::new(),
            stopping: Cell::new(false),
            stop: Event::new(),
        };
        Ok(Self { listener, broker: Broker { inner: Rc::new(inner) } })
    }

    /// The address listened on.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.listener.local_address()
    }

    /// Serves connections until the process is asked to stop; then lets each finish the requests
    /// it has, for a few seconds at most.
    pub async fn serve(self) {
        let env = self.broker.inner.env.clone();
        {
            let stopping = std::pin::pin!(self.broker.inner.engine.stopping());
            let accepting = std::pin::pin!(self.accept());
            match select(stopping, accepting).await {
                Either::Left(_) | Either::Right(_) => {}
            }
        }
        self.broker.inner.stopping.set(true);
        self.broker.inner.stop.notify(usize::MAX);
        let finished = std::pin::pin!(self.broker.all_disconnected());
        let late = std::pin::pin!(env.sleep(STOP_GRACE));
        if let Either::Right(_) = select(finished, late).await {
            tracing::warn!("{} connections did not finish in time", self.broker.connections());
        }
    }

    async fn accept(&self) {
        let inner = &self.broker.inner;
        loop {
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    inner.env.sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            if inner.connections.get() >= CONNECTIONS {
                tracing::warn!(%peer, "closing connection: {CONNECTIONS} are open already");
                continue;
            }
            let connected = Connected::new(self.broker.clone());
            let serve = async move { connection::serve(connected, stream, peer).await };
            inner.env.spawn("connection", serve).detach();
        }
    }
}

impl<E: Env> Broker<E> {
    fn connections(&self) -> usize {
        self.inner.connections.get()
    }

    async fn all_disconnected(&self) {
        while self.connections() > 0 {
            let disconnected = self.inner.disconnected.listen();
            if self.connections() > 0 {
                disconnected.await;
            }
        }
    }

    /// Completes when the broker has been asked to stop.
    async fn stopping(&self) {
        while !self.inner.stopping.get() {
            let stop = self.inner.stop.listen();
            if !self.inner.stopping.get() {
                stop.await;
            }
        }
    }
}

/// A connection's hold on the broker: counted while it lives.
struct Connected<E: Env> {
    broker: Broker<E>,
}

impl<E: Env> Connected<E> {
    fn new(broker: Broker<E>) -> Self {
        broker.inner.connections.set(broker.inner.connections.get() + 1);
        Self { broker }
    }
}

impl<E: Env> Drop for Connected<E> {
    fn drop(&mut self) {
        let inner = &self.broker.inner;
        inner.connections.set(inner.connections.get() - 1);
        inner.disconnected.notify(usize::MAX);
    }
}

/// What to tell clients when nobody said: the address listened on, or the loopback address if that
/// is "any".
fn advertised_host(local: SocketAddr) -> String {
    if local.ip().is_unspecified() {
        tracing::warn!(
            "clients on other machines cannot be told where {local} is; give --advertise HOST:PORT"
        );
        return "127.0.0.1".to_owned();
    }
    local.ip().to_string()
}
