//! The default driver: one io_uring a shard.
//!
//! Requests are put into the submission queue and reach the kernel with the next poll or flush, all
//! of a turn in one system call if they can wait for its end. What finds the queue full waits in a
//! backlog, in order, so that a cancel never overtakes what it cancels. Completions that find their
//! queue full are kept by the kernel (NODROP, which [`probe()`] insists on) and fetched when there is
//! room.
//!
//! A sleep is a wait for a completion, with the nearest timer as its timeout. Other threads end it
//! through the doorbell, on which a read is always in flight by then.
//!
//! Files and buffer memory are registered with the ring as far as it and the limit on locked memory
//! allow ([`registered`]). Some kernels count the queues themselves as locked memory, too: 100 KiB a
//! ring.

mod probe;
mod registered;

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};

use crate::native::doorbell::Doorbell;
use crate::native::driver::{
    Completion, Driver, DriverSetup, FileTarget, Key, ReleasedSlots, Request, Wait,
};
use crate::native::work::Parked;
use crate::runtime::Backend;

use registered::Registered;

pub(crate) use probe::{flags, locked_bytes, look, probe};

/// Names the ring's own read of the doorbell. The slab's keys end below.
const DOORBELL: u64 = u64::MAX;

/// Names the ring's own cancels.
const CANCEL: u64 = u64::MAX - 1;

/// The largest transfer of one system call.
const TRANSFER_BYTES: usize = 0x7fff_f000;

/// `IORING_RECVSEND_POLL_FIRST`: wait for the socket without a try that would find it empty.
const RECEIVE_POLL_FIRST: u16 = 1;

/// One ring.
pub(crate) struct Ring {
    ring: IoUring,
    registered: Registered,
    /// Entries that found the submission queue full, in order.
    backlog: VecDeque<squeue::Entry>,
    doorbell: Arc<Doorbell>,
    /// Where the read of the doorbell puts its counter. Outlives the read: `finish` waits for it.
    rung: Parked<u64>,
    /// Whether a read of the doorbell is in flight.
    listening: bool,
}

impl Driver for Ring {
    const BACKEND: Backend = Backend::Uring;
    const NONBLOCKING_SOCKETS: bool = false;

    fn new(setup: DriverSetup) -> io::Result<Self> {
        let ring = probe::build(setup.completion_mode)?;
        let registered = Registered::new(&ring.submitter(), setup.name);
        Ok(Self {
            ring,
            registered,
            backlog: VecDeque::new(),
            doorbell: setup.doorbell,
            rung: Parked::new(0),
            listening: false,
        })
    }

    fn register_file(&mut self, fd: RawFd) -> Option<u32> {
        self.registered.file(&self.ring.submitter(), fd)
    }

    fn released(&self) -> ReleasedSlots {
        self.registered.released()
    }

    unsafe fn submit(&mut self, key: Key, request: Request) {
        let place = match request {
            Request::Read { chunk, .. } | Request::Write { chunk, .. } => {
                chunk.and_then(|chunk| self.registered.chunk(&self.ring.submitter(), chunk))
            }
            _ => None,
        };
        // The caller vouches for the addresses until the completion is reported.
        self.backlog.push_back(entry(request, place).user_data(key.0));
    }

    fn flush(&mut self) {
        self.fill();
        // What the kernel does not take now stays queued, and the next poll takes it up again and
        // reports what lasts.
        drop(self.enter_if_needed());
    }

    fn is_empty(&self) -> bool {
        self.backlog.is_empty()
    }

    fn cancel(&mut self, key: Key) {
        let cancel = opcode::AsyncCancel::new(key.0).build();
        self.backlog.push_back(cancel.flags(squeue::Flags::SKIP_SUCCESS).user_data(CANCEL));
    }

    fn poll(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        self.registered.forget_closed(&self.ring.submitter())?;
        // A ring of the doorbell ends the wait, or keeps it from beginning: who rang did so because
        // the shard was about to sleep, and will not ring twice.
        let mut rung = self.reap(completions);
        if matches!(wait, Wait::AtMost(_)) && completions.is_empty() && !rung {
            self.listen();
        }
        loop {
            self.fill();
            let idle = completions.is_empty() && !rung && self.backlog.is_empty();
            let entered = match wait {
                Wait::AtMost(longest) if idle => self.enter_and_wait(longest),
                _ => self.enter_if_needed(),
            };
            rung |= self.reap(completions);
            match entered {
                Ok(()) if self.backlog.is_empty() => return Ok(()),
                Ok(()) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR | libc::ETIME) if self.backlog.is_empty() => return Ok(()),
                    Some(libc::EINTR | libc::ETIME) => {}
                    // The kernel is short of memory, or of room for completions, which were just
                    // fetched: what was not taken stays queued for the next poll.
                    Some(libc::EAGAIN | libc::EBUSY) => return Ok(()),
                    _ => return Err(error),
                },
            }
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.doorbell.begin_sleep();
        self.doorbell.ring();
        let mut completions = Vec::new();
        while self.listening {
            self.fill();
            if let Err(error) = self.enter_and_wait(None) {
                match error.raw_os_error() {
                    // As in `poll`: what was not taken stays queued.
                    Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) => {}
                    _ => return Err(error),
                }
            }
            self.reap(&mut completions);
        }
        assert!(completions.is_empty(), "a request was in flight when its ring ended");
        self.registered.forget_all(&self.ring.submitter())
    }
}

