//! The runtime's network path beside the runtimes that others use: messages to and fro, and bulk
//! one way, over loopback TCP.
//!
//! `cargo bench -p woodchuck-benches --features peers --bench network` prints the tables of
//! `docs/measurements.md`; without the feature, only our own backends are measured. Server and
//! client are the same runtime, one thread each, the server on CPU 0 and the client on CPU 1.
//! Every measurement runs in a process of its own, and the variants of a case take turns: what is
//! compared ran within seconds. `WOODCHUCK_BENCH_ROUNDS` sets how many turns (7),
//! `WOODCHUCK_BENCH_CASE` picks one case.

mod ours;
#[cfg(feature = "peers")]
mod with_glommio;
#[cfg(feature = "peers")]
mod with_tokio;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use woodchuck_benches::{by_turns, median};
use woodchuck_io::ceiling::process_busy_time;

/// Before the measuring begins.
const WARM_UP: Duration = Duration::from_millis(200);
const MEASURED: Duration = Duration::from_millis(600);

/// Where servers listen: at a free port.
const ADDRESS: &str = "127.0.0.1:0";

/// What an echoing server reads at most at a time.
const ECHO_BYTES: usize = 4096;

#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    connections: usize,
    /// Of a message, or of what is written and read at a time.
    bytes: usize,
    /// Whether bytes go one way only. Otherwise a message is answered before the next is sent.
    one_way: bool,
}

const CASES: [Case; 3] = [
    Case { name: "64 B to and fro, 1 connection", connections: 1, bytes: 64, one_way: false },
    Case { name: "64 B to and fro, 64 connections", connections: 64, bytes: 64, one_way: false },
    Case { name: "64 KiB writes, one way", connections: 1, bytes: 64 << 10, one_way: true },
];

/// The first is what the others are compared with.
const VARIANTS: &[&str] = &[
    "woodchuck, uring",
    "woodchuck, uring, sleep",
    "woodchuck, posix",
    #[cfg(feature = "peers")]
    "tokio",
    #[cfg(feature = "peers")]
    "glommio",
];

const WARMING_UP: u8 = 1;
const MEASURING: u8 = 2;
const OVER: u8 = 3;

/// What the measuring thread and those measured tell each other.
#[derive(Default)]
struct Control {
    phase: AtomicU8,
    /// Bytes that the server has read.
    received: AtomicU64,
}

impl Control {
    /// All connections are there.
    fn connected(&self) {
        self.phase.store(WARMING_UP, Ordering::Relaxed);
    }

    fn is_measuring(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == MEASURING
    }

    fn is_over(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == OVER
    }

    /// The server has read so much; it has one thread.
    fn count(&self, bytes: usize) {
        let before = self.received.load(Ordering::Relaxed);
        self.received.store(before + bytes as u64, Ordering::Relaxed);
    }
}

/// The times of the round trips of one connection, in nanoseconds.
struct Trips<'a> {
    control: &'a Control,
    times: Vec<u64>,
}

impl<'a> Trips<'a> {
    fn new(control: &'a Control) -> Self {
        Self { control, times: Vec::with_capacity(1 << 17) }
    }

    fn note(&mut self, begun: Instant) {
        if self.control.is_measuring() {
            self.times.push(begun.elapsed().as_nanos() as u64);
        }
    }
}

/// Round trips a second, or bytes; their times in microseconds, or zeros; and the CPU time of both
/// sides, in microseconds for each trip, or for each MB.
#[derive(Clone, Copy)]
struct Figures {
    rate: f64,
    median: f64,
    late: f64,
    busy: f64,
}

/// Binds the calling thread to a CPU.
#[cfg(feature = "peers")]
fn pin_to(cpu: usize) {
    let thread = std::fs::read_link("/proc/thread-self").expect("a thread has a number");
    let number = thread.file_name().expect("it comes last");
    let bound = Command::new("taskset")
        .args(["-c", "-p", &cpu.to_string()])
        .arg(number)
        .output()
        .expect("taskset runs");
    assert!(bound.status.success(), "{bound:?}");
}

/// Runs server and client until `control` says that it is over. The times of all round trips.
fn run(case: Case, variant: &str, control: &Arc<Control>) -> Vec<u64> {
    match variant {
        #[cfg(feature = "peers")]
        "tokio" => with_tokio::run(case, control),
        #[cfg(feature = "peers")]
        "glommio" => with_glommio::run(case, control),
        _ => ours::run(case, variant, control),
    }
}

