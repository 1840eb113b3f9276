//! What the figures mean, in sentences.
//!
//! Each sentence looks at one thing and has its thresholds in [`crate::limits`].

use woodchuck_io::probe::DirectIo;
use woodchuck_io::runtime::Backend;

use super::measure::{Entry, Operation};
use super::report::Report;
use crate::limits::{
    BUSY_LOAD, CONTENDED_MIN, EQUAL_WITHIN, FLUSH_PROTECTED_NS, FLUSH_SLOW_NS, GAIN_MIN,
    OPERATIONS_MIN, SEGMENTS_AT_START, TAIL_MAX, TAIL_OPERATIONS_MIN,
};
use crate::text::{bytes, measured, plural, short_time};

/// How good news is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// As it should be.
    Good,
    /// Worth knowing.
    Note,
    /// Something will be slow, or is not safe.
    Warning,
}

impl Level {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Warning => "warning",
        }
    }
}

/// One sentence of the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sentence {
    pub(super) level: Level,
    /// What it says, in a word that stays the same.
    pub(super) kind: &'static str,
    pub(super) text: String,
}

const fn good(kind: &'static str, text: String) -> Sentence {
    Sentence { level: Level::Good, kind, text }
}

const fn note(kind: &'static str, text: String) -> Sentence {
    Sentence { level: Level::Note, kind, text }
}

const fn warning(kind: &'static str, text: String) -> Sentence {
    Sentence { level: Level::Warning, kind, text }
}

/// What a report means.
pub(super) fn verdict(report: &Report) -> Vec<Sentence> {
    let mut sentences = reservations(report);
    if report.is_memory() {
        sentences.extend([memory(), durable(report)]);
    } else {
        sentences.extend([flush(report), durable(report), gain(report), extents(report)]);
        sentences.push(durable_write(report));
    }
    sentences.extend(tail(report));
    sentences.push(bandwidth(report));
    sentences.extend(direct(report));
    sentences.push(backend(report));
    sentences.extend(locked_memory(report));
    sentences.extend([space(report), cpus(report)]);
    sentences
}

/// Why the figures may be wrong.
fn reservations(report: &Report) -> Vec<Sentence> {
    let mut sentences = Vec::new();
    let load = report.machine.load_average;
    if load > BUSY_LOAD * report.machine.cpus_online as f64 {
        let text = format!(
            "the machine was busy before this began (a load average of {load:.1} on {}): alone, \
             the volume may do better.",
            plural(report.machine.cpus_online, "CPU")
        );
        sentences.push(warning("busy", text));
    }
    let operations = report.measured.overwritten.operations;
    if operations < OPERATIONS_MIN {
        let text = format!(
            "only {} were done one after the other: to compare them with anything, measure for \
             longer, with --seconds.",
            plural(operations as usize, "durable write")
        );
        sentences.push(warning("few-operations", text));
    }
    sentences
}

fn memory() -> Sentence {
    warning(
        "memory",
        "this directory is in memory: whatever is acknowledged is gone after a power cut or a \
         restart of the machine. Choose a directory on a disk."
            .to_owned(),
    )
}

fn flush(report: &Report) -> Sentence {
    let time = report.measured.flush_after_write.p50;
    let (told, nanoseconds) = (short_time(time), time.as_nanos());
    if report.volume.block_device.as_ref().is_some_and(|device| !device.volatile_cache) {
        return note(
            "flush-not-sent",
            format!(
                "the device says that it has no volatile cache, so Linux sends it no flushes \
                 (fdatasync after a write takes {told}): a power cut loses nothing, if that is \
                 true."
            ),
        );
    }
    if nanoseconds < u128::from(FLUSH_PROTECTED_NS) {
        return note(
            "flush-protected",
            format!(
                "this volume acknowledges flushes in {told}, sooner than flash can be written: it \
                 has a cache that a power cut does not empty, or it lies. In a virtual machine, \
                 that is the host's to say."
            ),
        );
    }
    if nanoseconds <= u128::from(FLUSH_SLOW_NS) {
        return good(
            "flush-plain",
            format!(
                "this volume acknowledges flushes in {told}, like flash without a protected \
                 cache, or a volume over a network."
            ),
        );
    }
    warning(
        "flush-slow",
        format!(
            "this volume acknowledges flushes in {told}, like a disk that rotates, or a busy one. \
             A lone client waits as long for each write; only many clients at once make up for \
             it."
        ),
    )
}

