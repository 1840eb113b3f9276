//! Listening, accepting, connecting.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use woodchuck_io::{Listener, Mesh, Net, Stream};

use crate::common::{
    A_WHILE, FEW_SEEDS, any, descriptors, is_simulated, read_exactly, read_to_end, refusal, send,
    skipped,
};

check!(port_zero_is_a_new_port_each_time, 1, |env, directory| {
    let mut listeners = Vec::new();
    let mut ports = BTreeSet::new();
    for _ in 0..20 {
        let listener = env.net().listen(any()).await.expect("listening");
        let local = listener.local_address();
        assert_eq!(local.ip(), any().ip());
        assert!(local.port() != 0 && ports.insert(local.port()), "{local} was given twice");
        listeners.push(listener);
    }
    for listener in &listeners {
        let stream = env.net().connect(listener.local_address()).await.expect("connected");
        let (accepted, _) = listener.accept().await.expect("accepted");
        send(&stream, "x").await;
        assert_eq!(read_exactly(&accepted, 1).await, b"x");
    }
});

check!(an_address_is_taken_until_its_listener_goes, 1, |env, directory| {
    let listener = env.net().listen(any()).await.expect("listening");
    let local = listener.local_address();
    let clone = listener.clone();
    for _ in 0..2 {
        let error = env.net().listen(local).await.err().expect("taken");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    }
    drop(listener);
    // A clone keeps it.
    let error = env.net().listen(local).await.err().expect("taken");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    let stream = env.net().connect(local).await.expect("connected");
    let (accepted, _) = clone.accept().await.expect("accepted");
    drop(clone);
    // Connections outlive the listener they came by.
    send(&stream, "still").await;
    assert_eq!(read_exactly(&accepted, 5).await, b"still");
    let error = refusal(&env, local).await;
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    drop(env.net().listen(local).await.expect("free again"));
});

check!(an_address_of_another_machine_is_refused, 1, |env, directory| {
    // Set aside for examples, so nobody has it.
    let foreign: SocketAddr = "192.0.2.1:0".parse().expect("an address");
    let error = env.net().listen(foreign).await.err().expect("not ours");
    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable, "{error}");
});

check!(a_listener_on_every_address_is_reached_by_loopback, 1, |env, directory| {
    let every = "0.0.0.0:0".parse().expect("an address");
    let listener = env.net().listen(every).await.expect("listening");
    let address = SocketAddr::new(any().ip(), listener.local_address().port());
    let stream = env.net().connect(address).await.expect("connected");
    let (accepted, peer) = listener.accept().await.expect("accepted");
    assert_eq!(peer.ip(), any().ip());
    send(&accepted, "hello").await;
    assert_eq!(read_exactly(&stream, 5).await, b"hello");
});

check!(what_was_sent_before_the_accept_is_there, 1, |env, directory| {
    let listener = env.net().listen(any()).await.expect("listening");
    for number in 0..20_u8 {
        let stream = env.net().connect(listener.local_address()).await.expect("connected");
        stream.write(vec![Bytes::from(vec![number; 1000])]).await.expect("sent");
        if number % 2 == 0 {
            stream.shutdown().await.expect("ended");
        }
        drop(stream);
    }
    env.sleep(A_WHILE).await;
    let mut seen = BTreeSet::new();
    for _ in 0..20 {
        let (stream, _) = listener.accept().await.expect("accepted, though its peer is gone");
        let bytes = read_to_end(&stream).await;
        assert_eq!(bytes, vec![bytes[0]; 1000]);
        assert!(seen.insert(bytes[0]), "{} was accepted twice", bytes[0]);
    }
});

check!(peers_are_told_apart_by_their_addresses, 1, |env, directory| {
    let listener = env.net().listen(any()).await.expect("listening");
    let mut streams = Vec::new();
    let mut peers = BTreeSet::new();
    for _ in 0..30 {
        streams.push(env.net().connect(listener.local_address()).await.expect("connected"));
        let (stream, peer) = listener.accept().await.expect("accepted");
        assert_eq!(peer.ip(), any().ip());
        assert!(peers.insert(peer), "{peer} twice");
        streams.push(stream);
    }
});

