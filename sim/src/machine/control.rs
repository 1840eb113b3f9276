//! What a test does to machines.

use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::Program;

use super::supervise::Supervision;
use super::{Exit, MachineId, Main, Resources, RestartPolicy, Suspension};
use crate::disk::Crash;
use crate::env::SimEnv;
use crate::event::{Alarm, Event, EventKind};
use crate::fault_kind::FaultKind;
use crate::kernel::node_of;
use crate::run::Core;
use crate::shard::StopSignal;
use crate::world::World;

/// Nanoseconds, or as many as there can be.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What runs a program on each shard, and hands what it returned to `on_exit`. What that says is
/// the process's exit code.
fn program_main<P: Program>(
    program: P,
    on_exit: impl Fn(usize, P::Output) -> i32 + 'static,
) -> Main {
    let on_exit = Rc::new(on_exit);
    Rc::new(move |env: SimEnv| {
        let (program, on_exit) = (program.clone(), Rc::clone(&on_exit));
        Box::pin(async move {
            let shard = woodchuck_io::Mesh::shard(woodchuck_io::Env::mesh(&env));
            let output = program.run(env.clone()).await;
            env.set_exit_code(on_exit(shard, output));
        })
    })
}

/// Starting and stopping.
impl World {
    /// Starts a process. `main` is called once for each shard, as a task named "main"; when all of
    /// them have returned, the process has exited. A machine that is off is switched on.
    ///
    /// # Panics
    /// If the machine runs a process already.
    pub fn start<M, F>(&self, machine: MachineId, shards: usize, main: M)
    where
        M: Fn(SimEnv) -> F + 'static,
        F: Future<Output = ()> + 'static,
    {
        let main: Main = Rc::new(move |env| Box::pin(main(env)));
        self.shared().start(machine, shards, &main);
    }

    /// Starts a process that runs `program`. `on_exit` is told what each shard returned.
    ///
    /// # Panics
    /// If the machine runs a process already.
    pub fn start_program<P: Program>(
        &self,
        machine: MachineId,
        shards: usize,
        program: P,
        on_exit: impl Fn(usize, P::Output) + 'static,
    ) {
        let main = program_main(program, move |shard, output| {
            on_exit(shard, output);
            0
        });
        self.shared().start(machine, shards, &main);
    }

    /// Starts a process as [`start`](Self::start) does, and starts it again whenever it has ended
    /// and `policy` says so: after its programs returned, a kill, a crash, a power cut, a reboot. A
    /// machine that is off by then is switched on. Each time it takes a drawn while, after which
    /// `main` is called anew for each shard. A process that a test starts meanwhile takes its place.
    ///
    /// # Panics
    /// If the machine runs a process already.
    pub fn supervise<M, F>(&self, machine: MachineId, shards: usize, main: M, policy: RestartPolicy)
    where
        M: Fn(SimEnv) -> F + 'static,
        F: Future<Output = ()> + 'static,
    {
        self.supervise_main(machine, shards, Rc::new(move |env| Box::pin(main(env))), policy);
    }

    /// Starts a process that runs `program`, and starts it again as
    /// [`supervise`](Self::supervise) does. `on_exit` is told what each shard returned, and says
    /// what the process's exit code becomes: the first that is not 0 counts.
    ///
    /// # Panics
    /// If the machine runs a process already.
    pub fn supervise_program<P: Program>(
        &self,
        machine: MachineId,
        shards: usize,
        program: P,
        policy: RestartPolicy,
        on_exit: impl Fn(usize, P::Output) -> i32 + 'static,
    ) {
        self.supervise_main(machine, shards, program_main(program, on_exit), policy);
    }

    fn supervise_main(&self, machine: MachineId, shards: usize, main: Main, policy: RestartPolicy) {
        self.unsupervise(machine);
        self.shared().start(machine, shards, &main);
        let supervision = Supervision { main, shards, policy, restarts: 0 };
        self.at(machine, |core, index| core.machines[index].supervision = Some(supervision));
    }

    /// Starts the machine's process no more: not even if it has ended and would soon be started.
    pub fn unsupervise(&self, machine: MachineId) {
        self.at(machine, |core, index| {
            let machine = &mut core.machines[index];
            machine.cancel(Alarm::Restart);
            let supervision = machine.supervision.take();
            core.kernel.dropped.extend(supervision.map(|it| Box::new(it.main) as Box<_>));
        });
    }

    /// Asks the machine's process to stop: its [`stopping`](woodchuck_io::Env::stopping)
    /// completes.
    pub fn stop(&self, machine: MachineId) {
        let stop: Option<Rc<StopSignal>> = self.at(machine, |core, index| {
            core.kernel.record(EventKind::Control, node_of(machine.0, 0), 0, "stop");
            core.machines[index].process.as_ref().map(|process| Rc::clone(&process.stop))
        });
        if let Some(stop) = stop {
            stop.asked.set(true);
            stop.signal.notify(usize::MAX);
        }
    }

    /// Asks the machine's process to stop, and kills it if it has not within `grace`.
    pub fn stop_within(&self, machine: MachineId, grace: Duration) {
        if self.is_running(machine) {
            self.stop(machine);
            self.at(machine, |core, _| core.set_alarm(machine.0, Alarm::Grace, nanos(grace)));
        }
    }

    /// Shuts the machine down and switches it on again after a drawn while. Its process is asked to
    /// stop, and killed if it has not within `grace`; it is started again if it is supervised by any
    /// policy but [`RestartPolicy::Never`]. What was written and not synced is as safe as it was: a
    /// reboot loses nothing, a later power cut may.
    pub fn reboot(&self, machine: MachineId, grace: Duration) {
        let powered = self.at(machine, |core, index| core.machines[index].powered);
        if self.is_running(machine) {
            self.at(machine, |core, index| core.machines[index].rebooting = true);
            self.stop_within(machine, grace);
        } else if powered {
            self.at(machine, |core, index| {
                core.machines[index].cancel(Alarm::Restart);
                core.power_off(machine.0);
            });
        }
    }

