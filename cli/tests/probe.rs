//! `woodchuck probe`, by what the binary prints, its exit code, and what it leaves in the directory.
//!
//! No figure is compared with another: how fast a disk is, is not the test's business.

#![expect(clippy::disallowed_methods, reason = "the directory is looked at")]

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use woodchuck_cli::exit::Exit;
use woodchuck_cli::limits::{FLIGHT_BLOCK_BYTES, FLIGHT_DEPTHS, PROBE_BLOCK_BYTES, PROBE_DEPTHS};

const SCRATCH: &str = "woodchuck-probe.scratch";
const OPERATIONS: [&str; 3] = ["read", "volatile_write", "durable_write"];

/// A directory of one test's own, with a file of somebody else in it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let base = std::env::var_os("WOODCHUCK_TEST_DIRECTORY").map(PathBuf::from);
        let base = base.unwrap_or_else(std::env::temp_dir);
        let folder = Self(base.join(format!("woodchuck-probe-{name}-{}", std::process::id())));
        std::fs::create_dir_all(&folder.0).expect("a folder");
        std::fs::write(folder.0.join("theirs"), "untouched").expect("a file");
        folder
    }

    /// The names in it, in order.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).expect("it is there");
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.expect("an entry").file_name().to_string_lossy().into_owned()
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort_unstable();
        names
    }

    /// Nothing is left, and nothing else was touched.
    #[track_caller]
    fn is_as_it_was(&self) {
        assert_eq!(self.names(), ["theirs"]);
        let theirs = std::fs::read_to_string(self.0.join("theirs"));
        assert_eq!(theirs.expect("it is there"), "untouched");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The probe of a directory, in a small file, with these words besides.
fn command(directory: impl Into<PathBuf>, words: &str) -> Command {
    let built = PathBuf::from(env!("CARGO_BIN_EXE_woodchuck"));
    // Who may not look into the tree was given copies: of the tests, and above them of the binary.
    let copied = || {
        let here = std::env::current_exe().expect("its path");
        let above = here.ancestors().map(|folder| folder.join("woodchuck"));
        above.into_iter().find(|path| path.is_file()).expect("a copy of the binary")
    };
    let binary = if built.is_file() { built } else { copied() };
    let mut command = Command::new(binary);
    command.arg("probe").arg(directory.into()).args(words.split_whitespace());
    command
}

fn output(directory: impl Into<PathBuf>, words: &str) -> Output {
    command(directory, words).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a probe that is done prints as JSON.
fn json(folder: &Folder, words: &str) -> Value {
    let done = output(&folder.0, &format!("--json --seconds 0.01 --size 16MiB {words}"));
    assert_eq!(done.status.code(), Some(Exit::Done.code().into()), "{}", text(&done.stderr));
    assert_eq!(text(&done.stderr), "", "nothing is wrong");
    serde_json::from_slice(&done.stdout).expect("JSON")
}

/// The failure of a probe: one line that says all of `parts`.
fn fails(directory: impl Into<PathBuf>, words: &str, parts: &[&str]) {
    let failed = output(directory, words);
    let told = text(&failed.stderr);
    assert_eq!(failed.status.code(), Some(Exit::Failed.code().into()), "{told}");
    assert!(failed.stdout.is_empty());
    assert!(told.starts_with("woodchuck: ") && told.lines().count() == 1, "{told}");
    for part in parts {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
}

#[track_caller]
fn has_fields(value: &Value, fields: &[&str]) {
    let object = value.as_object().unwrap_or_else(|| panic!("{value} is no object"));
    let names: Vec<&str> = object.keys().map(String::as_str).collect();
    let mut fields = fields.to_vec();
    fields.sort_unstable();
    assert_eq!(names, fields);
}

#[track_caller]
fn is_positive(value: &Value) {
    assert!(value.as_f64().is_some_and(|number| number > 0.0), "{value}");
}

/// Figures, with these fields besides.
#[track_caller]
fn are_figures(value: &Value, more: &[&str]) {
    let numbers = ["operations", "operations_per_second", "p50_us", "p99_us"];
    has_fields(value, &[&numbers[..], more].concat());
    for name in numbers {
        is_positive(&value[name]);
    }
    assert!(value["p50_us"].as_f64() <= value["p99_us"].as_f64(), "{value}");
}

fn check_facts(told: &Value, folder: &Folder) {
    has_fields(
        told,
        &[
            "directory",
            "volume",
            "direct_io",
            "io_uring",
            "machine",
            "scratch",
            "measurement_seconds",
            "backend",
            "extents",
            "flush",
            "matrix",
            "flight",
            "settings",
            "verdict",
        ],
    );
    assert_eq!(told["directory"], folder.0.display().to_string());
    assert_eq!(told["measurement_seconds"], 0.01);
    let volume = &told["volume"];
    has_fields(
        volume,
        &[
            "filesystem",
            "device",
            "mount_point",
            "mount_options",
            "total_bytes",
            "available_bytes",
            "block_device",
        ],
    );
    is_positive(&volume["total_bytes"]);
    is_positive(&volume["available_bytes"]);
    if !volume["block_device"].is_null() {
        has_fields(
            &volume["block_device"],
            &["volatile_cache", "force_unit_access", "rotational", "logical_block_bytes"],
        );
    }
    let direct = ["taken", "memory_alignment_bytes", "offset_alignment_bytes", "source"];
    has_fields(&told["direct_io"], &direct);
    if told["direct_io"]["taken"] == true {
        is_positive(&told["direct_io"]["memory_alignment_bytes"]);
        is_positive(&told["direct_io"]["offset_alignment_bytes"]);
    }
    has_fields(&told["io_uring"], &["usable", "refused", "needed", "other"]);
    let machine = &told["machine"];
    has_fields(
        machine,
        &[
            "kernel",
            "cpus_online",
            "cpus_allowed",
            "cpus_affordable",
            "load_average",
            "memory_lock_bytes",
            "memory_lock_exempt",
        ],
    );
    for cpus in ["cpus_online", "cpus_allowed", "cpus_affordable"] {
        is_positive(&machine[cpus]);
    }
    has_fields(&told["scratch"], &["path", "size_bytes", "replaced_left_over"]);
    assert_eq!(told["scratch"]["size_bytes"], 16 << 20);
    assert_eq!(told["scratch"]["path"], folder.0.join(SCRATCH).display().to_string());
}

fn check_figures(told: &Value) {
    let extents = &told["extents"];
    has_fields(extents, &["block_bytes", "extending", "allocated", "overwritten"]);
    are_figures(&extents["extending"], &["mib_per_second"]);
    if !extents["allocated"].is_null() {
        are_figures(&extents["allocated"], &["mib_per_second"]);
    }
    are_figures(&extents["overwritten"], &["mib_per_second"]);
    let flush = &told["flush"];
    let parts = ["block_bytes", "clean", "after_write", "write_then_flush", "durable_write"];
    has_fields(flush, &parts);
    are_figures(&flush["clean"], &[]);
    are_figures(&flush["after_write"], &[]);
    are_figures(&flush["write_then_flush"], &["mib_per_second"]);
    are_figures(&flush["durable_write"], &["mib_per_second"]);
    let mut expected = Vec::new();
    for operation in OPERATIONS {
        for block_bytes in PROBE_BLOCK_BYTES {
            expected.extend(PROBE_DEPTHS.map(|depth| (operation, block_bytes, depth)));
        }
    }
    let matrix = told["matrix"].as_array().expect("a list");
    let number = |value: &Value| value.as_u64().expect("a number") as usize;
    let cells: Vec<(&str, usize, usize)> = matrix
        .iter()
        .map(|entry| {
            are_figures(entry, &["operation", "block_bytes", "depth", "mib_per_second"]);
            is_positive(&entry["mib_per_second"]);
            let operation = entry["operation"].as_str().expect("a name");
            (operation, number(&entry["block_bytes"]), number(&entry["depth"]))
        })
        .collect();
    assert_eq!(cells, expected);
}

fn check_settings(told: &Value) {
    let settings = &told["settings"];
    has_fields(
        settings,
        &[
            "backend",
            "ring",
            "helper_threads",
            "shards",
            "pinned",
            "block_bytes",
            "frames_in_flight",
            "frames_in_flight_reason",
            "frame_bytes",
            "segment_bytes",
            "queue_bytes",
            "witness_delay_ms",
        ],
    );
    let log = woodchuck::EngineOptions::new(PathBuf::new()).log;
    let frames = settings["frames_in_flight"].as_u64().expect("a number") as usize;
    assert!(FLIGHT_DEPTHS.contains(&frames), "{frames}");
    let flight = told["flight"].as_array().expect("a list");
    assert_eq!(flight.len(), FLIGHT_DEPTHS.len() * FLIGHT_BLOCK_BYTES.len());
    for entry in flight {
        has_fields(entry, &["block_bytes", "depth", "operations_per_second"]);
        is_positive(&entry["operations_per_second"]);
    }
    assert_eq!(settings["frame_bytes"], log.frame_bytes);
    assert_eq!(settings["segment_bytes"], log.segment_bytes);
    assert_eq!(settings["queue_bytes"], log.queue_bytes);
    assert_eq!(settings["witness_delay_ms"], log.witness_delay.as_millis() as f64);
    is_positive(&settings["shards"]);
    let verdict = told["verdict"].as_array().expect("a list");
    assert!(verdict.iter().any(|sentence| sentence["kind"] == "durable"));
    for sentence in verdict {
        has_fields(sentence, &["level", "kind", "text"]);
        assert!(["good", "note", "warning"].contains(&sentence["level"].as_str().expect("text")));
        assert!(sentence["text"].as_str().expect("text").ends_with('.'), "{sentence}");
    }
}

#[test]
fn the_posix_backend_is_told_as_json() {
    let folder = Folder::new("posix");
    let told = json(&folder, "--io posix");
    check_facts(&told, &folder);
    check_figures(&told);
    check_settings(&told);
    assert_eq!(
        (&told["backend"], &told["settings"]["backend"]),
        (&"posix".into(), &"posix".into())
    );
    assert!(told["settings"]["ring"].is_null());
    is_positive(&told["settings"]["helper_threads"]);
    folder.is_as_it_was();
}

#[test]
fn rings_are_told_as_json_or_why_there_are_none() {
    let folder = Folder::new("uring");
    let told = json(&folder, "--io automatic");
    check_facts(&told, &folder);
    check_figures(&told);
    check_settings(&told);
    let ring = &told["settings"]["ring"];
    if told["io_uring"]["usable"] == true {
        assert_eq!(told["backend"], "uring");
        assert!(told["io_uring"]["refused"].is_null());
        assert_eq!(told["io_uring"]["needed"]["READ"], true);
        assert_eq!(told["io_uring"]["needed"]["NODROP"], true);
        has_fields(
            ring,
            &["flags", "completion_mode", "submissions", "completions", "locked_bytes"],
        );
        let flags = ring["flags"].as_array().expect("a list");
        assert!(flags.contains(&"SINGLE_ISSUER".into()), "{flags:?}");
        let forced = output(&folder.0, "--io uring --seconds 0.001 --size 16MiB");
        assert_eq!(forced.status.code(), Some(0), "{}", text(&forced.stderr));
        assert!(text(&forced.stdout).contains("  measured    with uring, in a file of 16 MiB"));
    } else {
        assert_eq!(told["backend"], "posix");
        assert!(ring.is_null() && !told["io_uring"]["refused"].is_null());
        fails(&folder.0, "--io uring --size 16MiB", &["io_uring was asked for and is refused"]);
    }
    folder.is_as_it_was();
}

#[test]
fn people_read_a_table_and_a_verdict() {
    let folder = Folder::new("people");
    let done = output(&folder.0, "--io posix --seconds 0.001 --size 16MiB");
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let told = text(&done.stdout);
    for heading in ["Flushes", "Random reads", "Volatile writes", "Durable writes", "Verdict"] {
        assert!(told.lines().any(|line| line.starts_with(heading)), "{heading}: {told}");
    }
    // The first two are in the table for the frames in flight, too.
    for (size, tables) in [("  4 KiB ", 4), ("  64 KiB ", 4), ("  128 KiB ", 3), ("  1 MiB ", 3)] {
        assert_eq!(told.lines().filter(|line| line.starts_with(size)).count(), tables, "{told}");
    }
    assert!(told.lines().all(|line| {
        // The directory's name is as long as it is.
        line.chars().count() <= 100 || line.contains(&*folder.0.to_string_lossy())
    }));
    assert!(told.contains("a durable 4 KiB write takes"), "{told}");
    folder.is_as_it_was();
}

#[test]
fn what_a_killed_run_left_is_noticed_and_replaced() {
    let folder = Folder::new("left");
    std::fs::write(folder.0.join(SCRATCH), "old").expect("a file");
    let told = json(&folder, "--io posix");
    assert_eq!(told["scratch"]["replaced_left_over"], true);
    folder.is_as_it_was();
    assert_eq!(json(&folder, "--io posix")["scratch"]["replaced_left_over"], false);
    std::os::unix::fs::symlink(folder.0.join("theirs"), folder.0.join(SCRATCH)).expect("a link");
    assert_eq!(json(&folder, "--io posix")["scratch"]["replaced_left_over"], true);
    folder.is_as_it_was();
    std::fs::create_dir(folder.0.join(SCRATCH)).expect("a directory");
    fails(&folder.0, "--io posix --size 16MiB", &["is a directory", "rename or remove it"]);
    assert_eq!(folder.names(), ["theirs", SCRATCH]);
}

#[test]
fn what_serve_has_settled_is_told_as_it_is() {
    let folder = Folder::new("settled");
    let record = folder.0.join(woodchuck::VOLUME_NAME);
    std::fs::write(&record, r#"{"version":1,"frames_in_flight":3}"#).expect("a file");
    let settings = &json(&folder, "--io posix")["settings"];
    assert_eq!(settings["frames_in_flight"], 3);
    let reason = settings["frames_in_flight_reason"].as_str().expect("text");
    assert!(reason.starts_with("woodchuck-volume.json here says so"), "{reason}");
    std::fs::write(&record, "nothing of the kind").expect("a file");
    let settings = &json(&folder, "--io posix")["settings"];
    let reason = settings["frames_in_flight_reason"].as_str().expect("text");
    assert!(reason.starts_with("durable writes of 4 KiB"), "{reason}");
    let left = std::fs::read_to_string(&record).expect("it is there");
    assert_eq!(left, "nothing of the kind", "a probe changes nothing");
}

#[test]
fn places_that_cannot_be_measured_are_refused_with_what_to_do() {
    let folder = Folder::new("refused");
    fails(folder.0.join("missing"), "", &["there is no ", "missing; make it first"]);
    fails(folder.0.join("theirs"), "", &["theirs is not a directory; name the one that it is in"]);
    fails("/sys", "", &["creating a file in /sys: ", "; "]);
    fails(&folder.0, "--size 9999TiB", &["not enough room for --size 9999 TiB: ", "Give at most"]);
    fails(&folder.0, "--size 1MiB", &["--size 1 MiB is too small; give at least 16 MiB"]);
    folder.is_as_it_was();
}

#[test]
fn command_lines_that_make_no_sense_exit_with_2() {
    for wrong in ["--io ring", "--seconds 0", "--seconds x", "--size 1MB", "--sizes 1", "a b"] {
        let refused = output("/", wrong);
        assert_eq!(refused.status.code(), Some(Exit::Usage.code().into()), "{wrong}");
    }
}

#[test]
fn the_help_tells_that_the_disk_is_loaded_and_what_to_type() {
    let told = text(&output("/", "--help").stdout);
    for part in
        ["slower", "nothing else in DIR is touched", "Examples:", "woodchuck probe data", "130  "]
    {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
}

/// A probe that takes long, once it has its scratch file.
fn begin(folder: &Folder) -> Child {
    let mut command = command(&folder.0, "--io posix --seconds 100 --size 16MiB");
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    while !folder.0.join(SCRATCH).exists() {
        let ended = child.try_wait().expect("it can be asked");
        assert!(ended.is_none(), "it ended before it had begun: {ended:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

fn signal(child: &Child, name: &str) {
    let kill = format!("kill -{name} {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell runs").success());
}

#[test]
fn signals_end_it_and_nothing_is_left() {
    for name in ["INT", "TERM"] {
        let folder = Folder::new(name);
        let child = begin(&folder);
        signal(&child, name);
        let ended = child.wait_with_output().expect("it ends");
        assert_eq!(ended.status.code(), Some(Exit::Interrupted.code().into()), "{name}");
        assert_eq!(
            text(&ended.stderr),
            "woodchuck: interrupted; the scratch file is removed\n",
            "{name}"
        );
        assert!(ended.stdout.is_empty());
        folder.is_as_it_was();
    }
}

#[test]
fn one_directory_is_probed_once_at_a_time() {
    let folder = Folder::new("twice");
    let mut first = begin(&folder);
    fails(&folder.0, "--io posix --size 16MiB", &["another probe is at work in "]);
    assert_eq!(folder.names(), ["theirs", SCRATCH], "the second took nothing away");
    first.kill().expect("it runs");
    first.wait().expect("it ends");
    assert_eq!(folder.names(), ["theirs", SCRATCH]);
    assert_eq!(json(&folder, "--io posix")["scratch"]["replaced_left_over"], true);
    folder.is_as_it_was();
}
