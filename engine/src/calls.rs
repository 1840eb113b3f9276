//! The calls that shards make to each other.
//!
//! A call is a request that travels through the mesh once, and a reply that comes back once.
//! Requests from one shard are begun in the order in which they were sent, so appends that one
//! connection sends one after the other keep their order; replies come as they are ready.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use futures_channel::oneshot;
use woodchuck_io::{Env, Mesh, Parcel};
use woodchuck_stream::{Batch, Offset, OffsetAndTimestamp, PartitionId, Topic, TopicId, TopicName};

use crate::EngineError;
use crate::directory::Identity;
use crate::shard::{AppendResult, OffsetQuery, ReadOutcome, ReadRequest, Readable, SharedTopics};

/// What a shard asks of another.
pub(crate) enum Request {
    Append {
        partition: PartitionId,
        batch: Batch,
    },
    Read {
        requests: Vec<ReadRequest>,
        max_bytes: usize,
    },
    Readable {
        requests: Vec<ReadRequest>,
        enough: usize,
    },
    Offset {
        partition: PartitionId,
        query: OffsetQuery,
    },
    Watch {
        watcher: u64,
        targets: Vec<(PartitionId, Offset)>,
        wait: Duration,
    },
    CreateTopic {
        name: TopicName,
        partitions: u32,
    },
    DeleteTopic {
        id: TopicId,
    },
    InstallTopics(SharedTopics),
    /// Another shard cannot go on; stop.
    Stop,
    /// To shard 0: this shard wants to close. Answered when all do.
    Closing,
    /// To shard 0: this shard is closed. Nobody is left to hear the answer.
    Closed,
}

/// What it answers.
pub(crate) enum Reply {
    Append(AppendResult),
    Read(Vec<Result<ReadOutcome, EngineError>>),
    Readable(Vec<Option<Readable>>),
    Offset(Result<Option<OffsetAndTimestamp>, EngineError>),
    Watched,
    CreateTopic(Result<Topic, EngineError>),
    DeleteTopic(Result<(), EngineError>),
    InstallTopics(Result<(), EngineError>),
    Done,
}

/// What shards say to each other while they open, in this order.
pub(crate) enum Startup {
    /// From shard 0: the directory is open, and this is what it is.
    Hello(Identity),
    /// To shard 0: the log is open.
    Ready(Result<(), EngineError>),
    /// From shard 0: these are the topics.
    Install(SharedTopics),
    /// To shard 0: the partitions are in place.
    Installed(Result<(), EngineError>),
    /// From shard 0: every shard is in place; serve.
    Serve,
    /// From shard 0, at any point: it cannot be opened.
    Abort(EngineError),
}

/// What travels through the mesh.
pub(crate) enum Message {
    Startup(Startup),
    Request { id: u64, request: Request },
    Reply { id: u64, reply: Reply },
}

/// One shard's end of the calls.
pub(crate) struct Calls<E: Env> {
    inner: Rc<Inner<E>>,
}

impl<E: Env> Clone for Calls<E> {
    fn clone(&self) -> Self {
        Self { inner: Rc::clone(&self.inner) }
    }
}

struct Inner<E: Env> {
    env: E,
    next_id: Cell<u64>,
    waiting: RefCell<BTreeMap<u64, oneshot::Sender<Reply>>>,
}

impl<E: Env> Calls<E> {
    pub(crate) fn new(env: E) -> Self {
        let inner = Inner { env, next_id: Cell::new(0), waiting: RefCell::default() };
        Self { inner: Rc::new(inner) }
    }

    /// Sends a request. When this returns, the request has its place in the order; the reply comes
    /// through what is returned.
    pub(crate) async fn send(&self, to: usize, request: Request) -> oneshot::Receiver<Reply> {
        let id = self.inner.next_id.get();
        self.inner.next_id.set(id + 1);
        let (sender, receiver) = oneshot::channel();
        self.inner.waiting.borrow_mut().insert(id, sender);
        self.send_message(to, Message::Request { id, request }).await;
        receiver
    }

    /// Hands a reply to whoever waits for it. They may have gone away.
    pub(crate) fn complete(&self, id: u64, reply: Reply) {
        if let Some(waiting) = self.inner.waiting.borrow_mut().remove(&id) {
            drop(waiting.send(reply));
        }
    }

    pub(crate) async fn reply(&self, to: usize, id: u64, reply: Reply) {
        self.send_message(to, Message::Reply { id, reply }).await;
    }

    pub(crate) async fn startup(&self, to: usize, startup: Startup) {
        self.send_message(to, Message::Startup(startup)).await;
    }

    /// The next message, with the shard it is from.
    pub(crate) async fn receive(&self) -> (usize, Message) {
        let (from, parcel) = self.inner.env.mesh().receive().await;
        match parcel.downcast::<Message>() {
            Ok(message) => (from, *message),
            Err(_) => unreachable!("the engine alone sends parcels in its process"),
        }
    }

    async fn send_message(&self, to: usize, message: Message) {
        let parcel: Parcel = Box::new(message);
        self.inner.env.mesh().send(to, parcel).await;
    }
}
