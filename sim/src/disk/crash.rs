//! What a crash leaves of a disk.
//!
//! | | process crash | crash of the operating system | power cut |
//! |---|---|---|---|
//! | write in flight | each block old or new | each block old or new | each sector old, new or torn |
//! | dirty block | stays | old or new | each sector old, new or torn |
//! | orphaned block | stays | old | old |
//! | names not synced | stay | a prefix of the changes is kept | the same |
//! | lengths not synced | stay | a prefix of the changes is kept | the same |
//!
//! A **torn** sector holds the beginning of the new bytes and the rest of the old, or garbage. Each
//! crash has a mood, from losing nothing to losing all, because the extremes find bugs that an even
//! mix seldom shows. Overlapping writes in flight fall in the order of their submission.

use woodchuck_io::Durability;
use woodchuck_io::limits::BLOCK_BYTES;

use super::file::{Reach, bytes_of};
use super::namespace::{Inode, InodeNumber};
use super::{DiskState, Request};
use crate::choice::scramble;
use crate::fault_kind::FaultKind;
use crate::kernel::Kernel;
use crate::limits::SECTOR_BYTES;
use crate::site::Site;
use crate::slab::Key;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// What crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// One process.
    Process,
    /// The operating system with all processes.
    OperatingSystem,
    /// The machine.
    Power,
}

/// How much of what may be lost a crash loses.
#[derive(Clone, Copy)]
enum Mood {
    /// Nothing is lost.
    Kept,
    /// All is lost.
    Lost,
    /// So many in sixteen are lost.
    Mixed(u64),
}

/// What decides the fate of one block.
struct Fate {
    crash: Crash,
    mood: Mood,
    torn: bool,
    node: u32,
}

impl Fate {
    fn draw(crash: Crash, node: u32, kernel: &mut Kernel) -> Self {
        let mood = match kernel.choose(Site::CrashMood, node, 6) {
            0 => Mood::Kept,
            1 => Mood::Lost,
            2 => Mood::Mixed(1),
            3 => Mood::Mixed(15),
            _ => Mood::Mixed(8),
        };
        Self {
            crash,
            mood,
            torn: crash == Crash::Power && kernel.faults.disk.torn_sectors > 0,
            node,
        }
    }

    /// What is left where `old` was on media and `new` was to be.
    fn settle(&self, old: &[u8], new: &[u8], kernel: &mut Kernel) -> Settled {
        let lost_in_sixteen = match self.mood {
            Mood::Kept => return Settled::New,
            Mood::Lost => 16,
            Mood::Mixed(lost) => lost,
        };
        if lost_in_sixteen == 16 {
            return Settled::Old;
        }
        let drawn = kernel.choose(Site::CrashBlock, self.node, 1 << 32);
        let whole = scramble(drawn) & 1 == 0 || self.crash != Crash::Power;
        if drawn == 0 || whole {
            let lost = drawn != 0 && scramble(drawn ^ 0xB10C) % 16 < lost_in_sixteen;
            return if lost { Settled::Old } else { Settled::New };
        }
        let mut mixed = old.to_vec();
        for sector in (0..BLOCK_BYTES).step_by(SECTOR_BYTES) {
            let bits = scramble(drawn << 16 | sector as u64);
            let place = sector..sector + SECTOR_BYTES;
            let (old, new) = (&old[place.clone()], &new[place.clone()]);
            self.settle_sector(&mut mixed[place], old, new, bits, lost_in_sixteen, kernel);
        }
        Settled::Mixed(mixed)
    }

    /// One sector of a block of which a power cut left only parts.
    fn settle_sector(
        &self,
        sector: &mut [u8],
        old: &[u8],
        new: &[u8],
        bits: u64,
        lost_in_sixteen: u64,
        kernel: &mut Kernel,
    ) {
        let changed = old != new;
        let kind = if self.torn && bits >> 8 & 0xF == 0 {
            if bits >> 12 & 1 == 0 {
                let kept = (bits >> 16) as usize % SECTOR_BYTES;
                sector[..kept].copy_from_slice(&new[..kept]);
                FaultKind::ShornSector
            } else {
                for (index, byte) in sector.iter_mut().enumerate() {
                    *byte = scramble(bits ^ index as u64) as u8;
                }
                FaultKind::GarbageSector
            }
        } else if bits % 16 < lost_in_sixteen {
            FaultKind::LostSector
        } else {
            sector.copy_from_slice(new);
            return;
        };
        if changed && &*sector != new {
            kernel.statistics.faults[kind as usize] += 1;
        }
    }
}

/// What is left of a block.
enum Settled {
    Old,
    New,
    Mixed(Vec<u8>),
}

impl DiskState {
    /// Loses what a crash may lose. Nothing is in flight afterwards.
    pub(crate) fn crash(&mut self, crash: Crash, kernel: &mut Kernel) {
        let fate = Fate::draw(crash, self.node(), kernel);
        let flying = self.end_flight();
        let mut writes = Vec::new();
        for (request, asked) in flying {
            match request {
                Request::Write { inode, buffer, offset, durability } => {
                    writes.push((inode, buffer, offset, durability));
                }
                Request::Read { .. } | Request::Length { .. } | Request::List { .. } => {}
                request => {
                    if kernel.choose(Site::CrashInFlight, fate.node, 2) == 1 {
                        self.perform(request, asked, fate.node, kernel);
                    }
                }
            }
        }
        if crash == Crash::Process {
            for (inode, buffer, offset, durability) in writes {
                self.write_some_blocks(&fate, inode, &buffer, offset, durability, kernel);
            }
            self.release_all();
            return;
        }
        self.lose_names(&fate, kernel);
        let files: Vec<InodeNumber> = self.names.inodes.keys().copied().collect();
        for inode in files {
            self.settle_file(&fate, inode, kernel);
        }
        for (inode, buffer, offset, _) in writes {
            if matches!(self.names.inodes.get(&inode), Some(Inode::File(_))) {
                self.write_some_sectors(&fate, inode, &buffer, offset, kernel);
            }
        }
        self.release_all();
        self.recount();
    }

