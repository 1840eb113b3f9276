//! Where the entries of a memtable stand, each from when it comes up to when the memtable goes.
//!
//! ```text
//! record  0          8           12      14     15      16
//!         +----------+-----------+-------+------+-------+---------------+-----+-------+---------
//!         | sequence | value     | key   | kind | is    | milliseconds, | key | value | up to a
//!         |          | bytes     | bytes |      | large | if Expiring.  |     |       | multiple of 8
//!         +----------+-----------+-------+------+-------+---------------+-----+-------+---------
//! ```
//!
//! Records stand one behind the other in chunks that never move, the first of 4 KiB and each twice
//! as long as the one before, up to 1 MiB. A record is called by 32 bits: the chunk's number, and
//! where in it, in units of eight bytes.
//!
//! A large value has memory of its own, and readers share it: then the record has its number in
//! place of its bytes, and no value. Other values are copied when they are handed out for longer
//! than a step. To share chunks instead would spare the copy, but a short value that somebody keeps
//! would keep a chunk, thousands of times its size.

use std::cmp::Ordering;
use std::hint::black_box;

use bytes::Bytes;

use crate::Entry;
use crate::key::{InternalKey, Kind, Version};
use crate::limits::{
    KEY_BYTES, MEMTABLE_CHUNK_BYTES_MAX, MEMTABLE_CHUNK_BYTES_MIN, MEMTABLE_COPIED_BYTES,
    VALUE_BYTES,
};

const HEADER_BYTES: usize = 16;
const EXPIRY_BYTES: usize = 8;
const UNIT_BYTES: usize = 8;
/// How much memory a CPU fetches at least.
const CACHE_LINE_BYTES: usize = 64;
/// Bits of a record's name that say where in its chunk it stands.
const OFFSET_BITS: u32 = (MEMTABLE_CHUNK_BYTES_MAX / UNIT_BYTES).ilog2();
const CHUNKS_MAX: usize = 1 << (u32::BITS - OFFSET_BITS);
/// What a large value costs besides its bytes.
const LARGE_CHARGE_BYTES: usize = 64;

const _: () = assert!(
    HEADER_BYTES + EXPIRY_BYTES + KEY_BYTES + MEMTABLE_COPIED_BYTES + UNIT_BYTES
        <= MEMTABLE_CHUNK_BYTES_MAX,
    "a record fits a chunk"
);
const _: () = assert!(VALUE_BYTES <= u32::MAX as usize, "lengths of values have 32 bits");

/// Which record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record(u32);

impl Record {
    /// Where there is none.
    pub(super) const NONE: Self = Self(u32::MAX);
}

/// All records.
#[derive(Default)]
pub(super) struct Arena {
    chunks: Vec<Vec<u8>>,
    large: Vec<Bytes>,
    bytes: usize,
}

/// A record's head.
struct Head {
    version: Version,
    is_large: bool,
    /// Or, of a large one, its number.
    value_bytes: usize,
    /// Where the key begins and ends in the record.
    key: (usize, usize),
}

/// What a record holds.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) sequence: u64,
    pub(super) kind: Kind,
    pub(super) expires_at_ms: Option<u64>,
    /// Without the value, if that is large.
    pub(super) key_and_value: &'a [u8],
    pub(super) key_bytes: usize,
    /// A value that readers share.
    pub(super) large: Option<&'a Bytes>,
}

impl<'a> Parts<'a> {
    pub(super) fn user_key(&self) -> &'a [u8] {
        &self.key_and_value[..self.key_bytes]
    }

    pub(super) fn entry(&self) -> Entry<'a> {
        let Self { sequence, kind, expires_at_ms, key_and_value, key_bytes, large } = *self;
        let (user_key, value) = key_and_value.split_at(key_bytes);
        let value = large.map_or(value, |large| large);
        Entry { user_key, sequence, kind, expires_at_ms, value }
    }
}

impl Head {
    fn of(record: &[u8]) -> Self {
        let header: &[u8; HEADER_BYTES] = record.first_chunk().expect("a record has a head");
        let (sequence, rest) = header.split_first_chunk().expect("eight bytes");
        let (value_bytes, rest) = rest.split_first_chunk().expect("four bytes");
        let &[key_low, key_high, kind, is_large] = rest else {
            unreachable!("four bytes are left")
        };
        let has_expiry = kind == Kind::ExpiringValue.number();
        let start = HEADER_BYTES + if has_expiry { EXPIRY_BYTES } else { 0 };
        Self {
            version: Version { sequence: u64::from_le_bytes(*sequence), kind },
            is_large: is_large != 0,
            value_bytes: u32::from_le_bytes(*value_bytes) as usize,
            key: (start, start + usize::from(u16::from_le_bytes([key_low, key_high]))),
        }
    }
}

