//! Serves a [`Device`] to the kernel as a filesystem that is one file, over `/dev/fuse`.
//!
//! The filesystem's root is the file itself, so it is mounted on a file, and there are no names.
//! Requests and replies are those of `include/uapi/linux/fuse.h`, protocol 7.31 and later, all
//! numbers in the machine's order:
//!
//! ```text
//! request:  | u32 length | u32 operation | u64 unique | u64 node | 12 bytes who | 4 bytes | body |
//! reply:    | u32 length | i32 -errno    | u64 unique | body |
//! ```
//!
//! The file is opened with direct I/O, so that the kernel keeps nothing of it: what a write hands
//! over is here before the write is answered. `FSYNC` is the device's flush; `FLUSH`, which comes
//! with every close, is not.
//!
//! Several threads serve, and each takes its time with what writes: so writes are in flight
//! together, as on a device of the real world, and are answered in any order.

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "no shard runs here: this is the device below them"
)]

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::device::{Device, NoPower};
use crate::limits::{MOUNT_POLL, WRITE_BYTES};

const REQUEST_HEADER_BYTES: usize = 40;
const REPLY_HEADER_BYTES: usize = 16;
/// Bodies of `READ` and `WRITE`, before the data.
const TRANSFER_BYTES: usize = 40;
/// The kernel refuses to read into less than a write with all its headers.
const REQUEST_BYTES: usize = WRITE_BYTES + 4096;

const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const ACCESS: u32 = 34;
const INTERRUPT: u32 = 36;
const DESTROY: u32 = 38;
const BATCH_FORGET: u32 = 42;

const MAJOR: u32 = 7;
const MINOR: u32 = 31;
/// Reads, and direct writes, may be in flight together; writes may have more than one page, and as
/// many as the reply says.
const INIT_FLAGS: u32 = (1 << 0) | (1 << 5) | (1 << 15) | (1 << 22);
const REQUESTS_IN_FLIGHT: u16 = 64;
const OPEN_DIRECT_IO: u32 = 1;
/// A regular file of mode 0600.
const MODE: u32 = 0o100_600;
const ROOT: u64 = 1;
const VALID_S: u64 = 3600;

/// Numbers that Linux has for errors, the same on every architecture.
#[derive(Clone, Copy)]
enum Refusal {
    Io = 5,
    Invalid = 22,
    NoSuchCall = 38,
    Protocol = 71,
}

impl From<NoPower> for Refusal {
    fn from(_: NoPower) -> Self {
        Self::Io
    }
}

