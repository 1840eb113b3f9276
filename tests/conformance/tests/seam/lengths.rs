//! Lengths: reserved, cut, extended.

use std::io::ErrorKind;

use woodchuck_io::{Disk, Durability, File, OpenMode};

use crate::common::{BLOCK, create, get, pattern_of, patterned, put};

check!(a_new_file_is_empty, 1, |env, directory| {
    let file = create(&env, &directory.join("a")).await;
    assert_eq!(file.length().await.expect("a length"), 0);
    assert!(get(&file, 0, 4).await.is_empty());
    // Also where another of that name was.
    put(&file, 0, 4, 1).await;
    drop(file);
    env.disk().remove(&directory.join("a")).await.expect("removed");
    let file = create(&env, &directory.join("a")).await;
    assert_eq!(file.length().await.expect("a length"), 0);
    file.allocate(4 * BLOCK as u64).await.expect("reserved");
    assert_eq!(pattern_of(&get(&file, 0, 4).await), Some(0), "another's bytes");
});

check!(an_allocation_never_shortens, 1, |env, directory| {
    let file = create(&env, &directory.join("a")).await;
    file.allocate(0).await.expect("nothing to reserve");
    assert_eq!(file.length().await.expect("a length"), 0);
    put(&file, 0, 4, 1).await;
    for length in [0, 1, 4096, 16_384] {
        file.allocate(length).await.expect("reserved");
        assert_eq!(file.length().await.expect("a length"), 4 * BLOCK as u64);
    }
    assert_eq!(pattern_of(&get(&file, 0, 4).await), Some(1));
});

check!(an_allocation_may_end_anywhere, 1, |env, directory| {
    let file = create(&env, &directory.join("a")).await;
    for length in [1_usize, 4095, 4097, 10_001, 1_000_003] {
        file.allocate(length as u64).await.expect("reserved");
        assert_eq!(file.length().await.expect("a length"), length as u64);
        let all = get(&file, 0, length.div_ceil(BLOCK) + 1).await;
        assert_eq!(all.len(), length);
        assert!(all.iter().all(|&byte| byte == 0));
    }
});

check!(an_allocation_keeps_what_is_there, 1, |env, directory| {
    let file = create(&env, &directory.join("a")).await;
    put(&file, 2, 2, 3).await;
    put(&file, 6, 1, 4).await;
    file.allocate(12 * BLOCK as u64).await.expect("reserved");
    let numbers = crate::common::patterns_of(&get(&file, 0, 16).await);
    assert_eq!(numbers, [0, 0, 3, 3, 0, 0, 4, 0, 0, 0, 0, 0].map(Some));
});

check!(what_was_cut_is_gone_for_good, 1, |env, directory| {
    let file = create(&env, &directory.join("a")).await;
    type Extend = fn(u64) -> Longer;
    let ways: [Extend; 3] = [Longer::Truncate, Longer::Allocate, Longer::Write];
    for (cut, way) in [0_u64, 1, 4096, 5000].iter().flat_map(|cut| ways.map(|way| (*cut, way))) {
        file.truncate(0).await.expect("emptied");
        put(&file, 0, 8, 7).await;
        file.sync_data().await.expect("flushed");
        file.truncate(cut).await.expect("cut");
        assert_eq!(file.length().await.expect("a length"), cut);
        match way(8 * BLOCK as u64) {
            Longer::Truncate(length) => file.truncate(length).await.expect("extended"),
            Longer::Allocate(length) => file.allocate(length).await.expect("extended"),
            Longer::Write(length) => {
                let offset = length - BLOCK as u64;
                let last = patterned(BLOCK, 0);
                file.write_at(last, offset, Durability::Volatile).await.0.expect("extended");
            }
        }
        let all = get(&file, 0, 16).await;
        let seven = 7_u64.to_le_bytes();
        let (kept, new) = all.split_at(cut as usize);
        assert_eq!(all.len(), 8 * BLOCK);
        assert!(kept.iter().enumerate().all(|(at, &byte)| byte == seven[at % 8]));
        assert!(new.iter().all(|&byte| byte == 0), "cut at {cut} and back again");
    }
});

/// How a file becomes this long.
enum Longer {
    Truncate(u64),
    Allocate(u64),
    Write(u64),
}

check!(lengths_of_a_file_opened_for_reading_stay, 1, |env, directory| {
    let file = create(&env, &directory.join("a")).await;
    put(&file, 0, 2, 1).await;
    let reader = env.disk().open(&directory.join("a"), OpenMode::Read).await.expect("opened");
    reader.allocate(1 << 20).await.expect_err("opened for reading");
    reader.truncate(0).await.expect_err("opened for reading");
    let (result, buffer) = reader.write_at(patterned(BLOCK, 2), 0, Durability::Durable).await;
    result.expect_err("opened for reading");
    assert_eq!(pattern_of(&buffer), Some(2), "the buffer comes back as it was");
    assert_eq!(reader.length().await.expect("a length"), 2 * BLOCK as u64);
    assert_eq!(pattern_of(&get(&reader, 0, 2).await), Some(1));
});

check!(a_length_no_file_can_have_is_refused, 1, |env, directory| {
    let file = create(&env, &directory.join("a")).await;
    put(&file, 0, 1, 1).await;
    for length in [1 << 63, u64::MAX] {
        let error = file.truncate(length).await.expect_err("too long");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        file.allocate(length).await.expect_err("too long");
    }
    assert_eq!(file.length().await.expect("a length"), BLOCK as u64);
    assert_eq!(pattern_of(&get(&file, 0, 1).await), Some(1));
});

check!(a_random_history_reads_as_its_model_says, 1, |env, directory| {
    const BLOCKS: u64 = 24;
    let file = create(&env, &directory.join("a")).await;
    let mut model: Vec<u8> = Vec::new();
    let mut random = env.random("history");
    for step in 1..200_u64 {
        let (block, blocks) = (random.below(BLOCKS), 1 + random.below(6));
        let length = random.below((BLOCKS + 4) * BLOCK as u64);
        match random.below(8) {
            0..=3 => {
                let durability =
                    if random.below(8) == 0 { Durability::Durable } else { Durability::Volatile };
                let buffer = patterned(blocks as usize * BLOCK, step);
                let (start, end) = (block as usize * BLOCK, (block + blocks) as usize * BLOCK);
                model.resize(model.len().max(end), 0);
                model[start..end].copy_from_slice(&buffer);
                let offset = block * BLOCK as u64;
                file.write_at(buffer, offset, durability).await.0.expect("written");
            }
            4 => {
                model.resize(length as usize, 0);
                file.truncate(length).await.expect("set");
            }
            5 => {
                model.resize(model.len().max(length as usize), 0);
                file.allocate(length).await.expect("reserved");
            }
            6 => file.sync_data().await.expect("flushed"),
            _ => {
                let read = get(&file, block, blocks as usize).await;
                let start = model.len().min(block as usize * BLOCK);
                let end = model.len().min((block + blocks) as usize * BLOCK);
                assert!(read[..] == model[start..end], "step {step} reads what was not written");
            }
        }
        assert_eq!(file.length().await.expect("a length"), model.len() as u64, "step {step}");
    }
    assert!(get(&file, 0, 64).await[..] == model[..], "the whole at the end");
});
