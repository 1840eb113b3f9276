//! Durable appends of 1 KiB records through the log, beside the device's ceiling.
//!
//! **The log**: one task on the production runtime submits records of 1 KiB and takes their
//! acknowledgements; they gather into frames of 64 KiB, of which 1, 2 or 4 are in flight. All that
//! a shard's log does is included: segments that roll, trimming, segments that are used again.
//!
//! **The ceiling**: the same frames, as many in flight, written durably straight through a bare
//! ring, one behind the other into a file that was written with zeros before, from the same kind of
//! memory (`woodchuck_io::ceiling`). Of its two completion modes, that with the higher median counts. (The
//! better of the two in each round would count the luck of two tries against that of one.)
//!
//! **The seam**: the same frames through the runtime that the log runs on, so that what the log
//! costs is told from what the runtime costs.
//!
//! All take turns, and each is measured once a round. What is printed are medians of the rounds, and
//! of the shares of the ceiling in one round. The target is 0.95. Run it on one CPU, the one that
//! handles the disk's interrupts:
//!
//! ```text
//! taskset -c 1 cargo bench -p woodchuck-benches --bench log_append
//! ```
//!
//! `WOODCHUCK_BENCH_DIRECTORY` says where the files go, `WOODCHUCK_BENCH_ROUNDS` how many rounds
//! (15).

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use criterion::Criterion;
use woodchuck_benches::{median, number, on_one_shard};
use woodchuck_io::ceiling::{Access, Transfers};
use woodchuck_io::runtime::CompletionMode;
use woodchuck_io::{Buffer, Disk, Durability, Env, File, OpenMode, Program};
use woodchuck_wal::{Log, LogError, LogOptions, Statistics};

/// Frames, header and padding included.
const FRAME_BYTES: usize = 64 << 10;
const RECORD_BYTES: usize = 1024;
/// A frame of 64 KiB holds so many records: a header of 96 bytes, and 4 bytes a record.
const RECORDS: u64 = ((FRAME_BYTES - 96) / (RECORD_BYTES + 4)) as u64;
/// Frames that are written before anything is measured: enough for the log to go round.
const WARM_FRAMES: u64 = 3072;
/// Frames of one measurement.
const FRAMES: u64 = 6144;
/// What the ceiling writes over and over.
const CEILING_BYTES: u64 = 256 << 20;
const DEPTHS: [usize; 3] = [1, 2, 4];

