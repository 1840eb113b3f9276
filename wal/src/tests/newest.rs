//! The newest segment is read once, and what is remembered of it is as good as reading it again.

use super::image::{IDENTITY, Image, corrupt, recover_from, segment_path};
use crate::Verdict;
use crate::format::{HEADER_BYTES, Header, Kind};
use crate::limits::{HEADERS_REMEMBERED, WINDOW_BYTES};

const BLOCK: usize = 4096;

/// One frame of commits that is acknowledged, and a missing one behind it, of which the frame behind
/// that says that it was durable: in blocks 1, 2 and 3.
fn with_a_hole() -> Image {
    let mut image = Image::new();
    image.start(2).data(&[b"one"]).data(&[b"two"]).data(&[b"three"]);
    let missing = image.find(3);
    image.bytes_of(&missing).fill(0);
    image
}

/// A header that an earlier life of the segment left, and that says nothing.
fn stale(offset: usize) -> [u8; HEADER_BYTES] {
    let header = Header {
        kind: Kind::Witness,
        commits: 0,
        identity: IDENTITY,
        generation: 1,
        offset: offset as u64,
        lsn: 1,
        watermark: 1,
        trim: 1,
        payload_bytes: 0,
        previous: 0,
        payload_checksum: 0,
    };
    let mut bytes = [0; HEADER_BYTES];
    header.encode(&mut bytes);
    assert!(Header::decode(&bytes, offset as u64).is_some(), "it is a header");
    bytes
}

#[test]
fn each_window_of_it_is_read_once() {
    let mut image = Image::new();
    image.start(2).data(&[b"one"]).data(&[b"two"]);
    image.file(2).resize(8 * WINDOW_BYTES, 0);
    let (folder, disk) = image.folder();
    let found = recover_from(&folder).expect("nothing is damaged");
    assert_eq!(found.commits(), [&b"one"[..], b"two"]);
    let reads = disk.file(&segment_path(2)).reads();
    let behind = reads.iter().filter(|&&offset| offset >= WINDOW_BYTES as u64).count();
    assert_eq!(behind, 7, "windows that hold no frame are looked at once: {reads:?}");
    // The start frame, the first window for the trim point and for the walk, the block at the end.
    assert_eq!(reads.len() - behind, 4, "{reads:?}");
}

#[test]
fn evidence_is_found_among_what_is_remembered() {
    let mut image = with_a_hole();
    assert_eq!(corrupt(image.recover()), (2, 2 * BLOCK as u64, 3));
    // The frame in which the evidence stands is torn itself: its header is enough.
    let evidence = image.find(4);
    image.bytes_of(&evidence)[HEADER_BYTES + 1] ^= 1;
    assert_eq!(corrupt(image.recover()), (2, 2 * BLOCK as u64, 3));
}

/// A bound on what is remembered must not be one on what is noticed.
#[test]
fn evidence_in_front_of_more_headers_than_are_remembered_is_found() {
    let mut image = with_a_hole();
    let first = 4;
    image.file(2).resize((first + HEADERS_REMEMBERED) * BLOCK, 0);
    for block in first..first + HEADERS_REMEMBERED {
        let at = block * BLOCK;
        image.file(2)[at..at + HEADER_BYTES].copy_from_slice(&stale(at));
    }
    assert_eq!(corrupt(image.recover()), (2, 2 * BLOCK as u64, 3));
}

/// A disk may read at the second try what it could not read at the first.
#[test]
fn a_block_that_is_read_at_the_second_try_is_not_overlooked() {
    let blocks = with_a_hole().file(2).len() / BLOCK;
    // The start frame, the window, and then each block of it.
    let scan = 1 + 1 + blocks as u32;
    let (folder, disk) = with_a_hole().folder();
    let file = disk.file(&segment_path(2));
    file.make_unreadable(3);
    file.mend_after(scan);
    assert_eq!(corrupt(recover_from(&folder)), (2, 2 * BLOCK as u64, 3));

    // The last frame of all, where nothing tells that it is missing.
    let mut image = Image::new();
    image.start(2).data(&[b"one"]).data(&[b"two"]);
    let (folder, disk) = image.folder();
    let file = disk.file(&segment_path(2));
    file.make_unreadable(2);
    file.mend_after(scan);
    let found = recover_from(&folder).expect("all of it can be read now");
    assert_eq!(found.commits(), [&b"one"[..], b"two"]);
    assert_eq!(found.survey.verdict, Verdict::Clean);
    assert_eq!(found.survey.unreadable_blocks, 1);
}
