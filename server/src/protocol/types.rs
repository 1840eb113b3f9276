//! The small types that several messages share.

use std::fmt;

/// A topic's identity, which a topic of the same name created later does not share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// Stands for "no id" wherever an id may be missing.
    pub const ZERO: Self = Self([0; 16]);

    /// Whether this stands for "no id".
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }
}

impl From<u128> for Uuid {
    fn from(value: u128) -> Self {
        Self(value.to_be_bytes())
    }
}

impl From<Uuid> for u128 {
    fn from(value: Uuid) -> Self {
        Self::from_be_bytes(value.0)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                formatter.write_str("-")?;
            }
            write!(formatter, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Which records a consumer may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IsolationLevel {
    /// All of them (0).
    #[default]
    ReadUncommitted,
    /// Those below the last stable offset; aborted transactions are listed with them (1).
    ReadCommitted,
}

impl IsolationLevel {
    /// The level of a byte on the wire, if it has a meaning.
    pub fn from_i8(value: i8) -> Option<Self> {
        match value {
            0 => Some(Self::ReadUncommitted),
            1 => Some(Self::ReadCommitted),
            _ => None,
        }
    }

    /// The byte on the wire.
    pub fn to_i8(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

/// The protocol's error codes. A number and not an enum, because a client is to carry a code that
/// it does not know as faithfully as one that it does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ErrorCode(pub i16);

macro_rules! error_codes {
    ($($(#[$meta:meta])* $name:ident = $code:literal;)*) => {
        impl ErrorCode {
            $($(#[$meta])* pub const $name: Self = Self($code);)*

            /// The code's name, if it is one of those above.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

error_codes! {
    /// A defect of the server's that no other code describes.
    UNKNOWN_SERVER_ERROR = -1;
    /// Success.
    NONE = 0;
    /// The offset is below the log's start or past its end.
    OFFSET_OUT_OF_RANGE = 1;
    /// A batch's checksum, size or header is wrong.
    CORRUPT_MESSAGE = 2;
    /// There is no such topic or no such partition.
    UNKNOWN_TOPIC_OR_PARTITION = 3;
    /// The partition has no leader at the moment.
    LEADER_NOT_AVAILABLE = 5;
    /// This node does not lead the partition.
    NOT_LEADER_OR_FOLLOWER = 6;
    /// The request took longer than it allowed.
    REQUEST_TIMED_OUT = 7;
    /// A batch is larger than the topic allows.
    MESSAGE_TOO_LARGE = 10;
    /// The coordinator is starting, or there is none.
    COORDINATOR_NOT_AVAILABLE = 15;
    /// This node is not the coordinator asked for.
    NOT_COORDINATOR = 16;
    /// The topic's name is not a legal one.
    INVALID_TOPIC_EXCEPTION = 17;
    /// The batches of a partition together are larger than a segment.
    RECORD_LIST_TOO_LARGE = 18;
    /// `acks` is none of -1, 0 and 1.
    INVALID_REQUIRED_ACKS = 21;
    /// The timestamp of a record is out of the allowed range.
    INVALID_TIMESTAMP = 32;
    /// The server does not have this version of the API.
    UNSUPPORTED_VERSION = 35;
    /// A topic of this name exists.
    TOPIC_ALREADY_EXISTS = 36;
    /// The number of partitions is not a legal one.
    INVALID_PARTITIONS = 37;
    /// The replication factor is not one this cluster can have.
    INVALID_REPLICATION_FACTOR = 38;
    /// The assignment of replicas is not one this cluster can have.
    INVALID_REPLICA_ASSIGNMENT = 39;
    /// A configuration's name or value is wrong.
    INVALID_CONFIG = 40;
    /// This node is not the controller.
    NOT_CONTROLLER = 41;
    /// The request contradicts itself.
    INVALID_REQUEST = 42;
    /// The batch is of a message format that cannot do what is asked.
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43;
    /// The operation is against the server's policy.
    POLICY_VIOLATION = 44;
    /// An idempotent producer's sequence number leaves a gap.
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45;
    /// An idempotent producer's batch was appended before.
    DUPLICATE_SEQUENCE_NUMBER = 46;
    /// A producer has used an epoch older than the one the server knows.
    INVALID_PRODUCER_EPOCH = 47;
    /// The transaction timeout is longer than the server allows.
    INVALID_TRANSACTION_TIMEOUT = 50;
    /// A disk failed under the request.
    KAFKA_STORAGE_ERROR = 56;
    /// The server knows nothing of this producer id.
    UNKNOWN_PRODUCER_ID = 59;
    /// There is no fetch session of this id.
    FETCH_SESSION_ID_NOT_FOUND = 70;
    /// The fetch session is at another epoch.
    INVALID_FETCH_SESSION_EPOCH = 71;
    /// The client's leader epoch is older than the server's.
    FENCED_LEADER_EPOCH = 74;
    /// The client's leader epoch is newer than the server's.
    UNKNOWN_LEADER_EPOCH = 75;
    /// The batch is compressed with a codec that the request's version predates.
    UNSUPPORTED_COMPRESSION_TYPE = 76;
    /// A record is not one its topic accepts.
    INVALID_RECORD = 87;
    /// The client is over its quota.
    THROTTLING_QUOTA_EXCEEDED = 89;
    /// There is no topic of this id.
    UNKNOWN_TOPIC_ID = 100;
    /// The topic's id is not the one the server knows it by.
    INCONSISTENT_TOPIC_ID = 103;
}

impl ErrorCode {
    /// Whether this code means failure.
    pub fn is_error(self) -> bool {
        self != Self::NONE
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(formatter, "{name}({})", self.0),
            None => write!(formatter, "ErrorCode({})", self.0),
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}
