//! Every bound of this crate, in one place.

use woodchuck_io::limits::{BLOCK_BYTES, BUFFER_BYTES};

/// Unit of placement in a table's file, in bytes: what direct I/O reads at least.
pub const PAGE_BYTES: usize = BLOCK_BYTES;

/// Longest user key, in bytes: its length is stored in 16 bits.
pub const KEY_BYTES: usize = u16::MAX as usize;

/// Longest value, in bytes.
pub const VALUE_BYTES: usize = 32 << 20;

/// Bytes of an encoded batch. It goes into one commit of the log, beside what else is committed.
pub const BATCH_BYTES: usize = 48 << 20;

/// Most entries of a batch, range deletions among them: short ones take many times their bytes in
/// memory.
pub const BATCH_ENTRIES: usize = 1 << 20;

/// First and largest chunk of a memtable's entries, in bytes: an empty memtable is small, and a
/// full one has few chunks.
pub const MEMTABLE_CHUNK_BYTES_MIN: usize = 4 << 10;
/// See [`MEMTABLE_CHUNK_BYTES_MIN`].
pub const MEMTABLE_CHUNK_BYTES_MAX: usize = 1 << 20;

/// Longest value, in bytes, that a memtable copies for a reader. Those that are longer have memory
/// of their own, which readers share.
pub const MEMTABLE_COPIED_BYTES: usize = 512;

/// Smallest size of data blocks that can be asked for: a block's own bytes and a short entry.
pub const BLOCK_BYTES_MIN: usize = 128;

/// Largest size of data blocks that can be asked for. An entry that needs more gets a block of its
/// own.
pub const BLOCK_BYTES_MAX: usize = 1 << 20;

/// Bytes of any block's payload, uncompressed. No length that a file claims makes a reader allocate
/// more.
pub const PAYLOAD_BYTES: usize = 36 << 20;

/// Smallest and largest size of index partitions that can be asked for, in bytes.
pub const PARTITION_BYTES_MIN: usize = 64;
/// See [`PARTITION_BYTES_MIN`].
pub const PARTITION_BYTES_MAX: usize = 1 << 20;

/// Most keys and prefixes that a filter partition covers: a partition of the index ends when it has
/// so many, so that what a writer remembers of them is bounded.
pub const FILTER_HASHES: usize = 1 << 20;

/// Most bits a key that a filter can be asked to have.
pub const FILTER_BITS_MAX: u32 = 32;

/// Bytes of a table's range tombstones together.
pub const RANGE_TOMBSTONE_BYTES: usize = 8 << 20;

/// Bytes of a table's top-level index. A writer whose table reaches it takes nothing more.
pub const TOP_INDEX_BYTES: usize = 16 << 20;

/// Bytes of a table's file.
pub const TABLE_BYTES: u64 = 1 << 40;

/// Smallest and largest write of a writer, in bytes.
pub const CHUNK_BYTES_MIN: usize = PAGE_BYTES;
/// See [`CHUNK_BYTES_MIN`].
pub const CHUNK_BYTES_MAX: usize = 2 << 20;

/// Most writes that a writer may have in flight.
pub const WRITES_IN_FLIGHT: usize = 16;

/// What is read of a table's end when it is opened, in bytes: footer, properties and top-level
/// index of all but the largest tables.
pub const TAIL_BYTES: usize = 64 << 10;

/// What a cursor reads ahead at first, in bytes, once it has read two blocks one behind the other;
/// then twice as much each time.
pub const READ_AHEAD_BYTES_MIN: usize = 16 << 10;

/// The most that a cursor reads ahead, in bytes.
pub const READ_AHEAD_BYTES_MAX: usize = 512 << 10;

/// Versions of a key, or deleted keys, that a walk steps over before it seeks past them.
pub const STEPS_BEFORE_SEEK: u32 = 8;

/// Reads that may come back with nothing new before a reader gives up.
pub const SHORT_READS: u32 = 16;

/// What the block cache charges for an entry besides its bytes.
pub const CACHE_ENTRY_BYTES: usize = 128;

/// Damaged places that `verify` remembers; it counts those beyond.
pub const DAMAGE_REMEMBERED: usize = 64;

const _: () = assert!(
    MEMTABLE_CHUNK_BYTES_MIN.is_power_of_two() && MEMTABLE_CHUNK_BYTES_MAX.is_power_of_two(),
    "places in chunks are so many bits"
);

/// Keyspaces of a store. A map of them is copied with each edit of the manifest.
pub const KEYSPACES: usize = 16_384;

/// Live tables of a store.
pub const TABLES: usize = 1 << 20;

/// Longest name of a keyspace or merge operator, in bytes.
pub const NAME_BYTES: usize = 255;

/// Levels of a keyspace.
pub const LEVELS: usize = 16;

/// Levels that a levelled keyspace uses: with a tenth of the last in the one above, and so on, the
/// last has what six of these make of the base.
pub const LEVELLED_LEVELS: usize = 7;

/// Largest edit of the manifest, in bytes, if the segments are large enough to hold it.
pub const EDIT_BYTES: usize = 1 << 20;

/// Largest part of a snapshot of the manifest that can be asked for, in bytes.
pub const PART_BYTES_MAX: usize = 256 << 10;

