//! CreateTopics (API 19), versions 2 to 7, flexible from 5.
//!
//! | since | request                                       | response                       |
//! |-------|-----------------------------------------------|--------------------------------|
//! | 2     | all fields below                              | all fields below but these     |
//! | 4     | -1 partitions or replicas stand for a default |                                |
//! | 5     |                                               | `num_partitions`, `configs`    |
//! | 5     |                                               | `replication_factor`           |
//! | 5     |                                               | tag 0 `topic_config_error_code`|
//! | 7     |                                               | `topic_id`                     |

use super::ApiKey;
use super::error::ProtocolError;
use super::header::encoding;
use super::types::{ErrorCode, Uuid};
use super::wire::{Reader, TaggedFields, Writer};

const TAG_TOPIC_CONFIG_ERROR_CODE: u32 = 0;

/// Asks to create topics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateTopicsRequest {
    /// The topics.
    pub topics: Vec<CreatableTopic>,
    /// How long to wait until they are there.
    pub timeout_ms: i32,
    /// Whether only to tell what would become of the request.
    pub validate_only: bool,
}

/// A topic to create.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreatableTopic {
    /// The topic's name.
    pub name: String,
    /// How many partitions, or -1 for the default or for as many as are assigned.
    pub num_partitions: i32,
    /// How many replicas, or -1 for the default or for as many as are assigned.
    pub replication_factor: i16,
    /// Which broker is to have which partition; empty if the server is to choose.
    pub assignments: Vec<CreatableReplicaAssignment>,
    /// Configurations that differ from the defaults.
    pub configs: Vec<CreatableTopicConfig>,
}

/// The brokers that are to have a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreatableReplicaAssignment {
    /// The partition.
    pub partition_index: i32,
    /// The brokers, the preferred leader first.
    pub broker_ids: Vec<i32>,
}

/// A configuration to set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreatableTopicConfig {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
}

/// Answers [`CreateTopicsRequest`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateTopicsResponse {
    /// For how long the client was, or is to be, held back.
    pub throttle_time_ms: i32,
    /// What became of each topic.
    pub topics: Vec<CreatableTopicResult>,
}

/// What became of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatableTopicResult {
    /// The topic's name.
    pub name: String,
    /// The topic's id. Since version 7; zero before.
    pub topic_id: Uuid,
    /// Whether it was created.
    pub error_code: ErrorCode,
    /// Why it was not.
    pub error_message: Option<String>,
    /// Why the configurations are not told. Since version 5; none before.
    pub topic_config_error_code: ErrorCode,
    /// How many partitions it has, or -1. Since version 5; -1 before.
    pub num_partitions: i32,
    /// How many replicas it has, or -1. Since version 5; -1 before.
    pub replication_factor: i16,
    /// Its configurations, if they are told. Since version 5; none before.
    pub configs: Option<Vec<CreatedTopicConfig>>,
}

/// A configuration of a topic created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTopicConfig {
    /// Its name.
    pub name: String,
    /// Its value, unless it is a secret.
    pub value: Option<String>,
    /// Whether it cannot be changed.
    pub read_only: bool,
    /// Where the value comes from, or -1.
    pub config_source: i8,
    /// Whether it is a secret.
    pub is_sensitive: bool,
}

impl Default for CreatableTopicResult {
    fn default() -> Self {
        Self {
            name: String::new(),
            topic_id: Uuid::ZERO,
            error_code: ErrorCode::NONE,
            error_message: None,
            topic_config_error_code: ErrorCode::NONE,
            num_partitions: -1,
            replication_factor: -1,
            configs: None,
        }
    }
}

impl CreateTopicsRequest {
    /// Reads a request's body.
    pub fn decode(reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        reader.set_encoding(encoding(ApiKey::CreateTopics, version));
        let topics = reader.array("topics", CreatableTopic::decode)?;
        let timeout_ms = reader.i32("timeout_ms")?;
        let validate_only = reader.bool("validate_only")?;
        reader.skip_tagged_fields()?;
        Ok(Self { topics, timeout_ms, validate_only })
    }

