//! The engine: shards assembled from a log and streams, and the set of shards in one process.
//!
//! **What lives here.** [`Engine`], the handle that a shard's own tasks hold; the shard behind it
//! (`shard`), which joins log, partitions and readers; how shards open together (`opening`) from what
//! their logs say (`recovered`); the topics and who decides about them
//! (`controller`); the calls that shards make to each other (`calls`); the data directory's
//! identity (`directory`); and what can be said and saved of a directory that nobody has open
//! ([`offline`]).
//!
//! **How data flows.** Every shard opens the engine with its own environment; shard 0 takes the
//! directory's lock and tells the others what it found. From then on a call enters on any shard,
//! crosses the mesh once if a partition lives elsewhere, is placed in that shard's log, and its
//! answer comes back once when it is durable.
//!
//! **What must never be here.** Connections and protocols.

mod calls;
mod controller;
mod directory;
mod engine;
mod error;
pub mod limits;
pub mod offline;
mod opening;
mod recovered;
mod shard;
mod ticket;

pub use directory::{
    DataDirectory, Identity, LOCK_NAME, PROBE_NAME, VOLUME_NAME, VOLUME_NEW_NAME,
    VOLUME_SCRATCH_NAME, create_durably, probe,
};
pub use engine::{Engine, EngineOptions, Reader};
pub use error::EngineError;
pub use shard::{Appended, OffsetQuery, ReadOutcome, ReadRequest};
pub use ticket::Ticket;
