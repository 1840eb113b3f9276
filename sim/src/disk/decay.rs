//! What a disk does to data without a word: it rots, it breaks, it writes and reads elsewhere, it
//! forgets, and it lies.
//!
//! Rot and latent errors come to blocks on media that nothing newer hides. A misdirected write
//! changes what the media holds elsewhere and leaves its own place as it was; the length of its file
//! and the space it takes are the file system's, and change as they should.

use woodchuck_io::Buffer;
use woodchuck_io::limits::BLOCK_BYTES;

use super::DiskState;
use super::file::{Reach, bytes_of};
use super::namespace::{Inode, InodeNumber};
use super::timing::log_uniform;
use crate::choice::scramble;
use crate::fault_kind::FaultKind;
use crate::kernel::Kernel;
use crate::limits::{BURST_BYTES, DISK_LYING_PERIOD, LATENT_CLUSTER_BLOCKS};
use crate::site::Site;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// A block of a file.
pub(super) type Place = (InodeNumber, u64);

/// Something that a test wants to go wrong with the next read or write of a place.
pub(super) struct Aim {
    pub(super) place: String,
    pub(super) astray: Aimed,
}

/// What shall go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aimed {
    /// A read reads there.
    Read(Place),
    /// A write lands there.
    Write(Place),
    /// A write is acknowledged and not done.
    Lost,
}

/// Where a write goes that does not go where it should.
#[derive(Clone, Copy)]
pub(super) enum Astray {
    Nowhere,
    To(Place),
}

/// The lies of a disk about its flushes.
#[derive(Default)]
pub(super) struct Lies {
    /// Until a test says otherwise.
    pub(super) asked: bool,
    pub(super) until: u64,
}

impl DiskState {
    /// Whether something happens to the media before the next operation does.
    pub(super) fn decay(&mut self, node: u32, kernel: &mut Kernel) {
        if kernel.chance(Site::LatentError, node, kernel.faults.disk.latent_error) {
            let drawn = kernel.choose(Site::LatentErrorPlace, node, 1 << 32);
            self.break_cluster(scramble(drawn));
        }
        if kernel.chance(Site::BitRot, node, kernel.faults.disk.bit_rot) {
            let drawn = kernel.choose(Site::BitRotPlace, node, 1 << 32);
            let extent = kernel.choose(Site::BitRotExtent, node, 3);
            self.rot(scramble(drawn), extent, node, kernel);
        }
        if kernel.chance(Site::LyingPeriod, node, kernel.faults.disk.lying_period) {
            let drawn = kernel.choose(Site::LyingPeriodLength, node, 1 << 32);
            self.lies.until = kernel.now + log_uniform(drawn, DISK_LYING_PERIOD);
        }
    }

    /// A block that was written once, drawn evenly from all of the disk.
    fn written_block(&self, bits: u64) -> Option<Place> {
        let pages = |inode: &Inode| match inode {
            Inode::File(file) => file.pages.len() as u64,
            Inode::Directory(_) => 0,
        };
        let total: u64 = self.names.inodes.values().map(pages).sum();
        let mut index = bits.checked_rem(total)?;
        for (&number, inode) in &self.names.inodes {
            if index < pages(inode) {
                let file = self.names.file(number);
                return file.pages.keys().nth(index as usize).map(|&block| (number, block));
            }
            index -= pages(inode);
        }
        None
    }

    /// A few neighbouring blocks cannot be read any more.
    fn break_cluster(&mut self, bits: u64) {
        let Some((inode, first)) = self.written_block(bits) else { return };
        let file = self.names.file_mut(inode);
        let end = first + 1 + (bits >> 32) % LATENT_CLUSTER_BLOCKS;
        let clean = file.pages.range(first..end).filter(|(_, page)| page.media.is_none());
        file.broken.extend(clean.map(|(&index, _)| index));
    }

    /// A bit, a burst of bytes or a sector changes.
    fn rot(&mut self, bits: u64, extent: u64, node: u32, kernel: &mut Kernel) {
        let Some((inode, index)) = self.written_block(bits) else { return };
        let sector = self.sector_bytes(node, kernel);
        let page = self.names.file_mut(inode).pages.get_mut(&index).expect("it was written");
        if page.media.is_some() {
            return;
        }
        let bits = scramble(bits);
        let at = bits as usize % BLOCK_BYTES;
        let mut bytes = bytes_of(&page.data).to_vec();
        let garbage = match extent {
            0 => {
                bytes[at] ^= 1 << (bits >> 32 & 7);
                0..0
            }
            1 => at..(at + 2 + (bits >> 32) as usize % BURST_BYTES).min(BLOCK_BYTES),
            _ => at / sector * sector..(at / sector + 1) * sector,
        };
        for place in garbage {
            bytes[place] = scramble(bits ^ place as u64) as u8;
        }
        if bytes_of(&page.data) != bytes {
            page.data = Some(bytes.into_boxed_slice());
            kernel.fault(FaultKind::BitRot, node, "bytes changed by themselves");
        }
    }

