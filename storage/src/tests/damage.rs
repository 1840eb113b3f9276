//! Damage gives errors, and never a wrong answer.

use std::path::Path;

use woodchuck_io::{Buffer, Disk, Durability, Env, File, OpenMode, RandomStream};
use woodchuck_sim::SimEnv;

use super::history::{History, Version};
use super::place::{
    FILE, ID, SimTable, draw_options, open, quiet, random, run_in, write, write_as,
};
use crate::{BlockCache, Bounds, Compression, ReadOptions, StorageError, TableId, TableOptions};

async fn load(env: &SimEnv, path: &str) -> Vec<u8> {
    let file = env.disk().open(Path::new(path), OpenMode::Read).await.expect("it is there");
    let length = file.length().await.expect("it is there") as usize;
    let (read, buffer) = file.read_at(Buffer::with_capacity(length), 0).await;
    assert_eq!(read.expect("the disk is healthy"), length);
    buffer.to_vec()
}

/// Puts these bytes in the place of the table; whole pages.
async fn store(env: &SimEnv, bytes: &[u8]) {
    let file = env.disk().open(Path::new(FILE), OpenMode::Write).await.expect("it is there");
    file.truncate(bytes.len() as u64).await.expect("there is room");
    if bytes.is_empty() {
        return;
    }
    let mut buffer = Buffer::with_capacity(bytes.len());
    buffer.extend_from_slice(bytes);
    file.write_at(buffer, 0, Durability::Volatile).await.0.expect("there is room");
}

/// What reading a table came to.
#[derive(Default)]
struct Told {
    errors: u32,
    answers: u32,
}

impl Told {
    fn error(&mut self, error: &StorageError) {
        assert!(error.is_corrupt(), "{error}");
        self.errors += 1;
    }
}

/// Asks the table for everything, and compares what it answers.
async fn ask(table: &SimTable, history: &History, told: &mut Told) {
    for (key, version) in history.entries.keys() {
        match table.get(key, version.sequence).await {
            Ok(found) => {
                let (expected, value) = history.newest(key, version.sequence).expect("it is there");
                let found = found.unwrap_or_else(|| panic!("{key:?} is told to be absent"));
                assert_eq!(Version { sequence: found.sequence, kind: found.kind }, expected);
                assert_eq!((found.expires_at_ms, &found.value[..]), (value.0, &value.1[..]));
                told.answers += 1;
            }
            Err(error) => {
                if let StorageError::Corrupt(damage) = &error {
                    let keys = damage.keys.as_ref().expect("the block's keys are known");
                    assert!(keys.0 <= key.as_slice() && key.as_slice() <= keys.1, "{damage}");
                }
                told.error(&error);
            }
        }
    }
    let mut cursor = table.cursor(Bounds::all());
    let mut expected = history.entries.iter();
    let mut moved = cursor.seek_to_first().await;
    while let (Ok(()), Some(entry)) = (&moved, cursor.entry()) {
        let ((key, version), value) = expected.next().expect("no more than there are");
        assert_eq!(
            (entry.user_key, entry.sequence, entry.kind),
            (&key[..], version.sequence, version.kind)
        );
        assert_eq!(entry.value, value.1);
        moved = cursor.next().await;
    }
    match moved {
        Ok(()) => assert_eq!(expected.next(), None, "the scan ends early"),
        Err(error) => told.error(&error),
    }
}

async fn ask_all(env: &SimEnv, history: &History, told: &mut Told) {
    let cache = BlockCache::new(1 << 20);
    match open(env, &cache, ReadOptions::default()).await {
        Err(error) => told.error(&error),
        Ok(table) => {
            let errors = told.errors;
            ask(&table, history, told).await;
            let verified = table.verify().await.expect("the disk is healthy");
            if told.errors > errors {
                assert!(verified.damaged > 0, "verify finds what reads find");
                assert!(!verified.damage.is_empty());
            }
        }
    }
}

fn small(random: &mut RandomStream) -> (History, TableOptions) {
    let mut history = History::draw(random, 40);
    history.entries.values_mut().for_each(|(_, value)| value.truncate(60));
    let options = TableOptions { block_bytes: 400, partition_bytes: 100, ..draw_options(random) };
    (history, options)
}

#[test]
fn every_changed_bit_is_an_error_or_of_no_matter() {
    for seed in 0..4 {
        run_in(&quiet(seed), move |env| async move {
            let mut random = random(seed);
            let (history, options) = small(&mut random);
            write(&env, &history, options).await.expect("the disk is healthy");
            let image = load(&env, FILE).await;
            let mut told = Told::default();
            for at in 0..image.len() {
                // Most of the first and the last page is zeros that nobody reads.
                let is_edge = (200..4096).contains(&at) || at > image.len() - 3900;
                if is_edge && at % 500 != 0 || !is_edge && random.below(4) > 0 {
                    continue;
                }
                let mut damaged = image.clone();
                damaged[at] ^= 1 << random.below(8);
                store(&env, &damaged).await;
                ask_all(&env, &history, &mut told).await;
            }
            assert!(told.errors > 500 && told.answers > 10_000, "{} {}", told.errors, told.answers);
        });
    }
}

