//! One direction between two machines: how long its packets take, and what happens to them there.
//!
//! What is written at once travels as one train of packets with one drawn latency. A line that is
//! not infinitely fast sends one train after the other, whichever connections they belong to. A
//! packet that is lost is sent again after a while that doubles each time, so whoever reads sees a
//! delay and never a gap; a sender whose packets are lost too often gives up.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Index, IndexMut};
use std::time::Duration;

use crate::event::Event;
use crate::fault_kind::FaultKind;
use crate::kernel::Kernel;
use crate::limits::{
    CLOG_LEAST, CLOG_SPREAD, GRAY_LOSS, LATENCY_STEPS, RESEND_AFTER, RESENDS, TAIL_FACTOR,
};
use crate::machine::MachineId;
use crate::site::Site;

/// What one direction of a link is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkProfile {
    /// The least time a packet takes.
    pub least: Duration,
    /// How much longer it may take: drawn evenly.
    pub spread: Duration,
    /// Packets, per million, that take many times longer.
    pub tail: u32,
    /// Packets, per million, that are lost and sent again.
    pub loss: u32,
    /// How fast the line is; 0 for a line that is never the bottleneck.
    pub bytes_per_second: u64,
    /// How many bytes one packet holds. Each packet may be lost.
    pub packet_bytes: u32,
}

impl LinkProfile {
    /// A machine with itself.
    pub const LOOPBACK: Self = Self {
        least: Duration::from_micros(2),
        spread: Duration::from_nanos(10_240),
        tail: 0,
        loss: 0,
        bytes_per_second: 0,
        packet_bytes: 65_536,
    };

    /// Machines at one switch. Between machines, unless a test says otherwise.
    pub const RACK: Self = Self {
        least: Duration::from_micros(50),
        spread: Duration::from_nanos(450_560),
        tail: 0,
        loss: 0,
        bytes_per_second: 1_250_000_000,
        packet_bytes: 1_460,
    };

    /// Machines of one building.
    pub const ZONE: Self = Self {
        least: Duration::from_micros(250),
        spread: Duration::from_micros(750),
        tail: 100,
        loss: 1,
        bytes_per_second: 625_000_000,
        packet_bytes: 1_460,
    };

    /// Machines in neighbouring buildings.
    pub const REGION: Self = Self {
        least: Duration::from_millis(1),
        spread: Duration::from_millis(2),
        tail: 500,
        loss: 10,
        bytes_per_second: 125_000_000,
        packet_bytes: 1_460,
    };

    /// Machines on two continents.
    pub const WAN: Self = Self {
        least: Duration::from_millis(40),
        spread: Duration::from_millis(80),
        tail: 2_000,
        loss: 1_000,
        bytes_per_second: 12_500_000,
        packet_bytes: 1_400,
    };

    /// A telephone: 100 to 500 ms, and one packet in a hundred is lost.
    pub const MOBILE_3G: Self = Self {
        least: Duration::from_millis(100),
        spread: Duration::from_millis(400),
        tail: 10_000,
        loss: 10_000,
        bytes_per_second: 250_000,
        packet_bytes: 1_300,
    };

    /// An office: 2 to 10 ms, and one packet in ten thousand is lost.
    pub const INTRANET: Self = Self {
        least: Duration::from_millis(2),
        spread: Duration::from_millis(8),
        tail: 500,
        loss: 100,
        bytes_per_second: 125_000_000,
        packet_bytes: 1_460,
    };

    /// All profiles of this crate, with the names that plans use.
    pub const NAMED: [(&'static str, Self); 7] = [
        ("loopback", Self::LOOPBACK),
        ("rack", Self::RACK),
        ("zone", Self::ZONE),
        ("region", Self::REGION),
        ("wan", Self::WAN),
        ("mobile-3g", Self::MOBILE_3G),
        ("intranet", Self::INTRANET),
    ];

    /// The profile with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMED.iter().find(|(other, _)| *other == name).map(|&(_, profile)| profile)
    }
}

