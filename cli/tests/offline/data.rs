//! Data directories to look at, made by the engine itself, and damaged by hand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use woodchuck::{
    Engine, EngineOptions, ReadRequest, VOLUME_NAME, VOLUME_NEW_NAME, VOLUME_SCRATCH_NAME,
};
use woodchuck_cli::exit::Exit;
use woodchuck_io::runtime::{Backend, Runtime, RuntimeOptions};
use woodchuck_io::{Env, Mesh, Program};
use woodchuck_stream::batch::build::{self, Record};
use woodchuck_stream::{Batch, PartitionId, TopicName};
use woodchuck_wal::LogOptions;

pub(crate) const SHARDS: usize = 2;
pub(crate) const PARTITIONS: u32 = 4;

/// Values in each partition: enough that every log has several segments.
pub(crate) const VALUES: usize = 24;

/// Values by partition.
pub(crate) type Values = BTreeMap<u32, Vec<Vec<u8>>>;

/// A folder of one test's own.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let base = std::env::var_os("WOODCHUCK_TEST_DIRECTORY").map(PathBuf::from);
        let base = base.unwrap_or_else(std::env::temp_dir);
        let folder = Self(base.join(format!("woodchuck-offline-{name}-{}", std::process::id())));
        std::fs::create_dir_all(&folder.0).expect("a folder");
        folder
    }

    /// A folder with a data directory that was filled and closed, and has what `serve` leaves there
    /// of measuring the volume, if it is killed.
    pub(crate) fn filled(name: &str) -> Self {
        let folder = Self::new(name);
        let filled = run(Work { data: folder.data(), fill: true });
        assert_eq!(filled, expected(), "what was just written");
        for name in [VOLUME_NAME, VOLUME_NEW_NAME, VOLUME_SCRATCH_NAME] {
            std::fs::write(folder.data().join(name), "of the volume").expect("a file");
        }
        folder
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The directory of a shard's log.
    pub(crate) fn log(&self, shard: usize) -> PathBuf {
        self.data().join(format!("shard-{shard:04}")).join("log")
    }

    /// The segments of a shard's log that hold frames, oldest first.
    pub(crate) fn segments(&self, shard: usize) -> Vec<PathBuf> {
        let mut segments: Vec<PathBuf> = std::fs::read_dir(self.log(shard))
            .expect("there is a log")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
            .filter(|path| std::fs::read(path).expect("readable").starts_with(b"WCKFRAME"))
            .collect();
        segments.sort_unstable();
        segments
    }

    /// Changes a byte of a file.
    pub(crate) fn flip(&self, path: &Path, at: usize) {
        let mut bytes = std::fs::read(path).expect("readable");
        bytes[at] ^= 0x10;
        std::fs::write(path, bytes).expect("written");
    }

    /// All files of the data directory, with what is in them.
    pub(crate) fn content(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut content = BTreeMap::new();
        let mut folders = vec![self.data()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => {
                        content.insert(path.clone(), std::fs::read(&path).expect("readable"));
                    }
                }
            }
        }
        content
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What every filled directory holds.
pub(crate) fn expected() -> Values {
    let values = |partition: u32| {
        (0..VALUES).map(|index| vec![partition as u8 * 16 + index as u8; 3000]).collect()
    };
    (0..PARTITIONS).map(|partition| (partition, values(partition))).collect()
}

/// Fills a data directory, or not, and reads all that is in it.
#[derive(Clone)]
struct Work {
    data: PathBuf,
    fill: bool,
}

impl Program for Work {
    type Output = Result<Values, String>;

    async fn run<E: Env>(self, env: E) -> Self::Output {
        // No witness comes between the frames, so that every block is known.
        let witness_delay = Duration::from_secs(600);
        let log = LogOptions { witness_delay, ..LogOptions::small() };
        let options = EngineOptions { log, ..EngineOptions::new(self.data.clone()) };
        let engine = Engine::open(env.clone(), options).await.map_err(|error| error.to_string())?;
        let mut found = Values::new();
        if env.mesh().shard() == 0 {
            if self.fill {
                fill(&engine).await?;
            }
            for topic in engine.topics().iter() {
                for index in 0..topic.partitions {
                    let id = PartitionId { topic: topic.id, index };
                    found.insert(index, read(&engine, id).await?);
                }
            }
            engine.stop_all().await;
        }
        engine.stopping().await;
        engine.close().await.map_err(|error| error.to_string())?;
        Ok(found)
    }
}

