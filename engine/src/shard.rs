//! One shard: its log, the partitions that live on it, and who waits for them.
//!
//! An append is checked, gets its offset, takes its place in the log, and is answered when the log
//! says that it is durable; only then do readers see it. Appends that find the log full wait in a
//! bounded queue, first in, first out, so that a connection's batches keep their order.
//!
//! If the log fails, the shard is poisoned: what was in flight is answered with an error that says
//! that it may or may not have happened, and so is everything after it. Nothing is retried.

mod reading;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use event_listener::Event;
use futures_channel::oneshot;
use futures_util::future::{Either, select, select_all};
use woodchuck_io::{Env, Monotonic};
use woodchuck_stream::batch::STAMP_BYTES;
use woodchuck_stream::operation::{self, APPEND_HEADER_BYTES};
use woodchuck_stream::{
    Batch, BatchError, BatchPlace, Offset, Partition, PartitionId, Reservation, Tail, Topic,
    TopicId, TopicsImage,
};
use woodchuck_wal::{Committed, Lane, Location, Log, LogError, Lsn};

use crate::EngineError;
use crate::limits::{APPEND_QUEUE_BYTES, RECLAIM_SEGMENTS};
use crate::recovered::{RecoveredState, ShardLog};

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of the batch's first record.
    pub base_offset: Offset,
    /// The first offset of the partition.
    pub start: Offset,
}

pub(crate) use reading::Readable;
pub use reading::{OffsetQuery, ReadOutcome, ReadRequest};

pub(crate) type AppendResult = Result<Appended, EngineError>;

/// What travels through the log with a commit, and comes back when it is durable.
pub(crate) enum Pending {
    Append { partition: PartitionId, place: PendingPlace, reply: oneshot::Sender<AppendResult> },
    Topics { reply: oneshot::Sender<Result<Lsn, EngineError>> },
}

/// Where an appended batch will be, as far as it is known before its frame is placed.
#[derive(Clone, Copy)]
pub(crate) struct PendingPlace {
    pub(crate) base_offset: Offset,
    pub(crate) last_offset: Offset,
    pub(crate) max_timestamp: i64,
}

impl PendingPlace {
    /// The place of the batch, in a commit of that place.
    pub(crate) fn at(self, lsn: Lsn, commit: Location) -> BatchPlace {
        let header = APPEND_HEADER_BYTES as u32;
        let location = Location {
            segment: commit.segment,
            offset: commit.offset + u64::from(header),
            length: commit.length - header,
        };
        let Self { base_offset, last_offset, max_timestamp } = self;
        BatchPlace { base_offset, last_offset, max_timestamp, lsn, location }
    }
}

struct QueuedAppend {
    partition: PartitionId,
    batch: Batch,
    reply: oneshot::Sender<AppendResult>,
}

/// A shard. Cheap to clone; clones are the same shard.
pub(crate) struct Shard<E: Env> {
    inner: Rc<Inner<E>>,
}

impl<E: Env> Clone for Shard<E> {
    fn clone(&self) -> Self {
        Self { inner: Rc::clone(&self.inner) }
    }
}

struct Inner<E: Env> {
    env: E,
    index: usize,
    shards: usize,
    log: Log<E, Pending>,
    segment_bytes: u64,
    partitions: RefCell<BTreeMap<PartitionId, PartitionCell>>,
    /// How many lanes of the log were given out. No two partitions ever share one, so that a topic
    /// that is deleted leaves nothing behind that a new one waits for.
    lanes: Cell<u64>,
    tail: RefCell<Tail>,
    queue: RefCell<VecDeque<QueuedAppend>>,
    /// Bytes of the batches in `queue`; at most [`APPEND_QUEUE_BYTES`].
    queued_bytes: Cell<usize>,
    queue_filled: Event,
    /// Every frame below it has been applied. What is behind may be durable without being in a
    /// partition's index yet; trimming it would lose it.
    applied: Cell<Lsn>,
    /// Why nothing more is taken: the log failed, or was closed. Never cleared: after a failed flush
    /// nothing can be trusted.
    ended: RefCell<Option<EngineError>>,
}

