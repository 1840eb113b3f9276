//! The parts of the torture test: what a shard does, and what is true of what it reads.

pub(crate) mod files;
pub(crate) mod ledger;
pub(crate) mod shard;
pub(crate) mod streams;
