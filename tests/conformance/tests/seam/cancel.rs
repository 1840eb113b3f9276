//! Dropping an operation in flight harms nobody: not its buffer's next user, not the file's other
//! blocks, not the bytes of a connection.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use woodchuck_io::{
    Buffer, Disk, Durability, Env, File, Listener, Mesh, Net, OpenMode, Program, Stream,
};

use crate::common::{
    self, FEW_SEEDS, Scratch, is_simulated, pattern_of, patterned, poll_once, quiet_world,
};

/// Draws that differ from run to run do no harm here: the checks hold for every one.
const ROUNDS: u64 = 4000;

const LENGTH: usize = 32768;
const PLACES: u64 = 64;

/// Starts writes and drops them, at once or after a while.
#[derive(Clone)]
struct DroppedWrites(PathBuf);

impl Program for DroppedWrites {
    type Output = ();

    async fn run<E: Env>(self, env: E) {
        let file = env.disk().open(&self.0, OpenMode::CreateNew).await.expect("created");
        file.allocate(PLACES * LENGTH as u64).await.expect("reserved");
        let mut random = env.random("cancel");
        for round in 1..=ROUNDS {
            let place = round % PLACES;
            // The number names its place, so that bytes at the wrong one are seen.
            let buffer = patterned(LENGTH, round << 8 | place);
            let durability = match random.below(8) {
                0 => Durability::Durable,
                _ => Durability::Volatile,
            };
            let mut write = Box::pin(file.write_at(buffer, place * LENGTH as u64, durability));
            for _ in 0..random.below(4) {
                if poll_once(&mut write).await.is_some() {
                    break;
                }
                env.yield_now().await;
            }
            drop(write);
            // Whoever gets the memory next fills it with what must never reach the file.
            drop(patterned(LENGTH, u64::MAX));
        }
    }
}

#[test]
fn dropped_writes_write_their_own_bytes_or_none() {
    for &backend in common::BACKENDS {
        let scratch = Scratch::new();
        let path = scratch.path().join("a");
        // The shard ends when nothing is in flight any more, so the file is at rest afterwards.
        common::run(backend, 1, DroppedWrites(path.clone()));
        let Ok(content) = std::fs::read(&path) else { continue };
        check_dropped_writes(&content);
    }
}

fn check_dropped_writes(content: &[u8]) {
    assert_eq!(content.len(), PLACES as usize * LENGTH);
    for (index, block) in content.chunks(4096).enumerate() {
        let place = (index * 4096 / LENGTH) as u64;
        let number = pattern_of(block).expect("a block is from one write");
        assert!(number == 0 || number & 0xff == place, "{number:#x} at place {place}");
    }
    assert!(content.iter().any(|&byte| byte != 0), "not one write got through");
}

#[test]
fn simulated_dropped_writes_write_their_own_bytes_or_none() {
    for seed in 0..FEW_SEEDS {
        let world = quiet_world(seed);
        let machine = world.machine("machine");
        world.start_program(machine, 1, DroppedWrites("/a".into()), |_, _| {});
        world.run_to_idle();
        assert!(!world.is_running(machine));
        check_dropped_writes(&world.disk(machine).read("/a").expect("the file is there"));
    }
}

check!(dropped_reads_leave_other_buffers_alone, 1, FEW_SEEDS, |env, directory| {
    const LENGTH: usize = 65536;
    let file = env.disk().open(&directory.join("a"), OpenMode::CreateNew).await.expect("created");
    for place in 0..16 {
        let write =
            file.write_at(patterned(LENGTH, 1), place * LENGTH as u64, Durability::Volatile);
        write.await.0.expect("written");
    }
    let mut random = env.random("cancel");
    let mut mine = Vec::new();
    for round in 2..ROUNDS {
        let place = random.below(16);
        let mut read = Box::pin(file.read_at(Buffer::with_capacity(LENGTH), place * LENGTH as u64));
        for _ in 0..random.below(3) {
            poll_once(&mut read).await;
        }
        if random.below(2) == 0 {
            env.yield_now().await;
        }
        drop(read);
        mine.push((round, patterned(LENGTH, round)));
        if mine.len() == 8 {
            env.yield_now().await;
            for (number, buffer) in mine.drain(..) {
                assert_eq!(pattern_of(&buffer), Some(number), "a late read wrote into a buffer");
            }
        }
    }
});

