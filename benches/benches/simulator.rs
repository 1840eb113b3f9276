//! How many events a second a simulated world takes on one core. An event is a completed disk
//! operation, a delivery or a timer; the polls that they cause are not counted.
//!
//! `ping-pong and disk writes` is the scenario without an engine: two machines, connections on
//! which requests and answers alternate, and a durable write for each request. `broker` plays whole
//! worlds of the product, clients, crashes and checks included, and prints how much faster than the
//! real one their clock goes.
//!
//! `cargo bench -p woodchuck-benches --bench simulator`

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use woodchuck_io::{
    Buffer, Disk as _, Durability, Env as _, File as _, Listener as _, Mesh as _, Net as _,
    OpenMode, Stream as _,
};
use woodchuck_sim::scenario::RunOptions;
use woodchuck_sim::{SimEnv, World};

/// World time that one measurement takes.
const SLICE: Duration = Duration::from_millis(20);

async fn timers(env: SimEnv) {
    for _ in 0..16 {
        let inner = env.clone();
        env.spawn("timer", async move {
            loop {
                inner.sleep(Duration::from_micros(100)).await;
            }
        })
        .detach();
    }
    std::future::pending::<()>().await;
}

async fn mesh(env: SimEnv) {
    let mesh = env.mesh().clone();
    mesh.send((mesh.shard() + 1) % 4, Box::new(0_u64)).await;
    loop {
        let (_, parcel) = mesh.receive().await;
        mesh.send((mesh.shard() + 1) % 4, parcel).await;
    }
}

async fn durable_writes(env: SimEnv) {
    let path = format!("/{}", env.mesh().shard());
    let file = env.disk().open(Path::new(&path), OpenMode::CreateNew).await.expect("a new file");
    for writer in 0..8_u64 {
        let file = file.clone();
        env.spawn("writer", async move {
            let mut buffer = Buffer::zeroed(4096);
            for block in 0.. {
                let offset = (writer * 256 + block % 256) * 4096;
                let (result, back) = file.write_at(buffer, offset, Durability::Durable).await;
                result.expect("a healthy disk");
                buffer = back;
            }
        })
        .detach();
    }
    std::future::pending::<()>().await;
}

/// Answers each request once a block is written for it.
async fn pong(env: SimEnv) {
    let file = env.disk().open(Path::new("/pongs"), OpenMode::CreateNew).await.expect("a new file");
    let listener = env.net().listen("0.0.0.0:7".parse().expect("an address")).await.expect("free");
    for place in 0.. {
        let (stream, _) = listener.accept().await.expect("a healthy network");
        let file = file.clone();
        env.spawn("pong", async move {
            let mut buffer = Buffer::zeroed(4096);
            loop {
                let (read, request) = stream.read(BytesMut::with_capacity(64)).await;
                if !matches!(read, Ok(1..)) {
                    return;
                }
                let (written, back) =
                    file.write_at(buffer, place * 4096, Durability::Durable).await;
                written.expect("a healthy disk");
                buffer = back;
                if stream.write(vec![request.freeze()]).await.is_err() {
                    return;
                }
            }
        })
        .detach();
    }
}

async fn ping(env: SimEnv, server: std::net::IpAddr) {
    for _ in 0..16 {
        let inner = env.clone();
        env.spawn("ping", async move {
            // Asked again until the server listens.
            let stream = loop {
                match inner.net().connect((server, 7).into()).await {
                    Ok(stream) => break stream,
                    Err(_) => inner.sleep(Duration::from_millis(1)).await,
                }
            };
            let request = Bytes::from_static(b"ping");
            loop {
                stream.write(vec![request.clone()]).await.expect("the server lives");
                let (read, _) = stream.read(BytesMut::with_capacity(64)).await;
                read.expect("the server lives");
            }
        })
        .detach();
    }
    std::future::pending::<()>().await;
}

fn ping_pong(criterion: &mut Criterion) {
    let world = |seed| {
        let world = World::new(seed);
        let (server, client) = (world.machine("server"), world.machine("client"));
        let address = world.address(server);
        world.start(server, 1, pong);
        world.start(client, 1, move |env| ping(env, address));
        world
    };
    measure_world(criterion, "ping-pong and disk writes", world);
}

/// Whole worlds of the product.
fn broker(criterion: &mut Criterion) {
    const SEEDS: u64 = 100;
    let scenario = woodchuck_scenarios::broker::scenario();
    let play = || {
        let begun = Instant::now();
        let runs = (0..SEEDS).map(|seed| scenario.run(&RunOptions::new(seed)));
        let sums = runs.fold((0, Duration::ZERO), |(events, simulated), run| {
            (events + run.statistics.deliveries(), simulated + run.elapsed)
        });
        (sums.0, sums.1, begun.elapsed())
    };
    let (events, simulated, real) = play();
    println!(
        "simulator/broker: {simulated:?} of {SEEDS} worlds in {real:?}, {:.0} times as fast as the \
         real clock",
        simulated.as_secs_f64() / real.as_secs_f64()
    );
    let mut group = criterion.benchmark_group("simulator");
    group.sample_size(10).throughput(Throughput::Elements(events));
    group.bench_function("broker", |bencher| {
        bencher.iter_custom(|rounds| (0..rounds).map(|_| play().2).sum());
    });
    group.finish();
}

/// The rate of events in a world of four shards that all run `main`.
fn measure<F>(criterion: &mut Criterion, name: &str, main: fn(SimEnv) -> F)
where
    F: Future<Output = ()> + 'static,
{
    measure_world(criterion, name, |seed| {
        let world = World::new(seed);
        world.start(world.machine("machine"), 4, main);
        world
    });
}

fn measure_world(criterion: &mut Criterion, name: &str, world: impl Fn(u64) -> World) {
    let probe = world(0);
    probe.run_for(SLICE);
    let mut group = criterion.benchmark_group("simulator");
    group.throughput(Throughput::Elements(probe.statistics().deliveries()));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|rounds| {
            let world = world(1);
            let begun = Instant::now();
            world.run_for(SLICE * u32::try_from(rounds).unwrap_or(u32::MAX));
            begun.elapsed()
        });
    });
    group.finish();
}

fn events(criterion: &mut Criterion) {
    measure(criterion, "timers", timers);
    measure(criterion, "mesh", mesh);
    measure(criterion, "durable 4 KiB writes", durable_writes);
    ping_pong(criterion);
    broker(criterion);
}

criterion_group!(benches, events);
criterion_main!(benches);
