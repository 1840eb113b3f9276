//! What files and directories promise.

use std::io::ErrorKind;

use woodchuck_io::{Buffer, DirectoryEntry, Disk, Durability, File, OpenMode};

use crate::common::{FEW_SEEDS, is_simulated, pattern_of, patterned, skipped};

check!(what_was_written_is_read_back, 1, FEW_SEEDS, |env, directory| {
    let file = env.disk().open(&directory.join("a"), OpenMode::CreateNew).await.expect("created");
    for (number, durability) in [(7, Durability::Volatile), (8, Durability::Durable)] {
        for length in [4096, 65536, 1 << 20, 5 << 20] {
            let written = patterned(length, number);
            let (result, written) = file.write_at(written, 8192, durability).await;
            result.expect("written");
            assert_eq!((written.len(), pattern_of(&written)), (length, Some(number)));
            let (result, read) = file.read_at(Buffer::with_capacity(length), 8192).await;
            assert_eq!(result.expect("read"), length);
            assert_eq!((read.len(), pattern_of(&read)), (length, Some(number)));
        }
    }
    file.sync_data().await.expect("flushed");
    let (result, hole) = file.read_at(Buffer::with_capacity(8192), 0).await;
    assert_eq!((result.expect("read"), pattern_of(&hole)), (8192, Some(0)));
});

check!(reads_end_with_the_file, 1, |env, directory| {
    let file = env.disk().open(&directory.join("a"), OpenMode::CreateNew).await.expect("created");
    let read = |capacity, offset| file.read_at(Buffer::with_capacity(capacity), offset);
    assert_eq!(read(4096, 0).await.0.expect("an empty file"), 0);
    file.write_at(patterned(8192, 5), 0, Durability::Volatile).await.0.expect("written");
    let (result, buffer) = read(16384, 4096).await;
    assert_eq!((result.expect("short"), buffer.len()), (4096, 4096));
    assert_eq!(read(4096, 8192).await.0.expect("the end"), 0);
    assert_eq!(read(4096, 1 << 40).await.0.expect("beyond the end"), 0);
    file.truncate(5000).await.expect("cut");
    let (result, buffer) = read(8192, 0).await;
    assert_eq!((result.expect("short"), buffer.len()), (5000, 5000));
    // A buffer that held something holds what was read and nothing else.
    let (result, buffer) = file.read_at(patterned(8192, 1), 4096).await;
    assert_eq!((result.expect("short"), buffer.len()), (904, 904));
    assert!(buffer.chunks_exact(8).all(|word| word == 5_u64.to_le_bytes()));
});

check!(misaligned_transfers_are_refused, 1, |env, directory| {
    let file = env.disk().open(&directory.join("a"), OpenMode::CreateNew).await.expect("created");
    for (length, offset) in [(4096, 1), (4096, 512), (4095, 0), (1, 0), (4096, u64::MAX - 4095)] {
        let (result, buffer) =
            file.write_at(Buffer::zeroed(length), offset, Durability::Durable).await;
        assert_eq!(result.expect_err("misaligned").kind(), ErrorKind::InvalidInput);
        assert_eq!(buffer.len(), length);
    }
    let (result, buffer) = file.read_at(Buffer::zeroed(4096), 100).await;
    let error = result.expect_err("misaligned");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    if !is_simulated(&env) {
        assert!(error.to_string().contains("reading 4096 bytes at 100 of "), "{error}");
    }
    assert!(buffer.is_empty());
    file.write_at(Buffer::with_capacity(1), 0, Durability::Durable).await.0.expect("nothing to do");
    assert_eq!(file.length().await.expect("a length"), 0);
});

