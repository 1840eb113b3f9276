//! What once failed and was mended: every recording in `regressions/` is played, and passes.
//!
//! `woodchuck sim run` and `woodchuck sim shrink` put the recordings of failures there. One that
//! passes is checked in with the fix, and stays. Seeds whose worlds are rare stand there as well.

#![expect(clippy::disallowed_methods, reason = "recordings are files of the tree")]

use std::path::{Path, PathBuf};

use woodchuck_sim::scenario::{Recording, Run};

/// The recordings of a folder, by name. A folder that cannot be looked into has none: these tests
/// are also run by users who cannot see the tree.
fn recordings(folder: &Path) -> Vec<PathBuf> {
    let Ok(files) = std::fs::read_dir(folder) else { return Vec::new() };
    let files = files.filter_map(|file| file.ok().map(|file| file.path()));
    let mut tapes: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|end| end == "tape")).collect();
    tapes.sort();
    tapes
}

/// Plays a recording. The error says which file, and what is wrong with it or with its run.
fn play(path: &Path) -> Result<Run, String> {
    let wrong = |text: String| format!("{}: {text}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let recording: Recording = text.parse().map_err(|error| wrong(format!("{error}")))?;
    let scenarios = woodchuck_scenarios::all();
    let scenario = scenarios.iter().find(|scenario| scenario.name() == recording.scenario);
    let scenario = scenario.ok_or_else(|| wrong("its scenario is gone".to_owned()))?;
    let run = scenario.run(&recording.options());
    if run.violation().is_some() { Err(wrong(run.to_string())) } else { Ok(run) }
}

#[test]
fn what_once_failed_passes() {
    let recordings = recordings(&Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions"));
    let failed: Vec<String> = recordings.iter().filter_map(|path| play(path).err()).collect();
    println!("{} recordings, {} failed", recordings.len(), failed.len());
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn a_folder_without_recordings_has_none() {
    assert!(recordings(Path::new("no such folder")).is_empty());
}

#[test]
fn what_fails_is_told_with_its_file() {
    let folder = std::env::var_os("WOODCHUCK_TEST_DIRECTORY").map(PathBuf::from);
    let folder = folder.unwrap_or_else(std::env::temp_dir);
    let folder = folder.join(format!("woodchuck-regressions-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let write = |name: &str, lines: &str| {
        let text = format!("woodchuck recording 1\n{lines}\n");
        std::fs::write(folder.join(name), text).expect("a file");
    };
    write("a.tape", "scenario broker\nseed 3\nknob disk.write_error 400000");
    write("b.tape", "scenario broker\nseed three");
    write("c.tape", "scenario gone\nseed 3");
    write("d.txt", "no recording");
    let told: Vec<String> = recordings(&folder)
        .iter()
        .map(|path| play(path).err().unwrap_or_else(|| panic!("{} passed", path.display())))
        .collect();
    std::fs::remove_dir_all(&folder).expect("it is there");
    assert_eq!(told.len(), 3);
    assert!(told[0].contains("a.tape: broker, seed 3: keeps-running at "), "{}", told[0]);
    assert!(told[1].contains("b.tape: line "), "{}", told[1]);
    assert!(told[2].ends_with("c.tape: its scenario is gone"), "{}", told[2]);
}
