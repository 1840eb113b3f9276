//! What other modules look at, and change besides.

use std::rc::Rc;

use woodchuck_io::limits::BLOCK_BYTES;

use super::{Gathering, State};
use crate::options::LogOptions;
use crate::segments::Segment;

impl<F, T> State<F, T> {
    pub(crate) const fn options(&self) -> &LogOptions {
        &self.options
    }

    pub(crate) const fn watermark(&self) -> u64 {
        self.watermark
    }

    pub(crate) fn oldest(&self) -> u64 {
        let first = self.live.front().map_or(self.next_lsn, |live| live.segment.first_lsn);
        first.max(self.trim)
    }

    pub(crate) fn bytes_retained(&self) -> u64 {
        self.live.iter().map(|live| live.used).sum()
    }

    pub(crate) const fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    pub(crate) const fn poison(&self) -> Option<&String> {
        self.poison.as_ref()
    }

    /// Whether the log will never write again.
    pub(crate) const fn has_ended(&self) -> bool {
        self.closed || self.poison.is_some()
    }

    /// Bytes of the segment that could not be prepared, if the next frame cannot do without it.
    pub(crate) fn is_stuck(&self) -> Option<u64> {
        let left = self.live.back().map_or(0, |live| live.segment.bytes) - self.offset;
        let next = self.sealed.front().or(self.gathering.as_ref());
        let bytes = next.map_or(BLOCK_BYTES, Gathering::bytes) as u64;
        self.full.filter(|_| bytes > left)
    }

    pub(crate) const fn begin_closing(&mut self) {
        self.closing = true;
    }

    pub(crate) const fn close(&mut self) {
        self.closing = true;
        self.closed = true;
    }

    /// Whether there is something that a free slot could do.
    pub(crate) fn has_work(&self) -> bool {
        !self.sealed.is_empty() || self.gathering.is_some() || self.witness_due
    }

    /// Whether the next segment must still be prepared.
    pub(crate) const fn needs_segment(&self) -> bool {
        self.prepared.is_none()
    }

    pub(crate) fn set_prepared(&mut self, segment: Segment<F>) {
        assert!(self.prepared.is_none(), "one segment is prepared at a time");
        self.statistics.segments_prepared += 1;
        self.prepared = Some(segment);
        self.full = None;
    }

    pub(crate) const fn set_full(&mut self, needed: u64) {
        self.full = Some(needed);
    }

    /// Whether there are segments to put away.
    pub(crate) fn has_retired(&self) -> bool {
        !self.retiring.is_empty()
    }

    /// A segment that nobody needs or reads.
    pub(crate) fn take_retired(&mut self) -> Option<Rc<Segment<F>>> {
        let index = self.retiring.iter().position(|segment| Rc::strong_count(segment) == 1)?;
        self.retiring.remove(index)
    }

    /// The live segment of a generation, or else the oldest generation there is.
    pub(crate) fn segment(&self, generation: u64) -> Result<Rc<Segment<F>>, u64> {
        let found = self.live.binary_search_by_key(&generation, |live| live.segment.generation);
        match found {
            Ok(index) => Ok(Rc::clone(&self.live[index].segment)),
            Err(_) => Err(self.live.front().map_or(0, |live| live.segment.generation)),
        }
    }
}
