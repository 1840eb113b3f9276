//! The seam's `Disk` and `File` over the simulated disk.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use woodchuck_io::limits::BLOCK_BYTES;
use woodchuck_io::{Buffer, DirectoryEntry, Disk, Durability, File, OpenMode};

use super::namespace::InodeNumber;
use super::{DiskState, Outcome, Request};
use crate::shard::Handle;
use crate::slab::Key;

impl Handle {
    /// Visits the machine's disk, if the process lives.
    fn disk<T>(
        &self,
        visit: impl FnOnce(&mut DiskState, &mut crate::kernel::Kernel) -> T,
    ) -> Option<T> {
        let machine = self.machine as usize;
        self.if_alive(|core| visit(&mut core.machines[machine].disk, &mut core.kernel))
    }
}

/// An operation of the disk. Submitted by its first poll; goes on when dropped. Never completes if
/// the process is dead.
struct Operate {
    handle: Rc<Handle>,
    request: Option<Request>,
    submitted: Option<Key>,
}

impl Operate {
    fn new(handle: &Rc<Handle>, request: Request) -> Self {
        Self { handle: Rc::clone(handle), request: Some(request), submitted: None }
    }

    /// For operations that give nothing but success.
    async fn nothing(self) -> io::Result<()> {
        match self.await {
            Outcome::Nothing(result) => result,
            _ => unreachable!("the outcome is of the request's kind"),
        }
    }

    /// For operations that give an inode.
    async fn inode(self) -> io::Result<InodeNumber> {
        match self.await {
            Outcome::Inode(result) => result,
            _ => unreachable!("the outcome is of the request's kind"),
        }
    }
}

impl Future for Operate {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let this = &mut *self;
        if !this.handle.alive() {
            return Poll::Pending;
        }
        if let Some(request) = this.request.take() {
            this.handle.local.note_wait(request.kind().waited_for(), None);
            let (node, waker) = (this.handle.node, context.waker().clone());
            this.submitted =
                this.handle.disk(|disk, kernel| disk.submit(request, node, waker, kernel));
            return Poll::Pending;
        }
        let Some(key) = this.submitted else { return Poll::Pending };
        let outcome = this.handle.disk(|disk, _| disk.take_outcome(key, context.waker())).flatten();
        if outcome.is_none() {
            this.handle.local.note_wait("the disk", None);
        }
        outcome.map_or(Poll::Pending, |outcome| {
            this.submitted = None;
            Poll::Ready(outcome)
        })
    }
}

impl Drop for Operate {
    fn drop(&mut self) {
        if let Some(key) = self.submitted {
            self.handle.disk(|disk, kernel| disk.abandon(key, kernel));
        }
    }
}

/// The disk as one shard sees it.
#[derive(Clone)]
pub struct SimDisk(pub(crate) Rc<Handle>);

/// An open file.
#[derive(Clone)]
pub struct SimFile(Rc<OpenFile>);

/// Closes the file when the last handle goes.
struct OpenFile {
    handle: Rc<Handle>,
    inode: InodeNumber,
    writable: bool,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.handle.disk(|disk, _| disk.close(self.inode));
    }
}

/// An exclusive lock on a file.
pub struct SimLock {
    handle: Rc<Handle>,
    inode: InodeNumber,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.handle.disk(|disk, _| disk.unlock(self.inode));
    }
}

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn open(
        &self,
        path: &Path,
        mode: OpenMode,
    ) -> impl Future<Output = io::Result<SimFile>> + 'static {
        let handle = Rc::clone(&self.0);
        let operate = Operate::new(&handle, Request::Open { path: path.to_owned(), mode });
        async move {
            let inode = operate.inode().await?;
            Ok(SimFile(Rc::new(OpenFile { handle, inode, writable: mode != OpenMode::Read })))
        }
    }

    fn create_directory(&self, path: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        Operate::new(&self.0, Request::CreateDirectory { path: path.to_owned() }).nothing()
    }

    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        let (from, to) = (from.to_owned(), to.to_owned());
        Operate::new(&self.0, Request::Rename { from, to }).nothing()
    }

    fn link(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        let (from, to) = (from.to_owned(), to.to_owned());
        Operate::new(&self.0, Request::Link { from, to }).nothing()
    }

    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        Operate::new(&self.0, Request::Remove { path: path.to_owned() }).nothing()
    }

    fn remove_directory(&self, path: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        Operate::new(&self.0, Request::RemoveDirectory { path: path.to_owned() }).nothing()
    }

    fn list(&self, path: &Path) -> impl Future<Output = io::Result<Vec<DirectoryEntry>>> + 'static {
        let operate = Operate::new(&self.0, Request::List { path: path.to_owned() });
        async move {
            match operate.await {
                Outcome::Names(result) => result,
                _ => unreachable!("the outcome is of the request's kind"),
            }
        }
    }

    fn sync_directory(&self, path: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        Operate::new(&self.0, Request::SyncDirectory { path: path.to_owned() }).nothing()
    }

    fn lock(&self, path: &Path) -> impl Future<Output = io::Result<SimLock>> + 'static {
        let handle = Rc::clone(&self.0);
        let operate = Operate::new(&handle, Request::Lock { path: path.to_owned() });
        async move { Ok(SimLock { inode: operate.inode().await?, handle }) }
    }
}

