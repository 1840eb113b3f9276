//! What happened: a hash over all of it, and the latest of it for people.
//!
//! Two runs of one seed must give the same hash. If they do not, something that the world does not
//! control got in: a hash order, an address, a real clock. To find out where, the hash is kept every
//! [`CHECKPOINT_EVENTS`] events, and a run can keep all of one window of events, its choices too:
//! see [`diverge`](crate::diverge).

use std::fmt::{self, Write as _};
use std::ops::Range;
use std::time::Duration;

use crate::event::EventKind;
use crate::limits::{CHECKPOINT_EVENTS, SHARDS, TRACE_ENTRIES};
use crate::site::{Site, SiteClass};
use crate::world::World;

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

/// One thing that happened, or one choice that was made, in a window of events that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceEntry {
    /// How many events happened before it.
    pub event: u64,
    /// Time since the world began; of a choice, that of the latest event.
    pub time: Duration,
    /// Machine and shard, or the number of the node where a scenario chose.
    pub place: String,
    /// What it was.
    pub what: Traced,
}

/// What a [`TraceEntry`] tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Traced {
    /// Something happened.
    Event {
        /// What kind of thing.
        kind: EventKind,
        /// The task, the operation, the connection.
        number: u64,
        /// The task's name, or what else is known.
        note: &'static str,
    },
    /// Bytes were handed to the disk or to the network.
    Contents {
        /// How many.
        bytes: u64,
        /// A hash of them.
        hash: u64,
    },
    /// Something was chosen.
    Choice {
        /// Where.
        site: Site,
        /// What came of it.
        value: u64,
    },
}

impl fmt::Display for TraceEntry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { event, time, place, what } = self;
        let time = time.as_nanos() as f64 / 1_000_000.0;
        write!(formatter, "{event:>9} {time:>14.6} ms  {place}  ")?;
        match what {
            Traced::Event { kind, number, note } => {
                let line = format!("{:<11} {number} {note}", kind.name());
                formatter.write_str(line.trim_end())
            }
            Traced::Contents { bytes, hash } => {
                write!(formatter, "{:<11} {bytes} bytes, hash {hash:016x}", "contents")
            }
            Traced::Choice { site, value } => {
                write!(formatter, "{:<11} {} = {value}", "choice", site.name())
            }
        }
    }
}

/// What is kept of a window of events.
enum Kept {
    Event(Entry),
    Choice { time: u64, site: Site, node: u32, value: u64 },
    Contents { time: u64, node: u32, bytes: u64, hash: u64 },
}

/// A window of events of which everything is kept.
struct Window {
    events: Range<u64>,
    /// With how many events happened before each.
    kept: Vec<(u64, Kept)>,
}

/// The rolling hash and the ring of the latest entries.
pub(crate) struct Trace {
    hash: u64,
    /// Events recorded.
    events: u64,
    /// When the latest of them happened.
    latest_time: u64,
    /// The hash after so many events, and after twice as many, and so on.
    checkpoints: Vec<u64>,
    window: Option<Box<Window>>,
    /// Whether what is written and sent is hashed too.
    hashes_contents: bool,
    ring: Vec<Entry>,
    /// Where in the ring the next entry goes, once it is full.
    next: usize,
}

