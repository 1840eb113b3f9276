//! The Kafka record batch, version 2, as it comes from a producer and as it is kept.
//!
//! ```text
//! offset size field                   covered by the checksum
//!      0    8 base offset             no: stamped by the broker
//!      8    4 length of what follows  no
//!     12    4 leader epoch            no: stamped by the broker
//!     16    1 magic, 2                no
//!     17    4 CRC32C of bytes 21..    -
//!     21    2 attributes              yes: compression (0-2), timestamp type (3),
//!                                          transactional (4), control (5)
//!     23    4 last offset delta       yes
//!     27    8 base timestamp          yes
//!     35    8 max timestamp           yes
//!     43    8 producer id             yes
//!     51    2 producer epoch          yes
//!     53    4 base sequence           yes
//!     57    4 record count            yes
//!     61    . records, compressed as the attributes say
//! ```
//! All numbers are big-endian.
//!
//! A producer's batch is taken if, in this order:
//! 1. it is at least a header long, and at most [`BATCH_BYTES`];
//! 2. its magic is 2 (older formats are refused: no client of the last eight years writes them);
//! 3. its length is exactly that of the bytes it came in: one batch a partition and request;
//! 4. its checksum matches;
//! 5. it holds at least one record and the last offset delta is the count less one;
//! 6. its compression is one that Kafka has, it is not a control batch, which only a broker may
//!    write, and it is not part of a transaction, which are not served yet;
//! 7. if it names a producer, the producer's epoch and sequence number are not negative.
//!
//! What is inside the records is the clients' business: it is passed on as it came.
//!
//! Source: Kafka's protocol documentation, "Record Batch".

use std::fmt;

use bytes::Bytes;

use crate::limits::BATCH_BYTES;
use crate::{Offset, OffsetAndTimestamp};

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;
/// Bytes at the start of a batch that the broker stamps: base offset, length, leader epoch.
pub const STAMP_BYTES: usize = 16;

const LENGTH_AT: usize = 8;
const MAGIC_AT: usize = 16;
const CHECKSUM_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const BASE_TIMESTAMP_AT: usize = 27;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const COUNT_AT: usize = 57;
/// Bytes before and including the length field, which the length does not count.
const LENGTH_PREFIX_BYTES: usize = 12;

const COMPRESSION_MASK: i16 = 0b111;
const COMPRESSION_HIGHEST: i16 = 4;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;

/// A batch that passed the checks of this module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    bytes: Bytes,
}

/// Why bytes are not a batch that can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchError {
    /// Shorter than a header, or than it says it is.
    Truncated {
        /// Bytes there are.
        length: usize,
        /// Bytes there should be.
        needed: usize,
    },
    /// More bytes follow the batch.
    Trailing {
        /// Bytes beyond the batch.
        excess: usize,
    },
    /// Longer than [`BATCH_BYTES`].
    TooLarge {
        /// Bytes there are.
        length: usize,
    },
    /// A message format other than 2.
    Magic(i8),
    /// The checksum does not match the content.
    Checksum {
        /// What the batch says.
        stored: u32,
        /// What its content gives.
        computed: u32,
    },
    /// Record count and offsets do not fit each other.
    Count {
        /// The record count.
        count: i32,
        /// The last offset delta.
        last_offset_delta: i32,
    },
    /// An unknown compression, a control batch, or one of a transaction.
    Attributes(i16),
    /// A producer whose numbering is negative.
    Producer {
        /// The producer's epoch.
        epoch: i16,
        /// The number of the first record.
        sequence: i32,
    },
}

impl fmt::Display for BatchError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { length, needed } => {
                write!(formatter, "the batch is cut off: {length} bytes of {needed}")
            }
            Self::Trailing { excess } => write!(
                formatter,
                "{excess} bytes follow the batch; send one batch for each partition and request"
            ),
            Self::TooLarge { length } => write!(
                formatter,
                "the batch has {length} bytes, more than the limit of {BATCH_BYTES}; send smaller \
                 batches"
            ),
            Self::Magic(magic) => write!(
                formatter,
                "message format {magic} is not supported; use a client that writes format 2 \
                 (Kafka 0.11 or later)"
            ),
            Self::Checksum { stored, computed } => write!(
                formatter,
                "the batch is damaged: its checksum is {stored:08x}, its content gives \
                 {computed:08x}"
            ),
            Self::Count { count, last_offset_delta } => write!(
                formatter,
                "a batch of {count} records cannot end at offset delta {last_offset_delta}"
            ),
            Self::Attributes(attributes) => write!(
                formatter,
                "batch attributes {attributes:#06x} name an unknown compression, a control batch or \
                 a transaction"
            ),
            Self::Producer { epoch, sequence } => write!(
                formatter,
                "a producer cannot have epoch {epoch} and sequence number {sequence}"
            ),
        }
    }
}

