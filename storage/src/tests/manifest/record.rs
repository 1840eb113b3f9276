//! The bytes of one commit.

use super::super::place::random;
use super::table;
use crate::limits::{CHANGE_BYTES, KEY_BYTES, NAME_BYTES, PART_BYTES_MAX};
use crate::manifest::record::{Begin, Body, End, Invalid, Part, Record, chain};
use crate::{Compression, Edit, KeyspaceOptions, PrefixExtractor, Strategy, TableMetadata};

fn largest() -> Edit {
    let key = |last| "k".repeat(KEY_BYTES - 1) + last;
    let options = KeyspaceOptions {
        strategy: Strategy::Fifo { ttl_ms: u64::MAX },
        prefix: Some(PrefixExtractor::Length(7)),
        merge_operator: Some("m".repeat(NAME_BYTES)),
        compression: Compression::Zstd { level: 3 },
    };
    Edit::new()
        .create_keyspace(u64::MAX, &"n".repeat(NAME_BYTES), options)
        .drop_keyspace(4)
        .add_table(TableMetadata { level: 3, run: 7, ..table(1, 2, &key("a"), &key("b")) })
        .remove_table(1, 2)
        .flushed(7, 1 << 40)
}

fn records() -> Vec<Record> {
    let changes = largest().changes;
    let begin = Begin { store: 77 << 80, numbers_below: 9 };
    vec![
        Record::new(1, Body::Edit(changes.clone())),
        Record::new(2, Body::Begin(begin)),
        Record::new(3, Body::Part(Part { index: 4, changes })),
        Record::new(u64::MAX, Body::End(End { parts: 5, checksum: 6 })),
    ]
}

#[test]
fn a_record_is_what_was_written() {
    for record in records() {
        let bytes = record.encode().expect("it is not too large");
        assert_eq!(Record::decode(&bytes), Ok(record));
    }
}

#[test]
fn a_change_takes_no_more_than_it_is_counted() {
    for change in largest().changes {
        let counted = change.bytes();
        let part = Part { index: 4, changes: vec![change.clone(); 2] };
        let two = Record::new(3, Body::Part(part)).encode().expect("it is not too large").len();
        let part = Part { index: 4, changes: vec![change.clone()] };
        let one = Record::new(3, Body::Part(part)).encode().expect("it is not too large").len();
        assert!(one <= counted && two - one <= counted, "{one} and {two} for {counted}");
        assert!(one <= PART_BYTES_MAX && counted <= 2 * KEY_BYTES + 2 * NAME_BYTES + CHANGE_BYTES);
    }
}

#[test]
fn what_is_not_a_record_is_told() {
    let bytes = records()[1].encode().expect("it is not too large");
    let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        match Record::decode(&bytes).expect_err("it is damaged") {
            Invalid::Damaged(what) => what,
            Invalid::WrongVersion(version) => format!("version {version}"),
        }
    };
    assert_eq!(damaged(&|bytes| bytes[0] = 2), "version 2");
    assert!(damaged(&|bytes| bytes[1] = 5).contains("the kind 5"));
    assert!(damaged(&|bytes| bytes[1] = 0).contains("the kind 0"));
    for at in 2..8 {
        assert!(damaged(&|bytes| bytes[at] = 1).contains("zeros"));
    }
    assert!(damaged(&|bytes| bytes.truncate(15)).contains("15 bytes"));
    assert!(damaged(&|bytes| bytes.truncate(20)).contains("no archive"));
    assert!(damaged(&|bytes| bytes.clear()).contains("0 bytes"));
}

/// Whatever the bytes are, they are a record or an error.
#[test]
fn any_bytes_are_survived() {
    let mut random = random(3);
    let encoded = records().into_iter().map(|record| record.encode().expect("it is small enough"));
    let encoded: Vec<_> = encoded.collect();
    let (mut read, mut refused) = (0, 0);
    for round in 0..20_000 {
        let mut bytes = encoded[round % encoded.len()].clone();
        // Where the archives have their lengths and places: at the beginning and at the end.
        for _ in 0..=random.below(3) {
            let near = random.below(300.min(bytes.len() as u64)) as usize;
            let at = if random.below(2) == 0 { near } else { bytes.len() - 1 - near };
            bytes[at] ^= 1 << random.below(8);
        }
        if random.below(8) == 0 {
            bytes.truncate(random.below(bytes.len() as u64) as usize);
        }
        match Record::decode(&bytes) {
            Ok(_) => read += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(read > 500 && refused > 500, "{read} {refused}");
}

#[test]
fn the_checksum_of_parts_knows_their_order() {
    let of = |parts: [&[u8]; 2]| parts.into_iter().fold(0, chain);
    assert_ne!(of([b"one", b"two"]), of([b"two", b"one"]));
    assert_ne!(of([b"one", b"two"]), of([b"on", b"etwo"]));
}
