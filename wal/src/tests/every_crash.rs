//! Every disk that a crash can leave of a short history.
//!
//! One process runs in a world without faults and writes down what it asks of its disk: it creates
//! a log, fills a segment and a half with up to three frames in flight, trims, leaves the log with
//! frames in flight, opens it again, so that they are carried over, and closes it. Then power is
//! cut in thought at every moment: before and after each write, completion, rename, creation,
//! removal and sync. Of the blocks and names that were not durable then, every subset of the last
//! [`UNITS`] is on the disk, and of those before them all or none. Besides, each block with a
//! frame's header is torn in each of [`TEARS`], with every subset of the others. Recovery must
//! serve of each such disk what was acknowledged or served, and nothing that it must not.
//!
//! A second history has its large commits in lanes, so that their bytes stand in files of bodies, which
//! a crash may lose or tear like frames.
//!
//! What is left out: a file's length is durable with its space, as segments are synced before they
//! get their names; and a block is torn at sectors' ends, or in its header, and nowhere else.

mod journal;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::limits::BLOCK_BYTES;
use woodchuck_io::{Durability, Env};
use woodchuck_sim::{Faults, SimEnv, World, WorldOptions};

use super::image::{path, recover_from};
use super::memory::MemoryDisk;
use crate::format::checksum;
use crate::segments::Folder;
use crate::{Lane, Log, LogOptions, Lsn};
use journal::{Event, FileNumber, Journal, Journaled, Note, Operation, Recording};

/// How many blocks and names that were not durable are kept or lost in every combination.
const UNITS: usize = 9;

/// Which bytes of a torn block are the new ones: those of its first sector, or of half a header.
const TEARS: [std::ops::Range<usize>; 2] = [0..512, 0..48];

/// Histories: the same work, with other orders of completion.
const HISTORIES: u64 = 3;

const OPTIONS: LogOptions = LogOptions {
    segment_bytes: 12 * BLOCK_BYTES as u64,
    frame_bytes: 3 * BLOCK_BYTES,
    indirect_bytes: 2 * BLOCK_BYTES,
    frames_in_flight: 3,
    queue_bytes: 1 << 20,
    witness_delay: Duration::from_millis(1),
    capacity_bytes: u64::MAX,
};

type TestLog = Log<Recording, u8>;

/// Whether commits are submitted in lanes.
type InLanes = bool;

fn lane(id: u8, in_lanes: InLanes) -> Lane {
    Lane(if in_lanes { u64::from(id % 3) } else { 0 })
}

/// The bytes of a commit.
fn content(id: u8) -> Vec<u8> {
    // Frames of three blocks, and of one.
    let length = if id.is_multiple_of(4) { 50 } else { 9000 };
    (0..length).map(|index: usize| id.wrapping_add(index as u8 % 7 * 31)).collect()
}

struct Process {
    in_lanes: InLanes,
    env: SimEnv,
    journal: Journaled,
    next: Cell<u8>,
    acknowledged: Cell<u8>,
}

impl Process {
    async fn open(&self, options: LogOptions) -> TestLog {
        let env = Recording::new(self.env.clone(), self.journal.clone());
        let mut found = Vec::new();
        let opened = Log::open(env, path(), options, |recovered| {
            found.push((recovered.bytes[0], recovered.lsn));
            Ok(())
        });
        let (log, _) = opened.await.expect("nothing is wrong with the log");
        self.journal.note(Note::Opened(found));
        log
    }

    async fn submit(&self, log: &TestLog, count: u8) {
        for _ in 0..count {
            let id = self.next.get();
            self.next.set(id + 1);
            let bytes = content(id);
            log.room(bytes.len()).await;
            self.journal.note(Note::Submitted(id));
            let submitted = if self.in_lanes {
                log.submit_in(lane(id, true), &[&bytes], id)
            } else {
                log.submit(&[&bytes], id)
            };
            submitted.expect("there is room");
        }
    }

    /// Waits until so many commits in all are acknowledged, and gives the frame of the last.
    async fn acknowledge(&self, log: &TestLog, all: u8) -> Lsn {
        let mut last = Lsn::FIRST;
        while self.acknowledged.get() < all {
            for committed in log.committed().await.expect("the log is open") {
                last = committed.lsn;
                self.acknowledged.set(self.acknowledged.get() + 1);
                self.journal.note(Note::Acknowledged(committed.context, last));
            }
        }
        last
    }

