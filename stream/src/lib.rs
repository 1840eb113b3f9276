//! Streams: topics, their partitions, and the record batches in them.
//!
//! **What lives here.** The Kafka record batch as a checked value ([`Batch`]); topics and where
//! their partitions live ([`Topic`], [`TopicsImage`]); what a shard writes into its log about them
//! ([`operation`]); a partition's offsets and its index of batches ([`Partition`]); and the tail of
//! a shard's log that is kept in memory ([`Tail`]).
//!
//! **How data flows.** A producer's batch arrives as bytes, is checked once ([`Batch::parse`]),
//! gets its offsets when it is placed in the log's order ([`Partition::reserve`]), travels to disk
//! as an operation, and becomes visible when the log says that it is durable
//! ([`Partition::apply`]). A reader asks the partition where its batches are
//! ([`Partition::plan_read`]), takes them from the tail when they are there, and from the log
//! through the seam when they are not. The bytes are the producer's own all the way, except for
//! base offset and leader epoch, which the batch's checksum does not cover.
//!
//! **What must never be here.** I/O: this crate keeps state and plans; the shard above it reads and
//! writes. Nothing here knows of connections, requests or other shards.

pub mod batch;
pub mod limits;
pub mod operation;
mod partition;
mod tail;
mod topic;

pub use batch::{Batch, BatchError};
pub use partition::{BatchPlace, OffsetAndTimestamp, Partition, ReadPlan, Reservation};
pub use tail::Tail;
pub use topic::{Topic, TopicId, TopicName, TopicNameError, TopicsImage};

/// The offset of a record in its partition: 0, 1, 2, … Never moves, never repeats.
pub type Offset = i64;

/// Names one partition of one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    /// The topic. A topic that is deleted and created again under its old name is another one.
    pub topic: TopicId,
    /// The index within the topic, from 0.
    pub index: u32,
}