/// A partition and those who wait for it to grow.
struct PartitionCell {
    partition: Partition,
    /// Only there while somebody waits: telling nobody takes a lock and a line of cache for each
    /// partition, a tenth of all that an append of 100 bytes to one of 1,000 partitions costs.
    grown: Option<Event>,
    /// Keeps its batches in order in the log, and lets those of others overtake large ones.
    lane: Lane,
}

impl PartitionCell {
    fn new(partition: Partition, lanes: &Cell<u64>) -> Self {
        let lane = Lane(lanes.replace(lanes.get() + 1));
        Self { partition, grown: None, lane }
    }
}

impl<E: Env> Shard<E> {
    /// A shard of this log and this state, with its tasks started.
    pub(crate) fn start(
        env: E,
        index: usize,
        shards: usize,
        log: ShardLog<E>,
        state: RecoveredState,
    ) -> Self {
        let lanes = Cell::new(0);
        let partitions = state.partitions.into_iter();
        let partitions =
            partitions.map(|(id, partition)| (id, PartitionCell::new(partition, &lanes))).collect();
        let shard = Self {
            inner: Rc::new(Inner {
                env: env.clone(),
                index,
                shards,
                log: log.log,
                segment_bytes: log.segment_bytes,
                partitions: RefCell::new(partitions),
                lanes,
                tail: RefCell::new(state.tail),
                queue: RefCell::default(),
                queued_bytes: Cell::new(0),
                queue_filled: Event::new(),
                applied: Cell::new(log.next_lsn),
                ended: RefCell::new(None),
            }),
        };
        env.spawn("apply commits", shard.clone().apply_commits()).detach();
        env.spawn("append queued", shard.clone().append_queued()).detach();
        shard
    }

    /// Makes the partitions those of `image`: adds what is new and drops what is gone.
    ///
    /// # Errors
    /// If a partition that should begin at 0 begins later: its first records are missing.
    pub(crate) fn install(&self, image: &TopicsImage) -> Result<(), EngineError> {
        let (index, shards) = (self.inner.index, self.inner.shards);
        let mut partitions = self.inner.partitions.borrow_mut();
        let before = partitions.len();
        partitions.retain(|id, cell| {
            let stays = image.by_id(id.topic).is_some();
            if !stays && let Some(grown) = cell.grown.take() {
                // Who waits for it to grow shall learn that it does not.
                grown.notify(usize::MAX);
            }
            stays
        });
        let dropped = before - partitions.len();
        for topic in image.iter() {
            for id in partitions_on(topic, index, shards) {
                let cell = partitions
                    .entry(id)
                    .or_insert_with(|| PartitionCell::new(Partition::new(id), &self.inner.lanes));
                if cell.partition.start() != 0 {
                    return Err(EngineError::Open(format!(
                        "shard {index}: partition {} of topic {} begins at offset {} in the log; \
                         its earlier records are missing",
                        id.index,
                        topic.name,
                        cell.partition.start()
                    )));
                }
            }
        }
        drop(partitions);
        if dropped > 0 && index != 0 {
            // Shard 0 must write a snapshot of the topics first; see the controller.
            self.trim(None);
        }
        Ok(())
    }

    /// Gives back the log below everything that is still needed, and below `snapshot` if shard 0
    /// wrote one.
    pub(crate) fn trim(&self, snapshot: Option<Lsn>) {
        let partitions = self.inner.partitions.borrow();
        let oldest = partitions.values().filter_map(|cell| cell.partition.oldest_lsn()).min();
        let applied = self.inner.applied.get();
        let below = applied.min(oldest.unwrap_or(applied)).min(snapshot.unwrap_or(applied));
        self.inner.log.trim(below);
    }

    /// Whether it is worth giving back log.
    pub(crate) fn wants_reclaim(&self) -> bool {
        self.inner.log.bytes_retained() > RECLAIM_SEGMENTS * self.inner.segment_bytes
    }

