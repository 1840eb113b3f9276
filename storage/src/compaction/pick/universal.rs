//! Runs of like sizes that are merged.
//!
//! A universal keyspace has all its runs in level 0. A flush adds one; runs that are neighbours in
//! age are merged into one. Every byte is rewritten each time that its run is merged with as much
//! again, and so more rarely than in levels; for that, a read looks into more runs, and until the
//! oldest is merged, what newer runs hide in it takes room. (This is RocksDB's universal, and
//! Cassandra's size-tiered compaction.)
//!
//! # What is picked
//!
//! The first of these that there is:
//!
//! 1. **Space.** If all runs but the oldest have more than [`UniversalOptions::space_percent`] of
//!    the oldest's bytes, all are merged. The oldest is taken for what is left once what is hidden
//!    is gone: where keys are overwritten and added, there is no less.
//! 2. **Size.** If there are more than [`UniversalOptions::runs`]: from the newest run on, the
//!    first that is followed by one which is hardly larger, with all that follow, as long as the
//!    next is no larger than those before it together and [`UniversalOptions::ratio_percent`] more.
//! 3. **Number.** If there are more than that, and each is much larger than those before: the
//!    newest, as many as are too many, and one more.
//!
//! Each makes one run of two or more, so it comes to an end; then neither are there more runs nor is
//! there more space than was asked for.

use std::ops::Range;

use super::{Pick, bytes_of, runs_by_age};
use crate::Keyspace;

/// When runs of a universal keyspace are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UniversalOptions {
    /// Most runs there are once nothing is to be merged.
    pub runs: usize,
    /// How much larger than the newer ones together a run may be that is merged with them, in
    /// percent of them.
    pub ratio_percent: u64,
    /// The most that all runs but the oldest have, in percent of the oldest.
    pub space_percent: u64,
}

impl Default for UniversalOptions {
    fn default() -> Self {
        Self { runs: 8, ratio_percent: 1, space_percent: 200 }
    }
}

/// Which runs of a universal keyspace are to be merged next; nothing if all are as they are meant to
/// be.
#[must_use]
pub fn pick_universal(keyspace: &Keyspace, options: &UniversalOptions) -> Option<Pick> {
    let runs = runs_by_age(keyspace);
    let sizes: Vec<u64> = runs.iter().map(|run| bytes_of(run)).collect();
    let (&oldest, newer) = sizes.split_last()?;
    let newer: u64 = newer.iter().sum();
    if percent(newer, 100) > percent(oldest, options.space_percent) {
        return Some(Pick::merge(&runs));
    }
    let too_many = runs.len().checked_sub(options.runs.max(1)).filter(|&count| count > 0)?;
    let alike = of_like_sizes(&sizes, options.ratio_percent, 2);
    Some(Pick::merge(&runs[alike.unwrap_or(0..too_many + 1)]))
}

/// The first runs, newest first, of which each is no larger than those before it together and some
/// percent more, if there are so many.
pub(super) fn of_like_sizes(
    sizes: &[u64],
    ratio_percent: u64,
    least: usize,
) -> Option<Range<usize>> {
    (0..sizes.len()).find_map(|first| {
        let (mut end, mut bytes) = (first + 1, sizes[first]);
        while let Some(&next) = sizes.get(end)
            && percent(next, 100) <= percent(bytes, 100 + ratio_percent)
        {
            (end, bytes) = (end + 1, bytes + next);
        }
        (end - first >= least).then_some(first..end)
    })
}

/// Hundredths of bytes, which may be more than fit 64 bits.
fn percent(bytes: u64, percent: u64) -> u128 {
    u128::from(bytes) * u128::from(percent)
}
