//! Batches: what they keep of what was said, and which bytes are one.

use std::collections::{BTreeMap, BTreeSet};

use woodchuck_io::RandomStream;

use super::place::random;
use crate::limits::{BATCH_BYTES, BATCH_ENTRIES, KEY_BYTES, VALUE_BYTES};
use crate::{BatchError, BatchView, Entry, Kind, Operands, WriteBatch};

/// What somebody says of a keyspace.
#[derive(Clone, Debug)]
enum Said {
    Put(Vec<u8>, Vec<u8>),
    Expiring(Vec<u8>, Vec<u8>, u64),
    Delete(Vec<u8>),
    DeleteRange(Vec<u8>, Vec<u8>),
    Merge(Vec<u8>, Vec<u8>),
}

/// What a key has: a value and when it ends, and operands on top of it, oldest first.
type State = (Option<(Vec<u8>, Option<u64>)>, Vec<Vec<u8>>);

/// Short keys of few letters, so that they meet each other and the ends of ranges.
fn draw_key(random: &mut RandomStream) -> Vec<u8> {
    (0..random.below(4)).map(|_| [0, b'a', 0xff][random.below(3) as usize]).collect()
}

/// All keys that `draw_key` gives.
fn all_keys() -> BTreeSet<Vec<u8>> {
    let mut random = random(0);
    (0..5000).map(|_| draw_key(&mut random)).collect()
}

fn draw(random: &mut RandomStream) -> (u64, Said) {
    let keyspace = [0, 7, u64::MAX][random.below(3) as usize];
    let key = draw_key(random);
    let value = vec![random.below(256) as u8; random.below(200) as usize];
    let said = match random.below(8) {
        0 | 1 => Said::Put(key, value),
        2 => Said::Expiring(key, value, random.next_u64() >> random.below(64)),
        3 | 4 => Said::Delete(key),
        5 => Said::DeleteRange(key, draw_key(random)),
        _ => Said::Merge(key, value),
    };
    (keyspace, said)
}

fn say(batch: &mut WriteBatch, keyspace: u64, said: &Said) -> Result<(), BatchError> {
    match said {
        Said::Put(key, value) => batch.put(keyspace, key, value),
        Said::Expiring(key, value, expiry) => batch.put_expiring(keyspace, key, value, *expiry),
        Said::Delete(key) => batch.delete(keyspace, key),
        Said::DeleteRange(from, to) => batch.delete_range(keyspace, from, to),
        Said::Merge(key, operand) => batch.merge(keyspace, key, operand),
    }
}

/// Does at once what was said to what a keyspace has.
fn apply(states: &mut BTreeMap<Vec<u8>, State>, said: &Said) {
    match said.clone() {
        Said::Put(key, value) => drop(states.insert(key, (Some((value, None)), Vec::new()))),
        Said::Expiring(key, value, expiry) => {
            states.insert(key, (Some((value, Some(expiry))), Vec::new()));
        }
        Said::Delete(key) => drop(states.insert(key, (None, Vec::new()))),
        Said::DeleteRange(from, to) => {
            for (key, state) in states.iter_mut() {
                if *key >= from && *key < to {
                    *state = (None, Vec::new());
                }
            }
        }
        Said::Merge(key, operand) => states.entry(key).or_default().1.push(operand),
    }
}

/// What a reader finds, by the rules for readers, where the store had `before`.
fn read(before: &State, key: &[u8], entries: &[Entry<'_>]) -> State {
    let hides = |entry: &&Entry<'_>| {
        entry.kind == Kind::RangeDeletion && entry.user_key <= key && key < entry.value
    };
    let mut state = before.clone();
    if entries.iter().any(|entry| hides(&entry)) {
        state = (None, Vec::new());
    }
    let own = || {
        entries.iter().filter(|entry| entry.user_key == key && entry.kind != Kind::RangeDeletion)
    };
    for entry in own().filter(|entry| entry.kind != Kind::Merge) {
        let value = (entry.value.to_vec(), entry.expires_at_ms);
        state = ((entry.kind != Kind::Deletion).then_some(value), Vec::new());
    }
    for entry in own().filter(|entry| entry.kind == Kind::Merge) {
        let operands = Operands::parse(entry.value).expect("a list");
        state.1.extend(operands.iter().map(<[u8]>::to_vec));
    }
    state
}

