//! The text of the seam, line by line, where no fault is involved.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use woodchuck_io::{Buffer, Disk as _, Durability, Env as _, File as _, OpenMode};

use super::{blocks, create, run, write};
use crate::World;

/// The kind of an error that must have occurred.
fn kind<T>(result: std::io::Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("it should fail"),
        Err(error) => error.kind(),
    }
}

#[test]
fn open_modes() {
    run(&World::new(1), |env| async move {
        let (disk, path) = (env.disk(), Path::new("/f"));
        assert_eq!(kind(disk.open(path, OpenMode::Read).await), ErrorKind::NotFound);
        assert_eq!(kind(disk.open(path, OpenMode::Write).await), ErrorKind::NotFound);
        disk.open(path, OpenMode::CreateNew).await.expect("new");
        assert_eq!(kind(disk.open(path, OpenMode::CreateNew).await), ErrorKind::AlreadyExists);
        let file = disk.open(path, OpenMode::Read).await.expect("there");
        let (result, buffer) = file.write_at(blocks(1, 1), 0, Durability::Volatile).await;
        assert!(result.is_err() && buffer.len() == 4096);
        let nowhere = Path::new("/no/f");
        assert_eq!(kind(disk.open(nowhere, OpenMode::CreateNew).await), ErrorKind::NotFound);
    });
}

#[test]
fn directories() {
    run(&World::new(1), |env| async move {
        let disk = env.disk();
        let path = Path::new;
        assert_eq!(kind(disk.list(path("/a")).await), ErrorKind::NotFound);
        disk.create_directory(path("/a/b")).await.expect("with its parents");
        disk.create_directory(path("/a/b")).await.expect("no error if it is there");
        for name in ["x", "y", "z"] {
            create(&env, &format!("/a/{name}")).await;
        }
        disk.rename(path("/a/x"), path("/a/y")).await.expect("replaces");
        disk.remove(path("/a/z")).await.expect("there");
        assert_eq!(kind(disk.remove(path("/a/z")).await), ErrorKind::NotFound);
        assert_eq!(kind(disk.rename(path("/a/z"), path("/a/w")).await), ErrorKind::NotFound);
        let mut entries = disk.list(path("/a")).await.expect("there");
        entries.sort();
        let entries: Vec<_> =
            entries.into_iter().map(|entry| (entry.name, entry.is_directory)).collect();
        assert_eq!(entries, [("b".to_owned(), true), ("y".to_owned(), false)]);
        disk.sync_directory(path("/a")).await.expect("there");
        assert_eq!(kind(disk.sync_directory(path("/q")).await), ErrorKind::NotFound);
    });
}

#[test]
fn a_directory_is_listed_in_no_particular_order() {
    let orders: BTreeSet<Vec<String>> = (0..10)
        .map(|seed| {
            run(&World::new(seed), |env| async move {
                for name in ["a", "b", "c", "d"] {
                    create(&env, &format!("/{name}")).await;
                }
                let entries = env.disk().list(Path::new("/")).await.expect("there");
                entries.into_iter().map(|entry| entry.name).collect()
            })
        })
        .collect();
    assert!(orders.len() > 3);
    assert!(orders.iter().all(|order| order.iter().collect::<BTreeSet<_>>().len() == 4));
}

#[test]
fn reads_and_writes() {
    run(&World::new(1), |env| async move {
        let file = create(&env, "/f").await;
        let (result, buffer) = file.read_at(blocks(1, 9), 0).await;
        assert_eq!((result.expect("healthy"), buffer.len()), (0, 0), "the file is empty");
        write(&file, 2, 1, 3, Durability::Volatile).await;
        assert_eq!(file.length().await.expect("healthy"), 3 * 4096);
        let mut content = Vec::new();
        while content.len() < 3 * 4096 {
            let buffer = Buffer::with_capacity(16384);
            let (result, buffer) = file.read_at(buffer, content.len() as u64).await;
            assert_eq!(result.expect("healthy"), buffer.len(), "may be short");
            assert!(!buffer.is_empty(), "empty only at the end");
            content.extend_from_slice(&buffer);
        }
        assert!(content[..8192].iter().all(|&byte| byte == 0), "never written, reads as zeros");
        assert!(content[8192..].iter().all(|&byte| byte == 3));
        let (result, buffer) =
            file.write_at(Buffer::with_capacity(1), 0, Durability::Durable).await;
        result.expect("nothing to write is no error");
        assert!(buffer.is_empty());
    });
}

