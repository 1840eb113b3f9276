//! The runtime's disk path beside the device's ceiling (the same transfers through a bare ring that
//! does nothing else), beside glommio and beside fio. And what idle shards do, beside doing always
//! the same.
//!
//! `cargo bench -p woodchuck-benches --features peers --bench device` prints the tables of
//! `docs/measurements.md`; without the feature there is no glommio in them, and without an installed
//! `fio` no fio. Every measurement runs in a process of its own on CPU 1 (messages on 0 and 1), and
//! the variants of a case take turns: what is compared ran within seconds. `WOODCHUCK_BENCH_ROUNDS`
//! sets how many turns (7), `WOODCHUCK_BENCH_DIRECTORY` where the file goes; `WOODCHUCK_BENCH_TABLE`,
//! `WOODCHUCK_BENCH_CASE` and `WOODCHUCK_BENCH_VARIANT` pick tables, cases and a table's variants by
//! their numbers, with commas between them. The runtime is in every table, picked or not.

mod bare_ring;
mod ours;
mod with_fio;
#[cfg(feature = "peers")]
mod with_glommio;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use woodchuck_benches::{by_turns, directory, median};
use woodchuck_io::ceiling::{Access, Took, make_file};

const FILE_BYTES: u64 = 512 << 20;

#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// What is done with the file. If nothing is, messages go to and fro between two shards.
    access: Option<Access>,
    /// Of one operation.
    bytes: usize,
    /// Operations in flight.
    depth: usize,
    /// How many are measured; a quarter of that goes before, unmeasured.
    operations: u64,
}

const fn on_file(
    name: &'static str,
    access: Access,
    bytes: usize,
    depth: usize,
    operations: u64,
) -> Case {
    Case { name, access: Some(access), bytes, depth, operations }
}

const CASES: [Case; 10] = [
    on_file("durable 4 KiB write, depth 1", Access::DurableWrite, 4 << 10, 1, 8_000),
    on_file("durable 4 KiB write, depth 4", Access::DurableWrite, 4 << 10, 4, 24_000),
    on_file("128 KiB write, depth 16", Access::Write, 128 << 10, 16, 24_000),
    on_file("4 KiB write, depth 16", Access::Write, 4 << 10, 16, 150_000),
    on_file("random 4 KiB read, depth 1", Access::Read, 4 << 10, 1, 15_000),
    on_file("random 4 KiB read, depth 32", Access::Read, 4 << 10, 32, 60_000),
    on_file("random 4 KiB read, depth 128", Access::Read, 4 << 10, 128, 80_000),
    on_file("random 1 MiB read, depth 4", Access::Read, 1 << 20, 4, 3_000),
    Case {
        name: "message to another shard and back",
        access: None,
        bytes: 0,
        depth: 1,
        operations: 40_000,
    },
    on_file("durable 4 KiB write, depth 1, and reads", Access::DurableWrite, 4 << 10, 1, 4_000),
];

/// The tables: title, cases, variants. The first variant is what the others are compared with.
const TABLES: [(&str, &[usize], &[&str]); 4] = [
    (
        "The ceiling and the peers",
        &[0, 1, 2, 3, 4, 5, 6, 7],
        &["bare ring", "bare, nothing registered", "runtime", "glommio", "fio"],
    ),
    ("Messages", &[8], &["runtime", "glommio", "glommio, spin"]),
    ("Idle policies", &[0, 1, 5, 8], &["runtime", "runtime, spin", "runtime, sleep"]),
    ("Groups", &[9], &["runtime", "beside a compaction", "beside the foreground"]),
];

/// Operations a second, and of one: the median time, and CPU time of all threads of the process, in
/// microseconds.
#[derive(Clone, Copy)]
struct Figures {
    rate: f64,
    median: f64,
    busy: f64,
}

impl Figures {
    fn new(took: &Took, operations: u64) -> Self {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / operations as f64;
        Self {
            rate: operations as f64 / took.elapsed.as_secs_f64(),
            median: took.median.as_secs_f64() * 1e6,
            busy: each(took.busy),
        }
    }
}

/// One measurement, in a process of its own.
fn measure_here(case: Case, variant: &str, path: &Path) {
    let figures = match variant {
        "bare ring" => Figures::new(&bare_ring::run(case, true, path), case.operations),
        "bare, nothing registered" => {
            Figures::new(&bare_ring::run(case, false, path), case.operations)
        }
        #[cfg(feature = "peers")]
        "glommio" | "glommio, spin" => {
            Figures::new(&with_glommio::run(case, variant, path), case.operations)
        }
        "fio" => with_fio::run(case, path),
        _ => Figures::new(&ours::run(case, variant, path), case.operations),
    };
    println!("{} {} {}", figures.rate, figures.median, figures.busy);
}

