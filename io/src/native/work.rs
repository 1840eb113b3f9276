//! Operations: what each owns while it is in flight, the requests it makes of the driver, and how
//! it goes on after each answer.
//!
//! An operation may take several requests: a short write is continued, a send goes out in pieces.
//! Everything a request points at is owned by its [`Work`], on the heap, so that moving the `Work`
//! (into its slot, or when the slab grows) moves nothing that the kernel sees.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};

use super::driver::{FileTarget, ReleasedSlots, Request};
use super::listeners::ListeningSocket;
use super::sockets::{self, Address};
use crate::limits::{GROUP_OPERATION_BYTES, SEND_SEGMENTS};
use crate::{Buffer, Durability, Group};

/// An open file or directory.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) fd: OwnedFd,
    pub(crate) path: std::path::PathBuf,
    /// What it is for.
    pub(crate) group: Group,
    /// Its place among the driver's registered files, if it has one.
    pub(crate) slot: Option<u32>,
    /// Where that goes when the file is closed.
    pub(crate) released: ReleasedSlots,
}

impl OpenFile {
    /// A file for one operation, unknown to the driver.
    pub(crate) fn used_once(fd: OwnedFd, path: std::path::PathBuf) -> Self {
        let group = Group::Foreground;
        Self { fd, path, group, slot: None, released: ReleasedSlots::default() }
    }

    fn target(&self) -> FileTarget {
        FileTarget { fd: self.fd.as_raw_fd(), slot: self.slot }
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        // Nothing is in flight for it: whatever is has a share in the file.
        self.released.borrow_mut().extend(self.slot);
    }
}

/// A connection, or a socket that will be one.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) fd: OwnedFd,
    pub(crate) peer: SocketAddr,
    pub(crate) reading: RefCell<Reading>,
    pub(crate) reads: Turnstile,
    /// Whether the latest read left nothing behind, most likely.
    pub(crate) is_drained: Cell<bool>,
    /// The turn of the latest send that was tried without a request.
    pub(crate) sent_in: Cell<Option<u64>>,
}

/// What keeps dropped reads from losing bytes: the bytes of a read that was dropped go to the
/// next one, and the next one waits until the dropped one has ended.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// What a dropped read received.
    pub(crate) left_over: BytesMut,
    /// How a dropped read failed.
    pub(crate) failed: Option<io::Error>,
}

/// Makes a call wait for the end of one that was dropped before it, so that it can have what that
/// one got.
#[derive(Debug, Default)]
pub(crate) struct Turnstile {
    /// A call was dropped and has not ended yet.
    orphaned: Cell<bool>,
    /// The call that waits for that end.
    waiting: RefCell<Option<Waker>>,
}

impl Turnstile {
    fn close(&self) {
        self.orphaned.set(true);
    }

    fn open(&self) {
        self.orphaned.set(false);
        let waiting = self.waiting.borrow_mut().take();
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }

    /// Ready when no dropped call is in flight any more.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<()> {
        if !self.orphaned.get() {
            return Poll::Ready(());
        }
        let replaced = self.waiting.borrow_mut().replace(context.waker().clone());
        drop(replaced);
        Poll::Pending
    }
}

/// A connection that was accepted by a call that had been dropped.
pub(crate) type Accepted = (OwnedFd, io::Result<SocketAddr>);

/// One shard's hold on a listening socket.
#[derive(Debug)]
pub(crate) struct Accepting {
    pub(crate) socket: Arc<ListeningSocket>,
    /// Connections for the next calls.
    pub(crate) left_over: RefCell<VecDeque<Accepted>>,
    pub(crate) accepts: Turnstile,
}

/// A value on the heap that the kernel may read and write while it is here. Unlike a `Box`, it
/// claims no exclusive access when it is moved.
pub(crate) struct Parked<T>(NonNull<T>);

impl<T> Parked<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(NonNull::from(Box::leak(Box::new(value))))
    }

    /// The address, for a request.
    pub(crate) fn as_ptr(&self) -> *mut T {
        self.0.as_ptr()
    }

    /// The value, while no request points at it.
    ///
    /// # Safety
    /// No request in flight points into the value for as long as the reference lives.
    unsafe fn get(&mut self) -> &mut T {
        // SAFETY: the pointer is a leaked box's, and the caller vouches for exclusive access.
        unsafe { self.0.as_mut() }
    }
}

impl<T> Drop for Parked<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer is a leaked box's, and is given back once, here. No request points
        // at it any more: slots drop their work after its completion only.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// The segments of a send, and how far it is.
pub(crate) struct Message {
    /// None of them is empty, and what is sent of one is cut off.
    segments: Vec<Bytes>,
    /// The first segment that is not sent to its end.
    first: usize,
    /// What a request for several segments points at.
    gathered: Option<Parked<Gathered>>,
}

/// Several segments in the kernel's shape.
struct Gathered {
    pieces: Vec<libc::iovec>,
    header: libc::msghdr,
}

impl Message {
    /// A message of all segments that are not empty. None if there are none.
    pub(crate) fn new(mut segments: Vec<Bytes>) -> Option<Self> {
        segments.retain(|segment| !segment.is_empty());
        if segments.is_empty() {
            return None;
        }
        Some(Self { segments, first: 0, gathered: None })
    }