fn encoded(batch: &WriteBatch) -> Vec<u8> {
    let mut bytes = vec![9];
    batch.encode(&mut bytes);
    assert_eq!(bytes.len(), 1 + batch.bytes());
    bytes.split_off(1)
}

/// The batch that somebody makes of what a batch says.
fn again(view: BatchView<'_>) -> WriteBatch {
    let mut batch = WriteBatch::new();
    let entries: Vec<_> = view.entries(1).collect();
    let is_base = |entry: &Entry<'_>| entry.kind != Kind::Merge;
    for (keyspace, entry) in entries.iter().filter(|(_, entry)| is_base(entry)) {
        let (key, value) = (entry.user_key, entry.value);
        let said = match (entry.kind, entry.expires_at_ms) {
            (Kind::RangeDeletion, _) => batch.delete_range(*keyspace, key, value),
            (Kind::Deletion, _) => batch.delete(*keyspace, key),
            (_, Some(expiry)) => batch.put_expiring(*keyspace, key, value, expiry),
            _ => batch.put(*keyspace, key, value),
        };
        said.expect("it was in a batch");
    }
    for (keyspace, entry) in entries.iter().filter(|(_, entry)| !is_base(entry)) {
        for operand in Operands::parse(entry.value).expect("a list") {
            batch.merge(*keyspace, entry.user_key, operand).expect("it was in a batch");
        }
    }
    batch
}

#[test]
fn a_batch_does_what_its_changes_do_one_by_one() {
    let keys = all_keys();
    for seed in 0..3000 {
        let mut random = random(seed);
        let mut batch = WriteBatch::new();
        let mut expected: BTreeMap<u64, BTreeMap<Vec<u8>, State>> = BTreeMap::new();
        // What a store has before, in each keyspace: an operand on a value, for every key.
        let before: State = (Some((b"old".to_vec(), None)), vec![b"operand".to_vec()]);
        for keyspace in [0, 7, u64::MAX] {
            let had = keys.iter().map(|key| (key.clone(), before.clone()));
            expected.insert(keyspace, had.collect());
        }
        for _ in 0..random.below(30) {
            let (keyspace, said) = draw(&mut random);
            let unchanged = batch.clone();
            match say(&mut batch, keyspace, &said) {
                Ok(()) => apply(expected.get_mut(&keyspace).expect("one of three"), &said),
                Err(error) => {
                    assert_eq!(error, BatchError::EmptyRange, "seed {seed}");
                    assert_eq!(batch, unchanged, "seed {seed}");
                }
            }
        }
        let bytes = encoded(&batch);
        let view = BatchView::parse(&bytes).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!((view.len(), view.is_empty()), (batch.len(), batch.is_empty()));
        for (keyspace, states) in &expected {
            let entries = view.entries(5).filter(|(of, _)| of == keyspace);
            let entries: Vec<Entry<'_>> = entries.map(|(_, entry)| entry).collect();
            assert!(entries.iter().all(|entry| entry.sequence == 5));
            for (key, state) in states {
                assert_eq!(read(&before, key, &entries), *state, "seed {seed}, key {key:?}");
            }
        }
        assert_eq!(encoded(&again(view)), bytes, "seed {seed}");
    }
}