    /// Writes a request's body.
    pub fn encode(&self, writer: &mut Writer, version: i16) {
        writer.set_encoding(encoding(ApiKey::CreateTopics, version));
        writer.array(&self.topics, |writer, topic| topic.encode(writer));
        writer.i32(self.timeout_ms);
        writer.bool(self.validate_only);
        writer.no_tagged_fields();
    }
}

impl CreatableTopic {
    fn decode(reader: &mut Reader) -> Result<Self, ProtocolError> {
        let name = reader.string("name")?;
        let num_partitions = reader.i32("num_partitions")?;
        let replication_factor = reader.i16("replication_factor")?;
        let assignments = reader.array("assignments", |reader| {
            let partition_index = reader.i32("partition_index")?;
            let broker_ids = reader.i32_array("broker_ids")?;
            reader.skip_tagged_fields()?;
            Ok(CreatableReplicaAssignment { partition_index, broker_ids })
        })?;
        let configs = reader.array("configs", |reader| {
            let name = reader.string("name")?;
            let value = reader.nullable_string("value")?;
            reader.skip_tagged_fields()?;
            Ok(CreatableTopicConfig { name, value })
        })?;
        reader.skip_tagged_fields()?;
        Ok(Self { name, num_partitions, replication_factor, assignments, configs })
    }

    fn encode(&self, writer: &mut Writer) {
        writer.string(&self.name);
        writer.i32(self.num_partitions);
        writer.i16(self.replication_factor);
        writer.array(&self.assignments, |writer, assignment| {
            writer.i32(assignment.partition_index);
            writer.i32_array(&assignment.broker_ids);
            writer.no_tagged_fields();
        });
        writer.array(&self.configs, |writer, config| {
            writer.string(&config.name);
            writer.nullable_string(config.value.as_deref());
            writer.no_tagged_fields();
        });
        writer.no_tagged_fields();
    }
}

impl CreateTopicsResponse {
    /// Reads a response's body.
    pub fn decode(reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        reader.set_encoding(encoding(ApiKey::CreateTopics, version));
        let throttle_time_ms = reader.i32("throttle_time_ms")?;
        let topics =
            reader.array("topics", |reader| CreatableTopicResult::decode(reader, version))?;
        reader.skip_tagged_fields()?;
        Ok(Self { throttle_time_ms, topics })
    }

    /// Writes a response's body.
    pub fn encode(&self, writer: &mut Writer, version: i16) {
        writer.set_encoding(encoding(ApiKey::CreateTopics, version));
        writer.i32(self.throttle_time_ms);
        writer.array(&self.topics, |writer, topic| topic.encode(writer, version));
        writer.no_tagged_fields();
    }
}

impl CreatableTopicResult {
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        let mut topic = Self { name: reader.string("name")?, ..Self::default() };
        if version >= 7 {
            topic.topic_id = reader.uuid("topic_id")?;
        }
        topic.error_code = reader.error_code("error_code")?;
        topic.error_message = reader.nullable_string("error_message")?;
        if version >= 5 {
            topic.num_partitions = reader.i32("num_partitions")?;
            topic.replication_factor = reader.i16("replication_factor")?;
            topic.configs = reader.nullable_array("configs", CreatedTopicConfig::decode)?;
        }
        reader.tagged_fields(|tag, reader| {
            if tag == TAG_TOPIC_CONFIG_ERROR_CODE {
                topic.topic_config_error_code = reader.error_code("topic_config_error_code")?;
            }
            Ok(())
        })?;
        Ok(topic)
    }

    fn encode(&self, writer: &mut Writer, version: i16) {
        writer.string(&self.name);
        if version >= 7 {
            writer.uuid(self.topic_id);
        }
        writer.error_code(self.error_code);
        writer.nullable_string(self.error_message.as_deref());
        if version >= 5 {
            writer.i32(self.num_partitions);
            writer.i16(self.replication_factor);
            writer.nullable_array(self.configs.as_deref(), |writer, config| config.encode(writer));
        }
        let mut tagged = TaggedFields::default();
        if self.topic_config_error_code.is_error() {
            tagged.push(TAG_TOPIC_CONFIG_ERROR_CODE, |writer| {
                writer.error_code(self.topic_config_error_code);
            });
        }
        writer.tagged_fields(&tagged);
    }
}

