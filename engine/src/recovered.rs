//! What a shard's log says when it is opened: the partitions and, on shard 0, the topics.

use std::collections::BTreeMap;
use std::path::PathBuf;

use woodchuck_io::Env;
use woodchuck_stream::operation::{self, Operation};
use woodchuck_stream::{Batch, Partition, PartitionId, Tail, TopicsImage};
use woodchuck_wal::{Log, LogError, LogOptions, Lsn, Recovered, Recovery};

use crate::shard::{Pending, PendingPlace};

/// What a shard's log says, put together by recovery.
pub(crate) struct RecoveredState {
    pub(crate) partitions: BTreeMap<PartitionId, Partition>,
    pub(crate) tail: Tail,
    /// Topics by what this log says; only shard 0's log says anything.
    pub(crate) topics: TopicsImage,
}

impl RecoveredState {
    pub(crate) fn new(tail_bytes: usize) -> Self {
        Self {
            partitions: BTreeMap::new(),
            tail: Tail::new(tail_bytes),
            topics: TopicsImage::default(),
        }
    }

    /// Whether the log says nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.partitions.is_empty() && self.topics.is_empty()
    }

    /// Applies one commit of the log.
    pub(crate) fn replay(&mut self, commit: Recovered) -> Result<(), String> {
        let operation = operation::decode(commit.bytes.clone());
        match operation.map_err(|error| error.to_string())? {
            Operation::Append { partition, batch } => {
                let batch = Batch::parse_stored(batch).map_err(|error| error.to_string())?;
                let pending = PendingPlace {
                    base_offset: batch.base_offset(),
                    last_offset: batch.base_offset() + i64::from(batch.last_offset_delta()),
                    max_timestamp: batch.max_timestamp(),
                };
                let place = pending.at(commit.lsn, commit.location);
                // A partition may begin later than 0 here if its topic was deleted and the log
                // trimmed since; `install` then drops it, and refuses it if the topic lives.
                self.partitions
                    .entry(partition)
                    .or_insert_with(|| Partition::starting_at(partition, batch.base_offset()))
                    .recover(&batch, place)?;
                self.tail.push(commit.location, commit.is_body, commit.bytes);
            }
            Operation::CreateTopic(topic) => self.topics.insert(topic),
            Operation::DeleteTopic(id) => {
                self.topics.remove(id);
            }
            Operation::TopicsSnapshot(topics) => self.topics = TopicsImage::from_topics(topics),
        }
        Ok(())
    }
}

/// Opens a shard's log and replays it.
pub(crate) async fn open_log<E: Env>(
    env: &E,
    path: PathBuf,
    options: LogOptions,
    tail_bytes: usize,
) -> Result<(ShardLog<E>, RecoveredState, Recovery), LogError> {
    let mut state = RecoveredState::new(tail_bytes);
    let segment_bytes = options.segment_bytes;
    let (log, recovery) =
        Log::open(env.clone(), path, options, |commit| state.replay(commit)).await?;
    let next_lsn = recovery.next_lsn;
    Ok((ShardLog { log, segment_bytes, next_lsn }, state, recovery))
}

/// An opened log that has no shard yet.
pub(crate) struct ShardLog<E: Env> {
    pub(crate) log: Log<E, Pending>,
    pub(crate) segment_bytes: u64,
    /// Every frame below it was replayed.
    pub(crate) next_lsn: Lsn,
}
