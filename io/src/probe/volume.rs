//! What a directory lies on.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::native::calls::{self, check, during};

/// What a directory lies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// The filesystem's type, such as `ext4`; `unknown` if the kernel does not say.
    pub filesystem: String,
    /// What is mounted: a device's path, or whatever the filesystem calls it. Empty if not known.
    pub device: String,
    /// Where it is mounted. Empty if not known.
    pub mount_point: String,
    /// How it is mounted: the mount's options, then the filesystem's. Empty if not known.
    pub mount_options: String,
    /// Bytes it can hold.
    pub total_bytes: u64,
    /// Bytes that this process may still use.
    pub available_bytes: u64,
    /// What the kernel says of the device; none if there is none, or it cannot be found.
    pub block_device: Option<BlockDevice>,
}

/// What the kernel says of a block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockDevice {
    /// Whether it has a volatile cache. If not, the kernel never sends it a flush.
    pub volatile_cache: bool,
    /// Whether a single write can be made durable without a flush of everything (FUA).
    pub force_unit_access: bool,
    /// Whether it rotates.
    pub rotational: bool,
    /// Bytes of its smallest unit of addressing.
    pub logical_block_bytes: u64,
}

/// Looks at what a directory lies on.
///
/// # Errors
/// `NotFound` if there is no such path, `NotADirectory` if it is something else, and whatever the
/// kernel answers.
pub fn volume(directory: &Path) -> io::Result<Volume> {
    let failed = |error| during(format_args!("looking at {}", directory.display()))(error);
    let path = fs::canonicalize(directory).map_err(failed)?;
    if !fs::metadata(&path).map_err(failed)?.is_dir() {
        return Err(failed(io::Error::from(io::ErrorKind::NotADirectory)));
    }
    let (total_bytes, available_bytes) = space(&path).map_err(failed)?;
    let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mounts: Vec<Mount> =
        String::from_utf8_lossy(&mounts).lines().filter_map(Mount::parse).collect();
    let by_id = mount_id(&path).and_then(|id| mounts.iter().find(|mount| mount.id == id));
    let mount = by_id.or_else(|| nearest(&mounts, &path)).cloned().unwrap_or_default();
    Ok(Volume {
        block_device: block_device(&mount),
        filesystem: mount.filesystem,
        device: mount.device,
        mount_point: mount.point,
        mount_options: mount.options,
        total_bytes,
        available_bytes,
    })
}

/// Bytes in all, and bytes that are free to this process.
fn space(path: &Path) -> io::Result<(u64, u64)> {
    let path = calls::c_path(path)?;
    let mut status = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY:
    // 1. `path` is a C string that lives until the call returns.
    // 2. `status` is writable and as large as the call wants it.
    check(unsafe { libc::statvfs(path.as_ptr(), status.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it filled `status`.
    let status = unsafe { status.assume_init() };
    let bytes = |blocks: u64| blocks.saturating_mul(status.f_frsize);
    Ok((bytes(status.f_blocks), bytes(status.f_bavail)))
}

/// The number of the mount that a path is on. None on kernels before 5.8.
fn mount_id(path: &Path) -> Option<u64> {
    let path = calls::c_path(path).ok()?;
    let mut status = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY:
    // 1. `path` is a C string that lives until the call returns.
    // 2. `status` is writable and as large as the call wants it.
    let result = unsafe {
        libc::statx(libc::AT_FDCWD, path.as_ptr(), 0, libc::STATX_MNT_ID, status.as_mut_ptr())
    };
    check(result).ok()?;
    // SAFETY: it is integers, which were zeros at first and may have been filled since.
    let status = unsafe { status.assume_init() };
    (status.stx_mask & libc::STATX_MNT_ID != 0).then_some(status.stx_mnt_id)
}

/// A line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    id: u64,
    /// Major and minor number of the device, as `8:1`. On some filesystems it is no block device.
    numbers: String,
    point: String,
    options: String,
    filesystem: String,
    device: String,
}

impl Default for Mount {
    fn default() -> Self {
        Self {
            id: 0,
            numbers: String::new(),
            point: String::new(),
            options: String::new(),
            filesystem: "unknown".to_owned(),
            device: String::new(),
        }
    }
}

impl Mount {
    /// The fields are: id, parent's id, device numbers, root, mount point, options, any number of
    /// optional fields, a dash, filesystem, source, the filesystem's options.
    fn parse(line: &str) -> Option<Self> {
        let (mount, volume) = line.split_once(" - ")?;
        let mut mount = mount.split(' ');
        let mut volume = volume.split(' ');
        let id = mount.next()?.parse().ok()?;
        let numbers = mount.nth(1)?.to_owned();
        let point = unescape(mount.nth(1)?);
        let options = mount.next()?;
        let (filesystem, device) = (volume.next()?.to_owned(), unescape(volume.next()?));
        let options = match volume.next() {
            Some(own) => format!("{options},{own}"),
            None => options.to_owned(),
        };
        Some(Self { id, numbers, point, options, filesystem, device })
    }
}

/// Text in which spaces, tabs, newlines and backslashes stand as three octal digits.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match byte {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = &after[3..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The mount whose point is nearest above a path. Of several on one point, the last hides the
/// others.
fn nearest<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| Path::new(&mount.point).as_os_str().as_bytes().len())
}

