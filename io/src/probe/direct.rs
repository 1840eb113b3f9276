//! How direct I/O must be aligned.
//!
//! A file is made in the directory, for the kernel knows it of files only. Usually it never has a
//! name (`O_TMPFILE`); where the filesystem cannot do that, it has one for a moment.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use crate::Buffer;
use crate::native::calls::{self, check, during};

/// The alignments that are tried, rising.
const TRIED_BYTES: [u32; 8] = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536];

/// How files are read and written past the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectIo {
    /// They are not.
    Refused,
    /// If all is aligned so.
    Aligned {
        /// What the memory's address must be a multiple of, in bytes.
        memory_bytes: u32,
        /// What offset and length must be multiples of, in bytes.
        offset_bytes: u32,
        /// Who says so.
        source: AlignmentSource,
    },
}

/// How an alignment is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlignmentSource {
    /// The kernel says so (`STATX_DIOALIGN`).
    Kernel,
    /// Reads with this alignment succeed, and with half of it they do not, or were not tried.
    Trial,
}

/// How direct I/O must be aligned in a directory.
///
/// # Errors
/// If no file can be made there.
pub fn direct_io(directory: &Path) -> io::Result<DirectIo> {
    let failed = |error| during(format_args!("creating a file in {}", directory.display()))(error);
    let buffered = open_nameless(directory, 0).map_err(failed)?;
    if let Some((memory_bytes, offset_bytes)) = ask(&buffered) {
        return Ok(match offset_bytes {
            0 => DirectIo::Refused,
            _ => DirectIo::Aligned { memory_bytes, offset_bytes, source: AlignmentSource::Kernel },
        });
    }
    match open_nameless(directory, libc::O_DIRECT) {
        Ok(direct) => try_out(&direct),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(DirectIo::Refused),
        Err(error) => Err(failed(error)),
    }
}

/// A new file in a directory that nobody else can find.
fn open_nameless(directory: &Path, flags: i32) -> io::Result<OwnedFd> {
    match calls::open_with(directory, libc::O_TMPFILE | libc::O_RDWR | flags) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {}
        opened => return opened,
    }
    let path = directory.join(format!("woodchuck-probe-{}.alignment", std::process::id()));
    let opened = calls::open_with(&path, libc::O_CREAT | libc::O_EXCL | libc::O_RDWR | flags);
    // A filesystem without direct I/O says so after it has made the file.
    let made = match &opened {
        Ok(_) => true,
        Err(error) => error.raw_os_error() == Some(libc::EINVAL),
    };
    if made {
        std::fs::remove_file(&path)?;
    }
    opened
}

/// What the kernel says of a file: alignment of memory and of offsets, 0 if there is no direct I/O.
/// None if it does not say.
fn ask(file: &OwnedFd) -> Option<(u32, u32)> {
    let mut status = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY:
    // 1. The path is a C string that lives for ever, and empty: the descriptor itself is meant.
    // 2. `status` is writable and as large as the call wants it.
    let result = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            status.as_mut_ptr(),
        )
    };
    check(result).ok()?;
    // SAFETY: it is integers, which were zeros at first and may have been filled since.
    let status = unsafe { status.assume_init() };
    let said = status.stx_mask & libc::STATX_DIOALIGN != 0;
    said.then_some((status.stx_dio_mem_align, status.stx_dio_offset_align))
}

/// The least alignment with which a direct file can be read.
fn try_out(file: &OwnedFd) -> io::Result<DirectIo> {
    let largest = TRIED_BYTES[TRIED_BYTES.len() - 1];
    calls::truncate(file.as_raw_fd(), 2 * u64::from(largest))?;
    let mut buffer = Buffer::zeroed(2 * largest as usize);
    for tried in TRIED_BYTES {
        // An odd multiple of what is tried: of its double it is none.
        let start = buffer.as_mut_ptr().wrapping_add(tried as usize);
        // SAFETY: from `start` on, the buffer holds at least `largest` bytes, exclusively ours.
        let read = unsafe {
            libc::pread(file.as_raw_fd(), start.cast(), tried as usize, i64::from(tried))
        };
        if read == tried as isize {
            let source = AlignmentSource::Trial;
            return Ok(DirectIo::Aligned { memory_bytes: tried, offset_bytes: tried, source });
        }
    }
    Ok(DirectIo::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_agrees_with_the_kernel_and_leaves_nothing_behind() {
        let base = std::env::var_os("WOODCHUCK_TEST_DIRECTORY").map(std::path::PathBuf::from);
        let base = base.unwrap_or_else(std::env::temp_dir);
        let directory = base.join(format!("woodchuck-direct-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let said = direct_io(&directory).expect("a file can be made");
        let file = open_nameless(&directory, libc::O_DIRECT);
        if let (DirectIo::Aligned { offset_bytes, .. }, Ok(file)) = (said, file) {
            assert!(offset_bytes.is_power_of_two());
            let tried = try_out(&file).expect("it was tried");
            let DirectIo::Aligned { offset_bytes: tried, .. } = tried else {
                panic!("the kernel says {said:?} and no read succeeds");
            };
            assert!(tried <= offset_bytes.max(512), "{tried}, and the kernel says {offset_bytes}");
        }
        assert_eq!(std::fs::read_dir(&directory).expect("it is there").count(), 0);
        std::fs::remove_dir(&directory).expect("it is empty");
        let gone = direct_io(&directory).expect_err("it is gone");
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }
}
