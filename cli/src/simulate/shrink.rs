//! `woodchuck sim shrink`.

use woodchuck_sim::scenario::RunOptions;
use woodchuck_sim::shrink::{ShrinkError, ShrinkOptions, Shrunk};

use super::arguments::{Chosen, WorldNamed};
use super::campaign::judge_run;
use super::quiet::Quiet;
use super::save::SaveArguments;
use super::tell;
use crate::exit::{Exit, Trouble};
use crate::progress;
use crate::text::number;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    world: WorldNamed,

    /// How many runs to spend at most.
    #[arg(long, value_name = "RUNS", default_value_t = ShrinkOptions::default().runs)]
    budget: usize,

    #[command(flatten)]
    save: SaveArguments,
}

/// Finds the simplest tape that fails in the same way, and records it.
pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Trouble> {
    let Chosen { scenario, options, recording, .. } = arguments.world.choose()?;
    let fingerprint = recording.and_then(|recording| recording.fingerprint);
    let wanted = ShrinkOptions { runs: arguments.budget, fingerprint };
    let bar = progress::bar(arguments.budget as u64, "runs", true);
    let quiet = Quiet::new();
    let shrunk = scenario.shrink(&options, &wanted, |progress| {
        bar.set_position(progress.runs as u64);
        let (from, to) = (progress.from as u64, progress.to as u64);
        bar.set_message(format!("{} of {} choices", number(to), number(from)));
    });
    bar.finish_and_clear();
    let Shrunk { tape, runs, from, to, complete, .. } = shrunk.map_err(trouble)?;
    let options = RunOptions { tape: Some(tape), record: true, ..options };
    let run = scenario.run(&options);
    drop(quiet);
    let saved = arguments.save.save(&run, &options)?;
    print!("{}", tell::shrunk(&run, saved.as_deref()));
    let end = if complete { "nothing more goes" } else { "the budget is spent" };
    let (from, to) = (number(from as u64), number(to as u64));
    println!("shrunk from {from} choices to {to} in {runs} runs; {end}");
    Ok(judge_run(&run))
}

fn trouble(error: ShrinkError) -> Trouble {
    Trouble::from(format!("cannot shrink: {error}"))
}
