//! Tests of the manifest.

mod damage;
mod faults;
mod files;
mod fixture;
mod model;
mod opening;
mod record;
mod replay;
mod state;

use std::path::Path;

use woodchuck_sim::SimEnv;

use super::place::DIRECTORY;
use crate::{Manifest, ManifestOpened, ManifestOptions, StorageError, TableMetadata};

type SimManifest = Manifest<SimEnv>;

/// A table of one keyspace with the keys from `smallest` to `largest`, in run 0 of level 1.
pub(super) fn table(keyspace: u64, number: u64, smallest: &str, largest: &str) -> TableMetadata {
    TableMetadata {
        keyspace,
        number,
        level: 1,
        run: 0,
        smallest_key: smallest.into(),
        largest_key: largest.into(),
        is_largest_excluded: false,
        smallest_sequence: 5,
        largest_sequence: 9,
        entries: 12,
        range_tombstones: 1,
        file_bytes: 3 * 4096,
        ends_at_ms: None,
    }
}

async fn open_with(
    env: &SimEnv,
    options: ManifestOptions,
) -> Result<(SimManifest, ManifestOpened), StorageError> {
    Manifest::open(env, Path::new(DIRECTORY), options).await
}

async fn open(env: &SimEnv) -> Result<(SimManifest, ManifestOpened), StorageError> {
    open_with(env, ManifestOptions::small()).await
}