    /// Takes all operations off the disk: in the order of their submission, those that have not
    /// happened.
    pub(super) fn end_flight(&mut self) -> Vec<(Request, u64)> {
        let keys: Vec<Key> = self.operations.keys();
        let mut flying = Vec::new();
        for key in keys {
            let request = self.begin_effect(key);
            let operation = self.operations.remove(key).expect("it is there");
            flying.extend(request.map(|request| (request, operation.sequence)));
        }
        flying.sort_by_key(|&(_, sequence)| sequence);
        flying
    }

    /// A process dies with a write in flight: the kernel has done any of its blocks.
    fn write_some_blocks(
        &mut self,
        fate: &Fate,
        inode: InodeNumber,
        bytes: &[u8],
        offset: u64,
        durability: Durability,
        kernel: &mut Kernel,
    ) {
        let reach = match durability {
            Durability::Volatile => Reach::Cache,
            Durability::Durable => Reach::Media,
        };
        for (index, block) in (offset / BLOCK..).zip(bytes.chunks_exact(BLOCK_BYTES)) {
            let old = self.names.file(inode).visible(index);
            match fate.settle(old, block, kernel) {
                Settled::New => {
                    self.write_block(inode, index, block, reach, fate.node, kernel);
                    kernel.statistics.faults[FaultKind::UnacknowledgedWrite as usize] += 1;
                }
                Settled::Old | Settled::Mixed(_) => {
                    kernel.statistics.faults[FaultKind::InFlightLost as usize] += 1;
                }
            }
        }
    }

    /// A machine dies with a write in flight: the media has any of it.
    fn write_some_sectors(
        &mut self,
        fate: &Fate,
        inode: InodeNumber,
        bytes: &[u8],
        offset: u64,
        kernel: &mut Kernel,
    ) {
        for (index, block) in (offset / BLOCK..).zip(bytes.chunks_exact(BLOCK_BYTES)) {
            let old = self.names.file(inode).visible(index);
            let mixed;
            let (bytes, kind) = match fate.settle(old, block, kernel) {
                Settled::Old => {
                    kernel.statistics.faults[FaultKind::InFlightLost as usize] += 1;
                    continue;
                }
                Settled::New => (block, FaultKind::UnacknowledgedWrite),
                Settled::Mixed(bytes) => {
                    mixed = bytes;
                    (&mixed[..], FaultKind::UnacknowledgedWrite)
                }
            };
            kernel.statistics.faults[kind as usize] += 1;
            self.write_block(inode, index, bytes, Reach::Media, fate.node, kernel);
        }
    }

    fn lose_names(&mut self, fate: &Fate, kernel: &mut Kernel) {
        let uncommitted = self.names.uncommitted();
        let lost = kernel.choose(Site::CrashNames, fate.node, uncommitted as u64 + 1) as usize;
        kernel.statistics.faults[FaultKind::LostName as usize] += lost as u64;
        self.names.crash(uncommitted - lost);
    }

    /// Decides what the media holds of a file.
    fn settle_file(&mut self, fate: &Fate, inode: InodeNumber, kernel: &mut Kernel) {
        let Some(Inode::File(file)) = self.names.inodes.get_mut(&inode) else { return };
        let pending = file.pending_lengths.len();
        let lost = if pending == 0 {
            0
        } else {
            kernel.choose(Site::CrashLength, fate.node, pending as u64 + 1) as usize
        };
        let kept = pending - lost;
        let length = if kept == 0 { file.durable_length } else { file.pending_lengths[kept - 1] };
        if length != file.length {
            kernel.statistics.faults[FaultKind::LostLength as usize] += 1;
        }
        for index in std::mem::take(&mut file.orphaned) {
            file.revert(index);
        }
        for index in std::mem::take(&mut file.dirty) {
            let page = file.pages.get_mut(&index).expect("a dirty block is there");
            let cut_holds = page.cut.take().is_some_and(|change| change < kept);
            let media = page.media.take().expect("a dirty block has an older version on media");
            let old = if cut_holds { None } else { media };
            match fate.settle(bytes_of(&old), bytes_of(&page.data), kernel) {
                Settled::New => {}
                Settled::Old => {
                    if bytes_of(&old) != bytes_of(&page.data) {
                        kernel.statistics.faults[FaultKind::LostBlock as usize] += 1;
                    }
                    page.data = old;
                }
                Settled::Mixed(bytes) => page.data = Some(bytes.into_boxed_slice()),
            }
        }
        file.pending_lengths.clear();
        file.length = length;
        file.durable_length = length;
        let end = length.div_ceil(BLOCK);
        file.pages.split_off(&end);
        let tail = (length % BLOCK) as usize;
        if tail > 0
            && let Some(page) = file.pages.get_mut(&(length / BLOCK))
            && let Some(data) = &mut page.data
        {
            data[tail..].fill(0);
        }
        file.reserved = file.reserved.min(end);
        file.charged = file.reserved + file.written_beyond_reserved(end);
    }
}