check!(dropped_accepts_lose_no_connection, 1, FEW_SEEDS, |env, directory| {
    let address = "127.0.0.1:0".parse().expect("an address");
    let listener = env.net().listen(address).await.expect("listening");
    let local = listener.local_address();
    let connector = env.clone();
    let clients = env.spawn("clients", async move {
        let mut streams = Vec::new();
        let mut pauses = connector.random("pauses");
        for number in 0..300_u32 {
            let stream = connector.net().connect(local).await.expect("connected");
            let number = Bytes::copy_from_slice(&number.to_le_bytes());
            stream.write(vec![number]).await.expect("sent");
            streams.push(stream);
            connector.sleep(Duration::from_micros(pauses.below(200))).await;
        }
        streams
    });
    let mut seen = vec![false; 300];
    let mut drops = 0;
    while !seen.iter().all(|&seen| seen) {
        let mut accept = Box::pin(listener.accept());
        let mut accepted = None;
        for _ in 0..3 {
            accepted = poll_once(&mut accept).await;
            if accepted.is_some() {
                break;
            }
            env.yield_now().await;
        }
        drop(accept);
        let Some(accepted) = accepted else {
            drops += 1;
            continue;
        };
        let (stream, _) = accepted.expect("accepted");
        let mut buffer = BytesMut::with_capacity(4);
        while buffer.len() < 4 {
            let (result, filled) = stream.read(buffer).await;
            assert!(result.expect("read") > 0);
            buffer = filled;
        }
        let number = u32::from_le_bytes(buffer[..].try_into().expect("four bytes"));
        assert!(!std::mem::replace(&mut seen[number as usize], true), "{number} came twice");
    }
    assert!(drops > 0, "nothing was dropped");
    drop(clients.await);
});

check!(dropped_receives_lose_no_byte, 1, FEW_SEEDS, |env, directory| {
    let address = "127.0.0.1:0".parse().expect("an address");
    let listener = env.net().listen(address).await.expect("listening");
    let sender = env.net().connect(listener.local_address()).await.expect("connected");
    let (receiver, _) = listener.accept().await.expect("accepted");
    let sending = env.clone();
    let sent = env.spawn("send", async move {
        for number in 0..ROUNDS {
            sender.write(vec![Bytes::copy_from_slice(&number.to_le_bytes())]).await.expect("sent");
            if number % 3 == 0 {
                sending.yield_now().await;
            }
        }
        sender
    });
    let mut random = env.random("cancel");
    let mut received = Vec::new();
    let mut drops = 0;
    while received.len() < ROUNDS as usize * 8 {
        let room = 1 + random.below(64) as usize;
        let mut read = Box::pin(receiver.read(BytesMut::with_capacity(room)));
        let mut ended = None;
        for _ in 0..1 + random.below(3) {
            ended = poll_once(&mut read).await;
            if ended.is_some() {
                break;
            }
            env.yield_now().await;
        }
        drop(read);
        match ended {
            Some((result, buffer)) => {
                assert_eq!(result.expect("read"), buffer.len());
                received.extend_from_slice(&buffer);
            }
            None => drops += 1,
        }
    }
    assert!(drops > 100, "{drops} reads were dropped");
    for (number, bytes) in received.chunks_exact(8).enumerate() {
        assert_eq!(bytes, (number as u64).to_le_bytes());
    }
    drop(sent.await);
});

check!(
    a_shard_that_stops_accepting_leaves_no_connection_hanging,
    2,
    FEW_SEEDS,
    |env, directory| {
        // Both listen on one address. One goes on accepting; the other drops its call just as a
        // connection arrives, and then its listener. Whoever connected is served, or told the end.
        let mesh = env.mesh().clone();
        let address = "127.0.0.1:0".parse().expect("an address");
        let listener = env.net().listen(address).await.expect("listening");
        let local = listener.local_address();
        if mesh.shard() == 1 {
            let serving = env.clone();
            let serve = async move {
                loop {
                    let (stream, _) = listener.accept().await.expect("accepted");
                    let answer =
                        async move { stream.write(vec![Bytes::from_static(b"served")]).await };
                    serving.spawn("answer", answer).detach();
                }
            };
            let _serve = env.spawn("serve", serve);
            mesh.send(0, Box::new(())).await;
            mesh.receive().await;
            return;
        }
        mesh.receive().await;
        let mut random = env.random("moments");
        let (mut served, mut ended) = (0, 0);
        let mut mine = Some(listener);
        while served + ended < 500 {
            let listener = match mine.take() {
                Some(listener) => listener,
                None => env.net().listen(local).await.expect("the other shard has it"),
            };
            assert_eq!(listener.local_address(), local);
            let mut accept = Box::pin(listener.accept());
            assert!(poll_once(&mut accept).await.is_none());
            let connecting = env.clone();
            let client = env.spawn("client", async move {
                let stream = connecting.net().connect(local).await.expect("connected");
                stream.read(BytesMut::with_capacity(8)).await
            });
            for _ in 0..random.below(8) {
                env.yield_now().await;
            }
            drop(accept);
            drop(listener);
            match client.await {
                (Ok(0), _) => ended += 1,
                (Ok(_), answer) => {
                    assert_eq!(&answer[..], b"served");
                    served += 1;
                }
                (Err(error), _) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                    ended += 1;
                }
            }
        }
        assert!(served > 0, "the other shard serves");
        mesh.send(1, Box::new(())).await;
    }
);

