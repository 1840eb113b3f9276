//! `woodchuck inspect`: which commands there are, and `inspect log`.

use std::path::PathBuf;

use serde_json::{Value, json};
use woodchuck::offline::LogDirectory;
use woodchuck_io::mapped::{MappedDisk, at_once};
use woodchuck_stream::Batch;
use woodchuck_stream::operation::{self, Operation};
use woodchuck_wal::offline::{
    Damage, Examination, Found, FrameFacts, OfflineLog, SegmentFacts, SegmentTotals,
};
use woodchuck_wal::{LogError, Recovered, Verdict};

use super::inspect_store::{self, BlockArguments, ManifestArguments, TableArguments};
use super::verify::damage as refusal;
use super::{Output, WIDTH, finished, generation, identity, lsn, open};
use crate::exit::{Exit, Trouble, help};
use crate::text::{bytes, number, wrap};

/// What it does, for the help.
const ABOUT: &str = "\
Show the segments of a log, its frames and every damaged place.

Works on a damaged log, and goes on behind the damage: what is shown there proves nothing. The last
line of each log is the verdict that opening it would give. Nothing is written.

DIR is a data directory, of which all logs are shown, or the directory of one log in it. The broker
must be stopped. With --json there is one object a line, told apart by its type: log, file, segment,
frame, operation, damage, segment_end, verdict. Frame numbers are strings of decimal digits there,
generations and identities strings of hexadecimal ones.";

fn examples() -> String {
    help(&[
        "inspect log data",
        "inspect log data/shard-0000/log --frames",
        "inspect log data --operations --json",
    ])
}

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Show the segments of a log, its frames and every damaged place.
    #[command(long_about = ABOUT, after_help = examples())]
    Log(Arguments),
    /// Show what the manifest of a store says, and what is wrong with its files.
    #[command(long_about = inspect_store::MANIFEST, after_help = inspect_store::examples("manifest"))]
    Manifest(ManifestArguments),
    /// Show what is in a table, and every damaged place.
    #[command(long_about = inspect_store::TABLE, after_help = inspect_store::examples("table"))]
    Table(TableArguments),
    /// Show what is in one block of a table, or why it is damaged.
    #[command(long_about = inspect_store::BLOCK, after_help = inspect_store::examples("block"))]
    Block(BlockArguments),
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A data directory, or the directory of one log.
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// Show every frame.
    #[arg(long)]
    frames: bool,

    /// Show what every commit does: its kind and sizes.
    #[arg(long)]
    operations: bool,

    /// Print JSON Lines.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: &Command) -> Result<Exit, Trouble> {
    match command {
        Command::Log(arguments) => log(arguments),
        Command::Manifest(arguments) => inspect_store::manifest(arguments),
        Command::Table(arguments) => inspect_store::table(arguments),
        Command::Block(arguments) => inspect_store::block(arguments),
    }
}

fn log(arguments: &Arguments) -> Result<Exit, Trouble> {
    let directory = open(&arguments.directory)?;
    let mut output = Output::new();
    for log in &directory.logs {
        let shown = finished(at_once(show(arguments, log, &mut output)))?;
        shown.map_err(|error| {
            let trouble = Trouble::from(woodchuck::offline::OfflineError::from(error));
            let message = format!("{}: {}", log.path.display(), trouble.message);
            Trouble { message, ..trouble }
        })?;
    }
    output.finish()?;
    Ok(Exit::Done)
}

async fn show(
    arguments: &Arguments,
    directory: &LogDirectory,
    output: &mut Output,
) -> Result<(), LogError> {
    if !directory.exists {
        match arguments.json {
            true => output.line(json!({
                "type": "log", "shard": directory.shard, "identity": null,
                "path": directory.path.display().to_string(), "exists": false,
            })),
            false => output.line(format_args!("{} is not there", directory.path.display())),
        }
        return Ok(());
    }
    let log = OfflineLog::open(MappedDisk, directory.path.clone()).await?;
    let examination = log.examine(|_| Ok(())).await?;
    if arguments.json {
        output.line(json!({
            "type": "log", "shard": directory.shard, "identity": examination.identity.map(identity),
            "path": directory.path.display().to_string(), "exists": true,
        }));
        for (name, bytes) in log.bodies.iter().chain(&log.spares).chain(&log.fillings) {
            output.line(json!({ "type": "file", "name": name, "bytes": bytes }));
        }
        log.scan(&examination, |found| found_json(arguments, output, found)).await?;
        output.line(verdict_json(directory, &examination));
    } else {
        let identity = examination.identity.map_or("none yet".to_owned(), identity);
        output.line(format_args!("{}: log {identity}", directory.path.display()));
        if arguments.frames {
            output.line(format_args!(
                "  {:16}{:>12}  {:8}{:>11}{:>8}{:>12}{:>11}{:>11}",
                "segment", "offset", "kind", "frame", "commits", "bytes", "watermark", "trim"
            ));
        }
        let mut table = Table::default();
        log.scan(&examination, |found| table.add(arguments, output, found)).await?;
        table.tell(output);
        for (name, length) in log.bodies.iter().chain(&log.spares).chain(&log.fillings) {
            output.line(format_args!("  {name:21}  {}", bytes(*length)));
        }
        indented(output, &format!("verdict: {}", verdict(&examination)));
    }
    Ok(())
}

