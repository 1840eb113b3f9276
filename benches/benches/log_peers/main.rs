//! Durable commits of 1 KiB through the log, beside the engines that others use: by one writer, who
//! waits for each acknowledgement before the next commit, and by 64 at once, each of whom does.
//!
//! `cargo bench -p woodchuck-benches --features peers --bench log_peers` prints the table of
//! `docs/benchmarks.md`; without the feature, only the log and the limit are measured. `RocksDB` is
//! measured by its own `db_bench`, if there is one. Every measurement runs in a process and a
//! directory of its own, and the variants of a case take turns: what is compared ran within
//! seconds. `WOODCHUCK_BENCH_ROUNDS` sets how many turns (7), `WOODCHUCK_BENCH_CASE` picks one case,
//! `WOODCHUCK_BENCH_DIRECTORY` says where the files go.

mod ours;
mod with_db_bench;
#[cfg(feature = "peers")]
mod with_fjall;
#[cfg(feature = "peers")]
mod with_redb;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use woodchuck_benches::{by_turns, directory, in_own_process, median, number};
use woodchuck_io::ceiling::{Access, Transfers, make_file, process_busy_time};
use woodchuck_io::runtime::CompletionMode;

/// Before the measuring begins.
const WARM_UP: Duration = Duration::from_millis(500);
const MEASURED: Duration = Duration::from_millis(1500);

const RECORD_BYTES: usize = 1024;
/// What the limit writes over and over, and how many blocks of it are measured.
const RING_BYTES: u64 = 64 << 20;
const RING_WRITES: u64 = 10_000;

/// How many writers there are.
const CASES: [usize; 2] = [1, 64];

/// The first is what the others are compared with.
const VARIANTS: &[&str] = &[
    "woodchuck",
    #[cfg(feature = "peers")]
    "fjall",
    #[cfg(feature = "peers")]
    "redb",
    ROCKSDB,
    RING,
];
const ROCKSDB: &str = "RocksDB";
const RING: &str = "bare ring, a 4 KiB block at a time";

const WARMING_UP: u8 = 1;
const MEASURING: u8 = 2;
const OVER: u8 = 3;

/// What the measuring thread tells the writers.
#[derive(Default)]
struct Control {
    phase: AtomicU8,
}

