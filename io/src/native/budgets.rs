//! What groups of files may have in flight: the reads and writes that wait, and when they go on.
//!
//! A group's reads and writes are let through in their order while the bytes that they add up to
//! stay within a bound, and one is always let through. The bound is lower while the foreground
//! uses the disk. Whoever waits is let through by the end of one that was before it, so nothing
//! else needs to look at this.

use std::collections::VecDeque;
use std::time::Duration;

use super::driver::Key;
use crate::limits::{FOREGROUND_USE_MS, GROUP_BYTES, GROUP_BYTES_BESIDE_FOREGROUND};
use crate::{Group, Monotonic};

/// The budgets of one shard.
#[derive(Default)]
pub(crate) struct Budgets {
    lanes: [Lane; Group::ALL.len()],
    /// Reads and writes that the foreground has started.
    foreground: u64,
    /// How many of them had been started when somebody last looked, and when that changed.
    seen: u64,
    seen_at: Option<Monotonic>,
}

#[derive(Default)]
struct Lane {
    /// Bytes in flight.
    bytes: u64,
    /// What waits, with its bytes, the oldest first.
    held: VecDeque<(Key, u64)>,
}

impl Budgets {
    /// The foreground starts a read or write.
    pub(crate) fn note_foreground(&mut self) {
        self.foreground = self.foreground.wrapping_add(1);
    }

    /// Whether a read or write of `bytes` may start. It is on the account if so; else it waits for
    /// [`next`](Self::next) to name it.
    pub(crate) fn enter(&mut self, group: Group, key: Key, bytes: u64, now: Monotonic) -> bool {
        let bound = self.bound(group, now);
        let lane = &mut self.lanes[group.index()];
        if lane.held.is_empty() && lane.admits(bytes, bound) {
            lane.bytes += bytes;
            return true;
        }
        lane.held.push_back((key, bytes));
        false
    }

    /// A read or write of `bytes` has ended.
    pub(crate) fn leave(&mut self, group: Group, bytes: u64) {
        self.lanes[group.index()].bytes -= bytes;
    }

    /// The next that may start, put on the account. To be asked until it names none, whenever one
    /// has ended.
    pub(crate) fn next(&mut self, group: Group, now: Monotonic) -> Option<Key> {
        if self.lanes[group.index()].held.is_empty() {
            return None;
        }
        let bound = self.bound(group, now);
        let lane = &mut self.lanes[group.index()];
        let &(key, bytes) = lane.held.front()?;
        if !lane.admits(bytes, bound) {
            return None;
        }
        lane.held.pop_front();
        lane.bytes += bytes;
        Some(key)
    }

    /// One that waits will not start.
    pub(crate) fn forget(&mut self, group: Group, key: Key) {
        self.lanes[group.index()].held.retain(|&(held, _)| held != key);
    }

    fn bound(&mut self, group: Group, now: Monotonic) -> u64 {
        if self.seen != self.foreground {
            self.seen = self.foreground;
            self.seen_at = Some(now);
        }
        let recently = |at: Monotonic| now.since(at) < Duration::from_millis(FOREGROUND_USE_MS);
        let bounds = match self.seen_at {
            Some(at) if recently(at) => GROUP_BYTES_BESIDE_FOREGROUND,
            _ => GROUP_BYTES,
        };
        bounds[group.index()]
    }
}

impl Lane {
    fn admits(&self, bytes: u64, bound: u64) -> bool {
        self.bytes == 0 || self.bytes.saturating_add(bytes) <= bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: Group = Group::Compaction;
    const MEBIBYTE: u64 = 1 << 20;

    fn at(milliseconds: u64) -> Monotonic {
        Monotonic::default() + Duration::from_millis(milliseconds)
    }

    /// Starts reads of one MiB until one has to wait. Returns how many went.
    fn fill(budgets: &mut Budgets, first: u64, now: Monotonic) -> u64 {
        let went = |key: &u64| budgets.enter(GROUP, Key(first + key), MEBIBYTE, now);
        (0..100).take_while(went).count() as u64
    }

    #[test]
    fn a_group_fills_its_bound_and_goes_on_in_order() {
        let mut budgets = Budgets::default();
        let bound = GROUP_BYTES[GROUP.index()] / MEBIBYTE;
        assert_eq!(fill(&mut budgets, 0, at(0)), bound);
        // Another waits behind the one that waits, though it would fit by itself.
        assert!(!budgets.enter(GROUP, Key(50), 1, at(0)));
        assert_eq!(budgets.next(GROUP, at(0)), None);
        budgets.leave(GROUP, MEBIBYTE);
        assert_eq!(budgets.next(GROUP, at(0)), Some(Key(bound)));
        assert_eq!(budgets.next(GROUP, at(0)), None);
        budgets.leave(GROUP, MEBIBYTE);
        assert_eq!(budgets.next(GROUP, at(0)), Some(Key(50)));
        // The other groups have bounds of their own.
        assert!(budgets.enter(Group::Flush, Key(60), MEBIBYTE, at(0)));
    }

    #[test]
    fn the_bound_is_lower_while_the_foreground_is_at_work() {
        let mut budgets = Budgets::default();
        budgets.note_foreground();
        assert_eq!(fill(&mut budgets, 0, at(5)), 1, "one always goes");
        budgets.leave(GROUP, MEBIBYTE);
        let key = budgets.next(GROUP, at(5 + FOREGROUND_USE_MS - 1));
        assert_eq!(key, Some(Key(1)));
        assert_eq!(
            fill(&mut budgets, 10, at(5 + FOREGROUND_USE_MS)),
            GROUP_BYTES[2] / MEBIBYTE - 1
        );
        budgets.note_foreground();
        budgets.leave(GROUP, MEBIBYTE);
        assert_eq!(budgets.next(GROUP, at(100)), None, "three are in flight");
    }

    #[test]
    fn one_larger_than_the_bound_goes_alone() {
        let mut budgets = Budgets::default();
        assert!(budgets.enter(GROUP, Key(0), u64::MAX, at(0)));
        assert!(!budgets.enter(GROUP, Key(1), MEBIBYTE, at(0)));
        budgets.leave(GROUP, u64::MAX);
        assert_eq!(budgets.next(GROUP, at(0)), Some(Key(1)));
    }

    #[test]
    fn what_is_forgotten_is_not_named() {
        let mut budgets = Budgets::default();
        assert!(budgets.enter(GROUP, Key(0), u64::MAX, at(0)));
        for key in 1..4 {
            assert!(!budgets.enter(GROUP, Key(key), MEBIBYTE, at(0)));
        }
        budgets.forget(GROUP, Key(2));
        budgets.leave(GROUP, u64::MAX);
        let named: Vec<Key> = std::iter::from_fn(|| budgets.next(GROUP, at(0))).collect();
        assert_eq!(named, [Key(1), Key(3)]);
    }
}
