//! The bytes of a log.
//!
//! The fault model: any bytes at all may be read, in any place. Nothing here panics on them, and
//! nothing is taken for a frame unless every condition below holds.
//!
//! # A segment
//!
//! A file of a fixed length, made of blocks. Frames stand one behind the other, each at a block
//! boundary; the first is of kind `Start`. Behind the last frame there are zeros, or blocks of
//! the segment's earlier lives.
//!
//! ```text
//! | Start | Data      | Data | Witness | Data          | zeros or stale blocks ...      |
//! 0       4096        ...                                              segment_bytes
//! ```
//!
//! # A frame
//!
//! All numbers are little endian.
//!
//! ```text
//! at  bytes
//!  0   8    magic              "WCKFRAME"
//!  8   4    kind               1 Start, 2 Data, 3 Witness, 4 Carried
//! 12   4    commits            how many the payload holds
//! 16  16    identity           of the log: random, the same in all its segments
//! 32   8    generation         of the segment: the number in the file's name
//! 40   8    offset             of this header in the segment
//! 48   8    lsn                number of the frame: 1, 2, 3, ...
//! 56   8    watermark          every frame below it was durable when this one was built
//! 64   8    trim               no frame below it is needed any more
//! 72   4    payload bytes
//! 76   4    previous           header checksum of the frame before, across segments
//! 80   4    payload checksum   CRC-32C of the payload
//! 84   8    zero
//! 92   4    header checksum    CRC-32C of bytes 0..92
//! 96   ...  payload, then zeros up to the next block boundary
//! ```
//!
//! The payload of `Data` is its commits, each `u32` length and as many bytes. If the highest bit of
//! the length is set, the commit's bytes are a *body* that stands in a file of its own, and here
//! stand 24 bytes that refer to it: `u64` generation of the file, `u64` offset, `u32` length, `u32`
//! CRC-32C of the body. The payload of `Start` is `u32` format version, `u32` block bytes, `u64` segment bytes, `u64` first number.
//! `Witness` has none. `Carried` is a copy that recovery made of a frame of an older segment: the
//! number and, if that was `Data`, the payload are the same.
//!
//! The first number of a segment is usually that of its start frame. If recovery carried frames
//! over, it is theirs: they stand behind the start frame, though their numbers are below its own.
//!
//! ```text
//! | Start 9, first 7 | Carried 7 | Carried 8 | Data 10 | Data 11 | ...
//! ```
//!
//! # Validity
//!
//! A block at `offset` of the segment `generation` of the log `identity` holds the header of a
//! frame only if
//!
//! 1. the magic, and the header checksum over bytes 0..92, are right;
//! 2. the kind is known; it is `Start` exactly if the offset is 0;
//! 3. `1 <= trim <= watermark <= lsn`, and the frame ends within any segment there can be;
//! 4. `Data` has commits, `Start` and `Witness` have none, `Witness` has no payload;
//! 5. `offset` is where the block stands, `identity` is the log's, `generation` the segment's.
//!
//! The frame is whole only if besides
//!
//! 6. the payload checksum is right;
//! 7. the payload divides exactly into `commits` commits, or is a start of this version or one
//!    before (`Start`);
//!
//! and it is the next frame of the log only if besides
//!
//! 8. `lsn` is the next number, `previous` the header checksum of the frame before, and the kind is
//!    `Carried` exactly if the number is below the start frame's.

use std::ops::Range;

use woodchuck_io::limits::BLOCK_BYTES;

use crate::Location;
use crate::limits::{COMMIT_BYTES, COMMIT_PREFIX_BYTES, SEGMENT_BYTES_MAX};

/// Version of the format. A change of any byte's meaning changes it.
pub(crate) const VERSION: u32 = 2;

/// The oldest version that can be read: it had no references to bodies.
pub(crate) const OLDEST_VERSION: u32 = 1;

/// Bytes of a frame's header.
pub(crate) const HEADER_BYTES: usize = 96;

/// Bytes of a start frame's payload.
pub(crate) const START_BYTES: usize = 24;

/// Bytes of a reference to a body.
pub(crate) const REFERENCE_BYTES: usize = 24;

/// Set in the length of a commit that is a reference to a body.
const REFERENCE: u32 = 1 << 31;

