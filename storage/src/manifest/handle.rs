//! The handle of an open manifest, and opening.
//!
//! The fault model: a crash may come at any moment; any durable write may fail, after which nothing
//! more is written; a caller may drop a call half done.
//!
//! # The algorithm
//!
//! **Opening.** 1. List the store and its manifest; tables without a segment of a manifest are
//! refused. 2. Open the log, which replays. 3. Without a store in it, but with tables: refuse;
//! without tables: write the first snapshot, which has no keyspace. 4. Trim to the begin of the last
//! snapshot. 5. Compare the files with the state, which is durable now (`directory`).
//!
//! **An edit.** 1. Wait for the commits before it. 2. Check it (`state`). 3. Submit it. 4. Wait
//! until the log hands it out: it is durable. 5. Only now it is the state. So there is never more
//! than one edit under way, and each is checked against all that are durable.
//!
//! **A snapshot**, behind an edit, before the next one is looked at: begin, parts, end, each
//! durable before the next is submitted. When the end is, the log is trimmed to the begin. An edit
//! that follows a snapshot which was not ended gives it up.
//!
//! **Numbers** are given out when it is durable that they are reserved.

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use futures_util::lock::Mutex;
use woodchuck_io::Env;
use woodchuck_wal::{Log, LogError, Lsn, Recovered, Recovery};

use super::FOLDER;
use super::change::{Change, Edit};
use super::directory::{DamagedTable, LeftAlone, Orphan, list, table_number, tidy};
use super::options::ManifestOptions;
use super::record::{Begin, Body, End, HEADER_BYTES, Invalid, Part, Record, VERSION, chain};
use super::replay::Replay;
use super::state::{Prepared, State};
use super::version::Version;
use crate::error::{Damage, StorageError};
use crate::limits::NUMBERS_TAKEN;

/// What opening a manifest found.
#[derive(Clone, Debug)]
pub struct ManifestOpened {
    /// Whether there was no store, and one was made.
    pub is_new: bool,
    /// What the log found.
    pub log: Recovery,
    /// Edits that were replayed.
    pub edits: u64,
    /// Orphans, which were removed.
    pub orphans: Vec<Orphan>,
    /// Files that were left alone.
    pub left_alone: Vec<LeftAlone>,
    /// Live tables that are missing or have another length. The rest of the store can be read.
    pub damaged: Vec<DamagedTable>,
}

/// The manifest of a store: which keyspaces and tables there are.
///
/// Calls may be dropped half done: what an edit said is then there or not, and what comes later
/// knows which.
///
/// ```
/// use std::path::Path;
/// use woodchuck_io::Env;
/// use woodchuck_storage::{
///     Edit, KeyspaceOptions, Manifest, ManifestOptions, StorageError, TableId, TableMetadata,
///     TableOptions, TableWriter,
/// };
///
/// async fn flush<E: Env>(env: &E, store: &Path) -> Result<(), StorageError> {
///     let (manifest, opened) = Manifest::open(env, store, ManifestOptions::default()).await?;
///     opened.damaged.iter().for_each(|table| eprintln!("{}", table.damage));
///     let keyspace = manifest.take_numbers(1).await?.start;
///     let create = Edit::new().create_keyspace(keyspace, "marmots", KeyspaceOptions::default());
///     let version = manifest.commit(create).await?;
///
///     let number = manifest.take_numbers(1).await?.start;
///     let id = TableId { store: version.store(), keyspace, number };
///     let mut writer =
///         TableWriter::create(env.disk(), store, id, TableOptions::default()).await?;
///     writer.add_range_tombstone(b"a", b"b", 7)?;
///     let finished = writer.finish().await?;
///     let table = TableMetadata::of(&finished, 0, number, Some((b"a", b"b")));
///     // A crash before this leaves a file that the next opening removes.
///     manifest.commit(Edit::new().add_table(table).flushed(keyspace, 7)).await?;
///     assert_eq!(version.keyspace(keyspace).map_or(0, |of| of.tables().count()), 0);
///     manifest.close().await
/// }
/// ```
pub struct Manifest<E: Env> {
    log: Log<E, Written>,
    /// The log's directory, for who reads an error.
    directory: String,
    options: ManifestOptions,
    /// What is durable. Only `settle` changes it.
    current: RefCell<Rc<Version>>,
    writer: Mutex<Writer>,
}

/// What a commit of the log was, and what is to be done when it is durable.
enum Written {
    Edit { prepared: Box<Prepared>, bytes: u64 },
    Begin,
    Part,
    End { snapshot_bytes: u64 },
}

