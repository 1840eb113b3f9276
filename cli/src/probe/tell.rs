//! What people read, in lines of at most 100 characters.

use std::fmt::Write as _;

use woodchuck_io::probe::{Ability, AlignmentSource, DirectIo};
use woodchuck_io::runtime::{Backend, CompletionMode};

use super::measure::{Figures, Operation};
use super::report::Report;
use super::verdict::Sentence;
use crate::limits::{FLIGHT_DEPTHS, PROBE_BLOCK_BYTES, PROBE_DEPTHS};
use crate::text::{bytes, measured, plural, short_time, wrap};

/// The longest line.
const WIDTH: usize = 100;

/// Where the text of what has a name begins.
const NAMED: usize = 14;

/// Columns of a matrix: the block size, and for each depth what was measured.
const LABEL: usize = 10;
const GROUP: usize = 8 + 7 + 7 + 8;

const _: () = assert!(LABEL + GROUP * PROBE_DEPTHS.len() <= WIDTH, "a matrix fits a line");

pub(super) fn report(report: &Report, verdict: &[Sentence]) -> String {
    let mut told = String::new();
    facts(&mut told, report);
    single(&mut told, report);
    for operation in Operation::ALL {
        matrix(&mut told, report, operation);
    }
    flight(&mut told, report);
    settings(&mut told, report);
    told.push_str("\nVerdict\n");
    for sentence in verdict {
        named(&mut told, sentence.level.name(), 11, &sentence.text);
    }
    told
}

/// A name, and a text beside it in as many lines as it takes.
fn named(told: &mut String, name: &str, column: usize, text: &str) {
    for (index, line) in wrap(text, WIDTH - column).into_iter().enumerate() {
        let name = if index == 0 { format!("  {name}") } else { String::new() };
        // Writing to a string does not fail, here and below.
        let _ = writeln!(told, "{name:column$}{line}");
    }
}

fn facts(told: &mut String, report: &Report) {
    let _ = writeln!(told, "{}", report.directory.display());
    for (name, text) in [
        ("volume", volume(report)),
        ("device", device(report)),
        ("direct I/O", direct_io(report.direct_io)),
        ("io_uring", io_uring(report)),
        ("machine", machine(report)),
        ("memory lock", memory_lock(report)),
        ("measured", how(report)),
    ] {
        named(told, name, NAMED, &text);
    }
}

fn volume(report: &Report) -> String {
    let volume = &report.volume;
    let mut text = volume.filesystem.clone();
    if !volume.device.is_empty() {
        let _ = write!(text, " on {}", volume.device);
    }
    if !volume.mount_point.is_empty() {
        let _ = write!(text, ", mounted at {}", volume.mount_point);
    }
    let (free, total) = (bytes(volume.available_bytes), bytes(volume.total_bytes));
    let _ = write!(text, "; {free} of {total} are free");
    text
}

fn device(report: &Report) -> String {
    let Some(device) = &report.volume.block_device else {
        return "no block device that the kernel tells of".to_owned();
    };
    let cache = if device.volatile_cache { "volatile cache" } else { "no volatile cache" };
    let access = if device.force_unit_access { "FUA" } else { "no FUA" };
    let rotates = if device.rotational { "says that it rotates" } else { "does not rotate" };
    let block = bytes(device.logical_block_bytes);
    format!("{cache}, {access}, {rotates}, addresses {block}")
}

fn direct_io(direct_io: DirectIo) -> String {
    match direct_io {
        DirectIo::Refused => "none: files go through the page cache".to_owned(),
        DirectIo::Aligned { memory_bytes, offset_bytes, source } => {
            let source = match source {
                AlignmentSource::Kernel => "the kernel says",
                AlignmentSource::Trial => "tried out",
            };
            let (memory, offset) = (bytes(memory_bytes.into()), bytes(offset_bytes.into()));
            format!("memory aligned to {memory}, offsets and lengths to {offset} ({source})")
        }
    }
}

fn io_uring(report: &Report) -> String {
    let names = |abilities: &[Ability], present: bool| {
        let chosen = abilities.iter().filter(|one| one.present == present);
        chosen.map(|one| one.name).collect::<Vec<_>>().join(" ")
    };
    let rings = match &report.rings {
        Ok(rings) => rings,
        Err(why) => return format!("refused: {why}"),
    };
    let mut text = if rings.missing().is_empty() {
        format!("allowed, and has all that is needed: {}", names(&rings.needed, true))
    } else {
        format!("lacks what is needed: {}", rings.missing().join(" "))
    };
    for (present, what) in [(true, "Also there"), (false, "Not there")] {
        let other = names(&rings.other, present);
        if !other.is_empty() {
            let _ = write!(text, ". {what}: {other}");
        }
    }
    text
}

