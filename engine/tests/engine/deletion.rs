//! Topics that are deleted while others wait for them, and what they give back.

use std::time::Duration;

use woodchuck::{EngineError, ReadRequest};
use woodchuck_io::Env;
use woodchuck_sim::World;
use woodchuck_stream::Batch;
use woodchuck_stream::batch::build::{self, Record};

use crate::{append, name, partition, run, values};

/// Worlds in which a deletion meets a first append. The first in which they meet at the wrong moment
/// is among them.
const TRIM_SEEDS: u64 = 2000;

#[test]
fn a_reader_that_waits_is_told_that_the_topic_is_deleted() {
    for seed in 0..10 {
        let world = World::new(seed);
        let machine = world.machine("engine");
        run(&world, machine, (2, 0), |env, engine| async move {
            for index in 0..2 {
                let topic = engine.create_topic(name("t"), 2).await.expect("created");
                let partition = partition(&topic, index);
                let (owner, later) = (engine.clone(), env.sleep(Duration::from_millis(3)));
                let delete = async move {
                    later.await;
                    owner.delete_topic(topic.id).await.expect("deleted");
                };
                let deleting = env.spawn("delete later", delete);
                let begun = env.now();
                let requests = [ReadRequest { partition, offset: 0, max_bytes: 1000 }];
                let mut reader = engine.reader();
                let wait = Duration::from_secs(20);
                assert_eq!(engine.wait_readable(&mut reader, &requests, 1, 1000, wait).await, 0);
                assert!(env.now() - begun < Duration::from_secs(10), "woken, not timed out");
                let outcomes = engine.read(&requests, 1000).await;
                assert_eq!(outcomes[0].as_ref().err(), Some(&EngineError::UnknownPartition));
                deleting.await;
            }
        });
    }
}

/// A batch that is sent again before its first copy is durable waits for that. If the topic goes
/// meanwhile, nothing of it is waited for any more: both are answered, whatever became of them.
#[test]
fn a_batch_sent_again_is_answered_when_its_topic_is_deleted_meanwhile() {
    let mut deleted = 0;
    for seed in 0..200 {
        let world = World::new(seed);
        let machine = world.machine("engine");
        deleted += run(&world, machine, (2, 0), |_, engine| async move {
            let topic = engine.create_topic(name("t"), 2).await.expect("created");
            let record = Record { timestamp: 7, key: None, value: Some(&[1; 2000]) };
            let bytes = build::batch_from(&[record], Some((42, 0, 0)));
            let sent = Batch::parse(bytes).expect("a good batch");
            let id = partition(&topic, 1);
            let first = engine.append(id, sent.clone()).await;
            let again = engine.append(id, sent).await;
            engine.delete_topic(topic.id).await.expect("deleted");
            let (first, again) = (first.await, again.await);
            for answer in [&first, &again] {
                let gone = *answer == Err(EngineError::UnknownPartition);
                assert!(gone || answer.is_ok(), "{answer:?}");
            }
            u32::from(again.is_err())
        });
    }
    assert!(deleted > 0, "no topic was gone before its batch was durable");
}

#[test]
fn deleted_topics_give_their_log_back() {
    for seed in 0..10 {
        let world = World::new(seed);
        let machine = world.machine("engine");
        let kept = run(&world, machine, (2, 0), |_, engine| async move {
            let kept = engine.create_topic(name("kept"), 2).await.expect("created");
            for round in 0..30_u8 {
                let topic = engine.create_topic(name("scratch"), 2).await.expect("created");
                for index in 0..2 {
                    for _ in 0..4 {
                        append(&engine, partition(&topic, index), &[1; 8000]).await.expect("good");
                    }
                }
                engine.delete_topic(topic.id).await.expect("deleted");
                let gone = append(&engine, partition(&topic, 0), b"v").await;
                assert_eq!(gone, Err(EngineError::UnknownPartition));
                if round == 28 {
                    append(&engine, partition(&kept, 1), b"late").await.expect("appended");
                }
            }
            kept
        });
        // 30 rounds of 32 kB for each shard went through logs of 64 KiB segments.
        let files = world.disk(machine).files();
        let segments = files.iter().filter(|path| path.contains("/log/")).count();
        assert!(segments <= 12, "the logs were not given back: {files:?}");
        world.power_cut(machine);
        run(&world, machine, (2, 0), move |_, engine| {
            let kept = kept.clone();
            async move {
                assert_eq!(engine.topics().len(), 1);
                assert_eq!(values(&engine, partition(&kept, 1)).await, [b"late".to_vec()]);
                assert_eq!(append(&engine, partition(&kept, 0), b"v").await, Ok(0));
            }
        });
    }
}

/// Bug: a shard that dropped the partitions of a deleted topic trimmed its log up to the last
/// durable frame. A first record of another partition that was durable by then, and not yet in the
/// partition's index, was trimmed with it. What is applied now bounds what is trimmed.
#[test]
fn deleting_a_topic_never_takes_a_record_that_has_just_become_durable() {
    for seed in 0..TRIM_SEEDS {
        let world = World::new(seed);
        let machine = world.machine("engine");
        let kept = run(&world, machine, (2, 0), |env, engine| async move {
            let kept = engine.create_topic(name("kept"), 2).await.expect("created");
            for round in 0..4 {
                engine.create_topic(name(&format!("scratch-{round}")), 2).await.expect("created");
            }
            let deleter = engine.clone();
            let deleting = env.spawn("delete", async move {
                for round in 0..4 {
                    let topics = deleter.topics();
                    let topic = topics.by_name(&format!("scratch-{round}")).expect("it is there");
                    deleter.delete_topic(topic.id).await.expect("deleted");
                }
            });
            env.sleep(Duration::from_micros(env.random("delay").below(600))).await;
            for index in 0..2 {
                append(&engine, partition(&kept, index), b"first").await.expect("appended");
            }
            deleting.await;
            kept
        });
        world.run_for(Duration::from_millis(20));
        world.kill(machine);
        run(&world, machine, (2, 0), move |_, engine| {
            let kept = kept.clone();
            async move {
                for index in 0..2 {
                    let found = values(&engine, partition(&kept, index)).await;
                    assert_eq!(found, [b"first".to_vec()], "partition {index}");
                }
            }
        });
    }
}
