//! A table answers as a sorted map does, whatever it is made of and however it is read.

use std::collections::btree_map::Range;

use woodchuck_io::RandomStream;
use woodchuck_sim::{SimEnv, World};

use super::history::{History, Key, SEQUENCES, Value, Version, draw_key};
use super::place::{SimFile, SimTable, draw_options, open, quiet, random, run_in, write};
use crate::{BlockCache, Bounds, Cursor, Kind, PrefixExtractor, ReadOptions, TableOptions};

const SEEDS: u64 = 1200;

#[test]
fn tables_answer_as_a_sorted_map_does() {
    for seed in 0..SEEDS {
        // With the usual faults: reads are short, operations end in any order.
        run_in(&World::new(seed), move |env| compare(env, seed));
    }
}

async fn compare(env: SimEnv, seed: u64) {
    let mut random = random(seed);
    let options = draw_options(&mut random);
    let entries = [1, 5, 60, 400][random.below(4) as usize];
    let history = History::draw(&mut random, entries);
    let finished = write(&env, &history, options.clone()).await.expect("the disk is healthy");
    let cache = BlockCache::new([0, 20_000, 10 << 20][random.below(3) as usize]);
    let pin = ReadOptions { pin_partitions: random.below(2) == 0 };
    let table = open(&env, &cache, pin).await.expect("it was finished");
    assert_eq!(table.properties(), &finished.properties);
    assert_eq!(table.file_bytes(), finished.file_bytes);
    check_properties(&table, &history, &options);
    let verified = table.verify().await.expect("it can be read");
    assert_eq!(
        (verified.damaged, verified.entries),
        (0, history.entries.len() as u64),
        "{verified:?}"
    );
    for _ in 0..150 {
        check_point(&table, &history, &mut random).await;
    }
    for _ in 0..12 {
        check_walk(&table, &history, &mut random).await;
    }
    check_scans(&table, &history).await;
}

fn check_properties(table: &SimTable, history: &History, options: &TableOptions) {
    let found = table.properties();
    let entries = || history.entries.iter();
    let count = |kind| entries().filter(|((_, version), _)| version.kind == kind).count() as u64;
    let of_entries = entries().map(|((_, version), _)| version.sequence);
    let sequences = || of_entries.clone().chain(history.tombstones.iter().map(|(.., at)| *at));
    assert_eq!(found.entries, history.entries.len() as u64);
    assert_eq!((found.deletions, found.merges), (count(Kind::Deletion), count(Kind::Merge)));
    assert_eq!(found.expiring, count(Kind::ExpiringValue));
    assert_eq!(found.range_tombstones, history.tombstones.len() as u64);
    assert_eq!(Some(&found.smallest_key), entries().next().map(|((key, _), _)| key));
    assert_eq!(Some(&found.largest_key), entries().next_back().map(|((key, _), _)| key));
    assert_eq!(Some(found.smallest_sequence), sequences().min());
    assert_eq!(Some(found.largest_sequence), sequences().max());
    let expiries = || entries().filter_map(|(_, (expiry, _))| *expiry);
    assert_eq!(
        (found.earliest_expiry_ms, found.latest_expiry_ms),
        (expiries().min(), expiries().max())
    );
    assert_eq!(found.filter_bits_per_key, options.filter_bits_per_key);
    assert_eq!(found.prefix, options.prefix);
    assert!(found.stored_bytes + found.padding_bytes < table.file_bytes());
}

/// A key that is there, more often than not.
fn draw_near(history: &History, random: &mut RandomStream) -> Vec<u8> {
    let mut key = draw_key(random);
    if random.below(3) > 0 {
        let number = random.below(history.entries.len() as u64) as usize;
        key = history.entries.keys().nth(number).expect("below their number").0.clone();
        match random.below(4) {
            0 => key.push(random.below(256) as u8),
            1 => drop(key.pop()),
            _ => {}
        }
    }
    key
}

fn draw_snapshot(random: &mut RandomStream) -> u64 {
    if random.below(4) == 0 { u64::MAX } else { random.below(SEQUENCES + 1) }
}

async fn check_point(table: &SimTable, history: &History, random: &mut RandomStream) {
    let (key, snapshot) = (draw_near(history, random), draw_snapshot(random));
    let found = table.get(&key, snapshot).await.expect("it can be read");
    let found = found.map(|found| {
        let version = Version { sequence: found.sequence, kind: found.kind };
        (version, (found.expires_at_ms, found.value.to_vec()))
    });
    let expected = history.newest(&key, snapshot);
    assert_eq!(found, expected.map(|(version, value)| (version, value.clone())));
    let over = table.range_tombstones().newest_over(&key, snapshot);
    assert_eq!(over, history.tombstone_over(&key, snapshot), "over {key:?} at {snapshot}");
}

fn here(cursor: &Cursor<SimFile>) -> Option<(Key, Value)> {
    let entry = cursor.entry()?;
    let version = Version { sequence: entry.sequence, kind: entry.kind };
    assert_eq!(cursor.value().as_deref(), Some(entry.value));
    Some(((entry.user_key.to_vec(), version), (entry.expires_at_ms, entry.value.to_vec())))
}

