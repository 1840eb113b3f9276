//! What is measured, as a program on the runtime that the engine runs on.
//!
//! Each measurement is a number of tasks that do the same thing again and again until its time is
//! over; each does it at least once. Reads are at random, as readers of old records are; writes
//! follow each other, as the log's do, and begin again at the end. All buffers hold random bytes:
//! there are volumes that do not store zeros, or nothing twice.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use indicatif::ProgressBar;
use woodchuck_io::limits::BLOCK_BYTES;
use woodchuck_io::{Buffer, Disk, Durability, Env, File, Monotonic, Program, RandomStream};

use super::histogram::Histogram;
use super::scratch::Scratch;
use crate::limits::{
    FLIGHT_BLOCK_BYTES, FLIGHT_DEPTHS, PROBE_BLOCK_BYTES, PROBE_DEPTHS, PROBE_FILL_BYTES,
    PROBE_FILL_DEPTH,
};
use crate::volume::{self, Rates};

/// What is done again and again in an entry of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Read,
    VolatileWrite,
    DurableWrite,
}

impl Operation {
    pub(super) const ALL: [Self; 3] = [Self::Read, Self::VolatileWrite, Self::DurableWrite];

    /// For programs that read.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::VolatileWrite => "volatile_write",
            Self::DurableWrite => "durable_write",
        }
    }

    const fn work(self) -> Work {
        match self {
            Self::Read => Work::Read,
            Self::VolatileWrite => Work::Write(Durability::Volatile),
            Self::DurableWrite => Work::Write(Durability::Durable),
        }
    }
}

/// How often something could be done, and how long it took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Figures {
    pub(super) operations: u64,
    pub(super) operations_per_second: f64,
    pub(super) mib_per_second: f64,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
}

impl Figures {
    fn new(times: &Histogram, block_bytes: usize, elapsed: Duration) -> Self {
        let rate = times.count() as f64 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        Self {
            operations: times.count(),
            operations_per_second: rate,
            mib_per_second: rate * block_bytes as f64 / f64::from(1 << 20),
            p50: times.quantile(0.5),
            p99: times.quantile(0.99),
        }
    }
}

/// An entry of the matrix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) operation: Operation,
    pub(super) block_bytes: usize,
    pub(super) depth: usize,
    pub(super) figures: Figures,
}

/// All that was measured.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Measured {
    /// Whether an earlier run had left its scratch file.
    pub(super) replaced: bool,
    /// Durable 4 KiB writes, each of which makes the file longer.
    pub(super) extending: Figures,
    /// The same into space that is allocated and was never written; none if the filesystem cannot
    /// allocate.
    pub(super) allocated: Option<Figures>,
    /// The same over what was written before.
    pub(super) overwritten: Figures,
    /// A volatile 4 KiB write and then a flush, as one operation.
    pub(super) write_then_flush: Figures,
    /// The flushes among them.
    pub(super) flush_after_write: Figures,
    /// Flushes with nothing to flush.
    pub(super) flush_clean: Figures,
    /// Every operation with every size and depth.
    pub(super) matrix: Vec<Entry>,
    /// What the frames in flight are chosen from, measured as `serve` does.
    pub(super) flight: Rates,
    /// What a start of `serve` in this directory has chosen already.
    pub(super) recorded: Option<usize>,
}

/// Why nothing was measured to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was asked to stop.
    Stopped,
    /// It could not be done. Says why, and what to do.
    Failed(String),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        let advice = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "; free some space, or give a smaller --size"
            }
            _ => "",
        };
        Self::Failed(format!("{error}{advice}"))
    }
}

/// Measures a volume.
#[derive(Clone)]
pub(super) struct Measure {
    /// Where the scratch file goes.
    pub(super) directory: PathBuf,
    /// How large it gets: a multiple of what is written at a time.
    pub(super) scratch_bytes: u64,
    /// How long each measurement takes.
    pub(super) each: Duration,
    /// Moves on with each measurement.
    pub(super) bar: ProgressBar,
}

impl Measure {
    /// How often the bar moves.
    pub(super) const STEPS: usize =
        7 + Operation::ALL.len() * PROBE_BLOCK_BYTES.len() * PROBE_DEPTHS.len();

    /// Measurements that the step for the frames in flight consists of.
    const FLIGHT_CELLS: u32 = (FLIGHT_BLOCK_BYTES.len() * FLIGHT_DEPTHS.len()) as u32;
}

