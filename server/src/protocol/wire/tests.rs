//! The primitive types at their limits.

use bytes::Bytes;

use super::super::error::Fault;
use super::super::test_support::{by_hand, frame};
use super::super::types::Uuid;
use super::*;

fn reader(encoding: Encoding, text: &str) -> Reader {
    let mut reader = Reader::new(by_hand(text).into());
    reader.set_encoding(encoding);
    reader
}

fn classic(text: &str) -> Reader {
    reader(Encoding::Classic, text)
}

fn compact(text: &str) -> Reader {
    reader(Encoding::Flexible, text)
}

#[test]
fn integers_are_big_endian() {
    let mut reader = classic(
        "ff 7fff 01020304 0102030405060708 fffffffe 00 02 000102030405060708090a0b0c0d0e0f",
    );
    assert_eq!(reader.i8("a").unwrap(), -1);
    assert_eq!(reader.i16("b").unwrap(), 0x7fff);
    assert_eq!(reader.i32("c").unwrap(), 0x0102_0304);
    assert_eq!(reader.i64("d").unwrap(), 0x0102_0304_0506_0708);
    assert_eq!(reader.u32("e").unwrap(), 0xffff_fffe);
    assert!(!reader.bool("f").unwrap());
    assert!(reader.bool("g").unwrap());
    let uuid = reader.uuid("h").unwrap();
    assert_eq!(uuid.to_string(), "00010203-0405-0607-0809-0a0b0c0d0e0f");
    assert_eq!(u128::from(uuid), 0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f);
    reader.finish().unwrap();
}

#[test]
fn varints() {
    let cases: &[(u32, &str)] = &[
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "8001"),
        (300, "ac02"),
        (16_383, "ff7f"),
        (16_384, "808001"),
        (u32::MAX, "ffffffff0f"),
    ];
    for (value, text) in cases {
        let mut reader = compact(text);
        assert_eq!(reader.unsigned_varint("v").unwrap(), *value);
        reader.finish().unwrap();
        let mut writer = Writer::new();
        writer.unsigned_varint(*value);
        assert_eq!(frame(&writer.finish()), by_hand(text));
    }
    // Longer than needed is fine, longer than five bytes or 32 bits is not.
    assert_eq!(compact("8100").unsigned_varint("v").unwrap(), 1);
    for overflow in ["ffffffff10", "ffffffff7f", "ffffffff8f00", "808080808000"] {
        let error = compact(overflow).unsigned_varint("v").unwrap_err();
        assert_eq!(error.fault, Fault::VarintOverflow, "{overflow}");
        assert_eq!(error.offset_bytes, 0);
    }
    assert!(matches!(
        compact("8080").unsigned_varint("v").unwrap_err().fault,
        Fault::Truncated { needed_bytes: 1, remaining_bytes: 0 }
    ));
}

#[test]
fn strings_and_nulls() {
    assert_eq!(classic("0003 'abc'").string("s").unwrap(), "abc");
    assert_eq!(compact("04 'abc'").string("s").unwrap(), "abc");
    assert_eq!(classic("0000").nullable_string("s").unwrap().as_deref(), Some(""));
    assert_eq!(compact("01").nullable_string("s").unwrap().as_deref(), Some(""));
    assert_eq!(classic("ffff").nullable_string("s").unwrap(), None);
    assert_eq!(compact("00").nullable_string("s").unwrap(), None);
    assert_eq!(classic("ffff").string("s").unwrap_err().fault, Fault::Null);
    assert_eq!(compact("00").string("s").unwrap_err().fault, Fault::Null);
    assert_eq!(classic("0002 c328").string("s").unwrap_err().fault, Fault::NotUtf8);
}

