//! The log: what `wal` promises of commits after a power cut.
//!
//! A worker opens the log, tells what it found there, and appends until its plan or the power ends.
//! Commits are numbered over all workers of a run: each goes on behind what it found. A commit that
//! was lost before it was acknowledged is written again by the next worker under the same number,
//! but says which worker wrote it. [`Memory`] holds what must be so for ever.

use std::collections::BTreeMap;
use std::path::PathBuf;

use woodchuck_io::{Disk, Env, Program};
use woodchuck_wal::{Log, LogOptions, Lsn};

use crate::limits::{COMMIT_BYTES, COMMITS, COMMITS_PER_TRIM, COMMITS_WAITING};
use crate::random::{derived, stream};

/// The log's options here: segments roll all the time, and several frames are in flight.
#[must_use]
pub fn options() -> LogOptions {
    LogOptions { segment_bytes: 1 << 20, frame_bytes: 32 << 10, ..LogOptions::default() }
}

/// The bytes of a commit.
#[must_use]
pub fn commit(seed: u64, worker: u64, number: u64) -> Vec<u8> {
    let mut random = stream(derived(seed, "commit", number), &worker.to_string());
    let longest = if random.below(8) == 0 { COMMIT_BYTES } else { 300 };
    let mut bytes = vec![0; 16 + random.below(longest) as usize];
    random.fill(&mut bytes);
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..16].copy_from_slice(&worker.to_le_bytes());
    bytes
}

/// Number and worker of a commit, if it is whole.
#[must_use]
pub fn identify(seed: u64, bytes: &[u8]) -> Option<(u64, u64)> {
    let number = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let worker = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
    (commit(seed, worker, number) == bytes).then_some((number, worker))
}

/// The worker's program. It tells on standard output, each before it goes on:
/// `began`, `found NUMBER WORKER` for each commit in the log and `opened VERDICT` behind the last,
/// `submitted NUMBER`, `acknowledged NUMBER`, and `trimmed NUMBER` if older ones may go.
#[derive(Clone, Debug)]
pub struct LogWorker {
    /// The log's directory.
    pub directory: PathBuf,
    /// The run's seed.
    pub seed: u64,
    /// This worker's number.
    pub worker: u64,
    /// Whether it only looks.
    pub only_look: bool,
}

impl Program for LogWorker {
    type Output = Result<(), String>;

    async fn run<E: Env>(self, env: E) -> Result<(), String> {
        println!("began");
        let mut found = Vec::new();
        if let Some(parent) = self.directory.parent() {
            let disk = env.disk();
            let made = async {
                disk.create_directory(&self.directory).await?;
                disk.sync_directory(parent).await
            };
            made.await.map_err(|error| format!("preparing: {error}"))?;
        }
        let opened = Log::open(env.clone(), self.directory.clone(), options(), |recovered| {
            let identity = identify(self.seed, &recovered.bytes)
                .ok_or_else(|| format!("a commit was never written: {:?}", &recovered.bytes[..]))?;
            found.push(identity);
            Ok(())
        });
        let (log, recovery) = opened.await.map_err(|error| format!("opening: {error}"))?;
        for (number, worker) in &found {
            println!("found {number} {worker}");
        }
        println!("opened {}", recovery.verdict);
        if self.only_look {
            return Ok(());
        }
        let next = found.last().map_or(1, |(number, _)| number + 1);
        self.append(&env, &log, next).await?;
        if self.worker.is_multiple_of(2) {
            log.close().await.map_err(|error| format!("closing: {error}"))?;
        }
        Ok(())
    }
}

impl LogWorker {
    /// Appends commits from number `next` on.
    async fn append<E: Env>(&self, env: &E, log: &Log<E, u64>, next: u64) -> Result<(), String> {
        let mut random = stream(derived(self.seed, "pace", self.worker), "pace");
        let window = 1 + random.below(COMMITS_WAITING);
        let end = next + COMMITS;
        let (mut next, mut waiting) = (next, 0);
        // The newest frame, and its first commit.
        let mut newest = (Lsn::FIRST, 0);
        while next < end || waiting > 0 {
            while waiting < window && next < end {
                println!("submitted {next}");
                let bytes = commit(self.seed, self.worker, next);
                let taken = log.submit(&[&bytes], next);
                taken.map_err(|(error, _)| format!("submitting: {error}"))?;
                (next, waiting) = (next + 1, waiting + 1);
                if random.below(4) == 0 {
                    // What was submitted becomes a frame: several are in flight.
                    env.yield_now().await;
                }
            }
            let committed = log.committed().await.map_err(|error| format!("waiting: {error}"))?;
            for commit in committed {
                println!("acknowledged {}", commit.context);
                waiting -= 1;
                if commit.lsn != newest.0 {
                    newest = (commit.lsn, commit.context);
                }
                if commit.context.is_multiple_of(COMMITS_PER_TRIM) {
                    println!("trimmed {}", newest.1);
                    log.trim(newest.0);
                }
            }
            if random.below(100) == 0 {
                // Long enough for a witness.
                env.sleep(options().witness_delay * 2).await;
            }
        }
        Ok(())
    }
}

