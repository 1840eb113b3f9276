//! The content of one file, in two layers: what reads see, and what the media holds.
//!
//! # Blocks
//!
//! A block is **clean** if both layers agree, **dirty** if a volatile write or a cut changed it and
//! no flush followed, and **orphaned** if a flush failed and the kernel marked it clean all the
//! same: reads see the new bytes, the media holds the old ones, and no later flush writes them.
//! Blocks that were never written take no memory and read as zeros.
//!
//! A dirty block is **lied about** if the device said it was on media and it is in the device's
//! volatile cache: a crash of the operating system leaves it alone, a power cut may lose it. A block
//! is **broken** if what the media holds of it cannot be read; newer bytes above it can.
//!
//! # Lengths
//!
//! Changes of the length since the last sync are kept in order; a crash keeps a prefix of them. A
//! cut (truncation to less) remembers its place in that order in each block it cuts, so that a
//! crash that keeps the cut never brings the old bytes back, while one that undoes it may.

use std::collections::{BTreeMap, BTreeSet};

use woodchuck_io::limits::BLOCK_BYTES;

use crate::slab::Key;

/// A block's bytes; `None` is all zeros.
pub(super) type Block = Option<Box<[u8]>>;

/// What reads see of a block of zeros.
pub(super) static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// The bytes of a block.
pub(super) fn bytes_of(block: &Block) -> &[u8] {
    block.as_deref().unwrap_or(&ZEROS)
}

/// One block of a file.
#[derive(Default)]
pub(super) struct Page {
    /// What reads see.
    pub(super) data: Block,
    /// What the media holds, if the block is dirty or orphaned; if it is clean, the same as
    /// `data`.
    pub(super) media: Option<Block>,
    /// When it was last written, by the disk's sequence.
    pub(super) written: u64,
    /// Which of the pending length changes cut it, if one did since it was clean.
    pub(super) cut: Option<usize>,
}

/// The content of one file.
#[derive(Default)]
pub(super) struct FileData {
    /// As reads see it.
    pub(super) length: u64,
    /// On media.
    pub(super) durable_length: u64,
    /// Lengths since the last sync, in order; the last is `length`. Empty if the length is durable.
    pub(super) pending_lengths: Vec<u64>,
    pub(super) pages: BTreeMap<u64, Page>,
    pub(super) dirty: BTreeSet<u64>,
    pub(super) orphaned: BTreeSet<u64>,
    /// Dirty blocks that the device says are on media. They are in its cache.
    pub(super) lied: BTreeSet<u64>,
    /// How many of the pending lengths are there too.
    pub(super) lied_lengths: usize,
    /// Blocks at the start of the file whose space is reserved, written or not.
    pub(super) reserved: u64,
    /// Blocks of the disk this file takes.
    pub(super) charged: u64,
    /// Blocks that cannot be read from media until they are written there again.
    pub(super) broken: BTreeSet<u64>,
    /// Writes that were submitted and have not happened.
    pub(super) writes_in_flight: Vec<Key>,
    /// Syncs that were submitted and have not happened.
    pub(super) syncs_in_flight: u32,
}

/// How far a write of one block gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Visible, and on media with the next sync.
    Cache,
    /// Visible; the media and later syncs never hear of it.
    Orphan,
    /// Visible, and in a cache of the device that it says is media.
    Lie,
    /// Visible and on media.
    Media,
}

impl FileData {
    /// What reads see of a block.
    pub(super) fn visible(&self, index: u64) -> &[u8] {
        self.pages.get(&index).map_or(&ZEROS[..], |page| bytes_of(&page.data))
    }

    /// What the media holds of a block.
    pub(super) fn on_media(&self, index: u64) -> &[u8] {
        self.pages
            .get(&index)
            .map_or(&ZEROS[..], |page| bytes_of(page.media.as_ref().unwrap_or(&page.data)))
    }

    /// Writes one block. `write_back` says that an unflushed earlier version reaches the media
    /// before it is overwritten.
    pub(super) fn write_block(
        &mut self,
        index: u64,
        bytes: &[u8],
        reach: Reach,
        write_back: bool,
        sequence: u64,
    ) {
        assert_eq!(bytes.len(), BLOCK_BYTES, "blocks are written whole");
        let page = self.pages.entry(index).or_default();
        page.written = sequence;
        // What a device lied about and is about to lose sight of is written back: it may be at any
        // time, and one cached version of a block is enough to follow.
        let write_back = self.lied.remove(&index) && reach != Reach::Lie || write_back;
        match reach {
            Reach::Media => {
                page.media = None;
                page.cut = None;
                self.dirty.remove(&index);
                self.orphaned.remove(&index);
                self.broken.remove(&index);
                if let Some(data) = &mut page.data {
                    data.copy_from_slice(bytes);
                    return;
                }
            }
            Reach::Cache | Reach::Orphan | Reach::Lie => {
                if page.media.is_none() {
                    page.media = Some(page.data.take());
                } else if write_back && self.dirty.contains(&index) {
                    page.media = Some(page.data.take());
                    page.cut = None;
                    self.broken.remove(&index);
                }
                let (joined, left) = if reach == Reach::Orphan {
                    (&mut self.orphaned, &mut self.dirty)
                } else {
                    (&mut self.dirty, &mut self.orphaned)
                };
                if reach == Reach::Lie {
                    self.lied.insert(index);
                }
                joined.insert(index);
                left.remove(&index);
            }
        }
        page.data = Some(Box::from(bytes));
    }

