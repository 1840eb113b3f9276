//! Connections whose every byte is known: sixteen that name the connection, then a sequence that
//! follows from its number. Whoever drops a write has only closing left; whoever drops a read goes
//! on reading.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use woodchuck_io::{Env, Listener, Net, RandomStream, Stream};

use super::ledger::Ledger;

/// Bytes in front that name the connection.
const NAME: usize = 8;

/// The byte at `position` of a connection, counted behind its name.
fn byte_of(connection: u64, position: u64) -> u8 {
    let mixed = (position / 8 + 1).wrapping_mul(connection | 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed.to_le_bytes()[(position % 8) as usize]
}

fn bytes_of(connection: u64, range: std::ops::Range<u64>) -> Bytes {
    range.map(|position| byte_of(connection, position)).collect()
}

/// Polls a future `times` times, with a pause for the rest of the shard after each. Gives the
/// future back if that was not enough.
pub(crate) async fn poll_times<E: Env, F: Future + Unpin>(
    env: &E,
    mut future: F,
    times: u64,
) -> Result<F::Output, F> {
    for _ in 0..times {
        let polled = poll_fn(|context| Poll::Ready(Pin::new(&mut future).poll(context))).await;
        if let Poll::Ready(output) = polled {
            return Ok(output);
        }
        env.yield_now().await;
    }
    Err(future)
}

/// Connects, now and then after giving up, and sends. May end before all is sent.
pub(crate) async fn send<E: Env>(
    env: E,
    address: SocketAddr,
    connection: u64,
    ledger: Ledger,
    mut random: RandomStream,
) {
    let stream = loop {
        let connect = Box::pin(env.net().connect(address));
        match (random.below(4), random.below(4)) {
            (0, times) => match poll_times(&env, connect, times).await {
                Ok(connected) => break connected,
                Err(dropped) => drop(dropped),
            },
            _ => break connect.await,
        }
    };
    let stream = stream.expect("connected");
    stream.write(vec![Bytes::copy_from_slice(&connection.to_le_bytes())]).await.ok();
    let mut sent = 0;
    for _ in 0..random.below(12) {
        let largest = if random.below(8) == 0 { 300_000 } else { 3000 };
        let mut segments = Vec::new();
        for _ in 0..random.below(5) {
            let end = sent + random.below(largest);
            segments.push(bytes_of(connection, sent..end));
            sent = end;
        }
        let clone = stream.clone();
        let write = Box::pin(clone.write(segments));
        drop(clone);
        if random.below(16) == 0 {
            // The peer gets any prefix of it, and then the end.
            return drop(poll_times(&env, write, random.below(3)).await);
        }
        // The peer may be gone, which is its right.
        if write.await.is_err() {
            return;
        }
        if random.below(4) == 0 {
            env.sleep(Duration::from_micros(random.below(100))).await;
        }
    }
    if stream.shutdown().await.is_ok() {
        ledger.sent_whole(connection, sent);
    }
}

/// Reads a connection and checks every byte. May end before the other does.
pub(crate) async fn receive<E: Env, S: Stream>(
    env: E,
    mut stream: S,
    ledger: Ledger,
    mut random: RandomStream,
) {
    let mut name = BytesMut::new();
    let mut connection = None;
    let mut received = 0;
    loop {
        if random.below(200) == 0 {
            return;
        }
        if random.below(4) == 0 {
            stream = stream.clone();
        }
        let most_room = if random.below(3) == 0 { 100_000 } else { 2000 };
        let room = 1 + random.below(most_room);
        let read = Box::pin(stream.read(BytesMut::with_capacity(room as usize)));
        let ended = match random.below(3) {
            0 => poll_times(&env, read, random.below(3)).await.ok(),
            _ => Some(read.await),
        };
        let Some((result, mut buffer)) = ended else { continue };
        match result {
            Ok(0) => break,
            Ok(count) => assert_eq!(count, buffer.len()),
            // A sender that was dropped with bytes on their way. One that said the end in good
            // order must not come to this, which the ledger knows.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("receiving: {error}"),
        }
        if name.len() < NAME {
            name.extend_from_slice(&buffer.split_to((NAME - name.len()).min(buffer.len())));
            let Some(number) = name.first_chunk::<NAME>() else { continue };
            let number = u64::from_le_bytes(*number);
            ledger.accepted(number);
            connection = Some(number);
        }
        let Some(connection) = connection else { continue };
        for &byte in &buffer {
            assert_eq!(byte, byte_of(connection, received), "{received} of {connection:#x}");
            received += 1;
        }
    }
    if let Some(connection) = connection {
        ledger.received_end(connection, received);
    }
}

/// The next connection, with calls that are dropped on the way.
pub(crate) async fn accept<E: Env, L: Listener>(
    env: &E,
    listener: &L,
    random: &mut RandomStream,
) -> L::Stream {
    loop {
        let clone = listener.clone();
        let accept = Box::pin(clone.accept());
        drop(clone);
        let accepted = match random.below(2) {
            0 => poll_times(env, accept, random.below(4)).await.ok(),
            _ => Some(accept.await),
        };
        if let Some(accepted) = accepted {
            return accepted.expect("accepted").0;
        }
    }
}
