//! What goes wrong with the network.

use super::knobs;

knobs! {
    /// How often what goes wrong with the network. Rates are per million of the packets or reads
    /// they speak of.
    NetFaults, "net";

    /// Packets that take up to 20 ms longer.
    slow: 5_000, 500..=80_000, Budgeted;
    /// Packets that find their connection reset, both ways.
    reset: 0, 10..=500, Budgeted;
    /// Packets that arrive in two parts, and reads that return less than has arrived.
    segment: 200_000, 5_000..=500_000, Budgeted;
}
