//! The state of an open log: what gathers, what is in flight, what is durable.
//!
//! The fault model: writes in flight complete in any order, or fail; a failed one leaves its
//! bytes unknown for ever. What this module promises all the same: frames get consecutive numbers
//! in the order of submission, commits are handed out in that order, each once, and only when
//! their frame and every frame before it are durable. After a failure nothing more is.
//!
//! # How a commit travels
//!
//! 1. `gather` copies it, once, into the frame that gathers. A frame that is full is sealed.
//! 2. A free *slot* (see `tasks`) takes the oldest sealed frame, or the gathering one as it is,
//!    in `next_write`: that fixes the frame's number and place, and binds its header to the frame
//!    before. There are as many slots as frames may be in flight; while all are busy, commits
//!    gather. That is all there is to group commit, and no timer is part of it.
//! 3. `complete` marks the frame durable. When all before it are, its commits are `ready`.
//! 4. `take_ready` hands them out.

mod bodies;
mod frames;
mod room;
mod view;

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use woodchuck_io::Buffer;
use woodchuck_io::limits::BLOCK_BYTES;

use crate::error::LogError;
use crate::format::{Commits, HEADER_BYTES, Kind, Stored, checksum, frame_bytes, prefix};
use crate::limits::{COMMIT_CHARGE_BYTES, COMMIT_PREFIX_BYTES};
use crate::options::LogOptions;
use crate::segments::Segment;
use crate::{Committed, Location, Lsn, Statistics};

use bodies::Bodies;
pub(crate) use bodies::{BodyFile, BodyWrite, Taken};
pub(crate) use frames::{Carried, Write};
use frames::{Flight, Gathering};
pub(crate) use room::{Purpose, Shortage};

/// A frame whose commits wait to be handed out.
struct Ready<T> {
    lsn: u64,
    generation: u64,
    /// Of the payload in the segment.
    offset: u64,
    payload: Bytes,
    contexts: Vec<T>,
    bodies: Vec<Bytes>,
    charged: usize,
}

/// A segment that holds frames, and how much of it they use.
struct Live<F> {
    segment: Rc<Segment<F>>,
    used: u64,
}

/// How often it was asked that the spares be removed, and how often they were.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shrinks {
    pub(crate) asked: u64,
    pub(crate) done: u64,
}

/// What a slot is to do.
pub(crate) enum Next<F> {
    Write(Write<F>),
    Wait,
    Exit,
}

/// What came of a frame's becoming durable.
#[derive(Default)]
pub(crate) struct Completion {
    /// Commits are ready to be handed out.
    pub(crate) ready: bool,
    /// Nothing is in flight or waiting.
    pub(crate) idle: bool,
    /// There are segments to put away.
    pub(crate) retired: bool,
}

/// What a log begins with.
pub(crate) struct Beginning<F> {
    pub(crate) identity: u128,
    /// The first frame that is carried over, or else the first new one.
    pub(crate) next_lsn: u64,
    /// Checksum of the frame before that.
    pub(crate) previous: u32,
    pub(crate) trim: u64,
    /// Segments with frames that are needed and not carried over, oldest first, and the bytes used
    /// in each.
    pub(crate) live: Vec<(Rc<Segment<F>>, u64)>,
    /// Files of bodies that frames refer to which are needed, oldest first.
    pub(crate) bodies: Vec<BodyFile<F>>,
}

