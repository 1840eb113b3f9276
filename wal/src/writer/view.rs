//! What other modules look at, and change besides.

use std::rc::Rc;

use woodchuck_io::limits::BLOCK_BYTES;

use super::{Gathering, Shortage, Shrinks, State};
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
        let frames: u64 = self.live.iter().map(|live| live.used).sum();
        frames + self.bodies.used_bytes()
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

    /// Why the next segment could not be prepared, if the next frame cannot do without it.
    pub(crate) fn is_stuck(&self) -> Option<Shortage> {
        let left = self.live.back().map_or(0, |live| live.segment.bytes) - self.offset;
        let next = self.sealed.front().or(self.gathering.as_ref());
        let bytes = next.map_or(BLOCK_BYTES, Gathering::bytes) as u64;
        self.shortage.filter(|_| bytes > left)
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

    /// Returns why there was none for a while, if so.
    pub(crate) fn set_prepared(&mut self, segment: Segment<F>) -> Option<Shortage> {
        assert!(self.prepared.is_none(), "one segment is prepared at a time");
        self.statistics.segments_prepared += 1;
        self.prepared = Some(segment);
        self.shortage.take()
    }

    /// Returns what was so before.
    pub(crate) const fn set_short(&mut self, shortage: Shortage) -> Option<Shortage> {
        self.shortage.replace(shortage)
    }

    /// Whether what is trimmed now may let the log go on.
    pub(crate) const fn is_at_capacity(&self) -> bool {
        self.over_capacity || matches!(self.shortage, Some(Shortage::Capacity { .. }))
    }

    /// Bytes of the files that are needed. Those that were trimmed do not count: they go as soon
    /// as that is durable, and it may take the next segment to make it so.
    pub(super) fn bytes_needed(&self) -> u64 {
        let trimmed =
            self.live.iter().skip(1).take_while(|live| live.segment.first_lsn <= self.trim);
        let needed = self.live.iter().skip(trimmed.count());
        let frames: u64 = needed.map(|live| live.segment.bytes).sum();
        frames + self.bodies.bytes_needed(self.trim)
    }

    /// Whether the capacity allows for another segment, beside those that are needed.
    pub(crate) fn may_grow(&self) -> bool {
        let grown = self.bytes_needed().saturating_add(self.options.segment_bytes);
        grown <= self.options.capacity_bytes
    }

    /// Whether the capacity allows for `count` spares beside the segments there are.
    pub(crate) fn may_keep_spares(&self, count: usize) -> bool {
        let live = self.live.iter().map(|live| live.segment.bytes);
        let retiring = self.retiring.iter().map(|segment| segment.bytes);
        let prepared = self.prepared.iter().map(|segment| segment.bytes);
        let bytes = live.chain(retiring).chain(prepared).sum::<u64>() + self.bodies.bytes();
        let spares = (count as u64).saturating_mul(self.options.segment_bytes);
        bytes.saturating_add(spares) <= self.options.capacity_bytes
    }

    /// Whether somebody waits for the spares to be removed.
    pub(crate) const fn wants_shrinking(&self) -> bool {
        self.shrinks.done < self.shrinks.asked
    }

    /// Asks for the spares to be removed. Returns the number of the request.
    pub(crate) const fn ask_to_shrink(&mut self) -> u64 {
        self.shrinks.asked += 1;
        self.shrinks.asked
    }

    /// The spares were removed, as was asked so many times.
    pub(crate) const fn set_shrunk(&mut self, asked: u64) {
        self.shrinks.done = asked;
    }

    pub(crate) const fn shrinks(&self) -> Shrinks {
        self.shrinks
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

    /// The live segment or file of bodies of a generation, or else the oldest generation there is.
    pub(crate) fn segment(&self, generation: u64) -> Result<Rc<Segment<F>>, u64> {
        let found = self.live.binary_search_by_key(&generation, |live| live.segment.generation);
        match found {
            Ok(index) => Ok(Rc::clone(&self.live[index].segment)),
            Err(_) => {
                let oldest = self.live.front().map_or(0, |live| live.segment.generation);
                self.bodies.file(generation).ok_or(oldest)
            }
        }
    }
}
