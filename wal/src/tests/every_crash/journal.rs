//! An environment of the simulated world that writes down all that is asked of its disk, and when
//! the answers came.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{Future, ready};
use std::io;
use std::path::Path;
use std::rc::Rc;

use woodchuck_io::{
    Buffer, DirectoryEntry, Disk, Durability, Env, File, Group, Monotonic, OpenMode, RandomStream,
    Task, WallTime,
};
use woodchuck_sim::SimEnv;

use crate::Lsn;

/// A file, whatever its name.
pub(super) type FileNumber = usize;

/// What was asked of the disk, as far as it changes anything.
pub(super) enum Operation {
    Create { path: String, file: FileNumber },
    Rename { from: String, to: String },
    Remove { path: String },
    SyncDirectory,
    Write { file: FileNumber, offset: u64, bytes: Vec<u8>, durability: Durability },
    Sync { file: FileNumber },
    Allocate { file: FileNumber, length: u64 },
}

/// What the process knows.
pub(super) enum Note {
    /// The log is open, with these commits.
    Opened(Vec<(u8, Lsn)>),
    Submitted(u8),
    Acknowledged(u8, Lsn),
    Trimmed(Lsn),
}

/// One moment.
pub(super) enum Event {
    Begun(usize),
    Ended(usize),
    Noted(Note),
}

/// All that happened, in order.
#[derive(Default)]
pub(super) struct Journal {
    pub(super) operations: Vec<Operation>,
    pub(super) events: Vec<Event>,
    names: BTreeMap<String, FileNumber>,
    files: usize,
}

/// A journal that is being written.
#[derive(Clone, Default)]
pub(super) struct Journaled(Rc<RefCell<Journal>>);

impl Journaled {
    fn begin(&self, operation: Operation) -> usize {
        let mut journal = self.0.borrow_mut();
        journal.operations.push(operation);
        let index = journal.operations.len() - 1;
        journal.events.push(Event::Begun(index));
        index
    }

    fn end(&self, index: usize) {
        self.0.borrow_mut().events.push(Event::Ended(index));
    }

    pub(super) fn note(&self, note: Note) {
        self.0.borrow_mut().events.push(Event::Noted(note));
    }

    pub(super) fn take(self) -> Journal {
        self.0.take()
    }

    /// Notes an operation from its begin to its end. None of them fails in a world without faults.
    async fn whole<T>(
        self,
        operation: Operation,
        work: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let index = self.begin(operation);
        let done = work.await.expect("nothing fails here");
        self.end(index);
        Ok(done)
    }
}

/// The environment.
#[derive(Clone)]
pub(super) struct Recording {
    env: SimEnv,
    disk: RecordedDisk,
}

impl Recording {
    pub(super) fn new(env: SimEnv, journal: Journaled) -> Self {
        let disk = RecordedDisk { disk: env.disk().clone(), journal };
        Self { env, disk }
    }
}

impl Env for Recording {
    type Disk = RecordedDisk;
    type Net = <SimEnv as Env>::Net;
    type Mesh = <SimEnv as Env>::Mesh;

    fn disk(&self) -> &RecordedDisk {
        &self.disk
    }

    fn net(&self) -> &Self::Net {
        self.env.net()
    }

    fn mesh(&self) -> &Self::Mesh {
        self.env.mesh()
    }

    fn now(&self) -> Monotonic {
        self.env.now()
    }

    fn wall(&self) -> WallTime {
        self.env.wall()
    }

    fn sleep_until(&self, deadline: Monotonic) -> impl Future<Output = ()> + 'static {
        self.env.sleep_until(deadline)
    }

    fn random(&self, name: &'static str) -> RandomStream {
        self.env.random(name)
    }

    fn spawn<F>(&self, name: &'static str, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        self.env.spawn(name, future)
    }

    fn in_group(&self, _: Group) -> Self {
        self.clone()
    }

    fn yield_now(&self) -> impl Future<Output = ()> + 'static {
        self.env.yield_now()
    }

    fn stopping(&self) -> impl Future<Output = ()> + 'static {
        self.env.stopping()
    }
}

type SimDisk = <SimEnv as Env>::Disk;

