//! Names: made, listed, moved, removed.

use std::io::ErrorKind;
use std::path::Path;

use woodchuck_io::{DirectoryEntry, Disk, Env, Mesh, OpenMode};

use crate::common::{FEW_SEEDS, create, get, pattern_of, poll_once, put};

/// The names in a directory, sorted.
async fn names<E: Env>(env: &E, path: &Path) -> Vec<String> {
    let entries = env.disk().list(path).await.expect("listed");
    let mut names: Vec<String> = entries.into_iter().map(|entry| entry.name).collect();
    names.sort();
    names
}

/// Creates a file that is filled with a number.
async fn numbered<E: Env>(env: &E, path: &Path, number: u64) {
    put(&create(env, path).await, 0, 1, number).await;
}

/// What fills a file.
async fn number_of<E: Env>(env: &E, path: &Path) -> Option<u64> {
    let file = env.disk().open(path, OpenMode::Read).await.expect("opened");
    pattern_of(&get(&file, 0, 1).await)
}

/// What fills a file, if there is one of that name.
async fn number_under<E: Env>(env: &E, path: &Path) -> Option<u64> {
    match env.disk().open(path, OpenMode::Read).await {
        Ok(file) => Some(pattern_of(&get(&file, 0, 1).await).expect("a whole file")),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            None
        }
    }
}

check!(a_directory_is_made_with_its_parents, 1, |env, directory| {
    let deep = directory.join("a/b/c/d/e");
    env.disk().create_directory(&deep).await.expect("created");
    env.disk().create_directory(&directory.join("a/b")).await.expect("it may be there");
    env.disk().create_directory(&deep).await.expect("it may be there");
    assert_eq!(names(&env, &directory.join("a/b/c")).await, ["d"]);
    assert!(names(&env, &deep).await.is_empty());
    numbered(&env, &deep.join("file"), 1).await;
    env.disk().create_directory(&deep).await.expect("what is in it stays");
    assert_eq!(names(&env, &deep).await, ["file"]);
});

check!(many_may_make_one_directory, 1, |env, directory| {
    let makers: Vec<_> = (0..8)
        .map(|number| {
            let path = directory.join(format!("x/y/{}", number % 2));
            env.spawn("make", env.disk().create_directory(&path))
        })
        .collect();
    for maker in makers {
        maker.await.expect("created, by whomever");
    }
    assert_eq!(names(&env, &directory.join("x/y")).await, ["0", "1"]);
});

check!(an_empty_directory_lists_nothing, 1, |env, directory| {
    assert!(names(&env, &directory).await.is_empty());
    numbered(&env, &directory.join("a"), 1).await;
    env.disk().remove(&directory.join("a")).await.expect("removed");
    assert!(names(&env, &directory).await.is_empty());
});

check!(many_names_are_listed_once_each, 1, |env, directory| {
    let mut expected = Vec::new();
    for number in 0..300 {
        let name = format!("name-{number:03}");
        drop(create(&env, &directory.join(&name)).await);
        expected.push(name);
    }
    assert_eq!(names(&env, &directory).await, expected);
    // One after another, while the others stay.
    for number in (0..300).step_by(3) {
        env.disk().remove(&directory.join(&expected[number])).await.expect("removed");
    }
    let left: Vec<String> =
        (0..300).filter(|number| number % 3 != 0).map(|number| expected[number].clone()).collect();
    assert_eq!(names(&env, &directory).await, left);
});

check!(a_listing_tells_files_from_directories, 1, |env, directory| {
    drop(create(&env, &directory.join("file")).await);
    env.disk().create_directory(&directory.join("directory/below")).await.expect("created");
    let mut entries = env.disk().list(&directory).await.expect("listed");
    entries.sort();
    let entry = |name: &str, is_directory| DirectoryEntry { name: name.into(), is_directory };
    assert_eq!(entries, [entry("directory", true), entry("file", false)]);
});

