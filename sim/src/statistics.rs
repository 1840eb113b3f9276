//! What a world did, in numbers, and which faults changed something.

use crate::event::EventKind;
use crate::fault_kind::FaultKind;

/// What a world did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    pub(crate) events: [u64; EventKind::ALL.len()],
    pub(crate) faults: [u64; FaultKind::COUNT],
    /// Choices made.
    pub choices: u64,
    /// Reads from disk.
    pub disk_reads: u64,
    /// Writes to disk, of either durability.
    pub disk_writes: u64,
    /// `sync_data` and `sync_directory`.
    pub disk_syncs: u64,
    /// Other disk operations.
    pub disk_other: u64,
    /// Bytes read from disk.
    pub disk_bytes_read: u64,
    /// Bytes written to disk.
    pub disk_bytes_written: u64,
    /// Bytes that arrived over the network.
    pub net_bytes: u64,
    /// Connections established.
    pub connections: u64,
}

impl Statistics {
    /// How many events of a kind there were.
    #[must_use]
    pub const fn events(&self, kind: EventKind) -> u64 {
        self.events[kind as usize]
    }

    /// All events: completions, deliveries, timers and polls.
    #[must_use]
    pub fn all_events(&self) -> u64 {
        self.events.iter().sum()
    }

    /// Completed disk operations, deliveries of packets and parcels, and timers: what the speed of a
    /// simulator is measured by. Polls, and what happens in between, are not among them.
    #[must_use]
    pub const fn deliveries(&self) -> u64 {
        self.events(EventKind::DiskDone)
            + self.events(EventKind::NetArrive)
            + self.events(EventKind::MeshArrive)
            + self.events(EventKind::Timer)
    }

    /// How often a fault of this kind changed an outcome.
    #[must_use]
    pub const fn faults(&self, kind: FaultKind) -> u64 {
        self.faults[kind as usize]
    }
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            events: [0; EventKind::ALL.len()],
            faults: [0; FaultKind::COUNT],
            choices: 0,
            disk_reads: 0,
            disk_writes: 0,
            disk_syncs: 0,
            disk_other: 0,
            disk_bytes_read: 0,
            disk_bytes_written: 0,
            net_bytes: 0,
            connections: 0,
        }
    }
}
