//! The table of all kinds of faults.
//!
//! A fault counts when it changed an outcome, not when it was allowed to: a lost sector whose old
//! and new bytes are equal was no fault. A campaign whose faults never count tests nothing.

/// What a fault is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultGroup {
    /// Disks.
    Disk,
    /// The network.
    Network,
    /// Machines, their clocks and their cores.
    Machine,
}

/// Declares the kinds: for each a line of documentation, the variant, its name for people, and the
/// group.
macro_rules! fault_kinds {
    ($(#[doc = $doc:literal] $variant:ident = $name:literal, $group:ident;)*) => {
        /// Kinds of faults.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum FaultKind {
            $(#[doc = $doc] $variant,)*
        }

        impl FaultKind {
            /// All kinds, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// How many kinds there are.
            pub const COUNT: usize = Self::ALL.len();

            /// A name for people and for reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What happened.
            #[must_use]
            pub fn description(self) -> &'static str {
                match self {
                    $(Self::$variant => $doc.trim_ascii(),)*
                }
            }

            /// What it is done to.
            #[must_use]
            pub const fn group(self) -> FaultGroup {
                match self {
                    $(Self::$variant => FaultGroup::$group,)*
                }
            }
        }
    };
}

fault_kinds! {
    // Disks.

    /// A block that was written and not flushed is back at its old content.
    LostBlock = "lost-block", Disk;
    /// A sector of such a block is, while others of the block are not.
    LostSector = "lost-sector", Disk;
    /// A sector holds the beginning of the new bytes and the rest of the old.
    ShornSector = "shorn-sector", Disk;
    /// A sector holds neither the old nor the new bytes.
    GarbageSector = "garbage-sector", Disk;
    /// A write in flight at a crash happened in whole or in part, though nobody was told.
    UnacknowledgedWrite = "unacknowledged-write", Disk;
    /// A write in flight at a crash did not happen.
    InFlightLost = "in-flight-lost", Disk;
    /// A creation, rename or removal that was not synced is undone.
    LostName = "lost-name", Disk;
    /// A change of a file's length that was not synced is undone.
    LostLength = "lost-length", Disk;
    /// A disk operation took very long.
    SlowDisk = "slow-disk", Disk;
    /// An operation that was submitted later completed earlier.
    Reordered = "reordered", Disk;
    /// A disk operation failed because a knob said so.
    DiskError = "disk-error", Disk;
    /// A disk operation failed because a test asked for it.
    AskedError = "asked-error", Disk;
    /// A failed write or sync left a block in a state that nobody can know.
    UnknownBlock = "unknown-block", Disk;
    /// No room on the disk.
    StorageFull = "storage-full", Disk;
    /// A read returned less than was asked for and there was more.
    ShortRead = "short-read", Disk;
    /// A read saw part of a write that was in flight.
    ReadRace = "read-race", Disk;
    /// A power cut left a block that cannot be read.
    UnreadableBlock = "unreadable-block", Disk;
    /// A disk held up an operation because it completed nothing for a while.
    DiskStall = "disk-stall", Disk;
    /// A disk was slow for a while, many times over.
    SlowPeriod = "slow-period", Disk;
    /// A read failed because a block on media cannot be read.
    LatentError = "latent-error", Disk;
    /// Bytes on media changed by themselves.
    BitRot = "bit-rot", Disk;
    /// A read returned other bytes, of another place.
    MisdirectedRead = "misdirected-read", Disk;
    /// A write changed another place, or did not change its own.
    MisdirectedWrite = "misdirected-write", Disk;
    /// A write was acknowledged and its place holds other bytes.
    LostWrite = "lost-write", Disk;
    /// An operation failed because a block, a file or a disk fails until it is healed.
    StickyError = "sticky-error", Disk;
    /// A creation, rename or allocation was refused for want of room.
    MetadataFull = "metadata-full", Disk;
    /// A power cut undid a block, a length or a name that the disk had said was on media.
    LyingFlush = "lying-flush", Disk;

    // The network.

    /// A packet took very long.
    SlowPacket = "slow-packet", Network;
    /// A connection was reset at random.
    RandomReset = "random-reset", Network;
    /// A connection was reset because its other end died or closed.
    PeerReset = "peer-reset", Network;
    /// A connection was refused because nobody listened.
    Refused = "refused", Network;
    /// A connection attempt timed out.
    DialTimeout = "dial-timeout", Network;
    /// A read from a connection returned less than had arrived.
    ShortReceive = "short-receive", Network;
    /// A packet arrived in parts.
    SplitPacket = "split-packet", Network;
    /// A writer waited for the other end to read.
    FullWindow = "full-window", Network;
    /// A packet took many times as long as others do.
    TailPacket = "tail-packet", Network;
    /// A packet was lost.
    LostPacket = "lost-packet", Network;
    /// A packet took longer because its link was bad for a while.
    GrayPacket = "gray-packet", Network;
    /// A packet took longer because its line was slow for a while.
    CappedPacket = "capped-packet", Network;
    /// A packet or a connection attempt crawled through a clogged link.
    CloggedPacket = "clogged-packet", Network;
    /// A packet or a connection attempt met a partition.
    CutPacket = "cut-packet", Network;
    /// A packet arrived with other bytes than were sent.
    CorruptPacket = "corrupt-packet", Network;
    /// A connection came to be on one side only.
    OneSidedConnect = "one-sided-connect", Network;
    /// A connection attempt found no room among those that wait to be accepted.
    FullBacklog = "full-backlog", Network;
    /// One end forgot a connection and the other was not told.
    HalfOpen = "half-open", Network;
    /// An end gave up a connection because of silence.
    SilentPeer = "silent-peer", Network;
    /// A connection was reset because a test asked for it.
    AskedReset = "asked-reset", Network;

    // Machines, their clocks and their cores.

    /// A core was taken away for a while.
    Stall = "stall", Machine;
    /// A timer fired late.
    LateTimer = "late-timer", Machine;
    /// A process was killed.
    Kill = "kill", Machine;
    /// An operating system crashed.
    OsCrash = "os-crash", Machine;
    /// The power was cut.
    PowerCut = "power-cut", Machine;
    /// The power was cut and the disk replaced by an empty one.
    Wipe = "wipe", Machine;
    /// A machine was shut down and switched on again.
    Reboot = "reboot", Machine;
    /// A process did not stop within its time and was killed.
    GraceOver = "grace-over", Machine;
    /// A task's panic ended its process, in a world in which that is no failure.
    TaskPanic = "task-panic", Machine;
    /// A paused process had something to do.
    Pause = "pause", Machine;
    /// A shard ran much slower than the others.
    StarvedShard = "starved-shard", Machine;
    /// A reading of wall time was off from the beginning.
    WallOffset = "wall-offset", Machine;
    /// A reading of wall time had drifted by a millisecond or more.
    WallDrift = "wall-drift", Machine;
    /// A reading of wall time had jumped.
    WallJump = "wall-jump", Machine;
    /// A reading of wall time stood still, or was late because it had.
    WallFreeze = "wall-freeze", Machine;
    /// A reading of wall time came after a second that came twice.
    WallLeap = "wall-leap", Machine;
    /// A reading of monotonic time had drifted.
    MonotonicDrift = "monotonic-drift", Machine;
    /// A reading of monotonic time had run at a very wrong speed.
    SlowMonotonic = "slow-monotonic", Machine;
    /// A reading of a clock came after the clock stood still with its machine.
    SuspendedClock = "suspended-clock", Machine;
}

impl FaultKind {
    /// The kind with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found_again() {
        for &kind in FaultKind::ALL {
            assert_eq!(FaultKind::named(kind.name()), Some(kind));
            assert!(kind.description().ends_with('.'), "{}", kind.name());
        }
        assert_eq!(FaultKind::named("no such fault"), None);
    }
}
