//! `woodchuck probe`.
//!
//! **What lives here.** `measure` is the program that measures, on the runtime that the engine runs
//! on, in the file that `scratch` makes and removes; `histogram` counts its times. `report` holds
//! what is known, `verdict` says what it means, `tell` writes it for people and `json` for programs.
//! What only system calls tell comes from [`woodchuck_io::probe`].
//!
//! How many frames are in flight is measured and chosen by [`crate::volume`], as `serve` does it.
//!
//! **What must never be here.** Settings of the engine: they are read from its own defaults.

mod histogram;
mod json;
mod measure;
mod report;
mod scratch;
mod tell;
mod verdict;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use woodchuck::limits::SHARDS;
use woodchuck::{EngineOptions, VOLUME_NAME};
use woodchuck_io::limits::{BLOCK_BYTES, HELPER_THREADS, RING_COMPLETIONS, RING_SUBMISSIONS};
use woodchuck_io::probe::{self as kernel, DirectIo};
use woodchuck_io::runtime::{Backend, Runtime, RuntimeOptions};
use woodchuck_io::{Disk, Env, Program};

use crate::exit::{Exit, Trouble, help};
use crate::limits::{
    PROBE_SCRATCH_BYTES, PROBE_SCRATCH_BYTES_MIN, PROBE_SCRATCH_SHARE, PROBE_SECONDS,
    PROBE_SECONDS_MAX, PROBE_SECONDS_MIN,
};
use crate::progress;
use crate::signals::Caught;
use crate::text::{bytes, parse_bytes};
use measure::{Ended, Measure, Measured};
use report::{Report, Settings};
use scratch::SCRATCH_NAME;

/// What it does, for the help.
pub(crate) const ABOUT: &str = "\
Measure a volume, and say what Woodchuck can expect of it and how it will use it.

Reads, writes and flushes are measured in a scratch file, woodchuck-probe.scratch, which is removed
at the end; nothing else in DIR is touched. That takes about thirteen seconds, in which the disk is kept
as busy as it can be: a broker on the same volume becomes slower. The file takes no more than a
quarter of the free space. Ctrl-C ends it early, and removes the file too.";

/// What to type.
pub(crate) fn examples() -> String {
    help(&[
        "probe data",
        "probe /mnt/volume --seconds 2 --size 4GiB",
        "probe data --io posix --json",
    ])
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A directory on the volume; that of a live broker will do.
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// How to reach the kernel: automatic, uring, posix or, if it is built in, glommio. [default:
    /// what WOODCHUCK_IO says, or automatic: io_uring where it is allowed]
    #[arg(long, value_name = "BACKEND", value_parser = parse_backend)]
    io: Option<Backend>,

    /// How long each of the measurements takes, of which there are about fifty.
    #[arg(long, value_name = "SECONDS", default_value_t = PROBE_SECONDS,
          value_parser = parse_seconds)]
    seconds: f64,

    /// The size of the scratch file, such as 64MiB or 4GiB. [default: 256 MiB, or what fits into a
    /// quarter of the free space]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    size: Option<u64>,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Looks at a volume, and says what Woodchuck can expect of it.
pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Trouble> {
    // As it stands in errors; the report has it from the root on.
    let directory = &arguments.directory;
    let backend = match arguments.io {
        Some(backend) => backend,
        None => Backend::from_environment().map_err(|error| error.to_string())?,
    };
    let volume = kernel::volume(directory).map_err(|error| unseen(directory, &error))?;
    let direct_io = kernel::direct_io(directory).map_err(|error| unwritten(&error))?;
    check_alignment(direct_io)?;
    let scratch_bytes = scratch_bytes(volume.available_bytes, arguments.size)?;
    let machine = kernel::machine().map_err(|error| error.to_string())?;
    let usual = RuntimeOptions { backend, ..RuntimeOptions::default() };
    let rings = kernel::rings(usual.completion_mode).map_err(|error| error.to_string());
    let each = Duration::from_secs_f64(arguments.seconds);
    let bar = progress::bar(Measure::STEPS as u64, "measurements", !arguments.json);
    let measure = Measure { directory: directory.clone(), scratch_bytes, each, bar: bar.clone() };
    let ended = run_measurements(&usual, measure);
    bar.finish_and_clear();
    let (used, measured) = match ended? {
        (used, Ok(measured)) => (used, measured),
        (_, Err(Ended::Failed(why))) => return Err(why.into()),
        (_, Err(Ended::Stopped)) => {
            let message = "interrupted; the scratch file is removed".to_owned();
            return Err(Trouble { exit: Exit::Interrupted, message });
        }
    };
    let settings = settings(directory, &usual, used, &measured);
    let report = Report {
        directory: std::path::absolute(directory).unwrap_or_else(|_| directory.clone()),
        volume,
        direct_io,
        rings,
        machine,
        scratch_bytes,
        each,
        measured,
        settings,
    };
    let verdict = verdict::verdict(&report);
    if arguments.json {
        println!("{:#}", json::report(&report, &verdict));
    } else {
        print!("{}", tell::report(&report, &verdict));
    }
    Ok(Exit::Done)
}

