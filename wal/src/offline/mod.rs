//! Looking at a log without opening it: for tools, on a directory that no process has open.
//!
//! **What lives here.** [`OfflineLog::examine`] says what opening would say, by running the same
//! recovery up to where it would change something; [`OfflineLog::scan`] tells of every segment,
//! frame and damaged place, whether they are part of the log or not; [`Examination::salvage`] gives
//! back the commits that are proven, of a log that is damaged too.
//!
//! **How data flows.** Through any [`Disk`], usually one that maps files; commits go up in the order
//! of the log.
//!
//! **What must never be here.** A decision of its own about which frame is one, or is the next: that
//! is `format`'s and `recovery`'s. Nothing here writes.

mod salvage;
mod scan;

use std::path::{Path, PathBuf};
use std::rc::Rc;

use woodchuck_io::{Disk, File};

use crate::error::LogError;
use crate::format::Name;
use crate::recovery::{BodyFiles, Candidate, Examined, Inventory, examine, take_inventory};
use crate::segments::Folder;
use crate::{Lsn, Recovered, Verdict};

pub use salvage::Salvage;
pub use scan::{Damage, Found, FrameFacts, FrameKind, Harm, SegmentTotals};

/// The directory of a log that is not opened.
pub struct OfflineLog<D> {
    folder: Folder<D>,
    inventory: Inventory,
    /// Bytes of all segments and files of bodies.
    pub bytes: u64,
    /// Files that hold the bytes of large commits: name and bytes.
    pub bodies: Vec<(String, u64)>,
    /// Segments that wait to be used again: name and bytes.
    pub spares: Vec<(String, u64)>,
    /// Segments that were being filled with zeros: name and bytes.
    pub fillings: Vec<(String, u64)>,
}

/// What opening a log would find.
pub struct Examination<F> {
    /// Of the log; `None` if none was ever completely created.
    pub identity: Option<u128>,
    /// What opening would say: what stands behind the last frame, or the refusal.
    pub verdict: Result<Verdict, LogError>,
    /// The segments, oldest first.
    pub segments: Vec<SegmentFacts>,
    /// Frames that follow each other from the oldest one needed on.
    pub frames: u64,
    /// Their commits from the trim point on.
    pub commits: u64,
    /// The bytes of these.
    pub bytes: u64,
    /// Blocks that the disk could not read.
    pub unreadable_blocks: u64,
    /// The number of the first frame that is not there.
    pub next_lsn: Lsn,
    /// Where that frame would be: segment and offset.
    pub end: (u64, u64),
    /// No frame below it is needed.
    pub trim: Lsn,
    /// Some frame that can be read was built when every frame below this was durable.
    pub durable_below: Lsn,
    /// What can be salvaged are the commits of the frames from the trim point up to, not including,
    /// this one.
    pub salvage_below: Lsn,
    bodies: Rc<BodyFiles<F>>,
    candidates: Vec<Candidate<F>>,
    needed: Vec<usize>,
}

/// A segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFacts {
    /// The number in its name and in its frames.
    pub generation: u64,
    /// Length of the file.
    pub file_bytes: u64,
    /// Length that it was made with; `None` if its start frame cannot be read.
    pub segment_bytes: Option<u64>,
    /// The number of its first frame, likewise.
    pub first_lsn: Option<Lsn>,
    /// Bytes up to the last frame that is part of the log; 0 if none is.
    pub used_bytes: u64,
    /// What it is to the log.
    pub role: Role,
}

/// What a segment is to its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It holds frames of the log.
    Live,
    /// All its frames are below the trim point.
    Trimmed,
    /// What it holds stands in a later segment, or never was part of the log.
    Superseded,
    /// No frame was ever written to it in this life.
    Prepared,
    /// It stands behind the log's end, or its start frame cannot be read.
    Detached,
}

impl Role {
    /// One word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Trimmed => "trimmed",
            Self::Superseded => "superseded",
            Self::Prepared => "prepared",
            Self::Detached => "detached",
        }
    }
}

impl<D: Disk> OfflineLog<D> {
    /// Looks at what the directory holds.
    ///
    /// # Errors
    /// [`LogError::NotOurs`] if it holds anything but files of a log; [`LogError::Io`].
    pub async fn open(disk: D, directory: PathBuf) -> Result<Self, LogError> {
        let folder = Folder::new(disk, directory);
        let inventory = take_inventory(&folder).await?;
        let lengths = async |names: Vec<Name>| {
            let mut lengths = Vec::with_capacity(names.len());
            for name in names {
                let length = folder.open(name).await?.length().await;
                let length =
                    length.map_err(|error| folder.problem("measuring", &folder.file(name), error));
                lengths.push((name.to_string(), length?));
            }
            Ok::<_, LogError>(lengths)
        };
        let names = |numbers: &[u64], name: fn(u64) -> Name| {
            numbers.iter().map(|&number| name(number)).collect()
        };
        let segments = lengths(names(&inventory.generations, Name::Segment)).await?;
        let bodies = lengths(names(&inventory.bodies, Name::Bodies)).await?;
        let spares = lengths(names(&inventory.spares, Name::Spare)).await?;
        let fillings = lengths(names(&inventory.fillings, Name::Filling)).await?;
        let bytes = segments.iter().chain(&bodies).map(|(_, length)| length).sum();
        Ok(Self { folder, inventory, bytes, bodies, spares, fillings })
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.folder.path()
    }

