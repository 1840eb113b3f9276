//! `woodchuck sim`.
//!
//! **What lives here.** A file for each verb: `campaign` (run), `replay`, `shrink`, `diverge`,
//! `faults` and `report`. What they share: `arguments` reads command lines, `tell` writes for people
//! and `json` for programs, `save` keeps recordings of failures, `quiet` keeps panics off the screen.
//!
//! **What must never be here.** Anything a test of a scenario needs: that is in `woodchuck-sim`.

mod arguments;
mod campaign;
mod diverge;
mod faults;
mod files;
mod json;
mod quiet;
mod replay;
mod report;
mod save;
mod shrink;
mod tell;

use crate::exit::{Exit, Trouble, help};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Name the scenarios, with a sentence about each.
    Scenarios {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Play a scenario, a world for each seed.
    #[command(after_help = help(&["sim run --seeds 0..1000", "sim run broker --seeds 0..50 --set net.reset=300"]))]
    Run(campaign::Arguments),
    /// Play one world again, and tell what happened in it.
    #[command(after_help = help(&["sim replay 42", "sim replay tests/regressions/broker-42.tape --until 250ms"]))]
    Replay(replay::Arguments),
    /// Find the least that makes a world fail in the same way, and record it.
    #[command(after_help = help(&["sim shrink broker 42", "sim shrink woodchuck-regressions/broker-42.tape"]))]
    Shrink(shrink::Arguments),
    /// Name the first event in which two runs of one world differ.
    #[command(after_help = help(&["sim diverge broker 42", "sim diverge 42 --unrestricted"]))]
    Diverge(diverge::Arguments),
    /// Play one world, and write a page of HTML that tells what happened in it.
    #[command(after_help = help(&["sim report broker 42", "sim report tests/regressions/broker-42.tape --output why.html"]))]
    Report(report::Arguments),
    /// Tell of every fault that there can be, and how often it mattered in some worlds.
    Faults(faults::Arguments),
}

/// Does what was asked for.
pub(crate) fn run(command: Command) -> Result<Exit, Trouble> {
    match command {
        Command::Scenarios { json } => {
            let told = if json { json::scenarios().to_string() } else { tell::scenarios() };
            println!("{told}");
            Ok(Exit::Done)
        }
        Command::Run(arguments) => campaign::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Shrink(arguments) => shrink::run(&arguments),
        Command::Diverge(arguments) => diverge::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Faults(arguments) => faults::run(&arguments),
    }
}
