//! What can be chosen about a log.

use std::time::Duration;

use woodchuck_io::limits::BLOCK_BYTES;

use crate::error::LogError;
use crate::format::{HEADER_BYTES, frame_bytes};
use crate::limits::{
    CAPACITY_SEGMENTS_MIN, CARRIED_BYTES, COMMIT_BYTES, COMMIT_PREFIX_BYTES, FRAMES_IN_FLIGHT,
    RESERVE_BYTES_MAX, RESERVE_SHARE, SEGMENT_BLOCKS_MIN, SEGMENT_BYTES_MAX, SPARE_SEGMENTS,
};

/// What can be chosen about a log. Every choice may change from one opening to the next: the
/// files say themselves how they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Bytes of one segment file; a multiple of a block. One more than are in use is always
    /// prepared ahead. Bounds the largest commit.
    pub segment_bytes: u64,
    /// Largest frame that is gathered from several commits, in bytes, header and padding
    /// included; a multiple of a block. A commit that is larger gets a frame of its own.
    pub frame_bytes: usize,
    /// Commits of so many bytes or more that are submitted in a lane
    /// ([`submit_in`](crate::Log::submit_in)) may have their bytes beside the frames, in a file of
    /// their own: commits of other lanes do not wait for them. At least 1; more than a segment
    /// holds, and none ever have.
    pub indirect_bytes: usize,
    /// Frames that may be in flight at once, and as many bodies of large commits. While so many are,
    /// commits gather in the next.
    pub frames_in_flight: usize,
    /// Bytes of commits that may wait: submitted, and not yet handed out by
    /// [`committed`](crate::Log::committed). When as many wait, `submit` answers `Busy`; the
    /// commit that reaches the bound is still taken, so the bound may be passed by one commit.
    pub queue_bytes: usize,
    /// How long the log must have been idle before it writes a witness (see the crate's text).
    /// Until then a crash *and* damage to the last group together are taken for a torn tail. Zero
    /// writes one in every pause between two commits, which doubles the writes of a lone client.
    pub witness_delay: Duration,
    /// Bytes that the log's files may have together, at least three segments. When what is needed
    /// takes all of it, `submit` answers `AtCapacity` until something is trimmed. It is passed for
    /// a moment by up to four segments: those that are prepared before it is durable that others
    /// were trimmed, and one that opening begins.
    pub capacity_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            frame_bytes: 256 << 10,
            indirect_bytes: 256 << 10,
            frames_in_flight: 4,
            queue_bytes: 16 << 20,
            witness_delay: Duration::from_millis(10),
            capacity_bytes: u64::MAX,
        }
    }
}

impl LogOptions {
    /// For simulation and tests: everything small, so that rolls, trims, full queues and frames
    /// with little in them happen all the time.
    #[must_use]
    pub const fn small() -> Self {
        Self {
            segment_bytes: 64 << 10,
            frame_bytes: 8 << 10,
            indirect_bytes: 4 << 10,
            frames_in_flight: 3,
            queue_bytes: 32 << 10,
            witness_delay: Duration::from_millis(1),
            capacity_bytes: u64::MAX,
        }
    }

    /// These options with segments of so many bytes, and frames that fit them.
    #[must_use]
    pub fn with_segment_bytes(self, segment_bytes: u64) -> Self {
        let smallest = SEGMENT_BLOCKS_MIN * BLOCK_BYTES as u64;
        let segment_bytes = segment_bytes.max(smallest);
        let room = usize::try_from(segment_bytes).unwrap_or(usize::MAX) - BLOCK_BYTES;
        Self { segment_bytes, frame_bytes: self.frame_bytes.min(room), ..self }
    }

    /// Largest commit that a log with these options takes, in bytes.
    #[must_use]
    pub fn commit_bytes(&self) -> usize {
        let around = BLOCK_BYTES + HEADER_BYTES + COMMIT_PREFIX_BYTES;
        let room = usize::try_from(self.segment_bytes).unwrap_or(usize::MAX);
        room.saturating_sub(around).min(COMMIT_BYTES)
    }

    /// How much recovery writes again in order to leave no segment behind that holds little.
    pub(crate) const fn carried_bytes(&self) -> u64 {
        let quarter = self.segment_bytes / 4;
        if quarter < CARRIED_BYTES { quarter } else { CARRIED_BYTES }
    }

    /// How many spares a log may keep whose segments take so many bytes, besides the one that comes
    /// next.
    pub(crate) fn spare_segments(&self, bytes: u64) -> usize {
        let room = self.capacity_bytes.saturating_sub(bytes) / self.segment_bytes;
        usize::try_from(room.saturating_sub(1))
            .map_or(SPARE_SEGMENTS, |room| room.min(SPARE_SEGMENTS))
    }

    /// What is left of the last segment for commits that make room
    /// ([`submit_from_reserve`](crate::Log::submit_from_reserve)), in bytes.
    pub(crate) fn reserve_bytes(&self) -> u64 {
        let block = BLOCK_BYTES as u64;
        (self.segment_bytes / RESERVE_SHARE).clamp(block, RESERVE_BYTES_MAX) / block * block
    }

    /// Refuses what cannot work, as opening would.
    ///
    /// # Errors
    /// [`LogError::Options`], which says what is wrong.
    pub fn check(&self) -> Result<(), LogError> {
        let block = BLOCK_BYTES as u64;
        let refuse = |reason: String| Err(LogError::Options { reason });
        if !self.segment_bytes.is_multiple_of(block)
            || self.segment_bytes < SEGMENT_BLOCKS_MIN * block
            || self.segment_bytes > SEGMENT_BYTES_MAX
        {
            return refuse(format!(
                "segment_bytes is {}, but must be a multiple of {block} from {} to {}",
                self.segment_bytes,
                SEGMENT_BLOCKS_MIN * block,
                SEGMENT_BYTES_MAX
            ));
        }
        if self.frame_bytes == 0
            || !self.frame_bytes.is_multiple_of(BLOCK_BYTES)
            || self.frame_bytes > frame_bytes(self.commit_bytes() + COMMIT_PREFIX_BYTES)
        {
            return refuse(format!(
                "frame_bytes is {}, but must be a multiple of {block} that fits a segment of {} \
                 bytes beside its first block",
                self.frame_bytes, self.segment_bytes
            ));
        }
        if self.indirect_bytes == 0 {
            return refuse(
                "indirect_bytes is 0, but commits without bytes have none to be written elsewhere"
                    .to_owned(),
            );
        }
        if self.frames_in_flight == 0 || self.frames_in_flight > FRAMES_IN_FLIGHT {
            return refuse(format!(
                "frames_in_flight is {}, but must be from 1 to {FRAMES_IN_FLIGHT}",
                self.frames_in_flight
            ));
        }
        if self.queue_bytes == 0 {
            return refuse("queue_bytes is 0, so that nothing could be submitted".to_owned());
        }
        if self.capacity_bytes < CAPACITY_SEGMENTS_MIN * self.segment_bytes {
            return refuse(format!(
                "capacity_bytes is {}, but must be at least {CAPACITY_SEGMENTS_MIN} segments of {}",
                self.capacity_bytes, self.segment_bytes
            ));
        }
        Ok(())
    }
}
