//! The simulated network: reliable byte streams that arrive when and how they like.
//!
//! **What may fail here.** Packets take a drawn time, sometimes a long one. What was written in one
//! piece arrives in any pieces. A window bounds what is in transit or unread in one direction, and
//! writers wait for it. Connections are refused when nobody listens, time out when the machine is
//! off, and are reset at random if [`Faults`](crate::Faults) say so. A process that dies leaves
//! ends or resets behind; a machine that dies leaves silence, until it is back or its peers give up.
//!
//! **What never fails.** The bytes that arrive are a prefix of those that were written, in order,
//! unchanged; nothing follows an end; a reset is seen as an error, never as an end.
//!
//! Layout: `connection` holds the two streams of a connection, `dial` how one comes to be, `handle`
//! the seam's traits.

mod connection;
mod count;
mod dial;
mod handle;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

pub use handle::{SimListener, SimNet, SimStream};

use crate::event::Event;
use crate::fault_kind::FaultKind;
use crate::kernel::Kernel;
use crate::site::Site;
use crate::slab::{Key, Slab};
use connection::Connection;
use dial::{Dial, ListenerState, Port};

/// The address of the machine with this number.
pub(crate) fn address_of(machine: u32) -> IpAddr {
    let [_, _, high, low] = (machine + 1).to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, 0, high, low))
}

/// Which machine an address belongs to, seen from one of them.
fn machine_at(address: IpAddr, from: u32) -> Option<u32> {
    if address.is_loopback() || address.is_unspecified() {
        return Some(from);
    }
    match address {
        IpAddr::V4(address) => match address.octets() {
            [10, 0, high, low] => u32::from_be_bytes([0, 0, high, low]).checked_sub(1),
            _ => None,
        },
        IpAddr::V6(_) => None,
    }
}

/// All connections of a world, and all that listens.
#[derive(Default)]
pub(crate) struct Network {
    connections: Slab<Connection>,
    dials: Slab<Dial>,
    listeners: Slab<ListenerState>,
    /// What listens, by machine and port.
    ports: BTreeMap<(u32, u16), Port>,
    /// Directions in which packets are held back, with those that wait.
    blocked: BTreeMap<(u32, u32), Vec<Event>>,
    /// Machines that are off.
    off: BTreeSet<u32>,
}

impl Network {
    pub(crate) fn has_connection(&self, key: Key) -> bool {
        self.connections.contains(key)
    }

    pub(crate) fn has_dial(&self, key: Key) -> bool {
        self.dials.contains(key)
    }

    /// Holds back packets.
    pub(crate) fn block(&mut self, from: u32, to: u32) {
        self.blocked.entry((from, to)).or_default();
    }

    /// Lets packets pass again.
    pub(crate) fn heal(&mut self, from: u32, to: u32, kernel: &mut Kernel) {
        for event in self.blocked.remove(&(from, to)).unwrap_or_default() {
            // All at one time, so that they keep their order.
            kernel.after(200_000, event);
        }
    }

    /// Keeps an event back if its packet's way is blocked.
    fn held_back(&mut self, from: u32, to: u32, event: Event) -> bool {
        if self.blocked.is_empty() {
            return false;
        }
        let held = self.blocked.get_mut(&(from, to));
        held.is_some_and(|events| {
            events.push(event);
            true
        })
    }

    /// A process has ended. `process` is its number.
    pub(crate) fn process_is_gone(&mut self, process: u32, kernel: &mut Kernel) {
        self.drop_listeners(|listener| listener.process == process, kernel);
        self.drop_dials(|dial| dial.process == process, kernel);
        for key in self.connections.keys() {
            for end in 0..2 {
                let connection = self.connections.get(key);
                let node = connection.and_then(|connection| connection.held_by(end, process));
                if let Some(node) = node {
                    let reset = kernel.choose(Site::NetClose, node, 2) == 1;
                    self.close_end(key, end, reset, kernel);
                }
            }
        }
    }

    /// A machine is off: what it sent before still arrives, and then nothing.
    pub(crate) fn machine_is_off(&mut self, machine: u32, kernel: &mut Kernel) {
        self.off.insert(machine);
        self.drop_listeners(|listener| listener.machine == machine, kernel);
        self.drop_dials(|dial| dial.machine == machine, kernel);
        for key in self.connections.keys() {
            for end in 0..2 {
                self.silence_end(key, end, machine, kernel);
            }
        }
    }

    /// A machine that was off is back: it answers packets for connections it has forgotten with a
    /// reset.
    pub(crate) fn machine_is_back(&mut self, machine: u32, kernel: &mut Kernel) {
        self.off.remove(&machine);
        for (key, connection) in self.connections.iter_mut() {
            connection.reset_silent_peer(key, machine, kernel);
        }
    }
}

/// How long a packet takes.
fn latency(from: u32, to: u32, node: u32, kernel: &mut Kernel) -> u64 {
    let drawn = kernel.choose(Site::NetLatency, node, 1024);
    let mut nanos = if from == to { 2_000 + drawn * 10 } else { 50_000 + drawn * 440 };
    if from != to && kernel.chance(Site::NetSlow, node, kernel.faults.net.slow) {
        nanos += kernel.choose(Site::NetSlowness, node, 20_000_000);
        kernel.fault(FaultKind::SlowPacket, node, "slow packet");
    }
    nanos
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_machines() {
        for machine in [0, 1, 254, 255, 4000] {
            assert_eq!(machine_at(address_of(machine), 7), Some(machine));
        }
        assert_eq!(machine_at("127.0.0.1".parse().expect("an address"), 7), Some(7));
        assert_eq!(machine_at("::1".parse().expect("an address"), 7), Some(7));
        assert_eq!(machine_at("10.0.0.0".parse().expect("an address"), 7), None);
        assert_eq!(machine_at("192.168.0.1".parse().expect("an address"), 7), None);
    }
}