const MAGIC: [u8; 8] = *b"WCKFRAME";
const CHECKSUM_AT: usize = HEADER_BYTES - 4;
const BLOCK: u64 = BLOCK_BYTES as u64;

const _: () = assert!(
    HEADER_BYTES + START_BYTES <= 512,
    "a start frame stands in one sector, the most that any disk writes at once"
);

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The first frame of a segment.
    Start,
    /// A group of commits.
    Data,
    /// Carries a watermark and a trim point, nothing else.
    Witness,
    /// A copy of an older segment's frame, made by recovery.
    Carried,
}

impl Kind {
    const fn number(self) -> u32 {
        match self {
            Self::Start => 1,
            Self::Data => 2,
            Self::Witness => 3,
            Self::Carried => 4,
        }
    }

    const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Start),
            2 => Some(Self::Data),
            3 => Some(Self::Witness),
            4 => Some(Self::Carried),
            _ => None,
        }
    }
}

/// The header of a frame. docs/log-format.md says for each field which crash goes wrong without
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// How many commits the payload holds.
    pub(crate) commits: u32,
    /// The log this frame belongs to.
    pub(crate) identity: u128,
    /// The segment this frame was written for. A segment that is used again gets a new one, so
    /// that frames of its earlier lives are never taken for frames of this one.
    pub(crate) generation: u64,
    /// Where in the segment. Keeps a copy of a frame inside a commit from being taken for one.
    pub(crate) offset: u64,
    /// The number of the frame.
    pub(crate) lsn: u64,
    /// Every frame below it was known durable when this one was built. At most `lsn`. What tells
    /// damage to acknowledged data from a torn tail.
    pub(crate) watermark: u64,
    /// No frame below it is needed. At most `watermark`, so that no frame is given up before it
    /// is known durable.
    pub(crate) trim: u64,
    pub(crate) payload_bytes: u32,
    /// Header checksum of frame `lsn - 1`; 0 if there is none. Covers, link by link, the whole
    /// history of the log.
    pub(crate) previous: u32,
    pub(crate) payload_checksum: u32,
}

impl Header {
    /// Writes the header, and returns its checksum.
    pub(crate) fn encode(&self, bytes: &mut [u8; HEADER_BYTES]) -> u32 {
        assert!(
            0 < self.trim && self.trim <= self.watermark && self.watermark <= self.lsn,
            "frame {} is built with watermark {} and trim point {}",
            self.lsn,
            self.watermark,
            self.trim
        );
        assert_eq!(self.kind == Kind::Start, self.offset == 0, "a segment begins with its start");
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.kind.number().to_le_bytes());
        bytes[12..16].copy_from_slice(&self.commits.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.identity.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.generation.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.offset.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.lsn.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.watermark.to_le_bytes());
        bytes[64..72].copy_from_slice(&self.trim.to_le_bytes());
        bytes[72..76].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[76..80].copy_from_slice(&self.previous.to_le_bytes());
        bytes[80..84].copy_from_slice(&self.payload_checksum.to_le_bytes());
        bytes[84..92].fill(0);
        let checksum = checksum(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        checksum
    }

    /// Reads a header and its checksum from the start of a block: conditions 1 to 4, and the
    /// offset of condition 5.
    pub(crate) fn decode(block: &[u8], offset: u64) -> Option<(Self, u32)> {
        let bytes: &[u8; HEADER_BYTES] = block.first_chunk()?;
        if bytes[0..8] != MAGIC {
            return None;
        }
        let stored = u32_at(bytes, CHECKSUM_AT);
        if stored != checksum(&bytes[..CHECKSUM_AT]) {
            return None;
        }
        let header = Self {
            kind: Kind::from_number(u32_at(bytes, 8))?,
            commits: u32_at(bytes, 12),
            identity: (u128::from(u64_at(bytes, 24)) << 64) | u128::from(u64_at(bytes, 16)),
            generation: u64_at(bytes, 32),
            offset: u64_at(bytes, 40),
            lsn: u64_at(bytes, 48),
            watermark: u64_at(bytes, 56),
            trim: u64_at(bytes, 64),
            payload_bytes: u32_at(bytes, 72),
            previous: u32_at(bytes, 76),
            payload_checksum: u32_at(bytes, 80),
        };
        (header.offset == offset && header.is_sound()).then_some((header, stored))
    }

