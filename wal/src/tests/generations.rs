//! Recoveries that follow recoveries, trimming, and segments that are used again.

use super::image::{Image, SEGMENT_BYTES, corrupt, recover_carrying, witnessed};
use crate::Verdict;

/// Two frames in flight at a crash: the first torn, the second whole. Then a recovery.
fn recovered_once() -> Image {
    let mut image = Image::new();
    image.start(1).data(&[b"one"]).data(&[b"torn"]);
    image.lag = 1;
    image.data(&[b"dead"]);
    let torn = image.find(3);
    image.bytes_of(&torn)[100] ^= 1;
    image.lag = 0;
    image.restart(2, 3);
    image
}

#[test]
fn a_dead_tail_is_superseded() {
    let mut image = recovered_once();
    image.data(&[b"two"]).witness();
    let found = image.recover().expect("nothing acknowledged is damaged");
    assert_eq!(found.survey.verdict, Verdict::Clean);
    assert_eq!(found.commits(), [b"one", b"two"]);
}

/// The frame that recovery found torn reaches the disk after all, late: it stays dead.
#[test]
fn a_dead_tail_that_is_completed_late_stays_dead() {
    let mut image = recovered_once();
    let torn = image.frames.iter().find(|placed| placed.header.lsn == 3).cloned();
    let torn = torn.expect("it was placed");
    image.bytes_of(&torn)[100] ^= 1;
    assert_eq!(image.recover().expect("nothing is damaged").commits(), [b"one"]);
    image.data(&[b"two"]).witness();
    assert_eq!(image.recover().expect("nothing is damaged").commits(), [b"one", b"two"]);
}

#[test]
fn a_recovery_that_was_interrupted_is_repeated() {
    let mut image = recovered_once();
    // The start frame of the first recovery is torn: it was never durable.
    let start = image.find(3);
    image.bytes_of(&start)[20] ^= 1;
    let found = image.recover().expect("nothing acknowledged is damaged");
    assert_eq!(found.commits(), [b"one"]);
    assert_eq!(found.survey.highest_generation, 2);
    image.restart(3, 3).data(&[b"two"]).witness();
    let found = image.recover().expect("nothing acknowledged is damaged");
    assert_eq!(found.commits(), [b"one", b"two"]);
}

#[test]
fn a_damaged_start_after_a_recovery_is_corruption() {
    let mut image = recovered_once();
    let start = image.find(3);
    image.data(&[b"two"]);
    image.bytes_of(&start)[20] ^= 1;
    corrupt(image.recover());
}

/// As above, and the dead tail reached the disk late, so that the old segment looks longer than
/// what the recovery found of it.
#[test]
fn a_damaged_start_behind_a_late_tail_is_corruption() {
    let mut image = recovered_once();
    let start = image.find(3);
    image.data(&[b"two"]);
    image.bytes_of(&start)[20] ^= 1;
    let torn = image.frames.iter().find(|placed| placed.header.lsn == 3).cloned();
    let torn = torn.expect("it was placed");
    image.bytes_of(&torn)[100] ^= 1;
    corrupt(image.recover());
}

/// A crash around a roll: the end of the old segment is torn, the new one has frames already.
#[test]
fn a_roll_in_flight_is_a_torn_tail() {
    for missing in 3..=5 {
        let mut image = Image::new();
        image.start(1).data(&[b"one"]);
        image.data(&[b"last"]);
        image.lag = 1;
        image.start(2);
        image.lag = 2;
        image.data(&[b"next"]);
        let torn = image.find(missing);
        image.bytes_of(&torn)[0] ^= 1;
        let commits = image.commits(1, missing);
        let found = image.recover().expect("nothing acknowledged is damaged");
        assert_eq!(found.commits(), commits);
        assert_eq!(found.survey.next_lsn, missing);
        image.lag = 0;
        image.restart(3, missing).data(&[b"new"]).witness();
        let found = image.recover().expect("nothing acknowledged is damaged");
        assert_eq!(found.survey.verdict, Verdict::Clean);
        assert_eq!(found.replayed.len(), commits.len() + 1);
    }
}

