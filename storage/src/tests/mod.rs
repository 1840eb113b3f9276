//! Tests of batches, memtables, tables and manifests, and of what reads and rewrites them, in
//! simulated worlds.

mod batch;
mod block;
mod cache;
mod checkpoints;
mod compaction;
mod crash;
mod damage;
mod disk;
mod fifo;
mod fixture;
mod formats;
mod history;
mod levels;
mod manifest;
mod memtable;
mod metamorphic;
mod model;
mod offline;
mod operations;
mod pacing;
mod picks;
mod place;
mod reads;
mod scan;
mod store;
mod strategies;
mod universal;
mod verify;
mod writer;
