//! Which tables of a levelled keyspace are rewritten next.

use std::rc::Rc;

use super::manifest::table;
use crate::compaction::{Action, LevelledOptions, Pick, pick_levelled};
use crate::manifest::state::State;
use crate::{Edit, Keyspace, KeyspaceOptions, Strategy, TableMetadata, Version};

/// The smallest file of a table, in bytes.
pub(super) const UNIT: u64 = 3 * 4096;
const OPTIONS: LevelledOptions =
    LevelledOptions { runs: 3, base_bytes: 100 * UNIT, growth: 10, overlap: 10 };

/// A table: its number, level, run, first and last key, and size in units.
type Table = (u64, u8, u64, &'static str, &'static str, u64);

/// A keyspace that has these tables, and no other.
pub(super) fn keyspace_of(
    strategy: Strategy,
    tables: impl IntoIterator<Item = TableMetadata>,
) -> Rc<Keyspace> {
    let mut state = State::new(Version::empty(1, 0, 1 << 20));
    let options = KeyspaceOptions { strategy, ..KeyspaceOptions::default() };
    let edit = Edit::new().create_keyspace(1, "one", options).flushed(1, 50);
    let edit = tables.into_iter().fold(edit, Edit::add_table);
    let prepared = state.prepare(&edit.changes, 1 << 20).expect("it is right");
    state.apply(prepared);
    Rc::clone(state.version().keyspace(1).expect("it is there"))
}

fn keyspace(tables: &[Table]) -> Rc<Keyspace> {
    let tables = tables.iter().map(|&(number, level, run, start, end, size)| {
        let file_bytes = size * UNIT;
        TableMetadata { level, run, file_bytes, ..table(1, number, start, end) }
    });
    keyspace_of(Strategy::Levelled, tables)
}

/// Where what is picked goes, the numbers of its tables by run, and whether it is a move.
fn picked(tables: &[Table]) -> Option<(u8, Vec<Vec<u64>>, bool)> {
    let Pick { into, run, inputs, action } = pick_levelled(&keyspace(tables), &OPTIONS)?;
    assert!(run == 0 && action != Action::Remove, "{action:?} into run {run}");
    let numbers = |run: &Vec<Rc<TableMetadata>>| run.iter().map(|table| table.number).collect();
    Some((into, inputs.iter().map(numbers).collect(), action == Action::Move))
}

#[test]
fn what_is_in_order_is_left_alone() {
    assert_eq!(picked(&[]), None);
    assert_eq!(picked(&[(1, 0, 1, "a", "z", 40), (2, 0, 2, "a", "z", 59)]), None);
    assert_eq!(picked(&[(1, 6, 0, "a", "z", 5000)]), None, "the last level has no bound");
    let levels = [(1, 4, 0, "a", "z", 49), (2, 5, 0, "a", "z", 499), (3, 6, 0, "a", "z", 5000)];
    assert_eq!(picked(&levels), None);
}

#[test]
fn level_0_goes_into_the_base_as_a_whole() {
    let runs = [(1, 0, 1, "c", "e", 1), (2, 0, 2, "a", "d", 1), (3, 0, 3, "d", "x", 1)];
    // By its runs, into the last level while there is little, the newest run first.
    assert_eq!(picked(&runs), Some((6, vec![vec![3], vec![2], vec![1]], false)));
    // By its bytes; a run may have several tables.
    let bytes = [(1, 0, 1, "a", "c", 50), (2, 0, 1, "d", "f", 50)];
    assert_eq!(picked(&bytes), Some((6, vec![vec![1, 2]], false)));
    // With what it overlaps in the base, that between its tables too, and nothing else.
    let below = [
        (10, 6, 0, "0", "9", 1),
        (11, 6, 0, "a", "b", 1),
        (12, 6, 0, "q", "r", 1),
        (13, 6, 0, "y", "z", 1),
    ];
    let runs = [runs.as_slice(), &below].concat();
    let expected = vec![vec![3], vec![2], vec![1], vec![11, 12]];
    assert_eq!(picked(&runs), Some((6, expected, false)));
    // A larger last level has its base above it.
    let larger = [runs.as_slice(), &[(14, 6, 0, "zz", "zzz", 5000)]].concat();
    assert_eq!(picked(&larger), Some((4, vec![vec![3], vec![2], vec![1]], false)));
}

#[test]
fn level_0_stops_at_the_first_level_that_has_tables() {
    // Level 3 is above the base: it is newer than what is in it.
    let tables = [
        (1, 0, 1, "a", "b", 1),
        (2, 0, 2, "a", "b", 1),
        (3, 0, 3, "a", "b", 1),
        (4, 0, 4, "a", "b", 1000),
        (5, 3, 0, "a", "c", 1),
        (6, 6, 0, "a", "z", 100),
    ];
    let expected = vec![vec![4], vec![3], vec![2], vec![1], vec![5]];
    assert_eq!(picked(&tables), Some((3, expected, false)));
    // With level 0 in order, what is above the base goes down.
    assert_eq!(picked(&tables[4..]), Some((4, vec![vec![5]], true)));
}

#[test]
fn of_other_levels_the_table_goes_down_that_has_the_least_under_it() {
    let last = [
        (20, 6, 0, "a", "c", 200),
        (21, 6, 0, "d", "f", 100),
        (22, 6, 0, "g", "i", 200),
        (23, 6, 0, "x", "z", 500),
    ];
    let with = |above: &[Table]| picked(&[above, &last].concat());
    // The target of level 5 is 100.
    let above = [(10, 5, 0, "a", "b", 50), (11, 5, 0, "c", "e", 49)];
    assert_eq!(with(&above), None);
    let above = [(10, 5, 0, "a", "b", 50), (11, 5, 0, "c", "e", 60)];
    assert_eq!(with(&above), Some((6, vec![vec![10], vec![20]], false)), "4 of its own, not 5");
    let above = [(10, 5, 0, "a", "b", 40), (11, 5, 0, "c", "e", 70)];
    assert_eq!(with(&above), Some((6, vec![vec![11], vec![20, 21]], false)), "4.3, not 5");
    let above = [(10, 5, 0, "a", "b", 60), (12, 5, 0, "j", "k", 60)];
    assert_eq!(with(&above), Some((6, vec![vec![12]], true)), "it has nothing under it");
}

#[test]
fn the_level_that_is_most_over_its_target_comes_first() {
    let tables = |first: u64, second: u64| {
        picked(&[
            (1, 4, 0, "a", "b", first),
            (2, 5, 0, "c", "d", second),
            (3, 6, 0, "a", "z", 5000),
        ])
        .map(|(into, ..)| into)
    };
    // Their targets are 50 and 500.
    assert_eq!(tables(60, 700), Some(6));
    assert_eq!(tables(90, 700), Some(5));
    assert_eq!(tables(60, 600), Some(5), "the upper one, if they are equal");
}
