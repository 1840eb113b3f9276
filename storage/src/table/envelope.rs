//! What stands around each block's payload, and when a block is believed.
//!
//! ```text
//! at  bytes
//!  0   8   checksum     XXH3-64 of bytes 8 to the end; its seed is the table's + the offset
//!  8   1   kind         1 data, 2 range tombstones, 3 filter, 4 index partition,
//!                       5 top-level index, 6 properties
//!  9   1   compression  0 none, 1 LZ4, 2 Zstandard
//! 10   2   zero
//! 12   4   stored       bytes of the payload as it stands here
//! 16   4   raw          bytes of the payload when it is decompressed
//! 20  ..   payload
//! ```
//!
//! The table's seed is the XXH3-64 of its identity: store, keyspace and number, 32 bytes, as they
//! stand in the file's first page. So a block that stands at another offset, or comes from another
//! table, has the wrong checksum, though nothing in it is spent on saying so.
//!
//! # Validity
//!
//! 1. The block is as long as its place says, header included.
//! 2. The checksum is right.
//! 3. The kind is the one that is looked for, the compression is known, the zero is zero.
//! 4. `stored` is what is left behind the header; `raw` is at most what any payload may have,
//!    equals `stored` if the block is not compressed, and is what comes out if it is.

use bytes::Bytes;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::TableId;
use crate::compression::{Method, decompress};
use crate::filter;
use crate::limits::PAYLOAD_BYTES;

pub(crate) const HEADER_BYTES: usize = 20;

const _: () = assert!(
    HEADER_BYTES + filter::HEADER_BYTES == filter::LINE_BYTES,
    "the lines of a filter are at multiples of their length"
);
const _: () = assert!(HEADER_BYTES + PAYLOAD_BYTES <= u32::MAX as usize, "lengths have 32 bits");

/// What a block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockKind {
    Data,
    RangeTombstones,
    Filter,
    IndexPartition,
    TopIndex,
    Properties,
}

impl BlockKind {
    /// All kinds.
    const ALL: [Self; 6] = [
        Self::Data,
        Self::RangeTombstones,
        Self::Filter,
        Self::IndexPartition,
        Self::TopIndex,
        Self::Properties,
    ];

    /// What it is called where it is shown.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::RangeTombstones => "range_tombstones",
            Self::Filter => "filter",
            Self::IndexPartition => "index_partition",
            Self::TopIndex => "top_index",
            Self::Properties => "properties",
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Data => 1,
            Self::RangeTombstones => 2,
            Self::Filter => 3,
            Self::IndexPartition => 4,
            Self::TopIndex => 5,
            Self::Properties => 6,
        }
    }
}

/// What the checksums of a table's blocks begin with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed(u64);

impl Seed {
    pub(crate) fn of(id: TableId) -> Self {
        Self(xxh3_64(&id.encode()))
    }

    fn checksum(self, offset: u64, bytes: &[u8]) -> u64 {
        xxh3_64_with_seed(bytes, self.0.wrapping_add(offset))
    }
}

/// Puts the block into `block`: header and payload.
pub(crate) fn seal(
    seed: Seed,
    offset: u64,
    kind: BlockKind,
    (method, stored): (Method, &[u8]),
    raw_bytes: usize,
    block: &mut Vec<u8>,
) {
    assert!(stored.len() <= raw_bytes && raw_bytes <= PAYLOAD_BYTES, "{raw_bytes} bytes");
    block.clear();
    block.extend_from_slice(&[0; 8]);
    block.extend_from_slice(&[kind.number(), method.number(), 0, 0]);
    block.extend_from_slice(&(stored.len() as u32).to_le_bytes());
    block.extend_from_slice(&(raw_bytes as u32).to_le_bytes());
    block.extend_from_slice(stored);
    let checksum = seed.checksum(offset, &block[8..]);
    block[..8].copy_from_slice(&checksum.to_le_bytes());
}

/// The kind and the bytes of the block that a header claims to stand in front of. Nothing is proven.
pub(crate) fn claims(header: &[u8]) -> Option<(BlockKind, usize)> {
    let header: &[u8; HEADER_BYTES] = header.first_chunk()?;
    let kind = BlockKind::ALL.into_iter().find(|kind| kind.number() == header[8])?;
    let stored = u32::from_le_bytes([header[12], header[13], header[14], header[15]]) as usize;
    Some((kind, HEADER_BYTES + stored))
}

/// The payload of a block, or why it is not believed. It shares the block's memory if it is not
/// compressed.
pub(crate) fn open(
    seed: Seed,
    offset: u64,
    kind: BlockKind,
    block: &Bytes,
) -> Result<Bytes, String> {
    let header: &[u8; HEADER_BYTES] =
        block.first_chunk().ok_or("a block is shorter than its header")?;
    let number = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize
    };
    let checksum = header[..8].iter().rev().fold(0, |all, &byte| all << 8 | u64::from(byte));
    let found = seed.checksum(offset, &block[8..]);
    if found != checksum {
        return Err(format!(
            "the checksum of its {} bytes is {found:016x}, not {checksum:016x}",
            block.len()
        ));
    }
    let method = Method::from_number(header[9]);
    let (stored, raw) = (number(12), number(16));
    if header[8] != kind.number() || header[10..12] != [0, 0] {
        return Err(format!("a block of kind {} stands where {kind:?} should", header[8]));
    }
    if stored != block.len() - HEADER_BYTES || raw > PAYLOAD_BYTES {
        return Err(format!("a block of {} bytes claims {stored}, and {raw}", block.len()));
    }
    match method {
        Some(Method::None) if stored == raw => Ok(block.slice(HEADER_BYTES..)),
        Some(method @ (Method::Lz4 | Method::Zstd)) => {
            decompress(method, &block[HEADER_BYTES..], raw)
                .map(Bytes::from)
                .ok_or_else(|| format!("a block cannot be decompressed to {raw} bytes"))
        }
        _ => Err(format!("a block with compression {} has {stored} and {raw} bytes", header[9])),
    }
}
