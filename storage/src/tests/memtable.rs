//! Memtables beside a sorted map, with entries that come between the steps of cursors.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};

use woodchuck_io::RandomStream;

use super::history::{History, Key, Value, Version, draw_key};
use super::place::{create, open, quiet, random, run_in};
use crate::limits::{KEY_BYTES, MEMTABLE_COPIED_BYTES};
use crate::{
    BlockCache, Bounds, Entry, Kind, Memtable, MemtableCursor, Operands, ReadOptions, TableOptions,
    WriteBatch,
};

type Model = BTreeMap<Key, Value>;

/// What keys look like.
#[derive(Clone, Debug)]
enum Keys {
    /// As in tests of tables: few bytes, long ones seldom.
    Mixed,
    /// All begin with the same; then few bytes of few letters, so that some differ in their length
    /// alone, and zeros stand at the end of many.
    Shared(Vec<u8>),
    /// Two levels, either with numbers.
    Grouped(u64),
    /// Each behind the one before, or in front of it.
    InOrder { ascending: bool, next: u64 },
    /// Each behind the one before of the same group.
    InGroupsInOrder(Vec<u64>),
    /// Eight bytes and more, all over.
    Random,
    /// They share less and less: the first all but the last byte, and so on.
    Falling(u64),
}

impl Keys {
    fn draw_kind(random: &mut RandomStream) -> Self {
        match random.below(8) {
            0 => Self::Mixed,
            1 | 2 => Self::Shared(vec![
                [0, b's', 0xff][random.below(3) as usize];
                random.below(40) as usize
            ]),
            3 => Self::Grouped(1 + random.below(200)),
            4 => Self::InOrder {
                ascending: random.below(2) == 0,
                next: random.below(1 << 40) + (1 << 20),
            },
            5 => Self::InGroupsInOrder(vec![0; 1 + random.below(8) as usize]),
            6 => Self::Falling(0),
            _ => Self::Random,
        }
    }

    fn draw(&mut self, random: &mut RandomStream) -> Vec<u8> {
        match self {
            Self::Mixed => draw_key(random),
            Self::Shared(shared) => {
                let mut key = shared.clone();
                let letters = random.below(10);
                key.extend((0..letters).map(|_| [0, 0, 1, b'a', 0xff][random.below(5) as usize]));
                key
            }
            Self::Grouped(groups) => {
                format!("group-{:05}/member-{:06}", random.below(*groups), random.below(500)).into()
            }
            Self::InOrder { ascending, next } => {
                *next = if *ascending {
                    *next + 1 + random.below(3)
                } else {
                    *next - 1 - random.below(3)
                };
                [b"number/", &next.to_be_bytes()[..]].concat()
            }
            Self::InGroupsInOrder(groups) => {
                let group = random.below(groups.len() as u64) as usize;
                groups[group] += 1 + random.below(2);
                [&[b'g', group as u8][..], &groups[group].to_be_bytes()].concat()
            }
            Self::Random => {
                let mut key = vec![0; 8 + random.below(12) as usize];
                random.fill(&mut key);
                key
            }
            Self::Falling(count) => {
                *count += 1;
                let mut key = vec![b'f'; 600_usize.saturating_sub(*count as usize / 4)];
                key.extend_from_slice(&random.next_u64().to_be_bytes()[..random.below(9) as usize]);
                key
            }
        }
    }
}

struct Pair {
    memtable: Memtable,
    model: Model,
    keys: Keys,
    /// Keys that were drawn, to be drawn again.
    drawn: Vec<Vec<u8>>,
}

impl Pair {
    fn new(keys: Keys) -> Self {
        Self { memtable: Memtable::new(), model: Model::new(), keys, drawn: Vec::new() }
    }

    /// A key that is there, or is near one.
    fn near(&mut self, random: &mut RandomStream) -> Vec<u8> {
        if self.drawn.is_empty() || random.below(8) == 0 {
            // Not drawn from the keys themselves: those in order would go on.
            return draw_key(random);
        }
        let mut key = self.drawn[random.below(self.drawn.len() as u64) as usize].clone();
        match random.below(8) {
            0 => key.push([0, b'a', 0xff][random.below(3) as usize]),
            1 => drop(key.pop()),
            2 => key.truncate(random.below(12) as usize),
            3 => {
                if let Some(last) = key.last_mut() {
                    *last = last.wrapping_add(1);
                }
            }
            _ => {}
        }
        key
    }

