//! A consumer that checks what it reads, and that nothing it read goes away.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::{Either, select, try_join};
use woodchuck_io::{Env, RandomStream};
use woodchuck_server::protocol::fetch::{FetchPartition, FetchPartitionResponse, FetchTopic};
use woodchuck_server::protocol::list_offsets::{
    LATEST_TIMESTAMP, ListOffsetsPartition, ListOffsetsTopic,
};
use woodchuck_server::protocol::produce::{ProducePartition, ProduceTopic};
use woodchuck_server::protocol::{
    ErrorCode, FetchRequest, ListOffsetsRequest, ProduceRequest, Request, Response,
};
use woodchuck_stream::Batch;
use woodchuck_stream::batch::build::{self, Record};

use super::{Shared, TOPIC, connect, expect_lawful, expect_storage, pause};
use crate::client::{Client, ClientError};
use crate::history::RecordId;

/// How long a patient consumer waits for records.
const LONG_WAIT_MS: i32 = 15_000;

/// How long a consumer that waits may be kept from records that are there. No fault of the world
/// delays an answer as long as that.
const WAKE_LIMIT: Duration = Duration::from_secs(10);

/// How often a patient consumer looks whether there are records.
const LOOK_EVERY: Duration = Duration::from_millis(100);

struct Consumer<E: Env> {
    env: E,
    shared: Shared,
    random: RandomStream,
    /// Where it is, by partition. Kept across connections and crashes of the broker: an offset
    /// that was reached once stays valid for ever.
    positions: BTreeMap<i32, i64>,
    /// The furthest end that it was told of, by partition.
    ends: BTreeMap<i32, i64>,
    version: i16,
}

/// Reads until bots are to end. Goes back to the beginning, or somewhere in between, now and then.
/// In the end, when nothing strikes any more, it requires to be woken by a record.
pub(crate) async fn consume<E: Env>(env: E, shared: Shared, version: i16) {
    let random = env.random("consumer");
    let positions = (0..shared.partitions).map(|partition| (partition, 0)).collect();
    let mut consumer = Consumer { env, shared, random, positions, ends: BTreeMap::new(), version };
    while !consumer.shared.ending.get() {
        let mut client = connect(&consumer.env, &consumer.shared, &mut consumer.random).await;
        while !consumer.shared.ending.get() {
            if let Err(error) = consumer.work(&mut client).await {
                expect_lawful(&error);
                break;
            }
        }
    }
    consumer.require_waking().await;
}

/// Sends one record that nobody has sent before, and waits until it is acknowledged.
async fn append_one<E: Env>(
    client: &mut Client<E>,
    shared: &Shared,
    partition: i32,
    id: RecordId,
) -> Result<(), ClientError> {
    let value = id.value(partition, 0);
    let records = build::batch(&[Record { timestamp: 0, key: None, value: Some(&value) }]);
    let partitions = vec![ProducePartition { partition_index: partition, records: Some(records) }];
    let request = Request::Produce(ProduceRequest {
        acks: -1,
        timeout_ms: 1000,
        topics: vec![ProduceTopic { name: TOPIC.to_owned(), partitions }],
        ..Default::default()
    });
    shared.history.borrow_mut().sending(partition, id);
    let Response::Produce(response) = client.call(7, &request).await? else {
        unreachable!("answers are decoded as what was asked")
    };
    let answer = response.topics.first().and_then(|topic| topic.partitions.first());
    let Some(answer) = answer else { panic!("the answer lacks its partition") };
    expect_storage(shared, answer.error_code);
    if !answer.error_code.is_error() {
        shared.history.borrow_mut().acknowledged(partition, answer.base_offset, id);
    }
    Ok(())
}

/// Reads every partition from its beginning to its end, and gives the records.
pub(crate) async fn read_all<E: Env>(env: E, shared: Shared) -> Vec<Vec<(i64, RecordId)>> {
    let random = env.random("auditor");
    let positions = (0..shared.partitions).map(|partition| (partition, 0)).collect();
    let mut consumer =
        Consumer { env, shared, random, positions, ends: BTreeMap::new(), version: 11 };
    let mut records = vec![Vec::new(); consumer.shared.partitions as usize];
    'connection: loop {
        let mut client = connect(&consumer.env, &consumer.shared, &mut consumer.random).await;
        for (partition, records) in (0_i32..).zip(&mut records) {
            let end = match consumer.end(&mut client, partition).await {
                Ok(end) => end,
                Err(error) => {
                    expect_lawful(&error);
                    continue 'connection;
                }
            };
            while consumer.positions[&partition] < end {
                match consumer.fetch(&mut client, &[partition], 1 << 20, 0).await {
                    Ok(found) => {
                        records.extend(found.into_iter().map(|(_, offset, id)| (offset, id)))
                    }
                    Err(error) => {
                        expect_lawful(&error);
                        continue 'connection;
                    }
                }
            }
        }
        return records;
    }
}