    async fn run(self) {
        if self.in_lanes {
            return self.run_in_lanes().await;
        }
        let log = self.open(OPTIONS).await;
        self.submit(&log, 5).await;
        self.acknowledge(&log, 3).await;
        self.submit(&log, 3).await;
        let last = self.acknowledge(&log, 8).await;
        let below = Lsn::new(last.get() - 1);
        self.journal.note(Note::Trimmed(below));
        log.trim(below);
        // A witness carries the trim point, and the first segment is put away.
        self.env.sleep(Duration::from_millis(5)).await;
        self.submit(&log, 3).await;
        self.env.sleep(Duration::from_micros(100)).await;
        drop(log);
        // What is in flight goes on; nobody is told.
        self.env.sleep(Duration::from_millis(5)).await;
        let log = self.open(LogOptions { frames_in_flight: 2, ..OPTIONS }).await;
        self.submit(&log, 2).await;
        log.close().await.expect("nothing is wrong with the log");
    }
}

impl Process {
    /// The first large commits have the log prepare a file for the bodies of the others.
    async fn run_in_lanes(self) {
        let log = self.open(OPTIONS).await;
        self.submit(&log, 3).await;
        self.acknowledge(&log, 3).await;
        self.env.sleep(Duration::from_millis(5)).await;
        self.submit(&log, 5).await;
        self.acknowledge(&log, 6).await;
        self.submit(&log, 3).await;
        let last = self.acknowledge(&log, 11).await;
        let below = Lsn::new(last.get() - 1);
        self.journal.note(Note::Trimmed(below));
        log.trim(below);
        // A witness carries the trim point, and the first file of bodies is put away.
        self.env.sleep(Duration::from_millis(5)).await;
        self.submit(&log, 4).await;
        self.env.sleep(Duration::from_micros(100)).await;
        drop(log);
        // What is in flight goes on; nobody is told.
        self.env.sleep(Duration::from_millis(5)).await;
        let log = self.open(LogOptions { frames_in_flight: 2, ..OPTIONS }).await;
        self.submit(&log, 2).await;
        log.close().await.expect("nothing is wrong with the log");
    }
}

/// Runs the process, and gives what it wrote down.
fn record(seed: u64, in_lanes: InLanes) -> Journal {
    let options = WorldOptions { faults: Faults::none(), ..WorldOptions::new(seed) };
    let world = World::with_options(options);
    let machine = world.machine("one");
    // The process is made in the world and ends there; only then is the journal taken.
    let journal = Journaled::default();
    let (kept, done) = (journal.clone(), Rc::new(Cell::new(false)));
    let ended = Rc::clone(&done);
    world.start(machine, 1, move |env| {
        let (journal, done) = (kept.clone(), Rc::clone(&done));
        async move {
            let (next, acknowledged) = (Cell::new(1), Cell::new(0));
            Process { in_lanes, env, journal, next, acknowledged }.run().await;
            done.set(true);
        }
    });
    assert!(world.run_until(|| ended.get(), Duration::from_secs(60)), "the process ends");
    journal.take()
}

/// Something that a crash may keep or lose.
#[derive(Clone, Copy)]
enum Unit {
    /// A creation, rename or removal.
    Name(usize),
    /// A block of a write.
    Block { operation: usize, index: usize },
}

/// What a disk holds.
#[derive(Clone, Default)]
struct Image {
    files: BTreeMap<FileNumber, Vec<u8>>,
    /// Of names, which are kept. Only these are put into `names`.
    kept: BTreeSet<usize>,
}

/// What is known and not known of the disk at one moment.
struct Moment<'a> {
    journal: &'a Journal,
    durable: Image,
    /// What is not durable, and would change something, in the order in which it was asked for.
    units: Vec<Unit>,
}

