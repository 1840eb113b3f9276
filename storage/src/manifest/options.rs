//! What can be chosen about a manifest.

use woodchuck_wal::LogOptions;

use crate::error::StorageError;
use crate::limits::{
    EDIT_BYTES, MANIFEST_SEGMENT_BYTES_MAX, MANIFEST_SEGMENT_BYTES_MIN, NUMBERS_TAKEN, PAGE_BYTES,
    PART_BYTES_MAX,
};
use crate::options::within;

/// What can be chosen about a manifest. Every choice may change from one opening to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestOptions {
    /// Bytes of one segment of its log, a multiple of a page. One more than are in use is always
    /// prepared ahead. Bounds the largest edit, with [`EDIT_BYTES`].
    pub segment_bytes: u64,
    /// Bytes of the edits behind a snapshot before another is written, at least. They are also at
    /// least twice the snapshot, so that the snapshots written come to half the edits at most.
    pub edit_bytes_min: u64,
    /// Bytes of one part of a snapshot.
    pub part_bytes: usize,
    /// How many numbers are reserved at a time. As many at most are lost by a restart.
    pub numbers_reserved: u64,
}

impl Default for ManifestOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 2 << 20,
            edit_bytes_min: 64 << 10,
            part_bytes: PART_BYTES_MAX,
            numbers_reserved: 1024,
        }
    }
}

impl ManifestOptions {
    /// For simulation and tests: everything small, so that snapshots of several parts and
    /// reservations happen all the time.
    #[must_use]
    pub const fn small() -> Self {
        Self {
            segment_bytes: MANIFEST_SEGMENT_BYTES_MIN,
            edit_bytes_min: 1 << 10,
            part_bytes: 1 << 10,
            numbers_reserved: 8,
        }
    }

    pub(super) fn check(&self) -> Result<(), StorageError> {
        let (least, most) = (MANIFEST_SEGMENT_BYTES_MIN, MANIFEST_SEGMENT_BYTES_MAX);
        within("segment_bytes", self.segment_bytes as usize, least as usize, most as usize)?;
        within("part_bytes", self.part_bytes, 1, PART_BYTES_MAX)?;
        within("numbers_reserved", self.numbers_reserved as usize, 1, NUMBERS_TAKEN as usize)?;
        if !self.segment_bytes.is_multiple_of(PAGE_BYTES as u64) {
            let reason = format!("segment_bytes, {}, is not in pages", self.segment_bytes);
            return Err(StorageError::Options { reason });
        }
        Ok(())
    }

    pub(super) fn log(&self) -> LogOptions {
        // Edits are written one by one, each when the one before is durable.
        LogOptions { frames_in_flight: 1, ..LogOptions::default() }
            .with_segment_bytes(self.segment_bytes)
    }

    /// Largest commit, in bytes.
    pub(super) fn commit_bytes(&self) -> usize {
        self.log().commit_bytes().min(EDIT_BYTES)
    }
}