/// One line of what opening would say.
fn verdict<F>(examination: &Examination<F>) -> String {
    match &examination.verdict {
        Ok(Verdict::Clean) => format!(
            "clean; {} commits of {}, next frame {}",
            number(examination.commits),
            bytes(examination.bytes),
            examination.next_lsn
        ),
        Ok(torn @ Verdict::TornTail { .. }) => torn.to_string(),
        Err(error) => format!("corrupt: {error}"),
    }
}

/// The segments of a log, shown below its frames.
#[derive(Default)]
struct Table {
    rows: Vec<(SegmentFacts, SegmentTotals)>,
    damages: Vec<Damage>,
    segment: Option<SegmentFacts>,
}

impl Table {
    fn add(&mut self, arguments: &Arguments, output: &mut Output, found: Found) {
        match found {
            Found::Segment(facts) => self.segment = Some(facts),
            Found::End(totals) => {
                self.rows.extend(self.segment.take().map(|facts| (facts, totals)));
            }
            Found::Damage(damage) if arguments.frames => tell_damage(output, &damage),
            Found::Damage(damage) => self.damages.push(damage),
            Found::Frame(facts, commits) => {
                if arguments.frames {
                    output.line(frame(&facts));
                }
                if arguments.operations {
                    commits.into_iter().for_each(|commit| output.line(operation_line(commit)));
                }
            }
        }
    }

    fn tell(&self, output: &mut Output) {
        output.line(format_args!(
            "  {:16}  {:10}  {:>21}{:>10}{:>10}{:>12}{:>12}",
            "segment", "role", "frames", "count", "commits", "used", "of"
        ));
        for (facts, totals) in &self.rows {
            let lsns = totals.lsns.map_or(String::new(), |(first, last)| {
                let first = facts.first_lsn.map_or(first, |known| known.min(first));
                format!("{first} to {}", first.max(last))
            });
            output.line(format_args!(
                "  {:16}  {:10}  {lsns:>21}{:>10}{:>10}{:>12}{:>12}",
                generation(facts.generation),
                facts.role.name(),
                number(totals.frames),
                number(totals.commits),
                bytes(totals.used_bytes),
                bytes(facts.file_bytes)
            ));
            if totals.unreadable_blocks > 0 {
                let blocks = number(totals.unreadable_blocks);
                output.line(format_args!("    the disk cannot read {blocks} blocks of it"));
            }
        }
        self.damages.iter().for_each(|damage| tell_damage(output, damage));
    }
}

fn frame(facts: &FrameFacts) -> String {
    let mut wrong = String::new();
    if !facts.is_whole {
        wrong.push_str("  PAYLOAD DAMAGED");
    }
    if facts.follows == Some(false) {
        wrong.push_str("  DOES NOT FOLLOW");
    }
    format!(
        "  {:16}{:>12}  {:8}{:>11}{:>8}{:>12}{:>11}{:>11}{wrong}",
        generation(facts.segment),
        facts.offset,
        facts.kind.name(),
        facts.lsn,
        facts.commits,
        facts.payload_bytes,
        facts.watermark,
        facts.trim,
    )
}

fn tell_damage(output: &mut Output, damage: &Damage) {
    let lsn = damage.lsn.map_or(String::new(), |lsn| format!(", frame {lsn}"));
    let end =
        if damage.end > damage.offset { format!(" to {}", damage.end) } else { String::new() };
    let text = format!(
        "! segment {} offset {}{end}{lsn}: {} ({})",
        generation(damage.segment),
        damage.offset,
        damage.what,
        damage.harm.name()
    );
    indented(output, &text);
}

fn indented(output: &mut Output, text: &str) {
    for line in wrap(text, WIDTH - 2) {
        output.line(format_args!("  {line}"));
    }
}

fn operation_line(commit: Recovered) -> String {
    let (lsn, bytes_) = (commit.lsn, commit.bytes.len());
    let place = match commit.is_body {
        true => format!(
            " at {} of {}.body",
            commit.location.offset,
            generation(commit.location.segment)
        ),
        false => String::new(),
    };
    let what = match operation::decode(commit.bytes) {
        Err(error) => format!("not an operation: {error}"),
        Ok(Operation::Append { partition, batch }) => {
            let batch_bytes = batch.len() as u64;
            let of = format!("partition {} of topic {:032x}", partition.index, partition.topic.0);
            match Batch::parse_stored(batch) {
                Ok(batch) => format!(
                    "append {} records at offset {} to {of}, batch of {}",
                    batch.count(),
                    batch.base_offset(),
                    bytes(batch_bytes)
                ),
                Err(error) => format!("append to {of}, batch of {batch_bytes} bytes: {error}"),
            }
        }
        Ok(Operation::CreateTopic(topic)) => format!(
            "create topic {} ({:032x}) of {} partitions, the first on shard {}",
            topic.name, topic.id.0, topic.partitions, topic.first_shard
        ),
        Ok(Operation::DeleteTopic(id)) => format!("delete topic {:032x}", id.0),
        Ok(Operation::TopicsSnapshot(topics)) => format!("snapshot of {} topics", topics.len()),
    };
    format!("    frame {lsn}, {bytes_} bytes{place}: {what}")
}