/// What the kernel says of the device that is mounted.
fn block_device(mount: &Mount) -> Option<BlockDevice> {
    let source = fs::metadata(&mount.device).ok();
    let source = source
        .filter(|status| status.file_type().is_block_device())
        .map(|status| format!("{}:{}", libc::major(status.rdev()), libc::minor(status.rdev())));
    let device = PathBuf::from("/sys/dev/block").join(source.as_ref().unwrap_or(&mount.numbers));
    // A partition's queue is its disk's.
    let queue = [device.join("queue"), device.join("../queue")];
    let queue = queue.iter().find(|queue| queue.is_dir())?;
    let read = |name: &str| {
        let text = fs::read_to_string(queue.join(name)).ok()?;
        Some(text.trim().to_owned())
    };
    Some(BlockDevice {
        volatile_cache: read("write_cache")? == "write back",
        force_unit_access: read("fua").is_some_and(|fua| fua == "1"),
        rotational: read("rotational").is_some_and(|rotational| rotational == "1"),
        logical_block_bytes: read("logical_block_size").and_then(|size| size.parse().ok())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard
30 22 0:25 / /mnt/with\\040space rw - btrfs /dev/disk\\134x rw,space_cache
31 22 0:26 / /mnt rw,nosuid - tmpfs tmpfs rw,size=1024k
32 22 0:27 / /mnt rw - xfs /dev/sdb rw
not a mount
";

    fn mounts() -> Vec<Mount> {
        MOUNTS.lines().filter_map(Mount::parse).collect()
    }

    #[test]
    fn mounts_are_read() {
        let mounts = mounts();
        assert_eq!(mounts.len(), 4);
        assert_eq!((mounts[0].id, &*mounts[0].numbers, &*mounts[0].point), (22, "254:0", "/"));
        assert_eq!((&*mounts[0].filesystem, &*mounts[0].device), ("ext4", "/dev/vda"));
        assert_eq!(mounts[0].options, "rw,relatime,rw,discard");
        assert_eq!((&*mounts[1].point, &*mounts[1].device), ("/mnt/with space", "/dev/disk\\x"));
        assert_eq!(unescape("a\\04"), "a\\04");
    }

    #[test]
    fn the_nearest_mount_is_the_last_of_the_longest() {
        let mounts = mounts();
        let id = |path: &str| nearest(&mounts, Path::new(path)).map(|mount| mount.id);
        assert_eq!(id("/home"), Some(22));
        assert_eq!(id("/mnt/x"), Some(32));
        assert_eq!(id("/mntx"), Some(22));
        assert_eq!(id("/mnt/with space/x"), Some(30));
    }

    #[test]
    fn the_volume_of_a_directory_is_found() {
        let volume = volume(Path::new("/")).expect("it is there");
        assert_ne!(volume.filesystem, "unknown");
        assert_eq!(volume.mount_point, "/");
        assert!(volume.total_bytes >= volume.available_bytes && volume.total_bytes > 0);
    }

    #[test]
    fn what_is_no_directory_is_refused() {
        let kind = |path: &str| volume(Path::new(path)).expect_err("no directory").kind();
        assert_eq!(kind("/no/such/directory"), io::ErrorKind::NotFound);
        assert_eq!(kind("/proc/self/status"), io::ErrorKind::NotADirectory);
    }
}
