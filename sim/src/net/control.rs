//! The network as a test or a plan commands it.
//!
//! What is said of two machines holds from the first to the second only, unless it says otherwise.
//! What is asked for a time ends by itself; all of it ends with [`World::heal_all`].

use std::io;
use std::time::Duration;

use super::link::{Aimed, Cap, Gray};
use super::{Cut, LinkProfile, LinkStatistics, Network};
use crate::failure::Failure;
use crate::fault_kind::FaultKind;
use crate::kernel::Kernel;
use crate::machine::MachineId;
use crate::run::Core;
use crate::site::Site;
use crate::world::World;

/// In so many steps the pauses of a swizzle are drawn.
const PAUSES: u64 = 1024;

/// # The network
impl World {
    /// Visits the network, with the time `duration` from now.
    fn network<T>(
        &self,
        duration: Duration,
        visit: impl FnOnce(&mut Network, u64, &mut Kernel) -> T,
    ) -> T {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.shared().with(|core| {
            let Core { network, kernel, .. } = core;
            visit(network, kernel.now.saturating_add(nanos), kernel)
        })
    }

    /// Sets what the link between two machines is like, both ways.
    ///
    /// # Panics
    /// If the profile's packets hold nothing.
    pub fn set_link(&self, one: MachineId, other: MachineId, profile: LinkProfile) {
        self.set_link_one_way(one, other, profile);
        self.set_link_one_way(other, one, profile);
    }

    /// Sets what the link from one machine to another is like.
    ///
    /// # Panics
    /// If the profile's packets hold nothing.
    pub fn set_link_one_way(&self, from: MachineId, to: MachineId, profile: LinkProfile) {
        self.network(Duration::ZERO, |network, _, _| {
            let link = network.links.between(from.0, to.0);
            link.chosen = true;
            link.set_profile(profile);
        });
    }

    /// Sets what links between machines are like that [`set_link`](Self::set_link) has not spoken
    /// of.
    ///
    /// # Panics
    /// If the profile's packets hold nothing.
    pub fn set_default_link(&self, profile: LinkProfile) {
        assert!(profile.packet_bytes > 0, "a packet holds something");
        self.network(Duration::ZERO, |network, _, _| network.links.set_default(profile));
    }

    /// Holds back all packets from one machine to another until [`heal`](Self::heal): nothing is
    /// lost, as a transport that retransmits for ever makes of a broken link.
    pub fn block(&self, from: MachineId, to: MachineId) {
        self.partition_one_way(&[from], &[to], Cut::Hold);
    }

    /// Cuts all links between two groups, both ways. What lies within a group, and machines of
    /// neither, are as before; so cutting A from C leaves both with B.
    pub fn partition(&self, group: &[MachineId], others: &[MachineId], cut: Cut) {
        self.partition_one_way(group, others, cut);
        self.partition_one_way(others, group, cut);
    }

    /// Cuts all links from one group to another. Connections need both ways: they come to a halt,
    /// or time out, as soon as something has to go the way that is cut.
    pub fn partition_one_way(&self, from: &[MachineId], to: &[MachineId], cut: Cut) {
        self.network(Duration::ZERO, |network, _, kernel| {
            for (&from, &to) in from.iter().flat_map(|from| to.iter().map(move |to| (from, to))) {
                if from != to {
                    network.cut(from.0, to.0, cut, kernel);
                }
            }
        });
    }

    /// Cuts a machine from all others that there are, both ways.
    pub fn isolate(&self, machine: MachineId, cut: Cut) {
        self.partition(&[machine], &self.others(machine), cut);
    }

    /// All machines but one.
    fn others(&self, machine: MachineId) -> Vec<MachineId> {
        let count = self.shared().with(|core| core.machines.len() as u32);
        (0..count).map(MachineId).filter(|&other| other != machine).collect()
    }

    /// Lets packets pass again from one machine to another. A clog stays.
    pub fn heal(&self, from: MachineId, to: MachineId) {
        self.network(Duration::ZERO, |network, _, kernel| network.mend(from.0, to.0, kernel));
    }

