//! The seam: what a shard may ask of the world, and what it may rely on.
//!
//! # What survives what
//!
//! Three things can end a shard without its consent. The promises below are the only ones the
//! engine may build on; the backends and the simulated disk are held to them.
//!
//! | | process crash | OS crash | power cut |
//! |---|---|---|---|
//! | operation still in flight | each block old or new | each block old or new | each sector old, new, or torn |
//! | `write_at` completed, `Volatile` | kept | may be lost, block by block | may be lost or torn, sector by sector |
//! | `write_at` completed, `Durable` | kept | kept | kept |
//! | `Volatile` write, then `sync_data` completed | kept | kept | kept |
//! | `sync_data` or `Durable` write **failed** | unknown for ever | unknown for ever | unknown for ever |
//! | create, link, rename, remove, of directories too | kept | only after `sync_directory` | only after `sync_directory` |
//! | rename, not synced | kept | all of it or nothing | all of it or nothing |
//! | `allocate`, `truncate` completed | kept | only after `sync_data` | only after `sync_data` |
//!
//! "Unknown for ever": after a failed flush the kernel may have dropped the data and marked it
//! clean, so a later flush that succeeds proves nothing. The caller must never retry; it must stop
//! trusting the file.
//!
//! A rename is one atomic step, also from one directory to another: who looks, and who comes after a
//! crash, finds the names as they were before it or as they are after it, never half of each. So a
//! name whose file is replaced has the old file or the new one at any time, and never none. What the
//! new file holds after a crash is as durable as its writes were: they are to be synced before.
//!
//! A file may have several names, which [`Disk::link`] gives it. They are equal: it is there, with what
//! was made durable of it, as long as one of them is, and each is as durable as its own directory.
//!
//! A `Durable` write makes its own bytes durable and nothing else: not bytes that an earlier
//! `Volatile` write put elsewhere in the file, and not the file's name.

use std::any::Any;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::{Buffer, Monotonic, RandomStream, Task, WallTime};

/// The world as one shard sees it. Cheap to clone, bound to the shard's thread.
pub trait Env: Clone + 'static {
    /// The disk of this environment.
    type Disk: Disk;
    /// The network of this environment.
    type Net: Net;
    /// The mailboxes between the shards of this process.
    type Mesh: Mesh;

    /// The disk.
    fn disk(&self) -> &Self::Disk;

    /// The network.
    fn net(&self) -> &Self::Net;

    /// The mailboxes to the other shards of this process.
    fn mesh(&self) -> &Self::Mesh;

    /// Monotonic time now.
    fn now(&self) -> Monotonic;

    /// Wall time now.
    fn wall(&self) -> WallTime;

    /// Completes at or after `deadline`.
    fn sleep_until(&self, deadline: Monotonic) -> impl Future<Output = ()> + 'static;

    /// Completes after at least `duration`.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        self.sleep_until(self.now() + duration)
    }

    /// A stream of random numbers. Two calls with one name give two different streams in
    /// production, and two different but repeatable ones in simulation.
    fn random(&self, name: &'static str) -> RandomStream;

    /// Starts a task on this shard. The task is cancelled when the returned handle is dropped,
    /// unless [`Task::detach`] let it go.
    fn spawn<F>(&self, name: &'static str, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static;

    /// This environment for work of `group`: tasks that are spawned and files that are opened
    /// through it, and through its clones, belong to that group. The environment that a program is
    /// given is of [`Group::Foreground`].
    #[must_use]
    fn in_group(&self, group: Group) -> Self;

    /// Lets every other ready task of this shard that is in the same group run once before this
    /// one goes on.
    fn yield_now(&self) -> impl Future<Output = ()> + 'static;

    /// Completes when this process has been asked to stop gracefully. Completes at once if it was
    /// asked before.
    fn stopping(&self) -> impl Future<Output = ()> + 'static;
}

/// What a piece of work is for. A shard's groups share its CPU and its disk so that work that can
/// wait does not hold up work that somebody waits for.
///
/// - **CPU.** Where tasks of several groups are ready, each group gets time by its share
///   ([`GROUP_CPU_SHARES`](crate::limits::GROUP_CPU_SHARES)); none is left without. A task that
///   runs is not interrupted.
/// - **Disk.** What the files of a group other than the foreground have in flight at a time is
///   bounded ([`GROUP_BYTES`](crate::limits::GROUP_BYTES)), more tightly while the foreground uses
///   the disk. Reads and writes beyond that wait in the shard, in their order, which changes
///   nothing but when they are done. Flushes do not wait.
///
/// The groups are promises about time and about nothing else. A simulated world takes any order
/// that the seam allows, and so does not know them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Somebody waits for it.
    #[default]
    Foreground,
    /// It makes room for the foreground, which would have to wait otherwise.
    Flush,
    /// It is for later.
    Compaction,
}

