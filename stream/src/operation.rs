//! What a shard writes into its log about its streams.
//!
//! A commit of the log holds one operation, so that what is durable together is applied together:
//!
//! ```text
//! offset size field
//!      0    1 kind: 1 append, 2 create topic, 3 delete topic, 4 topics snapshot
//!      1    3 zero
//!
//! append           4   16 topic id
//!                 20    4 partition
//!                 24    . one record batch, its base offset stamped, to the end of the commit
//! create topic     4    . one topic
//! delete topic     4   16 topic id
//! topics snapshot  4    4 count
//!                  8    . that many topics
//!
//! topic            0   16 topic id
//!                 16    4 partitions
//!                 20    4 shard of partition 0
//!                 24    2 length of the name
//!                 26    . name
//! ```
//! Numbers are little-endian, but for those inside a batch, which is Kafka's.
//!
//! Topic operations stand in the log of shard 0 alone. A snapshot replaces all that was said of
//! topics before it, so that the log may be trimmed up to it.
//!
//! These bytes come from disk with their checksums verified, but they may have been written by
//! another version: everything is checked, and what cannot be read stops the recovery.

use std::fmt;

use bytes::{Buf, BufMut, Bytes};

use crate::limits::TOPIC_PARTITIONS;
use crate::{PartitionId, Topic, TopicId, TopicName};

/// Bytes of an append operation before its batch.
pub const APPEND_HEADER_BYTES: usize = 24;

const KIND_APPEND: u8 = 1;
const KIND_CREATE_TOPIC: u8 = 2;
const KIND_DELETE_TOPIC: u8 = 3;
const KIND_TOPICS_SNAPSHOT: u8 = 4;
const KIND_BYTES: usize = 4;

/// One operation, as it is read back from the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A batch was appended to a partition.
    Append {
        /// The partition.
        partition: PartitionId,
        /// The batch, stamped; not parsed.
        batch: Bytes,
    },
    /// A topic was created.
    CreateTopic(Topic),
    /// A topic was deleted.
    DeleteTopic(TopicId),
    /// All topics there are.
    TopicsSnapshot(Vec<Topic>),
}

/// Why a commit of the log is not an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationError(String);

impl fmt::Display for OperationError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}; it may have been written by a newer version of Woodchuck", self.0)
    }
}

impl std::error::Error for OperationError {}

/// The bytes of an append operation before its batch.
#[must_use]
pub fn append_header(partition: PartitionId) -> [u8; APPEND_HEADER_BYTES] {
    let mut header = [0; APPEND_HEADER_BYTES];
    header[0] = KIND_APPEND;
    header[4..20].copy_from_slice(&partition.topic.0.to_le_bytes());
    header[20..24].copy_from_slice(&partition.index.to_le_bytes());
    header
}

/// A create-topic operation.
#[must_use]
pub fn create_topic(topic: &Topic) -> Vec<u8> {
    let mut bytes = vec![KIND_CREATE_TOPIC, 0, 0, 0];
    put_topic(&mut bytes, topic);
    bytes
}

/// A delete-topic operation.
#[must_use]
pub fn delete_topic(id: TopicId) -> Vec<u8> {
    let mut bytes = vec![KIND_DELETE_TOPIC, 0, 0, 0];
    bytes.put_u128_le(id.0);
    bytes
}

/// A topics-snapshot operation.
#[must_use]
pub fn topics_snapshot<'a>(topics: impl Iterator<Item = &'a Topic>) -> Vec<u8> {
    let mut bytes = vec![KIND_TOPICS_SNAPSHOT, 0, 0, 0, 0, 0, 0, 0];
    let mut count = 0_u32;
    for topic in topics {
        put_topic(&mut bytes, topic);
        count += 1;
    }
    bytes[KIND_BYTES..KIND_BYTES + 4].copy_from_slice(&count.to_le_bytes());
    bytes
}

fn put_topic(bytes: &mut Vec<u8>, topic: &Topic) {
    let name = topic.name.as_str();
    bytes.put_u128_le(topic.id.0);
    bytes.put_u32_le(topic.partitions);
    bytes.put_u32_le(topic.first_shard);
    bytes.put_u16_le(name.len() as u16); // at most TOPIC_NAME_BYTES
    bytes.put_slice(name.as_bytes());
}

