//! Images of logs, made frame by frame, and what recovery makes of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use futures_util::FutureExt;

use super::memory::{MemoryDisk, MemoryFile};
use crate::Recovered;
use crate::error::LogError;
use crate::format::{
    Commits, HEADER_BYTES, Header, Kind, Name, Reference, Start, Stored, VERSION, checksum,
    frame_bytes, reference_prefix,
};
use crate::recovery::{Survey, recover, take_inventory};
use crate::segments::Folder;

pub(super) const IDENTITY: u128 = 0x1234_5678_9abc_def0_0fed_cba9_8765_4321;
pub(super) const SEGMENT_BYTES: usize = 16 * 4096;

/// A frame that was put into an image.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) generation: u64,
    pub(super) offset: usize,
    /// Header, payload and padding.
    pub(super) bytes: usize,
    /// Header and payload.
    pub(super) used: usize,
    pub(super) header: Header,
    pub(super) commits: Vec<Vec<u8>>,
}

/// A log on its way to a disk.
#[derive(Clone)]
pub(super) struct Image {
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) frames: Vec<Placed>,
    /// How many frames are in flight when a frame is built.
    pub(super) lag: u64,
    pub(super) trim: u64,
    pub(super) identity: u128,
    pub(super) version: u32,
    pub(super) next_lsn: u64,
    pub(super) previous: u32,
    generation: u64,
    pub(super) offset: usize,
    /// No watermark is below it.
    floor: u64,
}

impl Image {
    pub(super) fn new() -> Self {
        Self {
            files: BTreeMap::new(),
            frames: Vec::new(),
            lag: 0,
            trim: 1,
            identity: IDENTITY,
            version: VERSION,
            next_lsn: 1,
            previous: 0,
            generation: 0,
            offset: 0,
            floor: 1,
        }
    }

    /// A segment of zeros, as it is when it has just been prepared.
    pub(super) fn prepare(&mut self, generation: u64) {
        self.files.insert(Name::Segment(generation).to_string(), vec![0; SEGMENT_BYTES]);
    }

    /// Goes over to a segment.
    pub(super) fn start(&mut self, generation: u64) -> &mut Self {
        let name = Name::Segment(generation).to_string();
        self.files.entry(name).or_insert_with(|| vec![0; SEGMENT_BYTES]);
        self.generation = generation;
        self.offset = 0;
        let start = Start {
            version: self.version,
            block_bytes: 4096,
            segment_bytes: SEGMENT_BYTES as u64,
            first_lsn: self.next_lsn,
        };
        self.frame(Kind::Start, &start.encode(), &[])
    }

    /// What recovery does when it found that the log ends with `lsn`, after a frame with this
    /// checksum.
    pub(super) fn restart(&mut self, generation: u64, lsn: u64) -> &mut Self {
        self.previous = self
            .frames
            .iter()
            .rfind(|placed| placed.header.lsn == lsn - 1)
            .map_or(0, |placed| self.checksum_of(placed));
        self.next_lsn = lsn;
        self.floor = lsn;
        self.start(generation)
    }

    /// What recovery does when it carries frames over, from `first` to the last one placed.
    pub(super) fn carry_over(&mut self, generation: u64, first: u64) -> &mut Self {
        let carried: Vec<Placed> = (first..self.next_lsn).map(|lsn| self.find(lsn)).collect();
        self.prepare(generation);
        self.previous = self.checksum_of(&self.find(first - 1));
        (self.generation, self.offset) = (generation, 4096);
        (self.next_lsn, self.floor, self.lag) = (first, first, u64::MAX);
        for placed in carried {
            let end = placed.offset + placed.used;
            let file = &self.files[&Name::Segment(placed.generation).to_string()];
            let payload = if placed.commits.is_empty() {
                Vec::new()
            } else {
                file[placed.offset + HEADER_BYTES..end].to_vec()
            };
            let commits: Vec<&[u8]> = placed.commits.iter().map(Vec::as_slice).collect();
            self.frame(Kind::Carried, &payload, &commits);
        }
        let behind = std::mem::replace(&mut self.offset, 0);
        let start = Start {
            version: self.version,
            block_bytes: 4096,
            segment_bytes: SEGMENT_BYTES as u64,
            first_lsn: first,
        };
        self.frame(Kind::Start, &start.encode(), &[]);
        self.offset = behind;
        (self.floor, self.lag) = (self.next_lsn, 0);
        self
    }

