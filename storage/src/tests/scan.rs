//! A snapshot cursor sees what a map would have that was changed commit by commit, whatever sources
//! the entries are spread over.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use woodchuck_io::RandomStream;
use woodchuck_sim::{SimEnv, World};

use super::history::{History, Key, Value, Version, draw_key};
use super::place::{ID, draw_options, quiet, random, run_in, write_as};
use crate::scan::{Append, MergeOperator, SnapshotCursor, Source};
use crate::{
    BatchView, BlockCache, Bounds, Entry, Kind, RangeTombstone, ReadOptions, StorageError, Table,
    TableId, WriteBatch,
};

const KEYSPACE: u64 = 3;
pub(super) const COMMITS: u64 = 60;
/// Times at which values end are drawn below this.
pub(super) const TIMES: u64 = 10;

#[derive(Clone, Debug)]
pub(super) enum Operation {
    Put(Vec<u8>, Vec<u8>),
    PutExpiring(Vec<u8>, Vec<u8>, u64),
    Delete(Vec<u8>),
    DeleteRange(Vec<u8>, Vec<u8>),
    Merge(Vec<u8>, Vec<u8>),
}

/// What a key has: a value and when it ends, and operands since.
#[derive(Clone, Debug, Default)]
struct Has {
    base: Option<(Vec<u8>, Option<u64>)>,
    operands: Vec<Vec<u8>>,
}

/// Commits by their sequence.
#[derive(Default)]
pub(super) struct Commits(BTreeMap<u64, Vec<Operation>>);

impl Operation {
    /// On one of these keys, or a range that begins or ends with one; values end at one of `ends`.
    pub(super) fn draw(
        random: &mut RandomStream,
        keys: &[Vec<u8>],
        value: &str,
        ends: &[u64],
    ) -> Self {
        let key = keys[random.below(keys.len() as u64) as usize].clone();
        let value = value.as_bytes().to_vec();
        match random.below(16) {
            0..6 => Self::Put(key, value),
            6..8 => Self::PutExpiring(key, value, ends[random.below(ends.len() as u64) as usize]),
            8..10 => Self::Delete(key),
            10..12 => {
                let other = draw_key(random);
                if key == other {
                    return Self::Delete(key);
                }
                Self::DeleteRange(key.clone().min(other.clone()), key.max(other))
            }
            _ => Self::Merge(key, value),
        }
    }

    pub(super) fn add_to(&self, batch: &mut WriteBatch, keyspace: u64) {
        match self {
            Self::Put(key, value) => batch.put(keyspace, key, value),
            Self::PutExpiring(key, value, at) => batch.put_expiring(keyspace, key, value, *at),
            Self::Delete(key) => batch.delete(keyspace, key),
            Self::DeleteRange(start, end) => batch.delete_range(keyspace, start, end),
            Self::Merge(key, operand) => batch.merge(keyspace, key, operand),
        }
        .expect("it is within all bounds");
    }
}

impl Commits {
    pub(super) fn newest(&self) -> Option<u64> {
        self.0.last_key_value().map(|(&sequence, _)| sequence)
    }

    pub(super) fn insert(&mut self, sequence: u64, operations: Vec<Operation>) {
        self.0.insert(sequence, operations);
    }

    pub(super) fn draw(random: &mut RandomStream) -> Self {
        let mut keys: Vec<Vec<u8>> = (0..=random.below(14)).map(|_| draw_key(random)).collect();
        keys.sort();
        keys.dedup();
        // Some keys have many versions, more than are stepped over.
        let hot = keys[random.below(keys.len() as u64) as usize].clone();
        let mut commits = BTreeMap::new();
        let count = 1 + random.below(COMMITS);
        for sequence in 0..count {
            let operations = (0..=random.below(4)).map(|number| {
                let of_hot = [hot.clone()];
                let keys = if random.below(4) == 0 { &of_hot[..] } else { &keys[..] };
                let ends: Vec<u64> = (0..TIMES).collect();
                Operation::draw(random, keys, &format!("{sequence}.{number};"), &ends)
            });
            commits.insert(sequence, operations.collect());
        }
        Self(commits)
    }

