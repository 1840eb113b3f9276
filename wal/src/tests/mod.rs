//! Tests of the parts that need no time and no concurrency: bytes, recovery, bookkeeping. What
//! crashes do to a running log is tested in simulated worlds: the scenario `log`.

mod bodies;
mod bodies_ahead;
mod conditions;
mod damage;
mod directory;
mod every_crash;
mod format;
mod generations;
mod handing_out;
mod image;
mod memory;
mod newest;
mod offline;
mod reader;
mod writer;
