//! What `verify` finds that no checksum tells: tables that software has put together wrongly.

use woodchuck_io::limits::BLOCK_BYTES;

use super::place::{FILE, ID, open, quiet, run_on};
use crate::block::BlockBuilder;
use crate::compression::Method;
use crate::key::{InternalKey, Kind, Version};
use crate::table::ends::{Footer, encode_header};
use crate::table::envelope::{BlockKind, Seed, seal};
use crate::table::index::{Index, Place};
use crate::{
    BlockCache, Entry, PrefixExtractor, Properties, ReadOptions, TableOptions, Verified, filter,
};

/// User keys of a block, and its separator.
type Block = (&'static [&'static str], &'static str);

/// A table that is made by hand, each part of which is whole by itself.
struct Image {
    bytes: Vec<u8>,
    top: Index,
    properties: Properties,
}

impl Image {
    fn new() -> Self {
        let options =
            TableOptions { prefix: Some(PrefixExtractor::Length(1)), ..TableOptions::default() };
        let properties = Properties::new(&options);
        Self { bytes: encode_header(ID).to_vec(), top: Index::default(), properties }
    }

    fn put(&mut self, kind: BlockKind, payload: &[u8]) -> Place {
        let (offset, mut block) = (self.bytes.len() as u64, Vec::new());
        let stored = (Method::None, payload);
        seal(Seed::of(ID), offset, kind, stored, payload.len(), &mut block);
        self.bytes.extend_from_slice(&block);
        Place { offset, bytes: block.len() as u32 }
    }

    /// A partition of these blocks, with a filter that knows these keys and prefixes.
    fn partition(mut self, blocks: &[Block], keys: &[&str], prefixes: &[&str]) -> Self {
        let mut index = Index::default();
        let mut payload = Vec::new();
        for (user_keys, separator) in blocks {
            let mut builder = BlockBuilder::default();
            for user_key in *user_keys {
                let (kind, expires_at_ms) = (Kind::Value, None);
                let user_key = user_key.as_bytes();
                let entry = Entry { user_key, sequence: 5, kind, expires_at_ms, value: b"v" };
                builder.add(&entry);
                self.properties.count(&entry);
                if self.properties.entries == 1 {
                    self.properties.smallest_key = user_key.to_vec();
                }
                self.properties.largest_key = user_key.to_vec();
            }
            builder.finish(&mut payload);
            let place = self.put(BlockKind::Data, &payload);
            let user_key = separator.as_bytes();
            index.push(InternalKey { user_key, version: Version::LAST }, place, None);
        }
        let keys = keys.iter().map(|key| filter::key_hash(key.as_bytes()));
        let prefixes = prefixes.iter().map(|prefix| filter::prefix_hash(prefix.as_bytes()));
        filter::build(&keys.chain(prefixes).collect::<Vec<_>>(), 20, &mut payload);
        let filter = self.put(BlockKind::Filter, &payload);
        let archive = index.encode().expect("it can be archived");
        let place = self.put(BlockKind::IndexPartition, archive.as_ref());
        let user_key = blocks.last().map_or("", |(_, separator)| separator).as_bytes();
        self.top.push(InternalKey { user_key, version: Version::LAST }, place, Some(filter));
        self
    }

    /// The top-level index says this of the one partition, whatever that says itself.
    fn told_as(mut self, separator: &str) -> Self {
        let (place, filter) = (self.top.place(0), self.top.filter(0));
        self.top.clear();
        let user_key = separator.as_bytes();
        self.top.push(InternalKey { user_key, version: Version::LAST }, place, filter);
        self
    }

    fn verify(mut self) -> Verified {
        let archive = self.top.encode().expect("it can be archived");
        let top_index = self.put(BlockKind::TopIndex, archive.as_ref());
        let archive = self.properties.encode().expect("it can be archived");
        let properties = self.put(BlockKind::Properties, archive.as_ref());
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        let file_bytes = (self.bytes.len() + BLOCK_BYTES) as u64;
        let footer = Footer { file_bytes, top_index, properties, range_tombstones: None };
        self.bytes.extend_from_slice(&footer.encode(ID));
        let world = quiet(1);
        let machine = world.machine("one");
        world.disk(machine).write(FILE, &self.bytes);
        run_on(&world, machine, |env| async move {
            let cache = BlockCache::new(0);
            let table =
                open(&env, &cache, ReadOptions::default()).await.expect("its parts are whole");
            table.verify().await.expect("the disk is healthy")
        })
    }
}

fn found(image: Image, what: &str) {
    let verified = image.verify();
    assert_eq!(verified.damaged, 1, "{verified:?}");
    assert!(verified.damage[0].what.contains(what), "{verified:?}");
}

#[test]
fn a_table_made_by_hand_is_whole() {
    let image = Image::new()
        .partition(&[(&["a1", "a2"], "a3"), (&["b"], "b")], &["a1", "a2", "b"], &["a", "b"])
        .partition(&[(&["c", "e"], "e")], &["c", "e"], &["c", "e"]);
    let verified = image.verify();
    assert_eq!((verified.damaged, verified.entries, verified.blocks), (0, 5, 9), "{verified:?}");
}

#[test]
fn keys_that_go_back_are_found() {
    let image = Image::new().partition(&[(&["a", "c"], "c")], &["a", "c"], &["a", "c"]).partition(
        &[(&["b", "d"], "d")],
        &["b", "d"],
        &["b", "d"],
    );
    found(image, "behind the one before");
}

#[test]
fn keys_in_front_of_the_separator_before_are_found() {
    let blocks: [Block; 2] = [(&["a"], "m"), (&["c"], "z")];
    found(Image::new().partition(&blocks, &["a", "c"], &["a", "c"]), "behind the one before");
}

#[test]
fn keys_behind_their_separator_are_found() {
    let blocks: [Block; 2] = [(&["a", "x"], "m"), (&["y"], "z")];
    found(Image::new().partition(&blocks, &["a", "x", "y"], &["a", "x", "y"]), "its separator");
}

#[test]
fn keys_and_prefixes_that_the_filter_denies_are_found() {
    let blocks: [Block; 1] = [(&["a", "b"], "b")];
    found(Image::new().partition(&blocks, &["a"], &["a", "b"]), "does not know a key");
    found(Image::new().partition(&blocks, &["a", "b"], &["a"]), "does not know a prefix");
}

#[test]
fn a_number_of_entries_that_is_wrong_is_found() {
    let mut image = Image::new().partition(&[(&["a", "b"], "b")], &["a", "b"], &["a", "b"]);
    image.properties.entries += 1;
    found(image, "the properties say 3");
}

#[test]
fn keys_and_commits_that_the_properties_do_not_have_are_found() {
    let image = || Image::new().partition(&[(&["a", "b"], "b")], &["a", "b"], &["a", "b"]);
    let mut narrow = image();
    narrow.properties.largest_key = b"a".to_vec();
    found(narrow, "the properties say from \"a\" to \"a\"");
    let mut late = image();
    late.properties.smallest_key = b"b".to_vec();
    found(late, "the properties say from \"b\" to \"b\"");
    let mut older = image();
    older.properties.smallest_sequence = 4;
    found(older, "commits from 5 to 5, the properties say from 4 to 5");
}

#[test]
fn a_partition_that_is_another_or_empty_is_found() {
    let other = Image::new().partition(&[(&["a"], "b")], &["a"], &["a"]).told_as("c");
    found(other, "not the one it should be");
    found(Image::new().partition(&[], &[], &[]), "not the one it should be");
}
