//! A disk that can only be read: files are mapped into memory. For tools that look at a data
//! directory which no process has open; never for a shard, whose whole core a page fault would
//! stop.
//!
//! The fault model: files may be damaged, cut short or unreadable in places, before and while they
//! are read. What cannot be read is an error, as it is of any other disk. Two things make sure of
//! it, because touching a page of a mapping that the kernel cannot fill would end the process:
//!
//! 1. Every range is first *populated*: the kernel fills its pages, or says that it cannot.
//! 2. A range that it does not fill (an unreadable block, a file that was cut, a kernel before
//!    5.14) is read with an ordinary call, which fails with the disk's own error, or gives less.
//!
//! The bytes are copied out, and no reference into a mapping exists: if a file is changed meanwhile,
//! what was checked is still what is used.
//!
//! [`Disk::lock`] takes a lock that readers share and that keeps away whoever would take it
//! exclusively, as a process does that opens the directory. It creates no file.

use std::fs;
use std::future::{Future, ready};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use memmap2::{Advice, MmapOptions, MmapRaw};

use crate::native::calls::{self, during};
use crate::{Buffer, DirectoryEntry, Disk, Durability, File, OpenMode};

/// The machine's directories and files, to be read only. Every future completes at once
/// ([`at_once`]), and everything that would write fails with `ReadOnlyFilesystem`. Files that are opened for writing
/// can be read.
#[derive(Clone, Copy, Debug, Default)]
pub struct MappedDisk;

/// What a future gives that waits for nothing but this disk, or `None` if it waits for anything
/// else.
pub fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// A file of which all that it held when it was opened is mapped.
#[derive(Clone)]
pub struct MappedFile {
    inner: Rc<Mapped>,
}

struct Mapped {
    file: fs::File,
    /// `None` if the file was empty.
    map: Option<MmapRaw>,
}

/// A lock that is shared; ends when it is dropped, or with the process.
pub struct SharedLock(OwnedFd);

impl Drop for SharedLock {
    fn drop(&mut self) {
        calls::unlock(self.0.as_raw_fd());
    }
}

impl Mapped {
    fn open(path: &Path) -> io::Result<Self> {
        let file = fs::File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
        }
        let map = match metadata.len() {
            0 => None,
            _ => Some(MmapOptions::new().map_raw_read_only(&file)?),
        };
        Ok(Self { file, map })
    }

    fn length(&self) -> usize {
        self.map.as_ref().map_or(0, MmapRaw::len)
    }

    /// Fills the buffer from `offset` on, as far as the file goes.
    fn read(&self, buffer: &mut Buffer, offset: u64) -> io::Result<usize> {
        buffer.resize(0);
        let length = self.length();
        let Some(offset) = usize::try_from(offset).ok().filter(|&offset| offset < length) else {
            return Ok(0);
        };
        let count = buffer.capacity().min(length - offset);
        buffer.resize(count);
        let Some(map) = &self.map else { return Ok(0) };
        if map.advise_range(Advice::PopulateRead, offset, count).is_ok() {
            // SAFETY:
            // 1. The source is within the mapping, which lives as long as `self`: it has `length`
            //    bytes, and `offset + count <= length`.
            // 2. The target is the content of a buffer that is borrowed mutably and was just made
            //    `count` bytes long. It is memory of this process and no part of a mapped file,
            //    so the two do not overlap.
            // 3. Any bytes are valid bytes. Another process may change the file meanwhile: there
            //    is no reference to the mapping that this could make wrong, and what the copy
            //    holds afterwards does not change any more.
            // 4. The pages were just filled, so the file reaches over them. If it is cut between
            //    then and now, or a page is given up and cannot be read again, the kernel ends
            //    this process with SIGBUS. That is no access to other memory; and the process
            //    only reads, so that nothing is left half done by it. Tools hold the directory's
            //    lock besides, which keeps everything away that cuts files.
            unsafe {
                let source = map.as_ptr().add(offset);
                std::ptr::copy_nonoverlapping(source, buffer.as_mut_ptr(), count);
            }
            return Ok(count);
        }
        let read = self.file.read_at(buffer, offset as u64);
        buffer.resize(*read.as_ref().unwrap_or(&0));
        read
    }
}

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "files are mapped to be read only")
}

