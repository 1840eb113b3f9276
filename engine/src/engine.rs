//! The engine as a shard's own tasks see it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use event_listener::Event;
use futures_channel::oneshot;
use futures_util::StreamExt;
use futures_util::future::{Either, select, select_all};
use woodchuck_io::{Env, Mesh, RandomStream};
use woodchuck_stream::{
    Batch, Offset, OffsetAndTimestamp, PartitionId, Topic, TopicId, TopicName, TopicsImage,
};
use woodchuck_wal::LogOptions;

use crate::EngineError;
use crate::calls::{Calls, Message, Reply, Request};
use crate::controller::Controller;
use crate::directory::{DataDirectory, Identity};
use crate::limits::{READ_BYTES, READ_WAIT_MS};
use crate::opening::Opening;
use crate::recovered::{RecoveredState, ShardLog};
use crate::shard::{OffsetQuery, ReadOutcome, ReadRequest, Readable, Shard, SharedTopics};
use crate::ticket::{Ticket, TicketAnswer};

/// How to open the engine. All shards of a process get the same.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The data directory. Made if it is missing.
    pub data: PathBuf,
    /// The logs' sizes.
    pub log: LogOptions,
    /// How much of each shard's log is kept in memory for readers at the end, in bytes.
    pub tail_bytes: usize,
}

impl EngineOptions {
    /// The production settings, for this data directory.
    #[must_use]
    pub fn new(data: PathBuf) -> Self {
        Self { data, log: LogOptions::default(), tail_bytes: woodchuck_stream::limits::TAIL_BYTES }
    }
}

/// One shard's handle on the whole engine. Cheap to clone; clones are the same handle.
pub struct Engine<E: Env> {
    inner: Rc<Inner<E>>,
}

impl<E: Env> Clone for Engine<E> {
    fn clone(&self) -> Self {
        Self { inner: Rc::clone(&self.inner) }
    }
}

struct Inner<E: Env> {
    env: E,
    identity: Identity,
    shard: Shard<E>,
    calls: Calls<E>,
    topics: RefCell<SharedTopics>,
    /// On shard 0: who decides about topics.
    controller: Option<Controller<E>>,
    watches: RefCell<BTreeMap<(usize, u64), Watch>>,
    next_watcher: Cell<u64>,
    producer_ids: RefCell<RandomStream>,
    /// Set when another shard has asked all to stop.
    stop: Cell<bool>,
    stop_asked: Event,
    /// On shard 0: how many shards are ready to close.
    closing: Count,
    /// On shard 0: how many shards are closed.
    closed: Count,
    /// On shard 0: holds the directory's lock for as long as the engine lives.
    _directory: Option<DataDirectory<E>>,
}

/// A remote reader that waits here. Dropping it ends the wait.
struct Watch {
    generation: u64,
    _cancel: oneshot::Sender<()>,
}

/// Counts up, and lets tasks wait for a number.
#[derive(Default)]
struct Count {
    count: Cell<usize>,
    counted: Event,
}

impl Count {
    fn add(&self) -> usize {
        self.count.set(self.count.get() + 1);
        self.counted.notify(usize::MAX);
        self.count.get()
    }

    async fn reached(&self, number: usize) {
        while self.count.get() < number {
            let counted = self.counted.listen();
            if self.count.get() < number {
                counted.await;
            }
        }
    }
}

/// Somebody who reads, one read at a time. Other shards know a waiting reader by this, so that a
/// reader that waits again replaces its earlier wait there instead of adding to it.
#[derive(Debug)]
pub struct Reader {
    watcher: u64,
}

impl<E: Env> Engine<E> {
    /// Opens the engine on this shard. Returns when every shard of the process is open.
    ///
    /// # Errors
    /// If any shard cannot be opened; then none is.
    pub async fn open(env: E, options: EngineOptions) -> Result<Self, EngineError> {
        let first = env.mesh().shard() == 0;
        let opening = Opening::new(env);
        if first { opening.coordinate(options).await } else { opening.follow(options).await }
    }