/// Runs the measurements on one shard, and says which backend that was. The first signal ends them
/// once what is in flight has come back, the second at once.
fn run_measurements(
    usual: &RuntimeOptions,
    measure: Measure,
) -> Result<(Backend, Result<Measured, Ended>), String> {
    let directory = measure.directory.clone();
    let options = RuntimeOptions { shards: 1, ..usual.clone() };
    // From before there is a file: no signal shall leave it behind.
    let caught = Caught::new()?;
    let running =
        Runtime::start(options, measure).map_err(|error| format!("cannot start: {error}"))?;
    let used = running.backend();
    let stopper = running.stopper();
    let _watching = caught.watch(move || stopper.stop())?;
    match running.join().into_iter().next() {
        Some(Ok(ended)) => Ok((used, ended)),
        Some(Err(panic)) => {
            sweep(usual, directory);
            Err(format!("this is a bug: {panic}"))
        }
        None => Err("this is a bug: no shard ran".to_owned()),
    }
}

/// Removes the scratch file that a bug has left.
fn sweep(usual: &RuntimeOptions, directory: PathBuf) {
    let options = RuntimeOptions { shards: 1, backend: Backend::Posix, ..usual.clone() };
    if let Ok(running) = Runtime::start(options, Sweep { directory }) {
        drop(running.join());
    }
}

/// Removes a scratch file.
#[derive(Clone)]
struct Sweep {
    directory: PathBuf,
}

impl Program for Sweep {
    type Output = io::Result<()>;

    async fn run<E: Env>(self, env: E) -> Self::Output {
        env.disk().remove(&self.directory.join(SCRATCH_NAME)).await
    }
}

/// How many frames of a log are in flight, and why: what a start of `serve` has settled in this
/// directory, or would settle.
fn frames_in_flight(measured: &Measured) -> (usize, String) {
    let chosen = measured.flight.frames_in_flight();
    let reason = measured.flight.reason();
    match measured.recorded {
        None => (chosen, reason),
        Some(recorded) if recorded == chosen => {
            (chosen, format!("as {VOLUME_NAME} here says, too: {reason}"))
        }
        Some(recorded) => (
            recorded,
            format!(
                "{VOLUME_NAME} here says so, and now it would be {chosen} ({reason}): remove that \
                 file, and the next start of serve measures again"
            ),
        ),
    }
}

/// What the engine uses in a directory, and what it uses of this backend.
fn settings(
    directory: &Path,
    usual: &RuntimeOptions,
    used: Backend,
    measured: &Measured,
) -> Settings {
    let log = EngineOptions::new(directory.to_path_buf()).log;
    let (frames_in_flight, frames_in_flight_reason) = frames_in_flight(measured);
    Settings {
        backend: used,
        completion_mode: usual.completion_mode,
        ring_flags: kernel::ring_flags(usual.completion_mode),
        ring_submissions: RING_SUBMISSIONS,
        ring_completions: RING_COMPLETIONS,
        ring_locked_bytes: kernel::ring_locked_bytes() as u64,
        helper_threads: HELPER_THREADS,
        pinned: usual.pin,
        shards: usual.shards.min(SHARDS as usize),
        block_bytes: BLOCK_BYTES,
        frames_in_flight,
        frames_in_flight_reason,
        frame_bytes: log.frame_bytes,
        segment_bytes: log.segment_bytes,
        queue_bytes: log.queue_bytes,
        witness_delay: log.witness_delay,
    }
}

/// What to do about a directory that cannot be looked at.
fn unseen(directory: &Path, error: &io::Error) -> String {
    let directory = directory.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!(
            "there is no {directory}; make it first, or name a directory on the volume that you \
             want to know about"
        ),
        io::ErrorKind::NotADirectory => {
            format!("{directory} is not a directory; name the one that it is in")
        }
        _ => unwritten(error),
    }
}