    /// A frame of commits.
    pub(super) fn data(&mut self, commits: &[&[u8]]) -> &mut Self {
        let mut payload = Vec::new();
        for commit in commits {
            payload.extend_from_slice(&(commit.len() as u32).to_le_bytes());
            payload.extend_from_slice(commit);
        }
        self.frame(Kind::Data, &payload, commits)
    }

    /// A frame of references, to bodies that are put at these places: generation and offset.
    pub(super) fn refer(&mut self, bodies: &[(u64, usize, &[u8])]) -> &mut Self {
        let mut payload = Vec::new();
        for &(generation, offset, body) in bodies {
            let file = self.files.entry(Name::Bodies(generation).to_string());
            let file = file.or_insert_with(|| vec![0; SEGMENT_BYTES]);
            file[offset..offset + body.len()].copy_from_slice(body);
            let (offset, length) = (offset as u64, body.len() as u32);
            let reference = Reference { generation, offset, length, checksum: checksum(body) };
            payload.extend_from_slice(&reference_prefix());
            payload.extend_from_slice(&reference.encode());
        }
        let commits: Vec<&[u8]> = bodies.iter().map(|&(_, _, body)| body).collect();
        self.frame(Kind::Data, &payload, &commits)
    }

    /// The bytes of a file of bodies.
    pub(super) fn bodies(&mut self, generation: u64) -> &mut Vec<u8> {
        self.files.get_mut(&Name::Bodies(generation).to_string()).expect("there is such a file")
    }

    pub(super) fn witness(&mut self) -> &mut Self {
        self.frame(Kind::Witness, &[], &[])
    }

    fn frame(&mut self, kind: Kind, payload: &[u8], commits: &[&[u8]]) -> &mut Self {
        let header = Header {
            kind,
            commits: commits.len() as u32,
            identity: self.identity,
            generation: self.generation,
            offset: self.offset as u64,
            lsn: self.next_lsn,
            watermark: self.next_lsn.saturating_sub(self.lag).max(self.floor),
            trim: self.trim,
            payload_bytes: payload.len() as u32,
            previous: self.previous,
            payload_checksum: checksum(payload),
        };
        self.place(&header, payload, commits)
    }

    /// Puts a frame where the next one goes, whatever its header says.
    pub(super) fn place(
        &mut self,
        header: &Header,
        payload: &[u8],
        commits: &[&[u8]],
    ) -> &mut Self {
        let offset = self.offset;
        let bytes = frame_bytes(payload.len());
        let file = self.files.get_mut(&Name::Segment(self.generation).to_string());
        let file = file.expect("the segment was started");
        let frame = &mut file[offset..offset + bytes];
        frame.fill(0);
        self.previous = header.encode(frame.first_chunk_mut().expect("a frame has a header"));
        frame[HEADER_BYTES..HEADER_BYTES + payload.len()].copy_from_slice(payload);
        self.frames.push(Placed {
            generation: self.generation,
            offset,
            bytes,
            used: HEADER_BYTES + payload.len(),
            header: *header,
            commits: commits.iter().map(|commit| commit.to_vec()).collect(),
        });
        self.offset += bytes;
        self.next_lsn = header.lsn + 1;
        self
    }

    fn checksum_of(&self, placed: &Placed) -> u32 {
        let file = &self.files[&Name::Segment(placed.generation).to_string()];
        let header = Header::decode(&file[placed.offset..], placed.offset as u64);
        header.expect("the frame was placed").1
    }

