//! What clients saw, and what must be true of it.
//!
//! Every record that a bot sends is unique, and sent as a new one once only. So, for each
//! partition:
//! 1. an offset holds one record for ever, whoever looks and whenever (nothing changes);
//! 2. a record has one offset (nothing is there twice, not even when an idempotent producer sent
//!    it again);
//! 3. what is read was sent to that partition (nothing is made up);
//! 4. what was acknowledged, and what was once read, is there in the end (nothing is lost, and
//!    nothing that was shown vanishes);
//! 5. offsets are contiguous from 0;
//! 6. records of one producer stand in the order in which it sent them.
//!
//! The first contradiction panics, in the task that saw it.
//!
//! On a disk that lies about what it has written, a broker may lose what it acknowledged, and give
//! the same offsets to other records. Then only 3 and 5 must be true.

use std::collections::{BTreeMap, BTreeSet};

/// Names a record: who sent it, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordId {
    /// The bot.
    pub producer: u32,
    /// Counts the bot's records in one partition.
    pub sequence: u32,
}

impl RecordId {
    const BYTES: usize = 12;

    /// A record's value: its name, its partition, and a filler that depends on both.
    #[must_use]
    pub fn value(self, partition: i32, filler: usize) -> Vec<u8> {
        let mut value = Vec::with_capacity(Self::BYTES + filler);
        value.extend_from_slice(&self.producer.to_be_bytes());
        value.extend_from_slice(&self.sequence.to_be_bytes());
        value.extend_from_slice(&partition.to_be_bytes());
        value.resize(Self::BYTES + filler, self.filler(partition));
        value
    }

    /// The name of the record with this value, read from this partition.
    ///
    /// # Panics
    /// If no record has such a value.
    #[must_use]
    pub fn parse(partition: i32, value: &[u8]) -> Self {
        let field = |at: usize| -> [u8; 4] {
            let field = value.get(at..at + 4).and_then(|field| field.try_into().ok());
            field.unwrap_or_else(|| panic!("a record of partition {partition} is cut off"))
        };
        let (producer, sequence) = (u32::from_be_bytes(field(0)), u32::from_be_bytes(field(4)));
        let id = Self { producer, sequence };
        let found = i32::from_be_bytes(field(8));
        assert_eq!(found, partition, "{id:?} was sent to {found} and read from {partition}");
        let expected = id.filler(partition);
        assert!(
            value[Self::BYTES..].iter().all(|&byte| byte == expected),
            "the value of {id:?} in partition {partition} was changed"
        );
        id
    }

    const fn filler(self, partition: i32) -> u8 {
        (self.producer.wrapping_mul(31) ^ self.sequence ^ (partition as u32).wrapping_mul(7)) as u8
    }
}

/// What all bots saw of one topic.
#[derive(Debug, Default)]
pub struct History {
    partitions: BTreeMap<i32, PartitionHistory>,
    /// What was acknowledged may be lost.
    pub lossy: bool,
    /// Records that were acknowledged.
    pub acknowledged: u64,
    /// Records that were read, each time they were.
    pub read: u64,
}

#[derive(Debug, Default)]
struct PartitionHistory {
    sent: BTreeSet<RecordId>,
    /// What is known to be there.
    by_offset: BTreeMap<i64, RecordId>,
    offset_of: BTreeMap<RecordId, i64>,
}

impl History {
    /// A bot is about to send a record.
    pub fn sending(&mut self, partition: i32, id: RecordId) {
        let new = self.partitions.entry(partition).or_default().sent.insert(id);
        assert!(new, "bots send each record once as a new one");
    }

    /// A record was acknowledged.
    pub fn acknowledged(&mut self, partition: i32, offset: i64, id: RecordId) {
        self.acknowledged += 1;
        self.seen("acknowledged", partition, offset, id);
    }

    /// A record was read.
    pub fn read(&mut self, partition: i32, offset: i64, id: RecordId) {
        self.read += 1;
        self.seen("read", partition, offset, id);
    }

