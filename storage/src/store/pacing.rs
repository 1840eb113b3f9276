//! How hard writers press on a store, and what they wait for.
//!
//! # The algorithm
//!
//! Writers may be faster than flushes and compactions, for a while: memory, runs of level 0 and
//! tables that are out of order take what comes. Each of these has a [`Limit`], from where on
//! writers are slowed to where they are refused; the **pressure** is how far the worst of them has
//! come between the two.
//!
//! A writer that is slowed waits for **work**: for so many bytes, that flushes and compactions read
//! for rewriting, a byte that it wants to write. How many rises with the pressure, from none to
//! [`WORK_PER_BYTE`]; somewhere between, a byte costs what it causes, and there the pressure stays.
//! So writers slow down no more than they must, all in the same way, and without a clock. They wait
//! in line, so that none is overtaken.
//!
//! There is always work where there is pressure, unless it fails: then writers are told why.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use futures_channel::oneshot;

use crate::compaction::{LevelledOptions, UniversalOptions, levelled_debt};
use crate::error::StorageError;
use crate::limits::{WAITING_WRITERS, WORK_PER_BYTE};
use crate::options::within;
use crate::{Strategy, Version};

/// Where writers are slowed, and where they are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Up to this nobody waits.
    pub slow: u64,
    /// From this on writers are refused.
    pub busy: u64,
}

impl Limit {
    /// How far a value has come from one to the other, in thousandths; none of it, or all, beyond.
    fn pressure(self, value: u64) -> u64 {
        let over = u128::from(value.saturating_sub(self.slow));
        (over * 1000 / u128::from(self.busy - self.slow)).min(1000) as u64
    }

    fn check(self, name: &'static str, least: u64) -> Result<(), StorageError> {
        let most = usize::MAX / 2;
        within(name, self.slow as usize, least as usize, most)?;
        within(name, self.busy as usize, self.slow as usize + 1, most)
    }
}

/// How much flushes and compactions may be behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacingOptions {
    /// Memory of the memtables that take commits from which on the largest is flushed, in bytes.
    pub memtable_bytes: usize,
    /// Of the memory of all memtables, in bytes.
    pub memory: Limit,
    /// Of the runs of level 0 of a levelled keyspace, or of all runs of a universal one.
    pub runs: Limit,
    /// Of what is to be rewritten until all is in order, in bytes.
    pub debt: Limit,
}

impl Default for PacingOptions {
    fn default() -> Self {
        Self {
            memtable_bytes: 64 << 20,
            memory: Limit { slow: 128 << 20, busy: 512 << 20 },
            runs: Limit { slow: 8, busy: 40 },
            debt: Limit { slow: 2 << 30, busy: 32 << 30 },
        }
    }
}

impl PacingOptions {
    /// # Errors
    /// `Options` if writers could be slowed where there is nothing to do.
    pub(super) fn check(
        &self,
        levelled: &LevelledOptions,
        universal: &UniversalOptions,
    ) -> Result<(), StorageError> {
        within("memtable_bytes", self.memtable_bytes, 1, 1 << 40)?;
        self.memory.check("the limit of memory", self.memtable_bytes as u64)?;
        let runs = levelled.runs.max(universal.runs);
        self.runs.check("the limit of runs", runs as u64)?;
        self.debt.check("the limit of debt", 0)
    }
}

/// How far tables are behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Behind {
    /// Runs of the keyspace that has the most, of those that are to be merged.
    pub(super) runs: u64,
    /// Bytes that are to be rewritten.
    pub(super) debt: u64,
}

impl Behind {
    pub(super) fn of(version: &Version, levelled: &LevelledOptions) -> Self {
        let mut behind = Self::default();
        for keyspace in version.keyspaces() {
            let runs = match keyspace.options().strategy {
                Strategy::Levelled => {
                    behind.debt += levelled_debt(keyspace, levelled);
                    keyspace.levels().first().map_or(0, |level| level.runs().count())
                }
                Strategy::Universal => {
                    keyspace.levels().iter().map(|level| level.runs().count()).sum()
                }
                // It has as many as come until they end.
                Strategy::Fifo { .. } => 0,
            };
            behind.runs = behind.runs.max(runs as u64);
        }
        behind
    }

    /// The worst of these and of the memory that memtables take, in thousandths, and what it is.
    pub(super) fn pressure(self, memory: usize, options: &PacingOptions) -> (u64, &'static str) {
        let all = [
            (options.memory.pressure(memory as u64), "memory for what is not flushed"),
            (options.runs.pressure(self.runs), "number of runs of a keyspace"),
            (options.debt.pressure(self.debt), "compaction debt"),
        ];
        all.into_iter().max_by_key(|(pressure, _)| *pressure).unwrap_or_default()
    }
}

/// Writers that wait, and the work that they wait for.
#[derive(Default)]
pub(super) struct Pacer {
    /// Bytes that were read for rewriting.
    done: Cell<u64>,
    /// Where the line ends: how much has to be done until the last that waits goes on.
    due: Cell<u64>,
    waiting: RefCell<VecDeque<(u64, oneshot::Sender<()>)>>,
}

