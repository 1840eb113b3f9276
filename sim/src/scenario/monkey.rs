//! The chaos monkey: a plan that strikes at random.

use std::ops::Range;
use std::time::Duration;

use super::{Director, Stage};
use crate::MachineId;

/// What a monkey can do to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strike {
    Stop,
    Kill,
    CrashOs,
    PowerCut,
}

impl Strike {
    const ALL: [Self; 4] = [Self::Stop, Self::Kill, Self::CrashOs, Self::PowerCut];

    const fn name(self) -> &'static str {
        match self {
            Self::Stop => "monkey.stop",
            Self::Kill => "monkey.kill",
            Self::CrashOs => "monkey.crash-os",
            Self::PowerCut => "monkey.power-cut",
        }
    }
}

/// A plan that strikes machines at random and starts them again. How likely each kind of strike is
/// is drawn from the seed, and each is left out in half of all seeds.
#[derive(Clone, Debug)]
pub struct ChaosMonkey {
    targets: Vec<MachineId>,
    every: Range<Duration>,
    off: Range<Duration>,
    strikes: Range<u64>,
    grace: Duration,
}

impl ChaosMonkey {
    /// Strikes these machines one to six times, every 0 to 120 ms, and leaves each off for up to
    /// 30 ms.
    #[must_use]
    pub fn on(targets: &[MachineId]) -> Self {
        assert!(!targets.is_empty(), "a monkey needs something to strike");
        Self {
            targets: targets.to_vec(),
            every: Duration::ZERO..Duration::from_millis(120),
            off: Duration::ZERO..Duration::from_millis(30),
            strikes: 1..7,
            grace: Duration::from_secs(30),
        }
    }

    /// How long it waits before each strike.
    #[must_use]
    pub fn every(mut self, pauses: Range<Duration>) -> Self {
        self.every = pauses;
        self
    }

    /// How long a machine stays down.
    #[must_use]
    pub fn off(mut self, pauses: Range<Duration>) -> Self {
        self.off = pauses;
        self
    }

    /// How often it strikes.
    #[must_use]
    pub fn strikes(mut self, times: Range<u64>) -> Self {
        assert!(times.start < times.end, "a monkey needs a number of strikes");
        self.strikes = times;
        self
    }

    /// How long a graceful stop may take.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets it on a stage.
    pub fn release(self, stage: &mut Stage) {
        let weight = |strike: Strike| stage.draw(strike.name(), 8).saturating_sub(3);
        let weights: Vec<(Strike, u64)> =
            Strike::ALL.into_iter().map(|strike| (strike, weight(strike))).collect();
        let times = self.strikes.start
            + stage.draw("monkey.strikes", self.strikes.end - self.strikes.start);
        stage.plan(move |director| async move {
            for _ in 0..times {
                director.sleep(director.duration(self.every.clone())).await;
                self.strike(&director, &weights).await;
            }
        });
    }

    async fn strike(&self, director: &Director, weights: &[(Strike, u64)]) {
        let target = self.targets[director.choose(self.targets.len() as u64) as usize];
        let all: u64 = weights.iter().map(|(_, weight)| weight).sum();
        let mut drawn = director.choose(all.max(1));
        let mut strike = Strike::Stop;
        for &(kind, weight) in weights {
            if drawn < weight {
                strike = kind;
                break;
            }
            drawn -= weight;
        }
        director.observer().count("strikes", 1);
        let world = director.world();
        match strike {
            Strike::Stop => director.stop(target, self.grace).await,
            Strike::Kill => world.kill(target),
            Strike::CrashOs => world.crash_os(target),
            Strike::PowerCut => world.power_cut(target),
        }
        director.sleep(director.duration(self.off.clone())).await;
        director.start(target);
    }
}
