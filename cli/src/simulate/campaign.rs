//! `woodchuck sim run`.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::SIGINT;
use woodchuck_sim::FaultKind;
use woodchuck_sim::limits::WORLDS_FOR_ALL_FAULTS;
use woodchuck_sim::scenario::{Campaign, Run, Tally, Verdict};

use super::arguments::{DEFAULT_SCENARIO, WorldArguments, parse_seeds, scenario_named};
use super::quiet::Quiet;
use super::save::SaveArguments;
use super::{json, progress, tell};
use crate::exit::{Exit, Trouble};

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
        Verdict::Failed(violation) if violation.property == "deterministic" => {
            Exit::Nondeterministic
        }
        Verdict::Failed(_) => Exit::Violated,
    }
}