impl Group {
    /// All groups.
    pub const ALL: [Self; 3] = [Self::Foreground, Self::Flush, Self::Compaction];

    /// Its place in [`ALL`](Self::ALL) and in tables by group.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What a process does on each of its shards. The backends and the simulator call `run` once per
/// shard, each with that shard's own environment.
pub trait Program: Clone + Send + 'static {
    /// What a shard returns when it is done.
    type Output: Send + 'static;

    /// Runs one shard to its end.
    fn run<E: Env>(self, env: E) -> impl Future<Output = Self::Output> + 'static;
}

/// How much a completed write promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The bytes are visible to later reads; see the table for what a crash does to them.
    Volatile,
    /// The bytes are on stable storage when the write completes.
    Durable,
}

/// How [`Disk::open`] treats a file that is there, or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Open for reading only. `NotFound` if there is no such file.
    Read,
    /// Open for reading and writing. `NotFound` if there is no such file.
    Write,
    /// Create, then open for reading and writing. `AlreadyExists` if there is such a file.
    CreateNew,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirectoryEntry {
    /// The name, without its directory.
    pub name: String,
    /// Whether it names a directory.
    pub is_directory: bool,
}

/// Directories and the files in them. Paths are as the process sees them.
pub trait Disk: Clone + 'static {
    /// An open file.
    type File: File;
    /// Holds an exclusive lock for as long as it lives.
    type Lock: 'static;

    /// Opens a file for direct I/O where the filesystem takes it.
    fn open(
        &self,
        path: &Path,
        mode: OpenMode,
    ) -> impl Future<Output = io::Result<Self::File>> + 'static;

    /// Creates a directory and its missing parents. No error if it is there.
    fn create_directory(&self, path: &Path) -> impl Future<Output = io::Result<()>> + 'static;

    /// Renames a file, replacing the file that bears the new name. One step: see the module's table.
    /// A directory is renamed with all that is in it, to a name that nothing bears.
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>> + 'static;

    /// Gives a file one more name. `AlreadyExists` if something bears it; nothing is replaced.
    /// `CrossesDevices` if the two would be on different filesystems, and other errors where a
    /// filesystem has no links or has enough of them: the caller copies, or gives up. A directory has
    /// one name only.
    fn link(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>> + 'static;

    /// Removes a file's name, and with its last name the file.
    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>> + 'static;

    /// Removes a directory that is empty; `DirectoryNotEmpty` if it is not.
    fn remove_directory(&self, path: &Path) -> impl Future<Output = io::Result<()>> + 'static;

    /// The names in a directory, in no particular order. `NotFound` if there is no such directory.
    fn list(&self, path: &Path) -> impl Future<Output = io::Result<Vec<DirectoryEntry>>> + 'static;

    /// Makes the names in a directory durable: creations, links, renames and removals that
    /// completed before.
    fn sync_directory(&self, path: &Path) -> impl Future<Output = io::Result<()>> + 'static;

    /// Takes an exclusive lock on the file at `path`, creating it if needed. `WouldBlock` if
    /// another process holds it. The lock ends with the process, however that ends.
    fn lock(&self, path: &Path) -> impl Future<Output = io::Result<Self::Lock>> + 'static;
}

