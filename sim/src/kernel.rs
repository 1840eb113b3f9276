//! What every part of the world needs: time, choices, events, the trace, timers.

use std::any::Any;
use std::task::Waker;
use std::time::Duration;

use woodchuck_io::Monotonic;

use crate::choice::Chooser;
use crate::chronicle::Keeper;
use crate::clock::Clock;
use crate::event::{Event, EventKind, EventQueue};
use crate::fault_kind::FaultKind;
use crate::faults::Faults;
use crate::limits::{SHARDS, STALE_TIMERS};
use crate::machine::Machine;
use crate::site::Site;
use crate::slab::{Key, Slab};
use crate::statistics::Statistics;
use crate::trace::{Entry, Trace};

/// Time, choices, events, the trace, timers.
pub(crate) struct Kernel {
    /// Nanoseconds since the world began.
    pub(crate) now: u64,
    pub(crate) faults: Faults,
    pub(crate) chooser: Chooser,
    pub(crate) events: EventQueue,
    pub(crate) trace: Trace,
    pub(crate) statistics: Statistics,
    /// Who writes the chronicle, if one is kept.
    pub(crate) keeper: Option<Box<Keeper>>,
    /// Tasks to wake once nothing of the world is borrowed: a waker may run foreign code.
    pub(crate) wakes: Vec<Waker>,
    /// Values to drop once nothing of the world is borrowed, for the same reason.
    pub(crate) dropped: Vec<Box<dyn Any>>,
    pub(crate) timers: Slab<Timer>,
    stale_timers: usize,
}

/// World times from here on are never reached.
const NEVER: u64 = u64::MAX / 2;

/// A timer that somebody waits for. It follows the monotonic clock of its machine.
pub(crate) struct Timer {
    pub(crate) waker: Option<Waker>,
    pub(crate) fired: bool,
    /// The machine whose clock it follows.
    pub(crate) machine: u32,
    /// When it fires, by that clock.
    deadline: Monotonic,
    /// How much later it fires, in nanoseconds of the world.
    lateness: u64,
}

impl Timer {
    /// World time at which it fires. None while its clock stands still.
    fn due(&self, clock: &Clock) -> Option<u64> {
        Some(clock.world_time(self.deadline)?.saturating_add(self.lateness))
    }
}

/// The node under which a shard makes its choices.
pub(crate) fn node_of(machine: u32, shard: usize) -> u32 {
    machine * SHARDS as u32 + shard as u32
}

impl Kernel {
    pub(crate) fn new(seed: u64, faults: Faults, chooser: Chooser) -> Self {
        Self {
            now: 0,
            faults,
            chooser,
            events: EventQueue::default(),
            trace: Trace::new(seed),
            statistics: Statistics::default(),
            keeper: None,
            wakes: Vec::new(),
            dropped: Vec::new(),
            timers: Slab::default(),
            stale_timers: 0,
        }
    }

    /// A number below `range`; 0 is the harmless one.
    pub(crate) fn choose(&mut self, site: Site, node: u32, range: u64) -> u64 {
        let value = self.chooser.choose(site, node, range);
        self.trace.choice(site, node, value);
        value
    }

    /// Whether something with this rate happens. A rate of zero makes no choice.
    pub(crate) fn chance(&mut self, site: Site, node: u32, per_million: u32) -> bool {
        if per_million == 0 {
            return false;
        }
        let happens = self.chooser.chance(site, node, per_million);
        self.trace.choice(site, node, u64::from(happens));
        happens
    }

    /// A number between two bounds, log-uniformly: each doubling is as likely as any other. 0 on a
    /// tape stands for the least.
    pub(crate) fn spread(&mut self, site: Site, node: u32, (least, most): (u64, u64)) -> u64 {
        const PARTS: u64 = 1024;
        let doublings = u64::from((most / least).ilog2()) + 1;
        let drawn = self.choose(site, node, doublings * PARTS);
        let least = least << (drawn / PARTS);
        (least + least / PARTS * (drawn % PARTS)).min(most)
    }

    /// Schedules an event after `nanos` from now.
    pub(crate) fn after(&mut self, nanos: u64, event: Event) {
        self.events.push(self.now.saturating_add(nanos), event);
    }

