//! The index of a memtable: a B+-tree over records, in the order of internal keys.
//!
//! Entries are never taken away, so neither are nodes: a node is called by its number in one of two
//! lists. Leaves are linked both ways. A separator is the first record of what is right of it, or
//! was when it was made.
//!
//! # What nodes leave out
//!
//! A node has eight bytes of each key, behind the bytes that it *skips*. What may be skipped follows
//! from the separators on both sides of the node, above it: all keys between two keys begin with
//! what these two have in common, and whoever comes down to the node looks for a key between them.
//! At the edges of the tree, where a separator is missing on one side, stands what all keys of the
//! tree have in common; if a key comes that has less of it, the nodes at the edges, a few, are told
//! to skip less. Nowhere has a search to look at what is skipped.
//!
//! # How nodes split
//!
//! In halves. But if keys come in order, behind each other at the end of a leaf, it stays full, and
//! the new one begins with the new key: in order, keys fill leaves to the last place. This is asked
//! of each leaf by itself, so it also holds for keys that come in order in several places. A key
//! that just happens to come at the end of a full leaf splits it in halves, so no order of keys
//! leaves many nodes nearly empty.

use super::arena::{Arena, Record};
use super::keys::{Keys, WIDTH};
use crate::Entry;
use crate::key::{InternalKey, shared_bytes};

/// Levels above the leaves that a tree may have: with a handful of children a node, more than
/// records have names.
const LEVELS_MAX: usize = 16;

/// No leaf.
const NOWHERE: u32 = u32::MAX;

struct Leaf {
    keys: Keys,
    previous: u32,
    next: u32,
}

struct Inner {
    /// Separators: one less than children.
    keys: Keys,
    children: [u32; WIDTH + 1],
}

/// The entries of a memtable.
#[derive(Default)]
pub(super) struct Tree {
    arena: Arena,
    /// What all user keys begin with.
    shared: Vec<u8>,
    leaves: Vec<Leaf>,
    inners: Vec<Inner>,
    /// The number of a leaf if there are no levels, and else of an inner node.
    root: u32,
    /// Above the leaves.
    levels: usize,
    /// The last leaf.
    last: u32,
    entries: u64,
}

/// Where an entry stands, until another comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    leaf: u32,
    at: u32,
}

/// How a leaf is reached: at each level the node, and which of its children. The root comes first.
struct Path {
    steps: [(u32, u32); LEVELS_MAX],
    length: usize,
}

impl Path {
    const fn new() -> Self {
        Self { steps: [(0, 0); LEVELS_MAX], length: 0 }
    }

    fn push(&mut self, node: u32, child: usize) {
        self.steps[self.length] = (node, child as u32);
        self.length += 1;
    }

    fn pop(&mut self) -> Option<(u32, usize)> {
        self.length = self.length.checked_sub(1)?;
        let (node, child) = self.steps[self.length];
        Some((node, child as usize))
    }
}

impl Tree {
    /// Puts an entry in. None has its internal key.
    pub(super) fn insert(&mut self, entry: &Entry<'_>) {
        let key = entry.internal_key();
        if self.leaves.is_empty() {
            self.shared.extend_from_slice(key.user_key);
            self.leaves.reserve_exact(1);
            let keys = Keys::new(self.shared.len());
            self.leaves.push(Leaf { keys, previous: NOWHERE, next: NOWHERE });
        }
        let shared = shared_bytes(&self.shared, key.user_key);
        if shared < self.shared.len() {
            self.share_less(shared);
        }
        self.entries += 1;
        let last = &self.leaves[self.last as usize].keys;
        if last.len() > 0 && last.compare_last(&self.arena, key).is_ge() {
            return self.insert_inside(entry);
        }
        let at = last.len();
        let is_full = last.is_full();
        let record = self.arena.add(entry);
        if is_full {
            let path = self.path_to_last();
            self.split_leaf(self.last, at, true, path, (record, key.user_key));
        } else {
            self.leaves[self.last as usize].keys.insert(at, record, key.user_key);
        }
    }

    /// Puts an entry in that is not the last one.
    fn insert_inside(&mut self, entry: &Entry<'_>) {
        let key = entry.internal_key();
        let mut path = Path::new();
        let leaf = self.descend(key, |node, child| path.push(node, child));
        let keys = &self.leaves[leaf as usize].keys;
        let found = keys.search(&self.arena, key);
        let at = found.expect_err("no two entries have the same internal key");
        let is_run = at == keys.len() && keys.is_run();
        let record = self.arena.add(entry);
        if keys.is_full() {
            self.split_leaf(leaf, at, is_run, path, (record, key.user_key));
        } else {
            self.leaves[leaf as usize].keys.insert(at, record, key.user_key);
        }
    }

