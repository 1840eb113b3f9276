//! Every bound of this crate, in one place.

/// Alignment of buffers, of file offsets and of lengths in direct I/O, in bytes. Every disk in
/// use takes 4096; asking a disk that has 512-byte sectors for more than it needs costs nothing
/// here, because the log pads its frames anyway.
pub const BLOCK_BYTES: usize = 4096;

/// Size and alignment of the chunks from which buffers are carved: one huge page.
pub const CHUNK_BYTES: usize = 2 << 20;

/// The largest buffer that is pooled. Larger ones are mapped for themselves and unmapped when
/// dropped.
pub const POOLED_BUFFER_BYTES: usize = CHUNK_BYTES;

/// The largest buffer that can be asked for at all. A request above it is a bug in the caller,
/// which must have checked the length it was given.
pub const BUFFER_BYTES: usize = 1 << 30;

/// Parcels that may wait in one direction between two shards.
pub const MAILBOX_PARCELS: usize = 1024;

const _: () = assert!(BLOCK_BYTES.is_power_of_two(), "offsets are masked with it");
const _: () = assert!(CHUNK_BYTES.is_multiple_of(BLOCK_BYTES), "chunks are cut into blocks");
const _: () = assert!(POOLED_BUFFER_BYTES <= CHUNK_BYTES, "a pooled buffer comes from one chunk");
