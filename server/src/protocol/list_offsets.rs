//! ListOffsets (API 2), versions 1 to 7, flexible from 6: finds offsets by timestamp.
//!
//! | since | request                    | response                   |
//! |-------|----------------------------|----------------------------|
//! | 1     | all fields below but these | all fields below but these |
//! | 2     | `isolation_level`          | `throttle_time_ms`         |
//! | 4     | `current_leader_epoch`     | `leader_epoch`             |
//! | 7     | [`MAX_TIMESTAMP`]          |                            |

use super::ApiKey;
use super::error::ProtocolError;
use super::header::encoding;
use super::types::{ErrorCode, IsolationLevel};
use super::wire::{Reader, Writer};

/// In place of a timestamp: the offset that the next record will have.
pub const LATEST_TIMESTAMP: i64 = -1;
/// In place of a timestamp: the first offset that the partition still has.
pub const EARLIEST_TIMESTAMP: i64 = -2;
/// In place of a timestamp: the offset of the record with the highest timestamp.
pub const MAX_TIMESTAMP: i64 = -3;

/// Asks for offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListOffsetsRequest {
    /// The broker that asks, or -1 for a consumer.
    pub replica_id: i32,
    /// Which records the consumer may see. Since version 2; all of them before.
    pub isolation_level: IsolationLevel,
    /// What is wanted, by topic.
    pub topics: Vec<ListOffsetsTopic>,
}

/// What is wanted of one topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListOffsetsTopic {
    /// The topic's name.
    pub name: String,
    /// What is wanted, by partition.
    pub partitions: Vec<ListOffsetsPartition>,
}

/// What is wanted of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListOffsetsPartition {
    /// The partition.
    pub partition_index: i32,
    /// The leader epoch that the consumer knows, or -1. Since version 4; -1 before.
    pub current_leader_epoch: i32,
    /// Milliseconds since 1970, for the first record of that time or later; or one of
    /// [`LATEST_TIMESTAMP`], [`EARLIEST_TIMESTAMP`] and [`MAX_TIMESTAMP`].
    pub timestamp_ms: i64,
}

/// Answers [`ListOffsetsRequest`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListOffsetsResponse {
    /// For how long the client was, or is to be, held back. Since version 2; 0 before.
    pub throttle_time_ms: i32,
    /// What was found, by topic.
    pub topics: Vec<ListOffsetsTopicResponse>,
}

/// What was found in one topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListOffsetsTopicResponse {
    /// The topic's name.
    pub name: String,
    /// What was found, by partition.
    pub partitions: Vec<ListOffsetsPartitionResponse>,
}

/// What was found in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListOffsetsPartitionResponse {
    /// The partition.
    pub partition_index: i32,
    /// Whether it was searched.
    pub error_code: ErrorCode,
    /// The timestamp of the record found, in milliseconds since 1970, or -1.
    pub timestamp_ms: i64,
    /// The offset found, or -1.
    pub offset: i64,
    /// The leader epoch of the record found, or -1. Since version 4; -1 before.
    pub leader_epoch: i32,
}

impl Default for ListOffsetsRequest {
    fn default() -> Self {
        Self {
            replica_id: -1,
            isolation_level: IsolationLevel::ReadUncommitted,
            topics: Vec::new(),
        }
    }
}

impl Default for ListOffsetsPartition {
    fn default() -> Self {
        Self { partition_index: 0, current_leader_epoch: -1, timestamp_ms: LATEST_TIMESTAMP }
    }
}

impl Default for ListOffsetsPartitionResponse {
    fn default() -> Self {
        Self {
            partition_index: 0,
            error_code: ErrorCode::NONE,
            timestamp_ms: -1,
            offset: -1,
            leader_epoch: -1,
        }
    }
}

impl ListOffsetsRequest {
    /// Reads a request's body.
    pub fn decode(reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        reader.set_encoding(encoding(ApiKey::ListOffsets, version));
        let mut request = Self { replica_id: reader.i32("replica_id")?, ..Self::default() };
        if version >= 2 {
            request.isolation_level = reader.isolation_level("isolation_level")?;
        }
        request.topics = reader.array("topics", |reader| {
            let name = reader.string("name")?;
            let partitions = reader.array("partitions", |reader| {
                let mut partition = ListOffsetsPartition {
                    partition_index: reader.i32("partition_index")?,
                    ..ListOffsetsPartition::default()
                };
                if version >= 4 {
                    partition.current_leader_epoch = reader.i32("current_leader_epoch")?;
                }
                partition.timestamp_ms = reader.i64("timestamp")?;
                reader.skip_tagged_fields()?;
                Ok(partition)
            })?;
            reader.skip_tagged_fields()?;
            Ok(ListOffsetsTopic { name, partitions })
        })?;
        reader.skip_tagged_fields()?;
        Ok(request)
    }

