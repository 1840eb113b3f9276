//! The checker of the `porcupine-rs` crate, for our models.

use std::hash::Hash;
use std::marker::PhantomData;

use super::super::*;

/// One of our models as the other crate wants it. An operation without an answer returns at the end
/// of time there: taking effect last is the same as never.
#[derive(Clone)]
struct Theirs<M>(PhantomData<M>);

impl<M> porcupine_rs::Model for Theirs<M>
where
    M: Model + Default + Clone + Send + Sync,
    M::State: Hash + Send + Sync,
    M::Input: Clone + Send + Sync,
    M::Output: Clone + Send + Sync,
{
    type State = M::State;
    type Op = (M::Input, Option<M::Output>);
    type Metadata = ();

    fn init() -> M::State {
        M::default().initial()
    }

    fn step(state: &M::State, (input, output): &Self::Op) -> (bool, M::State) {
        match M::default().step(state, input, output.as_ref()) {
            Some(next) => (true, next),
            None => (false, state.clone()),
        }
    }
}

/// Whether it finds an order.
pub(super) fn judge<M>(history: &[Operation<M::Input, M::Output>]) -> bool
where
    M: Model + Default + Clone + Send + Sync,
    M::State: Hash + Send + Sync,
    M::Input: Clone + Send + Sync,
    M::Output: Clone + Send + Sync,
{
    let operations: Vec<_> = history
        .iter()
        .map(|operation| porcupine_rs::Operation::<Theirs<M>> {
            client_id: None,
            call_time: operation.invoked as i64,
            return_time: operation.completion.as_ref().map_or(i64::MAX, |answer| answer.at as i64),
            op: (
                operation.input.clone(),
                operation.completion.as_ref().map(|answer| answer.output.clone()),
            ),
            metadata: None,
        })
        .collect();
    porcupine_rs::check_operations(&operations)
}
