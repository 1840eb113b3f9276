//! A recording: all that is needed to play one run again, as a small file of text.
//!
//! # Text form
//!
//! ```text
//! woodchuck recording 1
//! scenario broker
//! seed 42
//! regime budgeted
//! knob disk.slow 5000
//! property keeps-running
//! fingerprint keeps-running: the broker gave up: input/output error
//! commit 0123abcd
//!
//! woodchuck tape 1
//! seed 42
//! disk-latency 65 17 3
//! ```
//!
//! After the head, one line a field, in any order. Only scenario and seed must be there. A knob's
//! line sets that knob whatever the seed draws; property and fingerprint say what was violated;
//! the commit is that of the product which was played. Empty lines and lines that begin with `#`
//! mean nothing.
//!
//! The tape, in its own text form, ends the file. It may be missing: then the seed is played, which
//! is the same run for as long as the product makes the same choices.

use std::fmt;
use std::str::FromStr;

use super::{Run, RunOptions};
use crate::faults::{Faults, Regime};
use crate::tape::{Tape, TapeError};

/// The first line of the text form.
const HEAD: &str = "woodchuck recording 1";

/// How the first line of a tape begins.
const TAPE_HEAD: &str = "woodchuck tape ";

/// All that is needed to play one run again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// Which faults there may be.
    pub regime: Regime,
    /// Knobs that are set whatever the seed draws.
    pub knobs: Vec<(String, u32)>,
    /// The property that was violated, if one was.
    pub property: Option<String>,
    /// The violation's [fingerprint](super::Violation::fingerprint).
    pub fingerprint: Option<String>,
    /// The product that was played, if that is known.
    pub commit: Option<String>,
    /// The choices. Without them, the seed is played.
    pub tape: Option<Tape>,
}

impl Recording {
    /// The recording of a seed, without a tape.
    #[must_use]
    pub fn new(scenario: &str, seed: u64) -> Self {
        Self {
            scenario: scenario.to_owned(),
            seed,
            regime: Regime::Budgeted,
            knobs: Vec::new(),
            property: None,
            fingerprint: None,
            commit: None,
            tape: None,
        }
    }

    /// The recording of a run, which was asked for with `options`. It has the run's tape if there
    /// is one.
    #[must_use]
    pub fn of(run: &Run, options: &RunOptions) -> Self {
        let violation = run.violation();
        Self {
            regime: options.regime,
            knobs: options.knobs.clone(),
            property: violation.map(|violation| violation.property.clone()),
            fingerprint: violation.map(super::Violation::fingerprint),
            tape: run.tape.clone(),
            ..Self::new(run.scenario, run.seed)
        }
    }

    /// How to play it.
    #[must_use]
    pub fn options(&self) -> RunOptions {
        RunOptions {
            regime: self.regime,
            knobs: self.knobs.clone(),
            tape: self.tape.clone(),
            ..RunOptions::new(self.seed)
        }
    }
}

impl fmt::Display for Recording {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, seed, regime, .. } = self;
        writeln!(formatter, "{HEAD}\nscenario {scenario}\nseed {seed}\nregime {}", regime.name())?;
        for (name, value) in &self.knobs {
            writeln!(formatter, "knob {name} {value}")?;
        }
        let told = [
            ("property", &self.property),
            ("fingerprint", &self.fingerprint),
            ("commit", &self.commit),
        ];
        for (field, text) in told {
            if let Some(text) = text {
                writeln!(formatter, "{field} {}", one_line(text))?;
            }
        }
        match &self.tape {
            Some(tape) => write!(formatter, "\n{tape}"),
            None => Ok(()),
        }
    }
}

/// What stands in a field must not look like another line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Why a text is no recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordingError {
    /// A line before the tape is wrong.
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// The tape is wrong. It counts its lines from the beginning of the file.
    Tape(TapeError),
}

