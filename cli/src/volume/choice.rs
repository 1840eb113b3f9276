//! How many frames of a log are kept in flight, from what a volume does with durable writes.
//!
//! By Little's law a write takes, on average, as long as the writes in flight divided by their rate.
//! So twice as many in flight that do no more work take twice as long each, and a commit waits
//! twice as long for nothing. The choice is made in two steps:
//!
//! 1. The *share* of a depth is the mean, over the block sizes that were measured, of its rate
//!    beside the best rate of that size. The smallest depth is taken whose share is within
//!    [`FLIGHT_LOSS_MAX`] of the best share.
//! 2. While the next smaller depth that was measured has a share that is less than [`FLIGHT_GAIN_MIN`]
//!    times smaller, that one is taken instead: the step brought longer writes and no gain.

use crate::limits::{FLIGHT_BLOCK_BYTES, FLIGHT_DEPTHS, FLIGHT_GAIN_MIN, FLIGHT_LOSS_MAX};
use crate::text::{bytes, measured};

/// Durable writes a second, for each of [`FLIGHT_BLOCK_BYTES`] and in it each of
/// [`FLIGHT_DEPTHS`]. All are finite and above zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rates(pub(crate) [[f64; FLIGHT_DEPTHS.len()]; FLIGHT_BLOCK_BYTES.len()]);

impl Rates {
    /// Frames to keep in flight: one of [`FLIGHT_DEPTHS`].
    #[must_use]
    pub(crate) fn frames_in_flight(&self) -> usize {
        FLIGHT_DEPTHS[choose(&self.shares())]
    }

    /// What it rests on, as part of a sentence.
    #[must_use]
    pub(crate) fn reason(&self) -> String {
        let shares = self.shares();
        let chosen = choose(&shares);
        let percent = |index: usize| format!("{:.0} %", 100.0 * shares[index]);
        let mut reason = format!(
            "durable writes of {} at this depth reach {} of the most that was measured",
            FLIGHT_BLOCK_BYTES.map(|size| bytes(size as u64)).join(" and "),
            percent(chosen)
        );
        if chosen > 0 {
            let fewer = FLIGHT_DEPTHS[chosen - 1];
            reason.push_str(&format!(", with {fewer} in flight {}", percent(chosen - 1)));
        }
        if chosen + 1 < shares.len() {
            let more = FLIGHT_DEPTHS[chosen + 1];
            reason.push_str(&format!(", with {more} in flight {}", percent(chosen + 1)));
        }
        reason
    }

    /// All of them, as part of a sentence.
    #[must_use]
    pub(crate) fn told(&self) -> String {
        let depths = FLIGHT_DEPTHS.map(|depth| depth.to_string()).join(", ");
        let sizes = FLIGHT_BLOCK_BYTES.iter().zip(&self.0).map(|(size, rates)| {
            format!("{} {}/s", bytes(*size as u64), rates.map(measured).join(", "))
        });
        format!("{depths} in flight: {}", sizes.collect::<Vec<_>>().join("; "))
    }

    /// Block size, depth and rate of each.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (usize, usize, f64)> {
        FLIGHT_BLOCK_BYTES.into_iter().zip(self.0).flat_map(|(bytes, row)| {
            FLIGHT_DEPTHS.into_iter().zip(row).map(move |(depth, rate)| (bytes, depth, rate))
        })
    }

    /// Of each depth, the mean share of the best rates.
    fn shares(&self) -> [f64; FLIGHT_DEPTHS.len()] {
        let mut shares = [0.0; FLIGHT_DEPTHS.len()];
        for rates in &self.0 {
            let best = rates.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
            for (share, rate) in shares.iter_mut().zip(rates) {
                *share += rate / best / FLIGHT_BLOCK_BYTES.len() as f64;
            }
        }
        shares
    }
}

