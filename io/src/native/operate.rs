//! The futures of operations.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::core::Core;
use super::driver::{Driver, Key};
use super::work::Work;

/// An operation from its start to its end; gives its result and what it owned.
pub(crate) struct Operate<D: Driver> {
    core: Rc<Core<D>>,
    stage: Stage,
}

enum Stage {
    New(Work),
    InFlight(Key),
    Over,
}

impl<D: Driver> Operate<D> {
    /// Nothing happens before the first poll.
    pub(crate) fn new(core: &Rc<Core<D>>, work: Work) -> Self {
        Self { core: Rc::clone(core), stage: Stage::New(work) }
    }
}

// Nothing in it is pinned: what the kernel sees is on the heap.
impl<D: Driver> Unpin for Operate<D> {}

impl<D: Driver> Future for Operate<D> {
    type Output = (i32, Work);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::New(work) if self.core.is_over() => Poll::Ready((-libc::ECANCELED, work)),
            Stage::New(work) => {
                let key = self.core.start(work, context.waker().clone());
                self.stage = Stage::InFlight(key);
                Poll::Pending
            }
            Stage::InFlight(key) if self.core.is_over() => {
                // What it owned went with the shard, and with it the answer.
                self.stage = Stage::InFlight(key);
                Poll::Pending
            }
            Stage::InFlight(key) => match self.core.take(key, context.waker()) {
                Some(ended) => Poll::Ready(ended),
                None => {
                    self.stage = Stage::InFlight(key);
                    Poll::Pending
                }
            },
            Stage::Over => panic!("an operation was polled after its end"),
        }
    }
}

impl<D: Driver> Drop for Operate<D> {
    fn drop(&mut self) {
        if let Stage::InFlight(key) = self.stage
            && !self.core.is_over()
        {
            self.core.orphan(key);
        }
    }
}
