//! InitProducerId (API 22), versions 0 to 4, flexible from 2: hands out a producer's identity.
//!
//! | since | request                                     | response         |
//! |-------|---------------------------------------------|------------------|
//! | 0     | `transactional_id`, `transaction_timeout_ms`| all fields below |
//! | 3     | `producer_id`, `producer_epoch`             |                  |

use super::ApiKey;
use super::error::ProtocolError;
use super::header::encoding;
use super::types::ErrorCode;
use super::wire::{Reader, Writer};

/// Asks for a producer's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitProducerIdRequest {
    /// The transactional producer's name, or none for one that is only idempotent.
    pub transactional_id: Option<String>,
    /// After how long an idle transaction is to be aborted. Means nothing without a name.
    pub transaction_timeout_ms: i32,
    /// The identity the producer has, or -1. Since version 3; -1 before.
    pub producer_id: i64,
    /// The epoch the producer has, or -1. Since version 3; -1 before.
    pub producer_epoch: i16,
}

/// Answers [`InitProducerIdRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitProducerIdResponse {
    /// For how long the client was, or is to be, held back.
    pub throttle_time_ms: i32,
    /// Whether there is an identity.
    pub error_code: ErrorCode,
    /// The identity, or -1.
    pub producer_id: i64,
    /// Its epoch, or -1.
    pub producer_epoch: i16,
}

impl Default for InitProducerIdRequest {
    fn default() -> Self {
        Self {
            transactional_id: None,
            transaction_timeout_ms: 0,
            producer_id: -1,
            producer_epoch: -1,
        }
    }
}

impl Default for InitProducerIdResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: 0,
            error_code: ErrorCode::NONE,
            producer_id: -1,
            producer_epoch: -1,
        }
    }
}

impl InitProducerIdRequest {
    /// Reads a request's body.
    pub fn decode(reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        reader.set_encoding(encoding(ApiKey::InitProducerId, version));
        let mut request = Self {
            transactional_id: reader.nullable_string("transactional_id")?,
            transaction_timeout_ms: reader.i32("transaction_timeout_ms")?,
            ..Self::default()
        };
        if version >= 3 {
            request.producer_id = reader.i64("producer_id")?;
            request.producer_epoch = reader.i16("producer_epoch")?;
        }
        reader.skip_tagged_fields()?;
        Ok(request)
    }

    /// Writes a request's body.
    pub fn encode(&self, writer: &mut Writer, version: i16) {
        writer.set_encoding(encoding(ApiKey::InitProducerId, version));
        writer.nullable_string(self.transactional_id.as_deref());
        writer.i32(self.transaction_timeout_ms);
        if version >= 3 {
            writer.i64(self.producer_id);
            writer.i16(self.producer_epoch);
        }
        writer.no_tagged_fields();
    }
}

impl InitProducerIdResponse {
    /// Reads a response's body.
    pub fn decode(reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        reader.set_encoding(encoding(ApiKey::InitProducerId, version));
        let response = Self {
            throttle_time_ms: reader.i32("throttle_time_ms")?,
            error_code: reader.error_code("error_code")?,
            producer_id: reader.i64("producer_id")?,
            producer_epoch: reader.i16("producer_epoch")?,
        };
        reader.skip_tagged_fields()?;
        Ok(response)
    }

    /// Writes a response's body.
    pub fn encode(&self, writer: &mut Writer, version: i16) {
        writer.set_encoding(encoding(ApiKey::InitProducerId, version));
        writer.i32(self.throttle_time_ms);
        writer.error_code(self.error_code);
        writer.i64(self.producer_id);
        writer.i16(self.producer_epoch);
        writer.no_tagged_fields();
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{assert_golden_request, assert_golden_response};
    use super::super::{Request, Response};
    use super::*;

    #[test]
    fn request_in_versions_0_2_and_3() {
        let idempotent = InitProducerIdRequest {
            transaction_timeout_ms: 1000,
            ..InitProducerIdRequest::default()
        };
        let request = Request::InitProducerId(idempotent);
        assert_golden_request(0, &request, "0016 0000 00000007 0001 't' ffff 000003e8");
        assert_golden_request(2, &request, "0016 0002 00000007 0001 't' 00 00 000003e8 00");
        let request = Request::InitProducerId(InitProducerIdRequest {
            transactional_id: Some("tx".to_owned()),
            transaction_timeout_ms: 1000,
            producer_id: 0x21,
            producer_epoch: 2,
        });
        let golden = "
            0016 0003 00000007 0001 't' 00
            03 'tx' 000003e8 0000000000000021 0002 00";
        assert_golden_request(3, &request, golden);
    }

    #[test]
    fn response_in_versions_1_and_4() {
        let response = Response::InitProducerId(InitProducerIdResponse {
            throttle_time_ms: 9,
            error_code: ErrorCode::NONE,
            producer_id: 0x21,
            producer_epoch: 2,
        });
        assert_golden_response(1, &response, "00000007 00000009 0000 0000000000000021 0002");
        let golden = "00000007 00 00000009 0000 0000000000000021 0002 00";
        assert_golden_response(4, &response, golden);
    }
}
