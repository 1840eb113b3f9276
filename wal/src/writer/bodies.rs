//! Large commits, whose bytes stand in files of their own.
//!
//! The fault model is that of the whole writer. What is promised besides: a frame that refers to a
//! body, torn or not, was built when all of the body was durable; no place of a file is given to two
//! bodies; and a file goes only when every frame that refers to it is durably trimmed. So recovery
//! may ask of each reference that its body is there, whatever a crash did.
//!
//! # How a large commit travels
//!
//! 1. `take` gives it the next place in the newest file of bodies, copies it, once, into a buffer,
//!    and holds its reference back. If there is no such place, it goes into the log like any other
//!    commit, and the keeper is to make a file.
//! 2. A *body slot* (see `tasks`) writes the buffer, durably. Bodies do not wait for frames, nor
//!    frames for bodies.
//! 3. `complete_body`: the reference gathers in the next frame, and is acknowledged with it.
//!
//! As long as nobody commits anything small, nobody is held up, and a large commit goes into the log
//! like any other: one write for each is less than two.
//!
//! Commits of the same lane keep their order: behind one that is held back, the others of its lane
//! are held back too.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use woodchuck_io::Buffer;
use woodchuck_io::limits::BLOCK_BYTES;

use super::{Purpose, State};
use crate::error::LogError;
use crate::format::{REFERENCE_BYTES, Reference, checksum, frame_bytes, prefix, reference_prefix};
use crate::limits::{BODIES_SHARE, COMMIT_CHARGE_BYTES, COMMIT_PREFIX_BYTES, LARGE_IN_A_ROW};
use crate::segments::Segment;
use crate::{Lane, Lsn};

/// A file of bodies.
pub(crate) struct BodyFile<F> {
    pub(crate) segment: Rc<Segment<F>>,
    /// Bytes up to the end of the last body.
    pub(crate) used: u64,
    /// Bodies whose commit is not acknowledged.
    pub(crate) waiting: usize,
    /// The newest acknowledged frame that refers to a body of it; 0 if none does.
    pub(crate) newest: u64,
}

impl<F> BodyFile<F> {
    fn is_below(&self, trim: u64) -> bool {
        self.waiting == 0 && self.newest < trim
    }
}

/// A body for a slot to write.
pub(crate) struct BodyWrite<F> {
    pub(crate) number: u64,
    pub(crate) file: Rc<Segment<F>>,
    pub(crate) offset: u64,
    pub(crate) buffer: Buffer,
}

/// A commit that waits for a body: its own, or one before it in its lane.
struct Held<T> {
    what: What,
    context: T,
    /// Bytes of the frame that it would fill alone.
    frame_bytes: usize,
    charged: usize,
}

enum What {
    /// A large commit, and its body if that is durable.
    Body { number: u64, reference: Reference, durable: Option<Bytes> },
    /// A commit that stands in its frame itself.
    Commit(Vec<u8>),
}

impl What {
    const fn is_ready(&self) -> bool {
        matches!(self, Self::Commit(_) | Self::Body { durable: Some(_), .. })
    }
}

/// What became of a commit that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It gathers in a frame.
    Gathers,
    /// Its body is to be written.
    HasBody,
    /// It waits for a body before it.
    Waits,
}

/// Large commits, and the files of their bodies.
pub(crate) struct Bodies<F, T> {
    /// Oldest first; the last is written to, if this opening of the log made it.
    files: VecDeque<BodyFile<F>>,
    /// Whether the last is written to, and where the next body goes in it.
    offset: Option<u64>,
    /// The file that comes next, if it is prepared.
    prepared: Option<Segment<F>>,
    /// Bytes of large commits, up to those that made a file worth having.
    asked_bytes: u64,
    /// Large commits since the last small one.
    in_a_row: u32,
    /// Commits that are held back, oldest first in each lane; no lane is empty.
    lanes: BTreeMap<Lane, VecDeque<Held<T>>>,
    /// What the held ones take in frames, at most.
    held_bytes: usize,
    /// Bodies that no slot has taken yet, and the lanes of those that are not durable.
    queue: VecDeque<BodyWrite<F>>,
    lane_of: BTreeMap<u64, Lane>,
    next_number: u64,
}

