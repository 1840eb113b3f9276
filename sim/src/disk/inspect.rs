//! What a test may see of a disk, and do to it.
//!
//! Damage is done to both layers at once, and at once: it stands for what a disk does by itself
//! (bit rot, a misdirected write, a sector that cannot be read), so no crash undoes it.

use std::io;
use std::path::Path;
use std::rc::Rc;

use woodchuck_io::limits::BLOCK_BYTES;

use super::errors::AskedError;
use super::file::{FileData, bytes_of};
use super::namespace::{Inode, InodeNumber, ROOT};
use super::{DiskOperation, DiskState};
use crate::kernel::Kernel;
use crate::run::Shared;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// The disk of one machine, to look into and to damage.
///
/// Paths are as a process sees them. Methods that change a file panic if it is not there: a test
/// that damages nothing tests nothing.
pub struct DiskInspector {
    shared: Rc<Shared>,
    machine: u32,
}

impl DiskInspector {
    pub(crate) fn new(shared: Rc<Shared>, machine: u32) -> Self {
        Self { shared, machine }
    }

    pub(super) fn with<T>(&self, visit: impl FnOnce(&mut DiskState) -> T) -> T {
        self.with_kernel(|disk, _| visit(disk))
    }

    pub(super) fn with_kernel<T>(&self, visit: impl FnOnce(&mut DiskState, &mut Kernel) -> T) -> T {
        let machine = self.machine as usize;
        self.shared.with(|core| visit(&mut core.machines[machine].disk, &mut core.kernel))
    }

    /// Visits a file that must be there.
    fn with_file<T>(&self, path: &str, visit: impl FnOnce(&mut FileData) -> T) -> T {
        self.with(|disk| {
            let inode = disk.names.resolve(Path::new(path));
            let inode = inode.unwrap_or_else(|error| panic!("no file to inspect: {error}"));
            visit(disk.names.file_mut(inode))
        })
    }

