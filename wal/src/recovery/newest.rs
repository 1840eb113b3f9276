//! Step 4 of recovery: the newest segment, which holds the newest trim point.
//!
//! All of it must be read before the walk begins, since the trim point decides what is walked and
//! replayed, and since any header in it may be the only one that can be read. Usually the log ends
//! in it, so that the same headers are wanted once more by the look behind the end (step 6). They
//! are remembered for that, as far as a bound allows. What is remembered is used only if no block
//! from the end on was unreadable: a disk that reads a block at the second try is asked once more.

use std::collections::VecDeque;

use woodchuck_io::File;
use woodchuck_io::limits::BLOCK_BYTES;

use super::{BLOCK, Candidate};
use crate::error::LogError;
use crate::format::Header;
use crate::limits::HEADERS_REMEMBERED;

/// What the newest segment with a start frame holds.
pub(crate) struct Newest {
    /// The segment.
    pub(super) index: usize,
    /// The greatest trim point in a header of its generation.
    pub(super) trim: u64,
    /// The headers of this log, of whatever generation, by their places: all those at or behind
    /// `complete_from`.
    headers: VecDeque<Header>,
    /// Every block at or behind it could be read.
    complete_from: u64,
}

/// Looks at every block of the newest segment that has a start frame, if there is one, and finds
/// out where its frames end.
pub(super) async fn scan<F: File>(
    candidates: &mut [Candidate<F>],
    identity: Option<u128>,
) -> Result<Option<Newest>, LogError> {
    let Some(index) = candidates.iter().rposition(|candidate| candidate.start.is_some()) else {
        return Ok(None);
    };
    let candidate = &mut candidates[index];
    let mut newest = Newest { index, trim: 1, headers: VecDeque::new(), complete_from: 0 };
    let mut reader = candidate.reader();
    let (mut offset, mut frames_end) = (0, 0);
    while let Some(block) = reader.span(offset, BLOCK_BYTES).await? {
        if let Some((header, _)) = Header::decode(&block, offset)
            && identity == Some(header.identity)
        {
            if header.generation == candidate.generation {
                newest.trim = newest.trim.max(header.trim);
                frames_end = frames_end.max(header.end().min(candidate.length));
            }
            newest.remember(header);
        }
        offset += BLOCK;
    }
    if let Some(block) = reader.unreadable().last() {
        let behind = (block + 1) * BLOCK;
        newest.complete_from = newest.complete_from.max(behind);
        frames_end = frames_end.max(behind);
    }
    candidate.frames_end = frames_end;
    candidate.unreadable.insert_all(reader.unreadable());
    Ok(Some(newest))
}

impl Newest {
    fn remember(&mut self, header: Header) {
        if self.headers.len() == HEADERS_REMEMBERED
            && let Some(forgotten) = self.headers.pop_front()
        {
            self.complete_from = forgotten.offset + BLOCK;
        }
        self.headers.push_back(header);
    }

    /// The headers of this log in a segment behind an offset, in order, if all of them are known, and
    /// that at the offset.
    pub(super) fn headers(&self, index: usize, from: u64) -> Option<impl Iterator<Item = &Header>> {
        let is_known = index == self.index && from >= self.complete_from;
        is_known.then(|| self.headers.iter().filter(move |header| header.offset > from))
    }
}
