//! Writing the primitive types, around payloads that stay where they are.

use bytes::{BufMut, Bytes, BytesMut};

use super::super::types::{ErrorCode, Uuid};
use super::{Encoding, LENGTH_PREFIX_BYTES, MAXIMUM_PAYLOAD_BYTES, MAXIMUM_STRING_BYTES};

/// Writes one frame as a list of segments: control bytes, gathered, and payloads, as they are.
///
/// # What does not fit
///
/// Nothing here fails, since a broker cannot answer a request with an error about its own answer:
///
/// - a string longer than [`MAXIMUM_STRING_BYTES`] is cut there, before the character that crosses;
/// - a record payload that would bring the frame past [`MAXIMUM_PAYLOAD_BYTES`] of payload is
///   written as empty. A consumer that is given no records asks again from the same offset.
#[derive(Debug)]
pub struct Writer {
    encoding: Encoding,
    /// The first segment once another follows it. It is kept mutable because it starts with the
    /// length prefix, which is known last.
    first: Option<BytesMut>,
    /// The finished segments after the first.
    finished: Vec<Bytes>,
    /// The control bytes being gathered.
    control: BytesMut,
    /// The payload in all segments.
    payload_bytes: usize,
}

impl Writer {
    /// A writer of a frame, which starts with room for the length prefix, in the classic encoding.
    pub fn new() -> Self {
        let mut control = BytesMut::with_capacity(256);
        control.put_u32(0);
        let encoding = Encoding::Classic;
        Self { encoding, first: None, finished: Vec::new(), control, payload_bytes: 0 }
    }

    /// The encoding of what is written from here on.
    pub fn set_encoding(&mut self, encoding: Encoding) {
        self.encoding = encoding;
    }

    /// Fills in the length prefix and gives the segments of the whole frame, none of them empty.
    pub fn finish(mut self) -> Vec<Bytes> {
        self.close_control();
        let mut first = self.first.unwrap_or_default();
        let segments_bytes: usize = self.finished.iter().map(Bytes::len).sum();
        let length_bytes = first.len() + segments_bytes - LENGTH_PREFIX_BYTES;
        // Payload is bounded above, so this is a quarter of a gigabyte of control bytes: a defect
        // of the caller. That it holds also proves every count and length written on the way.
        assert!(length_bytes <= i32::MAX as usize, "a frame of {length_bytes} bytes");
        first[..LENGTH_PREFIX_BYTES].copy_from_slice(&(length_bytes as u32).to_be_bytes());
        let mut segments = Vec::with_capacity(1 + self.finished.len());
        segments.push(first.freeze());
        segments.append(&mut self.finished);
        segments
    }

    /// Writes an `i8`.
    pub fn i8(&mut self, value: i8) {
        self.control.put_i8(value);
    }

    /// Writes an `i16`.
    pub fn i16(&mut self, value: i16) {
        self.control.put_i16(value);
    }

    /// Writes an `i32`.
    pub fn i32(&mut self, value: i32) {
        self.control.put_i32(value);
    }

    /// Writes an `i64`.
    pub fn i64(&mut self, value: i64) {
        self.control.put_i64(value);
    }

    /// Writes a `u32`.
    pub fn u32(&mut self, value: u32) {
        self.control.put_u32(value);
    }

    /// Writes a boolean.
    pub fn bool(&mut self, value: bool) {
        self.control.put_u8(u8::from(value));
    }

    /// Writes a UUID.
    pub fn uuid(&mut self, value: Uuid) {
        self.control.put_slice(&value.0);
    }

    /// Writes an error code.
    pub fn error_code(&mut self, value: ErrorCode) {
        self.control.put_i16(value.0);
    }

