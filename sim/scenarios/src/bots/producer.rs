//! A producer that remembers what was acknowledged.
//!
//! A plain producer sends a batch once: if it hears nothing, the batch may or may not be there. An
//! idempotent one sends it again until it hears, with the numbers it had the first time. One that
//! wants no answers never hears anything; in the end, when nothing can break its connection, what it
//! sent must be there all the same. Each has something stored before it comes to its end.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use woodchuck_io::Env as _;
use woodchuck_server::protocol::list_offsets::{
    LATEST_TIMESTAMP, ListOffsetsPartition, ListOffsetsTopic,
};
use woodchuck_server::protocol::metadata::MetadataRequestTopic;
use woodchuck_server::protocol::produce::{
    ProducePartition, ProducePartitionResponse, ProduceTopic,
};
use woodchuck_server::protocol::{
    ErrorCode, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest,
    ProduceResponse, Request, Response,
};
use woodchuck_sim::OperationId;
use woodchuck_sim::check::log::Sending;
use woodchuck_stream::batch::build::{self, Record};

use super::{Bot, Code, Line, Outcome, TOPIC};
use crate::history::{RecordId, require};

/// How a producer works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// Whether it sends again, with sequence numbers.
    pub(crate) idempotent: bool,
    /// Requests it sends ahead.
    pub(crate) window: usize,
    /// Records of a batch, at most.
    pub(crate) records: u64,
    /// Filler of a record, at most, in bytes.
    pub(crate) filler: u64,
    /// The acknowledgement it asks for: -1, 1, or none at all with 0.
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
    sending: Sending,
}

impl fmt::Display for Sent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, ids, .. } = self;
        let (first, last) = (ids.first(), ids.last());
        let Some((first, last)) = first.zip(last) else { return write!(formatter, "{partition}") };
        let RecordId { producer, sequence } = first;
        write!(formatter, "{partition}: {producer}/{sequence}..={}", last.sequence)
    }
}

/// A request without an answer.
struct Asked {
    batches: Vec<Sent>,
    told: OperationId,
}

struct Producer {
    bot: Bot,
    habits: Habits,
    /// Names its records. One that wants no answers has another name on each connection: what it
    /// sent on different ones may overtake each other.
    name: u32,
    /// Sequence numbers by partition.
    next_sequence: BTreeMap<i32, u32>,
    /// What the broker numbered this producer, if it is idempotent.
    producer_id: Option<i64>,
    /// Requests without an answer, oldest first. Sent again after a break, if idempotent.
    unanswered: VecDeque<Asked>,
    /// Batches that left gaps.
    gaps: u32,
    /// Whether something of it was stored after all faults had ended: then the broker works again.
    marked: bool,
}

/// Names of one producer are so far apart.
const NAMES: u32 = 1 << 8;

/// Produces until bots are to end, and everything it may send again is acknowledged.
pub(crate) async fn produce(bot: Bot, habits: Habits) {
    let mut producer = Producer {
        name: bot.number,
        bot,
        habits,
        next_sequence: BTreeMap::new(),
        producer_id: None,
        unanswered: VecDeque::new(),
        gaps: 0,
        marked: false,
    };
    while !producer.done() {
        let mut line = producer.bot.connect().await;
        if let Err(trouble) = producer.work(&mut line).await {
            producer.bot.settle(trouble).await;
            if !habits.idempotent {
                for asked in producer.unanswered.drain(..) {
                    line.end(asked.told, format_args!("unknown: no answer, and given up"));
                }
            }
        }
        producer.bot.pause(10).await;
    }
}

impl Producer {
    fn done(&self) -> bool {
        self.bot.shared.ending.get() && self.unanswered.is_empty() && self.marked
    }

    /// Whether it is to send something new.
    fn has_more(&self) -> bool {
        !self.bot.shared.ending.get() || (!self.marked && self.unanswered.is_empty())
    }

    /// Works on one connection until there is nothing left to do, or it breaks.
    async fn work(&mut self, line: &mut Line) -> Outcome<()> {
        if !self.prepare(line).await? {
            return Ok(());
        }
        if self.habits.acks == 0 {
            return self.work_unanswered(line).await;
        }
        for asked in &self.unanswered {
            let again = request(&asked.batches, self.habits.acks);
            line.send(self.habits.version, &again).await?;
        }
        while !self.done() {
            if self.habits.idempotent && self.unanswered.is_empty() && self.bot.random.below(4) == 0
            {
                self.send_twice(line).await?;
            }
            while self.unanswered.len() < self.habits.window && self.has_more() {
                let request = self.ask(line);
                line.send(self.habits.version, &request).await?;
            }
            if !self.take_answer(line).await? {
                return Ok(());
            }
            if self.unanswered.is_empty() && self.bot.random.below(8) == 0 {
                self.leave_gap(line).await?;
            }
            if self.habits.pause_ms > 0 {
                self.bot.pause(self.habits.pause_ms).await;
            }
        }
        Ok(())
    }