/// The largest depth that the frames in flight reach of those that were measured for choosing their
/// number, and how many durable writes of one block a second that gives.
fn reached(report: &Report) -> (usize, f64) {
    let frames = report.settings.frames_in_flight;
    let wanted = |(bytes, depth, _): &(usize, usize, f64)| {
        *bytes == report.settings.block_bytes && *depth <= frames
    };
    let reached = report.measured.flight.entries().filter(wanted).last();
    reached.map_or((1, 0.0), |(_, depth, rate)| (depth, rate))
}

/// Durable writes of one block a second, one in flight, measured beside those.
fn lone_rate(report: &Report) -> f64 {
    report.measured.flight.entries().next().map_or(0.0, |(_, _, rate)| rate)
}

fn durable(report: &Report) -> Sentence {
    let (settings, (depth, rate)) = (&report.settings, reached(report));
    good(
        "durable",
        format!(
            "a durable {} write takes {} (p50); {depth} in flight give {}/s. Woodchuck keeps up to \
             {} frames of at most {} in flight in each shard's log, and what arrives meanwhile \
             shares the next one.",
            bytes(settings.block_bytes as u64),
            short_time(report.measured.overwritten.p50),
            measured(rate),
            settings.frames_in_flight,
            bytes(settings.frame_bytes as u64),
        ),
    )
}

fn gain(report: &Report) -> Sentence {
    let (depth, rate) = reached(report);
    let times = rate / lone_rate(report).max(f64::MIN_POSITIVE);
    if depth == 1 {
        return note(
            "no-gain",
            "more durable writes in flight do no more than one: the volume makes them durable one \
             after the other. Throughput comes from many records in a frame, and so from many \
             clients, or large batches."
                .to_owned(),
        );
    }
    if times >= GAIN_MIN {
        let text = format!(
            "{depth} durable writes in flight do {times:.1} times the work of one: several frames \
             in flight pay."
        );
        return good("gain", text);
    }
    note(
        "no-gain",
        format!(
            "{depth} durable writes in flight do only {times:.1} times the work of one: the volume \
             makes them durable one after the other. Throughput comes from many records in a \
             frame, and so from many clients, or large batches."
        ),
    )
}

fn extents(report: &Report) -> Sentence {
    let Some(allocated) = report.measured.allocated else {
        return warning(
            "no-allocation",
            format!(
                "{} cannot reserve space (fallocate), which the log needs: a broker will not start \
                 here. Choose ext4 or xfs.",
                report.volume.filesystem
            ),
        );
    };
    let overwritten = report.measured.overwritten.operations_per_second;
    let times = overwritten / allocated.operations_per_second.max(f64::MIN_POSITIVE);
    let extending = report.measured.extending.operations_per_second;
    let than_extending = overwritten / extending.max(f64::MIN_POSITIVE);
    if times >= EQUAL_WITHIN {
        let growing = match than_extending >= EQUAL_WITHIN {
            true => {
                format!(", and {than_extending:.1} times as fast as at the end of a growing file")
            }
            false => String::new(),
        };
        return good(
            "extents-pay",
            format!(
                "durable writes over written blocks are {times:.1} times as fast as into allocated \
                 ones{growing}: so Woodchuck fills its segments with zeros beforehand, and \
                 recycles them."
            ),
        );
    }
    if times * EQUAL_WITHIN > 1.0 {
        return note(
            "extents-equal",
            "durable writes over written blocks are no faster than into allocated ones. Woodchuck \
             fills its segments with zeros beforehand all the same; here that gains nothing."
                .to_owned(),
        );
    }
    note(
        "extents-copied",
        format!(
            "durable writes over written blocks are slower than into allocated ones ({times:.1} \
             times as fast), as where a filesystem copies on write. Woodchuck writes its segments \
             again and again; ext4 or xfs suit it better."
        ),
    )
}

