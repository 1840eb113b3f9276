//! The engine on simulated machines: what crosses shards, what survives, and what is refused.

mod deletion;
mod directories;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use woodchuck::{Engine, EngineError, EngineOptions, OffsetQuery, ReadRequest};
use woodchuck_io::{Env, Mesh};
use woodchuck_sim::{DiskOperation, MachineId, SimEnv, World};
use woodchuck_stream::batch::build::{self, Record};
use woodchuck_stream::{Batch, PartitionId, Topic, TopicName};
use woodchuck_wal::LogOptions;

const LIMIT: Duration = Duration::from_secs(60);

fn options() -> EngineOptions {
    let mut options = EngineOptions::new(PathBuf::from("/data"));
    options.log = LogOptions::small();
    options.tail_bytes = 4096;
    options
}

fn batch(value: &[u8]) -> Batch {
    let bytes = build::batch(&[Record { timestamp: 7, key: None, value: Some(value) }]);
    Batch::parse(bytes).expect("a good batch")
}

fn name(name: &str) -> TopicName {
    TopicName::new(name).expect("a good name")
}

fn partition(topic: &Topic, index: u32) -> PartitionId {
    PartitionId { topic: topic.id, index }
}

async fn append(
    engine: &Engine<SimEnv>,
    id: PartitionId,
    value: &[u8],
) -> Result<i64, EngineError> {
    let ticket = engine.append(id, batch(value)).await;
    ticket.await.map(|appended| appended.base_offset)
}

/// The values of a partition, from its beginning.
async fn values(engine: &Engine<SimEnv>, id: PartitionId) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    loop {
        let offset = values.len() as i64;
        let request = ReadRequest { partition: id, offset, max_bytes: 10_000 };
        let outcome = engine.read(&[request], 10_000).await;
        let outcome = outcome.into_iter().next().expect("one outcome").expect("readable");
        if outcome.batches.is_empty() {
            return values;
        }
        for bytes in outcome.batches {
            let batch = Batch::parse_stored(bytes).expect("whole");
            values.extend(build::values(&batch).into_iter().map(|(_, value)| value.to_vec()));
        }
    }
}

/// Runs `work` on shard `on` of a process of `shards`, with the engine open on all, and gives what
/// it returned. The process is left running.
fn run<T, F>(
    world: &World,
    machine: MachineId,
    (shards, on): (usize, usize),
    work: impl Fn(SimEnv, Engine<SimEnv>) -> F + 'static,
) -> T
where
    T: 'static,
    F: Future<Output = T> + 'static,
{
    let result: Rc<RefCell<Option<T>>> = Rc::default();
    let (shared, work) = (Rc::clone(&result), Rc::new(work));
    world.start(machine, shards, move |env| {
        let (shared, work) = (Rc::clone(&shared), Rc::clone(&work));
        async move {
            let engine = Engine::open(env.clone(), options()).await.expect("opens");
            if env.mesh().shard() == on {
                let output = work(env.clone(), engine.clone()).await;
                *shared.borrow_mut() = Some(output);
            }
            env.stopping().await;
            engine.close().await.expect("closes");
        }
    });
    assert!(world.run_until(|| result.borrow().is_some(), LIMIT), "the work is not done in time");
    result.take().expect("it is done")
}

#[test]
fn any_shard_reaches_every_partition() {
    for seed in 0..20 {
        let world = World::new(seed);
        let machine = world.machine("engine");
        run(&world, machine, (3, seed as usize % 3), |_, engine| async move {
            let topic = engine.create_topic(name("t"), 7).await.expect("created");
            for index in 0..7 {
                for value in 0..5_u8 {
                    let offset = append(&engine, partition(&topic, index), &[value; 2000]).await;
                    assert_eq!(offset, Ok(i64::from(value)));
                }
            }
            for index in 0..7 {
                let found = values(&engine, partition(&topic, index)).await;
                assert_eq!(found, (0..5_u8).map(|value| vec![value; 2000]).collect::<Vec<_>>());
            }
            let unknown = append(&engine, partition(&topic, 7), b"v").await;
            assert_eq!(unknown, Err(EngineError::UnknownPartition));
            let again = engine.create_topic(name("t"), 1).await;
            assert_eq!(again, Err(EngineError::TopicExists));
        });
    }
}

