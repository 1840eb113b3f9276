//! `woodchuck verify`.

use std::path::PathBuf;

use serde_json::{Value, json};
use woodchuck::offline::verify::{LogVerification, Outcome, Verification, bytes, verify};
use woodchuck_wal::{LogError, Verdict};

use super::verify_store::{self, StoreOutcome};
use super::{Output, WIDTH, absolute, finished, generation, identity, lsn, open};
use crate::exit::{Exit, Trouble, help};
use crate::progress;
use crate::text::{self, number, wrap};
use woodchuck_io::mapped::at_once;

/// What it does, for the help.
pub(crate) const ABOUT: &str = "\
Check all that is in a data directory, without opening it.

Every log is read as opening it would read it, with all checksums, and its commits are replayed, so
that the verdict is the one that serve would give. Of every store its manifest is read with every
edit, and every live table with every block. Nothing is written. A torn tail, which a crash leaves
and opening drops, is told of and is no damage: it was never acknowledged.

DIR is a data directory, or the directory of one log or one store in it. The broker must be
stopped.";

/// What to type.
pub(crate) fn examples() -> String {
    help(&[
        "verify data",
        "verify data --json",
        "verify data/shard-0000/log",
        "verify data/shard-0000/store",
    ])
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A data directory, or the directory of one log or one store.
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Trouble> {
    let path = absolute(&arguments.directory)?;
    if let Some(done) = verify_store::run_alone(&path, arguments.json)? {
        return Ok(done);
    }
    let directory = open(&arguments.directory)?;
    let all = finished(at_once(bytes(&directory)))?;
    let bar = progress::bytes_bar(all, !arguments.json);
    let verified = at_once(verify(&directory, |done| bar.set_position(done)));
    bar.finish_and_clear();
    let verification = finished(verified)?;
    let stores = verify_store::verify_below(&path, arguments.json)?;
    let logs_exit = exit(&verification);
    let exit = verify_store::worst(logs_exit, &stores);
    let mut output = Output::new();
    if arguments.json {
        let shards = directory.identity.map(|identity| identity.shards);
        let cluster = directory.identity.map(|known| identity(known.cluster_id));
        output.line(format_args!(
            "{:#}",
            json!({
                "directory": directory.path().display().to_string(),
                "shards": shards,
                "cluster_id": cluster,
                "verdict": name(exit, &verification),
                "stores": stores.iter().map(StoreOutcome::json).collect::<Vec<_>>(),
                "logs": verification.logs.iter().map(log_json).collect::<Vec<_>>(),
                "contradictions": verification.contradictions,
            })
        ));
    } else {
        output.line(directory.path().display());
        tell(&mut output, &verification, &stores, (logs_exit, exit));
    }
    output.finish()?;
    Ok(exit)
}

/// Damage counts most, then what cannot be read.
fn exit(verification: &Verification) -> Exit {
    let mut outcomes = verification.logs.iter().map(|log| &log.outcome);
    let is_damage = outcomes.clone().any(Outcome::is_damage);
    let unreadable = outcomes.find_map(|outcome| match outcome {
        Outcome::Unreadable(LogError::WrongVersion { .. }) => Some(Exit::WrongVersion),
        Outcome::Unreadable(_) => Some(Exit::Failed),
        _ => None,
    });
    match (is_damage || !verification.contradictions.is_empty(), unreadable) {
        (true, _) => Exit::Damaged,
        (false, Some(exit)) => exit,
        (false, None) => Exit::Done,
    }
}

/// The verdict on the whole directory.
fn name(exit: Exit, verification: &Verification) -> &'static str {
    let is_torn =
        |log: &LogVerification| matches!(log.outcome, Outcome::Opens(Verdict::TornTail { .. }));
    match exit {
        Exit::Damaged => "damaged",
        Exit::WrongVersion => "wrong_version",
        Exit::Failed => "unreadable",
        _ if verification.logs.iter().any(is_torn) => "torn_tail",
        _ => "clean",
    }
}

/// The verdict on a log.
fn outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Opens(Verdict::Clean) => "clean",
        Outcome::Opens(Verdict::TornTail { .. }) => "torn_tail",
        Outcome::Corrupt(_) => "corrupt",
        Outcome::Refused { .. } => "refused",
        Outcome::Missing => "missing",
        Outcome::NotMade => "not_made",
        Outcome::Unreadable(LogError::WrongVersion { .. }) => "wrong_version",
        Outcome::Unreadable(_) => "unreadable",
    }
}

