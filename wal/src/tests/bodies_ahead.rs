//! Bodies that recovery reads before it needs them.

use std::rc::Rc;

use futures_util::FutureExt;

use super::image::{Image, SEGMENT_BYTES, path, segment_path};
use super::memory::{MemoryDisk, MemoryFile};
use crate::Recovered;
use crate::error::LogError;
use crate::format::{Name, Reference, checksum};
use crate::limits::{BODIES_AHEAD, BODIES_AHEAD_BYTES, LEAVING_BYTES, WINDOWS_AHEAD};
use crate::recovery::{Bodies, BodyFiles, recover, take_inventory};
use crate::segments::Folder;

const NOT_NOW: &str = "a disk in memory never waits";

/// A file with a body of so many bytes at every place, and those bodies.
fn bodies(count: u64, length: usize) -> (Bodies<MemoryFile>, MemoryFile, Vec<Reference>) {
    let disk = MemoryDisk::default();
    let place = length.next_multiple_of(4096);
    let (mut content, mut references) = (Vec::new(), Vec::new());
    for number in 0..count {
        let body = vec![number as u8; length];
        let (offset, checksum) = (content.len() as u64, checksum(&body));
        references.push(Reference { generation: 2, offset, length: length as u32, checksum });
        content.extend_from_slice(&body);
        content.resize(content.len().next_multiple_of(place), 0);
    }
    let file = disk.put(&path().join(Name::Bodies(2).to_string()), content);
    let folder = Folder::new(disk, path());
    let files = BodyFiles::open(&folder, &[2]).now_or_never().expect(NOT_NOW);
    (Bodies::new(Rc::new(files.expect("it is there"))), file, references)
}

fn expect(bodies: &mut Bodies<MemoryFile>, references: &[Reference]) {
    bodies.expect(references.iter().copied()).now_or_never().expect(NOT_NOW);
}

fn next(bodies: &mut Bodies<MemoryFile>) -> Result<Vec<u8>, String> {
    let read = bodies.next().now_or_never().expect(NOT_NOW).expect("this disk reads");
    read.map(|body| body.to_vec())
}

#[test]
fn a_few_are_read_ahead_each_once_and_all_come_in_order() {
    let (mut bodies, file, references) = bodies(30, 5000);
    expect(&mut bodies, &references[..1]);
    assert_eq!(file.reads().len(), 1, "nobody asked for it yet");
    assert!(!bodies.is_full());
    expect(&mut bodies, &references[1..]);
    for number in 0..30 {
        let begun = file.reads().len();
        assert_eq!(begun, 30.min(number + BODIES_AHEAD));
        assert_eq!(bodies.is_full(), begun < 30);
        assert_eq!(next(&mut bodies), Ok(vec![number as u8; 5000]));
        // The next is begun when somebody asks how far the others are.
        expect(&mut bodies, &[]);
    }
    let offsets: Vec<u64> = references.iter().map(|reference| reference.offset).collect();
    assert_eq!(file.reads(), offsets);
}

#[test]
fn what_is_read_ahead_has_bounded_memory() {
    let third = BODIES_AHEAD_BYTES as usize / 3;
    let (mut some, file, references) = bodies(5, third);
    expect(&mut some, &references);
    assert_eq!(file.reads().len(), 3);
    assert_eq!(next(&mut some).map(|body| body.len()), Ok(third));
    let (mut large, file, references) = bodies(2, BODIES_AHEAD_BYTES as usize + 1);
    expect(&mut large, &references);
    assert_eq!(file.reads().len(), 1, "by itself");
    for number in 0..2 {
        assert_eq!(next(&mut large).map(|body| body[0]), Ok(number));
    }
}

#[test]
fn one_that_is_damaged_does_not_keep_others_from_coming() {
    let (mut bodies, file, references) = bodies(3, 100);
    file.make_unreadable(1);
    expect(&mut bodies, &references);
    assert_eq!(next(&mut bodies), Ok(vec![0; 100]));
    let evidence = next(&mut bodies).expect_err("its block cannot be read");
    assert!(evidence.contains("offset 4096 of 0000000000000002.body"), "{evidence}");
    assert_eq!(next(&mut bodies), Ok(vec![2; 100]));
}

/// Twelve frames in one segment that refer to a body each, and two more with small commits.
fn image() -> Image {
    let mut image = Image::new();
    image.start(1);
    for number in 0..12_u8 {
        let body = vec![number; 3000];
        image.refer(&[(2, usize::from(number) * 4096, &body)]);
        if number.is_multiple_of(6) {
            image.data(&[b"small", &[number]]);
        }
    }
    image.witness();
    image
}

