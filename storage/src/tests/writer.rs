//! What a writer takes, where it puts it, and how it fails.

use std::path::Path;

use woodchuck_io::{Disk, Env, File, OpenMode};
use woodchuck_sim::SimEnv;

use super::history::{History, numbered_key};
use super::place::{DIRECTORY, FILE, ID, create, open, quiet, run_in, write};
use crate::limits::{KEY_BYTES, VALUE_BYTES};
use crate::{
    BlockCache, Bounds, Compression, Entry, Kind, ReadOptions, StorageError, Table, TableOptions,
};

fn value<'a>(user_key: &'a [u8], sequence: u64, value: &'a [u8]) -> Entry<'a> {
    Entry { user_key, sequence, kind: Kind::Value, expires_at_ms: None, value }
}

fn is_refused(result: Result<(), StorageError>) -> bool {
    matches!(result, Err(StorageError::Refused { .. }))
}

#[test]
fn what_breaks_a_rule_is_refused_and_changes_nothing() {
    run_in(&quiet(1), |env| async move {
        let mut writer = create(&env, TableOptions::default()).await.expect("it can be made");
        writer.add(&value(b"b", 5, b"1")).await.expect("it is the first");
        let long = vec![b'z'; KEY_BYTES + 1];
        let huge = vec![0; VALUE_BYTES + 1];
        for wrong in [
            value(b"a", 9, b""),
            value(b"b", 6, b""),
            value(b"b", 5, b"1"),
            Entry { kind: Kind::Merge, ..value(b"b", 5, b"") },
            Entry { kind: Kind::RangeDeletion, ..value(b"c", 5, b"d") },
            Entry { kind: Kind::Deletion, ..value(b"c", 5, b"d") },
            Entry { kind: Kind::ExpiringValue, ..value(b"c", 5, b"d") },
            Entry { expires_at_ms: Some(1), ..value(b"c", 5, b"d") },
            value(&long, 5, b""),
            value(b"c", 5, &huge),
        ] {
            assert!(is_refused(writer.add(&wrong).await), "{:?} {}", wrong.kind, wrong.sequence);
        }
        writer.add_range_tombstone(b"c", b"e", 9).expect("it is the first");
        for (start, end, sequence) in [
            (&b"c"[..], &b"e"[..], 9),
            (b"c", b"f", 8),
            (b"d", b"f", 8),
            (b"f", b"f", 8),
            (b"g", b"f", 8),
            (b"f", &long, 8),
        ] {
            assert!(is_refused(writer.add_range_tombstone(start, end, sequence)));
        }
        writer.add_range_tombstone(b"c", b"e", 8).expect("it is older");
        writer.add(&Entry { kind: Kind::Deletion, ..value(b"b", 5, b"") }).await.expect("behind");
        writer.add(&value(&long[1..], 4, b"2")).await.expect("the longest key");
        let finished = writer.finish().await.expect("the disk is healthy");
        assert_eq!((finished.properties.entries, finished.properties.range_tombstones), (3, 2));
        let cache = BlockCache::new(1 << 20);
        let table = open(&env, &cache, ReadOptions::default()).await.expect("it was finished");
        let found = table.get(&long[1..], 4).await.expect("it can be read");
        assert_eq!(found.expect("it is there").value, &b"2"[..]);
        assert_eq!(table.verify().await.expect("it can be read").damaged, 0);
    });
}

#[test]
fn options_that_cannot_work_are_refused() {
    run_in(&quiet(2), |env| async move {
        let good = TableOptions::default();
        for wrong in [
            TableOptions { block_bytes: 100, ..good.clone() },
            TableOptions { block_bytes: (1 << 20) + 1, ..good.clone() },
            TableOptions { partition_bytes: 1, ..good.clone() },
            TableOptions { chunk_bytes: 5000, ..good.clone() },
            TableOptions { chunk_bytes: 0, ..good.clone() },
            TableOptions { writes_in_flight: 0, ..good.clone() },
            TableOptions { filter_bits_per_key: 33, ..good.clone() },
            TableOptions { compression: Compression::Zstd { level: 20 }, ..good.clone() },
        ] {
            let Err(error) = create(&env, wrong.clone()).await else { panic!("{wrong:?}") };
            assert!(matches!(error, StorageError::Options { .. }), "{error}");
        }
    });
}

