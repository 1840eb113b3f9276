//! The blocks of a table, one by one, for who looks at it.
//!
//! The fault model: as of reading. What is damaged is told in its place, and the rest goes on. Of a
//! damaged partition of the index nobody knows which blocks it spoke of.

use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use woodchuck_io::{Buffer, Disk, File, OpenMode};

use super::TableId;
use super::ends::header_id;
use super::envelope::{self, BlockKind, Seed};
use super::index::{Index, Place};
use super::properties::Properties;
use super::reader::Table;
use super::tombstones::Tombstones;
use crate::block::Block;
use crate::cache::BlockCache;
use crate::error::{Damage, StorageError};
use crate::filter::Filter;
use crate::key::Kind;
use crate::limits::{PAGE_BYTES, PAYLOAD_BYTES};
use crate::options::ReadOptions;

/// A block of a table, as it was found.
#[derive(Clone, Debug)]
pub struct FoundBlock {
    /// What it is for, in the words of the format.
    pub kind: &'static str,
    /// Where it stands in the file, in bytes.
    pub offset: u64,
    /// Its bytes, header included.
    pub bytes: u64,
    /// The partition of the index that it belongs to, if it belongs to one.
    pub partition: Option<usize>,
    /// Between which user keys its own lie: behind the first, or versions of it, up to the second.
    pub keys: Option<(Bytes, Bytes)>,
    /// What is in it, or why that cannot be told: `Corrupt` or `Io`.
    pub content: Result<BlockContent, StorageError>,
}

/// What is in a block.
#[derive(Clone, Debug)]
pub enum BlockContent {
    /// Entries, of a data block or of one of range tombstones.
    Entries(BlockEntries),
    /// Blocks, of an index.
    Index(Vec<IndexEntry>),
    /// A filter of so many bytes.
    Filter {
        /// Its bytes.
        bytes: usize,
    },
    /// What the table says of itself.
    Properties(Box<Properties>),
}

/// The entries of a block.
#[derive(Clone, Debug)]
pub struct BlockEntries {
    block: Block,
}

/// An entry, with memory of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// The key as the user knows it.
    pub user_key: Vec<u8>,
    /// The commit that made it.
    pub sequence: u64,
    /// What it says of the key.
    pub kind: Kind,
    /// When the value ends, in milliseconds since 1970, if it does.
    pub expires_at_ms: Option<u64>,
    /// The value; of a range tombstone, its end.
    pub value: Bytes,
}

impl BlockEntries {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.block.len()
    }

    /// Whether there is none, which no block has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = StoredEntry> + '_ {
        (0..self.block.len()).map(|at| {
            let mut user_key = self.block.prefix().to_vec();
            let content = self.block.put_key(at, &mut user_key);
            StoredEntry {
                user_key,
                sequence: content.sequence,
                kind: content.kind,
                expires_at_ms: content.expires_at_ms,
                value: self.block.payload().slice(content.value),
            }
        })
    }
}

/// What an index says of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The user key of its separator: at or behind its last.
    pub separator: Vec<u8>,
    /// Where it stands, in bytes.
    pub offset: u64,
    /// Its bytes.
    pub bytes: u64,
}

impl BlockContent {
    fn parse(kind: BlockKind, payload: Bytes, limit: u64) -> Result<Self, String> {
        Ok(match kind {
            BlockKind::Data => Self::Entries(BlockEntries { block: Block::parse(payload, false)? }),
            BlockKind::RangeTombstones => {
                Tombstones::parse(payload.clone())?;
                Self::Entries(BlockEntries { block: Block::parse(payload, true)? })
            }
            BlockKind::Filter => {
                let bytes = payload.len();
                Filter::parse(payload)?;
                Self::Filter { bytes }
            }
            BlockKind::IndexPartition | BlockKind::TopIndex => {
                Self::of_index(&Index::decode(&payload, limit)?)
            }
            BlockKind::Properties => Self::Properties(Box::new(Properties::decode(&payload)?)),
        })
    }

    fn of_index(index: &Index) -> Self {
        let entry = |at| IndexEntry {
            separator: index.separator(at).user_key.to_vec(),
            offset: index.place(at).offset,
            bytes: u64::from(index.place(at).bytes),
        };
        Self::Index((0..index.len()).map(entry).collect())
    }
}

/// Where a block is said to stand.
struct Spot {
    place: Place,
    kind: BlockKind,
    partition: Option<usize>,
    keys: Option<(Bytes, Bytes)>,
}

impl<F: File> Table<F> {
    /// Opens a table by its file alone: the first page says which table it is.
    ///
    /// # Errors
    /// As of [`open`](Self::open).
    pub async fn open_alone<D: Disk<File = F>>(
        disk: &D,
        path: &Path,
    ) -> Result<Self, StorageError> {
        let id = identify(disk, path).await?;
        let (cache, options) = (BlockCache::new(0), ReadOptions::default());
        Self::open_file(disk, path, id, &cache, options, Rc::default()).await
    }

    /// Reads every block from the disk, in the order of the file, and tells of each.
    pub async fn blocks(&self, mut visit: impl FnMut(FoundBlock)) {
        for partition in 0..self.top().len() {
            for spot in self.spots_of(partition).await {
                visit(self.look_at(spot).await);
            }
        }
        for spot in self.last_spots() {
            visit(self.look_at(spot).await);
        }
    }

