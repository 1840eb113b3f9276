//! A seed is a world: two runs of one seed do the same, event by event.

use woodchuck_scenarios::broker;
use woodchuck_sim::scenario::RunOptions;

#[test]
fn fifty_seeds_run_twice_give_the_same_trace() {
    let scenario = broker::scenario();
    let hashes = || -> Vec<u64> {
        (1000..1050).map(|seed| scenario.run(&RunOptions::new(seed)).trace_hash).collect()
    };
    let (first, second) = (hashes(), hashes());
    assert_eq!(first, second);
    let distinct: std::collections::BTreeSet<u64> = first.into_iter().collect();
    assert_eq!(distinct.len(), 50, "different seeds are different worlds");
}