/// Other words for the same have the same bytes.
#[test]
fn what_is_moot_leaves_nothing() {
    type Words<'a> = &'a dyn Fn(&mut WriteBatch) -> Result<(), BatchError>;
    let same: [(Words<'_>, Words<'_>); 8] = [
        (
            &|batch| {
                batch.merge(1, b"k", b"x")?;
                batch.put(1, b"k", b"v")
            },
            &|batch| batch.put(1, b"k", b"v"),
        ),
        (
            &|batch| {
                batch.put(1, b"k", b"first")?;
                batch.put_expiring(1, b"k", b"last", 9)
            },
            &|batch| batch.put_expiring(1, b"k", b"last", 9),
        ),
        (
            &|batch| {
                batch.put(1, b"k", b"v")?;
                batch.merge(1, b"k", b"x")?;
                batch.delete_range(1, b"k", b"l")
            },
            &|batch| batch.delete_range(1, b"k", b"l"),
        ),
        (
            &|batch| {
                batch.delete_range(1, b"a", b"c")?;
                batch.delete(1, b"b")
            },
            &|batch| batch.delete_range(1, b"a", b"c"),
        ),
        (
            &|batch| {
                batch.delete_range(1, b"a", b"c")?;
                batch.put(1, b"b", b"v")?;
                batch.delete(1, b"b")
            },
            &|batch| batch.delete_range(1, b"a", b"c"),
        ),
        (
            &|batch| {
                batch.delete_range(1, b"a", b"c")?;
                batch.delete_range(1, b"e", b"g")?;
                batch.delete_range(1, b"c", b"e")
            },
            &|batch| batch.delete_range(1, b"a", b"g"),
        ),
        (
            &|batch| {
                batch.delete_range(1, b"b", b"c")?;
                batch.delete_range(1, b"a", b"z")?;
                batch.delete_range(1, b"c", b"d")
            },
            &|batch| batch.delete_range(1, b"a", b"z"),
        ),
        (
            &|batch| {
                batch.put(1, b"d", b"v")?;
                batch.delete_range(1, b"a", b"c")?;
                batch.delete(1, b"c")
            },
            &|batch| {
                batch.delete(1, b"c")?;
                batch.delete_range(1, b"a", b"b")?;
                batch.put(1, b"d", b"v")?;
                batch.delete_range(1, b"a", b"c")
            },
        ),
    ];
    for (number, (one, other)) in same.into_iter().enumerate() {
        let (mut first, mut second) = (WriteBatch::new(), WriteBatch::new());
        one(&mut first).and_then(|()| other(&mut second)).expect("these are short");
        assert_eq!(encoded(&first), encoded(&second), "pair {number}");
        assert_eq!(first, second, "pair {number}");
    }
}

/// The bytes of version 1, written down once more.
#[test]
fn the_bytes_are_as_documented() {
    let mut batch = WriteBatch::new();
    assert_eq!(encoded(&batch), [1, 0]);
    batch.put(300, b"key", b"value").expect("it is short");
    batch.merge(300, b"key", b"one").expect("it is short");
    batch.merge(300, b"key", b"").expect("it is short");
    batch.delete_range(2, b"", b"z").expect("it is short");
    batch.put_expiring(2, b"e", b"v", 0x0102).expect("it is short");
    batch.delete(2, b"zz").expect("it is short");
    let expected = [
        &[1, 2][..],
        &[2, 1, 2, 0, 1, b'z'],
        &[3, 1, b'e', 2, 1, 0, 0, 0, 0, 0, 0, 1, b'v'],
        &[1, 2, b'z', b'z'],
        &[0xac, 0x02, 0, 2],
        &[5, 3, b'k', b'e', b'y', 6, 2, 3, b'o', b'n', b'e', 0],
        &[2, 3, b'k', b'e', b'y', 5, b'v', b'a', b'l', b'u', b'e'],
    ];
    assert_eq!(encoded(&batch), expected.concat());
    batch.clear();
    assert_eq!(batch, WriteBatch::default());
}

