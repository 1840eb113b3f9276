//! Each condition of docs/log-format.md by itself: a frame that meets all others, and not this one,
//! is not believed. Checksums are right everywhere, as if software had done the damage.

use super::image::{Image, SEGMENT_BYTES, corrupt, recover_from, segment_path};
use crate::error::LogError;
use crate::format::{
    HEADER_BYTES, Header, Kind, START_BYTES, Start, VERSION, checksum, frame_bytes,
};
use crate::limits::{SEGMENT_BYTES_MAX, UNREADABLE_BLOCKS_MAX};

const BLOCK: usize = 4096;

/// The header of a frame of each kind, each sound.
fn headers() -> [Header; 4] {
    let data = Header {
        kind: Kind::Data,
        commits: 2,
        identity: 5,
        generation: 7,
        offset: 8192,
        lsn: 1000,
        watermark: 998,
        trim: 500,
        payload_bytes: 11,
        previous: 0xdead_beef,
        payload_checksum: 77,
    };
    let start = Header {
        kind: Kind::Start,
        commits: 0,
        offset: 0,
        payload_bytes: START_BYTES as u32,
        ..data
    };
    let witness = Header { kind: Kind::Witness, commits: 0, payload_bytes: 0, ..data };
    [start, data, witness, Header { kind: Kind::Carried, ..data }]
}

