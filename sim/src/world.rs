//! The world as a test sees it.

use std::net::IpAddr;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::choice::Chooser;
use crate::disk::DiskInspector;
use crate::failure::Failure;
use crate::faults::Faults;
use crate::kernel::Kernel;
use crate::limits::{IDLE_WITHIN, LIVELOCK_POLLS, MACHINES};
use crate::machine::{Machine, MachineId};
use crate::run::{Core, Shared, Step};
use crate::schedule::{Policy, Scheduler};
use crate::site::Site;
use crate::statistics::Statistics;
use crate::tape::Tape;

/// How a world is made.
#[derive(Clone, Debug)]
pub struct WorldOptions {
    /// From which everything follows. With a tape: that of the tape.
    pub seed: u64,
    /// How often what goes wrong.
    pub faults: Faults,
    /// How ready tasks are picked; drawn from the seed if not given.
    pub policy: Option<Policy>,
    /// Replays these choices instead of drawing them.
    pub tape: Option<Tape>,
    /// Whether choices are kept for [`World::tape`], at eight bytes each. A long campaign does
    /// without, and runs a seed that failed once more with it.
    pub record: bool,
    /// Polls with nothing else happening that count as a livelock.
    pub livelock_polls: u64,
    /// Events, by their number, of which [`World::traced_window`] shall tell everything.
    pub trace_window: Option<Range<u64>>,
    /// Whether [`World::trace_hash`] covers the bytes that are written to disks and sent over the
    /// network. It finds what two runs write differently though it is as long, and costs time for
    /// each byte.
    pub trace_contents: bool,
    /// Whether what happens is told for [`World::chronicle`]. It changes nothing of the run.
    pub chronicle: bool,
    /// Whether a task that panics ends its process, as a crash does, instead of failing the world.
    pub panics_crash: bool,
}

impl WorldOptions {
    /// The usual faults and a policy drawn from the seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            faults: Faults::default(),
            policy: None,
            tape: None,
            record: true,
            livelock_polls: LIVELOCK_POLLS,
            trace_window: None,
            trace_contents: false,
            chronicle: false,
            panics_crash: false,
        }
    }
}

/// A simulated world. Clones are the same world; it ends with the last of them, and everything
/// that runs in it is dropped. So nothing that runs in a world may hold it.
#[derive(Clone)]
pub struct World {
    owner: Rc<Owner>,
}

