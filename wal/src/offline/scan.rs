//! Every frame in the segments of a log, and every place where one should be and is not.
//!
//! Unlike the walk of recovery, this goes on behind damage: it looks at block after block for the
//! next header of the segment. What it finds there is shown, and proves nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use woodchuck_io::limits::BLOCK_BYTES;
use woodchuck_io::{Disk, File};

use super::{Examination, OfflineLog, Role, SegmentFacts};
use crate::error::LogError;
use crate::format::{Commits, HEADER_BYTES, Header, Kind, Stored};
use crate::limits::SCAN_LINKS;
use crate::recovery::Candidate;
use crate::{Location, Lsn, Recovered};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// What a scan finds, in the order of the segments and of the places in them.
#[derive(Clone, Debug)]
pub enum Found {
    /// A segment begins.
    Segment(SegmentFacts),
    /// A frame, with its commits if it is whole.
    Frame(FrameFacts, Vec<Recovered>),
    /// A place where something is wrong.
    Damage(Damage),
    /// The segment ends.
    End(SegmentTotals),
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// First in its segment.
    Start,
    /// A group of commits.
    Data,
    /// Carries a watermark and a trim point.
    Witness,
    /// A copy of an older segment's frame, made by recovery.
    Carried,
}

impl FrameKind {
    /// One word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Data => "data",
            Self::Witness => "witness",
            Self::Carried => "carried",
        }
    }
}

/// A frame whose header can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameFacts {
    /// Generation of its segment.
    pub segment: u64,
    /// Where it begins in the segment.
    pub offset: u64,
    /// Bytes up to the next frame: header, payload and padding.
    pub bytes: u64,
    /// Its number.
    pub lsn: Lsn,
    /// What it is for.
    pub kind: FrameKind,
    /// How many commits it says it has.
    pub commits: u32,
    /// Bytes of its payload.
    pub payload_bytes: u32,
    /// Every frame below it was durable when this one was built.
    pub watermark: Lsn,
    /// No frame below it is needed.
    pub trim: Lsn,
    /// Whether the payload has its checksum and divides into its commits.
    pub is_whole: bool,
    /// Whether it bears the checksum of the frame before it; `None` if that one is not there.
    pub follows: Option<bool>,
}

/// What a scan counted in a segment: frames of its own that can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentTotals {
    /// Generation of the segment.
    pub segment: u64,
    /// Frames.
    pub frames: u64,
    /// Commits of those that are whole.
    pub commits: u64,
    /// Number of the first and of the last frame, by their places; `None` if there is none.
    pub lsns: Option<(Lsn, Lsn)>,
    /// Bytes up to the end of the last.
    pub used_bytes: u64,
    /// Places where something is wrong.
    pub damages: u64,
    /// Blocks that the disk cannot read.
    pub unreadable_blocks: u64,
}

/// A place where something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Generation of the segment.
    pub segment: u64,
    /// From where in the segment.
    pub offset: u64,
    /// Up to where; at least `offset`.
    pub end: u64,
    /// The frame that should be there, if that is known.
    pub lsn: Option<Lsn>,
    /// What is wrong.
    pub what: String,
    /// What it means.
    pub harm: Harm,
}

/// What damage means to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// What was acknowledged is lost or in doubt: opening refuses.
    Acknowledged,
    /// It stands behind the log's end, and was never acknowledged.
    Unacknowledged,
    /// What stood there is not needed any more.
    Unneeded,
}

impl Harm {
    /// One word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::Unacknowledged => "unacknowledged",
            Self::Unneeded => "unneeded",
        }
    }
}

impl<D: Disk> OfflineLog<D> {
    /// Tells `found` of every segment, of every frame in it and of every place where something is
    /// wrong. The log may be damaged in any way.
    ///
    /// # Errors
    /// [`LogError::Io`] for what says nothing about the data.
    pub async fn scan(
        &self,
        examination: &Examination<D::File>,
        mut found: impl FnMut(Found),
    ) -> Result<(), LogError> {
        let mut links = Links::default();
        for (candidate, facts) in examination.candidates.iter().zip(&examination.segments) {
            let mut scan = Scan {
                examination,
                facts: *facts,
                totals: SegmentTotals { segment: facts.generation, ..SegmentTotals::default() },
                links: &mut links,
                start: None,
                found: &mut found,
            };
            scan.segment(candidate).await?;
        }
        Ok(())
    }
}

/// The checksums of the latest frames, by number.
#[derive(Default)]
struct Links {
    checksums: BTreeMap<u64, u32>,
}

