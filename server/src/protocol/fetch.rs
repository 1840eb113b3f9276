//! Fetch (API 1), versions 4 to 12, flexible from 12: reads records.
//!
//! | since | request                                        | response                        |
//! |-------|------------------------------------------------|---------------------------------|
//! | 4     | all fields below but these                     | all fields below but these      |
//! | 5     | `log_start_offset`                             | `log_start_offset`              |
//! | 7     | `session_id`, `session_epoch`, forgotten topics| `error_code`, `session_id`      |
//! | 9     | `current_leader_epoch`                         |                                 |
//! | 11    | `rack_id`                                      | `preferred_read_replica`        |
//! | 12    | `last_fetched_epoch`                           |                                 |
//! | 12    | tag 0 `cluster_id`                             | tag 0 `diverging_epoch`         |
//! | 12    |                                                | tag 1 `current_leader`          |
//!
//! Response tag 2, the snapshot of a metadata log, is for controllers: never sent, and ignored.

use bytes::Bytes;

use super::ApiKey;
use super::error::ProtocolError;
use super::header::encoding;
use super::types::{ErrorCode, IsolationLevel};
use super::wire::{Reader, TaggedFields, Writer};

const TAG_CLUSTER_ID: u32 = 0;
const TAG_DIVERGING_EPOCH: u32 = 0;
const TAG_CURRENT_LEADER: u32 = 1;

/// Asks for records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// The cluster this is meant for, if the client says. Since version 12; none before.
    pub cluster_id: Option<String>,
    /// The broker that asks, or -1 for a consumer.
    pub replica_id: i32,
    /// How long to wait for `min_bytes`.
    pub max_wait_ms: i32,
    /// How many bytes are worth an answer before `max_wait_ms` is over.
    pub min_bytes: i32,
    /// How many bytes to answer with at most. The first batch is sent whatever its size.
    pub max_bytes: i32,
    /// Which records the consumer may see.
    pub isolation_level: IsolationLevel,
    /// The fetch session, or 0 for none. Since version 7; 0 before.
    pub session_id: i32,
    /// The session's epoch, or -1 for a full fetch without a session. Since version 7; -1 before.
    pub session_epoch: i32,
    /// Where to read, in the order in which `max_bytes` is spent.
    pub topics: Vec<FetchTopic>,
    /// What to drop from the session. Since version 7; empty before.
    pub forgotten_topics: Vec<ForgottenTopic>,
    /// The consumer's rack. Since version 11; empty before.
    pub rack_id: String,
}

/// Where to read in one topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchTopic {
    /// The topic's name.
    pub topic: String,
    /// Where to read, by partition.
    pub partitions: Vec<FetchPartition>,
}

/// Where to read in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchPartition {
    /// The partition.
    pub partition: i32,
    /// The leader epoch that the consumer knows, or -1. Since version 9; -1 before.
    pub current_leader_epoch: i32,
    /// The first offset wanted.
    pub fetch_offset: i64,
    /// The leader epoch of the last record read, or -1. Since version 12; -1 before.
    pub last_fetched_epoch: i32,
    /// The log's start at a follower; -1 from a consumer. Since version 5; -1 before.
    pub log_start_offset: i64,
    /// How many bytes of this partition to answer with at most.
    pub partition_max_bytes: i32,
}

/// Partitions of a topic to drop from a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForgottenTopic {
    /// The topic's name.
    pub topic: String,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// Answers [`FetchRequest`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchResponse {
    /// For how long the client was, or is to be, held back.
    pub throttle_time_ms: i32,
    /// Whether the session is in order. Since version 7; none before.
    pub error_code: ErrorCode,
    /// The fetch session, or 0 for none. Since version 7; 0 before.
    pub session_id: i32,
    /// What was read, by topic.
    pub topics: Vec<FetchTopicResponse>,
}

/// What was read of one topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchTopicResponse {
    /// The topic's name.
    pub topic: String,
    /// What was read, by partition.
    pub partitions: Vec<FetchPartitionResponse>,
}