    /// Whether a block that holds no header looks like one of this segment that was torn.
    pub(crate) fn looks_torn(block: &[u8], identity: u128, generation: u64) -> bool {
        block.len() >= HEADER_BYTES
            && block[0..8] == MAGIC
            && block[16..32] == identity.to_le_bytes()
            && block[32..40] == generation.to_le_bytes()
    }

    /// Conditions 2 to 4.
    fn is_sound(&self) -> bool {
        let numbers = 0 < self.trim
            && self.trim <= self.watermark
            && self.watermark <= self.lsn
            && self.lsn < u64::MAX
            && 0 < self.generation
            && self.generation < u64::MAX;
        let place = (self.kind == Kind::Start) == (self.offset == 0)
            && self.offset <= SEGMENT_BYTES_MAX
            && self.payload_bytes as usize <= COMMIT_BYTES + COMMIT_PREFIX_BYTES;
        let content = match self.kind {
            Kind::Start => self.commits == 0,
            Kind::Data => self.commits > 0,
            Kind::Witness => self.commits == 0 && self.payload_bytes == 0,
            Kind::Carried => true,
        };
        numbers && place && content
    }

    /// Bytes of the whole frame: header, payload and padding.
    pub(crate) fn frame_bytes(&self) -> u64 {
        frame_bytes(self.payload_bytes as usize) as u64
    }

    /// Where the next frame of the segment begins.
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.frame_bytes()
    }

    /// Conditions 6 and 7, but for what a start says; `payload` has `payload_bytes`.
    pub(crate) fn payload_is_whole(&self, payload: &[u8]) -> bool {
        payload.len() == self.payload_bytes as usize
            && checksum(payload) == self.payload_checksum
            && (self.kind == Kind::Start || divides(payload, self.commits))
    }
}

/// Bytes of a frame with a payload of so many: a whole number of blocks.
pub(crate) const fn frame_bytes(payload_bytes: usize) -> usize {
    (HEADER_BYTES + payload_bytes).next_multiple_of(BLOCK_BYTES)
}

/// The payload of a start frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) version: u32,
    pub(crate) block_bytes: u32,
    pub(crate) segment_bytes: u64,
    /// The number of the first frame of the segment. Frames of older segments from this number on
    /// are superseded.
    pub(crate) first_lsn: u64,
}

impl Start {
    pub(crate) fn encode(&self) -> [u8; START_BYTES] {
        let mut bytes = [0; START_BYTES];
        bytes[0..4].copy_from_slice(&self.version.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.block_bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.segment_bytes.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first_lsn.to_le_bytes());
        bytes
    }

    /// Reads a start; later versions may have put more behind it.
    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let bytes: &[u8; START_BYTES] = payload.first_chunk()?;
        Some(Self {
            version: u32_at(bytes, 0),
            block_bytes: u32_at(bytes, 4),
            segment_bytes: u64_at(bytes, 8),
            first_lsn: u64_at(bytes, 16),
        })
    }

    /// Whether the numbers can be those of a segment whose start frame has number `lsn`.
    pub(crate) fn is_sound(&self, lsn: u64) -> bool {
        0 < self.first_lsn
            && self.first_lsn <= lsn
            && self.segment_bytes.is_multiple_of(BLOCK)
            && self.segment_bytes >= BLOCK
            && self.segment_bytes <= SEGMENT_BYTES_MAX
    }
}

/// Where the bytes of a large commit stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Of the file, in its name.
    pub(crate) generation: u64,
    /// Where in the file: at a block.
    pub(crate) offset: u64,
    /// Bytes of the body, without padding.
    pub(crate) length: u32,
    pub(crate) checksum: u32,
}

impl Reference {
    pub(crate) fn encode(&self) -> [u8; REFERENCE_BYTES] {
        let mut bytes = [0; REFERENCE_BYTES];
        bytes[0..8].copy_from_slice(&self.generation.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.length.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.checksum.to_le_bytes());
        bytes
    }

    /// Where the body is, for readers.
    pub(crate) const fn location(&self) -> Location {
        Location { segment: self.generation, offset: self.offset, length: self.length }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; REFERENCE_BYTES] = bytes.try_into().ok()?;
        let reference = Self {
            generation: u64_at(bytes, 0),
            offset: u64_at(bytes, 8),
            length: u32_at(bytes, 16),
            checksum: u32_at(bytes, 20),
        };
        let is_sound = reference.offset.is_multiple_of(BLOCK)
            && reference.offset <= SEGMENT_BYTES_MAX
            && reference.length as usize <= COMMIT_BYTES;
        is_sound.then_some(reference)
    }
}