check!(a_rename_takes_the_content_along, 1, |env, directory| {
    let (a, b) = (directory.join("a"), directory.join("sub/b"));
    env.disk().create_directory(&directory.join("sub")).await.expect("created");
    numbered(&env, &a, 1).await;
    env.disk().rename(&a, &b).await.expect("renamed into another directory");
    assert_eq!(names(&env, &directory).await, ["sub"]);
    assert_eq!(number_of(&env, &b).await, Some(1));
    env.disk().rename(&b, &a).await.expect("renamed back");
    assert!(names(&env, &directory.join("sub")).await.is_empty());
    env.disk().rename(&a, &a).await.expect("it has that name");
    assert_eq!(number_of(&env, &a).await, Some(1));
    env.disk().sync_directory(&directory).await.expect("flushed");
    env.disk().sync_directory(&directory.join("sub")).await.expect("flushed");
});

check!(a_file_lives_until_its_last_name_goes, 1, |env, directory| {
    let (a, b) = (directory.join("a"), directory.join("sub/b"));
    env.disk().create_directory(&directory.join("sub")).await.expect("created");
    numbered(&env, &a, 1).await;
    env.disk().link(&a, &b).await.expect("linked into another directory");
    assert_eq!(names(&env, &directory).await, ["a", "sub"]);
    // What is written under one name is read under the other.
    let file = env.disk().open(&b, OpenMode::Write).await.expect("opened");
    put(&file, 0, 1, 2).await;
    assert_eq!(number_of(&env, &a).await, Some(2));
    env.disk().remove(&a).await.expect("removed");
    assert_eq!(number_under(&env, &a).await, None);
    assert_eq!(number_of(&env, &b).await, Some(2));
    // The name is free, and what bears it now is another file.
    numbered(&env, &a, 3).await;
    assert_eq!(number_of(&env, &b).await, Some(2));
    env.disk().rename(&a, &b).await.expect("it takes the last name of the other");
    assert_eq!(number_of(&env, &b).await, Some(3));
    env.disk().sync_directory(&directory).await.expect("flushed");
    env.disk().sync_directory(&directory.join("sub")).await.expect("flushed");
});

check!(a_directory_is_renamed_with_all_that_is_in_it, 1, |env, directory| {
    let (old, new) = (directory.join("old"), directory.join("new"));
    env.disk().create_directory(&old.join("below")).await.expect("created");
    numbered(&env, &old.join("a"), 1).await;
    numbered(&env, &old.join("below/b"), 2).await;
    let open = env.disk().open(&old.join("a"), OpenMode::Write).await.expect("opened");
    env.disk().rename(&old, &new).await.expect("renamed");
    assert_eq!(names(&env, &directory).await, ["new"]);
    put(&open, 0, 1, 3).await;
    assert_eq!(number_of(&env, &new.join("a")).await, Some(3));
    assert_eq!(number_of(&env, &new.join("below/b")).await, Some(2));
    env.disk().sync_directory(&directory).await.expect("flushed");
});

check!(a_rename_replaces_what_bore_the_name, 1, |env, directory| {
    let (a, b) = (directory.join("a"), directory.join("b"));
    for round in 0..20 {
        numbered(&env, &a, round).await;
        env.disk().rename(&a, &b).await.expect("renamed");
        assert_eq!(names(&env, &directory).await, ["b"]);
        assert_eq!(number_of(&env, &b).await, Some(round));
    }
});

check!(a_name_is_always_there_while_it_is_replaced, 1, |env, directory| {
    let (current, next) = (directory.join("current"), directory.join("next"));
    numbered(&env, &current, 0).await;
    let writing = (env.clone(), current.clone());
    let writer = env.spawn("replace", async move {
        let (env, current) = writing;
        for number in 1..40 {
            numbered(&env, &next, number).await;
            env.disk().rename(&next, &current).await.expect("replaced");
            env.yield_now().await;
        }
    });
    let mut latest = 0;
    while !writer.is_finished() {
        let number = number_of(&env, &current).await.expect("a whole file");
        assert!(number >= latest, "{number} after {latest}");
        latest = number;
        env.yield_now().await;
    }
    writer.await;
    assert_eq!(number_of(&env, &current).await, Some(39));
});

