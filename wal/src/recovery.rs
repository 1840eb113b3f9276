//! Recovery: what of the log survived, and whether anything acknowledged did not.
//!
//! The fault model: of the blocks written since the last acknowledged durable write, any subset
//! may have reached the disk, in any order, torn anywhere. Besides, any block may be damaged or
//! unreadable, and any file may be missing, cut or exchanged. Recovery promises all the same:
//! every acknowledged commit is served, in order, or opening fails with
//! [`Corrupt`](LogError::Corrupt); and what it serves once, every later recovery serves.
//!
//! # The algorithm
//!
//! 1. List the directory. Anything but segments, spares and fillings is not ours: error.
//! 2. Read the first block of every segment. A whole start frame with the file's generation gives
//!    the identity, the number of the segment's first frame, and a trim point; another identity or
//!    version is an error.
//! 3. **Superseding.** A start frame whose first number is n supersedes frame n and all behind it
//!    in earlier generations: the recovery that wrote it had found frame n missing or torn, so that
//!    they are a dead tail, or had carried them over.
//! 4. **Trimming.** The trim point is the greatest in any start frame and in any header of the
//!    newest segment that has one: it never goes back from frame to frame. So that segment is read
//!    before the walk; what is learned of it spares most of it a second and third reading (`newest`).
//!    Of the segments that are not wholly superseded, skip those in front of the last that begins at
//!    or below it. Nobody needs them, so damage in them harms nobody, and it does not matter which of
//!    them are left.
//! 5. Walk the frames of the rest in order of generation, in bounded memory, as long as each is
//!    the next frame of the log (conditions 1 to 8 of `format`) and is not superseded. Where a
//!    segment has no next frame, go on with the next segment if its start frame is it. Replay the
//!    commits from the trim point on. Where there is no next frame at all, the log ends, at
//!    number n.
//!    **Bodies.** Where a frame that is replayed refers to a body, the body was durable before the
//!    frame was built: if it is not there, or not what the reference says, corrupt. A few are read
//!    ahead, and frames that leave the walk wait for theirs, in order.
//! 6. **Nothing acknowledged is missing behind the end.** Look at every block from the end on, in
//!    that segment and all later ones, for headers of this log, of whatever generation. Each says
//!    the truth about the time when it was built. If one has a watermark above n, frame n was
//!    durable: corrupt. If one stands in a later segment, is not superseded, is neither start nor
//!    carried, and has a number <= n, then that segment's start frame, which was durable before it
//!    was written and superseded what was walked, is damaged: corrupt. If the log ends before a
//!    carried frame that a start frame speaks of, which was durable before the start frame was
//!    written: corrupt.
//! 7. **Nothing is missing in front.** The first frame walked must not be above the trim point:
//!    corrupt otherwise.
//! 8. **Files have their length.** No crash shortens a segment, so if the log ends in one that is
//!    shorter than its start frame says: corrupt.
//! 9. **A broken disk is not a crash.** A power cut may leave blocks unreadable that were being
//!    written. If not one block of a segment behind the end can be read, or very many cannot (the
//!    bounds stand in `limits`), the disk is to blame, and what it holds there may have been
//!    acknowledged: corrupt.
//! 10. Otherwise what stands behind the end is taken for a torn tail.
//! 11. **What is served stays.** Let w be the greatest watermark seen. The frames from w on can be
//!     read, but are not known durable: they may stand in a cache, and if a flush failed before the
//!     process died, no later flush proves that they ever leave it. So (in `open`) carry them over:
//!     begin a segment whose generation is above every other seen, write durable copies of them
//!     into it, and when these are durable, a start frame with number n whose first number is
//!     theirs. It makes the copies part of the log and supersedes the originals at one stroke. A
//!     crash on the way leaves the originals as they were, and copies without a start frame, which
//!     prove nothing. Copies and start frame carry the first number as watermark: what they say of
//!     each other is true only once all of them are durable. Nothing is ever written behind or
//!     over old frames: that could tear those that were acknowledged.
//! 12. **Restarts do not fill the disk.** If the last segments hold little, carry over all that is
//!     needed of them, so that they can be used again.
//!
//! If there is no whole start frame at all, the log ends at number 1 before its first frame: step
//! 6 tells a log that was never completely created from one whose start frames are damaged.

