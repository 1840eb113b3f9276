//! Machines: what starts, stops, pauses and crashes.
//!
//! A machine has a disk that outlives everything but a wipe, clocks, an address, and at most one
//! process. A process has shards.
//!
//! **What may fail here.** What ends or halts a process, and what it leaves behind:
//!
//! | | the process | its connections | its disk |
//! |---|---|---|---|
//! | its programs return | its remaining tasks are dropped | close as handles drop | operations in flight complete at once |
//! | `kill`, a grace that is over | erased | peers see an end or a reset soon | operations in flight happen, block by block, or do not |
//! | `crash_os` | erased | silence, until the machine is back or peers give up | unsynced blocks, names and lengths may be lost |
//! | `power_cut` | erased | as above | the same, sector by sector, and torn |
//! | `wipe` | erased | as above | empty |
//! | `reboot` | asked to stop, killed when its grace is over | as for what ended it; then the machine is off for a while | as for what ended it: nothing more is lost |
//! | `pause` | nothing of it is polled until it is resumed | packets arrive in its machine's kernel and wait | operations complete and wait |
//! | `suspend` | the same, and clocks may stand still | the same | the same |
//! | a panic | fails the world, or counts as a kill ([`panics_crash`](crate::WorldOptions::panics_crash)) | | |
//!
//! **What never fails.** Erasure is whole: nothing of a process that was ended runs again. Its
//! destructors run, as Rust has it, and nothing they ask for has any effect. No waker brings it
//! back, its timers, packets and parcels mean nothing any more, and its memory is free. A pause
//! loses nothing.
//!
//! **Coming back.** A supervised process is started again by the world after whatever ended it:
//! [`RestartPolicy`] says when. Other machines stay as they are until a test starts something.
//!
//! Layout: `control` is what tests do to machines, `pause` halts them, `supervise` ends processes
//! and starts them again, `resources` counts what a process holds.

mod control;
mod pause;
mod resources;
mod supervise;

use std::future::Future;
use std::rc::Rc;

pub use pause::Suspension;
pub use resources::Resources;
pub use supervise::{Exit, RestartPolicy};

use crate::clock::Clock;
use crate::disk::{Crash, DiskState};
use crate::env::SimEnv;
use crate::event::{Alarm, Event, EventKind};
use crate::fault_kind::FaultKind;
use crate::kernel::{Kernel, node_of};
use crate::limits::{DISK_BYTES, FIRST_EPHEMERAL_PORT, POLL_NANOS, SHARDS, STARVED_FACTOR};
use crate::mesh::MeshState;
use crate::run::{Core, ShardSlot, Shared};
use crate::schedule::{Policy, Priorities};
use crate::shard::{Handle, ShardLocal, StopSignal};
use crate::site::Site;
use crate::slab::Key;
use pause::Paused;
use supervise::Supervision;

/// Names a machine of one world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineId(pub(crate) u32);

/// One machine.
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) disk: DiskState,
    pub(crate) clock: Clock,
    pub(crate) powered: bool,
    /// Processes started so far.
    pub(crate) starts: u32,
    pub(crate) next_port: u16,
    pub(crate) process: Option<Process>,
    /// How the latest process ended.
    last_exit: Option<Exit>,
    paused: Option<Paused>,
    /// Whether it goes off and on again once its process has ended.
    rebooting: bool,
    supervision: Option<Supervision>,
    /// By alarm: which one is awaited. Those with other numbers mean nothing any more.
    alarms: [u32; 4],
}

/// One process.
pub(crate) struct Process {
    pub(crate) id: u32,
    pub(crate) machine: u32,
    /// Shards that have not ended, by index.
    pub(crate) shards: Vec<Option<Key>>,
    pub(crate) stop: Rc<StopSignal>,
    pub(crate) mesh: MeshState,
    /// What it will exit with.
    pub(crate) code: i32,
}

impl Machine {
    pub(crate) fn new(name: &str, index: u32, kernel: &mut Kernel) -> Self {
        let node = node_of(index, 0);
        Self {
            name: name.to_owned(),
            disk: DiskState::new(index, DISK_BYTES),
            clock: Clock::new(kernel, node),
            powered: true,
            starts: 0,
            next_port: FIRST_EPHEMERAL_PORT,
            process: None,
            last_exit: None,
            paused: None,
            rebooting: false,
            supervision: None,
            alarms: [0; 4],
        }
    }

    /// Whether it is paused.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// Whether an alarm is the one that is awaited.
    pub(crate) fn awaits(&self, alarm: Alarm, number: u32) -> bool {
        self.alarms[alarm as usize] == number
    }

