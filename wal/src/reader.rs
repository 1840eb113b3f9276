//! Reading a segment that may be damaged, in bounded memory.
//!
//! The fault model: any block may be unreadable, and reads may be short. A block that the disk
//! cannot read is taken for zeros, which no header is and no checksum of anything else allows,
//! and is counted. Errors that say nothing about the blocks (no memory, no permission) are errors.
//!
//! Windows are read one behind the other, and a few ahead of the one that is looked at, so that the
//! disk works while checksums are computed. They go over from one segment to the next, so that it
//! works there, too.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use woodchuck_io::limits::BLOCK_BYTES;
use woodchuck_io::{Buffer, File};

use crate::blocks::Blocks;
use crate::error::LogError;
use crate::limits::{WINDOW_BYTES, WINDOWS_AHEAD, WINDOWS_UNDER_WAY};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Reads that may come back with less than a block before the reader gives up.
const SHORT_READS: u32 = 16;

/// What is read: a segment from its beginning.
#[derive(Clone)]
pub(crate) struct Source<F> {
    file: F,
    generation: u64,
    /// Up to where; whole blocks.
    length: u64,
}

impl<F> Source<F> {
    /// The whole blocks in the first `length` bytes of a segment's file.
    pub(crate) const fn new(file: F, generation: u64, length: u64) -> Self {
        Self { file, generation, length: length / BLOCK * BLOCK }
    }
}

/// A window on a segment that moves forward.
pub(crate) struct Reader<F> {
    source: Source<F>,
    /// The segment that will be read behind this one.
    next: Option<Source<F>>,
    /// Where `window` begins.
    start: u64,
    /// What was read last; holds whole blocks.
    window: Bytes,
    /// The windows behind that, in order and without gaps; behind the last of this segment, those
    /// of the next.
    ahead: VecDeque<Ahead>,
    /// Blocks that could not be read.
    unreadable: Blocks,
}

/// A window that is read before it is needed.
struct Ahead {
    is_of_next: bool,
    offset: u64,
    bytes: usize,
    read: Read,
}

enum Read {
    UnderWay(Pin<Box<dyn Future<Output = io::Result<Buffer>>>>),
    Done(io::Result<Buffer>),
}

impl<F: File> Reader<F> {
    pub(crate) fn new(source: Source<F>) -> Self {
        Self {
            source,
            next: None,
            start: 0,
            window: Bytes::new(),
            ahead: VecDeque::new(),
            unreadable: Blocks::default(),
        }
    }

    /// Says which segment is read next, so that its first windows can be read ahead.
    pub(crate) fn expect_next(&mut self, next: Option<Source<F>>) {
        self.next = next;
    }

    /// A reader of the next segment, which takes over what was read of it.
    pub(crate) fn into_next(mut self) -> Option<Self> {
        self.ahead.retain(|ahead| ahead.is_of_next);
        self.ahead.iter_mut().for_each(|ahead| ahead.is_of_next = false);
        let next = Self::new(self.next?);
        Some(Self { ahead: self.ahead, ..next })
    }

    /// Blocks of this segment that could not be read so far.
    pub(crate) const fn unreadable(&self) -> &Blocks {
        &self.unreadable
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
        let length = self.source.length;
        if offset > length || wanted as u64 > length - offset {
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
        assert!(self.start < self.source.length, "only what the file has is read");
        let is_elsewhere = |ahead: &Ahead| ahead.is_of_next || ahead.offset != self.start;
        if self.ahead.front().is_some_and(is_elsewhere) {
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
        while under_way < WINDOWS_UNDER_WAY
            && self.ahead.len() < WINDOWS_AHEAD
            && let Some(ahead) = self.read_behind(self.ahead.back())
        {
            self.ahead.push_back(ahead);
            under_way += 1;
        }
        self.ahead.len() > before
    }

    /// A read of the window behind the last of those ahead, if there is anything to read.
    fn read_behind(&self, last: Option<&Ahead>) -> Option<Ahead> {
        let (was_of_next, end) =
            last.map_or((false, self.start), |last| (last.is_of_next, last.end()));
        let is_of_next = was_of_next || end >= self.source.length;
        let source = if is_of_next { self.next.as_ref()? } else { &self.source };
        let offset = if is_of_next == was_of_next { end } else { 0 };
        let rest = source.length.checked_sub(offset).filter(|&rest| rest > 0)?;
        let bytes = rest.min(WINDOW_BYTES as u64) as usize;
        let file = source.file.clone();
        let read = Box::pin(async move { read_whole(&file, offset, bytes).await });
        Some(Ahead { is_of_next, offset, bytes, read: Read::UnderWay(read) })
    }

    /// Reads block by block; those that cannot be read are left zero.
    async fn load_blocks(&mut self, offset: u64, bytes: usize) -> Result<Buffer, LogError> {
        let mut whole = Buffer::with_capacity(bytes);
        while whole.len() < bytes {
            let at = offset + whole.len() as u64;
            match read_whole(&self.source.file, at, BLOCK_BYTES).await {
                Ok(block) => whole.extend_from_slice(&block),
                Err(error) if is_damage(&error) => {
                    self.unreadable.insert(at / BLOCK);
                    whole.resize(whole.len() + BLOCK_BYTES);
                }
                Err(error) => return Err(self.problem(at, error)),
            }
        }
        Ok(whole)
    }

    fn problem(&self, offset: u64, error: io::Error) -> LogError {
        let segment = self.source.generation;
        LogError::io(format!("reading segment {segment:016x} at offset {offset}"), error)
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
