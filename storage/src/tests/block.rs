//! Data blocks: bytes, search, and what is refused.

use bytes::Bytes;

use super::history::{History, Version};
use super::place::random;
use crate::block::{Block, BlockBuilder};
use crate::key::{InternalKey, Kind};
use crate::{Entry, key};

fn entries(history: &History) -> Vec<Entry<'_>> {
    let mut entries = Vec::new();
    for ((user_key, version), (expires_at_ms, value)) in &history.entries {
        let Version { sequence, kind } = *version;
        let expires_at_ms = *expires_at_ms;
        entries.push(Entry { user_key, sequence, kind, expires_at_ms, value });
    }
    entries
}

fn payload(entries: &[Entry<'_>]) -> Vec<u8> {
    let (mut builder, mut payload) = (BlockBuilder::default(), Vec::new());
    let mut expected = 0;
    for entry in entries {
        expected = builder.bytes_with(entry);
        builder.add(entry);
    }
    builder.finish(&mut payload);
    assert_eq!(payload.len(), expected, "sizes are told exactly");
    assert!(builder.is_empty());
    payload
}

#[test]
fn blocks_give_what_was_put_into_them() {
    for seed in 0..200 {
        let mut random = random(seed);
        let count = 1 + random.below(80) as usize;
        let history = History::draw(&mut random, count);
        let entries = entries(&history);
        let block = Block::parse(payload(&entries).into(), false).expect("it is whole");
        assert_eq!(block.len(), entries.len());
        let mut user_key = block.prefix().to_vec();
        for (at, entry) in entries.iter().enumerate() {
            let content = block.put_key(at, &mut user_key);
            let found = Entry {
                user_key: &user_key,
                sequence: content.sequence,
                kind: content.kind,
                expires_at_ms: content.expires_at_ms,
                value: &block.payload()[content.value],
            };
            assert_eq!(found, *entry);
            assert!(block.has_key(at, entry.user_key));
            assert_eq!(block.lower_bound(entry.internal_key()), at);
        }
        for _ in 0..100 {
            let user_key = super::history::draw_key(&mut random);
            let version = key::Version::seen_by(random.below(super::history::SEQUENCES));
            let bound = InternalKey { user_key: &user_key, version };
            let expected = entries.partition_point(|entry| entry.internal_key() < bound);
            assert_eq!(block.lower_bound(bound), expected);
            let has = entries.get(expected).is_some_and(|entry| entry.user_key == user_key);
            assert_eq!(expected < block.len() && block.has_key(expected, &user_key), has);
        }
    }
}

#[test]
fn sequences_of_any_distance_fit() {
    let sequences = [u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) - 1, 1 << 35, 300, 1, 0];
    for first in 0..sequences.len() {
        let entry = |sequence| Entry {
            user_key: b"k",
            sequence,
            kind: Kind::Value,
            expires_at_ms: None,
            value: b"v",
        };
        let entries: Vec<Entry<'_>> = sequences[first..].iter().map(|&at| entry(at)).collect();
        let block = Block::parse(payload(&entries).into(), false).expect("it is whole");
        let found: Vec<u64> = (0..block.len()).map(|at| block.content(at).sequence).collect();
        assert_eq!(found, sequences[first..]);
    }
}

/// Some entries, and the byte at which the second of them begins.
fn small() -> (Vec<u8>, usize) {
    let entry = |user_key, sequence, kind, value| {
        let expires_at_ms = (kind == Kind::ExpiringValue).then_some(9);
        Entry { user_key, sequence, kind, expires_at_ms, value }
    };
    let entries = [
        entry(b"aa", 500, Kind::Value, &b"one"[..]),
        entry(b"ab", 3, Kind::Deletion, b""),
        entry(b"ab", 2, Kind::ExpiringValue, b"two"),
    ];
    let bytes = payload(&entries);
    let second = usize::from(u16::from_le_bytes([bytes[18], bytes[19]]));
    (bytes, second)
}

fn refused(change: impl FnOnce(&mut Vec<u8>)) {
    let (mut bytes, _) = small();
    let before = bytes.clone();
    change(&mut bytes);
    assert_ne!(bytes, before);
    Block::parse(bytes.into(), false).expect_err("it is not whole");
}