impl Trace {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            hash: seed ^ 0x51_7C_C1_B7_27_22_0A_95,
            events: 0,
            latest_time: 0,
            checkpoints: Vec::new(),
            window: None,
            hashes_contents: false,
            ring: Vec::new(),
            next: 0,
        }
    }

    /// Keeps all of these events, and the choices made among them; and hashes contents or not.
    pub(crate) fn keep(&mut self, events: Option<Range<u64>>, hashes_contents: bool) {
        self.hashes_contents = hashes_contents;
        self.window = events.map(|events| Box::new(Window { events, kept: Vec::new() }));
    }

    fn keep_one(&mut self, one: Kept) {
        if let Some(window) = &mut self.window
            && window.events.contains(&self.events)
        {
            window.kept.push((self.events, one));
        }
    }

    fn mix(&mut self, word: u64) {
        self.hash = (self.hash.rotate_left(5) ^ word).wrapping_mul(0x51_7C_C1_B7_27_22_0A_95);
    }

    /// Takes note of a choice: hashed, but not kept in the ring.
    pub(crate) fn choice(&mut self, site: Site, node: u32, value: u64) {
        self.mix(u64::from(site as u8) << 56 ^ u64::from(node) << 32 ^ value);
        if self.window.is_some() {
            self.keep_one(Kept::Choice { time: self.latest_time, site, node, value });
        }
    }

    /// Takes note of bytes that are written or sent, if contents are hashed.
    #[inline]
    pub(crate) fn contents<'a>(&mut self, node: u32, parts: impl Iterator<Item = &'a [u8]>) {
        if self.hashes_contents {
            self.hash_contents(node, parts);
        }
    }

    fn hash_contents<'a>(&mut self, node: u32, parts: impl Iterator<Item = &'a [u8]>) {
        let (mut bytes, mut hash) = (0, 0_u64);
        for part in parts {
            bytes += part.len() as u64;
            for word in part.chunks(8) {
                let mut whole = [0; 8];
                whole[..word.len()].copy_from_slice(word);
                hash = (hash.rotate_left(5) ^ u64::from_le_bytes(whole))
                    .wrapping_mul(0x51_7C_C1_B7_27_22_0A_95);
            }
        }
        self.mix(hash ^ bytes);
        if self.window.is_some() {
            self.keep_one(Kept::Contents { time: self.latest_time, node, bytes, hash });
        }
    }

    /// Takes note of something that happened.
    pub(crate) fn record(&mut self, entry: Entry) {
        self.mix(entry.time);
        let place = u64::from(entry.machine) << 16 ^ u64::from(entry.shard);
        self.mix(u64::from(entry.kind as u8) << 56 ^ place << 24 ^ entry.number);
        if self.window.is_some() {
            self.keep_one(Kept::Event(entry));
        }
        self.events += 1;
        self.latest_time = entry.time;
        if self.events.is_multiple_of(CHECKPOINT_EVENTS) {
            self.checkpoints.push(self.hash);
        }
        if self.ring.len() < TRACE_ENTRIES {
            self.ring.push(entry);
        } else {
            self.ring[self.next] = entry;
            self.next = (self.next + 1) % TRACE_ENTRIES;
        }
    }

    /// How many entries there were.
    pub(crate) fn recorded(&self) -> u64 {
        self.events
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// The entries of the window that was kept, if one was.
    fn kept(&self, machine_name: impl Fn(u32) -> String) -> Vec<TraceEntry> {
        let place = |machine, shard| format!("{}/{shard}", machine_name(machine));
        let kept = self.window.iter().flat_map(|window| &window.kept);
        let entries = kept.map(|(event, kept)| {
            let (time, place, what) = match *kept {
                Kept::Event(Entry { time, kind, machine, shard, number, note }) => {
                    (time, place(machine, shard), Traced::Event { kind, number, note })
                }
                Kept::Contents { time, node, bytes, hash } => {
                    let place = place(node / SHARDS as u32, node % SHARDS as u32);
                    (time, place, Traced::Contents { bytes, hash })
                }
                Kept::Choice { time, site, node, value } => {
                    let ours = matches!(site.class(), SiteClass::Plan | SiteClass::Workload);
                    let place = if ours {
                        format!("node {node}")
                    } else {
                        place(node / SHARDS as u32, node % SHARDS as u32)
                    };
                    (time, place, Traced::Choice { site, value })
                }
            };
            TraceEntry { event: *event, time: Duration::from_nanos(time), place, what }
        });
        entries.collect()
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

/// What is left of a run to compare it with another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceRun {
    /// How many events there were.
    pub events: u64,
    /// The hash over all of them, and over all choices.
    pub hash: u64,
    /// The hash after every [`CHECKPOINT_EVENTS`] events.
    pub checkpoints: Vec<u64>,
    /// The entries of the window that was kept, if one was.
    pub window: Vec<TraceEntry>,
}

impl World {
    /// The [hash](Self::trace_hash) as it was after every [`CHECKPOINT_EVENTS`] events.
    #[must_use]
    pub fn checkpoints(&self) -> Vec<u64> {
        self.shared().with(|core| core.kernel.trace.checkpoints.clone())
    }

    /// All events and choices of the [window](crate::WorldOptions::trace_window) that was to be
    /// kept.
    #[must_use]
    pub fn traced_window(&self) -> Vec<TraceEntry> {
        self.shared().with(|core| {
            let machines = &core.machines;
            core.kernel.trace.kept(|machine| {
                machines.get(machine as usize).map_or("?", |machine| &machine.name).to_owned()
            })
        })
    }

    /// What [`diverge::compare`](crate::diverge::compare) needs to know of a run.
    #[must_use]
    pub fn trace_run(&self) -> TraceRun {
        let window = self.traced_window();
        self.shared().with(|core| {
            let trace = &core.kernel.trace;
            TraceRun {
                events: trace.events,
                hash: trace.hash,
                checkpoints: trace.checkpoints.clone(),
                window,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_are_the_hash_as_it_was() {
        let mut trace = Trace::new(1);
        let mut expected = Vec::new();
        for number in 0..3 * CHECKPOINT_EVENTS + 1 {
            trace.choice(Site::Task, 0, number);
            let (kind, machine, shard, note) = (EventKind::Timer, 0, 0, "");
            trace.record(Entry { time: number, kind, machine, shard, number, note });
            if (number + 1) % CHECKPOINT_EVENTS == 0 {
                expected.push(trace.hash());
            }
        }
        assert_eq!(expected.len(), 3);
        assert_eq!(trace.checkpoints, expected);
    }

    #[test]
    fn the_hash_depends_on_all_of_an_event_but_its_note() {
        let plain = Entry {
            time: 1,
            kind: EventKind::Timer,
            machine: 1,
            shard: 1,
            number: 1,
            note: "timer",
        };
        let hash = |entry| {
            let mut trace = Trace::new(1);
            trace.record(entry);
            trace.hash()
        };
        assert_eq!(hash(Entry { note: "", ..plain }), hash(plain));
        assert_ne!(hash(Entry { time: 2, ..plain }), hash(plain));
        assert_ne!(hash(Entry { kind: EventKind::Poll, ..plain }), hash(plain));
        assert_ne!(hash(Entry { machine: 2, ..plain }), hash(plain));
        assert_ne!(hash(Entry { shard: 2, ..plain }), hash(plain));
        assert_ne!(hash(Entry { number: 2, ..plain }), hash(plain));
    }

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
