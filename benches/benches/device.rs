//! The runtime's disk path beside the device's ceiling: the same transfers through a bare ring that
//! does nothing else. And what idle shards do, beside doing always the same.
//!
//! `cargo bench -p woodchuck-benches --bench device` prints the tables of `docs/measurements.md`.
//! Every measurement runs in a process of its own on CPU 1 (messages on 0 and 1), and the variants
//! of a case take turns: what is compared ran within seconds. `WOODCHUCK_BENCH_ROUNDS` sets how many turns
//! (7), `WOODCHUCK_BENCH_DIRECTORY` where the file goes, `WOODCHUCK_BENCH_CASE` picks one case.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_benches::{by_turns, directory, median};
use woodchuck_io::ceiling::{Access, Took, Transfers, busy_time, make_file};
use woodchuck_io::runtime::{Backend, CompletionMode, IdlePolicy, Runtime, RuntimeOptions};
use woodchuck_io::{Buffer, Disk, Durability, Env, File, Group, Mesh, OpenMode, Program};

const FILE_BYTES: u64 = 512 << 20;

/// What is done: name, access (of none, messages go to and fro between two shards), block size,
/// operations in flight, operations.
const CASES: [(&str, Option<Access>, usize, usize, u64); 10] = [
    ("durable 4 KiB write, depth 1", Some(Access::DurableWrite), 4 << 10, 1, 8_000),
    ("durable 4 KiB write, depth 4", Some(Access::DurableWrite), 4 << 10, 4, 24_000),
    ("128 KiB write, depth 16", Some(Access::Write), 128 << 10, 16, 24_000),
    ("4 KiB write, depth 16", Some(Access::Write), 4 << 10, 16, 150_000),
    ("random 4 KiB read, depth 1", Some(Access::Read), 4 << 10, 1, 15_000),
    ("random 4 KiB read, depth 32", Some(Access::Read), 4 << 10, 32, 60_000),
    ("random 4 KiB read, depth 128", Some(Access::Read), 4 << 10, 128, 80_000),
    ("random 1 MiB read, depth 4", Some(Access::Read), 1 << 20, 4, 3_000),
    ("message to another shard and back", None, 0, 1, 40_000),
    ("durable 4 KiB write, depth 1, and reads", Some(Access::DurableWrite), 4 << 10, 1, 4_000),
];

/// Reads beside the writes of the last case: how many are asked for at a time, and their size.
const READS: (usize, usize) = (64, 256 << 10);

/// The tables: title, cases, variants. The first variant is what the others are compared with.
const TABLES: [(&str, &[usize], &[&str]); 3] = [
    (
        "The ceiling",
        &[0, 1, 2, 3, 4, 5, 6, 7],
        &["bare ring", "bare, nothing registered", "runtime"],
    ),
    ("Idle policies", &[0, 1, 5, 8], &["runtime", "runtime, spin", "runtime, sleep"]),
    ("Groups", &[9], &["runtime", "beside a compaction", "beside the foreground"]),
];

/// Operations a second, and of one: the median time, and CPU time, in microseconds.
#[derive(Clone, Copy)]
struct Figures {
    rate: f64,
    median: f64,
    busy: f64,
}

impl Figures {
    fn new(took: &Took, transfers: u64) -> Self {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / transfers as f64;
        Self {
            rate: transfers as f64 / took.elapsed.as_secs_f64(),
            median: took.median.as_secs_f64() * 1e6,
            busy: each(took.busy),
        }
    }
}

/// The transfers of one case through the runtime.
#[derive(Clone)]
struct Measure {
    case: usize,
    path: PathBuf,
    /// The group of reads that go on beside it, if there are any.
    beside: Option<Group>,
}

impl Program for Measure {
    type Output = Took;

    async fn run<E: Env>(self, env: E) -> Took {
        let (_, access, bytes, depth, transfers) = CASES[self.case];
        let Some(access) = access else { return messages(&env, transfers).await };
        let file = env.disk().open(&self.path, OpenMode::Write).await.expect("the file is there");
        let next = Rc::new(Cell::new(0_u64));
        if let Some(group) = self.beside {
            read_for_ever(&env.in_group(group), &self.path).await;
        }
        go(&env, &file, (access, bytes, depth, transfers / 4), &next).await;
        let (start, busy) = (env.now(), busy_time().expect("the thread's time"));
        let mut times = go(&env, &file, (access, bytes, depth, transfers), &next).await;
        let (elapsed, busy) = (env.now() - start, busy_time().expect("as above") - busy);
        times.sort_unstable();
        Took { elapsed, busy, median: times[times.len() / 2] }
    }
}

