//! The bytes of a data block: sorted entries, laid out for binary search.
//!
//! The fault model: a payload has passed its checksum, so only software can have made it wrong; but
//! [`Block::parse`] takes any bytes at all, and looks at each entry once. What it gives is whole:
//! nothing that is asked of a [`Block`] afterwards can fail.
//!
//! # The payload
//!
//! ```text
//! at  bytes
//!  0   4   entries     how many, at least 1
//!  4   2   prefix      bytes that all user keys begin with
//!  6   1   width       of a slot: 2, or 4 if the payload is longer than 65535 bytes
//!  7   1   zero
//!  8   8   sequence    of the first entry
//! 16   ..  slots       where each entry begins in the payload
//!      ..  the prefix
//!      ..  entries, one behind the other, up to the end of the payload
//!
//! entry:   2   bytes of the user key behind the prefix
//!          ..  these bytes
//!          1   kind
//!       1..10  sequence, as a zigzag varint of the difference to the first entry's, modulo 2^64
//!          8   milliseconds since 1970 at which the value ends, if the kind is ExpiringValue
//!          ..  value, up to the next entry
//! ```
//!
//! Why not restart points and each key's difference to the one before, as most tables have: a point
//! read would search the restarts, and then put a dozen keys together to compare them. Here each
//! comparison takes one slot and the bytes where they stand, an entry's number is all that a cursor
//! needs to go either way, and no key is put together unless somebody wants to see it. What it
//! costs is what neighbours share beyond that which all keys of the block share: little in blocks
//! of a page, and compression finds it.
//!
//! # Validity
//!
//! 1. There is an entry at least; the width is 2 or 4; the zero is zero; the entries begin where
//!    slots and prefix end.
//! 2. Slots ascend, and each entry holds its key, its kind and its numbers.
//! 3. The kind is known, and is `RangeDeletion` exactly if the block is one of range tombstones; a
//!    deletion has no value.
//! 4. Internal keys ascend; user keys are not longer than a key may be.

use std::cmp::Ordering;
use std::ops::Range;

use bytes::Bytes;

use crate::key::{InternalKey, Kind, Version, shared_bytes};
use crate::limits::{KEY_BYTES, PAYLOAD_BYTES};
use crate::varint::{VARINT_BYTES_MAX, put_varint, varint, varint_bytes};
use crate::{Entry, limits};

const HEADER_BYTES: usize = 16;
const KEY_LENGTH_BYTES: usize = 2;
const EXPIRY_BYTES: usize = 8;
/// Longest payload whose slots have two bytes.
const NARROW_BYTES: usize = u16::MAX as usize;

const _: () = assert!(PAYLOAD_BYTES <= u32::MAX as usize, "slots have 32 bits at most");
const _: () = assert!(KEY_BYTES <= u16::MAX as usize, "lengths of keys have 16 bits");
const _: () = assert!(
    HEADER_BYTES + 4 + KEY_LENGTH_BYTES + KEY_BYTES + VARINT_BYTES_MAX + limits::VALUE_BYTES + 64
        <= PAYLOAD_BYTES,
    "any entry fits a block of its own"
);

/// Collects entries, in order, and makes a block's payload of them.
#[derive(Default)]
pub(crate) struct BlockBuilder {
    /// Entries so far: whole user key, then what comes behind it in the entry.
    bytes: Vec<u8>,
    /// Of each: where its key ends, and where it ends, in `bytes`.
    ends: Vec<(u32, u32)>,
    sequence: u64,
    /// Bytes that all keys so far begin with. Keys are in order, so it is what the first and the
    /// last have in common.
    prefix: usize,
}

impl BlockBuilder {
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn first_key(&self) -> &[u8] {
        self.ends.first().map_or(&[], |&(end, _)| &self.bytes[..end as usize])
    }

    /// Bytes of the payload once this entry is added too; exactly.
    pub(crate) fn bytes_with(&self, entry: &Entry<'_>) -> usize {
        let prefix = self.prefix_with(entry.user_key);
        let sequence = if self.is_empty() { entry.sequence } else { self.sequence };
        let added = entry.user_key.len() + tail_bytes(entry, sequence);
        payload_bytes(self.ends.len() + 1, self.bytes.len() + added, prefix)
    }