/// What was read of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchPartitionResponse {
    /// The partition.
    pub partition_index: i32,
    /// Whether it was read.
    pub error_code: ErrorCode,
    /// The offset below which all in-sync replicas have the records; -1 if unknown.
    pub high_watermark: i64,
    /// The offset below which all transactions are decided; -1 if unknown.
    pub last_stable_offset: i64,
    /// The first offset that the partition still has; -1 if unknown. Since version 5; -1 before.
    pub log_start_offset: i64,
    /// Where the consumer's log and this one part. Since version 12; none before.
    pub diverging_epoch: Option<EpochEndOffset>,
    /// Who leads the partition, for a consumer that asked another. Since version 12; none before.
    pub current_leader: Option<LeaderIdAndEpoch>,
    /// The aborted transactions among the records, for a consumer of committed ones only.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// The replica to read from, or -1 for this one. Since version 11; -1 before.
    pub preferred_read_replica: i32,
    /// Record batches, in as many pieces as they happen to lie in memory: spliced into the frame as
    /// they are. A decoded response has one piece, or none where there are no records.
    pub records: Vec<Bytes>,
}

/// A leader epoch and the offset at which it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEndOffset {
    /// The epoch, or -1.
    pub epoch: i32,
    /// The first offset past it, or -1.
    pub end_offset: i64,
}

/// A partition's leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderIdAndEpoch {
    /// The leader, or -1 if unknown.
    pub leader_id: i32,
    /// Its epoch, or -1.
    pub leader_epoch: i32,
}

/// A transaction whose records are to be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// The producer.
    pub producer_id: i64,
    /// The transaction's first offset.
    pub first_offset: i64,
}

impl Default for FetchRequest {
    fn default() -> Self {
        Self {
            cluster_id: None,
            replica_id: -1,
            max_wait_ms: 0,
            min_bytes: 0,
            max_bytes: i32::MAX,
            isolation_level: IsolationLevel::ReadUncommitted,
            session_id: 0,
            session_epoch: -1,
            topics: Vec::new(),
            forgotten_topics: Vec::new(),
            rack_id: String::new(),
        }
    }
}

impl Default for FetchPartition {
    fn default() -> Self {
        Self {
            partition: 0,
            current_leader_epoch: -1,
            fetch_offset: 0,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            partition_max_bytes: 0,
        }
    }
}

impl Default for FetchPartitionResponse {
    fn default() -> Self {
        Self {
            partition_index: 0,
            error_code: ErrorCode::NONE,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            current_leader: None,
            aborted_transactions: None,
            preferred_read_replica: -1,
            records: Vec::new(),
        }
    }
}

impl FetchRequest {
    /// Reads a request's body.
    pub fn decode(reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        reader.set_encoding(encoding(ApiKey::Fetch, version));
        let mut request = Self {
            replica_id: reader.i32("replica_id")?,
            max_wait_ms: reader.i32("max_wait_ms")?,
            min_bytes: reader.i32("min_bytes")?,
            max_bytes: reader.i32("max_bytes")?,
            isolation_level: reader.isolation_level("isolation_level")?,
            ..Self::default()
        };
        if version >= 7 {
            request.session_id = reader.i32("session_id")?;
            request.session_epoch = reader.i32("session_epoch")?;
        }
        request.topics = reader.array("topics", |reader| {
            let topic = reader.string("topic")?;
            let partitions =
                reader.array("partitions", |reader| FetchPartition::decode(reader, version))?;
            reader.skip_tagged_fields()?;
            Ok(FetchTopic { topic, partitions })
        })?;
        if version >= 7 {
            request.forgotten_topics = reader.array("forgotten_topics_data", |reader| {
                let topic = reader.string("topic")?;
                let partitions = reader.i32_array("partitions")?;
                reader.skip_tagged_fields()?;
                Ok(ForgottenTopic { topic, partitions })
            })?;
        }
        if version >= 11 {
            request.rack_id = reader.string("rack_id")?;
        }
        reader.tagged_fields(|tag, reader| {
            if tag == TAG_CLUSTER_ID {
                request.cluster_id = reader.nullable_string("cluster_id")?;
            }
            Ok(())
        })?;
        Ok(request)
    }

    /// Writes a request's body.
    pub fn encode(&self, writer: &mut Writer, version: i16) {
        writer.set_encoding(encoding(ApiKey::Fetch, version));
        writer.i32(self.replica_id);
        writer.i32(self.max_wait_ms);
        writer.i32(self.min_bytes);
        writer.i32(self.max_bytes);
        writer.i8(self.isolation_level.to_i8());
        if version >= 7 {
            writer.i32(self.session_id);
            writer.i32(self.session_epoch);
        }
        writer.array(&self.topics, |writer, topic| {
            writer.string(&topic.topic);
            writer.array(&topic.partitions, |writer, partition| partition.encode(writer, version));
            writer.no_tagged_fields();
        });
        if version >= 7 {
            writer.array(&self.forgotten_topics, |writer, forgotten| {
                writer.string(&forgotten.topic);
                writer.i32_array(&forgotten.partitions);
                writer.no_tagged_fields();
            });
        }
        if version >= 11 {
            writer.string(&self.rack_id);
        }
        let mut tagged = TaggedFields::default();
        if let Some(cluster_id) = &self.cluster_id {
            tagged.push(TAG_CLUSTER_ID, |writer| writer.nullable_string(Some(cluster_id)));
        }
        writer.tagged_fields(&tagged);
    }
}

