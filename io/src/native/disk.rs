//! Directories and files, over whichever driver.

use std::fs;
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use super::calls::{self, during};
use super::core::Core;
use super::driver::Driver;
use super::operate::Operate;
use super::work::{OpenFile, Work};
use crate::limits::BLOCK_BYTES;
use crate::{Buffer, DirectoryEntry, Disk, Durability, File, Group, OpenMode};

/// The machine's directories and files.
///
/// Opening, renaming, linking, removing, listing, locking and creating directories are plain system calls
/// on the shard's own thread: see [`calls`]. Flushing a directory goes through the driver.
pub(crate) struct NativeDisk<D: Driver> {
    core: Rc<Core<D>>,
    /// What its files are for.
    group: Group,
}

impl<D: Driver> NativeDisk<D> {
    pub(crate) fn new(core: &Rc<Core<D>>, group: Group) -> Self {
        Self { core: Rc::clone(core), group }
    }
}

impl<D: Driver> Clone for NativeDisk<D> {
    fn clone(&self) -> Self {
        Self::new(&self.core, self.group)
    }
}

/// An exclusive lock; ends when it is dropped, or with the process.
pub(crate) struct NativeLock(OwnedFd);

impl Drop for NativeLock {
    fn drop(&mut self) {
        // Not left to the closing: a child that was forked and has not yet begun its own program
        // still has the file open.
        calls::unlock(self.0.as_raw_fd());
    }
}

impl<D: Driver> Disk for NativeDisk<D> {
    type File = NativeFile<D>;
    type Lock = NativeLock;

    fn open(
        &self,
        path: &Path,
        mode: OpenMode,
    ) -> impl Future<Output = io::Result<NativeFile<D>>> + 'static {
        let (core, path, group) = (Rc::clone(&self.core), path.to_path_buf(), self.group);
        async move {
            let (fd, direct) = calls::open_file(&path, mode)
                .map_err(during(format_args!("opening {}", path.display())))?;
            if !direct && !core.process.buffered_reported.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    path = %path.display(),
                    "this filesystem takes no direct I/O: files go through the page cache, which \
                     costs memory and copies"
                );
            }
            let file = core.open_file(fd, path, group);
            Ok(NativeFile { file: Rc::new(file), core })
        }
    }

    fn create_directory(&self, path: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        let path = path.to_path_buf();
        async move {
            fs::create_dir_all(&path)
                .map_err(during(format_args!("creating directory {}", path.display())))
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        let (from, to) = (from.to_path_buf(), to.to_path_buf());
        async move {
            fs::rename(&from, &to).map_err(during(format_args!(
                "renaming {} to {}",
                from.display(),
                to.display()
            )))
        }
    }

    fn link(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        let (from, to) = (from.to_path_buf(), to.to_path_buf());
        async move {
            fs::hard_link(&from, &to).map_err(during(format_args!(
                "linking {} to {}",
                from.display(),
                to.display()
            )))
        }
    }

    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        let path = path.to_path_buf();
        async move {
            fs::remove_file(&path).map_err(during(format_args!("removing {}", path.display())))
        }
    }

    fn remove_directory(&self, path: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        let path = path.to_path_buf();
        async move {
            fs::remove_dir(&path)
                .map_err(during(format_args!("removing directory {}", path.display())))
        }
    }

    fn list(&self, path: &Path) -> impl Future<Output = io::Result<Vec<DirectoryEntry>>> + 'static {
        let path = path.to_path_buf();
        async move {
            let names = calls::list(&path);
            names.map_err(during(format_args!("listing {}", path.display())))
        }
    }

    fn sync_directory(&self, path: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        let (core, path) = (Rc::clone(&self.core), path.to_path_buf());
        async move {
            let fd = calls::open_directory(&path)
                .map_err(during(format_args!("opening directory {}", path.display())))?;
            let file = Rc::new(OpenFile::used_once(fd, path));
            let work = Work::Sync { file: Rc::clone(&file), data_only: false };
            let (result, _) = Operate::new(&core, work).await;
            outcome(result)
                .map(drop)
                .map_err(during(format_args!("flushing directory {}", file.path.display())))
        }
    }

    fn lock(&self, path: &Path) -> impl Future<Output = io::Result<NativeLock>> + 'static {
        let path = path.to_path_buf();
        async move {
            calls::lock(&path)
                .map(NativeLock)
                .map_err(during(format_args!("locking {}", path.display())))
        }
    }
}

