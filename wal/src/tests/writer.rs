//! The bookkeeping of an open log, with the disk played by hand.

use std::rc::Rc;

use woodchuck_io::Buffer;

use crate::LogOptions;
use crate::error::LogError;
use crate::format::{HEADER_BYTES, Header, Kind};
use crate::segments::{Holds, Segment};
use crate::writer::{Beginning, Next, Purpose, Shortage, State, Write};

pub(super) type Played = State<(), u32>;

pub(super) fn segment(generation: u64) -> Segment<()> {
    file(Holds::Frames, generation)
}

pub(super) fn file(holds: Holds, generation: u64) -> Segment<()> {
    let bytes = LogOptions::small().segment_bytes;
    Segment { holds, generation, first_lsn: 0, bytes, file: () }
}

/// A log whose start frame is durable.
pub(super) fn played(options: LogOptions) -> Played {
    let (live, bodies) = (Vec::new(), Vec::new());
    let beginning = Beginning { identity: 5, next_lsn: 1, previous: 0, trim: 1, live, bodies };
    let mut state = State::new(options, beginning);
    for start in state.begin(segment(1), &[]) {
        let completion = state.complete(start.lsn, start.buffer);
        assert!(completion.idle && !completion.ready);
    }
    state
}

pub(super) fn next(state: &mut Played) -> Option<Write<()>> {
    match state.next_write() {
        Next::Write(write) => Some(write),
        Next::Wait => None,
        Next::Exit => panic!("the log ended"),
    }
}

pub(super) fn header(write: &Write<()>) -> Header {
    Header::decode(&write.buffer, write.offset).expect("a frame begins with its header").0
}

fn submit(state: &mut Played, bytes: &[u8], context: u32) {
    assert!(state.refusal(bytes.len(), Purpose::Any).is_none());
    state.gather(&[bytes], bytes.len(), context);
}

pub(super) fn contexts(state: &mut Played) -> Vec<u32> {
    let taken = state.take_ready().unwrap_or_default();
    taken.into_iter().map(|committed| committed.context).collect()
}

#[test]
fn acknowledgements_keep_the_order_whatever_the_disk_does() {
    let mut state = played(LogOptions::small());
    let mut writes: Vec<Write<()>> = Vec::new();
    for context in 0..3 {
        submit(&mut state, &[context as u8; 100], context);
        writes.extend(next(&mut state));
    }
    assert_eq!(writes.len(), 3);
    submit(&mut state, b"gathers", 3);
    submit(&mut state, b"gathers too", 4);
    assert!(next(&mut state).is_none(), "three frames are in flight");
    let mut writes = writes.into_iter();
    let (first, second, third) = (writes.next(), writes.next(), writes.next());
    for write in [third, second].into_iter().flatten() {
        assert!(!state.complete(write.lsn, write.buffer).ready);
        assert!(state.take_ready().is_none());
    }
    let first = first.expect("three writes");
    assert!(state.complete(first.lsn, first.buffer).ready);
    assert_eq!(contexts(&mut state), [0, 1, 2]);
    let group = next(&mut state).expect("a slot is free");
    assert_eq!(header(&group).commits, 2);
    assert_eq!((header(&group).lsn, header(&group).watermark), (5, 5));
    state.complete(group.lsn, group.buffer);
    let taken = state.take_ready().expect("the group is durable");
    assert_eq!(&taken[1].bytes[..], b"gathers too");
    assert_eq!(taken[1].location.offset, taken[0].location.offset + 7 + 4);
    assert_eq!(state.statistics.completed_out_of_order, 2);
}

#[test]
fn the_queue_is_bounded() {
    let options = LogOptions::small();
    let mut state = played(options);
    let mut taken = 0;
    while state.refusal(1000, Purpose::Any).is_none() {
        state.gather(&[&[1; 1000]], 1000, taken);
        taken += 1;
    }
    assert!(taken as usize * 1000 < options.queue_bytes);
    assert!(
        matches!(state.refusal(1, Purpose::Any), Some(LogError::Busy { .. })) && !state.has_room(1)
    );
    while let Some(write) = next(&mut state) {
        state.complete(write.lsn, write.buffer);
    }
    assert!(!state.has_room(1), "what was not handed out still waits");
    let handed_out = contexts(&mut state).len() as u32;
    assert!(state.has_room(1));
    // The first segment is full before the queue is empty: no segment is prepared.
    assert!(handed_out <= taken);
    let limit = options.commit_bytes();
    assert!(matches!(state.refusal(limit + 1, Purpose::Any), Some(LogError::TooLarge { .. })));
}