impl<'a> Moment<'a> {
    /// The moment behind so many events.
    fn new(journal: &'a Journal, events: usize) -> Self {
        let mut begun = BTreeMap::new();
        let mut ended = BTreeMap::new();
        for (time, event) in journal.events[..events].iter().enumerate() {
            match *event {
                Event::Begun(index) => drop(begun.insert(index, time)),
                Event::Ended(index) => drop(ended.insert(index, time)),
                Event::Noted(_) => {}
            }
        }
        // Whether what ended then was followed by a sync from its begin to its end.
        let synced = |after: usize, is_sync: &dyn Fn(&Operation) -> bool| {
            ended.keys().any(|&sync| is_sync(&journal.operations[sync]) && begun[&sync] > after)
        };
        let (mut durable, mut units) = (Image::default(), Vec::new());
        for &index in begun.keys() {
            let end = ended.get(&index).copied();
            match &journal.operations[index] {
                Operation::Allocate { file, length } => {
                    durable.files.entry(*file).or_default().resize(*length as usize, 0);
                }
                Operation::Sync { .. } | Operation::SyncDirectory => {}
                Operation::Write { file, offset, bytes, durability } => {
                    let is_sync = |other: &Operation| matches!(other, Operation::Sync { file: of } if of == file);
                    let is_durable = end.is_some_and(|end| {
                        *durability == Durability::Durable || synced(end, &is_sync)
                    });
                    let blocks = bytes.chunks(BLOCK_BYTES).enumerate();
                    for (block, bytes) in blocks {
                        let at = *offset as usize + block * BLOCK_BYTES;
                        let content = durable.files.entry(*file).or_default();
                        let there = &mut content[at..at + BLOCK_BYTES];
                        if is_durable {
                            there.copy_from_slice(bytes);
                        } else if there != bytes {
                            units.push(Unit::Block { operation: index, index: block });
                        }
                    }
                }
                name => {
                    if let Operation::Create { file, .. } = name {
                        durable.files.entry(*file).or_default();
                    }
                    let is_sync = |other: &Operation| matches!(other, Operation::SyncDirectory);
                    if end.is_some_and(|end| synced(end, &is_sync)) {
                        durable.kept.insert(index);
                    } else {
                        units.push(Unit::Name(index));
                    }
                }
            }
        }
        Self { journal, durable, units }
    }

    fn keep(&self, image: &mut Image, unit: Unit, part: std::ops::Range<usize>) {
        match unit {
            Unit::Name(index) => drop(image.kept.insert(index)),
            Unit::Block { operation, index } => {
                let Operation::Write { file, offset, bytes, .. } =
                    &self.journal.operations[operation]
                else {
                    unreachable!("blocks are of writes")
                };
                let from = index * BLOCK_BYTES;
                let content = image.files.get_mut(file).expect("it has its space");
                let there = &mut content[*offset as usize + from..][..BLOCK_BYTES];
                there[part.clone()].copy_from_slice(&bytes[from..from + BLOCK_BYTES][part]);
            }
        }
    }

    /// Whether a unit is a block that begins with a header.
    fn is_header(&self, unit: Unit) -> bool {
        let Unit::Block { operation, index } = unit else { return false };
        let Operation::Write { bytes, .. } = &self.journal.operations[operation] else {
            return false;
        };
        bytes[index * BLOCK_BYTES..].starts_with(b"WCKFRAME")
    }

    /// All disks that a crash may leave.
    fn images(&self, mut visit: impl FnMut(Image)) {
        let (older, last) = self.units.split_at(self.units.len().saturating_sub(UNITS));
        let mut bases = vec![self.durable.clone()];
        if !older.is_empty() {
            let mut kept = self.durable.clone();
            older.iter().for_each(|&unit| self.keep(&mut kept, unit, 0..BLOCK_BYTES));
            bases.push(kept);
        }
        for base in &bases {
            for mask in 0..1_usize << last.len() {
                let mut image = base.clone();
                let kept = |(place, _): &(usize, &Unit)| mask & 1 << place != 0;
                for (_, &unit) in last.iter().enumerate().filter(kept) {
                    self.keep(&mut image, unit, 0..BLOCK_BYTES);
                }
                // Of those that are lost, one may be torn instead.
                for (_, &unit) in last.iter().enumerate().filter(|place| !kept(place)) {
                    for part in TEARS.iter().filter(|_| self.is_header(unit)) {
                        let mut torn = image.clone();
                        self.keep(&mut torn, unit, part.clone());
                        visit(torn);
                    }
                }
                visit(image);
            }
        }
    }

