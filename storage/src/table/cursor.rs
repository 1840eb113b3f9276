//! A cursor: the entries of a table, in order, both ways.

use std::rc::Rc;

use bytes::Bytes;
use woodchuck_io::File;

use super::index::Index;
use super::read_ahead::ReadAhead;
use super::reader::Table;
use crate::Entry;
use crate::block::{Block, Content};
use crate::error::StorageError;
use crate::key::{InternalKey, Version};

/// Which user keys a cursor sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    lower: Option<Vec<u8>>,
    upper: Option<Vec<u8>>,
    prefix: Option<Vec<u8>>,
}

impl Bounds {
    /// All keys.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Keys from `lower` up to, not including, `upper`; `None` is no bound.
    #[must_use]
    pub fn range(lower: Option<&[u8]>, upper: Option<&[u8]>) -> Self {
        Self { lower: lower.map(<[u8]>::to_vec), upper: upper.map(<[u8]>::to_vec), prefix: None }
    }

    /// Keys that begin with `prefix`. A filter of prefixes may spare reads.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Self {
        // The next key that does not begin so: the last byte that can grow, grown.
        let upper = prefix.iter().rposition(|&byte| byte < u8::MAX).map(|last| {
            let mut upper = prefix[..=last].to_vec();
            upper[last] += 1;
            upper
        });
        Self { lower: Some(prefix.to_vec()), upper, prefix: Some(prefix.to_vec()) }
    }

    pub(crate) fn lower(&self) -> Option<&[u8]> {
        self.lower.as_deref()
    }

    pub(crate) fn upper(&self) -> Option<&[u8]> {
        self.upper.as_deref()
    }

    pub(crate) fn has(&self, user_key: &[u8]) -> bool {
        self.lower.as_deref().is_none_or(|lower| lower <= user_key)
            && self.upper.as_deref().is_none_or(|upper| user_key < upper)
    }
}

/// Where a cursor stands.
struct Position {
    partition: usize,
    index: Rc<Index>,
    /// The block's number in its partition.
    number: usize,
    block: Block,
    /// The entry's number in its block.
    at: usize,
}

/// Walks over the entries of a table: every version of every key, also deletions, in the order of
/// user keys, newer commits first. It starts nowhere; each of the seeks puts it somewhere. When it
/// leaves its bounds, it stands nowhere again.
///
/// If a move fails, the cursor stands nowhere; a seek past the damage goes on behind it. A move
/// that is dropped half done leaves it nowhere, too.
pub struct Cursor<F> {
    table: Table<F>,
    bounds: Bounds,
    position: Option<Position>,
    /// The user key where it stands, behind memory that stays.
    user_key: Vec<u8>,
    content: Option<Content>,
    read_ahead: ReadAhead,
    /// Data blocks that were entered one behind the other, forwards.
    in_sequence: u32,
}

impl<F: File> Table<F> {
    /// A cursor that sees these keys.
    #[must_use]
    pub fn cursor(&self, bounds: Bounds) -> Cursor<F> {
        Cursor {
            table: self.clone(),
            bounds,
            position: None,
            user_key: Vec::new(),
            content: None,
            read_ahead: ReadAhead::default(),
            in_sequence: 0,
        }
    }
}

impl<F: File> Cursor<F> {
    pub(crate) const fn table(&self) -> &Table<F> {
        &self.table
    }

