//! What the device takes when nothing stands between it and the kernel: the limit that benchmarks
//! compare the runtime and the log with.
//!
//! Blocks of one size are read at random, or written one behind the other, over and over, in a file
//! that was written with zeros before (`O_DIRECT`), through one ring that does nothing else.

mod waking;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, squeue, types};

use crate::runtime::CompletionMode;
use crate::{Buffer, RandomStream};

pub use waking::Waking;

/// What is done with the blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read at random places.
    Read,
    /// Write one behind the other.
    Write,
    /// Write one behind the other, each on stable storage when it is done (`RWF_DSYNC`).
    DurableWrite,
}

/// What to transfer, and how.
#[derive(Clone, Copy, Debug)]
pub struct Transfers {
    /// What is done with the blocks.
    pub access: Access,
    /// Bytes of one transfer; a multiple of a block.
    pub bytes: usize,
    /// Transfers in flight.
    pub in_flight: usize,
    /// Transfers in all.
    pub transfers: u64,
    /// Bytes of the file that is transferred over and over; a multiple of `bytes`.
    pub file_bytes: u64,
    /// How the ring completes.
    pub completion_mode: CompletionMode,
    /// Whether the buffers are registered with the ring.
    pub registered_buffers: bool,
    /// Whether the file is registered with the ring.
    pub registered_file: bool,
    /// How many completions each wait is for, of those that are in flight; at least one.
    pub wait_for: usize,
}

/// How long the transfers took.
#[derive(Clone, Debug)]
pub struct Took {
    /// All of them.
    pub elapsed: Duration,
    /// Of a CPU, this thread's.
    pub busy: Duration,
    /// The median of one.
    pub median: Duration,
    /// What 99 of 100 took at most.
    pub late: Duration,
}

impl Took {
    /// What the `times` of all transfers say, and what is known besides.
    #[must_use]
    pub fn new(elapsed: Duration, busy: Duration, mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |index: usize| times.get(index).copied().unwrap_or_default();
        let (median, late) = (at(times.len() / 2), at(times.len() * 99 / 100));
        Self { elapsed, busy, median, late }
    }
}

impl Transfers {
    /// The time it takes in a new file at `path`, which is removed afterwards. A quarter is done
    /// before, unmeasured.
    ///
    /// # Errors
    /// If the file cannot be made or used, or rings are refused.
    pub fn measure(&self, path: &Path) -> io::Result<Took> {
        let measured = make_file(path, self.file_bytes).and_then(|()| self.measure_in(path));
        match std::fs::remove_file(path) {
            Err(error) if measured.is_ok() => Err(error),
            _ => measured,
        }
    }

    /// As [`measure`](Self::measure), in a file of `file_bytes` that is there already and stays.
    ///
    /// # Errors
    /// If the file cannot be used, or rings are refused.
    pub fn measure_in(&self, path: &Path) -> io::Result<Took> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_DIRECT);
        let file = options.open(path)?;
        let mut builder = IoUring::builder();
        builder.setup_single_issuer();
        match self.completion_mode {
            CompletionMode::Cooperative => builder.setup_coop_taskrun(),
            CompletionMode::Deferred => builder.setup_defer_taskrun(),
        };
        let ring = builder.build(64.max(self.in_flight.next_power_of_two() as u32))?;
        let buffers = (1..=self.in_flight).map(|index| {
            let mut buffer = Buffer::zeroed(self.bytes);
            buffer.fill(index as u8);
            (buffer, Instant::now())
        });
        let mut bare = Bare {
            ring,
            file,
            buffers: buffers.collect(),
            offset: 0,
            in_flight: 0,
            random: RandomStream::from_seed([1; 32]),
            plan: *self,
        };
        bare.register()?;
        bare.run(self.transfers / 4)?;
        let (start, busy) = (Instant::now(), busy_time()?);
        let times = bare.run(self.transfers)?;
        Ok(Took::new(start.elapsed(), busy_time()? - busy, times))
    }
}

/// Writes a new file of zeros, so that no extent of it is fresh.
///
/// # Errors
/// If it is there already, or cannot be written.
pub fn make_file(path: &Path, bytes: u64) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.create_new(true).write(true).custom_flags(libc::O_DIRECT);
    let file = options.open(path)?;
    let zeros = Buffer::zeroed(1 << 20);
    for offset in (0..bytes).step_by(zeros.len()) {
        file.write_all_at(&zeros, offset)?;
    }
    file.sync_all()
}

/// CPU time that the calling thread has used.
///
/// # Errors
/// If the system does not tell.
pub fn busy_time() -> io::Result<Duration> {
    clock_time(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time that all threads of the process have used.
///
/// # Errors
/// If the system does not tell.
pub fn process_busy_time() -> io::Result<Duration> {
    clock_time(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn clock_time(clock: libc::clockid_t) -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0)))
}

/// The ring and what it works on.
struct Bare {
    ring: IoUring,
    file: File,
    /// As many as transfers may be in flight, each with the time its transfer began; it belongs to
    /// the kernel while that is in flight.
    buffers: Vec<(Buffer, Instant)>,
    offset: u64,
    in_flight: usize,
    random: RandomStream,
    plan: Transfers,
}

