//! What connections promise.

use std::io::ErrorKind;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use woodchuck_io::{Env, Listener, Mesh, Net, Stream};

use crate::common::{
    self, FEW_SEEDS, any, is_simulated, pair, pair_on, read_to_end, refusal, skipped,
};

check!(large_vectored_writes_arrive_whole, 1, FEW_SEEDS, |env, directory| {
    let (client, server) = pair(&env).await;
    let echo = env.spawn("echo", async move {
        loop {
            let (result, bytes) = server.read(BytesMut::with_capacity(1 << 18)).await;
            if result.expect("read") == 0 {
                return;
            }
            server.write(vec![bytes.freeze()]).await.expect("sent");
        }
    });
    // More segments than one call takes, of all sizes and none, and more than sockets hold.
    let mut random = env.random("segments");
    let segments: Vec<Bytes> = (0..5000)
        .map(|number: u32| {
            let length = random.below(8000) as usize * usize::from(!number.is_multiple_of(5));
            let mut bytes = vec![0; length];
            random.fill(&mut bytes);
            bytes.into()
        })
        .chain([Bytes::from(vec![7; 8 << 20])])
        .collect();
    let expected: Vec<u8> = segments.concat();
    let sender = client.clone();
    let sent = env.spawn("send", async move {
        sender.write(segments).await.expect("sent");
        sender.write(Vec::new()).await.expect("nothing to send");
        sender.write(vec![Bytes::new()]).await.expect("nothing to send");
        sender.shutdown().await.expect("ended");
    });
    assert!(read_to_end(&client).await == expected, "the echo differs");
    sent.await;
    echo.await;
});

check!(half_closed_connections_still_receive, 1, |env, directory| {
    let (client, server) = pair(&env).await;
    client.write(vec![Bytes::from_static(b"question")]).await.expect("sent");
    client.shutdown().await.expect("ended");
    assert_eq!(read_to_end(&server).await, b"question");
    let error = client.write(vec![Bytes::from_static(b"more")]).await.expect_err("ended");
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    server.write(vec![Bytes::from_static(b"answer")]).await.expect("sent");
    drop(server);
    assert_eq!(read_to_end(&client).await, b"answer");
});

check!(a_clone_keeps_a_connection_open, 1, |env, directory| {
    let (client, server) = pair(&env).await;
    let clone = client.clone();
    drop(client);
    clone.write(vec![Bytes::from_static(b"still here")]).await.expect("sent");
    drop(clone);
    assert_eq!(read_to_end(&server).await, b"still here");
});

check!(a_read_appends_and_needs_room, 1, |env, directory| {
    let (client, server) = pair(&env).await;
    client.write(vec![Bytes::from_static(b"abcdef")]).await.expect("sent");
    let mut buffer = BytesMut::with_capacity(7);
    buffer.extend_from_slice(b"1234");
    while buffer.len() < 7 {
        let (result, filled) = server.read(buffer).await;
        assert!(result.expect("read") > 0);
        buffer = filled;
    }
    assert_eq!(&buffer[..], b"1234abc");
    let (result, buffer) = server.read(buffer).await;
    assert_eq!(result.expect_err("no room").kind(), ErrorKind::InvalidInput);
    assert_eq!(buffer.len(), 7);
});

// What the peer sees of bytes that nobody read, the seam's text leaves open. A kernel resets at
// once; in simulation, as between distant machines, it may also be an end.
check!(closing_with_unread_bytes_ends_or_resets, 1, |env, directory| {
    let (client, server) = pair(&env).await;
    client.write(vec![Bytes::from_static(b"never read")]).await.expect("sent");
    env.sleep(std::time::Duration::from_millis(20)).await;
    drop(server);
    let (result, bytes) = client.read(BytesMut::with_capacity(10)).await;
    assert!(bytes.is_empty());
    match result {
        Ok(count) => assert!(is_simulated(&env) && count == 0, "read {count} bytes"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
            let text = error.to_string();
            assert!(is_simulated(&env) || text.contains("receiving from 127.0.0.1:"), "{text}");
        }
    }
});

check!(nobody_listens, 1, |env, directory| {
    let listener = env.net().listen(any()).await.expect("listening");
    let local = listener.local_address();
    drop(listener);
    let error = refusal(&env, local).await;
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
});

check!(ipv6_works_where_there_is_any, 1, |env, directory| {
    let address = "[::1]:0".parse().expect("an address");
    match env.net().listen(address).await {
        Ok(listener) => drop(listener),
        Err(error) => {
            skipped(format_args!("IPv6: {error}"));
            return;
        }
    }
    let (client, server) = pair_on(&env, address).await;
    client.write(vec![Bytes::from_static(b"six")]).await.expect("sent");
    drop(client);
    assert_eq!(read_to_end(&server).await, b"six");
});

check!(shards_share_what_arrives, 4, |env, directory| {
    let listener = env.net().listen(any()).await.expect("listening");
    let error = env.net().listen(listener.local_address()).await.err().expect("it has it");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    let mine = listener.local_address();
    // Everybody tells everybody; the ports are one.
    for shard in 0..env.mesh().shards() {
        env.mesh().send(shard, Box::new(mine)).await;
    }
    let server = env.spawn("serve", async move {
        loop {
            let (stream, _) = listener.accept().await.expect("accepted");
            stream.write(vec![Bytes::from_static(b"hello")]).await.expect("sent");
        }
    });
    for _ in 0..50 {
        let stream = env.net().connect(mine).await.expect("connected");
        assert_eq!(read_to_end(&stream).await, b"hello");
    }
    // Nobody stops serving before all have been served.
    for shard in 0..env.mesh().shards() {
        env.mesh().send(shard, Box::new(())).await;
    }
    for _ in 0..2 * env.mesh().shards() {
        let (_, parcel) = env.mesh().receive().await;
        if let Ok(theirs) = parcel.downcast::<SocketAddr>() {
            assert_eq!(*theirs, mine);
        }
    }
    drop(server);
});

kernel_check!(two_runtimes_never_share_an_address, 1, |env, directory| {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let local = taken.local_addr().expect("an address");
    let error = env.net().listen(local).await.err().expect("taken");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    drop(taken);

    let listener = env.net().listen(local).await.expect("free");
    #[derive(Clone)]
    struct Other(SocketAddr);
    impl woodchuck_io::Program for Other {
        type Output = ErrorKind;
        async fn run<E: Env>(self, env: E) -> ErrorKind {
            env.net().listen(self.0).await.err().expect("taken").kind()
        }
    }
    for &backend in common::BACKENDS {
        if let Some(runtime) = common::start(backend, 1, Other(local)) {
            assert_eq!(runtime.join(), [Ok(ErrorKind::AddrInUse)]);
        }
    }
    drop(listener);
});
