//! Who decides about topics: shard 0, one change at a time.
//!
//! A change is durable in shard 0's log before any shard hears of it, and known to every shard
//! before it is answered. So a crash in between leaves either the old topics or the new ones, and
//! a client that was told of a topic finds it on whichever shard it asks next.

use std::cell::RefCell;

use futures_util::lock::Mutex;
use woodchuck_io::{Env, Mesh, RandomStream};
use woodchuck_stream::{Topic, TopicId, TopicName, operation};

use crate::limits::{PARTITIONS, TOPICS};
use crate::shard::Shard;
use crate::{Engine, EngineError};

/// Decides about topics, on shard 0.
pub(crate) struct Controller<E: Env> {
    shard: Shard<E>,
    shards: usize,
    /// Held during a change: the next one sees its outcome.
    change: Mutex<()>,
    topic_ids: RefCell<RandomStream>,
}

impl<E: Env> Controller<E> {
    pub(crate) fn new(env: &E, shard: Shard<E>) -> Self {
        Self {
            shard,
            shards: env.mesh().shards(),
            change: Mutex::new(()),
            topic_ids: RefCell::new(env.random("topic ids")),
        }
    }

    pub(crate) async fn create(
        &self,
        engine: &Engine<E>,
        name: TopicName,
        partitions: u32,
    ) -> Result<Topic, EngineError> {
        let _change = self.change.lock().await;
        let topics = engine.topics();
        if topics.by_name(name.as_str()).is_some() {
            return Err(EngineError::TopicExists);
        }
        let most = woodchuck_stream::limits::TOPIC_PARTITIONS;
        if !(1..=most).contains(&partitions) {
            return Err(EngineError::Invalid(format!(
                "a topic cannot have {partitions} partitions; give 1 to {most}"
            )));
        }
        let all: u64 = topics.iter().map(|topic| u64::from(topic.partitions)).sum();
        if topics.len() >= TOPICS || all + u64::from(partitions) > PARTITIONS {
            return Err(EngineError::Invalid(format!(
                "{} topics with {all} partitions are there already, and there may be at most \
                 {TOPICS} topics and {PARTITIONS} partitions; delete some first",
                topics.len()
            )));
        }
        let id = TopicId(self.topic_ids.borrow_mut().next_u128());
        let first_shard = (id.0 % self.shards as u128) as u32;
        let topic = Topic { id, name, partitions, first_shard };
        self.shard.write_topics(&operation::create_topic(&topic), false).await?;
        let mut changed = (*topics).clone();
        changed.insert(topic.clone());
        engine.publish(changed).await?;
        Ok(topic)
    }

    pub(crate) async fn delete(&self, engine: &Engine<E>, id: TopicId) -> Result<(), EngineError> {
        let _change = self.change.lock().await;
        let topics = engine.topics();
        if topics.by_id(id).is_none() {
            return Err(EngineError::UnknownPartition);
        }
        self.shard.write_topics(&operation::delete_topic(id), true).await?;
        let mut changed = (*topics).clone();
        changed.remove(id);
        engine.publish(changed).await?;
        self.reclaim(engine).await
    }

    /// Gives back log that deleted topics left on this shard. What the log says about the topics
    /// that remain is written again first, so that nothing behind it is needed.
    async fn reclaim(&self, engine: &Engine<E>) -> Result<(), EngineError> {
        if !self.shard.wants_reclaim() {
            return Ok(());
        }
        let topics = engine.topics();
        let snapshot = operation::topics_snapshot(topics.iter());
        let lsn = self.shard.write_topics(&snapshot, true).await?;
        self.shard.trim(Some(lsn));
        Ok(())
    }
}
