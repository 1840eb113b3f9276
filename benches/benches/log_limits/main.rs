//! The log beside the limits of what it stands on: the device, through a bare ring, and one core.
//!
//! - **Lone commits** of 100 bytes, one at a time, beside durable 4 KiB blocks through a bare ring.
//! - **Large commits** of 1 MiB beside durable 1 MiB blocks through a bare ring, as many in flight:
//!   in order with all others, and in lanes, where their bytes stand beside the frames.
//! - **Lone commits beside large ones**, that somebody else makes.
//! - **Many partitions**: 1000 tasks that commit 100 bytes each, beside one that keeps 1000 such
//!   commits waiting.
//! - **Partitions of an engine**: 1000 tasks that append a batch of one record of 100 bytes each, to a
//!   partition each, beside as many that append to one partition.
//! - **Full load**: what a record of 1 KiB takes of the CPU when the queue is always full.
//! - **Recovery** of 1 GiB beside reads of the same files in order, and beside checksums alone.
//!
//! `taskset -c 1 cargo bench -p woodchuck-benches --bench log_limits` prints the tables of
//! `docs/benchmarks.md`, on the CPU that handles the disk's interrupts; frames that gather are in
//! `log_append`. Every measurement runs in a process and a directory of
//! its own, and the variants of a table take turns: what is compared ran within seconds.
//! `WOODCHUCK_BENCH_ROUNDS` sets how many turns (7), `WOODCHUCK_BENCH_CASE` picks one table, counted
//! from 0, `WOODCHUCK_BENCH_DIRECTORY` says where the files go.

mod beside;
mod commits;
mod partitions;
mod recovery;

use std::path::Path;
use std::time::Duration;

use woodchuck_benches::{by_turns, directory, in_own_process, median, number};
use woodchuck_io::ceiling::{Access, Took, Transfers};
use woodchuck_io::runtime::CompletionMode;

use beside::Large;
use commits::Load;

/// What the ring writes over and over.
const RING_BYTES: u64 = 256 << 20;
const MIB: usize = 1 << 20;

/// One way of doing what a table is about.
#[derive(Clone, Copy)]
enum Way {
    /// Commits through the log.
    Log(Load),
    /// So many durable blocks of 4 KiB, one at a time, beside 4 of 1 MiB, all through bare rings.
    RingBeside(u64),
    /// So many lone small commits beside large ones.
    Beside(Large, u64),
    /// Durable blocks of so many bytes through a bare ring, so many in flight, so many in all.
    Ring(usize, usize, u64),
    /// Appends through an engine to so many partitions, by so many tasks, so many in all.
    Engine(u32, usize, u64),
    /// Opening a log that is there.
    Open,
    /// Reading its files, so many blocks of 1 MiB at a time, into so many in turn.
    Read(usize, usize),
    /// The same, and a checksum of each block while another is read.
    ReadAndCheck(usize, usize),
    /// Checksums of 1 MiB blocks.
    Checksum,
}

