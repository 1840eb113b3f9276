//! A manifest of format version 1, as it was written when it was made: it stays readable for ever.
//!
//! The file is never made anew. If the bytes of a commit change, the version does, and a fixture of
//! the new version is added beside this one. It holds commits, each behind its length in 32 bits;
//! what is around them in a log has fixtures of its own.

use super::super::place::{quiet, random, run_on};
use super::table;
use crate::manifest::record::{Begin, Body, End, Part, Record, chain};
use crate::manifest::replay::Replay;
use crate::manifest::state::State;
use crate::{Compression, Edit, KeyspaceOptions, PrefixExtractor, Strategy, TableMetadata};

const FIXTURE: &[u8] = include_bytes!("../../../tests/fixtures/version-1.manifest");

const STORE: u128 = 0x5707_e000_0000_0000_0000_0000_0000_0002;

/// All that a commit of version 1 can say. Never changed.
fn records() -> Vec<Record> {
    let edit = |number, edit: Edit| Record::new(number, Body::Edit(edit.changes));
    let begin = Body::Begin(Begin { store: STORE, numbers_below: 1 });
    let end = Body::End(End { parts: 0, checksum: 0 });
    let mut records = vec![Record::new(0, begin), Record::new(0, end)];
    let reserve = crate::manifest::reserve(1033);
    records.push(edit(1, reserve));
    let with = |strategy, prefix, merge: Option<&str>, compression| KeyspaceOptions {
        strategy,
        prefix,
        merge_operator: merge.map(str::to_owned),
        compression,
    };
    let delimiter = Some(PrefixExtractor::Delimiter(b'/'));
    let lz4 = Compression::Lz4;
    let zstd = Compression::Zstd { level: 3 };
    let length = Some(PrefixExtractor::Length(4));
    let created = Edit::new()
        .create_keyspace(1, "levelled", with(Strategy::Levelled, None, None, Compression::None))
        .create_keyspace(2, "universal", with(Strategy::Universal, delimiter, Some("add"), lz4))
        .create_keyspace(
            3,
            "πίστη",
            with(Strategy::Fifo { ttl_ms: 86_400_000 }, length, None, zstd),
        )
        .create_keyspace(4, "dropped", KeyspaceOptions::default());
    records.push(edit(2, created));
    let run = |number, level, run| TableMetadata {
        level,
        run,
        ends_at_ms: Some(1_800_000_000_000),
        ..table(2, number, "", "\u{ff}")
    };
    let cut = TableMetadata { is_largest_excluded: true, entries: 0, ..table(1, 11, "c", "d") };
    let filled = Edit::new()
        .flushed(1, 1 << 33)
        .flushed(2, 9)
        .add_table(table(1, 10, "a", "b"))
        .add_table(cut)
        .add_table(run(12, 0, 12))
        .add_table(run(13, 5, 7));
    records.push(edit(3, filled));
    records.push(edit(4, Edit::new().remove_table(1, 10).drop_keyspace(4)));
    records
}

/// The snapshot of what these make, and an edit behind it.
fn snapshot(state: &State) -> Vec<Record> {
    let number = state.version().number();
    let below = state.version().numbers_below();
    let begin = Body::Begin(Begin { store: STORE, numbers_below: below });
    let mut records = vec![Record::new(number, begin)];
    let changes: Vec<_> = state.version().changes().collect();
    let (mut index, mut checksum) = (0, 0);
    for changes in changes.chunks(3) {
        let part = Part { index, changes: changes.to_vec() };
        let record = Record::new(number, Body::Part(part));
        checksum = chain(checksum, &record.encode().expect("it is small"));
        records.push(record);
        index += 1;
    }
    records.push(Record::new(number, Body::End(End { parts: index, checksum })));
    records.push(Record::new(number + 1, Body::Edit(Edit::new().flushed(3, 1).changes)));
    records
}

fn replay<'a>(commits: impl IntoIterator<Item = &'a [u8]>) -> State {
    let mut replay = Replay::default();
    for (index, commit) in commits.into_iter().enumerate() {
        replay.take(index as u64 + 1, commit).expect("version 1");
    }
    replay.finish().expect("version 1").expect("it is a store")
}

