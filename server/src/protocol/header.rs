//! What stands in front of every request and response.
//!
//! # Format
//!
//! ```text
//! request v1:  api_key i16 | api_version i16 | correlation_id i32 | client_id string or null
//! request v2:  the same, then tagged fields
//! response v0: correlation_id i32
//! response v1: correlation_id i32 | tagged fields
//! ```
//!
//! The newer header goes with the flexible versions of an API, with one exception: a response to
//! ApiVersions has header v0 at every version, since the client does not know yet what the server
//! speaks. One byte more there has made a client allocate 34 GB. The client id stays in the classic
//! encoding in both headers.

use super::error::ProtocolError;
use super::wire::{Encoding, Reader, Writer};
use super::{ApiKey, RequestError};

/// Whether this version of an API has the flexible encoding.
pub fn flexible(api_key: ApiKey, api_version: i16) -> bool {
    let first_flexible = match api_key {
        ApiKey::Produce => 9,
        ApiKey::Fetch => 12,
        ApiKey::ListOffsets => 6,
        ApiKey::Metadata => 9,
        ApiKey::FindCoordinator => 3,
        ApiKey::ApiVersions => 3,
        ApiKey::CreateTopics => 5,
        ApiKey::DeleteTopics => 4,
        ApiKey::InitProducerId => 2,
    };
    api_version >= first_flexible
}

/// The encoding of a version's body.
pub fn encoding(api_key: ApiKey, api_version: i16) -> Encoding {
    Encoding::of(flexible(api_key, api_version))
}

/// The header of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which API.
    pub api_key: ApiKey,
    /// Which version of it.
    pub api_version: i16,
    /// The client's number for this request, repeated in the response.
    pub correlation_id: i32,
    /// The client's name for itself, for logs and quotas.
    pub client_id: Option<String>,
}

impl RequestHeader {
    /// Reads a header and refuses what [`super::SUPPORTED`] does not decode. Nothing past the
    /// correlation id is read of a request that is refused: its header may be of any version.
    pub fn decode(reader: &mut Reader) -> Result<Self, RequestError> {
        let key = reader.i16("api_key")?;
        let version = reader.i16("api_version")?;
        let correlation_id = reader.i32("correlation_id")?;
        let Some(api_key) = ApiKey::from_i16(key) else {
            return Err(RequestError::UnsupportedApi { key, version });
        };
        if !api_key.range().decodes(version) {
            return Err(match api_key {
                ApiKey::ApiVersions => {
                    RequestError::UnsupportedApiVersionsVersion { correlation_id, version }
                }
                _ => RequestError::UnsupportedApi { key, version },
            });
        }
        reader.set_encoding(Encoding::Classic);
        let client_id = reader.nullable_string("client_id")?;
        reader.set_encoding(encoding(api_key, version));
        reader.skip_tagged_fields()?;
        Ok(Self { api_key, api_version: version, correlation_id, client_id })
    }

    /// Writes a header.
    pub fn encode(&self, writer: &mut Writer) {
        writer.i16(self.api_key.to_i16());
        writer.i16(self.api_version);
        writer.i32(self.correlation_id);
        writer.set_encoding(Encoding::Classic);
        writer.nullable_string(self.client_id.as_deref());
        writer.set_encoding(encoding(self.api_key, self.api_version));
        writer.no_tagged_fields();
    }
}

/// The encoding of a response's header, which is its version: classic is v0, flexible is v1.
fn response_encoding(api_key: ApiKey, api_version: i16) -> Encoding {
    match api_key {
        ApiKey::ApiVersions => Encoding::Classic,
        _ => encoding(api_key, api_version),
    }
}

/// Reads a response's header and gives the correlation id.
pub fn decode_response_header(
    reader: &mut Reader,
    api_key: ApiKey,
    api_version: i16,
) -> Result<i32, ProtocolError> {
    let correlation_id = reader.i32("correlation_id")?;
    reader.set_encoding(response_encoding(api_key, api_version));
    reader.skip_tagged_fields()?;
    Ok(correlation_id)
}

/// Writes a response's header.
pub fn encode_response_header(
    writer: &mut Writer,
    api_key: ApiKey,
    api_version: i16,
    correlation_id: i32,
) {
    writer.i32(correlation_id);
    writer.set_encoding(response_encoding(api_key, api_version));
    writer.no_tagged_fields();
}