#[test]
fn absurd_lengths_of_strings() {
    assert_eq!(classic("fffe").string("s").unwrap_err().fault, Fault::Negative { length: -2 });
    assert_eq!(
        classic("8000").string("s").unwrap_err().fault,
        Fault::Negative { length: i32::from(i16::MIN) }
    );
    assert_eq!(
        classic("7fff 'ab'").string("s").unwrap_err().fault,
        Fault::Truncated { needed_bytes: 0x7fff, remaining_bytes: 2 }
    );
    let length_bytes = u32::MAX as usize - 1;
    assert_eq!(
        compact("ffffffff0f 'ab'").string("s").unwrap_err().fault,
        Fault::StringTooLong { length_bytes, limit_bytes: MAXIMUM_STRING_BYTES }
    );
}

#[test]
fn absurd_lengths_of_bytes() {
    assert_eq!(
        classic("7fffffff 'ab'").bytes("b").unwrap_err().fault,
        Fault::Truncated { needed_bytes: 0x7fff_ffff, remaining_bytes: 2 }
    );
    assert_eq!(
        classic("fffffffe").nullable_bytes("b").unwrap_err().fault,
        Fault::Negative { length: -2 }
    );
    assert_eq!(
        compact("ffffffff0f 'ab'").bytes("b").unwrap_err().fault,
        Fault::Truncated { needed_bytes: u32::MAX as usize - 1, remaining_bytes: 2 }
    );
    assert_eq!(classic("ffffffff").bytes("b").unwrap_err().fault, Fault::Null);
    assert_eq!(classic("ffffffff").nullable_bytes("b").unwrap(), None);
    assert_eq!(compact("03 'ab'").bytes("b").unwrap(), "ab");
}

#[test]
fn absurd_counts() {
    let element = |reader: &mut Reader| reader.i8("element");
    assert_eq!(
        classic("7fffffff 0000").array("a", element).unwrap_err().fault,
        Fault::CountExceedsFrame { count: 0x7fff_ffff, remaining_bytes: 2 }
    );
    assert_eq!(
        classic("80000000").array("a", element).unwrap_err().fault,
        Fault::Negative { length: i32::MIN }
    );
    assert_eq!(
        compact("ffffffff0f 00").array("a", element).unwrap_err().fault,
        Fault::CountExceedsFrame { count: u32::MAX as usize - 1, remaining_bytes: 1 }
    );
    assert_eq!(compact("ffffffffff").array("a", element).unwrap_err().fault, Fault::VarintOverflow);
    assert_eq!(compact("00").array("a", element).unwrap_err().fault, Fault::Null);
    assert_eq!(compact("00").nullable_array("a", element).unwrap(), None);
    assert_eq!(compact("03 0102").array("a", element).unwrap(), [1, 2]);
    assert_eq!(
        compact("ffffffff0f 00").skip_tagged_fields().unwrap_err().fault,
        Fault::CountExceedsFrame { count: u32::MAX as usize, remaining_bytes: 1 }
    );
}

/// A frame of a hundred megabytes of one-byte elements would be gigabytes in memory.
#[test]
fn elements_of_a_frame_are_bounded_over_all_its_arrays() {
    let half = MAXIMUM_ELEMENTS / 2 + 1;
    let mut frame = Vec::new();
    for _ in 0..2 {
        frame.extend_from_slice(&(half as u32).to_be_bytes());
        frame.resize(frame.len() + half, 0);
    }
    let mut reader = Reader::new(frame.into());
    reader.array("first", |reader| reader.i8("element")).unwrap();
    let error = reader.array("second", |reader| reader.i8("element")).unwrap_err();
    assert_eq!(error.fault, Fault::TooManyElements { limit: MAXIMUM_ELEMENTS });
    assert_eq!(error.offset_bytes, 4 + half);
}

