//! When the values of FIFO keyspaces end.
//!
//! It is decided before a batch is committed, and stands in the batch: whoever replays the log,
//! whenever that is, makes the same of it.

use woodchuck_io::Env;

use super::Store;
use crate::{BatchError, Strategy, WriteBatch};

impl<E: Env> Store<E> {
    /// Gives an end to the values of a batch that are put into FIFO keyspaces and have none: as long
    /// after now as the keyspace says. Who commits batches calls it for each, in front of
    /// [`check`](Self::check). A value that has no end keeps its table, and those newer ones that
    /// are over its keys; so does a merge operand.
    ///
    /// # Errors
    /// `Full`: with their ends, they are more than a batch may have. The batch has some of them
    /// then, and is not to be committed.
    pub fn end_values(&self, batch: &mut WriteBatch) -> Result<(), BatchError> {
        let (version, now_ms) = (self.version(), self.now_ms());
        let keyspaces: Vec<u64> = batch.keyspaces().collect();
        for id in keyspaces {
            let strategy = version.keyspace(id).map(|keyspace| keyspace.options().strategy);
            if let Some(Strategy::Fifo { ttl_ms }) = strategy {
                batch.end_values(id, now_ms.saturating_add(ttl_ms))?;
            }
        }
        Ok(())
    }
}
