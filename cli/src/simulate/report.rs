//! `woodchuck sim report`.

use std::path::{Path, PathBuf};

use woodchuck_sim::Chronicle;
use woodchuck_sim::report::Report;
use woodchuck_sim::scenario::{Run, RunOptions};

use super::arguments::{Chosen, WorldNamed};
use super::campaign::judge_run;
use super::quiet::Quiet;
use super::{files, tell};
use crate::exit::{Exit, Trouble};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    world: WorldNamed,

    /// Where to write the page. [default: SCENARIO-SEED.html]
    #[arg(long, value_name = "FILE.html")]
    output: Option<PathBuf>,
}

/// Plays a world, and writes a page that tells what happened in it.
pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Trouble> {
    let Chosen { scenario, options, named, .. } = arguments.world.choose()?;
    let options = RunOptions { record: true, chronicle: true, ..options };
    let quiet = Quiet::new();
    let run = scenario.run(&options);
    drop(quiet);
    let default = || PathBuf::from(format!("{}-{}.html", run.scenario, run.seed));
    let path = arguments.output.clone().unwrap_or_else(default);
    write(&path, &run, &named)?;
    println!("{}", path.display());
    Ok(judge_run(&run))
}

/// Writes the page of a run whose chronicle was kept.
pub(super) fn write(path: &Path, run: &Run, named: &str) -> Result<(), String> {
    let none = Chronicle::default();
    let report = Report {
        commands: tell::commands(run, named),
        ..Report::new(run, run.chronicle.as_ref().unwrap_or(&none))
    };
    files::write(path, &report.html())
}
