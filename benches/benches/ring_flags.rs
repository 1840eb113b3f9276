//! Which ring flags suit us, what the ring is worth beside ordinary system calls, and what huge
//! pages are worth to large transfers.
//!
//! `cargo bench -p woodchuck-benches --bench ring_flags` prints the tables of
//! `docs/measurements.md`. Every measurement runs in a process of its own, with pinned shards, and
//! the variants of a case take turns: what is compared ran within seconds. `WOODCHUCK_BENCH_ROUNDS`
//! sets how many turns (9), `WOODCHUCK_BENCH_DIRECTORY` where the file goes.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use woodchuck_benches::{by_turns, directory, median};
use woodchuck_io::runtime::{Backend, CompletionMode, Runtime, RuntimeOptions};
use woodchuck_io::{
    Buffer, Disk, Durability, Env, File, Listener, Mesh, Net, OpenMode, Program, Stream,
};

const FILE_BYTES: u64 = 256 << 20;
const MEASURED: Duration = Duration::from_millis(1000);
const CONNECTIONS: usize = 64;
const MESSAGE_BYTES: usize = 64;

#[derive(Clone, Copy)]
enum Work {
    DurableWrite,
    Write,
    Read,
    PingPong,
}

/// What is done: name, work, block size, operations in flight.
const CASES: [(&str, Work, usize, usize); 9] = [
    ("durable 4 KiB write, depth 1", Work::DurableWrite, 4 << 10, 1),
    ("durable 4 KiB write, depth 4", Work::DurableWrite, 4 << 10, 4),
    ("durable 64 KiB write, depth 1", Work::DurableWrite, 64 << 10, 1),
    ("durable 64 KiB write, depth 4", Work::DurableWrite, 64 << 10, 4),
    ("1 MiB read, depth 4", Work::Read, 1 << 20, 4),
    ("64 KiB read, depth 4", Work::Read, 64 << 10, 4),
    ("1 MiB write, depth 4", Work::Write, 1 << 20, 4),
    ("1 MiB write, depth 1", Work::Write, 1 << 20, 1),
    ("64 B ping-pong, 64 connections", Work::PingPong, MESSAGE_BYTES, CONNECTIONS),
];

const VARIANTS: [&str; 4] = ["cooperative", "deferred", "posix", "small-pages"];

/// Operations a second, and the median time of one in nanoseconds.
#[derive(Clone, Copy)]
struct Figures {
    rate: f64,
    median: u64,
}

/// Counts operations until time is up.
#[derive(Clone)]
struct Meter {
    times: Rc<RefCell<Vec<u64>>>,
    over: Rc<Cell<bool>>,
}

impl Meter {
    fn new() -> Self {
        Self { times: Rc::default(), over: Rc::new(Cell::new(false)) }
    }

    fn figures(&self) -> Figures {
        let mut times = self.times.borrow_mut();
        times.sort_unstable();
        let median = times.get(times.len() / 2).copied().unwrap_or(0);
        Figures { rate: times.len() as f64 / MEASURED.as_secs_f64(), median }
    }
}

#[derive(Clone)]
struct Measure {
    case: usize,
    path: PathBuf,
}

impl Program for Measure {
    type Output = Option<Figures>;

    async fn run<E: Env>(self, env: E) -> Option<Figures> {
        match CASES[self.case].1 {
            Work::PingPong => ping_pong(env).await,
            _ => Some(transfers(env, self).await),
        }
    }
}

async fn transfers<E: Env>(env: E, measure: Measure) -> Figures {
    let (_, work, block, depth) = CASES[measure.case];
    let file = env.disk().open(&measure.path, OpenMode::Write).await.expect("the file is there");
    let meter = Meter::new();
    let next = Rc::new(Cell::new(0_u64));
    let begun: Vec<_> = (0..depth)
        .map(|_| {
            let (inner, file, meter, next) =
                (env.clone(), file.clone(), meter.clone(), Rc::clone(&next));
            env.spawn("transfer", async move {
                let mut random = inner.random("places");
                let mut buffer = Buffer::zeroed(block);
                while !meter.over.get() {
                    let blocks = FILE_BYTES / block as u64;
                    let place = match work {
                        Work::Read => random.below(blocks),
                        _ => next.replace(next.get() + 1) % blocks,
                    };
                    let offset = place * block as u64;
                    let start = inner.now();
                    buffer = match work {
                        Work::Read => {
                            let (result, buffer) = file.read_at(buffer, offset).await;
                            assert_eq!(result.expect("read"), block);
                            buffer
                        }
                        Work::DurableWrite => {
                            let write = file.write_at(buffer, offset, Durability::Durable);
                            let (result, buffer) = write.await;
                            result.expect("written");
                            buffer
                        }
                        Work::Write | Work::PingPong => {
                            let write = file.write_at(buffer, offset, Durability::Volatile);
                            let (result, buffer) = write.await;
                            result.expect("written");
                            buffer
                        }
                    };
                    let taken = inner.now() - start;
                    meter.times.borrow_mut().push(taken.as_nanos() as u64);
                }
            })
        })
        .collect();
    env.sleep(MEASURED).await;
    meter.over.set(true);
    for transfer in begun {
        transfer.await;
    }
    meter.figures()
}

