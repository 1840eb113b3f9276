//! A store of numbers, a client of it, and the worlds in which both are tested. `docs/simulation.md`
//! goes through it step by step.
//!
//! ```text
//! cargo run -p woodchuck-sim --example numbers                     a thousand worlds
//! cargo run -p woodchuck-sim --example numbers -- --planted-bug    the same, with a bug in it
//! ```
//!
//! # The wire
//!
//! A request is 17 bytes: what to do (0: get, 1: put), the key, and the value to put. An answer is 9
//! bytes: whether there is a value, and the value. All numbers are big-endian.
//!
//! # The file
//!
//! One block for each put: key, value, and a check of both. A put takes the next block and is
//! answered when that block is durable. Several may be under way at a time, so a crash leaves holes:
//! blocks of zeros, torn ones, and such as cannot be read. What is in a hole was never answered.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use woodchuck_io::limits::BLOCK_BYTES;
use woodchuck_io::{Buffer, Disk, Durability, Env, File, Listener, Net, OpenMode, Program, Stream};
use woodchuck_sim::check::durable::Ledger;
use woodchuck_sim::scenario::{Campaign, ChaosMonkey, Observer, Scenario};

const PORT: u16 = 7000;
const FILE: &str = "/numbers";
const REQUEST_BYTES: usize = 17;
const ANSWER_BYTES: usize = 9;

/// How long a client waits for an answer. A machine without power says nothing at all.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Puts of each client.
const PUTS: u64 = 20;

/// Tasks that the server may have. Those of connections that a crash of the network left behind are
/// among them.
const TASKS: u64 = 64;

const ASKED_AGAIN: &str = "a put was asked for again";

/// The service: in production, `woodchuck_io::runtime::Runtime` runs it.
#[derive(Clone)]
struct Numbers {
    /// How puts are written: durably, or there is a bug.
    durability: Durability,
}

impl Program for Numbers {
    type Output = io::Result<()>;

    fn run<E: Env>(self, env: E) -> impl Future<Output = io::Result<()>> + 'static {
        serve_until_stopped(env, self.durability)
    }
}

async fn serve_until_stopped<E: Env>(env: E, durability: Durability) -> io::Result<()> {
    let serving = pin!(serve(env.clone(), durability));
    match select(pin!(env.stopping()), serving).await {
        Either::Left(_) => Ok(()),
        Either::Right((outcome, _)) => outcome,
    }
}

async fn serve<E: Env>(env: E, durability: Durability) -> io::Result<()> {
    let store = Rc::new(Store::open(&env, durability).await?);
    let listener = env.net().listen(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        env.spawn("connection", answer_all(Rc::clone(&store), stream)).detach();
    }
}

/// Answers the requests of one connection, until it ends or breaks.
async fn answer_all<E: Env>(store: Rc<Store<E>>, stream: <E::Net as Net>::Stream) {
    while let Ok(request) = read::<REQUEST_BYTES>(&stream).await {
        let (key, value) = (number(&request[1..9]), number(&request[9..17]));
        let found = if request[0] == 1 {
            store.put(key, value).await.map(|()| Some(value))
        } else {
            Ok(store.entries.borrow().get(&key).copied())
        };
        // A put that failed may have been done or not. Not to answer says just that.
        let Ok(found) = found else { return };
        let mut answer = BytesMut::with_capacity(ANSWER_BYTES);
        answer.extend_from_slice(&[u8::from(found.is_some())]);
        answer.extend_from_slice(&found.unwrap_or(0).to_be_bytes());
        if stream.write(vec![answer.freeze()]).await.is_err() {
            return;
        }
    }
}

struct Store<E: Env> {
    file: <E::Disk as Disk>::File,
    durability: Durability,
    /// Blocks of the file that are used, holes among them.
    blocks: Cell<u64>,
    /// Only what is durable, so that nobody reads what could still vanish.
    entries: RefCell<BTreeMap<u64, u64>>,
}

