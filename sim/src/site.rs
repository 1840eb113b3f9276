//! The table of all places where the world decides something.
//!
//! A choice is named by its site, a node (a machine, or a shard of one) and how often that node
//! has chosen there before. Its value does not depend on any other choice, so adding a site, or
//! asking one more often, leaves all others as they were.

use crate::choice::scramble;

/// What kind of thing is decided at a site. Whoever simplifies a failing run goes by it: with its
/// schedule and its timing harmless, a run is far simpler and hardly less faulty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SiteClass {
    /// In which order things happen that are ready at one time.
    Schedule,
    /// How long ordinary things take.
    Timing,
    /// What goes wrong, and how badly.
    Fault,
    /// When and where a plan strikes.
    Plan,
    /// What clients do.
    Workload,
}

impl SiteClass {
    /// All classes, from the one that a simpler run misses least to the one it misses most.
    pub const ALL: [Self; 5] =
        [Self::Schedule, Self::Timing, Self::Fault, Self::Plan, Self::Workload];

    /// A name for people and for reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Timing => "timing",
            Self::Fault => "fault",
            Self::Plan => "plan",
            Self::Workload => "workload",
        }
    }
}

/// Declares the sites: one line of documentation, the variant, the name used on tapes, and the
/// class.
macro_rules! sites {
    ($(#[doc = $doc:literal] $variant:ident = $name:literal, $class:ident;)*) => {
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

            /// What kind of thing is decided there.
            #[must_use]
            pub const fn class(self) -> SiteClass {
                match self {
                    $(Self::$variant => SiteClass::$class,)*
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
    Workload = "workload", Workload;
    /// For scenarios: when and where a plan strikes.
    Plan = "plan", Plan;
    /// The scheduling policy of the world.
    Policy = "policy", Schedule;
    /// Which of the ready tasks runs.
    Task = "task", Schedule;
    /// What one poll costs on a shard, once for each process.
    PollCost = "poll-cost", Timing;
    /// Whether a shard runs much slower than the others, once for each process.
    Starved = "starved", Fault;
    /// Whether the core is taken away after a poll.
    PollStall = "poll-stall", Fault;
    /// For how long the core is taken away.
    PollStallLength = "poll-stall-length", Fault;
    /// Whether a timer fires late.
    TimerLate = "timer-late", Fault;
    /// How late a timer fires.
    TimerLateness = "timer-lateness", Fault;
    /// Where a machine's monotonic clock starts.
    MonotonicStart = "monotonic-start", Timing;
    /// How far a machine's wall clock is off.
    WallOffset = "wall-offset", Fault;
    /// How fast a machine's wall clock drifts.
    WallDrift = "wall-drift", Fault;
    /// How long a disk operation takes, and when within that time it happens.
    DiskLatency = "disk-latency", Timing;
    /// Whether a disk operation is one of the slow ones.
    DiskSlow = "disk-slow", Fault;
    /// How slow a slow disk operation is.
    DiskSlowness = "disk-slowness", Fault;
    /// Whether a disk operation fails.
    DiskError = "disk-error", Fault;
    /// Whether a disk stops completing anything for a while.
    DiskStall = "disk-stall", Fault;
    /// For how long a disk completes nothing.
    DiskStallLength = "disk-stall-length", Fault;
    /// Whether a disk becomes slow for a while.
    DiskSlowPeriod = "disk-slow-period", Fault;
    /// For how long a disk is slow, and by which factor.
    DiskSlowPeriodLength = "disk-slow-period-length", Fault;
    /// Which kind of disk a machine has.
    DiskProfile = "disk-profile", Fault;
    /// The size of a disk's sectors.
    DiskSector = "disk-sector", Fault;
    /// In which order a disk's file system brings names to the media.
    DiskNameOrder = "disk-name-order", Fault;
    /// Whether something of a disk fails from now on.
    StickyError = "sticky-error", Fault;
    /// What fails from now on: a block, a file or the disk.
    StickyScope = "sticky-scope", Fault;
    /// Whether an operation on names is refused for want of room.
    MetadataFull = "metadata-full", Fault;
    /// Whether blocks on media become unreadable.
    LatentError = "latent-error", Fault;
    /// Which blocks become unreadable.
    LatentErrorPlace = "latent-error-place", Fault;
    /// Whether bytes on media change by themselves.
    BitRot = "bit-rot", Fault;
    /// Which bytes change by themselves.
    BitRotPlace = "bit-rot-place", Fault;
    /// How bytes change by themselves: a bit, a burst or a sector.
    BitRotExtent = "bit-rot-extent", Fault;
    /// Whether a read returns what lies elsewhere on the disk.
    MisdirectedRead = "misdirected-read", Fault;
    /// Where a misdirected read reads.
    MisdirectedReadPlace = "misdirected-read-place", Fault;
    /// Whether a write lands elsewhere on the disk.
    MisdirectedWrite = "misdirected-write", Fault;
    /// Where a misdirected write lands.
    MisdirectedWritePlace = "misdirected-write-place", Fault;
    /// Whether a write is acknowledged and never done.
    LostWrite = "lost-write", Fault;
    /// Whether a flush is acknowledged and not done.
    LyingFlush = "lying-flush", Fault;
    /// Whether a disk begins to lie about all flushes.
    LyingPeriod = "lying-period", Fault;
    /// For how long a disk lies about all flushes.
    LyingPeriodLength = "lying-period-length", Fault;
    /// What a failed write or sync left of one block.
    FailedBlock = "failed-block", Fault;
    /// Whether a read returns less than it was asked for.
    ShortRead = "short-read", Fault;
    /// How much a short read returns.
    ShortReadBlocks = "short-read-blocks", Fault;
    /// What a read sees of a write that is in flight.
    ReadRace = "read-race", Fault;
    /// Which sectors of a write in flight a read sees.
    ReadRaceSectors = "read-race-sectors", Fault;
    /// Whether an older version of a dirty block was written back before it was overwritten.
    WriteBack = "write-back", Fault;
    /// Whether a sync also covers a block written after it was asked for.
    SyncExtra = "sync-extra", Fault;
    /// In which order a directory is listed.
    ListOrder = "list-order", Schedule;
    /// How lucky a crash is: what share of unflushed data survives.
    CrashMood = "crash-mood", Fault;
    /// What a crash leaves of one unflushed block.
    CrashBlock = "crash-block", Fault;
    /// Whether an operation in flight happened before the crash.
    CrashInFlight = "crash-in-flight", Fault;
    /// How many of the latest unsynced names a crash loses.
    CrashNames = "crash-names", Fault;
    /// Which of the unsynced names a crash loses, on a disk that keeps no order among them.
    CrashNameSet = "crash-name-set", Fault;
    /// How many of the latest unsynced length changes a crash loses.
    CrashLength = "crash-length", Fault;
    /// How long a packet travels.
    NetLatency = "net-latency", Timing;
    /// Whether a packet is one of the slow ones.
    NetSlow = "net-slow", Fault;
    /// How slow a slow packet is.
    NetSlowness = "net-slowness", Fault;
    /// Whether a packet lies in the tail of its link's latencies.
    NetTail = "net-tail", Fault;
    /// Whether a packet is lost.
    NetLoss = "net-loss", Fault;
    /// Whether a link becomes clogged.
    NetClog = "net-clog", Fault;
    /// For how long a link is clogged.
    NetClogLength = "net-clog-length", Fault;
    /// Which machines are clogged one after the other, when, and in which order they are freed.
    NetSwizzle = "net-swizzle", Fault;
    /// Whether a packet is changed on its way.
    NetCorrupt = "net-corrupt", Fault;
    /// Where and how a packet is changed.
    NetCorruptBytes = "net-corrupt-bytes", Fault;
    /// Whether a connection comes to be on one side only.
    NetOneSided = "net-one-sided", Fault;
    /// On which side it does.
    NetOneSidedEnd = "net-one-sided-end", Fault;
    /// Whether a connection is reset as a packet arrives.
    NetReset = "net-reset", Fault;
    /// Whether a packet arrives in parts.
    NetSplit = "net-split", Fault;
    /// Where a packet is cut.
    NetSplitBytes = "net-split-bytes", Fault;
    /// Whether a read returns less than has arrived.
    NetShortRead = "net-short-read", Fault;
    /// How much a short read from a connection returns.
    NetShortReadBytes = "net-short-read-bytes", Fault;
    /// How many bytes may be in transit on a connection.
    NetWindow = "net-window", Timing;
    /// Which of several listeners gets a connection.
    NetAccept = "net-accept", Schedule;
    /// Whether a close is seen as an end or as a reset.
    NetClose = "net-close", Fault;
    /// Whether a reset throws away what had arrived unread.
    NetResetUnread = "net-reset-unread", Fault;
    /// How long it takes to give up on a machine that is silent.
    NetTimeout = "net-timeout", Timing;
    /// How long a parcel travels between shards.
    MeshLatency = "mesh-latency", Timing;
    /// The priority of a task, once for each stretch of a run.
    TaskPriority = "task-priority", Schedule;
    /// After how many steps of a stretch the running task falls behind all others.
    ChangePoint = "change-point", Schedule;
    /// Which core of a process is starved by the policy, once for each process.
    StarvedCore = "starved-core", Schedule;
    /// Whether wall time jumps before it is read.
    WallJump = "wall-jump", Fault;
    /// How far wall time jumps.
    WallJumpLength = "wall-jump-length", Fault;
    /// Whether wall time jumps backwards.
    WallJumpBack = "wall-jump-back", Fault;
    /// Whether wall time stands still from a reading on.
    WallFreeze = "wall-freeze", Fault;
    /// For how long wall time stands still.
    WallFreezeLength = "wall-freeze-length", Fault;
    /// Whether wall time stays late after it stood still.
    WallFreezeLate = "wall-freeze-late", Fault;
    /// Whether the next second of wall time comes twice.
    WallLeap = "wall-leap", Fault;
    /// How much faster or slower than it should monotonic time runs, once for each boot.
    MonotonicDrift = "monotonic-drift", Fault;
    /// Whether monotonic time runs slow, once for each boot.
    MonotonicSlow = "monotonic-slow", Fault;
    /// How slow slow monotonic time runs.
    MonotonicSlowness = "monotonic-slowness", Fault;
    /// Whether a machine is paused after a poll.
    Pause = "pause", Fault;
    /// For how long a machine is paused.
    PauseLength = "pause-length", Fault;
    /// Which clocks of a paused machine stand still.
    PauseClocks = "pause-clocks", Fault;
    /// How long a machine that is being rebooted is off.
    BootDelay = "boot-delay", Timing;
    /// How much later than it has to be a supervised process is started again.
    RestartDelay = "restart-delay", Timing;
}

/// For each site a number that follows from its name alone, so that a new site, wherever it stands
/// in the table, leaves the choices at all others as they were.
const STREAMS: [u64; Site::ALL.len()] = {
    let mut streams = [0; Site::ALL.len()];
    let mut index = 0;
    while index < streams.len() {
        let name = Site::ALL[index].name().as_bytes();
        let mut byte = 0;
        while byte < name.len() {
            streams[index] = scramble(streams[index] ^ name[byte] as u64);
            byte += 1;
        }
        index += 1;
    }
    streams
};

impl Site {
    /// The number from which its choices follow.
    pub(crate) const fn stream(self) -> u64 {
        STREAMS[self as usize]
    }

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

    #[test]
    fn every_class_has_sites() {
        for class in SiteClass::ALL {
            assert!(Site::ALL.iter().any(|site| site.class() == class), "{}", class.name());
        }
        assert_eq!(Site::Task.class(), SiteClass::Schedule);
        assert_eq!(Site::CrashBlock.class(), SiteClass::Fault);
    }
}
