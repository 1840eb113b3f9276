//! The report of a broker's world tells what its clients did, and keeping a chronicle for it changes
//! nothing of the run.

use woodchuck_scenarios::broker;
use woodchuck_sim::Happening;
use woodchuck_sim::report::Report;
use woodchuck_sim::scenario::RunOptions;

/// With these words what clients do begins.
const OPERATIONS: &[&str] = &[
    "produce ledger ",
    "produce scratch",
    "fetch ledger ",
    "list offsets ledger",
    "metadata of ledger",
    "a producer id",
    "create topic scratch",
    "delete topic scratch",
    "send nonsense",
];

#[test]
fn operations_of_clients_are_told() {
    let scenario = broker::scenario();
    let mut good = 0;
    for seed in 0..5 {
        let run = scenario.run(&RunOptions { chronicle: true, ..RunOptions::new(seed) });
        assert_eq!(run.trace_hash, scenario.run(&RunOptions::new(seed)).trace_hash);
        let chronicle = run.chronicle.as_ref().expect("it was asked for");
        let mut began = 0;
        let mut outcomes = Vec::new();
        for occurrence in &chronicle.occurrences {
            match &occurrence.what {
                Happening::OperationBegan { text, .. } => {
                    let known = OPERATIONS.iter().any(|known| text.starts_with(known));
                    assert!(known, "which request is it? {text}");
                    began += 1;
                }
                Happening::OperationEnded { outcome, .. } => outcomes.push(outcome.as_str()),
                _ => {}
            }
        }
        assert!(outcomes.len() <= began, "seed {seed}: {began} began");
        good += outcomes.iter().filter(|outcome| !outcome.starts_with("unknown")).count();
        let page = Report::new(&run, chronicle).html();
        assert!(page.contains("\"operations\":[["), "seed {seed}");
        assert!(page.len() < 8 << 20, "seed {seed}: a page of {} bytes", page.len());
    }
    assert!(good > 100, "{good} operations went well");
}
