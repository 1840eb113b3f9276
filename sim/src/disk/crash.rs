//! What a crash leaves of a disk.
//!
//! | | process crash | crash of the operating system | power cut |
//! |---|---|---|---|
//! | write in flight | each block old or new | each block old or new | each sector old, new or torn |
//! | dirty block | stays | old or new | each sector old, new or torn |
//! | dirty block, lied about | stays | stays | each sector old, new or torn |
//! | orphaned block | stays | old | old |
//! | names not synced | stay | some of the changes are kept, see [`NameOrder`] | the same |
//! | lengths not synced | stay | a prefix of the changes is kept | the same |
//! | names and lengths, lied about | stay | stay | as if not synced |
//!
//! A **torn** sector holds the beginning of the new bytes and the rest of the old, or garbage, or
//! its block cannot be read at all. Each crash has a mood, from losing nothing to losing all,
//! because the extremes find bugs that an even mix seldom shows. Overlapping writes in flight fall
//! in the order of their submission.
//!
//! To a disk with power-loss protection a power cut is what a crash of the operating system is: its
//! cache is as good as media, and what was still above it in the system's memory is lost whole. Of
//! a write in flight it keeps any sectors, each old or new and none torn.

use woodchuck_io::Durability;
use woodchuck_io::limits::BLOCK_BYTES;

use super::file::{Reach, bytes_of};
use super::namespace::{Inode, InodeNumber};
use super::profile::NameOrder;
use super::{DiskState, Request};
use crate::choice::scramble;
use crate::fault_kind::FaultKind;
use crate::kernel::Kernel;
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
    /// Whether the disk's own cache is lost.
    cache_lost: bool,
    mood: Mood,
    /// Whether a write in flight is cut between its sectors.
    flight_torn: bool,
    torn: bool,
    unreadable: bool,
    sector: usize,
    node: u32,
}

impl Fate {
    fn draw(crash: Crash, disk: &mut DiskState, kernel: &mut Kernel) -> Self {
        let node = disk.node();
        let mood = match kernel.choose(Site::CrashMood, node, 6) {
            0 => Mood::Kept,
            1 => Mood::Lost,
            2 => Mood::Mixed(1),
            3 => Mood::Mixed(15),
            _ => Mood::Mixed(8),
        };
        let power = crash == Crash::Power;
        let cache_lost = power && !disk.profile.power_loss_protection;
        Self {
            cache_lost,
            mood,
            flight_torn: power,
            torn: cache_lost && kernel.faults.disk.torn_sectors > 0,
            unreadable: cache_lost && kernel.faults.disk.unreadable_blocks > 0,
            sector: if power { disk.sector_bytes(node, kernel) } else { BLOCK_BYTES },
            node,
        }
    }

