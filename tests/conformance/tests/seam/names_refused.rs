//! What is refused about names, with which error, and that it changes nothing.

use std::io::{self, ErrorKind};
use std::path::Path;

use woodchuck_io::{Disk, Env, OpenMode};

use crate::common::{create, get, pattern_of, put};

/// The error that must have occurred.
fn kind<T>(result: io::Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("it should fail"),
        Err(error) => error.kind(),
    }
}

/// Everything that takes one path, with what it says about this one. Locking and opening would make
/// a file.
async fn all_kinds<E: Env>(env: &E, path: &Path) -> Vec<(&'static str, ErrorKind)> {
    let disk = env.disk();
    let elsewhere = path.with_file_name("elsewhere");
    vec![
        ("open to read", kind(disk.open(path, OpenMode::Read).await)),
        ("open to write", kind(disk.open(path, OpenMode::Write).await)),
        ("remove", kind(disk.remove(path).await)),
        ("list", kind(disk.list(path).await)),
        ("flush", kind(disk.sync_directory(path).await)),
        ("rename", kind(disk.rename(path, &elsewhere).await)),
        ("link", kind(disk.link(path, &elsewhere).await)),
        ("remove directory", kind(disk.remove_directory(path).await)),
    ]
}

check!(what_is_missing_is_not_found, 1, |env, directory| {
    for path in [directory.join("missing"), directory.join("missing/below")] {
        for (what, kind) in all_kinds(&env, &path).await {
            assert_eq!(kind, ErrorKind::NotFound, "{what} {path:?}");
        }
    }
    let below = directory.join("missing/below");
    assert_eq!(kind(env.disk().open(&below, OpenMode::CreateNew).await), ErrorKind::NotFound);
    assert_eq!(kind(env.disk().lock(&below).await), ErrorKind::NotFound);
    assert!(env.disk().list(&directory).await.expect("listed").is_empty());
});

check!(a_path_through_a_file_leads_nowhere, 1, |env, directory| {
    let file = directory.join("file");
    put(&create(&env, &file).await, 0, 1, 1).await;
    let path = file.join("below");
    for (what, kind) in all_kinds(&env, &path).await {
        assert_eq!(kind, ErrorKind::NotADirectory, "{what}");
    }
    let disk = env.disk();
    assert_eq!(kind(disk.open(&path, OpenMode::CreateNew).await), ErrorKind::NotADirectory);
    assert_eq!(kind(disk.create_directory(&path).await), ErrorKind::NotADirectory);
    assert_eq!(kind(disk.lock(&path).await), ErrorKind::NotADirectory);
    assert_eq!(kind(disk.rename(&file, &path).await), ErrorKind::NotADirectory);
    assert_eq!(kind(disk.link(&file, &path).await), ErrorKind::NotADirectory);
    let file = disk.open(&file, OpenMode::Read).await.expect("it is still there");
    assert_eq!(pattern_of(&get(&file, 0, 1).await), Some(1));
});

check!(a_file_is_no_directory, 1, |env, directory| {
    let file = directory.join("file");
    put(&create(&env, &file).await, 0, 1, 1).await;
    let disk = env.disk();
    assert_eq!(kind(disk.list(&file).await), ErrorKind::NotADirectory);
    assert_eq!(kind(disk.sync_directory(&file).await), ErrorKind::NotADirectory);
    assert_eq!(kind(disk.create_directory(&file).await), ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.remove_directory(&file).await), ErrorKind::NotADirectory);
    let sub = directory.join("sub");
    disk.create_directory(&sub).await.expect("created");
    assert_eq!(kind(disk.rename(&sub, &file).await), ErrorKind::NotADirectory);
    let file = disk.open(&file, OpenMode::Read).await.expect("it is still there");
    assert_eq!(pattern_of(&get(&file, 0, 1).await), Some(1));
});

check!(a_directory_is_no_file, 1, |env, directory| {
    let sub = directory.join("sub");
    let disk = env.disk();
    disk.create_directory(&sub).await.expect("created");
    for mode in [OpenMode::Read, OpenMode::Write] {
        assert_eq!(kind(disk.open(&sub, mode).await), ErrorKind::IsADirectory, "{mode:?}");
    }
    assert_eq!(kind(disk.open(&sub, OpenMode::CreateNew).await), ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.remove(&sub).await), ErrorKind::IsADirectory);
    assert_eq!(kind(disk.lock(&sub).await), ErrorKind::IsADirectory);
    assert_eq!(kind(disk.link(&sub, &directory.join("b")).await), ErrorKind::PermissionDenied);
    assert_eq!(kind(disk.rename(&sub, &sub.join("b")).await), ErrorKind::InvalidInput);
    let names = disk.list(&directory).await.expect("listed");
    assert!(names.len() == 1 && names[0].is_directory);
});