/// What a partition does to packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Packets are kept and come once the link heals, however late, as from a transport that never
    /// gives up. Attempts to connect time out.
    Hold,
    /// As from a transport that does give up: connections time out unless the link heals before.
    /// Resets are lost for good.
    Drop,
}

/// What happened on one direction between two machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkStatistics {
    /// Who sends.
    pub from: MachineId,
    /// Who receives.
    pub to: MachineId,
    /// Packets sent, without those that were sent again.
    pub packets: u64,
    /// Bytes of data sent.
    pub bytes: u64,
    /// Packets lost.
    pub lost: u64,
    /// Packets that a fault made late.
    pub delayed: u64,
    /// Packets that met a partition.
    pub held: u64,
    /// Connections reset by something that came this way.
    pub resets: u64,
    /// Packets changed on their way.
    pub corrupted: u64,
    /// Connections established by the sender.
    pub connections: u64,
}

/// How a sender repeats what was lost.
#[derive(Clone, Copy)]
pub(super) struct Resend {
    /// When it sends again for the first time; then it waits twice as long, and so on.
    pub(super) after: Duration,
    /// So many losses in a row and it gives up.
    pub(super) most: u32,
}

impl Resend {
    /// Data, ends and windows.
    pub(super) const DATA: Self = Self { after: RESEND_AFTER, most: RESENDS };
    /// Nobody repeats a reset.
    pub(super) const NEVER: Self = Self { after: RESEND_AFTER, most: 1 };
}

/// What became of a packet.
#[derive(Clone, Copy)]
pub(super) struct Journey {
    /// How long it takes, or how long until its sender gives up.
    pub(super) nanos: u64,
    /// Whether it gets there.
    pub(super) arrives: bool,
}

/// One direction between two machines.
pub(super) struct Link {
    pub(super) from: u32,
    pub(super) to: u32,
    profile: LinkProfile,
    /// The profile's least latency, in nanoseconds.
    least: u64,
    /// One step of the profile's latencies, in nanoseconds.
    step: u64,
    /// Whether a test chose the profile for this link.
    pub(super) chosen: bool,
    /// When the line has sent all that was given to it.
    line_free_at: u64,
    pub(super) cut: Option<Cut>,
    pub(super) clogged_until: u64,
    /// Whether the next packet's way through a slow link is scheduled.
    pub(super) trickling: bool,
    /// What waits for the link to heal.
    pub(super) held: VecDeque<Event>,
    pub(super) gray: Gray,
    pub(super) cap: Cap,
    pub(super) aimed: Aimed,
    pub(super) statistics: LinkStatistics,
}

/// For how long a link is bad, and by how much.
#[derive(Clone, Copy, Default)]
pub(super) struct Gray {
    pub(super) until: u64,
    pub(super) loss: u32,
    pub(super) latency: u32,
}

/// For how long a line is slow, and how slow.
#[derive(Clone, Copy, Default)]
pub(super) struct Cap {
    pub(super) until: u64,
    pub(super) bytes_per_second: u64,
}

/// How long a line takes to send something.
pub(super) fn time_on_line(bytes: usize, bytes_per_second: u64) -> u64 {
    (bytes as u64).saturating_mul(1_000_000_000) / bytes_per_second
}

/// What a test asked to happen to the next packets.
#[derive(Clone, Copy, Default)]
pub(super) struct Aimed {
    pub(super) lost: u32,
    pub(super) delay: u64,
    pub(super) corrupt: u32,
}

