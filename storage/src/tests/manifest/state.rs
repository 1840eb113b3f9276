//! Which edits are right: each condition by itself.

use std::rc::Rc;

use super::table;
use crate::limits::{KEY_BYTES, LEVELS, NAME_BYTES};
use crate::manifest::state::State;
use crate::manifest::{Keyspace, Version};
use crate::{Compression, Edit, KeyspaceOptions, PrefixExtractor, Strategy, TableMetadata};

const GIVEN: u64 = 100;

fn options(strategy: Strategy) -> KeyspaceOptions {
    KeyspaceOptions { strategy, ..KeyspaceOptions::default() }
}

fn make(state: &mut State, edit: &Edit) -> Result<(), String> {
    let before = Version::clone(state.version());
    match state.prepare(&edit.changes, GIVEN) {
        Ok(prepared) => state.apply(prepared),
        Err(reason) => {
            assert_eq!(**state.version(), before, "a refused edit changes nothing");
            return Err(reason);
        }
    }
    assert_eq!(state.version().number(), before.number() + 1);
    Ok(())
}

fn refuse(state: &State, edit: Edit, reason: &str) {
    let told = make(&mut state.clone(), &edit).expect_err(reason);
    assert!(told.contains(reason), "{told:?} does not say {reason:?}");
}

/// Keyspaces 1 (levelled), 2 (universal) and 3 (FIFO), flushed up to 50; keyspace 1 has the tables
/// 10 [b, d] and 11 [f, h] in level 1.
fn state() -> State {
    let mut state = State::new(Version::empty(1, 0, GIVEN));
    let mut edit = Edit::new();
    for (id, name, strategy) in [
        (1, "one", Strategy::Levelled),
        (2, "two", Strategy::Universal),
        (3, "three", Strategy::Fifo { ttl_ms: 1 }),
    ] {
        edit = edit.create_keyspace(id, name, options(strategy)).flushed(id, 50);
    }
    edit = edit.add_table(table(1, 11, "f", "h")).add_table(table(1, 10, "b", "d"));
    make(&mut state, &edit).expect("it is right");
    state
}

fn numbers(keyspace: &Keyspace) -> Vec<u64> {
    keyspace.tables().map(|table| table.number).collect()
}

#[test]
fn an_edit_changes_what_it_says() {
    let mut state = state();
    let version = Rc::clone(state.version());
    let edit = Edit::new()
        .remove_table(1, 10)
        .add_table(table(1, 12, "a", "e"))
        .remove_table(1, 11)
        .add_table(TableMetadata { level: 3, ..table(1, 11, "f", "h") })
        .flushed(1, 60);
    make(&mut state, &edit).expect("it is right");
    let one = state.version().keyspace_by_name("one").expect("it is there");
    assert_eq!((numbers(one), one.flushed(), one.levels().len()), (vec![12, 11], 60, 4));
    assert!(state.live().keys().eq([&11, &12]));
    let before = version.keyspace(1).expect("it is there");
    assert_eq!((numbers(before), before.flushed()), (vec![10, 11], 50), "versions never change");
    make(&mut state, &Edit::new().remove_table(1, 11)).expect("it is right");
    let one = state.version().keyspace(1).expect("it is there");
    assert_eq!((numbers(one), one.levels().len()), (vec![12], 2));
    make(&mut state, &Edit::new().drop_keyspace(1)).expect("it is right");
    assert!(state.version().keyspace_by_name("one").is_none() && state.live().is_empty());
    let again = Edit::new().create_keyspace(4, "one", options(Strategy::Levelled));
    make(&mut state, &again).expect("its name is free");
}

#[test]
fn versions_share_what_an_edit_leaves_alone() {
    let mut state = state();
    let more = TableMetadata { level: 2, ..table(1, 13, "b", "c") };
    make(&mut state, &Edit::new().add_table(more)).expect("it is right");
    let before = Rc::clone(state.version());
    let edit = Edit::new().add_table(table(1, 12, "i", "j"));
    make(&mut state, &edit).expect("it is right");
    let [old, new] =
        [&before, state.version()].map(|version| version.keyspaces().collect::<Vec<_>>());
    assert!(!Rc::ptr_eq(old[0], new[0]) && Rc::ptr_eq(old[1], new[1]));
    let (old, new) = (old[0].levels(), new[0].levels());
    assert!(!Rc::ptr_eq(&old[1], &new[1]) && Rc::ptr_eq(&old[2], &new[2]));
}

