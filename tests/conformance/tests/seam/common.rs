//! Runs one case on every backend and in simulation, each time in a directory of its own.

use std::any::TypeId;
use std::future::Future;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use woodchuck_io::runtime::Backend;
use woodchuck_io::{Buffer, Disk, Durability, Env, File, Listener, Net, OpenMode, Program, Stream};
use woodchuck_sim::{Faults, SimEnv, World, WorldOptions};

pub(crate) use woodchuck_conformance::{
    BACKENDS, options, pattern_of, patterned, poll_once, skipped, start,
};

/// Worlds in which a case is simulated, if it says nothing else.
pub(crate) const ALL_SEEDS: u64 = 20;

/// Worlds for a case that moves many bytes.
pub(crate) const FEW_SEEDS: u64 = 4;

/// Simulated time within which a case ends.
const SIMULATED_LIMIT: Duration = Duration::from_secs(3600);

/// Far longer than a case takes over a kernel on the slowest machine. An operation whose end is
/// never reported keeps its shard for ever.
const HANG: Duration = Duration::from_secs(240);

/// Free bytes of a small disk, about: a filesystem keeps some for itself.
pub(crate) const SMALL_DISK_BYTES: u64 = 16 << 20;

/// Whether a case runs in a simulated world.
pub(crate) fn is_simulated<E: Env>(_: &E) -> bool {
    TypeId::of::<E>() == TypeId::of::<SimEnv>()
}

/// A directory that is removed when the case is over.
pub(crate) struct Scratch {
    directory: woodchuck_conformance::Scratch,
    mounted: bool,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let directory = woodchuck_conformance::Scratch::new(env!("CARGO_TARGET_TMPDIR"));
        Self { directory, mounted: false }
    }

    /// A directory on a small filesystem of its own. An error where that cannot be made.
    fn small() -> Result<Self, String> {
        let mut scratch = Self::new();
        let image = scratch.directory.path().join("image");
        let root = scratch.directory.path().join("mounted");
        std::fs::create_dir(&root).expect("a mount point");
        let file = std::fs::File::create(&image).expect("an image");
        // The journal, the inode tables and the bitmaps take the rest.
        file.set_len(SMALL_DISK_BYTES + (6 << 20)).expect("room for an image");
        let mut make = Command::new("mkfs.ext4");
        make.args(["-q", "-F", "-m", "0", "-b", "4096", "-J", "size=4", "-N", "64"]).arg(&image);
        succeed(&mut make)?;
        let mut mount = Command::new("mount");
        succeed(mount.args(["-t", "ext4", "-o", "loop"]).arg(&image).arg(&root))?;
        scratch.mounted = true;
        Ok(scratch)
    }

    /// Where a case may do what it likes.
    pub(crate) fn path(&self) -> PathBuf {
        let path = self.directory.path();
        if self.mounted { path.join("mounted") } else { path.to_path_buf() }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.mounted {
            let unmounted = succeed(Command::new("umount").arg(self.path()));
            if let Err(error) = unmounted {
                writeln!(std::io::stderr(), "left behind: {error}").ok();
            }
        }
    }
}

/// Runs a command. What it said, if it fails.
fn succeed(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {}", said.trim())) }
}

/// How many descriptors this process may have open, after it has asked for as many as it can get.
pub(crate) fn descriptors() -> usize {
    // Where this cannot be run there are as many as before.
    let _raised = succeed(Command::new("prlimit").args([
        format!("--pid={}", std::process::id()),
        format!("--nofile={}:", descriptor_limits().1),
    ]));
    descriptor_limits().0
}

/// How many descriptors this process may have open, and how many it may ask for.
fn descriptor_limits() -> (usize, usize) {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("a process has limits");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let numbers: Vec<usize> =
        line.expect("the limit of open files").split_whitespace().flat_map(str::parse).collect();
    let [soft, hard] = numbers[..] else { panic!("two limits of open files: {line:?}") };
    (soft, hard)
}

/// Runs a program to its end and fails if a shard panicked.
pub(crate) fn run<P: Program>(backend: Backend, shards: usize, program: P) {
    let Some(runtime) = start(backend, shards, program) else { return };
    assert_eq!(runtime.backend(), backend);
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let (over, watched) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        if watched.recv_timeout(HANG) == Err(RecvTimeoutError::Timeout) {
            writeln!(std::io::stderr(), "{name} on {backend} does not come to its end").ok();
            std::process::abort();
        }
    });
    let ended = runtime.join();
    drop(over);
    for ended in ended {
        match ended {
            Err(panic) if panic.message != "another shard panicked" => panic!("{backend}: {panic}"),
            _ => {}
        }
    }
}

/// Runs a program on a disk of its own that is nearly full from the beginning.
pub(crate) fn run_on_small_disk<P: Program>(
    backend: Backend,
    shards: usize,
    program: impl FnOnce(PathBuf) -> P,
) {
    match Scratch::small() {
        Ok(scratch) => run(backend, shards, program(scratch.path())),
        Err(error) => skipped(format_args!("{backend} on a small disk: {error}")),
    }
}