impl<F, T> Bodies<F, T> {
    /// With the files that are needed already.
    pub(super) fn new(files: Vec<BodyFile<F>>) -> Self {
        Self {
            files: files.into(),
            offset: None,
            prepared: None,
            asked_bytes: 0,
            in_a_row: 0,
            lanes: BTreeMap::new(),
            held_bytes: 0,
            queue: VecDeque::new(),
            lane_of: BTreeMap::new(),
            next_number: 0,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.lanes.is_empty()
    }

    pub(super) const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.used).sum()
    }

    /// Bytes of the files that are needed, the prepared one included.
    pub(super) fn bytes_needed(&self, trim: u64) -> u64 {
        let written = self.written();
        let needed = self.files.iter().enumerate();
        let needed = needed.filter(|&(index, file)| index >= written || !file.is_below(trim));
        let needed = needed.map(|(_, file)| file.segment.bytes);
        let prepared = self.prepared.iter().map(|segment| segment.bytes);
        needed.chain(prepared).sum()
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        let files = self.files.iter().map(|file| file.segment.bytes);
        files.chain(self.prepared.iter().map(|segment| segment.bytes)).sum()
    }

    /// The place of the file that is written to; behind all if there is none.
    fn written(&self) -> usize {
        self.files.len() - usize::from(self.offset.is_some())
    }

    /// Whether a file can go, if everything below `trim` can.
    pub(super) fn has_below(&self, trim: u64) -> bool {
        self.files.range(..self.written()).any(|file| file.is_below(trim))
    }

    /// Gives up the files that nothing refers to from the durable trim point on.
    pub(super) fn retire(&mut self, durable_trim: u64) -> Vec<Rc<Segment<F>>> {
        let mut retired = Vec::new();
        let mut index = 0;
        while index < self.written() {
            if self.files[index].is_below(durable_trim) {
                retired.extend(self.files.remove(index).map(|file| file.segment));
            } else {
                index += 1;
            }
        }
        retired
    }

    pub(super) fn file(&self, generation: u64) -> Option<Rc<Segment<F>>> {
        let found = self.files.binary_search_by_key(&generation, |file| file.segment.generation);
        found.ok().map(|index| Rc::clone(&self.files[index].segment))
    }

    /// A frame is acknowledged that refers to a body.
    pub(super) fn acknowledged(&mut self, generation: u64, lsn: u64) {
        let found = self.files.binary_search_by_key(&generation, |file| file.segment.generation);
        let file = &mut self.files[found.expect("a file stays while a commit refers to it")];
        file.waiting -= 1;
        file.newest = lsn;
    }

    /// The contexts of all that is held back.
    pub(super) fn fail(&mut self) -> impl Iterator<Item = T> + use<F, T> {
        self.queue.clear();
        self.lane_of.clear();
        self.held_bytes = 0;
        let lanes = std::mem::take(&mut self.lanes);
        lanes.into_values().flatten().map(|held| held.context)
    }

    /// The next place for a body of so many bytes, padding included.
    fn place(&mut self, bytes: u64) -> Option<(Rc<Segment<F>>, u64)> {
        let fits = |file: &BodyFile<F>, offset: u64| offset + bytes <= file.segment.bytes;
        let has_room =
            self.offset.zip(self.files.back()).is_some_and(|(offset, file)| fits(file, offset));
        if !has_room {
            let segment = self.prepared.take_if(|segment| bytes <= segment.bytes)?;
            self.files.push_back(BodyFile {
                segment: Rc::new(segment),
                used: 0,
                waiting: 0,
                newest: 0,
            });
            self.offset = Some(0);
        }
        let (offset, file) = (self.offset.as_mut()?, self.files.back_mut()?);
        let place = *offset;
        *offset += bytes;
        file.used = *offset;
        file.waiting += 1;
        Some((Rc::clone(&file.segment), place))
    }

    fn hold(&mut self, lane: Lane, held: Held<T>) {
        self.held_bytes += held.frame_bytes;
        self.lanes.entry(lane).or_default().push_back(held);
    }

    /// The next commit of a lane, if it waits no longer.
    fn release(&mut self, lane: Lane) -> Option<Held<T>> {
        let waiting = self.lanes.get_mut(&lane)?;
        let held = waiting.pop_front_if(|held| held.what.is_ready())?;
        if waiting.is_empty() {
            self.lanes.remove(&lane);
        }
        self.held_bytes -= held.frame_bytes;
        Some(held)
    }
}