/// Keeps reads going until the shard is over.
async fn read_for_ever<E: Env>(env: &E, path: &Path) {
    let (count, bytes) = READS;
    let file = env.disk().open(path, OpenMode::Read).await.expect("the file is there");
    for _ in 0..count {
        let (env, file) = (env.clone(), file.clone());
        env.clone()
            .spawn("reads", async move {
                let mut random = env.random("reads");
                let mut buffer = Buffer::zeroed(bytes);
                loop {
                    let offset = random.below(FILE_BYTES / bytes as u64) * bytes as u64;
                    let (result, back) = file.read_at(buffer, offset).await;
                    assert_eq!(result.expect("read"), bytes);
                    buffer = back;
                }
            })
            .detach();
    }
}

/// Shard 0 sends back what shard 1 sends it; shard 1's times count.
async fn messages<E: Env>(env: &E, count: u64) -> Took {
    let (mesh, other) = (env.mesh(), 1 - env.mesh().shard());
    let mut times = Vec::with_capacity(count as usize);
    let warm_up = count / 4;
    let mut begun = (env.now(), busy_time().expect("the thread's time"));
    for number in 0..warm_up + count {
        if number == warm_up {
            begun = (env.now(), busy_time().expect("as above"));
            times.clear();
        }
        let start = env.now();
        if other == 1 {
            mesh.receive().await;
            mesh.send(other, Box::new(())).await;
        } else {
            mesh.send(other, Box::new(())).await;
            mesh.receive().await;
        }
        times.push(env.now() - start);
    }
    let (elapsed, busy) = (env.now() - begun.0, busy_time().expect("as above") - begun.1);
    times.sort_unstable();
    Took { elapsed, busy, median: times[times.len() / 2] }
}

async fn go<E: Env>(
    env: &E,
    file: &<E::Disk as Disk>::File,
    (access, bytes, depth, transfers): (Access, usize, usize, u64),
    next: &Rc<Cell<u64>>,
) -> Vec<Duration> {
    let left = Rc::new(Cell::new(transfers));
    let times = Rc::new(RefCell::new(Vec::with_capacity(transfers as usize)));
    let begun: Vec<_> = (0..depth)
        .map(|_| {
            let (env, file, next) = (env.clone(), file.clone(), Rc::clone(next));
            let (left, times) = (Rc::clone(&left), Rc::clone(&times));
            env.clone().spawn("transfer", async move {
                let mut random = env.random("places");
                let mut buffer = Buffer::zeroed(bytes);
                while left.get() > 0 {
                    left.set(left.get() - 1);
                    let places = FILE_BYTES / bytes as u64;
                    let place = match access {
                        Access::Read => random.below(places),
                        _ => next.replace(next.get() + 1) % places,
                    };
                    let offset = place * bytes as u64;
                    let durability = match access {
                        Access::DurableWrite => Durability::Durable,
                        _ => Durability::Volatile,
                    };
                    let start = env.now();
                    buffer = if access == Access::Read {
                        let (result, buffer) = file.read_at(buffer, offset).await;
                        assert_eq!(result.expect("read"), bytes);
                        buffer
                    } else {
                        let (result, buffer) = file.write_at(buffer, offset, durability).await;
                        result.expect("written");
                        buffer
                    };
                    times.borrow_mut().push(env.now() - start);
                }
            })
        })
        .collect();
    for transfer in begun {
        transfer.await;
    }
    times.take()
}