/// What stands in a payload for a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// Its bytes, as a range of the payload.
    Here(Range<usize>),
    /// Where its bytes are.
    Elsewhere(Reference),
}

/// The length in front of a commit that stands in the payload itself.
pub(crate) const fn prefix(bytes: usize) -> [u8; COMMIT_PREFIX_BYTES] {
    // Commits are far below 2 GiB: whoever takes one sees to it.
    (bytes as u32).to_le_bytes()
}

/// What stands in front of a reference.
pub(crate) const fn reference_prefix() -> [u8; COMMIT_PREFIX_BYTES] {
    (REFERENCE_BYTES as u32 | REFERENCE).to_le_bytes()
}

/// The commits of a payload. Ends early where the payload makes no sense.
pub(crate) struct Commits<'a> {
    payload: &'a [u8],
    at: usize,
}

impl<'a> Commits<'a> {
    pub(crate) const fn new(payload: &'a [u8]) -> Self {
        Self { payload, at: 0 }
    }
}

impl Iterator for Commits<'_> {
    type Item = Stored;

    fn next(&mut self) -> Option<Stored> {
        let prefix: &[u8; COMMIT_PREFIX_BYTES] = self.payload.get(self.at..)?.first_chunk()?;
        let length = u32_at(prefix, 0);
        let start = self.at + COMMIT_PREFIX_BYTES;
        let end = start.checked_add((length & !REFERENCE) as usize)?;
        let bytes = self.payload.get(start..end)?;
        let stored = if length & REFERENCE == 0 {
            Stored::Here(start..end)
        } else {
            Stored::Elsewhere(Reference::decode(bytes)?)
        };
        self.at = end;
        Some(stored)
    }
}

/// Whether a payload is exactly so many commits.
fn divides(payload: &[u8], commits: u32) -> bool {
    let mut ranges = Commits::new(payload);
    let count = ranges.by_ref().count();
    count == commits as usize && ranges.at == payload.len()
}

/// CRC-32C.
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The number at `at`; callers index fixed arrays with constants.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

/// As [`u32_at`].
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

/// What a name in the log's directory means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// `<16 hex digits>.wal`: a segment, with its generation.
    Segment(u64),
    /// `spare-<n>`: a segment that is no longer needed, to be used again.
    Spare(u64),
    /// `filling-<n>`: a segment that is being filled with zeros.
    Filling(u64),
    /// `<16 hex digits>.body`: a file of bodies, with its generation.
    Bodies(u64),
}

impl Name {
    /// Reads a name. Only what [`fmt`](std::fmt::Display::fmt) writes is one.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let parsed = if let Some(digits) = name.strip_suffix(".wal") {
            Self::Segment(u64::from_str_radix(digits, 16).ok()?)
        } else if let Some(digits) = name.strip_suffix(".body") {
            Self::Bodies(u64::from_str_radix(digits, 16).ok()?)
        } else if let Some(digits) = name.strip_prefix("spare-") {
            Self::Spare(digits.parse().ok()?)
        } else {
            Self::Filling(name.strip_prefix("filling-")?.parse().ok()?)
        };
        let sound = !matches!(parsed, Self::Segment(0 | u64::MAX) | Self::Bodies(0 | u64::MAX));
        (sound && parsed.to_string() == name).then_some(parsed)
    }
}

/// Whether a log makes files of this name in its directory.
#[must_use]
pub fn is_file_of_a_log(name: &str) -> bool {
    Name::parse(name).is_some()
}

/// Whether a file in a log's directory is a segment, by its name. A log that was ever open has one.
#[must_use]
pub fn is_segment(name: &str) -> bool {
    matches!(Name::parse(name), Some(Name::Segment(_)))
}

impl std::fmt::Display for Name {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Segment(generation) => write!(formatter, "{generation:016x}.wal"),
            Self::Spare(number) => write!(formatter, "spare-{number}"),
            Self::Filling(number) => write!(formatter, "filling-{number}"),
            Self::Bodies(generation) => write!(formatter, "{generation:016x}.body"),
        }
    }
}
