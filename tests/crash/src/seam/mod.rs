//! The seam: everything that `io/src/env.rs` promises of files and names after a power cut.
//!
//! `plan` draws the operations of a round from its seed. `worker` carries them out on a production
//! backend and tells what it began and what was done. `model` says from that what may be on the
//! disk afterwards, and looks whether it is.

pub mod model;
pub mod plan;
pub mod worker;
