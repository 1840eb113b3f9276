//! What is done in a round: groups of operations, drawn from a seed.
//!
//! The operations of a group are in flight together; the next group begins when all are done. The
//! operations of one group are about different files and names, but for writes, of which a group
//! may have several to different blocks of one file; and a directory is not synced while its names
//! change.

use std::collections::{BTreeMap, BTreeSet};

use woodchuck_io::RandomStream;

use crate::limits::{FILE_BLOCKS, GROUP_OPERATIONS, GROUPS, NAMES, SECTOR_BYTES, WRITE_BLOCKS};
use crate::random::{hash, stream};

/// A file, whatever its name: 1, 2, 3, ... in the order of creation.
pub type FileNumber = u32;
/// A name in the round's directory.
pub type Name = u64;

/// One call of the seam. Offsets and lengths are in blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the arguments of the seam's calls")]
pub enum Operation {
    Create { file: FileNumber, name: Name },
    Write { file: FileNumber, block: u64, blocks: u64, durable: bool, stamp: u32 },
    SyncData { file: FileNumber },
    Allocate { file: FileNumber, blocks: u64 },
    Truncate { file: FileNumber, blocks: u64 },
    Rename { from: Name, to: Name },
    Remove { name: Name },
    SyncDirectory,
}

/// The groups of a round.
#[must_use]
pub fn plan(seed: u64) -> Vec<Vec<Operation>> {
    let mut planner = Planner {
        random: stream(seed, "plan"),
        names: BTreeMap::new(),
        lengths: BTreeMap::new(),
        files: 0,
        stamps: 0,
    };
    (0..GROUPS).map(|_| planner.group()).collect()
}

