//! A producer that remembers what was acknowledged.
//!
//! A plain producer sends a batch once: if it hears nothing, the batch may or may not be there. An
//! idempotent one sends it again until it hears, with the numbers it had the first time.

use std::collections::{BTreeMap, VecDeque};

use woodchuck_io::{Env, RandomStream};
use woodchuck_server::protocol::list_offsets::{
    LATEST_TIMESTAMP, ListOffsetsPartition, ListOffsetsTopic,
};
use woodchuck_server::protocol::metadata::MetadataRequestTopic;
use woodchuck_server::protocol::produce::{ProducePartition, ProduceTopic};
use woodchuck_server::protocol::{
    ErrorCode, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest,
    ProduceResponse, Request, Response,
};
use woodchuck_stream::batch::build::{self, Record};

use super::{Shared, TOPIC, connect, expect_lawful, expect_storage, pause};
use crate::client::{Client, ClientError};
use crate::history::RecordId;

/// How a producer works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// Its number.
    pub(crate) producer: u32,
    /// Whether it sends again, with sequence numbers.
    pub(crate) idempotent: bool,
    /// Requests it sends ahead.
    pub(crate) window: usize,
    /// Records of a batch, at most.
    pub(crate) records: u64,
    /// Filler of a record, at most, in bytes.
    pub(crate) filler: u64,
    /// The acknowledgement it asks for: -1 or 1.
    pub(crate) acks: i16,
    /// The longest pause between two requests, in milliseconds.
    pub(crate) pause_ms: u64,
    /// The version of Produce it speaks.
    pub(crate) version: i16,
}

/// One batch for one partition.
#[derive(Clone)]
struct Sent {
    partition: i32,
    ids: Vec<RecordId>,
    bytes: bytes::Bytes,
}

struct Producer<E: Env> {
    env: E,
    shared: Shared,
    habits: Habits,
    random: RandomStream,
    /// Sequence numbers by partition.
    next_sequence: BTreeMap<i32, u32>,
    /// What the broker numbered this producer, if it is idempotent.
    producer_id: Option<i64>,
    /// Requests without an answer, oldest first. Sent again after a break, if idempotent.
    unanswered: VecDeque<Vec<Sent>>,
}

/// Produces until bots are to end, and everything it may send again is acknowledged.
pub(crate) async fn produce<E: Env>(env: E, shared: Shared, habits: Habits) {
    let random = env.random("producer");
    let mut producer = Producer {
        env,
        shared,
        habits,
        random,
        next_sequence: BTreeMap::new(),
        producer_id: None,
        unanswered: VecDeque::new(),
    };
    while !producer.done() {
        let mut client = connect(&producer.env, &producer.shared, &mut producer.random).await;
        if let Err(error) = producer.work(&mut client).await {
            expect_lawful(&error);
            if !habits.idempotent {
                producer.unanswered.clear();
            }
        }
        pause(&producer.env, &mut producer.random, 10).await;
    }
}

impl<E: Env> Producer<E> {
    fn done(&self) -> bool {
        self.shared.ending.get() && self.unanswered.is_empty()
    }

    /// Works on one connection until there is nothing left to do, or it breaks.
    async fn work(&mut self, client: &mut Client<E>) -> Result<(), ClientError> {
        if !self.prepare(client).await? {
            return Ok(());
        }
        for index in 0..self.unanswered.len() {
            let batches = self.unanswered[index].clone();
            client.send(self.habits.version, &self.request(&batches)).await?;
        }
        while !self.done() {
            if self.habits.idempotent && self.unanswered.is_empty() && self.random.below(4) == 0 {
                self.send_twice(client).await?;
            }
            while self.unanswered.len() < self.habits.window && !self.shared.ending.get() {
                let batches = self.new_batches();
                let request = self.request(&batches);
                self.unanswered.push_back(batches);
                client.send(self.habits.version, &request).await?;
            }
            if !self.take_answer(client).await? {
                return Ok(());
            }
            if self.unanswered.is_empty() && self.random.below(8) == 0 {
                self.leave_gap(client).await?;
            }
            if self.habits.pause_ms > 0 {
                pause(&self.env, &mut self.random, self.habits.pause_ms).await;
            }
        }
        Ok(())
    }

