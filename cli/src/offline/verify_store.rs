//! What `woodchuck verify` says of stores.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use woodchuck_io::mapped::{MappedDisk, at_once};
use woodchuck_storage::StorageError;
use woodchuck_storage::offline::verify::{StoreVerification, verify};
use woodchuck_storage::offline::{find, inspect, is_store};

use super::stores::{damage, damage_json, exit, message, trouble};
use super::verify::sentence;
use super::{Output, finished, identity};
use crate::exit::{Exit, Trouble};
use crate::progress;
use crate::text::{bytes, number};

/// What came of a store.
pub(super) struct StoreOutcome {
    path: PathBuf,
    found: Result<StoreVerification, StorageError>,
}

/// Verifies a path that is a store itself. `None` if it is none.
pub(super) fn run_alone(path: &Path, is_json: bool) -> Result<Option<Exit>, Trouble> {
    let is_one = finished(at_once(is_store(&MappedDisk, path)))?;
    // What cannot be looked at is told by who looks at directories of logs.
    if !is_one.unwrap_or(false) {
        return Ok(None);
    }
    let data = path.parent().and_then(Path::parent);
    let _lock = match data {
        Some(data) => finished(at_once(woodchuck::offline::lock(&MappedDisk, data)))??,
        None => None,
    };
    let outcomes = verify_below(path, is_json)?;
    let exit = worst(Exit::Done, &outcomes);
    let mut output = Output::new();
    if is_json {
        output.line(format_args!(
            "{:#}",
            json!({
                "directory": path.display().to_string(),
                "shards": null,
                "cluster_id": null,
                "verdict": name(exit),
                "logs": [],
                "stores": outcomes.iter().map(StoreOutcome::json).collect::<Vec<_>>(),
                "contradictions": [],
            })
        ));
    } else {
        tell(&mut output, &outcomes);
        output.line("");
        sentence(
            &mut output,
            match exit {
                Exit::Done => "clean: the manifest and all live tables are whole",
                Exit::Damaged => "damaged: data is lost or in doubt",
                Exit::WrongVersion => "another version of Woodchuck wrote this",
                _ => "not all could be read",
            },
        );
    }
    output.finish()?;
    Ok(Some(exit))
}

/// Verifies all stores in a directory.
pub(super) fn verify_below(path: &Path, is_json: bool) -> Result<Vec<StoreOutcome>, Trouble> {
    let stores = finished(at_once(find(&MappedDisk, path)))?.map_err(|error| trouble(&error))?;
    let mut outcomes = Vec::with_capacity(stores.len());
    for path in stores {
        let bar = progress::bytes_bar(finished(at_once(table_bytes(&path)))?, !is_json);
        let verified = at_once(verify(&MappedDisk, &path, |done| bar.set_position(done)));
        bar.finish_and_clear();
        outcomes.push(StoreOutcome { found: finished(verified)?, path });
    }
    Ok(outcomes)
}

/// Bytes of the tables that the manifest of a store speaks of, as far as it can be read.
async fn table_bytes(path: &Path) -> u64 {
    let version = inspect(&MappedDisk, path).await.ok().and_then(|found| found.version);
    let keyspaces = version.iter().flat_map(|version| version.keyspaces());
    keyspaces.flat_map(|keyspace| keyspace.tables()).map(|table| table.file_bytes).sum()
}

/// The worse of what came of logs and of stores: damage counts most, then what cannot be read.
pub(super) fn worst(logs: Exit, stores: &[StoreOutcome]) -> Exit {
    let all = || stores.iter().map(StoreOutcome::exit).chain([logs]);
    let is_damaged = all().any(|exit| exit == Exit::Damaged);
    let failed = [logs].into_iter().chain(stores.iter().map(StoreOutcome::exit));
    match is_damaged {
        true => Exit::Damaged,
        false => failed.into_iter().find(|&exit| exit != Exit::Done).unwrap_or(Exit::Done),
    }
}

fn name(exit: Exit) -> &'static str {
    match exit {
        Exit::Done => "clean",
        Exit::Damaged => "damaged",
        Exit::WrongVersion => "wrong_version",
        _ => "unreadable",
    }
}

/// Tells of stores, behind the logs.
pub(super) fn tell(output: &mut Output, stores: &[StoreOutcome]) {
    for store in stores {
        let shown = store.path.display();
        let verdict = name(store.exit()).replace('_', " ");
        match &store.found {
            Ok(found) => output.line(format_args!(
                "store {shown}: {verdict}; {} tables of {}, {} blocks, {} entries",
                number(found.tables),
                bytes(found.bytes),
                number(found.blocks),
                number(found.entries)
            )),
            Err(_) => output.line(format_args!("store {shown}: {verdict}")),
        }
        store.messages().iter().for_each(|message| sentence(output, message));
    }
}

impl StoreOutcome {
    fn exit(&self) -> Exit {
        match &self.found {
            Err(error) => exit(error),
            Ok(found) if found.is_damaged() => Exit::Damaged,
            Ok(found) => found.failure().map_or(Exit::Done, exit),
        }
    }

    /// All that is to be said besides the verdict.
    fn messages(&self) -> Vec<String> {
        let found = match &self.found {
            Ok(found) => found,
            Err(error) => return vec![message(error)],
        };
        let manifest = found.manifest.verdict.as_ref().err().map(message);
        let damage = found.damage.iter().map(damage);
        let more = found.damaged.saturating_sub(found.damage.len() as u64);
        let more = (more > 0).then(|| format!("and {} damaged places more", number(more)));
        let unreadable = found.unreadable.iter().map(message);
        let orphans = found.manifest.orphans.len() as u64;
        let orphans = (orphans > 0).then(|| {
            format!("{} tables that nothing speaks of; opening removes them", number(orphans))
        });
        manifest.into_iter().chain(damage).chain(more).chain(unreadable).chain(orphans).collect()
    }

    pub(super) fn json(&self) -> Value {
        let found = self.found.as_ref().ok();
        let version = found.and_then(|found| found.manifest.version.as_deref());
        let error = match &self.found {
            Err(error) => Some(error),
            Ok(found) => found.manifest.verdict.as_ref().err().or(found.failure()),
        };
        json!({
            "path": self.path.display().to_string(),
            "verdict": name(self.exit()),
            "message": error.map(message),
            "store": version.map(|version| identity(version.store())),
            "keyspaces": version.map(|version| version.keyspaces().count()),
            "tables": found.map(|found| found.tables),
            "bytes": found.map(|found| found.bytes),
            "blocks": found.map(|found| found.blocks),
            "entries": found.map(|found| found.entries),
            "orphans": found.map(|found| found.manifest.orphans.len()),
            "damaged": found.map(|found| found.damaged),
            "damage": found.map(|found| found.damage.iter().map(damage_json).collect::<Vec<_>>()),
            "unreadable": found.map(|found| {
                found.unreadable.iter().map(message).collect::<Vec<_>>()
            }),
        })
    }
}
