//! Reads over several sources: what a snapshot sees of a keyspace.
//!
//! **How data flows.** A [`Source`] walks over the entries of one memtable, one table, or one run.
//! A merging cursor makes one walk of several, in the order of internal keys. A
//! [`SnapshotCursor`] makes keys and values of that: of each key it takes the versions that its
//! snapshot sees, and applies range tombstones, times at which values end, and the keyspace's
//! [`MergeOperator`]. [`get`] asks memtables and tables for one key, the newest first.
//!
//! **What must never be here.** Which tables there are, and which of them a read may leave out. The
//! clock: a cursor is told once what time it is, so that one walk sees one moment.
//!
//! # What a snapshot sees of a key
//!
//! The entries of the key with a sequence up to the snapshot, from the newest on, without those
//! that are older than the newest range tombstone over the key among those up to the snapshot. A
//! range tombstone says nothing of entries of its own commit.
//!
//! 1. Merge operands are put aside, until
//! 2. a value is found, which is what the operands apply to; or
//! 3. a deletion, a value that has ended, or nothing: the operands apply to no value.
//!
//! Where no operands were put aside, the value is what the key has, if there is one. So operands
//! that came while a value had not ended yet apply to no value once it has: what was merged is
//! never lost, and never kept alive by being merged into something that ends.
//!
//! # Errors
//!
//! What cannot be read fails the move that needs it, and leaves the cursor nowhere: a seek past the
//! damage goes on behind it. No key is ever left out because something in front of it, or a version
//! of it, could not be read.

mod answer;
mod layer;
pub(crate) mod merging;
mod operator;
mod point;
mod run;
mod snapshot;
mod source;

pub use layer::Layer;
pub use operator::{Add, Append, Largest, MergeOperator};
pub use point::{View, get};
pub use run::RunCursor;
pub use snapshot::SnapshotCursor;
pub use source::Source;
