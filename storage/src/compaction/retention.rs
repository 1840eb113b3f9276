//! Which versions of a key remain.

use std::mem;

use bytes::Bytes;

use crate::limits::VALUE_BYTES;
use crate::operands::{Operands, OperandsBuilder};
use crate::scan::MergeOperator;
use crate::{Entry, Kind};

/// What decides which versions remain.
#[derive(Clone, Copy)]
pub struct Retention<'a> {
    /// Live snapshots, ascending.
    pub snapshots: &'a [u64],
    /// Values that end at this time, or ended before, are deletions. In milliseconds since 1970.
    pub now_ms: u64,
    /// The keyspace's.
    pub operator: Option<&'a dyn MergeOperator>,
}

/// A version of a key that remains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remaining {
    pub(super) sequence: u64,
    pub(super) kind: Kind,
    pub(super) expires_at_ms: Option<u64>,
    pub(super) value: Bytes,
}

/// The versions of one key that remain, as far as they were looked at.
#[derive(Debug, Default)]
pub(super) struct Versions {
    key: Vec<u8>,
    remaining: Vec<Remaining>,
    /// Operands of one stripe, newest first, below which no value was found yet.
    operands: Vec<(u64, Bytes)>,
    /// The stripe of the newest version that hides what is older in it.
    hidden: Option<usize>,
}

impl Retention<'_> {
    /// The stripe of a commit, counted from the oldest.
    pub(super) fn stripe(&self, sequence: u64) -> usize {
        self.snapshots.partition_point(|&snapshot| snapshot < sequence)
    }

    /// The last commit of a commit's stripe.
    pub(super) fn stripe_end(&self, sequence: u64) -> u64 {
        self.snapshots.get(self.stripe(sequence)).copied().unwrap_or(u64::MAX)
    }
}

impl Versions {
    pub(super) fn of(key: &[u8]) -> Self {
        Self { key: key.to_vec(), ..Self::default() }
    }

    /// Takes the next older version. `deleted_below` is the newest range tombstone over the key up
    /// to the end of the version's stripe, or 0; `is_last` says that nothing older of the key is
    /// anywhere but in what is rewritten.
    pub(super) fn add(
        &mut self,
        retention: &Retention<'_>,
        entry: &Entry<'_>,
        value: Bytes,
        deleted_below: u64,
        is_last: bool,
    ) {
        let Entry { sequence, expires_at_ms, .. } = *entry;
        let stripe = retention.stripe(sequence);
        if self.hidden == Some(stripe) {
            return;
        }
        if self.operands.last().is_some_and(|&(newer, _)| retention.stripe(newer) != stripe) {
            self.keep_operands(retention);
        }
        let has_ended = expires_at_ms.is_some_and(|ends| ends <= retention.now_ms);
        let kind = if has_ended { Kind::Deletion } else { entry.kind };
        let is_deleted = sequence < deleted_below;
        if kind == Kind::Merge && !is_deleted {
            self.operands.push((sequence, value));
            return;
        }
        self.hidden = Some(stripe);
        let applies_to = match kind {
            _ if is_deleted => Some(None),
            Kind::Deletion => Some(None),
            Kind::Value => Some(Some(&value)),
            _ => None,
        };
        if !self.operands.is_empty() {
            let applied = applies_to.is_some_and(|base| self.apply(retention, base));
            if applied {
                return;
            }
            self.keep_operands(retention);
        }
        let can_go = is_deleted || (kind == Kind::Deletion && is_last && stripe == 0);
        if can_go {
            return;
        }
        let (expires_at_ms, value) =
            if kind == Kind::Deletion { (None, Bytes::new()) } else { (expires_at_ms, value) };
        self.remaining.push(Remaining { sequence, kind, expires_at_ms, value });
    }

    /// What remains of the key, newest first.
    pub(super) fn finish(mut self, retention: &Retention<'_>, is_last: bool) -> Vec<Remaining> {
        let is_applied = !self.operands.is_empty() && is_last && self.apply(retention, None);
        if !is_applied {
            self.keep_operands(retention);
        }
        self.remaining
    }

    /// Makes a value of the operands and what they apply to. Returns whether that was possible:
    /// operands that the operator does not take stay, for the reader to be told.
    fn apply(&mut self, retention: &Retention<'_>, base: Option<&Bytes>) -> bool {
        let (Some(operator), Some(&(sequence, _))) = (retention.operator, self.operands.first())
        else {
            return false;
        };
        let Some(operands) = all_operands(&self.operands) else { return false };
        let base = base.map(|base| &base[..]);
        let Ok(value) = operator.merge(&self.key, base, &operands) else { return false };
        if value.len() > VALUE_BYTES {
            return false;
        }
        let (kind, value) = (Kind::Value, value.into());
        self.remaining.push(Remaining { sequence, kind, expires_at_ms: None, value });
        self.operands.clear();
        true
    }

    /// Keeps the operands as they are, or fewer that do the same.
    fn keep_operands(&mut self, retention: &Retention<'_>) {
        let operands = mem::take(&mut self.operands);
        let keep = |(sequence, value)| {
            let kind = Kind::Merge;
            Remaining { sequence, kind, expires_at_ms: None, value }
        };
        if operands.len() > 1 {
            let of_operator = all_operands(&operands).and_then(|all| {
                let mut list = OperandsBuilder::default();
                list.push(&retention.operator?.join(&self.key, &all)?);
                let mut value = Vec::new();
                list.put(&mut value);
                (value.len() <= VALUE_BYTES).then_some(value)
            });
            if let Some(value) = of_operator {
                self.remaining.push(keep((operands[0].0, value.into())));
                return;
            }
        }
        // Newest first: each takes the older ones behind it, as long as a value may be.
        let mut kept: Vec<(u64, Bytes)> = Vec::new();
        for (sequence, older) in operands {
            let joined = kept.last().and_then(|(_, newer)| {
                let (older, newer) = (Operands::parse(&older).ok()?, Operands::parse(newer).ok()?);
                Operands::join(older, newer).ok()
            });
            match (joined, kept.last_mut()) {
                (Some(joined), Some((_, newer))) => *newer = joined.into(),
                _ => kept.push((sequence, older)),
            }
        }
        self.remaining.extend(kept.into_iter().map(keep));
    }
}

/// All operands of some lists, which are newest first; oldest first. `None` if one is not a list.
fn all_operands(lists: &[(u64, Bytes)]) -> Option<Vec<&[u8]>> {
    let mut all = Vec::new();
    for (_, list) in lists.iter().rev() {
        all.extend(Operands::parse(list).ok()?);
    }
    Some(all)
}
