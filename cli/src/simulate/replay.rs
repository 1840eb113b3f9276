//! `woodchuck sim replay`.

use std::path::PathBuf;

use woodchuck_sim::scenario::{Recording, Run, RunOptions};

use super::arguments::WorldNamed;
use super::campaign::judge_run;
use super::{json, report, tell};
use crate::exit::{Exit, Trouble};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    world: WorldNamed,

    /// Print JSON.
    #[arg(long)]
    json: bool,

    /// Write a page of HTML that tells what happened, too.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Trouble> {
    let chosen = arguments.world.choose()?;
    let chronicle = arguments.report.is_some();
    let options = RunOptions { record: true, chronicle, ..chosen.options };
    // Not quiet: where a panic came from is worth knowing here.
    let run = chosen.scenario.run(&options);
    if let Some(path) = &arguments.report {
        report::write(path, &run, &chosen.named)?;
    }
    if arguments.json {
        println!("{:#}", json::run(&run, &options));
    } else {
        print!("{}", tell::run(&run, &options));
    }
    if let Some(recording) = &chosen.recording
        && let Some(difference) = difference(recording, &run)
    {
        eprintln!("{difference}");
    }
    Ok(judge_run(&run))
}

/// How a run differs from what was recorded, if it does.
fn difference(recording: &Recording, run: &Run) -> Option<String> {
    let recorded = recording.fingerprint.as_ref()?;
    match run.violation() {
        None => Some(format!("it no longer fails; recorded was {recorded}")),
        Some(violation) if violation.fingerprint() != *recorded => {
            Some(format!("it fails in another way; recorded was {recorded}"))
        }
        Some(_) => None,
    }
}