impl Disk for MappedDisk {
    type File = MappedFile;
    type Lock = SharedLock;

    fn open(
        &self,
        path: &Path,
        mode: OpenMode,
    ) -> impl Future<Output = io::Result<MappedFile>> + 'static {
        ready(match mode {
            OpenMode::CreateNew => Err(refused()),
            OpenMode::Read | OpenMode::Write => Mapped::open(path)
                .map(|mapped| MappedFile { inner: Rc::new(mapped) })
                .map_err(during(format_args!("opening {}", path.display()))),
        })
    }

    fn create_directory(&self, _: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        ready(Err(refused()))
    }

    fn rename(&self, _: &Path, _: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        ready(Err(refused()))
    }

    fn link(&self, _: &Path, _: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        ready(Err(refused()))
    }

    fn remove(&self, _: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        ready(Err(refused()))
    }

    fn remove_directory(&self, _: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        ready(Err(refused()))
    }

    fn list(&self, path: &Path) -> impl Future<Output = io::Result<Vec<DirectoryEntry>>> + 'static {
        let names = calls::list(path);
        ready(names.map_err(during(format_args!("listing {}", path.display()))))
    }

    fn sync_directory(&self, _: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        ready(Err(refused()))
    }

    /// Takes a lock on a file that is there, shared with other readers. `WouldBlock` if another
    /// process holds it exclusively, `NotFound` if there is no such file.
    fn lock(&self, path: &Path) -> impl Future<Output = io::Result<SharedLock>> + 'static {
        let lock = calls::lock_shared(path).map(SharedLock);
        ready(lock.map_err(during(format_args!("locking {}", path.display()))))
    }
}

