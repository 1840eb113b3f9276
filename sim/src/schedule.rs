//! Which task runs next.
//!
//! A shard is one core: its polls follow each other in time, each with a cost, while those of other
//! shards go on beside it. When a shard has several ready tasks, the world's policy picks. The
//! policy is drawn from the seed, unless a test fixes it.
//!
//! | policy | which ready task runs | what it finds |
//! |---|---|---|
//! | `fifo` | the longest waiting, as in production | |
//! | `lifo` | the latest | who relies on being woken first running first |
//! | `uniform` | any | bugs that need little |
//! | `pct-1` … `pct-4` | the one with the highest priority | bugs that need one task to be slow at the wrong time |
//! | `starve-core` | the longest waiting, but one core of a process gets turns only when the others are idle | who relies on the shards going at one pace |
//!
//! **What never fails.** No policy passes over the longest waiting task for ever
//! ([`PASSED_OVER`](crate::limits::PASSED_OVER)), nor a core
//! ([`DEFERRED_TURNS`](crate::limits::DEFERRED_TURNS)): real executors are fair in the end, and code
//! may rely on it. A task that yielded runs only once it is first in line: all that were ready
//! before it have run by then.
//!
//! Everything drawn here is a choice with 0 for first in, first out.
//!
//! # Priorities
//!
//! After Burckhardt, Kothari, Musuvathi and Nagarakatte, *A Randomized Scheduler with Probabilistic
//! Guarantees of Finding Bugs* (2010). Each task gets a random priority, and of the ready tasks the
//! one with the highest runs. At *d − 1* steps, drawn beforehand, the task about to run falls below
//! all others. A bug that takes *d* ordered steps of *n* tasks in a run of *k* steps is then found
//! with a probability of at least 1 in *n·k^(d−1)*.
//!
//! Three things differ from the paper. Nobody knows *k* here, and worlds may run for ever: so a run
//! is cut into stretches, each a run of its own with new priorities and new change points. The
//! first is short, each is twice as long as the one before, up to a bound: a short run gets its
//! change points, and a bug deep in a long run meets priorities that fit the time it takes.
//! Priorities order the tasks of one shard only, because the cores of different shards do not take
//! turns; steps are counted over all shards. And the longest waiting task runs in the end.

use std::collections::BTreeMap;

use crate::kernel::Kernel;
use crate::limits::{DEFERRED_TURNS, PASSED_OVER};
use crate::run::ShardSlot;
use crate::site::Site;

/// How ready tasks are picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The longest waiting first, as production does.
    Fifo,
    /// The latest first.
    Lifo,
    /// Any, evenly.
    Uniform,
    /// By random priorities, with `depth - 1` changes of priority in each stretch of a run
    /// (Burckhardt and others, 2010).
    Pct {
        /// How many ordered steps the bugs take that it is made to find: 1 to 4.
        depth: u8,
    },
    /// First in, first out, but one core of a process gets its turns only when the other cores of
    /// the world are idle, or after a bound.
    StarveCore,
}

impl Policy {
    /// All policies, in the order of the numbers by which [`Site::Policy`] draws them.
    pub const ALL: [Self; 8] = [
        Self::Fifo,
        Self::Lifo,
        Self::Uniform,
        Self::Pct { depth: 1 },
        Self::Pct { depth: 2 },
        Self::Pct { depth: 3 },
        Self::Pct { depth: 4 },
        Self::StarveCore,
    ];

    /// The policy with this number.
    pub(crate) fn numbered(number: u64) -> Self {
        Self::ALL[(number as usize).min(Self::ALL.len() - 1)]
    }

    /// How many there are.
    pub(crate) const COUNT: u64 = Self::ALL.len() as u64;

    /// A name for people and for reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fifo => "fifo",
            Self::Lifo => "lifo",
            Self::Uniform => "uniform",
            Self::Pct { depth: 0 | 1 } => "pct-1",
            Self::Pct { depth: 2 } => "pct-2",
            Self::Pct { depth: 3 } => "pct-3",
            Self::Pct { .. } => "pct-4",
            Self::StarveCore => "starve-core",
        }
    }

    /// The policy with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }
}

/// Steps of the first and of the longest stretch.
const STRETCH_STEPS: (u64, u64) = (256, 65_536);

/// Priorities are drawn below this. Two tasks seldom draw the same one, and if they do, the longer
/// waiting one runs.
const PRIORITIES: u64 = 1 << 20;

/// Change points in one stretch, at most.
const CHANGES: usize = 3;

/// How long a core that is starved waits before it asks for a turn again, in nanoseconds: about one
/// poll of another core.
pub(crate) const DEFERRAL_NANOS: u64 = 2_000;

