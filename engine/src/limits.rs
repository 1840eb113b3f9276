//! Every bound of this crate, in one place.

/// Bytes of batches that may wait at one shard for room in its log. Beyond this an append is
/// answered `Busy`.
pub const APPEND_QUEUE_BYTES: usize = 64 << 20;

/// Reads from the disk that one read request keeps in flight.
pub const READS_IN_FLIGHT: usize = 16;

/// The most bytes one read answers with, whatever was asked for, but for a first batch that is
/// larger.
pub const READ_BYTES: usize = 16 << 20;

/// The longest that a reader may wait for something to read, in milliseconds. A reader that asks for
/// more gets its empty answer earlier, and asks again.
pub const READ_WAIT_MS: u64 = 60 * 1000;

/// Shards a data directory may have. The mailboxes between them grow with the square: 100 MB for 64.
pub const SHARDS: u32 = 64;

/// Topics there may be. Each shard holds all of them in memory.
pub const TOPICS: usize = 100_000;

/// Partitions all topics together may have.
pub const PARTITIONS: u64 = 200_000;

/// Bytes of log a shard keeps before it takes the trouble to give back what deleted topics left.
pub const RECLAIM_SEGMENTS: u64 = 2;