fn within<'a>(
    history: &'a History,
    lower: Option<&[u8]>,
    upper: Option<&[u8]>,
) -> Vec<(&'a Key, &'a Value)> {
    let all: Range<'a, Key, Value> = history.entries.range(..);
    all.filter(|((key, _), _)| lower.is_none_or(|lower| key.as_slice() >= lower))
        .filter(|((key, _), _)| upper.is_none_or(|upper| key.as_slice() < upper))
        .collect()
}

/// Seeks and steps of all kinds, in bounds of all kinds.
async fn check_walk(table: &SimTable, history: &History, random: &mut RandomStream) {
    let lower = (random.below(3) == 0).then(|| draw_near(history, random));
    let upper = (random.below(3) == 0).then(|| draw_near(history, random));
    let (bounds, seen) = if random.below(3) == 0 {
        let mut prefix = draw_near(history, random);
        prefix.truncate(random.below(8) as usize);
        let mut seen = within(history, None, None);
        seen.retain(|((key, _), _)| key.starts_with(&prefix));
        let may_have = table.may_have_prefix(&prefix).await.expect("it can be read");
        assert!(may_have || seen.is_empty(), "{prefix:?} is there");
        (Bounds::prefix(&prefix), seen)
    } else {
        let bounds = Bounds::range(lower.as_deref(), upper.as_deref());
        (bounds, within(history, lower.as_deref(), upper.as_deref()))
    };
    let mut cursor = table.cursor(bounds);
    assert_eq!(here(&cursor), None);
    // Where the cursor stands among what it sees.
    let mut at: Option<usize> = None;
    for _ in 0..40 {
        let (key, snapshot) = (draw_near(history, random), draw_snapshot(random));
        match random.below(12) {
            0 => {
                cursor.seek_to_first().await.expect("it can be read");
                at = Some(0);
            }
            1 => {
                cursor.seek_to_last().await.expect("it can be read");
                at = seen.len().checked_sub(1);
            }
            2 | 3 => {
                cursor.seek(&key, snapshot).await.expect("it can be read");
                let behind = |((found, version), _): &(&Key, &Value)| {
                    *found > key || (*found == key && version.sequence <= snapshot)
                };
                at = seen.iter().position(behind);
            }
            4 | 5 => {
                cursor.seek_for_prev(&key).await.expect("it can be read");
                at = seen.iter().rposition(|((found, _), _)| *found <= key);
            }
            6..9 => {
                cursor.next().await.expect("it can be read");
                at = at.map(|at| at + 1);
            }
            _ => {
                cursor.prev().await.expect("it can be read");
                at = at.and_then(|at| at.checked_sub(1));
            }
        }
        at = at.filter(|&at| at < seen.len());
        let expected = at.map(|at| (seen[at].0.clone(), seen[at].1.clone()));
        assert_eq!(here(&cursor), expected);
    }
}

async fn check_scans(table: &SimTable, history: &History) {
    let mut cursor = table.cursor(Bounds::all());
    cursor.seek_to_first().await.expect("it can be read");
    for (key, value) in &history.entries {
        assert_eq!(here(&cursor), Some((key.clone(), value.clone())));
        cursor.next().await.expect("it can be read");
    }
    assert_eq!(here(&cursor), None);
    cursor.seek_to_last().await.expect("it can be read");
    for (key, value) in history.entries.iter().rev() {
        assert_eq!(here(&cursor), Some((key.clone(), value.clone())));
        cursor.prev().await.expect("it can be read");
    }
    assert_eq!(here(&cursor), None);
}

/// Prefixes begin and end anywhere in partitions, and separators may begin with the next one.
#[test]
fn no_prefix_is_denied_that_is_there() {
    for (seed, prefix) in
        [PrefixExtractor::Length(2), PrefixExtractor::Delimiter(b'/')].into_iter().enumerate()
    {
        run_in(&quiet(seed as u64), move |env| async move {
            let options = TableOptions {
                block_bytes: 128,
                partition_bytes: 64,
                filter_bits_per_key: 20,
                prefix: Some(prefix),
                ..TableOptions::default()
            };
            let mut history = History::default();
            let letters = |number: u32| [b'a' + (number / 26) as u8, b'a' + (number % 26) as u8];
            let version = Version { sequence: 1, kind: Kind::Value };
            for group in (0..26 * 26).filter(|group| group % 3 > 0) {
                for member in 0..=group % 4 {
                    let key = [&letters(group)[..], b"/member", &member.to_be_bytes()].concat();
                    history.entries.insert((key, version), (None, vec![0; group as usize % 50]));
                }
            }
            write(&env, &history, options).await.expect("the disk is healthy");
            let cache = BlockCache::new(10 << 20);
            let table = open(&env, &cache, ReadOptions::default()).await.expect("it was finished");
            let mut spared = 0;
            for group in 0..26 * 26 {
                for asked in [&letters(group)[..], &[&letters(group)[..], b"/mem"].concat()] {
                    let may_have = table.may_have_prefix(asked).await.expect("it can be read");
                    assert!(may_have || group % 3 == 0, "{}", asked.escape_ascii());
                    spared += u32::from(!may_have);
                }
            }
            assert!(spared > 150, "the filter is of use: {spared}");
        });
    }
}
