//! The `woodchuck` command.
//!
//! **What lives here.** The command line, signals and the log's output; each noun has a file or a
//! folder. What the exit codes mean stands in [`exit`].
//!
//! **How data flows.** Arguments become options. For `serve`, they start a
//! [`woodchuck_io::Program`], and its outcome becomes an exit code; `probe` does the same with a
//! program that measures; for `sim`, they play scenarios; `inspect`, `verify` and `repair` look at a
//! directory that no process has open.
//! What was asked for goes to stdout, all other talk to stderr. A failure is one line on stderr that
//! says why and what to do.
//!
//! **What must never be here.** Anything a library user would miss.

pub mod exit;
pub mod limits;
mod offline;
mod probe;
mod progress;
mod serve;
mod signals;
mod simulate;
mod text;
mod volume;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use exit::{Exit, Trouble};

/// Storage and messaging that survives anything, and proves it.
#[derive(Parser)]
#[command(version, about, max_term_width = 100, after_help = exit::table())]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve Kafka clients from a data directory.
    Serve(serve::Arguments),
    /// Measure a volume, and say what Woodchuck can expect of it and how it will use it.
    #[command(long_about = probe::ABOUT, after_help = probe::examples())]
    Probe(probe::Arguments),
    /// Show what is in a directory that no process has open.
    #[command(subcommand)]
    Inspect(offline::inspect::Command),
    /// Check all that is in a data directory, without opening it.
    #[command(long_about = offline::verify::ABOUT, after_help = offline::verify::examples())]
    Verify(offline::verify::Arguments),
    /// Save what can be saved of a damaged data directory into a new one.
    #[command(long_about = offline::repair::ABOUT, after_help = offline::repair::examples())]
    Repair(offline::repair::Arguments),
    /// Play the product in simulated worlds, with faults, and check what its clients see.
    #[command(subcommand, after_help = exit::table())]
    Sim(simulate::Command),
}

/// Does what the process's arguments ask for.
#[must_use]
pub fn main() -> ExitCode {
    run(std::env::args_os()).into()
}

/// Does what a command line asks for; its first word is the name of the command. Says on stdout and
/// stderr what is to be said.
pub fn run(words: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Exit {
    let arguments = match Arguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nobody can be told if even this fails.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    let outcome = match arguments.command {
        Command::Serve(arguments) => {
            serve::run(arguments).map(|()| Exit::Done).map_err(Trouble::from)
        }
        Command::Probe(arguments) => probe::run(&arguments),
        Command::Inspect(command) => offline::inspect::run(&command),
        Command::Verify(arguments) => offline::verify::run(&arguments),
        Command::Repair(arguments) => offline::repair::run(&arguments),
        Command::Sim(command) => simulate::run(command),
    };
    outcome.unwrap_or_else(|Trouble { exit, message }| {
        eprintln!("woodchuck: {message}");
        exit
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }
}
