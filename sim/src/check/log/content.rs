//! What is in the log: whether it is what was sent, all of it, once, and at one place.

use std::collections::BTreeSet;
use std::fmt::Debug;

use super::history::{Findings, History, Outcome, SendOperation};
use super::kind::Kind;
use super::order::{Facts, Order, Orders, Source};

pub(super) fn judge<P: Ord + Clone + Debug, V: Ord + Clone + Debug>(
    history: &History<P, V>,
    orders: &Orders<'_, P, V>,
    findings: &mut Findings<'_>,
) {
    for (&partition, order) in &orders.partitions {
        places(partition, order, findings);
        for (&value, facts) in &order.values {
            let send = facts.send.map(|index| history.send_at(index));
            if let Some((offset, source)) = facts.first_read {
                origin(partition, value, send, (offset, source), findings);
            }
        }
        let committed = order.values.iter().filter_map(|(&value, facts)| {
            let index = facts.send.filter(|&index| orders.committed[index])?;
            Some((value, facts, history.send_at(index)))
        });
        if history.final_reads.contains_key(partition) {
            kept(history, partition, committed, findings);
        } else {
            read_at_all(partition, order, committed, findings);
        }
    }
}

/// One value at each offset, one offset for each value.
fn places<P: Debug, V: Ord + Debug>(
    partition: &P,
    order: &Order<'_, V>,
    findings: &mut Findings<'_>,
) {
    for (offset, values) in &order.claims {
        if values.len() > 1 {
            findings.add(Kind::InconsistentOffsets, || {
                let told: Vec<_> =
                    values.iter().map(|(value, source)| format!("{value:?} ({source})")).collect();
                format!(
                    "{partition:?}: offset {offset} holds {} values: {}",
                    values.len(),
                    told.join(", ")
                )
            });
        }
    }
    for (value, facts) in &order.values {
        if facts.offsets.len() > 1 {
            findings.add(Kind::Duplicate, || {
                let told: Vec<_> = facts
                    .offsets
                    .iter()
                    .filter_map(|offset| {
                        let source = order.claims.get(offset)?.get(value)?;
                        Some(format!("{offset} ({source})"))
                    })
                    .collect();
                format!(
                    "{partition:?}: {value:?} is at {} offsets: {}",
                    facts.offsets.len(),
                    told.join(", ")
                )
            });
        }
    }
}

/// What was read was sent before, and not refused.
fn origin<P: Debug, V: Debug>(
    partition: &P,
    value: &V,
    send: Option<&SendOperation<P, V>>,
    (offset, source): (u64, Source),
    findings: &mut Findings<'_>,
) {
    let Some(send) = send else {
        findings.add(Kind::Phantom, || {
            format!("{partition:?}: {value:?} at offset {offset} was {source} and never sent")
        });
        return;
    };
    let SendOperation { client, invoked, outcome, .. } = send;
    if source.at() < *invoked {
        findings.add(Kind::Phantom, || {
            format!(
                "{partition:?}: {value:?} at offset {offset} was {source}, before client {client} \
                 sent it at {invoked}"
            )
        });
    }
    if let Outcome::Failed { at } = outcome {
        findings.add(Kind::AbortedRead, || {
            format!(
                "{partition:?}: {value:?} at offset {offset} was {source}; client {client} had sent \
                 it at {invoked} and was told at {at} that it is not stored"
            )
        });
    }
}

/// Where a final read exists, it holds all that is committed and not deleted.
fn kept<'a, P: Ord + Debug + 'a, V: Ord + Debug + 'a>(
    history: &History<P, V>,
    partition: &P,
    committed: impl Iterator<Item = (&'a V, &'a Facts, &'a SendOperation<P, V>)>,
    findings: &mut Findings<'_>,
) {
    let Some(read) = history.final_reads.get(partition) else { return };
    let found: BTreeSet<&V> = read.records.iter().map(|(_, value)| value).collect();
    let last = read.records.iter().map(|&(offset, _)| offset).max();
    for (value, facts, send) in committed {
        if found.contains(value) {
            continue;
        }
        let end = || match last {
            Some(last) => format!("the final read at {} ends with offset {last}", read.at),
            None => format!("the final read at {} is empty", read.at),
        };
        let why = why_committed(send, facts);
        match facts.offsets.first() {
            Some(&offset) if offset < read.start => {}
            Some(&offset) if last.is_some_and(|last| offset <= last) => {
                findings.add(Kind::LostWrite, || {
                    format!(
                        "{partition:?}: {value:?} at offset {offset} is not in the final read; {}; \
                         {why}",
                        end()
                    )
                });
            }
            place => findings.add(Kind::Unseen, || {
                let place = match place {
                    Some(offset) => format!("at offset {offset}"),
                    None => "at an unknown offset".to_owned(),
                };
                format!("{partition:?}: {value:?} {place} was not seen; {}; {why}", end())
            }),
        }
    }
}

/// Without a final read, somebody has read all that is committed, up to the highest offset that
/// anybody read.
fn read_at_all<'a, P: Debug + 'a, V: Ord + Debug + 'a>(
    partition: &P,
    order: &Order<'_, V>,
    committed: impl Iterator<Item = (&'a V, &'a Facts, &'a SendOperation<P, V>)>,
    findings: &mut Findings<'_>,
) {
    let Some((highest, source)) = order.highest_read else { return };
    for (value, facts, send) in committed {
        if let (Some(&offset), None) = (facts.offsets.first(), facts.first_read)
            && offset <= highest
        {
            findings.add(Kind::LostWrite, || {
                format!(
                    "{partition:?}: {value:?} at offset {offset} was never read, and offset \
                     {highest} was {source}; {}",
                    why_committed(send, facts)
                )
            });
        }
    }
}

/// Why the value must be there.
fn why_committed<P, V>(send: &SendOperation<P, V>, facts: &Facts) -> String {
    let SendOperation { client, invoked, outcome, .. } = send;
    match (outcome, facts.first_read) {
        (Outcome::Acknowledged { at }, _) => {
            format!("client {client} sent it at {invoked} and was told at {at} that it is stored")
        }
        (_, Some((_, source))) => {
            format!("client {client} sent it at {invoked}, and it was {source}")
        }
        (_, None) => {
            format!("client {client} sent it at {invoked} together with values that were read")
        }
    }
}
