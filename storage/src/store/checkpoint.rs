//! Checkpoints: copies of a store, made while it is used.
//!
//! The fault model: a crash may come at any moment, any operation on the disk may fail, and the call
//! may be dropped half done; commits, flushes and compactions go on meanwhile. Either nothing has
//! the name of the checkpoint, or all of it does.
//!
//! # The algorithm
//!
//! 1. What an interrupted checkpoint of the same name has left is removed.
//! 2. The active memtables of all keyspaces are frozen in one step, between two commits: that is the
//!    moment of the checkpoint. What is frozen is flushed, and nothing that was applied later, for
//!    whoever flushes waits until that is done.
//! 3. The version of the manifest then has exactly the commits up to that moment. It is held, so
//!    none of its tables is removed. If a keyspace was dropped meanwhile, it is begun again; one
//!    that was created meanwhile is left out.
//! 4. Under a temporary name, a folder is made with a second name for each table, and a manifest of
//!    its own that begins with this version. All of that is made durable.
//! 5. The folder gets its name, which is made durable.
//!
//! Tables never change, so both stores may have the same files: each removes its own names, and what
//! has no name any more is gone.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use woodchuck_io::{Disk, Env};

use super::{Memtables, Store};
use crate::error::StorageError;
use crate::manifest::copy::write_copy;
use crate::offline::PARTIAL;
use crate::offline::destroy::{Leftover, remove_leftover};
use crate::{Memtable, Version};

/// A checkpoint that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// It has what was applied up to this commit, and nothing later.
    pub sequence: u64,
    /// Tables that it has.
    pub tables: usize,
    /// Their bytes, which take no room of their own as long as the store has the tables, too.
    pub bytes: u64,
}

impl<E: Env> Store<E> {
    /// Makes a copy of the store in `directory`, which must not be there, on the same filesystem:
    /// tables are shared by hard links. It has what was applied when this was called, and is the
    /// store as it was at one moment between the call and its return. When this returns, it survives
    /// every crash. It is opened as any store; a log of its own begins
    /// [behind](super::Sequences::behind) its [`sequence`](Checkpoint::sequence).
    ///
    /// # Errors
    /// `Options` if there is something in `directory`, or nothing that it would be in, or it is in the
    /// store's own; those of flushing; `Io`, also if the filesystem refuses links. Then nothing has that name, unless its
    /// being durable is what failed: a directory that is there is whole.
    pub async fn checkpoint(&self, directory: &Path) -> Result<Checkpoint, StorageError> {
        let _checkpointing = self.inner.checkpointing.lock().await;
        let disk = self.inner.env.disk();
        let (parent, partial) = self.places(directory)?;
        if !is_there(disk, &parent).await? {
            let reason = format!("there is no {} to make a checkpoint in", parent.display());
            return Err(StorageError::Options { reason });
        }
        if is_there(disk, directory).await? {
            let reason = format!("a checkpoint is made where nothing is: {}", directory.display());
            return Err(StorageError::Options { reason });
        }
        remove_leftover(disk, &partial, Leftover::Checkpoint).await?;
        let (version, kept, sequence) = self.moment().await?;
        let made = self.fill(&partial, &version, |id| kept.contains(&id)).await;
        let (tables, bytes) = match made {
            Ok(made) => made,
            Err(error) => {
                // What stays is removed by the next checkpoint of this name.
                let _removed = remove_leftover(disk, &partial, Leftover::Checkpoint).await;
                return Err(error);
            }
        };
        let named = format!("name the checkpoint {}", directory.display());
        let renamed = disk.rename(&partial, directory).await;
        renamed.map_err(|error| StorageError::io(named.clone(), error))?;
        let synced = disk.sync_directory(&parent).await;
        synced.map_err(|error| StorageError::io(named, error))?;
        Ok(Checkpoint { sequence, tables, bytes })
    }

    /// The folder in which a checkpoint gets its name, and what it is called before.
    fn places(&self, directory: &Path) -> Result<(PathBuf, PathBuf), StorageError> {
        let refused = |why: &str| {
            let reason = format!("a checkpoint cannot be made in {}: {why}", directory.display());
            StorageError::Options { reason }
        };
        let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else {
            return Err(refused("it has no name"));
        };
        if directory.starts_with(&self.inner.directory) {
            return Err(refused("it would be in the store itself"));
        }
        let mut partial = name.to_owned();
        partial.push(PARTIAL);
        Ok((parent.to_owned(), parent.join(partial)))
    }

