//! What a test or a plan may do to a disk as a whole, and failures aimed at one place of it.
//!
//! A **place** is a path as from the root, or the beginning of one; or, without a slash in front,
//! the end of one: `/log/` names all that lies in that directory, `.segment` all files that end so.

use std::io;
use std::path::Path;
use std::time::Duration;

use woodchuck_io::limits::BLOCK_BYTES;

use super::decay::{Aim, Aimed, Lies, Place};
use super::errors::AskedError;
use super::namespace::Namespace;
use super::profile::{DiskProfile, NameOrder};
use super::{DiskInspector, DiskOperation, DiskState};
use crate::kernel::Kernel;
use crate::machine::MachineId;
use crate::site::Site;
use crate::world::World;

const BLOCK: u64 = BLOCK_BYTES as u64;

impl World {
    /// Gives a machine a disk of this kind. What the disk holds stays.
    ///
    /// # Panics
    /// If there is no such disk: see [`DiskProfile`].
    pub fn set_disk(&self, machine: MachineId, profile: DiskProfile) {
        profile.check();
        self.disk(machine).with(|disk| {
            disk.capacity = profile.capacity;
            disk.profile = profile;
        });
    }

    /// Gives a machine a disk of a kind that is drawn from the seed, and says which.
    pub fn draw_disk(&self, machine: MachineId) -> DiskProfile {
        let node = crate::kernel::node_of(machine.0, 0);
        let kinds = DiskProfile::ALL;
        let drawn = self.choose(Site::DiskProfile, node, kinds.len() as u64);
        let profile = kinds[drawn as usize].clone();
        self.set_disk(machine, profile.clone());
        profile
    }

    /// The kind of disk a machine has, with what was drawn of it so far.
    #[must_use]
    pub fn disk_profile(&self, machine: MachineId) -> DiskProfile {
        self.disk(machine).with(|disk| disk.profile.clone())
    }

    /// Takes all content and all names off a machine's disk, as a new disk of the same kind.
    ///
    /// # Panics
    /// If the machine runs a process: its open files would be of a disk that is gone.
    pub fn wipe_disk(&self, machine: MachineId) {
        assert!(!self.is_running(machine), "a disk is not wiped under a running process");
        self.disk(machine).with(DiskState::wipe);
    }
}

impl DiskState {
    /// All content and all names are gone, and so is all that fails for good. Nothing may be in
    /// flight.
    pub(crate) fn wipe(&mut self) {
        assert!(self.operations.keys().is_empty(), "a disk is wiped while nothing is in flight");
        self.names = Namespace::default();
        self.locks.clear();
        self.aims.clear();
        self.lies = Lies::default();
        self.used = 0;
        self.unswept = 0;
        self.heal_sticky();
        self.rest(true);
    }

    /// The size of its sectors; drawn when first asked for, if the profile does not say.
    pub(super) fn sector_bytes(&mut self, node: u32, kernel: &mut Kernel) -> usize {
        *self.profile.sector_bytes.get_or_insert_with(|| {
            if kernel.choose(Site::DiskSector, node, 4) < 3 { 512 } else { 4096 }
        })
    }

    /// The order in which its names reach the media; drawn when first asked for, if the profile
    /// does not say.
    pub(super) fn name_order(&mut self, node: u32, kernel: &mut Kernel) -> NameOrder {
        *self.profile.name_order.get_or_insert_with(|| {
            let prefix = kernel.choose(Site::DiskNameOrder, node, 2) == 0;
            if prefix { NameOrder::Prefix } else { NameOrder::Any }
        })
    }

    /// The block of a file at an offset, for a test that names it.
    fn place(&self, path: &str, offset: u64) -> Place {
        let inode = self.names.resolve(Path::new(path));
        let inode = inode.unwrap_or_else(|error| panic!("no file to aim at: {error}"));
        assert!(offset.is_multiple_of(BLOCK), "{offset} is no block's offset");
        (inode, offset / BLOCK)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

impl DiskInspector {
    /// Makes the next `count` operations of a kind that are about a place fail, as
    /// [`fail_next`](Self::fail_next) does wherever they are.
    pub fn fail_next_at(&self, kind: DiskOperation, place: &str, count: u32, error: io::ErrorKind) {
        if count > 0 {
            let place = Some(place.to_owned());
            let asked = AskedError { kind, place, remaining: count, error };
            self.with(|disk| disk.asked_errors.push(asked));
        }
    }

    /// Makes every operation about a place fail until [`heal`](Self::heal).
    pub fn fail_place(&self, place: &str) {
        self.with(|disk| disk.sticky.places.push(place.to_owned()));
    }

    /// Makes every operation fail until [`heal`](Self::heal).
    pub fn fail_disk(&self) {
        self.with(|disk| disk.sticky.disk = true);
    }

    /// Ends all that goes on until it is ended: failing places and disks, whoever began them, lies
    /// about flushes, slow periods and stalls. Blocks that are broken stay so until they are
    /// written.
    pub fn heal(&self) {
        self.with_kernel(|disk, kernel| {
            disk.heal_sticky();
            disk.lies = Lies::default();
            disk.recover(kernel);
        });
    }

    /// Lets the next write to a file of this place land at `offset` of `path` instead, as far as
    /// blocks are written there. It is acknowledged, and its own place stays as it was.
    ///
    /// # Panics
    /// If there is no file at `path`, or `offset` is not a block's.
    pub fn misdirect_next_write(&self, place: &str, path: &str, offset: u64) {
        self.aim(place, |disk| Aimed::Write(disk.place(path, offset)));
    }

    /// Lets the next read of a file of this place return what the media holds at `offset` of
    /// `path`.
    ///
    /// # Panics
    /// If there is no file at `path`, or `offset` is not a block's.
    pub fn misdirect_next_read(&self, place: &str, path: &str, offset: u64) {
        self.aim(place, |disk| Aimed::Read(disk.place(path, offset)));
    }

    /// Lets the next write to a file of this place be acknowledged and never done.
    pub fn lose_next_write(&self, place: &str) {
        self.aim(place, |_| Aimed::Lost);
    }

    fn aim(&self, place: &str, astray: impl FnOnce(&DiskState) -> Aimed) {
        self.with(|disk| {
            let astray = astray(disk);
            disk.aims.push(Aim { place: place.to_owned(), astray });
        });
    }

    /// Lets the disk lie about flushes from now on, or no more: durable writes and syncs succeed,
    /// and what they should have made durable may be lost at a power cut, until an honest sync of
    /// the same file or directory.
    pub fn lie_about_flushes(&self, lie: bool) {
        self.with(|disk| disk.lies = Lies { asked: lie, until: 0 });
    }

    /// Lets the disk complete nothing for so long.
    pub fn stall(&self, duration: Duration) {
        self.with_kernel(|disk, kernel| disk.stall(kernel.now.saturating_add(nanos(duration))));
    }

    /// Makes operations that are submitted from now on take `factor` times longer, for so long.
    pub fn slow_down(&self, factor: u32, duration: Duration) {
        self.with_kernel(|disk, kernel| {
            let until = kernel.now.saturating_add(nanos(duration));
            disk.slow_down(until, u64::from(factor.max(1)));
        });
    }

    /// Fills the disk up to so many free blocks.
    pub fn fill(&self, free_blocks: u64) {
        self.set_free_space(free_blocks * BLOCK);
    }
}
