//! Large commits, whose bytes stand beside the frames: the writer's bookkeeping, and what recovery
//! makes of bodies that are not there.

use std::rc::Rc;

use super::image::{Image, path, recover_carrying, recover_from};
use super::writer::{Played, contexts, file, header, next, played, segment};
use crate::error::LogError;
use crate::format::{Commits, HEADER_BYTES, Kind, Name, Reference, Stored, reference_prefix};
use crate::limits::LARGE_IN_A_ROW;
use crate::segments::Holds;
use crate::writer::{BodyWrite, Taken, Write};
use crate::{Lane, LogOptions};

const LARGE: usize = 6000;
const SMALL: usize = 100;

/// A log with a file of bodies prepared.
fn with_file() -> Played {
    let mut state = played(LogOptions::small());
    state.set_prepared(segment(2));
    state.set_prepared_bodies(file(Holds::Bodies, 3));
    state
}

fn take(state: &mut Played, lane: u64, bytes: usize, context: u32) -> Taken {
    let content = vec![context as u8; bytes];
    let (front, back) = content.split_at(bytes / 3);
    state.take(Lane(lane), &[front, back], bytes, context).expect("there is room")
}

fn body(state: &mut Played) -> BodyWrite<()> {
    state.next_body().expect("a body waits for a slot")
}

fn done(state: &mut Played, write: Write<()>) {
    state.complete(write.lsn, write.buffer);
}

/// Makes all durable that waits.
fn drain(state: &mut Played) {
    while let Some(BodyWrite { number, buffer, .. }) = state.next_body() {
        state.complete_body(number, buffer);
    }
    while let Some(frame) = next(state) {
        done(state, frame);
    }
    contexts(state);
}

#[test]
fn a_reference_gathers_when_its_body_is_durable_and_not_before() {
    let mut state = with_file();
    assert_eq!(take(&mut state, 1, LARGE, 7), Taken::HasBody);
    assert!(next(&mut state).is_none() && !state.is_idle());
    let BodyWrite { number, file, offset, buffer } = body(&mut state);
    assert_eq!((file.name(), offset, buffer.len()), (Name::Bodies(3), 0, 8192));
    assert_eq!(buffer[..LARGE], vec![7; LARGE]);
    assert!(state.next_body().is_none() && next(&mut state).is_none());
    state.complete_body(number, buffer);
    let frame = next(&mut state).expect("a reference waits");
    assert_eq!((header(&frame).kind, header(&frame).commits), (Kind::Data, 1));
    let length = header(&frame).payload_bytes as usize;
    let payload = &frame.buffer[HEADER_BYTES..HEADER_BYTES + length];
    let stored: Vec<Stored> = Commits::new(payload).collect();
    let [Stored::Elsewhere(reference)] = stored[..] else { panic!("{stored:?}") };
    assert_eq!((reference.generation, reference.offset), (3, 0));
    assert!(state.take_ready().is_none());
    done(&mut state, frame);
    let taken = state.take_ready().expect("it is durable");
    assert_eq!((taken[0].context, taken[0].is_body, taken[0].bytes.len()), (7, true, LARGE));
    assert_eq!(taken[0].location, reference.location());
    assert_eq!(state.waiting_bytes(), 0);
}

#[test]
fn commits_of_a_lane_keep_their_order_and_others_overtake() {
    let mut state = with_file();
    assert_eq!(take(&mut state, 1, SMALL, 0), Taken::Gathers);
    assert_eq!(take(&mut state, 1, LARGE, 1), Taken::HasBody);
    assert_eq!(take(&mut state, 1, SMALL, 2), Taken::Waits);
    assert_eq!(take(&mut state, 1, LARGE, 3), Taken::HasBody);
    assert_eq!(take(&mut state, 2, LARGE, 4), Taken::HasBody);
    assert_eq!(take(&mut state, 3, SMALL, 5), Taken::Gathers);
    assert_eq!(take(&mut state, 1, SMALL, 6), Taken::Waits);
    state.gather(&[b"in no lane"], 10, 7);
    let frame = next(&mut state).expect("three commits gather");
    done(&mut state, frame);
    assert_eq!(contexts(&mut state), [0, 5, 7]);
    let (first, second, third) = (body(&mut state), body(&mut state), body(&mut state));
    assert_eq!([first.offset, second.offset, third.offset], [0, 8192, 16384]);
    // The second of lane 1 is durable first: it waits for the one before it.
    state.complete_body(second.number, second.buffer);
    assert!(next(&mut state).is_none());
    state.complete_body(third.number, third.buffer);
    let frame = next(&mut state).expect("lane 2 waits no longer");
    done(&mut state, frame);
    assert_eq!(contexts(&mut state), [4]);
    state.complete_body(first.number, first.buffer);
    let frame = next(&mut state).expect("lane 1 waits no longer");
    assert_eq!(header(&frame).commits, 4);
    done(&mut state, frame);
    let taken = state.take_ready().expect("they are durable");
    let lengths: Vec<(u32, usize)> = taken.iter().map(|c| (c.context, c.bytes.len())).collect();
    assert_eq!(lengths, [(1, LARGE), (2, SMALL), (3, LARGE), (6, SMALL)]);
    assert!(taken.iter().all(|commit| commit.bytes.iter().all(|&b| b == commit.context as u8)));
    assert_eq!(state.waiting_bytes(), 0);
    assert_eq!(take(&mut state, 1, SMALL, 8), Taken::Gathers, "nothing is held back any more");
}

