//! Operations on files and names that are dropped at every stage: what they were about is old or
//! new, never something else, and may be used at once.

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;

use woodchuck_io::{Buffer, Disk, Durability, File, OpenMode};

use crate::common::{
    A_WHILE, BLOCK, Stage, create, drop_at, get, pattern_of, patterned, patterns_of, poll_once, put,
};

check!(a_dropped_write_leaves_each_block_old_or_new, 1, |env, directory| {
    const ROUNDS: u64 = 18;
    let file = create(&env, &directory.join("a")).await;
    put(&file, 0, 8 * ROUNDS as usize, 1).await;
    for (round, stage) in (0..ROUNDS).zip(Stage::ALL.into_iter().cycle()) {
        // A place of its own for each, because a dropped write may happen late.
        let durability = if round % 2 == 0 { Durability::Volatile } else { Durability::Durable };
        let write =
            file.write_at(patterned(8 * BLOCK, 2 + round), round * 8 * BLOCK as u64, durability);
        drop_at(&env, stage, write).await;
        let number = pattern_of(&patterned(8 * BLOCK, u64::MAX));
        assert_eq!(number, Some(u64::MAX), "the memory is another's");
        if stage == Stage::Unpolled {
            let blocks = get(&file, round * 8, 8).await;
            assert_eq!(pattern_of(&blocks), Some(1), "what was never begun was done");
        }
        // The rest of the file is as good as ever.
        put(&file, 8 * ROUNDS, 1, round).await;
        assert_eq!(pattern_of(&get(&file, 8 * ROUNDS, 1).await), Some(round));
    }
    env.sleep(A_WHILE).await;
    for round in 0..ROUNDS {
        for number in patterns_of(&get(&file, round * 8, 8).await) {
            assert!([Some(1), Some(2 + round)].contains(&number), "{number:?} in place {round}");
        }
    }
    assert_eq!(file.length().await.expect("a length"), (8 * ROUNDS + 1) * BLOCK as u64);
});

check!(a_write_dropped_after_it_completed_has_happened_or_not, 1, |env, directory| {
    let file = create(&env, &directory.join("a")).await;
    put(&file, 0, 1, 1).await;
    let mut write = Box::pin(file.write_at(patterned(BLOCK, 2), 0, Durability::Durable));
    poll_once(&mut write).await;
    // Others go through, so that it is complete when it is dropped, and was never polled again.
    for block in 1..20 {
        put(&file, block, 1, block).await;
        file.sync_data().await.expect("flushed");
    }
    drop(write);
    let number = pattern_of(&get(&file, 0, 1).await);
    assert!([Some(1), Some(2)].contains(&number), "{number:?}");
    env.sleep(A_WHILE).await;
    let later = pattern_of(&get(&file, 0, 1).await);
    assert!(later == Some(2) || later == number, "{later:?} after {number:?}");
});

check!(a_dropped_read_leaves_the_file_readable, 1, |env, directory| {
    let file = create(&env, &directory.join("a")).await;
    put(&file, 0, 16, 5).await;
    for stage in Stage::ALL {
        for _ in 0..10 {
            let read = file.read_at(Buffer::with_capacity(16 * BLOCK), 0);
            if let Some((result, buffer)) = drop_at(&env, stage, read).await {
                assert_eq!((result.expect("read"), pattern_of(&buffer)), (16 * BLOCK, Some(5)));
            }
            // Whoever has the memory now is alone with it.
            let mine = patterned(16 * BLOCK, 9);
            assert_eq!(pattern_of(&get(&file, 4, 8).await), Some(5));
            assert_eq!(pattern_of(&mine), Some(9));
        }
    }
});

check!(a_dropped_flush_harms_nobody, 1, |env, directory| {
    let file = create(&env, &directory.join("a")).await;
    for (number, stage) in (1_u64..).zip(Stage::ALL.into_iter().cycle().take(12)) {
        put(&file, 0, 4, number).await;
        if let Some(result) = drop_at(&env, stage, file.sync_data()).await {
            result.expect("flushed");
        }
        file.sync_data().await.expect("flushed");
        let flush = drop_at(&env, stage, env.disk().sync_directory(&directory)).await;
        assert!(flush.is_none_or(|result| result.is_ok()));
        assert_eq!(pattern_of(&get(&file, 0, 4).await), Some(number));
    }
});

check!(a_dropped_allocation_has_happened_or_not, 1, |env, directory| {
    for (number, stage) in Stage::ALL.into_iter().cycle().take(9).enumerate() {
        let file = create(&env, &directory.join(format!("{number}"))).await;
        put(&file, 0, 1, 1).await;
        drop_at(&env, stage, file.allocate(64 * BLOCK as u64)).await;
        env.sleep(A_WHILE).await;
        let length = file.length().await.expect("a length");
        assert!([1, 64].contains(&(length / BLOCK as u64)), "{length} bytes");
        assert!(stage != Stage::Unpolled || length == BLOCK as u64);
        file.allocate(32 * BLOCK as u64).await.expect("reserved");
        let all = get(&file, 0, 32).await;
        assert_eq!((pattern_of(&all[..BLOCK]), pattern_of(&all[BLOCK..])), (Some(1), Some(0)));
    }
});

