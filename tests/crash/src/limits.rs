//! Every bound of this crate, in one place.

use std::time::Duration;

/// What a device reads and writes as one, in bytes: a power cut leaves a sector old or new.
pub const SECTOR_BYTES: usize = 512;

/// The start of the device that is never torn, in bytes: ext4's superblock. It spans two sectors
/// under one checksum and is at times written in place, so that ext4 itself does not survive a torn
/// one, and nothing above it could be looked at.
pub const UNTORN_BYTES: u64 = 4096;

/// The largest write that the kernel hands to the device as one, in bytes.
pub const WRITE_BYTES: usize = 1 << 20;

/// How long a write or a flush takes at most, in microseconds.
pub const WRITE_US: u64 = 300;

/// Threads that serve the device: requests that can be in flight together.
pub const SERVERS: usize = 4;

/// Size of the device for checks of the seam and of the log, in bytes.
pub const DEVICE_BYTES: u64 = 128 << 20;

/// The largest device, in bytes. It is kept in memory, twice.
pub const DEVICE_BYTES_MAX: u64 = 4 << 30;

/// How long the processes of a round may go without ending before the run is given up.
pub const HANG: Duration = Duration::from_secs(120);

/// How long a filesystem may be busy after the process that used it has ended.
pub const UNMOUNT: Duration = Duration::from_secs(20);

/// How often the device looks whether it has been mounted.
pub const MOUNT_POLL: Duration = Duration::from_millis(1);

/// Names that the seam's operations are about.
pub const NAMES: u64 = 6;

/// Blocks that a file of the seam's operations has at most.
pub const FILE_BLOCKS: u64 = 48;

/// Blocks of the longest single write to such a file.
pub const WRITE_BLOCKS: u64 = 8;

/// Groups of operations in one round.
pub const GROUPS: usize = 250;

/// Operations that are in flight together at most.
pub const GROUP_OPERATIONS: u64 = 5;

/// Commits that a log's worker keeps unacknowledged.
pub const COMMITS_WAITING: u64 = 24;

/// Commits that a log's worker submits in one round at most.
pub const COMMITS: u64 = 1500;

/// Bytes of the longest commit.
pub const COMMIT_BYTES: u64 = 9000;

/// A log's worker trims once in so many commits.
pub const COMMITS_PER_TRIM: u64 = 150;

const _: () = assert!(UNTORN_BYTES.is_multiple_of(SECTOR_BYTES as u64), "whole sectors");
const _: () = assert!(WRITE_BLOCKS < FILE_BLOCKS, "a write fits its file");
const _: () = assert!(COMMITS_WAITING < COMMITS_PER_TRIM, "what is trimmed was acknowledged");