check!(a_listener_that_goes_takes_its_waiting_connections_along, 1, |env, directory| {
    let listener = env.net().listen(any()).await.expect("listening");
    let local = listener.local_address();
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(env.net().connect(local).await.expect("connected, and not accepted"));
    }
    env.sleep(A_WHILE).await;
    drop(listener);
    assert_eq!(refusal(&env, local).await.kind(), ErrorKind::ConnectionRefused);
    for stream in streams {
        match stream.read(BytesMut::with_capacity(10)).await {
            (Ok(count), _) => assert_eq!(count, 0, "nobody sent anything"),
            (Err(error), _) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
});

check!(connecting_fails_at_once_where_nobody_listens, 1, |env, directory| {
    let listener = env.net().listen(any()).await.expect("listening");
    let local = listener.local_address();
    drop(listener);
    refusal(&env, local).await;
    let dials: Vec<_> = (0..20).map(|_| env.spawn("dial", env.net().connect(local))).collect();
    for dial in dials {
        let error = dial.await.err().expect("refused");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
});

check!(many_connect_at_once, 1, |env, directory| {
    let listener = env.net().listen(any()).await.expect("listening");
    let local = listener.local_address();
    let dials: Vec<_> = (0..100_u32)
        .map(|number| {
            let dialling = env.net().connect(local);
            env.spawn("dial", async move {
                let stream = dialling.await.expect("connected");
                let number = Bytes::copy_from_slice(&number.to_le_bytes());
                stream.write(vec![number]).await.expect("sent");
                stream
            })
        })
        .collect();
    let mut seen = BTreeSet::new();
    for _ in 0..100 {
        let (stream, _) = listener.accept().await.expect("accepted");
        seen.insert(read_exactly(&stream, 4).await);
        send(&stream, "!").await;
    }
    assert_eq!(seen.len(), 100);
    for dial in dials {
        assert_eq!(read_exactly(&dial.await, 1).await, b"!");
    }
});

check!(a_thousand_connections_live_at_once, 1, FEW_SEEDS, |env, directory| {
    // Two descriptors each, and other cases run beside this one.
    let fit = descriptors().saturating_sub(500) / 4;
    let count = if is_simulated(&env) { 1000 } else { fit.min(1000) };
    if count < 1000 {
        skipped(format_args!("{} of a thousand connections: no descriptors left", 1000 - count));
    }
    let listener = env.net().listen(any()).await.expect("listening");
    let mut ends = Vec::new();
    for _ in 0..count {
        let client = env.net().connect(listener.local_address()).await.expect("connected");
        let (server, _) = listener.accept().await.expect("accepted");
        ends.push((client, server));
    }
    let echoes: Vec<_> = ends
        .iter()
        .map(|(_, server)| {
            let server = server.clone();
            env.spawn("echo", async move {
                let asked = read_exactly(&server, 4).await;
                server.write(vec![asked.into()]).await.expect("sent");
            })
        })
        .collect();
    for (number, (client, _)) in ends.iter().enumerate().rev() {
        let number = Bytes::copy_from_slice(&(number as u32).to_le_bytes());
        client.write(vec![number]).await.expect("sent");
    }
    for (number, (client, _)) in ends.iter().enumerate() {
        assert_eq!(read_exactly(client, 4).await, (number as u32).to_le_bytes());
    }
    for echo in echoes {
        echo.await;
    }
});

check!(shards_listen_on_the_same_ports_in_turn, 3, |env, directory| {
    // The first port a shard asks for is the same on every shard, and so is the second.
    let mesh = env.mesh();
    let one = env.net().listen(any()).await.expect("listening");
    let two = env.net().listen(any()).await.expect("listening");
    assert_ne!(one.local_address(), two.local_address());
    for shard in 0..mesh.shards() {
        mesh.send(shard, Box::new((one.local_address(), two.local_address()))).await;
    }
    // A quick shard is done before a slow one has told all where it listens.
    let (mut told, mut done) = (0, 0);
    while told < mesh.shards() {
        let (from, parcel) = mesh.receive().await;
        match parcel.downcast::<(SocketAddr, SocketAddr)>() {
            Ok(theirs) => {
                assert_eq!(*theirs, (one.local_address(), two.local_address()), "of shard {from}");
                told += 1;
            }
            Err(_) => done += 1,
        }
    }
    // Whoever accepts it, a connection is served once. Nobody goes before all have been served.
    let accepting = one.clone();
    let server = env.spawn("serve", async move {
        loop {
            let (stream, _) = accepting.accept().await.expect("accepted");
            send(&stream, "served").await;
        }
    });
    for _ in 0..20 {
        let stream = env.net().connect(one.local_address()).await.expect("connected");
        assert_eq!(read_to_end(&stream).await, b"served");
    }
    for shard in 0..mesh.shards() {
        mesh.send(shard, Box::new(())).await;
    }
    for _ in done..mesh.shards() {
        mesh.receive().await;
    }
    drop(server);
});

check!(a_shard_joins_a_port_by_its_number, 2, |env, directory| {
    let mesh = env.mesh();
    if mesh.shard() == 0 {
        let listener = env.net().listen(any()).await.expect("listening");
        mesh.send(1, Box::new(listener.local_address())).await;
        mesh.receive().await;
        // The other has left, so all is for this one.
        drop(listener.accept().await.expect("accepted"));
    } else {
        let (_, parcel) = mesh.receive().await;
        let address = *parcel.downcast::<SocketAddr>().expect("what was sent");
        let listener = env.net().listen(address).await.expect("shared");
        assert_eq!(listener.local_address(), address);
        let error = env.net().listen(address).await.err().expect("it has it");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        drop(listener);
        mesh.send(0, Box::new(())).await;
        drop(env.net().connect(address).await.expect("connected"));
    }
});