    /// Kills the machine's process, if it runs one: it is erased. Disk operations in flight happen
    /// or do not, block by block; all that completed stays.
    pub fn kill(&self, machine: MachineId) {
        self.shared().crash(machine, Crash::Process, Exit::Killed);
    }

    /// Crashes the machine's operating system. The process is erased, unsynced blocks, names and
    /// lengths may be lost, and the machine is off until [`start`](Self::start).
    pub fn crash_os(&self, machine: MachineId) {
        self.shared().crash(machine, Crash::OperatingSystem, Exit::OsCrash);
    }

    /// Cuts the machine's power: as [`crash_os`](Self::crash_os), but sector by sector and torn.
    pub fn power_cut(&self, machine: MachineId) {
        self.shared().crash(machine, Crash::Power, Exit::PowerCut);
    }

    /// Cuts the machine's power and puts an empty disk in the place of its own.
    pub fn wipe(&self, machine: MachineId) {
        self.power_cut(machine);
        self.at(machine, |core, index| {
            // The new disk numbers its operations anew, so no event may speak of old ones.
            core.kernel.events.retain(|event| match event {
                Event::DiskEffect { machine: of, .. } | Event::DiskDone { machine: of, .. } => {
                    of != machine.0
                }
                _ => true,
            });
            core.machines[index].disk = core.machines[index].disk.wiped();
            core.kernel.fault(FaultKind::Wipe, node_of(machine.0, 0), "wipe");
        });
    }

    /// Whether the machine runs a process.
    #[must_use]
    pub fn is_running(&self, machine: MachineId) -> bool {
        self.at(machine, |core, index| core.machines[index].process.is_some())
    }

    /// Whether the machine is switched on.
    #[must_use]
    pub fn is_powered(&self, machine: MachineId) -> bool {
        self.at(machine, |core, index| core.machines[index].powered)
    }

    /// How the machine's latest process ended, if one has.
    #[must_use]
    pub fn last_exit(&self, machine: MachineId) -> Option<Exit> {
        self.at(machine, |core, index| core.machines[index].last_exit.clone())
    }

    /// How many processes were started on the machine.
    #[must_use]
    pub fn starts(&self, machine: MachineId) -> u32 {
        self.at(machine, |core, index| core.machines[index].starts)
    }

    /// What the machine's process holds, counted.
    #[must_use]
    pub fn resources(&self, machine: MachineId) -> Resources {
        self.at(machine, |core, _| core.resources(machine.0))
    }

    /// Visits the world and the index of a machine.
    fn at<T>(&self, machine: MachineId, visit: impl FnOnce(&mut Core, usize) -> T) -> T {
        self.shared().with(|core| visit(core, machine.0 as usize))
    }
}

/// Pauses.
impl World {
    /// Stops the machine's process until [`resume`](Self::resume): none of its tasks is polled.
    /// What arrives or completes meanwhile waits for it. Does nothing to a machine that is paused
    /// already or runs no process.
    pub fn pause(&self, machine: MachineId) {
        self.suspend(machine, Suspension::ClocksRun, None);
    }

    /// As [`pause`](Self::pause), and goes on by itself after `duration`.
    pub fn pause_for(&self, machine: MachineId, duration: Duration) {
        self.suspend(machine, Suspension::ClocksRun, Some(duration));
    }

    /// As [`pause`](Self::pause), with clocks that may stand still, for a time or until
    /// [`resume`](Self::resume): what a virtual machine lives through that is saved or moved.
    pub fn suspend(&self, machine: MachineId, suspension: Suspension, duration: Option<Duration>) {
        self.at(machine, |core, _| core.pause(machine.0, suspension, duration.map(nanos)));
    }

    /// Lets a paused machine go on.
    pub fn resume(&self, machine: MachineId) {
        self.at(machine, |core, _| core.resume(machine.0));
    }

    /// Whether the machine is paused.
    #[must_use]
    pub fn is_paused(&self, machine: MachineId) -> bool {
        self.at(machine, |core, index| core.machines[index].is_paused())
    }
}

/// Clocks.
impl World {
    /// Moves the machine's wall clock by so many milliseconds.
    pub fn jump_wall(&self, machine: MachineId, milliseconds: i64) {
        self.at(machine, |core, index| core.machines[index].clock.jump(milliseconds));
    }

    /// Has the machine's wall clock stand still for a while. Afterwards it is right again or, if
    /// `late`, goes on from where it stood.
    pub fn freeze_wall(&self, machine: MachineId, duration: Duration, late: bool) {
        self.at(machine, |core, index| {
            core.machines[index].clock.freeze(core.kernel.now, nanos(duration), late);
        });
    }

    /// Has the next full second of the machine's wall time come twice.
    pub fn leap_wall(&self, machine: MachineId) {
        self.at(machine, |core, index| core.machines[index].clock.leap(core.kernel.now));
    }

    /// Has the machine's monotonic clock, and its timers, run so many parts per million faster than
    /// the world's time from now on, or slower; until its next boot.
    ///
    /// # Panics
    /// If it would stand still or go back: at -1,000,000 and below.
    pub fn set_monotonic_speed(&self, machine: MachineId, parts_per_million: i32) {
        self.at(machine, |core, index| {
            let (kernel, clock) = (&mut core.kernel, &mut core.machines[index].clock);
            clock.set_speed(parts_per_million.into(), kernel.now);
            kernel.set_timers_anew(machine.0, clock);
        });
    }
}
