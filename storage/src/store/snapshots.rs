//! Snapshots that are alive.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// How many snapshots there are of each sequence.
#[derive(Default)]
pub(super) struct Snapshots {
    counts: RefCell<BTreeMap<u64, usize>>,
}

impl Snapshots {
    /// Their sequences, ascending.
    pub(super) fn live(&self) -> Vec<u64> {
        self.counts.borrow().keys().copied().collect()
    }
}

/// A moment of a store, to be read as long as this lives. What was overwritten since stays for it,
/// so it takes room as long as it lives.
pub struct Snapshot {
    snapshots: Rc<Snapshots>,
    sequence: u64,
}

impl Snapshot {
    pub(super) fn take(snapshots: &Rc<Snapshots>, sequence: u64) -> Self {
        *snapshots.counts.borrow_mut().entry(sequence).or_default() += 1;
        Self { snapshots: Rc::clone(snapshots), sequence }
    }

    /// The last commit that it sees.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl Clone for Snapshot {
    fn clone(&self) -> Self {
        Self::take(&self.snapshots, self.sequence)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let mut counts = self.snapshots.counts.borrow_mut();
        if let Some(count) = counts.get_mut(&self.sequence) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.sequence);
            }
        }
    }
}
