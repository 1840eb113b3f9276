//! The range tombstones of a memtable.
//!
//! They are kept as tables have them: cut where they meet, so that those over a key are the commits
//! of one fragment. What that costs is that a tombstone over many fragments stands in each; it
//! counts, and memtables are flushed by what they count.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::table::RangeTombstone;

/// What a fragment costs besides its keys and commits.
const FRAGMENT_BYTES: usize = 128;

#[derive(Default)]
pub(super) struct Fragments {
    /// By start. They do not overlap.
    fragments: BTreeMap<Vec<u8>, Fragment>,
    /// Of all fragments together.
    sequences: usize,
    bytes: usize,
}

struct Fragment {
    end: Bytes,
    /// The newest first.
    sequences: Vec<u64>,
}

impl Fragments {
    /// No older version of a key from `from` up to, not including, `to` is there.
    pub(super) fn add(&mut self, from: &[u8], to: &[u8], sequence: u64) {
        self.cut(from);
        self.cut(to);
        let mut gaps = Vec::new();
        let mut start = Bytes::copy_from_slice(from);
        let inside = (Bound::Included(from), Bound::Excluded(to));
        for (other, fragment) in self.fragments.range_mut::<[u8], _>(inside) {
            if start < other.as_slice() {
                gaps.push((start, Bytes::copy_from_slice(other)));
            }
            let at = fragment.sequences.partition_point(|&newer| newer > sequence);
            if fragment.sequences.get(at) != Some(&sequence) {
                fragment.sequences.insert(at, sequence);
                self.sequences += 1;
                self.bytes += size_of::<u64>();
            }
            start = fragment.end.clone();
        }
        if start < to {
            gaps.push((start, Bytes::copy_from_slice(to)));
        }
        for (start, end) in gaps {
            self.put(start.to_vec(), Fragment { end, sequences: vec![sequence] });
        }
    }

    /// Lets no fragment go over a key.
    fn cut(&mut self, key: &[u8]) {
        let before = (Bound::Unbounded, Bound::Excluded(key));
        let last = self.fragments.range_mut::<[u8], _>(before).next_back();
        let Some((_, fragment)) = last.filter(|(_, fragment)| fragment.end > key) else { return };
        let end = std::mem::replace(&mut fragment.end, Bytes::copy_from_slice(key));
        let sequences = fragment.sequences.clone();
        self.put(key.to_vec(), Fragment { end, sequences });
    }

    fn put(&mut self, start: Vec<u8>, fragment: Fragment) {
        let sequences = fragment.sequences.len();
        self.sequences += sequences;
        self.bytes += FRAGMENT_BYTES + start.len() + fragment.end.len();
        self.bytes += sequences * size_of::<u64>();
        let before = self.fragments.insert(start, fragment);
        assert!(before.is_none(), "two fragments have one start");
    }

    /// How many there are, as tables count them.
    pub(super) const fn len(&self) -> usize {
        self.sequences
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The commit of the newest over a key, among those of commits up to `snapshot`.
    pub(super) fn newest_over(&self, user_key: &[u8], snapshot: u64) -> Option<u64> {
        self.find(user_key, snapshot).map(|(.., sequence)| sequence)
    }

    /// The same, with its range.
    pub(super) fn newest_range_over(
        &self,
        user_key: &[u8],
        snapshot: u64,
    ) -> Option<RangeTombstone> {
        let (start, fragment, sequence) = self.find(user_key, snapshot)?;
        Some(RangeTombstone { start: start.clone(), end: fragment.end.clone(), sequence })
    }

    fn find(&self, user_key: &[u8], snapshot: u64) -> Option<(&Vec<u8>, &Fragment, u64)> {
        let up_to = (Bound::Unbounded, Bound::Included(user_key));
        let (start, fragment) = self.fragments.range::<[u8], _>(up_to).next_back()?;
        if fragment.end <= user_key {
            return None;
        }
        let seen = fragment.sequences.partition_point(|&newer| newer > snapshot);
        fragment.sequences.get(seen).map(|&sequence| (start, fragment, sequence))
    }

    /// All of them, in the order in which a table is given them.
    pub(super) fn iter(&self) -> impl Iterator<Item = RangeTombstone> + '_ {
        self.fragments.iter().flat_map(|(start, fragment)| {
            fragment.sequences.iter().map(|&sequence| RangeTombstone {
                start: start.clone(),
                end: fragment.end.clone(),
                sequence,
            })
        })
    }
}
