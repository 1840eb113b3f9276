//! `woodchuck sim`, by its exit codes and by the files it leaves.

#![expect(clippy::disallowed_methods, reason = "what the command writes is looked at")]

use std::path::{Path, PathBuf};

use woodchuck_cli::exit::Exit;
use woodchuck_sim::scenario::{Recording, RunOptions};

/// Faults that no broker survives: every flush fails. The first of them breaks a property.
const BROKEN_DISK: &str = "disk.write_error=400000";

/// Runs `woodchuck sim` with these words.
fn sim(words: &str) -> Exit {
    let words = ["woodchuck", "sim"].into_iter().chain(words.split_whitespace());
    woodchuck_cli::run(words.map(str::to_owned))
}

/// A folder of one test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let base = std::env::var_os("WOODCHUCK_TEST_DIRECTORY").map(PathBuf::from);
        let base = base.unwrap_or_else(std::env::temp_dir);
        Self(base.join(format!("woodchuck-cli-{name}-{}", std::process::id())))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn is_empty(&self) -> bool {
        std::fs::read_dir(&self.0).map_or(true, |mut files| files.next().is_none())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn worlds_that_hold_exit_with_0() {
    assert_eq!(sim("run --seeds 0..2 --no-save"), Exit::Done);
    assert_eq!(sim("run broker --seeds 0..1 --twice --jobs 1 --json --no-save"), Exit::Done);
    assert_eq!(sim("run --seeds 0..2 --until 5ms --no-save"), Exit::Done);
    assert_eq!(sim("replay 1"), Exit::Done);
    assert_eq!(sim("replay broker 0x1 --json"), Exit::Done);
    assert_eq!(sim("scenarios"), Exit::Done);
    assert_eq!(sim("faults --seeds 0..2 --json"), Exit::Done);
    assert_eq!(sim("run --help"), Exit::Done);
}

#[test]
fn command_lines_that_make_no_sense_exit_with_2() {
    for wrong in [
        "",
        "swim",
        "run --seeds 5..1",
        "run nothing",
        "run --set disk.nothing=1",
        "run --failures 0",
        "replay",
        "replay nothing 1",
        "replay broker one",
        "replay 1 --until soon",
    ] {
        assert_eq!(sim(wrong), Exit::Usage, "{wrong}");
    }
}

#[test]
fn what_cannot_be_read_exits_with_1() {
    assert_eq!(sim("replay no-such-file.tape"), Exit::Failed);
}

#[test]
fn a_violation_exits_with_10_and_its_recording_plays_it_again() {
    let folder = Folder::new("violation");
    let words = format!("run --seeds 3..60 --failures 1 --jobs 1 --set {BROKEN_DISK}");
    let regressions = folder.0.display();
    assert_eq!(sim(&format!("{words} --regressions {regressions}")), Exit::Violated);
    let files: Vec<PathBuf> = std::fs::read_dir(&folder.0)
        .expect("made")
        .map(|file| file.expect("a file").path())
        .collect();
    let [file] = &files[..] else { panic!("one failure, and {} files", files.len()) };
    let recording: Recording = read(file).parse().expect("a recording");
    assert_eq!(recording.scenario, "broker");
    assert!(file.ends_with(format!("broker-{}.tape", recording.seed)));
    assert_eq!(recording.knobs, [("disk.write_error".to_owned(), 400_000)]);
    let run = woodchuck_scenarios::all()[0].run(&recording.options());
    assert_eq!(run.violation().map(|it| it.fingerprint()), recording.fingerprint);
    assert_eq!(sim(&format!("replay {}", file.display())), Exit::Violated);
    let same = format!("replay {} --set {BROKEN_DISK} --json", recording.seed);
    assert_eq!(sim(&same), Exit::Violated);
    // Without the knob there is nothing wrong with that seed.
    assert_eq!(sim(&format!("replay {}", recording.seed)), Exit::Done);
    assert!(
        woodchuck_scenarios::all()[0].run(&RunOptions::new(recording.seed)).violation().is_none()
    );
}

#[test]
fn a_failure_is_shrunk_to_a_recording_that_still_fails() {
    let folder = Folder::new("shrunk");
    let words = format!("shrink 3 --set {BROKEN_DISK} --budget 60");
    assert_eq!(sim(&format!("{words} --regressions {}", folder.0.display())), Exit::Violated);
    let file = folder.file("broker-3.tape");
    let recording: Recording = read(&file).parse().expect("a recording");
    let options = RunOptions { record: true, ..RunOptions::new(3) };
    let whole = woodchuck_scenarios::all()[0]
        .run(&RunOptions { knobs: recording.knobs.clone(), ..options });
    let (shrunk, whole) = (recording.tape.expect("a tape"), whole.tape.expect("recorded"));
    assert!(shrunk.len() < whole.len(), "{} of {}", shrunk.len(), whole.len());
    assert_eq!(sim(&format!("replay {}", file.display())), Exit::Violated);
    assert_eq!(sim(&format!("shrink {} --budget 5 --no-save", file.display())), Exit::Violated);
    // What passes cannot be shrunk.
    assert_eq!(sim("shrink 3 --no-save"), Exit::Failed);
}

#[test]
fn a_world_that_is_deterministic_does_not_diverge() {
    assert_eq!(sim("diverge broker 1"), Exit::Done);
}

#[test]
fn reports_are_written_where_they_are_wanted() {
    let folder = Folder::new("report");
    let (passed, failed) = (folder.file("passed.html"), folder.file("deep/failed.html"));
    assert_eq!(sim(&format!("report 1 --output {}", passed.display())), Exit::Done);
    let words = format!("replay 3 --set {BROKEN_DISK} --report {}", failed.display());
    assert_eq!(sim(&words), Exit::Violated);
    assert!(read(&passed).contains("<title>passed: broker 1</title>"));
    let failed = read(&failed);
    assert!(failed.contains("<title>failed: broker 3</title>"));
    assert!(failed.contains("woodchuck sim replay 3 --set disk.write_error=400000</code>"));
    assert_eq!(sim("report 1 --output /dev/null/report.html"), Exit::Failed);
}

#[test]
fn nothing_is_saved_if_that_is_asked_for() {
    let folder = Folder::new("unsaved");
    std::fs::create_dir_all(&folder.0).expect("a folder");
    let words = format!("run --seeds 3..60 --failures 1 --set {BROKEN_DISK}");
    assert_eq!(sim(&format!("{words} --no-save")), Exit::Violated);
    let both = format!("{words} --no-save --regressions {}", folder.0.display());
    assert_eq!(sim(&both), Exit::Usage);
    assert!(folder.is_empty() && !folder.file("broker-3.tape").exists());
}
