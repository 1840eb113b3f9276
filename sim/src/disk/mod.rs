//! The simulated disk of one machine.
//!
//! **What may fail here.** All that the seam allows: see `woodchuck_io`'s table of what survives
//! what. Operations take a drawn time and complete in any order. An operation *happens* at a drawn
//! moment between its submission and its completion, so after a crash an operation that nobody was
//! told about may have happened. A read that overlaps a write in flight sees any of its sectors.
//! Volatile writes stay above the media until a sync, or until they are overwritten and by chance
//! were written back before. Dropping an operation does not cancel it.
//!
//! **What never fails.** Under budgeted faults a completed durable write, and a volatile write that
//! a completed sync followed, survive every crash; nothing becomes visible that nobody wrote, except
//! in sectors that a power cut tore.
//!
//! # Layers
//!
//! An operation in flight; what reads see, which is the system's memory or the device's volatile
//! cache; the media; and the journal of names between those that are seen and those on media. A
//! device may say that something is on media when it is in its cache, which tells the cache from
//! the memory above it: a crash of the operating system loses the memory, a power cut both.
//!
//! # Faults
//!
//! Each knob is in [`DiskFaults`](crate::DiskFaults); those marked *contract* need none. "Product"
//! survives what one machine must survive; "replicas" what takes a copy elsewhere. Whatever the
//! product does not survive it must notice, and never give a wrong answer. The methods of
//! [`DiskInspector`] do the same where a test wants it.
//!
//! | fault | knob | what it does | who survives it |
//! |---|---|---|---|
//! | lost block, sector, length | *contract* | a crash undoes what was not synced | product |
//! | lost name | *contract* | a crash undoes changes of names that were not synced: the latest, or on disks without order among them any that nothing kept builds on | product |
//! | unacknowledged write | *contract* | what was in flight at a crash happened all the same | product |
//! | read race | *contract* | a read sees sectors of a write in flight | product |
//! | reordered | *contract* | operations complete in another order than they were asked for | product |
//! | torn sector | `torn_sectors` | a power cut leaves sectors, of 512 or 4096 bytes, shorn or full of garbage | product |
//! | short read | `short_read` | a read returns less than there is | product |
//! | slow operation | `slow` | one operation takes as long as the profile's tail | product |
//! | stall | `stall` | nothing completes for a while, though things may happen | product |
//! | slow period | `slow_period` | everything takes many times longer for a while | product |
//! | disk error | `read_error`, `write_error`, `sync_error`, `other_error` | an operation fails once; a write leaves any of its blocks | product, stopped |
//! | unknown block | with `write_error`, `sync_error` | a failed write or sync leaves blocks written, dirty, marked clean all the same, or back at their old content | product, stopped |
//! | sticky error | `sticky_error` | a block, a file or the disk fails until it is healed | product, stopped |
//! | full disk | the capacity | writes and allocations are refused, and so are new names | product, stopped |
//! | refused names | `metadata_full` | creations, renames and allocations are refused for want of room | product, stopped |
//! | unreadable block | `unreadable_blocks` | a power cut leaves blocks it tore unreadable | product |
//! | latent error | `latent_error` | neighbouring blocks on media cannot be read until they are written there again | replicas |
//! | bit rot | `bit_rot` | a bit, a burst or a sector on media changes | replicas |
//! | misdirected read | `misdirected_read` | a read returns what lies elsewhere on the disk | replicas |
//! | misdirected write | `misdirected_write` | a write lands on another written block; its own place stays as it was | replicas |
//! | lost write | `lost_write` | a write is acknowledged and never done | replicas |
//! | lying flush | `lying_flush`, `lying_period` | syncs and durable writes succeed, and a power cut may undo them until an honest sync | replicas |
//!
//! A write below the seam may be short; the seam writes all or fails, so it shows only as the blocks
//! that a failed write leaves.
//!
//! # Layout
//!
//! `profile` holds the kinds of disks and `timing` how long they take; `file` the content of a file
//! in its layers, `namespace` the names; `perform` what each operation does, `errors` which fail,
//! `decay` what goes wrong in silence, `crash` what is left; `handle` the seam's traits, `inspect`
//! what tests may look at and damage, `control` what they may do to the disk as a whole; `count`
//! what a process has of the disk, `tell` what the chronicle hears of.

mod control;
mod count;
mod crash;
mod decay;
mod errors;
mod file;
mod handle;
mod inspect;
mod namespace;
mod perform;
mod profile;
mod tell;
mod timing;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::task::Waker;