    /// The leaf where a key belongs. It begins with what all keys begin with.
    fn descend(&self, key: InternalKey<'_>, mut pass: impl FnMut(u32, usize)) -> u32 {
        let mut node = self.root;
        for _ in 0..self.levels {
            let inner = &self.inners[node as usize];
            let child = match inner.keys.search(&self.arena, key) {
                Ok(at) => at + 1,
                Err(at) => at,
            };
            pass(node, child);
            node = inner.children[child];
        }
        node
    }

    fn path_to_last(&self) -> Path {
        let (mut path, mut node) = (Path::new(), self.root);
        for _ in 0..self.levels {
            let inner = &self.inners[node as usize];
            path.push(node, inner.keys.len());
            node = inner.children[inner.keys.len()];
        }
        path
    }

    /// Keys have come to share less at their beginning.
    fn share_less(&mut self, shared: usize) {
        self.shared.truncate(shared);
        for at_end in [false, true] {
            let mut node = self.root;
            for _ in 0..self.levels {
                let Inner { keys, children } = &mut self.inners[node as usize];
                if keys.skip() > shared {
                    keys.set_skip(&self.arena, shared);
                }
                node = children[if at_end { keys.len() } else { 0 }];
            }
            let keys = &mut self.leaves[node as usize].keys;
            if keys.skip() > shared {
                keys.set_skip(&self.arena, shared);
            }
        }
    }

    /// Splits a full leaf for a record that belongs at a place in it.
    fn split_leaf(
        &mut self,
        number: u32,
        at: usize,
        is_run: bool,
        path: Path,
        (record, user_key): (Record, &[u8]),
    ) {
        let new = self.leaves.len() as u32;
        let leaf = &mut self.leaves[number as usize];
        let middle = if is_run { WIDTH } else { WIDTH / 2 };
        let mut behind = leaf.keys.split_off(middle);
        let separator = if is_run { record } else { behind.record(0) };
        let (left, right) = self.skips(&path, separator);
        let leaf = &mut self.leaves[number as usize];
        leaf.keys.sharpen(&self.arena, left);
        if is_run {
            behind = Keys::new(right);
        }
        behind.sharpen(&self.arena, right);
        if is_run {
            behind.insert(0, record, user_key);
        } else if at <= middle {
            leaf.keys.insert(at, record, user_key);
        } else {
            behind.insert(at - middle, record, user_key);
        }
        let next = std::mem::replace(&mut leaf.next, new);
        self.leaves.push(Leaf { keys: behind, previous: number, next });
        match self.leaves.get_mut(next as usize) {
            Some(leaf) => leaf.previous = new,
            None => self.last = new,
        }
        self.insert_child(path, separator, number, new);
    }

    /// How many bytes the nodes left and right of a new separator may skip, below a path.
    fn skips(&self, path: &Path, separator: Record) -> (usize, usize) {
        let steps = &path.steps[..path.length];
        let keys = |node: u32| &self.inners[node as usize].keys;
        let before = steps.iter().rev().find(|(_, child)| *child > 0);
        let before = before.map(|&(node, child)| keys(node).record(child as usize - 1));
        let behind = steps.iter().rev().find(|&&(node, child)| (child as usize) < keys(node).len());
        let behind = behind.map(|&(node, child)| keys(node).record(child as usize));
        let separator = self.arena.user_key(separator);
        let skip = |other: Option<Record>| {
            other.map_or(self.shared.len(), |other| {
                shared_bytes(self.arena.user_key(other), separator)
            })
        };
        (skip(before), skip(behind))
    }

    /// Puts a new node right of an old one, and a separator between them, into the nodes above.
    fn insert_child(&mut self, mut path: Path, separator: Record, old: u32, new: u32) {
        let Some((number, at)) = path.pop() else { return self.grow(separator, old, new) };
        let user_key = self.arena.user_key(separator);
        let inner = &mut self.inners[number as usize];
        if !inner.keys.is_full() {
            return inner.insert(at, separator, user_key, new);
        }
        // The separator in the middle goes up; at the end of a run, the last one.
        let is_run = at == WIDTH && inner.keys.is_run();
        let middle = if is_run { WIDTH - 1 } else { WIDTH / 2 };
        let mut behind = Inner { keys: inner.keys.split_off(middle + 1), children: [0; WIDTH + 1] };
        let moved = WIDTH - middle;
        behind.children[..moved].copy_from_slice(&inner.children[middle + 1..]);
        let raised = inner.keys.pop();
        let (left, right) = self.skips(&path, raised);
        let inner = &mut self.inners[number as usize];
        inner.keys.sharpen(&self.arena, left);
        behind.keys.sharpen(&self.arena, right);
        if at <= middle {
            inner.insert(at, separator, user_key, new);
        } else {
            behind.insert(at - middle - 1, separator, user_key, new);
        }
        let right = self.inners.len() as u32;
        self.inners.push(behind);
        self.insert_child(path, raised, number, right);
    }

