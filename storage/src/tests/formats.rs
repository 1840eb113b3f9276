//! What is believed of first and last pages, of what stands around blocks, of indexes, and of range
//! tombstones.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::place::{ID, random};
use crate::TableId;
use crate::block::BlockBuilder;
use crate::compression::{Compression, Compressor, Method};
use crate::key::{InternalKey, Kind, Version};
use crate::table::ends::{Footer, Invalid, check_header, encode_header};
use crate::table::envelope::{BlockKind, Seed, open, seal};
use crate::table::index::{Index, Place};
use crate::{Entry, Properties, TableOptions, Tombstones};

const LIMIT: u64 = 100_000;
const FOOTER: Footer = Footer {
    file_bytes: LIMIT,
    top_index: Place { offset: 8192, bytes: 100 },
    properties: Place { offset: 9000, bytes: 200 },
    range_tombstones: Some(Place { offset: 5000, bytes: 50 }),
};

/// Makes the checksum right again, as software that is wrong would.
fn reseal(page: &mut [u8], bytes: usize) {
    let checksum = xxh3_64(&page[..bytes - 8]);
    page[bytes - 8..bytes].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn first_pages_are_of_their_table_alone() {
    let page = encode_header(ID);
    assert_eq!(check_header(&page, ID), Ok(()));
    for other in [
        TableId { store: ID.store ^ 1 << 100, ..ID },
        TableId { keyspace: 4, ..ID },
        TableId { number: 8, ..ID },
    ] {
        let Err(Invalid::Damaged(what)) = check_header(&page, other) else {
            panic!("it is another")
        };
        assert!(what.contains("it is table 0000000000000007 of keyspace 3"), "{what}");
    }
    for at in 0..56 {
        let mut damaged = page;
        damaged[at] ^= 1;
        check_header(&damaged, ID).expect_err("its checksum is wrong");
        if at < 48 {
            reseal(&mut damaged, 56);
            let error = check_header(&damaged, ID).expect_err("every field is looked at");
            assert_eq!(matches!(error, Invalid::WrongVersion(_)), (8..12).contains(&at));
        }
    }
    check_header(&page[..55], ID).expect_err("it is cut short");
}

#[test]
fn last_pages_are_of_their_file_alone() {
    let page = FOOTER.encode(ID);
    assert_eq!(Footer::decode(&page, ID, LIMIT), Ok(FOOTER));
    let without = Footer { range_tombstones: None, ..FOOTER };
    assert_eq!(Footer::decode(&without.encode(ID), ID, LIMIT), Ok(without));
    Footer::decode(&page, ID, LIMIT + 4096).expect_err("the file is longer");
    Footer::decode(&page, TableId { number: 8, ..ID }, LIMIT).expect_err("it is another table");
    check_header(&page, ID).expect_err("it is no first page");
    for at in 0..104 {
        let mut damaged = page;
        damaged[at] ^= 1;
        Footer::decode(&damaged, ID, LIMIT).expect_err("its checksum is wrong");
        if at < 56 {
            reseal(&mut damaged, 104);
            Footer::decode(&damaged, ID, LIMIT).expect_err("these fields are looked at");
        }
    }
    let last = LIMIT - 4096;
    for wrong in [
        Place { offset: 0, bytes: 100 },
        Place { offset: 4095, bytes: 100 },
        Place { offset: 5000, bytes: 20 },
        Place { offset: last - 99, bytes: 100 },
        Place { offset: u64::MAX - 50, bytes: 100 },
    ] {
        for footer in [
            Footer { top_index: wrong, ..FOOTER },
            Footer { properties: wrong, ..FOOTER },
            Footer { range_tombstones: Some(wrong), ..FOOTER },
        ] {
            let error = Footer::decode(&footer.encode(ID), ID, LIMIT);
            assert!(matches!(error, Err(Invalid::Damaged(_))), "{wrong}");
        }
    }
}

fn sealed(offset: u64, stored: (Method, &[u8]), raw_bytes: usize) -> Vec<u8> {
    let mut block = Vec::new();
    seal(Seed::of(ID), offset, BlockKind::Data, stored, raw_bytes, &mut block);
    block
}

#[test]
fn blocks_are_believed_at_their_place_of_their_table() {
    let mut compressor = Compressor::new(Compression::Lz4).expect("it can be made");
    let raw = [b"what is in a block ".repeat(30), vec![1, 2, 3]].concat();
    for stored in [(Method::None, &raw[..]), compressor.compress(&raw)] {
        let block = Bytes::from(sealed(5000, stored, raw.len()));
        let seed = Seed::of(ID);
        assert_eq!(open(seed, 5000, BlockKind::Data, &block), Ok(Bytes::from(raw.clone())));
        open(seed, 5001, BlockKind::Data, &block).expect_err("it is another place");
        open(seed, 5000, BlockKind::Filter, &block).expect_err("it is another kind");
        for other in [
            TableId { store: ID.store ^ 1, ..ID },
            TableId { keyspace: 4, ..ID },
            TableId { number: 8, ..ID },
        ] {
            let error = open(Seed::of(other), 5000, BlockKind::Data, &block);
            error.expect_err("it is another table");
        }
        for at in 0..block.len() {
            let mut damaged = block.to_vec();
            damaged[at] ^= 0x10;
            open(seed, 5000, BlockKind::Data, &damaged.into()).expect_err("a bit is wrong");
        }
        for length in 0..block.len() {
            open(seed, 5000, BlockKind::Data, &block.slice(..length)).expect_err("it is cut short");
        }
    }
}

/// Fields that are wrong under a checksum that is right.
#[test]
fn every_field_around_a_block_is_looked_at() {
    let changed = |change: &dyn Fn(&mut [u8])| {
        let mut block = sealed(5000, (Method::None, b"payload"), 7);
        change(&mut block);
        // What was changed stands in front; the rest is its payload.
        let checksum = xxhash_rust::xxh3::xxh3_64_with_seed(
            &block[8..],
            xxh3_64(&id_bytes()).wrapping_add(5000),
        );
        block[..8].copy_from_slice(&checksum.to_le_bytes());
        open(Seed::of(ID), 5000, BlockKind::Data, &block.into())
    };
    assert_eq!(
        changed(&|_| {}),
        Ok(Bytes::from_static(b"payload")),
        "the checksum is as documented"
    );
    for (at, value) in [(8, 0), (8, 9), (9, 1), (9, 2), (9, 3), (10, 1), (11, 1), (12, 6), (13, 1)]
    {
        changed(&|block| block[at] = value).expect_err("it is not such a block");
    }
    // A place that is longer than its block.
    changed(&|block| (block[12], block[16]) = (6, 6)).expect_err("a byte is left over");
    for raw in [0_u32, 6, 8, u32::MAX] {
        changed(&|block| block[16..20].copy_from_slice(&raw.to_le_bytes()))
            .expect_err("lengths differ");
        let error = changed(&|block| {
            block[9] = 2;
            block[16..20].copy_from_slice(&raw.to_le_bytes());
        })
        .expect_err("it cannot be decompressed");
        // A length that no payload has is refused before room is made for it.
        assert_eq!(error.contains("claims"), raw == u32::MAX, "{error}");
    }
}

fn id_bytes() -> Vec<u8> {
    [&ID.store.to_le_bytes()[..], &ID.keyspace.to_le_bytes(), &ID.number.to_le_bytes()].concat()
}

fn place(offset: u64) -> Place {
    Place { offset, bytes: 30 }
}

fn index_of(blocks: &[(&[u8], u64, Place)], filters: bool) -> Index {
    let mut index = Index::default();
    for &(user_key, sequence, at) in blocks {
        let kind = Kind::Value.number();
        let key = InternalKey { user_key, version: Version { sequence, kind } };
        index.push(key, at, filters.then_some(place(4100)));
    }
    index
}

fn decode(index: &Index) -> Result<Index, String> {
    let archive = index.encode().expect("it can be archived");
    Index::decode(archive.as_ref(), LIMIT)
}

#[test]
fn indexes_are_believed_if_blocks_are_in_order_and_in_the_file() {
    let good = [(&b"a"[..], 5, place(4096)), (b"a", 4, place(4126)), (b"bc", 9, place(LIMIT - 30))];
    for filters in [false, true] {
        let index = index_of(&good, filters);
        assert_eq!(decode(&index), Ok(index));
    }
    decode(&Index::default()).expect("a table of range tombstones alone has an empty one");
    for wrong in [place(0), place(4095), place(LIMIT - 29), Place { offset: 8192, bytes: 20 }] {
        decode(&index_of(&[(b"a", 5, wrong)], false)).expect_err("it is not in the file");
    }
    let long = vec![b'a'; 65_536];
    decode(&index_of(&[(&long, 5, place(4096))], false)).expect_err("no key is so long");
    let overlap = [(&b"a"[..], 5, place(4096)), (b"b", 4, place(4125))];
    decode(&index_of(&overlap, false)).expect_err("blocks overlap");
    for at in 0..8 {
        let mut parts = index_of(&good, true);
        parts.break_for_test(at);
        decode(&parts).expect_err("its arrays do not fit each other");
    }
}

/// However large the file: what reads a block makes room for it first.
#[test]
fn no_place_is_larger_than_a_block() {
    let most = 20 + crate::limits::PAYLOAD_BYTES as u32;
    let all = 4096..1 << 40;
    assert!(Place { offset: 4096, bytes: most }.is_within(all.clone()));
    for bytes in [0, 20, most + 1, u32::MAX] {
        assert!(!Place { offset: 4096, bytes }.is_within(all.clone()), "{bytes}");
    }
}

#[test]
fn any_bytes_are_refused_or_an_index_or_properties() {
    let mut random = random(6);
    let index = index_of(&[(b"a", 5, place(4096)), (b"b", 4, place(4126))], true);
    let index = index.encode().expect("it can be archived").as_ref().to_vec();
    let properties = Properties::new(&TableOptions::default());
    let properties = properties.encode().expect("it can be archived").as_ref().to_vec();
    for _ in 0..20_000 {
        for archive in [&index, &properties] {
            let mut bytes = archive.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] = [random.next_u64() as u8, 0, 1, 0xff][random.below(4) as usize];
            }
            let cut = random.below(12).saturating_sub(8) as usize;
            bytes.truncate(bytes.len() - cut);
            if let Ok(found) = Index::decode(&bytes, LIMIT) {
                let bound = InternalKey { user_key: b"ab", version: Version::FIRST };
                assert!(found.lower_bound(bound) <= found.len());
                (0..found.len())
                    .for_each(|at| assert!(found.separator(at).user_key.len() <= bytes.len()));
            }
            drop(Properties::decode(&bytes));
        }
    }
}

fn tombstones(of: &[(&[u8], u64, &[u8])]) -> Result<Tombstones, String> {
    let (mut builder, mut payload) = (BlockBuilder::default(), Vec::new());
    for &(user_key, sequence, value) in of {
        let kind = Kind::RangeDeletion;
        builder.add(&Entry { user_key, sequence, kind, expires_at_ms: None, value });
    }
    builder.finish(&mut payload);
    Tombstones::parse(payload.into())
}

#[test]
fn range_tombstones_are_believed_if_they_do_not_overlap() {
    let good = tombstones(&[(b"a", 9, b"c"), (b"a", 5, b"c"), (b"c", 7, b"d")]);
    assert_eq!(good.map(|found| found.len()), Ok(3));
    let long = vec![b'z'; 65_536];
    for wrong in [
        &[(&b"a"[..], 5, &long[..])][..],
        &[(b"a", 5, b"a")],
        &[(b"b", 5, b"a")],
        &[(b"a", 5, b"c"), (b"b", 5, b"d")],
        &[(b"a", 9, b"c"), (b"a", 5, b"d")],
        &[(b"a", 9, b"d"), (b"a", 5, b"c")],
    ] {
        tombstones(wrong).expect_err("they overlap, or are empty");
    }
}