    /// Takes what a test aimed at this file, if it is of the right kind.
    fn take_aimed(&mut self, inode: InodeNumber, fits: impl Fn(Aimed) -> bool) -> Option<Aimed> {
        let mut aims = self.aims.iter();
        let index = aims.position(|aim| fits(aim.astray) && self.is_at(inode, &aim.place))?;
        Some(self.aims.remove(index).astray)
    }

    /// A read may find itself elsewhere. `buffer` holds what it should have read.
    pub(super) fn misdirect_read(
        &mut self,
        inode: InodeNumber,
        buffer: &mut Buffer,
        node: u32,
        kernel: &mut Kernel,
    ) {
        let mut place = None;
        if !self.aims.is_empty() {
            place = match self.take_aimed(inode, |aimed| matches!(aimed, Aimed::Read(_))) {
                Some(Aimed::Read(place)) => Some(place),
                _ => None,
            };
        }
        if kernel.chance(Site::MisdirectedRead, node, kernel.faults.disk.misdirected_read) {
            let drawn = kernel.choose(Site::MisdirectedReadPlace, node, 1 << 32);
            place = place.or(self.written_block(scramble(drawn)));
        }
        let Some((other, first)) = place else { return };
        let Some(Inode::File(file)) = self.names.inodes.get(&other) else { return };
        let mut changed = false;
        for (index, part) in (first..).zip(buffer.chunks_mut(BLOCK_BYTES)) {
            let there = &file.on_media(index)[..part.len()];
            changed |= part != there;
            part.copy_from_slice(there);
        }
        if changed {
            kernel.fault(FaultKind::MisdirectedRead, node, "read from elsewhere");
        }
    }

    /// Whether a write goes elsewhere or nowhere.
    pub(super) fn leads_astray(
        &mut self,
        own: Place,
        node: u32,
        kernel: &mut Kernel,
    ) -> Option<Astray> {
        if !self.aims.is_empty() {
            match self.take_aimed(own.0, |aimed| !matches!(aimed, Aimed::Read(_))) {
                Some(Aimed::Write(place)) => return Some(Astray::To(place)),
                Some(Aimed::Lost) => return Some(Astray::Nowhere),
                Some(Aimed::Read(_)) | None => {}
            }
        }
        if kernel.chance(Site::LostWrite, node, kernel.faults.disk.lost_write) {
            return Some(Astray::Nowhere);
        }
        if !kernel.chance(Site::MisdirectedWrite, node, kernel.faults.disk.misdirected_write) {
            return None;
        }
        let drawn = kernel.choose(Site::MisdirectedWritePlace, node, 1 << 32);
        let place = self.written_block(scramble(drawn))?;
        (place != own).then_some(Astray::To(place))
    }

    /// One block of a write that goes astray. Its own place is as before, and takes its space.
    pub(super) fn write_astray(
        &mut self,
        own: Place,
        bytes: &[u8],
        reach: Reach,
        astray: Option<Place>,
    ) -> Strayed {
        let (inode, index) = own;
        let file = self.names.file(inode);
        let new = index >= file.reserved && !file.pages.contains_key(&index);
        if new && !self.charge(1) {
            return Strayed::NoRoom;
        }
        let file = self.names.file_mut(inode);
        file.charged += u64::from(new);
        file.pages.entry(index).or_default();
        file.extend_for_write((index + 1) * BLOCK, reach);
        let mut changed = file.visible(index) != bytes;
        if let Some((other, block)) = astray
            && let Some(Inode::File(file)) = self.names.inodes.get_mut(&other)
        {
            changed |= file.replace_on_media(block, bytes);
        }
        if changed { Strayed::Changed } else { Strayed::Unnoticed }
    }

    /// Whether the device lies about a flush now.
    pub(super) fn lies(&self, node: u32, kernel: &mut Kernel) -> bool {
        self.lies.asked
            || kernel.now < self.lies.until
            || kernel.chance(Site::LyingFlush, node, kernel.faults.disk.lying_flush)
    }
}

/// What came of one block of a write that went astray.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strayed {
    NoRoom,
    /// Some place holds other bytes than it should.
    Changed,
    /// All places hold what they should, by chance.
    Unnoticed,
}