    /// A version that has all that was applied at one moment from now on, and nothing later; its
    /// keyspaces at that moment; and the last commit that was applied then.
    async fn moment(&self) -> Result<(Rc<Version>, Vec<u64>, u64), StorageError> {
        let _flushing = self.inner.flushing.lock().await;
        // Begun again only if somebody drops a keyspace meanwhile, of which there are so many.
        loop {
            self.settle().await?;
            // From here on nothing waits until all is frozen, so no commit comes between.
            let before = self.version();
            let keyspaces: Vec<u64> = before.keyspaces().map(|keyspace| keyspace.id()).collect();
            let sequence = {
                let state = &mut *self.inner.state.borrow_mut();
                state.keyspaces.values_mut().for_each(Memtables::freeze);
                state.measure_memory();
                state.applied
            };
            for &id in &keyspaces {
                self.flush_up_to(id, sequence).await?;
            }
            let version = self.version();
            if keyspaces.iter().all(|&id| version.keyspace(id).is_some()) {
                return Ok((version, keyspaces, sequence));
            }
        }
    }

    /// Flushes what a keyspace has frozen of commits up to this one, and nothing that was frozen
    /// since.
    async fn flush_up_to(&self, id: u64, sequence: u64) -> Result<(), StorageError> {
        let is_older = |memtable: &&Memtable| {
            memtable.sequences().is_some_and(|(_, newest)| newest <= sequence)
        };
        loop {
            let oldest = {
                let state = self.inner.state.borrow();
                let memtables = state.keyspaces.get(&id);
                memtables.and_then(|one| one.frozen.front().filter(is_older).cloned())
            };
            let Some(oldest) = oldest else { return Ok(()) };
            self.flush_memtable(id, &oldest).await?;
        }
    }

    /// Makes the folder of a checkpoint, durable but for its own name. Gives how many tables it
    /// has, and their bytes.
    async fn fill(
        &self,
        partial: &Path,
        version: &Version,
        kept: impl Fn(u64) -> bool,
    ) -> Result<(usize, u64), StorageError> {
        let disk = self.inner.env.disk();
        let failed = |error| StorageError::io(format!("make {}", partial.display()), error);
        disk.create_directory(partial).await.map_err(failed)?;
        let (mut tables, mut bytes) = (0, 0);
        for keyspace in version.keyspaces().filter(|keyspace| kept(keyspace.id())) {
            for table in keyspace.tables() {
                let name = version.table_id(table).file_name();
                let from = self.inner.directory.join(&name);
                let linked = disk.link(&from, &partial.join(&name)).await;
                linked.map_err(|error| refused_link(&from, partial, error))?;
                tables += 1;
                bytes += table.file_bytes;
            }
        }
        let options = self.inner.options.manifest;
        write_copy(&self.inner.env, partial, options, version, kept).await?;
        disk.sync_directory(partial).await.map_err(failed)?;
        Ok((tables, bytes))
    }
}

async fn is_there<D: Disk>(disk: &D, directory: &Path) -> Result<bool, StorageError> {
    match disk.list(directory).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == ErrorKind::NotADirectory => Ok(true),
        Err(error) => Err(StorageError::io(format!("list {}", directory.display()), error)),
    }
}

fn refused_link(from: &Path, to: &Path, error: std::io::Error) -> StorageError {
    let advice = match error.kind() {
        ErrorKind::CrossesDevices => {
            ": it is on another filesystem. A checkpoint shares its tables with the store by hard \
             links: make it on the filesystem of the store, and copy it from there"
        }
        ErrorKind::Unsupported | ErrorKind::PermissionDenied => {
            ": a checkpoint shares its tables with the store by hard links, which this filesystem \
             refuses: close the store, and copy its directory"
        }
        _ => "",
    };
    let doing = format!("link {} into {}{advice}", from.display(), to.display());
    StorageError::io(doing, error)
}
