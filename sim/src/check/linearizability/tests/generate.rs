//! Random histories: lawful ones from a service that does one thing at a time, and broken ones.

use super::super::{Completion, LogInput, Model, Operation, RegisterInput};
use crate::check::random::Random;

/// How a random history looks.
pub(super) struct Shape {
    pub(super) clients: usize,
    pub(super) operations: usize,
    /// One operation in so many is never answered; 0 for none.
    pub(super) crashes: u64,
    /// How many different values there are.
    pub(super) values: u64,
}

/// What a client waits for.
struct Waiting<O> {
    operation: usize,
    /// The answer, when the operation has happened.
    output: Option<O>,
    crashes: bool,
}

/// An answer that a service can give: what tests need besides [`Model::step`].
pub(super) trait Service: Model {
    /// What it would answer in this state.
    fn answer(&self, state: &Self::State, input: &Self::Input, random: &mut Random)
    -> Self::Output;
}

/// A history that has an order, because the operations did happen one after the other.
pub(super) fn lawful<M: Service>(
    model: &M,
    seed: u64,
    shape: &Shape,
    input: impl Fn(&mut Random, &Shape) -> M::Input,
) -> Vec<Operation<M::Input, M::Output>> {
    let random = &mut Random::new(seed);
    let mut operations: Vec<Operation<M::Input, M::Output>> = Vec::new();
    let mut clients: Vec<Option<Waiting<M::Output>>> = Vec::new();
    clients.resize_with(shape.clients, || None);
    let mut state = model.initial();
    let mut now = 0;
    loop {
        // Some events are simultaneous.
        now += u64::from(!random.once_in(4));
        let client = random.below(shape.clients as u64) as usize;
        match clients[client].take() {
            None if operations.len() == shape.operations => {
                if clients.iter().all(Option::is_none) {
                    return operations;
                }
            }
            None => {
                let input = input(random, shape);
                clients[client] = Some(Waiting {
                    operation: operations.len(),
                    output: None,
                    crashes: shape.crashes > 0 && random.once_in(shape.crashes),
                });
                operations.push(Operation::unanswered(client as u64, now, input));
            }
            // One that is never answered may not happen at all.
            Some(Waiting { output: None, crashes: true, .. }) if random.once_in(2) => {}
            Some(mut waiting @ Waiting { output: None, .. }) => {
                let operation = &operations[waiting.operation];
                let output = model.answer(&state, &operation.input, random);
                state = model
                    .step(&state, &operation.input, Some(&output))
                    .expect("the model accepts its own answer");
                waiting.output = Some(output);
                clients[client] = Some(waiting);
            }
            Some(Waiting { operation, output: Some(output), crashes: false }) => {
                operations[operation].completion = Some(Completion { at: now, output });
            }
            Some(Waiting { crashes: true, .. }) => {}
        }
    }
}

/// Gives one answer to another question, which may or may not break the history.
pub(super) fn mutate<I, O: Clone>(history: &mut [Operation<I, O>], random: &mut Random) {
    let answered: Vec<usize> =
        (0..history.len()).filter(|&index| history[index].completion.is_some()).collect();
    if answered.is_empty() {
        return;
    }
    let mut pick = || answered[random.below(answered.len() as u64) as usize];
    let (one, other) = (pick(), pick());
    match random.below(3) {
        // Answers change places.
        0 => {
            let output = history[one].completion.clone().map(|completion| completion.output);
            if let (Some(completion), Some(output)) = (&mut history[other].completion, output) {
                completion.output = output;
            }
        }
        // An answer comes sooner, so the operation overlaps with fewer.
        1 => {
            let invoked = history[one].invoked;
            if let Some(completion) = &mut history[one].completion {
                completion.at = invoked;
            }
        }
        // A question comes later.
        _ => {
            if let Some(completion) = &history[one].completion {
                history[one].invoked = completion.at;
            }
        }
    }
}

pub(super) fn register_input(random: &mut Random, shape: &Shape) -> RegisterInput<u64> {
    let value = random.below(shape.values);
    match random.below(4) {
        0 => RegisterInput::Write(value),
        1 => RegisterInput::CompareAndSet { expected: value, new: random.below(shape.values) },
        _ => RegisterInput::Read,
    }
}

pub(super) fn log_input(random: &mut Random, shape: &Shape) -> LogInput<u64> {
    match random.below(4) {
        0 => LogInput::Read { from: random.below(4) },
        1 => LogInput::Fetch { from: random.below(4) },
        _ => LogInput::Append(random.below(shape.values)),
    }
}
