//! Histories by hand, and then random ones that two other checkers judge as well.

mod agreement;
mod generate;
mod models;
#[cfg(feature = "porcupine")]
mod porcupine;

use super::*;
use generate::{Shape, lawful};

type RegisterOperation = Operation<RegisterInput<u64>, RegisterOutput<u64>>;

const REGISTER: Register<u64> = Register { initial: 0 };

fn write(client: u64, invoked: u64, value: u64, at: u64) -> RegisterOperation {
    Operation::answered(client, invoked, RegisterInput::Write(value), at, RegisterOutput::Done)
}

fn read(client: u64, invoked: u64, value: u64, at: u64) -> RegisterOperation {
    Operation::answered(client, invoked, RegisterInput::Read, at, RegisterOutput::Value(value))
}

fn lost_write(client: u64, invoked: u64, value: u64) -> RegisterOperation {
    Operation::unanswered(client, invoked, RegisterInput::Write(value))
}

#[test]
fn overlapping_operations_may_be_ordered_either_way() {
    for seen in [0, 1] {
        let history = [write(1, 0, 1, 10), read(2, 5, seen, 15), read(3, 16, 1, 17)];
        assert!(check(&REGISTER, &history, 100).holds(), "seen {seen}");
    }
}

#[test]
fn what_is_done_stays_seen() {
    let history = [write(1, 0, 1, 10), read(2, 11, 0, 15)];
    assert!(check(&REGISTER, &history, 100).is_violated());
    // At equal times the two overlap.
    let history = [write(1, 0, 1, 10), read(2, 10, 0, 15)];
    assert!(check(&REGISTER, &history, 100).holds());
}

#[test]
fn a_value_does_not_come_back() {
    let mut history = vec![write(1, 0, 1, 100), read(2, 1, 1, 2), read(3, 3, 0, 4)];
    assert!(check(&REGISTER, &history, 100).is_violated());
    history[2] = read(3, 2, 0, 4);
    assert!(check(&REGISTER, &history, 100).holds());
}

#[test]
fn an_unanswered_write_may_take_effect_late_once_or_never() {
    let never = [lost_write(1, 0, 7), read(2, 5, 0, 6)];
    assert!(check(&REGISTER, &never, 100).holds());
    let late = [lost_write(1, 0, 7), read(2, 5, 0, 6), write(2, 7, 1, 8), read(2, 9, 7, 10)];
    assert!(check(&REGISTER, &late, 100).holds());
    let twice = [lost_write(1, 0, 7), read(2, 5, 7, 6), write(2, 7, 1, 8), read(2, 9, 7, 10)];
    assert!(check(&REGISTER, &twice, 100).is_violated());
    let before = [read(2, 5, 7, 6), lost_write(1, 7, 7)];
    assert!(check(&REGISTER, &before, 100).is_violated());
}

/// The first try places both writes and is stuck. The second reaches the same state without having
/// used up the first write, which is another situation.
#[test]
fn an_unanswered_write_that_is_not_used_yet_is_kept_for_later() {
    let history = [lost_write(1, 0, 1), lost_write(2, 0, 2), read(3, 1, 2, 2), read(3, 3, 1, 4)];
    assert!(check(&REGISTER, &history, 100).holds());
}

#[test]
fn an_explanation_names_what_fits_and_what_does_not() {
    let history = [write(1, 0, 5, 2), write(2, 3, 6, 9), read(3, 4, 5, 6), read(4, 10, 5, 12)];
    let Linearization::Impossible(explanation) = search(&REGISTER, &history, 1_000) else {
        panic!("a value came back");
    };
    assert_eq!(
        explanation,
        Explanation { order: vec![0, 2, 1], stuck: vec![3], state: "6".to_owned() }
    );
    assert_eq!(
        check(&REGISTER, &history, 1_000).to_string(),
        "violated:\n  not-linearizable: \"the only key\": 3 of 4 operations can be ordered, the \
         last of them client 1: Write(5) -> Done [0 to 2], client 3: Read -> Value(5) [4 to 6], \
         client 2: Write(6) -> Done [3 to 9]; the state is then 6, and none of these can come \
         next: client 4: Read -> Value(5) [10 to 12]"
    );
}

#[test]
fn a_budget_that_ends_is_no_verdict() {
    let history = [write(1, 0, 1, 10), read(2, 11, 1, 15)];
    let Linearization::Found { order, steps } = search(&REGISTER, &history, 100) else {
        panic!("lawful");
    };
    assert_eq!(order, [0, 1]);
    assert!(check(&REGISTER, &history, steps).holds());
    let verdict = check(&REGISTER, &history, steps - 1);
    assert_eq!(
        verdict,
        Verdict::inconclusive(
            "\"the only key\": the budget of 1 steps ended with 1 of 2 answered operations placed"
        )
    );
}