impl Program for Measure {
    type Output = Result<Measured, Ended>;

    async fn run<E: Env>(self, env: E) -> Self::Output {
        let scratch = Scratch::create(&env, &self.directory).await.map_err(Ended::Failed)?;
        let stopped = Rc::new(Cell::new(false));
        let (stopping, flag) = (env.stopping(), Rc::clone(&stopped));
        let watching = env.spawn("stop", async move {
            stopping.await;
            flag.set(true);
        });
        let replaced = scratch.replaced;
        let file = scratch.file.clone();
        let bench = Bench { env, file, measure: self, stopped };
        let measured = bench.all(replaced).await;
        drop((watching, bench));
        let removed = scratch.remove().await.map_err(Ended::Failed);
        // Of two troubles, the first explains the other.
        let measured = measured?;
        removed.map(|()| measured)
    }
}

/// What a task does again and again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Read,
    Write(Durability),
    WriteThenFlush,
    Flush,
}

/// Which places of the file are read or written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Places {
    Random,
    /// One after the other, and again from the start.
    Round,
    /// One after the other, to the end.
    Once,
}

/// What the tasks of one measurement share.
struct Shared {
    work: Work,
    places: Places,
    block_bytes: u64,
    /// How many blocks the file has.
    blocks: u64,
    next: Cell<u64>,
    deadline: Monotonic,
    times: RefCell<Histogram>,
    /// The flushes of [`Work::WriteThenFlush`].
    flushes: RefCell<Histogram>,
    /// Set when a task has failed: the others need not go on.
    failed: Cell<bool>,
    stopped: Rc<Cell<bool>>,
}

impl Shared {
    /// The offset of the next operation; none if all places were used.
    fn offset(&self, random: &mut RandomStream) -> Option<u64> {
        let number = match self.places {
            Places::Random => return Some(random.below(self.blocks) * self.block_bytes),
            Places::Round | Places::Once => self.next.replace(self.next.get() + 1),
        };
        let used_up = self.places == Places::Once && number >= self.blocks;
        (!used_up).then_some(number % self.blocks * self.block_bytes)
    }

    fn is_over(&self, now: Monotonic) -> bool {
        now >= self.deadline || self.failed.get() || self.stopped.get()
    }
}

/// The file, and what it takes to measure it.
struct Bench<E: Env> {
    env: E,
    file: <E::Disk as Disk>::File,
    measure: Measure,
    stopped: Rc<Cell<bool>>,
}

