//! Sockets: each request is tried at once, and again whenever epoll says it may succeed.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

use polling::{Event, Events, PollMode, Poller};

use super::helpers::answer;
use crate::native::doorbell::Doorbell;
use crate::native::driver::{Completion, Key, Request};

/// Names the doorbell among the events; the others are named by their descriptor.
const DOORBELL: usize = usize::MAX - 1;

/// The requests that wait for a socket.
pub(super) struct Readiness {
    poller: Poller,
    events: Events,
    /// By descriptor; a descriptor is registered with the poller exactly while it is in here.
    waiting: BTreeMap<RawFd, Vec<Waiting>>,
    /// Where each waiting request is.
    descriptors: BTreeMap<Key, RawFd>,
}

struct Waiting {
    key: Key,
    request: Request,
}

impl Readiness {
    pub(super) fn new(doorbell: &Doorbell) -> io::Result<Self> {
        let poller = Poller::new()?;
        let event = Event::readable(DOORBELL);
        // SAFETY: the driver holds the doorbell for as long as it has the poller, so the
        // descriptor is not closed while it is registered.
        unsafe { poller.add_with_mode(doorbell.fd(), event, PollMode::Level) }?;
        Ok(Self {
            poller,
            events: Events::new(),
            waiting: BTreeMap::new(),
            descriptors: BTreeMap::new(),
        })
    }

    /// Tries a request. None if it has to wait; its completion then comes from `poll`.
    ///
    /// # Safety
    /// As for `Driver::submit`.
    pub(super) unsafe fn submit(&mut self, key: Key, request: Request) -> Option<i32> {
        // SAFETY: passed on from the caller.
        let result = unsafe { attempt(&request, true) };
        if result.is_some() {
            return result;
        }
        let fd = descriptor(&request);
        let list = self.waiting.entry(fd).or_default();
        let fresh = list.is_empty();
        list.push(Waiting { key, request });
        let event = interest(fd, list);
        self.descriptors.insert(key, fd);
        let registered = if fresh {
            // SAFETY: the descriptor is removed from the poller before the last request that
            // waits for it is reported, and is open until then.
            unsafe { self.poller.add(fd, event) }
        } else {
            self.modify(fd, event)
        };
        let error = registered.err()?;
        self.remove(key);
        Some(-error.raw_os_error().unwrap_or(libc::EIO))
    }

    /// Forgets a request that waits. False if there is none with this key.
    pub(super) fn cancel(&mut self, key: Key) -> bool {
        self.remove(key)
    }

