//! Checkers: judges of what was seen, for whoever tests a service.
//!
//! **What lives here.** Pure functions over histories. They know nothing of the world the history
//! came from: a simulated one, a cluster of real machines, or a file.
//!
//! | module | asks |
//! |---|---|
//! | [`linearizability`] | did every operation on a key seem to happen at one instant? |
//! | [`log`] | did a partitioned log lose, repeat, reorder, hide or invent anything? |
//! | [`durable`] | is what was acknowledged still there after recovery? |
//! | [`liveness`] | did the service work again, and soon enough, when faults ended? |
//! | [`leaks`] | is more held at the end than at the start? |
//!
//! **How data flows.** The test writes down what its clients asked and were told, and hands that to
//! a checker, which answers with a [`Verdict`]. Verdicts of several checkers are joined with
//! [`Verdict::and`].
//!
//! **What must never be here.** The world, clocks, randomness, or knowledge of one product.
//!
//! # Time
//!
//! Times in histories are plain `u64`s on any scale that never goes back: nanoseconds of a simulated
//! clock, or the position of an event in the history. They are printed as they were given.
//!
//! # Example
//!
//! ```
//! use woodchuck_sim::check::{Anomaly, Check, Verdict};
//!
//! let records = Check::equal("records", 3, 2);
//! assert!(!records.passed());
//! assert_eq!(records.to_string(), "records: expected 3, actual 2");
//!
//! let verdict = Verdict::Holds.and(Verdict::from(records));
//! assert_eq!(
//!     verdict,
//!     Verdict::Violated(vec![Anomaly::new("check-failed", "records: expected 3, actual 2")]),
//! );
//! ```

pub mod durable;
pub mod leaks;
pub mod linearizability;
pub mod liveness;
pub mod log;

#[cfg(test)]
mod random;

use std::collections::BTreeMap;
use std::fmt;

/// How many anomalies of one kind a verdict lists. The rest are counted in one more entry.
pub const LISTED_PER_KIND: usize = 100;

/// Something that must not be seen, and was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Anomaly {
    /// Its kind: a stable name in kebab case, `lost-write` for one. Made to be counted and searched
    /// for.
    pub kind: &'static str,
    /// One sentence with the numbers: who, where, what was expected, what was seen, and when.
    pub what: String,
}

impl Anomaly {
    /// An anomaly of `kind`, told in one sentence.
    #[must_use]
    pub fn new(kind: &'static str, what: impl Into<String>) -> Self {
        Self { kind, what: what.into() }
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.kind, self.what)
    }
}

/// What a checker says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// The history was judged in full, and keeps the promise.
    Holds,
    /// The history breaks the promise. There is at least one anomaly.
    Violated(Vec<Anomaly>),
    /// The checker cannot say: its budget was too small, or the history proves nothing. Neither a
    /// success nor a failure, and never to be counted as one of them.
    Inconclusive {
        /// The reason, as a sentence.
        why: String,
    },
}

impl Verdict {
    /// Not to be known, because of `why`.
    pub fn inconclusive(why: impl Into<String>) -> Self {
        Self::Inconclusive { why: why.into() }
    }

    /// Whether the promise was kept. An inconclusive verdict does not hold.
    #[must_use]
    pub const fn holds(&self) -> bool {
        matches!(self, Self::Holds)
    }

    /// Whether the promise was broken. An inconclusive verdict is no violation.
    #[must_use]
    pub const fn is_violated(&self) -> bool {
        matches!(self, Self::Violated(_))
    }

    /// Whether nothing can be said.
    #[must_use]
    pub const fn is_inconclusive(&self) -> bool {
        matches!(self, Self::Inconclusive { .. })
    }

    /// What was wrong; empty unless violated.
    #[must_use]
    pub fn anomalies(&self) -> &[Anomaly] {
        match self {
            Self::Violated(anomalies) => anomalies,
            Self::Holds | Self::Inconclusive { .. } => &[],
        }
    }

    /// How many anomalies of each kind are listed.
    #[must_use]
    pub fn kinds(&self) -> BTreeMap<&'static str, usize> {
        let mut kinds = BTreeMap::new();
        for anomaly in self.anomalies() {
            *kinds.entry(anomaly.kind).or_insert(0) += 1;
        }
        kinds
    }

    /// Both together. One violation violates the whole; short of that, one doubt leaves the whole
    /// in doubt.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Violated(mut anomalies), Self::Violated(more)) => {
                anomalies.extend(more);
                Self::Violated(anomalies)
            }
            (Self::Violated(anomalies), _) | (_, Self::Violated(anomalies)) => {
                Self::Violated(anomalies)
            }
            (Self::Inconclusive { why }, Self::Inconclusive { why: more }) => {
                Self::Inconclusive { why: format!("{why}; {more}") }
            }
            (doubt @ Self::Inconclusive { .. }, Self::Holds)
            | (Self::Holds, doubt @ Self::Inconclusive { .. }) => doubt,
            (Self::Holds, Self::Holds) => Self::Holds,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds => formatter.write_str("holds"),
            Self::Inconclusive { why } => write!(formatter, "inconclusive: {why}"),
            Self::Violated(anomalies) => {
                formatter.write_str("violated:")?;
                for anomaly in anomalies {
                    write!(formatter, "\n  {anomaly}")?;
                }
                Ok(())
            }
        }
    }
}

