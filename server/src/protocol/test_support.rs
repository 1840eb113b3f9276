//! What the tests of this module share.

use bytes::Bytes;

use super::wire::LENGTH_PREFIX_BYTES;
use super::{ApiKey, Request, RequestHeader, Response, decode_request, decode_response};

/// The correlation id of all frames in tests.
pub(super) const CORRELATION_ID: i32 = 7;

/// Bytes written down by hand: hexadecimal digits in pairs, 'quoted' ASCII without spaces, and
/// comments from `#` to the line's end.
pub(super) fn by_hand(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in text.lines() {
        let code = line.split('#').next().unwrap();
        for token in code.split_whitespace() {
            if let Some(quoted) = token.strip_prefix('\'') {
                bytes.extend_from_slice(quoted.strip_suffix('\'').unwrap().as_bytes());
                continue;
            }
            assert!(token.len().is_multiple_of(2), "odd digits in {token}");
            for index in (0..token.len()).step_by(2) {
                bytes.push(u8::from_str_radix(&token[index..index + 2], 16).unwrap());
            }
        }
    }
    bytes
}

/// Joins segments, checks the length prefix and cuts it off.
pub(super) fn frame(segments: &[Bytes]) -> Bytes {
    assert!(segments.iter().all(|segment| !segment.is_empty()), "an empty segment");
    let joined = Bytes::from(segments.concat());
    let (prefix, _) = joined.split_first_chunk::<LENGTH_PREFIX_BYTES>().unwrap();
    let frame = joined.slice(LENGTH_PREFIX_BYTES..);
    assert_eq!(u32::from_be_bytes(*prefix) as usize, frame.len(), "the length prefix");
    frame
}

/// A header as the encoders get it in tests.
pub(super) fn header(api_key: ApiKey, api_version: i16) -> RequestHeader {
    let client_id = Some("t".to_owned());
    RequestHeader { api_key, api_version, correlation_id: CORRELATION_ID, client_id }
}

/// The frame of a request in tests.
pub(super) fn request_frame(version: i16, request: &Request) -> Bytes {
    frame(&super::encode_request(version, CORRELATION_ID, Some("t"), request))
}

/// The frame of a response in tests.
pub(super) fn response_frame(version: i16, response: &Response) -> Bytes {
    frame(&response.encode(&header(response.api_key(), version)))
}

/// Asserts that a request and its frame, header included, are each made of the other. The header
/// is the one of [`header`].
#[track_caller]
pub(super) fn assert_golden_request(version: i16, request: &Request, text: &str) {
    let golden = Bytes::from(by_hand(text));
    assert_eq!(hex(&request_frame(version, request)), hex(&golden), "encoding");
    let decoded = decode_request(golden).unwrap();
    assert_eq!(decoded, (header(request.api_key(), version), request.clone()), "decoding");
}

/// Asserts that a response and its frame, header included, are each made of the other.
#[track_caller]
pub(super) fn assert_golden_response(version: i16, response: &Response, text: &str) {
    let golden = Bytes::from(by_hand(text));
    assert_eq!(hex(&response_frame(version, response)), hex(&golden), "encoding");
    let decoded = decode_response(response.api_key(), version, golden).unwrap();
    assert_eq!(decoded, (CORRELATION_ID, response.clone()), "decoding");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
