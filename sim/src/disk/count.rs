//! What is open on a disk, counted.

use super::DiskState;
use crate::machine::Resources;

impl DiskState {
    /// Adds what the machine's process holds.
    pub(crate) fn count(&self, counted: &mut Resources) {
        counted.open_files += self.names.open.values().map(|&count| u64::from(count)).sum::<u64>();
        counted.locks += self.locks.values().filter(|&&by_process| by_process).count() as u64;
        counted.disk_operations += self.operations.iter().count() as u64;
    }

    /// The disk that stands in its place once it was wiped: of the same size, and empty.
    pub(crate) fn wiped(&self) -> Self {
        Self::new(self.machine, self.capacity)
    }
}
