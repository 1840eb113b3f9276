//! Which tables are rewritten next, so that reads look into few of them and little is held that
//! nobody can see.
//!
//! Each strategy is a function of what a keyspace has: [`pick_levelled`], [`pick_universal`],
//! [`pick_fifo`]. Whoever does what was picked asks again, until there is nothing.
//!
//! # The order of age
//!
//! Of two versions of a key that are in different runs, the one in the upper level is newer; in one
//! level, that in the run with the greater number. Whatever is picked keeps it so: what comes of
//! several runs takes the place of the newest of them, and none that stays is between them. A run
//! that is flushed meanwhile gets a greater number.

mod fifo;
mod levelled;
mod universal;

use std::rc::Rc;

pub use fifo::{FifoOptions, pick_fifo};
pub use levelled::{LevelledOptions, levelled_debt, pick_levelled};
pub use universal::{UniversalOptions, pick_universal};

use crate::{Keyspace, Run, TableMetadata};

/// What is to be done with some tables of a keyspace.
#[derive(Clone, Debug)]
pub struct Pick {
    /// The level into which goes what comes of them.
    pub into: u8,
    /// The run of that level.
    pub run: u64,
    /// The tables by run, the newest run first. None is empty.
    pub inputs: Vec<Vec<Rc<TableMetadata>>>,
    /// What is done with them.
    pub action: Action,
}

/// What is done with tables that were picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// They are rewritten, together.
    Rewrite,
    /// The one that there is goes into the level as it is, unless it would have to be cut there.
    Move,
    /// They are removed: nobody sees what is in them.
    Remove,
}

impl Pick {
    /// All tables.
    pub fn tables(&self) -> impl Iterator<Item = &Rc<TableMetadata>> {
        self.inputs.iter().flatten()
    }

    /// Bytes of all of them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.tables().map(|table| table.file_bytes).sum()
    }

    /// The level and run of the oldest. What is in runs behind it is older than all of them.
    #[must_use]
    pub fn oldest(&self) -> (u8, u64) {
        let oldest = self.inputs.last().and_then(|run| run.first());
        oldest.map_or((self.into, self.run), |table| (table.level, table.run))
    }

    /// Merges runs that are neighbours in age, of which there is one at least.
    fn merge(runs: &[&Rc<Run>]) -> Self {
        let newest = runs[0].tables()[0].as_ref();
        let inputs = runs.iter().map(|run| run.tables().to_vec()).collect();
        Self { into: newest.level, run: newest.run, inputs, action: Action::Rewrite }
    }
}

fn bytes_of(run: &Run) -> u64 {
    run.tables().iter().map(|table| table.file_bytes).sum()
}

/// All runs, the newest first.
fn runs_by_age(keyspace: &Keyspace) -> Vec<&Rc<Run>> {
    keyspace.levels().iter().flat_map(|level| level.runs()).collect()
}
