//! Open files: clones, several handles, and files whose names change or go while they are open.

use std::io::ErrorKind;

use woodchuck_io::{Disk, Durability, File, OpenMode};

use crate::common::{
    A_WHILE, BLOCK, FEW_SEEDS, create, descriptors, get, is_simulated, pattern_of, patterned,
    patterns_of, poll_once, put,
};

check!(clones_are_one_file, 1, |env, directory| {
    let file = create(&env, &directory.join("a")).await;
    let clone = file.clone();
    put(&file, 0, 1, 1).await;
    put(&clone, 1, 1, 2).await;
    drop(file);
    let clone = { clone.clone() };
    assert_eq!(patterns_of(&get(&clone, 0, 2).await), [Some(1), Some(2)]);
    clone.truncate(BLOCK as u64).await.expect("cut");
    clone.sync_data().await.expect("flushed");
    assert_eq!(clone.length().await.expect("a length"), BLOCK as u64);
});

check!(operations_outlive_the_handle_they_were_begun_with, 1, |env, directory| {
    let path = directory.join("a");
    let file = create(&env, &path).await;
    let write = file.write_at(patterned(BLOCK, 1), 0, Durability::Volatile);
    let mut begun = Box::pin(file.write_at(patterned(BLOCK, 2), BLOCK as u64, Durability::Durable));
    assert!(poll_once(&mut begun).await.is_none(), "a disk takes its time");
    drop(file);
    write.await.0.expect("written");
    begun.await.0.expect("written");
    let file = env.disk().open(&path, OpenMode::Read).await.expect("opened");
    let read = file.read_at(patterned(BLOCK, 9), BLOCK as u64);
    let (length, flush) = (file.length(), file.sync_data());
    drop(file);
    let (result, buffer) = read.await;
    assert_eq!((result.expect("read"), pattern_of(&buffer)), (BLOCK, Some(2)));
    assert_eq!(length.await.expect("a length"), 2 * BLOCK as u64);
    flush.await.expect("flushed");
});

check!(a_file_may_be_opened_many_times, 1, |env, directory| {
    let path = directory.join("a");
    drop(create(&env, &path).await);
    let mut files = Vec::new();
    for number in 0..50_u64 {
        let file = env.disk().open(&path, OpenMode::Write).await.expect("opened");
        put(&file, number, 1, number).await;
        files.push(file);
    }
    let expected: Vec<_> = (0..50).map(Some).collect();
    while let Some(file) = files.pop() {
        assert_eq!(patterns_of(&get(&file, 0, 50).await), expected);
    }
});

check!(a_removed_file_lives_on_while_it_is_open, 1, |env, directory| {
    let path = directory.join("a");
    let file = create(&env, &path).await;
    put(&file, 0, 2, 1).await;
    env.disk().remove(&path).await.expect("removed");
    env.disk().sync_directory(&directory).await.expect("flushed");
    for mode in [OpenMode::Read, OpenMode::Write] {
        let error = env.disk().open(&path, mode).await.err().expect("it has no name");
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    // All that can be done with a file can be done with this one.
    put(&file, 2, 1, 2).await;
    file.allocate(6 * BLOCK as u64).await.expect("reserved");
    file.truncate(4 * BLOCK as u64).await.expect("cut");
    file.sync_data().await.expect("flushed");
    assert_eq!(file.length().await.expect("a length"), 4 * BLOCK as u64);
    // Another file of that name is another file.
    let other = create(&env, &path).await;
    put(&other, 0, 1, 9).await;
    assert_eq!(patterns_of(&get(&file, 0, 8).await), [1, 1, 2, 0].map(Some));
    assert_eq!(patterns_of(&get(&other, 0, 8).await), [Some(9)]);
    drop(file);
    assert_eq!(patterns_of(&get(&other, 0, 8).await), [Some(9)]);
});

check!(a_renamed_file_stays_the_same_file, 1, |env, directory| {
    let (from, to) = (directory.join("from"), directory.join("to"));
    let file = create(&env, &from).await;
    put(&file, 0, 1, 1).await;
    env.disk().rename(&from, &to).await.expect("renamed");
    put(&file, 1, 1, 2).await;
    let renamed = env.disk().open(&to, OpenMode::Write).await.expect("opened");
    put(&renamed, 2, 1, 3).await;
    assert_eq!(patterns_of(&get(&file, 0, 8).await), [1, 2, 3].map(Some));
    // The old name is free.
    let other = create(&env, &from).await;
    assert_eq!(other.length().await.expect("a length"), 0);
});

check!(a_file_that_was_replaced_is_still_read, 1, |env, directory| {
    let (old, new) = (directory.join("old"), directory.join("new"));
    let replaced = create(&env, &old).await;
    put(&replaced, 0, 1, 1).await;
    let file = create(&env, &new).await;
    put(&file, 0, 2, 2).await;
    env.disk().rename(&new, &old).await.expect("replaced");
    assert_eq!(patterns_of(&get(&replaced, 0, 4).await), [Some(1)]);
    put(&replaced, 0, 3, 3).await;
    let opened = env.disk().open(&old, OpenMode::Read).await.expect("opened");
    assert_eq!(patterns_of(&get(&opened, 0, 4).await), [Some(2), Some(2)]);
    assert_eq!(patterns_of(&get(&file, 0, 4).await), [Some(2), Some(2)]);
    assert_eq!(patterns_of(&get(&replaced, 0, 4).await), [Some(3), Some(3), Some(3)]);
});

check!(names_change_while_operations_are_in_flight, 1, |env, directory| {
    let (path, moved) = (directory.join("a"), directory.join("b"));
    let file = create(&env, &path).await;
    file.allocate(64 * BLOCK as u64).await.expect("reserved");
    let writes: Vec<_> = (0..64_u64)
        .map(|block| {
            let file = file.clone();
            env.spawn("write", async move { put(&file, block, 1, block).await })
        })
        .collect();
    env.yield_now().await;
    env.disk().rename(&path, &moved).await.expect("renamed");
    env.disk().remove(&moved).await.expect("removed");
    for write in writes {
        write.await;
    }
    let expected: Vec<_> = (0..64).map(Some).collect();
    assert_eq!(patterns_of(&get(&file, 0, 64).await), expected);
});

check!(of_two_who_create_a_file_one_does, 1, |env, directory| {
    for round in 0..20 {
        let path = directory.join(format!("{round}"));
        let openers: Vec<_> = (0..3)
            .map(|_| {
                let opening = env.disk().open(&path, OpenMode::CreateNew);
                env.spawn("open", opening)
            })
            .collect();
        let mut created = 0;
        for opener in openers {
            match opener.await {
                Ok(_) => created += 1,
                Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists),
            }
        }
        assert_eq!(created, 1);
    }
});

check!(handles_that_are_dropped_are_given_back, 1, FEW_SEEDS, |env, directory| {
    // More than a process may have open at once, where that can be tried.
    let most = if is_simulated(&env) { 3000 } else { 1000 + descriptors().min(30_000) };
    let path = directory.join("a");
    put(&create(&env, &path).await, 0, 1, 5).await;
    for _ in 0..most {
        let file = env.disk().open(&path, OpenMode::Read).await.expect("opened");
        drop(file.clone());
    }
    env.sleep(A_WHILE).await;
    let file = env.disk().open(&path, OpenMode::Read).await.expect("opened");
    assert_eq!(pattern_of(&get(&file, 0, 1).await), Some(5));
});