    /// Keys and values of a snapshot, made one operation after the other.
    pub(super) fn seen(&self, snapshot: u64, now_ms: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut state: BTreeMap<Vec<u8>, Has> = BTreeMap::new();
        for operation in self.0.range(..=snapshot).flat_map(|(_, operations)| operations) {
            match operation.clone() {
                Operation::Put(key, value) => {
                    state.insert(key, Has { base: Some((value, None)), operands: vec![] });
                }
                Operation::PutExpiring(key, value, at) => {
                    state.insert(key, Has { base: Some((value, Some(at))), operands: vec![] });
                }
                Operation::Delete(key) => drop(state.remove(&key)),
                Operation::DeleteRange(start, end) => {
                    state.retain(|key, _| *key < start || *key >= end);
                }
                Operation::Merge(key, operand) => {
                    state.entry(key).or_default().operands.push(operand);
                }
            }
        }
        let seen = state.into_iter().filter_map(|(key, has)| {
            let base = has.base.filter(|(_, ends)| ends.is_none_or(|ends| ends > now_ms));
            let is_there = base.is_some() || !has.operands.is_empty();
            let value = base.map(|(value, _)| value).unwrap_or_default();
            is_there.then(|| (key, [vec![value], has.operands].concat().concat()))
        });
        seen.collect()
    }

    /// The entries, spread over so many sources, neighbouring commits together, as a store has it.
    /// The oldest come first.
    pub(super) fn spread_in_order(&self, sources: u64) -> Vec<History> {
        let last = self.0.last_key_value().map_or(0, |(&sequence, _)| sequence);
        self.spread_by(sources, |sequence| sequence * sources / (last + 1))
    }

    /// The same, or any commit in any source.
    fn spread(&self, random: &mut RandomStream, sources: u64) -> Vec<History> {
        if random.below(2) == 0 {
            return self.spread_in_order(sources);
        }
        self.spread_by(sources, |_| random.below(sources))
    }

    fn spread_by(&self, sources: u64, mut source: impl FnMut(u64) -> u64) -> Vec<History> {
        let mut histories = vec![History::default(); sources as usize];
        for (&sequence, operations) in &self.0 {
            let history = &mut histories[source(sequence) as usize];
            let bytes = encode(operations);
            let batch = BatchView::parse(&bytes).expect("it was encoded");
            for (_, entry) in batch.entries(sequence) {
                let Entry { user_key, kind, expires_at_ms, value, .. } = entry;
                if kind == Kind::RangeDeletion {
                    history.tombstones.push((user_key.to_vec(), value.to_vec(), sequence));
                } else {
                    let version = Version { sequence, kind };
                    let content = (expires_at_ms, value.to_vec());
                    history.entries.insert((user_key.to_vec(), version), content);
                }
            }
        }
        histories
    }
}

fn encode(operations: &[Operation]) -> Vec<u8> {
    let mut batch = WriteBatch::new();
    operations.iter().for_each(|operation| operation.add_to(&mut batch, KEYSPACE));
    let mut bytes = Vec::new();
    batch.encode(&mut bytes);
    bytes
}

/// The plainest source, whose moves fail now and then.
pub(super) struct Plain {
    entries: Vec<(Key, Value)>,
    history: History,
    at: Option<usize>,
    /// One move in so many fails; 0 is none.
    fails: u64,
    random: Rc<RefCell<RandomStream>>,
    moves: Rc<Cell<u64>>,
}

impl Plain {
    fn go(&mut self, to: Option<usize>) -> Result<(), StorageError> {
        self.moves.set(self.moves.get() + 1);
        self.at = None;
        if self.fails > 0 && self.random.borrow_mut().below(self.fails) == 0 {
            let source = std::io::Error::other("the disk is worn out");
            return Err(StorageError::Io { doing: "moving".to_owned(), source: source.into() });
        }
        self.at = to.filter(|&at| at < self.entries.len());
        Ok(())
    }
}

