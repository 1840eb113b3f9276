//! What may be on the disk after a power cut, from what was done before it.
//!
//! For each sector, length and name the model keeps all that it may be: what it was at the last
//! promise, and everything that was begun since. A promise (a durable write, `sync_data`,
//! `sync_directory`) that was kept leaves one.
//!
//! A rename is one step, as the table in `io/src/env.rs` says: a file whose name was durable, and that
//! was neither removed nor replaced, has one of its names.

use std::collections::{BTreeMap, BTreeSet};

use crate::limits::SECTOR_BYTES;
use crate::seam::plan::{FileNumber, Name, Operation, stamp_of};

const SECTORS_PER_BLOCK: u64 = (woodchuck_io::limits::BLOCK_BYTES / SECTOR_BYTES) as u64;

/// What a sector or a name may be, and what it is for those who look at it now.
#[derive(Clone, Debug)]
struct Slot<T> {
    possible: BTreeSet<T>,
    now: T,
}

impl<T: Ord + Clone> Slot<T> {
    fn new(value: T) -> Self {
        Self { possible: BTreeSet::from([value.clone()]), now: value }
    }

    fn settle(&mut self) {
        self.possible = BTreeSet::from([self.now.clone()]);
    }
}

/// A file. Lengths are in blocks, sectors are numbered from its start.
#[derive(Clone, Debug)]
struct FileModel {
    /// Stamps. A sector that is not in here is zero.
    sectors: BTreeMap<u64, Slot<u32>>,
    lengths: Slot<u64>,
}

/// The model of a round.
#[derive(Clone, Debug, Default)]
pub struct Model {
    files: BTreeMap<FileNumber, FileModel>,
    names: BTreeMap<Name, Slot<Option<FileNumber>>>,
    /// Files that have a durable name and cannot have lost it.
    kept: BTreeSet<FileNumber>,
}

/// What was promised and found, for showing that something was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Files found.
    pub files: u64,
    /// Sectors that could only be one thing, and were.
    pub settled: u64,
    /// Sectors that could be several.
    pub open: u64,
}

impl Model {
    /// Notes that an operation was begun: it may have happened.
    pub fn begin(&mut self, operation: &Operation) {
        match *operation {
            Operation::Create { file, name } => {
                let model = FileModel { sectors: BTreeMap::new(), lengths: Slot::new(0) };
                self.files.insert(file, model);
                self.name(name).possible.insert(Some(file));
            }
            Operation::Write { file, block, blocks, stamp, .. } => {
                let model = self.file(file);
                for number in sectors(block, blocks) {
                    model.sector(number).possible.insert(stamp);
                }
                let before = model.lengths.now;
                // It may have got to any block.
                model.lengths.possible.extend(before.max(block)..=before.max(block + blocks));
            }
            Operation::Allocate { file, blocks } => {
                let model = self.file(file);
                let length = blocks.max(model.lengths.now);
                model.lengths.possible.insert(length);
            }
            Operation::Truncate { file, blocks } => {
                let model = self.file(file);
                model.lengths.possible.insert(blocks);
                for (_, slot) in model.sectors.range_mut(blocks * SECTORS_PER_BLOCK..) {
                    slot.possible.insert(0);
                }
            }
            Operation::Rename { from, to } => {
                let file = self.name(from).now;
                self.name(from).possible.insert(None);
                let slot = self.name(to);
                slot.possible.insert(file);
                let replaced = slot.now;
                self.let_go(replaced);
            }
            Operation::Remove { name } => {
                let slot = self.name(name);
                slot.possible.insert(None);
                let removed = slot.now;
                self.let_go(removed);
            }
            Operation::SyncData { .. } | Operation::SyncDirectory => {}
        }
    }

