//! The network face of Woodchuck.
//!
//! **What lives here.** [`protocol`]: the Kafka wire protocol as pure functions of bytes.
//! [`kafka`]: the broker that speaks it, connection by connection. [`Serve`]: what a process does
//! to be a broker, from opening its data to closing it.
//!
//! **How data flows.** A connection's task reads frames, decodes them, places produced batches in
//! the engine's order, and queues what will become the answers; a second half of the same task
//! takes the answers in the order of the requests and writes them, records and all, in one
//! vectored write each.
//!
//! **What must never be here.** State about topics and partitions: the engine below has it. Nothing
//! here trusts a byte that it was sent.

pub mod kafka;
pub mod limits;
pub mod protocol;
mod serve;

pub use serve::{Serve, ServeError};
