//! The side of a volume that tells it what to do.

#![expect(
    clippy::disallowed_methods,
    reason = "no shard runs here: this is the machine below them"
)]

use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::volume::{FILESYSTEM, VolumeOptions};

/// A volume, served by a process that ends with this.
pub struct VolumeProcess {
    directory: PathBuf,
    child: Child,
    /// Closed first when this is dropped.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// Whether there is power, and what has happened so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether there is power.
    pub is_powered: bool,
    /// Writes and flushes so far.
    pub requests: u64,
    /// Writes that were not flushed when the power was cut.
    pub writes: u64,
    /// Their sectors that reached the medium.
    pub sectors_kept: u64,
    /// Their sectors that did not.
    pub sectors_lost: u64,
}

impl VolumeProcess {
    /// Starts a process that serves a volume, with the program that this process runs.
    pub fn start(options: &VolumeOptions) -> io::Result<Self> {
        std::fs::create_dir_all(&options.directory)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("volume").arg("--directory").arg(&options.directory);
        command.args(["--bytes", &options.bytes.to_string()]);
        command.args(["--seed", &options.seed.to_string()]);
        if options.ignores_flushes {
            command.arg("--ignore-flushes");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let commands = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("asked for"));
        let directory = options.directory.clone();
        let mut volume = Self { directory, child, commands, answers };
        volume.answer()?;
        Ok(volume)
    }

    /// Where the filesystem is mounted.
    #[must_use]
    pub fn filesystem(&self) -> PathBuf {
        self.directory.join(FILESYSTEM)
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Has a command carried out; see [`volume`](crate::volume).
    pub fn tell(&mut self, command: &str) -> io::Result<String> {
        let closed = || io::Error::other("the volume's process is gone");
        writeln!(self.commands.as_mut().ok_or_else(closed)?, "{command}")?;
        self.answer().map_err(|error| io::Error::other(format!("{command}: {error}")))
    }

    /// Whether there is power, and what has happened so far.
    pub fn status(&mut self) -> io::Result<Status> {
        let said = self.tell("status")?;
        parse(&said).ok_or_else(|| io::Error::other(format!("not a status: {said}")))
    }

    fn answer(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let line = line.trim_end();
        match line.strip_prefix("ok") {
            Some(said) => Ok(said.trim().to_owned()),
            None if line.is_empty() => Err(io::Error::other("the volume's process has ended")),
            None => Err(io::Error::other(line.to_owned())),
        }
    }
}

impl Drop for VolumeProcess {
    fn drop(&mut self) {
        // Its input ends, and so it unmounts everything and ends.
        drop(self.commands.take());
        if let Err(error) = self.child.wait() {
            eprintln!("the volume's process cannot be awaited: {error}");
        }
        std::fs::remove_dir(&self.directory).ok();
    }
}

fn parse(said: &str) -> Option<Status> {
    let mut words = said.split(' ');
    let is_powered = words.next()? == "on";
    let mut number = || words.next()?.parse().ok();
    Some(Status {
        is_powered,
        requests: number()?,
        writes: number()?,
        sectors_kept: number()?,
        sectors_lost: number()?,
    })
}