impl Ring {
    /// Puts a read of the doorbell in flight, if there is none.
    fn listen(&mut self) {
        if self.listening {
            return;
        }
        let read = opcode::Read::new(Fd(self.doorbell.fd()), self.rung.as_ptr().cast(), 8);
        self.backlog.push_back(read.build().user_data(DOORBELL));
        self.listening = true;
    }

    /// Moves the backlog into the submission queue, as far as there is room.
    fn fill(&mut self) {
        if self.backlog.is_empty() {
            return;
        }
        let mut queue = self.ring.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY:
            // 1. What a request points at stays valid until its completion is reported: the
            //    contract of `Driver::submit`.
            // 2. `rung`, for the read of the doorbell, lives until `finish` has seen its end.
            // 3. Cancels point at nothing.
            if unsafe { queue.push(entry) }.is_err() {
                break;
            }
            self.backlog.pop_front();
        }
    }

    /// Takes what the completion queue holds. Returns whether the doorbell was rung.
    fn reap(&mut self, completions: &mut Vec<Completion>) -> bool {
        let listened = self.listening;
        for completed in self.ring.completion() {
            match completed.user_data() {
                DOORBELL => self.listening = false,
                CANCEL => {}
                key => completions.push(Completion { key: Key(key), result: completed.result() }),
            }
        }
        listened && !self.listening
    }

    /// Hands over what is queued, and lets the kernel post what it has ready.
    fn enter_if_needed(&mut self) -> io::Result<()> {
        let queue = self.ring.submission();
        let needed = !queue.is_empty() || queue.taskrun() || queue.cq_overflow();
        drop(queue);
        if needed { self.ring.submit().map(drop) } else { Ok(()) }
    }

    /// Hands over what is queued and sleeps until something completes, or for `longest`.
    fn enter_and_wait(&mut self, longest: Option<Duration>) -> io::Result<()> {
        let Some(longest) = longest else { return self.ring.submit_and_wait(1).map(drop) };
        let timeout = Timespec::from(longest);
        let arguments = SubmitArgs::new().timespec(&timeout);
        self.ring.submitter().submit_with_args(1, &arguments).map(drop)
    }
}

/// A request in the ring's shape; `place` is its memory's in the ring's table, if it has one.
fn entry(request: Request, place: Option<u16>) -> squeue::Entry {
    match request {
        Request::Read { file, start, length, offset, .. } => {
            let (fd, length) = (named(file), transfer(length));
            let read = match place {
                Some(place) => {
                    opcode::ReadFixed::new(fd, start, length, place).offset(offset).build()
                }
                None => opcode::Read::new(fd, start, length).offset(offset).build(),
            };
            on_file(read, file)
        }
        Request::Write { file, start, length, offset, durable, .. } => {
            let flags = if durable { libc::RWF_DSYNC } else { 0 };
            let (fd, length) = (named(file), transfer(length));
            let write = match place {
                Some(place) => opcode::WriteFixed::new(fd, start, length, place)
                    .offset(offset)
                    .rw_flags(flags)
                    .build(),
                None => {
                    opcode::Write::new(fd, start, length).offset(offset).rw_flags(flags).build()
                }
            };
            on_file(write, file)
        }
        Request::Sync { file, data_only } => {
            let flags = if data_only { FsyncFlags::DATASYNC } else { FsyncFlags::empty() };
            on_file(opcode::Fsync::new(named(file)).flags(flags).build(), file)
        }
        Request::Allocate { file, length, mode } => {
            on_file(opcode::Fallocate::new(named(file), length).mode(mode).build(), file)
        }
        Request::Accept { fd, address, length } => {
            opcode::Accept::new(Fd(fd), address, length).flags(libc::SOCK_CLOEXEC).build()
        }
        Request::Connect { fd, address, length } => {
            opcode::Connect::new(Fd(fd), address, length).build()
        }
        Request::Receive { fd, start, length, patient } => {
            let priority = if patient { RECEIVE_POLL_FIRST } else { 0 };
            opcode::Recv::new(Fd(fd), start, transfer(length)).ioprio(priority).build()
        }
        // WAITALL: the kernel itself goes on after a short send, so that a large one is one trip.
        Request::Send { fd, start, length } => {
            let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
            opcode::Send::new(Fd(fd), start, transfer(length)).flags(flags).build()
        }
        Request::SendMessage { fd, message } => {
            let flags = (libc::MSG_NOSIGNAL | libc::MSG_WAITALL).cast_unsigned();
            opcode::SendMsg::new(Fd(fd), message).flags(flags).build()
        }
    }
}

