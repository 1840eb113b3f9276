//! The levels of a levelled keyspace.
//!
//! # Levels
//!
//! A levelled keyspace has its newest tables in level 0, where runs overlap, and the others in
//! levels of one run each. The last level is meant to have almost everything: from its size, the
//! **targets** of those above it follow, each a tenth of the one below, up to the **base**, the
//! first whose target is no more than [`LevelledOptions::base_bytes`]. Level 0 is rewritten into
//! the base; levels between are empty. So however much there is, what the levels above the last
//! hold besides it is a ninth of it. (These are RocksDB's dynamic level sizes.)
//!
//! # What is picked
//!
//! Each level has a score, how many times over its target it is; level 0 by its runs and by its
//! bytes. The level with the highest is rewritten into the next, if that is 1 at least: level 0 as
//! a whole, of others the table that has the least under it for its size, with all tables that it
//! overlaps there. A table that overlaps none goes down as it is.
//!
//! What is rewritten is cut where it would lie over too much of the level below the next one
//! ([`LevelledOptions::overlap`]): each table that comes out will be rewritten with all that it
//! overlaps there. One that would go down as it is, and lie over too much, is rewritten instead.

use std::rc::Rc;

use super::{Action, Pick, bytes_of};
use crate::limits::LEVELLED_LEVELS;
use crate::{Keyspace, TableMetadata};

/// When levels are rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelledOptions {
    /// Runs of level 0 from which on it is rewritten.
    pub runs: usize,
    /// The most that the base, the level into which level 0 is rewritten, is meant to have, in
    /// bytes.
    pub base_bytes: u64,
    /// How many times as much as the level above a level is meant to have.
    pub growth: u64,
    /// Over how many tables' bytes of the level below its own a table may lie.
    pub overlap: usize,
}

impl Default for LevelledOptions {
    fn default() -> Self {
        Self { runs: 4, base_bytes: 256 << 20, growth: 10, overlap: 10 }
    }
}

/// How much each level is meant to have, in bytes, and which is the base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Targets {
    pub(super) base: usize,
    /// By level; of those above the base, 0.
    pub(super) bytes: [u64; LEVELLED_LEVELS],
}

impl Targets {
    pub(super) fn of(sizes: &[u64; LEVELLED_LEVELS], options: &LevelledOptions) -> Self {
        let mut size = sizes[1..].iter().copied().max().unwrap_or(0).max(options.base_bytes);
        let (mut base, mut bytes) = (LEVELLED_LEVELS - 1, [0; LEVELLED_LEVELS]);
        bytes[base] = size;
        while size > options.base_bytes && base > 1 {
            base -= 1;
            size /= options.growth;
            bytes[base] = size;
        }
        Self { base, bytes }
    }
}

fn sizes(keyspace: &Keyspace) -> [u64; LEVELLED_LEVELS] {
    let mut sizes = [0; LEVELLED_LEVELS];
    for (size, level) in sizes.iter_mut().zip(keyspace.levels()) {
        *size = level.runs().map(|run| bytes_of(run)).sum();
    }
    sizes
}

/// What of a levelled keyspace is to be rewritten next; nothing if all levels are as they are meant
/// to be.
#[must_use]
pub fn pick_levelled(keyspace: &Keyspace, options: &LevelledOptions) -> Option<Pick> {
    let sizes = sizes(keyspace);
    let targets = Targets::of(&sizes, options);
    let runs = keyspace.levels().first().map_or(0, |level| level.runs().count());
    // In thousandths, so that it is exact.
    let mut scores = [0_u64; LEVELLED_LEVELS];
    scores[0] = (1000 * runs as u64 / options.runs.max(1) as u64)
        .max(1000 * sizes[0] / options.base_bytes.max(1));
    for level in 1..LEVELLED_LEVELS - 1 {
        scores[level] = match targets.bytes[level] {
            // Above the base, which has moved down since: all of it goes.
            0 if sizes[level] > 0 => 10_000,
            0 => 0,
            target => 1000 * sizes[level] / target,
        };
    }
    let (level, &score) = scores.iter().enumerate().rev().max_by_key(|(_, score)| **score)?;
    if score < 1000 {
        return None;
    }
    if level == 0 { pick_runs(keyspace, targets.base) } else { pick_table(keyspace, level) }
}