impl<E: Env> Consumer<E> {
    async fn work(&mut self, client: &mut Client<E>) -> Result<(), ClientError> {
        let all = self.shared.partitions as u64;
        if self.random.below(20) == 0 {
            let partition = self.random.below(all) as i32;
            let reached = self.positions[&partition] as u64;
            let back = self.random.below(reached + 1) as i64;
            self.positions.insert(partition, back);
        }
        if self.random.below(8) == 0 {
            let partition = self.random.below(all) as i32;
            let known = self.shared.history.borrow().known_end(partition);
            let end = self.end(client, partition).await?;
            assert!(
                end >= known || self.shared.allowed.loss,
                "partition {partition} ends at {end}, and offset {} is known to be there",
                known - 1
            );
        }
        let count = 1 + self.random.below(all);
        let first = self.random.below(all);
        let partitions: Vec<i32> = (0..count).map(|step| ((first + step) % all) as i32).collect();
        let max_bytes = if self.random.below(4) == 0 { 1 } else { 16 << 10 };
        let wait_ms = self.random.below(50) as i32;
        let found = self.fetch(client, &partitions, max_bytes, wait_ms).await?;
        for (partition, offset, id) in found {
            self.shared.history.borrow_mut().read(partition, offset, id);
        }
        if self.random.below(3) == 0 {
            pause(&self.env, &mut self.random, 5).await;
        }
        Ok(())
    }

    /// Waits at the end of a partition while a record is sent there. Tries until no connection
    /// breaks meanwhile.
    async fn require_waking(&mut self) {
        let partition = self.random.below(self.shared.partitions as u64) as i32;
        if self.shared.history.borrow().known_end(partition) == 0 {
            return; // Perhaps nobody has made the topic.
        }
        loop {
            let mut client = connect(&self.env, &self.shared, &mut self.random).await;
            match self.wait_for_record(&mut client, partition).await {
                Ok(()) => return,
                Err(error) => expect_lawful(&error),
            }
        }
    }

    async fn wait_for_record(
        &mut self,
        client: &mut Client<E>,
        partition: i32,
    ) -> Result<(), ClientError> {
        let end = self.end(client, partition).await?;
        self.positions.insert(partition, end);
        let (env, shared) = (self.env.clone(), self.shared.clone());
        let mut sender = connect(&env, &shared, &mut self.random).await;
        // No bot that produces has such a number.
        let producer = 1 << 31 | self.random.below(1 << 31) as u32;
        let delay = Duration::from_micros(self.random.below(50_000));
        let send = async {
            env.sleep(delay).await;
            append_one(&mut sender, &shared, partition, RecordId { producer, sequence: 0 }).await
        };
        let partitions = [partition];
        let fetch = self.fetch(client, &partitions, 16 << 10, LONG_WAIT_MS);
        let (found, ()) = try_join(fetch, send).await?;
        for (partition, offset, id) in found {
            self.shared.history.borrow_mut().read(partition, offset, id);
        }
        Ok(())
    }

    /// Fetches from where it is, moves on, and gives what is new.
    async fn fetch(
        &mut self,
        client: &mut Client<E>,
        partitions: &[i32],
        max_bytes: i32,
        max_wait_ms: i32,
    ) -> Result<Vec<(i32, i64, RecordId)>, ClientError> {
        let wanted = partitions
            .iter()
            .map(|&partition| FetchPartition {
                partition,
                fetch_offset: self.positions[&partition],
                partition_max_bytes: max_bytes,
                ..Default::default()
            })
            .collect();
        let request = Request::Fetch(FetchRequest {
            max_wait_ms,
            min_bytes: 1,
            max_bytes,
            topics: vec![FetchTopic { topic: TOPIC.to_owned(), partitions: wanted }],
            ..Default::default()
        });
        let response = if max_wait_ms < LONG_WAIT_MS {
            client.call(self.version, &request).await?
        } else {
            self.call_in_time(client, &request, partitions).await?
        };
        let Response::Fetch(response) = response else {
            unreachable!("answers are decoded as what was asked")
        };
        assert_eq!(response.error_code, ErrorCode::NONE, "the fetch as a whole failed");
        let answers = response.topics.first().map(|topic| &topic.partitions[..]);
        let answers = answers.unwrap_or_default();
        assert_eq!(answers.len(), partitions.len(), "the answer lacks partitions");
        self.check_progress(answers);
        let mut found = Vec::new();
        for answer in answers {
            self.take(answer, &mut found);
        }
        if answers.iter().any(|answer| answer.error_code.is_error()) {
            // The topic is not there yet, or the broker is closing.
            pause(&self.env, &mut self.random, 20).await;
        }
        Ok(found)
    }

    /// Fetches with a long wait, and requires that an answer, if there is one, did not wait once
    /// there were records: who waits is woken.
    async fn call_in_time(
        &self,
        client: &mut Client<E>,
        request: &Request,
        partitions: &[i32],
    ) -> Result<Response, ClientError> {
        let there_since = Cell::new(None);
        let look = std::pin::pin!(async {
            let there = |&partition: &i32| {
                let known = self.shared.history.borrow().known_end(partition);
                known > self.positions[&partition]
            };
            while !partitions.iter().any(there) {
                self.env.sleep(LOOK_EVERY).await;
            }
            there_since.set(Some(self.env.now()));
            std::future::pending::<()>().await;
        });
        let answered = match select(std::pin::pin!(client.call(self.version, request)), look).await
        {
            Either::Left((answered, _)) => answered?,
            Either::Right(_) => unreachable!("looking never ends"),
        };
        let late = there_since.get().map_or(Duration::ZERO, |since| self.env.now() - since);
        assert!(late < WAKE_LIMIT, "records were there for {late:?} before a fetch was answered");
        Ok(answered)
    }

