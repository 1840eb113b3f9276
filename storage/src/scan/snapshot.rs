//! What a snapshot sees, key by key.

use std::rc::Rc;

use bytes::Bytes;

use super::answer::Answer;
use super::merging::MergingCursor;
use super::operator::MergeOperator;
use super::source::Source;
use crate::error::StorageError;
use crate::limits::STEPS_BEFORE_SEEK;

/// Walks over the keys that have a value in a snapshot, in their order, both ways.
///
/// It starts nowhere; each of the seeks puts it somewhere, or nowhere if there is no such key. A move
/// that fails, or is dropped half done, leaves it nowhere; a seek past the damage goes on behind it.
pub struct SnapshotCursor<S> {
    merging: MergingCursor<S>,
    snapshot: u64,
    now_ms: u64,
    operator: Option<Rc<dyn MergeOperator>>,
    /// The key where it stands, or which it looks at.
    key: Vec<u8>,
    /// There exactly if it stands somewhere.
    value: Option<Bytes>,
    /// The merging cursor stands in front of the key, at the entry before, and not behind it.
    backwards: bool,
}

impl<S: Source> SnapshotCursor<S> {
    /// A cursor over what commits up to `snapshot` have left in these sources, at a time in
    /// milliseconds since 1970. Two sources must not hold the same entry.
    #[must_use]
    pub fn new(
        sources: Vec<S>,
        snapshot: u64,
        now_ms: u64,
        operator: Option<Rc<dyn MergeOperator>>,
    ) -> Self {
        let merging = MergingCursor::new(sources);
        let (key, value) = (Vec::new(), None);
        Self { merging, snapshot, now_ms, operator, key, value, backwards: false }
    }

