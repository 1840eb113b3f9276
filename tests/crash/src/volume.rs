//! A volume: a device in the memory of this process, a loop device over it, ext4 on that.
//!
//! A process of its own serves a volume, because whoever waits for a device must not be who serves
//! it. It is told what to do by lines on its standard input, and answers each with one line, `ok`
//! or `error` with what there is to say:
//!
//! | command | what it does |
//! |---|---|
//! | `format` | makes the filesystem; all unmounted |
//! | `attach` | loop device, mount |
//! | `detach` | unmount, loop device; whether or not there is power |
//! | `cut` | cuts the power, now |
//! | `cut-after N` | cuts it when N more writes and flushes have come; not at all if N is 0 |
//! | `power-on` | turns it on again; all unmounted |
//! | `status` | `on` or `off`, writes and flushes so far, what the last cut did |
//! | `check` | has `e2fsck` look at the filesystem; all unmounted |
//!
//! When its input ends, however that comes about, it cuts the power, unmounts everything and ends.
//! If it dies itself, its mounts end with the mount namespace it was started in (see
//! [`in_own_namespace`]), and its loop device detaches itself when the filesystem on it is gone.

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "no shard runs here: this is the machine below them"
)]

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::device::Device;
use crate::fuse::{locked, serve};
use crate::limits::{DEVICE_BYTES_MAX, SECTOR_BYTES, SERVERS, UNMOUNT};

/// What a volume is made with.
#[derive(Clone, Debug)]
pub struct VolumeOptions {
    /// An empty directory for the mount points. It is removed in the end.
    pub directory: PathBuf,
    /// Size of the device.
    pub bytes: u64,
    /// What a power cut loses is drawn from it.
    pub seed: u64,
    /// Whether the device answers flushes without doing anything.
    pub ignores_flushes: bool,
}

/// Name of the file that is the device, in the volume's directory.
const IMAGE: &str = "image";
/// Name of the mount point of the filesystem, in the volume's directory.
pub const FILESYSTEM: &str = "filesystem";

/// Serves a volume until `commands` ends.
pub fn run(
    options: &VolumeOptions,
    commands: impl BufRead,
    mut answers: impl Write,
) -> io::Result<()> {
    let sectors = options.bytes.is_multiple_of(SECTOR_BYTES as u64);
    if !sectors || options.bytes == 0 || options.bytes > DEVICE_BYTES_MAX {
        return Err(io::Error::other(format!("a device cannot have {} bytes", options.bytes)));
    }
    let volume = Volume::new(options)?;
    writeln!(answers, "ok")?;
    for command in commands.lines() {
        match volume.obey(&command?) {
            Ok(said) => writeln!(answers, "ok {}", said.replace('\n', "; "))?,
            Err(error) => writeln!(answers, "error {}", error.to_string().replace('\n', "; "))?,
        }
        answers.flush()?;
    }
    Ok(())
}

struct Volume {
    directory: PathBuf,
    device: Arc<Mutex<Device>>,
}

impl Volume {
    /// Makes the mount points and mounts the device's file.
    fn new(options: &VolumeOptions) -> io::Result<Self> {
        let bytes = options.bytes as usize;
        let device = Device::new(bytes, options.seed, options.ignores_flushes);
        let volume =
            Self { directory: options.directory.clone(), device: Arc::new(Mutex::new(device)) };
        std::fs::create_dir(volume.filesystem())?;
        std::fs::write(volume.image(), [])?;
        let connection = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
        for _ in 0..SERVERS {
            let device = Arc::clone(&volume.device);
            let served = connection.try_clone()?;
            std::thread::spawn(move || {
                if let Err(error) = serve(served, &device) {
                    // The kernel fails everything once the connection is closed.
                    eprintln!("the device's connection to the kernel broke: {error}");
                }
            });
        }
        // The mount inherits the connection as its standard input.
        let mut mount = Command::new("mount");
        mount.args(["-i", "-t", "fuse", "-o", "fd=0,rootmode=100600,user_id=0,group_id=0"]);
        mount.arg("woodchuck-crash").arg(volume.image()).stdin(Stdio::from(connection));
        said_by(&mut mount)?;
        Ok(volume)
    }

    fn image(&self) -> PathBuf {
        self.directory.join(IMAGE)
    }

    fn filesystem(&self) -> PathBuf {
        self.directory.join(FILESYSTEM)
    }

    fn obey(&self, command: &str) -> io::Result<String> {
        let (name, argument) = command.split_once(' ').unwrap_or((command, ""));
        match name {
            "format" => self.format(),
            "attach" => self.attach(),
            "detach" => self.detach(),
            "cut" => {
                locked(&self.device).cut();
                Ok(self.status())
            }
            "cut-after" => {
                let requests = argument.parse().map_err(|_| io::Error::other("not a number"))?;
                locked(&self.device).cut_after(requests);
                Ok(String::new())
            }
            "power-on" => {
                locked(&self.device).power_on();
                Ok(String::new())
            }
            "status" => Ok(self.status()),
            "check" => tool("e2fsck").args(["-f", "-n"]).arg(self.image()).said(),
            _ => Err(io::Error::other(format!("no such command: {command}"))),
        }
    }

    fn format(&self) -> io::Result<String> {
        self.with_loop_device(|loop_device| {
            // Nothing in the background: what is written depends on what is done.
            let now = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
            let mut make = tool("mkfs.ext4");
            make.args(["-q", "-F", "-b", "4096", "-E", now]).arg(loop_device).said()
        })?;
        self.detach()
    }

