//! `woodchuck sim`.
//!
//! **What lives here.** A file for each verb: `campaign` (run), `replay`, `faults`. What they
//! share: `arguments` reads command lines, `tell` writes for people and `json` for programs, `save`
//! keeps recordings of failures, `progress` draws a bar.
//!
//! **What must never be here.** Anything a test of a scenario needs: that is in `woodchuck-sim`.

mod arguments;
mod campaign;
mod faults;
mod files;
mod json;
mod progress;
mod replay;
mod save;
mod tell;

use crate::exit::{Exit, Trouble, table};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Name the scenarios, with a sentence about each.
    Scenarios {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Play a scenario, a world for each seed.
    #[command(after_help = table())]
    Run(campaign::Arguments),
    /// Play one world again, and tell what happened in it.
    #[command(after_help = table())]
    Replay(replay::Arguments),
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
        Command::Faults(arguments) => faults::run(&arguments),
    }
}