/// What is to be said of a log besides, if anything.
fn message(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Opens(Verdict::Clean) => None,
        Outcome::Opens(Verdict::TornTail { segment, offset, frames, bytes }) => Some(format!(
            "behind offset {offset} of segment {} stand the remains of {} frames of {}, which were \
             never acknowledged; opening drops them",
            generation(*segment),
            number(*frames),
            text::bytes(*bytes)
        )),
        Outcome::Corrupt(error) | Outcome::Unreadable(error) => Some(error.to_string()),
        Outcome::Refused { lsn, reason } => {
            Some(format!("a commit of frame {lsn} is whole and cannot be replayed: {reason}"))
        }
        Outcome::Missing => Some(
            "the log is not there, and others have commits: restore it from a copy, or save the \
             others with `woodchuck repair DIR --to NEW_DIR`"
                .to_owned(),
        ),
        Outcome::NotMade => Some("the log was not made yet; opening makes it".to_owned()),
    }
}

fn tell(
    output: &mut Output,
    verification: &Verification,
    stores: &[StoreOutcome],
    (logs_exit, exit): (Exit, Exit),
) {
    output.line(format_args!(
        "{:>6}  {:13}{:>9}{:>14}{:>14}{:>12}",
        "shard", "verdict", "segments", "frames", "commits", "bytes"
    ));
    for log in &verification.logs {
        let shard = log.directory.shard.map_or("log".to_owned(), |shard| shard.to_string());
        let verdict = outcome(&log.outcome).replace('_', " ");
        let columns = log.facts.map(|facts| {
            format!(
                "{:>9}{:>14}{:>14}{:>12}",
                number(facts.segments),
                number(facts.frames),
                number(facts.commits),
                text::bytes(facts.bytes)
            )
        });
        let row = format!("{shard:>6}  {verdict:13}{}", columns.unwrap_or_default());
        output.line(row.trim_end());
    }
    for log in &verification.logs {
        let unreadable = log.facts.map_or(0, |facts| facts.unreadable_blocks);
        let unreadable =
            (unreadable > 0).then(|| format!("the disk cannot read {} blocks", number(unreadable)));
        for message in message(&log.outcome).into_iter().chain(unreadable) {
            let who = log.directory.shard.map_or("the log".to_owned(), |n| format!("shard {n}"));
            sentence(output, &format!("{who}: {message}"));
        }
    }
    for contradiction in &verification.contradictions {
        sentence(output, contradiction);
    }
    verify_store::tell(output, stores);
    output.line("");
    sentence(
        output,
        match name(exit, verification) {
            "clean" => "clean: all that was acknowledged is there",
            "torn_tail" => {
                "clean but for a torn tail: all that was acknowledged is there, and opening drops \
                 the rest"
            }
            "damaged" if exit != logs_exit => {
                "damaged: a store has lost data, or it is in doubt; the logs are whole"
            }
            "damaged" => "damaged: acknowledged data is lost or in doubt, and opening refuses",
            "wrong_version" => "another version of Woodchuck wrote this",
            _ => "not all could be read",
        },
    );
}

pub(super) fn sentence(output: &mut Output, text: &str) {
    for line in wrap(text, WIDTH) {
        output.line(line);
    }
}

fn log_json(log: &LogVerification) -> Value {
    let torn_tail = match &log.outcome {
        Outcome::Opens(Verdict::TornTail { segment, offset, frames, bytes }) => json!({
            "segment": generation(*segment), "offset": offset, "frames": frames, "bytes": bytes,
        }),
        _ => Value::Null,
    };
    json!({
        "shard": log.directory.shard,
        "path": log.directory.path.display().to_string(),
        "verdict": outcome(&log.outcome),
        "message": message(&log.outcome),
        "torn_tail": torn_tail,
        "damage": match &log.outcome {
            Outcome::Corrupt(error) => damage(error),
            _ => Value::Null,
        },
        "identity": log.facts.and_then(|facts| facts.identity).map(identity),
        "segments": log.facts.map(|facts| facts.segments),
        "frames": log.facts.map(|facts| facts.frames),
        "commits": log.facts.map(|facts| facts.commits),
        "bytes": log.facts.map(|facts| facts.bytes),
        "unreadable_blocks": log.facts.map(|facts| facts.unreadable_blocks),
        "next_frame": log.facts.map(|facts| lsn(facts.next_lsn)),
        "trim": log.facts.map(|facts| lsn(facts.trim)),
    })
}

/// A refusal, in JSON.
pub(super) fn damage(error: &LogError) -> Value {
    match error {
        LogError::Corrupt { segment, offset, first_lost, lost_below, evidence } => json!({
            "segment": generation(*segment),
            "offset": offset,
            "first_lost": lsn(*first_lost),
            "lost_below": lsn(*lost_below),
            "evidence": evidence,
        }),
        _ => Value::Null,
    }
}