    /// Wakes whoever waits there, soon.
    pub(crate) fn wake(&mut self, waiting: &mut Option<Waker>) {
        self.wakes.extend(waiting.take());
    }

    /// Takes note of something that happened.
    pub(crate) fn record(&mut self, kind: EventKind, node: u32, number: u64, note: &'static str) {
        self.statistics.events[kind as usize] += 1;
        let (machine, shard) = (node / SHARDS as u32, node % SHARDS as u32);
        self.trace.record(Entry { time: self.now, kind, machine, shard, number, note });
        self.chronicle(|keeper| keeper.recorded(kind, node, number, note));
    }

    /// Counts a fault that changed an outcome.
    pub(crate) fn fault(&mut self, kind: FaultKind, node: u32, note: &'static str) {
        self.statistics.faults[kind as usize] += 1;
        self.record(EventKind::Fault, node, kind as u64, note);
    }

    /// Starts a timer for `node` that fires at `deadline` by its machine's clock, or a little later.
    pub(crate) fn start_timer(
        &mut self,
        node: u32,
        deadline: Monotonic,
        clock: &Clock,
        waker: Waker,
    ) -> Key {
        let mut lateness = 0;
        if self.chance(Site::TimerLate, node, self.faults.machine.timer_late) {
            lateness = self.choose(Site::TimerLateness, node, 1_000_000);
            self.fault(FaultKind::LateTimer, node, "late timer");
        }
        let machine = node / SHARDS as u32;
        let timer = Timer { waker: Some(waker), fired: false, machine, deadline, lateness };
        let time = timer.due(clock);
        let key = self.timers.insert(timer);
        self.set_timer(key, time);
        key
    }

    /// Forgets a timer. Its event stays in the queue and means nothing; when too many do, the
    /// queue is rebuilt without them.
    pub(crate) fn drop_timer(&mut self, key: Key) {
        let Some(timer) = self.timers.remove(key) else { return };
        self.dropped.extend(timer.waker.map(|waker| Box::new(waker) as Box<dyn Any>));
        if timer.fired {
            return;
        }
        self.stale_timers += 1;
        if self.stale_timers > STALE_TIMERS.max(self.events.len() / 2) {
            let timers = &self.timers;
            self.events.retain(|event| match event {
                Event::Timer { timer } => timers.contains(timer),
                _ => true,
            });
            self.stale_timers = 0;
        }
    }

    /// Schedules the event of a timer. A deadline at the end of time means "never", as it does while
    /// the clock stands still: with an event for it the world would not see that nothing can happen
    /// any more.
    fn set_timer(&mut self, timer: Key, time: Option<u64>) {
        if let Some(time) = time.filter(|&time| time < NEVER) {
            self.events.push(time.max(self.now), Event::Timer { timer });
        }
    }

    /// A timer's time has come, unless its machine's clock has been slow meanwhile: then the timer
    /// is set anew.
    pub(crate) fn fire(&mut self, key: Key, machines: &[Machine]) {
        let Some(timer) = self.timers.get_mut(key) else { return };
        let time = timer.due(&machines[timer.machine as usize].clock);
        if time.is_some_and(|time| time <= self.now) {
            timer.fired = true;
            self.wakes.extend(timer.waker.take());
        } else {
            self.set_timer(key, time);
        }
    }

    /// The event of a timer that was dropped is gone.
    pub(crate) fn forget_stale_timer(&mut self) {
        self.stale_timers = self.stale_timers.saturating_sub(1);
    }

    /// A machine's clock goes on at another speed, or after it stood still: its timers are set
    /// anew.
    pub(crate) fn set_timers_anew(&mut self, machine: u32, clock: &Clock) {
        let timers = &self.timers;
        self.events.retain(|event| match event {
            Event::Timer { timer } => timers.get(timer).is_some_and(|it| it.machine != machine),
            _ => true,
        });
        self.stale_timers = 0;
        let waiting = self.timers.iter().filter(|(_, it)| it.machine == machine && !it.fired);
        let set: Vec<(Key, Option<u64>)> =
            waiting.map(|(key, timer)| (key, timer.due(clock))).collect();
        set.into_iter().for_each(|(key, time)| self.set_timer(key, time));
    }

    /// Time since the world began.
    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.now)
    }
}