check!(a_file_that_is_moved_has_one_name_at_any_time, 2, FEW_SEEDS, |env, directory| {
    let (a, b) = (directory.join("a"), directory.join("b"));
    for round in 1..=40 {
        if env.mesh().shard() == 1 {
            numbered(&env, &a, round).await;
            env.mesh().send(0, Box::new(())).await;
            env.disk().rename(&a, &b).await.expect("moved");
            env.mesh().send(0, Box::new(())).await;
            env.mesh().receive().await;
            env.disk().remove(&b).await.expect("removed");
            continue;
        }
        env.mesh().receive().await;
        let mut moved = Box::pin(env.mesh().receive());
        while poll_once(&mut moved).await.is_none() {
            // It may be moved between two looks, but not back.
            if number_under(&env, &a).await.is_none() {
                assert_eq!(number_under(&env, &b).await, Some(round), "it has no name");
            }
            if number_under(&env, &b).await.is_some() {
                assert_eq!(number_under(&env, &a).await, None, "it has two names");
            }
            env.yield_now().await;
        }
        assert_eq!(number_under(&env, &a).await, None);
        assert_eq!(number_under(&env, &b).await, Some(round));
        env.mesh().send(1, Box::new(())).await;
    }
});

check!(names_may_hold_all_but_a_slash_and_a_zero, 1, |env, directory| {
    let longest = "n".repeat(255);
    let names_used = [
        " ",
        "a b",
        "-rf",
        "...",
        ".hidden",
        "back\\slash",
        "new\nline",
        "tab\t",
        "quote\"'",
        "*?[]",
        "%20",
        "A",
        "a",
        "ä",
        "日本語",
        "🪵",
        "con:",
        "\u{7f}",
        &longest,
    ];
    for (number, name) in names_used.iter().enumerate() {
        numbered(&env, &directory.join(name), number as u64).await;
    }
    let mut expected: Vec<String> = names_used.iter().map(|&name| name.to_owned()).collect();
    expected.sort();
    assert_eq!(names(&env, &directory).await, expected);
    for (number, name) in names_used.iter().enumerate() {
        let path = directory.join(name);
        assert_eq!(number_of(&env, &path).await, Some(number as u64), "{name:?}");
        env.disk().rename(&path, &directory.join("moved")).await.expect("renamed");
        env.disk().rename(&directory.join("moved"), &path).await.expect("renamed back");
        env.disk().remove(&path).await.expect("removed");
        env.disk().create_directory(&path).await.expect("a directory may have that name too");
    }
});

check!(two_names_are_two_directories, 1, |env, directory| {
    let (one, two) = (directory.join("one"), directory.join("two"));
    env.disk().create_directory(&one).await.expect("created");
    env.disk().create_directory(&two).await.expect("created");
    numbered(&env, &one.join("a"), 1).await;
    numbered(&env, &two.join("a"), 2).await;
    env.disk().remove(&one.join("a")).await.expect("removed");
    assert_eq!(number_of(&env, &two.join("a")).await, Some(2));
    assert!(names(&env, &one).await.is_empty());
    let error = env.disk().open(&one.join("a"), OpenMode::Read).await.err().expect("removed");
    assert_eq!(error.kind(), ErrorKind::NotFound);
});

check!(directories_are_flushed, 1, |env, directory| {
    env.disk().sync_directory(&directory).await.expect("an empty one");
    let sub = directory.join("sub");
    env.disk().create_directory(&sub).await.expect("created");
    for number in 0..10 {
        numbered(&env, &sub.join(format!("{number}")), number).await;
    }
    let flushes: Vec<_> = (0..8)
        .map(|number| {
            let path = if number % 2 == 0 { &sub } else { &directory };
            env.spawn("flush", env.disk().sync_directory(path))
        })
        .collect();
    for flush in flushes {
        flush.await.expect("flushed");
    }
    assert_eq!(names(&env, &sub).await.len(), 10);
});
