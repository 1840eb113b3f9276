//! What the shared half of the backends asks of a driver: to carry out requests that are nothing
//! but numbers and addresses, as a kernel does, and to say when the memory behind them is free
//! again.
//!
//! Ownership stays on this side. The slot of an operation ([`super::slab`]) keeps buffers,
//! addresses and descriptors alive until the driver has reported the operation's completion, no
//! matter what became of the future that started it. That holds for a ring, where the kernel
//! writes into the memory, and for the posix driver, where another thread does.

use std::cell::RefCell;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::doorbell::Doorbell;
use crate::buffer::Chunk;
use crate::runtime::{Backend, CompletionMode};

/// Names an operation in flight. Drivers hand it back and never look inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(pub(crate) u64);

/// An open file, as a request names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileTarget {
    pub(crate) fd: RawFd,
    /// Its place among the files that are registered with the driver, if it has one.
    pub(crate) slot: Option<u32>,
}

/// The places of registered files that were closed, for the driver to use again.
pub(crate) type ReleasedSlots = Rc<RefCell<Vec<u32>>>;

/// One thing to do, by descriptor and address.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request {
    /// Read up to `length` bytes of a file into `start`.
    Read {
        file: FileTarget,
        start: *mut u8,
        length: usize,
        offset: u64,
        /// The pooled chunk that the memory lies in, if it lies in one.
        chunk: Option<Chunk>,
    },
    /// Write up to `length` bytes from `start` into a file; on stable storage when done if
    /// `durable`.
    Write {
        file: FileTarget,
        start: *const u8,
        length: usize,
        offset: u64,
        durable: bool,
        /// As for a read.
        chunk: Option<Chunk>,
    },
    /// Flush a file, its metadata too unless `data_only`.
    Sync { file: FileTarget, data_only: bool },
    /// `fallocate` of the first `length` bytes of a file.
    Allocate { file: FileTarget, length: u64, mode: i32 },
    /// Accept a connection; the peer's address goes to `address`.
    Accept { fd: RawFd, address: *mut libc::sockaddr, length: *mut libc::socklen_t },
    /// Connect to `address`.
    Connect { fd: RawFd, address: *const libc::sockaddr, length: libc::socklen_t },
    /// Receive up to `length` bytes into `start`. If `patient`, nothing has arrived yet, most likely.
    Receive { fd: RawFd, start: *mut u8, length: usize, patient: bool },
    /// Send up to `length` bytes from `start`.
    Send { fd: RawFd, start: *const u8, length: usize },
    /// Send what a message header points at.
    SendMessage { fd: RawFd, message: *const libc::msghdr },
}

/// The end of an operation: what its system call returned, errors as `-errno`. After this the
/// driver touches no memory of the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) key: Key,
    pub(crate) result: i32,
}

/// Whether a poll may block.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wait {
    /// Look and return.
    No,
    /// Sleep until something completes, the doorbell rings, or so much time has passed. The
    /// shard has announced its sleep on the doorbell: nobody rings for one that is awake.
    AtMost(Option<Duration>),
}

/// What a driver is made from.
pub(crate) struct DriverSetup {
    /// Rung by other threads to end the driver's sleep.
    pub(crate) doorbell: Arc<Doorbell>,
    /// Name of the shard's thread, for threads the driver starts.
    pub(crate) name: String,
    /// The CPUs the process may use, for threads that must not share the shard's.
    pub(crate) allowed: Option<libc::cpu_set_t>,
    /// How a ring's completions are run.
    pub(crate) completion_mode: CompletionMode,
}

/// Carries out requests for one shard, on the shard's thread.
pub(crate) trait Driver: Sized + 'static {
    /// Its name among the backends.
    const BACKEND: Backend;

    /// Whether sockets must be non-blocking: a ring waits for a blocking one by itself, and gives
    /// up at once on the other kind.
    const NONBLOCKING_SOCKETS: bool;

    /// A driver for the calling thread.
    fn new(setup: DriverSetup) -> io::Result<Self>;

    /// Makes an open file known, so that requests find it faster. None if it has no room for it, or
    /// nothing to gain. The file stays open, whatever becomes of the descriptor, until its place is
    /// among those of `released` and the driver was polled.
    fn register_file(&mut self, _fd: RawFd) -> Option<u32> {
        None
    }

    /// Where the places of files that are closed are to be put.
    fn released(&self) -> ReleasedSlots {
        ReleasedSlots::default()
    }

    /// Starts a request. It may wait in memory and reach the kernel with the next flush or poll.
    ///
    /// # Safety
    /// 1. The addresses in `request` are valid for their lengths, and nothing else reads (or, if
    ///    the request only reads, writes) them, until its completion has been reported.
    /// 2. The descriptor stays open until then.
    /// 3. No other request in flight has this key.
    unsafe fn submit(&mut self, key: Key, request: Request);

    /// Hands over what waits in memory.
    fn flush(&mut self) {}

    /// Whether nothing waits in memory, neither requests nor answers.
    fn is_empty(&self) -> bool;

    /// Asks for an early end of a request in flight. Its completion is reported all the same,
    /// sooner or later, with `-ECANCELED` or with what it did.
    fn cancel(&mut self, key: Key);

    /// Appends what has completed to `completions`. Sleeps as `wait` says, but only if nothing has
    /// completed already.
    fn poll(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()>;

    /// Ends what the driver runs for itself (its wait for the doorbell, its threads). Called once,
    /// when no request is in flight.
    fn finish(&mut self) -> io::Result<()>;
}
