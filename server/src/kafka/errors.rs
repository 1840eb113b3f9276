//! Which of Kafka's error codes each of the engine's errors is.

use woodchuck::EngineError;
use woodchuck_stream::BatchError;

use crate::protocol::ErrorCode;

/// The code that makes a client do what the error calls for.
pub(super) fn code(error: &EngineError) -> ErrorCode {
    match error {
        // Clients take it for a reason to send the same again after a pause.
        EngineError::Busy(_) => ErrorCode::REQUEST_TIMED_OUT,
        EngineError::UnknownPartition => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        EngineError::TopicExists => ErrorCode::TOPIC_ALREADY_EXISTS,
        EngineError::Invalid(_) => ErrorCode::INVALID_REQUEST,
        EngineError::Batch(error) => batch_code(error),
        EngineError::OffsetOutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
        EngineError::OutOfOrderSequence { .. } => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        EngineError::Fenced => ErrorCode::INVALID_PRODUCER_EPOCH,
        EngineError::Storage(_) | EngineError::Open(_) => ErrorCode::KAFKA_STORAGE_ERROR,
        // Clients look for the leader again, and find this broker when it is back.
        EngineError::Closed => ErrorCode::NOT_LEADER_OR_FOLLOWER,
    }
}

fn batch_code(error: &BatchError) -> ErrorCode {
    match error {
        BatchError::Truncated { .. } | BatchError::Checksum { .. } => ErrorCode::CORRUPT_MESSAGE,
        BatchError::TooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
        BatchError::Magic(_) => ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT,
        BatchError::Trailing { .. }
        | BatchError::Count { .. }
        | BatchError::Attributes(_)
        | BatchError::Producer { .. } => ErrorCode::INVALID_RECORD,
    }
}