/// What only one call at a time may use.
struct Writer {
    state: State,
    /// The next number to give out; below the reserved ones, or equal to them.
    next_number: u64,
    /// Commits that were submitted and not handed out. Not zero when a call begins, if one before
    /// was dropped half done.
    in_flight: u64,
    /// Frame of the begin of the snapshot that was begun last.
    begin: u64,
    /// Bytes of the last snapshot, and of the edits behind it.
    snapshot_bytes: u64,
    edit_bytes: u64,
}

impl<E: Env> Manifest<E> {
    /// Opens the manifest of the store in `directory`, making both if there are none, and removes
    /// tables that nothing speaks of.
    ///
    /// Only one process may have a store open; the caller holds a lock for that. Damaged tables do
    /// not fail it: they are told, stay in the version, and fail the reads that need them.
    ///
    /// # Errors
    /// [`StorageError::Manifest`] and [`StorageError::ManifestCorrupt`] if the manifest is damaged
    /// or cannot be read, [`StorageError::NoManifest`] if there are tables without one,
    /// [`StorageError::WrongVersion`], [`StorageError::Options`], [`StorageError::Io`]. In none of
    /// these cases was a table removed.
    pub async fn open(
        env: &E,
        directory: &Path,
        options: ManifestOptions,
    ) -> Result<(Self, ManifestOpened), StorageError> {
        options.check()?;
        let folder = directory.join(FOLDER);
        let tables = list(env.disk(), directory).await?;
        let tables = tables.iter().filter(|entry| table_number(entry).is_some()).count();
        let no_manifest =
            || StorageError::NoManifest { directory: directory.display().to_string(), tables };
        let segments = list(env.disk(), &folder).await?;
        if tables > 0 && !segments.iter().any(|entry| woodchuck_wal::is_segment(&entry.name)) {
            return Err(no_manifest());
        }
        let (log, recovery, mut replay) = open_log(env, &folder, &options).await?;
        let opened = async {
            let state = replay.finish().map_err(|invalid| invalid_manifest(&folder, None, invalid));
            let state = state?;
            let is_new = state.is_none();
            if is_new && tables > 0 {
                return Err(no_manifest());
            }
            let state = state.unwrap_or_else(|| {
                let store = env.random("store identity").next_u128();
                State::new(Version::empty(store, 0, 1))
            });
            let manifest = Self::new(log.clone(), &folder, options, state, &replay);
            if is_new {
                let mut writer = manifest.writer.lock().await;
                manifest.write_snapshot(&mut writer).await?;
            } else {
                log.trim(Lsn::new(replay.begin));
            }
            let found = tidy(env.disk(), directory, &manifest.writer.lock().await.state).await?;
            let opened = ManifestOpened {
                is_new,
                log: recovery,
                edits: replay.edits,
                orphans: found.orphans,
                left_alone: found.left_alone,
                damaged: found.damaged,
            };
            Ok((manifest, opened))
        };
        match opened.await {
            Ok(opened) => Ok(opened),
            Err(error) => {
                // So that nothing of it is in flight if the caller tries again. What matters is the
                // first error.
                let _closed = log.close().await;
                Err(error)
            }
        }
    }

    fn new(
        log: Log<E, Written>,
        folder: &Path,
        options: ManifestOptions,
        state: State,
        replay: &Replay,
    ) -> Self {
        let writer = Writer {
            next_number: state.version().numbers_below,
            state,
            in_flight: 0,
            begin: replay.begin,
            snapshot_bytes: replay.snapshot_bytes,
            edit_bytes: replay.edit_bytes,
        };
        let current = RefCell::new(Rc::clone(writer.state.version()));
        let directory = folder.display().to_string();
        Self { log, directory, options, current, writer: Mutex::new(writer) }
    }

    /// Makes a manifest that begins with this state, where there is none.
    pub(super) async fn create(
        env: &E,
        folder: &Path,
        options: ManifestOptions,
        state: State,
    ) -> Result<Self, StorageError> {
        options.check()?;
        let (log, _, _) = open_log(env, folder, &options).await?;
        let manifest = Self::new(log, folder, options, state, &Replay::default());
        let written = {
            let mut writer = manifest.writer.lock().await;
            manifest.write_snapshot(&mut writer).await
        };
        match written {
            Ok(()) => Ok(manifest),
            Err(error) => {
                // What matters is the first error.
                let _closed = manifest.close().await;
                Err(error)
            }
        }
    }

