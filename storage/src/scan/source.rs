//! What a merging cursor walks over.

use bytes::Bytes;
use woodchuck_io::File;

use crate::error::StorageError;
use crate::{Cursor, Entry, MemtableCursor, RangeTombstone};

/// A walk over sorted entries, which are all versions of the keys in some bounds.
///
/// It starts nowhere; each of the seeks puts it somewhere, or nowhere if there is no such entry. A
/// move that fails, or is dropped half done, leaves it nowhere.
#[expect(async_fn_in_trait, reason = "a shard's futures stay on its thread")]
pub trait Source {
    /// The entry where it stands.
    fn entry(&self) -> Option<Entry<'_>>;

    /// The value where it stands, in memory that stays.
    fn value(&self) -> Option<Bytes>;

    /// No entry and no range tombstone in it is of a later commit.
    fn newest_sequence(&self) -> u64;

    /// Goes to the first entry of this key that a snapshot sees, or of a later key.
    async fn seek(&mut self, user_key: &[u8], snapshot: u64) -> Result<(), StorageError>;

    /// Goes to the last entry of the keys in front of this one.
    async fn seek_before(&mut self, user_key: &[u8]) -> Result<(), StorageError>;

    /// Goes to the last entry.
    async fn seek_to_last(&mut self) -> Result<(), StorageError>;

    /// Goes to the next entry. Nothing happens if it stands nowhere.
    async fn next(&mut self) -> Result<(), StorageError>;

    /// Goes to the entry before. Nothing happens if it stands nowhere.
    async fn prev(&mut self) -> Result<(), StorageError>;

    /// Whether it has range tombstones.
    fn has_range_tombstones(&self) -> bool;

    /// The newest range tombstone over a key among those of commits up to `snapshot`. It may be
    /// told of with less to the left and right of the key than it has.
    async fn range_tombstone_over(
        &mut self,
        user_key: &[u8],
        snapshot: u64,
    ) -> Result<Option<RangeTombstone>, StorageError>;
}

impl<F: File> Source for Cursor<F> {
    fn entry(&self) -> Option<Entry<'_>> {
        Self::entry(self)
    }

    fn value(&self) -> Option<Bytes> {
        Self::value(self)
    }

    fn newest_sequence(&self) -> u64 {
        self.table().properties().largest_sequence
    }

    async fn seek(&mut self, user_key: &[u8], snapshot: u64) -> Result<(), StorageError> {
        Self::seek(self, user_key, snapshot).await
    }

    async fn seek_before(&mut self, user_key: &[u8]) -> Result<(), StorageError> {
        Self::seek_before(self, user_key).await
    }

    async fn seek_to_last(&mut self) -> Result<(), StorageError> {
        Self::seek_to_last(self).await
    }

    async fn next(&mut self) -> Result<(), StorageError> {
        Self::next(self).await
    }

    async fn prev(&mut self) -> Result<(), StorageError> {
        Self::prev(self).await
    }

    fn has_range_tombstones(&self) -> bool {
        !self.table().range_tombstones().is_empty()
    }

    async fn range_tombstone_over(
        &mut self,
        user_key: &[u8],
        snapshot: u64,
    ) -> Result<Option<RangeTombstone>, StorageError> {
        Ok(self.table().range_tombstones().newest_range_over(user_key, snapshot))
    }
}

impl Source for MemtableCursor {
    fn entry(&self) -> Option<Entry<'_>> {
        Self::entry(self)
    }

    fn value(&self) -> Option<Bytes> {
        Self::value(self)
    }

    fn newest_sequence(&self) -> u64 {
        self.memtable().sequences().map_or(0, |(_, newest)| newest)
    }

    async fn seek(&mut self, user_key: &[u8], snapshot: u64) -> Result<(), StorageError> {
        Self::seek(self, user_key, snapshot);
        Ok(())
    }

    async fn seek_before(&mut self, user_key: &[u8]) -> Result<(), StorageError> {
        Self::seek_before(self, user_key);
        Ok(())
    }

    async fn seek_to_last(&mut self) -> Result<(), StorageError> {
        Self::seek_to_last(self);
        Ok(())
    }

    async fn next(&mut self) -> Result<(), StorageError> {
        Self::next(self);
        Ok(())
    }

    async fn prev(&mut self) -> Result<(), StorageError> {
        Self::prev(self);
        Ok(())
    }

    fn has_range_tombstones(&self) -> bool {
        // Those that come later are of later commits than any snapshot that is read.
        self.memtable().range_tombstone_count() > 0
    }

    async fn range_tombstone_over(
        &mut self,
        user_key: &[u8],
        snapshot: u64,
    ) -> Result<Option<RangeTombstone>, StorageError> {
        Ok(self.memtable().newest_range_over(user_key, snapshot))
    }
}
