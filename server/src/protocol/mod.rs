//! The Kafka wire protocol: bytes in, typed values out, and back.
//!
//! # What is here
//!
//! - [`wire`]: the primitive types, [`wire::Reader`] and [`wire::Writer`];
//! - [`error`]: why bytes could not be understood;
//! - [`types`]: error codes, UUIDs, isolation levels;
//! - [`header`]: what stands in front of every message, and which versions are flexible;
//! - one module an API, each with its request and response, both of them in both directions: the
//!   server decodes requests and encodes responses, the clients of our tests the other way round.
//!
//! # How data flows
//!
//! ```text
//! frame without its length prefix ─ decode_request ─▶ (RequestHeader, Request) ─▶ the broker
//! segments for one vectored write ◀─ Response::encode(&header) ─ Response ◀───────┘
//! ```
//!
//! Messages are version-neutral: a field that the version at hand lacks has, after decoding, the
//! default its documentation names, and is left out by encoding. Records come in as slices of the
//! frame and go out as segments of their own; nothing here copies them.
//!
//! # What must never be here
//!
//! I/O, clocks, randomness, and any knowledge of topics: this module is a pure function of its
//! input. It trusts no byte of a frame (see [`wire`] for the bounds), and it is written by hand
//! because the bounds are the point: what reserves memory on a client's word can be made to abort
//! by forty bytes.

pub mod api_versions;
pub mod create_topics;
pub mod delete_topics;
pub mod error;
pub mod fetch;
pub mod find_coordinator;
pub mod header;
pub mod init_producer_id;
pub mod list_offsets;
pub mod metadata;
pub mod produce;
pub mod types;
pub mod wire;

#[cfg(test)]
mod mutation_tests;
#[cfg(test)]
mod round_trip_tests;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod test_support;

use std::fmt;

use bytes::Bytes;

pub use api_versions::{ApiVersionsRequest, ApiVersionsResponse};
pub use create_topics::{CreateTopicsRequest, CreateTopicsResponse};
pub use delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse};
pub use error::{Fault, ProtocolError};
pub use fetch::{FetchRequest, FetchResponse};
pub use find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
pub use header::{RequestHeader, flexible};
pub use init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
pub use list_offsets::{ListOffsetsRequest, ListOffsetsResponse};
pub use metadata::{MetadataRequest, MetadataResponse};
pub use produce::{ProduceRequest, ProduceResponse};
pub use types::{ErrorCode, IsolationLevel, Uuid};
use wire::{Reader, Writer};

/// The APIs that are spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i16)]
pub enum ApiKey {
    /// Appends records.
    Produce = 0,
    /// Reads records.
    Fetch = 1,
    /// Finds offsets by timestamp.
    ListOffsets = 2,
    /// Lists brokers, topics and partitions.
    Metadata = 3,
    /// Finds the coordinator of a group or a transaction.
    FindCoordinator = 10,
    /// Lists the APIs and their versions.
    ApiVersions = 18,
    /// Creates topics.
    CreateTopics = 19,
    /// Deletes topics.
    DeleteTopics = 20,
    /// Hands out a producer's identity.
    InitProducerId = 22,
}

impl ApiKey {
    /// The API of a number on the wire, if it is spoken here.
    pub fn from_i16(key: i16) -> Option<Self> {
        SUPPORTED.iter().map(|range| range.api_key).find(|api_key| api_key.to_i16() == key)
    }

    /// The number on the wire.
    pub fn to_i16(self) -> i16 {
        self as i16
    }

    /// The versions of this API.
    pub fn range(self) -> &'static ApiVersionRange {
        let index = match self {
            Self::Produce => 0,
            Self::Fetch => 1,
            Self::ListOffsets => 2,
            Self::Metadata => 3,
            Self::FindCoordinator => 4,
            Self::ApiVersions => 5,
            Self::CreateTopics => 6,
            Self::DeleteTopics => 7,
            Self::InitProducerId => 8,
        };
        let range = &SUPPORTED[index];
        assert!(range.api_key == self, "{self:?} is out of place in the table of versions");
        range
    }
}