#[derive(Clone)]
pub(super) struct RecordedDisk {
    disk: SimDisk,
    journal: Journaled,
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

impl Disk for RecordedDisk {
    type File = RecordedFile;
    type Lock = <SimDisk as Disk>::Lock;

    fn open(
        &self,
        path: &Path,
        mode: OpenMode,
    ) -> impl Future<Output = io::Result<RecordedFile>> + 'static {
        let opening = self.disk.open(path, mode);
        let (journal, path) = (self.journal.clone(), text(path));
        async move {
            let number = if mode == OpenMode::CreateNew {
                let mut inner = journal.0.borrow_mut();
                let number = inner.files;
                inner.files += 1;
                inner.names.insert(path.clone(), number);
                number
            } else {
                journal.0.borrow().names[&path]
            };
            let file = if mode == OpenMode::CreateNew {
                let create = Operation::Create { path, file: number };
                journal.clone().whole(create, opening).await?
            } else {
                opening.await?
            };
            Ok(RecordedFile { file, number, journal })
        }
    }

    fn create_directory(&self, path: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        self.disk.create_directory(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        let renaming = self.disk.rename(from, to);
        let (journal, from, to) = (self.journal.clone(), text(from), text(to));
        async move {
            {
                let names = &mut journal.0.borrow_mut().names;
                let number = names.remove(&from).expect("it has that name");
                names.insert(to.clone(), number);
            }
            journal.whole(Operation::Rename { from, to }, renaming).await
        }
    }

    /// The log links nothing, so what is recorded has no such operation.
    fn link(&self, _: &Path, _: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        ready(Err(io::ErrorKind::Unsupported.into()))
    }

    /// As with links.
    fn remove_directory(&self, _: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        let removing = self.disk.remove(path);
        let (journal, path) = (self.journal.clone(), text(path));
        async move {
            journal.0.borrow_mut().names.remove(&path);
            journal.whole(Operation::Remove { path }, removing).await
        }
    }

    fn list(&self, path: &Path) -> impl Future<Output = io::Result<Vec<DirectoryEntry>>> + 'static {
        self.disk.list(path)
    }

    fn sync_directory(&self, path: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        let syncing = self.disk.sync_directory(path);
        // The log syncs the directories above its own too: these hold none of its names.
        let is_ours = path == super::super::image::path();
        let journal = self.journal.clone();
        async move {
            if is_ours {
                journal.whole(Operation::SyncDirectory, syncing).await
            } else {
                syncing.await
            }
        }
    }

    fn lock(&self, path: &Path) -> impl Future<Output = io::Result<Self::Lock>> + 'static {
        self.disk.lock(path)
    }
}

#[derive(Clone)]
pub(super) struct RecordedFile {
    file: <SimDisk as Disk>::File,
    number: FileNumber,
    journal: Journaled,
}

impl File for RecordedFile {
    fn read_at(
        &self,
        buffer: Buffer,
        offset: u64,
    ) -> impl Future<Output = (io::Result<usize>, Buffer)> + 'static {
        self.file.read_at(buffer, offset)
    }

    fn write_at(
        &self,
        buffer: Buffer,
        offset: u64,
        durability: Durability,
    ) -> impl Future<Output = (io::Result<()>, Buffer)> + 'static {
        let (journal, bytes) = (self.journal.clone(), buffer.to_vec());
        let operation = Operation::Write { file: self.number, offset, bytes, durability };
        let writing = self.file.write_at(buffer, offset, durability);
        async move {
            let index = journal.begin(operation);
            let (result, buffer) = writing.await;
            result.expect("nothing fails here");
            journal.end(index);
            (Ok(()), buffer)
        }
    }

    fn sync_data(&self) -> impl Future<Output = io::Result<()>> + 'static {
        let syncing = self.file.sync_data();
        self.journal.clone().whole(Operation::Sync { file: self.number }, syncing)
    }

    fn allocate(&self, length: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let allocating = self.file.allocate(length);
        let operation = Operation::Allocate { file: self.number, length };
        self.journal.clone().whole(operation, allocating)
    }

    fn truncate(&self, length: u64) -> impl Future<Output = io::Result<()>> + 'static {
        self.file.truncate(length)
    }

    fn length(&self) -> impl Future<Output = io::Result<u64>> + 'static {
        self.file.length()
    }
}
