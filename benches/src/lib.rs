//! Benchmarks stand in `benches/`; here is what several of them need.

use std::path::PathBuf;
use std::process::Command;

use woodchuck_io::Program;
use woodchuck_io::runtime::{Backend, Runtime, RuntimeOptions};

/// Where benchmarks put their files: `WOODCHUCK_BENCH_DIRECTORY`, or else `otherwise`.
#[must_use]
pub fn directory(otherwise: &str) -> PathBuf {
    std::env::var_os("WOODCHUCK_BENCH_DIRECTORY")
        .map_or_else(|| PathBuf::from(otherwise), PathBuf::from)
}

/// The middle one of some values; of an even number, the upper of the two.
///
/// # Panics
/// If there are none.
#[must_use]
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Measures the variants by turns, so that what is compared ran within seconds: every other round
/// backwards, so that nobody always comes first. What was measured, by variant and round.
pub fn by_turns<V: Copy, T>(
    variants: &[V],
    rounds: usize,
    mut measure: impl FnMut(V) -> T,
) -> Vec<Vec<T>> {
    let mut measured: Vec<Vec<T>> = variants.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..variants.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            measured[index].push(measure(variants[index]));
        }
    }
    measured
}

/// Runs this program again with `arguments`, in a process of its own. The numbers that it prints.
///
/// # Panics
/// If it cannot be run, fails, or prints anything else.
#[must_use]
pub fn in_own_process(arguments: &[&str]) -> Vec<f64> {
    let program = std::env::current_exe().expect("the path of this program");
    let output = Command::new(program).args(arguments).output().expect("this program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Option<Vec<f64>> = text.split_whitespace().map(|word| word.parse().ok()).collect();
    match numbers {
        Some(numbers) if output.status.success() => numbers,
        _ => panic!("no figures: {output:?}"),
    }
}

/// What an environment variable sets, or else `otherwise`.
///
/// # Panics
/// If it is set to anything but a number: a benchmark that takes something else runs for long.
#[must_use]
pub fn number(variable: &str, otherwise: usize) -> usize {
    let set = std::env::var(variable).ok();
    let parse =
        |text: String| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number"));
    set.map_or(otherwise, parse)
}

/// What a program returns that runs alone, on one shard of a ring.
///
/// # Panics
/// If rings are refused, or it panics.
pub fn on_one_shard<P: Program>(pin: bool, program: P) -> P::Output {
    let options =
        RuntimeOptions { shards: 1, backend: Backend::Uring, pin, ..RuntimeOptions::default() };
    let runtime = Runtime::start(options, program).expect("io_uring is allowed here");
    runtime.join().pop().expect("there is one shard").expect("it did not panic")
}
