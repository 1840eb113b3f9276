//! Reading a segment that may be damaged, in bounded memory.
//!
//! The fault model: any block may be unreadable, and reads may be short. A block that the disk
//! cannot read is taken for zeros, which no header is and no checksum of anything else allows,
//! and is counted. Errors that say nothing about the blocks (no memory, no permission) are errors.

use std::io;

use bytes::Bytes;
use woodchuck_io::limits::BLOCK_BYTES;
use woodchuck_io::{Buffer, File};

use crate::error::LogError;
use crate::limits::WINDOW_BYTES;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Reads that may come back with less than a block before the reader gives up.
const SHORT_READS: u32 = 16;

/// A window on a segment that moves forward.
pub(crate) struct Reader<F> {
    file: F,
    generation: u64,
    /// Whole blocks of the file, in bytes.
    length: u64,
    /// Where `window` begins.
    start: u64,
    /// What was read last; holds whole blocks.
    window: Bytes,
    /// Blocks that could not be read.
    unreadable: u64,
}

impl<F: File> Reader<F> {
    pub(crate) fn new(file: F, generation: u64, length: u64) -> Self {
        let length = length / BLOCK * BLOCK;
        Self { file, generation, length, start: 0, window: Bytes::new(), unreadable: 0 }
    }

    /// Blocks that could not be read so far.
    pub(crate) const fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// The bytes from `offset` on, `bytes` of them, or `None` if the file is shorter. `offset` is
    /// at a block; the slice shares the window's memory.
    pub(crate) async fn span(
        &mut self,
        offset: u64,
        bytes: usize,
    ) -> Result<Option<Bytes>, LogError> {
        assert!(offset.is_multiple_of(BLOCK), "frames and blocks stand at block boundaries");
        let wanted = bytes.next_multiple_of(BLOCK_BYTES) as u64;
        if offset > self.length || wanted > self.length - offset {
            return Ok(None);
        }
        let held = self.start..self.start + self.window.len() as u64;
        if !held.contains(&offset) || offset + wanted > held.end {
            let window = wanted.max(WINDOW_BYTES as u64).min(self.length - offset);
            self.load(offset, usize::try_from(window).unwrap_or(bytes)).await?;
        }
        let from = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        assert!(from + bytes <= self.window.len(), "the window was just moved over the span");
        Ok(Some(self.window.slice(from..from + bytes)))
    }

    /// Moves the window.
    async fn load(&mut self, offset: u64, bytes: usize) -> Result<(), LogError> {
        // Let go of the old window before taking memory for the new one.
        self.window = Bytes::new();
        self.start = offset;
        let buffer = match read_whole(&self.file, offset, bytes).await {
            Ok(buffer) => buffer,
            Err(error) if is_damage(&error) => self.load_blocks(offset, bytes).await?,
            Err(error) => return Err(self.problem(offset, error)),
        };
        self.window = Bytes::from_owner(buffer);
        Ok(())
    }

    /// Reads block by block; those that cannot be read are left zero.
    async fn load_blocks(&mut self, offset: u64, bytes: usize) -> Result<Buffer, LogError> {
        let mut whole = Buffer::with_capacity(bytes);
        while whole.len() < bytes {
            let at = offset + whole.len() as u64;
            match read_whole(&self.file, at, BLOCK_BYTES).await {
                Ok(block) => whole.extend_from_slice(&block),
                Err(error) if is_damage(&error) => {
                    self.unreadable += 1;
                    whole.resize(whole.len() + BLOCK_BYTES);
                }
                Err(error) => return Err(self.problem(at, error)),
            }
        }
        Ok(whole)
    }

    fn problem(&self, offset: u64, error: io::Error) -> LogError {
        LogError::io(format!("reading segment {:016x} at offset {offset}", self.generation), error)
    }
}

/// Reads exactly `bytes`, a whole number of blocks, from `offset`.
pub(crate) async fn read_whole<F: File>(file: &F, offset: u64, bytes: usize) -> io::Result<Buffer> {
    assert!(bytes > 0 && bytes.is_multiple_of(BLOCK_BYTES), "direct reads take whole blocks");
    let mut whole: Option<Buffer> = None;
    let mut tries = 0;
    loop {
        let have = whole.as_ref().map_or(0, |buffer| buffer.len());
        if have == bytes
            && let Some(whole) = whole
        {
            return Ok(whole);
        }
        let rest = Buffer::with_capacity(bytes - have);
        let (result, mut rest) = file.read_at(rest, offset + have as u64).await;
        let count = match result {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count.min(bytes - have) / BLOCK_BYTES * BLOCK_BYTES,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        if count == 0 {
            tries += 1;
            if tries > SHORT_READS {
                return Err(io::Error::other("the disk keeps giving less than a block"));
            }
            continue;
        }
        rest.resize(count);
        match &mut whole {
            None if count == bytes => return Ok(rest),
            None => {
                let mut buffer = Buffer::with_capacity(bytes);
                buffer.extend_from_slice(&rest);
                whole = Some(buffer);
            }
            Some(whole) => whole.extend_from_slice(&rest),
        }
    }
}

/// Whether an error says that the blocks themselves cannot be read.
fn is_damage(error: &io::Error) -> bool {
    /// As Linux numbers them: EIO, ENODATA, EBADMSG, EILSEQ, EREMOTEIO.
    const MEDIUM: [i32; 5] = [5, 61, 74, 84, 121];
    match error.raw_os_error() {
        Some(code) => MEDIUM.contains(&code),
        None => matches!(
            error.kind(),
            io::ErrorKind::Other | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
        ),
    }
}