/// A world in which nothing goes wrong by itself.
pub(crate) fn quiet_world(seed: u64) -> World {
    World::with_options(WorldOptions { faults: Faults::none(), ..WorldOptions::new(seed) })
}

/// Runs a program to its end in worlds of `seeds` seeds, and fails if it panics in one of them or
/// does not end.
pub(crate) fn simulate<P: Program>(
    seeds: u64,
    shards: usize,
    free_bytes: Option<u64>,
    program: impl Fn(PathBuf) -> P,
) {
    for seed in 0..seeds {
        let world = quiet_world(seed);
        let machine = world.machine("machine");
        if let Some(bytes) = free_bytes {
            world.disk(machine).set_free_space(bytes);
        }
        world.start_program(machine, shards, program(PathBuf::from("/case")), |_, _| {});
        let running = world.clone();
        let ended = world.run_until(move || !running.is_running(machine), SIMULATED_LIMIT);
        assert!(ended, "seed {seed} has not ended; waiting: {:#?}", world.waiting());
    }
}

/// Defines the program of a case. The body runs on every shard.
macro_rules! program {
    (|$env:ident, $directory:ident| $body:block) => {
        #[derive(Clone)]
        struct Check(std::path::PathBuf);

        impl woodchuck_io::Program for Check {
            type Output = ();

            fn run<E: woodchuck_io::Env>(self, $env: E) -> impl Future<Output = ()> + 'static {
                #[allow(unused_variables, reason = "not every case has files")]
                let $directory = self.0;
                async move {
                    let stopping = std::pin::pin!($env.stopping());
                    let body = std::pin::pin!(async {
                        let made = woodchuck_io::Disk::create_directory($env.disk(), &$directory);
                        made.await.expect("a directory for the case");
                        $body
                    });
                    // Not to wait for a shard that has panicked.
                    let first = futures_util::future::select(body, stopping).await;
                    assert!(
                        matches!(first, futures_util::future::Either::Left(_)),
                        "another shard panicked"
                    );
                }
            }
        }
    };
}

/// Defines a case: a module with one test for each backend and one for the simulated world.
macro_rules! check {
    ($name:ident, $shards:expr, |$env:ident, $directory:ident| $body:block) => {
        check!($name, $shards, $crate::common::ALL_SEEDS, |$env, $directory| $body);
    };
    ($name:ident, $shards:expr, $seeds:expr, |$env:ident, $directory:ident| $body:block) => {
        mod $name {
            #[allow(unused_imports, reason = "cases use what they use")]
            use super::*;

            program!(|$env, $directory| $body);
            on_kernel!($shards);

            #[test]
            fn simulated() {
                $crate::common::simulate($seeds, $shards, None, Check);
            }
        }
    };
}

/// Defines a case that only a kernel can show: a module with one test for each backend.
macro_rules! kernel_check {
    ($name:ident, $shards:expr, |$env:ident, $directory:ident| $body:block) => {
        mod $name {
            #[allow(unused_imports, reason = "cases use what they use")]
            use super::*;

            program!(|$env, $directory| $body);
            on_kernel!($shards);
        }
    };
}

/// The tests of a case over the kernel.
macro_rules! on_kernel {
    ($shards:expr) => {
        #[test]
        fn uring() {
            let scratch = $crate::common::Scratch::new();
            let backend = woodchuck_io::runtime::Backend::Uring;
            $crate::common::run(backend, $shards, Check(scratch.path()));
        }

        #[test]
        fn posix() {
            let scratch = $crate::common::Scratch::new();
            let backend = woodchuck_io::runtime::Backend::Posix;
            $crate::common::run(backend, $shards, Check(scratch.path()));
        }

        #[cfg(feature = "glommio")]
        #[test]
        fn glommio() {
            let scratch = $crate::common::Scratch::new();
            let backend = woodchuck_io::runtime::Backend::Glommio;
            $crate::common::run(backend, $shards, Check(scratch.path()));
        }
    };
}

/// As `check!`, on a disk with no more than about
/// [`SMALL_DISK_BYTES`](crate::common::SMALL_DISK_BYTES) of room.
macro_rules! small_disk_check {
    ($name:ident, |$env:ident, $directory:ident| $body:block) => {
        mod $name {
            #[allow(unused_imports, reason = "cases use what they use")]
            use super::*;
            use $crate::common::{FEW_SEEDS, SMALL_DISK_BYTES, run_on_small_disk, simulate};

            program!(|$env, $directory| $body);

            #[test]
            fn uring() {
                run_on_small_disk(woodchuck_io::runtime::Backend::Uring, 1, Check);
            }

            #[test]
            fn posix() {
                run_on_small_disk(woodchuck_io::runtime::Backend::Posix, 1, Check);
            }

            #[cfg(feature = "glommio")]
            #[test]
            fn glommio() {
                run_on_small_disk(woodchuck_io::runtime::Backend::Glommio, 1, Check);
            }

            #[test]
            fn simulated() {
                simulate(FEW_SEEDS, 1, Some(SMALL_DISK_BYTES), Check);
            }
        }
    };
}

