//! The listening sockets of a process: one for each address, shared by the shards that ask for it.
//!
//! A shard that asks for an address joins the oldest socket for it that it does not have yet. For
//! port 0 that means: the first socket a shard asks for is the same on every shard, so is the
//! second, and a shard that asks twice gets two ports. For any other port a shard that asks twice
//! is told that the address is in use, as another process is.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::sockets;

/// The sockets of all shards.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    entries: Mutex<Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    requested: SocketAddr,
    socket: Weak<ListeningSocket>,
    /// The shards that have it.
    shards: BTreeSet<usize>,
}

/// A socket that listens; closed with its last holder, which may be an operation in flight.
#[derive(Debug)]
pub(crate) struct ListeningSocket {
    pub(crate) fd: OwnedFd,
    pub(crate) local: SocketAddr,
}

impl Listeners {
    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        // Nothing in here panics with the list half changed.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The socket on which `shard` listens for `address`.
    pub(crate) fn join(
        &self,
        shard: usize,
        address: SocketAddr,
        nonblocking: bool,
    ) -> io::Result<Arc<ListeningSocket>> {
        let mut entries = self.lock();
        entries.retain(|entry| entry.socket.strong_count() > 0);
        for entry in entries.iter_mut() {
            let Some(socket) = entry.socket.upgrade() else { continue };
            let same = entry.requested == address || socket.local == address;
            if same && entry.shards.insert(shard) {
                return Ok(socket);
            }
        }
        let (fd, local) = sockets::listen(address, nonblocking)?;
        let socket = Arc::new(ListeningSocket { fd, local });
        entries.push(Entry {
            requested: address,
            socket: Arc::downgrade(&socket),
            shards: BTreeSet::from([shard]),
        });
        Ok(socket)
    }

    /// `shard` no longer has `socket`.
    pub(crate) fn leave(&self, shard: usize, socket: &Arc<ListeningSocket>) {
        for entry in self.lock().iter_mut() {
            if entry.socket.as_ptr() == Arc::as_ptr(socket) {
                entry.shards.remove(&shard);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> SocketAddr {
        "127.0.0.1:0".parse().expect("an address")
    }

    #[test]
    fn the_nth_request_for_port_zero_is_one_socket_on_all_shards() {
        let listeners = Listeners::default();
        let join = |shard| listeners.join(shard, any(), false).expect("a free port");
        let (first, second) = (join(0), join(0));
        assert_ne!(first.local, second.local);
        assert_eq!(join(1).local, first.local);
        assert_eq!(join(1).local, second.local);
        let by_port = listeners.join(2, second.local, false).expect("shared by its real port");
        assert!(Arc::ptr_eq(&by_port, &second));
    }

    #[test]
    fn one_shard_has_one_address_once_until_it_leaves() {
        let listeners = Listeners::default();
        let first = listeners.join(0, any(), false).expect("a free port");
        let error = listeners.join(0, first.local, false).expect_err("it has it");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        listeners.leave(0, &first);
        let again = listeners.join(0, first.local, false).expect("it left");
        assert!(Arc::ptr_eq(&first, &again));
    }

    #[test]
    fn the_last_holder_frees_the_address() {
        let listeners = Listeners::default();
        let local = listeners.join(0, any(), false).expect("a free port").local;
        let other = Listeners::default();
        drop(other.join(0, local, false).expect("it is free again"));
    }
}
