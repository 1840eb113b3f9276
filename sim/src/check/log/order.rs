//! All that is known of each partition: which value is at which offset, and who read it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::history::{History, Operation, Outcome};

/// What is known of all partitions.
pub(super) struct Orders<'a, P, V> {
    pub(super) partitions: BTreeMap<&'a P, Order<'a, V>>,
    /// For each operation, whether it is a send that certainly happened.
    pub(super) committed: Vec<bool>,
    /// A value that was sent to its partition more than once, if there is one.
    pub(super) sent_twice: Option<(&'a P, &'a V)>,
    /// How many records were read, polls and final reads together.
    pub(super) records_read: u64,
}

/// What is known of one partition.
pub(super) struct Order<'a, V> {
    /// Which values are said to be at each offset, and who said so first.
    pub(super) claims: BTreeMap<u64, BTreeMap<&'a V, Source>>,
    pub(super) values: BTreeMap<&'a V, Facts>,
    /// The offsets that are known to hold a value that is there lawfully, ascending.
    pub(super) offsets: Vec<u64>,
    pub(super) highest_read: Option<(u64, Source)>,
}

/// What is known of one value in one partition.
#[derive(Default)]
pub(super) struct Facts {
    /// The operation that sent it.
    pub(super) send: Option<usize>,
    /// Where it is said to be.
    pub(super) offsets: BTreeSet<u64>,
    pub(super) first_read: Option<(u64, Source)>,
}

/// Who said that a value is at an offset.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    Acknowledged { client: u64, at: u64 },
    Polled { client: u64, at: u64 },
    FinalRead { at: u64 },
}

impl Source {
    pub(super) const fn at(self) -> u64 {
        match self {
            Self::Acknowledged { at, .. } | Self::Polled { at, .. } | Self::FinalRead { at } => at,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acknowledged { client, at } => {
                write!(formatter, "acknowledged to client {client} at {at}")
            }
            Self::Polled { client, at } => write!(formatter, "polled by client {client} at {at}"),
            Self::FinalRead { at } => write!(formatter, "in the final read at {at}"),
        }
    }
}

impl<V> Default for Order<'_, V> {
    fn default() -> Self {
        Self {
            claims: BTreeMap::new(),
            values: BTreeMap::new(),
            offsets: Vec::new(),
            highest_read: None,
        }
    }
}

impl<'a, V: Ord> Order<'a, V> {
    fn claim(&mut self, offset: u64, value: &'a V, source: Source) {
        self.claims.entry(offset).or_default().entry(value).or_insert(source);
        self.values.entry(value).or_default().offsets.insert(offset);
    }

    fn read(&mut self, offset: u64, value: &'a V, source: Source) {
        self.claim(offset, value, source);
        let facts = self.values.entry(value).or_default();
        if facts.first_read.is_none_or(|(_, first)| source.at() < first.at()) {
            facts.first_read = Some((offset, source));
        }
        if self.highest_read.is_none_or(|(highest, _)| highest < offset) {
            self.highest_read = Some((offset, source));
        }
    }

    /// The first offset of a value, if it is known.
    pub(super) fn offset_of(&self, value: &V) -> Option<u64> {
        self.values.get(value)?.offsets.first().copied()
    }

    /// The offsets between these two, both left out, that are known to hold a value.
    pub(super) fn between(&self, before: u64, after: u64) -> &[u64] {
        let from = self.offsets.partition_point(|&offset| offset <= before);
        let to = self.offsets.partition_point(|&offset| offset < after);
        self.offsets.get(from..to).unwrap_or_default()
    }
}

impl<'a, P: Ord, V: Ord> Orders<'a, P, V> {
    pub(super) fn new(history: &'a History<P, V>) -> Self {
        let mut orders = Self {
            partitions: BTreeMap::new(),
            committed: vec![false; history.operations.len()],
            sent_twice: None,
            records_read: 0,
        };
        orders.collect(history);
        orders.settle(history);
        orders
    }

    /// Notes who sent, acknowledged and read what.
    fn collect(&mut self, history: &'a History<P, V>) {
        for (index, operation) in history.operations.iter().enumerate() {
            match operation {
                Operation::Send(send) => {
                    for record in &send.records {
                        let order = self.partitions.entry(&record.partition).or_default();
                        let facts = order.values.entry(&record.value).or_default();
                        if facts.send.is_some() {
                            self.sent_twice = Some((&record.partition, &record.value));
                        }
                        facts.send = facts.send.or(Some(index));
                        if let (Outcome::Acknowledged { at }, Some(offset)) =
                            (send.outcome, record.offset)
                        {
                            let source = Source::Acknowledged { client: send.client, at };
                            order.claim(offset, &record.value, source);
                        }
                    }
                }
                Operation::Poll(poll) => {
                    let source = Source::Polled { client: poll.client, at: poll.at };
                    for (partition, offset, value) in &poll.records {
                        self.records_read += 1;
                        self.partitions.entry(partition).or_default().read(*offset, value, source);
                    }
                }
                Operation::Moved { .. } => {}
            }
        }
        for (partition, read) in &history.final_reads {
            let order = self.partitions.entry(partition).or_default();
            for (offset, value) in &read.records {
                self.records_read += 1;
                order.read(*offset, value, Source::FinalRead { at: read.at });
            }
        }
    }

    /// Decides which sends happened, and which offsets hold a value lawfully.
    fn settle(&mut self, history: &History<P, V>) {
        for order in self.partitions.values() {
            for facts in order.values.values() {
                if let (Some(send), true) = (facts.send, facts.first_read.is_some()) {
                    self.committed[send] = true;
                }
            }
        }
        for (index, operation) in history.operations.iter().enumerate() {
            if let Operation::Send(send) = operation {
                match send.outcome {
                    Outcome::Acknowledged { .. } => self.committed[index] = true,
                    Outcome::Failed { .. } => self.committed[index] = false,
                    Outcome::Unknown => {}
                }
            }
        }
        for order in self.partitions.values_mut() {
            let lawful = |value: &V| {
                let send = order.values.get(value).and_then(|facts| facts.send);
                send.is_some_and(|send| self.committed[send])
            };
            order.offsets = order
                .claims
                .iter()
                .filter(|(_, values)| values.keys().any(|value| lawful(value)))
                .map(|(&offset, _)| offset)
                .collect();
        }
    }
}