/// Shard 0 echoes, shard 1 asks.
async fn ping_pong<E: Env>(env: E) -> Option<Figures> {
    if env.mesh().shard() == 0 {
        let address = "127.0.0.1:0".parse().expect("an address");
        let listener = env.net().listen(address).await.expect("a free port");
        env.mesh().send(1, Box::new(listener.local_address())).await;
        for _ in 0..CONNECTIONS {
            let (stream, _) = listener.accept().await.expect("accepted");
            env.spawn("echo", async move {
                loop {
                    let (result, bytes) = stream.read(BytesMut::with_capacity(4096)).await;
                    if result.expect("read") == 0 {
                        return;
                    }
                    stream.write(vec![bytes.freeze()]).await.expect("sent");
                }
            })
            .detach();
        }
        env.mesh().receive().await;
        return None;
    }
    let (_, address) = env.mesh().receive().await;
    let address = *address.downcast().expect("an address");
    let meter = Meter::new();
    let mut asking = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = env.net().connect(address).await.expect("connected");
        let (inner, meter) = (env.clone(), meter.clone());
        asking.push(env.spawn("ask", async move {
            let message = Bytes::from_static(&[7; MESSAGE_BYTES]);
            while !meter.over.get() {
                let start = inner.now();
                stream.write(vec![message.clone()]).await.expect("sent");
                let mut answer = BytesMut::with_capacity(MESSAGE_BYTES);
                while answer.len() < MESSAGE_BYTES {
                    let (result, filled) = stream.read(answer).await;
                    assert!(result.expect("read") > 0);
                    answer = filled;
                }
                let taken = inner.now() - start;
                meter.times.borrow_mut().push(taken.as_nanos() as u64);
            }
        }));
    }
    env.sleep(MEASURED).await;
    meter.over.set(true);
    for ask in asking {
        ask.await;
    }
    env.mesh().send(0, Box::new(())).await;
    Some(meter.figures())
}

/// One measurement, in a process of its own.
fn measure_here(case: usize, variant: &str, path: PathBuf) {
    let (backend, completion_mode) = match variant {
        "deferred" => (Backend::Uring, CompletionMode::Deferred),
        "posix" => (Backend::Posix, CompletionMode::default()),
        _ => (Backend::Uring, CompletionMode::Cooperative),
    };
    woodchuck_io::buffer::use_huge_pages(variant != "small-pages");
    let shards = if matches!(CASES[case].1, Work::PingPong) { 2 } else { 1 };
    let options =
        RuntimeOptions { shards, backend, pin: true, completion_mode, ..RuntimeOptions::default() };
    let runtime = Runtime::start(options, Measure { case, path }).expect("the runtime starts");
    for ended in runtime.join() {
        if let Some(figures) = ended.expect("no shard panics") {
            println!("{} {}", figures.rate, figures.median);
        }
    }
}

fn measure(case: usize, variant: &str, path: &std::path::Path) -> Figures {
    let program = std::env::current_exe().expect("the path of this program");
    let mut command = Command::new(program);
    command.args(["--measure", &case.to_string(), variant]).arg(path);
    let output = command.output().expect("this program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text.split_whitespace();
    let mut word = || words.next().unwrap_or_else(|| panic!("no figures: {output:?}"));
    let rate = word().parse().expect("a rate");
    Figures { rate, median: word().parse().expect("nanoseconds") }
}

/// Measures some variants of some cases in turn and prints a table.
fn table(title: &str, cases: &[usize], variants: &[&str], rounds: usize, path: &std::path::Path) {
    println!("\n### {title}\n");
    print!("| case |");
    for variant in variants {
        print!(" {variant}: op/s | p50 us | ratio |");
    }
    println!("\n|---|{}", "---|---|---|".repeat(variants.len()));
    for &case in cases {
        let figures = by_turns(variants, rounds, |variant| measure(case, variant, path));
        print!("| {} |", CASES[case].0);
        for taken in &figures {
            let rate = median(taken.iter().map(|one| one.rate));
            let time = median(taken.iter().map(|one| one.median as f64 / 1000.0));
            let ratios = taken.iter().zip(&figures[0]).map(|(one, base)| one.rate / base.rate);
            print!(" {rate:.0} | {time:.1} | {:.2} |", median(ratios));
        }
        println!();
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
    let rounds = std::env::var("WOODCHUCK_BENCH_ROUNDS").ok();
    let rounds = rounds.map_or(9, |text| text.parse().expect("a number of rounds"));
    let path =
        directory(env!("CARGO_TARGET_TMPDIR")).join(format!("ring-flags-{}", std::process::id()));
    // Written once, so that no extent is fresh.
    std::fs::write(&path, vec![1; FILE_BYTES as usize]).expect("the file is written");
    std::fs::File::open(&path).and_then(|file| file.sync_all()).expect("and flushed");
    table("Ring flags", &[0, 1, 2, 3, 4, 8], &VARIANTS[..3], rounds, &path);
    let pages = [VARIANTS[0], VARIANTS[3]];
    table("Huge-page buffers", &[4, 5, 6, 7], &pages, rounds, &path);
    std::fs::remove_file(&path).expect("the file is removed");
}
