//! What the disk tells the chronicle and the trace.

use std::io;
use std::path::Path;

use super::{DiskOperation, DiskState, Outcome, Request};
use crate::chronicle::Happening;
use crate::kernel::Kernel;
use crate::slab::Key;

impl Request {
    /// The path it names, the older of two.
    fn path(&self) -> Option<&Path> {
        match self {
            Self::Open { path, .. }
            | Self::CreateDirectory { path }
            | Self::Rename { from: path, .. }
            | Self::Link { from: path, .. }
            | Self::Remove { path }
            | Self::RemoveDirectory { path }
            | Self::List { path }
            | Self::SyncDirectory { path }
            | Self::Lock { path } => Some(path),
            _ => None,
        }
    }

    /// The bytes to be read or written.
    fn bytes(&self) -> usize {
        match self {
            Self::Read { buffer, .. } => buffer.capacity(),
            Self::Write { buffer, .. } => buffer.len(),
            _ => 0,
        }
    }
}

impl Outcome {
    /// The bytes that were read or written.
    fn bytes(&self) -> usize {
        match self {
            Self::Read(Ok(bytes), _) => *bytes,
            Self::Written(Ok(()), buffer) => buffer.len(),
            _ => 0,
        }
    }

    fn error(&self) -> Option<io::ErrorKind> {
        let error = match self {
            Self::Nothing(result) | Self::Written(result, _) => result.as_ref().err(),
            Self::Inode(result) | Self::Length(result) => result.as_ref().err(),
            Self::Names(result) => result.as_ref().err(),
            Self::Read(result, _) => result.as_ref().err(),
        };
        error.map(io::Error::kind)
    }
}

impl DiskState {
    /// An operation was submitted.
    pub(super) fn tell_submitted(&self, key: Key, kernel: &mut Kernel) {
        kernel.chronicle(|keeper| {
            let Some(operation) = self.operations.get(key) else { return };
            let Some(request) = &operation.request else { return };
            let path = match (request.path(), request.inode()) {
                (Some(path), _) => Some(path.display().to_string()),
                (None, Some(inode)) => keeper.path(self.machine, inode, || {
                    let paths = self.names.paths(false);
                    paths.into_iter().find(|(_, other)| *other == inode).map(|(path, _)| path)
                }),
                (None, None) => None,
            };
            let (node, kind, bytes) = (operation.node, operation.kind, request.bytes() as u64);
            let operation = keeper.number_disk_operation(self.machine, key);
            keeper.tell(node, Happening::DiskSubmitted { operation, kind, path, bytes });
        });
    }

    /// The bytes of a write are part of the trace, if that is asked for.
    pub(super) fn trace_contents(&self, key: Key, kernel: &mut Kernel) {
        if let Some(operation) = self.operations.get(key)
            && let Some(Request::Write { buffer, .. }) = &operation.request
        {
            kernel.trace.contents(operation.node, std::iter::once(&buffer[..]));
        }
    }

    /// An operation happened.
    pub(super) fn tell_happened(&self, key: Key, kernel: &mut Kernel) {
        kernel.chronicle(|keeper| {
            let Some(operation) = self.operations.get(key) else { return };
            if matches!(operation.kind, DiskOperation::Rename | DiskOperation::Remove) {
                keeper.forget_paths(self.machine);
            }
            let (node, error) =
                (operation.node, operation.outcome.as_ref().and_then(Outcome::error));
            let operation = keeper.disk_operation(self.machine, key);
            keeper.tell(node, Happening::DiskHappened { operation, error });
        });
    }

    /// An operation is seen to have completed.
    pub(super) fn tell_completed(&self, key: Key, kernel: &mut Kernel) {
        kernel.chronicle(|keeper| {
            let Some(operation) = self.operations.get(key) else { return };
            let (node, kind, outcome) = (operation.node, operation.kind, &operation.outcome);
            let bytes = outcome.as_ref().map_or(0, Outcome::bytes) as u64;
            let error = outcome.as_ref().and_then(Outcome::error);
            let operation = keeper.disk_operation(self.machine, key);
            keeper.tell(node, Happening::DiskCompleted { operation, kind, bytes, error });
        });
    }
}
