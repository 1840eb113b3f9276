//! ApiVersions (API 18), versions 0 to 3, flexible from 3: lists the APIs and their versions.
//!
//! | since | request                                          | response                   |
//! |-------|--------------------------------------------------|----------------------------|
//! | 0     | nothing                                          | all fields below but these |
//! | 1     |                                                  | `throttle_time_ms`         |
//! | 3     | `client_software_name`, `client_software_version`|                            |
//!
//! The tags of a response, about the features of a cluster, are never sent, and ignored.
//!
//! This is the first request on a connection, sent before the client knows what the server speaks.
//! Hence two exceptions: the response's header is of version 0 always, and a version that the
//! server lacks is answered, with error 35 and a body of version 0 that tells the versions of this
//! API at least.

use bytes::Bytes;

use super::error::ProtocolError;
use super::header::encoding;
use super::types::ErrorCode;
use super::wire::{Reader, Writer};
use super::{ApiKey, RequestHeader, Response, SUPPORTED};

/// Asks what the server speaks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiVersionsRequest {
    /// The client library's name. Since version 3; empty before.
    pub client_software_name: String,
    /// The client library's version. Since version 3; empty before.
    pub client_software_version: String,
}

/// Answers [`ApiVersionsRequest`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiVersionsResponse {
    /// Whether the request's version is supported. If it is not, the body is of version 0 whatever
    /// version was asked for.
    pub error_code: ErrorCode,
    /// The APIs. The keys are numbers because a server may speak APIs that we do not.
    pub api_keys: Vec<ApiVersion>,
    /// For how long the client was, or is to be, held back. Since version 1; 0 before.
    pub throttle_time_ms: i32,
}

/// The versions of one API, both inclusive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ApiVersion {
    /// The API's number.
    pub api_key: i16,
    /// The lowest version.
    pub min_version: i16,
    /// The highest version.
    pub max_version: i16,
}

impl ApiVersionsRequest {
    /// Reads a request's body.
    pub fn decode(reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        reader.set_encoding(encoding(ApiKey::ApiVersions, version));
        let mut request = Self::default();
        if version >= 3 {
            request.client_software_name = reader.string("client_software_name")?;
            request.client_software_version = reader.string("client_software_version")?;
        }
        reader.skip_tagged_fields()?;
        Ok(request)
    }

    /// Writes a request's body.
    pub fn encode(&self, writer: &mut Writer, version: i16) {
        writer.set_encoding(encoding(ApiKey::ApiVersions, version));
        if version >= 3 {
            writer.string(&self.client_software_name);
            writer.string(&self.client_software_version);
        }
        writer.no_tagged_fields();
    }
}

impl ApiVersionsResponse {
    /// All that this server speaks.
    pub fn supported() -> Self {
        let api_keys = SUPPORTED
            .iter()
            .map(|range| ApiVersion {
                api_key: range.api_key.to_i16(),
                min_version: range.advertised_minimum_version,
                max_version: range.maximum_version,
            })
            .collect();
        Self { error_code: ErrorCode::NONE, api_keys, throttle_time_ms: 0 }
    }

    /// The whole frame, length prefix included, for a request whose version this server lacks.
    pub fn unsupported_version(correlation_id: i32) -> Vec<Bytes> {
        let header = RequestHeader {
            api_key: ApiKey::ApiVersions,
            api_version: 0,
            correlation_id,
            client_id: None,
        };
        let response = Self { error_code: ErrorCode::UNSUPPORTED_VERSION, ..Self::supported() };
        Response::ApiVersions(response).encode(&header)
    }

    /// Reads a response's body.
    pub fn decode(reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        let error_code = reader.error_code("error_code")?;
        let version = Self::body_version(error_code, version);
        reader.set_encoding(encoding(ApiKey::ApiVersions, version));
        let api_keys = reader.array("api_keys", |reader| {
            let api_key = reader.i16("api_key")?;
            let min_version = reader.i16("min_version")?;
            let max_version = reader.i16("max_version")?;
            reader.skip_tagged_fields()?;
            Ok(ApiVersion { api_key, min_version, max_version })
        })?;
        let throttle_time_ms = if version >= 1 { reader.i32("throttle_time_ms")? } else { 0 };
        reader.skip_tagged_fields()?;
        Ok(Self { error_code, api_keys, throttle_time_ms })
    }

