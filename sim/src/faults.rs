//! The knobs: how often what goes wrong.
//!
//! Rates are per million of the operations they speak of. What a crash does to data is not a knob
//! but the contract of the seam: a crash loses what it may lose, as drawn from the seed.

use crate::choice::scramble;

/// How often what goes wrong. The default is what a healthy machine under load does: slow
/// operations, short reads and torn writes at a power cut, but no errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// Disk operations that take up to 5 ms instead of up to 300 µs.
    pub disk_slow: u32,
    /// Reads that fail with an input/output error.
    pub disk_read_error: u32,
    /// Writes that fail so, leaving any subset of their blocks.
    pub disk_write_error: u32,
    /// `sync_data` that fails so, leaving all unflushed blocks unknown for ever.
    pub disk_sync_error: u32,
    /// Other disk operations that fail so, changing nothing.
    pub disk_other_error: u32,
    /// Reads that return less than there is.
    pub disk_short_read: u32,
    /// Whether a power cut may leave sectors shorn or full of garbage, besides old and new.
    pub torn_sectors: bool,
    /// Packets that take up to 20 ms longer.
    pub net_slow: u32,
    /// Packets that find their connection reset, both ways.
    pub net_reset: u32,
    /// Packets that arrive in two parts, and reads that return less than has arrived.
    pub net_segment: u32,
    /// Polls after which the core is taken away for up to 1 ms.
    pub poll_stall: u32,
    /// Timers that fire up to 1 ms late.
    pub timer_late: u32,
    /// Processes of which one shard runs forty times slower than the others.
    pub starved_shard: u32,
    /// How far a machine's wall clock may be off either way, in milliseconds.
    pub wall_offset_ms: u32,
    /// How much a machine's wall clock may drift either way, in parts per million.
    pub wall_drift_ppm: u32,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            disk_slow: 5_000,
            disk_read_error: 0,
            disk_write_error: 0,
            disk_sync_error: 0,
            disk_other_error: 0,
            disk_short_read: 10_000,
            torn_sectors: true,
            net_slow: 5_000,
            net_reset: 0,
            net_segment: 200_000,
            poll_stall: 200,
            timer_late: 100_000,
            starved_shard: 20_000,
            wall_offset_ms: 500,
            wall_drift_ppm: 100,
        }
    }
}

impl Faults {
    /// Nothing goes wrong by itself. Crashes that a test asks for still lose what they may.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            disk_slow: 0,
            disk_read_error: 0,
            disk_write_error: 0,
            disk_sync_error: 0,
            disk_other_error: 0,
            disk_short_read: 0,
            torn_sectors: true,
            net_slow: 0,
            net_reset: 0,
            net_segment: 0,
            poll_stall: 0,
            timer_late: 0,
            starved_shard: 0,
            wall_offset_ms: 0,
            wall_drift_ppm: 0,
        }
    }

    /// The default with each kind off in half of all seeds and up to sixteen times as frequent in
    /// the others, and with random connection resets. Leaving kinds out finds more than always
    /// having all of them, because some hide what others would show.
    #[must_use]
    pub fn swarm(seed: u64) -> Self {
        let mut state = scramble(seed ^ 0xFA_17);
        let mut vary = |rate: u32| {
            state = scramble(state.wrapping_add(0x9E37_79B9_7F4A_7C15));
            if state & 1 == 0 { 0 } else { rate << ((state >> 1) % 5) }
        };
        let usual = Self::default();
        Self {
            disk_slow: vary(usual.disk_slow),
            disk_short_read: vary(usual.disk_short_read),
            torn_sectors: vary(1) > 0,
            net_slow: vary(usual.net_slow),
            net_reset: vary(20),
            net_segment: vary(40_000),
            poll_stall: vary(usual.poll_stall),
            timer_late: vary(20_000),
            starved_shard: vary(usual.starved_shard),
            wall_offset_ms: vary(usual.wall_offset_ms),
            wall_drift_ppm: vary(usual.wall_drift_ppm),
            ..usual
        }
    }
}