    /// Notes that an operation that was begun is done.
    pub fn complete(&mut self, operation: &Operation) {
        match *operation {
            Operation::Create { file, name } => self.name(name).now = Some(file),
            Operation::Write { file, block, blocks, durable, stamp } => {
                let model = self.file(file);
                for number in sectors(block, blocks) {
                    let slot = model.sector(number);
                    slot.now = stamp;
                    if durable {
                        slot.settle();
                    }
                }
                let end = block + blocks;
                let lengths = &mut model.lengths;
                lengths.now = lengths.now.max(end);
                if durable {
                    lengths.possible = lengths.possible.iter().map(|l| *l.max(&end)).collect();
                }
            }
            Operation::SyncData { file } => {
                let model = self.file(file);
                model.lengths.settle();
                model.sectors.values_mut().for_each(Slot::settle);
            }
            Operation::Allocate { file, blocks } => {
                let lengths = &mut self.file(file).lengths;
                lengths.now = lengths.now.max(blocks);
            }
            Operation::Truncate { file, blocks } => {
                let model = self.file(file);
                model.lengths.now = blocks;
                for (_, slot) in model.sectors.range_mut(blocks * SECTORS_PER_BLOCK..) {
                    slot.now = 0;
                }
            }
            Operation::Rename { from, to } => {
                let file = self.name(from).now.take();
                self.name(to).now = file;
            }
            Operation::Remove { name } => self.name(name).now = None,
            Operation::SyncDirectory => {
                self.names.values_mut().for_each(Slot::settle);
                self.kept = self.names.values().filter_map(|slot| slot.now).collect();
            }
        }
    }

    /// Looks whether `found`, the content of each file by its name, is something that may be.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn check(&self, seed: u64, found: &BTreeMap<Name, Vec<u8>>) -> Result<Looked, String> {
        let mut looked = Looked::default();
        let mut there = BTreeSet::new();
        for (name, content) in found {
            let slot = self.names.get(name).ok_or(format!("name {name} was never given"))?;
            let mut problems = Vec::new();
            for file in slot.possible.iter().flatten() {
                match self.files[file].check(seed, *file, content) {
                    Ok(in_file) => {
                        there.insert(*file);
                        looked.files += 1;
                        looked.settled += in_file.settled;
                        looked.open += in_file.open;
                    }
                    Err(problem) => problems.push(format!("not file {file}: {problem}")),
                }
            }
            if problems.len() == slot.possible.iter().flatten().count() {
                let blocks = content.len() / woodchuck_io::limits::BLOCK_BYTES;
                let all = problems.join("; ");
                return Err(format!("name {name}, {blocks} blocks, is nothing it may be: {all}"));
            }
        }
        for (name, slot) in &self.names {
            if !found.contains_key(name) && !slot.possible.contains(&None) {
                return Err(format!("name {name} is gone; it may be of {:?}", slot.possible));
            }
        }
        if let Some(lost) = self.kept.difference(&there).next() {
            return Err(format!("file {lost} had a durable name and has none now"));
        }
        Ok(looked)
    }

    fn file(&mut self, number: FileNumber) -> &mut FileModel {
        self.files.get_mut(&number).expect("a plan speaks of files that it created")
    }

    fn name(&mut self, name: Name) -> &mut Slot<Option<FileNumber>> {
        self.names.entry(name).or_insert_with(|| Slot::new(None))
    }

    fn let_go(&mut self, file: Option<FileNumber>) {
        if let Some(file) = file {
            self.kept.remove(&file);
        }
    }
}

impl FileModel {
    fn sector(&mut self, number: u64) -> &mut Slot<u32> {
        self.sectors.entry(number).or_insert_with(|| Slot::new(0))
    }

    fn check(&self, seed: u64, file: FileNumber, content: &[u8]) -> Result<Looked, String> {
        let block = woodchuck_io::limits::BLOCK_BYTES;
        let blocks = (content.len() / block) as u64;
        let lengths = &self.lengths.possible;
        if !content.len().is_multiple_of(block) || !lengths.contains(&blocks) {
            return Err(format!("{} bytes, not one of {lengths:?} blocks", content.len()));
        }
        let mut looked = Looked::default();
        let zero = Slot::new(0);
        for (number, bytes) in content.chunks(SECTOR_BYTES).enumerate() {
            let number = number as u64;
            let possible = &self.sectors.get(&number).unwrap_or(&zero).possible;
            let stamp = stamp_of(seed, file, number, bytes);
            if !stamp.is_some_and(|stamp| possible.contains(&stamp)) {
                let is =
                    stamp.map_or("what was never written".to_owned(), |s| format!("write {s}"));
                return Err(format!("sector {number} is {is}, not one of the writes {possible:?}"));
            }
            let count = if possible.len() == 1 { &mut looked.settled } else { &mut looked.open };
            *count += 1;
        }
        Ok(looked)
    }
}

