//! Reading a table.
//!
//! The fault model: the file may hold any bytes at all, reads may fail, and they may be short. What
//! is not whole is an error that says where, and never an answer. A damaged block fails those reads
//! that need it; the others go on.

use std::io;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use futures_util::future::join;
use woodchuck_io::{Buffer, Disk, File, OpenMode};

use super::TableId;
use super::ends::{Footer, Invalid, VERSION, check_header};
use super::envelope::{self, BlockKind, Seed};
use super::index::{Index, Place};
use super::properties::Properties;
use super::tombstones::Tombstones;
use crate::block::Block;
use crate::cache::{BlockCache, Cached};
use crate::counters::{Counters, count};
use crate::error::{Damage, StorageError};
use crate::filter::{self, Filter};
use crate::key::{InternalKey, Kind, Version};
use crate::limits::{PAGE_BYTES, SHORT_READS, TABLE_BYTES, TAIL_BYTES};
use crate::options::ReadOptions;

const PAGE: u64 = PAGE_BYTES as u64;

/// The newest entry of a key that a snapshot sees in one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The commit that made it.
    pub sequence: u64,
    /// What it says of the key. If it is a merge operand, older entries are needed too: a cursor
    /// has them.
    pub kind: Kind,
    /// When the value ends, in milliseconds since 1970. The table does not know what time it is.
    pub expires_at_ms: Option<u64>,
    /// The value. It shares the block's memory, and keeps that alive.
    pub value: Bytes,
}

/// A table that can be read. Clones are the same table.
pub struct Table<F> {
    inner: Rc<Inner<F>>,
}

impl<F> Clone for Table<F> {
    fn clone(&self) -> Self {
        Self { inner: Rc::clone(&self.inner) }
    }
}

struct Inner<F> {
    file: F,
    name: String,
    id: TableId,
    seed: Seed,
    footer: Footer,
    properties: Properties,
    top: Index,
    tombstones: Tombstones,
    cache: BlockCache,
    /// Filters and partitions, if they were to be pinned.
    pinned: Vec<(Option<Filter>, Rc<Index>)>,
    counters: Rc<Counters>,
}

impl<F: File> Table<F> {
    /// Opens a table: checks its first and its last page, and reads what tells of the rest. Blocks
    /// are checked when they are read, or by [`verify`](Self::verify).
    ///
    /// # Errors
    /// `Corrupt` if it is not this table, or not all of it; `WrongVersion`; `Io`.
    pub async fn open<D: Disk<File = F>>(
        disk: &D,
        directory: &Path,
        id: TableId,
        cache: &BlockCache,
        options: ReadOptions,
    ) -> Result<Self, StorageError> {
        let path = directory.join(id.file_name());
        Self::open_file(disk, &path, id, cache, options, Rc::default()).await
    }