impl File for MappedFile {
    fn read_at(
        &self,
        mut buffer: Buffer,
        offset: u64,
    ) -> impl Future<Output = (io::Result<usize>, Buffer)> + 'static {
        let read = self.inner.read(&mut buffer, offset);
        ready((read, buffer))
    }

    fn write_at(
        &self,
        buffer: Buffer,
        _: u64,
        _: Durability,
    ) -> impl Future<Output = (io::Result<()>, Buffer)> + 'static {
        ready((Err(refused()), buffer))
    }

    fn sync_data(&self) -> impl Future<Output = io::Result<()>> + 'static {
        ready(Err(refused()))
    }

    fn allocate(&self, _: u64) -> impl Future<Output = io::Result<()>> + 'static {
        ready(Err(refused()))
    }

    fn truncate(&self, _: u64) -> impl Future<Output = io::Result<()>> + 'static {
        ready(Err(refused()))
    }

    /// The length it had when it was opened.
    fn length(&self) -> impl Future<Output = io::Result<u64>> + 'static {
        ready(Ok(self.inner.length() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::BLOCK_BYTES;
    use futures_util::FutureExt as _;
    use std::io::Write as _;
    use std::path::PathBuf;

    /// A file of one test's own.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str, bytes: &[u8]) -> Self {
            let name = format!("woodchuck-mapped-{name}-{}", std::process::id());
            let scratch = Self(std::env::temp_dir().join(name));
            let mut file = fs::File::create(&scratch.0).expect("a file");
            file.write_all(bytes).expect("written");
            scratch
        }

        fn open(&self) -> MappedFile {
            let opened = MappedDisk.open(&self.0, OpenMode::Write).now_or_never();
            opened.expect("at once").expect("it is there")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn read(file: &MappedFile, capacity: usize, offset: u64) -> Vec<u8> {
        let read = file.read_at(Buffer::with_capacity(capacity), offset).now_or_never();
        let (count, buffer) = read.expect("at once");
        assert_eq!(count.expect("it can be read"), buffer.len());
        buffer.to_vec()
    }

    #[test]
    fn reads_give_what_is_there_and_end_with_the_file() {
        let bytes: Vec<u8> = (0..3 * BLOCK_BYTES + 100).map(|at| (at / 7) as u8).collect();
        let scratch = Scratch::new("read", &bytes);
        let file = scratch.open();
        assert_eq!(file.length().now_or_never().expect("at once").ok(), Some(bytes.len() as u64));
        assert_eq!(read(&file, 2 * BLOCK_BYTES, 0), bytes[..2 * BLOCK_BYTES]);
        assert_eq!(read(&file, 2 * BLOCK_BYTES, 8192), bytes[8192..]);
        assert_eq!(read(&file, BLOCK_BYTES, 4 * 4096), b"");
        assert_eq!(read(&file, BLOCK_BYTES, u64::MAX - 4095), b"");
        let empty = Scratch::new("empty", b"");
        assert_eq!(read(&empty.open(), BLOCK_BYTES, 0), b"");
    }

    /// To touch the mapping there would end the process.
    #[test]
    fn a_file_that_is_cut_while_it_is_mapped_gives_less() {
        let scratch = Scratch::new("cut", &[7; 5 * BLOCK_BYTES]);
        let file = scratch.open();
        let cut = fs::OpenOptions::new().write(true).open(&scratch.0).expect("it is there");
        cut.set_len(2 * BLOCK_BYTES as u64).expect("cut");
        assert_eq!(read(&file, 4 * BLOCK_BYTES, BLOCK_BYTES as u64), [7; BLOCK_BYTES]);
        assert_eq!(read(&file, BLOCK_BYTES, 3 * BLOCK_BYTES as u64), b"");
        assert_eq!(read(&file, BLOCK_BYTES, 0), [7; BLOCK_BYTES]);
    }

    #[test]
    fn nothing_is_written() {
        let scratch = Scratch::new("write", &[7; BLOCK_BYTES]);
        let (disk, file) = (MappedDisk, scratch.open());
        let here = std::env::temp_dir();
        let written = file.write_at(Buffer::zeroed(BLOCK_BYTES), 0, Durability::Durable);
        let outcomes = [
            written.now_or_never().map(|(result, _)| result),
            file.sync_data().now_or_never(),
            file.allocate(1 << 20).now_or_never(),
            file.truncate(0).now_or_never(),
            disk.remove(&scratch.0).now_or_never(),
            disk.rename(&scratch.0, &here.join("elsewhere")).now_or_never(),
            disk.link(&scratch.0, &here.join("elsewhere")).now_or_never(),
            disk.remove_directory(&here).now_or_never(),
            disk.create_directory(&here.join("woodchuck-mapped-none")).now_or_never(),
            disk.sync_directory(&here).now_or_never(),
            disk.open(&scratch.0, OpenMode::CreateNew).now_or_never().map(|made| made.map(drop)),
        ];
        for outcome in outcomes {
            let error = outcome.expect("at once").expect_err("refused");
            assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
        }
        assert_eq!(fs::read(&scratch.0).expect("it is there"), [7; BLOCK_BYTES]);
    }

    #[test]
    fn readers_share_a_lock_and_keep_writers_out() {
        let scratch = Scratch::new("lock", b"");
        let lock = |path: &Path| MappedDisk.lock(path).now_or_never().expect("at once");
        let (one, other) = (lock(&scratch.0), lock(&scratch.0));
        assert!(one.is_ok() && other.is_ok());
        let writer = calls::lock(&scratch.0).map(drop).expect_err("readers hold it");
        assert_eq!(writer.kind(), io::ErrorKind::WouldBlock);
        drop((one, other));
        let writer = calls::lock(&scratch.0).expect("nobody holds it");
        let refused = lock(&scratch.0).map(drop).expect_err("a writer holds it");
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(writer);
        let missing = lock(&scratch.0.with_extension("missing")).map(drop).expect_err("not there");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(!scratch.0.with_extension("missing").exists());
    }

    #[test]
    fn what_is_no_file_is_not_mapped() {
        let opened = MappedDisk.open(&std::env::temp_dir(), OpenMode::Read).now_or_never();
        assert!(opened.expect("at once").is_err());
    }
}
