//! Fetch: whole batches, from where a consumer asks, waiting for more if it wants to.
//!
//! Fetch sessions are not kept: a session id of 0 in the answer tells the client to send its whole
//! list each time, which every client does.

use std::future::Future;
use std::time::Duration;

use futures_util::future::{Either, select};
use woodchuck::limits::READ_BYTES;
use woodchuck::{EngineError, ReadOutcome, ReadRequest, Reader};
use woodchuck_io::Env;
use woodchuck_stream::PartitionId;

use super::budget::Share;
use super::{Broker, errors};
use crate::limits::ANSWER_FREE_BYTES;
use crate::protocol::fetch::{FetchPartition, FetchPartitionResponse, FetchTopicResponse};
use crate::protocol::{ErrorCode, FetchRequest, FetchResponse, IsolationLevel};

/// Kafka's FETCH_SESSION_ID_NOT_FOUND.
const SESSION_NOT_FOUND: ErrorCode = ErrorCode(70);

/// What is known of a partition before anything is read.
enum Planned {
    /// Its read has this index among all reads.
    Read(usize),
    Refused(ErrorCode),
}

impl<E: Env> Broker<E> {
    /// Answers a fetch, and gives the share of memory that the answer holds. It does not wait for
    /// more records once `closing` has completed.
    pub(super) async fn fetch(
        &self,
        reader: &mut Reader,
        request: FetchRequest,
        closing: impl Future<Output = ()>,
    ) -> (FetchResponse, Share) {
        let mut share = self.inner.answers.share();
        if request.session_id != 0 {
            let error_code = SESSION_NOT_FOUND;
            return (FetchResponse { error_code, ..Default::default() }, share);
        }
        let (reads, plan) = self.plan(&request);
        let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(READ_BYTES);
        let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0);
        let any_refused =
            plan.iter().flatten().any(|planned| matches!(planned, Planned::Refused(_)));
        let wait = match u64::try_from(request.max_wait_ms) {
            Ok(wait) if !any_refused => Duration::from_millis(wait),
            _ => Duration::ZERO,
        };
        let engine = &self.inner.engine;
        let readable = {
            let waiting =
                std::pin::pin!(engine.wait_readable(reader, &reads, min_bytes, max_bytes, wait));
            match select(waiting, std::pin::pin!(closing)).await {
                Either::Left((bytes, _)) => bytes,
                Either::Right(_) => max_bytes,
            }
        };
        let affordable = share.try_grow(readable.min(max_bytes));
        let max_bytes = if affordable { max_bytes } else { max_bytes.min(ANSWER_FREE_BYTES) };
        let outcomes = engine.read(&reads, max_bytes).await;
        let mut outcomes: Vec<_> = outcomes.into_iter().map(Some).collect();
        let committed = request.isolation_level == IsolationLevel::ReadCommitted;
        let mut response = FetchResponse::default();
        for (topic, planned) in request.topics.into_iter().zip(plan) {
            let partitions = topic
                .partitions
                .iter()
                .zip(planned)
                .map(|(partition, planned)| match planned {
                    Planned::Refused(error_code) => failed(partition.partition, error_code),
                    Planned::Read(index) => {
                        let outcome = outcomes.get_mut(index).and_then(Option::take);
                        let gone = Err(EngineError::UnknownPartition);
                        answer(partition.partition, outcome.unwrap_or(gone), committed)
                    }
                })
                .collect();
            response.topics.push(FetchTopicResponse { topic: topic.topic, partitions });
        }
        (response, share)
    }

    /// The reads a request needs, and for each of its partitions which of them it is.
    fn plan(&self, request: &FetchRequest) -> (Vec<ReadRequest>, Vec<Vec<Planned>>) {
        let topics = self.inner.engine.topics();
        let mut reads = Vec::new();
        let mut plan = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let id = topics.by_name(&topic.topic).map(|known| known.id);
            let planned = topic.partitions.iter().map(|partition| {
                let id = id.zip(u32::try_from(partition.partition).ok());
                let Some((topic, index)) = id else {
                    return Planned::Refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
                };
                if partition.current_leader_epoch > 0 {
                    return Planned::Refused(ErrorCode::UNKNOWN_LEADER_EPOCH);
                }
                reads.push(read_request(PartitionId { topic, index }, partition));
                Planned::Read(reads.len() - 1)
            });
            plan.push(planned.collect());
        }
        (reads, plan)
    }
}

fn read_request(id: PartitionId, partition: &FetchPartition) -> ReadRequest {
    ReadRequest {
        partition: id,
        offset: partition.fetch_offset,
        max_bytes: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
    }
}

fn answer(
    partition_index: i32,
    outcome: Result<ReadOutcome, EngineError>,
    committed: bool,
) -> FetchPartitionResponse {
    match outcome {
        Ok(ReadOutcome { batches, start, end }) => FetchPartitionResponse {
            partition_index,
            high_watermark: end,
            last_stable_offset: end,
            log_start_offset: start,
            aborted_transactions: committed.then(Vec::new),
            records: batches,
            ..Default::default()
        },
        Err(error) => {
            if matches!(error, EngineError::Storage(_)) {
                tracing::error!("a fetch failed: {error}");
            }
            let mut response = failed(partition_index, errors::code(&error));
            if let EngineError::OffsetOutOfRange { start, end } = error {
                response.high_watermark = end;
                response.last_stable_offset = end;
                response.log_start_offset = start;
            }
            response
        }
    }
}

fn failed(partition_index: i32, error_code: ErrorCode) -> FetchPartitionResponse {
    FetchPartitionResponse { partition_index, error_code, ..Default::default() }
}