#[test]
fn segments_below_the_trim_point_may_be_missing_or_damaged() {
    let mut image = witnessed();
    image.trim = image.find(9).header.lsn;
    image.start(4).witness();
    let first_of_third = 9;
    for generation in 1..=2 {
        let mut damaged = image.clone();
        damaged.file(generation).fill(0xDD);
        let found = damaged.recover().expect("nobody needs it");
        assert_eq!(found.commits(), image.commits(first_of_third, image.next_lsn));
        assert_eq!(found.survey.trim, 9);
        damaged.file(generation).clear();
        assert!(damaged.recover().is_ok());
    }
    let mut damaged = image.clone();
    damaged.file(3)[5000] ^= 1;
    corrupt(damaged.recover());
}

#[test]
fn the_first_segment_may_not_be_missing_before_it_was_trimmed() {
    let mut image = witnessed();
    image.trim = 4;
    image.witness();
    image.files.remove("0000000000000001.wal");
    let (segment, offset, lost) = corrupt(image.recover());
    assert_eq!((segment, offset, lost), (2, 0, 4));
    let mut image = witnessed();
    image.trim = 5;
    image.witness();
    image.files.remove("0000000000000001.wal");
    assert!(image.recover().is_ok(), "the second segment begins with frame 5");
}

/// Frames of an earlier life, checksums right, are not taken for frames.
#[test]
fn stale_frames_of_a_segment_that_is_used_again_are_ignored() {
    let mut image = witnessed();
    image.trim = 9;
    image.witness();
    let stale = image.file(1).clone();
    image.files.remove("0000000000000001.wal");
    image.files.insert("0000000000000004.wal".to_owned(), stale);
    let found = image.recover().expect("nothing is damaged");
    assert_eq!(found.survey.verdict, Verdict::Clean);
    // Written to: the new frames cover a part of the old ones only.
    image.start(4).data(&[b"new"]).witness();
    let found = image.recover().expect("nothing is damaged");
    assert_eq!(found.survey.verdict, Verdict::Clean);
    assert_eq!(found.commits().last().map(Vec::as_slice), Some(&b"new"[..]));
    // The same, torn.
    let torn = image.find(image.next_lsn - 1);
    let cut = torn.offset;
    image.file(4)[cut..cut + 512].fill(0);
    assert!(image.recover().is_ok());
}

#[test]
fn a_prepared_segment_may_stand_behind_the_end() {
    let mut image = witnessed();
    image.prepare(4);
    let found = image.recover().expect("nothing is damaged");
    assert_eq!(found.survey.verdict, Verdict::Clean);
    assert_eq!(found.survey.highest_generation, 4);
    let leftover = found.survey.leftovers[0];
    assert!(leftover.unused && leftover.sound && leftover.length == SEGMENT_BYTES as u64);
}

/// Two acknowledged frames that nothing covers yet are carried over, with a frame that was not
/// acknowledged.
fn carried_over() -> Image {
    let mut image = Image::new();
    image.start(1).data(&[b"one"]);
    image.lag = 1;
    image.data(&[b"two"]);
    image.lag = 2;
    image.data(&[b"three"]);
    image.carry_over(2, 2);
    image
}

#[test]
fn only_frames_that_are_known_durable_are_replayed_at_once() {
    let mut image = Image::new();
    image.start(1).data(&[b"one"]).data(&[b"two"]);
    image.lag = 1;
    image.data(&[b"three"]);
    let found = image.recover().expect("nothing is damaged");
    assert_eq!(found.replayed.len(), 1);
    let unproven: Vec<u64> = found.survey.carried.iter().map(|frame| frame.lsn).collect();
    assert_eq!(unproven, [3, 4]);
    assert_eq!(found.survey.previous, image.find(3).header.previous);
}

