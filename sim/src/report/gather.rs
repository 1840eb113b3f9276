//! What the diagram draws: occurrences of the chronicle, cut to the latest, with what belongs
//! together matched.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::text::{push_json, push_list};
use crate::chronicle::{Chronicle, Happening as H};
use crate::scenario::Run;

/// Kinds of occurrences: those that a reader shows and hides together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// A process was killed, or its machine went down.
    Strike,
    /// A task panicked.
    Panic,
    /// A fault changed an outcome.
    Fault,
    /// A process was started, stopped or paused, or exited.
    Control,
    /// Something about a packet.
    Message,
    /// Something about a connection.
    Connection,
    /// A link was blocked or healed.
    Link,
    /// Something about a disk operation.
    Disk,
    /// Something about a client's operation.
    Operation,
    /// A note of the scenario.
    Note,
}

impl Kind {
    /// All kinds, in the order of their numbers, with the names of their colours in the style
    /// sheet.
    pub(super) const ALL: [(Self, &'static str, &'static str); 10] = [
        (Self::Strike, "strike", "strike"),
        (Self::Panic, "panic", "strike"),
        (Self::Fault, "fault", "fault"),
        (Self::Control, "control", "control"),
        (Self::Message, "message", "message"),
        (Self::Connection, "connection", "connection"),
        (Self::Link, "link", "fault"),
        (Self::Disk, "disk", "disk"),
        (Self::Operation, "operation", "operation"),
        (Self::Note, "note", "note"),
    ];

    const fn of(what: &H) -> Self {
        match what {
            H::Killed | H::OsCrashed | H::PowerCut => Self::Strike,
            H::TaskPanicked { .. } => Self::Panic,
            H::Started { .. }
            | H::Exited { .. }
            | H::AskedToStop
            | H::Paused
            | H::Resumed
            | H::Controlled { .. } => Self::Control,
            H::PacketSent { .. } | H::PacketArrived { .. } | H::PacketLost { .. } => Self::Message,
            H::ConnectionOpened { .. }
            | H::ConnectionRefused { .. }
            | H::ConnectionUnanswered { .. }
            | H::ConnectionReset { .. }
            | H::ConnectionClosed { .. } => Self::Connection,
            H::LinkBlocked { .. } | H::LinkHealed { .. } => Self::Link,
            H::DiskSubmitted { .. } | H::DiskHappened { .. } | H::DiskCompleted { .. } => {
                Self::Disk
            }
            H::OperationBegan { .. } | H::OperationEnded { .. } => Self::Operation,
            H::Note { .. } => Self::Note,
            // A fault, and what it did.
            _ => Self::Fault,
        }
    }
}

/// An occurrence as the diagram has it.
pub(super) struct Told {
    pub(super) time: u64,
    pub(super) lane: usize,
    pub(super) kind: Kind,
    pub(super) text: String,
}

/// Things are named by their places among the occurrences that are told. What began before them, or
/// never ended, has none there.
type Place = Option<usize>;

/// A packet, or a part of one.
pub(super) struct Message {
    sent: Place,
    arrived: Place,
    from: usize,
    to: usize,
    state: &'static str,
}

/// A disk operation.
#[derive(Default)]
pub(super) struct Work {
    submitted: Place,
    happened: Place,
    completed: Place,
    lane: usize,
    failed: bool,
}

/// An operation of a client.
pub(super) struct Act {
    began: Place,
    ended: Place,
    lane: usize,
    client: u32,
    outcome: &'static str,
}

/// A time in which a lane's machine was in one state.
pub(super) struct Life {
    pub(super) lane: usize,
    pub(super) from: u64,
    pub(super) to: u64,
    /// `running`, `paused`, `down` after a strike, or `none`.
    pub(super) state: &'static str,
}

/// All that the diagram draws.
#[derive(Default)]
pub(super) struct Gathered {
    /// The times of the first and the last thing that is drawn.
    pub(super) start: u64,
    pub(super) end: u64,
    /// When a property was violated, or when the run ended.
    pub(super) moment: u64,
    pub(super) violated: bool,
    pub(super) label: String,
    pub(super) lanes: Vec<String>,
    pub(super) told: Vec<Told>,
    pub(super) messages: Vec<Message>,
    pub(super) works: Vec<Work>,
    pub(super) acts: Vec<Act>,
    pub(super) lives: Vec<Life>,
    /// Occurrences that are not told.
    pub(super) cut: u64,
}

