//! Produce: batches on their way into partitions, and InitProducerId, which numbers their senders.

use woodchuck::{Appended, EngineError, Ticket};
use woodchuck_io::Env;
use woodchuck_stream::{Batch, PartitionId};

use super::{Broker, errors};
use crate::protocol::produce::{
    ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceTopicResponse,
};
use crate::protocol::{ErrorCode, InitProducerIdRequest, InitProducerIdResponse, ProduceResponse};

/// A produce request whose batches have their places in the order of their partitions.
pub(super) struct Placed {
    topics: Vec<PlacedTopic>,
}

struct PlacedTopic {
    name: String,
    partitions: Vec<(i32, PlacedBatch)>,
}

enum PlacedBatch {
    Refused(ErrorCode, String),
    Taken(Ticket),
}

impl<E: Env> Broker<E> {
    /// Gives every batch of a request its place. Returns when all have one, so that the next
    /// request of the same connection comes after.
    pub(super) async fn place(&self, request: ProduceRequest) -> Placed {
        let refusal = refuse(&request);
        let mut placed = Placed { topics: Vec::with_capacity(request.topics.len()) };
        for topic in request.topics {
            let id = self.inner.engine.topics().by_name(&topic.name).map(|known| known.id);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in topic.partitions {
                let index = partition.partition_index;
                let batch = match (&refusal, id, u32::try_from(index)) {
                    (Some((code, why)), _, _) => PlacedBatch::Refused(*code, why.clone()),
                    (None, Some(topic), Ok(index)) => {
                        self.place_batch(PartitionId { topic, index }, partition).await
                    }
                    _ => refused(&EngineError::UnknownPartition),
                };
                partitions.push((index, batch));
            }
            placed.topics.push(PlacedTopic { name: topic.name, partitions });
        }
        placed
    }

    async fn place_batch(&self, id: PartitionId, partition: ProducePartition) -> PlacedBatch {
        match Batch::parse(partition.records.unwrap_or_default()) {
            Ok(batch) => PlacedBatch::Taken(self.inner.engine.append(id, batch).await),
            Err(error) => refused(&error.into()),
        }
    }

    /// Gives a producer its number, or the next epoch of the number it has.
    pub(super) fn init_producer_id(
        &self,
        request: &InitProducerIdRequest,
    ) -> InitProducerIdResponse {
        if request.transactional_id.is_some() {
            let error_code = ErrorCode::INVALID_REQUEST;
            return InitProducerIdResponse { error_code, ..Default::default() };
        }
        let renews = request.producer_id >= 0 && (0..i16::MAX).contains(&request.producer_epoch);
        let (producer_id, producer_epoch) = if renews {
            (request.producer_id, request.producer_epoch + 1)
        } else {
            (self.inner.engine.new_producer_id(), 0)
        };
        InitProducerIdResponse { producer_id, producer_epoch, ..Default::default() }
    }
}

/// Why a request as a whole is not served, if it is not.
fn refuse(request: &ProduceRequest) -> Option<(ErrorCode, String)> {
    if !(-1..=1).contains(&request.acks) {
        let why = format!("acks is {}; use -1 (all), 0 or 1", request.acks);
        return Some((ErrorCode::INVALID_REQUIRED_ACKS, why));
    }
    if request.transactional_id.is_some() {
        let why = "transactions are not served yet".to_owned();
        return Some((ErrorCode::INVALID_REQUEST, why));
    }
    None
}

fn refused(error: &EngineError) -> PlacedBatch {
    PlacedBatch::Refused(errors::code(error), error.to_string())
}

impl Placed {
    /// Waits until every batch is durable, or has failed, and answers.
    pub(super) async fn answer(self) -> ProduceResponse {
        let mut response = ProduceResponse::default();
        for topic in self.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for (index, batch) in topic.partitions {
                partitions.push(answer_batch(index, batch).await);
            }
            response.topics.push(ProduceTopicResponse { name: topic.name, partitions });
        }
        response
    }

    /// Leaves the batches to their fate, as a client that asked for no answer wants it.
    ///
    /// # Errors
    /// If a batch was refused. Closing the connection is the one way to tell such a client.
    pub(super) fn unanswered(self) -> Result<(), String> {
        for topic in self.topics {
            for (index, batch) in topic.partitions {
                if let PlacedBatch::Refused(_, why) = batch {
                    let name = topic.name;
                    return Err(format!("no answer is wanted, and {name}-{index} failed: {why}"));
                }
            }
        }
        Ok(())
    }
}

async fn answer_batch(partition_index: i32, batch: PlacedBatch) -> ProducePartitionResponse {
    let failed = |error_code, why| ProducePartitionResponse {
        partition_index,
        error_code,
        base_offset: -1,
        error_message: Some(why),
        ..Default::default()
    };
    match batch {
        PlacedBatch::Refused(code, why) => failed(code, why),
        PlacedBatch::Taken(ticket) => match ticket.await {
            Ok(Appended { base_offset, start }) => ProducePartitionResponse {
                partition_index,
                base_offset,
                log_start_offset: start,
                ..Default::default()
            },
            Err(error) => failed(errors::code(&error), error.to_string()),
        },
    }
}