    /// The same, of a file with any name, with what is counted of it.
    pub(crate) async fn open_file<D: Disk<File = F>>(
        disk: &D,
        path: &Path,
        id: TableId,
        cache: &BlockCache,
        options: ReadOptions,
        counters: Rc<Counters>,
    ) -> Result<Self, StorageError> {
        let name = path.display().to_string();
        let io = |error| StorageError::io(format!("open {name}"), error);
        let file = disk.open(path, OpenMode::Read).await.map_err(io)?;
        let file_bytes = file.length().await.map_err(io)?;
        let corrupt = |offset, what| corrupt(&name, offset, what);
        if file_bytes < 3 * PAGE || file_bytes % PAGE != 0 || file_bytes > 2 * TABLE_BYTES {
            return Err(corrupt(0, format!("no table has {file_bytes} bytes")));
        }
        let tail_start = file_bytes.saturating_sub(TAIL_BYTES as u64);
        let tail_bytes = (file_bytes - tail_start) as usize;
        let (head, tail) =
            join(read(&file, 0, PAGE_BYTES), read(&file, tail_start, tail_bytes)).await;
        let (head, tail) = (head.map_err(io)?, tail.map_err(io)?);
        if tail.len() < tail_bytes || head.len() < PAGE_BYTES {
            return Err(corrupt(tail_start, "the file ends early".to_owned()));
        }
        let invalid = |offset: u64, page: &str, error: Invalid| match error {
            Invalid::Damaged(what) => corrupt(offset, format!("its {page} page: {what}")),
            Invalid::WrongVersion(found) => {
                StorageError::WrongVersion { file: name.clone(), found, supported: VERSION }
            }
        };
        check_header(&head, id).map_err(|error| invalid(0, "first", error))?;
        let last = &tail[tail_bytes - PAGE_BYTES..];
        let footer = Footer::decode(last, id, file_bytes)
            .map_err(|error| invalid(file_bytes - PAGE, "last", error))?;
        let tail = (tail_start, Bytes::from_owner(tail));
        let seed = Seed::of(id);
        let block = async |place: Place, kind| {
            let bytes = match within(&tail, place) {
                Some(bytes) => bytes,
                None => read_place(&file, &name, place).await?.0,
            };
            let opened = envelope::open(seed, place.offset, kind, &bytes);
            opened.map_err(|what| corrupt(place.offset, what))
        };
        let at = footer.properties;
        let properties = Properties::decode(&block(at, BlockKind::Properties).await?)
            .map_err(|what| corrupt(at.offset, what))?;
        let at = footer.top_index;
        let top = Index::decode(&block(at, BlockKind::TopIndex).await?, file_bytes - PAGE)
            .map_err(|what| corrupt(at.offset, what))?;
        let mut tombstones = Tombstones::default();
        if let Some(at) = footer.range_tombstones {
            let payload = block(at, BlockKind::RangeTombstones).await?;
            tombstones = Tombstones::parse(payload).map_err(|what| corrupt(at.offset, what))?;
        }
        let cache = cache.clone();
        let mut inner = Inner {
            file,
            name,
            id,
            seed,
            footer,
            properties,
            top,
            tombstones,
            cache,
            pinned: Vec::new(),
            counters,
        };
        if options.pin_partitions {
            inner.pinned = inner.read_partitions().await?;
        }
        Ok(Self { inner: Rc::new(inner) })
    }

    /// Which table it is.
    #[must_use]
    pub fn id(&self) -> TableId {
        self.inner.id
    }

    /// What it says of itself.
    #[must_use]
    pub fn properties(&self) -> &Properties {
        &self.inner.properties
    }

