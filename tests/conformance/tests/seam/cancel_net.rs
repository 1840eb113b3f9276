//! Operations of the network that are dropped at every stage lose no byte and no connection.

use std::io::ErrorKind;

use bytes::{Bytes, BytesMut};
use woodchuck_io::{Listener, Net, Stream};

use crate::common::{
    A_WHILE, FEW_SEEDS, Stage, any, drop_at, pair, poll_once, read_exactly, read_to_end, send,
};

check!(a_dropped_read_leaves_its_bytes_to_the_next, 1, |env, directory| {
    let (client, server) = pair(&env).await;
    for round in 0..30_u8 {
        let stage = Stage::ALL[usize::from(round) % 3];
        let mut received = Vec::new();
        if round % 2 == 0 {
            client.write(vec![Bytes::from(vec![round; 100])]).await.expect("sent");
        }
        let read = server.read(BytesMut::with_capacity(60));
        if let Some((result, bytes)) = drop_at(&env, stage, read).await {
            result.expect("read");
            received.extend_from_slice(&bytes);
        }
        if round % 2 == 1 {
            client.write(vec![Bytes::from(vec![round; 100])]).await.expect("sent");
        }
        received.extend(read_exactly(&server, 100 - received.len()).await);
        assert_eq!(received, vec![round; 100]);
    }
    // The end is not lost either.
    let read = server.read(BytesMut::with_capacity(60));
    client.shutdown().await.expect("ended");
    drop_at(&env, Stage::Due, read).await;
    assert!(read_to_end(&server).await.is_empty());
});

check!(a_read_dropped_while_bytes_arrive_loses_none, 1, |env, directory| {
    let (client, server) = pair(&env).await;
    for round in 0..30_u8 {
        let mut read = Box::pin(server.read(BytesMut::with_capacity(1000)));
        assert!(poll_once(&mut read).await.is_none(), "nothing was sent");
        client.write(vec![Bytes::from(vec![round; 1000])]).await.expect("sent");
        // They are there, and the read was never polled again.
        env.sleep(A_WHILE).await;
        drop(read);
        assert_eq!(read_exactly(&server, 1000).await, vec![round; 1000]);
    }
});

