//! One shard of a production backend: its tasks, timers and operations, and the loop that serves
//! them.
//!
//! # A turn of the loop
//! 1. Poll the tasks that are ready, a bounded number of them.
//! 2. Look at what other threads announced (mail, room, the wish to stop) and at the timers.
//! 3. Hand new requests to the driver and take its completions.
//! 4. If nothing is ready: poll for a little while if that is likely to be enough, else sleep in
//!    the driver ([`super::idleness`]).
//!
//! # Durable writes first
//! A durable write does not wait for other tasks of the turn, which may be at work for long: it goes
//! to the kernel at once, with all that is queued. But if others completed with the one before it,
//! their tasks are about to run and to start the next, and then the last of them takes all along:
//! one system call, and one notice to the device. Where no other task is ready, the turn is over.
//!
//! # Many transfers in parts
//! A device answers many reads or writes at about the same time, and rests while their tasks run and
//! start the next. So once [`TRANSFERS_AT_ONCE`] of them are queued and more tasks are ready, they go
//! to the kernel, and the device is at work while those tasks run.
//!
//! # Groups
//! Tasks of several groups share the turn by time (see [`Executor::run_ready`]). Reads and writes
//! of a group other than the foreground that would have more in flight than it may have wait in
//! their slots until one of the group ends ([`super::budgets`]).
//!
//! # Never starve the kernel
//! On many devices the kernel completes a durable write in a worker thread that is bound to the
//! CPU which issued it. A loop that polls without ever giving up that CPU keeps the worker waiting
//! for its scheduling slice: a durable write of 60 us then takes 4 ms. So while writes or flushes
//! are in flight, a shard that has been busy for a moment yields (`sched_yield`) at the end of the
//! turn, and an idle one does in every round of its polling. Without them busy turns do not yield,
//! and idle ones seldom do.
//!
//! # The end
//! When the main task is done, or panicked, all tasks are dropped, every operation in flight is
//! cancelled, and the loop goes on until the driver has reported the last of them. Only then is
//! any memory released. If the driver itself fails, the memory is leaked.
//!
//! A future may outlive its shard: leaked, or kept where it is dropped when the thread ends. It
//! holds the core, but no longer what the core had: the driver, its descriptors and threads, and
//! all operations are gone by then. Polled again it starts nothing; dropped, it cancels nothing.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::budgets::Budgets;
use super::calls;
use super::doorbell::Doorbell;
use super::driver::{Completion, Driver, Key, ReleasedSlots, Wait};
use super::idleness::Idleness;
use super::mesh::MeshEnd;
use super::process::Process;
use super::slab::{Slab, Slot, State};
use super::timers::Timers;
use super::work::{OpenFile, Progress, Work};
use crate::Group;
use crate::executor::Executor;
use crate::limits::{
    BUSY_YIELD_US, CONTENDED_YIELD_US, IDLE_ROUNDS_PER_YIELD, TASKS_PER_TURN, TRANSFERS_AT_ONCE,
};
use crate::runtime::IdlePolicy;

/// One shard.
pub(crate) struct Core<D> {
    pub(crate) executor: Executor,
    pub(crate) timers: Rc<Timers>,
    pub(crate) mesh: MeshEnd,
    pub(crate) process: Arc<Process>,
    pub(crate) shard: usize,
    doorbell: Arc<Doorbell>,
    /// None when the shard is over.
    driver: RefCell<Option<D>>,
    operations: RefCell<Slab>,
    /// Completions that the driver has reported and nobody has acted on yet, the latest first. A
    /// waker that panics leaves the others here: if one were lost, the end of the shard would wait
    /// for it for ever.
    completions: RefCell<Vec<Completion>>,
    /// What waits because its group has enough in flight.
    budgets: RefCell<Budgets>,
    /// Writes and flushes in flight.
    disk_operations: Cell<usize>,
    /// Durable writes that are done, and whose tasks have not run since.
    writes_done: Cell<usize>,
    /// Reads and writes that were started since all was last handed over.
    transfers_queued: Cell<usize>,
    /// When the shard last slept or yielded.
    gave_way: Cell<Instant>,
    idleness: RefCell<Idleness>,
    /// The tasks that wait for the process to stop.
    stop_waiters: RefCell<BTreeMap<u64, Waker>>,
    next_stop_waiter: Cell<u64>,
    /// How often the loop went round.
    turns: Cell<u64>,
}

