//! Named streams of random numbers.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A stream of random numbers, handed out by [`Env::random`](crate::Env::random). In production
/// it is seeded by the kernel, in simulation by the world's seed, the machine and the stream's
/// name, so that one stream's draws never move another's.
#[derive(Clone, Debug)]
pub struct RandomStream {
    generator: ChaCha12Rng,
}

impl RandomStream {
    /// A stream that is a function of `seed` alone.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self { generator: ChaCha12Rng::from_seed(seed) }
    }

    /// Any 64-bit number.
    pub fn next_u64(&mut self) -> u64 {
        self.generator.next_u64()
    }

    /// Any 128-bit number, as identities are.
    pub fn next_u128(&mut self) -> u128 {
        (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64())
    }

    /// A number below `bound`.
    ///
    /// # Panics
    /// If `bound` is zero: there is no such number.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "no number is below zero");
        // Lemire's multiply-and-shift without the rejection step: the bias is below 2^-32 for
        // every bound that is used, and one draw a call keeps streams easy to reason about.
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Fills `bytes` with random ones.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.generator.fill_bytes(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_a_function_of_its_seed() {
        let mut first = RandomStream::from_seed([7; 32]);
        let mut second = RandomStream::from_seed([7; 32]);
        let mut third = RandomStream::from_seed([8; 32]);
        let draws = |stream: &mut RandomStream| (0..64).map(|_| stream.next_u64()).collect();
        let (first, second, third): (Vec<u64>, Vec<u64>, Vec<u64>) =
            (draws(&mut first), draws(&mut second), draws(&mut third));
        assert_eq!(first, second);
        assert_ne!(first, third);
    }

    #[test]
    fn below_reaches_every_number_and_no_other() {
        let mut stream = RandomStream::from_seed([1; 32]);
        let mut seen = [0_u32; 5];
        for _ in 0..1000 {
            seen[stream.below(5) as usize] += 1;
        }
        assert!(seen.iter().all(|&count| count > 120), "uneven: {seen:?}");
    }
}
