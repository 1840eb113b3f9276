//! Produce (API 0), versions 3 to 10, flexible from 9: appends records.
//!
//! | since | request          | response                                              |
//! |-------|------------------|-------------------------------------------------------|
//! | 3     | all fields below | all fields below but these                            |
//! | 5     |                  | `log_start_offset`                                    |
//! | 8     |                  | `record_errors`, `error_message`                      |
//! | 10    |                  | tags for the current leader: never sent, and ignored  |
//!
//! A request whose `acks` is 0 is not answered.

use bytes::Bytes;

use super::ApiKey;
use super::error::ProtocolError;
use super::header::encoding;
use super::types::ErrorCode;
use super::wire::{Reader, Writer};

/// Asks to append records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProduceRequest {
    /// The transactional producer's name, or none.
    pub transactional_id: Option<String>,
    /// When to answer: -1 once all in-sync replicas have the records, 1 once the leader has them,
    /// 0 never.
    pub acks: i16,
    /// How long to wait for the replicas.
    pub timeout_ms: i32,
    /// The records, by topic.
    pub topics: Vec<ProduceTopic>,
}

/// The records for one topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProduceTopic {
    /// The topic's name.
    pub name: String,
    /// The records, by partition.
    pub partitions: Vec<ProducePartition>,
}

/// The records for one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProducePartition {
    /// The partition.
    pub partition_index: i32,
    /// Record batches, one after another.
    pub records: Option<Bytes>,
}

/// Answers [`ProduceRequest`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProduceResponse {
    /// What became of the records, by topic.
    pub topics: Vec<ProduceTopicResponse>,
    /// For how long the client was, or is to be, held back.
    pub throttle_time_ms: i32,
}

/// What became of the records for one topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProduceTopicResponse {
    /// The topic's name.
    pub name: String,
    /// What became of the records, by partition.
    pub partitions: Vec<ProducePartitionResponse>,
}

/// What became of the records for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducePartitionResponse {
    /// The partition.
    pub partition_index: i32,
    /// Whether the records were appended.
    pub error_code: ErrorCode,
    /// The offset of the first record; -1 if they were not appended.
    pub base_offset: i64,
    /// The timestamp the records were given, in milliseconds since 1970, or -1 if they keep their
    /// own.
    pub log_append_time_ms: i64,
    /// The first offset that the partition still has. Since version 5; -1 before.
    pub log_start_offset: i64,
    /// The records for whose sake the batch was refused. Since version 8; empty before.
    pub record_errors: Vec<RecordError>,
    /// Why the batch was refused. Since version 8; none before.
    pub error_message: Option<String>,
}

/// Why one record had its batch refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordError {
    /// The record's place in its batch.
    pub batch_index: i32,
    /// What was wrong with it.
    pub batch_index_error_message: Option<String>,
}

impl Default for ProducePartitionResponse {
    fn default() -> Self {
        Self {
            partition_index: 0,
            error_code: ErrorCode::NONE,
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: Vec::new(),
            error_message: None,
        }
    }
}

impl ProduceRequest {
    /// Reads a request's body.
    pub fn decode(reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        reader.set_encoding(encoding(ApiKey::Produce, version));
        let transactional_id = reader.nullable_string("transactional_id")?;
        let acks = reader.i16("acks")?;
        let timeout_ms = reader.i32("timeout_ms")?;
        let topics = reader.array("topics", |reader| {
            let name = reader.string("name")?;
            let partitions = reader.array("partitions", |reader| {
                let partition_index = reader.i32("partition_index")?;
                let records = reader.nullable_bytes("records")?;
                reader.skip_tagged_fields()?;
                Ok(ProducePartition { partition_index, records })
            })?;
            reader.skip_tagged_fields()?;
            Ok(ProduceTopic { name, partitions })
        })?;
        reader.skip_tagged_fields()?;
        Ok(Self { transactional_id, acks, timeout_ms, topics })
    }

    /// Writes a request's body.
    pub fn encode(&self, writer: &mut Writer, version: i16) {
        writer.set_encoding(encoding(ApiKey::Produce, version));
        writer.nullable_string(self.transactional_id.as_deref());
        writer.i16(self.acks);
        writer.i32(self.timeout_ms);
        writer.array(&self.topics, |writer, topic| {
            writer.string(&topic.name);
            writer.array(&topic.partitions, |writer, partition| {
                writer.i32(partition.partition_index);
                writer.nullable_bytes(partition.records.as_ref());
                writer.no_tagged_fields();
            });
            writer.no_tagged_fields();
        });
        writer.no_tagged_fields();
    }
}

impl ProduceResponse {
    /// Reads a response's body.
    pub fn decode(reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        reader.set_encoding(encoding(ApiKey::Produce, version));
        let topics = reader.array("responses", |reader| {
            let name = reader.string("name")?;
            let partitions = reader.array("partition_responses", |reader| {
                ProducePartitionResponse::decode(reader, version)
            })?;
            reader.skip_tagged_fields()?;
            Ok(ProduceTopicResponse { name, partitions })
        })?;
        let throttle_time_ms = reader.i32("throttle_time_ms")?;
        reader.skip_tagged_fields()?;
        Ok(Self { topics, throttle_time_ms })
    }

    /// Writes a response's body.
    pub fn encode(&self, writer: &mut Writer, version: i16) {
        writer.set_encoding(encoding(ApiKey::Produce, version));
        writer.array(&self.topics, |writer, topic| {
            writer.string(&topic.name);
            writer.array(&topic.partitions, |writer, partition| partition.encode(writer, version));
            writer.no_tagged_fields();
        });
        writer.i32(self.throttle_time_ms);
        writer.no_tagged_fields();
    }
}

