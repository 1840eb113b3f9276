//! Every bound of this crate, in one place.

use woodchuck_io::limits::{BLOCK_BYTES, BUFFER_BYTES};

/// Largest commit that can be appended, in bytes, if the segment is large enough to hold it.
pub const COMMIT_BYTES: usize = 64 << 20;

/// Bytes in front of each commit in a frame's payload: its length.
pub const COMMIT_PREFIX_BYTES: usize = 4;

/// Bytes that a waiting commit is charged for besides its own, so that a flood of empty commits
/// is bounded too: its prefix, its context and its place in the queues.
pub const COMMIT_CHARGE_BYTES: usize = 64;

/// The part of a segment that large commits must come to, since the log was opened, before a file is
/// made for them: who restarts again and again and submits few shall not fill the disk with such
/// files.
pub const BODIES_SHARE: u64 = 4;

/// So many large commits one after the other, with no small one between them, and those that follow go
/// into the log's frames: there is nobody who would wait for them.
pub const LARGE_IN_A_ROW: u32 = 64;

/// Largest number of frames that may be in flight. More than this gives a modern device nothing,
/// and lets the damage of one crash span more frames.
pub const FRAMES_IN_FLIGHT: usize = 64;

/// Most that recovery writes again, in bytes, besides what it must, so as not to leave a segment
/// behind that holds little: a process that restarts again and again shall not fill the disk.
pub const CARRIED_BYTES: u64 = 4 << 20;

/// How much recovery reads at a time: as much as a huge page holds. A frame that goes past it is put
/// together in memory of its own.
pub const WINDOW_BYTES: usize = 2 << 20;

/// How many such reads recovery has under way at a time.
pub const WINDOWS_UNDER_WAY: usize = 2;

/// How many it may have under way or done, behind the one that it looks at.
pub const WINDOWS_AHEAD: usize = 3;

/// How many bodies of large commits recovery may have under way or done, behind the one that it looks
/// at.
pub const BODIES_AHEAD: usize = 8;

/// How many bytes these may have together. One that is larger is read by itself.
pub const BODIES_AHEAD_BYTES: u64 = 4 << 20;

/// Bytes of the frames that may wait for bodies in front of them, in order to be replayed.
pub const LEAVING_BYTES: usize = 1 << 20;

/// How many headers of the newest segment recovery remembers, so as not to read it again: as many
/// as a segment of the usual size can have, in less than 2 MiB of memory.
pub const HEADERS_REMEMBERED: usize = 16_384;

/// After how many bytes of the log recovery says how far it has come.
pub const PROGRESS_BYTES: u64 = 1 << 30;

/// How many zeros are written at a time when a segment is prepared.
pub const ZEROS_BYTES: usize = 1 << 20;

/// Trimmed segments that are kept for reuse. One is being prepared while one is in use, so more
/// than a few only hold space that other files could use.
pub const SPARE_SEGMENTS: usize = 4;

/// Fewest segments that a log must be allowed to have: one that is trimmed, one in use, one
/// prepared.
pub const CAPACITY_SEGMENTS_MIN: u64 = 3;

/// The part of the last segment that is kept for commits that make room, when there is no next one.
pub const RESERVE_SHARE: u64 = 16;

/// Most that is kept for them, in bytes.
pub const RESERVE_BYTES_MAX: u64 = 1 << 20;

/// How long to wait, in milliseconds, before a disk that was full is tried again.
pub const FULL_RETRY_MS: u64 = 100;

/// Fewest blocks that, if they are all that a segment has behind the log's end and none can be
/// read, are no longer put down to a crash: a power cut may leave some of the blocks unreadable
/// that were being written, but not each and every one, up to those that nobody wrote.
pub const UNREADABLE_BLOCKS_MIN: u64 = 4;

/// Most blocks of a segment behind the log's end that may be unreadable and still be put down to
/// a crash: what is in flight by default, and far more than any disk programs at one moment.
pub const UNREADABLE_BLOCKS_MAX: u64 = 256;

/// Frames whose checksums a scan of a damaged log remembers, so that the first frame of a segment
/// can be compared with the one before it: more than recovery ever carries over.
pub const SCAN_LINKS: usize = 8192;

/// Smallest segment: its start frame, one frame of data, one witness.
pub const SEGMENT_BLOCKS_MIN: u64 = 3;

/// Largest segment, in bytes.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 34;

const _: () = assert!(
    COMMIT_BYTES + BLOCK_BYTES <= BUFFER_BYTES,
    "the largest frame fits a buffer, header and padding included"
);
const _: () = assert!(COMMIT_BYTES < u32::MAX as usize / 2, "lengths are stored in 32 bits");
const _: () = assert!(WINDOW_BYTES.is_multiple_of(BLOCK_BYTES), "windows hold whole blocks");
const _: () = assert!(
    SCAN_LINKS as u64 > CARRIED_BYTES / BLOCK_BYTES as u64 + FRAMES_IN_FLIGHT as u64,
    "the frame in front of all that was carried over is remembered"
);
const _: () = assert!(
    WINDOWS_UNDER_WAY < WINDOWS_AHEAD,
    "reads go on while what others gave waits to be looked at"
);
const _: () = assert!(BODIES_AHEAD > 1, "a body is read while another is looked at");
const _: () = assert!(ZEROS_BYTES.is_multiple_of(BLOCK_BYTES), "zeros are written in blocks");
