//! The command line: the processes of a run, each of which is this program.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use woodchuck_io::Program;
use woodchuck_io::runtime::{Backend, Runtime, RuntimeOptions};

use crate::limits::DEVICE_BYTES;
use crate::log::LogWorker;
use crate::rounds::{Level, Outcome, RoundOptions};
use crate::seam::worker::SeamWorker;
use crate::volume::{VolumeOptions, in_own_namespace, refusal};

/// Ends with this if nothing can be checked here.
pub(crate) const SKIPPED: u8 = 77;

#[derive(Parser)]
#[command(about = "Cuts the power under the real kernel, and looks what is left")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Cuts the power under a worker, again and again, and checks what is left each time.
    Rounds {
        /// What is checked: "seam" or "log".
        #[arg(long)]
        level: Level,
        /// The backend: "uring" or "posix".
        #[arg(long, default_value = "uring")]
        io: Backend,
        /// Everything that is drawn is drawn from it. Drawn itself, and told, if left out.
        #[arg(long)]
        seed: Option<u64>,
        #[arg(long, default_value_t = 20)]
        rounds: u64,
        /// The device answers flushes without doing anything. The checks must fail then.
        #[arg(long)]
        ignore_flushes: bool,
        /// Where the volume's mount points are made.
        #[arg(long)]
        directory: Option<PathBuf>,
        /// It runs in a mount namespace of its own already.
        #[arg(long, hide = true)]
        in_own_namespace: bool,
    },
    /// Serves a volume. It is told what to do on its standard input.
    Volume {
        /// An empty directory, for its mount points.
        #[arg(long)]
        directory: PathBuf,
        #[arg(long, default_value_t = DEVICE_BYTES)]
        bytes: u64,
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        ignore_flushes: bool,
    },
    /// Carries out a plan on a backend.
    SeamWorker {
        #[arg(long)]
        io: Backend,
        #[arg(long)]
        directory: PathBuf,
        #[arg(long)]
        seed: u64,
    },
    /// Opens a log and appends to it.
    LogWorker {
        #[arg(long)]
        io: Backend,
        #[arg(long)]
        directory: PathBuf,
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        worker: u64,
        #[arg(long)]
        only_look: bool,
    },
    /// Says whether this can run here, and why not.
    Allowed,
}

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, String> {
    match command {
        Command::Rounds {
            level,
            io,
            seed,
            rounds,
            ignore_flushes,
            directory,
            in_own_namespace,
        } => {
            if let Some(reason) = refusal() {
                return Ok(skip(&reason));
            }
            if !in_own_namespace {
                return Err(start_again());
            }
            let seed = seed.unwrap_or_else(crate::random::seed);
            let directory = directory.unwrap_or_else(|| {
                std::env::temp_dir().join(format!("woodchuck-crash-{}", std::process::id()))
            });
            let options =
                RoundOptions { level, backend: io, seed, rounds, ignore_flushes, directory };
            Ok(match crate::rounds::run(&options) {
                Outcome::Passed => ExitCode::SUCCESS,
                Outcome::Failed => ExitCode::FAILURE,
                Outcome::Skipped => ExitCode::from(SKIPPED),
            })
        }
        Command::Volume { directory, bytes, seed, ignore_flushes } => {
            let options = VolumeOptions { directory, bytes, seed, ignores_flushes: ignore_flushes };
            let ended = crate::volume::run(&options, io::stdin().lock(), io::stdout());
            ended.map(|()| ExitCode::SUCCESS).map_err(|error| format!("the volume: {error}"))
        }
        Command::SeamWorker { io, directory, seed } => work(io, SeamWorker { directory, seed }),
        Command::LogWorker { io, directory, seed, worker, only_look } => {
            work(io, LogWorker { directory, seed, worker, only_look })
        }
        Command::Allowed => Ok(refusal().map_or(ExitCode::SUCCESS, |reason| skip(&reason))),
    }
}

/// Runs this command line again, in a mount namespace of its own. Returns if that fails.
fn start_again() -> String {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return format!("where this program is: {error}"),
    };
    let mut command = in_own_namespace(&program);
    let error = command.args(std::env::args_os().skip(1)).arg("--in-own-namespace").exec();
    format!("a mount namespace: {error}")
}

fn skip(reason: &str) -> ExitCode {
    eprintln!("skipped: power cuts: {reason}");
    ExitCode::from(SKIPPED)
}

/// Runs a worker on one shard.
fn work<P: Program<Output = Result<(), String>>>(
    backend: Backend,
    program: P,
) -> Result<ExitCode, String> {
    let options = RuntimeOptions { shards: 1, backend, pin: false, ..RuntimeOptions::default() };
    let runtime = match Runtime::start(options, program) {
        Ok(runtime) => runtime,
        Err(error) if backend == Backend::Uring => {
            eprintln!("skipped: {error}");
            return Ok(ExitCode::from(SKIPPED));
        }
        Err(error) => return Err(error.to_string()),
    };
    for ended in runtime.join() {
        ended.map_err(|panic| panic.to_string())??;
    }
    Ok(ExitCode::SUCCESS)
}