    /// The offset after the last record that is known to be there.
    #[must_use]
    pub fn known_end(&self, partition: i32) -> i64 {
        let known =
            self.partitions.get(&partition).and_then(|known| known.by_offset.last_key_value());
        known.map_or(0, |(offset, _)| offset + 1)
    }

    fn seen(&mut self, how: &str, partition: i32, offset: i64, id: RecordId) {
        let known = self.partitions.entry(partition).or_default();
        assert!(
            known.sent.contains(&id),
            "{id:?} was {how} at offset {offset} of partition {partition} and never sent there"
        );
        if self.lossy {
            return;
        }
        let there = *known.by_offset.entry(offset).or_insert(id);
        assert_eq!(
            there, id,
            "offset {offset} of partition {partition} held {there:?}, and then {id:?} was {how}"
        );
        let first = *known.offset_of.entry(id).or_insert(offset);
        assert_eq!(
            first, offset,
            "{id:?} is in partition {partition} twice: at offset {first}, and {how} at {offset}"
        );
    }

    /// Checks what is there in the end, in all partitions.
    ///
    /// # Panics
    /// If any of the numbered conditions does not hold.
    pub fn check_end(&mut self, partition: i32, records: &[(i64, RecordId)]) {
        for (expected, (offset, id)) in (0_i64..).zip(records) {
            assert_eq!(*offset, expected, "partition {partition} has a hole before {offset}");
            self.seen("read in the end", partition, *offset, *id);
        }
        let known = self.partitions.entry(partition).or_default();
        if let Some((&offset, id)) = known.by_offset.range(records.len() as i64..).next() {
            panic!(
                "{id:?} was at offset {offset} of partition {partition}, and in the end there are \
                 {} records",
                records.len()
            );
        }
        let mut last: BTreeMap<u32, (RecordId, i64)> = BTreeMap::new();
        for (&id, &offset) in &known.offset_of {
            if let Some((before, offset_before)) = last.insert(id.producer, (id, offset)) {
                assert!(
                    offset_before < offset,
                    "{before:?} was sent before {id:?} and stands after it in partition {partition}"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(sequence: u32) -> RecordId {
        RecordId { producer: 1, sequence }
    }

    fn history() -> History {
        let mut history = History::default();
        (0..3).for_each(|sequence| history.sending(0, id(sequence)));
        history.acknowledged(0, 0, id(0));
        history.read(0, 1, id(1));
        history
    }

    #[test]
    fn a_good_history_passes() {
        history().check_end(0, &[(0, id(0)), (1, id(1)), (2, id(2))]);
        history().check_end(0, &[(0, id(0)), (1, id(1))]);
    }

    #[test]
    #[should_panic(expected = "in the end there are 1 records")]
    fn a_record_that_was_read_may_not_vanish() {
        history().check_end(0, &[(0, id(0))]);
    }

    #[test]
    #[should_panic(expected = "held")]
    fn an_offset_may_not_change() {
        history().read(0, 0, id(2));
    }

    #[test]
    #[should_panic(expected = "twice")]
    fn a_record_may_not_be_there_twice() {
        history().read(0, 2, id(1));
    }

    #[test]
    #[should_panic(expected = "never sent")]
    fn a_record_may_not_be_made_up() {
        history().read(0, 2, id(9));
    }

    #[test]
    #[should_panic(expected = "hole")]
    fn offsets_are_contiguous() {
        history().check_end(0, &[(0, id(0)), (2, id(1))]);
    }

    #[test]
    #[should_panic(expected = "stands after it")]
    fn a_producers_records_keep_their_order() {
        let mut history = History::default();
        (0..2).for_each(|sequence| history.sending(0, id(sequence)));
        history.check_end(0, &[(0, id(1)), (1, id(0))]);
    }

    #[test]
    fn values_name_their_records() {
        let id = RecordId { producer: 3, sequence: 77 };
        assert_eq!(RecordId::parse(5, &id.value(5, 100)), id);
    }
}