#[test]
fn what_was_acknowledged_is_there_after_a_power_cut() {
    for seed in 0..50 {
        let world = World::new(seed);
        let machine = world.machine("engine");
        let topic = run(&world, machine, (2, 0), |_, engine| async move {
            let topic = engine.create_topic(name("t"), 4).await.expect("created");
            for value in 0..20_u8 {
                let id = partition(&topic, u32::from(value) % 4);
                append(&engine, id, &[value; 3000]).await.expect("appended");
            }
            topic
        });
        world.power_cut(machine);
        run(&world, machine, (2, 1), move |_, engine| {
            let topic = topic.clone();
            async move {
                assert_eq!(engine.topics().by_name("t"), Some(&topic));
                for index in 0..4_u8 {
                    let found = values(&engine, partition(&topic, u32::from(index))).await;
                    let sent = (0..5).map(|round| vec![round * 4 + index; 3000]);
                    assert_eq!(found, sent.collect::<Vec<_>>());
                }
            }
        });
    }
}

/// Large batches overtake nothing in their partition and hold up nothing in others; and a power cut
/// leaves of each partition what was acknowledged and perhaps more, in order.
#[test]
fn batches_of_any_size_keep_the_order_of_their_partition() {
    let mut with_bodies = 0;
    for seed in 0..30 {
        let world = World::new(seed);
        let machine = world.machine("engine");
        let (topic, acknowledged) = run(&world, machine, (1, 0), |env, engine| async move {
            let topic = engine.create_topic(name("t"), 3).await.expect("created");
            let mut random = env.random("sizes");
            let (mut tickets, mut sent) = (Vec::new(), [0_u8; 3]);
            for _ in 0..60 {
                let index = random.below(3) as usize;
                let value = vec![sent[index]; if random.below(2) == 0 { 10 } else { 6000 }];
                sent[index] += 1;
                let ticket = engine.append(partition(&topic, index as u32), batch(&value)).await;
                tickets.push((index, ticket));
                if random.below(4) == 0 {
                    env.sleep(Duration::from_micros(random.below(400))).await;
                }
            }
            let mut acknowledged = [0; 3];
            for (index, ticket) in tickets.drain(..45) {
                let appended = ticket.await.expect("appended");
                assert_eq!(appended.base_offset, acknowledged[index]);
                acknowledged[index] += 1;
            }
            (topic, acknowledged)
        });
        world.power_cut(machine);
        let found = run(&world, machine, (1, 0), move |_, engine| {
            let topic = topic.clone();
            async move {
                let mut found = Vec::new();
                for index in 0..3 {
                    found.push(values(&engine, partition(&topic, index)).await);
                }
                found
            }
        });
        for (values, acknowledged) in found.iter().zip(acknowledged) {
            assert!(values.len() as i64 >= acknowledged, "{} of {acknowledged}", values.len());
            for (offset, value) in values.iter().enumerate() {
                assert!([10, 6000].contains(&value.len()), "{} bytes", value.len());
                assert!(value.iter().all(|&byte| usize::from(byte) == offset), "at {offset}");
            }
        }
        let files = world.disk(machine).files();
        with_bodies += usize::from(files.iter().any(|path| path.ends_with(".body")));
    }
    assert!(with_bodies > 20, "{with_bodies} worlds had files of bodies");
}

#[test]
fn a_reader_that_waits_is_woken_by_an_append_on_any_shard() {
    for seed in 0..30 {
        let world = World::new(seed);
        let machine = world.machine("engine");
        run(&world, machine, (3, 0), |env, engine| async move {
            let topic = engine.create_topic(name("t"), 3).await.expect("created");
            for round in 0..6 {
                let target = partition(&topic, round % 3);
                let offset = i64::from(round / 3);
                let appender = engine.clone();
                let later = env.sleep(Duration::from_millis(3));
                let append = async move {
                    later.await;
                    append(&appender, target, b"v").await.expect("appended");
                };
                let appending = env.spawn("append later", append);
                let begun = env.now();
                let requests: Vec<ReadRequest> = (0..3)
                    .map(|index| ReadRequest {
                        partition: partition(&topic, index),
                        offset: if index == round % 3 { offset } else { ends(round, index) },
                        max_bytes: 1000,
                    })
                    .collect();
                let mut reader = engine.reader();
                let wait = Duration::from_secs(20);
                let readable = engine.wait_readable(&mut reader, &requests, 1, 1000, wait).await;
                assert!(readable > 0);
                let outcomes = engine.read(&requests, 1000).await;
                let found: usize =
                    outcomes.into_iter().map(|outcome| outcome.expect("good").batches.len()).sum();
                assert_eq!(found, 1);
                assert!(env.now() - begun < Duration::from_secs(10), "woken, not timed out");
                appending.await;
            }
        });
    }
}

/// The end of a partition before round `round`, in which partition `round % 3` gets a record.
fn ends(round: u32, index: u32) -> i64 {
    i64::from((round + 2 - index) / 3)
}

