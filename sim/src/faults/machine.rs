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
    /// Readings of wall time, per million, before which it jumps by up to an hour either way.
    wall_jump: 0, 50..=50_000, Budgeted;
    /// Readings of wall time, per million, from which on it stands still for up to 10 s.
    wall_freeze: 0, 50..=50_000, Budgeted;
    /// Readings of wall time, per million, after which a second of it comes twice.
    wall_leap: 0, 50..=50_000, Budgeted;
    /// How much a monotonic clock may run fast or slow, in parts per million.
    monotonic_drift_ppm: 0, 1..=500, Budgeted;
    /// Boots, per million, from which on monotonic time runs at half to nearly full speed.
    monotonic_slow: 0, 5_000..=320_000, Budgeted;
    /// Polls, per million, after which the machine is paused for 10 ms to 10 s.
    pause: 0, 1..=32, Budgeted;
}
