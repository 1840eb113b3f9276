//! The registers, as a service over the seam, with its wire and its file.
//!
//! **What may fail here.** The process may be killed at any moment, its machine may crash or lose
//! its power, and connections may break. What was answered survives all of it: a register is written
//! durably before anybody is told or can read it. Disks that fail or lie are not for this service: it
//! has no second copy.
//!
//! # The wire
//!
//! A request has 25 bytes, an answer 9. Numbers are big-endian. An answer to a request comes before
//! the next request is looked at.
//!
//! | | byte 0 | 1–8 | 9–16 | 17–24 |
//! |---|---|---|---|---|
//! | read | 0 | key | | |
//! | write | 1 | key | | value |
//! | compare and set | 2 | key | expected | value |
//! | answer | 1: done, 0: not what was expected | value | | |
//!
//! # The file
//!
//! One block of 4096 bytes for each change, in words of eight bytes: key, checksum of key and value,
//! and the value again and again to the end, so that the change lies in every sector and a crash may
//! tear it. A block may be trusted if its checksum is right and all values in it are equal. The latest block of a key is its
//! value, since a key's next block is taken only when the one before is durable. Changes of several
//! keys may be under way at a time, so a crash leaves holes; what is in a hole was never answered.
//! Room is reserved for many blocks at a time, and after a start the block behind the last one that
//! can be trusted is the next.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use futures_util::lock::Mutex;
use woodchuck_io::limits::BLOCK_BYTES;
use woodchuck_io::{Buffer, Disk, Durability, Env, File, Listener, Net, OpenMode, Program, Stream};

use super::Bug;

pub(super) const PORT: u16 = 7100;

const FILE: &str = "/registers";

/// Blocks for which room is reserved at a time.
const RESERVED_BLOCKS: u64 = 32;

const REQUEST_BYTES: usize = 25;
const ANSWER_BYTES: usize = 9;

/// What is asked of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Read,
    Write(u64),
    CompareAndSet { expected: u64, new: u64 },
}

/// The answer: whether it was done, and the value that is there now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) done: bool,
    pub(super) value: u64,
}

/// The service.
#[derive(Clone)]
pub(super) struct Registers {
    /// A bug that was planted in it.
    pub(super) bug: Option<Bug>,
}

impl Program for Registers {
    type Output = io::Result<()>;

    fn run<E: Env>(self, env: E) -> impl Future<Output = io::Result<()>> + 'static {
        serve_until_stopped(env, self.bug)
    }
}

async fn serve_until_stopped<E: Env>(env: E, bug: Option<Bug>) -> io::Result<()> {
    let serving = pin!(serve(env.clone(), bug));
    match select(pin!(env.stopping()), serving).await {
        Either::Left(_) => Ok(()),
        Either::Right((outcome, _)) => outcome,
    }
}

async fn serve<E: Env>(env: E, bug: Option<Bug>) -> io::Result<()> {
    let store = Rc::new(Store::open(&env, bug).await?);
    let listener = env.net().listen(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let store = Rc::clone(&store);
        let task = async move {
            // A connection that breaks is its client's to make anew.
            let _ = answer_all(&store, &stream).await;
            if bug == Some(Bug::KeepsConnections) {
                std::future::pending::<()>().await;
            }
        };
        env.spawn("connection", task).detach();
    }
}