#[test]
fn a_reader_waits_no_longer_than_it_said() {
    let world = World::new(1);
    let machine = world.machine("engine");
    run(&world, machine, (2, 0), |env, engine| async move {
        let topic = engine.create_topic(name("t"), 2).await.expect("created");
        let begun = env.now();
        let requests = [0, 1].map(|index| ReadRequest {
            partition: partition(&topic, index),
            offset: 0,
            max_bytes: 1000,
        });
        let wait = Duration::from_millis(50);
        let mut reader = engine.reader();
        let readable = engine.wait_readable(&mut reader, &requests, 1, 1000, wait).await;
        assert_eq!(readable, 0);
        assert!(env.now() - begun >= wait);
        let beyond = ReadRequest { offset: 5, ..requests[0] };
        let begun = env.now();
        engine.wait_readable(&mut reader, &[beyond], 1, 1000, LIMIT).await;
        assert!(env.now() - begun < LIMIT / 2, "an error ends the wait");
        let outcomes = engine.read(&[beyond], 1000).await;
        let out_of_range = EngineError::OffsetOutOfRange { start: 0, end: 0 };
        assert_eq!(outcomes[0].as_ref().err(), Some(&out_of_range));
    });
}

#[test]
fn offsets_are_found_by_place_and_time() {
    let world = World::new(2);
    let machine = world.machine("engine");
    run(&world, machine, (2, 1), |_, engine| async move {
        let topic = engine.create_topic(name("t"), 1).await.expect("created");
        let id = partition(&topic, 0);
        for _ in 0..3 {
            append(&engine, id, b"v").await.expect("appended");
        }
        let mut found = Vec::new();
        for query in [
            OffsetQuery::Earliest,
            OffsetQuery::Latest,
            OffsetQuery::MaxTimestamp,
            OffsetQuery::Timestamp(0),
            OffsetQuery::Timestamp(8),
        ] {
            found.push(engine.offset(id, query).await.expect("known").map(|found| found.offset));
        }
        assert_eq!(found, [Some(0), Some(3), Some(0), Some(0), None]);
    });
}

#[test]
fn a_failed_write_poisons_its_shard_for_good_and_loses_nothing_acknowledged() {
    for seed in 0..30 {
        let world = World::new(seed);
        let machine = world.machine("engine");
        let topic = run(&world, machine, (1, 0), |env, engine| async move {
            let topic = engine.create_topic(name("t"), 1).await.expect("created");
            let id = partition(&topic, 0);
            append(&engine, id, b"good").await.expect("appended");
            let breaking = topic.clone();
            env.spawn("use a broken disk", use_broken_disk(env.clone(), engine, breaking)).detach();
            topic
        });
        let disk = world.disk(machine);
        disk.fail_next(DiskOperation::Write, 1, std::io::ErrorKind::Other);
        world.run_for(Duration::from_secs(1));
        assert!(disk.exists("/data"), "the machine runs on");
        world.kill(machine);
        run(&world, machine, (1, 0), move |_, engine| {
            let id = partition(&topic, 0);
            async move {
                let found = values(&engine, id).await;
                assert_eq!(found[0], b"good");
                assert!(found.len() == 1 || found[1..] == [b"unknown".to_vec()], "{found:?}");
            }
        });
    }
}

/// Finds the shard poisoned by the first write that fails, and for every call after it.
async fn use_broken_disk(env: SimEnv, engine: Engine<SimEnv>, topic: Topic) {
    env.sleep(Duration::from_millis(100)).await;
    let id = partition(&topic, 0);
    let failed = append(&engine, id, b"unknown").await.expect_err("the disk failed");
    assert!(matches!(failed, EngineError::Storage(_)), "{failed}");
    assert!(!failed.is_definite() && !failed.is_retryable());
    let after = append(&engine, id, b"after").await.expect_err("poisoned");
    assert!(matches!(after, EngineError::Storage(_)), "{after}");
    let create = engine.create_topic(name("u"), 1).await;
    assert!(matches!(create, Err(EngineError::Storage(_))));
}

#[test]
fn a_batch_sent_again_is_answered_when_it_is_durable_and_stored_once() {
    for seed in 0..50 {
        let world = World::new(seed);
        let machine = world.machine("engine");
        run(&world, machine, (2, 0), |_, engine| async move {
            let topic = engine.create_topic(name("t"), 2).await.expect("created");
            for index in 0..2 {
                let id = partition(&topic, index);
                let record = Record { timestamp: 7, key: None, value: Some(b"v") };
                let bytes = build::batch_from(&[record], Some((42, 0, 0)));
                let sent = Batch::parse(bytes).expect("a good batch");
                let first = engine.append(id, sent.clone()).await;
                let again = engine.append(id, sent).await.await.expect("it is there");
                // An answer means durable, and what is durable can be read.
                let end = engine.offset(id, OffsetQuery::Latest).await.expect("known");
                assert_eq!(end.map(|found| found.offset), Some(1));
                assert_eq!(again, first.await.expect("appended"));
            }
        });
    }
}
