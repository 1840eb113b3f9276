//! The cases as programs on glommio do them: its files, its buffers, its channels, its executor as
//! it comes.
//!
//! It has no durable write. A program on it writes and then flushes the file (`fdatasync`), and so
//! does this one. Writes take one buffer again and again (`write_rc_at`); reads get theirs from
//! glommio, out of memory that it has registered.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use glommio::channels::shared_channel::{self, SharedReceiver, SharedSender};
use glommio::io::{DmaFile, OpenOptions};
use glommio::{LocalExecutorBuilder, Placement, spawn_local};
use woodchuck_io::RandomStream;
use woodchuck_io::ceiling::{Access, Took, process_busy_time};

use crate::{Case, FILE_BYTES};

/// For how long it polls before it sleeps, where it is told to: as long as the runtime does.
const SPIN: Duration = Duration::from_micros(woodchuck_io::limits::IDLE_SPIN_US);

/// Messages that a channel holds.
const CHANNEL: usize = 16;

pub(crate) fn run(case: Case, variant: &str, path: &Path) -> Took {
    let Some(access) = case.access else { return messages(case.operations, variant) };
    let path = path.to_path_buf();
    // The process is bound to a CPU already.
    let executor = LocalExecutorBuilder::new(Placement::Unbound);
    let executor = executor.spawn(move || transfers(case, access, path)).expect("an executor");
    executor.join().expect("no panic")
}

/// What is measured, from its beginning to its end.
struct Span {
    start: Instant,
    busy: Duration,
}

impl Span {
    fn begin() -> Self {
        Self { start: Instant::now(), busy: process_busy_time().expect("its time") }
    }

    fn end(&self, times: Vec<Duration>) -> Took {
        let (elapsed, busy) = (self.start.elapsed(), process_busy_time().expect("its time"));
        Took::new(elapsed, busy - self.busy, times)
    }
}

async fn transfers(case: Case, access: Access, path: PathBuf) -> Took {
    let file = OpenOptions::new().read(true).write(true).dma_open(&path).await;
    let file = Rc::new(file.expect("the file is there"));
    let next = Rc::new(Cell::new(0));
    go(&file, access, case, case.operations / 4, &next).await;
    let span = Span::begin();
    let times = go(&file, access, case, case.operations, &next).await;
    span.end(times)
}

async fn go(
    file: &Rc<DmaFile>,
    access: Access,
    case: Case,
    operations: u64,
    next: &Rc<Cell<u64>>,
) -> Vec<Duration> {
    let (bytes, left) = (case.bytes, Rc::new(Cell::new(operations)));
    let times = Rc::new(RefCell::new(Vec::with_capacity(operations as usize)));
    let begun: Vec<_> = (0..case.depth)
        .map(|number| {
            let (file, next) = (Rc::clone(file), Rc::clone(next));
            let (left, times) = (Rc::clone(&left), Rc::clone(&times));
            spawn_local(async move {
                let mut random = RandomStream::from_seed([number as u8; 32]);
                let mut buffer = file.alloc_dma_buffer(bytes);
                buffer.as_bytes_mut().fill(0);
                let buffer = Rc::new(buffer);
                while left.get() > 0 {
                    left.set(left.get() - 1);
                    let places = FILE_BYTES / bytes as u64;
                    let place = match access {
                        Access::Read => random.below(places),
                        _ => next.replace(next.get() + 1) % places,
                    };
                    let offset = place * bytes as u64;
                    let start = Instant::now();
                    if access == Access::Read {
                        let read = file.read_at_aligned(offset, bytes).await.expect("read");
                        assert_eq!(read.len(), bytes);
                    } else {
                        let written = file.write_rc_at(Rc::clone(&buffer), offset).await;
                        assert_eq!(written.expect("written"), bytes);
                    }
                    if access == Access::DurableWrite {
                        file.fdatasync().await.expect("flushed");
                    }
                    times.borrow_mut().push(start.elapsed());
                }
            })
        })
        .collect();
    for transfer in begun {
        transfer.await;
    }
    times.take()
}

/// One executor sends back what the other sends it, whose times count.
fn messages(count: u64, variant: &str) -> Took {
    let builder = |cpu| {
        let builder = LocalExecutorBuilder::new(Placement::Fixed(cpu));
        if variant == "glommio, spin" { builder.spin_before_park(SPIN) } else { builder }
    };
    let (there, arrives) = shared_channel::new_bounded(CHANNEL);
    let (back, returns) = shared_channel::new_bounded(CHANNEL);
    let answers = builder(0).spawn(move || answer(arrives, back)).expect("an executor");
    let asks = builder(1).spawn(move || ask(there, returns, count)).expect("an executor");
    let took = asks.join().expect("no panic");
    answers.join().expect("no panic");
    took
}

async fn answer(arrives: SharedReceiver<Box<()>>, back: SharedSender<Box<()>>) {
    let (arrives, back) = (arrives.connect().await, back.connect().await);
    while let Some(message) = arrives.recv().await {
        if back.send(message).await.is_err() {
            return;
        }
    }
}

async fn ask(there: SharedSender<Box<()>>, returns: SharedReceiver<Box<()>>, count: u64) -> Took {
    let (there, returns) = (there.connect().await, returns.connect().await);
    let mut times = Vec::with_capacity(count as usize);
    let warm_up = count / 4;
    let mut span = Span::begin();
    for number in 0..warm_up + count {
        if number == warm_up {
            span = Span::begin();
            times.clear();
        }
        let start = Instant::now();
        assert!(there.send(Box::new(())).await.is_ok(), "the other end is there");
        returns.recv().await.expect("answered");
        times.push(start.elapsed());
    }
    span.end(times)
}