/// The state of an open log.
pub(crate) struct State<F, T> {
    options: LogOptions,
    identity: u128,
    /// The number that the next frame gets.
    next_lsn: u64,
    /// Header checksum of frame `next_lsn - 1`.
    previous: u32,
    /// Every frame below it is durable, and no frame at or above it was acknowledged. If it ran
    /// ahead of what is durable, recovery would call a torn tail corrupt.
    watermark: u64,
    /// What the newest frame says about the watermark. At most `watermark`.
    carried_watermark: u64,
    /// The newest frame that holds commits. Covered once `carried_watermark` is above it.
    newest_data: u64,
    /// Where the user no longer needs anything below. At most `watermark`.
    trim: u64,
    /// What the newest frame says about the trim point. At most `trim`.
    carried_trim: u64,
    /// The newest trim point in a frame below `watermark`. Segments below it can go: if they went
    /// earlier, recovery would miss them.
    durable_trim: u64,
    /// Segments with frames, oldest first; the last is written to.
    live: VecDeque<Live<F>>,
    /// Where the next frame goes in the last live segment.
    offset: u64,
    /// The segment that comes next, if it is prepared. `first_lsn` is not set yet.
    prepared: Option<Segment<F>>,
    /// Segments below `durable_trim`, to be used again once nobody reads them.
    retiring: VecDeque<Rc<Segment<F>>>,
    /// Why there is no next segment, if the last attempt to prepare one failed.
    shortage: Option<Shortage>,
    /// Whether the segments that are needed are more than it may have: opening added one.
    over_capacity: bool,
    /// How often somebody asked for the spares to be removed, and what of that was done.
    shrinks: Shrinks,
    gathering: Option<Gathering<T>>,
    sealed: VecDeque<Gathering<T>>,
    /// Frames in flight, with numbers `watermark..next_lsn`.
    flight: VecDeque<Flight<T>>,
    ready: VecDeque<Ready<T>>,
    bodies: Bodies<F, T>,
    /// What is charged for commits that were submitted and not handed out.
    waiting_bytes: usize,
    /// Whether the next frame, if nothing else comes, is to be a witness.
    witness_due: bool,
    /// Why nothing can be made durable any more.
    poison: Option<String>,
    /// Contexts of commits that were lost to it.
    failed: Vec<T>,
    closing: bool,
    closed: bool,
    /// How many commits the last full frame held: room for so many contexts saves growing.
    usual_commits: usize,
    /// A buffer of `frame_bytes` for the next frame to gather in.
    kept_buffer: Option<Buffer>,
    pub(crate) statistics: Statistics,
}

impl<F, T> State<F, T> {
    pub(crate) fn new(options: LogOptions, beginning: Beginning<F>) -> Self {
        let live = beginning.live.into_iter();
        Self {
            options,
            identity: beginning.identity,
            next_lsn: beginning.next_lsn,
            previous: beginning.previous,
            watermark: beginning.next_lsn,
            carried_watermark: beginning.next_lsn,
            newest_data: 0,
            trim: beginning.trim,
            carried_trim: beginning.trim,
            durable_trim: beginning.trim,
            live: live.map(|(segment, used)| Live { segment, used }).collect(),
            offset: 0,
            prepared: None,
            retiring: VecDeque::new(),
            shortage: None,
            over_capacity: false,
            shrinks: Shrinks::default(),
            gathering: None,
            sealed: VecDeque::new(),
            flight: VecDeque::new(),
            ready: VecDeque::new(),
            bodies: Bodies::new(beginning.bodies),
            waiting_bytes: 0,
            witness_due: false,
            poison: None,
            failed: Vec::new(),
            closing: false,
            closed: false,
            usual_commits: 0,
            kept_buffer: None,
            statistics: Statistics::default(),
        }
    }

    /// Why nothing is taken any more, if so.
    pub(crate) fn end(&self) -> Option<LogError> {
        if let Some(cause) = &self.poison {
            return Some(LogError::Poisoned { cause: cause.clone() });
        }
        self.closing.then_some(LogError::Closed)
    }

    /// Step 1: takes a commit that `refusal` had nothing against.
    pub(crate) fn gather(&mut self, parts: &[&[u8]], bytes: usize, context: T) {
        let charged = bytes + COMMIT_CHARGE_BYTES;
        self.waiting_bytes += charged;
        self.saw_commit(bytes);
        let frame = self.frame_for(COMMIT_PREFIX_BYTES + bytes);
        frame.buffer.extend_from_slice(&prefix(bytes));
        frame.add(parts, context, charged);
    }

    /// Takes a commit as it is stored, its prefix included, that was charged for before.
    fn gather_stored(&mut self, stored: &[&[u8]], context: T, charged: usize) -> &mut Gathering<T> {
        let frame = self.frame_for(stored.iter().map(|part| part.len()).sum());
        frame.add(stored, context, charged);
        frame
    }

