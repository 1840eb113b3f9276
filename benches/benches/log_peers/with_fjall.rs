//! fjall: a batch of one record, with `fdatasync` of the journal before its commit returns.

use std::path::Path;
use std::time::Duration;

use fjall::{Database, KeyspaceCreateOptions, PersistMode};

use crate::{Control, RECORD_BYTES, with_threads};

pub(crate) fn run(writers: usize, directory: &Path, control: &Control) -> Vec<Duration> {
    let database = Database::builder(directory.join("fjall")).open().expect("a new database");
    let records = database.keyspace("records", KeyspaceCreateOptions::default);
    let records = records.expect("a new keyspace");
    let record = [0x5A_u8; RECORD_BYTES];
    with_threads(writers, control, |number| {
        let mut batch = database.batch().durability(Some(PersistMode::SyncData));
        batch.insert(&records, number.to_be_bytes(), record);
        batch.commit().expect("the disk works");
    })
}