    fn insert(&mut self, random: &mut RandomStream) {
        let is_again = !self.drawn.is_empty() && random.below(4) == 0;
        let user_key = if is_again { self.near(random) } else { self.keys.draw(random) };
        let kind = Kind::ALL[random.below(5) as usize];
        let sequence = if random.below(20) == 0 { random.next_u64() } else { random.below(60) };
        let version = Version { sequence, kind };
        let expiry = (kind == Kind::ExpiringValue).then(|| random.next_u64());
        let longest = if random.below(40) == 0 { 3 * MEMTABLE_COPIED_BYTES } else { 30 };
        let value = vec![random.below(256) as u8; random.below(longest as u64) as usize];
        if self.model.contains_key(&(user_key.clone(), version)) {
            return;
        }
        let (expires_at_ms, value_slice) = (expiry, &value[..]);
        self.memtable.insert(&Entry {
            user_key: &user_key,
            sequence,
            kind,
            expires_at_ms,
            value: value_slice,
        });
        self.drawn.push(user_key.clone());
        self.model.insert((user_key, version), (expiry, value));
    }

    fn check_point(&mut self, random: &mut RandomStream) {
        let (key, snapshot) = (self.near(random), draw_snapshot(random));
        let first = (key.clone(), Version { sequence: snapshot, kind: Kind::RangeDeletion });
        let expected = self.model.range(first..).next().filter(|((found, _), _)| *found == key);
        let found = self.memtable.get(&key, snapshot).map(|found| {
            let version = Version { sequence: found.sequence, kind: found.kind };
            ((key.clone(), version), (found.expires_at_ms, found.value.to_vec()))
        });
        assert_eq!(found, expected.map(|(key, value)| (key.clone(), value.clone())));
    }

    /// Everything, both ways.
    fn check_scans(&self) {
        let mut cursor = self.memtable.cursor(Bounds::all());
        cursor.seek_to_first();
        for (key, value) in &self.model {
            assert_eq!(here(&cursor), Some((key.clone(), value.clone())));
            cursor.next();
        }
        assert_eq!(here(&cursor), None);
        cursor.seek_to_last();
        for (key, value) in self.model.iter().rev() {
            assert_eq!(here(&cursor), Some((key.clone(), value.clone())));
            cursor.prev();
        }
        assert_eq!(here(&cursor), None);
        assert_eq!(self.memtable.entries(), self.model.len() as u64);
        let sequences = || self.model.keys().map(|(_, version)| version.sequence);
        let expected = sequences().min().zip(sequences().max());
        assert_eq!(self.memtable.sequences(), expected);
        assert_eq!(self.memtable.is_empty(), self.model.is_empty());
    }

