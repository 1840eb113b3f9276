//! Appends through the engine of one shard: to many partitions, or to one.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use woodchuck::{Engine, EngineOptions};
use woodchuck_benches::on_one_shard;
use woodchuck_io::ceiling::Took;
use woodchuck_io::{Env, Program};
use woodchuck_stream::batch::build::{self, Record};
use woodchuck_stream::{Batch, PartitionId, TopicName};

use crate::Figures;
use crate::commits::timed;

/// Bytes of a record's value.
const RECORD_BYTES: usize = 100;

/// So many appends by so many tasks, each of which awaits its append before the next. The tasks
/// take the partitions in turn.
pub(crate) fn measure(partitions: u32, tasks: usize, appends: u64, directory: &Path) -> Figures {
    let directory = directory.join("engine");
    let took =
        on_one_shard(true, Appends { partitions, tasks, appends, directory: directory.clone() });
    std::fs::remove_dir_all(&directory).expect("the data can be removed");
    Figures::new(&took, appends)
}

#[derive(Clone)]
struct Appends {
    partitions: u32,
    tasks: usize,
    appends: u64,
    directory: PathBuf,
}

impl Program for Appends {
    type Output = Took;

    async fn run<E: Env>(self, env: E) -> Took {
        let options = EngineOptions::new(self.directory.clone());
        let engine = Engine::open(env.clone(), options).await.expect("a new directory");
        let name = TopicName::new("measured").expect("a good name");
        let topic = engine.create_topic(name, self.partitions).await.expect("a new topic");
        let partitions: Vec<PartitionId> =
            (0..self.partitions).map(|index| PartitionId { topic: topic.id, index }).collect();
        self.append(&env, &engine, &partitions, self.appends / 4).await;
        let took = timed(self.append(&env, &engine, &partitions, self.appends)).await;
        engine.close().await.expect("all is durable");
        took
    }
}

impl Appends {
    async fn append<E: Env>(
        &self,
        env: &E,
        engine: &Engine<E>,
        partitions: &[PartitionId],
        appends: u64,
    ) -> Vec<Duration> {
        let value = [0x5A; RECORD_BYTES];
        let bytes = build::batch(&[Record { timestamp: 7, key: None, value: Some(&value) }]);
        let batch = Batch::parse(bytes).expect("a good batch");
        let left = Rc::new(Cell::new(appends));
        let times = Vec::with_capacity(usize::try_from(appends).unwrap_or(0));
        let times = Rc::new(RefCell::new(times));
        let tasks: Vec<_> = (0..self.tasks)
            .map(|task| {
                let (clock, engine, batch) = (env.clone(), engine.clone(), batch.clone());
                let (left, times) = (Rc::clone(&left), Rc::clone(&times));
                let partition = partitions[task % partitions.len()];
                env.spawn("append", async move {
                    while left.get() > 0 {
                        left.set(left.get() - 1);
                        let begun = clock.now();
                        let ticket = engine.append(partition, batch.clone()).await;
                        ticket.await.expect("the disk works");
                        times.borrow_mut().push(clock.now() - begun);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
        times.take()
    }
}