    /// Whether nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Waits for events, for at most `timeout`, and tries the requests that they concern.
    pub(super) fn poll(
        &mut self,
        timeout: Option<Duration>,
        doorbell: &Doorbell,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()> {
        self.events.clear();
        self.poller.wait(&mut self.events, timeout)?;
        let ready: Vec<usize> = self.events.iter().map(|event| event.key).collect();
        for key in ready {
            if key == DOORBELL {
                silence(doorbell);
            } else if let Ok(fd) = RawFd::try_from(key) {
                self.retry(fd, completions)?;
            }
        }
        Ok(())
    }

    /// Tries everything that waits for `fd` again.
    fn retry(&mut self, fd: RawFd, completions: &mut Vec<Completion>) -> io::Result<()> {
        let Some(mut list) = self.waiting.remove(&fd) else { return Ok(()) };
        list.retain(|waiting| {
            // SAFETY: the submitter's promise holds until the completion is reported.
            let Some(result) = (unsafe { attempt(&waiting.request, false) }) else { return true };
            self.descriptors.remove(&waiting.key);
            completions.push(Completion { key: waiting.key, result });
            false
        });
        if list.is_empty() {
            return self.deregister(fd);
        }
        let event = interest(fd, &list);
        self.waiting.insert(fd, list);
        self.modify(fd, event)
    }

    fn remove(&mut self, key: Key) -> bool {
        let Some(fd) = self.descriptors.remove(&key) else { return false };
        let Some(list) = self.waiting.get_mut(&fd) else { return false };
        list.retain(|waiting| waiting.key != key);
        if list.is_empty() {
            self.waiting.remove(&fd);
            // A failure leaves an event that nobody waits for, which `retry` ignores.
            drop(self.deregister(fd));
        }
        true
    }

    fn modify(&self, fd: RawFd, event: Event) -> io::Result<()> {
        // SAFETY: the descriptor is open while a request waits for it.
        self.poller.modify(unsafe { BorrowedFd::borrow_raw(fd) }, event)
    }

    fn deregister(&self, fd: RawFd) -> io::Result<()> {
        // SAFETY: the descriptor is open until the request that waited for it is reported, which
        // comes after this.
        self.poller.delete(unsafe { BorrowedFd::borrow_raw(fd) })
    }
}

/// What to wait for on a descriptor, once.
fn interest(fd: RawFd, list: &[Waiting]) -> Event {
    let reads = |waiting: &Waiting| {
        matches!(waiting.request, Request::Accept { .. } | Request::Receive { .. })
    };
    // A descriptor is not negative.
    let mut event = Event::none(fd.cast_unsigned() as usize);
    event.readable = list.iter().any(reads);
    event.writable = !list.iter().all(reads);
    event
}

/// Takes the rings off the doorbell. It is readable, so this does not block.
fn silence(doorbell: &Doorbell) {
    let mut count = 0_u64;
    // The result is not looked at: a failure leaves it readable, and the next poll comes here.
    // SAFETY: `count` is eight writable bytes.
    unsafe { libc::read(doorbell.fd(), (&raw mut count).cast(), 8) };
}

pub(crate) fn descriptor(request: &Request) -> RawFd {
    match *request {
        Request::Accept { fd, .. }
        | Request::Connect { fd, .. }
        | Request::Receive { fd, .. }
        | Request::Send { fd, .. }
        | Request::SendMessage { fd, .. } => fd,
        Request::Read { file, .. }
        | Request::Write { file, .. }
        | Request::Sync { file, .. }
        | Request::Allocate { file, .. } => file.fd,
    }
}

/// Makes a socket call. None if it would block. `first` says that it was not tried before.
///
/// # Safety
/// The request's addresses are valid for their lengths and belong to this call until it returns;
/// its descriptor is open.
pub(crate) unsafe fn attempt(request: &Request, first: bool) -> Option<i32> {
    // SAFETY, of every call below: the addresses are as the caller promised.
    let result = match *request {
        Request::Accept { fd, address, length } => {
            let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            // SAFETY: above.
            answer(|| unsafe { libc::accept4(fd, address, length, flags) } as isize)
        }
        Request::Connect { fd, address, length } if first => {
            // SAFETY: above. Not tried again when it was interrupted: it then goes on by itself.
            match unsafe { libc::connect(fd, address, length) } {
                0 => 0,
                _ => match io::Error::last_os_error().raw_os_error() {
                    Some(libc::EINPROGRESS | libc::EINTR) | None => return None,
                    Some(code) => -code,
                },
            }
        }
        Request::Connect { fd, .. } => connected(fd),
        Request::Receive { fd, start, length, .. } => {
            // SAFETY: above.
            answer(|| unsafe { libc::recv(fd, start.cast(), length, libc::MSG_DONTWAIT) })
        }
        Request::Send { fd, start, length } => {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // SAFETY: above.
            answer(|| unsafe { libc::send(fd, start.cast(), length, flags) })
        }
        Request::SendMessage { fd, message } => {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // SAFETY: above.
            answer(|| unsafe { libc::sendmsg(fd, message, flags) })
        }
        Request::Read { .. }
        | Request::Write { .. }
        | Request::Sync { .. }
        | Request::Allocate { .. } => unreachable!("files are for helpers"),
    };
    (result != -libc::EAGAIN && result != -libc::EWOULDBLOCK).then_some(result)
}

/// How a connect that was waited for ended.
fn connected(fd: RawFd) -> i32 {
    let mut error = 0_i32;
    let mut size = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `error` is writable and of the size given.
    let asked = answer(|| unsafe {
        let error = (&raw mut error).cast();
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, error, &raw mut size) as isize
    });
    if asked < 0 { asked } else { -error }
}