    fn prefix_with(&self, user_key: &[u8]) -> usize {
        if self.is_empty() {
            return user_key.len();
        }
        shared_bytes(&self.first_key()[..self.prefix], user_key)
    }

    /// Adds an entry behind the others. The caller has checked order and lengths.
    pub(crate) fn add(&mut self, entry: &Entry<'_>) {
        assert!(entry.user_key.len() <= KEY_BYTES, "the writer checks keys");
        assert_eq!(entry.kind == Kind::ExpiringValue, entry.expires_at_ms.is_some());
        self.prefix = self.prefix_with(entry.user_key);
        if self.is_empty() {
            self.sequence = entry.sequence;
        }
        self.bytes.extend_from_slice(entry.user_key);
        let key_end = self.bytes.len() as u32;
        self.bytes.push(entry.kind.number());
        put_varint(&mut self.bytes, zigzag(entry.sequence, self.sequence));
        if let Some(expiry) = entry.expires_at_ms {
            self.bytes.extend_from_slice(&expiry.to_le_bytes());
        }
        self.bytes.extend_from_slice(entry.value);
        self.ends.push((key_end, self.bytes.len() as u32));
    }

    /// Puts the payload into `payload`, and forgets the entries.
    pub(crate) fn finish(&mut self, payload: &mut Vec<u8>) {
        assert!(!self.is_empty(), "a block has an entry");
        let entries = self.ends.len();
        let bytes = payload_bytes(entries, self.bytes.len(), self.prefix);
        assert!(bytes <= PAYLOAD_BYTES, "a block of {bytes} bytes");
        let width = slot_bytes(bytes);
        payload.clear();
        payload.reserve(bytes);
        payload.extend_from_slice(&(entries as u32).to_le_bytes());
        payload.extend_from_slice(&(self.prefix as u16).to_le_bytes());
        payload.extend_from_slice(&[width as u8, 0]);
        payload.extend_from_slice(&self.sequence.to_le_bytes());
        let (mut at, mut start) = (HEADER_BYTES + entries * width + self.prefix, 0);
        for &(_, end) in &self.ends {
            payload.extend_from_slice(&(at as u32).to_le_bytes()[..width]);
            at += KEY_LENGTH_BYTES + end as usize - start - self.prefix;
            start = end as usize;
        }
        payload.extend_from_slice(&self.bytes[..self.prefix]);
        let mut start = 0;
        for &(key_end, end) in &self.ends {
            let rest = start + self.prefix;
            payload.extend_from_slice(&((key_end as usize - rest) as u16).to_le_bytes());
            payload.extend_from_slice(&self.bytes[rest..end as usize]);
            start = end as usize;
        }
        assert_eq!(payload.len(), bytes, "sizes are computed as they are written");
        self.bytes.clear();
        self.ends.clear();
        self.prefix = 0;
    }
}

fn payload_bytes(entries: usize, bytes: usize, prefix: usize) -> usize {
    // The prefix stands once instead of in every entry.
    let contents = HEADER_BYTES + bytes + entries * KEY_LENGTH_BYTES + prefix - entries * prefix;
    let narrow = contents + entries * 2;
    if narrow <= NARROW_BYTES { narrow } else { contents + entries * 4 }
}

fn slot_bytes(payload_bytes: usize) -> usize {
    if payload_bytes <= NARROW_BYTES { 2 } else { 4 }
}

/// Bytes of an entry behind its key.
fn tail_bytes(entry: &Entry<'_>, first: u64) -> usize {
    let expiry = if entry.expires_at_ms.is_some() { EXPIRY_BYTES } else { 0 };
    1 + varint_bytes(zigzag(entry.sequence, first)) + expiry + entry.value.len()
}

/// The difference of two sequences, small if they are near each other.
const fn zigzag(sequence: u64, first: u64) -> u64 {
    let difference = sequence.wrapping_sub(first).cast_signed();
    ((difference << 1) ^ (difference >> 63)).cast_unsigned()
}

