//! The range tombstones of a table.
//!
//! They stand in one block with the layout of a data block: the user key is the start, the value
//! the end, the kind `RangeDeletion`. They are in memory while the table is open.
//!
//! # Validity
//!
//! Besides what is asked of any block: each ends behind its start; those of one start have one end,
//! and those of the next start begin where these end, or behind. So the tombstones over a key stand
//! side by side, and are found by one binary search.

use bytes::Bytes;

use crate::block::Block;
use crate::key::{InternalKey, Version};
use crate::limits::KEY_BYTES;

/// The range tombstones of a table.
#[derive(Clone, Debug, Default)]
pub struct Tombstones {
    block: Option<Block>,
}

/// No older version of a key from `start` up to, not including, `end` is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeTombstone {
    /// The first key.
    pub start: Vec<u8>,
    /// Behind the last key.
    pub end: Bytes,
    /// The commit that made it.
    pub sequence: u64,
}

impl Tombstones {
    pub(crate) fn parse(payload: Bytes) -> Result<Self, String> {
        let found = Self { block: Some(Block::parse(payload, true)?) };
        let mut before: Option<RangeTombstone> = None;
        for tombstone in found.iter() {
            let RangeTombstone { start, end, .. } = &tombstone;
            if start.as_slice() >= &end[..] || end.len() > KEY_BYTES {
                return Err("a range tombstone ends where it starts, or before".to_owned());
            }
            let behind = |before: RangeTombstone| {
                (*start == before.start && *end == before.end) || start[..] >= before.end[..]
            };
            if !before.is_none_or(behind) {
                return Err("range tombstones overlap".to_owned());
            }
            before = Some(tombstone);
        }
        Ok(found)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.block.as_ref().map_or(0, Block::len)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, in the order of their starts; newer commits first where these are the same.
    pub fn iter(&self) -> impl Iterator<Item = RangeTombstone> + '_ {
        let blocks = self.block.iter();
        blocks.flat_map(|block| (0..block.len()).map(|index| tombstone(block, index)))
    }

    /// The commit of the newest range tombstone over a key, among those of commits up to
    /// `snapshot`. It deletes versions of older commits; what it does to those of its own, its
    /// commit has decided.
    #[must_use]
    pub fn newest_over(&self, user_key: &[u8], snapshot: u64) -> Option<u64> {
        self.find(user_key, snapshot).map(|(block, at)| block.content(at).sequence)
    }

    /// The same, with its range.
    pub(crate) fn newest_range_over(
        &self,
        user_key: &[u8],
        snapshot: u64,
    ) -> Option<RangeTombstone> {
        self.find(user_key, snapshot).map(|(block, at)| tombstone(block, at))
    }

    fn find(&self, user_key: &[u8], snapshot: u64) -> Option<(&Block, usize)> {
        let block = self.block.as_ref()?;
        // The last start at or in front of the key, and the newest of that which the snapshot sees.
        let behind = block.lower_bound(InternalKey { user_key, version: Version::LAST });
        let last = tombstone(block, behind.checked_sub(1)?);
        if user_key >= &last.end[..] {
            return None;
        }
        let seen = InternalKey { user_key: &last.start, version: Version::seen_by(snapshot) };
        let at = block.lower_bound(seen);
        (at < behind).then_some((block, at))
    }
}

fn tombstone(block: &Block, index: usize) -> RangeTombstone {
    let mut start = block.prefix().to_vec();
    let content = block.put_key(index, &mut start);
    RangeTombstone { start, end: block.payload().slice(content.value), sequence: content.sequence }
}
