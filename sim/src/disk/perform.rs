//! What each operation does when it happens, and what it leaves when it fails.

use std::io;
use std::path::Path;

use woodchuck_io::limits::BLOCK_BYTES;
use woodchuck_io::{Buffer, DirectoryEntry, Durability, OpenMode};

use super::decay::{Astray, Strayed};
use super::file::Reach;
use super::namespace::InodeNumber;
use super::{DiskOperation, DiskState, Outcome, Request};
use crate::choice::scramble;
use crate::fault_kind::FaultKind;
use crate::kernel::Kernel;
use crate::limits::SECTOR_BYTES;
use crate::site::Site;

const BLOCK: u64 = BLOCK_BYTES as u64;

impl DiskState {
    /// Does what was asked. `asked` is when, by the disk's sequence.
    pub(super) fn perform(
        &mut self,
        request: Request,
        asked: u64,
        node: u32,
        kernel: &mut Kernel,
    ) -> Outcome {
        let statistics = &mut kernel.statistics;
        match &request {
            Request::Read { .. } => statistics.disk_reads += 1,
            Request::Write { .. } => statistics.disk_writes += 1,
            Request::Sync { .. } | Request::SyncDirectory { .. } => statistics.disk_syncs += 1,
            _ => statistics.disk_other += 1,
        }
        let sequence = self.next_sequence();
        match request {
            Request::Open { path, mode } => Outcome::Inode(self.open(&path, mode, sequence)),
            Request::CreateDirectory { path } => {
                Outcome::Nothing(self.names.create_directory(&path, sequence))
            }
            Request::Rename { from, to } => {
                let renamed = self.names.rename(&from, &to, sequence);
                Outcome::Nothing(renamed.map(|replaced| {
                    if replaced {
                        self.unlinked();
                    }
                }))
            }
            Request::Link { from, to } => Outcome::Nothing(self.names.link(&from, &to, sequence)),
            Request::RemoveDirectory { path } => {
                let removed = self.names.remove_directory(&path, sequence);
                Outcome::Nothing(removed.map(|()| self.unlinked()))
            }
            Request::Remove { path } => {
                let removed = self.names.remove(&path, sequence);
                Outcome::Nothing(removed.map(|()| self.unlinked()))
            }
            Request::List { path } => Outcome::Names(self.list(&path, node, kernel)),
            Request::SyncDirectory { path } => {
                Outcome::Nothing(self.sync_directory(&path, asked, node, kernel))
            }
            Request::Lock { path } => Outcome::Inode(self.lock(&path, sequence)),
            Request::Read { inode, buffer, offset } => {
                self.read(inode, buffer, offset, node, kernel)
            }
            Request::Write { inode, buffer, offset, durability } => {
                let written = self.write(inode, &buffer, offset, durability, node, kernel);
                Outcome::Written(written, buffer)
            }
            Request::Sync { inode } => {
                if self.lies(node, kernel) {
                    self.names.file_mut(inode).pretend_flush(asked);
                    return Outcome::Nothing(Ok(()));
                }
                let file = self.names.file_mut(inode);
                // 0 covers later writes too; they are none the worse for it.
                file.flush(asked, || kernel.choose(Site::SyncExtra, node, 2) == 0);
                Outcome::Nothing(Ok(()))
            }
            Request::Allocate { inode, length } => {
                Outcome::Nothing(self.allocate(inode, length, node, kernel))
            }
            Request::Truncate { inode, length } => {
                self.truncate(inode, length);
                Outcome::Nothing(Ok(()))
            }
            Request::Length { inode } => Outcome::Length(Ok(self.names.file(inode).length)),
        }
    }

    fn open(&mut self, path: &Path, mode: OpenMode, sequence: u64) -> io::Result<InodeNumber> {
        let inode = match mode {
            OpenMode::CreateNew => self.names.create_file(path, sequence)?,
            OpenMode::Read | OpenMode::Write => self.names.resolve(path)?,
        };
        if self.names.directory(inode).is_some() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        *self.names.open.entry(inode).or_default() += 1;
        Ok(inode)
    }