/// Whether the header is believed when bytes of it are others, and its checksum is right for them.
fn is_believed(header: &Header, changes: &[(usize, &[u8])]) -> bool {
    let mut block = [0; HEADER_BYTES];
    header.encode(&mut block);
    for &(at, bytes) in changes {
        block[at..at + bytes.len()].copy_from_slice(bytes);
    }
    let sum = checksum(&block[..HEADER_BYTES - 4]);
    block[HEADER_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
    let offset = block[40..48].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    Header::decode(&block, offset).is_some()
}

const KIND: usize = 8;
const COMMITS: usize = 12;
const GENERATION: usize = 32;
const OFFSET: usize = 40;
const LSN: usize = 48;
const WATERMARK: usize = 56;
const TRIM: usize = 64;
const PAYLOAD_BYTES: usize = 72;

#[test]
fn headers_that_meet_all_conditions_are_believed() {
    for header in headers() {
        assert!(is_believed(&header, &[]), "{header:?}");
    }
}

#[test]
fn condition_1_another_magic() {
    for header in headers() {
        assert!(!is_believed(&header, &[(0, b"WCKFRAMF")]), "{header:?}");
        assert!(!is_believed(&header, &[(0, &[0; 8])]), "{header:?}");
    }
}

#[test]
fn condition_2_no_such_kind() {
    for header in headers() {
        for kind in [0_u32, 5, 6, 0x0100_0001, u32::MAX] {
            assert!(!is_believed(&header, &[(KIND, &kind.to_le_bytes())]), "{kind} {header:?}");
        }
    }
}

#[test]
fn condition_2_start_exactly_if_the_offset_is_0() {
    for header in headers() {
        let other: u64 = if header.kind == Kind::Start { 4096 } else { 0 };
        assert!(!is_believed(&header, &[(OFFSET, &other.to_le_bytes())]), "{header:?}");
    }
}

#[test]
fn condition_3_numbers_that_contradict_each_other() {
    let number = |number: u64| number.to_le_bytes();
    for header in headers() {
        let refused = |at, bytes: &[u8]| {
            assert!(!is_believed(&header, &[(at, bytes)]), "{at} {bytes:?} {header:?}");
        };
        refused(TRIM, &number(0));
        refused(TRIM, &number(header.watermark + 1));
        refused(WATERMARK, &number(header.trim - 1));
        refused(WATERMARK, &number(header.lsn + 1));
        refused(LSN, &number(header.watermark - 1));
        refused(LSN, &number(u64::MAX));
        refused(GENERATION, &number(0));
        refused(GENERATION, &number(u64::MAX));
        if header.kind != Kind::Start {
            refused(OFFSET, &number(SEGMENT_BYTES_MAX + BLOCK as u64));
        }
        if header.kind != Kind::Witness {
            refused(PAYLOAD_BYTES, &u32::MAX.to_le_bytes());
        }
    }
}

#[test]
fn condition_4_commits_and_payload_that_do_not_fit_the_kind() {
    let [start, data, witness, _] = headers();
    let one = 1_u32.to_le_bytes();
    assert!(!is_believed(&start, &[(COMMITS, &one)]), "a start has no commits");
    assert!(!is_believed(&data, &[(COMMITS, &[0; 4])]), "data has commits");
    assert!(!is_believed(&witness, &[(COMMITS, &one)]), "a witness has no commits");
    assert!(!is_believed(&witness, &[(PAYLOAD_BYTES, &one)]), "a witness has no payload");
}

/// A frame that would be the next but for its header.
fn next(image: &Image, payload: &[u8]) -> Header {
    Header {
        kind: Kind::Data,
        commits: 1,
        identity: image.identity,
        generation: 1,
        offset: image.offset as u64,
        lsn: image.next_lsn,
        watermark: image.next_lsn,
        trim: 1,
        payload_bytes: payload.len() as u32,
        previous: image.previous,
        payload_checksum: checksum(payload),
    }
}

const PAYLOAD: &[u8] = b"\x04\0\0\0evil";

/// A log with two commits.
fn short() -> Image {
    let mut image = Image::new();
    image.start(1).data(&[b"one"]).data(&[b"two"]);
    image
}

/// What is served when such a frame stands behind the two commits. It says of nothing that it was
/// durable, so that leaving it out is right.
fn served_with(change: impl Fn(&mut Header), payload: &[u8]) -> Vec<Vec<u8>> {
    let mut image = short();
    let mut header = next(&image, payload);
    change(&mut header);
    image.place(&header, payload, &[]);
    image.recover().expect("nothing that was acknowledged is missing").commits()
}

#[test]
fn a_frame_that_meets_all_conditions_is_served() {
    assert_eq!(served_with(|_| (), PAYLOAD), [&b"one"[..], b"two", b"evil"]);
}

#[test]
fn condition_5_another_place_identity_or_generation() {
    let alone = [&b"one"[..], b"two"];
    assert_eq!(served_with(|header| header.offset += 4096, PAYLOAD), alone);
    assert_eq!(served_with(|header| header.identity ^= 1 << 99, PAYLOAD), alone);
    assert_eq!(served_with(|header| header.generation = 9, PAYLOAD), alone);
}

/// Frames of another log prove nothing about this one, and trim nothing of it.
#[test]
fn condition_5_what_another_log_says_is_not_heard() {
    let alone = [&b"one"[..], b"two"];
    let foreign = |header: &mut Header| {
        header.identity ^= 1;
        (header.lsn, header.watermark, header.trim) = (90, 80, 70);
    };
    assert_eq!(served_with(foreign, PAYLOAD), alone);
}

#[test]
fn condition_6_another_payload() {
    assert_eq!(served_with(|header| header.payload_checksum ^= 1, PAYLOAD), [&b"one"[..], b"two"]);
}

#[test]
fn condition_7_a_payload_that_does_not_divide_into_the_commits() {
    let alone = [&b"one"[..], b"two"];
    assert_eq!(served_with(|header| header.commits = 2, PAYLOAD), alone);
    for rest in 1..=4 {
        let mut payload = PAYLOAD.to_vec();
        payload.extend(std::iter::repeat_n(0xff, rest));
        assert_eq!(served_with(|_| (), &payload), alone, "{rest} bytes belong to no commit");
    }
    assert_eq!(served_with(|_| (), b"\x05\0\0\0evil"), alone, "the commit ends behind the payload");
}

/// Puts another start into the first segment of a log.
fn with_start(change: impl Fn(&mut Start)) -> Result<(), LogError> {
    let mut image = short();
    let mut start = Start {
        version: VERSION,
        block_bytes: BLOCK as u32,
        segment_bytes: SEGMENT_BYTES as u64,
        first_lsn: 1,
    };
    change(&mut start);
    let placed = image.find(1);
    let header = Header { payload_checksum: checksum(&start.encode()), ..placed.header };
    let frame = image.bytes_of(&placed);
    header.encode(frame.first_chunk_mut().expect("a frame has a header"));
    frame[HEADER_BYTES..HEADER_BYTES + START_BYTES].copy_from_slice(&start.encode());
    image.recover().map(|_| ())
}

#[test]
fn condition_7_a_start_that_is_none_of_this_version() {
    let is_refused = |outcome| matches!(outcome, Err(LogError::NotOurs { .. }));
    assert!(is_refused(with_start(|start| start.first_lsn = 0)));
    assert!(is_refused(with_start(|start| start.first_lsn = 2)), "behind its own start");
    assert!(is_refused(with_start(|start| start.segment_bytes = 0)));
    assert!(is_refused(with_start(|start| start.segment_bytes += 1)));
    assert!(is_refused(with_start(|start| start.segment_bytes = SEGMENT_BYTES_MAX + 4096)));
    assert!(is_refused(with_start(|start| start.block_bytes = 512)));
    let newer = with_start(|start| start.version += 1);
    assert!(matches!(newer, Err(LogError::WrongVersion { found: 3, supported: 2, .. })));
    let none = with_start(|start| start.version = 0);
    assert!(matches!(none, Err(LogError::WrongVersion { found: 0, .. })));
}

#[test]
fn the_version_before_is_read() {
    let mut image = Image::new();
    image.version = 1;
    image.start(1).data(&[b"one", b"two"]).witness();
    let found = image.recover().expect("nothing is wrong with it");
    assert_eq!(found.commits(), [&b"one"[..], b"two"]);
}

#[test]
fn condition_8_another_number_or_another_frame_before() {
    let alone = [&b"one"[..], b"two"];
    let other = |lsn: u64| {
        move |header: &mut Header| (header.lsn, header.watermark) = (lsn, lsn.min(header.watermark))
    };
    assert_eq!(served_with(other(3), PAYLOAD), alone, "the number is there already");
    assert_eq!(served_with(other(5), PAYLOAD), alone, "a frame is missing");
    assert_eq!(served_with(|header| header.previous ^= 1, PAYLOAD), alone);
}

/// A copy that an interrupted recovery made is not a frame that was written behind the start.
#[test]
fn condition_8_a_copy_behind_its_segments_start() {
    let served = served_with(|header| header.kind = Kind::Carried, PAYLOAD);
    assert_eq!(served, [&b"one"[..], b"two"]);
}

/// What stands below the start's number must be a copy; the copies were durable before the start.
#[test]
fn condition_8_no_copy_below_its_segments_start() {
    let mut image = short();
    image.carry_over(2, 3).data(&[b"more"]);
    assert_eq!(image.recover().expect("it is whole").commits(), [&b"one"[..], b"two", b"more"]);
    let copy = image.frames.iter().rfind(|placed| placed.header.kind == Kind::Carried).cloned();
    let copy = copy.expect("it was carried over");
    let header = Header { kind: Kind::Data, ..copy.header };
    header.encode(image.bytes_of(&copy).first_chunk_mut().expect("a frame has a header"));
    corrupt(image.recover());
}

/// A file that grew holds no more frames than its start says.
#[test]
fn a_frame_behind_the_segments_end_is_none() {
    let mut image = Image::new();
    image.start(1).data(&[&vec![1; SEGMENT_BYTES - 2 * BLOCK]]);
    assert_eq!(image.offset, SEGMENT_BYTES);
    let before = image.recover().expect("it is whole").commits();
    image.file(1).resize(SEGMENT_BYTES + frame_bytes(PAYLOAD.len()), 0);
    let header = next(&image, PAYLOAD);
    image.place(&header, PAYLOAD, &[]);
    assert_eq!(image.recover().expect("nothing is missing").commits(), before);
}

/// Step 3: what a recovery carried over may come from several segments, and supersedes it in all.
#[test]
fn copies_supersede_the_originals_in_every_older_segment() {
    let mut image = Image::new();
    image.start(1).data(&[b"one"]).data(&[b"two"]).start(2).data(&[b"three"]);
    image.carry_over(3, 3).data(&[b"four"]).witness();
    let found = image.recover().expect("it is whole");
    assert_eq!(found.commits(), [&b"one"[..], b"two", b"three", b"four"]);
    // Also when an original has become another frame since: it is dead.
    let original = image.frames.iter().find(|placed| placed.header.lsn == 3).cloned();
    let original = original.expect("it was placed");
    image.bytes_of(&original)[HEADER_BYTES + 5] ^= 1;
    let found = image.recover().expect("what is damaged is dead");
    assert_eq!(found.commits(), [&b"one"[..], b"two", b"three", b"four"]);
}

/// Step 6: the start frame of a recovery stands in one sector, and a sector may be shorn: the header
/// is the new one, what the start says is not. That start was never durable.
#[test]
fn a_start_that_is_shorn_behind_its_header_was_never_durable() {
    let mut image = short();
    image.restart(2, 4);
    let start = image.find(4);
    image.bytes_of(&start)[HEADER_BYTES..].fill(0);
    let found = image.recover().expect("nothing that was acknowledged is missing");
    assert_eq!(found.commits(), [b"one", b"two"]);
}

/// Step 9: a crash leaves some blocks unreadable, and not as many as that.
#[test]
fn very_many_unreadable_blocks_are_no_torn_tail() {
    let outcome = |unreadable: u64| {
        let mut image = short();
        let end = image.offset / BLOCK;
        image.file(1).resize((end + 2 + unreadable as usize) * BLOCK, 0);
        let (folder, disk) = image.folder();
        let file = disk.file(&segment_path(1));
        (0..unreadable).for_each(|block| file.make_unreadable((end + 1) as u64 + block));
        recover_from(&folder)
    };
    let few = outcome(UNREADABLE_BLOCKS_MAX).expect("a crash may leave so many");
    assert_eq!(few.commits(), [b"one", b"two"]);
    corrupt(outcome(UNREADABLE_BLOCKS_MAX + 1));
}
