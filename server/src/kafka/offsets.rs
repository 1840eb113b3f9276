//! ListOffsets: where a partition begins and ends, and where a time is in it.

use woodchuck::{EngineError, OffsetQuery};
use woodchuck_io::Env;
use woodchuck_stream::{OffsetAndTimestamp, PartitionId};

use super::{Broker, errors};
use crate::protocol::list_offsets::{
    EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, ListOffsetsPartition, ListOffsetsPartitionResponse,
    ListOffsetsTopicResponse, MAX_TIMESTAMP,
};
use crate::protocol::{ListOffsetsRequest, ListOffsetsResponse};

impl<E: Env> Broker<E> {
    pub(super) async fn list_offsets(&self, request: ListOffsetsRequest) -> ListOffsetsResponse {
        let mut response = ListOffsetsResponse::default();
        for topic in request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let found = self.find_offset(&topic.name, partition).await;
                partitions.push(answer(partition.partition_index, found));
            }
            response.topics.push(ListOffsetsTopicResponse { name: topic.name, partitions });
        }
        response
    }

    async fn find_offset(
        &self,
        topic: &str,
        partition: &ListOffsetsPartition,
    ) -> Result<Option<OffsetAndTimestamp>, EngineError> {
        let topic = self.inner.engine.topics().by_name(topic).map(|known| known.id);
        let index = u32::try_from(partition.partition_index).ok();
        let (topic, index) = topic.zip(index).ok_or(EngineError::UnknownPartition)?;
        let query = match partition.timestamp_ms {
            LATEST_TIMESTAMP => OffsetQuery::Latest,
            EARLIEST_TIMESTAMP => OffsetQuery::Earliest,
            MAX_TIMESTAMP => OffsetQuery::MaxTimestamp,
            timestamp => OffsetQuery::Timestamp(timestamp),
        };
        self.inner.engine.offset(PartitionId { topic, index }, query).await
    }
}

fn answer(
    partition_index: i32,
    found: Result<Option<OffsetAndTimestamp>, EngineError>,
) -> ListOffsetsPartitionResponse {
    let partition = ListOffsetsPartitionResponse { partition_index, ..Default::default() };
    match found {
        Ok(None) => partition, // No record is that young: -1 in all fields.
        Ok(Some(OffsetAndTimestamp { offset, timestamp })) => ListOffsetsPartitionResponse {
            offset,
            timestamp_ms: timestamp,
            leader_epoch: 0,
            ..partition
        },
        Err(error) => {
            ListOffsetsPartitionResponse { error_code: errors::code(&error), ..partition }
        }
    }
}