    /// Writes a request's body.
    pub fn encode(&self, writer: &mut Writer, version: i16) {
        writer.set_encoding(encoding(ApiKey::ListOffsets, version));
        writer.i32(self.replica_id);
        if version >= 2 {
            writer.i8(self.isolation_level.to_i8());
        }
        writer.array(&self.topics, |writer, topic| {
            writer.string(&topic.name);
            writer.array(&topic.partitions, |writer, partition| {
                writer.i32(partition.partition_index);
                if version >= 4 {
                    writer.i32(partition.current_leader_epoch);
                }
                writer.i64(partition.timestamp_ms);
                writer.no_tagged_fields();
            });
            writer.no_tagged_fields();
        });
        writer.no_tagged_fields();
    }
}

impl ListOffsetsResponse {
    /// Reads a response's body.
    pub fn decode(reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        reader.set_encoding(encoding(ApiKey::ListOffsets, version));
        let mut response = Self::default();
        if version >= 2 {
            response.throttle_time_ms = reader.i32("throttle_time_ms")?;
        }
        response.topics = reader.array("topics", |reader| {
            let name = reader.string("name")?;
            let partitions = reader.array("partitions", |reader| {
                let mut partition = ListOffsetsPartitionResponse {
                    partition_index: reader.i32("partition_index")?,
                    error_code: reader.error_code("error_code")?,
                    timestamp_ms: reader.i64("timestamp")?,
                    offset: reader.i64("offset")?,
                    ..ListOffsetsPartitionResponse::default()
                };
                if version >= 4 {
                    partition.leader_epoch = reader.i32("leader_epoch")?;
                }
                reader.skip_tagged_fields()?;
                Ok(partition)
            })?;
            reader.skip_tagged_fields()?;
            Ok(ListOffsetsTopicResponse { name, partitions })
        })?;
        reader.skip_tagged_fields()?;
        Ok(response)
    }

    /// Writes a response's body.
    pub fn encode(&self, writer: &mut Writer, version: i16) {
        writer.set_encoding(encoding(ApiKey::ListOffsets, version));
        if version >= 2 {
            writer.i32(self.throttle_time_ms);
        }
        writer.array(&self.topics, |writer, topic| {
            writer.string(&topic.name);
            writer.array(&topic.partitions, |writer, partition| {
                writer.i32(partition.partition_index);
                writer.error_code(partition.error_code);
                writer.i64(partition.timestamp_ms);
                writer.i64(partition.offset);
                if version >= 4 {
                    writer.i32(partition.leader_epoch);
                }
                writer.no_tagged_fields();
            });
            writer.no_tagged_fields();
        });
        writer.no_tagged_fields();
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{assert_golden_request, assert_golden_response};
    use super::super::{Request, Response};
    use super::*;

    fn request(isolation_level: IsolationLevel, current_leader_epoch: i32) -> Request {
        let partition = ListOffsetsPartition {
            partition_index: 2,
            current_leader_epoch,
            timestamp_ms: EARLIEST_TIMESTAMP,
        };
        let partitions = vec![partition];
        Request::ListOffsets(ListOffsetsRequest {
            isolation_level,
            topics: vec![ListOffsetsTopic { name: "logs".to_owned(), partitions }],
            ..ListOffsetsRequest::default()
        })
    }

    #[test]
    fn request_in_version_1() {
        let golden = "
            0002 0001 00000007 0001 't'
            ffffffff                    # replica id
            00000001 0004 'logs'
              00000001 00000002 fffffffffffffffe";
        assert_golden_request(1, &request(IsolationLevel::ReadUncommitted, -1), golden);
    }

    #[test]
    fn request_in_version_6() {
        let golden = "
            0002 0006 00000007 0001 't' 00
            ffffffff
            01                          # isolation level
            02 05 'logs'
              02
                00000002
                00000003                # current leader epoch
                fffffffffffffffe
                00
              00
            00";
        assert_golden_request(6, &request(IsolationLevel::ReadCommitted, 3), golden);
    }

    fn response(throttle_time_ms: i32, leader_epoch: i32) -> Response {
        let partition = ListOffsetsPartitionResponse {
            partition_index: 2,
            error_code: ErrorCode::NONE,
            timestamp_ms: 0x77,
            offset: 0x88,
            leader_epoch,
        };
        let partitions = vec![partition];
        Response::ListOffsets(ListOffsetsResponse {
            throttle_time_ms,
            topics: vec![ListOffsetsTopicResponse { name: "logs".to_owned(), partitions }],
        })
    }

    #[test]
    fn response_in_version_1() {
        let golden = "
            00000007
            00000001 0004 'logs'
              00000001 00000002 0000 0000000000000077 0000000000000088";
        assert_golden_response(1, &response(0, -1), golden);
    }

    #[test]
    fn response_in_version_7() {
        let golden = "
            00000007 00
            00000009                    # throttle time
            02 05 'logs'
              02
                00000002 0000 0000000000000077 0000000000000088
                00000004                # leader epoch
                00
              00
            00";
        assert_golden_response(7, &response(9, 4), golden);
    }
}