    fn list(&self, path: &Path, node: u32, kernel: &mut Kernel) -> io::Result<Vec<DirectoryEntry>> {
        let inode = self.names.resolve(path)?;
        let directory = self.names.directory(inode).ok_or(io::ErrorKind::NotADirectory)?;
        let entry = |(name, inode): (&String, &InodeNumber)| DirectoryEntry {
            name: name.clone(),
            is_directory: self.names.directory(*inode).is_some(),
        };
        let mut entries: Vec<DirectoryEntry> = directory.visible.iter().map(entry).collect();
        let order = kernel.choose(Site::ListOrder, node, 1 << 16);
        for last in (1..entries.len()).rev().filter(|_| order > 0) {
            entries.swap(last, (scramble(order << 32 | last as u64) % (last as u64 + 1)) as usize);
        }
        Ok(entries)
    }

    fn sync_directory(
        &mut self,
        path: &Path,
        asked: u64,
        node: u32,
        kernel: &mut Kernel,
    ) -> io::Result<()> {
        let inode = self.names.resolve(path)?;
        self.names.directory(inode).ok_or(io::ErrorKind::NotADirectory)?;
        if self.lies(node, kernel) {
            self.names.pretend_sync(inode, asked);
        } else {
            self.names.sync_directory(inode, asked);
        }
        Ok(())
    }