#[test]
fn without_a_place_beside_the_frames_a_large_commit_stands_in_one() {
    let options = LogOptions { queue_bytes: 1 << 20, ..LogOptions::small() };
    let mut state = played(options);
    assert!(!state.needs_bodies());
    let mut asked = 0;
    while !state.needs_bodies() {
        assert_eq!(take(&mut state, 1, LARGE, 0), Taken::Gathers);
        asked += LARGE;
    }
    assert!(asked as u64 >= options.segment_bytes / 4, "{asked} bytes made a file worth having");
    drain(&mut state);
    state.set_prepared(segment(4));
    state.give_up_bodies();
    assert!(!state.needs_bodies(), "a full disk is not asked again at once");
    state.set_prepared_bodies(file(Holds::Bodies, 2));
    let bodies = options.segment_bytes / 8192;
    for _ in 1..bodies {
        assert_eq!(take(&mut state, 2, LARGE, 1), Taken::HasBody);
        drain(&mut state);
    }
    assert_eq!(take(&mut state, 2, LARGE, 1), Taken::HasBody);
    assert_eq!(take(&mut state, 3, LARGE, 2), Taken::Gathers, "the file is full");
    assert_eq!(take(&mut state, 2, LARGE, 3), Taken::Waits, "and lane 2 is held back");
    for _ in 0..2 {
        assert_eq!(take(&mut state, 3, LARGE, 2), Taken::Gathers);
        drain(&mut state);
    }
    assert!(state.needs_bodies());
}

#[test]
fn what_is_held_back_has_its_place_in_the_log() {
    let options = LogOptions { queue_bytes: 1 << 20, ..LogOptions::small() };
    let mut state = played(options);
    state.set_prepared_bodies(file(Holds::Bodies, 3));
    // Nobody knows of a next segment: what is taken must fit into this one.
    assert_eq!(take(&mut state, 1, LARGE, 0), Taken::HasBody);
    let mut taken = 1;
    loop {
        match state.take(Lane(1), &[&[1; SMALL]], SMALL, taken) {
            Ok(what) => assert_eq!(what, Taken::Waits),
            Err((error, _)) => break assert!(matches!(error, LogError::Busy { .. }), "{error}"),
        }
        taken += 1;
    }
    let BodyWrite { number, buffer, .. } = body(&mut state);
    state.complete_body(number, buffer);
    while let Some(frame) = next(&mut state) {
        done(&mut state, frame);
    }
    assert_eq!(contexts(&mut state), (0..taken).collect::<Vec<u32>>());
}

#[test]
fn large_commits_alone_stand_in_the_log() {
    let options = LogOptions { queue_bytes: 1 << 20, ..LogOptions::small() };
    let mut state = played(options);
    let mut generation = 2;
    let mut taken = Vec::new();
    for context in 0..LARGE_IN_A_ROW + 10 {
        if state.needs_bodies() {
            state.set_prepared_bodies(file(Holds::Bodies, generation));
            generation += 1;
        }
        if state.needs_segment() {
            state.set_prepared(segment(generation));
            generation += 1;
        }
        taken.push(take(&mut state, u64::from(context), LARGE, context));
        drain(&mut state);
    }
    let bodies = taken.iter().filter(|taken| **taken == Taken::HasBody).count();
    assert!(bodies > 50, "{bodies} of {} have bodies", taken.len());
    assert!(taken[LARGE_IN_A_ROW as usize..].iter().all(|taken| *taken == Taken::Gathers));
    assert_eq!(take(&mut state, 1, SMALL, 0), Taken::Gathers);
    assert_eq!(take(&mut state, 2, LARGE, 0), Taken::HasBody, "somebody waits now");
}