fn machine(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "Linux {}, {}, load average {:.1}",
        machine.kernel,
        plural(machine.cpus_online, "CPU"),
        machine.load_average
    );
    if machine.cpus_allowed < machine.cpus_online {
        let _ = write!(text, "; this process may use {} of the CPUs", machine.cpus_allowed);
    }
    if machine.cpus_affordable < machine.cpus_allowed {
        let _ = write!(text, "; a quota gives it the time of {}", machine.cpus_affordable);
    }
    text
}

fn memory_lock(report: &Report) -> String {
    let lock = &report.machine.memory_lock;
    let limit = match lock.limit_bytes {
        None => "unlimited".to_owned(),
        Some(limit) if lock.exempt => {
            format!("{}, from which this process is exempt", bytes(limit))
        }
        Some(limit) => bytes(limit),
    };
    let ring = bytes(report.settings.ring_locked_bytes);
    format!(
        "{limit}. Buffers are locked as far as it goes; newer kernels count {ring} for each ring"
    )
}

fn how(report: &Report) -> String {
    let left_over = match report.measured.replaced {
        true => "; an earlier run had left its file, which was replaced",
        false => "",
    };
    format!(
        "with {}, in a file of {}, {} s each{left_over}",
        report.settings.backend,
        bytes(report.scratch_bytes),
        report.each.as_secs_f64(),
    )
}

/// The measurements of one operation at a time.
fn single(told: &mut String, report: &Report) {
    let all = &report.measured;
    let block = bytes(report.settings.block_bytes as u64);
    let groups = [
        (
            format!("Durable {block} writes, one at a time"),
            vec![
                ("over written blocks", Some(&all.overwritten)),
                ("into allocated blocks", all.allocated.as_ref()),
                ("at the end of a growing file", Some(&all.extending)),
            ],
        ),
        (
            "Flushes".to_owned(),
            vec![
                ("fdatasync with nothing to flush", Some(&all.flush_clean)),
                ("fdatasync after a write", Some(&all.flush_after_write)),
                ("write, then fdatasync", Some(&all.write_then_flush)),
                ("write with RWF_DSYNC", Some(&all.overwritten)),
            ],
        ),
    ];
    for (title, lines) in groups {
        let _ = writeln!(told, "\n{title:38}{:>10}{:>10}{:>10}", "per second", "p50", "p99");
        for (what, figures) in lines {
            let _ = match figures {
                Some(Figures { operations_per_second, p50, p99, .. }) => writeln!(
                    told,
                    "  {what:36}{:>10}{:>10}{:>10}",
                    measured(*operations_per_second),
                    short_time(*p50),
                    short_time(*p99)
                ),
                None => writeln!(told, "  {what:36}{:>10}", "refused"),
            };
        }
    }
}

/// The measurements of one operation, by block size and depth.
fn matrix(told: &mut String, report: &Report, operation: Operation) {
    let title = match operation {
        Operation::Read => "Random reads",
        Operation::VolatileWrite => "Volatile writes",
        Operation::DurableWrite => "Durable writes",
    };
    let mut heading = title.to_owned();
    for (group, depth) in (1..).zip(PROBE_DEPTHS) {
        // The label ends where the group's last column does.
        let width = LABEL + GROUP * group - heading.len();
        let _ = write!(heading, "{:>width$}", format!("{depth} in flight"));
    }
    let _ = writeln!(told, "\n{heading}");
    let head = format!("{:>8}{:>7}{:>7}{:>8}", "per s", "MiB/s", "p50", "p99");
    let _ = writeln!(told, "{:LABEL$}{}", "", head.repeat(PROBE_DEPTHS.len()));
    for block_bytes in PROBE_BLOCK_BYTES {
        let _ = write!(told, "{:LABEL$}", format!("  {}", bytes(block_bytes as u64)));
        for depth in PROBE_DEPTHS {
            if let Some(figures) = report.figures(operation, block_bytes, depth) {
                let _ = write!(
                    told,
                    "{:>8}{:>7}{:>7}{:>8}",
                    measured(figures.operations_per_second),
                    measured(figures.mib_per_second),
                    short_time(figures.p50),
                    short_time(figures.p99)
                );
            }
        }
        told.push('\n');
    }
}