/// The bytes of a sector: whose it is, which write put it there, and filler that depends on all.
/// Stamp 0 is a sector of zeros: one that was never written.
#[must_use]
pub fn sector(seed: u64, file: FileNumber, stamp: u32, number: u64) -> [u8; SECTOR_BYTES] {
    let mut bytes = [0; SECTOR_BYTES];
    if stamp == 0 {
        return bytes;
    }
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    bytes[16..20].copy_from_slice(&file.to_le_bytes());
    bytes[20..24].copy_from_slice(&stamp.to_le_bytes());
    let mut word = hash(&bytes[..24]);
    for eight in bytes[24..].chunks_exact_mut(8) {
        word = word.rotate_left(23).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        eight.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// The stamp in a sector of this file, if it is whole and in its place.
#[must_use]
pub fn stamp_of(seed: u64, file: FileNumber, number: u64, bytes: &[u8]) -> Option<u32> {
    let stamp = u32::from_le_bytes(bytes.get(20..24)?.try_into().ok()?);
    (sector(seed, file, stamp, number) == bytes).then_some(stamp)
}

struct Planner {
    random: RandomStream,
    names: BTreeMap<Name, FileNumber>,
    /// Blocks of each file that has a name.
    lengths: BTreeMap<FileNumber, u64>,
    files: FileNumber,
    stamps: u32,
}

/// What the operations of a group are about so far.
#[derive(Default)]
struct Busy {
    names: BTreeSet<Name>,
    /// Files that something else than a write is about.
    files: BTreeSet<FileNumber>,
    /// Blocks of files that are written.
    blocks: BTreeMap<FileNumber, BTreeSet<u64>>,
    directory: bool,
}

impl Busy {
    fn is_free(&self, file: FileNumber) -> bool {
        !self.files.contains(&file) && !self.blocks.contains_key(&file)
    }
}

impl Planner {
    fn group(&mut self) -> Vec<Operation> {
        let wanted = 1 + self.random.below(GROUP_OPERATIONS);
        let mut busy = Busy::default();
        let mut group = Vec::new();
        for _ in 0..wanted {
            group.extend(self.operation(&mut busy));
        }
        group
    }

    /// One more operation, unless what was drawn cannot be done beside the others.
    fn operation(&mut self, busy: &mut Busy) -> Option<Operation> {
        match self.random.below(20) {
            0..2 => self.create(busy),
            2 => self.rename(busy),
            3 if self.random.below(2) == 0 => self.remove(busy),
            4..6 if !busy.directory && busy.names.is_empty() => {
                busy.directory = true;
                Some(Operation::SyncDirectory)
            }
            6..8 => self.whole_file(busy, |_, file| Operation::SyncData { file }),
            8 => self.whole_file(busy, |planner, file| {
                let blocks = 1 + planner.random.below(FILE_BLOCKS);
                let length = planner.lengths.entry(file).or_default();
                *length = blocks.max(*length);
                Operation::Allocate { file, blocks }
            }),
            9 => self.whole_file(busy, |planner, file| {
                let blocks = planner.random.below(FILE_BLOCKS);
                planner.lengths.insert(file, blocks);
                Operation::Truncate { file, blocks }
            }),
            10.. => self.write(busy),
            _ => None,
        }
    }

    fn some_name(&mut self) -> Option<(Name, FileNumber)> {
        let index = self.random.below(self.names.len().max(1) as u64) as usize;
        self.names.iter().nth(index).map(|(name, file)| (*name, *file))
    }

    fn create(&mut self, busy: &mut Busy) -> Option<Operation> {
        let name = self.random.below(NAMES);
        if busy.directory || busy.names.contains(&name) || self.names.contains_key(&name) {
            return None;
        }
        self.files += 1;
        let file = self.files;
        busy.names.insert(name);
        busy.files.insert(file);
        self.names.insert(name, file);
        self.lengths.insert(file, 0);
        Some(Operation::Create { file, name })
    }

    fn rename(&mut self, busy: &mut Busy) -> Option<Operation> {
        let (from, file) = self.some_name()?;
        let to = self.random.below(NAMES);
        let replaced = self.names.get(&to).copied();
        let is_busy = busy.directory || busy.names.contains(&from) || busy.names.contains(&to);
        let files = [Some(file), replaced];
        if is_busy || from == to || !files.into_iter().flatten().all(|file| busy.is_free(file)) {
            return None;
        }
        busy.names.extend([from, to]);
        busy.files.extend(files.into_iter().flatten());
        self.names.remove(&from);
        self.names.insert(to, file);
        Some(Operation::Rename { from, to })
    }

    fn remove(&mut self, busy: &mut Busy) -> Option<Operation> {
        let (name, file) = self.some_name()?;
        if busy.directory || busy.names.contains(&name) || !busy.is_free(file) {
            return None;
        }
        busy.names.insert(name);
        busy.files.insert(file);
        self.names.remove(&name);
        Some(Operation::Remove { name })
    }

    fn whole_file(
        &mut self,
        busy: &mut Busy,
        make: impl FnOnce(&mut Self, FileNumber) -> Operation,
    ) -> Option<Operation> {
        let (_, file) = self.some_name()?;
        if !busy.is_free(file) {
            return None;
        }
        busy.files.insert(file);
        Some(make(self, file))
    }

    fn write(&mut self, busy: &mut Busy) -> Option<Operation> {
        let (_, file) = self.some_name()?;
        let length = self.lengths[&file];
        let blocks = 1 + self.random.below(WRITE_BLOCKS);
        // Most writes are within the file, some at its end, a few leave a hole.
        let block = match self.random.below(8) {
            0 => self.random.below(FILE_BLOCKS),
            1 | 2 => length,
            _ => self.random.below(length.max(1)),
        };
        let block = block.min(FILE_BLOCKS - blocks);
        let written = busy.blocks.get(&file);
        let overlaps =
            written.is_some_and(|written| (block..block + blocks).any(|at| written.contains(&at)));
        if busy.files.contains(&file) || overlaps {
            return None;
        }
        busy.blocks.entry(file).or_default().extend(block..block + blocks);
        self.lengths.insert(file, length.max(block + blocks));
        self.stamps += 1;
        let durable = self.random.below(2) == 0;
        Some(Operation::Write { file, block, blocks, durable, stamp: self.stamps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_plan_and_plans_have_everything_in_them() {
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
        let all: Vec<_> = (0..20).flat_map(plan).flatten().collect();
        let has =
            |what: fn(&Operation) -> bool| assert!(all.iter().filter(|o| what(o)).count() > 20);
        has(|operation| matches!(operation, Operation::Create { .. }));
        has(|operation| matches!(operation, Operation::Write { durable: true, .. }));
        has(|operation| matches!(operation, Operation::Write { durable: false, .. }));
        has(|operation| matches!(operation, Operation::SyncData { .. }));
        has(|operation| matches!(operation, Operation::Allocate { .. }));
        has(|operation| matches!(operation, Operation::Truncate { .. }));
        has(|operation| matches!(operation, Operation::Rename { .. }));
        has(|operation| matches!(operation, Operation::Remove { .. }));
        has(|operation| matches!(operation, Operation::SyncDirectory));
    }

    #[test]
    fn a_sector_is_known_by_its_content_in_its_place_only() {
        let bytes = sector(1, 2, 3, 4);
        assert_eq!(stamp_of(1, 2, 4, &bytes), Some(3));
        assert_eq!(stamp_of(1, 2, 5, &bytes), None);
        assert_eq!(stamp_of(1, 3, 4, &bytes), None);
        assert_eq!(stamp_of(2, 2, 4, &bytes), None);
        assert_eq!(stamp_of(1, 2, 4, &[0; SECTOR_BYTES]), Some(0));
        let mut torn = bytes;
        torn[511] ^= 1;
        assert_eq!(stamp_of(1, 2, 4, &torn), None);
    }
}
