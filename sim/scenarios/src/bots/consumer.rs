//! A consumer that checks what it reads, and that nothing it read goes away.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::{Either, select, try_join};
use woodchuck_io::Env as _;
use woodchuck_server::protocol::fetch::{
    FetchPartition, FetchPartitionResponse, FetchTopic, FetchTopicResponse,
};
use woodchuck_server::protocol::list_offsets::{
    EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, ListOffsetsPartition, ListOffsetsPartitionResponse,
    ListOffsetsTopic,
};
use woodchuck_server::protocol::{
    ErrorCode, FetchRequest, FetchResponse, ListOffsetsRequest, Request, Response,
};
use woodchuck_sim::OperationId;
use woodchuck_stream::Batch;
use woodchuck_stream::batch::build::{self, Record};

use super::producer::produce_request;
use super::{Bot, Code, Line, Outcome, SCRATCH, SCRATCH_FILLER, SCRATCH_PARTITIONS, Shared, TOPIC};
use crate::history::{Contradiction, RecordId, require};

/// How long a patient consumer waits for records.
const LONG_WAIT_MS: i32 = 15_000;

/// How long a consumer that waits may be kept from records that are there. No fault of the world
/// delays an answer as long as that.
const WAKE_LIMIT: Duration = Duration::from_secs(10);

/// How often a patient consumer looks whether there are records.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The number of the client that sends a record for a consumer with this number.
const SENDER: u32 = 1 << 16;

/// How a consumer wants to be answered.
#[derive(Clone, Copy)]
struct Wish {
    max_bytes: i32,
    max_wait_ms: i32,
    /// Whether the janitor's topic is asked for as well: before the other one, or after it.
    scratch: Option<Side>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

struct Consumer {
    bot: Bot,
    /// Where it is, by partition. Kept across connections and crashes of the broker: an offset
    /// that was reached once stays valid for ever.
    positions: BTreeMap<i32, i64>,
    /// The furthest end that it was told of, by partition.
    ends: BTreeMap<i32, i64>,
    version: i16,
}

/// Reads until bots are to end. Goes back to the beginning, or somewhere in between, now and then.
/// In the end, when nothing strikes any more, it requires to be woken by a record.
pub(crate) async fn consume(bot: Bot, version: i16) {
    let mut consumer = Consumer::new(bot, version);
    let ending = std::rc::Rc::clone(&consumer.bot.shared.ending);
    while !ending.get() {
        let mut line = consumer.bot.connect().await;
        while !ending.get() {
            if let Err(trouble) = consumer.work(&mut line).await {
                consumer.bot.settle(trouble).await;
                break;
            }
        }
    }
    consumer.require_waking().await;
}

/// Sends one record that nobody has sent before, and waits until it is acknowledged.
async fn append_one(line: &mut Line, shared: &Shared, partition: i32, id: RecordId) -> Outcome<()> {
    let value = id.value(partition, 0);
    let records = build::batch(&[Record { timestamp: 0, key: None, value: Some(&value) }]);
    let request = produce_request([(partition, records)], -1);
    let now = line.env.now().as_nanos();
    let sending = shared.history.borrow_mut().sending(line.number, now, partition, &[(id, 0)]);
    let told = line.begin(format_args!("produce {TOPIC} {partition}: to wake who waits"));
    let Response::Produce(response) = line.call(7, &request, told).await? else {
        unreachable!("answers are decoded as what was asked")
    };
    let answer = response.topics.first().and_then(|topic| topic.partitions.first());
    let Some(answer) = answer else { return Err(lacks_partitions(&response).into()) };
    line.end(told, format_args!("{}, at {}", Code(answer.error_code), answer.base_offset));
    shared.expect_storage(answer.error_code)?;
    if !answer.error_code.is_error() {
        let (now, place) = (line.env.now().as_nanos(), (partition, answer.base_offset));
        shared.history.borrow_mut().acknowledged(sending, now, place, &[id])?;
    }
    Ok(())
}

/// Reads every partition from its beginning to its end, and checks that against all that was seen.
pub(crate) async fn read_all(bot: Bot) {
    let mut consumer = Consumer::new(bot, 11);
    let mut records = vec![Vec::new(); consumer.bot.shared.partitions as usize];
    loop {
        let mut line = consumer.bot.connect().await;
        match consumer.read_rest(&mut line, &mut records).await {
            Ok(()) => break,
            Err(trouble) => consumer.bot.settle(trouble).await,
        }
    }
    for (partition, records) in (0_i32..).zip(&records) {
        let now = consumer.bot.now();
        let checked = consumer.bot.shared.history.borrow_mut().check_end(now, partition, records);
        if let Err(contradiction) = checked {
            consumer.bot.settle(contradiction.into()).await;
        }
    }
}

fn lacks_partitions(response: &impl std::fmt::Debug) -> Contradiction {
    let what = format!("the answer is not about what was asked: {response:?}");
    Contradiction { property: "answers-fit", what }
}

impl Consumer {
    fn new(bot: Bot, version: i16) -> Self {
        let positions = (0..bot.shared.partitions).map(|partition| (partition, 0)).collect();
        Self { bot, positions, ends: BTreeMap::new(), version }
    }