check!(a_dropped_read_tells_the_next_of_a_reset, 1, |env, directory| {
    for stage in Stage::ALL {
        let listener = env.net().listen(any()).await.expect("listening");
        let client = env.net().connect(listener.local_address()).await.expect("connected");
        let read = client.read(BytesMut::with_capacity(10));
        // Resets what it has not accepted.
        drop(listener);
        if let Some((result, _)) = drop_at(&env, stage, read).await {
            assert!(result.map_or_else(|it| it.kind() == ErrorKind::ConnectionReset, |it| it == 0));
        }
        match client.read(BytesMut::with_capacity(10)).await {
            (Ok(count), _) => assert_eq!(count, 0),
            (Err(error), _) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
});

check!(a_dropped_accept_leaves_its_connection_to_the_next, 1, |env, directory| {
    let listener = env.net().listen(any()).await.expect("listening");
    for round in 0..30_u8 {
        let stage = Stage::ALL[usize::from(round) % 3];
        let early = round % 2 == 0;
        let mut client = None;
        if early {
            client = Some(env.net().connect(listener.local_address()).await.expect("connected"));
        }
        let mut accepted = drop_at(&env, stage, listener.accept()).await;
        if !early {
            client = Some(env.net().connect(listener.local_address()).await.expect("connected"));
        }
        if accepted.is_none() {
            accepted = Some(listener.accept().await);
        }
        let (server, _) = accepted.expect("one or the other").expect("accepted");
        let client = client.expect("one or the other");
        client.write(vec![Bytes::from(vec![round; 10])]).await.expect("sent");
        assert_eq!(read_exactly(&server, 10).await, vec![round; 10]);
    }
});

check!(an_accept_dropped_as_a_connection_comes_loses_none, 1, |env, directory| {
    let listener = env.net().listen(any()).await.expect("listening");
    for round in 0..20_u8 {
        let mut accept = Box::pin(listener.accept());
        assert!(poll_once(&mut accept).await.is_none(), "nobody has connected");
        let client = env.net().connect(listener.local_address()).await.expect("connected");
        env.sleep(A_WHILE).await;
        drop(accept);
        let (server, _) = listener.accept().await.expect("accepted");
        client.write(vec![Bytes::from(vec![round; 10])]).await.expect("sent");
        assert_eq!(read_exactly(&server, 10).await, vec![round; 10]);
    }
});

check!(a_dropped_connect_is_closed_for_its_peer, 1, |env, directory| {
    let listener = env.net().listen(any()).await.expect("listening");
    let local = listener.local_address();
    let accepting = env.spawn("accept", async move {
        let mut ended = 0;
        loop {
            let (stream, _) = listener.accept().await.expect("accepted");
            match stream.read(BytesMut::with_capacity(10)).await {
                (Ok(0), _) => ended += 1,
                (Ok(_), bytes) => return (ended, bytes),
                (Err(error), _) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                    ended += 1;
                }
            }
        }
    });
    let mut dropped = 0;
    for stage in Stage::ALL.into_iter().cycle().take(30) {
        drop(drop_at(&env, stage, env.net().connect(local)).await);
        dropped += u32::from(stage != Stage::Unpolled);
    }
    let stream = env.net().connect(local).await.expect("connected");
    send(&stream, "last").await;
    let (ended, bytes) = accepting.await;
    assert_eq!(&bytes[..], b"last");
    assert!(ended <= dropped, "{ended} of {dropped} that were begun");
});

check!(a_dropped_write_sends_a_prefix, 1, FEW_SEEDS, |env, directory| {
    const LENGTH: usize = 8 << 20;
    for stage in Stage::ALL.into_iter().cycle().take(6) {
        let (client, server) = pair(&env).await;
        let segments = (0..8_u8).map(|part| Bytes::from(vec![part; LENGTH / 8])).collect();
        let write = drop_at(&env, stage, client.write(segments)).await;
        assert!(write.is_none_or(|result| result.is_ok()));
        drop(client);
        let received = read_to_end(&server).await;
        assert!(stage != Stage::Unpolled || received.is_empty(), "it was never begun");
        let right = |(at, &byte): (usize, &u8)| usize::from(byte) == at / (LENGTH / 8);
        assert!(received.len() <= LENGTH && received.iter().enumerate().all(right));
    }
});

check!(a_small_write_that_is_dropped_is_sent_whole_or_not, 1, |env, directory| {
    for stage in Stage::ALL.into_iter().cycle().take(15) {
        let (client, server) = pair(&env).await;
        send(&client, "before").await;
        let write = client.write(vec![Bytes::from_static(b" and "), Bytes::from_static(b"after")]);
        let done = drop_at(&env, stage, write).await;
        drop(client);
        let received = read_to_end(&server).await;
        assert!(b"before and after".starts_with(&received[..]), "{received:?}");
        assert!(received.len() >= 6, "what was sent before arrives");
        assert!(done.is_none() || received.len() == 16, "what completed arrives");
        assert!(stage != Stage::Unpolled || received.len() == 6, "it was never begun");
    }
});

check!(the_other_direction_goes_on_when_a_write_is_dropped, 1, FEW_SEEDS, |env, directory| {
    let (client, server) = pair(&env).await;
    let mut write = Box::pin(client.write(vec![Bytes::from(vec![1; 16 << 20])]));
    assert!(poll_once(&mut write).await.is_none(), "16 MiB fit nowhere");
    drop(write);
    send(&server, "to the client").await;
    assert_eq!(read_exactly(&client, 13).await, b"to the client");
    drop(client);
    let received = read_to_end(&server).await;
    assert!(received.len() < 16 << 20 && received.iter().all(|&byte| byte == 1));
});

check!(a_dropped_shutdown_has_happened_or_not, 1, |env, directory| {
    for stage in Stage::ALL {
        let (client, server) = pair(&env).await;
        let done = drop_at(&env, stage, client.shutdown()).await;
        let sent = client.write(vec![Bytes::from_static(b"x")]).await;
        drop(client);
        let received = read_to_end(&server).await;
        assert_eq!(received.len(), usize::from(sent.is_ok()));
        assert!(done.is_none() || sent.is_err(), "it was shut down");
        assert!(stage != Stage::Unpolled || sent.is_ok(), "it was never begun");
    }
});

check!(a_cancelled_task_closes_what_it_held, 1, |env, directory| {
    for _ in 0..10 {
        let (client, server) = pair(&env).await;
        let serving = env.spawn("serve", async move {
            // For ever: nothing is sent.
            let read = server.read(BytesMut::with_capacity(10)).await;
            (server, read)
        });
        env.sleep(A_WHILE).await;
        drop(serving);
        assert!(read_to_end(&client).await.is_empty());
    }
});