impl fmt::Display for RecordingError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { line, problem } => {
                write!(formatter, "line {line} of the recording {problem}")
            }
            Self::Tape(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for RecordingError {}

impl FromStr for Recording {
    type Err = RecordingError;

    fn from_str(text: &str) -> Result<Self, RecordingError> {
        let wrong = |line: usize, problem: String| RecordingError::Line { line, problem };
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let tape_starts = lines.iter().position(|line| line.starts_with(TAPE_HEAD));
        let told = lines[..tape_starts.unwrap_or(lines.len())].iter().zip(1..);
        let mut told = told.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
        match told.next() {
            Some((&HEAD, _)) => {}
            other => {
                let line = other.map_or(1, |(_, line)| line);
                return Err(wrong(line, format!("should read \"{HEAD}\"")));
            }
        }
        let (mut scenario, mut seed) = (None, None);
        let mut recording = Self::new("", 0);
        for (text, line) in told {
            let (field, value) = text.split_once(' ').unwrap_or((text, ""));
            match field {
                "scenario" => scenario = Some(value.to_owned()),
                "seed" => seed = value.parse().ok(),
                _ => recording.take(field, value).map_err(|problem| wrong(line, problem))?,
            }
        }
        let end = tape_starts.unwrap_or(lines.len()).max(1);
        let Some(scenario) = scenario.filter(|name| !name.is_empty()) else {
            return Err(wrong(end, "comes before any scenario".to_owned()));
        };
        let Some(seed) = seed else {
            return Err(wrong(end, "comes before any seed".to_owned()));
        };
        if let Some(start) = tape_starts {
            recording.tape = Some(parse_tape(&lines, start)?);
        }
        Ok(Self { scenario, seed, ..recording })
    }
}

/// The tape at the end of a file. Empty lines take the place of what comes before it, so that its
/// errors name lines of the file.
fn parse_tape(lines: &[&str], start: usize) -> Result<Tape, RecordingError> {
    let text = format!("{}{}", "\n".repeat(start), lines[start..].join("\n"));
    text.parse().map_err(RecordingError::Tape)
}

impl Recording {
    /// Takes in a field that need not be there.
    fn take(&mut self, field: &str, value: &str) -> Result<(), String> {
        match field {
            "regime" => {
                self.regime = Regime::named(value)
                    .ok_or_else(|| format!("names the regime {value:?}, which is not known"))?;
            }
            "knob" => {
                let (name, number) = value.split_once(' ').unwrap_or((value, ""));
                let number = number.trim().parse().ok();
                let number = number.ok_or("should hold a knob's name and a number")?;
                if !Faults::knobs().any(|knob| knob.name == name) {
                    return Err(format!("names the knob {name:?}, which is not known"));
                }
                self.knobs.push((name.to_owned(), number));
            }
            "property" => self.property = Some(value.to_owned()),
            "fingerprint" => self.fingerprint = Some(value.to_owned()),
            "commit" => self.commit = Some(value.to_owned()),
            _ => return Err(format!("begins with {field:?}, which is no field")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Site;
    use crate::tape::ChoiceName;

    fn full() -> Recording {
        let mut tape = Tape::new(42);
        tape.set(ChoiceName { site: Site::Task, node: 64, count: 3 }, 2);
        Recording {
            regime: Regime::Unrestricted,
            knobs: vec![("disk.slow".to_owned(), 5000), ("net.reset".to_owned(), 0)],
            property: Some("keeps-running".to_owned()),
            fingerprint: Some("keeps-running: the broker gave up: # of #".to_owned()),
            commit: Some("0123abcd".to_owned()),
            tape: Some(tape),
            ..Recording::new("broker", 42)
        }
    }

    #[test]
    fn text_and_back() {
        for recording in [full(), Recording::new("broker", u64::MAX)] {
            assert_eq!(recording.to_string().parse(), Ok(recording));
        }
    }

    #[test]
    fn options_say_the_same() {
        let options = full().options();
        assert_eq!((options.seed, options.regime), (42, Regime::Unrestricted));
        assert_eq!((options.knobs, options.tape), (full().knobs, full().tape));
    }

    #[test]
    fn comments_mean_nothing_and_only_scenario_and_seed_must_be_there() {
        let text = "\n# why\nwoodchuck recording 1\n\n# and\n seed 7\nscenario broker\n";
        assert_eq!(text.parse(), Ok(Recording::new("broker", 7)));
    }

    #[test]
    fn a_text_of_several_lines_stays_in_its_field() {
        let fingerprint = Some("one\nseed 8".to_owned());
        let recording = Recording { fingerprint, ..Recording::new("broker", 7) };
        let read: Recording = recording.to_string().parse().expect("still a recording");
        assert_eq!((read.seed, read.fingerprint.as_deref()), (7, Some("one seed 8")));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let parse = |text: &str| text.parse::<Recording>().expect_err("wrong").to_string();
        let wrong = |line: &str| parse(&format!("{HEAD}\nscenario a\n\nseed 1\n{line}\n"));
        assert_eq!(parse(""), "line 1 of the recording should read \"woodchuck recording 1\"");
        assert_eq!(
            parse("# a\nseed 1"),
            "line 2 of the recording should read \"woodchuck recording 1\""
        );
        assert_eq!(
            wrong("regime soft"),
            "line 5 of the recording names the regime \"soft\", which is not known"
        );
        assert_eq!(
            wrong("knob disk.nothing 1"),
            "line 5 of the recording names the knob \"disk.nothing\", which is not known"
        );
        assert_eq!(
            wrong("knob disk.slow often"),
            "line 5 of the recording should hold a knob's name and a number"
        );
        assert_eq!(
            wrong("color blue"),
            "line 5 of the recording begins with \"color\", which is no field"
        );
        assert!(parse("woodchuck recording 1\nseed 1").ends_with("comes before any scenario"));
        assert!(parse("woodchuck recording 1\nscenario a\nseed x").ends_with("before any seed"));
        assert_eq!(
            wrong("woodchuck tape 1\nseed 1\nnowhere 1 2 3"),
            "line 7 of the tape names no site that is known"
        );
    }
}
