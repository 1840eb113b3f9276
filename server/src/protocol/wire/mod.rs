//! The primitive types of the Kafka protocol, read and written.
//!
//! # Format
//!
//! All integers are big-endian. Lengths come in two encodings; a version of an API has one of them
//! throughout its body (see [`super::flexible`]):
//!
//! | type    | [`Encoding::Classic`]                 | [`Encoding::Flexible`]                     |
//! |---------|---------------------------------------|--------------------------------------------|
//! | string  | `i16` length (-1 null), UTF-8         | unsigned varint length + 1 (0 null), UTF-8 |
//! | bytes   | `i32` length (-1 null), bytes         | unsigned varint length + 1 (0 null), bytes |
//! | array   | `i32` count (-1 null), items          | unsigned varint count + 1 (0 null), items  |
//! | struct  | its fields                            | its fields, then its tagged fields         |
//!
//! Tagged fields: an unsigned varint count, then for each a varint tag, a varint size and as many
//! bytes. An unsigned varint holds seven bits a byte, lowest first, the top bit set on all but the
//! last; at most five bytes for 32 bits.
//!
//! # What may be wrong, and what is promised
//!
//! A [`Reader`] is given bytes from strangers. It never panics, never reads past the frame (or past
//! the tagged field it is in), and never reserves memory on the strength of a count: a count is
//! checked against the bytes left first, at most [`RESERVED_ELEMENTS`] are reserved up front, and
//! all arrays of one frame together hold at most [`MAXIMUM_ELEMENTS`] elements. The latter because
//! an element of three bytes on the wire may be a hundred in memory, so that the frame's size alone
//! is not much of a bound.
//!
//! A [`Writer`] is given values of our own. Record payloads are spliced in as they are, so what it
//! gives back is a list of segments for one vectored write.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use reader::Reader;
pub use writer::{TaggedFields, Writer};

/// The longest string of the protocol, in bytes, in either encoding. Compact strings could be
/// longer on the wire, but other implementations refuse them as well.
pub const MAXIMUM_STRING_BYTES: usize = i16::MAX as usize;

/// How many elements an array reserves room for before the first is read.
pub const RESERVED_ELEMENTS: usize = 32;

/// How many elements all arrays of one frame may hold together. A fetch of a hundred thousand
/// partitions needs a tenth of it.
pub const MAXIMUM_ELEMENTS: usize = 1 << 20;

/// The most record payload that one frame carries. What is left up to the 2 GiB that a length
/// prefix can say is for the control bytes around it.
pub const MAXIMUM_PAYLOAD_BYTES: usize = i32::MAX as usize - (256 << 20);

/// The size of the length in front of every frame.
pub const LENGTH_PREFIX_BYTES: usize = 4;

const _: () = assert!(RESERVED_ELEMENTS <= MAXIMUM_ELEMENTS);

/// How lengths are written, and whether structs end with tagged fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Fixed-size lengths, no tagged fields.
    Classic,
    /// Variable-length lengths, tagged fields at the end of every struct.
    Flexible,
}

impl Encoding {
    /// The encoding of a version, given whether it is a flexible one.
    pub fn of(flexible: bool) -> Self {
        if flexible { Self::Flexible } else { Self::Classic }
    }
}
