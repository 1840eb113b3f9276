//! `woodchuck sim run`.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::SIGINT;
use woodchuck_sim::FaultKind;
use woodchuck_sim::limits::WORLDS_FOR_ALL_FAULTS;
use woodchuck_sim::scenario::{Campaign, Run, Tally, Verdict, Violation};

use super::arguments::{DEFAULT_SCENARIO, WorldArguments, parse_seeds, scenario_named};
use super::quiet::Quiet;
use super::save::SaveArguments;
use super::{json, tell};
use crate::exit::{Exit, Trouble};
use crate::progress;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The scenario.
    #[arg(default_value = DEFAULT_SCENARIO)]
    scenario: String,

    /// The seeds, as FIRST..END.
    #[arg(long, value_name = "A..B", value_parser = parse_seeds, default_value = "0..100")]
    seeds: Range<u64>,

    /// How many worlds to run at a time. [default: one for each CPU]
    #[arg(long, value_name = "COUNT")]
    jobs: Option<usize>,

    /// Run every world twice, not one in twenty, and fail if the two differ.
    #[arg(long)]
    twice: bool,

    /// How many failures end the campaign.
    #[arg(long, value_name = "COUNT", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..))]
    failures: u32,

    #[command(flatten)]
    world: WorldArguments,

    #[command(flatten)]
    save: SaveArguments,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    fn campaign(&self) -> Result<Campaign, Trouble> {
        let scenario = scenario_named(&self.scenario)?;
        let campaign = Campaign::new(scenario, self.seeds.clone());
        Ok(Campaign {
            regime: self.world.regime(),
            knobs: self.world.knobs.clone(),
            until: self.world.until,
            jobs: self.jobs.unwrap_or_else(available).max(1),
            twice_one_in: if self.twice { 1 } else { campaign.twice_one_in },
            failures: self.failures as usize,
            ..campaign
        })
    }
}

/// How many threads can run at a time.
pub(super) fn available() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A campaign that was played.
pub(super) struct Played {
    pub(super) tally: Tally,
    /// What it took.
    pub(super) real: Duration,
    /// A signal ended it early.
    pub(super) interrupted: bool,
}

/// Plays a campaign, with a bar if `talk`. The first interrupt ends it once the worlds under way
/// have come to their ends, the second at once.
pub(super) fn play(campaign: &Campaign, talk: bool) -> Result<Played, String> {
    let stop = Arc::new(AtomicBool::new(false));
    let code = i32::from(Exit::Interrupted.code());
    signal_hook::flag::register_conditional_shutdown(SIGINT, code, Arc::clone(&stop))
        .and_then(|_| signal_hook::flag::register(SIGINT, Arc::clone(&stop)))
        .map_err(|error| format!("cannot watch for signals: {error}"))?;
    let bar = progress::bar(campaign.seeds.end - campaign.seeds.start, "worlds", talk);
    let began = now();
    let quiet = Quiet::new();
    let tally = campaign.run_while(|tally| {
        bar.set_position(tally.worlds());
        if !tally.failures.is_empty() {
            bar.set_message(format!("{} failed", tally.failures.len()));
        }
        !stop.load(Ordering::Relaxed)
    });
    drop(quiet);
    bar.finish_and_clear();
    let interrupted = stop.load(Ordering::Relaxed);
    Ok(Played { tally, real: began.elapsed(), interrupted })
}

#[expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "what people wait for")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// What is wrong with a campaign rather than with what it tests.
#[derive(Default)]
pub(super) struct Idle {
    pub(super) faults: Vec<FaultKind>,
    pub(super) marks: Vec<&'static str>,
}