    /// Ends all partitions, clogs, gray links, caps, refusals, and what was aimed at packets that
    /// have not come. Profiles stay, and what knobs do.
    pub fn heal_all(&self) {
        self.network(Duration::ZERO, |network, _, kernel| {
            network.refusing.clear();
            for number in 0..network.links.count() {
                let link = &mut network.links[number];
                link.gray = Gray::default();
                link.aimed = Aimed::default();
                link.cap = Cap::default();
                let (from, to) = (link.from, link.to);
                network.unclog(from, to, kernel);
                network.mend(from, to, kernel);
            }
        });
    }

    /// Slows a link to a crawl for a time: one packet passes in 50 ms, whatever it holds, and the
    /// others wait.
    pub fn clog(&self, from: MachineId, to: MachineId, duration: Duration) {
        self.network(duration, |network, until, _| network.clog(from.0, to.0, until));
    }

    /// Frees a clogged link. What waited there goes on at once.
    pub fn unclog(&self, from: MachineId, to: MachineId) {
        self.network(Duration::ZERO, |network, _, kernel| network.unclog(from.0, to.0, kernel));
    }

    /// Clogs a machine's links from and to all others that there are.
    pub fn clog_machine(&self, machine: MachineId, duration: Duration) {
        for other in self.others(machine) {
            self.clog(machine, other, duration);
            self.clog(other, machine, duration);
        }
    }

    /// Frees a machine's links from and to all others.
    pub fn unclog_machine(&self, machine: MachineId) {
        for other in self.others(machine) {
            self.unclog(machine, other);
            self.unclog(other, machine);
        }
    }

    /// As [`try_swizzle`](Self::try_swizzle).
    ///
    /// # Panics
    /// With the text of the [`Failure`], if the world fails.
    pub fn swizzle(&self, machines: &[MachineId], pause: Duration) {
        if let Err(failure) = self.try_swizzle(machines, pause) {
            panic!("{failure}");
        }
    }

    /// Clogs some of the machines, one after the other, and frees them in another order, with up to
    /// `pause` after each. Which, when and in which order is drawn. Time passes meanwhile; at the
    /// end none of them is clogged.
    ///
    /// # Errors
    /// If the world fails.
    pub fn try_swizzle(&self, machines: &[MachineId], pause: Duration) -> Result<(), Failure> {
        let choose = |range| self.choose(Site::NetSwizzle, 0, range);
        let rest = || self.try_run_for(pause.mul_f64((1 + choose(PAUSES)) as f64 / PAUSES as f64));
        let mut chosen: Vec<MachineId> =
            machines.iter().copied().filter(|_| choose(2) == 1).collect();
        shuffle(&mut chosen, choose);
        for &machine in &chosen {
            self.clog_machine(machine, Duration::MAX);
            rest()?;
        }
        shuffle(&mut chosen, choose);
        while let Some(machine) = chosen.pop() {
            self.unclog_machine(machine);
            // A link between two of them stays clogged for as long as either is.
            chosen.iter().for_each(|&other| self.clog_machine(other, Duration::MAX));
            rest()?;
        }
        Ok(())
    }

    /// Makes a link bad for a time: each packet takes `latency` times as long, and `loss` times as
    /// many are lost as the link's profile says, or as a link would that loses one in ten thousand.
    pub fn gray_link(
        &self,
        from: MachineId,
        to: MachineId,
        (loss, latency): (u32, u32),
        duration: Duration,
    ) {
        self.network(duration, |network, until, _| {
            network.links.between(from.0, to.0).gray = Gray { until, loss, latency };
        });
    }

    /// Makes the line of a link slow for a time. A faster line than the link has changes nothing.
    ///
    /// # Panics
    /// If the line would be no line.
    pub fn cap_bandwidth(
        &self,
        from: MachineId,
        to: MachineId,
        bytes_per_second: u64,
        duration: Duration,
    ) {
        assert!(bytes_per_second > 0, "to stop a line, cut it");
        self.network(duration, |network, until, _| {
            let link = network.links.between(from.0, to.0);
            if link.is_faster_than(bytes_per_second) {
                link.cap = Cap { until, bytes_per_second };
            }
        });
    }