    /// The names of a disk.
    fn names(&self, image: &Image) -> BTreeMap<&'a str, FileNumber> {
        let mut names = BTreeMap::new();
        for &index in &image.kept {
            match &self.journal.operations[index] {
                Operation::Create { path, file } => drop(names.insert(path.as_str(), *file)),
                // What was lost under its first name has no second.
                Operation::Rename { from, to } => {
                    if let Some(file) = names.remove(from.as_str()) {
                        names.insert(to.as_str(), file);
                    }
                }
                Operation::Remove { path } => drop(names.remove(path.as_str())),
                _ => unreachable!("only names are kept so"),
            }
        }
        names
    }
}

/// What may be found at one moment.
struct Expected {
    in_lanes: InLanes,
    lanes: BTreeMap<Lane, Line>,
    frames: BTreeMap<u8, Lsn>,
    trim: Option<Lsn>,
}

/// What may be found of one lane.
#[derive(Debug, Default)]
struct Line {
    /// All commits that may be there, in order. What was dropped when the log was opened is not.
    line: Vec<u8>,
    /// So many of them must be, from the trim point on.
    must: usize,
}

impl Expected {
    fn lane(&mut self, id: u8) -> &mut Line {
        self.lanes.entry(lane(id, self.in_lanes)).or_default()
    }

    fn of(&self, of: Lane, ids: impl Iterator<Item = u8>) -> Vec<u8> {
        ids.filter(|&id| lane(id, self.in_lanes) == of).collect()
    }

    fn note(&mut self, note: &Note) {
        match note {
            Note::Opened(found) => {
                let mut lanes = std::mem::take(&mut self.lanes);
                for (&of, Line { line, must }) in &mut lanes {
                    let found = self.of(of, found.iter().map(|(id, _)| *id));
                    // What was trimmed away may be gone.
                    let trimmed = match found.first() {
                        Some(first) => line.iter().take_while(|id| *id != first).count(),
                        None => *must,
                    };
                    line.truncate(trimmed);
                    line.extend(found);
                    *must = line.len();
                }
                self.lanes = lanes;
                self.frames.extend(found.iter().copied());
            }
            Note::Submitted(id) => self.lane(*id).line.push(*id),
            Note::Acknowledged(id, lsn) => {
                let Line { line, must } = self.lane(*id);
                assert_eq!(line[*must], *id, "acknowledged in order");
                *must += 1;
                self.frames.insert(*id, *lsn);
            }
            Note::Trimmed(below) => self.trim = Some(*below),
        }
    }

    fn check(&self, found: &[Vec<u8>]) -> Result<(), String> {
        for (&of, line) in &self.lanes {
            self.check_lane(&self.of(of, found.iter().map(|bytes| bytes[0])), line)?;
        }
        let unknown = |bytes: &&Vec<u8>| !self.lanes.contains_key(&lane(bytes[0], self.in_lanes));
        let changed = found.iter().find(|bytes| **bytes != content(bytes[0]) || unknown(bytes));
        changed.map_or(Ok(()), |bytes| Err(format!("commit {} has other bytes", bytes[0])))
    }

    fn check_lane(&self, ids: &[u8], lane: &Line) -> Result<(), String> {
        let Line { line, must } = lane;
        let trimmed = |id: &&u8| self.frames.get(id).is_some_and(|&lsn| Some(lsn) < self.trim);
        let needed = line.iter().take_while(trimmed).count();
        let start = match ids.first() {
            Some(first) => line.iter().position(|id| id == first),
            None => Some(needed),
        };
        let start = start.ok_or_else(|| format!("{ids:?} were found, of {line:?}"))?;
        let end = start + ids.len();
        let in_order = line.get(start..end) == Some(ids);
        if start > needed || end < *must || !in_order {
            return Err(format!(
                "{ids:?} were found; {line:?} were submitted, the first {needed} trimmed, and the \
                 first {must} acknowledged"
            ));
        }
        Ok(())
    }
}

/// How much was looked at.
#[derive(Debug, Default)]
struct Looked {
    moments: usize,
    /// Moments at which so many units or more were not durable.
    full_moments: usize,
    images: usize,
    distinct: BTreeSet<u64>,
    torn_tails: usize,
    carried: usize,
    /// With commits that have bodies.
    bodies: usize,
    refused: Vec<String>,
}