impl Source for Plain {
    fn entry(&self) -> Option<Entry<'_>> {
        let ((user_key, version), (expires_at_ms, value)) = &self.entries[self.at?];
        let Version { sequence, kind } = *version;
        Some(Entry { user_key, sequence, kind, expires_at_ms: *expires_at_ms, value })
    }

    fn value(&self) -> Option<Bytes> {
        self.entry().map(|entry| entry.value.to_vec().into())
    }

    fn newest_sequence(&self) -> u64 {
        let of_entries = self.entries.iter().map(|((_, version), _)| version.sequence);
        of_entries.chain(self.history.tombstones.iter().map(|(.., at)| *at)).max().unwrap_or(0)
    }

    async fn seek(&mut self, user_key: &[u8], snapshot: u64) -> Result<(), StorageError> {
        let is_before = |(key, version): &(Vec<u8>, Version)| {
            key.as_slice() < user_key || (key == user_key && version.sequence > snapshot)
        };
        self.go(Some(self.entries.partition_point(|(key, _)| is_before(key))))
    }

    async fn seek_before(&mut self, user_key: &[u8]) -> Result<(), StorageError> {
        let behind = self.entries.partition_point(|((key, _), _)| key.as_slice() < user_key);
        self.go(behind.checked_sub(1))
    }

    async fn seek_to_last(&mut self) -> Result<(), StorageError> {
        self.go(self.entries.len().checked_sub(1))
    }

    async fn next(&mut self) -> Result<(), StorageError> {
        self.at.map_or(Ok(()), |at| self.go(Some(at + 1)))
    }

    async fn prev(&mut self) -> Result<(), StorageError> {
        self.at.map_or(Ok(()), |at| self.go(at.checked_sub(1)))
    }

    fn has_range_tombstones(&self) -> bool {
        !self.history.tombstones.is_empty()
    }

    async fn range_tombstone_over(
        &mut self,
        user_key: &[u8],
        snapshot: u64,
    ) -> Result<Option<RangeTombstone>, StorageError> {
        let over = self.history.tombstones.iter().filter(|(start, end, sequence)| {
            start.as_slice() <= user_key && user_key < end.as_slice() && *sequence <= snapshot
        });
        Ok(over.max_by_key(|(.., sequence)| *sequence).map(|(start, end, sequence)| {
            let (start, end) = (start.clone(), end.clone().into());
            RangeTombstone { start, end, sequence: *sequence }
        }))
    }
}

fn here<S: Source>(cursor: &SnapshotCursor<S>) -> Option<(Vec<u8>, Vec<u8>)> {
    let value = cursor.value().map(|value| value.to_vec());
    assert_eq!(value.is_some(), cursor.key().is_some());
    Some((cursor.key()?.to_vec(), value?))
}

/// Seeks and steps at random, each compared. A move that fails is told by nowhere, and by a seek
/// that goes on from where it was.
pub(super) async fn walk<S: Source>(
    cursor: &mut SnapshotCursor<S>,
    expected: &[(Vec<u8>, Vec<u8>)],
    random: &mut RandomStream,
    may_fail: bool,
) {
    let mut at: Option<usize> = None;
    for _ in 0..60 {
        let (moved, to) = match random.below(10) {
            0 => (cursor.seek_to_first().await, (!expected.is_empty()).then_some(0)),
            1 => (cursor.seek_to_last().await, expected.len().checked_sub(1)),
            2 => {
                let key = draw_key(random);
                let to = expected.partition_point(|(other, _)| *other < key);
                (cursor.seek(&key).await, (to < expected.len()).then_some(to))
            }
            3 => {
                let key = draw_key(random);
                let behind = expected.partition_point(|(other, _)| *other <= key);
                (cursor.seek_for_prev(&key).await, behind.checked_sub(1))
            }
            4..8 => {
                let to = at.map(|at| at + 1).filter(|&to| to < expected.len());
                (cursor.next().await, to)
            }
            _ => (cursor.prev().await, at.and_then(|at| at.checked_sub(1))),
        };
        at = match moved {
            Ok(()) => to,
            Err(error) => {
                assert!(may_fail, "{error}");
                None
            }
        };
        assert_eq!(here(cursor), at.map(|at| expected[at].clone()));
    }
}

