//! Damage to what was acknowledged is told from a torn tail.

use woodchuck_io::RandomStream;
use woodchuck_io::limits::BLOCK_BYTES;

use super::image::{
    Image, Placed, SEGMENT_BYTES, corrupt, path, recover_from, segment_path, witnessed,
};
use crate::format::{HEADER_BYTES, Header, Name, checksum};
use crate::limits::UNREADABLE_BLOCKS_MIN;
use crate::{Location, Verdict};

/// The frames that the witness at the end covers.
fn covered(image: &Image) -> Vec<Placed> {
    image.frames.iter().filter(|placed| placed.header.lsn < image.next_lsn - 1).cloned().collect()
}

#[test]
fn an_intact_log_is_clean_and_complete() {
    let image = witnessed();
    let found = image.recover().expect("the log is intact");
    assert_eq!(found.survey.verdict, Verdict::Clean);
    assert_eq!(found.commits(), image.commits(1, image.next_lsn));
    assert_eq!(found.survey.next_lsn, image.next_lsn);
    assert_eq!(found.survey.carried.len(), 1, "the witness alone has no witness");
    assert_eq!(found.survey.live.len(), 3);
    for recovered in &found.replayed {
        let Location { segment, offset, length } = recovered.location;
        let file = &image.files[&Name::Segment(segment).to_string()];
        assert_eq!(&file[offset as usize..][..length as usize], &recovered.bytes[..]);
    }
}

#[test]
fn every_changed_byte_of_an_acknowledged_frame_is_corruption() {
    let image = witnessed();
    for placed in covered(&image) {
        let bytes = (0..HEADER_BYTES).chain((HEADER_BYTES..placed.used).step_by(97));
        for at in bytes {
            let mut damaged = image.clone();
            damaged.bytes_of(&placed)[at] ^= 0x10;
            let (segment, offset, lost) = corrupt(damaged.recover());
            // A damaged start frame is noticed in front of the log, or where the one before ends.
            if placed.offset > 0 {
                let place = (placed.generation, placed.offset as u64, placed.header.lsn);
                assert_eq!((segment, offset, lost), place, "byte {at}");
            }
        }
    }
}