impl Idle {
    /// What should have come in so many worlds and never did. Nothing is asked of worlds that were
    /// made to order.
    fn of(campaign: &Campaign, tally: &Tally) -> Self {
        let to_order = !campaign.knobs.is_empty() || campaign.until.is_some();
        if to_order || tally.worlds() < WORLDS_FOR_ALL_FAULTS {
            return Self::default();
        }
        Self { faults: tally.idle_faults(), marks: tally.missed_marks() }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.faults.is_empty() && self.marks.is_empty()
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Trouble> {
    let campaign = arguments.campaign()?;
    let played = play(&campaign, !arguments.json)?;
    let idle = Idle::of(&campaign, &played.tally);
    let exit = judge(&played, &idle);
    let mut saved = Vec::new();
    for run in &played.tally.failures {
        saved.push(arguments.save.save(run, &campaign.options(run.seed))?);
    }
    if arguments.json {
        println!("{:#}", json::campaign(&campaign, &played, &idle, &saved, exit));
        return Ok(exit);
    }
    for (run, saved) in played.tally.failures.iter().zip(&saved) {
        println!("{}", tell::failure(run, &campaign.options(run.seed), saved.as_deref()));
    }
    print!("{}", tell::campaign(&played, &idle, exit));
    Ok(exit)
}

/// What a campaign came to.
fn judge(played: &Played, idle: &Idle) -> Exit {
    let tally = &played.tally;
    let exits: Vec<Exit> = tally.failures.iter().map(judge_run).collect();
    if played.interrupted {
        Exit::Interrupted
    } else if exits.contains(&Exit::Violated) {
        Exit::Violated
    } else if exits.contains(&Exit::Nondeterministic) {
        Exit::Nondeterministic
    } else if !idle.is_empty() {
        Exit::HarnessBug
    } else if tally.inconclusive > 0 {
        Exit::Inconclusive
    } else {
        Exit::Done
    }
}

/// What a run came to.
pub(super) fn judge_run(run: &Run) -> Exit {
    match &run.verdict {
        Verdict::Passed | Verdict::Stopped => Exit::Done,
        Verdict::Inconclusive(_) => Exit::Inconclusive,
        Verdict::Failed(violation) if violation.property == Violation::DETERMINISTIC => {
            Exit::Nondeterministic
        }
        Verdict::Failed(_) => Exit::Violated,
    }
}

#[cfg(test)]
mod tests {
    use woodchuck_sim::scenario::{RunOptions, Scenario, Stage};

    use super::*;

    /// Plays worlds of a scenario that is set so, and judges them.
    fn played(
        worlds: u64,
        set: impl Fn(&mut Stage) + Send + Sync + 'static,
    ) -> (Campaign, Played, Idle, Exit) {
        let campaign = Campaign::new(Scenario::new("test", "A test.", set), 0..worlds);
        let played =
            Played { tally: campaign.run(|_| ()), real: Duration::ZERO, interrupted: false };
        let idle = Idle::of(&campaign, &played.tally);
        let exit = judge(&played, &idle);
        (campaign, played, idle, exit)
    }

    fn judged(set: impl Fn(&mut Stage) + Send + Sync + 'static) -> Exit {
        played(2, set).3
    }

    #[test]
    fn each_outcome_has_its_exit_code() {
        assert_eq!(judged(|_| ()), Exit::Done);
        assert_eq!(judged(|stage| stage.observer().violated("holds", "no")), Exit::Violated);
        assert_eq!(judged(|stage| stage.observer().inconclusive("who knows")), Exit::Inconclusive);
        let differs = |stage: &mut Stage| stage.observer().violated(Violation::DETERMINISTIC, "no");
        assert_eq!(judged(differs), Exit::Nondeterministic);
        let (_, mut played, idle, _) = played(1, |stage| stage.observer().violated("holds", "no"));
        played.interrupted = true;
        assert_eq!(judge(&played, &idle), Exit::Interrupted);
    }

    #[test]
    fn what_never_happens_in_many_worlds_is_a_bug_of_the_harness() {
        let set = |stage: &mut Stage| stage.sometimes("never");
        let (_, _, idle, exit) = played(WORLDS_FOR_ALL_FAULTS - 1, set);
        assert!(idle.is_empty() && exit == Exit::Done, "too few worlds to say");
        let (campaign, played, idle, exit) = played(WORLDS_FOR_ALL_FAULTS, set);
        assert_eq!((idle.marks.as_slice(), exit), (&["never"][..], Exit::HarnessBug));
        assert!(idle.faults.contains(&FaultKind::PowerCut));
        let told = tell::campaign(&played, &idle, exit);
        assert!(told.contains("FAILED these marks were never hit: never\n"), "{told}");
        assert!(told.contains("power-cut"), "{told}");
        let to_order = Campaign { knobs: vec![("net.reset".to_owned(), 0)], ..campaign };
        assert!(Idle::of(&to_order, &played.tally).is_empty(), "it was asked for");
    }

    #[test]
    fn the_last_line_counts_worlds() {
        let (_, played, idle, exit) = played(7, |stage| stage.observer().count("strikes", 1));
        let told = tell::campaign(&played, &idle, exit);
        let last = told.lines().last().unwrap_or_default();
        assert!(last.starts_with("worlds: 7 passed, 0 failed; strikes 7, events "), "{told}");
        assert!(told.starts_with("ok 7 worlds · "), "{told}");
    }

    #[test]
    fn a_failure_is_told_with_what_to_type() {
        let set = |stage: &mut Stage| {
            stage.observer().violated_on("bed", "wakes up", "it still sleeps\nat 9");
        };
        let (campaign, played, idle, exit) = played(1, set);
        let run = &played.tally.failures[0];
        let options =
            RunOptions { knobs: vec![("disk.slow".to_owned(), 7)], ..campaign.options(0) };
        let told = tell::failure(run, &options, Some(std::path::Path::new("a/test-0.tape")));
        let expected = "FAILED wakes up  seed 0  t=0.000000s  step 0  machine bed\n  \
                        it still sleeps\n  at 9\n  \
                        reproduce : woodchuck sim replay test 0 --set disk.slow=7\n  \
                        shrink    : woodchuck sim shrink test 0 --set disk.slow=7\n  \
                        report    : woodchuck sim report test 0 --set disk.slow=7\n  \
                        saved     : a/test-0.tape (check this file in)\n";
        assert_eq!(told, expected);
        let json = json::campaign(&campaign, &played, &idle, &[None], exit);
        assert_eq!((&json["failed"], &json["exit"]), (&1.into(), &10.into()));
        let failure = &json["failures"][0];
        assert_eq!(failure["violation"]["property"], "wakes up");
        assert_eq!(failure["reproduce"], "woodchuck sim replay test 0");
        assert!(failure["saved"].is_null());
    }
}
