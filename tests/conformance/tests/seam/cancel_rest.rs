//! Sleeps and parcels that are dropped at every stage.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use woodchuck_io::Mesh;
use woodchuck_io::limits::MAILBOX_PARCELS;

use crate::common::{A_WHILE, Stage, drop_at, poll_once};

check!(a_dropped_sleep_wakes_nobody, 1, |env, directory| {
    for stage in Stage::ALL {
        for duration in [Duration::ZERO, Duration::from_millis(1), Duration::from_secs(3600)] {
            drop_at(&env, stage, env.sleep(duration)).await;
        }
    }
    // One that is due and was never polled again; on a busy machine it may be over at once.
    let mut sleep = Box::pin(env.sleep(Duration::from_millis(1)));
    poll_once(&mut sleep).await;
    env.sleep(A_WHILE).await;
    drop(sleep);
    env.sleep(Duration::from_millis(1)).await;
});

check!(a_sleep_that_is_due_completes_when_it_is_polled, 1, |env, directory| {
    let start = env.now();
    let mut sleeps: Vec<_> =
        (1..5).map(|millis| Box::pin(env.sleep(Duration::from_millis(millis)))).collect();
    for sleep in &mut sleeps {
        poll_once(sleep).await;
    }
    env.sleep(A_WHILE).await;
    for sleep in sleeps {
        sleep.await;
    }
    assert!(env.now() - start >= A_WHILE);
});

check!(a_send_that_was_never_begun_sends_nothing, 1, |env, directory| {
    let mesh = env.mesh();
    let parcel = Arc::new(());
    drop(mesh.send(0, Box::new(Arc::clone(&parcel))));
    assert_eq!(Arc::strong_count(&parcel), 1, "its parcel is dropped");
    assert!(poll_once(mesh.receive()).await.is_none());
    mesh.send(0, Box::new(7_u32)).await;
    let (_, received) = mesh.receive().await;
    assert_eq!(*received.downcast::<u32>().expect("what was sent"), 7);
});

check!(a_send_that_waits_and_is_dropped_drops_its_parcel, 1, |env, directory| {
    let mesh = env.mesh();
    for number in 0..MAILBOX_PARCELS {
        mesh.send(0, Box::new(number)).await;
    }
    let parcel = Arc::new(());
    for stage in [Stage::Polled, Stage::Due] {
        let sent = drop_at(&env, stage, mesh.send(0, Box::new(Arc::clone(&parcel)))).await;
        assert!(sent.is_none(), "the box is full");
        assert_eq!(Arc::strong_count(&parcel), 1);
    }
    for number in 0..MAILBOX_PARCELS {
        let (_, received) = mesh.receive().await;
        assert_eq!(*received.downcast::<usize>().expect("what was sent"), number);
    }
    assert!(poll_once(mesh.receive()).await.is_none());
});

check!(a_send_dropped_after_there_was_room_has_happened_or_not, 1, |env, directory| {
    let mesh = env.mesh();
    for number in 0..MAILBOX_PARCELS {
        mesh.send(0, Box::new(number)).await;
    }
    let mut waits = Box::pin(mesh.send(0, Box::new(usize::MAX)));
    assert!(poll_once(&mut waits).await.is_none());
    mesh.receive().await;
    env.sleep(A_WHILE).await;
    drop(waits);
    mesh.receive().await;
    mesh.send(0, Box::new(MAILBOX_PARCELS)).await;
    let mut received = Vec::new();
    while received.last() != Some(&MAILBOX_PARCELS) {
        let (_, parcel) = mesh.receive().await;
        received.push(*parcel.downcast::<usize>().expect("what was sent"));
    }
    let expected: Vec<usize> = (2..=MAILBOX_PARCELS).collect();
    let without: Vec<usize> = received.iter().copied().filter(|&it| it != usize::MAX).collect();
    assert_eq!(without, expected);
    assert!(received.len() <= expected.len() + 1, "it was sent twice");
});

check!(a_dropped_receive_leaves_its_parcel_to_the_next, 1, |env, directory| {
    let mesh = env.mesh();
    for round in 0..30_usize {
        let stage = Stage::ALL[round % 3];
        let early = round % 2 == 0;
        if early {
            mesh.send(0, Box::new(round)).await;
        }
        let mut received = drop_at(&env, stage, mesh.receive()).await;
        if !early {
            assert!(received.is_none(), "nothing was sent");
            mesh.send(0, Box::new(round)).await;
        }
        if received.is_none() {
            received = Some(mesh.receive().await);
        }
        let (from, parcel) = received.expect("one or the other");
        assert_eq!((from, *parcel.downcast::<usize>().expect("what was sent")), (0, round));
    }
});

check!(a_receive_dropped_as_a_parcel_comes_loses_none, 1, |env, directory| {
    let mesh = env.mesh();
    for round in 0..20_usize {
        let mut receive = Box::pin(mesh.receive());
        assert!(poll_once(&mut receive).await.is_none());
        mesh.send(0, Box::new(round)).await;
        env.sleep(Duration::from_millis(1)).await;
        drop(receive);
        let (_, parcel) = mesh.receive().await;
        assert_eq!(*parcel.downcast::<usize>().expect("what was sent"), round);
    }
});

check!(a_task_dropped_at_any_stage_frees_what_it_holds, 1, |env, directory| {
    let held = Rc::new(());
    for yields in 0..4 {
        let (holding, inner) = (Rc::clone(&held), env.clone());
        let task = env.spawn("hold", async move {
            let _holding = holding;
            inner.yield_now().await;
            inner.sleep(Duration::from_secs(3600)).await;
        });
        for _ in 0..yields {
            env.yield_now().await;
        }
        assert!(!task.is_finished());
        drop(task);
        env.yield_now().await;
        env.yield_now().await;
        assert_eq!(Rc::strong_count(&held), 1, "dropped after {yields} turns");
    }
});
