//! A deterministic simulated world: disk, network, clock, scheduler and machines.
//!
//! **What lives here.** [`World`], in which processes run on machines as they would in production,
//! each shard with a [`SimEnv`] for its view of the world. One thread runs all of it, and one seed
//! decides all of it: the order of tasks, the time of every operation, what a crash loses. Two runs
//! of one seed are the same to the last event ([`World::trace_hash`]).
//!
//! **How data flows.** A task asks something of its environment; the part of the world that is
//! asked (disk, network, mesh, timer) draws how long it takes and schedules an event. The loop takes
//! the next event, applies it, wakes who waited, and gives a turn to each shard with ready tasks.
//! Time jumps from event to event; each poll costs a little.
//!
//! **What must never be here.** Globals, thread-locals, real clocks, hash maps: whatever the seed
//! does not decide. Nor anything that knows what a log, a topic or a protocol is.
//!
//! # Choices
//!
//! Every decision is a choice at a [`Site`], by a node, with 0 for the harmless outcome. Its value
//! is a hash of the seed, the site, the node and a count, so a new decision somewhere does not move
//! any other. The choices that were not 0 are the world's [`Tape`]; a world that replays a tape does
//! the same again, and one that replays a part of it does a simpler thing.
//!
//! # Finding out
//!
//! [`shrink`] makes the tape of a failing run as short as it goes. [`diverge`] names the first
//! event in which two runs of one seed differ. A world that keeps a [`Chronicle`] tells what
//! happened in it, with names and with numbers that match, for reports to draw.
//!
//! # Failures
//!
//! A task that panics, a world in which nothing can ever happen again while a test waits for
//! something, and tasks that run for ever while nothing else happens are [`Failure`]s. The `run_*`
//! methods panic with the failure's text, which names the seed, the time, the tasks and what they
//! wait for; the `try_run_*` methods return it. A world may be told that a panic ends its process
//! instead ([`WorldOptions::panics_crash`]).
//!
//! # Example
//!
//! ```
//! use std::path::Path;
//! use std::time::Duration;
//! use woodchuck_io::{Buffer, Disk as _, Durability, Env as _, File as _, OpenMode};
//! use woodchuck_sim::{SimEnv, World};
//!
//! async fn store(env: SimEnv) {
//!     let file = env.disk().open(Path::new("/log"), OpenMode::CreateNew).await.expect("new");
//!     env.disk().sync_directory(Path::new("/")).await.expect("a healthy disk");
//!     let mut buffer = Buffer::zeroed(4096);
//!     buffer.fill(7);
//!     let (written, _) = file.write_at(buffer, 0, Durability::Durable).await;
//!     written.expect("a healthy disk");
//! }
//!
//! let world = World::new(42);
//! let broker = world.machine("broker");
//! world.start(broker, 1, store);
//! assert!(world.run_until(
//!     {
//!         let world = world.clone();
//!         move || !world.is_running(broker)
//!     },
//!     Duration::from_secs(1),
//! ));
//! world.power_cut(broker);
//! assert_eq!(world.disk(broker).read("/log"), Some(vec![7; 4096]));
//! ```
//!
//! # Who may hold what
//!
//! A world ends when its last [`World`] is dropped, and everything in it with it. A task must not
//! hold the world it runs in: neither would ever be dropped. Tests drive the world from outside and
//! share plain values (`Rc<Cell<_>>`) with the tasks inside.

pub mod check;
mod choice;
mod chronicle;
mod clock;
mod disk;
pub mod diverge;
mod env;
mod event;
mod failure;
mod fault_kind;
mod faults;
mod kernel;
pub mod limits;
mod machine;
mod mesh;
mod net;
pub mod report;
mod run;
pub mod scenario;
mod schedule;
mod shard;
pub mod shrink;
mod site;
mod slab;
mod statistics;
mod tape;
mod trace;
mod wait;
mod world;

pub use chronicle::{Chronicle, Happening, Occurrence, OperationId};
pub use disk::{
    DiskInspector, DiskOperation, DiskProfile, Latency, NameOrder, SimDisk, SimFile, SimLock,
};
pub use env::SimEnv;
pub use event::EventKind;
pub use failure::{Failure, FailureKind};
pub use fault_kind::{FaultGroup, FaultKind};
pub use faults::{DiskFaults, Faults, Knob, MachineFaults, NetFaults, Regime};
pub use machine::{Exit, MachineId, Resources, RestartPolicy, Suspension};
pub use mesh::SimMesh;
pub use net::{Cut, LinkProfile, LinkStatistics, SimListener, SimNet, SimStream};
pub use schedule::Policy;
pub use site::{Site, SiteClass};
pub use statistics::Statistics;
pub use tape::{ChoiceName, Tape, TapeError};
pub use trace::{TraceEntry, TraceRun, Traced};
pub use world::{World, WorldOptions};

#[cfg(test)]
mod tests;