check!(a_file_never_replaces_a_directory, 1, |env, directory| {
    let (file, sub) = (directory.join("file"), directory.join("sub"));
    let disk = env.disk();
    put(&create(&env, &file).await, 0, 1, 1).await;
    disk.create_directory(&sub).await.expect("created");
    assert_eq!(kind(disk.rename(&file, &sub).await), ErrorKind::IsADirectory);
    let mut names = disk.list(&directory).await.expect("listed");
    names.sort();
    assert_eq!(names.iter().map(|entry| entry.is_directory).collect::<Vec<_>>(), [false, true]);
    let file = disk.open(&file, OpenMode::Read).await.expect("it is still there");
    assert_eq!(pattern_of(&get(&file, 0, 1).await), Some(1));
});

check!(a_link_replaces_nothing, 1, |env, directory| {
    let (a, b, sub) = (directory.join("a"), directory.join("b"), directory.join("sub"));
    let disk = env.disk();
    disk.create_directory(&sub).await.expect("created");
    put(&create(&env, &a).await, 0, 1, 1).await;
    put(&create(&env, &b).await, 0, 1, 2).await;
    for taken in [&a, &b, &sub] {
        assert_eq!(kind(disk.link(&a, taken).await), ErrorKind::AlreadyExists, "{taken:?}");
    }
    assert_eq!(kind(disk.link(&a, &directory.join("missing/b")).await), ErrorKind::NotFound);
    for (path, number) in [(a, 1), (b, 2)] {
        let file = disk.open(&path, OpenMode::Read).await.expect("it is still there");
        assert_eq!(pattern_of(&get(&file, 0, 1).await), Some(number));
    }
    assert_eq!(disk.list(&directory).await.expect("listed").len(), 3);
});

check!(a_directory_that_holds_something_is_not_removed, 1, |env, directory| {
    let (sub, below) = (directory.join("sub"), directory.join("sub/below"));
    let disk = env.disk();
    disk.create_directory(&below).await.expect("created");
    assert_eq!(kind(disk.remove_directory(&sub).await), ErrorKind::DirectoryNotEmpty);
    disk.remove_directory(&below).await.expect("it is empty");
    put(&create(&env, &below).await, 0, 1, 1).await;
    assert_eq!(kind(disk.remove_directory(&sub).await), ErrorKind::DirectoryNotEmpty);
    disk.remove(&below).await.expect("removed");
    disk.remove_directory(&sub).await.expect("it is empty");
    assert_eq!(kind(disk.list(&sub).await), ErrorKind::NotFound);
    disk.sync_directory(&directory).await.expect("flushed");
});

check!(a_rename_to_nowhere_changes_nothing, 1, |env, directory| {
    let file = directory.join("file");
    put(&create(&env, &file).await, 0, 1, 1).await;
    let disk = env.disk();
    let to = directory.join("missing/file");
    assert_eq!(kind(disk.rename(&file, &to).await), ErrorKind::NotFound);
    let target = directory.join("target");
    put(&create(&env, &target).await, 0, 1, 2).await;
    let from = directory.join("other");
    assert_eq!(kind(disk.rename(&from, &target).await), ErrorKind::NotFound);
    for (path, number) in [(file, 1), (target, 2)] {
        let file = disk.open(&path, OpenMode::Read).await.expect("it is still there");
        assert_eq!(pattern_of(&get(&file, 0, 1).await), Some(number));
    }
});

check!(a_name_may_be_too_long, 1, |env, directory| {
    let disk = env.disk();
    let long = directory.join("n".repeat(256));
    for (what, kind) in all_kinds(&env, &long).await {
        assert_eq!(kind, ErrorKind::InvalidFilename, "{what}");
    }
    let created = disk.open(&long, OpenMode::CreateNew).await;
    assert_eq!(kind(created), ErrorKind::InvalidFilename);
    assert_eq!(kind(disk.create_directory(&long).await), ErrorKind::InvalidFilename);
    assert_eq!(kind(disk.lock(&long).await), ErrorKind::InvalidFilename);
    let file = directory.join("file");
    drop(create(&env, &file).await);
    assert_eq!(kind(disk.rename(&file, &long).await), ErrorKind::InvalidFilename);
    // Bytes are counted, not letters.
    let letters = directory.join("ä".repeat(128));
    let created = disk.open(&letters, OpenMode::CreateNew).await;
    assert_eq!(kind(created), ErrorKind::InvalidFilename);
    drop(create(&env, &directory.join("ä".repeat(127))).await);
    assert_eq!(disk.list(&directory).await.expect("listed").len(), 2);
});

check!(a_name_holds_no_zero_byte, 1, |env, directory| {
    let disk = env.disk();
    let path = directory.join("a\0b");
    for (what, kind) in all_kinds(&env, &path).await {
        assert_eq!(kind, ErrorKind::InvalidInput, "{what}");
    }
    assert_eq!(kind(disk.open(&path, OpenMode::CreateNew).await), ErrorKind::InvalidInput);
    assert_eq!(kind(disk.create_directory(&path).await), ErrorKind::InvalidInput);
    assert_eq!(kind(disk.lock(&path).await), ErrorKind::InvalidInput);
    assert!(disk.list(&directory).await.expect("listed").is_empty());
});
