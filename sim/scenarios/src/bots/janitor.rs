//! A client that makes topics, fills them, and deletes them: what it leaves behind in the log has
//! to be given back without anything else being harmed.

use woodchuck_io::{Env, RandomStream};
use woodchuck_server::protocol::create_topics::CreatableTopic;
use woodchuck_server::protocol::delete_topics::DeleteTopicState;
use woodchuck_server::protocol::produce::{ProducePartition, ProduceTopic};
use woodchuck_server::protocol::{
    CreateTopicsRequest, DeleteTopicsRequest, ErrorCode, ProduceRequest, Request, Response,
};
use woodchuck_stream::batch::build::{self, Record};

use super::{Shared, connect, expect_lawful, expect_storage, pause};
use crate::client::{Client, ClientError};

const SCRATCH: &str = "scratch";
const PARTITIONS: i32 = 3;

/// Makes and deletes a topic over and over until bots are to end.
pub(crate) async fn tidy<E: Env>(env: E, shared: Shared) {
    let mut random = env.random("janitor");
    while !shared.ending.get() {
        let mut client = connect(&env, &shared, &mut random).await;
        while !shared.ending.get() {
            if let Err(error) = round(&mut client, &shared, &mut random).await {
                expect_lawful(&error);
                break;
            }
            pause(&env, &mut random, 20).await;
        }
        pause(&env, &mut random, 20).await;
    }
}

async fn round<E: Env>(
    client: &mut Client<E>,
    shared: &Shared,
    random: &mut RandomStream,
) -> Result<(), ClientError> {
    let created = create(client).await?;
    expect_storage(shared, created);
    let lawful = [
        ErrorCode::NONE,
        ErrorCode::TOPIC_ALREADY_EXISTS,
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::REQUEST_TIMED_OUT,
        ErrorCode::KAFKA_STORAGE_ERROR,
    ];
    assert!(lawful.contains(&created), "creating a topic gave {created:?}");
    for _ in 0..random.below(6) {
        let base_offsets = fill(client, shared, random).await?;
        if created == ErrorCode::NONE {
            // Nothing of an earlier topic of the same name may be left.
            assert!(base_offsets.iter().all(|&offset| offset < 6), "{base_offsets:?}");
        }
    }
    let deleted = delete(client).await?;
    expect_storage(shared, deleted);
    Ok(())
}

async fn create<E: Env>(client: &mut Client<E>) -> Result<ErrorCode, ClientError> {
    let topic = CreatableTopic {
        name: SCRATCH.to_owned(),
        num_partitions: PARTITIONS,
        replication_factor: 1,
        ..Default::default()
    };
    let request =
        CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..Default::default() };
    let Response::CreateTopics(response) = client.call(5, &Request::CreateTopics(request)).await?
    else {
        unreachable!("answers are decoded as what was asked")
    };
    Ok(response.topics.first().map_or(ErrorCode::NONE, |topic| topic.error_code))
}

/// Appends one record to each partition, and returns the offsets they got.
async fn fill<E: Env>(
    client: &mut Client<E>,
    shared: &Shared,
    random: &mut RandomStream,
) -> Result<Vec<i64>, ClientError> {
    let value = vec![0xEE; 1 + random.below(12_000) as usize];
    let records = build::batch(&[Record { timestamp: 0, key: None, value: Some(&value) }]);
    let partition =
        |partition_index| ProducePartition { partition_index, records: Some(records.clone()) };
    let partitions = (0..PARTITIONS).map(partition).collect();
    let request = Request::Produce(ProduceRequest {
        acks: -1,
        timeout_ms: 1000,
        topics: vec![ProduceTopic { name: SCRATCH.to_owned(), partitions }],
        ..Default::default()
    });
    let Response::Produce(response) = client.call(7, &request).await? else {
        unreachable!("answers are decoded as what was asked")
    };
    let answers = response.topics.iter().flat_map(|topic| &topic.partitions);
    Ok(answers
        .inspect(|answer| expect_storage(shared, answer.error_code))
        .filter(|answer| !answer.error_code.is_error())
        .map(|answer| answer.base_offset)
        .collect())
}

async fn delete<E: Env>(client: &mut Client<E>) -> Result<ErrorCode, ClientError> {
    let topic = DeleteTopicState { name: Some(SCRATCH.to_owned()), ..Default::default() };
    let request = DeleteTopicsRequest { topics: vec![topic], timeout_ms: 1000 };
    let Response::DeleteTopics(response) = client.call(4, &Request::DeleteTopics(request)).await?
    else {
        unreachable!("answers are decoded as what was asked")
    };
    Ok(response.responses.first().map_or(ErrorCode::NONE, |topic| topic.error_code))
}