const fn unzigzag(value: u64, first: u64) -> u64 {
    first.wrapping_add((value >> 1) ^ (value & 1).wrapping_neg())
}

/// A block that was found whole. Cheap to clone: clones share the bytes.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    payload: Bytes,
    entries: usize,
    is_narrow: bool,
    /// Where the prefix stands in the payload. The entries begin at its end.
    prefix: (usize, usize),
    sequence: u64,
}

/// Where the parts of an entry stand in the payload.
struct Parts {
    suffix: Range<usize>,
    kind: Kind,
    sequence: u64,
    expires_at_ms: Option<u64>,
    value: Range<usize>,
}

impl Parts {
    fn content(self) -> Content {
        let Self { kind, sequence, expires_at_ms, value, .. } = self;
        Content { sequence, kind, expires_at_ms, value }
    }
}

impl Block {
    /// The block with this payload, or what is wrong with it.
    pub(crate) fn parse(payload: Bytes, of_tombstones: bool) -> Result<Self, String> {
        let header: &[u8; HEADER_BYTES] =
            payload.first_chunk().ok_or("a block is shorter than its header")?;
        let entries = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let prefix = usize::from(u16::from_le_bytes([header[4], header[5]]));
        let sequence = header[8..].iter().rev().fold(0, |all, &byte| all << 8 | u64::from(byte));
        let width = slot_bytes(payload.len());
        if entries == 0 || usize::from(header[6]) != width || header[7] != 0 {
            return Err(format!("{entries} entries, slots of {} bytes", header[6]));
        }
        let slots_end =
            entries.checked_mul(width).and_then(|slots| slots.checked_add(HEADER_BYTES));
        let prefix_start =
            slots_end.filter(|&end| end <= payload.len() && payload.len() - end >= prefix);
        let Some(prefix_start) = prefix_start else {
            return Err(format!("{entries} entries in {} bytes", payload.len()));
        };
        let prefix = (prefix_start, prefix_start + prefix);
        let block = Self { is_narrow: width == 2, entries, prefix, sequence, payload };
        block.check(of_tombstones)?;
        Ok(block)
    }

    /// Looks at each entry, as the module's conditions say.
    fn check(&self, of_tombstones: bool) -> Result<(), String> {
        let mut before: Option<(Range<usize>, Version)> = None;
        let mut start = self.prefix.1;
        if self.slot(0) != start {
            return Err("the first entry is not behind the prefix".to_owned());
        }
        for index in 0..self.entries {
            let end =
                if index + 1 < self.entries { self.slot(index + 1) } else { self.payload.len() };
            let parts = self.parts_of(start, end);
            let parts = parts.ok_or_else(|| format!("entry {index} does not hold its parts"))?;
            if (parts.kind == Kind::RangeDeletion) != of_tombstones
                || (parts.kind == Kind::Deletion && !parts.value.is_empty())
                || self.prefix.1 - self.prefix.0 + parts.suffix.len() > KEY_BYTES
            {
                return Err(format!("entry {index} cannot be of kind {:?}", parts.kind));
            }
            let version = Version { sequence: parts.sequence, kind: parts.kind.number() };
            if let Some((suffix, before)) = &before {
                let key = (&self.payload[parts.suffix.clone()], version);
                if key <= (&self.payload[suffix.clone()], *before) {
                    return Err(format!("entry {index} is not behind the one before"));
                }
            }
            before = Some((parts.suffix, version));
            start = end;
        }
        Ok(())
    }

    fn slot(&self, index: usize) -> usize {
        if self.is_narrow {
            let at = HEADER_BYTES + index * 2;
            usize::from(u16::from_le_bytes([self.payload[at], self.payload[at + 1]]))
        } else {
            let at = HEADER_BYTES + index * 4;
            let slot = &self.payload[at..at + 4];
            u32::from_le_bytes([slot[0], slot[1], slot[2], slot[3]]) as usize
        }
    }

