//! Making a failing run simpler: the least tape with which it still fails in the same way.
//!
//! Everything that a run does follows from its tape, so there is one thing to shrink: faults, plan,
//! workload and schedule at once. A choice that is taken off a tape becomes 0, which is harmless.
//!
//! # How
//!
//! A *fingerprint* tells one failure from another; the caller makes it, of what does not change
//! from run to run (what is wrong, not when or with which number). A tape is tried by a run. If
//! that fails with the fingerprint that is looked for, the tape *as it was played* is gone on with:
//! choices that were not asked for any more, such as all after the failure, are not on it.
//!
//! 1. All choices go; then those of each class, in the order of [`SiteClass::ALL`]; then those of
//!    each site; then those of each node of a site.
//! 2. Runs of choices that follow each other go: first of half the tape, then of a quarter, down to
//!    single ones, each time from the end. What comes late in a run is more often superfluous.
//! 3. Values go down: to 1, or else to half as long as it fails; first those of a site together,
//!    then each alone.
//! 4. From the beginning, until nothing changes any more or all runs are used up.
//!
//! No step depends on anything but the tape and the outcomes, so shrinking is as deterministic as
//! what it runs. (The second step is the *ddmin* of Zeller and Hildebrandt, *Simplifying and
//! Isolating Failure-Inducing Input*, 2002, without its test of the complements' complements.)

use std::collections::BTreeSet;
use std::fmt;

use crate::limits::SHRINK_RUNS;
use crate::site::{Site, SiteClass};
use crate::tape::{ChoiceName, Tape};

/// How far to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShrinkOptions {
    /// Runs to be made at most.
    pub runs: usize,
    /// The fingerprint of the failure to keep; that of the first run if not given.
    pub fingerprint: Option<String>,
}

impl Default for ShrinkOptions {
    fn default() -> Self {
        Self { runs: SHRINK_RUNS, fingerprint: None }
    }
}

/// What came of a run that was given a tape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which failure it was; `None` if it did not fail.
    pub fingerprint: Option<String>,
    /// The choices it made: its [`World::tape`](crate::World::tape) at the end.
    pub played: Tape,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Runs made.
    pub runs: usize,
    /// Runs to be made at most.
    pub budget: usize,
    /// Choices there were at first.
    pub from: usize,
    /// Choices there are now.
    pub to: usize,
    /// What is being tried.
    pub step: &'static str,
}

/// A tape that was made simpler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrunk {
    /// The simplest tape that was found. It fails with the fingerprint.
    pub tape: Tape,
    /// Which failure it is.
    pub fingerprint: String,
    /// Runs made.
    pub runs: usize,
    /// Choices there were at first.
    pub from: usize,
    /// Choices there are now.
    pub to: usize,
    /// Whether nothing more goes; otherwise the runs were used up.
    pub complete: bool,
}

/// Why a tape cannot be shrunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShrinkError {
    /// The run with the whole tape does not fail.
    Passes,
    /// It fails, but in another way than it should.
    FailsOtherwise {
        /// Which failure it is.
        fingerprint: String,
    },
}

impl fmt::Display for ShrinkError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passes => formatter.write_str("the run with this tape does not fail"),
            Self::FailsOtherwise { fingerprint } => {
                write!(formatter, "the run with this tape fails in another way: {fingerprint}")
            }
        }
    }
}

impl std::error::Error for ShrinkError {}

/// Makes a failing tape simpler. `test` runs a tape; `progress` is told of each run.
///
/// # Errors
/// If the run with the whole tape does not fail, or not with the fingerprint asked for.
pub fn shrink(
    tape: &Tape,
    options: &ShrinkOptions,
    mut test: impl FnMut(&Tape) -> Outcome,
    progress: impl FnMut(&Progress),
) -> Result<Shrunk, ShrinkError> {
    let Outcome { fingerprint, played } = test(tape);
    let fingerprint = fingerprint.ok_or(ShrinkError::Passes)?;
    if options.fingerprint.as_ref().is_some_and(|wanted| *wanted != fingerprint) {
        return Err(ShrinkError::FailsOtherwise { fingerprint });
    }
    let mut shrinker = Shrinker {
        best: simpler_of(played, tape),
        fingerprint,
        budget: options.runs,
        runs: 1,
        from: tape.len(),
        passed: BTreeSet::new(),
        step: "everything",
        test,
        progress,
    };
    let complete = shrinker.shrink();
    let Shrinker { best, fingerprint, runs, from, .. } = shrinker;
    Ok(Shrunk { to: best.len(), tape: best, fingerprint, runs, from, complete })
}