fn found_json(arguments: &Arguments, output: &mut Output, found: Found) {
    match found {
        Found::Segment(facts) => output.line(json!({
            "type": "segment",
            "segment": generation(facts.generation),
            "role": facts.role.name(),
            "file_bytes": facts.file_bytes,
            "segment_bytes": facts.segment_bytes,
            "first_frame": facts.first_lsn.map(lsn),
        })),
        Found::Frame(facts, commits) => {
            if arguments.frames {
                output.line(frame_json(&facts));
            }
            if arguments.operations {
                commits.into_iter().for_each(|commit| output.line(operation_json(commit)));
            }
        }
        Found::Damage(damage) => output.line(json!({
            "type": "damage",
            "segment": generation(damage.segment),
            "offset": damage.offset,
            "end": damage.end,
            "frame": damage.lsn.map(lsn),
            "what": damage.what,
            "harm": damage.harm.name(),
        })),
        Found::End(totals) => output.line(json!({
            "type": "segment_end",
            "segment": generation(totals.segment),
            "frames": totals.frames,
            "commits": totals.commits,
            "first_placed_frame": totals.lsns.map(|(first, _)| lsn(first)),
            "last_placed_frame": totals.lsns.map(|(_, last)| lsn(last)),
            "used_bytes": totals.used_bytes,
            "damages": totals.damages,
            "unreadable_blocks": totals.unreadable_blocks,
        })),
    }
}

fn frame_json(facts: &FrameFacts) -> Value {
    json!({
        "type": "frame",
        "segment": generation(facts.segment),
        "offset": facts.offset,
        "bytes": facts.bytes,
        "frame": lsn(facts.lsn),
        "kind": facts.kind.name(),
        "commits": facts.commits,
        "payload_bytes": facts.payload_bytes,
        "watermark": lsn(facts.watermark),
        "trim": lsn(facts.trim),
        "whole": facts.is_whole,
        "follows": facts.follows,
    })
}

fn operation_json(commit: Recovered) -> Value {
    let mut told = json!({
        "type": "operation",
        "frame": lsn(commit.lsn),
        "segment": generation(commit.location.segment),
        "offset": commit.location.offset,
        "bytes": commit.location.length,
        "body": commit.is_body,
    });
    match operation::decode(commit.bytes) {
        Err(error) => {
            told["operation"] = "unknown".into();
            told["error"] = error.to_string().into();
        }
        Ok(Operation::Append { partition, batch }) => {
            told["operation"] = "append".into();
            told["topic_id"] = identity(partition.topic.0).into();
            told["partition"] = partition.index.into();
            told["batch_bytes"] = batch.len().into();
            match Batch::parse_stored(batch) {
                Ok(batch) => {
                    told["base_offset"] = batch.base_offset().into();
                    told["records"] = batch.count().into();
                }
                Err(error) => told["error"] = error.to_string().into(),
            }
        }
        Ok(Operation::CreateTopic(topic)) => {
            told["operation"] = "create_topic".into();
            told["topic_id"] = identity(topic.id.0).into();
            told["topic"] = topic.name.to_string().into();
            told["partitions"] = topic.partitions.into();
            told["first_shard"] = topic.first_shard.into();
        }
        Ok(Operation::DeleteTopic(id)) => {
            told["operation"] = "delete_topic".into();
            told["topic_id"] = identity(id.0).into();
        }
        Ok(Operation::TopicsSnapshot(topics)) => {
            told["operation"] = "topics_snapshot".into();
            told["topics"] = topics.len().into();
        }
    }
    told
}

fn verdict_json<F>(directory: &LogDirectory, examination: &Examination<F>) -> Value {
    let (verdict, damage) = match &examination.verdict {
        Ok(Verdict::Clean) => ("clean", Value::Null),
        Ok(Verdict::TornTail { .. }) => ("torn_tail", Value::Null),
        Err(error) => ("corrupt", refusal(error)),
    };
    let torn_tail = match &examination.verdict {
        Ok(Verdict::TornTail { segment, offset, frames, bytes }) => json!({
            "segment": generation(*segment), "offset": offset, "frames": frames, "bytes": bytes,
        }),
        _ => Value::Null,
    };
    json!({
        "type": "verdict",
        "shard": directory.shard,
        "verdict": verdict,
        "damage": damage,
        "torn_tail": torn_tail,
        "frames": examination.frames,
        "commits": examination.commits,
        "bytes": examination.bytes,
        "next_frame": lsn(examination.next_lsn),
        "trim": lsn(examination.trim),
        "durable_below": lsn(examination.durable_below),
        "unreadable_blocks": examination.unreadable_blocks,
    })
}
