//! The data directory: who owns it, and what it is.
//!
//! ```text
//! data/LOCK                 locked while a process has the directory open
//! data/woodchuck.id         what this directory is: one block, written once
//! data/woodchuck-volume.*   what was measured of its volume, and the file it is measured with
//! data/shard-0000/log/      the log of shard 0
//! ```
//! The identity, little-endian, in a block of 4096 bytes padded with zeros:
//!
//! ```text
//! offset size field
//!      0   16 "woodchuck data\n\0"
//!     16    4 format version, 1
//!     20    4 shards
//!     24   16 cluster id, random
//!     40    4 CRC32C of bytes 0..40
//! ```
//! It is written under another name, made durable and then renamed, before anything else is
//! created: a directory that has shards but no identity has lost it. A directory that holds anything
//! else was somebody else's and is refused, but for the file that a probe of the volume leaves there
//! if it is killed, and those of what was measured of the volume, which may come before the identity:
//! these stay as they are. They hold nothing that is needed to open the directory.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use woodchuck_io::limits::BLOCK_BYTES;
use woodchuck_io::{Buffer, DirectoryEntry, Disk, Durability, Env, File, OpenMode};

use crate::EngineError;
use crate::limits::SHARDS;

const MAGIC: &[u8; 16] = b"woodchuck data\n\0";
const VERSION: u32 = 1;
/// The file with which a volume is probed. It may be in a directory that becomes a data directory.
pub const PROBE_NAME: &str = "woodchuck-probe.scratch";
/// The file that says what was measured of a data directory's volume. The engine does not read it.
pub const VOLUME_NAME: &str = "woodchuck-volume.json";
/// That file while it is written.
pub const VOLUME_NEW_NAME: &str = "woodchuck-volume.json.new";
/// The file with which that is measured. It is removed at once, and by a later start if it is left.
pub const VOLUME_SCRATCH_NAME: &str = "woodchuck-volume.scratch";

pub(crate) const IDENTITY_NAME: &str = "woodchuck.id";
const IDENTITY_NEW_NAME: &str = "woodchuck.id.new";
/// The file that is locked while a process has a data directory open.
pub const LOCK_NAME: &str = "LOCK";
const CHECKSUM_AT: usize = 40;
const IDENTITY_BYTES: usize = 44;

/// What a data directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// How many shards it was created with.
    pub shards: u32,
    /// A random number that no other directory has.
    pub cluster_id: u128,
}

/// An open data directory. It is locked until this value is dropped.
pub struct DataDirectory<E: Env> {
    /// What it is.
    pub identity: Identity,
    _lock: <E::Disk as Disk>::Lock,
}

/// The identity of the directory at `path`, or `None` if there is no data directory yet.
///
/// # Errors
/// If what is there cannot be read, is damaged or of another version, or is not a data directory.
pub async fn probe<E: Env>(env: &E, path: &Path) -> Result<Option<Identity>, EngineError> {
    let disk = env.disk();
    let names = match disk.list(path).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("list", path, &error)),
    };
    if names.iter().any(|entry| entry.name == IDENTITY_NAME) {
        return read_identity(disk, path).await.map(Some);
    }
    let harmless = |entry: &DirectoryEntry| match entry.name.as_str() {
        LOCK_NAME | IDENTITY_NEW_NAME | "lost+found" => true,
        PROBE_NAME | VOLUME_NAME | VOLUME_NEW_NAME | VOLUME_SCRATCH_NAME => !entry.is_directory,
        _ => false,
    };
    if let Some(shard) = names.iter().find(|entry| entry.name.starts_with("shard-")) {
        return Err(EngineError::Open(format!(
            "{} holds {} but not {IDENTITY_NAME}: the directory is incomplete; restore that file \
             from a copy, or choose another directory with --data",
            path.display(),
            shard.name
        )));
    }
    if let Some(other) = names.iter().find(|&entry| !harmless(entry)) {
        return Err(EngineError::Open(format!(
            "{} is not a Woodchuck data directory (it holds {}); choose an empty or a new one with \
             --data",
            path.display(),
            other.name
        )));
    }
    Ok(None)
}

impl<E: Env> DataDirectory<E> {
    /// Locks the directory at `path` and reads what it is, or makes it a data directory of
    /// `shards` shards if it is empty or missing.
    ///
    /// # Errors
    /// If another process has it, or it is not one that this version can open.
    pub async fn open(env: &E, path: &Path, shards: u32) -> Result<Self, EngineError> {
        probe(env, path).await?;
        create_durably(env, path).await?;
        let lock = env.disk().lock(&path.join(LOCK_NAME)).await.map_err(|error| {
            if error.kind() == io::ErrorKind::WouldBlock {
                EngineError::Open(format!(
                    "{} is in use by another process; stop it, or choose another directory with \
                     --data",
                    path.display()
                ))
            } else {
                failed("lock", path, &error)
            }
        })?;
        // Looked at again now that nobody else can change it.
        let identity = match probe(env, path).await? {
            Some(identity) => identity,
            None => {
                if !(1..=SHARDS).contains(&shards) {
                    return Err(EngineError::Open(format!(
                        "{shards} shards are not 1 to {SHARDS}"
                    )));
                }
                let cluster_id = env.random("cluster id").next_u128();
                create_identity(env, path, Identity { shards, cluster_id }).await?
            }
        };
        if identity.shards != shards {
            return Err(EngineError::Open(format!(
                "{} was created with {} shards and cannot be opened with {shards}; leave out \
                 --shards, or give --shards {}",
                path.display(),
                identity.shards,
                identity.shards
            )));
        }
        Ok(Self { identity, _lock: lock })
    }
}