/// Serves until the filesystem is unmounted. `connection` is `/dev/fuse`, opened by whoever mounts;
/// that may be done later.
pub fn serve(mut connection: File, device: &Mutex<Device>) -> io::Result<()> {
    let mut request = vec![0; REQUEST_BYTES];
    loop {
        let length = match connection.read(&mut request) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) => match error.raw_os_error() {
                // ENODEV: unmounted.
                Some(19) => return Ok(()),
                // EPERM: not mounted yet.
                Some(1) => {
                    std::thread::sleep(MOUNT_POLL);
                    continue;
                }
                // ENOENT: the request was withdrawn before it was read. EINTR, EAGAIN.
                Some(2 | 4 | 11) => continue,
                _ => return Err(error),
            },
        };
        let request = &request[..length];
        let Some(unique) = number_u64(request, 8) else {
            return Err(io::Error::other(format!("a request of {length} bytes")));
        };
        let (reply, takes) = {
            let mut device = locked(device);
            (answer(request, &mut device), device.takes())
        };
        if matches!(number_u32(request, 4), Some(WRITE | FSYNC)) {
            std::thread::sleep(takes);
        }
        let (code, body) = match reply {
            Ok(Some(body)) => (0, body),
            Ok(None) => continue,
            Err(refusal) => (-(refusal as i32), Vec::new()),
        };
        let mut header = Vec::with_capacity(REPLY_HEADER_BYTES);
        header.extend(((REPLY_HEADER_BYTES + body.len()) as u32).to_ne_bytes());
        header.extend(code.to_ne_bytes());
        header.extend(unique.to_ne_bytes());
        match connection.write_vectored(&[IoSlice::new(&header), IoSlice::new(&body)]) {
            Ok(_) => {}
            // ENOENT: whoever asked is gone.
            Err(error) if error.raw_os_error() == Some(2) => {}
            Err(error) if error.raw_os_error() == Some(19) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// The device. A panic elsewhere leaves it as whole as it ever is.
pub fn locked(device: &Mutex<Device>) -> MutexGuard<'_, Device> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The body of the reply, or none if there is to be no reply.
fn answer(request: &[u8], device: &mut Device) -> Result<Option<Vec<u8>>, Refusal> {
    let operation = number_u32(request, 4).ok_or(Refusal::Protocol)?;
    let body = request.get(REQUEST_HEADER_BYTES..).ok_or(Refusal::Protocol)?;
    match operation {
        INIT => initialise(body).map(Some),
        GETATTR | SETATTR => Ok(Some(attributes(device))),
        OPEN => {
            let mut reply = vec![0; 16];
            put(&mut reply, 8, &OPEN_DIRECT_IO.to_ne_bytes());
            Ok(Some(reply))
        }
        READ => {
            let (offset, length) = transfer(body)?;
            Ok(Some(device.read(offset, length)?.to_vec()))
        }
        WRITE => {
            let (offset, length) = transfer(body)?;
            let data = body.get(TRANSFER_BYTES..).ok_or(Refusal::Protocol)?;
            if data.len() != length {
                return Err(Refusal::Protocol);
            }
            if !device.write(offset, data)? {
                return Err(Refusal::Invalid);
            }
            let mut reply = vec![0; 8];
            put(&mut reply, 0, &(length as u32).to_ne_bytes());
            Ok(Some(reply))
        }
        FSYNC => {
            device.flush()?;
            Ok(Some(Vec::new()))
        }
        STATFS => {
            let mut reply = vec![0; 80];
            put(&mut reply, 40, &4096_u32.to_ne_bytes());
            put(&mut reply, 44, &255_u32.to_ne_bytes());
            put(&mut reply, 48, &4096_u32.to_ne_bytes());
            Ok(Some(reply))
        }
        FLUSH | RELEASE | ACCESS | DESTROY => Ok(Some(Vec::new())),
        FORGET | BATCH_FORGET | INTERRUPT => Ok(None),
        _ => Err(Refusal::NoSuchCall),
    }
}

/// Agrees on how to speak.
fn initialise(body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let (Some(major), Some(minor)) = (number_u32(body, 0), number_u32(body, 4)) else {
        return Err(Refusal::Protocol);
    };
    let (Some(read_ahead), Some(offered)) = (number_u32(body, 8), number_u32(body, 12)) else {
        return Err(Refusal::Protocol);
    };
    if major != MAJOR || minor < MINOR {
        return Err(Refusal::Protocol);
    }
    let mut reply = vec![0; 64];
    put(&mut reply, 0, &MAJOR.to_ne_bytes());
    put(&mut reply, 4, &MINOR.to_ne_bytes());
    put(&mut reply, 8, &read_ahead.to_ne_bytes());
    put(&mut reply, 12, &(offered & INIT_FLAGS).to_ne_bytes());
    put(&mut reply, 16, &REQUESTS_IN_FLIGHT.to_ne_bytes());
    put(&mut reply, 18, &REQUESTS_IN_FLIGHT.to_ne_bytes());
    put(&mut reply, 20, &(WRITE_BYTES as u32).to_ne_bytes());
    put(&mut reply, 24, &1_u32.to_ne_bytes());
    put(&mut reply, 28, &((WRITE_BYTES / 4096) as u16).to_ne_bytes());
    Ok(reply)
}

/// What the file is.
fn attributes(device: &Device) -> Vec<u8> {
    let bytes = device.bytes() as u64;
    let mut reply = vec![0; 104];
    put(&mut reply, 0, &VALID_S.to_ne_bytes());
    put(&mut reply, 16, &ROOT.to_ne_bytes());
    put(&mut reply, 24, &bytes.to_ne_bytes());
    put(&mut reply, 32, &(bytes / 512).to_ne_bytes());
    put(&mut reply, 76, &MODE.to_ne_bytes());
    put(&mut reply, 80, &1_u32.to_ne_bytes());
    put(&mut reply, 96, &4096_u32.to_ne_bytes());
    reply
}

/// Offset and length of a read or a write.
fn transfer(body: &[u8]) -> Result<(u64, usize), Refusal> {
    let offset = number_u64(body, 8).ok_or(Refusal::Protocol)?;
    let length = number_u32(body, 16).ok_or(Refusal::Protocol)? as usize;
    if length > WRITE_BYTES { Err(Refusal::Invalid) } else { Ok((offset, length)) }
}

fn put(reply: &mut [u8], at: usize, bytes: &[u8]) {
    reply[at..at + bytes.len()].copy_from_slice(bytes);
}

fn number_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn number_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
