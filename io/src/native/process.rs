//! What the shards of one process share: doorbells, mailboxes, listening sockets, the wish to stop.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use super::doorbell::Doorbell;
use super::listeners::Listeners;
use super::mesh::Mailboxes;

/// Shared by all shards of one runtime.
pub(crate) struct Process {
    /// Zero of monotonic time.
    pub(crate) start: Instant,
    /// One doorbell a shard.
    pub(crate) doorbells: Vec<Arc<Doorbell>>,
    pub(crate) mailboxes: Mailboxes,
    pub(crate) listeners: Listeners,
    /// Whether a filesystem that takes no direct I/O has been reported.
    pub(crate) buffered_reported: AtomicBool,
    stopping: AtomicBool,
    /// Shards that are not over.
    shards_left: AtomicUsize,
}

impl Process {
    pub(crate) fn new(shards: usize) -> io::Result<Self> {
        Ok(Self {
            start: Instant::now(),
            doorbells: (0..shards)
                .map(|_| Doorbell::new().map(Arc::new))
                .collect::<io::Result<_>>()?,
            mailboxes: Mailboxes::new(shards),
            listeners: Listeners::default(),
            buffered_reported: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            shards_left: AtomicUsize::new(shards),
        })
    }

    /// Asks every shard to stop.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        for doorbell in &self.doorbells {
            doorbell.ring();
        }
    }

    /// A shard is over. With the last one go the parcels that nobody received: a stopper or a
    /// leaked future may keep the rest of this for as long as it likes.
    pub(crate) fn leave(&self) {
        if self.shards_left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.mailboxes.clear();
        }
    }

    /// Whether the process was asked to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}
