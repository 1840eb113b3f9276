//! Liveness: a service that was broken by faults works again when they end, and soon enough.
//!
//! "In the end it works" cannot be judged from a history that ends. "Within five seconds it works"
//! can. [`Recovery`] is told when faults begin and end, and each time something got done; it judges
//! that after faults ended no more than a bound passed before something got done, and again
//! between one thing and the next.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use woodchuck_sim::check::liveness::Recovery;
//!
//! let seconds = Duration::from_secs;
//! let mut recovery = Recovery::within(seconds(5));
//! recovery.progress(seconds(4));
//! recovery.faults_began(seconds(8));
//! recovery.faults_ended(seconds(60));
//! assert!(recovery.judge(seconds(62)).is_inconclusive(), "there are three seconds left");
//! assert!(recovery.judge(seconds(66)).is_violated());
//! recovery.progress(seconds(64));
//! assert!(recovery.judge(seconds(66)).holds());
//! ```

use std::time::Duration;

use super::{Anomaly, Check, Verdict};

/// Judges whether work went on within a bound after faults ended.
///
/// Times are since the start of the run, and must not go back.
#[derive(Clone, Debug)]
pub struct Recovery {
    bound: Duration,
    /// When faults ended; `None` while there are some.
    healed: Option<Duration>,
    /// How often something got done since they ended.
    progress: u64,
    /// The last time something got done since they ended, or when they ended.
    last: Duration,
    /// The longest wait since they ended: from when and to when.
    longest: (Duration, Duration),
    /// Whether there is nothing more to do.
    finished: bool,
    /// Waits that were too long, in earlier times without faults.
    earlier: Vec<Anomaly>,
    /// How often something got done in earlier times without faults.
    earlier_progress: u64,
}

impl Recovery {
    /// Something must get done within `bound` after faults end, and within `bound` of each other
    /// from then on. A run begins without faults.
    #[must_use]
    pub const fn within(bound: Duration) -> Self {
        Self {
            bound,
            healed: Some(Duration::ZERO),
            progress: 0,
            last: Duration::ZERO,
            longest: (Duration::ZERO, Duration::ZERO),
            finished: false,
            earlier: Vec::new(),
            earlier_progress: 0,
        }
    }

    /// From now on nothing is promised.
    pub fn faults_began(&mut self, at: Duration) {
        if self.healed.is_some() {
            if !self.finished {
                self.wait_until(at);
            }
            self.earlier.extend(self.too_long(self.longest));
            self.earlier_progress += self.progress;
        }
        self.healed = None;
    }

    /// The last fault is over: the bound counts from now. Called again, it counts from then.
    pub fn faults_ended(&mut self, at: Duration) {
        self.healed = Some(at);
        self.progress = 0;
        self.last = at;
        self.longest = (at, at);
    }

    /// Something got done.
    pub fn progress(&mut self, at: Duration) {
        if self.healed.is_some() && !self.finished {
            self.wait_until(at);
            self.last = self.last.max(at);
            self.progress += 1;
        }
    }

    /// All work is done: from now on there need not be progress. That is progress itself.
    pub fn finished(&mut self, at: Duration) {
        self.progress(at);
        self.finished = true;
    }

    /// When something last got done since faults ended; `None` if nothing did.
    #[must_use]
    pub fn last_progress(&self) -> Option<Duration> {
        (self.progress > 0).then_some(self.last)
    }

    /// The longest wait since faults ended, as far as it is known now, against the bound.
    pub fn check(&self, now: Duration) -> Check {
        let (from, to) = self.longest_until(now);
        Check::at_most("longest wait without faults", self.bound, to.saturating_sub(from))
    }

    /// Judges what is known at the time `now`. The anomaly is `stalled`.
    ///
    /// Inconclusive while there are faults, and until something got done after they ended.
    pub fn judge(&self, now: Duration) -> Verdict {
        let mut anomalies = self.earlier.clone();
        if self.healed.is_some() {
            anomalies.extend(self.too_long(self.longest_until(now)));
        }
        if !anomalies.is_empty() {
            return Verdict::Violated(anomalies);
        }
        let Some(healed) = self.healed else {
            return Verdict::inconclusive(format!("faults have not ended at {now:?}"));
        };
        if self.progress == 0 && !self.finished {
            let waited = now.saturating_sub(healed);
            return Verdict::inconclusive(format!(
                "nothing got done between {healed:?}, when faults ended, and {now:?}: {waited:?} \
                 of {:?} have passed",
                self.bound
            ));
        }
        Verdict::Holds
    }

