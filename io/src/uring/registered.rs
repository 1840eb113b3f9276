//! Files and buffer memory that a ring knows beforehand.
//!
//! A transfer of a registered file takes no reference to it, and one into registered memory neither
//! looks up nor pins its pages: worth up to a tenth of the rate of small transfers, and a sixth of
//! their CPU time (`docs/measurements.md`).
//!
//! Buffers come from the pool's chunks ([`crate::buffer`]). A chunk is registered when it is first
//! used through this ring, in the place of its number, and stays so until the ring ends: chunks
//! stay mapped for longer. Registered memory is locked, and counts against the user's limit on that
//! (`ulimit -l`) unless the process may lock what it likes. Where the limit, or the kernel, puts an
//! end to it, the log says so once, and further chunks are used as they are.
//!
//! A file is registered when it is opened, if there is a place left, and its place is emptied in the
//! first turn after it was closed.

use std::io;
use std::os::fd::RawFd;

use io_uring::Submitter;

use crate::buffer::Chunk;
use crate::limits::{CHUNK_BYTES, REGISTERED_CHUNKS, REGISTERED_FILES};
use crate::native::driver::ReleasedSlots;

/// What one ring knows.
pub(super) struct Registered {
    /// Name of the shard's thread, for the log.
    name: String,
    /// By the number of a chunk: whether it is registered.
    chunks: Vec<bool>,
    /// Whether there is a table for them.
    has_chunks: bool,
    /// Whether chunks are registered any more.
    more_chunks: bool,
    /// Whether there is a table of files.
    has_files: bool,
    /// Places that no file has.
    free: Vec<u32>,
    /// Places whose files were closed, and that the kernel must be told of.
    released: ReleasedSlots,
}

impl Registered {
    /// Makes tables, empty yet. A kernel that refuses them gets neither files nor buffers.
    pub(super) fn new(submitter: &Submitter<'_>, name: String) -> Self {
        let chunks = submitter.register_buffers_sparse(REGISTERED_CHUNKS);
        if let Err(error) = &chunks {
            tracing::info!(shard = name, %error, "buffers are not registered: transfers pin pages");
        }
        let files = submitter.register_files_sparse(REGISTERED_FILES);
        if let Err(error) = &files {
            tracing::info!(shard = name, %error, "files are not registered");
        }
        Self {
            name,
            chunks: Vec::new(),
            has_chunks: chunks.is_ok(),
            more_chunks: chunks.is_ok(),
            has_files: files.is_ok(),
            free: files.map_or_else(|_| Vec::new(), |()| (0..REGISTERED_FILES).rev().collect()),
            released: ReleasedSlots::default(),
        }
    }

    /// The place of a chunk in the ring's table, if it is registered or can be.
    pub(super) fn chunk(&mut self, submitter: &Submitter<'_>, chunk: Chunk) -> Option<u16> {
        let index = chunk.number as usize;
        if self.chunks.get(index).is_some_and(|registered| *registered) {
            return u16::try_from(chunk.number).ok();
        }
        if !self.more_chunks || chunk.number >= REGISTERED_CHUNKS {
            return None;
        }
        let place = u16::try_from(chunk.number).ok()?;
        let memory = libc::iovec { iov_base: chunk.start.cast(), iov_len: CHUNK_BYTES };
        // SAFETY:
        // 1. A chunk is mapped for its whole length until the process ends.
        // 2. Being registered changes nothing about who may read and write it: transfers alone do,
        //    and their addresses are vouched for by the contract of `Driver::submit`.
        let result = unsafe { submitter.register_buffers_update(chunk.number, &[memory], None) };
        if let Err(error) = result {
            self.more_chunks = false;
            let registered = self.chunks.iter().filter(|registered| **registered).count();
            tracing::info!(
                shard = self.name,
                %error,
                "{} MiB of buffers are registered, and no more can be: further transfers pin pages. \
                 A higher limit on locked memory (ulimit -l) registers all",
                (registered * CHUNK_BYTES) >> 20
            );
            return None;
        }
        if self.chunks.len() <= index {
            self.chunks.resize(index + 1, false);
        }
        self.chunks[index] = true;
        Some(place)
    }

    /// Gives a file a place, if there is one.
    pub(super) fn file(&mut self, submitter: &Submitter<'_>, fd: RawFd) -> Option<u32> {
        let place = self.free.pop()?;
        match submitter.register_files_update(place, &[fd]) {
            Ok(_) => Some(place),
            Err(error) => {
                tracing::debug!(shard = self.name, %error, "a file is not registered");
                self.free.push(place);
                None
            }
        }
    }

    /// Where the places of closed files go.
    pub(super) fn released(&self) -> ReleasedSlots {
        ReleasedSlots::clone(&self.released)
    }

    /// Forgets everything. The end of a ring would do the same, at some later time: until then the
    /// files would stay open, and the memory locked.
    pub(super) fn forget_all(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        if self.has_files {
            submitter.unregister_files()?;
        }
        if self.has_chunks {
            submitter.unregister_buffers()?;
        }
        Ok(())
    }

    /// Empties the places of the files that were closed.
    pub(super) fn forget_closed(&mut self, submitter: &Submitter<'_>) -> io::Result<()> {
        while let Some(place) = self.released.borrow_mut().pop() {
            submitter.register_files_update(place, &[-1])?;
            self.free.push(place);
        }
        Ok(())
    }
}