#[test]
fn a_change_is_right_by_itself() {
    let state = state();
    refuse(&state, Edit::new(), "changes nothing");
    let name = "n".repeat(NAME_BYTES + 1);
    for name in ["", &name] {
        let edit = Edit::new().create_keyspace(5, name, KeyspaceOptions::default());
        refuse(&state, edit, "its name has");
        let merge_operator = Some(name.to_owned());
        let options = KeyspaceOptions { merge_operator, ..KeyspaceOptions::default() };
        refuse(&state, Edit::new().create_keyspace(5, "n", options), "merge operator's name has");
    }
    let wrong = [
        (options(Strategy::Fifo { ttl_ms: 0 }), "no time"),
        (
            KeyspaceOptions {
                prefix: Some(PrefixExtractor::Length(0)),
                ..KeyspaceOptions::default()
            },
            "no bytes",
        ),
        (
            KeyspaceOptions {
                compression: Compression::Zstd { level: 77 },
                ..KeyspaceOptions::default()
            },
            "77",
        ),
    ];
    for (options, reason) in wrong {
        refuse(&state, Edit::new().create_keyspace(5, "n", options), reason);
    }
    let long = "k".repeat(KEY_BYTES + 1);
    let fine = table(1, 12, "k", "l");
    let excluded = TableMetadata { is_largest_excluded: true, ..table(1, 12, "k", "k") };
    let wrong = [
        (table(1, 12, "l", "k"), "in front of where"),
        (excluded, "in front of where"),
        (table(1, 12, "k", &long), "a key of 65536"),
        (TableMetadata { smallest_sequence: 10, ..fine.clone() }, "commits from 10 to 9"),
        (TableMetadata { entries: 0, range_tombstones: 0, ..fine.clone() }, "is empty"),
        (TableMetadata { file_bytes: 2 * 4096, ..fine.clone() }, "8192 bytes"),
        (TableMetadata { file_bytes: 3 * 4096 + 1, ..fine.clone() }, "12289 bytes"),
        (TableMetadata { file_bytes: 1 << 60, ..fine.clone() }, "no table has"),
        (TableMetadata { level: LEVELS as u8, ..fine.clone() }, "in level 16"),
    ];
    for (table, reason) in wrong {
        refuse(&state, Edit::new().add_table(table), reason);
    }
    make(&mut state.clone(), &Edit::new().add_table(fine)).expect("that alone is right");
}

#[test]
fn numbers_are_given_and_used_once() {
    let state = state();
    for number in [0, GIVEN, u64::MAX] {
        refuse(&state, Edit::new().add_table(table(1, number, "k", "l")), "was given the number");
        let edit = Edit::new().create_keyspace(number, "n", KeyspaceOptions::default());
        refuse(&state, edit, "was given the number");
    }
    // Also in another keyspace.
    refuse(&state, Edit::new().add_table(table(2, 10, "k", "l")), "already");
    let twice = Edit::new().add_table(table(1, 12, "k", "l")).add_table(table(2, 12, "k", "l"));
    refuse(&state, twice, "already");
    let edit = Edit::new().create_keyspace(1, "n", KeyspaceOptions::default());
    refuse(&state, edit, "a keyspace 1 already");
    let edit = Edit::new().create_keyspace(5, "two", KeyspaceOptions::default());
    refuse(&state, edit, "the name \"two\" already");
    // Those that are reserved and were not given out yet.
    let edit = Edit::new().add_table(table(1, 60, "k", "l"));
    assert!(state.prepare(&edit.changes, 60).is_err() && state.prepare(&edit.changes, 61).is_ok());
}

#[test]
fn what_is_spoken_of_is_there() {
    let state = state();
    refuse(&state, Edit::new().drop_keyspace(5), "no keyspace 5");
    refuse(&state, Edit::new().flushed(5, 60), "no keyspace 5");
    refuse(&state, Edit::new().add_table(table(5, 12, "k", "l")), "no keyspace 5");
    refuse(&state, Edit::new().remove_table(1, 12), "no table");
    refuse(&state, Edit::new().remove_table(2, 10), "keyspace 2 has no table");
    refuse(&state, Edit::new().remove_table(1, 10).remove_table(1, 10), "no table");
    refuse(&state, Edit::new().drop_keyspace(1).remove_table(1, 10), "no table");
    refuse(&state, Edit::new().drop_keyspace(1).drop_keyspace(1), "no keyspace 1");
}

