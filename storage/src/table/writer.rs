//! Writing a table.
//!
//! The fault model: any write or flush may fail, and the process or the power may at any moment. A
//! file is a table only if its last page is there, and that is written when all in front of it is
//! durable. So whatever a crash leaves, a file that has its last page is whole.
//!
//! # The algorithm
//!
//! 1. Create the file. Write the first page.
//! 2. Add an entry to the data block, unless the block would become larger than it shall be: then
//!    *cut* it first. An entry that is larger than that by itself gets a block of its own.
//! 3. Cutting: compress, seal, and append the block, from the next page on if it would cross more
//!    pages than it needs from here. Put its place and separator into the partition of the index.
//!    If the partition is as large as it shall be, cut that, too: append its filter, then the
//!    partition; put their places into the top-level index.
//! 4. At the end: cut what is left; append range tombstones, properties, top-level index; pad to a
//!    page; wait for all writes; `sync_data`. All that the last page will speak of is durable now.
//! 5. Write the last page; `sync_data`; `sync_directory`. Now the table is durable, and its name.
//!
//! What is held in memory is a block, a partition with what its filter shall know, the top-level
//! index, the range tombstones, and the writes in flight.

use std::path::{Path, PathBuf};

use woodchuck_io::{Disk, OpenMode};

use super::TableId;
use super::ends::{Footer, encode_header};
use super::envelope::{self, BlockKind, Seed};
use super::index::{Index, Place};
use super::output::Output;
use super::properties::Properties;
use crate::block::BlockBuilder;
use crate::compression::{Compressor, Method};
use crate::error::StorageError;
use crate::key::{InternalKey, Kind, Version, separator};
use crate::limits::{
    FILTER_HASHES, KEY_BYTES, PAGE_BYTES, RANGE_TOMBSTONE_BYTES, TABLE_BYTES, TOP_INDEX_BYTES,
    VALUE_BYTES,
};
use crate::options::TableOptions;
use crate::{Entry, filter};

const PAGE: u64 = PAGE_BYTES as u64;

/// Writes one table, from its first entry to its last.
///
/// Nothing of it is a table, and nothing of it need survive a crash, before
/// [`finish`](Self::finish) has returned. If that or anything else fails with [`StorageError::Io`],
/// the table is given up: the writer takes nothing more, and the file is to be removed.
pub struct TableWriter<D: Disk> {
    disk: D,
    id: TableId,
    seed: Seed,
    directory: PathBuf,
    options: TableOptions,
    output: Output<D::File>,
    compressor: Compressor,
    block: BlockBuilder,
    partition: Index,
    top: Index,
    /// What the partition's filter shall know.
    hashes: Vec<u64>,
    /// The prefix that was hashed last in this partition.
    prefix: Option<Vec<u8>>,
    tombstones: BlockBuilder,
    tombstone_bytes: usize,
    /// Start, end and commit of the last range tombstone.
    last_tombstone: Option<(Vec<u8>, Vec<u8>, u64)>,
    properties: Properties,
    last_key: Vec<u8>,
    last_version: Version,
    /// Not while a block is being cut: if that fails, or is dropped half done, the table has a
    /// hole.
    is_whole: bool,
    /// Scratch memory: a payload, a sealed block, a separator.
    payload: Vec<u8>,
    sealed: Vec<u8>,
    separator: Vec<u8>,
}

/// A table that is durable, and its name with it.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Which table.
    pub id: TableId,
    /// Bytes of its file.
    pub file_bytes: u64,
    /// What it says of itself.
    pub properties: Properties,
}

impl<D: Disk> TableWriter<D> {
    /// Creates the file of a table in a directory that is there, and is there for good: nothing is
    /// done for the directory's own name.
    ///
    /// # Errors
    /// `Options`; `Io` if there is such a file, or none can be made.
    pub async fn create(
        disk: &D,
        directory: &Path,
        id: TableId,
        options: TableOptions,
    ) -> Result<Self, StorageError> {
        options.check()?;
        let compressor = Compressor::new(options.compression)?;
        let path = directory.join(id.file_name());
        let file = disk.open(&path, OpenMode::CreateNew).await;
        let file =
            file.map_err(|error| StorageError::io(format!("create {}", path.display()), error))?;
        let mut output = Output::new(file, path, &options);
        output.append(&encode_header(id)).await?;
        Ok(Self {
            disk: disk.clone(),
            id,
            seed: Seed::of(id),
            directory: directory.to_owned(),
            properties: Properties::new(&options),
            options,
            output,
            compressor,
            block: BlockBuilder::default(),
            partition: Index::default(),
            top: Index::default(),
            hashes: Vec::new(),
            prefix: None,
            tombstones: BlockBuilder::default(),
            tombstone_bytes: 0,
            last_tombstone: None,
            last_key: Vec::new(),
            last_version: Version::FIRST,
            is_whole: true,
            payload: Vec::new(),
            sealed: Vec::new(),
            separator: Vec::new(),
        })
    }