    /// Paths of all files, as processes see them, ordered.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        self.with(|disk| paths(disk.names.paths(false)))
    }

    /// Paths of all files whose names would survive a power cut for certain, ordered.
    #[must_use]
    pub fn durable_files(&self) -> Vec<String> {
        self.with(|disk| paths(disk.names.paths(true)))
    }

    /// Whether there is such a file or directory.
    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        self.with(|disk| disk.names.resolve(Path::new(path)).is_ok())
    }

    /// A file's content as processes see it, or `None` if there is no such file.
    #[must_use]
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.with(|disk| {
            let inode = disk.names.resolve(Path::new(path)).ok()?;
            match disk.names.inodes.get(&inode) {
                Some(Inode::File(file)) => Some(content(file.length, |index| file.visible(index))),
                _ => None,
            }
        })
    }

    /// A file's content as a power cut now that loses all it may would leave it, or `None` if it
    /// would lose the file's name.
    #[must_use]
    pub fn read_durable(&self, path: &str) -> Option<Vec<u8>> {
        self.with(|disk| {
            let durable = disk.names.paths(true);
            let (_, inode) = durable.into_iter().find(|(known, _)| known == path)?;
            let file = disk.names.file(inode);
            Some(content(file.durable_length, |index| file.on_media(index)))
        })
    }

    /// A file's length as processes see it, or `None` if there is no such file.
    #[must_use]
    pub fn length(&self, path: &str) -> Option<u64> {
        self.with(|disk| {
            let inode = disk.names.resolve(Path::new(path)).ok()?;
            match disk.names.inodes.get(&inode) {
                Some(Inode::File(file)) => Some(file.length),
                _ => None,
            }
        })
    }

    /// Blocks of a file that are written and not flushed.
    #[must_use]
    pub fn dirty_blocks(&self, path: &str) -> usize {
        self.with_file(path, |file| file.dirty.len())
    }

    /// Creates or replaces a file, with the directories above it, all of it durable.
    pub fn write(&self, path: &str, bytes: &[u8]) {
        self.with(|disk| {
            let sequence = disk.next_sequence();
            let path = Path::new(path);
            if let Some(parent) = path.parent() {
                disk.names.create_directory(parent, sequence).expect("no file is in the way");
            }
            let inode = disk.names.resolve(path);
            let inode = inode.or_else(|_| disk.names.create_file(path, sequence));
            let inode = inode.expect("no directory is in the way");
            for directory in directories(disk) {
                disk.names.sync_directory(directory, sequence);
            }
            let file = disk.names.file_mut(inode);
            file.set_length(0);
            file.set_length(bytes.len() as u64);
            file.flush(u64::MAX, || true);
            file.charged = 0;
        });
        self.overwrite(path, 0, bytes);
    }

    /// Removes a file, durably.
    pub fn remove(&self, path: &str) {
        self.with(|disk| {
            let sequence = disk.next_sequence();
            disk.names.remove(Path::new(path), sequence).expect("there is a file to remove");
            for directory in directories(disk) {
                disk.names.sync_directory(directory, sequence);
            }
        });
    }

    /// Turns one bit of a file.
    pub fn flip_bit(&self, path: &str, offset: u64, bit: u8) {
        self.damage(path, offset, 1, |_, byte| *byte ^= 1 << (bit % 8));
    }

    /// Replaces bytes of a file.
    pub fn overwrite(&self, path: &str, offset: u64, bytes: &[u8]) {
        let replace = |index: usize, byte: &mut u8| *byte = bytes[index];
        self.damage(path, offset, bytes.len(), replace);
    }

    /// Replaces bytes of a file by zeros.
    pub fn zero(&self, path: &str, offset: u64, length: usize) {
        self.damage(path, offset, length, |_, byte| *byte = 0);
    }

    /// Makes the block at `offset` unreadable until it is written again.
    pub fn break_block(&self, path: &str, offset: u64) {
        self.with_file(path, |file| {
            let index = offset / BLOCK;
            // Nothing newer may hide it.
            file.settle(index);
            file.broken.insert(index)
        });
    }

    /// Changes `length` bytes at `offset`, in both layers.
    fn damage(&self, path: &str, offset: u64, length: usize, change: impl Fn(usize, &mut u8)) {
        self.with_file(path, |file| {
            let end = offset + length as u64;
            assert!(end <= file.length, "the file ends at {}, before {end}", file.length);
            let mut done = 0;
            while done < length {
                let at = offset + done as u64;
                let start = (at % BLOCK) as usize;
                let count = (BLOCK_BYTES - start).min(length - done);
                let new = !file.pages.contains_key(&(at / BLOCK));
                file.charged += u64::from(new && at / BLOCK >= file.reserved);
                let page = file.pages.entry(at / BLOCK).or_default();
                for layer in [Some(&mut page.data), page.media.as_mut()].into_iter().flatten() {
                    let mut bytes = bytes_of(layer).to_vec();
                    for (index, byte) in bytes[start..start + count].iter_mut().enumerate() {
                        change(done + index, byte);
                    }
                    *layer = Some(bytes.into_boxed_slice());
                }
                done += count;
            }
        });
    }

    /// Makes the next `count` operations of a kind fail. A failed read or metadata operation
    /// changes nothing. A failed write leaves any subset of its blocks, each visible only, on media
    /// only when flushed, or on media. A failed sync leaves each unflushed block written, still to
    /// be written, marked clean without having been written, or back at its old content.
    pub fn fail_next(&self, kind: DiskOperation, count: u32, error: io::ErrorKind) {
        if count > 0 {
            self.with(|disk| {
                disk.asked_errors.push(AskedError { kind, place: None, remaining: count, error });
            });
        }
    }

    /// Forgets failures that were asked for and have not come.
    pub fn fail_no_more(&self) {
        self.with(|disk| disk.asked_errors.clear());
    }

    /// Sets how many more bytes the disk takes.
    pub fn set_free_space(&self, bytes: u64) {
        self.with(|disk| {
            disk.recount();
            disk.capacity = disk.used + bytes;
        });
    }

    /// How many more bytes the disk takes.
    #[must_use]
    pub fn free_space(&self) -> u64 {
        self.with(|disk| {
            disk.recount();
            disk.capacity - disk.used.min(disk.capacity)
        })
    }

    /// Holds the lock on a file, as a process that is not simulated would.
    ///
    /// # Panics
    /// If it is held already.
    pub fn hold_lock(&self, path: &str) {
        self.with(|disk| {
            let sequence = disk.next_sequence();
            let inode = disk.lock(Path::new(path), sequence).expect("nobody holds the lock");
            disk.locks.insert(inode, false);
        });
    }

    /// Releases a lock that [`hold_lock`](Self::hold_lock) took.
    pub fn release_lock(&self, path: &str) {
        self.with(|disk| {
            let inode = disk.names.resolve(Path::new(path)).expect("the lock file is there");
            disk.unlock(inode);
        });
    }
}

fn paths(found: Vec<(String, InodeNumber)>) -> Vec<String> {
    found.into_iter().map(|(path, _)| path).collect()
}

/// All directories, the root first.
fn directories(disk: &DiskState) -> Vec<InodeNumber> {
    let inodes = disk.names.inodes.iter();
    let found = inodes.filter(|(_, inode)| matches!(inode, Inode::Directory(_)));
    let found: Vec<InodeNumber> = found.map(|(&number, _)| number).collect();
    debug_assert_eq!(found.first(), Some(&ROOT));
    found
}

/// Bytes of a file, block by block.
fn content<'file>(length: u64, block: impl Fn(u64) -> &'file [u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length as usize);
    for index in 0..length.div_ceil(BLOCK) {
        bytes.extend_from_slice(block(index));
    }
    bytes.truncate(length as usize);
    bytes
}
