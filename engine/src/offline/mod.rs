//! A data directory that no process has open.
//!
//! **What lives here.** [`OfflineDirectory`], which finds the logs of a directory and keeps every
//! process that would open it away; [`verify`](verify::verify), which says what opening would find;
//! and [`repair`], which writes what can be saved of a damaged directory into a new one.
//!
//! **How data flows.** From the logs of a disk that is only read, up to a report; a repair writes
//! through another disk, to another directory.
//!
//! **What must never be here.** Anything that writes to the directory that is looked at.

pub mod repair;
pub mod verify;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use woodchuck_io::Disk;
use woodchuck_wal::LogError;

use crate::Identity;
use crate::directory::{
    IDENTITY_NAME, IdentityProblem, LOCK_NAME, decode_identity, log_path, read_identity_block,
};

/// Why nothing can be said of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfflineError {
    /// Another process has it.
    Locked(String),
    /// Another version of Woodchuck wrote it.
    WrongVersion(String),
    /// What says what the directory is, is damaged or missing.
    Damaged(String),
    /// It cannot be read, or is no directory of Woodchuck's; or a new one cannot be written.
    Failed(String),
}

impl fmt::Display for OfflineError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Locked(message)
        | Self::WrongVersion(message)
        | Self::Damaged(message)
        | Self::Failed(message)) = self;
        formatter.write_str(message)
    }
}

impl std::error::Error for OfflineError {}

impl From<LogError> for OfflineError {
    fn from(error: LogError) -> Self {
        let message = error.to_string();
        match error {
            LogError::WrongVersion { .. } => Self::WrongVersion(message),
            LogError::Corrupt { .. } => Self::Damaged(message),
            _ => Self::Failed(message),
        }
    }
}

/// A directory that is looked at: a data directory, or that of one log. Processes that would open
/// the data directory are kept away until this is dropped.
pub struct OfflineDirectory<D: Disk> {
    disk: D,
    path: PathBuf,
    /// What the data directory is; `None` if this is the directory of one log.
    pub identity: Option<Identity>,
    /// The directories of its logs.
    pub logs: Vec<LogDirectory>,
    _lock: Option<D::Lock>,
}

/// Where a log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDirectory {
    /// Its shard; `None` if the directory of one log is looked at.
    pub shard: Option<u32>,
    /// Its directory.
    pub path: PathBuf,
    /// Whether there is such a directory.
    pub exists: bool,
}

impl<D: Disk> OfflineDirectory<D> {
    /// Finds out what the directory at `path` is. Paths are absolute, so that the data directory of
    /// a log can be found.
    ///
    /// # Errors
    /// If a process has it open, or it is no data directory and no log.
    pub async fn open(disk: D, path: PathBuf) -> Result<Self, OfflineError> {
        let names = disk.list(&path).await.map_err(|error| unlisted(&path, &error))?;
        let has = |wanted: &str| names.iter().any(|entry| entry.name == wanted);
        if has(IDENTITY_NAME) {
            let lock = lock(&disk, &path).await?;
            let identity = read_identity(&disk, &path).await?;
            let mut logs = Vec::new();
            for shard in 0..identity.shards {
                let path = log_path(&path, shard as usize);
                let exists = match disk.list(&path).await {
                    Ok(_) => true,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                    Err(error) => return Err(unlisted(&path, &error)),
                };
                logs.push(LogDirectory { shard: Some(shard), path, exists });
            }
            return Ok(Self { disk, path, identity: Some(identity), logs, _lock: lock });
        }
        if names.iter().any(|entry| entry.name.starts_with("shard-")) {
            return Err(OfflineError::Damaged(format!(
                "{} has shards but no {IDENTITY_NAME}: restore that file from a copy; or it is \
                 what an interrupted repair has left, which can be removed",
                path.display()
            )));
        }
        if !names.iter().any(|entry| is_of_a_log(&entry.name)) {
            return Err(OfflineError::Failed(format!(
                "{} is no data directory and no log; name the directory that was given to serve \
                 with --data, or a log in it, such as shard-0000/log",
                path.display()
            )));
        }
        let data = path.parent().and_then(Path::parent);
        let lock = match data {
            Some(data) => lock(&disk, data).await?,
            None => None,
        };
        let logs = vec![LogDirectory { shard: None, path: path.clone(), exists: true }];
        Ok(Self { disk, path, identity: None, logs, _lock: lock })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The disk that it is on.
    pub fn disk(&self) -> &D {
        &self.disk
    }
}

fn is_of_a_log(name: &str) -> bool {
    [".wal", ".body"].iter().any(|end| name.ends_with(end))
        || name.starts_with("spare-")
        || name.starts_with("filling-")
}

/// Keeps other processes away from a data directory, for as long as the lock lives. A directory
/// without a lock file was never opened where it is now.
///
/// # Errors
/// `Locked` if a process has it open; `Failed`.
pub async fn lock<D: Disk>(disk: &D, data: &Path) -> Result<Option<D::Lock>, OfflineError> {
    match disk.lock(&data.join(LOCK_NAME)).await {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(OfflineError::Locked(format!(
                "{} is in use by another process: stop the broker first, or look at a copy",
                data.display()
            )))
        }
        Err(error) => Err(OfflineError::Failed(format!(
            "cannot lock {}: {error}; run this as the user that the broker runs as",
            data.display()
        ))),
    }
}

async fn read_identity<D: Disk>(disk: &D, path: &Path) -> Result<Identity, OfflineError> {
    let file = path.join(IDENTITY_NAME);
    let block = read_identity_block(disk, &file).await.map_err(|error| {
        OfflineError::Failed(format!("cannot read {}: {error}", file.display()))
    })?;
    decode_identity(&block).map_err(|problem| {
        let shown = file.display();
        match problem {
            IdentityProblem::Version(_) => OfflineError::WrongVersion(format!("{shown} {problem}")),
            IdentityProblem::Damaged(_) => OfflineError::Damaged(format!(
                "{shown} {problem}; restore it from a copy. The logs beside it can be looked at \
                 one by one, such as {}",
                log_path(path, 0).display()
            )),
        }
    })
}

fn unlisted(path: &Path, error: &io::Error) -> OfflineError {
    let shown = path.display();
    OfflineError::Failed(match error.kind() {
        io::ErrorKind::NotFound => format!("there is no {shown}; name a data directory or a log"),
        io::ErrorKind::NotADirectory => {
            format!("{shown} is not a directory; name the one that it is in")
        }
        io::ErrorKind::PermissionDenied => {
            format!("{error}; run this as the user that the broker runs as")
        }
        _ => error.to_string(),
    })
}