    /// Adds an entry behind the others: in the order of user keys, newer commits first, and in one
    /// commit a merge operand first. Waits while as many writes are in flight as may be.
    ///
    /// # Errors
    /// `Refused` if it is out of order, too long, or not such an entry; `Full`; `Abandoned`; `Io`.
    pub async fn add(&mut self, entry: &Entry<'_>) -> Result<(), StorageError> {
        self.check_entry(entry)?;
        let is_first = self.properties.entries == 0;
        if !self.block.is_empty() {
            let bytes = envelope::HEADER_BYTES + self.block.bytes_with(entry);
            if bytes > self.options.block_bytes {
                self.cut_block(Some(entry.internal_key())).await?;
            }
        }
        if self.options.filter_bits_per_key > 0 {
            self.remember(entry.user_key);
        }
        self.block.add(entry);
        self.properties.count(entry);
        if is_first {
            self.properties.smallest_key.extend_from_slice(entry.user_key);
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(entry.user_key);
        self.last_version = entry.internal_key().version;
        Ok(())
    }

    /// Adds a range tombstone of a commit: no older version of a key from `start` up to, not
    /// including, `end` is there. It says nothing of other tables by itself.
    ///
    /// They come in the order of their starts and do not overlap, but that several, with newer
    /// commits first, may have the same start and the same end: who has others cuts them where they
    /// meet. They may come between entries.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_range_tombstone(
        &mut self,
        start: &[u8],
        end: &[u8],
        sequence: u64,
    ) -> Result<(), StorageError> {
        self.check_whole()?;
        check_length("key", start.len(), KEY_BYTES)?;
        check_length("key", end.len(), KEY_BYTES)?;
        if start >= end {
            return Err(StorageError::refused("a range tombstone ends where it starts, or before"));
        }
        if let Some((last_start, last_end, last_sequence)) = &self.last_tombstone {
            let is_same = start == last_start && end == last_end && sequence < *last_sequence;
            if !is_same && start < last_end.as_slice() {
                return Err(StorageError::refused("a range tombstone overlaps the one before"));
            }
        }
        let bytes = self.tombstone_bytes + start.len() + end.len() + 32;
        if bytes > RANGE_TOMBSTONE_BYTES {
            let limit = RANGE_TOMBSTONE_BYTES as u64;
            return Err(StorageError::Full { what: "bytes of range tombstones", limit });
        }
        let kind = Kind::RangeDeletion;
        let entry = Entry { user_key: start, sequence, kind, expires_at_ms: None, value: end };
        self.tombstones.add(&entry);
        self.tombstone_bytes = bytes;
        self.properties.count(&entry);
        self.last_tombstone = Some((start.to_owned(), end.to_owned(), sequence));
        Ok(())
    }

