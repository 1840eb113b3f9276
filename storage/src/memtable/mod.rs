//! The memtable: what a keyspace has in memory, until it is flushed to a table.
//!
//! The fault model: memory does not fail, and entries were checked when they were batched, so
//! nothing here can fail. One thread uses a memtable; it is in memory alone, and the log has what a
//! crash takes.
//!
//! | part | file |
//! |---|---|
//! | where keys and values stand | `arena` |
//! | the order: a B+-tree of records | `tree`, over nodes in `keys` |
//! | range tombstones | `tombstones` |
//! | walking | `cursor` |
//!
//! It answers as a table does, but at once: `get`, `newest_over`, and a cursor whose steps are named
//! as those of a table's are, so that who merges them needs a `match` and nothing else.

mod arena;
mod cursor;
mod keys;
mod tombstones;
mod tree;

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::rc::Rc;

use bytes::Bytes;

pub use cursor::MemtableCursor;

use crate::Entry;
use crate::key::{InternalKey, Kind, Version};
use crate::limits::{KEY_BYTES, VALUE_BYTES};
use crate::table::{Found, RangeTombstone};
use tombstones::Fragments;
use tree::Tree;

/// The newest entries of a keyspace. Clones are the same memtable.
#[derive(Clone, Default)]
pub struct Memtable {
    inner: Rc<RefCell<Inner>>,
}

#[derive(Default)]
struct Inner {
    tree: Tree,
    tombstones: Fragments,
    /// The smallest and the largest.
    sequences: Option<(u64, u64)>,
    is_frozen: bool,
}

impl Memtable {
    /// A memtable that has nothing, and takes hardly any memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes an entry. A range deletion, whose value is the end of its range, becomes a range
    /// tombstone.
    ///
    /// # Panics
    /// If there is an entry with this internal key, since then a commit has been applied twice; if
    /// the entry is not one that a batch can have; if the memtable is frozen.
    pub fn insert(&self, entry: &Entry<'_>) {
        let inner = &mut *self.inner.borrow_mut();
        assert!(!inner.is_frozen, "a memtable that is flushed takes nothing more");
        assert!(entry.user_key.len() <= KEY_BYTES && entry.value.len() <= VALUE_BYTES);
        assert_eq!(entry.kind == Kind::ExpiringValue, entry.expires_at_ms.is_some());
        if entry.kind == Kind::RangeDeletion {
            assert!(entry.user_key < entry.value && entry.value.len() <= KEY_BYTES);
            inner.tombstones.add(entry.user_key, entry.value, entry.sequence);
        } else {
            inner.tree.insert(entry);
        }
        let sequence = entry.sequence;
        let (smallest, largest) = inner.sequences.unwrap_or((sequence, sequence));
        inner.sequences = Some((smallest.min(sequence), largest.max(sequence)));
    }

    /// Has it take nothing more. Cursors then need not look whether something came.
    pub fn freeze(&self) {
        self.inner.borrow_mut().is_frozen = true;
    }

    /// The newest entry of a key among those of commits up to `snapshot`, whatever range tombstones
    /// say.
    #[must_use]
    pub fn get(&self, user_key: &[u8], snapshot: u64) -> Option<Found> {
        let inner = self.inner.borrow();
        let position =
            inner.tree.seek(InternalKey { user_key, version: Version::seen_by(snapshot) })?;
        let parts = inner.tree.arena().parts(inner.tree.record(position));
        let entry = parts.entry();
        (entry.user_key == user_key).then(|| Found {
            sequence: entry.sequence,
            kind: entry.kind,
            expires_at_ms: entry.expires_at_ms,
            value: parts.large.cloned().unwrap_or_else(|| Bytes::copy_from_slice(entry.value)),
        })
    }

    /// Gives what a reader needs of a key, among the entries of commits up to `snapshot`, newest
    /// first: merge entries, and the base that they apply to, if this memtable has it and no range
    /// tombstone hides it. `Break` says that nothing older matters, `Continue` that older memtables
    /// and tables are to be asked for what is missing.
    ///
    /// # Panics
    /// If `visit` inserts into this memtable.
    pub fn read(
        &self,
        user_key: &[u8],
        snapshot: u64,
        mut visit: impl FnMut(Entry<'_>),
    ) -> ControlFlow<()> {
        let inner = self.inner.borrow();
        let hidden = inner.tombstones.newest_over(user_key, snapshot);
        let seen = InternalKey { user_key, version: Version::seen_by(snapshot) };
        let mut next = inner.tree.seek(seen);
        while let Some(position) = next {
            let entry = inner.tree.arena().entry(inner.tree.record(position));
            // A range tombstone hides what is older than its own commit.
            let is_hidden = hidden.is_some_and(|hidden| entry.sequence < hidden);
            if entry.user_key != user_key || is_hidden {
                break;
            }
            visit(entry);
            if entry.kind != Kind::Merge {
                return ControlFlow::Break(());
            }
            next = inner.tree.next(position);
        }
        if hidden.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// The commit of the newest range tombstone over a key, among those of commits up to
    /// `snapshot`. It hides entries of older commits, here and wherever else.
    #[must_use]
    pub fn newest_over(&self, user_key: &[u8], snapshot: u64) -> Option<u64> {
        self.inner.borrow().tombstones.newest_over(user_key, snapshot)
    }

    pub(crate) fn newest_range_over(
        &self,
        user_key: &[u8],
        snapshot: u64,
    ) -> Option<RangeTombstone> {
        self.inner.borrow().tombstones.newest_range_over(user_key, snapshot)
    }

    /// Its range tombstones, cut where they meet: in the order of their starts, newer commits first
    /// where these are the same, as a table takes them.
    #[must_use]
    pub fn range_tombstones(&self) -> Vec<RangeTombstone> {
        self.inner.borrow().tombstones.iter().collect()
    }

    /// How many entries it has, range tombstones aside.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.inner.borrow().tree.entries()
    }

    /// How many range tombstones it has, as they were cut.
    #[must_use]
    pub fn range_tombstone_count(&self) -> usize {
        self.inner.borrow().tombstones.len()
    }

    /// Whether it has nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inner.borrow().sequences.is_none()
    }

    /// About how much memory it takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let inner = self.inner.borrow();
        inner.tree.bytes() + inner.tombstones.bytes()
    }

    /// The bytes of its range tombstones among these. A table may have
    /// [`RANGE_TOMBSTONE_BYTES`](crate::limits::RANGE_TOMBSTONE_BYTES) of them.
    #[must_use]
    pub fn range_tombstone_bytes(&self) -> usize {
        self.inner.borrow().tombstones.bytes()
    }

    /// The smallest and the largest sequence of what it has.
    #[must_use]
    pub fn sequences(&self) -> Option<(u64, u64)> {
        self.inner.borrow().sequences
    }
}
