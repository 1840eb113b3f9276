//! Steps 6 to 10: whether anything that was acknowledged is missing.

use woodchuck_io::File;
use woodchuck_io::limits::BLOCK_BYTES;

use super::newest::Newest;
use super::walk::Walk;
use super::{BLOCK, Candidate};
use crate::Lsn;
use crate::error::LogError;
use crate::format::{Header, Kind, Start};
use crate::limits::{SEGMENT_BLOCKS_MIN, UNREADABLE_BLOCKS_MAX, UNREADABLE_BLOCKS_MIN};
use crate::reader::Reader;

/// What stands behind the end of the log.
#[derive(Default)]
pub(crate) struct Tail {
    /// The greatest watermark, and where it stands.
    pub(crate) watermark: u64,
    at: (u64, u64),
    /// Frames that are not part of the log and never were acknowledged, and their bytes.
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    /// A frame that follows a damaged start frame (step 6).
    orphan: Option<(u64, u64, u64)>,
    /// A segment that cannot be read, from where, and how many of its blocks (step 9).
    unreadable: Option<(u64, u64, u64)>,
}

/// Step 6: looks at everything behind the end.
pub(super) async fn look_behind<F: File, R>(
    candidates: &mut [Candidate<F>],
    identity: Option<u128>,
    walk: &Walk<F, R>,
    newest: Option<&Newest>,
) -> Result<Tail, LogError> {
    let mut tail = Tail::default();
    let (end_index, end_offset) = walk.end;
    for (index, candidate) in candidates.iter_mut().enumerate() {
        // Start frames of older segments say the truth too.
        if let Some((header, _)) = candidate.start {
            tail.see_watermark(&header, candidate.generation);
        }
        if index >= end_index {
            let from = if index == end_index { end_offset } else { 0 };
            let is_later = index > end_index || walk.previous.is_none();
            let mut look = Look {
                identity,
                from,
                is_later,
                next_lsn: walk.next_lsn,
                own_frames: 0,
                tail: &mut tail,
            };
            match newest.and_then(|newest| newest.headers(index, from)) {
                Some(headers) => look.at_headers(candidate, headers).await?,
                None => look.at_blocks(candidate).await?,
            }
            let own_frames = look.own_frames;
            candidate.unused = is_later && own_frames == 0 && candidate.unreadable.count() == 0;
        }
    }
    Ok(tail)
}

/// A look at what stands in a segment from an offset on.
struct Look<'a> {
    identity: Option<u128>,
    from: u64,
    /// Whether the segment is one behind that in which the log ends.
    is_later: bool,
    /// The number of the frame that is missing.
    next_lsn: u64,
    /// Frames of the segment's generation.
    own_frames: u64,
    tail: &'a mut Tail,
}

impl Look<'_> {
    /// Reads all that is there.
    async fn at_blocks<F: File>(&mut self, candidate: &mut Candidate<F>) -> Result<(), LogError> {
        let mut reader = candidate.reader();
        let mut offset = self.from;
        while let Some(block) = reader.span(offset, BLOCK_BYTES).await? {
            self.at_block(candidate, offset, &block);
            offset += BLOCK;
        }
        let unreadable = reader.unreadable().count();
        let all = unreadable == (offset - self.from) / BLOCK;
        if unreadable >= UNREADABLE_BLOCKS_MIN && all || unreadable > UNREADABLE_BLOCKS_MAX {
            self.tail.unreadable.get_or_insert((candidate.generation, self.from, unreadable));
        }
        candidate.unreadable.insert_all(reader.unreadable());
        Ok(())
    }

    /// Reads the first block, which may hold part of a header, and takes the rest from `headers`: all
    /// that there are behind it, in order.
    async fn at_headers<F: File>(
        &mut self,
        candidate: &mut Candidate<F>,
        headers: impl Iterator<Item = &Header>,
    ) -> Result<(), LogError> {
        let from = self.from;
        let mut reader = Reader::new(candidate.first(candidate.length.min(from + BLOCK)));
        if let Some(block) = reader.span(from, BLOCK_BYTES).await? {
            self.at_block(candidate, from, &block);
        }
        candidate.unreadable.insert_all(reader.unreadable());
        for header in headers {
            self.at_header(candidate, header);
        }
        Ok(())
    }

    fn at_block<F>(&mut self, candidate: &Candidate<F>, offset: u64, block: &[u8]) {
        if let Some((header, _)) = Header::decode(block, offset)
            && self.identity.is_none_or(|identity| header.identity == identity)
        {
            self.at_header(candidate, &header);
        } else if offset == self.from
            && Header::looks_torn(block, self.identity.unwrap_or_default(), candidate.generation)
        {
            self.own_frames += 1;
            self.tail.frames += 1;
            self.tail.bytes += BLOCK;
        }
    }

    fn at_header<F>(&mut self, candidate: &Candidate<F>, header: &Header) {
        self.tail.see_watermark(header, candidate.generation);
        let is_own = header.generation == candidate.generation;
        self.own_frames += u64::from(is_own);
        let is_copy = header.kind == Kind::Carried;
        if is_own && !is_copy && header.lsn < candidate.superseded_from {
            self.tail.frames += 1;
            self.tail.bytes += header.frame_bytes();
            if self.is_later && header.kind != Kind::Start && header.lsn <= self.next_lsn {
                self.tail.orphan = Some((candidate.generation, header.offset, header.lsn));
            }
        }
    }
}

