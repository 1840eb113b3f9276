//! The tape: the choices of a run that were not the harmless one.
//!
//! # Text form
//!
//! ```text
//! woodchuck tape 1
//! seed 42
//! disk-latency 65 17 3
//! ```
//!
//! After the head, one line a choice: site, node, how often that node had chosen there before, and
//! the value. Lines may come in any order; empty lines and lines that begin with `#` mean nothing.
//!
//! # Replay
//!
//! A world that is given a tape takes each choice from it and, where the tape is silent, chooses 0.
//! Entries that are never asked for are ignored. So a tape stays usable when lines are removed from
//! it, and when the product has changed a little since it was cut.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::limits::CHOICE_RANGE;
use crate::site::Site;

/// The first line of the text form.
const HEAD: &str = "woodchuck tape 1";

/// Which choice: its site, its node, and how often that node had chosen there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChoiceName {
    /// Where it was made.
    pub site: Site,
    /// For whom.
    pub node: u32,
    /// How many times that node had chosen at that site before.
    pub count: u32,
}

/// The choices of a run that were not 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tape {
    seed: u64,
    choices: BTreeMap<ChoiceName, u32>,
}

impl Tape {
    /// A tape on which everything is as harmless as it can be.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, choices: BTreeMap::new() }
    }

    /// The seed of the run it was cut from. It still feeds the random streams of a replay.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// How many choices it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.choices.len()
    }

    /// Whether every choice is the harmless one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.choices.is_empty()
    }

    /// The choices, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (ChoiceName, u64)> {
        self.choices.iter().map(|(&name, &value)| (name, u64::from(value)))
    }

    /// Sets a choice; 0 removes it.
    ///
    /// # Panics
    /// If `value` is not below [`CHOICE_RANGE`].
    pub fn set(&mut self, name: ChoiceName, value: u64) {
        assert!(value < CHOICE_RANGE, "no choice is as wide as {value}");
        if value == 0 {
            self.choices.remove(&name);
        } else {
            self.choices.insert(name, value as u32);
        }
    }

    /// Keeps the choices that `keep` wants: what a shrinker does.
    pub fn retain(&mut self, mut keep: impl FnMut(ChoiceName, u64) -> bool) {
        self.choices.retain(|&name, value| keep(name, u64::from(*value)));
    }
}

impl fmt::Display for Tape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{HEAD}\nseed {}", self.seed)?;
        for (name, value) in &self.choices {
            writeln!(formatter, "{} {} {} {value}", name.site.name(), name.node, name.count)?;
        }
        Ok(())
    }
}

/// Why a text is no tape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapeError {
    line: usize,
    problem: &'static str,
}

impl fmt::Display for TapeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {} of the tape {}", self.line, self.problem)
    }
}

impl std::error::Error for TapeError {}

impl FromStr for Tape {
    type Err = TapeError;

    fn from_str(text: &str) -> Result<Self, TapeError> {
        let mut lines = text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line.trim()))
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let (line, head) = lines.next().unwrap_or((1, ""));
        if head != HEAD {
            return Err(TapeError { line, problem: "should read \"woodchuck tape 1\"" });
        }
        let (line, seed) = lines.next().unwrap_or((line + 1, ""));
        let seed = seed.strip_prefix("seed ").and_then(|number| number.parse().ok());
        let Some(seed) = seed else {
            return Err(TapeError { line, problem: "should hold the seed" });
        };
        let mut tape = Self::new(seed);
        for (line, text) in lines {
            let (name, value) =
                parse_choice(text).map_err(|problem| TapeError { line, problem })?;
            tape.set(name, u64::from(value));
        }
        Ok(tape)
    }
}

/// One line of the text form.
fn parse_choice(text: &str) -> Result<(ChoiceName, u32), &'static str> {
    let mut words = text.split_ascii_whitespace();
    let site = words.next().and_then(Site::named).ok_or("names no site that is known")?;
    let mut number = || words.next().and_then(|word| word.parse::<u32>().ok());
    let (Some(node), Some(count), Some(value)) = (number(), number(), number()) else {
        return Err("should hold a site and three numbers");
    };
    if words.next().is_some() {
        return Err("holds more than a site and three numbers");
    }
    Ok((ChoiceName { site, node, count }, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let mut tape = Tape::new(7);
        tape.set(ChoiceName { site: Site::Task, node: 64, count: 3 }, 2);
        tape.set(ChoiceName { site: Site::Workload, node: 0, count: 0 }, u64::from(u32::MAX));
        tape.set(ChoiceName { site: Site::Workload, node: 0, count: 1 }, 0);
        assert_eq!(tape.len(), 2);
        let text = tape.to_string();
        assert_eq!(text.parse::<Tape>(), Ok(tape));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let parse = |text: &str| text.parse::<Tape>().expect_err("not a tape").to_string();
        assert_eq!(parse(""), "line 1 of the tape should read \"woodchuck tape 1\"");
        assert_eq!(parse("woodchuck tape 1\nseed x"), "line 2 of the tape should hold the seed");
        assert_eq!(
            parse("woodchuck tape 1\nseed 1\n\nnowhere 1 2 3"),
            "line 4 of the tape names no site that is known"
        );
        assert_eq!(
            parse("woodchuck tape 1\n# why\nseed 1\ntask 1 2"),
            "line 4 of the tape should hold a site and three numbers"
        );
    }
}
