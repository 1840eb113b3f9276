//! The task executor, shared by production and simulation.
//!
//! An [`Executor`] belongs to one shard and runs on one thread. It keeps the tasks that are ready
//! and polls the one it is told to; *which* is the caller's policy. The production backends run
//! them first in, first out within a group, and share the CPU between groups
//! ([`Executor::run_ready`]); the simulator picks by its seed.
//!
//! Tasks are `!Send`. Their wakers are not: a waker that is used on another thread puts its task on
//! a lock-free queue and calls the `notify` hook, which must make the shard's thread look.
//!
//! **Erasure.** [`Executor::erase`] drops every task at once, finished or not, as the death of a
//! process does. Nothing of them runs again, and a task spawned afterwards is dropped unpolled.

use std::cell::{Cell, UnsafeCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crossbeam::queue::SegQueue;

use crate::Group;
use crate::limits::{GROUP_CPU_LAG_US, GROUP_CPU_SHARES, SHARED_TURN_US};

type Runnable = async_task::Runnable<Tag>;

/// Numbers tasks of one executor in the order of their spawning, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u64);

/// What the queue knows about a task.
#[derive(Clone, Copy)]
struct Tag {
    id: TaskId,
    group: Group,
}

/// A task that was spawned. Awaiting it gives its output. Dropping it cancels the task, at the
/// latest when the task would next have been polled.
#[must_use = "dropping a task cancels it; use `detach` to let it run"]
pub struct Task<T>(async_task::Task<T, Tag>);

impl<T> Task<T> {
    /// Lets the task run to its end unobserved.
    pub fn detach(self) {
        self.0.detach();
    }

    /// Whether the task has produced its output.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(context)
    }
}

/// The tasks of one shard. Cheap to clone; clones are the same executor.
#[derive(Clone)]
pub struct Executor {
    inner: Rc<Inner>,
}

struct Inner {
    queue: Arc<ReadyQueue>,
    next_task: Cell<u64>,
    erased: Cell<bool>,
    /// One waker for each task that has not finished, so that `erase` can reach tasks that wait.
    /// Ordered by task so that erasure drops them in the same order every time.
    unfinished: std::cell::RefCell<std::collections::BTreeMap<TaskId, Waker>>,
    shares: std::cell::RefCell<Shares>,
}

impl Executor {
    /// An executor for the calling thread. `notify` is called, on whatever thread, after a task
    /// was made ready by a thread other than this one.
    #[must_use]
    pub fn new(notify: impl Fn() + Send + Sync + 'static) -> Self {
        let queue = Arc::new(ReadyQueue {
            owner: this_thread(),
            local: UnsafeCell::default(),
            remote: SegQueue::new(),
            remote_waiting: AtomicBool::new(false),
            notify: Box::new(notify),
        });
        Self {
            inner: Rc::new(Inner {
                queue,
                next_task: Cell::new(0),
                erased: Cell::new(false),
                unfinished: std::cell::RefCell::default(),
                shares: std::cell::RefCell::default(),
            }),
        }
    }

