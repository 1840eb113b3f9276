//! The newest commits of a shard's log, kept in memory for readers at the end of a partition.
//!
//! A commit's bytes are a slice of the log frame they were written in, so keeping them copies
//! nothing, but holds the whole frame. Commits therefore leave in the order in which they came,
//! whatever partition they belong to: frames leave whole, and one quiet partition cannot hold a
//! frame for ever.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use woodchuck_wal::Location;

/// Commits in the order of the log, bounded by their bytes.
#[derive(Debug)]
pub struct Tail {
    /// Those in frames, in the order of their locations.
    in_frames: VecDeque<Held>,
    /// Those whose bytes stand beside the frames: large, and so few.
    bodies: VecDeque<Held>,
    /// The bytes of these, by segment and offset.
    body_bytes: BTreeMap<(u64, u64), Bytes>,
    /// How many commits came before.
    count: u64,
    /// The sum of the commits' lengths; at most `limit`, unless a single commit is larger.
    bytes: usize,
    limit: usize,
}

#[derive(Debug)]
struct Held {
    /// How many commits came before it.
    number: u64,
    location: Location,
    /// Empty for a body.
    bytes: Bytes,
}

impl Tail {
    /// An empty tail that keeps at most `limit` bytes, and always the newest commit.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self {
            in_frames: VecDeque::new(),
            bodies: VecDeque::new(),
            body_bytes: BTreeMap::new(),
            count: 0,
            bytes: 0,
            limit,
        }
    }

    /// Adds the next commit, and lets the oldest go while there are too many bytes. A body is one
    /// whose bytes stand beside the frames.
    ///
    /// # Panics
    /// If a commit in a frame does not follow the last one: the log gives them in order.
    pub fn push(&mut self, location: Location, is_body: bool, bytes: Bytes) {
        self.bytes += bytes.len();
        let number = self.count;
        self.count += 1;
        if is_body {
            self.body_bytes.insert((location.segment, location.offset), bytes);
            self.bodies.push_back(Held { number, location, bytes: Bytes::new() });
        } else {
            assert!(
                self.in_frames.back().is_none_or(|last| last.location < location),
                "commits come in the order of the log"
            );
            self.in_frames.push_back(Held { number, location, bytes });
        }
        while self.bytes > self.limit && self.in_frames.len() + self.bodies.len() > 1 {
            self.bytes -= self.let_go();
        }
    }

    /// Lets the oldest commit go, and returns its length.
    fn let_go(&mut self) -> usize {
        let in_frame = self.in_frames.front().map_or(u64::MAX, |held| held.number);
        let body = self.bodies.front().map_or(u64::MAX, |held| held.number);
        if in_frame < body {
            return self.in_frames.pop_front().map_or(0, |held| held.bytes.len());
        }
        let oldest = self.bodies.pop_front().map(|held| held.location);
        let place = oldest.map(|location| (location.segment, location.offset));
        place.and_then(|place| self.body_bytes.remove(&place)).map_or(0, |bytes| bytes.len())
    }

    /// The bytes at `location`, if the tail still holds them: a part of one commit.
    #[must_use]
    pub fn get(&self, location: Location) -> Option<Bytes> {
        self.in_frame(location).or_else(|| {
            let place = (location.segment, location.offset);
            let (&(segment, offset), bytes) = self.body_bytes.range(..=place).next_back()?;
            part((segment, offset), bytes, location)
        })
    }

    fn in_frame(&self, location: Location) -> Option<Bytes> {
        let after = self.in_frames.partition_point(|held| {
            (held.location.segment, held.location.offset) <= (location.segment, location.offset)
        });
        let held = self.in_frames.get(after.checked_sub(1)?)?;
        part((held.location.segment, held.location.offset), &held.bytes, location)
    }

    /// Bytes held.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The part at `location` of a commit that stands at `place`, if it is one.
fn part(place: (u64, u64), bytes: &Bytes, location: Location) -> Option<Bytes> {
    if place.0 != location.segment {
        return None;
    }
    let start = usize::try_from(location.offset.checked_sub(place.1)?).ok()?;
    let end = start.checked_add(location.length as usize)?;
    (end <= bytes.len()).then(|| bytes.slice(start..end))
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
        tail.push(location(1, 64, 10), false, Bytes::from_static(b"0123456789"));
        tail.push(location(1, 80, 4), false, Bytes::from_static(b"abcd"));
        tail.push(location(2, 64, 2), false, Bytes::from_static(b"xy"));
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
        tail.push(location(1, 0, 6), false, Bytes::from_static(b"aaaaaa"));
        tail.push(location(1, 6, 6), false, Bytes::from_static(b"bbbbbb"));
        assert_eq!(tail.get(location(1, 0, 6)), None);
        assert_eq!(tail.bytes(), 6);
        tail.push(location(1, 12, 20), false, Bytes::from_static(&[0; 20]));
        assert!(tail.get(location(1, 12, 20)).is_some());
        assert_eq!(tail.bytes(), 20);
    }
    #[test]
    fn bodies_are_found_beside_the_frames_and_leave_in_their_turn() {
        let mut tail = Tail::new(16);
        tail.push(location(3, 64, 4), false, Bytes::from_static(b"aaaa"));
        tail.push(location(5, 4096, 6), true, Bytes::from_static(b"012345"));
        // Behind it in its file, and before it in time; and frames of an older file go on.
        tail.push(location(5, 0, 2), true, Bytes::from_static(b"xy"));
        tail.push(location(3, 80, 4), false, Bytes::from_static(b"bbbb"));
        assert_eq!(tail.bytes(), 16);
        assert_eq!(tail.get(location(5, 4098, 3)), Some(Bytes::from_static(b"234")));
        assert_eq!(tail.get(location(5, 0, 2)), Some(Bytes::from_static(b"xy")));
        assert_eq!(tail.get(location(5, 0, 3)), None, "runs over its end");
        assert_eq!(tail.get(location(4, 0, 1)), None, "another file");
        assert_eq!(tail.get(location(3, 81, 2)), Some(Bytes::from_static(b"bb")));
        tail.push(location(3, 100, 1), false, Bytes::from_static(b"c"));
        assert_eq!((tail.get(location(3, 64, 4)), tail.bytes()), (None, 13));
        tail.push(location(3, 110, 4), false, Bytes::from_static(b"dddd"));
        assert_eq!((tail.get(location(5, 4096, 6)), tail.bytes()), (None, 11));
        assert_eq!(tail.get(location(5, 0, 2)), Some(Bytes::from_static(b"xy")));
    }
}
