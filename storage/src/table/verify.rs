//! Looking at every block of a table.

use woodchuck_io::File;

use super::envelope::BlockKind;
use super::index::Index;
use super::reader::Table;
use crate::block::Block;
use crate::error::{Damage, StorageError};
use crate::filter::{Filter, key_hash, prefix_hash};
use crate::key::{InternalKey, Version};
use crate::limits::DAMAGE_REMEMBERED;

/// What `verify` found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Blocks that were read from the disk and looked at, whole or not.
    pub blocks: u64,
    /// Entries in data blocks that are whole.
    pub entries: u64,
    /// Damaged places.
    pub damaged: u64,
    /// The first of them.
    pub damage: Vec<Damage>,
}

/// What was seen so far.
struct Walk {
    found: Verified,
    user_key: Vec<u8>,
    last_key: Vec<u8>,
    last: Option<Version>,
    /// The first user key; `None` before the first entry.
    first_key: Option<Vec<u8>>,
    /// The smallest and the largest sequence of entries.
    sequences: Option<(u64, u64)>,
}

impl<F: File> Table<F> {
    /// Reads every block from the disk and checks it: checksums, layout, order within blocks and
    /// from block to block, separators, filters against keys, counts against properties. Damage
    /// does not end it: what is whole is told from what is not.
    ///
    /// # Errors
    /// `Io` if something could not be read at all.
    pub async fn verify(&self) -> Result<Verified, StorageError> {
        let mut walk = Walk {
            found: Verified::default(),
            user_key: Vec::new(),
            last_key: Vec::new(),
            last: None,
            first_key: None,
            sequences: None,
        };
        let footer = self.footer();
        for (place, kind) in [
            (Some(footer.top_index), BlockKind::TopIndex),
            (Some(footer.properties), BlockKind::Properties),
            (footer.range_tombstones, BlockKind::RangeTombstones),
        ] {
            let Some(place) = place else { continue };
            walk.found.blocks += 1;
            let read = self.read_block(place, kind).await;
            walk.take(read)?;
        }
        for partition in 0..self.top().len() {
            self.verify_partition(partition, &mut walk).await?;
        }
        if walk.found.damaged == 0
            && let Some(what) = self.contradiction(&walk)
        {
            walk.take::<()>(Err(self.corrupt(footer.properties.offset, what)))?;
        }
        Ok(walk.found)
    }

    /// What the properties say that all entries and range tombstones do not.
    fn contradiction(&self, walk: &Walk) -> Option<String> {
        let properties = self.properties();
        let counts = (walk.found.entries, self.range_tombstones().len() as u64);
        if counts != (properties.entries, properties.range_tombstones) {
            return Some(format!(
                "{} entries and {} range tombstones, the properties say {} and {}",
                counts.0, counts.1, properties.entries, properties.range_tombstones
            ));
        }
        let first = walk.first_key.as_deref().unwrap_or_default();
        let last = if walk.last.is_some() { walk.last_key.as_slice() } else { &[] };
        if (first, last) != (&properties.smallest_key, &properties.largest_key) {
            return Some(format!(
                "keys from \"{}\" to \"{}\", the properties say from \"{}\" to \"{}\"",
                first.escape_ascii(),
                last.escape_ascii(),
                properties.smallest_key.escape_ascii(),
                properties.largest_key.escape_ascii()
            ));
        }
        let tombstones = self.range_tombstones().iter().map(|tombstone| tombstone.sequence);
        let all = walk.sequences.into_iter().flat_map(|(least, most)| [least, most]);
        let (least, most) = all
            .chain(tombstones)
            .fold((u64::MAX, 0), |(least, most), one| (u64::min(least, one), u64::max(most, one)));
        let said = (properties.smallest_sequence, properties.largest_sequence);
        ((least, most) != said).then(|| {
            format!(
                "commits from {least} to {most}, the properties say from {} to {}",
                said.0, said.1
            )
        })
    }