fn durable_write(report: &Report) -> Sentence {
    let both = report.measured.write_then_flush.p50.as_secs_f64();
    let one = report.measured.overwritten.p50.as_secs_f64();
    let times = both / one.max(f64::MIN_POSITIVE);
    if times >= EQUAL_WITHIN {
        let text = format!(
            "writing with RWF_DSYNC, as Woodchuck does, is {times:.1} times as fast as writing and \
             then flushing."
        );
        return good("dsync-faster", text);
    }
    if times * EQUAL_WITHIN > 1.0 {
        let text = "writing with RWF_DSYNC, as Woodchuck does, takes as long as writing and then \
                    flushing."
            .to_owned();
        return good("dsync-equal", text);
    }
    if times * CONTENDED_MIN <= 1.0 {
        return warning(
            "contended",
            format!(
                "writing with RWF_DSYNC, as Woodchuck does, takes {:.1} times as long as writing \
                 and then flushing: the kernel ends such a write on the CPU that began it, and \
                 something else keeps that CPU busy. Measure again when the machine is idle, and \
                 leave a broker's CPUs to the broker.",
                1.0 / times
            ),
        );
    }
    note(
        "dsync-slower",
        format!(
            "writing with RWF_DSYNC, as Woodchuck does, takes {:.1} times as long as writing and \
             then flushing.",
            1.0 / times
        ),
    )
}

fn tail(report: &Report) -> Option<Sentence> {
    let figures = &report.measured.overwritten;
    let times = figures.p99.as_secs_f64() / figures.p50.as_secs_f64().max(f64::MIN_POSITIVE);
    let uneven = figures.operations >= TAIL_OPERATIONS_MIN && times >= TAIL_MAX;
    uneven.then(|| {
        warning(
            "tail",
            format!(
                "one durable write in a hundred takes {} or more, {times:.0} times as long as \
                 usual: others use the disk or the CPUs, or the disk pauses now and then.",
                short_time(figures.p99)
            ),
        )
    })
}

/// What a log can take, by the frames that it writes.
fn bandwidth(report: &Report) -> Sentence {
    let settings = &report.settings;
    let like_a_log = |entry: &&Entry| {
        entry.operation == Operation::DurableWrite
            && entry.block_bytes <= settings.frame_bytes
            && entry.depth <= settings.frames_in_flight
    };
    let entries = report.measured.matrix.iter().filter(like_a_log);
    let most = entries.map(|entry| entry.figures.mib_per_second).fold(0.0, f64::max);
    let text = format!(
        "with large frames, one log can take about {} MiB/s here; all shards share the volume.",
        measured(most)
    );
    good("bandwidth", text)
}

fn direct(report: &Report) -> Option<Sentence> {
    let text = "there is no direct I/O here: files go through the page cache, which costs memory \
                and copies, and the reads that were measured may have been of memory. Choose ext4 \
                or xfs if you can.";
    (report.direct_io == DirectIo::Refused).then(|| warning("no-direct-io", text.to_owned()))
}