mod bodies;
mod newest;
mod progress;
mod tail;
mod walk;

use std::collections::BTreeMap;
use std::rc::Rc;

use woodchuck_io::limits::BLOCK_BYTES;
use woodchuck_io::{Disk, File};

use crate::blocks::Blocks;
use crate::error::LogError;
use crate::format::{HEADER_BYTES, Header, Name, OLDEST_VERSION, Start, VERSION};
use crate::reader::{Reader, Source};
use crate::segments::{Folder, Holds, Segment};
use crate::writer::{BodyFile, Carried};
use crate::{Recovered, Verdict};

pub(crate) use bodies::{Bodies, BodyFiles};
use newest::Newest;
pub(crate) use progress::Progress;
pub(crate) use tail::Tail;
use tail::{check_front, check_tail, look_behind};
pub(crate) use walk::{Walk, references, replay_carried, replay_frame};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// What the directory holds, by name.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    pub(crate) generations: Vec<u64>,
    /// Of the files of bodies.
    pub(crate) bodies: Vec<u64>,
    pub(crate) spares: Vec<u64>,
    pub(crate) fillings: Vec<u64>,
}

/// What recovery found.
pub(crate) struct Survey<F> {
    /// Of the log; `None` if there is no log yet.
    pub(crate) identity: Option<u128>,
    /// The segments with frames that are needed and not carried over, oldest first, with the bytes
    /// used in each.
    pub(crate) live: Vec<(Rc<Segment<F>>, u64)>,
    /// The files of bodies that are needed, oldest first.
    pub(crate) bodies: Vec<BodyFile<F>>,
    /// Files that hold nothing that is needed once the new start frame is durable.
    pub(crate) leftovers: Vec<Leftover>,
    pub(crate) verdict: Verdict,
    /// The number behind the last surviving frame.
    pub(crate) next_lsn: u64,
    /// The last of the surviving frames, to be carried over, with their bodies. Their commits were
    /// not replayed yet.
    pub(crate) carried: Vec<Carried>,
    /// Checksum of the frame before those.
    pub(crate) previous: u32,
    pub(crate) trim: u64,
    pub(crate) highest_generation: u64,
    pub(crate) frames: u64,
    pub(crate) commits: u64,
    pub(crate) bytes: u64,
    pub(crate) unreadable_blocks: u64,
}

/// A file that is no longer part of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leftover {
    pub(crate) holds: Holds,
    pub(crate) generation: u64,
    pub(crate) length: u64,
    /// Whether it never held a frame of its generation, so that it proves nothing to anyone and
    /// can be used before the new start frame is durable.
    pub(crate) unused: bool,
    /// Whether all of it could be read, as far as anyone looked.
    pub(crate) sound: bool,
}

/// A segment file.
pub(crate) struct Candidate<F> {
    pub(crate) generation: u64,
    pub(crate) file: F,
    pub(crate) length: u64,
    /// Its start frame, with the frame's checksum, if that is whole.
    pub(crate) start: Option<(Header, Start)>,
    /// Frames from this number on are superseded by a later generation.
    pub(crate) superseded_from: u64,
    /// No frame of its generation stands behind this offset; its length while nobody looked.
    pub(crate) frames_end: u64,
    /// Blocks that could not be read when somebody wanted to.
    pub(crate) unreadable: Blocks,
    /// Whether step 6 looked at all of it and found no frame of its generation.
    pub(crate) unused: bool,
}

impl<F: File> Candidate<F> {
    /// A window on the segment.
    pub(crate) fn reader(&self) -> Reader<F> {
        Reader::new(self.first(self.length))
    }

    /// That part of it that may have frames of its generation.
    pub(crate) fn frames(&self) -> Source<F> {
        self.first(self.frames_end)
    }