fn main() {
    let directory = std::env::var_os("WOODCHUCK_BENCH_DIRECTORY")
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = directory.join(format!("woodchuck-log-append-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("the directory can be made");
    // `cargo test --benches` asks only whether it runs.
    if std::env::args().any(|argument| argument == "--test") {
        append(&directory, 4, 64);
        seam(&directory, 4, 64);
        bare_ring(&directory, 4, 64, CompletionMode::default());
    } else {
        compare(&directory, number("WOODCHUCK_BENCH_ROUNDS", 15));
        let mut criterion = Criterion::default().configure_from_args();
        register(&mut criterion, &directory);
        criterion.final_summary();
    }
    std::fs::remove_dir_all(&directory).expect("the directory can be removed");
}

/// What is measured.
#[derive(Clone, Copy)]
enum Variant {
    Ring(CompletionMode),
    Log,
    Seam,
}

const VARIANTS: [Variant; 4] = [
    Variant::Ring(CompletionMode::Cooperative),
    Variant::Log,
    Variant::Ring(CompletionMode::Deferred),
    Variant::Seam,
];

/// Measures all by turns, and prints medians and ratios.
fn compare(directory: &Path, rounds: usize) {
    println!(
        "| in flight | log, records/s | log, MiB/s | ring, MiB/s | log / ring (least to most) | \
         seam / ring |"
    );
    println!("|---|---|---|---|---|---|");
    for depth in DEPTHS {
        let speeds = woodchuck_benches::by_turns(&VARIANTS, rounds, |variant| {
            speed(match variant {
                Variant::Ring(mode) => bare_ring(directory, depth, FRAMES, mode),
                Variant::Log => append(directory, depth, FRAMES).0,
                Variant::Seam => seam(directory, depth, FRAMES),
            })
        });
        let middle = |speeds: &Vec<f64>| median(speeds.iter().copied());
        let [cooperative, log, deferred, seam] = &speeds[..] else { unreachable!("four variants") };
        let ring = if middle(cooperative) >= middle(deferred) { cooperative } else { deferred };
        let shares = |of: &Vec<f64>| {
            let mut shares: Vec<f64> = of.iter().zip(ring).map(|(of, ring)| of / ring).collect();
            shares.sort_unstable_by(f64::total_cmp);
            shares
        };
        let (log_shares, seam_shares) = (shares(log), shares(seam));
        println!(
            "| {depth} | {:.0} | {:.0} | {:.0} | {:.2} ({:.2} to {:.2}) | {:.2} |",
            middle(log) * f64::from(1 << 20) / FRAME_BYTES as f64 * RECORDS as f64,
            middle(log),
            middle(ring),
            middle(&log_shares),
            log_shares.first().copied().unwrap_or_default(),
            log_shares.last().copied().unwrap_or_default(),
            middle(&seam_shares),
        );
    }
}

/// The same under Criterion, for its statistics and comparisons with earlier runs.
fn register(criterion: &mut Criterion, directory: &Path) {
    let mut group = criterion.benchmark_group("log append, 64 KiB frames");
    group.sample_size(10).sampling_mode(criterion::SamplingMode::Flat);
    group.throughput(criterion::Throughput::Bytes(FRAME_BYTES as u64));
    for depth in DEPTHS {
        group.bench_function(format!("ring/{depth} in flight"), |bencher| {
            let run = |ran| bare_ring(directory, depth, ran, CompletionMode::default());
            bencher.iter_custom(|frames| scaled(frames, run));
        });
        group.bench_function(format!("log/{depth} in flight"), |bencher| {
            bencher.iter_custom(|frames| scaled(frames, |ran| append(directory, depth, ran).0));
        });
    }
    group.finish();
}

/// The time of so many frames, from a run that is long enough to mean something.
fn scaled(frames: u64, run: impl Fn(u64) -> Duration) -> Duration {
    let ran = frames.max(2048);
    run(ran).mul_f64(frames as f64 / ran as f64)
}

/// MiB a second, of `FRAMES` frames.
fn speed(elapsed: Duration) -> f64 {
    (FRAMES * FRAME_BYTES as u64) as f64 / f64::from(1 << 20) / elapsed.as_secs_f64()
}

/// The time that the log takes for so many frames.
fn append(directory: &Path, depth: usize, frames: u64) -> (Duration, Statistics) {
    let directory = directory.join("log");
    let result = on_one_shard(true, Appender { directory: directory.clone(), depth, frames });
    std::fs::remove_dir_all(&directory).expect("the log can be removed");
    let full = result.1.bytes_written / (result.1.data_frames + result.1.start_frames).max(1);
    assert!(frames < 1000 || full > FRAME_BYTES as u64 * 99 / 100, "frames of {full} bytes");
    result
}

#[derive(Clone)]
struct Appender {
    directory: PathBuf,
    depth: usize,
    frames: u64,
}

impl Program for Appender {
    type Output = (Duration, Statistics);

    async fn run<E: Env>(self, env: E) -> Self::Output {
        let options = LogOptions {
            frame_bytes: FRAME_BYTES,
            frames_in_flight: self.depth,
            queue_bytes: (2 * self.depth + 2) * FRAME_BYTES,
            ..LogOptions::default()
        };
        let opened = Log::open(env, self.directory, options, |_| Ok(())).await;
        let (log, _) = opened.expect("the log can be created");
        append_frames(&log, WARM_FRAMES).await;
        let start = Instant::now();
        append_frames(&log, self.frames).await;
        let elapsed = start.elapsed();
        let statistics = log.statistics();
        log.close().await.expect("all is durable");
        (elapsed, statistics)
    }
}

/// Appends records and takes all their acknowledgements.
async fn append_frames<E: Env>(log: &Log<E, ()>, frames: u64) {
    let record = [0x5A_u8; RECORD_BYTES];
    let records = frames * RECORDS;
    let (mut submitted, mut acknowledged) = (0, 0);
    while acknowledged < records {
        while submitted < records {
            match log.submit(&[&record], ()) {
                Ok(()) => submitted += 1,
                Err((LogError::Busy { .. }, ())) => break,
                Err((error, ())) => panic!("{error}"),
            }
        }
        let committed = log.committed().await.expect("the disk works");
        acknowledged += committed.len() as u64;
        if let Some(last) = committed.last() {
            log.trim(last.lsn);
        }
    }
}

/// The time that a bare ring takes for so many frames.
fn bare_ring(directory: &Path, depth: usize, frames: u64, mode: CompletionMode) -> Duration {
    let plan = Transfers {
        access: Access::DurableWrite,
        bytes: FRAME_BYTES,
        in_flight: depth,
        transfers: frames,
        file_bytes: CEILING_BYTES,
        completion_mode: mode,
        registered_buffers: true,
        registered_file: true,
        wait_for: 1,
    };
    let took = plan.measure(&directory.join("ring"));
    took.expect("io_uring and direct I/O are allowed here").elapsed
}

/// The time that the seam takes for so many frames.
fn seam(directory: &Path, depth: usize, frames: u64) -> Duration {
    let path = directory.join("seam");
    let elapsed = on_one_shard(true, Straight { path: path.clone(), depth, frames });
    std::fs::remove_file(&path).expect("the file can be removed");
    elapsed
}

#[derive(Clone)]
struct Straight {
    path: PathBuf,
    depth: usize,
    frames: u64,
}

impl Program for Straight {
    type Output = Duration;

    async fn run<E: Env>(self, env: E) -> Duration {
        let file = env.disk().open(&self.path, OpenMode::CreateNew).await;
        let file = file.expect("the file can be made");
        file.allocate(CEILING_BYTES).await.expect("there is room");
        let mut zeros = Buffer::zeroed(1 << 20);
        for offset in (0..CEILING_BYTES).step_by(1 << 20) {
            let (written, buffer) = file.write_at(zeros, offset, Durability::Volatile).await;
            written.expect("the disk works");
            zeros = buffer;
        }
        file.sync_data().await.expect("the disk works");
        write_frames(&env, &file, self.depth, self.frames.min(WARM_FRAMES)).await;
        let start = Instant::now();
        write_frames(&env, &file, self.depth, self.frames).await;
        start.elapsed()
    }
}

/// Writes so many frames, `depth` of them in flight.
async fn write_frames<E: Env>(env: &E, file: &DiskFile<E>, depth: usize, frames: u64) {
    let next = Rc::new(Cell::new(0));
    let writers: Vec<_> = (0..depth)
        .map(|index| {
            let (file, next) = (file.clone(), Rc::clone(&next));
            env.spawn("writer", async move {
                let mut buffer = Buffer::zeroed(FRAME_BYTES);
                buffer.fill(index as u8 | 1);
                while next.get() < frames {
                    let offset = next.replace(next.get() + 1) * FRAME_BYTES as u64 % CEILING_BYTES;
                    let (written, back) = file.write_at(buffer, offset, Durability::Durable).await;
                    written.expect("the disk works");
                    buffer = back;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await;
    }
}

type DiskFile<E> = <<E as Env>::Disk as Disk>::File;