/// Changes a field and makes the header's checksum right again, as damage by software would.
#[test]
fn every_changed_field_of_an_acknowledged_frame_is_corruption() {
    let image = witnessed();
    let fields = [(8, 4), (12, 4), (16, 16), (32, 8), (40, 8), (48, 8), (72, 4), (76, 4), (80, 4)];
    for placed in covered(&image) {
        for (at, bytes) in fields {
            let mut damaged = image.clone();
            let frame = damaged.bytes_of(&placed);
            frame[at + bytes - 1] ^= 1;
            let sum = checksum(&frame[..HEADER_BYTES - 4]);
            frame[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
            match damaged.recover() {
                Ok(_) => panic!("frame {} opened with field {at} changed", placed.header.lsn),
                // A whole start frame of another log is told as such.
                Err(error) => assert!(
                    error.is_corrupt() || (placed.offset == 0 && at == 16),
                    "field {at} of frame {}: {error}",
                    placed.header.lsn
                ),
            }
        }
    }
}

#[test]
fn a_changed_watermark_breaks_the_chain() {
    let image = witnessed();
    for placed in covered(&image) {
        let mut damaged = image.clone();
        let frame = damaged.bytes_of(&placed);
        let header = Header { watermark: 1, ..placed.header };
        header.encode(frame.first_chunk_mut().expect("a frame has a header"));
        // Behind the last one stands the witness alone, which is not missed.
        if placed.header != header && placed.header.lsn + 2 < image.next_lsn {
            let (.., lost) = corrupt(damaged.recover());
            assert_eq!(lost, placed.header.lsn + 1, "the frame behind it does not follow it");
        }
    }
}

#[test]
fn zeroed_and_unreadable_blocks_of_acknowledged_frames_are_corruption() {
    let image = witnessed();
    for placed in covered(&image) {
        for block in (0..placed.bytes).step_by(4096) {
            if block >= placed.used {
                continue;
            }
            let mut damaged = image.clone();
            damaged.bytes_of(&placed)[block..block + 4096].fill(0);
            corrupt(damaged.recover());
            let (folder, disk) = image.folder();
            let number = (placed.offset + block) / 4096;
            disk.file(&segment_path(placed.generation)).make_unreadable(number as u64);
            corrupt(recover_from(&folder));
        }
    }
}

#[test]
fn the_witness_itself_may_be_lost() {
    let mut image = witnessed();
    let witness = image.find(image.next_lsn - 1);
    let commits = image.commits(1, witness.header.lsn);
    image.bytes_of(&witness)[3] ^= 1;
    let found = image.recover().expect("nothing acknowledged is damaged");
    assert_eq!(found.commits(), commits);
    assert_eq!(found.survey.next_lsn, witness.header.lsn);
}

/// With `lag` frames in flight, any subset of them may be missing after a crash.
#[test]
fn every_subset_of_the_frames_in_flight_is_a_torn_tail() {
    let lag = 4;
    for lost in 1..1_u32 << lag {
        let mut image = Image::new();
        image.start(1).data(&[b"acknowledged"]).data(&[b"too"]);
        let first = image.next_lsn;
        image.lag = 0;
        for _ in 0..lag {
            image.data(&[b"in flight", &[9; 6000]]);
            image.lag += 1;
        }
        for index in (0..lag).filter(|index| lost & (1 << index) != 0) {
            let placed = image.find(first + index);
            // Sometimes the header is gone, sometimes the payload's end.
            let at = if lost & 1 == 0 { 0 } else { 4096 };
            image.bytes_of(&placed)[at..at + 512].fill(0);
        }
        let end = first + u64::from(lost.trailing_zeros());
        let found = image.recover().expect("nothing acknowledged is damaged");
        assert_eq!(found.commits(), image.commits(1, end), "lost {lost:b}");
        assert_eq!(found.survey.next_lsn, end);
    }
}

#[test]
fn a_torn_tail_is_described() {
    let mut image = Image::new();
    image.start(1).data(&[b"acknowledged"]);
    image.lag = 0;
    image.data(&[b"torn", &[1; 5000]]);
    image.lag = 1;
    image.data(&[b"whole"]);
    let torn = image.find(3);
    image.bytes_of(&torn)[5000] ^= 1;
    let found = image.recover().expect("nothing acknowledged is damaged");
    assert_eq!(
        found.survey.verdict,
        Verdict::TornTail { segment: 1, offset: 8192, frames: 2, bytes: 8192 + 4096 }
    );
}

#[test]
fn an_unreadable_tail_is_torn_and_counted() {
    let mut image = Image::new();
    image.start(1).data(&[b"acknowledged"]).data(&[b"torn"]);
    let (folder, disk) = image.folder();
    disk.file(&segment_path(1)).make_unreadable(2);
    let found = recover_from(&folder).expect("nothing acknowledged is damaged");
    assert_eq!(found.commits(), [b"acknowledged"]);
    assert_eq!(found.survey.unreadable_blocks, 1, "it counts once, however often it was tried");
}

/// A power cut leaves some of the blocks unreadable that were being written. A segment none of
/// whose blocks can be read is the work of a disk that fails, and every acknowledged commit in it
/// must be there again once the disk is well.
#[test]
fn a_segment_that_cannot_be_read_is_corruption() {
    let image = witnessed();
    let written = image.offset / BLOCK_BYTES;
    // A frame that can be read tells of those that cannot; without one, it is that none can.
    for unreadable in (1..written).chain([SEGMENT_BYTES / BLOCK_BYTES]) {
        let (folder, disk) = image.folder();
        let file = disk.file(&segment_path(3));
        (0..unreadable as u64).for_each(|block| file.make_unreadable(block));
        corrupt(recover_from(&folder));
    }
}

/// A block, or a whole segment, that was read once and cannot be read again: whichever read is the
/// first to fail, nothing acknowledged is left out in silence.
#[test]
fn a_disk_that_fails_during_recovery_loses_nothing_in_silence() {
    let image = witnessed();
    let blocks = (SEGMENT_BYTES / BLOCK_BYTES) as u64;
    let acknowledged = image.commits(1, image.next_lsn);
    let (mut refused, mut complete) = (0, 0);
    for segment in 1..=3 {
        let places = (0..blocks).map(|block| block..block + 1).chain(std::iter::once(0..blocks));
        for place in places {
            for reads in 0..24 {
                let (folder, disk) = image.folder();
                disk.file(&segment_path(segment)).break_after(reads, place.clone());
                match recover_from(&folder) {
                    Ok(found) => {
                        let what = format!("segment {segment}, {place:?}, from read {reads} on");
                        assert!(found.commits() == acknowledged, "{what}");
                        complete += 1;
                    }
                    Err(error) => {
                        assert!(error.is_corrupt(), "{error}");
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(refused > 20 && complete > 20, "{refused} refused, {complete} complete");
}

/// As above, of a log that ends in the middle of a segment.
#[test]
fn a_rest_that_cannot_be_read_is_corruption() {
    let image = witnessed();
    let blocks = (SEGMENT_BYTES / BLOCK_BYTES) as u64;
    let end = image.offset as u64 / BLOCK_BYTES as u64;
    for first in end..blocks {
        let (folder, disk) = image.folder();
        let file = disk.file(&segment_path(3));
        (first..blocks).for_each(|block| file.make_unreadable(block));
        let outcome = recover_from(&folder);
        match blocks - first {
            rest if first == end && rest >= UNREADABLE_BLOCKS_MIN => {
                corrupt(outcome);
            }
            _ => assert_eq!(outcome.expect("it may be a crash").survey.next_lsn, image.next_lsn),
        }
    }
}

#[test]
fn short_reads_are_completed() {
    let image = witnessed();
    let (folder, disk) = image.folder();
    disk.file(&segment_path(2)).shorten_reads(3 * 4096 + 17);
    let found = recover_from(&folder).expect("the log is intact");
    assert_eq!(found.commits(), image.commits(1, image.next_lsn));
}

#[test]
fn a_shortened_file_is_corruption() {
    let image = witnessed();
    let last = image.find(image.next_lsn - 1);
    for generation in 1..=3 {
        for blocks in 0..SEGMENT_BYTES / 4096 {
            let mut damaged = image.clone();
            damaged.file(generation).truncate(blocks * 4096);
            let is_needed = generation == 3
                || image.frames.iter().any(|placed| {
                    placed.generation == generation && placed.offset + placed.used > blocks * 4096
                });
            if is_needed {
                corrupt(damaged.recover());
            } else {
                // The log goes on in the next segment, so nothing stood in what was cut off.
                assert_eq!(
                    damaged.recover().map(|f| f.survey.next_lsn).ok(),
                    Some(last.header.lsn + 1)
                );
            }
        }
    }
}

#[test]
fn missing_segments_are_corruption() {
    for missing in 1..=2 {
        let mut image = witnessed();
        image.files.remove(&Name::Segment(missing).to_string());
        let (segment, ..) = corrupt(image.recover());
        assert_eq!(segment, if missing == 1 { 2 } else { 1 });
    }
}

#[test]
fn exchanged_segments_are_corruption() {
    for (one, other) in [(1, 2), (2, 3), (1, 3)] {
        let mut image = witnessed();
        let (first, second) = (image.file(one).clone(), image.file(other).clone());
        *image.file(one) = second;
        *image.file(other) = first;
        corrupt(image.recover());
    }
}

#[test]
fn a_copied_segment_harms_nothing() {
    for (from, to) in [(1, 4), (2, 9), (3, 4)] {
        let mut image = witnessed();
        let copy = image.file(from).clone();
        image.files.insert(Name::Segment(to).to_string(), copy);
        let found = image.recover().expect("everything is there");
        assert_eq!(found.commits(), image.commits(1, image.next_lsn));
        assert_eq!(found.survey.highest_generation, to);
    }
}

#[test]
fn a_segment_of_another_log_is_refused() {
    let mut image = witnessed();
    let mut other = witnessed();
    other.identity ^= 1;
    other.previous = 0;
    other.next_lsn = 1;
    other.start(2).data(&[b"not ours"]);
    *image.file(2) = other.file(2).clone();
    let error = image.recover().err().expect("another log's segment");
    assert!(error.to_string().contains("belongs to log"), "{error}");
}

#[test]
fn a_copy_of_a_frame_inside_a_commit_is_not_taken_for_one() {
    let mut image = Image::new();
    image.start(1).data(&[b"one"]).data(&[b"two"]);
    let witness = image.clone().witness().find(4);
    let mut block = [0; 4096];
    witness.header.encode(block.first_chunk_mut().expect("a block is longer than a header"));
    // The copy stands at a block boundary of the frame that is torn, but not at its own offset.
    let mut commit = vec![0; 4096 - HEADER_BYTES - 4];
    commit.extend_from_slice(&block);
    image.data(&[&commit]);
    let torn = image.find(4);
    image.bytes_of(&torn)[0] ^= 1;
    let found = image.recover().expect("a copy proves nothing");
    assert_eq!(found.commits(), [&b"one"[..], b"two"]);
}

/// Random damage, anywhere below what an intact witness covers, is refused or harmless.
#[test]
fn random_damage_is_never_silent() {
    let image = witnessed();
    let complete = image.commits(1, image.next_lsn);
    let last = image.find(image.next_lsn - 1);
    let mut random = RandomStream::from_seed([3; 32]);
    let mut refused = 0;
    for _ in 0..2000 {
        let mut damaged = image.clone();
        for _ in 0..=random.below(3) {
            let generation = 1 + random.below(3);
            let end = if generation == 3 { last.offset } else { SEGMENT_BYTES };
            let at = random.below(end as u64) as usize;
            let length = (1 + random.below(9000) as usize).min(end - at);
            match random.below(3) {
                0 => random.fill(&mut damaged.file(generation)[at..at + length]),
                1 => damaged.file(generation)[at..at + length].fill(0),
                _ => {
                    let from = random.below((end - length) as u64 + 1) as usize;
                    damaged.file(generation).copy_within(from..from + length, at);
                }
            }
        }
        match damaged.recover() {
            Ok(found) => assert_eq!(found.commits(), complete, "silently lost"),
            Err(error) => refused += u32::from(error.is_corrupt()),
        }
    }
    assert!(refused > 1000, "the damage reached little: {refused}");
}

/// Nothing but noise, in as many files.
#[test]
fn noise_never_panics() {
    let mut random = RandomStream::from_seed([4; 32]);
    for _ in 0..200 {
        let mut image = witnessed();
        for generation in 1..=3 {
            let blocks = random.below(SEGMENT_BYTES as u64 / 2048) as usize;
            image.file(generation).resize(blocks * 4096, 0xEE);
            for _ in 0..20 {
                let length = image.file(generation).len();
                if length > 0 {
                    let at = random.below(length as u64) as usize;
                    let end = (at + random.below(200) as usize).min(length);
                    random.fill(&mut image.file(generation)[at..end]);
                }
            }
        }
        let _either = image.recover();
    }
    assert!(path().is_absolute());
}
