//! Tables that go when all in them has ended.
//!
//! A FIFO keyspace has all its runs in level 0, and its values end at a time. A table whose values
//! have all ended is removed as it is: nothing is rewritten for it.
//!
//! # What is removed
//!
//! A table has **ended** if its values have, and it has nothing else but deletions and range
//! tombstones. Nobody sees anything of it; but it may hide what older tables have of its keys, by a
//! deletion as well as by a value that ended earlier than the one that it replaced. So it goes only
//! if no older table that stays has keys in its range. Of runs that are all over the same keys,
//! that is the oldest first.
//!
//! What has a merge operand, or a value without an end, does not end, nor does it let go what is
//! over it.
//!
//! # What is merged
//!
//! Each flush makes a run, and a read looks into all. So where there are
//! [`FifoOptions::runs`] neighbours with fewer bytes than [`FifoOptions::small_bytes`] each, of
//! which none is larger than the newer ones together, they are merged into one, which ends with the
//! last of them. Where nothing is to be merged, of so many small neighbours one is twice as large
//! as the newest: what is rewritten of an entry, and how many small runs stand side by side, grows
//! with the logarithm of `small_bytes`.

use std::rc::Rc;

use super::universal::of_like_sizes;
use super::{Action, Pick, bytes_of, runs_by_age};
use crate::limits::TABLES_REMOVED;
use crate::{Keyspace, Run, TableMetadata};

/// When runs of a FIFO keyspace are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FifoOptions {
    /// Least number of small runs that are merged.
    pub runs: usize,
    /// Runs with so many bytes are not merged any more.
    pub small_bytes: u64,
}

impl Default for FifoOptions {
    fn default() -> Self {
        Self { runs: 4, small_bytes: 64 << 20 }
    }
}

/// Which tables of a FIFO keyspace are to be removed, or merged, next; nothing if all are as they
/// are meant to be at this time.
#[must_use]
pub fn pick_fifo(keyspace: &Keyspace, options: &FifoOptions, now_ms: u64) -> Option<Pick> {
    let runs = runs_by_age(keyspace);
    let inputs = ended(&runs, now_ms);
    if !inputs.is_empty() {
        return Some(Pick { into: 0, run: 0, inputs, action: Action::Remove });
    }
    let sizes: Vec<u64> = runs.iter().map(|run| bytes_of(run)).collect();
    let mut first = 0;
    for small in sizes.chunk_by(|one, next| (*one.max(next)) < options.small_bytes) {
        if let Some(alike) = of_like_sizes(small, 0, options.runs.max(2)) {
            return Some(Pick::merge(&runs[first + alike.start..first + alike.end]));
        }
        first += small.len();
    }
    None
}

/// The tables that can be removed, by run, the newest run first.
fn ended(runs: &[&Rc<Run>], now_ms: u64) -> Vec<Vec<Rc<TableMetadata>>> {
    let mut staying: Vec<Run> = Vec::new();
    let (mut ended, mut count) = (Vec::new(), 0);
    for run in runs.iter().rev() {
        let can_go = |table: &&Rc<TableMetadata>| {
            table.ends_at_ms.is_some_and(|ends| ends <= now_ms)
                && !staying.iter().any(|older| overlaps(older, table))
        };
        let (mut going, mut others): (Vec<_>, Vec<_>) = run.tables().iter().partition(can_go);
        if count + going.len() > TABLES_REMOVED {
            others.extend(going.split_off(TABLES_REMOVED - count));
            others.sort_by(|one, other| one.smallest_key.cmp(&other.smallest_key));
        }
        count += going.len();
        if !going.is_empty() {
            ended.push(going.into_iter().cloned().collect());
        }
        staying.push(Run::of(others.into_iter().cloned().collect()));
    }
    ended.reverse();
    ended
}

/// Whether a run may have something of a table's keys.
fn overlaps(run: &Run, table: &TableMetadata) -> bool {
    let behind = run.tables().partition_point(|other| other.is_before(table));
    run.tables().get(behind).is_some_and(|other| !table.is_before(other))
}
