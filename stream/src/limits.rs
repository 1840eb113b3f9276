//! Every bound of this crate, in one place.

/// The largest record batch that is taken, in bytes. Kafka's own default is 1 MiB and is raised by
/// many who send larger values; beyond this size a value belongs in an object store.
pub const BATCH_BYTES: usize = 16 << 20;

/// Partitions one topic may have.
pub const TOPIC_PARTITIONS: u32 = 10_000;

/// The longest topic name, as in Kafka: it has to fit a file name with a suffix.
pub const TOPIC_NAME_BYTES: usize = 249;

/// How much of a shard's log is kept in memory for readers at the end, in bytes.
pub const TAIL_BYTES: usize = 64 << 20;

const _: () = assert!(TAIL_BYTES >= 2 * BATCH_BYTES, "the newest batch must fit the tail");