/// An open file.
pub(crate) struct NativeFile<D: Driver> {
    core: Rc<Core<D>>,
    file: Rc<OpenFile>,
}

impl<D: Driver> Clone for NativeFile<D> {
    fn clone(&self) -> Self {
        Self { core: Rc::clone(&self.core), file: Rc::clone(&self.file) }
    }
}

impl<D: Driver> File for NativeFile<D> {
    fn read_at(
        &self,
        mut buffer: Buffer,
        offset: u64,
    ) -> impl Future<Output = (io::Result<usize>, Buffer)> + 'static {
        let this = self.clone();
        async move {
            buffer.resize(0);
            let what = Transfer { file: &this.file, verb: "reading", offset };
            if let Err(error) = what.check(buffer.capacity()) {
                return (Err(error), buffer);
            }
            let work = Work::Read { file: Rc::clone(&this.file), buffer, offset };
            match Operate::new(&this.core, work).await {
                (result, Work::Read { buffer, .. }) => {
                    let read = outcome(result);
                    (read.map_err(|error| what.failed(buffer.capacity(), error)), buffer)
                }
                _ => unreachable!("an operation gives back its own work"),
            }
        }
    }

    fn write_at(
        &self,
        buffer: Buffer,
        offset: u64,
        durability: Durability,
    ) -> impl Future<Output = (io::Result<()>, Buffer)> + 'static {
        let this = self.clone();
        async move {
            let what = Transfer { file: &this.file, verb: "writing", offset };
            if let Err(error) = what.check(buffer.len()) {
                return (Err(error), buffer);
            }
            if buffer.is_empty() {
                return (Ok(()), buffer);
            }
            let file = Rc::clone(&this.file);
            let work = Work::Write { file, buffer, offset, durability, written: 0 };
            match Operate::new(&this.core, work).await {
                (result, Work::Write { buffer, .. }) => {
                    let written = outcome(result).map(drop);
                    (written.map_err(|error| what.failed(buffer.len(), error)), buffer)
                }
                _ => unreachable!("an operation gives back its own work"),
            }
        }
    }

    fn sync_data(&self) -> impl Future<Output = io::Result<()>> + 'static {
        let this = self.clone();
        async move {
            let work = Work::Sync { file: Rc::clone(&this.file), data_only: true };
            let (result, _) = Operate::new(&this.core, work).await;
            outcome(result)
                .map(drop)
                .map_err(during(format_args!("flushing {}", this.file.path.display())))
        }
    }

    fn allocate(&self, length: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let this = self.clone();
        async move {
            if length == 0 {
                return Ok(());
            }
            let work = Work::Allocate { file: Rc::clone(&this.file), length, reserved: false };
            let (result, _) = Operate::new(&this.core, work).await;
            outcome(result).map(drop).map_err(during(format_args!(
                "reserving {length} bytes for {}",
                this.file.path.display()
            )))
        }
    }

    fn truncate(&self, length: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let file = Rc::clone(&self.file);
        async move {
            calls::truncate(file.fd.as_raw_fd(), length).map_err(during(format_args!(
                "setting the length of {} to {length}",
                file.path.display()
            )))
        }
    }

    fn length(&self) -> impl Future<Output = io::Result<u64>> + 'static {
        let file = Rc::clone(&self.file);
        async move {
            calls::length(file.fd.as_raw_fd())
                .map_err(during(format_args!("asking the length of {}", file.path.display())))
        }
    }
}

/// What a read or write is about, for its checks and its errors.
struct Transfer<'a> {
    file: &'a OpenFile,
    verb: &'static str,
    offset: u64,
}

impl Transfer<'_> {
    /// Refuses what is not made of whole blocks, or ends beyond the largest file.
    fn check(&self, length: usize) -> io::Result<()> {
        let aligned =
            self.offset.is_multiple_of(BLOCK_BYTES as u64) && length.is_multiple_of(BLOCK_BYTES);
        let end = self.offset.checked_add(length as u64);
        if aligned && end.is_some_and(|end| i64::try_from(end).is_ok()) {
            return Ok(());
        }
        let error = io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("offset and length must be multiples of {BLOCK_BYTES} within a file"),
        );
        Err(self.failed(length, error))
    }

    fn failed(&self, length: usize, error: io::Error) -> io::Error {
        let Self { file, verb, offset } = self;
        let path = file.path.display();
        during(format_args!("{verb} {length} bytes at {offset} of {path}"))(error)
    }
}

/// A system call's result as it comes from a driver.
pub(crate) fn outcome(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}
