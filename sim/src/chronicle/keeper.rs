//! Who writes the chronicle: gives numbers, matches what belongs together, and forgets the oldest.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Happening, Occurrence, OperationId};
use crate::event::EventKind;
use crate::fault_kind::FaultKind;
use crate::kernel::{Kernel, node_of};
use crate::limits::{CHRONICLE_OCCURRENCES, SHARDS};
use crate::slab::Key;

/// Writes the chronicle of one world.
#[derive(Default)]
pub(crate) struct Keeper {
    /// World time.
    now: u64,
    told: VecDeque<Occurrence>,
    forgotten: u64,
    /// Numbers of connections, by their keys.
    connections: BTreeMap<Key, u64>,
    /// Packets on their way, with what of them has not arrived, by connection and sending end. They
    /// arrive in the order in which they were sent.
    transit: BTreeMap<(Key, usize), VecDeque<(u64, u64)>>,
    packets: u64,
    /// Numbers of disk operations, by machine and key.
    disk: BTreeMap<(u32, Key), u64>,
    disk_operations: u64,
    /// Paths of files, by machine and inode, for as long as no name changes.
    paths: BTreeMap<(u32, u64), Option<String>>,
    /// Who began an operation: node and client.
    operations: BTreeMap<OperationId, (u32, u32)>,
}

impl Kernel {
    /// Lets something be told, if a chronicle is kept.
    #[inline]
    pub(crate) fn chronicle(&mut self, tell: impl FnOnce(&mut Keeper)) {
        if let Some(keeper) = &mut self.keeper {
            keeper.now = self.now;
            tell(keeper);
        }
    }

    /// The way from one machine to another is blocked, or healed.
    pub(crate) fn tell_link(&mut self, from: u32, to: u32, healed: bool) {
        let to = to as usize;
        let what =
            if healed { Happening::LinkHealed { to } } else { Happening::LinkBlocked { to } };
        self.chronicle(|keeper| keeper.tell(node_of(from, 0), what));
    }

    /// A crash has done to a disk what was not counted `before` it.
    pub(crate) fn tell_losses(&mut self, node: u32, before: &[u64; FaultKind::COUNT]) {
        let counts = self.statistics.faults;
        self.chronicle(|keeper| {
            for (&kind, (count, before)) in FaultKind::ALL.iter().zip(counts.iter().zip(before)) {
                if count > before {
                    keeper.tell(node, Happening::Lost { kind, count: count - before });
                }
            }
        });
    }

    /// A client begins something.
    pub(super) fn operation_began(
        &mut self,
        node: u32,
        client: u32,
        text: &dyn fmt::Display,
    ) -> OperationId {
        let mut operation = OperationId::default();
        self.chronicle(|keeper| {
            operation = OperationId(keeper.operations.len() as u64 + 1);
            keeper.operations.insert(operation, (node, client));
            let text = text.to_string();
            keeper.tell(node, Happening::OperationBegan { operation, client, text });
        });
        operation
    }

    /// A client's operation is over.
    pub(super) fn operation_ended(&mut self, operation: OperationId, outcome: &dyn fmt::Display) {
        self.chronicle(|keeper| {
            let Some(&(node, client)) = keeper.operations.get(&operation) else { return };
            let outcome = outcome.to_string();
            keeper.tell(node, Happening::OperationEnded { operation, client, outcome });
        });
    }
}

impl Keeper {
    /// All that is remembered, and how much is not.
    pub(super) fn told(&self) -> (Vec<Occurrence>, u64) {
        (self.told.iter().cloned().collect(), self.forgotten)
    }

    /// Writes down what happened on a node.
    pub(crate) fn tell(&mut self, node: u32, what: Happening) {
        if self.told.len() == CHRONICLE_OCCURRENCES {
            self.told.pop_front();
            self.forgotten += 1;
        }
        let (machine, shard) = (node as usize / SHARDS, node as usize % SHARDS);
        let time = Duration::from_nanos(self.now);
        self.told.push_back(Occurrence { time, machine, shard, what });
    }