/// Nanoseconds since the world began.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Matches what belongs together in the latest `most` occurrences.
pub(super) fn gather(run: &Run, chronicle: &Chronicle, most: usize) -> Gathered {
    let all = &chronicle.occurrences;
    let cut = all.len().saturating_sub(most);
    let told = &all[cut..];
    let end = nanoseconds(run.elapsed);
    let first = told.first().map_or(0, |first| nanoseconds(first.time));
    let violation = run.violation();
    let moment = violation.map_or(end, |violation| nanoseconds(violation.time));
    let mut lanes: Vec<(usize, usize)> =
        all.iter().map(|occurrence| (occurrence.machine, occurrence.shard)).collect();
    lanes.sort_unstable();
    lanes.dedup();
    let mut gatherer =
        Gatherer { chronicle, lanes: &lanes, open: BTreeMap::new(), gathered: Gathered::default() };
    told.iter().for_each(|occurrence| gatherer.take(occurrence));
    let mut gathered = gatherer.gathered;
    gathered.start = if cut == 0 && chronicle.forgotten == 0 { 0 } else { first };
    gathered.end = end.max(moment);
    gathered.moment = moment;
    gathered.violated = violation.is_some();
    gathered.label = violation.map_or_else(|| "end".to_owned(), |it| it.property.clone());
    gathered.lives = lives(chronicle, &lanes, gathered.start, gathered.end);
    gathered.cut = cut as u64 + chronicle.forgotten;
    let name =
        |&(machine, shard): &(usize, usize)| format!("{}/{shard}", chronicle.machine_name(machine));
    gathered.lanes = lanes.iter().map(name).collect();
    gathered
}

/// What has begun and not ended, by kind and number, with its place in the list of its kind.
type Open = BTreeMap<(Numbered, u64), usize>;

/// What has numbers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Numbered {
    Packet,
    Disk,
    Operation,
}

struct Gatherer<'a> {
    chronicle: &'a Chronicle,
    lanes: &'a [(usize, usize)],
    open: Open,
    gathered: Gathered,
}

impl Gatherer<'_> {
    fn lane(&self, machine: usize, shard: usize) -> usize {
        // Who is spoken of may never have told anything: then the nearest lane stands for it.
        let exact = self.lanes.binary_search(&(machine, shard));
        exact.unwrap_or_else(|place| place.min(self.lanes.len().saturating_sub(1)))
    }

    fn take(&mut self, occurrence: &crate::chronicle::Occurrence) {
        let place = self.gathered.told.len();
        let lane = self.lane(occurrence.machine, occurrence.shard);
        self.match_up(&occurrence.what, place, lane);
        self.gathered.told.push(Told {
            time: nanoseconds(occurrence.time),
            lane,
            kind: Kind::of(&occurrence.what),
            text: self.chronicle.describe(&occurrence.what),
        });
    }

    fn match_up(&mut self, what: &H, place: usize, lane: usize) {
        let here = Some(place);
        match *what {
            H::PacketSent { packet, to, .. } => {
                let to = self.lane(to, 0);
                self.open.insert((Numbered::Packet, packet), self.gathered.messages.len());
                let state = "flying";
                self.gathered.messages.push(Message {
                    sent: here,
                    arrived: None,
                    from: lane,
                    to,
                    state,
                });
            }
            H::PacketArrived { packet, from, .. } => {
                self.received(packet, from, "arrived", place, lane)
            }
            H::PacketLost { packet, from, .. } => self.received(packet, from, "lost", place, lane),
            H::DiskSubmitted { operation, .. } => {
                self.open.insert((Numbered::Disk, operation), self.gathered.works.len());
                self.gathered.works.push(Work { submitted: here, lane, ..Work::default() });
            }
            H::DiskHappened { operation, error } => {
                let work = self.work(operation, lane);
                work.happened = here;
                work.failed |= error.is_some();
            }
            H::DiskCompleted { operation, error, .. } => {
                let work = self.work(operation, lane);
                work.completed = here;
                work.failed |= error.is_some();
            }
            H::OperationBegan { operation, client, .. } => {
                let acts = &mut self.gathered.acts;
                self.open.insert((Numbered::Operation, operation.number()), acts.len());
                acts.push(Act { began: here, ended: None, lane, client, outcome: "open" });
            }
            H::OperationEnded { operation, client, ref outcome } => {
                let index = self.open.remove(&(Numbered::Operation, operation.number()));
                let acts = &mut self.gathered.acts;
                let index = index.unwrap_or_else(|| {
                    acts.push(Act { began: None, ended: None, lane, client, outcome: "open" });
                    acts.len() - 1
                });
                acts[index].ended = here;
                acts[index].outcome = judged(outcome);
            }
            _ => {}
        }
    }

    /// A packet, or a part of one, has come to its end on this lane.
    fn received(
        &mut self,
        packet: u64,
        from: usize,
        state: &'static str,
        place: usize,
        lane: usize,
    ) {
        let arrived = Some(place);
        let messages = &mut self.gathered.messages;
        let open =
            self.open.get(&(Numbered::Packet, packet)).map(|index| (*index, &messages[*index]));
        match open {
            Some((index, message)) if message.arrived.is_none() => {
                let message = &mut messages[index];
                (message.arrived, message.to, message.state) = (arrived, lane, state);
            }
            // Another part of a packet that was sent once.
            Some((_, message)) => {
                let (sent, from) = (message.sent, message.from);
                messages.push(Message { sent, arrived, from, to: lane, state });
            }
            None => {
                let from = self.lane(from, 0);
                let message = Message { sent: None, arrived, from, to: lane, state };
                self.gathered.messages.push(message);
            }
        }
    }

    fn work(&mut self, operation: u64, lane: usize) -> &mut Work {
        let works = &mut self.gathered.works;
        let index = *self.open.entry((Numbered::Disk, operation)).or_insert_with(|| {
            works.push(Work { lane, ..Work::default() });
            works.len() - 1
        });
        &mut works[index]
    }
}