    /// The block that stands at a place of the file, or over it.
    ///
    /// # Errors
    /// `Corrupt` if none does.
    pub async fn block_at(&self, offset: u64) -> Result<FoundBlock, StorageError> {
        for partition in 0..self.top().len() {
            for spot in self.spots_of(partition).await {
                if spot.has(offset) {
                    return Ok(self.look_at(spot).await);
                }
            }
        }
        match self.last_spots().into_iter().find(|spot| spot.has(offset)) {
            Some(spot) => Ok(self.look_at(spot).await),
            None => Err(self.corrupt(offset, "no block of the index stands here")),
        }
    }

    /// The blocks of a partition: those that it speaks of, if it is whole, its filter and itself.
    async fn spots_of(&self, partition: usize) -> Vec<Spot> {
        let mut spots = Vec::new();
        let keys = Some(self.keys_of_partition(partition));
        if let Ok(index) = self.partition(partition).await {
            spots.extend((0..index.len()).map(|number| Spot {
                place: index.place(number),
                kind: BlockKind::Data,
                partition: Some(partition),
                keys: Some(self.keys_of(partition, &index, number)),
            }));
        }
        let partition_at = self.top().place(partition);
        let others = [
            (self.top().filter(partition), BlockKind::Filter),
            (Some(partition_at), BlockKind::IndexPartition),
        ];
        spots.extend(others.into_iter().filter_map(|(place, kind)| {
            Some(Spot { place: place?, kind, partition: Some(partition), keys: keys.clone() })
        }));
        spots
    }

    /// The blocks behind all partitions.
    fn last_spots(&self) -> Vec<Spot> {
        let footer = self.footer();
        let places = [
            (footer.range_tombstones, BlockKind::RangeTombstones),
            (Some(footer.top_index), BlockKind::TopIndex),
            (Some(footer.properties), BlockKind::Properties),
        ];
        let spots = places.into_iter().filter_map(|(place, kind)| {
            Some(Spot { place: place?, kind, partition: None, keys: None })
        });
        spots.collect()
    }

    async fn look_at(&self, spot: Spot) -> FoundBlock {
        let Spot { place, kind, partition, keys } = spot;
        let read = self.read_block(place, kind).await;
        let limit = self.file_bytes() - PAGE_BYTES as u64;
        let content = read.and_then(|payload| {
            if let (BlockKind::IndexPartition, Some(partition)) = (kind, partition) {
                return Ok(BlockContent::of_index(&self.check_partition(partition, &payload)?));
            }
            BlockContent::parse(kind, payload, limit)
                .map_err(|what| self.corrupt(place.offset, what))
        });
        let content = match &keys {
            Some(keys) => content.map_err(|error| error.with_keys(|| keys.clone())),
            None => content,
        };
        let (offset, bytes) = (place.offset, u64::from(place.bytes));
        FoundBlock { kind: kind.name(), offset, bytes, partition, keys, content }
    }
}

impl Spot {
    const fn has(&self, offset: u64) -> bool {
        self.place.offset <= offset && offset < self.place.end()
    }
}

/// Which table a file says that it is.
///
/// # Errors
/// `Corrupt` if its first page does not say; `Io`.
pub async fn identify<D: Disk>(disk: &D, path: &Path) -> Result<TableId, StorageError> {
    let page = read_pages(disk, path, 0, PAGE_BYTES).await?;
    header_id(&page).ok_or_else(|| {
        let what = "its first page does not say which table of this format it is";
        corrupt(path, 0, what.to_owned())
    })
}

/// The block that begins at a place of a table's file, whatever speaks of it: for tables that cannot
/// be opened any more. Its length is its own to say, which its checksum proves.
///
/// # Errors
/// `Corrupt` if none begins there, or it is damaged; `Io`.
pub async fn stray_block<D: Disk>(
    disk: &D,
    path: &Path,
    offset: u64,
) -> Result<FoundBlock, StorageError> {
    let id = identify(disk, path).await?;
    let start = offset / PAGE_BYTES as u64 * PAGE_BYTES as u64;
    let behind = (offset - start) as usize;
    let head = read_pages(disk, path, start, 2 * PAGE_BYTES).await?;
    let header = head.get(behind..behind + envelope::HEADER_BYTES);
    let found = header.and_then(envelope::claims);
    let Some((kind, bytes)) = found.filter(|(_, bytes)| *bytes <= PAYLOAD_BYTES) else {
        return Err(corrupt(path, offset, "no block begins here".to_owned()));
    };
    let wanted = (behind + bytes).next_multiple_of(PAGE_BYTES);
    let pages = read_pages(disk, path, start, wanted).await?;
    let block = pages.get(behind..behind + bytes).map(Bytes::copy_from_slice);
    let block = block.ok_or_else(|| corrupt(path, offset, "the file ends early".to_owned()))?;
    let opened = envelope::open(Seed::of(id), offset, kind, &block);
    let content = opened.and_then(|payload| BlockContent::parse(kind, payload, u64::MAX));
    let content = content.map_err(|what| corrupt(path, offset, what));
    let bytes = bytes as u64;
    Ok(FoundBlock { kind: kind.name(), offset, bytes, partition: None, keys: None, content })
}

async fn read_pages<D: Disk>(
    disk: &D,
    path: &Path,
    offset: u64,
    bytes: usize,
) -> Result<Buffer, StorageError> {
    let shown = path.display();
    let failed = |error| StorageError::io(format!("read {shown} at offset {offset}"), error);
    let file = disk.open(path, OpenMode::Read).await.map_err(failed)?;
    super::reader::read(&file, offset, bytes).await.map_err(failed)
}

fn corrupt(path: &Path, offset: u64, what: String) -> StorageError {
    let file = path.display().to_string();
    StorageError::Corrupt(Box::new(Damage { file, offset, what, keys: None }))
}