impl<D: Driver> Core<D> {
    pub(crate) fn new(
        process: Arc<Process>,
        shard: usize,
        driver: D,
        idle_policy: IdlePolicy,
    ) -> Rc<Self> {
        let doorbell = Arc::clone(&process.doorbells[shard]);
        let ringer = Arc::clone(&doorbell);
        Rc::new(Self {
            executor: Executor::new(move || ringer.ring()),
            timers: Rc::new(Timers::new(process.start)),
            mesh: MeshEnd::new(Arc::clone(&process), shard),
            process,
            shard,
            doorbell,
            driver: RefCell::new(Some(driver)),
            operations: RefCell::default(),
            completions: RefCell::default(),
            budgets: RefCell::default(),
            disk_operations: Cell::new(0),
            writes_done: Cell::new(0),
            transfers_queued: Cell::new(0),
            gave_way: Cell::new(Instant::now()),
            idleness: RefCell::new(Idleness::new(idle_policy, Instant::now())),
            stop_waiters: RefCell::default(),
            next_stop_waiter: Cell::new(0),
            turns: Cell::new(0),
        })
    }

    /// Runs the shard until `main` is done.
    pub(crate) fn run<T: 'static>(&self, main: impl Future<Output = T> + 'static) -> T {
        let mut main = self.executor.spawn(main);
        loop {
            self.executor.run_ready(TASKS_PER_TURN, || self.process.start.elapsed());
            // Before anything that may sleep: nothing would wake a shard whose main task is done.
            if main.is_finished() {
                break;
            }
            self.turn();
        }
        match Pin::new(&mut main).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => unreachable!("a finished task is ready"),
        }
    }

    /// What follows the tasks' turn.
    fn turn(&self) {
        self.turns.set(self.turns.get() + 1);
        self.look_around();
        if self.executor.ready() == 0 {
            // Handing over and waiting are one system call.
            self.idle();
            return;
        }
        self.poll_driver(Wait::No);
        if self.disk_operations.get() > 0 {
            let now = Instant::now();
            if now - self.gave_way.get() > Duration::from_micros(BUSY_YIELD_US) {
                calls::yield_cpu();
                self.gave_way.set(now);
            }
        }
    }

    /// Turns news from other threads, and the passing of time, into ready tasks.
    fn look_around(&self) {
        self.mesh.turn();
        self.timers.fire();
        if self.process.is_stopping() {
            let waiters = std::mem::take(&mut *self.stop_waiters.borrow_mut());
            waiters.into_values().for_each(Waker::wake);
        }
    }

    /// Waits until there may be something to do.
    fn idle(&self) {
        let begun = Instant::now();
        let polling = self.idleness.borrow_mut().polling(begun);
        let slept = !polling.is_some_and(|longest| self.spin(begun, longest));
        if slept {
            self.sleep();
        }
        let now = Instant::now();
        self.gave_way.set(now);
        self.idleness.borrow_mut().note(now - begun, slept, now);
    }

    /// Sleeps until there may be something to do.
    fn sleep(&self) {
        self.doorbell.begin_sleep();
        let stop_waits = self.process.is_stopping() && !self.stop_waiters.borrow().is_empty();
        if self.executor.ready() == 0 && !self.doorbell.has_news() && !stop_waits {
            let now = self.timers.now();
            let longest = self.timers.next_deadline().map(|deadline| deadline.since(now));
            self.poll_driver(Wait::AtMost(longest));
        } else {
            // What was queued is not to wait for the end of the news.
            self.poll_driver(Wait::No);
        }
        self.doorbell.end_sleep();
        self.look_around();
    }

    /// Polls for a little while. Returns whether there is something to do.
    fn spin(&self, begun: Instant, longest: Duration) -> bool {
        self.poll_driver(Wait::No);
        let mut now = begun;
        let mut rounds = 0_u32;
        while self.executor.ready() == 0 && now - begun < longest {
            let round = now;
            rounds += 1;
            if self.disk_operations.get() > 0 || rounds.is_multiple_of(IDLE_ROUNDS_PER_YIELD) {
                calls::yield_cpu();
            } else {
                std::hint::spin_loop();
            }
            self.poll_driver(Wait::No);
            self.look_around();
            now = Instant::now();
            if now - round > Duration::from_micros(CONTENDED_YIELD_US) {
                self.idleness.borrow_mut().note_contention(now);
                break;
            }
        }
        self.executor.ready() > 0
    }

    /// A file that was opened, made known to the driver.
    pub(crate) fn open_file(&self, fd: OwnedFd, path: PathBuf, group: Group) -> OpenFile {
        let mut driver = self.driver.borrow_mut();
        let (slot, released) = match driver.as_mut() {
            Some(driver) => (driver.register_file(fd.as_raw_fd()), driver.released()),
            // A shard that is over has no driver.
            None => (None, ReleasedSlots::default()),
        };
        OpenFile { fd, path, group, slot, released }
    }

    /// Hands requests to the driver and its completions to the operations.
    ///
    /// # Panics
    /// If the driver fails, which ends the shard: nothing can be read, written or waited for.
    fn poll_driver(&self, wait: Wait) {
        if let Err(error) = self.try_poll_driver(wait) {
            panic!("shard {} cannot reach the kernel: {error}", self.shard);
        }
    }

    fn try_poll_driver(&self, wait: Wait) -> io::Result<()> {
        let polled = self.fetch_completions(wait);
        self.act_on_completions();
        polled
    }

    fn fetch_completions(&self, wait: Wait) -> io::Result<()> {
        self.transfers_queued.set(0);
        let mut completions = self.completions.borrow_mut();
        let polled = self.with_driver(|driver| driver.poll(wait, &mut completions));
        completions.reverse();
        polled
    }

    /// Takes every operation whose completion was fetched one step on.
    fn act_on_completions(&self) {
        loop {
            let next = self.completions.borrow_mut().pop();
            let Some(completion) = next else { return };
            self.complete(completion);
        }
    }

    /// # Panics
    /// If the shard is over.
    fn with_driver<T>(&self, call: impl FnOnce(&mut D) -> T) -> T {
        call(self.driver.borrow_mut().as_mut().expect("a shard has a driver until it is over"))
    }

    /// Whether no task is ready and no request waits to be handed over. Never when the shard is
    /// over.
    pub(crate) fn is_quiet(&self) -> bool {
        self.executor.ready() == 0 && self.driver.borrow().as_ref().is_some_and(D::is_empty)
    }

    /// Numbers the turns of the loop.
    pub(crate) fn turns(&self) -> u64 {
        self.turns.get()
    }

    /// Whether the driver is gone.
    pub(super) fn is_over(&self) -> bool {
        self.driver.borrow().is_none()
    }

    /// Starts an operation for the task that `waker` wakes, or holds it back if its group has
    /// enough in flight.
    pub(super) fn start(&self, work: Work, waker: Waker) -> Key {
        let (urgent, budgeted) = (work.is_urgent(), work.budgeted());
        let key = self.operations.borrow_mut().insert(Slot { work, state: State::Held(waker) });
        match budgeted {
            Some((Group::Foreground, _)) => self.budgets.borrow_mut().note_foreground(),
            Some((group, bytes)) => {
                let now = self.timers.now();
                if !self.budgets.borrow_mut().enter(group, key, bytes, now) {
                    return key;
                }
            }
            None => {}
        }
        self.launch(key);
        let queued = self.transfers_queued.get() + usize::from(budgeted.is_some());
        self.transfers_queued.set(queued);
        let cannot_wait = urgent && self.writes_done.get() == 0;
        if (cannot_wait || queued >= TRANSFERS_AT_ONCE) && self.executor.ready() > 0 {
            self.transfers_queued.set(0);
            self.with_driver(D::flush);
        }
        key
    }

    /// Hands the first request of an operation to the driver.
    fn launch(&self, key: Key) {
        let mut operations = self.operations.borrow_mut();
        let slot = operations.get(key);
        slot.state = match std::mem::replace(&mut slot.state, State::Orphaned) {
            State::Held(waker) => State::Waiting(waker),
            _ => unreachable!("an operation is launched once"),
        };
        if slot.work.is_disk() {
            self.disk_operations.set(self.disk_operations.get() + 1);
        }
        let request = slot.work.request();
        drop(operations);
        // SAFETY:
        // 1. The addresses are owned by the work, which is in its slot, and the slab keeps it
        //    there until `complete` has seen the completion.
        // 2. So is the descriptor.
        // 3. The slab never has two operations with one key.
        self.with_driver(|driver| unsafe { driver.submit(key, request) });
    }

    /// Takes an operation one step on.
    fn complete(&self, completion: Completion) {
        let Completion { key, result } = completion;
        let mut operations = self.operations.borrow_mut();
        let slot = operations.get(key);
        let progress = slot.work.advance(result);
        match (progress, &slot.state) {
            (Progress::Again, State::Waiting(_)) => {
                let request = slot.work.request();
                drop(operations);
                // SAFETY: as in `launch`; the former request with this key has completed.
                self.with_driver(|driver| unsafe { driver.submit(key, request) });
            }
            (Progress::Done(result), State::Waiting(_)) => {
                self.forget_disk(slot);
                if slot.work.is_urgent() {
                    self.writes_done.set(self.writes_done.get() + 1);
                }
                let budgeted = slot.work.budgeted();
                let state = std::mem::replace(&mut slot.state, State::Done(result));
                drop(operations);
                self.leave(budgeted);
                if let State::Waiting(waker) = state {
                    waker.wake();
                }
            }
            (progress, State::Orphaned) => {
                let result = match progress {
                    Progress::Done(result) => result,
                    Progress::Again => -libc::ECANCELED,
                };
                self.forget_disk(slot);
                slot.state = State::Done(result);
                let slot = operations.remove(key);
                // The borrow ends first: what is dropped or woken here may start operations.
                drop(operations);
                self.leave(slot.work.budgeted());
                slot.work.bury(result);
            }
            (_, State::Done(_)) => unreachable!("two completions of one request"),
            (_, State::Held(_)) => unreachable!("a completion without a request"),
        }
    }

    /// An operation that counted among its group's has ended: others may start.
    fn leave(&self, budgeted: Option<(Group, u64)>) {
        let Some((group, bytes)) = budgeted else { return };
        if group == Group::Foreground {
            return;
        }
        self.budgets.borrow_mut().leave(group, bytes);
        loop {
            let next = self.budgets.borrow_mut().next(group, self.timers.now());
            let Some(key) = next else { return };
            self.launch(key);
        }
    }

    /// A result is taken, or nobody wants it any more.
    fn forget_done(&self, work: &Work) {
        if work.is_urgent() {
            self.writes_done.set(self.writes_done.get() - 1);
        }
    }

    fn forget_disk(&self, slot: &Slot) {
        if slot.work.is_disk() {
            self.disk_operations.set(self.disk_operations.get() - 1);
        }
    }

    /// The result of an operation if it is done, which ends it.
    pub(super) fn take(&self, key: Key, waker: &Waker) -> Option<(i32, Work)> {
        let mut operations = self.operations.borrow_mut();
        match &mut operations.get(key).state {
            State::Waiting(waiting) | State::Held(waiting) => {
                let replaced = std::mem::replace(waiting, waker.clone());
                drop(operations);
                drop(replaced);
                None
            }
            State::Done(result) => {
                let result = *result;
                let work = operations.remove(key).work;
                self.forget_done(&work);
                Some((result, work))
            }
            State::Orphaned => unreachable!("an orphan's future is gone"),
        }
    }

    /// The future of an operation is gone: cancels it, and leaves all it owns in its slot until
    /// the driver is done with it.
    pub(super) fn orphan(&self, key: Key) {
        let mut operations = self.operations.borrow_mut();
        let slot = operations.get(key);
        match slot.state {
            State::Held(_) => {
                // Nothing of it has begun.
                let result = -libc::ECANCELED;
                if let Some((group, _)) = slot.work.budgeted() {
                    self.budgets.borrow_mut().forget(group, key);
                }
                let state = std::mem::replace(&mut slot.state, State::Done(result));
                let slot = operations.remove(key);
                drop(operations);
                drop(state);
                slot.work.bury(result);
            }
            State::Waiting(_) => {
                slot.work.orphan();
                let state = std::mem::replace(&mut slot.state, State::Orphaned);
                drop(operations);
                self.with_driver(|driver| driver.cancel(key));
                drop(state);
            }
            State::Done(result) => {
                let slot = operations.remove(key);
                drop(operations);
                self.forget_done(&slot.work);
                slot.work.bury(result);
            }
            State::Orphaned => unreachable!("a future is dropped once"),
        }
    }

    /// Waits for the process to be asked to stop.
    pub(crate) fn stopping(self: &Rc<Self>) -> Stopping<D> {
        Stopping { core: Rc::clone(self), number: None }
    }

    /// Cancels everything in flight, waits until the driver has let go of it, and lets go of the
    /// driver and of everything that futures which were leaked wait for. The tasks have been
    /// erased before.
    ///
    /// Wakers and buffers that panic when they are used or dropped change nothing about that; what
    /// they say is lost.
    pub(crate) fn drain(&self) -> io::Result<()> {
        loop {
            // Each call that panics has taken one off the list.
            while regardless(|| self.act_on_completions()).is_none() {}
            self.orphan_the_rest();
            // Orphans leave with their completions, so whoever is left is in flight.
            if self.operations.borrow().keys().is_empty() {
                break;
            }
            self.doorbell.begin_sleep();
            self.fetch_completions(Wait::AtMost(None))?;
            self.doorbell.end_sleep();
        }
        self.with_driver(D::finish)?;
        // Nobody is in the driver, and what it drops is its own.
        let driver = self.driver.borrow_mut().take();
        drop(driver);
        self.doorbell.close();
        regardless(|| self.timers.clear());
        regardless(|| self.mesh.clear());
        let stop_waiters = std::mem::take(&mut *self.stop_waiters.borrow_mut());
        regardless(|| drop(stop_waiters));
        Ok(())
    }

    /// Orphans every operation whose future was leaked rather than dropped. One that is done is
    /// ended, too: it may have a connection in its result.
    fn orphan_the_rest(&self) {
        let keys = self.operations.borrow().keys();
        for key in keys {
            regardless(|| {
                let orphan = matches!(self.operations.borrow_mut().get(key).state, State::Orphaned);
                if !orphan {
                    self.orphan(key);
                }
            });
        }
    }
}

