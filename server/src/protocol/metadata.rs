//! Metadata (API 3), versions 0 to 12, flexible from 9: lists brokers, topics and partitions.
//!
//! | since | request                                    | response                               |
//! |-------|--------------------------------------------|----------------------------------------|
//! | 0     | `topics`, where empty stands for all       | all fields below but these             |
//! | 1     | null stands for all topics, empty for none | `rack`, `controller_id`, `is_internal` |
//! | 2     |                                            | `cluster_id`                           |
//! | 3     |                                            | `throttle_time_ms`                     |
//! | 4     | `allow_auto_topic_creation`                |                                        |
//! | 5     |                                            | `offline_replicas`                     |
//! | 7     |                                            | `leader_epoch`                         |
//! | 8     | both `include_…_authorized_operations`     | both `…_authorized_operations`         |
//! | 10    | `topic_id`; a topic's name may be null     | `topic_id`                             |
//! | 11    | no more `include_cluster_authorized_…`     | no more `cluster_authorized_operations`|
//! | 12    |                                            | a topic's name may be null             |

use super::ApiKey;
use super::error::ProtocolError;
use super::header::encoding;
use super::types::{ErrorCode, Uuid};
use super::wire::{Reader, Writer};

/// Stands for "not asked for" in place of a set of authorized operations.
pub const AUTHORIZED_OPERATIONS_OMITTED: i32 = i32::MIN;

/// Asks what there is and who leads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataRequest {
    /// The topics to tell of; none for all of them. In version 0 an empty list cannot be told from
    /// none: it is written the same way and read as none.
    pub topics: Option<Vec<MetadataRequestTopic>>,
    /// Whether to create topics that are not there. Since version 4; true before.
    pub allow_auto_topic_creation: bool,
    /// Whether to tell what the client may do to the cluster. In versions 8 to 10; else false.
    pub include_cluster_authorized_operations: bool,
    /// Whether to tell what the client may do to each topic. Since version 8; false before.
    pub include_topic_authorized_operations: bool,
}

/// A topic asked for, by name or by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetadataRequestTopic {
    /// The topic's id, or zero. Since version 10; zero before.
    pub topic_id: Uuid,
    /// The topic's name. May be none since version 10; before, none is written as empty.
    pub name: Option<String>,
}

/// Answers [`MetadataRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataResponse {
    /// For how long the client was, or is to be, held back. Since version 3; 0 before.
    pub throttle_time_ms: i32,
    /// The brokers that are alive.
    pub brokers: Vec<MetadataBroker>,
    /// The cluster's id. Since version 2; none before.
    pub cluster_id: Option<String>,
    /// The broker that takes administrative requests, or -1. Since version 1; -1 before.
    pub controller_id: i32,
    /// The topics asked for.
    pub topics: Vec<MetadataTopic>,
    /// What the client may do to the cluster, a bit for each operation. In versions 8 to 10; else
    /// [`AUTHORIZED_OPERATIONS_OMITTED`].
    pub cluster_authorized_operations: i32,
}

/// A broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetadataBroker {
    /// The broker's number.
    pub node_id: i32,
    /// The host at which clients reach it.
    pub host: String,
    /// The port at which clients reach it.
    pub port: i32,
    /// Its rack. Since version 1; none before.
    pub rack: Option<String>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataTopic {
    /// Whether the topic is there.
    pub error_code: ErrorCode,
    /// The topic's name; none for an unknown id. May be none since version 12; before, none is
    /// written as empty.
    pub name: Option<String>,
    /// The topic's id, or zero. Since version 10; zero before.
    pub topic_id: Uuid,
    /// Whether the topic is the broker's own. Since version 1; false before.
    pub is_internal: bool,
    /// The topic's partitions.
    pub partitions: Vec<MetadataPartition>,
    /// What the client may do to the topic, a bit for each operation. Since version 8;
    /// [`AUTHORIZED_OPERATIONS_OMITTED`] before.
    pub topic_authorized_operations: i32,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataPartition {
    /// Whether the partition can be used.
    pub error_code: ErrorCode,
    /// The partition.
    pub partition_index: i32,
    /// The broker that leads it, or -1.
    pub leader_id: i32,
    /// The leader's epoch, or -1. Since version 7; -1 before.
    pub leader_epoch: i32,
    /// The brokers that have the partition.
    pub replica_nodes: Vec<i32>,
    /// Those of them that have all of it.
    pub isr_nodes: Vec<i32>,
    /// Those of them that are down. Since version 5; empty before.
    pub offline_replicas: Vec<i32>,
}

impl Default for MetadataRequest {
    fn default() -> Self {
        Self {
            topics: None,
            allow_auto_topic_creation: true,
            include_cluster_authorized_operations: false,
            include_topic_authorized_operations: false,
        }
    }
}

impl Default for MetadataResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: 0,
            brokers: Vec::new(),
            cluster_id: None,
            controller_id: -1,
            topics: Vec::new(),
            cluster_authorized_operations: AUTHORIZED_OPERATIONS_OMITTED,
        }
    }
}

