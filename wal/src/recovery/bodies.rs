//! Files of bodies, as recovery finds them.
//!
//! A frame that refers to a body was built when the body was durable. So whatever a crash did, a body
//! that is missing, or not what was written, is damage.
//!
//! Bodies are read in the order in which frames refer to them, and a few before they are asked for,
//! so that the disk works while others are checked and replayed.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use woodchuck_io::limits::BLOCK_BYTES;
use woodchuck_io::{Buffer, Disk, File};

use crate::error::LogError;
use crate::format::{Name, Reference, checksum};
use crate::limits::{BODIES_AHEAD, BODIES_AHEAD_BYTES};
use crate::reader::{is_damage, read_whole};
use crate::segments::Folder;

/// The files of bodies in a log's directory.
pub(crate) struct BodyFiles<F> {
    files: BTreeMap<u64, Found<F>>,
}

/// A file of bodies, and its length.
pub(crate) struct Found<F> {
    pub(crate) file: F,
    pub(crate) length: u64,
}

impl<F: File> BodyFiles<F> {
    pub(crate) async fn open<D: Disk<File = F>>(
        folder: &Folder<D>,
        generations: &[u64],
    ) -> Result<Self, LogError> {
        let mut files = BTreeMap::new();
        for &generation in generations {
            let name = Name::Bodies(generation);
            let file = folder.open(name).await?;
            let length = file.length().await;
            let length =
                length.map_err(|error| folder.problem("measuring", &folder.file(name), error))?;
            files.insert(generation, Found { file, length });
        }
        Ok(Self { files })
    }

    /// All of them, by generation.
    pub(crate) fn files(&self) -> impl Iterator<Item = (u64, &Found<F>)> {
        self.files.iter().map(|(&generation, found)| (generation, found))
    }

    pub(crate) fn highest_generation(&self) -> u64 {
        self.files.last_key_value().map_or(0, |(&generation, _)| generation)
    }

    /// A body, or what is wrong with it. Fails for what says nothing about the data.
    pub(crate) async fn read(&self, reference: &Reference) -> Outcome {
        let &Reference { generation, offset, length, .. } = reference;
        let name = Name::Bodies(generation);
        let place = format!("its commit of {length} bytes at offset {offset} of {name}");
        let Some(found) = self.files.get(&generation) else {
            return Ok(Err(format!("{place} is lost: there is no such file")));
        };
        let bytes = (length as usize).next_multiple_of(BLOCK_BYTES);
        if offset + bytes as u64 > found.length {
            let has = found.length;
            return Ok(Err(format!("{place} is lost: the file has {has} bytes")));
        }
        if bytes == 0 {
            return Ok(Ok(Bytes::new()));
        }
        let body = match read_patiently(&found.file, offset, bytes).await {
            Ok(buffer) => Bytes::from_owner(buffer).slice(..length as usize),
            Err(error) if is_damage(&error) => {
                return Ok(Err(format!("{place} cannot be read: {error}")));
            }
            Err(error) => {
                return Err(LogError::io(format!("reading {name} at offset {offset}"), error));
            }
        };
        if checksum(&body) != reference.checksum {
            return Ok(Err(format!("{place} is not what was written")));
        }
        Ok(Ok(body))
    }
}

/// What became of a reading: a body, or what is wrong with it; or what says nothing about the data.
type Outcome = Result<Result<Bytes, String>, LogError>;

/// The bodies that are expected to be asked for, the first of which are being read.
pub(crate) struct Bodies<F> {
    files: Rc<BodyFiles<F>>,
    /// Those that no reading was begun of.
    expected: VecDeque<Reference>,
    /// Readings under way or done, of those before.
    begun: VecDeque<Reading>,
    /// Bytes of those.
    begun_bytes: u64,
}

struct Reading {
    bytes: u64,
    state: ReadingState,
}

enum ReadingState {
    UnderWay(Pin<Box<dyn Future<Output = Outcome>>>),
    Done(Outcome),
}

impl<F: File> Bodies<F> {
    pub(crate) const fn new(files: Rc<BodyFiles<F>>) -> Self {
        Self { files, expected: VecDeque::new(), begun: VecDeque::new(), begun_bytes: 0 }
    }

    /// Says which bodies will be asked for behind those that are expected already.
    pub(crate) async fn expect(&mut self, references: impl Iterator<Item = Reference>) {
        self.expected.extend(references);
        // To be under way, a reading must have been asked how far it is.
        poll_fn(|context| {
            self.advance(context);
            Poll::Ready(())
        })
        .await;
    }

    /// Whether as many are being read as may be, and more are expected.
    pub(crate) fn is_full(&self) -> bool {
        !self.expected.is_empty()
    }

    /// The next body that is expected.
    pub(crate) async fn next(&mut self) -> Outcome {
        poll_fn(|context| {
            self.advance(context);
            let is_done = |first: &mut Reading| matches!(first.state, ReadingState::Done(_));
            assert!(!self.begun.is_empty(), "only what is expected is asked for");
            match self.begun.pop_front_if(is_done) {
                Some(Reading { bytes, state: ReadingState::Done(outcome) }) => {
                    self.begun_bytes -= bytes;
                    Poll::Ready(outcome)
                }
                _ => Poll::Pending,
            }
        })
        .await
    }

    /// Begins the readings that may be begun, and has all of them go on.
    fn advance(&mut self, context: &mut Context<'_>) {
        while let Some(reference) = self.expected.pop_front_if(|next| {
            let bytes = self.begun_bytes + u64::from(next.length);
            let is_one_of_few = self.begun.len() < BODIES_AHEAD && bytes <= BODIES_AHEAD_BYTES;
            self.begun.is_empty() || is_one_of_few
        }) {
            let files = Rc::clone(&self.files);
            let bytes = u64::from(reference.length);
            let read = Box::pin(async move { files.read(&reference).await });
            self.begun.push_back(Reading { bytes, state: ReadingState::UnderWay(read) });
            self.begun_bytes += bytes;
        }
        for reading in &mut self.begun {
            if let ReadingState::UnderWay(read) = &mut reading.state
                && let Poll::Ready(outcome) = read.as_mut().poll(context)
            {
                reading.state = ReadingState::Done(outcome);
            }
        }
    }
}

/// Reads whole blocks; each by itself, like those of frames, if the disk fails to read them together:
/// an error of a moment is no damage.
async fn read_patiently<F: File>(file: &F, offset: u64, bytes: usize) -> io::Result<Buffer> {
    match read_whole(file, offset, bytes).await {
        Err(error) if is_damage(&error) => {}
        read => return read,
    }
    let mut whole = Buffer::with_capacity(bytes);
    while whole.len() < bytes {
        let block = read_whole(file, offset + whole.len() as u64, BLOCK_BYTES).await?;
        whole.extend_from_slice(&block);
    }
    Ok(whole)
}
