//! The driver for places where io_uring is refused: ordinary system calls.
//!
//! Files are read and written by a few helper threads ([`helpers`]), sockets are non-blocking and
//! waited for with epoll ([`readiness`]). Both answer as a ring does, by key and result, and leave
//! ownership to the slots of the operations: a dropped file operation's buffer stays there until
//! its helper is done.

pub(crate) mod helpers;
pub(crate) mod readiness;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::native::doorbell::Doorbell;
use crate::native::driver::{Completion, Driver, DriverSetup, Key, Request, Wait};
use crate::runtime::Backend;
use helpers::Helpers;
use readiness::Readiness;

/// Threads and readiness.
pub(crate) struct Posix {
    helpers: Helpers,
    readiness: Readiness,
    /// Completions to report with the next poll.
    finished: Vec<Completion>,
    doorbell: Arc<Doorbell>,
}

impl Driver for Posix {
    const BACKEND: Backend = Backend::Posix;
    const NONBLOCKING_SOCKETS: bool = true;

    fn new(setup: DriverSetup) -> io::Result<Self> {
        Ok(Self {
            readiness: Readiness::new(&setup.doorbell)?,
            doorbell: Arc::clone(&setup.doorbell),
            helpers: Helpers::start(setup)?,
            finished: Vec::new(),
        })
    }

    unsafe fn submit(&mut self, key: Key, request: Request) {
        match request {
            Request::Read { .. }
            | Request::Write { .. }
            | Request::Sync { .. }
            | Request::Allocate { .. } => {
                // SAFETY: the caller's contract is passed on as it is.
                unsafe { self.helpers.submit(key, request) };
            }
            Request::Accept { .. }
            | Request::Connect { .. }
            | Request::Receive { .. }
            | Request::Send { .. }
            | Request::SendMessage { .. } => {
                // SAFETY: the caller's contract is passed on as it is.
                let result = unsafe { self.readiness.submit(key, request) };
                self.finished.extend(result.map(|result| Completion { key, result }));
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.finished.is_empty()
    }

    fn cancel(&mut self, key: Key) {
        // A file operation cannot be stopped; its helper will report it.
        if self.readiness.cancel(key) {
            self.finished.push(Completion { key, result: -libc::ECANCELED });
        }
    }

    fn poll(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        completions.append(&mut self.finished);
        self.helpers.take_finished(completions);
        let timeout = match wait {
            Wait::AtMost(longest) if completions.is_empty() => longest,
            _ if self.readiness.is_idle() => return Ok(()),
            _ => Some(Duration::ZERO),
        };
        self.readiness.poll(timeout, &self.doorbell, completions)?;
        self.helpers.take_finished(completions);
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.helpers.join();
        Ok(())
    }
}
