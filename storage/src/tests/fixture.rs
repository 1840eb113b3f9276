//! Tables of format version 1, as they were written when it was made: they stay readable for ever.
//!
//! The files are never made anew. If the bytes of a table change, the version does, and a fixture
//! of the new version is added beside these.

use std::path::Path;

use woodchuck_io::{Disk, Env, File, OpenMode};

use super::history::{History, Version};
use super::place::{FILE, open, quiet, run_in, run_on, write};
use crate::{BlockCache, Bounds, Compression, Kind, PrefixExtractor, ReadOptions, TableOptions};

const PLAIN: &[u8] = include_bytes!("../../tests/fixtures/version-1-plain.table");
const LZ4: &[u8] = include_bytes!("../../tests/fixtures/version-1-lz4.table");
const ZSTD: &[u8] = include_bytes!("../../tests/fixtures/version-1-zstd.table");

fn options(compression: Compression) -> TableOptions {
    TableOptions {
        block_bytes: 700,
        partition_bytes: 200,
        compression,
        prefix: Some(PrefixExtractor::Delimiter(b'/')),
        ..TableOptions::default()
    }
}

/// What is in the fixtures. Never changed.
fn content() -> History {
    let mut history = History::default();
    for number in 0..300_u64 {
        let key = format!("group-{}/member-{:04}", number / 40, number / 2).into_bytes();
        let kind =
            [Kind::Value, Kind::Deletion, Kind::Merge, Kind::ExpiringValue, Kind::SeparatedValue]
                [(number % 5) as usize];
        let version = Version { sequence: (1 << 40) + number * 1000 % 7919, kind };
        let expiry = (kind == Kind::ExpiringValue).then_some(1_800_000_000_000 + number);
        let length = if kind == Kind::Deletion { 0 } else { number as usize % 90 };
        let value = vec![b'a' + (number % 26) as u8; length];
        history.entries.insert((key, version), (expiry, value));
    }
    for (start, end, sequence) in
        [("group-1/", "group-2/", 9), ("group-1/", "group-2/", 4), ("group-3/m", "group-5", 7)]
    {
        history.tombstones.push((start.into(), end.into(), sequence));
    }
    history
}

#[test]
fn tables_of_version_1_can_be_read() {
    for (seed, fixture) in [PLAIN, LZ4, ZSTD].into_iter().enumerate() {
        let world = quiet(seed as u64);
        let machine = world.machine("one");
        world.disk(machine).write(FILE, fixture);
        run_on(&world, machine, |env| async move {
            let cache = BlockCache::new(1 << 20);
            let table = open(&env, &cache, ReadOptions::default()).await.expect("version 1");
            let verified = table.verify().await.expect("the disk is healthy");
            assert_eq!((verified.damaged, verified.entries), (0, 300));
            let content = content();
            let mut cursor = table.cursor(Bounds::all());
            cursor.seek_to_first().await.expect("version 1");
            for ((key, version), (expiry, value)) in &content.entries {
                let found = table.get(key, version.sequence).await.expect("version 1");
                let (newest, _) = content.newest(key, version.sequence).expect("it is there");
                assert_eq!(found.expect("it is there").sequence, newest.sequence);
                let entry = cursor.entry().expect("no fewer than there are");
                assert_eq!((entry.user_key, entry.sequence), (&key[..], version.sequence));
                assert_eq!((entry.kind, entry.expires_at_ms), (version.kind, *expiry));
                assert_eq!(entry.value, value);
                cursor.next().await.expect("version 1");
            }
            let found: Vec<_> = table.range_tombstones().iter().collect();
            let found = found.into_iter().map(|one| (one.start, one.end.to_vec(), one.sequence));
            assert_eq!(found.collect::<Vec<_>>(), content.tombstones);
            for (prefix, is_there) in
                [(&b"group-7/"[..], true), (b"group-/", false), (b"ggg/", false)]
            {
                let may_have = table.may_have_prefix(prefix).await.expect("version 1");
                assert_eq!(may_have, is_there, "the fixture's filters say so");
            }
        });
    }
}

/// A table is a function of its content and options. Compression may become better, the rest not.
#[test]
fn the_bytes_of_version_1_do_not_change() {
    run_in(&quiet(9), |env| async move {
        write(&env, &content(), options(Compression::None)).await.expect("the disk is healthy");
        let file = env.disk().open(Path::new(FILE), OpenMode::Read).await.expect("it is there");
        let buffer = woodchuck_io::Buffer::with_capacity(PLAIN.len() + 4096);
        let (read, buffer) = file.read_at(buffer, 0).await;
        read.expect("the disk is healthy");
        assert!(*buffer == *PLAIN, "if this is meant, it is another version of the format");
    });
}
