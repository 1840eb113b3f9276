//! Which task runs next.
//!
//! A shard is one core: its polls follow each other in time, each with a cost, while those of other
//! shards go on beside it. When a shard has several ready tasks, the world's policy picks. No
//! policy passes over the longest waiting task for ever
//! ([`PASSED_OVER`](crate::limits::PASSED_OVER)): real executors are fair in the end, and code may
//! rely on it. A task that yielded runs only once it is first in line: all that were ready before it
//! have run by then.

use crate::choice::scramble;
use crate::kernel::Kernel;
use crate::limits::PASSED_OVER;
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
    /// By priorities that tasks are given at random and that change now and then: finds bugs that
    /// need one task to be slow at the wrong time (Burckhardt and others, 2010).
    Priority,
}

impl Policy {
    /// The policy with this number, as [`Site::Policy`] draws it.
    pub(crate) const fn numbered(number: u64) -> Self {
        match number {
            0 => Self::Fifo,
            1 => Self::Lifo,
            2 => Self::Uniform,
            _ => Self::Priority,
        }
    }

    /// How many there are.
    pub(crate) const COUNT: u64 = 4;
}

/// Polls of a shard between changes of priorities.
const PRIORITY_EPOCH: u64 = 200;

/// The index in the ready queue of the task to run, if any is ready.
pub(crate) fn pick(policy: Policy, shard: &mut ShardSlot, kernel: &mut Kernel) -> Option<usize> {
    let ready = shard.local.executor.ready();
    if ready == 0 {
        return None;
    }
    let mut index = if ready == 1 || shard.passed_over >= PASSED_OVER {
        0
    } else {
        match policy {
            Policy::Fifo => 0,
            Policy::Lifo => ready - 1,
            Policy::Uniform => kernel.choose(Site::Task, shard.node, ready as u64) as usize,
            Policy::Priority => highest(shard, ready),
        }
    };
    let yielded = shard.local.yielded.borrow();
    while index > 0 && !yielded.is_empty() {
        let task = shard.local.executor.ready_task(index).map_or(u64::MAX, |task| task.0);
        if !yielded.contains(&task) {
            break;
        }
        index -= 1;
    }
    drop(yielded);
    shard.passed_over = if index == 0 { 0 } else { shard.passed_over + 1 };
    shard.polls += 1;
    Some(index)
}

/// The ready task with the highest priority.
fn highest(shard: &ShardSlot, ready: usize) -> usize {
    let epoch = shard.priorities.wrapping_add(shard.polls / PRIORITY_EPOCH);
    let priority = |index: &usize| {
        let task = shard.local.executor.ready_task(*index).map_or(0, |task| task.0);
        scramble(scramble(epoch) ^ task)
    };
    (0..ready).max_by_key(priority).unwrap_or(0)
}