    /// A request with new batches, which is unanswered from now on.
    fn ask(&mut self, line: &Line) -> Request {
        let batches = self.new_batches();
        let asking = request(&batches, self.habits.acks);
        let told = line.begin(format_args!("produce {TOPIC} {}", List(&batches)));
        self.unanswered.push_back(Asked { batches, told });
        asking
    }

    /// Sends what nobody answers, and now and then something that is answered: an answer to
    /// anything else would be taken for that one.
    async fn work_unanswered(&mut self, line: &mut Line) -> Outcome<()> {
        self.name = self.name.wrapping_add(NAMES);
        self.next_sequence.clear();
        while !self.bot.shared.ending.get() {
            for _ in 0..self.habits.window {
                let batches = self.new_batches();
                let told = line.begin(format_args!("produce {TOPIC} {}", List(&batches)));
                line.send(self.habits.version, &request(&batches, 0)).await?;
                line.end(told, format_args!("unknown: no answer is wanted"));
            }
            if !self.prepare(line).await? {
                return Ok(());
            }
            self.bot.pause(self.habits.pause_ms.max(1)).await;
        }
        if line.quiet { self.leave_mark(line).await } else { Ok(()) }
    }

    /// Sends a batch that nobody answers and then one that is answered, to the same partition on
    /// the same connection. What is appended in order is durable in order: with the second one the
    /// first is stored.
    async fn leave_mark(&mut self, line: &mut Line) -> Outcome<()> {
        let partition = self.bot.random.below(self.bot.shared.partitions as u64) as i32;
        let first = self.new_batch(partition);
        let second = self.new_batch(partition);
        let told = line.begin(format_args!("produce {TOPIC} {first} unanswered, then {second}"));
        let unanswered = request(std::slice::from_ref(&first), 0);
        line.send(self.habits.version, &unanswered).await?;
        let second = [second];
        let Response::Produce(response) =
            line.call(self.habits.version, &request(&second, -1), told).await?
        else {
            unreachable!("answers are decoded as what was asked")
        };
        line.end(told, format_args!("{}", Answers(&response)));
        if self.note_answer(&second, &response)?.is_empty() {
            let now = self.bot.now();
            self.bot.shared.history.borrow_mut().stored(first.sending, now);
            self.marked = true;
        }
        Ok(())
    }

    /// Sends a request on two connections at once, as a client does that takes the first one for
    /// dead. Both answers have to say the same, and neither may come before the batches are durable:
    /// they lie before the end that is told right after the second one.
    async fn send_twice(&mut self, line: &mut Line) -> Outcome<()> {
        let mut second = self.bot.connect().await;
        let request = self.ask(line);
        line.send(self.habits.version, &request).await?;
        second.send(self.habits.version, &request).await?;
        let Response::Produce(response) = second.receive().await? else {
            unreachable!("answers are decoded as what was asked")
        };
        let asked = self.unanswered.back().map_or(&[][..], |asked| &asked.batches);
        self.note_answer(asked, &response)?;
        self.require_end(&mut second, &response).await
    }

    /// Asks for the ends of partitions in which batches were acknowledged. No answer may lie before
    /// what was acknowledged there.
    async fn require_end(&self, line: &mut Line, acknowledged: &ProduceResponse) -> Outcome<()> {
        let answers = acknowledged.topics.iter().flat_map(|topic| &topic.partitions);
        let offsets: BTreeMap<i32, i64> = answers
            .filter(|answer| !answer.error_code.is_error())
            .map(|answer| (answer.partition_index, answer.base_offset))
            .collect();
        let wanted = |&partition_index: &i32| ListOffsetsPartition {
            partition_index,
            timestamp_ms: LATEST_TIMESTAMP,
            ..Default::default()
        };
        let partitions = offsets.keys().map(wanted).collect();
        let topic = ListOffsetsTopic { name: TOPIC.to_owned(), partitions };
        let request = ListOffsetsRequest { topics: vec![topic], ..Default::default() };
        let told = line.begin(format_args!("list offsets {TOPIC}: the ends"));
        let Response::ListOffsets(response) =
            line.call(5, &Request::ListOffsets(request), told).await?
        else {
            unreachable!("answers are decoded as what was asked")
        };
        line.end(told, format_args!("{} partitions", offsets.len()));
        for answer in response.topics.iter().flat_map(|topic| &topic.partitions) {
            let (partition, end) = (answer.partition_index, answer.offset);
            self.bot.shared.expect_storage(answer.error_code)?;
            let offset = offsets.get(&partition).filter(|_| !answer.error_code.is_error());
            let behind = offset.is_none_or(|&offset| offset < end) || self.bot.shared.allowed.loss;
            require("acknowledged-is-durable", behind, || {
                format!("partition {partition} ended at {end} after {offset:?} was acknowledged")
            })?;
        }
        Ok(())
    }