use woodchuck_io::{Buffer, DirectoryEntry, Durability, OpenMode};

pub(crate) use crash::Crash;
pub use handle::{SimDisk, SimFile, SimLock};
pub use inspect::DiskInspector;
pub use profile::{DiskProfile, Latency, NameOrder};

use crate::event::Event;
use crate::fault_kind::FaultKind;
use crate::kernel::{Kernel, node_of};
use crate::limits::UNSWEPT_FILES;
use crate::slab::{Key, Slab};
use decay::{Aim, Lies};
use errors::{AskedError, Sticky};
use namespace::{InodeNumber, Namespace};
use timing::{Schedule, Timing};

/// Kinds of disk operations, to say which ones shall fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskOperation {
    /// `open`, in any mode.
    Open,
    /// `create_directory`.
    CreateDirectory,
    /// `rename`.
    Rename,
    /// `remove`.
    Remove,
    /// `list`.
    List,
    /// `sync_directory`.
    SyncDirectory,
    /// `lock`.
    Lock,
    /// `read_at`.
    Read,
    /// `write_at`, of either durability.
    Write,
    /// `sync_data`.
    Sync,
    /// `allocate`.
    Allocate,
    /// `truncate`.
    Truncate,
    /// `length`.
    Length,
    /// `link`.
    Link,
    /// `remove_directory`.
    RemoveDirectory,
}

