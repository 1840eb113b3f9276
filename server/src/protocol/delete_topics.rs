//! DeleteTopics (API 20), versions 1 to 6, flexible from 4.
//!
//! | since | request                                    | response                               |
//! |-------|--------------------------------------------|----------------------------------------|
//! | 1     | names, `timeout_ms`                        | all fields below but these             |
//! | 5     |                                            | `error_message`                        |
//! | 6     | structs of name and id instead of names    | `topic_id`; the name may be null       |

use super::ApiKey;
use super::error::ProtocolError;
use super::header::encoding;
use super::types::{ErrorCode, Uuid};
use super::wire::{Reader, Writer};

/// Asks to delete topics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteTopicsRequest {
    /// The topics.
    pub topics: Vec<DeleteTopicState>,
    /// How long to wait until they are gone.
    pub timeout_ms: i32,
}

/// A topic to delete, by name or by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteTopicState {
    /// The topic's name. May be none since version 6; before, none is written as empty.
    pub name: Option<String>,
    /// The topic's id, or zero. Since version 6; zero before.
    pub topic_id: Uuid,
}

/// Answers [`DeleteTopicsRequest`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteTopicsResponse {
    /// For how long the client was, or is to be, held back.
    pub throttle_time_ms: i32,
    /// What became of each topic.
    pub responses: Vec<DeletableTopicResult>,
}

/// What became of one topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeletableTopicResult {
    /// The topic's name; none for an unknown id. May be none since version 6; before, none is
    /// written as empty.
    pub name: Option<String>,
    /// The topic's id, or zero. Since version 6; zero before.
    pub topic_id: Uuid,
    /// Whether it was deleted.
    pub error_code: ErrorCode,
    /// Why it was not. Since version 5; none before.
    pub error_message: Option<String>,
}

impl DeleteTopicsRequest {
    /// Reads a request's body.
    pub fn decode(reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        reader.set_encoding(encoding(ApiKey::DeleteTopics, version));
        let topics = if version >= 6 {
            reader.array("topics", |reader| {
                let name = reader.nullable_string("name")?;
                let topic_id = reader.uuid("topic_id")?;
                reader.skip_tagged_fields()?;
                Ok(DeleteTopicState { name, topic_id })
            })?
        } else {
            reader.array("topic_names", |reader| {
                let name = Some(reader.string("topic_names")?);
                Ok(DeleteTopicState { name, topic_id: Uuid::ZERO })
            })?
        };
        let timeout_ms = reader.i32("timeout_ms")?;
        reader.skip_tagged_fields()?;
        Ok(Self { topics, timeout_ms })
    }

    /// Writes a request's body.
    pub fn encode(&self, writer: &mut Writer, version: i16) {
        writer.set_encoding(encoding(ApiKey::DeleteTopics, version));
        writer.array(&self.topics, |writer, topic| {
            if version >= 6 {
                writer.nullable_string(topic.name.as_deref());
                writer.uuid(topic.topic_id);
                writer.no_tagged_fields();
            } else {
                writer.string(topic.name.as_deref().unwrap_or_default());
            }
        });
        writer.i32(self.timeout_ms);
        writer.no_tagged_fields();
    }
}

impl DeleteTopicsResponse {
    /// Reads a response's body.
    pub fn decode(reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        reader.set_encoding(encoding(ApiKey::DeleteTopics, version));
        let throttle_time_ms = reader.i32("throttle_time_ms")?;
        let responses =
            reader.array("responses", |reader| DeletableTopicResult::decode(reader, version))?;
        reader.skip_tagged_fields()?;
        Ok(Self { throttle_time_ms, responses })
    }

    /// Writes a response's body.
    pub fn encode(&self, writer: &mut Writer, version: i16) {
        writer.set_encoding(encoding(ApiKey::DeleteTopics, version));
        writer.i32(self.throttle_time_ms);
        writer.array(&self.responses, |writer, topic| topic.encode(writer, version));
        writer.no_tagged_fields();
    }
}

impl DeletableTopicResult {
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        let mut topic = Self::default();
        if version >= 6 {
            topic.name = reader.nullable_string("name")?;
            topic.topic_id = reader.uuid("topic_id")?;
        } else {
            topic.name = Some(reader.string("name")?);
        }
        topic.error_code = reader.error_code("error_code")?;
        if version >= 5 {
            topic.error_message = reader.nullable_string("error_message")?;
        }
        reader.skip_tagged_fields()?;
        Ok(topic)
    }

    fn encode(&self, writer: &mut Writer, version: i16) {
        if version >= 6 {
            writer.nullable_string(self.name.as_deref());
            writer.uuid(self.topic_id);
        } else {
            writer.string(self.name.as_deref().unwrap_or_default());
        }
        writer.error_code(self.error_code);
        if version >= 5 {
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

    fn named(name: &str) -> DeleteTopicState {
        DeleteTopicState { name: Some(name.to_owned()), topic_id: Uuid::ZERO }
    }

    #[test]
    fn request_in_versions_1_and_4() {
        let topics = vec![named("logs"), named("old")];
        let request = Request::DeleteTopics(DeleteTopicsRequest { topics, timeout_ms: 1000 });
        let golden = "0014 0001 00000007 0001 't' 00000002 0004 'logs' 0003 'old' 000003e8";
        assert_golden_request(1, &request, golden);
        let golden = "0014 0004 00000007 0001 't' 00 03 05 'logs' 04 'old' 000003e8 00";
        assert_golden_request(4, &request, golden);
    }

    #[test]
    fn request_in_version_6() {
        let by_id = DeleteTopicState { name: None, topic_id: 0xff.into() };
        let topics = vec![named("logs"), by_id];
        let request = Request::DeleteTopics(DeleteTopicsRequest { topics, timeout_ms: 1000 });
        let golden = "
            0014 0006 00000007 0001 't' 00
            03
              05 'logs' 00000000000000000000000000000000 00
              00 000000000000000000000000000000ff 00
            000003e8
            00";
        assert_golden_request(6, &request, golden);
    }

    fn response(topic: DeletableTopicResult) -> Response {
        Response::DeleteTopics(DeleteTopicsResponse { throttle_time_ms: 9, responses: vec![topic] })
    }

    #[test]
    fn response_in_versions_1_and_5() {
        let mut topic = DeletableTopicResult {
            name: Some("logs".to_owned()),
            error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ..DeletableTopicResult::default()
        };
        let golden = "00000007 00000009 00000001 0004 'logs' 0003";
        assert_golden_response(1, &response(topic.clone()), golden);
        topic.error_message = Some("no".to_owned());
        let golden = "00000007 00 00000009 02 05 'logs' 0003 03 'no' 00 00";
        assert_golden_response(5, &response(topic), golden);
    }

    #[test]
    fn response_in_version_6() {
        let topic = DeletableTopicResult {
            name: None,
            topic_id: 0xff.into(),
            error_code: ErrorCode::UNKNOWN_TOPIC_ID,
            error_message: None,
        };
        let golden = "
            00000007 00 00000009
            02 00 000000000000000000000000000000ff 0064 00 00
            00";
        assert_golden_response(6, &response(topic), golden);
    }
}
