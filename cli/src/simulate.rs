//! `woodchuck sim`.

use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use woodchuck_scenarios::broker::{self, Report, ScenarioFailure};
use woodchuck_sim::FaultKind;

/// Worlds from which on a campaign must have seen every kind of fault change something.
const WORLDS_FOR_ALL_FAULTS: u64 = 1000;

/// Failures after which a campaign ends early: more of them say nothing new.
const FAILURES: usize = 5;

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

/// What a campaign found so far.
#[derive(Default)]
struct Tally {
    passed: u64,
    strikes: u64,
    acknowledged: u64,
    read: u64,
    events: u64,
    faults: Vec<u64>,
    failures: Vec<(u64, String)>,
}

impl Tally {
    fn add(&mut self, seed: u64, outcome: Result<Report, String>) {
        match outcome {
            Err(message) => self.failures.push((seed, message)),
            Ok(report) => {
                self.passed += 1;
                self.strikes += report.strikes;
                self.acknowledged += report.acknowledged;
                self.read += report.read;
                self.events += report.statistics.all_events();
                self.faults.resize(FaultKind::ALL.len(), 0);
                for (sum, kind) in self.faults.iter_mut().zip(FaultKind::ALL.iter().copied()) {
                    *sum += report.statistics.faults(kind);
                }
            }
        }
    }
}

fn campaign(seeds: &Range<u64>, twice: bool, jobs: usize) -> Result<ExitCode, String> {
    let (next, tally) = (AtomicU64::new(seeds.start), Mutex::new(Tally::default()));
    let lock = || tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || lock().failures.len() >= FAILURES {
                        return;
                    }
                    let outcome = if twice { run_twice(seed) } else { run_once(seed) };
                    lock().add(seed, outcome);
                }
            });
        }
    });
    let mut tally = tally.into_inner().map_err(|_| "a world ended its thread".to_owned())?;
    tally.failures.sort();
    for (_, message) in &tally.failures {
        println!("FAILED {message}\n");
    }
    let idle = idle_faults(&tally);
    if !idle.is_empty() {
        println!("FAILED these faults never changed an outcome: {}\n", idle.join(", "));
    }
    let Tally { passed, strikes, acknowledged, read, events, failures, .. } = &tally;
    println!(
        "worlds: {passed} passed, {} failed; {strikes} crashes and stops, {acknowledged} records \
         acknowledged, {read} read, {events} events",
        failures.len()
    );
    let good = failures.is_empty() && idle.is_empty();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The kinds of fault that were in the world and never mattered, if there were worlds enough.
fn idle_faults(tally: &Tally) -> Vec<String> {
    if tally.passed < WORLDS_FOR_ALL_FAULTS {
        return Vec::new();
    }
    // Disks do not break in this scenario, which promises that nothing is lost; and the broker
    // reads nothing that it is still writing.
    let never = [
        FaultKind::ReadRace,
        FaultKind::DiskError,
        FaultKind::AskedError,
        FaultKind::UnknownBlock,
        FaultKind::StorageFull,
    ];
    let kinds = FaultKind::ALL.iter().copied().zip(&tally.faults);
    kinds
        .filter(|(kind, count)| **count == 0 && !never.contains(kind))
        .map(|(kind, _)| format!("{kind:?}"))
        .collect()
}

fn run_once(seed: u64) -> Result<Report, String> {
    broker::run(seed).map_err(|failure: Box<ScenarioFailure>| failure.to_string())
}

fn run_twice(seed: u64) -> Result<Report, String> {
    let (first, second) = (run_once(seed)?, run_once(seed)?);
    if first.trace_hash == second.trace_hash {
        return Ok(first);
    }
    Err(format!(
        "seed {seed}: two runs differ, with trace hashes {:016x} and {:016x}",
        first.trace_hash, second.trace_hash
    ))
}

fn replay(seed: u64) -> ExitCode {
    match broker::run(seed) {
        Ok(report) => {
            println!(
                "seed {seed}: passed; trace hash {:016x}, {:?} of world time, {} crashes and \
                 stops, {} records acknowledged, {} read, {} events",
                report.trace_hash,
                report.elapsed,
                report.strikes,
                report.acknowledged,
                report.read,
                report.statistics.all_events()
            );
            for &kind in FaultKind::ALL {
                let count = report.statistics.faults(kind);
                if count > 0 {
                    println!("  {kind:?}: {count}");
                }
            }
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("FAILED {failure}");
            println!("choices that were not the harmless one: {}", failure.tape.len());
            ExitCode::FAILURE
        }
    }
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