/// Whether direct I/O takes this offset and this many bytes.
fn check_transfer(offset: u64, bytes: usize) -> io::Result<()> {
    let end = offset.checked_add(bytes as u64);
    if !offset.is_multiple_of(BLOCK_BYTES as u64) || !bytes.is_multiple_of(BLOCK_BYTES) {
        let text = format!("{bytes} bytes at {offset} are not whole blocks");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    end.map_or_else(|| check_length(u64::MAX), check_length)
}

/// Whether a file can be so long: lengths are signed below the seam.
fn check_length(length: u64) -> io::Result<()> {
    if i64::try_from(length).is_ok() {
        return Ok(());
    }
    let text = format!("{length} bytes are more than a file can have");
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

impl OpenFile {
    fn check_writable(&self) -> io::Result<()> {
        let error = || io::Error::new(io::ErrorKind::PermissionDenied, "opened for reading only");
        if self.writable { Ok(()) } else { Err(error()) }
    }
}

impl File for SimFile {
    fn read_at(
        &self,
        mut buffer: Buffer,
        offset: u64,
    ) -> impl Future<Output = (io::Result<usize>, Buffer)> + 'static {
        let file = Rc::clone(&self.0);
        async move {
            if let Err(error) = check_transfer(offset, buffer.capacity()) {
                buffer.resize(0);
                return (Err(error), buffer);
            }
            let request = Request::Read { inode: file.inode, buffer, offset };
            match Operate::new(&file.handle, request).await {
                Outcome::Read(result, buffer) => (result, buffer),
                _ => unreachable!("the outcome is of the request's kind"),
            }
        }
    }

    fn write_at(
        &self,
        buffer: Buffer,
        offset: u64,
        durability: Durability,
    ) -> impl Future<Output = (io::Result<()>, Buffer)> + 'static {
        let file = Rc::clone(&self.0);
        async move {
            let checked = check_transfer(offset, buffer.len()).and(file.check_writable());
            if let Err(error) = checked {
                return (Err(error), buffer);
            }
            let request = Request::Write { inode: file.inode, buffer, offset, durability };
            match Operate::new(&file.handle, request).await {
                Outcome::Written(result, buffer) => (result, buffer),
                _ => unreachable!("the outcome is of the request's kind"),
            }
        }
    }

    fn sync_data(&self) -> impl Future<Output = io::Result<()>> + 'static {
        let file = Rc::clone(&self.0);
        async move { Operate::new(&file.handle, Request::Sync { inode: file.inode }).nothing().await }
    }

    fn allocate(&self, length: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let file = Rc::clone(&self.0);
        async move {
            file.check_writable()?;
            check_length(length)?;
            let request = Request::Allocate { inode: file.inode, length };
            Operate::new(&file.handle, request).nothing().await
        }
    }

    fn truncate(&self, length: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let file = Rc::clone(&self.0);
        async move {
            file.check_writable()?;
            check_length(length)?;
            let request = Request::Truncate { inode: file.inode, length };
            Operate::new(&file.handle, request).nothing().await
        }
    }

    fn length(&self) -> impl Future<Output = io::Result<u64>> + 'static {
        let file = Rc::clone(&self.0);
        async move {
            let request = Request::Length { inode: file.inode };
            match Operate::new(&file.handle, request).await {
                Outcome::Length(result) => result,
                _ => unreachable!("the outcome is of the request's kind"),
            }
        }
    }
}