impl<E: Env> Store<E> {
    async fn open(env: &E, durability: Durability) -> io::Result<Self> {
        let (disk, path) = (env.disk(), Path::new(FILE));
        let file = match disk.open(path, OpenMode::Write).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                disk.open(path, OpenMode::CreateNew).await?
            }
            opened => opened?,
        };
        // Also for a file that was there: who created it may have died before its name was durable.
        disk.sync_directory(Path::new("/")).await?;
        let blocks = file.length().await?.div_ceil(BLOCK_BYTES as u64);
        let mut entries = BTreeMap::new();
        for block in 0..blocks {
            let buffer = Buffer::with_capacity(BLOCK_BYTES);
            let (outcome, buffer) = file.read_at(buffer, block * BLOCK_BYTES as u64).await;
            if outcome.is_ok() {
                entries.extend(decode(&buffer));
            }
        }
        // A put that was under way when the process died may have been read from memory just now.
        file.sync_data().await?;
        Ok(Self { file, durability, blocks: blocks.into(), entries: entries.into() })
    }

    async fn put(&self, key: u64, value: u64) -> io::Result<()> {
        let block = self.blocks.replace(self.blocks.get() + 1);
        let start = block * BLOCK_BYTES as u64;
        let (written, _) = self.file.write_at(encode(key, value), start, self.durability).await;
        written?;
        self.entries.borrow_mut().insert(key, value);
        Ok(())
    }
}

fn encode(key: u64, value: u64) -> Buffer {
    let mut block = Buffer::with_capacity(BLOCK_BYTES);
    for number in [key, value, check(key, value)] {
        block.extend_from_slice(&number.to_be_bytes());
    }
    block.pad_to_block();
    block
}

/// What is in a block; nothing if it is a hole.
fn decode(block: &[u8]) -> Option<(u64, u64)> {
    let [key, value, sum] = [block.get(..8)?, block.get(8..16)?, block.get(16..24)?].map(number);
    (sum == check(key, value)).then_some((key, value))
}

/// Never 0 for a block of zeros.
const fn check(key: u64, value: u64) -> u64 {
    let sum = (key ^ 0x9E37_79B9_7F4A_7C15).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    (sum ^ value ^ (sum >> 29)).wrapping_mul(0xC4CE_B9FE_1A85_EC53)
}

/// A number of eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Reads so many bytes. It is an error if the stream ends before.
async fn read<const LENGTH: usize>(stream: &impl Stream) -> io::Result<Bytes> {
    let mut buffer = BytesMut::with_capacity(LENGTH);
    while buffer.len() < LENGTH {
        buffer.reserve(LENGTH - buffer.len());
        let (outcome, filled) = stream.read(buffer).await;
        if outcome? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer = filled;
    }
    Ok(buffer.freeze())
}

/// Asks for one thing on a connection, and waits for the answer.
async fn ask(stream: &impl Stream, what: u8, key: u64, value: u64) -> io::Result<Option<u64>> {
    let mut request = BytesMut::with_capacity(REQUEST_BYTES);
    request.extend_from_slice(&[what]);
    request.extend_from_slice(&key.to_be_bytes());
    request.extend_from_slice(&value.to_be_bytes());
    stream.write(vec![request.freeze()]).await?;
    let answer = read::<ANSWER_BYTES>(stream).await?;
    Ok((answer[0] == 1).then(|| number(&answer[1..])))
}

