//! What clients saw, and what must be true of it.
//!
//! Every record that a bot sends is unique, and sent as a new one once only. So, for each
//! partition:
//! 1. an offset holds one record for ever, whoever looks and whenever (nothing changes);
//! 2. a record has one offset (nothing is there twice, not even when an idempotent producer sent
//!    it again);
//! 3. what is read was sent to that partition, and not refused (nothing is made up);
//! 4. what was acknowledged, and what was once read, is there in the end (nothing is lost, and
//!    nothing that was shown vanishes);
//! 5. offsets are contiguous from 0;
//! 6. records of one producer stand in the order in which it sent them.
//!
//! The first contradiction is given to the bot that saw it, which reports it: a world ends as early
//! as it can. All the same everything is written down for the simulator's checker of
//! [logs](woodchuck_sim::check::log) too, which knows more: it follows each client from poll to
//! poll, and batches as wholes. It judges in the end, and it is what says that nothing acknowledged
//! was lost.
//!
//! On a disk that lies about what it has written, a broker may lose what it acknowledged, and give
//! the same offsets to other records. Then only 3 and 5 must be true.

use std::collections::{BTreeMap, BTreeSet};

use woodchuck_sim::check::Verdict;
use woodchuck_sim::check::log::{self, Kind, Sending};

/// Something that must not be, and is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// The property that does not hold: the name of an anomaly, if it is one.
    pub property: &'static str,
    /// What was seen, with the numbers.
    pub what: String,
}

/// Requires that `holds`, and else contradicts `property`.
///
/// # Errors
/// If it does not hold.
pub fn require(
    property: &'static str,
    holds: bool,
    what: impl FnOnce() -> String,
) -> Result<(), Contradiction> {
    if holds { Ok(()) } else { Err(Contradiction { property, what: what() }) }
}

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
    /// # Errors
    /// If no record has such a value.
    pub fn parse(partition: i32, value: &[u8]) -> Result<Self, Contradiction> {
        let field = |at: usize| -> Option<[u8; 4]> { value.get(at..at + 4)?.try_into().ok() };
        let (Some(producer), Some(sequence), Some(found)) = (field(0), field(4), field(8)) else {
            let what = format!("a record of partition {partition} is cut off");
            return Err(Contradiction { property: "changed-content", what });
        };
        let (producer, sequence) = (u32::from_be_bytes(producer), u32::from_be_bytes(sequence));
        let (id, found) = (Self { producer, sequence }, i32::from_be_bytes(found));
        require("phantom", found == partition, || {
            format!("{id:?} was sent to partition {found} and read from {partition}")
        })?;
        let expected = id.filler(partition);
        let unchanged = value[Self::BYTES..].iter().all(|&byte| byte == expected);
        require("changed-content", unchanged, || {
            format!("the value of {id:?} in partition {partition} was changed")
        })?;
        Ok(id)
    }

    const fn filler(self, partition: i32) -> u8 {
        (self.producer.wrapping_mul(31) ^ self.sequence ^ (partition as u32).wrapping_mul(7)) as u8
    }
}

/// What all bots saw of one topic. Times are nanoseconds of the clients' monotonic clock.
#[derive(Debug, Default)]
pub struct History {
    partitions: BTreeMap<i32, PartitionHistory>,
    log: log::History<i32, RecordId>,
    /// What was acknowledged may be lost.
    lossy: bool,
    /// Records that were acknowledged.
    pub acknowledged: u64,
    /// Records that were read, each time they were.
    pub read: u64,
}

#[derive(Debug, Default)]
struct PartitionHistory {
    /// What was sent, with its timestamps.
    sent: BTreeMap<RecordId, i64>,
    /// What was sent in a way that the broker has to refuse.
    refused: BTreeSet<RecordId>,
    /// What is known to be there.
    by_offset: BTreeMap<i64, RecordId>,
    offset_of: BTreeMap<RecordId, i64>,
}

impl History {
    /// From now on what was acknowledged may be lost. Said before anything is sent.
    pub fn allow_loss(&mut self) {
        self.lossy = true;
        let still_holds = [Kind::Phantom, Kind::AbortedRead];
        let allowed = Kind::ALL.into_iter().filter(|kind| !still_holds.contains(kind));
        allowed.for_each(|kind| self.log.allow(kind));
    }

    /// A client is about to send a batch, as the records' names with their timestamps. Sending the
    /// same batch again is the same sending.
    pub fn sending(
        &mut self,
        client: u32,
        at: u64,
        partition: i32,
        records: &[(RecordId, i64)],
    ) -> Sending {
        let known = self.partitions.entry(partition).or_default();
        for &(id, timestamp) in records {
            let new = known.sent.insert(id, timestamp).is_none();
            assert!(new, "bots send each record once as a new one");
        }
        let ids = records.iter().map(|&(id, _)| (partition, id));
        self.log.send_together(client.into(), at, ids)
    }

    /// A client is about to send a record that the broker has to refuse.
    pub fn sending_unlawful(&mut self, client: u32, at: u64, partition: i32, id: RecordId) {
        let new = self.partitions.entry(partition).or_default().refused.insert(id);
        assert!(new, "bots send each record once as a new one");
        let sending = self.log.send(client.into(), at, partition, id);
        self.log.failed(sending, at);
    }

