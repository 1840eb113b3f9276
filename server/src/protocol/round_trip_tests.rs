//! Every version of every API, in both directions: what encoding writes, decoding reads, less the
//! fields that the version lacks.

use super::test_support::{CORRELATION_ID, header, request_frame, response_frame};
use super::*;

fn versions(range: &ApiVersionRange) -> impl Iterator<Item = i16> {
    range.minimum_version..=range.maximum_version
}

#[test]
fn requests() {
    for range in SUPPORTED {
        let api_key = range.api_key;
        let full = samples::request(api_key, samples::ALL_FIELDS);
        for version in versions(range) {
            let sample = samples::request(api_key, version);
            let expected = (header(api_key, version), sample.clone());
            let context = format!("{api_key:?} version {version}");
            let frame = request_frame(version, &sample);
            assert_eq!(decode_request(frame), Ok(expected.clone()), "{context}");
            let frame = request_frame(version, &full);
            assert_eq!(decode_request(frame), Ok(expected), "{context}, of all fields");
        }
    }
}

#[test]
fn responses() {
    for range in SUPPORTED {
        let api_key = range.api_key;
        let full = samples::response(api_key, samples::ALL_FIELDS);
        for version in versions(range) {
            let sample = samples::response(api_key, version);
            let expected = (CORRELATION_ID, sample.clone());
            let context = format!("{api_key:?} version {version}");
            let frame = response_frame(version, &sample);
            assert_eq!(decode_response(api_key, version, frame), Ok(expected.clone()), "{context}");
            let frame = response_frame(version, &full);
            let decoded = decode_response(api_key, version, frame);
            assert_eq!(decoded, Ok(expected), "{context}, of all fields");
        }
    }
}

/// Every strict prefix of a frame lacks something. What follows a request is ignored: there are
/// clients that leave something behind.
#[test]
fn frames_cut_short_are_refused_and_extended_requests_are_not() {
    for range in SUPPORTED {
        let api_key = range.api_key;
        for version in versions(range) {
            let frame = request_frame(version, &samples::request(api_key, version));
            for length in 0..frame.len() {
                let outcome = decode_request(frame.slice(..length));
                assert!(matches!(outcome, Err(RequestError::Malformed(_))), "{outcome:?}");
            }
            let extended = Bytes::from([&frame[..], &[0, 1, 2]].concat());
            assert_eq!(decode_request(extended), decode_request(frame));

            let frame = response_frame(version, &samples::response(api_key, version));
            for length in 0..frame.len() {
                decode_response(api_key, version, frame.slice(..length)).unwrap_err();
            }
        }
    }
}

#[test]
fn the_table_of_versions_is_in_order_and_complete() {
    let keys: Vec<i16> = SUPPORTED.iter().map(|range| range.api_key.to_i16()).collect();
    assert_eq!(keys, [0, 1, 2, 3, 10, 18, 19, 20, 22]);
    for range in SUPPORTED {
        assert_eq!(range.api_key.range(), range);
        assert_eq!(ApiKey::from_i16(range.api_key.to_i16()), Some(range.api_key));
        assert!(range.advertised_minimum_version <= range.minimum_version);
        assert!(range.minimum_version <= range.maximum_version);
    }
    assert_eq!(ApiKey::from_i16(4), None);
    assert_eq!(ApiKey::from_i16(-1), None);
}

#[test]
fn the_first_flexible_versions_are_those_published() {
    let first = |range: &ApiVersionRange| (0..100).find(|v| flexible(range.api_key, *v));
    let firsts: Vec<Option<i16>> = SUPPORTED.iter().map(first).collect();
    assert_eq!(firsts, [9, 12, 6, 9, 3, 3, 5, 4, 2].map(Some));
}

#[test]
fn unsupported_requests_are_told_apart() {
    let of = |key: i16, version: i16| {
        let mut frame = Vec::new();
        frame.extend_from_slice(&key.to_be_bytes());
        frame.extend_from_slice(&version.to_be_bytes());
        frame.extend_from_slice(&[0, 0, 0, 42]);
        decode_request(frame.into()).unwrap_err()
    };
    assert_eq!(of(11, 5), RequestError::UnsupportedApi { key: 11, version: 5 });
    assert_eq!(of(-1, 0), RequestError::UnsupportedApi { key: -1, version: 0 });
    // Advertised and refused.
    assert_eq!(of(0, 2), RequestError::UnsupportedApi { key: 0, version: 2 });
    assert_eq!(of(1, 13), RequestError::UnsupportedApi { key: 1, version: 13 });
    assert_eq!(of(1, -1), RequestError::UnsupportedApi { key: 1, version: -1 });
    for version in [4, -1, i16::MAX] {
        let expected = RequestError::UnsupportedApiVersionsVersion { correlation_id: 42, version };
        assert_eq!(of(18, version), expected);
    }
    let error = of(1, 13);
    assert_eq!(error.to_string(), "version 13 of API 1 is not supported");
}

/// The tag buffer of a header is skipped with what it holds, and the client id may be null.
#[test]
fn header_with_tags() {
    let frame = test_support::by_hand(
        "0016 0002 00000007 ffff   # InitProducerId, version 2, client id null
         02 00 02 abcd 07 00       # two tags: 0 with two bytes, 7 with none
         00 000003e8 00",
    );
    let (header, _) = decode_request(frame.into()).unwrap();
    assert_eq!(header.client_id, None);
}

#[test]
fn error_codes_have_their_names() {
    assert_eq!(format!("{:?}", ErrorCode::OFFSET_OUT_OF_RANGE), "OFFSET_OUT_OF_RANGE(1)");
    assert_eq!(format!("{:?}", ErrorCode(999)), "ErrorCode(999)");
    // Those that are easily off by one, as published.
    assert_eq!(ErrorCode::FENCED_LEADER_EPOCH.0, 74);
    assert_eq!(ErrorCode::UNKNOWN_LEADER_EPOCH.0, 75);
    assert_eq!(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE.0, 76);
    assert_eq!(ErrorCode::INVALID_RECORD.0, 87);
    assert_eq!(ErrorCode::UNKNOWN_TOPIC_ID.0, 100);
    assert!(!ErrorCode::NONE.is_error() && ErrorCode::UNKNOWN_SERVER_ERROR.is_error());
}