/// Every API that is spoken here with its versions, in the order of their keys.
pub const SUPPORTED: &[ApiVersionRange] = &[
    // Versions 0 to 2 carry message formats that no longer exist. They are advertised all the same,
    // because older librdkafka takes their absence for a broker that cannot compress, and sends
    // everything uncompressed without a word.
    ApiVersionRange::new(ApiKey::Produce, 0, 3, 10),
    // From 13 on, topics have ids only.
    ApiVersionRange::new(ApiKey::Fetch, 4, 4, 12),
    ApiVersionRange::new(ApiKey::ListOffsets, 1, 1, 7),
    ApiVersionRange::new(ApiKey::Metadata, 0, 0, 12),
    // From 4 on, one request asks for many coordinators.
    ApiVersionRange::new(ApiKey::FindCoordinator, 0, 0, 3),
    ApiVersionRange::new(ApiKey::ApiVersions, 0, 0, 3),
    ApiVersionRange::new(ApiKey::CreateTopics, 2, 2, 7),
    ApiVersionRange::new(ApiKey::DeleteTopics, 1, 1, 6),
    ApiVersionRange::new(ApiKey::InitProducerId, 0, 0, 4),
];

/// The versions of one API, all bounds inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiVersionRange {
    /// The API.
    pub api_key: ApiKey,
    /// The lowest version that ApiVersions tells of. Versions from here up to
    /// `minimum_version - 1` are refused when they are used.
    pub advertised_minimum_version: i16,
    /// The lowest version that is decoded.
    pub minimum_version: i16,
    /// The highest version, told of and decoded.
    pub maximum_version: i16,
}

impl ApiVersionRange {
    const fn new(api_key: ApiKey, advertised_minimum: i16, minimum: i16, maximum: i16) -> Self {
        Self {
            api_key,
            advertised_minimum_version: advertised_minimum,
            minimum_version: minimum,
            maximum_version: maximum,
        }
    }

    /// Whether a request of this version is decoded.
    pub fn decodes(&self, version: i16) -> bool {
        (self.minimum_version..=self.maximum_version).contains(&version)
    }
}

/// Why a request was not decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestError {
    /// The bytes do not follow the schema. Close the connection.
    Malformed(ProtocolError),
    /// There is no such API, or not in this version, so that even the form of an answer is unknown.
    /// Close the connection.
    UnsupportedApi {
        /// The number of the API.
        key: i16,
        /// The version asked for.
        version: i16,
    },
    /// A client newer than this server asks what the server speaks. Answer with
    /// [`ApiVersionsResponse::unsupported_version`]; the client tries again with what it learns.
    UnsupportedApiVersionsVersion {
        /// The client's number for the request.
        correlation_id: i32,
        /// The version asked for.
        version: i16,
    },
}

impl fmt::Display for RequestError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(formatter, "malformed request: {error}"),
            Self::UnsupportedApi { key, version } => {
                write!(formatter, "version {version} of API {key} is not supported")
            }
            Self::UnsupportedApiVersionsVersion { version, .. } => {
                write!(formatter, "version {version} of ApiVersions is not supported")
            }
        }
    }
}

impl std::error::Error for RequestError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Malformed(error) => Some(error),
            _ => None,
        }
    }
}

impl From<ProtocolError> for RequestError {
    fn from(error: ProtocolError) -> Self {
        Self::Malformed(error)
    }
}

/// A request's body.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is documented as its API's module")]
pub enum Request {
    Produce(ProduceRequest),
    Fetch(FetchRequest),
    ListOffsets(ListOffsetsRequest),
    Metadata(MetadataRequest),
    FindCoordinator(FindCoordinatorRequest),
    ApiVersions(ApiVersionsRequest),
    CreateTopics(CreateTopicsRequest),
    DeleteTopics(DeleteTopicsRequest),
    InitProducerId(InitProducerIdRequest),
}

