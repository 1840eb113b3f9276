//! The seam between Woodchuck and the world.
//!
//! **What lives here.** [`Env`] and the traits it hands out ([`Disk`], [`File`], [`Net`],
//! [`Listener`], [`Stream`], [`Mesh`]), the aligned [`Buffer`] that direct I/O needs, the task
//! [`executor`] that production and simulation share, and the production backends: `uring` (one
//! ring a core), `posix` (ordinary system calls, for places where io_uring is refused) and, with the
//! feature of that name, `glommio` (files and sockets of that runtime, to be measured against). For
//! tools that look at files nobody has open there is [`mapped`], a disk that can only be read.
//!
//! **How data flows.** A shard is a [`Program`]: an async function generic over `Env`. In
//! production [`runtime::Runtime::start`] starts one pinned thread a shard and hands each an
//! `Env`; in tests the simulator does the same with virtual machines on one thread. Everything a
//! shard reads, writes, waits for or draws at random goes down through its `Env` and comes back as
//! a future's output. Nothing calls upwards.
//!
//! **What must never be here.** Anything that knows what a log, a topic or a protocol is.
//!
//! `unsafe` is allowed in this crate alone; each block says, numbered, why it is sound.

pub mod buffer;
#[cfg(feature = "ceiling")]
pub mod ceiling;
mod env;
pub mod executor;
#[cfg(feature = "glommio")]
mod glommio;
pub mod limits;
pub mod mapped;
mod native;
mod posix;
pub mod probe;
mod random;
pub mod runtime;
mod time;
mod uring;

pub use buffer::{Buffer, buffers_in_use};
pub use env::{
    DirectoryEntry, Disk, Durability, Env, File, Group, Listener, Mesh, Net, OpenMode, Parcel,
    Program, Stream,
};
pub use executor::Task;
pub use random::RandomStream;
pub use time::{Monotonic, WallTime};