    /// Seeks and steps of all kinds, in bounds of all kinds, with entries that come meanwhile.
    fn walk(&mut self, random: &mut RandomStream, inserts: u64) {
        let mut lower = (random.below(3) == 0).then(|| self.near(random));
        let mut upper = (random.below(3) == 0).then(|| self.near(random));
        let mut bounds = Bounds::range(lower.as_deref(), upper.as_deref());
        if random.below(4) == 0 {
            let mut prefix = self.near(random);
            prefix.truncate(random.below(12) as usize);
            bounds = Bounds::prefix(&prefix);
            // Behind all keys that begin so: no key is longer.
            let behind = [prefix.clone(), vec![0xff; KEY_BYTES]].concat();
            (lower, upper) = (Some(prefix), Some(behind));
        }
        let sees = |key: &Key| {
            lower.as_ref().is_none_or(|lower| key.0 >= *lower)
                && upper.as_ref().is_none_or(|upper| key.0 < *upper)
        };
        let mut cursor = self.memtable.cursor(bounds);
        let mut at: Option<Key> = None;
        for _ in 0..40 {
            for _ in 0..random.below(inserts + 1) {
                self.insert(random);
            }
            let (key, snapshot) = (self.near(random), draw_snapshot(random));
            let model = &self.model;
            let all = || model.keys().filter(|key| sees(key));
            match random.below(14) {
                0 => {
                    cursor.seek_to_first();
                    at = all().next().cloned();
                }
                1 => {
                    cursor.seek_to_last();
                    at = all().next_back().cloned();
                }
                2 | 3 => {
                    cursor.seek(&key, snapshot);
                    let from = (key, Version { sequence: snapshot, kind: Kind::RangeDeletion });
                    at = model.range(from..).map(|(key, _)| key).find(|key| sees(key)).cloned();
                }
                4 | 5 => {
                    cursor.seek_for_prev(&key);
                    let to = (key, Version { sequence: 0, kind: Kind::Deletion });
                    let mut before = model.range(..=to).map(|(key, _)| key);
                    at = before.rfind(|key| sees(key)).cloned();
                }
                6..10 => {
                    cursor.next();
                    let behind = at.map(|at| (Bound::Excluded(at), Bound::Unbounded));
                    let next = behind.and_then(|behind| model.range(behind).next());
                    at = next.map(|(key, _)| key).filter(|key| sees(key)).cloned();
                }
                _ => {
                    cursor.prev();
                    let before = at.and_then(|at| model.range(..at).next_back());
                    at = before.map(|(key, _)| key).filter(|key| sees(key)).cloned();
                }
            }
            let expected = at.clone().map(|key| (key.clone(), model[&key].clone()));
            assert_eq!(here(&cursor), expected);
        }
    }
}

fn draw_snapshot(random: &mut RandomStream) -> u64 {
    if random.below(4) == 0 { u64::MAX } else { random.below(62) }
}

fn here(cursor: &MemtableCursor) -> Option<(Key, Value)> {
    let Some(entry) = cursor.entry() else {
        assert_eq!(cursor.value(), None);
        return None;
    };
    let version = Version { sequence: entry.sequence, kind: entry.kind };
    assert_eq!(cursor.value().as_deref(), Some(entry.value));
    Some(((entry.user_key.to_vec(), version), (entry.expires_at_ms, entry.value.to_vec())))
}

#[test]
fn memtables_answer_as_a_sorted_map_does() {
    for seed in 0..400 {
        let mut random = random(seed);
        let keys = Keys::draw_kind(&mut random);
        println!("seed {seed}: {keys:?}");
        let mut pair = Pair::new(keys);
        pair.check_scans();
        for _ in 0..[1, 20, 300, 2000, 6000][random.below(5) as usize] {
            pair.insert(&mut random);
        }
        for _ in 0..6 {
            pair.walk(&mut random, 0);
            for inserts in [1, 3, 40] {
                pair.walk(&mut random, inserts);
            }
        }
        for _ in 0..200 {
            pair.check_point(&mut random);
        }
        pair.check_scans();
        pair.memtable.freeze();
        pair.walk(&mut random, 0);
    }
}

/// With levels enough that inner nodes split, too.
#[test]
fn large_memtables_answer_as_a_sorted_map_does() {
    let counting = |ascending, next| Keys::InOrder { ascending, next };
    for (seed, keys) in [
        Keys::Random,
        counting(true, 0),
        counting(false, 1 << 30),
        Keys::InGroupsInOrder(vec![0; 5]),
        Keys::Grouped(2000),
    ]
    .into_iter()
    .enumerate()
    {
        let mut random = random(seed as u64);
        println!("seed {seed}: {keys:?}");
        let mut pair = Pair::new(keys);
        for _ in 0..150_000 {
            pair.insert(&mut random);
        }
        for _ in 0..2000 {
            pair.check_point(&mut random);
        }
        pair.check_scans();
    }
}