#[test]
fn only_whole_blocks_are_taken() {
    run(&World::new(1), |env| async move {
        let file = create(&env, "/f").await;
        let mut odd = Buffer::with_capacity(4096);
        odd.extend_from_slice(b"abc");
        let (result, odd) = file.write_at(odd, 0, Durability::Durable).await;
        assert_eq!((kind(result), &odd[..]), (ErrorKind::InvalidInput, &b"abc"[..]));
        let (result, _) = file.write_at(blocks(1, 1), 512, Durability::Durable).await;
        assert_eq!(kind(result), ErrorKind::InvalidInput);
        let (result, buffer) = file.read_at(blocks(1, 1), 1).await;
        assert_eq!((kind(result), buffer.len()), (ErrorKind::InvalidInput, 0));
    });
}

#[test]
fn lengths() {
    run(&World::new(1), |env| async move {
        let file = create(&env, "/f").await;
        file.allocate(10_000).await.expect("room");
        file.allocate(100).await.expect("at least so long, never shorter");
        assert_eq!(file.length().await.expect("healthy"), 10_000);
        write(&file, 0, 2, 7, Durability::Durable).await;
        file.truncate(5000).await.expect("healthy");
        file.truncate(8192).await.expect("healthy");
        let (result, buffer) = file.read_at(Buffer::with_capacity(4096), 4096).await;
        assert_eq!(result.expect("healthy"), 4096);
        assert!(buffer[..904].iter().all(|&byte| byte == 7));
        assert!(buffer[904..].iter().all(|&byte| byte == 0), "what was cut stays cut");
    });
}

#[test]
fn a_file_lives_on_without_its_name() {
    let world = World::new(1);
    run(&world, |env| async move {
        let file = create(&env, "/f").await;
        write(&file, 0, 1, 1, Durability::Durable).await;
        env.disk().remove(Path::new("/f")).await.expect("there");
        env.disk().sync_directory(Path::new("/")).await.expect("healthy");
        for index in 0..200 {
            let path = format!("/{index}");
            drop(create(&env, &path).await);
            env.disk().remove(Path::new(&path)).await.expect("there");
        }
        let (result, buffer) = file.read_at(Buffer::with_capacity(1), 0).await;
        assert_eq!((result.expect("open"), buffer[0]), (4096, 1));
        let new = create(&env, "/f").await;
        assert_eq!(new.length().await.expect("healthy"), 0, "another file of that name");
    });
}

#[test]
fn timers_are_never_early() {
    for seed in 0..20 {
        run(&World::new(seed), |env| async move {
            for micros in [0, 1, 10, 1000] {
                let before = env.now();
                env.sleep(Duration::from_micros(micros)).await;
                assert!(env.now() - before >= Duration::from_micros(micros));
            }
            let task = env.spawn("forever", std::future::pending::<()>());
            drop(task);
            let task = env.spawn("seven", async { 7 });
            assert_eq!(task.await, 7);
        });
    }
}

#[test]
fn names_and_lengths_have_the_bounds_that_kernels_set() {
    run(&World::new(1), |env| async move {
        let disk = env.disk();
        let long = format!("/{}", "n".repeat(256));
        let (long, zero) = (Path::new(&long), Path::new("/a\0b"));
        for (path, expected) in
            [(long, ErrorKind::InvalidFilename), (zero, ErrorKind::InvalidInput)]
        {
            assert_eq!(kind(disk.open(path, OpenMode::CreateNew).await), expected);
            assert_eq!(kind(disk.create_directory(path).await), expected);
            assert_eq!(kind(disk.list(path).await), expected);
            assert_eq!(kind(disk.lock(path).await), expected);
        }
        create(&env, &format!("/{}", "n".repeat(255))).await;
        disk.create_directory(Path::new("/d")).await.expect("new");
        assert_eq!(kind(disk.lock(Path::new("/d")).await), ErrorKind::IsADirectory);

        let file = create(&env, "/f").await;
        for offset in [u64::MAX - 4095, (1 << 63) - 4096] {
            let (result, _) = file.write_at(blocks(2, 1), offset, Durability::Volatile).await;
            assert_eq!(kind(result), ErrorKind::InvalidInput);
            let (result, buffer) = file.read_at(blocks(2, 1), offset).await;
            assert_eq!((kind(result), buffer.len()), (ErrorKind::InvalidInput, 0));
        }
        assert_eq!(kind(file.truncate(1 << 63).await), ErrorKind::InvalidInput);
        assert_eq!(kind(file.allocate(u64::MAX).await), ErrorKind::InvalidInput);
        assert_eq!(file.length().await.expect("healthy"), 0);
    });
}
