//! One shard of one process, and the handle through which its tasks reach the world.
//!
//! **Erasure.** When a process dies its shards are marked dead first and their tasks dropped
//! afterwards. Destructors run, as Rust has it, but whatever they ask of the world does nothing:
//! the world has already decided what the process left behind. The same holds for whoever kept an
//! environment of a dead process: what it starts there never completes.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use event_listener::Event as Signal;
use futures_util::FutureExt as _;
use woodchuck_io::Task;
use woodchuck_io::executor::Executor;

use crate::machine::Process;
use crate::run::{Core, Shared};
use crate::wait::TaskState;

/// What belongs to one shard of one process and needs no other part of the world.
pub(crate) struct ShardLocal {
    pub(crate) executor: Executor,
    /// False once the process died. Nothing it asks for then has any effect.
    pub(crate) alive: Cell<bool>,
    /// The tasks that have not finished, by their number.
    pub(crate) tasks: RefCell<BTreeMap<u64, Rc<TaskState>>>,
    /// The number the executor gives to the next task: it counts as this does.
    next_task: Cell<u64>,
    /// The task that is being polled, or was last.
    pub(crate) current: Cell<u64>,
    /// What is known of that task.
    pub(crate) polled: RefCell<Option<Rc<TaskState>>>,
    /// Tasks that yielded. The scheduler runs them only once they are first in line, so that all
    /// that were ready before ran before, whatever the policy.
    pub(crate) yielded: RefCell<BTreeSet<u64>>,
    /// How many random streams of each name were handed out.
    pub(crate) streams: RefCell<BTreeMap<&'static str, u64>>,
}

impl ShardLocal {
    pub(crate) fn new() -> Self {
        Self {
            // Only other threads notify, and a world has one.
            executor: Executor::new(|| ()),
            alive: Cell::new(true),
            tasks: RefCell::default(),
            next_task: Cell::new(0),
            current: Cell::new(0),
            polled: RefCell::default(),
            yielded: RefCell::default(),
            streams: RefCell::default(),
        }
    }

    /// Spawns a task and keeps its name for as long as it has not finished.
    pub(crate) fn spawn<F>(self: &Rc<Self>, name: &'static str, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let number = self.next_task.get();
        self.next_task.set(number + 1);
        self.tasks.borrow_mut().insert(number, Rc::new(TaskState::new(name)));
        let named = Named { local: Rc::clone(self), number };
        // `map` keeps the name exactly as long as the future, without moving the future twice.
        self.executor.spawn(future.map(move |output| {
            drop(named);
            output
        }))
    }

    /// A task is about to be polled, at world time `now`. Returns its name.
    pub(crate) fn about_to_run(&self, task: u64, now: u64) -> &'static str {
        self.current.set(task);
        let mut yielded = self.yielded.borrow_mut();
        if !yielded.is_empty() {
            yielded.remove(&task);
        }
        drop(yielded);
        let state = self.tasks.borrow().get(&task).cloned();
        let name = state.as_ref().map_or("(cancelled)", |state| {
            state.begin_poll(now);
            state.name
        });
        *self.polled.borrow_mut() = state;
        name
    }

    /// Drops all tasks.
    pub(crate) fn erase(&self) {
        self.executor.erase();
        self.yielded.borrow_mut().clear();
    }
}

/// Takes the name of a task off the list when the task's future goes.
struct Named {
    local: Rc<ShardLocal>,
    number: u64,
}

impl Drop for Named {
    fn drop(&mut self) {
        self.local.tasks.borrow_mut().remove(&self.number);
    }
}

/// Lets every other ready task of the shard run once, whatever the policy.
pub(crate) struct Yield {
    local: Rc<ShardLocal>,
    yielded: bool,
}

impl Yield {
    pub(crate) fn new(local: Rc<ShardLocal>) -> Self {
        Self { local, yielded: false }
    }
}

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        self.local.yielded.borrow_mut().insert(self.local.current.get());
        self.local.note_wait("its next turn", None);
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Whether a process was asked to stop.
#[derive(Default)]
pub(crate) struct StopSignal {
    pub(crate) asked: Cell<bool>,
    pub(crate) signal: Signal,
}

/// How the tasks of one shard reach the world.
pub(crate) struct Handle {
    pub(crate) shared: Rc<Shared>,
    pub(crate) local: Rc<ShardLocal>,
    pub(crate) stop: Rc<StopSignal>,
    pub(crate) machine: u32,
    /// Which process of the world; never used twice.
    pub(crate) process: u32,
    pub(crate) shard: usize,
    pub(crate) shards: usize,
    /// Under which this shard makes its choices.
    pub(crate) node: u32,
}

impl Handle {
    /// Whether the process lives.
    pub(crate) fn alive(&self) -> bool {
        self.local.alive.get()
    }

    /// Visits the world, then wakes and drops what the visit left to be woken and dropped.
    pub(crate) fn with<T>(&self, visit: impl FnOnce(&mut Core) -> T) -> T {
        self.shared.with(visit)
    }

    /// Visits the world if the process lives.
    pub(crate) fn if_alive<T>(&self, visit: impl FnOnce(&mut Core) -> T) -> Option<T> {
        self.alive().then(|| self.with(visit))
    }

    /// Visits the process with the rest of the world, if it lives.
    pub(crate) fn process<T>(
        &self,
        visit: impl FnOnce(&mut Process, &mut crate::kernel::Kernel) -> T,
    ) -> Option<T> {
        let machine = self.machine as usize;
        self.if_alive(|core| {
            let process = core.machines[machine].process.as_mut()?;
            (process.id == self.process).then(|| visit(process, &mut core.kernel))
        })
        .flatten()
    }
}

impl Shared {
    /// Visits the world, then wakes and drops what the visit left to be woken and dropped: both
    /// may run foreign code, which may visit the world again.
    pub(crate) fn with<T>(&self, visit: impl FnOnce(&mut Core) -> T) -> T {
        let mut core = self.core.borrow_mut();
        let result = visit(&mut core);
        if core.kernel.wakes.is_empty() && core.kernel.dropped.is_empty() {
            return result;
        }
        let wakes: Vec<Waker> = std::mem::take(&mut core.kernel.wakes);
        let dropped: Vec<Box<dyn Any>> = std::mem::take(&mut core.kernel.dropped);
        drop(core);
        wakes.into_iter().for_each(Waker::wake);
        drop(dropped);
        result
    }
}
