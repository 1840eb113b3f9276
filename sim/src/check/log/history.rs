//! What the clients of a log did and saw.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use super::super::{Anomalies, Verdict};
use super::kind::Kind;
use super::order::Orders;
use super::{content, progress};

/// What the clients of a log did and saw, in the order in which each client did it.
///
/// `P` names a partition, `V` a value: short ids serve better than whole contents.
#[derive(Clone, Debug)]
pub struct History<P, V> {
    pub(super) operations: Vec<Operation<P, V>>,
    pub(super) final_reads: BTreeMap<P, FinalRead<V>>,
    allowed: BTreeSet<Kind>,
}

/// A send that waits for its answer. Without one its outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sending(usize);

#[derive(Clone, Debug)]
pub(super) enum Operation<P, V> {
    Send(SendOperation<P, V>),
    Poll(PollOperation<P, V>),
    /// The client's place was moved: in these partitions, or in all of them.
    Moved {
        client: u64,
        partitions: Option<Vec<P>>,
    },
}

#[derive(Clone, Debug)]
pub(super) struct SendOperation<P, V> {
    pub(super) client: u64,
    pub(super) invoked: u64,
    pub(super) records: Vec<SentRecord<P, V>>,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Debug)]
pub(super) struct SentRecord<P, V> {
    pub(super) partition: P,
    pub(super) value: V,
    /// What the acknowledgement said.
    pub(super) offset: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Unknown,
    Acknowledged { at: u64 },
    Failed { at: u64 },
}

#[derive(Clone, Debug)]
pub(super) struct PollOperation<P, V> {
    pub(super) client: u64,
    pub(super) at: u64,
    /// Partition, offset, value.
    pub(super) records: Vec<(P, u64, V)>,
}

#[derive(Clone, Debug)]
pub(super) struct FinalRead<V> {
    pub(super) at: u64,
    /// What is before this offset was deleted on purpose.
    pub(super) start: u64,
    pub(super) records: Vec<(u64, V)>,
}

impl<P, V> Default for History<P, V> {
    fn default() -> Self {
        Self { operations: Vec::new(), final_reads: BTreeMap::new(), allowed: BTreeSet::new() }
    }
}

impl<P: Ord + Clone + Debug, V: Ord + Clone + Debug> History<P, V> {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `client` sends one value at this time. A value goes to a partition only once; what a client
    /// library tries again by itself is one send.
    pub fn send(&mut self, client: u64, at: u64, partition: P, value: V) -> Sending {
        self.send_together(client, at, [(partition, value)])
    }

    /// `client` sends several values at this time, which the log promises to store all or none.
    pub fn send_together(
        &mut self,
        client: u64,
        at: u64,
        records: impl IntoIterator<Item = (P, V)>,
    ) -> Sending {
        let records = records
            .into_iter()
            .map(|(partition, value)| SentRecord { partition, value, offset: None })
            .collect();
        self.operations.push(Operation::Send(SendOperation {
            client,
            invoked: at,
            records,
            outcome: Outcome::Unknown,
        }));
        Sending(self.operations.len() - 1)
    }

    /// The log said at this time that the values are stored, and where: one offset for each, in the
    /// order of the send. Those it did not tell are `None` or left out. Of a log that puts a batch at
    /// consecutive offsets and tells the first, they are `(first..).map(Some)`.
    pub fn acknowledged(
        &mut self,
        sending: Sending,
        at: u64,
        offsets: impl IntoIterator<Item = Option<u64>>,
    ) {
        if let Some(Operation::Send(send)) = self.operations.get_mut(sending.0) {
            send.outcome = Outcome::Acknowledged { at };
            for (record, offset) in send.records.iter_mut().zip(offsets) {
                record.offset = offset;
            }
        }
    }

