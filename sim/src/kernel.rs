//! What every part of the world needs: time, choices, events, the trace, timers.

use std::any::Any;
use std::task::Waker;
use std::time::Duration;

use crate::choice::Chooser;
use crate::chronicle::Keeper;
use crate::event::{Event, EventKind, EventQueue};
use crate::fault_kind::FaultKind;
use crate::faults::Faults;
use crate::limits::{SHARDS, STALE_TIMERS};
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

/// A timer that somebody waits for.
#[derive(Default)]
pub(crate) struct Timer {
    pub(crate) waker: Option<Waker>,
    pub(crate) fired: bool,
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

    /// Starts a timer for `node` that fires at `time` or a little later.
    pub(crate) fn start_timer(&mut self, node: u32, time: u64, waker: Waker) -> Key {
        let mut time = time.max(self.now);
        if self.chance(Site::TimerLate, node, self.faults.machine.timer_late) {
            time = time.saturating_add(self.choose(Site::TimerLateness, node, 1_000_000));
            self.fault(FaultKind::LateTimer, node, "late timer");
        }
        let timer = self.timers.insert(Timer { waker: Some(waker), fired: false });
        // A deadline at the end of time means "never": with an event for it the world would not
        // see that nothing can happen any more.
        if time < NEVER {
            self.events.push(time, Event::Timer { timer });
        }
        timer
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

    /// A timer's time has come.
    pub(crate) fn fire(&mut self, key: Key) {
        let Some(timer) = self.timers.get_mut(key) else {
            self.stale_timers = self.stale_timers.saturating_sub(1);
            return;
        };
        timer.fired = true;
        self.wakes.extend(timer.waker.take());
    }

    /// Time since the world began.
    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.now)
    }
}