#[test]
fn a_file_goes_when_all_that_refers_to_it_is_durably_trimmed() {
    let mut state = with_file();
    let mut generation = 4;
    // Eight bodies fill a file.
    for context in 0..17 {
        assert_eq!(take(&mut state, 1, LARGE, context), Taken::HasBody);
        let BodyWrite { number, buffer, .. } = body(&mut state);
        state.complete_body(number, buffer);
        let frame = next(&mut state).expect("a reference waits");
        done(&mut state, frame);
        contexts(&mut state);
        if state.needs_bodies() {
            state.set_prepared_bodies(file(Holds::Bodies, generation));
            generation += 1;
        }
    }
    assert_eq!(generation, 6, "two more were prepared, and are in use");
    state.request_witness();
    let witness = next(&mut state).expect("the last frame wants one");
    done(&mut state, witness);
    let last = state.watermark();
    // The eighth body's frame is 9: start, then one for each.
    state.trim_to(9);
    assert!(!state.wants_witness(), "frame 9 refers to the first file");
    state.trim_to(10);
    assert!(state.wants_witness());
    state.request_witness();
    let witness = next(&mut state).expect("a witness carries the trim point");
    assert!(!state.has_retired(), "the trim point is not durable yet");
    assert!(state.segment(3).is_ok());
    let reader = state.segment(3).expect("it can be read");
    assert!(state.complete(witness.lsn, witness.buffer).retired);
    assert!(state.take_retired().is_none(), "somebody reads it");
    drop(reader);
    let retired = state.take_retired().expect("the first file");
    assert_eq!((retired.name(), Rc::strong_count(&retired)), (Name::Bodies(3), 1));
    assert!(state.take_retired().is_none() && state.segment(3).is_err());
    state.trim_to(last);
    state.request_witness();
    let witness = next(&mut state).expect("another");
    state.complete(witness.lsn, witness.buffer);
    let retired: Vec<Name> =
        std::iter::from_fn(|| state.take_retired()).map(|segment| segment.name()).collect();
    assert_eq!(retired, [Name::Segment(1), Name::Bodies(4)], "the third is written to");
}

#[test]
fn a_failed_log_gives_back_what_was_held() {
    let mut state = with_file();
    assert_eq!(take(&mut state, 1, LARGE, 0), Taken::HasBody);
    assert_eq!(take(&mut state, 1, SMALL, 1), Taken::Waits);
    assert_eq!(take(&mut state, 2, SMALL, 2), Taken::Gathers);
    let BodyWrite { number, buffer, .. } = body(&mut state);
    state.fail("the disk broke".to_owned());
    let mut failed = state.take_failed();
    failed.sort_unstable();
    assert_eq!(failed, [0, 1, 2]);
    state.complete_body(number, buffer);
    assert!(state.take_failed().is_empty());
}

/// Two bodies that are known durable, and one that is not: its frame is the last.
pub(super) fn image() -> Image {
    let mut image = Image::new();
    image.start(1).refer(&[(2, 0, &[1; 5000]), (2, 8192, b"two")]).data(&[b"three"]);
    image.refer(&[(2, 12288, &[4; 4096])]);
    image
}

fn commits() -> Vec<Vec<u8>> {
    vec![vec![1; 5000], b"two".to_vec(), b"three".to_vec(), vec![4; 4096]]
}

#[test]
fn bodies_are_served_where_they_stand() {
    let found = image().recover().expect("nothing is wrong with it");
    assert_eq!(found.commits(), commits());
    let [body] = &found.survey.bodies[..] else { panic!("there is one file") };
    assert_eq!((body.segment.generation, body.newest, body.waiting), (2, 4, 0));
    assert_eq!(found.survey.highest_generation, 2, "its number is not used again");
    assert_eq!(found.replayed[0].location.segment, 2);
    assert!(found.replayed[0].is_body && !found.replayed[2].is_body);
}