    /// Its first `length` bytes.
    fn first(&self, length: u64) -> Source<F> {
        Source::new(self.file.clone(), self.generation, length)
    }
}

/// Step 1.
pub(crate) async fn take_inventory<D: Disk>(folder: &Folder<D>) -> Result<Inventory, LogError> {
    let entries = folder
        .disk()
        .list(folder.path())
        .await
        .map_err(|error| folder.problem("listing", folder.path(), error))?;
    let mut inventory = Inventory::default();
    for entry in entries {
        let name = if entry.is_directory { None } else { Name::parse(&entry.name) };
        match name {
            Some(Name::Segment(generation)) => inventory.generations.push(generation),
            Some(Name::Bodies(generation)) => inventory.bodies.push(generation),
            Some(Name::Spare(number)) => inventory.spares.push(number),
            Some(Name::Filling(number)) => inventory.fillings.push(number),
            None => {
                return Err(LogError::NotOurs {
                    name: folder.path().join(&entry.name).display().to_string(),
                    reason: "no file of a log has such a name".to_owned(),
                });
            }
        }
    }
    inventory.generations.sort_unstable();
    inventory.bodies.sort_unstable();
    inventory.spares.sort_unstable();
    inventory.fillings.sort_unstable();
    Ok(inventory)
}

/// What steps 2 to 6 found, before anything is decided.
pub(crate) struct Examined<F, R> {
    pub(crate) candidates: Vec<Candidate<F>>,
    pub(crate) identity: Option<u128>,
    /// The segments to walk, by index.
    pub(crate) needed: Vec<usize>,
    /// The segments that hold frames of the log, by index, with the bytes used in each.
    pub(crate) live: Vec<(usize, u64)>,
    pub(crate) walk: Walk<F, R>,
    pub(crate) tail: Tail,
}

impl<F: File, R: FnMut(Recovered) -> Result<(), String>> Examined<F, R> {
    /// Steps 7 to 10: whether anything that was acknowledged is missing.
    pub(crate) fn check(&self) -> Result<(), LogError> {
        self.check_front()?;
        self.check_bodies()?;
        check_tail(&self.candidates, &self.walk, &self.tail)
    }

    /// Step 7 alone.
    pub(crate) fn check_front(&self) -> Result<(), LogError> {
        check_front(&self.candidates, &self.live, &self.walk)
    }

    /// Step 5: whether a body is missing that was asked for.
    pub(crate) fn check_bodies(&self) -> Result<(), LogError> {
        self.walk.damaged.as_ref().map_or(Ok(()), |(_, damage)| Err(damage.clone()))
    }

    /// What stands behind the end, if nothing that was acknowledged is missing.
    pub(crate) fn verdict(&self) -> Verdict {
        let (index, offset) = self.walk.end;
        let segment = self.candidates.get(index).map_or(0, |candidate| candidate.generation);
        match self.tail.frames {
            0 => Verdict::Clean,
            frames => Verdict::TornTail { segment, offset, frames, bytes: self.tail.bytes },
        }
    }

    /// Decides what is to be carried over, replays everything in front of that, and reads the rest.
    async fn finish(&mut self) -> Result<(), LogError> {
        let starts = self.live.iter().filter_map(|&(index, _)| self.candidates[index].start);
        let firsts = starts.map(|(_, start)| start.first_lsn);
        self.walk.finish(self.tail.watermark, firsts).await?;
        self.walk.read_carried().await?;
        self.check_bodies()
    }
}

/// Steps 2 to 10. Replays the commits of the frames that are not to be carried over.
pub(crate) async fn recover<D: Disk>(
    folder: &Folder<D>,
    inventory: &Inventory,
    carried_bytes: u64,
    replay: impl FnMut(Recovered) -> Result<(), String>,
) -> Result<Survey<D::File>, LogError> {
    let mut examined = examine(folder, inventory, carried_bytes, replay).await?;
    examined.check()?;
    examined.finish().await?;
    Ok(survey(examined))
}