/// About how many bytes of tables are to be read until the levels of a levelled keyspace are as
/// they are meant to be. Where it is not 0, there is something to pick.
///
/// What goes down a level is read with what it overlaps there, which is taken to be its share of
/// that level.
#[must_use]
pub fn levelled_debt(keyspace: &Keyspace, options: &LevelledOptions) -> u64 {
    let sizes = sizes(keyspace);
    let targets = Targets::of(&sizes, options);
    let runs = keyspace.levels().first().map_or(0, |level| level.runs().count());
    let (mut debt, mut coming) = (0_u64, 0_u64);
    if runs >= options.runs || sizes[0] >= options.base_bytes {
        let below = sizes[targets.base].min(sizes[0].saturating_mul(options.growth));
        debt = sizes[0] + below;
        coming = sizes[0];
    }
    for level in 1..LEVELLED_LEVELS - 1 {
        let size = sizes[level] + if level >= targets.base { coming } else { 0 };
        let excess = size.saturating_sub(targets.bytes[level]);
        if excess > 0 {
            let share = u128::from(sizes[level + 1]) * u128::from(excess) / u128::from(size);
            debt = debt.saturating_add(excess).saturating_add(share as u64);
        }
        if level >= targets.base {
            coming = excess;
        }
    }
    debt
}

/// All of level 0, and what it overlaps in the base.
fn pick_runs(keyspace: &Keyspace, base: usize) -> Option<Pick> {
    let runs = keyspace.levels().first()?.runs();
    let mut inputs: Vec<Vec<_>> = runs.map(|run| run.tables().to_vec()).collect();
    // Levels between are empty, or their tables are older than level 0 and newer than the base's.
    let into = (1..=base).find(|&level| tables(keyspace, level).next().is_some());
    let into = into.unwrap_or(base);
    let all: Vec<_> = inputs.iter().flatten().cloned().collect();
    let below = overlapping(keyspace, into, &all);
    let is_move = inputs.len() == 1 && all.len() == 1 && below.is_empty();
    if !below.is_empty() {
        inputs.push(below);
    }
    Some(Pick { into: into as u8, run: 0, inputs, action: rewrite_unless(is_move) })
}

/// The table of a level that has the least under it, and that.
fn pick_table(keyspace: &Keyspace, level: usize) -> Option<Pick> {
    let candidates = tables(keyspace, level).map(|table| {
        let below = overlapping(keyspace, level + 1, std::slice::from_ref(table));
        let under: u64 = below.iter().map(|table| table.file_bytes).sum();
        (1000 * under / table.file_bytes.max(1), table, below)
    });
    let (_, table, below) = candidates.min_by_key(|(ratio, table, _)| (*ratio, table.number))?;
    let is_move = below.is_empty();
    let mut inputs = vec![vec![Rc::clone(table)]];
    if !is_move {
        inputs.push(below);
    }
    Some(Pick { into: level as u8 + 1, run: 0, inputs, action: rewrite_unless(is_move) })
}

const fn rewrite_unless(is_move: bool) -> Action {
    if is_move { Action::Move } else { Action::Rewrite }
}

fn tables(keyspace: &Keyspace, level: usize) -> impl Iterator<Item = &Rc<TableMetadata>> {
    let level = keyspace.levels().get(level).into_iter();
    level.flat_map(|level| level.runs()).flat_map(|run| run.tables())
}

/// The tables of a level that have keys in common with others, as a range.
fn overlapping(
    keyspace: &Keyspace,
    level: usize,
    others: &[Rc<TableMetadata>],
) -> Vec<Rc<TableMetadata>> {
    let overlaps = |table: &&Rc<TableMetadata>| {
        // The range over all of them: a table between two of them may be needed to keep the level
        // in order.
        let is_in_front = others.iter().all(|other| table.is_before(other));
        let is_behind = others.iter().all(|other| other.is_before(table));
        !is_in_front && !is_behind
    };
    tables(keyspace, level).filter(overlaps).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: LevelledOptions =
        LevelledOptions { runs: 4, base_bytes: 100, growth: 10, overlap: 10 };

    #[test]
    fn targets_follow_from_the_largest_level() {
        let targets = |sizes: &[(usize, u64)]| {
            let mut all = [0; LEVELLED_LEVELS];
            sizes.iter().for_each(|&(level, size)| all[level] = size);
            Targets::of(&all, &OPTIONS)
        };
        let last = LEVELLED_LEVELS - 1;
        for (sizes, base, expected) in [
            (&[][..], last, &[100][..]),
            (&[(0, 5000)], last, &[100]),
            (&[(last, 100)], last, &[100]),
            (&[(last, 101)], last - 1, &[10, 101]),
            (&[(last, 1000)], last - 1, &[100, 1000]),
            (&[(last, 1009)], last - 1, &[100, 1009]),
            (&[(last, 1010)], last - 2, &[10, 101, 1010]),
            (&[(last, 20_000), (last - 1, 400)], last - 3, &[20, 200, 2000, 20_000]),
            (&[(last, u64::MAX)], 1, &[]),
        ] {
            let found = targets(sizes);
            assert_eq!(found.base, base, "{sizes:?}");
            let ends = &found.bytes[LEVELLED_LEVELS - expected.len()..];
            assert_eq!(ends, expected, "{sizes:?}");
            assert!(found.bytes[..base].iter().all(|&bytes| bytes == 0), "{sizes:?}");
        }
    }
}