impl FetchPartition {
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        let mut partition = Self { partition: reader.i32("partition")?, ..Self::default() };
        if version >= 9 {
            partition.current_leader_epoch = reader.i32("current_leader_epoch")?;
        }
        partition.fetch_offset = reader.i64("fetch_offset")?;
        if version >= 12 {
            partition.last_fetched_epoch = reader.i32("last_fetched_epoch")?;
        }
        if version >= 5 {
            partition.log_start_offset = reader.i64("log_start_offset")?;
        }
        partition.partition_max_bytes = reader.i32("partition_max_bytes")?;
        reader.skip_tagged_fields()?;
        Ok(partition)
    }

    fn encode(&self, writer: &mut Writer, version: i16) {
        writer.i32(self.partition);
        if version >= 9 {
            writer.i32(self.current_leader_epoch);
        }
        writer.i64(self.fetch_offset);
        if version >= 12 {
            writer.i32(self.last_fetched_epoch);
        }
        if version >= 5 {
            writer.i64(self.log_start_offset);
        }
        writer.i32(self.partition_max_bytes);
        writer.no_tagged_fields();
    }
}

impl FetchResponse {
    /// Reads a response's body.
    pub fn decode(reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        reader.set_encoding(encoding(ApiKey::Fetch, version));
        let mut response =
            Self { throttle_time_ms: reader.i32("throttle_time_ms")?, ..Self::default() };
        if version >= 7 {
            response.error_code = reader.error_code("error_code")?;
            response.session_id = reader.i32("session_id")?;
        }
        response.topics = reader.array("responses", |reader| {
            let topic = reader.string("topic")?;
            let partitions = reader
                .array("partitions", |reader| FetchPartitionResponse::decode(reader, version))?;
            reader.skip_tagged_fields()?;
            Ok(FetchTopicResponse { topic, partitions })
        })?;
        reader.skip_tagged_fields()?;
        Ok(response)
    }

    /// Writes a response's body.
    pub fn encode(&self, writer: &mut Writer, version: i16) {
        writer.set_encoding(encoding(ApiKey::Fetch, version));
        writer.i32(self.throttle_time_ms);
        if version >= 7 {
            writer.error_code(self.error_code);
            writer.i32(self.session_id);
        }
        writer.array(&self.topics, |writer, topic| {
            writer.string(&topic.topic);
            writer.array(&topic.partitions, |writer, partition| partition.encode(writer, version));
            writer.no_tagged_fields();
        });
        writer.no_tagged_fields();
    }
}

