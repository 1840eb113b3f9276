//! Many seeds of one scenario.
//!
//! Worlds share nothing, so they may run on several threads; each world still has only one.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::run::{Run, RunOptions, Verdict};
use super::{Scenario, Violation};
use crate::fault_kind::FaultKind;
use crate::faults::Regime;
use crate::limits::WORLDS_FOR_ALL_FAULTS;

/// Many seeds of one scenario.
#[derive(Clone)]
pub struct Campaign {
    /// The scenario.
    pub scenario: Scenario,
    /// The seeds.
    pub seeds: Range<u64>,
    /// Which faults there may be.
    pub regime: Regime,
    /// Knobs to set whatever the seeds draw, by name.
    pub knobs: Vec<(String, u32)>,
    /// Worlds to run at a time.
    pub jobs: usize,
    /// One in so many seeds is run twice, and the two must not differ. 0: none is.
    pub twice_one_in: u64,
    /// Failures after which the campaign ends early: more of them say nothing new.
    pub failures: usize,
    /// Ends each world at this world time, whatever is going on.
    pub until: Option<Duration>,
}

impl Campaign {
    /// Budgeted faults, a world at a time, one seed in twenty twice, and up to five failures.
    #[must_use]
    pub const fn new(scenario: Scenario, seeds: Range<u64>) -> Self {
        Self {
            scenario,
            seeds,
            regime: Regime::Budgeted,
            knobs: Vec::new(),
            jobs: 1,
            twice_one_in: 20,
            failures: 5,
            until: None,
        }
    }

    /// Plays all worlds. `progress` is shown the tally after each of them.
    pub fn run(&self, progress: impl Fn(&Tally) + Sync) -> Tally {
        self.run_while(|tally| {
            progress(tally);
            true
        })
    }

    /// Plays all worlds, but begins no more once `go_on`, which is shown the tally after each of
    /// them, says no.
    pub fn run_while(&self, go_on: impl Fn(&Tally) -> bool + Sync) -> Tally {
        let stopped = AtomicBool::new(false);
        let next = AtomicU64::new(self.seeds.start);
        let tally = Mutex::new(Tally::new(&self.scenario, self.regime));
        let lock = || tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= self.seeds.end
                    || stopped.load(Ordering::Relaxed)
                    || lock().failures.len() >= self.failures
                {
                    return;
                }
                let run = self.play(seed);
                let twice = self.is_run_twice(seed);
                let mut tally = lock();
                tally.add(run, twice);
                if !go_on(&tally) {
                    stopped.store(true, Ordering::Relaxed);
                }
            }
        };
        if self.jobs <= 1 {
            work();
        } else {
            std::thread::scope(|scope| {
                for _ in 0..self.jobs {
                    scope.spawn(work);
                }
            });
        }
        let mut tally = tally.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        tally.failures.sort_by_key(|run| run.seed);
        tally
    }

    /// How the world of a seed is played.
    #[must_use]
    pub fn options(&self, seed: u64) -> RunOptions {
        RunOptions {
            regime: self.regime,
            knobs: self.knobs.clone(),
            until: self.until,
            ..RunOptions::new(seed)
        }
    }

    const fn is_run_twice(&self, seed: u64) -> bool {
        self.twice_one_in > 0 && seed.is_multiple_of(self.twice_one_in)
    }

    /// Plays the world of a seed: twice if its turn has come, and once more with its tape recorded
    /// if it failed.
    fn play(&self, seed: u64) -> Run {
        let options = self.options(seed);
        let mut run = self.scenario.run(&options);
        if self.is_run_twice(seed) {
            let again = self.scenario.run(&options).trace_hash;
            if again != run.trace_hash && run.violation().is_none() {
                run.verdict = Verdict::Failed(Box::new(diverged(&run, again)));
                return run;
            }
        }
        if run.violation().is_some() {
            return self.scenario.run(&RunOptions { record: true, ..options });
        }
        run
    }
}

