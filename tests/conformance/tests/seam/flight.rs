//! What is read after what was written, and many operations on one file at once.

use woodchuck_io::{Buffer, Disk, Durability, File, OpenMode};

use crate::common::{BLOCK, FEW_SEEDS, create, get, pattern_of, patterned, patterns_of, put};

check!(the_latest_of_overlapping_writes_is_read, 1, |env, directory| {
    let file = create(&env, &directory.join("a")).await;
    put(&file, 0, 8, 1).await;
    put(&file, 4, 8, 2).await;
    let buffer = patterned(BLOCK, 3);
    file.write_at(buffer, 6 * BLOCK as u64, Durability::Durable).await.0.expect("written");
    put(&file, 5, 1, 4).await;
    let numbers: Vec<u64> =
        patterns_of(&get(&file, 0, 12).await).into_iter().map(|it| it.expect("whole")).collect();
    assert_eq!(numbers, [1, 1, 1, 1, 2, 4, 3, 2, 2, 2, 2, 2]);
});

check!(a_write_is_seen_through_every_handle, 1, |env, directory| {
    let path = directory.join("a");
    let writer = create(&env, &path).await;
    let reader = env.disk().open(&path, OpenMode::Read).await.expect("opened");
    let other = env.disk().open(&path, OpenMode::Write).await.expect("opened");
    for (number, durability) in [(1, Durability::Volatile), (2, Durability::Durable)] {
        writer.write_at(patterned(2 * BLOCK, number), 0, durability).await.0.expect("written");
        assert_eq!(reader.length().await.expect("a length"), 2 * BLOCK as u64);
        assert_eq!(pattern_of(&get(&reader, 0, 4).await), Some(number));
        put(&other, 1, 1, number + 10).await;
        assert_eq!(patterns_of(&get(&writer, 0, 4).await), [Some(number), Some(number + 10)]);
    }
    drop(writer);
    drop(other);
    assert_eq!(patterns_of(&get(&reader, 0, 4).await), [Some(2), Some(12)]);
});

check!(holes_read_as_zeros, 1, |env, directory| {
    let file = create(&env, &directory.join("a")).await;
    for block in [3, 9, 17] {
        put(&file, block, 1, block).await;
    }
    assert_eq!(file.length().await.expect("a length"), 18 * BLOCK as u64);
    let numbers = patterns_of(&get(&file, 0, 32).await);
    let expected = (0..18).map(|block| if [3, 9, 17].contains(&block) { block } else { 0 });
    assert_eq!(numbers, expected.map(Some).collect::<Vec<_>>());
    // The block before a hole's end, alone, into a buffer that held something.
    let (result, buffer) = file.read_at(patterned(BLOCK, 99), 8 * BLOCK as u64).await;
    assert_eq!((result.expect("read"), pattern_of(&buffer)), (BLOCK, Some(0)));
});

check!(a_file_may_be_long_and_nearly_empty, 1, |env, directory| {
    let file = create(&env, &directory.join("a")).await;
    // Beyond what 32 bits can say, in bytes and in blocks of 512.
    for block in [(5 << 30) / BLOCK as u64, (3 << 40) / BLOCK as u64] {
        put(&file, block, 2, block).await;
        assert_eq!(file.length().await.expect("a length"), (block + 2) * BLOCK as u64);
        assert_eq!(patterns_of(&get(&file, block - 1, 2).await), [Some(0), Some(block)]);
        assert_eq!(patterns_of(&get(&file, block + 1, 2).await), [Some(block)]);
    }
    assert_eq!(pattern_of(&get(&file, 0, 1).await), Some(0));
});

check!(reads_are_cut_at_the_last_byte, 1, |env, directory| {
    let file = create(&env, &directory.join("a")).await;
    for length in [0_usize, 1, 511, 512, 4095, 4096, 4097, 8191, 8192, 10_000] {
        file.truncate(0).await.expect("emptied");
        put(&file, 0, 3, 7).await;
        file.truncate(length as u64).await.expect("cut");
        for offset in [0, BLOCK, 2 * BLOCK, 3 * BLOCK] {
            for capacity in [BLOCK, 2 * BLOCK, 16 * BLOCK] {
                let buffer = patterned(capacity, 9);
                let (result, buffer) = file.read_at(buffer, offset as u64).await;
                let expected = length.saturating_sub(offset).min(capacity);
                let read = result.expect("read");
                assert_eq!((read, buffer.len()), (expected, expected), "{length} at {offset}");
                let seven = 7_u64.to_le_bytes();
                assert!(buffer.iter().enumerate().all(|(at, &byte)| byte == seven[at % 8]));
            }
        }
    }
});

