//! The LSM store of a shard.
//!
//! **What lives here.** Sorted tables: their [format](table), [`TableWriter`], [`Table`] with its
//! [`Cursor`], and the [`BlockCache`] that the tables of a shard share. `docs/store-format.md` has
//! the bytes. What makes a store of them (memtable, manifest, flush, compaction) is not here yet.
//!
//! **How data flows.** A writer is given entries in order, and makes blocks of them, a partition of
//! the index over them, and a file. A reader goes down the same way: the top-level index tells the
//! partition, its filter whether to go on, the partition the block, the block the entry; values
//! come back as slices of what was read. Everything is asynchronous over the environment's disk,
//! and belongs to one shard's thread.
//!
//! **What must never be here.** Clocks and tasks: what expires is told with its time, and whoever
//! asks knows what time it is. Anything that knows what a topic or a protocol is.
//!
//! # What is promised
//!
//! - When [`TableWriter::finish`] has returned, the table survives process crash, OS crash and
//!   power cut, on a disk that honours flushes. Before, no crash leaves a file that is taken for a
//!   table of which something is missing.
//! - Every block is checked when it is read from the disk. Damage is
//!   [`StorageError::Corrupt`], of the reads that need the block; it is never a wrong answer, nor
//!   "not found", nor a panic, nor memory without bound.

mod block;
mod cache;
mod compression;
mod error;
mod filter;
mod key;
pub mod limits;
mod options;
pub mod table;
#[cfg(test)]
mod tests;

pub use cache::BlockCache;
pub use compression::Compression;
pub use error::{Damage, StorageError};
pub use key::{Entry, Kind};
pub use options::{PrefixExtractor, ReadOptions, TableOptions};
pub use table::{
    Bounds, Cursor, Finished, Found, Properties, RangeTombstone, Table, TableId, TableWriter,
    Tombstones, Verified,
};
