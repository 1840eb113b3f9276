//! Filters: which keys a part of a table does not have.
//!
//! Bloom filters of cache lines: a key's bits are all in one line, so that a question costs one
//! cache miss (Putze, Sanders, Singler: "Cache-, Hash- and Space-Efficient Bloom Filters", 2007).
//!
//! # The payload
//!
//! ```text
//! at  bytes
//!  0   4   lines    how many, at least 1
//!  4   1   probes   bits a key, from 1 to 22
//!  5  39   zero
//! 44  64 * lines    the lines
//! ```
//!
//! A filter's block begins at a multiple of 64 in the file, is never compressed, and has a header
//! of 20 bytes: so its lines are cache lines in memory, too.
//!
//! A key's hash is its XXH3-64; a prefix's the same with the seed 1, so that a prefix is not taken
//! for a key. The upper half says which line: `upper * lines >> 32`. The lower half says which
//! bits, nine at a time: the highest nine of it, then it is multiplied by 0x9E3779B9, modulo 2^32,
//! and so on.
//!
//! # Validity
//!
//! The payload is exactly as long as the lines make it, and the probes are in their range. Any
//! lines are a filter: that none says no to a key that is there, checksums and `verify` see to.

use bytes::Bytes;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::limits::FILTER_BITS_MAX;

pub(crate) const HEADER_BYTES: usize = 44;
pub(crate) const LINE_BYTES: usize = 64;
const PROBES_MAX: u32 = 22;
const PREFIX_SEED: u64 = 1;

const _: () = assert!(probes_for(FILTER_BITS_MAX) <= PROBES_MAX, "what is written can be read");

/// The hash of a user key.
pub(crate) fn key_hash(user_key: &[u8]) -> u64 {
    xxh3_64(user_key)
}

/// The hash of a prefix of user keys.
pub(crate) fn prefix_hash(prefix: &[u8]) -> u64 {
    xxh3_64_with_seed(prefix, PREFIX_SEED)
}

/// The number that errs least: bits a key times the logarithm of two.
const fn probes_for(bits_per_key: u32) -> u32 {
    let probes = bits_per_key * 69 / 100;
    if probes == 0 { 1 } else { probes }
}

/// Makes a filter's payload of the hashes of what it shall know.
pub(crate) fn build(hashes: &[u64], bits_per_key: u32, payload: &mut Vec<u8>) {
    assert!(bits_per_key > 0, "no filter is made without bits");
    let bits = hashes.len() as u64 * u64::from(bits_per_key);
    let lines = bits.div_ceil(LINE_BYTES as u64 * 8).max(1) as u32;
    let probes = probes_for(bits_per_key);
    payload.clear();
    payload.extend_from_slice(&lines.to_le_bytes());
    payload.push(probes as u8);
    payload.resize(HEADER_BYTES + lines as usize * LINE_BYTES, 0);
    for &hash in hashes {
        let start = HEADER_BYTES + line_of(hash, lines) * LINE_BYTES;
        let line = &mut payload[start..start + LINE_BYTES];
        for bit in bits_of(hash, probes) {
            line[bit / 8] |= 1 << (bit % 8);
        }
    }
}

fn line_of(hash: u64, lines: u32) -> usize {
    (((hash >> 32) * u64::from(lines)) >> 32) as usize
}

/// The bits of a hash in its line.
fn bits_of(hash: u64, probes: u32) -> impl Iterator<Item = usize> {
    let first = hash as u32;
    let all = std::iter::successors(Some(first), |bits| Some(bits.wrapping_mul(0x9e37_79b9)));
    all.take(probes as usize).map(|bits| (bits >> 23) as usize)
}

/// A filter that was found whole. Clones share the bytes.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    payload: Bytes,
    lines: u32,
    probes: u32,
}

impl Filter {
    /// The filter with this payload, or what is wrong with it.
    pub(crate) fn parse(payload: Bytes) -> Result<Self, String> {
        let header: &[u8; HEADER_BYTES] =
            payload.first_chunk().ok_or("a filter is shorter than its header")?;
        let lines = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let probes = u32::from(header[4]);
        let lines_bytes = (payload.len() - HEADER_BYTES) as u64;
        if lines == 0 || lines_bytes != u64::from(lines) * LINE_BYTES as u64 {
            return Err(format!("a filter of {lines} lines has {lines_bytes} bytes of them"));
        }
        if probes == 0 || probes > PROBES_MAX || header[5..].iter().any(|&byte| byte != 0) {
            return Err(format!("a filter with {probes} bits a key"));
        }
        Ok(Self { payload, lines, probes })
    }

    /// Whether what has this hash may be there; if not, it is not.
    pub(crate) fn may_have(&self, hash: u64) -> bool {
        let start = HEADER_BYTES + line_of(hash, self.lines) * LINE_BYTES;
        let line = &self.payload[start..start + LINE_BYTES];
        bits_of(hash, self.probes).all(|bit| line[bit / 8] & (1 << (bit % 8)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use woodchuck_io::RandomStream;

    use super::*;

    #[test]
    fn what_is_there_is_found_and_what_is_not_seldom() {
        // False positives in ten thousand that a filter of so many bits may have.
        for (bits, most) in [(1, 7000), (6, 900), (10, 160), (16, 40), (32, 20)] {
            let keys: Vec<u64> = (0..10_000_u64).map(|key| key_hash(&key.to_be_bytes())).collect();
            let mut payload = Vec::new();
            build(&keys, bits, &mut payload);
            assert!(payload.len() <= keys.len() * bits as usize / 8 + 2 * LINE_BYTES);
            let filter = Filter::parse(payload.into()).expect("it is a filter");
            assert!(keys.iter().all(|&hash| filter.may_have(hash)), "{bits} bits");
            let absent = (10_000..20_000_u64).map(|key| key_hash(&key.to_be_bytes()));
            let found = absent.filter(|&hash| filter.may_have(hash)).count();
            assert!(found <= most, "{bits} bits: {found} of 10000");
        }
    }

    #[test]
    fn any_bytes_are_refused_or_a_filter() {
        let mut random = RandomStream::from_seed([3; 32]);
        for _ in 0..20_000 {
            let lines = random.below(4) as usize;
            let mut bytes = vec![0; HEADER_BYTES + lines * LINE_BYTES];
            random.fill(&mut bytes[HEADER_BYTES..]);
            bytes[0] = random.below(5) as u8;
            bytes[4] = random.below(40) as u8;
            bytes[5 + random.below(39) as usize] = (random.below(3) / 2) as u8;
            bytes.truncate(bytes.len() - (random.below(5) / 4) as usize);
            if let Ok(filter) = Filter::parse(bytes.into()) {
                filter.may_have(random.next_u64());
            }
        }
    }

    #[test]
    fn each_condition_is_asked_for() {
        let mut payload = Vec::new();
        build(&[key_hash(b"key")], 10, &mut payload);
        Filter::parse(payload.clone().into()).expect("it is a filter");
        for (at, value) in [(0, 0), (0, 2), (4, 0), (4, 23), (5, 1), (43, 1)] {
            let mut wrong = payload.clone();
            wrong[at] = value;
            Filter::parse(wrong.into()).expect_err("it is no filter");
        }
    }
}
