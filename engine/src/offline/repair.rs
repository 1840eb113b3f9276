//! Saving what can be saved of a damaged directory, into a new one.
//!
//! Of each log the commits are kept that are proven whole and in order: those in front of the first
//! damage. They are appended to the log of a new directory by the same code that serves, so that
//! the new directory is one like any other. Nothing is kept from behind a hole, although much of it
//! can be read: what stood in the hole may have created or deleted a topic, or may have been the
//! records in front of those of the same partition, and a broker that went on without would give
//! out offsets that were never so.
//!
//! The logs of the shards are independent, and shard 0's says which topics there are. So
//!
//! 1. partitions whose topic is not known any more, because the first shard lost its creation,
//!    cannot be served, though their records are kept in the new logs until they are trimmed;
//! 2. a topic whose deletion was lost is there again. If a log shows that its records were trimmed,
//!    which is done to deleted topics alone, then it is deleted again;
//! 3. a partition that was cut ends earlier, and its next records get the offsets of those lost.
//!
//! The new directory is written in this order: logs, reading them back, and last the file that says
//! what the directory is. Without that, nobody opens it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crc_fast::{CrcAlgorithm, Digest};
use woodchuck_io::{Disk, Env, File};
use woodchuck_stream::operation::{self, Operation};
use woodchuck_stream::{Batch, Offset, Partition, PartitionId, TopicId, TopicsImage};
use woodchuck_wal::offline::{Examination, Found, FrameFacts, OfflineLog};
use woodchuck_wal::{Log, LogError, LogOptions, Lsn, Recovered, Verdict};

use super::verify::late_beginnings;
use super::{LogDirectory, OfflineDirectory, OfflineError};
use crate::directory::{LOCK_NAME, create_durably, create_identity, log_path};
use crate::recovered::RecoveredState;
use crate::{EngineError, Identity};

/// What a repair keeps, and what is lost.
#[derive(Clone, Debug)]
pub struct Report {
    /// What the directory is; the new one gets the same.
    pub identity: Identity,
    /// Log by log.
    pub logs: Vec<LogReport>,
    /// Partitions of which records are known to be lost: they can be read behind the damage.
    pub cut: Vec<CutPartition>,
    /// Topics whose creation is lost, if the first shard lost anything: they, or their deletion.
    pub unknown_topics: Vec<UnknownTopic>,
    /// Names of topics that are deleted again.
    pub deleted_again: Vec<String>,
}

impl Report {
    /// Whether anything acknowledged is lost.
    #[must_use]
    pub fn has_losses(&self) -> bool {
        self.logs.iter().any(|log| log.loss.is_some())
    }
}

/// What is kept of a log, and what is lost.
#[derive(Clone, Debug)]
pub struct LogReport {
    /// The log.
    pub shard: u32,
    /// Commits that are kept.
    pub commits: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The frames that they stand in: from the first up to, not including, the second.
    pub frames: (Lsn, Lsn),
    /// Frames of a torn tail that are dropped as opening would drop them: never acknowledged.
    pub torn_frames: u64,
    /// What is lost.
    pub loss: Option<Loss>,
}

/// What is lost of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Where it begins: segment and offset. `None` if the whole log is missing.
    pub place: Option<(u64, u64)>,
    /// The first frame that is lost. `None` if the whole log is missing.
    pub first_lost: Option<Lsn>,
    /// Frames below this had been acknowledged; those from it on may not have been.
    pub acknowledged_below: Option<Lsn>,
    /// What shows it.
    pub evidence: String,
    /// Frames behind it that can be read, and are not kept.
    pub readable_frames: u64,
    /// Their commits.
    pub readable_commits: u64,
    /// The bytes of these.
    pub readable_bytes: u64,
}

/// A partition of which records are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutPartition {
    /// Its shard.
    pub shard: u32,
    /// Its topic's name, if the topic is known.
    pub topic: Option<String>,
    /// Its topic.
    pub topic_id: TopicId,
    /// Its index.
    pub partition: u32,
    /// Where it ends now: the first offset that is lost.
    pub end: Offset,
    /// Where it ended at least.
    pub ended: Offset,
}

/// A topic whose creation is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownTopic {
    /// The topic.
    pub topic_id: TopicId,
    /// Its partitions that have records.
    pub partitions: u64,
    /// Their records.
    pub records: u64,
}

/// What a repair is going to do.
pub struct Plan<F> {
    /// What it keeps, and what is lost.
    pub report: Report,
    logs: Vec<Kept<F>>,
    /// Topics to delete again.
    deleted_again: Vec<TopicId>,
}

/// What is kept of one log.
struct Kept<F> {
    /// `None` if there is no log.
    examination: Option<Examination<F>>,
    commits: u64,
    checksum: u64,
    /// Bytes of the largest segment.
    segment_bytes: u64,
}

