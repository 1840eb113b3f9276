//! What a table says of itself.

use rkyv::rancor::Error;
use rkyv::{Archive, Deserialize, Serialize};

use crate::Entry;
use crate::key::Kind;
use crate::options::{PrefixExtractor, TableOptions};

/// What a table says of itself. An rkyv archive in the file.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Properties {
    /// Entries of all kinds but range tombstones.
    pub entries: u64,
    /// Entries that are deletions.
    pub deletions: u64,
    /// Entries that are merge operands.
    pub merges: u64,
    /// Entries that are values which end at a time.
    pub expiring: u64,
    /// Range tombstones.
    pub range_tombstones: u64,
    /// The first user key; empty if there are no entries.
    pub smallest_key: Vec<u8>,
    /// The last user key; empty if there are no entries.
    pub largest_key: Vec<u8>,
    /// The oldest commit of an entry or range tombstone.
    pub smallest_sequence: u64,
    /// The newest commit of an entry or range tombstone.
    pub largest_sequence: u64,
    /// When the first value ends, in milliseconds since 1970; `None` if none does.
    pub earliest_expiry_ms: Option<u64>,
    /// When the last value ends.
    pub latest_expiry_ms: Option<u64>,
    /// Bytes of user keys and values.
    pub user_bytes: u64,
    /// Data blocks.
    pub data_blocks: u64,
    /// Bytes of data blocks' payloads before they were compressed.
    pub raw_bytes: u64,
    /// Bytes of data blocks in the file.
    pub stored_bytes: u64,
    /// Bytes between blocks, so that none crosses more pages than it needs; up to the block in
    /// which this stands.
    pub padding_bytes: u64,
    /// Partitions of the index.
    pub partitions: u64,
    /// How data blocks were to be compressed: 0 not, 1 LZ4, 2 Zstandard.
    pub compression: u8,
    /// The level of compression, if it has one.
    pub compression_level: u8,
    /// The size of data blocks that was asked for.
    pub block_bytes: u32,
    /// The size of index partitions that was asked for.
    pub partition_bytes: u32,
    /// Bits a key in the filters; 0 if there are none.
    pub filter_bits_per_key: u32,
    /// Which prefixes the filters know.
    pub prefix: Option<PrefixExtractor>,
}

impl Properties {
    pub(crate) fn new(options: &TableOptions) -> Self {
        let (compression, compression_level) = options.compression.numbers();
        Self {
            entries: 0,
            deletions: 0,
            merges: 0,
            expiring: 0,
            range_tombstones: 0,
            smallest_key: Vec::new(),
            largest_key: Vec::new(),
            smallest_sequence: u64::MAX,
            largest_sequence: 0,
            earliest_expiry_ms: None,
            latest_expiry_ms: None,
            user_bytes: 0,
            data_blocks: 0,
            raw_bytes: 0,
            stored_bytes: 0,
            padding_bytes: 0,
            partitions: 0,
            compression,
            compression_level,
            block_bytes: options.block_bytes as u32,
            partition_bytes: options.partition_bytes as u32,
            filter_bits_per_key: options.filter_bits_per_key,
            prefix: options.prefix,
        }
    }

    /// Counts an entry, but for the smallest and largest key.
    pub(crate) fn count(&mut self, entry: &Entry<'_>) {
        match entry.kind {
            Kind::Deletion => self.deletions += 1,
            Kind::Merge => self.merges += 1,
            Kind::RangeDeletion => self.range_tombstones += 1,
            Kind::ExpiringValue => self.expiring += 1,
            Kind::Value | Kind::SeparatedValue => {}
        }
        self.entries += u64::from(entry.kind != Kind::RangeDeletion);
        self.user_bytes += (entry.user_key.len() + entry.value.len()) as u64;
        self.smallest_sequence = self.smallest_sequence.min(entry.sequence);
        self.largest_sequence = self.largest_sequence.max(entry.sequence);
        if let Some(expiry) = entry.expires_at_ms {
            self.earliest_expiry_ms =
                Some(self.earliest_expiry_ms.map_or(expiry, |at| at.min(expiry)));
            self.latest_expiry_ms = Some(self.latest_expiry_ms.map_or(expiry, |at| at.max(expiry)));
        }
    }

    /// From when on nothing is seen of the table but what it hides of older ones: its values have
    /// ended, in milliseconds since 1970; 0 if it has none. `None` if it has something that does
    /// not end.
    #[must_use]
    pub fn ends_at_ms(&self) -> Option<u64> {
        let is_ending = self.expiring + self.deletions == self.entries;
        is_ending.then(|| self.latest_expiry_ms.unwrap_or(0))
    }

    pub(crate) fn encode(&self) -> Result<impl AsRef<[u8]> + use<>, String> {
        rkyv::to_bytes::<Error>(self).map_err(|error| error.to_string())
    }

    pub(crate) fn decode(archive: &[u8]) -> Result<Self, String> {
        rkyv::from_bytes::<Self, Error>(archive)
            .map_err(|error| format!("the properties are no archive: {error}"))
    }
}