/// Steps 2 to 6. Changes nothing on the disk. Fails only if the segments cannot be read at all, are
/// of another version, or are not of one log.
pub(crate) async fn examine<D: Disk, R: FnMut(Recovered) -> Result<(), String>>(
    folder: &Folder<D>,
    inventory: &Inventory,
    carried_bytes: u64,
    replay: R,
) -> Result<Examined<D::File, R>, LogError> {
    let mut candidates = open_all(folder, &inventory.generations).await?;
    let bodies = Rc::new(BodyFiles::open(folder, &inventory.bodies).await?);
    let identity = common_identity(&candidates)?;
    supersede(&mut candidates);
    let newest = newest::scan(&mut candidates, identity).await?;
    let trim = trim_point(&candidates, newest.as_ref());
    let needed = needed(&candidates, trim);
    let mut walk = Walk::new(identity, trim, carried_bytes, bodies, replay);
    let progress = Progress::new(folder.path(), needed.iter().map(|&index| &candidates[index]));
    let live = walk.all(&mut candidates, &needed, progress).await?;
    let tail = look_behind(&mut candidates, identity, &walk, newest.as_ref()).await?;
    Ok(Examined { candidates, identity, needed, live, walk, tail })
}

/// Step 2.
async fn open_all<D: Disk>(
    folder: &Folder<D>,
    generations: &[u64],
) -> Result<Vec<Candidate<D::File>>, LogError> {
    let mut candidates = Vec::with_capacity(generations.len());
    for &generation in generations {
        let name = Name::Segment(generation);
        let file = folder.open(name).await?;
        let length = file
            .length()
            .await
            .map_err(|error| folder.problem("measuring", &folder.file(name), error))?;
        let mut candidate = Candidate {
            generation,
            file,
            length,
            start: None,
            superseded_from: u64::MAX,
            frames_end: length,
            unreadable: Blocks::default(),
            unused: false,
        };
        candidate.start = read_start(&mut candidate).await?;
        candidates.push(candidate);
    }
    Ok(candidates)
}

async fn read_start<F: File>(
    candidate: &mut Candidate<F>,
) -> Result<Option<(Header, Start)>, LogError> {
    let mut reader = Reader::new(candidate.first(BLOCK.min(candidate.length)));
    let block = reader.span(0, BLOCK_BYTES).await?;
    let Some(block) = block else { return Ok(None) };
    let Some((header, _)) = Header::decode(&block, 0) else { return Ok(None) };
    let payload = block.get(HEADER_BYTES..HEADER_BYTES + header.payload_bytes as usize);
    let Some(payload) = payload.filter(|payload| header.payload_is_whole(payload)) else {
        return Ok(None);
    };
    let Some(start) = Start::decode(payload) else { return Ok(None) };
    if header.generation != candidate.generation {
        return Ok(None);
    }
    let segment = candidate.generation;
    if !(OLDEST_VERSION..=VERSION).contains(&start.version) {
        return Err(LogError::WrongVersion { segment, found: start.version, supported: VERSION });
    }
    if start.block_bytes as usize != BLOCK_BYTES || !start.is_sound(header.lsn) {
        return Err(LogError::NotOurs {
            name: Name::Segment(segment).to_string(),
            reason: format!(
                "it has segments of {} bytes in blocks of {}, this build works in blocks of {}",
                start.segment_bytes, start.block_bytes, BLOCK_BYTES
            ),
        });
    }
    Ok(Some((header, start)))
}

/// The identity that all start frames share.
fn common_identity<F>(candidates: &[Candidate<F>]) -> Result<Option<u128>, LogError> {
    let mut identity = None;
    for candidate in candidates.iter().rev() {
        let Some((header, _)) = candidate.start else { continue };
        let ours = *identity.get_or_insert(header.identity);
        if header.identity != ours {
            return Err(LogError::NotOurs {
                name: Name::Segment(candidate.generation).to_string(),
                reason: format!(
                    "it belongs to log {:032x}, the newest segment to log {ours:032x}",
                    header.identity
                ),
            });
        }
    }
    Ok(identity)
}