/// Keys of which each begins with the one before, whatever comes first.
#[test]
fn keys_that_differ_in_length_alone_keep_their_order() {
    for letter in [0, b'k', 0xff] {
        for step in [1, 7, 37] {
            let mut memtable = Pair::new(Keys::Random);
            for number in 0..300_usize {
                let user_key = vec![letter; number * step % 300];
                let (sequence, kind, expires_at_ms) = (5, Kind::Value, None);
                let value = &number.to_be_bytes()[..];
                let entry = Entry { user_key: &user_key, sequence, kind, expires_at_ms, value };
                memtable.memtable.insert(&entry);
                let version = Version { sequence, kind };
                memtable.model.insert((user_key, version), (None, value.to_vec()));
            }
            memtable.check_scans();
            for length in 0..301 {
                let found = memtable.memtable.get(&vec![letter; length], 5);
                assert_eq!(found.is_some(), length < 300, "{length} of {letter}");
            }
        }
    }
}

#[test]
fn the_longest_keys_and_values_have_room() {
    let memtable = Memtable::new();
    let entries =
        [(KEY_BYTES, 0), (KEY_BYTES, 1), (0, MEMTABLE_COPIED_BYTES), (0, 0), (9, 5 << 20)];
    for (number, (key_bytes, value_bytes)) in entries.into_iter().enumerate() {
        let (key, value) = (vec![number as u8; key_bytes], vec![number as u8; value_bytes]);
        let sequence = 1 + number as u64;
        let (user_key, kind, expires_at_ms) = (&key[..], Kind::ExpiringValue, Some(u64::MAX));
        memtable.insert(&Entry { user_key, sequence, kind, expires_at_ms, value: &value });
        let found = memtable.get(&key, sequence).expect("it was inserted");
        assert_eq!((&found.value[..], found.expires_at_ms), (&value[..], expires_at_ms));
    }
    let held: usize = entries.iter().map(|(key, value)| key + value).sum();
    assert!(memtable.bytes() > held && memtable.bytes() < held + 16_384, "{}", memtable.bytes());
}

#[test]
fn an_empty_memtable_is_small_and_a_full_one_not_much_larger_than_its_content() {
    assert_eq!(Memtable::new().bytes(), 0);
    let mut random = random(1);
    for mut keys in [Keys::Random, Keys::InOrder { ascending: true, next: 0 }] {
        let memtable = Memtable::new();
        let mut content = 0;
        for sequence in 0..20_000 {
            let key = keys.draw(&mut random);
            let (user_key, kind, expires_at_ms) = (&key[..], Kind::Value, None);
            memtable.insert(&Entry { user_key, sequence, kind, expires_at_ms, value: &[7; 40] });
            content += key.len() + 40;
        }
        // A record's head and padding, and its part of a leaf: full ones if keys come in order.
        let most = if matches!(keys, Keys::Random) { 44 } else { 36 };
        let over = (memtable.bytes() - content) / 20_000;
        assert!((28..=most).contains(&over), "{over} bytes an entry, {keys:?}");
    }
}

/// However keys come at the ends of full leaves, nodes do not stay nearly empty.
#[test]
fn no_order_of_keys_leaves_nodes_nearly_empty() {
    let insert = |memtable: &Memtable, key: u64| {
        let (user_key, kind, expires_at_ms) = (&key.to_be_bytes()[..], Kind::Value, None);
        memtable.insert(&Entry { user_key, sequence: 1, kind, expires_at_ms, value: b"" });
    };
    // A run that fills leaves to the last place, and then keys that come down to its end from above.
    for run in [64, 3 * 64, 5 * 64 - 1] {
        let memtable = Memtable::new();
        (0..run).for_each(|number| insert(&memtable, number));
        (0..3000).for_each(|number| insert(&memtable, (1 << 20) - number));
        // Records of 24 bytes, leaves of 832 that are half full at least, and what is above them.
        let each = memtable.bytes() / memtable.entries() as usize;
        assert!(each <= 24 + 832 / 32 + 4, "{each} bytes an entry behind a run of {run}");
    }
}