impl Default for MetadataTopic {
    fn default() -> Self {
        Self {
            error_code: ErrorCode::NONE,
            name: None,
            topic_id: Uuid::ZERO,
            is_internal: false,
            partitions: Vec::new(),
            topic_authorized_operations: AUTHORIZED_OPERATIONS_OMITTED,
        }
    }
}

impl Default for MetadataPartition {
    fn default() -> Self {
        Self {
            error_code: ErrorCode::NONE,
            partition_index: 0,
            leader_id: -1,
            leader_epoch: -1,
            replica_nodes: Vec::new(),
            isr_nodes: Vec::new(),
            offline_replicas: Vec::new(),
        }
    }
}

/// Reads a name that may be null in the versions that allow it.
fn decode_name(reader: &mut Reader, nullable: bool) -> Result<Option<String>, ProtocolError> {
    if nullable { reader.nullable_string("name") } else { reader.string("name").map(Some) }
}

/// Writes a name that may be null in the versions that allow it.
fn encode_name(writer: &mut Writer, name: Option<&str>, nullable: bool) {
    if nullable { writer.nullable_string(name) } else { writer.string(name.unwrap_or_default()) }
}

impl MetadataRequest {
    /// Reads a request's body.
    pub fn decode(reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        reader.set_encoding(encoding(ApiKey::Metadata, version));
        let topic = |reader: &mut Reader| {
            let topic_id = if version >= 10 { reader.uuid("topic_id")? } else { Uuid::ZERO };
            let name = decode_name(reader, version >= 10)?;
            reader.skip_tagged_fields()?;
            Ok(MetadataRequestTopic { topic_id, name })
        };
        let topics = if version >= 1 {
            reader.nullable_array("topics", topic)?
        } else {
            Some(reader.array("topics", topic)?).filter(|topics| !topics.is_empty())
        };
        let mut request = Self { topics, ..Self::default() };
        if version >= 4 {
            request.allow_auto_topic_creation = reader.bool("allow_auto_topic_creation")?;
        }
        if (8..=10).contains(&version) {
            request.include_cluster_authorized_operations =
                reader.bool("include_cluster_authorized_operations")?;
        }
        if version >= 8 {
            request.include_topic_authorized_operations =
                reader.bool("include_topic_authorized_operations")?;
        }
        reader.skip_tagged_fields()?;
        Ok(request)
    }

    /// Writes a request's body.
    pub fn encode(&self, writer: &mut Writer, version: i16) {
        writer.set_encoding(encoding(ApiKey::Metadata, version));
        let topic = |writer: &mut Writer, topic: &MetadataRequestTopic| {
            if version >= 10 {
                writer.uuid(topic.topic_id);
            }
            encode_name(writer, topic.name.as_deref(), version >= 10);
            writer.no_tagged_fields();
        };
        if version >= 1 {
            writer.nullable_array(self.topics.as_deref(), topic);
        } else {
            writer.array(self.topics.as_deref().unwrap_or_default(), topic);
        }
        if version >= 4 {
            writer.bool(self.allow_auto_topic_creation);
        }
        if (8..=10).contains(&version) {
            writer.bool(self.include_cluster_authorized_operations);
        }
        if version >= 8 {
            writer.bool(self.include_topic_authorized_operations);
        }
        writer.no_tagged_fields();
    }
}

impl MetadataResponse {
    /// Reads a response's body.
    pub fn decode(reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        reader.set_encoding(encoding(ApiKey::Metadata, version));
        let mut response = Self::default();
        if version >= 3 {
            response.throttle_time_ms = reader.i32("throttle_time_ms")?;
        }
        response.brokers =
            reader.array("brokers", |reader| MetadataBroker::decode(reader, version))?;
        if version >= 2 {
            response.cluster_id = reader.nullable_string("cluster_id")?;
        }
        if version >= 1 {
            response.controller_id = reader.i32("controller_id")?;
        }
        response.topics =
            reader.array("topics", |reader| MetadataTopic::decode(reader, version))?;
        if (8..=10).contains(&version) {
            response.cluster_authorized_operations = reader.i32("cluster_authorized_operations")?;
        }
        reader.skip_tagged_fields()?;
        Ok(response)
    }