impl Request {
    /// Which API this is a request of.
    pub fn api_key(&self) -> ApiKey {
        match self {
            Self::Produce(_) => ApiKey::Produce,
            Self::Fetch(_) => ApiKey::Fetch,
            Self::ListOffsets(_) => ApiKey::ListOffsets,
            Self::Metadata(_) => ApiKey::Metadata,
            Self::FindCoordinator(_) => ApiKey::FindCoordinator,
            Self::ApiVersions(_) => ApiKey::ApiVersions,
            Self::CreateTopics(_) => ApiKey::CreateTopics,
            Self::DeleteTopics(_) => ApiKey::DeleteTopics,
            Self::InitProducerId(_) => ApiKey::InitProducerId,
        }
    }

    fn decode(api_key: ApiKey, reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        Ok(match api_key {
            ApiKey::Produce => Self::Produce(ProduceRequest::decode(reader, version)?),
            ApiKey::Fetch => Self::Fetch(FetchRequest::decode(reader, version)?),
            ApiKey::ListOffsets => Self::ListOffsets(ListOffsetsRequest::decode(reader, version)?),
            ApiKey::Metadata => Self::Metadata(MetadataRequest::decode(reader, version)?),
            ApiKey::FindCoordinator => {
                Self::FindCoordinator(FindCoordinatorRequest::decode(reader, version)?)
            }
            ApiKey::ApiVersions => Self::ApiVersions(ApiVersionsRequest::decode(reader, version)?),
            ApiKey::CreateTopics => {
                Self::CreateTopics(CreateTopicsRequest::decode(reader, version)?)
            }
            ApiKey::DeleteTopics => {
                Self::DeleteTopics(DeleteTopicsRequest::decode(reader, version)?)
            }
            ApiKey::InitProducerId => {
                Self::InitProducerId(InitProducerIdRequest::decode(reader, version)?)
            }
        })
    }

    fn encode(&self, writer: &mut Writer, version: i16) {
        match self {
            Self::Produce(request) => request.encode(writer, version),
            Self::Fetch(request) => request.encode(writer, version),
            Self::ListOffsets(request) => request.encode(writer, version),
            Self::Metadata(request) => request.encode(writer, version),
            Self::FindCoordinator(request) => request.encode(writer, version),
            Self::ApiVersions(request) => request.encode(writer, version),
            Self::CreateTopics(request) => request.encode(writer, version),
            Self::DeleteTopics(request) => request.encode(writer, version),
            Self::InitProducerId(request) => request.encode(writer, version),
        }
    }
}

/// A response's body.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is documented as its API's module")]
pub enum Response {
    Produce(ProduceResponse),
    Fetch(FetchResponse),
    ListOffsets(ListOffsetsResponse),
    Metadata(MetadataResponse),
    FindCoordinator(FindCoordinatorResponse),
    ApiVersions(ApiVersionsResponse),
    CreateTopics(CreateTopicsResponse),
    DeleteTopics(DeleteTopicsResponse),
    InitProducerId(InitProducerIdResponse),
}

impl Response {
    /// Which API this is a response of.
    pub fn api_key(&self) -> ApiKey {
        match self {
            Self::Produce(_) => ApiKey::Produce,
            Self::Fetch(_) => ApiKey::Fetch,
            Self::ListOffsets(_) => ApiKey::ListOffsets,
            Self::Metadata(_) => ApiKey::Metadata,
            Self::FindCoordinator(_) => ApiKey::FindCoordinator,
            Self::ApiVersions(_) => ApiKey::ApiVersions,
            Self::CreateTopics(_) => ApiKey::CreateTopics,
            Self::DeleteTopics(_) => ApiKey::DeleteTopics,
            Self::InitProducerId(_) => ApiKey::InitProducerId,
        }
    }

    /// The whole frame that answers the request of this header, length prefix included, as segments
    /// for one vectored write. None of them is empty.
    ///
    /// A Produce request with `acks` of 0 is answered with nothing at all: that is the caller's to
    /// know.
    ///
    /// # Panics
    ///
    /// If the response is of another API than the request.
    pub fn encode(&self, header: &RequestHeader) -> Vec<Bytes> {
        assert_eq!(self.api_key(), header.api_key, "a response of another API than the request");
        let version = header.api_version;
        let mut writer = Writer::new();
        header::encode_response_header(&mut writer, header.api_key, version, header.correlation_id);
        self.encode_body(&mut writer, version);
        writer.finish()
    }

