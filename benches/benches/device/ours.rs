//! The cases through the runtime.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::ceiling::{Access, Took, process_busy_time};
use woodchuck_io::runtime::{Backend, IdlePolicy, Runtime, RuntimeOptions};
use woodchuck_io::{Buffer, Disk, Durability, Env, File, Group, Mesh, OpenMode, Program};

use crate::{Case, FILE_BYTES};

/// Reads beside the writes of the case with groups: how many are asked for at a time, and their
/// size.
const READS: (usize, usize) = (64, 256 << 10);

pub(crate) fn run(case: Case, variant: &str, path: &Path) -> Took {
    let idle_policy = match variant {
        "runtime, spin" => IdlePolicy::Spin,
        "runtime, sleep" => IdlePolicy::Sleep,
        "runtime" | "beside a compaction" | "beside the foreground" => IdlePolicy::Adaptive,
        _ => panic!("there is no variant {variant}"),
    };
    let beside = match variant {
        "beside a compaction" => Some(Group::Compaction),
        "beside the foreground" => Some(Group::Foreground),
        _ => None,
    };
    let shards = if case.access.is_some() { 1 } else { 2 };
    let backend = Backend::Uring;
    let options = RuntimeOptions { shards, backend, idle_policy, ..RuntimeOptions::default() };
    let program = Measure { case, path: path.to_path_buf(), beside };
    let runtime = Runtime::start(options, program).expect("it starts");
    runtime.join().pop().expect("a shard").expect("no shard panics")
}

#[derive(Clone)]
struct Measure {
    case: Case,
    path: PathBuf,
    /// The group of reads that go on beside it, if there are any.
    beside: Option<Group>,
}

impl Program for Measure {
    type Output = Took;

    async fn run<E: Env>(self, env: E) -> Took {
        let Self { case, path, beside } = self;
        let Some(access) = case.access else { return messages(&env, case.operations).await };
        let file = env.disk().open(&path, OpenMode::Write).await.expect("the file is there");
        let next = Rc::new(Cell::new(0_u64));
        if let Some(group) = beside {
            read_for_ever(&env.in_group(group), &path).await;
        }
        go(&env, &file, access, case, case.operations / 4, &next).await;
        let (start, busy) = (env.now(), process_busy_time().expect("its time"));
        let times = go(&env, &file, access, case, case.operations, &next).await;
        let (elapsed, busy) = (env.now() - start, process_busy_time().expect("as above") - busy);
        Took::new(elapsed, busy, times)
    }
}

/// Keeps reads going until the shard is over.
async fn read_for_ever<E: Env>(env: &E, path: &Path) {
    let (count, bytes) = READS;
    let file = env.disk().open(path, OpenMode::Read).await.expect("the file is there");
    for _ in 0..count {
        let (env, file) = (env.clone(), file.clone());
        env.clone()
            .spawn("reads", async move {
                let mut random = env.random("reads");
                let mut buffer = Buffer::zeroed(bytes);
                loop {
                    let offset = random.below(FILE_BYTES / bytes as u64) * bytes as u64;
                    let (result, back) = file.read_at(buffer, offset).await;
                    assert_eq!(result.expect("read"), bytes);
                    buffer = back;
                }
            })
            .detach();
    }
}

/// Shard 0 sends back what shard 1 sends it; shard 1's times count.
async fn messages<E: Env>(env: &E, count: u64) -> Took {
    let (mesh, other) = (env.mesh(), 1 - env.mesh().shard());
    let mut times = Vec::with_capacity(count as usize);
    let warm_up = count / 4;
    let mut begun = (env.now(), process_busy_time().expect("its time"));
    for number in 0..warm_up + count {
        if number == warm_up {
            begun = (env.now(), process_busy_time().expect("as above"));
            times.clear();
        }
        let start = env.now();
        if other == 1 {
            mesh.receive().await;
            mesh.send(other, Box::new(())).await;
        } else {
            mesh.send(other, Box::new(())).await;
            mesh.receive().await;
        }
        times.push(env.now() - start);
    }
    let (elapsed, busy) = (env.now() - begun.0, process_busy_time().expect("as above") - begun.1);
    Took::new(elapsed, busy, times)
}

async fn go<E: Env>(
    env: &E,
    file: &<E::Disk as Disk>::File,
    access: Access,
    case: Case,
    operations: u64,
    next: &Rc<Cell<u64>>,
) -> Vec<Duration> {
    let (bytes, left) = (case.bytes, Rc::new(Cell::new(operations)));
    let times = Rc::new(RefCell::new(Vec::with_capacity(operations as usize)));
    let begun: Vec<_> = (0..case.depth)
        .map(|_| {
            let (env, file, next) = (env.clone(), file.clone(), Rc::clone(next));
            let (left, times) = (Rc::clone(&left), Rc::clone(&times));
            env.clone().spawn("transfer", async move {
                let mut random = env.random("places");
                let mut buffer = Buffer::zeroed(bytes);
                while left.get() > 0 {
                    left.set(left.get() - 1);
                    let places = FILE_BYTES / bytes as u64;
                    let place = match access {
                        Access::Read => random.below(places),
                        _ => next.replace(next.get() + 1) % places,
                    };
                    let offset = place * bytes as u64;
                    let durability = match access {
                        Access::DurableWrite => Durability::Durable,
                        _ => Durability::Volatile,
                    };
                    let start = env.now();
                    buffer = if access == Access::Read {
                        let (result, buffer) = file.read_at(buffer, offset).await;
                        assert_eq!(result.expect("read"), bytes);
                        buffer
                    } else {
                        let (result, buffer) = file.write_at(buffer, offset, durability).await;
                        result.expect("written");
                        buffer
                    };
                    times.borrow_mut().push(env.now() - start);
                }
            })
        })
        .collect();
    for transfer in begun {
        transfer.await;
    }
    times.take()
}