/// How far a future gets before it is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It is dropped before it was polled.
    Unpolled,
    /// It is polled once and then dropped.
    Polled,
    /// It is polled once, and dropped when what it waits for has happened, as far as time can tell.
    Due,
}

impl Stage {
    pub(crate) const ALL: [Self; 3] = [Self::Unpolled, Self::Polled, Self::Due];
}

/// Lets a future get to a stage and drops it. What it gave, if it completed by then.
pub(crate) async fn drop_at<E: Env, F: Future>(
    env: &E,
    stage: Stage,
    future: F,
) -> Option<F::Output> {
    let mut future = Box::pin(future);
    if stage == Stage::Unpolled {
        return None;
    }
    let output = poll_once(&mut future).await;
    if output.is_none() && stage == Stage::Due {
        env.sleep(A_WHILE).await;
    }
    output
}

/// Long enough for anything to happen that nothing holds up. Nothing relies on it having happened.
pub(crate) const A_WHILE: Duration = Duration::from_millis(10);

/// The numbers that fill the blocks of `bytes`.
pub(crate) fn patterns_of(bytes: &[u8]) -> Vec<Option<u64>> {
    bytes.chunks(BLOCK).map(pattern_of).collect()
}

/// Bytes in a block.
pub(crate) const BLOCK: usize = woodchuck_io::limits::BLOCK_BYTES;

/// A new, empty file.
pub(crate) async fn create<E: Env>(env: &E, path: &Path) -> <E::Disk as Disk>::File {
    env.disk().open(path, OpenMode::CreateNew).await.expect("created")
}

/// Writes whole blocks that are filled with a number.
pub(crate) async fn put<F: File>(file: &F, block: u64, blocks: usize, number: u64) {
    let buffer = patterned(blocks * BLOCK, number);
    let (result, _) = file.write_at(buffer, block * BLOCK as u64, Durability::Volatile).await;
    result.expect("written");
}

/// What a file holds from a block on, up to so many blocks.
pub(crate) async fn get<F: File>(file: &F, block: u64, blocks: usize) -> Buffer {
    let buffer = Buffer::with_capacity(blocks * BLOCK);
    let (result, buffer) = file.read_at(buffer, block * BLOCK as u64).await;
    assert_eq!(result.expect("read"), buffer.len());
    buffer
}

/// A port of this machine that is picked for whoever listens.
pub(crate) fn any() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

/// A stream of an environment.
pub(crate) type StreamOf<E> = <<E as Env>::Net as Net>::Stream;

/// The two ends of a new connection: who connected, and who accepted.
pub(crate) async fn pair<E: Env>(env: &E) -> (StreamOf<E>, StreamOf<E>) {
    pair_on(env, any()).await
}

/// As [`pair`], through this address.
pub(crate) async fn pair_on<E: Env>(env: &E, address: SocketAddr) -> (StreamOf<E>, StreamOf<E>) {
    let listener = env.net().listen(address).await.expect("listening");
    let local = listener.local_address();
    assert_ne!(local.port(), 0);
    let accepting = env.spawn("accept", async move { listener.accept().await });
    let client = env.net().connect(local).await.expect("connected");
    let (server, peer) = accepting.await.expect("accepted");
    assert_eq!(peer.ip(), local.ip());
    assert_ne!(peer.port(), local.port());
    (client, server)
}

/// All that arrives until the end.
pub(crate) async fn read_to_end<S: Stream>(stream: &S) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let (result, bytes) = stream.read(BytesMut::with_capacity(100_000)).await;
        assert_eq!(result.expect("read"), bytes.len());
        if bytes.is_empty() {
            return all;
        }
        all.extend_from_slice(&bytes);
    }
}

/// The next `count` bytes.
pub(crate) async fn read_exactly<S: Stream>(stream: &S, count: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < count {
        let room = BytesMut::with_capacity((count - all.len()).min(100_000));
        let (result, bytes) = stream.read(room).await;
        assert!(result.expect("read") > 0, "the end came after {} of {count} bytes", all.len());
        // A buffer may have more room than was asked for.
        all.extend_from_slice(&bytes);
    }
    all
}

/// Sends text.
pub(crate) async fn send<S: Stream>(stream: &S, text: &'static str) {
    stream.write(vec![Bytes::from_static(text.as_bytes())]).await.expect("sent");
}

/// Why nobody can connect to where somebody listened. A program that another case is starting has
/// the listener too for a moment, until it is executed.
pub(crate) async fn refusal<E: Env>(env: &E, address: SocketAddr) -> std::io::Error {
    for _ in 0..500 {
        if let Err(error) = env.net().connect(address).await {
            return error;
        }
        env.sleep(Duration::from_millis(10)).await;
    }
    panic!("somebody still listens at {address}");
}
