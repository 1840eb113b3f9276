//! The bytes of a frame: what is written is read, and nothing else is.

use crate::format::{Commits, HEADER_BYTES, Header, Kind, Name, Start, Stored, checksum};

fn header() -> Header {
    Header {
        kind: Kind::Data,
        commits: 2,
        identity: 0xfeed_0000_0000_0000_0000_0000_0000_beef,
        generation: 7,
        offset: 8192,
        lsn: 1000,
        watermark: 998,
        trim: 500,
        payload_bytes: 11,
        previous: 0xdead_beef,
        payload_checksum: 77,
    }
}

#[test]
fn a_header_is_read_as_it_was_written() {
    let mut block = [0xff; HEADER_BYTES];
    let checksum = header().encode(&mut block);
    assert_eq!(Header::decode(&block, 8192), Some((header(), checksum)));
}

#[test]
fn a_header_at_another_offset_is_none() {
    let mut block = [0; HEADER_BYTES];
    header().encode(&mut block);
    assert_eq!(Header::decode(&block, 4096), None);
}

#[test]
fn a_header_with_any_bit_changed_is_none() {
    let mut block = [0; HEADER_BYTES];
    header().encode(&mut block);
    for bit in 0..HEADER_BYTES * 8 {
        block[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Header::decode(&block, 8192), None, "bit {bit}");
        block[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_header_that_contradicts_itself_is_none() {
    let mut block = [0; HEADER_BYTES];
    let mut refused = |at: usize, value: &[u8]| {
        header().encode(&mut block);
        block[at..at + value.len()].copy_from_slice(value);
        let sum = checksum(&block[..HEADER_BYTES - 4]);
        block[HEADER_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
        Header::decode(&block, 8192).is_none()
    };
    assert!(!refused(48, &2000_u64.to_le_bytes()), "another number is no contradiction");
    assert!(refused(8, &9_u32.to_le_bytes()), "an unknown kind");
    assert!(refused(8, &1_u32.to_le_bytes()), "a start inside a segment");
    assert!(refused(8, &3_u32.to_le_bytes()), "a witness with commits");
    assert!(refused(12, &0_u32.to_le_bytes()), "data without commits");
    assert!(refused(56, &1001_u64.to_le_bytes()), "a watermark above the frame");
    assert!(refused(64, &999_u64.to_le_bytes()), "a trim point above the watermark");
    assert!(refused(64, &0_u64.to_le_bytes()), "no trim point");
    assert!(refused(72, &u32::MAX.to_le_bytes()), "a payload above every limit");
}

#[test]
fn blocks_without_a_header_are_none() {
    assert_eq!(Header::decode(&[], 0), None);
    assert_eq!(Header::decode(&[0; 4096], 0), None);
    assert_eq!(Header::decode(&[0xff; HEADER_BYTES - 1], 0), None);
}

#[test]
fn commits_divide_the_payload_or_are_refused() {
    let payload = [3, 0, 0, 0, b'a', b'b', b'c', 0, 0, 0, 0];
    assert_eq!(
        Commits::new(&payload).collect::<Vec<_>>(),
        [Stored::Here(4..7), Stored::Here(11..11)]
    );
    let whole = Header { payload_checksum: checksum(&payload), ..header() };
    assert!(whole.payload_is_whole(&payload));
    assert!(!Header { commits: 1, ..whole }.payload_is_whole(&payload));
    assert!(!Header { commits: 3, ..whole }.payload_is_whole(&payload));
    assert!(!whole.payload_is_whole(&payload[..10]));
    let mut long = payload;
    long[0] = 200;
    assert!(!Header { payload_checksum: checksum(&long), ..header() }.payload_is_whole(&long));
}

#[test]
fn a_start_is_read_as_it_was_written() {
    let start = Start { version: 3, block_bytes: 4096, segment_bytes: 1 << 26, first_lsn: 7 };
    assert_eq!(Start::decode(&start.encode()), Some(start));
    assert!(start.is_sound(7) && start.is_sound(8) && !start.is_sound(6));
    assert!(!Start { segment_bytes: 4097, ..start }.is_sound(7));
    assert!(!Start { first_lsn: 0, ..start }.is_sound(7));
    assert_eq!(Start::decode(&[0; 23]), None);
}

#[test]
fn names_are_read_as_they_are_written_and_no_others() {
    for name in [Name::Segment(1), Name::Segment(0xfeed), Name::Spare(0), Name::Filling(12)] {
        assert_eq!(Name::parse(&name.to_string()), Some(name));
    }
    assert_eq!(Name::Segment(26).to_string(), "000000000000001a.wal");
    for other in [
        "1.wal",
        "000000000000001A.wal",
        "0000000000000000.wal",
        "ffffffffffffffff.wal",
        "+00000000000001a.wal",
        "spare-01",
        "spare-",
        "filling-x",
        "LOCK",
        "",
    ] {
        assert_eq!(Name::parse(other), None, "{other}");
    }
}