    /// Resets all connections between two machines now: both ends see it at once.
    pub fn reset_connections(&self, one: MachineId, other: MachineId) {
        self.network(Duration::ZERO, |network, _, kernel| {
            let Network { connections, links, .. } = network;
            for (key, connection) in connections.iter_mut() {
                for end in [0, 1] {
                    let here = &connection.ends[end];
                    let machines = (here.machine, connection.ends[1 - end].machine);
                    let between = machines == (one.0, other.0) || machines == (other.0, one.0);
                    if between && connection.is_usable(end) {
                        let link = links.between(machines.1, machines.0);
                        link.statistics.resets += 1;
                        kernel.fault(FaultKind::AskedReset, here.node, "asked to reset");
                        connection.be_reset(key, end, io::ErrorKind::ConnectionReset, kernel);
                    }
                }
            }
        });
    }

    /// Lets a machine forget its connections with a peer: its own processes see resets, and the
    /// peer is not told. The connections are half open.
    pub fn forget_connections(&self, machine: MachineId, peer: MachineId) {
        self.network(Duration::ZERO, |network, _, kernel| {
            for (key, connection) in network.connections.iter_mut() {
                for end in [0, 1] {
                    let machines = (connection.ends[end].machine, connection.ends[1 - end].machine);
                    if machines == (machine.0, peer.0) && connection.is_usable(end) {
                        connection.be_reset(key, end, io::ErrorKind::ConnectionReset, kernel);
                        connection.forget(key, end, kernel);
                    }
                }
            }
        });
    }

    /// Loses the next packets from one machine to another. A packet that is sent again counts
    /// again: six in a row that find no other sender end a connection.
    pub fn drop_packets(&self, from: MachineId, to: MachineId, count: u32) {
        self.network(Duration::ZERO, |network, _, _| {
            network.links.between(from.0, to.0).aimed.lost += count;
        });
    }

    /// Makes the next packet from one machine to another late.
    pub fn delay_packet(&self, from: MachineId, to: MachineId, by: Duration) {
        self.network(by, |network, until, kernel| {
            network.links.between(from.0, to.0).aimed.delay = until - kernel.now;
        });
    }

    /// Changes some bytes of the next data that arrives from one machine at another.
    pub fn corrupt_packet(&self, from: MachineId, to: MachineId) {
        self.network(Duration::ZERO, |network, _, _| {
            network.links.between(from.0, to.0).aimed.corrupt += 1;
        });
    }

    /// Refuses whoever dials a port of a machine, for a time. Whoever is connected stays so.
    pub fn refuse_connects(&self, machine: MachineId, port: u16, duration: Duration) {
        self.network(duration, |network, until, _| {
            network.refusing.insert((machine.0, port), until);
        });
    }

    /// Takes a port of a machine, as a process that is not simulated would: listening on it fails
    /// with `AddrInUse`.
    pub fn occupy_port(&self, machine: MachineId, port: u16) {
        self.network(Duration::ZERO, |network, _, _| network.occupy(machine.0, port));
    }

    /// What happened on each link that was used so far, ordered by its pair of machines.
    #[must_use]
    pub fn link_statistics(&self) -> Vec<LinkStatistics> {
        self.shared().with(|core| {
            let machines = core.machines.len() as u32;
            let links = core.network.links.ordered();
            links.filter(|link| link.to < machines).map(|link| link.statistics).collect()
        })
    }
}

/// Brings a list into any order; all zeros leave it as it is.
fn shuffle<T>(list: &mut [T], choose: impl Fn(u64) -> u64) {
    for index in 0..list.len() {
        let other = index + choose((list.len() - index) as u64) as usize;
        list.swap(index, other);
    }
}
