//! How processes end, and how the world starts them again.

use std::rc::Rc;
use std::time::Duration;

use super::{MachineId, Main};
use crate::event::{Alarm, EventKind};
use crate::fault_kind::FaultKind;
use crate::kernel::node_of;
use crate::run::{Core, Shared};
use crate::site::Site;

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Its programs returned, and this is what they said.
    Code(i32),
    /// It was killed: by a test, or because it did not stop within its time.
    Killed,
    /// Its operating system crashed.
    OsCrash,
    /// Its power was cut.
    PowerCut,
    /// A task of it panicked, in a world in which that ends the process and not the world.
    Panic(String),
}

impl Exit {
    /// Whether it was anything but a return with code 0.
    #[must_use]
    pub const fn is_crash(&self) -> bool {
        !matches!(self, Self::Code(0))
    }
}

/// When a supervised process is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Never.
    Never,
    /// However it ended.
    Always {
        /// How long it stays away at least. At most, it is twice as long.
        after: Duration,
    },
    /// If it ended with anything but code 0.
    OnCrash {
        /// How long it stays away at least. At most, it is twice as long.
        after: Duration,
        /// How often it is started again, in all.
        at_most: u32,
    },
}

/// Who starts a machine's process again.
pub(super) struct Supervision {
    pub(super) main: Main,
    pub(super) shards: usize,
    pub(super) policy: RestartPolicy,
    /// How often the process was started again.
    pub(super) restarts: u32,
}

impl Supervision {
    /// How long a process that ended so stays away at least, if it comes back.
    fn delay(&self, exit: &Exit) -> Option<Duration> {
        match self.policy {
            RestartPolicy::Never => None,
            RestartPolicy::Always { after } => Some(after),
            RestartPolicy::OnCrash { after, at_most } => {
                (exit.is_crash() && self.restarts < at_most).then_some(after)
            }
        }
    }
}

/// How long a machine that is rebooted is off, in milliseconds.
const BOOT_MS: (u64, u64) = (50, 10_000);

/// Parts of a restart's delay that are drawn.
const DELAY_PARTS: u64 = 1 << 16;

impl Core {
    /// The process of a machine has ended.
    pub(super) fn process_ended(&mut self, index: u32, exit: Exit) {
        let machine = &mut self.machines[index as usize];
        machine.cancel(Alarm::Grace);
        self.end_pause(index);
        let machine = &mut self.machines[index as usize];
        let rebooting = std::mem::take(&mut machine.rebooting);
        machine.last_exit = Some(exit);
        if rebooting {
            self.power_off(index);
        } else {
            self.plan_restart(index);
        }
    }

    /// A machine without a process is shut down, to be switched on again after a while.
    pub(super) fn power_off(&mut self, index: u32) {
        let node = node_of(index, 0);
        self.machines[index as usize].powered = false;
        self.network.machine_is_off(index, &mut self.kernel);
        self.kernel.fault(FaultKind::Reboot, node, "reboot");
        let delay = self.kernel.spread(Site::BootDelay, node, BOOT_MS);
        self.set_alarm(index, Alarm::Boot, delay * 1_000_000);
    }

    /// A machine that is rebooted comes back.
    pub(super) fn boot_again(&mut self, index: u32) {
        self.boot(index);
        self.kernel.record(EventKind::Control, node_of(index, 0), 0, "boot");
        let supervision = self.machines[index as usize].supervision.as_ref();
        // What ended the process was the reboot, so it comes back with the machine.
        if supervision.is_some_and(|it| it.policy != RestartPolicy::Never) {
            self.set_alarm(index, Alarm::Restart, 0);
        }
    }

    /// Sees to it that a supervised process comes back.
    fn plan_restart(&mut self, index: u32) {
        let machine = &self.machines[index as usize];
        let delay = match (&machine.supervision, &machine.last_exit) {
            (Some(supervision), Some(exit)) => supervision.delay(exit),
            _ => None,
        };
        let Some(delay) = delay else { return };
        let delay = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        let drawn = self.kernel.choose(Site::RestartDelay, node_of(index, 0), DELAY_PARTS);
        let delay = delay.saturating_add(delay / DELAY_PARTS * drawn);
        self.set_alarm(index, Alarm::Restart, delay);
    }
}

impl Shared {
    /// A supervised process is started again, if nobody else has started one.
    pub(super) fn restart(self: &Rc<Self>, index: u32) {
        let again = self.with(|core| {
            let machine = &mut core.machines[index as usize];
            let supervision = machine.supervision.as_mut()?;
            if machine.process.is_some() {
                return None;
            }
            supervision.restarts += 1;
            Some((supervision.shards, Rc::clone(&supervision.main)))
        });
        if let Some((shards, main)) = again {
            self.start(MachineId(index), shards, &main);
        }
    }
}
