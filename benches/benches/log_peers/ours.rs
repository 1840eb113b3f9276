//! The log of one shard, with one task for each writer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_channel::oneshot;
use woodchuck_benches::on_one_shard;
use woodchuck_io::{Env, Program};
use woodchuck_wal::{Log, LogOptions};

use crate::{Control, RECORD_BYTES};

pub(crate) fn run(writers: usize, directory: &Path, control: &Arc<Control>) -> Vec<Duration> {
    let directory = directory.join("log");
    on_one_shard(false, Commits { writers, directory, control: Arc::clone(control) })
}

#[derive(Clone)]
struct Commits {
    writers: usize,
    directory: PathBuf,
    control: Arc<Control>,
}

impl Program for Commits {
    type Output = Vec<Duration>;

    async fn run<E: Env>(self, env: E) -> Self::Output {
        let Self { writers, directory, control } = self;
        let opened = Log::open(env.clone(), directory, LogOptions::default(), |_| Ok(())).await;
        let (log, _) = opened.expect("the log can be created");
        control.begin();
        let writing: Vec<_> = (0..writers)
            .map(|_| {
                let (log, control) = (log.clone(), Arc::clone(&control));
                env.spawn("writer", async move { write(&log, &control).await })
            })
            .collect();
        let acknowledging = env.spawn("acknowledge", acknowledge(log.clone()));
        let mut times = Vec::new();
        for each in writing {
            times.append(&mut each.await);
        }
        log.close().await.expect("all is durable");
        acknowledging.await;
        times
    }
}

async fn write<E: Env>(log: &Log<E, oneshot::Sender<()>>, control: &Control) -> Vec<Duration> {
    let record = [0x5A_u8; RECORD_BYTES];
    let mut times = Vec::with_capacity(1 << 16);
    while !control.is_over() {
        let begun = Instant::now();
        let (sender, receiver) = oneshot::channel();
        log.submit(&[&record], sender).expect("the queue has room for every writer");
        receiver.await.expect("the disk works");
        control.note(begun, &mut times);
    }
    times
}

/// Tells each writer of its commit, and trims what is durable, until the log is closed.
async fn acknowledge<E: Env>(log: Log<E, oneshot::Sender<()>>) {
    while let Ok(committed) = log.committed().await {
        if let Some(last) = committed.last() {
            log.trim(last.lsn);
        }
        for commit in committed {
            commit.context.send(()).expect("the writer waits");
        }
    }
}
