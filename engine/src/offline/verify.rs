//! What opening a directory would find, without opening it.
//!
//! The logs are read by recovery itself, and their commits are replayed into what a shard would
//! hold, without the records: so what is said here is what `serve` would say, and takes the memory
//! that its indexes would.

use woodchuck_io::Disk;
use woodchuck_stream::{Topic, TopicsImage};
use woodchuck_wal::offline::{Examination, OfflineLog, Role};
use woodchuck_wal::{LogError, Lsn, Verdict};

use super::{LogDirectory, OfflineDirectory};
use crate::recovered::RecoveredState;
use crate::shard::partitions_on;

/// What was found.
#[derive(Clone, Debug)]
pub struct Verification {
    /// Log by log.
    pub logs: Vec<LogVerification>,
    /// What the logs say that cannot all be true, although each is whole.
    pub contradictions: Vec<String>,
}

/// What was found in one log.
#[derive(Clone, Debug)]
pub struct LogVerification {
    /// Where.
    pub directory: LogDirectory,
    /// What opening it would say.
    pub outcome: Outcome,
    /// What was read; `None` if it could not even be begun.
    pub facts: Option<LogFacts>,
}

/// What opening a log would say.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It opens.
    Opens(Verdict),
    /// What was acknowledged is damaged: [`LogError::Corrupt`].
    Corrupt(LogError),
    /// A commit is whole and cannot be what an engine wrote.
    Refused {
        /// The frame of the commit.
        lsn: Lsn,
        /// Why.
        reason: String,
    },
    /// The log is not there, and others have commits: it was lost.
    Missing,
    /// The log is not there, and no other has commits: it was never made.
    NotMade,
    /// It cannot be read: another version, another log's files, or the operating system refuses.
    Unreadable(LogError),
}

impl Outcome {
    /// Whether acknowledged data is damaged or missing.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Corrupt(_) | Self::Refused { .. } | Self::Missing)
    }
}

/// What was read of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFacts {
    /// The log's identity.
    pub identity: Option<u128>,
    /// Segments that hold frames of it.
    pub segments: u64,
    /// Frames that follow each other.
    pub frames: u64,
    /// Their commits from the trim point on.
    pub commits: u64,
    /// The bytes of these.
    pub bytes: u64,
    /// Blocks that the disk could not read.
    pub unreadable_blocks: u64,
    /// The number of the first frame that is not there.
    pub next_lsn: Lsn,
    /// No frame below it is needed.
    pub trim: Lsn,
}

impl LogFacts {
    fn new<F>(examination: &Examination<F>) -> Self {
        let live = examination.segments.iter().filter(|segment| segment.role == Role::Live);
        Self {
            identity: examination.identity,
            segments: live.count() as u64,
            frames: examination.frames,
            commits: examination.commits,
            bytes: examination.bytes,
            unreadable_blocks: examination.unreadable_blocks,
            next_lsn: examination.next_lsn,
            trim: examination.trim,
        }
    }
}

/// Bytes of all segments of a directory; 0 for a log that cannot be looked at.
pub async fn bytes<D: Disk>(directory: &OfflineDirectory<D>) -> u64 {
    let mut bytes = 0;
    for log in directory.logs.iter().filter(|log| log.exists) {
        let log = OfflineLog::open(directory.disk().clone(), log.path.clone()).await;
        bytes += log.map_or(0, |log| log.bytes);
    }
    bytes
}

/// Checks all of a directory. `progress` is told, again and again, how many of its
/// [`bytes()`] have been read.
pub async fn verify<D: Disk>(
    directory: &OfflineDirectory<D>,
    mut progress: impl FnMut(u64),
) -> Verification {
    let mut logs = Vec::with_capacity(directory.logs.len());
    let mut states = Vec::with_capacity(directory.logs.len());
    let mut done = 0;
    for log in &directory.logs {
        let (verification, state) = verify_log(directory, log, &mut done, &mut progress).await;
        logs.push(verification);
        states.push(state);
    }
    let has_commits = states.iter().any(|state| !state.is_empty());
    for log in logs.iter_mut().filter(|log| !log.directory.exists && has_commits) {
        log.outcome = Outcome::Missing;
    }
    let all_open = logs.iter().all(|log| matches!(log.outcome, Outcome::Opens(_)));
    let contradictions = match (directory.identity.is_some() && all_open, states.first()) {
        (true, Some(first)) => late_beginnings(&states, &first.topics)
            .map(|(topic, shard, index, start)| {
                format!(
                    "partition {index} of topic {} begins at offset {start} in the log of shard \
                     {shard}: its earlier records are missing",
                    topic.name
                )
            })
            .collect(),
        _ => Vec::new(),
    };
    Verification { logs, contradictions }
}

async fn verify_log<D: Disk>(
    directory: &OfflineDirectory<D>,
    log: &LogDirectory,
    done: &mut u64,
    progress: &mut impl FnMut(u64),
) -> (LogVerification, RecoveredState) {
    let mut state = RecoveredState::new(0);
    let told = |outcome, facts| LogVerification { directory: log.clone(), outcome, facts };
    if !log.exists {
        return (told(Outcome::NotMade, None), state);
    }
    let opened = OfflineLog::open(directory.disk().clone(), log.path.clone()).await;
    let offline = match opened {
        Ok(offline) => offline,
        Err(error) => return (told(Outcome::Unreadable(error), None), state),
    };
    let (mut read, end) = (*done, *done + offline.bytes);
    let mut refused = None;
    let examined = offline.examine(|commit| {
        read = (read + commit.bytes.len() as u64).min(end);
        progress(read);
        let lsn = commit.lsn;
        if refused.is_none()
            && let Err(reason) = state.replay(commit)
        {
            refused = Some(Outcome::Refused { lsn, reason });
        }
        Ok(())
    });
    let examined = examined.await;
    *done = end;
    progress(end);
    let verification = match examined {
        Err(error) => told(Outcome::Unreadable(error), None),
        Ok(examination) => {
            let facts = Some(LogFacts::new(&examination));
            let outcome = match examination.verdict {
                Err(error) => Outcome::Corrupt(error),
                Ok(verdict) => refused.unwrap_or(Outcome::Opens(verdict)),
            };
            told(outcome, facts)
        }
    };
    (verification, state)
}

/// The partitions of topics that live which do not begin at 0: topic, shard, partition and offset.
/// Records of a topic that lives are never trimmed, so something is missing.
pub(super) fn late_beginnings<'a>(
    states: &'a [RecoveredState],
    topics: &'a TopicsImage,
) -> impl Iterator<Item = (&'a Topic, usize, u32, i64)> {
    let shards = states.len();
    topics.iter().flat_map(move |topic| {
        states.iter().enumerate().flat_map(move |(shard, state)| {
            partitions_on(topic, shard, shards).filter_map(move |id| {
                let start = state.partitions.get(&id)?.start();
                (start != 0).then_some((topic, shard, id.index, start))
            })
        })
    })
}
