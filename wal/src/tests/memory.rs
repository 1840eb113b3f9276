//! A disk in memory that does what it is told at once, for images of logs made by hand.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, ready};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use woodchuck_io::limits::BLOCK_BYTES;
use woodchuck_io::{Buffer, DirectoryEntry, Disk, Durability, File, OpenMode};

#[derive(Clone, Default)]
pub(super) struct MemoryDisk {
    files: Rc<RefCell<BTreeMap<PathBuf, MemoryFile>>>,
}

#[derive(Clone, Default)]
pub(super) struct MemoryFile {
    content: Rc<RefCell<Content>>,
}

#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
    /// Numbers of blocks that cannot be read.
    unreadable: BTreeSet<u64>,
    /// Blocks that cannot be read once so many reads were made of the file.
    breaking: Option<(u32, Range<u64>)>,
    /// All blocks can be read once so many reads more were made of the file.
    mending: Option<u32>,
    /// Reads give at most so many bytes, if set.
    short_reads: Option<usize>,
    /// Where it was read, in order.
    reads: Vec<u64>,
}

impl MemoryDisk {
    pub(super) fn put(&self, path: &Path, bytes: Vec<u8>) -> MemoryFile {
        let file = MemoryFile::default();
        file.content.borrow_mut().bytes = bytes;
        self.files.borrow_mut().insert(path.to_owned(), file.clone());
        file
    }

    pub(super) fn file(&self, path: &Path) -> MemoryFile {
        self.files.borrow().get(path).cloned().expect("the test put the file there")
    }
}

impl MemoryFile {
    pub(super) fn make_unreadable(&self, block: u64) {
        self.content.borrow_mut().unreadable.insert(block);
    }

    /// Makes blocks unreadable after so many reads of the file.
    pub(super) fn break_after(&self, reads: u32, blocks: Range<u64>) {
        self.content.borrow_mut().breaking = Some((reads, blocks));
    }

    /// Makes all blocks readable after so many reads of the file.
    pub(super) fn mend_after(&self, reads: u32) {
        self.content.borrow_mut().mending = Some(reads);
    }

    /// Where the file was read so far.
    pub(super) fn reads(&self) -> Vec<u64> {
        self.content.borrow().reads.clone()
    }

    pub(super) fn shorten_reads(&self, bytes: usize) {
        self.content.borrow_mut().short_reads = Some(bytes);
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;
    type Lock = ();

    fn open(
        &self,
        path: &Path,
        mode: OpenMode,
    ) -> impl Future<Output = io::Result<Self::File>> + 'static {
        let mut files = self.files.borrow_mut();
        ready(match (files.get(path), mode) {
            (Some(_), OpenMode::CreateNew) => Err(io::ErrorKind::AlreadyExists.into()),
            (Some(file), _) => Ok(file.clone()),
            (None, OpenMode::CreateNew) => Ok(files.entry(path.to_owned()).or_default().clone()),
            (None, _) => Err(io::ErrorKind::NotFound.into()),
        })
    }

    fn create_directory(&self, _: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        ready(Ok(()))
    }

    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        let mut files = self.files.borrow_mut();
        let moved = files.remove(from);
        ready(moved.map_or(Err(io::ErrorKind::NotFound.into()), |file| {
            files.insert(to.to_owned(), file);
            Ok(())
        }))
    }

    fn link(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        let mut files = self.files.borrow_mut();
        let linked = files.get(from).cloned();
        ready(match linked {
            None => Err(io::ErrorKind::NotFound.into()),
            Some(_) if files.contains_key(to) => Err(io::ErrorKind::AlreadyExists.into()),
            Some(file) => {
                files.insert(to.to_owned(), file);
                Ok(())
            }
        })
    }

    fn remove_directory(&self, _: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        ready(Ok(()))
    }

    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        let removed = self.files.borrow_mut().remove(path);
        ready(removed.map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into()))
    }

    fn list(&self, path: &Path) -> impl Future<Output = io::Result<Vec<DirectoryEntry>>> + 'static {
        let files = self.files.borrow();
        let names = files
            .keys()
            .filter_map(|file| file.strip_prefix(path).ok())
            .map(|name| DirectoryEntry { name: name.display().to_string(), is_directory: false });
        ready(Ok(names.collect()))
    }

    fn sync_directory(&self, _: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        ready(Ok(()))
    }

    fn lock(&self, _: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        ready(Ok(()))
    }
}

impl File for MemoryFile {
    fn read_at(
        &self,
        mut buffer: Buffer,
        offset: u64,
    ) -> impl Future<Output = (io::Result<usize>, Buffer)> + 'static {
        let mut content = self.content.borrow_mut();
        content.reads.push(offset);
        if let Some((reads, blocks)) = content.breaking.take() {
            if reads == 0 {
                content.unreadable.extend(blocks);
            } else {
                content.breaking = Some((reads - 1, blocks));
            }
        }
        if let Some(reads) = content.mending {
            content.mending = reads.checked_sub(1);
            if reads == 0 {
                content.unreadable.clear();
            }
        }
        let start = content.bytes.len().min(offset as usize);
        let wanted =
            content.short_reads.map_or(buffer.capacity(), |most| most.min(buffer.capacity()));
        let end = content.bytes.len().min(start + wanted);
        buffer.resize(0);
        let (first, last) =
            (offset / BLOCK_BYTES as u64, (end as u64).div_ceil(BLOCK_BYTES as u64));
        if content.unreadable.range(first..last.max(first)).next().is_some() {
            return ready((Err(io::Error::from_raw_os_error(5)), buffer));
        }
        buffer.extend_from_slice(&content.bytes[start..end]);
        ready((Ok(end - start), buffer))
    }

    fn write_at(
        &self,
        buffer: Buffer,
        offset: u64,
        _: Durability,
    ) -> impl Future<Output = (io::Result<()>, Buffer)> + 'static {
        let bytes = &mut self.content.borrow_mut().bytes;
        let end = offset as usize + buffer.len();
        bytes.resize(end.max(bytes.len()), 0);
        bytes[offset as usize..end].copy_from_slice(&buffer);
        ready((Ok(()), buffer))
    }

    fn sync_data(&self) -> impl Future<Output = io::Result<()>> + 'static {
        ready(Ok(()))
    }

    fn allocate(&self, length: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let bytes = &mut self.content.borrow_mut().bytes;
        bytes.resize(bytes.len().max(length as usize), 0);
        ready(Ok(()))
    }

    fn truncate(&self, length: u64) -> impl Future<Output = io::Result<()>> + 'static {
        self.content.borrow_mut().bytes.resize(length as usize, 0);
        ready(Ok(()))
    }

    fn length(&self) -> impl Future<Output = io::Result<u64>> + 'static {
        ready(Ok(self.content.borrow().bytes.len() as u64))
    }
}