/// One measurement, in a process of its own.
fn measure_here(case: Case, variant: &str) {
    let control = Arc::new(Control::default());
    let (shared, variant) = (Arc::clone(&control), variant.to_owned());
    let runs = thread::spawn(move || run(case, &variant, &shared));
    while control.phase.load(Ordering::Relaxed) != WARMING_UP {
        assert!(!runs.is_finished(), "it ended before it began");
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(WARM_UP);
    let look = || {
        let busy = process_busy_time().expect("the time of the process");
        (Instant::now(), busy, control.received.load(Ordering::Relaxed))
    };
    let (start, busy_before, received_before) = look();
    control.phase.store(MEASURING, Ordering::Relaxed);
    thread::sleep(MEASURED);
    let (end, busy_after, received_after) = look();
    control.phase.store(OVER, Ordering::Relaxed);
    let mut times = runs.join().expect("no panic");
    times.sort_unstable();
    let elapsed = (end - start).as_secs_f64();
    let at = |share: usize| {
        times.get(times.len() * share / 100).map_or(0.0, |&time| time as f64 / 1000.0)
    };
    let (done, unit) = if case.one_way {
        ((received_after - received_before) as f64, 1e6)
    } else {
        (times.len() as f64, 1.0)
    };
    let busy = (busy_after - busy_before).as_secs_f64() * 1e6 / (done / unit);
    println!("{} {} {} {busy}", done / elapsed, at(50), at(99));
}

fn measure(case: usize, variant: &str) -> Figures {
    let program = std::env::current_exe().expect("the path of this program");
    let mut command = Command::new("taskset");
    command.args(["-c", "0,1"]).arg(program).args(["--measure", &case.to_string(), variant]);
    let output = command.output().expect("this program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text.split_whitespace();
    let mut word = || words.next().unwrap_or_else(|| panic!("no figures: {output:?}"));
    let mut number = || word().parse().expect("a number");
    Figures { rate: number(), median: number(), late: number(), busy: number() }
}

/// Measures the variants of a case in turn and prints a row for each.
fn rows(number: usize, rounds: usize) {
    let case = CASES[number];
    let figures = by_turns(VARIANTS, rounds, |variant| measure(number, variant));
    for (variant, taken) in VARIANTS.iter().zip(&figures) {
        let middle = |of: fn(&Figures) -> f64| median(taken.iter().map(of));
        let ratio = |of: fn(&Figures) -> f64| {
            median(taken.iter().zip(&figures[0]).map(|(one, base)| of(one) / of(base)))
        };
        print!("| {} | {variant} |", case.name);
        if case.one_way {
            print!(" {:.2} | {:.2} |", middle(|one| one.rate) / 1e9, ratio(|one| one.rate));
        } else {
            print!(" {:.0} | {:.2} |", middle(|one| one.rate), ratio(|one| one.rate));
            print!(" {:.1} | {:.2} |", middle(|one| one.median), ratio(|one| one.median));
            print!(" {:.1} | {:.2} |", middle(|one| one.late), ratio(|one| one.late));
        }
        println!(" {:.1} | {:.2} |", middle(|one| one.busy), ratio(|one| one.busy));
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, case, variant] = &arguments[..]
        && flag == "--measure"
    {
        let case: usize = case.parse().expect("the number of a case");
        return measure_here(CASES[case], variant);
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("nothing is measured without `cargo bench`");
        return;
    }
    let number = |name: &str| std::env::var(name).ok()?.parse::<usize>().ok();
    let rounds = number("WOODCHUCK_BENCH_ROUNDS").unwrap_or(7).max(1);
    let chosen = number("WOODCHUCK_BENCH_CASE");
    for one_way in [false, true] {
        if one_way {
            println!("\n| case | through | GB/s | ratio | CPU us/MB | ratio |");
            println!("|---|---|---|---|---|---|");
        } else {
            print!("\n| case | through | trips/s | ratio | p50 us | ratio | p99 us | ratio |");
            println!(" CPU us/trip | ratio |");
            println!("|---|---|---|---|---|---|---|---|---|---|");
        }
        let cases = (0..CASES.len()).filter(|&case| CASES[case].one_way == one_way);
        let chosen = cases.filter(|&case| chosen.is_none_or(|chosen| chosen == case));
        chosen.for_each(|case| rows(case, rounds));
    }
}