    /// Spawns a task of the foreground; it is ready at once.
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        self.spawn_in(Group::Foreground, future)
    }

    /// Spawns a task of `group`; it is ready at once.
    pub fn spawn_in<F>(&self, group: Group, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let id = TaskId(self.inner.next_task.get());
        self.inner.next_task.set(id.0 + 1);
        let registration = Registration { id, inner: Rc::downgrade(&self.inner) };
        let queue = Arc::clone(&self.inner.queue);
        let (runnable, task) = async_task::Builder::new().metadata(Tag { id, group }).spawn_local(
            move |_| async move {
                let _registration = registration;
                future.await
            },
            move |runnable| queue.push(runnable),
        );
        if self.inner.erased.get() {
            drop(runnable);
        } else {
            self.inner.unfinished.borrow_mut().insert(id, runnable.waker());
            runnable.schedule();
        }
        Task(task)
    }

    /// How many tasks are ready.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.inner.queue.collect_remote();
        self.inner.queue.with_local(|local| local.len())
    }

    /// Which task is at `index` in the ready queue: group after group, and the longest waiting
    /// first in each.
    #[must_use]
    pub fn ready_task(&self, index: usize) -> Option<TaskId> {
        self.inner.queue.with_local(|local| local.get(index).map(|runnable| runnable.metadata().id))
    }

    /// Polls the task at `index` in the ready queue. Returns false if there is none.
    pub fn run(&self, index: usize) -> bool {
        let runnable = self.inner.queue.with_local(|local| local.remove(index));
        runnable.is_some_and(|runnable| {
            runnable.run();
            true
        })
    }

    /// Polls the tasks that are ready now, once each, first in, first out, but at most `budget`.
    /// Returns how many it polled. Tasks that become ready meanwhile wait for the next call, so
    /// that the caller gets to look at its completions.
    ///
    /// If tasks of groups other than the foreground are among them, the next one is of the group
    /// that has had the least time for its share, by `clock`, which is asked then only. The call
    /// ends when that group's tasks have all been polled once, or after [`SHARED_TURN_US`].
    pub fn run_ready(&self, budget: usize, clock: impl Fn() -> Duration) -> usize {
        let count = self.ready().min(budget);
        let left = self.inner.queue.with_local(|local| local.by_group());
        if left[Group::Foreground.index()] < left.iter().sum() {
            return self.run_shared(count, left, clock);
        }
        for polled in 0..count {
            if !self.run(0) {
                return polled;
            }
        }
        count
    }

    /// Polls up to `budget` tasks, up to `left` of each group, by the groups' shares.
    fn run_shared(
        &self,
        budget: usize,
        mut left: [usize; Group::ALL.len()],
        clock: impl Fn() -> Duration,
    ) -> usize {
        let ready = Group::ALL.into_iter().filter(|group| left[group.index()] > 0);
        let ready: Vec<Group> = ready.collect();
        let begun = clock();
        let mut now = begun;
        for polled in 0..budget {
            let next = self.inner.shares.borrow_mut().next(&ready);
            if left[next.index()] == 0 || now - begun > Duration::from_micros(SHARED_TURN_US) {
                return polled;
            }
            left[next.index()] -= 1;
            let runnable = self.inner.queue.with_local(|local| local.pop(next));
            // One that was ready may have been cancelled since.
            let Some(runnable) = runnable else { continue };
            runnable.run();
            let after = clock();
            self.inner.shares.borrow_mut().charge(next, after.saturating_sub(now));
            now = after.max(now);
        }
        budget
    }

    /// Tasks that have been spawned and have neither finished nor been cancelled.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.inner.unfinished.borrow().len()
    }

    /// Drops every task. Their destructors run; none of them is polled again, and neither is
    /// anything they spawn meanwhile. A destructor that panics aborts the process.
    ///
    /// A task that another thread is waking right now is out of reach: that thread has claimed it
    /// and has yet to put it on the queue. It stays among the [`unfinished`](Self::unfinished)
    /// ones, and a later call drops it.
    pub fn erase(&self) {
        self.inner.erased.set(true);
        loop {
            // Waking a waiting task puts it on the ready queue, where it can be dropped.
            let wakers: Vec<Waker> = self.inner.unfinished.borrow().values().cloned().collect();
            for waker in wakers {
                waker.wake();
            }
            self.inner.queue.collect_remote();
            let runnables = self.inner.queue.with_local(std::mem::take);
            if runnables.is_empty() {
                return;
            }
            drop(runnables);
        }
    }
}

/// Takes a task off the list of unfinished ones when its future is dropped, for any reason.
struct Registration {
    id: TaskId,
    inner: std::rc::Weak<Inner>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let removed = self
            .inner
            .upgrade()
            .and_then(|inner| inner.unfinished.try_borrow_mut().ok()?.remove(&self.id));
        // The waker is dropped after the borrow ends: it may be the last hold on the task.
        drop(removed);
    }
}

/// The time that groups of tasks have had: fair queueing by virtual time, the time over the share.
#[derive(Default)]
struct Shares {
    /// By group, in nanoseconds.
    virtual_time: [u64; Group::ALL.len()],
    /// That of the group that was chosen last, which never falls.
    now: u64,
}