#[test]
fn bytes_that_break_a_rule_are_refused() {
    let parse = |parts: &[&[u8]]| BatchView::parse(&parts.concat()).map(|view| view.len());
    let put = [2, 1, b'k', 1, b'v'];
    let delete = [1, 1, b'k'];
    let merge = [5, 1, b'k', 2, 1, 0];
    assert_eq!(parse(&[&[1, 1, 7, 0, 2], &merge, &put]), Ok(2));
    assert_eq!(parse(&[&[1, 1, 7, 1, 1, 0, 1, b'k'], &delete]), Ok(2), "the end is not in it");
    assert_eq!(parse(&[&[1, 1, 7, 1, 1, 1, b'k', 1, b'l'], &put]), Ok(2));
    let wrong: [&[&[u8]]; 26] = [
        &[],
        &[&[1]],
        &[&[0, 0]],
        &[&[2, 0]],
        &[&[1, 0, 0]],
        &[&[1, 0x80, 0]],
        &[&[1, 1, 7, 0, 0]],
        &[&[1, 1, 7, 0, 1]],
        &[&[1, 1, 7, 0, 1], &put, &[0]],
        &[&[1, 2, 7, 0, 1], &put],
        &[&[1, 2, 7, 0, 1], &put, &[7, 0, 1], &put],
        &[&[1, 2, 7, 0, 1], &put, &[6, 0, 1], &put],
        &[&[1, 1, 7, 0, 2], &put, &put],
        &[&[1, 1, 7, 0, 2], &put, &merge],
        &[&[1, 1, 7, 0, 2], &merge, &merge],
        &[&[1, 1, 7, 0, 2], &delete, &put],
        &[&[1, 1, 7, 1, 1, 1, b'k', 1, b'l'], &delete],
        &[&[1, 1, 7, 2, 1, 0, 1, b'a', 1, b'j', 1, b'l'], &delete],
        &[&[1, 1, 7, 1, 0, 1, b'k', 1, b'k']],
        &[&[1, 1, 7, 1, 0, 1, b'k', 0]],
        &[&[1, 1, 7, 2, 0, 0, 1, b'k', 1, b'k', 1, b'l']],
        &[&[1, 1, 7, 0, 1, 4, 1, b'k', 1, b'v']],
        &[&[1, 1, 7, 0, 1, 6, 1, b'k', 1, b'v']],
        &[&[1, 1, 7, 0, 1, 5, 1, b'k', 1, 0]],
        &[&[1, 1, 7, 0, 1, 5, 1, b'k', 3, 1, 0, 0]],
        &[&[1, 1, 7, 0, 1, 3, 1, b'k', 0, 0, 0, 0, 0, 0, 0]],
    ];
    for (number, parts) in wrong.into_iter().enumerate() {
        let error = parse(parts).expect_err(&format!("case {number}"));
        let is_version = matches!(error, BatchError::WrongVersion { .. });
        assert_eq!(is_version, number == 2 || number == 3, "case {number}: {error}");
    }
    let long = vec![b'k'; KEY_BYTES + 1];
    let varint = [0x80, 0x80, 4];
    parse(&[&[1, 1, 7, 0, 1, 2], &varint, &long, &[0]]).expect_err("no key is so long");
    parse(&[&[1, 1, 7, 1, 0, 0], &varint, &long]).expect_err("no key is so long");
    parse(&[&[1, 1, 7, 1, 0], &varint, &long, &[1, b'z']]).expect_err("no key is so long");
    parse(&[&[1, 1, 7, 0, 1, 2], &[0xff, 0xff, 3], &long[1..], &[0]]).expect("a key is so long");
}

#[test]
fn any_bytes_are_a_canonical_batch_or_none() {
    let mut random = random(4);
    let (mut whole, mut refused) = (0, 0);
    for _ in 0..60_000 {
        let mut bytes: Vec<u8> = Vec::new();
        if random.below(4) == 0 {
            bytes = (0..random.below(40)).map(|_| random.below(9) as u8).collect();
            bytes.insert(0, 1);
        } else {
            let mut batch = WriteBatch::new();
            for _ in 0..random.below(8) {
                let (keyspace, said) = draw(&mut random);
                drop(say(&mut batch, keyspace, &said));
            }
            batch.encode(&mut bytes);
            for _ in 0..random.below(4) {
                let at = random.below(bytes.len() as u64) as usize;
                match random.below(4) {
                    0 => drop(bytes.remove(at)),
                    1 => bytes.insert(at, random.below(6) as u8),
                    2 => bytes[at] ^= 1 << random.below(8),
                    _ => {
                        bytes[at] = [random.next_u64() as u8, 0, 1, 0xff][random.below(4) as usize]
                    }
                }
                if bytes.is_empty() {
                    break;
                }
            }
        }
        match BatchView::parse(&bytes) {
            Ok(view) => {
                whole += 1;
                assert_eq!(view.entries(3).count(), view.len());
                assert_eq!(encoded(&again(view)), bytes);
            }
            Err(error) => {
                refused += 1;
                if let BatchError::Malformed { offset, .. } = error {
                    assert!(offset <= bytes.len(), "{error}");
                }
            }
        }
    }
    assert!(whole > 5000 && refused > 5000, "{whole} batches, {refused} refused");
}

