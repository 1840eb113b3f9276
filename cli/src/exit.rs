//! What the process's exit code means.

use std::fmt::Write as _;
use std::process::ExitCode;

/// What came of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It was done.
    Done = 0,
    /// It failed; a line on stderr says why and what to do.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// It was only told what would be done: `--yes` does it.
    Unconfirmed = 4,
    /// A property does not hold in some simulated world.
    Violated = 10,
    /// A checker could not say of some simulated world.
    Inconclusive = 11,
    /// Two runs of one seed differ.
    Nondeterministic = 12,
    /// The simulation does not test what it should: a kind of fault never changed an outcome, or a
    /// mark was never hit.
    HarnessBug = 13,
    /// Acknowledged data is damaged or missing.
    Damaged = 20,
    /// Another process has the data directory.
    Locked = 21,
    /// Another version of Woodchuck wrote the data.
    WrongVersion = 22,
    /// A signal ended it early.
    Interrupted = 130,
}

impl Exit {
    /// All codes, the least first.
    pub const ALL: [Self; 12] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Unconfirmed,
        Self::Violated,
        Self::Inconclusive,
        Self::Nondeterministic,
        Self::HarnessBug,
        Self::Damaged,
        Self::Locked,
        Self::WrongVersion,
        Self::Interrupted,
    ];

    /// The code.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What it means.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed; a line on stderr says why",
            Self::Usage => "the command line makes no sense",
            Self::Unconfirmed => "only told what would be done; --yes does it",
            Self::Violated => "a property does not hold",
            Self::Inconclusive => "a checker could not say",
            Self::Nondeterministic => "two runs of one seed differ",
            Self::HarnessBug => "a kind of fault never mattered, or a mark was never hit",
            Self::Damaged => "acknowledged data is damaged or missing",
            Self::Locked => "another process has the data directory",
            Self::WrongVersion => "another version of Woodchuck wrote the data",
            Self::Interrupted => "interrupted by a signal",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// All codes with their meanings, for the help.
#[must_use]
pub fn table() -> String {
    let mut table = "Exit codes:".to_owned();
    for exit in Exit::ALL {
        // Writing to a string does not fail.
        let _ = write!(table, "\n  {:>3}  {}", exit.code(), exit.meaning());
    }
    table
}

/// Examples, and all codes with their meanings, for the help.
#[must_use]
pub(crate) fn help(examples: &[&str]) -> String {
    let mut help = "Examples:".to_owned();
    for example in examples {
        let _ = write!(help, "\n  woodchuck {example}");
    }
    help + "\n\n" + &table()
}

/// Why a command could not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) exit: Exit,
    /// Why, and what to do.
    pub(crate) message: String,
}

impl Trouble {
    /// The command line makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into() }
    }
}

impl From<String> for Trouble {
    fn from(message: String) -> Self {
        Self { exit: Exit::Failed, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_what_scripts_rely_on() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert_eq!(codes, [0, 1, 2, 4, 10, 11, 12, 13, 20, 21, 22, 130]);
    }

    #[test]
    fn the_help_tells_every_code() {
        let table = table();
        for exit in Exit::ALL {
            let line = format!("{:>3}  {}", exit.code(), exit.meaning());
            assert!(table.lines().any(|told| told.trim_start() == line.trim_start()), "{line}");
        }
    }
}
