//! What it takes to wake a thread that sleeps in the kernel, when nothing else is done.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use io_uring::{IoUring, opcode, squeue, types};

use super::{Took, busy_time};
use crate::native::calls::{bind_to_cpus, check, one_cpu};

/// How one thread wakes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waking {
    /// It writes to an eventfd on which the other blocks in `read`.
    Eventfd,
    /// It writes to an eventfd that the other reads through a ring, in whose completions it waits.
    EventfdOfRing,
    /// It posts a completion to the ring in which the other waits (`IORING_OP_MSG_RING`).
    RingMessage,
    /// It sets a flag that the other polls: the other never sleeps, and this is what the wait
    /// would be otherwise.
    Polling,
}

impl Waking {
    /// The time it takes two threads, one on each of the CPUs, to wake each other in turn: the
    /// elapsed time is that of all trips there and back, the CPU time the first thread's. A quarter
    /// is done before, unmeasured.
    ///
    /// # Errors
    /// If a ring or its messages are refused, or there are no such CPUs.
    pub fn measure(self, trips: u64, cpus: [usize; 2]) -> io::Result<Took> {
        let sides = [Side::new(self)?, Side::new(self)?];
        let (to_first, to_second) = (sides[0].target()?, sides[1].target()?);
        let [mut first, mut second] = sides;
        let all = trips / 4 + trips;
        let (failed, failure) = channel();
        let answering = thread::Builder::new().name("answers".to_owned()).spawn(move || {
            let answered = bind_to_cpus(&one_cpu(cpus[1])).and_then(|()| {
                (0..all).try_for_each(|_| second.wait().and_then(|()| second.wake(&to_first)))
            });
            // Who waits for an answer that does not come is told so.
            if let Err(error) = answered {
                failed.send(error).ok();
                second.wake(&to_first).ok();
            }
        })?;
        bind_to_cpus(&one_cpu(cpus[0]))?;
        let mut times = Vec::with_capacity(usize::try_from(trips).unwrap_or(0));
        let mut begun = (Instant::now(), busy_time()?);
        for trip in 0..all {
            if trip == trips / 4 {
                begun = (Instant::now(), busy_time()?);
            }
            let start = Instant::now();
            first.wake(&to_second)?;
            first.wait()?;
            if let Ok(error) = failure.try_recv() {
                return Err(error);
            }
            times.push(start.elapsed());
        }
        let (elapsed, busy) = (begun.0.elapsed(), busy_time()? - begun.1);
        answering.join().map_err(|_| io::Error::other("the other thread panicked"))?;
        times.drain(..usize::try_from(trips / 4).unwrap_or(0));
        Ok(Took::new(elapsed, busy, times))
    }
}

/// One of the two threads' end.
struct Side {
    waking: Waking,
    eventfd: OwnedFd,
    ring: IoUring,
    /// Where the ring puts the eventfd's counter.
    counter: Box<u64>,
    reading: bool,
    flag: Arc<AtomicBool>,
}

/// How one side reaches the other.
enum Target {
    Descriptor(OwnedFd),
    Flag(Arc<AtomicBool>),
}

impl Side {
    fn new(waking: Waking) -> io::Result<Self> {
        // SAFETY: no memory is involved.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) })?;
        // SAFETY: `fd` was just opened and nobody else knows it.
        let eventfd = unsafe { OwnedFd::from_raw_fd(fd) };
        let ring = IoUring::builder().setup_coop_taskrun().build(8)?;
        Ok(Self {
            waking,
            eventfd,
            ring,
            counter: Box::default(),
            reading: false,
            flag: Arc::default(),
        })
    }

    /// What the other side needs to wake this one.
    fn target(&self) -> io::Result<Target> {
        let fd = match self.waking {
            Waking::Eventfd | Waking::EventfdOfRing => self.eventfd.as_raw_fd(),
            Waking::RingMessage => self.ring.as_raw_fd(),
            Waking::Polling => return Ok(Target::Flag(Arc::clone(&self.flag))),
        };
        // SAFETY: both are open for as long as this is.
        unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned().map(Target::Descriptor)
    }

    fn wake(&mut self, target: &Target) -> io::Result<()> {
        let fd = match target {
            Target::Flag(flag) => {
                flag.store(true, Ordering::Release);
                return Ok(());
            }
            Target::Descriptor(fd) => fd.as_raw_fd(),
        };
        if self.waking == Waking::RingMessage {
            let message = opcode::MsgRingData::new(types::Fd(fd), 0, WOKEN, None).build();
            self.push(&message.user_data(SENT))?;
            return self.ring.submit().map(drop);
        }
        let one = 1_u64;
        // SAFETY: `one` is eight readable bytes.
        let wrote = unsafe { libc::write(fd, (&raw const one).cast(), 8) };
        if wrote == 8 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn wait(&mut self) -> io::Result<()> {
        match self.waking {
            Waking::Eventfd => {
                let start = (&raw mut *self.counter).cast();
                // SAFETY: `counter` is eight writable bytes.
                let read = unsafe { libc::read(self.eventfd.as_raw_fd(), start, 8) };
                return if read == 8 { Ok(()) } else { Err(io::Error::last_os_error()) };
            }
            Waking::EventfdOfRing => {
                let fd = types::Fd(self.eventfd.as_raw_fd());
                let read = opcode::Read::new(fd, (&raw mut *self.counter).cast(), 8).build();
                self.push(&read.user_data(WOKEN))?;
                self.reading = true;
            }
            Waking::RingMessage => {}
            Waking::Polling => {
                while !self.flag.swap(false, Ordering::Acquire) {
                    while !self.flag.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                }
                return Ok(());
            }
        }
        loop {
            for completed in self.ring.completion() {
                if completed.result() < 0 {
                    return Err(io::Error::from_raw_os_error(-completed.result()));
                }
                if completed.user_data() == WOKEN {
                    self.reading = false;
                    return Ok(());
                }
            }
            self.ring.submit_and_wait(1)?;
        }
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: the only address in an entry is that of `counter`, which is not looked at while a
        // read is in flight, and not freed if one still is in the end.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.map_err(|_| io::Error::other("the ring has no room"))
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if self.reading {
            std::mem::forget(std::mem::take(&mut self.counter));
        }
    }
}

/// Names the completion that a side waits for.
const WOKEN: u64 = 1;

/// Names the completion of a message that was sent.
const SENT: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_threads_wake_each_other() {
        for waking in [Waking::Eventfd, Waking::EventfdOfRing, Waking::RingMessage] {
            match waking.measure(20, [0, 0]) {
                Ok(took) => assert!(took.elapsed > 19 * took.median / 2, "{waking:?}"),
                Err(error) => {
                    let refusals = [libc::EPERM, libc::ENOSYS, libc::EACCES, libc::EINVAL];
                    let refusal = refusals.contains(&error.raw_os_error().unwrap_or_default());
                    assert!(refusal, "{waking:?}: {error}");
                }
            }
        }
    }
}
