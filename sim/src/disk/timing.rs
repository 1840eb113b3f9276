//! How long operations take: the queue, the bandwidth they share, and bad times of the disk.
//!
//! An operation waits for one of the disk's slots, then for its turn to move bytes, and then takes
//! what its kind takes. All of that is known when it is submitted. A disk that **stalls** completes
//! nothing until the stall is over: operations that have happened are not seen to have, and others
//! do not happen. A disk in a **slow period** does all it does many times slower.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use woodchuck_io::Durability;

use super::profile::Latency;
use super::{DiskState, Request};
use crate::choice::scramble;
use crate::event::Event;
use crate::fault_kind::FaultKind;
use crate::kernel::Kernel;
use crate::limits::{DISK_SLOW_FACTOR, DISK_SLOW_PERIOD, DISK_STALL, ENDLESS_QUEUE, LENGTH_NANOS};
use crate::site::Site;

/// When the disk is free, and how it fares.
#[derive(Default)]
pub(super) struct Timing {
    /// When each slot in use is free again.
    slots: BinaryHeap<Reverse<u64>>,
    /// When the bytes of all operations so far have passed.
    transferred: u64,
    /// Nothing completes before.
    stalled_until: u64,
    /// Whether this stall has held something up.
    stall_counted: bool,
    slow_until: u64,
    /// How many times slower than usual the disk is until then.
    slow_factor: u64,
    /// Whether this slow period has slowed something down.
    slow_counted: bool,
}

/// When an operation happens and when it completes, in nanoseconds from now.
pub(super) struct Schedule {
    pub(super) effect: u64,
    pub(super) duration: u64,
}

/// A length of time within a range, such that each doubling is equally likely. 0 is the least.
pub(super) fn log_uniform(drawn: u64, (least, most): (Duration, Duration)) -> u64 {
    let (least, most) = (least.as_nanos() as u64, most.as_nanos() as u64);
    let doublings = u64::from((most / least).ilog2()) + 1;
    let base = least << (drawn % doublings);
    let span = base.min(most - base) + 1;
    if drawn == 0 { least } else { base + scramble(drawn) % span }
}

impl DiskState {
    /// Decides how long an operation takes, and when within that time it happens.
    pub(super) fn schedule(
        &mut self,
        request: &Request,
        node: u32,
        kernel: &mut Kernel,
    ) -> Schedule {
        let (latency, bytes) = self.latency(request);
        let drawn = kernel.choose(Site::DiskLatency, node, 1 << 16);
        // The low bits say how long it takes, the high ones when within that time it happens.
        let mut service = latency.least + latency.spread * (drawn & 0xFFF) / 0x1000;
        let usual = service;
        if kernel.chance(Site::DiskSlow, node, kernel.faults.disk.slow) {
            let tail = self.profile.tail.as_nanos() as u64;
            service += kernel.choose(Site::DiskSlowness, node, tail.max(1));
        }
        if service > usual {
            kernel.fault(FaultKind::SlowDisk, node, "slow disk operation");
        }
        self.draw_bad_times(node, kernel);
        if kernel.now < self.timing.slow_until {
            service *= self.timing.slow_factor;
            if !std::mem::replace(&mut self.timing.slow_counted, true) {
                kernel.fault(FaultKind::SlowPeriod, node, "slow disk for a while");
            }
        }
        let wait = self.wait(bytes, service, kernel.now);
        let service = service + self.profile.transfer(bytes);
        Schedule { effect: wait + service * ((drawn >> 12) + 1) / 17, duration: wait + service }
    }

    /// What an operation of this kind takes, and how many bytes it moves.
    fn latency(&self, request: &Request) -> (Latency, usize) {
        let profile = &self.profile;
        match request {
            Request::Read { buffer, .. } => (profile.read, buffer.capacity()),
            Request::Write { buffer, durability, .. } => match durability {
                Durability::Volatile => (profile.volatile_write, buffer.len()),
                Durability::Durable => (profile.durable_write, buffer.len()),
            },
            Request::Sync { .. } | Request::SyncDirectory { .. } => (profile.flush, 0),
            // The file system knows it by heart.
            Request::Length { .. } => {
                (Latency { least: LENGTH_NANOS.0, spread: LENGTH_NANOS.1 }, 0)
            }
            _ => (profile.metadata, 0),
        }
    }