impl std::error::Error for BatchError {}

impl Batch {
    /// Checks a producer's bytes, as the module's head says.
    ///
    /// # Errors
    /// The first of the numbered conditions that does not hold.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        if bytes.len() > BATCH_BYTES {
            return Err(BatchError::TooLarge { length: bytes.len() });
        }
        let batch = Self::parse_stored(bytes)?;
        let (count, last_offset_delta) = (batch.count(), batch.last_offset_delta());
        if count < 1 || last_offset_delta != count - 1 {
            return Err(BatchError::Count { count, last_offset_delta });
        }
        let attributes = batch.attributes();
        if attributes & COMPRESSION_MASK > COMPRESSION_HIGHEST
            || attributes & (CONTROL_BIT | TRANSACTIONAL_BIT) != 0
        {
            return Err(BatchError::Attributes(attributes));
        }
        let (epoch, sequence) =
            (i16::from_be_bytes(batch.field(PRODUCER_EPOCH_AT)), batch.base_sequence());
        if batch.producer().is_some() && (epoch < 0 || sequence < 0) {
            return Err(BatchError::Producer { epoch, sequence });
        }
        Ok(batch)
    }

    /// Checks bytes that were taken before and come back from the disk: framing and checksum.
    ///
    /// # Errors
    /// If they are not the batch that was written.
    pub fn parse_stored(bytes: Bytes) -> Result<Self, BatchError> {
        if bytes.len() < HEADER_BYTES {
            return Err(BatchError::Truncated { length: bytes.len(), needed: HEADER_BYTES });
        }
        let batch = Self { bytes };
        let magic = batch.bytes[MAGIC_AT] as i8;
        if magic != 2 {
            return Err(BatchError::Magic(magic));
        }
        let length = i32::from_be_bytes(batch.field(LENGTH_AT));
        let needed = usize::try_from(length).unwrap_or(0).saturating_add(LENGTH_PREFIX_BYTES);
        if needed < HEADER_BYTES || needed > batch.bytes.len() {
            return Err(BatchError::Truncated { length: batch.bytes.len(), needed });
        }
        if needed < batch.bytes.len() {
            return Err(BatchError::Trailing { excess: batch.bytes.len() - needed });
        }
        let stored = u32::from_be_bytes(batch.field(CHECKSUM_AT));
        let computed = checksum(&batch.bytes[ATTRIBUTES_AT..]);
        if stored != computed {
            return Err(BatchError::Checksum { stored, computed });
        }
        Ok(batch)
    }

    /// The whole batch.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The first [`STAMP_BYTES`] of the batch as they are kept: with this base offset, in leader
    /// epoch 0. The rest of the batch is kept as it came.
    #[must_use]
    pub fn stamp(&self, base_offset: Offset) -> [u8; STAMP_BYTES] {
        let mut stamp = [0; STAMP_BYTES];
        stamp[..8].copy_from_slice(&base_offset.to_be_bytes());
        stamp[8..12].copy_from_slice(&self.bytes[LENGTH_AT..LENGTH_AT + 4]);
        stamp
    }

    /// The offset of its first record.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        i64::from_be_bytes(self.field(0))
    }

    /// How far its last record's offset is from its first.
    #[must_use]
    pub fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(self.field(LAST_OFFSET_DELTA_AT))
    }

    /// How many records it holds.
    #[must_use]
    pub fn count(&self) -> i32 {
        i32::from_be_bytes(self.field(COUNT_AT))
    }

    /// The largest timestamp of its records, in milliseconds since 1970.
    #[must_use]
    pub fn max_timestamp(&self) -> i64 {
        i64::from_be_bytes(self.field(MAX_TIMESTAMP_AT))
    }

    /// The id and epoch of the producer that numbers its batches, if it does.
    #[must_use]
    pub fn producer(&self) -> Option<(i64, i16)> {
        let id = i64::from_be_bytes(self.field(PRODUCER_ID_AT));
        (id >= 0).then(|| (id, i16::from_be_bytes(self.field(PRODUCER_EPOCH_AT))))
    }

    /// The producer's number of its first record.
    #[must_use]
    pub fn base_sequence(&self) -> i32 {
        i32::from_be_bytes(self.field(BASE_SEQUENCE_AT))
    }

    fn attributes(&self) -> i16 {
        i16::from_be_bytes(self.field(ATTRIBUTES_AT))
    }

    /// The first record of a timestamp at or above `timestamp`. In a compressed batch records are
    /// not looked into, and the answer is the batch's first record: never later than the exact one.
    #[must_use]
    pub fn find_timestamp(&self, timestamp: i64) -> Option<OffsetAndTimestamp> {
        if self.max_timestamp() < timestamp {
            return None;
        }
        let base_timestamp = i64::from_be_bytes(self.field(BASE_TIMESTAMP_AT));
        let first = OffsetAndTimestamp { offset: self.base_offset(), timestamp: base_timestamp };
        if self.attributes() & COMPRESSION_MASK != 0 {
            return Some(first);
        }
        let mut rest = &self.bytes[HEADER_BYTES..];
        for _ in 0..self.count() {
            let Some((timestamp_delta, offset_delta)) = next_record(&mut rest) else { break };
            let found = OffsetAndTimestamp {
                offset: self.base_offset().saturating_add(offset_delta),
                timestamp: base_timestamp.saturating_add(timestamp_delta),
            };
            if found.timestamp >= timestamp {
                return Some(found);
            }
        }
        // The records do not bear out the header's maximum: answer from the header.
        Some(first)
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut field = [0; N];
        field.copy_from_slice(&self.bytes[at..at + N]);
        field
    }
}