#[test]
fn a_table_has_something_in_it() {
    run_in(&quiet(3), |env| async move {
        let writer = create(&env, TableOptions::default()).await.expect("it can be made");
        assert!(matches!(writer.finish().await, Err(StorageError::Refused { .. })));
        let Err(again) = create(&env, TableOptions::default()).await else { panic!("it is there") };
        assert!(matches!(again, StorageError::Io { .. }), "a file is never written over: {again}");
    });
}

#[test]
fn a_table_of_range_tombstones_alone_can_be_read() {
    run_in(&quiet(4), |env| async move {
        let mut writer = create(&env, TableOptions::default()).await.expect("it can be made");
        writer.add_range_tombstone(b"a", b"m", 5).expect("it is the first");
        writer.finish().await.expect("the disk is healthy");
        let cache = BlockCache::new(1 << 20);
        for pin_partitions in [false, true] {
            let table = open(&env, &cache, ReadOptions { pin_partitions }).await.expect("finished");
            assert_eq!(table.get(b"b", 9).await.expect("it can be read"), None);
            assert_eq!(table.range_tombstones().newest_over(b"b", 9), Some(5));
            assert_eq!(table.range_tombstones().newest_over(b"b", 4), None);
            let mut cursor = table.cursor(Bounds::all());
            cursor.seek_to_last().await.expect("it can be read");
            assert_eq!(cursor.entry(), None);
            cursor.seek_for_prev(b"z").await.expect("it can be read");
            assert_eq!(cursor.entry(), None);
            assert_eq!(table.verify().await.expect("it can be read").damaged, 0);
        }
    });
}

/// Reads of the simulated disk, as many as there are bytes to be read.
#[test]
fn a_point_read_takes_one_page_of_data() {
    let history = History::numbered(2000, 60);
    run_in(&quiet(5), |env| async move {
        let finished = write(&env, &history, TableOptions::default()).await.expect("healthy");
        let properties = &finished.properties;
        let (blocks, stored) = (properties.data_blocks, properties.stored_bytes);
        assert!(blocks > 30);
        assert!(
            stored > (blocks - 1) * 4096 * 97 / 100,
            "blocks of {stored} bytes fill {blocks} pages"
        );
        // Nothing is kept, so that what a read takes stands in the file's offsets alone.
        let cache = BlockCache::new(0);
        let table = open(&env, &cache, ReadOptions::default()).await.expect("it was finished");
        for partition in 0..table.top().len() {
            let index = table.partition(partition).await.expect("it can be read");
            for block in 0..index.len() {
                let place = index.place(block);
                assert_eq!(place.offset / 4096, (place.end() - 1) / 4096, "a block in one page");
            }
        }
    });
}

#[test]
fn an_entry_larger_than_a_block_has_one_of_its_own() {
    run_in(&quiet(6), |env| async move {
        let mut writer = create(&env, TableOptions::default()).await.expect("it can be made");
        let large = vec![9; 3 << 20];
        for (key, bytes) in [(b"a", 10), (b"b", large.len()), (b"c", 10)] {
            writer.add(&value(key, 1, &large[..bytes])).await.expect("the disk is healthy");
        }
        assert_eq!(writer.finish().await.expect("healthy").properties.data_blocks, 3);
        let cache = BlockCache::new(1 << 20);
        let table = open(&env, &cache, ReadOptions::default()).await.expect("it was finished");
        let found = table.get(b"b", 1).await.expect("it can be read").expect("it is there");
        assert!(found.value == large);
    });
}