impl From<Check> for Verdict {
    fn from(check: Check) -> Self {
        if check.passed() {
            Self::Holds
        } else {
            Self::Violated(vec![Anomaly::new("check-failed", check.to_string())])
        }
    }
}

/// One thing that was compared with what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Check {
    /// What was looked at.
    pub field: String,
    /// What it should have been.
    pub expected: String,
    /// What it was.
    pub actual: String,
    /// Kept apart from the texts: two values may differ and read the same.
    passed: bool,
}

impl Check {
    /// `actual` must be `expected`.
    pub fn equal<T: PartialEq + fmt::Debug>(
        field: impl Into<String>,
        expected: T,
        actual: T,
    ) -> Self {
        Self {
            field: field.into(),
            passed: expected == actual,
            expected: format!("{expected:?}"),
            actual: format!("{actual:?}"),
        }
    }

    /// `actual` must not be above `bound`.
    pub fn at_most<T: PartialOrd + fmt::Debug>(
        field: impl Into<String>,
        bound: T,
        actual: T,
    ) -> Self {
        Self {
            field: field.into(),
            passed: actual <= bound,
            expected: format!("at most {bound:?}"),
            actual: format!("{actual:?}"),
        }
    }

    /// `actual` must not be below `bound`.
    pub fn at_least<T: PartialOrd + fmt::Debug>(
        field: impl Into<String>,
        bound: T,
        actual: T,
    ) -> Self {
        Self {
            field: field.into(),
            passed: actual >= bound,
            expected: format!("at least {bound:?}"),
            actual: format!("{actual:?}"),
        }
    }

    /// Whether it was as it should be.
    #[must_use]
    pub const fn passed(&self) -> bool {
        self.passed
    }
}

impl fmt::Display for Check {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: expected {}, actual {}", self.field, self.expected, self.actual)
    }
}

/// Collects anomalies, and only counts those past [`LISTED_PER_KIND`] of a kind, so that a run that
/// lost a million records still has a verdict one can read.
#[derive(Default)]
struct Anomalies {
    listed: Vec<Anomaly>,
    counts: BTreeMap<&'static str, usize>,
}

impl Anomalies {
    /// Adds one; `what` is only put into words when it will be listed.
    fn add(&mut self, kind: &'static str, what: impl FnOnce() -> String) {
        let count = self.counts.entry(kind).or_insert(0);
        *count += 1;
        if *count <= LISTED_PER_KIND {
            self.listed.push(Anomaly::new(kind, what()));
        }
    }

    /// Violated if there is any; `otherwise` if not.
    fn verdict_or(mut self, otherwise: impl FnOnce() -> Verdict) -> Verdict {
        if self.listed.is_empty() {
            return otherwise();
        }
        for (kind, count) in self.counts {
            if let Some(more @ 1..) = count.checked_sub(LISTED_PER_KIND) {
                let what = format!("{more} more of this kind are not listed ({count} in all)");
                self.listed.push(Anomaly::new(kind, what));
            }
        }
        Verdict::Violated(self.listed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violated(kind: &'static str) -> Verdict {
        Verdict::Violated(vec![Anomaly::new(kind, "seen")])
    }

    #[test]
    fn a_violation_outweighs_a_doubt_and_a_doubt_outweighs_success() {
        let doubt = || Verdict::inconclusive("too little was done");
        assert!(Verdict::Holds.and(Verdict::Holds).holds());
        assert_eq!(Verdict::Holds.and(doubt()), doubt());
        assert_eq!(doubt().and(Verdict::Holds), doubt());
        assert_eq!(violated("a").and(doubt()), violated("a"));
        assert_eq!(doubt().and(violated("a")), violated("a"));
        assert_eq!(violated("a").and(violated("b")).kinds().len(), 2);
        assert!(!doubt().holds());
        assert!(!doubt().is_violated());
        let twice = doubt().and(Verdict::inconclusive("the budget ended"));
        assert_eq!(twice.to_string(), "inconclusive: too little was done; the budget ended");
    }

    #[test]
    fn checks_say_what_was_expected() {
        assert!(Check::equal("records", 3, 3).passed());
        assert!(Check::at_most("gap", 3, 3).passed());
        assert!(!Check::at_most("gap", 3, 4).passed());
        assert!(Check::at_least("rate", 3, 3).passed());
        assert!(!Check::at_least("rate", 3, 2).passed());
        assert!(!Check::equal("share", f64::NAN, f64::NAN).passed(), "the texts are equal");
        assert_eq!(Check::at_most("gap", 3, 4).to_string(), "gap: expected at most 3, actual 4");
        assert!(Verdict::from(Check::equal("records", 3, 3)).holds());
    }

    #[test]
    fn what_is_not_listed_is_counted() {
        let mut anomalies = Anomalies::default();
        for number in 0..LISTED_PER_KIND + 7 {
            anomalies.add("many", || number.to_string());
        }
        for _ in 0..LISTED_PER_KIND {
            anomalies.add("just", String::new);
        }
        let verdict = anomalies.verdict_or(|| Verdict::Holds);
        assert_eq!(verdict.kinds()["many"], LISTED_PER_KIND + 1);
        assert_eq!(verdict.kinds()["just"], LISTED_PER_KIND);
        let last = verdict.anomalies().last().expect("violated");
        assert_eq!(last.to_string(), "many: 7 more of this kind are not listed (107 in all)");
    }
}
