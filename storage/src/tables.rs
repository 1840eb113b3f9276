//! The open tables of a store.
//!
//! A table is opened when something of it is read for the first time, and stays open while it is
//! among those that were read last: an open table holds a file descriptor and its top-level index.
//! Readers hold the tables that they use; those stay open, and can be read, when they have been
//! forgotten here and their file's name has gone.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use quick_cache::unsync::Cache;
use woodchuck_io::Disk;

use crate::counters::Counters;
use crate::error::StorageError;
use crate::{BlockCache, ReadOptions, Table, TableId};

/// Opens the tables of a store. Clones share what is open.
pub struct Tables<D: Disk> {
    inner: Rc<Inner<D>>,
}

struct Inner<D: Disk> {
    disk: D,
    directory: PathBuf,
    store: u128,
    cache: BlockCache,
    options: ReadOptions,
    open: RefCell<Cache<u64, Table<D::File>>>,
    counters: Rc<Counters>,
}

impl<D: Disk> Clone for Tables<D> {
    fn clone(&self) -> Self {
        Self { inner: Rc::clone(&self.inner) }
    }
}

impl<D: Disk> Tables<D> {
    /// The tables in `directory`, of the store with this identity. `open_tables` stay open at most,
    /// besides those that are being used; one at least.
    #[must_use]
    pub fn new(
        disk: &D,
        directory: PathBuf,
        store: u128,
        cache: &BlockCache,
        options: ReadOptions,
        open_tables: usize,
    ) -> Self {
        let open = RefCell::new(Cache::new(open_tables.max(1)));
        let (disk, cache) = (disk.clone(), cache.clone());
        let counters = Rc::default();
        Self { inner: Rc::new(Inner { disk, directory, store, cache, options, open, counters }) }
    }

    /// A table, opened if it is not.
    ///
    /// # Errors
    /// Those of [`Table::open`].
    pub async fn table(&self, keyspace: u64, number: u64) -> Result<Table<D::File>, StorageError> {
        let inner = &*self.inner;
        if let Some(table) = inner.open.borrow().get(&number) {
            return Ok(table.clone());
        }
        let id = TableId { store: inner.store, keyspace, number };
        let path = inner.directory.join(id.file_name());
        let (cache, counters) = (&inner.cache, Rc::clone(&inner.counters));
        let table = Table::open_file(&inner.disk, &path, id, cache, inner.options, counters);
        let table = table.await?;
        // If two open one at a time, the later stays: they are the same.
        inner.open.borrow_mut().insert(number, table.clone());
        Ok(table)
    }

    /// What is counted of its tables and of the store.
    pub(crate) fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// The cache that their blocks share.
    pub(crate) fn cache(&self) -> &BlockCache {
        &self.inner.cache
    }

    /// Forgets a table whose file is to be removed, and its blocks.
    pub fn forget(&self, number: u64) {
        self.inner.open.borrow_mut().remove(&number);
        self.inner.cache.forget_table(number);
    }
}
