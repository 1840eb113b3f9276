//! How a run is asked for, and what came of it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::Violation;
use crate::chronicle::Chronicle;
use crate::faults::{Faults, Regime};
use crate::schedule::Policy;
use crate::statistics::Statistics;
use crate::tape::Tape;

/// How a scenario is to be played.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// From which everything follows. With a tape: that of the tape.
    pub seed: u64,
    /// Which faults there may be.
    pub regime: Regime,
    /// Knobs to set whatever the seed draws, by name.
    pub knobs: Vec<(String, u32)>,
    /// Plays these choices instead of drawing them.
    pub tape: Option<Tape>,
    /// Whether to give the run's tape.
    pub record: bool,
    /// Whether to give the run's chronicle, and the end of its trace.
    pub chronicle: bool,
    /// Ends the run at this world time, whatever is going on.
    pub until: Option<Duration>,
}

impl RunOptions {
    /// The world of a seed under budgeted faults.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        let regime = Regime::Budgeted;
        let knobs = Vec::new();
        Self { seed, regime, knobs, tape: None, record: false, chronicle: false, until: None }
    }

    /// The faults of the run's world.
    #[must_use]
    pub fn faults(&self) -> Faults {
        let seed = self.tape.as_ref().map_or(self.seed, Tape::seed);
        let mut faults = match self.regime {
            Regime::Budgeted => Faults::swarm(seed),
            Regime::Unrestricted => Faults::unrestricted(seed),
        };
        for (name, value) in &self.knobs {
            assert!(faults.set(name, *value), "there is no knob {name}");
        }
        faults
    }
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All properties hold.
    Passed,
    /// A property does not.
    Failed(Box<Violation>),
    /// A checker could not say. Never counted as passed.
    Inconclusive(String),
    /// It was told to stop before its end.
    Stopped,
}

/// What a run did, and what came of it.
#[derive(Clone, Debug)]
pub struct Run {
    /// The scenario's name.
    pub scenario: &'static str,
    /// The world's seed.
    pub seed: u64,
    /// What it came to.
    pub verdict: Verdict,
    /// World time that passed.
    pub elapsed: Duration,
    /// Equal in two runs of one seed.
    pub trace_hash: u64,
    /// The faults of its world.
    pub faults: Faults,
    /// How its tasks were picked.
    pub policy: Policy,
    /// What the stage drew, by name.
    pub drawn: BTreeMap<&'static str, u64>,
    /// How often each declared mark was hit.
    pub marks: BTreeMap<&'static str, u64>,
    /// What services and bots counted.
    pub counts: BTreeMap<&'static str, u64>,
    /// Names of the properties that were looked at.
    pub properties: Vec<&'static str>,
    /// What happened in the world.
    pub statistics: Statistics,
    /// The choices that were not the harmless one, if they were to be recorded.
    pub tape: Option<Tape>,
    /// What happened, told for people, if it was to be.
    pub chronicle: Option<Chronicle>,
    /// The latest lines of the trace, if there is a chronicle.
    pub trace: String,
}

impl Run {
    /// The violation, if there is one.
    #[must_use]
    pub fn violation(&self) -> Option<&Violation> {
        match &self.verdict {
            Verdict::Failed(violation) => Some(violation),
            _ => None,
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, seed, verdict, elapsed, .. } = self;
        match verdict {
            Verdict::Passed => write!(formatter, "{scenario}, seed {seed}: passed, {elapsed:?}"),
            Verdict::Stopped => {
                write!(formatter, "{scenario}, seed {seed}: stopped at {elapsed:?}")
            }
            Verdict::Inconclusive(why) => {
                write!(formatter, "{scenario}, seed {seed}: inconclusive, {why}")
            }
            Verdict::Failed(violation) => {
                write!(formatter, "{scenario}, seed {seed}: {violation}\nlatest events:\n")?;
                formatter.write_str(&violation.trace)
            }
        }
    }
}
