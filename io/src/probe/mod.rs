//! What a volume and a machine say of themselves: for people who choose where to put data, and to
//! tell them what the backends will do there.
//!
//! **What lives here.** Questions to the kernel that no shard asks: [`volume()`] (what a directory
//! lies on), [`direct_io`] (how reads and writes must be aligned there), [`rings()`] (what io_uring
//! can do), and [`machine()`] (CPUs, locked memory). The answers are plain values. All block for as
//! long as the kernel takes, and none is for a shard's thread.
//!
//! **What must never be here.** Measuring: that is a [`Program`](crate::Program)'s, on the
//! [`Runtime`](crate::runtime::Runtime), so that what is measured is what is used.

mod direct;
mod machine;
mod rings;
mod volume;

pub use direct::{AlignmentSource, DirectIo, direct_io};
pub use machine::{Machine, MemoryLock, machine};
pub use rings::{Ability, Rings, ring_flags, ring_locked_bytes, rings};
pub use volume::{BlockDevice, Volume, volume};
