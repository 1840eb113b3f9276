//! Every bound of this crate, in one place.

use std::time::Duration;

use woodchuck_io::limits::BLOCK_BYTES;

/// The unit that a power cut leaves old, new or torn, in bytes, on disks with the smallest sectors,
/// and of which a read may see parts of a write in flight.
pub const SECTOR_BYTES: usize = 512;

/// Machines in one world: their addresses come from one private network.
pub const MACHINES: usize = 4096;

/// Shards in one process. Choices are numbered by machine and shard with this stride.
pub const SHARDS: usize = 64;

/// Range of one choice. Anything wider is two choices, so that a tape stays readable.
pub const CHOICE_RANGE: u64 = 1 << 32;

/// Nodes below this are looked up by index, others in a map.
pub(crate) const DENSE_NODES: u32 = 1024;

/// Trace entries kept for the report of a failure.
pub const TRACE_ENTRIES: usize = 4096;

/// Events between two checkpoints of the trace hash: a run of a million events leaves two kilobytes
/// of them, and one window of events is a page to read.
pub const CHECKPOINT_EVENTS: u64 = 4096;

/// Occurrences that a chronicle remembers: a run of some minutes, or some tens of megabytes.
pub const CHRONICLE_OCCURRENCES: usize = 1 << 18;

/// Occurrences that the report of a run draws: a few megabytes of page, and still drawn at once.
pub const REPORTED_OCCURRENCES: usize = 20_000;

/// Choices of a tape that the report of a run lists.
pub const REPORTED_CHOICES: usize = 2_000;

/// Runs in which a divergence may hide before the search for its first event is given up.
pub(crate) const DIVERGING_RUNS: usize = 12;

/// Runs that shrinking a tape may take, unless it is told otherwise.
pub const SHRINK_RUNS: usize = 2000;

/// How often the longest waiting task may be passed over before it is run whatever the policy.
/// Without a bound, last-in-first-out starves tasks for ever, which no real executor does.
pub const PASSED_OVER: u32 = 64;

/// How often in a row a core that the policy starves may be made to wait while others have something
/// to do.
pub const DEFERRED_TURNS: u32 = 64;

/// Polls with nothing else happening in the world, after which it is called a livelock.
pub const LIVELOCK_POLLS: u64 = 1_000_000;

/// How much time may pass while a world is run to idle, before it is said to never rest.
pub const IDLE_WITHIN: Duration = Duration::from_secs(7 * 24 * 3600);

/// How often one poll may ask something of the world, the time for one, before it is said to spin.
pub const POLL_VISITS: u32 = 10_000_000;

/// Events between two looks at what always holds in a scenario.
pub const ALWAYS_EVENTS: u64 = 4096;

/// Worlds from which on a campaign must have seen every kind of fault change something.
pub const WORLDS_FOR_ALL_FAULTS: u64 = 1000;

/// Cost of one poll, in nanoseconds: drawn once for each shard of each process.
pub(crate) const POLL_NANOS: (u64, u64) = (200, 2_000);

/// How much slower than others the starved shard runs.
pub(crate) const STARVED_FACTOR: u64 = 40;

/// Connections that may wait to be accepted on one listener. The next one's request is dropped, and
/// its dialler asks again.
pub const BACKLOG_CONNECTIONS: usize = 1024;

/// Bytes on their way or unread in one direction of a connection: one of these is drawn for each
/// connection. A writer waits while the window is full.
pub const WINDOW_BYTES: [usize; 4] = [1 << 20, 256 << 10, 64 << 10, 16 << 10];

/// First of the ports that connecting sockets and listeners on port 0 are given.
pub const FIRST_EPHEMERAL_PORT: u16 = 32_768;

/// Bytes of a disk, unless a test says otherwise.
pub const DISK_BYTES: u64 = 1 << 40;

/// Bytes in one name of a path, as on the filesystems in use.
pub const NAME_BYTES: usize = 255;

/// Bytes in a path, with the zero that ends it below the seam.
pub const PATH_BYTES: usize = 4096;

