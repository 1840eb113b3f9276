//! `woodchuck repair`.

use std::path::PathBuf;

use serde_json::{Value, json};
use woodchuck::EngineOptions;
use woodchuck::offline::repair::{
    CutPartition, LogReport, Loss, Report, check_target, plan, write,
};
use woodchuck::offline::{OfflineDirectory, OfflineError};
use woodchuck_io::mapped::MappedDisk;
use woodchuck_io::runtime::{Backend, Runtime, RuntimeOptions};
use woodchuck_io::{Env, Program};

use super::{Output, WIDTH, absolute, generation, identity, lsn};
use crate::exit::{Exit, Trouble, help};
use crate::limits::REPAIR_LINES;
use crate::text::{bytes, number, wrap};

/// What it does, for the help.
pub(crate) const ABOUT: &str = "\
Save what can be saved of a damaged data directory into a new one.

Of each shard's log, the commits in front of the first damage are kept: they are proven whole and in
order. What stands behind it is lost, and the report says how much of it was acknowledged. Nothing
in DIR is changed. Without --yes nothing is written either: the report says what would be.

The broker must be stopped. Restoring a copy loses less, if there is one; docs/repair.md tells what
a repaired directory holds.";

/// What to type.
pub(crate) fn examples() -> String {
    help(&["repair data --to repaired", "repair data --to repaired --yes"])
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The damaged data directory.
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// The new data directory. There must be nothing of that name.
    #[arg(long, value_name = "NEW_DIR")]
    to: PathBuf,

    /// Write it.
    #[arg(long)]
    yes: bool,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Trouble> {
    let (source, target) = (absolute(&arguments.directory)?, absolute(&arguments.to)?);
    if target.starts_with(&source) {
        return Err(Trouble::usage(format!(
            "{} is in the damaged directory, in which nothing is written; name another place",
            target.display()
        )));
    }
    let backend = Backend::from_environment().map_err(|error| error.to_string())?;
    let options = RuntimeOptions { shards: 1, backend, ..RuntimeOptions::default() };
    let work = Repair { source: source.clone(), target: target.clone(), write: arguments.yes };
    let running =
        Runtime::start(options, work).map_err(|error| format!("cannot start: {error}"))?;
    let report = match running.join().into_iter().next() {
        Some(Ok(report)) => report?,
        Some(Err(panic)) => return Err(format!("this is a bug: {panic}").into()),
        None => return Err("this is a bug: no shard ran".to_owned().into()),
    };
    let mut output = Output::new();
    if arguments.json {
        let mut told = report_json(&report);
        told["directory"] = source.display().to_string().into();
        told["to"] = target.display().to_string().into();
        told["written"] = arguments.yes.into();
        output.line(format_args!("{told:#}"));
    } else {
        output.line(source.display());
        tell(&mut output, &report);
        if arguments.yes {
            output.line(format_args!("\n{} is written, and was read back", target.display()));
        }
    }
    output.finish()?;
    if arguments.yes {
        return Ok(Exit::Done);
    }
    let message =
        format!("nothing was written; give --yes to write what is kept into {}", target.display());
    Err(Trouble { exit: Exit::Unconfirmed, message })
}

/// Finds out what can be saved, and writes it if asked to.
#[derive(Clone)]
struct Repair {
    source: PathBuf,
    target: PathBuf,
    write: bool,
}

impl Program for Repair {
    type Output = Result<Report, OfflineError>;

    async fn run<E: Env>(self, env: E) -> Self::Output {
        check_target(&MappedDisk, &self.target).await?;
        let directory = OfflineDirectory::open(MappedDisk, self.source).await?;
        let plan = plan(&directory).await?;
        if self.write {
            let options = EngineOptions::new(self.target.clone()).log;
            write(&env, &plan, &self.target, options).await?;
        }
        Ok(plan.report)
    }
}

fn tell(output: &mut Output, report: &Report) {
    for log in &report.logs {
        tell_log(output, log);
    }
    few(output, &report.cut, "partitions", |cut| {
        let CutPartition { shard, topic, topic_id, partition, end, ended } = cut;
        let topic = topic.clone().unwrap_or_else(|| format!("{:032x}", topic_id.0));
        format!(
            "partition {partition} of topic {topic}, on shard {shard}, ends at offset {end} now: \
             offsets {end} to {} are lost, and perhaps later ones",
            ended - 1
        )
    });
    few(output, &report.unknown_topics, "topics", |topic| {
        format!(
            "topic {:032x} is not known any more: its creation, or its deletion, stood in what \
             shard 0 lost. {} records in {} of its partitions cannot be served",
            topic.topic_id.0,
            number(topic.records),
            number(topic.partitions)
        )
    });
    few(output, &report.deleted_again, "topics", |topic| {
        format!("topic {topic} is deleted again: its records were trimmed, so it had been before")
    });
    output.line("");
    let verdict = match (report.has_losses(), report.deleted_again.is_empty()) {
        (true, _) => "acknowledged data is lost",
        (false, false) => "no log is damaged, but what they say cannot all be true",
        (false, true) => "nothing that was acknowledged is lost: this directory needs no repair",
    };
    sentence(output, verdict);
}

fn tell_log(output: &mut Output, log: &LogReport) {
    let (from, below) = log.frames;
    let frames = match below > from {
        true => format!(" in the frames {from} to {}", below.get() - 1),
        false => String::new(),
    };
    let torn = match log.torn_frames {
        0 => String::new(),
        torn => {
            format!("; {} frames of a torn tail, never acknowledged, are dropped", number(torn))
        }
    };
    sentence(
        output,
        &format!(
            "shard {}: {} commits of {} are kept{frames}{torn}",
            log.shard,
            number(log.commits),
            bytes(log.bytes)
        ),
    );
    let Some(loss) = &log.loss else { return };
    for text in lost(loss) {
        sentence(output, &format!("  {text}"));
    }
}

/// What is lost of a log, in sentences.
fn lost(loss: &Loss) -> Vec<String> {
    let place = match loss.place {
        Some((segment, offset)) => {
            format!("from segment {} offset {offset} on", generation(segment))
        }
        None => "all of it".to_owned(),
    };
    let mut sentences = vec![format!("damaged {place}: {}", loss.evidence)];
    if let (Some(first), Some(below)) = (loss.first_lost, loss.acknowledged_below) {
        sentences.push(match below > first {
            true => format!(
                "the frames {first} to {} are lost; they were acknowledged. So are later ones, if \
                 there were any",
                below.get() - 1
            ),
            false => {
                format!("the frames from {first} on are lost; they may have been acknowledged")
            }
        });
    }
    if loss.readable_commits > 0 {
        sentences.push(format!(
            "behind the damage {} commits of {} in {} frames can be read; they are not kept, because \
             nothing proves what stood in front of them",
            number(loss.readable_commits),
            bytes(loss.readable_bytes),
            number(loss.readable_frames)
        ));
    }
    sentences
}

/// A list, of which people are told the beginning.
fn few<T>(output: &mut Output, items: &[T], what: &str, tell: impl Fn(&T) -> String) {
    for item in items.iter().take(REPAIR_LINES) {
        sentence(output, &tell(item));
    }
    if let Some(more) = items.len().checked_sub(REPAIR_LINES).filter(|&more| more > 0) {
        sentence(output, &format!("and {} more {what}; --json tells all", number(more as u64)));
    }
}

fn sentence(output: &mut Output, text: &str) {
    let indent = &text[..text.len() - text.trim_start().len()];
    for line in wrap(text, WIDTH - indent.len()) {
        output.line(format_args!("{indent}{line}"));
    }
}

fn report_json(report: &Report) -> Value {
    let logs = report.logs.iter().map(|log| {
        let loss = log.loss.as_ref().map(|loss| {
            json!({
                "segment": loss.place.map(|(segment, _)| generation(segment)),
                "offset": loss.place.map(|(_, offset)| offset),
                "first_lost": loss.first_lost.map(lsn),
                "acknowledged_below": loss.acknowledged_below.map(lsn),
                "evidence": loss.evidence,
                "readable_frames": loss.readable_frames,
                "readable_commits": loss.readable_commits,
                "readable_bytes": loss.readable_bytes,
            })
        });
        json!({
            "shard": log.shard,
            "commits": log.commits,
            "bytes": log.bytes,
            "first_frame": lsn(log.frames.0),
            "below_frame": lsn(log.frames.1),
            "torn_frames": log.torn_frames,
            "loss": loss,
        })
    });
    let cut = report.cut.iter().map(|cut| {
        json!({
            "shard": cut.shard,
            "topic": cut.topic,
            "topic_id": identity(cut.topic_id.0),
            "partition": cut.partition,
            "end": cut.end,
            "ended": cut.ended,
        })
    });
    let unknown = report.unknown_topics.iter().map(|topic| {
        json!({
            "topic_id": identity(topic.topic_id.0),
            "partitions": topic.partitions,
            "records": topic.records,
        })
    });
    json!({
        "shards": report.identity.shards,
        "cluster_id": identity(report.identity.cluster_id),
        "has_losses": report.has_losses(),
        "logs": logs.collect::<Vec<_>>(),
        "cut_partitions": cut.collect::<Vec<_>>(),
        "unknown_topics": unknown.collect::<Vec<_>>(),
        "deleted_again": report.deleted_again,
    })
}