/// The violation of two runs of one seed that differ.
fn diverged(run: &Run, again: u64) -> Violation {
    Violation {
        property: Violation::DETERMINISTIC.to_owned(),
        time: run.elapsed,
        step: run.statistics.all_events(),
        machine: None,
        explanation: format!(
            "two runs of the seed differ, with trace hashes {:016x} and {again:016x}",
            run.trace_hash
        ),
        trace: String::new(),
    }
}

/// What a campaign did and found so far.
#[derive(Clone, Debug)]
pub struct Tally {
    /// The scenario's name.
    pub scenario: &'static str,
    /// Worlds in which everything holds.
    pub passed: u64,
    /// Worlds of which a checker could not say.
    pub inconclusive: u64,
    /// Worlds that were run twice.
    pub twice: u64,
    /// Runs in which something does not hold.
    pub failures: Vec<Run>,
    /// How often each mark was hit, in all worlds.
    pub marks: BTreeMap<&'static str, u64>,
    /// What services and bots counted, in all worlds.
    pub counts: BTreeMap<&'static str, u64>,
    /// How often a fault of each kind changed an outcome, by the kind's number.
    pub faults: Vec<u64>,
    /// In how many worlds it did.
    pub worlds_with_fault: Vec<u64>,
    /// Events in all worlds.
    pub events: u64,
    /// World time that passed in all worlds.
    pub simulated: Duration,
    unaffected_by: Option<&'static [FaultKind]>,
}

impl Tally {
    fn new(scenario: &Scenario, regime: Regime) -> Self {
        Self {
            scenario: scenario.name(),
            passed: 0,
            inconclusive: 0,
            twice: 0,
            failures: Vec::new(),
            marks: BTreeMap::new(),
            counts: BTreeMap::new(),
            faults: vec![0; FaultKind::COUNT],
            worlds_with_fault: vec![0; FaultKind::COUNT],
            events: 0,
            simulated: Duration::ZERO,
            unaffected_by: scenario.unaffected_by(regime),
        }
    }

    fn add(&mut self, run: Run, twice: bool) {
        self.twice += u64::from(twice);
        self.events += run.statistics.all_events();
        self.simulated += run.elapsed;
        for (mark, count) in &run.marks {
            *self.marks.entry(mark).or_default() += count;
        }
        for (what, count) in &run.counts {
            *self.counts.entry(what).or_default() += count;
        }
        for &kind in FaultKind::ALL {
            let count = run.statistics.faults(kind);
            self.faults[kind as usize] += count;
            self.worlds_with_fault[kind as usize] += u64::from(count > 0);
        }
        match run.verdict {
            Verdict::Passed | Verdict::Stopped => self.passed += 1,
            Verdict::Inconclusive(_) => self.inconclusive += 1,
            Verdict::Failed(_) => self.failures.push(run),
        }
    }

    /// Worlds that were played.
    #[must_use]
    pub fn worlds(&self) -> u64 {
        self.passed + self.inconclusive + self.failures.len() as u64
    }

    /// Marks that were never hit.
    #[must_use]
    pub fn missed_marks(&self) -> Vec<&'static str> {
        let missed = self.marks.iter().filter(|(_, count)| **count == 0);
        missed.map(|(mark, _)| *mark).collect()
    }

    /// Kinds of faults that should have changed something and never did. Empty if there were too
    /// few worlds to say, or the scenario does not say which should.
    #[must_use]
    pub fn idle_faults(&self) -> Vec<FaultKind> {
        let Some(unaffected_by) = self.unaffected_by else { return Vec::new() };
        if self.worlds() < WORLDS_FOR_ALL_FAULTS {
            return Vec::new();
        }
        let kinds = FaultKind::ALL.iter().copied();
        kinds
            .filter(|&kind| self.faults[kind as usize] == 0 && !unaffected_by.contains(&kind))
            .collect()
    }

    /// Whether everything holds, every mark was hit and every fault mattered.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.failures.is_empty() && self.missed_marks().is_empty() && self.idle_faults().is_empty()
    }
}