    /// Reads on in all partitions to their ends.
    async fn read_rest(
        &mut self,
        line: &mut Line,
        records: &mut [Vec<(i64, RecordId)>],
    ) -> Outcome<()> {
        let wish = Wish { max_bytes: 1 << 20, max_wait_ms: 0, scratch: None };
        for (partition, records) in (0_i32..).zip(records) {
            let end = self.end(line, partition).await?;
            while self.positions[&partition] < end {
                let found = self.fetch(line, &[partition], wish).await?;
                records.extend(found.into_iter().map(|(_, offset, id)| (offset, id)));
            }
        }
        Ok(())
    }

    async fn work(&mut self, line: &mut Line) -> Outcome<()> {
        let all = self.bot.shared.partitions as u64;
        if self.bot.random.below(20) == 0 {
            let partition = self.bot.random.below(all) as i32;
            let reached = self.positions[&partition] as u64;
            let back = self.bot.random.below(reached + 1) as i64;
            self.go_to(partition, back);
        }
        if self.bot.random.below(8) == 0 {
            let partition = self.bot.random.below(all) as i32;
            self.look_up(line, partition).await?;
        }
        let count = 1 + self.bot.random.below(all);
        let first = self.bot.random.below(all);
        let partitions: Vec<i32> = (0..count).map(|step| ((first + step) % all) as i32).collect();
        let max_bytes = if self.bot.random.below(4) == 0 { 1 } else { 16 << 10 };
        let max_wait_ms = self.bot.random.below(50) as i32;
        let scratch = match self.bot.random.below(8) {
            0 => Some(Side::Before),
            1 => Some(Side::After),
            _ => None,
        };
        let wish = Wish { max_bytes, max_wait_ms, scratch };
        let found = self.fetch(line, &partitions, wish).await?;
        self.note_read(&found)?;
        if self.bot.random.below(3) == 0 {
            self.bot.pause(5).await;
        }
        Ok(())
    }

    /// Goes on somewhere else in a partition.
    fn go_to(&mut self, partition: i32, offset: i64) {
        self.positions.insert(partition, offset);
        self.bot.shared.history.borrow_mut().moved(self.bot.number, partition);
    }

    fn note_read(&self, found: &[(i32, i64, RecordId)]) -> Result<(), Contradiction> {
        let now = self.bot.now();
        self.bot.shared.history.borrow_mut().polled(self.bot.number, now, found)
    }

    /// Asks where a partition begins, where it ends, or where a time is in it.
    async fn look_up(&mut self, line: &mut Line, partition: i32) -> Outcome<()> {
        let known = self.bot.shared.history.borrow().known_end(partition);
        let loss = self.bot.shared.allowed.loss;
        match self.bot.random.below(4) {
            0 if known > 0 => self.look_up_time(line, partition, known).await,
            1 => {
                let Some(answer) = self.ask_offset(line, partition, EARLIEST_TIMESTAMP).await?
                else {
                    return Ok(());
                };
                require("begins-at-0", answer.offset == 0, || {
                    format!("partition {partition} is said to begin at {}", answer.offset)
                })?;
                Ok(())
            }
            _ => {
                let end = self.end(line, partition).await?;
                require("end-moves-forwards", end >= known || loss, || {
                    format!(
                        "partition {partition} ends at {end}, and offset {} is known to be there",
                        known - 1
                    )
                })?;
                Ok(())
            }
        }
    }