#[test]
fn tables_of_a_run_do_not_overlap() {
    let state = state();
    for (smallest, largest) in
        [("a", "b"), ("d", "e"), ("c", "c"), ("a", "z"), ("h", "h"), ("b", "d")]
    {
        refuse(&state, Edit::new().add_table(table(1, 12, smallest, largest)), "overlaps");
    }
    for (smallest, largest) in [("a", "az"), ("dd", "e"), ("hh", "z")] {
        let edit = Edit::new().add_table(table(1, 12, smallest, largest));
        make(&mut state.clone(), &edit).expect("there is room");
        let below = TableMetadata { level: 2, ..table(1, 12, "a", "z") };
        make(&mut state.clone(), &Edit::new().add_table(below)).expect("levels may overlap");
    }
    // A range tombstone may end where the next table begins.
    let cut = |number| TableMetadata { is_largest_excluded: true, ..table(1, number, "d1", "f") };
    make(&mut state.clone(), &Edit::new().add_table(cut(12))).expect("it ends in front of f");
    let wrong = TableMetadata { largest_key: "f1".into(), ..cut(12) };
    refuse(&state, Edit::new().add_table(wrong), "overlaps");
    // What was removed before is not in the way, what is removed later is.
    let edit = Edit::new().remove_table(1, 10).add_table(table(1, 12, "a", "e"));
    make(&mut state.clone(), &edit).expect("there is room");
    refuse(&state, Edit::new().add_table(table(1, 12, "a", "e")).remove_table(1, 10), "overlaps");
}

#[test]
fn a_strategy_says_which_runs_there_are() {
    let state = state();
    let at = |keyspace, level, run| {
        let table = TableMetadata { level, run, ..table(keyspace, 12, "b", "z") };
        Edit::new().add_table(table)
    };
    for fine in [at(1, 0, 7), at(1, 2, 0), at(2, 0, 7), at(2, 5, 9), at(3, 0, 7)] {
        make(&mut state.clone(), &fine).expect("there is such a run");
    }
    refuse(&state, at(1, 1, 7), "has no");
    refuse(&state, at(3, 1, 0), "has no");
    // Runs may overlap, tables of one may not, also in level 0.
    let mut state = state;
    make(&mut state, &at(1, 0, 7)).expect("there is such a run");
    let run = |run| TableMetadata { level: 0, run, ..table(1, 13, "c", "d") };
    refuse(&state, Edit::new().add_table(run(7)), "overlaps");
    make(&mut state, &Edit::new().add_table(run(8))).expect("runs may overlap");
    let one = state.version().keyspace(1).expect("it is there");
    assert_eq!(numbers(one), [13, 12, 10, 11], "the newest run first");
}

#[test]
fn what_is_flushed_does_not_go_back() {
    let mut state = state();
    refuse(&state, Edit::new().flushed(1, 49), "would be up to 49");
    make(&mut state, &Edit::new().flushed(1, 50)).expect("it stays");
    let newer = TableMetadata { largest_sequence: 51, ..table(1, 12, "k", "l") };
    let edit = Edit::new().add_table(newer.clone());
    refuse(&state, edit.clone(), "holds commit 51");
    make(&mut state, &edit.flushed(1, 51)).expect("the order does not matter");
}

#[test]
fn a_run_tells_which_table_may_hold_a_key() {
    let mut state = state();
    let cut = TableMetadata { is_largest_excluded: true, ..table(1, 12, "k", "m") };
    make(&mut state, &Edit::new().add_table(cut)).expect("it is right");
    let one = state.version().keyspace(1).expect("it is there");
    let run = one.levels()[1].run(0).expect("it is there");
    let of = |key: &str| run.table_of(key.as_bytes()).map(|table| table.number);
    let expected = [
        ("a", None),
        ("b", Some(10)),
        ("d", Some(10)),
        ("d0", None),
        ("f", Some(11)),
        ("h", Some(11)),
        ("i", None),
        ("k", Some(12)),
        ("lz", Some(12)),
        ("m", None),
        ("z", None),
    ];
    for (key, number) in expected {
        assert_eq!(of(key), number, "{key}");
    }
}
