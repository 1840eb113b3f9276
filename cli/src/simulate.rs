//! `woodchuck sim`.

use std::ops::Range;
use std::process::ExitCode;

use woodchuck_scenarios::broker;
use woodchuck_sim::FaultKind;
use woodchuck_sim::scenario::{Campaign, RunOptions};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Run a broker and its clients through kills, crashes and power cuts, a world for each seed.
    Run {
        /// The seeds, as FIRST..END.
        #[arg(long, value_name = "A..B", value_parser = parse_seeds, default_value = "0..100")]
        seeds: Range<u64>,
        /// Run every world twice, and fail if the two differ.
        #[arg(long)]
        twice: bool,
        /// How many worlds to run at a time. [default: one for each CPU]
        #[arg(long, value_name = "COUNT")]
        jobs: Option<usize>,
    },
    /// Run one world again, and tell what happened in it.
    Replay {
        /// The seed.
        seed: u64,
    },
}

/// Runs what was asked for. Exit code 1 if any world failed.
pub(crate) fn run(command: &Command) -> Result<ExitCode, String> {
    match command {
        Command::Run { seeds, twice, jobs } => {
            let available = || std::thread::available_parallelism().map_or(1, usize::from);
            campaign(seeds, *twice, jobs.unwrap_or_else(available).max(1))
        }
        Command::Replay { seed } => Ok(replay(*seed)),
    }
}

fn campaign(seeds: &Range<u64>, twice: bool, jobs: usize) -> Result<ExitCode, String> {
    let campaign = Campaign { jobs, ..Campaign::new(broker::scenario(), seeds.clone()) };
    let campaign = if twice { Campaign { twice_one_in: 1, ..campaign } } else { campaign };
    let tally = campaign.run(|_| ());
    for run in &tally.failures {
        println!("FAILED {run}\nto see it again: woodchuck sim replay {}\n", run.seed);
    }
    let idle: Vec<&str> = tally.idle_faults().into_iter().map(FaultKind::name).collect();
    if !idle.is_empty() {
        println!("FAILED these faults never changed an outcome: {}\n", idle.join(", "));
    }
    let count = |what| tally.counts.get(what).copied().unwrap_or_default();
    println!(
        "worlds: {} passed, {} failed; {} crashes and stops, {} records acknowledged, {} read, {} \
         events",
        tally.passed,
        tally.failures.len(),
        count("strikes"),
        count("acknowledged"),
        count("read"),
        tally.events
    );
    let good = tally.failures.is_empty() && idle.is_empty();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn replay(seed: u64) -> ExitCode {
    let run = broker::scenario().run(&RunOptions { record: true, ..RunOptions::new(seed) });
    println!("{run}");
    for &kind in FaultKind::ALL {
        let count = run.statistics.faults(kind);
        if count > 0 {
            println!("  {}: {count}", kind.name());
        }
    }
    if run.violation().is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let wrong = || format!("{text:?} is not FIRST..END, with FIRST below END");
    let (first, end) = text.split_once("..").ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    let seeds = number(first)?..number(end)?;
    if seeds.is_empty() { Err(wrong()) } else { Ok(seeds) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_range() {
        assert_eq!(parse_seeds("3..7"), Ok(3..7));
        for wrong in ["", "3", "7..3", "3..3", "a..b", "..7", "3..=7"] {
            assert!(parse_seeds(wrong).is_err(), "{wrong}");
        }
    }
}
