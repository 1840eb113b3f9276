//! Why bytes could not be understood.
//!
//! Every error names the field that was being read, where in the frame it stood and what was wrong
//! with it, because the reader of the log line has the client's bytes at best and our code never.

use std::fmt;

/// A frame (or a part of one) that does not follow the published schema.
///
/// The connection it came from cannot be trusted to be at a frame's boundary any more in the
/// sender's mind: the caller answers nothing and closes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtocolError {
    /// The field that was being read, by its name in the published schema.
    pub field: &'static str,
    /// Where the field starts, in bytes from the start of the frame (after the length prefix).
    pub offset_bytes: usize,
    /// What was wrong.
    pub fault: Fault,
}

/// What was wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The frame, or the tagged field that encloses this one, ends inside the field.
    Truncated {
        /// How many bytes the field needs.
        needed_bytes: usize,
        /// How many were left.
        remaining_bytes: usize,
    },
    /// A length or a count below the one that stands for null.
    Negative {
        /// What the frame said.
        length: i32,
    },
    /// A null where the schema allows none.
    Null,
    /// A string longer than the protocol allows in any encoding.
    StringTooLong {
        /// What the frame said.
        length_bytes: usize,
        /// The longest allowed.
        limit_bytes: usize,
    },
    /// A count of elements that the bytes left cannot hold at one byte each.
    CountExceedsFrame {
        /// What the frame said.
        count: usize,
        /// How many bytes were left.
        remaining_bytes: usize,
    },
    /// More elements, over all arrays of the frame, than one frame may carry.
    TooManyElements {
        /// The most that all arrays of one frame may hold together.
        limit: usize,
    },
    /// A variable-length integer that does not fit 32 bits.
    VarintOverflow,
    /// A string that is not UTF-8.
    NotUtf8,
    /// A number outside the set the schema names.
    UnknownValue {
        /// What the frame said.
        value: i64,
    },
    /// Bytes left over after the last field.
    TrailingBytes {
        /// How many.
        count: usize,
    },
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "field {} at byte {}: ", self.field, self.offset_bytes)?;
        match &self.fault {
            Fault::Truncated { needed_bytes, remaining_bytes } => {
                write!(formatter, "needs {needed_bytes} bytes but {remaining_bytes} are left")
            }
            Fault::Negative { length } => write!(formatter, "has the negative length {length}"),
            Fault::Null => write!(formatter, "is null, which this version does not allow"),
            Fault::StringTooLong { length_bytes, limit_bytes } => write!(
                formatter,
                "is a string of {length_bytes} bytes, longer than the {limit_bytes} allowed"
            ),
            Fault::CountExceedsFrame { count, remaining_bytes } => write!(
                formatter,
                "claims {count} elements but only {remaining_bytes} bytes are left"
            ),
            Fault::TooManyElements { limit } => write!(
                formatter,
                "brings the frame's arrays to more than {limit} elements together"
            ),
            Fault::VarintOverflow => {
                write!(formatter, "is a variable-length integer that does not fit 32 bits")
            }
            Fault::NotUtf8 => write!(formatter, "is not valid UTF-8"),
            Fault::UnknownValue { value } => {
                write!(formatter, "has the value {value}, which has no meaning")
            }
            Fault::TrailingBytes { count } => {
                write!(formatter, "is where the message ends, but {count} bytes follow")
            }
        }
    }
}

impl std::error::Error for ProtocolError {}
