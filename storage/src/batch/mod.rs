//! A batch: changes to several keyspaces that one commit makes.
//!
//! It becomes one string of bytes in one commit of the shard's log, which has its own checksum; the
//! commit's place in the log is the sequence of all its entries. So only software can have made the
//! bytes wrong; but [`BatchView::parse`] takes any bytes at all, and looks at each of them once.
//!
//! # What is in a batch
//!
//! A batch is **canonical**: what it says of a key is put together as it is said, so that two
//! batches that do the same to every store have the same bytes. Of one key there is at most one
//! *base* (a value, a value that expires, or a deletion), and at most one list of merge operands.
//!
//! - A base replaces what the batch has of the key, operands included.
//! - An operand goes behind the operands that are there. They apply to the base of the batch, and if
//!   there is none, to what the store has.
//! - A range deletion removes what the batch has of its keys, and is joined with those that it
//!   meets. It stays for what the store has. A deletion inside it would say nothing more, and is
//!   left out.
//!
//! # The rule for readers
//!
//! A range deletion of a commit hides entries of **older** commits only. A list of operands stands
//! in front of the base of the same commit, as if it were newer. With these two, what stands in a
//! batch needs no order among its entries.
//!
//! # The bytes
//!
//! ```text
//! batch     | u8 version | varint keyspaces | keyspace | keyspace | ...
//! keyspace  | varint number | varint ranges | varint points | range | ... | point | ...
//! range     | varint start bytes | start | varint end bytes | end |
//! point     | u8 kind | varint key bytes | key | u64 milliseconds | varint value bytes | value |
//! ```
//!
//! The milliseconds, little endian, are there if the kind is `ExpiringValue`, and the value unless
//! it is `Deletion`. The value of `Merge` is a list of operands, as `operands` says.
//!
//! # Validity
//!
//! 1. The version is known; bytes and entries are no more than a batch may have.
//! 2. Keyspaces ascend, and each has a range or a point.
//! 3. Each range ends behind its start, and starts behind the end of the one before, not at it.
//! 4. Kinds of points are `Deletion`, `Value`, `ExpiringValue` and `Merge`. Points ascend by key; of
//!    one key there may be two, a `Merge` and then another kind.
//! 5. No `Deletion` stands in a range of its keyspace.
//! 6. Keys and values are no longer than they may be; a list of operands is one.
//! 7. Varints are in their shortest form. The batch ends with its last point.
//!
//! So each batch has one encoding, and what was decoded is encoded to the same bytes.

mod ends;
mod error;
mod view;

use std::collections::BTreeMap;
use std::ops::Bound;

pub use error::BatchError;
pub use view::{BatchEntries, BatchView};

use crate::key::Kind;
use crate::limits::{BATCH_BYTES, BATCH_ENTRIES, KEY_BYTES, VALUE_BYTES};
use crate::operands::OperandsBuilder;
use crate::varint::{put_varint, varint_bytes};

/// The version of the encoding.
const VERSION: u8 = 1;

/// Bytes of the time at which a value ends.
const END_BYTES: usize = 8;

/// Collects changes for one commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBatch {
    keyspaces: BTreeMap<u64, Changes>,
    /// Of all keyspaces.
    entries: usize,
    /// Of all keyspaces, encoded.
    bytes: usize,
}

/// What a batch does to a keyspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Changes {
    /// From start to end. They neither overlap nor touch.
    ranges: BTreeMap<Vec<u8>, Vec<u8>>,
    points: BTreeMap<Vec<u8>, Point>,
    size: Size,
}

/// What a batch says of a key: one of the two at least.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Point {
    operands: Option<OperandsBuilder>,
    base: Option<Base>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Base {
    Deletion,
    Value(Vec<u8>),
    Expiring(u64, Vec<u8>),
}

/// How much a batch has for a keyspace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    ranges: usize,
    /// Points, as they are encoded: of one key there may be two.
    points: usize,
    /// Bytes of ranges and points.
    bytes: usize,
}

impl Size {
    const fn plus(self, other: Self) -> Self {
        Self {
            ranges: self.ranges + other.ranges,
            points: self.points + other.points,
            bytes: self.bytes + other.bytes,
        }
    }

    const fn minus(self, other: Self) -> Self {
        Self {
            ranges: self.ranges - other.ranges,
            points: self.points - other.points,
            bytes: self.bytes - other.bytes,
        }
    }

    const fn entries(self) -> usize {
        self.ranges + self.points
    }

    /// Bytes with what stands in front of them.
    const fn encoded(self, keyspace: u64) -> usize {
        let counts = varint_bytes(self.ranges as u64) + varint_bytes(self.points as u64);
        varint_bytes(keyspace) + counts + self.bytes
    }

    const fn of_range(start: &[u8], end: &[u8]) -> Self {
        Self { ranges: 1, points: 0, bytes: string_bytes(start.len()) + string_bytes(end.len()) }
    }

    fn of_point(key: &[u8], point: &Point) -> Self {
        let base = point.base.as_ref().map_or(Self::default(), |base| base.size(key));
        let operands = point.operands.as_ref();
        operands.map_or(base, |list| base.plus(Self::of_value(key, list.bytes())))
    }