/// A checksum of commits in their order.
struct Sum {
    digest: Digest,
    commits: u64,
    bytes: u64,
}

impl Sum {
    fn new() -> Self {
        Self { digest: Digest::new(CrcAlgorithm::Crc32Iscsi), commits: 0, bytes: 0 }
    }

    fn add(&mut self, commit: &[u8]) {
        self.digest.update(&(commit.len() as u64).to_le_bytes());
        self.digest.update(commit);
        self.commits += 1;
        self.bytes += commit.len() as u64;
    }
}

/// Finds out what can be saved. Nothing is written.
///
/// # Errors
/// If the directory is that of one log, a log cannot be read at all, or a commit that is proven
/// whole is not one that this version understands.
pub async fn plan<D: Disk>(
    directory: &OfflineDirectory<D>,
) -> Result<Plan<<D as Disk>::File>, OfflineError> {
    let Some(identity) = directory.identity else {
        return Err(OfflineError::Failed(format!(
            "{} is the directory of one log; name the data directory that it is in",
            directory.path().display()
        )));
    };
    let (mut reports, mut logs) = (Vec::new(), Vec::new());
    let (mut states, mut behind) = (Vec::new(), Behind::new());
    for (shard, log) in (0..).zip(&directory.logs) {
        let (report, kept, state) = plan_log(directory, shard, log, &mut behind).await?;
        reports.push(report);
        logs.push(kept);
        states.push(state);
    }
    let has_commits = states.iter().any(|state| !state.is_empty());
    for (report, log) in reports.iter_mut().zip(&directory.logs) {
        if !log.exists && has_commits {
            report.loss = Some(missing());
        }
    }
    let mut topics = states.first().map(|state| state.topics.clone()).unwrap_or_default();
    let late: BTreeMap<TopicId, String> = late_beginnings(&states, &topics)
        .map(|(topic, ..)| (topic.id, topic.name.to_string()))
        .collect();
    for &id in late.keys() {
        topics.remove(id);
    }
    let lost_topics = reports.first().is_some_and(|report| report.loss.is_some());
    // Without a loss there, a topic that the first shard does not know was deleted.
    let is_told =
        |id: TopicId| topics.by_id(id).is_some() || (lost_topics && !late.contains_key(&id));
    behind.retain(|(_, id), _| is_told(id.topic));
    let unknown = states
        .iter()
        .flat_map(|state| &state.partitions)
        .filter(|(id, _)| is_told(id.topic) && topics.by_id(id.topic).is_none());
    let report = Report {
        identity,
        logs: reports,
        cut: cut(&behind, &states, &topics),
        unknown_topics: by_topic(unknown),
        deleted_again: late.values().cloned().collect(),
    };
    Ok(Plan { report, logs, deleted_again: late.into_keys().collect() })
}

/// The partitions that reached further than what is kept of them.
fn cut(behind: &Behind, states: &[RecoveredState], topics: &TopicsImage) -> Vec<CutPartition> {
    let compare = |(&(shard, id), &ended): (&(u32, PartitionId), &Offset)| {
        let state = states.get(shard as usize)?;
        let end = state.partitions.get(&id).map_or(0, Partition::end);
        (ended > end).then(|| CutPartition {
            shard,
            topic: topics.by_id(id.topic).map(|topic| topic.name.to_string()),
            topic_id: id.topic,
            partition: id.index,
            end,
            ended,
        })
    };
    behind.iter().filter_map(compare).collect()
}

fn by_topic<'a>(
    partitions: impl Iterator<Item = (&'a PartitionId, &'a Partition)>,
) -> Vec<UnknownTopic> {
    let mut topics: BTreeMap<TopicId, UnknownTopic> = BTreeMap::new();
    for (id, partition) in partitions {
        let topic_id = id.topic;
        let nothing = UnknownTopic { topic_id, partitions: 0, records: 0 };
        let topic = topics.entry(topic_id).or_insert(nothing);
        topic.partitions += 1;
        topic.records += partition.end().abs_diff(partition.start());
    }
    topics.into_values().collect()
}

fn missing() -> Loss {
    Loss {
        place: None,
        first_lost: None,
        acknowledged_below: None,
        evidence: "the log is not there, and others have commits".to_owned(),
        readable_frames: 0,
        readable_commits: 0,
        readable_bytes: 0,
    }
}

/// Where partitions ended at least, by what stands behind damage.
type Behind = BTreeMap<(u32, PartitionId), Offset>;