impl Link {
    fn new(from: u32, to: u32, profile: LinkProfile) -> Self {
        let mut link = Self {
            from,
            to,
            profile,
            least: 0,
            step: 0,
            chosen: false,
            line_free_at: 0,
            cut: None,
            clogged_until: 0,
            trickling: false,
            held: VecDeque::new(),
            gray: Gray::default(),
            cap: Cap::default(),
            aimed: Aimed::default(),
            statistics: LinkStatistics {
                from: MachineId(from),
                to: MachineId(to),
                packets: 0,
                bytes: 0,
                lost: 0,
                delayed: 0,
                held: 0,
                resets: 0,
                corrupted: 0,
                connections: 0,
            },
        };
        link.set_profile(profile);
        link
    }

    pub(super) fn set_profile(&mut self, profile: LinkProfile) {
        assert!(profile.packet_bytes > 0, "a packet holds something");
        self.profile = profile;
        self.least = profile.least.as_nanos() as u64;
        self.step = profile.spread.as_nanos() as u64 / LATENCY_STEPS;
    }

    /// Sends `bytes`, for `node`.
    pub(super) fn travel(
        &mut self,
        bytes: usize,
        node: u32,
        resend: Resend,
        kernel: &mut Kernel,
    ) -> Journey {
        let packets = (bytes as u64).div_ceil(u64::from(self.profile.packet_bytes)).max(1);
        self.statistics.packets += packets;
        self.statistics.bytes += bytes as u64;
        let drawn = kernel.choose(Site::NetLatency, node, LATENCY_STEPS);
        let mut nanos = self.least + drawn * self.step;
        nanos += self.wait_for_line(bytes, kernel);
        if self.from == self.to {
            return Journey { nanos, arrives: true };
        }
        nanos = self.slow_down(nanos, node, kernel);
        self.maybe_clog(node, kernel);
        let lost = self.lose(packets, node, resend.most, kernel);
        if lost == 0 {
            return Journey { nanos, arrives: true };
        }
        let round_trip = 2 * (self.least + self.step * LATENCY_STEPS);
        let after = (resend.after.as_nanos() as u64).max(round_trip);
        nanos += after * ((1 << lost) - 1);
        Journey { nanos, arrives: lost < resend.most }
    }

    /// How long until the line has sent this, after all that was given to it before.
    fn wait_for_line(&mut self, bytes: usize, kernel: &Kernel) -> u64 {
        if self.profile.bytes_per_second == 0 {
            return 0;
        }
        let begin = self.line_free_at.max(kernel.now);
        self.line_free_at = begin + time_on_line(bytes, self.profile.bytes_per_second);
        self.line_free_at - kernel.now
    }

    /// Whether a line of this speed would be slower than the link's own.
    pub(super) fn is_faster_than(&self, bytes_per_second: u64) -> bool {
        let own = self.profile.bytes_per_second;
        own == 0 || bytes_per_second < own
    }

    /// What makes a packet late without losing it.
    fn slow_down(&mut self, mut nanos: u64, node: u32, kernel: &mut Kernel) -> u64 {
        let before = nanos;
        if self.gray.until > kernel.now && self.gray.latency > 1 {
            nanos = nanos.saturating_mul(u64::from(self.gray.latency));
            kernel.fault(FaultKind::GrayPacket, node, "packet on a gray link");
        }
        let tail = self.profile.tail.saturating_add(kernel.faults.net.tail);
        if kernel.chance(Site::NetTail, node, tail) {
            nanos = nanos.saturating_mul(TAIL_FACTOR);
            kernel.fault(FaultKind::TailPacket, node, "packet in the tail");
        }
        if kernel.chance(Site::NetSlow, node, kernel.faults.net.slow) {
            nanos += kernel.choose(Site::NetSlowness, node, 20_000_000);
            kernel.fault(FaultKind::SlowPacket, node, "slow packet");
        }
        if self.aimed.delay > 0 {
            nanos = nanos.saturating_add(std::mem::take(&mut self.aimed.delay));
            kernel.fault(FaultKind::SlowPacket, node, "delayed packet");
        }
        self.statistics.delayed += u64::from(nanos > before);
        nanos
    }

