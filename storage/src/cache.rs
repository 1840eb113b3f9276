//! The block cache of a shard: blocks that were read and found whole, up to a number of bytes.
//!
//! Data blocks, filters and partitions of the index share it. What is in use stays alive when it is
//! evicted: blocks are shared, not borrowed.
//!
//! Which blocks stay is decided by S3-FIFO (`quick_cache`), and by nothing that the seed of a
//! simulated world does not decide: the hasher below has no seed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

use event_listener::Event;
use quick_cache::Weighter;
use quick_cache::unsync::{Cache, DefaultLifecycle};

use crate::block::Block;
use crate::error::StorageError;
use crate::filter::Filter;
use crate::limits::{CACHE_ENTRY_BYTES, PAGE_BYTES};
use crate::table::index::Index;

/// Number of a table, and offset of a block in it. No two tables of a store have one number.
pub(crate) type BlockKey = (u64, u64);

/// A block that was found whole.
#[derive(Clone, Debug)]
pub(crate) enum Cached {
    Data(Block),
    Index(Rc<Index>),
    Filter(Filter),
}

#[derive(Clone)]
struct Held {
    block: Cached,
    /// Memory that it keeps alive.
    bytes: usize,
}

#[derive(Clone)]
struct ByMemory;

impl Weighter<BlockKey, Held> for ByMemory {
    fn weight(&self, _: &BlockKey, held: &Held) -> u64 {
        (held.bytes + CACHE_ENTRY_BYTES) as u64
    }
}

/// Mixes numbers of tables and offsets: multiplies by an odd constant and folds.
#[derive(Default)]
struct BlockHasher(u64);

impl Hasher for BlockHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u64(&mut self, number: u64) {
        let product = u128::from(self.0 ^ number ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type Blocks = Cache<BlockKey, Held, ByMemory, BuildHasherDefault<BlockHasher>>;

/// The block cache of a shard. Clones are the same cache.
#[derive(Clone)]
pub struct BlockCache {
    inner: Rc<Inner>,
}

struct Inner {
    blocks: RefCell<Blocks>,
    /// Blocks that are being read; who wants one of them too, waits for that.
    loading: RefCell<BTreeMap<BlockKey, Rc<Event>>>,
    hits: Cell<u64>,
    loads: Cell<u64>,
}

impl BlockCache {
    /// A cache that keeps about so many bytes of blocks. With 0, it keeps nothing.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let items = (bytes / PAGE_BYTES as u64).max(1) as usize;
        let (hasher, lifecycle) = (BuildHasherDefault::default(), DefaultLifecycle::default());
        let blocks = Cache::with(items, bytes, ByMemory, hasher, lifecycle);
        let (blocks, loading) = (RefCell::new(blocks), RefCell::default());
        let (hits, loads) = (Cell::new(0), Cell::new(0));
        Self { inner: Rc::new(Inner { blocks, loading, hits, loads }) }
    }

    /// Bytes that it holds, with what it charges for each block besides.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.inner.blocks.borrow().weight()
    }

    /// Bytes that it may hold.
    #[must_use]
    pub fn budget(&self) -> u64 {
        self.inner.blocks.borrow().capacity()
    }

    /// Blocks that it had when they were asked for.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.inner.hits.get()
    }

    /// Blocks that it did not have when they were asked for, and that were read then.
    #[must_use]
    pub fn loads(&self) -> u64 {
        self.inner.loads.get()
    }

    /// Forgets the blocks of a table.
    pub fn forget_table(&self, number: u64) {
        self.inner.blocks.borrow_mut().retain(|&(table, _), _| table != number);
    }

    pub(crate) fn get(&self, key: BlockKey) -> Option<Cached> {
        let found = self.inner.blocks.borrow().get(&key).map(|held| held.block.clone());
        self.inner.hits.set(self.inner.hits.get() + u64::from(found.is_some()));
        found
    }

    /// The block, read by `load` if it is not here: that gives it with the memory that it keeps
    /// alive. Of several that want one block at a time, one loads it. Errors are not kept.
    pub(crate) async fn get_or_load<F>(
        &self,
        key: BlockKey,
        load: impl FnOnce() -> F,
    ) -> Result<Cached, StorageError>
    where
        F: Future<Output = Result<(Cached, usize), StorageError>>,
    {
        loop {
            if let Some(found) = self.get(key) {
                return Ok(found);
            }
            let waiting = self.inner.loading.borrow().get(&key).map(|event| event.listen());
            let Some(waiting) = waiting else { break };
            waiting.await;
        }
        let flight = Flight::begin(self, key);
        self.inner.loads.set(self.inner.loads.get() + 1);
        let (block, bytes) = load().await?;
        self.inner.blocks.borrow_mut().insert(key, Held { block: block.clone(), bytes });
        drop(flight);
        Ok(block)
    }
}

/// Says that a block is being loaded, for as long as it lives: however that ends.
struct Flight<'a> {
    cache: &'a BlockCache,
    key: BlockKey,
}

impl<'a> Flight<'a> {
    fn begin(cache: &'a BlockCache, key: BlockKey) -> Self {
        let before = cache.inner.loading.borrow_mut().insert(key, Rc::default());
        assert!(before.is_none(), "one at a time loads a block");
        Self { cache, key }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if let Some(event) = self.cache.inner.loading.borrow_mut().remove(&self.key) {
            event.notify(usize::MAX);
        }
    }
}
