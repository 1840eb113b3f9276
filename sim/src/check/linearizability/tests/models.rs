//! What each model allows, and how it answers.

use super::super::*;
use super::generate::Service;
use crate::check::random::Random;

impl Service for Register<u64> {
    fn answer(&self, state: &u64, input: &RegisterInput<u64>, _: &mut Random) -> Self::Output {
        match input {
            RegisterInput::Read => RegisterOutput::Value(*state),
            RegisterInput::Write(_) => RegisterOutput::Done,
            RegisterInput::CompareAndSet { expected, .. } => RegisterOutput::Set(expected == state),
        }
    }
}

impl Service for KeyValue<u64> {
    fn answer(
        &self,
        state: &Option<u64>,
        input: &KeyValueInput<u64>,
        random: &mut Random,
    ) -> Self::Output {
        match input {
            KeyValueInput::Get => KeyValueOutput::Value(*state),
            KeyValueInput::Delete if random.once_in(2) => KeyValueOutput::Deleted(state.is_some()),
            KeyValueInput::Put(_) | KeyValueInput::Delete => KeyValueOutput::Done,
        }
    }
}

impl Service for Log<u64> {
    fn answer(&self, state: &Vec<u64>, input: &LogInput<u64>, random: &mut Random) -> Self::Output {
        let rest = |from: u64| state.iter().copied().skip(from as usize);
        match input {
            LogInput::Append(_) => LogOutput::Offset(state.len() as u64),
            LogInput::Read { from } => LogOutput::Values(rest(*from).collect()),
            LogInput::Fetch { from } => {
                LogOutput::Values(rest(*from).take(random.below(3) as usize).collect())
            }
        }
    }
}

#[test]
fn a_register_compares_and_sets() {
    let register = Register { initial: 1 };
    let set = RegisterInput::CompareAndSet { expected: 1, new: 2 };
    let step =
        |state, output: Option<RegisterOutput<i32>>| register.step(&state, &set, output.as_ref());
    assert_eq!(step(1, Some(RegisterOutput::Set(true))), Some(2));
    assert_eq!(step(1, Some(RegisterOutput::Set(false))), None);
    assert_eq!(step(3, Some(RegisterOutput::Set(true))), None);
    assert_eq!(step(3, Some(RegisterOutput::Set(false))), Some(3));
    assert_eq!(step(1, None), Some(2));
    assert_eq!(step(3, None), Some(3));
    assert_eq!(step(1, Some(RegisterOutput::Done)), None, "not an answer to this");
}

#[test]
fn a_key_can_be_deleted() {
    let key = KeyValue { initial: Some(1) };
    let step = |state, input, output: KeyValueOutput<i32>| key.step(&state, &input, Some(&output));
    assert_eq!(step(Some(1), KeyValueInput::Delete, KeyValueOutput::Done), Some(None));
    assert_eq!(step(None, KeyValueInput::Delete, KeyValueOutput::Done), Some(None));
    assert_eq!(step(Some(1), KeyValueInput::Delete, KeyValueOutput::Deleted(true)), Some(None));
    assert_eq!(step(None, KeyValueInput::Delete, KeyValueOutput::Deleted(true)), None);
    assert_eq!(step(None, KeyValueInput::Delete, KeyValueOutput::Deleted(false)), Some(None));
    assert_eq!(step(None, KeyValueInput::Put(4), KeyValueOutput::Done), Some(Some(4)));
    assert_eq!(step(None, KeyValueInput::Put(4), KeyValueOutput::Value(None)), None);
    assert_eq!(step(Some(4), KeyValueInput::Get, KeyValueOutput::Value(Some(4))), Some(Some(4)));
    assert_eq!(step(Some(4), KeyValueInput::Get, KeyValueOutput::Value(None)), None);
    assert_eq!(key.step(&Some(4), &KeyValueInput::Get, None), Some(Some(4)));
}

#[test]
fn a_log_reads_to_its_end_and_fetches_a_beginning() {
    let log = Log { initial: vec![5, 6, 7] };
    let state = log.initial();
    let step = |input, output: LogOutput<i32>| log.step(&state, &input, Some(&output));
    let values = |values: &[i32]| LogOutput::Values(values.to_vec());
    assert_eq!(step(LogInput::Append(8), LogOutput::Offset(3)), Some(vec![5, 6, 7, 8]));
    assert_eq!(step(LogInput::Append(8), LogOutput::Offset(2)), None);
    assert!(step(LogInput::Read { from: 1 }, values(&[6, 7])).is_some());
    assert!(step(LogInput::Read { from: 1 }, values(&[6])).is_none(), "7 is hidden");
    assert!(step(LogInput::Fetch { from: 1 }, values(&[6])).is_some());
    assert!(step(LogInput::Fetch { from: 1 }, values(&[])).is_some());
    assert!(step(LogInput::Fetch { from: 1 }, values(&[7])).is_none(), "6 is skipped");
    assert!(step(LogInput::Fetch { from: 1 }, values(&[6, 7, 8])).is_none(), "8 is invented");
    assert!(step(LogInput::Read { from: 9 }, values(&[])).is_some(), "past the end");
    assert!(step(LogInput::Read { from: u64::MAX }, values(&[1])).is_none());
    assert_eq!(log.step(&state, &LogInput::Append(8), None), Some(vec![5, 6, 7, 8]));
}
