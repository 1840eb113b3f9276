//! Who waits for commits is woken, whatever became of those that waited before.
//!
//! A call of `committed` that is dropped leaves its waker behind. When a frame was durable, only
//! the one that had waited longest was woken: that was this waker, and whoever had called since
//! waited for ever, with commits ready. All are woken now.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use woodchuck_sim::{Faults, World, WorldOptions};

use super::image::path;
use crate::{Log, LogOptions};

#[test]
fn a_call_that_was_dropped_takes_nobodys_waking() {
    let world =
        World::with_options(WorldOptions { faults: Faults::none(), ..WorldOptions::new(1) });
    let machine = world.machine("one");
    let done = Rc::new(Cell::new(false));
    let ends = Rc::clone(&done);
    world.start(machine, 1, move |env| {
        let done = Rc::clone(&done);
        async move {
            let opened = Log::open(env, path(), LogOptions::small(), |_| Ok(())).await;
            let (log, _) = opened.expect("there is nothing");
            log.submit(&[b"commit"], 7).expect("there is room");
            // Waits in no task, as a call in a task that ended.
            assert!(log.committed().now_or_never().is_none(), "nothing is durable yet");
            let committed = log.committed().await.expect("the disk is healthy");
            assert_eq!(committed.iter().map(|one| one.context).collect::<Vec<_>>(), [7]);
            log.close().await.expect("the disk is healthy");
            done.set(true);
        }
    });
    assert!(world.run_until(move || ends.get(), Duration::from_secs(1)), "it is handed out");
}