    /// The frame that gathers, with room for so many bytes more. One that has none is sealed.
    fn frame_for(&mut self, stored: usize) -> &mut Gathering<T> {
        if let Some(mut full) =
            self.gathering.take_if(|frame| !frame.has_room(stored, &self.options))
        {
            full.checksum = Some(checksum(&full.buffer[HEADER_BYTES..]));
            self.usual_commits = full.contexts.len();
            self.sealed.push_back(full);
        }
        let frame = self.gathering.get_or_insert_with(|| {
            let capacity = self.options.frame_bytes.max(frame_bytes(stored));
            let kept = self.kept_buffer.take_if(|buffer| buffer.capacity() >= capacity);
            let buffer = kept.unwrap_or_else(|| Buffer::with_capacity(capacity));
            let contexts = Vec::with_capacity(self.usual_commits);
            Gathering { contexts, ..Gathering::new(buffer) }
        });
        assert!(stored <= frame.buffer.spare(), "the frame was chosen to have room");
        frame
    }

    /// Step 2: what a slot that is free is to do.
    pub(crate) fn next_write(&mut self) -> Next<F> {
        if self.poison.is_some() || self.closed {
            return Next::Exit;
        }
        if self.flight.len() >= self.options.frames_in_flight {
            return Next::Wait;
        }
        let bytes = match self.sealed.front().or(self.gathering.as_ref()) {
            Some(frame) => frame.bytes() as u64,
            None if self.witness_due => BLOCK_BYTES as u64,
            None => return Next::Wait,
        };
        if self.live.back().is_none_or(|live| self.offset + bytes > live.segment.bytes) {
            return match self.prepared.take() {
                Some(segment) => Next::Write(self.start_segment(segment)),
                None => Next::Wait,
            };
        }
        Next::Write(match self.sealed.pop_front().or_else(|| self.gathering.take()) {
            Some(frame) => {
                // It says all that the witness would have said.
                self.witness_due = false;
                let frame = self.fit(frame);
                self.build(Kind::Data, frame.contexts.len() as u32, frame)
            }
            None => {
                self.witness_due = false;
                self.build(Kind::Witness, 0, Gathering::new(Buffer::with_capacity(BLOCK_BYTES)))
            }
        })
    }

    /// Step 3: a frame is durable.
    pub(crate) fn complete(&mut self, lsn: u64, buffer: Buffer) -> Completion {
        if self.poison.is_some() {
            return Completion::default();
        }
        let index = usize::try_from(lsn - self.watermark).unwrap_or(usize::MAX);
        let flight = self.flight.get_mut(index).expect("a frame completes while it is in flight");
        assert!(flight.durable.is_none(), "a frame completes once");
        flight.durable = Some(buffer);
        self.statistics.completed_out_of_order += u64::from(index > 0);
        let mut ready = false;
        while let Some(flight) = self.flight.pop_front_if(|flight| flight.durable.is_some()) {
            ready |= self.acknowledge(flight);
        }
        Completion { ready, idle: self.is_idle(), retired: self.retire() }
    }

    /// The oldest frame in flight is durable, and so is every frame before it.
    fn acknowledge(&mut self, flight: Flight<T>) -> bool {
        let lsn = self.watermark;
        self.watermark += 1;
        assert!(self.durable_trim <= flight.trim, "trim points never move back");
        self.durable_trim = flight.trim;
        let Some(buffer) = flight.durable.filter(|_| flight.kind == Kind::Data) else {
            return false;
        };
        self.statistics.commits += flight.contexts.len() as u64;
        let payload = HEADER_BYTES..HEADER_BYTES + flight.payload_bytes;
        let payload = Bytes::from_owner(buffer).slice(payload);
        if !flight.bodies.is_empty() {
            self.acknowledge_bodies(Lsn::new(lsn), references(&payload));
        }
        self.ready.push_back(Ready {
            lsn,
            generation: flight.generation,
            offset: flight.offset + HEADER_BYTES as u64,
            payload,
            contexts: flight.contexts,
            bodies: flight.bodies,
            charged: flight.charged,
        });
        true
    }