impl Shares {
    /// The group among `ready` whose turn it is.
    fn next(&mut self, ready: &[Group]) -> Group {
        // Who had nothing to do may not save up the time.
        let floor = self.now.saturating_sub(GROUP_CPU_LAG_US * 1000);
        for group in ready {
            let virtual_time = &mut self.virtual_time[group.index()];
            *virtual_time = floor.max(*virtual_time);
        }
        let time_of = |group: &Group| self.virtual_time[group.index()];
        let next = ready.iter().copied().min_by_key(time_of).unwrap_or_default();
        self.now = self.now.max(time_of(&next));
        next
    }

    fn charge(&mut self, group: Group, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let least = *GROUP_CPU_SHARES.iter().min().unwrap_or(&1);
        let scaled = nanoseconds.saturating_mul(least) / GROUP_CPU_SHARES[group.index()];
        let virtual_time = &mut self.virtual_time[group.index()];
        // A clock too coarse for a poll charges something all the same.
        *virtual_time = virtual_time.saturating_add(scaled.max(1));
    }
}

/// Ready tasks by group.
#[derive(Default)]
struct Ready {
    queues: [VecDeque<Runnable>; Group::ALL.len()],
}

impl Ready {
    fn push(&mut self, runnable: Runnable) {
        self.queues[runnable.metadata().group.index()].push_back(runnable);
    }

    fn pop(&mut self, group: Group) -> Option<Runnable> {
        self.queues[group.index()].pop_front()
    }

    fn len(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    fn is_empty(&self) -> bool {
        self.queues.iter().all(VecDeque::is_empty)
    }

    fn by_group(&self) -> [usize; Group::ALL.len()] {
        std::array::from_fn(|group| self.queues[group].len())
    }

    fn get(&self, mut index: usize) -> Option<&Runnable> {
        for queue in &self.queues {
            if index < queue.len() {
                return queue.get(index);
            }
            index -= queue.len();
        }
        None
    }

    fn remove(&mut self, mut index: usize) -> Option<Runnable> {
        for queue in &mut self.queues {
            if index < queue.len() {
                return queue.remove(index);
            }
            index -= queue.len();
        }
        None
    }
}

/// Where wakers put ready tasks.
struct ReadyQueue {
    /// The thread that may touch `local`.
    owner: u64,
    /// Tasks made ready on the owning thread, and those collected from `remote`.
    local: UnsafeCell<Ready>,
    /// Tasks made ready on other threads.
    remote: SegQueue<Runnable>,
    /// Whether `remote` may hold something, so that the usual empty case costs one load.
    remote_waiting: AtomicBool,
    notify: Box<dyn Fn() + Send + Sync>,
}

// SAFETY:
// 1. `local` is reached through `with_local` alone, which refuses every thread but the owner.
// 2. Thread numbers are never reused, so "the owner" means one thread for ever.
// 3. The other fields are `Send + Sync` by themselves.
unsafe impl Send for ReadyQueue {}
// SAFETY: as above.
unsafe impl Sync for ReadyQueue {}

impl ReadyQueue {
    fn push(&self, runnable: Runnable) {
        if this_thread() == self.owner {
            self.with_local(|local| local.push(runnable));
            return;
        }
        self.remote.push(runnable);
        self.remote_waiting.store(true, Ordering::Release);
        (self.notify)();
    }

    fn collect_remote(&self) {
        if !self.remote_waiting.load(Ordering::Relaxed) {
            return;
        }
        self.remote_waiting.swap(false, Ordering::Acquire);
        while let Some(runnable) = self.remote.pop() {
            self.with_local(|local| local.push(runnable));
        }
    }

    /// Runs `visit` on the local queue. `visit` must not run or drop a task: both may push.
    fn with_local<T>(&self, visit: impl FnOnce(&mut Ready) -> T) -> T {
        assert_eq!(this_thread(), self.owner, "a shard's tasks run on the shard's thread only");
        // SAFETY:
        // 1. Only the owning thread gets here (asserted above).
        // 2. The borrow ends before anything else can begin one: every `visit` in this module
        //    moves tasks in or out of the queue and neither polls, wakes nor drops any.
        visit(unsafe { &mut *self.local.get() })
    }
}

impl Drop for ReadyQueue {
    fn drop(&mut self) {
        // The queue may die on another thread, with the last waker. `Executor::drop` emptied it
        // on its own thread, and an erased executor takes no new tasks.
        debug_assert!(self.local.get_mut().is_empty() || this_thread() == self.owner);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let queue = Arc::clone(&self.queue);
        for waker in std::mem::take(self.unfinished.get_mut()).into_values() {
            waker.wake();
        }
        queue.collect_remote();
        drop(queue.with_local(std::mem::take));
    }
}

/// A number for the calling thread that no other thread ever gets.
fn this_thread() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static NUMBER: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

/// A future that is pending once: every other ready task runs before its task goes on.
#[derive(Debug, Default)]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::sync::atomic::AtomicUsize;

