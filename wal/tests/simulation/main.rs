//! The log in the simulated world: crashes at any moment, slow and failing disks, full disks,
//! damaged media.
//!
//! One world is one disk and a series of processes that write to one log and die. A [`Model`]
//! outside the world knows what was submitted, what was acknowledged and what recovery served, and
//! says what the next recovery may find:
//!
//! - all that was acknowledged, or served by an earlier recovery, and not trimmed, unchanged and in
//!   order;
//! - behind it, in the order of submission and without holes, any number of the commits that the
//!   last process submitted and saw no acknowledgement of; none from any earlier process.

mod capacity;
mod crashes;
mod damage;
mod errors;
mod model;
mod process;
