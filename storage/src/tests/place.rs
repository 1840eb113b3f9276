//! Where the tests' tables are: worlds, and the tables in them.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::{Disk, Env, RandomStream};
use woodchuck_sim::{Faults, MachineId, SimEnv, World, WorldOptions};

use super::history::{History, Version};
use crate::{
    BlockCache, Compression, Entry, Finished, PrefixExtractor, ReadOptions, StorageError, Table,
    TableId, TableOptions, TableWriter,
};

pub(super) type SimFile = <<SimEnv as Env>::Disk as Disk>::File;
pub(super) type SimTable = Table<SimFile>;

pub(super) const ID: TableId =
    TableId { store: 0x5707_e000_0000_0000_0000_0000_0000_0001, keyspace: 3, number: 7 };
pub(super) const DIRECTORY: &str = "/store";
pub(super) const FILE: &str = "/store/0000000000000007.table";

pub(super) fn random(seed: u64) -> RandomStream {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    RandomStream::from_seed(bytes)
}

/// Runs a process in a world to its end, and gives its answer.
pub(super) fn run_in<T, F>(world: &World, body: impl FnOnce(SimEnv) -> F + 'static) -> T
where
    T: 'static,
    F: Future<Output = T> + 'static,
{
    run_on(world, world.machine("one"), body)
}

/// The same, on a machine that has been used before.
pub(super) fn run_on<T, F>(
    world: &World,
    machine: MachineId,
    body: impl FnOnce(SimEnv) -> F + 'static,
) -> T
where
    T: 'static,
    F: Future<Output = T> + 'static,
{
    let answer = Rc::new(RefCell::new(None));
    let (given, body) = (Rc::clone(&answer), Rc::new(RefCell::new(Some(body))));
    world.start(machine, 1, move |env| {
        let (given, body) = (Rc::clone(&given), body.borrow_mut().take());
        async move {
            let body = body.expect("the process runs once");
            *given.borrow_mut() = Some(body(env).await);
        }
    });
    let (done, running) = (Rc::clone(&answer), world.clone());
    let is_over = move || done.borrow().is_some() && !running.is_running(machine);
    assert!(world.run_until(is_over, Duration::from_secs(3600)), "the process ends");
    let answer = answer.borrow_mut().take();
    answer.expect("the process ended")
}

/// A world in which nothing goes wrong by itself.
pub(super) fn quiet(seed: u64) -> World {
    World::with_options(WorldOptions { faults: Faults::none(), ..WorldOptions::new(seed) })
}

pub(super) async fn create(
    env: &SimEnv,
    options: TableOptions,
) -> Result<TableWriter<<SimEnv as Env>::Disk>, StorageError> {
    create_as(env, ID, options).await
}

pub(super) async fn create_as(
    env: &SimEnv,
    id: TableId,
    options: TableOptions,
) -> Result<TableWriter<<SimEnv as Env>::Disk>, StorageError> {
    let directory = Path::new(DIRECTORY);
    env.disk().create_directory(directory).await.expect("a directory can be made");
    env.disk().sync_directory(Path::new("/")).await.expect("its name can be made durable");
    TableWriter::create(env.disk(), directory, id, options).await
}

/// Writes a history as a table.
pub(super) async fn write(
    env: &SimEnv,
    history: &History,
    options: TableOptions,
) -> Result<Finished, StorageError> {
    write_as(env, ID, history, options).await
}

pub(super) async fn write_as(
    env: &SimEnv,
    id: TableId,
    history: &History,
    options: TableOptions,
) -> Result<Finished, StorageError> {
    let mut writer = create_as(env, id, options).await?;
    for ((user_key, version), (expires_at_ms, value)) in &history.entries {
        let Version { sequence, kind } = *version;
        let expires_at_ms = *expires_at_ms;
        writer.add(&Entry { user_key, sequence, kind, expires_at_ms, value }).await?;
    }
    for (start, end, sequence) in &history.tombstones {
        writer.add_range_tombstone(start, end, *sequence)?;
    }
    writer.finish().await
}

pub(super) async fn open(
    env: &SimEnv,
    cache: &BlockCache,
    options: ReadOptions,
) -> Result<SimTable, StorageError> {
    Table::open(env.disk(), Path::new(DIRECTORY), ID, cache, options).await
}

/// Options of any kind, some of them hardly sensible.
pub(super) fn draw_options(random: &mut RandomStream) -> TableOptions {
    fn one_of<T: Copy, const N: usize>(random: &mut RandomStream, of: [T; N]) -> T {
        of[random.below(N as u64) as usize]
    }
    TableOptions {
        block_bytes: one_of(random, [128, 200, 512, 1500, 4096, 4096, 20_000, 1 << 20]),
        partition_bytes: one_of(random, [64, 300, 2000, 16 << 10]),
        compression: one_of(
            random,
            [Compression::None, Compression::Lz4, Compression::Zstd { level: 3 }],
        ),
        filter_bits_per_key: one_of(random, [0, 1, 10]),
        prefix: one_of(
            random,
            [None, Some(PrefixExtractor::Length(2)), Some(PrefixExtractor::Delimiter(b'/'))],
        ),
        chunk_bytes: one_of(random, [4096, 16 << 10, 256 << 10]),
        writes_in_flight: 1 + random.below(4) as usize,
    }
}
