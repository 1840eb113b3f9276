//! What happened: a hash over all of it, and the latest of it for people.
//!
//! Two runs of one seed must give the same hash. If they do not, something that the world does not
//! control got in: a hash order, an address, a real clock.

use std::fmt::Write as _;

use crate::event::EventKind;
use crate::limits::TRACE_ENTRIES;
use crate::site::Site;

/// One thing that happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Nanoseconds since the world began.
    pub(crate) time: u64,
    pub(crate) kind: EventKind,
    pub(crate) machine: u32,
    pub(crate) shard: u32,
    /// The task, the operation, the connection.
    pub(crate) number: u64,
    /// The task's name, or what is known of the event without formatting anything.
    pub(crate) note: &'static str,
}

/// The rolling hash and the ring of the latest entries.
pub(crate) struct Trace {
    hash: u64,
    ring: Vec<Entry>,
    /// Where in the ring the next entry goes, once it is full.
    next: usize,
    recorded: u64,
}

impl Trace {
    pub(crate) fn new(seed: u64) -> Self {
        Self { hash: seed ^ 0x51_7C_C1_B7_27_22_0A_95, ring: Vec::new(), next: 0, recorded: 0 }
    }

    fn mix(&mut self, word: u64) {
        self.hash = (self.hash.rotate_left(5) ^ word).wrapping_mul(0x51_7C_C1_B7_27_22_0A_95);
    }

    /// Takes note of a choice: hashed, but not kept in the ring.
    pub(crate) fn choice(&mut self, site: Site, node: u32, value: u64) {
        self.mix(u64::from(site as u8) << 56 ^ u64::from(node) << 32 ^ value);
    }

    /// Takes note of something that happened.
    pub(crate) fn record(&mut self, entry: Entry) {
        self.mix(entry.time);
        let place = u64::from(entry.machine) << 16 ^ u64::from(entry.shard);
        self.mix(u64::from(entry.kind as u8) << 56 ^ place << 24 ^ entry.number);
        self.recorded += 1;
        if self.ring.len() < TRACE_ENTRIES {
            self.ring.push(entry);
        } else {
            self.ring[self.next] = entry;
            self.next = (self.next + 1) % TRACE_ENTRIES;
        }
    }

    /// How many entries there were.
    pub(crate) fn recorded(&self) -> u64 {
        self.recorded
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// The latest entries, oldest first.
    pub(crate) fn latest(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        let (newer, older) = self.ring.split_at(self.next);
        older.iter().chain(newer)
    }

    /// The latest `count` entries as lines for people.
    pub(crate) fn text(&self, count: usize, machine_name: impl Fn(u32) -> String) -> String {
        let mut text = String::new();
        let skipped = self.ring.len().saturating_sub(count);
        for entry in self.latest().skip(skipped) {
            let Entry { time, kind, machine, shard, number, note } = *entry;
            let time = time as f64 / 1_000_000.0;
            let (kind, machine) = (kind.name(), machine_name(machine));
            writeln!(text, "{time:>14.6} ms  {machine}/{shard}  {kind:<11} {number} {note}")
                .expect("writing to a string cannot fail");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_depends_on_order_and_the_ring_keeps_the_latest() {
        let entry = |number| Entry {
            time: number,
            kind: EventKind::Timer,
            machine: 0,
            shard: 0,
            number,
            note: "",
        };
        let (mut one, mut two) = (Trace::new(1), Trace::new(1));
        one.record(entry(1));
        one.record(entry(2));
        two.record(entry(2));
        two.record(entry(1));
        assert_ne!(one.hash(), two.hash());
        for number in 0..TRACE_ENTRIES as u64 + 10 {
            one.record(entry(number));
        }
        let latest: Vec<u64> = one.latest().map(|entry| entry.number).collect();
        assert_eq!((latest[0], latest.len()), (10, TRACE_ENTRIES));
        assert_eq!(one.text(3, |_| "m".into()).lines().count(), 3);
    }
}
