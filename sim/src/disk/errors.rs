//! Errors: those a test asks for, those that stick, and those a rate says.
//!
//! A transient error fails one operation. What **sticks** (a block, a file, the disk, or all that a
//! test names) fails every operation that comes to it until it is healed, rewriting it included.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use woodchuck_io::OpenMode;
use woodchuck_io::limits::BLOCK_BYTES;

use super::namespace::InodeNumber;
use super::{DiskOperation, DiskState, Request};
use crate::fault_kind::FaultKind;
use crate::kernel::Kernel;
use crate::site::Site;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Operations that shall fail because a test said so.
pub(super) struct AskedError {
    pub(super) kind: DiskOperation,
    /// Where, or anywhere.
    pub(super) place: Option<String>,
    pub(super) remaining: u32,
    pub(super) error: io::ErrorKind,
}

/// What fails until it is healed.
#[derive(Default)]
pub(super) struct Sticky {
    pub(super) disk: bool,
    pub(super) places: Vec<String>,
    files: BTreeSet<InodeNumber>,
    blocks: BTreeSet<(InodeNumber, u64)>,
}

impl Sticky {
    fn is_empty(&self) -> bool {
        !self.disk && self.places.is_empty() && self.files.is_empty() && self.blocks.is_empty()
    }

    /// Whether one of these blocks fails.
    fn strikes(&self, inode: InodeNumber, mut blocks: impl Iterator<Item = u64>) -> bool {
        !self.blocks.is_empty() && blocks.any(|block| self.blocks.contains(&(inode, block)))
    }

    /// Whether a failing write cannot reach this block.
    pub(super) fn keeps_out(&self, inode: InodeNumber, block: u64) -> bool {
        self.disk || self.files.contains(&inode) || self.blocks.contains(&(inode, block))
    }
}

/// Whether a path, as from the root, is named: `/a/b` names all paths that begin so, and a name
/// without a slash in front all that end so.
pub(super) fn is_named(path: &str, place: &str) -> bool {
    if place.starts_with('/') { path.starts_with(place) } else { path.ends_with(place) }
}

/// A path as from the root.
fn from_root(path: &Path) -> String {
    let path = path.to_string_lossy();
    if path.starts_with('/') { path.into_owned() } else { format!("/{path}") }
}

/// The blocks a read or write comes to.
fn blocks(request: &Request) -> std::ops::Range<u64> {
    let (offset, bytes) = match request {
        Request::Read { buffer, offset, .. } => (*offset, buffer.capacity()),
        Request::Write { buffer, offset, .. } => (*offset, buffer.len()),
        _ => (0, 0),
    };
    offset / BLOCK..offset / BLOCK + (bytes as u64).div_ceil(BLOCK)
}

impl DiskState {
    /// The error an operation fails with, if it does.
    pub(super) fn drawn_error(
        &mut self,
        request: &Request,
        node: u32,
        kernel: &mut Kernel,
    ) -> Option<io::ErrorKind> {
        if let Some(error) = self.asked_error(request) {
            kernel.fault(FaultKind::AskedError, node, "asked disk error");
            return Some(error);
        }
        if kernel.chance(Site::StickyError, node, kernel.faults.disk.sticky_error) {
            let scope = kernel.choose(Site::StickyScope, node, 3);
            self.stick(request, scope);
        }
        if !self.sticky.is_empty() && self.sticks(request) {
            kernel.fault(FaultKind::StickyError, node, "disk error that sticks");
            return Some(io::ErrorKind::Other);
        }
        if self.is_refused(request, node, kernel) {
            return Some(io::ErrorKind::StorageFull);
        }
        let rate = match request.kind() {
            DiskOperation::Read => kernel.faults.disk.read_error,
            DiskOperation::Write => kernel.faults.disk.write_error,
            DiskOperation::Sync => kernel.faults.disk.sync_error,
            _ => kernel.faults.disk.other_error,
        };
        let fails = kernel.chance(Site::DiskError, node, rate);
        fails.then(|| {
            kernel.fault(FaultKind::DiskError, node, "disk error");
            io::ErrorKind::Other
        })
    }