/// What must be so for ever, from what the workers told.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Which worker wrote each commit that was acknowledged, or that an opened log had in it.
    fixed: BTreeMap<u64, u64>,
    /// The last commit that each worker submitted.
    submitted: BTreeMap<u64, u64>,
    /// Older ones may be gone.
    trimmed: u64,
    /// What the log that is being opened has in it.
    found: Vec<(u64, u64)>,
    /// Commits acknowledged in all.
    pub acknowledged: u64,
    /// Times a log was opened.
    pub opened: u64,
    /// Of those, times that it had a torn tail.
    pub torn: u64,
}

impl Memory {
    /// Takes one line that a worker said.
    ///
    /// # Errors
    /// If what it says must not be so.
    pub fn hear(&mut self, worker: u64, line: &str) -> Result<(), String> {
        let mut words = line.split(' ');
        let word = words.next().unwrap_or_default();
        let rest: Vec<Option<u64>> = words.map(|word| word.parse().ok()).collect();
        match (word, rest.as_slice()) {
            ("began", []) => self.found.clear(),
            ("found", [Some(number), Some(by)]) => self.found.push((*number, *by)),
            ("opened", _) => {
                self.opened += 1;
                self.torn += u64::from(line.contains("torn tail"));
                return self.look();
            }
            ("submitted", [Some(number)]) => {
                self.submitted.insert(worker, *number);
            }
            ("acknowledged", [Some(number)]) => {
                self.acknowledged += 1;
                self.fixed.insert(*number, worker);
            }
            ("trimmed", [Some(number)]) => self.trimmed = self.trimmed.max(*number),
            _ => return Err(format!("not a line of a worker: {line}")),
        }
        Ok(())
    }

    /// Looks at what an opened log had in it.
    fn look(&mut self) -> Result<(), String> {
        let found = std::mem::take(&mut self.found);
        for pair in found.windows(2) {
            if pair[1].0 != pair[0].0 + 1 {
                return Err(format!("commit {} is followed by {}", pair[0].0, pair[1].0));
            }
        }
        let newest = self.fixed.last_key_value().map_or(0, |(number, _)| *number);
        let (first, last) = match (found.first(), found.last()) {
            (Some(first), Some(last)) => (first.0, last.0),
            _ => (newest + 1, 0),
        };
        let needed = self.fixed.range(self.trimmed..).next().map(|(number, _)| *number);
        if needed.is_some_and(|needed| first > needed) || last < newest {
            return Err(format!(
                "there are commits {first} to {last}, but {needed:?} to {newest} were acknowledged \
                 or served before"
            ));
        }
        for (number, by) in found {
            if *self.fixed.entry(number).or_insert(by) != by {
                return Err(format!(
                    "commit {number} is worker {by}'s, and was worker {}'s",
                    self.fixed[&number]
                ));
            }
            if self.submitted.get(&by).is_none_or(|submitted| *submitted < number) {
                return Err(format!("worker {by} never submitted commit {number}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(memory: &mut Memory, worker: u64, lines: &[&str]) -> Result<(), String> {
        lines.iter().try_for_each(|line| memory.hear(worker, line))
    }

    fn after(lines: &[&str]) -> Result<(), String> {
        let mut memory = Memory::default();
        let first = ["began", "opened clean", "submitted 1", "submitted 2", "submitted 3"];
        hear(&mut memory, 1, &first).expect("a first life");
        hear(&mut memory, 1, &["acknowledged 1", "acknowledged 2"]).expect("acknowledged");
        hear(&mut memory, 2, lines)
    }

    #[test]
    fn what_may_be_there_passes() {
        let two = ["began", "found 1 1", "found 2 1", "opened clean"];
        assert_eq!(after(&two), Ok(()));
        assert_eq!(
            after(&["began", "found 1 1", "found 2 1", "found 3 1", "opened clean"]),
            Ok(())
        );
        let mut memory = Memory::default();
        let first = ["began", "opened clean", "submitted 1", "submitted 2", "acknowledged 1"];
        hear(&mut memory, 1, &first).expect("a first life");
        hear(&mut memory, 1, &["acknowledged 2", "trimmed 2"]).expect("trimmed");
        assert_eq!(hear(&mut memory, 2, &["began", "found 2 1", "opened clean"]), Ok(()));
    }

    #[test]
    fn what_must_not_be_is_noticed() {
        let problem = |lines: &[&str]| after(lines).expect_err("it must not be");
        problem(&["began", "opened clean"]);
        problem(&["began", "found 1 1", "opened clean"]);
        problem(&["began", "found 2 1", "opened clean"]);
        problem(&["began", "found 1 1", "found 3 1", "opened clean"]);
        problem(&["began", "found 1 1", "found 2 2", "opened clean"]);
        problem(&["began", "found 1 1", "found 2 1", "found 3 1", "found 4 1", "opened clean"]);
        let served = ["began", "found 1 1", "found 2 1", "found 3 1", "opened clean"];
        let lost = [&served[..], &["began", "found 1 1", "found 2 1", "opened clean"]].concat();
        problem(&lost);
    }

    #[test]
    fn a_commit_is_known_by_its_content() {
        let bytes = commit(1, 2, 3);
        assert_eq!(identify(1, &bytes), Some((3, 2)));
        assert_eq!(identify(2, &bytes), None);
        assert_eq!(identify(1, &bytes[..bytes.len() - 1]), None);
        assert_eq!(identify(1, &[]), None);
    }
}