impl<E: Env> Bench<E> {
    async fn all(&self, replaced: bool) -> Result<Measured, Ended> {
        let durable = Work::Write(Durability::Durable);
        let small = |work, places| Kind { work, places, block_bytes: BLOCK_BYTES, depth: 1 };
        let (extending, _) = self.step("extending writes", small(durable, Places::Once)).await?;
        self.file.truncate(0).await?;
        let allocated = match self.file.allocate(self.measure.scratch_bytes).await {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                self.measure.bar.inc(1);
                None
            }
            Err(error) => return Err(error.into()),
            Ok(()) => Some(
                self.step("writes into allocated space", small(durable, Places::Once)).await?.0,
            ),
        };
        self.fill().await?;
        let (overwritten, _) = self.step("overwrites", small(durable, Places::Round)).await?;
        let kind = small(Work::WriteThenFlush, Places::Round);
        let (write_then_flush, flush_after_write) = self.step("writes and flushes", kind).await?;
        let (flush_clean, _) = self.step("flushes", small(Work::Flush, Places::Round)).await?;
        let mut matrix = Vec::new();
        for operation in Operation::ALL {
            let places = match operation {
                Operation::Read => Places::Random,
                Operation::VolatileWrite | Operation::DurableWrite => Places::Round,
            };
            for block_bytes in PROBE_BLOCK_BYTES {
                for depth in PROBE_DEPTHS {
                    let what = match operation {
                        Operation::Read => "reads",
                        Operation::VolatileWrite => "volatile writes",
                        Operation::DurableWrite => "durable writes",
                    };
                    let kind = Kind { work: operation.work(), places, block_bytes, depth };
                    let (figures, _) = self.step(what, kind).await?;
                    matrix.push(Entry { operation, block_bytes, depth, figures });
                }
            }
        }
        let flight = self.flight().await?;
        let recorded = volume::recorded(self.env.disk(), &self.measure.directory).await;
        Ok(Measured {
            replaced,
            extending,
            allocated,
            overwritten,
            write_then_flush,
            flush_after_write,
            flush_clean,
            matrix,
            flight,
            // A file that says nothing is as good as none: the next start replaces it.
            recorded: recorded.unwrap_or(None),
        })
    }

    /// Measures what the frames in flight are chosen from.
    async fn flight(&self) -> Result<Rates, Ended> {
        self.measure.bar.set_message("frames in flight");
        let time = self.measure.each * Measure::FLIGHT_CELLS;
        let stopped = Rc::clone(&self.stopped);
        let rounds = volume::measure(&self.env, &self.file, time, move || stopped.get()).await?;
        match rounds {
            Some(rounds) if !self.stopped.get() => {
                self.measure.bar.inc(1);
                Ok(rounds.medians())
            }
            _ => Err(Ended::Stopped),
        }
    }

    /// Measures one kind of work: as a whole, and the flushes in it.
    async fn step(&self, what: &'static str, kind: Kind) -> Result<(Figures, Figures), Ended> {
        let Kind { work, places, block_bytes, depth } = kind;
        self.measure.bar.set_message(what);
        let mut random = self.env.random("contents");
        let buffers: Vec<Buffer> = (0..depth).map(|_| noise(block_bytes, &mut random)).collect();
        let begun = self.env.now();
        let shared = Rc::new(Shared {
            work,
            places,
            block_bytes: block_bytes as u64,
            blocks: self.measure.scratch_bytes / block_bytes as u64,
            next: Cell::new(0),
            deadline: begun + self.measure.each,
            times: RefCell::new(Histogram::new()),
            flushes: RefCell::new(Histogram::new()),
            failed: Cell::new(false),
            stopped: Rc::clone(&self.stopped),
        });
        let tasks: Vec<_> = buffers
            .into_iter()
            .map(|buffer| {
                let (env, file, shared) = (self.env.clone(), self.file.clone(), Rc::clone(&shared));
                self.env.spawn("measure", async move {
                    let ended = repeat(env, file, buffer, &shared).await;
                    shared.failed.set(shared.failed.get() || ended.is_err());
                    ended
                })
            })
            .collect();
        let mut failed = None;
        for task in tasks {
            // All are awaited: what is in flight must not outlive the measurement.
            failed = failed.or(task.await.err());
        }
        let elapsed = self.env.now() - begun;
        match failed {
            Some(error) => Err(error.into()),
            None if self.stopped.get() => Err(Ended::Stopped),
            None => {
                self.measure.bar.inc(1);
                let (times, flushes) = (shared.times.borrow(), shared.flushes.borrow());
                Ok((
                    Figures::new(&times, block_bytes, elapsed),
                    Figures::new(&flushes, block_bytes, elapsed),
                ))
            }
        }
    }

    /// Writes the whole file, durably.
    async fn fill(&self) -> Result<(), Ended> {
        self.measure.bar.set_message("filling the scratch file");
        let bytes = self.measure.scratch_bytes;
        let next = Rc::new(Cell::new(0));
        let tasks: Vec<_> = (0..PROBE_FILL_DEPTH)
            .map(|_| {
                let (file, next, stopped) =
                    (self.file.clone(), Rc::clone(&next), Rc::clone(&self.stopped));
                let mut buffer = noise(PROBE_FILL_BYTES, &mut self.env.random("contents"));
                self.env.spawn("fill", async move {
                    loop {
                        let offset = next.replace(next.get() + PROBE_FILL_BYTES as u64);
                        if offset >= bytes || stopped.get() {
                            return Ok(());
                        }
                        let write = file.write_at(buffer, offset, Durability::Volatile);
                        let (written, returned) = write.await;
                        buffer = returned;
                        if let Err(error) = written {
                            next.set(bytes);
                            return Err(error);
                        }
                    }
                })
            })
            .collect();
        let mut failed: Option<io::Error> = None;
        for task in tasks {
            failed = failed.or(task.await.err());
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        if self.stopped.get() {
            return Err(Ended::Stopped);
        }
        self.file.sync_data().await?;
        self.measure.bar.inc(1);
        Ok(())
    }
}

/// One measurement.
#[derive(Clone, Copy)]
struct Kind {
    work: Work,
    places: Places,
    block_bytes: usize,
    depth: usize,
}