impl Tail {
    fn see_watermark(&mut self, header: &Header, segment: u64) {
        if header.watermark > self.watermark {
            self.watermark = header.watermark;
            self.at = (segment, header.offset);
        }
    }
}

/// Steps 6, 8, 9 and 10.
pub(super) fn check_tail<F, R>(
    candidates: &[Candidate<F>],
    walk: &Walk<F, R>,
    tail: &Tail,
) -> Result<(), LogError> {
    let (index, offset) = walk.end;
    let Some(candidate) = candidates.get(index) else { return Ok(()) };
    let corrupt = |lost_below: u64, evidence: String| {
        Err(LogError::Corrupt {
            segment: candidate.generation,
            offset,
            first_lost: Lsn::new(walk.next_lsn),
            lost_below: Lsn::new(lost_below.max(walk.next_lsn + 1)),
            evidence,
        })
    };
    if tail.watermark > walk.next_lsn {
        let (segment, offset) = tail.at;
        return corrupt(
            tail.watermark,
            format!(
                "the frame in segment {segment:016x} at offset {offset} was built after they \
                 were durable"
            ),
        );
    }
    if let Some((start, segment)) = walk.carrying {
        return corrupt(
            start,
            format!("segment {segment:016x} was begun with durable copies of them"),
        );
    }
    if let Some((segment, offset, lsn)) = tail.orphan {
        return corrupt(
            lsn,
            format!(
                "segment {segment:016x} continues the log with frame {lsn} at offset {offset}, but \
                 its first frame cannot be read"
            ),
        );
    }
    let smallest = SEGMENT_BLOCKS_MIN * BLOCK;
    let short = candidates[index..].iter().find_map(|later| {
        let bytes = later.start.map_or(smallest, |(_, start)| start.segment_bytes);
        (later.length < bytes).then_some((later.generation, later.length, bytes))
    });
    if let Some((segment, length, bytes)) = short {
        return corrupt(
            walk.next_lsn + 1,
            format!("segment {segment:016x} has {length} bytes, and had at least {bytes}"),
        );
    }
    if let Some((segment, from, blocks)) = tail.unreadable {
        return corrupt(
            walk.next_lsn + 1,
            format!(
                "the disk cannot read {blocks} blocks of segment {segment:016x} from offset \
                 {from} on, more than a crash leaves unreadable. If the disk can be brought to \
                 read them, nothing is lost"
            ),
        );
    }
    Ok(())
}

/// Step 7.
pub(super) fn check_front<F, R>(
    candidates: &[Candidate<F>],
    live: &[(usize, u64)],
    walk: &Walk<F, R>,
) -> Result<(), LogError> {
    let Some(&(index, _)) = live.first() else { return Ok(()) };
    let candidate = &candidates[index];
    let Some((_, Start { first_lsn, .. })) = candidate.start else { return Ok(()) };
    if first_lsn <= walk.trim {
        return Ok(());
    }
    Err(LogError::Corrupt {
        segment: candidate.generation,
        offset: 0,
        first_lost: Lsn::new(walk.trim),
        lost_below: Lsn::new(first_lsn),
        evidence: format!(
            "the oldest readable segment begins with frame {first_lsn}, and frames from {} on \
             were not trimmed",
            walk.trim
        ),
    })
}
