//! What a process holds, counted: for whoever wants to know that nothing leaks.

use std::fmt;

use crate::run::Core;

/// Declares the counts: for each its documentation and its field.
macro_rules! resources {
    ($(#[doc = $doc:literal] $field:ident;)+) => {
        /// What the process of a machine holds. All of it is 0 once the process has ended, whatever
        /// ended it.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Resources {
            $(#[doc = $doc] pub $field: u64,)+
        }

        impl Resources {
            /// The counts with their names.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($field), self.$field),)+].into_iter()
            }
        }
    };
}

resources! {
    /// Tasks that have not finished.
    tasks;
    /// Timers that were set, and neither awaited to their end nor dropped.
    timers;
    /// Open files, each as often as it was opened.
    open_files;
    /// Locks on files.
    locks;
    /// Disk operations whose outcome nobody has taken yet. Each holds its buffer.
    disk_operations;
    /// Connection attempts.
    connects;
    /// Connections that are open at both ends.
    connections;
    /// Connections whose other end is gone.
    half_closed;
    /// Sockets that accept connections.
    listeners;
    /// Connections that no listener has accepted yet; counted as connections too.
    unaccepted;
    /// Parcels between shards that nobody has received.
    parcels;
    /// Senders that wait for room in a mailbox.
    waiting_senders;
}

impl Resources {
    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().all(|(_, count)| count == 0)
    }
}

impl fmt::Display for Resources {
    /// The counts that are not 0, as `name=count`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, count) in self.iter().filter(|&(_, count)| count > 0) {
            write!(formatter, "{separator}{name}={count}")?;
            separator = " ";
        }
        if separator.is_empty() { formatter.write_str("nothing") } else { Ok(()) }
    }
}

impl Core {
    /// What the process of a machine holds.
    pub(super) fn resources(&self, index: u32) -> Resources {
        let machine = &self.machines[index as usize];
        let mut counted = Resources::default();
        let shards = self.shards.iter().filter(|(_, shard)| shard.machine == index);
        counted.tasks = shards.map(|(_, shard)| shard.local.tasks.borrow().len() as u64).sum();
        let timers = self.kernel.timers.iter().filter(|(_, timer)| timer.machine == index);
        counted.timers = timers.count() as u64;
        machine.disk.count(&mut counted);
        self.network.count(index, &mut counted);
        if let Some(process) = &machine.process {
            process.mesh.count(&mut counted);
        }
        counted
    }
}
