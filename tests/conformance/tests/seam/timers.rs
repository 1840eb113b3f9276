//! Clocks and timers.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::Monotonic;

use crate::common::{A_WHILE, poll_once};

check!(monotonic_time_never_goes_back, 1, |env, directory| {
    let start = env.now();
    let mut latest = start;
    for round in 0..2000 {
        let now = env.now();
        assert!(now >= latest);
        latest = now;
        if round % 10 == 0 {
            env.yield_now().await;
        }
        if round % 500 == 0 {
            env.sleep(Duration::from_millis(1)).await;
        }
    }
    assert!(latest - start >= Duration::from_millis(4), "four sleeps of a millisecond");
});

check!(wall_time_is_of_this_century, 1, |env, directory| {
    // The wall clock may jump; it is somewhere sensible all the same.
    let (earliest, latest) = (1_700_000_000_000, 4_102_444_800_000);
    for _ in 0..10 {
        let wall = env.wall().as_millis();
        assert!((earliest..latest).contains(&wall), "{wall} ms since 1970");
        env.sleep(Duration::from_millis(1)).await;
    }
});

check!(all_clocks_of_a_shard_are_one, 1, |env, directory| {
    let clone = env.clone();
    let first = env.now();
    let second = clone.now();
    let third = env.now();
    assert!(first <= second && second <= third);
    let inner = env.clone();
    let inside = env.spawn("now", async move { inner.now() }).await;
    assert!(inside >= third && inside <= env.now());
});

check!(deadlines_that_have_passed_complete, 1, |env, directory| {
    env.sleep(A_WHILE / 10).await;
    let now = env.now();
    let past = Monotonic::from_nanos(now.as_nanos() - 500_000);
    for deadline in [now, past, Monotonic::from_nanos(0)] {
        env.sleep_until(deadline).await;
    }
    env.sleep(Duration::ZERO).await;
    // Nor do they keep others from running.
    let ran = Rc::new(Cell::new(false));
    let told = Rc::clone(&ran);
    env.spawn("other", async move { told.set(true) }).detach();
    for _ in 0..100 {
        env.sleep(Duration::ZERO).await;
        env.yield_now().await;
    }
    assert!(ran.get());
});

check!(thousands_of_timers_fire_and_none_early, 1, |env, directory| {
    let fired = Rc::new(Cell::new(0));
    let mut random = env.random("durations");
    let tasks: Vec<_> = (0..2000)
        .map(|_| {
            let duration = Duration::from_micros(random.below(20_000));
            let (inner, fired) = (env.clone(), Rc::clone(&fired));
            env.spawn("sleep", async move {
                let start = inner.now();
                inner.sleep(duration).await;
                assert!(inner.now() - start >= duration, "early");
                fired.set(fired.get() + 1);
            })
        })
        .collect();
    for task in tasks {
        task.await;
    }
    assert_eq!(fired.get(), 2000);
});

check!(dropped_timers_are_forgotten, 1, |env, directory| {
    let mut sleeps = Vec::new();
    for index in 0..3000_u64 {
        let mut sleep = Box::pin(env.sleep(Duration::from_millis(1 + index % 7)));
        // A machine that is busy may be late for the shortest.
        if poll_once(&mut sleep).await.is_none() {
            sleeps.push(sleep);
        }
    }
    // Every third stays.
    let mut index = 0;
    sleeps.retain(|_| {
        index += 1;
        index % 3 == 0
    });
    for sleep in sleeps {
        sleep.await;
    }
    env.sleep(Duration::from_millis(1)).await;
});

check!(a_deadline_at_the_end_of_time_never_comes, 1, |env, directory| {
    let mut never = Box::pin(env.sleep(Duration::MAX));
    let mut last = Box::pin(env.sleep_until(Monotonic::from_nanos(u64::MAX)));
    let mut far = Box::pin(env.sleep(Duration::from_secs(3600 * 24 * 365 * 100)));
    for _ in 0..5 {
        assert!(poll_once(&mut never).await.is_none());
        assert!(poll_once(&mut last).await.is_none());
        assert!(poll_once(&mut far).await.is_none());
        env.sleep(Duration::from_millis(1)).await;
    }
});

check!(an_earlier_timer_does_not_wait_for_a_later_one, 1, |env, directory| {
    let order = Rc::new(RefCell::new(Vec::new()));
    // The later one is set first.
    let sleeper = |name: &'static str, duration: Duration| {
        let (inner, order) = (env.clone(), Rc::clone(&order));
        env.spawn("sleep", async move {
            inner.sleep(duration).await;
            order.borrow_mut().push(name);
        })
    };
    let late = sleeper("late", Duration::from_millis(60));
    env.yield_now().await;
    let early = sleeper("early", Duration::from_millis(5));
    early.await;
    late.await;
    assert_eq!(*order.borrow(), ["early", "late"]);
});

check!(a_timer_is_told_of_its_newest_waker, 1, |env, directory| {
    // Polled by one task, then awaited by another.
    let mut sleep = Box::pin(env.sleep(Duration::from_millis(100)));
    assert!(poll_once(&mut sleep).await.is_none());
    let inner = env.clone();
    let task = env.spawn("await", async move {
        sleep.await;
        inner.now()
    });
    assert!(task.await <= env.now());
});

check!(operations_are_told_of_their_newest_waker, 1, |env, directory| {
    // The same for a file, a connection and a mailbox.
    use crate::common::{create, pair, patterned, put, read_exactly, send};
    use bytes::BytesMut;
    use woodchuck_io::{Buffer, File, Mesh, Stream};
    let file = create(&env, &directory.join("a")).await;
    put(&file, 0, 4, 5).await;
    let mut read = Box::pin(file.read_at(Buffer::with_capacity(4096), 0));
    let mut write =
        Box::pin(file.write_at(patterned(4096, 1), 8192, woodchuck_io::Durability::Durable));
    assert!(poll_once(&mut read).await.is_none(), "a disk takes its time");
    assert!(poll_once(&mut write).await.is_none(), "a disk takes its time");
    env.spawn("read", async move { read.await.0.expect("read") }).await;
    env.spawn("write", async move { write.await.0.expect("written") }).await;
    let (client, server) = pair(&env).await;
    let mut read = Box::pin(server.read(BytesMut::with_capacity(10)));
    assert!(poll_once(&mut read).await.is_none());
    let reader = env.spawn("read", async move { read.await.1 });
    env.yield_now().await;
    send(&client, "hello").await;
    assert_eq!(&reader.await[..], b"hello");
    send(&server, "back").await;
    assert_eq!(read_exactly(&client, 4).await, b"back");
    let mut receive = Box::pin(env.mesh().receive());
    assert!(poll_once(&mut receive).await.is_none());
    let receiver = env.spawn("receive", receive);
    env.yield_now().await;
    env.mesh().send(0, Box::new(3)).await;
    assert_eq!(receiver.await.0, 0);
});
