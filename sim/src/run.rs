//! The loop: the next event, its effects, and a turn for each shard that has something to do.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use crate::event::{Event, EventKind};
use crate::failure::{Failure, FailureKind};
use crate::kernel::Kernel;
use crate::limits::SHARDS;
use crate::machine::Machine;
use crate::net::Network;
use crate::schedule::{Policy, pick};
use crate::shard::ShardLocal;
use crate::site::Site;
use crate::slab::{Key, Slab};

/// Trace lines in the report of a failure.
const REPORTED_LINES: usize = 40;

/// The world, shared by its owner and by what runs in it.
pub(crate) struct Shared {
    pub(crate) seed: u64,
    pub(crate) core: RefCell<Core>,
    /// Shards whose programs have returned and that were not taken apart yet.
    pub(crate) ended: RefCell<Vec<Key>>,
    /// Shards that were killed during a poll and whose tasks were not dropped yet.
    pub(crate) doomed: RefCell<Vec<Rc<ShardLocal>>>,
}

/// All of the world's state. Borrowed for moments only, never while a task is polled, a waker is
/// woken or a foreign value dropped.
pub(crate) struct Core {
    pub(crate) seed: u64,
    pub(crate) kernel: Kernel,
    pub(crate) policy: Policy,
    pub(crate) machines: Vec<Machine>,
    pub(crate) network: Network,
    /// The shards of all living processes.
    pub(crate) shards: Slab<ShardSlot>,
    /// Processes started so far, in all the world.
    pub(crate) processes: u32,
    /// The shard whose task is being polled.
    pub(crate) polling: Option<Key>,
    /// Polls since anything else happened.
    polls_alone: u64,
    livelock_polls: u64,
    failure: Option<Failure>,
}

/// A shard of a living process, as the scheduler sees it.
pub(crate) struct ShardSlot {
    pub(crate) local: Rc<ShardLocal>,
    pub(crate) machine: u32,
    pub(crate) node: u32,
    /// When its core is free again.
    pub(crate) busy_until: u64,
    /// Whether a turn of it is scheduled.
    pub(crate) turn_pending: bool,
    /// Nanoseconds one poll takes.
    pub(crate) poll_cost: u64,
    /// How often in a row the longest waiting task was passed over.
    pub(crate) passed_over: u32,
    pub(crate) polls: u64,
    /// From which priorities are derived.
    pub(crate) priorities: u64,
}

/// What one step of the world came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Something happened.
    Ran,
    /// Nothing happens before the time given.
    Later,
    /// Nothing will ever happen.
    Idle,
}

impl Core {
    pub(crate) fn new(seed: u64, kernel: Kernel, policy: Policy, livelock_polls: u64) -> Self {
        Self {
            seed,
            kernel,
            policy,
            machines: Vec::new(),
            network: Network::default(),
            shards: Slab::default(),
            processes: 0,
            polling: None,
            polls_alone: 0,
            livelock_polls,
            failure: None,
        }
    }

    /// Gives a turn to each shard that has ready tasks.
    fn rouse(&mut self) {
        let kernel = &mut self.kernel;
        for (key, shard) in self.shards.iter_mut() {
            if !shard.turn_pending && shard.local.executor.ready() > 0 {
                shard.turn_pending = true;
                kernel.events.push(shard.busy_until.max(kernel.now), Event::Turn { shard: key });
            }
        }
    }

    /// The next event that is due until `limit`, with the time moved to it.
    fn next_event(&mut self, limit: u64) -> Result<Event, Step> {
        loop {
            let Some((time, event)) = self.kernel.events.peek() else { return Err(Step::Idle) };
            if self.is_stale(event) {
                self.kernel.events.pop();
                continue;
            }
            if time > limit {
                return Err(Step::Later);
            }
            self.kernel.events.pop();
            assert!(time >= self.kernel.now, "time never goes back");
            self.kernel.now = time;
            return Ok(event);
        }
    }

