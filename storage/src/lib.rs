//! The LSM store of a shard.
//!
//! **What lives here.** Sorted tables: their [format](table), [`TableWriter`], [`Table`] with its
//! [`Cursor`], and the [`BlockCache`] that the tables of a shard share. [`WriteBatch`]: what a
//! commit changes. [`Memtable`]: what is not in a table yet. The [`Manifest`], which says which
//! keyspaces and tables there are. What a snapshot sees of all these ([`scan`]), and how sources
//! are rewritten into tables ([`compaction`]). The [`Store`](store::Store) of these, over its
//! owner's log, which flushes and compacts by itself, and slows writers who are faster.
//! `docs/store-format.md` has the bytes.
//!
//! **How data flows.** A writer is given entries in order, and makes blocks of them, a partition of
//! the index over them, and a file. A reader goes down the same way: the top-level index tells the
//! partition, its filter whether to go on, the partition the block, the block the entry; values
//! come back as slices of what was read. Everything is asynchronous over the environment's disk,
//! and belongs to one shard's thread. What is live is the manifest's to say: an [`Edit`] becomes
//! durable as a whole, and makes a new [`Version`], which readers hold for as long as they need it.
//!
//! **What must never be here.** A clock for anything but the end of entries and rests between
//! tries: nothing is paced by time. Anything that knows what a topic or a protocol is.
//!
//! # What is promised
//!
//! - When [`TableWriter::finish`] has returned, the table survives process crash, OS crash and
//!   power cut, on a disk that honours flushes. Before, no crash leaves a file that is taken for a
//!   table of which something is missing.
//! - When [`Manifest::commit`] has returned, its edit survives the same. A live table is never
//!   removed, and what a crash leaves of others is, when the manifest is opened.
//! - Every block is checked when it is read from the disk. Damage is
//!   [`StorageError::Corrupt`], of the reads that need the block; it is never a wrong answer, nor
//!   "not found", nor a panic, nor memory without bound.
//!
//! # Example
//!
//! In a simulated world; with the environment of a production backend it is the same.
//!
//! ```
//! use std::path::Path;
//! use std::time::Duration;
//! use woodchuck_io::{Disk as _, Env as _};
//! use woodchuck_sim::{SimEnv, World};
//! use woodchuck_storage::{
//!     BlockCache, Bounds, Entry, Kind, ReadOptions, StorageError, Table, TableId, TableOptions,
//!     TableWriter,
//! };
//!
//! async fn write_and_read(env: &SimEnv) -> Result<(), StorageError> {
//!     let (disk, directory) = (env.disk(), Path::new("/"));
//!     let id = TableId { store: 0x5eed, keyspace: 1, number: 1 };
//!     let mut writer = TableWriter::create(disk, directory, id, TableOptions::default()).await?;
//!     for (user_key, sequence) in [(b"marmot", 7), (b"wombat", 9), (b"wombat", 4)] {
//!         let (kind, expires_at_ms) = (Kind::Value, None);
//!         writer.add(&Entry { user_key, sequence, kind, expires_at_ms, value: b"chucks" }).await?;
//!     }
//!     // Nothing is durable before this, and everything is afterwards.
//!     writer.finish().await?;
//!
//!     let cache = BlockCache::new(64 << 20);
//!     let table = Table::open(disk, directory, id, &cache, ReadOptions::default()).await?;
//!     let found = table.get(b"wombat", 8).await?.expect("a snapshot sees what was there");
//!     assert_eq!((found.sequence, &found.value[..]), (4, &b"chucks"[..]));
//!     let mut cursor = table.cursor(Bounds::prefix(b"wom"));
//!     cursor.seek_to_last().await?;
//!     assert_eq!(cursor.entry().expect("the oldest comes last").sequence, 4);
//!     Ok(())
//! }
//!
//! let world = World::new(1);
//! let machine = world.machine("one");
//! world.start(machine, 1, |env| async move {
//!     write_and_read(&env).await.expect("the disk is healthy");
//! });
//! let running = world.clone();
//! assert!(world.run_until(move || !running.is_running(machine), Duration::from_secs(1)));
//! ```

mod batch;
mod block;
mod cache;
pub mod compaction;
mod compression;
mod counters;
mod error;
mod filter;
mod key;
pub mod limits;
pub mod manifest;
mod memtable;
pub mod offline;
mod operands;
mod options;
pub mod scan;
pub mod store;
pub mod table;
mod tables;
#[cfg(test)]
mod tests;
mod varint;

pub use batch::{BatchEntries, BatchError, BatchView, WriteBatch};
pub use cache::BlockCache;
pub use compression::Compression;
pub use error::{Damage, StorageError};
pub use key::{Entry, Kind};
pub use manifest::{
    DamagedTable, Edit, Keyspace, KeyspaceOptions, LeftAlone, Level, Manifest, ManifestOpened,
    ManifestOptions, Orphan, Run, Strategy, TableMetadata, Version,
};
pub use memtable::{Memtable, MemtableCursor};
pub use operands::Operands;
pub use options::{PrefixExtractor, ReadOptions, TableOptions};
pub use table::{
    Bounds, Cursor, Finished, Found, Properties, RangeTombstone, Table, TableId, TableWriter,
    Tombstones, Verified,
};
pub use tables::Tables;