    /// Takes a batch. The answer comes when it is durable. Batches are taken in the order of the
    /// calls.
    pub(crate) fn append(
        &self,
        partition: PartitionId,
        batch: Batch,
        reply: oneshot::Sender<AppendResult>,
    ) {
        let queued = QueuedAppend { partition, batch, reply };
        let waiting = !self.inner.queue.borrow().is_empty();
        let Some(queued) = (if waiting { Some(queued) } else { self.place(queued) }) else {
            return;
        };
        let bytes = queued.batch.bytes().len();
        let total = self.inner.queued_bytes.get() + bytes;
        if total > APPEND_QUEUE_BYTES {
            answer(queued.reply, Err(EngineError::Busy("queue of a shard's log")));
            return;
        }
        self.inner.queued_bytes.set(total);
        self.inner.queue.borrow_mut().push_back(queued);
        self.inner.queue_filled.notify(1);
    }

    /// Gives a batch its offset and its place in the log, or gives it back if the log is full.
    fn place(&self, queued: QueuedAppend) -> Option<QueuedAppend> {
        if let Some(error) = self.inner.ended.borrow().clone() {
            answer(queued.reply, Err(error));
            return None;
        }
        let QueuedAppend { partition: id, batch, reply } = queued;
        let mut partitions = self.inner.partitions.borrow_mut();
        let Some(cell) = partitions.get_mut(&id) else {
            answer(reply, Err(EngineError::UnknownPartition));
            return None;
        };
        let base_offset = match cell.partition.reserve(&batch) {
            Reservation::New { base_offset } => base_offset,
            Reservation::Duplicate { base_offset, last_offset } => {
                self.answer_duplicate(id, base_offset, last_offset, reply);
                return None;
            }
            Reservation::OutOfOrder { expected, found } => {
                answer(reply, Err(EngineError::OutOfOrderSequence { expected, found }));
                return None;
            }
            Reservation::Fenced => {
                answer(reply, Err(EngineError::Fenced));
                return None;
            }
        };
        let last_offset = base_offset + i64::from(batch.last_offset_delta());
        let place = PendingPlace { base_offset, last_offset, max_timestamp: batch.max_timestamp() };
        let (header, stamp) = (operation::append_header(id), batch.stamp(base_offset));
        let parts = [&header[..], &stamp[..], &batch.bytes()[STAMP_BYTES..]];
        let pending = Pending::Append { partition: id, place, reply };
        match self.inner.log.submit_in(cell.lane, &parts, pending) {
            Ok(()) => None,
            Err((error, Pending::Append { reply, .. })) => {
                cell.partition.cancel(&batch, base_offset);
                match error {
                    LogError::Busy { .. } => {
                        return Some(QueuedAppend { partition: id, batch, reply });
                    }
                    LogError::Full { .. } | LogError::AtCapacity { .. } => {
                        answer(reply, Err(EngineError::Busy("disk")))
                    }
                    LogError::TooLarge { .. } => {
                        let length = batch.bytes().len();
                        answer(reply, Err(BatchError::TooLarge { length }.into()));
                    }
                    error => answer(reply, Err(storage_error(&error))),
                }
                None
            }
            Err((_, Pending::Topics { .. })) => unreachable!("the context given is given back"),
        }
    }

    /// Answers a batch that was sent before, once it is durable.
    fn answer_duplicate(
        &self,
        id: PartitionId,
        base_offset: Offset,
        last_offset: Offset,
        reply: oneshot::Sender<AppendResult>,
    ) {
        let shard = self.clone();
        let wait = async move {
            shard.wait_beyond(&[(id, last_offset)]).await;
            let start = shard.start_of(id);
            answer(reply, start.map(|start| Appended { base_offset, start }));
        };
        self.inner.env.spawn("answer duplicate", wait).detach();
    }

    fn start_of(&self, id: PartitionId) -> Result<Offset, EngineError> {
        if let Some(error) = self.inner.ended.borrow().clone() {
            return Err(error);
        }
        let partitions = self.inner.partitions.borrow();
        let cell = partitions.get(&id).ok_or(EngineError::UnknownPartition)?;
        Ok(cell.partition.start())
    }