/// Answers the requests of one connection, until it ends or breaks.
async fn answer_all<E: Env>(store: &Store<E>, stream: &impl Stream) -> io::Result<()> {
    loop {
        let request = read::<REQUEST_BYTES>(stream).await?;
        let [key, expected, value] =
            [&request[1..9], &request[9..17], &request[17..25]].map(number);
        let ask = match request[0] {
            0 => Ask::Read,
            1 => Ask::Write(value),
            2 => Ask::CompareAndSet { expected, new: value },
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        let Answer { done, value } = store.answer(key, ask).await?;
        let mut answer = BytesMut::with_capacity(ANSWER_BYTES);
        answer.extend_from_slice(&[u8::from(done)]);
        answer.extend_from_slice(&value.to_be_bytes());
        stream.write(vec![answer.freeze()]).await?;
    }
}

/// Asks for one thing on a connection that nothing else is asked on, and waits for the answer.
pub(super) async fn ask(stream: &impl Stream, key: u64, ask: Ask) -> io::Result<Answer> {
    let (kind, expected, value) = match ask {
        Ask::Read => (0, 0, 0),
        Ask::Write(value) => (1, 0, value),
        Ask::CompareAndSet { expected, new } => (2, expected, new),
    };
    let mut request = BytesMut::with_capacity(REQUEST_BYTES);
    request.extend_from_slice(&[kind]);
    for number in [key, expected, value] {
        request.extend_from_slice(&number.to_be_bytes());
    }
    stream.write(vec![request.freeze()]).await?;
    let answer = read::<ANSWER_BYTES>(stream).await?;
    Ok(Answer { done: answer[0] == 1, value: number(&answer[1..9]) })
}

/// One register.
#[derive(Default)]
struct Register {
    /// Held by who changes it, from looking at its value until the new one is durable.
    changing: Mutex<()>,
    /// Only ever what is durable, so that nobody reads what could still vanish.
    value: Cell<u64>,
}

struct Store<E: Env> {
    file: <E::Disk as Disk>::File,
    bug: Option<Bug>,
    /// Blocks of the file that were taken, holes among them.
    taken: Cell<u64>,
    /// Blocks that the file durably has room for.
    reserved: Mutex<u64>,
    registers: RefCell<BTreeMap<u64, Rc<Register>>>,
}

impl<E: Env> Store<E> {
    async fn open(env: &E, bug: Option<Bug>) -> io::Result<Self> {
        let (disk, path) = (env.disk(), Path::new(FILE));
        let file = match disk.open(path, OpenMode::Write).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                disk.open(path, OpenMode::CreateNew).await?
            }
            opened => opened?,
        };
        // Also for a file that was there: who created it may have died before its name was durable.
        disk.sync_directory(Path::new("/")).await?;
        let blocks = file.length().await? / BLOCK_BYTES as u64;
        let (taken, reserved) = (Cell::new(0), Mutex::new(blocks));
        let store = Self { file, bug, taken, reserved, registers: RefCell::default() };
        for block in 0..blocks {
            let buffer = Buffer::with_capacity(BLOCK_BYTES);
            let (outcome, buffer) = store.file.read_at(buffer, start_of(block)).await;
            // A power cut leaves blocks that it tore unreadable: these are holes.
            if let Some((key, value)) = outcome.ok().and_then(|_| decode(&buffer)) {
                store.register(key).value.set(value);
                store.taken.set(block + 1);
            }
        }
        // Neither a change nor a length that was under way when the process died need be durable.
        store.file.sync_data().await?;
        Ok(store)
    }

    fn register(&self, key: u64) -> Rc<Register> {
        Rc::clone(self.registers.borrow_mut().entry(key).or_default())
    }

    async fn answer(&self, key: u64, ask: Ask) -> io::Result<Answer> {
        let register = self.register(key);
        if ask == Ask::Read {
            return Ok(Answer { done: true, value: register.value.get() });
        }
        let _changing = match self.bug {
            Some(Bug::ChangesOverlap) => None,
            _ => Some(register.changing.lock().await),
        };
        let value = register.value.get();
        let new = match ask {
            Ask::CompareAndSet { expected, .. } if expected != value => {
                return Ok(Answer { done: false, value });
            }
            Ask::CompareAndSet { new, .. } | Ask::Write(new) => new,
            Ask::Read => value,
        };
        self.write(key, new).await?;
        register.value.set(new);
        Ok(Answer { done: true, value: new })
    }

    async fn write(&self, key: u64, value: u64) -> io::Result<()> {
        let block = self.taken.replace(self.taken.get() + 1);
        self.reserve(block + 1).await?;
        let durability = match self.bug {
            Some(Bug::AnswersBeforeDurable) => Durability::Volatile,
            _ => Durability::Durable,
        };
        self.file.write_at(encode(key, value), start_of(block), durability).await.0
    }

    /// Has room for so many blocks. Blocks are written in place, so that a length is never at stake.
    async fn reserve(&self, blocks: u64) -> io::Result<()> {
        let mut reserved = self.reserved.lock().await;
        if *reserved < blocks {
            let enough = blocks.next_multiple_of(RESERVED_BLOCKS);
            self.file.allocate(start_of(enough)).await?;
            self.file.sync_data().await?;
            *reserved = enough;
        }
        Ok(())
    }
}

const fn start_of(block: u64) -> u64 {
    block * BLOCK_BYTES as u64
}

fn encode(key: u64, value: u64) -> Buffer {
    let mut block = Buffer::with_capacity(BLOCK_BYTES);
    block.extend_from_slice(&key.to_be_bytes());
    block.extend_from_slice(&checksum(key, value).to_be_bytes());
    while block.spare() > 0 {
        block.extend_from_slice(&value.to_be_bytes());
    }
    block
}

/// What is in a block; nothing if it is a hole.
fn decode(block: &[u8]) -> Option<(u64, u64)> {
    let mut words = block.chunks_exact(8).map(number);
    let (key, sum, value) = (words.next()?, words.next()?, words.next()?);
    let whole = block.len() == BLOCK_BYTES && words.all(|word| word == value);
    (whole && sum == checksum(key, value)).then_some((key, value))
}

/// FNV-1a of both numbers. Not 0 for two zeros, so a block of zeros is a hole.
fn checksum(key: u64, value: u64) -> u64 {
    let bytes = key.to_be_bytes().into_iter().chain(value.to_be_bytes());
    bytes.fold(0xCBF2_9CE4_8422_2325, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

/// A number of eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Reads so many bytes. It is an error if the stream ends before, or if more comes than was due.
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
    if buffer.len() > LENGTH {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(buffer.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_says_what_was_put_into_it_and_a_hole_says_nothing() {
        for (key, value) in [(0, 0), (1, 2), (u64::MAX, 7)] {
            let block = encode(key, value);
            assert_eq!(block.len(), BLOCK_BYTES);
            assert_eq!(decode(&block), Some((key, value)));
            for bit in (0..24 * 8).chain([BLOCK_BYTES * 8 - 1]) {
                let mut torn = block.to_vec();
                torn[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode(&torn), None, "bit {bit}");
            }
        }
        assert_eq!(decode(&[0; BLOCK_BYTES]), None);
        assert_eq!(decode(&[]), None);
    }
}