async fn plan_log<D: Disk>(
    directory: &OfflineDirectory<D>,
    shard: u32,
    log: &LogDirectory,
    behind: &mut Behind,
) -> Result<(LogReport, Kept<D::File>, RecoveredState), OfflineError> {
    let mut state = RecoveredState::new(0);
    let mut report = LogReport {
        shard,
        commits: 0,
        bytes: 0,
        frames: (Lsn::FIRST, Lsn::FIRST),
        torn_frames: 0,
        loss: None,
    };
    if !log.exists {
        let kept = Kept { examination: None, commits: 0, checksum: 0, segment_bytes: 0 };
        return Ok((report, kept, state));
    }
    let within = |error: OfflineError| in_shard(shard, error);
    let offline = OfflineLog::open(directory.disk().clone(), log.path.clone()).await;
    let offline = offline.map_err(|error| within(error.into()))?;
    let examination = offline.examine(|_| Ok(())).await.map_err(|error| within(error.into()))?;
    let mut sum = Sum::new();
    let mut salvage = examination.salvage();
    while let Some(commits) = salvage.next().await.map_err(|error| within(error.into()))? {
        for commit in commits {
            sum.add(&commit.bytes);
            let lsn = commit.lsn;
            state.replay(commit).map_err(|reason| {
                within(OfflineError::Failed(format!(
                    "a commit of frame {lsn} is whole and cannot be replayed: {reason}; repair it \
                     with the version of Woodchuck that wrote it"
                )))
            })?;
        }
    }
    drop(salvage);
    report.commits = sum.commits;
    report.bytes = sum.bytes;
    let below = examination.salvage_below.max(examination.trim);
    report.frames = (examination.trim, below);
    match &examination.verdict {
        Ok(Verdict::Clean) => {}
        Ok(Verdict::TornTail { frames, .. }) => report.torn_frames = *frames,
        Err(error) => {
            report.loss = Some(loss(&offline, &examination, error, shard, behind).await?);
        }
    }
    let segments = examination.segments.iter();
    let segment_bytes = segments.filter_map(|segment| segment.segment_bytes).max().unwrap_or(0);
    let kept = Kept {
        examination: Some(examination),
        commits: sum.commits,
        checksum: sum.digest.finalize(),
        segment_bytes,
    };
    Ok((report, kept, state))
}

fn in_shard(shard: u32, error: OfflineError) -> OfflineError {
    let message = format!("shard {shard}: {error}");
    match error {
        OfflineError::Locked(_) => OfflineError::Locked(message),
        OfflineError::WrongVersion(_) => OfflineError::WrongVersion(message),
        OfflineError::Damaged(_) => OfflineError::Damaged(message),
        OfflineError::Failed(_) => OfflineError::Failed(message),
    }
}

/// Looks at what stands behind the damage.
async fn loss<D: Disk>(
    offline: &OfflineLog<D>,
    examination: &Examination<D::File>,
    error: &LogError,
    shard: u32,
    behind: &mut Behind,
) -> Result<Loss, OfflineError> {
    let first_lost = examination.salvage_below.max(examination.trim);
    let (place, evidence) = match error {
        LogError::Corrupt { segment, offset, evidence, .. } => {
            (Some((*segment, *offset)), evidence.clone())
        }
        other => (None, other.to_string()),
    };
    let mut loss = Loss {
        place,
        first_lost: Some(first_lost),
        acknowledged_below: Some(examination.durable_below.max(first_lost)),
        evidence,
        readable_frames: 0,
        readable_commits: 0,
        readable_bytes: 0,
    };
    let counted = |facts: &FrameFacts| facts.is_whole && facts.lsn >= first_lost;
    offline
        .scan(examination, |found| {
            let Found::Frame(facts, commits) = found else { return };
            if !counted(&facts) || commits.is_empty() {
                return;
            }
            loss.readable_frames += 1;
            for commit in commits {
                loss.readable_commits += 1;
                loss.readable_bytes += commit.bytes.len() as u64;
                note(shard, commit, behind);
            }
        })
        .await
        .map_err(|error| in_shard(shard, error.into()))?;
    Ok(loss)
}

/// Notes how far a partition reached, by a commit that is not kept.
fn note(shard: u32, commit: Recovered, behind: &mut Behind) {
    let Ok(Operation::Append { partition, batch }) = operation::decode(commit.bytes) else {
        return;
    };
    let Ok(batch) = Batch::parse_stored(batch) else { return };
    let end = batch.base_offset().saturating_add(i64::from(batch.last_offset_delta()) + 1);
    let ended = behind.entry((shard, partition)).or_insert(end);
    *ended = (*ended).max(end);
}

/// Whether there is nothing at `target`.
///
/// # Errors
/// If there is, or nobody can tell.
pub async fn check_target<D: Disk>(disk: &D, target: &Path) -> Result<(), OfflineError> {
    match disk.list(target).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(taken(target)),
        Err(error) => Err(unwritten(target, &error)),
        Ok(_) => Err(taken(target)),
    }
}

