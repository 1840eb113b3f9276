//! Power cuts under the real kernel, filesystem and backends.
//!
//! The simulator cuts the power of disks that it made up. Here everything is real but the medium:
//! a device in memory whose unflushed writes are lost, torn and reordered when its power is cut; a
//! loop device over it; ext4; and a process that uses a production backend. After each cut the
//! filesystem is mounted again, as after a reboot, and looked at.
//!
//! **What is where.** [`device`] is the fault model; [`fuse`] serves it to the kernel; [`volume`]
//! is the process that does, with all that is mounted; [`client`] tells it what to do. [`seam`]
//! holds the backends to what `io/src/env.rs` promises, [`log`] the log to what `wal` promises;
//! [`rounds`] cuts the power under either. `tests/clients/power_cut.py` does so under the broker.
//!
//! It needs root, `/dev/fuse` and loop devices; see [`volume::refusal`].
//!
//! ```text
//!   rounds ── lines ──> worker: seam or log, uring or posix
//!     │                   │ files
//!     │                 ext4
//!     │                   │
//!     │                 loop device
//!     │                   │ reads, writes, flushes
//!     └── commands ───> volume: FUSE, device
//! ```

pub mod client;
mod command;
pub mod device;
pub mod fuse;
pub mod limits;
pub mod log;
pub mod random;
pub mod rounds;
pub mod seam;
pub mod volume;

pub use command::main;