    fn attach(&self) -> io::Result<String> {
        self.with_loop_device(|loop_device| {
            let mut mount = tool("mount");
            mount.args(["-t", "ext4"]).arg(loop_device).arg(self.filesystem()).said()
        })
    }

    /// Attaches a loop device and does something with it.
    fn with_loop_device(&self, act: impl FnOnce(&str) -> io::Result<String>) -> io::Result<String> {
        let mut losetup = tool("losetup");
        losetup.args(["--direct-io=on", "--find", "--show"]).arg(self.image());
        let loop_device = losetup.said()?;
        let done = act(&loop_device);
        // The kernel detaches it when the filesystem, its last user, is gone; now if there is none.
        tool("losetup").arg("--detach").arg(&loop_device).said()?;
        done.map(|_| loop_device)
    }

    fn detach(&self) -> io::Result<String> {
        let began = Instant::now();
        let wait = |error: io::Error| {
            std::thread::sleep(Duration::from_millis(5));
            if began.elapsed() < UNMOUNT { Ok(()) } else { Err(error) }
        };
        while is_mounted(&self.filesystem())? {
            // Processes that were killed may hold files for a moment.
            if let Err(error) = tool("umount").arg(self.filesystem()).said() {
                wait(error)?;
            }
        }
        while let Some(loop_device) = loop_over(&self.image())? {
            wait(io::Error::other(format!("{loop_device} stays attached")))?;
        }
        Ok(String::new())
    }

    fn status(&self) -> String {
        let device = locked(&self.device);
        let power = if device.is_powered() { "on" } else { "off" };
        let cut = device.last_cut();
        format!(
            "{power} {} {} {} {}",
            device.requests(),
            cut.writes,
            cut.sectors_kept,
            cut.sectors_lost
        )
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        locked(&self.device).cut();
        if let Err(error) = self.detach() {
            eprintln!("the filesystem is unmounted when its last user ends: {error}");
            tool("umount").arg("--lazy").arg(self.filesystem()).said().ok();
        }
        if let Err(error) = tool("umount").arg("--lazy").arg(self.image()).said() {
            eprintln!("the device's file stays mounted: {error}");
        }
        std::fs::remove_file(self.image()).ok();
        std::fs::remove_dir(self.filesystem()).ok();
        std::fs::remove_dir(&self.directory).ok();
    }
}

/// The loop device over a file, if there is one.
fn loop_over(image: &Path) -> io::Result<Option<String>> {
    for entry in std::fs::read_dir("/sys/block")? {
        let entry = entry?;
        // It has the file's name only while it is attached.
        let backing = std::fs::read_to_string(entry.path().join("loop/backing_file"));
        if backing.is_ok_and(|path| Path::new(path.trim_end()) == image) {
            return Ok(Some(format!("/dev/{}", entry.file_name().to_string_lossy())));
        }
    }
    Ok(None)
}

fn is_mounted(directory: &Path) -> io::Result<bool> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    Ok(mounts.lines().any(|line| line.split(' ').nth(1).map(Path::new) == Some(directory)))
}

/// A tool of the system's, which an ordinary search path may leave out.
fn tool(name: &str) -> Tool {
    let found = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
        .iter()
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.exists());
    Tool(Command::new(found.unwrap_or_else(|| PathBuf::from(name))))
}

struct Tool(Command);

impl Tool {
    fn args<'a>(&mut self, arguments: impl IntoIterator<Item = &'a str>) -> &mut Self {
        self.0.args(arguments);
        self
    }

    fn arg(&mut self, argument: impl AsRef<std::ffi::OsStr>) -> &mut Self {
        self.0.arg(argument);
        self
    }

    fn said(&mut self) -> io::Result<String> {
        said_by(self.0.stdin(Stdio::null()))
    }
}

/// Runs a command to its end and gives what it said, or fails with that.
fn said_by(command: &mut Command) -> io::Result<String> {
    let ended = command.output().map_err(|error| {
        io::Error::other(format!("{}: {error}", command.get_program().to_string_lossy()))
    })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if ended.status.success() {
        return Ok(text(&ended.stdout));
    }
    let program = command.get_program().to_string_lossy().into_owned();
    let both = format!("{} {}", text(&ended.stdout), text(&ended.stderr));
    Err(io::Error::other(format!("{program}: {}: {}", ended.status, both.trim())))
}

/// Why no volume can be had here, if so.
#[must_use]
pub fn refusal() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let effective = user.and_then(|ids| ids.split_whitespace().nth(1));
    if effective != Some("0") {
        return Some("mounting needs root".to_owned());
    }
    for path in ["/dev/fuse", "/dev/loop-control"] {
        if let Err(error) = OpenOptions::new().read(true).write(true).open(path) {
            return Some(format!("{path}: {error}"));
        }
    }
    for name in ["mkfs.ext4", "e2fsck", "losetup", "mount", "umount", "unshare"] {
        let is_file = |path: &Path| File::open(path).is_ok();
        if !is_file(Path::new(tool(name).0.get_program())) {
            return Some(format!("there is no {name}"));
        }
    }
    let mut unshare = tool("unshare");
    unshare.args(["--mount", "--propagation", "private", "true"]);
    unshare.said().err().map(|error| format!("no mounts of one's own: {error}"))
}

/// The command, in a mount namespace of its own: all that it mounts ends with it.
#[must_use]
pub fn in_own_namespace(program: &Path) -> Command {
    let mut unshare = tool("unshare");
    unshare.args(["--mount", "--propagation", "private", "--"]).arg(program);
    unshare.0
}