#[test]
fn what_proves_nothing_or_makes_no_sense_is_no_verdict() {
    assert!(check(&REGISTER, &[], 100).is_inconclusive());
    assert!(check(&REGISTER, &[lost_write(1, 0, 1)], 100).is_inconclusive());
    let verdict = check(&REGISTER, &[write(1, 5, 1, 4)], 100);
    assert!(verdict.to_string().contains("operation 0 was answered before it was asked"));
}

#[test]
fn each_key_is_judged_apart() {
    let keys = by_key([
        ("a", write(1, 0, 1, 1)),
        ("b", read(1, 2, 0, 3)),
        ("a", read(1, 4, 1, 5)),
        ("c", lost_write(1, 6, 1)),
    ]);
    let parts = || keys.iter().map(|(key, part)| (key, part.as_slice()));
    assert!(check_per_key(&REGISTER, parts(), 100).holds());
    // As one register they contradict each other.
    let whole: Vec<_> = keys.values().flatten().cloned().collect();
    assert!(check(&REGISTER, &whole, 100).is_violated());
    // A violation of one key outweighs a doubt about another.
    let broken = [read(1, 0, 9, 1)];
    let verdict = check_per_key(&REGISTER, parts().chain([(&"z", &broken[..])]), 1);
    assert_eq!(verdict.kinds(), BTreeMap::from([("not-linearizable", 1)]));
    assert!(verdict.anomalies()[0].what.starts_with("\"z\": 0 of 1 operations can be ordered; "));
}

#[test]
fn a_notebook_orders_by_position_and_forgets_what_is_withdrawn() {
    let mut history = History::new();
    let refused = history.invoke(1, 'a', RegisterInput::Write(9));
    let kept = history.invoke(2, 'a', RegisterInput::Write(1));
    history.withdraw(refused);
    history.complete(kept, RegisterOutput::Done);
    let unknown = history.invoke(3, 'a', RegisterInput::Write(2));
    drop(unknown);
    let seen = history.invoke(2, 'a', RegisterInput::Read);
    history.complete(seen, RegisterOutput::Value(2));
    assert!(history.check(&REGISTER, 100).holds());
    assert_eq!(history.by_key()[&'a'], [write(2, 2, 1, 3), lost_write(3, 4, 2), read(2, 5, 2, 6)]);
    let seen = history.invoke(2, 'a', RegisterInput::Read);
    history.complete(seen, RegisterOutput::Value(9));
    assert!(history.check(&REGISTER, 100).is_violated(), "9 was refused");
}

/// A thousand operations of eight clients, all the time overlapping, some without an answer.
#[test]
fn a_long_history_is_judged_in_few_steps() {
    let shape = Shape { clients: 8, operations: 1_000, crashes: 200, values: 5 };
    for seed in 0..4 {
        let mut history = lawful(&REGISTER, seed, &shape, generate::register_input);
        let Linearization::Found { order, steps } = search(&REGISTER, &history, 1_000_000) else {
            panic!("seed {seed} is lawful");
        };
        assert!(steps < 100_000, "seed {seed} took {steps} steps");
        agreement::assert_explains(&REGISTER, &history, &order);
        // A value that nobody wrote, read in the middle.
        let answered = history
            .iter_mut()
            .filter(|operation| operation.input == RegisterInput::Read)
            .filter_map(|operation| operation.completion.as_mut());
        answered.skip(200).take(1).for_each(|completion| {
            completion.output = RegisterOutput::Value(99);
        });
        let verdict = check(&REGISTER, &history, 2_000_000);
        assert!(verdict.is_violated(), "seed {seed}");
    }
}

/// A log's state is long, and no operation on it commutes with another.
#[test]
fn a_long_log_is_judged_in_few_steps() {
    let shape = Shape { clients: 8, operations: 1_000, crashes: 0, values: 1_000_000 };
    let log = Log::default();
    let mut history = lawful(&log, 3, &shape, generate::log_input);
    assert!(check(&log, &history, 100_000).holds());
    let last = history.iter_mut().rev().find_map(|operation| match &mut operation.completion {
        Some(Completion { output: LogOutput::Values(values), .. }) if !values.is_empty() => {
            Some(values)
        }
        _ => None,
    });
    last.expect("it is read often").pop();
    assert!(check(&log, &history, 100_000).is_violated());
}