/// What recovery replays of an image, at most up to the commit that is refused, and what it says. At
/// each commit, how often the bodies' file was read.
fn replayed(image: &Image, refused: usize) -> (Vec<Vec<u8>>, Vec<usize>, Option<LogError>) {
    let (folder, disk) = image.folder();
    let file = disk.file(&path().join(Name::Bodies(2).to_string()));
    let (mut commits, mut reads) = (Vec::new(), Vec::new());
    let replay = |recovered: Recovered| {
        if commits.len() == refused {
            return Err("it is refused".to_owned());
        }
        commits.push(recovered.bytes.to_vec());
        reads.push(file.reads().len());
        Ok(())
    };
    let work = async {
        let inventory = take_inventory(&folder).await?;
        recover(&folder, &inventory, 0, replay).await
    };
    let error = work.now_or_never().expect(NOT_NOW).err();
    (commits, reads, error)
}

fn expected() -> Vec<Vec<u8>> {
    let body = |number: u8| vec![number; 3000];
    let small = |number| [b"small".to_vec(), vec![number]];
    let commits = (0..12_u8).flat_map(|number| {
        let beside = number.is_multiple_of(6).then(|| small(number));
        std::iter::once(body(number)).chain(beside.into_iter().flatten())
    });
    commits.collect()
}

#[test]
fn frames_are_replayed_in_order_while_the_bodies_of_later_ones_are_read() {
    let (commits, reads, error) = replayed(&image(), usize::MAX);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(commits, expected());
    assert!(reads[0] > 1, "others are read before the first is replayed");
    let ahead = reads.iter().zip(1..).map(|(&reads, replayed)| reads.saturating_sub(replayed));
    assert!(ahead.max() <= Some(BODIES_AHEAD + 1), "{reads:?}");
    assert_eq!(reads.last(), Some(&12), "each was read once");
}

/// They would hold on to the memory they were read into, if they were a whole log.
#[test]
fn few_frames_wait_for_a_body_in_front_of_them() {
    let mut image = Image::new();
    image.start(1).refer(&[(99, 0, &[7; 3000])]);
    let most = vec![1; SEGMENT_BYTES - 2 * 4096];
    let frames = 2 * (LEAVING_BYTES / most.len()) as u64;
    for generation in 2..=frames {
        image.start(generation).data(&[&most]);
    }
    let (folder, disk) = image.folder();
    // Of each segment, the first block is read before the walk.
    let is_walked = |generation: &u64| disk.file(&segment_path(*generation)).reads().len() > 1;
    let mut walked = Vec::new();
    let replay = |_| {
        walked.push((1..frames).filter(is_walked).count());
        Ok(())
    };
    let work = async {
        let inventory = take_inventory(&folder).await?;
        recover(&folder, &inventory, 0, replay).await
    };
    work.now_or_never().expect(NOT_NOW).expect("nothing is wrong with it");
    let waited = LEAVING_BYTES / most.len();
    assert!(walked[0] >= waited / 2, "{} segments were walked", walked[0]);
    assert!(walked[0] <= waited + WINDOWS_AHEAD + 2, "{} segments were walked", walked[0]);
    assert_eq!(walked.len() as u64, frames - 1, "the last is carried over");
}

#[test]
fn nothing_is_replayed_from_the_first_damage_on() {
    for damaged in 0..12 {
        let mut image = image();
        for number in damaged..12 {
            image.bodies(2)[number * 4096] ^= 1;
        }
        let (commits, _, error) = replayed(&image, usize::MAX);
        let first = expected().iter().position(|commit| *commit == vec![damaged as u8; 3000]);
        let first = first.expect("it was written");
        assert_eq!(commits, expected()[..first]);
        let Some(LogError::Corrupt { first_lost, evidence, .. }) = error else {
            panic!("{damaged}: {error:?}")
        };
        let frames_before = damaged + damaged.div_ceil(6);
        assert_eq!(first_lost.get(), 2 + frames_before as u64, "{evidence}");
        let place = format!("offset {} of 0000000000000002.body", damaged * 4096);
        assert!(evidence.contains(&place), "{evidence}");
    }
}

/// It stands first, though the damage behind it may have been found before.
#[test]
fn a_commit_that_is_refused_is_told_before_damage_behind_it() {
    let mut image = image();
    image.bodies(2)[5 * 4096] ^= 1;
    let (commits, _, error) = replayed(&image, 2);
    assert_eq!(commits, expected()[..2]);
    assert!(matches!(error, Some(LogError::Replay { .. })), "{error:?}");
}