/// A table: its name, and the ways by name. The first is what the others are compared with.
type Table = (&'static str, &'static [(&'static str, Way)]);

const TABLES: [Table; 8] = [
    (
        "Lone commits of 100 B",
        &[
            ("bare ring, 4 KiB", Way::Ring(4096, 1, 10_000)),
            ("log", Way::Log(Load::Pipelined { bytes: 100, waiting: 1, commits: 10_000 })),
        ],
    ),
    (
        "Commits of 1 MiB, 1 in flight",
        &[
            ("bare ring, 1 MiB", Way::Ring(MIB, 1, 1200)),
            ("bare ring, 1 MiB and 4 KiB", Way::Ring(MIB + 4096, 1, 1200)),
            ("log", large(1, false)),
            ("log, in lanes", large(1, true)),
        ],
    ),
    (
        "Commits of 1 MiB, 4 in flight",
        &[
            ("bare ring, 1 MiB", Way::Ring(MIB, 4, 2400)),
            ("bare ring, 1 MiB and 4 KiB", Way::Ring(MIB + 4096, 4, 2400)),
            ("log", large(4, false)),
            ("log, in lanes", large(4, true)),
        ],
    ),
    (
        "A lone commit of 100 B, beside 4 of 1 MiB",
        &[
            ("bare ring, 4 KiB beside 1 MiB", Way::RingBeside(2500)),
            ("log, nothing beside", Way::Beside(Large::None, 5000)),
            ("log, in order", Way::Beside(Large::InOrder, 2500)),
            ("log, in lanes", Way::Beside(Large::InALane, 2500)),
        ],
    ),
    (
        "1000 commits of 100 B at a time",
        &[
            ("one partition", partitions(1, 1000)),
            ("1000 partitions", partitions(1000, 1)),
            (
                "one task that takes all acknowledgements at once",
                Way::Log(Load::Pipelined { bytes: 100, waiting: 1000, commits: 1_500_000 }),
            ),
        ],
    ),
    (
        "1000 tasks that append 100 B through an engine",
        &[
            ("one partition", Way::Engine(1, 1000, 750_000)),
            ("1000 partitions", Way::Engine(1000, 1000, 750_000)),
        ],
    ),
    (
        "Records of 1 KiB at full load",
        &[("log", Way::Log(Load::Pipelined { bytes: 1024, waiting: 16_000, commits: 1_500_000 }))],
    ),
    (
        "Recovery of 1 GiB",
        &[
            ("reads of 1 MiB, 1 in flight", Way::Read(1, 1)),
            ("reads of 1 MiB, 2 in flight", Way::Read(2, 2)),
            ("reads of 1 MiB, 4 in flight", Way::Read(4, 4)),
            ("reads of 1 MiB, 2 in flight, into 4 MiB in turn", Way::Read(2, 4)),
            ("the same, each checksummed", Way::ReadAndCheck(2, 4)),
            ("checksums of 1 MiB", Way::Checksum),
            ("open", Way::Open),
        ],
    ),
];

const fn partitions(tasks: usize, waiting: usize) -> Way {
    Way::Log(Load::Partitions { bytes: 100, tasks, waiting, commits: 1_500_000 })
}

const fn large(in_flight: usize, in_lanes: bool) -> Way {
    let commits = 1200 * (1 + in_flight as u64 / 4);
    Way::Log(Load::Large { bytes: MIB, in_flight, in_lanes, commits })
}

/// The table that is about bytes rather than commits.
const RECOVERY: usize = TABLES.len() - 1;

/// Operations a second, or MB; of one operation the times, and the CPU time, in microseconds, or
/// zeros.
#[derive(Clone, Copy)]
struct Figures {
    rate: f64,
    median: f64,
    late: f64,
    busy: f64,
}

impl Figures {
    /// Of so many operations, and of the process's CPU time.
    fn new(took: &Took, operations: u64) -> Self {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        Self {
            rate: operations as f64 / took.elapsed.as_secs_f64(),
            median: micros(took.median),
            late: micros(took.late),
            busy: micros(took.busy) / operations as f64,
        }
    }
}

fn ring(path: &Path, bytes: usize, in_flight: usize, transfers: u64) -> Figures {
    let plan = Transfers {
        access: Access::DurableWrite,
        bytes,
        in_flight,
        transfers,
        file_bytes: RING_BYTES / bytes as u64 * bytes as u64,
        completion_mode: CompletionMode::default(),
        registered_buffers: true,
        registered_file: true,
        wait_for: 1,
    };
    let took = plan.measure(path).expect("io_uring and direct I/O are allowed here");
    Figures::new(&took, transfers)
}

/// One measurement. `directory` is there, and for recovery has a log in it.
fn measure_here(way: Way, directory: &Path) -> Figures {
    match way {
        Way::Log(load) => commits::measure(load, directory),
        Way::RingBeside(blocks) => beside::ring(blocks, directory),
        Way::Beside(large, commits) => beside::measure(large, commits, directory),
        Way::Ring(bytes, in_flight, transfers) => {
            ring(&directory.join("ring"), bytes, in_flight, transfers)
        }
        Way::Engine(partitions, tasks, appends) => {
            partitions::measure(partitions, tasks, appends, directory)
        }
        Way::Open => recovery::open(directory),
        Way::Read(in_flight, buffers) => recovery::read(directory, in_flight, buffers, false),
        Way::ReadAndCheck(in_flight, buffers) => {
            recovery::read(directory, in_flight, buffers, true)
        }
        Way::Checksum => recovery::checksums(),
    }
}

/// Measures the ways of a table in turn and prints a row for each.
fn print(number: usize, rounds: usize, directory: &Path) {
    let (name, ways) = TABLES[number];
    let place = directory.to_str().expect("a path in UTF-8");
    let indices: Vec<usize> = (0..ways.len()).collect();
    let figures = by_turns(&indices, rounds, |way| {
        let numbers = in_own_process(&["--measure", &number.to_string(), &way.to_string(), place]);
        let [rate, median, late, busy] = numbers[..] else { panic!("no figures: {numbers:?}") };
        Figures { rate, median, late, busy }
    });
    for ((way, _), taken) in ways.iter().zip(&figures) {
        let middle = |of: fn(&Figures) -> f64| median(taken.iter().map(of));
        let ratio = |of: fn(&Figures) -> f64| {
            median(taken.iter().zip(&figures[0]).map(|(one, base)| of(one) / of(base)))
        };
        print!("| {name} | {way} | {:.0} | {:.2} |", middle(|one| one.rate), ratio(|one| one.rate));
        if number != RECOVERY {
            print!(" {:.1} | {:.2} |", middle(|one| one.median), ratio(|one| one.median));
            print!(" {:.1} | {:.2} |", middle(|one| one.late), ratio(|one| one.late));
            print!(" {:.2} | {:.2} |", middle(|one| one.busy), ratio(|one| one.busy));
        }
        println!();
    }
    if number == RECOVERY {
        let beside = |what: &str, is_meant: fn(&Way) -> bool| {
            let best = |round: usize| {
                let meant = figures.iter().zip(ways).filter(|(_, (_, way))| is_meant(way));
                meant.map(|(taken, _)| taken[round].rate).fold(0.0, f64::max)
            };
            let opened = figures.last().expect("the table has rows");
            let shares = opened.iter().enumerate().map(|(round, open)| open.rate / best(round));
            println!("Opening, beside {what} in the same round: {:.2}", median(shares));
        };
        println!();
        beside("the best of the reads", |way| matches!(way, Way::Read(..)));
        beside("reads that are checksummed", |way| matches!(way, Way::ReadAndCheck(..)));
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, table, way, directory] = &arguments[..]
        && flag == "--measure"
    {
        let number = |text: &String| text.parse::<usize>().expect("a number");
        let (_, way) = TABLES[number(table)].1[number(way)];
        let Figures { rate, median, late, busy } = measure_here(way, Path::new(directory));
        println!("{rate} {median} {late} {busy}");
        return;
    }
    if let [_, flag, path] = &arguments[..]
        && flag == "--write-large"
    {
        return beside::write_large(Path::new(path));
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("nothing is measured without `cargo bench`");
        return;
    }
    let otherwise = std::env::temp_dir();
    let directory = directory(&otherwise.to_string_lossy());
    let directory = directory.join(format!("woodchuck-log-limits-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("the directory can be made");
    let rounds = number("WOODCHUCK_BENCH_ROUNDS", 7).max(1);
    let chosen = number("WOODCHUCK_BENCH_CASE", TABLES.len());
    for number in 0..TABLES.len() {
        if chosen != number && chosen < TABLES.len() {
            continue;
        }
        if number == RECOVERY {
            recovery::prepare(&directory);
            println!("\n| case | through | MB/s | ratio |\n|---|---|---|---|");
        } else {
            print!("\n| case | through | op/s | ratio | p50 us | ratio | p99 us | ratio |");
            println!(" CPU us/op | ratio |\n|---|---|---|---|---|---|---|---|---|---|");
        }
        print(number, rounds, &directory);
    }
    std::fs::remove_dir_all(&directory).expect("the directory can be removed");
}
