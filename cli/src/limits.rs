//! Every bound and threshold of this crate, in one place.

use woodchuck_io::limits::{BLOCK_BYTES, BUFFER_BYTES};
use woodchuck_wal::limits::FRAMES_IN_FLIGHT;

/// Block sizes that `probe` measures, in bytes: the smallest write of the log, what a frame of a
/// few clients holds, and what is read and written in bulk.
pub const PROBE_BLOCK_BYTES: [usize; 4] = [4 << 10, 64 << 10, 128 << 10, 1 << 20];

/// Operations in flight that `probe` measures: a lone client, the log's usual number of frames,
/// and what shows the most that a volume gives.
pub const PROBE_DEPTHS: [usize; 3] = [1, 4, 16];

/// The scratch file of `probe`, in bytes, unless the command line says otherwise. Large enough that
/// not all of it fits the cache of a plain disk.
pub const PROBE_SCRATCH_BYTES: u64 = 256 << 20;

/// The smallest scratch file: no two operations in flight shall meet in one place.
pub const PROBE_SCRATCH_BYTES_MIN: u64 = 16 << 20;

/// The share of the free space that the scratch file takes at most, as its inverse. A broker may be
/// writing to the volume, and must not find it full.
pub const PROBE_SCRATCH_SHARE: u64 = 4;

/// How the scratch file is filled, in bytes of one write.
pub const PROBE_FILL_BYTES: usize = 1 << 20;

/// Writes in flight while the scratch file is filled.
pub const PROBE_FILL_DEPTH: usize = 4;

/// Seconds of one measurement, unless the command line says otherwise. There are about fifty.
pub const PROBE_SECONDS: f64 = 0.25;

/// The shortest measurement, in seconds.
pub const PROBE_SECONDS_MIN: f64 = 0.001;

/// The longest measurement, in seconds.
pub const PROBE_SECONDS_MAX: f64 = 600.0;

/// A flush below this, in nanoseconds, is quicker than flash can be written: programming a page
/// takes at least 100 us, and usually several times that. What answers sooner has kept the data in
/// memory: that of a device with capacitors, of a controller with a battery, of a host, or of a
/// device that says what is not so.
pub const FLUSH_PROTECTED_NS: u64 = 100_000;

/// A flush above this, in nanoseconds, is as slow as a turn of a rotating disk.
pub const FLUSH_SLOW_NS: u64 = 5_000_000;

/// Several durable writes in flight pay if they do at least so many times the work of one.
pub const GAIN_MIN: f64 = 1.5;

/// Rates and times that differ by less than this factor are told as equal: so much they scatter on
/// a machine that does other things too.
pub const EQUAL_WITHIN: f64 = 1.15;

/// The slowest hundredth of durable writes is worth a warning if it takes so many times as long as
/// the median.
pub const TAIL_MAX: f64 = 10.0;

/// Fewer operations than this have no slowest hundredth.
pub const TAIL_OPERATIONS_MIN: u64 = 100;

/// Durable writes that take so many times as long as a write and a flush do not wait for the disk.
pub const CONTENDED_MIN: f64 = 3.0;

/// A measurement of fewer operations than this says little.
pub const OPERATIONS_MIN: u64 = 20;

/// A machine is busy if its load average, for each CPU, is above this before anything is measured.
pub const BUSY_LOAD: f64 = 0.75;

/// Frames of a log in flight that may be chosen for a volume, rising.
pub const FLIGHT_DEPTHS: [usize; 5] = [1, 2, 4, 8, 16];

/// The largest of them, and the most that `serve` takes from its command line.
pub const FLIGHT_DEPTH_MAX: usize = FLIGHT_DEPTHS[FLIGHT_DEPTHS.len() - 1];

/// Durable writes that are measured for that choice, in bytes: the log's smallest frame, and one
/// that many clients have filled.
pub const FLIGHT_BLOCK_BYTES: [usize; 2] = [4 << 10, 64 << 10];

/// What a depth may lose of the best rate to be chosen for being smaller. Short measurements
/// scatter by as much.
pub const FLIGHT_LOSS_MAX: f64 = 0.05;

/// What the step to a depth must gain, as a factor: below it, writes only take longer.
pub const FLIGHT_GAIN_MIN: f64 = 1.05;

/// The file that is written for that choice, in bytes.
pub const FLIGHT_SCRATCH_BYTES: u64 = 4 << 20;

/// How often each size and depth is measured. The median counts: one disturbance changes nothing.
pub const FLIGHT_ROUNDS: usize = 3;

/// What all measurements for that choice take together when `serve` makes them, in milliseconds.
pub const FLIGHT_MEASURE_MS: u64 = 300;

/// When `serve` gives up measuring, in milliseconds: a start shall not take much longer for it.
pub const FLIGHT_GIVE_UP_MS: u64 = 450;

/// Segments that a shard's new log makes: the one in use, and the next.
pub const SEGMENTS_AT_START: u64 = 2;

/// Lines that `repair` prints of a list: of partitions there may be hundreds of thousands.
pub const REPAIR_LINES: usize = 20;

/// Bytes of a key that are shown, at most.
pub const KEY_SHOWN_BYTES: usize = 64;

/// Entries that `inspect` shows, unless the command line says otherwise.
pub const INSPECT_ENTRIES: u64 = 1000;

const _: () = {
    let mut index = 0;
    while index < PROBE_BLOCK_BYTES.len() {
        let bytes = PROBE_BLOCK_BYTES[index];
        assert!(bytes.is_multiple_of(BLOCK_BYTES), "direct I/O is done in blocks");
        assert!(bytes <= BUFFER_BYTES, "a block fits a buffer");
        index += 1;
    }
};
const _: () = assert!(
    PROBE_SCRATCH_BYTES_MIN
        >= (PROBE_BLOCK_BYTES[PROBE_BLOCK_BYTES.len() - 1] * PROBE_DEPTHS[PROBE_DEPTHS.len() - 1])
            as u64,
    "operations in flight do not meet"
);
const _: () = assert!(PROBE_SCRATCH_BYTES_MIN.is_multiple_of(PROBE_FILL_BYTES as u64));
const _: () = assert!(FLIGHT_DEPTH_MAX <= FRAMES_IN_FLIGHT, "the log takes what is chosen");
const _: () = {
    let largest = FLIGHT_BLOCK_BYTES[FLIGHT_BLOCK_BYTES.len() - 1];
    assert!(FLIGHT_SCRATCH_BYTES >= (largest * FLIGHT_DEPTH_MAX) as u64, "writes do not meet");
    assert!(FLIGHT_SCRATCH_BYTES.is_multiple_of(largest as u64), "each place is whole");
    assert!(FLIGHT_SCRATCH_BYTES.is_multiple_of(PROBE_FILL_BYTES as u64), "it is filled");
    assert!(FLIGHT_SCRATCH_BYTES <= PROBE_SCRATCH_BYTES_MIN, "probe measures the same");
};
const _: () = assert!(FLIGHT_MEASURE_MS < FLIGHT_GIVE_UP_MS);
const _: () = assert!(FLUSH_PROTECTED_NS < FLUSH_SLOW_NS);
