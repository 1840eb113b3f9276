//! What goes wrong with disks.

use super::knobs;

knobs! {
    /// How often what goes wrong with disks. Rates are per million of the operations they speak of.
    DiskFaults, "disk";

    /// Operations that take longer, by up to the tail of the disk's profile.
    slow: 5_000, 500..=80_000, Budgeted;
    /// Operations with which the disk stops completing anything, for 100 ms to 60 s.
    stall: 0, 1..=200, Budgeted;
    /// Operations with which the disk becomes 10 to 100 times slower, for 100 ms to 10 s.
    slow_period: 0, 1..=200, Budgeted;
    /// Reads that return less than there is.
    short_read: 10_000, 1_000..=160_000, Budgeted;
    /// Whether a power cut may leave sectors shorn or full of garbage, besides old and new.
    torn_sectors: 1, 1..=1, Budgeted;
    /// Whether a power cut may leave blocks that cannot be read where it leaves torn ones.
    unreadable_blocks: 0, 1..=1, Budgeted;
    /// Reads that fail with an input/output error.
    read_error: 0, 10..=10_000, Unrestricted;
    /// Writes that fail so, leaving any subset of their blocks.
    write_error: 0, 10..=10_000, Unrestricted;
    /// `sync_data` that fails so, leaving all unflushed blocks unknown for ever.
    sync_error: 0, 10..=10_000, Unrestricted;
    /// Other operations that fail so, changing nothing.
    other_error: 0, 10..=10_000, Unrestricted;
    /// Operations with which a block, a file or the disk begins to fail, until it is healed.
    sticky_error: 0, 1..=1_000, Unrestricted;
    /// Creations, renames and allocations that are refused for want of room.
    metadata_full: 0, 10..=10_000, Unrestricted;
    /// Operations with which up to 8 neighbouring blocks on media become unreadable until they are
    /// written again.
    latent_error: 0, 10..=10_000, Unrestricted;
    /// Operations with which a bit, a burst of bytes or a sector on media changes by itself.
    bit_rot: 0, 10..=10_000, Unrestricted;
    /// Reads that return what lies elsewhere on the disk.
    misdirected_read: 0, 10..=10_000, Unrestricted;
    /// Writes that land elsewhere on the disk.
    misdirected_write: 0, 10..=10_000, Unrestricted;
    /// Writes that are acknowledged and never done.
    lost_write: 0, 10..=10_000, Unrestricted;
    /// Flushes and durable writes that are acknowledged while a power cut may still undo them.
    lying_flush: 0, 100..=160_000, Unrestricted;
    /// Operations with which the disk begins to lie about all flushes, for 10 ms to 10 s.
    lying_period: 0, 1..=1_000, Unrestricted;
}