    /// The file is now at least `end` bytes long; durably so if its bytes are.
    pub(super) fn extend_for_write(&mut self, end: u64, reach: Reach) {
        if reach == Reach::Media {
            self.durable_length = self.durable_length.max(end);
            for length in &mut self.pending_lengths {
                *length = (*length).max(end);
            }
            self.length = self.length.max(end);
        } else if end > self.length {
            self.set_length(end);
        }
        if reach == Reach::Lie {
            self.lied_lengths = self.pending_lengths.len();
        }
    }

    /// Sets the length, to be made durable by the next sync. Bytes beyond it are zeros from now on.
    pub(super) fn set_length(&mut self, length: u64) {
        if length == self.length {
            return;
        }
        if length < self.length {
            self.cut(length);
        }
        self.length = length;
        self.pending_lengths.push(length);
    }

    /// Turns everything beyond `length` into zeros that are not on media yet.
    fn cut(&mut self, length: u64) {
        let change = self.pending_lengths.len();
        let block = BLOCK_BYTES as u64;
        let kept = (length % block) as usize;
        if kept > 0 && self.pages.contains_key(&(length / block)) {
            let page = self.pages.get_mut(&(length / block)).expect("it was there");
            if page.data.is_some() {
                // The kept part and the zeros behind it are one block: the cut of a part is a
                // volatile write of the whole.
                let mut bytes = bytes_of(&page.data).to_vec();
                bytes[kept..].fill(0);
                let (written, index) = (page.written, length / block);
                self.write_block(index, &bytes, Reach::Cache, false, written);
            }
        }
        let first = length.div_ceil(block);
        for (&index, page) in self.pages.range_mut(first..) {
            let data = page.data.take();
            if self.lied.remove(&index) {
                page.media = Some(data);
            } else {
                page.media.get_or_insert(data);
            }
            page.cut = Some(change);
            self.dirty.insert(index);
            self.orphaned.remove(&index);
        }
        self.broken.retain(|&index| index < first);
        self.reserved = self.reserved.min(first);
    }

    /// A sync asked for at `asked` happens: blocks written until then reach the media, others if
    /// `also` says so. Returns how many did.
    pub(super) fn flush(&mut self, asked: u64, mut also: impl FnMut() -> bool) -> usize {
        let mut left = BTreeSet::new();
        let flushed = std::mem::take(&mut self.dirty);
        let count = flushed.len();
        for index in flushed {
            let page = self.pages.get_mut(&index).expect("a dirty block is there");
            if page.written > asked && page.cut.is_none() && !also() {
                left.insert(index);
                continue;
            }
            page.media = None;
            page.cut = None;
            if page.data.is_none() {
                self.pages.remove(&index);
            }
            self.lied.remove(&index);
            self.broken.remove(&index);
        }
        let count = count - left.len();
        self.dirty = left;
        self.lied_lengths = 0;
        self.durable_length = self.length;
        self.pending_lengths.clear();
        count
    }

    /// A sync asked for at `asked` is said to have happened: what it should have flushed is in the
    /// device's cache.
    pub(super) fn pretend_flush(&mut self, asked: u64) {
        let pages = &self.pages;
        let owed = self.dirty.iter().filter(|&index| {
            pages.get(index).is_some_and(|page| page.written <= asked || page.cut.is_some())
        });
        self.lied.extend(owed);
        self.lied_lengths = self.pending_lengths.len();
    }

    /// Whether a read of these blocks comes to one that cannot be read. Newer bytes can be, even
    /// above a broken block.
    pub(super) fn unreadable(&self, indices: std::ops::Range<u64>) -> Option<u64> {
        let hidden = |index| self.dirty.contains(index) || self.orphaned.contains(index);
        self.broken.range(indices).find(|&index| !hidden(index)).copied()
    }

    /// Replaces what the media holds of a block, under everybody's feet. Whether that changed it.
    pub(super) fn replace_on_media(&mut self, index: u64, bytes: &[u8]) -> bool {
        let Some(page) = self.pages.get_mut(&index) else { return false };
        let layer = page.media.as_mut().unwrap_or(&mut page.data);
        let changed = bytes_of(layer) != bytes;
        self.broken.remove(&index);
        *layer = Some(Box::from(bytes));
        changed
    }

