//! A few rounds of power cuts on each level and backend, and the same with a device that ignores
//! flushes, which has to be noticed. `woodchuck-crash rounds` does more of them.
//!
//! `WOODCHUCK_CRASH_SEED` and `WOODCHUCK_CRASH_ROUNDS` say which and how many. As an ordinary user,
//! or where the system has no FUSE or no loop devices, the tests say that they were skipped.

#![expect(clippy::disallowed_methods, reason = "what is left behind is looked at")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use woodchuck_crash::volume::refusal;

/// Rounds of each test if nothing else is asked for.
const ROUNDS: &str = "6";
/// With a device that ignores flushes, so many rounds must be enough to notice.
const ROUNDS_TO_NOTICE: &str = "60";
/// What `woodchuck-crash` ends with if the backend is refused.
const SKIPPED: i32 = 77;

/// One at a time: the rounds are heard of in order, and share a directory.
static ALONE: Mutex<()> = Mutex::new(());

/// Tells loudly what cannot be checked here: past what the harness keeps to itself of tests that
/// pass.
fn skipped(what: &str) {
    static SKIPPED: AtomicU32 = AtomicU32::new(0);
    let number = 1 + SKIPPED.fetch_add(1, Ordering::Relaxed);
    writeln!(std::io::stderr(), "{} ({number} so far)", what.trim()).ok();
}

/// Runs rounds and gives how they ended, unless they cannot be had here.
fn rounds(level: &str, backend: &str, more: &[&str]) -> Option<Output> {
    if let Some(reason) = refusal() {
        skipped(&format!("skipped: power cuts: {reason}"));
        return None;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = std::env::temp_dir().join(format!("woodchuck-crash-{}", std::process::id()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_woodchuck-crash"));
    command.args(["rounds", "--level", level, "--io", backend]).args(more);
    command.arg("--directory").arg(&directory);
    if let Ok(seed) = std::env::var("WOODCHUCK_CRASH_SEED") {
        command.args(["--seed", &seed]);
    }
    let ended = command.output().expect("the command is built with this test");
    let said = String::from_utf8_lossy(&ended.stdout);
    println!("{said}{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(left(&directory), Vec::<String>::new(), "something is left behind");
    if ended.status.code() == Some(SKIPPED) {
        skipped(&String::from_utf8_lossy(&ended.stderr));
        return None;
    }
    Some(ended)
}

/// Mounts and loop devices that have to do with this directory, and the directory itself.
fn left(directory: &Path) -> Vec<String> {
    let path = directory.to_str().expect("a path of numbers and letters");
    let mounts = fs::read_to_string("/proc/self/mounts").expect("a process has mounts");
    let mut found: Vec<_> =
        mounts.lines().filter(|line| line.contains(path)).map(str::to_owned).collect();
    for entry in fs::read_dir("/sys/block").expect("block devices").flatten() {
        let backing = fs::read_to_string(entry.path().join("loop/backing_file"));
        found.extend(backing.ok().filter(|file| file.contains(path)));
    }
    found.extend(directory.exists().then(|| path.to_owned()));
    found
}

fn check(level: &str, backend: &str) {
    let asked = std::env::var("WOODCHUCK_CRASH_ROUNDS");
    let asked = asked.as_deref().unwrap_or(ROUNDS);
    if let Some(ended) = rounds(level, backend, &["--rounds", asked]) {
        assert!(ended.status.success(), "see above");
    }
}

fn check_that_lies_are_noticed(level: &str) {
    let more = ["--rounds", ROUNDS_TO_NOTICE, "--ignore-flushes"];
    if let Some(ended) = rounds(level, "posix", &more) {
        let said = String::from_utf8_lossy(&ended.stdout);
        assert!(!ended.status.success() && said.contains("FAILED"), "nothing was noticed");
    }
}

#[test]
fn the_seam_keeps_its_promises_on_uring() {
    check("seam", "uring");
}

#[test]
fn the_seam_keeps_its_promises_on_posix() {
    check("seam", "posix");
}

#[test]
fn the_log_keeps_its_promises_on_uring() {
    check("log", "uring");
}

#[test]
fn the_log_keeps_its_promises_on_posix() {
    check("log", "posix");
}

#[test]
fn a_device_that_ignores_flushes_is_noticed_at_the_seam() {
    check_that_lies_are_noticed("seam");
}

#[test]
fn a_device_that_ignores_flushes_is_noticed_by_the_log() {
    check_that_lies_are_noticed("log");
}
