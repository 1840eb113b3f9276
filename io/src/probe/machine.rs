//! What the machine gives this process.

use std::fs;
use std::io;
use std::mem::MaybeUninit;

use crate::native::calls::{self, check, during};

/// The bit of the capability that lifts the limit on locked memory, `CAP_IPC_LOCK`.
const LOCK_CAPABILITY: u32 = 14;

/// What the machine gives this process.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// The kernel's release; empty if it does not say.
    pub kernel: String,
    /// CPUs that are there.
    pub cpus_online: usize,
    /// CPUs that this process may run on. [`RuntimeOptions`](crate::runtime::RuntimeOptions) gives
    /// each a shard.
    pub cpus_allowed: usize,
    /// As many CPUs' time as this process may use at most: fewer than it may run on if its control
    /// group has a quota. At least one.
    pub cpus_affordable: usize,
    /// How many tasks ran, or waited for a CPU or a disk, on the average of the last minute. Zero if
    /// the kernel does not say.
    pub load_average: f64,
    /// How much memory it may lock.
    pub memory_lock: MemoryLock,
}

/// How much memory a process may lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLock {
    /// The limit in bytes; none if it is unlimited.
    pub limit_bytes: Option<u64>,
    /// Whether the limit does not hold for this process (`CAP_IPC_LOCK`).
    pub exempt: bool,
}

/// Looks at the machine.
///
/// # Errors
/// If the kernel does not say which CPUs, or how much locked memory, this process may have.
pub fn machine() -> io::Result<Machine> {
    let allowed = calls::allowed_cpus().map_err(during("asking which CPUs may be used"))?;
    let cpus_allowed = calls::cpus_in(&allowed).len();
    // SAFETY: no memory is involved.
    let online = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    Ok(Machine {
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().into(),
        cpus_online: usize::try_from(online).unwrap_or(0).max(cpus_allowed),
        cpus_allowed,
        cpus_affordable: std::thread::available_parallelism().map_or(cpus_allowed, usize::from),
        load_average: load_average(&fs::read_to_string("/proc/loadavg").unwrap_or_default()),
        memory_lock: memory_lock()?,
    })
}

fn memory_lock() -> io::Result<MemoryLock> {
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: `limit` is writable and as large as the call wants it.
    check(unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, limit.as_mut_ptr()) })
        .map_err(during("asking how much memory may be locked"))?;
    // SAFETY: the call succeeded, so it filled `limit`.
    let soft = unsafe { limit.assume_init() }.rlim_cur;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    Ok(MemoryLock {
        limit_bytes: (soft != libc::RLIM_INFINITY).then_some(soft),
        exempt: may_lock_all(&status),
    })
}

/// The first number in `/proc/loadavg`.
fn load_average(text: &str) -> f64 {
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

/// Whether a process with this `/proc/self/status` may lock whatever it likes.
fn may_lock_all(status: &str) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    effective.is_some_and(|capabilities| capabilities >> LOCK_CAPABILITY & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capability_is_read() {
        assert!(may_lock_all("Name:\tx\nCapEff:\t000001ffffffffff\nSeccomp:\t0\n"));
        assert!(may_lock_all("CapEff:\t0000000000004000\n"));
        assert!(!may_lock_all("CapPrm:\t0000000000004000\nCapEff:\t000001ffffffbfff\n"));
        for nothing in ["", "CapEff:", "CapEff:\tzz"] {
            assert!(!may_lock_all(nothing), "{nothing:?}");
        }
    }

    #[test]
    fn the_load_is_read() {
        assert_eq!(load_average("1.72 3.22 3.27 1/177 19758\n"), 1.72);
        assert_eq!(load_average(""), 0.0);
    }

    #[test]
    fn this_machine_has_cpus() {
        let machine = machine().expect("the kernel says");
        assert!(machine.cpus_allowed >= 1 && machine.cpus_online >= machine.cpus_allowed);
        assert!((1..=machine.cpus_allowed).contains(&machine.cpus_affordable));
        assert!(!machine.kernel.is_empty());
    }
}
