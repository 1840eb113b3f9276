//! Models of common services: a register, a key with its value, and a log.
//!
//! Each is the model of *one* key. An answer that does not belong to the question (a value to a
//! write) never fits.

use std::fmt::Debug;

use super::Model;

/// One value that is read, written, and compared and set.
#[derive(Clone, Debug, Default)]
pub struct Register<V> {
    /// The value before the first write.
    pub initial: V,
}

/// What a [`Register`] can be asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RegisterInput<V> {
    /// The value. Answered by [`RegisterOutput::Value`].
    Read,
    /// To hold this value. Answered by [`RegisterOutput::Done`].
    Write(V),
    /// To hold `new` if it holds `expected`. Answered by [`RegisterOutput::Set`].
    CompareAndSet {
        /// What must be there.
        expected: V,
        /// What shall be there.
        new: V,
    },
}

/// What a [`Register`] can answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RegisterOutput<V> {
    /// The value that was read.
    Value(V),
    /// It was written.
    Done,
    /// Whether the expected value was there, and so the new one is.
    Set(bool),
}

impl<V: Clone + Ord + Debug> Model for Register<V> {
    type State = V;
    type Input = RegisterInput<V>;
    type Output = RegisterOutput<V>;

    fn initial(&self) -> V {
        self.initial.clone()
    }

    fn step(&self, state: &V, input: &Self::Input, output: Option<&Self::Output>) -> Option<V> {
        let (answer, next) = match input {
            RegisterInput::Read => (RegisterOutput::Value(state.clone()), state),
            RegisterInput::Write(value) => (RegisterOutput::Done, value),
            RegisterInput::CompareAndSet { expected, new } if expected == state => {
                (RegisterOutput::Set(true), new)
            }
            RegisterInput::CompareAndSet { .. } => (RegisterOutput::Set(false), state),
        };
        output.is_none_or(|output| *output == answer).then(|| next.clone())
    }
}

/// One key of a store, which has a value or none.
#[derive(Clone, Debug)]
pub struct KeyValue<V> {
    /// The value before the first operation; `None` for none.
    pub initial: Option<V>,
}

impl<V> Default for KeyValue<V> {
    fn default() -> Self {
        Self { initial: None }
    }
}

/// What a [`KeyValue`] can be asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyValueInput<V> {
    /// The value. Answered by [`KeyValueOutput::Value`].
    Get,
    /// To hold this value. Answered by [`KeyValueOutput::Done`].
    Put(V),
    /// To hold none. Answered by [`KeyValueOutput::Done`], or by [`KeyValueOutput::Deleted`] where
    /// the store tells.
    Delete,
}

/// What a [`KeyValue`] can answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyValueOutput<V> {
    /// The value that was read; `None` if there was none.
    Value(Option<V>),
    /// It was done.
    Done,
    /// It was done, and this says whether there had been a value.
    Deleted(bool),
}

impl<V: Clone + Ord + Debug> Model for KeyValue<V> {
    type State = Option<V>;
    type Input = KeyValueInput<V>;
    type Output = KeyValueOutput<V>;

    fn initial(&self) -> Option<V> {
        self.initial.clone()
    }

    fn step(
        &self,
        state: &Option<V>,
        input: &Self::Input,
        output: Option<&Self::Output>,
    ) -> Option<Option<V>> {
        match (input, output) {
            (KeyValueInput::Get, None) => Some(state.clone()),
            (KeyValueInput::Get, Some(KeyValueOutput::Value(value))) => {
                (value == state).then(|| state.clone())
            }
            (KeyValueInput::Put(value), None | Some(KeyValueOutput::Done)) => {
                Some(Some(value.clone()))
            }
            (KeyValueInput::Delete, None | Some(KeyValueOutput::Done)) => Some(None),
            (KeyValueInput::Delete, Some(KeyValueOutput::Deleted(existed))) => {
                (*existed == state.is_some()).then_some(None)
            }
            _ => None,
        }
    }
}

/// A log whose offsets have no gaps: the first value is at 0, the next at 1.
///
/// For logs with gaps, and for long histories, there is [`crate::check::log`].
#[derive(Clone, Debug)]
pub struct Log<V> {
    /// The values before the first append.
    pub initial: Vec<V>,
}

impl<V> Default for Log<V> {
    fn default() -> Self {
        Self { initial: Vec::new() }
    }
}

/// What a [`Log`] can be asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogInput<V> {
    /// To hold this value after all others. Answered by [`LogOutput::Offset`].
    Append(V),
    /// All values from an offset to the end. Answered by [`LogOutput::Values`].
    Read {
        /// The offset of the first.
        from: u64,
    },
    /// Values from an offset, as many as the log likes to give, or none. Answered by
    /// [`LogOutput::Values`].
    Fetch {
        /// The offset of the first.
        from: u64,
    },
}

/// What a [`Log`] can answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogOutput<V> {
    /// Where the value is.
    Offset(u64),
    /// The values that were read.
    Values(Vec<V>),
}

impl<V: Clone + Ord + Debug> Model for Log<V> {
    type State = Vec<V>;
    type Input = LogInput<V>;
    type Output = LogOutput<V>;

    fn initial(&self) -> Vec<V> {
        self.initial.clone()
    }

    fn step(
        &self,
        state: &Vec<V>,
        input: &Self::Input,
        output: Option<&Self::Output>,
    ) -> Option<Vec<V>> {
        match (input, output) {
            (LogInput::Append(value), None) => Some(with(state, value)),
            (LogInput::Append(value), Some(LogOutput::Offset(offset))) => {
                (*offset == state.len() as u64).then(|| with(state, value))
            }
            (LogInput::Read { .. } | LogInput::Fetch { .. }, None) => Some(state.clone()),
            (LogInput::Read { from }, Some(LogOutput::Values(values))) => {
                (tail(state, *from) == values.as_slice()).then(|| state.clone())
            }
            (LogInput::Fetch { from }, Some(LogOutput::Values(values))) => {
                tail(state, *from).starts_with(values).then(|| state.clone())
            }
            _ => None,
        }
    }
}

fn with<V: Clone>(log: &[V], value: &V) -> Vec<V> {
    let mut longer = Vec::with_capacity(log.len() + 1);
    longer.extend_from_slice(log);
    longer.push(value.clone());
    longer
}

/// The values from an offset on; none if the log ends before it.
fn tail<V>(log: &[V], from: u64) -> &[V] {
    usize::try_from(from).ok().and_then(|from| log.get(from..)).unwrap_or_default()
}