/// A file as an entry names it: by its place in the ring's table, or by its descriptor.
fn named(file: FileTarget) -> Fd {
    Fd(file.slot.map_or(file.fd, u32::cast_signed))
}

/// Says which of the two it is.
fn on_file(entry: squeue::Entry, file: FileTarget) -> squeue::Entry {
    if file.slot.is_some() { entry.flags(squeue::Flags::FIXED_FILE) } else { entry }
}

/// A length as one system call takes it. What is cut off here is done by a later request.
fn transfer(length: usize) -> u32 {
    length.min(TRANSFER_BYTES) as u32
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::runtime::CompletionMode;

    /// Runs `check` with a ring of its own on a thread of its own, and fails if it sleeps for ever.
    fn awake(check: fn(&mut Ring, &Arc<Doorbell>)) {
        if let Err(error) = probe(CompletionMode::Cooperative) {
            println!("skipped: {error}");
            return;
        }
        let (ended, noticed) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let doorbell = Arc::new(Doorbell::new().expect("a doorbell"));
            let setup = DriverSetup {
                doorbell: Arc::clone(&doorbell),
                name: "a test".to_owned(),
                allowed: None,
                completion_mode: CompletionMode::Cooperative,
            };
            let mut ring = Ring::new(setup).expect("a ring");
            check(&mut ring, &doorbell);
            ended.send(()).expect("somebody waits");
            ring.finish().expect("finished");
        });
        assert!(noticed.recv_timeout(Duration::from_secs(10)).is_ok(), "it sleeps");
        thread.join().expect("no panic");
    }

    /// Polls once, so that a read of the doorbell is in flight afterwards.
    fn listen(ring: &mut Ring) {
        let mut completions = Vec::new();
        ring.poll(Wait::AtMost(Some(Duration::from_millis(1))), &mut completions).expect("polled");
        assert!(ring.listening && completions.is_empty());
    }

    #[test]
    fn a_ring_of_the_doorbell_just_before_the_wait_is_noticed() {
        awake(|ring, doorbell| {
            listen(ring);
            doorbell.begin_sleep();
            // Any system call lets the kernel post the completion, this one too.
            doorbell.ring();
            let mut completions = Vec::new();
            ring.poll(Wait::AtMost(None), &mut completions).expect("polled");
            assert!(completions.is_empty());
        });
    }

    #[test]
    fn a_ring_of_the_doorbell_while_much_is_handed_over_is_noticed() {
        awake(|ring, doorbell| {
            listen(ring);
            doorbell.begin_sleep();
            // More than the kernel takes at a time, and nothing that completes.
            let (quiet, other) = UnixStream::pair().expect("a pair of sockets");
            let mut received = vec![0_u8; 2 * ring.ring.params().sq_entries() as usize];
            for (key, byte) in (0..).zip(&mut received) {
                let fd = quiet.as_raw_fd();
                let receive = Request::Receive { fd, start: byte, length: 1, patient: true };
                // SAFETY:
                // 1. `received` is used by nothing else, and lives until all have completed.
                // 2. So does `quiet`.
                // 3. Keys are counted.
                unsafe { ring.submit(Key(key), receive) };
            }
            // From another thread, so that the kernel posts the completion when this one enters it
            // the first time. Waiting for that thread must not be a system call.
            let rung = Arc::new(AtomicBool::new(false));
            let (bell, told) = (Arc::clone(doorbell), Arc::clone(&rung));
            let ringer = std::thread::spawn(move || {
                bell.ring();
                told.store(true, Ordering::Release);
            });
            while !rung.load(Ordering::Acquire) {
                std::hint::spin_loop();
            }
            let mut completions = Vec::new();
            ring.poll(Wait::AtMost(None), &mut completions).expect("polled");
            assert!(completions.is_empty());
            ringer.join().expect("no panic");
            drop(other);
            while completions.len() < received.len() {
                ring.poll(Wait::AtMost(None), &mut completions).expect("polled");
            }
        });
    }
}
