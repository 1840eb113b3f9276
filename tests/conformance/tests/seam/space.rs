//! A disk without room says so, and keeps what it has.

use std::io::ErrorKind;

use woodchuck_io::{Disk, Durability, File};

use crate::common::{BLOCK, create, get, pattern_of, patterned, put};

/// Blocks written at once.
const PIECE: usize = 16;

small_disk_check!(an_allocation_without_room_changes_nothing, |env, directory| {
    let file = create(&env, &directory.join("a")).await;
    put(&file, 0, 2, 1).await;
    for length in [2 * SMALL_DISK_BYTES, 64 * SMALL_DISK_BYTES] {
        let error = file.allocate(length).await.expect_err("no room");
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        assert_eq!(file.length().await.expect("a length"), 2 * BLOCK as u64);
        assert_eq!(pattern_of(&get(&file, 0, 4).await), Some(1));
    }
    // There is still room for as much as there was.
    file.allocate(SMALL_DISK_BYTES / 2).await.expect("reserved");
    assert_eq!(file.length().await.expect("a length"), SMALL_DISK_BYTES / 2);
    assert_eq!(pattern_of(&get(&file, 0, 2).await), Some(1));
    assert_eq!(pattern_of(&get(&file, 2, 256).await), Some(0));
});

small_disk_check!(a_write_without_room_fails_and_others_keep_theirs, |env, directory| {
    let kept = create(&env, &directory.join("kept")).await;
    put(&kept, 0, 8, 7).await;
    let file = create(&env, &directory.join("a")).await;
    let mut written = 0;
    let error = loop {
        let buffer = patterned(PIECE * BLOCK, written + 1);
        let offset = written * (PIECE * BLOCK) as u64;
        let (result, buffer) = file.write_at(buffer, offset, Durability::Durable).await;
        assert_eq!(pattern_of(&buffer), Some(written + 1), "it comes back unchanged either way");
        match result {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(
            written * ((PIECE * BLOCK) as u64) < 4 * SMALL_DISK_BYTES,
            "a small disk takes all"
        );
    };
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    assert!(written * (PIECE * BLOCK) as u64 > SMALL_DISK_BYTES / 2, "{written} pieces");
    for piece in (0..written).step_by(7) {
        let read = get(&file, piece * PIECE as u64, PIECE).await;
        assert_eq!(pattern_of(&read), Some(piece + 1));
    }
    // What has its place already is overwritten in it.
    put(&kept, 0, 8, 8).await;
    kept.sync_data().await.expect("flushed");
    assert_eq!(pattern_of(&get(&kept, 0, 8).await), Some(8));
});

small_disk_check!(reserved_space_is_there_when_it_is_written, |env, directory| {
    let reserved = create(&env, &directory.join("reserved")).await;
    reserved.allocate(SMALL_DISK_BYTES / 4).await.expect("reserved");
    let file = create(&env, &directory.join("a")).await;
    let mut offset = 0;
    while file.write_at(patterned(BLOCK * PIECE, 1), offset, Durability::Volatile).await.0.is_ok() {
        offset += (BLOCK * PIECE) as u64;
    }
    for block in (0..SMALL_DISK_BYTES / 4 / BLOCK as u64).step_by(PIECE) {
        put(&reserved, block, PIECE, 2).await;
    }
    reserved.sync_data().await.expect("flushed");
    assert_eq!(pattern_of(&get(&reserved, 0, 256).await), Some(2));
});

small_disk_check!(what_is_removed_or_cut_makes_room, |env, directory| {
    for round in 1..4_u64 {
        let path = directory.join("a");
        let file = create(&env, &path).await;
        file.allocate(SMALL_DISK_BYTES * 3 / 4).await.expect("there is room again");
        let other = create(&env, &directory.join("b")).await;
        let error = other.allocate(SMALL_DISK_BYTES * 3 / 4).await.expect_err("no room for both");
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        put(&file, 0, PIECE, round).await;
        file.truncate(BLOCK as u64).await.expect("cut");
        file.sync_data().await.expect("flushed");
        other.allocate(SMALL_DISK_BYTES * 3 / 4).await.expect("there is room now");
        assert_eq!(pattern_of(&get(&file, 0, PIECE).await), Some(round));
        drop((file, other));
        env.disk().remove(&path).await.expect("removed");
        env.disk().remove(&directory.join("b")).await.expect("removed");
        env.disk().sync_directory(&directory).await.expect("flushed");
    }
});
