//! Rounds: a worker, a power cut, a reboot, and a look at what is left.
//!
//! The power goes at a write or flush that is drawn: soon after the filesystem was mounted, so that
//! recovery is cut short, late, or when the worker has come to its end. Some of the mounts that
//! follow are cut short too.

#![expect(
    clippy::disallowed_methods,
    reason = "no shard runs here: this is the machine around them"
)]

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{self, RecvTimeoutError};

use woodchuck_io::RandomStream;
use woodchuck_io::runtime::Backend;

use crate::client::{Status, VolumeProcess};
use crate::command::SKIPPED;
use crate::limits::{DEVICE_BYTES, HANG};
use crate::log::Memory;
use crate::random::{derived, stream};
use crate::seam::model::{Looked, Model};
use crate::seam::plan::{Name, plan};
use crate::volume::VolumeOptions;

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// What the backends promise of files and names.
    Seam,
    /// What the log promises of commits.
    Log,
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "seam" => Ok(Self::Seam),
            "log" => Ok(Self::Log),
            _ => Err(format!("\"{text}\" is not a level: \"seam\" or \"log\"")),
        }
    }
}

/// How a run is set up.
#[derive(Clone, Debug)]
pub struct RoundOptions {
    /// What is checked.
    pub level: Level,
    /// On which backend.
    pub backend: Backend,
    /// Everything that is drawn is drawn from it.
    pub seed: u64,
    /// How many rounds, at least.
    pub rounds: u64,
    /// Whether the device answers flushes without doing anything.
    pub ignore_flushes: bool,
    /// Where the volume's mount points are made; removed in the end.
    pub directory: PathBuf,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was wrong.
    Passed,
    /// Something was.
    Failed,
    /// The backend is refused here.
    Skipped,
}

/// Runs the rounds, tells how each went, and `crash: N passed, M failed` in the end. The first
/// round that fails is the last.
#[must_use]
pub fn run(options: &RoundOptions) -> Outcome {
    let RoundOptions { level, backend, seed, rounds, .. } = options;
    let name = format!("{level:?}").to_lowercase();
    println!("--level {name} --io {backend} --seed {seed} --rounds {rounds}");
    let (mut passed, mut failed) = (0, 0);
    match play(options, &mut passed) {
        Ok(true) => {}
        Ok(false) => return Outcome::Skipped,
        Err(problem) => {
            failed = 1;
            println!("FAILED: {problem}");
        }
    }
    println!("crash: {passed} passed, {failed} failed");
    if failed == 0 { Outcome::Passed } else { Outcome::Failed }
}

/// Plays all rounds, and counts them in `passed`. False if the backend is refused here.
fn play(options: &RoundOptions, passed: &mut u64) -> Result<bool, String> {
    let mut run = Run::new(options).map_err(|error| format!("the volume: {error}"))?;
    for number in 1..=options.rounds {
        let told = match options.level {
            Level::Seam => run.seam_round(number),
            Level::Log => run.log_round(number),
        };
        match told.map_err(|problem| format!("round {number}: {problem}"))? {
            Some(told) => println!("round {number}: {told}"),
            None => return Ok(false),
        }
        *passed += 1;
    }
    run.finish(options).map_err(|problem| format!("in the end: {problem}"))?;
    Ok(true)
}

struct Run {
    volume: VolumeProcess,
    level: Level,
    backend: Backend,
    seed: u64,
    random: RandomStream,
    memory: Memory,
    looked: Looked,
    sectors_lost: u64,
    mounts_cut: u64,
}

/// What a worker told, and what the cut behind it did.
struct Ended {
    lines: Vec<String>,
    at_cut: Status,
}

impl Run {
    /// A formatted and mounted volume.
    fn new(options: &RoundOptions) -> io::Result<Self> {
        let volume = VolumeOptions {
            directory: options.directory.clone(),
            bytes: DEVICE_BYTES,
            seed: options.seed,
            ignores_flushes: options.ignore_flushes,
        };
        let mut volume = VolumeProcess::start(&volume)?;
        volume.tell("format")?;
        volume.tell("attach")?;
        Ok(Self {
            volume,
            level: options.level,
            backend: options.backend,
            seed: options.seed,
            random: stream(options.seed, "rounds"),
            memory: Memory::default(),
            looked: Looked::default(),
            sectors_lost: 0,
            mounts_cut: 0,
        })
    }

