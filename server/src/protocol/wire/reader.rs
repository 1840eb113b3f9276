//! Reading the primitive types, from bytes of which nothing is known.

use bytes::Bytes;

use super::super::error::{Fault, ProtocolError};
use super::super::types::{ErrorCode, IsolationLevel, Uuid};
use super::{Encoding, MAXIMUM_ELEMENTS, MAXIMUM_STRING_BYTES, RESERVED_ELEMENTS};

/// Reads one frame, field by field. Each method names the field it reads for the error's sake.
#[derive(Debug)]
pub struct Reader {
    frame: Bytes,
    /// Where the next field starts. Never past `end`.
    position: usize,
    /// Where reading stops: the frame's end, or that of the tagged field being read. Never past
    /// the frame's end.
    end: usize,
    encoding: Encoding,
    /// How many more elements the frame's arrays may hold.
    elements_left: usize,
}

impl Reader {
    /// A reader of a frame without its length prefix, in the classic encoding.
    pub fn new(frame: Bytes) -> Self {
        let end = frame.len();
        Self {
            frame,
            position: 0,
            end,
            encoding: Encoding::Classic,
            elements_left: MAXIMUM_ELEMENTS,
        }
    }

    /// The encoding of what is read from here on.
    pub fn set_encoding(&mut self, encoding: Encoding) {
        self.encoding = encoding;
    }

    /// How many bytes are left.
    pub fn remaining_bytes(&self) -> usize {
        self.end - self.position
    }

    /// Fails if bytes are left over: then the sender meant something else than we understood.
    pub fn finish(&self) -> Result<(), ProtocolError> {
        match self.remaining_bytes() {
            0 => Ok(()),
            count => Err(error("end", self.position, Fault::TrailingBytes { count })),
        }
    }

    /// Reads an `i8`.
    pub fn i8(&mut self, field: &'static str) -> Result<i8, ProtocolError> {
        Ok(i8::from_be_bytes(self.fixed(field)?))
    }

    /// Reads an `i16`.
    pub fn i16(&mut self, field: &'static str) -> Result<i16, ProtocolError> {
        Ok(i16::from_be_bytes(self.fixed(field)?))
    }

    /// Reads an `i32`.
    pub fn i32(&mut self, field: &'static str) -> Result<i32, ProtocolError> {
        Ok(i32::from_be_bytes(self.fixed(field)?))
    }

    /// Reads an `i64`.
    pub fn i64(&mut self, field: &'static str) -> Result<i64, ProtocolError> {
        Ok(i64::from_be_bytes(self.fixed(field)?))
    }

