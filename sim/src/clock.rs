//! The clocks of one machine.
//!
//! **What may fail here.** Two clocks, wrong in different ways. Nothing above may order anything by
//! wall time, and nothing may take a monotonic second for a true one.
//!
//! | fault | wall time | monotonic time | how it comes about |
//! |---|---|---|---|
//! | offset | off from the beginning | | `machine.wall_offset_ms` |
//! | drift | ever further off | | `machine.wall_drift_ppm` |
//! | jump | forwards or backwards, at once | | `machine.wall_jump`, `World::jump_wall` |
//! | freeze | stands still, then is right again, or stays late | | `machine.wall_freeze`, `World::freeze_wall` |
//! | leap | repeats one second | | `machine.wall_leap`, `World::leap_wall` |
//! | monotonic drift | | up to 500 ppm fast or slow, from a boot to the next | `machine.monotonic_drift_ppm` |
//! | slow | | at half to nearly full speed, from a boot to the next | `machine.monotonic_slow` |
//! | speed | | as fast as a test says | `World::set_monotonic_speed` |
//! | suspension | goes on, or stays late | goes on, or stops | `World::suspend`, and some pauses |
//!
//! **What never fails.** Monotonic time never goes back within one boot, and begins anew, somewhere,
//! with each. Timers follow the machine's own monotonic clock: by it, none fires early.
//!
//! A fault counts when a reading shows it for the first time, not when it is drawn.

use woodchuck_io::{Monotonic, WallTime};

use crate::fault_kind::FaultKind;
use crate::kernel::Kernel;
use crate::site::Site;

/// Wall time at the beginning of every world: 2026-01-01, 00:00 UTC, in milliseconds.
const BEGINNING_MS: i64 = 1_767_225_600_000;

/// One million: a rate in parts per million is added to it.
const MILLION: i64 = 1_000_000;

/// How far a wall clock jumps, in milliseconds.
const JUMP_MS: (u64, u64) = (1, 3_600_000);

/// For how long a wall clock stands still, in milliseconds.
const FREEZE_MS: (u64, u64) = (1, 10_000);

/// The least and the most that a slow monotonic clock loses of its speed, in parts per million.
const SLOW_PPM: (u64, u64) = (1_000, 500_000);