    /// Of a point with a value and nothing else.
    const fn of_value(key: &[u8], value_bytes: usize) -> Self {
        let bytes = 1 + string_bytes(key.len()) + string_bytes(value_bytes);
        Self { ranges: 0, points: 1, bytes }
    }
}

impl Base {
    fn size(&self, key: &[u8]) -> Size {
        match self {
            Self::Deletion => Size { ranges: 0, points: 1, bytes: 1 + string_bytes(key.len()) },
            Self::Value(value) => Size::of_value(key, value.len()),
            Self::Expiring(_, value) => {
                Size::of_value(key, value.len()).plus(Size { bytes: END_BYTES, ..Size::default() })
            }
        }
    }
}

const fn string_bytes(bytes: usize) -> usize {
    varint_bytes(bytes as u64) + bytes
}

impl WriteBatch {
    /// A batch that changes nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a key a value.
    ///
    /// # Errors
    /// `TooLong`, `Full`.
    pub fn put(&mut self, keyspace: u64, key: &[u8], value: &[u8]) -> Result<(), BatchError> {
        check_length("value", value.len(), VALUE_BYTES)?;
        self.set(keyspace, key, Some(Base::Value(value.to_vec())))
    }

    /// Gives a key a value that ends at a time, in milliseconds since 1970.
    ///
    /// # Errors
    /// `TooLong`, `Full`.
    pub fn put_expiring(
        &mut self,
        keyspace: u64,
        key: &[u8],
        value: &[u8],
        expires_at_ms: u64,
    ) -> Result<(), BatchError> {
        check_length("value", value.len(), VALUE_BYTES)?;
        self.set(keyspace, key, Some(Base::Expiring(expires_at_ms, value.to_vec())))
    }

    /// Takes away what a key has.
    ///
    /// # Errors
    /// `TooLong`, `Full`.
    pub fn delete(&mut self, keyspace: u64, key: &[u8]) -> Result<(), BatchError> {
        // What a range deletion of the batch takes away need not be taken away again.
        let is_covered = self.keyspaces.get(&keyspace).is_some_and(|changes| changes.covers(key));
        self.set(keyspace, key, (!is_covered).then_some(Base::Deletion))
    }

    /// Takes away what the keys from `from` up to, not including, `to` have.
    ///
    /// # Errors
    /// `EmptyRange`, `TooLong`, `Full`.
    pub fn delete_range(
        &mut self,
        keyspace: u64,
        from: &[u8],
        to: &[u8],
    ) -> Result<(), BatchError> {
        check_length("key", from.len(), KEY_BYTES)?;
        check_length("key", to.len(), KEY_BYTES)?;
        if from >= to {
            return Err(BatchError::EmptyRange);
        }
        let (mut start, mut end) = (from.to_vec(), to.to_vec());
        let (mut size, mut joined, mut removed) = (Size::default(), Vec::new(), Vec::new());
        if let Some(changes) = self.keyspaces.get(&keyspace) {
            size = changes.size;
            for (other_start, other_end) in changes.ranges_that_meet(from, to) {
                size = size.minus(Size::of_range(other_start, other_end));
                start = start.min(other_start.clone());
                end = end.max(other_end.clone());
                joined.push(other_start.clone());
            }
            let covered = (Bound::Included(from), Bound::Excluded(to));
            for (key, point) in changes.points.range::<[u8], _>(covered) {
                size = size.minus(Size::of_point(key, point));
                removed.push(key.clone());
            }
        }
        size = size.plus(Size::of_range(&start, &end));
        let changes = self.resize(keyspace, size)?;
        for start in joined {
            changes.ranges.remove(&start);
        }
        for key in removed {
            changes.points.remove(&key);
        }
        changes.ranges.insert(start, end);
        Ok(())
    }

    /// Adds an operand to what a key has, behind those that the batch has for it already.
    ///
    /// # Errors
    /// `TooLong`, also if the key's operands become so together; `Full`.
    pub fn merge(&mut self, keyspace: u64, key: &[u8], operand: &[u8]) -> Result<(), BatchError> {
        check_length("key", key.len(), KEY_BYTES)?;
        let none = OperandsBuilder::default();
        let changes = self.keyspaces.get(&keyspace);
        let mut size = changes.map_or(Size::default(), |changes| changes.size);
        let point = changes.and_then(|changes| changes.points.get(key));
        let before = point.and_then(|point| point.operands.as_ref());
        if let Some(before) = before {
            size = size.minus(Size::of_value(key, before.bytes()));
        }
        let bytes = before.unwrap_or(&none).bytes_with(operand.len());
        check_length("list of operands", bytes, VALUE_BYTES)?;
        let changes = self.resize(keyspace, size.plus(Size::of_value(key, bytes)))?;
        let point = match changes.points.get_mut(key) {
            Some(point) => point,
            None => changes.points.entry(key.to_vec()).or_default(),
        };
        point.operands.get_or_insert_default().push(operand);
        Ok(())
    }