    /// What is left where `old` was on media and `new` was to be. `parts` says whether it may be
    /// some sectors of each.
    fn settle(&self, old: &[u8], new: &[u8], parts: bool, kernel: &mut Kernel) -> Settled {
        let lost_in_sixteen = match self.mood {
            Mood::Kept => return Settled::New,
            Mood::Lost => 16,
            Mood::Mixed(lost) => lost,
        };
        if lost_in_sixteen == 16 {
            return Settled::Old;
        }
        let drawn = kernel.choose(Site::CrashBlock, self.node, 1 << 32);
        let whole = scramble(drawn) & 1 == 0 || !parts;
        if drawn == 0 || whole {
            let lost = drawn != 0 && scramble(drawn ^ 0xB10C) % 16 < lost_in_sixteen;
            return if lost { Settled::Old } else { Settled::New };
        }
        if self.unreadable && scramble(drawn ^ 0xBAD).is_multiple_of(16) {
            return Settled::Unreadable;
        }
        let mut mixed = old.to_vec();
        for sector in (0..BLOCK_BYTES).step_by(self.sector) {
            let bits = scramble(drawn << 16 | sector as u64);
            let place = sector..sector + self.sector;
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
                let kept = (bits >> 16) as usize % self.sector;
                sector[..kept].copy_from_slice(&new[..kept]);
                FaultKind::ShornSector
            } else {
                for (index, byte) in sector.iter_mut().enumerate() {
                    *byte = scramble(bits ^ index as u64) as u8;
                }
                FaultKind::GarbageSector
            }
        } else if bits % 16 < lost_in_sixteen {
            if self.sector == BLOCK_BYTES { FaultKind::LostBlock } else { FaultKind::LostSector }
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
    /// Neither, and nobody can tell.
    Unreadable,
}

impl DiskState {
    /// Loses what a crash may lose. Nothing is in flight afterwards.
    pub(crate) fn crash(&mut self, crash: Crash, kernel: &mut Kernel) {
        let fate = Fate::draw(crash, self, kernel);
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
            self.rest(false);
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
        self.rest(crash == Crash::Power);
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
            match fate.settle(old, block, false, kernel) {
                Settled::New => {
                    self.write_block(inode, index, block, reach, fate.node, kernel);
                    kernel.statistics.faults[FaultKind::UnacknowledgedWrite as usize] += 1;
                }
                Settled::Old | Settled::Mixed(_) | Settled::Unreadable => {
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
            let settled = fate.settle(old, block, fate.flight_torn, kernel);
            let kind = match settled {
                Settled::Old => FaultKind::InFlightLost,
                Settled::Unreadable => FaultKind::UnreadableBlock,
                Settled::New | Settled::Mixed(_) => FaultKind::UnacknowledgedWrite,
            };
            kernel.statistics.faults[kind as usize] += 1;
            match settled {
                Settled::Old => {}
                Settled::New => {
                    self.write_block(inode, index, block, Reach::Media, fate.node, kernel);
                }
                Settled::Mixed(bytes) => {
                    self.write_block(inode, index, &bytes, Reach::Media, fate.node, kernel);
                }
                Settled::Unreadable => {
                    self.write_block(inode, index, block, Reach::Media, fate.node, kernel);
                    self.names.file_mut(inode).broken.insert(index);
                }
            }
        }
    }

    /// Decides which names that were not synced are on media.
    fn lose_names(&mut self, fate: &Fate, kernel: &mut Kernel) {
        let uncommitted = self.names.uncommitted();
        let mut kept = vec![true; uncommitted];
        let order =
            if uncommitted > 1 { self.name_order(fate.node, kernel) } else { NameOrder::Prefix };
        match order {
            NameOrder::Prefix => {
                let drawn = kernel.choose(Site::CrashNames, fate.node, uncommitted as u64 + 1);
                kept[uncommitted - drawn as usize..].fill(false);
            }
            NameOrder::Any => {
                let drawn = kernel.choose(Site::CrashNameSet, fate.node, 1 << 32);
                for (index, kept) in kept.iter_mut().enumerate() {
                    *kept = drawn == 0 || scramble(drawn << 24 ^ index as u64) & 1 == 0;
                }
            }
        }
        let lied = self.names.lied();
        if !fate.cache_lost
            && let Some(last) = lied.iter().rposition(|&lied| lied)
        {
            // All that these build on was said to be on media with them.
            let saved = |index: usize| order == NameOrder::Prefix || lied[index];
            (0..=last).filter(|&index| saved(index)).for_each(|index| kept[index] = true);
        }
        self.names.respect_order(&mut kept);
        for (_, lied) in kept.iter().zip(lied).filter(|(kept, _)| !**kept) {
            let kind = if lied { FaultKind::LyingFlush } else { FaultKind::LostName };
            kernel.statistics.faults[kind as usize] += 1;
        }
        self.names.crash(&kept);
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
        let mut kept = pending - lost;
        if !fate.cache_lost {
            kept = kept.max(file.lied_lengths);
        }
        let length = if kept == 0 { file.durable_length } else { file.pending_lengths[kept - 1] };
        if length != file.length {
            let lie = kept < file.lied_lengths;
            let kind = if lie { FaultKind::LyingFlush } else { FaultKind::LostLength };
            kernel.statistics.faults[kind as usize] += 1;
        }
        for index in std::mem::take(&mut file.orphaned) {
            file.revert(index);
        }
        file.lied_lengths = 0;
        let lied = std::mem::take(&mut file.lied);
        for index in std::mem::take(&mut file.dirty) {
            let page = file.pages.get_mut(&index).expect("a dirty block is there");
            let cut_holds = page.cut.take().is_some_and(|change| change < kept);
            let media = page.media.take().expect("a dirty block has an older version on media");
            let said = lied.contains(&index);
            if said && !fate.cache_lost {
                file.broken.remove(&index);
                continue;
            }
            let old = if cut_holds { None } else { media };
            // A cut that nothing was written over is a change of the length: no sector is torn.
            let parts = fate.cache_lost && page.data.is_some();
            let settled = fate.settle(bytes_of(&old), bytes_of(&page.data), parts, kernel);
            let mut count = |kind: FaultKind| {
                let kind = if said { FaultKind::LyingFlush } else { kind };
                kernel.statistics.faults[kind as usize] += 1;
            };
            match settled {
                Settled::Old => {
                    if bytes_of(&old) != bytes_of(&page.data) {
                        count(FaultKind::LostBlock);
                    }
                    page.data = old;
                    continue;
                }
                Settled::Unreadable => {
                    count(FaultKind::UnreadableBlock);
                    file.broken.insert(index);
                    continue;
                }
                Settled::New => {}
                Settled::Mixed(bytes) => {
                    if said && bytes != bytes_of(&page.data) {
                        count(FaultKind::LyingFlush);
                    }
                    page.data = Some(bytes.into_boxed_slice());
                }
            }
            file.broken.remove(&index);
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
        file.broken.split_off(&end);
        file.reserved = file.reserved.min(end);
        file.charged = file.reserved + file.written_beyond_reserved(end);
    }
}
