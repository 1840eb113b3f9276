//! FindCoordinator (API 10), versions 0 to 3, flexible from 3: finds the broker that coordinates a
//! group or a transaction.
//!
//! | since | request    | response                            |
//! |-------|------------|-------------------------------------|
//! | 0     | `key`      | all fields below but these          |
//! | 1     | `key_type` | `throttle_time_ms`, `error_message` |

use super::ApiKey;
use super::error::ProtocolError;
use super::header::encoding;
use super::types::ErrorCode;
use super::wire::{Reader, Writer};

/// The key is a consumer group's name.
pub const KEY_TYPE_GROUP: i8 = 0;
/// The key is a transactional producer's name.
pub const KEY_TYPE_TRANSACTION: i8 = 1;

/// Asks for a coordinator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FindCoordinatorRequest {
    /// Whose coordinator.
    pub key: String,
    /// What the key is: [`KEY_TYPE_GROUP`], [`KEY_TYPE_TRANSACTION`], or what a stranger sends,
    /// which is to be answered with an error. Since version 1; a group before.
    pub key_type: i8,
}

/// Answers [`FindCoordinatorRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindCoordinatorResponse {
    /// For how long the client was, or is to be, held back. Since version 1; 0 before.
    pub throttle_time_ms: i32,
    /// Whether there is one.
    pub error_code: ErrorCode,
    /// Why there is none. Since version 1; none before.
    pub error_message: Option<String>,
    /// The coordinator's number, or -1.
    pub node_id: i32,
    /// The host at which clients reach it.
    pub host: String,
    /// The port at which clients reach it, or -1.
    pub port: i32,
}

impl Default for FindCoordinatorResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: 0,
            error_code: ErrorCode::NONE,
            error_message: None,
            node_id: -1,
            host: String::new(),
            port: -1,
        }
    }
}

impl FindCoordinatorRequest {
    /// Reads a request's body.
    pub fn decode(reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        reader.set_encoding(encoding(ApiKey::FindCoordinator, version));
        let key = reader.string("key")?;
        let key_type = if version >= 1 { reader.i8("key_type")? } else { KEY_TYPE_GROUP };
        reader.skip_tagged_fields()?;
        Ok(Self { key, key_type })
    }

    /// Writes a request's body.
    pub fn encode(&self, writer: &mut Writer, version: i16) {
        writer.set_encoding(encoding(ApiKey::FindCoordinator, version));
        writer.string(&self.key);
        if version >= 1 {
            writer.i8(self.key_type);
        }
        writer.no_tagged_fields();
    }
}

impl FindCoordinatorResponse {
    /// Reads a response's body.
    pub fn decode(reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        reader.set_encoding(encoding(ApiKey::FindCoordinator, version));
        let mut response = Self::default();
        if version >= 1 {
            response.throttle_time_ms = reader.i32("throttle_time_ms")?;
        }
        response.error_code = reader.error_code("error_code")?;
        if version >= 1 {
            response.error_message = reader.nullable_string("error_message")?;
        }
        response.node_id = reader.i32("node_id")?;
        response.host = reader.string("host")?;
        response.port = reader.i32("port")?;
        reader.skip_tagged_fields()?;
        Ok(response)
    }

    /// Writes a response's body.
    pub fn encode(&self, writer: &mut Writer, version: i16) {
        writer.set_encoding(encoding(ApiKey::FindCoordinator, version));
        if version >= 1 {
            writer.i32(self.throttle_time_ms);
        }
        writer.error_code(self.error_code);
        if version >= 1 {
            writer.nullable_string(self.error_message.as_deref());
        }
        writer.i32(self.node_id);
        writer.string(&self.host);
        writer.i32(self.port);
        writer.no_tagged_fields();
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{assert_golden_request, assert_golden_response};
    use super::super::{Request, Response};
    use super::*;

    fn request(key_type: i8) -> Request {
        Request::FindCoordinator(FindCoordinatorRequest { key: "readers".to_owned(), key_type })
    }

    #[test]
    fn request_in_versions_0_2_and_3() {
        let group = request(KEY_TYPE_GROUP);
        assert_golden_request(0, &group, "000a 0000 00000007 0001 't' 0007 'readers'");
        let transaction = request(KEY_TYPE_TRANSACTION);
        assert_golden_request(2, &transaction, "000a 0002 00000007 0001 't' 0007 'readers' 01");
        assert_golden_request(3, &transaction, "000a 0003 00000007 0001 't' 00 08 'readers' 01 00");
    }

    fn response(throttle_time_ms: i32, error_message: Option<&str>) -> Response {
        Response::FindCoordinator(FindCoordinatorResponse {
            throttle_time_ms,
            error_code: ErrorCode::COORDINATOR_NOT_AVAILABLE,
            error_message: error_message.map(str::to_owned),
            node_id: 1,
            host: "h1".to_owned(),
            port: 9092,
        })
    }

    #[test]
    fn response_in_versions_0_1_and_3() {
        let golden = "00000007 000f 00000001 0002 'h1' 00002384";
        assert_golden_response(0, &response(0, None), golden);
        let golden = "00000007 00000009 000f 0004 'wait' 00000001 0002 'h1' 00002384";
        assert_golden_response(1, &response(9, Some("wait")), golden);
        let golden = "00000007 00 00000009 000f 05 'wait' 00000001 03 'h1' 00002384 00";
        assert_golden_response(3, &response(9, Some("wait")), golden);
    }
}