/// Ends the world when dropped: its tasks hold the world, and it holds them.
struct Owner {
    shared: Rc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        let locals = self.shared.with(|core| {
            core.kernel.events.retain(|_| false);
            let keys = core.shards.keys();
            let slots = keys.into_iter().filter_map(|key| core.shards.remove(key));
            slots.map(|slot| slot.local).collect::<Vec<_>>()
        });
        locals.iter().for_each(|local| local.alive.set(false));
        for local in &locals {
            // A destructor may panic because of what failed before. That must not hide the first
            // failure, nor abort the test while it unwinds.
            let outcome = catch_unwind(AssertUnwindSafe(|| local.erase()));
            if let (Err(panic), false) = (outcome, std::thread::panicking()) {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// A world that others keep alive.
#[derive(Clone)]
pub(crate) struct WeakWorld {
    owner: Weak<Owner>,
}

impl WeakWorld {
    /// The world, if it has not ended.
    pub(crate) fn upgrade(&self) -> Option<World> {
        self.owner.upgrade().map(|owner| World { owner })
    }
}

/// Why a world that was let run stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advance {
    /// The condition holds.
    Met,
    /// The time has come.
    Time,
    /// The time has come, and nothing will ever happen again.
    Idle,
}

impl World {
    /// A world with the usual faults.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_options(WorldOptions::new(seed))
    }

    /// A world that repeats the choices of a tape, under the usual faults.
    #[must_use]
    pub fn replay(tape: Tape) -> Self {
        Self::with_options(WorldOptions { tape: Some(tape), ..WorldOptions::new(0) })
    }

    /// A world made to order.
    #[must_use]
    pub fn with_options(options: WorldOptions) -> Self {
        let WorldOptions { seed, faults, policy, tape, record, .. } = options;
        let WorldOptions { livelock_polls, trace_window, trace_contents, .. } = options;
        let WorldOptions { chronicle, panics_crash, .. } = options;
        let seed = tape.as_ref().map_or(seed, Tape::seed);
        let mut kernel = Kernel::new(seed, faults, Chooser::new(seed, tape.as_ref(), record));
        kernel.trace.keep(trace_window, trace_contents);
        kernel.keeper = chronicle.then(Box::default);
        let drawn = Policy::numbered(kernel.choose(Site::Policy, 0, Policy::COUNT));
        let scheduler = Scheduler::new(policy.unwrap_or(drawn));
        let core = Core::new(seed, kernel, scheduler, livelock_polls, panics_crash);
        let shared =
            Shared { seed, core: core.into(), ended: Vec::new().into(), doomed: Vec::new().into() };
        Self { owner: Rc::new(Owner { shared: Rc::new(shared) }) }
    }

    pub(crate) fn shared(&self) -> &Rc<Shared> {
        &self.owner.shared
    }

    /// The machine with this name; it is made when first named, switched on and with an empty
    /// disk.
    pub fn machine(&self, name: &str) -> MachineId {
        self.shared().with(|core| {
            let known = core.machines.iter().position(|machine| machine.name == name);
            let index = known.unwrap_or_else(|| {
                let index = core.machines.len();
                assert!(index < MACHINES, "a world has at most {MACHINES} machines");
                core.machines.push(Machine::new(name, index as u32, &mut core.kernel));
                index
            });
            MachineId(index as u32)
        })
    }

    /// The machine's address: 10.0.0.1 for the first, and so on. Processes on it reach each other
    /// through 127.0.0.1 as well.
    #[must_use]
    pub fn address(&self, machine: MachineId) -> IpAddr {
        crate::net::address_of(machine.0)
    }

    /// The machine's disk, to look into and to damage.
    #[must_use]
    pub fn disk(&self, machine: MachineId) -> DiskInspector {
        DiskInspector::new(Rc::clone(self.shared()), machine.0)
    }

    /// Lets time pass.
    ///
    /// # Panics
    /// With the text of the [`Failure`], if the world fails.
    pub fn run_for(&self, duration: Duration) {
        raise(self.try_run_for(duration));
    }

    /// Lets time pass until `condition` holds, which is looked at after everything that happens,
    /// but at most for `limit`. Returns whether it holds.
    ///
    /// # Panics
    /// With the text of the [`Failure`], if the world fails, or if nothing can ever happen again.
    pub fn run_until(&self, condition: impl FnMut() -> bool, limit: Duration) -> bool {
        raise(self.try_run_until(condition, limit))
    }

    /// Lets time pass until nothing is left to happen.
    ///
    /// # Panics
    /// With the text of the [`Failure`], if the world fails, or if it has not come to rest
    /// within [`IDLE_WITHIN`].
    pub fn run_to_idle(&self) {
        raise(self.try_run_to_idle());
    }

    /// As [`run_for`](Self::run_for), with the failure returned.
    ///
    /// # Errors
    /// If the world fails. A failed world stays failed.
    pub fn try_run_for(&self, duration: Duration) -> Result<(), Failure> {
        let end = self.deadline(duration);
        while self.shared().step(end)? == Step::Ran {}
        self.shared().with(|core| core.kernel.now = end);
        Ok(())
    }

    /// As [`run_until`](Self::run_until), with the failure returned.
    ///
    /// # Errors
    /// If the world fails, or if nothing can ever happen again and `condition` does not hold.
    pub fn try_run_until(
        &self,
        mut condition: impl FnMut() -> bool,
        limit: Duration,
    ) -> Result<bool, Failure> {
        let end = self.deadline(limit);
        loop {
            if condition() {
                return Ok(true);
            }
            match self.shared().step(end)? {
                Step::Ran => {}
                Step::Idle => return Err(self.shared().deadlock()),
                Step::Later => {
                    self.shared().with(|core| core.kernel.now = end);
                    return Ok(false);
                }
            }
        }
    }

    /// As [`run_to_idle`](Self::run_to_idle), with the failure returned.
    ///
    /// # Errors
    /// If the world fails.
    pub fn try_run_to_idle(&self) -> Result<(), Failure> {
        let end = self.deadline(IDLE_WITHIN);
        loop {
            match self.shared().step(end)? {
                Step::Ran => {}
                Step::Idle => return Ok(()),
                Step::Later => return Err(self.shared().livelock()),
            }
        }
    }

    /// Lets time pass until `condition` holds, which is looked at after everything that happens,
    /// but at most until `end`.
    pub(crate) fn advance(
        &self,
        end: Duration,
        condition: &mut dyn FnMut() -> bool,
    ) -> Result<Advance, Failure> {
        let end = u64::try_from(end.as_nanos()).unwrap_or(u64::MAX);
        loop {
            if condition() {
                return Ok(Advance::Met);
            }
            let step = self.shared().step(end)?;
            if step == Step::Ran {
                continue;
            }
            if end < u64::MAX {
                self.shared().with(|core| core.kernel.now = core.kernel.now.max(end));
            }
            return Ok(if step == Step::Idle { Advance::Idle } else { Advance::Time });
        }
    }

    /// The failure of a world in which nothing can happen any more.
    pub(crate) fn deadlock(&self) -> Failure {
        self.shared().deadlock()
    }

    /// This world, without keeping it alive.
    pub(crate) fn downgrade(&self) -> WeakWorld {
        WeakWorld { owner: Rc::downgrade(&self.owner) }
    }

    /// World time `duration` from now.
    fn deadline(&self, duration: Duration) -> u64 {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.shared().with(|core| core.kernel.now.saturating_add(nanos))
    }

    /// Time since the world began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.shared().with(|core| core.kernel.elapsed())
    }

