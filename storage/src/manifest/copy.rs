//! A manifest of one version, for a copy of a store.
//!
//! The fault model: a crash may come at any moment, and any operation may fail: then the copy has a
//! manifest that is refused, or none. Whoever makes it gives it its name when it is whole.

use std::path::Path;

use woodchuck_io::Env;

use super::FOLDER;
use super::handle::Manifest;
use super::options::ManifestOptions;
use super::state::State;
use super::version::Version;
use crate::error::StorageError;

/// Makes the manifest of a store in `directory`, where there is none, that says the same as
/// `version` of its keyspaces `kept`. When this returns, it is durable, but for the names of
/// `directory` and those above.
///
/// # Errors
/// `Manifest`.
pub(crate) async fn write_copy<E: Env>(
    env: &E,
    directory: &Path,
    options: ManifestOptions,
    version: &Version,
    kept: impl Fn(u64) -> bool,
) -> Result<(), StorageError> {
    let Version { store, number, numbers_below, .. } = *version;
    let mut state = State::new(Version::empty(store, number, numbers_below));
    let changes: Vec<_> = version.changes().filter(|change| kept(change.keyspace())).collect();
    if !changes.is_empty() {
        let wrong = |reason| StorageError::EditRefused { reason };
        let prepared = state.prepare_part(&changes).map_err(wrong)?;
        state.apply(prepared);
    }
    let folder = directory.join(FOLDER);
    Manifest::create(env, &folder, options, state).await?.close().await
}