check!(a_write_goes_on_where_an_odd_length_ended, 1, |env, directory| {
    let file = create(&env, &directory.join("a")).await;
    put(&file, 0, 2, 1).await;
    file.truncate(5000).await.expect("cut");
    put(&file, 3, 1, 2).await;
    assert_eq!(file.length().await.expect("a length"), 4 * BLOCK as u64);
    let all = get(&file, 0, 4).await;
    assert_eq!(pattern_of(&all[..5000]), Some(1));
    assert_eq!(pattern_of(&all[5000..3 * BLOCK]), Some(0), "what was cut stays cut");
    assert_eq!(pattern_of(&all[3 * BLOCK..]), Some(2));
    // A write inside leaves the length.
    file.truncate(5000).await.expect("cut");
    put(&file, 0, 1, 3).await;
    assert_eq!(file.length().await.expect("a length"), 5000);
    put(&file, 1, 1, 4).await;
    assert_eq!(patterns_of(&get(&file, 0, 4).await), [Some(3), Some(4)]);
});

check!(writes_of_nothing_do_nothing, 1, |env, directory| {
    let file = create(&env, &directory.join("a")).await;
    put(&file, 0, 1, 1).await;
    for durability in [Durability::Volatile, Durability::Durable] {
        for offset in [0, BLOCK as u64, 1 << 30] {
            let (result, buffer) =
                file.write_at(Buffer::with_capacity(1), offset, durability).await;
            result.expect("nothing to do");
            assert!(buffer.is_empty());
        }
        let (result, _) = file.write_at(Buffer::with_capacity(1), 7, durability).await;
        assert_eq!(result.expect_err("misaligned").kind(), std::io::ErrorKind::InvalidInput);
    }
    assert_eq!(file.length().await.expect("a length"), BLOCK as u64);
});

check!(transfers_beyond_the_largest_file_are_refused, 1, |env, directory| {
    let file = create(&env, &directory.join("a")).await;
    for offset in [u64::MAX - 4095, (1 << 63) - 4096, 1 << 63] {
        let (result, buffer) =
            file.write_at(patterned(2 * BLOCK, 1), offset, Durability::Volatile).await;
        assert_eq!(result.expect_err("beyond").kind(), std::io::ErrorKind::InvalidInput);
        assert_eq!((buffer.len(), pattern_of(&buffer)), (2 * BLOCK, Some(1)));
        let (result, buffer) = file.read_at(patterned(2 * BLOCK, 1), offset).await;
        assert_eq!(result.expect_err("beyond").kind(), std::io::ErrorKind::InvalidInput);
        assert!(buffer.is_empty());
    }
    assert_eq!(file.length().await.expect("a length"), 0);
});

check!(one_transfer_may_be_many_megabytes, 1, FEW_SEEDS, |env, directory| {
    const LENGTH: usize = 24 << 20;
    let file = create(&env, &directory.join("a")).await;
    let mut buffer = Buffer::zeroed(LENGTH);
    for (block, bytes) in buffer.chunks_exact_mut(BLOCK).enumerate() {
        bytes[..8].copy_from_slice(&(block as u64).to_le_bytes());
    }
    let (result, _) = file.write_at(buffer, BLOCK as u64, Durability::Volatile).await;
    result.expect("written");
    let (result, buffer) = file.read_at(Buffer::with_capacity(LENGTH), BLOCK as u64).await;
    assert_eq!((result.expect("read"), buffer.len()), (LENGTH, LENGTH));
    for (block, bytes) in buffer.chunks_exact(BLOCK).enumerate() {
        assert_eq!(bytes[..8], (block as u64).to_le_bytes());
        assert!(bytes[8..].iter().all(|&byte| byte == 0));
    }
});

