//! From commits back to the state: each condition by itself.

use super::table;
use crate::limits::NUMBERS_MAX;
use crate::manifest::record::{Begin, Body, End, Invalid, Part, Record, chain};
use crate::manifest::replay::Replay;
use crate::manifest::state::State;
use crate::{Edit, KeyspaceOptions, TableMetadata};

const STORE: u128 = 5;

fn begin(number: u64, numbers_below: u64) -> Record {
    Record::new(number, Body::Begin(Begin { store: STORE, numbers_below }))
}

fn edit(number: u64, edit: Edit) -> Record {
    Record::new(number, Body::Edit(edit.changes))
}

fn part(number: u64, index: u64, edit: Edit) -> Record {
    Record::new(number, Body::Part(Part { index, changes: edit.changes }))
}

/// The end behind these parts.
fn end(number: u64, parts: &[&Record]) -> Record {
    let encoded = parts.iter().map(|part| part.encode().expect("it is small"));
    let checksum = encoded.fold(0, |checksum, part| chain(checksum, &part));
    Record::new(number, Body::End(End { parts: parts.len() as u64, checksum }))
}

fn create(id: u64) -> Edit {
    Edit::new().create_keyspace(id, &format!("n{id}"), KeyspaceOptions::default()).flushed(id, 9)
}

fn replay(records: &[Record]) -> Result<(Option<State>, Replay), String> {
    let mut replay = Replay::default();
    let told = |invalid| match invalid {
        Invalid::Damaged(what) => what,
        Invalid::WrongVersion(version) => format!("version {version}"),
    };
    for (index, record) in records.iter().enumerate() {
        let bytes = record.encode().expect("it is small");
        replay.take(index as u64 + 1, &bytes).map_err(told)?;
    }
    let state = replay.finish().map_err(told)?;
    Ok((state, replay))
}

fn refuse(records: &[Record], reason: &str) {
    let told = replay(records).map(|(state, _)| state).expect_err(reason);
    assert!(told.contains(reason), "{told:?} does not say {reason:?}");
}

/// A store with edits, and a snapshot of it.
fn store() -> Vec<Record> {
    vec![
        begin(0, 50),
        end(0, &[]),
        edit(1, create(1)),
        edit(2, Edit::new().add_table(table(1, 7, "a", "b"))),
    ]
}

fn parts() -> [Record; 2] {
    [part(2, 0, create(1)), part(2, 1, Edit::new().add_table(table(1, 7, "a", "b")))]
}

#[test]
fn a_snapshot_is_what_the_edits_made() {
    assert!(replay(&[]).expect("nothing is wrong").0.is_none());
    let [one, two] = parts();
    let ended = end(2, &[&one, &two]);
    let (by_edits, _) = replay(&store()).expect("it is right");
    let snapshot = [begin(2, 50), one, two, ended];
    let (by_snapshot, _) = replay(&snapshot).expect("it is right");
    let both: Vec<_> = store().into_iter().chain(snapshot).collect();
    let (by_both, replayed) = replay(&both).expect("it is right");
    let versions = [by_edits, by_snapshot, by_both].map(|state| {
        let state = state.expect("there is a store");
        assert_eq!(state.live().len(), 1);
        state.version().clone()
    });
    assert!(versions[0] == versions[1] && versions[1] == versions[2]);
    assert_eq!((replayed.begin, replayed.edit_bytes, replayed.edits), (5, 0, 2));
    assert!(replayed.snapshot_bytes > 0);
}