    /// Gives up the segments and the files of bodies that are wholly below the durable trim point.
    fn retire(&mut self) -> bool {
        while self.live.get(1).is_some_and(|next| next.segment.first_lsn <= self.durable_trim) {
            let oldest = self.live.pop_front().map(|live| live.segment);
            self.retiring.extend(oldest);
        }
        self.retiring.extend(self.bodies.retire(self.durable_trim));
        self.has_retired()
    }

    /// Step 4: everything that is ready; `None` if there is nothing.
    pub(crate) fn take_ready(&mut self) -> Option<Vec<Committed<T>>> {
        let count = self.ready.iter().map(|frame| frame.contexts.len()).sum();
        if count == 0 {
            return None;
        }
        let mut taken = Vec::with_capacity(count);
        for frame in self.ready.drain(..) {
            self.waiting_bytes -= frame.charged;
            let mut bodies = frame.bodies.into_iter();
            for (stored, context) in Commits::new(&frame.payload).zip(frame.contexts) {
                let (location, is_body, bytes) = match stored {
                    Stored::Here(range) => {
                        let location = Location {
                            segment: frame.generation,
                            offset: frame.offset + range.start as u64,
                            length: range.len() as u32,
                        };
                        (location, false, frame.payload.slice(range))
                    }
                    Stored::Elsewhere(reference) => {
                        let body = bodies.next().expect("each reference has a body");
                        (reference.location(), true, body)
                    }
                };
                let lsn = Lsn::new(frame.lsn);
                taken.push(Committed { context, lsn, location, is_body, bytes });
            }
        }
        assert_eq!(taken.len(), count, "a frame holds a commit for each of its contexts");
        Some(taken)
    }

    /// Nothing can be made durable any more: fails all that is not acknowledged.
    pub(crate) fn fail(&mut self, cause: String) {
        if self.poison.is_some() {
            return;
        }
        self.poison = Some(cause);
        let flight = self.flight.drain(..).map(|flight| flight.contexts);
        let sealed = self.sealed.drain(..).map(|frame| frame.contexts);
        let gathering = self.gathering.take().map(|frame| frame.contexts);
        self.failed.extend(flight.chain(sealed).chain(gathering).flatten());
        self.failed.extend(self.bodies.fail());
    }

    pub(crate) fn take_failed(&mut self) -> Vec<T> {
        std::mem::take(&mut self.failed)
    }

    /// Moves the trim point. Returns whether a witness should carry it.
    pub(crate) fn trim_to(&mut self, below: u64) -> bool {
        self.trim = self.trim.max(below.min(self.watermark));
        self.over_capacity = self.bytes_needed() > self.options.capacity_bytes;
        self.wants_witness()
    }

    /// Whether nothing waits and nothing is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.flight.is_empty()
            && self.sealed.is_empty()
            && self.gathering.is_none()
            && self.bodies.is_idle()
            && !self.witness_due
    }

    /// Whether the log is idle, and the disk does not yet know all that a witness would tell it:
    /// that the newest commits are durable, or that a segment can go. A witness needs no witness:
    /// its loss loses nothing.
    pub(crate) fn wants_witness(&self) -> bool {
        let uncovered = self.newest_data >= self.carried_watermark;
        let frees = self.trim > self.carried_trim
            && (self.live.get(1).is_some_and(|next| next.segment.first_lsn <= self.trim)
                || self.bodies.has_below(self.trim));
        self.poison.is_none() && !self.closed && self.is_idle() && (uncovered || frees)
    }

    /// Has the next free slot write a witness, if one is still wanted.
    pub(crate) fn request_witness(&mut self) {
        self.witness_due |= self.wants_witness();
    }
}

/// The generations of the files that a payload refers to, one for each reference.
fn references(payload: &[u8]) -> impl Iterator<Item = u64> {
    Commits::new(payload).filter_map(|stored| match stored {
        Stored::Here(_) => None,
        Stored::Elsewhere(reference) => Some(reference.generation),
    })
}
