//! Tests that cross crates. Each file in `tests/` has one subject; the real clients, which need a
//! binary and a Python, stand in `clients/`, and the planted bugs in `mutants/`.

use woodchuck_scenarios::broker::{self, Report};

/// Runs the broker's world of each seed.
///
/// # Panics
/// With the first failure, which names its seed.
pub fn run_worlds(seeds: std::ops::Range<u64>) -> Vec<Report> {
    let run = |seed| broker::run(seed).unwrap_or_else(|failure| panic!("{failure}"));
    seeds.map(run).collect()
}