    /// Whether an event means nothing any more, so that time need not pass for it.
    fn is_stale(&mut self, event: Event) -> bool {
        match event {
            Event::Turn { shard } => !self.shards.contains(shard),
            Event::Timer { timer } => {
                let stale = !self.kernel.timers.contains(timer);
                if stale {
                    self.kernel.fire(timer);
                }
                stale
            }
            Event::MeshArrive { process, machine, .. } => {
                let there = self.machines[machine as usize].process.as_ref();
                there.is_none_or(|there| there.id != process)
            }
            Event::DiskEffect { machine, operation } | Event::DiskDone { machine, operation } => {
                !self.machines[machine as usize].disk.has_operation(operation)
            }
            Event::NetDial { dial } | Event::NetDialed { dial } => !self.network.has_dial(dial),
            Event::NetArrive { connection, .. }
            | Event::NetWindow { connection, .. }
            | Event::NetReset { connection, .. } => !self.network.has_connection(connection),
            Event::NetGiveUp { connection, end } => {
                !self.network.may_give_up(connection, end.into())
            }
            Event::NetTrickle { .. } => false,
        }
    }

    /// Everything but turns.
    fn happen(&mut self, event: Event) {
        let kernel = &mut self.kernel;
        self.polls_alone = 0;
        let node = match event {
            Event::DiskEffect { machine, .. } | Event::DiskDone { machine, .. } => machine,
            Event::MeshArrive { machine, .. } => u32::from(machine),
            _ => 0,
        } * SHARDS as u32;
        kernel.record(event.kind(), node, event.number(), "");
        match event {
            Event::Turn { .. } => unreachable!("turns are not for the core alone"),
            Event::Timer { timer } => kernel.fire(timer),
            Event::DiskEffect { machine, operation } => {
                self.machines[machine as usize].disk.take_effect(operation, kernel);
            }
            Event::DiskDone { machine, operation } => {
                self.machines[machine as usize].disk.complete(operation, kernel);
            }
            Event::MeshArrive { machine, from, to, .. } => {
                if let Some(process) = &mut self.machines[machine as usize].process {
                    process.mesh_arrive(from.into(), to.into(), kernel);
                }
            }
            Event::NetDial { dial } => self.network.dial_arrives(dial, &self.machines, kernel),
            Event::NetDialed { dial } => self.network.dial_answered(dial, kernel),
            Event::NetArrive { connection, end } => {
                self.network.packet_arrives(connection, end.into(), &self.machines, kernel);
            }
            Event::NetWindow { connection, end } => {
                self.network.window_opens(connection, end.into(), kernel);
            }
            Event::NetReset { connection, end } => {
                self.network.reset_arrives(connection, end.into(), kernel);
            }
            Event::NetGiveUp { connection, end } => {
                self.network.give_up(connection, end.into(), kernel);
            }
            Event::NetTrickle { link } => self.network.trickle(link, &self.machines, kernel),
        }
    }

    /// Picks a task of a shard and takes note of its poll.
    fn begin_turn(&mut self, key: Key) -> Option<(Rc<ShardLocal>, usize, &'static str)> {
        let shard = self.shards.get_mut(key)?;
        shard.turn_pending = false;
        let index = pick(self.policy, shard, &mut self.kernel)?;
        let number = shard.local.executor.ready_task(index).map_or(u64::MAX, |task| task.0);
        shard.local.about_to_run(number);
        let name = shard.local.tasks.borrow().get(&number).copied().unwrap_or("(cancelled)");
        self.kernel.record(EventKind::Poll, shard.node, number, name);
        self.polling = Some(key);
        self.polls_alone += 1;
        Some((Rc::clone(&shard.local), index, name))
    }

    /// The core of a shard was used for one poll.
    fn charge_turn(&mut self, key: Key) {
        self.polling = None;
        let Some(shard) = self.shards.get_mut(key) else { return };
        let kernel = &mut self.kernel;
        let mut cost = shard.poll_cost;
        if kernel.chance(Site::PollStall, shard.node, kernel.faults.machine.poll_stall) {
            cost += kernel.choose(Site::PollStallLength, shard.node, 1_000_000);
            kernel.fault(crate::FaultKind::Stall, shard.node, "core taken away");
        }
        shard.busy_until = kernel.now + cost;
    }