/// An open file. Offsets, and the windows of the buffers passed in, are multiples of
/// [`BLOCK_BYTES`](crate::limits::BLOCK_BYTES); anything else is `InvalidInput`.
///
/// Operations may be dropped before they complete: the buffer then stays with the backend until
/// the world is done with it, and the operation may or may not have happened. Operations in flight
/// at the same time are not ordered.
pub trait File: Clone + 'static {
    /// Reads into the buffer from `offset`: up to the buffer's capacity. On success the buffer
    /// holds exactly the bytes read, and their number is returned; it may be short, and it is zero
    /// only at the end of the file. On failure the buffer is empty.
    fn read_at(
        &self,
        buffer: Buffer,
        offset: u64,
    ) -> impl Future<Output = (io::Result<usize>, Buffer)> + 'static;

    /// Writes the whole of the buffer's content at `offset`. The buffer comes back unchanged
    /// either way. If it fails, any subset of the blocks may have been written; see the module's
    /// table.
    fn write_at(
        &self,
        buffer: Buffer,
        offset: u64,
        durability: Durability,
    ) -> impl Future<Output = (io::Result<()>, Buffer)> + 'static;

    /// Makes all writes that completed before, and the file's length, durable.
    fn sync_data(&self) -> impl Future<Output = io::Result<()>> + 'static;

    /// Makes the file at least `length` bytes long and reserves its space; new bytes read as
    /// zeros. `StorageFull` if there is no room, which changes nothing.
    fn allocate(&self, length: u64) -> impl Future<Output = io::Result<()>> + 'static;

    /// Cuts or extends the file to `length` bytes.
    fn truncate(&self, length: u64) -> impl Future<Output = io::Result<()>> + 'static;

    /// The file's length in bytes.
    fn length(&self) -> impl Future<Output = io::Result<u64>> + 'static;
}

/// The network: reliable byte streams.
pub trait Net: Clone + 'static {
    /// A socket that accepts connections.
    type Listener: Listener<Stream = Self::Stream>;
    /// A connection.
    type Stream: Stream;

    /// Listens on an address. The shards of one process may each listen on one address and then
    /// share what arrives; `AddrInUse` if another process has it. Port 0 picks a free port.
    fn listen(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::Listener>> + 'static;

    /// Connects to an address.
    fn connect(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::Stream>> + 'static;
}

/// A socket that accepts connections.
pub trait Listener: Clone + 'static {
    /// A connection.
    type Stream: Stream;

    /// The next connection, with its peer's address. One call at a time.
    ///
    /// A call that is dropped may have got a connection, or be about to: the next call on this
    /// shard gets that one first. A shard that will not call again drops its listener, and with it
    /// what such a call got; the connections that nobody got are the other shards'.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + 'static;

    /// The address listened on, its port filled in.
    fn local_address(&self) -> SocketAddr;
}

/// A connection: two byte streams, one each way. Clones are the same connection; it is closed when
/// the last is dropped. At most one `read` and one `write` may be in flight at a time.
pub trait Stream: Clone + 'static {
    /// Appends what has arrived to `buffer`: at least one byte, at most its spare capacity, which
    /// must not be zero. Returns zero when the peer has sent its last byte.
    fn read(
        &self,
        buffer: BytesMut,
    ) -> impl Future<Output = (io::Result<usize>, BytesMut)> + 'static;

    /// Sends all of `segments`, in order, without copying them. When it returns the bytes have
    /// been handed over, not received. If it fails, any prefix may have been sent.
    fn write(&self, segments: Vec<Bytes>) -> impl Future<Output = io::Result<()>> + 'static;

    /// Says that nothing more will be sent: the peer reads the end once it has read all before.
    /// Reading goes on.
    fn shutdown(&self) -> impl Future<Output = io::Result<()>> + 'static;
}

/// What travels between shards: an owned value.
pub type Parcel = Box<dyn Any + Send>;

/// The mailboxes between the shards of one process. Parcels from one shard to another arrive in
/// the order they were sent, once each, if the process lives; between different pairs there is no
/// order. Each direction holds at most
/// [`MAILBOX_PARCELS`](crate::limits::MAILBOX_PARCELS).
pub trait Mesh: Clone + 'static {
    /// The index of this shard, below [`shards`](Self::shards).
    fn shard(&self) -> usize;

    /// How many shards the process has.
    fn shards(&self) -> usize;

    /// Sends a parcel to a shard, waiting while that mailbox is full. A shard may send to itself.
    fn send(&self, to: usize, parcel: Parcel) -> impl Future<Output = ()> + 'static;

    /// The next parcel for this shard, with the index of its sender. One call at a time.
    fn receive(&self) -> impl Future<Output = (usize, Parcel)> + 'static;
}