    /// Sends a batch that leaves a gap in the numbering of an idempotent producer. It must be
    /// refused, and its record must never turn up.
    async fn leave_gap(&mut self, line: &mut Line) -> Outcome<()> {
        if self.bot.shared.allowed.loss {
            return Ok(()); // What it has sent may be lost, and then there is no gap.
        }
        let partition = self.bot.random.below(self.bot.shared.partitions as u64) as i32;
        // In a partition where it has sent nothing, a producer may begin anywhere.
        let next = self.next_sequence.get(&partition).filter(|next| **next > 0);
        let Some((&next, producer_id)) = next.zip(self.producer_id) else { return Ok(()) };
        let id = RecordId { producer: self.name, sequence: u32::MAX - self.gaps };
        self.gaps += 1;
        let value = id.value(partition, 0);
        let timestamp = self.bot.env.wall().as_millis();
        let record = Record { timestamp, key: None, value: Some(&value) };
        // So far off that it never fits, should it arrive after others.
        let sequence = next as i32 + (1 << 30);
        let bytes = build::batch_from(&[record], Some((producer_id, 0, sequence)));
        let request = produce_request([(partition, bytes)], self.habits.acks);
        let now = self.bot.now();
        self.bot.shared.history.borrow_mut().sending_unlawful(self.bot.number, now, partition, id);
        let told = line.begin(format_args!("produce {TOPIC} {partition}: a gap in the numbering"));
        let Response::Produce(response) = line.call(self.habits.version, &request, told).await?
        else {
            unreachable!("answers are decoded as what was asked")
        };
        let mut answers = response.topics.iter().flat_map(|topic| &topic.partitions);
        let refused = answers.all(|answer| answer.error_code.is_error());
        require("sequences-are-checked", refused, || {
            format!("a batch was taken that leaves a gap: {response:?}")
        })?;
        line.end(told, format_args!("ok, it was refused"));
        Ok(())
    }

    /// Makes sure of the topic, and of a producer id. False: not now.
    async fn prepare(&mut self, line: &mut Line) -> Outcome<bool> {
        let topic = MetadataRequestTopic { name: Some(TOPIC.to_owned()), ..Default::default() };
        let metadata = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
        let told = line.begin(format_args!("metadata of {TOPIC}"));
        let Response::Metadata(metadata) = line.call(9, &Request::Metadata(metadata), told).await?
        else {
            unreachable!("answers are decoded as what was asked")
        };
        let found = metadata.topics.first().map_or(ErrorCode::NONE, |topic| topic.error_code);
        line.end(told, format_args!("{}", Code(found)));
        self.bot.shared.expect_storage(found)?;
        if found.is_error() {
            return Ok(false);
        }
        if self.habits.idempotent && self.producer_id.is_none() {
            let request = Request::InitProducerId(InitProducerIdRequest::default());
            let told = line.begin(format_args!("a producer id"));
            let Response::InitProducerId(named) = line.call(2, &request, told).await? else {
                unreachable!("answers are decoded as what was asked")
            };
            line.end(told, format_args!("ok, {}", named.producer_id));
            self.producer_id = Some(named.producer_id);
        }
        Ok(true)
    }

    /// Batches for one to three partitions, with records that nobody has sent before.
    fn new_batches(&mut self) -> Vec<Sent> {
        let partitions = self.bot.shared.partitions;
        let count = 1 + self.bot.random.below(3).min(partitions as u64 - 1);
        let first = self.bot.random.below(partitions as u64) as i32;
        (0..count as i32).map(|step| self.new_batch((first + step) % partitions)).collect()
    }

    fn new_batch(&mut self, partition: i32) -> Sent {
        let random = &mut self.bot.random;
        let count = 1 + random.below(self.habits.records);
        let next = self.next_sequence.entry(partition).or_default();
        let base_sequence = *next;
        *next += count as u32;
        let producer = self.name;
        let now = self.bot.env.wall().as_millis();
        // Records of a batch may be younger and older than each other.
        let named: Vec<(RecordId, i64)> = (base_sequence..*next)
            .map(|sequence| (RecordId { producer, sequence }, now + random.below(4) as i64))
            .collect();
        let values: Vec<Vec<u8>> = named
            .iter()
            .map(|(id, _)| id.value(partition, random.below(self.habits.filler + 1) as usize))
            .collect();
        let records: Vec<Record<'_>> = named
            .iter()
            .zip(&values)
            .map(|(&(_, timestamp), value)| Record { timestamp, key: None, value: Some(value) })
            .collect();
        let numbered = self.producer_id.map(|id| (id, 0, base_sequence as i32));
        let bytes = build::batch_from(&records, numbered);
        let at = self.bot.now();
        let mut history = self.bot.shared.history.borrow_mut();
        let sending = history.sending(self.bot.number, at, partition, &named);
        Sent { partition, ids: named.into_iter().map(|(id, _)| id).collect(), bytes, sending }
    }

