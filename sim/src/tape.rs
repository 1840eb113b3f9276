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
use std::ops::Range;
use std::str::FromStr;

use crate::choice::scramble;
use crate::limits::CHOICE_RANGE;
use crate::site::{Site, SiteClass};

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

    /// A copy with the choices that `keep` wants.
    #[must_use]
    pub fn kept(&self, keep: impl FnMut(ChoiceName, u64) -> bool) -> Self {
        let mut copy = self.clone();
        copy.retain(keep);
        copy
    }

    /// How many choices each site has, for those that have any.
    #[must_use]
    pub fn sites(&self) -> Vec<(Site, usize)> {
        counted(self.choices.keys().map(|name| name.site))
    }

    /// How many choices each node has at a site, for those that have any.
    #[must_use]
    pub fn nodes(&self, site: Site) -> Vec<(u32, usize)> {
        let here = self.choices.keys().filter(|name| name.site == site);
        counted(here.map(|name| name.node))
    }

    /// A copy in which all is harmless at a site.
    #[must_use]
    pub fn without_site(&self, site: Site) -> Self {
        self.kept(|name, _| name.site != site)
    }

    /// A copy in which all is harmless at the sites of a class.
    #[must_use]
    pub fn without_class(&self, class: SiteClass) -> Self {
        self.kept(|name, _| name.site.class() != class)
    }

    /// A copy in which all is harmless that one node chose at a site.
    #[must_use]
    pub fn without_node(&self, site: Site, node: u32) -> Self {
        self.kept(|name, _| (name.site, name.node) != (site, node))
    }

    /// A copy without some of its choices, given by their place in the order of their names.
    #[must_use]
    pub fn without_range(&self, range: Range<usize>) -> Self {
        let mut index = 0..;
        self.kept(|_, _| index.next().is_some_and(|index| !range.contains(&index)))
    }

    /// The first and the second half of the choices.
    #[must_use]
    pub fn halves(&self) -> (Self, Self) {
        let (middle, end) = (self.len().div_ceil(2), self.len());
        (self.without_range(middle..end), self.without_range(0..middle))
    }

    /// The choices and their values as one number, to recognise a tape by.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.choices.iter().fold(scramble(self.seed), |hash, (name, &value)| {
            let place = u64::from(name.site as u8) << 32 | u64::from(name.node);
            let choice = u64::from(name.count) << 32 | u64::from(value);
            scramble(scramble(hash ^ place).wrapping_add(choice))
        })
    }
}

/// How often each of some ascending values comes.
fn counted<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<(T, usize)> {
    let mut counts: Vec<(T, usize)> = Vec::new();
    for value in values {
        match counts.last_mut() {
            Some((latest, count)) if *latest == value => *count += 1,
            _ => counts.push((value, 1)),
        }
    }
    counts
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
    fn parts_of_a_tape() {
        let mut tape = Tape::new(7);
        for (site, node, count) in [
            (Site::Task, 64, 3),
            (Site::Task, 65, 1),
            (Site::Task, 64, 9),
            (Site::Plan, 0, 0),
            (Site::Policy, 0, 0),
        ] {
            tape.set(ChoiceName { site, node, count }, 5);
        }
        assert_eq!(tape.sites(), [(Site::Plan, 1), (Site::Policy, 1), (Site::Task, 3)]);
        assert_eq!(tape.nodes(Site::Task), [(64, 2), (65, 1)]);
        assert_eq!(tape.without_site(Site::Task).sites(), [(Site::Plan, 1), (Site::Policy, 1)]);
        assert_eq!(tape.without_class(SiteClass::Schedule).sites(), [(Site::Plan, 1)]);
        assert_eq!(tape.without_node(Site::Task, 64).nodes(Site::Task), [(65, 1)]);
        assert_eq!(tape.without_range(1..5).sites(), [(Site::Plan, 1)]);
        let (first, second) = tape.halves();
        assert_eq!(first.sites(), [(Site::Plan, 1), (Site::Policy, 1), (Site::Task, 1)]);
        assert_eq!(second.nodes(Site::Task), [(64, 1), (65, 1)]);
        assert!(first.seed() == 7 && second.seed() == 7);
        let mut other = tape.clone();
        assert_eq!(other.hash(), tape.hash());
        other.set(ChoiceName { site: Site::Plan, node: 0, count: 0 }, 6);
        assert_ne!(other.hash(), tape.hash());
        assert_ne!(tape.kept(|name, _| name.count != 9).hash(), tape.hash());
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