    /// What is not sent yet. Empty when all is.
    pub(crate) fn rest(&self) -> &[Bytes] {
        &self.segments[self.first..]
    }

    /// Notes that `sent` bytes are gone. Returns whether that was all.
    pub(crate) fn advance(&mut self, mut sent: usize) -> bool {
        while let Some(segment) = self.segments.get_mut(self.first) {
            if sent < segment.len() {
                segment.advance(sent);
                return false;
            }
            sent -= segment.len();
            self.first += 1;
        }
        assert_eq!(sent, 0, "the kernel sent more than it was given");
        true
    }

    /// A request for the rest.
    fn request(&mut self, fd: RawFd) -> Request {
        let rest = &self.segments[self.first..];
        assert!(!rest.is_empty(), "a send that is done makes no request");
        if let [segment] = rest {
            return Request::Send { fd, start: segment.as_ptr(), length: segment.len() };
        }
        let gathered = self.gathered.get_or_insert_with(|| {
            // SAFETY: a message header is integers and pointers, for which zeros are a value.
            let header = unsafe { std::mem::zeroed() };
            Parked::new(Gathered { pieces: Vec::new(), header })
        });
        // SAFETY: no request is in flight, and the reference ends with this function; what is
        // handed out below are raw addresses.
        let content = unsafe { gathered.get() };
        content.pieces.clear();
        content.pieces.extend(rest.iter().take(SEND_SEGMENTS).map(sockets::piece));
        content.header.msg_iov = content.pieces.as_mut_ptr();
        content.header.msg_iovlen = content.pieces.len();
        let address = gathered.as_ptr();
        // SAFETY: `address` is valid; only the field's address is taken.
        Request::SendMessage { fd, message: unsafe { &raw const (*address).header } }
    }
}

/// An operation and what it owns.
pub(crate) enum Work {
    /// Fills a buffer from a file.
    Read { file: Rc<OpenFile>, buffer: Buffer, offset: u64 },
    /// Writes a buffer's content to a file.
    Write {
        file: Rc<OpenFile>,
        buffer: Buffer,
        offset: u64,
        durability: Durability,
        /// Bytes that are written already. Below the buffer's length while in flight.
        written: usize,
    },
    /// Flushes a file or a directory.
    Sync { file: Rc<OpenFile>, data_only: bool },
    /// Reserves space, and then makes the file as long.
    Allocate { file: Rc<OpenFile>, length: u64, reserved: bool },
    /// Accepts a connection.
    Accept { listener: Rc<Accepting>, peer: Parked<Address> },
    /// Connects a socket.
    Connect { socket: Rc<Socket>, peer: Parked<Address> },
    /// Appends received bytes to a buffer that has room.
    Receive { socket: Rc<Socket>, buffer: BytesMut },
    /// Sends a message to its end.
    Send { socket: Rc<Socket>, message: Message },
}

/// What follows an answer.
pub(crate) enum Progress {
    /// Another request.
    Again,
    /// The end, with the operation's result.
    Done(i32),
}

