//! Files through glommio.

use std::cell::Cell;
use std::io;
use std::os::fd::{FromRawFd, RawFd};
use std::path::PathBuf;
use std::rc::Rc;

use ::glommio::GlommioError;
use ::glommio::io::{BufferedFile, DmaFile, OpenOptions};

use crate::limits::GLOMMIO_PIECE_BYTES;
use crate::native::calls::check;
use crate::native::doorbell::Doorbell;
use crate::native::driver::Request;
use crate::posix::helpers;

/// Opens a file once more, for glommio. `first` says that glommio has seen no file of its device.
pub(super) async fn open_again(fd: RawFd, first: bool) -> io::Result<DmaFile> {
    // Not by its own name, which may be another file's by now.
    let path = PathBuf::from(format!("/proc/self/fd/{fd}"));
    // SAFETY: no memory is involved.
    let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    let writable = flags & libc::O_ACCMODE == libc::O_RDWR;
    if flags & libc::O_DIRECT == 0 {
        let message = "the filesystem takes no direct I/O";
        return Err(io::Error::new(io::ErrorKind::Unsupported, message));
    }
    if first {
        // It tries whether the device can be polled by reading the file, which fails. What it is
        // told by a read that succeeds on an empty file is wrong.
        let probe = OpenOptions::new().write(true).dma_open(&path).await?;
        probe.close().await?;
    }
    Ok(OpenOptions::new().read(true).write(writable).dma_open(&path).await?)
}

/// A request on its way to the thread for blocking calls.
struct Job(Request);

// SAFETY:
// 1. A job is addresses and numbers. By the contract of `Driver::submit` nothing else touches the
//    memory from the submission to the report of the completion.
// 2. The completion is reported after the thread has handed back the job's result.
unsafe impl Send for Job {}

/// Carries out a file's request; through glommio's file if there is one, else on its thread for
/// blocking calls. Gives what a system call would have: errors as `-errno`.
///
/// # Safety
/// As for `Driver::submit`, until the future has completed or has been dropped by the end of its
/// executor.
pub(super) async unsafe fn carry_out(file: Option<Rc<DmaFile>>, request: Request) -> i32 {
    match (file, request) {
        (Some(file), Request::Read { start, length, offset, .. }) => {
            // SAFETY: passed on from the caller.
            unsafe { read(&file, start, length, offset) }.await
        }
        (Some(file), Request::Write { start, length, offset, durable, .. }) => {
            // SAFETY: passed on from the caller.
            unsafe { write(&file, start, length, offset, durable) }.await
        }
        (Some(file), Request::Sync { data_only: true, .. }) => answer(file.fdatasync().await),
        (Some(file), Request::Allocate { length, mode, .. }) if i64::try_from(length).is_ok() => {
            answer(file.pre_allocate(length, mode == libc::FALLOC_FL_KEEP_SIZE).await)
        }
        (_, request) => {
            let job = Job(request);
            // SAFETY: passed on from the caller; the thread is done with the job before the
            // future completes.
            let call = move || unsafe { helpers::carry_out({ job }.0) };
            ::glommio::executor().spawn_blocking(call).await
        }
    }
}

/// # Safety
/// `start` is valid for `length` bytes, which nothing else touches, until the future completes.
async unsafe fn read(file: &DmaFile, start: *mut u8, length: usize, offset: u64) -> i32 {
    let mut done = 0;
    while done < length {
        let wanted = (length - done).min(GLOMMIO_PIECE_BYTES);
        let piece = match file.read_at_aligned(offset + done as u64, wanted).await {
            Ok(piece) => piece,
            // What was read is a short read.
            Err(_) if done > 0 => break,
            Err(error) => return failed(&error),
        };
        let count = piece.len().min(wanted);
        // SAFETY:
        // 1. `done + count <= length`, so the target is in the caller's memory.
        // 2. The source is glommio's memory, which is not the caller's.
        unsafe { start.add(done).copy_from_nonoverlapping(piece.as_ptr(), count) };
        done += count;
        if count < wanted {
            break;
        }
    }
    transferred(done)
}

/// # Safety
/// `start` is valid for `length` bytes, which nobody writes, until the future completes.
async unsafe fn write(
    file: &DmaFile,
    start: *const u8,
    length: usize,
    offset: u64,
    durable: bool,
) -> i32 {
    let mut done = 0;
    while done < length {
        let wanted = (length - done).min(GLOMMIO_PIECE_BYTES);
        let mut piece = file.alloc_dma_buffer(wanted);
        // SAFETY:
        // 1. `done + wanted <= length`, so the source is in the caller's memory.
        // 2. The target is glommio's memory, `wanted` bytes of it, which is not the caller's.
        unsafe { piece.as_mut_ptr().copy_from_nonoverlapping(start.add(done), wanted) };
        match file.write_at(piece, offset + done as u64).await {
            Ok(count) => {
                done += count.min(wanted);
                if count < wanted {
                    // The rest is the next request's.
                    break;
                }
            }
            Err(error) => return failed(&error),
        }
    }
    if durable
        && done > 0
        && let Err(error) = file.fdatasync().await
    {
        return failed(&error);
    }
    transferred(done)
}

/// Reads the doorbell, and calls `rung` each time, until `ending` is set when it is rung.
pub(super) async fn read_doorbell(
    ending: &Cell<bool>,
    doorbell: &Doorbell,
    rung: impl Fn(),
) -> io::Result<()> {
    let fd = duplicate(doorbell.fd())?;
    // SAFETY: the descriptor is open, was just made, and is nobody else's.
    let eventfd = unsafe { BufferedFile::from_raw_fd(fd) };
    while !ending.get() {
        // It waits until there is something to read.
        eventfd.read_at(0, 8).await?;
        rung();
    }
    Ok(eventfd.close().await?)
}

/// A second descriptor of what `fd` is one of.
pub(super) fn duplicate(fd: RawFd) -> io::Result<RawFd> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) })
}

/// A number of bytes as a system call's result; each transfer is below 2^31 bytes.
fn transferred(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}

fn answer(result: Result<(), GlommioError<()>>) -> i32 {
    result.map_or_else(|error| failed(&error), |()| 0)
}

/// An error as a system call's result.
fn failed(error: &GlommioError<()>) -> i32 {
    -error.raw_os_error().unwrap_or(libc::EIO)
}
