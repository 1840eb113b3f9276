//! Everything at once, from one seed: files, connections, mail and timers, with futures that are
//! dropped at every stage, polled once and kept, and polled again much later. What is read back is
//! checked against models, and when the shards are over nothing of theirs is left in the process.
//!
//! One test, because it counts what the whole process has: descriptors, threads, buffers. It takes
//! about two seconds, or as long as `WOODCHUCK_TORTURE_SECONDS` says, with seeds that follow from
//! the first. `WOODCHUCK_TORTURE_SEED` says which that is; choices follow from it, the kernel's
//! timing does not.

mod files;
mod ledger;
mod shard;
mod streams;

use std::time::{Duration, Instant};

use woodchuck_conformance::{BACKENDS, Held, Scratch, Watch, skipped, start};
use woodchuck_io::runtime::Backend;

use ledger::Ledger;
use shard::{ANOTHER_PANICKED, Torture};

/// Steps of one shard in one round.
const STEPS: u64 = 1200;

fn number_from(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is {value:?}, not a number")))
}

#[test]
fn nothing_is_lost_and_nothing_leaks() {
    let mut seed = number_from("WOODCHUCK_TORTURE_SEED").unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(1, |since| since.as_nanos() as u64 & 0xFFFF_FFFF)
    });
    let longest = number_from("WOODCHUCK_TORTURE_SECONDS").map(Duration::from_secs);
    let begun = Instant::now();
    let watch = Watch::start();
    let mut rounds = 0;
    let mut whole_connections = 0;
    loop {
        for &backend in BACKENDS {
            for shards in 1..=3 {
                eprintln!("WOODCHUCK_TORTURE_SEED={seed}: {shards} shards on {backend}");
                watch.begin(format!("seed {seed}, {shards} shards on {backend}"));
                let Some(whole) = round(backend, shards, seed) else { continue };
                rounds += 1;
                whole_connections += whole;
            }
        }
        if rounds == 0 {
            skipped("the torture: every backend is refused");
            return;
        }
        seed += 1;
        if longest.is_none_or(|longest| begun.elapsed() >= longest) {
            break;
        }
    }
    eprintln!("{rounds} rounds of {STEPS} steps a shard, {whole_connections} whole connections");
    assert!(whole_connections > 10 * rounds, "most connections come to their end");
}

/// One life of a runtime. How many connections it had from end to end; None if it cannot start.
fn round(backend: Backend, shards: usize, seed: u64) -> Option<usize> {
    let before = Held::now().and_known_leaks(backend, shards);
    let scratch = Scratch::new(env!("CARGO_TARGET_TMPDIR"));
    let ledger = Ledger::default();
    let program = Torture::new(scratch.path(), seed, STEPS, ledger.clone());
    let runtime = start(backend, shards, program)?;
    assert_eq!(runtime.backend(), backend);
    let ended = runtime.join();
    let panics = ended.iter().filter_map(|ended| ended.as_ref().err());
    if let Some(panic) = panics.min_by_key(|panic| panic.message == ANOTHER_PANICKED) {
        panic!("seed {seed}, {backend}: {panic}");
    }
    before.check_nothing_is_left(&format!("seed {seed}, {shards} shards on {backend}"));
    ledger.check();
    // Nothing is in flight any more, so the files are at rest.
    for model in ended.into_iter().flatten().flatten() {
        model.lock().expect("no check has failed").check_at_rest();
    }
    Some(ledger.whole_connections())
}