/// The commits of a file, from its beginning to its end.
fn commits(mut file: &[u8]) -> Vec<&[u8]> {
    let mut commits = Vec::new();
    while let Some((length, rest)) = file.split_first_chunk::<4>() {
        let (commit, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        commits.push(commit);
        file = rest;
    }
    assert!(file.is_empty(), "the fixture is whole");
    commits
}

fn encode(records: &[Record]) -> Vec<Vec<u8>> {
    records.iter().map(|record| record.encode().expect("it is small")).collect()
}

fn encode_all() -> Vec<Vec<u8>> {
    let mut all = encode(&records());
    let state = replay(all.iter().map(Vec::as_slice));
    all.extend(encode(&snapshot(&state)));
    all
}

#[test]
fn commits_of_version_1_can_be_read() {
    let commits = commits(FIXTURE);
    let edits = records().len();
    for (commit, record) in commits.iter().zip(records()) {
        assert_eq!(Record::decode(commit), Ok(record));
    }
    // By the edits and the snapshot, and by the snapshot alone.
    let [all, alone] = [&commits[..], &commits[edits..]].map(|part| replay(part.iter().copied()));
    assert_eq!(all.version(), alone.version());
    let version = alone.version();
    assert_eq!((version.store(), version.number(), version.numbers_below()), (STORE, 5, 1033));
    let keyspaces: Vec<_> = version.keyspaces().map(|keyspace| keyspace.name()).collect();
    assert_eq!(keyspaces, ["levelled", "universal", "πίστη"]);
    let three = version.keyspace(3).expect("it is there");
    assert_eq!(three.flushed(), 1);
    assert_eq!(three.options().strategy, Strategy::Fifo { ttl_ms: 86_400_000 });
    assert_eq!(three.options().prefix, Some(PrefixExtractor::Length(4)));
    assert_eq!(three.options().compression, Compression::Zstd { level: 3 });
    let two = version.keyspace(2).expect("it is there");
    assert_eq!(two.options().merge_operator.as_deref(), Some("add"));
    assert_eq!(two.tables().map(|table| table.number).collect::<Vec<_>>(), [12, 13]);
    assert!(two.tables().all(|table| table.ends_at_ms == Some(1_800_000_000_000)));
    let one = version.keyspace_by_name("levelled").expect("it is there");
    let tables: Vec<_> = one.tables().collect();
    assert_eq!((tables.len(), tables[0].number, one.flushed()), (1, 11, 1 << 33));
    assert!(tables[0].is_largest_excluded && tables[0].largest_key == b"d");
}

#[test]
fn the_bytes_of_version_1_do_not_change() {
    let same = commits(FIXTURE) == encode_all().iter().map(Vec::as_slice).collect::<Vec<_>>();
    assert!(same, "if this is meant, it is another version of the format");
}

/// What the handle writes is what the fixture says of snapshots.
#[test]
fn a_manifest_writes_such_commits() {
    let world = quiet(random(1).next_u64());
    let machine = world.machine("one");
    run_on(&world, machine, |env| async move {
        let (manifest, _) = super::open(&env).await.expect("there is nothing");
        let id = manifest.take_numbers(1).await.expect("the disk is healthy").start;
        let create = Edit::new().create_keyspace(id, "one", KeyspaceOptions::default());
        manifest.commit(create).await.expect("it is right");
        manifest.close().await.expect("the disk is healthy");
        let mut kinds = Vec::new();
        let folder = std::path::Path::new(super::DIRECTORY).join("manifest");
        let options = woodchuck_wal::LogOptions::small();
        let opened = woodchuck_wal::Log::<_, ()>::open(env, folder, options, |recovered| {
            kinds.push((recovered.bytes[0], recovered.bytes[1], recovered.bytes[8]));
            Ok(())
        });
        opened.await.expect("it is a log");
        assert_eq!(kinds, [(1, 2, 0), (1, 4, 0), (1, 1, 1), (1, 1, 2)]);
    });
}