/// Operations in flight on one disk, from which on it is said to take any number.
pub const ENDLESS_QUEUE: usize = 65_535;

/// How long it takes to learn the length of an open file: at least, and how much more at most, in
/// nanoseconds.
pub(crate) const LENGTH_NANOS: (u64, u64) = (1_000, 4_000);

/// For how long a disk that stalls completes nothing.
pub(crate) const DISK_STALL: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(60));

/// For how long a disk is slow.
pub(crate) const DISK_SLOW_PERIOD: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(10));

/// How many times slower a disk is while it is slow.
pub(crate) const DISK_SLOW_FACTOR: (u64, u64) = (10, 100);

/// For how long a disk lies about flushes.
pub(crate) const DISK_LYING_PERIOD: (Duration, Duration) =
    (Duration::from_millis(10), Duration::from_secs(10));

/// Neighbouring blocks that become unreadable at once, at most.
pub(crate) const LATENT_CLUSTER_BLOCKS: u64 = 8;

/// Bytes, besides two, that change in one burst, at most.
pub(crate) const BURST_BYTES: usize = 62;

/// Unlinked files that are kept before a sweep looks for files that nothing can bring back.
pub(crate) const UNSWEPT_FILES: usize = 32;

/// Timers that were dropped and still sit in the event queue, before the queue is rebuilt.
pub(crate) const STALE_TIMERS: usize = 4096;

/// In so many steps the latency of a packet is drawn.
pub(crate) const LATENCY_STEPS: u64 = 1024;

/// How many times longer a packet in the tail of a link's latencies takes.
pub(crate) const TAIL_FACTOR: u64 = 20;

/// How long a sender waits for an answer before it sends again; twice as long the next time.
pub(crate) const RESEND_AFTER: Duration = Duration::from_millis(200);

/// So many losses of one packet, and its sender gives up the connection: after 12.6 s.
pub(crate) const RESENDS: u32 = 6;

/// How long a dialler waits before it asks again; twice as long the next time.
pub(crate) const REDIAL_AFTER: Duration = Duration::from_secs(1);

/// Packets, per million, that a gray link loses for each unit of its factor if its profile names a
/// smaller loss: a factor says nothing about a link that never loses anything.
pub(crate) const GRAY_LOSS: u32 = 100;

/// A clogged link lets one packet pass in this time.
pub(crate) const CLOG_INTERVAL: Duration = Duration::from_millis(50);

/// How long a link that clogs by itself stays so: the least, and how much longer it may be.
pub(crate) const CLOG_LEAST: Duration = Duration::from_millis(10);
/// See [`CLOG_LEAST`].
pub(crate) const CLOG_SPREAD: Duration = Duration::from_secs(2);

/// How long held packets take once their link has healed.
pub(crate) const HEALED_NANOS: u64 = 200_000;

/// The longest burst of bytes that a corrupted packet has changed.
pub(crate) const CORRUPT_BYTES: usize = 16;

/// How long a connection attempt to a machine that is off waits at least before it fails.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an end of a connection bears silence at least before it gives up, be it that the other
/// end's machine lost power, that it has forgotten the connection, or that a partition lies between.
pub(crate) const SILENCE_TIMEOUT: Duration = Duration::from_secs(15);

const _: () = assert!(BLOCK_BYTES.is_multiple_of(SECTOR_BYTES), "a block is whole sectors");
const _: () = assert!(MACHINES * SHARDS < u32::MAX as usize, "a node number is 32 bits");
const _: () = assert!(POLL_NANOS.0 > 0, "time must move with every poll, or a loop is invisible");
const _: () =
    assert!(CLOG_SPREAD.as_nanos() < CHOICE_RANGE as u128, "how long a clog lasts is one choice");
const _: () = assert!(
    (1 << RESENDS) * RESEND_AFTER.as_millis() < SILENCE_TIMEOUT.as_millis(),
    "a sender that gives up does so before its peer does"
);
