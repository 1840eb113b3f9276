//! Scenarios: what runs in a world, what strikes it, and what must be true of it.
//!
//! A [`Scenario`] is a function that sets a [`Stage`] for one seed: machines, the services that are
//! tested, bots that work with them, plans that strike, and properties. [`Scenario::run`] plays it
//! and gives a [`Run`]; a [`Campaign`] plays a range of seeds.
//!
//! # What happens in a run
//!
//! 1. The stage is set. All it draws comes from the seed.
//! 2. Services start, then bots.
//! 3. Plans act, while time passes. They end when they are done with striking.
//! 4. Bots have [`Limits::recovery`] to come to their ends, since nothing strikes any more; without
//!    plans they have all of [`Limits::time`].
//! 5. What is to hold *eventually* has its own time to become true.
//! 6. What holds *always* is looked at a last time, and the verifications are made.
//!
//! The first property that does not hold ends the run, and so does whatever fails the world: a
//! panic, a deadlock, a livelock.
//!
//! # Properties
//!
//! *Always*: looked at every [`ALWAYS_EVENTS`](crate::limits::ALWAYS_EVENTS) events and in the end.
//! *Eventually*: must become true within a time after the last plan has ended. *Sometimes*: a mark
//! that must be hit in some world of a campaign; one that is never hit says that the campaign does
//! not test what it is thought to. And whatever a bot or a service reports to its [`Observer`].
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use woodchuck_io::Env as _;
//! use woodchuck_sim::scenario::Scenario;
//!
//! let scenario = Scenario::new("sleeper", "It wakes up, whatever happens.", |stage| {
//!     let machine = stage.machine("bed");
//!     let observer = stage.observer();
//!     stage.sometimes("woke up");
//!     stage.bot(machine, "sleeper", move |env| {
//!         let observer = observer.clone();
//!         async move {
//!             env.sleep(Duration::from_secs(8 * 3600)).await;
//!             observer.hit("woke up");
//!         }
//!     });
//! });
//! scenario.check(0..10);
//! ```

mod campaign;
mod director;
mod monkey;
mod observer;
mod recording;
mod run;
mod runner;
mod stage;
mod violation;

use std::ops::Range;
use std::sync::Arc;

pub use campaign::{Campaign, Tally};
pub use director::Director;
pub use monkey::ChaosMonkey;
pub use observer::Observer;
pub use recording::{Recording, RecordingError};
pub use run::{Run, RunOptions, Verdict};
pub use stage::{Limits, Stage};
pub use violation::Violation;

use crate::diverge::{self, Divergence};
use crate::fault_kind::FaultKind;
use crate::faults::Regime;
use crate::shrink::{self, ShrinkError, ShrinkOptions, Shrunk};
use crate::tape::Tape;

/// What runs in a world, what strikes it, and what must be true of it.
#[derive(Clone)]
pub struct Scenario {
    name: &'static str,
    about: &'static str,
    build: Arc<dyn Fn(&mut Stage) + Send + Sync>,
    without: &'static [FaultKind],
    without_unrestricted: Option<&'static [FaultKind]>,
}

impl Scenario {
    /// A scenario with a name for the command line, a sentence about it, and the function that sets
    /// its stage for one seed.
    #[must_use]
    pub fn new(
        name: &'static str,
        about: &'static str,
        build: impl Fn(&mut Stage) + Send + Sync + 'static,
    ) -> Self {
        Self { name, about, build: Arc::new(build), without: &[], without_unrestricted: None }
    }

    /// Says which kinds of faults cannot change anything in this scenario under budgeted faults. A
    /// large campaign fails if any other never did.
    #[must_use]
    pub fn without(mut self, kinds: &'static [FaultKind]) -> Self {
        self.without = kinds;
        self
    }

    /// Says the same for unrestricted faults. Of a scenario that does not, a campaign under these
    /// asks for no kind.
    #[must_use]
    pub fn without_unrestricted(mut self, kinds: &'static [FaultKind]) -> Self {
        self.without_unrestricted = Some(kinds);
        self
    }

    /// The name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// A sentence about it.
    #[must_use]
    pub const fn about(&self) -> &'static str {
        self.about
    }

    /// The kinds of faults that cannot change anything in it, if it says.
    #[must_use]
    pub const fn unaffected_by(&self, regime: Regime) -> Option<&'static [FaultKind]> {
        match regime {
            Regime::Budgeted => Some(self.without),
            Regime::Unrestricted => self.without_unrestricted,
        }
    }

    /// Plays the world of one seed, or of one tape.
    #[must_use]
    pub fn run(&self, options: &RunOptions) -> Run {
        runner::run(self, options)
    }

    /// Finds the simplest tape with which a failing run fails in the same way. The run is that of
    /// `options`; `progress` is told of each one that is tried.
    ///
    /// # Errors
    /// If the run does not fail, or not as `shrink` wants it.
    pub fn shrink(
        &self,
        options: &RunOptions,
        shrink: &ShrinkOptions,
        progress: impl FnMut(&shrink::Progress),
    ) -> Result<Shrunk, ShrinkError> {
        let play = |tape: Option<Tape>| {
            self.run(&RunOptions { tape, record: true, chronicle: false, ..options.clone() })
        };
        let recorded = match &options.tape {
            Some(tape) => tape.clone(),
            None => play(None).tape.unwrap_or_default(),
        };
        let test = |tape: &Tape| {
            let run = play(Some(tape.clone()));
            let fingerprint = run.violation().map(Violation::fingerprint);
            shrink::Outcome { fingerprint, played: run.tape.unwrap_or_default() }
        };
        shrink::shrink(&recorded, shrink, test, progress)
    }

    /// Plays one world several times, and tells where two of its runs first differ. `None` if they
    /// do not.
    #[must_use]
    pub fn diverge(&self, options: &RunOptions) -> Option<Divergence> {
        diverge::compare(|window| runner::play(self, options, window).1.trace_run())
    }

    /// Plays the worlds of these seeds, for tests.
    ///
    /// # Panics
    /// With the first violation, if any property does not hold in any of them, or if a mark that
    /// must be hit sometimes never was.
    pub fn check(&self, seeds: Range<u64>) -> Tally {
        let tally = Campaign { jobs: 1, ..Campaign::new(self.clone(), seeds) }.run(|_| ());
        if let Some(run) = tally.failures.first() {
            panic!("{run}");
        }
        let missed = tally.missed_marks();
        assert!(missed.is_empty(), "{}: these were never seen: {missed:?}", self.name);
        tally
    }
}