/// The CRC32C that Kafka uses.
fn checksum(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// Takes one record off `rest` and returns its timestamp delta and offset delta, or `None` if it
/// is malformed.
fn next_record(rest: &mut &[u8]) -> Option<(i64, i64)> {
    let length = usize::try_from(varint(rest)?).ok()?;
    let (mut record, after) = rest.split_at_checked(length)?;
    *rest = after;
    record = record.get(1..)?; // attributes, unused
    Some((varint(&mut record)?, varint(&mut record)?))
}

/// Takes a zigzag varint of at most 64 bits off `rest`.
fn varint(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

pub mod build {
    //! Builds batches, for tests, simulated clients and benchmarks.

    use bytes::{BufMut, Bytes, BytesMut};

    use super::{ATTRIBUTES_AT, CHECKSUM_AT, LENGTH_AT, LENGTH_PREFIX_BYTES, checksum};

    /// One record to put into a batch.
    #[derive(Clone, Copy, Debug)]
    pub struct Record<'a> {
        /// Milliseconds since 1970.
        pub timestamp: i64,
        /// The key, if any.
        pub key: Option<&'a [u8]>,
        /// The value, if any.
        pub value: Option<&'a [u8]>,
    }

    /// An uncompressed batch of `records`, base offset 0, from no particular producer. An empty
    /// list gives a batch that no broker takes.
    #[must_use]
    pub fn batch(records: &[Record<'_>]) -> Bytes {
        batch_from(records, None)
    }

    /// A batch as [`batch`] makes it, from a producer with this id, epoch and sequence number.
    #[must_use]
    pub fn batch_from(records: &[Record<'_>], producer: Option<(i64, i16, i32)>) -> Bytes {
        let (producer_id, epoch, sequence) = producer.unwrap_or((-1, -1, -1));
        let base_timestamp = records.first().map_or(0, |record| record.timestamp);
        let max_timestamp = records.iter().map(|record| record.timestamp).max().unwrap_or(0);
        let count = records.len() as i32;
        let mut bytes = BytesMut::with_capacity(256);
        bytes.put_i64(0);
        bytes.put_i32(0); // length, filled in below
        bytes.put_i32(-1);
        bytes.put_i8(2);
        bytes.put_u32(0); // checksum, filled in below
        bytes.put_i16(0);
        bytes.put_i32(count - 1);
        bytes.put_i64(base_timestamp);
        bytes.put_i64(max_timestamp);
        bytes.put_i64(producer_id);
        bytes.put_i16(epoch);
        bytes.put_i32(sequence);
        bytes.put_i32(count);
        for (index, record) in records.iter().enumerate() {
            put_record(&mut bytes, index as i64, record.timestamp - base_timestamp, record);
        }
        let length = (bytes.len() - LENGTH_PREFIX_BYTES) as i32;
        bytes[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&length.to_be_bytes());
        let checksum = checksum(&bytes[ATTRIBUTES_AT..]);
        bytes[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_be_bytes());
        bytes.freeze()
    }

    fn put_record(bytes: &mut BytesMut, offset_delta: i64, timestamp_delta: i64, r: &Record<'_>) {
        let mut record = BytesMut::new();
        record.put_i8(0);
        put_varint(&mut record, timestamp_delta);
        put_varint(&mut record, offset_delta);
        for field in [r.key, r.value] {
            put_varint(&mut record, field.map_or(-1, |field| field.len() as i64));
            record.put_slice(field.unwrap_or_default());
        }
        put_varint(&mut record, 0);
        put_varint(bytes, record.len() as i64);
        bytes.put_slice(&record);
    }

    fn put_varint(bytes: &mut BytesMut, value: i64) {
        let mut rest = ((value << 1) ^ (value >> 63)) as u64;
        while rest >= 0x80 {
            bytes.put_u8(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.put_u8(rest as u8);
    }

    /// The values of an uncompressed batch's records, with their offsets; stops at the first that
    /// is malformed.
    #[must_use]
    pub fn values(batch: &super::Batch) -> Vec<(i64, Bytes)> {
        let mut rest = &batch.bytes[super::HEADER_BYTES..];
        let mut values = Vec::new();
        for _ in 0..batch.count() {
            let Some(found) = next_value(batch, &mut rest) else { break };
            values.push(found);
        }
        values
    }

    fn next_value(batch: &super::Batch, rest: &mut &[u8]) -> Option<(i64, Bytes)> {
        let length = usize::try_from(super::varint(rest)?).ok()?;
        let (record, after) = rest.split_at_checked(length)?;
        *rest = after;
        let mut record = record.get(1..)?;
        let _timestamp_delta = super::varint(&mut record)?;
        let offset = batch.base_offset() + super::varint(&mut record)?;
        let key_length = usize::try_from(super::varint(&mut record)?).unwrap_or(0);
        let mut record = record.get(key_length..)?;
        let value_length = usize::try_from(super::varint(&mut record)?).unwrap_or(0);
        Some((offset, batch.bytes.slice_ref(record.get(..value_length)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::build::Record;
    use super::*;

    fn sample() -> Bytes {
        let record = |timestamp| Record { timestamp, key: None, value: Some(b"value") };
        build::batch(&[record(1_000), record(1_010), record(1_005)])
    }

    #[test]
    fn a_good_batch_is_taken_and_read() {
        let batch = Batch::parse(sample()).expect("a good batch");
        assert_eq!((batch.count(), batch.last_offset_delta()), (3, 2));
        assert_eq!(batch.max_timestamp(), 1_010);
        let values = build::values(&batch);
        assert_eq!(values.len(), 3);
        assert_eq!(values[2], (2, Bytes::from_static(b"value")));
    }

    #[test]
    fn stamping_keeps_the_checksum_valid() {
        let batch = Batch::parse(sample()).expect("a good batch");
        let mut kept = batch.bytes().to_vec();
        kept[..STAMP_BYTES].copy_from_slice(&batch.stamp(41));
        let kept = Batch::parse(kept.into()).expect("still good");
        assert_eq!(kept.base_offset(), 41);
    }

    #[test]
    fn each_condition_is_checked() {
        let good = sample();
        let with = |at: usize, byte: u8| {
            let mut bytes = good.to_vec();
            bytes[at] = byte;
            Batch::parse(bytes.into())
        };
        let resealed = |at: usize, byte: u8| {
            let mut bytes = good.to_vec();
            bytes[at] = byte;
            let sum = checksum(&bytes[ATTRIBUTES_AT..]).to_be_bytes();
            bytes[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&sum);
            Batch::parse(bytes.into())
        };
        assert!(matches!(Batch::parse(good.slice(..60)), Err(BatchError::Truncated { .. })));
        assert!(matches!(
            Batch::parse(good.slice(..good.len() - 1)),
            Err(BatchError::Truncated { .. })
        ));
        let mut longer = good.to_vec();
        longer.push(0);
        assert!(matches!(Batch::parse(longer.into()), Err(BatchError::Trailing { excess: 1 })));
        assert_eq!(with(MAGIC_AT, 1), Err(BatchError::Magic(1)));
        assert!(matches!(with(good.len() - 1, 9), Err(BatchError::Checksum { .. })));
        assert!(matches!(resealed(COUNT_AT + 3, 2), Err(BatchError::Count { .. })));
        assert!(matches!(resealed(ATTRIBUTES_AT + 1, 5), Err(BatchError::Attributes(5))));
        assert!(matches!(resealed(ATTRIBUTES_AT + 1, 32), Err(BatchError::Attributes(32))));
        assert!(matches!(with(LENGTH_AT, 0x80), Err(BatchError::Truncated { .. })));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let good = sample();
        for at in 0..good.len() {
            for byte in [0, 1, 0x7F, 0x80, 0xFF] {
                let mut bytes = good.to_vec();
                bytes[at] = byte;
                let sum = checksum(&bytes[ATTRIBUTES_AT..]).to_be_bytes();
                bytes[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&sum);
                if let Ok(batch) = Batch::parse(bytes.into()) {
                    let _ = (batch.find_timestamp(1_005), build::values(&batch));
                }
            }
        }
    }

    #[test]
    fn timestamps_are_found_record_by_record() {
        let batch = Batch::parse(sample()).expect("a good batch");
        let offset = |timestamp| batch.find_timestamp(timestamp).map(|found| found.offset);
        assert_eq!(offset(0), Some(0));
        assert_eq!(offset(1_001), Some(1));
        assert_eq!(offset(1_010), Some(1));
        assert_eq!(offset(1_011), None);
    }
}