impl Pacer {
    /// Takes a place in the line, for what `bytes` cost at this pressure. `None` if nobody has to
    /// wait.
    ///
    /// # Errors
    /// `Busy` if too many wait.
    pub(super) fn line_up(
        &self,
        bytes: usize,
        pressure: u64,
    ) -> Result<Option<oneshot::Receiver<()>>, StorageError> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            self.due.set(self.done.get());
        }
        let cost = (bytes as u64).saturating_mul(pressure * WORK_PER_BYTE) / 1000;
        if cost == 0 && waiting.is_empty() {
            return Ok(None);
        }
        if waiting.len() >= WAITING_WRITERS {
            return Err(StorageError::Busy { what: "line of writers that wait" });
        }
        self.due.set(self.due.get().saturating_add(cost));
        let (go, told) = oneshot::channel();
        waiting.push_back((self.due.get(), go));
        Ok(Some(told))
    }

    /// Notes work, and lets those go on that waited for it.
    pub(super) fn work(&self, bytes: usize) {
        let done = self.done.get().saturating_add(bytes as u64);
        self.done.set(done);
        let mut waiting = self.waiting.borrow_mut();
        while let Some((due, _)) = waiting.front()
            && *due <= done
            && let Some((_, go)) = waiting.pop_front()
        {
            // Who has gone away does not write.
            let _gone = go.send(());
        }
    }

    /// Lets all go on.
    pub(super) fn release(&self) {
        for (_, go) in self.waiting.take() {
            let _gone = go.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn pressure_rises_from_one_end_of_a_limit_to_the_other() {
        let limit = Limit { slow: 100, busy: 300 };
        let pressures = [0, 100, 101, 150, 299, 300, u64::MAX].map(|value| limit.pressure(value));
        assert_eq!(pressures, [0, 0, 5, 250, 995, 1000, 1000]);
        let runs = Limit { slow: 4, busy: 8 };
        let options = PacingOptions { memory: limit, runs, debt: limit, memtable_bytes: 1 };
        let worst = |runs, debt, memory| Behind { runs, debt }.pressure(memory, &options);
        assert_eq!(worst(4, 100, 100).0, 0);
        assert_eq!(worst(6, 150, 200), (500, "number of runs of a keyspace"));
        assert_eq!(worst(5, 400, 200), (1000, "compaction debt"));
        assert_eq!(worst(5, 150, 299), (995, "memory for what is not flushed"));
    }

    #[test]
    fn options_with_which_writers_would_wait_for_nothing_are_refused() {
        let levelled = LevelledOptions::default();
        let universal = UniversalOptions { runs: 2, ..UniversalOptions::default() };
        let good = PacingOptions::default();
        good.check(&levelled, &universal).expect("the default is good");
        let many = UniversalOptions { runs: good.runs.slow as usize + 1, ..universal };
        let error = good.check(&levelled, &many).expect_err("so many are never merged");
        assert!(error.to_string().contains("limit of runs"), "{error}");
        let memory = Limit { slow: good.memtable_bytes as u64 - 1, ..good.memory };
        let runs = Limit { slow: levelled.runs as u64 - 1, ..good.runs };
        let debt = Limit { slow: 5, busy: 5 };
        for (wrong, what) in [
            (PacingOptions { memory, ..good }, "limit of memory"),
            (PacingOptions { runs, ..good }, "limit of runs"),
            (PacingOptions { debt, ..good }, "limit of debt"),
            (PacingOptions { memtable_bytes: 0, ..good }, "memtable_bytes"),
        ] {
            let error = wrong.check(&levelled, &universal).expect_err(what);
            assert!(error.to_string().contains(what), "{error}");
        }
    }

    #[test]
    fn writers_go_on_in_line_when_their_work_is_done() {
        let pacer = Pacer::default();
        pacer.work(1 << 20);
        assert!(pacer.line_up(100, 0).expect("there is room").is_none(), "there is no pressure");
        let mut turns: Vec<_> = [(100, 500), (1, 1), (100, 0), (100, 1000)]
            .into_iter()
            .filter_map(|(bytes, pressure)| pacer.line_up(bytes, pressure).expect("there is room"))
            .collect();
        // 12800, nothing, nothing, and 25600 more. Who costs nothing waits behind who does.
        assert_eq!(turns.len(), 4);
        let told = |turns: &mut Vec<oneshot::Receiver<()>>| -> Vec<bool> {
            turns.iter_mut().map(|turn| turn.now_or_never().is_some()).collect()
        };
        pacer.work(12_799);
        assert_eq!(told(&mut turns), [false; 4]);
        pacer.work(1);
        let mut last = turns.split_off(3);
        assert_eq!(told(&mut turns), [true; 3]);
        pacer.work(25_599);
        assert_eq!(told(&mut last), [false]);
        pacer.work(1);
        assert_eq!(told(&mut last), [true]);
        // What was done when nobody waited is nobody's.
        pacer.work(1 << 20);
        let mut more = vec![pacer.line_up(1, 1000).expect("there is room").expect("it costs")];
        assert_eq!(told(&mut more), [false]);
        pacer.release();
        assert_eq!(told(&mut more), [true]);
    }

    #[test]
    fn the_line_has_an_end() {
        let pacer = Pacer::default();
        let line: Vec<_> = (0..WAITING_WRITERS).map(|_| pacer.line_up(1, 1000)).collect();
        assert!(line.iter().all(Result::is_ok));
        assert!(matches!(pacer.line_up(1, 1000), Err(StorageError::Busy { .. })));
    }
}
