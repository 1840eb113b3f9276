//! One walk over the tables of a run.

use std::rc::Rc;

use bytes::Bytes;
use woodchuck_io::Disk;

use super::source::Source;
use crate::error::StorageError;
use crate::tables::Tables;
use crate::{Bounds, Cursor, Entry, RangeTombstone, Run};

/// Walks over the entries of the tables of a run, which do not overlap: so one of them is open at a
/// time, and none that is out of bounds.
///
/// It starts nowhere. A move that fails, or is dropped half done, leaves it nowhere.
pub struct RunCursor<D: Disk> {
    run: Rc<Run>,
    tables: Tables<D>,
    bounds: Bounds,
    /// The number of the table in the run, and where it stands in it.
    at: Option<(usize, Cursor<D::File>)>,
    newest_sequence: u64,
    has_range_tombstones: bool,
}

impl<D: Disk> RunCursor<D> {
    /// A cursor that sees these keys.
    #[must_use]
    pub fn new(run: Rc<Run>, tables: Tables<D>, bounds: Bounds) -> Self {
        let newest_sequence = run.tables().iter().map(|table| table.largest_sequence).max();
        let newest_sequence = newest_sequence.unwrap_or(0);
        let has_range_tombstones = run.tables().iter().any(|table| table.range_tombstones > 0);
        Self { run, tables, bounds, at: None, newest_sequence, has_range_tombstones }
    }

    async fn open(&self, number: usize) -> Result<Cursor<D::File>, StorageError> {
        let table = &self.run.tables()[number];
        let table = self.tables.table(table.keyspace, table.number).await?;
        Ok(table.cursor(self.bounds.clone()))
    }

    /// Goes to the first entry of the tables from `number` on.
    async fn enter_forwards(&mut self, number: usize) -> Result<(), StorageError> {
        for number in number..self.run.tables().len() {
            let first = &self.run.tables()[number].smallest_key;
            if self.bounds.upper().is_some_and(|upper| upper <= first.as_slice()) {
                return Ok(());
            }
            let mut cursor = self.open(number).await?;
            cursor.seek_to_first().await?;
            if cursor.entry().is_some() {
                self.at = Some((number, cursor));
                return Ok(());
            }
        }
        Ok(())
    }

    /// Goes to the last entry of the tables in front of `behind`.
    async fn enter_backwards(&mut self, behind: usize) -> Result<(), StorageError> {
        for number in (0..behind).rev() {
            let table = &self.run.tables()[number];
            if self.bounds.lower().is_some_and(|lower| table.is_in_front_of(lower)) {
                return Ok(());
            }
            let mut cursor = self.open(number).await?;
            cursor.seek_to_last().await?;
            if cursor.entry().is_some() {
                self.at = Some((number, cursor));
                return Ok(());
            }
        }
        Ok(())
    }
}

impl<D: Disk> Source for RunCursor<D> {
    fn entry(&self) -> Option<Entry<'_>> {
        self.at.as_ref()?.1.entry()
    }

    fn value(&self) -> Option<Bytes> {
        self.at.as_ref()?.1.value()
    }

    fn newest_sequence(&self) -> u64 {
        self.newest_sequence
    }

    async fn seek(&mut self, user_key: &[u8], snapshot: u64) -> Result<(), StorageError> {
        let at = self.at.take();
        let lower = self.bounds.lower().filter(|&lower| lower > user_key);
        let key = lower.unwrap_or(user_key);
        let tables = self.run.tables();
        let number = tables.partition_point(|table| table.is_in_front_of(key));
        let Some(table) = tables.get(number) else { return Ok(()) };
        if self.bounds.upper().is_some_and(|upper| upper <= table.smallest_key.as_slice()) {
            return Ok(());
        }
        let mut cursor = match at {
            Some((last, cursor)) if last == number => cursor,
            _ => self.open(number).await?,
        };
        cursor.seek(user_key, snapshot).await?;
        if cursor.entry().is_some() {
            self.at = Some((number, cursor));
            return Ok(());
        }
        self.enter_forwards(number + 1).await
    }

    async fn seek_before(&mut self, user_key: &[u8]) -> Result<(), StorageError> {
        let at = self.at.take();
        let upper = self.bounds.upper().filter(|&upper| upper < user_key);
        let key = upper.unwrap_or(user_key);
        let tables = self.run.tables();
        let behind = tables.partition_point(|table| table.smallest_key.as_slice() < key);
        let Some(number) = behind.checked_sub(1) else { return Ok(()) };
        if self.bounds.lower().is_some_and(|lower| tables[number].is_in_front_of(lower)) {
            return Ok(());
        }
        let mut cursor = match at {
            Some((last, cursor)) if last == number => cursor,
            _ => self.open(number).await?,
        };
        cursor.seek_before(user_key).await?;
        if cursor.entry().is_some() {
            self.at = Some((number, cursor));
            return Ok(());
        }
        self.enter_backwards(number).await
    }

    async fn seek_to_last(&mut self) -> Result<(), StorageError> {
        self.at = None;
        match self.bounds.upper().map(<[u8]>::to_vec) {
            Some(upper) => self.seek_before(&upper).await,
            None => self.enter_backwards(self.run.tables().len()).await,
        }
    }

    async fn next(&mut self) -> Result<(), StorageError> {
        let Some((number, mut cursor)) = self.at.take() else { return Ok(()) };
        cursor.next().await?;
        if cursor.entry().is_some() {
            self.at = Some((number, cursor));
            return Ok(());
        }
        self.enter_forwards(number + 1).await
    }

    async fn prev(&mut self) -> Result<(), StorageError> {
        let Some((number, mut cursor)) = self.at.take() else { return Ok(()) };
        cursor.prev().await?;
        if cursor.entry().is_some() {
            self.at = Some((number, cursor));
            return Ok(());
        }
        self.enter_backwards(number).await
    }

    fn has_range_tombstones(&self) -> bool {
        self.has_range_tombstones
    }

    async fn range_tombstone_over(
        &mut self,
        user_key: &[u8],
        snapshot: u64,
    ) -> Result<Option<RangeTombstone>, StorageError> {
        let table = self.run.table_of(user_key).filter(|table| table.range_tombstones > 0);
        let Some(table) = table else { return Ok(None) };
        let table = self.tables.table(table.keyspace, table.number).await?;
        Ok(table.range_tombstones().newest_range_over(user_key, snapshot))
    }
}
