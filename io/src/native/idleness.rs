//! Whether an idle shard polls or sleeps.
//!
//! To sleep and be woken costs some 20 us, on either side of the wait, and to poll costs the CPU.
//! So a shard polls only while its latest waits, of which it keeps a moving average, were shorter
//! than what a sleep would add to them: a burst of messages between shards is polled through, a
//! device that takes longer is slept through, and neither pays for both. Between the two there is
//! room, so that waits of a middling length do not make it change its mind again and again.
//!
//! # Two that sleep keep each other asleep
//! Where two shards wait for each other, each wait lasts as long as it takes to wake the other,
//! and would be short if only neither slept. Nobody can see that by looking at waits that were
//! slept through. So while its waits are of such a length, a shard polls through some of them from
//! time to time. Whoever waits for it has short waits then, and begins to poll; and so does this
//! one. If nobody does, it asks half as often the next time.
//!
//! # Others want the CPU
//! Where they do, a yield gives it away for their whole slice, and whoever sleeps instead is woken
//! ahead of them. So a yield that took long ends the polling, and none is done for a while.

use std::time::{Duration, Instant};

use crate::limits::{
    CONTENDED_PAUSE_MS, IDLE_SPIN_US, LONG_WAIT_US, PROBE_PAUSE_MAX_MS, PROBE_PAUSE_MS,
    PROBE_WAIT_US, PROBE_WAITS, SHORT_WAIT_US, WAIT_SAMPLE_US, WAKING_US,
};
use crate::runtime::IdlePolicy;

/// What a shard knows of its waits.
#[derive(Debug)]
pub(crate) struct Idleness {
    policy: IdlePolicy,
    /// Moving average of the latest waits, in nanoseconds, without what it took to wake it.
    usual_wait: u64,
    /// Whether waits are polled through.
    polls: bool,
    /// Waits that are left of the probe that is going on.
    probing: u32,
    /// From when on the next probe may begin.
    probe_from: Instant,
    probe_pause: Duration,
    /// From when on it polls at all: later than now after others wanted the CPU.
    poll_from: Instant,
}

impl Idleness {
    pub(crate) fn new(policy: IdlePolicy, now: Instant) -> Self {
        Self {
            policy,
            usual_wait: 0,
            polls: true,
            probing: 0,
            probe_from: now,
            probe_pause: Duration::from_millis(PROBE_PAUSE_MS),
            poll_from: now,
        }
    }

    /// How long to poll in the wait that begins now, before sleeping. None is to sleep at once.
    pub(crate) fn polling(&mut self, now: Instant) -> Option<Duration> {
        if now < self.poll_from {
            return None;
        }
        let usual = Duration::from_micros(IDLE_SPIN_US);
        match self.policy {
            IdlePolicy::Spin => Some(usual),
            IdlePolicy::Sleep => None,
            IdlePolicy::Adaptive if self.polls => Some(usual),
            IdlePolicy::Adaptive => {
                self.probes(now).then_some(Duration::from_micros(PROBE_WAIT_US))
            }
        }
    }

    fn probes(&mut self, now: Instant) -> bool {
        let may_be_mutual = self.usual_wait < PROBE_WAIT_US * 1000;
        if self.probing == 0 && may_be_mutual && now >= self.probe_from {
            self.probing = PROBE_WAITS;
        }
        self.probing > 0
    }

    /// A wait is over. `slept` says that it was slept through, or its end.
    pub(crate) fn note(&mut self, waited: Duration, slept: bool, now: Instant) {
        let waking = if slept { Duration::from_micros(WAKING_US) } else { Duration::ZERO };
        let longest = Duration::from_micros(WAIT_SAMPLE_US);
        let sample = waited.saturating_sub(waking).min(longest).as_nanos() as u64;
        self.usual_wait = self.usual_wait - self.usual_wait / 8 + sample / 8;
        if self.usual_wait < SHORT_WAIT_US * 1000 {
            self.polls = true;
            self.probing = 0;
            self.probe_pause = Duration::from_millis(PROBE_PAUSE_MS);
        } else if self.usual_wait > LONG_WAIT_US * 1000 {
            self.polls = false;
        }
        if self.probing > 0 {
            self.probing -= 1;
            if self.probing == 0 {
                self.give_up_probing(now);
            }
        }
    }

    fn give_up_probing(&mut self, now: Instant) {
        self.probing = 0;
        self.probe_from = now + self.probe_pause;
        self.probe_pause = (2 * self.probe_pause).min(Duration::from_millis(PROBE_PAUSE_MAX_MS));
    }

