//! A table that goes down a level does not lie over too much of the next.

use std::path::Path;

use woodchuck_io::{Disk, Env};
use woodchuck_sim::SimEnv;

use super::place::{quiet, run_in};
use crate::compaction::LevelledOptions;
use crate::store::{Operators, Store, StoreOptions};
use crate::{BatchView, BlockCache, KeyspaceOptions, ManifestOptions, WriteBatch};

/// Commits values of keys, flushes them, and compacts once. Gives the tables of the two last levels.
async fn add(
    store: &Store<SimEnv>,
    id: u64,
    sequence: u64,
    keys: impl IntoIterator<Item = u8>,
    value: &[u8],
) -> [Vec<u64>; 2] {
    let (mut batch, mut bytes) = (WriteBatch::new(), Vec::new());
    for key in keys {
        batch.put(id, &[key], value).expect("there is room");
    }
    batch.encode(&mut bytes);
    store.apply(sequence, &BatchView::parse(&bytes).expect("it was encoded"));
    store.flush(id).await.expect("the disk is healthy");
    assert!(store.compact(id).await.expect("the disk is healthy"));
    let version = store.version();
    let levels = version.keyspace(id).expect("it is there").levels();
    [5, 6].map(|level| {
        let runs = levels[level].runs();
        runs.flat_map(|run| run.tables()).map(|table| table.number).collect()
    })
}

#[test]
fn a_table_that_would_lie_over_too_much_is_cut_on_its_way_down() {
    for overlap in [1, 2, 100] {
        run_in(&quiet(1), move |env| async move {
            let disk = env.disk();
            disk.create_directory(Path::new("/store")).await.expect("a directory can be made");
            disk.sync_directory(Path::new("/")).await.expect("its name can be made durable");
            let levelled = LevelledOptions { runs: 1, base_bytes: 60_000, growth: 10, overlap };
            let options = StoreOptions {
                manifest: ManifestOptions::small(),
                table_bytes: 24_000,
                levelled,
                ..StoreOptions::default()
            };
            let (operators, cache) = (Operators::default(), BlockCache::new(1 << 20));
            let opened = Store::open(&env, Path::new("/store"), options, operators, &cache).await;
            let (store, _) = opened.expect("there is nothing");
            let id = store.create_keyspace("k", KeyspaceOptions::default()).await;
            let id = id.expect("there is none");
            let [above, last] = add(&store, id, 1, 0..60, &[7; 5000]).await;
            assert!(above.is_empty() && last.len() >= 10, "{above:?}, {last:?}");
            // It lies over all of them.
            let [above, below] = add(&store, id, 2, [0, 30, 59], b"v").await;
            assert_eq!(below, last);
            assert_eq!(above.len(), if overlap == 100 { 1 } else { 3 }, "{above:?}");
            for key in [0, 30, 59] {
                let found = store.get(id, &[key], None).await.expect("the disk is healthy");
                assert_eq!(found.as_deref(), Some(&b"v"[..]));
            }
        });
    }
}