/// Step 3.
fn supersede<F>(candidates: &mut [Candidate<F>]) {
    let mut bound = u64::MAX;
    for candidate in candidates.iter_mut().rev() {
        candidate.superseded_from = bound;
        if let Some((_, start)) = candidate.start {
            bound = bound.min(start.first_lsn);
        }
    }
}

/// Step 4: the trim point.
fn trim_point<F>(candidates: &[Candidate<F>], newest: Option<&Newest>) -> u64 {
    let starts = candidates.iter().filter_map(|candidate| candidate.start);
    let trims = starts.map(|(header, _)| header.trim);
    trims.chain(newest.map(|newest| newest.trim)).max().unwrap_or(1)
}

/// Step 4: the segments to walk, by index.
fn needed<F>(candidates: &[Candidate<F>], trim: u64) -> Vec<usize> {
    let alive = |index: &usize| {
        let candidate = &candidates[*index];
        candidate.start.is_some_and(|(_, start)| start.first_lsn < candidate.superseded_from)
    };
    let alive: Vec<usize> = (0..candidates.len()).filter(alive).collect();
    let begins_below = |&&index: &&usize| {
        candidates[index].start.is_some_and(|(_, start)| start.first_lsn <= trim)
    };
    let skipped = alive.iter().take_while(begins_below).count().saturating_sub(1);
    alive[skipped..].to_vec()
}

fn survey<F: File, R: FnMut(Recovered) -> Result<(), String>>(
    examined: Examined<F, R>,
) -> Survey<F> {
    let verdict = examined.verdict();
    let Examined { candidates, identity, live, walk, .. } = examined;
    let used: BTreeMap<usize, u64> = live.iter().copied().collect();
    let first_carried = walk.first_carried();
    let before = walk.recent.front().map(|recent| recent.previous);
    let mut survey = Survey {
        identity,
        live: Vec::with_capacity(live.len()),
        bodies: Vec::new(),
        leftovers: Vec::new(),
        verdict,
        next_lsn: walk.next_lsn,
        previous: before.or(walk.previous).unwrap_or(0),
        trim: walk.trim.min(first_carried),
        highest_generation: candidates
            .last()
            .map_or(0, |candidate| candidate.generation)
            .max(walk.bodies.highest_generation()),
        frames: walk.frames,
        commits: walk.commits,
        bytes: walk.bytes,
        carried: walk.recent.iter().map(|recent| recent.frame.clone()).collect(),
        unreadable_blocks: candidates.iter().map(|candidate| candidate.unreadable.count()).sum(),
    };
    for (index, candidate) in candidates.into_iter().enumerate() {
        match (used.get(&index), candidate.start) {
            (Some(&bytes), Some((_, start)))
                if start.first_lsn < first_carried && walk.trim < first_carried =>
            {
                survey.live.push((
                    Rc::new(Segment {
                        holds: Holds::Frames,
                        generation: candidate.generation,
                        first_lsn: start.first_lsn,
                        bytes: candidate.length,
                        file: candidate.file,
                    }),
                    bytes,
                ))
            }
            _ => survey.leftovers.push(Leftover {
                holds: Holds::Frames,
                generation: candidate.generation,
                length: candidate.length,
                unused: candidate.unused,
                sound: candidate.unreadable.count() == 0,
            }),
        }
    }
    let holds = Holds::Bodies;
    for (generation, found) in walk.bodies.files() {
        let bytes = found.length;
        match walk.references.get(&generation) {
            Some(&newest) => {
                let file = found.file.clone();
                let segment = Rc::new(Segment { holds, generation, first_lsn: 0, bytes, file });
                survey.bodies.push(BodyFile { segment, used: bytes, waiting: 0, newest });
            }
            // A body of a frame that never became part of the log, or of one that was trimmed.
            None => survey.leftovers.push(Leftover {
                holds,
                generation,
                length: bytes,
                unused: false,
                sound: true,
            }),
        }
    }
    survey
}