check!(dropped_connects_close_what_they_opened, 1, FEW_SEEDS, |env, directory| {
    let address = "127.0.0.1:0".parse().expect("an address");
    let listener = env.net().listen(address).await.expect("listening");
    let local = listener.local_address();
    let accepting = listener.clone();
    let acceptor = env.spawn("accept", async move {
        // What was connected before it was dropped ends, one way or the other.
        loop {
            let (stream, _) = accepting.accept().await.expect("accepted");
            match stream.read(BytesMut::with_capacity(16)).await {
                (Ok(0), _) => {}
                (Ok(_), bytes) => return bytes,
                (Err(error), _) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            }
        }
    });
    for round in 0..1000 {
        let mut connect = Box::pin(env.net().connect(local));
        for _ in 0..round % 3 {
            if poll_once(&mut connect).await.is_some() {
                break;
            }
            env.yield_now().await;
        }
    }
    let last = env.net().connect(local).await.expect("connected");
    last.write(vec![Bytes::from_static(b"the last")]).await.expect("sent");
    assert_eq!(&acceptor.await[..], b"the last");
});

check!(dropped_sends_keep_their_segments, 1, FEW_SEEDS, |env, directory| {
    let address = "127.0.0.1:0".parse().expect("an address");
    let listener = env.net().listen(address).await.expect("listening");
    for round in 0..50_u8 {
        let sender = env.net().connect(listener.local_address()).await.expect("connected");
        let (receiver, _) = listener.accept().await.expect("accepted");
        // Far more than the sockets hold, so that it cannot complete.
        let segments: Vec<Bytes> = (0..64).map(|_| Bytes::from(vec![round; 256 << 10])).collect();
        let mut write = Box::pin(sender.write(segments));
        for _ in 0..1 + round % 3 {
            assert!(poll_once(&mut write).await.is_none(), "16 MiB fit nowhere");
            env.yield_now().await;
        }
        drop(write);
        drop(sender);
        // Memory that was given back too early is soon another's.
        let other = Rc::new(vec![0xEE_u8; 256 << 10]);
        let mut total = 0;
        loop {
            match receiver.read(BytesMut::with_capacity(1 << 20)).await {
                (Ok(0), _) => break,
                (Ok(_), bytes) => {
                    assert!(bytes == vec![round; bytes.len()], "foreign bytes were sent");
                    total += bytes.len();
                }
                (Err(error), _) => panic!("the peer closed in good order: {error}"),
            }
        }
        assert!(total < 64 * (256 << 10), "the send was cancelled");
        drop(other);
    }
});

/// Where leaked futures are.
static LEAKED: Mutex<Vec<usize>> = Mutex::new(Vec::new());

check!(leaving_with_everything_in_flight_is_clean, 1, FEW_SEEDS, |env, directory| {
    let address = "127.0.0.1:0".parse().expect("an address");
    let listener = env.net().listen(address).await.expect("listening");
    let stream = env.net().connect(listener.local_address()).await.expect("connected");
    let file = env.disk().open(&directory.join("a"), OpenMode::CreateNew).await.expect("created");
    for block in 0..200_u64 {
        let file = file.clone();
        env.spawn("write", async move {
            file.write_at(patterned(65536, block), block * 65536, Durability::Durable).await
        })
        .detach();
    }
    env.spawn("read", async move { stream.read(BytesMut::with_capacity(100)).await }).detach();
    let accepting = listener.clone();
    env.spawn("accept", async move {
        loop {
            drop(accepting.accept().await);
        }
    })
    .detach();
    if is_simulated(&env) {
        // A leaked future would keep its whole world.
        return;
    }
    // A future that is leaked rather than dropped, where a leak checker finds it again.
    let write = file.write_at(patterned(4096, 1), 0, Durability::Durable);
    let leaked = Box::leak(Box::new(Box::pin(write)));
    LEAKED.lock().expect("no panic").push((&raw const *leaked).addr());
    poll_once(leaked).await;
    env.yield_now().await;
});