impl Arena {
    /// Adds a record for an entry.
    pub(super) fn add(&mut self, entry: &Entry<'_>) -> Record {
        let is_large = entry.value.len() > MEMTABLE_COPIED_BYTES;
        let (inline, number) =
            if is_large { (&[][..], self.large.len()) } else { (entry.value, entry.value.len()) };
        let expiry_bytes = if entry.expires_at_ms.is_some() { EXPIRY_BYTES } else { 0 };
        let bytes = HEADER_BYTES + expiry_bytes + entry.user_key.len() + inline.len();
        let padded = bytes.next_multiple_of(UNIT_BYTES);
        let (number_of_chunk, chunk) = self.chunk_with_room(padded);
        let offset = chunk.len();
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&entry.sequence.to_le_bytes());
        header[8..12].copy_from_slice(&(number as u32).to_le_bytes());
        header[12..14].copy_from_slice(&(entry.user_key.len() as u16).to_le_bytes());
        header[14] = entry.kind.number();
        header[15] = u8::from(is_large);
        chunk.extend_from_slice(&header);
        if let Some(expiry) = entry.expires_at_ms {
            chunk.extend_from_slice(&expiry.to_le_bytes());
        }
        chunk.extend_from_slice(entry.user_key);
        chunk.extend_from_slice(inline);
        chunk.extend_from_slice(&[0; UNIT_BYTES][..padded - bytes]);
        self.bytes += padded;
        if is_large {
            self.large.push(Bytes::copy_from_slice(entry.value));
            self.bytes += entry.value.len() + LARGE_CHARGE_BYTES;
        }
        Record((number_of_chunk as u32) << OFFSET_BITS | (offset / UNIT_BYTES) as u32)
    }

    fn chunk_with_room(&mut self, bytes: usize) -> (usize, &mut Vec<u8>) {
        // The allocator may have given more than names of records can tell.
        let capacity = |chunk: &Vec<u8>| chunk.capacity().min(MEMTABLE_CHUNK_BYTES_MAX);
        let has_room = |chunk: &Vec<u8>| capacity(chunk) - chunk.len() >= bytes;
        if !self.chunks.last().is_some_and(has_room) {
            let doublings = self.chunks.len().min(usize::BITS as usize / 2);
            let usual = (MEMTABLE_CHUNK_BYTES_MIN << doublings).min(MEMTABLE_CHUNK_BYTES_MAX);
            let fitting = if bytes > usual { MEMTABLE_CHUNK_BYTES_MAX } else { usual };
            assert!(self.chunks.len() < CHUNKS_MAX, "a memtable is flushed long before");
            self.chunks.push(Vec::with_capacity(fitting));
        }
        let last = self.chunks.len() - 1;
        (last, &mut self.chunks[last])
    }

    /// What its records take.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// A record, and what stands behind it.
    fn at(&self, record: Record) -> &[u8] {
        let chunk = &self.chunks[(record.0 >> OFFSET_BITS) as usize];
        let offset = (record.0 & ((1 << OFFSET_BITS) - 1)) as usize;
        &chunk[offset * UNIT_BYTES..]
    }

    pub(super) fn user_key(&self, record: Record) -> &[u8] {
        let bytes = self.at(record);
        let (start, end) = Head::of(bytes).key;
        &bytes[start..end]
    }

    /// What a record holds.
    pub(super) fn parts(&self, record: Record) -> Parts<'_> {
        let bytes = self.at(record);
        let Head { version: Version { sequence, kind }, is_large, value_bytes, key } =
            Head::of(bytes);
        let kind = Kind::from_number(kind).expect("it had one when it came");
        let expires_at_ms = (kind == Kind::ExpiringValue).then(|| {
            let expiry = bytes[HEADER_BYTES..].first_chunk().expect("its kind has a time");
            u64::from_le_bytes(*expiry)
        });
        let (start, end) = key;
        let (value_end, large) = if is_large {
            (end, Some(&self.large[value_bytes]))
        } else {
            (end + value_bytes, None)
        };
        let key_and_value = &bytes[start..value_end];
        Parts { sequence, kind, expires_at_ms, key_and_value, key_bytes: end - start, large }
    }

    /// The entry of a record.
    pub(super) fn entry(&self, record: Record) -> Entry<'_> {
        self.parts(record).entry()
    }

    /// Looks at records, so that all are on their way from memory at the same time. Whoever looks at
    /// one after the other waits for each.
    pub(super) fn look_at(&self, records: &[Record]) {
        // A record seldom ends in the cache line where it begins. If it is long, the CPU sees that it
        // is read in order.
        let look = |&record: &Record| {
            let bytes = self.at(record);
            let lines: Option<&[u8; 2 * CACHE_LINE_BYTES + 1]> = bytes.first_chunk();
            lines.map_or(bytes[0], |lines| {
                lines[0] ^ lines[CACHE_LINE_BYTES] ^ lines[2 * CACHE_LINE_BYTES]
            })
        };
        black_box(records.iter().map(look).fold(0, |all, byte| all ^ byte));
    }

    /// How a record's internal key compares to another, that has these bytes in common with it.
    pub(super) fn compare(&self, record: Record, skip: usize, other: InternalKey<'_>) -> Ordering {
        let bytes = self.at(record);
        let head = Head::of(bytes);
        let rest = &bytes[head.key.0 + skip..head.key.1];
        rest.cmp(&other.user_key[skip..]).then_with(|| head.version.cmp(&other.version))
    }
}