    /// Puts a root over two nodes.
    fn grow(&mut self, separator: Record, old: u32, new: u32) {
        assert!(self.levels < LEVELS_MAX, "a tree has fewer records than names for them");
        let mut root = Inner { keys: Keys::new(self.shared.len()), children: [0; WIDTH + 1] };
        root.children[0] = old;
        root.insert(0, separator, self.arena.user_key(separator), new);
        self.root = self.inners.len() as u32;
        self.inners.push(root);
        self.levels += 1;
    }

    /// How many entries there are. As none ever goes, it is also how often the tree has changed.
    pub(super) const fn entries(&self) -> u64 {
        self.entries
    }

    /// What all of it takes.
    pub(super) const fn bytes(&self) -> usize {
        let nodes = self.leaves.len() * size_of::<Leaf>() + self.inners.len() * size_of::<Inner>();
        self.arena.bytes() + self.shared.len() + nodes
    }

    pub(super) const fn arena(&self) -> &Arena {
        &self.arena
    }

    /// The record at a position.
    pub(super) fn record(&self, position: Position) -> Record {
        self.leaves[position.leaf as usize].keys.record(position.at as usize)
    }

    /// The first entry at or behind a key.
    pub(super) fn seek(&self, key: InternalKey<'_>) -> Option<Position> {
        let (leaf, at) = self.search(key)?;
        self.position_or_next(leaf, at)
    }

    /// The last entry in front of a key.
    pub(super) fn seek_before(&self, key: InternalKey<'_>) -> Option<Position> {
        match self.search(key) {
            Some((leaf, at)) => self.prev(Position { leaf, at: at as u32 }),
            None => self.last(),
        }
    }

    pub(super) fn last(&self) -> Option<Position> {
        let leaf = self.leaves.get(self.last as usize)?;
        Some(Position { leaf: self.last, at: leaf.keys.len() as u32 - 1 })
    }

    /// The entry behind one.
    ///
    /// Who comes to the next leaf is going to look at all of it, most likely: then all its records
    /// are fetched together, and not one after the other. Walking over what came in another order
    /// takes a quarter of the time.
    pub(super) fn next(&self, Position { leaf, at }: Position) -> Option<Position> {
        let position = self.position_or_next(leaf, at as usize + 1)?;
        if position.leaf != leaf {
            self.arena.look_at(self.leaves[position.leaf as usize].keys.records());
        }
        Some(position)
    }

    /// The entry in front of one. As [`next`](Self::next).
    pub(super) fn prev(&self, Position { leaf, at }: Position) -> Option<Position> {
        if let Some(at) = at.checked_sub(1) {
            return Some(Position { leaf, at });
        }
        let leaf = self.leaves[leaf as usize].previous;
        let keys = &self.leaves.get(leaf as usize)?.keys;
        self.arena.look_at(keys.records());
        Some(Position { leaf, at: keys.len() as u32 - 1 })
    }

    /// The leaf where a key belongs, and where in it; nothing if it is behind all keys there are.
    fn search(&self, key: InternalKey<'_>) -> Option<(u32, usize)> {
        // Where keys begin with something else, nodes do not look.
        let in_common = &key.user_key[..key.user_key.len().min(self.shared.len())];
        match in_common.cmp(&self.shared) {
            std::cmp::Ordering::Less => Some((0, 0)),
            std::cmp::Ordering::Greater => None,
            std::cmp::Ordering::Equal if self.leaves.is_empty() => None,
            std::cmp::Ordering::Equal => {
                let leaf = self.descend(key, |_, _| {});
                let found = self.leaves[leaf as usize].keys.search(&self.arena, key);
                Some((leaf, found.unwrap_or_else(|at| at)))
            }
        }
    }

    fn position_or_next(&self, leaf: u32, at: usize) -> Option<Position> {
        let found = &self.leaves[leaf as usize];
        if at < found.keys.len() {
            return Some(Position { leaf, at: at as u32 });
        }
        // No leaf is empty.
        (found.next != NOWHERE).then_some(Position { leaf: found.next, at: 0 })
    }
}

impl Inner {
    fn insert(&mut self, at: usize, separator: Record, user_key: &[u8], child: u32) {
        let children = self.keys.len() + 1;
        self.keys.insert(at, separator, user_key);
        self.children.copy_within(at + 1..children, at + 2);
        self.children[at + 1] = child;
    }
}
