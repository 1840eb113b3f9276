//! What one key has.

use bytes::Bytes;
use woodchuck_io::Disk;

use super::answer::Answer;
use super::operator::MergeOperator;
use super::source::Source;
use crate::error::StorageError;
use crate::tables::Tables;
use crate::{Bounds, Entry, Found, Keyspace, Kind, Memtable};

/// What a reader may see.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Commits up to this one are seen.
    pub snapshot: u64,
    /// Values that end at this time, or ended before, are not seen. In milliseconds since 1970.
    pub now_ms: u64,
    /// The keyspace's.
    pub operator: Option<&'a dyn MergeOperator>,
}

/// The value of a key. It looks into memtables, given the newest first, and then into the tables of
/// the keyspace, from the newest on, and no further than to what decides.
///
/// # Errors
/// `Corrupt`, `Io` if a table that had to be looked into cannot be read; `Value`.
pub async fn get<D: Disk>(
    user_key: &[u8],
    view: View<'_>,
    memtables: impl IntoIterator<Item = &Memtable>,
    keyspace: &Keyspace,
    tables: &Tables<D>,
) -> Result<Option<Bytes>, StorageError> {
    let mut point = Point { user_key, view, answer: Answer::default() };
    for memtable in memtables {
        let found = memtable.get(user_key, view.snapshot);
        let over = memtable.newest_over(user_key, view.snapshot);
        if point.read(found, over, || memtable.cursor(Bounds::all())).await? {
            return point.finish();
        }
    }
    for run in keyspace.levels().iter().flat_map(|level| level.runs()) {
        let Some(metadata) = run.table_of(user_key) else { continue };
        let table = tables.table(metadata.keyspace, metadata.number).await?;
        let found = table.get(user_key, view.snapshot).await?;
        let over = table.range_tombstones().newest_over(user_key, view.snapshot);
        if point.read(found, over, || table.cursor(Bounds::all())).await? {
            break;
        }
    }
    point.finish()
}

struct Point<'a> {
    user_key: &'a [u8],
    view: View<'a>,
    answer: Answer,
}

impl Point<'_> {
    /// Takes what one source has: its newest entry, the newest range tombstone over the key, and a
    /// cursor for more. Returns whether nothing older matters.
    async fn read<S: Source>(
        &mut self,
        found: Option<Found>,
        over: Option<u64>,
        cursor: impl FnOnce() -> S,
    ) -> Result<bool, StorageError> {
        let View { snapshot, now_ms, .. } = self.view;
        let Some(found) = found else { return Ok(over.is_some()) };
        let Found { sequence, kind, expires_at_ms, value } = found;
        let deleted_below = over.unwrap_or(0);
        if sequence < deleted_below {
            return Ok(true);
        }
        if kind != Kind::Merge {
            let user_key = self.user_key;
            let entry = Entry { user_key, sequence, kind, expires_at_ms, value: &[] };
            return self.answer.add_older(&entry, Some(value), now_ms);
        }
        // There may be more operands, and what they apply to.
        let mut cursor = cursor();
        cursor.seek(self.user_key, snapshot).await?;
        while let Some(entry) = cursor.entry()
            && entry.user_key == self.user_key
            && entry.sequence >= deleted_below
        {
            if self.answer.add_older(&entry, cursor.value(), now_ms)? {
                return Ok(true);
            }
            cursor.next().await?;
        }
        Ok(over.is_some())
    }

    fn finish(self) -> Result<Option<Bytes>, StorageError> {
        self.answer.finish(self.user_key, self.view.operator, true)
    }
}
