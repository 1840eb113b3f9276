//! The clocks of one machine.
//!
//! Monotonic time begins anew with each boot, somewhere, and runs with the world's time. Wall time
//! is off by an offset and a drift that are drawn for each machine, and jumps when a test says so.

use woodchuck_io::{Monotonic, WallTime};

use crate::kernel::Kernel;
use crate::site::Site;

/// Wall time at the beginning of every world: 2026-01-01, 00:00 UTC, in milliseconds.
const BEGINNING_MS: i64 = 1_767_225_600_000;

/// The clocks of one machine.
#[derive(Default)]
pub(crate) struct Clock {
    /// World time at the latest boot.
    booted: u64,
    /// Monotonic time at the latest boot.
    start: u64,
    wall_offset_ms: i64,
    wall_drift_ppm: i64,
}

impl Clock {
    pub(crate) fn new(kernel: &mut Kernel, node: u32) -> Self {
        let (offset, drift) =
            (kernel.faults.machine.wall_offset_ms, kernel.faults.machine.wall_drift_ppm);
        let mut either_way = |site, most: u32| {
            let drawn = kernel.choose(site, node, 2 * u64::from(most) + 1) as i64;
            // 0, then 1, -1, 2, -2 and so on, so that 0 is no error.
            if drawn % 2 == 0 { -(drawn / 2) } else { drawn / 2 + 1 }
        };
        let mut clock = Self {
            booted: 0,
            start: 0,
            wall_offset_ms: either_way(Site::WallOffset, offset),
            wall_drift_ppm: either_way(Site::WallDrift, drift),
        };
        clock.boot(kernel, node);
        clock
    }

    /// The machine boots.
    pub(crate) fn boot(&mut self, kernel: &mut Kernel, node: u32) {
        self.booted = kernel.now;
        self.start = kernel.choose(Site::MonotonicStart, node, 1 << 32) * 1000;
    }

    pub(crate) fn monotonic(&self, now: u64) -> Monotonic {
        Monotonic::from_nanos(now - self.booted + self.start)
    }

    /// When the world's time is that of `deadline` on this machine.
    pub(crate) fn world_time(&self, deadline: Monotonic) -> u64 {
        deadline.as_nanos().saturating_sub(self.start).saturating_add(self.booted)
    }

    pub(crate) fn wall(&self, now: u64) -> WallTime {
        let now_ms = (now / 1_000_000) as i64;
        let drifted = now_ms + now_ms * self.wall_drift_ppm / 1_000_000;
        WallTime::from_millis(BEGINNING_MS + drifted + self.wall_offset_ms)
    }

    /// Moves wall time by so many milliseconds.
    pub(crate) fn jump(&mut self, milliseconds: i64) {
        self.wall_offset_ms += milliseconds;
    }
}
