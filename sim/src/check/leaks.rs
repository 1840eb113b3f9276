//! Leaks: what a service holds when it is idle does not grow.
//!
//! Take a [`Resources`] when the service has started and is idle, let it work, let it become idle
//! again, take another, and [`compare`] them. It is no leak to hold less.
//!
//! # Example
//!
//! ```
//! use woodchuck_sim::check::leaks::{Resources, compare};
//!
//! let before = Resources::from([("buffers", 12), ("files", 3)]);
//! let after = Resources::from([("buffers", 12), ("files", 5), ("timers", 1)]);
//! assert_eq!(
//!     compare(&before, &after).to_string(),
//!     "violated:\n  leak: files: expected at most 3, actual 5\n  leak: timers: expected at most 0, \
//!      actual 1",
//! );
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Anomaly, Check, Verdict};

/// How many of each thing are held: buffers, files, tasks, timers, connections, disk operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    counts: BTreeMap<String, u64>,
}

impl Resources {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds so many of a kind to those that are counted.
    pub fn add(&mut self, name: impl Into<String>, count: u64) {
        let held = self.counts.entry(name.into()).or_insert(0);
        *held = held.saturating_add(count);
    }

    /// How many there are of a kind; 0 if it was never counted.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// The kinds that were counted, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.counts.iter().map(|(name, &count)| (name.as_str(), count))
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, count)) in self.iter().enumerate() {
            write!(formatter, "{}{name} {count}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl<N: Into<String>> FromIterator<(N, u64)> for Resources {
    fn from_iter<T: IntoIterator<Item = (N, u64)>>(counts: T) -> Self {
        let mut resources = Self::new();
        for (name, count) in counts {
            resources.add(name, count);
        }
        resources
    }
}

impl<N: Into<String>, const COUNT: usize> From<[(N, u64); COUNT]> for Resources {
    fn from(counts: [(N, u64); COUNT]) -> Self {
        counts.into_iter().collect()
    }
}

/// One check for each kind that was counted before or after, by name.
#[must_use]
pub fn checks(before: &Resources, after: &Resources) -> Vec<Check> {
    let names: BTreeSet<&str> = before.iter().chain(after.iter()).map(|(name, _)| name).collect();
    names
        .into_iter()
        .map(|name| Check::at_most(name, before.count(name), after.count(name)))
        .collect()
}

/// Judges that of nothing there is more after than before. The anomaly is `leak`.
///
/// Inconclusive if nothing was counted at all.
pub fn compare(before: &Resources, after: &Resources) -> Verdict {
    let checks = checks(before, after);
    let leaks: Vec<Anomaly> = checks
        .iter()
        .filter(|check| !check.passed())
        .map(|check| Anomaly::new("leak", check.to_string()))
        .collect();
    if !leaks.is_empty() {
        Verdict::Violated(leaks)
    } else if checks.is_empty() {
        Verdict::inconclusive("nothing was counted")
    } else {
        Verdict::Holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_growth_is_a_leak() {
        let before = Resources::from([("buffers", 12), ("files", 3), ("tasks", 1)]);
        let less = Resources::from([("buffers", 12), ("files", 2)]);
        assert!(compare(&before, &before).holds());
        assert!(compare(&before, &less).holds());
        assert_eq!(
            compare(&less, &before).anomalies(),
            [
                Anomaly::new("leak", "files: expected at most 2, actual 3"),
                Anomaly::new("leak", "tasks: expected at most 0, actual 1"),
            ]
        );
        assert_eq!(checks(&before, &less).len(), 3);
    }

    #[test]
    fn counting_nothing_proves_nothing() {
        assert!(compare(&Resources::new(), &Resources::new()).is_inconclusive());
        assert!(compare(&Resources::new(), &Resources::from([("files", 0)])).holds());
    }

    #[test]
    fn counts_of_one_kind_add_up() {
        let resources: Resources =
            [("files", 1), ("buffers", 2), ("files", 3)].into_iter().collect();
        assert_eq!(resources.to_string(), "buffers 2, files 4");
        assert_eq!(resources.count("files"), 4);
        assert_eq!(resources.count("timers"), 0);
    }
}