impl Looked {
    fn at_every_moment(&mut self, journal: &Journal, in_lanes: InLanes) {
        let (lanes, frames) = (BTreeMap::new(), BTreeMap::new());
        let mut expected = Expected { in_lanes, lanes, frames, trim: None };
        // Several choices, and several moments, leave the same disk; one look at it is enough for as
        // long as the same is expected of it.
        let mut seen = BTreeSet::new();
        for events in 0..=journal.events.len() {
            if let Some(Event::Noted(note)) =
                events.checked_sub(1).map(|last| &journal.events[last])
            {
                expected.note(note);
                seen.clear();
            }
            let moment = Moment::new(journal, events);
            self.moments += 1;
            self.full_moments += usize::from(moment.units.len() >= UNITS);
            moment.images(|image| {
                let names = moment.names(&image);
                let sums = names.iter().map(|(name, file)| (*name, checksum(&image.files[file])));
                let hash = sums.fold(0_u64, |hash, (name, sum)| {
                    let hash = hash.rotate_left(7) ^ u64::from(checksum(name.as_bytes()));
                    (hash ^ u64::from(sum) << 32).wrapping_mul(0x9E37_79B9_7F4A_7C15)
                });
                if seen.insert(hash) {
                    self.images += 1;
                    self.distinct.insert(hash);
                    self.look(image, &names, &expected, events);
                }
            });
        }
    }

    fn look(
        &mut self,
        mut image: Image,
        names: &BTreeMap<&str, FileNumber>,
        expected: &Expected,
        events: usize,
    ) {
        let disk = MemoryDisk::default();
        for (name, file) in names {
            let bytes = image.files.remove(file).expect("no file has two names");
            disk.put(Path::new(name), bytes);
        }
        let wrong = match recover_from(&Folder::new(disk, path())) {
            Ok(found) => {
                let torn = matches!(found.survey.verdict, crate::Verdict::TornTail { .. });
                self.torn_tails += usize::from(torn);
                self.carried += usize::from(!found.survey.carried.is_empty());
                self.bodies += usize::from(!found.survey.bodies.is_empty());
                expected.check(&found.commits()).err()
            }
            Err(error) => Some(error.to_string()),
        };
        self.refused.extend(wrong.map(|wrong| format!("behind event {events}: {wrong}")));
    }
}

/// Looks at all disks that crashes of these histories leave, and requires so many.
fn look_at_all(in_lanes: InLanes) -> Looked {
    let mut looked = Looked::default();
    for seed in 0..HISTORIES {
        looked.at_every_moment(&record(seed, in_lanes), in_lanes);
    }
    let Looked { moments, full_moments, images, torn_tails, carried, bodies, .. } = looked;
    println!(
        "{images} disks, {} of them distinct, at {moments} moments, {full_moments} of them with \
         {UNITS} or more blocks and names not durable; {torn_tails} with a torn tail, {carried} \
         with frames to be carried over, {bodies} with bodies",
        looked.distinct.len()
    );
    let refused = &looked.refused;
    assert!(refused.is_empty(), "{} disks, the first {}", refused.len(), refused[0]);
    looked
}

#[test]
fn every_disk_that_a_crash_leaves_is_recovered() {
    let Looked { moments, full_moments, images, distinct, torn_tails, carried, .. } =
        look_at_all(false);
    assert!(moments > 300 && full_moments > 20, "{moments} moments, {full_moments} full");
    assert!(images > 50_000 && distinct.len() > 30_000, "{images} disks, {}", distinct.len());
    assert!(torn_tails > 30_000 && carried > 30_000, "{torn_tails} torn, {carried} carried");
}

#[test]
fn every_disk_that_a_crash_leaves_of_large_commits_is_recovered() {
    let Looked { images, distinct, torn_tails, carried, bodies, .. } = look_at_all(true);
    assert!(images > 50_000 && distinct.len() > 30_000, "{images} disks, {}", distinct.len());
    assert!(torn_tails > 10_000 && carried > 30_000, "{torn_tails} torn, {carried} carried");
    assert!(bodies > 20_000, "{bodies} with bodies");
}
