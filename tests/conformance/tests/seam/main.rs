//! One suite for everything that claims to be an [`Env`](woodchuck_io::Env): the same cases, held to
//! the promises of `io/src/env.rs`, on the backends `uring` and `posix` over the kernel, and on the
//! simulated disk and network. With the feature `glommio` they run on that backend, too, and none of
//! them is left out.
//!
//! A case asserts what the seam's text promises and no more. Where the text is silent and the worlds
//! differ, the case accepts what each does and says so. What only a kernel can show (another
//! process's view, a device's counters) runs over the kernel alone: [`kernel_check!`].
//!
//! In simulation nothing goes wrong by itself; each case runs under several seeds, which decide the
//! order of tasks, how long operations take and in which order they happen.
//!
//! What could not be checked here is told on stderr, whatever the test harness captures, one counted
//! line each.

#[macro_use]
mod common;

mod cancel;
mod cancel_disk;
mod cancel_net;
mod cancel_rest;
mod disk;
mod flight;
mod groups;
mod lengths;
mod listeners;
mod locks;
mod mail;
mod names;
mod names_refused;
mod net;
mod open_files;
mod shards;
mod space;
mod streams;
mod tasks;
mod timers;
