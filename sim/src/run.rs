//! The loop: the next event, its effects, and a turn for each shard that has something to do.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use crate::disk::Crash;
use crate::event::{Event, EventKind};
use crate::failure::{Failure, FailureKind};
use crate::kernel::{Kernel, node_of};
use crate::limits::SHARDS;
use crate::machine::{Exit, Machine, MachineId};
use crate::net::Network;
use crate::schedule::{DEFERRAL_NANOS, Priorities, Scheduler, defers};
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
    pub(crate) scheduler: Scheduler,
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
    /// Whether a panic ends a process and not the world.
    panics_crash: bool,
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
    /// Whether its machine is paused.
    pub(crate) paused: bool,
    /// Whether that has kept it from something it had to do.
    pub(crate) held_up: bool,
    /// Nanoseconds one poll takes.
    pub(crate) poll_cost: u64,
    /// How often in a row the longest waiting task was passed over.
    pub(crate) passed_over: u32,
    /// Priorities of its tasks, if the policy goes by them.
    pub(crate) priorities: Priorities,
    /// Whether the policy starves this core.
    pub(crate) deferring: bool,
    /// How many turns in a row it has let pass because of that.
    pub(crate) deferred: u32,
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
    pub(crate) fn new(
        seed: u64,
        kernel: Kernel,
        scheduler: Scheduler,
        livelock_polls: u64,
        panics_crash: bool,
    ) -> Self {
        Self {
            seed,
            kernel,
            scheduler,
            machines: Vec::new(),
            network: Network::default(),
            shards: Slab::default(),
            processes: 0,
            polling: None,
            polls_alone: 0,
            livelock_polls,
            panics_crash,
            failure: None,
        }
    }

    /// Gives a turn to each shard that has ready tasks.
    fn rouse(&mut self) {
        let kernel = &mut self.kernel;
        for (key, shard) in self.shards.iter_mut() {
            if shard.turn_pending || shard.local.executor.ready() == 0 {
                continue;
            }
            if shard.paused {
                shard.held_up = true;
            } else {
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
                    self.kernel.forget_stale_timer();
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
            Event::Alarm { machine, alarm, number } => {
                !self.machines[machine as usize].awaits(alarm, number)
            }
            Event::NetGiveUp { connection, end } => {
                !self.network.may_give_up(connection, end.into())
            }
            Event::NetTrickle { .. } => false,
        }
    }

    /// Everything but turns and alarms.
    fn happen(&mut self, event: Event) {
        self.polls_alone = 0;
        let kernel = &mut self.kernel;
        let node = match event {
            Event::DiskEffect { machine, .. } | Event::DiskDone { machine, .. } => machine,
            Event::MeshArrive { machine, .. } => u32::from(machine),
            _ => 0,
        } * SHARDS as u32;
        kernel.record(event.kind(), node, event.number(), "");
        match event {
            Event::Turn { .. } | Event::Alarm { .. } => unreachable!("not for the core alone"),
            Event::Timer { timer } => kernel.fire(timer, &self.machines),
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
        if shard.paused || shard.deferring && self.lets_pass(key) {
            return None;
        }
        let shard = self.shards.get_mut(key)?;
        let index = self.scheduler.pick(shard, &mut self.kernel)?;
        let number = shard.local.executor.ready_task(index).map_or(u64::MAX, |task| task.0);
        let name = shard.local.about_to_run(number, self.kernel.now);
        self.kernel.record(EventKind::Poll, shard.node, number, name);
        self.polling = Some(key);
        self.polls_alone += 1;
        Some((Rc::clone(&shard.local), index, name))
    }

    /// Whether a core that the policy starves lets its turn pass, to ask for another one soon.
    fn lets_pass(&mut self, key: Key) -> bool {
        let has_work = |shard: &ShardSlot| {
            !shard.deferring && !shard.paused && shard.local.executor.ready() > 0
        };
        let others_busy = self.shards.iter().any(|(_, shard)| has_work(shard));
        let Some(shard) = self.shards.get_mut(key) else { return false };
        let passes = defers(shard, others_busy);
        if passes {
            shard.busy_until = self.kernel.now + DEFERRAL_NANOS;
        }
        passes
    }

    /// An alarm has gone off, which is progress.
    pub(crate) fn alarm_rings(&mut self) {
        self.polls_alone = 0;
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
        if self.kernel.faults.machine.pause > 0 {
            let (machine, node) = (shard.machine, shard.node);
            self.draw_pause(machine, node);
        }
    }

    /// A failure of this kind, now.
    fn fail(&mut self, kind: FailureKind) -> Failure {
        let machines = &self.machines;
        let trace = self.kernel.trace.text(REPORTED_LINES, |machine| {
            machines.get(machine as usize).map_or("?", |machine| &machine.name).to_owned()
        });
        let (time, policy) = (self.kernel.elapsed(), self.scheduler.policy);
        let failure = Failure { seed: self.seed, time, kind, policy, trace: trace.into() };
        self.failure.get_or_insert(failure).clone()
    }

    /// Everyone who waits: machine, shard and task, for what and since when.
    pub(crate) fn waiting(&self) -> Vec<String> {
        let mut waiting = Vec::new();
        for (_, shard) in self.shards.iter() {
            let machine = &self.machines[shard.machine as usize].name;
            let index = shard.node % SHARDS as u32;
            let paused = if shard.paused { "; the machine is paused" } else { "" };
            for (number, task) in shard.local.tasks.borrow().iter() {
                let (name, what) = (task.name, task.describe());
                waiting
                    .push(format!("{machine}/{index} \"{name}\" (task {number}) {what}{paused}"));
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
                let wait = self.last_wait(node_of(machine, shard as usize), task);
                format!("{}/{shard} \"{task}\": {count} polls{wait}", name(machine))
            })
            .collect()
    }

    /// What the first task of a shard with this name last waited for.
    fn last_wait(&self, node: u32, name: &str) -> String {
        let shard = self.shards.iter().find(|(_, shard)| shard.node == node);
        let wait = shard.and_then(|(_, shard)| {
            let tasks = shard.local.tasks.borrow();
            tasks.values().find(|task| task.name == name).map(|task| task.last_wait())
        });
        wait.map_or_else(String::new, |wait| format!(", last waiting for {wait}"))
    }
}

impl Shared {
    /// Lets the next thing happen, if it is due until `limit`.
    pub(crate) fn step(self: &Rc<Self>, limit: u64) -> Result<Step, Failure> {
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
        match event {
            Event::Turn { shard } => self.turn(shard)?,
            Event::Alarm { machine, alarm, .. } => self.alarm(machine, alarm),
            event => self.with(|core| core.happen(event)),
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
            return self.panicked(key, name, panic_message(&*panic));
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

    /// A task has panicked: the world fails, or the process ends.
    fn panicked(&self, key: Key, task: &'static str, message: String) -> Result<(), Failure> {
        let mut core = self.core.borrow_mut();
        core.polling = None;
        let node = core.shards.get(key).map(|shard| shard.node);
        let (machine, shard) =
            node.map_or((0, 0), |node| (node / SHARDS as u32, node as usize % SHARDS));
        core.kernel.chronicle(|keeper| {
            keeper.task_panicked(node.unwrap_or_default(), task, &message);
        });
        if !core.panics_crash {
            let machine = core.machines[machine as usize].name.clone();
            return Err(core.fail(FailureKind::Panic { machine, shard, task, message }));
        }
        drop(core);
        if node.is_some() {
            let exit = Exit::Panic(format!("task \"{task}\" of shard {shard}: {message}"));
            self.crash(MachineId(machine), Crash::Process, exit);
        }
        self.settle_ended();
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
