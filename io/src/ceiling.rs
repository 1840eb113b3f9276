//! What the device takes when nothing stands between it and the kernel: the limit that benchmarks
//! compare the log with.
//!
//! Blocks of one size are written one behind the other, durably (`RWF_DSYNC`, `O_DIRECT`), over and
//! over, into a file that was written with zeros before, through one ring that does nothing else.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, types};

use crate::Buffer;
use crate::runtime::CompletionMode;

/// What to write.
#[derive(Clone, Copy, Debug)]
pub struct DurableWrites {
    /// Bytes of one write; a multiple of a block.
    pub write_bytes: usize,
    /// Writes in flight.
    pub in_flight: usize,
    /// Writes in all.
    pub writes: u64,
    /// Bytes of the file that is written over and over; a multiple of `write_bytes`.
    pub file_bytes: u64,
    /// How the ring completes.
    pub completion_mode: CompletionMode,
}

impl DurableWrites {
    /// The time it takes to write so much to a new file at `path`, which is removed afterwards.
    /// A quarter of it is written before, unmeasured.
    ///
    /// # Errors
    /// If the file cannot be made or written, or rings are refused.
    pub fn measure(&self, path: &Path) -> io::Result<Duration> {
        let measured = self.measure_in(path);
        match std::fs::remove_file(path) {
            Err(error) if measured.is_ok() => Err(error),
            _ => measured,
        }
    }

    fn measure_in(&self, path: &Path) -> io::Result<Duration> {
        let file = self.make_file(path)?;
        let mut builder = IoUring::builder();
        builder.setup_single_issuer();
        match self.completion_mode {
            CompletionMode::Cooperative => builder.setup_coop_taskrun(),
            CompletionMode::Deferred => builder.setup_defer_taskrun(),
        };
        let ring = builder.build(64.max(self.in_flight.next_power_of_two() as u32))?;
        let buffers = (1..=self.in_flight).map(|index| {
            let mut buffer = Buffer::zeroed(self.write_bytes);
            buffer.fill(index as u8);
            buffer
        });
        let mut writer =
            Writer { ring, file, buffers: buffers.collect(), offset: 0, in_flight: 0, plan: *self };
        writer.write(self.writes / 4)?;
        let start = Instant::now();
        writer.write(self.writes)?;
        let elapsed = start.elapsed();
        Ok(elapsed)
    }

    fn make_file(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.create_new(true).write(true).custom_flags(libc::O_DIRECT);
        let file = options.open(path)?;
        let zeros = Buffer::zeroed(1 << 20);
        for offset in (0..self.file_bytes).step_by(zeros.len()) {
            file.write_all_at(&zeros, offset)?;
        }
        file.sync_all()?;
        Ok(file)
    }
}

struct Writer {
    ring: IoUring,
    file: File,
    /// As many as writes may be in flight; each belongs to the kernel while its write is.
    buffers: Vec<Buffer>,
    offset: u64,
    in_flight: usize,
    plan: DurableWrites,
}

impl Writer {
    fn write(&mut self, writes: u64) -> io::Result<()> {
        let (mut submitted, mut completed) = (0, 0);
        let mut free: Vec<usize> = (0..self.buffers.len()).collect();
        while completed < writes {
            while let Some(index) = free.pop_if(|_| submitted < writes) {
                self.submit(index)?;
                submitted += 1;
            }
            self.ring.submit_and_wait(1)?;
            for entry in self.ring.completion() {
                self.in_flight -= 1;
                completed += 1;
                free.push(entry.user_data() as usize);
                match usize::try_from(entry.result()) {
                    Err(_) => return Err(io::Error::from_raw_os_error(-entry.result())),
                    Ok(written) if written < self.plan.write_bytes => {
                        return Err(io::Error::from(io::ErrorKind::WriteZero));
                    }
                    Ok(_) => {}
                }
            }
        }
        Ok(())
    }

    fn submit(&mut self, index: usize) -> io::Result<()> {
        let buffer = &mut self.buffers[index];
        let file = types::Fd(self.file.as_raw_fd());
        let entry = opcode::Write::new(file, buffer.as_mut_ptr(), self.plan.write_bytes as u32)
            .offset(self.offset)
            .rw_flags(libc::RWF_DSYNC)
            .build()
            .user_data(index as u64);
        // SAFETY:
        // 1. The buffer lives in `self.buffers` until its write has completed: `drop` waits.
        // 2. Nobody touches it meanwhile: `write` gets its index back with the completion.
        // 3. The file is closed after the ring has been waited for.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.map_err(|_| io::Error::other("the ring has no room for all writes"))?;
        self.offset = (self.offset + self.plan.write_bytes as u64) % self.plan.file_bytes;
        self.in_flight += 1;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The kernel may still read the buffers. If it cannot be waited for, they are leaked.
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
    fn it_writes_where_rings_are_allowed() {
        let path = std::env::temp_dir().join(format!("woodchuck-ceiling-{}", std::process::id()));
        let plan = DurableWrites {
            write_bytes: 8192,
            in_flight: 3,
            writes: 40,
            file_bytes: 1 << 20,
            completion_mode: CompletionMode::Cooperative,
        };
        match plan.measure(&path) {
            Ok(elapsed) => assert!(elapsed > Duration::ZERO),
            // A kernel without rings, or a filesystem without direct I/O, is no fault of this code.
            Err(error) => {
                let refusals = [libc::EPERM, libc::ENOSYS, libc::EACCES, libc::EINVAL];
                let code = error.raw_os_error().unwrap_or_default();
                assert!(refusals.contains(&code), "{error}");
            }
        }
        let left = std::fs::exists(&path).expect("the directory can be looked into");
        assert!(!left, "the file is removed");
    }
}
