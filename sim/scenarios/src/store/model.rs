//! What a store has to hold, kept outside of its world.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use woodchuck_io::RandomStream;
use woodchuck_storage::{BatchView, WriteBatch};

/// Keyspaces of each store.
pub(super) const KEYSPACES: usize = 3;

/// Keys that there are: few, so that most are written again and again.
const KEYS: u64 = 48;

/// The longest value or operand.
const VALUE_BYTES: u64 = 120;

/// Values that are joined to this length are overwritten.
const JOINED_BYTES: usize = 600;

pub(super) type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a commit does to one key, or to a range of keys. A commit has one for a key at most.
#[derive(Clone, Debug)]
enum Change {
    Put(Vec<u8>, Vec<u8>),
    /// A value that has ended long ago.
    PutEnded(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    Append(Vec<u8>, Vec<u8>),
    DeleteRange(Vec<u8>, Vec<u8>),
}

/// A commit on its way.
struct Submitted {
    id: u64,
    changes: [Vec<Change>; KEYSPACES],
    bytes: Vec<u8>,
}

/// What was done, over all processes.
#[derive(Default)]
pub(super) struct Told {
    pub(super) acknowledged: u64,
    pub(super) found_unacknowledged: u64,
    pub(super) lost_unacknowledged: u64,
    pub(super) replayed: u64,
    pub(super) reads: u64,
    pub(super) walks: u64,
    pub(super) snapshot_reads: u64,
    pub(super) flushes: u64,
    pub(super) compactions: u64,
    pub(super) files_removed: u64,
    pub(super) refused: u64,
    pub(super) orphans: u64,
}

/// All that was acknowledged, and what may have become durable besides.
#[derive(Default)]
pub(super) struct Model {
    states: [State; KEYSPACES],
    /// The last commit of which that is certain.
    newest: u64,
    in_flight: VecDeque<Submitted>,
    next_id: u64,
    pub(super) told: Told,
}

fn key(number: u64) -> Vec<u8> {
    // Some are prefixes of others, and some are long.
    let name = format!("{:02}", number % 12);
    match number / 12 {
        0 => name.into_bytes(),
        1 => [name.as_bytes(), b"\0"].concat(),
        2 => [name.as_bytes(), &[0xFF; 3]].concat(),
        _ => [name.as_bytes(), &[b'x'; 90]].concat(),
    }
}

/// A key that there may be.
pub(super) fn draw_key(random: &mut RandomStream) -> Vec<u8> {
    key(random.below(KEYS))
}

impl Model {
    /// Makes up a commit: its number, and its bytes.
    pub(super) fn compose(&mut self, random: &mut RandomStream, ids: &[u64; KEYSPACES]) -> Commit {
        let id = self.next_id;
        self.next_id += 1;
        let changes: [Vec<Change>; KEYSPACES] =
            std::array::from_fn(|which| self.draw(random, which, id));
        let mut batch = WriteBatch::new();
        for (keyspace, changes) in ids.iter().zip(&changes) {
            for change in changes {
                let taken = match change {
                    Change::Put(key, value) => batch.put(*keyspace, key, value),
                    Change::PutEnded(key, value) => batch.put_expiring(*keyspace, key, value, 1),
                    Change::Delete(key) => batch.delete(*keyspace, key),
                    Change::Append(key, operand) => batch.merge(*keyspace, key, operand),
                    Change::DeleteRange(start, end) => batch.delete_range(*keyspace, start, end),
                };
                taken.expect("it is within all bounds");
            }
        }
        let mut bytes = Vec::new();
        batch.encode(&mut bytes);
        Commit { id, changes, bytes }
    }

    fn draw(&self, random: &mut RandomStream, which: usize, id: u64) -> Vec<Change> {
        match random.below(30) {
            0 => {
                let (first, second) = (draw_key(random), draw_key(random));
                let (start, end) = (first.clone().min(second.clone()), first.max(second));
                return if start < end { vec![Change::DeleteRange(start, end)] } else { vec![] };
            }
            1..10 => return Vec::new(),
            _ => {}
        }
        let mut changes: BTreeMap<Vec<u8>, Change> = BTreeMap::new();
        for number in 0..1 + random.below(4) {
            let key = draw_key(random);
            let mut value = format!("{id:x}.{number};").into_bytes();
            value.resize(value.len() + random.below(VALUE_BYTES) as usize, b'.');
            let is_long = self.states[which].get(&key).is_some_and(|v| v.len() > JOINED_BYTES);
            let change = match random.below(8) {
                0 | 1 => Change::Delete(key.clone()),
                2 => Change::PutEnded(key.clone(), value),
                3 | 4 if !is_long => Change::Append(key.clone(), value),
                _ => Change::Put(key.clone(), value),
            };
            changes.insert(key, change);
        }
        changes.into_values().collect()
    }

    pub(super) fn submitted(&mut self, commit: Commit) {
        let Commit { id, changes, bytes } = commit;
        self.in_flight.push_back(Submitted { id, changes, bytes });
    }

    /// A commit is durable: those are acknowledged in the order of their submission. Gives its
    /// bytes.
    pub(super) fn acknowledged(&mut self, id: u64, sequence: u64) -> Result<Vec<u8>, String> {
        let Some(first) = self.in_flight.pop_front() else {
            return Err(format!("commit {id} was acknowledged, and none is in flight"));
        };
        if first.id != id || sequence <= self.newest {
            return Err(format!(
                "commit {id} was acknowledged at {sequence}; due is {} behind {}",
                first.id, self.newest
            ));
        }
        self.told.acknowledged += 1;
        self.apply(&first.changes, sequence);
        Ok(first.bytes)
    }

    /// What a log gave when it was opened, in its order.
    pub(super) fn opened(&mut self, found: &[(u64, Bytes)]) -> Result<(), String> {
        self.told.replayed += found.len() as u64;
        for (sequence, bytes) in found {
            if *sequence <= self.newest {
                continue;
            }
            let Some(first) = self.in_flight.pop_front() else {
                return Err(format!("commit {sequence} was found, and none was in flight"));
            };
            if first.bytes != bytes[..] {
                return Err(format!("commit {sequence} is another than that in flight"));
            }
            self.told.found_unacknowledged += 1;
            self.apply(&first.changes, *sequence);
        }
        self.told.lost_unacknowledged += self.in_flight.len() as u64;
        self.in_flight.clear();
        Ok(())
    }

    fn apply(&mut self, changes: &[Vec<Change>; KEYSPACES], sequence: u64) {
        self.newest = sequence;
        for (state, changes) in self.states.iter_mut().zip(changes) {
            for change in changes {
                match change {
                    Change::Put(key, value) => drop(state.insert(key.clone(), value.clone())),
                    Change::PutEnded(key, _) | Change::Delete(key) => drop(state.remove(key)),
                    Change::Append(key, operand) => {
                        state.entry(key.clone()).or_default().extend_from_slice(operand);
                    }
                    Change::DeleteRange(start, end) => {
                        state.retain(|key, _| key < start || key >= end);
                    }
                }
            }
        }
    }

    pub(super) const fn states(&self) -> &[State; KEYSPACES] {
        &self.states
    }
}

/// A commit that was made up.
pub(super) struct Commit {
    pub(super) id: u64,
    changes: [Vec<Change>; KEYSPACES],
    pub(super) bytes: Vec<u8>,
}

impl Commit {
    pub(super) fn view(bytes: &[u8]) -> BatchView<'_> {
        BatchView::parse(bytes).expect("it was encoded")
    }
}