/// Picks tasks by the world's policy.
pub(crate) struct Scheduler {
    pub(crate) policy: Policy,
    /// Where the current stretch ends, in steps.
    stretch_end: u64,
    /// How long the current stretch is, in steps.
    stretch_steps: u64,
    /// Which stretch this is.
    stretch: u32,
    /// Steps so far. Counted only if the policy goes by them.
    steps: u64,
    /// The steps at which a priority changes; 0 for none.
    changes: [u64; CHANGES],
    /// The lowest priority given so far. Those that are drawn lie above 0.
    lowest: i64,
}

/// The priorities of a shard's tasks in one stretch.
#[derive(Default)]
pub(crate) struct Priorities {
    stretch: u32,
    tasks: BTreeMap<u64, i64>,
}

impl Scheduler {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            policy,
            stretch_end: 0,
            stretch_steps: 0,
            stretch: 0,
            steps: 0,
            changes: [0; CHANGES],
            lowest: 0,
        }
    }

    /// The index in the ready queue of the task to run, if any is ready.
    pub(crate) fn pick(&mut self, shard: &mut ShardSlot, kernel: &mut Kernel) -> Option<usize> {
        let ready = shard.local.executor.ready();
        if ready == 0 {
            return None;
        }
        let mut index = match self.policy {
            Policy::Pct { depth } => self.highest(depth, shard, ready, kernel),
            _ if ready == 1 => 0,
            Policy::Fifo | Policy::StarveCore => 0,
            Policy::Lifo => ready - 1,
            Policy::Uniform if shard.passed_over >= PASSED_OVER => 0,
            Policy::Uniform => kernel.choose(Site::Task, shard.node, ready as u64) as usize,
        };
        if shard.passed_over >= PASSED_OVER {
            index = 0;
        }
        if index > 0 {
            let yielded = shard.local.yielded.borrow();
            while index > 0 && !yielded.is_empty() {
                if !yielded.contains(&task_at(shard, index)) {
                    break;
                }
                index -= 1;
            }
        }
        shard.passed_over = if index == 0 { 0 } else { shard.passed_over + 1 };
        Some(index)
    }

    /// The ready task with the highest priority, after a change of priorities that is due.
    fn highest(
        &mut self,
        depth: u8,
        shard: &mut ShardSlot,
        ready: usize,
        kernel: &mut Kernel,
    ) -> usize {
        if self.steps == self.stretch_end {
            self.begin_stretch(depth, kernel);
        }
        self.steps += 1;
        let change = self.changes.contains(&self.steps);
        if ready == 1 && !change {
            return 0;
        }
        if shard.priorities.stretch != self.stretch {
            shard.priorities.stretch = self.stretch;
            shard.priorities.tasks.clear();
        }
        let mut best = first_of_highest(shard, ready, kernel);
        if change {
            self.lowest -= 1;
            let task = task_at(shard, best);
            shard.priorities.tasks.insert(task, self.lowest);
            best = first_of_highest(shard, ready, kernel);
        }
        best
    }

    /// Draws the change points of the next stretch.
    fn begin_stretch(&mut self, depth: u8, kernel: &mut Kernel) {
        let (first, longest) = STRETCH_STEPS;
        self.stretch += 1;
        self.stretch_steps = (self.stretch_steps * 2).clamp(first, longest);
        self.stretch_end = self.steps + self.stretch_steps;
        let changes = usize::from(depth.saturating_sub(1)).min(CHANGES);
        for change in &mut self.changes[..changes] {
            let drawn = kernel.choose(Site::ChangePoint, 0, self.stretch_steps + 1);
            *change = if drawn == 0 { 0 } else { self.steps + drawn };
        }
    }
}

/// The number of the task at a place in the ready queue.
fn task_at(shard: &ShardSlot, index: usize) -> u64 {
    shard.local.executor.ready_task(index).map_or(u64::MAX, |task| task.0)
}

/// Of the ready tasks with the highest priority the longest waiting one. A task that has no
/// priority yet draws one.
fn first_of_highest(shard: &mut ShardSlot, ready: usize, kernel: &mut Kernel) -> usize {
    let mut best = (i64::MIN, 0);
    for index in 0..ready {
        let (task, node) = (task_at(shard, index), shard.node);
        let priority = *shard
            .priorities
            .tasks
            .entry(task)
            .or_insert_with(|| 1 + kernel.choose(Site::TaskPriority, node, PRIORITIES) as i64);
        if priority > best.0 {
            best = (priority, index);
        }
    }
    best.1
}

/// Whether a core that is starved lets this turn pass, because another has something to do.
pub(crate) fn defers(shard: &mut ShardSlot, others_busy: bool) -> bool {
    let defers = others_busy && shard.deferred < DEFERRED_TURNS;
    shard.deferred = if defers { shard.deferred + 1 } else { 0 };
    defers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_have_names_of_their_own_and_the_first_is_the_harmless_one() {
        for (number, policy) in Policy::ALL.into_iter().enumerate() {
            assert_eq!(Policy::numbered(number as u64), policy);
            assert_eq!(Policy::named(policy.name()), Some(policy));
        }
        assert_eq!((Policy::numbered(0), Policy::named("none")), (Policy::Fifo, None));
    }
}
