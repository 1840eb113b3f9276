//! Says how far the walk has come, in logs so long that somebody may ask.

use std::path::{Path, PathBuf};

use super::Candidate;
use crate::limits::PROGRESS_BYTES;

/// How much has been walked of how much.
pub(crate) struct Progress {
    directory: PathBuf,
    /// Bytes that are to be walked, at most.
    total: u64,
    /// Bytes of the segments that have been left.
    before: u64,
    /// How many bytes must have been walked for the next report.
    next: u64,
}

impl Progress {
    /// In front of the segments that are to be walked.
    pub(super) fn new<'a, F: 'a>(
        directory: &Path,
        segments: impl Iterator<Item = &'a Candidate<F>>,
    ) -> Self {
        let total = segments.map(|segment| segment.frames_end).sum();
        Self { directory: directory.to_owned(), total, before: 0, next: PROGRESS_BYTES }
    }

    /// The walk is at `offset` of `segment`, behind so many frames.
    pub(super) fn report(&mut self, segment: u64, offset: u64, frames: u64) {
        if let Some(walked) = self.due(offset) {
            tracing::info!(
                log = %self.directory.display(),
                segment = %format_args!("{segment:016x}"),
                frames,
                "recovery has walked {} of {} MiB",
                walked >> 20,
                self.total >> 20,
            );
        }
    }

    /// The walk is done with a segment.
    pub(super) const fn leave<F>(&mut self, segment: &Candidate<F>) {
        self.before += segment.frames_end;
    }

    /// The bytes walked, if they are to be told.
    fn due(&mut self, offset: u64) -> Option<u64> {
        let walked = self.before + offset;
        if walked < self.next {
            return None;
        }
        self.next = (walked / PROGRESS_BYTES + 1) * PROGRESS_BYTES;
        Some(walked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_once_for_each_stretch() {
        let stretch = PROGRESS_BYTES;
        let directory = PathBuf::new();
        let mut progress =
            Progress { directory, total: 9 * stretch, before: 0, next: PROGRESS_BYTES };
        let mut told = Vec::new();
        for (before, offset) in [(0, 1), (0, stretch - 1), (0, stretch), (0, stretch + 1)] {
            progress.before = before;
            told.push(progress.due(offset));
        }
        assert_eq!(told, [None, None, Some(stretch), None]);
        // One that is passed in one leap, in another segment, is not told of later.
        progress.before = 3 * stretch;
        assert_eq!(progress.due(5), Some(3 * stretch + 5));
        assert_eq!(progress.due(stretch - 1), None);
        assert_eq!(progress.due(stretch), Some(4 * stretch));
    }
}
