//! What goes wrong with the network.

use super::knobs;

knobs! {
    /// How often what goes wrong with the network. Rates are per million of the packets, reads or
    /// connections they speak of. Nothing goes wrong between a machine and itself but resets and
    /// segments.
    NetFaults, "net";

    /// Packets that take up to 20 ms longer.
    slow: 5_000, 500..=80_000, Budgeted;
    /// Packets that take twenty times as long.
    tail: 0, 500..=50_000, Budgeted;
    /// Packets that are lost and sent again later.
    loss: 0, 100..=20_000, Budgeted;
    /// Packets after which their link lets hardly anything pass for up to 2 s.
    clog: 0, 10..=1_000, Budgeted;
    /// Connections that come to be on one side only.
    one_sided: 0, 1_000..=100_000, Budgeted;
    /// Packets that find their connection reset, both ways.
    reset: 0, 10..=500, Budgeted;
    /// Packets that arrive in two parts, and reads that return less than has arrived.
    segment: 200_000, 5_000..=500_000, Budgeted;
    /// Packets that arrive with one bit or up to 16 bytes changed: no checksum of the transport
    /// sees all of it.
    corrupt: 0, 10..=10_000, Unrestricted;
}