impl Links {
    /// Whether a frame bears the checksum of the one before it, if that is known.
    fn follows(&self, header: &Header) -> Option<bool> {
        self.checksums.get(&(header.lsn - 1)).map(|&before| before == header.previous)
    }

    fn insert(&mut self, lsn: u64, checksum: u32) {
        self.checksums.insert(lsn, checksum);
        if self.checksums.len() > SCAN_LINKS {
            self.checksums.pop_first();
        }
    }
}

/// A segment that is being scanned.
struct Scan<'a, F, S> {
    examination: &'a Examination<F>,
    facts: SegmentFacts,
    totals: SegmentTotals,
    links: &'a mut Links,
    /// The start frame, if frames with lower numbers stand behind it.
    start: Option<Header>,
    found: &'a mut S,
}

impl<F: File, S: FnMut(Found)> Scan<'_, F, S> {
    async fn segment(&mut self, candidate: &Candidate<F>) -> Result<(), LogError> {
        (self.found)(Found::Segment(self.facts));
        self.links
            .checksums
            .retain(|&lsn, _| self.facts.first_lsn.is_none_or(|first_lsn| lsn < first_lsn.get()));
        self.front();
        let mut reader = candidate.reader();
        let mut offset = 0;
        // Blocks from `frame_end` on belong to no frame; `gap` is where such a stretch began.
        let (mut frame_end, mut gap) = (0, None);
        let mut next_lsn = self.facts.first_lsn.map(Lsn::get);
        while let Some(block) = reader.span(offset, BLOCK_BYTES).await? {
            let decoded = Header::decode(&block, offset);
            let Some((header, checksum)) = decoded.filter(|(header, _)| self.is_own(header)) else {
                if offset >= frame_end {
                    gap.get_or_insert(offset);
                }
                offset += BLOCK;
                continue;
            };
            if let Some(from) = gap.take() {
                self.damage(from, offset, next_lsn, "no frame stands here, but one behind it");
            }
            let bytes = HEADER_BYTES + header.payload_bytes as usize;
            let payload = reader.span(offset, bytes).await?;
            let payload = payload.map(|frame| frame.slice(HEADER_BYTES..));
            let payload = payload.filter(|payload| header.payload_is_whole(payload));
            let is_whole = payload.is_some();
            next_lsn = self.frame(&header, checksum, payload, next_lsn).await?;
            frame_end = header.end();
            offset = if is_whole { header.end() } else { offset + BLOCK };
        }
        if let Some(length) = self.facts.segment_bytes.filter(|&whole| whole > candidate.length) {
            let what = format!("the file ends here, and was made with {length} bytes");
            self.damage(candidate.length, length, next_lsn, &what);
        }
        self.refusal();
        self.totals.unreadable_blocks = reader.unreadable().count();
        (self.found)(Found::End(self.totals));
        Ok(())
    }

    /// Tells of frames that are missing between the segments before and this one.
    fn front(&mut self) {
        let last = self.links.checksums.last_key_value().map(|(&last, _)| last);
        if let (Some(last), Some(first)) = (last, self.facts.first_lsn)
            && last + 1 < first.get()
        {
            let what =
                format!("the segment begins with frame {first}, no segment has those before");
            self.damage(0, 0, Some(last + 1), &what);
        }
    }

    fn is_own(&self, header: &Header) -> bool {
        header.generation == self.facts.generation
            && self.examination.identity.is_none_or(|identity| identity == header.identity)
    }

    /// Takes a frame, and returns the number that should follow.
    async fn frame(
        &mut self,
        header: &Header,
        checksum: u32,
        payload: Option<Bytes>,
        next_lsn: Option<u64>,
    ) -> Result<Option<u64>, LogError> {
        let first_lsn = self.facts.first_lsn.map(Lsn::get);
        let carries = header.kind == Kind::Start && first_lsn.is_some_and(|n| n < header.lsn);
        let mut expected = next_lsn;
        if header.kind != Kind::Carried
            && let Some(start) = self.start.take()
        {
            // The last of the carried frames has been seen: the start frame comes behind it.
            if expected != Some(start.lsn) || self.links.follows(&start) == Some(false) {
                let what = "the start frame does not follow the frames that were carried over";
                self.damage(0, BLOCK, Some(start.lsn), what);
            }
            expected = Some(start.lsn + 1);
        }
        let follows = if carries { None } else { self.links.follows(header) };
        self.totals.frames += 1;
        let lsn = Lsn::new(header.lsn);
        let first = self.totals.lsns.map_or(lsn, |(first, _)| first);
        self.totals.lsns = Some((first, lsn));
        self.totals.used_bytes = self.totals.used_bytes.max(header.end());
        let facts = FrameFacts {
            segment: header.generation,
            offset: header.offset,
            bytes: header.frame_bytes(),
            lsn,
            kind: match header.kind {
                Kind::Start => FrameKind::Start,
                Kind::Data => FrameKind::Data,
                Kind::Witness => FrameKind::Witness,
                Kind::Carried => FrameKind::Carried,
            },
            commits: header.commits,
            payload_bytes: header.payload_bytes,
            watermark: Lsn::new(header.watermark),
            trim: Lsn::new(header.trim),
            is_whole: payload.is_some(),
            follows,
        };
        let (commits, lost) = match payload {
            Some(payload) if header.commits > 0 => self.commits(header, payload).await?,
            _ => (Vec::new(), Vec::new()),
        };
        self.totals.commits += commits.len() as u64;
        (self.found)(Found::Frame(facts, commits));
        let (from, end) = (header.offset, header.end());
        for what in lost {
            self.damage(from, end, Some(header.lsn), &what);
        }
        if !facts.is_whole {
            self.damage(from, end, Some(header.lsn), "the frame's payload is not what was written");
        }
        if follows == Some(false) {
            let what = "the frame does not bear the checksum of the one before it";
            self.damage(from, end, Some(header.lsn), what);
        }
        if !carries && let Some(expected) = expected.filter(|&expected| expected != header.lsn) {
            let what = format!("frame {} stands here", header.lsn);
            self.damage(from, from, Some(expected), &what);
        }
        self.links.insert(header.lsn, checksum);
        if carries {
            self.start = Some(*header);
            return Ok(first_lsn);
        }
        Ok(Some(header.lsn + 1))
    }

    /// The commits of a frame, and what is wrong with those whose bodies are not there. Of frames
    /// that are not needed, bodies may be gone.
    async fn commits(
        &self,
        header: &Header,
        payload: Bytes,
    ) -> Result<(Vec<Recovered>, Vec<String>), LogError> {
        let lsn = Lsn::new(header.lsn);
        let (mut commits, mut lost) = (Vec::new(), Vec::new());
        for stored in Commits::new(&payload) {
            let (location, is_body, bytes) = match stored {
                Stored::Here(range) => {
                    let location = Location {
                        segment: header.generation,
                        offset: header.offset + (HEADER_BYTES + range.start) as u64,
                        length: u32::try_from(range.len()).unwrap_or(u32::MAX),
                    };
                    (location, false, payload.slice(range))
                }
                Stored::Elsewhere(reference) => {
                    match self.examination.bodies.read(&reference).await? {
                        Ok(body) => (reference.location(), true, body),
                        Err(evidence) => {
                            if self.harm(header.offset, Some(header.lsn)) != Harm::Unneeded {
                                lost.push(evidence);
                            }
                            continue;
                        }
                    }
                }
            };
            commits.push(Recovered { lsn, location, is_body, bytes });
        }
        Ok((commits, lost))
    }

    /// Tells where opening refuses, if that is in this segment, and what shows it.
    fn refusal(&mut self) {
        let Err(LogError::Corrupt { segment, offset, first_lost, evidence, .. }) =
            &self.examination.verdict
        else {
            return;
        };
        if *segment == self.facts.generation {
            self.totals.damages += 1;
            (self.found)(Found::Damage(Damage {
                segment: *segment,
                offset: *offset,
                end: *offset,
                lsn: Some(*first_lost),
                what: format!("the log ends here, and should not: {evidence}"),
                harm: Harm::Acknowledged,
            }));
        }
    }

    fn damage(&mut self, offset: u64, end: u64, lsn: Option<u64>, what: &str) {
        self.totals.damages += 1;
        let harm = self.harm(offset, lsn);
        let lsn = lsn.map(Lsn::new);
        let segment = self.facts.generation;
        (self.found)(Found::Damage(Damage {
            segment,
            offset,
            end,
            lsn,
            what: what.to_owned(),
            harm,
        }));
    }

    fn harm(&self, offset: u64, lsn: Option<u64>) -> Harm {
        let examination = self.examination;
        let is_behind = (self.facts.generation, offset) >= examination.end;
        match self.facts.role {
            Role::Trimmed | Role::Superseded => Harm::Unneeded,
            _ if lsn.is_some_and(|lsn| lsn < examination.trim.get()) => Harm::Unneeded,
            _ if examination.verdict.is_ok() && is_behind => Harm::Unacknowledged,
            _ if examination.verdict.is_ok() => Harm::Unneeded,
            _ if lsn.is_some_and(|lsn| lsn >= examination.durable_below.get()) => {
                Harm::Unacknowledged
            }
            _ => Harm::Acknowledged,
        }
    }
}
