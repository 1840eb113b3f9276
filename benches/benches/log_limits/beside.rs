//! Lone small commits while somebody else commits large ones.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_channel::oneshot;
use woodchuck_benches::on_one_shard;
use woodchuck_io::ceiling::Took;
use woodchuck_io::{Env, Program};
use woodchuck_wal::{Lane, Log, LogError, LogOptions};

use crate::Figures;
use crate::commits::{acknowledge, create, timed};

/// How the large commits are made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Large {
    /// There are none.
    None,
    /// In the order of submission with all others.
    InOrder,
    /// In a lane of their own.
    InALane,
}

/// So many large commits are kept waiting.
const LARGE_WAITING: usize = 4;
const LARGE_BYTES: usize = 1 << 20;
const SMALL_BYTES: usize = 100;

/// Before anything is measured, so that there is a file for the large ones.
const WARM_UP: Duration = Duration::from_millis(1000);

/// The times of so many durable blocks of 4 KiB through a bare ring, one at a time, while another
/// process writes 1 MiB blocks through another.
pub(crate) fn ring(blocks: u64, directory: &Path) -> Figures {
    let (program, large) = (std::env::current_exe().expect("its path"), directory.join("large"));
    let mut other = Command::new(program);
    let mut other = other.arg("--write-large").arg(&large).spawn().expect("this program runs");
    std::thread::sleep(WARM_UP);
    let figures = crate::ring(&directory.join("small"), 4096, 1, blocks);
    assert!(other.try_wait().expect("it is a child").is_none(), "it writes for long enough");
    other.kill().expect("it runs");
    other.wait().expect("it ends");
    std::fs::remove_file(large).expect("it wrote a file");
    figures
}

/// Durable 1 MiB blocks through a bare ring, for longer than any measurement takes.
pub(crate) fn write_large(path: &Path) {
    crate::ring(path, LARGE_BYTES, LARGE_WAITING, 50_000);
}

/// The times of so many small commits.
pub(crate) fn measure(large: Large, commits: u64, directory: &Path) -> Figures {
    let directory = directory.join("beside");
    let took = on_one_shard(true, Beside { large, commits, directory: directory.clone() });
    std::fs::remove_dir_all(&directory).expect("the log can be removed");
    Figures::new(&took, commits)
}

#[derive(Clone)]
struct Beside {
    large: Large,
    commits: u64,
    directory: PathBuf,
}

type TestLog<E> = Log<E, oneshot::Sender<()>>;

impl Program for Beside {
    type Output = Took;

    async fn run<E: Env>(self, env: E) -> Took {
        let log = create(&env, self.directory, LogOptions::default()).await;
        let acknowledging = env.spawn("acknowledge", acknowledge(log.clone()));
        let ended = Rc::new(Cell::new(false));
        let waiting = if self.large == Large::None { 0 } else { LARGE_WAITING };
        let others: Vec<_> = (0..waiting)
            .map(|_| {
                let (log, ended, large) = (log.clone(), Rc::clone(&ended), self.large);
                env.spawn("large commits", async move {
                    let record = vec![0x5A; LARGE_BYTES];
                    while !ended.get() {
                        commit(&log, (large == Large::InALane).then_some(Lane(1)), &record).await;
                    }
                })
            })
            .collect();
        env.sleep(WARM_UP).await;
        let took = timed(small_commits(&log, self.commits)).await;
        ended.set(true);
        for other in others {
            other.await;
        }
        log.close().await.expect("all is durable");
        acknowledging.await;
        took
    }
}

async fn small_commits<E: Env>(log: &TestLog<E>, commits: u64) -> Vec<Duration> {
    let record = [0x5A; SMALL_BYTES];
    let mut times = Vec::new();
    for _ in 0..commits {
        let begun = Instant::now();
        commit(log, Some(Lane(2)), &record).await;
        times.push(begun.elapsed());
    }
    times
}

async fn commit<E: Env>(log: &TestLog<E>, lane: Option<Lane>, record: &[u8]) {
    let (mut sender, receiver) = oneshot::channel();
    loop {
        let submitted = match lane {
            Some(lane) => log.submit_in(lane, &[record], sender),
            None => log.submit(&[record], sender),
        };
        match submitted {
            Ok(()) => break receiver.await.expect("the disk works"),
            Err((LogError::Busy { .. }, given_back)) => sender = given_back,
            Err((error, _)) => panic!("{error}"),
        }
        log.room(record.len()).await;
    }
}