impl Bare {
    fn register(&mut self) -> io::Result<()> {
        if self.plan.registered_file {
            self.ring.submitter().register_files(&[self.file.as_raw_fd()])?;
        }
        if self.plan.registered_buffers {
            let pieces = self.buffers.iter_mut().map(|(buffer, _)| libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: self.plan.bytes,
            });
            let pieces: Vec<_> = pieces.collect();
            // SAFETY:
            // 1. Each piece is a live buffer of ours, valid for its length.
            // 2. They stay in `self.buffers` until the ring, declared before them, is dropped.
            unsafe { self.ring.submitter().register_buffers(&pieces)? };
        }
        Ok(())
    }

    /// Does so many, and gives the time each took.
    fn run(&mut self, transfers: u64) -> io::Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(usize::try_from(transfers).unwrap_or(0));
        let mut submitted = 0;
        let mut free: Vec<usize> = (0..self.buffers.len()).collect();
        while (times.len() as u64) < transfers {
            while let Some(index) = free.pop_if(|_| submitted < transfers) {
                self.submit(index)?;
                submitted += 1;
            }
            self.ring.submit_and_wait(self.plan.wait_for.clamp(1, self.in_flight))?;
            let now = Instant::now();
            for entry in self.ring.completion() {
                self.in_flight -= 1;
                let index = entry.user_data() as usize;
                times.push(now - self.buffers[index].1);
                free.push(index);
                match usize::try_from(entry.result()) {
                    Err(_) => return Err(io::Error::from_raw_os_error(-entry.result())),
                    Ok(transferred) if transferred < self.plan.bytes => {
                        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                    }
                    Ok(_) => {}
                }
            }
        }
        Ok(times)
    }

    fn submit(&mut self, index: usize) -> io::Result<()> {
        let bytes = self.plan.bytes as u64;
        let offset = match self.plan.access {
            Access::Read => self.random.below(self.plan.file_bytes / bytes) * bytes,
            Access::Write | Access::DurableWrite => {
                let next = (self.offset + bytes) % self.plan.file_bytes;
                std::mem::replace(&mut self.offset, next)
            }
        };
        let entry = self.entry(index, offset).user_data(index as u64);
        // SAFETY:
        // 1. The buffer lives in `self.buffers` until its transfer has completed: `drop` waits.
        // 2. Nobody touches it meanwhile: `run` gets its index back with the completion.
        // 3. The file is closed after the ring has been waited for.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.map_err(|_| io::Error::other("the ring has no room for all transfers"))?;
        self.buffers[index].1 = Instant::now();
        self.in_flight += 1;
        Ok(())
    }

    fn entry(&mut self, index: usize, offset: u64) -> squeue::Entry {
        let (start, length) = (self.buffers[index].0.as_mut_ptr(), self.plan.bytes as u32);
        let slot = index as u16;
        let fixed = self.plan.registered_buffers;
        let flags = match self.plan.access {
            Access::DurableWrite => libc::RWF_DSYNC,
            Access::Read | Access::Write => 0,
        };
        let reads = self.plan.access == Access::Read;
        let fd = types::Fd(self.file.as_raw_fd());
        let file = types::Fixed(0);
        match (reads, fixed, self.plan.registered_file) {
            (true, true, true) => {
                opcode::ReadFixed::new(file, start, length, slot).offset(offset).build()
            }
            (true, true, false) => {
                opcode::ReadFixed::new(fd, start, length, slot).offset(offset).build()
            }
            (true, false, true) => opcode::Read::new(file, start, length).offset(offset).build(),
            (true, false, false) => opcode::Read::new(fd, start, length).offset(offset).build(),
            (false, true, true) => opcode::WriteFixed::new(file, start, length, slot)
                .offset(offset)
                .rw_flags(flags)
                .build(),
            (false, true, false) => opcode::WriteFixed::new(fd, start, length, slot)
                .offset(offset)
                .rw_flags(flags)
                .build(),
            (false, false, true) => {
                opcode::Write::new(file, start, length).offset(offset).rw_flags(flags).build()
            }
            (false, false, false) => {
                opcode::Write::new(fd, start, length).offset(offset).rw_flags(flags).build()
            }
        }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // The kernel may still use the buffers. If it cannot be waited for, they are leaked.
        while self.in_flight > 0 {
            if self.ring.submit_and_wait(1).is_err() {
                std::mem::forget(std::mem::take(&mut self.buffers));
                return;
            }
            self.in_flight -= self.ring.completion().count();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_transfers_where_rings_are_allowed() {
        let path = std::env::temp_dir().join(format!("woodchuck-ceiling-{}", std::process::id()));
        for access in [Access::Read, Access::Write, Access::DurableWrite] {
            for registered in [false, true] {
                let plan = Transfers {
                    access,
                    bytes: 8192,
                    in_flight: 3,
                    transfers: 40,
                    file_bytes: 1 << 20,
                    completion_mode: CompletionMode::Cooperative,
                    registered_buffers: registered,
                    registered_file: registered,
                    wait_for: 2,
                };
                match plan.measure(&path) {
                    Ok(took) => assert!(took.elapsed > took.median && took.busy > Duration::ZERO),
                    // A kernel without rings, a filesystem without direct I/O, or a small limit on
                    // locked memory is no fault of this code.
                    Err(error) => {
                        let refusals =
                            [libc::EPERM, libc::ENOSYS, libc::EACCES, libc::EINVAL, libc::ENOMEM];
                        let code = error.raw_os_error().unwrap_or_default();
                        assert!(refusals.contains(&code), "{error}");
                    }
                }
                let left = std::fs::exists(&path).expect("the directory can be looked into");
                assert!(!left, "the file is removed");
            }
        }
    }
}