impl ProducePartitionResponse {
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        let mut partition = Self {
            partition_index: reader.i32("index")?,
            error_code: reader.error_code("error_code")?,
            base_offset: reader.i64("base_offset")?,
            log_append_time_ms: reader.i64("log_append_time_ms")?,
            ..Self::default()
        };
        if version >= 5 {
            partition.log_start_offset = reader.i64("log_start_offset")?;
        }
        if version >= 8 {
            partition.record_errors = reader.array("record_errors", |reader| {
                let batch_index = reader.i32("batch_index")?;
                let batch_index_error_message =
                    reader.nullable_string("batch_index_error_message")?;
                reader.skip_tagged_fields()?;
                Ok(RecordError { batch_index, batch_index_error_message })
            })?;
            partition.error_message = reader.nullable_string("error_message")?;
        }
        reader.skip_tagged_fields()?;
        Ok(partition)
    }

    fn encode(&self, writer: &mut Writer, version: i16) {
        writer.i32(self.partition_index);
        writer.error_code(self.error_code);
        writer.i64(self.base_offset);
        writer.i64(self.log_append_time_ms);
        if version >= 5 {
            writer.i64(self.log_start_offset);
        }
        if version >= 8 {
            writer.array(&self.record_errors, |writer, record_error| {
                writer.i32(record_error.batch_index);
                writer.nullable_string(record_error.batch_index_error_message.as_deref());
                writer.no_tagged_fields();
            });
            writer.nullable_string(self.error_message.as_deref());
        }
        writer.no_tagged_fields();
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{assert_golden_request, assert_golden_response};
    use super::super::{Request, Response};
    use super::*;

    fn request(transactional_id: Option<&str>) -> Request {
        let partitions = vec![
            ProducePartition { partition_index: 1, records: Some(Bytes::from_static(b"batch")) },
            ProducePartition { partition_index: 2, records: None },
        ];
        Request::Produce(ProduceRequest {
            transactional_id: transactional_id.map(str::to_owned),
            acks: -1,
            timeout_ms: 1000,
            topics: vec![ProduceTopic { name: "logs".to_owned(), partitions }],
        })
    }

    #[test]
    fn request_in_version_3() {
        let golden = "
            0000 0003 00000007 0001 't' # Produce, version 3, correlation id, client id
            ffff                        # no transactional id
            ffff                        # acks -1
            000003e8                    # timeout
            00000001 0004 'logs'        # one topic
            00000002                    # two partitions
              00000001 00000005 'batch'
              00000002 ffffffff         # no records";
        assert_golden_request(3, &request(None), golden);
    }

    #[test]
    fn request_in_version_9() {
        let golden = "
            0000 0009 00000007 0001 't' 00 # client id still classic; header tags
            03 'tx'
            ffff
            000003e8
            02 05 'logs'
              03
                00000001 06 'batch' 00
                00000002 00 00
              00                           # tags of the topic
            00                             # tags of the request";
        assert_golden_request(9, &request(Some("tx")), golden);
    }

    fn response(partition: ProducePartitionResponse) -> Response {
        let partitions = vec![partition];
        Response::Produce(ProduceResponse {
            topics: vec![ProduceTopicResponse { name: "logs".to_owned(), partitions }],
            throttle_time_ms: 9,
        })
    }

    #[test]
    fn response_in_version_5() {
        let golden = "
            00000007                       # correlation id
            00000001 0004 'logs'
              00000001
                00000001 0000              # partition, error code
                0000000000000102           # base offset
                ffffffffffffffff           # log append time
                0000000000000003           # log start offset
            00000009                       # throttle time";
        let partition = ProducePartitionResponse {
            partition_index: 1,
            base_offset: 0x102,
            log_start_offset: 3,
            ..ProducePartitionResponse::default()
        };
        assert_golden_response(5, &response(partition), golden);
    }

    #[test]
    fn response_in_version_10() {
        let golden = "
            00000007 00                    # correlation id, header tags
            02 05 'logs'
              02
                00000001 0057              # INVALID_RECORD
                ffffffffffffffff
                ffffffffffffffff
                0000000000000003
                03                         # two record errors
                  00000004 04 'key' 00
                  00000005 00 00
                04 'bad'                   # error message
                00
              00
            00000009
            00";
        let partition = ProducePartitionResponse {
            partition_index: 1,
            error_code: ErrorCode::INVALID_RECORD,
            log_start_offset: 3,
            record_errors: vec![
                RecordError { batch_index: 4, batch_index_error_message: Some("key".to_owned()) },
                RecordError { batch_index: 5, batch_index_error_message: None },
            ],
            error_message: Some("bad".to_owned()),
            ..ProducePartitionResponse::default()
        };
        assert_golden_response(10, &response(partition), golden);
    }

    #[test]
    fn tags_of_the_current_leader_are_ignored() {
        let golden = "
            02 05 'logs'
              02
                00000001 0006              # NOT_LEADER_OR_FOLLOWER
                ffffffffffffffff ffffffffffffffff ffffffffffffffff 01 00
                01 00 09 00000003 00000004 00 # one tag: 0, of nine bytes: leader 3, epoch 4
              00
            00000000
            01 00 03 020304                # one tag: 0, of three bytes";
        let bytes = super::super::test_support::by_hand(golden);
        let mut reader = Reader::new(Bytes::from(bytes));
        let response = ProduceResponse::decode(&mut reader, 10).unwrap();
        reader.finish().unwrap();
        let partition = &response.topics[0].partitions[0];
        assert_eq!(partition.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    }
}
