//! The whole broker in 400 simulated worlds: clients work while it is killed, crashed, unplugged
//! and stopped, and what they saw must hold. The tests differ in their seeds alone, so that they
//! run at the same time; the first also checks that the worlds are worth anything.

use woodchuck_sim::FaultKind;
use woodchuck_tests::run_worlds;

#[test]
fn worlds_0_to_100_hold_and_faults_matter_in_them() {
    let tally = run_worlds(0..100);
    assert!(tally.counts["acknowledged"] > 10_000, "the clients hardly worked");
    assert!(tally.counts["read"] > 10_000, "the clients hardly read");
    assert_eq!(tally.missed_marks(), [""; 0], "these were never seen");
    // Those that matter in one world of ten. The rarer ones are asked for by longer campaigns.
    for kind in [
        FaultKind::Kill,
        FaultKind::OsCrash,
        FaultKind::PowerCut,
        FaultKind::LostName,
        FaultKind::InFlightLost,
        FaultKind::UnacknowledgedWrite,
        FaultKind::PeerReset,
        FaultKind::Reordered,
    ] {
        assert!(tally.faults[kind as usize] > 0, "{kind:?} never mattered");
    }
}

#[test]
fn worlds_100_to_200_hold() {
    run_worlds(100..200);
}

#[test]
fn worlds_200_to_300_hold() {
    run_worlds(200..300);
}

#[test]
fn worlds_300_to_400_hold() {
    run_worlds(300..400);
}