    /// Who waits for what, and since when: a line for each task that has not finished.
    #[must_use]
    pub fn waiting(&self) -> Vec<String> {
        self.shared().with(|core| core.waiting())
    }

    /// How many things have happened.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.shared().with(|core| core.kernel.trace.recorded())
    }

    /// How often what goes wrong.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.shared().with(|core| core.kernel.faults.clone())
    }

    /// Changes how often what goes wrong, from now on. What was drawn once for a machine or a
    /// process stays.
    pub fn set_faults(&self, faults: Faults) {
        self.shared().with(|core| core.kernel.faults = faults);
    }

    /// A machine's name.
    #[must_use]
    pub fn name(&self, machine: MachineId) -> String {
        self.shared().with(|core| core.machines[machine.0 as usize].name.clone())
    }

    /// The world's seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.shared().seed
    }

    /// A number below `range`, for plans and workloads. 0 should be the harmless one. `node` tells
    /// several who choose at one site apart.
    pub fn choose(&self, site: Site, node: u32, range: u64) -> u64 {
        self.shared().with(|core| core.kernel.choose(site, node, range))
    }

    /// By which policy tasks are picked.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.shared().with(|core| core.scheduler.policy)
    }

    /// A hash over all that has happened. Equal in two runs of one seed.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.shared().with(|core| core.kernel.trace.hash())
    }

    /// The latest `lines` things that happened, as text.
    #[must_use]
    pub fn trace(&self, lines: usize) -> String {
        self.shared().with(|core| {
            let machines = &core.machines;
            core.kernel.trace.text(lines, |machine| {
                machines.get(machine as usize).map_or("?", |machine| &machine.name).to_owned()
            })
        })
    }

    /// The choices so far that were not 0. A world that is given them does the same again.
    ///
    /// # Panics
    /// If the world was told not to [`record`](WorldOptions::record) them.
    #[must_use]
    pub fn tape(&self) -> Tape {
        self.shared().with(|core| core.kernel.chooser.tape(self.seed()))
    }

    /// What the world did so far.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.shared().with(|core| {
            let choices = core.kernel.chooser.made();
            Statistics { choices, ..core.kernel.statistics.clone() }
        })
    }
}

/// Panics with the failure's text.
fn raise<T>(outcome: Result<T, Failure>) -> T {
    outcome.unwrap_or_else(|failure| panic!("{failure}"))
}
