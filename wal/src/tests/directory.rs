//! What else may stand in the directory.

use super::image::{Image, corrupt, witnessed};
use crate::error::LogError;
use crate::format::{HEADER_BYTES, Header, Kind, Start, VERSION, checksum};

#[test]
fn an_empty_directory_is_a_new_log() {
    let found = Image::new().recover().expect("nothing is damaged");
    assert_eq!(found.survey.identity, None);
    assert_eq!((found.survey.next_lsn, found.survey.highest_generation), (1, 0));
}

#[test]
fn a_creation_that_was_interrupted_is_a_new_log() {
    let mut image = Image::new();
    image.prepare(1);
    image.files.insert("filling-0".to_owned(), vec![0; 4096]);
    image.files.insert("spare-7".to_owned(), vec![0; 4096]);
    let found = image.recover().expect("nothing is damaged");
    assert_eq!((found.survey.identity, found.survey.next_lsn), (None, 1));
    assert_eq!(found.survey.leftovers.len(), 1);

    image.start(1);
    image.file(1)[40..96].fill(0);
    let found = image.recover().expect("a torn start frame is no damage");
    assert_eq!((found.survey.identity, found.survey.next_lsn), (None, 1));

    let mut image = Image::new();
    image.start(1);
    let found = image.recover().expect("nothing is damaged");
    assert!(found.survey.identity.is_some());
}

#[test]
fn a_log_without_any_start_frame_is_corruption() {
    let mut image = witnessed();
    for generation in 1..=3 {
        image.file(generation)[9] ^= 1;
    }
    let (segment, offset, lost) = corrupt(image.recover());
    assert_eq!((segment, offset, lost), (1, 0, 1));
}

#[test]
fn unknown_files_are_refused() {
    for name in ["notes.txt", "000000000000000G.wal", "1.wal", "LOCK"] {
        let mut image = witnessed();
        image.files.insert(name.to_owned(), Vec::new());
        match image.recover() {
            Err(LogError::NotOurs { name: found, .. }) => assert!(found.ends_with(name)),
            _ => panic!("{name} was accepted"),
        }
    }
}

fn with_start(start: Start) -> Image {
    let mut image = witnessed();
    let placed = image.find(5);
    let payload = start.encode();
    let header = Header { payload_checksum: checksum(&payload), ..placed.header };
    assert_eq!(header.kind, Kind::Start);
    let frame = image.bytes_of(&placed);
    header.encode(frame.first_chunk_mut().expect("a frame has a header"));
    frame[HEADER_BYTES..HEADER_BYTES + payload.len()].copy_from_slice(&payload);
    image
}

#[test]
fn another_version_is_refused() {
    let start =
        Start { version: VERSION + 1, block_bytes: 4096, segment_bytes: 1 << 16, first_lsn: 5 };
    match with_start(start).recover() {
        Err(LogError::WrongVersion { segment: 2, found, supported }) => {
            assert_eq!((found, supported), (VERSION + 1, VERSION));
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it opened"),
    }
}

#[test]
fn other_blocks_are_refused() {
    let start = Start { version: VERSION, block_bytes: 512, segment_bytes: 1 << 16, first_lsn: 5 };
    let error = with_start(start).recover().err().expect("blocks of 512 bytes");
    assert!(matches!(error, LogError::NotOurs { .. }), "{error}");
}