    fn executor() -> Executor {
        Executor::new(|| ())
    }

    /// Polls what is ready, in a world without time.
    fn run_all(executor: &Executor) -> usize {
        executor.run_ready(usize::MAX, || Duration::ZERO)
    }

    #[test]
    fn tasks_run_first_in_first_out_and_yield() {
        let executor = executor();
        let trace = Rc::new(RefCell::new(Vec::new()));
        for name in ["a", "b"] {
            let trace = Rc::clone(&trace);
            executor
                .spawn(async move {
                    for round in 0..2 {
                        trace.borrow_mut().push((name, round));
                        YieldNow::default().await;
                    }
                })
                .detach();
        }
        while run_all(&executor) > 0 {}
        assert_eq!(*trace.borrow(), [("a", 0), ("b", 0), ("a", 1), ("b", 1)]);
        assert_eq!(executor.unfinished(), 0);
    }

    /// A group's tasks take this much time each, in a world where nothing else takes any.
    fn spawn_busy(
        executor: &Executor,
        group: Group,
        (tasks, poll): (usize, Duration),
        (now, used): (&Rc<Cell<Duration>>, &Rc<RefCell<[Duration; 3]>>),
    ) {
        for _ in 0..tasks {
            let (now, used) = (Rc::clone(now), Rc::clone(used));
            executor
                .spawn_in(group, async move {
                    loop {
                        now.set(now.get() + poll);
                        used.borrow_mut()[group.index()] += poll;
                        YieldNow::default().await;
                    }
                })
                .detach();
        }
    }

    #[test]
    fn groups_share_the_time_whatever_their_tasks_are_like() {
        let microseconds = Duration::from_micros;
        let cases =
            [[(1, 1), (1, 1), (1, 1)], [(1, 2), (40, 30), (300, 7)], [(300, 1), (1, 90), (2, 90)]];
        for case in cases {
            let executor = executor();
            let (now, used) = (Rc::new(Cell::new(Duration::ZERO)), Rc::default());
            for (group, (tasks, poll)) in Group::ALL.into_iter().zip(case) {
                spawn_busy(&executor, group, (tasks, microseconds(poll)), (&now, &used));
            }
            while now.get() < Duration::from_secs(1) {
                executor.run_ready(256, || now.get());
            }
            let shares: u64 = GROUP_CPU_SHARES.iter().sum();
            for (used, share) in used.borrow().iter().zip(GROUP_CPU_SHARES) {
                let fair = 1_000_000 * u128::from(share) / u128::from(shares);
                let off = used.as_micros().abs_diff(fair);
                assert!(off < 5_000, "{case:?}: {used:?}, and its share is {fair} us");
            }
        }
    }

    #[test]
    fn a_group_saves_up_little_and_the_foreground_waits_for_a_turn_at_most() {
        let executor = executor();
        let (now, used) = (Rc::new(Cell::new(Duration::ZERO)), Rc::<RefCell<_>>::default());
        let poll = Duration::from_micros(10);
        spawn_busy(&executor, Group::Compaction, (1000, poll), (&now, &used));
        while now.get() < Duration::from_secs(1) {
            let begun = now.get();
            executor.run_ready(256, || now.get());
            let turn = Duration::from_micros(SHARED_TURN_US) + 2 * poll;
            assert!(now.get() - begun <= turn, "a turn took {:?}", now.get() - begun);
        }
        // The foreground comes back after a second: it goes first, for as long as its lag allows.
        used.borrow_mut().fill(Duration::ZERO);
        spawn_busy(&executor, Group::Foreground, (1, poll), (&now, &used));
        let before = now.get();
        while used.borrow()[Group::Compaction.index()].is_zero() {
            executor.run_ready(256, || now.get());
        }
        let share = GROUP_CPU_SHARES[Group::Foreground.index()];
        let most = Duration::from_micros(share * GROUP_CPU_LAG_US) + 2 * poll;
        assert!(used.borrow()[0] > poll && now.get() - before <= most + poll, "{used:?}");
    }

