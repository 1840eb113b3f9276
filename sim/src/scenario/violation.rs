//! What was violated, where and when.

use std::fmt;
use std::time::Duration;

use crate::failure::{Failure, FailureKind};

/// A property that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The property's name.
    pub property: String,
    /// World time.
    pub time: Duration,
    /// Events that had happened in the world.
    pub step: u64,
    /// The machine it was seen on, if it was seen on one.
    pub machine: Option<String>,
    /// What happened instead.
    pub explanation: String,
    /// The latest of what happened in the world, one line each.
    pub trace: String,
}

impl Violation {
    /// The property that two runs of one seed are the same.
    pub const DETERMINISTIC: &str = "deterministic";

    /// What two violations have in common if they are the same: the property, and the explanation
    /// without its numbers.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut fingerprint = format!("{}: ", self.property);
        let mut in_number = false;
        let first_line = self.explanation.lines().next().unwrap_or_default();
        for character in first_line.chars() {
            let number = character.is_ascii_digit();
            if !number {
                fingerprint.push(character);
            } else if !in_number {
                fingerprint.push('#');
            }
            in_number = number;
        }
        fingerprint
    }

    /// The violation that a failed world is.
    pub(super) fn of(failure: &Failure, step: u64) -> Self {
        let (property, machine, explanation) = match &failure.kind {
            FailureKind::Panic { machine, shard, task, message } => (
                "no-panic",
                Some(format!("{machine}/{shard}")),
                format!("task \"{task}\" panicked: {message}"),
            ),
            FailureKind::Deadlock { waiting } => (
                "no-deadlock",
                None,
                format!("nothing can ever happen; waiting:\n  {}", waiting.join("\n  ")),
            ),
            FailureKind::Livelock { running } => (
                "no-livelock",
                None,
                format!("tasks run and nothing happens; running:\n  {}", running.join("\n  ")),
            ),
        };
        Self {
            property: property.to_owned(),
            time: failure.time,
            step,
            machine,
            explanation,
            trace: failure.trace.to_string(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at {:?}, step {}", self.property, self.time, self.step)?;
        if let Some(machine) = &self.machine {
            write!(formatter, ", on {machine}")?;
        }
        for line in self.explanation.lines() {
            write!(formatter, "\n  {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_has_no_numbers_in_it() {
        let violation = |explanation: &str| Violation {
            property: "lost-write".to_owned(),
            time: Duration::ZERO,
            step: 0,
            machine: None,
            explanation: explanation.to_owned(),
            trace: String::new(),
        };
        let one = violation("offset 17 of partition 0 is gone\nsecond 1");
        let two = violation("offset 4 of partition 12 is gone\nanother line");
        assert_eq!(one.fingerprint(), "lost-write: offset # of partition # is gone");
        assert_eq!(one.fingerprint(), two.fingerprint());
        assert_ne!(one.fingerprint(), violation("offset 4 is there twice").fingerprint());
    }
}