    /// Takes the answer to the oldest request. False: what is unanswered has to be sent again.
    async fn take_answer(&mut self, line: &mut Line) -> Outcome<bool> {
        let Response::Produce(response) = line.receive().await? else {
            unreachable!("answers are decoded as what was asked")
        };
        let Some(Asked { batches, told }) = self.unanswered.front() else {
            unreachable!("without a request there is no answer")
        };
        line.end(*told, format_args!("{}", Answers(&response)));
        let refused = self.note_answer(batches, &response)?;
        self.marked |= self.bot.shared.ending.get() && refused.is_empty();
        let batches = self.unanswered.pop_front().map_or(Vec::new(), |asked| asked.batches);
        if refused.is_empty() || !self.habits.idempotent {
            return Ok(true);
        }
        // Only what was refused is sent again: the rest has its answer.
        let batches: Vec<Sent> =
            batches.into_iter().filter(|sent| refused.contains(&sent.partition)).collect();
        let told = line.begin(format_args!("produce {TOPIC} {} again", List(&batches)));
        self.unanswered.push_front(Asked { batches, told });
        Ok(false)
    }

    /// Tells the history what an answer says of the batches of its request, and returns the
    /// partitions whose batches were refused.
    fn note_answer(&self, batches: &[Sent], response: &ProduceResponse) -> Outcome<Vec<i32>> {
        let answers = response.topics.first().map_or(&[][..], |topic| &topic.partitions);
        let partitions = |sent: &Sent, answer: &ProducePartitionResponse| {
            sent.partition == answer.partition_index
        };
        let fits = answers.len() == batches.len()
            && batches.iter().zip(answers).all(|(sent, answer)| partitions(sent, answer));
        require("answers-fit", fits, || {
            format!("{} was asked, and the answer is {response:?}", List(batches))
        })?;
        let mut refused = Vec::new();
        for (sent, answer) in batches.iter().zip(answers) {
            self.bot.shared.expect_storage(answer.error_code)?;
            if answer.error_code.is_error() {
                let lawful = [
                    ErrorCode::REQUEST_TIMED_OUT,
                    ErrorCode::NOT_LEADER_OR_FOLLOWER,
                    ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
                    ErrorCode::KAFKA_STORAGE_ERROR,
                ];
                require("lawful-errors", lawful.contains(&answer.error_code), || {
                    format!("a good batch got {answer:?}")
                })?;
                refused.push(sent.partition);
                continue;
            }
            let (now, place) = (self.bot.now(), (sent.partition, answer.base_offset));
            let mut history = self.bot.shared.history.borrow_mut();
            history.acknowledged(sent.sending, now, place, &sent.ids)?;
        }
        Ok(refused)
    }
}

/// A request with these batches.
fn request(batches: &[Sent], acks: i16) -> Request {
    produce_request(batches.iter().map(|sent| (sent.partition, sent.bytes.clone())), acks)
}

/// A request with these batches, each with its partition.
pub(super) fn produce_request(
    batches: impl IntoIterator<Item = (i32, bytes::Bytes)>,
    acks: i16,
) -> Request {
    let partitions = batches
        .into_iter()
        .map(|(partition_index, records)| ProducePartition {
            partition_index,
            records: Some(records),
        })
        .collect();
    Request::Produce(ProduceRequest {
        acks,
        timeout_ms: 1000,
        topics: vec![ProduceTopic { name: TOPIC.to_owned(), partitions }],
        ..Default::default()
    })
}

/// Batches, put into words.
struct List<'a>(&'a [Sent]);

impl fmt::Display for List<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, sent) in self.0.iter().enumerate() {
            write!(formatter, "{}{sent}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// What a broker answered to batches, put into words.
struct Answers<'a>(&'a ProduceResponse);

impl fmt::Display for Answers<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answers = || self.0.topics.iter().flat_map(|topic| &topic.partitions);
        let refused = answers().any(|answer| answer.error_code.is_error());
        formatter.write_str(if refused { "refused" } else { "ok" })?;
        answers().try_for_each(|answer| {
            let partition = answer.partition_index;
            match answer.error_code {
                ErrorCode::NONE => write!(formatter, ", {partition} at {}", answer.base_offset),
                code => write!(formatter, ", {partition}: {code:?}"),
            }
        })
    }
}