/// Which of these shares of the most, of rising depths, is the one to take.
fn choose(shares: &[f64]) -> usize {
    let best = shares.iter().copied().fold(0.0, f64::max);
    let enough = |share: &f64| *share >= best * (1.0 - FLIGHT_LOSS_MAX);
    let mut chosen = shares.iter().position(enough).unwrap_or(0);
    while chosen > 0 && shares[chosen] < shares[chosen - 1] * FLIGHT_GAIN_MIN {
        chosen -= 1;
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The depth that is chosen where every size does so many writes a second.
    #[track_caller]
    fn chosen(rates: [f64; 5]) -> usize {
        let chosen = Rates([rates; FLIGHT_BLOCK_BYTES.len()]).frames_in_flight();
        let doubled = rates.map(|rate| rate * 1234.5);
        assert_eq!(Rates([doubled; 2]).frames_in_flight(), chosen, "the unit changes nothing");
        chosen
    }

    #[test]
    fn more_are_in_flight_as_long_as_that_pays() {
        assert_eq!(chosen([100.0, 200.0, 400.0, 800.0, 1600.0]), 16);
        assert_eq!(chosen([100.0, 190.0, 340.0, 500.0, 510.0]), 8);
        assert_eq!(chosen([100.0, 190.0, 340.0, 345.0, 350.0]), 4);
        assert_eq!(chosen([100.0, 150.0, 155.0, 154.0, 156.0]), 2);
    }

    #[test]
    fn a_volume_that_writes_one_after_the_other_gets_one_frame() {
        assert_eq!(chosen([100.0, 100.0, 100.0, 100.0, 100.0]), 1);
        assert_eq!(chosen([100.0, 90.0, 80.0, 70.0, 60.0]), 1);
        assert_eq!(chosen([96.0, 97.0, 98.0, 99.0, 100.0]), 1);
    }

    #[test]
    fn a_depth_that_is_worse_than_a_smaller_one_is_not_chosen() {
        assert_eq!(chosen([100.0, 200.0, 300.0, 250.0, 200.0]), 4);
        assert_eq!(chosen([100.0, 200.0, 300.0, 200.0, 310.0]), 4);
    }

    #[test]
    fn a_step_that_lies_behind_another_is_reached() {
        // As where a device makes pairs durable together: three cost as much as two.
        assert_eq!(chosen([100.0, 100.0, 200.0, 200.0, 400.0]), 16);
    }

    #[test]
    fn a_step_without_gain_is_not_taken_even_if_it_is_what_reaches_the_bound() {
        // 191 is the first within 5 % of 201, but 190 did as much with half as many.
        assert_eq!(chosen([100.0, 190.0, 191.0, 196.0, 201.0]), 2);
        // Each step of the last three brings 4 %: none is worth twice the time.
        assert_eq!(chosen([100.0, 200.0, 208.0, 216.0, 225.0]), 2);
        // Each brings 6 %.
        assert_eq!(chosen([100.0, 200.0, 212.0, 225.0, 239.0]), 16);
    }

    #[test]
    fn both_sizes_count_the_same_whatever_their_rates_are() {
        let rising = [1e6, 2e6, 4e6, 8e6, 16e6];
        let flat = [10.0; 5];
        for rates in [[rising, flat], [flat, rising]] {
            // The means are 0.53, 0.56, 0.63, 0.75 and 1.
            assert_eq!(Rates(rates).frames_in_flight(), 16);
        }
        // Small blocks gain 10 % from 8 on, large ones lose 30 %.
        let small = [100.0, 200.0, 300.0, 330.0, 330.0];
        let large = [100.0, 150.0, 160.0, 112.0, 112.0];
        assert_eq!(Rates([small, large]).frames_in_flight(), 4);
    }

    #[test]
    fn every_choice_keeps_both_rules() {
        // All curves of five values out of these: none is forgotten.
        let values = [1.0, 1.02, 1.04, 1.1, 1.3, 2.0];
        for number in 0..values.len().pow(5) {
            let rates = [0, 1, 2, 3, 4].map(|at| values[number / values.len().pow(at) % 6]);
            let depth = chosen(rates);
            let at = FLIGHT_DEPTHS.iter().position(|one| *one == depth).expect("one of them");
            let best = rates.into_iter().fold(0.0, f64::max);
            // It is within 5 %, or each step from it to the first that is was in vain.
            let first = rates.iter().position(|rate| *rate >= best * 0.95).expect("the best is");
            assert!(at <= first, "{rates:?}");
            for step in at..first {
                assert!(rates[step + 1] < rates[step] * 1.05, "{rates:?}");
            }
            assert!(at == 0 || rates[at] >= rates[at - 1] * 1.05, "{rates:?}");
        }
    }

    #[test]
    fn the_reason_names_the_neighbours() {
        let rates = Rates([[100.0, 190.0, 340.0, 345.0, 350.0]; 2]);
        assert_eq!(
            rates.reason(),
            "durable writes of 4 KiB and 64 KiB at this depth reach 97 % of the most that was \
             measured, with 2 in flight 54 %, with 8 in flight 99 %"
        );
        let told = Rates([[1.0; 5]; 2]).reason();
        assert!(told.ends_with("measured, with 2 in flight 100 %"), "{told}");
        let told = Rates([[1.0, 2.0, 3.0, 4.0, 5.0]; 2]).reason();
        assert!(told.ends_with("measured, with 8 in flight 80 %"), "{told}");
        assert_eq!(
            Rates([[1200.0, 2.0, 3.0, 4.0, 5.0], [1.0; 5]]).told(),
            "1, 2, 4, 8, 16 in flight: 4 KiB 1 200, 2.0, 3.0, 4.0, 5.0/s; 64 KiB 1.0, 1.0, 1.0, \
             1.0, 1.0/s"
        );
    }
}