    /// Bytes of its file.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.inner.footer.file_bytes
    }

    /// Its range tombstones.
    #[must_use]
    pub fn range_tombstones(&self) -> &Tombstones {
        &self.inner.tombstones
    }

    /// The newest entry of a key among those of commits up to `snapshot`, whatever range tombstones
    /// say. `None` says that this table has no such entry.
    ///
    /// # Errors
    /// `Corrupt`, `Io`: it could not be told.
    pub async fn get(&self, user_key: &[u8], snapshot: u64) -> Result<Option<Found>, StorageError> {
        let table = &*self.inner;
        let counters = &table.counters;
        count(&counters.tables_read, 1);
        let bound = InternalKey { user_key, version: Version::seen_by(snapshot) };
        let partition = table.top.lower_bound(bound);
        if partition == table.top.len() {
            return Ok(None);
        }
        let filter = table.filter(partition).await?;
        if let Some(filter) = &filter {
            count(&counters.filters_asked, 1);
            if !filter.may_have(filter::key_hash(user_key)) {
                count(&counters.filters_denied, 1);
                return Ok(None);
            }
        }
        let index = table.partition(partition).await?;
        // The partition's last separator is the one by which it was found.
        let block = table.data(partition, &index, index.lower_bound(bound)).await?;
        let at = block.lower_bound(bound);
        if at == block.len() || !block.has_key(at, user_key) {
            count(&counters.filters_false, u64::from(filter.is_some()));
            return Ok(None);
        }
        let content = block.content(at);
        Ok(Some(Found {
            sequence: content.sequence,
            kind: content.kind,
            expires_at_ms: content.expires_at_ms,
            value: block.payload().slice(content.value),
        }))
    }

    /// Whether there may be keys that begin with `prefix`, as far as the filter of prefixes can
    /// tell. `false` is certain.
    ///
    /// # Errors
    /// `Corrupt`, `Io`: it could not be told.
    pub async fn may_have_prefix(&self, prefix: &[u8]) -> Result<bool, StorageError> {
        let table = &*self.inner;
        let bound = InternalKey { user_key: prefix, version: Version::FIRST };
        let partition = table.top.lower_bound(bound);
        if partition == table.top.len() {
            return Ok(false);
        }
        // If the separator begins with the prefix, keys of the next partition may, too.
        if table.top.separator(partition).user_key.starts_with(prefix) {
            return Ok(true);
        }
        let extractor = table.properties.prefix;
        let Some(known) = extractor.and_then(|extractor| extractor.prefix_of(prefix)) else {
            return Ok(true);
        };
        let filter = table.filter(partition).await?;
        Ok(filter.is_none_or(|filter| filter.may_have(filter::prefix_hash(known))))
    }

    pub(crate) fn top(&self) -> &Index {
        &self.inner.top
    }

    pub(crate) async fn partition(&self, partition: usize) -> Result<Rc<Index>, StorageError> {
        self.inner.partition(partition).await
    }

    pub(crate) async fn data(
        &self,
        partition: usize,
        index: &Index,
        number: usize,
    ) -> Result<Block, StorageError> {
        self.inner.data(partition, index, number).await
    }

    /// The data block, if the cache has it.
    pub(crate) fn cached_data(&self, place: Place) -> Option<Block> {
        match self.inner.cache.get((self.inner.id.number, place.offset)) {
            Some(Cached::Data(block)) => Some(block),
            _ => None,
        }
    }

    /// A data block of which the bytes are here.
    pub(crate) fn open_data(
        &self,
        partition: usize,
        index: &Index,
        number: usize,
        bytes: &Bytes,
    ) -> Result<Block, StorageError> {
        let table = &*self.inner;
        table
            .open_data(index.place(number), bytes)
            .map_err(|error| error.with_keys(|| table.keys_of(partition, index, number)))
    }

    /// Begins to read a part of the file: whole pages.
    pub(crate) fn read(
        &self,
        offset: u64,
        bytes: usize,
    ) -> impl Future<Output = io::Result<Buffer>> + 'static {
        let file = self.inner.file.clone();
        async move { read(&file, offset, bytes).await }
    }

    pub(crate) fn footer(&self) -> &Footer {
        &self.inner.footer
    }

    pub(crate) fn corrupt(&self, offset: u64, what: impl Into<String>) -> StorageError {
        corrupt(&self.inner.name, offset, what.into())
    }

    /// Between which keys those of a partition lie.
    pub(crate) fn keys_of_partition(&self, partition: usize) -> (Bytes, Bytes) {
        self.inner.keys_of_partition(partition)
    }

    /// Between which keys those of a data block lie.
    pub(crate) fn keys_of(&self, partition: usize, index: &Index, number: usize) -> (Bytes, Bytes) {
        self.inner.keys_of(partition, index, number)
    }

    /// A block that is read from the disk, whatever the cache has.
    pub(crate) async fn read_block(
        &self,
        place: Place,
        kind: BlockKind,
    ) -> Result<Bytes, StorageError> {
        Ok(self.inner.read_block(place, kind).await?.0)
    }

    pub(crate) fn check_partition(
        &self,
        partition: usize,
        payload: &[u8],
    ) -> Result<Index, StorageError> {
        self.inner.check_partition(partition, payload)
    }

    pub(crate) fn check_filter(
        &self,
        place: Place,
        payload: Bytes,
    ) -> Result<Filter, StorageError> {
        Filter::parse(payload).map_err(|what| self.corrupt(place.offset, what))
    }
}

impl<F: File> Inner<F> {
    fn key(&self, place: Place) -> (u64, u64) {
        (self.id.number, place.offset)
    }

    fn corrupt(&self, offset: u64, what: String) -> StorageError {
        corrupt(&self.name, offset, what)
    }

    /// Another block is in the cache where this one should be: the file has one place for two.
    fn misfiled(&self, place: Place) -> StorageError {
        self.corrupt(place.offset, "two blocks of different kinds stand at one place".to_owned())
    }

