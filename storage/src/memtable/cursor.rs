//! A cursor over a memtable: as that of a table, but that nothing can fail and nobody waits.
//!
//! It copies each entry where it stands, so that it borrows nothing of the memtable between its
//! steps, and entries may come.

use bytes::Bytes;

use super::tree::{Position, Tree};
use super::{Inner, Memtable};
use crate::Entry;
use crate::key::{InternalKey, Kind, Version};
use crate::table::Bounds;

/// Walks over the entries of a memtable: every version of every key, also deletions, in the order
/// of user keys, newer commits first. It starts nowhere; each of the seeks puts it somewhere. When
/// it leaves its bounds, it stands nowhere again.
///
/// Entries may come between its steps: it stands where it stood, and finds them if they are on its
/// way. It keeps the memtable.
pub struct MemtableCursor {
    memtable: Memtable,
    bounds: Bounds,
    position: Option<Position>,
    /// How many entries the memtable had when the position was found. It holds no longer if there
    /// are more: the leaf may have been split.
    entries: u64,
    here: Here,
}

/// The entry where a cursor stands, in memory that stays.
struct Here {
    /// The user key, and the value unless it is shared.
    bytes: Vec<u8>,
    key_bytes: usize,
    large: Option<Bytes>,
    sequence: u64,
    kind: Kind,
    expires_at_ms: Option<u64>,
}

impl Memtable {
    /// A cursor that sees these keys.
    #[must_use]
    pub fn cursor(&self, bounds: Bounds) -> MemtableCursor {
        let here = Here {
            bytes: Vec::new(),
            key_bytes: 0,
            large: None,
            sequence: 0,
            kind: Kind::Deletion,
            expires_at_ms: None,
        };
        MemtableCursor { memtable: self.clone(), bounds, position: None, entries: 0, here }
    }
}

impl MemtableCursor {
    pub(crate) const fn memtable(&self) -> &Memtable {
        &self.memtable
    }

    /// The entry where the cursor stands.
    #[must_use]
    pub fn entry(&self) -> Option<Entry<'_>> {
        self.position?;
        let Here { sequence, kind, expires_at_ms, .. } = self.here;
        let (user_key, value) = (self.here.user_key(), self.here.value());
        Some(Entry { user_key, sequence, kind, expires_at_ms, value })
    }

    /// The value where the cursor stands. A long one shares memory with the memtable and keeps that,
    /// and nothing else, alive; a short one is copied.
    #[must_use]
    pub fn value(&self) -> Option<Bytes> {
        self.position?;
        let large = self.here.large.clone();
        Some(large.unwrap_or_else(|| Bytes::copy_from_slice(self.here.value())))
    }

    /// Goes to the first entry.
    pub fn seek_to_first(&mut self) {
        self.seek(&[], u64::MAX);
    }

    /// Goes to the last entry.
    pub fn seek_to_last(&mut self) {
        let inner = self.memtable.inner.borrow();
        let tree = &inner.tree;
        let found = match self.bounds.upper() {
            Some(upper) => {
                tree.seek_before(InternalKey { user_key: upper, version: Version::FIRST })
            }
            None => tree.last(),
        };
        stand(&mut self.position, &mut self.entries, &mut self.here, &self.bounds, &inner, found);
    }

    /// Goes to the first entry of this key that a snapshot sees, or of a later key.
    pub fn seek(&mut self, user_key: &[u8], snapshot: u64) {
        let inner = self.memtable.inner.borrow();
        let lower = self.bounds.lower().filter(|&lower| lower > user_key);
        let bound = match lower {
            Some(lower) => InternalKey { user_key: lower, version: Version::FIRST },
            None => InternalKey { user_key, version: Version::seen_by(snapshot) },
        };
        let found = inner.tree.seek(bound);
        stand(&mut self.position, &mut self.entries, &mut self.here, &self.bounds, &inner, found);
    }

    /// Goes to the last entry of this key or an earlier one: the oldest version.
    pub fn seek_for_prev(&mut self, user_key: &[u8]) {
        self.seek_in_front(user_key, Version::LAST);
    }

    /// Goes to the last entry of the keys in front of this one.
    pub fn seek_before(&mut self, user_key: &[u8]) {
        self.seek_in_front(user_key, Version::FIRST);
    }

    /// Goes to the last entry in front of an internal key.
    fn seek_in_front(&mut self, user_key: &[u8], version: Version) {
        let inner = self.memtable.inner.borrow();
        let upper = self.bounds.upper().filter(|&upper| upper <= user_key);
        let bound = match upper {
            Some(upper) => InternalKey { user_key: upper, version: Version::FIRST },
            None => InternalKey { user_key, version },
        };
        let found = inner.tree.seek_before(bound);
        stand(&mut self.position, &mut self.entries, &mut self.here, &self.bounds, &inner, found);
    }

    /// Goes to the next entry. Nothing happens if the cursor stands nowhere.
    pub fn next(&mut self) {
        self.step(Tree::next);
    }

    /// Goes to the entry before. Nothing happens if the cursor stands nowhere.
    pub fn prev(&mut self) {
        self.step(Tree::prev);
    }

    fn step(&mut self, step: impl FnOnce(&Tree, Position) -> Option<Position>) {
        let Some(mut position) = self.position else { return };
        let inner = self.memtable.inner.borrow();
        if inner.tree.entries() != self.entries {
            let found = inner.tree.seek(self.here.internal_key());
            position = found.expect("entries do not go");
        }
        let found = step(&inner.tree, position);
        stand(&mut self.position, &mut self.entries, &mut self.here, &self.bounds, &inner, found);
    }
}

/// Stands at an entry that was found, if the bounds allow it. The parts of the cursor come one by
/// one, because its memtable is borrowed.
fn stand(
    position: &mut Option<Position>,
    entries: &mut u64,
    here: &mut Here,
    bounds: &Bounds,
    inner: &Inner,
    found: Option<Position>,
) {
    *position = None;
    let Some(found) = found else { return };
    let (tree, record) = (&inner.tree, inner.tree.record(found));
    let parts = tree.arena().parts(record);
    if !bounds.has(parts.user_key()) {
        return;
    }
    here.bytes.clear();
    here.bytes.extend_from_slice(parts.key_and_value);
    here.key_bytes = parts.key_bytes;
    here.large = parts.large.cloned();
    (here.sequence, here.kind) = (parts.sequence, parts.kind);
    here.expires_at_ms = parts.expires_at_ms;
    (*position, *entries) = (Some(found), tree.entries());
}

impl Here {
    fn user_key(&self) -> &[u8] {
        &self.bytes[..self.key_bytes]
    }

    fn value(&self) -> &[u8] {
        self.large.as_deref().unwrap_or(&self.bytes[self.key_bytes..])
    }

    fn internal_key(&self) -> InternalKey<'_> {
        let version = Version { sequence: self.sequence, kind: self.kind.number() };
        InternalKey { user_key: self.user_key(), version }
    }
}