    /// Asks where a time is that some known record has, or a little more. No record before the
    /// answer is that young, and the one there is.
    async fn look_up_time(&mut self, line: &mut Line, partition: i32, known: i64) -> Outcome<()> {
        let near = self.bot.random.below(known as u64) as i64;
        let later = self.bot.random.below(4) as i64;
        let (time, expected) = {
            let history = self.bot.shared.history.borrow();
            let Some(time) = history.timestamp_at(partition, near) else { return Ok(()) };
            (time + later, history.first_since(partition, time + later))
        };
        let Some(answer) = self.ask_offset(line, partition, time).await? else { return Ok(()) };
        if self.bot.shared.allowed.loss {
            return Ok(());
        }
        let found = (answer.offset >= 0).then_some(answer.offset);
        let there =
            found.map(|offset| self.bot.shared.history.borrow().timestamp_at(partition, offset));
        let is_first = match (found, expected) {
            (Some(found), Some(expected)) => found <= expected,
            (None, Some(_)) => false,
            (_, None) => true,
        };
        // Perhaps nobody has seen yet what is there.
        let is_late = match there.flatten() {
            Some(there) => there >= time && there == answer.timestamp_ms,
            None => true,
        };
        require("finds-times", is_first && is_late, || {
            format!(
                "in partition {partition} the first known record of the time {time} or later is at \
                 {expected:?}, and the answer is {answer:?}, where the known time is {there:?}"
            )
        })?;
        Ok(())
    }

    /// Waits at the end of a partition while a record is sent there. Tries until no connection
    /// breaks meanwhile.
    async fn require_waking(&mut self) {
        let partition = self.bot.random.below(self.bot.shared.partitions as u64) as i32;
        if self.bot.shared.history.borrow().known_end(partition) == 0 {
            return; // Perhaps nobody has made the topic.
        }
        loop {
            let mut line = self.bot.connect().await;
            match self.wait_for_record(&mut line, partition).await {
                Ok(()) => return,
                Err(trouble) => self.bot.settle(trouble).await,
            }
        }
    }

    async fn wait_for_record(&mut self, line: &mut Line, partition: i32) -> Outcome<()> {
        let end = self.end(line, partition).await?;
        self.go_to(partition, end);
        let (env, shared) = (self.bot.env.clone(), self.bot.shared.clone());
        let mut sender = self.bot.connect().await;
        sender.number = self.bot.number + SENDER;
        // No bot that produces has such a number.
        let producer = 1 << 31 | self.bot.random.below(1 << 31) as u32;
        let delay = Duration::from_micros(self.bot.random.below(50_000));
        let send = async {
            env.sleep(delay).await;
            append_one(&mut sender, &shared, partition, RecordId { producer, sequence: 0 }).await
        };
        let partitions = [partition];
        let wish = Wish { max_bytes: 16 << 10, max_wait_ms: LONG_WAIT_MS, scratch: None };
        let fetch = self.fetch(line, &partitions, wish);
        let (found, ()) = try_join(fetch, send).await?;
        self.note_read(&found)?;
        Ok(())
    }

