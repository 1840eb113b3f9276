//! Times, counted in classes, so that a measurement of any length takes the same memory.
//!
//! A class is at most 1/64 as wide as the times in it are long, after Gil Tene's HdrHistogram:
//! below 64 ns each time has its own, and from there on each power of two has 64.

use std::time::Duration;

/// Classes of each power of two, as a power of two.
const CLASS_BITS: u32 = 6;
const CLASSES: usize = 1 << CLASS_BITS;

/// Counts of times.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    count: u64,
    longest: u64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        let counts = vec![0; class_of(u64::MAX) + 1];
        Self { counts, count: 0, longest: 0 }
    }

    pub(super) fn record(&mut self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.counts[class_of(nanoseconds)] += 1;
        self.count += 1;
        self.longest = self.longest.max(nanoseconds);
    }

    /// How many times were recorded.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// The time that the share `part` of all does not exceed, to the width of a class. Zero if
    /// nothing was recorded.
    pub(super) fn quantile(&self, part: f64) -> Duration {
        assert!((0.0..=1.0).contains(&part), "a share is between nothing and all");
        let rank = ((self.count as f64 * part).ceil() as u64).max(1);
        let mut below = 0;
        for (class, count) in self.counts.iter().enumerate() {
            below += count;
            if below >= rank {
                return Duration::from_nanos(last_of(class).min(self.longest));
            }
        }
        Duration::ZERO
    }
}

fn class_of(nanoseconds: u64) -> usize {
    let bits = u64::BITS - nanoseconds.leading_zeros();
    let shift = bits.saturating_sub(CLASS_BITS + 1);
    // From the second power of two on, the highest bit is always set: it counts as one power more.
    shift as usize * CLASSES + (nanoseconds >> shift) as usize
}

/// The longest time in a class.
fn last_of(class: usize) -> u64 {
    let shift = (class / CLASSES).saturating_sub(1);
    let next = (class - shift * CLASSES + 1) as u128;
    u64::try_from((next << shift) - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_narrow_and_in_order() {
        let mut before = 0;
        for power in 0..64 {
            for part in 0..16 {
                let time = (1_u64 << power) + ((1_u64 << power) / 16) * part;
                let class = class_of(time);
                let last = last_of(class);
                assert!(class >= before && time <= last, "{time} is in class {class}");
                assert!(last - time <= time / 64, "{time} is told as {last}");
                before = class;
            }
        }
        assert_eq!(last_of(class_of(u64::MAX)), u64::MAX);
        for class in 0..class_of(u64::MAX) {
            assert_eq!(class_of(last_of(class)), class);
            assert_eq!(class_of(last_of(class) + 1), class + 1);
        }
    }

    #[test]
    fn quantiles_are_those_of_the_times() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        for microseconds in (1..=1000).rev() {
            histogram.record(Duration::from_micros(microseconds));
        }
        assert_eq!(histogram.count(), 1000);
        for (part, expected) in [(0.5, 500_000), (0.99, 990_000), (1.0, 1_000_000)] {
            let told = histogram.quantile(part).as_nanos() as u64;
            assert!((expected..=expected + expected / 64).contains(&told), "{part}: {told}");
        }
        assert_eq!(histogram.quantile(1.0), Duration::from_millis(1), "the longest is exact");
    }
}