    /// Nothing got done from the last time until `at`.
    fn wait_until(&mut self, at: Duration) {
        self.longest = longer(self.longest, (self.last, at));
    }

    fn longest_until(&self, now: Duration) -> (Duration, Duration) {
        if self.finished { self.longest } else { longer(self.longest, (self.last, now)) }
    }

    fn too_long(&self, (from, to): (Duration, Duration)) -> Option<Anomaly> {
        let waited = to.saturating_sub(from);
        (waited > self.bound).then(|| {
            let healed = self.healed.unwrap_or_default();
            Anomaly::new(
                "stalled",
                format!(
                    "faults ended at {healed:?}, and nothing got done from {from:?} to {to:?}: \
                     expected at most {:?}, actual {waited:?} ({} things got done in all)",
                    self.bound, self.progress
                ),
            )
        })
    }
}

/// The longer of two spans; the earlier one if they are equal.
fn longer(one: (Duration, Duration), other: (Duration, Duration)) -> (Duration, Duration) {
    let length = |(from, to): (Duration, Duration)| to.saturating_sub(from);
    if length(other) > length(one) { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn healed_at_60() -> Recovery {
        let mut recovery = Recovery::within(seconds(5));
        recovery.progress(seconds(3));
        recovery.faults_began(seconds(5));
        recovery.faults_ended(seconds(60));
        recovery
    }

    #[test]
    fn the_bound_counts_from_the_end_of_faults() {
        let mut recovery = healed_at_60();
        assert_eq!(
            recovery.judge(seconds(65)).to_string(),
            "inconclusive: nothing got done between 60s, when faults ended, and 65s: 5s of 5s \
             have passed"
        );
        assert_eq!(
            recovery.judge(seconds(66)).to_string(),
            "violated:\n  stalled: faults ended at 60s, and nothing got done from 60s to 66s: \
             expected at most 5s, actual 6s (0 things got done in all)"
        );
        recovery.progress(seconds(65));
        assert!(recovery.judge(seconds(70)).holds());
        assert_eq!(recovery.last_progress(), Some(seconds(65)));
        assert!(recovery.check(seconds(70)).passed());
    }

    #[test]
    fn it_must_go_on() {
        let mut recovery = healed_at_60();
        recovery.progress(seconds(61));
        assert!(recovery.judge(seconds(67)).is_violated());
        recovery.progress(seconds(67));
        assert!(recovery.judge(seconds(67)).is_violated(), "too late");
        assert_eq!(
            recovery.check(seconds(67)).to_string(),
            "longest wait without faults: expected at most 5s, actual 6s"
        );
        let mut recovery = healed_at_60();
        recovery.finished(seconds(61));
        recovery.progress(seconds(900));
        assert!(recovery.judge(seconds(1_000)).holds(), "there is nothing more to do");
    }

    #[test]
    fn nothing_is_promised_while_there_are_faults() {
        let mut recovery = Recovery::within(seconds(5));
        recovery.progress(seconds(1));
        recovery.faults_began(seconds(2));
        recovery.faults_began(seconds(30));
        recovery.progress(seconds(40));
        assert_eq!(
            recovery.judge(seconds(100)).to_string(),
            "inconclusive: faults have not ended at 100s"
        );
        assert_eq!(recovery.last_progress(), Some(seconds(1)));
        recovery.faults_ended(seconds(100));
        recovery.faults_ended(seconds(200));
        assert_eq!(recovery.last_progress(), None);
        recovery.progress(seconds(201));
        assert!(recovery.judge(seconds(202)).holds(), "the last end counts");
    }

    #[test]
    fn a_stall_is_not_forgotten_when_faults_begin_again() {
        let mut recovery = healed_at_60();
        recovery.progress(seconds(61));
        recovery.faults_began(seconds(67));
        recovery.faults_ended(seconds(70));
        recovery.progress(seconds(71));
        let verdict = recovery.judge(seconds(72));
        assert_eq!(verdict.anomalies().len(), 1);
        assert!(verdict.to_string().contains("nothing got done from 61s to 67s"));
    }

    #[test]
    fn a_run_without_faults_is_held_to_the_bound_too() {
        let mut recovery = Recovery::within(seconds(5));
        assert!(recovery.judge(seconds(5)).is_inconclusive());
        assert!(recovery.judge(seconds(6)).is_violated());
        recovery.finished(seconds(4));
        assert!(recovery.judge(seconds(6)).holds());
    }
}