    /// The log said at this time that the values are not stored and never will be. Not for
    /// time-outs: after those, nobody knows.
    pub fn failed(&mut self, sending: Sending, at: u64) {
        if let Some(Operation::Send(send)) = self.operations.get_mut(sending.0) {
            send.outcome = Outcome::Failed { at };
        }
    }

    /// `client` had these records, as partition, offset and value, in the answer to a poll at this
    /// time.
    pub fn poll(&mut self, client: u64, at: u64, records: impl IntoIterator<Item = (P, u64, V)>) {
        let records = records.into_iter().collect();
        self.operations.push(Operation::Poll(PollOperation { client, at, records }));
    }

    /// The client's place in these partitions was moved on purpose: its next poll of them may begin
    /// anywhere.
    pub fn moved(&mut self, client: u64, partitions: impl IntoIterator<Item = P>) {
        let partitions = Some(partitions.into_iter().collect());
        self.operations.push(Operation::Moved { client, partitions });
    }

    /// The client's place was moved on purpose in all partitions: it began anew, or joined a group.
    pub fn moved_everywhere(&mut self, client: u64) {
        self.operations.push(Operation::Moved { client, partitions: None });
    }

    /// All records of a partition, as offset and value, read at this time, when nothing was sent any
    /// more. `start` is the first offset that retention has left. A second final read of the same
    /// partition takes the place of the first.
    pub fn final_read(
        &mut self,
        partition: P,
        at: u64,
        start: u64,
        records: impl IntoIterator<Item = (u64, V)>,
    ) {
        let records = records.into_iter().collect();
        self.final_reads.insert(partition, FinalRead { at, start, records });
    }

    /// Anomalies of this kind are lawful for this log, and left out of the verdict.
    pub fn allow(&mut self, kind: Kind) {
        self.allowed.insert(kind);
    }

    /// Judges it. The anomalies are those of [`Kind`].
    ///
    /// Inconclusive if nothing was wrong but nothing was acknowledged or nothing read, or if the same
    /// value was sent to a partition twice.
    pub fn judge(&self) -> Verdict {
        let orders = Orders::new(self);
        let mut findings = Findings { anomalies: Anomalies::default(), allowed: &self.allowed };
        content::judge(self, &orders, &mut findings);
        progress::judge(self, &orders, &mut findings);
        findings.anomalies.verdict_or(|| {
            if let Some((partition, value)) = orders.sent_twice {
                return Verdict::inconclusive(format!(
                    "{partition:?}: the value {value:?} was sent twice and cannot be recognised"
                ));
            }
            let acknowledged = self.sends().any(|send| {
                matches!(send.outcome, Outcome::Acknowledged { .. }) && !send.records.is_empty()
            });
            if !acknowledged {
                Verdict::inconclusive("nothing was acknowledged, so nothing had to be kept")
            } else if orders.records_read == 0 {
                Verdict::inconclusive("nothing was read")
            } else {
                Verdict::Holds
            }
        })
    }

    fn sends(&self) -> impl Iterator<Item = &SendOperation<P, V>> {
        self.operations.iter().filter_map(|operation| match operation {
            Operation::Send(send) => Some(send),
            Operation::Poll(_) | Operation::Moved { .. } => None,
        })
    }

    /// The send at this index of the operations.
    ///
    /// # Panics
    /// If there is another operation.
    pub(super) fn send_at(&self, index: usize) -> &SendOperation<P, V> {
        match &self.operations[index] {
            Operation::Send(send) => send,
            Operation::Poll(_) | Operation::Moved { .. } => {
                panic!("operation {index} is not a send")
            }
        }
    }
}

/// The anomalies found, without those that are allowed.
pub(super) struct Findings<'a> {
    anomalies: Anomalies,
    allowed: &'a BTreeSet<Kind>,
}

impl Findings<'_> {
    pub(super) fn add(&mut self, kind: Kind, what: impl FnOnce() -> String) {
        if !self.allowed.contains(&kind) {
            self.anomalies.add(kind.name(), what);
        }
    }
}