impl CreatedTopicConfig {
    fn decode(reader: &mut Reader) -> Result<Self, ProtocolError> {
        let name = reader.string("name")?;
        let value = reader.nullable_string("value")?;
        let read_only = reader.bool("read_only")?;
        let config_source = reader.i8("config_source")?;
        let is_sensitive = reader.bool("is_sensitive")?;
        reader.skip_tagged_fields()?;
        Ok(Self { name, value, read_only, config_source, is_sensitive })
    }

    fn encode(&self, writer: &mut Writer) {
        writer.string(&self.name);
        writer.nullable_string(self.value.as_deref());
        writer.bool(self.read_only);
        writer.i8(self.config_source);
        writer.bool(self.is_sensitive);
        writer.no_tagged_fields();
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{assert_golden_request, assert_golden_response};
    use super::super::{Request, Response};
    use super::*;

    fn request() -> Request {
        let config = |name: &str, value: Option<&str>| CreatableTopicConfig {
            name: name.to_owned(),
            value: value.map(str::to_owned),
        };
        let topic = CreatableTopic {
            name: "logs".to_owned(),
            num_partitions: -1,
            replication_factor: 3,
            assignments: vec![CreatableReplicaAssignment {
                partition_index: 0,
                broker_ids: vec![1, 2],
            }],
            configs: vec![config("ttl", Some("5")), config("x", None)],
        };
        Request::CreateTopics(CreateTopicsRequest {
            topics: vec![topic],
            timeout_ms: 1000,
            validate_only: true,
        })
    }

    #[test]
    fn request_in_version_2() {
        let golden = "
            0013 0002 00000007 0001 't'
            00000001 0004 'logs'
              ffffffff                  # partitions
              0003                      # replicas
              00000001 00000000 00000002 00000001 00000002
              00000002 0003 'ttl' 0001 '5' 0001 'x' ffff
            000003e8
            01";
        assert_golden_request(2, &request(), golden);
    }

    #[test]
    fn request_in_version_5() {
        let golden = "
            0013 0005 00000007 0001 't' 00
            02 05 'logs'
              ffffffff
              0003
              02 00000000 03 00000001 00000002 00
              03 04 'ttl' 02 '5' 00 02 'x' 00 00
              00
            000003e8
            01
            00";
        assert_golden_request(5, &request(), golden);
    }

    fn response(topic: CreatableTopicResult) -> Response {
        Response::CreateTopics(CreateTopicsResponse { throttle_time_ms: 9, topics: vec![topic] })
    }

    #[test]
    fn response_in_version_2() {
        let golden = "00000007 00000009 00000001 0004 'logs' 0024 0002 'no'";
        let topic = CreatableTopicResult {
            name: "logs".to_owned(),
            error_code: ErrorCode::TOPIC_ALREADY_EXISTS,
            error_message: Some("no".to_owned()),
            ..CreatableTopicResult::default()
        };
        assert_golden_response(2, &response(topic), golden);
    }

    #[test]
    fn response_in_version_7() {
        let golden = "
            00000007 00
            00000009
            02 05 'logs'
              000102030405060708090a0b0c0d0e0f
              0000                      # error code
              00                        # no error message
              00000004                  # partitions
              0003                      # replicas
              02 04 'ttl' 02 '5' 00 05 01 00
              01 00 02 001d             # one tag: 0, of two bytes: an error code
            00";
        let config = CreatedTopicConfig {
            name: "ttl".to_owned(),
            value: Some("5".to_owned()),
            read_only: false,
            config_source: 5,
            is_sensitive: true,
        };
        let topic = CreatableTopicResult {
            name: "logs".to_owned(),
            topic_id: 0x000102030405060708090a0b0c0d0e0f.into(),
            topic_config_error_code: ErrorCode(29),
            num_partitions: 4,
            replication_factor: 3,
            configs: Some(vec![config]),
            ..CreatableTopicResult::default()
        };
        assert_golden_response(7, &response(topic), golden);
    }
}
