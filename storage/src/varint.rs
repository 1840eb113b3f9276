//! Varints: seven bits a byte, the lowest first, the top bit set on all bytes but the last.

/// The most bytes that a varint takes.
pub(crate) const VARINT_BYTES_MAX: usize = 10;

/// How many bytes a varint takes.
pub(crate) const fn varint_bytes(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Puts a varint behind `bytes`.
pub(crate) fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// A varint and how many bytes it takes. Only the shortest form is one.
pub(crate) fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let &first = bytes.first()?;
    if first < 0x80 {
        return Some((u64::from(first), 1));
    }
    let mut value = 0_u64;
    for (index, &byte) in bytes.iter().take(VARINT_BYTES_MAX).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            let is_shortest = byte != 0 && (index < VARINT_BYTES_MAX - 1 || byte == 1);
            return is_shortest.then_some((value, index + 1));
        }
    }
    None
}