    /// How long an operation waits for a slot and for the bytes before its own.
    fn wait(&mut self, bytes: usize, service: u64, now: u64) -> u64 {
        let timing = &mut self.timing;
        let transfer = self.profile.transfer(bytes);
        let mut start = now;
        let endless = self.profile.queue_depth >= ENDLESS_QUEUE;
        if !endless {
            while timing.slots.peek().is_some_and(|free| free.0 <= now) {
                timing.slots.pop();
            }
            while timing.slots.len() >= self.profile.queue_depth {
                start = timing.slots.pop().expect("a full queue has a slot").0;
            }
        }
        if bytes > 0 {
            start = start.max(timing.transferred);
            timing.transferred = start + transfer;
        }
        if !endless {
            timing.slots.push(Reverse(start + transfer + service));
        }
        start - now
    }

    /// Whether a bad time begins with this operation.
    fn draw_bad_times(&mut self, node: u32, kernel: &mut Kernel) {
        if kernel.chance(Site::DiskStall, node, kernel.faults.disk.stall) {
            let drawn = kernel.choose(Site::DiskStallLength, node, 1 << 32);
            self.stall(kernel.now + log_uniform(drawn, DISK_STALL));
        }
        if kernel.chance(Site::DiskSlowPeriod, node, kernel.faults.disk.slow_period) {
            let drawn = kernel.choose(Site::DiskSlowPeriodLength, node, 1 << 32);
            let (least, most) = DISK_SLOW_FACTOR;
            let factor = least + scramble(drawn) % (most - least + 1);
            let factor = if drawn == 0 { least } else { factor };
            self.slow_down(kernel.now + log_uniform(drawn, DISK_SLOW_PERIOD), factor);
        }
    }

    /// Completes nothing until then.
    pub(super) fn stall(&mut self, until: u64) {
        self.timing.stalled_until = self.timing.stalled_until.max(until);
        self.timing.stall_counted = false;
    }

    /// Is so many times slower until then.
    pub(super) fn slow_down(&mut self, until: u64, factor: u64) {
        self.timing.slow_until = until;
        self.timing.slow_factor = factor;
        self.timing.slow_counted = false;
    }

    /// Whether the disk stalls; if so, the event comes again when it no longer does.
    pub(super) fn held_up(&mut self, event: Event, node: u32, kernel: &mut Kernel) -> bool {
        if kernel.now >= self.timing.stalled_until {
            return false;
        }
        kernel.events.push(self.timing.stalled_until, event);
        if !std::mem::replace(&mut self.timing.stall_counted, true) {
            kernel.fault(FaultKind::DiskStall, node, "disk stalls");
        }
        true
    }

    /// Nothing is in flight any more. A disk that was without power has got over its bad times too.
    pub(super) fn rest(&mut self, power_was_cut: bool) {
        if power_was_cut {
            self.timing = Timing::default();
        }
        self.timing.slots.clear();
        self.timing.transferred = 0;
    }

    /// Ends bad times. What a stall held up goes on at once.
    pub(super) fn recover(&mut self, kernel: &mut Kernel) {
        self.timing.slow_until = 0;
        if kernel.now >= std::mem::take(&mut self.timing.stalled_until) {
            return;
        }
        // The events that were put off come as well, and find nothing left to do.
        for (key, operation) in self.operations.iter() {
            let (machine, happened) = (self.machine, operation.request.is_none());
            let event = if happened {
                Event::DiskDone { machine, operation: key }
            } else {
                Event::DiskEffect { machine, operation: key }
            };
            kernel.events.push(operation.completes.max(kernel.now), event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_spread_over_the_doublings() {
        let range = (Duration::from_millis(100), Duration::from_secs(60));
        let (least, most) = (100_000_000, 60_000_000_000);
        let drawn: Vec<u64> = (0..1000).map(|drawn| log_uniform(scramble(drawn), range)).collect();
        assert!(drawn.iter().all(|length| (least..=most).contains(length)));
        assert!(drawn.iter().filter(|&&length| length < 4 * least).count() > 100);
        assert!(drawn.iter().filter(|&&length| length > most / 4).count() > 100);
        assert_eq!(log_uniform(0, range), least);
    }
}
