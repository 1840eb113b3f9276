//! Two checkers, one verdict: ours, and every order tried by hand. With the feature `porcupine`, the
//! `porcupine-rs` crate is asked, too.

use std::hash::Hash;

use super::super::*;
use super::generate::{Service, Shape, lawful, log_input, mutate, register_input};
use crate::check::random::Random;

/// Tries every order and every choice of unanswered operations.
fn by_hand<M: Model>(
    model: &M,
    history: &[Operation<M::Input, M::Output>],
    placed: &mut Vec<usize>,
    state: &M::State,
) -> bool {
    let left = || (0..history.len()).filter(|index| !placed.contains(index)).collect::<Vec<_>>();
    let deadline = left()
        .into_iter()
        .filter_map(|index| history[index].completion.as_ref())
        .map(|completion| completion.at)
        .min();
    let Some(deadline) = deadline else {
        return true;
    };
    left().into_iter().any(|index| {
        let operation = &history[index];
        if operation.invoked > deadline {
            return false;
        }
        let output = operation.completion.as_ref().map(|completion| &completion.output);
        let Some(next) = model.step(state, &operation.input, output) else {
            return false;
        };
        placed.push(index);
        let found = by_hand(model, history, placed, &next);
        placed.pop();
        found
    })
}

/// The order is one that real time and the model allow, and leaves out no answer.
pub(super) fn assert_explains<M: Model>(
    model: &M,
    history: &[Operation<M::Input, M::Output>],
    order: &[usize],
) {
    let mut state = model.initial();
    let mut placed = vec![false; history.len()];
    let mut latest = 0;
    for &index in order {
        let operation = &history[index];
        assert!(!std::mem::replace(&mut placed[index], true), "operation {index} twice");
        latest = latest.max(operation.invoked);
        if let Some(completion) = &operation.completion {
            assert!(latest <= completion.at, "operation {index} comes after one that was later");
        }
        let output = operation.completion.as_ref().map(|completion| &completion.output);
        state = model.step(&state, &operation.input, output).expect("the model allows it");
    }
    for (index, operation) in history.iter().enumerate() {
        assert!(placed[index] || operation.completion.is_none(), "operation {index} is left out");
    }
}

/// Random histories, half of them changed, judged by all. Says how many had an order.
fn agree<M>(seeds: u64, input: impl Fn(&mut Random, &Shape) -> M::Input) -> u64
where
    M: Service + Default + Clone + Send + Sync,
    M::State: Hash + Send + Sync,
    M::Input: Clone + Send + Sync,
    M::Output: Clone + Send + Sync,
{
    let model = M::default();
    let mut lawful_count = 0;
    for seed in 0..seeds {
        let random = &mut Random::new(seed ^ 0xa9ee);
        let shape = Shape {
            clients: 1 + random.below(5) as usize,
            operations: 1 + random.below(14) as usize,
            crashes: random.below(5),
            values: 2 + random.below(3),
        };
        let mut history = lawful(&model, seed, &shape, &input);
        let mutations = random.below(5);
        for _ in 0..mutations {
            mutate(&mut history, random);
        }
        let ours = match search(&model, &history, 1_000_000) {
            Linearization::Found { order, .. } => {
                assert_explains(&model, &history, &order);
                true
            }
            Linearization::Impossible(explanation) => {
                assert_stuck(&model, &history, &explanation);
                false
            }
            Linearization::Unknown { why } => panic!("seed {seed}: {why}"),
        };
        assert!(ours || mutations > 0, "seed {seed} is lawful: {history:?}");
        #[cfg(feature = "porcupine")]
        {
            let theirs = super::porcupine::judge::<M>(&history);
            assert_eq!(ours, theirs, "seed {seed}, porcupine: {history:?}");
        }
        if history.len() <= 7 {
            let by_hand = by_hand(&model, &history, &mut Vec::new(), &model.initial());
            assert_eq!(ours, by_hand, "seed {seed}, by hand: {history:?}");
        }
        lawful_count += u64::from(ours);
    }
    lawful_count
}

/// The model does allow the beginning, and none of the operations that are said to be stuck.
fn assert_stuck<M: Model>(
    model: &M,
    history: &[Operation<M::Input, M::Output>],
    explanation: &Explanation,
) {
    let mut state = model.initial();
    let output = |index: usize| history[index].completion.as_ref().map(|answer| &answer.output);
    for &index in &explanation.order {
        let next = model.step(&state, &history[index].input, output(index));
        state = next.expect("the beginning is allowed");
    }
    assert!(!explanation.stuck.is_empty());
    for &index in &explanation.stuck {
        assert!(history[index].completion.is_some(), "operation {index} need not come at all");
        assert_eq!(model.step(&state, &history[index].input, output(index)), None);
    }
}

const SEEDS: u64 = 10_000;

/// Both verdicts must have been reached often, or the agreement means little.
fn assert_mixed(lawful_count: u64) {
    assert!(lawful_count > SEEDS / 2, "{lawful_count} of {SEEDS} had an order");
    assert!(lawful_count < SEEDS - SEEDS / 10, "{lawful_count} of {SEEDS} had an order");
}

#[test]
fn registers() {
    assert_mixed(agree::<Register<u64>>(SEEDS, register_input));
}

#[test]
fn keys_with_values() {
    assert_mixed(agree::<KeyValue<u64>>(SEEDS, |random, shape| match random.below(5) {
        0 => KeyValueInput::Delete,
        1 | 2 => KeyValueInput::Put(random.below(shape.values)),
        _ => KeyValueInput::Get,
    }));
}

#[test]
fn logs() {
    assert_mixed(agree::<Log<u64>>(SEEDS, log_input));
}