    /// Writes a response's body.
    pub fn encode(&self, writer: &mut Writer, version: i16) {
        let version = Self::body_version(self.error_code, version);
        writer.set_encoding(encoding(ApiKey::ApiVersions, version));
        writer.error_code(self.error_code);
        writer.array(&self.api_keys, |writer, api| {
            writer.i16(api.api_key);
            writer.i16(api.min_version);
            writer.i16(api.max_version);
            writer.no_tagged_fields();
        });
        if version >= 1 {
            writer.i32(self.throttle_time_ms);
        }
        writer.no_tagged_fields();
    }

    /// The version that the body has. The error code stands in front of it in every version, so it
    /// can be told before the rest is read.
    fn body_version(error_code: ErrorCode, requested_version: i16) -> i16 {
        if error_code == ErrorCode::UNSUPPORTED_VERSION { 0 } else { requested_version }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{
        assert_golden_request, assert_golden_response, by_hand, frame,
    };
    use super::super::{Request, decode_response};
    use super::*;

    #[test]
    fn request_in_versions_0_and_3() {
        let request = Request::ApiVersions(ApiVersionsRequest::default());
        assert_golden_request(0, &request, "0012 0000 00000007 0001 't'");
        let request = Request::ApiVersions(ApiVersionsRequest {
            client_software_name: "client".to_owned(),
            client_software_version: "1.2".to_owned(),
        });
        let golden = "0012 0003 00000007 0001 't' 00 07 'client' 04 '1.2' 00";
        assert_golden_request(3, &request, golden);
    }

    fn response(throttle_time_ms: i32) -> Response {
        Response::ApiVersions(ApiVersionsResponse {
            error_code: ErrorCode::NONE,
            api_keys: vec![
                ApiVersion { api_key: 0, min_version: 0, max_version: 10 },
                ApiVersion { api_key: 18, min_version: 0, max_version: 3 },
            ],
            throttle_time_ms,
        })
    }

    #[test]
    fn response_in_versions_0_1_and_3() {
        let golden = "00000007 0000 00000002 0000 0000 000a 0012 0000 0003";
        assert_golden_response(0, &response(0), golden);
        assert_golden_response(1, &response(9), &format!("{golden} 00000009"));
        let golden = "
            00000007                    # a header without tags, here alone
            0000
            03
              0000 0000 000a 00
              0012 0000 0003 00
            00000009
            00";
        assert_golden_response(3, &response(9), golden);
    }

    #[test]
    fn features_of_a_cluster_are_ignored() {
        let golden = "
            00000007 0000 01 00000000
            02                          # two tags
              00 0a 02 04 'mdv' 0001 0002 00
              01 08 0000000000000005";
        let frame = Bytes::from(by_hand(golden));
        let (_, response) = decode_response(ApiKey::ApiVersions, 3, frame).unwrap();
        assert_eq!(response, Response::ApiVersions(ApiVersionsResponse::default()));
    }

    #[test]
    fn unsupported_version_is_answered_in_version_0_with_the_range_of_this_api() {
        let answer = frame(&ApiVersionsResponse::unsupported_version(7));
        assert_eq!(answer[..10], by_hand("00000007 0023 00000009"));
        assert_eq!(answer.len(), 10 + 9 * 6);
        // The client decodes it as the version it asked for, which it now knows nobody speaks.
        let (_, response) = decode_response(ApiKey::ApiVersions, 4, answer).unwrap();
        let Response::ApiVersions(response) = response else { panic!("not an ApiVersions") };
        assert_eq!(response.error_code, ErrorCode::UNSUPPORTED_VERSION);
        let own = response.api_keys.iter().find(|api| api.api_key == 18);
        assert_eq!(own, Some(&ApiVersion { api_key: 18, min_version: 0, max_version: 3 }));
    }

    #[test]
    fn produce_is_advertised_from_version_0() {
        let supported = ApiVersionsResponse::supported();
        let produce = ApiVersion { api_key: 0, min_version: 0, max_version: 10 };
        assert_eq!(supported.api_keys[0], produce);
    }
}