    /// The engine of an opened shard, which knows no topics yet and hears nobody.
    pub(crate) fn assemble(
        env: &E,
        calls: &Calls<E>,
        (log, state): (ShardLog<E>, RecoveredState),
        identity: Identity,
        directory: Option<DataDirectory<E>>,
    ) -> Self {
        let (index, shards) = (env.mesh().shard(), env.mesh().shards());
        let shard = Shard::start(env.clone(), index, shards, log, state);
        let controller = (index == 0).then(|| Controller::new(env, shard.clone()));
        Self {
            inner: Rc::new(Inner {
                env: env.clone(),
                identity,
                shard,
                calls: calls.clone(),
                topics: RefCell::default(),
                controller,
                watches: RefCell::default(),
                next_watcher: Cell::new(0),
                producer_ids: RefCell::new(env.random("producer ids")),
                stop: Cell::new(false),
                stop_asked: Event::new(),
                closing: Count::default(),
                closed: Count::default(),
                _directory: directory,
            }),
        }
    }

    /// What the data directory is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.inner.identity
    }

    /// All topics, as this shard knows them. A topic whose creation has returned is known to every
    /// shard.
    #[must_use]
    pub fn topics(&self) -> Arc<TopicsImage> {
        Arc::clone(&self.inner.topics.borrow())
    }

    /// Creates a topic. It is durable, and known to every shard, when this returns.
    ///
    /// # Errors
    /// `TopicExists`, `Invalid` for a partition count or number of topics out of bounds, or what
    /// the log says.
    pub async fn create_topic(
        &self,
        name: TopicName,
        partitions: u32,
    ) -> Result<Topic, EngineError> {
        match self.call(0, Request::CreateTopic { name, partitions }).await? {
            Reply::CreateTopic(result) => result,
            _ => Err(EngineError::Closed),
        }
    }

    /// Deletes a topic and all its records. Both are durable when this returns.
    ///
    /// # Errors
    /// `UnknownPartition` if there is no such topic, or what the log says.
    pub async fn delete_topic(&self, id: TopicId) -> Result<(), EngineError> {
        match self.call(0, Request::DeleteTopic { id }).await? {
            Reply::DeleteTopic(result) => result,
            _ => Err(EngineError::Closed),
        }
    }

    /// Gives a batch its place in the order of its partition. Batches that one task submits one
    /// after the other to one partition keep their order, if each call has returned before the
    /// next begins. The answer comes through the ticket; dropping it changes nothing.
    pub async fn append(&self, partition: PartitionId, batch: Batch) -> Ticket {
        let answer = match self.owner(partition) {
            None => TicketAnswer::Known(Some(Err(EngineError::UnknownPartition))),
            Some(owner) if owner == self.shard_index() => {
                let (reply, answer) = oneshot::channel();
                self.inner.shard.append(partition, batch, reply);
                TicketAnswer::Here(answer)
            }
            Some(owner) => {
                let request = Request::Append { partition, batch };
                TicketAnswer::Elsewhere(self.inner.calls.send(owner, request).await)
            }
        };
        Ticket { answer }
    }

    /// Waits until a read would find at least `min_bytes`, would fail, or `wait` is over; and
    /// returns how many bytes it would find, counted up to `enough`, which is at least
    /// `min_bytes`. Costs nothing while it waits.
    pub async fn wait_readable(
        &self,
        reader: &mut Reader,
        requests: &[ReadRequest],
        min_bytes: usize,
        enough: usize,
        wait: Duration,
    ) -> usize {
        let deadline = self.inner.env.now() + wait.min(Duration::from_millis(READ_WAIT_MS));
        loop {
            let readable = self.readable(requests, enough.max(min_bytes)).await;
            let bytes = readable.iter().flatten().map(|readable| readable.bytes).sum();
            let failing = readable.iter().any(Option::is_none);
            if bytes >= min_bytes || failing || self.inner.env.now() >= deadline {
                return bytes;
            }
            let ends = requests.iter().zip(readable.iter().flatten());
            let targets =
                ends.map(|(request, readable)| (request.partition, readable.end)).collect();
            self.wait_for_growth(reader.watcher, targets, deadline - self.inner.env.now()).await;
        }
    }

    /// Reads what is there: at most `max_bytes` in all, but at least one batch if there is any.
    /// Outcomes stand in the order of the requests.
    pub async fn read(
        &self,
        requests: &[ReadRequest],
        max_bytes: usize,
    ) -> Vec<Result<ReadOutcome, EngineError>> {
        let max_bytes = max_bytes.min(READ_BYTES);
        let mut outcomes: Vec<_> =
            requests.iter().map(|_| Err(EngineError::UnknownPartition)).collect();
        let mut left = max_bytes;
        // Shards are asked one after the other, so that together they keep to the bound; the
        // order is that of the requests, which clients rotate.
        for (shard, indexes, wanted) in self.by_owner(requests) {
            let request = Request::Read { requests: wanted, max_bytes: left };
            let Ok(Reply::Read(found)) = self.call(shard, request).await else { continue };
            for (index, outcome) in indexes.into_iter().zip(found) {
                left = left.saturating_sub(outcome.as_ref().map_or(0, ReadOutcome::bytes));
                outcomes[index] = outcome;
            }
        }
        keep_within(&mut outcomes, max_bytes);
        outcomes
    }

    /// A reader, for [`wait_readable`](Self::wait_readable).
    #[must_use]
    pub fn reader(&self) -> Reader {
        let watcher = self.inner.next_watcher.get();
        self.inner.next_watcher.set(watcher + 1);
        Reader { watcher }
    }

    /// Answers a question about a partition's offsets. `None`: no record is that young.
    ///
    /// # Errors
    /// `UnknownPartition`, or what reading the log says.
    pub async fn offset(
        &self,
        partition: PartitionId,
        query: OffsetQuery,
    ) -> Result<Option<OffsetAndTimestamp>, EngineError> {
        let owner = self.owner(partition).ok_or(EngineError::UnknownPartition)?;
        match self.call(owner, Request::Offset { partition, query }).await? {
            Reply::Offset(result) => result,
            _ => Err(EngineError::Closed),
        }
    }

    /// A producer id that nobody else has: random, so that it needs no memory across restarts.
    #[must_use]
    pub fn new_producer_id(&self) -> i64 {
        (self.inner.producer_ids.borrow_mut().next_u64() >> 2) as i64
    }

    /// Asks every shard of the process to stop, this one included.
    pub async fn stop_all(&self) {
        for shard in 0..self.inner.env.mesh().shards() {
            // A shard that does not answer has stopped already.
            drop(self.call(shard, Request::Stop).await);
        }
    }

    /// Completes when the process, or all its shards, have been asked to stop.
    pub async fn stopping(&self) {
        let asked = std::pin::pin!(async {
            while !self.inner.stop.get() {
                let asked = self.inner.stop_asked.listen();
                if !self.inner.stop.get() {
                    asked.await;
                }
            }
        });
        let process = std::pin::pin!(self.inner.env.stopping());
        match select(asked, process).await {
            Either::Left(_) | Either::Right(_) => {}
        }
    }

    /// Makes everything that was taken durable, once every shard of the process has called this,
    /// and stops.
    ///
    /// # Errors
    /// If what was taken and not yet acknowledged could not be made durable.
    pub async fn close(&self) -> Result<(), EngineError> {
        self.call(0, Request::Closing).await?;
        if self.shard_index() == 0 {
            // Shard 0 goes last: the others need its answers, and it holds the directory's lock.
            self.inner.closed.reached(self.inner.env.mesh().shards() - 1).await;
            return self.inner.shard.close().await;
        }
        let closed = self.inner.shard.close().await;
        drop(self.inner.calls.send(0, Request::Closed).await);
        closed
    }

    fn shard_index(&self) -> usize {
        self.inner.env.mesh().shard()
    }

    fn owner(&self, partition: PartitionId) -> Option<usize> {
        let topics = self.inner.topics.borrow();
        let topic = topics.by_id(partition.topic)?;
        let shards = self.inner.env.mesh().shards();
        (partition.index < topic.partitions).then(|| topic.shard(partition.index, shards))
    }

    /// Asks a shard, this one included.
    async fn call(&self, to: usize, request: Request) -> Result<Reply, EngineError> {
        if to == self.shard_index() {
            let begun = self.begin(to, request);
            return Ok(begun.await);
        }
        self.inner.calls.send(to, request).await.await.map_err(|_| EngineError::Closed)
    }

    /// Begins a request, in the order of the calls, and returns what completes it.
    fn begin(&self, from: usize, request: Request) -> Pin<Box<dyn Future<Output = Reply>>> {
        let engine = self.clone();
        match request {
            Request::Append { partition, batch } => {
                let (reply, answer) = oneshot::channel();
                self.inner.shard.append(partition, batch, reply);
                Box::pin(
                    async move { Reply::Append(answer.await.unwrap_or(Err(EngineError::Closed))) },
                )
            }
            Request::Read { requests, max_bytes } => {
                Box::pin(
                    async move { Reply::Read(engine.inner.shard.read(&requests, max_bytes).await) },
                )
            }
            Request::Offset { partition, query } => {
                Box::pin(
                    async move { Reply::Offset(engine.inner.shard.offset(partition, query).await) },
                )
            }
            Request::Watch { watcher, targets, wait } => {
                let cancelled = self.register_watch(from, watcher);
                Box::pin(async move {
                    engine.watch(from, watcher, targets, wait, cancelled).await;
                    Reply::Watched
                })
            }
            // Changes of topics run on tasks of their own, so that a caller who goes away leaves
            // nothing half done.
            Request::CreateTopic { name, partitions } => {
                Box::pin(self.inner.env.spawn("create topic", async move {
                    Reply::CreateTopic(match &engine.inner.controller {
                        Some(controller) => controller.create(&engine, name, partitions).await,
                        None => Err(EngineError::Closed),
                    })
                }))
            }
            Request::DeleteTopic { id } => {
                Box::pin(self.inner.env.spawn("delete topic", async move {
                    Reply::DeleteTopic(match &engine.inner.controller {
                        Some(controller) => controller.delete(&engine, id).await,
                        None => Err(EngineError::Closed),
                    })
                }))
            }
            Request::Readable { requests, enough } => {
                let readable = self.inner.shard.readable(&requests, enough);
                Box::pin(std::future::ready(Reply::Readable(readable)))
            }
            Request::InstallTopics(topics) => {
                let result = self.install(topics);
                Box::pin(async move { Reply::InstallTopics(result) })
            }
            Request::Stop => {
                self.inner.stop.set(true);
                self.inner.stop_asked.notify(usize::MAX);
                Box::pin(std::future::ready(Reply::Done))
            }
            Request::Closing => {
                let all = self.inner.env.mesh().shards();
                let closing = self.inner.closing.add();
                debug_assert!(closing <= all, "each shard closes once");
                Box::pin(async move {
                    engine.inner.closing.reached(all).await;
                    Reply::Done
                })
            }
            Request::Closed => {
                self.inner.closed.add();
                Box::pin(std::future::ready(Reply::Done))
            }
        }
    }

    /// Takes over a new image of the topics on this shard.
    pub(crate) fn install(&self, topics: SharedTopics) -> Result<(), EngineError> {
        self.inner.shard.install(&topics)?;
        *self.inner.topics.borrow_mut() = topics;
        Ok(())
    }

    /// Takes over a new image of the topics on every shard.
    pub(crate) async fn publish(&self, topics: TopicsImage) -> Result<(), EngineError> {
        let topics = Arc::new(topics);
        for shard in 0..self.inner.env.mesh().shards() {
            match self.call(shard, Request::InstallTopics(Arc::clone(&topics))).await? {
                Reply::InstallTopics(result) => result?,
                _ => return Err(EngineError::Closed),
            }
        }
        Ok(())
    }

    async fn readable(&self, requests: &[ReadRequest], enough: usize) -> Vec<Option<Readable>> {
        let mut readable = vec![None; requests.len()];
        for (shard, indexes, wanted) in self.by_owner(requests) {
            let request = Request::Readable { requests: wanted, enough };
            let Ok(Reply::Readable(found)) = self.call(shard, request).await else { continue };
            for (index, found) in indexes.into_iter().zip(found) {
                readable[index] = found;
            }
        }
        readable
    }

    /// The requests by the shard that owns their partition, with their indexes, in the order in
    /// which the shards first appear. Requests for unknown partitions are left out.
    fn by_owner(&self, requests: &[ReadRequest]) -> Vec<(usize, Vec<usize>, Vec<ReadRequest>)> {
        let mut shards: Vec<(usize, Vec<usize>, Vec<ReadRequest>)> = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            let Some(owner) = self.owner(request.partition) else { continue };
            match shards.iter_mut().find(|(shard, ..)| *shard == owner) {
                Some((_, indexes, wanted)) => {
                    indexes.push(index);
                    wanted.push(*request);
                }
                None => shards.push((owner, vec![index], vec![*request])),
            }
        }
        shards
    }

    /// Completes when any of the partitions has grown beyond the end given for it, or after
    /// `wait`. Costs nothing while it waits.
    async fn wait_for_growth(
        &self,
        watcher: u64,
        targets: Vec<(PartitionId, Offset)>,
        wait: Duration,
    ) {
        let mut by_shard: BTreeMap<usize, Vec<(PartitionId, Offset)>> = BTreeMap::new();
        for target in targets {
            if let Some(owner) = self.owner(target.0) {
                by_shard.entry(owner).or_default().push(target);
            }
        }
        let deadline = self.inner.env.now() + wait;
        let here = by_shard.remove(&self.shard_index()).unwrap_or_default();
        let mut elsewhere = Vec::new();
        for (shard, targets) in by_shard {
            let request = Request::Watch { watcher, targets, wait };
            elsewhere.push(self.inner.calls.send(shard, request).await);
        }
        let here = std::pin::pin!(self.inner.shard.wait_beyond_until(&here, deadline));
        if elsewhere.is_empty() {
            return here.await;
        }
        match select(here, select_all(elsewhere)).await {
            Either::Left(_) | Either::Right(_) => {}
        }
    }

    /// Notes a remote reader that waits here, in place of one of the same name: a reader that
    /// waits again has given up its earlier wait, so waits cannot pile up.
    fn register_watch(&self, from: usize, watcher: u64) -> (u64, oneshot::Receiver<()>) {
        let (cancel, cancelled) = oneshot::channel();
        let mut watches = self.inner.watches.borrow_mut();
        let generation = watches.get(&(from, watcher)).map_or(0, |watch| watch.generation + 1);
        watches.insert((from, watcher), Watch { generation, _cancel: cancel });
        (generation, cancelled)
    }

    async fn watch(
        &self,
        from: usize,
        watcher: u64,
        targets: Vec<(PartitionId, Offset)>,
        wait: Duration,
        (generation, cancelled): (u64, oneshot::Receiver<()>),
    ) {
        let deadline = self.inner.env.now() + wait;
        {
            let grown = std::pin::pin!(self.inner.shard.wait_beyond_until(&targets, deadline));
            match select(grown, cancelled).await {
                Either::Left(_) | Either::Right(_) => {}
            }
        }
        let mut watches = self.inner.watches.borrow_mut();
        if watches.get(&(from, watcher)).is_some_and(|watch| watch.generation == generation) {
            watches.remove(&(from, watcher));
        }
    }

    /// Handles what the other shards send, for as long as the process lives.
    pub(crate) async fn dispatch(self, early: VecDeque<(usize, Message)>) {
        let mut messages = std::pin::pin!(futures_util::stream::iter(early).chain(
            futures_util::stream::unfold(self.inner.calls.clone(), |calls| async move {
                Some((calls.receive().await, calls))
            },)
        ));
        while let Some((from, message)) = messages.next().await {
            match message {
                Message::Request { id, request } => {
                    let begun = self.begin(from, request);
                    let calls = self.inner.calls.clone();
                    let complete = async move { calls.reply(from, id, begun.await).await };
                    self.inner.env.spawn("remote call", complete).detach();
                }
                Message::Reply { id, reply } => self.inner.calls.complete(id, reply),
                Message::Startup(_) => {} // An abort that comes when it is too late to matter.
            }
        }
    }
}