    /// The bytes of a segment.
    pub(super) fn file(&mut self, generation: u64) -> &mut Vec<u8> {
        self.files.get_mut(&Name::Segment(generation).to_string()).expect("there is such a segment")
    }

    /// The bytes of a placed frame.
    pub(super) fn bytes_of(&mut self, placed: &Placed) -> &mut [u8] {
        &mut self.file(placed.generation)[placed.offset..placed.offset + placed.bytes]
    }

    /// The frame with this number that was placed last.
    pub(super) fn find(&self, lsn: u64) -> Placed {
        let found = self.frames.iter().rfind(|placed| placed.header.lsn == lsn);
        found.expect("there is such a frame").clone()
    }

    /// The commits of the frames from `from` up to, not including, `below`.
    pub(super) fn commits(&self, from: u64, below: u64) -> Vec<Vec<u8>> {
        (from..below).flat_map(|lsn| self.find(lsn).commits).collect()
    }

    pub(super) fn folder(&self) -> (Folder<MemoryDisk>, MemoryDisk) {
        let disk = MemoryDisk::default();
        for (name, bytes) in &self.files {
            disk.put(&path().join(name), bytes.clone());
        }
        (Folder::new(disk.clone(), path()), disk)
    }

    pub(super) fn recover(&self) -> Outcome {
        recover_from(&self.folder().0)
    }
}

pub(super) fn path() -> PathBuf {
    Path::new("/log").to_owned()
}

pub(super) fn segment_path(generation: u64) -> PathBuf {
    path().join(Name::Segment(generation).to_string())
}

/// What recovery found, or why not.
pub(super) type Outcome = Result<Found, LogError>;

pub(super) struct Found {
    pub(super) survey: Survey<MemoryFile>,
    pub(super) replayed: Vec<Recovered>,
}

impl Found {
    /// What is served: replayed already, or to be carried over first.
    pub(super) fn commits(&self) -> Vec<Vec<u8>> {
        let replayed = self.replayed.iter().map(|recovered| recovered.bytes.to_vec());
        let unproven = self.survey.carried.iter().flat_map(|frame| {
            let mut bodies = frame.bodies.iter();
            Commits::new(&frame.payload).map(move |stored| match stored {
                Stored::Here(range) => frame.payload[range].to_vec(),
                Stored::Elsewhere(_) => bodies.next().expect("recovery read it").to_vec(),
            })
        });
        replayed.chain(unproven).collect()
    }
}

pub(super) fn recover_from(folder: &Folder<MemoryDisk>) -> Outcome {
    recover_carrying(folder, 0)
}

/// As [`recover_from`], with leave to carry over so many bytes more than it must.
pub(super) fn recover_carrying(folder: &Folder<MemoryDisk>, carried_bytes: u64) -> Outcome {
    let mut replayed = Vec::new();
    let work = async {
        let inventory = take_inventory(folder).await?;
        recover(folder, &inventory, carried_bytes, |recovered| {
            replayed.push(recovered);
            Ok(())
        })
        .await
    };
    let survey = work.now_or_never().expect("a disk in memory never waits")?;
    Ok(Found { survey, replayed })
}

/// The refusal, which must be for damage, with its numbers: segment, offset, first lost frame.
pub(super) fn corrupt(outcome: Outcome) -> (u64, u64, u64) {
    match outcome {
        Err(LogError::Corrupt { segment, offset, first_lost, lost_below, .. }) => {
            assert!(first_lost < lost_below);
            (segment, offset, first_lost.get())
        }
        Err(other) => panic!("refused for another reason: {other}"),
        Ok(found) => panic!("opened, with {} commits", found.replayed.len()),
    }
}

/// A log of three segments with nine frames of commits, everything in it acknowledged and
/// witnessed.
pub(super) fn witnessed() -> Image {
    let mut image = Image::new();
    for generation in 1..=3 {
        image.start(generation);
        for index in 0..3_u8 {
            let long = vec![index; 5000];
            image.data(&[b"first", &[], &long, &[generation as u8, index]]);
        }
    }
    image.witness();
    image
}
