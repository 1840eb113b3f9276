//! Carries out a plan on a production backend, and tells on standard output what it began
//! (`began GROUP`) and what was done (`done GROUP OPERATION`), each before it goes on.
//!
//! It ends with its plan, or with the group in which something failed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use futures_util::future::join_all;
use woodchuck_io::limits::BLOCK_BYTES;
use woodchuck_io::{Buffer, Disk, Durability, Env, File, OpenMode, Program};

use crate::limits::SECTOR_BYTES;
use crate::seam::plan::{FileNumber, Name, Operation, plan, sector};

/// The worker's program.
#[derive(Clone, Debug)]
pub struct SeamWorker {
    /// The round's directory, which it creates.
    pub directory: PathBuf,
    /// The plan's seed.
    pub seed: u64,
}

/// The path of a name.
#[must_use]
pub fn path_of(directory: &Path, name: Name) -> PathBuf {
    directory.join(format!("name-{name}"))
}

/// Open files, and which of them has which name.
struct Files<F> {
    open: BTreeMap<FileNumber, F>,
    names: BTreeMap<Name, FileNumber>,
}

struct Worker<E: Env> {
    env: E,
    directory: PathBuf,
    seed: u64,
    files: RefCell<Files<<E::Disk as Disk>::File>>,
}

impl Program for SeamWorker {
    type Output = Result<(), String>;

    async fn run<E: Env>(self, env: E) -> Result<(), String> {
        let Self { directory, seed } = self;
        prepare(env.disk(), &directory).await.map_err(|error| format!("preparing: {error}"))?;
        let files = RefCell::new(Files { open: BTreeMap::new(), names: BTreeMap::new() });
        let worker = Rc::new(Worker { env, directory, seed, files });
        for (number, group) in plan(seed).into_iter().enumerate() {
            println!("began {number}");
            let under_way = group.into_iter().enumerate().map(|(index, operation)| {
                let worker = Rc::clone(&worker);
                async move {
                    let done = worker.carry_out(&operation).await;
                    if done.is_ok() {
                        println!("done {number} {index}");
                    }
                    done.map_err(|error| format!("{operation:?}: {error}"))
                }
            });
            join_all(under_way).await.into_iter().collect::<Result<(), _>>()?;
        }
        Ok(())
    }
}

/// Makes the round's directory, durably.
async fn prepare<D: Disk>(disk: &D, directory: &Path) -> io::Result<()> {
    disk.create_directory(directory).await?;
    if let Some(parent) = directory.parent() {
        disk.sync_directory(parent).await?;
    }
    disk.sync_directory(directory).await
}

impl<E: Env> Worker<E> {
    fn file(&self, number: FileNumber) -> <E::Disk as Disk>::File {
        self.files.borrow().open[&number].clone()
    }

    async fn carry_out(&self, operation: &Operation) -> io::Result<()> {
        let disk = self.env.disk();
        let path = |name| path_of(&self.directory, name);
        let bytes = |blocks: u64| blocks * BLOCK_BYTES as u64;
        match *operation {
            Operation::Create { file, name } => {
                let opened = disk.open(&path(name), OpenMode::CreateNew).await?;
                let mut files = self.files.borrow_mut();
                files.open.insert(file, opened);
                files.names.insert(name, file);
                Ok(())
            }
            Operation::Write { file, block, blocks, durable, stamp } => {
                let mut buffer = Buffer::with_capacity(blocks as usize * BLOCK_BYTES);
                let per_block = (BLOCK_BYTES / SECTOR_BYTES) as u64;
                for number in block * per_block..(block + blocks) * per_block {
                    buffer.extend_from_slice(&sector(self.seed, file, stamp, number));
                }
                let durability = if durable { Durability::Durable } else { Durability::Volatile };
                self.file(file).write_at(buffer, bytes(block), durability).await.0
            }
            Operation::SyncData { file } => self.file(file).sync_data().await,
            Operation::Allocate { file, blocks } => self.file(file).allocate(bytes(blocks)).await,
            Operation::Truncate { file, blocks } => self.file(file).truncate(bytes(blocks)).await,
            Operation::Rename { from, to } => {
                disk.rename(&path(from), &path(to)).await?;
                let mut files = self.files.borrow_mut();
                let file = files.names.remove(&from);
                let replaced = file.and_then(|file| files.names.insert(to, file));
                if let Some(replaced) = replaced {
                    files.open.remove(&replaced);
                }
                Ok(())
            }
            Operation::Remove { name } => {
                disk.remove(&path(name)).await?;
                let mut files = self.files.borrow_mut();
                if let Some(file) = files.names.remove(&name) {
                    files.open.remove(&file);
                }
                Ok(())
            }
            Operation::SyncDirectory => disk.sync_directory(&self.directory).await,
        }
    }
}