    /// Now and then a link becomes clogged by itself.
    fn maybe_clog(&mut self, node: u32, kernel: &mut Kernel) {
        if kernel.chance(Site::NetClog, node, kernel.faults.net.clog) {
            let spread = CLOG_SPREAD.as_nanos() as u64;
            let nanos =
                CLOG_LEAST.as_nanos() as u64 + kernel.choose(Site::NetClogLength, node, spread);
            self.clogged_until = self.clogged_until.max(kernel.now + nanos);
        }
    }

    /// How many times in a row a packet of this train is lost, at most `most`.
    fn lose(&mut self, packets: u64, node: u32, most: u32, kernel: &mut Kernel) -> u32 {
        let mut rate = self.profile.loss;
        if self.gray.until > kernel.now && self.gray.loss > 0 {
            rate = rate.max(GRAY_LOSS).saturating_mul(self.gray.loss);
        }
        let rate = u64::from(rate.saturating_add(kernel.faults.net.loss));
        let (mut lost, mut packets) = (0, packets);
        while lost < most {
            if self.aimed.lost > 0 {
                self.aimed.lost -= 1;
            } else {
                let any = rate.saturating_mul(packets).min(1_000_000) as u32;
                if !kernel.chance(Site::NetLoss, node, any) {
                    break;
                }
            }
            lost += 1;
            // Only the one that was lost is sent again.
            packets = 1;
            self.statistics.lost += 1;
            kernel.fault(FaultKind::LostPacket, node, "lost packet");
        }
        lost
    }

    /// Whether a packet that arrives now is to be changed.
    pub(super) fn corrupts(&mut self, node: u32, kernel: &mut Kernel) -> bool {
        if self.from == self.to {
            return false;
        }
        let corrupt = if self.aimed.corrupt > 0 {
            self.aimed.corrupt -= 1;
            true
        } else {
            kernel.chance(Site::NetCorrupt, node, kernel.faults.net.corrupt)
        };
        self.statistics.corrupted += u64::from(corrupt);
        corrupt
    }
}

/// All links of a world. A link comes to be when something is first said of it or sent on it.
pub(super) struct Links {
    numbers: BTreeMap<(u32, u32), u32>,
    links: Vec<Link>,
    default: LinkProfile,
}

impl Default for Links {
    fn default() -> Self {
        Self { numbers: BTreeMap::new(), links: Vec::new(), default: LinkProfile::RACK }
    }
}

impl Links {
    /// The number of the link from one machine to another.
    pub(super) fn number(&mut self, from: u32, to: u32) -> u32 {
        let Self { numbers, links, default } = self;
        *numbers.entry((from, to)).or_insert_with(|| {
            let profile = if from == to { LinkProfile::LOOPBACK } else { *default };
            links.push(Link::new(from, to, profile));
            links.len() as u32 - 1
        })
    }

    /// The link from one machine to another.
    pub(super) fn between(&mut self, from: u32, to: u32) -> &mut Link {
        let number = self.number(from, to);
        &mut self[number]
    }

    /// What links between machines are like that no test has spoken of.
    pub(super) fn set_default(&mut self, profile: LinkProfile) {
        self.default = profile;
        let others = self.links.iter_mut().filter(|link| !link.chosen && link.from != link.to);
        others.for_each(|link| link.set_profile(profile));
    }

    /// How many links there are.
    pub(super) fn count(&self) -> u32 {
        self.links.len() as u32
    }

    /// All links, by pair.
    pub(super) fn ordered(&self) -> impl Iterator<Item = &Link> {
        self.numbers.values().map(|&number| &self.links[number as usize])
    }
}

impl Index<u32> for Links {
    type Output = Link;

    fn index(&self, number: u32) -> &Link {
        &self.links[number as usize]
    }
}

impl IndexMut<u32> for Links {
    fn index_mut(&mut self, number: u32) -> &mut Link {
        &mut self.links[number as usize]
    }
}
