//! Merge operators: what an operand does to the value that a key has.

/// Makes a value of what a key had and of operands that were merged into it.
///
/// An operator has to give the same answer for the same arguments, for ever: it is asked when a key
/// is read, and again when tables are compacted. Its name is recorded with the keyspace.
pub trait MergeOperator {
    /// What it is called where a keyspace is created.
    fn name(&self) -> &str;

    /// The key's value. `operands` are those since `existing`, oldest first, one at least;
    /// `existing` is `None` if the key had no value.
    ///
    /// # Errors
    /// What is wrong with the operands or the value. The key cannot be read until it is overwritten
    /// or deleted; others are not concerned.
    fn merge(
        &self,
        key: &[u8],
        existing: Option<&[u8]>,
        operands: &[&[u8]],
    ) -> Result<Vec<u8>, String>;

    /// One operand that does what these do one after the other, whatever they are applied to. An
    /// operator that has no such operand says `None`, and the operands are kept side by side.
    fn join(&self, key: &[u8], operands: &[&[u8]]) -> Option<Vec<u8>> {
        let _ = (key, operands);
        None
    }
}

/// Adds numbers: values and operands are `i64`, little endian; no value is 0. A sum that is too
/// large or too small wraps around, so that the order in which operands are added does not matter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Add;

/// Puts operands behind the value, one behind the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Append;

/// Keeps the largest of the value and the operands, compared byte by byte.
#[derive(Clone, Copy, Debug, Default)]
pub struct Largest;

fn integer(bytes: &[u8], what: &str) -> Result<i64, String> {
    let bytes = bytes.try_into().map_err(|_| {
        format!("{what} has {} bytes, and numbers that are added have 8", bytes.len())
    })?;
    Ok(i64::from_le_bytes(bytes))
}

impl MergeOperator for Add {
    fn name(&self) -> &str {
        "add"
    }

    fn merge(
        &self,
        _key: &[u8],
        existing: Option<&[u8]>,
        operands: &[&[u8]],
    ) -> Result<Vec<u8>, String> {
        let mut sum = existing.map_or(Ok(0), |existing| integer(existing, "the value"))?;
        for operand in operands {
            sum = sum.wrapping_add(integer(operand, "an operand")?);
        }
        Ok(sum.to_le_bytes().to_vec())
    }

    fn join(&self, key: &[u8], operands: &[&[u8]]) -> Option<Vec<u8>> {
        // Operands that are no numbers stay as they are, for the reader to be told.
        self.merge(key, None, operands).ok()
    }
}

impl MergeOperator for Append {
    fn name(&self) -> &str {
        "append"
    }

    fn merge(
        &self,
        _key: &[u8],
        existing: Option<&[u8]>,
        operands: &[&[u8]],
    ) -> Result<Vec<u8>, String> {
        let mut value = existing.unwrap_or_default().to_vec();
        operands.iter().for_each(|operand| value.extend_from_slice(operand));
        Ok(value)
    }

    fn join(&self, key: &[u8], operands: &[&[u8]]) -> Option<Vec<u8>> {
        self.merge(key, None, operands).ok()
    }
}

impl MergeOperator for Largest {
    fn name(&self) -> &str {
        "max"
    }

    fn merge(
        &self,
        _key: &[u8],
        existing: Option<&[u8]>,
        operands: &[&[u8]],
    ) -> Result<Vec<u8>, String> {
        let largest = operands.iter().copied().chain(existing).max();
        Ok(largest.unwrap_or_default().to_vec())
    }

    fn join(&self, key: &[u8], operands: &[&[u8]]) -> Option<Vec<u8>> {
        self.merge(key, None, operands).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: i64) -> [u8; 8] {
        number.to_le_bytes()
    }

    #[test]
    fn joined_operands_do_what_they_do_one_by_one() {
        let numbers = [number(3), number(-20), number(i64::MAX), number(7)];
        let operands: Vec<&[u8]> = numbers.iter().map(<[u8; 8]>::as_slice).collect();
        let (five, operators) = (number(5), [&Add as &dyn MergeOperator, &Append, &Largest]);
        for operator in operators {
            for existing in [None, Some(&five[..])] {
                let all = operator.merge(b"k", existing, &operands).expect("these are numbers");
                for cut in 1..operands.len() {
                    let (older, newer) = operands.split_at(cut);
                    let joined = operator.join(b"k", older).expect("these can be joined");
                    let rest = [&[&joined[..]], newer].concat();
                    let by_joined = operator.merge(b"k", existing, &rest);
                    assert_eq!(by_joined.as_ref(), Ok(&all), "{} at {cut}", operator.name());
                    let first = operator.merge(b"k", existing, older).expect("numbers, too");
                    let by_steps = operator.merge(b"k", Some(&first), newer);
                    assert_eq!(by_steps.as_ref(), Ok(&all), "{} at {cut}", operator.name());
                }
            }
        }
    }

    #[test]
    fn operators_do_what_their_names_say() {
        let (one, minus_three) = (number(1), number(-3));
        let added = Add.merge(b"k", None, &[&one, &minus_three, &minus_three]);
        assert_eq!(added, Ok(number(-5).to_vec()));
        assert_eq!(Add.merge(b"k", Some(&number(6)), &[&one]), Ok(number(7).to_vec()));
        assert_eq!(Append.merge(b"k", Some(b"a"), &[b"b", b"", b"cd"]), Ok(b"abcd".to_vec()));
        assert_eq!(Largest.merge(b"k", Some(b"m"), &[b"b", b"x", b"cd"]), Ok(b"x".to_vec()));
        assert_eq!(Largest.merge(b"k", Some(b"z"), &[b"b"]), Ok(b"z".to_vec()));
    }

    #[test]
    fn what_is_no_number_is_not_added() {
        let refused = Add.merge(b"k", Some(b"seven"), &[&number(1)]).expect_err("no number");
        assert!(refused.contains("the value has 5 bytes"), "{refused}");
        let refused = Add.merge(b"k", None, &[&number(1), b""]).expect_err("no number");
        assert!(refused.contains("an operand has 0 bytes"), "{refused}");
        assert_eq!(Add.join(b"k", &[&number(1), b"x"]), None);
    }
}