/// Puts a value and reads it back, on a connection of its own.
async fn put<E: Env>(env: E, server: SocketAddr, key: u64, value: u64) -> io::Result<Option<u64>> {
    let asking = pin!(async {
        let stream = env.net().connect(server).await?;
        ask(&stream, 1, key, value).await?;
        ask(&stream, 0, key, 0).await
    });
    match select(asking, pin!(env.sleep(ANSWER_LIMIT))).await {
        Either::Left((answer, _)) => answer,
        Either::Right(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// What was put, and what of it was acknowledged.
type Puts = Rc<RefCell<Ledger<u64, u64>>>;

/// A client: puts numbers, each again and again until it is acknowledged.
async fn work<E: Env>(env: E, server: SocketAddr, client: u64, puts: Puts, observer: Observer) {
    let mut random = env.random("numbers");
    for key in client * PUTS..(client + 1) * PUTS {
        let value = random.next_u64();
        puts.borrow_mut().sent(key, value);
        let found = loop {
            match put(env.clone(), server, key, value).await {
                Ok(found) => break found,
                Err(_) => observer.hit(ASKED_AGAIN),
            }
            env.sleep(Duration::from_micros(1 + random.below(20_000))).await;
        };
        puts.borrow_mut().acknowledged(&key, env.now().as_nanos());
        observer.require("reads-own-writes", found == Some(value), || {
            format!("{key} was put as {value} and is there as {found:?}")
        });
    }
}

fn scenario(durability: Durability) -> Scenario {
    Scenario::new("numbers", "A store keeps what it acknowledged.", move |stage| {
        let (server, clients) = (stage.machine("server"), stage.machine("clients"));
        let (world, observer) = (stage.world().clone(), stage.observer());
        stage.program(server, 1, Numbers { durability }, move |_, outcome| {
            observer.require("keeps-running", outcome.is_ok(), || format!("{outcome:?}"));
        });

        let puts = Puts::default();
        let address = SocketAddr::new(world.address(server), PORT);
        let count = 1 + stage.draw("clients", 4);
        for client in 0..count {
            let (puts, observer) = (Rc::clone(&puts), stage.observer());
            let work = move |env| work(env, address, client, Rc::clone(&puts), observer.clone());
            stage.bot(clients, "client", work);
        }

        ChaosMonkey::on(&[server]).release(stage);

        stage.sometimes(ASKED_AGAIN);
        let inside = world.clone();
        stage.always("few-tasks", move || {
            let tasks = inside.resources(server).tasks;
            if tasks <= TASKS { Ok(()) } else { Err(format!("the server has {tasks}")) }
        });
        let all = Rc::clone(&puts);
        stage.eventually("all-acknowledged", Duration::from_secs(60), move || {
            all.borrow().acknowledged_count() as u64 == count * PUTS
        });
        stage.verify(move |observer| {
            let file = world.disk(server).read_durable(FILE).unwrap_or_default();
            let found: BTreeMap<u64, u64> = file.chunks(BLOCK_BYTES).filter_map(decode).collect();
            observer.judge("durable", &puts.borrow().judge(found));
        });
    })
}

fn main() -> ExitCode {
    let planted = std::env::args().any(|argument| argument == "--planted-bug");
    let durability = if planted { Durability::Volatile } else { Durability::Durable };
    let tally = Campaign::new(scenario(durability), 0..1000).run(|_| ());
    for run in &tally.failures {
        let Some(violation) = run.violation() else { continue };
        println!("{}, seed {}: {violation}\n", run.scenario, run.seed);
    }
    println!("{} worlds: {} passed, {} failed", tally.worlds(), tally.passed, tally.failures.len());
    println!("{} of them were run twice, each the same to the last event", tally.twice);
    println!("{:?} of world time, {} events", tally.simulated, tally.events);
    let mattered = tally.faults.iter().filter(|&&count| count > 0).count();
    println!("{mattered} of {} kinds of faults changed an outcome", tally.faults.len());
    println!("{ASKED_AGAIN}, {} times", tally.marks[ASKED_AGAIN]);
    if tally.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_keeps_what_it_acknowledged() {
        assert_eq!(scenario(Durability::Durable).check(0..200).passed, 200);
    }

    #[test]
    fn the_planted_bug_is_found() {
        let tally = Campaign::new(scenario(Durability::Volatile), 0..20).run(|_| ());
        let properties = tally.failures.iter().filter_map(|run| run.violation());
        let properties: Vec<&str> = properties.map(|found| found.property.as_str()).collect();
        assert_eq!(properties, ["durable"; 5]);
    }

    /// The document teaches what compiles: each line of its Rust is a line here, one after another.
    #[test]
    fn the_document_shows_this_file() {
        let lines = |text: &'static str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
        let (document, file) =
            (include_str!("../../docs/simulation.md"), include_str!("numbers.rs"));
        let file = lines(file);
        let blocks: Vec<&str> = document.split("```rust\n").skip(1).collect();
        assert_eq!(blocks.len(), 6);
        for block in blocks {
            let code = block.split("```").next().unwrap_or_default();
            assert!(file.contains(&lines(code)), "this is not in the example:\n{code}");
        }
    }
}
