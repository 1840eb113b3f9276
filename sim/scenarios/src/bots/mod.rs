//! Clients that work and check.
//!
//! Whatever must not be is a [`Trouble`], handed up to the bot's own loop. There a connection that
//! broke is made anew, and a contradiction is reported; the world ends with it.

mod consumer;
mod hostile;
mod janitor;
mod producer;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::{Env as _, RandomStream};
use woodchuck_server::protocol::{ErrorCode, Request, Response};
use woodchuck_sim::scenario::Observer;
use woodchuck_sim::{OperationId, SimEnv};

use crate::client::{Client, ClientError};
use crate::history::{Contradiction, History, require};

pub(crate) use consumer::{consume, read_all};
pub(crate) use hostile::harass;
pub(crate) use janitor::tidy;
pub(crate) use producer::{Habits, produce};

/// The topic that all bots but the janitor work on.
pub(crate) const TOPIC: &str = "ledger";

/// The topic that the janitor makes and deletes.
const SCRATCH: &str = "scratch";

/// Partitions of [`SCRATCH`].
const SCRATCH_PARTITIONS: i32 = 3;

/// What all records of [`SCRATCH`] are filled with.
const SCRATCH_FILLER: u8 = 0xEE;

/// What bots share.
#[derive(Clone)]
pub(crate) struct Shared {
    /// Where the broker is.
    pub(crate) address: SocketAddr,
    /// Partitions of [`TOPIC`].
    pub(crate) partitions: i32,
    pub(crate) history: Rc<RefCell<History>>,
    pub(crate) observer: Observer,
    /// Set when bots are to come to an end.
    pub(crate) ending: Rc<Cell<bool>>,
    /// Set while nothing can break a connection that is made now but the broker.
    pub(crate) quiet: Rc<Cell<bool>>,
    /// Bots that have not come to their end, by number.
    pub(crate) busy: Rc<RefCell<BTreeMap<u32, &'static str>>>,
    /// What the faults of this world allow.
    pub(crate) allowed: Allowed,
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

impl Shared {
    /// Requires that the broker does not say that its storage failed, unless a fault here breaks
    /// disks.
    fn expect_storage(&self, code: ErrorCode) -> Result<(), Contradiction> {
        let failed = code == ErrorCode::KAFKA_STORAGE_ERROR;
        require("storage-errors", !failed || self.allowed.storage_errors, || {
            "storage failed without a fault of the disk".to_owned()
        })
    }
}

/// Why a bot cannot go on as it is.
pub(crate) enum Trouble {
    /// The connection is of no use any more.
    Lost(ClientError),
    /// Something must not be.
    Wrong(Contradiction),
}

impl From<Contradiction> for Trouble {
    fn from(contradiction: Contradiction) -> Self {
        Self::Wrong(contradiction)
    }
}

/// What comes of something that a bot does.
type Outcome<T> = Result<T, Trouble>;

/// What every bot has.
pub(crate) struct Bot {
    env: SimEnv,
    shared: Shared,
    /// Tells bots apart, in the history and in the chronicle.
    number: u32,
    random: RandomStream,
}

impl Bot {
    pub(crate) fn new(env: SimEnv, shared: Shared, name: &'static str, number: u32) -> Self {
        let random = env.random(name);
        Self { env, shared, number, random }
    }

    /// The time as the history has it.
    fn now(&self) -> u64 {
        self.env.now().as_nanos()
    }

    /// Connects, trying again until it works.
    async fn connect(&mut self) -> Line {
        loop {
            let quiet = self.shared.quiet.get();
            if let Ok(client) = Client::connect(&self.env, self.shared.address).await {
                let (env, number) = (self.env.clone(), self.number);
                let still_quiet = Rc::clone(&self.shared.quiet);
                return Line { client, env, number, quiet, still_quiet };
            }
            self.pause(20).await;
        }
    }

    /// Waits for up to so many milliseconds.
    async fn pause(&mut self, most_ms: u64) {
        let micros = self.random.below(most_ms * 1000) + 1;
        self.env.sleep(Duration::from_micros(micros)).await;
    }

    /// Comes back if the trouble is the network's or a crash's doing. If it is the broker's, it is
    /// reported, and the world ends before anybody comes back.
    pub(crate) async fn settle(&self, trouble: Trouble) {
        let (property, what) = match trouble {
            Trouble::Lost(ClientError::Protocol(what)) => ("protocol", what),
            Trouble::Lost(ClientError::Connection(_) | ClientError::Timeout) => return,
            Trouble::Wrong(Contradiction { property, what }) => (property, what),
        };
        self.shared.observer.violated(property, format!("client {}: {what}", self.number));
        std::future::pending().await
    }
}

/// A bot's connection, which tells the chronicle what goes over it.
struct Line {
    client: Client<SimEnv>,
    env: SimEnv,
    number: u32,
    /// Only the broker could break it when it was made.
    quiet: bool,
    /// Whether that is still so.
    still_quiet: Rc<Cell<bool>>,
}

impl Line {
    /// Tells that something begins. Nothing of the text is made if nobody listens.
    fn begin(&self, text: fmt::Arguments<'_>) -> OperationId {
        self.env.operation(self.number, text)
    }

    /// Tells what came of it. Reports go by the first word: `ok` is good, `unknown` says that it may
    /// or may not have happened, and anything else that it did not.
    fn end(&self, operation: OperationId, text: fmt::Arguments<'_>) {
        self.env.operation_ended(operation, text);
    }

    async fn send(&mut self, version: i16, request: &Request) -> Outcome<()> {
        let sent = self.client.send(version, request).await;
        sent.map_err(|error| self.lost(error))
    }

    async fn receive(&mut self) -> Outcome<Response> {
        let received = self.client.receive().await;
        received.map_err(|error| self.lost(error))
    }

    /// Sends a request and waits for its answer. Without one the operation has ended.
    async fn call(
        &mut self,
        version: i16,
        request: &Request,
        operation: OperationId,
    ) -> Outcome<Response> {
        let called = self.client.call(version, request).await;
        called.map_err(|error| {
            match error {
                ClientError::Protocol(_) => self.end(operation, format_args!("{error}")),
                _ => self.end(operation, format_args!("unknown: {error}")),
            }
            self.lost(error)
        })
    }

    /// What a failure of the connection means.
    fn lost(&self, error: ClientError) -> Trouble {
        let undisturbed = self.quiet && self.still_quiet.get();
        if !undisturbed || matches!(error, ClientError::Protocol(_)) {
            return Trouble::Lost(error);
        }
        let what = format!("a connection that nothing disturbed is lost: {error}");
        Trouble::Wrong(Contradiction { property: "keeps-connections", what })
    }
}

/// An error code, put into the words that reports go by.
struct Code(ErrorCode);

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_error() {
            write!(formatter, "refused: {:?}", self.0)
        } else {
            formatter.write_str("ok")
        }
    }
}
