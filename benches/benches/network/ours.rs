//! Server and client as two shards.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use woodchuck_io::runtime::{Backend, IdlePolicy, Runtime, RuntimeOptions};
use woodchuck_io::{Env, Listener, Mesh, Net, Program, Stream};

use crate::{ADDRESS, Case, Control, ECHO_BYTES, Trips};

pub(crate) fn run(case: Case, variant: &str, control: &Arc<Control>) -> Vec<u64> {
    let (backend, idle_policy) = match variant {
        "woodchuck, uring" => (Backend::Uring, IdlePolicy::Adaptive),
        "woodchuck, uring, sleep" => (Backend::Uring, IdlePolicy::Sleep),
        "woodchuck, posix" => (Backend::Posix, IdlePolicy::Adaptive),
        _ => panic!("there is no variant {variant}"),
    };
    let options =
        RuntimeOptions { shards: 2, backend, pin: true, idle_policy, ..RuntimeOptions::default() };
    let program = Measure { case, control: Arc::clone(control) };
    let runtime = Runtime::start(options, program).expect("the runtime starts");
    runtime.join().into_iter().flat_map(|ended| ended.expect("no shard panics")).collect()
}

#[derive(Clone)]
struct Measure {
    case: Case,
    control: Arc<Control>,
}

impl Program for Measure {
    type Output = Vec<u64>;

    async fn run<E: Env>(self, env: E) -> Vec<u64> {
        let Self { case, control } = self;
        if env.mesh().shard() == 0 {
            serve(env, case, control).await;
            Vec::new()
        } else {
            ask(env, case, control).await
        }
    }
}

async fn serve<E: Env>(env: E, case: Case, control: Arc<Control>) {
    let address = ADDRESS.parse().expect("an address");
    let listener = env.net().listen(address).await.expect("a free port");
    env.mesh().send(1, Box::new(listener.local_address())).await;
    let mut serving = Vec::new();
    for _ in 0..case.connections {
        let (stream, _) = listener.accept().await.expect("accepted");
        let control = Arc::clone(&control);
        serving.push(env.spawn("serve", async move {
            if case.one_way {
                take_in(stream, case.bytes, &control).await;
            } else {
                echo(stream).await;
            }
        }));
    }
    for each in serving {
        each.await;
    }
}

async fn echo(stream: impl Stream) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(ECHO_BYTES);
        let (result, filled) = stream.read(buffer).await;
        buffer = filled;
        if result.expect("read") == 0 {
            return;
        }
        stream.write(vec![buffer.split().freeze()]).await.expect("sent");
    }
}

async fn take_in(stream: impl Stream, bytes: usize, control: &Control) {
    let mut buffer = BytesMut::with_capacity(bytes);
    loop {
        buffer.clear();
        let (result, filled) = stream.read(buffer).await;
        buffer = filled;
        match result.expect("read") {
            0 => return,
            count => control.count(count),
        }
    }
}

async fn ask<E: Env>(env: E, case: Case, control: Arc<Control>) -> Vec<u64> {
    let (_, address) = env.mesh().receive().await;
    let address = *address.downcast().expect("an address");
    let mut asking = Vec::new();
    for _ in 0..case.connections {
        let stream = env.net().connect(address).await.expect("connected");
        let control = Arc::clone(&control);
        let message = Bytes::from(vec![7; case.bytes]);
        asking.push(env.spawn("ask", async move {
            let mut trips = Trips::new(&control);
            let mut answer = BytesMut::with_capacity(case.bytes);
            while !control.is_over() {
                let begun = Instant::now();
                stream.write(vec![message.clone()]).await.expect("sent");
                if case.one_way {
                    continue;
                }
                answer.clear();
                while answer.len() < case.bytes {
                    let (result, filled) = stream.read(answer).await;
                    assert!(result.expect("read") > 0, "the server has gone");
                    answer = filled;
                }
                trips.note(begun);
            }
            trips.times
        }));
    }
    control.connected();
    let mut times = Vec::new();
    for each in asking {
        times.append(&mut each.await);
    }
    times
}
