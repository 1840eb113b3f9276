//! The timers of one shard: a map ordered by deadline, looked at once a turn.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::Monotonic;

/// The sleeping tasks of a shard.
#[derive(Debug)]
pub(crate) struct Timers {
    /// Zero of the process's monotonic time.
    start: Instant,
    /// By deadline, and first come first served among equals.
    sleepers: RefCell<BTreeMap<(Monotonic, u64), Waker>>,
    next: Cell<u64>,
}

impl Timers {
    pub(crate) fn new(start: Instant) -> Self {
        Self { start, sleepers: RefCell::default(), next: Cell::new(0) }
    }

    pub(crate) fn now(&self) -> Monotonic {
        Monotonic::default() + self.start.elapsed()
    }

    /// The earliest deadline.
    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        self.sleepers.borrow().first_key_value().map(|(&(deadline, _), _)| deadline)
    }

    /// Forgets everybody who sleeps.
    pub(crate) fn clear(&self) {
        let sleepers = std::mem::take(&mut *self.sleepers.borrow_mut());
        drop(sleepers);
    }

    /// Wakes the tasks whose time has come, earliest first.
    pub(crate) fn fire(&self) {
        if self.sleepers.borrow().is_empty() {
            return;
        }
        let now = self.now();
        loop {
            let mut sleepers = self.sleepers.borrow_mut();
            match sleepers.first_entry() {
                Some(entry) if entry.key().0 <= now => {
                    let waker = entry.remove();
                    // The borrow ends first: a waker may drop a task, and with it a timer.
                    drop(sleepers);
                    waker.wake();
                }
                _ => return,
            }
        }
    }
}

/// Completes at or after its deadline.
#[derive(Debug)]
pub(crate) struct Sleep {
    timers: Rc<Timers>,
    deadline: Monotonic,
    /// Under which number it waits, once it does.
    number: Option<u64>,
}

impl Sleep {
    pub(crate) fn new(timers: Rc<Timers>, deadline: Monotonic) -> Self {
        Self { timers, deadline, number: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.timers.now() >= self.deadline {
            return Poll::Ready(());
        }
        let number = self.number.unwrap_or_else(|| {
            let number = self.timers.next.get();
            self.timers.next.set(number + 1);
            number
        });
        self.number = Some(number);
        let key = (self.deadline, number);
        let replaced = self.timers.sleepers.borrow_mut().insert(key, context.waker().clone());
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let removed = self.timers.sleepers.borrow_mut().remove(&(self.deadline, number));
            drop(removed);
        }
    }
}
