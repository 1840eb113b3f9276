//! How frames are made: what they gather, and then their number, their place and their header.
//!
//! What is promised: numbers are consecutive, frames of a segment stand one behind the other and
//! never past its end, each header is bound to the frame before, and says of the watermark and the
//! trim point only what was true when it was built.

use std::rc::Rc;

use bytes::Bytes;
use woodchuck_io::Buffer;
use woodchuck_io::limits::BLOCK_BYTES;

use super::{Live, State};
use crate::Statistics;
use crate::format::{HEADER_BYTES, Header, Kind, START_BYTES, Start, VERSION};
use crate::format::{checksum, frame_bytes};
use crate::options::LogOptions;
use crate::segments::Segment;

/// A frame that takes commits, or waits for a slot.
pub(super) struct Gathering<T> {
    /// Room for the header, then the commits so far.
    pub(super) buffer: Buffer,
    /// One for each commit.
    pub(super) contexts: Vec<T>,
    /// One for each commit that is a reference: what it refers to.
    pub(super) bodies: Vec<Bytes>,
    /// What its commits count against the bound of the queue.
    pub(super) charged: usize,
    /// Of the payload, once nothing more is added: computed while the slots are busy, so that none
    /// of them waits for it.
    pub(super) checksum: Option<u32>,
}

/// A frame that was handed to the disk.
pub(super) struct Flight<T> {
    pub(super) kind: Kind,
    /// The trim point it carries; durable when the frame and all before it are.
    pub(super) trim: u64,
    pub(super) generation: u64,
    pub(super) offset: u64,
    pub(super) payload_bytes: usize,
    pub(super) contexts: Vec<T>,
    pub(super) bodies: Vec<Bytes>,
    pub(super) charged: usize,
    /// Its bytes, once they are durable.
    pub(super) durable: Option<Buffer>,
}

/// A frame for a slot to write.
pub(crate) struct Write<F> {
    pub(crate) lsn: u64,
    pub(crate) segment: Rc<Segment<F>>,
    pub(crate) offset: u64,
    pub(crate) buffer: Buffer,
}

/// A frame that survived, and is to be written again.
#[derive(Clone, Debug)]
pub(crate) struct Carried {
    pub(crate) lsn: u64,
    pub(crate) commits: u32,
    /// Of a frame with commits; empty for every other.
    pub(crate) payload: Bytes,
    /// Those that it refers to, in order, once they were read.
    pub(crate) bodies: Vec<Bytes>,
}

impl Carried {
    /// Bytes of its copy.
    pub(crate) fn frame_bytes(&self) -> usize {
        frame_bytes(self.payload.len())
    }
}

impl<T> Gathering<T> {
    pub(super) fn new(mut buffer: Buffer) -> Self {
        buffer.resize(HEADER_BYTES);
        let (contexts, bodies) = (Vec::new(), Vec::new());
        Self { buffer, contexts, bodies, charged: 0, checksum: None }
    }

    /// Adds a commit, for which there is room.
    pub(super) fn add(&mut self, parts: &[&[u8]], context: T, charged: usize) {
        for part in parts {
            self.buffer.extend_from_slice(part);
        }
        self.contexts.push(context);
        self.charged += charged;
    }

    /// Bytes of the frame as it is now, padding included.
    pub(super) fn bytes(&self) -> usize {
        frame_bytes(self.buffer.len() - HEADER_BYTES)
    }

    pub(super) fn has_room(&self, stored: usize, options: &LogOptions) -> bool {
        self.buffer.len() + stored <= options.frame_bytes && stored <= self.buffer.spare()
    }
}

impl<F, T> State<F, T> {
    /// Goes over to a segment, and builds its start frame.
    pub(super) fn start_segment(&mut self, segment: Segment<F>) -> Write<F> {
        self.enter_segment(segment);
        self.build_start()
    }

    /// Goes over to a segment. Its start frame must be built before anything but carried frames.
    fn enter_segment(&mut self, mut segment: Segment<F>) {
        assert!(
            self.live.back().is_none_or(|live| live.segment.generation < segment.generation),
            "generations grow"
        );
        segment.first_lsn = self.next_lsn;
        self.live.push_back(Live { segment: Rc::new(segment), used: 0 });
        self.offset = BLOCK_BYTES as u64;
        self.over_capacity = self.bytes_needed() > self.options.capacity_bytes;
    }