    /// One round of operations. What it did, or none if the backend is refused here.
    fn seam_round(&mut self, number: u64) -> Result<Option<String>, String> {
        let seed = derived(self.seed, "seam", number);
        let directory = self.volume.filesystem().join(format!("round-{number}"));
        let mut worker = self.worker(&directory)?;
        worker.args(["--seed", &seed.to_string()]);
        let Some(ended) = self.work_and_cut(worker)? else { return Ok(None) };
        let (model, done) = replay(seed, &ended.lines)?;
        self.reboot()?;
        let found = contents(&directory).map_err(|error| format!("reading: {error}"))?;
        let looked = model.check(seed, &found).map_err(|problem| {
            format!("{problem}\nplan {seed}, worker said: {}", ended.lines.join(", "))
        })?;
        self.looked.files += looked.files;
        self.looked.settled += looked.settled;
        self.looked.open += looked.open;
        if directory.exists() {
            std::fs::remove_dir_all(&directory).map_err(|error| format!("removing: {error}"))?;
        }
        Ok(Some(format!(
            "{done} operations, {}; {} files, {} sectors that are settled, {} that are open",
            describe(&ended.at_cut),
            looked.files,
            looked.settled,
            looked.open
        )))
    }

    /// One round of commits. What it did, or none if the backend is refused here.
    fn log_round(&mut self, number: u64) -> Result<Option<String>, String> {
        let worker = self.log_worker(number)?;
        let before = (self.memory.opened, self.memory.acknowledged);
        let Some(ended) = self.work_and_cut(worker)? else { return Ok(None) };
        for line in &ended.lines {
            self.memory.hear(number, line)?;
        }
        self.reboot()?;
        let opened = if self.memory.opened > before.0 { "opened" } else { "not yet opened" };
        let acknowledged = self.memory.acknowledged - before.1;
        Ok(Some(format!("{opened}, {acknowledged} acknowledged, {}", describe(&ended.at_cut))))
    }

    /// The last look, with the power on.
    fn finish(&mut self, options: &RoundOptions) -> Result<(), String> {
        if self.level == Level::Log {
            let number = options.rounds + 1;
            let mut worker = self.log_worker(number)?;
            worker.arg("--only-look");
            let ended = listen(worker)?;
            if !ended.1.success() {
                return Err(format!("the log cannot be opened: {}", ended.2));
            }
            for line in &ended.0 {
                self.memory.hear(number, line)?;
            }
        }
        self.tell("detach")?;
        // The device's own honesty: no promise was broken to the filesystem.
        self.tell("check")?;
        let shown = match self.level {
            Level::Seam => {
                let Looked { files, settled, open } = self.looked;
                println!("in all: {files} files, {settled} sectors settled, {open} open");
                settled
            }
            Level::Log => {
                let Memory { acknowledged, opened, torn, .. } = self.memory;
                println!("in all: {acknowledged} acknowledged, {opened} opened, {torn} torn tails");
                acknowledged
            }
        };
        println!("{} sectors lost, {} mounts cut short", self.sectors_lost, self.mounts_cut);
        if options.rounds >= 10 && (shown == 0 || self.sectors_lost == 0) {
            return Err("nothing was promised, or nothing lost: this shows nothing".to_owned());
        }
        Ok(())
    }

    fn log_worker(&self, number: u64) -> Result<Command, String> {
        let mut worker = self.worker(&self.volume.filesystem().join("log"))?;
        worker.args(["--seed", &self.seed.to_string(), "--worker", &number.to_string()]);
        Ok(worker)
    }

