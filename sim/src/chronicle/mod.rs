//! The chronicle: what happened in a world, told for people.
//!
//! The trace is for machines: every event, in a few words that cost nothing. The chronicle leaves
//! out what nobody reads, such as polls and timers, and tells the rest with names, numbers that
//! match (a packet sent and the same packet arrived), and what scenarios and clients add. A world
//! keeps one if [`WorldOptions::chronicle`](crate::WorldOptions::chronicle) says so; otherwise it
//! costs a comparison wherever something would be told.
//!
//! **What is promised.** Keeping a chronicle changes nothing of a run. Occurrences are in order of
//! time. Numbers are given in order, from 1, and never again. What is submitted, sent or begun and
//! never completes, arrives or ends was cut off: by a crash, or by the end of the run.
//!
//! Layout: this file holds what can be told, `keeper` what the world does to tell it.

mod keeper;
mod text;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

pub(crate) use keeper::Keeper;

use crate::disk::DiskOperation;
use crate::env::SimEnv;
use crate::fault_kind::FaultKind;
use crate::kernel::node_of;
use crate::machine::MachineId;
use crate::world::World;

/// What happened in a world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chronicle {
    /// The names of the machines. Occurrences speak of them by their place in this list.
    pub machines: Vec<String>,
    /// What happened, in order.
    pub occurrences: Vec<Occurrence>,
    /// How much happened before the first of these and was forgotten, because a chronicle keeps
    /// the latest [`CHRONICLE_OCCURRENCES`](crate::limits::CHRONICLE_OCCURRENCES) only.
    pub forgotten: u64,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// Time since the world began.
    pub time: Duration,
    /// On which machine, by its place in [`Chronicle::machines`].
    pub machine: usize,
    /// On which of its shards; 0 for what concerns the whole machine.
    pub shard: usize,
    /// What.
    pub what: Happening,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A process was started. Its number is never used again in this world.
    Started {
        /// Its number.
        process: u64,
    },
    /// A process exited because its programs returned.
    Exited {
        /// Its number.
        process: u64,
    },
    /// The process was asked to stop.
    AskedToStop,
    /// The process was killed.
    Killed,
    /// The operating system crashed.
    OsCrashed,
    /// The power was cut.
    PowerCut,
    /// The process was paused.
    Paused,
    /// The process goes on after a pause.
    Resumed,
    /// The machine was switched on.
    Booted,
    /// Something else was done to the machine.
    Controlled {
        /// What.
        note: &'static str,
    },
    /// Packets to another machine are held back from now on.
    LinkBlocked {
        /// The other machine.
        to: usize,
    },
    /// Packets to another machine pass again.
    LinkHealed {
        /// The other machine.
        to: usize,
    },
    /// A connection was taken by a listener.
    ConnectionOpened {
        /// Its number.
        connection: u64,
        /// The machine that listens.
        to: usize,
    },
    /// A connection was refused: nobody listens.
    ConnectionRefused {
        /// The address that was dialled.
        to: SocketAddr,
    },
    /// Nobody answers; the attempt will time out.
    ConnectionUnanswered {
        /// The address that was dialled.
        to: SocketAddr,
    },
    /// An end of a connection learns that it is broken.
    ConnectionReset {
        /// Its number.
        connection: u64,
        /// What the end makes of it.
        error: io::ErrorKind,
    },
    /// An end of a connection was closed by its process, or with it.
    ConnectionClosed {
        /// Its number.
        connection: u64,
    },
    /// A packet was sent.
    PacketSent {
        /// Its number.
        packet: u64,
        /// The number of its connection.
        connection: u64,
        /// The machine it is for.
        to: usize,
        /// Its length; 0 for one that says that nothing follows.
        bytes: u64,
    },
    /// A packet, or a part of it, arrived.
    PacketArrived {
        /// Its number.
        packet: u64,
        /// The number of its connection.
        connection: u64,
        /// The machine it is from.
        from: usize,
        /// What arrived of it now.
        bytes: u64,
        /// What of it is still to arrive.
        rest: u64,
    },
    /// A packet reached nobody: the end it was for is closed, or its machine off.
    PacketLost {
        /// Its number.
        packet: u64,
        /// The number of its connection.
        connection: u64,
        /// The machine it is from.
        from: usize,
    },
    /// Something was asked of the disk.
    DiskSubmitted {
        /// The operation's number.
        operation: u64,
        /// What was asked.
        kind: DiskOperation,
        /// The file or the directory. `None` for a file that has no name any more.
        path: Option<String>,
        /// The bytes to be read or written; 0 for other operations.
        bytes: u64,
    },
    /// A disk operation took effect. Its process does not know yet.
    DiskHappened {
        /// The operation's number.
        operation: u64,
        /// How it failed, if it did.
        error: Option<io::ErrorKind>,
    },
    /// A disk operation is seen to have completed.
    DiskCompleted {
        /// The operation's number.
        operation: u64,
        /// What was asked.
        kind: DiskOperation,
        /// The bytes that were read or written.
        bytes: u64,
        /// How it failed, if it did.
        error: Option<io::ErrorKind>,
    },
    /// A fault changed an outcome. Crashes, and what becomes of connections, are told as what they
    /// are instead; what a crash did to the disk follows it as [`Lost`](Self::Lost).
    Fault {
        /// Which.
        kind: FaultKind,
        /// What is known of it.
        note: &'static str,
    },
    /// A crash did something to the disk that it may do.
    Lost {
        /// What.
        kind: FaultKind,
        /// How often: how many blocks, sectors, names or lengths.
        count: u64,
    },
    /// A task panicked.
    TaskPanicked {
        /// The task's name.
        task: &'static str,
        /// What the panic said.
        message: String,
    },
    /// A note of a scenario.
    Note {
        /// What it says.
        text: String,
    },
    /// A client began something.
    OperationBegan {
        /// The operation.
        operation: OperationId,
        /// The client.
        client: u32,
        /// What it began.
        text: String,
    },
    /// A client's operation is over.
    OperationEnded {
        /// The operation.
        operation: OperationId,
        /// The client.
        client: u32,
        /// What came of it.
        outcome: String,
    },
}