    /// A failure of this kind, now.
    fn fail(&mut self, kind: FailureKind) -> Failure {
        let machines = &self.machines;
        let trace = self.kernel.trace.text(REPORTED_LINES, |machine| {
            machines.get(machine as usize).map_or("?", |machine| &machine.name).to_owned()
        });
        let failure = Failure { seed: self.seed, time: self.kernel.elapsed(), kind, trace };
        self.failure.get_or_insert(failure).clone()
    }

    /// Everyone who waits: machine, shard and task.
    fn waiting(&self) -> Vec<String> {
        let mut waiting = Vec::new();
        for (_, shard) in self.shards.iter() {
            let machine = &self.machines[shard.machine as usize].name;
            let index = shard.node % SHARDS as u32;
            for (number, task) in shard.local.tasks.borrow().iter() {
                waiting.push(format!("{machine}/{index} \"{task}\" (task {number})"));
            }
        }
        waiting
    }

    /// Whose the latest polls were.
    fn running(&self) -> Vec<String> {
        let mut polls: BTreeMap<(u32, u32, &'static str), u64> = BTreeMap::new();
        for entry in self.kernel.trace.latest().filter(|entry| entry.kind == EventKind::Poll) {
            *polls.entry((entry.machine, entry.shard, entry.note)).or_default() += 1;
        }
        let name = |machine: u32| &self.machines[machine as usize].name;
        polls
            .into_iter()
            .map(|((machine, shard, task), count)| {
                format!("{}/{shard} \"{task}\": {count} polls", name(machine))
            })
            .collect()
    }
}

impl Shared {
    /// Lets the next thing happen, if it is due until `limit`.
    pub(crate) fn step(&self, limit: u64) -> Result<Step, Failure> {
        let event = {
            let mut core = self.core.borrow_mut();
            if let Some(failure) = &core.failure {
                return Err(failure.clone());
            }
            core.rouse();
            match core.next_event(limit) {
                Ok(event) => event,
                Err(step) => return Ok(step),
            }
        };
        if let Event::Turn { shard } = event {
            self.turn(shard)?;
        } else {
            self.with(|core| core.happen(event));
        }
        Ok(Step::Ran)
    }

    /// Polls one task of a shard.
    fn turn(&self, key: Key) -> Result<(), Failure> {
        let Some((local, index, name)) = self.core.borrow_mut().begin_turn(key) else {
            return Ok(());
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| local.executor.run(index)));
        if let Err(panic) = outcome {
            let mut core = self.core.borrow_mut();
            core.polling = None;
            let (machine, shard) = core
                .shards
                .get(key)
                .map_or((0, 0), |shard| (shard.machine, shard.node as usize % SHARDS));
            let machine = core.machines[machine as usize].name.clone();
            let message = panic_message(&*panic);
            return Err(core.fail(FailureKind::Panic { machine, shard, task: name, message }));
        }
        let livelock = {
            let mut core = self.core.borrow_mut();
            core.charge_turn(key);
            core.polls_alone > core.livelock_polls
        };
        if !self.ended.borrow().is_empty() || !self.doomed.borrow().is_empty() {
            self.settle_ended();
        }
        if livelock {
            return Err(self.livelock());
        }
        Ok(())
    }

    /// The failure of a world that never rests.
    pub(crate) fn livelock(&self) -> Failure {
        let mut core = self.core.borrow_mut();
        let running = core.running();
        core.fail(FailureKind::Livelock { running })
    }

    /// The failure of a world in which nothing can happen any more.
    pub(crate) fn deadlock(&self) -> Failure {
        let mut core = self.core.borrow_mut();
        let waiting = core.waiting();
        core.fail(FailureKind::Deadlock { waiting })
    }
}

/// What a panic said.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is no text".to_owned())
}
