//! The driver for comparison: files and sockets of the runtime glommio, 0.9.
//!
//! It keeps every promise of the seam (all cases of `tests/conformance` pass on it) and is not
//! the way to run Woodchuck: it is there so that the choice of a ring of our own stays measured.
//!
//! # How it works
//! A shard has one `LocalExecutor` of glommio, on its thread. Every request of the shard becomes a
//! task of that executor, which runs whenever the shard polls, and which sleeps in the kernel
//! whenever the shard sleeps. The tasks of the shard itself stay on the executor that all backends
//! share, as their handles have one type; so timers, mailboxes and the end of a shard are the same
//! here as everywhere.
//!
//! # What glommio does not have, what is done instead, and what that costs
//! | glommio 0.9 | here | cost |
//! |---|---|---|
//! | reads into and writes from its own memory only | copied from and to the caller's buffer | one copy each way |
//! | no `RWF_DSYNC` | `fdatasync` after a durable write | a second request, and a flush of the whole file |
//! | opens a file by its path only | the open file is opened again, by its name under `/proc` | a second descriptor and four requests for each file |
//! | takes a file that was empty when it was opened first as proof that the device can be polled; every later read fails then | the first file of each device is opened for writing only, which it takes as proof that it cannot | devices are never polled for completions |
//! | panics if it does not understand a block device, fails without direct I/O | such a file is left to its one blocking thread | one call at a time for such files |
//! | no flush of a directory that does not block | likewise | likewise |
//! | a cancelled `accept`, `recv` or `send` may lose a connection or bytes | it is only asked to wait until a socket is ready; the call itself is made by the shard | one more system call for each that has to wait |
//! | listens with `SO_REUSEPORT`, so that a port is never found taken | our own listening sockets, shared by the shards | none |
//! | wakers count references in 16 bits; other threads may break its queues | its wakers never leave this module, and its channels are not used | none |
//! | pins its memory three times | it gets 2 MiB of it | larger transfers take memory that is not registered |
//!
//! # What is left of its faults
//! 1. It needs 512 KiB of locked memory, and says so at the start if it does not get it.
//! 2. A panic in one of its futures fails that operation with `EIO`; a panic in its executor ends
//!    the shard, and what was in flight is leaked. Either is told in the log, and by the process's
//!    panic hook.
//! 3. It leaks an eventfd, and the memory around it, for each executor that ends.
//! 4. Its thread for blocking calls is not waited for at the end: it may outlive its shard by a
//!    moment.
//! 5. A socket that has to wait needs one more descriptor for that long. Where there is none, the
//!    call fails.

mod files;
mod sockets;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use ::glommio::io::DmaFile;
use ::glommio::timer::Timer;
use ::glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder, Placement, spawn_local};

use crate::limits::{GLOMMIO_MEMORY_BYTES, GLOMMIO_SLEEP_S};
use crate::native::doorbell::Doorbell;
use crate::native::driver::{
    Completion, Driver, DriverSetup, FileTarget, Key, ReleasedSlots, Request, Wait,
};
use crate::posix::readiness::attempt;
use crate::runtime::Backend;

/// One executor of glommio.
pub(crate) struct Glommio {
    executor: LocalExecutor,
    shared: Rc<Shared>,
    /// What becomes tasks when the executor runs next.
    queued: Vec<Pin<Box<dyn Future<Output = ()>>>>,
    /// The socket calls in flight that can be cancelled.
    cancels: BTreeMap<Key, Rc<Cancel>>,
    /// The registered files that are open, by slot.
    files: Vec<Option<Rc<DmaFile>>>,
    free: Vec<u32>,
    released: ReleasedSlots,
    /// The devices whose first file was opened.
    devices: BTreeSet<u64>,
    doorbell: Arc<Doorbell>,
    /// The executor may owe the kernel what the tasks of its latest run left: it runs once more.
    owing: bool,
    /// The executor panicked. It is not touched again.
    broken: bool,
}