    /// Writes a response's body.
    pub fn encode(&self, writer: &mut Writer, version: i16) {
        writer.set_encoding(encoding(ApiKey::Metadata, version));
        if version >= 3 {
            writer.i32(self.throttle_time_ms);
        }
        writer.array(&self.brokers, |writer, broker| broker.encode(writer, version));
        if version >= 2 {
            writer.nullable_string(self.cluster_id.as_deref());
        }
        if version >= 1 {
            writer.i32(self.controller_id);
        }
        writer.array(&self.topics, |writer, topic| topic.encode(writer, version));
        if (8..=10).contains(&version) {
            writer.i32(self.cluster_authorized_operations);
        }
        writer.no_tagged_fields();
    }
}

impl MetadataBroker {
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        let node_id = reader.i32("node_id")?;
        let host = reader.string("host")?;
        let port = reader.i32("port")?;
        let rack = if version >= 1 { reader.nullable_string("rack")? } else { None };
        reader.skip_tagged_fields()?;
        Ok(Self { node_id, host, port, rack })
    }

    fn encode(&self, writer: &mut Writer, version: i16) {
        writer.i32(self.node_id);
        writer.string(&self.host);
        writer.i32(self.port);
        if version >= 1 {
            writer.nullable_string(self.rack.as_deref());
        }
        writer.no_tagged_fields();
    }
}

impl MetadataTopic {
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        let mut topic = Self {
            error_code: reader.error_code("error_code")?,
            name: decode_name(reader, version >= 12)?,
            ..Self::default()
        };
        if version >= 10 {
            topic.topic_id = reader.uuid("topic_id")?;
        }
        if version >= 1 {
            topic.is_internal = reader.bool("is_internal")?;
        }
        topic.partitions =
            reader.array("partitions", |reader| MetadataPartition::decode(reader, version))?;
        if version >= 8 {
            topic.topic_authorized_operations = reader.i32("topic_authorized_operations")?;
        }
        reader.skip_tagged_fields()?;
        Ok(topic)
    }

    fn encode(&self, writer: &mut Writer, version: i16) {
        writer.error_code(self.error_code);
        encode_name(writer, self.name.as_deref(), version >= 12);
        if version >= 10 {
            writer.uuid(self.topic_id);
        }
        if version >= 1 {
            writer.bool(self.is_internal);
        }
        writer.array(&self.partitions, |writer, partition| partition.encode(writer, version));
        if version >= 8 {
            writer.i32(self.topic_authorized_operations);
        }
        writer.no_tagged_fields();
    }
}

