//! Durability: what was acknowledged is there after recovery, unchanged, and nothing else is.
//!
//! Whatever its name (a record, a key, a file), each thing that is stored has an id and a content.
//! It is in one of three states when the service stops:
//!
//! | state | how it got there | after recovery |
//! |---|---|---|
//! | acknowledged | the service said that it is durable | must be there |
//! | sent | the answer never came | may be there |
//! | refused | the service said that it is not stored | must not be there |
//!
//! The contents of all that is recovered must be as they were sent.
//!
//! # Example
//!
//! ```
//! use woodchuck_sim::check::durable::Ledger;
//!
//! let mut ledger = Ledger::new();
//! ledger.sent(1, "one");
//! ledger.acknowledged(&1, 250);
//! ledger.sent(2, "two");
//! assert!(ledger.judge([(1, "one")]).holds());
//! assert!(ledger.judge([(1, "one"), (2, "two")]).holds());
//! assert_eq!(
//!     ledger.judge([(2, "two")]).to_string(),
//!     "violated:\n  lost-acknowledged: 1 was acknowledged at 250 and is not there",
//! );
//! ```

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::{Anomalies, Verdict};

/// What is known of one id before the service stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Sent,
    Acknowledged { at: u64 },
    Refused { at: u64 },
}

/// What was sent to a service, and what it said.
///
/// Anomalies: `lost-acknowledged`, `changed-content`, `phantom` (it was never sent), `refused-kept`
/// (it was refused, and is there) and `recovered-twice`.
#[derive(Clone, Debug)]
pub struct Ledger<I, C> {
    entries: BTreeMap<I, (C, Standing)>,
    /// Ids that were used against the rules; they make the verdict inconclusive.
    misused: Vec<String>,
}

impl<I, C> Default for Ledger<I, C> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), misused: Vec::new() }
    }
}

impl<I: Ord + Debug, C: PartialEq + Debug> Ledger<I, C> {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `content` goes to the service under this id, for the first and only time: from now on it may
    /// be there. Sending the same content again under the same id changes nothing.
    pub fn sent(&mut self, id: I, content: C) {
        match self.entries.get(&id) {
            None => {
                self.entries.insert(id, (content, Standing::Sent));
            }
            Some((before, _)) if *before == content => {}
            Some((before, _)) => self.misused.push(format!(
                "{id:?} was sent with the content {before:?} and again with {content:?}"
            )),
        }
    }

    /// The service said at this time that it is durable: it must be there. The first time counts,
    /// and an acknowledgement outweighs a refusal.
    pub fn acknowledged(&mut self, id: &I, at: u64) {
        match self.entries.get_mut(id) {
            Some((_, Standing::Acknowledged { .. })) => {}
            Some((_, standing)) => *standing = Standing::Acknowledged { at },
            None => self.misused.push(format!("{id:?} was acknowledged at {at} and never sent")),
        }
    }

    /// The service said at this time that it is certainly not stored, and will not be.
    pub fn refused(&mut self, id: &I, at: u64) {
        match self.entries.get_mut(id) {
            Some((_, standing @ Standing::Sent)) => *standing = Standing::Refused { at },
            Some(_) => {}
            None => self.misused.push(format!("{id:?} was refused at {at} and never sent")),
        }
    }

    /// How many ids must be there.
    #[must_use]
    pub fn acknowledged_count(&self) -> usize {
        let acknowledged = |standing: &Standing| matches!(standing, Standing::Acknowledged { .. });
        self.entries.values().filter(|(_, standing)| acknowledged(standing)).count()
    }

    /// Compares it with what was found after recovery, in any order.
    ///
    /// Inconclusive if nothing was wrong and nothing had been acknowledged, or if the ledger was
    /// used against its rules.
    pub fn judge(&self, recovered: impl IntoIterator<Item = (I, C)>) -> Verdict {
        let mut found: BTreeMap<I, Vec<C>> = BTreeMap::new();
        for (id, content) in recovered {
            found.entry(id).or_default().push(content);
        }
        let mut anomalies = Anomalies::default();
        for (id, (_, standing)) in &self.entries {
            if let Standing::Acknowledged { at } = standing
                && !found.contains_key(id)
            {
                anomalies.add("lost-acknowledged", || {
                    format!("{id:?} was acknowledged at {at} and is not there")
                });
            }
        }
        for (id, contents) in &found {
            self.judge_found(id, contents, &mut anomalies);
        }
        anomalies.verdict_or(|| {
            if !self.misused.is_empty() {
                Verdict::inconclusive(self.misused.join("; "))
            } else if self.acknowledged_count() == 0 {
                Verdict::inconclusive("nothing was acknowledged, so nothing had to survive")
            } else {
                Verdict::Holds
            }
        })
    }