/// Where a shard keeps its log.
pub(crate) fn log_path(path: &Path, shard: usize) -> PathBuf {
    path.join(format!("shard-{shard:04}")).join("log")
}

/// Creates a directory and its missing parents, and makes its name durable. No error if it is there.
///
/// # Errors
/// If it cannot be made. That the directory it is in may not be read is none.
pub async fn create_durably<E: Env>(env: &E, path: &Path) -> Result<(), EngineError> {
    let disk = env.disk();
    disk.create_directory(path).await.map_err(|error| failed("create", path, &error))?;
    // A parent that may not be opened is one we did not create anything in.
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    match disk.sync_directory(parent).await {
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
            Err(failed("sync", parent, &error))
        }
        _ => Ok(()),
    }
}

async fn read_identity<D: Disk>(disk: &D, path: &Path) -> Result<Identity, EngineError> {
    let path = path.join(IDENTITY_NAME);
    let block = read_identity_block(disk, &path).await;
    let block = block.map_err(|error| failed("read", &path, &error))?;
    decode_identity(&block).map_err(|problem| {
        EngineError::Open(format!(
            "{} {problem}; restore it from a copy, or choose another directory with --data",
            path.display()
        ))
    })
}

/// The block that says what a directory is, from the file of that name.
pub(crate) async fn read_identity_block<D: Disk>(disk: &D, file: &Path) -> io::Result<Buffer> {
    let file = disk.open(file, OpenMode::Read).await?;
    let (result, block) = file.read_at(Buffer::with_capacity(BLOCK_BYTES), 0).await;
    result.map(|_| block)
}

/// Makes a directory the one of this identity, durably.
pub(crate) async fn create_identity<E: Env>(
    env: &E,
    path: &Path,
    identity: Identity,
) -> Result<Identity, EngineError> {
    let (disk, new) = (env.disk(), path.join(IDENTITY_NEW_NAME));
    match disk.remove(&new).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &new, &error));
        }
        _ => {}
    }
    let file = disk
        .open(&new, OpenMode::CreateNew)
        .await
        .map_err(|error| failed("create", &new, &error))?;
    let (result, _) = file.write_at(encode_identity(identity), 0, Durability::Volatile).await;
    result.map_err(|error| failed("write", &new, &error))?;
    file.sync_data().await.map_err(|error| failed("sync", &new, &error))?;
    let named = path.join(IDENTITY_NAME);
    disk.rename(&new, &named).await.map_err(|error| failed("rename", &new, &error))?;
    disk.sync_directory(path).await.map_err(|error| failed("sync", path, &error))?;
    Ok(identity)
}

fn encode_identity(identity: Identity) -> Buffer {
    let mut block = Buffer::zeroed(BLOCK_BYTES);
    block[..16].copy_from_slice(MAGIC);
    block[16..20].copy_from_slice(&VERSION.to_le_bytes());
    block[20..24].copy_from_slice(&identity.shards.to_le_bytes());
    block[24..40].copy_from_slice(&identity.cluster_id.to_le_bytes());
    let sum = checksum(&block[..CHECKSUM_AT]);
    block[CHECKSUM_AT..IDENTITY_BYTES].copy_from_slice(&sum.to_le_bytes());
    block
}

/// Why a block does not say what a directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IdentityProblem {
    /// Another version wrote it.
    Version(u32),
    /// It is not what was written. What shows it.
    Damaged(String),
}

impl fmt::Display for IdentityProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(found) => write!(
                formatter,
                "has format version {found}, and this version of Woodchuck reads {VERSION}"
            ),
            Self::Damaged(what) => formatter.write_str(what),
        }
    }
}

pub(crate) fn decode_identity(block: &[u8]) -> Result<Identity, IdentityProblem> {
    let damaged = |what: String| Err(IdentityProblem::Damaged(what));
    let Some(fields) = block.first_chunk::<IDENTITY_BYTES>() else {
        return damaged(format!("is cut off: {} bytes", block.len()));
    };
    let number = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| fields[at + byte]));
    if fields[..16] != *MAGIC {
        return damaged("is not a Woodchuck identity file".to_owned());
    }
    if number(CHECKSUM_AT) != checksum(&fields[..CHECKSUM_AT]) {
        return damaged("is damaged: its checksum does not match".to_owned());
    }
    if number(16) != VERSION {
        return Err(IdentityProblem::Version(number(16)));
    }
    let shards = number(20);
    if !(1..=SHARDS).contains(&shards) {
        return damaged(format!("names {shards} shards"));
    }
    let mut cluster_id = [0; 16];
    cluster_id.copy_from_slice(&fields[24..40]);
    Ok(Identity { shards, cluster_id: u128::from_le_bytes(cluster_id) })
}

fn checksum(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> EngineError {
    EngineError::Open(format!(
        "cannot {doing} {}: {error}; make it usable, or choose another directory with --data",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_comes_back_and_damage_is_told_apart() {
        let identity = Identity { shards: 3, cluster_id: 0x1234_5678_9ABC };
        let block = encode_identity(identity);
        assert_eq!(decode_identity(&block), Ok(identity));
        for at in 0..IDENTITY_BYTES {
            let mut damaged = block.to_vec();
            damaged[at] ^= 0x40;
            assert!(decode_identity(&damaged).is_err(), "byte {at}");
        }
        assert!(decode_identity(&block[..43]).is_err());
        let mut newer = block.to_vec();
        newer[16] = 2;
        let sum = checksum(&newer[..CHECKSUM_AT]);
        newer[CHECKSUM_AT..IDENTITY_BYTES].copy_from_slice(&sum.to_le_bytes());
        let error = decode_identity(&newer).expect_err("another version");
        assert_eq!(error, IdentityProblem::Version(2));
        assert!(error.to_string().contains("format version 2"), "{error}");
    }
}
