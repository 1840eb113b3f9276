//! Tests of batches and memtables, and of tables on the simulated disk.

mod batch;
mod block;
mod cache;
mod compaction;
mod crash;
mod damage;
mod disk;
mod fixture;
mod formats;
mod history;
mod memtable;
mod model;
mod place;
mod scan;
mod verify;
mod writer;
