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

/// Free memory of one size that a thread keeps for itself, in bytes, so that what it used last is used
/// next; the rest is everybody's.
pub const KEPT_BUFFER_BYTES: usize = CHUNK_BYTES;

/// The largest buffer that can be asked for at all. A request above it is a bug in the caller,
/// which must have checked the length it was given.
pub const BUFFER_BYTES: usize = 1 << 30;

/// Parcels that may wait in one direction between two shards.
pub const MAILBOX_PARCELS: usize = 1024;

const _: () = assert!(BLOCK_BYTES.is_power_of_two(), "offsets are masked with it");
const _: () = assert!(CHUNK_BYTES.is_multiple_of(BLOCK_BYTES), "chunks are cut into blocks");
const _: () = assert!(KEPT_BUFFER_BYTES >= POOLED_BUFFER_BYTES, "a buffer of any size is kept");
const _: () = assert!(POOLED_BUFFER_BYTES <= CHUNK_BYTES, "a pooled buffer comes from one chunk");

/// Shards one process can have: their mailboxes grow with the square of their number.
pub const SHARDS: usize = 256;

/// Tasks a shard polls before it looks at its completions, timers and mail again.
pub const TASKS_PER_TURN: usize = 256;

/// Reads and writes that are handed over together while other tasks are ready, so that the device
/// works meanwhile.
pub const TRANSFERS_AT_ONCE: usize = 16;

/// CPU time of the groups of a shard's tasks, by [`Group::index`](crate::Group::index), where
/// several have ready tasks.
pub const GROUP_CPU_SHARES: [u64; 3] = [8, 2, 1];

/// How far a group can fall behind its share of the CPU and still get all of it later, in
/// microseconds: a group that had nothing to do for long does not hold up the others for long.
pub const GROUP_CPU_LAG_US: u64 = 1000;

/// A turn in which tasks of groups other than the foreground run ends after so much time, in
/// microseconds, so that what comes meanwhile for the foreground does not wait longer.
pub const SHARED_TURN_US: u64 = 50;

/// Bytes that the files of a group may have in flight, by [`Group::index`](crate::Group::index),
/// while the foreground leaves the disk alone: enough to use all of it.
pub const GROUP_BYTES: [u64; 3] = [u64::MAX, 8 << 20, 4 << 20];

/// The same while the foreground uses the disk.
pub const GROUP_BYTES_BESIDE_FOREGROUND: [u64; 3] = [u64::MAX, 1 << 20, 512 << 10];

/// What a small read or write counts for among the bytes in flight: it takes a device's time, too.
pub const GROUP_OPERATION_BYTES: u64 = 64 << 10;

/// How long after its latest read or write the foreground is taken to use the disk, in
/// milliseconds.
pub const FOREGROUND_USE_MS: u64 = 10;

/// How long an idle shard polls before it sleeps, in microseconds, if it polls at all. Waking a
/// sleeping core costs about 20 us each way.
pub const IDLE_SPIN_US: u64 = 50;

/// Rounds of idle polling of which one yields, where no write or flush in flight asks for all of them.
pub const IDLE_ROUNDS_PER_YIELD: u32 = 8;

/// What it takes to wake a sleeping shard, in microseconds: a wait that was slept through would
/// have been so much shorter without.
pub const WAKING_US: u64 = 20;

/// Waits that become shorter than this on average, in microseconds, are polled through from then
/// on, and until they are longer than [`LONG_WAIT_US`].
pub const SHORT_WAIT_US: u64 = 10;

/// Waits that become longer than this on average, in microseconds, are slept through. With 25, one
/// run of four durable writes in flight took a fifth more CPU time than sleeping, and won nothing.
pub const LONG_WAIT_US: u64 = 16;

/// The longest that two shards which wait for each other, and both sleep, usually wait, in
/// microseconds, without their own waking. A probe polls for so long.
pub const PROBE_WAIT_US: u64 = 60;