    /// The entry where the cursor stands.
    #[must_use]
    pub fn entry(&self) -> Option<Entry<'_>> {
        let (position, content) = (self.position.as_ref()?, self.content.as_ref()?);
        Some(Entry {
            user_key: &self.user_key,
            sequence: content.sequence,
            kind: content.kind,
            expires_at_ms: content.expires_at_ms,
            value: &position.block.payload()[content.value.clone()],
        })
    }

    /// The value where the cursor stands. It shares memory with what was read, and keeps that
    /// alive: a block, or as much as was read ahead.
    #[must_use]
    pub fn value(&self) -> Option<Bytes> {
        let (position, content) = (self.position.as_ref()?, self.content.as_ref()?);
        Some(position.block.payload().slice(content.value.clone()))
    }

    /// Goes to the first entry.
    ///
    /// # Errors
    /// `Corrupt`, `Io`.
    pub async fn seek_to_first(&mut self) -> Result<(), StorageError> {
        self.seek(&[], u64::MAX).await
    }

    /// Goes to the last entry.
    ///
    /// # Errors
    /// `Corrupt`, `Io`.
    pub async fn seek_to_last(&mut self) -> Result<(), StorageError> {
        match self.bounds.upper.clone() {
            Some(upper) => self.seek_in_front(&upper, Version::FIRST).await,
            None => {
                self.leave();
                let Some(last) = self.table.top().len().checked_sub(1) else { return Ok(()) };
                let position = self.enter_from_behind(last).await?;
                self.stand(position);
                Ok(())
            }
        }
    }

    /// Goes to the first entry of this key that a snapshot sees, or of a later key.
    ///
    /// # Errors
    /// `Corrupt`, `Io`.
    pub async fn seek(&mut self, user_key: &[u8], snapshot: u64) -> Result<(), StorageError> {
        self.leave();
        if let Some(prefix) = &self.bounds.prefix
            && !self.table.may_have_prefix(prefix).await?
        {
            return Ok(());
        }
        let lower = self.bounds.lower.clone().unwrap_or_default();
        let bound = if lower.as_slice() > user_key {
            InternalKey { user_key: &lower, version: Version::FIRST }
        } else {
            InternalKey { user_key, version: Version::seen_by(snapshot) }
        };
        let partition = self.table.top().lower_bound(bound);
        if partition == self.table.top().len() {
            return Ok(());
        }
        let index = self.table.partition(partition).await?;
        let number = index.lower_bound(bound);
        let block = self.table.data(partition, &index, number).await?;
        let at = block.lower_bound(bound);
        let is_behind = at == block.len();
        let position = Position { partition, index, number, block, at };
        if is_behind {
            // The bound stands between the block's last entry and its separator.
            return self.enter_next(position).await;
        }
        self.stand(position);
        Ok(())
    }

    /// Goes to the last entry of this key or an earlier one: the oldest version.
    ///
    /// # Errors
    /// `Corrupt`, `Io`.
    pub async fn seek_for_prev(&mut self, user_key: &[u8]) -> Result<(), StorageError> {
        match self.bounds.upper.clone() {
            Some(upper) if upper.as_slice() <= user_key => {
                self.seek_in_front(&upper, Version::FIRST).await
            }
            _ => self.seek_in_front(user_key, Version::LAST).await,
        }
    }

    /// Goes to the last entry of the keys in front of this one.
    ///
    /// # Errors
    /// `Corrupt`, `Io`.
    pub async fn seek_before(&mut self, user_key: &[u8]) -> Result<(), StorageError> {
        match self.bounds.upper.clone() {
            Some(upper) if upper.as_slice() <= user_key => {
                self.seek_in_front(&upper, Version::FIRST).await
            }
            _ => self.seek_in_front(user_key, Version::FIRST).await,
        }
    }

    /// Goes to the last entry in front of an internal key.
    async fn seek_in_front(
        &mut self,
        user_key: &[u8],
        version: Version,
    ) -> Result<(), StorageError> {
        self.leave();
        let bound = InternalKey { user_key, version };
        let partitions = self.table.top().len();
        let partition = self.table.top().lower_bound(bound);
        if partition == partitions {
            let Some(last) = partitions.checked_sub(1) else { return Ok(()) };
            let position = self.enter_from_behind(last).await?;
            self.stand(position);
            return Ok(());
        }
        let index = self.table.partition(partition).await?;
        let number = index.lower_bound(bound);
        let block = self.table.data(partition, &index, number).await?;
        let at = block.lower_bound(bound);
        let position = Position { partition, index, number, block, at };
        self.step_back(position).await
    }

    /// Goes to the next entry. Nothing happens if the cursor stands nowhere.
    ///
    /// # Errors
    /// `Corrupt`, `Io`.
    pub async fn next(&mut self) -> Result<(), StorageError> {
        if let Some(position) = &mut self.position
            && position.at + 1 < position.block.len()
        {
            position.at += 1;
            let content = position.block.put_key(position.at, &mut self.user_key);
            if self.bounds.has(&self.user_key) {
                self.content = Some(content);
            } else {
                self.leave();
            }
            return Ok(());
        }
        let Some(position) = self.position.take() else { return Ok(()) };
        self.content = None;
        self.enter_next(position).await
    }

    /// Goes to the entry before. Nothing happens if the cursor stands nowhere.
    ///
    /// # Errors
    /// `Corrupt`, `Io`.
    pub async fn prev(&mut self) -> Result<(), StorageError> {
        let Some(position) = self.position.take() else { return Ok(()) };
        self.content = None;
        self.in_sequence = 0;
        self.step_back(position).await
    }

    async fn step_back(&mut self, mut position: Position) -> Result<(), StorageError> {
        if let Some(at) = position.at.checked_sub(1) {
            position.at = at;
        } else if let Some(number) = position.number.checked_sub(1) {
            position.number = number;
            let (partition, index) = (position.partition, &position.index);
            position.block = self.table.data(partition, index, number).await?;
            position.at = position.block.len() - 1;
        } else if let Some(partition) = position.partition.checked_sub(1) {
            position = self.enter_from_behind(partition).await?;
        } else {
            return Ok(());
        }
        self.stand(position);
        Ok(())
    }

    /// The last entry of a partition.
    async fn enter_from_behind(&self, partition: usize) -> Result<Position, StorageError> {
        let index = self.table.partition(partition).await?;
        let number = index.len() - 1;
        let block = self.table.data(partition, &index, number).await?;
        let at = block.len() - 1;
        Ok(Position { partition, index, number, block, at })
    }

    /// The first entry of the block behind this one.
    async fn enter_next(&mut self, mut position: Position) -> Result<(), StorageError> {
        position.number += 1;
        if position.number == position.index.len() {
            position.partition += 1;
            if position.partition == self.table.top().len() {
                return Ok(());
            }
            position.index = self.table.partition(position.partition).await?;
            position.number = 0;
        }
        self.in_sequence = self.in_sequence.saturating_add(1);
        position.block = self.next_block(&position).await?;
        position.at = 0;
        self.stand(position);
        Ok(())
    }

    /// The block of a position, with those behind it read ahead if the cursor goes on and on.
    async fn next_block(&mut self, position: &Position) -> Result<Block, StorageError> {
        let Position { partition, index, number, .. } = position;
        if self.in_sequence < 2 {
            return self.table.data(*partition, index, *number).await;
        }
        if let Some(block) = self.table.cached_data(index.place(*number)) {
            return Ok(block);
        }
        match self.read_ahead.block(&self.table, index, *number).await {
            Some(bytes) => self.table.open_data(*partition, index, *number, &bytes),
            None => self.table.data(*partition, index, *number).await,
        }
    }

    /// Stands nowhere.
    fn leave(&mut self) {
        self.position = None;
        self.content = None;
        self.in_sequence = 0;
        self.read_ahead.restart();
    }

    /// Stands here, if the bounds allow it.
    fn stand(&mut self, position: Position) {
        self.user_key.clear();
        self.user_key.extend_from_slice(position.block.prefix());
        let content = position.block.put_key(position.at, &mut self.user_key);
        if self.bounds.has(&self.user_key) {
            (self.position, self.content) = (Some(position), Some(content));
        }
    }
}
