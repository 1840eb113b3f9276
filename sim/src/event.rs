//! What will happen, in order of time.
//!
//! Two events at one time happen in the order in which they were scheduled. Events are small and
//! hold keys, never values: what an event speaks of may be gone when its time comes, and then the
//! event means nothing.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::slab::Key;

/// What the world does to a machine when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Alarm {
    /// A paused machine goes on.
    Resume,
    /// A process that was asked to stop has had its time.
    Grace,
    /// A machine that is being rebooted is switched on.
    Boot,
    /// A supervised process is started again.
    Restart,
}

/// Something that will happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A shard polls one of its ready tasks.
    Turn { shard: Key },
    /// A timer fires.
    Timer { timer: Key },
    /// A disk operation happens.
    DiskEffect { machine: u32, operation: Key },
    /// A disk operation is seen to have completed.
    DiskDone { machine: u32, operation: Key },
    /// A connection attempt reaches the machine it is for.
    NetDial { dial: Key },
    /// The answer to a connection attempt is back.
    NetDialed { dial: Key },
    /// The next packet from `end` of a connection reaches the other end.
    NetArrive { connection: Key, end: u8 },
    /// The writer at `end` learns that the other end has read.
    NetWindow { connection: Key, end: u8 },
    /// `end` of a connection learns that it was reset.
    NetReset { connection: Key, end: u8 },
    /// `end` of a connection has heard nothing for too long.
    NetGiveUp { connection: Key, end: u8 },
    /// A clogged link lets a packet pass.
    NetTrickle { link: u32 },
    /// The next parcel from one shard to another arrives.
    MeshArrive { process: u32, machine: u16, from: u8, to: u8 },
    /// The world does something to a machine, unless it has since thought better of it.
    Alarm { machine: u32, alarm: Alarm, number: u32 },
}

/// Kinds of events, for counting and for traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum EventKind {
    /// A task was polled.
    Poll,
    /// A timer fired.
    Timer,
    /// A disk operation happened.
    DiskEffect,
    /// A disk operation completed.
    DiskDone,
    /// A connection was attempted, or the attempt answered.
    NetDial,
    /// A packet arrived.
    NetArrive,
    /// A window opened.
    NetWindow,
    /// A connection was reset.
    NetReset,
    /// A parcel arrived.
    MeshArrive,
    /// A machine or a process was started, stopped or crashed.
    Control,
    /// A fault changed an outcome.
    Fault,
}

impl EventKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Poll,
        Self::Timer,
        Self::DiskEffect,
        Self::DiskDone,
        Self::NetDial,
        Self::NetArrive,
        Self::NetWindow,
        Self::NetReset,
        Self::MeshArrive,
        Self::Control,
        Self::Fault,
    ];

    /// A name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::Timer => "timer",
            Self::DiskEffect => "disk effect",
            Self::DiskDone => "disk done",
            Self::NetDial => "net dial",
            Self::NetArrive => "net arrive",
            Self::NetWindow => "net window",
            Self::NetReset => "net reset",
            Self::MeshArrive => "mesh arrive",
            Self::Control => "control",
            Self::Fault => "fault",
        }
    }
}

impl Event {
    /// Its kind.
    pub(crate) fn kind(self) -> EventKind {
        match self {
            Self::Turn { .. } => EventKind::Poll,
            Self::Timer { .. } => EventKind::Timer,
            Self::DiskEffect { .. } => EventKind::DiskEffect,
            Self::DiskDone { .. } => EventKind::DiskDone,
            Self::NetDial { .. } | Self::NetDialed { .. } => EventKind::NetDial,
            Self::NetArrive { .. } | Self::NetTrickle { .. } => EventKind::NetArrive,
            Self::NetWindow { .. } => EventKind::NetWindow,
            Self::NetReset { .. } | Self::NetGiveUp { .. } => EventKind::NetReset,
            Self::MeshArrive { .. } => EventKind::MeshArrive,
            Self::Alarm { .. } => EventKind::Control,
        }
    }