/// Waits that a probe polls through: enough for the other shard to have short waits on average, and
/// then for this one.
pub const PROBE_WAITS: u32 = 40;

/// How long after a probe that found nothing there is another, in milliseconds. After each, twice as
/// long, up to [`PROBE_PAUSE_MAX_MS`].
pub const PROBE_PAUSE_MS: u64 = 20;

/// The longest pause between two probes, in milliseconds.
pub const PROBE_PAUSE_MAX_MS: u64 = 640;

/// The longest that one wait counts for in the average, in microseconds: after a long pause, a
/// burst of messages is polled through soon.
pub const WAIT_SAMPLE_US: u64 = 400;

/// How long a busy shard that has writes in flight goes on before it yields, in microseconds: the
/// most that the kernel's worker waits for its turn.
pub const BUSY_YIELD_US: u64 = 20;

/// A round of idle polling that takes longer than this, in microseconds, means that others want the
/// CPU: yielding it takes well below a microsecond otherwise.
pub const CONTENDED_YIELD_US: u64 = 200;

/// How long a shard then sleeps at once when it is idle, without polling, in milliseconds.
pub const CONTENDED_PAUSE_MS: u64 = 100;

/// Entries of a ring's submission queue. More operations than that wait in memory for room.
pub const RING_SUBMISSIONS: u32 = 512;

/// Entries of a ring's completion queue. What does not fit is kept by the kernel (NODROP).
pub const RING_COMPLETIONS: u32 = 4096;

/// Chunks of buffer memory that a ring can register: 8 GiB of them.
pub const REGISTERED_CHUNKS: u32 = 4096;

/// Files that a ring can register. Those opened beyond that are used by descriptor.
pub const REGISTERED_FILES: u32 = 1024;

/// Threads that do a shard's blocking file calls where there is no ring. Four is where durable
/// writes in flight stop paying.
pub const HELPER_THREADS: usize = 4;

/// Connections that may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
pub const LISTEN_BACKLOG: i32 = 4096;

/// Segments handed to the kernel in one send: its own limit, `IOV_MAX`.
pub const SEND_SEGMENTS: usize = 1024;

/// Memory that glommio registers with its three rings, in bytes, and reads and writes through. Each
/// ring is charged with it: three times this fits the usual limit on locked memory, 8 MiB.
pub const GLOMMIO_MEMORY_BYTES: usize = 2 << 20;

/// The most bytes that one request to glommio moves: what is longer goes piece by piece, so that a
/// copy of it does not take as much memory again.
pub const GLOMMIO_PIECE_BYTES: usize = 512 << 10;

/// The longest that glommio is asked to sleep at once, in seconds.
pub const GLOMMIO_SLEEP_S: u64 = 3600;

/// Segments of a message that is sent without a request to the driver, if the kernel has room for
/// it. A message of more always takes one.
pub const SEGMENTS_AT_ONCE: usize = 16;

const _: () = assert!(3 * GLOMMIO_MEMORY_BYTES <= 8 << 20, "an ordinary user can lock it");
const _: () = assert!(GLOMMIO_PIECE_BYTES <= GLOMMIO_MEMORY_BYTES, "a piece fits the memory");
const _: () = assert!(GLOMMIO_PIECE_BYTES.is_multiple_of(BLOCK_BYTES), "pieces are whole blocks");
const _: () = assert!(SEGMENTS_AT_ONCE <= SEND_SEGMENTS, "one system call takes them");
const _: () = assert!(REGISTERED_CHUNKS <= 1 << 14, "the most buffers that a ring takes");
const _: () = assert!(RING_SUBMISSIONS.is_power_of_two(), "the kernel rounds it up otherwise");
const _: () = assert!(RING_COMPLETIONS >= 2 * RING_SUBMISSIONS, "an operation and its cancel");
const _: () = assert!(BUFFER_BYTES <= 0x7fff_f000, "the kernel cuts longer transfers short");
