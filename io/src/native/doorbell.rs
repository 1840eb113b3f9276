//! How other threads get the attention of a shard: flags that its loop looks at every turn, and an
//! eventfd for when it sleeps.
//!
//! # Why no ring is missed
//! The ringer publishes its news (a parcel, a flag, a ready task), then a full fence, then reads
//! `sleeping`. The shard writes `sleeping`, then a full fence, then looks for news once more, and
//! sleeps only if there are none. Of two threads that do this, at least one sees the other.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::calls::check;

/// One shard's doorbell.
#[derive(Debug)]
pub(crate) struct Doorbell {
    /// Set while the shard sleeps, or is about to.
    sleeping: AtomicBool,
    /// A parcel was put into one of the shard's mailboxes.
    mail: AtomicBool,
    /// A mailbox that the shard found full has room.
    room: AtomicBool,
    /// Readable once somebody has rung. None when the shard is over; the lock keeps a late ringer
    /// from writing into whatever has the descriptor's number by then.
    eventfd: Mutex<Option<OwnedFd>>,
}

impl Doorbell {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no memory is involved.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) })?;
        // SAFETY: `fd` was just opened and nobody else knows it.
        let eventfd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self {
            sleeping: AtomicBool::new(false),
            mail: AtomicBool::new(false),
            room: AtomicBool::new(false),
            eventfd: Mutex::new(Some(eventfd)),
        })
    }

    /// Wakes the shard if it sleeps. News must have been published before.
    pub(crate) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel) {
            let eventfd = self.lock();
            let Some(eventfd) = &*eventfd else { return };
            let one = 1_u64;
            // The result is not looked at: a write to an eventfd fails only when its counter is
            // about to overflow, and then it is readable already.
            // SAFETY:
            // 1. `one` is eight readable bytes.
            // 2. The descriptor is ours, and stays open while the lock is held.
            unsafe { libc::write(eventfd.as_raw_fd(), (&raw const one).cast(), 8) };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        // Nothing in here panics with the lock held.
        self.eventfd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shard is over and its driver gone: rings are for nobody from now on.
    pub(crate) fn close(&self) {
        drop(self.lock().take());
    }

    /// Says that a parcel was delivered.
    pub(crate) fn announce_mail(&self) {
        self.mail.store(true, Ordering::Release);
        self.ring();
    }

    /// Says that a full mailbox has room.
    pub(crate) fn announce_room(&self) {
        self.room.store(true, Ordering::Release);
        self.ring();
    }

    /// Whether mail was announced since the last call.
    pub(crate) fn take_mail(&self) -> bool {
        self.mail.load(Ordering::Relaxed) && self.mail.swap(false, Ordering::Acquire)
    }

    /// Whether room was announced since the last call.
    pub(crate) fn take_room(&self) -> bool {
        self.room.load(Ordering::Relaxed) && self.room.swap(false, Ordering::Acquire)
    }

    /// Whether mail or room was announced and not yet taken.
    pub(crate) fn has_news(&self) -> bool {
        self.mail.load(Ordering::Relaxed) || self.room.load(Ordering::Relaxed)
    }

    /// Announces that the shard will sleep. It must look for news after this and before it sleeps.
    pub(crate) fn begin_sleep(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The shard is awake.
    pub(crate) fn end_sleep(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// The descriptor that becomes readable when somebody rings. It is open for as long as the
    /// shard has a driver.
    ///
    /// # Panics
    /// If the shard is over.
    pub(crate) fn fd(&self) -> RawFd {
        self.lock().as_ref().expect("a shard with a driver has its doorbell").as_raw_fd()
    }
}