/// A fault with its note.
type Unseen = (FaultKind, &'static str);

/// The clocks of one machine.
#[derive(Default)]
pub(crate) struct Clock {
    /// World time from which monotonic time is counted.
    base: u64,
    /// Monotonic time then.
    start: u64,
    /// How much faster than the world's time monotonic time runs, in parts per million.
    speed_ppm: i64,
    /// World time since which monotonic time stands still.
    stopped: Option<u64>,
    /// What is wrong with monotonic time and no reading has shown yet.
    monotonic_unseen: Option<Unseen>,
    wall_offset_ms: i64,
    wall_drift_ppm: i64,
    frozen: Option<Freeze>,
    /// The next full second of wall time, which will come twice.
    leap_ms: Option<i64>,
    /// What is wrong with wall time and no reading has shown yet.
    wall_unseen: Vec<Unseen>,
    drift_seen: bool,
}

/// Wall time that stands still.
struct Freeze {
    /// What it shows.
    shown_ms: i64,
    /// World time at which it goes on.
    until: u64,
    /// Whether it then stays late.
    late: bool,
    seen: bool,
}

/// 0, then 1, -1, 2, -2 and so on, so that 0 is no error. At most `most` either way.
fn either_way(kernel: &mut Kernel, site: Site, node: u32, most: u32) -> i64 {
    if most == 0 {
        return 0;
    }
    let drawn = kernel.choose(site, node, 2 * u64::from(most) + 1) as i64;
    if drawn % 2 == 0 { -(drawn / 2) } else { drawn / 2 + 1 }
}

/// Whole milliseconds of world time.
fn millis(nanos: u64) -> i64 {
    (nanos / 1_000_000) as i64
}

impl Clock {
    pub(crate) fn new(kernel: &mut Kernel, node: u32) -> Self {
        let (offset, drift) =
            (kernel.faults.machine.wall_offset_ms, kernel.faults.machine.wall_drift_ppm);
        let mut clock = Self {
            wall_offset_ms: either_way(kernel, Site::WallOffset, node, offset),
            wall_drift_ppm: either_way(kernel, Site::WallDrift, node, drift),
            ..Self::default()
        };
        if clock.wall_offset_ms != 0 {
            clock.wall_unseen.push((FaultKind::WallOffset, "wall clock off"));
        }
        clock.boot(kernel, node);
        clock
    }

    /// The machine boots. Its wall clock runs through, its monotonic clock begins anew.
    pub(crate) fn boot(&mut self, kernel: &mut Kernel, node: u32) {
        self.base = kernel.now;
        self.start = kernel.choose(Site::MonotonicStart, node, 1 << 32) * 1000;
        self.stopped = None;
        let drift = kernel.faults.machine.monotonic_drift_ppm;
        self.speed_ppm = either_way(kernel, Site::MonotonicDrift, node, drift);
        self.monotonic_unseen =
            (self.speed_ppm != 0).then_some((FaultKind::MonotonicDrift, "monotonic clock drifts"));
        if kernel.chance(Site::MonotonicSlow, node, kernel.faults.machine.monotonic_slow) {
            let lost = kernel.spread(Site::MonotonicSlowness, node, SLOW_PPM);
            self.speed_ppm = -(lost as i64);
            self.monotonic_unseen = Some((FaultKind::SlowMonotonic, "monotonic clock is slow"));
        }
    }

    // Monotonic time.

    /// Monotonic time, for whoever only looks.
    pub(crate) fn monotonic(&self, now: u64) -> Monotonic {
        let elapsed = self.stopped.unwrap_or(now) - self.base;
        if self.speed_ppm == 0 {
            return Monotonic::from_nanos(self.start + elapsed);
        }
        let scaled = u128::from(elapsed) * self.speed() / MILLION as u128;
        Monotonic::from_nanos(self.start + scaled as u64)
    }

    /// Monotonic time, read by a process.
    pub(crate) fn read_monotonic(&mut self, kernel: &mut Kernel, node: u32) -> Monotonic {
        let time = self.monotonic(kernel.now);
        if self.monotonic_unseen.is_some() {
            self.show_monotonic(time, kernel, node);
        }
        time
    }

    /// Counts what is wrong with monotonic time, if it makes a difference by now.
    fn show_monotonic(&mut self, time: Monotonic, kernel: &mut Kernel, node: u32) {
        let right = self.start + (kernel.now - self.base);
        let suspended = matches!(self.monotonic_unseen, Some((FaultKind::SuspendedClock, _)));
        if suspended || time.as_nanos() != right {
            let (kind, note) = self.monotonic_unseen.take().expect("the caller has looked");
            kernel.fault(kind, node, note);
        }
    }

    fn speed(&self) -> u128 {
        (MILLION + self.speed_ppm) as u128
    }

    /// World time at which this machine's monotonic time is `deadline`, if it goes on as it does.
    /// None while it stands still.
    pub(crate) fn world_time(&self, deadline: Monotonic) -> Option<u64> {
        if self.stopped.is_some() {
            return None;
        }
        let mut wait = deadline.as_nanos().saturating_sub(self.start);
        if self.speed_ppm != 0 {
            let scaled = (u128::from(wait) * MILLION as u128).div_ceil(self.speed());
            wait = u64::try_from(scaled).unwrap_or(u64::MAX);
        }
        Some(wait.saturating_add(self.base))
    }

    /// Has monotonic time run at another speed from now on.
    pub(crate) fn set_speed(&mut self, ppm: i64, now: u64) {
        assert!(ppm > -MILLION, "monotonic time never goes back, nor stands still for ever");
        self.rebase(now);
        self.speed_ppm = ppm;
        let unseen = match ppm {
            0 => return,
            -500..=500 => (FaultKind::MonotonicDrift, "monotonic clock drifts"),
            _ => (FaultKind::SlowMonotonic, "monotonic clock runs at another speed"),
        };
        self.monotonic_unseen = Some(unseen);
    }

    /// Counts monotonic time from now on, without changing it.
    fn rebase(&mut self, now: u64) {
        self.start = self.monotonic(now).as_nanos();
        self.base = now;
        self.stopped = self.stopped.map(|_| now);
    }

    /// Monotonic time stands still.
    pub(crate) fn stop(&mut self, now: u64) {
        self.rebase(now);
        self.stopped = Some(now);
    }

    /// Monotonic time goes on, if it stood still. Returns whether it did.
    pub(crate) fn go_on(&mut self, now: u64) -> bool {
        let stopped = self.stopped.is_some();
        if stopped {
            self.rebase(now);
            self.stopped = None;
            self.monotonic_unseen =
                Some((FaultKind::SuspendedClock, "monotonic clock stood still"));
        }
        stopped
    }

    // Wall time.

    /// Wall time if it neither stood still nor leapt.
    fn running(&self, now: u64) -> i64 {
        BEGINNING_MS + millis(now) + self.drifted(now) + self.wall_offset_ms
    }

    fn drifted(&self, now: u64) -> i64 {
        millis(now) * self.wall_drift_ppm / MILLION
    }

    /// Wall time, for whoever only looks.
    pub(crate) fn wall(&self, now: u64) -> WallTime {
        let running = self.running(now);
        WallTime::from_millis(match &self.frozen {
            Some(freeze) if now < freeze.until => freeze.shown_ms,
            Some(freeze) if freeze.late => running - (self.running(freeze.until) - freeze.shown_ms),
            _ => running,
        })
    }

    /// Wall time, read by a process: now and then something goes wrong just before.
    pub(crate) fn read_wall(&mut self, kernel: &mut Kernel, node: u32) -> WallTime {
        self.strike(kernel, node);
        if let Some(leap) = self.leap_ms
            && self.running(kernel.now) >= leap
        {
            self.leap_ms = None;
            self.wall_offset_ms -= 1000;
            self.wall_unseen.push((FaultKind::WallLeap, "a second of wall time came twice"));
        }
        if self.frozen.is_some() {
            self.thaw(kernel, node);
        }
        if !self.drift_seen && self.drifted(kernel.now) != 0 {
            self.drift_seen = true;
            kernel.fault(FaultKind::WallDrift, node, "wall clock drifted");
        }
        for (kind, note) in self.wall_unseen.drain(..) {
            kernel.fault(kind, node, note);
        }
        self.wall(kernel.now)
    }

    /// What the rates say goes wrong with wall time.
    fn strike(&mut self, kernel: &mut Kernel, node: u32) {
        if kernel.chance(Site::WallJump, node, kernel.faults.machine.wall_jump) {
            let distance = kernel.spread(Site::WallJumpLength, node, JUMP_MS) as i64;
            let backwards = kernel.choose(Site::WallJumpBack, node, 2) == 1;
            self.jump(if backwards { -distance } else { distance });
        }
        if kernel.chance(Site::WallFreeze, node, kernel.faults.machine.wall_freeze) {
            let nanos = kernel.spread(Site::WallFreezeLength, node, FREEZE_MS) * 1_000_000;
            let late = kernel.choose(Site::WallFreezeLate, node, 2) == 1;
            self.freeze(kernel.now, nanos, late);
        }
        if kernel.chance(Site::WallLeap, node, kernel.faults.machine.wall_leap) {
            self.leap(kernel.now);
        }
    }

    /// Ends a freeze whose time is over, and counts it once a reading is wrong because of it.
    fn thaw(&mut self, kernel: &mut Kernel, node: u32) {
        let now = kernel.now;
        let Some(mut freeze) = self.frozen.take() else { return };
        let over = now >= freeze.until;
        let wrong = self.lag(&freeze, now) != 0 && (!over || freeze.late);
        if wrong && !freeze.seen {
            freeze.seen = true;
            kernel.fault(FaultKind::WallFreeze, node, "wall clock stood still");
        }
        if over {
            self.end_freeze(&freeze);
        } else {
            self.frozen = Some(freeze);
        }
    }

    /// How many milliseconds wall time has stood still.
    fn lag(&self, freeze: &Freeze, now: u64) -> i64 {
        self.running(now.min(freeze.until)) - freeze.shown_ms
    }

    /// Wall time goes on: from where it stood, or from where it should be.
    fn end_freeze(&mut self, freeze: &Freeze) {
        if freeze.late {
            self.wall_offset_ms -= self.lag(freeze, freeze.until);
        }
    }

    /// Moves wall time by so many milliseconds.
    pub(crate) fn jump(&mut self, milliseconds: i64) {
        if milliseconds != 0 {
            self.wall_offset_ms += milliseconds;
            self.wall_unseen.push((FaultKind::WallJump, "wall clock jumped"));
        }
    }

    /// Has wall time stand still. Afterwards it is right again, or stays late.
    pub(crate) fn freeze(&mut self, now: u64, nanos: u64, late: bool) {
        let until = now.saturating_add(nanos);
        let shown_ms = self.wall(now).as_millis();
        if let Some(earlier) = self.frozen.take_if(|earlier| now >= earlier.until) {
            self.end_freeze(&earlier);
        }
        self.frozen = Some(Freeze { shown_ms, until, late, seen: false });
    }

    /// Has the next full second of wall time come twice.
    pub(crate) fn leap(&mut self, now: u64) {
        self.leap_ms = Some((self.running(now).div_euclid(1000) + 1) * 1000);
    }

    /// The machine was suspended, and its wall clock with it.
    pub(crate) fn lose_wall(&mut self, nanos: u64) {
        let lost = millis(nanos);
        if lost != 0 {
            self.wall_offset_ms -= lost;
            self.wall_unseen.push((FaultKind::SuspendedClock, "wall clock stood still"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock whose boot was at world time 1,000 and which shows 5,000 then.
    fn clock(speed_ppm: i64) -> Clock {
        Clock { base: 1_000, start: 5_000, speed_ppm, ..Clock::default() }
    }

    #[test]
    fn no_timer_is_early_by_the_machines_own_clock() {
        for ppm in [-999_999, -500_000, -500, -1, 0, 1, 500, 1_000_000] {
            let clock = clock(ppm);
            for wait in [0, 1, 2, 999, 1_000_003, 123_456_789_012] {
                let deadline = Monotonic::from_nanos(5_000 + wait);
                let time = clock.world_time(deadline).expect("it runs");
                assert!(clock.monotonic(time) >= deadline, "{ppm} ppm, {wait} ns");
                let before = clock.monotonic(time.saturating_sub(1).max(clock.base));
                assert!(wait == 0 || before < deadline, "{ppm} ppm, {wait} ns: needlessly late");
            }
        }
    }

    #[test]
    fn monotonic_time_goes_on_from_where_it_was() {
        let mut clock = clock(500);
        let before = clock.monotonic(2_001_000);
        clock.set_speed(-500_000, 2_001_000);
        assert_eq!(clock.monotonic(2_001_000), before);
        clock.stop(3_001_000);
        let stopped = clock.monotonic(9_001_000);
        assert_eq!((stopped - before).as_nanos(), 500_000);
        assert_eq!(clock.world_time(stopped), None);
        assert!(clock.go_on(9_001_000) && !clock.go_on(9_001_000));
        assert_eq!(clock.monotonic(9_001_000), stopped);
        assert_eq!((clock.monotonic(9_001_100) - stopped).as_nanos(), 50);
    }

    #[test]
    fn a_frozen_wall_clock_is_right_again_or_late() {
        for late in [false, true] {
            let mut clock = Clock::default();
            let at = |clock: &Clock, ms: u64| clock.wall(ms * 1_000_000).as_millis() - BEGINNING_MS;
            clock.freeze(3_000_000, 5_000_000, late);
            assert_eq!((at(&clock, 3), at(&clock, 7)), (3, 3));
            assert_eq!(at(&clock, 8), if late { 3 } else { 8 });
            assert_eq!(at(&clock, 10), if late { 5 } else { 10 });
        }
    }
}