    /// Places queued appends as the log gets room.
    async fn append_queued(self) {
        loop {
            let filled = self.inner.queue_filled.listen();
            let next = self.inner.queue.borrow().front().map(|queued| queued.batch.bytes().len());
            let Some(bytes) = next else {
                filled.await;
                continue;
            };
            self.inner.log.room(APPEND_HEADER_BYTES + bytes).await;
            loop {
                let Some(queued) = self.inner.queue.borrow_mut().pop_front() else { break };
                let bytes = queued.batch.bytes().len();
                if let Some(queued) = self.place(queued) {
                    self.inner.queue.borrow_mut().push_front(queued);
                    break;
                }
                self.inner.queued_bytes.set(self.inner.queued_bytes.get() - bytes);
            }
        }
    }

    /// Writes a topic operation, and returns its place in the log when it is durable. One that
    /// makes room is also taken by a log that has none for others.
    pub(crate) async fn write_topics(
        &self,
        operation: &[u8],
        makes_room: bool,
    ) -> Result<Lsn, EngineError> {
        let (reply, answer) = oneshot::channel();
        let mut pending = Pending::Topics { reply };
        loop {
            if let Some(error) = self.inner.ended.borrow().clone() {
                return Err(error);
            }
            let log = &self.inner.log;
            let submitted = if makes_room {
                log.submit_from_reserve(&[operation], pending)
            } else {
                log.submit(&[operation], pending)
            };
            match submitted {
                Ok(()) => break,
                Err((LogError::Busy { .. }, given_back)) => pending = given_back,
                Err((LogError::Full { .. } | LogError::AtCapacity { .. }, _)) => {
                    return Err(EngineError::Busy("disk"));
                }
                Err((error, _)) => return Err(storage_error(&error)),
            }
            self.inner.log.room(operation.len()).await;
        }
        answer.await.unwrap_or(Err(EngineError::Closed))
    }

    /// Applies commits in the order of the log, as they become durable.
    async fn apply_commits(self) {
        loop {
            match self.inner.log.committed().await {
                Ok(commits) => self.apply(commits),
                Err(LogError::Closed) => return self.fail(&EngineError::Closed),
                Err(error) => {
                    let error = storage_error(&error);
                    tracing::error!(
                        "shard {} is poisoned: {error}. Nothing more is written to it. What was \
                         acknowledged is safe; restart the process once the disk is in order",
                        self.inner.index
                    );
                    return self.fail(&error);
                }
            }
        }
    }

    /// Makes durable commits visible, and then answers them.
    ///
    /// In two passes, because a thousand partitions do not fit the caches: what each needs from
    /// memory is fetched while others are worked on, as long as nothing between them is atomic, and
    /// giving an answer is. One pass costs an append of 100 bytes to one of 1,000 partitions a fifth
    /// more.
    fn apply(&self, commits: Vec<Committed<Pending>>) {
        let Some(last) = commits.last() else { return };
        self.inner.applied.set(last.lsn);
        let mut partitions = self.inner.partitions.borrow_mut();
        let applied = |commit: &Committed<Pending>| {
            let Pending::Append { partition, place, .. } = &commit.context else { return None };
            let cell = partitions.get_mut(partition)?;
            cell.partition.apply(place.at(commit.lsn, commit.location));
            if let Some(grown) = cell.grown.take() {
                grown.notify(usize::MAX);
            }
            Some(Appended { base_offset: place.base_offset, start: cell.partition.start() })
        };
        let applied: Vec<Option<Appended>> = commits.iter().map(applied).collect();
        drop(partitions);
        let mut tail = self.inner.tail.borrow_mut();
        for (commit, appended) in commits.into_iter().zip(applied) {
            let Committed { lsn, location, is_body, bytes, context } = commit;
            match context {
                Pending::Append { reply, .. } => {
                    tail.push(location, is_body, bytes);
                    // If there is none, the topic was deleted while the batch was on its way to the
                    // disk.
                    answer(reply, appended.ok_or(EngineError::UnknownPartition));
                }
                Pending::Topics { reply } => answer(reply, Ok(lsn)),
            }
        }
    }

