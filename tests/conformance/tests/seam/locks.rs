//! Locks: one holder, for as long as it lives.

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::{Disk, Mesh, OpenMode};

use crate::common::{A_WHILE, create, get, pattern_of, poll_once, put, skipped};

check!(a_lock_is_held_once, 1, |env, directory| {
    let path = directory.join("lock");
    let held = env.disk().lock(&path).await.expect("free");
    let error = env.disk().lock(&path).await.err().expect("held");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    drop(held);
    env.disk().lock(&path).await.expect("free again");
});

kernel_check!(a_lock_is_seen_by_other_processes, 1, |env, directory| {
    let path = directory.join("lock");
    let held = env.disk().lock(&path).await.expect("free");
    // `flock` of util-linux exits with 7 if told so.
    let try_lock = || {
        let mut command = std::process::Command::new("flock");
        command.args(["-n", "-E", "7"]).arg(&path).arg("true").status()
    };
    match try_lock() {
        Ok(status) => assert_eq!(status.code(), Some(7)),
        Err(error) => {
            skipped(format_args!("a lock seen by another process: no flock command: {error}"));
            return;
        }
    }
    drop(held);
    assert_eq!(try_lock().expect("it was there").code(), Some(0));
});

check!(locks_on_different_files_do_not_meet, 1, |env, directory| {
    let one = env.disk().lock(&directory.join("one")).await.expect("free");
    let two = env.disk().lock(&directory.join("two")).await.expect("free");
    drop(one);
    let one = env.disk().lock(&directory.join("one")).await.expect("free again");
    let error = env.disk().lock(&directory.join("two")).await.err().expect("still held");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    drop((one, two));
});

check!(a_lock_makes_its_file_and_keeps_one_that_is_there, 1, |env, directory| {
    let lock = env.disk().lock(&directory.join("made")).await.expect("free");
    let file = env.disk().open(&directory.join("made"), OpenMode::Read).await.expect("made");
    assert!(get(&file, 0, 1).await.is_empty());
    drop(lock);
    let names = env.disk().list(&directory).await.expect("listed");
    assert_eq!(names.len(), 1, "the file stays when the lock goes");
    let path = directory.join("a");
    put(&create(&env, &path).await, 0, 1, 7).await;
    let _lock = env.disk().lock(&path).await.expect("free");
    let file = env.disk().open(&path, OpenMode::Write).await.expect("a lock keeps nobody out");
    assert_eq!(pattern_of(&get(&file, 0, 1).await), Some(7));
    put(&file, 0, 1, 8).await;
    assert_eq!(pattern_of(&get(&file, 0, 1).await), Some(8));
});

check!(a_lock_ends_with_the_task_that_held_it, 1, |env, directory| {
    let path = directory.join("lock");
    for _ in 0..20 {
        let locking = env.disk().lock(&path);
        let held = Rc::new(Cell::new(false));
        let told = Rc::clone(&held);
        let holder = env.spawn("hold", async move {
            let _held = locking.await.expect("free");
            told.set(true);
            std::future::pending::<()>().await;
        });
        while !held.get() {
            env.sleep(Duration::from_micros(50)).await;
        }
        let error = env.disk().lock(&path).await.err().expect("held");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        drop(holder);
        env.yield_now().await;
        env.yield_now().await;
        drop(env.disk().lock(&path).await.expect("free again"));
    }
});

check!(of_many_shards_one_holds_the_lock, 3, |env, directory| {
    let path = directory.join("lock");
    let inside = directory.join("inside");
    let mut times = 0;
    while times < 10 {
        match env.disk().lock(&path).await {
            Ok(held) => {
                // Nobody else can have created it, and not have removed it.
                let file = env.disk().open(&inside, OpenMode::CreateNew).await;
                drop(file.expect("nobody else is inside"));
                env.sleep(Duration::from_micros(100)).await;
                env.disk().remove(&inside).await.expect("it is ours");
                times += 1;
                drop(held);
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        env.sleep(Duration::from_micros(50 + 37 * env.mesh().shard() as u64)).await;
    }
});

check!(a_dropped_attempt_holds_no_lock, 1, |env, directory| {
    let path = directory.join("lock");
    for _ in 0..20 {
        drop(poll_once(env.disk().lock(&path)).await);
        let mut begun = Box::pin(env.disk().lock(&path));
        let locked = poll_once(&mut begun).await;
        env.sleep(A_WHILE).await;
        // It may be held by now, by nobody who knows.
        drop(begun);
        drop(locked);
        env.sleep(A_WHILE).await;
        drop(env.disk().lock(&path).await.expect("free"));
    }
});