    /// Bytes of the file so far: what was cut, without the block that is being filled.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.output.position()
    }

    /// Whether it has half of what a table may have of anything: time to go on in another.
    pub(crate) fn is_almost_full(&self) -> bool {
        self.top.bytes() + self.partition.bytes() > TOP_INDEX_BYTES / 2
            || self.output.position() > TABLE_BYTES / 2
    }

    fn check_whole(&self) -> Result<(), StorageError> {
        if self.is_whole && !self.output.has_failed() {
            Ok(())
        } else {
            Err(StorageError::Abandoned)
        }
    }

    fn check_entry(&self, entry: &Entry<'_>) -> Result<(), StorageError> {
        self.check_whole()?;
        check_length("key", entry.user_key.len(), KEY_BYTES)?;
        check_length("value", entry.value.len(), VALUE_BYTES)?;
        let is_expiring = entry.kind == Kind::ExpiringValue;
        if entry.kind == Kind::RangeDeletion
            || is_expiring != entry.expires_at_ms.is_some()
            || (entry.kind == Kind::Deletion && !entry.value.is_empty())
        {
            let Entry { kind, expires_at_ms, value, .. } = entry;
            let reason = format!(
                "an entry of kind {kind:?} with {} bytes that ends at {expires_at_ms:?}",
                value.len()
            );
            return Err(StorageError::Refused { reason });
        }
        let last = InternalKey { user_key: &self.last_key, version: self.last_version };
        if self.properties.entries > 0 && entry.internal_key() <= last {
            return Err(StorageError::refused("an entry is not behind the one before"));
        }
        if self.top.bytes() + self.partition.bytes() + 2 * KEY_BYTES > TOP_INDEX_BYTES {
            let limit = TOP_INDEX_BYTES as u64;
            return Err(StorageError::Full { what: "bytes of index", limit });
        }
        if self.output.position() > TABLE_BYTES {
            return Err(StorageError::Full { what: "bytes", limit: TABLE_BYTES });
        }
        Ok(())
    }

    /// Has the partition's filter know a key, and its prefix.
    fn remember(&mut self, user_key: &[u8]) {
        if !self.hashes.is_empty() && user_key == self.last_key {
            return;
        }
        self.hashes.push(filter::key_hash(user_key));
        let prefix = self.options.prefix.and_then(|extractor| extractor.prefix_of(user_key));
        if let Some(prefix) = prefix.filter(|prefix| self.prefix.as_deref() != Some(*prefix)) {
            self.hashes.push(filter::prefix_hash(prefix));
            let kept = self.prefix.get_or_insert_default();
            kept.clear();
            kept.extend_from_slice(prefix);
        }
    }

    /// Ends the data block. `next` is the entry behind it, if there is one.
    async fn cut_block(&mut self, next: Option<InternalKey<'_>>) -> Result<(), StorageError> {
        self.is_whole = false;
        self.block.finish(&mut self.payload);
        let (method, stored) = self.compressor.compress(&self.payload);
        let bytes = envelope::HEADER_BYTES + stored.len();
        let offset = place(self.output.position(), bytes, 1);
        let seed = self.seed;
        let raw = self.payload.len();
        envelope::seal(seed, offset, BlockKind::Data, (method, stored), raw, &mut self.sealed);
        let place = self.append(offset).await?;
        self.properties.data_blocks += 1;
        self.properties.raw_bytes += raw as u64;
        self.properties.stored_bytes += u64::from(place.bytes);
        let last = InternalKey { user_key: &self.last_key, version: self.last_version };
        let version = separator(last, next, &mut self.separator);
        self.partition.push(InternalKey { user_key: &self.separator, version }, place, None);
        let is_full = self.partition.bytes() >= self.options.partition_bytes
            || self.hashes.len() >= FILTER_HASHES / 2;
        if is_full || next.is_none() {
            self.cut_partition().await?;
        }
        self.is_whole = true;
        Ok(())
    }

    /// Ends the partition of the index, with the filter for what it speaks of.
    async fn cut_partition(&mut self) -> Result<(), StorageError> {
        let mut filter_place = None;
        if self.options.filter_bits_per_key > 0 {
            let bits = self.options.filter_bits_per_key;
            let mut payload = std::mem::take(&mut self.payload);
            filter::build(&self.hashes, bits, &mut payload);
            filter_place = Some(self.write(BlockKind::Filter, &payload).await?);
            self.payload = payload;
            self.hashes.clear();
            self.prefix = None;
        }
        let archive = self.partition.encode().map_err(StorageError::refused)?;
        let place = self.write(BlockKind::IndexPartition, archive.as_ref()).await?;
        let last = self.partition.separator(self.partition.len() - 1);
        self.top.push(last, place, filter_place);
        self.partition.clear();
        self.properties.partitions += 1;
        Ok(())
    }

    /// Appends a block that is not compressed.
    async fn write(&mut self, kind: BlockKind, payload: &[u8]) -> Result<Place, StorageError> {
        let align = if kind == BlockKind::Filter { filter::LINE_BYTES as u64 } else { 1 };
        let bytes = envelope::HEADER_BYTES + payload.len();
        let offset = place(self.output.position(), bytes, align);
        let stored = (Method::None, payload);
        envelope::seal(self.seed, offset, kind, stored, payload.len(), &mut self.sealed);
        self.append(offset).await
    }

    /// Appends the sealed block at an offset.
    async fn append(&mut self, offset: u64) -> Result<Place, StorageError> {
        let padding = offset - self.output.position();
        self.properties.padding_bytes += padding;
        self.output.pad(padding as usize).await?;
        assert_eq!(self.output.position(), offset, "blocks stand where their checksums say");
        self.output.append(&self.sealed).await?;
        Ok(Place { offset, bytes: self.sealed.len() as u32 })
    }

    /// Ends the table and makes it durable: its bytes, its length and its name.
    ///
    /// # Errors
    /// `Refused` if there is nothing in it; `Abandoned`; `Io`. The file may then be a table, or
    /// none, after a crash; it is never a table of which something is missing.
    pub async fn finish(mut self) -> Result<Finished, StorageError> {
        self.check_whole()?;
        if self.block.is_empty() && self.tombstones.is_empty() {
            return Err(StorageError::refused("a table has an entry or a range tombstone"));
        }
        if !self.block.is_empty() {
            self.cut_block(None).await?;
        }
        self.properties.largest_key.clone_from(&self.last_key);
        let mut range_tombstones = None;
        if !self.tombstones.is_empty() {
            let mut payload = Vec::new();
            self.tombstones.finish(&mut payload);
            range_tombstones = Some(self.write(BlockKind::RangeTombstones, &payload).await?);
        }
        let archive = self.top.encode().map_err(StorageError::refused)?;
        let top_index = self.write(BlockKind::TopIndex, archive.as_ref()).await?;
        let said = self.properties.clone();
        let archive = said.encode().map_err(StorageError::refused)?;
        let properties = self.write(BlockKind::Properties, archive.as_ref()).await?;
        // All that the last page speaks of is durable before it is written.
        self.output.sync().await?;
        let file_bytes = self.output.position() + PAGE;
        let footer = Footer { file_bytes, top_index, properties, range_tombstones };
        self.output.append(&footer.encode(self.id)).await?;
        self.output.sync().await?;
        let synced = self.disk.sync_directory(&self.directory).await;
        synced.map_err(|error| {
            StorageError::io(format!("sync {}", self.directory.display()), error)
        })?;
        Ok(Finished { id: self.id, file_bytes, properties: said })
    }

    /// Gives the table up: waits for what is in flight, and removes the file. That it is gone is
    /// not made durable.
    ///
    /// # Errors
    /// `Io` if it cannot be removed.
    pub async fn abandon(mut self) -> Result<(), StorageError> {
        // How a write ended is of no interest any more.
        drop(self.output.quiesce().await);
        let path = self.directory.join(self.id.file_name());
        let removed = self.disk.remove(&path).await;
        removed.map_err(|error| StorageError::io(format!("remove {}", path.display()), error))
    }
}

