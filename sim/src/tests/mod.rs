//! The world, tested from outside: what it promises, and that what it may do wrong does happen.

mod chronicle;
mod clock;
mod conformance;
mod determinism;
mod disk;
mod failures;
mod machine;
mod mesh;
mod net;
mod process;
mod scenario;
mod schedule;
mod shrink;

use std::cell::RefCell;
use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::{Buffer, Disk as _, Durability, Env as _, File as _, OpenMode};

use crate::{SimEnv, SimFile, World};

/// Runs one shard to its end and returns what it gave.
fn run<T: 'static, F: Future<Output = T> + 'static>(
    world: &World,
    main: impl Fn(SimEnv) -> F + 'static,
) -> T {
    let machine = world.machine("m");
    let output = Rc::new(RefCell::new(None));
    let (slot, main) = (Rc::clone(&output), Rc::new(main));
    world.start(machine, 1, move |env| {
        let (slot, main) = (Rc::clone(&slot), Rc::clone(&main));
        async move {
            let value = main(env).await;
            *slot.borrow_mut() = Some(value);
        }
    });
    let running = world.clone();
    let ended = world.run_until(move || !running.is_running(machine), Duration::from_secs(3600));
    assert!(ended, "the program of seed {} ended", world.seed());
    output.take().expect("a program that ended gave its output")
}

/// A buffer of whole blocks, all of one byte.
fn blocks(count: usize, byte: u8) -> Buffer {
    let mut buffer = Buffer::zeroed(count * 4096);
    buffer.fill(byte);
    buffer
}

/// Creates a file whose name is durable.
async fn create(env: &SimEnv, path: &str) -> SimFile {
    let file = env.disk().open(Path::new(path), OpenMode::CreateNew).await.expect("a new file");
    let parent = Path::new(path).parent().expect("a file lies in a directory");
    env.disk().sync_directory(parent).await.expect("a healthy disk");
    file
}

/// Writes whole blocks of one byte.
async fn write(file: &SimFile, block: u64, count: usize, byte: u8, durability: Durability) {
    let (result, _) = file.write_at(blocks(count, byte), block * 4096, durability).await;
    result.expect("a healthy disk");
}