    /// Fetches from where it is, moves on, and gives what is new.
    async fn fetch(
        &mut self,
        line: &mut Line,
        partitions: &[i32],
        wish: Wish,
    ) -> Outcome<Vec<(i32, i64, RecordId)>> {
        let topics = self.wanted(partitions, wish);
        let asked: Vec<(String, usize)> =
            topics.iter().map(|topic| (topic.topic.clone(), topic.partitions.len())).collect();
        let request = Request::Fetch(FetchRequest {
            max_wait_ms: wish.max_wait_ms,
            min_bytes: 1,
            max_bytes: wish.max_bytes,
            topics,
            ..Default::default()
        });
        let told = line.begin(format_args!("fetch {TOPIC} {}", self.places(partitions)));
        let response = if wish.max_wait_ms < LONG_WAIT_MS {
            line.call(self.version, &request, told).await?
        } else {
            self.call_in_time(line, &request, partitions, told).await?
        };
        let Response::Fetch(response) = response else {
            unreachable!("answers are decoded as what was asked")
        };
        line.end(told, format_args!("{}", Fetched(&response)));
        require("answers-fit", response.error_code == ErrorCode::NONE, || {
            format!("the fetch as a whole failed with {:?}", response.error_code)
        })?;
        let fits = response.topics.len() == asked.len()
            && response.topics.iter().zip(&asked).all(|(topic, (name, count))| {
                topic.topic == *name && topic.partitions.len() == *count
            });
        require("answers-fit", fits, || {
            format!("{asked:?} was asked for, and the answer is {}", Fetched(&response))
        })?;
        self.check_progress(&response.topics)?;
        let mut found = Vec::new();
        let mut failed = false;
        for topic in &response.topics {
            if topic.topic == SCRATCH {
                self.check_scratch(topic)?;
                continue;
            }
            for (answer, &partition) in topic.partitions.iter().zip(partitions) {
                let index = answer.partition_index;
                require("answers-fit", index == partition, || {
                    format!("partition {partition} was asked for, and {index} answered")
                })?;
                failed |= answer.error_code.is_error();
                self.take(answer, &mut found)?;
            }
        }
        if failed {
            // The topic is not there yet, or the broker is closing.
            self.bot.pause(20).await;
        }
        Ok(found)
    }

    /// What a fetch asks for.
    fn wanted(&self, partitions: &[i32], wish: Wish) -> Vec<FetchTopic> {
        let wanted = |partition, fetch_offset| FetchPartition {
            partition,
            fetch_offset,
            partition_max_bytes: wish.max_bytes,
            ..Default::default()
        };
        let topic = |name: &str, partitions| FetchTopic { topic: name.to_owned(), partitions };
        let places = partitions.iter().map(|&partition| (partition, self.positions[&partition]));
        let own = places.map(|(partition, offset)| wanted(partition, offset)).collect();
        let mut topics = vec![topic(TOPIC, own)];
        if let Some(side) = wish.scratch {
            let all = (0..SCRATCH_PARTITIONS).map(|partition| wanted(partition, 0)).collect();
            let index = if side == Side::Before { 0 } else { 1 };
            topics.insert(index, topic(SCRATCH, all));
        }
        topics
    }

    /// Partitions with the offsets to go on at, put into words only if somebody listens.
    fn places<'a>(&'a self, partitions: &'a [i32]) -> Places<'a> {
        Places { consumer: self, partitions }
    }

    /// Fetches with a long wait, and requires that an answer, if there is one, did not wait once
    /// there were records: who waits is woken.
    async fn call_in_time(
        &self,
        line: &mut Line,
        request: &Request,
        partitions: &[i32],
        told: OperationId,
    ) -> Outcome<Response> {
        let there_since = Cell::new(None);
        let env = &self.bot.env;
        let look = std::pin::pin!(async {
            let there = |&partition: &i32| {
                let known = self.bot.shared.history.borrow().known_end(partition);
                known > self.positions[&partition]
            };
            while !partitions.iter().any(there) {
                env.sleep(LOOK_EVERY).await;
            }
            there_since.set(Some(env.now()));
            std::future::pending::<()>().await;
        });
        let call = std::pin::pin!(line.call(self.version, request, told));
        let answered = match select(call, look).await {
            Either::Left((answered, _)) => answered?,
            Either::Right(_) => unreachable!("looking never ends"),
        };
        let late = there_since.get().map_or(Duration::ZERO, |since| env.now() - since);
        require("wakes-who-waits", late < WAKE_LIMIT, || {
            format!("records were there for {late:?} before a fetch was answered")
        })?;
        Ok(answered)
    }