fn backend(report: &Report) -> Sentence {
    let settings = &report.settings;
    let why = match &report.rings {
        Ok(rings) if rings.missing().is_empty() => None,
        Ok(rings) => Some(format!("the kernel's rings lack {}", rings.missing().join(", "))),
        Err(why) => Some(why.clone()),
    };
    match (settings.backend, why) {
        (Backend::Posix, Some(why)) => warning(
            "uring-refused",
            format!(
                "io_uring is refused ({why}). Woodchuck will use ordinary system calls, with {} \
                 more threads a shard: expect less throughput and higher latency. io_uring needs \
                 Linux 6.1 or later, kernel.io_uring_disabled = 0 and, in a container, a seccomp \
                 profile that lets it through.",
                settings.helper_threads
            ),
        ),
        (Backend::Posix, None) => note(
            "posix-chosen",
            "io_uring is allowed here, but ordinary system calls were asked for, and were \
             measured. Without --io and WOODCHUCK_IO, Woodchuck uses io_uring."
                .to_owned(),
        ),
        (Backend::Glommio, _) => note(
            "glommio-chosen",
            "glommio was asked for, and was measured. It is there to be compared with: without \
             --io and WOODCHUCK_IO, Woodchuck uses io_uring by itself."
                .to_owned(),
        ),
        (Backend::Uring | Backend::Automatic, _) => good(
            "uring",
            "io_uring is allowed, and Woodchuck will use it: one ring for each shard.".to_owned(),
        ),
    }
}

fn locked_memory(report: &Report) -> Option<Sentence> {
    let (lock, settings) = (&report.machine.memory_lock, &report.settings);
    // One more: the ring that is tried out at the start may not be gone yet.
    let needed = settings.ring_locked_bytes.saturating_mul(settings.shards as u64 + 1);
    let limit = lock.limit_bytes.filter(|limit| !lock.exempt && *limit < needed)?;
    Some(warning(
        "memory-lock",
        format!(
            "this user may lock {} of memory, and newer kernels count {} for the rings of {}: \
             io_uring may be refused. Raise the limit (ulimit -l, or LimitMEMLOCK in a systemd \
             unit).",
            bytes(limit),
            bytes(needed),
            plural(settings.shards, "shard")
        ),
    ))
}

fn space(report: &Report) -> Sentence {
    let settings = &report.settings;
    let needed = settings.segment_bytes.saturating_mul(SEGMENTS_AT_START * settings.shards as u64);
    let (needs, has) = (bytes(needed), bytes(report.volume.available_bytes));
    let shards = plural(settings.shards, "shard");
    if needed > report.volume.available_bytes {
        return warning(
            "space-short",
            format!(
                "{has} are free, and the logs of {shards} need {needs} before the first record: a \
                 new broker will not start here. Free some space, or give fewer --shards."
            ),
        );
    }
    good("space", format!("{has} are free; the logs of {shards} begin with {needs}."))
}

