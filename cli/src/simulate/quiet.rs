//! Keeps panics in simulated worlds off stderr.
//!
//! A panic in a world is what was looked for: it is caught, and told with its world as a violation.
//! Thousands of them, as while a failure is shrunk, would bury everything else.

use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many want quiet. A count for the whole process, because worlds run on several threads.
static WANTED: AtomicUsize = AtomicUsize::new(0);

/// Panics say nothing until it is dropped.
pub(super) struct Quiet(());

impl Quiet {
    pub(super) fn new() -> Self {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let usual = panic::take_hook();
            panic::set_hook(Box::new(move |panic| {
                if WANTED.load(Ordering::Relaxed) == 0 {
                    usual(panic);
                }
            }));
        });
        WANTED.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        WANTED.fetch_sub(1, Ordering::Relaxed);
    }
}
