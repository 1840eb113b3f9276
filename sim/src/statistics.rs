//! What a world did, in numbers, and which faults changed something.
//!
//! A fault counts when it changed an outcome, not when it was allowed to: a lost sector whose old
//! and new bytes are equal was no fault. A campaign whose faults never count tests nothing.

use crate::event::EventKind;

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum FaultKind {
    /// A block that was written and not flushed is back at its old content.
    LostBlock,
    /// A sector of such a block is, while others of the block are not.
    LostSector,
    /// A sector holds the beginning of the new bytes and the rest of the old.
    ShornSector,
    /// A sector holds neither the old nor the new bytes.
    GarbageSector,
    /// A write in flight at a crash happened in whole or in part, though nobody was told.
    UnacknowledgedWrite,
    /// A write in flight at a crash did not happen.
    InFlightLost,
    /// A creation, rename or removal that was not synced is undone.
    LostName,
    /// A change of a file's length that was not synced is undone.
    LostLength,
    /// A disk operation took very long.
    SlowDisk,
    /// An operation that was submitted later completed earlier.
    Reordered,
    /// A disk operation failed because a rate in [`Faults`](crate::Faults) said so.
    DiskError,
    /// A disk operation failed because a test asked for it.
    AskedError,
    /// A failed write or sync left a block in a state that nobody can know.
    UnknownBlock,
    /// No room on the disk.
    StorageFull,
    /// A read returned less than was asked for and there was more.
    ShortRead,
    /// A read saw part of a write that was in flight.
    ReadRace,
    /// A packet took very long.
    SlowPacket,
    /// A connection was reset at random.
    RandomReset,
    /// A connection was reset because its other end died or closed.
    PeerReset,
    /// A connection was refused because nobody listened.
    Refused,
    /// A connection attempt timed out.
    DialTimeout,
    /// A read from a connection returned less than had arrived.
    ShortReceive,
    /// A writer waited for the other end to read.
    FullWindow,
    /// A core was taken away for a while.
    Stall,
    /// A timer fired late.
    LateTimer,
    /// A process was killed.
    Kill,
    /// An operating system crashed.
    OsCrash,
    /// The power was cut.
    PowerCut,
}

impl FaultKind {
    /// How many kinds there are.
    pub const COUNT: usize = 28;

    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::LostBlock,
        Self::LostSector,
        Self::ShornSector,
        Self::GarbageSector,
        Self::UnacknowledgedWrite,
        Self::InFlightLost,
        Self::LostName,
        Self::LostLength,
        Self::SlowDisk,
        Self::Reordered,
        Self::DiskError,
        Self::AskedError,
        Self::UnknownBlock,
        Self::StorageFull,
        Self::ShortRead,
        Self::ReadRace,
        Self::SlowPacket,
        Self::RandomReset,
        Self::PeerReset,
        Self::Refused,
        Self::DialTimeout,
        Self::ShortReceive,
        Self::FullWindow,
        Self::Stall,
        Self::LateTimer,
        Self::Kill,
        Self::OsCrash,
        Self::PowerCut,
    ];
}

/// What a world did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

    /// How often a fault of this kind changed an outcome.
    #[must_use]
    pub const fn faults(&self, kind: FaultKind) -> u64 {
        self.faults[kind as usize]
    }
}
