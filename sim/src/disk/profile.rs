//! Kinds of disks: how fast they are, and what they keep when the power goes.

use std::time::Duration;

use crate::limits::DISK_BYTES;

/// How long something takes: at least `least`, at most `least` and `spread`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// What it takes at least, in nanoseconds.
    pub least: u64,
    /// How much longer it may take, in nanoseconds. Drawn evenly.
    pub spread: u64,
}

impl Latency {
    const fn micros(least: u64, spread: u64) -> Self {
        Self { least: least * 1_000, spread: spread * 1_000 }
    }
}

/// In which order names that were not synced reach the media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameOrder {
    /// As they were changed, as with one journal for all: a crash keeps a prefix of the changes.
    Prefix,
    /// In any order: a crash keeps any of the changes, but of those of one name a prefix.
    Any,
}

/// A kind of disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskProfile {
    /// A name for people.
    pub name: &'static str,
    /// Of reads, without the transfer of their bytes.
    pub read: Latency,
    /// Of volatile writes, without the transfer of their bytes.
    pub volatile_write: Latency,
    /// Of durable writes, without the transfer of their bytes.
    pub durable_write: Latency,
    /// Of `sync_data` and `sync_directory`.
    pub flush: Latency,
    /// Of operations on names, allocations and truncations.
    pub metadata: Latency,
    /// How much longer the operations take that [`slow`](crate::DiskFaults::slow) picks.
    pub tail: Duration,
    /// Bytes a second, shared by all operations in flight.
    pub bandwidth: u64,
    /// Operations that the disk works on at the same time; others wait. At
    /// [`ENDLESS_QUEUE`](crate::limits::ENDLESS_QUEUE) none ever waits.
    pub queue_depth: usize,
    /// Whether the disk's cache survives a power cut. Such a cut is to the disk what a crash of the
    /// operating system is: whole blocks that were still above the disk may be lost, no sector is
    /// torn, and what a lying flush left in the cache is safe.
    pub power_loss_protection: bool,
    /// Bytes that a power cut leaves old, new or torn: 512 or 4096. Drawn from the seed if not
    /// given.
    pub sector_bytes: Option<usize>,
    /// Which names a crash may keep. Drawn from the seed if not given.
    pub name_order: Option<NameOrder>,
    /// Bytes it holds.
    pub capacity: u64,
}

impl DiskProfile {
    /// A local NVMe disk with a volatile cache. What a machine has unless a test says otherwise.
    pub const NVME: Self = Self {
        name: "nvme",
        read: Latency::micros(20, 130),
        volatile_write: Latency::micros(20, 100),
        durable_write: Latency::micros(60, 240),
        flush: Latency::micros(60, 240),
        metadata: Latency::micros(10, 90),
        tail: Duration::from_millis(5),
        bandwidth: 2_000_000_000,
        queue_depth: crate::limits::ENDLESS_QUEUE,
        power_loss_protection: false,
        sector_bytes: None,
        name_order: None,
        capacity: DISK_BYTES,
    };

    /// A SATA solid state disk of the cheaper kind: its flushes are slow.
    pub const SATA_SSD: Self = Self {
        name: "sata-ssd",
        read: Latency::micros(80, 300),
        volatile_write: Latency::micros(50, 150),
        durable_write: Latency::micros(400, 3_000),
        flush: Latency::micros(500, 4_000),
        metadata: Latency::micros(30, 200),
        tail: Duration::from_millis(30),
        bandwidth: 500_000_000,
        queue_depth: 32,
        power_loss_protection: false,
        sector_bytes: None,
        name_order: None,
        capacity: 512 << 30,
    };

    /// A volume over the network of a data centre: what it acknowledged is replicated, and its
    /// tail is long.
    pub const CLOUD_VOLUME: Self = Self {
        name: "cloud-volume",
        read: Latency::micros(400, 1_000),
        volatile_write: Latency::micros(400, 1_000),
        durable_write: Latency::micros(600, 2_000),
        flush: Latency::micros(600, 2_000),
        metadata: Latency::micros(100, 500),
        tail: Duration::from_millis(200),
        bandwidth: 250_000_000,
        queue_depth: 64,
        power_loss_protection: true,
        sector_bytes: None,
        name_order: None,
        capacity: 256 << 30,
    };

    /// A disk that turns, with a volatile cache.
    pub const HDD: Self = Self {
        name: "hdd",
        read: Latency::micros(2_000, 14_000),
        volatile_write: Latency::micros(100, 2_000),
        durable_write: Latency::micros(4_000, 16_000),
        flush: Latency::micros(8_000, 40_000),
        metadata: Latency::micros(50, 8_000),
        tail: Duration::from_millis(500),
        bandwidth: 150_000_000,
        queue_depth: 32,
        power_loss_protection: false,
        sector_bytes: None,
        name_order: None,
        capacity: 4 << 40,
    };

    /// All kinds, the usual one first.
    pub const ALL: [Self; 4] = [Self::NVME, Self::SATA_SSD, Self::CLOUD_VOLUME, Self::HDD];

    /// The same with sectors of so many bytes.
    #[must_use]
    pub const fn with_sector_bytes(self, bytes: usize) -> Self {
        Self { sector_bytes: Some(bytes), ..self }
    }

    /// The same with names that reach the media in this order.
    #[must_use]
    pub const fn with_name_order(self, order: NameOrder) -> Self {
        Self { name_order: Some(order), ..self }
    }

    /// Nanoseconds in which so many bytes pass.
    pub(super) const fn transfer(&self, bytes: usize) -> u64 {
        (bytes as u64).saturating_mul(1_000_000_000) / self.bandwidth
    }

    /// # Panics
    /// If there is no such disk.
    pub(super) fn check(&self) {
        assert!(self.bandwidth > 0, "a disk moves bytes");
        assert!(self.queue_depth > 0, "a disk works on something");
        assert!(self.tail < Duration::from_secs(4), "a tail is one choice, in nanoseconds");
        let sector = self.sector_bytes;
        assert!(sector.is_none_or(|bytes| matches!(bytes, 512 | 4096)), "no sector is {sector:?}");
    }
}
