//! How many events a second a simulated world takes on one core. An event is a completion, a
//! delivery, a timer or a poll.
//!
//! `cargo bench -p woodchuck-benches --bench simulator`

use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use woodchuck_io::{Buffer, Disk as _, Durability, Env as _, File as _, Mesh as _, OpenMode};
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

/// The rate of events in a world of four shards that all run `main`.
fn measure<F>(criterion: &mut Criterion, name: &str, main: fn(SimEnv) -> F)
where
    F: Future<Output = ()> + 'static,
{
    let world = |seed| {
        let world = World::new(seed);
        world.start(world.machine("machine"), 4, main);
        world
    };
    let probe = world(0);
    probe.run_for(SLICE);
    let mut group = criterion.benchmark_group("simulator");
    group.throughput(Throughput::Elements(probe.statistics().all_events()));
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
}

criterion_group!(benches, events);
criterion_main!(benches);