    #[test]
    fn the_caller_picks_which_task_runs() {
        let executor = executor();
        let trace = Rc::new(RefCell::new(Vec::new()));
        for name in 0..3 {
            let trace = Rc::clone(&trace);
            executor.spawn(async move { trace.borrow_mut().push(name) }).detach();
        }
        assert_eq!(executor.ready_task(2), Some(TaskId(2)));
        assert!(executor.run(2));
        assert!(executor.run(0));
        assert!(executor.run(0));
        assert!(!executor.run(0));
        assert_eq!(*trace.borrow(), [2, 0, 1]);
    }

    #[test]
    fn a_waker_on_another_thread_wakes_and_notifies() {
        let notified = Arc::new(AtomicUsize::new(0));
        let hook = Arc::clone(&notified);
        let executor = Executor::new(move || {
            hook.fetch_add(1, Ordering::SeqCst);
        });
        let (sender, receiver) = std::sync::mpsc::channel::<Waker>();
        let woken = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&woken);
        let task = executor.spawn(std::future::poll_fn(move |context| {
            if flag.load(Ordering::SeqCst) {
                return Poll::Ready(7);
            }
            sender.send(context.waker().clone()).expect("the receiver lives");
            Poll::Pending
        }));
        run_all(&executor);
        let waker = receiver.recv().expect("the task sent its waker");
        std::thread::spawn(move || {
            woken.store(true, Ordering::SeqCst);
            waker.wake();
        })
        .join()
        .expect("no panic");
        assert_eq!(notified.load(Ordering::SeqCst), 1);
        assert_eq!(run_all(&executor), 1);
        assert!(task.is_finished());
    }

    #[test]
    fn erasure_drops_waiting_ready_and_newly_spawned_tasks() {
        struct SpawnOnDrop(Executor, Rc<Cell<u32>>);
        impl Drop for SpawnOnDrop {
            fn drop(&mut self) {
                self.1.set(self.1.get() + 1);
                let count = Rc::clone(&self.1);
                self.0.spawn(async move { count.set(count.get() + 1000) }).detach();
            }
        }
        let executor = executor();
        let dropped = Rc::new(Cell::new(0));
        for _ in 0..3 {
            let guard = SpawnOnDrop(executor.clone(), Rc::clone(&dropped));
            executor
                .spawn(async move {
                    let _guard = guard;
                    std::future::pending::<()>().await;
                })
                .detach();
        }
        executor.run_ready(2, || Duration::ZERO);
        executor.erase();
        assert_eq!(dropped.get(), 3, "each guard was dropped, nothing spawned by them ran");
        assert_eq!((executor.ready(), executor.unfinished()), (0, 0));
    }

    /// Bug: a task whose waker was being used on another thread when its executor was erased was
    /// never dropped, and kept alive all that it held. Mechanism: that thread has marked the task
    /// as scheduled and has not queued it yet, so waking it again does nothing and the queue does
    /// not have it. Fix: it counts as unfinished until its future is gone.
    #[test]
    fn a_task_that_another_thread_is_waking_is_erased_once_it_arrives() {
        let executor = executor();
        let alive = Rc::new(());
        let held = Rc::clone(&alive);
        executor
            .spawn(async move {
                let _held = held;
                std::future::pending::<()>().await;
            })
            .detach();
        // What the other thread holds between the two.
        let claimed =
            executor.inner.queue.with_local(|local| local.remove(0)).expect("it is ready");
        executor.erase();
        assert_eq!((executor.unfinished(), Rc::strong_count(&alive)), (1, 2));
        executor.inner.queue.push(claimed);
        executor.erase();
        assert_eq!((executor.unfinished(), Rc::strong_count(&alive)), (0, 1));
    }

    #[test]
    fn a_dropped_task_is_cancelled() {
        let executor = executor();
        let alive = Rc::new(());
        let held = Rc::clone(&alive);
        let task = executor.spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        run_all(&executor);
        drop(task);
        run_all(&executor);
        assert_eq!(Rc::strong_count(&alive), 1);
    }
}