check!(operations_in_flight_may_be_awaited_in_any_order, 1, |env, directory| {
    let file = create(&env, &directory.join("a")).await;
    file.allocate(64 * BLOCK as u64).await.expect("reserved");
    put(&file, 32, 32, 5).await;
    let mut writes = Vec::new();
    let mut reads = Vec::new();
    for block in 0..32_u64 {
        // Sizes differ, so that they do not complete as they were begun.
        let durability = if block % 5 == 0 { Durability::Durable } else { Durability::Volatile };
        let blocks = if block == 0 { 16 } else { 1 };
        let mut write = Box::pin(file.write_at(
            patterned(blocks * BLOCK, block + 100),
            (block + if block == 0 { 0 } else { 15 }) % 32 * BLOCK as u64,
            durability,
        ));
        let mut read =
            Box::pin(file.read_at(Buffer::with_capacity(BLOCK), (32 + block) * BLOCK as u64));
        assert!(crate::common::poll_once(&mut write).await.is_none(), "a disk takes its time");
        match crate::common::poll_once(&mut read).await {
            Some((result, buffer)) => {
                assert_eq!((result.expect("read"), pattern_of(&buffer)), (BLOCK, Some(5)));
            }
            None => reads.push(read),
        }
        writes.push(write);
    }
    for write in writes.into_iter().rev() {
        write.await.0.expect("written");
    }
    for read in reads.into_iter().rev() {
        let (result, buffer) = read.await;
        assert_eq!((result.expect("read"), pattern_of(&buffer)), (BLOCK, Some(5)));
    }
    let numbers = patterns_of(&get(&file, 0, 32).await);
    for (at, number) in numbers.iter().enumerate().skip(17) {
        assert_eq!(*number, Some(100 + at as u64 - 15));
    }
});

check!(overlapping_writes_in_flight_leave_whole_blocks, 1, |env, directory| {
    let file = create(&env, &directory.join("a")).await;
    put(&file, 0, 16, 9).await;
    for round in 0..10_u64 {
        let writes: Vec<_> = (0..4_u64)
            .map(|writer| {
                let file = file.clone();
                env.spawn("write", async move {
                    let buffer = patterned(8 * BLOCK, round * 10 + writer);
                    let offset = writer * 2 * BLOCK as u64;
                    file.write_at(buffer, offset, Durability::Volatile).await.0.expect("written");
                })
            })
            .collect();
        for write in writes {
            write.await;
        }
        // Not ordered, so each block is of any write that covers it; and of that one alone.
        for (block, number) in patterns_of(&get(&file, 0, 14).await).into_iter().enumerate() {
            let number = number.expect("a block is of one write");
            let writers =
                (0..4_u64).filter(|writer| (writer * 2..writer * 2 + 8).contains(&(block as u64)));
            let mut candidates = writers.map(|writer| round * 10 + writer);
            assert!(candidates.any(|candidate| candidate == number), "{number} in {block}");
        }
    }
});

check!(reads_and_writes_of_different_blocks_do_not_meet, 1, |env, directory| {
    let file = create(&env, &directory.join("a")).await;
    put(&file, 0, 64, 1).await;
    let tasks: Vec<_> = (0..64_u64)
        .map(|block| {
            let (file, random) = (file.clone(), env.random("blocks"));
            env.spawn("both", async move {
                let mut random = random;
                let mut expected = 1;
                for number in 0..12 {
                    if random.below(2) == 0 {
                        expected = number << 8 | block;
                        put(&file, block, 1, expected).await;
                    } else {
                        assert_eq!(pattern_of(&get(&file, block, 1).await), Some(expected));
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await;
    }
    assert_eq!(file.length().await.expect("a length"), 64 * BLOCK as u64);
});

check!(flushes_and_writes_in_flight_together_all_complete, 1, |env, directory| {
    let file = create(&env, &directory.join("a")).await;
    file.sync_data().await.expect("an empty file can be flushed");
    let reader = env.disk().open(&directory.join("a"), OpenMode::Read).await.expect("opened");
    let tasks: Vec<_> = (0..32_u64)
        .map(|block| {
            let (file, reader) = (file.clone(), reader.clone());
            env.spawn("both", async move {
                put(&file, block, 1, block).await;
                file.sync_data().await.expect("flushed");
                if block % 4 == 0 {
                    reader.sync_data().await.expect("flushed through a handle that only reads");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await;
    }
    let expected: Vec<_> = (0..32).map(Some).collect();
    assert_eq!(patterns_of(&get(&reader, 0, 32).await), expected);
});