    /// Reads a `u32`.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, ProtocolError> {
        Ok(u32::from_be_bytes(self.fixed(field)?))
    }

    /// Reads a boolean. Any byte but zero is true, as in every other implementation.
    pub fn bool(&mut self, field: &'static str) -> Result<bool, ProtocolError> {
        Ok(self.i8(field)? != 0)
    }

    /// Reads a UUID.
    pub fn uuid(&mut self, field: &'static str) -> Result<Uuid, ProtocolError> {
        Ok(Uuid(self.fixed(field)?))
    }

    /// Reads an error code.
    pub fn error_code(&mut self, field: &'static str) -> Result<ErrorCode, ProtocolError> {
        Ok(ErrorCode(self.i16(field)?))
    }

    /// Reads an isolation level.
    pub fn isolation_level(
        &mut self,
        field: &'static str,
    ) -> Result<IsolationLevel, ProtocolError> {
        let start = self.position;
        let value = self.i8(field)?;
        let unknown = Fault::UnknownValue { value: i64::from(value) };
        IsolationLevel::from_i8(value).ok_or_else(|| error(field, start, unknown))
    }

    /// Reads an unsigned varint of at most 32 bits.
    pub fn unsigned_varint(&mut self, field: &'static str) -> Result<u32, ProtocolError> {
        let start = self.position;
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed::<1>(field)?;
            let bits = u32::from(byte & 0x7f);
            // The fifth byte has room for the four highest bits and for no continuation.
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(error(field, start, Fault::VarintOverflow))
    }

    /// Reads a string.
    pub fn string(&mut self, field: &'static str) -> Result<String, ProtocolError> {
        let start = self.position;
        self.nullable_string(field)?.ok_or_else(|| error(field, start, Fault::Null))
    }

    /// Reads a string or null.
    pub fn nullable_string(
        &mut self,
        field: &'static str,
    ) -> Result<Option<String>, ProtocolError> {
        let start = self.position;
        let length = match self.encoding {
            Encoding::Classic => {
                let length = i32::from(self.i16(field)?);
                Self::classic_length(field, start, length)?
            }
            Encoding::Flexible => self.compact_length(field)?,
        };
        let Some(length_bytes) = length else { return Ok(None) };
        if length_bytes > MAXIMUM_STRING_BYTES {
            let fault = Fault::StringTooLong { length_bytes, limit_bytes: MAXIMUM_STRING_BYTES };
            return Err(error(field, start, fault));
        }
        let raw = self.take(field, length_bytes)?;
        match std::str::from_utf8(&raw) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(error(field, start, Fault::NotUtf8)),
        }
    }

    /// Reads bytes. The result shares the frame's memory and keeps all of it alive.
    pub fn bytes(&mut self, field: &'static str) -> Result<Bytes, ProtocolError> {
        let start = self.position;
        self.nullable_bytes(field)?.ok_or_else(|| error(field, start, Fault::Null))
    }

    /// Reads bytes or null. The result shares the frame's memory and keeps all of it alive.
    pub fn nullable_bytes(&mut self, field: &'static str) -> Result<Option<Bytes>, ProtocolError> {
        match self.length(field)? {
            Some(length_bytes) => Ok(Some(self.take(field, length_bytes)?)),
            None => Ok(None),
        }
    }

    /// Reads an array, each element with `element`.
    pub fn array<T>(
        &mut self,
        field: &'static str,
        element: impl FnMut(&mut Self) -> Result<T, ProtocolError>,
    ) -> Result<Vec<T>, ProtocolError> {
        let start = self.position;
        self.nullable_array(field, element)?.ok_or_else(|| error(field, start, Fault::Null))
    }

    /// Reads an array or null, each element with `element`.
    pub fn nullable_array<T>(
        &mut self,
        field: &'static str,
        mut element: impl FnMut(&mut Self) -> Result<T, ProtocolError>,
    ) -> Result<Option<Vec<T>>, ProtocolError> {
        let start = self.position;
        let Some(count) = self.length(field)? else { return Ok(None) };
        let remaining_bytes = self.remaining_bytes();
        if count > remaining_bytes {
            let fault = Fault::CountExceedsFrame { count, remaining_bytes };
            return Err(error(field, start, fault));
        }
        let Some(elements_left) = self.elements_left.checked_sub(count) else {
            let fault = Fault::TooManyElements { limit: MAXIMUM_ELEMENTS };
            return Err(error(field, start, fault));
        };
        self.elements_left = elements_left;
        let mut elements = Vec::with_capacity(count.min(RESERVED_ELEMENTS));
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    /// Reads an array of `i32`.
    pub fn i32_array(&mut self, field: &'static str) -> Result<Vec<i32>, ProtocolError> {
        self.array(field, |reader| reader.i32(field))
    }

    /// Reads the tagged fields at the end of a struct, if the encoding has any, and ignores them.
    pub fn skip_tagged_fields(&mut self) -> Result<(), ProtocolError> {
        self.tagged_fields(|_, _| Ok(()))
    }

    /// Reads the tagged fields at the end of a struct, if the encoding has any. `known` is called
    /// for each with its tag, and reads what it knows; it cannot read past that tagged field, and
    /// what it leaves is skipped.
    pub fn tagged_fields(
        &mut self,
        mut known: impl FnMut(u32, &mut Self) -> Result<(), ProtocolError>,
    ) -> Result<(), ProtocolError> {
        if self.encoding == Encoding::Classic {
            return Ok(());
        }
        let start = self.position;
        let count = self.unsigned_varint("tagged_fields")? as usize;
        let remaining_bytes = self.remaining_bytes();
        if count > remaining_bytes {
            let fault = Fault::CountExceedsFrame { count, remaining_bytes };
            return Err(error("tagged_fields", start, fault));
        }
        for _ in 0..count {
            let tag = self.unsigned_varint("tag")?;
            let size_bytes = self.unsigned_varint("tagged_field_size")? as usize;
            self.require("tagged_field", size_bytes)?;
            let enclosing_end = self.end;
            self.end = self.position + size_bytes;
            let outcome = known(tag, self);
            self.position = self.end;
            self.end = enclosing_end;
            outcome?;
        }
        Ok(())
    }

    /// Reads the length of bytes or the count of an array; `None` is null.
    fn length(&mut self, field: &'static str) -> Result<Option<usize>, ProtocolError> {
        let start = self.position;
        match self.encoding {
            Encoding::Classic => {
                let length = self.i32(field)?;
                Self::classic_length(field, start, length)
            }
            Encoding::Flexible => self.compact_length(field),
        }
    }

    fn classic_length(
        field: &'static str,
        start: usize,
        length: i32,
    ) -> Result<Option<usize>, ProtocolError> {
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(error(field, start, Fault::Negative { length })),
        }
    }

    fn compact_length(&mut self, field: &'static str) -> Result<Option<usize>, ProtocolError> {
        let length_and_one = self.unsigned_varint(field)?;
        Ok(length_and_one.checked_sub(1).map(|length| length as usize))
    }

    fn fixed<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], ProtocolError> {
        self.require(field, N)?;
        let mut value = [0; N];
        value.copy_from_slice(&self.frame[self.position..self.position + N]);
        self.position += N;
        Ok(value)
    }

    fn take(&mut self, field: &'static str, length_bytes: usize) -> Result<Bytes, ProtocolError> {
        self.require(field, length_bytes)?;
        let start = self.position;
        self.position += length_bytes;
        Ok(self.frame.slice(start..self.position))
    }

    fn require(&self, field: &'static str, needed_bytes: usize) -> Result<(), ProtocolError> {
        let remaining_bytes = self.remaining_bytes();
        if needed_bytes <= remaining_bytes {
            return Ok(());
        }
        let fault = Fault::Truncated { needed_bytes, remaining_bytes };
        Err(error(field, self.position, fault))
    }
}

/// An error about a field that starts at `offset_bytes`.
fn error(field: &'static str, offset_bytes: usize, fault: Fault) -> ProtocolError {
    ProtocolError { field, offset_bytes, fault }
}
