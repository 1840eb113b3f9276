//! How a run fails, and all that is needed to have it fail again.

use std::fmt;
use std::time::Duration;

use crate::schedule::Policy;

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// A task panicked.
    Panic {
        /// The machine's name.
        machine: String,
        /// The shard.
        shard: usize,
        /// The task's name.
        task: &'static str,
        /// What the panic said.
        message: String,
    },
    /// Nothing can ever happen again, and what was waited for has not.
    Deadlock {
        /// Who waits: machine, shard and task, for what and since when.
        waiting: Vec<String>,
    },
    /// Tasks run and run, and nothing else happens; or a world that was run to idle never rests.
    Livelock {
        /// Who runs: machine, shard and task, with how many of the latest polls were theirs, and
        /// what the task last waited for.
        running: Vec<String>,
    },
}

/// A failed run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The world's seed.
    pub seed: u64,
    /// When, since the world began.
    pub time: Duration,
    /// Why.
    pub kind: FailureKind,
    /// By which policy tasks were picked.
    pub policy: Policy,
    /// The latest of what happened, one line each.
    pub trace: Box<str>,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, time, kind, policy, trace } = self;
        match kind {
            FailureKind::Panic { machine, shard, task, message } => write!(
                formatter,
                "seed {seed}, at {time:?}: task \"{task}\" of {machine}/{shard} panicked: {message}"
            )?,
            FailureKind::Deadlock { waiting } => {
                write!(
                    formatter,
                    "seed {seed}, at {time:?}: deadlock, nothing can happen; waiting:"
                )?;
                list(formatter, waiting)?;
            }
            FailureKind::Livelock { running } => {
                write!(formatter, "seed {seed}, at {time:?}: livelock, it never rests; running:")?;
                list(formatter, running)?;
            }
        }
        write!(formatter, "\ntasks picked by: {}\nlatest events:\n{trace}", policy.name())
    }
}

/// One line each.
fn list(formatter: &mut fmt::Formatter<'_>, lines: &[String]) -> fmt::Result {
    lines.iter().try_for_each(|line| write!(formatter, "\n  {line}"))
}

impl std::error::Error for Failure {}