fn draw_moment(random: &mut RandomStream) -> (u64, u64) {
    let snapshot = if random.below(3) == 0 { u64::MAX } else { random.below(COMMITS + 1) };
    (snapshot, random.below(TIMES))
}

const SEEDS: u64 = 3000;

#[test]
fn a_snapshot_sees_what_a_map_would_have() {
    for seed in 0..SEEDS {
        run_in(&quiet(seed), move |_| async move {
            let mut random = random(seed);
            let commits = Commits::draw(&mut random);
            let sources = 1 + random.below(6);
            let histories = commits.spread(&mut random, sources);
            for _ in 0..4 {
                let (snapshot, now_ms) = draw_moment(&mut random);
                let fails = [0, 0, 30][random.below(3) as usize];
                let sources = plain(&histories, fails, &Rc::default(), &mut random);
                let operator: Rc<dyn MergeOperator> = Rc::new(Append);
                let mut cursor = SnapshotCursor::new(sources, snapshot, now_ms, Some(operator));
                let expected = commits.seen(snapshot, now_ms);
                walk(&mut cursor, &expected, &mut random, fails > 0).await;
            }
        });
    }
}

pub(super) fn plain(
    histories: &[History],
    fails: u64,
    moves: &Rc<Cell<u64>>,
    random: &mut RandomStream,
) -> Vec<Plain> {
    let of_moves = Rc::new(RefCell::new(self::random(random.next_u64())));
    let of_history = |history: &History| Plain {
        entries: history.entries.clone().into_iter().collect(),
        history: history.clone(),
        at: None,
        fails,
        random: Rc::clone(&of_moves),
        moves: Rc::clone(moves),
    };
    histories.iter().map(of_history).collect()
}

/// Tables that hold the entries, in worlds where reads are short and end in any order.
#[test]
fn a_snapshot_sees_the_same_in_tables() {
    for seed in 0..300 {
        run_in(&World::new(seed), move |env| compare_tables(env, seed));
    }
}

async fn compare_tables(env: SimEnv, seed: u64) {
    let mut random = random(seed);
    let commits = Commits::draw(&mut random);
    let sources = 1 + random.below(4);
    let cache = BlockCache::new([0, 20_000, 10 << 20][random.below(3) as usize]);
    let mut tables = Vec::new();
    for (number, mut history) in (1..).zip(commits.spread(&mut random, sources)) {
        if history.entries.is_empty() && history.tombstones.is_empty() {
            continue;
        }
        history.cut_tombstones();
        let id = TableId { number, ..ID };
        let options = draw_options(&mut random);
        write_as(&env, id, &history, options).await.expect("the disk is healthy");
        let directory = std::path::Path::new(super::place::DIRECTORY);
        let options = ReadOptions::default();
        let table =
            Table::open(woodchuck_io::Env::disk(&env), directory, id, &cache, options).await;
        tables.push(table.expect("it was finished"));
    }
    for _ in 0..4 {
        let (snapshot, now_ms) = draw_moment(&mut random);
        let sources = tables.iter().map(|table| table.cursor(Bounds::all())).collect();
        let mut cursor = SnapshotCursor::new(sources, snapshot, now_ms, Some(Rc::new(Append)));
        walk(&mut cursor, &commits.seen(snapshot, now_ms), &mut random, false).await;
    }
}

