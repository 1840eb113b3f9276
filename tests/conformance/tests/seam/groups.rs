//! Groups of tasks and files: whatever is held back for another group is done all the same.

use std::cell::RefCell;
use std::rc::Rc;

use futures_util::future::join_all;
use woodchuck_io::{Durability, File, Group};

use crate::common::{BLOCK, FEW_SEEDS, create, get, pattern_of, patterned, poll_once, put};

/// Blocks of a transfer that counts.
const BLOCKS: usize = 64;
const BYTES: u64 = (BLOCKS * BLOCK) as u64;

/// Transfers of that many blocks that are more than any group may have in flight at a time.
const MANY: u64 = 64;

check!(a_group_gets_all_it_asks_for_at_once, 1, FEW_SEEDS, |env, directory| {
    for group in Group::ALL {
        let env = env.in_group(group);
        let file = create(&env, &directory.join(format!("{group:?}"))).await;
        let write = |place: u64| {
            file.write_at(patterned(BYTES as usize, place), place * BYTES, Durability::Volatile)
        };
        for (result, _) in join_all((0..MANY).map(write)).await {
            result.expect("written");
        }
        file.sync_data().await.expect("flushed");
        let reads = (0..MANY).map(|place| get(&file, place * BLOCKS as u64, BLOCKS));
        for (place, content) in (0..MANY).zip(join_all(reads).await) {
            assert_eq!(pattern_of(&content), Some(place), "{group:?}");
        }
    }
});

check!(operations_are_dropped_while_their_group_has_enough, 1, FEW_SEEDS, |env, directory| {
    let env = env.in_group(Group::Compaction);
    let file = create(&env, &directory.join("a")).await;
    put(&file, 0, BLOCKS * MANY as usize, 1).await;
    let mut writes = Vec::new();
    for place in 0..MANY {
        let buffer = patterned(BYTES as usize, 2);
        let write = file.write_at(buffer, place * BYTES, Durability::Volatile);
        let mut write = Box::pin(write);
        poll_once(&mut write).await;
        writes.push(Some(write));
    }
    // Two of three, among them ones in flight and ones that wait.
    for place in (0..MANY).filter(|place| place % 3 > 0) {
        drop(writes[place as usize].take());
    }
    for (result, _) in join_all(writes.into_iter().flatten()).await {
        result.expect("written");
    }
    for place in 0..MANY {
        let content = get(&file, place * BLOCKS as u64, BLOCKS).await;
        let expected: &[u64] = if place % 3 > 0 { &[1, 2] } else { &[2] };
        for block in content.chunks(BLOCK) {
            let number = pattern_of(block).expect("a whole block");
            assert!(expected.contains(&number), "{number} in place {place}");
        }
    }
});

check!(the_foreground_writes_while_others_read, 1, FEW_SEEDS, |env, directory| {
    let table = create(&env.in_group(Group::Compaction), &directory.join("table")).await;
    put(&table, 0, BLOCKS * MANY as usize, 1).await;
    let log = create(&env, &directory.join("log")).await;
    let reading = env.in_group(Group::Compaction).spawn("compaction", async move {
        let reads = (0..2 * MANY).map(|place| get(&table, place % MANY * BLOCKS as u64, BLOCKS));
        join_all(reads).await.iter().all(|content| pattern_of(content) == Some(1))
    });
    for block in 0..50 {
        let write =
            log.write_at(patterned(BLOCK, block), block * BLOCK as u64, Durability::Durable);
        write.await.0.expect("written");
    }
    assert!(reading.await);
    for block in 0..50 {
        assert_eq!(pattern_of(&get(&log, block, 1).await), Some(block));
    }
});

check!(tasks_of_every_group_go_on, 1, |env, directory| {
    const STEPS: usize = 300;
    let steps = Rc::new(RefCell::new([0_usize; Group::ALL.len()]));
    let mut tasks = Vec::new();
    for group in Group::ALL {
        for _ in 0..3 {
            let (env, steps) = (env.in_group(group), Rc::clone(&steps));
            let counting = env.clone();
            // Each goes on until all groups have come far enough.
            tasks.push(env.spawn("counting", async move {
                while steps.borrow().iter().any(|&steps| steps < STEPS) {
                    steps.borrow_mut()[group.index()] += 1;
                    counting.yield_now().await;
                }
            }));
        }
    }
    join_all(tasks).await;
    assert!(steps.borrow().iter().all(|&steps| steps >= STEPS));
});

check!(a_group_is_left_again, 1, |env, directory| {
    let back = env.in_group(Group::Compaction).in_group(Group::Foreground);
    let file = create(&back, &directory.join("a")).await;
    put(&file, 0, 1, 7).await;
    let task = back.spawn("task", async move { pattern_of(&get(&file, 0, 1).await) });
    assert_eq!(task.await, Some(7));
});
