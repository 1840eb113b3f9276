//! One partition: its offsets, where its batches are, and what its producers sent last.
//!
//! Offsets are handed out when a batch takes its place in the log's order ([`Partition::reserve`]),
//! and become visible when the log says that the batch is durable ([`Partition::apply`]). Both
//! happen in the same order, so what is visible is always a prefix without holes.
//!
//! **Idempotent producers.** A producer numbers its records, and sends a batch again when it heard
//! nothing. For each producer the last five batches are remembered: a batch that is one of them is
//! answered with the offset it got the first time; one that does not follow the last is refused.
//! The state is a function of the batches in order, so recovery rebuilds it by applying them.
//! Source: Kafka's KIP-98 and its rule of five requests in flight.

use std::collections::{BTreeMap, VecDeque};

use woodchuck_wal::{Location, Lsn};

use crate::{Batch, Offset, PartitionId};

/// Batches remembered for each producer: as many as a producer may have in flight.
const PRODUCER_BATCHES: usize = 5;

/// Producers remembered for each partition. The one that has been silent longest is forgotten
/// first; if it comes back it is taken as a new one.
const PRODUCERS: usize = 4096;

/// Where one batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPlace {
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The offset of its last record.
    pub last_offset: Offset,
    /// The largest timestamp in it, in milliseconds since 1970.
    pub max_timestamp: i64,
    /// The frame of the log it is in.
    pub lsn: Lsn,
    /// Its bytes in the log.
    pub location: Location,
}

/// A record's offset and timestamp, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetAndTimestamp {
    /// The offset.
    pub offset: Offset,
    /// The timestamp.
    pub timestamp: i64,
}

/// What became of a batch that asked for offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// It is new; its first record gets this offset.
    New {
        /// The offset.
        base_offset: Offset,
    },
    /// It was sent before, and got these offsets, which may not be durable yet.
    Duplicate {
        /// The offset of its first record.
        base_offset: Offset,
        /// The offset of its last record.
        last_offset: Offset,
    },
    /// Its producer's numbering has a gap: an earlier batch is missing.
    OutOfOrder {
        /// The sequence number that was due.
        expected: i32,
        /// The one it bears.
        found: i32,
    },
    /// A newer instance of its producer has taken over.
    Fenced,
}

/// What a read of a partition finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadPlan {
    /// The batches to read, in order; the first holds the offset that was asked for.
    pub batches: Vec<BatchPlace>,
    /// The first offset of the partition.
    pub start: Offset,
    /// The offset after the last visible one.
    pub end: Offset,
}

/// The numbering of one producer.
#[derive(Clone, Debug)]
struct Producer {
    epoch: i16,
    /// The newest batches, oldest first; at most [`PRODUCER_BATCHES`], never empty.
    batches: VecDeque<ProducerBatch>,
    /// When it was last heard of, in reservations of the partition.
    last_use: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ProducerBatch {
    base_sequence: i32,
    last_sequence: i32,
    base_offset: Offset,
    last_offset: Offset,
}

/// A partition's state.
#[derive(Debug)]
pub struct Partition {
    id: PartitionId,
    start: Offset,
    /// Everything below is durable and visible. If it were moved before the log says so, a reader
    /// could see a record that a crash then takes away.
    end: Offset,
    /// The next offset to hand out; at least `end`.
    reserved: Offset,
    /// The visible batches in order, without holes from `start` to `end`.
    batches: VecDeque<BatchPlace>,
    producers: BTreeMap<i64, Producer>,
    reservations: u64,
}

impl Partition {
    /// An empty partition.
    #[must_use]
    pub const fn new(id: PartitionId) -> Self {
        Self::starting_at(id, 0)
    }

    /// An empty partition whose first record will get the offset `start`: for one whose beginning
    /// has been trimmed from the log.
    #[must_use]
    pub const fn starting_at(id: PartitionId, start: Offset) -> Self {
        Self {
            id,
            start,
            end: start,
            reserved: start,
            batches: VecDeque::new(),
            producers: BTreeMap::new(),
            reservations: 0,
        }
    }

    /// Which partition it is.
    #[must_use]
    pub const fn id(&self) -> PartitionId {
        self.id
    }

    /// The first offset.
    #[must_use]
    pub const fn start(&self) -> Offset {
        self.start
    }

    /// The offset after the last visible record.
    #[must_use]
    pub const fn end(&self) -> Offset {
        self.end
    }

