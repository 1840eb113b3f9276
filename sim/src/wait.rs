//! What tasks wait for, for whoever must be told why nothing happens.
//!
//! A task notes what it waits for as it begins to: a text that costs nothing to keep. A poll that
//! ends with nothing noted waits for something that the world knows nothing of: an event of the
//! program's own, another task.

use std::cell::Cell;
use std::fmt;
use std::task::Poll;
use std::time::Duration;

use crate::disk::DiskOperation;
use crate::shard::ShardLocal;

/// What a task waits for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wait {
    /// The first thing noted; empty if it is nothing of the world's.
    what: &'static str,
    /// For timers: the monotonic time they are set to.
    until: Option<u64>,
    /// How many others were noted in the same poll.
    others: u32,
}

/// A task that has not finished.
pub(crate) struct TaskState {
    pub(crate) name: &'static str,
    wait: Cell<Wait>,
    /// World time at which it began to wait, in nanoseconds. None before its first poll.
    since: Cell<Option<u64>>,
}

impl TaskState {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, wait: Cell::default(), since: Cell::new(None) }
    }

    /// It is about to be polled.
    pub(crate) fn begin_poll(&self, now: u64) {
        self.wait.set(Wait::default());
        self.since.set(Some(now));
    }

    /// What it waits for, and since when.
    pub(crate) fn describe(&self) -> String {
        let Some(since) = self.since.get() else { return "has not begun".to_owned() };
        format!("waits for {} since {:?}", self.wait.get(), Duration::from_nanos(since))
    }

    /// What it last waited for.
    pub(crate) fn last_wait(&self) -> String {
        self.wait.get().to_string()
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.what.is_empty() { "an event of its own" } else { self.what };
        formatter.write_str(what)?;
        match self.until {
            Some(u64::MAX) => formatter.write_str(" that never fires")?,
            Some(until) => write!(formatter, " until {:?}", Duration::from_nanos(until))?,
            None => {}
        }
        match self.others {
            0 => Ok(()),
            others => write!(formatter, " and {others} more"),
        }
    }
}

impl ShardLocal {
    /// Notes what the task that is being polled waits for, if `poll` is pending.
    pub(crate) fn waits<T>(&self, what: &'static str, poll: Poll<T>) -> Poll<T> {
        if poll.is_pending() {
            self.note_wait(what, None);
        }
        poll
    }

    /// Notes that the task that is being polled waits.
    pub(crate) fn note_wait(&self, what: &'static str, until: Option<u64>) {
        let Some(task) = &*self.polled.borrow() else { return };
        let noted = task.wait.get();
        task.wait.set(if noted.what.is_empty() {
            Wait { what, until, others: 0 }
        } else {
            Wait { others: noted.others + 1, ..noted }
        });
    }
}

impl DiskOperation {
    /// How a wait for it is called.
    pub(crate) const fn waited_for(self) -> &'static str {
        match self {
            Self::Open => "a disk open",
            Self::CreateDirectory => "a disk create directory",
            Self::Rename => "a disk rename",
            Self::Remove => "a disk remove",
            Self::List => "a disk list",
            Self::SyncDirectory => "a disk sync directory",
            Self::Lock => "a disk lock",
            Self::Read => "a disk read",
            Self::Write => "a disk write",
            Self::Sync => "a disk sync",
            Self::Allocate => "a disk allocate",
            Self::Truncate => "a disk truncate",
            Self::Length => "a disk length",
            Self::Link => "a disk link",
            Self::RemoveDirectory => "a disk remove directory",
        }
    }
}