impl<F, T> State<F, T> {
    /// Step 1: takes a commit of a lane, of so many bytes, or gives its context back.
    pub(crate) fn take(
        &mut self,
        lane: Lane,
        parts: &[&[u8]],
        bytes: usize,
        context: T,
    ) -> Result<Taken, (LogError, T)> {
        let is_large = bytes >= self.options.indirect_bytes;
        // What has no place in the log itself has none elsewhere: a file of bodies may not come.
        if let Some(error) = self.refusal(bytes, Purpose::Any) {
            return Err((error, context));
        }
        let charged = bytes + COMMIT_CHARGE_BYTES;
        if is_large && self.bodies.in_a_row < LARGE_IN_A_ROW {
            self.bodies.in_a_row += 1;
            self.bodies.asked_bytes = self.bodies.asked_bytes.saturating_add(bytes as u64);
            let padded = bytes.next_multiple_of(BLOCK_BYTES);
            if let Some((file, offset)) = self.bodies.place(padded as u64) {
                let mut buffer = Buffer::with_capacity(padded);
                parts.iter().for_each(|part| buffer.extend_from_slice(part));
                let reference = Reference {
                    generation: file.generation,
                    offset,
                    length: bytes as u32,
                    checksum: checksum(&buffer),
                };
                buffer.pad_to_block();
                let number = self.bodies.next_number;
                self.bodies.next_number += 1;
                self.bodies.queue.push_back(BodyWrite { number, file, offset, buffer });
                self.bodies.lane_of.insert(number, lane);
                self.waiting_bytes += charged;
                let what = What::Body { number, reference, durable: None };
                let frame_bytes = frame_bytes(COMMIT_PREFIX_BYTES + REFERENCE_BYTES);
                self.bodies.hold(lane, Held { what, context, frame_bytes, charged });
                self.statistics.bodies += 1;
                self.statistics.bytes_written += padded as u64;
                return Ok(Taken::HasBody);
            }
        }
        if self.bodies.lanes.contains_key(&lane) {
            self.saw_commit(bytes);
            self.waiting_bytes += charged;
            let what = What::Commit(parts.concat());
            let frame_bytes = frame_bytes(COMMIT_PREFIX_BYTES + bytes);
            self.bodies.hold(lane, Held { what, context, frame_bytes, charged });
            return Ok(Taken::Waits);
        }
        self.gather(parts, bytes, context);
        Ok(Taken::Gathers)
    }

    /// Step 2: the next body for a slot to write.
    pub(crate) fn next_body(&mut self) -> Option<BodyWrite<F>> {
        self.bodies.queue.pop_front()
    }

    /// Step 3: a body is durable. What waited for it gathers.
    pub(crate) fn complete_body(&mut self, number: u64, buffer: Buffer) {
        // A log that failed holds nothing back.
        let Some(lane) = self.bodies.lane_of.remove(&number) else { return };
        let mut waiting = self.bodies.lanes.get_mut(&lane).into_iter().flatten();
        let durable = waiting.find_map(|held| match &mut held.what {
            What::Body { number: found, reference, durable } if *found == number => {
                Some((reference.length as usize, durable))
            }
            _ => None,
        });
        let (length, durable) = durable.expect("a commit is held back for as long as its body");
        *durable = Some(Bytes::from_owner(buffer).slice(..length));
        while let Some(held) = self.bodies.release(lane) {
            let Held { what, context, charged, .. } = held;
            match what {
                What::Commit(bytes) => {
                    self.gather_stored(&[&prefix(bytes.len()), &bytes], context, charged);
                }
                What::Body { reference, durable, .. } => {
                    let stored = [&reference_prefix()[..], &reference.encode()];
                    let frame = self.gather_stored(&stored, context, charged);
                    frame.bodies.extend(durable);
                }
            }
        }
    }

    /// Whether a file of bodies must be prepared: large commits come, and the present file, if there
    /// is one, is half full.
    pub(crate) fn needs_bodies(&self) -> bool {
        let bodies = &self.bodies;
        let asked = bodies.asked_bytes >= self.options.segment_bytes / BODIES_SHARE;
        let is_low = match (bodies.offset, bodies.files.back()) {
            (Some(offset), Some(file)) => offset > file.segment.bytes / 2,
            _ => true,
        };
        // The log itself comes first.
        let segments = self.options.segment_bytes.saturating_mul(2);
        let may_grow = self.bytes_needed().saturating_add(segments) <= self.options.capacity_bytes;
        bodies.prepared.is_none() && asked && is_low && may_grow && !self.closing
    }

    pub(crate) fn set_prepared_bodies(&mut self, segment: Segment<F>) {
        assert!(self.bodies.prepared.is_none(), "one file is prepared at a time");
        self.statistics.segments_prepared += 1;
        self.bodies.prepared = Some(segment);
    }

    /// The disk has no room for a file of bodies. It is asked again when as many large commits have
    /// come as for the first.
    pub(crate) const fn give_up_bodies(&mut self) {
        self.bodies.asked_bytes = 0;
    }

    /// A commit was taken that large ones may hold up.
    pub(super) const fn saw_commit(&mut self, bytes: usize) {
        if bytes < self.options.indirect_bytes {
            self.bodies.in_a_row = 0;
        }
    }

    /// A frame that holds references was acknowledged.
    pub(super) fn acknowledge_bodies(&mut self, lsn: Lsn, references: impl Iterator<Item = u64>) {
        for generation in references {
            self.bodies.acknowledged(generation, lsn.get());
        }
    }
}
