//! What io_uring can do here.

use std::fs;
use std::io;

use crate::runtime::CompletionMode;
use crate::uring;

/// One thing that the kernel's rings can or cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ability {
    /// Its name: that of the kernel's constant, without its prefix.
    pub name: &'static str,
    /// Whether the kernel has it.
    pub present: bool,
}

/// What the kernel's rings can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rings {
    /// What the `uring` backend cannot do without.
    pub needed: Vec<Ability>,
    /// What it does not use, or not unless it is asked to.
    pub other: Vec<Ability>,
}

impl Rings {
    /// What is needed and not there. If there is anything, the `uring` backend refuses to start.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        self.needed.iter().filter(|one| !one.present).map(|one| one.name).collect()
    }
}

/// Sets up a ring as the `uring` backend does, and says what it can do.
///
/// # Errors
/// If this process is refused a ring. The message says what refused it, as far as that is known.
pub fn rings(mode: CompletionMode) -> io::Result<Rings> {
    uring::look(mode).map_err(|error| {
        let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
        let why = match (disabled.as_deref().map(str::trim), error.kind()) {
            (Some("2"), _) => "kernel.io_uring_disabled is 2: nobody may use it",
            (Some("1"), io::ErrorKind::PermissionDenied) => {
                "kernel.io_uring_disabled is 1: only members of kernel.io_uring_group may use it"
            }
            (_, io::ErrorKind::PermissionDenied) => {
                "a seccomp profile or another security policy forbids it"
            }
            (_, io::ErrorKind::OutOfMemory) => {
                "memory is short, or this user may not lock as much as a ring takes (ulimit -l)"
            }
            (_, io::ErrorKind::InvalidInput) => "the kernel is older than Linux 6.1",
            (_, io::ErrorKind::Unsupported) => "the kernel has no io_uring",
            _ => return error,
        };
        io::Error::new(error.kind(), format!("{error}; {why}"))
    })
}

/// The names of the flags that the `uring` backend sets its rings up with.
#[must_use]
pub fn ring_flags(mode: CompletionMode) -> Vec<&'static str> {
    uring::flags(mode)
}

/// Bytes that a ring takes of what a user may lock (`ulimit -l`), on kernels that count rings: up
/// to Linux 5.11, and again since about 6.14. A ring that was closed counts for a moment longer.
#[must_use]
pub const fn ring_locked_bytes() -> usize {
    uring::locked_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_takes_its_queues() {
        // Measured on Linux 6.18: an ordinary user who may lock less gets no ring.
        assert_eq!(ring_locked_bytes(), 100 << 10);
    }

    #[test]
    fn what_is_needed_and_not_there_is_missing() {
        let ability = |name, present| Ability { name, present };
        let needed = vec![ability("READ", true), ability("SEND", false), ability("RECV", false)];
        let rings = Rings { needed, other: vec![ability("SEND_ZC", false)] };
        assert_eq!(rings.missing(), ["SEND", "RECV"]);
    }

    #[test]
    fn the_modes_differ_in_one_flag() {
        let (cooperative, deferred) =
            (ring_flags(CompletionMode::Cooperative), ring_flags(CompletionMode::Deferred));
        assert!(cooperative.contains(&"COOP_TASKRUN") && !cooperative.contains(&"DEFER_TASKRUN"));
        assert!(deferred.contains(&"DEFER_TASKRUN") && !deferred.contains(&"COOP_TASKRUN"));
        assert_eq!(cooperative.len(), deferred.len());
    }
}
