//! What can go wrong, by what the caller can do about it.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use woodchuck_wal::LogError;

/// Damage to one place of a table. What is elsewhere in the table stays readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The table's file.
    pub file: String,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
    /// Between which user keys lie those that may be lost: behind the first, or versions of it, up
    /// to the second, which is a bound and need not be a key. `None` where that cannot be told.
    pub keys: Option<(Bytes, Bytes)>,
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} is damaged at offset {}: {}", self.file, self.offset, self.what)?;
        if let Some((above, to)) = &self.keys {
            write!(
                formatter,
                "; keys above \"{}\" up to \"{}\" cannot be read",
                above.escape_ascii(),
                to.escape_ascii()
            )?;
        }
        Ok(())
    }
}

/// Why the store did not do what it was asked.
#[derive(Clone, Debug)]
pub enum StorageError {
    /// Bytes on the disk are not those that were written. Says nothing about whether a key is
    /// there.
    Corrupt(Box<Damage>),
    /// The file was written by another version of the format.
    WrongVersion {
        /// The file.
        file: String,
        /// The version it was written with.
        found: u32,
        /// The version that this build reads and writes.
        supported: u32,
    },
    /// What was to be written breaks a rule of the format. Nothing of it was taken.
    Refused {
        /// Which rule, and how.
        reason: String,
    },
    /// The table has as much as a table may have. Nothing was taken; what it has can be finished.
    Full {
        /// What there is too much of.
        what: &'static str,
        /// How much of it there may be.
        limit: u64,
    },
    /// A write of this table failed before: the table is given up.
    Abandoned,
    /// What is stored for a key is whole, and makes no value: the keyspace's merge operator does
    /// not take it, or there is none. Other keys can be read; overwrite this one, or delete it.
    Value {
        /// The key.
        key: Bytes,
        /// What is wrong.
        reason: String,
    },
    /// An edit of the manifest contradicts what is there. Nothing of it was written.
    EditRefused {
        /// How.
        reason: String,
    },
    /// The manifest holds what no manifest can. Opening is refused, and no table was removed.
    ManifestCorrupt(Box<Damage>),
    /// There are tables, and nothing that says which of them are live. Opening is refused, and
    /// nothing was changed.
    NoManifest {
        /// The store's directory.
        directory: String,
        /// How many tables there are.
        tables: usize,
    },
    /// A directory is not that of a store, or has what no store has. Nothing was changed.
    NotAStore {
        /// The directory.
        directory: String,
        /// Why.
        reason: String,
    },
    /// The manifest's log did not do what it was asked. What that means for the edit, and what to
    /// do, is the log's to say; if it is poisoned, the edit may or may not be found by the next
    /// opening.
    Manifest {
        /// The manifest's directory.
        directory: String,
        /// What the log said.
        source: LogError,
    },
    /// Writers are further ahead of flushes and compactions than they may be. Nothing was taken;
    /// trying again later helps.
    Busy {
        /// What there is too much of.
        what: &'static str,
    },
    /// The store is behind, and flushes or compactions fail. Nothing was taken. They are tried
    /// again by themselves.
    Failing {
        /// Why they fail.
        source: Box<StorageError>,
    },
    /// There is no keyspace with this number, or not any more.
    NoKeyspace {
        /// The number.
        id: u64,
    },
    /// The options contradict themselves.
    Options {
        /// How.
        reason: String,
    },
    /// The operating system refused something. Where it was a read, trying again may help; where
    /// it was a write or a flush, the table that was being written is given up.
    Io {
        /// What the store was doing.
        doing: String,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
}

impl StorageError {
    /// Whether data on the disk is damaged.
    #[must_use]
    pub const fn is_corrupt(&self) -> bool {
        match self {
            Self::Corrupt(_) | Self::ManifestCorrupt(_) => true,
            Self::Manifest { source, .. } => source.is_corrupt(),
            _ => false,
        }
    }

    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Io { doing: doing.into(), source: Arc::new(source) }
    }

    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into() }
    }

    /// Adds which keys a damaged place holds, if it is one and does not say.
    pub(crate) fn with_keys(mut self, keys: impl FnOnce() -> (Bytes, Bytes)) -> Self {
        if let Self::Corrupt(damage) = &mut self {
            damage.keys.get_or_insert_with(keys);
        }
        self
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt(damage) => write!(
                formatter,
                "{damage}; the rest of the file can be read: restore it from a copy"
            ),
            Self::WrongVersion { file, found, supported } => write!(
                formatter,
                "{file} has format version {found}, this build reads version {supported}: open it \
                 with the version of Woodchuck that wrote it"
            ),
            Self::Refused { reason } => write!(formatter, "a table does not take this: {reason}"),
            Self::Full { what, limit } => write!(
                formatter,
                "the table has all the {what} that it may have, {limit}: finish it, and begin \
                 another"
            ),
            Self::Abandoned => {
                write!(formatter, "a write of this table failed before: write the table again")
            }
            Self::Value { key, reason } => write!(
                formatter,
                "the value of key \"{}\" cannot be told: {reason}; overwrite or delete it",
                key.escape_ascii()
            ),
            Self::EditRefused { reason } => write!(
                formatter,
                "the manifest does not take this edit, and nothing of it was written: {reason}"
            ),
            Self::ManifestCorrupt(damage) => write!(
                formatter,
                "{damage}; the store is not opened, and no table was removed: restore it from a \
                 copy, manifest and tables of the same moment"
            ),
            Self::NoManifest { directory, tables } => write!(
                formatter,
                "{directory} has {tables} tables, and no manifest that says which of them are \
                 live; nothing was changed: put the folder `manifest` there that belongs to the \
                 tables, restore both from a copy of the same moment, or, to begin an empty store, \
                 move the tables elsewhere"
            ),
            Self::NotAStore { directory, reason } => {
                write!(formatter, "{directory} is not the directory of a store: {reason}")
            }
            Self::Manifest { directory, source } => {
                write!(formatter, "the manifest in {directory}: {source}")
            }
            Self::Busy { what } => write!(
                formatter,
                "the store is behind with flushes and compactions (the {what} is full): try again \
                 later"
            ),
            Self::Failing { source } => write!(
                formatter,
                "the store is behind and takes nothing more, because flushes or compactions fail; \
                 they are tried again by themselves: {source}"
            ),
            Self::NoKeyspace { id } => {
                write!(formatter, "there is no keyspace {id}: it was dropped, or never created")
            }
            Self::Options { reason } => {
                write!(formatter, "the store's options cannot work: {reason}")
            }
            Self::Io { doing, source } => write!(formatter, "{doing}: {source}"),
        }
    }
}

impl Error for StorageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(&**source),
            Self::Manifest { source, .. } => Some(source),
            Self::Failing { source } => Some(&**source),
            _ => None,
        }
    }
}
