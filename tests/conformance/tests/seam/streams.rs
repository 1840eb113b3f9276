//! The bytes of a connection: all of them, in order, and then the end.

use std::cell::Cell;
use std::io::ErrorKind;
use std::pin::pin;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use woodchuck_io::Stream;
use woodchuck_io::limits::SEGMENTS_AT_ONCE;

use crate::common::{A_WHILE, FEW_SEEDS, pair, poll_once, read_exactly, read_to_end, send};

/// Bytes that say where they belong.
fn numbered(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    for word in 1..=length.div_ceil(8) as u64 {
        bytes.extend_from_slice(&word.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The error of a write to a peer that is gone.
fn is_broken(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

check!(both_ends_may_say_that_they_are_done, 1, |env, directory| {
    let (client, server) = pair(&env).await;
    server.shutdown().await.expect("ended");
    assert!(read_to_end(&client).await.is_empty());
    // The other direction goes on.
    send(&client, "after the end").await;
    assert_eq!(read_exactly(&server, 13).await, b"after the end");
    client.shutdown().await.expect("ended");
    for _ in 0..3 {
        assert!(read_to_end(&server).await.is_empty(), "the end stays the end");
        assert!(read_to_end(&client).await.is_empty(), "the end stays the end");
    }
    for stream in [&client, &server] {
        let error = stream.write(vec![Bytes::from_static(b"more")]).await.expect_err("ended");
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }
});

check!(an_end_may_be_said_twice, 1, |env, directory| {
    let (client, server) = pair(&env).await;
    send(&client, "all").await;
    client.shutdown().await.expect("ended");
    client.shutdown().await.expect("it has ended already");
    client.write(Vec::new()).await.expect("nothing to send");
    client.write(vec![Bytes::new(), Bytes::new()]).await.expect("nothing to send");
    assert_eq!(read_to_end(&server).await, b"all");
    send(&server, "back").await;
    assert_eq!(read_exactly(&client, 4).await, b"back");
});

check!(what_was_sent_arrives_though_its_sender_is_gone, 1, |env, directory| {
    let (client, server) = pair(&env).await;
    let sent = numbered(10_000);
    client.write(vec![sent.clone().into()]).await.expect("sent");
    drop(client);
    env.sleep(A_WHILE).await;
    assert!(read_to_end(&server).await == sent);
});

check!(a_waiting_read_learns_of_the_end, 1, |env, directory| {
    for close in [false, true] {
        let (client, server) = pair(&env).await;
        let reader = env.spawn("read", async move { read_to_end(&server).await });
        env.sleep(A_WHILE).await;
        assert!(!reader.is_finished());
        if close {
            drop(client);
        } else {
            client.shutdown().await.expect("ended");
        }
        assert!(reader.await.is_empty());
    }
});

check!(segments_of_one_byte_arrive_in_order, 1, |env, directory| {
    let (client, server) = pair(&env).await;
    let sent = numbered(5000);
    let segments = sent.iter().map(|&byte| Bytes::copy_from_slice(&[byte])).collect();
    let writer = env.spawn("write", async move {
        client.write(segments).await.expect("sent");
    });
    assert!(read_to_end(&server).await == sent);
    writer.await;
});

check!(writes_of_one_byte_arrive_in_order, 1, |env, directory| {
    let (client, server) = pair(&env).await;
    let sent = numbered(1000);
    let bytes = sent.clone();
    let writer = env.spawn("write", async move {
        for byte in bytes {
            client.write(vec![Bytes::copy_from_slice(&[byte])]).await.expect("sent");
        }
    });
    assert!(read_to_end(&server).await == sent);
    writer.await;
});

check!(reads_of_one_byte_lose_nothing, 1, |env, directory| {
    let (client, server) = pair(&env).await;
    let sent = numbered(1500);
    client.write(vec![sent.clone().into()]).await.expect("sent");
    drop(client);
    let mut received = Vec::new();
    loop {
        let mut buffer = BytesMut::with_capacity(1);
        // Whatever more the allocator gave is in use.
        buffer.extend_from_slice(&vec![0; buffer.capacity() - 1]);
        let before = buffer.len();
        let (result, buffer) = server.read(buffer).await;
        if result.expect("read") == 0 {
            break;
        }
        assert_eq!(buffer.len(), before + 1);
        received.push(buffer[before]);
    }
    assert!(received == sent);
});

check!(empty_segments_are_nothing, 1, |env, directory| {
    let (client, server) = pair(&env).await;
    let mut segments = vec![Bytes::new(); 3000];
    for (at, byte) in [(0, b"a"), (1023, b"b"), (1024, b"c"), (2999, b"d")] {
        segments[at] = Bytes::from_static(byte);
    }
    client.write(segments).await.expect("sent");
    client.write(vec![Bytes::new()]).await.expect("nothing to send");
    client.shutdown().await.expect("ended");
    assert_eq!(read_to_end(&server).await, b"abcd");
});

check!(any_number_of_segments_is_sent, 1, |env, directory| {
    for count in [1, 2, 1023, 1024, 1025, 2048, 2049, 4097] {
        let (client, server) = pair(&env).await;
        let sent = numbered(count * 3);
        let segments = sent.chunks(3).map(Bytes::copy_from_slice).collect();
        let writer = env.spawn("write", async move {
            client.write(segments).await.expect("sent");
        });
        assert!(read_to_end(&server).await == sent, "{count} segments");
        writer.await;
    }
});

check!(segments_are_sent_from_where_they_lie, 1, |env, directory| {
    // Views of one allocation, overlapping and out of order.
    let (client, server) = pair(&env).await;
    let whole = Bytes::from(numbered(100_000));
    let parts = [50_000..100_000, 0..50_000, 25_000..75_000, 0..1, 99_999..100_000];
    let segments: Vec<Bytes> = parts.into_iter().map(|part| whole.slice(part)).collect();
    let expected = segments.concat();
    let writer = env.spawn("write", async move {
        client.write(segments).await.expect("sent");
    });
    assert!(read_to_end(&server).await == expected);
    writer.await;
});

// What a socket takes at once, in the middle of a segment or at its end, and the rest.
check!(a_few_large_segments_arrive_whole, 1, FEW_SEEDS, |env, directory| {
    for (count, length) in
        [(2, 3 << 20), (SEGMENTS_AT_ONCE, 300_001), (SEGMENTS_AT_ONCE + 1, 300_001)]
    {
        let (client, server) = pair(&env).await;
        let sent = Bytes::from(numbered(count * length));
        let segments = (0..count).map(|at| sent.slice(at * length..(at + 1) * length)).collect();
        let writer = env.spawn("write", async move {
            client.write(segments).await.expect("sent");
        });
        assert!(read_to_end(&server).await == sent, "{count} segments");
        writer.await;
    }
});

// Its sends succeed at once, and would keep it running for ever.
kernel_check!(a_task_that_only_sends_lets_go_of_its_shard, 1, |env, directory| {
    let (client, server) = pair(&env).await;
    let first = poll_once(client.write(vec![Bytes::from_static(b"one")])).await;
    first.expect("nothing else is to be done").expect("sent");
    let mut second = pin!(client.write(vec![Bytes::from_static(b"two")]));
    assert!(poll_once(second.as_mut()).await.is_none(), "twice in one turn");
    second.await.expect("sent");
    assert_eq!(read_exactly(&server, 6).await, b"onetwo");
});

check!(both_directions_carry_megabytes_at_once, 1, FEW_SEEDS, |env, directory| {
    const LENGTH: usize = 6 << 20;
    let (client, server) = pair(&env).await;
    let mut tasks = Vec::new();
    for (one, other) in [(client.clone(), server.clone()), (server, client)] {
        tasks.push(env.spawn("write", async move {
            one.write(vec![numbered(LENGTH).into()]).await.expect("sent");
            one.shutdown().await.expect("ended");
        }));
        tasks.push(env.spawn("read", async move {
            assert!(read_to_end(&other).await == numbered(LENGTH));
        }));
    }
    for task in tasks {
        task.await;
    }
});

check!(a_writer_waits_for_its_reader, 1, FEW_SEEDS, |env, directory| {
    const PIECE: usize = 256 << 10;
    const PIECES: usize = 96;
    let (client, server) = pair(&env).await;
    let written = Rc::new(Cell::new(0));
    let told = Rc::clone(&written);
    let writer = env.spawn("write", async move {
        let all = Bytes::from(numbered(PIECE * PIECES));
        for piece in 0..PIECES {
            client.write(vec![all.slice(piece * PIECE..(piece + 1) * PIECE)]).await.expect("sent");
            told.set(piece + 1);
        }
    });
    // Nobody reads: what is held between the two is bounded, so the writer stands still.
    let mut before = usize::MAX;
    while before != written.get() {
        before = written.get();
        env.sleep(A_WHILE * 3).await;
    }
    assert!(before < PIECES, "24 MiB fit nowhere");
    // It goes on as the reader does.
    let received = read_to_end(&server).await;
    assert!(received == numbered(PIECE * PIECES));
    writer.await;
    assert_eq!(written.get(), PIECES);
});

check!(reading_a_part_makes_room_for_a_part, 1, FEW_SEEDS, |env, directory| {
    const LENGTH: usize = 24 << 20;
    let (client, server) = pair(&env).await;
    let mut write = Box::pin(client.write(vec![numbered(LENGTH).into()]));
    assert!(poll_once(&mut write).await.is_none());
    let expected = numbered(LENGTH);
    let mut received = 0;
    while received < LENGTH / 2 {
        poll_once(&mut write).await;
        let (result, bytes) = server.read(BytesMut::with_capacity(64 << 10)).await;
        assert!(result.expect("read") > 0);
        assert!(bytes[..] == expected[received..received + bytes.len()]);
        received += bytes.len();
    }
    // The writer goes away with half of it unsent or unread: a prefix arrives, and then an end.
    drop(write);
    drop(client);
    let rest = read_to_end(&server).await;
    assert!(received + rest.len() < LENGTH, "half of it was never written");
    assert!(rest[..] == expected[received..received + rest.len()]);
});

check!(writing_to_a_peer_that_is_gone_fails, 1, |env, directory| {
    let (client, server) = pair(&env).await;
    send(&client, "hello").await;
    assert_eq!(read_exactly(&server, 5).await, b"hello");
    drop(server);
    assert!(read_to_end(&client).await.is_empty());
    // The first writes may still be handed over, to nobody.
    let mut written = 0;
    let error = loop {
        match client.write(vec![Bytes::from_static(b"anybody?")]).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 10_000, "it seems to read for ever");
        env.sleep(std::time::Duration::from_micros(500)).await;
    };
    assert!(is_broken(error.kind()), "{error}");
});

check!(a_writer_in_waiting_learns_that_its_peer_is_gone, 1, FEW_SEEDS, |env, directory| {
    let (client, server) = pair(&env).await;
    let writer = env.spawn("write", async move {
        let segment = Bytes::from(vec![1; 1 << 20]);
        loop {
            if let Err(error) = client.write(vec![segment.clone()]).await {
                return error.kind();
            }
        }
    });
    env.sleep(A_WHILE * 3).await;
    assert!(!writer.is_finished());
    drop(server);
    let kind = writer.await;
    assert!(is_broken(kind), "{kind:?}");
});

check!(a_reset_is_an_error_and_never_an_end, 1, |env, directory| {
    for round in 0..20 {
        let (client, server) = pair(&env).await;
        let sent = numbered(100_000);
        let expected = sent.clone();
        let writer = env.spawn("write", async move {
            let result = server.write(vec![sent.into()]).await;
            // Gone with what the client sends unread, whether that has arrived or not.
            drop(server);
            result
        });
        client.write(vec![Bytes::from_static(b"never read")]).await.ok();
        if round % 2 == 0 {
            env.sleep(A_WHILE).await;
        }
        let mut received = Vec::new();
        loop {
            match client.read(BytesMut::with_capacity(1 << 16)).await {
                (Ok(0), _) => {
                    assert!(received == expected, "an end after {} bytes", received.len());
                    break;
                }
                (Ok(_), bytes) => received.extend_from_slice(&bytes),
                (Err(error), _) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                    break;
                }
            }
        }
        assert!(expected.starts_with(&received));
        assert!(writer.await.is_ok(), "100 kB are handed over, or read");
    }
});

check!(connections_do_not_mix, 1, |env, directory| {
    let mut tasks = Vec::new();
    for number in 0..20_u8 {
        let (client, server) = pair(&env).await;
        let sending = env.clone();
        tasks.push(env.spawn("write", async move {
            for _ in 0..50 {
                client.write(vec![Bytes::from(vec![number; 100])]).await.expect("sent");
                sending.yield_now().await;
            }
        }));
        tasks.push(env.spawn("read", async move {
            assert_eq!(read_to_end(&server).await, vec![number; 5000]);
        }));
    }
    for task in tasks {
        task.await;
    }
});

check!(a_read_fills_no_more_than_the_room_there_is, 1, |env, directory| {
    let (client, server) = pair(&env).await;
    client.write(vec![Bytes::from(vec![1; 10_000])]).await.expect("sent");
    env.sleep(A_WHILE).await;
    let mut total = 0;
    while total < 10_000 {
        let buffer = BytesMut::with_capacity(700);
        let room = buffer.capacity();
        let (result, buffer) = server.read(buffer).await;
        let count = result.expect("read");
        assert!(count > 0 && count <= room);
        assert_eq!((buffer.len(), buffer.capacity()), (count, room), "the buffer is the same");
        total += count;
    }
    assert_eq!(total, 10_000);
});