async fn fill<E: Env>(engine: &Engine<E>) -> Result<(), String> {
    let name = TopicName::new("orders").map_err(|error| error.to_string())?;
    let topic = engine.create_topic(name, PARTITIONS).await.map_err(|error| error.to_string())?;
    let expected = expected();
    for index in 0..VALUES {
        for (partition, values) in &expected {
            let value = Some(&values[index][..]);
            let bytes = build::batch(&[Record { timestamp: 7, key: None, value }]);
            let batch = Batch::parse(bytes).map_err(|error| error.to_string())?;
            let id = PartitionId { topic: topic.id, index: *partition };
            let appended = engine.append(id, batch).await.await;
            appended.map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

async fn read<E: Env>(engine: &Engine<E>, id: PartitionId) -> Result<Vec<Vec<u8>>, String> {
    let mut values = Vec::new();
    loop {
        let request =
            ReadRequest { partition: id, offset: values.len() as i64, max_bytes: 1 << 20 };
        let outcome = engine.read(&[request], 1 << 20).await.into_iter().next();
        let outcome = outcome.ok_or("no outcome")?.map_err(|error| error.to_string())?;
        if outcome.batches.is_empty() {
            return Ok(values);
        }
        for bytes in outcome.batches {
            let batch = Batch::parse_stored(bytes).map_err(|error| error.to_string())?;
            values.extend(build::values(&batch).into_iter().map(|(_, value)| value.to_vec()));
        }
    }
}

fn run(work: Work) -> Values {
    let options = RuntimeOptions {
        shards: SHARDS,
        backend: Backend::Posix,
        pin: false,
        ..RuntimeOptions::default()
    };
    let outputs = Runtime::start(options, work).expect("starts").join();
    let mut found = Values::new();
    for output in outputs {
        found.extend(output.expect("no panic").expect("it opens and closes"));
    }
    found
}

/// All values of a data directory, by partition.
pub(crate) fn read_all(data: &Path) -> Values {
    run(Work { data: data.to_path_buf(), fill: false })
}

/// The binary.
pub(crate) fn woodchuck() -> Command {
    let built = PathBuf::from(env!("CARGO_BIN_EXE_woodchuck"));
    // Who may not look into the tree was given copies: of the tests, and above them of the binary.
    let copied = || {
        let here = std::env::current_exe().expect("its path");
        let above = here.ancestors().map(|folder| folder.join("woodchuck"));
        above.into_iter().find(|path| path.is_file()).expect("a copy of the binary")
    };
    Command::new(if built.is_file() { built } else { copied() })
}

/// Runs the binary with these words, and the directory behind them.
pub(crate) fn told(words: &str, directory: &Path, more: &str) -> Output {
    let mut command = woodchuck();
    command.args(words.split_whitespace()).arg(directory).args(more.split_whitespace());
    command.output().expect("the binary runs")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
pub(crate) fn exits(output: &Output, exit: Exit) {
    let code = Some(i32::from(exit.code()));
    let (told, talk) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), code, "{told}\n{talk}");
}

/// One line on stderr that says all of `parts`.
#[track_caller]
pub(crate) fn complains(output: &Output, exit: Exit, parts: &[&str]) {
    exits(output, exit);
    let talk = text(&output.stderr);
    assert!(talk.starts_with("woodchuck: ") && talk.lines().count() == 1, "{talk}");
    for part in parts {
        assert!(talk.contains(part), "{part:?} is not in {talk}");
    }
}

/// What a command prints as one JSON document.
#[track_caller]
pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What a command prints as JSON Lines.
#[track_caller]
pub(crate) fn json_lines(output: &Output) -> Vec<Value> {
    let told = text(&output.stdout);
    told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}