    /// No alarm of this kind is awaited any more.
    fn cancel(&mut self, alarm: Alarm) {
        self.alarms[alarm as usize] = self.alarms[alarm as usize].wrapping_add(1);
    }
}

/// What a shard of a process runs.
pub(crate) type Main = Rc<dyn Fn(SimEnv) -> std::pin::Pin<Box<dyn Future<Output = ()>>>>;

impl Shared {
    /// Starts a process, booting its machine if it is off.
    pub(crate) fn start(self: &Rc<Self>, machine: MachineId, shards: usize, main: &Main) {
        assert!((1..=SHARDS).contains(&shards), "a process has 1 to {SHARDS} shards, not {shards}");
        let index = machine.0;
        let locals: Vec<Rc<ShardLocal>> =
            std::iter::repeat_with(|| Rc::new(ShardLocal::new())).take(shards).collect();
        let stop = Rc::new(StopSignal::default());
        let (process, keys) = self.with(|core| core.install(index, &locals, &stop));
        for (shard, local) in locals.into_iter().enumerate() {
            let handle = Handle {
                shared: Rc::clone(self),
                local: Rc::clone(&local),
                stop: Rc::clone(&stop),
                machine: index,
                process,
                shard,
                shards,
                node: node_of(index, shard),
            };
            let (main, shared, key) = (Rc::clone(main), Rc::clone(self), keys[shard]);
            let future = async move {
                main(SimEnv::new(Rc::new(handle))).await;
                shared.ended.borrow_mut().push(key);
            };
            local.spawn("main", future).detach();
        }
    }

    /// Drops all tasks of these shards: now, or once the poll that is going on is over.
    pub(crate) fn erase(&self, locals: Vec<Rc<ShardLocal>>) {
        if self.core.borrow().polling.is_some() {
            self.doomed.borrow_mut().extend(locals);
        } else {
            locals.iter().for_each(|local| local.erase());
        }
    }

    /// Shards whose programs returned are taken apart, and the process with the last of them.
    pub(crate) fn settle_ended(&self) {
        let doomed = std::mem::take(&mut *self.doomed.borrow_mut());
        doomed.iter().for_each(|local| local.erase());
        loop {
            let Some(key) = self.ended.borrow_mut().pop() else { return };
            let Some(local) =
                self.with(|core| core.shards.get(key).map(|slot| Rc::clone(&slot.local)))
            else {
                continue;
            };
            // The tasks go first, while the shard still lives: what they hold closes in order.
            local.erase();
            local.alive.set(false);
            self.with(|core| core.end_shard(key));
        }
    }

    /// Ends the process of a machine without its consent, if there is one.
    pub(crate) fn crash(&self, machine: MachineId, crash: Crash, exit: Exit) {
        let locals = self.with(|core| core.crash(machine.0, crash, exit));
        self.erase(locals);
    }

    /// An alarm that is still awaited goes off.
    pub(crate) fn alarm(self: &Rc<Self>, machine: u32, alarm: Alarm) {
        self.with(|core| {
            core.machines[machine as usize].cancel(alarm);
            core.alarm_rings();
        });
        match alarm {
            Alarm::Resume => self.with(|core| core.resume(machine)),
            Alarm::Grace => {
                self.with(|core| {
                    core.kernel.fault(FaultKind::GraceOver, node_of(machine, 0), "grace is over");
                });
                self.crash(MachineId(machine), Crash::Process, Exit::Killed);
            }
            Alarm::Boot => self.with(|core| core.boot_again(machine)),
            Alarm::Restart => self.restart(machine),
        }
    }
}

impl Core {
    /// Lets an alarm of a machine go off after so many nanoseconds, instead of any earlier one.
    fn set_alarm(&mut self, index: u32, alarm: Alarm, nanos: u64) {
        let machine = &mut self.machines[index as usize];
        machine.cancel(alarm);
        let number = machine.alarms[alarm as usize];
        self.kernel.after(nanos, Event::Alarm { machine: index, alarm, number });
    }

