//! The newest commits of a shard's log, kept in memory for readers at the end of a partition.
//!
//! A commit's bytes are a slice of the log frame they were written in, so keeping them copies
//! nothing, but holds the whole frame. Commits therefore leave in the order in which they came,
//! whatever partition they belong to: frames leave whole, and one quiet partition cannot hold a
//! frame for ever.

use std::collections::VecDeque;

use bytes::Bytes;
use woodchuck_wal::Location;

/// Commits in log order, bounded by their bytes.
#[derive(Debug)]
pub struct Tail {
    /// In the order of their locations.
    commits: VecDeque<(Location, Bytes)>,
    /// The sum of the commits' lengths; at most `limit`, unless a single commit is larger.
    bytes: usize,
    limit: usize,
}

impl Tail {
    /// An empty tail that keeps at most `limit` bytes, and always the newest commit.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { commits: VecDeque::new(), bytes: 0, limit }
    }

    /// Adds the next commit, and lets the oldest go while there are too many bytes.
    ///
    /// # Panics
    /// If the commit does not follow the last one: the log gives them in order.
    pub fn push(&mut self, location: Location, bytes: Bytes) {
        assert!(
            self.commits.back().is_none_or(|(last, _)| *last < location),
            "commits come in the order of the log"
        );
        self.bytes += bytes.len();
        self.commits.push_back((location, bytes));
        while self.bytes > self.limit && self.commits.len() > 1 {
            let Some((_, bytes)) = self.commits.pop_front() else { break };
            self.bytes -= bytes.len();
        }
    }

    /// The bytes at `location`, if the tail still holds them: a part of one commit.
    #[must_use]
    pub fn get(&self, location: Location) -> Option<Bytes> {
        let after = self.commits.partition_point(|(commit, _)| {
            (commit.segment, commit.offset) <= (location.segment, location.offset)
        });
        let (commit, bytes) = self.commits.get(after.checked_sub(1)?)?;
        if commit.segment != location.segment {
            return None;
        }
        let start = usize::try_from(location.offset - commit.offset).ok()?;
        let end = start.checked_add(location.length as usize)?;
        (end <= bytes.len()).then(|| bytes.slice(start..end))
    }

    /// Bytes held.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(segment: u64, offset: u64, length: u32) -> Location {
        Location { segment, offset, length }
    }

    #[test]
    fn parts_of_commits_are_found_and_nothing_else() {
        let mut tail = Tail::new(1000);
        tail.push(location(1, 64, 10), Bytes::from_static(b"0123456789"));
        tail.push(location(1, 80, 4), Bytes::from_static(b"abcd"));
        tail.push(location(2, 64, 2), Bytes::from_static(b"xy"));
        assert_eq!(tail.get(location(1, 66, 3)), Some(Bytes::from_static(b"234")));
        assert_eq!(tail.get(location(1, 80, 4)), Some(Bytes::from_static(b"abcd")));
        assert_eq!(tail.get(location(2, 65, 1)), Some(Bytes::from_static(b"y")));
        assert_eq!(tail.get(location(1, 70, 10)), None, "runs over the commit's end");
        assert_eq!(tail.get(location(1, 76, 1)), None, "between two commits");
        assert_eq!(tail.get(location(1, 10, 1)), None, "before the first");
        assert_eq!(tail.get(location(2, 10, 1)), None, "in a segment, before its first");
    }

    #[test]
    fn the_oldest_leave_first_and_the_newest_stays() {
        let mut tail = Tail::new(10);
        tail.push(location(1, 0, 6), Bytes::from_static(b"aaaaaa"));
        tail.push(location(1, 6, 6), Bytes::from_static(b"bbbbbb"));
        assert_eq!(tail.get(location(1, 0, 6)), None);
        assert_eq!(tail.bytes(), 6);
        tail.push(location(1, 12, 20), Bytes::from_static(&[0; 20]));
        assert!(tail.get(location(1, 12, 20)).is_some());
        assert_eq!(tail.bytes(), 20);
    }
}
