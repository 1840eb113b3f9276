//! The threads that make a shard's blocking file calls.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, unbounded};
use crossbeam::queue::SegQueue;

use crate::limits::HELPER_THREADS;
use crate::native::calls;
use crate::native::doorbell::Doorbell;
use crate::native::driver::{Completion, DriverSetup, FileTarget, Key, Request};

/// A request on its way to a helper.
struct Job {
    key: Key,
    request: Request,
}

// SAFETY:
// 1. A job is addresses and numbers. By the contract of `Driver::submit` nothing else touches the
//    memory from the submission to the report of the completion.
// 2. The queue to the helper and the queue back order the accesses of the two threads.
unsafe impl Send for Job {}

/// The helpers of one shard.
pub(super) struct Helpers {
    /// None once they have been told to end. Its length is bounded by the operations in flight.
    jobs: Option<Sender<Job>>,
    finished: Arc<SegQueue<Completion>>,
    threads: Vec<JoinHandle<()>>,
}

impl Helpers {
    pub(super) fn start(setup: DriverSetup) -> io::Result<Self> {
        let (sender, receiver) = unbounded();
        let finished = Arc::new(SegQueue::new());
        let mut this = Self { jobs: Some(sender), finished, threads: Vec::new() };
        for index in 0..HELPER_THREADS {
            let jobs = receiver.clone();
            let finished = Arc::clone(&this.finished);
            let doorbell = Arc::clone(&setup.doorbell);
            let allowed = setup.allowed;
            let thread = std::thread::Builder::new()
                .name(format!("{}-disk-{index}", setup.name))
                .spawn(move || {
                // Not on the shard's own CPU alone, which a pinned shard keeps busy. If it is
                // refused, they are slower and no less correct.
                if let Some(Err(error)) = allowed.as_ref().map(calls::bind_to_cpus) {
                    tracing::debug!(%error, "a disk thread stays on its shard's CPU");
                }
                serve(&jobs, &finished, &doorbell);
            })?;
            this.threads.push(thread);
        }
        Ok(this)
    }

    /// # Safety
    /// As for `Driver::submit`.
    pub(super) unsafe fn submit(&self, key: Key, request: Request) {
        let jobs = self.jobs.as_ref().expect("no request comes after the end");
        // Cannot fail: the helpers hold the other end until `jobs` is dropped.
        jobs.send(Job { key, request }).expect("the helpers live as long as their shard");
    }

    pub(super) fn take_finished(&self, completions: &mut Vec<Completion>) {
        while let Some(completion) = self.finished.pop() {
            completions.push(completion);
        }
    }

    /// Lets the helpers end and waits for them.
    pub(super) fn join(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A helper makes system calls and nothing else; its panic would be reported by the
            // operation that never completes.
            drop(thread.join());
        }
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        self.join();
    }
}

fn serve(jobs: &Receiver<Job>, finished: &SegQueue<Completion>, doorbell: &Doorbell) {
    while let Ok(Job { key, request }) = jobs.recv() {
        // SAFETY: the submitter's promise, which holds until the completion is reported below.
        let result = unsafe { carry_out(request) };
        finished.push(Completion { key, result });
        doorbell.ring();
    }
}

/// Makes one file call.
///
/// # Safety
/// The request's addresses are valid for their lengths and belong to this call until it returns;
/// its descriptor is open.
pub(crate) unsafe fn carry_out(request: Request) -> i32 {
    match request {
        Request::Read { file: FileTarget { fd, .. }, start, length, offset, .. } => {
            let Ok(offset) = i64::try_from(offset) else { return -libc::EINVAL };
            // SAFETY: passed on from the caller.
            answer(|| unsafe { libc::pread(fd, start.cast(), length, offset) })
        }
        Request::Write { file: FileTarget { fd, .. }, start, length, offset, durable, .. } => {
            let Ok(offset) = i64::try_from(offset) else { return -libc::EINVAL };
            // SAFETY: passed on from the caller.
            let plain = || answer(|| unsafe { libc::pwrite(fd, start.cast(), length, offset) });
            if !durable {
                return plain();
            }
            let piece = libc::iovec { iov_base: start.cast_mut().cast(), iov_len: length };
            // SAFETY: passed on from the caller; `piece` lives until the call returns.
            let written = answer(|| unsafe {
                libc::pwritev2(fd, &raw const piece, 1, offset, libc::RWF_DSYNC)
            });
            if written != -libc::EOPNOTSUPP && written != -libc::ENOSYS {
                return written;
            }
            match plain() {
                // SAFETY: no memory is involved.
                count if count > 0 => match answer(|| unsafe { libc::fdatasync(fd) } as isize) {
                    0 => count,
                    failed => failed,
                },
                failed => failed,
            }
        }
        Request::Sync { file: FileTarget { fd, .. }, data_only } => answer(|| {
            // SAFETY: no memory is involved.
            let result = unsafe { if data_only { libc::fdatasync(fd) } else { libc::fsync(fd) } };
            result as isize
        }),
        Request::Allocate { file: FileTarget { fd, .. }, length, mode } => {
            let Ok(length) = i64::try_from(length) else { return -libc::EFBIG };
            // SAFETY: no memory is involved.
            answer(|| unsafe { libc::fallocate(fd, mode, 0, length) } as isize)
        }
        Request::Accept { .. }
        | Request::Connect { .. }
        | Request::Receive { .. }
        | Request::Send { .. }
        | Request::SendMessage { .. } => unreachable!("sockets are not for helpers"),
    }
}

/// The result of a system call as a ring would report it, tried again when it was interrupted.
pub(super) fn answer(mut call: impl FnMut() -> isize) -> i32 {
    loop {
        let result = call();
        if result >= 0 {
            // The kernel cuts every transfer to less than 2^31 bytes.
            return i32::try_from(result).unwrap_or(i32::MAX);
        }
        match io::Error::last_os_error().raw_os_error() {
            Some(libc::EINTR) => {}
            Some(code) => return -code,
            None => return -libc::EIO,
        }
    }
}