/// Not even a page, or not whole pages: what no writer leaves, but a copy that was cut short may.
#[test]
fn files_of_odd_lengths_are_refused() {
    run_in(&quiet(19), |env| async move {
        // Longer than what is read of its end, so that this begins inside.
        let history = History::numbered(2000, 50);
        write(&env, &history, TableOptions::default()).await.expect("the disk is healthy");
        let file = env.disk().open(Path::new(FILE), OpenMode::Write).await.expect("it is there");
        let length = file.length().await.expect("it is there");
        let cache = BlockCache::new(0);
        for odd in [length + 1, length - 1, length - 4095, 3 * 4096 + 512, 8191, 4097, 100, 0] {
            file.truncate(odd).await.expect("there is room");
            let opened = open(&env, &cache, ReadOptions::default()).await;
            let Err(error) = opened else { panic!("{odd} bytes") };
            assert!(error.is_corrupt(), "{odd} bytes: {error}");
        }
    });
}

#[test]
fn files_that_are_cut_short_or_too_long_are_refused() {
    run_in(&quiet(20), |env| async move {
        let (history, options) = small(&mut random(20));
        write(&env, &history, options).await.expect("the disk is healthy");
        let image = load(&env, FILE).await;
        let cache = BlockCache::new(0);
        for pages in 0..image.len() / 4096 {
            store(&env, &image[..pages * 4096]).await;
            let Err(error) = open(&env, &cache, ReadOptions::default()).await else {
                panic!("{pages}")
            };
            assert!(error.is_corrupt(), "{error}");
        }
        let longer = [&image[..], &image[image.len() - 4096..]].concat();
        store(&env, &longer).await;
        assert!(
            open(&env, &cache, ReadOptions::default()).await.is_err_and(|error| error.is_corrupt())
        );
    });
}

/// The pages of a file change places; most hold several blocks, each at the same place in its page.
#[test]
fn swapped_pages_are_noticed() {
    run_in(&quiet(21), |env| async move {
        let history = History::numbered(400, 50);
        // Blocks of one length, so that nothing but their place tells them apart.
        let options = TableOptions { compression: Compression::None, ..TableOptions::default() };
        write(&env, &history, options).await.expect("the disk is healthy");
        let image = load(&env, FILE).await;
        let (mut told, pages) = (Told::default(), image.len() / 4096);
        for one in 1..pages - 1 {
            for other in 1..one {
                let mut swapped = image.clone();
                let (front, back) = swapped.split_at_mut(one * 4096);
                front[other * 4096..][..4096].swap_with_slice(&mut back[..4096]);
                store(&env, &swapped).await;
                let errors = told.errors;
                ask_all(&env, &history, &mut told).await;
                assert!(told.errors > errors, "pages {other} and {one} changed places");
            }
        }
    });
}

/// The same entries, in a table of another number, keyspace or store: blocks of one fit the other.
#[test]
fn blocks_of_another_table_are_noticed() {
    run_in(&quiet(22), |env| async move {
        let history = History::numbered(400, 50);
        let options = TableOptions::default();
        write(&env, &history, options.clone()).await.expect("the disk is healthy");
        let image = load(&env, FILE).await;
        for (place, other) in [
            ("/store/0000000000000008.table", TableId { number: 8, ..ID }),
            ("/store/0000000000000009.table", TableId { number: 9, keyspace: 9, ..ID }),
        ] {
            let mut older = history.clone();
            older.entries.values_mut().for_each(|(_, value)| value[0] ^= 1);
            write_as(&env, other, &older, options.clone()).await.expect("the disk is healthy");
            let from = load(&env, place).await;
            assert_eq!(from.len(), image.len());
            for page in 0..image.len() / 4096 {
                let mut mixed = image.clone();
                mixed[page * 4096..][..4096].copy_from_slice(&from[page * 4096..][..4096]);
                store(&env, &mixed).await;
                let mut told = Told::default();
                ask_all(&env, &history, &mut told).await;
                assert!(told.errors > 0, "page {page} is another table's");
            }
        }
    });
}

/// One damaged block costs its own keys and no others, forwards and backwards.
#[test]
fn the_rest_of_a_damaged_table_can_be_read() {
    run_in(&quiet(23), |env| async move {
        let history = History::numbered(2000, 50);
        write(&env, &history, TableOptions::default()).await.expect("the disk is healthy");
        let mut image = load(&env, FILE).await;
        image[4 * 4096 + 100] ^= 1;
        store(&env, &image).await;
        let cache = BlockCache::new(1 << 20);
        let table = open(&env, &cache, ReadOptions::default()).await.expect("its ends are whole");
        let mut told = Told::default();
        for (key, version) in history.entries.keys() {
            match table.get(key, version.sequence).await {
                Ok(found) => told.answers += u32::from(found.is_some()),
                Err(error) => told.error(&error),
            }
        }
        let lost = told.errors;
        assert!(lost > 10 && lost < 100 && told.answers == 2000 - lost, "{lost} are lost");
        // A cursor stops there, says which keys are lost, and goes on behind them.
        let mut cursor = table.cursor(Bounds::all());
        let (mut seen, mut moved) = (0, cursor.seek_to_first().await);
        loop {
            while moved.is_ok() && cursor.entry().is_some() {
                seen += 1;
                moved = cursor.next().await;
            }
            let Err(StorageError::Corrupt(damage)) = moved else { break };
            assert_eq!(damage.offset, 4 * 4096);
            let (_, to) = damage.keys.expect("a block's keys are known");
            moved = cursor.seek(&[&to[..], b"\0"].concat(), u64::MAX).await;
        }
        assert_eq!(seen, 2000 - lost);
        let verified = table.verify().await.expect("the disk is healthy");
        assert_eq!((verified.damaged, verified.entries), (1, u64::from(2000 - lost)));
    });
}
