//! The manifest: which keyspaces a store has, which tables, and up to where the log's commits are in
//! them.
//!
//! The fault model: a crash may come at any moment, any operation may fail, and what is read may be
//! any bytes at all. The manifest is a [`Log`](woodchuck_wal::Log) of its own, in the folder
//! `manifest` of the store's directory, so a torn tail is told from damage there; what is here
//! decides what the commits of that log say. `docs/store-format.md` has the whole format, with the
//! numbered conditions under which a reader believes it.
//!
//! ```text
//! begin | part | part | end | edit | edit | begin | part | end | edit | ...
//! ^ trimmed to here, until the next end is durable
//! ```
//!
//! | part | file |
//! |---|---|
//! | what an edit is made of | `change` |
//! | the bytes of a commit | `record` |
//! | what readers see: keyspaces, levels, runs, tables | `version` |
//! | which edits are right | `state` |
//! | from commits back to the state | `replay` |
//! | opening, edits, snapshots, numbers | `handle` |
//! | the store's files: orphans, missing tables, files of others | `directory` |
//! | a manifest of one version, for a copy of a store | `copy` |
//! | looking at all that without opening it | `examine` |

mod change;
pub(crate) mod copy;
mod directory;
mod examine;
mod handle;
mod options;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod state;
mod version;

pub use change::{Edit, KeyspaceOptions, Strategy, TableMetadata};
pub use directory::{DamagedTable, LeftAlone, Orphan};
pub(crate) use directory::{list, table_number};
pub use examine::{Inspection, inspect, is_store};
pub use handle::{Manifest, ManifestOpened};
pub use options::ManifestOptions;
pub use version::{Keyspace, Level, Run, Version};

/// The folder of the manifest in a store's directory.
pub(crate) const FOLDER: &str = "manifest";

/// An edit that reserves numbers, which only a manifest makes for itself.
#[cfg(test)]
pub(crate) fn reserve(below: u64) -> Edit {
    Edit { changes: vec![change::Change::ReserveNumbers { below }] }
}