/// What the driver shares with its tasks, all on one thread.
#[derive(Default)]
struct Shared {
    /// To be reported with the next poll.
    completions: RefCell<Vec<Completion>>,
    /// The doorbell was rung and no wait has ended by it yet.
    rung: Cell<bool>,
    /// A task reads the doorbell.
    listening: Cell<bool>,
    /// The driver is about to end: the doorbell is not read again.
    ending: Cell<bool>,
    /// Tasks that have not ended, but for the one that reads the doorbell.
    tasks: Cell<usize>,
    /// The future that waits for news.
    waiter: RefCell<Option<Waker>>,
}

impl Shared {
    /// Ends the wait for news.
    fn announce(&self) {
        let waiter = self.waiter.borrow_mut().take();
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    /// Completes as soon as `due` says so; it is asked at every announcement.
    async fn wait(&self, due: impl Fn(&Self) -> bool) {
        poll_fn(|context| {
            if due(self) {
                return Poll::Ready(());
            }
            self.waiter.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// Counts a task until its future is gone.
struct Running(Rc<Shared>);

impl Running {
    fn new(shared: &Rc<Shared>) -> Self {
        shared.tasks.set(shared.tasks.get() + 1);
        Self(Rc::clone(shared))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.tasks.set(self.0.tasks.get() - 1);
        self.0.announce();
    }
}

/// The wish to end a socket call early.
#[derive(Default)]
struct Cancel {
    wished: Cell<bool>,
    task: RefCell<Option<Waker>>,
}

/// Reports a request's completion when its task is over, whatever ended it.
struct Report {
    key: Key,
    result: i32,
    running: Running,
}

impl Drop for Report {
    fn drop(&mut self) {
        let completion = Completion { key: self.key, result: self.result };
        self.running.0.completions.borrow_mut().push(completion);
    }
}

impl Driver for Glommio {
    const BACKEND: Backend = Backend::Glommio;
    const NONBLOCKING_SOCKETS: bool = true;

    fn new(setup: DriverSetup) -> io::Result<Self> {
        // It panics, rather than failing, where io_uring is refused.
        let made = catch_unwind(AssertUnwindSafe(|| {
            LocalExecutorBuilder::new(Placement::Unbound)
                .name(&setup.name)
                .io_memory(GLOMMIO_MEMORY_BYTES)
                .make()
        }));
        let executor = match made {
            Ok(made) => made.map_err(refused)?,
            Err(_) => {
                let message = "glommio cannot start: it panicked, most likely because io_uring is \
                               refused";
                return Err(io::Error::new(io::ErrorKind::Unsupported, message));
            }
        };
        Ok(Self {
            executor,
            shared: Rc::default(),
            queued: Vec::new(),
            cancels: BTreeMap::new(),
            files: Vec::new(),
            free: Vec::new(),
            released: ReleasedSlots::default(),
            devices: BTreeSet::new(),
            doorbell: setup.doorbell,
            owing: false,
            broken: false,
        })
    }

    fn register_file(&mut self, fd: RawFd) -> Option<u32> {
        self.close_released();
        let device = crate::native::calls::status(fd).ok()?.st_dev;
        let first = self.devices.insert(device);
        // Files that are closed are to be closed, however many are opened without a poll.
        let queued = std::mem::take(&mut self.queued);
        self.owing = true;
        let opened = self.enter(async move {
            start(queued);
            contained(files::open_again(fd, first)).await
        });
        let opened = opened.ok()?;
        let file = match opened? {
            Ok(file) => file,
            Err(error) => {
                if first {
                    self.devices.remove(&device);
                }
                tracing::debug!(%error, "glommio cannot use a file, which is used without it");
                return None;
            }
        };
        let slot = self.free.pop().or_else(|| {
            self.files.push(None);
            u32::try_from(self.files.len() - 1).ok()
        })?;
        self.files[slot as usize] = Some(Rc::new(file));
        Some(slot)
    }

    fn released(&self) -> ReleasedSlots {
        Rc::clone(&self.released)
    }

    unsafe fn submit(&mut self, key: Key, request: Request) {
        match request {
            Request::Read { file, .. }
            | Request::Write { file, .. }
            | Request::Sync { file, .. }
            | Request::Allocate { file, .. } => {
                let file = self.file(file);
                // SAFETY: the caller's contract is passed on as it is: the task reports the
                // completion when the future is gone.
                let work = unsafe { files::carry_out(file, request) };
                self.queue(key, work);
            }
            Request::Accept { .. }
            | Request::Connect { .. }
            | Request::Receive { .. }
            | Request::Send { .. }
            | Request::SendMessage { .. } => {
                // SAFETY: the caller's contract is passed on as it is.
                if let Some(result) = unsafe { attempt(&request, true) } {
                    self.shared.completions.borrow_mut().push(Completion { key, result });
                    return;
                }
                let cancel = Rc::new(Cancel::default());
                self.cancels.insert(key, Rc::clone(&cancel));
                // SAFETY: as for files.
                let work = unsafe { sockets::carry_out(request) };
                self.queue(key, until_cancelled(cancel, work));
            }
        }
    }

    fn flush(&mut self) {
        // A failure is reported by the next poll.
        drop(self.turn());
    }

    fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.shared.completions.borrow().is_empty()
    }

    fn cancel(&mut self, key: Key) {
        // A file operation is not stopped; its task will report it.
        let Some(cancel) = self.cancels.remove(&key) else { return };
        cancel.wished.set(true);
        // Its waker is for the executor's own thread while that runs.
        self.queued.push(Box::pin(async move {
            let task = cancel.task.borrow_mut().take();
            if let Some(task) = task {
                task.wake();
            }
        }));
    }

    fn poll(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        self.close_released();
        let news = self.shared.rung.get() || !self.shared.completions.borrow().is_empty();
        let polled = match wait {
            Wait::AtMost(longest) if !news => self.sleep(longest),
            _ => self.turn(),
        };
        if matches!(wait, Wait::AtMost(_)) {
            self.shared.rung.set(false);
        }
        let finished = completions.len();
        completions.append(&mut self.shared.completions.borrow_mut());
        for completion in &completions[finished..] {
            self.cancels.remove(&completion.key);
        }
        polled
    }

    fn finish(&mut self) -> io::Result<()> {
        self.close_released();
        for file in self.files.iter_mut().filter_map(Option::take) {
            self.queued.push(close(&self.shared, file));
        }
        self.shared.ending.set(true);
        self.doorbell.begin_sleep();
        self.doorbell.ring();
        let (queued, shared) = (std::mem::take(&mut self.queued), Rc::clone(&self.shared));
        self.enter(async move {
            start(queued);
            shared.wait(|shared| shared.tasks.get() == 0 && !shared.listening.get()).await;
        })?;
        // What the last of them left to cancel goes to the kernel with the runs that follow.
        self.enter(async {})?;
        self.enter(async {})?;
        assert!(
            self.shared.completions.borrow().is_empty(),
            "a request was in flight when its executor ended"
        );
        Ok(())
    }
}

impl Glommio {
    /// The file that a request is for, if glommio has it open.
    fn file(&self, target: FileTarget) -> Option<Rc<DmaFile>> {
        self.files.get(target.slot? as usize)?.clone()
    }

    /// Makes a task of a request.
    fn queue(&mut self, key: Key, work: impl Future<Output = i32> + 'static) {
        let running = Running::new(&self.shared);
        // If the task is dropped before its end, that is what became of the request.
        let report = Report { key, result: -libc::ECANCELED, running };
        self.queued.push(Box::pin(async move {
            let mut report = report;
            report.result = contained(work).await.unwrap_or(-libc::EIO);
        }));
    }

    /// Closes glommio's descriptors of files that were closed.
    fn close_released(&mut self) {
        let released = std::mem::take(&mut *self.released.borrow_mut());
        for slot in released {
            // Whatever was in flight for it had a share in the file.
            let file = self.files[slot as usize].take().expect("a slot is released once");
            self.queued.push(close(&self.shared, file));
            self.free.push(slot);
        }
    }

    /// Lets the executor run without waiting for anything, if it has anything to run.
    fn turn(&mut self) -> io::Result<()> {
        if !self.queued.is_empty() {
            let queued = std::mem::take(&mut self.queued);
            self.enter(async { start(queued) })?;
            self.owing = true;
        }
        let busy = self.shared.tasks.get() > 0;
        if busy || self.owing {
            // A run begins with what the former one left for the kernel.
            self.enter(async {})?;
            self.owing = busy;
        }
        Ok(())
    }

    /// Lets the executor run until there is news, or for `longest`.
    fn sleep(&mut self, longest: Option<Duration>) -> io::Result<()> {
        let queued = std::mem::take(&mut self.queued);
        let (shared, doorbell) = (Rc::clone(&self.shared), Arc::clone(&self.doorbell));
        let longest = longest.map(|longest| longest.min(Duration::from_secs(GLOMMIO_SLEEP_S)));
        self.owing = true;
        self.enter(async move {
            start(queued);
            listen(&shared, &doorbell);
            let mut timer = longest.map(Timer::new);
            let mut news =
                pin!(shared.wait(|shared| {
                    shared.rung.get() || !shared.completions.borrow().is_empty()
                }));
            poll_fn(|context| {
                let over = news.as_mut().poll(context).is_ready();
                let timer = timer.as_mut().map(|timer| Pin::new(timer).poll(context));
                if over || timer.is_some_and(|timer| timer.is_ready()) {
                    return Poll::Ready(());
                }
                Poll::Pending
            })
            .await;
            // Nobody is to wake a wait that is over.
            drop(shared.waiter.take());
        })
    }

    /// Runs the executor until `future` is done.
    fn enter<T>(&mut self, future: impl Future<Output = T>) -> io::Result<T> {
        if self.broken {
            return Err(io::Error::other("glommio's executor panicked before"));
        }
        let ran = catch_unwind(AssertUnwindSafe(|| self.executor.run(future)));
        ran.map_err(|_| {
            self.broken = true;
            io::Error::other("glommio's executor panicked")
        })
    }
}

/// Why there is no executor.
fn refused(error: GlommioError<()>) -> io::Error {
    let message = format!(
        "glommio cannot start: {error}. It needs io_uring, and 512 KiB of locked memory (ulimit -l)"
    );
    // What the kernel did not refuse is refused by glommio itself: the machine does not suit it.
    let kernel = error.raw_os_error().map(|code| io::Error::from_raw_os_error(code).kind());
    io::Error::new(kernel.unwrap_or(io::ErrorKind::Unsupported), message)
}

/// Starts tasks. Runs within the executor.
fn start(queued: Vec<Pin<Box<dyn Future<Output = ()>>>>) {
    for task in queued {
        spawn_local(task).detach();
    }
}

/// Starts the task that reads the doorbell, if there is none. Runs within the executor.
fn listen(shared: &Rc<Shared>, doorbell: &Arc<Doorbell>) {
    if shared.listening.replace(true) {
        return;
    }
    let (shared, doorbell) = (Rc::clone(shared), Arc::clone(doorbell));
    let task = async move {
        let listened = contained(files::read_doorbell(&shared.ending, &doorbell, || {
            shared.rung.set(true);
            shared.announce();
        }));
        if let Some(Err(error)) = listened.await {
            // The next wait tries again, and is over at once.
            tracing::error!(%error, "glommio cannot read the doorbell");
        }
        shared.listening.set(false);
        shared.rung.set(true);
        shared.announce();
    };
    spawn_local(task).detach();
}

/// A task that closes a file.
fn close(shared: &Rc<Shared>, file: Rc<DmaFile>) -> Pin<Box<dyn Future<Output = ()>>> {
    let running = Running::new(shared);
    Box::pin(async move {
        let _running = running;
        if let Some(Err(error)) = contained(file.close_rc()).await {
            tracing::error!(%error, "glommio cannot close a file");
        }
    })
}

/// `work`, or `-ECANCELED` as soon as that is wished.
async fn until_cancelled(cancel: Rc<Cancel>, work: impl Future<Output = i32>) -> i32 {
    let mut work = pin!(work);
    poll_fn(|context| {
        if cancel.wished.get() {
            return Poll::Ready(-libc::ECANCELED);
        }
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            cancel.task.replace(Some(context.waker().clone()));
        }
        polled
    })
    .await
}

/// The output of `future`. None if it panicked, which is not to end the executor.
async fn contained<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(polled) => polled.map(Some),
        Err(_) => {
            tracing::error!("an operation of glommio panicked");
            Poll::Ready(None)
        }
    })
    .await
}