    /// Makes this all that the batch has of a key.
    fn set(&mut self, keyspace: u64, key: &[u8], base: Option<Base>) -> Result<(), BatchError> {
        check_length("key", key.len(), KEY_BYTES)?;
        let changes = self.keyspaces.get(&keyspace);
        let mut size = changes.map_or(Size::default(), |changes| changes.size);
        if let Some(before) = changes.and_then(|changes| changes.points.get(key)) {
            size = size.minus(Size::of_point(key, before));
        }
        let Some(base) = base else {
            self.resize(keyspace, size)?.points.remove(key);
            return Ok(());
        };
        let changes = self.resize(keyspace, size.plus(base.size(key)))?;
        changes.points.insert(key.to_vec(), Point { operands: None, base: Some(base) });
        Ok(())
    }

    /// Makes what the batch has for a keyspace this much, unless that is too much. The caller makes
    /// it so.
    fn resize(&mut self, keyspace: u64, size: Size) -> Result<&mut Changes, BatchError> {
        let before = self.keyspaces.get(&keyspace).map(|changes| changes.size);
        let keyspaces = self.keyspaces.len() + usize::from(before.is_none());
        let (entries_before, bytes_before) =
            before.map_or((0, 0), |before| (before.entries(), before.encoded(keyspace)));
        let entries = self.entries - entries_before + size.entries();
        let bytes = self.bytes - bytes_before + size.encoded(keyspace);
        if entries > BATCH_ENTRIES {
            return Err(BatchError::Full { what: "entries", limit: BATCH_ENTRIES });
        }
        if head_bytes(keyspaces) + bytes > BATCH_BYTES {
            return Err(BatchError::Full { what: "bytes", limit: BATCH_BYTES });
        }
        (self.entries, self.bytes) = (entries, bytes);
        let changes = self.keyspaces.entry(keyspace).or_default();
        changes.size = size;
        Ok(changes)
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keyspaces.is_empty()
    }

    /// How many entries it has, range deletions among them.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries
    }

    /// Bytes of its encoding, exactly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        head_bytes(self.keyspaces.len()) + self.bytes
    }

    /// Takes everything out of it.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Puts its encoding behind `bytes`.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        bytes.reserve(self.bytes());
        bytes.push(VERSION);
        put_varint(bytes, self.keyspaces.len() as u64);
        for (&keyspace, changes) in &self.keyspaces {
            put_varint(bytes, keyspace);
            put_varint(bytes, changes.size.ranges as u64);
            put_varint(bytes, changes.size.points as u64);
            changes.encode(bytes);
        }
        assert_eq!(bytes.len() - start, self.bytes(), "sizes are counted as they are written");
    }
}

impl Changes {
    /// Whether a range deletion is over a key.
    fn covers(&self, key: &[u8]) -> bool {
        let up_to = (Bound::Unbounded, Bound::Included(key));
        let last = self.ranges.range::<[u8], _>(up_to).next_back();
        last.is_some_and(|(_, end)| key < end.as_slice())
    }

    /// The ranges that have a key in common with this one, or end where it starts, or the other way
    /// round.
    fn ranges_that_meet(
        &self,
        from: &[u8],
        to: &[u8],
    ) -> impl Iterator<Item = (&Vec<u8>, &Vec<u8>)> {
        let before = (Bound::Unbounded, Bound::Excluded(from));
        let last = self.ranges.range::<[u8], _>(before).next_back();
        let last = last.filter(|(_, end)| end.as_slice() >= from);
        let others = (Bound::Included(from), Bound::Included(to));
        last.into_iter().chain(self.ranges.range::<[u8], _>(others))
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        for (start, end) in &self.ranges {
            put_string(bytes, start);
            put_string(bytes, end);
        }
        for (key, point) in &self.points {
            if let Some(operands) = &point.operands {
                bytes.push(Kind::Merge.number());
                put_string(bytes, key);
                put_varint(bytes, operands.bytes() as u64);
                operands.put(bytes);
            }
            let Some(base) = &point.base else { continue };
            let (kind, expires_at_ms, value) = match base {
                Base::Deletion => (Kind::Deletion, None, None),
                Base::Value(value) => (Kind::Value, None, Some(value)),
                Base::Expiring(expiry, value) => (Kind::ExpiringValue, Some(expiry), Some(value)),
            };
            bytes.push(kind.number());
            put_string(bytes, key);
            if let Some(expiry) = expires_at_ms {
                bytes.extend_from_slice(&expiry.to_le_bytes());
            }
            if let Some(value) = value {
                put_string(bytes, value);
            }
        }
    }
}

/// Bytes in front of the first keyspace.
const fn head_bytes(keyspaces: usize) -> usize {
    1 + varint_bytes(keyspaces as u64)
}

fn put_string(bytes: &mut Vec<u8>, string: &[u8]) {
    put_varint(bytes, string.len() as u64);
    bytes.extend_from_slice(string);
}

fn check_length(what: &'static str, bytes: usize, limit: usize) -> Result<(), BatchError> {
    if bytes <= limit { Ok(()) } else { Err(BatchError::TooLong { what, bytes, limit }) }
}
