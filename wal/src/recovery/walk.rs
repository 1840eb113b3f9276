//! Step 5: the frames of the log, one after the other.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use woodchuck_io::File;
use woodchuck_io::limits::BLOCK_BYTES;

use super::{BLOCK, Bodies, BodyFiles, Candidate, Progress};
use crate::error::LogError;
use crate::format::{Commits, HEADER_BYTES, Header, Kind, Reference, Stored};
use crate::limits::LEAVING_BYTES;
use crate::reader::Reader;
use crate::writer::Carried;
use crate::{Location, Lsn, Recovered};

/// Where the walk is.
pub(crate) struct Walk<F, R> {
    pub(crate) bodies: Rc<BodyFiles<F>>,
    /// The bodies of the frames in `leaving`, and of no other.
    ahead: Bodies<F>,
    /// Frames to replay, some of whose bodies are being read. They are older than all recent ones.
    leaving: VecDeque<Recent>,
    leaving_bytes: usize,
    pub(crate) identity: u128,
    /// The number that comes next.
    pub(crate) next_lsn: u64,
    /// Checksum of the frame before; `None` in front of the first.
    pub(crate) previous: Option<u32>,
    /// Every frame below it is known durable.
    pub(crate) watermark: u64,
    /// The latest frames, which were not replayed yet: at least those from `watermark` on.
    pub(crate) recent: VecDeque<Recent>,
    /// What their copies would take, and the bodies that they refer to.
    pub(crate) recent_bytes: u64,
    /// How much of that frames below `watermark` may have.
    pub(crate) carried_bytes: u64,
    /// The first frame that is needed of the segment that is walked.
    whole: u64,
    /// The trim point. Commits of older frames are not replayed.
    pub(crate) trim: u64,
    /// The place where the next frame would be: index of the segment, and offset.
    pub(crate) end: (usize, u64),
    /// The start frame whose carried frames are being walked: its number and generation.
    pub(crate) carrying: Option<(u64, u64)>,
    pub(crate) frames: u64,
    pub(crate) commits: u64,
    pub(crate) bytes: u64,
    /// Of each file of bodies, the newest frame that was replayed or is carried over and refers to it.
    pub(crate) references: BTreeMap<u64, u64>,
    /// The first frame that refers to a body which is not there, and what opening says of it. Nothing
    /// is replayed from it on.
    pub(crate) damaged: Option<(u64, LogError)>,
    pub(crate) replay: R,
}

/// A frame that may have to be carried over.
pub(crate) struct Recent {
    pub(crate) frame: Carried,
    /// Checksum of the frame before.
    pub(super) previous: u32,
    /// Segment and offset of the payload.
    pub(crate) place: (u64, u64),
    /// Whether it refers to bodies.
    has_bodies: bool,
    /// What a copy would take, and the bodies that it refers to.
    bytes: u64,
}

impl<F, R> Walk<F, R> {
    /// Takes away the oldest frame that was not replayed.
    pub(crate) fn take_recent(&mut self) -> Option<Recent> {
        let recent = self.recent.pop_front()?;
        self.recent_bytes -= recent.bytes;
        Some(recent)
    }

    /// The number of the oldest frame that was not replayed.
    pub(super) fn first_carried(&self) -> u64 {
        self.next_lsn - self.recent.len() as u64
    }
}

/// Step 5.
impl<F: File, R: FnMut(Recovered) -> Result<(), String>> Walk<F, R> {
    /// In front of the first frame of a log.
    pub(crate) fn new(
        identity: Option<u128>,
        trim: u64,
        carried_bytes: u64,
        bodies: Rc<BodyFiles<F>>,
        replay: R,
    ) -> Self {
        Self {
            ahead: Bodies::new(Rc::clone(&bodies)),
            bodies,
            leaving: VecDeque::new(),
            leaving_bytes: 0,
            identity: identity.unwrap_or_default(),
            next_lsn: 1,
            previous: None,
            watermark: 1,
            recent: VecDeque::new(),
            recent_bytes: 0,
            carried_bytes,
            whole: 1,
            trim,
            end: (0, 0),
            carrying: None,
            frames: 0,
            commits: 0,
            bytes: 0,
            references: BTreeMap::new(),
            damaged: None,
            replay,
        }
    }

