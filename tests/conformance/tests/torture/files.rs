//! A file and what may stand in each of its blocks.
//!
//! Every write has a number of its own, which fills its blocks. A number may be read from a block
//! from the moment its write was started. It may no longer be read once a later write, started
//! after it had ended, has completed. A write that was dropped may land at any time until the
//! shard is over, so its number stays.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};

use woodchuck_conformance::patterned;
use woodchuck_io::{Buffer, Disk, Durability, Env, File, OpenMode, RandomStream};

pub(crate) const BLOCK: usize = 4096;
pub(crate) const BLOCKS: u64 = 48;

/// What freed memory is filled with. No write has this number.
pub(crate) const POISON: u64 = u64::MAX;

/// What stands in the blocks of one file.
pub(crate) struct Model {
    path: PathBuf,
    blocks: Vec<Vec<Written>>,
    /// Counts starts and ends of operations.
    clock: u64,
}

/// A write to one block.
struct Written {
    number: u64,
    /// When its write completed. None while it is in flight, and for ever if it was dropped.
    settled: Option<u64>,
    /// Since when it has been overwritten for sure.
    gone: Option<u64>,
}

impl Model {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn start_write(&mut self, first: u64, count: u64, number: u64) -> u64 {
        for block in &mut self.blocks[first as usize..(first + count) as usize] {
            block.push(Written { number, settled: None, gone: None });
        }
        self.tick()
    }

    fn end_write(&mut self, first: u64, count: u64, number: u64, started: u64) {
        let now = self.tick();
        for block in &mut self.blocks[first as usize..(first + count) as usize] {
            for written in block.iter_mut() {
                if written.number == number {
                    written.settled = Some(now);
                } else if written.settled.is_some_and(|settled| settled < started) {
                    written.gone.get_or_insert(now);
                }
            }
        }
    }

    /// Checks what a read that was started at `started` found in a block.
    fn check(&self, index: u64, content: &[u8], started: u64) {
        let block = &self.blocks[index as usize];
        for word in content.chunks_exact(8) {
            let number = u64::from_le_bytes(word.try_into().expect("eight bytes"));
            let known = block.iter().find(|written| written.number == number);
            let fits = known.is_some_and(|known| known.gone.is_none_or(|gone| gone > started));
            assert!(fits, "{number:#x} in block {index} of {}", self.path.display());
        }
    }

    /// Checks the file as it is when nothing is in flight any more.
    pub(crate) fn check_at_rest(&self) {
        let content = std::fs::read(&self.path).expect("it is there");
        let blocks = content.chunks_exact(BLOCK);
        assert!(blocks.remainder().is_empty(), "a file is made of blocks");
        for (index, block) in blocks.enumerate() {
            self.check(index as u64, block, self.clock);
            let uniform = block.chunks_exact(8).all(|word| word == &block[..8]);
            assert!(uniform, "block {index} of {} is from two writes", self.path.display());
        }
    }
}

fn lock(model: &Mutex<Model>) -> MutexGuard<'_, Model> {
    model.lock().expect("no other check has failed")
}

/// An open file that is written and read at random. Clones are the same file.
pub(crate) struct Target<F> {
    file: F,
    model: Arc<Mutex<Model>>,
    next: Rc<Cell<u64>>,
}

impl<F: File> Clone for Target<F> {
    fn clone(&self) -> Self {
        Self {
            file: self.file.clone(),
            model: Arc::clone(&self.model),
            next: Rc::clone(&self.next),
        }
    }
}

impl<F: File> Target<F> {
    /// A new file, all of it reserved. `next` numbers the writes of this shard.
    pub(crate) async fn create<E>(env: &E, path: &Path, next: &Rc<Cell<u64>>) -> Self
    where
        E: Env<Disk: Disk<File = F>>,
    {
        let file = env.disk().open(path, OpenMode::CreateNew).await.expect("created");
        file.allocate(BLOCKS * BLOCK as u64).await.expect("reserved");
        let blocks = (0..BLOCKS).map(|_| vec![Written { number: 0, settled: Some(0), gone: None }]);
        let model = Model { path: path.to_path_buf(), blocks: blocks.collect(), clock: 0 };
        Self { file, model: Arc::new(Mutex::new(model)), next: Rc::clone(next) }
    }

    /// What may stand in it, for as long as operations go on.
    pub(crate) fn shared_model(&self) -> Arc<Mutex<Model>> {
        Arc::clone(&self.model)
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        lock(&self.model)
    }

    /// One operation at random, which checks what it finds.
    pub(crate) async fn operate(self, mut random: RandomStream) {
        match random.below(16) {
            0 => self.file.sync_data().await.expect("flushed"),
            1 => self.file.allocate(BLOCKS * BLOCK as u64).await.expect("reserved"),
            2 => {
                let length = self.file.length().await.expect("known");
                assert_eq!(length, BLOCKS * BLOCK as u64);
            }
            3..8 => self.read(&mut random).await,
            _ => self.write(&mut random).await,
        }
    }

    fn range(random: &mut RandomStream) -> (u64, u64) {
        let first = random.below(BLOCKS);
        (first, 1 + random.below((BLOCKS - first).min(12)))
    }

    async fn read(self, random: &mut RandomStream) {
        let (first, count) = Self::range(random);
        let started = self.model().tick();
        let buffer = Buffer::with_capacity(count as usize * BLOCK);
        let read = self.file.read_at(buffer, first * BLOCK as u64);
        // The operation keeps the file open by itself.
        let model = Arc::clone(&self.model);
        drop(self);
        let (result, buffer) = read.await;
        let length = result.expect("read");
        assert_eq!(length, buffer.len());
        assert!(length.is_multiple_of(BLOCK), "{length} bytes of a file of whole blocks");
        for (index, block) in buffer.chunks_exact(BLOCK).enumerate() {
            lock(&model).check(first + index as u64, block, started);
        }
    }

    async fn write(self, random: &mut RandomStream) {
        let (first, count) = Self::range(random);
        let durability = match random.below(4) {
            0 => Durability::Durable,
            _ => Durability::Volatile,
        };
        let number = self.next.get();
        self.next.set(number + 1);
        let buffer = patterned(count as usize * BLOCK, number);
        let started = self.model().start_write(first, count, number);
        let (result, buffer) = self.file.write_at(buffer, first * BLOCK as u64, durability).await;
        result.expect("written");
        let whole = buffer.chunks_exact(8).all(|word| word == number.to_le_bytes());
        assert!(whole, "a buffer comes back unchanged");
        self.model().end_write(first, count, number, started);
    }
}