    /// One id that is there.
    fn judge_found(&self, id: &I, contents: &[C], anomalies: &mut Anomalies) {
        if contents.len() > 1 {
            anomalies
                .add("recovered-twice", || format!("{id:?} is there {} times", contents.len()));
        }
        let Some((sent, standing)) = self.entries.get(id) else {
            anomalies
                .add("phantom", || format!("{id:?} is there as {contents:?} and was never sent"));
            return;
        };
        if let Standing::Refused { at } = standing {
            anomalies.add("refused-kept", || format!("{id:?} was refused at {at} and is there"));
        }
        for content in contents.iter().filter(|content| *content != sent) {
            anomalies.add("changed-content", || {
                let standing = match standing {
                    Standing::Sent => "never answered".to_owned(),
                    Standing::Acknowledged { at } => format!("acknowledged at {at}"),
                    Standing::Refused { at } => format!("refused at {at}"),
                };
                format!("{id:?} ({standing}) was sent as {sent:?} and is there as {content:?}")
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;

    /// 1 is acknowledged, 2 sent, 3 refused.
    fn ledger() -> Ledger<u32, &'static str> {
        let mut ledger = Ledger::new();
        for (id, content) in [(1, "one"), (2, "two"), (3, "three")] {
            ledger.sent(id, content);
        }
        ledger.acknowledged(&1, 250);
        ledger.refused(&3, 260);
        ledger
    }

    fn found(recovered: &[(u32, &'static str)]) -> String {
        ledger().judge(recovered.iter().copied()).to_string()
    }

    #[test]
    fn what_was_sent_may_be_there_or_not() {
        assert_eq!(found(&[(1, "one")]), "holds");
        assert_eq!(found(&[(2, "two"), (1, "one")]), "holds");
    }

    #[test]
    fn each_anomaly_is_told() {
        assert_eq!(
            found(&[]),
            "violated:\n  lost-acknowledged: 1 was acknowledged at 250 and is not there"
        );
        assert_eq!(
            found(&[(1, "one"), (9, "x")]),
            "violated:\n  phantom: 9 is there as [\"x\"] and was never sent"
        );
        assert_eq!(
            found(&[(1, "one"), (3, "three")]),
            "violated:\n  refused-kept: 3 was refused at 260 and is there"
        );
        assert_eq!(
            found(&[(1, "won")]),
            "violated:\n  changed-content: 1 (acknowledged at 250) was sent as \"one\" and is \
             there as \"won\""
        );
        assert_eq!(
            found(&[(1, "one"), (2, "one")]),
            "violated:\n  changed-content: 2 (never answered) was sent as \"two\" and is there as \
             \"one\""
        );
        assert_eq!(
            found(&[(1, "one"), (1, "one")]),
            "violated:\n  recovered-twice: 1 is there 2 times"
        );
    }

    #[test]
    fn a_late_acknowledgement_outweighs_a_refusal_and_the_first_one_counts() {
        let mut ledger = ledger();
        ledger.acknowledged(&3, 300);
        ledger.refused(&3, 310);
        ledger.acknowledged(&3, 320);
        assert_eq!(ledger.acknowledged_count(), 2);
        assert_eq!(
            ledger.judge([(1, "one")]).to_string(),
            "violated:\n  lost-acknowledged: 3 was acknowledged at 300 and is not there"
        );
    }

    #[test]
    fn what_proves_nothing_is_no_success() {
        let mut ledger = Ledger::new();
        ledger.sent(1, "one");
        assert!(ledger.judge([]).is_inconclusive());
        ledger.acknowledged(&1, 5);
        assert!(ledger.judge([(1, "one")]).holds());
        ledger.sent(1, "one");
        assert!(ledger.judge([(1, "one")]).holds(), "the same again");
        ledger.sent(1, "other");
        assert!(ledger.judge([(1, "one")]).is_inconclusive());
        assert!(ledger.judge([]).is_violated());
        let mut ledger = super::Ledger::<u32, &str>::new();
        ledger.acknowledged(&1, 5);
        assert!(ledger.judge([]).is_inconclusive());
    }

    #[test]
    fn random_losses_are_counted_exactly() {
        for seed in 0..200 {
            let random = &mut Random::new(seed);
            let mut ledger = Ledger::new();
            let (mut recovered, mut lost, mut phantoms) = (Vec::new(), 0, 0);
            for id in 0..random.below(60) {
                let kept = !random.once_in(10);
                if random.once_in(15) {
                    phantoms += usize::from(kept);
                } else {
                    ledger.sent(id, id * 7);
                    if random.once_in(2) {
                        ledger.acknowledged(&id, id);
                        lost += usize::from(!kept);
                    }
                }
                if kept {
                    recovered.push((id, id * 7));
                }
            }
            let kinds = ledger.judge(recovered).kinds();
            let count = |kind| kinds.get(kind).copied().unwrap_or(0);
            assert_eq!(count("lost-acknowledged"), lost, "seed {seed}");
            assert_eq!(count("phantom"), phantoms, "seed {seed}");
            assert_eq!(kinds.values().sum::<usize>(), lost + phantoms, "seed {seed}");
        }
    }
}