    /// Makes a process known. Returns its number and the keys of its shards.
    fn install(
        &mut self,
        index: u32,
        locals: &[Rc<ShardLocal>],
        stop: &Rc<StopSignal>,
    ) -> (u32, Vec<Key>) {
        self.boot(index);
        let (kernel, machine) = (&mut self.kernel, &mut self.machines[index as usize]);
        assert!(machine.process.is_none(), "machine {} runs a process already", machine.name);
        machine.cancel(Alarm::Restart);
        machine.starts += 1;
        self.processes += 1;
        let process = self.processes;
        let starved =
            kernel.chance(Site::Starved, node_of(index, 0), kernel.faults.machine.starved_shard);
        let starved = starved.then(|| machine.starts as usize % locals.len());
        let deferring = match self.scheduler.policy {
            Policy::StarveCore => {
                let drawn =
                    kernel.choose(Site::StarvedCore, node_of(index, 0), locals.len() as u64 + 1);
                drawn.checked_sub(1)
            }
            _ => None,
        };
        let mut keys = Vec::new();
        for (shard, local) in locals.iter().enumerate() {
            let node = node_of(index, shard);
            let (least, most) = POLL_NANOS;
            let cost = least + kernel.choose(Site::PollCost, node, most - least);
            keys.push(self.shards.insert(ShardSlot {
                local: Rc::clone(local),
                machine: index,
                node,
                busy_until: kernel.now,
                turn_pending: false,
                paused: false,
                held_up: false,
                poll_cost: cost * if starved == Some(shard) { STARVED_FACTOR } else { 1 },
                passed_over: 0,
                priorities: Priorities::default(),
                deferring: deferring == Some(shard as u64),
                deferred: 0,
            }));
            if starved == Some(shard) {
                kernel.fault(FaultKind::StarvedShard, node, "starved shard");
            }
        }
        machine.process = Some(Process {
            id: process,
            machine: index,
            shards: keys.iter().copied().map(Some).collect(),
            stop: Rc::clone(stop),
            mesh: MeshState::new(locals.len()),
            code: 0,
        });
        kernel.record(EventKind::Control, node_of(index, 0), u64::from(process), "start");
        (process, keys)
    }

    /// Switches a machine on, if it is off.
    fn boot(&mut self, index: u32) {
        let machine = &mut self.machines[index as usize];
        if machine.powered {
            return;
        }
        machine.powered = true;
        machine.cancel(Alarm::Boot);
        machine.clock.boot(&mut self.kernel, node_of(index, 0));
        self.network.machine_is_back(index, &mut self.kernel);
    }

    /// A shard's program has returned and its tasks are gone.
    fn end_shard(&mut self, key: Key) {
        let Some(slot) = self.shards.remove(key) else { return };
        let machine = &mut self.machines[slot.machine as usize];
        let process = machine.process.as_mut().expect("a shard belongs to a process");
        let shard = process.shards.iter().position(|&other| other == Some(key));
        let shard = shard.expect("the process knows its shards");
        process.shards[shard] = None;
        process.mesh.end(shard, &mut self.kernel);
        if process.shards.iter().all(Option::is_none) {
            let process = machine.process.take().expect("it was there");
            machine.disk.exit(&mut self.kernel);
            self.network.process_is_gone(process.id, &mut self.kernel);
            let node = node_of(slot.machine, 0);
            self.kernel.dropped.push(process.mesh.into_parcels());
            self.kernel.record(EventKind::Control, node, u64::from(process.id), "exit");
            self.process_ended(slot.machine, Exit::Code(process.code));
        }
    }

    /// Ends the process of a machine without its consent, and lets the disk lose what it may.
    /// Returns the shards whose tasks must be dropped.
    fn crash(&mut self, index: u32, crash: Crash, exit: Exit) -> Vec<Rc<ShardLocal>> {
        let node = node_of(index, 0);
        let machine = &mut self.machines[index as usize];
        let process = machine.process.take();
        if process.is_none() && (crash == Crash::Process || !machine.powered) {
            return Vec::new();
        }
        let (kind, note) = match crash {
            Crash::Process if matches!(exit, Exit::Panic(_)) => (FaultKind::TaskPanic, "panic"),
            Crash::Process => (FaultKind::Kill, "kill"),
            Crash::OperatingSystem => (FaultKind::OsCrash, "crash of the operating system"),
            Crash::Power => (FaultKind::PowerCut, "power cut"),
        };
        self.kernel.fault(kind, node, note);
        let before = self.kernel.statistics.faults;
        machine.disk.crash(crash, &mut self.kernel);
        self.kernel.tell_losses(node, &before);
        machine.powered = crash == Crash::Process;
        if machine.powered {
            let id = process.as_ref().map_or(0, |process| process.id);
            self.network.process_is_gone(id, &mut self.kernel);
        } else {
            // It is off now, whatever was to become of it.
            machine.rebooting = false;
            self.network.machine_is_off(index, &mut self.kernel);
        }
        let Some(process) = process else { return Vec::new() };
        self.kernel.dropped.push(process.mesh.into_parcels());
        let mut locals = Vec::new();
        for key in process.shards.into_iter().flatten() {
            let slot = self.shards.remove(key).expect("a shard that has not ended is there");
            slot.local.alive.set(false);
            locals.push(slot.local);
        }
        self.process_ended(index, exit);
        locals
    }
}