/// A thousand keys that are deleted together cost a seek each way, not a thousand steps.
#[test]
fn what_a_range_deletion_hides_is_not_walked_over() {
    run_in(&quiet(1), |_| async {
        let mut histories = vec![History::default(); 2];
        for sequence in 1..=1000 {
            let version = Version { sequence, kind: Kind::Value };
            let key = format!("{sequence:04}").into_bytes();
            histories[0].entries.insert((key, version), (None, b"v".to_vec()));
        }
        histories[1].tombstones.push((b"0002".to_vec(), b"0999".to_vec(), 2000));
        let moves = Rc::new(Cell::new(0));
        let sources = plain(&histories, 0, &moves, &mut random(1));
        let mut cursor = SnapshotCursor::new(sources, u64::MAX, 0, None);
        cursor.seek_to_first().await.expect("nothing fails");
        let mut seen = Vec::new();
        while let Some((key, _)) = here(&cursor) {
            seen.push(key);
            cursor.next().await.expect("nothing fails");
        }
        let expected = [&b"0001"[..], b"0999", b"1000"];
        assert_eq!(seen, expected);
        assert!(moves.get() < 100, "{} moves forwards", moves.get());
        moves.set(0);
        cursor.seek_to_last().await.expect("nothing fails");
        while let Some((key, _)) = here(&cursor) {
            assert_eq!(Some(key), seen.pop());
            cursor.prev().await.expect("nothing fails");
        }
        assert!(moves.get() < 100, "{} moves backwards", moves.get());
    });
}

/// A key that was overwritten a thousand times costs a few steps and a seek.
#[test]
fn old_versions_are_not_walked_over() {
    run_in(&quiet(1), |_| async {
        let put = |sequence: u64, key: &[u8]| {
            let version = Version { sequence, kind: Kind::Value };
            ((key.to_vec(), version), (None, sequence.to_string().into_bytes()))
        };
        let mut history = History::default();
        history.entries.extend([put(1, b"a"), put(5000, b"z")]);
        history.entries.extend((2..=1001).map(|sequence| put(sequence, b"k")));
        for snapshot in [1001, 500, u64::MAX] {
            let moves = Rc::new(Cell::new(0));
            let sources = plain(&[history.clone()], 0, &moves, &mut random(1));
            let mut cursor = SnapshotCursor::new(sources, snapshot, 0, None);
            let newest = snapshot.min(1001).to_string().into_bytes();
            cursor.seek_to_first().await.expect("nothing fails");
            cursor.next().await.expect("nothing fails");
            assert_eq!(here(&cursor), Some((b"k".to_vec(), newest.clone())));
            cursor.next().await.expect("nothing fails");
            assert_eq!(here(&cursor).is_some(), snapshot == u64::MAX);
            cursor.seek_for_prev(b"y").await.expect("nothing fails");
            assert_eq!(here(&cursor), Some((b"k".to_vec(), newest)));
            cursor.prev().await.expect("nothing fails");
            assert_eq!(here(&cursor), Some((b"a".to_vec(), b"1".to_vec())));
            assert!(moves.get() < 60, "{} moves", moves.get());
        }
    });
}

#[test]
fn operands_that_nobody_can_apply_fail_their_key_and_no_other() {
    run_in(&quiet(1), |_| async {
        let commits = [
            (1, vec![Operation::Put(b"a".to_vec(), b"1".to_vec())]),
            (2, vec![Operation::Merge(b"k".to_vec(), b"2".to_vec())]),
            (3, vec![Operation::Put(b"z".to_vec(), b"3".to_vec())]),
        ];
        let histories = Commits(commits.into()).spread(&mut random(1), 1);
        let sources = plain(&histories, 0, &Rc::default(), &mut random(1));
        let mut cursor = SnapshotCursor::new(sources, u64::MAX, 0, None);
        cursor.seek_to_first().await.expect("a can be read");
        let error = cursor.next().await.expect_err("there is no operator");
        assert!(matches!(&error, StorageError::Value { key, .. } if key == "k"), "{error}");
        assert!(error.to_string().contains("no merge operator"), "{error}");
        assert_eq!(here(&cursor), None);
        cursor.seek(b"l").await.expect("z can be read");
        assert_eq!(here(&cursor), Some((b"z".to_vec(), b"3".to_vec())));
    });
}