check!(opening_says_what_is_wrong, 1, |env, directory| {
    let path = directory.join("a");
    for mode in [OpenMode::Read, OpenMode::Write] {
        let error = env.disk().open(&path, mode).await.err().expect("there is none");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        if !is_simulated(&env) {
            assert!(error.to_string().contains("opening "), "{error}");
        }
    }
    let file = env.disk().open(&path, OpenMode::CreateNew).await.expect("created");
    file.write_at(patterned(4096, 3), 0, Durability::Durable).await.0.expect("written");
    drop(file);
    let error = env.disk().open(&path, OpenMode::CreateNew).await.err().expect("it is there");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let file = env.disk().open(&path, OpenMode::Read).await.expect("opened");
    let (result, buffer) = file.read_at(Buffer::with_capacity(4096), 0).await;
    assert_eq!((result.expect("read"), pattern_of(&buffer)), (4096, Some(3)));
    let (result, buffer) = file.write_at(buffer, 0, Durability::Volatile).await;
    result.expect_err("opened for reading");
    assert_eq!(pattern_of(&buffer), Some(3));
});

check!(names_come_and_go, 1, |env, directory| {
    let disk = env.disk();
    let deep = directory.join("x/y/z");
    disk.create_directory(&deep).await.expect("created with its parents");
    disk.create_directory(&deep).await.expect("it may be there");
    for name in ["a", "b"] {
        let file = disk.open(&deep.join(name), OpenMode::CreateNew).await.expect("created");
        let number = u64::from(name.as_bytes()[0]);
        file.write_at(patterned(4096, number), 0, Durability::Durable).await.0.expect("written");
    }
    disk.sync_directory(&deep).await.expect("flushed");
    disk.rename(&deep.join("a"), &deep.join("b")).await.expect("replaces b");
    let file = disk.open(&deep.join("b"), OpenMode::Read).await.expect("opened");
    let (_, buffer) = file.read_at(Buffer::with_capacity(4096), 0).await;
    assert_eq!(pattern_of(&buffer), Some(u64::from(b'a')));
    disk.create_directory(&deep.join("d")).await.expect("created");
    let mut names = disk.list(&deep).await.expect("listed");
    names.sort();
    let entry = |name: &str, is_directory| DirectoryEntry { name: name.into(), is_directory };
    assert_eq!(names, [entry("b", false), entry("d", true)]);
    disk.remove(&deep.join("b")).await.expect("removed");
    // An open file outlives its name.
    let (result, _) = file.read_at(Buffer::with_capacity(4096), 0).await;
    assert_eq!(result.expect("read"), 4096);
    for error in [
        disk.remove(&deep.join("b")).await.expect_err("gone"),
        disk.rename(&deep.join("b"), &deep.join("c")).await.expect_err("gone"),
        disk.list(&deep.join("b")).await.expect_err("gone"),
        disk.sync_directory(&deep.join("b")).await.expect_err("gone"),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
});

check!(lengths_are_reserved_and_cut, 1, |env, directory| {
    let file = env.disk().open(&directory.join("a"), OpenMode::CreateNew).await.expect("created");
    file.write_at(patterned(4096, 9), 0, Durability::Volatile).await.0.expect("written");
    file.allocate(1 << 20).await.expect("reserved");
    assert_eq!(file.length().await.expect("a length"), 1 << 20);
    file.allocate(4096).await.expect("never shorter");
    assert_eq!(file.length().await.expect("a length"), 1 << 20);
    let (_, first) = file.read_at(Buffer::with_capacity(4096), 0).await;
    let (_, rest) = file.read_at(Buffer::with_capacity((1 << 20) - 4096), 4096).await;
    assert_eq!((pattern_of(&first), pattern_of(&rest)), (Some(9), Some(0)));
    assert_eq!(rest.len(), (1 << 20) - 4096);
    file.truncate(4096).await.expect("cut");
    assert_eq!(file.length().await.expect("a length"), 4096);
    file.truncate(8192).await.expect("extended");
    let (result, buffer) = file.read_at(Buffer::with_capacity(8192), 0).await;
    assert_eq!(result.expect("read"), 8192);
    assert_eq!((pattern_of(&buffer[..4096]), pattern_of(&buffer[4096..])), (Some(9), Some(0)));
});

kernel_check!(memory_without_room_changes_nothing, 1, |env, directory| {
    // A filesystem in memory, which refuses at once: a disk would be filled to its end first, and
    // everybody else on it would run out of room.
    let shared = std::path::Path::new("/dev/shm");
    if !shared.is_dir() {
        skipped("a filesystem in memory without room: there is no /dev/shm");
        return;
    }
    // The directory itself may be there.
    let name = directory.file_name().expect("a scratch directory has a name");
    let path = shared.join(name).with_extension("without-room");
    let file = env.disk().open(&path, OpenMode::CreateNew).await.expect("created");
    env.disk().remove(&path).await.expect("removed; the open file lives on");
    file.write_at(patterned(4096, 9), 0, Durability::Volatile).await.0.expect("written");
    let error = file.allocate(8 << 40).await.expect_err("no such room");
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    assert!(error.to_string().contains("reserving 8796093022208 bytes for "), "{error}");
    assert_eq!(file.length().await.expect("a length"), 4096);
});

check!(many_transfers_in_flight_keep_apart, 1, FEW_SEEDS, |env, directory| {
    let file = env.disk().open(&directory.join("a"), OpenMode::CreateNew).await.expect("created");
    // More than the submission queue holds, so that the backlog is used too.
    let writes: Vec<_> = (0..1500_u64)
        .map(|block| {
            let file = file.clone();
            env.spawn("write", async move {
                file.write_at(patterned(4096, block), block * 4096, Durability::Volatile).await.0
            })
        })
        .collect();
    for write in writes {
        write.await.expect("written");
    }
    let reads: Vec<_> = (0..1500_u64)
        .map(|block| {
            let file = file.clone();
            env.spawn("read", async move {
                let (result, buffer) =
                    file.read_at(Buffer::with_capacity(4096), block * 4096).await;
                assert_eq!((result.expect("read"), pattern_of(&buffer)), (4096, Some(block)));
            })
        })
        .collect();
    for read in reads {
        read.await;
    }
});

/// Flushes that a device has completed, if it counts them and needs them.
fn flushes(directory: &std::path::Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    let device = std::fs::metadata(directory).ok()?.dev();
    let (major, minor) = (device >> 8 & 0xfff, (device & 0xff) | (device >> 12 & 0xf_ff00));
    let block = format!("/sys/dev/block/{major}:{minor}");
    let read = |name: &str| std::fs::read_to_string(format!("{block}/{name}")).ok();
    let cached = read("queue/write_cache")?.trim() == "write back";
    let flushed = read("queue/fua")?.trim() == "0";
    let count = read("stat")?.split_whitespace().nth(15)?.parse().ok()?;
    (cached && flushed).then_some(count)
}

kernel_check!(durable_writes_and_flushes_reach_the_device, 1, |env, directory| {
    let Some(before) = flushes(&directory) else {
        skipped("flushes of the device: it counts none");
        return;
    };
    let file = env.disk().open(&directory.join("a"), OpenMode::CreateNew).await.expect("created");
    for round in 0..200 {
        // Overwrites after the first: nothing but the promise makes the device flush.
        file.write_at(patterned(4096, round), 0, Durability::Durable).await.0.expect("written");
    }
    let durable = flushes(&directory).expect("still counts");
    // Others flush as well, so the count may be higher; it cannot be lower.
    assert!(durable - before >= 200, "{} flushes for 200 durable writes", durable - before);
    for round in 0..200 {
        file.write_at(patterned(4096, round), 0, Durability::Volatile).await.0.expect("written");
        file.sync_data().await.expect("flushed");
    }
    let synced = flushes(&directory).expect("still counts");
    assert!(synced - durable >= 200, "{} flushes for 200 syncs", synced - durable);
});
