//! One walk of several.

use std::mem;

use bytes::Bytes;
use futures_util::future::try_join_all;

use super::source::Source;
use crate::error::StorageError;
use crate::{Entry, RangeTombstone};

/// Walks over the entries of several sources in the order of internal keys. A seek decides which
/// way: after [`seek`](Self::seek) it goes forwards, after the others backwards.
///
/// It starts nowhere. A move that fails, or is dropped half done, leaves it nowhere.
pub(crate) struct MergingCursor<S> {
    sources: Vec<S>,
    /// The sources that stand somewhere, as a binary heap: that which is next is the first. Empty
    /// while a move is under way, so that one that ends early leaves the cursor nowhere.
    heap: Vec<usize>,
    backwards: bool,
    /// The sources that have range tombstones.
    with_tombstones: Vec<usize>,
}

impl<S: Source> MergingCursor<S> {
    /// Two sources must not hold the same entry.
    pub(crate) fn new(sources: Vec<S>) -> Self {
        let numbers = 0..sources.len();
        let with_tombstones =
            numbers.filter(|&number| sources[number].has_range_tombstones()).collect();
        Self { sources, heap: Vec::new(), backwards: false, with_tombstones }
    }

    /// The entry where it stands.
    pub(crate) fn entry(&self) -> Option<Entry<'_>> {
        self.sources[*self.heap.first()?].entry()
    }

    /// The value where it stands, in memory that stays.
    pub(crate) fn value(&self) -> Option<Bytes> {
        self.sources[*self.heap.first()?].value()
    }

    /// Goes to the first entry of this key that a snapshot sees, or of a later key.
    pub(crate) async fn seek(&mut self, key: &[u8], snapshot: u64) -> Result<(), StorageError> {
        self.heap.clear();
        try_join_all(self.sources.iter_mut().map(|source| source.seek(key, snapshot))).await?;
        self.stand(false);
        Ok(())
    }

    /// Goes to the last entry of the keys in front of this one.
    pub(crate) async fn seek_before(&mut self, key: &[u8]) -> Result<(), StorageError> {
        self.heap.clear();
        try_join_all(self.sources.iter_mut().map(|source| source.seek_before(key))).await?;
        self.stand(true);
        Ok(())
    }

    /// Goes to the last entry.
    pub(crate) async fn seek_to_last(&mut self) -> Result<(), StorageError> {
        self.heap.clear();
        try_join_all(self.sources.iter_mut().map(Source::seek_to_last)).await?;
        self.stand(true);
        Ok(())
    }

    /// Goes to the entry that comes next, the way it goes. Nothing happens if it stands nowhere.
    pub(crate) async fn advance(&mut self) -> Result<(), StorageError> {
        let Some(&first) = self.heap.first() else { return Ok(()) };
        let mut heap = mem::take(&mut self.heap);
        let source = &mut self.sources[first];
        if self.backwards {
            source.prev().await?;
        } else {
            source.next().await?;
        }
        if source.entry().is_none() {
            heap.swap_remove(0);
        }
        self.heap = heap;
        self.sift_down(0);
        Ok(())
    }

    /// Goes past a range tombstone, the way it goes, in those sources that are older than it as a
    /// whole.
    pub(crate) async fn skip(&mut self, over: &RangeTombstone) -> Result<(), StorageError> {
        let backwards = self.backwards;
        let standing = mem::take(&mut self.heap);
        let older = self.sources.iter_mut().enumerate().filter(|(number, source)| {
            source.newest_sequence() < over.sequence && standing.contains(number)
        });
        let moves = older.map(|(_, source)| async move {
            let is_under = source.entry().is_some_and(|entry| {
                over.start.as_slice() <= entry.user_key && entry.user_key < &over.end[..]
            });
            match (is_under, backwards) {
                (false, _) => Ok(()),
                (true, false) => source.seek(&over.end, u64::MAX).await,
                (true, true) => source.seek_before(&over.start).await,
            }
        });
        try_join_all(moves).await?;
        self.stand(backwards);
        Ok(())
    }

    /// The newest range tombstone over a key among those of commits up to `snapshot`.
    pub(crate) async fn range_tombstone_over(
        &mut self,
        key: &[u8],
        snapshot: u64,
    ) -> Result<Option<RangeTombstone>, StorageError> {
        let mut newest: Option<RangeTombstone> = None;
        for &number in &self.with_tombstones {
            let found = self.sources[number].range_tombstone_over(key, snapshot).await?;
            if found.as_ref().map(|found| found.sequence)
                > newest.as_ref().map(|newest| newest.sequence)
            {
                newest = found;
            }
        }
        Ok(newest)
    }

    /// Makes the heap of the sources that stand somewhere.
    fn stand(&mut self, backwards: bool) {
        self.backwards = backwards;
        let sources = &self.sources;
        let standing = (0..sources.len()).filter(|&number| sources[number].entry().is_some());
        self.heap.clear();
        self.heap.extend(standing);
        for at in (0..self.heap.len() / 2).rev() {
            self.sift_down(at);
        }
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let children = 2 * at + 1..(2 * at + 3).min(self.heap.len());
            let Some(first) = children
                .reduce(|one, other| if self.comes_first(other, one) { other } else { one })
            else {
                return;
            };
            if !self.comes_first(first, at) {
                return;
            }
            self.heap.swap(at, first);
            at = first;
        }
    }

    /// Whether the source at one place of the heap comes before that at another.
    fn comes_first(&self, one: usize, other: usize) -> bool {
        let key = |at: usize| {
            self.sources[self.heap[at]].entry().map(|entry| {
                let (user_key, version) = (entry.user_key, entry.internal_key().version);
                (user_key, version)
            })
        };
        if self.backwards { key(one) > key(other) } else { key(one) < key(other) }
    }
}
