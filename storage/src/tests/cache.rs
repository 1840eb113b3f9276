//! The block cache.

use futures_util::FutureExt;
use futures_util::future::join3;

use super::history::{History, numbered_key};
use super::place::{open, quiet, run_in, write};
use crate::{BlockCache, Bounds, ReadOptions, TableOptions};

const ENTRIES: u32 = 2000;

async fn write_numbered(env: &woodchuck_sim::SimEnv) {
    let written = write(env, &History::numbered(ENTRIES, 100), TableOptions::default()).await;
    written.expect("the disk is healthy");
}

#[test]
fn what_several_want_at_a_time_is_read_once() {
    run_in(&quiet(1), |env| async move {
        write_numbered(&env).await;
        let cache = BlockCache::new(1 << 20);
        let table = open(&env, &cache, ReadOptions::default()).await.expect("it was finished");
        let (one, two, last) = (numbered_key(5), numbered_key(6), numbered_key(ENTRIES - 1));
        let get = |key| table.get(key, u64::MAX);
        let (one, two, last) = join3(get(&one), get(&two), get(&last)).await;
        for found in [one, two, last] {
            assert!(found.expect("it can be read").is_some());
        }
        let partitions = table.properties().partitions.min(2);
        assert_eq!(cache.loads(), 2 + 2 * partitions, "filter, partition and block, each once");
    });
}

#[test]
fn who_waits_goes_on_when_the_reader_is_gone() {
    run_in(&quiet(2), |env| async move {
        write_numbered(&env).await;
        let cache = BlockCache::new(1 << 20);
        let table = open(&env, &cache, ReadOptions::default()).await.expect("it was finished");
        let key = numbered_key(5);
        let mut first = Box::pin(table.get(&key, u64::MAX));
        let mut second = Box::pin(table.get(&key, u64::MAX));
        assert!((&mut first).now_or_never().is_none(), "it reads");
        assert!((&mut second).now_or_never().is_none(), "it waits for that");
        assert_eq!(cache.loads(), 1);
        drop(first);
        assert!(second.await.expect("it can be read").is_some());
    });
}

#[test]
fn it_keeps_what_is_read_again_and_no_more_than_it_may() {
    run_in(&quiet(3), |env| async move {
        write_numbered(&env).await;
        let cache = BlockCache::new(40_000);
        let table = open(&env, &cache, ReadOptions::default()).await.expect("it was finished");
        for round in 0..3 {
            for number in 0..ENTRIES {
                let found = table.get(&numbered_key(number), u64::MAX).await;
                assert!(found.expect("it can be read").is_some(), "round {round}");
                assert!(cache.bytes() <= 40_000, "{} bytes", cache.bytes());
            }
        }
        let loads = cache.loads();
        for _ in 0..10 {
            table.get(&numbered_key(7), u64::MAX).await.expect("it can be read");
        }
        assert!(cache.loads() <= loads + 3, "it is there after the first time");
        cache.forget_table(7);
        assert_eq!(cache.bytes(), 0);
    });
}

#[test]
fn pinned_partitions_are_read_once_and_a_scan_leaves_the_cache_alone() {
    run_in(&quiet(4), |env| async move {
        write_numbered(&env).await;
        let cache = BlockCache::new(0);
        let pinned = ReadOptions { pin_partitions: true };
        let table = open(&env, &cache, pinned).await.expect("it was finished");
        for number in (0..ENTRIES).step_by(100) {
            let found = table.get(&numbered_key(number), u64::MAX).await;
            assert!(found.expect("it can be read").is_some());
        }
        assert_eq!(cache.loads(), u64::from(ENTRIES.div_ceil(100)), "a block each, nothing else");
        let (before, mut cursor) = (cache.loads(), table.cursor(Bounds::all()));
        cursor.seek_to_first().await.expect("it can be read");
        let mut seen = 0;
        while cursor.entry().is_some() {
            seen += 1;
            cursor.next().await.expect("it can be read");
        }
        assert_eq!(seen, ENTRIES);
        assert_eq!(cache.loads() - before, 2, "the first blocks, before it is known to be a scan");
    });
}

/// Keys that are not there cost no read of data, but for the few that the filter lets through.
#[test]
fn filters_spare_reads() {
    run_in(&quiet(5), |env| async move {
        write_numbered(&env).await;
        let cache = BlockCache::new(0);
        let pinned = ReadOptions { pin_partitions: true };
        let table = open(&env, &cache, pinned).await.expect("it was finished");
        for number in 0..ENTRIES {
            let absent = [&numbered_key(number)[..], b"x"].concat();
            assert_eq!(table.get(&absent, u64::MAX).await.expect("it can be read"), None);
        }
        assert!(cache.loads() > 0 && cache.loads() < u64::from(ENTRIES) / 50, "{}", cache.loads());
    });
}