impl MetadataPartition {
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        let mut partition = Self {
            error_code: reader.error_code("error_code")?,
            partition_index: reader.i32("partition_index")?,
            leader_id: reader.i32("leader_id")?,
            ..Self::default()
        };
        if version >= 7 {
            partition.leader_epoch = reader.i32("leader_epoch")?;
        }
        partition.replica_nodes = reader.i32_array("replica_nodes")?;
        partition.isr_nodes = reader.i32_array("isr_nodes")?;
        if version >= 5 {
            partition.offline_replicas = reader.i32_array("offline_replicas")?;
        }
        reader.skip_tagged_fields()?;
        Ok(partition)
    }

    fn encode(&self, writer: &mut Writer, version: i16) {
        writer.error_code(self.error_code);
        writer.i32(self.partition_index);
        writer.i32(self.leader_id);
        if version >= 7 {
            writer.i32(self.leader_epoch);
        }
        writer.i32_array(&self.replica_nodes);
        writer.i32_array(&self.isr_nodes);
        if version >= 5 {
            writer.i32_array(&self.offline_replicas);
        }
        writer.no_tagged_fields();
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{assert_golden_request, assert_golden_response};
    use super::super::{Request, Response};
    use super::*;

    fn named(name: &str) -> MetadataRequestTopic {
        MetadataRequestTopic { topic_id: Uuid::ZERO, name: Some(name.to_owned()) }
    }

    #[test]
    fn all_topics_are_an_empty_list_in_version_0_and_null_from_version_1() {
        let request = Request::Metadata(MetadataRequest::default());
        assert_golden_request(0, &request, "0003 0000 00000007 0001 't' 00000000");
        assert_golden_request(1, &request, "0003 0001 00000007 0001 't' ffffffff");
        assert_golden_request(9, &request, "0003 0009 00000007 0001 't' 00 00 01 00 00 00");
    }

    #[test]
    fn no_topics_are_an_empty_list_from_version_1() {
        let topics = Some(Vec::new());
        let request = Request::Metadata(MetadataRequest { topics, ..MetadataRequest::default() });
        assert_golden_request(1, &request, "0003 0001 00000007 0001 't' 00000000");
    }

    #[test]
    fn request_in_version_8() {
        let golden = "
            0003 0008 00000007 0001 't'
            00000002 0004 'logs' 0003 'old'
            00                          # no auto creation
            01                          # cluster operations
            00                          # topic operations";
        let request = Request::Metadata(MetadataRequest {
            topics: Some(vec![named("logs"), named("old")]),
            allow_auto_topic_creation: false,
            include_cluster_authorized_operations: true,
            include_topic_authorized_operations: false,
        });
        assert_golden_request(8, &request, golden);
    }

    #[test]
    fn request_in_version_12() {
        let golden = "
            0003 000c 00000007 0001 't' 00
            03
              00000000000000000000000000000000 05 'logs' 00
              000102030405060708090a0b0c0d0e0f 00 00
            00                          # no auto creation
            01                          # topic operations
            00";
        let by_id = MetadataRequestTopic {
            topic_id: 0x000102030405060708090a0b0c0d0e0f.into(),
            name: None,
        };
        let request = Request::Metadata(MetadataRequest {
            topics: Some(vec![named("logs"), by_id]),
            allow_auto_topic_creation: false,
            include_cluster_authorized_operations: false,
            include_topic_authorized_operations: true,
        });
        assert_golden_request(12, &request, golden);
    }

    fn response(version: i16) -> Response {
        let partition = MetadataPartition {
            error_code: ErrorCode::NONE,
            partition_index: 3,
            leader_id: 1,
            leader_epoch: if version >= 7 { 4 } else { -1 },
            replica_nodes: vec![1, 2],
            isr_nodes: vec![1],
            offline_replicas: if version >= 5 { vec![2] } else { Vec::new() },
        };
        let topic = MetadataTopic {
            error_code: ErrorCode::NONE,
            name: Some("logs".to_owned()),
            topic_id: if version >= 10 { 0xff.into() } else { Uuid::ZERO },
            is_internal: version >= 1,
            partitions: vec![partition],
            ..MetadataTopic::default()
        };
        let broker = MetadataBroker {
            node_id: 1,
            host: "h1".to_owned(),
            port: 9092,
            rack: if version >= 1 { Some("r".to_owned()) } else { None },
        };
        Response::Metadata(MetadataResponse {
            throttle_time_ms: if version >= 3 { 9 } else { 0 },
            brokers: vec![broker],
            cluster_id: if version >= 2 { Some("c1".to_owned()) } else { None },
            controller_id: if version >= 1 { 1 } else { -1 },
            topics: vec![topic],
            ..MetadataResponse::default()
        })
    }

    #[test]
    fn response_in_version_0() {
        let golden = "
            00000007
            00000001 00000001 0002 'h1' 00002384
            00000001 0000 0004 'logs'
              00000001 0000 00000003 00000001
                00000002 00000001 00000002
                00000001 00000001";
        assert_golden_response(0, &response(0), golden);
    }

    #[test]
    fn response_in_version_8() {
        let golden = "
            00000007
            00000009                    # throttle time
            00000001 00000001 0002 'h1' 00002384 0001 'r'
            0002 'c1'                   # cluster id
            00000001                    # controller
            00000001 0000 0004 'logs'
              01                        # internal
              00000001 0000 00000003 00000001
                00000004                # leader epoch
                00000002 00000001 00000002
                00000001 00000001
                00000001 00000002       # offline
              80000000                  # topic operations
            80000000                    # cluster operations";
        assert_golden_response(8, &response(8), golden);
    }

    #[test]
    fn response_in_versions_10_and_12() {
        let golden = "
            00000007 00
            00000009
            02 00000001 03 'h1' 00002384 02 'r' 00
            03 'c1'
            00000001
            02 0000 05 'logs'
              000000000000000000000000000000ff # topic id
              01
              02 0000 00000003 00000001
                00000004
                03 00000001 00000002
                02 00000001
                02 00000002
                00
              80000000
              00";
        assert_golden_response(10, &response(10), &format!("{golden} 80000000 00"));
        assert_golden_response(12, &response(12), &format!("{golden} 00"));
    }

    #[test]
    fn response_of_an_unknown_id_in_version_12() {
        let golden = "
            00000007 00
            00000000 01 00 ffffffff
            02 0064                     # UNKNOWN_TOPIC_ID
              00                        # no name
              000000000000000000000000000000ff
              00 01 80000000 00
            00";
        let topic = MetadataTopic {
            error_code: ErrorCode::UNKNOWN_TOPIC_ID,
            topic_id: 0xff.into(),
            ..MetadataTopic::default()
        };
        let topics = vec![topic];
        let response = MetadataResponse { topics, ..MetadataResponse::default() };
        assert_golden_response(12, &Response::Metadata(response), golden);
    }
}