    /// A block's payload, with the memory that it keeps alive.
    async fn read_block(
        &self,
        place: Place,
        kind: BlockKind,
    ) -> Result<(Bytes, usize), StorageError> {
        let (bytes, memory) = read_place(&self.file, &self.name, place).await?;
        let payload = envelope::open(self.seed, place.offset, kind, &bytes)
            .map_err(|what| self.corrupt(place.offset, what))?;
        let shares_memory = bytes.as_ptr_range().contains(&payload.as_ptr());
        if !shares_memory {
            let memory = payload.len();
            return Ok((payload, memory));
        }
        // It is not worth keeping a page alive for a small part of it.
        if payload.len() <= memory / 2 && kind == BlockKind::Data {
            let memory = payload.len();
            return Ok((Bytes::copy_from_slice(&payload), memory));
        }
        Ok((payload, memory))
    }

    async fn filter(&self, partition: usize) -> Result<Option<Filter>, StorageError> {
        if let Some((filter, _)) = self.pinned.get(partition) {
            return Ok(filter.clone());
        }
        let Some(place) = self.top.filter(partition) else { return Ok(None) };
        let load = || async {
            let (payload, memory) = self.read_block(place, BlockKind::Filter).await?;
            let filter = Filter::parse(payload);
            let filter = filter.map_err(|what| self.corrupt(place.offset, what))?;
            Ok((Cached::Filter(filter), memory))
        };
        match self.cache.get_or_load(self.key(place), load).await {
            Ok(Cached::Filter(filter)) => Ok(Some(filter)),
            Ok(_) => Err(self.misfiled(place)),
            Err(error) => Err(error.with_keys(|| self.keys_of_partition(partition))),
        }
    }

    async fn partition(&self, partition: usize) -> Result<Rc<Index>, StorageError> {
        if let Some((_, index)) = self.pinned.get(partition) {
            return Ok(Rc::clone(index));
        }
        let place = self.top.place(partition);
        let load = || async {
            let (payload, _) = self.read_block(place, BlockKind::IndexPartition).await?;
            let index = self.check_partition(partition, &payload)?;
            let memory = index.bytes();
            Ok((Cached::Index(Rc::new(index)), memory))
        };
        match self.cache.get_or_load(self.key(place), load).await {
            Ok(Cached::Index(index)) => Ok(index),
            Ok(_) => Err(self.misfiled(place)),
            Err(error) => Err(error.with_keys(|| self.keys_of_partition(partition))),
        }
    }

    /// The partition that this archive is. Its last separator is the one that the top-level index
    /// has for it.
    fn check_partition(&self, partition: usize, payload: &[u8]) -> Result<Index, StorageError> {
        let place = self.top.place(partition);
        let index = Index::decode(payload, self.footer.file_bytes - PAGE)
            .map_err(|what| self.corrupt(place.offset, what))?;
        let is_same =
            !index.is_empty() && index.separator(index.len() - 1) == self.top.separator(partition);
        if is_same {
            return Ok(index);
        }
        Err(self.corrupt(place.offset, "the partition is not the one it should be".to_owned()))
    }

    async fn data(
        &self,
        partition: usize,
        index: &Index,
        number: usize,
    ) -> Result<Block, StorageError> {
        let place = index.place(number);
        let load = || async {
            let (payload, memory) = self.read_block(place, BlockKind::Data).await?;
            let block = Block::parse(payload, false);
            let block = block.map_err(|what| self.corrupt(place.offset, what))?;
            Ok((Cached::Data(block), memory))
        };
        match self.cache.get_or_load(self.key(place), load).await {
            Ok(Cached::Data(block)) => Ok(block),
            Ok(_) => Err(self.misfiled(place)),
            Err(error) => Err(error.with_keys(|| self.keys_of(partition, index, number))),
        }
    }

    fn open_data(&self, place: Place, bytes: &Bytes) -> Result<Block, StorageError> {
        let payload = envelope::open(self.seed, place.offset, BlockKind::Data, bytes);
        let block = payload.and_then(|payload| Block::parse(payload, false));
        block.map_err(|what| self.corrupt(place.offset, what))
    }

