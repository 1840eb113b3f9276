//! A client that makes topics, fills them, and deletes them: what it leaves behind in the log has
//! to be given back without anything else being harmed.

use woodchuck_server::protocol::create_topics::CreatableTopic;
use woodchuck_server::protocol::delete_topics::DeleteTopicState;
use woodchuck_server::protocol::produce::{ProducePartition, ProduceTopic};
use woodchuck_server::protocol::{
    CreateTopicsRequest, DeleteTopicsRequest, ErrorCode, ProduceRequest, Request, Response,
};
use woodchuck_stream::batch::build::{self, Record};

use super::{Bot, Code, Line, Outcome, SCRATCH, SCRATCH_FILLER, SCRATCH_PARTITIONS};
use crate::history::require;

/// Makes and deletes a topic over and over until bots are to end.
pub(crate) async fn tidy(mut bot: Bot) {
    while !bot.shared.ending.get() {
        let mut line = bot.connect().await;
        while !bot.shared.ending.get() {
            if let Err(trouble) = round(&mut bot, &mut line).await {
                bot.settle(trouble).await;
                break;
            }
            bot.pause(20).await;
        }
        bot.pause(20).await;
    }
}

async fn round(bot: &mut Bot, line: &mut Line) -> Outcome<()> {
    let created = create(line).await?;
    bot.shared.expect_storage(created)?;
    let lawful = [
        ErrorCode::NONE,
        ErrorCode::TOPIC_ALREADY_EXISTS,
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::REQUEST_TIMED_OUT,
        ErrorCode::KAFKA_STORAGE_ERROR,
    ];
    require("lawful-errors", lawful.contains(&created), || {
        format!("creating a topic gave {created:?}")
    })?;
    for _ in 0..bot.random.below(6) {
        let base_offsets = fill(bot, line).await?;
        if created == ErrorCode::NONE {
            let low = base_offsets.iter().all(|&offset| offset < 6);
            require("deleted-topics-are-gone", low, || {
                format!("a topic was made anew and filled at offsets {base_offsets:?}")
            })?;
        }
    }
    let deleted = delete(line).await?;
    bot.shared.expect_storage(deleted)?;
    Ok(())
}

async fn create(line: &mut Line) -> Outcome<ErrorCode> {
    let topic = CreatableTopic {
        name: SCRATCH.to_owned(),
        num_partitions: SCRATCH_PARTITIONS,
        replication_factor: 1,
        ..Default::default()
    };
    let request =
        CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..Default::default() };
    let told = line.begin(format_args!("create topic {SCRATCH}"));
    let Response::CreateTopics(response) =
        line.call(5, &Request::CreateTopics(request), told).await?
    else {
        unreachable!("answers are decoded as what was asked")
    };
    let code = response.topics.first().map_or(ErrorCode::NONE, |topic| topic.error_code);
    line.end(told, format_args!("{}", Code(code)));
    Ok(code)
}

/// Appends one record to each partition, and returns the offsets they got.
async fn fill(bot: &mut Bot, line: &mut Line) -> Outcome<Vec<i64>> {
    let value = vec![SCRATCH_FILLER; 1 + bot.random.below(12_000) as usize];
    let records = build::batch(&[Record { timestamp: 0, key: None, value: Some(&value) }]);
    let partition =
        |partition_index| ProducePartition { partition_index, records: Some(records.clone()) };
    let partitions = (0..SCRATCH_PARTITIONS).map(partition).collect();
    let request = Request::Produce(ProduceRequest {
        acks: -1,
        timeout_ms: 1000,
        topics: vec![ProduceTopic { name: SCRATCH.to_owned(), partitions }],
        ..Default::default()
    });
    let told = line.begin(format_args!("produce {SCRATCH}: {} bytes each", records.len()));
    let Response::Produce(response) = line.call(7, &request, told).await? else {
        unreachable!("answers are decoded as what was asked")
    };
    let mut base_offsets = Vec::new();
    for answer in response.topics.iter().flat_map(|topic| &topic.partitions) {
        bot.shared.expect_storage(answer.error_code)?;
        if !answer.error_code.is_error() {
            base_offsets.push(answer.base_offset);
        }
    }
    line.end(told, format_args!("ok, at {base_offsets:?}"));
    Ok(base_offsets)
}

async fn delete(line: &mut Line) -> Outcome<ErrorCode> {
    let topic = DeleteTopicState { name: Some(SCRATCH.to_owned()), ..Default::default() };
    let request = DeleteTopicsRequest { topics: vec![topic], timeout_ms: 1000 };
    let told = line.begin(format_args!("delete topic {SCRATCH}"));
    let Response::DeleteTopics(response) =
        line.call(4, &Request::DeleteTopics(request), told).await?
    else {
        unreachable!("answers are decoded as what was asked")
    };
    let code = response.responses.first().map_or(ErrorCode::NONE, |topic| topic.error_code);
    line.end(told, format_args!("{}", Code(code)));
    Ok(code)
}
