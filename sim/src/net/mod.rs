//! The simulated network: reliable byte streams that arrive when and how they like.
//!
//! **What may fail here.** Rates are knobs in [`NetFaults`](crate::NetFaults); what has a method of
//! [`World`](crate::World) happens when a test or a plan says so, once or for a time; what has
//! neither is how a network is.
//!
//! | What happens | Knob | Method | What is seen of it |
//! |---|---|---|---|
//! | latency, tail, loss, bandwidth of a link | | `set_link`, `set_default_link` | as its [`LinkProfile`] says |
//! | slow packet | `slow` | `delay_packet` | up to 20 ms later, or as asked |
//! | tail | `tail` | | twenty times as long |
//! | loss | `loss` | `drop_packets` | later by a time that doubles; after six in a row the sender times out |
//! | segments | `segment` | | a packet arrives in two parts, a read returns less than there is |
//! | full window | | | a writer waits for its reader; the window is drawn for each connection |
//! | reset | `reset` | `reset_connections` | an error at both ends, unread bytes kept or not |
//! | closed or killed peer | | `kill` | an end, or a reset |
//! | dead machine | | `crash_os`, `power_cut` | silence, until it is back or its peers time out |
//! | half-open connection | | `forget_connections` | a reset for what is sent; a reader alone times out |
//! | connection on one side only | `one_sided` | | the side that has it finds it half open; the dialler may time out |
//! | refused connection | | `refuse_connects` | an error at once |
//! | full backlog | | | the request is dropped: the dialler asks again and may time out |
//! | partition, one way or both, held | | `block`, `partition`, `isolate` | packets come when it heals; dialling times out |
//! | the same, dropped | | `partition`, `isolate` | connections time out unless it heals before |
//! | clog | `clog` | `clog`, `clog_machine`, `swizzle` | one packet in 50 ms, one way |
//! | gray link | | `gray_link` | more loss and latency for a time |
//! | slow line | | `cap_bandwidth` | bytes pass at a lower rate for a time |
//! | corruption | `corrupt` | `corrupt_packet` | data arrives changed: a bit, or a burst of bytes |
//!
//! **What never fails.** Without corruption, the bytes that arrive are a prefix of those that were
//! written, in order; nothing follows an end; a reset is seen as an error, never as an end.
//! Duplicates and reordering do not exist in a byte stream: the kernel that acknowledges sees to
//! that, and a lost packet is a late one. Corruption does exist, because the transport's checksum
//! is sixteen bits and the machines between may break it; so it is for those who can notice.
//!
//! **Where it happens.** Each connection sends on two links, one each way. What is drawn for a
//! packet is drawn when it is sent; a partition, a clog or a slow line meets it when it would
//! arrive, so it also stops what was on its way. Everything holds for one direction, and the other
//! is another link. A machine's link with itself is only ever reset and segmented.
//!
//! Layout: `link` holds what one direction does to a packet, `hold` packets that wait, `connection`
//! the two streams of a connection, `dial` how one comes to be, `control` the methods of the world,
//! `handle` the seam's traits.

mod connection;
mod control;
mod count;
mod dial;
mod handle;
mod hold;
mod link;
mod segments;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

pub use handle::{SimListener, SimNet, SimStream};
pub use link::{Cut, LinkProfile, LinkStatistics};

use crate::kernel::Kernel;
use crate::site::Site;
use crate::slab::{Key, Slab};
use connection::Connection;
use dial::{Dial, ListenerState, Port};
use link::Links;

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
    /// Sockets that listened so far; listeners of several shards may share one.
    sockets: u64,
    /// What listens, by machine and port.
    ports: BTreeMap<(u32, u16), Port>,
    /// Ports that refuse whoever dials them, and until when.
    refusing: BTreeMap<(u32, u16), u64>,
    links: Links,
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
        let Self { connections, links, .. } = self;
        for (key, connection) in connections.iter_mut() {
            connection.reset_silent_peer(key, machine, links, kernel);
        }
    }
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