/// The sectors of these blocks.
fn sectors(block: u64, blocks: u64) -> std::ops::Range<u64> {
    block * SECTORS_PER_BLOCK..(block + blocks) * SECTORS_PER_BLOCK
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::plan::sector;

    const SEED: u64 = 5;
    const FILE: FileNumber = 1;
    const CREATE: Operation = Operation::Create { file: FILE, name: 3 };

    /// The model behind these operations, all of them done.
    fn after(operations: &[Operation]) -> Model {
        let mut model = Model::default();
        for operation in operations {
            model.begin(operation);
            model.complete(operation);
        }
        model
    }

    fn write(block: u64, durable: bool, stamp: u32) -> Operation {
        Operation::Write { file: FILE, block, blocks: 1, durable, stamp }
    }

    /// A file of blocks with these stamps, under name 3.
    fn found(stamps: &[u32]) -> BTreeMap<Name, Vec<u8>> {
        let sectors = stamps.iter().flat_map(|stamp| [*stamp; SECTORS_PER_BLOCK as usize]);
        let numbered = sectors.enumerate();
        let content = numbered.flat_map(|(at, stamp)| sector(SEED, FILE, stamp, at as u64));
        BTreeMap::from([(3, content.collect())])
    }

    #[test]
    fn a_durable_write_is_there_and_a_volatile_one_may_be() {
        let model = after(&[CREATE, write(0, true, 1), write(1, false, 2), write(0, false, 3)]);
        for stamps in [&[1][..], &[3], &[1, 0], &[1, 2], &[3, 2]] {
            assert!(model.check(SEED, &found(stamps)).is_ok(), "{stamps:?}");
        }
        for stamps in [&[][..], &[0], &[2], &[1, 1], &[1, 2, 0]] {
            assert!(model.check(SEED, &found(stamps)).is_err(), "{stamps:?}");
        }
    }

    #[test]
    fn synced_data_and_length_are_there() {
        let truncated = Operation::Truncate { file: FILE, blocks: 1 };
        let sync = Operation::SyncData { file: FILE };
        let mut operations =
            vec![CREATE, write(0, false, 1), write(1, false, 2), sync.clone(), truncated];
        let model = after(&operations);
        assert!(model.check(SEED, &found(&[1, 2])).is_ok());
        assert!(model.check(SEED, &found(&[1])).is_ok());
        assert!(model.check(SEED, &found(&[1, 0])).is_ok_and(|looked| looked.open > 0));
        assert!(model.check(SEED, &found(&[0])).is_err());
        operations.push(sync);
        let model = after(&operations);
        assert!(model.check(SEED, &found(&[1, 2])).is_err());
        assert!(model.check(SEED, &found(&[1])).is_ok());
    }

    #[test]
    fn a_name_is_durable_once_its_directory_was_synced() {
        let mut operations = vec![CREATE, write(0, true, 1)];
        assert!(after(&operations).check(SEED, &BTreeMap::new()).is_ok());
        operations.push(Operation::SyncDirectory);
        assert!(after(&operations).check(SEED, &BTreeMap::new()).is_err());
        operations.push(Operation::Remove { name: 3 });
        assert!(after(&operations).check(SEED, &BTreeMap::new()).is_ok());
        assert!(after(&operations).check(SEED, &found(&[1])).is_ok());
        operations.push(Operation::SyncDirectory);
        assert!(after(&operations).check(SEED, &found(&[1])).is_err());
    }

    #[test]
    fn a_renamed_file_has_one_of_its_names() {
        let renamed = Operation::Rename { from: 3, to: 4 };
        let model = after(&[CREATE, write(0, true, 1), Operation::SyncDirectory, renamed]);
        let old = found(&[1]);
        let new = BTreeMap::from([(4, old[&3].clone())]);
        assert!(model.check(SEED, &old).is_ok());
        assert!(model.check(SEED, &new).is_ok());
        assert!(model.check(SEED, &BTreeMap::new()).is_err());
    }

    #[test]
    fn what_another_file_held_is_not_taken_for_this_ones() {
        let model = after(&[CREATE, write(0, false, 1)]);
        let mut strange = found(&[1]);
        let bytes = strange.get_mut(&3).expect("it was put there");
        bytes[..SECTOR_BYTES].copy_from_slice(&sector(SEED, FILE + 1, 1, 0));
        assert!(model.check(SEED, &strange).is_err());
    }
}