    pub(super) fn lock(&mut self, path: &Path, sequence: u64) -> io::Result<InodeNumber> {
        let inode = match self.names.resolve(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.names.create_file(path, sequence)?
            }
            found => found?,
        };
        if self.names.directory(inode).is_some() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if self.locks.contains_key(&inode) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.locks.insert(inode, true);
        Ok(inode)
    }

    fn read(
        &mut self,
        inode: InodeNumber,
        mut buffer: Buffer,
        offset: u64,
        node: u32,
        kernel: &mut Kernel,
    ) -> Outcome {
        buffer.resize(0);
        let file = self.names.file(inode);
        let mut wanted = file.length.saturating_sub(offset).min(buffer.capacity() as u64) as usize;
        let there = wanted;
        let blocks = wanted.div_ceil(BLOCK_BYTES) as u64;
        if blocks > 1 && kernel.chance(Site::ShortRead, node, kernel.faults.disk.short_read) {
            let less = 1 + kernel.choose(Site::ShortReadBlocks, node, blocks - 1);
            wanted = less as usize * BLOCK_BYTES;
        }
        if wanted < there {
            kernel.fault(FaultKind::ShortRead, node, "short read");
        }
        let first = offset / BLOCK;
        let indices = first..first + wanted.div_ceil(BLOCK_BYTES) as u64;
        if let Some(index) = file.unreadable(indices.clone()) {
            kernel.fault(FaultKind::LatentError, node, "unreadable block");
            let text = format!("block {index} cannot be read");
            return Outcome::Read(Err(io::Error::other(text)), buffer);
        }
        for index in indices {
            let part = (wanted - buffer.len()).min(BLOCK_BYTES);
            buffer.extend_from_slice(&file.visible(index)[..part]);
        }
        for &write in &file.writes_in_flight {
            if let Some(operation) = self.operations.get(write)
                && let Some(Request::Write { buffer: written, offset: at, .. }) = &operation.request
            {
                race(&mut buffer, offset, written, *at, node, kernel);
            }
        }
        self.misdirect_read(inode, &mut buffer, node, kernel);
        kernel.statistics.disk_bytes_read += wanted as u64;
        Outcome::Read(Ok(wanted), buffer)
    }

    /// Writes a buffer, block by block until there is no room.
    pub(super) fn write(
        &mut self,
        inode: InodeNumber,
        bytes: &[u8],
        offset: u64,
        durability: Durability,
        node: u32,
        kernel: &mut Kernel,
    ) -> io::Result<()> {
        let reach = match durability {
            Durability::Volatile => Reach::Cache,
            Durability::Durable if self.lies(node, kernel) => Reach::Lie,
            Durability::Durable => Reach::Media,
        };
        kernel.statistics.disk_bytes_written += bytes.len() as u64;
        if let Some(astray) = self.leads_astray((inode, offset / BLOCK), node, kernel) {
            return self.write_elsewhere(inode, bytes, offset, reach, astray, node, kernel);
        }
        for (index, block) in (offset / BLOCK..).zip(bytes.chunks_exact(BLOCK_BYTES)) {
            if !self.write_block(inode, index, block, reach, node, kernel) {
                kernel.fault(FaultKind::StorageFull, node, "no room for a write");
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        Ok(())
    }

    /// Writes a buffer where it should not be, block by block until there is no room.
    #[expect(clippy::too_many_arguments, reason = "it is a write, and where that went")]
    fn write_elsewhere(
        &mut self,
        inode: InodeNumber,
        bytes: &[u8],
        offset: u64,
        reach: Reach,
        astray: Astray,
        node: u32,
        kernel: &mut Kernel,
    ) -> io::Result<()> {
        let (kind, note) = match astray {
            Astray::Nowhere => (FaultKind::LostWrite, "write lost"),
            Astray::To(_) => (FaultKind::MisdirectedWrite, "write misdirected"),
        };
        let mut changed = false;
        for (index, block) in bytes.chunks_exact(BLOCK_BYTES).enumerate() {
            let place = match astray {
                Astray::Nowhere => None,
                Astray::To((other, first)) => Some((other, first + index as u64)),
            };
            let own = (inode, offset / BLOCK + index as u64);
            match self.write_astray(own, block, reach, place) {
                Strayed::NoRoom => {
                    kernel.fault(FaultKind::StorageFull, node, "no room for a write");
                    return Err(io::ErrorKind::StorageFull.into());
                }
                strayed => changed |= strayed == Strayed::Changed,
            }
        }
        if changed {
            kernel.fault(kind, node, note);
        }
        Ok(())
    }

    /// Writes one block. False if there is no room for it.
    pub(super) fn write_block(
        &mut self,
        inode: InodeNumber,
        index: u64,
        bytes: &[u8],
        reach: Reach,
        node: u32,
        kernel: &mut Kernel,
    ) -> bool {
        let file = self.names.file(inode);
        let new = index >= file.reserved && !file.pages.contains_key(&index);
        if new && !self.charge(1) {
            return false;
        }
        let sequence = self.next_sequence();
        let file = self.names.file_mut(inode);
        file.charged += u64::from(new);
        // A sync that is under way owes its caller the version that is about to be overwritten.
        let write_back = reach == Reach::Cache
            && file.dirty.contains(&index)
            && (file.syncs_in_flight > 0 || kernel.choose(Site::WriteBack, node, 4) == 1);
        file.write_block(index, bytes, reach, write_back, sequence);
        file.extend_for_write((index + 1) * BLOCK, reach);
        true
    }

    fn allocate(
        &mut self,
        inode: InodeNumber,
        length: u64,
        node: u32,
        kernel: &mut Kernel,
    ) -> io::Result<()> {
        let file = self.names.file(inode);
        let blocks = length.div_ceil(BLOCK);
        if blocks > file.reserved {
            let more = blocks - file.reserved - file.written_beyond_reserved(blocks);
            if !self.charge(more) {
                kernel.fault(FaultKind::StorageFull, node, "no room for an allocation");
                return Err(io::ErrorKind::StorageFull.into());
            }
            let file = self.names.file_mut(inode);
            file.charged += more;
            file.reserved = blocks;
        }
        let file = self.names.file_mut(inode);
        if length > file.length {
            file.set_length(length);
        }
        Ok(())
    }

    fn truncate(&mut self, inode: InodeNumber, length: u64) {
        let file = self.names.file_mut(inode);
        let shrinks = length < file.length;
        file.set_length(length);
        if shrinks {
            let charged = file.reserved + file.written_beyond_reserved(length.div_ceil(BLOCK));
            let given_back = file.charged.saturating_sub(charged);
            file.charged = charged;
            self.used = self.used.saturating_sub(given_back * BLOCK);
        }
    }

    /// Fails an operation, leaving what such a failure may leave.
    pub(super) fn fail(
        &mut self,
        request: Request,
        error: io::ErrorKind,
        node: u32,
        kernel: &mut Kernel,
    ) -> Outcome {
        let error = io::Error::new(error, "the simulated disk failed this operation");
        let kind = request.kind();
        match request {
            Request::Read { mut buffer, .. } => {
                buffer.resize(0);
                Outcome::Read(Err(error), buffer)
            }
            Request::Write { inode, buffer, offset, .. } => {
                for (index, block) in (offset / BLOCK..).zip(buffer.chunks_exact(BLOCK_BYTES)) {
                    if self.sticky.keeps_out(inode, index) {
                        continue;
                    }
                    let reach = match kernel.choose(Site::FailedBlock, node, 4) {
                        0 => continue,
                        1 => Reach::Cache,
                        2 => Reach::Orphan,
                        _ => Reach::Media,
                    };
                    kernel.statistics.faults[FaultKind::UnknownBlock as usize] += 1;
                    self.write_block(inode, index, block, reach, node, kernel);
                }
                Outcome::Written(Err(error), buffer)
            }
            Request::Sync { inode } => {
                self.fail_sync(inode, node, kernel);
                Outcome::Nothing(Err(error))
            }
            Request::List { .. } => Outcome::Names(Err(error)),
            Request::Length { .. } => Outcome::Length(Err(error)),
            _ if matches!(kind, DiskOperation::Open | DiskOperation::Lock) => {
                Outcome::Inode(Err(error))
            }
            _ => Outcome::Nothing(Err(error)),
        }
    }

    /// A sync fails: each dirty block may have been written, may stay dirty, may have been marked
    /// clean without having been written, or may be back at what the media holds.
    fn fail_sync(&mut self, inode: InodeNumber, node: u32, kernel: &mut Kernel) {
        let file = self.names.file_mut(inode);
        for index in file.dirty.clone() {
            // What a cut left is decided with the length, which a failed sync leaves pending.
            // What the device has in its cache is beyond the file system's failures.
            let cut = file.pages.get(&index).is_none_or(|page| page.cut.is_some());
            if cut || file.lied.contains(&index) {
                continue;
            }
            match kernel.choose(Site::FailedBlock, node, 4) {
                0 => {}
                1 => file.orphan(index),
                2 => file.revert(index),
                _ => file.settle(index),
            }
            kernel.statistics.faults[FaultKind::UnknownBlock as usize] += 1;
        }
    }
}

/// A read of `buffer` at `offset` meets a write that is in flight: it may see any of its sectors.
fn race(buffer: &mut Buffer, offset: u64, written: &[u8], at: u64, node: u32, kernel: &mut Kernel) {
    let start = offset.max(at);
    let end = (offset + buffer.len() as u64).min(at + written.len() as u64);
    if start >= end || kernel.choose(Site::ReadRace, node, 3) == 0 {
        return;
    }
    let sectors = kernel.choose(Site::ReadRaceSectors, node, 1 << 32);
    let mut seen = false;
    for sector in (start..end).step_by(SECTOR_BYTES) {
        if scramble(sectors ^ sector << 20) & 1 == 1 {
            let length = SECTOR_BYTES.min((end - sector) as usize);
            let (to, from) = ((sector - offset) as usize, (sector - at) as usize);
            buffer[to..to + length].copy_from_slice(&written[from..from + length]);
            seen = true;
        }
    }
    if seen {
        kernel.fault(FaultKind::ReadRace, node, "read met a write");
    }
}