    /// The generations of the segments, in order.
    #[must_use]
    pub fn generations(&self) -> &[u64] {
        &self.inventory.generations
    }

    /// Reads the log as opening does. `replay` gets every commit from the trim point on, up to the
    /// log's end or the first damage; of a log that is damaged, what it got may have more behind
    /// [`Examination::salvage_below`].
    ///
    /// # Errors
    /// [`LogError::WrongVersion`] and [`LogError::NotOurs`], as of opening; [`LogError::Replay`] if
    /// `replay` refused a commit; [`LogError::Io`] for what says nothing about the data. Damage is
    /// no error here: it is the verdict.
    pub async fn examine(
        &self,
        replay: impl FnMut(Recovered) -> Result<(), String>,
    ) -> Result<Examination<D::File>, LogError> {
        let mut examined = examine(&self.folder, &self.inventory, 0, replay).await?;
        examined.walk.replay_rest().await?;
        let verdict = examined.check().map(|()| examined.verdict());
        let salvage_below = match &verdict {
            Ok(_) => examined.walk.next_lsn,
            Err(_) => provable_below(&examined),
        };
        let segments = facts(&examined);
        let Examined { candidates, identity, needed, walk, tail, .. } = examined;
        let (end_index, end_offset) = walk.end;
        Ok(Examination {
            identity,
            verdict,
            segments,
            frames: walk.frames,
            commits: walk.commits,
            bytes: walk.bytes,
            unreadable_blocks: candidates
                .iter()
                .map(|candidate| candidate.unreadable.count())
                .sum(),
            next_lsn: Lsn::new(walk.next_lsn),
            end: (candidates.get(end_index).map_or(0, |end| end.generation), end_offset),
            trim: Lsn::new(walk.trim),
            durable_below: Lsn::new(walk.watermark.max(tail.watermark)),
            salvage_below: Lsn::new(salvage_below),
            bodies: walk.bodies,
            candidates,
            needed,
        })
    }
}

/// Up to which frame a damaged log is proven to be what was acknowledged.
///
/// Nothing, if frames are missing in front. Else usually all that follow each other: damage was
/// noticed because the frame behind them was durable, so they were. But if a later segment has
/// frames and its start frame cannot be read, then nobody knows from which number on it superseded
/// what was walked: a late write of a process that had died may have completed a frame there that
/// recovery had given up, and whose number it had used again. Frames below the watermark of those
/// walked are not in doubt: they were durable in their own time, so every recovery kept them.
fn provable_below<F: File, R: FnMut(Recovered) -> Result<(), String>>(
    examined: &Examined<F, R>,
) -> u64 {
    let Examined { candidates, walk, .. } = examined;
    if examined.check_front().is_err() {
        return 1;
    }
    let later = candidates.iter().skip(walk.end.0 + 1);
    let is_in_doubt = later.into_iter().any(|later| later.start.is_none() && !later.unused);
    let below = if is_in_doubt { walk.next_lsn.min(walk.watermark) } else { walk.next_lsn };
    walk.damaged.as_ref().map_or(below, |&(lsn, _)| below.min(lsn))
}

fn facts<F, R>(examined: &Examined<F, R>) -> Vec<SegmentFacts> {
    let Examined { candidates, live, needed, .. } = examined;
    let describe = |(index, candidate): (usize, &Candidate<F>)| {
        let used = live.iter().find(|(live, _)| *live == index).map_or(0, |&(_, used)| used);
        let role = match candidate.start {
            _ if used > 0 => Role::Live,
            Some((_, start)) if start.first_lsn >= candidate.superseded_from => Role::Superseded,
            Some(_) if !needed.contains(&index) => Role::Trimmed,
            None if candidate.unused => Role::Prepared,
            _ => Role::Detached,
        };
        SegmentFacts {
            generation: candidate.generation,
            file_bytes: candidate.length,
            segment_bytes: candidate.start.map(|(_, start)| start.segment_bytes),
            first_lsn: candidate.start.map(|(_, start)| Lsn::new(start.first_lsn)),
            used_bytes: used,
            role,
        }
    };
    candidates.iter().enumerate().map(describe).collect()
}