    /// Answers everything that waits, and whatever comes after, with `error`.
    fn fail(&self, error: &EngineError) {
        *self.inner.ended.borrow_mut() = Some(error.clone());
        for pending in self.inner.log.take_failed() {
            match pending {
                Pending::Append { reply, .. } => answer(reply, Err(error.clone())),
                Pending::Topics { reply } => answer(reply, Err(error.clone())),
            }
        }
        for queued in self.inner.queue.take() {
            answer(queued.reply, Err(error.clone()));
        }
        self.inner.queued_bytes.set(0);
    }

    /// Completes when any of the partitions has visible records beyond the offset given for it, or
    /// when one of them is gone. A shard that has failed grows no more, so this waits for ever:
    /// were it to complete, whoever polls would do nothing else.
    pub(crate) async fn wait_beyond(&self, targets: &[(PartitionId, Offset)]) {
        loop {
            let mut growths = Vec::with_capacity(targets.len());
            for (id, offset) in targets {
                let mut partitions = self.inner.partitions.borrow_mut();
                let Some(cell) = partitions.get_mut(id) else { return };
                if cell.partition.end() > *offset {
                    return;
                }
                growths.push(cell.grown.get_or_insert_default().listen());
            }
            if growths.is_empty() {
                return std::future::pending().await;
            }
            select_all(growths).await;
        }
    }

    /// As [`wait_beyond`](Self::wait_beyond), but until `deadline` at most.
    pub(crate) async fn wait_beyond_until(
        &self,
        targets: &[(PartitionId, Offset)],
        deadline: Monotonic,
    ) {
        let grown = std::pin::pin!(self.wait_beyond(targets));
        let late = std::pin::pin!(self.inner.env.sleep_until(deadline));
        match select(grown, late).await {
            Either::Left(_) | Either::Right(_) => {}
        }
    }

    /// Makes everything that was taken durable, and stops the log.
    pub(crate) async fn close(&self) -> Result<(), EngineError> {
        self.inner.log.clone().close().await.map_err(|error| storage_error(&error))
    }
}

/// The partitions of a topic that live on a shard.
pub(crate) fn partitions_on(
    topic: &Topic,
    shard: usize,
    shards: usize,
) -> impl Iterator<Item = PartitionId> {
    let first = (shard + shards - topic.first_shard as usize % shards) % shards;
    let id: TopicId = topic.id;
    (first as u32..topic.partitions)
        .step_by(shards)
        .map(move |index| PartitionId { topic: id, index })
}

/// Sends an answer. Whoever asked may have gone away, which is their business.
fn answer<T>(reply: oneshot::Sender<T>, result: T) {
    drop(reply.send(result));
}

/// What whoever waits for the log is told: that nothing of the disk's is wrong when the log only
/// closed before it came to them.
fn storage_error(error: &LogError) -> EngineError {
    match error {
        LogError::Closed => EngineError::Closed,
        error => EngineError::Storage(error.to_string()),
    }
}

/// A shared image of the topics.
pub(crate) type SharedTopics = Arc<TopicsImage>;

#[cfg(test)]
mod tests {
    use super::*;
    use woodchuck_stream::TopicName;

    #[test]
    fn every_partition_is_on_the_shard_its_topic_says() {
        for shards in 1..5 {
            for first_shard in 0..5 {
                let name = TopicName::new("t").expect("a good name");
                let topic = Topic { id: TopicId(1), name, partitions: 11, first_shard };
                let mut found = Vec::new();
                for shard in 0..shards {
                    for id in partitions_on(&topic, shard, shards) {
                        assert_eq!(topic.shard(id.index, shards), shard);
                        found.push(id.index);
                    }
                }
                found.sort_unstable();
                assert_eq!(found, (0..11).collect::<Vec<u32>>());
            }
        }
    }
}