    /// A block reverts to what the media holds.
    pub(super) fn revert(&mut self, index: u64) {
        self.dirty.remove(&index);
        self.orphaned.remove(&index);
        let Some(page) = self.pages.get_mut(&index) else { return };
        if let Some(media) = page.media.take() {
            page.data = media;
        }
        page.cut = None;
    }

    /// A dirty block is marked clean without having been written.
    pub(super) fn orphan(&mut self, index: u64) {
        self.dirty.remove(&index);
        self.orphaned.insert(index);
    }

    /// A dirty block reaches the media.
    pub(super) fn settle(&mut self, index: u64) {
        self.dirty.remove(&index);
        self.orphaned.remove(&index);
        self.lied.remove(&index);
        self.broken.remove(&index);
        if let Some(page) = self.pages.get_mut(&index) {
            page.media = None;
            page.cut = None;
        }
    }

    /// Blocks that are written and lie beyond those reserved, up to `end`.
    pub(super) fn written_beyond_reserved(&self, end: u64) -> u64 {
        if end <= self.reserved { 0 } else { self.pages.range(self.reserved..end).count() as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(byte: u8) -> Vec<u8> {
        vec![byte; BLOCK_BYTES]
    }

    #[test]
    fn layers_differ_until_the_flush() {
        let mut file = FileData::default();
        file.write_block(3, &block(1), Reach::Cache, false, 1);
        file.extend_for_write(4 * 4096, Reach::Cache);
        assert_eq!((file.visible(3)[0], file.on_media(3)[0]), (1, 0));
        file.write_block(3, &block(2), Reach::Cache, true, 2);
        assert_eq!((file.visible(3)[0], file.on_media(3)[0]), (2, 1));
        assert_eq!(file.flush(2, || true), 1);
        assert_eq!((file.on_media(3)[0], file.durable_length), (2, 4 * 4096));
    }

    #[test]
    fn a_flush_owes_nothing_to_later_writes() {
        let mut file = FileData::default();
        file.write_block(0, &block(1), Reach::Cache, false, 1);
        file.write_block(1, &block(1), Reach::Cache, false, 5);
        assert_eq!(file.flush(3, || false), 1);
        assert_eq!((file.on_media(0)[0], file.on_media(1)[0]), (1, 0));
    }

    #[test]
    fn an_orphan_is_never_flushed() {
        let mut file = FileData::default();
        file.write_block(0, &block(1), Reach::Cache, false, 1);
        file.orphan(0);
        assert_eq!(file.flush(9, || true), 0);
        assert_eq!((file.visible(0)[0], file.on_media(0)[0]), (1, 0));
    }

    #[test]
    fn a_cut_shows_zeros_and_keeps_the_media() {
        let mut file = FileData::default();
        file.write_block(0, &block(1), Reach::Media, false, 1);
        file.write_block(1, &block(2), Reach::Media, false, 1);
        file.extend_for_write(8192, Reach::Media);
        file.set_length(100);
        file.set_length(8192);
        assert_eq!((file.visible(0)[99], file.visible(0)[100], file.visible(1)[0]), (1, 0, 0));
        assert_eq!((file.on_media(0)[100], file.on_media(1)[0]), (1, 2));
        file.flush(9, || true);
        assert_eq!((file.on_media(0)[99], file.on_media(0)[100], file.on_media(1)[0]), (1, 0, 0));
    }

    #[test]
    fn a_block_that_was_lied_about_is_on_media_with_the_next_honest_flush() {
        let mut file = FileData::default();
        file.write_block(0, &block(1), Reach::Lie, false, 1);
        file.extend_for_write(4096, Reach::Lie);
        assert_eq!((file.visible(0)[0], file.on_media(0)[0], file.durable_length), (1, 0, 0));
        assert_eq!((file.lied.len(), file.lied_lengths), (1, 1));
        file.flush(9, || true);
        assert_eq!((file.on_media(0)[0], file.durable_length), (1, 4096));
        assert_eq!((file.lied.len(), file.lied_lengths), (0, 0));
        file.write_block(0, &block(2), Reach::Lie, false, 10);
        file.write_block(0, &block(3), Reach::Cache, false, 11);
        assert_eq!((file.on_media(0)[0], file.lied.len()), (2, 0), "written back");
    }

    #[test]
    fn a_broken_block_is_readable_where_newer_bytes_hide_it() {
        let mut file = FileData::default();
        file.write_block(0, &block(1), Reach::Media, false, 1);
        file.broken.insert(0);
        assert_eq!(file.unreadable(0..4), Some(0));
        file.write_block(0, &block(2), Reach::Cache, false, 2);
        assert_eq!(file.unreadable(0..4), None);
        file.revert(0);
        assert_eq!(file.unreadable(0..4), Some(0), "the media is as broken as before");
        file.write_block(0, &block(3), Reach::Media, false, 3);
        assert_eq!(file.unreadable(0..4), None);
    }
}
