//! Commits through the log of one shard.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_channel::oneshot;
use woodchuck_benches::on_one_shard;
use woodchuck_io::ceiling::{Took, process_busy_time};
use woodchuck_io::{Env, Program};
use woodchuck_wal::{Lane, Log, LogError, LogOptions};

use crate::Figures;

/// What is committed; all of `bytes` bytes, `commits` of them after a quarter as many to warm up.
#[derive(Clone, Copy)]
pub(crate) enum Load {
    /// By one task, that keeps so many commits waiting.
    Pipelined { bytes: usize, waiting: usize, commits: u64 },
    /// By one task, each commit a frame of its own, of which so many may be in flight. The queue
    /// is always full. In lanes, one for each in turn, their bytes stand beside the frames.
    Large { bytes: usize, in_flight: usize, in_lanes: bool, commits: u64 },
    /// By so many tasks, each of which keeps so many waiting and takes their acknowledgements one
    /// by one.
    Partitions { bytes: usize, tasks: usize, waiting: usize, commits: u64 },
}

pub(crate) fn measure(load: Load, directory: &Path) -> Figures {
    let directory = directory.join("commits");
    let took = on_one_shard(true, Commits { load, directory: directory.clone() });
    std::fs::remove_dir_all(&directory).expect("the log can be removed");
    let (Load::Pipelined { commits, .. }
    | Load::Large { commits, .. }
    | Load::Partitions { commits, .. }) = load;
    Figures::new(&took, commits)
}

#[derive(Clone)]
struct Commits {
    load: Load,
    directory: PathBuf,
}

impl Program for Commits {
    type Output = Took;

    async fn run<E: Env>(self, env: E) -> Took {
        let Self { load, directory } = self;
        let mut options = LogOptions::default();
        match load {
            Load::Pipelined { bytes, waiting, commits } => {
                let log = create(&env, directory, options).await;
                pipeline(&log, bytes, (waiting, false), commits / 4).await;
                let took = timed(pipeline(&log, bytes, (waiting, false), commits)).await;
                log.close().await.expect("all is durable");
                took
            }
            Load::Large { bytes, in_flight, in_lanes, commits } => {
                options.frames_in_flight = in_flight;
                let log = create(&env, directory, options).await;
                let waiting = in_flight + 2;
                pipeline(&log, bytes, (waiting, in_lanes), commits / 4).await;
                let took = timed(pipeline(&log, bytes, (waiting, in_lanes), commits)).await;
                log.close().await.expect("all is durable");
                took
            }
            Load::Partitions { bytes, tasks, waiting, commits } => {
                let log = create(&env, directory, options).await;
                let acknowledging = env.spawn("acknowledge", acknowledge(log.clone()));
                partitions(&env, &log, bytes, (tasks, waiting), commits / 4).await;
                let took = timed(partitions(&env, &log, bytes, (tasks, waiting), commits)).await;
                log.close().await.expect("all is durable");
                acknowledging.await;
                took
            }
        }
    }
}

pub(crate) async fn create<E: Env, T: 'static>(
    env: &E,
    directory: PathBuf,
    options: LogOptions,
) -> Log<E, T> {
    let opened = Log::open(env.clone(), directory, options, |_| Ok(())).await;
    opened.expect("the log can be created").0
}

/// How long it takes; what it gives are the times of its commits.
pub(crate) async fn timed(commits: impl Future<Output = Vec<Duration>>) -> Took {
    let busy = || process_busy_time().expect("the time of the process");
    let (start, before) = (Instant::now(), busy());
    let times = commits.await;
    Took::new(start.elapsed(), busy() - before, times)
}

/// So many commits, in lanes or not, of which `waiting` are kept waiting as far as the queue takes them.
async fn pipeline<E: Env>(
    log: &Log<E, ()>,
    bytes: usize,
    (waiting, in_lanes): (usize, bool),
    commits: u64,
) -> Vec<Duration> {
    let record = vec![0x5A_u8; bytes];
    let mut begun: VecDeque<Instant> = VecDeque::with_capacity(waiting);
    let mut times = Vec::with_capacity(usize::try_from(commits).unwrap_or(0));
    let mut submitted = 0;
    while (times.len() as u64) < commits {
        while submitted < commits && begun.len() < waiting {
            let taken = match in_lanes {
                true => log.submit_in(Lane(submitted), &[&record], ()),
                false => log.submit(&[&record], ()),
            };
            match taken {
                Ok(()) => {
                    begun.push_back(Instant::now());
                    submitted += 1;
                }
                Err((LogError::Busy { .. }, ())) => break,
                Err((error, ())) => panic!("{error}"),
            }
        }
        let committed = log.committed().await.expect("the disk works");
        let now = Instant::now();
        times.extend(begun.drain(..committed.len()).map(|begun| now - begun));
        if let Some(last) = committed.last() {
            log.trim(last.lsn);
        }
    }
    times
}

/// So many commits by so many tasks, each of which keeps so many waiting.
async fn partitions<E: Env>(
    env: &E,
    log: &Log<E, oneshot::Sender<()>>,
    bytes: usize,
    (tasks, waiting): (usize, usize),
    commits: u64,
) -> Vec<Duration> {
    let left = Rc::new(Cell::new(commits));
    let times = Vec::with_capacity(usize::try_from(commits).unwrap_or(0));
    let times = Rc::new(RefCell::new(times));
    let record: Rc<[u8]> = vec![0x5A_u8; bytes].into();
    let committing: Vec<_> = (0..tasks)
        .map(|_| {
            let (log, left) = (log.clone(), Rc::clone(&left));
            let (times, record) = (Rc::clone(&times), Rc::clone(&record));
            env.spawn("partition", async move {
                let mut begun = VecDeque::with_capacity(waiting);
                loop {
                    while left.get() > 0 && begun.len() < waiting {
                        left.set(left.get() - 1);
                        let (sender, receiver) = oneshot::channel();
                        begun.push_back((Instant::now(), receiver));
                        log.submit(&[&record], sender).expect("the queue has room for all");
                    }
                    let Some((begun, receiver)) = begun.pop_front() else { return };
                    receiver.await.expect("the disk works");
                    times.borrow_mut().push(begun.elapsed());
                }
            })
        })
        .collect();
    for each in committing {
        each.await;
    }
    times.take()
}

/// Tells each task of its commit, and trims what is durable, until the log is closed.
pub(crate) async fn acknowledge<E: Env>(log: Log<E, oneshot::Sender<()>>) {
    while let Ok(committed) = log.committed().await {
        if let Some(last) = committed.last() {
            log.trim(last.lsn);
        }
        for commit in committed {
            commit.context.send(()).expect("the task waits");
        }
    }
}
