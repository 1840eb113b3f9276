//! Reading data blocks one behind the other, in few large reads, the next one while this one is
//! used.
//!
//! What is read here does not go through the cache: a scan would push everything else out of it.

use std::future::Future;
use std::io;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::FutureExt;
use woodchuck_io::{Buffer, File};

use super::index::{Index, Place};
use super::reader::Table;
use crate::limits::{PAGE_BYTES, READ_AHEAD_BYTES_MAX, READ_AHEAD_BYTES_MIN};

const PAGE: u64 = PAGE_BYTES as u64;

type Read = Pin<Box<dyn Future<Output = io::Result<Buffer>>>>;

/// A part of the file: whole pages around blocks that follow each other.
#[derive(Clone, Copy)]
struct Window {
    start: u64,
    bytes: usize,
    /// The block behind the last one in it, in its partition.
    next: usize,
}

#[derive(Default)]
pub(crate) struct ReadAhead {
    /// Where it begins in the file.
    start: u64,
    window: Bytes,
    ahead: Option<(Window, Read)>,
    /// How much is read the next time.
    bytes: usize,
}

impl ReadAhead {
    /// Begins small again: the next blocks are elsewhere.
    pub(crate) fn restart(&mut self) {
        self.ahead = None;
        self.bytes = 0;
    }

    /// The bytes of a block, and the begin of the reads for those behind it. `None` if they cannot
    /// be read so: then it is to be read by itself, which tells why, if that fails too.
    pub(crate) async fn block<F: File>(
        &mut self,
        table: &Table<F>,
        index: &Index,
        number: usize,
    ) -> Option<Bytes> {
        let place = index.place(number);
        if let Some(bytes) = self.within(place) {
            return Some(bytes);
        }
        let (window, read) = match self.ahead.take() {
            Some((window, read)) if window.start <= place.offset && place.end() <= end(window) => {
                (window, read)
            }
            _ => {
                let window = self.plan(index, number);
                (window, Box::pin(table.read(window.start, window.bytes)) as Read)
            }
        };
        // The device works on the next while this one is waited for, and used.
        let mut ahead = None;
        if window.next < index.len() && index.place(window.next).offset >= place.offset {
            let next = self.plan(index, window.next);
            ahead = Some((next, Box::pin(table.read(next.start, next.bytes)) as Read));
        }
        let buffer = read_beside(read, &mut ahead).await;
        self.ahead = ahead;
        self.start = window.start;
        self.window = buffer.map(Bytes::from_owner).unwrap_or_default();
        let found = self.within(place);
        if found.is_none() {
            // Whatever is wrong there: it shall spoil small reads, if any.
            self.restart();
        }
        found
    }

    fn within(&self, place: Place) -> Option<Bytes> {
        let from = place.offset.checked_sub(self.start)? as usize;
        let to = from.checked_add(place.bytes as usize)?;
        (to <= self.window.len()).then(|| self.window.slice(from..to))
    }

    /// The window that begins with this block. Windows grow from one to the next.
    fn plan(&mut self, index: &Index, number: usize) -> Window {
        let wanted = self.bytes.clamp(READ_AHEAD_BYTES_MIN, READ_AHEAD_BYTES_MAX);
        self.bytes = wanted * 2;
        let start = index.place(number).offset / PAGE * PAGE;
        let behind = |block: usize| index.place(block).end().next_multiple_of(PAGE) - start;
        let mut next = number + 1;
        while next < index.len() && behind(next) <= wanted as u64 {
            next += 1;
        }
        Window { start, bytes: behind(next - 1) as usize, next }
    }
}

fn end(window: Window) -> u64 {
    window.start + window.bytes as u64
}

/// What was read, while the other read goes on. `None` if it could not be read.
async fn read_beside(mut read: Read, ahead: &mut Option<(Window, Read)>) -> Option<Buffer> {
    let mut done = (&mut read).now_or_never();
    if let Some((window, mut next)) = ahead.take() {
        // Begins it. What is done at once stays done.
        match (&mut next).now_or_never() {
            Some(result) => *ahead = Some((window, Box::pin(std::future::ready(result)))),
            None => *ahead = Some((window, next)),
        }
    }
    if done.is_none() {
        done = Some(read.await);
    }
    done.and_then(Result::ok)
}
