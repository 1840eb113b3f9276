//! Looking at a manifest, and at the files of its store, without opening it.
//!
//! The fault model: as of opening; and what is looked at may be damaged, or be written to meanwhile
//! by a process that has it open. Nothing is changed. Of a store that is being written, a moment is
//! seen, or an error: tables that are told as missing may have been removed since, and orphans may
//! be tables that are just being written. Who looks again sees which.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use woodchuck_io::Disk;
use woodchuck_wal::offline::OfflineLog;
use woodchuck_wal::{Recovered, Verdict};

use super::FOLDER;
use super::directory::{DamagedTable, LeftAlone, Orphan, list, look, table_number};
use super::handle::{invalid_manifest, log_error};
use super::replay::Replay;
use super::state::State;
use super::version::Version;
use crate::error::StorageError;

/// What is in a store's directory.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The store's directory.
    pub directory: PathBuf,
    /// What opening would say: what stands behind the log's end, or why it is refused.
    pub verdict: Result<Verdict, StorageError>,
    /// What the manifest says; as far as it can be read, if the verdict is an error. `None` if that
    /// is nothing.
    pub version: Option<Rc<Version>>,
    /// Edits behind the last snapshot and in front of it that were replayed.
    pub edits: u64,
    /// Commits of the manifest's log that were read, and their bytes.
    pub commits: u64,
    /// See `commits`.
    pub bytes: u64,
    /// Live tables whose files are missing or have another length. Not looked for if the manifest is
    /// damaged, nor are the others below.
    pub damaged: Vec<DamagedTable>,
    /// Tables that nothing speaks of. Opening removes them.
    pub orphans: Vec<Orphan>,
    /// What no store has.
    pub left_alone: Vec<LeftAlone>,
}

/// Whether a directory has a manifest, whole or damaged.
///
/// # Errors
/// `Io` if it cannot be looked at. It need not be there.
pub async fn is_store<D: Disk>(disk: &D, directory: &Path) -> Result<bool, StorageError> {
    let segments = list(disk, &directory.join(FOLDER)).await?;
    Ok(segments.iter().any(|entry| woodchuck_wal::is_segment(&entry.name)))
}

/// Tells what is in a store's directory, and changes nothing.
///
/// # Errors
/// [`StorageError::NotAStore`], [`StorageError::NoManifest`], [`StorageError::Io`]. Damage is none:
/// it is the verdict.
pub async fn inspect<D: Disk>(disk: &D, directory: &Path) -> Result<Inspection, StorageError> {
    if !is_store(disk, directory).await? {
        let tables = list(disk, directory).await?;
        let tables = tables.iter().filter(|entry| table_number(entry).is_some()).count();
        let shown = directory.display().to_string();
        if tables > 0 {
            return Err(StorageError::NoManifest { directory: shown, tables });
        }
        let reason = format!("it has no folder {FOLDER:?} with the segments of a log");
        return Err(StorageError::NotAStore { directory: shown, reason });
    }
    let folder = directory.join(FOLDER);
    let mut inspection = Inspection {
        directory: directory.to_owned(),
        verdict: Ok(Verdict::Clean),
        version: None,
        edits: 0,
        commits: 0,
        bytes: 0,
        damaged: Vec::new(),
        orphans: Vec::new(),
        left_alone: Vec::new(),
    };
    let mut replay = Replay::default();
    inspection.verdict = read(disk, &folder, &mut replay, &mut inspection).await;
    inspection.edits = replay.edits;
    let state = match replay.finish() {
        Ok(state) => state,
        Err(invalid) => {
            if inspection.verdict.is_ok() {
                inspection.verdict = Err(invalid_manifest(&folder, None, invalid));
            }
            None
        }
    };
    let Some(state) = state else { return Ok(inspection) };
    inspection.version = Some(Rc::clone(state.version()));
    if inspection.verdict.is_ok()
        && let Err(error) = compare(disk, &state, &mut inspection).await
    {
        inspection.verdict = Err(error);
    }
    Ok(inspection)
}

/// Replays what the log has.
async fn read<D: Disk>(
    disk: &D,
    folder: &Path,
    replay: &mut Replay,
    inspection: &mut Inspection,
) -> Result<Verdict, StorageError> {
    let failed = |error| log_error(&folder.display().to_string(), error);
    let log = OfflineLog::open(disk.clone(), folder.to_owned()).await.map_err(failed)?;
    let mut wrong = None;
    let (commits, bytes) = (&mut inspection.commits, &mut inspection.bytes);
    let examined = log.examine(|recovered: Recovered| {
        *commits += 1;
        *bytes += recovered.bytes.len() as u64;
        replay.take(recovered.lsn.get(), &recovered.bytes).map_err(|invalid| {
            wrong = Some(invalid_manifest(folder, Some(&recovered), invalid));
            "it is no commit of a manifest".to_owned()
        })
    });
    let examined = examined.await;
    match (wrong, examined) {
        (Some(wrong), _) => Err(wrong),
        (None, Ok(examination)) => examination.verdict.map_err(failed),
        (None, Err(error)) => Err(failed(error)),
    }
}

async fn compare<D: Disk>(
    disk: &D,
    state: &State,
    inspection: &mut Inspection,
) -> Result<(), StorageError> {
    let found = look(disk, &inspection.directory, state).await?;
    inspection.damaged = found.damaged;
    inspection.orphans = found.orphans;
    inspection.left_alone = found.left_alone;
    Ok(())
}
