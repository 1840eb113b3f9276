//! The value of a merge entry: the operands of one commit for one key.
//!
//! A merge operator need not be associative, so operands are kept side by side and never combined
//! but by whoever knows the operator.
//!
//! ```text
//! list:  | varint operands | varint bytes | operand | varint bytes | operand | ... |
//! ```
//!
//! # Validity
//!
//! 1. There is an operand at least; operands are as many as is said, and end where the list ends.
//! 2. Varints are in their shortest form. So a list has one encoding.

use std::iter::FusedIterator;

use crate::batch::BatchError;
use crate::limits::VALUE_BYTES;
use crate::varint::{put_varint, varint, varint_bytes};

/// The operands of a merge entry, oldest first; borrowed from its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operands<'a> {
    count: u64,
    list: &'a [u8],
}

impl<'a> Operands<'a> {
    /// The operands that the value of a merge entry lists, or what is wrong with it.
    ///
    /// # Errors
    /// Any bytes at all give a list or an error.
    pub fn parse(value: &'a [u8]) -> Result<Self, &'static str> {
        let (count, taken) = varint(value).ok_or("a list of operands has no number of them")?;
        let list = &value[taken..];
        if count == 0 {
            return Err("a list has no operand");
        }
        let mut rest = list;
        for _ in 0..count {
            (_, rest) = split(rest).ok_or("a list has fewer operands than it says")?;
        }
        if rest.is_empty() { Ok(Self { count, list }) } else { Err("a list goes on at its end") }
    }

    /// How many there are; at least one.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a list is never empty")]
    pub const fn len(&self) -> usize {
        // Each takes a byte at least of a list that is in memory.
        self.count as usize
    }

    /// Each of them, oldest first.
    #[must_use]
    pub const fn iter(&self) -> OperandsIter<'a> {
        OperandsIter { rest: self.list }
    }

    /// The value of a merge entry with the operands of two, all of `older` in front.
    ///
    /// # Errors
    /// `TooLong` if no value is so long.
    pub fn join(older: Operands<'_>, newer: Operands<'_>) -> Result<Vec<u8>, BatchError> {
        let count = older.count + newer.count;
        let bytes = varint_bytes(count) + older.list.len() + newer.list.len();
        if bytes > VALUE_BYTES {
            return Err(BatchError::TooLong {
                what: "list of operands",
                bytes,
                limit: VALUE_BYTES,
            });
        }
        let mut value = Vec::with_capacity(bytes);
        put_varint(&mut value, count);
        value.extend_from_slice(older.list);
        value.extend_from_slice(newer.list);
        Ok(value)
    }
}

impl<'a> IntoIterator for Operands<'a> {
    type Item = &'a [u8];
    type IntoIter = OperandsIter<'a>;

    fn into_iter(self) -> OperandsIter<'a> {
        self.iter()
    }
}

/// Operands, oldest first.
#[derive(Clone, Debug)]
pub struct OperandsIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for OperandsIter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (operand, rest) = split(self.rest)?;
        self.rest = rest;
        Some(operand)
    }
}

impl FusedIterator for OperandsIter<'_> {}

/// The first operand of a list, and what is behind it.
fn split(list: &[u8]) -> Option<(&[u8], &[u8])> {
    let (bytes, taken) = varint(list)?;
    list[taken..].split_at_checked(usize::try_from(bytes).ok()?)
}

/// A list that grows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OperandsBuilder {
    count: u64,
    list: Vec<u8>,
}

impl OperandsBuilder {
    /// Bytes of the value, once an operand of so many is added.
    pub(crate) fn bytes_with(&self, operand_bytes: usize) -> usize {
        let added = varint_bytes(operand_bytes as u64) + operand_bytes;
        varint_bytes(self.count + 1) + self.list.len() + added
    }

    /// Bytes of the value.
    pub(crate) fn bytes(&self) -> usize {
        varint_bytes(self.count) + self.list.len()
    }

    /// Adds an operand: the newest.
    pub(crate) fn push(&mut self, operand: &[u8]) {
        self.count += 1;
        put_varint(&mut self.list, operand.len() as u64);
        self.list.extend_from_slice(operand);
    }

    /// Puts the value behind `bytes`.
    pub(crate) fn put(&self, bytes: &mut Vec<u8>) {
        put_varint(bytes, self.count);
        bytes.extend_from_slice(&self.list);
    }
}
