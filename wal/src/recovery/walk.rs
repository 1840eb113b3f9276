//! Step 5: the frames of the log, one after the other.

use std::collections::VecDeque;

use bytes::Bytes;
use woodchuck_io::File;
use woodchuck_io::limits::BLOCK_BYTES;

use super::{BLOCK, Candidate};
use crate::error::LogError;
use crate::format::{Commits, HEADER_BYTES, Header, Kind};
use crate::reader::Reader;
use crate::writer::Carried;
use crate::{Location, Lsn, Recovered};

/// Where the walk is.
pub(crate) struct Walk<R> {
    pub(crate) identity: u128,
    /// The number that comes next.
    pub(crate) next_lsn: u64,
    /// Checksum of the frame before; `None` in front of the first.
    pub(crate) previous: Option<u32>,
    /// Every frame below it is known durable.
    pub(crate) watermark: u64,
    /// The latest frames, which were not replayed yet: at least those from `watermark` on.
    pub(crate) recent: VecDeque<Recent>,
    /// What their copies would take.
    pub(crate) recent_bytes: u64,
    /// What the copies of frames below `watermark` may take.
    pub(crate) carried_bytes: u64,
    /// The trim point. Commits of older frames are not replayed.
    pub(crate) trim: u64,
    /// The place where the next frame would be: index of the segment, and offset.
    pub(crate) end: (usize, u64),
    /// The start frame whose carried frames are being walked: its number and generation.
    pub(crate) carrying: Option<(u64, u64)>,
    pub(crate) frames: u64,
    pub(crate) commits: u64,
    pub(crate) bytes: u64,
    pub(crate) replay: R,
}

/// A frame that may have to be carried over.
pub(crate) struct Recent {
    pub(crate) frame: Carried,
    /// Checksum of the frame before.
    pub(super) previous: u32,
    /// Segment and offset of the payload.
    pub(crate) place: (u64, u64),
}

impl<R> Walk<R> {
    /// Takes away the oldest frame that was not replayed.
    pub(crate) fn take_recent(&mut self) -> Option<Recent> {
        let recent = self.recent.pop_front()?;
        self.recent_bytes -= recent.frame.frame_bytes() as u64;
        Some(recent)
    }

    /// The number of the oldest frame that was not replayed.
    pub(super) fn first_carried(&self) -> u64 {
        self.next_lsn - self.recent.len() as u64
    }
}

/// Step 5.
impl<R: FnMut(Recovered) -> Result<(), String>> Walk<R> {
    /// In front of the first frame of a log.
    pub(crate) fn new(identity: Option<u128>, trim: u64, carried_bytes: u64, replay: R) -> Self {
        Self {
            identity: identity.unwrap_or_default(),
            next_lsn: 1,
            previous: None,
            watermark: 1,
            recent: VecDeque::new(),
            recent_bytes: 0,
            carried_bytes,
            trim,
            end: (0, 0),
            carrying: None,
            frames: 0,
            commits: 0,
            bytes: 0,
            replay,
        }
    }

    /// Returns the segments that hold frames of the log, with the bytes used in each.
    pub(super) async fn all<F: File>(
        &mut self,
        candidates: &mut [Candidate<F>],
        needed: &[usize],
    ) -> Result<Vec<(usize, u64)>, LogError> {
        let mut live: Vec<(usize, u64)> = Vec::new();
        for &index in needed {
            let candidate = &mut candidates[index];
            if !self.enter(index, candidate) {
                break;
            }
            let mut reader = candidate.reader();
            while self.step(&mut reader, candidate).await? {}
            candidate.unreadable += reader.unreadable();
            live.push((index, self.end.1));
            if self.is_stuck() {
                break;
            }
        }
        Ok(live)
    }

    /// Goes over to a segment that has a start frame. Returns whether it continues the log.
    pub(crate) fn enter<F>(&mut self, index: usize, candidate: &Candidate<F>) -> bool {
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
        true
    }

    /// Whether the segment that was left lacks what the next one would have to follow: the first
    /// frame that was asked for may be missing, or one that its start frame speaks of.
    pub(crate) const fn is_stuck(&self) -> bool {
        self.carrying.is_some() || self.previous.is_none()
    }

    /// Takes the next frame of the log, if the segment has it.
    pub(crate) async fn step<F: File>(
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
        self.accept(&header, checksum, payload)?;
        Ok(true)
    }

    /// Takes the next frame of the log.
    fn accept(&mut self, header: &Header, checksum: u32, payload: Bytes) -> Result<(), LogError> {
        let payload = if header.commits > 0 { payload } else { Bytes::new() };
        let frame = Carried { lsn: header.lsn, commits: header.commits, payload };
        let place = (header.generation, header.offset + HEADER_BYTES as u64);
        self.recent_bytes += frame.frame_bytes() as u64;
        self.recent.push_back(Recent { frame, previous: header.previous, place });
        self.frames += 1;
        self.next_lsn += 1;
        self.previous = Some(checksum);
        self.watermark = self.watermark.max(header.watermark);
        while self.recent_bytes > self.carried_bytes && self.replay_before(self.watermark)? {}
        Ok(())
    }

    /// Replays the oldest frame that was not, if it is below `bound`.
    fn replay_before(&mut self, bound: u64) -> Result<bool, LogError> {
        if self.recent.front().is_none_or(|recent| recent.frame.lsn >= bound) {
            return Ok(false);
        }
        let Some(recent) = self.take_recent() else { return Ok(false) };
        if recent.frame.lsn >= self.trim {
            let (segment, offset) = recent.place;
            self.commits += u64::from(recent.frame.commits);
            self.bytes += replay_frame(&recent.frame, segment, offset, &mut self.replay)?;
        }
        Ok(true)
    }

    /// Replays all that was not replayed yet: when nothing is going to be carried over.
    pub(crate) fn replay_rest(&mut self) -> Result<(), LogError> {
        while self.replay_before(u64::MAX)? {}
        Ok(())
    }

    /// Decides where carrying over begins, and replays everything in front of that. `firsts` are
    /// the first numbers of the segments walked.
    pub(super) fn finish(
        &mut self,
        watermark: u64,
        firsts: impl Iterator<Item = u64>,
    ) -> Result<(), LogError> {
        self.watermark = self.watermark.max(watermark);
        let oldest = self.first_carried();
        // As many whole segments as fit, or else only what must be.
        let whole = firsts.map(|first| first.max(self.trim)).find(|&first| first >= oldest);
        let bound = whole.map_or(self.watermark, |first| first.min(self.watermark));
        while self.replay_before(bound)? {}
        Ok(())
    }
}

/// Replays the commits of a frame whose payload stands at `offset` of `segment`. Returns their
/// bytes.
pub(crate) fn replay_frame(
    frame: &Carried,
    segment: u64,
    offset: u64,
    replay: &mut impl FnMut(Recovered) -> Result<(), String>,
) -> Result<u64, LogError> {
    let lsn = Lsn::new(frame.lsn);
    let mut bytes = 0;
    for range in Commits::new(&frame.payload) {
        let location = Location {
            segment,
            offset: offset + range.start as u64,
            length: u32::try_from(range.len()).unwrap_or(u32::MAX),
        };
        bytes += range.len() as u64;
        replay(Recovered { lsn, location, bytes: frame.payload.slice(range) })
            .map_err(|reason| LogError::Replay { lsn, reason })?;
    }
    Ok(bytes)
}