/// Smallest segment of the manifest that can be asked for, in bytes.
pub const MANIFEST_SEGMENT_BYTES_MIN: u64 = 256 << 10;
/// Largest segment of the manifest that can be asked for, in bytes.
pub const MANIFEST_SEGMENT_BYTES_MAX: u64 = 64 << 20;

/// What a change takes in the manifest besides its keys and names, in bytes, at most.
pub const CHANGE_BYTES: usize = 192;

/// Most numbers that can be taken, or asked to be reserved, at a time.
pub const NUMBERS_TAKEN: u64 = 1 << 20;

/// No number of a table, keyspace or edit comes near this, so that adding to one never overflows.
pub const NUMBERS_MAX: u64 = 1 << 62;

/// Most tables of a store that can be asked to stay open: each has a file descriptor.
pub const OPEN_TABLES_MAX: usize = 1 << 16;

/// Most runs of level 0 that can be asked for: a read looks into each.
pub const RUNS_MAX: usize = 64;
/// Largest growth from level to level that can be asked for.
pub const GROWTH_MAX: usize = 100;
/// Most tables of the level below its own that a table can be asked to lie over.
pub const OVERLAP_MAX: usize = 1000;
/// Largest part of one thing in another that can be asked for, in percent.
pub const PERCENT_MAX: u64 = 10_000;

/// Tables of a run that a universal or FIFO keyspace has rewritten, about: those of larger runs are
/// longer, so that one edit has room for all tables of several runs.
pub const RUN_TABLES: u64 = 256;
/// Tables that go at a time because all in them has ended.
pub const TABLES_REMOVED: usize = 1024;

/// Bytes that are rewritten before other tasks of the group have their turn.
pub const BEAT_BYTES: usize = 64 << 10;
/// How long a flush or compaction that failed is left alone, in milliseconds.
pub const RETRY_MS: u64 = 500;
/// How long a store that waits for tables to end looks away, in milliseconds: clocks may be set.
pub const END_WAIT_MS: u64 = 60_000;
/// Bytes of work that a byte which is to be written waits for, at the highest pressure: more than
/// a byte ever causes, so that writers are slower then than what they wait for.
pub const WORK_PER_BYTE: u64 = 256;
/// Writers that can wait in line.
pub const WAITING_WRITERS: usize = 1 << 16;
/// Tables that compactions keep open, besides those that they read.
pub const COMPACTION_OPEN_TABLES: usize = 16;

/// Bits of a sequence that say which commit of its frame it is.
pub const FRAME_COMMITS_BITS: u32 = 20;
/// Commits of a frame of the log, at most.
pub const FRAME_COMMITS_MAX: u64 = 1 << FRAME_COMMITS_BITS;
/// The last frame of a log whose commits have sequences. At a million frames a second, it takes
/// half a year; at the ten thousand of a disk, half a century.
pub const LSN_MAX: u64 = (1 << (u64::BITS - FRAME_COMMITS_BITS)) - 2;

/// How many folders down stores are looked for in a data directory.
pub const STORE_DEPTH: usize = 4;

/// Tables whose files are looked at at a time when a store is opened.
pub const TABLES_CHECKED: usize = 16;

const _: () = assert!(
    MANIFEST_SEGMENT_BYTES_MIN as usize >= 2 * KEY_BYTES + CHANGE_BYTES + 4 * PAGE_BYTES,
    "the largest change fits a segment, whatever is around it there"
);
const _: () = assert!(
    PART_BYTES_MAX >= 2 * KEY_BYTES + 2 * NAME_BYTES + 4 * CHANGE_BYTES,
    "the largest change fits a part"
);
const _: () = assert!(TABLES_REMOVED * CHANGE_BYTES < EDIT_BYTES, "they fit an edit");
const _: () = assert!(LEVELLED_LEVELS <= LEVELS, "the manifest takes them");
const _: () = assert!(PAGE_BYTES.is_power_of_two(), "offsets are masked with it");
const _: () = assert!(
    PAYLOAD_BYTES >= VALUE_BYTES + 2 * KEY_BYTES + 4096,
    "an entry with the longest key and value fits a block"
);
const _: () = assert!(
    BATCH_BYTES >= VALUE_BYTES + 2 * KEY_BYTES + 4096,
    "an entry with the longest key and value fits a batch"
);
const _: () = assert!(PAYLOAD_BYTES + 2 * PAGE_BYTES <= BUFFER_BYTES, "a block fits a buffer");
const _: () = assert!(
    TOP_INDEX_BYTES + RANGE_TOMBSTONE_BYTES + 4 * KEY_BYTES <= PAYLOAD_BYTES,
    "what a writer holds until the end fits a block each"
);
const _: () = assert!(PARTITION_BYTES_MAX + 2 * KEY_BYTES < PAYLOAD_BYTES, "partitions fit blocks");
const _: () = assert!(
    FILTER_HASHES * FILTER_BITS_MAX as usize / 8 + 128 < PAYLOAD_BYTES,
    "a filter partition fits a block"
);
const _: () = assert!(
    FILTER_HASHES / 2 + 2 * BLOCK_BYTES_MAX / 8 <= FILTER_HASHES,
    "a block of the shortest entries, a key and a prefix each, does not pass the bound"
);
const _: () = assert!(TAIL_BYTES.is_multiple_of(PAGE_BYTES), "pages are read whole");
const _: () = assert!(CHUNK_BYTES_MAX.is_multiple_of(PAGE_BYTES), "pages are written whole");