/// What to do about a directory in which no file can be made.
fn unwritten(error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "run this as the user that the broker will run as, or name a directory that you may \
             write to"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "the volume is mounted for reading only: mount it for writing, or name a directory on \
             another"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space first",
        _ => "name a directory on a volume that holds files",
    };
    format!("{error}; {advice}")
}

/// Refuses a volume on which direct I/O takes larger blocks than the engine's.
fn check_alignment(direct_io: DirectIo) -> Result<(), String> {
    let DirectIo::Aligned { memory_bytes, offset_bytes, .. } = direct_io else { return Ok(()) };
    let needed = memory_bytes.max(offset_bytes);
    if needed as usize <= BLOCK_BYTES {
        return Ok(());
    }
    Err(format!(
        "direct I/O on this volume must be aligned to {}, and Woodchuck reads and writes in blocks \
         of {}: a broker would fail here. Choose a directory on another volume",
        bytes(needed.into()),
        bytes(BLOCK_BYTES as u64)
    ))
}

/// How large the scratch file gets: what was asked for, or else as much as usual or as fits.
fn scratch_bytes(available_bytes: u64, asked: Option<u64>) -> Result<u64, String> {
    let whole = |bytes: u64| bytes - bytes % PROBE_SCRATCH_BYTES_MIN;
    let most = whole(available_bytes / PROBE_SCRATCH_SHARE);
    let (least, free) = (bytes(PROBE_SCRATCH_BYTES_MIN), bytes(available_bytes));
    if most == 0 {
        return Err(format!(
            "there is not enough room: {free} are free, and the scratch file takes at least \
             {least} and at most a quarter of the free space. Free some, or name a directory on \
             another volume"
        ));
    }
    match asked.map(|asked| (asked, whole(asked))) {
        None => Ok(most.min(PROBE_SCRATCH_BYTES)),
        Some((asked, 0)) => {
            Err(format!("--size {} is too small; give at least {least}", bytes(asked)))
        }
        Some((asked, wanted)) if wanted > most => Err(format!(
            "there is not enough room for --size {}: {free} are free, and the scratch file takes \
             at most a quarter of them. Give at most {}, or leave --size out",
            bytes(asked),
            bytes(most)
        )),
        Some((_, wanted)) => Ok(wanted),
    }
}

fn parse_backend(text: &str) -> Result<Backend, String> {
    text.parse().map_err(|_| "give automatic, uring, posix or glommio".to_owned())
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok();
    let range = PROBE_SECONDS_MIN..=PROBE_SECONDS_MAX;
    seconds
        .filter(|seconds| range.contains(seconds))
        .ok_or_else(|| format!("give from {PROBE_SECONDS_MIN} to {PROBE_SECONDS_MAX}"))
}