    /// A batch was acknowledged: its first record is at this offset.
    ///
    /// # Errors
    /// If that contradicts what was seen before.
    pub fn acknowledged(
        &mut self,
        sending: Sending,
        at: u64,
        (partition, first): (i32, i64),
        ids: &[RecordId],
    ) -> Result<(), Contradiction> {
        self.acknowledged += ids.len() as u64;
        self.log.acknowledged(sending, at, (first as u64..).take(ids.len()).map(Some));
        for (offset, &id) in (first..).zip(ids) {
            self.seen("acknowledged", partition, offset, id)?;
        }
        Ok(())
    }

    /// A batch must be stored, and nobody was told where.
    pub fn stored(&mut self, sending: Sending, at: u64) {
        self.log.acknowledged(sending, at, []);
    }

    /// A client read these records, as partition, offset and name.
    ///
    /// # Errors
    /// If that contradicts what was seen before.
    pub fn polled(
        &mut self,
        client: u32,
        at: u64,
        records: &[(i32, i64, RecordId)],
    ) -> Result<(), Contradiction> {
        self.read += records.len() as u64;
        let polled = records.iter().map(|&(partition, offset, id)| (partition, offset as u64, id));
        self.log.poll(client.into(), at, polled);
        for &(partition, offset, id) in records {
            self.seen("read", partition, offset, id)?;
        }
        Ok(())
    }

    /// A client goes on somewhere else in a partition.
    pub fn moved(&mut self, client: u32, partition: i32) {
        self.log.moved(client.into(), [partition]);
    }

    /// The offset after the last record that is known to be there.
    #[must_use]
    pub fn known_end(&self, partition: i32) -> i64 {
        let known =
            self.partitions.get(&partition).and_then(|known| known.by_offset.last_key_value());
        known.map_or(0, |(offset, _)| offset + 1)
    }

    /// The timestamp of the record that is known to be at this offset.
    #[must_use]
    pub fn timestamp_at(&self, partition: i32, offset: i64) -> Option<i64> {
        let known = self.partitions.get(&partition)?;
        known.sent.get(known.by_offset.get(&offset)?).copied()
    }

    /// The first offset that is known to hold a record of this time or a later one.
    #[must_use]
    pub fn first_since(&self, partition: i32, timestamp: i64) -> Option<i64> {
        let known = self.partitions.get(&partition)?;
        let late = |id| known.sent.get(id).is_some_and(|&sent| sent >= timestamp);
        known.by_offset.iter().find(|(_, id)| late(id)).map(|(&offset, _)| offset)
    }

    fn seen(
        &mut self,
        how: &str,
        partition: i32,
        offset: i64,
        id: RecordId,
    ) -> Result<(), Contradiction> {
        let known = self.partitions.entry(partition).or_default();
        require("aborted-read", !known.refused.contains(&id), || {
            format!("{id:?}, to be refused, was {how} at offset {offset} of partition {partition}")
        })?;
        require("phantom", known.sent.contains_key(&id), || {
            format!("{id:?} was {how} at offset {offset} of partition {partition}, and never sent")
        })?;
        if self.lossy {
            return Ok(());
        }
        let there = *known.by_offset.entry(offset).or_insert(id);
        require("inconsistent-offsets", there == id, || {
            format!(
                "offset {offset} of partition {partition} held {there:?}, and then {id:?} was {how}"
            )
        })?;
        let first = *known.offset_of.entry(id).or_insert(offset);
        require("duplicate", first == offset, || {
            format!(
                "{id:?} is in partition {partition} twice: at offset {first}, and {how} at {offset}"
            )
        })
    }

    /// Checks what is there in the end, in one partition, as offsets and names.
    ///
    /// # Errors
    /// If any of the numbered conditions does not hold.
    pub fn check_end(
        &mut self,
        at: u64,
        partition: i32,
        records: &[(i64, RecordId)],
    ) -> Result<(), Contradiction> {
        let read = records.iter().map(|&(offset, id)| (offset as u64, id));
        self.log.final_read(partition, at, 0, read);
        for (expected, (offset, id)) in (0_i64..).zip(records) {
            require("contiguous-offsets", *offset == expected, || {
                format!("partition {partition} has a hole before offset {offset}")
            })?;
            self.seen("read in the end", partition, *offset, *id)?;
        }
        let known = self.partitions.entry(partition).or_default();
        if let Some((&offset, id)) = known.by_offset.range(records.len() as i64..).next() {
            let what = format!(
                "{id:?} was at offset {offset} of partition {partition}, and in the end there are \
                 {} records",
                records.len()
            );
            return Err(Contradiction { property: "unseen", what });
        }
        let mut last: BTreeMap<u32, (RecordId, i64)> = BTreeMap::new();
        for (&id, &offset) in &known.offset_of {
            if let Some((before, offset_before)) = last.insert(id.producer, (id, offset)) {
                require("nonmonotonic-send", offset_before < offset, || {
                    format!(
                        "{before:?} was sent before {id:?} and stands after it in partition \
                         {partition}"
                    )
                })?;
            }
        }
        Ok(())
    }