/// Drops batches from the end until all fit `max_bytes`, but keeps the first: each shard answers
/// with at least one batch, whatever is left.
fn keep_within(outcomes: &mut [Result<ReadOutcome, EngineError>], max_bytes: usize) {
    let (mut bytes, mut any) = (0, false);
    for outcome in outcomes.iter_mut().flatten() {
        outcome.batches.retain(|batch| {
            bytes += batch.len();
            let keep = bytes <= max_bytes || !any;
            any = true;
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn what_shards_answer_together_is_kept_within_bounds_but_never_empty() {
        let outcome = |lengths: &[usize]| -> Result<ReadOutcome, EngineError> {
            let batches = lengths.iter().map(|&length| Bytes::from(vec![0; length])).collect();
            Ok(ReadOutcome { batches, start: 0, end: 9 })
        };
        let kept = |max_bytes| -> Vec<usize> {
            let unknown = Err(EngineError::UnknownPartition);
            let mut outcomes = [outcome(&[]), unknown, outcome(&[10, 10]), outcome(&[10])];
            keep_within(&mut outcomes, max_bytes);
            outcomes.iter().flatten().map(ReadOutcome::bytes).collect()
        };
        assert_eq!(kept(0), [0, 10, 0], "at least one batch, whatever its size");
        assert_eq!(kept(20), [0, 20, 0]);
        assert_eq!(kept(30), [0, 20, 10]);
    }
}