/// Makes a call whose panic, if it panics, is nobody's business any more. None if it did.
fn regardless<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}

/// Completes when the process was asked to stop.
pub(crate) struct Stopping<D: Driver> {
    core: Rc<Core<D>>,
    number: Option<u64>,
}

impl<D: Driver> Future for Stopping<D> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.core.process.is_stopping() {
            return Poll::Ready(());
        }
        let number = self.number.unwrap_or_else(|| {
            let number = self.core.next_stop_waiter.get();
            self.core.next_stop_waiter.set(number + 1);
            number
        });
        self.number = Some(number);
        let waker = context.waker().clone();
        let replaced = self.core.stop_waiters.borrow_mut().insert(number, waker);
        drop(replaced);
        Poll::Pending
    }
}

impl<D: Driver> Drop for Stopping<D> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let removed = self.core.stop_waiters.borrow_mut().remove(&number);
            drop(removed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::executor::TaskId;
    use crate::limits::GROUP_BYTES;
    use crate::native::driver::{DriverSetup, Request};
    use crate::native::env::NativeEnv;
    use crate::native::operate::Operate;
    use crate::runtime::Backend;
    use crate::{Buffer, Disk, Env, File, OpenMode};

    /// What a driver was asked, and what it has to say.
    #[derive(Default)]
    struct Asked {
        in_flight: VecDeque<Key>,
        completed: Vec<Completion>,
        most: usize,
        submitted: usize,
        flushed: usize,
    }

    /// Carries out nothing; requests complete when the test says so, or when they are cancelled.
    struct Patient(Rc<RefCell<Asked>>);

    impl Driver for Patient {
        const BACKEND: Backend = Backend::Posix;
        const NONBLOCKING_SOCKETS: bool = false;

        fn new(_: DriverSetup) -> io::Result<Self> {
            Ok(Self(Rc::default()))
        }

        unsafe fn submit(&mut self, key: Key, _request: Request) {
            let mut asked = self.0.borrow_mut();
            asked.in_flight.push_back(key);
            asked.submitted += 1;
            asked.most = asked.most.max(asked.in_flight.len());
        }

        fn flush(&mut self) {
            self.0.borrow_mut().flushed += 1;
        }

        fn is_empty(&self) -> bool {
            self.0.borrow().completed.is_empty()
        }

        fn cancel(&mut self, key: Key) {
            let mut asked = self.0.borrow_mut();
            asked.in_flight.retain(|&other| other != key);
            asked.completed.push(Completion { key, result: -libc::ECANCELED });
        }

        fn poll(&mut self, _: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
            completions.append(&mut self.0.borrow_mut().completed);
            Ok(())
        }

        fn finish(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Test {
        core: Rc<Core<Patient>>,
        asked: Rc<RefCell<Asked>>,
    }

    impl Test {
        fn new() -> Self {
            let asked = Rc::<RefCell<Asked>>::default();
            let process = Arc::new(Process::new(1).expect("a doorbell"));
            let driver = Patient(Rc::clone(&asked));
            Self { core: Core::new(process, 0, driver, IdlePolicy::default()), asked }
        }

        /// Reads of one MiB each, all polled once.
        fn reads(&self, group: Group, count: usize) -> Vec<Option<Pin<Box<Operate<Patient>>>>> {
            let path = PathBuf::from("/dev/null");
            let fd = std::fs::File::open(&path).expect("it is there").into();
            let file = Rc::new(self.core.open_file(fd, path, group));
            let read = |_| {
                let (file, buffer) = (Rc::clone(&file), Buffer::with_capacity(1 << 20));
                let read = Operate::new(&self.core, Work::Read { file, buffer, offset: 0 });
                let mut read = Box::pin(read);
                assert!(read.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
                Some(read)
            };
            (0..count).map(read).collect()
        }

        /// Completes the request that is longest in flight.
        fn complete_one(&self) {
            let key = self.asked.borrow_mut().in_flight.pop_front().expect("in flight");
            self.asked.borrow_mut().completed.push(Completion { key, result: 0 });
            self.core.poll_driver(Wait::No);
        }
    }

    fn bound() -> usize {
        (GROUP_BYTES[Group::Compaction.index()] >> 20) as usize
    }

    #[test]
    fn a_group_has_no_more_in_flight_than_it_may_and_all_of_it_is_done() {
        let test = Test::new();
        let mut reads = test.reads(Group::Compaction, 3 * bound());
        assert_eq!(test.asked.borrow().in_flight.len(), bound());
        // The foreground is not held back, and from now on the group is, more tightly.
        drop(test.reads(Group::Foreground, bound() + 1));
        assert_eq!(test.asked.borrow().submitted, 2 * bound() + 1);
        test.core.poll_driver(Wait::No);
        test.asked.borrow_mut().most = 0;
        while !test.asked.borrow().in_flight.is_empty() {
            test.complete_one();
        }
        assert!(test.asked.borrow().most <= bound());
        for read in reads.iter_mut().flatten() {
            assert!(read.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        }
    }

    #[test]
    fn what_is_dropped_while_it_waits_never_starts_and_makes_room() {
        let test = Test::new();
        let mut reads = test.reads(Group::Flush, 40);
        let flying = test.asked.borrow().in_flight.len();
        assert!(flying < 40);
        // One in flight, and all but the last of those that wait.
        for read in reads.iter_mut().take(39).skip(flying - 1) {
            drop(read.take());
        }
        test.core.poll_driver(Wait::No);
        assert_eq!(test.asked.borrow().submitted, flying + 1, "the last one has the room");
        assert_eq!(test.asked.borrow().in_flight.len(), flying);
        assert_eq!(test.core.operations.borrow().keys().len(), flying);
    }

    #[test]
    fn an_environment_of_a_group_opens_files_and_starts_tasks_of_it() {
        let test = Test::new();
        let foreground = NativeEnv::new(&test.core, Group::Foreground);
        let env = foreground.in_group(Group::Compaction).clone();
        let mut context = Context::from_waker(Waker::noop());
        let path = std::env::current_exe().expect("this program");
        let mut open = Box::pin(env.disk().open(&path, OpenMode::Read));
        let Poll::Ready(Ok(file)) = open.as_mut().poll(&mut context) else {
            panic!("opening is one system call, and the file is there");
        };
        let mut reads = Vec::new();
        for _ in 0..2 * bound() {
            let mut read = Box::pin(file.read_at(Buffer::with_capacity(1 << 20), 0));
            assert!(read.as_mut().poll(&mut context).is_pending());
            reads.push(read);
        }
        assert_eq!(test.asked.borrow().submitted, bound());
        let _background = env.spawn("first", async {});
        let _foreground = foreground.spawn("second", async {});
        // The queue is told group after group.
        assert_eq!(test.core.executor.ready_task(0), Some(TaskId(1)));
    }

    #[test]
    fn many_transfers_are_handed_over_in_parts_while_tasks_are_ready() {
        let test = Test::new();
        let flushed = || test.asked.borrow().flushed;
        let mut reads = test.reads(Group::Foreground, 3 * TRANSFERS_AT_ONCE);
        assert_eq!(flushed(), 0, "the turn is over, and its end hands over all of them");
        test.core.poll_driver(Wait::No);
        let _ready = test.core.executor.spawn(async {});
        reads.extend(test.reads(Group::Foreground, TRANSFERS_AT_ONCE - 1));
        assert_eq!(flushed(), 0);
        reads.extend(test.reads(Group::Foreground, 1));
        assert_eq!(flushed(), 1);
        reads.extend(test.reads(Group::Foreground, 2 * TRANSFERS_AT_ONCE));
        assert_eq!(flushed(), 3);
    }

    #[test]
    fn a_shard_that_ends_starts_nothing_that_waits() {
        let test = Test::new();
        // They outlive it.
        let reads = test.reads(Group::Compaction, 3 * bound());
        test.core.drain().expect("drained");
        assert_eq!(test.asked.borrow().submitted, bound());
        assert!(test.core.operations.borrow().keys().is_empty());
        drop(reads);
    }
}