fn check_length(what: &str, bytes: usize, limit: usize) -> Result<(), StorageError> {
    if bytes <= limit {
        return Ok(());
    }
    Err(StorageError::refused(format!("a {what} has {bytes} bytes, it may have {limit}")))
}

/// Where a block of so many bytes goes: at `position`, or at the next page if it would cross more
/// pages there than it needs; at a multiple of `align`.
fn place(position: u64, bytes: usize, align: u64) -> u64 {
    let offset = position.next_multiple_of(align);
    let pages = (offset % PAGE + bytes as u64).div_ceil(PAGE);
    if pages <= (bytes as u64).div_ceil(PAGE) { offset } else { offset.next_multiple_of(PAGE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cross_no_more_pages_than_they_need() {
        for bytes in [1, 64, 2048, 4000, 4096, 4097, 9000] {
            for position in (0..3 * PAGE).step_by(7) {
                for align in [1, 64] {
                    let offset = place(position, bytes, align);
                    let last = offset + bytes as u64 - 1;
                    let pages = last / PAGE - offset / PAGE + 1;
                    assert_eq!(pages, (bytes as u64).div_ceil(PAGE), "{bytes} at {position}");
                    assert!(offset >= position && offset - position < PAGE);
                    assert!(offset.is_multiple_of(align));
                }
            }
        }
    }
}