    /// Sends a request on two connections at once, as a client does that takes the first one for
    /// dead. Both answers have to say the same, and neither may come before the batches are durable:
    /// they lie before the end that is told right after the second one.
    async fn send_twice(&mut self, client: &mut Client<E>) -> Result<(), ClientError> {
        let mut second = connect(&self.env, &self.shared, &mut self.random).await;
        let batches = self.new_batches();
        let request = self.request(&batches);
        self.unanswered.push_back(batches);
        client.send(self.habits.version, &request).await?;
        second.send(self.habits.version, &request).await?;
        let Response::Produce(response) = second.receive().await? else {
            unreachable!("answers are decoded as what was asked")
        };
        self.note_answer(&response);
        self.require_end(&mut second, &response).await
    }

    /// Asks for the ends of partitions in which batches were acknowledged. No answer may lie before
    /// what was acknowledged there.
    async fn require_end(
        &self,
        client: &mut Client<E>,
        acknowledged: &ProduceResponse,
    ) -> Result<(), ClientError> {
        let answers = acknowledged.topics.iter().flat_map(|topic| &topic.partitions);
        let offsets: BTreeMap<i32, i64> = answers
            .filter(|answer| !answer.error_code.is_error())
            .map(|answer| (answer.partition_index, answer.base_offset))
            .collect();
        let partitions = offsets
            .keys()
            .map(|&partition_index| ListOffsetsPartition {
                partition_index,
                timestamp_ms: LATEST_TIMESTAMP,
                ..Default::default()
            })
            .collect();
        let topic = ListOffsetsTopic { name: TOPIC.to_owned(), partitions };
        let request = ListOffsetsRequest { topics: vec![topic], ..Default::default() };
        let Response::ListOffsets(response) =
            client.call(5, &Request::ListOffsets(request)).await?
        else {
            unreachable!("answers are decoded as what was asked")
        };
        for answer in response.topics.iter().flat_map(|topic| &topic.partitions) {
            let (partition, end) = (answer.partition_index, answer.offset);
            expect_storage(&self.shared, answer.error_code);
            if let Some(&offset) = offsets.get(&partition).filter(|_| !answer.error_code.is_error())
            {
                assert!(
                    offset < end,
                    "partition {partition} ended at {end} after {offset} was acknowledged"
                );
            }
        }
        Ok(())
    }

    /// Sends a batch that leaves a gap in the numbering of an idempotent producer. It must be
    /// refused; and nobody says that its record was sent, so that it must never turn up.
    async fn leave_gap(&mut self, client: &mut Client<E>) -> Result<(), ClientError> {
        let partition = self.random.below(self.shared.partitions as u64) as i32;
        // In a partition where it has sent nothing, a producer may begin anywhere.
        let next = self.next_sequence.get(&partition).filter(|next| **next > 0);
        let Some((&next, producer_id)) = next.zip(self.producer_id) else { return Ok(()) };
        let value =
            RecordId { producer: self.habits.producer, sequence: u32::MAX }.value(partition, 0);
        let timestamp = self.env.wall().as_millis();
        let record = Record { timestamp, key: None, value: Some(&value) };
        // So far off that it never fits, should it arrive after others.
        let sequence = next as i32 + (1 << 30);
        let bytes = build::batch_from(&[record], Some((producer_id, 0, sequence)));
        let request = self.request(&[Sent { partition, ids: Vec::new(), bytes }]);
        client.send(self.habits.version, &request).await?;
        let Response::Produce(response) = client.receive().await? else {
            unreachable!("answers are decoded as what was asked")
        };
        let mut answers = response.topics.iter().flat_map(|topic| &topic.partitions);
        assert!(
            answers.all(|answer| answer.error_code.is_error()),
            "a batch was taken that leaves a gap: {response:?}"
        );
        Ok(())
    }

    /// Makes sure of the topic, and of a producer id. False: not now.
    async fn prepare(&mut self, client: &mut Client<E>) -> Result<bool, ClientError> {
        let topic = MetadataRequestTopic { name: Some(TOPIC.to_owned()), ..Default::default() };
        let metadata = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
        let Response::Metadata(metadata) = client.call(9, &Request::Metadata(metadata)).await?
        else {
            unreachable!("answers are decoded as what was asked")
        };
        let found = metadata.topics.first().map_or(ErrorCode::NONE, |topic| topic.error_code);
        expect_storage(&self.shared, found);
        if found.is_error() {
            return Ok(false);
        }
        if self.habits.idempotent && self.producer_id.is_none() {
            let request = Request::InitProducerId(InitProducerIdRequest::default());
            let Response::InitProducerId(named) = client.call(2, &request).await? else {
                unreachable!("answers are decoded as what was asked")
            };
            self.producer_id = Some(named.producer_id);
        }
        Ok(true)
    }

