//! What goes wrong with disks.

use super::knobs;

knobs! {
    /// How often what goes wrong with disks. Rates are per million of the operations they speak of.
    DiskFaults, "disk";

    /// Operations that take up to 5 ms instead of up to 300 µs.
    slow: 5_000, 500..=80_000, Budgeted;
    /// Reads that return less than there is.
    short_read: 10_000, 1_000..=160_000, Budgeted;
    /// Whether a power cut may leave sectors shorn or full of garbage, besides old and new.
    torn_sectors: 1, 1..=1, Budgeted;
    /// Reads that fail with an input/output error.
    read_error: 0, 10..=10_000, Unrestricted;
    /// Writes that fail so, leaving any subset of their blocks.
    write_error: 0, 10..=10_000, Unrestricted;
    /// `sync_data` that fails so, leaving all unflushed blocks unknown for ever.
    sync_error: 0, 10..=10_000, Unrestricted;
    /// Other operations that fail so, changing nothing.
    other_error: 0, 10..=10_000, Unrestricted;
}
