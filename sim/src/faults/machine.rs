//! What goes wrong with machines, their clocks and their cores.

use super::knobs;

knobs! {
    /// How often what goes wrong with machines, and how far their clocks are off.
    MachineFaults, "machine";

    /// Polls, per million, after which the core is taken away for up to 1 ms.
    poll_stall: 200, 20..=3_200, Budgeted;
    /// Timers, per million, that fire up to 1 ms late.
    timer_late: 100_000, 5_000..=320_000, Budgeted;
    /// Processes, per million, of which one shard runs forty times slower than the others.
    starved_shard: 20_000, 5_000..=320_000, Budgeted;
    /// How far a wall clock may be off either way, in milliseconds.
    wall_offset_ms: 500, 1..=8_000, Budgeted;
    /// How much a wall clock may drift either way, in parts per million.
    wall_drift_ppm: 100, 1..=1_600, Budgeted;
}