/// A buffer full of random bytes.
fn noise(bytes: usize, random: &mut RandomStream) -> Buffer {
    let mut buffer = Buffer::zeroed(bytes);
    random.fill(&mut buffer);
    buffer
}

/// Does the work of one task until the measurement is over.
async fn repeat<E: Env>(
    env: E,
    file: impl File,
    mut buffer: Buffer,
    shared: &Shared,
) -> io::Result<()> {
    let mut random = env.random("places");
    let whole = buffer.len();
    while let Some(offset) = shared.offset(&mut random) {
        let begun = env.now();
        match shared.work {
            Work::Read => {
                // A read may be short; what is missing is asked for again, in whole blocks.
                let mut got = 0;
                while got < whole {
                    let (read, returned) = file.read_at(buffer, offset + got as u64).await;
                    buffer = returned;
                    let read = read?;
                    if read < BLOCK_BYTES {
                        return Err(io::Error::other(format!(
                            "only {got} bytes of {whole} at {offset} of the scratch file are there"
                        )));
                    }
                    got += read - read % BLOCK_BYTES;
                }
            }
            Work::Write(durability) => {
                let (written, returned) = file.write_at(buffer, offset, durability).await;
                buffer = returned;
                written?;
            }
            Work::WriteThenFlush => {
                let write = file.write_at(buffer, offset, Durability::Volatile);
                let (written, returned) = write.await;
                buffer = returned;
                written?;
                let flushing = env.now();
                file.sync_data().await?;
                shared.flushes.borrow_mut().record(env.now() - flushing);
            }
            Work::Flush => file.sync_data().await?,
        }
        let now = env.now();
        shared.times.borrow_mut().record(now - begun);
        if shared.is_over(now) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use woodchuck_sim::{DiskInspector, DiskOperation, MachineId, SimEnv, World};

    use super::super::scratch::SCRATCH_NAME;
    use super::*;

    const DIRECTORY: &str = "/data";

    type Outcome = Rc<RefCell<Option<Result<Measured, Ended>>>>;

    /// A machine that begins to measure, with a file of its user's beside the scratch file.
    fn begin(world: &World, prepare: impl Fn(&DiskInspector)) -> (MachineId, Outcome) {
        let machine = world.machine("m");
        let outcome = Outcome::default();
        world.start(machine, 1, |env: SimEnv| async move {
            let disk = env.disk();
            disk.create_directory(DIRECTORY.as_ref()).await.expect("a healthy disk");
            let path = format!("{DIRECTORY}/theirs");
            let file = disk.open(path.as_ref(), woodchuck_io::OpenMode::CreateNew).await;
            let (written, _) = file
                .expect("a healthy disk")
                .write_at(Buffer::zeroed(4096), 0, Durability::Durable)
                .await;
            written.expect("a healthy disk");
        });
        finish(world, machine);
        prepare(&world.disk(machine));
        let slot = Rc::clone(&outcome);
        world.start(machine, 1, move |env: SimEnv| {
            let measure = Measure {
                directory: PathBuf::from(DIRECTORY),
                scratch_bytes: 16 << 20,
                each: Duration::from_millis(2),
                bar: ProgressBar::hidden(),
            };
            let slot = Rc::clone(&slot);
            async move {
                let ended = measure.run(env).await;
                *slot.borrow_mut() = Some(ended);
            }
        });
        (machine, outcome)
    }

    fn finish(world: &World, machine: MachineId) {
        let running = world.clone();
        let ended =
            world.run_until(move || !running.is_running(machine), Duration::from_secs(3600));
        assert!(ended, "the program ends");
    }

    /// What is left in the directory.
    fn names(world: &World, machine: MachineId) -> Vec<String> {
        let names: Rc<RefCell<Vec<String>>> = Rc::default();
        let slot = Rc::clone(&names);
        world.start(machine, 1, move |env: SimEnv| {
            let slot = Rc::clone(&slot);
            async move {
                let listed = env.disk().list(DIRECTORY.as_ref()).await.expect("it is there");
                *slot.borrow_mut() = listed.into_iter().map(|entry| entry.name).collect();
            }
        });
        finish(world, machine);
        names.take()
    }

    fn measured(prepare: impl Fn(&DiskInspector)) -> (Result<Measured, Ended>, Vec<String>) {
        let world = World::new(7);
        let (machine, outcome) = begin(&world, prepare);
        finish(&world, machine);
        let outcome = outcome.take().expect("it ended by itself");
        world.disk(machine).heal();
        (outcome, names(&world, machine))
    }

    fn explanation(ended: Result<Measured, Ended>) -> String {
        match ended {
            Err(Ended::Failed(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn everything_is_measured_and_nothing_is_left() {
        let (measured, names) = measured(|_| ());
        let measured = measured.expect("a healthy disk");
        assert_eq!(names, ["theirs"]);
        assert!(!measured.replaced);
        assert_eq!(
            measured.matrix.len(),
            Operation::ALL.len() * PROBE_BLOCK_BYTES.len() * PROBE_DEPTHS.len()
        );
        let single = [
            measured.extending,
            measured.allocated.expect("this disk can"),
            measured.overwritten,
            measured.write_then_flush,
            measured.flush_after_write,
        ];
        for figures in single.iter().chain(measured.matrix.iter().map(|entry| &entry.figures)) {
            assert!(figures.operations > 0 && figures.operations_per_second > 0.0, "{figures:?}");
            assert!(Duration::ZERO < figures.p50 && figures.p50 <= figures.p99, "{figures:?}");
        }
        for (index, entry) in measured.matrix.iter().enumerate() {
            let same = |other: &Entry| {
                (other.operation, other.block_bytes, other.depth)
                    == (entry.operation, entry.block_bytes, entry.depth)
            };
            assert_eq!(measured.matrix.iter().position(same), Some(index), "once each");
            let mib = entry.figures.operations_per_second * entry.block_bytes as f64 / 1048576.0;
            assert!((mib - entry.figures.mib_per_second).abs() < 1e-6 * mib);
        }
        assert!(measured.flush_after_write.p50 < measured.write_then_flush.p50);
    }

    #[test]
    fn an_error_is_told_and_nothing_is_left() {
        use DiskOperation::{Allocate, Open, Read, Sync, Write};
        let place = format!("{DIRECTORY}/{SCRATCH_NAME}");
        for kind in [Open, Allocate, Write, Sync, Read] {
            let failing = |disk: &DiskInspector| {
                disk.fail_next_at(kind, &place, 1, io::ErrorKind::Other);
            };
            let (ended, names) = measured(failing);
            let why = explanation(ended);
            assert!(why.contains("the simulated disk failed this operation"), "{why}");
            assert_eq!(names, ["theirs"], "{kind:?}");
        }
    }

    #[test]
    fn a_full_disk_is_told_with_what_to_do() {
        let (ended, names) = measured(|disk| disk.fill(1000));
        let why = explanation(ended);
        assert!(why.contains("; free some space, or give a smaller --size"), "{why}");
        assert_eq!(names, ["theirs"]);
    }

    #[test]
    fn a_stop_ends_it_early_and_nothing_is_left() {
        for microseconds in [1, 100, 3_000, 10_000, 40_000] {
            let world = World::new(8);
            let (machine, outcome) = begin(&world, |_| ());
            world.run_for(Duration::from_micros(microseconds));
            world.stop(machine);
            finish(&world, machine);
            assert_eq!(outcome.take(), Some(Err(Ended::Stopped)), "after {microseconds} us");
            assert_eq!(names(&world, machine), ["theirs"], "after {microseconds} us");
        }
    }

    #[test]
    fn what_a_killed_run_left_is_replaced() {
        let world = World::new(9);
        let (machine, _) = begin(&world, |_| ());
        world.run_for(Duration::from_millis(5));
        world.kill(machine);
        let mut left = names(&world, machine);
        left.sort_unstable();
        assert_eq!(left, ["theirs", SCRATCH_NAME]);
        let outcome = Outcome::default();
        let slot = Rc::clone(&outcome);
        world.start(machine, 1, move |env: SimEnv| {
            let measure = Measure {
                directory: PathBuf::from(DIRECTORY),
                scratch_bytes: 16 << 20,
                each: Duration::from_millis(1),
                bar: ProgressBar::hidden(),
            };
            let slot = Rc::clone(&slot);
            async move {
                let ended = measure.run(env).await;
                *slot.borrow_mut() = Some(ended);
            }
        });
        finish(&world, machine);
        let measured = outcome.take().expect("it ended").expect("a healthy disk");
        assert!(measured.replaced);
        assert_eq!(names(&world, machine), ["theirs"]);
    }
}
