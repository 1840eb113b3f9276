//! Pauses: a process that is stopped and goes on, a virtual machine that is moved.
//!
//! While a machine is paused none of its tasks is polled. The world goes on: packets arrive in its
//! kernel, disk operations complete, timers fire, and whoever waits for any of it is ready the
//! moment the machine goes on.

use crate::event::{Alarm, EventKind};
use crate::fault_kind::FaultKind;
use crate::kernel::node_of;
use crate::run::Core;
use crate::site::Site;

/// Which clocks of a paused machine stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspension {
    /// None: only the process is stopped.
    ClocksRun,
    /// Monotonic time stands still; wall time is right afterwards.
    MonotonicStops,
    /// Both stand still; wall time stays late.
    BothStop,
}

impl Suspension {
    const fn numbered(number: u64) -> Self {
        match number {
            0 => Self::ClocksRun,
            1 => Self::MonotonicStops,
            _ => Self::BothStop,
        }
    }

    const COUNT: u64 = 3;
}

/// A machine that is paused.
pub(super) struct Paused {
    /// World time since which it is.
    since: u64,
    suspension: Suspension,
}

/// For how long a machine is paused, in milliseconds, if a rate says that it is.
const PAUSE_MS: (u64, u64) = (10, 10_000);

impl Core {
    /// Pauses a machine that runs a process, if it is not paused already: for so many nanoseconds,
    /// or until it is told to go on.
    pub(super) fn pause(&mut self, index: u32, suspension: Suspension, nanos: Option<u64>) {
        let machine = &mut self.machines[index as usize];
        if machine.process.is_none() || machine.paused.is_some() {
            return;
        }
        machine.paused = Some(Paused { since: self.kernel.now, suspension });
        if suspension != Suspension::ClocksRun {
            machine.clock.stop(self.kernel.now);
        }
        self.hold_shards(index, true);
        self.kernel.record(EventKind::Control, node_of(index, 0), 0, "pause");
        if let Some(nanos) = nanos {
            self.set_alarm(index, Alarm::Resume, nanos);
        }
    }

    /// Pauses a machine as the rates say, after a poll of one of its shards.
    pub(crate) fn draw_pause(&mut self, index: u32, node: u32) {
        let kernel = &mut self.kernel;
        if !kernel.chance(Site::Pause, node, kernel.faults.machine.pause) {
            return;
        }
        let length = kernel.spread(Site::PauseLength, node, PAUSE_MS);
        let suspension =
            Suspension::numbered(kernel.choose(Site::PauseClocks, node, Suspension::COUNT));
        self.pause(index, suspension, Some(length * 1_000_000));
    }

    /// A paused machine goes on.
    pub(super) fn resume(&mut self, index: u32) {
        if !self.machines[index as usize].is_paused() {
            return;
        }
        let node = node_of(index, 0);
        if self.hold_shards(index, false) {
            self.kernel.fault(FaultKind::Pause, node, "paused with work to do");
        }
        self.kernel.record(EventKind::Control, node, 0, "resume");
        self.end_pause(index);
    }

    /// A pause is over: for the machine, or because its process ended.
    pub(super) fn end_pause(&mut self, index: u32) {
        let (kernel, machine) = (&mut self.kernel, &mut self.machines[index as usize]);
        let Some(Paused { since, suspension }) = machine.paused.take() else { return };
        machine.cancel(Alarm::Resume);
        if suspension == Suspension::BothStop {
            machine.clock.lose_wall(kernel.now - since);
        }
        if machine.clock.go_on(kernel.now) {
            kernel.set_timers_anew(index, &machine.clock);
        }
    }

    /// Holds the shards of a machine, or lets them go. Returns whether any was kept from something
    /// it had to do.
    fn hold_shards(&mut self, index: u32, hold: bool) -> bool {
        let process = self.machines[index as usize].process.as_ref();
        let keys = process.into_iter().flat_map(|process| process.shards.iter().flatten());
        let mut held_up = false;
        for &key in keys {
            if let Some(slot) = self.shards.get_mut(key) {
                slot.paused = hold;
                held_up |= std::mem::take(&mut slot.held_up);
            }
        }
        held_up
    }
}
