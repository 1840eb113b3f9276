//! Tests that cross crates. Each file in `tests/` has one subject; the real clients, which need a
//! binary and a Python, stand in `clients/`, and the planted bugs in `mutants/`.

use woodchuck_scenarios::broker;
use woodchuck_sim::scenario::{Campaign, Tally};

/// Runs the broker's world of each seed.
///
/// # Panics
/// With the first failure, which names its seed.
pub fn run_worlds(seeds: std::ops::Range<u64>) -> Tally {
    let campaign = Campaign { failures: 1, ..Campaign::new(broker::scenario(), seeds) };
    let tally = campaign.run(|_| ());
    if let Some(run) = tally.failures.first() {
        panic!("{run}");
    }
    tally
}