check!(a_dropped_truncation_has_happened_or_not, 1, |env, directory| {
    let file = create(&env, &directory.join("a")).await;
    for stage in Stage::ALL.into_iter().cycle().take(9) {
        put(&file, 0, 4, 3).await;
        drop_at(&env, stage, file.truncate(BLOCK as u64)).await;
        env.sleep(A_WHILE).await;
        let length = file.length().await.expect("a length");
        assert!([1, 4].contains(&(length / BLOCK as u64)), "{length} bytes");
        let all = get(&file, 0, 8).await;
        assert_eq!((all.len() as u64, pattern_of(&all)), (length, Some(3)));
    }
});

check!(a_dropped_question_for_the_length_harms_nobody, 1, |env, directory| {
    let file = create(&env, &directory.join("a")).await;
    put(&file, 0, 3, 1).await;
    for stage in Stage::ALL {
        let length = drop_at(&env, stage, file.length()).await;
        assert!(length.is_none_or(|length| length.expect("a length") == 3 * BLOCK as u64));
        assert_eq!(file.length().await.expect("a length"), 3 * BLOCK as u64);
    }
});

check!(a_dropped_rename_leaves_one_name, 1, |env, directory| {
    let (a, b) = (directory.join("a"), directory.join("b"));
    put(&create(&env, &a).await, 0, 1, 7).await;
    for stage in Stage::ALL.into_iter().cycle().take(12) {
        drop_at(&env, stage, env.disk().rename(&a, &b)).await;
        env.sleep(A_WHILE).await;
        let names = env.disk().list(&directory).await.expect("listed");
        let [entry] = &names[..] else { panic!("one file has the names {names:?}") };
        let path = directory.join(&entry.name);
        let file = env.disk().open(&path, OpenMode::Read).await.expect("opened");
        assert_eq!(pattern_of(&get(&file, 0, 1).await), Some(7));
        env.disk().rename(&path, &a).await.expect("renamed back");
    }
});

check!(a_dropped_creation_or_removal_has_happened_or_not, 1, |env, directory| {
    let path = directory.join("a");
    for stage in Stage::ALL.into_iter().cycle().take(12) {
        drop_at(&env, stage, env.disk().open(&path, OpenMode::CreateNew)).await;
        env.sleep(A_WHILE).await;
        let there = match env.disk().open(&path, OpenMode::CreateNew).await {
            Ok(_) => false,
            Err(error) => error.kind() == ErrorKind::AlreadyExists,
        };
        assert!(stage != Stage::Unpolled || !there);
        drop_at(&env, stage, env.disk().remove(&path)).await;
        env.sleep(A_WHILE).await;
        match env.disk().remove(&path).await {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound);
                assert_ne!(stage, Stage::Unpolled);
            }
        }
        drop_at(&env, stage, env.disk().create_directory(&directory.join("x/y"))).await;
        drop_at(&env, stage, env.disk().list(&directory)).await;
    }
    env.disk().create_directory(&directory.join("x/y")).await.expect("created");
});

check!(dropped_opens_keep_nothing_open, 1, |env, directory| {
    let path = directory.join("a");
    put(&create(&env, &path).await, 0, 1, 1).await;
    for round in 0..1000 {
        let mut opening = Box::pin(env.disk().open(&path, OpenMode::Read));
        drop(poll_once(&mut opening).await);
        if round % 100 == 0 {
            env.sleep(A_WHILE).await;
        }
    }
    let file = env.disk().open(&path, OpenMode::Read).await.expect("opened");
    assert_eq!(pattern_of(&get(&file, 0, 1).await), Some(1));
});

check!(a_cancelled_task_begins_no_more_operations, 1, |env, directory| {
    let file = create(&env, &directory.join("a")).await;
    put(&file, 0, 64, 1).await;
    let completed = Rc::new(Cell::new(0));
    for round in 2..12_u64 {
        let tasks: Vec<_> = (0..16_u64)
            .map(|place| {
                let (file, completed) = (file.clone(), Rc::clone(&completed));
                env.spawn("write", async move {
                    loop {
                        put(&file, place * 4, 4, round).await;
                        completed.set(completed.get() + 1);
                    }
                })
            })
            .collect();
        for _ in 0..round {
            env.yield_now().await;
        }
        drop(tasks);
        env.yield_now().await;
        let before = completed.get();
        // What was in flight is left alone meanwhile: a read may see parts of it.
        for _ in 0..3 {
            env.sleep(A_WHILE).await;
            let blocks = get(&file, 0, 64).await;
            let whole = |number: &Option<u64>| number.is_some_and(|number| number <= round);
            assert!(patterns_of(&blocks).iter().all(whole), "a torn block");
        }
        assert_eq!(completed.get(), before, "a cancelled task went on");
    }
});