    /// Returns the segments that hold frames of the log, with the bytes used in each. Of several
    /// errors, the one that stands first in the log.
    pub(super) async fn all(
        &mut self,
        candidates: &mut [Candidate<F>],
        needed: &[usize],
        progress: Progress,
    ) -> Result<Vec<(usize, u64)>, LogError> {
        let walked = self.walk(candidates, needed, progress).await;
        self.replay_leaving().await?;
        walked
    }

    async fn walk(
        &mut self,
        candidates: &mut [Candidate<F>],
        needed: &[usize],
        mut progress: Progress,
    ) -> Result<Vec<(usize, u64)>, LogError> {
        let mut live: Vec<(usize, u64)> = Vec::new();
        let mut ahead: Option<Reader<F>> = None;
        for (place, &index) in needed.iter().enumerate() {
            let next = needed.get(place + 1).map(|&next| candidates[next].frames());
            let candidate = &mut candidates[index];
            if !self.enter(index, candidate) {
                break;
            }
            let mut reader = ahead.unwrap_or_else(|| Reader::new(candidate.frames()));
            reader.expect_next(next);
            while self.step(&mut reader, candidate).await? {
                progress.report(candidate.generation, self.end.1, self.frames);
            }
            progress.leave(candidate);
            candidate.unreadable.insert_all(reader.unreadable());
            ahead = reader.into_next();
            live.push((index, self.end.1));
            if self.is_stuck() {
                break;
            }
        }
        Ok(live)
    }

    /// Goes over to a segment that has a start frame. Returns whether it continues the log.
    pub(crate) fn enter(&mut self, index: usize, candidate: &Candidate<F>) -> bool {
        let Some((header, start)) = candidate.start else { return false };
        let carries = start.first_lsn < header.lsn;
        match self.previous {
            None => self.next_lsn = start.first_lsn,
            Some(previous) => {
                let follows = carries || header.previous == previous;
                if start.first_lsn != self.next_lsn || !follows {
                    return false;
                }
            }
        }
        self.carrying = carries.then_some((header.lsn, header.generation));
        self.end = (index, if carries { BLOCK } else { 0 });
        self.whole = start.first_lsn.max(self.trim);
        true
    }

    /// Whether the segment that was left lacks what the next one would have to follow: the first
    /// frame that was asked for may be missing, or one that its start frame speaks of.
    pub(crate) const fn is_stuck(&self) -> bool {
        self.carrying.is_some() || self.previous.is_none()
    }

    /// Takes the next frame of the log, if the segment has it.
    pub(crate) async fn step(
        &mut self,
        reader: &mut Reader<F>,
        candidate: &Candidate<F>,
    ) -> Result<bool, LogError> {
        let Some((_, start)) = candidate.start else { return Ok(false) };
        if self.next_lsn >= candidate.superseded_from {
            // Whatever else it holds, a later segment has instead.
            self.carrying = None;
            return Ok(false);
        }
        // Behind the carried frames comes the start frame, which stands in front of them.
        let starts = self.carrying.is_some_and(|(lsn, _)| lsn == self.next_lsn);
        let offset = if starts { 0 } else { self.end.1 };
        let Some(block) = reader.span(offset, BLOCK_BYTES).await? else { return Ok(false) };
        let Some((header, checksum)) = Header::decode(&block, offset) else { return Ok(false) };
        let carried = self.carrying.is_some() && !starts;
        let is_next = header.identity == self.identity
            && header.generation == candidate.generation
            && header.lsn == self.next_lsn
            && self.previous.is_none_or(|previous| header.previous == previous)
            && carried == (header.kind == Kind::Carried)
            && header.end() <= start.segment_bytes;
        if !is_next {
            return Ok(false);
        }
        let bytes = HEADER_BYTES + header.payload_bytes as usize;
        let Some(frame) = reader.span(offset, bytes).await? else { return Ok(false) };
        let payload = frame.slice(HEADER_BYTES..);
        if !header.payload_is_whole(&payload) {
            return Ok(false);
        }
        if starts {
            self.carrying = None;
        } else {
            self.end.1 = header.end();
        }
        self.accept(&header, checksum, payload).await?;
        Ok(true)
    }