    /// What is durable now.
    #[must_use]
    pub fn version(&self) -> Rc<Version> {
        Rc::clone(&self.current.borrow())
    }

    /// Makes an edit. When it returns the version with it, that is durable. Edits are made one
    /// after the other.
    ///
    /// # Errors
    /// [`StorageError::EditRefused`] if it contradicts what is there; nothing was written.
    /// [`StorageError::Manifest`]: if the source is
    /// [retryable](LogError::is_retryable), nothing was written, and the same edit
    /// may be made later; if the log is poisoned, nothing more can be, and the next opening tells
    /// whether this edit is there.
    pub async fn commit(&self, edit: Edit) -> Result<Rc<Version>, StorageError> {
        let mut writer = self.writer.lock().await;
        self.settle(&mut writer).await?;
        self.write_edit(&mut writer, edit).await?;
        Ok(Rc::clone(writer.state.version()))
    }

    /// What is durable, once nothing is under way: also edits whose call was dropped half done.
    ///
    /// # Errors
    /// [`StorageError::Manifest`] if what was under way failed.
    pub async fn settled(&self) -> Result<Rc<Version>, StorageError> {
        let mut writer = self.writer.lock().await;
        self.settle(&mut writer).await?;
        Ok(Rc::clone(writer.state.version()))
    }

    /// Gives numbers for tables and keyspaces, which nobody was given before or ever will be.
    ///
    /// # Errors
    /// As [`commit`](Self::commit); `EditRefused` for more than [`NUMBERS_TAKEN`].
    pub async fn take_numbers(&self, count: u64) -> Result<Range<u64>, StorageError> {
        if count > NUMBERS_TAKEN {
            let reason = format!("{count} numbers are asked for, {NUMBERS_TAKEN} may be");
            return Err(StorageError::EditRefused { reason });
        }
        let mut writer = self.writer.lock().await;
        self.settle(&mut writer).await?;
        let end = writer.next_number + count;
        if end > writer.state.version().numbers_below {
            let below = end + self.options.numbers_reserved;
            let edit = Edit { changes: vec![Change::ReserveNumbers { below }] };
            self.write_edit(&mut writer, edit).await?;
        }
        assert!(end <= writer.state.version().numbers_below, "it is durable that they are given");
        let start = std::mem::replace(&mut writer.next_number, end);
        Ok(start..end)
    }

    /// Waits until all is durable. Nothing is in flight when it returns.
    ///
    /// # Errors
    /// [`StorageError::Manifest`] if not all became durable.
    pub async fn close(self) -> Result<(), StorageError> {
        self.log.close().await.map_err(|error| log_error(&self.directory, error))
    }

    /// Checks an edit, and makes it durable. A snapshot follows, if it is time for one.
    async fn write_edit(&self, writer: &mut Writer, edit: Edit) -> Result<(), StorageError> {
        assert_eq!(writer.in_flight, 0, "edits are checked against all that is written");
        let refused = |reason| StorageError::EditRefused { reason };
        let prepared = writer.state.prepare(&edit.changes, writer.next_number).map_err(refused)?;
        let makes_room = edit.makes_room();
        let number = writer.state.version().number + 1;
        let record = Record::new(number, Body::Edit(edit.changes)).encode().map_err(refused)?;
        let (bytes, limit) = (record.len(), self.options.commit_bytes());
        if bytes > limit {
            let reason = format!("it has {bytes} bytes, {limit} are the most: make several of it");
            return Err(StorageError::EditRefused { reason });
        }
        let written = Written::Edit { prepared: Box::new(prepared), bytes: bytes as u64 };
        let submitted = if makes_room {
            self.log.submit_from_reserve(&[&record], written)
        } else {
            self.log.submit(&[&record], written)
        };
        self.submitted(writer, submitted)?;
        self.settle(writer).await?;
        assert_eq!(
            writer.state.version().number,
            number,
            "an edit is the state when it is durable"
        );
        if writer.edit_bytes > self.options.edit_bytes_min.max(2 * writer.snapshot_bytes) {
            // The edit is durable, whatever becomes of the snapshot. Without it the log stays as it
            // is, and the next edit tries again, or is told what is wrong with the log.
            let _ended = self.write_snapshot(writer).await;
        }
        Ok(())
    }

