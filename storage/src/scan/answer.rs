//! What the versions of one key come to.

use bytes::Bytes;

use super::operator::MergeOperator;
use crate::error::StorageError;
use crate::operands::Operands;
use crate::{Entry, Kind};

/// What is known of a key so far.
#[derive(Debug, Default)]
pub(super) struct Answer {
    base: Option<Bytes>,
    /// Lists of operands, as merge entries hold them.
    operands: Vec<Bytes>,
}

impl Answer {
    /// Takes the next older version, of those that count. Returns whether older ones no longer
    /// matter.
    ///
    /// # Errors
    /// `Value` if the version is none that can be read here.
    pub(super) fn add_older(
        &mut self,
        entry: &Entry<'_>,
        value: Option<Bytes>,
        now_ms: u64,
    ) -> Result<bool, StorageError> {
        let has_value = has_value(entry, now_ms)?;
        match has_value {
            None => self.operands.extend(value),
            Some(has_value) => self.base = value.filter(|_| has_value),
        }
        Ok(has_value.is_some())
    }

    /// Takes the next newer version, of those that count. A walk goes one way only.
    ///
    /// # Errors
    /// `Value` if the version is none that can be read here.
    pub(super) fn add_newer(
        &mut self,
        entry: &Entry<'_>,
        value: Option<Bytes>,
        now_ms: u64,
    ) -> Result<(), StorageError> {
        match has_value(entry, now_ms)? {
            None => self.operands.extend(value),
            Some(has_value) => {
                self.operands.clear();
                self.base = value.filter(|_| has_value);
            }
        }
        Ok(())
    }

    /// The key's value. `newest_first` says which way the versions were taken.
    ///
    /// # Errors
    /// `Value` if operands cannot be applied.
    pub(super) fn finish(
        self,
        key: &[u8],
        operator: Option<&dyn MergeOperator>,
        newest_first: bool,
    ) -> Result<Option<Bytes>, StorageError> {
        let Self { base, mut operands } = self;
        if operands.is_empty() {
            return Ok(base);
        }
        if newest_first {
            operands.reverse();
        }
        let failed = |reason: String| StorageError::Value { key: key.to_vec().into(), reason };
        let Some(operator) = operator else {
            return Err(failed("the keyspace has no merge operator".to_owned()));
        };
        let mut all = Vec::with_capacity(operands.len());
        for list in &operands {
            all.extend(Operands::parse(list).map_err(|problem| failed(problem.to_owned()))?);
        }
        let merged = operator.merge(key, base.as_deref(), &all).map_err(failed)?;
        Ok(Some(merged.into()))
    }
}

/// Whether an entry says that its key has a value. `None` if it is an operand, which says nothing.
fn has_value(entry: &Entry<'_>, now_ms: u64) -> Result<Option<bool>, StorageError> {
    match entry.kind {
        Kind::Merge => Ok(None),
        Kind::Value => Ok(Some(true)),
        Kind::ExpiringValue => Ok(Some(entry.expires_at_ms.is_some_and(|ends| ends > now_ms))),
        Kind::Deletion => Ok(Some(false)),
        Kind::SeparatedValue | Kind::RangeDeletion => Err(StorageError::Value {
            key: entry.user_key.to_vec().into(),
            reason: format!("a version of it is a {:?}, which cannot be read here", entry.kind),
        }),
    }
}