impl FetchPartitionResponse {
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        let mut partition = Self {
            partition_index: reader.i32("partition_index")?,
            error_code: reader.error_code("error_code")?,
            high_watermark: reader.i64("high_watermark")?,
            last_stable_offset: reader.i64("last_stable_offset")?,
            ..Self::default()
        };
        if version >= 5 {
            partition.log_start_offset = reader.i64("log_start_offset")?;
        }
        partition.aborted_transactions =
            reader.nullable_array("aborted_transactions", |reader| {
                let producer_id = reader.i64("producer_id")?;
                let first_offset = reader.i64("first_offset")?;
                reader.skip_tagged_fields()?;
                Ok(AbortedTransaction { producer_id, first_offset })
            })?;
        if version >= 11 {
            partition.preferred_read_replica = reader.i32("preferred_read_replica")?;
        }
        let records = reader.nullable_bytes("records")?;
        partition.records = records.into_iter().filter(|records| !records.is_empty()).collect();
        reader.tagged_fields(|tag, reader| partition.decode_tagged(tag, reader))?;
        Ok(partition)
    }

    fn decode_tagged(&mut self, tag: u32, reader: &mut Reader) -> Result<(), ProtocolError> {
        match tag {
            TAG_DIVERGING_EPOCH => {
                let epoch = reader.i32("diverging_epoch.epoch")?;
                let end_offset = reader.i64("diverging_epoch.end_offset")?;
                reader.skip_tagged_fields()?;
                self.diverging_epoch = Some(EpochEndOffset { epoch, end_offset });
            }
            TAG_CURRENT_LEADER => {
                let leader_id = reader.i32("current_leader.leader_id")?;
                let leader_epoch = reader.i32("current_leader.leader_epoch")?;
                reader.skip_tagged_fields()?;
                self.current_leader = Some(LeaderIdAndEpoch { leader_id, leader_epoch });
            }
            _ => {}
        }
        Ok(())
    }

    fn encode(&self, writer: &mut Writer, version: i16) {
        writer.i32(self.partition_index);
        writer.error_code(self.error_code);
        writer.i64(self.high_watermark);
        writer.i64(self.last_stable_offset);
        if version >= 5 {
            writer.i64(self.log_start_offset);
        }
        writer.nullable_array(self.aborted_transactions.as_deref(), |writer, aborted| {
            writer.i64(aborted.producer_id);
            writer.i64(aborted.first_offset);
            writer.no_tagged_fields();
        });
        if version >= 11 {
            writer.i32(self.preferred_read_replica);
        }
        writer.bytes(&self.records);
        let mut tagged = TaggedFields::default();
        if let Some(diverging) = self.diverging_epoch {
            tagged.push(TAG_DIVERGING_EPOCH, |writer| {
                writer.i32(diverging.epoch);
                writer.i64(diverging.end_offset);
                writer.no_tagged_fields();
            });
        }
        if let Some(leader) = self.current_leader {
            tagged.push(TAG_CURRENT_LEADER, |writer| {
                writer.i32(leader.leader_id);
                writer.i32(leader.leader_epoch);
                writer.no_tagged_fields();
            });
        }
        writer.tagged_fields(&tagged);
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{
        assert_golden_request, assert_golden_response, header, response_frame,
    };
    use super::super::{Request, Response};
    use super::*;

    #[test]
    fn request_in_version_4() {
        let golden = "
            0001 0004 00000007 0001 't'
            ffffffff                    # replica id
            000001f4                    # max wait
            00000001                    # min bytes
            00100000                    # max bytes
            01                          # isolation level
            00000001 0004 'logs'
              00000001
                00000002                # partition
                0000000000000030        # fetch offset
                00008000                # partition max bytes";
        let partition = FetchPartition {
            partition: 2,
            fetch_offset: 0x30,
            partition_max_bytes: 0x8000,
            ..FetchPartition::default()
        };
        let request = FetchRequest {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 1 << 20,
            isolation_level: IsolationLevel::ReadCommitted,
            topics: vec![FetchTopic { topic: "logs".to_owned(), partitions: vec![partition] }],
            ..FetchRequest::default()
        };
        assert_golden_request(4, &Request::Fetch(request), golden);
    }

    fn full_request() -> FetchRequest {
        let partition = FetchPartition {
            partition: 2,
            current_leader_epoch: 5,
            fetch_offset: 0x30,
            last_fetched_epoch: 4,
            log_start_offset: 6,
            partition_max_bytes: 0x8000,
        };
        FetchRequest {
            cluster_id: Some("c1".to_owned()),
            replica_id: 8,
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 1 << 20,
            isolation_level: IsolationLevel::ReadUncommitted,
            session_id: 0x11,
            session_epoch: 0x12,
            topics: vec![FetchTopic { topic: "logs".to_owned(), partitions: vec![partition] }],
            forgotten_topics: vec![ForgottenTopic {
                topic: "old".to_owned(),
                partitions: vec![1, 3],
            }],
            rack_id: "r".to_owned(),
        }
    }

    #[test]
    fn request_in_version_11() {
        let golden = "
            0001 000b 00000007 0001 't'
            00000008 000001f4 00000001 00100000 00
            00000011 00000012           # session id, session epoch
            00000001 0004 'logs'
              00000001
                00000002
                00000005                # current leader epoch
                0000000000000030
                0000000000000006        # log start offset
                00008000
            00000001 0003 'old' 00000002 00000001 00000003
            0001 'r'";
        let mut request = full_request();
        request.cluster_id = None;
        request.topics[0].partitions[0].last_fetched_epoch = -1;
        assert_golden_request(11, &Request::Fetch(request), golden);
    }

    #[test]
    fn request_in_version_12() {
        let golden = "
            0001 000c 00000007 0001 't' 00
            00000008 000001f4 00000001 00100000 00
            00000011 00000012
            02 05 'logs'
              02
                00000002
                00000005
                0000000000000030
                00000004                # last fetched epoch
                0000000000000006
                00008000
                00
              00
            02 04 'old' 03 00000001 00000003 00
            02 'r'
            01 00 03 03 'c1'            # one tag: 0, of three bytes: the cluster id";
        assert_golden_request(12, &Request::Fetch(full_request()), golden);
    }

    fn response(partition: FetchPartitionResponse) -> Response {
        let partitions = vec![partition];
        Response::Fetch(FetchResponse {
            throttle_time_ms: 9,
            topics: vec![FetchTopicResponse { topic: "logs".to_owned(), partitions }],
            ..FetchResponse::default()
        })
    }

    #[test]
    fn response_in_version_4() {
        let golden = "
            00000007
            00000009                    # throttle time
            00000001 0004 'logs'
              00000001
                00000002 0000           # partition, error code
                0000000000000040        # high watermark
                000000000000003f        # last stable offset
                00000001                # one aborted transaction
                  0000000000000021 0000000000000031
                00000005 'batch'";
        let partition = FetchPartitionResponse {
            partition_index: 2,
            high_watermark: 0x40,
            last_stable_offset: 0x3f,
            aborted_transactions: Some(vec![AbortedTransaction {
                producer_id: 0x21,
                first_offset: 0x31,
            }]),
            records: vec![Bytes::from_static(b"batch")],
            ..FetchPartitionResponse::default()
        };
        assert_golden_response(4, &response(partition), golden);
    }

    #[test]
    fn response_in_version_12() {
        let golden = "
            00000007 00
            00000009
            0046                        # FETCH_SESSION_ID_NOT_FOUND
            00000011                    # session id
            02 05 'logs'
              02
                00000002 004a           # FENCED_LEADER_EPOCH
                0000000000000040
                000000000000003f
                0000000000000003        # log start offset
                00                      # no aborted transactions
                00000006                # preferred read replica
                01                      # records, empty
                02                      # two tags
                  00 0d 00000004 0000000000000020 00
                  01 09 00000001 00000005 00
              00
            00";
        let partition = FetchPartitionResponse {
            partition_index: 2,
            error_code: ErrorCode::FENCED_LEADER_EPOCH,
            high_watermark: 0x40,
            last_stable_offset: 0x3f,
            log_start_offset: 3,
            diverging_epoch: Some(EpochEndOffset { epoch: 4, end_offset: 0x20 }),
            current_leader: Some(LeaderIdAndEpoch { leader_id: 1, leader_epoch: 5 }),
            aborted_transactions: None,
            preferred_read_replica: 6,
            records: Vec::new(),
        };
        let mut response = response(partition);
        if let Response::Fetch(fetch) = &mut response {
            fetch.error_code = ErrorCode::FETCH_SESSION_ID_NOT_FOUND;
            fetch.session_id = 0x11;
        }
        assert_golden_response(12, &response, golden);
    }

    #[test]
    fn records_are_spliced_and_not_copied() {
        let pieces = vec![Bytes::from(vec![1u8; 100]), Bytes::new(), Bytes::from(vec![2u8; 50])];
        let partition =
            FetchPartitionResponse { records: pieces.clone(), ..FetchPartitionResponse::default() };
        for version in [4, 12] {
            let segments = response(partition.clone()).encode(&header(ApiKey::Fetch, version));
            for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
                let same = |segment: &&Bytes| segment.as_ptr() == piece.as_ptr();
                assert_eq!(segments.iter().find(same), Some(piece));
            }
            let frame = response_frame(version, &response(partition.clone()));
            let decoded = super::super::decode_response(ApiKey::Fetch, version, frame.clone());
            let Response::Fetch(decoded) = decoded.unwrap().1 else { panic!("not a fetch") };
            let records = &decoded.topics[0].partitions[0].records;
            assert_eq!(records.as_slice(), [Bytes::from(pieces.concat())]);
            assert!(frame.as_ptr_range().contains(&records[0].as_ptr()), "a slice of the frame");
        }
    }

    #[test]
    fn unknown_isolation_level_is_refused() {
        let mut frame = vec![0; 16];
        frame.push(2);
        let error = FetchRequest::decode(&mut Reader::new(frame.into()), 4).unwrap_err();
        assert_eq!(
            error.to_string(),
            "field isolation_level at byte 16: has the value 2, which has no meaning"
        );
    }
}
