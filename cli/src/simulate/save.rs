//! Keeps recordings of failures.

use std::path::{Path, PathBuf};

use woodchuck_sim::Tape;
use woodchuck_sim::scenario::{Recording, Run, RunOptions};

use super::files;

/// Where recordings go if nobody says so: into the first of these that is there, or the last.
const FOLDERS: [&str; 2] = ["tests/regressions", "woodchuck-regressions"];

/// Choices of a tape that a recording may hold: some hundred kilobytes. A run whose tape is longer
/// is recorded by its seed, which plays the same; what is shrunk has a short one.
const TAPE_CHOICES: usize = 10_000;

/// Where recordings of failures go.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct SaveArguments {
    /// The folder for recordings of failures. [default: tests/regressions if it is there, else
    /// woodchuck-regressions]
    #[arg(long, value_name = "FOLDER")]
    regressions: Option<PathBuf>,

    /// Record nothing.
    #[arg(long, conflicts_with = "regressions")]
    no_save: bool,
}

impl SaveArguments {
    /// Records a run that failed. Gives the file, if there is one.
    pub(super) fn save(&self, run: &Run, options: &RunOptions) -> Result<Option<PathBuf>, String> {
        if self.no_save {
            return Ok(None);
        }
        let folder = self.regressions.clone().unwrap_or_else(default_folder);
        let path = folder.join(format!("{}-{}.tape", run.scenario, run.seed));
        files::write(&path, &recorded(run, options).to_string())?;
        Ok(Some(path))
    }
}

fn default_folder() -> PathBuf {
    let there = FOLDERS.iter().find(|folder| Path::new(folder).is_dir());
    PathBuf::from(there.unwrap_or(&FOLDERS[1]))
}

/// The recording of a run, with its tape unless that is too long.
fn recorded(run: &Run, options: &RunOptions) -> Recording {
    let recording = Recording::of(run, options);
    // The seed alone does not play what a tape did.
    let must_have = options.tape.is_some();
    let tape = recording.tape.clone();
    let tape = tape.filter(|tape| must_have || Tape::len(tape) <= TAPE_CHOICES);
    let commit = option_env!("WOODCHUCK_COMMIT").map(str::to_owned);
    Recording { tape, commit, ..recording }
}
