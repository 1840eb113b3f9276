//! Valid frames, damaged at random from a seed: decoding gives a value or an error, never a panic,
//! and what it gives is no larger than the frame.
//!
//! That decoding reads no more than there is follows from a value's canonical encoding being no
//! longer than the frame that it was read from: every element, string and record of it was there.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::test_support::{frame, request_frame, response_frame};
use super::*;

const ROUNDS: u64 = 100_000;

/// Values that lengths and counts go wrong at, big-endian.
const ABSURD: &[&[u8]] = &[
    &[0x7f, 0xff, 0xff, 0xff],
    &[0x80, 0x00, 0x00, 0x00],
    &[0xff, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xfe],
    &[0x7f, 0xff],
    &[0x80, 0x00],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0x7f],
    &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80],
    &[0x00],
];

struct Mutator {
    random: ChaCha8Rng,
}

impl Mutator {
    fn below(&mut self, limit: usize) -> usize {
        (self.random.next_u64() % limit.max(1) as u64) as usize
    }

    /// Damages a frame one to four times; `other` is what splices come from.
    fn damage(&mut self, frame: &Bytes, other: &Bytes) -> Vec<u8> {
        let mut bytes = frame.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(6) {
                0 => bytes.truncate(at),
                1 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                2 if !bytes.is_empty() => bytes[at] = self.random.next_u32() as u8,
                3 => {
                    let from = self.below(other.len());
                    let until = (from + self.below(64)).min(other.len());
                    let removed_until = (at + self.below(64)).min(bytes.len());
                    bytes.splice(at..removed_until, other[from..until].iter().copied());
                }
                4 => {
                    let absurd = ABSURD[self.below(ABSURD.len())];
                    let removed_until = (at + absurd.len()).min(bytes.len());
                    bytes.splice(at..removed_until, absurd.iter().copied());
                }
                _ => {
                    let absurd = ABSURD[self.below(ABSURD.len())];
                    bytes.splice(at..at, absurd.iter().copied());
                }
            }
        }
        bytes
    }
}

/// Every API in every version, as often as the rounds go.
fn version_of_round(round: u64) -> (ApiKey, i16) {
    let range = &SUPPORTED[(round % SUPPORTED.len() as u64) as usize];
    let count = (range.maximum_version - range.minimum_version + 1) as u64;
    let version = range.minimum_version + ((round / SUPPORTED.len() as u64) % count) as i16;
    (range.api_key, version)
}

#[test]
fn damaged_requests() {
    let mut mutator = Mutator { random: ChaCha8Rng::seed_from_u64(1) };
    let (mut decoded, mut refused) = (0u64, 0u64);
    for round in 0..ROUNDS {
        let (api_key, version) = version_of_round(round);
        let intact = request_frame(version, &samples::request(api_key, version));
        let (other_key, other_version) = version_of_round(mutator.random.next_u64());
        let other = request_frame(other_version, &samples::request(other_key, other_version));
        let damaged = Bytes::from(mutator.damage(&intact, &other));
        match decode_request(damaged.clone()) {
            Ok((header, request)) => {
                decoded += 1;
                let segments = encode_request(
                    header.api_version,
                    header.correlation_id,
                    header.client_id.as_deref(),
                    &request,
                );
                let canonical = frame(&segments);
                assert!(canonical.len() <= damaged.len(), "round {round}: more than there was");
                assert_eq!(decode_request(canonical), Ok((header, request)), "round {round}");
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    assert!(decoded > ROUNDS / 20 && refused > ROUNDS / 20, "{decoded} and {refused}");
}

#[test]
fn damaged_responses() {
    let mut mutator = Mutator { random: ChaCha8Rng::seed_from_u64(2) };
    let (mut decoded, mut refused) = (0u64, 0u64);
    for round in 0..ROUNDS {
        let (api_key, version) = version_of_round(round);
        let intact = response_frame(version, &samples::response(api_key, version));
        let (other_key, other_version) = version_of_round(mutator.random.next_u64());
        let other = response_frame(other_version, &samples::response(other_key, other_version));
        let damaged = Bytes::from(mutator.damage(&intact, &other));
        match decode_response(api_key, version, damaged.clone()) {
            Ok((correlation_id, response)) => {
                decoded += 1;
                let header = RequestHeader {
                    api_key,
                    api_version: version,
                    correlation_id,
                    client_id: None,
                };
                let canonical = frame(&response.encode(&header));
                assert!(canonical.len() <= damaged.len(), "round {round}: more than there was");
                let again = decode_response(api_key, version, canonical);
                assert_eq!(again, Ok((correlation_id, response)), "round {round}");
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    assert!(decoded > ROUNDS / 20 && refused > ROUNDS / 20, "{decoded} and {refused}");
}

/// Bytes with no structure but an API and a version in front.
#[test]
fn noise() {
    let mut mutator = Mutator { random: ChaCha8Rng::seed_from_u64(3) };
    for round in 0..ROUNDS {
        let (api_key, version) = version_of_round(round);
        let mut bytes = vec![0; 8 + mutator.below(120)];
        mutator.random.fill_bytes(&mut bytes);
        // Zeros are what counts and lengths are mostly made of: noise alone seldom gets far.
        for byte in &mut bytes {
            if mutator.below(3) > 0 {
                *byte &= 3;
            }
        }
        let _ = decode_response(api_key, version, bytes.clone().into());
        bytes[..2].copy_from_slice(&api_key.to_i16().to_be_bytes());
        bytes[2..4].copy_from_slice(&version.to_be_bytes());
        let _ = decode_request(bytes.into());
    }
}
