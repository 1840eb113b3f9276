//! Sources rewritten into tables.

use std::vec::IntoIter;

use woodchuck_io::Disk;

use super::cuts::{Cuts, Overlap};
use super::fragments::{Fragment, fragments, over};
use super::retention::{Remaining, Retention, Versions};
use crate::error::StorageError;
use crate::limits::{KEY_BYTES, RANGE_TOMBSTONE_BYTES};
use crate::scan::Source;
use crate::scan::merging::MergingCursor;
use crate::{Entry, Finished, RangeTombstone, TableMetadata, TableWriter};

/// What is anywhere but in the sources that are rewritten, and older than they are.
pub trait Older {
    /// Whether there may be entries, or range tombstones, of keys from `start` up to, not
    /// including, `end`. `false` is certain.
    fn may_have(&self, start: &[u8], end: &[u8]) -> bool;
}

/// Where tables go.
#[expect(async_fn_in_trait, reason = "a shard's futures stay on its thread")]
pub trait Output {
    /// Where they are written.
    type Disk: Disk;

    /// Begins a table.
    async fn begin(&mut self) -> Result<TableWriter<Self::Disk>, StorageError>;

    /// Is told of so many bytes that were read of sources. Waits until more may be.
    async fn pace(&mut self, bytes: usize);
}

/// A table that was made.
#[derive(Clone, Debug)]
pub struct Produced {
    /// The table.
    pub finished: Finished,
    /// The start of its first range tombstone, and the end of its last, if it has any.
    pub deleted: Option<(Vec<u8>, Vec<u8>)>,
}

impl Produced {
    /// What the manifest is told of it.
    #[must_use]
    pub fn metadata(&self, level: u8, run: u64) -> TableMetadata {
        let deleted = self.deleted.as_ref().map(|(start, end)| (start.as_slice(), end.as_slice()));
        TableMetadata::of(&self.finished, level, run, deleted)
    }
}

/// Rewrites sources, which together hold `tombstones` besides their entries, into tables that end
/// where `cuts` says, each durable, in the order of keys, without a key in common. What nobody can
/// see is left out; so there may be no table at all.
///
/// # Errors
/// Those of reading and writing. What was written until then is of no use, and is to be removed;
/// the sources are as they were.
pub async fn rewrite<S: Source, O: Output>(
    sources: Vec<S>,
    tombstones: &[RangeTombstone],
    retention: Retention<'_>,
    older: &impl Older,
    output: &mut O,
    cuts: Cuts<'_>,
) -> Result<Vec<Produced>, StorageError> {
    let mut merging = MergingCursor::new(sources);
    let hiding = fragments(tombstones);
    let mut tables = Tables {
        retention,
        older,
        output,
        table_bytes: cuts.table_bytes,
        overlap: Overlap::of(cuts),
        ahead: hiding.clone().into_iter(),
        current: None,
        writer: None,
        pending: Vec::new(),
        pending_bytes: 0,
        has_keys: false,
        last_key: Vec::new(),
        produced: Vec::new(),
    };
    tables.current = tables.ahead.next();
    merging.seek(&[], u64::MAX).await?;
    while let Some(entry) = merging.entry() {
        let key = entry.user_key.to_vec();
        let is_last = !older.may_have(&key, &successor(&key));
        let over = over(&hiding, &key);
        let (mut versions, mut bytes) = (Versions::of(&key), 0);
        while let Some(entry) = merging.entry()
            && entry.user_key == key
        {
            let stripe_end = retention.stripe_end(entry.sequence);
            let deleted_below = over.and_then(|over| {
                over.sequences.iter().copied().find(|&sequence| sequence <= stripe_end)
            });
            bytes += key.len() + entry.value.len();
            let value = merging.value().unwrap_or_default();
            versions.add(&retention, &entry, value, deleted_below.unwrap_or(0), is_last);
            merging.advance().await?;
        }
        let remaining = versions.finish(&retention, is_last);
        if !remaining.is_empty() {
            tables.add(&key, &remaining).await?;
        }
        tables.output.pace(bytes).await;
    }
    tables.finish().await
}

/// The next key that there can be.
fn successor(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// The tables that are made, one after the other.
struct Tables<'a, L, O: Output> {
    retention: Retention<'a>,
    older: &'a L,
    output: &'a mut O,
    table_bytes: u64,
    /// What this table lies over.
    overlap: Overlap<'a>,
    /// Fragments behind the one that is current.
    ahead: IntoIter<Fragment>,
    /// The first fragment that is not pending as a whole.
    current: Option<Fragment>,
    writer: Option<TableWriter<O::Disk>>,
    /// Range tombstones of this table, which are added when it ends.
    pending: Vec<Fragment>,
    pending_bytes: usize,
    /// Whether this table has entries, and the last key of them.
    has_keys: bool,
    last_key: Vec<u8>,
    produced: Vec<Produced>,
}