    /// Batches for one to three partitions, with records that nobody has sent before.
    fn new_batches(&mut self) -> Vec<Sent> {
        let count = 1 + self.random.below(3).min(self.shared.partitions as u64 - 1);
        let first = self.random.below(self.shared.partitions as u64) as i32;
        (0..count as i32)
            .map(|step| self.new_batch((first + step) % self.shared.partitions))
            .collect()
    }

    fn new_batch(&mut self, partition: i32) -> Sent {
        let count = 1 + self.random.below(self.habits.records);
        let next = self.next_sequence.entry(partition).or_default();
        let base_sequence = *next;
        *next += count as u32;
        let producer = self.habits.producer;
        let ids: Vec<RecordId> =
            (base_sequence..*next).map(|sequence| RecordId { producer, sequence }).collect();
        let values: Vec<Vec<u8>> = ids
            .iter()
            .map(|id| id.value(partition, self.random.below(self.habits.filler + 1) as usize))
            .collect();
        let timestamp = self.env.wall().as_millis();
        let records: Vec<Record<'_>> = values
            .iter()
            .map(|value| Record { timestamp, key: None, value: Some(value) })
            .collect();
        let numbered = self.producer_id.map(|id| (id, 0, base_sequence as i32));
        let mut history = self.shared.history.borrow_mut();
        ids.iter().for_each(|&id| history.sending(partition, id));
        Sent { partition, ids, bytes: build::batch_from(&records, numbered) }
    }

    fn request(&self, batches: &[Sent]) -> Request {
        let partitions = batches
            .iter()
            .map(|sent| ProducePartition {
                partition_index: sent.partition,
                records: Some(sent.bytes.clone()),
            })
            .collect();
        Request::Produce(ProduceRequest {
            acks: self.habits.acks,
            timeout_ms: 1000,
            topics: vec![ProduceTopic { name: TOPIC.to_owned(), partitions }],
            ..Default::default()
        })
    }

    /// Takes the answer to the oldest request. False: what is unanswered has to be sent again.
    async fn take_answer(&mut self, client: &mut Client<E>) -> Result<bool, ClientError> {
        let Response::Produce(response) = client.receive().await? else {
            unreachable!("answers are decoded as what was asked")
        };
        let refused = self.note_answer(&response);
        let Some(batches) = self.unanswered.pop_front() else {
            panic!("an answer came to nothing that was asked")
        };
        if refused.is_empty() || !self.habits.idempotent {
            return Ok(true);
        }
        // Only what was refused is sent again: the rest has its answer.
        let again = batches.into_iter().filter(|sent| refused.contains(&sent.partition)).collect();
        self.unanswered.push_front(again);
        Ok(false)
    }

    /// Tells the history what the oldest request's answer says, and returns the partitions whose
    /// batches were refused.
    fn note_answer(&self, response: &ProduceResponse) -> Vec<i32> {
        let (Some(batches), Some(topic)) = (self.unanswered.front(), response.topics.first())
        else {
            panic!("the answer lacks its topic: {response:?}")
        };
        assert_eq!(topic.partitions.len(), batches.len(), "the answer lacks partitions");
        let mut refused = Vec::new();
        for (sent, answer) in batches.iter().zip(&topic.partitions) {
            assert_eq!(sent.partition, answer.partition_index, "answers stand in order");
            expect_storage(&self.shared, answer.error_code);
            if answer.error_code.is_error() {
                let lawful = [
                    ErrorCode::REQUEST_TIMED_OUT,
                    ErrorCode::NOT_LEADER_OR_FOLLOWER,
                    ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
                    ErrorCode::KAFKA_STORAGE_ERROR,
                ];
                assert!(lawful.contains(&answer.error_code), "a good batch got {answer:?}");
                refused.push(sent.partition);
                continue;
            }
            let mut history = self.shared.history.borrow_mut();
            for (offset, &id) in (answer.base_offset..).zip(&sent.ids) {
                history.acknowledged(sent.partition, offset, id);
            }
        }
        refused
    }
}
