//! What all shards of one round know: which connections there were, and how they ended.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Shared by the shards of a round.
#[derive(Clone, Default)]
pub(crate) struct Ledger {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    connections: Mutex<BTreeMap<u64, Connection>>,
    tasks: Arc<AtomicUsize>,
}

/// What is known of a connection.
#[derive(Default)]
struct Connection {
    /// How many bytes its sender sent before it ended the stream in good order.
    sent: Option<u64>,
    /// How many bytes its receiver had when there was no more to read.
    received: Option<u64>,
    /// How many shards got it from an accept.
    accepted: u32,
}

/// Counts a task for as long as its future exists.
pub(crate) struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Ledger {
    fn connections(&self) -> MutexGuard<'_, BTreeMap<u64, Connection>> {
        self.inner.connections.lock().expect("no panic with the lock held")
    }

    pub(crate) fn sent_whole(&self, connection: u64, bytes: u64) {
        self.connections().entry(connection).or_default().sent = Some(bytes);
    }

    /// The receiver has read the connection's number.
    pub(crate) fn accepted(&self, connection: u64) {
        self.connections().entry(connection).or_default().accepted += 1;
    }

    pub(crate) fn received_end(&self, connection: u64, bytes: u64) {
        self.connections().entry(connection).or_default().received = Some(bytes);
    }

    pub(crate) fn task(&self) -> Alive {
        self.inner.tasks.fetch_add(1, Ordering::Relaxed);
        Alive(Arc::clone(&self.inner.tasks))
    }

    /// What must be true when all shards are over.
    pub(crate) fn check(&self) {
        assert_eq!(self.inner.tasks.load(Ordering::Relaxed), 0, "tasks were not dropped");
        for (number, connection) in self.connections().iter() {
            assert!(connection.accepted <= 1, "connection {number:#x} was accepted twice");
            if let (Some(sent), Some(received)) = (connection.sent, connection.received) {
                assert_eq!(sent, received, "bytes of connection {number:#x}");
            }
        }
    }

    /// How many connections came through from one end to the other.
    pub(crate) fn whole_connections(&self) -> usize {
        let connections = self.connections();
        let whole = |connection: &&Connection| {
            connection.sent.is_some() && connection.sent == connection.received
        };
        connections.values().filter(whole).count()
    }
}
