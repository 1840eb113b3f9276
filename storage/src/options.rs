//! How tables are written and read.

use rkyv::{Archive, Deserialize, Serialize};

use crate::compression::Compression;
use crate::error::StorageError;
use crate::limits::{
    BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, FILTER_BITS_MAX, KEY_BYTES,
    PAGE_BYTES, PARTITION_BYTES_MAX, PARTITION_BYTES_MIN, WRITES_IN_FLIGHT,
};

/// Which part of a key is its prefix, for prefix filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum PrefixExtractor {
    /// The first so many bytes. Shorter keys have no prefix.
    Length(u16),
    /// The bytes up to and including the first of this value. Keys without it have no prefix.
    Delimiter(u8),
}

impl PrefixExtractor {
    /// The prefix of a key, or of the beginning of keys: all keys that begin with `bytes` then have
    /// this prefix.
    #[must_use]
    pub fn prefix_of(self, bytes: &[u8]) -> Option<&[u8]> {
        match self {
            Self::Length(length) => bytes.get(..usize::from(length)),
            Self::Delimiter(delimiter) => {
                let at = bytes.iter().position(|&byte| byte == delimiter)?;
                Some(&bytes[..=at])
            }
        }
    }
}

/// How a table is written. A reader needs none of it: what it needs stands in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableOptions {
    /// Size of a data block in the file, in bytes, if it is not compressed.
    pub block_bytes: usize,
    /// Size of a partition of the index, in bytes, about.
    pub partition_bytes: usize,
    /// How data blocks are compressed.
    pub compression: Compression,
    /// Bits a key in the filter; 0 for none. At 10, one absent key in a hundred is looked for in
    /// vain.
    pub filter_bits_per_key: u32,
    /// Which prefixes of keys the filter knows besides, if any.
    pub prefix: Option<PrefixExtractor>,
    /// Bytes of one write.
    pub chunk_bytes: usize,
    /// How many writes may be in flight.
    pub writes_in_flight: usize,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            block_bytes: PAGE_BYTES,
            partition_bytes: 16 << 10,
            compression: Compression::None,
            filter_bits_per_key: 10,
            prefix: None,
            chunk_bytes: 256 << 10,
            writes_in_flight: 4,
        }
    }
}

impl TableOptions {
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        within("block_bytes", self.block_bytes, BLOCK_BYTES_MIN, BLOCK_BYTES_MAX)?;
        let partition = self.partition_bytes;
        within("partition_bytes", partition, PARTITION_BYTES_MIN, PARTITION_BYTES_MAX)?;
        within("chunk_bytes", self.chunk_bytes, CHUNK_BYTES_MIN, CHUNK_BYTES_MAX)?;
        within("writes_in_flight", self.writes_in_flight, 1, WRITES_IN_FLIGHT)?;
        let bits = self.filter_bits_per_key as usize;
        within("filter_bits_per_key", bits, 0, FILTER_BITS_MAX as usize)?;
        if let Some(PrefixExtractor::Length(length)) = self.prefix {
            within("the length of prefixes", usize::from(length), 1, KEY_BYTES)?;
        }
        if !self.chunk_bytes.is_multiple_of(PAGE_BYTES) {
            let reason = format!("chunk_bytes, {}, is not in pages", self.chunk_bytes);
            return Err(StorageError::Options { reason });
        }
        self.compression.check()
    }
}

pub(crate) fn within(
    name: &str,
    value: usize,
    least: usize,
    most: usize,
) -> Result<(), StorageError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let reason = format!("{name} is {value}, it must be from {least} to {most}");
    Err(StorageError::Options { reason })
}

/// How a table is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Whether the partitions of index and filter are read when the table is opened, and stay in
    /// memory while it is open. Otherwise they are read when needed and share the cache with data.
    pub pin_partitions: bool,
}
