//! `woodchuck sim faults`.

use std::ops::Range;

use woodchuck_sim::scenario::Campaign;

use super::arguments::{DEFAULT_SCENARIO, parse_seeds, scenario_named};
use super::campaign::{available, play};
use super::{json, tell};
use crate::exit::{Exit, Trouble};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The scenario to play.
    #[arg(default_value = DEFAULT_SCENARIO)]
    scenario: String,

    /// The seeds to play, as FIRST..END, for how often faults mattered.
    #[arg(long, value_name = "A..B", value_parser = parse_seeds, default_value = "0..100")]
    seeds: Range<u64>,

    /// Let there be faults that may stop the product as well.
    #[arg(long)]
    unrestricted: bool,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Trouble> {
    let scenario = scenario_named(&arguments.scenario)?;
    let mut campaign =
        Campaign { jobs: available(), ..Campaign::new(scenario, arguments.seeds.clone()) };
    campaign.twice_one_in = 0;
    // What is counted are faults; whether anything fails is another command's question.
    campaign.failures = usize::MAX;
    if arguments.unrestricted {
        campaign.regime = woodchuck_sim::Regime::Unrestricted;
    }
    let played = play(&campaign, !arguments.json)?;
    if arguments.json {
        println!("{:#}", json::faults(&played.tally));
    } else {
        print!("{}", tell::faults(&played.tally));
    }
    Ok(if played.interrupted { Exit::Interrupted } else { Exit::Done })
}
