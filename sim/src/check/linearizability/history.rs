//! A notebook for operations as they are asked and answered.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::{Completion, Model, Operation, Verdict, check_per_key};

/// The operations on many keys, written down while they happen.
///
/// Times are positions: each call of [`invoke`](Self::invoke) and [`complete`](Self::complete) is
/// one later than the one before. That orders more finely than a clock, which may stand still while
/// several things happen.
#[derive(Clone, Debug)]
pub struct History<K, I, O> {
    /// An operation that was withdrawn leaves a hole, so that the others keep their place.
    operations: BTreeMap<K, Vec<Option<Operation<I, O>>>>,
    now: u64,
}

/// An operation that waits for its answer. Dropping it leaves the operation without one: it may
/// have happened or not.
#[derive(Debug)]
#[must_use = "an operation whose call is dropped counts as one that was never answered"]
pub struct Call<K> {
    key: K,
    index: usize,
}

impl<K, I, O> Default for History<K, I, O> {
    fn default() -> Self {
        Self { operations: BTreeMap::new(), now: 0 }
    }
}

impl<K: Ord + Clone + Debug, I, O> History<K, I, O> {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `client` asks `input` of `key`, now.
    pub fn invoke(&mut self, client: u64, key: K, input: I) -> Call<K> {
        let invoked = self.tick();
        let operations = self.operations.entry(key.clone()).or_default();
        operations.push(Some(Operation::unanswered(client, invoked, input)));
        Call { key, index: operations.len() - 1 }
    }

    /// The answer came, now.
    pub fn complete(&mut self, call: Call<K>, output: O) {
        let at = self.tick();
        if let Some(Some(operation)) = self.slot(&call) {
            operation.completion = Some(Completion { at, output });
        }
    }

    /// The operation certainly did not happen and never will: it is as if nobody had asked. Only
    /// for answers that say so, never for a time-out.
    pub fn withdraw(&mut self, call: Call<K>) {
        if let Some(slot) = self.slot(&call) {
            *slot = None;
        }
    }

    /// The operations of each key, in the order in which they were asked.
    #[must_use]
    pub fn by_key(&self) -> BTreeMap<&K, Vec<Operation<I, O>>>
    where
        I: Clone,
        O: Clone,
    {
        self.operations
            .iter()
            .map(|(key, operations)| (key, operations.iter().flatten().cloned().collect()))
            .collect()
    }

    /// Judges it: see [`check_per_key`].
    pub fn check<M>(&self, model: &M, budget: u64) -> Verdict
    where
        M: Model<Input = I, Output = O>,
        I: Clone,
        O: Clone,
    {
        let keys = self.by_key();
        check_per_key(model, keys.iter().map(|(key, part)| (key, part.as_slice())), budget)
    }

    fn slot(&mut self, call: &Call<K>) -> Option<&mut Option<Operation<I, O>>> {
        self.operations.get_mut(&call.key)?.get_mut(call.index)
    }

    const fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }
}
