//! Compaction: what several sources hold, rewritten into tables, without what nobody can see.
//!
//! **How data flows.** [`rewrite`](rewrite::rewrite) walks over the entries of its sources, one key
//! after the other. `Retention` is given the versions of a key, newest first, and says which
//! remain. They go into tables that end where [`Cuts`] says, between two keys; range tombstones are
//! cut where tables end, so that no two tables of one rewriting have a key in common.
//!
//! A flush is the same, of one memtable, with all that is older elsewhere.
//!
//! [`pick_levelled`], [`pick_universal`] and [`pick_fifo`] say which tables are rewritten, or
//! removed, next.
//!
//! **What must never be here.** When that is done; what becomes of the old tables.
//!
//! # What nobody can see
//!
//! Live snapshots divide commits into **stripes**: two commits are in one stripe if no live
//! snapshot sees the older and not the newer. Of what is in one stripe only the newest can be seen,
//! so
//!
//! 1. a version goes if a newer value, or deletion, of its key is in its stripe;
//! 2. a version goes if a newer range tombstone over its key is in its stripe;
//! 3. an older range tombstone over the same keys goes if a newer is in its stripe;
//! 4. a value that has ended is a deletion;
//! 5. merge operands are applied to the value in their stripe, or to no value if a deletion, a
//!    range tombstone, or the end of all that there is of the key says so; otherwise those of one
//!    stripe are joined. They are not applied to a value that will end, which the reader has to
//!    see;
//! 6. deletions and range tombstones of the oldest stripe go if nothing older of their keys is
//!    anywhere else: what they hide was in their stripe, and went.
//!
//! A version in a newer stripe that hides one in an older stripe stays with it: newer snapshots see
//! the one, older snapshots the other.

mod cuts;
mod fragments;
mod pick;
mod retention;
mod rewrite;

pub use cuts::Cuts;
pub use pick::{
    Action, FifoOptions, LevelledOptions, Pick, UniversalOptions, levelled_debt, pick_fifo,
    pick_levelled, pick_universal,
};
pub use retention::Retention;
pub use rewrite::{Older, Output, Produced, rewrite};