#[test]
fn what_is_too_much_leaves_the_batch_as_it_was() {
    let mut batch = WriteBatch::new();
    batch.put(1, b"key", b"value").expect("it is short");
    batch.merge(1, b"key", b"operand").expect("it is short");
    let before = batch.clone();
    let long = vec![0; KEY_BYTES + 1];
    let huge = vec![0; VALUE_BYTES + 1];
    let refused = [
        batch.put(1, &long, b""),
        batch.put_expiring(1, &long, b"", 1),
        batch.delete(1, &long),
        batch.merge(1, &long, b""),
        batch.delete_range(1, b"", &long),
        batch.delete_range(1, &long, b"z"),
        batch.put(2, b"other", &huge),
        batch.put_expiring(2, b"other", &huge, 1),
        batch.merge(2, b"other", &huge),
        // With what stands around it, it is no value any more.
        batch.merge(2, b"other", &huge[1..]),
        // With what is there already.
        batch.merge(1, b"key", &huge[10..]),
    ];
    for (number, refused) in refused.into_iter().enumerate() {
        let error = refused.expect_err("it is too long");
        assert!(matches!(error, BatchError::TooLong { .. }), "case {number}: {error}");
    }
    assert_eq!(batch.delete_range(1, b"b", b"b"), Err(BatchError::EmptyRange));
    assert_eq!(batch.delete_range(3, b"b", b"a"), Err(BatchError::EmptyRange));
    assert_eq!(batch, before);

    // Up to its bound and not a byte further, keyspaces and all.
    batch.put(2, b"half", &huge[..VALUE_BYTES]).expect("there is room");
    let room = BATCH_BYTES - batch.bytes();
    let before = batch.clone();
    for keyspace in [2, 3] {
        let error = batch.put(keyspace, b"rest", &huge[..room]).expect_err("there is less room");
        assert_eq!(error, BatchError::Full { what: "bytes", limit: BATCH_BYTES });
        assert_eq!(batch, before);
    }
    // One byte of kind, five of key, four of the value's length.
    batch.put(2, b"rest", &huge[..room - 10]).expect("it fits exactly");
    assert_eq!(batch.bytes(), BATCH_BYTES);
    let bytes = encoded(&batch);
    assert_eq!(BatchView::parse(&bytes).map(|view| view.len()), Ok(4));
    let longer = [bytes, vec![0]].concat();
    let error = BatchView::parse(&longer).expect_err("it is too long");
    assert_eq!(error, BatchError::Full { what: "bytes", limit: BATCH_BYTES });
}

#[test]
fn a_batch_has_no_more_entries_than_it_may() {
    let mut batch = WriteBatch::new();
    for number in 0..BATCH_ENTRIES as u32 - 1 {
        batch.delete(1, &number.to_be_bytes()).expect("there is room");
    }
    batch.put(1, &[9], b"").expect("there is room");
    let error = batch.merge(1, &[9], b"").expect_err("an operand is an entry of its own");
    assert_eq!(error, BatchError::Full { what: "entries", limit: BATCH_ENTRIES });
    batch.delete(1, &[9]).expect("it replaces one");
    assert_eq!(batch.len(), BATCH_ENTRIES);
    let bytes = encoded(&batch);
    assert_eq!(BatchView::parse(&bytes).map(|view| view.len()), Ok(BATCH_ENTRIES));
    // One more, in a keyspace of its own.
    let mut longer = [bytes, vec![2, 0, 1, 1, 0]].concat();
    longer[1] = 2;
    let error = BatchView::parse(&longer).expect_err("it has too many");
    assert_eq!(error, BatchError::Full { what: "entries", limit: BATCH_ENTRIES });
}

fn list(operands: &[&[u8]]) -> Vec<u8> {
    let mut builder = crate::operands::OperandsBuilder::default();
    operands.iter().for_each(|operand| builder.push(operand));
    let mut value = Vec::new();
    builder.put(&mut value);
    assert_eq!(value.len(), builder.bytes());
    value
}

#[test]
fn joined_operands_keep_their_order() {
    let (older, newer) = (list(&[b"1", b"", b"2"]), list(&[b"three", &[4; 300]]));
    let [older, newer] = [&older, &newer].map(|value| Operands::parse(value).expect("a list"));
    let joined = Operands::join(older, newer).expect("it is short");
    assert_eq!(joined, list(&[b"1", b"", b"2", b"three", &[4; 300]]));
    let joined = Operands::parse(&joined).expect("a list");
    assert_eq!(joined.len(), 5);
    assert_eq!(joined.iter().nth(3), Some(&b"three"[..]));
    let half = list(&[&vec![0; VALUE_BYTES / 2]]);
    let half = Operands::parse(&half).expect("a list");
    let error = Operands::join(half, half).expect_err("no value is so long");
    assert!(matches!(error, BatchError::TooLong { .. }), "{error}");
    for wrong in
        [&[][..], &[0], &[1], &[2, 0], &[1, 0, 0], &[1, 2, 0], &[0x81, 0, 0], &[1, 0x80, 0]]
    {
        Operands::parse(wrong).expect_err("it is no list");
    }
}