    fn build_start(&mut self) -> Write<F> {
        let segment = &self.live.back().expect("a segment was entered").segment;
        let start = Start {
            version: VERSION,
            block_bytes: BLOCK_BYTES as u32,
            segment_bytes: segment.bytes,
            first_lsn: segment.first_lsn,
        };
        let mut frame = Gathering::new(Buffer::with_capacity(HEADER_BYTES + START_BYTES));
        frame.buffer.extend_from_slice(&start.encode());
        let behind = std::mem::replace(&mut self.offset, 0);
        let write = self.build(Kind::Start, 0, frame);
        self.offset = behind;
        write
    }

    /// Begins the first segment after recovery: copies of the frames that are carried over, and a
    /// start frame. The start frame makes the copies part of the log, so it must be written when
    /// they are durable, in whatever order they become so; it comes last here. All of them say what
    /// was known before any is.
    pub(crate) fn begin(&mut self, segment: Segment<F>, frames: &[Carried]) -> Vec<Write<F>> {
        assert!(self.live.iter().all(|live| live.segment.first_lsn < self.next_lsn));
        self.enter_segment(segment);
        let mut writes = Vec::with_capacity(frames.len() + 1);
        for carried in frames {
            assert_eq!(carried.lsn, self.next_lsn, "carried frames keep their numbers");
            let mut frame = Gathering::new(Buffer::with_capacity(carried.frame_bytes()));
            frame.buffer.extend_from_slice(&carried.payload);
            if carried.commits > 0 {
                self.newest_data = carried.lsn;
            }
            writes.push(self.build(Kind::Carried, carried.commits, frame));
        }
        writes.push(self.build_start());
        // Opening counts for none but the last, which is written alone.
        self.statistics.most_in_flight = 1;
        writes
    }

    /// Moves a frame that fills little of its buffer to a smaller one: readers hold on to it for
    /// as long as they hold a commit of it.
    pub(super) fn fit(&mut self, mut frame: Gathering<T>) -> Gathering<T> {
        if frame.buffer.capacity() > 2 * frame.bytes() {
            let mut small = Buffer::with_capacity(frame.bytes());
            small.extend_from_slice(&frame.buffer);
            let mut large = std::mem::replace(&mut frame.buffer, small);
            if large.capacity() == self.options.frame_bytes {
                large.resize(0);
                self.kept_buffer = Some(large);
            }
        }
        frame
    }

    /// Gives a frame its number, its place and its header, and puts it in flight.
    pub(super) fn build(&mut self, kind: Kind, commits: u32, frame: Gathering<T>) -> Write<F> {
        let Gathering { mut buffer, contexts, bodies, charged, checksum: payload_checksum } = frame;
        // The segment that is written to: every caller went over to one.
        let live = self.live.back_mut().expect("a frame is built for a segment");
        let payload_bytes = buffer.len() - HEADER_BYTES;
        let header = Header {
            kind,
            commits,
            identity: self.identity,
            generation: live.segment.generation,
            offset: self.offset,
            lsn: self.next_lsn,
            watermark: self.watermark,
            trim: self.trim,
            payload_bytes: payload_bytes as u32,
            previous: self.previous,
            payload_checksum: payload_checksum.unwrap_or_else(|| checksum(&buffer[HEADER_BYTES..])),
        };
        let room = buffer.first_chunk_mut().expect("a frame gathers behind room for its header");
        self.previous = header.encode(room);
        buffer.pad_to_block();
        assert!(header.end() <= live.segment.bytes, "a frame stays in its segment");
        live.used = live.used.max(header.end());
        let write = Write {
            lsn: self.next_lsn,
            segment: Rc::clone(&live.segment),
            offset: self.offset,
            buffer,
        };
        self.offset = header.end();
        self.next_lsn += 1;
        self.carried_watermark = header.watermark;
        self.carried_trim = header.trim;
        if kind == Kind::Data {
            self.newest_data = header.lsn;
        }
        self.flight.push_back(Flight {
            kind,
            trim: header.trim,
            generation: header.generation,
            offset: header.offset,
            payload_bytes,
            contexts,
            bodies,
            charged,
            durable: None,
        });
        assert_eq!(self.watermark + self.flight.len() as u64, self.next_lsn);
        self.statistics.count_frame(kind, &write.buffer, self.flight.len());
        write
    }
}

impl Statistics {
    fn count_frame(&mut self, kind: Kind, buffer: &Buffer, in_flight: usize) {
        match kind {
            Kind::Start => self.start_frames += 1,
            Kind::Data => self.data_frames += 1,
            Kind::Witness => self.witness_frames += 1,
            Kind::Carried => self.carried_frames += 1,
        }
        self.bytes_written += buffer.len() as u64;
        self.most_in_flight = self.most_in_flight.max(in_flight as u64);
    }
}
