//! How much memory the connections of one shard may hold for requests, and for answers.
//!
//! For requests, memory is taken as bytes arrive, not when they are announced, so a client that
//! announces much and sends little holds little; what a request took is given back when it has been
//! answered. For answers, a fetch that finds the budget used up reads little instead of waiting, so
//! that clients that do not read their answers hold nobody up.

use std::cell::Cell;
use std::rc::Rc;

use event_listener::Event;

/// The shared budget of one shard. Cheap to clone.
#[derive(Clone)]
pub(super) struct Budget {
    inner: Rc<Inner>,
}

struct Inner {
    free: Cell<usize>,
    given_back: Event,
}

/// A part of the budget, given back when dropped.
pub(super) struct Share {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        let inner = Inner { free: Cell::new(bytes), given_back: Event::new() };
        Self { inner: Rc::new(inner) }
    }

    /// A share of nothing, to be grown.
    pub(super) fn share(&self) -> Share {
        Share { budget: self.clone(), bytes: 0 }
    }
}

impl Share {
    /// Grows the share to `bytes`, if so much is free.
    pub(super) fn try_grow(&mut self, bytes: usize) -> bool {
        let free = &self.budget.inner.free;
        let more = bytes.saturating_sub(self.bytes);
        let fits = more <= free.get();
        if fits {
            free.set(free.get() - more);
            self.bytes += more;
        }
        fits
    }

    /// Grows the share to `bytes`, waiting until so much is free.
    pub(super) async fn grow(&mut self, bytes: usize) {
        let inner = Rc::clone(&self.budget.inner);
        while !self.try_grow(bytes) {
            let given_back = inner.given_back.listen();
            if self.try_grow(bytes) {
                return;
            }
            given_back.await;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let inner = &self.budget.inner;
        inner.free.set(inner.free.get() + self.bytes);
        inner.given_back.notify(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn shares_are_bounded_and_come_back() {
        let budget = Budget::new(100);
        let (mut first, mut second) = (budget.share(), budget.share());
        assert!(first.grow(90).now_or_never().is_some());
        assert!(second.grow(11).now_or_never().is_none());
        assert!(!second.try_grow(11));
        assert!(second.grow(10).now_or_never().is_some());
        drop(first);
        assert!(second.grow(100).now_or_never().is_some());
        drop(second);
        assert_eq!(budget.inner.free.get(), 100);
    }
}
