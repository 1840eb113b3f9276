//! A client that sends what no client should. Its connections are closed; that the others are
//! served all the same is what the other bots are there to see.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::{Either, select};
use woodchuck_io::{Env as _, Net as _, RandomStream, Stream};
use woodchuck_server::protocol::{MetadataRequest, Request, encode_request};

use super::{Bot, Outcome};
use crate::history::require;

/// How long the broker may take to close a connection on which it was sent nonsense. A connection
/// that lost its other end to a power cut is allowed as much.
const CLOSE_LIMIT: Duration = Duration::from_secs(120);

/// Sends nonsense over and over until bots are to end.
pub(crate) async fn harass(mut bot: Bot) {
    while !bot.shared.ending.get() {
        if let Ok(stream) = bot.env.net().connect(bot.shared.address).await {
            let (nonsense, must_close) = nonsense(&mut bot.random);
            let told = bot
                .env
                .operation(bot.number, format_args!("send nonsense, {} bytes", nonsense.len()));
            let sent = stream.write(vec![nonsense]).await;
            if sent.is_ok() && must_close {
                if let Err(trouble) = expect_end(&bot, &stream).await {
                    bot.settle(trouble).await;
                }
                bot.env.operation_ended(told, "ok, the connection was closed");
            } else {
                bot.env
                    .operation_ended(told, format_args!("unknown: left without waiting, {sent:?}"));
            }
        }
        bot.pause(10).await;
    }
}

/// Bytes that are not a request, and whether they are enough for the broker to know.
fn nonsense(random: &mut RandomStream) -> (Bytes, bool) {
    let request = Request::Metadata(MetadataRequest::default());
    let good: Vec<u8> = encode_request(9, 1, Some("hostile"), &request).concat();
    let mut bytes = BytesMut::new();
    match random.below(6) {
        0 => {
            // No length at all: an HTTP request, read as a length, is far too large.
            bytes.put_slice(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n");
            (bytes.freeze(), true)
        }
        1 => {
            bytes.put_i32([-1, i32::MIN, i32::MAX, 0, 200 << 20][random.below(5) as usize]);
            (bytes.freeze(), true)
        }
        2 => {
            // An API that nobody has.
            bytes.put_i32(10);
            bytes.put_slice(&[0x7F, 0xFF, 0, 0, 0, 0, 0, 1, 0xFF, 0xFF]);
            (bytes.freeze(), true)
        }
        3 => {
            // A produce request whose array says that it has two billion elements.
            bytes.put_i32(26);
            bytes.put_slice(&[0, 0, 0, 7, 0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
            bytes.put_slice(&[0, 0, 3, 0xE8, 0x7F, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0]);
            (bytes.freeze(), true)
        }
        4 => {
            // A good request that is cut off, and then silence: it leaves first.
            let length = 1 + random.below(good.len() as u64 - 1) as usize;
            (Bytes::copy_from_slice(&good[..length]), false)
        }
        _ => {
            let mut noise = vec![0; 4 + random.below(2000) as usize];
            random.fill(&mut noise);
            let length = (noise.len() - 4) as u32;
            noise[..4].copy_from_slice(&length.to_be_bytes());
            (noise.into(), false)
        }
    }
}

/// Reads until the broker closes the connection.
async fn expect_end<S: Stream>(bot: &Bot, stream: &S) -> Outcome<()> {
    let closed = std::pin::pin!(async {
        loop {
            let (result, _) = stream.read(BytesMut::with_capacity(4096)).await;
            if !matches!(result, Ok(1..)) {
                return;
            }
        }
    });
    let late = std::pin::pin!(bot.env.sleep(CLOSE_LIMIT));
    let in_time = matches!(select(closed, late).await, Either::Left(_));
    require("nonsense-is-refused", in_time, || {
        format!("a connection on which nonsense was sent is still there after {CLOSE_LIMIT:?}")
    })?;
    Ok(())
}