#[test]
fn tagged_fields_are_read_in_their_bounds() {
    // Two tags, 1 of two bytes and 5 of one, then a byte that belongs to what follows.
    let mut reader = compact("02 01 02 abcd 05 01 ef 77");
    let mut seen = Vec::new();
    reader
        .tagged_fields(|tag, reader| {
            seen.push((tag, reader.remaining_bytes()));
            Ok(())
        })
        .unwrap();
    assert_eq!(seen, [(1, 2), (5, 1)]);
    assert_eq!(reader.i8("after").unwrap(), 0x77);

    // A field cannot read past its tag, though the frame goes on.
    let mut reader = compact("01 00 02 0001 00000000");
    let error = reader.tagged_fields(|_, reader| reader.i32("inner").map(drop)).unwrap_err();
    assert_eq!((error.field, error.offset_bytes), ("inner", 3));
    assert_eq!(error.fault, Fault::Truncated { needed_bytes: 4, remaining_bytes: 2 });

    // A tag of more bytes than there are.
    let error = compact("01 00 ffffffff0f 00").skip_tagged_fields().unwrap_err();
    let needed_bytes = u32::MAX as usize;
    assert_eq!(error.fault, Fault::Truncated { needed_bytes, remaining_bytes: 1 });

    // In the classic encoding there are none.
    let mut reader = classic("01");
    reader.skip_tagged_fields().unwrap();
    assert_eq!(reader.remaining_bytes(), 1);
}

#[test]
fn errors_are_sentences() {
    let mut reader = classic("0000 0005 'ab'");
    reader.i16("first").unwrap();
    let error = reader.string("second").unwrap_err();
    assert_eq!(error.to_string(), "field second at byte 4: needs 5 bytes but 2 are left");
    let error = classic("00").finish().unwrap_err();
    assert_eq!(
        error.to_string(),
        "field end at byte 0: is where the message ends, but 1 bytes follow"
    );
}

#[test]
fn strings_too_long_for_the_protocol_are_cut_between_characters() {
    let long = "ü".repeat(20_000);
    for encoding in [Encoding::Classic, Encoding::Flexible] {
        let mut writer = Writer::new();
        writer.set_encoding(encoding);
        writer.string(&long);
        writer.nullable_string(None);
        let mut reader = Reader::new(frame(&writer.finish()));
        reader.set_encoding(encoding);
        let cut = reader.string("s").unwrap();
        assert_eq!(cut, "ü".repeat(MAXIMUM_STRING_BYTES / 2));
        assert_eq!(reader.nullable_string("s").unwrap(), None);
        reader.finish().unwrap();
    }
}

#[test]
fn payload_too_large_for_a_frame_is_written_as_empty() {
    // The same sixteen megabytes, over and over: nothing is copied until the frame is joined.
    let piece = Bytes::from(vec![0; 16 << 20]);
    let pieces = vec![piece.clone(); MAXIMUM_PAYLOAD_BYTES / piece.len()];
    let mut writer = Writer::new();
    writer.bytes(&pieces);
    let written = pieces.len() * piece.len();
    writer.bytes(&vec![piece; 2]);
    writer.i8(1);
    let segments = writer.finish();
    assert_eq!(segments.len(), 1 + pieces.len() + 1);
    assert_eq!(segments[0][..4], (4 + written as u32 + 4 + 1).to_be_bytes());
    assert_eq!(segments[segments.len() - 1], by_hand("00000000 01"));
}

#[test]
fn segments_are_never_empty_and_payloads_keep_their_place() {
    let mut writer = Writer::new();
    writer.i8(1);
    writer.nullable_bytes(Some(&Bytes::from_static(b"first")));
    writer.nullable_bytes(Some(&Bytes::new()));
    writer.nullable_bytes(None);
    writer.set_encoding(Encoding::Flexible);
    writer.bytes(&[Bytes::from_static(b"se"), Bytes::new(), Bytes::from_static(b"cond")]);
    writer.nullable_bytes(None);
    writer.uuid(Uuid::ZERO);
    writer.u32(5);
    let expected = by_hand(
        "01 00000005 'first' 00000000 ffffffff 07 'second' 00
         00000000000000000000000000000000 00000005",
    );
    assert_eq!(frame(&writer.finish()), expected);
    assert_eq!(frame(&Writer::new().finish()), Bytes::new());
}