    /// Takes the next frame of the log.
    async fn accept(
        &mut self,
        header: &Header,
        checksum: u32,
        payload: Bytes,
    ) -> Result<(), LogError> {
        let payload = if header.commits > 0 { payload } else { Bytes::new() };
        let bodies = Vec::new();
        let frame = Carried { lsn: header.lsn, commits: header.commits, payload, bodies };
        let place = (header.generation, header.offset + HEADER_BYTES as u64);
        let bodies = references(&frame).map(|reference| u64::from(reference.length));
        let (count, body_bytes) =
            bodies.fold((0, 0), |(count, sum), bytes| (count + 1, sum + bytes));
        let bytes = frame.frame_bytes() as u64 + body_bytes;
        self.recent_bytes += bytes;
        let (previous, has_bodies) = (header.previous, count > 0);
        self.recent.push_back(Recent { frame, previous, place, bytes, has_bodies });
        self.frames += 1;
        self.next_lsn += 1;
        self.previous = Some(checksum);
        self.watermark = self.watermark.max(header.watermark);
        while self.keeps_too_much() && self.replay_before(self.watermark).await? {}
        Ok(())
    }

    /// Whether the oldest frame that was not replayed cannot be among whole segments that are carried
    /// over: there are too many behind it, or its segment was not kept from the beginning on. What
    /// is kept holds on to the windows it was read into.
    fn keeps_too_much(&self) -> bool {
        let begins_late = self.recent.front().is_some_and(|oldest| oldest.frame.lsn > self.whole);
        begins_late || self.recent_bytes > self.carried_bytes
    }

    /// Replays the oldest recent frame if it is below `bound`, or has its bodies read until it can
    /// be replayed.
    async fn replay_before(&mut self, bound: u64) -> Result<bool, LogError> {
        if self.recent.front().is_none_or(|recent| recent.frame.lsn >= bound) {
            return Ok(false);
        }
        let Some(recent) = self.take_recent() else { return Ok(false) };
        if recent.frame.lsn < self.trim {
            return Ok(true);
        }
        if recent.has_bodies {
            self.note_references(&recent.frame);
        }
        if self.damaged.is_some() {
            return Ok(true);
        }
        if recent.has_bodies {
            self.ahead.expect(references(&recent.frame)).await;
        }
        self.leaving_bytes += recent.frame.frame_bytes();
        self.leaving.push_back(recent);
        // A frame that refers to nothing waits only for those before it.
        while let Some(first) = self.leaving.front()
            && (!first.has_bodies || self.ahead.is_full() || self.leaving_bytes > LEAVING_BYTES)
        {
            self.replay_first().await?;
        }
        Ok(true)
    }

    /// Replays all that left.
    async fn replay_leaving(&mut self) -> Result<(), LogError> {
        while !self.leaving.is_empty() {
            self.replay_first().await?;
        }
        Ok(())
    }

    /// Replays the first of those that left.
    async fn replay_first(&mut self) -> Result<(), LogError> {
        let Some(Recent { frame, place, .. }) = self.leaving.pop_front() else { return Ok(()) };
        self.leaving_bytes -= frame.frame_bytes();
        self.commits += u64::from(frame.commits);
        let replayed = replay_frame(&frame, place, &mut self.ahead, &mut self.replay).await;
        self.keep_damage(frame.lsn, replayed)
    }

    fn note_references(&mut self, frame: &Carried) {
        for reference in references(frame) {
            self.references.insert(reference.generation, frame.lsn);
        }
    }

    fn keep_damage(&mut self, lsn: u64, replayed: Result<u64, LogError>) -> Result<(), LogError> {
        match replayed {
            Ok(bytes) => self.bytes += bytes,
            Err(error @ LogError::Corrupt { .. }) => {
                self.damaged = Some((lsn, error));
                self.forget_leaving();
            }
            Err(error) => {
                self.forget_leaving();
                return Err(error);
            }
        }
        Ok(())
    }

    fn forget_leaving(&mut self) {
        self.ahead = Bodies::new(Rc::clone(&self.bodies));
        self.leaving.clear();
        self.leaving_bytes = 0;
    }

    /// Reads the bodies of the frames that are carried over, while nothing was changed. Their frames
    /// are few: what is carried over is bounded together with its bodies, but for frames that were
    /// in flight, whose bodies a writer had in memory as well.
    pub(super) async fn read_carried(&mut self) -> Result<(), LogError> {
        assert!(self.leaving.is_empty(), "all that is not carried over was replayed");
        if self.damaged.is_some() {
            return Ok(());
        }
        let mut recent = std::mem::take(&mut self.recent);
        for Recent { frame, .. } in &recent {
            self.note_references(frame);
            self.ahead.expect(references(frame)).await;
        }
        for Recent { frame, place, .. } in &mut recent {
            if self.damaged.is_some() {
                break;
            }
            let mut bodies = Vec::new();
            let mut keep = |recovered: Recovered| {
                bodies.extend(recovered.is_body.then_some(recovered.bytes));
                Ok(())
            };
            let read = replay_frame(frame, *place, &mut self.ahead, &mut keep).await;
            frame.bodies = bodies;
            self.keep_damage(frame.lsn, read.map(|_| 0))?;
        }
        self.recent = recent;
        Ok(())
    }