    fn decode(api_key: ApiKey, reader: &mut Reader, version: i16) -> Result<Self, ProtocolError> {
        Ok(match api_key {
            ApiKey::Produce => Self::Produce(ProduceResponse::decode(reader, version)?),
            ApiKey::Fetch => Self::Fetch(FetchResponse::decode(reader, version)?),
            ApiKey::ListOffsets => Self::ListOffsets(ListOffsetsResponse::decode(reader, version)?),
            ApiKey::Metadata => Self::Metadata(MetadataResponse::decode(reader, version)?),
            ApiKey::FindCoordinator => {
                Self::FindCoordinator(FindCoordinatorResponse::decode(reader, version)?)
            }
            ApiKey::ApiVersions => Self::ApiVersions(ApiVersionsResponse::decode(reader, version)?),
            ApiKey::CreateTopics => {
                Self::CreateTopics(CreateTopicsResponse::decode(reader, version)?)
            }
            ApiKey::DeleteTopics => {
                Self::DeleteTopics(DeleteTopicsResponse::decode(reader, version)?)
            }
            ApiKey::InitProducerId => {
                Self::InitProducerId(InitProducerIdResponse::decode(reader, version)?)
            }
        })
    }

    fn encode_body(&self, writer: &mut Writer, version: i16) {
        match self {
            Self::Produce(response) => response.encode(writer, version),
            Self::Fetch(response) => response.encode(writer, version),
            Self::ListOffsets(response) => response.encode(writer, version),
            Self::Metadata(response) => response.encode(writer, version),
            Self::FindCoordinator(response) => response.encode(writer, version),
            Self::ApiVersions(response) => response.encode(writer, version),
            Self::CreateTopics(response) => response.encode(writer, version),
            Self::DeleteTopics(response) => response.encode(writer, version),
            Self::InitProducerId(response) => response.encode(writer, version),
        }
    }
}

/// Decodes a request's frame, without its length prefix. Records in it share the frame's memory.
///
/// ```
/// use bytes::Bytes;
/// use woodchuck_server::protocol::{RequestError, decode_request};
///
/// // ApiVersions (18) in version 0, correlation id 7, client id null.
/// let frame = Bytes::from_static(&[0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff]);
/// let (header, _request) = decode_request(frame)?;
/// assert_eq!(header.correlation_id, 7);
/// # Ok::<(), RequestError>(())
/// ```
pub fn decode_request(frame: Bytes) -> Result<(RequestHeader, Request), RequestError> {
    let mut reader = Reader::new(frame);
    let header = RequestHeader::decode(&mut reader)?;
    let request = Request::decode(header.api_key, &mut reader, header.api_version)?;
    // What follows the last field is ignored, as Kafka does: librdkafka leaves three bytes behind
    // its Metadata request for all topics.
    Ok((header, request))
}

/// The whole frame of a request, length prefix included, as segments for one vectored write.
///
/// A version that [`SUPPORTED`] lacks is written like the nearest that it has: enough to test how
/// such a request is refused.
pub fn encode_request(
    api_version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    request: &Request,
) -> Vec<Bytes> {
    let header = RequestHeader {
        api_key: request.api_key(),
        api_version,
        correlation_id,
        client_id: client_id.map(str::to_owned),
    };
    let mut writer = Writer::new();
    header.encode(&mut writer);
    request.encode(&mut writer, api_version);
    writer.finish()
}

/// Decodes a response's frame, without its length prefix, to a request of this API and version, and
/// gives its correlation id. Records in it share the frame's memory.
pub fn decode_response(
    api_key: ApiKey,
    api_version: i16,
    frame: Bytes,
) -> Result<(i32, Response), ProtocolError> {
    let mut reader = Reader::new(frame);
    let correlation_id = header::decode_response_header(&mut reader, api_key, api_version)?;
    let response = Response::decode(api_key, &mut reader, api_version)?;
    reader.finish()?;
    Ok((correlation_id, response))
}
