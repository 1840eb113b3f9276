//! What the commands about stores share: how keys are written, and what errors mean.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use woodchuck_io::mapped::MappedDisk;
use woodchuck_storage::{Damage, StorageError, offline};

use crate::exit::{Exit, Trouble};
use crate::limits::KEY_SHOWN_BYTES;

/// A key as people can read it: its beginning, if it is long.
pub(super) fn key(key: &[u8]) -> String {
    match key.split_at_checked(KEY_SHOWN_BYTES) {
        Some((shown, rest)) if !rest.is_empty() => {
            format!("\"{}\"... of {} bytes", shown.escape_ascii(), key.len())
        }
        _ => format!("\"{}\"", key.escape_ascii()),
    }
}

/// A key in JSON: its beginning, escaped. How long it is stands beside it.
pub(super) fn key_json(key: &[u8]) -> Value {
    let shown = &key[..key.len().min(KEY_SHOWN_BYTES)];
    json!({ "escaped": shown.escape_ascii().to_string(), "bytes": key.len() })
}

/// A number of 64 bits in JSON.
pub(super) fn digits(number: u64) -> Value {
    Value::String(number.to_string())
}

/// The number of a table, as in the name of its file.
pub(super) fn table_number(number: u64) -> String {
    format!("{number:016x}")
}

/// A damaged place, for people: the keys are bounded, which those of the error are not.
pub(super) fn damage(damage: &Damage) -> String {
    let Damage { file, offset, what, keys } = damage;
    let keys = keys.as_ref().map_or(String::new(), |(above, to)| {
        format!("; keys above {} up to {} cannot be read", key(above), key(to))
    });
    format!("{file} is damaged at offset {offset}: {what}{keys}")
}

pub(super) fn damage_json(damage: &Damage) -> Value {
    let Damage { file, offset, what, keys } = damage;
    json!({
        "file": file,
        "offset": offset,
        "what": what,
        "keys_above": keys.as_ref().map(|(above, _)| key_json(above)),
        "keys_to": keys.as_ref().map(|(_, to)| key_json(to)),
    })
}

/// What an error says, for people.
pub(super) fn message(error: &StorageError) -> String {
    match error {
        StorageError::Corrupt(found) => damage(found),
        _ => error.to_string(),
    }
}

/// What an error means for who called the command.
pub(super) fn exit(error: &StorageError) -> Exit {
    match error {
        StorageError::WrongVersion { .. }
        | StorageError::Manifest { source: woodchuck_wal::LogError::WrongVersion { .. }, .. } => {
            Exit::WrongVersion
        }
        StorageError::NoManifest { .. } => Exit::Damaged,
        _ if error.is_corrupt() => Exit::Damaged,
        _ => Exit::Failed,
    }
}

pub(super) fn trouble(error: &StorageError) -> Trouble {
    Trouble { exit: exit(error), message: message(error) }
}

/// The directory of the store that a path is of: itself, or that of the manifest or of one of its
/// segments.
pub(super) async fn store_of(path: PathBuf) -> Result<PathBuf, StorageError> {
    let name = path.file_name().and_then(|name| name.to_str());
    let above = match name {
        Some(name) if woodchuck_wal::is_segment(name) => path.parent().and_then(Path::parent),
        Some("manifest") if !offline::is_store(&MappedDisk, &path).await? => path.parent(),
        _ => None,
    };
    Ok(above.map_or(path.clone(), Path::to_owned))
}