    /// The oldest frame of the log that this partition still needs.
    #[must_use]
    pub fn oldest_lsn(&self) -> Option<Lsn> {
        self.batches.front().map(|place| place.lsn)
    }

    /// Hands out offsets to a batch that is about to take its place in the log. Whoever reserves
    /// must either apply the batch or [`cancel`](Self::cancel) before reserving again.
    pub fn reserve(&mut self, batch: &Batch) -> Reservation {
        let base_offset = self.reserved;
        let last_offset = base_offset + i64::from(batch.last_offset_delta());
        if let Some(refused) = self.check_sequence(batch) {
            return refused;
        }
        self.remember(batch, base_offset);
        self.reserved = last_offset + 1;
        Reservation::New { base_offset }
    }

    /// Takes back the newest reservation, for a batch that got no place in the log.
    ///
    /// # Panics
    /// If `base_offset` is not that of the newest reservation.
    pub fn cancel(&mut self, batch: &Batch, base_offset: Offset) {
        assert_eq!(
            self.reserved,
            base_offset + i64::from(batch.last_offset_delta()) + 1,
            "only the newest reservation can be taken back"
        );
        self.reserved = base_offset;
        let Some((producer_id, _)) = batch.producer() else { return };
        let Some(producer) = self.producers.get_mut(&producer_id) else { return };
        producer.batches.pop_back();
        if producer.batches.is_empty() {
            self.producers.remove(&producer_id);
        }
    }

    /// Makes a durable batch visible.
    ///
    /// # Panics
    /// If it does not follow the last one: the log gives batches back in the order they took.
    pub fn apply(&mut self, place: BatchPlace) {
        assert_eq!(place.base_offset, self.end, "batches become visible in order, without holes");
        assert!(place.last_offset < self.reserved, "only reserved offsets become visible");
        self.end = place.last_offset + 1;
        self.batches.push_back(place);
    }

    /// Applies a batch that recovery read from the log.
    ///
    /// # Errors
    /// If it does not follow the last one: then the log is not the one that was written.
    pub fn recover(&mut self, batch: &Batch, place: BatchPlace) -> Result<(), String> {
        if place.base_offset != self.end || self.reserved != self.end {
            return Err(format!(
                "partition {} of topic {:?} continues at offset {} where {} was due",
                self.id.index, self.id.topic, place.base_offset, self.end
            ));
        }
        self.remember(batch, place.base_offset);
        self.reserved = place.last_offset + 1;
        self.apply(place);
        Ok(())
    }

    /// Where the batches from `offset` on are: the one that holds it, whatever its size, and those
    /// that follow while all together have at most `max_bytes`. `None` if the partition has no such
    /// offset; the end itself gives an empty plan.
    #[must_use]
    pub fn plan_read(&self, offset: Offset, max_bytes: usize) -> Option<ReadPlan> {
        if !(self.start..=self.end).contains(&offset) {
            return None;
        }
        let first = self.batches.partition_point(|place| place.last_offset < offset);
        let mut plan = ReadPlan { batches: Vec::new(), start: self.start, end: self.end };
        let mut bytes = 0_usize;
        for place in self.batches.range(first..) {
            bytes += place.location.length as usize;
            if bytes > max_bytes && !plan.batches.is_empty() {
                break;
            }
            plan.batches.push(*place);
        }
        Some(plan)
    }

    /// How many bytes a read from `offset` would find, counted up to the batch that reaches
    /// `enough`. `None` if the partition has no such offset.
    #[must_use]
    pub fn readable_bytes(&self, offset: Offset, enough: usize) -> Option<usize> {
        if !(self.start..=self.end).contains(&offset) {
            return None;
        }
        let first = self.batches.partition_point(|place| place.last_offset < offset);
        let mut bytes = 0;
        for place in self.batches.range(first..) {
            if bytes >= enough {
                break;
            }
            bytes += place.location.length as usize;
        }
        Some(bytes)
    }

    /// The first batch that holds a timestamp at or above `timestamp`.
    #[must_use]
    pub fn find_timestamp(&self, timestamp: i64) -> Option<BatchPlace> {
        self.batches.iter().find(|place| place.max_timestamp >= timestamp).copied()
    }

    /// The first batch of those with the largest timestamp.
    #[must_use]
    pub fn max_timestamp(&self) -> Option<BatchPlace> {
        let largest = self.batches.iter().map(|place| place.max_timestamp).max()?;
        self.find_timestamp(largest)
    }