    async fn read_partitions(&self) -> Result<Vec<(Option<Filter>, Rc<Index>)>, StorageError> {
        let mut pinned = Vec::with_capacity(self.top.len());
        for partition in 0..self.top.len() {
            let with_keys =
                |error: StorageError| error.with_keys(|| self.keys_of_partition(partition));
            let mut filter = None;
            if let Some(place) = self.top.filter(partition) {
                let (payload, _) =
                    self.read_block(place, BlockKind::Filter).await.map_err(with_keys)?;
                let parsed = Filter::parse(payload);
                filter = Some(parsed.map_err(|what| self.corrupt(place.offset, what))?);
            }
            let place = self.top.place(partition);
            let (payload, _) =
                self.read_block(place, BlockKind::IndexPartition).await.map_err(with_keys)?;
            let index = self.check_partition(partition, &payload).map_err(with_keys)?;
            pinned.push((filter, Rc::new(index)));
        }
        Ok(pinned)
    }

    /// The keys of a partition: above the first of the pair, up to the second.
    fn keys_of_partition(&self, partition: usize) -> (Bytes, Bytes) {
        let above = match partition.checked_sub(1) {
            Some(before) => self.top.separator(before).user_key,
            None => &[],
        };
        (Bytes::copy_from_slice(above), copy(self.top.separator(partition)))
    }

    fn keys_of(&self, partition: usize, index: &Index, number: usize) -> (Bytes, Bytes) {
        let above = match number.checked_sub(1) {
            Some(before) => copy(index.separator(before)),
            None => self.keys_of_partition(partition).0,
        };
        (above, copy(index.separator(number)))
    }
}

fn copy(key: InternalKey<'_>) -> Bytes {
    Bytes::copy_from_slice(key.user_key)
}

fn corrupt(file: &str, offset: u64, what: String) -> StorageError {
    StorageError::Corrupt(Box::new(Damage { file: file.to_owned(), offset, what, keys: None }))
}

/// The block at a place, if it lies in a part of the file that was read: from its offset on.
fn within((start, bytes): &(u64, Bytes), place: Place) -> Option<Bytes> {
    let from = place.offset.checked_sub(*start)? as usize;
    let to = from + place.bytes as usize;
    (to <= bytes.len()).then(|| bytes.slice(from..to))
}

/// The block at a place, with the memory that it keeps alive.
async fn read_place<F: File>(
    file: &F,
    name: &str,
    place: Place,
) -> Result<(Bytes, usize), StorageError> {
    let start = place.offset / PAGE * PAGE;
    let bytes = (place.end().next_multiple_of(PAGE) - start) as usize;
    let buffer = read(file, start, bytes).await.map_err(|error| {
        StorageError::io(format!("read {bytes} bytes of {name} at offset {start}"), error)
    })?;
    let memory = buffer.capacity().next_power_of_two();
    let block = within(&(start, Bytes::from_owner(buffer)), place);
    let block =
        block.ok_or_else(|| corrupt(name, place.offset, "the file ends early".to_owned()))?;
    Ok((block, memory))
}

/// Reads whole pages; fewer only where the file ends.
pub(super) async fn read<F: File>(file: &F, offset: u64, bytes: usize) -> io::Result<Buffer> {
    let (result, mut buffer) = file.read_at(Buffer::with_capacity(bytes), offset).await;
    let mut got = result?.min(bytes);
    buffer.resize(got);
    let mut short = 0;
    while got < bytes {
        // Again from the page on that is not whole, into memory of its own.
        let from = got / PAGE_BYTES * PAGE_BYTES;
        let rest = Buffer::with_capacity(bytes - from);
        let (result, rest) = file.read_at(rest, offset + from as u64).await;
        let read = result?.min(bytes - from);
        if from + read <= got {
            short += 1;
            if read == 0 || short > SHORT_READS {
                break;
            }
            continue;
        }
        buffer.resize(from);
        buffer.extend_from_slice(&rest[..read]);
        got = from + read;
    }
    Ok(buffer)
}