/// An operation of a client, from [`World::operation`] or [`SimEnv::operation`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperationId(u64);

impl OperationId {
    /// Its number, from 1. 0 in a world without a chronicle.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl World {
    /// What happened so far. Empty if the world keeps no
    /// [chronicle](crate::WorldOptions::chronicle).
    #[must_use]
    pub fn chronicle(&self) -> Chronicle {
        self.shared().with(|core| {
            let Some(keeper) = &core.kernel.keeper else { return Chronicle::default() };
            let machines = core.machines.iter().map(|machine| machine.name.clone()).collect();
            let (occurrences, forgotten) = keeper.told();
            Chronicle { machines, occurrences, forgotten }
        })
    }

    /// Adds a note to the chronicle. Without a chronicle the text is not even made: give it as
    /// `format_args!`.
    pub fn note(&self, machine: MachineId, text: impl fmt::Display) {
        let node = node_of(machine.0, 0);
        self.shared().with(|core| {
            core.kernel
                .chronicle(|keeper| keeper.tell(node, Happening::Note { text: text.to_string() }));
        });
    }

    /// Tells that a client begins something. See [`note`](Self::note) for the text.
    pub fn operation(
        &self,
        machine: MachineId,
        client: u32,
        text: impl fmt::Display,
    ) -> OperationId {
        let node = node_of(machine.0, 0);
        self.shared().with(|core| core.kernel.operation_began(node, client, &text))
    }

    /// Tells what came of a client's operation.
    pub fn operation_ended(&self, operation: OperationId, outcome: impl fmt::Display) {
        self.shared().with(|core| core.kernel.operation_ended(operation, &outcome));
    }
}

/// What runs in a world tells of itself. A dead process tells nothing.
impl SimEnv {
    /// Adds a note to the chronicle, as [`World::note`] does.
    pub fn note(&self, text: impl fmt::Display) {
        let node = self.handle.node;
        self.handle.if_alive(|core| {
            core.kernel
                .chronicle(|keeper| keeper.tell(node, Happening::Note { text: text.to_string() }));
        });
    }

    /// Tells that a client begins something, as [`World::operation`] does.
    pub fn operation(&self, client: u32, text: impl fmt::Display) -> OperationId {
        let node = self.handle.node;
        let began = self.handle.if_alive(|core| core.kernel.operation_began(node, client, &text));
        began.unwrap_or_default()
    }

    /// Tells what came of a client's operation.
    pub fn operation_ended(&self, operation: OperationId, outcome: impl fmt::Display) {
        self.handle.if_alive(|core| core.kernel.operation_ended(operation, &outcome));
    }
}