/// Values that were handed out stay when the memtable is gone.
#[test]
fn values_outlive_the_memtable() {
    let memtable = Memtable::new();
    let values = [vec![1; MEMTABLE_COPIED_BYTES], vec![2; MEMTABLE_COPIED_BYTES + 1]];
    for (value, key) in values.iter().zip([b"a", b"b"]) {
        let (sequence, kind, expires_at_ms) = (1, Kind::Value, None);
        memtable.insert(&Entry { user_key: key, sequence, kind, expires_at_ms, value });
    }
    let found = [b"a", b"b"].map(|key| memtable.get(key, 1).expect("it was inserted").value);
    // The long one is shared, the short one is not.
    let again = memtable.get(b"b", 1).expect("it was inserted").value;
    assert_eq!(again.as_ptr(), found[1].as_ptr());
    let mut cursor = memtable.cursor(Bounds::all());
    drop(memtable);
    cursor.seek_to_last();
    assert_eq!(cursor.value().map(|value| value.as_ptr()), Some(found[1].as_ptr()));
    drop(cursor);
    assert_eq!(found.map(|value| value.to_vec()), values);
}

#[test]
fn range_tombstones_answer_as_each_by_itself_does() {
    for seed in 0..2000 {
        println!("seed {seed}");
        let mut random = random(seed);
        let memtable = Memtable::new();
        let mut all: BTreeSet<(Vec<u8>, Vec<u8>, u64)> = BTreeSet::new();
        for _ in 0..random.below(25) {
            let (from, to) = (draw_key(&mut random), draw_key(&mut random));
            if from >= to {
                continue;
            }
            let (sequence, kind, expires_at_ms) = (random.below(20), Kind::RangeDeletion, None);
            memtable.insert(&Entry { user_key: &from, sequence, kind, expires_at_ms, value: &to });
            all.insert((from, to, sequence));
        }
        let over = |key: &[u8], snapshot: u64| {
            let over = all.iter().filter(|(from, to, sequence)| {
                from.as_slice() <= key && key < to.as_slice() && *sequence <= snapshot
            });
            over.map(|(.., sequence)| *sequence).max()
        };
        let found = memtable.range_tombstones();
        assert_eq!(found.len(), memtable.range_tombstone_count());
        let bounds = all.iter().flat_map(|(from, to, _)| [from.clone(), to.clone()]);
        let drawn: Vec<Vec<u8>> = (0..20).map(|_| draw_key(&mut random)).collect();
        for key in bounds.chain(drawn) {
            for snapshot in [0, 3, 10, 19, u64::MAX] {
                let expected = over(&key, snapshot);
                assert_eq!(memtable.newest_over(&key, snapshot), expected, "{key:?} {snapshot}");
                // And in the form in which a table gets them.
                let cut = found.iter().filter(|one| one.start <= key && key[..] < one.end[..]);
                let cut = cut.filter(|one| one.sequence <= snapshot).map(|one| one.sequence);
                assert_eq!(cut.max(), expected, "{key:?} {snapshot}");
            }
        }
        let sequences = all.iter().map(|(.., sequence)| *sequence);
        let expected = sequences.clone().min().zip(sequences.max());
        assert_eq!(memtable.sequences(), expected);
        assert_eq!(memtable.range_tombstone_bytes() > 0, !all.is_empty());
    }
}

/// A table takes what a memtable has, in the order in which it has it.
#[test]
fn a_memtable_can_be_written_as_a_table() {
    for seed in 0..30 {
        run_in(&quiet(seed), move |env| async move {
            let mut random = random(seed);
            let mut history = History::draw(&mut random, 300);
            history.tombstones.clear();
            let memtable = Memtable::new();
            for ((user_key, version), (expires_at_ms, value)) in &history.entries {
                let (Version { sequence, kind }, expires_at_ms) = (*version, *expires_at_ms);
                memtable.insert(&Entry { user_key, sequence, kind, expires_at_ms, value });
            }
            for _ in 0..30 {
                let (from, to) = (draw_key(&mut random), draw_key(&mut random));
                let (sequence, kind, expires_at_ms) = (random.below(60), Kind::RangeDeletion, None);
                if from < to {
                    let (user_key, value) = (&from[..], &to[..]);
                    memtable.insert(&Entry { user_key, sequence, kind, expires_at_ms, value });
                    history.tombstones.push((from, to, sequence));
                }
            }
            let mut writer = create(&env, TableOptions::default()).await.expect("a disk");
            let mut cursor = memtable.cursor(Bounds::all());
            cursor.seek_to_first();
            while let Some(entry) = cursor.entry() {
                writer.add(&entry).await.expect("it is in order");
                cursor.next();
            }
            for tombstone in memtable.range_tombstones() {
                let (start, end) = (&tombstone.start, &tombstone.end);
                writer.add_range_tombstone(start, end, tombstone.sequence).expect("it was cut");
            }
            writer.finish().await.expect("the disk is healthy");
            let cache = BlockCache::new(1 << 20);
            let table = open(&env, &cache, ReadOptions::default()).await.expect("it was finished");
            for _ in 0..200 {
                let (key, snapshot) = (draw_key(&mut random), draw_snapshot(&mut random));
                let found = table.get(&key, snapshot).await.expect("it can be read");
                assert_eq!(found, memtable.get(&key, snapshot), "seed {seed}");
                let over = table.range_tombstones().newest_over(&key, snapshot);
                assert_eq!(over, history.tombstone_over(&key, snapshot), "seed {seed}");
            }
        });
    }
}