/// What was asked of the disk.
pub(crate) enum Request {
    Open { path: PathBuf, mode: OpenMode },
    CreateDirectory { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
    Link { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
    RemoveDirectory { path: PathBuf },
    List { path: PathBuf },
    SyncDirectory { path: PathBuf },
    Lock { path: PathBuf },
    Read { inode: InodeNumber, buffer: Buffer, offset: u64 },
    Write { inode: InodeNumber, buffer: Buffer, offset: u64, durability: Durability },
    Sync { inode: InodeNumber },
    Allocate { inode: InodeNumber, length: u64 },
    Truncate { inode: InodeNumber, length: u64 },
    Length { inode: InodeNumber },
}

/// What came of it.
pub(crate) enum Outcome {
    Nothing(io::Result<()>),
    Inode(io::Result<InodeNumber>),
    Names(io::Result<Vec<DirectoryEntry>>),
    Read(io::Result<usize>, Buffer),
    Written(io::Result<()>, Buffer),
    Length(io::Result<u64>),
}

impl Request {
    fn kind(&self) -> DiskOperation {
        match self {
            Self::Open { .. } => DiskOperation::Open,
            Self::CreateDirectory { .. } => DiskOperation::CreateDirectory,
            Self::Rename { .. } => DiskOperation::Rename,
            Self::Link { .. } => DiskOperation::Link,
            Self::Remove { .. } => DiskOperation::Remove,
            Self::RemoveDirectory { .. } => DiskOperation::RemoveDirectory,
            Self::List { .. } => DiskOperation::List,
            Self::SyncDirectory { .. } => DiskOperation::SyncDirectory,
            Self::Lock { .. } => DiskOperation::Lock,
            Self::Read { .. } => DiskOperation::Read,
            Self::Write { .. } => DiskOperation::Write,
            Self::Sync { .. } => DiskOperation::Sync,
            Self::Allocate { .. } => DiskOperation::Allocate,
            Self::Truncate { .. } => DiskOperation::Truncate,
            Self::Length { .. } => DiskOperation::Length,
        }
    }

    /// The open file it is about.
    fn inode(&self) -> Option<InodeNumber> {
        match *self {
            Self::Read { inode, .. }
            | Self::Write { inode, .. }
            | Self::Sync { inode }
            | Self::Allocate { inode, .. }
            | Self::Truncate { inode, .. }
            | Self::Length { inode } => Some(inode),
            _ => None,
        }
    }
}

/// An operation between its submission and the moment its future takes the outcome.
struct Operation {
    /// Taken when it happens.
    request: Option<Request>,
    /// There once it happened.
    outcome: Option<Outcome>,
    done: bool,
    /// Nobody waits for it any more.
    abandoned: bool,
    waker: Option<Waker>,
    kind: DiskOperation,
    node: u32,
    /// When it was submitted, by the disk's sequence.
    sequence: u64,
    completes: u64,
}

/// The disk of one machine.
pub(crate) struct DiskState {
    machine: u32,
    names: Namespace,
    operations: Slab<Operation>,
    /// Counts submissions and effects, to order them.
    sequence: u64,
    /// The latest submission among completed operations.
    latest_done: u64,
    /// Files locked, and whether by a process of the world (else by a test).
    locks: BTreeMap<InodeNumber, bool>,
    /// Bytes it takes: those of its profile, unless a test says otherwise.
    capacity: u64,
    used: u64,
    profile: DiskProfile,
    timing: Timing,
    asked_errors: Vec<AskedError>,
    sticky: Sticky,
    /// Reads and writes that a test wants to go astray.
    aims: Vec<Aim>,
    lies: Lies,
    unswept: usize,
}

impl DiskState {
    pub(crate) fn new(machine: u32, capacity: u64) -> Self {
        Self {
            machine,
            names: Namespace::default(),
            operations: Slab::default(),
            sequence: 0,
            latest_done: 0,
            locks: BTreeMap::new(),
            capacity,
            used: 0,
            profile: DiskProfile { capacity, ..DiskProfile::NVME },
            timing: Timing::default(),
            asked_errors: Vec::new(),
            sticky: Sticky::default(),
            aims: Vec::new(),
            lies: Lies::default(),
            unswept: 0,
        }
    }

    pub(crate) fn has_operation(&self, key: Key) -> bool {
        self.operations.contains(key)
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// An operation enters the disk.
    pub(crate) fn submit(
        &mut self,
        request: Request,
        node: u32,
        waker: Waker,
        kernel: &mut Kernel,
    ) -> Key {
        let Schedule { effect, duration } = self.schedule(&request, node, kernel);
        let (kind, inode) = (request.kind(), request.inode());
        let key = self.operations.insert(Operation {
            request: Some(request),
            outcome: None,
            done: false,
            abandoned: false,
            waker: Some(waker),
            kind,
            node,
            sequence: 0,
            completes: kernel.now + duration,
        });
        let sequence = self.next_sequence();
        if let Some(operation) = self.operations.get_mut(key) {
            operation.sequence = sequence;
        }
        self.tell_submitted(key, kernel);
        self.trace_contents(key, kernel);
        match (kind, inode) {
            (DiskOperation::Write, Some(inode)) => {
                self.names.file_mut(inode).writes_in_flight.push(key);
            }
            (DiskOperation::Sync, Some(inode)) => self.names.file_mut(inode).syncs_in_flight += 1,
            _ => {}
        }
        let event = Event::DiskEffect { machine: self.machine, operation: key };
        kernel.after(effect, event);
        key
    }

    /// An operation happens.
    pub(crate) fn take_effect(&mut self, key: Key, kernel: &mut Kernel) {
        let event = Event::DiskEffect { machine: self.machine, operation: key };
        if self.held_up(event, self.node(), kernel) {
            return;
        }
        let Some(request) = self.begin_effect(key) else { return };
        let operation = self.operations.get(key).expect("it begins to take effect");
        let (node, asked) = (operation.node, operation.sequence);
        self.decay(node, kernel);
        let outcome = match self.drawn_error(&request, node, kernel) {
            Some(error) => self.fail(request, error, node, kernel),
            None => self.perform(request, asked, node, kernel),
        };
        let operation = self.operations.get_mut(key).expect("it takes effect");
        operation.outcome = Some(outcome);
        let completes = operation.completes;
        let event = Event::DiskDone { machine: self.machine, operation: key };
        kernel.events.push(completes.max(kernel.now), event);
        self.tell_happened(key, kernel);
    }

    /// Takes an operation's request, which is then no longer in flight.
    fn begin_effect(&mut self, key: Key) -> Option<Request> {
        let operation = self.operations.get_mut(key)?;
        let kind = operation.kind;
        let request = operation.request.take()?;
        match (kind, request.inode()) {
            (DiskOperation::Write, Some(inode)) => {
                self.names.file_mut(inode).writes_in_flight.retain(|&other| other != key);
            }
            (DiskOperation::Sync, Some(inode)) => self.names.file_mut(inode).syncs_in_flight -= 1,
            _ => {}
        }
        Some(request)
    }

    /// An operation is seen to have completed.
    pub(crate) fn complete(&mut self, key: Key, kernel: &mut Kernel) {
        let event = Event::DiskDone { machine: self.machine, operation: key };
        if self.held_up(event, self.node(), kernel) {
            return;
        }
        self.tell_completed(key, kernel);
        let Some(operation) = self.operations.get_mut(key) else { return };
        operation.done = true;
        if operation.sequence < self.latest_done {
            kernel.statistics.faults[FaultKind::Reordered as usize] += 1;
        }
        self.latest_done = self.latest_done.max(operation.sequence);
        kernel.wakes.extend(operation.waker.take());
        if operation.abandoned {
            self.forget(key, kernel);
        }
    }

    /// The outcome of an operation, once it completed.
    pub(crate) fn take_outcome(&mut self, key: Key, waker: &Waker) -> Option<Outcome> {
        let operation = self.operations.get_mut(key)?;
        if !operation.done {
            operation.waker.clone_from(&Some(waker.clone()));
            return None;
        }
        self.operations.remove(key)?.outcome
    }

    /// Nobody waits for an operation any more. It goes on all the same.
    pub(crate) fn abandon(&mut self, key: Key, kernel: &mut Kernel) {
        let Some(operation) = self.operations.get_mut(key) else { return };
        operation.abandoned = true;
        if operation.done {
            self.forget(key, kernel);
        }
    }

    /// Undoes what the outcome of an abandoned operation would have given its owner.
    fn forget(&mut self, key: Key, kernel: &mut Kernel) {
        let Some(operation) = self.operations.remove(key) else { return };
        if let Some(Outcome::Inode(Ok(inode))) = operation.outcome {
            match operation.kind {
                DiskOperation::Lock => self.unlock(inode),
                _ => self.close(inode),
            }
        }
        kernel
            .dropped
            .extend(operation.waker.map(|waker| Box::new(waker) as Box<dyn std::any::Any>));
    }

    /// A handle of an open file is gone.
    pub(crate) fn close(&mut self, inode: InodeNumber) {
        let Some(count) = self.names.open.get_mut(&inode) else { return };
        *count -= 1;
        if *count == 0 {
            self.names.open.remove(&inode);
        }
    }

    pub(crate) fn unlock(&mut self, inode: InodeNumber) {
        self.locks.remove(&inode);
    }

    /// The machine's process has exited by itself. As a kernel does, the disk first completes what
    /// that process left in flight: nothing of it happens under the feet of the next process.
    pub(crate) fn exit(&mut self, kernel: &mut Kernel) {
        let node = self.node();
        for (request, asked) in self.end_flight() {
            self.perform(request, asked, node, kernel);
        }
        self.rest(false);
        self.release_all();
    }

    /// Closes all files and releases all locks of the machine's process.
    fn release_all(&mut self) {
        self.names.open.clear();
        self.locks.retain(|_, by_process| !*by_process);
    }

    /// A name was taken from a file. Now and then, files that nothing can bring back are forgotten.
    fn unlinked(&mut self) {
        self.unswept += 1;
        if self.unswept >= UNSWEPT_FILES {
            self.unswept = 0;
            self.names.sweep(&self.inodes_in_flight());
        }
    }

    /// The files that operations in flight are about.
    fn inodes_in_flight(&self) -> BTreeSet<InodeNumber> {
        let requests = self
            .operations
            .iter()
            .filter_map(|(_, operation)| operation.request.as_ref().and_then(Request::inode));
        requests.collect()
    }

    /// Takes so many blocks of the disk, if there are.
    fn charge(&mut self, blocks: u64) -> bool {
        let block = woodchuck_io::limits::BLOCK_BYTES as u64;
        let fits = |disk: &Self| disk.used.saturating_add(blocks * block) <= disk.capacity;
        if !fits(self) {
            // Removed files give their space back only here, where it matters.
            self.recount();
        }
        let fits = fits(self);
        self.used += if fits { blocks * block } else { 0 };
        fits
    }

    /// Counts anew what is used: by files that have a name or are open.
    fn recount(&mut self) {
        let mut counted = self.names.reachable(false);
        counted.extend(self.names.open.keys().copied());
        let blocks: u64 = counted
            .iter()
            .filter_map(|inode| match self.names.inodes.get(inode) {
                Some(namespace::Inode::File(file)) => Some(file.charged),
                _ => None,
            })
            .sum();
        self.used = blocks * woodchuck_io::limits::BLOCK_BYTES as u64;
    }

    /// Where a machine's own choices are made.
    fn node(&self) -> u32 {
        node_of(self.machine, 0)
    }
}