fn cpus(report: &Report) -> Sentence {
    let (machine, shards) = (&report.machine, report.settings.shards);
    if machine.cpus_affordable < machine.cpus_allowed {
        return warning(
            "cpu-quota",
            format!(
                "a new data directory gets {}, one for each CPU, but a quota lets the process use \
                 the time of only {}: give --shards {} when you first start `woodchuck serve`.",
                plural(shards, "shard"),
                plural(machine.cpus_affordable, "CPU"),
                machine.cpus_affordable
            ),
        );
    }
    good(
        "cpus",
        format!("a new data directory gets {}, one for each CPU.", plural(shards, "shard")),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::measure::Figures;
    use super::super::sample;
    use super::*;

    /// The sentence of this kind about a report that is like the sample but for what `change` does.
    fn said(kind: &str, change: impl FnOnce(&mut Report)) -> Sentence {
        let mut report = sample();
        change(&mut report);
        let all = verdict(&report);
        let found = all.iter().find(|sentence| sentence.kind == kind);
        found.unwrap_or_else(|| panic!("no {kind} among {all:#?}")).clone()
    }

    fn kinds(report: &Report) -> Vec<&'static str> {
        verdict(report).iter().map(|sentence| sentence.kind).collect()
    }

    fn times(figures: &mut Figures, microseconds: u64) {
        figures.p50 = Duration::from_micros(microseconds);
        figures.p99 = 2 * figures.p50;
        figures.operations_per_second = 1e6 / microseconds as f64;
    }

    #[test]
    fn a_good_disk_has_nothing_to_warn_of() {
        let expected = [
            ("flush-protected", Level::Note),
            ("durable", Level::Good),
            ("gain", Level::Good),
            ("extents-pay", Level::Good),
            ("dsync-faster", Level::Good),
            ("bandwidth", Level::Good),
            ("uring", Level::Good),
            ("space", Level::Good),
            ("cpus", Level::Good),
        ];
        let said = verdict(&sample());
        let said: Vec<_> = said.iter().map(|sentence| (sentence.kind, sentence.level)).collect();
        assert_eq!(said, expected);
    }

    #[test]
    fn flushes_are_told_by_how_long_they_take() {
        let flush = |microseconds| {
            move |report: &mut Report| times(&mut report.measured.flush_after_write, microseconds)
        };
        let told = said("flush-protected", flush(8)).text;
        assert!(told.contains("acknowledges flushes in 8.0 us") && told.contains("or it lies"));
        assert_eq!(said("flush-protected", flush(99)).level, Level::Note);
        assert_eq!(said("flush-plain", flush(100)).level, Level::Good);
        assert!(said("flush-plain", flush(5000)).text.contains("5.0 ms"));
        assert_eq!(said("flush-slow", flush(5001)).level, Level::Warning);
        let told = said("flush-not-sent", |report| {
            flush(9)(report);
            let device = report.volume.block_device.as_mut().expect("the sample has one");
            device.volatile_cache = false;
        });
        assert!(told.text.contains("no volatile cache") && told.level == Level::Note);
        said("flush-protected", |report| report.volume.block_device = None);
    }

    #[test]
    fn durable_writes_are_told_with_what_the_log_does() {
        let told = said("durable", |_| ()).text;
        assert!(told.starts_with(
            "a durable 4 KiB write takes 82 us (p50); 4 in flight give 12 000/s. Woodchuck keeps \
             up to 4 frames of at most 256 KiB in flight"
        ));
        let told = said("durable", |report| report.settings.frames_in_flight = 3).text;
        assert!(told.contains("2 in flight give 6 000/s"), "{told}");
        let told = said("durable", |report| report.settings.frames_in_flight = 64).text;
        assert!(told.contains("16 in flight give 12 000/s"), "{told}");
    }

    #[test]
    fn depth_pays_or_not() {
        let four = |rate| move |report: &mut Report| report.measured.flight.0[0][2] = rate;
        assert!(said("gain", four(4500.0)).text.contains("1.5 times the work of one"));
        let told = said("no-gain", four(4400.0));
        assert!(told.text.contains("only 1.5 times") && told.level == Level::Note);
        let told = said("no-gain", |report| report.settings.frames_in_flight = 1).text;
        assert!(told.starts_with("more durable writes in flight do no more than one"), "{told}");
    }

    #[test]
    fn extents_pay_or_not() {
        let allocated = |microseconds| {
            move |report: &mut Report| {
                let allocated = report.measured.allocated.as_mut().expect("the sample has it");
                times(allocated, microseconds);
            }
        };
        let told = said("extents-pay", |_| ()).text;
        assert!(told.contains("1.9 times as fast") && told.contains("1.5 times as fast as at the"));
        let told = said("extents-pay", |report| times(&mut report.measured.extending, 80)).text;
        assert!(!told.contains("growing"), "{told}");
        said("extents-equal", allocated(90));
        said("extents-equal", allocated(75));
        assert!(said("extents-copied", allocated(41)).text.contains("0.5 times as fast"));
        let told = said("no-allocation", |report| report.measured.allocated = None);
        assert!(told.text.contains("ext4 cannot reserve space") && told.level == Level::Warning);
    }

    #[test]
    fn one_durable_write_is_compared_with_a_write_and_a_flush() {
        let both = |microseconds| {
            move |report: &mut Report| times(&mut report.measured.write_then_flush, microseconds)
        };
        assert!(said("dsync-faster", both(164)).text.contains("2.0 times as fast"));
        said("dsync-equal", both(80));
        assert!(said("dsync-slower", both(41)).text.contains("takes 2.0 times as long"));
        let told = said("contended", both(20));
        assert!(told.text.contains("takes 4.1 times as long") && told.level == Level::Warning);
    }

    #[test]
    fn a_long_tail_is_a_warning_if_it_was_seen_often_enough() {
        let long = |operations| {
            move |report: &mut Report| {
                report.measured.overwritten.p99 = Duration::from_micros(830);
                report.measured.overwritten.operations = operations;
            }
        };
        assert!(said("tail", long(100)).text.contains("takes 830 us or more, 10 times"));
        let mut report = sample();
        long(99)(&mut report);
        assert!(!kinds(&report).contains(&"tail"));
    }

    #[test]
    fn bandwidth_is_that_of_frames_the_log_writes() {
        // 128 KiB at a rate of 12,000 a second; a block of 1 MiB is no frame.
        assert!(said("bandwidth", |_| ()).text.contains("about 1 500 MiB/s"));
        let told = said("bandwidth", |report| report.settings.frame_bytes = 4096).text;
        assert!(told.contains("about 47 MiB/s"), "{told}");
    }

    #[test]
    fn a_directory_in_memory_is_told_first_and_its_flushes_not_at_all() {
        for filesystem in ["tmpfs", "ramfs"] {
            let mut report = sample();
            report.volume.filesystem = filesystem.to_owned();
            let kinds = kinds(&report);
            assert_eq!(kinds[0], "memory");
            assert!(!kinds.iter().any(|kind| kind.starts_with("flush") || *kind == "gain"));
        }
    }

    #[test]
    fn files_in_the_page_cache_are_a_warning() {
        let told = said("no-direct-io", |report| report.direct_io = DirectIo::Refused);
        assert_eq!(told.level, Level::Warning);
    }

    #[test]
    fn the_backend_is_told_with_why() {
        let told = said("uring-refused", |report| {
            report.settings.backend = Backend::Posix;
            report.rings = Err("nobody may use it".to_owned());
        });
        assert!(told.text.contains("refused (nobody may use it)") && told.level == Level::Warning);
        let told = said("uring-refused", |report| {
            report.settings.backend = Backend::Posix;
            report.rings.as_mut().expect("the sample has them").needed[1].present = false;
        });
        assert!(told.text.contains("rings lack WRITE"), "{}", told.text);
        let chosen = said("posix-chosen", |report| report.settings.backend = Backend::Posix);
        assert_eq!(chosen.level, Level::Note);
        let chosen = said("glommio-chosen", |report| report.settings.backend = Backend::Glommio);
        assert_eq!(chosen.level, Level::Note);
    }

    #[test]
    fn rings_must_fit_what_may_be_locked() {
        let lock = |limit_bytes, exempt| {
            let mut report = sample();
            report.machine.memory_lock.limit_bytes = limit_bytes;
            report.machine.memory_lock.exempt = exempt;
            kinds(&report).contains(&"memory-lock")
        };
        assert!(lock(Some((500 << 10) - 1), false), "four shards, and one more");
        assert!(!lock(Some(500 << 10), false) && !lock(Some(1), true) && !lock(None, false));
    }

    #[test]
    fn too_little_space_is_a_warning() {
        let free = |bytes| move |report: &mut Report| report.volume.available_bytes = bytes;
        assert!(said("space", free(512 << 20)).text.contains("begin with 512 MiB"));
        assert_eq!(said("space-short", free((512 << 20) - 1)).level, Level::Warning);
    }

    #[test]
    fn a_quota_is_a_warning() {
        let told = said("cpu-quota", |report| report.machine.cpus_affordable = 1);
        assert!(told.text.contains("time of only 1 CPU: give --shards 1"), "{}", told.text);
    }

    #[test]
    fn figures_that_say_little_are_told_first() {
        let mut report = sample();
        report.machine.load_average = 6.0;
        report.measured.overwritten.operations = 20;
        assert!(!kinds(&report).contains(&"busy") && !kinds(&report).contains(&"few-operations"));
        report.machine.load_average = 6.1;
        report.measured.overwritten.operations = 19;
        assert_eq!(kinds(&report)[..2], ["busy", "few-operations"]);
    }
}