    /// Whatever the bounds of a fetch: if there are records, it gets some, or a consumer of large
    /// batches would never get on.
    fn check_progress(&self, answers: &[FetchPartitionResponse]) {
        let nothing =
            answers.iter().all(|answer| answer.records.iter().all(bytes::Bytes::is_empty));
        let waiting = answers.iter().find(|answer| {
            !answer.error_code.is_error()
                && answer.high_watermark > self.positions[&answer.partition_index]
        });
        if let Some(answer) = waiting.filter(|_| nothing) {
            let partition = answer.partition_index;
            panic!(
                "a fetch got nothing, and partition {partition} has records from {} to {}",
                self.positions[&partition], answer.high_watermark
            );
        }
    }

    /// Remembers how far a partition was said to go. That end was durable, and never moves back.
    fn note_end(&mut self, partition: i32, end: i64) {
        let known = self.ends.entry(partition).or_insert(end);
        assert!(
            end >= *known || self.shared.allowed.loss,
            "partition {partition} ended at {known}, and now at {end}"
        );
        *known = end;
    }

    fn take(&mut self, answer: &FetchPartitionResponse, found: &mut Vec<(i32, i64, RecordId)>) {
        let partition = answer.partition_index;
        let position = self.positions[&partition];
        expect_storage(&self.shared, answer.error_code);
        if answer.error_code == ErrorCode::OFFSET_OUT_OF_RANGE && self.shared.allowed.loss {
            self.positions.insert(partition, 0);
            return;
        }
        assert_ne!(
            answer.error_code,
            ErrorCode::OFFSET_OUT_OF_RANGE,
            "offset {position} of partition {partition} was valid once, and now the partition ends \
             at {}",
            answer.high_watermark
        );
        if !answer.error_code.is_error() {
            self.note_end(partition, answer.high_watermark);
        }
        let mut next = position;
        for bytes in split_batches(answer) {
            let batch = Batch::parse_stored(bytes)
                .unwrap_or_else(|error| panic!("partition {partition} at {next}: {error}"));
            let first = batch.base_offset();
            assert!(
                first == next || (next == position && first < position),
                "partition {partition} was to go on at {next} and goes on at {first}"
            );
            let records = build::values(&batch);
            assert_eq!(records.len() as i64, i64::from(batch.count()), "records are whole");
            for (offset, value) in records {
                if offset >= position {
                    found.push((partition, offset, RecordId::parse(partition, &value)));
                }
            }
            next = first + i64::from(batch.last_offset_delta()) + 1;
            assert!(next > position, "a batch before offset {position} was answered");
            assert!(
                next <= answer.high_watermark,
                "records beyond the high watermark {} were answered",
                answer.high_watermark
            );
        }
        self.positions.insert(partition, next);
    }

    /// The offset after the last of a partition.
    async fn end(&mut self, client: &mut Client<E>, partition: i32) -> Result<i64, ClientError> {
        let wanted = ListOffsetsPartition {
            partition_index: partition,
            timestamp_ms: LATEST_TIMESTAMP,
            ..Default::default()
        };
        let topic = ListOffsetsTopic { name: TOPIC.to_owned(), partitions: vec![wanted] };
        let request = ListOffsetsRequest { topics: vec![topic], ..Default::default() };
        loop {
            let request = Request::ListOffsets(request.clone());
            let Response::ListOffsets(response) = client.call(5, &request).await? else {
                unreachable!("answers are decoded as what was asked")
            };
            let answer = response.topics.first().and_then(|topic| topic.partitions.first());
            let Some(answer) = answer else { panic!("the answer lacks its partition") };
            expect_storage(&self.shared, answer.error_code);
            if !answer.error_code.is_error() {
                self.note_end(partition, answer.offset);
                return Ok(answer.offset);
            }
            if self.shared.history.borrow().known_end(partition) == 0 {
                return Ok(0); // Nobody has made the topic yet.
            }
            pause(&self.env, &mut self.random, 20).await;
        }
    }
}

/// The batches of an answer: they stand one after the other, each with its length.
fn split_batches(answer: &FetchPartitionResponse) -> Vec<bytes::Bytes> {
    let mut batches = Vec::new();
    for mut bytes in answer.records.iter().cloned() {
        while let Some(length) = bytes.get(8..12).and_then(|field| field.try_into().ok()) {
            let whole = 12 + i32::from_be_bytes(length) as usize;
            assert!(whole <= bytes.len(), "a batch is cut off");
            batches.push(bytes.split_to(whole));
        }
        assert!(bytes.is_empty(), "bytes follow the last batch");
    }
    batches
}
