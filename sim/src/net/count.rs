//! What is open on the network, counted.

use super::Network;
use crate::machine::Resources;

impl Network {
    /// Adds what the process of a machine holds.
    pub(crate) fn count(&self, machine: u32, counted: &mut Resources) {
        counted.connects +=
            self.dials.iter().filter(|(_, it)| it.machine == machine).count() as u64;
        for (_, connection) in self.connections.iter() {
            for (end, other) in [(0, 1), (1, 0)] {
                let (end, other) = (&connection.ends[end], &connection.ends[other]);
                if end.machine == machine && end.open {
                    let count = if other.open {
                        &mut counted.connections
                    } else {
                        &mut counted.half_closed
                    };
                    *count += 1;
                }
            }
        }
        for (_, listener) in self.listeners.iter().filter(|(_, it)| it.machine == machine) {
            counted.listeners += 1;
            counted.unaccepted += listener.backlog.len() as u64;
        }
    }
}
