//! Sockets through glommio: it says when a socket is ready, and then the call is made.
//!
//! It has no call for that. But a stream of its own that was just made waits until the socket is
//! readable before it tries to read, and one that cannot write waits until it can. So each wait
//! makes a stream of a second descriptor, and drops it. That loses nothing: what is read is read
//! by the caller, and what is written is written, or not, in the moment in which the wait ends.

use std::future::poll_fn;
use std::io;
use std::os::fd::{FromRawFd, RawFd};
use std::pin::Pin;

use ::glommio::net::TcpStream;
use futures_util::io::{AsyncRead, AsyncWrite};

use super::files::duplicate;
use crate::native::driver::Request;
use crate::posix::readiness::{attempt, descriptor};

/// Carries out a socket's request that was attempted once and has to wait. Gives what a system call
/// would have: errors as `-errno`.
///
/// # Safety
/// As for `Driver::submit`, until the future has completed or is dropped.
pub(super) async unsafe fn carry_out(request: Request) -> i32 {
    loop {
        // SAFETY: passed on from the caller.
        match unsafe { ready(&request) }.await {
            Ok(Some(done)) => return done,
            Ok(None) => {}
            Err(error) => return -error.raw_os_error().unwrap_or(libc::EIO),
        }
        // SAFETY: passed on from the caller.
        if let Some(result) = unsafe { attempt(&request, false) } {
            return result;
        }
    }
}

/// Waits until a request can be attempted again. Its result, if the wait came to one.
///
/// # Safety
/// As for [`carry_out`].
async unsafe fn ready(request: &Request) -> io::Result<Option<i32>> {
    let fd = descriptor(request);
    match *request {
        Request::Accept { .. } => {
            // A socket that listens cannot be read. It has told that it is ready by then.
            readable(fd).await.ok();
            Ok(None)
        }
        Request::Receive { .. } => readable(fd).await.map(|()| None),
        // An empty write fails for as long as the socket is not connected.
        Request::Connect { .. } => written(fd, &[]).await.map(|_| Some(0)),
        Request::Send { start, length, .. } => {
            // SAFETY: the caller vouches for the memory and that nobody writes it.
            let bytes = unsafe { std::slice::from_raw_parts(start, length) };
            written(fd, bytes).await.map(Some)
        }
        Request::SendMessage { message, .. } => {
            // SAFETY:
            // 1. The caller vouches for the header, its pieces and what they point at.
            // 2. There is a piece: a message has at least one, and none that is empty.
            // 3. Nobody writes any of it.
            let bytes = unsafe {
                let piece = *(*message).msg_iov;
                std::slice::from_raw_parts(piece.iov_base.cast::<u8>(), piece.iov_len)
            };
            written(fd, bytes).await.map(Some)
        }
        Request::Read { .. }
        | Request::Write { .. }
        | Request::Sync { .. }
        | Request::Allocate { .. } => unreachable!("files are read and written elsewhere"),
    }
}

/// A stream of glommio for a while.
fn stream(fd: RawFd) -> io::Result<TcpStream> {
    let fd = duplicate(fd)?;
    // SAFETY: the descriptor is open, was just made, and is nobody else's.
    Ok(unsafe { TcpStream::from_raw_fd(fd) })
}

/// Waits until a socket can be read. Reads nothing. The socket's error, if it has one.
async fn readable(fd: RawFd) -> io::Result<()> {
    let mut stream = stream(fd)?;
    poll_fn(|context| Pin::new(&mut stream).poll_read(context, &mut [])).await.map(drop)
}

/// Writes some of `bytes` as soon as the socket takes any. How many those were.
async fn written(fd: RawFd, bytes: &[u8]) -> io::Result<i32> {
    let mut stream = stream(fd)?;
    let count = poll_fn(|context| Pin::new(&mut stream).poll_write(context, bytes)).await?;
    Ok(i32::try_from(count).unwrap_or(i32::MAX))
}