#[test]
fn a_snapshot_without_an_end_is_nothing() {
    let [one, two] = parts();
    let ended = end(2, &[&one, &two]);
    let snapshot = [begin(2, 50), one, two, ended];
    let (expected, _) = replay(&store()).expect("it is right");
    let expected = expected.expect("there is a store").version().clone();
    for cut in 0..snapshot.len() {
        let mut records = store();
        records.extend_from_slice(&snapshot[..cut]);
        let (state, replayed) = replay(&records).expect("a crash may come at any moment");
        assert_eq!(*state.expect("there is a store").version(), expected);
        assert_eq!(replayed.begin, 1);
        // And what comes behind it is right as well: an edit, another snapshot.
        let mut records = records.clone();
        records.push(edit(3, Edit::new().flushed(1, 10)));
        let (state, _) = replay(&records).expect("it goes on");
        let state = state.expect("there is a store");
        assert_eq!(state.version().keyspace(1).expect("it is there").flushed(), 10);
        let mut records = store();
        records.extend_from_slice(&snapshot[..cut]);
        records.extend_from_slice(&snapshot);
        let (state, replayed) = replay(&records).expect("it goes on");
        assert_eq!(*state.expect("there is a store").version(), expected);
        assert_eq!(replayed.begin, 5 + cut as u64);
        // Alone it is a store that has lost what was in front.
        if cut > 0 {
            refuse(&snapshot[..cut], "has no end, and what stood in front");
            refuse(&[&snapshot[..cut], &snapshot[..]].concat(), "has no end, and what stood");
        }
    }
    // But one that was never more than begun never was a store.
    assert!(replay(&[begin(0, 1)]).expect("a crash may come at any moment").0.is_none());
    let twice = replay(&[begin(0, 1), begin(0, 1), end(0, &[])]).expect("it was begun again");
    assert_eq!(twice.1.begin, 2);
}

#[test]
fn commits_stand_where_they_belong() {
    refuse(&[edit(1, create(1))], "in front of all snapshots");
    refuse(&[begin(0, 50), edit(1, create(1))], "in front of all snapshots");
    let behind = |record| [store(), vec![record]].concat();
    refuse(&behind(edit(4, create(2))), "stands where 3 should");
    refuse(&behind(edit(2, create(2))), "stands where 3 should");
    refuse(&behind(edit(3, create(1))), "edit 3 is wrong: there is a keyspace 1 already");
    refuse(&behind(begin(1, 50)), "up to edit 1 stands");
    refuse(&behind(begin(3, 50)), "up to edit 3 stands");
    let other = Record::new(2, Body::Begin(Begin { store: 6, numbers_below: 50 }));
    refuse(&behind(other), "store 00000000000000000000000000000006");
    refuse(&behind(end(2, &[])), "has no begin");
    refuse(&behind(part(2, 0, create(2))), "has no begin");
    let [one, two] = parts();
    refuse(&[begin(2, 50), two.clone()], "part 1 stands where 0 should");
    refuse(&[begin(2, 50), one.clone(), one.clone()], "part 0 stands where 1 should");
    refuse(&[begin(3, 50), one.clone()], "has no begin");
    let again = part(2, 1, create(1));
    refuse(&[begin(2, 50), one.clone(), again], "part 1 is wrong");
    refuse(&[begin(2, 50), one.clone(), end(2, &[&one, &two])], "it was written with 2");
    let early = part(
        2,
        1,
        Edit::new().add_table(TableMetadata { largest_sequence: 10, ..table(1, 7, "a", "b") }),
    );
    refuse(&[begin(2, 50), one.clone(), early], "holds commit 10");
    let other = part(2, 1, Edit::new().add_table(table(1, 8, "a", "b")));
    refuse(&[begin(2, 50), one.clone(), other, end(2, &[&one, &two])], "checksum");
    refuse(&[begin(NUMBERS_MAX + 1, 50)], "edits and numbers below");
    refuse(&[begin(0, NUMBERS_MAX + 1)], "edits and numbers below");
    refuse(&[begin(0, 0)], "edits and numbers below");
}

#[test]
fn a_snapshot_that_is_not_the_state_is_told() {
    let [one, two] = parts();
    let mut records = store();
    records.extend([begin(2, 50), one.clone(), end(2, &[&one])]);
    refuse(&records, "is not what the edits made");
    let mut records = store();
    let ended = end(2, &[&one, &two]);
    records.extend([begin(2, 51), one, two, ended]);
    refuse(&records, "is not what the edits made");
}

#[test]
fn reserved_numbers_bind_the_replay() {
    let mut records = store();
    records.push(edit(3, create(50)));
    refuse(&records, "edit 3 is wrong: no keyspace was given the number 50");
}