    /// Writes the whole state, and trims the log to the begin of that.
    async fn write_snapshot(&self, writer: &mut Writer) -> Result<(), StorageError> {
        let version = Rc::clone(writer.state.version());
        let Version { store, number, numbers_below, .. } = *version;
        let begin = Body::Begin(Begin { store, numbers_below });
        let mut snapshot_bytes = self.write_part(writer, number, begin, Written::Begin).await?.1;
        let (mut parts, mut checksum) = (0, 0);
        let mut changes = version.changes().peekable();
        while changes.peek().is_some() {
            let (mut part, mut part_bytes) = (Vec::new(), HEADER_BYTES);
            while let Some(change) = changes.next_if(|change| {
                part.is_empty() || part_bytes + change.bytes() <= self.options.part_bytes
            }) {
                part_bytes += change.bytes();
                part.push(change);
            }
            let part = Body::Part(Part { index: parts, changes: part });
            let (record, bytes) = self.write_part(writer, number, part, Written::Part).await?;
            checksum = chain(checksum, &record);
            snapshot_bytes += bytes;
            parts += 1;
        }
        let end = Body::End(End { parts, checksum });
        self.write_part(writer, number, end, Written::End { snapshot_bytes }).await?;
        Ok(())
    }

    /// Writes one commit of a snapshot, and waits until it is durable. Gives its bytes.
    async fn write_part(
        &self,
        writer: &mut Writer,
        number: u64,
        body: Body,
        written: Written,
    ) -> Result<(Vec<u8>, u64), StorageError> {
        let refused = |reason| StorageError::EditRefused { reason };
        let record = Record::new(number, body).encode().map_err(refused)?;
        self.submitted(writer, self.log.submit(&[&record], written))?;
        self.settle(writer).await?;
        let bytes = record.len() as u64;
        Ok((record, bytes))
    }

    fn submitted(
        &self,
        writer: &mut Writer,
        submitted: Result<(), (LogError, Written)>,
    ) -> Result<(), StorageError> {
        submitted.map_err(|(error, _)| log_error(&self.directory, error))?;
        writer.in_flight += 1;
        Ok(())
    }

    /// Waits until all that was submitted is durable, and takes it over.
    async fn settle(&self, writer: &mut Writer) -> Result<(), StorageError> {
        while writer.in_flight > 0 {
            let committed = self.log.committed().await;
            // From here on nothing waits, so no call can be dropped between these.
            for one in committed.map_err(|error| log_error(&self.directory, error))? {
                writer.in_flight -= 1;
                match one.context {
                    Written::Edit { prepared, bytes } => {
                        writer.edit_bytes += bytes;
                        writer.state.apply(*prepared);
                        self.current.replace(Rc::clone(writer.state.version()));
                    }
                    Written::Begin => writer.begin = one.lsn.get(),
                    Written::Part => {}
                    Written::End { snapshot_bytes } => {
                        writer.snapshot_bytes = snapshot_bytes;
                        writer.edit_bytes = 0;
                        self.log.trim(Lsn::new(writer.begin));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Opens the log, and replays it. What is wrong with a commit is told with its place.
async fn open_log<E: Env>(
    env: &E,
    folder: &Path,
    options: &ManifestOptions,
) -> Result<(Log<E, Written>, Recovery, Replay), StorageError> {
    let mut replay = Replay::default();
    let mut wrong = None;
    let take = |recovered: Recovered| {
        let taken = replay.take(recovered.lsn.get(), &recovered.bytes);
        taken.map_err(|invalid| {
            wrong = Some(invalid_manifest(folder, Some(&recovered), invalid));
            "it is no commit of a manifest".to_owned()
        })
    };
    match Log::open(env.clone(), PathBuf::from(folder), options.log(), take).await {
        Ok((log, recovery)) => Ok((log, recovery, replay)),
        Err(error) => Err(wrong.unwrap_or_else(|| log_error(&folder.display().to_string(), error))),
    }
}

pub(super) fn log_error(directory: &str, source: LogError) -> StorageError {
    StorageError::Manifest { directory: directory.to_owned(), source }
}

pub(super) fn invalid_manifest(
    folder: &Path,
    recovered: Option<&Recovered>,
    invalid: Invalid,
) -> StorageError {
    let (file, offset) = match recovered {
        Some(Recovered { location, .. }) => {
            (folder.join(format!("{:016x}.wal", location.segment)), location.offset)
        }
        None => (folder.to_owned(), 0),
    };
    let file = file.display().to_string();
    match invalid {
        Invalid::Damaged(what) => {
            StorageError::ManifestCorrupt(Box::new(Damage { file, offset, what, keys: None }))
        }
        Invalid::WrongVersion(found) => StorageError::WrongVersion {
            file,
            found: u32::from(found),
            supported: u32::from(VERSION),
        },
    }
}