#[test]
fn each_condition_is_asked_for() {
    let (bytes, second) = small();
    Block::parse(bytes.clone().into(), false).expect("it is whole");
    Block::parse(bytes.clone().into(), true).expect_err("no range tombstone is in it");
    // 1.
    refused(|bytes| bytes[..4].fill(0));
    refused(|bytes| bytes[0] = 2);
    refused(|bytes| bytes[0] = 4);
    refused(|bytes| bytes[..4].fill(0xff));
    refused(|bytes| bytes[4] = 0);
    refused(|bytes| bytes[4] = 200);
    refused(|bytes| bytes[6] = 4);
    refused(|bytes| bytes[7] = 1);
    refused(|bytes| bytes[16] += 1);
    refused(|bytes| bytes.truncate(15));
    // 2.
    refused(|bytes| bytes[18] += 1);
    refused(|bytes| bytes[18] = 255);
    refused(|bytes| bytes[20] = bytes[18]);
    refused(|bytes| bytes[second] = 200);
    refused(|bytes| bytes.truncate(bytes.len() - 12));
    // A varint that is longer than it needs to be, or has no end.
    refused(|bytes| bytes[second + 5] = 0);
    refused(|bytes| bytes.truncate(bytes.len() - 13));
    // 3.
    refused(|bytes| bytes[second + 3] = 0);
    refused(|bytes| bytes[second + 3] = 6);
    refused(|bytes| bytes[second + 3] = 7);
    refused(|bytes| {
        // The deletion gets the byte that the next entry begins with.
        bytes[20] += 1;
        let third = usize::from(bytes[20]);
        bytes.insert(third - 1, 7);
    });
    // 4.
    refused(|bytes| bytes[second + 2] = b'a' - 1);
    refused(|bytes| bytes.swap(second + 2, second - 1));
}

#[test]
fn keys_that_are_too_long_are_refused() {
    for (prefix, suffix) in [(65_535_usize, 0_u16), (65_535, 1)] {
        let slot = 16 + 4 + prefix as u32;
        let mut bytes = [1_u32.to_le_bytes(), [0xff, 0xff, 4, 0]].concat();
        bytes.extend_from_slice(&9_u64.to_le_bytes());
        bytes.extend_from_slice(&slot.to_le_bytes());
        bytes.resize(slot as usize, b'k');
        bytes.extend_from_slice(&suffix.to_le_bytes());
        bytes.resize(bytes.len() + usize::from(suffix), b'k');
        bytes.extend_from_slice(&[Kind::Value.number(), 0]);
        assert_eq!(Block::parse(bytes.into(), false).is_ok(), suffix == 0);
    }
}

#[test]
fn any_bytes_are_refused_or_a_block() {
    let mut random = random(5);
    for round in 0..30_000_u64 {
        let mut bytes = if round % 4 == 0 {
            let mut bytes = vec![0; random.below(100) as usize];
            random.fill(&mut bytes);
            bytes
        } else {
            let count = 1 + random.below(6) as usize;
            let mut history = History::draw(&mut random, count);
            history.entries.values_mut().for_each(|(_, value)| value.truncate(20));
            payload(&entries(&history))
        };
        for _ in 0..=random.below(3) {
            if !bytes.is_empty() {
                let at = random.below(bytes.len().min(120) as u64) as usize;
                bytes[at] = [random.next_u64() as u8, 0, 1, 0xff][random.below(4) as usize];
            }
        }
        for of_tombstones in [false, true] {
            let Ok(block) = Block::parse(Bytes::from(bytes.clone()), of_tombstones) else {
                continue;
            };
            // Whatever it holds, it is in order, and can be searched and read.
            let mut user_key = block.prefix().to_vec();
            for at in 0..block.len() {
                let content = block.put_key(at, &mut user_key);
                let version =
                    key::Version { sequence: content.sequence, kind: content.kind.number() };
                let bound = InternalKey { user_key: &user_key, version };
                assert_eq!(block.lower_bound(bound), at);
                let _ = &block.payload()[content.value];
            }
        }
    }
}
