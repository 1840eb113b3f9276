//! The table of all places where the world decides something.
//!
//! A choice is named by its site, a node (a machine, or a shard of one) and how often that node
//! has chosen there before. Its value does not depend on any other choice, so adding a site, or
//! asking one more often, leaves all others as they were.

/// Declares the sites: one line of documentation, the variant, and the name used on tapes.
macro_rules! sites {
    ($(#[doc = $doc:literal] $variant:ident = $name:literal;)*) => {
        /// A place where the world decides something.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Site {
            $(#[doc = $doc] $variant,)*
        }

        impl Site {
            /// All sites, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name used on tapes.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What is decided there.
            #[must_use]
            pub fn description(self) -> &'static str {
                match self {
                    $(Self::$variant => $doc.trim_ascii(),)*
                }
            }
        }
    };
}

sites! {
    /// For scenarios: what a client or a workload does next.
    Workload = "workload";
    /// For scenarios: when and where a plan strikes.
    Plan = "plan";
    /// The scheduling policy of the world.
    Policy = "policy";
    /// Which of the ready tasks runs.
    Task = "task";
    /// What one poll costs on a shard, once for each process.
    PollCost = "poll-cost";
    /// Whether a shard runs much slower than the others, once for each process.
    Starved = "starved";
    /// Whether the core is taken away after a poll.
    PollStall = "poll-stall";
    /// For how long the core is taken away.
    PollStallLength = "poll-stall-length";
    /// Whether a timer fires late.
    TimerLate = "timer-late";
    /// How late a timer fires.
    TimerLateness = "timer-lateness";
    /// Where a machine's monotonic clock starts.
    MonotonicStart = "monotonic-start";
    /// How far a machine's wall clock is off.
    WallOffset = "wall-offset";
    /// How fast a machine's wall clock drifts.
    WallDrift = "wall-drift";
    /// How long a disk operation takes, and when within that time it happens.
    DiskLatency = "disk-latency";
    /// Whether a disk operation is one of the slow ones.
    DiskSlow = "disk-slow";
    /// How slow a slow disk operation is.
    DiskSlowness = "disk-slowness";
    /// Whether a disk operation fails.
    DiskError = "disk-error";
    /// What a failed write or sync left of one block.
    FailedBlock = "failed-block";
    /// Whether a read returns less than it was asked for.
    ShortRead = "short-read";
    /// How much a short read returns.
    ShortReadBlocks = "short-read-blocks";
    /// What a read sees of a write that is in flight.
    ReadRace = "read-race";
    /// Which sectors of a write in flight a read sees.
    ReadRaceSectors = "read-race-sectors";
    /// Whether an older version of a dirty block was written back before it was overwritten.
    WriteBack = "write-back";
    /// Whether a sync also covers a block written after it was asked for.
    SyncExtra = "sync-extra";
    /// In which order a directory is listed.
    ListOrder = "list-order";
    /// How lucky a crash is: what share of unflushed data survives.
    CrashMood = "crash-mood";
    /// What a crash leaves of one unflushed block.
    CrashBlock = "crash-block";
    /// Whether an operation in flight happened before the crash.
    CrashInFlight = "crash-in-flight";
    /// How many of the latest unsynced names a crash loses.
    CrashNames = "crash-names";
    /// How many of the latest unsynced length changes a crash loses.
    CrashLength = "crash-length";
    /// How long a packet travels.
    NetLatency = "net-latency";
    /// Whether a packet is one of the slow ones.
    NetSlow = "net-slow";
    /// How slow a slow packet is.
    NetSlowness = "net-slowness";
    /// Whether a packet lies in the tail of its link's latencies.
    NetTail = "net-tail";
    /// Whether a packet is lost.
    NetLoss = "net-loss";
    /// Whether a link becomes clogged.
    NetClog = "net-clog";
    /// For how long a link is clogged.
    NetClogLength = "net-clog-length";
    /// Which machines are clogged one after the other, when, and in which order they are freed.
    NetSwizzle = "net-swizzle";
    /// Whether a packet is changed on its way.
    NetCorrupt = "net-corrupt";
    /// Where and how a packet is changed.
    NetCorruptBytes = "net-corrupt-bytes";
    /// Whether a connection comes to be on one side only.
    NetOneSided = "net-one-sided";
    /// On which side it does.
    NetOneSidedEnd = "net-one-sided-end";
    /// Whether a connection is reset as a packet arrives.
    NetReset = "net-reset";
    /// Whether a packet arrives in parts.
    NetSplit = "net-split";
    /// Where a packet is cut.
    NetSplitBytes = "net-split-bytes";
    /// Whether a read returns less than has arrived.
    NetShortRead = "net-short-read";
    /// How much a short read from a connection returns.
    NetShortReadBytes = "net-short-read-bytes";
    /// How many bytes may be in transit on a connection.
    NetWindow = "net-window";
    /// Which of several listeners gets a connection.
    NetAccept = "net-accept";
    /// Whether a close is seen as an end or as a reset.
    NetClose = "net-close";
    /// Whether a reset throws away what had arrived unread.
    NetResetUnread = "net-reset-unread";
    /// How long it takes to give up on a machine that is silent.
    NetTimeout = "net-timeout";
    /// How long a parcel travels between shards.
    MeshLatency = "mesh-latency";
}

impl Site {
    /// The site with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|site| site.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found_again() {
        for &site in Site::ALL {
            assert_eq!(Site::named(site.name()), Some(site));
            assert!(site.description().ends_with('.'), "{}", site.name());
        }
        assert_eq!(Site::named("no such site"), None);
    }
}