/// What a key has: a value, and operands on top of it.
type State = (Option<Vec<u8>>, Vec<Vec<u8>>);

/// What a reader makes of one memtable, on top of nothing.
fn state_of(memtable: &Memtable, key: &[u8], snapshot: u64) -> (State, ControlFlow<()>) {
    let (mut base, mut operands) = (None, Vec::new());
    let flow = memtable.read(key, snapshot, |entry| {
        assert_eq!(entry.user_key, key);
        if entry.kind == Kind::Merge {
            let list = Operands::parse(entry.value).expect("a list");
            let older: Vec<Vec<u8>> = list.iter().map(<[u8]>::to_vec).collect();
            operands.splice(0..0, older);
        } else if entry.kind != Kind::Deletion {
            base = Some(entry.value.to_vec());
        }
    });
    ((base, operands), flow)
}

/// Batches one after the other, and what each snapshot then sees.
#[test]
fn every_snapshot_sees_the_commits_up_to_it() {
    for seed in 0..300 {
        println!("seed {seed}");
        let mut random = random(seed);
        let memtable = Memtable::new();
        let keys: Vec<Vec<u8>> = (0..4).map(|_| draw_key(&mut random)).collect();
        let mut states: BTreeMap<Vec<u8>, (State, bool)> = BTreeMap::new();
        let mut snapshots = vec![(0, states.clone())];
        for sequence in (1..40).map(|number| number * 3) {
            let mut batch = WriteBatch::new();
            for _ in 0..1 + random.below(5) {
                let key = &keys[random.below(4) as usize];
                let value = random.next_u64().to_be_bytes();
                match random.below(8) {
                    0 | 1 => {
                        batch.put(1, key, &value).expect("it is short");
                        states.insert(key.clone(), ((Some(value.to_vec()), vec![]), true));
                    }
                    2 => {
                        batch.delete(1, key).expect("it is short");
                        states.insert(key.clone(), ((None, vec![]), true));
                    }
                    3 => {
                        let other = &keys[random.below(4) as usize];
                        if key < other {
                            batch.delete_range(1, key, other).expect("it is short");
                            for covered in keys.iter().filter(|it| *it >= key && *it < other) {
                                states.insert(covered.clone(), ((None, vec![]), true));
                            }
                        }
                    }
                    _ => {
                        batch.merge(1, key, &value).expect("it is short");
                        states.entry(key.clone()).or_default().0.1.push(value.to_vec());
                    }
                }
            }
            let mut bytes = Vec::new();
            batch.encode(&mut bytes);
            let view = crate::BatchView::parse(&bytes).expect("it was encoded");
            view.entries(sequence).for_each(|(_, entry)| memtable.insert(&entry));
            snapshots.push((sequence, states.clone()));
        }
        for (sequence, states) in &snapshots {
            for key in &keys {
                let (state, is_all) = states.get(key).cloned().unwrap_or_default();
                for snapshot in [*sequence, sequence + 2] {
                    let (found, flow) = state_of(&memtable, key, snapshot);
                    assert_eq!(found, state, "{key:?} at {snapshot}");
                    assert_eq!(flow.is_break(), is_all, "{key:?} at {snapshot}");
                }
            }
        }
    }
}