    /// Whatever the bounds of a fetch: if there are records, it gets some, or a consumer of large
    /// batches would never get on.
    fn check_progress(&self, topics: &[FetchTopicResponse]) -> Result<(), Contradiction> {
        let answers = || topics.iter().flat_map(|topic| &topic.partitions);
        if answers().any(|answer| answer.records.iter().any(|bytes| !bytes.is_empty())) {
            return Ok(());
        }
        let own = topics.iter().filter(|topic| topic.topic == TOPIC);
        for answer in own.flat_map(|topic| &topic.partitions) {
            let (partition, end) = (answer.partition_index, answer.high_watermark);
            let position = self.positions.get(&partition).copied().unwrap_or(i64::MAX);
            require("gets-on", answer.error_code.is_error() || end <= position, || {
                format!(
                    "a fetch got nothing, and partition {partition} has records from {position} \
                     to {end}"
                )
            })?;
        }
        Ok(())
    }

    /// The janitor's topic comes and goes. What is there is the janitor's, from the beginning.
    fn check_scratch(&self, topic: &FetchTopicResponse) -> Result<(), Contradiction> {
        for answer in &topic.partitions {
            self.bot.shared.expect_storage(answer.error_code)?;
            let partition = answer.partition_index;
            let mut next = 0;
            for bytes in split_batches(answer)? {
                let batch = parse(partition, next, bytes)?;
                let values = build::values(&batch);
                let filled = values
                    .iter()
                    .all(|(_, value)| value.iter().all(|&byte| byte == SCRATCH_FILLER));
                require("phantom", filled && batch.base_offset() == next, || {
                    format!(
                        "partition {partition} of {SCRATCH} has at {next} a batch from offset {}, \
                         {}",
                        batch.base_offset(),
                        if filled { "its own" } else { "which is another topic's" }
                    )
                })?;
                next += i64::from(batch.last_offset_delta()) + 1;
            }
        }
        Ok(())
    }

    /// Remembers how far a partition was said to go. That end was durable, and never moves back.
    fn note_end(&mut self, partition: i32, end: i64) -> Result<(), Contradiction> {
        let known = self.ends.entry(partition).or_insert(end);
        require("end-moves-forwards", end >= *known || self.bot.shared.allowed.loss, || {
            format!("partition {partition} ended at {known}, and now at {end}")
        })?;
        *known = end;
        Ok(())
    }

    fn take(
        &mut self,
        answer: &FetchPartitionResponse,
        found: &mut Vec<(i32, i64, RecordId)>,
    ) -> Result<(), Contradiction> {
        let (partition, end) = (answer.partition_index, answer.high_watermark);
        let position = self.positions[&partition];
        self.bot.shared.expect_storage(answer.error_code)?;
        let out_of_range = answer.error_code == ErrorCode::OFFSET_OUT_OF_RANGE;
        if out_of_range && self.bot.shared.allowed.loss {
            self.go_to(partition, 0);
            return Ok(());
        }
        require("valid-offsets-stay-valid", !out_of_range, || {
            format!(
                "offset {position} of partition {partition} was valid once, and now the partition \
                 ends at {end}"
            )
        })?;
        if !answer.error_code.is_error() {
            self.note_end(partition, end)?;
        }
        let mut next = position;
        for bytes in split_batches(answer)? {
            let batch = parse(partition, next, bytes)?;
            let first = batch.base_offset();
            require(
                "contiguous-offsets",
                first == next || (next == position && first < position),
                || format!("partition {partition} was to go on at {next} and goes on at {first}"),
            )?;
            let records = build::values(&batch);
            require("changed-content", records.len() as i64 == i64::from(batch.count()), || {
                format!("partition {partition} at {first}: {} records are whole", records.len())
            })?;
            for (offset, value) in records {
                if offset >= position {
                    found.push((partition, offset, RecordId::parse(partition, &value)?));
                }
            }
            next = first + i64::from(batch.last_offset_delta()) + 1;
            require("gets-on", next > position, || {
                format!("partition {partition}: a batch before offset {position} was answered")
            })?;
            require("end-is-the-end", next <= end, || {
                format!("partition {partition}: records up to {next} were answered, beyond {end}")
            })?;
        }
        self.positions.insert(partition, next);
        Ok(())
    }