    /// The key where it stands.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.value.as_ref().map(|_| self.key.as_slice())
    }

    /// The value where it stands. It may keep more memory alive than its own.
    #[must_use]
    pub const fn value(&self) -> Option<&Bytes> {
        self.value.as_ref()
    }

    /// Goes to the first key.
    ///
    /// # Errors
    /// `Corrupt`, `Io`, `Value`.
    pub async fn seek_to_first(&mut self) -> Result<(), StorageError> {
        self.seek(&[]).await
    }

    /// Goes to the last key.
    ///
    /// # Errors
    /// `Corrupt`, `Io`, `Value`.
    pub async fn seek_to_last(&mut self) -> Result<(), StorageError> {
        self.value = None;
        self.merging.seek_to_last().await?;
        self.find_backwards().await
    }

    /// Goes to this key, or else to the next.
    ///
    /// # Errors
    /// `Corrupt`, `Io`, `Value`.
    pub async fn seek(&mut self, key: &[u8]) -> Result<(), StorageError> {
        self.value = None;
        self.merging.seek(key, self.snapshot).await?;
        self.find_forwards().await
    }

    /// Goes to this key, or else to the one before.
    ///
    /// # Errors
    /// `Corrupt`, `Io`, `Value`.
    pub async fn seek_for_prev(&mut self, key: &[u8]) -> Result<(), StorageError> {
        self.value = None;
        // The next key that there can be. It may be longer than a key is, which a bound may be.
        let behind = [key, &[0]].concat();
        self.merging.seek_before(&behind).await?;
        self.find_backwards().await
    }

    /// Goes to the next key. Nothing happens if it stands nowhere.
    ///
    /// # Errors
    /// `Corrupt`, `Io`, `Value`.
    pub async fn next(&mut self) -> Result<(), StorageError> {
        if self.value.take().is_none() {
            return Ok(());
        }
        if self.backwards {
            self.seek_behind_versions().await?;
        }
        self.find_forwards().await
    }

    /// Goes to the key before. Nothing happens if it stands nowhere.
    ///
    /// # Errors
    /// `Corrupt`, `Io`, `Value`.
    pub async fn prev(&mut self) -> Result<(), StorageError> {
        if self.value.take().is_none() {
            return Ok(());
        }
        if !self.backwards {
            self.merging.seek_before(&self.key).await?;
        }
        self.find_backwards().await
    }

    /// Goes on to the first key that has a value, from the first entry of a key.
    async fn find_forwards(&mut self) -> Result<(), StorageError> {
        self.backwards = false;
        let mut in_vain = 0;
        while let Some(entry) = self.merging.entry() {
            self.key.clear();
            self.key.extend_from_slice(entry.user_key);
            let over = self.merging.range_tombstone_over(&self.key, self.snapshot).await?;
            if in_vain >= STEPS_BEFORE_SEEK
                && let Some(over) = &over
            {
                in_vain = 0;
                self.merging.skip(over).await?;
                // What is first now may be another key.
                continue;
            }
            let deleted_below = over.map_or(0, |over| over.sequence);
            let answer = self.read_forwards(deleted_below).await?;
            if let Some(value) = answer.finish(&self.key, self.operator.as_deref(), true)? {
                self.value = Some(value);
                return Ok(());
            }
            in_vain += 1;
        }
        Ok(())
    }

    /// Goes back to the first key that has a value, from the last entry of a key.
    async fn find_backwards(&mut self) -> Result<(), StorageError> {
        self.backwards = true;
        let mut in_vain = 0;
        while let Some(entry) = self.merging.entry() {
            self.key.clear();
            self.key.extend_from_slice(entry.user_key);
            let over = self.merging.range_tombstone_over(&self.key, self.snapshot).await?;
            if in_vain >= STEPS_BEFORE_SEEK
                && let Some(over) = &over
            {
                in_vain = 0;
                self.merging.skip(over).await?;
                continue;
            }
            let deleted_below = over.map_or(0, |over| over.sequence);
            if let Some(value) = self.read_backwards(deleted_below).await? {
                self.value = Some(value);
                return Ok(());
            }
            in_vain += 1;
        }
        Ok(())
    }

    /// Reads the versions of the key, newest first, and goes behind them.
    async fn read_forwards(&mut self, deleted_below: u64) -> Result<Answer, StorageError> {
        let (mut answer, mut is_known, mut steps) = (Answer::default(), false, 0);
        while let Some(entry) = self.merging.entry()
            && entry.user_key == self.key
        {
            let is_seen = entry.sequence <= self.snapshot;
            if is_seen && !is_known {
                is_known = entry.sequence < deleted_below
                    || answer.add_older(&entry, self.merging.value(), self.now_ms)?;
            }
            steps += 1;
            if steps < STEPS_BEFORE_SEEK || (is_seen && !is_known) {
                self.merging.advance().await?;
            } else if is_known {
                self.seek_behind_versions().await?;
            } else {
                self.merging.seek(&self.key, self.snapshot).await?;
            }
        }
        Ok(answer)
    }

    /// Reads the versions of the key, oldest first, and goes in front of them.
    async fn read_backwards(&mut self, deleted_below: u64) -> Result<Option<Bytes>, StorageError> {
        let (mut answer, mut steps) = (Answer::default(), 0);
        while let Some(entry) = self.merging.entry()
            && entry.user_key == self.key
        {
            if steps == STEPS_BEFORE_SEEK {
                // So many versions: from the newest on, only those have to be read that matter.
                self.merging.seek(&self.key, self.snapshot).await?;
                let answer = self.read_forwards(deleted_below).await?;
                self.merging.seek_before(&self.key).await?;
                return answer.finish(&self.key, self.operator.as_deref(), true);
            }
            steps += 1;
            if (deleted_below..=self.snapshot).contains(&entry.sequence) {
                answer.add_newer(&entry, self.merging.value(), self.now_ms)?;
            }
            self.merging.advance().await?;
        }
        answer.finish(&self.key, self.operator.as_deref(), false)
    }

    /// Goes to the first entry of a later key.
    async fn seek_behind_versions(&mut self) -> Result<(), StorageError> {
        self.key.push(0);
        let moved = self.merging.seek(&self.key, u64::MAX).await;
        self.key.pop();
        moved
    }
}