/// What the frames in flight are chosen from.
fn flight(told: &mut String, report: &Report) {
    let mut entries = report.measured.flight.entries().peekable();
    let _ = write!(told, "\n{:38}", "Durable writes per second, in flight");
    for depth in FLIGHT_DEPTHS {
        let _ = write!(told, "{depth:>10}");
    }
    told.push('\n');
    while let Some((block_bytes, ..)) = entries.peek() {
        let _ = write!(told, "  {:36}", bytes(*block_bytes as u64));
        for (_, _, rate) in entries.by_ref().take(FLIGHT_DEPTHS.len()) {
            let _ = write!(told, "{:>10}", measured(rate));
        }
        told.push('\n');
    }
}

fn settings(told: &mut String, report: &Report) {
    let settings = &report.settings;
    told.push_str("\nWhat Woodchuck will use here\n");
    let backend = match settings.backend {
        Backend::Posix => format!(
            "posix: ordinary system calls, made by {} threads for each shard",
            settings.helper_threads
        ),
        Backend::Glommio => "glommio: the runtime of that name, to be compared with".to_owned(),
        Backend::Uring | Backend::Automatic => format!(
            "uring, {}: {}; {} submissions, {} completions",
            match settings.completion_mode {
                CompletionMode::Cooperative => "cooperative",
                CompletionMode::Deferred => "deferred",
            },
            settings.ring_flags.join(" "),
            settings.ring_submissions,
            settings.ring_completions
        ),
    };
    let own = if settings.pinned { ", each bound to a CPU" } else { "" };
    let log = format!(
        "segments of {}; frames of at most {}, up to {} in flight; {} may wait; a witness after {}",
        bytes(settings.segment_bytes),
        bytes(settings.frame_bytes as u64),
        settings.frames_in_flight,
        bytes(settings.queue_bytes as u64),
        short_time(settings.witness_delay),
    );
    for (name, text) in [
        ("backend", backend),
        ("shards", format!("{} in a new data directory{own}", settings.shards)),
        ("log", log),
        (
            "in flight",
            format!("{}: {}", settings.frames_in_flight, settings.frames_in_flight_reason),
        ),
        ("blocks", format!("of {}, aligned to that", bytes(settings.block_bytes as u64))),
    ] {
        named(told, name, NAMED, &text);
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::super::verdict::verdict;
    use super::*;

    #[test]
    fn no_line_is_too_long_or_ends_in_blanks() {
        let mut slow = sample();
        slow.measured.allocated = None;
        slow.rings = Err("nobody may use it ".repeat(20));
        slow.settings.backend = Backend::Posix;
        slow.direct_io = DirectIo::Refused;
        slow.volume.block_device = None;
        for entry in &mut slow.measured.matrix {
            entry.figures.operations_per_second = 999_999.0;
            entry.figures.mib_per_second = 99_999.0;
            entry.figures.p50 = std::time::Duration::from_micros(999);
            entry.figures.p99 = std::time::Duration::from_micros(999);
        }
        for made_up in [sample(), slow] {
            let told = report(&made_up, &verdict(&made_up));
            for line in told.lines() {
                assert!(line.chars().count() <= WIDTH, "{line}");
                assert_eq!(line.trim_end(), line);
            }
        }
    }

    #[test]
    fn all_that_is_known_is_told() {
        let report_ = sample();
        let told = report(&report_, &verdict(&report_));
        for text in [
            "ext4 on /dev/vda, mounted at /data; 100 GiB of 200 GiB are free",
            "volatile cache, no FUA, does not rotate, addresses 512 bytes",
            "memory aligned to 4 bytes, offsets and lengths to 512 bytes (the kernel says)",
            "has all that is needed: READ WRITE. Also there: SEND_ZC. Not there:",
            "Linux 6.18, 8 CPUs, load average 0.1; this process may use 4 of the CPUs",
            "8 MiB. Buffers are locked as far as it goes; newer kernels count 100 KiB for each ring",
            "with uring, in a file of 256 MiB, 0.25 s each\n",
            "  over written blocks                     12 195     82 us    164 us\n",
            "  fdatasync after a write                 23 810     42 us     84 us\n",
            "Random reads                 1 in flight                   4 in flight",
            "  4 KiB      3 000     12  82 us  164 us  12 000     47  82 us  164 us",
            "Durable writes per second, in flight           1         2         4         8        16",
            "  64 KiB                                   3 000     6 000    12 000    12 000    12 000",
            "  in flight   4: with 8 in flight as much",
            "uring, cooperative: SINGLE_ISSUER; 512 submissions, 4096 completions",
            "segments of 64 MiB; frames of at most 256 KiB, up to 4 in flight; 16 MiB may wait",
            "  note     this volume acknowledges flushes in 42 us",
        ] {
            assert!(told.contains(text), "{text:?} is not in:\n{told}");
        }
        let mut left = sample();
        left.measured.replaced = true;
        assert!(report(&left, &[]).contains("an earlier run had left its file"));
    }
}
