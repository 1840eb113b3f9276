//! Waking the tasks of this shard that wait for something of the log's.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::task::{Poll, Waker};

/// Those that wait for one kind of event, the longest waiting first.
///
/// A waiter looks at the state, registers, and looks again when woken; a waiter that went away
/// costs one waking for nothing. Wakers are called with no borrow held: waking may drop a task,
/// and a task may hold a log.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    waiting: RefCell<VecDeque<Waker>>,
}

impl Signal {
    /// Wakes the one that waits longest.
    pub(crate) fn one(&self) {
        let waker = self.waiting.borrow_mut().pop_front();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes all that wait.
    pub(crate) fn all(&self) {
        let wakers = std::mem::take(&mut *self.waiting.borrow_mut());
        for waker in wakers {
            waker.wake();
        }
    }

    /// Completes with what `look` finds, which is asked now and whenever this signal is given.
    pub(crate) fn wait<T>(&self, mut look: impl FnMut() -> Option<T>) -> impl Future<Output = T> {
        poll_fn(move |context| {
            if let Some(found) = look() {
                return Poll::Ready(found);
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push_back(context.waker().clone());
            }
            Poll::Pending
        })
    }
}
