//! The window that moves over a segment.

use std::path::Path;

use bytes::Bytes;
use futures_util::FutureExt;
use woodchuck_io::limits::BLOCK_BYTES;

use super::memory::{MemoryDisk, MemoryFile};
use crate::limits::{WINDOW_BYTES, WINDOWS_AHEAD};
use crate::reader::{Reader, Source};

const BLOCK: u64 = BLOCK_BYTES as u64;
const WINDOW: u64 = WINDOW_BYTES as u64;
/// Several windows, the last of which is not full.
const BYTES: usize = 5 * WINDOW_BYTES + 3 * BLOCK_BYTES;

/// Content in which no two places look alike.
fn content() -> Vec<u8> {
    (0..BYTES as u64 / 8).flat_map(u64::to_le_bytes).collect()
}

fn file() -> MemoryFile {
    MemoryDisk::default().put(Path::new("segment"), content())
}

fn span(reader: &mut Reader<MemoryFile>, offset: u64, bytes: usize) -> Option<Bytes> {
    let read = reader.span(offset, bytes).now_or_never().expect("a disk in memory never waits");
    read.expect("the file can be read")
}

/// Frames of many sizes one behind the other, as a walk reads them: a block, then the whole.
#[test]
fn spans_are_the_files_bytes_wherever_windows_end() {
    let (content, file) = (content(), file());
    for (short, sizes) in [(None, [300 << 10, 5000, 1 << 20, 100]), (Some(9 << 10), [70_000; 4])] {
        if let Some(bytes) = short {
            file.shorten_reads(bytes);
        }
        let mut reader = Reader::new(Source::new(file.clone(), 1, BYTES as u64));
        let (mut offset, mut crossed) = (0, 0);
        for size in sizes.into_iter().cycle() {
            let block = span(&mut reader, offset, BLOCK_BYTES);
            let Some(block) = block else { break };
            let at = offset as usize;
            assert_eq!(block, content[at..at + BLOCK_BYTES]);
            let Some(whole) = span(&mut reader, offset, size) else { break };
            assert!(whole == content[at..at + size], "the {size} bytes at {offset}");
            let end = offset + size as u64;
            crossed += u64::from(offset / WINDOW != (end - 1) / WINDOW);
            offset = end.next_multiple_of(BLOCK);
        }
        assert!(crossed > 2, "spans go past the ends of windows");
        assert!(offset > 4 * WINDOW, "most of the file was read");
    }
}

#[test]
fn the_window_goes_back_and_leaps_forward() {
    let (content, file) = (content(), file());
    let mut reader = Reader::new(Source::new(file, 1, BYTES as u64));
    for offset in [BLOCK, 0, 3 * WINDOW + BLOCK, 2 * WINDOW, 0, 5 * WINDOW] {
        let at = offset as usize;
        let found = span(&mut reader, offset, 2 * BLOCK_BYTES).expect("the file is longer");
        assert!(found == content[at..at + 2 * BLOCK_BYTES], "at {offset}");
    }
    assert_eq!(span(&mut reader, BYTES as u64 - BLOCK, 2 * BLOCK_BYTES), None);
    assert_eq!(span(&mut reader, BYTES as u64, BLOCK_BYTES), None);
}

#[test]
fn a_few_windows_are_read_ahead_and_each_once() {
    let file = file();
    let mut reader = Reader::new(Source::new(file.clone(), 1, BYTES as u64));
    for window in 0..=BYTES as u64 / WINDOW {
        for offset in [0, BLOCK] {
            span(&mut reader, window * WINDOW + offset, BLOCK_BYTES).expect("the file is longer");
        }
        let begun = file.reads().len() as u64;
        let windows = (BYTES as u64).div_ceil(WINDOW);
        assert!(begun >= windows.min(window + 2), "the next one is read ahead");
        assert!(begun <= window + 1 + WINDOWS_AHEAD as u64, "and only a few");
        let expected: Vec<u64> = (0..begun).map(|window| window * WINDOW).collect();
        assert_eq!(file.reads(), expected);
    }
}

/// One in a window that was read ahead, in the middle of a span that goes past its end.
#[test]
fn a_block_that_cannot_be_read_is_zeros_and_counted_once() {
    let (content, file) = (content(), file());
    let number = 2 * WINDOW / BLOCK - 2;
    file.make_unreadable(number);
    let mut reader = Reader::new(Source::new(file, 1, BYTES as u64));
    span(&mut reader, 0, BLOCK_BYTES).expect("the file is longer");
    assert_eq!(reader.unreadable().count(), 0, "nobody looked there yet");
    for offset in [WINDOW, (number - 1) * BLOCK] {
        span(&mut reader, offset, BLOCK_BYTES).expect("the file is longer");
    }
    let first = (number - 1) * BLOCK;
    let found = span(&mut reader, first, 5 * BLOCK_BYTES).expect("the file is longer");
    let at = first as usize;
    let mut expected = content[at..at + 5 * BLOCK_BYTES].to_vec();
    expected[BLOCK_BYTES..2 * BLOCK_BYTES].fill(0);
    assert!(found == expected);
    assert_eq!(reader.unreadable().count(), 1);
}

/// Neither does the disk rest where one segment ends, nor is anything read twice.
#[test]
fn the_next_segment_is_read_ahead() {
    let content = content();
    let (one, other) = (file(), file());
    let mut reader = Reader::new(Source::new(one.clone(), 1, 2 * WINDOW));
    reader.expect_next(Some(Source::new(other.clone(), 2, BYTES as u64)));
    span(&mut reader, 0, BLOCK_BYTES).expect("the file is longer");
    span(&mut reader, WINDOW, BLOCK_BYTES).expect("the file is longer");
    assert_eq!(other.reads()[..1], [0], "its first window is read ahead");
    assert!(other.reads().len() <= WINDOWS_AHEAD, "and only a few");
    assert_eq!(span(&mut reader, 2 * WINDOW, BLOCK_BYTES), None, "it is no part of the first");
    let mut reader = reader.into_next().expect("there is a next one");
    for offset in (0..BYTES as u64).step_by(BLOCK_BYTES) {
        let at = offset as usize;
        let found = span(&mut reader, offset, BLOCK_BYTES).expect("the file is longer");
        assert!(found == content[at..at + BLOCK_BYTES], "at {offset}");
    }
    assert_eq!(one.reads(), [0, WINDOW]);
    let windows: Vec<u64> = (0..BYTES as u64).step_by(WINDOW_BYTES).collect();
    assert_eq!(other.reads(), windows);
    assert!(reader.into_next().is_none(), "that was the last");
}

/// What was read ahead of the next segment is of no use before this one's end is reached.
#[test]
fn a_reader_that_goes_back_forgets_the_next_segment() {
    let content = content();
    let other = MemoryDisk::default().put(Path::new("other"), vec![7; BYTES]);
    let mut reader = Reader::new(Source::new(file(), 1, 2 * WINDOW));
    reader.expect_next(Some(Source::new(other, 2, BYTES as u64)));
    for offset in [WINDOW, 0, WINDOW, 0] {
        let at = offset as usize;
        let found = span(&mut reader, offset, BLOCK_BYTES).expect("the file is longer");
        assert!(found == content[at..at + BLOCK_BYTES], "at {offset}");
    }
    let mut reader = reader.into_next().expect("there is a next one");
    assert_eq!(span(&mut reader, 0, 8).as_deref(), Some(&[7; 8][..]));
}
