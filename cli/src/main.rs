//! The `woodchuck` command.
//!
//! **What lives here.** The command line, signals and the log's output; each noun has a file.
//!
//! **How data flows.** Arguments become options, options start a [`woodchuck_io::Program`], and its
//! outcome becomes an exit code: 0 done, 1 failed (one line on stderr says why and what to do), 2
//! the command line makes no sense.
//!
//! **What must never be here.** Anything a library user would miss.

mod serve;
mod simulate;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Storage and messaging that survives anything, and proves it.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve Kafka clients from a data directory.
    Serve(serve::Arguments),
    /// Run the broker in simulated worlds, with faults, and check what its clients see.
    #[command(subcommand)]
    Sim(simulate::Command),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Sim(command) => simulate::run(&command),
    };
    match outcome {
        Ok(code) => code,
        Err(message) => {
            eprintln!("woodchuck: {message}");
            ExitCode::FAILURE
        }
    }
}
