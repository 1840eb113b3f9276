//! Whether a commit is taken, and why not.
//!
//! What is taken has its place in this segment or the next, so that it never waits for as long as the
//! disk is full, or the log at its capacity.

use woodchuck_io::limits::BLOCK_BYTES;

use super::{Gathering, State};
use crate::error::LogError;
use crate::format::frame_bytes;
use crate::limits::COMMIT_PREFIX_BYTES;

/// Why there is no next segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// The disk has no room for one of so many bytes.
    Disk { needed: u64 },
    /// The log has all that it may have, and needs it.
    Capacity { capacity: u64 },
}

impl Shortage {
    pub(crate) const fn error(self) -> LogError {
        match self {
            Self::Disk { needed } => LogError::Full { needed },
            Self::Capacity { capacity } => LogError::AtCapacity { capacity },
        }
    }
}

/// What a commit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Any,
    /// It lets something be trimmed: it may use the reserve.
    MakesRoom,
}

/// Whether a commit finds a place.
enum Room {
    Here,
    /// Once what waits is written, or the next segment is prepared: so many bytes have one now.
    NotYet {
        limit: usize,
    },
    /// Not before there is a next segment.
    Short(Shortage),
}

impl<F, T> State<F, T> {
    /// Why a commit of so many bytes is not taken now, if it is not.
    pub(crate) fn refusal(&mut self, bytes: usize, purpose: Purpose) -> Option<LogError> {
        if let Some(error) = self.end() {
            return Some(error);
        }
        let limit = self.options.commit_bytes();
        if bytes > limit {
            return Some(LogError::TooLarge { bytes, limit });
        }
        match self.room_for(bytes, purpose) {
            Room::Short(shortage) => {
                self.statistics.refused_full += 1;
                return Some(shortage.error());
            }
            Room::NotYet { limit } => {
                self.statistics.refused_busy += 1;
                return Some(LogError::Busy { waiting: self.waiting_bytes, limit });
            }
            Room::Here => {}
        }
        if self.waiting_bytes >= self.options.queue_bytes {
            self.statistics.refused_busy += 1;
            let (waiting, limit) = (self.waiting_bytes, self.options.queue_bytes);
            return Some(LogError::Busy { waiting, limit });
        }
        None
    }

    /// Whether a commit of so many bytes would not be refused because of what waits.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let too_large = bytes > self.options.commit_bytes();
        let takes = self.waiting_bytes < self.options.queue_bytes
            && !matches!(self.room_for(bytes, Purpose::Any), Room::NotYet { .. });
        self.end().is_some() || too_large || takes
    }

    /// Whether a commit of so many bytes would not be refused for want of a segment.
    pub(crate) fn has_space(&self, bytes: usize) -> bool {
        let too_large = bytes > self.options.commit_bytes();
        self.end().is_some()
            || too_large
            || !matches!(self.room_for(bytes, Purpose::Any), Room::Short(_))
    }

    /// Where a commit of at most the largest length would find its place. Nothing is taken that has
    /// none: it would wait for as long as the disk is full. Alone, it is taken on trust while nobody
    /// knows yet whether there will be a next segment: who is told to wait must have something to
    /// wait for.
    fn room_for(&self, bytes: usize, purpose: Purpose) -> Room {
        if self.over_capacity && purpose == Purpose::Any {
            return Room::Short(Shortage::Capacity { capacity: self.options.capacity_bytes });
        }
        let sealed = self.sealed.iter().chain(&self.gathering);
        let waiting: usize = sealed.map(Gathering::bytes).sum();
        let waiting = waiting + self.bodies.held_bytes();
        let needed = (waiting + frame_bytes(COMMIT_PREFIX_BYTES + bytes)) as u64;
        let left = self.live.back().map_or(0, |live| live.segment.bytes) - self.offset;
        // Behind all of it, a witness may have to carry the trim point that lets the log go on.
        let reserve = match purpose {
            Purpose::Any => self.options.reserve_bytes(),
            Purpose::MakesRoom => 0,
        };
        let limit = left.saturating_sub(BLOCK_BYTES as u64 + reserve);
        let next = self.prepared.as_ref().map(|segment| segment.bytes - BLOCK_BYTES as u64);
        if needed <= limit.max(next.unwrap_or(0)) {
            return Room::Here;
        }
        match self.shortage {
            Some(shortage) if next.is_none() => Room::Short(shortage),
            _ if self.waiting_bytes == 0 => Room::Here,
            _ => Room::NotYet { limit: usize::try_from(limit).unwrap_or(usize::MAX) },
        }
    }
}
