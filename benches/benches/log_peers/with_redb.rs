//! redb: a transaction of one record, immediately durable.

use std::path::Path;
use std::time::Duration;

use redb::{Database, Durability, TableDefinition};

use crate::{Control, RECORD_BYTES, with_threads};

const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");

pub(crate) fn run(writers: usize, directory: &Path, control: &Control) -> Vec<Duration> {
    let database = Database::create(directory.join("redb")).expect("a new database");
    let record = [0x5A_u8; RECORD_BYTES];
    with_threads(writers, control, |number| {
        let mut transaction = database.begin_write().expect("a transaction");
        transaction.set_durability(Durability::Immediate).expect("nothing was changed yet");
        let mut records = transaction.open_table(RECORDS).expect("the table");
        records.insert(number, &record[..]).expect("the disk works");
        drop(records);
        transaction.commit().expect("the disk works");
    })
}
