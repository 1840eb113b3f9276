//! The index: which block holds which keys. Its partitions tell of data blocks, and the top-level
//! index tells of the partitions.
//!
//! An index is an rkyv archive (0.8; little endian, unaligned, 32-bit offsets). It is validated and
//! unpacked once, when it is loaded: a handful of arrays is made of it, which cost as much to copy
//! as to look through, and need no unsafe code to be used without looking again.
//!
//! Each block has a **separator**, at or behind its last key and in front of the next block's
//! first: so the only block that can hold what a point read looks for is the first whose separator
//! is at or behind it.
//!
//! # Validity
//!
//! 1. The archive passes rkyv's own validation.
//! 2. All arrays speak of the same number of blocks; a partition speaks of one at least.
//! 3. Separators ascend; none is longer than a key may be.
//! 4. Places lie between the file's first page and the page `limit` where it ends, and blocks stand
//!    in the order of their keys.

use std::fmt;
use std::ops::Range;

use rkyv::rancor::Error;
use rkyv::{Archive, Deserialize, Serialize};

use super::envelope;
use crate::key::{InternalKey, Version};
use crate::limits::{KEY_BYTES, PAGE_BYTES, PAYLOAD_BYTES};

/// Where a block stands: header and payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    pub(crate) bytes: u32,
}

impl Place {
    /// Where it ends.
    pub(crate) const fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes as u64)
    }

    /// Whether a block can stand there, in this part of the file. Who reads it needs no other bound.
    pub(crate) fn is_within(&self, part: Range<u64>) -> bool {
        let payload = (self.bytes as usize).checked_sub(envelope::HEADER_BYTES);
        payload.is_some_and(|bytes| (1..=PAYLOAD_BYTES).contains(&bytes))
            && self.offset >= part.start
            && self.offset.checked_add(u64::from(self.bytes)).is_some_and(|end| end <= part.end)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "of {} bytes at offset {}", self.bytes, self.offset)
    }
}

/// A partition of the index, or the top-level index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(crate) struct Index {
    /// User keys of the separators, one behind the other.
    keys: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<u32>,
    sequences: Vec<u64>,
    /// Numbers of kinds; 0 for a separator that is behind all versions of its user key.
    kinds: Vec<u8>,
    blocks: Vec<Place>,
    /// In the top-level index, the filters of the partitions, if there are filters; else empty.
    filters: Vec<Place>,
}

impl Index {
    /// How many blocks it speaks of.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Memory that it takes, and room in a file, about.
    pub(crate) fn bytes(&self) -> usize {
        self.keys.len() + self.len() * (4 + 8 + 1 + 12) + self.filters.len() * 12
    }

    /// Adds a block behind the others.
    pub(crate) fn push(&mut self, separator: InternalKey<'_>, block: Place, filter: Option<Place>) {
        assert!(self.is_empty() || self.separator(self.len() - 1) < separator, "in order");
        self.keys.extend_from_slice(separator.user_key);
        self.ends.push(self.keys.len() as u32);
        self.sequences.push(separator.version.sequence);
        self.kinds.push(separator.version.kind);
        self.blocks.push(block);
        self.filters.extend(filter);
    }

    /// Forgets all blocks, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.keys.clear();
        self.ends.clear();
        self.sequences.clear();
        self.kinds.clear();
        self.blocks.clear();
        self.filters.clear();
    }

    pub(crate) fn separator(&self, block: usize) -> InternalKey<'_> {
        let start = if block == 0 { 0 } else { self.ends[block - 1] as usize };
        InternalKey {
            user_key: &self.keys[start..self.ends[block] as usize],
            version: Version { sequence: self.sequences[block], kind: self.kinds[block] },
        }
    }

    pub(crate) fn place(&self, block: usize) -> Place {
        self.blocks[block]
    }

    pub(crate) fn filter(&self, partition: usize) -> Option<Place> {
        self.filters.get(partition).copied()
    }

    /// The only block that can hold the first entry at or behind `bound`, unless it is the first of
    /// the one behind; [`len`](Self::len) if there is none.
    pub(crate) fn lower_bound(&self, bound: InternalKey<'_>) -> usize {
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = from.midpoint(to);
            if self.separator(middle) < bound {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from
    }

    /// The archive.
    pub(crate) fn encode(&self) -> Result<impl AsRef<[u8]> + use<>, String> {
        rkyv::to_bytes::<Error>(self).map_err(|error| error.to_string())
    }

    /// The index that an archive holds, or what is wrong with it. The data of its table ends at
    /// `limit`.
    pub(crate) fn decode(archive: &[u8], limit: u64) -> Result<Self, String> {
        let index: Self = rkyv::from_bytes::<Self, Error>(archive)
            .map_err(|error| format!("an index is no archive: {error}"))?;
        index.check(limit)?;
        Ok(index)
    }

    fn check(&self, limit: u64) -> Result<(), String> {
        let blocks = self.len();
        let counts = [self.sequences.len(), self.kinds.len(), self.blocks.len()];
        let filters = self.filters.len();
        if counts.iter().any(|&count| count != blocks) || (filters != 0 && filters != blocks) {
            return Err(format!("an index has {blocks} keys, {counts:?} and {filters} for them"));
        }
        let mut start = 0;
        for &end in &self.ends {
            if end < start || (end - start) as usize > KEY_BYTES {
                return Err(format!("a separator stands from {start} to {end}"));
            }
            start = end;
        }
        if start as usize != self.keys.len() {
            return Err(format!("separators end at {start}, not at {}", self.keys.len()));
        }
        let ascend = |index: usize| {
            self.separator(index - 1) < self.separator(index)
                && self.blocks[index - 1].end() <= self.blocks[index].offset
        };
        if let Some(index) = (1..blocks).find(|&index| !ascend(index)) {
            return Err(format!("block {index} of an index is not behind the one before"));
        }
        let part = PAGE_BYTES as u64..limit;
        let mut places = self.blocks.iter().chain(&self.filters);
        match places.find(|place| !place.is_within(part.clone())) {
            Some(place) => Err(format!("an index speaks of a block {place}")),
            None => Ok(()),
        }
    }

    /// Makes it an index that no reader may believe; each number does it in another way.
    #[cfg(test)]
    pub(crate) fn break_for_test(&mut self, way: usize) {
        match way {
            0 => drop(self.kinds.pop()),
            1 => drop(self.sequences.pop()),
            2 => drop(self.blocks.pop()),
            3 => drop(self.filters.pop()),
            4 => self.keys.push(b'x'),
            5 => self.ends[0] = u32::MAX,
            6 => self.ends.swap(0, 2),
            _ => self.sequences.swap(0, 1),
        }
    }
}
