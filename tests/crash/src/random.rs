//! Streams of random numbers, each from the run's seed and its own name.

use woodchuck_io::RandomStream;

/// The stream of this name. The same seed and name give the same numbers.
#[must_use]
pub fn stream(seed: u64, name: &str) -> RandomStream {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&hash(name.as_bytes()).to_le_bytes());
    RandomStream::from_seed(bytes)
}

/// The seed of one part of a run, such as a round.
#[must_use]
pub fn derived(seed: u64, name: &str, number: u64) -> u64 {
    stream(seed ^ hash(&number.to_le_bytes()), name).next_u64()
}

/// FNV-1a: names and numbers need to be told apart, no more.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A seed for a run that was given none.
#[must_use]
#[expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "no shard runs here")]
pub fn seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    hash(&since.unwrap_or_default().as_nanos().to_le_bytes()) >> 32
}