    /// Whether a batch's sequence numbers keep it from being taken as a new one, and how.
    fn check_sequence(&self, batch: &Batch) -> Option<Reservation> {
        let (producer_id, epoch) = batch.producer()?;
        let producer = self.producers.get(&producer_id)?;
        let newest = producer.batches.back()?;
        let found = batch.base_sequence();
        if epoch < producer.epoch {
            return Some(Reservation::Fenced);
        }
        if epoch > producer.epoch {
            let in_order = found == 0;
            return (!in_order).then_some(Reservation::OutOfOrder { expected: 0, found });
        }
        let last_sequence = sequence_after(found, batch.last_offset_delta());
        let same = |sent: &&ProducerBatch| {
            (sent.base_sequence, sent.last_sequence) == (found, last_sequence)
        };
        if let Some(sent) = producer.batches.iter().find(same) {
            let ProducerBatch { base_offset, last_offset, .. } = *sent;
            return Some(Reservation::Duplicate { base_offset, last_offset });
        }
        let expected = sequence_after(newest.last_sequence, 1);
        (found != expected).then_some(Reservation::OutOfOrder { expected, found })
    }

    /// Remembers a batch as the newest of its producer.
    fn remember(&mut self, batch: &Batch, base_offset: Offset) {
        self.reservations += 1;
        let Some((producer_id, epoch)) = batch.producer() else { return };
        let producer = self.producers.entry(producer_id).or_insert_with(|| Producer {
            epoch,
            batches: VecDeque::new(),
            last_use: 0,
        });
        if producer.epoch != epoch {
            producer.epoch = epoch;
            producer.batches.clear();
        }
        producer.last_use = self.reservations;
        producer.batches.push_back(ProducerBatch {
            base_sequence: batch.base_sequence(),
            last_sequence: sequence_after(batch.base_sequence(), batch.last_offset_delta()),
            base_offset,
            last_offset: base_offset + i64::from(batch.last_offset_delta()),
        });
        if producer.batches.len() > PRODUCER_BATCHES {
            producer.batches.pop_front();
        }
        if self.producers.len() > PRODUCERS {
            let silent = self.producers.iter().min_by_key(|(_, producer)| producer.last_use);
            let silent = silent.map(|(&id, _)| id);
            silent.and_then(|id| self.producers.remove(&id));
        }
    }
}

/// Sequence numbers count from 0 to the largest `i32` and then from 0 again.
const fn sequence_after(sequence: i32, by: i32) -> i32 {
    ((sequence as i64 + by as i64) % (i32::MAX as i64 + 1)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TopicId;
    use crate::batch::build::{self, Record};

    const ID: PartitionId = PartitionId { topic: TopicId(1), index: 0 };

    fn batch(records: usize, producer: Option<(i64, i16, i32)>) -> Batch {
        let record = Record { timestamp: 5, key: None, value: Some(b"v") };
        let bytes = build::batch_from(&vec![record; records], producer);
        Batch::parse(bytes).expect("a good batch")
    }

    fn place(partition: &Partition, batch: &Batch, base_offset: Offset) -> BatchPlace {
        BatchPlace {
            base_offset,
            last_offset: base_offset + i64::from(batch.last_offset_delta()),
            max_timestamp: batch.max_timestamp(),
            lsn: Lsn::FIRST,
            location: Location {
                segment: 1,
                offset: partition.end() as u64 * 100,
                length: batch.bytes().len() as u32,
            },
        }
    }

    fn append(partition: &mut Partition, batch: &Batch) -> Offset {
        let Reservation::New { base_offset } = partition.reserve(batch) else {
            panic!("the batch is new")
        };
        let place = place(partition, batch, base_offset);
        partition.apply(place);
        base_offset
    }

    #[test]
    fn offsets_are_reserved_in_order_and_visible_when_applied() {
        let mut partition = Partition::new(ID);
        let three = batch(3, None);
        assert_eq!(partition.reserve(&three), Reservation::New { base_offset: 0 });
        assert_eq!(partition.reserve(&three), Reservation::New { base_offset: 3 });
        assert_eq!(partition.end(), 0);
        let first = place(&partition, &three, 0);
        partition.apply(first);
        assert_eq!(partition.end(), 3);
        partition.cancel(&three, 3);
        assert_eq!(partition.reserve(&three), Reservation::New { base_offset: 3 });
    }

    #[test]
    #[should_panic(expected = "without holes")]
    fn a_hole_is_refused() {
        let mut partition = Partition::new(ID);
        let one = batch(1, None);
        partition.reserve(&one);
        partition.reserve(&one);
        let second = place(&partition, &one, 1);
        partition.apply(second);
    }

    #[test]
    fn reads_give_the_batch_that_holds_the_offset_and_more_within_bounds() {
        let mut partition = Partition::new(ID);
        let three = batch(3, None);
        for _ in 0..4 {
            append(&mut partition, &three);
        }
        let length = three.bytes().len();
        let bases = |offset, max_bytes| -> Option<Vec<Offset>> {
            let plan = partition.plan_read(offset, max_bytes)?;
            Some(plan.batches.iter().map(|place| place.base_offset).collect())
        };
        assert_eq!(bases(4, 0), Some(vec![3]), "at least one, whatever its size");
        assert_eq!(bases(4, 2 * length), Some(vec![3, 6]));
        assert_eq!(bases(0, usize::MAX), Some(vec![0, 3, 6, 9]));
        assert_eq!(bases(12, usize::MAX), Some(vec![]));
        assert_eq!(bases(13, usize::MAX), None);
        assert_eq!(bases(-1, usize::MAX), None);
        assert_eq!(partition.readable_bytes(4, usize::MAX), Some(3 * length));
        assert_eq!(partition.readable_bytes(4, length + 1), Some(2 * length));
        assert_eq!(partition.readable_bytes(12, 1), Some(0));
        assert_eq!(partition.readable_bytes(13, 1), None);
    }

    #[test]
    fn a_batch_sent_again_gets_its_first_offset() {
        let mut partition = Partition::new(ID);
        let sent: Vec<Batch> = (0..7).map(|n| batch(2, Some((42, 0, n * 2)))).collect();
        for batch in &sent {
            append(&mut partition, batch);
        }
        for (index, batch) in sent.iter().enumerate().skip(2) {
            let base_offset = index as i64 * 2;
            let expected = Reservation::Duplicate { base_offset, last_offset: base_offset + 1 };
            assert_eq!(partition.reserve(batch), expected);
        }
        let forgotten = Reservation::OutOfOrder { expected: 14, found: 0 };
        assert_eq!(partition.reserve(&sent[0]), forgotten, "only five are remembered");
    }

    #[test]
    fn gaps_and_old_epochs_are_refused() {
        let mut partition = Partition::new(ID);
        append(&mut partition, &batch(2, Some((7, 3, 10))));
        let gap = partition.reserve(&batch(1, Some((7, 3, 13))));
        assert_eq!(gap, Reservation::OutOfOrder { expected: 12, found: 13 });
        assert_eq!(partition.reserve(&batch(1, Some((7, 2, 12)))), Reservation::Fenced);
        let restarted = partition.reserve(&batch(1, Some((7, 4, 5))));
        assert_eq!(restarted, Reservation::OutOfOrder { expected: 0, found: 5 });
        assert_eq!(
            partition.reserve(&batch(1, Some((7, 4, 0)))),
            Reservation::New { base_offset: 2 }
        );
    }

    #[test]
    fn a_cancelled_batch_is_not_a_duplicate() {
        let mut partition = Partition::new(ID);
        let first = batch(1, Some((7, 0, 0)));
        assert_eq!(partition.reserve(&first), Reservation::New { base_offset: 0 });
        partition.cancel(&first, 0);
        assert_eq!(partition.reserve(&first), Reservation::New { base_offset: 0 });
    }

    #[test]
    fn recovery_rebuilds_offsets_and_producers() {
        let sent: Vec<Batch> = (0..3).map(|n| batch(2, Some((42, 0, n * 2)))).collect();
        let mut partition = Partition::new(ID);
        for (index, batch) in sent.iter().enumerate() {
            let place = place(&partition, batch, index as i64 * 2);
            partition.recover(batch, place).expect("in order");
        }
        assert_eq!(partition.end(), 6);
        assert!(matches!(partition.reserve(&sent[2]), Reservation::Duplicate { .. }));
        let beyond = place(&partition, &sent[0], 8);
        assert!(partition.recover(&sent[0], beyond).is_err(), "a hole is an error, not a panic");
    }

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 3), 1);
    }
}
