//! The keys in a node of the tree: records in order, each with eight bytes of its user key, so that
//! a search hardly ever looks at a record.

use std::cmp::Ordering;

use super::arena::{Arena, Record};
use crate::key::InternalKey;

/// The most keys in a node.
pub(super) const WIDTH: usize = 64;

/// Keys whose prefixes stand in one cache line.
const GROUP: usize = 8;

const _: () = assert!(WIDTH.is_multiple_of(GROUP), "groups are whole");

/// Bytes of a user key that a node has.
const PREFIX_BYTES: usize = 8;

/// Two prefixes that have more bits than these in common tell few keys apart.
const POOR_BITS: u32 = 32;

#[repr(C, align(64))]
pub(super) struct Keys {
    /// Of each key the eight bytes behind what is skipped, zeros behind its end, as a number with
    /// the first byte on top. So if two differ, the keys differ in the same way; if not, it is for
    /// the records to say. Where there is no key, the largest number.
    prefixes: [u64; WIDTH],
    records: [Record; WIDTH],
    length: u16,
    /// Bytes that all user keys have in common that belong here, whether they have come or not. A
    /// search that leads here looks for a key that has them too: if not, it would compare what is
    /// not comparable, and go astray.
    skip: u16,
    /// Where the last one was put in.
    last_insert: u16,
}

fn prefix_of(user_key: &[u8], skip: usize) -> u64 {
    let rest = &user_key[skip..];
    rest.first_chunk::<PREFIX_BYTES>().map_or_else(
        || {
            let mut bytes = [0; PREFIX_BYTES];
            bytes[..rest.len()].copy_from_slice(rest);
            u64::from_be_bytes(bytes)
        },
        |bytes| u64::from_be_bytes(*bytes),
    )
}

impl Keys {
    /// No keys, all of which begin with the same `skip` bytes.
    pub(super) const fn new(skip: usize) -> Self {
        Self {
            length: 0,
            skip: skip as u16,
            last_insert: 0,
            prefixes: [u64::MAX; WIDTH],
            records: [Record::NONE; WIDTH],
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.length as usize
    }

    pub(super) const fn is_full(&self) -> bool {
        self.len() == WIDTH
    }

    pub(super) const fn skip(&self) -> usize {
        self.skip as usize
    }

    pub(super) fn record(&self, at: usize) -> Record {
        self.records()[at]
    }

    pub(super) fn records(&self) -> &[Record] {
        &self.records[..self.len()]
    }

    /// Whether the last key that came is the last one here: keys may be coming in order.
    pub(super) const fn is_run(&self) -> bool {
        self.length > 0 && self.last_insert + 1 == self.length
    }

    /// Where a key stands, or else where it would.
    pub(super) fn search(&self, arena: &Arena, key: InternalKey<'_>) -> Result<usize, usize> {
        let prefix = prefix_of(key.user_key, self.skip());
        let start = self.lower_bound(prefix);
        let others = &self.prefixes[start..self.len()];
        if others.first() != Some(&prefix) {
            return Err(start);
        }
        let same = others.partition_point(|&other| other == prefix);
        let records = &self.records[start..start + same];
        let found = records.binary_search_by(|&other| arena.compare(other, self.skip(), key));
        found.map(|at| start + at).map_err(|at| start + at)
    }

    /// How many prefixes are smaller.
    ///
    /// A binary search would wait for one cache line, then see which it needs next. This asks the
    /// last of each group, all at the same time, and then those of one group. Point reads take a
    /// quarter less time.
    fn lower_bound(&self, prefix: u64) -> usize {
        let (groups, _) = self.prefixes.as_chunks::<GROUP>();
        let smaller = |group: &&[u64; GROUP]| group[GROUP - 1] < prefix;
        let whole = groups.iter().filter(smaller).count();
        let rest = groups
            .get(whole)
            .map_or(0, |group| group.iter().filter(|&&other| other < prefix).count());
        whole * GROUP + rest
    }

    /// How the last key compares to another; there is one.
    pub(super) fn compare_last(&self, arena: &Arena, key: InternalKey<'_>) -> Ordering {
        let last = self.len() - 1;
        let by_prefix = self.prefixes[last].cmp(&prefix_of(key.user_key, self.skip()));
        by_prefix.then_with(|| arena.compare(self.records[last], self.skip(), key))
    }

    /// Puts a key in. There is room.
    pub(super) fn insert(&mut self, at: usize, record: Record, user_key: &[u8]) {
        let length = self.len();
        assert!(at <= length && length < WIDTH, "a node is split before it is too full");
        self.prefixes.copy_within(at..length, at + 1);
        self.records.copy_within(at..length, at + 1);
        self.prefixes[at] = prefix_of(user_key, self.skip());
        self.records[at] = record;
        self.length += 1;
        self.last_insert = at as u16;
    }

    /// Takes away the keys from a place on.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let mut behind = Self::new(self.skip());
        let moved = self.len() - at;
        behind.prefixes[..moved].copy_from_slice(&self.prefixes[at..self.len()]);
        behind.records[..moved].copy_from_slice(&self.records[at..self.len()]);
        behind.length = moved as u16;
        self.prefixes[at..].fill(u64::MAX);
        self.length = at as u16;
        // Wherever the last key went: the next that comes at the end is the first of its run.
        (self.last_insert, behind.last_insert) = (WIDTH as u16, WIDTH as u16);
        behind
    }

    /// Takes the last key away.
    pub(super) fn pop(&mut self) -> Record {
        let record = self.record(self.len() - 1);
        self.length -= 1;
        self.prefixes[self.len()] = u64::MAX;
        record
    }

    /// Skips more, if so many bytes can be skipped and the prefixes tell few keys apart.
    pub(super) fn sharpen(&mut self, arena: &Arena, skip: usize) {
        let Some(last) = self.len().checked_sub(1) else { return };
        let in_common = (self.prefixes[0] ^ self.prefixes[last]).leading_zeros();
        if skip > self.skip() && in_common >= POOR_BITS {
            self.set_skip(arena, skip);
        }
    }

    /// Skips so many bytes.
    pub(super) fn set_skip(&mut self, arena: &Arena, skip: usize) {
        self.skip = skip as u16;
        for at in 0..self.len() {
            self.prefixes[at] = prefix_of(arena.user_key(self.records[at]), skip);
        }
    }
}