/// Writes what a plan keeps into a new directory.
///
/// # Errors
/// If there is anything at `target`, or it cannot be written. What was written until then stays,
/// without the file that says what it is, so that nobody opens it.
pub async fn write<E: Env, F: File>(
    env: &E,
    plan: &Plan<F>,
    target: &Path,
    options: LogOptions,
) -> Result<(), OfflineError> {
    let disk = env.disk();
    check_target(disk, target).await?;
    create_durably(env, target).await.map_err(|error| not_made(&error))?;
    let lock = disk.lock(&target.join(LOCK_NAME)).await;
    let _lock = lock.map_err(|error| unwritten(target, &error))?;
    for (shard, kept) in plan.logs.iter().enumerate() {
        let path = log_path(target, shard);
        for directory in [path.parent().unwrap_or(&path), &path] {
            create_durably(env, directory).await.map_err(|error| not_made(&error))?;
        }
        let deleted_again = if shard == 0 { &plan.deleted_again[..] } else { &[] };
        let options = match kept.segment_bytes {
            0 => options,
            as_before => options.with_segment_bytes(as_before),
        };
        write_log(env, kept, &path, options, deleted_again).await?;
        read_back(disk, kept, &path, deleted_again).await?;
    }
    let made = create_identity(env, target, plan.report.identity).await;
    made.map(drop).map_err(|error| not_made(&error))
}

fn taken(target: &Path) -> OfflineError {
    OfflineError::Failed(format!(
        "{} is there already; name a directory that is not, so that nothing is written over",
        target.display()
    ))
}

fn unwritten(target: &Path, error: &io::Error) -> OfflineError {
    OfflineError::Failed(format!("cannot write {}: {error}", target.display()))
}

fn not_made(error: &EngineError) -> OfflineError {
    OfflineError::Failed(error.to_string())
}

/// Appends what is kept of a log, and then deletions, to a new log.
async fn write_log<E: Env, F: File>(
    env: &E,
    kept: &Kept<F>,
    path: &Path,
    options: LogOptions,
    deleted_again: &[TopicId],
) -> Result<(), OfflineError> {
    let fresh = |_: Recovered| Err("a new log has commits".to_owned());
    let opened = Log::<E, ()>::open(env.clone(), path.to_path_buf(), options, fresh).await;
    let (log, _) = opened?;
    let mut waiting = 0;
    if let Some(examination) = &kept.examination {
        let mut salvage = examination.salvage();
        while let Some(commits) = salvage.next().await? {
            for commit in commits {
                submit(&log, &commit.bytes, &mut waiting).await?;
            }
        }
    }
    for &id in deleted_again {
        submit(&log, &operation::delete_topic(id), &mut waiting).await?;
    }
    while waiting > 0 {
        waiting -= log.committed().await?.len();
    }
    log.close().await?;
    Ok(())
}

/// Appends a commit. While the log is full, takes from it what became durable; `waiting` counts the
/// commits that were not taken.
async fn submit<E: Env>(
    log: &Log<E, ()>,
    commit: &[u8],
    waiting: &mut usize,
) -> Result<(), LogError> {
    loop {
        match log.submit(&[commit], ()) {
            Ok(()) => {
                *waiting += 1;
                return Ok(());
            }
            Err((error, ())) if error.is_retryable() && *waiting > 0 => {
                *waiting -= log.committed().await?.len();
            }
            Err((error, ())) => return Err(error),
        }
    }
}

/// Reads a log that was written, and compares it with what was kept.
async fn read_back<D: Disk, F>(
    disk: &D,
    kept: &Kept<F>,
    path: &Path,
    deleted_again: &[TopicId],
) -> Result<(), OfflineError> {
    let log = OfflineLog::open(disk.clone(), path.to_path_buf()).await?;
    let mut sum = Sum::new();
    let mut more = 0;
    let examination = log
        .examine(|commit| {
            if sum.commits < kept.commits {
                sum.add(&commit.bytes);
            } else {
                more += 1;
            }
            Ok(())
        })
        .await?;
    let checksum = if kept.examination.is_some() { sum.digest.finalize() } else { 0 };
    let is_same = sum.commits == kept.commits
        && checksum == kept.checksum
        && more == deleted_again.len()
        && matches!(examination.verdict, Ok(Verdict::Clean));
    if is_same {
        return Ok(());
    }
    Err(OfflineError::Failed(format!(
        "{} does not hold what was written to it: the disk under the new directory is not sound. \
         Name one on another disk, and remove this one",
        path.display()
    )))
}