// SAFETY of the addresses in every request below, in numbers that the arms refer to:
// 1. They point into heap memory that the `Work` owns and that does not move when it does.
// 2. The `Work` stays in its slot until the completion, so the memory stays allocated.
// 3. Nothing on this side reads or writes that memory meanwhile: `request` is called when nothing
//    is in flight for this `Work`, and `advance` after the completion.
impl Work {
    /// Whether it touches a disk, whose completions the kernel may run on this CPU.
    pub(crate) const fn is_disk(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Sync { .. })
    }

    /// Whether others wait for it, most likely: a durable write is what commits wait for.
    pub(crate) const fn is_urgent(&self) -> bool {
        matches!(self, Self::Write { durability: Durability::Durable, .. })
    }

    /// The group whose bytes in flight are bounded, and what this counts for among them. None for
    /// what never waits.
    pub(crate) fn budgeted(&self) -> Option<(Group, u64)> {
        let (file, bytes) = match self {
            Self::Read { file, buffer, .. } => (file, buffer.capacity()),
            Self::Write { file, buffer, .. } => (file, buffer.len()),
            _ => return None,
        };
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX).max(GROUP_OPERATION_BYTES);
        Some((file.group, bytes))
    }

    /// The next request. Called when none is in flight for this work.
    pub(crate) fn request(&mut self) -> Request {
        match self {
            Self::Read { file, buffer, offset } => Request::Read {
                file: file.target(),
                start: buffer.as_mut_ptr(),
                length: buffer.capacity(),
                offset: *offset,
                chunk: buffer.chunk(),
            },
            Self::Write { file, buffer, offset, durability, written } => {
                assert!(*written < buffer.len(), "a write that is done makes no request");
                Request::Write {
                    file: file.target(),
                    start: buffer.as_mut_ptr().wrapping_add(*written).cast_const(),
                    length: buffer.len() - *written,
                    offset: *offset + *written as u64,
                    durable: *durability == Durability::Durable,
                    chunk: buffer.chunk(),
                }
            }
            Self::Sync { file, data_only } => {
                Request::Sync { file: file.target(), data_only: *data_only }
            }
            Self::Allocate { file, length, reserved } => Request::Allocate {
                file: file.target(),
                length: *length,
                // The space first, without the length: running out of space half way then leaves
                // the file as it was to its readers.
                mode: if *reserved { 0 } else { libc::FALLOC_FL_KEEP_SIZE },
            },
            Self::Accept { listener, peer } => {
                let address = peer.as_ptr();
                Request::Accept {
                    fd: listener.socket.fd.as_raw_fd(),
                    // SAFETY: `address` is valid; only field addresses are taken.
                    address: unsafe { (&raw mut (*address).storage).cast() },
                    // SAFETY: as above.
                    length: unsafe { &raw mut (*address).length },
                }
            }
            Self::Connect { socket, peer } => {
                let address = peer.as_ptr();
                Request::Connect {
                    fd: socket.fd.as_raw_fd(),
                    // SAFETY: `address` is valid; only the field's address is taken.
                    address: unsafe { (&raw const (*address).storage).cast() },
                    // SAFETY: no request is in flight, so nothing else touches it.
                    length: unsafe { (*address).length },
                }
            }
            Self::Receive { socket, buffer } => {
                let room = buffer.spare_capacity_mut();
                Request::Receive {
                    fd: socket.fd.as_raw_fd(),
                    start: room.as_mut_ptr().cast(),
                    length: room.len(),
                    patient: socket.is_drained.get(),
                }
            }
            Self::Send { socket, message } => message.request(socket.fd.as_raw_fd()),
        }
    }

    /// Takes the answer to the last request: the system call's result, or `-errno`.
    pub(crate) fn advance(&mut self, result: i32) -> Progress {
        if result == -libc::EINTR || result == -libc::EAGAIN {
            return Progress::Again;
        }
        let Ok(count) = usize::try_from(result) else {
            let aborted = matches!(self, Self::Accept { .. }) && result == -libc::ECONNABORTED;
            // A connection that was gone before it was accepted is not the caller's business.
            return if aborted { Progress::Again } else { Progress::Done(result) };
        };
        match self {
            Self::Read { buffer, .. } => {
                // SAFETY:
                // 1. The kernel filled `count` bytes from the buffer's start.
                // 2. It was given the capacity as its limit.
                unsafe { buffer.set_len(count) };
                Progress::Done(result)
            }
            Self::Write { buffer, written, .. } => {
                *written += count;
                assert!(*written <= buffer.len(), "the kernel wrote more than it was given");
                match count {
                    0 => Progress::Done(-libc::EIO),
                    _ if *written == buffer.len() => Progress::Done(0),
                    _ => Progress::Again,
                }
            }
            Self::Allocate { reserved, .. } if !*reserved => {
                *reserved = true;
                Progress::Again
            }
            Self::Receive { socket, buffer } => {
                socket.is_drained.set(count < buffer.spare_capacity_mut().len());
                let length = buffer.len() + count;
                // SAFETY:
                // 1. The kernel filled `count` bytes from the end of the content.
                // 2. It was given the spare capacity as its limit.
                unsafe { buffer.set_len(length) };
                Progress::Done(result)
            }
            Self::Send { message, .. } => match message.advance(count) {
                true => Progress::Done(0),
                false => Progress::Again,
            },
            Self::Sync { .. }
            | Self::Allocate { .. }
            | Self::Accept { .. }
            | Self::Connect { .. } => Progress::Done(result),
        }
    }

    /// The future that wanted the result is gone, and the driver may still be at it.
    pub(crate) fn orphan(&self) {
        match self {
            Self::Receive { socket, .. } => socket.reads.close(),
            Self::Accept { listener, .. } => listener.accepts.close(),
            _ => {}
        }
    }

    /// The end of an operation that nobody waits for: what it received or accepted is kept for
    /// the next call, if there is one. `result` is what [`advance`](Self::advance) made of it.
    pub(crate) fn bury(self, result: i32) {
        match self {
            Self::Receive { socket, buffer } => {
                let mut reading = socket.reading.borrow_mut();
                if let Ok(count) = usize::try_from(result) {
                    let start = buffer.len() - count;
                    reading.left_over.extend_from_slice(&buffer[start..]);
                } else if result != -libc::ECANCELED {
                    reading.failed = Some(io::Error::from_raw_os_error(-result));
                }
                drop(reading);
                socket.reads.open();
            }
            Self::Accept { listener, mut peer } => {
                if result >= 0 {
                    let accepted = take_accepted(result, &mut peer);
                    listener.left_over.borrow_mut().push_back(accepted);
                }
                listener.accepts.open();
            }
            _ => {}
        }
    }
}

/// The connection in an accept's successful result.
pub(crate) fn take_accepted(result: i32, peer: &mut Parked<Address>) -> Accepted {
    assert!(result >= 0, "a failed accept has no connection");
    // SAFETY: the kernel just made the descriptor for this call, and nobody else knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(result) };
    // SAFETY: the request has completed and there is no other.
    (fd, unsafe { peer.get() }.get())
}
