//! Clients that work and check.

mod consumer;
mod hostile;
mod janitor;
mod producer;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::{Env, RandomStream};
use woodchuck_server::protocol::ErrorCode;

use crate::client::{Client, ClientError, Diary};
use crate::history::History;

pub(crate) use consumer::{consume, read_all};
pub(crate) use hostile::harass;
pub(crate) use janitor::tidy;
pub(crate) use producer::{Habits, produce};

/// The topic that all bots but the janitor work on.
pub(crate) const TOPIC: &str = "ledger";

/// What bots share.
#[derive(Clone)]
pub(crate) struct Shared {
    /// Where the broker is.
    pub(crate) address: SocketAddr,
    /// Partitions of [`TOPIC`].
    pub(crate) partitions: i32,
    pub(crate) history: Rc<RefCell<History>>,
    /// Set when bots are to come to an end.
    pub(crate) ending: Rc<Cell<bool>>,
    /// What the faults of this world allow.
    pub(crate) allowed: Allowed,
    /// Tells the chronicle what this bot does.
    pub(crate) diary: Diary,
}

impl Shared {
    /// The same for the client with this number.
    pub(crate) fn client(&self, client: u32) -> Self {
        let diary = Diary { client, ..self.diary.clone() };
        Self { diary, ..self.clone() }
    }
}

/// What the faults of a world allow a broker, besides what a crash does.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allowed {
    /// To say that its storage failed, and to give up.
    pub(crate) storage_errors: bool,
    /// To lose what it acknowledged: its disk lies about what it has written. What it still has
    /// must be right all the same.
    pub(crate) loss: bool,
}

/// Connects, trying again until it works.
async fn connect<E: Env>(env: &E, shared: &Shared, random: &mut RandomStream) -> Client<E> {
    loop {
        match Client::connect(env, shared.address).await {
            Ok(client) => return client.telling(shared.diary.clone()),
            Err(ClientError::Protocol(error)) => panic!("protocol violation: {error}"),
            Err(_) => pause(env, random, 20).await,
        }
    }
}

/// Waits for up to so many milliseconds.
async fn pause<E: Env>(env: &E, random: &mut RandomStream, most_ms: u64) {
    env.sleep(Duration::from_micros(random.below(most_ms * 1000) + 1)).await;
}

/// Panics if the broker broke the protocol. Anything else is the network's or a crash's doing.
fn expect_lawful(error: &ClientError) {
    if let ClientError::Protocol(error) = error {
        panic!("protocol violation: {error}");
    }
}

/// Panics if the broker says that its storage failed, and no fault here breaks a disk.
fn expect_storage(shared: &Shared, code: ErrorCode) {
    let failed = code == ErrorCode::KAFKA_STORAGE_ERROR;
    assert!(!failed || shared.allowed.storage_errors, "storage failed without a fault of the disk");
}