    async fn verify_partition(&self, number: usize, walk: &mut Walk) -> Result<(), StorageError> {
        let keys = || self.keys_of_partition(number);
        let mut filter = None;
        if let Some(place) = self.top().filter(number) {
            walk.found.blocks += 1;
            let read = self.read_block(place, BlockKind::Filter).await;
            let checked = read.and_then(|payload| self.check_filter(place, payload));
            filter = walk.take(checked.map_err(|error| error.with_keys(keys)))?;
        }
        walk.found.blocks += 1;
        let read = self.read_block(self.top().place(number), BlockKind::IndexPartition).await;
        let index = read.and_then(|payload| self.check_partition(number, &payload));
        let Some(index) = walk.take(index.map_err(|error| error.with_keys(keys)))? else {
            walk.last = None;
            return Ok(());
        };
        for block in 0..index.len() {
            walk.found.blocks += 1;
            let place = index.place(block);
            let keys = || self.keys_of(number, &index, block);
            let read = self.read_block(place, BlockKind::Data).await;
            let parsed = read.and_then(|payload| {
                Block::parse(payload, false).map_err(|what| self.corrupt(place.offset, what))
            });
            let Some(data) = walk.take(parsed.map_err(|error| error.with_keys(keys)))? else {
                walk.last = None;
                continue;
            };
            let wrong = self.check_entries(walk, &data, &index, block, filter.as_ref());
            let corrupt = |what| self.corrupt(place.offset, what).with_keys(keys);
            walk.take(wrong.map_err(corrupt))?;
        }
        Ok(())
    }

    /// Checks a block's entries against what else speaks of them.
    fn check_entries(
        &self,
        walk: &mut Walk,
        data: &Block,
        index: &Index,
        number: usize,
        filter: Option<&Filter>,
    ) -> Result<(), &'static str> {
        walk.user_key.clear();
        walk.user_key.extend_from_slice(data.prefix());
        let above = number.checked_sub(1).map(|before| index.separator(before));
        for at in 0..data.len() {
            let content = data.put_key(at, &mut walk.user_key);
            let version = Version { sequence: content.sequence, kind: content.kind.number() };
            let key = InternalKey { user_key: &walk.user_key, version };
            let before = walk.last.map(|version| InternalKey { user_key: &walk.last_key, version });
            if before.is_some_and(|before| key <= before) || above.is_some_and(|above| key <= above)
            {
                return Err("a block is not behind the one before");
            }
            if key > index.separator(number) {
                return Err("a block is not in front of its separator");
            }
            if filter.is_some_and(|filter| !filter.may_have(key_hash(key.user_key))) {
                return Err("the filter does not know a key");
            }
            let prefix = self.properties().prefix.and_then(|of| of.prefix_of(key.user_key));
            let missing = |filter: &Filter| {
                prefix.is_some_and(|prefix| !filter.may_have(prefix_hash(prefix)))
            };
            if filter.is_some_and(missing) {
                return Err("the filter does not know a prefix");
            }
            walk.found.entries += 1;
            walk.first_key.get_or_insert_with(|| walk.user_key.clone());
            let (least, most) = walk.sequences.unwrap_or((u64::MAX, 0));
            let sequence = content.sequence;
            walk.sequences = Some((least.min(sequence), most.max(sequence)));
            walk.last = Some(version);
            std::mem::swap(&mut walk.last_key, &mut walk.user_key);
            walk.user_key.clear();
            walk.user_key.extend_from_slice(data.prefix());
        }
        Ok(())
    }
}

impl Walk {
    /// What was found, or `None` if that is damaged, which is remembered.
    fn take<T>(&mut self, result: Result<T, StorageError>) -> Result<Option<T>, StorageError> {
        match result {
            Ok(found) => Ok(Some(found)),
            Err(StorageError::Corrupt(damage)) => {
                self.found.damaged += 1;
                if self.found.damage.len() < DAMAGE_REMEMBERED {
                    self.found.damage.push(*damage);
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