/// What came of a client's operation, by the first word of what it says itself.
fn judged(outcome: &str) -> &'static str {
    if outcome.starts_with("ok") || outcome.starts_with("answered") {
        "good"
    } else if outcome.starts_with("unknown") {
        "open"
    } else {
        "bad"
    }
}

/// The states of all lanes from `start` to `end`. What happened before that decides how they begin.
fn lives(chronicle: &Chronicle, lanes: &[(usize, usize)], start: u64, end: u64) -> Vec<Life> {
    let mut lives = Vec::new();
    let machines = chronicle.machines.len();
    let mut states = vec![("none", start); machines];
    let mut close = |machine: usize, (state, from): (&'static str, u64), to: u64| {
        let mine = lanes.iter().enumerate().filter(|(_, (owner, _))| *owner == machine);
        if to > from {
            lives.extend(mine.map(|(lane, _)| Life { lane, from, to, state }));
        }
    };
    for occurrence in &chronicle.occurrences {
        let state = match occurrence.what {
            H::Started { .. } | H::Resumed => "running",
            H::Exited { .. } => "none",
            H::Paused => "paused",
            H::Killed | H::OsCrashed | H::PowerCut => "down",
            _ => continue,
        };
        let Some(before) = states.get_mut(occurrence.machine) else { continue };
        let now = nanoseconds(occurrence.time).max(start);
        close(occurrence.machine, *before, now);
        *before = (state, now);
    }
    states.into_iter().enumerate().for_each(|(machine, state)| close(machine, state, end));
    lives.sort_by_key(|life| (life.lane, life.from));
    lives
}

impl Gathered {
    /// Writes it down for the script.
    pub(super) fn write_json(&self, json: &mut String) {
        // Writing to a string does not fail, here and below.
        let _ = write!(
            json,
            "{{\"start\":{},\"end\":{},\"moment\":{},\"violated\":{},\"label\":",
            self.start, self.end, self.moment, self.violated
        );
        push_json(json, &self.label);
        json.push_str(",\"lanes\":");
        push_list(json, &self.lanes, |json, lane| push_json(json, lane));
        json.push_str(",\"kinds\":");
        push_list(json, Kind::ALL, |json, (_, name, color)| {
            let _ = write!(json, "{{\"name\":\"{name}\",\"color\":\"{color}\"}}");
        });
        json.push_str(",\n\"occurrences\":");
        push_list(json, &self.told, |json, told| {
            let _ = write!(json, "\n[{},{},{},", told.time, told.lane, told.kind as u8);
            push_json(json, &told.text);
            json.push(']');
        });
        self.write_matched(json);
        json.push('}');
    }

    fn write_matched(&self, json: &mut String) {
        let place = |place: Place| place.map_or(-1, |place| place as i64);
        json.push_str(",\n\"messages\":");
        push_list(json, &self.messages, |json, it| {
            let (sent, arrived) = (place(it.sent), place(it.arrived));
            let _ = write!(json, "[{sent},{arrived},{},{},\"{}\"]", it.from, it.to, it.state);
        });
        json.push_str(",\n\"disk\":");
        push_list(json, &self.works, |json, it| {
            let (submitted, happened) = (place(it.submitted), place(it.happened));
            let (completed, failed) = (place(it.completed), u8::from(it.failed));
            let _ = write!(json, "[{submitted},{happened},{completed},{},{failed}]", it.lane);
        });
        json.push_str(",\n\"operations\":");
        push_list(json, &self.acts, |json, it| {
            let (began, ended) = (place(it.began), place(it.ended));
            let _ = write!(json, "[{began},{ended},{},{},\"{}\"]", it.lane, it.client, it.outcome);
        });
        json.push_str(",\n\"lives\":");
        push_list(json, &self.lives, |json, life| {
            let Life { lane, from, to, state } = life;
            let _ = write!(json, "[{lane},{from},{to},\"{state}\"]");
        });
    }
}