impl Control {
    /// The writers begin.
    fn begin(&self) {
        self.phase.store(WARMING_UP, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == OVER
    }

    /// Notes the time of a commit that was acknowledged just now, while it is measured.
    fn note(&self, begun: Instant, times: &mut Vec<Duration>) {
        if self.phase.load(Ordering::Relaxed) == MEASURING {
            times.push(begun.elapsed());
        }
    }
}

/// Commits a second; their times, and the CPU time of each, in microseconds.
#[derive(Clone, Copy)]
struct Figures {
    rate: f64,
    median: f64,
    late: f64,
    busy: f64,
}

/// Commits with one thread for each writer, until `control` says that it is over. `commit` is given
/// a number that no other commit has.
#[cfg(feature = "peers")]
fn with_threads(writers: usize, control: &Control, commit: impl Fn(u64) + Sync) -> Vec<Duration> {
    let commit = &commit;
    let write = |writer: usize| {
        let mut times = Vec::with_capacity(1 << 16);
        for count in 0_u64.. {
            if control.is_over() {
                break;
            }
            let begun = Instant::now();
            commit(count * writers as u64 + writer as u64);
            control.note(begun, &mut times);
        }
        times
    };
    control.begin();
    thread::scope(|scope| {
        let writing: Vec<_> =
            (0..writers).map(|writer| scope.spawn(move || write(writer))).collect();
        writing.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    })
}

/// Commits until `control` says that it is over. The times of all commits.
fn run(variant: &str, writers: usize, directory: &Path, control: &Arc<Control>) -> Vec<Duration> {
    match variant {
        #[cfg(feature = "peers")]
        "fjall" => with_fjall::run(writers, directory, control),
        #[cfg(feature = "peers")]
        "redb" => with_redb::run(writers, directory, control),
        _ => ours::run(writers, directory, control),
    }
}

/// One measurement.
fn measure_here(variant: &'static str, writers: usize, directory: &Path) -> Figures {
    match variant {
        ROCKSDB => return with_db_bench::measure(writers, directory),
        RING => return limit(&directory.join("ring")),
        _ => {}
    }
    let control = Arc::new(Control::default());
    let (shared, place) = (Arc::clone(&control), directory.to_owned());
    let runs = thread::spawn(move || run(variant, writers, &place, &shared));
    while control.phase.load(Ordering::Relaxed) != WARMING_UP {
        assert!(!runs.is_finished(), "it ended before it began");
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(WARM_UP);
    let look = || (Instant::now(), process_busy_time().expect("the time of the process"));
    let (start, busy_before) = look();
    control.phase.store(MEASURING, Ordering::Relaxed);
    thread::sleep(MEASURED);
    let (end, busy_after) = look();
    control.phase.store(OVER, Ordering::Relaxed);
    let mut times = runs.join().expect("no panic");
    times.sort_unstable();
    let at = |share: usize| {
        times.get(times.len() * share / 100).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    Figures {
        rate: times.len() as f64 / (end - start).as_secs_f64(),
        median: at(50),
        late: at(99),
        busy: (busy_after - busy_before).as_secs_f64() * 1e6 / times.len() as f64,
    }
}

/// Durable blocks through a bare ring, one at a time.
fn limit(path: &Path) -> Figures {
    let plan = Transfers {
        access: Access::DurableWrite,
        bytes: 4096,
        in_flight: 1,
        transfers: RING_WRITES,
        file_bytes: RING_BYTES,
        completion_mode: CompletionMode::default(),
        registered_buffers: true,
        registered_file: true,
        wait_for: 1,
    };
    make_file(path, RING_BYTES).expect("there is room");
    let took = plan.measure_in(path).expect("io_uring and direct I/O are allowed here");
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    Figures {
        rate: RING_WRITES as f64 / took.elapsed.as_secs_f64(),
        median: micros(took.median),
        late: micros(took.late),
        busy: micros(took.busy) / RING_WRITES as f64,
    }
}

fn measure(writers: usize, variant: &str) -> Figures {
    let numbers = in_own_process(&["--measure", variant, &writers.to_string()]);
    let [rate, median, late, busy] = numbers[..] else { panic!("not four figures: {numbers:?}") };
    Figures { rate, median, late, busy }
}

/// Measures the variants of a case in turn and prints a row for each.
fn rows(writers: usize, variants: &[&str], rounds: usize) {
    let figures = by_turns(variants, rounds, |variant| measure(writers, variant));
    for (variant, taken) in variants.iter().zip(&figures) {
        let middle = |of: fn(&Figures) -> f64| median(taken.iter().map(of));
        let ratio = |of: fn(&Figures) -> f64| {
            median(taken.iter().zip(&figures[0]).map(|(one, base)| of(one) / of(base)))
        };
        println!(
            "| {writers} | {variant} | {:.0} | {:.2} | {:.0} | {:.2} | {:.0} | {:.2} | {:.1} | \
             {:.2} |",
            middle(|one| one.rate),
            ratio(|one| one.rate),
            middle(|one| one.median),
            ratio(|one| one.median),
            middle(|one| one.late),
            ratio(|one| one.late),
            middle(|one| one.busy),
            ratio(|one| one.busy),
        );
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, variant, writers] = &arguments[..]
        && flag == "--measure"
    {
        let variant = VARIANTS.iter().find(|one| *one == variant).expect("a variant");
        let otherwise = std::env::temp_dir();
        let directory = directory(&otherwise.to_string_lossy());
        let directory = directory.join(format!("woodchuck-log-peers-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("the directory can be made");
        let figures = measure_here(variant, writers.parse().expect("a number"), &directory);
        std::fs::remove_dir_all(&directory).expect("the directory can be removed");
        let Figures { rate, median, late, busy } = figures;
        println!("{rate} {median} {late} {busy}");
        return;
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("nothing is measured without `cargo bench`");
        return;
    }
    let mut variants = VARIANTS.to_vec();
    if !with_db_bench::is_there() {
        println!("There is no db_bench here, so that RocksDB is not measured.");
        variants.retain(|variant| *variant != ROCKSDB);
    }
    let rounds = number("WOODCHUCK_BENCH_ROUNDS", 7).max(1);
    let chosen = number("WOODCHUCK_BENCH_CASE", CASES.len());
    println!(
        "| writers | through | commits/s | ratio | p50 us | ratio | p99 us | ratio | \
         CPU us/commit | ratio |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for (number, writers) in CASES.into_iter().enumerate() {
        if chosen == number || chosen >= CASES.len() {
            rows(writers, &variants, rounds);
        }
    }
}