/// What is damaged, the frame that is lost, and how.
type Damage = (&'static str, u64, fn(&mut Image));

#[test]
fn a_body_that_is_not_what_was_written_is_no_torn_tail() {
    let damages: [Damage; 8] = [
        ("its first byte", 2, |image| image.bodies(2)[0] ^= 1),
        ("its last byte", 2, |image| image.bodies(2)[4999] ^= 1),
        ("another body", 2, |image| image.bodies(2)[8194] ^= 1),
        ("zeros", 2, |image| image.bodies(2)[4096..8192].fill(0)),
        ("a later body", 4, |image| image.bodies(2)[12288..16384].fill(0)),
        ("the file ends in it", 4, |image| image.bodies(2).truncate(16000)),
        ("the file is gone", 2, |image| drop(image.files.remove(&Name::Bodies(2).to_string()))),
        ("another file has its name", 2, |image| image.bodies(2).fill(9)),
    ];
    for (what, lsn, damage) in damages {
        let mut image = image();
        damage(&mut image);
        // Whether the frame is known durable or not: its body was before it was built.
        for carried_bytes in [0, u64::MAX] {
            match recover_carrying(&image.folder().0, carried_bytes) {
                Err(LogError::Corrupt { segment: 1, first_lost, evidence, .. }) => {
                    assert_eq!(first_lost.get(), lsn, "{what}: {evidence}");
                    assert!(evidence.contains("0000000000000002.body"), "{evidence}");
                }
                Err(error) => panic!("{what}: {error}"),
                Ok(found) => panic!("{what}: {} commits are served", found.commits().len()),
            }
        }
    }
}

#[test]
fn a_body_that_the_disk_cannot_read_is_damage() {
    let image = image();
    let (folder, disk) = image.folder();
    disk.file(&path().join(Name::Bodies(2).to_string())).make_unreadable(1);
    let outcome = recover_from(&folder);
    assert!(matches!(outcome, Err(LogError::Corrupt { .. })), "{:?}", outcome.err());
}

/// Opening called that damage once, though the next read of the same blocks gave them.
#[test]
fn a_body_that_cannot_be_read_at_once_is_not_damaged() {
    let image = image();
    for failed in 1..3 {
        let (folder, disk) = image.folder();
        let file = disk.file(&path().join(Name::Bodies(2).to_string()));
        // Of the first body, or of that and then of its first block.
        (0..2).for_each(|block| file.make_unreadable(block));
        file.mend_after(failed);
        let found = recover_from(&folder);
        assert_eq!(found.is_ok(), failed == 1, "{failed} reads failed: {:?}", found.err());
    }
}

#[test]
fn bodies_of_trimmed_and_of_torn_frames_are_not_asked_for() {
    let mut image = Image::new();
    image.start(1).refer(&[(2, 0, b"trimmed")]).data(&[b"kept"]);
    image.trim = 3;
    image.refer(&[(3, 0, b"also kept")]).refer(&[(4, 0, b"torn")]);
    let torn = image.find(5);
    image.bytes_of(&torn)[HEADER_BYTES] ^= 1;
    for generation in [2, 4] {
        image.bodies(generation).fill(0);
    }
    let found = image.recover().expect("what is needed is there");
    assert_eq!(found.commits(), [&b"kept"[..], b"also kept"]);
    let leftovers = found.survey.leftovers.iter();
    let leftovers: Vec<(Holds, u64)> =
        leftovers.map(|left| (left.holds, left.generation)).collect();
    assert_eq!(leftovers, [(Holds::Bodies, 2), (Holds::Bodies, 4)]);
    image.files.remove(&Name::Bodies(2).to_string());
    assert!(image.recover().is_ok());
}

#[test]
fn a_reference_that_makes_no_sense_is_no_commit() {
    let reference = Reference { generation: 2, offset: 0, length: 3, checksum: 0 };
    let payload = |reference: Reference, cut: usize| {
        let mut payload = reference_prefix().to_vec();
        payload.extend_from_slice(&reference.encode());
        payload.truncate(payload.len() - cut);
        payload
    };
    assert_eq!(Commits::new(&payload(reference, 0)).count(), 1);
    assert_eq!(Commits::new(&payload(reference, 1)).count(), 0);
    assert_eq!(Commits::new(&payload(Reference { offset: 8, ..reference }, 0)).count(), 0);
    assert_eq!(Commits::new(&payload(Reference { length: u32::MAX, ..reference }, 0)).count(), 0);
    let mut shorter = payload(reference, 4);
    shorter[0] -= 4;
    assert_eq!(Commits::new(&shorter).count(), 0);
}

#[test]
fn names_of_files_of_bodies_are_told_from_others() {
    assert_eq!(Name::parse("00000000000000ff.body"), Some(Name::Bodies(255)));
    assert_eq!(Name::parse("00000000000000FF.body"), None);
    assert_eq!(Name::parse("0000000000000000.body"), None);
    assert!(!crate::is_segment("00000000000000ff.body"));
}
