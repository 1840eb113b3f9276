//! How each client moves through the log: forwards, and past nothing.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::history::{Findings, History, Operation, Outcome, PollOperation, SendOperation};
use super::kind::Kind;
use super::order::Orders;

/// Where a client last was in a partition, and when.
#[derive(Clone, Copy)]
struct Place {
    offset: u64,
    at: u64,
}

/// The places of one client, by partition.
type Places<'a, P> = BTreeMap<&'a P, Place>;

pub(super) fn judge<P: Ord + Clone + Debug, V: Ord + Clone + Debug>(
    history: &History<P, V>,
    orders: &Orders<'_, P, V>,
    findings: &mut Findings<'_>,
) {
    let mut readers: BTreeMap<u64, Places<'_, P>> = BTreeMap::new();
    let mut writers: BTreeMap<u64, Places<'_, P>> = BTreeMap::new();
    for (index, operation) in history.operations.iter().enumerate() {
        match operation {
            Operation::Poll(operation) => {
                poll(operation, readers.entry(operation.client).or_default(), orders, findings);
            }
            Operation::Moved { client, partitions: None } => {
                readers.remove(client);
            }
            Operation::Moved { client, partitions: Some(partitions) } => {
                let places = readers.entry(*client).or_default();
                for partition in partitions {
                    places.remove(partition);
                }
            }
            Operation::Send(operation) if orders.committed[index] => {
                send_inside(operation, orders, findings);
                if let Outcome::Acknowledged { .. } = operation.outcome {
                    let places = writers.entry(operation.client).or_default();
                    send(operation, places, orders, findings);
                }
            }
            Operation::Send(_) => {}
        }
    }
    // What a final read leaves out is a lost write; here it only matters that it goes forwards.
    for (partition, read) in &history.final_reads {
        for pair in read.records.windows(2) {
            if let [(before, _), (offset, _)] = pair
                && offset <= before
            {
                findings.add(Kind::IntNonmonotonicPoll, || {
                    format!(
                        "{partition:?}: the final read at {} gave offset {before} and then \
                         {offset}, which is not after it",
                        read.at
                    )
                });
            }
        }
    }
}

/// Follows the records of one poll.
fn poll<'a, P: Ord + Debug, V: Ord + Debug>(
    operation: &'a PollOperation<P, V>,
    places: &mut Places<'a, P>,
    orders: &Orders<'_, P, V>,
    findings: &mut Findings<'_>,
) {
    let PollOperation { client, at, records } = operation;
    let mut inside: Places<'a, P> = BTreeMap::new();
    for (partition, offset, _) in records {
        let here = Place { offset: *offset, at: *at };
        // Within the poll, the record before it; for the first one, the end of the last poll.
        let inner = inside.insert(partition, here);
        let Some(before) = inner.or_else(|| places.get(partition).copied()) else { continue };
        let (backwards, skip) = match inner {
            Some(_) => (Kind::IntNonmonotonicPoll, Kind::IntPollSkip),
            None => (Kind::NonmonotonicPoll, Kind::PollSkip),
        };
        let story = || {
            let when = match inner {
                Some(_) => format!("in one poll at {at}"),
                None => format!("in polls at {} and {at}", before.at),
            };
            let from = before.offset;
            format!("{partition:?}: client {client} polled offset {from} and then {offset} {when}")
        };
        if *offset <= before.offset {
            findings.add(backwards, || format!("{}, which is not after it", story()));
        } else if let Some(between) = passed_over(orders, partition, before.offset, *offset) {
            findings.add(skip, || format!("{}, and {between}", story()));
        }
    }
    places.append(&mut inside);
}

/// Compares the values of one send with each other.
fn send_inside<P: Ord + Debug, V: Ord + Debug>(
    operation: &SendOperation<P, V>,
    orders: &Orders<'_, P, V>,
    findings: &mut Findings<'_>,
) {
    let SendOperation { client, invoked, records, .. } = operation;
    let mut inside: BTreeMap<&P, (u64, &V)> = BTreeMap::new();
    for record in records {
        let (partition, value) = (&record.partition, &record.value);
        let Some(offset) = place_of(orders, partition, value, record.offset) else { continue };
        let Some((before, first)) = inside.insert(partition, (offset, value)) else { continue };
        let story = || {
            format!(
                "{partition:?}: client {client} sent {first:?} and then {value:?} in one send at \
                 {invoked}, they are at offsets {before} and {offset}"
            )
        };
        if offset <= before {
            findings.add(Kind::IntNonmonotonicSend, story);
        } else if let Some(between) = passed_over(orders, partition, before, offset) {
            findings.add(Kind::IntSendSkip, || format!("{}, and {between}", story()));
        }
    }
}

/// Compares an acknowledged send with the acknowledged sends of the same client before it.
fn send<'a, P: Ord + Debug, V: Ord + Debug>(
    operation: &'a SendOperation<P, V>,
    places: &mut Places<'a, P>,
    orders: &Orders<'_, P, V>,
    findings: &mut Findings<'_>,
) {
    let SendOperation { client, invoked, records, .. } = operation;
    let mut inside: Places<'a, P> = BTreeMap::new();
    for record in records {
        let partition = &record.partition;
        let Some(offset) = place_of(orders, partition, &record.value, record.offset) else {
            continue;
        };
        let here = Place { offset, at: *invoked };
        let first = inside.insert(partition, here).is_none();
        let Some(before) = places.get(partition).filter(|_| first) else { continue };
        if offset <= before.offset {
            findings.add(Kind::NonmonotonicSend, || {
                format!(
                    "{partition:?}: client {client} sent {:?} at {invoked}, after what it sent at \
                     {}, and it is at offset {offset}, not after offset {}",
                    record.value, before.at, before.offset
                )
            });
        }
    }
    places.append(&mut inside);
}

/// Where a value that was sent is: what the acknowledgement said, or else what polls said.
fn place_of<P: Ord, V: Ord>(
    orders: &Orders<'_, P, V>,
    partition: &P,
    value: &V,
    acknowledged: Option<u64>,
) -> Option<u64> {
    acknowledged.or_else(|| orders.partitions.get(partition)?.offset_of(value))
}

/// What is between two offsets, in words, if anything is known to be.
fn passed_over<P: Ord, V: Ord + Debug>(
    orders: &Orders<'_, P, V>,
    partition: &P,
    before: u64,
    after: u64,
) -> Option<String> {
    let order = orders.partitions.get(partition)?;
    let between = order.between(before, after);
    let first = between.first()?;
    let (value, _) = order.claims.get(first)?.first_key_value()?;
    let count = match between.len() {
        1 => "1 offset between them is".to_owned(),
        count => format!("{count} offsets between them are"),
    };
    Some(format!("{count} known to hold a value, the first {first} with {value:?}"))
}
