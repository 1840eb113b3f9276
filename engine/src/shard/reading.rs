//! Reading a shard's partitions: from the tail in memory, or from the log through the seam.

use bytes::Bytes;
use futures_util::StreamExt;
use woodchuck_io::Env;
use woodchuck_stream::{Batch, BatchPlace, Offset, OffsetAndTimestamp, PartitionId};

use super::{Shard, storage_error};
use crate::EngineError;
use crate::limits::READS_IN_FLIGHT;

/// What to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRequest {
    /// The partition.
    pub partition: PartitionId,
    /// The first offset wanted.
    pub offset: Offset,
    /// The most bytes wanted of this partition, if more than one batch is there.
    pub max_bytes: usize,
}

/// What was read.
#[derive(Clone, Debug)]
pub struct ReadOutcome {
    /// Whole batches in order; the first holds the offset asked for. Empty at the end.
    pub batches: Vec<Bytes>,
    /// The first offset of the partition.
    pub start: Offset,
    /// The offset after the last visible one.
    pub end: Offset,
}

/// What a read would find in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Readable {
    pub(crate) bytes: usize,
    /// The offset after the last visible record.
    pub(crate) end: Offset,
}

impl ReadOutcome {
    /// Bytes of all batches.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.batches.iter().map(Bytes::len).sum()
    }
}

/// Which offset of a partition is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetQuery {
    /// The first.
    Earliest,
    /// The one after the last.
    Latest,
    /// That of the record with the largest timestamp.
    MaxTimestamp,
    /// That of the first record at or after this time, in milliseconds since 1970.
    Timestamp(i64),
}

impl<E: Env> Shard<E> {
    /// What a read of these partitions would find, without reading it: for each the bytes, counted
    /// up to `enough`, and its end. `None` for one that would fail.
    pub(crate) fn readable(
        &self,
        requests: &[ReadRequest],
        enough: usize,
    ) -> Vec<Option<Readable>> {
        let partitions = self.inner.partitions.borrow();
        let readable = |request: &ReadRequest| {
            let partition = &partitions.get(&request.partition)?.partition;
            let bytes = partition.readable_bytes(request.offset, enough)?;
            Some(Readable { bytes, end: partition.end() })
        };
        requests.iter().map(readable).collect()
    }

    /// Reads several partitions, in the order given, up to `max_bytes` in all, but at least one
    /// batch if any partition has one.
    pub(crate) async fn read(
        &self,
        requests: &[ReadRequest],
        max_bytes: usize,
    ) -> Vec<Result<ReadOutcome, EngineError>> {
        let mut left = max_bytes;
        let mut nothing_yet = true;
        let mut outcomes = Vec::with_capacity(requests.len());
        for request in requests {
            let outcome = self.read_one(request, left, nothing_yet).await;
            if let Ok(outcome) = &outcome {
                left = left.saturating_sub(outcome.bytes());
                nothing_yet &= outcome.batches.is_empty();
            }
            outcomes.push(outcome);
        }
        outcomes
    }

    async fn read_one(
        &self,
        request: &ReadRequest,
        left: usize,
        at_least_one: bool,
    ) -> Result<ReadOutcome, EngineError> {
        let limit = request.max_bytes.min(left);
        let mut plan = {
            let partitions = self.inner.partitions.borrow();
            let cell = partitions.get(&request.partition).ok_or(EngineError::UnknownPartition)?;
            let (start, end) = (cell.partition.start(), cell.partition.end());
            cell.partition
                .plan_read(request.offset, limit)
                .ok_or(EngineError::OffsetOutOfRange { start, end })?
        };
        let too_large = |place: &BatchPlace| place.location.length as usize > limit;
        if !at_least_one && plan.batches.first().is_some_and(too_large) {
            plan.batches.clear();
        }
        let mut reads = futures_util::stream::iter(plan.batches)
            .map(|place| self.read_batch(request.partition, place))
            .buffered(READS_IN_FLIGHT);
        let mut batches = Vec::new();
        while let Some(batch) = reads.next().await {
            batches.push(batch?);
        }
        Ok(ReadOutcome { batches, start: plan.start, end: plan.end })
    }

    /// A batch's bytes, from memory or from the log.
    async fn read_batch(&self, id: PartitionId, place: BatchPlace) -> Result<Bytes, EngineError> {
        if let Some(bytes) = self.inner.tail.borrow().get(place.location) {
            return Ok(bytes);
        }
        let read = self.inner.log.read(place.location).await;
        if !self.inner.partitions.borrow().contains_key(&id) {
            // Deleted meanwhile: the log below may hold something else by now.
            return Err(EngineError::UnknownPartition);
        }
        let bytes = read.map_err(|error| storage_error(&error))?;
        let damaged = |what: &dyn std::fmt::Display| {
            EngineError::Storage(format!(
                "shard {}: the batch at offset {} of partition {} of topic {:?} cannot be read \
                 back (log segment {}, byte {}): {what}",
                self.inner.index,
                place.base_offset,
                id.index,
                id.topic,
                place.location.segment,
                place.location.offset
            ))
        };
        let batch = Batch::parse_stored(bytes).map_err(|error| damaged(&error))?;
        if batch.base_offset() != place.base_offset {
            return Err(damaged(&"another batch stands in its place"));
        }
        Ok(batch.bytes().clone())
    }

    /// Answers a question about a partition's offsets. `None`: no record is that young.
    pub(crate) async fn offset(
        &self,
        id: PartitionId,
        query: OffsetQuery,
    ) -> Result<Option<OffsetAndTimestamp>, EngineError> {
        let without_timestamp = |offset| Ok(Some(OffsetAndTimestamp { offset, timestamp: -1 }));
        let (place, timestamp) = {
            let partitions = self.inner.partitions.borrow();
            let cell = partitions.get(&id).ok_or(EngineError::UnknownPartition)?;
            let partition = &cell.partition;
            match query {
                OffsetQuery::Earliest => return without_timestamp(partition.start()),
                OffsetQuery::Latest => return without_timestamp(partition.end()),
                OffsetQuery::MaxTimestamp => {
                    let place = partition.max_timestamp();
                    (place, place.map_or(0, |place| place.max_timestamp))
                }
                OffsetQuery::Timestamp(timestamp) => {
                    (partition.find_timestamp(timestamp), timestamp)
                }
            }
        };
        let Some(place) = place else { return Ok(None) };
        let bytes = self.read_batch(id, place).await?;
        let batch = Batch::parse_stored(bytes)?;
        Ok(batch.find_timestamp(timestamp))
    }
}