#[test]
fn a_large_commit_gets_a_frame_of_its_own() {
    let options = LogOptions { queue_bytes: 1 << 20, ..LogOptions::small() };
    let mut state = played(options);
    state.set_prepared(segment(2));
    let large = vec![7; options.commit_bytes() - 8192];
    submit(&mut state, b"before", 0);
    submit(&mut state, &large, 1);
    submit(&mut state, b"after", 2);
    let sizes: Vec<usize> =
        std::iter::from_fn(|| next(&mut state)).map(|write| write.buffer.len()).collect();
    assert_eq!(sizes, [4096, (large.len() + HEADER_BYTES + 4).next_multiple_of(4096), 4096]);
}

#[test]
fn a_full_segment_is_followed_by_the_prepared_one() {
    let mut state = played(LogOptions::small());
    let write_alone = |state: &mut Played, context| {
        submit(state, &[1; 3900], context);
        let write = next(state).expect("it has a place");
        let written = header(&write);
        state.complete(write.lsn, write.buffer);
        assert_eq!(contexts(state), [context]);
        written
    };
    // Of the 16 blocks, the first is the start's, one is kept for commits that make room, and the
    // last for a witness.
    for context in 0..12 {
        write_alone(&mut state, context);
    }
    // Who waits must have something to wait for.
    assert!(state.refusal(3900, Purpose::Any).is_none() && state.has_room(3900));
    submit(&mut state, b"waits", 13);
    assert!(matches!(state.refusal(3900, Purpose::Any), Some(LogError::Busy { .. })));
    assert!(!state.has_room(3900) && state.has_space(3900));
    let write = next(&mut state).expect("it has a place");
    state.complete(write.lsn, write.buffer);
    assert_eq!(contexts(&mut state), [13]);
    let shortage = Shortage::Disk { needed: 1 };
    state.set_short(shortage);
    assert!(matches!(state.refusal(3900, Purpose::Any), Some(LogError::Full { .. })));
    assert!(state.has_room(3900) && !state.has_space(3900));
    assert!(state.refusal(3900, Purpose::MakesRoom).is_none());
    assert!(matches!(state.refusal(4900, Purpose::MakesRoom), Some(LogError::Full { .. })));
    assert_eq!(state.is_stuck(), None, "a witness has its place");
    assert_eq!(state.set_prepared(segment(4)), Some(shortage));
    write_alone(&mut state, 14);
    let previous = write_alone(&mut state, 14);
    assert_eq!((previous.generation, previous.offset), (1, 15 * 4096));
    submit(&mut state, &[1; 3900], 15);
    let start = next(&mut state).expect("a segment was prepared");
    let data = next(&mut state).expect("the data follows at once");
    assert_eq!((header(&start).kind, header(&start).offset), (Kind::Start, 0));
    assert_eq!(header(&start).lsn, previous.lsn + 1);
    assert_eq!((header(&data).kind, header(&data).offset), (Kind::Data, 4096));
    assert_eq!(header(&data).generation, 4);
    assert!(state.needs_segment());
}

#[test]
fn a_segment_goes_when_its_trim_point_is_durable_and_nobody_reads_it() {
    let mut state = played(LogOptions::small());
    state.set_prepared(segment(2));
    for context in 0..16 {
        submit(&mut state, &[1; 3900], context);
        while let Some(write) = next(&mut state) {
            state.complete(write.lsn, write.buffer);
        }
        assert_eq!(contexts(&mut state), [context]);
    }
    let first_of_second = 17;
    assert!(state.segment(1).is_ok() && state.segment(2).is_ok());
    state.trim_to(first_of_second - 1);
    state.request_witness();
    let witness = next(&mut state).expect("the last group is not covered");
    assert!(!state.complete(witness.lsn, witness.buffer).retired);
    assert!(state.trim_to(first_of_second), "a witness should carry the trim point");
    assert!(state.take_retired().is_none(), "the trim point is not durable");
    state.request_witness();
    let reader = state.segment(1).expect("it is still there");
    let witness = next(&mut state).expect("a witness is due");
    assert_eq!(header(&witness).trim, first_of_second);
    assert!(state.complete(witness.lsn, witness.buffer).retired);
    assert_eq!(state.segment(1).err(), Some(2));
    assert!(state.take_retired().is_none(), "somebody reads it");
    drop(reader);
    assert_eq!(state.take_retired().map(|segment| segment.generation), Some(1));
    assert_eq!(state.oldest(), first_of_second);
    assert!(!state.trim_to(u64::MAX), "nothing else can go");
    assert_eq!(state.oldest(), state.watermark());
}

