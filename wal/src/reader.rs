//! Reading a segment that may be damaged, in bounded memory.
//!
//! The fault model: any block may be unreadable, and reads may be short. A block that the disk
//! cannot read is taken for zeros, which no header is and no checksum of anything else allows,
//! and is counted. Errors that say nothing about the blocks (no memory, no permission) are errors.
//!
//! Windows are read one behind the other, and a few ahead of the one that is looked at, so that the
//! disk works while checksums are computed.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use woodchuck_io::limits::BLOCK_BYTES;
use woodchuck_io::{Buffer, File};

use crate::error::LogError;
use crate::limits::{WINDOW_BYTES, WINDOWS_AHEAD, WINDOWS_UNDER_WAY};

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
    /// The windows behind that, in order and without gaps.
    ahead: VecDeque<Ahead>,
    /// Blocks that could not be read.
    unreadable: u64,
}

/// A window that is read before it is needed.
struct Ahead {
    offset: u64,
    bytes: usize,
    read: Read,
}

enum Read {
    UnderWay(Pin<Box<dyn Future<Output = io::Result<Buffer>>>>),
    Done(io::Result<Buffer>),
}

impl<F: File> Reader<F> {
    pub(crate) fn new(file: F, generation: u64, length: u64) -> Self {
        let length = length / BLOCK * BLOCK;
        let (window, ahead) = (Bytes::new(), VecDeque::new());
        Self { file, generation, length, start: 0, window, ahead, unreadable: 0 }
    }

    /// Blocks that could not be read so far.
    pub(crate) const fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// The bytes from `offset` on, `bytes` of them, or `None` if the file is shorter. `offset` is
    /// at a block. The slice shares the window's memory, unless it goes past its end.
    pub(crate) async fn span(
        &mut self,
        offset: u64,
        bytes: usize,
    ) -> Result<Option<Bytes>, LogError> {
        assert!(offset.is_multiple_of(BLOCK), "frames and blocks stand at block boundaries");
        let wanted = bytes.next_multiple_of(BLOCK_BYTES);
        if offset > self.length || wanted as u64 > self.length - offset {
            return Ok(None);
        }
        if offset < self.start || offset > self.end() {
            (self.start, self.window) = (offset, Bytes::new());
        }
        if offset == self.end() && wanted > 0 {
            self.advance().await?;
        }
        let from = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        if from + wanted <= self.window.len() {
            return Ok(Some(self.window.slice(from..from + bytes)));
        }
        let mut whole = Buffer::with_capacity(wanted);
        whole.extend_from_slice(&self.window[from..]);
        while whole.len() < wanted {
            self.advance().await?;
            let missing = wanted - whole.len();
            whole.extend_from_slice(&self.window[..missing.min(self.window.len())]);
        }
        Ok(Some(Bytes::from_owner(whole).slice(..bytes)))
    }

    /// Where the window ends.
    fn end(&self) -> u64 {
        self.start + self.window.len() as u64
    }

    /// Moves the window on to what is behind it, which there must be.
    async fn advance(&mut self) -> Result<(), LogError> {
        // Let go of the old window before taking memory for another.
        (self.start, self.window) = (self.end(), Bytes::new());
        let offset = self.start;
        let (bytes, result) = self.next_window().await;
        let buffer = match result {
            Ok(buffer) => buffer,
            Err(error) if is_damage(&error) => self.load_blocks(offset, bytes).await?,
            Err(error) => return Err(self.problem(offset, error)),
        };
        self.window = Bytes::from_owner(buffer);
        Ok(())
    }

    /// Reads the window at `start`, and those behind it ahead.
    async fn next_window(&mut self) -> (usize, io::Result<Buffer>) {
        assert!(self.start < self.length, "only what the file has is read");
        if self.ahead.front().is_some_and(|ahead| ahead.offset != self.start) {
            self.ahead.clear();
        }
        poll_fn(|context| {
            self.ahead.iter_mut().for_each(|ahead| ahead.poll(context));
            if self.begin_reads() {
                self.ahead.iter_mut().for_each(|ahead| ahead.poll(context));
                // A read may reach the disk only when this task lets others run, which must not be
                // when it has run out of windows: the disk would have nothing to do meanwhile.
                if self.ahead.back().is_some_and(|last| !last.is_done()) {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            match self.ahead.pop_front_if(|first| first.is_done()) {
                Some(Ahead { bytes, read: Read::Done(result), .. }) => Poll::Ready((bytes, result)),
                _ => Poll::Pending,
            }
        })
        .await
    }

    /// Begins the reads that may be begun now. Returns whether there are any. As many are under
    /// way as may be, whatever waits to be looked at: some disks report reads that overlap all at
    /// once, and have nothing to do while the first of them is looked at.
    fn begin_reads(&mut self) -> bool {
        let mut under_way = self.ahead.iter().filter(|ahead| !ahead.is_done()).count();
        let before = self.ahead.len();
        let mut offset = self.ahead.back().map_or(self.start, Ahead::end);
        while under_way < WINDOWS_UNDER_WAY
            && self.ahead.len() < WINDOWS_AHEAD
            && offset < self.length
        {
            let bytes = (self.length - offset).min(WINDOW_BYTES as u64) as usize;
            let file = self.file.clone();
            let read = Box::pin(async move { read_whole(&file, offset, bytes).await });
            self.ahead.push_back(Ahead { offset, bytes, read: Read::UnderWay(read) });
            offset += bytes as u64;
            under_way += 1;
        }
        self.ahead.len() > before
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

impl Ahead {
    const fn end(&self) -> u64 {
        self.offset + self.bytes as u64
    }

    const fn is_done(&self) -> bool {
        matches!(self.read, Read::Done(_))
    }

    fn poll(&mut self, context: &mut Context<'_>) {
        if let Read::UnderWay(read) = &mut self.read
            && let Poll::Ready(result) = read.as_mut().poll(context)
        {
            self.read = Read::Done(result);
        }
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
pub(crate) fn is_damage(error: &io::Error) -> bool {
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
