//! Mail between shards: once each, in order, and with back-pressure.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use woodchuck_io::limits::MAILBOX_PARCELS;
use woodchuck_io::{Mesh, Parcel};

use crate::common::{A_WHILE, FEW_SEEDS, poll_once};

check!(shards_are_numbered_from_zero, 4, |env, directory| {
    let mesh = env.mesh();
    assert_eq!(mesh.shards(), 4);
    for shard in 0..mesh.shards() {
        mesh.send(shard, Box::new(mesh.shard())).await;
    }
    let mut seen = [false; 4];
    for _ in 0..mesh.shards() {
        let (from, parcel) = mesh.receive().await;
        assert_eq!(*parcel.downcast::<usize>().expect("what was sent"), from);
        assert!(!std::mem::replace(&mut seen[from], true), "two shards are number {from}");
    }
    assert_eq!(seen, [true; 4]);
});

check!(a_shard_may_send_to_itself, 1, |env, directory| {
    let mesh = env.mesh();
    assert_eq!((mesh.shard(), mesh.shards()), (0, 1));
    for number in 0..200_u32 {
        mesh.send(0, Box::new(number)).await;
    }
    for number in 0..200_u32 {
        let (from, parcel) = mesh.receive().await;
        assert_eq!((from, *parcel.downcast::<u32>().expect("what was sent")), (0, number));
    }
});

check!(a_full_mailbox_holds_its_sender_until_there_is_room, 2, FEW_SEEDS, |env, directory| {
    const PARCELS: usize = MAILBOX_PARCELS + 100;
    let mesh = env.mesh();
    if mesh.shard() == 0 {
        let sent = Rc::new(Cell::new(0));
        let (told, sending) = (Rc::clone(&sent), mesh.clone());
        let sender = env.spawn("send", async move {
            for number in 0..PARCELS {
                sending.send(1, Box::new(number)).await;
                told.set(number + 1);
            }
        });
        env.sleep(A_WHILE * 3).await;
        assert!(sent.get() <= MAILBOX_PARCELS, "{} in a box of {MAILBOX_PARCELS}", sent.get());
        assert!(!sender.is_finished());
        sender.await;
        assert_eq!(sent.get(), PARCELS);
    } else {
        // Long after the other has looked.
        env.sleep(A_WHILE * 30).await;
        for number in 0..PARCELS {
            let (from, parcel) = mesh.receive().await;
            assert_eq!((from, *parcel.downcast::<usize>().expect("what was sent")), (0, number));
        }
    }
});

check!(one_full_mailbox_holds_up_no_other, 2, FEW_SEEDS, |env, directory| {
    let mesh = env.mesh();
    if mesh.shard() == 0 {
        // Its own box is full, and a parcel waits in front of it.
        for number in 0..MAILBOX_PARCELS {
            mesh.send(0, Box::new(number)).await;
        }
        let mut waits = Box::pin(mesh.send(0, Box::new(MAILBOX_PARCELS)));
        assert!(poll_once(&mut waits).await.is_none());
        for number in 0..100_usize {
            mesh.send(1, Box::new(number)).await;
        }
        assert!(poll_once(&mut waits).await.is_none(), "nobody has made room");
        let number = |parcel: Parcel| *parcel.downcast::<usize>().expect("what was sent");
        for expected in 0..=MAILBOX_PARCELS {
            let (from, parcel) = mesh.receive().await;
            assert_eq!((from, number(parcel)), (0, expected));
        }
        waits.await;
        mesh.send(1, Box::new(100_usize)).await;
    } else {
        for number in 0..=100_usize {
            let (from, parcel) = mesh.receive().await;
            assert_eq!((from, *parcel.downcast::<usize>().expect("what was sent")), (0, number));
        }
    }
});

check!(a_receiver_in_waiting_is_woken, 2, |env, directory| {
    let mesh = env.mesh();
    let other = 1 - mesh.shard();
    for round in 0..50_u32 {
        if (round as usize + mesh.shard()).is_multiple_of(2) {
            if round % 5 == 0 {
                env.sleep(A_WHILE / 10).await;
            }
            mesh.send(other, Box::new(round)).await;
        } else {
            let (_, parcel) = mesh.receive().await;
            assert_eq!(*parcel.downcast::<u32>().expect("what was sent"), round);
        }
    }
});

check!(parcels_are_values_and_are_dropped_once, 2, |env, directory| {
    let mesh = env.mesh();
    let other = 1 - mesh.shard();
    let mine = Arc::new(mesh.shard());
    for _ in 0..10 {
        mesh.send(other, Box::new(Arc::clone(&mine))).await;
    }
    let mut theirs = Vec::new();
    for _ in 0..10 {
        let (_, parcel) = mesh.receive().await;
        theirs.push(parcel.downcast::<Arc<usize>>().expect("what was sent"));
    }
    assert!(theirs.iter().all(|theirs| ***theirs == other));
    drop(theirs);
    mesh.send(other, Box::new("done")).await;
    mesh.receive().await;
    assert_eq!(Arc::strong_count(&mine), 1, "each was dropped by who received it");
});

check!(large_things_travel_as_themselves, 2, |env, directory| {
    let mesh = env.mesh();
    let other = 1 - mesh.shard();
    let bytes = bytes::Bytes::from(vec![mesh.shard() as u8; 1 << 20]);
    let address = bytes.as_ptr() as usize;
    mesh.send(other, Box::new((bytes, address))).await;
    let (_, parcel) = mesh.receive().await;
    let (bytes, address) = *parcel.downcast::<(bytes::Bytes, usize)>().expect("what was sent");
    assert_eq!(bytes.as_ptr() as usize, address, "it was not copied");
    assert!(bytes.iter().all(|&byte| usize::from(byte) == other));
});