/// What stands in the file is what the options say, and compressed blocks share pages.
#[test]
fn compression_makes_files_smaller() {
    let mut sizes = Vec::new();
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd { level: 3 }] {
        let history = History::numbered(3000, 100);
        sizes.push(run_in(&quiet(7), move |env| async move {
            let mut history = history;
            history.entries.values_mut().for_each(|(_, value)| value.fill(b'x'));
            let options = TableOptions { compression, ..TableOptions::default() };
            write(&env, &history, options).await.expect("the disk is healthy").file_bytes
        }));
    }
    assert!(sizes[1] * 3 < sizes[0] && sizes[2] < sizes[1], "{sizes:?}");
}

#[test]
fn an_abandoned_table_leaves_no_file() {
    let world = quiet(8);
    run_in(&world, |env| async move {
        let options = TableOptions { chunk_bytes: 4096, ..TableOptions::default() };
        let mut writer = create(&env, options).await.expect("it can be made");
        for number in 0..500 {
            writer.add(&value(&numbered_key(number), 1, &[7; 50])).await.expect("healthy");
        }
        assert!(writer.bytes() > 4096);
        writer.abandon().await.expect("it can be removed");
        let names = env.disk().list(Path::new(DIRECTORY)).await.expect("it is there");
        assert_eq!(names, []);
    });
}

/// If the caller gives up waiting, a block may be half in the file.
#[test]
fn a_dropped_add_abandons_the_table() {
    run_in(&quiet(9), |env| async move {
        let options =
            TableOptions { chunk_bytes: 4096, writes_in_flight: 1, ..TableOptions::default() };
        let mut writer = create(&env, options).await.expect("it can be made");
        let mut number = 0;
        loop {
            number += 1;
            let key = numbered_key(number);
            let add = value(&key, 1, &[7; 900]);
            let added = futures_util::FutureExt::now_or_never(writer.add(&add));
            if added.is_none() {
                break;
            }
        }
        let added = writer.add(&value(b"z", 1, b"")).await;
        assert!(matches!(added, Err(StorageError::Abandoned)));
        assert!(matches!(writer.add_range_tombstone(b"a", b"b", 1), Err(StorageError::Abandoned)));
        assert!(matches!(writer.finish().await, Err(StorageError::Abandoned)));
    });
}

async fn image(env: &SimEnv) -> Vec<u8> {
    let file = env.disk().open(Path::new(FILE), OpenMode::Read).await.expect("it is there");
    let length = file.length().await.expect("it is there") as usize;
    let (read, buffer) = file.read_at(woodchuck_io::Buffer::with_capacity(length), 0).await;
    assert_eq!(read.expect("the disk is healthy"), length);
    buffer.to_vec()
}

/// Chunks and writes in flight change nothing of the bytes.
#[test]
fn the_bytes_do_not_depend_on_how_they_are_written() {
    let mut images = Vec::new();
    for (chunk_bytes, writes_in_flight) in [(4096, 1), (8192, 4), (256 << 10, 2)] {
        images.push(run_in(&quiet(10), move |env| async move {
            let options = TableOptions { chunk_bytes, writes_in_flight, ..TableOptions::default() };
            write(&env, &History::numbered(800, 60), options).await.expect("healthy");
            image(&env).await
        }));
    }
    assert!(images[0] == images[1] && images[1] == images[2]);
}

#[test]
fn another_table_under_this_name_is_noticed() {
    run_in(&quiet(11), |env| async move {
        write(&env, &History::numbered(50, 60), TableOptions::default()).await.expect("healthy");
        let directory = Path::new(DIRECTORY);
        let other = crate::TableId { number: 8, ..ID };
        let to = directory.join(other.file_name());
        env.disk().rename(Path::new(FILE), &to).await.expect("it is there");
        let cache = BlockCache::new(0);
        let opened =
            Table::open(env.disk(), directory, other, &cache, ReadOptions::default()).await;
        let Err(error) = opened else { panic!("it is table 7") };
        assert!(error.is_corrupt() && error.to_string().contains("0000000000000007"), "{error}");
    });
}
