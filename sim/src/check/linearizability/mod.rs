//! Linearizability: did every operation seem to happen at one instant, between the moment it was
//! asked for and the moment it was answered?
//!
//! # Algorithm
//!
//! 1. Operations on different keys are judged apart. A history is linearizable exactly when its part
//!    for each key is (Herlihy and Wing, 1990), and the parts are far cheaper than the whole (Horn
//!    and Kroening, "Faster linearizability checking via P-compositionality", 2015).
//! 2. Of one key, the search takes any operation that may come first (no other one was answered
//!    before it was asked for), asks the model whether its answer fits the state, and goes on with
//!    the rest; where nothing fits it goes back and takes another (Wing and Gong, "Testing and
//!    verifying concurrent objects", 1993).
//! 3. A pair of the set of operations taken so far and the state they led to is visited once only
//!    (Lowe, "Testing for linearizability", 2017). That makes the search affordable.
//!
//! The search keeps its own stack, so a long history cannot overflow the thread's. It counts its
//! steps, and when a budget of them is used up the verdict is inconclusive: not a pass.
//!
//! # Operations without an answer
//!
//! A client that crashed or gave up does not know whether its operation happened. Such an operation
//! has no [`Completion`]. It may take effect at any time after it was asked for, or never. Leaving it
//! out of the history would be wrong: a later read may see it. One that *certainly* did not happen
//! (it was refused) does not belong into the history.
//!
//! The cost of the search grows with two to the power of the number of such operations whose effect
//! could still be seen. A handful for each key is no trouble.
//!
//! # Example
//!
//! ```
//! use woodchuck_sim::check::linearizability::{History, Register, RegisterInput, RegisterOutput};
//!
//! let mut history = History::new();
//! let write = history.invoke(1, "x", RegisterInput::Write(7));
//! let read = history.invoke(2, "x", RegisterInput::Read);
//! history.complete(read, RegisterOutput::Value(7));
//! history.complete(write, RegisterOutput::Done);
//! let register = Register { initial: 0 };
//! assert!(history.check(&register, 1_000).holds());
//!
//! // The write was done, and now it is not there.
//! let read = history.invoke(2, "x", RegisterInput::Read);
//! history.complete(read, RegisterOutput::Value(0));
//! let verdict = history.check(&register, 1_000);
//! assert_eq!(verdict.anomalies()[0].kind, "not-linearizable");
//! ```

mod history;
mod models;
mod search;

#[cfg(test)]
mod tests;

pub use history::{Call, History};
pub use models::{
    KeyValue, KeyValueInput, KeyValueOutput, Log, LogInput, LogOutput, Register, RegisterInput,
    RegisterOutput,
};
pub use search::{Explanation, Linearization, search};

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::{Anomalies, Verdict};

/// How a service behaves when it is asked one thing at a time.
pub trait Model {
    /// What the service remembers. Its order has no meaning; it is there so that states can be
    /// looked up.
    type State: Clone + Ord + Debug;
    /// What can be asked.
    type Input: Debug;
    /// What can be answered.
    type Output: Debug;

    /// The state before anything was asked.
    fn initial(&self) -> Self::State;

    /// The state after `input` was answered by `output` in `state`; `None` if it could not have
    /// been. An `output` of `None` is an answer that nobody saw: any will do, so this is the state
    /// if the operation did happen.
    fn step(
        &self,
        state: &Self::State,
        input: &Self::Input,
        output: Option<&Self::Output>,
    ) -> Option<Self::State>;
}

/// The answer to an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion<O> {
    /// When the client had it.
    pub at: u64,
    /// What it was.
    pub output: O,
}

/// Something a client asked.
///
/// Two operations overlap when neither was completed before the other was invoked; equal times
/// overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<I, O> {
    /// Who asked. Only for the reader of an explanation.
    pub client: u64,
    /// What was asked.
    pub input: I,
    /// When.
    pub invoked: u64,
    /// The answer, if one came.
    pub completion: Option<Completion<O>>,
}

impl<I, O> Operation<I, O> {
    /// An operation whose answer never came.
    #[must_use]
    pub const fn unanswered(client: u64, invoked: u64, input: I) -> Self {
        Self { client, input, invoked, completion: None }
    }

    /// An operation with its answer.
    #[must_use]
    pub const fn answered(client: u64, invoked: u64, input: I, at: u64, output: O) -> Self {
        Self { client, input, invoked, completion: Some(Completion { at, output }) }
    }
}

/// Judges the operations of one key, in at most `budget` steps of the model.
pub fn check<M: Model>(
    model: &M,
    operations: &[Operation<M::Input, M::Output>],
    budget: u64,
) -> Verdict {
    check_per_key(model, [("the only key", operations)], budget)
}

/// Judges the operations of each key, each in at most `budget` steps of the model.
///
/// A key of which no operation was answered proves nothing and is left out; if that is so of all
/// keys, the verdict is inconclusive. Anomalies are of the kind `not-linearizable`.
pub fn check_per_key<'a, M, K>(
    model: &M,
    keys: impl IntoIterator<Item = (K, &'a [Operation<M::Input, M::Output>])>,
    budget: u64,
) -> Verdict
where
    M: Model,
    M::Input: 'a,
    M::Output: 'a,
    K: Debug,
{
    let mut anomalies = Anomalies::default();
    let mut doubts: Vec<String> = Vec::new();
    let mut answered = 0;
    for (key, operations) in keys {
        let count = operations.iter().filter(|operation| operation.completion.is_some()).count();
        if count == 0 {
            continue;
        }
        answered += count;
        match search(model, operations, budget) {
            Linearization::Found { .. } => {}
            Linearization::Unknown { why } => doubts.push(format!("{key:?}: {why}")),
            Linearization::Impossible(explanation) => anomalies.add("not-linearizable", || {
                format!("{key:?}: {}", explanation.describe(operations))
            }),
        }
    }
    anomalies.verdict_or(|| {
        if answered == 0 {
            Verdict::inconclusive("no operation was answered, so there is nothing to judge")
        } else if doubts.is_empty() {
            Verdict::Holds
        } else {
            Verdict::inconclusive(doubts.join("; "))
        }
    })
}

/// Splits a history by key, each part in the order of the whole.
#[must_use]
pub fn by_key<K: Ord, I, O>(
    operations: impl IntoIterator<Item = (K, Operation<I, O>)>,
) -> BTreeMap<K, Vec<Operation<I, O>>> {
    let mut keys = BTreeMap::new();
    for (key, operation) in operations {
        keys.entry(key).or_insert_with(Vec::new).push(operation);
    }
    keys
}