    /// A number that tells it from others of its kind.
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Turn { shard } => shard.number(),
            Self::Timer { timer } => timer.number(),
            Self::DiskEffect { operation, .. } | Self::DiskDone { operation, .. } => {
                operation.number()
            }
            Self::NetDial { dial } | Self::NetDialed { dial } => dial.number(),
            Self::NetArrive { connection, end }
            | Self::NetWindow { connection, end }
            | Self::NetReset { connection, end }
            | Self::NetGiveUp { connection, end } => connection.number() << 1 | u64::from(end),
            Self::NetTrickle { link } => u64::from(link),
            Self::MeshArrive { from, to, .. } => u64::from(from) << 8 | u64::from(to),
            Self::Alarm { alarm, .. } => alarm as u64,
        }
    }
}

/// An event with its time.
#[derive(Clone, Copy)]
struct Scheduled {
    time: u64,
    sequence: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The earliest is the greatest, because the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.time, other.sequence).cmp(&(self.time, self.sequence))
    }
}

/// Events by time.
///
/// Turns have a heap of their own. They are half of all events and due almost at once, and there is
/// at most one for each shard: in a heap of a few they cost little, in one of thousands they would
/// sink to the bottom and rise again.
#[derive(Default)]
pub(crate) struct EventQueue {
    heap: BinaryHeap<Scheduled>,
    turns: BinaryHeap<Scheduled>,
    sequence: u64,
}

impl EventQueue {
    pub(crate) fn push(&mut self, time: u64, event: Event) {
        self.sequence += 1;
        let heap =
            if matches!(event, Event::Turn { .. }) { &mut self.turns } else { &mut self.heap };
        heap.push(Scheduled { time, sequence: self.sequence, event });
    }

    /// Whether the next event is a turn.
    fn turn_is_next(&self) -> bool {
        // Of two, the earlier is the greater, and nothing is less than anything.
        self.turns.peek() > self.heap.peek()
    }

    /// The next event, with its time.
    pub(crate) fn peek(&self) -> Option<(u64, Event)> {
        let heap = if self.turn_is_next() { &self.turns } else { &self.heap };
        heap.peek().map(|scheduled| (scheduled.time, scheduled.event))
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, Event)> {
        let heap = if self.turn_is_next() { &mut self.turns } else { &mut self.heap };
        heap.pop().map(|scheduled| (scheduled.time, scheduled.event))
    }

    /// How many events are scheduled, those that mean nothing any more included.
    pub(crate) fn len(&self) -> usize {
        self.heap.len() + self.turns.len()
    }

    /// Drops events that mean nothing any more.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(Event) -> bool) {
        self.heap.retain(|scheduled| keep(scheduled.event));
        self.turns.retain(|scheduled| keep(scheduled.event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_as_scheduled() {
        let mut queue = EventQueue::default();
        let arrive = |from| Event::MeshArrive { process: 0, machine: 0, from, to: 0 };
        for (time, from) in [(5, 0), (3, 1), (5, 2), (3, 3), (4, 4)] {
            queue.push(time, arrive(from));
        }
        queue.retain(|event| event != arrive(4));
        let order: Vec<(u64, Event)> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [(3, arrive(1)), (3, arrive(3)), (5, arrive(0)), (5, arrive(2))]);
    }

    #[test]
    fn turns_come_among_the_others_as_scheduled() {
        let mut slab = crate::slab::Slab::default();
        let turn = Event::Turn { shard: slab.insert(()) };
        let arrive = Event::MeshArrive { process: 0, machine: 0, from: 0, to: 0 };
        let mut queue = EventQueue::default();
        for (time, event) in [(5, turn), (3, arrive), (5, arrive), (3, turn), (4, turn)] {
            queue.push(time, event);
        }
        assert_eq!((queue.len(), queue.peek()), (5, Some((3, arrive))));
        let order: Vec<(u64, Event)> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [(3, arrive), (3, turn), (4, turn), (5, turn), (5, arrive)]);
    }

    #[test]
    fn a_scheduled_event_is_small() {
        assert!(size_of::<Scheduled>() <= 32, "the heap moves them about");
    }
}