    /// The command of this level's worker, but for its own arguments.
    fn worker(&self, directory: &Path) -> Result<Command, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.arg(match self.level {
            Level::Seam => "seam-worker",
            Level::Log => "log-worker",
        });
        command.args(["--io", &self.backend.to_string()]).arg("--directory").arg(directory);
        Ok(command)
    }

    /// Lets a worker run, and the power go under it or behind it. None if the backend is refused.
    fn work_and_cut(&mut self, worker: Command) -> Result<Option<Ended>, String> {
        let requests = match self.random.below(5) {
            0 => 1 + self.random.below(20),
            1 => 1 + self.random.below(100),
            2 | 3 => 1 + self.random.below(1500),
            _ => 0,
        };
        self.tell(&format!("cut-after {requests}"))?;
        let (lines, status, said) = listen(worker)?;
        if status.code() == Some(i32::from(SKIPPED)) {
            eprint!("{said}");
            return Ok(None);
        }
        let is_powered = self.status()?.is_powered;
        if is_powered && !status.success() {
            return Err(format!("the worker failed, and there was power: {said}"));
        }
        if said.contains("panicked") {
            return Err(format!("the worker panicked: {said}"));
        }
        self.tell("cut")?;
        let at_cut = self.status()?;
        self.sectors_lost += at_cut.sectors_lost;
        Ok(Some(Ended { lines, at_cut }))
    }

    /// Mounts the filesystem again after a cut, with more cuts on the way.
    fn reboot(&mut self) -> Result<(), String> {
        loop {
            self.tell("detach")?;
            self.tell("power-on")?;
            let requests = if self.random.below(3) == 0 { 1 + self.random.below(30) } else { 0 };
            self.tell(&format!("cut-after {requests}"))?;
            let attached = self.tell("attach");
            self.tell("cut-after 0")?;
            if self.status()?.is_powered {
                return attached.map(drop);
            }
            self.mounts_cut += 1;
        }
    }

    fn tell(&mut self, command: &str) -> Result<String, String> {
        self.volume.tell(command).map_err(|error| error.to_string())
    }

    fn status(&mut self) -> Result<Status, String> {
        self.volume.status().map_err(|error| error.to_string())
    }
}

/// A process that is killed when this is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Runs a worker to its end: its lines, how it ended, and what it said on standard error.
fn listen(mut worker: Command) -> Result<(Vec<String>, ExitStatus, String), String> {
    let piped = worker.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Killed(piped.spawn().map_err(|error| format!("a worker: {error}"))?);
    let output = child.0.stdout.take().expect("asked for");
    let mut errors = child.0.stderr.take().expect("asked for");
    let (send, receive) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            send.send(line).ok();
        }
    });
    let said = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        errors.read_to_end(&mut bytes).ok();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    });
    let mut lines = Vec::new();
    loop {
        match receive.recv_timeout(HANG) {
            Ok(line) => lines.push(line),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let last = lines.last().map_or("nothing", String::as_str);
                return Err(format!("the worker hangs; it said last: {last}"));
            }
        }
    }
    let status = child.0.wait().map_err(|error| error.to_string())?;
    reader.join().map_err(|_| "reading the worker's lines panicked")?;
    let said = said.join().map_err(|_| "reading the worker's errors panicked")?;
    Ok((lines, status, said))
}

/// The model behind what a worker told of its plan, and how many operations were done.
fn replay(seed: u64, lines: &[String]) -> Result<(Model, u64), String> {
    let plan = plan(seed);
    let mut model = Model::default();
    let mut done = 0;
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<usize>().ok());
        let group = number(1).and_then(|group| plan.get(group));
        let operation = number(2).zip(group).and_then(|(at, group)| group.get(at));
        match (words[0], group, operation) {
            ("began", Some(group), None) => group.iter().for_each(|each| model.begin(each)),
            ("done", Some(_), Some(operation)) => {
                model.complete(operation);
                done += 1;
            }
            _ => return Err(format!("not a line of a worker: {line}")),
        }
    }
    Ok((model, done))
}

/// What each name in a round's directory holds. Nothing if there is no such directory.
fn contents(directory: &Path) -> io::Result<BTreeMap<Name, Vec<u8>>> {
    let mut found = BTreeMap::new();
    if !directory.exists() {
        return Ok(found);
    }
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let file_name = entry.file_name();
        let number = file_name.to_str().and_then(|name| name.strip_prefix("name-")?.parse().ok());
        let strange = || io::Error::other(format!("{file_name:?} was never given"));
        found.insert(number.ok_or_else(strange)?, std::fs::read(entry.path())?);
    }
    Ok(found)
}

fn describe(cut: &Status) -> String {
    let Status { requests, writes, sectors_kept, sectors_lost, .. } = cut;
    format!(
        "cut at request {requests} with {writes} writes unflushed, of which {sectors_kept} sectors \
         were kept and {sectors_lost} lost"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::plan::Operation;

    #[test]
    fn a_workers_lines_make_its_model() {
        let began = |operations: &[Operation]| {
            let mut model = Model::default();
            operations.iter().for_each(|operation| model.begin(operation));
            model
        };
        let (model, done) = replay(3, &["began 0".to_owned()]).expect("a plan has groups");
        assert_eq!(done, 0);
        assert_eq!(format!("{model:?}"), format!("{:?}", began(&plan(3)[0])));
        assert!(replay(3, &["done 0 77".to_owned()]).is_err());
        assert!(replay(3, &["nonsense".to_owned()]).is_err());
    }
}