    /// The offset after the last of a partition.
    async fn end(&mut self, line: &mut Line, partition: i32) -> Outcome<i64> {
        loop {
            if let Some(answer) = self.ask_offset(line, partition, LATEST_TIMESTAMP).await? {
                self.note_end(partition, answer.offset)?;
                return Ok(answer.offset);
            }
            if self.bot.shared.history.borrow().known_end(partition) == 0 {
                return Ok(0); // Nobody has made the topic yet.
            }
            self.bot.pause(20).await;
        }
    }

    /// Asks for an offset, by a time or something in its place. Nothing: the broker does not say.
    async fn ask_offset(
        &self,
        line: &mut Line,
        partition: i32,
        timestamp_ms: i64,
    ) -> Outcome<Option<ListOffsetsPartitionResponse>> {
        let wanted =
            ListOffsetsPartition { partition_index: partition, timestamp_ms, ..Default::default() };
        let topic = ListOffsetsTopic { name: TOPIC.to_owned(), partitions: vec![wanted] };
        let request = ListOffsetsRequest { topics: vec![topic], ..Default::default() };
        let told = line.begin(format_args!("list offsets {TOPIC} {partition}: {timestamp_ms}"));
        let Response::ListOffsets(response) =
            line.call(5, &Request::ListOffsets(request), told).await?
        else {
            unreachable!("answers are decoded as what was asked")
        };
        let answer = response.topics.first().and_then(|topic| topic.partitions.first());
        let answer = answer.filter(|answer| answer.partition_index == partition);
        let Some(answer) = answer else { return Err(lacks_partitions(&response).into()) };
        line.end(told, format_args!("{}, {}", Code(answer.error_code), answer.offset));
        self.bot.shared.expect_storage(answer.error_code)?;
        Ok((!answer.error_code.is_error()).then(|| answer.clone()))
    }
}

/// Where a consumer goes on, put into words.
struct Places<'a> {
    consumer: &'a Consumer,
    partitions: &'a [i32],
}

impl std::fmt::Display for Places<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, partition) in self.partitions.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(
                formatter,
                "{separator}{partition} from {}",
                self.consumer.positions[partition]
            )?;
        }
        Ok(())
    }
}

/// What a fetch got, put into words.
struct Fetched<'a>(&'a FetchResponse);

impl std::fmt::Display for Fetched<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut answers = self.0.topics.iter().flat_map(|topic| &topic.partitions);
        let refused = answers.any(|answer| answer.error_code.is_error());
        formatter.write_str(if refused { "refused" } else { "ok" })?;
        for topic in &self.0.topics {
            write!(formatter, "; {}", topic.topic)?;
            for answer in &topic.partitions {
                let bytes: usize = answer.records.iter().map(bytes::Bytes::len).sum();
                write!(formatter, ", {}: ", answer.partition_index)?;
                match answer.error_code {
                    ErrorCode::NONE => {
                        write!(formatter, "{bytes} bytes of up to {}", answer.high_watermark)?;
                    }
                    code => write!(formatter, "{code:?}")?,
                }
            }
        }
        Ok(())
    }
}

fn parse(partition: i32, offset: i64, bytes: bytes::Bytes) -> Result<Batch, Contradiction> {
    Batch::parse_stored(bytes).map_err(|error| Contradiction {
        property: "changed-content",
        what: format!("partition {partition} at {offset}: {error}"),
    })
}

/// The batches of an answer: they stand one after the other, each with its length.
fn split_batches(answer: &FetchPartitionResponse) -> Result<Vec<bytes::Bytes>, Contradiction> {
    let cut_off = || Contradiction {
        property: "changed-content",
        what: format!("partition {}: a batch is cut off", answer.partition_index),
    };
    let mut batches = Vec::new();
    for mut bytes in answer.records.iter().cloned() {
        while !bytes.is_empty() {
            let length = bytes.get(8..12).and_then(|field| field.try_into().ok());
            let whole = 12 + i32::from_be_bytes(length.ok_or_else(cut_off)?) as usize;
            if whole > bytes.len() {
                return Err(cut_off());
            }
            batches.push(bytes.split_to(whole));
        }
    }
    Ok(batches)
}