/// One measurement, in a process of its own.
fn measure_here(case: usize, variant: &str, path: PathBuf) {
    let (_, access, bytes, in_flight, transfers) = CASES[case];
    let idle_policy = match variant {
        "runtime, spin" => Some(IdlePolicy::Spin),
        "runtime, sleep" => Some(IdlePolicy::Sleep),
        "bare ring" | "bare, nothing registered" => None,
        _ => Some(IdlePolicy::Adaptive),
    };
    let beside = match variant {
        "beside a compaction" => Some(Group::Compaction),
        "beside the foreground" => Some(Group::Foreground),
        _ => None,
    };
    let took = match (idle_policy, access) {
        (Some(idle_policy), _) => {
            let shards = if access.is_some() { 1 } else { 2 };
            let options = RuntimeOptions {
                shards,
                backend: Backend::Uring,
                idle_policy,
                ..RuntimeOptions::default()
            };
            let runtime =
                Runtime::start(options, Measure { case, path, beside }).expect("it starts");
            runtime.join().pop().expect("a shard").expect("no shard panics")
        }
        (None, None) => unreachable!("a bare ring has no shards"),
        (None, Some(access)) => {
            let registered = variant == "bare ring";
            let plan = Transfers {
                access,
                bytes,
                in_flight,
                transfers,
                file_bytes: FILE_BYTES,
                completion_mode: CompletionMode::default(),
                registered_buffers: registered,
                registered_file: registered,
                wait_for: 1,
            };
            plan.measure_in(&path).expect("rings and direct I/O are allowed here")
        }
    };
    let Figures { rate, median, busy } = Figures::new(&took, transfers);
    println!("{rate} {median} {busy}");
}

fn measure(case: usize, variant: &str, path: &Path) -> Figures {
    let program = std::env::current_exe().expect("the path of this program");
    // All of them on one CPU, since it matters which: a device interrupts one of them.
    let mut command = Command::new("taskset");
    let cpus = if CASES[case].1.is_some() { "1" } else { "0,1" };
    command
        .args(["-c", cpus])
        .arg(program)
        .args(["--measure", &case.to_string(), variant])
        .arg(path);
    let output = command.output().expect("this program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text.split_whitespace();
    let mut word = || words.next().unwrap_or_else(|| panic!("no figures: {output:?}"));
    let mut number = || word().parse().expect("a number");
    Figures { rate: number(), median: number(), busy: number() }
}

/// Measures the variants of a case in turn and prints a row for each.
fn rows(case: usize, variants: &[&str], rounds: usize, path: &Path) {
    let figures = by_turns(variants, rounds, |variant| measure(case, variant, path));
    for (variant, taken) in variants.iter().zip(&figures) {
        let middle = |of: fn(&Figures) -> f64| median(taken.iter().map(of));
        let ratio = |of: fn(&Figures) -> f64| {
            median(taken.iter().zip(&figures[0]).map(|(one, base)| of(one) / of(base)))
        };
        println!(
            "| {} | {variant} | {:.0} | {:.2} | {:.1} | {:.2} | {:.2} | {:.2} |",
            CASES[case].0,
            middle(|one| one.rate),
            ratio(|one| one.rate),
            middle(|one| one.median),
            ratio(|one| one.median),
            middle(|one| one.busy),
            ratio(|one| one.busy),
        );
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, case, variant, path] = &arguments[..]
        && flag == "--measure"
    {
        let case = case.parse().expect("the number of a case");
        return measure_here(case, variant, PathBuf::from(path));
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("nothing is measured without `cargo bench`");
        return;
    }
    let number = |name: &str| std::env::var(name).ok()?.parse::<usize>().ok();
    let rounds = number("WOODCHUCK_BENCH_ROUNDS").unwrap_or(7).max(1);
    let path =
        directory(env!("CARGO_TARGET_TMPDIR")).join(format!("device-{}", std::process::id()));
    make_file(&path, FILE_BYTES).expect("the file is written");
    let chosen = number("WOODCHUCK_BENCH_CASE");
    for (title, cases, variants) in TABLES {
        println!("\n### {title}\n");
        println!("| case | through | op/s | ratio | p50 us | ratio | CPU us/op | ratio |");
        println!("|---|---|---|---|---|---|---|---|");
        let chosen = cases.iter().filter(|&&case| chosen.is_none_or(|chosen| chosen == case));
        chosen.for_each(|&case| rows(case, variants, rounds, &path));
    }
    std::fs::remove_file(&path).expect("the file is removed");
}
