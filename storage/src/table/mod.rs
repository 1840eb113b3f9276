//! Sorted tables: files that are written once, from the first page to the last, and never changed.
//!
//! The fault model: a crash may come at any moment of writing, any operation may fail, and what is
//! read may be any bytes at all. `docs/store-format.md` has the whole format, with the numbered
//! conditions under which a reader believes it.
//!
//! ```text
//! | first | data | data | ... | filter | index     | ... | range      | top-  | proper-| last |
//! | page  |      |      |     |        | partition |     | tombstones | level | ties   | page |
//! |       |      |      |     |        |           |     |            | index |        |      |
//! 0       4096                                                             file bytes - 4096
//! ```
//!
//! | part | file |
//! |---|---|
//! | first and last page | `ends` |
//! | what stands around each block: checksum, lengths | `envelope` |
//! | data blocks, and range tombstones | `block` of the crate, `tombstones` |
//! | index partitions and top-level index | `index` |
//! | filters | `filter` of the crate |
//! | properties | `properties` |
//! | the order in which all that is written, and when it is durable | `writer`, on `output` |
//! | reading | `reader`, `cursor`, `read_ahead`, `verify`; block by block, `blocks` |

mod blocks;
mod cursor;
pub(crate) mod ends;
pub(crate) mod envelope;
pub(crate) mod index;
mod output;
mod properties;
mod read_ahead;
mod reader;
mod tombstones;
mod verify;
mod writer;

pub use blocks::{
    BlockContent, BlockEntries, FoundBlock, IndexEntry, StoredEntry, identify, stray_block,
};
pub use cursor::{Bounds, Cursor};
pub use properties::Properties;
pub use reader::{Found, Table};
pub use tombstones::{RangeTombstone, Tombstones};
pub use verify::Verified;
pub use writer::{Finished, TableWriter};

use std::fmt;

/// Which table a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId {
    /// The store: random, the same in all its tables, so that a table of another is noticed.
    pub store: u128,
    /// The keyspace.
    pub keyspace: u64,
    /// The table: no two of a store ever have the same number.
    pub number: u64,
}

impl TableId {
    /// The name of the table's file.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{:016x}.table", self.number)
    }

    pub(crate) fn encode(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.store.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.keyspace.to_le_bytes());
        bytes[24..].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; 32]) -> Self {
        let long = |at: usize| {
            bytes[at..at + 8].iter().rev().fold(0, |all, &byte| all << 8 | u64::from(byte))
        };
        let store = u128::from(long(8)) << 64 | u128::from(long(0));
        Self { store, keyspace: long(16), number: long(24) }
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store, keyspace, number } = self;
        write!(formatter, "table {number:016x} of keyspace {keyspace} of store {store:032x}")
    }
}