    /// A round of polling took long: others want the CPU.
    pub(crate) fn note_contention(&mut self, now: Instant) {
        self.poll_from = now + Duration::from_millis(CONTENDED_PAUSE_MS);
        if self.probing > 0 {
            self.give_up_probing(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICROSECOND: Duration = Duration::from_micros(1);

    /// A shard on a clock of its own, and how many of its waits it polled in.
    struct Shard {
        idleness: Idleness,
        now: Instant,
        polled: u32,
        slept: u32,
    }

    impl Shard {
        fn new(policy: IdlePolicy) -> Self {
            let now = Instant::now();
            Self { idleness: Idleness::new(policy, now), now, polled: 0, slept: 0 }
        }

        /// Waits for what comes after `length`. Returns how long that took.
        fn wait(&mut self, length: Duration) -> Duration {
            let polling = self.idleness.polling(self.now);
            self.polled += u32::from(polling.is_some());
            let slept = polling.is_none_or(|longest| longest < length);
            self.slept += u32::from(slept);
            let waited = if slept { length + Duration::from_micros(WAKING_US) } else { length };
            self.now += waited;
            self.idleness.note(waited, slept, self.now);
            waited
        }

        fn waits(&mut self, count: u32, length: Duration) {
            (self.polled, self.slept) = (0, 0);
            for _ in 0..count {
                self.wait(length);
            }
        }
    }

    #[test]
    fn short_waits_are_polled_through_and_long_ones_slept_through() {
        let mut shard = Shard::new(IdlePolicy::Adaptive);
        shard.waits(100, 2 * MICROSECOND);
        assert_eq!((shard.polled, shard.slept), (100, 0));
        // Four durable writes in flight, and one: it changes its mind soon, and asks seldom.
        for length in [33 * MICROSECOND, 80 * MICROSECOND] {
            shard.waits(100, length);
            shard.waits(100_000, length);
            assert!(shard.polled < 2_000, "{length:?}: polled in {}", shard.polled);
        }
        shard.waits(50, 2 * MICROSECOND);
        shard.waits(100, 2 * MICROSECOND);
        assert_eq!((shard.polled, shard.slept), (100, 0));
        // What is between the two bounds changes nothing.
        shard.waits(100, 13 * MICROSECOND);
        assert_eq!((shard.polled, shard.slept), (100, 0));
        shard.waits(100, 400 * MICROSECOND);
        shard.waits(50_000, 13 * MICROSECOND);
        assert!(shard.slept > 48_000, "it slept through {}", shard.slept);
    }

    #[test]
    fn two_that_sleep_wake_each_other_up() {
        let mut first = Shard::new(IdlePolicy::Adaptive);
        let mut second = Shard::new(IdlePolicy::Adaptive);
        first.waits(100, 150 * MICROSECOND);
        second.waits(100, 150 * MICROSECOND);
        assert_eq!((first.slept, second.slept), (100, 100));
        let mut answer = 40 * MICROSECOND;
        for _ in 0..5_000 {
            // Each answers at once, if it does not have to be woken.
            answer = second.wait(answer).saturating_sub(answer) + MICROSECOND;
            answer = first.wait(answer).saturating_sub(answer) + MICROSECOND;
        }
        first.waits(100, MICROSECOND);
        assert_eq!((first.slept, first.polled), (0, 100));
    }

    #[test]
    fn nothing_is_polled_while_others_want_the_cpu() {
        for policy in [IdlePolicy::Adaptive, IdlePolicy::Spin] {
            let mut shard = Shard::new(policy);
            shard.waits(10, MICROSECOND);
            shard.idleness.note_contention(shard.now);
            shard.waits(1000, MICROSECOND);
            assert_eq!(shard.polled, 0, "{policy:?}");
            shard.now += Duration::from_millis(CONTENDED_PAUSE_MS);
            shard.waits(10, MICROSECOND);
            assert_eq!(shard.polled, 10, "{policy:?}");
        }
    }

    #[test]
    fn who_shall_not_adapt_does_not() {
        for (policy, due) in [(IdlePolicy::Spin, 100), (IdlePolicy::Sleep, 0)] {
            for length in [MICROSECOND, 100 * MICROSECOND] {
                let mut shard = Shard::new(policy);
                shard.waits(100, length);
                assert_eq!(shard.polled, due, "{policy:?}");
            }
        }
    }
}