fn measure(number: usize, variant: &str, path: &Path) -> Figures {
    let program = std::env::current_exe().expect("the path of this program");
    // All of them on one CPU, since it matters which: a device interrupts one of them.
    let mut command = Command::new("taskset");
    let cpus = if CASES[number].access.is_some() { "1" } else { "0,1" };
    command
        .args(["-c", cpus])
        .arg(program)
        .args(["--measure", &number.to_string(), variant])
        .arg(path);
    let output = command.output().expect("this program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text.split_whitespace();
    let mut word = || words.next().unwrap_or_else(|| panic!("no figures: {output:?}"));
    let mut number = || word().parse().expect("a number");
    Figures { rate: number(), median: number(), busy: number() }
}

/// The median, over the rounds, of how one variant compares with another in the same round.
fn ratio(these: &[Figures], those: &[Figures], of: fn(&Figures) -> f64) -> f64 {
    median(these.iter().zip(those).map(|(this, that)| of(this) / of(that)))
}

/// Measures the variants of a case in turn and prints a row for each. What the runtime comes to
/// beside each of the others, as rows of another table.
fn rows(number: usize, variants: &[&str], rounds: usize, path: &Path) -> Vec<String> {
    let name = CASES[number].name;
    let columns: [fn(&Figures) -> f64; 3] = [|one| one.rate, |one| one.median, |one| one.busy];
    let figures = by_turns(variants, rounds, |variant| measure(number, variant, path));
    for (variant, taken) in variants.iter().zip(&figures) {
        print!("| {name} | {variant} |");
        for (of, digits) in columns.into_iter().zip([0, 1, 2]) {
            let middle = median(taken.iter().map(of));
            print!(" {middle:.digits$} | {:.2} |", ratio(taken, &figures[0], of));
        }
        println!();
    }
    let runtime = variants.iter().position(|&variant| variant == "runtime");
    let runtime = &figures[runtime.expect("it is in every table")];
    let others = variants.iter().zip(&figures).filter(|(variant, _)| **variant != "runtime");
    let row = |(variant, taken): (&&str, &Vec<Figures>)| {
        let [rate, median, busy] = columns.map(|of| ratio(runtime, taken, of));
        format!("| {name} | {variant} | {rate:.2} | {median:.2} | {busy:.2} |")
    };
    others.map(row).collect()
}

/// Measures what a table has of the chosen cases, and prints it, followed by the runtime's ratios.
fn table(title: &str, cases: &[usize], variants: &[&str], rounds: usize, path: &Path) {
    println!("\n### {title}\n");
    println!("| case | through | op/s | ratio | p50 us | ratio | CPU us/op | ratio |");
    println!("|---|---|---|---|---|---|---|---|");
    let beside: Vec<String> =
        cases.iter().flat_map(|&case| rows(case, variants, rounds, path)).collect();
    println!("\n| case | the runtime beside | rate | p50 | CPU |");
    println!("|---|---|---|---|---|");
    beside.iter().for_each(|row| println!("{row}"));
}

/// The numbers that a variable lists. None if it is not set.
fn chosen(variable: &str) -> Option<Vec<usize>> {
    let list = std::env::var(variable).ok()?;
    Some(list.split(',').filter_map(|number| number.trim().parse().ok()).collect())
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, case, variant, path] = &arguments[..]
        && flag == "--measure"
    {
        let case: usize = case.parse().expect("the number of a case");
        return measure_here(CASES[case], variant, Path::new(path));
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("nothing is measured without `cargo bench`");
        return;
    }
    let rounds = std::env::var("WOODCHUCK_BENCH_ROUNDS").ok();
    let rounds = rounds.and_then(|rounds| rounds.parse().ok()).unwrap_or(7).max(1);
    let (tables, cases) = (chosen("WOODCHUCK_BENCH_TABLE"), chosen("WOODCHUCK_BENCH_CASE"));
    let picked = chosen("WOODCHUCK_BENCH_VARIANT");
    let is_in = |all: &Option<Vec<usize>>, number| {
        all.as_ref().is_none_or(|all: &Vec<usize>| all.contains(&number))
    };
    let has_fio = with_fio::is_installed();
    if !has_fio {
        println!("`fio` is not installed: there are no rows of it");
    }
    let has = |variant: &str| match variant {
        "fio" => has_fio,
        "glommio" | "glommio, spin" => cfg!(feature = "peers"),
        _ => true,
    };
    let path: PathBuf =
        directory(env!("CARGO_TARGET_TMPDIR")).join(format!("device-{}", std::process::id()));
    make_file(&path, FILE_BYTES).expect("the file is written");
    for (number, (title, has_cases, variants)) in TABLES.into_iter().enumerate() {
        let of_table = has_cases.iter().copied().filter(|&case| is_in(&cases, case));
        let of_table: Vec<usize> = of_table.collect();
        let variants = variants.iter().copied().enumerate();
        let variants = variants.filter(|&(number, one)| one == "runtime" || is_in(&picked, number));
        let variants: Vec<&str> = variants.map(|(_, one)| one).filter(|one| has(one)).collect();
        if is_in(&tables, number) && !of_table.is_empty() && variants.len() > 1 {
            table(title, &of_table, &variants, rounds, &path);
        }
    }
    std::fs::remove_file(&path).expect("the file is removed");
}