impl<L: Older, O: Output> Tables<'_, L, O> {
    /// Adds what remains of a key, behind the others.
    async fn add(&mut self, key: &[u8], remaining: &[Remaining]) -> Result<(), StorageError> {
        while self.current.as_ref().is_some_and(|current| current.end.as_slice() <= key) {
            self.take_current().await?;
        }
        let is_wide = self.overlap.is_too_much_with(key);
        let ends = |writer: &TableWriter<O::Disk>| {
            is_wide || writer.bytes() >= self.table_bytes || writer.is_almost_full()
        };
        if self.writer.as_ref().is_some_and(ends) {
            if let Some(current) = &mut self.current
                && current.start.as_slice() < key
            {
                let front = Fragment { end: key.to_vec(), ..current.clone() };
                current.start = key.to_vec();
                self.put_aside(front);
            }
            self.end_table().await?;
        }
        if self.writer.is_none() {
            self.writer = Some(self.output.begin().await?);
            self.overlap.begin_with(key);
        }
        let writer = self.writer.as_mut().expect("it was begun");
        for Remaining { sequence, kind, expires_at_ms, value } in remaining {
            let (sequence, kind, expires_at_ms) = (*sequence, *kind, *expires_at_ms);
            writer.add(&Entry { user_key: key, sequence, kind, expires_at_ms, value }).await?;
        }
        self.has_keys = true;
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        Ok(())
    }

    /// Ends the last table.
    async fn finish(mut self) -> Result<Vec<Produced>, StorageError> {
        while self.current.is_some() {
            self.take_current().await?;
        }
        self.end_table().await?;
        Ok(self.produced)
    }

    /// Takes the current fragment as a whole; ends the table in front of it, or in it, if the table
    /// would have too many.
    async fn take_current(&mut self) -> Result<(), StorageError> {
        let Some(mut current) = self.current.take() else { return Ok(()) };
        self.current = self.ahead.next();
        if self.pending_bytes + bytes_of(&current) > RANGE_TOMBSTONE_BYTES / 2 {
            // Not in front of an entry that the table has.
            let behind = self.has_keys.then(|| successor(&self.last_key));
            let cut = behind.into_iter().chain([current.start.clone()]).max();
            let cut = cut.unwrap_or_default();
            // A key that is as long as a key may be has no next one where a range could end.
            if cut < current.end && cut.len() <= KEY_BYTES {
                if current.start < cut {
                    self.put_aside(Fragment { end: cut.clone(), ..current.clone() });
                }
                self.end_table().await?;
                current.start = cut;
            }
        }
        self.put_aside(current);
        Ok(())
    }

    /// Notes what remains of range tombstones for the end of the table.
    fn put_aside(&mut self, mut fragment: Fragment) {
        let retention = self.retention;
        // Newest first: of each stripe the first remains.
        fragment.sequences.dedup_by_key(|sequence| retention.stripe(*sequence));
        if fragment.sequences.last().is_some_and(|&oldest| retention.stripe(oldest) == 0)
            && !self.older.may_have(&fragment.start, &fragment.end)
        {
            fragment.sequences.pop();
        }
        if !fragment.sequences.is_empty() {
            self.pending_bytes += bytes_of(&fragment);
            self.pending.push(fragment);
        }
    }

    /// Makes the table durable, if there is anything to be in it.
    async fn end_table(&mut self) -> Result<(), StorageError> {
        if self.writer.is_none() && !self.pending.is_empty() {
            self.writer = Some(self.output.begin().await?);
        }
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        for Fragment { start, end, sequences } in &self.pending {
            for &sequence in sequences {
                writer.add_range_tombstone(start, end, sequence)?;
            }
        }
        let first = self.pending.first().map(|fragment| fragment.start.clone());
        let last = self.pending.last().map(|fragment| fragment.end.clone());
        (self.pending, self.pending_bytes) = (Vec::new(), 0);
        self.has_keys = false;
        let finished = writer.finish().await?;
        self.produced.push(Produced { finished, deleted: first.zip(last) });
        Ok(())
    }
}

/// Bytes of a fragment among a table's range tombstones.
fn bytes_of(fragment: &Fragment) -> usize {
    fragment.sequences.len() * (fragment.start.len() + fragment.end.len() + 32)
}