/// How complicated a tape is: by the number of its choices, then by their values.
fn weight(tape: &Tape) -> (usize, u64) {
    (tape.len(), tape.iter().map(|(_, value)| value).sum())
}

/// A run plays no more than it is given. One that does, because it is given something else than
/// the tape, must not keep the search from coming to an end.
fn simpler_of(played: Tape, given: &Tape) -> Tape {
    if weight(&played) <= weight(given) { played } else { given.clone() }
}

struct Shrinker<T, P> {
    /// The simplest tape so far that fails as it should.
    best: Tape,
    fingerprint: String,
    budget: usize,
    runs: usize,
    from: usize,
    /// Tapes that do not fail, or otherwise, by their hash.
    passed: BTreeSet<u64>,
    step: &'static str,
    test: T,
    progress: P,
}

impl<T: FnMut(&Tape) -> Outcome, P: FnMut(&Progress)> Shrinker<T, P> {
    /// Shrinks until nothing more goes, or to the end of the budget. Returns whether the former.
    fn shrink(&mut self) -> bool {
        loop {
            let before = weight(&self.best);
            self.drop_groups();
            self.drop_chunks();
            self.lower_values();
            if self.runs >= self.budget {
                return false;
            }
            if weight(&self.best) == before {
                return true;
            }
        }
    }

    /// Tries a tape. Goes on with it, and returns true, if it fails as it should.
    fn fails(&mut self, tape: &Tape) -> bool {
        if weight(tape) >= weight(&self.best) || self.runs >= self.budget {
            return false;
        }
        let hash = tape.hash();
        if self.passed.contains(&hash) {
            return false;
        }
        let Outcome { fingerprint, played } = (self.test)(tape);
        self.runs += 1;
        let fails = fingerprint.as_ref() == Some(&self.fingerprint);
        if fails {
            self.best = simpler_of(played, tape);
        } else {
            self.passed.insert(hash);
        }
        let (runs, budget, from, to) = (self.runs, self.budget, self.from, self.best.len());
        (self.progress)(&Progress { runs, budget, from, to, step: self.step });
        fails
    }

    /// Everything, then classes, sites, and nodes of sites.
    fn drop_groups(&mut self) {
        self.step = "everything";
        self.fails(&Tape::new(self.best.seed()));
        self.step = "classes";
        for class in SiteClass::ALL {
            self.fails(&self.best.without_class(class));
        }
        self.step = "sites";
        for site in self.sites() {
            self.fails(&self.best.without_site(site));
        }
        self.step = "nodes";
        for site in self.sites() {
            for (node, _) in self.best.nodes(site).into_iter().rev() {
                self.fails(&self.best.without_node(site, node));
            }
        }
    }

    /// The sites on the tape, those first that a simpler run misses least.
    fn sites(&self) -> Vec<Site> {
        let mut sites: Vec<Site> = self.best.sites().into_iter().map(|(site, _)| site).collect();
        sites.sort_by_key(|site| (site.class(), *site));
        sites
    }

    /// Choices that follow each other, fewer and fewer at a time, from the end.
    fn drop_chunks(&mut self) {
        self.step = "choices";
        let mut chunk = self.best.len().div_ceil(2);
        while chunk > 0 && self.runs < self.budget {
            let mut end = self.best.len();
            while end > 0 {
                let start = end.saturating_sub(chunk);
                self.fails(&self.best.without_range(start..end));
                // What was played may be shorter by more than was cut.
                end = start.min(self.best.len());
            }
            chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2) };
        }
    }

    /// Values, of whole sites and of single choices.
    fn lower_values(&mut self) {
        self.step = "values of sites";
        for site in self.sites() {
            self.lower_these(|name| name.site == site);
        }
        self.step = "values";
        let names: Vec<ChoiceName> = self.best.iter().map(|(name, _)| name).collect();
        for wanted in names.into_iter().rev() {
            self.lower_these(|name| name == wanted);
        }
    }

    /// Values, to 1 or by halves.
    fn lower_these(&mut self, concerns: impl Fn(ChoiceName) -> bool) {
        if self.fails(&lower(&self.best, &concerns, u64::MAX)) {
            return;
        }
        while self.fails(&lower(&self.best, &concerns, 2)) {}
    }
}

/// A copy with some values divided, to 1 at the least.
fn lower(tape: &Tape, concerns: impl Fn(ChoiceName) -> bool, divisor: u64) -> Tape {
    let mut copy = tape.clone();
    for (name, value) in tape.iter().filter(|(name, _)| concerns(*name)) {
        copy.set(name, (value / divisor).max(1));
    }
    copy
}