    /// The error a test asked for.
    fn asked_error(&mut self, request: &Request) -> Option<io::ErrorKind> {
        let index = self.asked_errors.iter().position(|asked| {
            let place = asked.place.as_deref();
            asked.kind == request.kind() && place.is_none_or(|place| self.concerns(request, place))
        })?;
        let asked = &mut self.asked_errors[index];
        let error = asked.error;
        asked.remaining -= 1;
        if asked.remaining == 0 {
            self.asked_errors.remove(index);
        }
        Some(error)
    }

    /// Whether an operation is about what a place names.
    pub(super) fn concerns(&self, request: &Request, place: &str) -> bool {
        let named = |path: &Path| is_named(&from_root(path), place);
        match request {
            Request::Open { path, .. }
            | Request::CreateDirectory { path }
            | Request::Remove { path }
            | Request::RemoveDirectory { path }
            | Request::List { path }
            | Request::SyncDirectory { path }
            | Request::Lock { path } => named(path),
            Request::Rename { from, to } | Request::Link { from, to } => named(from) || named(to),
            _ => request.inode().is_some_and(|inode| self.is_at(inode, place)),
        }
    }

    /// Whether a place names this file.
    pub(super) fn is_at(&self, inode: InodeNumber, place: &str) -> bool {
        let paths = self.names.paths(false);
        paths.iter().any(|(path, other)| *other == inode && is_named(path, place))
    }

    /// What an operation comes to begins to fail: its first block, its file or the disk.
    fn stick(&mut self, request: &Request, scope: u64) {
        match (scope, request.inode()) {
            (2, _) => self.sticky.disk = true,
            (1, Some(inode)) => drop(self.sticky.files.insert(inode)),
            (_, Some(inode)) => {
                self.sticky.blocks.extend(blocks(request).next().map(|block| (inode, block)));
            }
            (_, None) => {}
        }
    }

    /// Whether an operation comes to something that fails until it is healed.
    fn sticks(&self, request: &Request) -> bool {
        let sticky = &self.sticky;
        if sticky.disk || sticky.places.iter().any(|place| self.concerns(request, place)) {
            return true;
        }
        let Some(inode) = request.inode() else {
            let Request::Open { path, .. } = request else { return false };
            return self.names.resolve(path).is_ok_and(|inode| sticky.files.contains(&inode));
        };
        let dirty = || self.names.file(inode).dirty.iter().copied();
        sticky.files.contains(&inode)
            || sticky.strikes(inode, blocks(request))
            || matches!(request, Request::Sync { .. }) && sticky.strikes(inode, dirty())
    }

    /// Nothing fails for good any more.
    pub(super) fn heal_sticky(&mut self) {
        self.sticky = Sticky::default();
    }

    /// Whether there is no room for what an operation adds to names or space: at a rate, or because
    /// the disk is full, without a block for a directory to grow into.
    fn is_refused(&mut self, request: &Request, node: u32, kernel: &mut Kernel) -> bool {
        let rate = kernel.faults.disk.metadata_full;
        let refused = match request {
            Request::Allocate { .. } => kernel.chance(Site::MetadataFull, node, rate),
            // Some file systems need room for any rename.
            Request::Rename { .. } => {
                kernel.chance(Site::MetadataFull, node, rate)
                    || self.is_full() && self.adds_a_name(request)
            }
            Request::Open { mode: OpenMode::CreateNew, .. }
            | Request::CreateDirectory { .. }
            | Request::Link { .. }
            | Request::Lock { .. } => {
                (rate > 0 || self.is_full())
                    && self.adds_a_name(request)
                    && (kernel.chance(Site::MetadataFull, node, rate) || self.is_full())
            }
            _ => false,
        };
        if refused {
            kernel.fault(FaultKind::MetadataFull, node, "no room for a name or an allocation");
        }
        refused
    }

    /// Whether an operation gives a directory one more name.
    fn adds_a_name(&self, request: &Request) -> bool {
        let new = |path: &Path| self.names.resolve(path).is_err();
        match request {
            Request::Open { path, .. }
            | Request::CreateDirectory { path }
            | Request::Lock { path } => new(path),
            Request::Rename { from, to } | Request::Link { from, to } => !new(from) && new(to),
            _ => false,
        }
    }

    /// Whether no block is free.
    fn is_full(&mut self) -> bool {
        let full = |disk: &Self| disk.used.saturating_add(BLOCK) > disk.capacity;
        if full(self) {
            // Removed files give their space back only here, where it matters.
            self.recount();
        }
        full(self)
    }
}