/// A report with made-up numbers: of a good disk.
#[cfg(test)]
fn sample() -> Report {
    use crate::limits::{PROBE_BLOCK_BYTES, PROBE_DEPTHS};
    use crate::volume::Rates;
    use measure::{Entry, Figures, Operation};
    use woodchuck_io::probe::{
        Ability, AlignmentSource, BlockDevice, Machine, MemoryLock, Rings, Volume,
    };
    use woodchuck_io::runtime::CompletionMode;

    let figures = |microseconds: u64| Figures {
        operations: 3000,
        operations_per_second: 1e6 / microseconds as f64,
        mib_per_second: 1e6 / microseconds as f64 / 256.0,
        p50: Duration::from_micros(microseconds),
        p99: Duration::from_micros(2 * microseconds),
    };
    let entry = |operation, block_bytes, depth| {
        // Twelve thousand a second with four in flight, and as many more with more.
        let operations_per_second = 3000.0 * depth as f64;
        let mib_per_second = operations_per_second * block_bytes as f64 / f64::from(1 << 20);
        let figures = Figures { operations_per_second, mib_per_second, ..figures(82) };
        Entry { operation, block_bytes, depth, figures }
    };
    let mut matrix = Vec::new();
    for operation in Operation::ALL {
        for block_bytes in PROBE_BLOCK_BYTES {
            matrix.extend(PROBE_DEPTHS.map(|depth| entry(operation, block_bytes, depth)));
        }
    }
    let ability = |name, present| Ability { name, present };
    Report {
        directory: PathBuf::from("/data"),
        volume: Volume {
            filesystem: "ext4".to_owned(),
            device: "/dev/vda".to_owned(),
            mount_point: "/data".to_owned(),
            mount_options: "rw".to_owned(),
            total_bytes: 200 << 30,
            available_bytes: 100 << 30,
            block_device: Some(BlockDevice {
                volatile_cache: true,
                force_unit_access: false,
                rotational: false,
                logical_block_bytes: 512,
            }),
        },
        direct_io: DirectIo::Aligned {
            memory_bytes: 4,
            offset_bytes: 512,
            source: AlignmentSource::Kernel,
        },
        rings: Ok(Rings {
            needed: vec![ability("READ", true), ability("WRITE", true)],
            other: vec![ability("SEND_ZC", true), ability("URING_CMD", false)],
        }),
        machine: Machine {
            kernel: "6.18".to_owned(),
            cpus_online: 8,
            cpus_allowed: 4,
            cpus_affordable: 4,
            load_average: 0.1,
            memory_lock: MemoryLock { limit_bytes: Some(8 << 20), exempt: false },
        },
        scratch_bytes: 256 << 20,
        each: Duration::from_millis(250),
        measured: Measured {
            replaced: false,
            extending: figures(123),
            allocated: Some(figures(156)),
            overwritten: figures(82),
            write_then_flush: figures(98),
            flush_after_write: figures(42),
            flush_clean: figures(41),
            matrix,
            // As in the matrix, but that more than four do no more.
            flight: Rates([[3e3, 6e3, 12e3, 12e3, 12e3]; 2]),
            recorded: None,
        },
        settings: Settings {
            backend: Backend::Uring,
            completion_mode: CompletionMode::Cooperative,
            ring_flags: vec!["SINGLE_ISSUER"],
            ring_submissions: 512,
            ring_completions: 4096,
            ring_locked_bytes: 100 << 10,
            helper_threads: 4,
            pinned: true,
            shards: 4,
            block_bytes: 4 << 10,
            frames_in_flight: 4,
            frames_in_flight_reason: "with 8 in flight as much".to_owned(),
            frame_bytes: 256 << 10,
            segment_bytes: 64 << 20,
            queue_bytes: 16 << 20,
            witness_delay: Duration::from_millis(10),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_scratch_file_leaves_room() {
        assert_eq!(scratch_bytes(100 << 30, None), Ok(256 * MIB));
        assert_eq!(scratch_bytes(300 * MIB, None), Ok(64 * MIB));
        assert_eq!(scratch_bytes(64 * MIB, None), Ok(16 * MIB));
        assert_eq!(scratch_bytes(100 << 30, Some(4 << 30)), Ok(4 << 30));
        assert_eq!(scratch_bytes(100 << 30, Some(17 * MIB)), Ok(16 * MIB));
        for (available, asked, told) in [
            (64 * MIB - 1, None, "64.0 MiB are free, and the scratch file takes at least 16 MiB"),
            (0, Some(16 * MIB), "0 bytes are free"),
            (1 << 30, Some(300 * MIB), "--size 300 MiB: 1 GiB are free"),
            (1 << 30, Some(300 * MIB), "Give at most 256 MiB"),
            (1 << 30, Some(MIB), "--size 1 MiB is too small; give at least 16 MiB"),
        ] {
            let error = scratch_bytes(available, asked).expect_err("no room");
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn what_a_start_has_settled_goes_before_what_is_measured_now() {
        let told = |recorded| {
            let mut report = sample();
            report.measured.recorded = recorded;
            frames_in_flight(&report.measured)
        };
        let (frames, reason) = told(None);
        assert!(frames == 4 && reason.starts_with("durable writes of 4 KiB and"), "{reason}");
        let (frames, reason) = told(Some(4));
        assert!(frames == 4 && reason.starts_with("as woodchuck-volume.json"), "{reason}");
        let (frames, reason) = told(Some(3));
        assert!(frames == 3 && reason.contains("now it would be 4 (durable"), "{reason}");
    }

    #[test]
    fn blocks_that_are_too_large_are_refused() {
        let aligned = |memory_bytes, offset_bytes| {
            let source = kernel::AlignmentSource::Kernel;
            check_alignment(DirectIo::Aligned { memory_bytes, offset_bytes, source })
        };
        assert_eq!(check_alignment(DirectIo::Refused), Ok(()));
        assert_eq!(aligned(4, 512), Ok(()));
        assert_eq!(aligned(4096, 4096), Ok(()));
        for error in [aligned(512, 16384), aligned(16384, 512)] {
            assert!(error.expect_err("too large").contains("aligned to 16 KiB"));
        }
    }

    #[test]
    fn seconds_are_within_reason() {
        assert_eq!(parse_seconds("0.25"), Ok(0.25));
        for wrong in ["", "0", "-1", "NaN", "inf", "1e9", "a", "1s"] {
            assert!(parse_seconds(wrong).is_err(), "{wrong}");
        }
    }
}
