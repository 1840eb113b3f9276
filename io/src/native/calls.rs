//! System calls that both backends make directly: the rare ones (directories, locks, sockets'
//! setting up), which are not worth a trip through the driver and block for as long as the kernel
//! takes. A directory call that has to read from the disk stops its shard for that long; the
//! engine makes them when it starts, and when it makes or drops a segment.

use std::ffi::CString;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::{DirectoryEntry, OpenMode};

/// The result of a system call that reports failure as -1.
pub(crate) fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// `error` with what was being done in front.
pub(crate) fn during(action: impl std::fmt::Display) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{action}: {error}"))
}

pub(crate) fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the path holds a zero byte"))
}

/// Opens a file with these flags; nobody who is started by this process inherits it.
pub(crate) fn open_with(path: &Path, flags: i32) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    loop {
        // SAFETY: `path` is a C string that lives until the call returns.
        match check(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, 0o666) }) {
            // SAFETY: the descriptor was just opened and nobody else knows it.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A file opened, and whether the filesystem took it for direct I/O.
pub(crate) fn open_file(path: &Path, mode: OpenMode) -> io::Result<(OwnedFd, bool)> {
    let access = match mode {
        OpenMode::Read => libc::O_RDONLY,
        OpenMode::Write | OpenMode::CreateNew => libc::O_RDWR,
    };
    let (create, exclusive) = match mode {
        OpenMode::Read | OpenMode::Write => (0, 0),
        OpenMode::CreateNew => (libc::O_CREAT, libc::O_EXCL),
    };
    let (fd, direct) = match open_with(path, access | create | exclusive | libc::O_DIRECT) {
        Ok(fd) => (fd, true),
        // The filesystem has no direct I/O. The kernel finds that out after it has created the
        // file, so the second try must take a file that is there: had it been there before, the
        // first would have said `AlreadyExists`.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            (open_with(path, access | create)?, false)
        }
        Err(error) => return Err(error),
    };
    // For writing the kernel refuses it by itself.
    if mode == OpenMode::Read && status(fd.as_raw_fd())?.st_mode & libc::S_IFMT == libc::S_IFDIR {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    Ok((fd, direct))
}

/// A directory opened so that it can be flushed.
pub(crate) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    open_with(path, libc::O_RDONLY | libc::O_DIRECTORY)
}

/// The names in a directory. A name that is not UTF-8 comes with replacement characters, and so
/// never equals one of ours.
pub(crate) fn list(path: &Path) -> io::Result<Vec<DirectoryEntry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        entries.push(DirectoryEntry {
            name: entry.file_name().to_string_lossy().into_owned(),
            is_directory: entry.file_type()?.is_dir(),
        });
    }
    Ok(entries)
}

/// An exclusive lock on the file at `path`. It belongs to the open file, so a second attempt fails
/// in this process too, and it ends when the descriptor is closed, by whatever means.
pub(crate) fn lock(path: &Path) -> io::Result<OwnedFd> {
    let fd = open_with(path, libc::O_RDWR | libc::O_CREAT)?;
    // SAFETY: no memory is involved.
    check(unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) })?;
    Ok(fd)
}

/// As [`lock`], but shared with others that take it so; the file must be there.
pub(crate) fn lock_shared(path: &Path) -> io::Result<OwnedFd> {
    let fd = open_with(path, libc::O_RDONLY)?;
    // SAFETY: no memory is involved.
    check(unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) })?;
    Ok(fd)
}

/// Gives up a lock.
pub(crate) fn unlock(fd: RawFd) {
    // The result is not looked at: an open descriptor can be unlocked, and closing it does the
    // same.
    // SAFETY: no memory is involved.
    unsafe { libc::flock(fd, libc::LOCK_UN) };
}

/// What the kernel knows of an open file or directory.
pub(crate) fn status(fd: RawFd) -> io::Result<libc::stat> {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `status` is writable and as large as the call wants it.
    check(unsafe { libc::fstat(fd, status.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it filled `status`.
    Ok(unsafe { status.assume_init() })
}

/// Length of an open file in bytes.
pub(crate) fn length(fd: RawFd) -> io::Result<u64> {
    let size = status(fd)?.st_size;
    u64::try_from(size).map_err(|_| io::Error::other("the kernel says the length is negative"))
}

/// Sets the length of an open file.
pub(crate) fn truncate(fd: RawFd, length: u64) -> io::Result<()> {
    let length = i64::try_from(length).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{length} bytes in one file"))
    })?;
    loop {
        // SAFETY: no memory is involved.
        match check(unsafe { libc::ftruncate(fd, length) }) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// 32 bytes from the kernel's generator.
pub(crate) fn random_seed() -> [u8; 32] {
    let mut seed = [0_u8; 32];
    loop {
        // SAFETY: `seed` is writable for its length.
        let filled = unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), 0) };
        if filled == 32 {
            return seed;
        }
        let error = io::Error::last_os_error();
        // Requests up to 256 bytes are never cut short, and the flags are valid: what is left is
        // a kernel without the call, on which nothing here works.
        assert_eq!(error.kind(), io::ErrorKind::Interrupted, "no random numbers: {error}");
    }
}

/// The CPUs the calling thread may use.
pub(crate) fn allowed_cpus() -> io::Result<libc::cpu_set_t> {
    // SAFETY: a CPU set is plain integers, for which zeros are a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is writable and of the size given.
    check(unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) })?;
    Ok(set)
}

/// Binds the calling thread to `set`.
pub(crate) fn bind_to_cpus(set: &libc::cpu_set_t) -> io::Result<()> {
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: `set` is readable and of the size given.
    check(unsafe { libc::sched_setaffinity(0, size, std::ptr::from_ref(set)) })?;
    Ok(())
}

/// The numbers of the CPUs in `set`, rising.
pub(crate) fn cpus_in(set: &libc::cpu_set_t) -> Vec<usize> {
    let bits = usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
    // SAFETY: every number is below the size of the set.
    (0..bits).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, set) }).collect()
}

/// The set that holds one CPU.
pub(crate) fn one_cpu(cpu: usize) -> libc::cpu_set_t {
    // SAFETY: a CPU set is plain integers, for which zeros are a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `CPU_SET` checks its bound by indexing.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    set
}

/// Lets other threads of this CPU run, the kernel's completion workers among them.
pub(crate) fn yield_cpu() {
    // SAFETY: no memory is involved.
    unsafe { libc::sched_yield() };
}