    /// Writes an unsigned varint.
    pub fn unsigned_varint(&mut self, value: u32) {
        let mut rest = value;
        while rest >= 0x80 {
            self.control.put_u8((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.control.put_u8(rest as u8);
    }

    /// Writes a string.
    pub fn string(&mut self, value: &str) {
        let cut = &value[..value.floor_char_boundary(MAXIMUM_STRING_BYTES)];
        match self.encoding {
            Encoding::Classic => self.control.put_u16(cut.len() as u16),
            Encoding::Flexible => self.unsigned_varint(cut.len() as u32 + 1),
        }
        self.control.put_slice(cut.as_bytes());
    }

    /// Writes a string or null.
    pub fn nullable_string(&mut self, value: Option<&str>) {
        match (value, self.encoding) {
            (Some(value), _) => self.string(value),
            (None, Encoding::Classic) => self.control.put_i16(-1),
            (None, Encoding::Flexible) => self.unsigned_varint(0),
        }
    }

    /// Writes bytes or null, spliced in without a copy.
    pub fn nullable_bytes(&mut self, value: Option<&Bytes>) {
        match value {
            Some(value) => self.bytes(std::slice::from_ref(value)),
            None => self.null_length(),
        }
    }

    /// Writes bytes that lie in pieces, as one field, spliced in without a copy.
    pub fn bytes(&mut self, pieces: &[Bytes]) {
        let length_bytes = pieces.iter().map(Bytes::len).fold(0, usize::saturating_add);
        if length_bytes > MAXIMUM_PAYLOAD_BYTES - self.payload_bytes {
            self.length(0);
            return;
        }
        self.length(length_bytes);
        self.payload_bytes += length_bytes;
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            self.close_control();
            self.finished.push(piece.clone());
        }
    }

    /// Writes an array, each element with `element`.
    pub fn array<T>(&mut self, elements: &[T], mut element: impl FnMut(&mut Self, &T)) {
        self.length(elements.len());
        for value in elements {
            element(self, value);
        }
    }

    /// Writes an array or null, each element with `element`.
    pub fn nullable_array<T>(
        &mut self,
        elements: Option<&[T]>,
        element: impl FnMut(&mut Self, &T),
    ) {
        match elements {
            Some(elements) => self.array(elements, element),
            None => self.null_length(),
        }
    }

    /// Writes an array of `i32`.
    pub fn i32_array(&mut self, elements: &[i32]) {
        self.array(elements, |writer, value| writer.i32(*value));
    }

    /// Ends a struct without tagged fields: writes their count of zero if the encoding has one.
    pub fn no_tagged_fields(&mut self) {
        self.tagged_fields(&TaggedFields::default());
    }

    /// Ends a struct with these tagged fields, if the encoding has any.
    pub fn tagged_fields(&mut self, tagged: &TaggedFields) {
        if self.encoding == Encoding::Classic {
            return;
        }
        self.unsigned_varint(tagged.fields.len() as u32);
        for (tag, value) in &tagged.fields {
            self.unsigned_varint(*tag);
            self.unsigned_varint(value.len() as u32);
            self.control.put_slice(value);
        }
    }

    fn length(&mut self, length: usize) {
        match self.encoding {
            Encoding::Classic => self.control.put_u32(length as u32),
            Encoding::Flexible => self.unsigned_varint((length as u32).saturating_add(1)),
        }
    }

    fn null_length(&mut self) {
        match self.encoding {
            Encoding::Classic => self.control.put_i32(-1),
            Encoding::Flexible => self.unsigned_varint(0),
        }
    }

    /// Makes the control bytes gathered so far a segment of their own.
    fn close_control(&mut self) {
        if self.control.is_empty() {
            return;
        }
        let control = self.control.split();
        if self.first.is_none() {
            self.first = Some(control);
        } else {
            self.finished.push(control.freeze());
        }
    }
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

/// The tagged fields at the end of one struct, in ascending order of their tags.
#[derive(Debug, Default)]
pub struct TaggedFields {
    fields: Vec<(u32, Bytes)>,
}

impl TaggedFields {
    /// Adds a field, its value written with `value` in the flexible encoding. Tags are added in
    /// ascending order. Payloads written here are copied: tagged fields are small.
    pub fn push(&mut self, tag: u32, value: impl FnOnce(&mut Writer)) {
        assert!(self.fields.last().is_none_or(|(last, _)| *last < tag), "tag {tag} out of order");
        let mut writer = Writer::new();
        writer.set_encoding(Encoding::Flexible);
        value(&mut writer);
        let frame = writer.finish().concat();
        self.fields.push((tag, Bytes::from(frame).slice(LENGTH_PREFIX_BYTES..)));
    }
}