    /// Replays all that was not replayed yet: when nothing is going to be carried over.
    pub(crate) async fn replay_rest(&mut self) -> Result<(), LogError> {
        while self.replay_before(u64::MAX).await? {}
        self.replay_leaving().await
    }

    /// Decides where carrying over begins, and replays everything in front of that. `firsts` are
    /// the first numbers of the segments walked.
    pub(super) async fn finish(
        &mut self,
        watermark: u64,
        firsts: impl Iterator<Item = u64>,
    ) -> Result<(), LogError> {
        self.watermark = self.watermark.max(watermark);
        let oldest = self.first_carried();
        // As many whole segments as fit, or else only what must be.
        let whole = firsts.map(|first| first.max(self.trim)).find(|&first| first >= oldest);
        let bound = whole.map_or(self.watermark, |first| first.min(self.watermark));
        while self.replay_before(bound).await? {}
        self.replay_leaving().await
    }
}

/// The bodies that a frame refers to, in order.
pub(crate) fn references(frame: &Carried) -> impl Iterator<Item = Reference> + '_ {
    Commits::new(&frame.payload).filter_map(|stored| match stored {
        Stored::Here(_) => None,
        Stored::Elsewhere(reference) => Some(reference),
    })
}

/// Replays the commits of a frame whose payload stands at `place`, segment and offset. Returns their
/// bytes. The bodies that it refers to are the next of those that are expected; [`LogError::Corrupt`]
/// if one is not there.
pub(crate) async fn replay_frame<F: File>(
    frame: &Carried,
    place: (u64, u64),
    bodies: &mut Bodies<F>,
    replay: &mut impl FnMut(Recovered) -> Result<(), String>,
) -> Result<u64, LogError> {
    let mut replayed = 0;
    for stored in Commits::new(&frame.payload) {
        let body = match stored {
            Stored::Here(_) => Bytes::new(),
            Stored::Elsewhere(_) => bodies.next().await?.map_err(|evidence| {
                let lsn = Lsn::new(frame.lsn);
                LogError::Corrupt {
                    segment: place.0,
                    offset: place.1 - HEADER_BYTES as u64,
                    first_lost: lsn,
                    lost_below: lsn.next(),
                    evidence,
                }
            })?,
        };
        replayed += replay_commit(frame, place, stored, body, replay)?;
    }
    Ok(replayed)
}

/// As [`replay_frame`], of a frame whose bodies were read. Reads nothing.
pub(crate) fn replay_carried(
    frame: &Carried,
    place: (u64, u64),
    replay: &mut impl FnMut(Recovered) -> Result<(), String>,
) -> Result<u64, LogError> {
    assert_eq!(frame.bodies.len(), references(frame).count(), "its bodies were read");
    let mut bodies = frame.bodies.iter().cloned();
    let mut replayed = 0;
    for stored in Commits::new(&frame.payload) {
        let body = match stored {
            Stored::Here(_) => None,
            Stored::Elsewhere(_) => bodies.next(),
        };
        replayed += replay_commit(frame, place, stored, body.unwrap_or_default(), replay)?;
    }
    Ok(replayed)
}

/// Replays one commit, whose body is `body` if it has one. Returns its bytes.
fn replay_commit(
    frame: &Carried,
    (segment, offset): (u64, u64),
    stored: Stored,
    body: Bytes,
    replay: &mut impl FnMut(Recovered) -> Result<(), String>,
) -> Result<u64, LogError> {
    let lsn = Lsn::new(frame.lsn);
    let (location, is_body, bytes) = match stored {
        Stored::Here(range) => {
            let location = Location {
                segment,
                offset: offset + range.start as u64,
                length: u32::try_from(range.len()).unwrap_or(u32::MAX),
            };
            (location, false, frame.payload.slice(range))
        }
        Stored::Elsewhere(reference) => (reference.location(), true, body),
    };
    replay(Recovered { lsn, location, is_body, bytes })
        .map_err(|reason| LogError::Replay { lsn, reason })?;
    Ok(u64::from(location.length))
}
