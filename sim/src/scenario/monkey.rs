//! The chaos monkey: a plan that strikes at random.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::{Director, Stage};
use crate::{Cut, MachineId};

/// What a monkey can do to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Strike {
    Stop,
    Kill,
    CrashOs,
    PowerCut,
    Reboot,
    Wipe,
    Pause,
    Isolate,
    Clog,
    Stall,
    WallJump,
}

impl Strike {
    const ALL: [Self; 11] = [
        Self::Stop,
        Self::Kill,
        Self::CrashOs,
        Self::PowerCut,
        Self::Reboot,
        Self::Wipe,
        Self::Pause,
        Self::Isolate,
        Self::Clog,
        Self::Stall,
        Self::WallJump,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Stop => "monkey.stop",
            Self::Kill => "monkey.kill",
            Self::CrashOs => "monkey.crash-os",
            Self::PowerCut => "monkey.power-cut",
            Self::Reboot => "monkey.reboot",
            Self::Wipe => "monkey.wipe",
            Self::Pause => "monkey.pause",
            Self::Isolate => "monkey.isolate",
            Self::Clog => "monkey.clog",
            Self::Stall => "monkey.stall",
            Self::WallJump => "monkey.wall-jump",
        }
    }

    /// Whether it brings the machine's process down.
    const fn is_fatal(self) -> bool {
        !matches!(self, Self::Pause | Self::Isolate | Self::Clog | Self::Stall | Self::WallJump)
    }
}

/// A plan that strikes machines at random.
///
/// | strike | what it does |
/// |---|---|
/// | `stop`, `kill`, `crash-os`, `power-cut`, `reboot` | brings the machine's service down; it is started again after a while |
/// | `wipe` | the same, and the disk is empty. Only if it is given a [`weight`](Self::weight) |
/// | `pause`, `isolate`, `clog`, `stall`, `wall-jump` | makes something hard for a while, and ends it again |
///
/// How likely each kind is is drawn from the seed, unless a weight is given, and each is left out in
/// half of all seeds.
#[derive(Clone, Debug)]
pub struct ChaosMonkey {
    targets: Vec<MachineId>,
    every: Range<Duration>,
    off: Range<Duration>,
    hindered: Range<Duration>,
    strikes: Range<u64>,
    grace: Duration,
    weights: BTreeMap<Strike, u64>,
}

impl ChaosMonkey {
    /// Strikes these machines one to six times, every 0 to 120 ms, leaves each off for up to 30 ms,
    /// and hinders them for up to 100 ms.
    #[must_use]
    pub fn on(targets: &[MachineId]) -> Self {
        assert!(!targets.is_empty(), "a monkey needs something to strike");
        Self {
            targets: targets.to_vec(),
            every: Duration::ZERO..Duration::from_millis(120),
            off: Duration::ZERO..Duration::from_millis(30),
            hindered: Duration::from_millis(1)..Duration::from_millis(100),
            strikes: 1..7,
            grace: Duration::from_secs(120),
            weights: BTreeMap::from([(Strike::Wipe, 0)]),
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

    /// How long a machine is hindered.
    #[must_use]
    pub fn hindered(mut self, times: Range<Duration>) -> Self {
        self.hindered = times;
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

    /// How likely a kind of strike is, in comparison with the others, instead of drawing it: 0 for
    /// never. A weight that is drawn is at most 4.
    ///
    /// # Panics
    /// If there is no strike with this name.
    #[must_use]
    pub fn weight(mut self, strike: &str, weight: u64) -> Self {
        let named = |kind: &Strike| kind.name().strip_prefix("monkey.") == Some(strike);
        let kind = Strike::ALL.into_iter().find(named);
        let kind = kind.unwrap_or_else(|| panic!("a monkey knows no strike \"{strike}\""));
        self.weights.insert(kind, weight);
        self
    }

    /// Sets it on a stage.
    pub fn release(self, stage: &mut Stage) {
        let weight = |strike: Strike| {
            let given = self.weights.get(&strike).copied();
            (strike, given.unwrap_or_else(|| stage.draw(strike.name(), 8).saturating_sub(3)))
        };
        let weights: Vec<(Strike, u64)> = Strike::ALL.into_iter().map(weight).collect();
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
        if strike.is_fatal() {
            self.bring_down(strike, target, director).await;
        } else {
            self.hinder(strike, target, director).await;
        }
    }

    async fn bring_down(&self, strike: Strike, target: MachineId, director: &Director) {
        let world = director.world();
        match strike {
            Strike::Kill => world.kill(target),
            Strike::CrashOs => world.crash_os(target),
            Strike::PowerCut => world.power_cut(target),
            Strike::Wipe => world.wipe(target),
            Strike::Reboot => {
                director.stop(target, self.grace).await;
                world.reboot(target, self.grace);
            }
            _ => director.stop(target, self.grace).await,
        }
        director.sleep(director.duration(self.off.clone())).await;
        director.start(target);
    }

    async fn hinder(&self, strike: Strike, target: MachineId, director: &Director) {
        let world = director.world();
        let time = director.duration(self.hindered.clone());
        match strike {
            Strike::Pause => world.pause_for(target, time),
            Strike::Isolate => {
                let drops = director.choose(2) == 1;
                world.isolate(target, if drops { Cut::Drop } else { Cut::Hold });
            }
            Strike::Clog => world.clog_machine(target, time),
            Strike::Stall => world.disk(target).stall(time),
            _ => world.jump_wall(target, director.choose(20_000) as i64 - 10_000),
        }
        director.sleep(time).await;
        if strike == Strike::Isolate {
            world.heal_all();
        }
    }
}