    /// The trace takes note of something; some of that is for people too.
    pub(crate) fn recorded(&mut self, kind: EventKind, node: u32, number: u64, note: &'static str) {
        let what = match kind {
            EventKind::Control => match note {
                "start" => Happening::Started { process: number },
                "exit" => Happening::Exited { process: number },
                "stop" => Happening::AskedToStop,
                "pause" => Happening::Paused,
                "resume" => Happening::Resumed,
                "boot" => Happening::Booted,
                // The world's own doings.
                "" => return,
                _ => Happening::Controlled { note },
            },
            EventKind::Fault => match FaultKind::ALL[number as usize] {
                FaultKind::Kill => Happening::Killed,
                FaultKind::OsCrash => Happening::OsCrashed,
                FaultKind::PowerCut => Happening::PowerCut,
                // These are told with their connection.
                FaultKind::PeerReset
                | FaultKind::SilentPeer
                | FaultKind::Refused
                | FaultKind::DialTimeout => return,
                kind => Happening::Fault { kind, note },
            },
            _ => return,
        };
        self.tell(node, what);
    }

    pub(crate) fn task_panicked(&mut self, node: u32, task: &'static str, message: &str) {
        self.tell(node, Happening::TaskPanicked { task, message: message.to_owned() });
    }

    /// A connection is there.
    pub(crate) fn connection_opened(&mut self, key: Key, node: u32, to: u32) {
        let connection = self.connections.len() as u64 + 1;
        self.connections.insert(key, connection);
        self.tell(node, Happening::ConnectionOpened { connection, to: to as usize });
    }

    /// A connection attempt is refused, or nobody answers it.
    pub(crate) fn connection_failed(&mut self, node: u32, to: SocketAddr, refused: bool) {
        let refusal = Happening::ConnectionRefused { to };
        self.tell(node, if refused { refusal } else { Happening::ConnectionUnanswered { to } });
    }

    fn connection(&self, key: Key) -> u64 {
        self.connections.get(&key).copied().unwrap_or_default()
    }

    pub(crate) fn connection_closed(&mut self, key: Key, node: u32) {
        let connection = self.connection(key);
        self.tell(node, Happening::ConnectionClosed { connection });
    }

    pub(crate) fn connection_reset(&mut self, key: Key, node: u32, error: io::ErrorKind) {
        let connection = self.connection(key);
        self.tell(node, Happening::ConnectionReset { connection, error });
    }

    /// An end of a connection sends a packet.
    pub(crate) fn packet_sent(&mut self, key: Key, end: usize, node: u32, to: u32, bytes: usize) {
        self.packets += 1;
        let (packet, bytes) = (self.packets, bytes as u64);
        self.transit.entry((key, end)).or_default().push_back((packet, bytes));
        let (connection, to) = (self.connection(key), to as usize);
        self.tell(node, Happening::PacketSent { packet, connection, to, bytes });
    }

    /// The next packet that was sent from `end` arrives on `node`, or a part of it does.
    pub(crate) fn packet_arrived(
        &mut self,
        key: Key,
        end: usize,
        node: u32,
        from: u32,
        bytes: usize,
    ) {
        let Some(transit) = self.transit.get_mut(&(key, end)) else { return };
        let Some((packet, left)) = transit.front_mut() else { return };
        let bytes = bytes as u64;
        *left = left.saturating_sub(bytes);
        let (packet, rest) = (*packet, *left);
        if rest == 0 {
            transit.pop_front();
        }
        let (connection, from) = (self.connection(key), from as usize);
        self.tell(node, Happening::PacketArrived { packet, connection, from, bytes, rest });
    }

    /// The next packet that was sent from `end` reaches nobody.
    pub(crate) fn packet_lost(&mut self, key: Key, end: usize, node: u32, from: u32) {
        let lost = self.transit.get_mut(&(key, end)).and_then(VecDeque::pop_front);
        let Some((packet, _)) = lost else { return };
        let (connection, from) = (self.connection(key), from as usize);
        self.tell(node, Happening::PacketLost { packet, connection, from });
    }

    /// The number of a disk operation that is submitted.
    pub(crate) fn number_disk_operation(&mut self, machine: u32, key: Key) -> u64 {
        self.disk_operations += 1;
        self.disk.insert((machine, key), self.disk_operations);
        self.disk_operations
    }

    /// The number of a disk operation.
    pub(crate) fn disk_operation(&self, machine: u32, key: Key) -> u64 {
        self.disk.get(&(machine, key)).copied().unwrap_or_default()
    }

    /// The path of a file, which is looked for only once.
    pub(crate) fn path(
        &mut self,
        machine: u32,
        inode: u64,
        look: impl FnOnce() -> Option<String>,
    ) -> Option<String> {
        self.paths.entry((machine, inode)).or_insert_with(look).clone()
    }

    /// Names of a machine's disk have changed.
    pub(crate) fn forget_paths(&mut self, machine: u32) {
        self.paths.retain(|&(other, _), _| other != machine);
    }
}