/// Reads a commit back.
///
/// # Errors
/// If the bytes are not one operation that this version knows.
pub fn decode(mut commit: Bytes) -> Result<Operation, OperationError> {
    if commit.len() < KIND_BYTES {
        return Err(error(format!("a commit of {} bytes holds no operation", commit.len())));
    }
    let kind = commit.get_u8();
    commit.advance(KIND_BYTES - 1);
    let operation = match kind {
        KIND_APPEND => {
            need(&commit, 20, "an append")?;
            let topic = TopicId(commit.get_u128_le());
            let partition = PartitionId { topic, index: commit.get_u32_le() };
            return Ok(Operation::Append { partition, batch: commit });
        }
        KIND_CREATE_TOPIC => Operation::CreateTopic(get_topic(&mut commit)?),
        KIND_DELETE_TOPIC => {
            need(&commit, 16, "a topic deletion")?;
            Operation::DeleteTopic(TopicId(commit.get_u128_le()))
        }
        KIND_TOPICS_SNAPSHOT => {
            need(&commit, 4, "a topics snapshot")?;
            let count = commit.get_u32_le();
            let mut topics = Vec::new();
            for _ in 0..count {
                topics.push(get_topic(&mut commit)?);
            }
            Operation::TopicsSnapshot(topics)
        }
        unknown => return Err(error(format!("operation kind {unknown} is unknown"))),
    };
    if commit.is_empty() {
        Ok(operation)
    } else {
        Err(error(format!("{} bytes follow an operation of kind {kind}", commit.len())))
    }
}

fn get_topic(bytes: &mut Bytes) -> Result<Topic, OperationError> {
    need(bytes, 26, "a topic")?;
    let id = TopicId(bytes.get_u128_le());
    let partitions = bytes.get_u32_le();
    let first_shard = bytes.get_u32_le();
    let name_length = usize::from(bytes.get_u16_le());
    need(bytes, name_length, "a topic's name")?;
    let name = bytes.split_to(name_length);
    if !(1..=TOPIC_PARTITIONS).contains(&partitions) {
        return Err(error(format!("topic {id:?} has {partitions} partitions")));
    }
    let name = std::str::from_utf8(&name)
        .ok()
        .and_then(|name| TopicName::new(name).ok())
        .ok_or_else(|| error(format!("topic {id:?} has a name that no topic can have")))?;
    Ok(Topic { id, name, partitions, first_shard })
}

fn need(bytes: &Bytes, length: usize, what: &str) -> Result<(), OperationError> {
    if bytes.len() < length {
        return Err(error(format!("{what} needs {length} bytes and {} are left", bytes.len())));
    }
    Ok(())
}

fn error(message: String) -> OperationError {
    OperationError(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(id: u128, name: &str) -> Topic {
        let name = TopicName::new(name).expect("a good name");
        Topic { id: TopicId(id), name, partitions: 12, first_shard: 3 }
    }

    fn examples() -> Vec<(Vec<u8>, Operation)> {
        let partition = PartitionId { topic: TopicId(9), index: 7 };
        let mut append = append_header(partition).to_vec();
        append.extend_from_slice(b"batch");
        let topics = vec![topic(1, "a"), topic(2, "bb")];
        vec![
            (append, Operation::Append { partition, batch: Bytes::from_static(b"batch") }),
            (create_topic(&topics[0]), Operation::CreateTopic(topics[0].clone())),
            (delete_topic(TopicId(5)), Operation::DeleteTopic(TopicId(5))),
            (topics_snapshot(topics.iter()), Operation::TopicsSnapshot(topics.clone())),
        ]
    }

    #[test]
    fn operations_come_back_as_they_were() {
        for (bytes, operation) in examples() {
            assert_eq!(decode(bytes.into()), Ok(operation));
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_diagram() {
        let bytes = create_topic(&topic(0x0102, "ab"));
        let mut expected = vec![2, 0, 0, 0, 2, 1];
        expected.extend_from_slice(&[0; 14]);
        expected.extend_from_slice(&[12, 0, 0, 0, 3, 0, 0, 0, 2, 0, b'a', b'b']);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn no_bytes_make_it_panic_and_cut_ones_are_refused() {
        for (bytes, _) in examples().into_iter().skip(1) {
            for length in 0..bytes.len() {
                assert!(decode(bytes[..length].to_vec().into()).is_err());
            }
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[at] = 0xFF;
                let _ = decode(changed.into());
            }
        }
        assert!(decode(Bytes::from_static(&[9, 0, 0, 0])).is_err());
    }
}
