//! What a store counts of what it does. Each number is counted in one place, by the shard's thread,
//! and never reset; nothing is decided by it.

use std::cell::Cell;

/// Totals since a store was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Bytes of keys and values that were put into memtables.
    pub(crate) applied_bytes: Cell<u64>,
    /// Bytes of tables that flushes put in place.
    pub(crate) flushed_bytes: Cell<u64>,
    /// Bytes of tables that compactions replaced by others.
    pub(crate) compacted_bytes_read: Cell<u64>,
    /// Bytes of the tables that they put there.
    pub(crate) compacted_bytes_written: Cell<u64>,
    /// Reads of one key.
    pub(crate) point_reads: Cell<u64>,
    /// Tables that these looked into.
    pub(crate) tables_read: Cell<u64>,
    /// Filters that were asked for a key.
    pub(crate) filters_asked: Cell<u64>,
    /// Of these, those that said no.
    pub(crate) filters_denied: Cell<u64>,
    /// Of these, those that did not, and the table had nothing for the read.
    pub(crate) filters_false: Cell<u64>,
}

/// Counts.
pub(crate) fn count(counter: &Cell<u64>, more: u64) {
    counter.set(counter.get().saturating_add(more));
}
