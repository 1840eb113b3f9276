//! Where tables end that are made of sources.

use std::rc::Rc;

use crate::TableMetadata;

/// Where tables end, if more comes behind.
#[derive(Clone, Copy, Debug)]
pub struct Cuts<'a> {
    /// Bytes of a table, about.
    pub table_bytes: u64,
    /// Tables over which they will lie, in the order of keys, of which no two overlap.
    pub below: &'a [Rc<TableMetadata>],
    /// A table ends in front of a key with which it would lie over more bytes of these.
    pub below_bytes: u64,
}

impl Cuts<'static> {
    /// At a length alone.
    #[must_use]
    pub const fn at(table_bytes: u64) -> Self {
        Self { table_bytes, below: &[], below_bytes: u64::MAX }
    }
}

impl Cuts<'_> {
    /// Whether a table would lie over too much as it is.
    #[must_use]
    pub fn are_needed_by(&self, table: &TableMetadata) -> bool {
        let first = self.below.partition_point(|below| below.is_before(table));
        let over = self.below[first..].iter().take_while(|below| !table.is_before(below));
        let over: u64 = over.map(|below| below.file_bytes).sum();
        over > self.below_bytes
    }
}

/// What the table that is being made lies over. Keys come in their order.
#[derive(Debug)]
pub(super) struct Overlap<'a> {
    cuts: Cuts<'a>,
    /// How many of the tables below begin at or in front of the last key.
    passed: usize,
    /// Bytes of those that the table lies over.
    bytes: u64,
}

impl<'a> Overlap<'a> {
    pub(super) const fn of(cuts: Cuts<'a>) -> Self {
        Self { cuts, passed: 0, bytes: 0 }
    }

    /// Whether a table that goes on with this key would lie over too much. What stands between two
    /// of its keys counts, too.
    pub(super) fn is_too_much_with(&mut self, key: &[u8]) -> bool {
        while let Some(next) = self.cuts.below.get(self.passed)
            && next.smallest_key.as_slice() <= key
        {
            self.bytes = self.bytes.saturating_add(next.file_bytes);
            self.passed += 1;
        }
        self.bytes > self.cuts.below_bytes
    }

    /// A table begins with this key, which was asked for last.
    pub(super) fn begin_with(&mut self, key: &[u8]) {
        let last = self.passed.checked_sub(1).map(|last| &self.cuts.below[last]);
        let last = last.filter(|last| !last.is_in_front_of(key));
        self.bytes = last.map_or(0, |last| last.file_bytes);
    }
}