#[test]
fn carried_frames_take_the_place_of_the_originals() {
    let mut image = carried_over();
    let found = image.recover().expect("nothing is damaged");
    assert_eq!(found.commits(), [&b"one"[..], b"two", b"three"]);
    assert_eq!(found.survey.carried.len(), 4, "the new segment has no witness yet");
    image.data(&[b"four"]).witness();
    let found = image.recover().expect("nothing is damaged");
    assert_eq!(found.commits(), [&b"one"[..], b"two", b"three", b"four"]);
    assert_eq!(found.replayed[1].location.segment, 2);
    assert_eq!(found.replayed[1].lsn.get(), 3);
    assert_eq!(found.survey.live.len(), 2);
    // The originals are needed no more: a power cut may take back what was never flushed.
    let original = image.frames.iter().find(|placed| placed.header.lsn == 3).cloned();
    image.bytes_of(&original.expect("it was placed")).fill(0);
    let found = image.recover().expect("nothing is damaged");
    assert_eq!(found.commits(), [&b"one"[..], b"two", b"three", b"four"]);
}

#[test]
fn copies_without_a_start_frame_prove_nothing() {
    let mut image = carried_over();
    image.file(2)[..4096].fill(0);
    let found = image.recover().expect("nothing is damaged");
    assert_eq!(found.commits(), [&b"one"[..], b"two", b"three"]);
    assert_eq!(found.survey.next_lsn, 5);
    assert_eq!(found.survey.verdict, Verdict::Clean);
}

#[test]
fn a_damaged_copy_is_corruption() {
    for lsn in 2..=4 {
        let mut image = carried_over();
        let copy = image.find(lsn);
        assert_eq!(copy.generation, 2);
        image.bytes_of(&copy)[95] ^= 1;
        let (segment, offset, lost) = corrupt(image.recover());
        assert_eq!((segment, offset, lost), (2, copy.offset as u64, lsn));
    }
}

#[test]
fn a_recovery_carries_over_what_a_recovery_carried_over() {
    let mut image = carried_over();
    image.carry_over(3, 2);
    let found = image.recover().expect("nothing is damaged");
    assert_eq!(found.commits(), [&b"one"[..], b"two", b"three"]);
    assert_eq!(found.survey.next_lsn, 7);
    image.data(&[b"four"]).witness();
    image.files.remove("0000000000000002.wal");
    let found = image.recover().expect("the second segment is not needed");
    assert_eq!(found.commits(), [&b"one"[..], b"two", b"three", b"four"]);
}

/// Segments that hold little are carried over whole; those that hold much stay.
#[test]
fn segments_that_hold_little_are_carried_over_whole() {
    let mut image = Image::new();
    image.start(1);
    for _ in 0..8 {
        image.data(&[&[1; 3900]]);
    }
    image.start(2).data(&[b"little"]).witness();
    image.start(3).data(&[b"little too"]).witness();
    let commits = image.commits(1, image.next_lsn);
    let first_of_second = 10;
    let carried = |image: &Image, bytes: u64| {
        let found = recover_carrying(&image.folder().0, bytes).expect("nothing is damaged");
        assert_eq!(found.commits(), commits);
        let first = found.survey.carried.first().map(|frame| frame.lsn);
        (first, found.survey.live.len())
    };
    let witness = image.next_lsn - 1;
    assert_eq!(carried(&image, 0), (Some(witness), 3));
    assert_eq!(carried(&image, 3 * 4096), (Some(first_of_second + 3), 2));
    assert_eq!(carried(&image, 6 * 4096), (Some(first_of_second), 1));
    assert_eq!(carried(&image, 9 * 4096), (Some(first_of_second), 1));
    assert_eq!(carried(&image, 1 << 20), (Some(1), 0));
}

#[test]
fn what_was_trimmed_is_not_carried_over() {
    let mut image = Image::new();
    image.start(1).data(&[b"trimmed"]).data(&[b"needed"]);
    image.trim = 3;
    image.witness();
    let found = recover_carrying(&image.folder().0, 1 << 20).expect("nothing is damaged");
    assert_eq!(found.commits(), [b"needed"]);
    assert_eq!(found.survey.carried.first().map(|frame| frame.lsn), Some(3));
    assert!(found.survey.live.is_empty(), "all that is needed is carried over");
}