    /// The user key's bytes behind the prefix.
    fn suffix(&self, index: usize) -> Range<usize> {
        let at = self.slot(index);
        let length = u16::from_le_bytes([self.payload[at], self.payload[at + 1]]);
        let start = at + KEY_LENGTH_BYTES;
        start..start + usize::from(length)
    }

    /// The entry that stands from `start` to `end`, if one does.
    fn parts_of(&self, start: usize, end: usize) -> Option<Parts> {
        let bytes = self.payload.get(start..end)?;
        let length = usize::from(u16::from_le_bytes(*bytes.first_chunk()?));
        let rest = bytes.get(KEY_LENGTH_BYTES + length..)?;
        let (&kind, rest) = rest.split_first()?;
        let kind = Kind::from_number(kind)?;
        let (difference, taken) = varint(rest)?;
        let mut rest = &rest[taken..];
        let mut expires_at_ms = None;
        if kind == Kind::ExpiringValue {
            let (expiry, behind) = rest.split_first_chunk::<EXPIRY_BYTES>()?;
            (expires_at_ms, rest) = (Some(u64::from_le_bytes(*expiry)), behind);
        }
        let suffix_start = start + KEY_LENGTH_BYTES;
        Some(Parts {
            suffix: suffix_start..suffix_start + length,
            kind,
            sequence: unzigzag(difference, self.sequence),
            expires_at_ms,
            value: end - rest.len()..end,
        })
    }

    fn parts(&self, index: usize) -> Parts {
        let end = if index + 1 < self.entries { self.slot(index + 1) } else { self.payload.len() };
        self.parts_of(self.slot(index), end).expect("each entry was looked at")
    }

    /// How many entries there are; at least one.
    pub(crate) fn len(&self) -> usize {
        self.entries
    }

    /// Bytes of the payload.
    pub(crate) fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The bytes that all user keys begin with.
    pub(crate) fn prefix(&self) -> &[u8] {
        &self.payload[self.prefix.0..self.prefix.1]
    }

    /// Puts an entry's user key into `user_key`, which begins with the prefix already, and says
    /// what stands beside it.
    pub(crate) fn put_key(&self, index: usize, user_key: &mut Vec<u8>) -> Content {
        let parts = self.parts(index);
        user_key.truncate(self.prefix.1 - self.prefix.0);
        debug_assert_eq!(user_key, self.prefix(), "the prefix was put there");
        user_key.extend_from_slice(&self.payload[parts.suffix.clone()]);
        parts.content()
    }

    /// An entry without its key.
    pub(crate) fn content(&self, index: usize) -> Content {
        self.parts(index).content()
    }

    /// Whether an entry has this user key.
    pub(crate) fn has_key(&self, index: usize, user_key: &[u8]) -> bool {
        let rest = user_key.strip_prefix(self.prefix());
        rest.is_some_and(|rest| rest == &self.payload[self.suffix(index)])
    }

    /// The first entry at or behind a bound; [`len`](Self::len) if there is none.
    pub(crate) fn lower_bound(&self, bound: InternalKey<'_>) -> usize {
        let prefix = self.prefix();
        let shared = prefix.len().min(bound.user_key.len());
        match bound.user_key[..shared].cmp(&prefix[..shared]) {
            Ordering::Less => return 0,
            Ordering::Greater => return self.entries,
            Ordering::Equal if shared < prefix.len() => return 0,
            Ordering::Equal => {}
        }
        let rest = &bound.user_key[shared..];
        let (mut from, mut to) = (0, self.entries);
        while from < to {
            let middle = from.midpoint(to);
            let is_before = match self.payload[self.suffix(middle)].cmp(rest) {
                Ordering::Less => true,
                Ordering::Greater => false,
                Ordering::Equal => self.version(middle) < bound.version,
            };
            if is_before {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from
    }

    fn version(&self, index: usize) -> Version {
        let parts = self.parts(index);
        Version { sequence: parts.sequence, kind: parts.kind.number() }
    }
}

/// An entry without its key.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) sequence: u64,
    pub(crate) kind: Kind,
    pub(crate) expires_at_ms: Option<u64>,
    /// Where the value stands in the payload.
    pub(crate) value: Range<usize>,
}