    /// Judges all that was written down, once everything was read.
    pub fn judge(&self) -> Verdict {
        self.log.judge()
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
        let sending = history.sending(1, 10, 0, &[(id(0), 100)]);
        history.sending(1, 11, 0, &[(id(1), 120), (id(2), 110)]);
        history.sending_unlawful(1, 12, 0, id(7));
        history.acknowledged(sending, 20, (0, 0), &[id(0)]).expect("nothing was there");
        history.polled(2, 30, &[(0, 1, id(1))]).expect("it was sent");
        history
    }

    fn contradicts(outcome: Result<(), Contradiction>, property: &str) {
        assert_eq!(outcome.expect_err("it must contradict").property, property);
    }

    #[test]
    fn a_good_history_passes() {
        let mut history = history();
        let whole = [(0, id(0)), (1, id(1)), (2, id(2))];
        assert_eq!(history.check_end(40, 0, &whole), Ok(()));
        assert!(history.judge().holds());
    }

    #[test]
    fn what_was_sent_together_is_there_together() {
        let mut history = history();
        assert_eq!(history.check_end(40, 0, &[(0, id(0)), (1, id(1))]), Ok(()));
        assert!(history.judge().kinds().contains_key("unseen"));
    }

    #[test]
    fn a_record_that_was_read_may_not_vanish() {
        let mut history = history();
        contradicts(history.check_end(40, 0, &[(0, id(0))]), "unseen");
        assert!(history.judge().kinds().contains_key("unseen"));
    }

    #[test]
    fn a_record_that_was_stored_may_not_vanish() {
        let mut history = history();
        let sending = history.sending(1, 31, 0, &[(id(3), 0)]);
        history.stored(sending, 32);
        let whole = [(0, id(0)), (1, id(1)), (2, id(2))];
        assert_eq!(history.check_end(40, 0, &whole), Ok(()));
        assert!(history.judge().kinds().contains_key("unseen"));
    }

    #[test]
    fn an_offset_may_not_change() {
        contradicts(history().polled(2, 31, &[(0, 0, id(2))]), "inconsistent-offsets");
    }

    #[test]
    fn a_record_may_not_be_there_twice() {
        contradicts(history().polled(2, 31, &[(0, 2, id(1))]), "duplicate");
    }

    #[test]
    fn a_record_may_not_be_made_up() {
        contradicts(history().polled(2, 31, &[(0, 2, id(9))]), "phantom");
        contradicts(history().polled(2, 31, &[(0, 2, id(7))]), "aborted-read");
    }

    #[test]
    fn offsets_are_contiguous() {
        contradicts(history().check_end(40, 0, &[(0, id(0)), (2, id(1))]), "contiguous-offsets");
    }

    #[test]
    fn a_producers_records_keep_their_order() {
        let mut history = History::default();
        history.sending(1, 10, 0, &[(id(0), 0), (id(1), 0)]);
        contradicts(history.check_end(40, 0, &[(0, id(1)), (1, id(0))]), "nonmonotonic-send");
    }

    #[test]
    fn a_consumer_may_not_miss_a_record() {
        let mut history = history();
        history.polled(2, 31, &[(0, 2, id(2))]).expect("it was sent");
        history.moved(2, 0);
        history.polled(2, 32, &[(0, 0, id(0))]).expect("it is there");
        history.polled(2, 33, &[(0, 2, id(2))]).expect("it is there");
        assert!(history.judge().kinds().contains_key("poll-skip"));
    }

    #[test]
    fn where_loss_is_allowed_nothing_may_be_made_up() {
        let mut history = History::default();
        history.allow_loss();
        let sending = history.sending(1, 10, 0, &[(id(0), 0)]);
        history.acknowledged(sending, 20, (0, 0), &[id(0)]).expect("nothing was there");
        assert_eq!(history.check_end(40, 0, &[]), Ok(()));
        assert!(!history.judge().is_violated());
        contradicts(history.check_end(41, 0, &[(0, id(9))]), "phantom");
        assert!(history.judge().kinds().contains_key("phantom"));
    }

    #[test]
    fn times_are_found() {
        let history = history();
        assert_eq!(history.first_since(0, 100), Some(0));
        assert_eq!(history.first_since(0, 101), Some(1));
        assert_eq!(history.first_since(0, 121), None);
        assert_eq!(history.timestamp_at(0, 1), Some(120));
        assert_eq!(history.timestamp_at(0, 2), None, "nobody has seen it");
    }

    #[test]
    fn values_name_their_records() {
        let id = RecordId { producer: 3, sequence: 77 };
        let value = id.value(5, 100);
        assert_eq!(RecordId::parse(5, &value), Ok(id));
        contradicts(RecordId::parse(6, &value).map(drop), "phantom");
        contradicts(RecordId::parse(5, &value[..11]).map(drop), "changed-content");
        let mut changed = value;
        changed[50] ^= 1;
        contradicts(RecordId::parse(5, &changed).map(drop), "changed-content");
    }
}