#[test]
fn an_idle_log_wants_one_witness_and_a_witness_wants_none() {
    let mut state = played(LogOptions::small());
    assert!(!state.wants_witness(), "nothing was written");
    submit(&mut state, b"commit", 0);
    assert!(!state.wants_witness(), "a commit waits");
    let write = next(&mut state).expect("a slot is free");
    assert!(!state.wants_witness(), "a frame is in flight");
    state.complete(write.lsn, write.buffer);
    assert!(state.wants_witness());
    state.request_witness();
    state.request_witness();
    let witness = next(&mut state).expect("it was requested");
    assert_eq!((header(&witness).kind, header(&witness).watermark), (Kind::Witness, 3));
    state.complete(witness.lsn, witness.buffer);
    assert!(!state.wants_witness());
    state.request_witness();
    assert!(next(&mut state).is_none());
}

#[test]
fn data_takes_the_place_of_a_witness() {
    let mut state = played(LogOptions::small());
    submit(&mut state, b"one", 0);
    let write = next(&mut state).expect("a slot is free");
    state.complete(write.lsn, write.buffer);
    state.request_witness();
    submit(&mut state, b"two", 1);
    let write = next(&mut state).expect("a slot is free");
    assert_eq!(header(&write).kind, Kind::Data);
    assert!(next(&mut state).is_none(), "the witness is not needed now");
    state.complete(write.lsn, write.buffer);
    assert!(state.wants_witness());
}

#[test]
fn a_failure_is_for_ever_and_loses_no_context() {
    let mut state = played(LogOptions::small());
    submit(&mut state, b"durable", 0);
    let durable = next(&mut state).expect("a slot is free");
    submit(&mut state, b"fails", 1);
    let _fails = next(&mut state);
    submit(&mut state, b"behind", 2);
    let behind = next(&mut state).expect("a slot is free");
    submit(&mut state, b"gathers", 3);
    state.complete(durable.lsn, durable.buffer);
    state.fail("the disk said no".to_owned());
    state.fail("the disk said no again".to_owned());
    assert!(!state.complete(behind.lsn, behind.buffer).ready);
    assert_eq!(contexts(&mut state), [0], "what was durable before is acknowledged");
    assert_eq!(state.take_failed(), [1, 2, 3]);
    assert!(state.take_failed().is_empty());
    let error = state.refusal(1, Purpose::Any).expect("poisoned");
    assert!(error.to_string().contains("the disk said no)"), "{error}");
    assert!(!error.is_retryable() && !error.is_definite());
    assert!(matches!(state.next_write(), Next::Exit));
}

#[test]
fn a_small_group_does_not_hold_a_large_buffer() {
    let options = LogOptions { frame_bytes: 32 << 10, ..LogOptions::small() };
    let mut state = played(options);
    submit(&mut state, b"small", 0);
    let write = next(&mut state).expect("a slot is free");
    assert_eq!((write.buffer.len(), write.buffer.capacity()), (4096, 4096));
    submit(&mut state, &[1; 20 << 10], 1);
    let write = next(&mut state).expect("a slot is free");
    assert_eq!(write.buffer.capacity(), 32 << 10);
    let _same: Buffer = write.buffer;
    assert_eq!(Rc::strong_count(&write.segment), 3);
}

#[test]
fn options_for_segments_of_any_size_can_work() {
    for blocks in [0, 1, 3, 4, 16, 64, 1 << 14] {
        let options = LogOptions::default().with_segment_bytes(blocks * 4096);
        assert!(options.check().is_ok(), "{blocks} blocks");
        assert_eq!(options.segment_bytes, blocks.max(3) * 4096);
    }
}

#[test]
fn options_that_cannot_work_are_refused() {
    let small = LogOptions::small();
    for wrong in [
        LogOptions { segment_bytes: 4096 * 2, ..small },
        LogOptions { segment_bytes: (64 << 10) + 1, ..small },
        LogOptions { frame_bytes: 0, ..small },
        LogOptions { frame_bytes: 5000, ..small },
        LogOptions { frame_bytes: 64 << 10, ..small },
        LogOptions { indirect_bytes: 0, ..small },
        LogOptions { frames_in_flight: 0, ..small },
        LogOptions { frames_in_flight: 65, ..small },
        LogOptions { queue_bytes: 0, ..small },
    ] {
        assert!(matches!(wrong.check(), Err(LogError::Options { .. })), "{wrong:?}");
    }
    assert!(small.check().is_ok() && LogOptions::default().check().is_ok());
    assert!(LogOptions { segment_bytes: 3 * 4096, frame_bytes: 4096, ..small }.check().is_ok());
    for indirect_bytes in [1, usize::MAX] {
        assert!(LogOptions { indirect_bytes, ..small }.check().is_ok(), "{indirect_bytes}");
    }
}
