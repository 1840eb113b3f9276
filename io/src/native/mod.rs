//! What the production backends share: everything but the driver.
//!
//! **How data flows.** An [`env::NativeEnv`] is a shard's view of the world. Its disk ([`disk`])
//! and its network ([`net`]) turn each call into a [`work::Work`], which owns the buffers, and
//! hand it to the shard's [`core::Core`]. The core parks it in the [`slab`], makes a
//! [`driver::Request`] of it and gives that to the driver: a ring ([`crate::uring`]) or threads
//! and readiness ([`crate::posix`]), unless its group has enough in flight ([`budgets`]). The answer
//! comes back by key, the work leaves its slot, and the future ([`operate`]) completes. Timers ([`timers`]) and mail from other shards ([`mesh`]) reach tasks
//! through the same loop; the [`doorbell`] ends its sleep. What shards share is in [`process`].
//!
//! **What must never be here.** A call that only one backend makes.

pub(crate) mod budgets;
pub(crate) mod calls;
pub(crate) mod core;
pub(crate) mod disk;
pub(crate) mod doorbell;
pub(crate) mod driver;
pub(crate) mod env;
mod idleness;
pub(crate) mod listeners;
pub(crate) mod mesh;
pub(crate) mod net;
pub(crate) mod operate;
pub(crate) mod process;
pub(crate) mod slab;
pub(crate) mod sockets;
pub(crate) mod timers;
pub(crate) mod work;
