//! A thousand runtimes that start and end, in good order and otherwise, leave nothing behind.
//!
//! One test, because it counts what the whole process has: descriptors, threads, buffers, and
//! roughly memory. Futures that are leaked keep what they hold themselves, here a file each; what
//! their shard had must not stay with them.

use std::cell::RefCell;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use woodchuck_conformance::{BACKENDS, Held, Scratch, Watch, patterned, poll_once, start};
use woodchuck_io::limits::MAILBOX_PARCELS;
use woodchuck_io::runtime::{Backend, Runtime};
use woodchuck_io::{
    Buffer, Disk, Durability, Env, File, Group, Listener, Mesh, Net, OpenMode, Program, Stream,
};

/// Cycles of a backend with each number of shards. Glommio leaks a descriptor with each of its
/// shards, of which a process has a thousand.
fn cycles(backend: Backend) -> usize {
    if backend == Backend::Glommio { 80 } else { 250 }
}

/// What a leaked file is called.
const FORGOTTEN: &str = "forgotten";

/// How a runtime's life goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// The program returns at once.
    Short,
    /// Everything is in flight when the program returns.
    Busy,
    /// The last shard panics while everything is in flight; the others are stopped by that.
    Panic,
    /// A waker panics when it is used, among completions of other operations.
    PanickingWaker,
    /// Futures in flight are leaked.
    Forgotten,
    /// Futures are dropped when the thread ends, after their shard, one of them polled again.
    Late,
    /// Another thread uses wakers all the time.
    WokenByOthers,
    /// Nobody waits for the runtime, and its stopper lives on.
    Dropped,
}

const LIVES: [Life; 8] = [
    Life::Short,
    Life::Busy,
    Life::Panic,
    Life::PanickingWaker,
    Life::Forgotten,
    Life::Late,
    Life::WokenByOthers,
    Life::Dropped,
];

/// Where leaked futures are, so that a leak checker finds them again.
static LEAKED: Mutex<Vec<usize>> = Mutex::new(Vec::new());

type Kept = Pin<Box<dyn Future<Output = ()>>>;

/// Drops what it holds when its thread ends, after it has polled it once more.
struct UntilTheThreadEnds(RefCell<Vec<Kept>>);

impl Drop for UntilTheThreadEnds {
    fn drop(&mut self) {
        for future in self.0.get_mut() {
            let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending(), "an operation came to its end after its shard");
        }
    }
}

thread_local! {
    static LATE: UntilTheThreadEnds = const { UntilTheThreadEnds(RefCell::new(Vec::new())) };
}

/// Panics when it is used.
struct Panicking;

impl Wake for Panicking {
    fn wake(self: Arc<Self>) {
        panic!("a waker, on purpose");
    }
}

#[derive(Clone)]
struct Cycle {
    life: Life,
    directory: PathBuf,
    /// Wakers for another thread.
    wakers: Arc<Mutex<Vec<Waker>>>,
    /// Shards that have everything in flight.
    busy: Arc<AtomicUsize>,
}

impl Program for Cycle {
    type Output = ();

    async fn run<E: Env>(self, env: E) {
        let last = env.mesh().shard() + 1 == env.mesh().shards();
        match self.life {
            Life::Short => {}
            Life::Busy => be_busy(&env, &self.directory).await,
            Life::Dropped => {
                be_busy(&env, &self.directory).await;
                self.busy.fetch_add(1, Ordering::Release);
                env.stopping().await;
            }
            Life::Panic => {
                be_busy(&env, &self.directory).await;
                if last {
                    env.spawn("panic", async { panic!("a task, on purpose") }).detach();
                    std::future::pending::<()>().await;
                }
                env.stopping().await;
            }
            Life::PanickingWaker => {
                let file = new_file(&env, &self.directory, "wakers").await;
                let waker = Waker::from(Arc::new(Panicking));
                let mut writes = Vec::new();
                for block in 0..32 {
                    let write =
                        file.write_at(patterned(4096, block), block * 4096, Durability::Volatile);
                    let mut write = Box::pin(write);
                    assert!(write.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                    writes.push(write);
                }
                std::future::pending::<()>().await;
            }
            Life::Forgotten => forget_futures(&env, &self.directory).await,
            Life::Late => keep_futures(&env, &self.directory).await,
            Life::WokenByOthers => {
                be_busy(&env, &self.directory).await;
                for _ in 0..30 {
                    let (held, wakers) = (env.clone(), Arc::clone(&self.wakers));
                    let task = std::future::poll_fn(move |context| {
                        let _held = &held;
                        let mut wakers = wakers.lock().expect("no panic with the lock held");
                        wakers.push(context.waker().clone());
                        // The other thread need not know old ones.
                        let length = wakers.len();
                        drop(wakers.drain(..length.saturating_sub(100)));
                        Poll::<()>::Pending
                    });
                    env.spawn("woken", task).detach();
                }
                env.sleep(Duration::from_micros(300)).await;
            }
        }
    }
}

async fn new_file<E: Env>(
    env: &E,
    directory: &std::path::Path,
    name: &str,
) -> <E::Disk as Disk>::File {
    let path = directory.join(format!("{name}-{}", env.mesh().shard()));
    env.disk().open(&path, OpenMode::CreateNew).await.expect("created")
}

/// Leaves one of everything in flight.
async fn be_busy<E: Env>(env: &E, directory: &std::path::Path) {
    let file = new_file(env, directory, "busy").await;
    for block in 0..8 {
        let file = file.clone();
        let write = async move {
            drop(file.write_at(patterned(16384, 1), block * 16384, Durability::Durable).await);
            drop(file.read_at(Buffer::with_capacity(16384), block * 16384).await);
            drop(file.sync_data().await);
        };
        env.spawn("file", write).detach();
    }
    // More than the group may have in flight.
    let background = env.in_group(Group::Compaction);
    let table = new_file(&background, directory, "table").await;
    let reads = async move {
        let read = |_| table.read_at(Buffer::with_capacity(1 << 20), 0);
        drop(futures_util::future::join_all((0..16).map(read)).await);
    };
    background.spawn("compaction", reads).detach();
    let any = "127.0.0.1:0".parse().expect("an address");
    let listener = env.net().listen(any).await.expect("listening");
    let address = listener.local_address();
    let connecting = env.clone();
    let client = async move {
        let stream = connecting.net().connect(address).await.expect("connected");
        // More than the sockets hold.
        let segments = vec![Bytes::from(vec![7; 8 << 20]), Bytes::from_static(b"the last")];
        let read = stream.read(BytesMut::with_capacity(100));
        futures_util::future::join(stream.write(segments), read).await.0.ok();
    };
    env.spawn("client", client).detach();
    let accepting = env.clone();
    let server = async move {
        let mut streams = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream.read(BytesMut::with_capacity(100)).await);
            streams.push(stream);
            accepting.yield_now().await;
        }
    };
    env.spawn("server", server).detach();
    let mesh = env.mesh().clone();
    let full = async move {
        for number in 0..MAILBOX_PARCELS as u64 + 2 {
            mesh.send((mesh.shard() + 1) % mesh.shards(), Box::new(patterned(4096, number))).await;
        }
    };
    env.spawn("mail", full).detach();
    let sleeping = env.clone();
    env.spawn("sleep", async move { sleeping.sleep(Duration::from_secs(3600)).await }).detach();
    let stopping = env.clone();
    env.spawn("stopping", async move { stopping.stopping().await }).detach();
    for _ in 0..4 {
        env.yield_now().await;
    }
}

/// Futures in flight that only the end of their shard can end, or that soon end by themselves.
async fn futures_in_flight<E: Env>(env: &E, file: &<E::Disk as Disk>::File) -> Vec<Kept> {
    let (write, unpolled) = (file.clone(), file.clone());
    let read = file.clone();
    let (sleeping, mesh, stopping) = (env.clone(), env.mesh().clone(), env.clone());
    let sending = mesh.clone();
    let mut futures: Vec<Kept> = vec![
        Box::pin(async move {
            drop(write.write_at(patterned(65536, 1), 0, Durability::Durable).await);
            std::future::pending().await
        }),
        Box::pin(async move {
            drop(read.read_at(Buffer::with_capacity(4096), 0).await);
            std::future::pending().await
        }),
        Box::pin(async move { sleeping.sleep(Duration::from_secs(3600)).await }),
        Box::pin(async move {
            drop(mesh.receive().await);
            std::future::pending().await
        }),
        Box::pin(async move {
            stopping.stopping().await;
            std::future::pending().await
        }),
        // The last one waits for room.
        Box::pin(async move {
            for number in 0..=MAILBOX_PARCELS as u64 {
                sending.send(sending.shard(), Box::new(patterned(4096, number))).await;
            }
            std::future::pending().await
        }),
    ];
    for future in &mut futures {
        poll_once(future).await;
    }
    futures.push(Box::pin(async move {
        drop(unpolled.write_at(Buffer::zeroed(4096), 0, Durability::Durable).await);
        std::future::pending().await
    }));
    futures
}

/// Leaks futures, at several stages.
async fn forget_futures<E: Env>(env: &E, directory: &std::path::Path) {
    let file = new_file(env, directory, FORGOTTEN).await;
    let futures = futures_in_flight(env, &file).await;
    // What was never polled owns what it was given, as any value that is leaked does.
    let polled = futures.len() - 1;
    for future in futures.into_iter().take(polled) {
        let leaked: &mut Kept = Box::leak(Box::new(future));
        LEAKED.lock().expect("no panic with the lock held").push((&raw const *leaked).addr());
    }
    env.yield_now().await;
}

/// Keeps futures until the thread ends, at several stages.
async fn keep_futures<E: Env>(env: &E, directory: &std::path::Path) {
    let file = new_file(env, directory, "late").await;
    let futures = futures_in_flight(env, &file).await;
    LATE.with(|late| late.0.borrow_mut().extend(futures));
}

/// How the runtime must end, for its last shard.
fn check_end(life: Life, ended: &[Result<(), woodchuck_io::runtime::ShardPanic>]) {
    let panics = ended.iter().filter_map(|ended| ended.as_ref().err());
    let messages: Vec<&str> = panics.map(|panic| panic.message.as_str()).collect();
    match life {
        Life::Panic => assert_eq!(messages, ["a task, on purpose"]),
        Life::PanickingWaker => assert_eq!(messages, vec!["a waker, on purpose"; ended.len()]),
        _ => assert!(messages.is_empty(), "{messages:?}"),
    }
}

fn cycle(backend: Backend, shards: usize, life: Life) -> Option<()> {
    let scratch = Scratch::new(env!("CARGO_TARGET_TMPDIR"));
    let wakers = Arc::new(Mutex::new(Vec::<Waker>::new()));
    let over = Arc::new(AtomicBool::new(false));
    let other = (life == Life::WokenByOthers).then(|| {
        let (wakers, over) = (Arc::clone(&wakers), Arc::clone(&over));
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let known = wakers.lock().expect("no panic with the lock held").clone();
                known.iter().for_each(Waker::wake_by_ref);
            }
        })
    });
    let busy = Arc::new(AtomicUsize::new(0));
    let directory = scratch.path().to_path_buf();
    let program = Cycle { life, directory, wakers, busy: Arc::clone(&busy) };
    let runtime: Option<Runtime<()>> = start(backend, shards, program);
    let started = runtime.is_some();
    if let Some(runtime) = runtime {
        if life == Life::Dropped {
            while busy.load(Ordering::Acquire) < shards {
                std::thread::yield_now();
            }
            let stopper = runtime.stopper();
            drop(runtime);
            // Its descriptors are not the stopper's.
            LATE_STOPPERS.lock().expect("no panic with the lock held").push(stopper);
        } else {
            check_end(life, &runtime.join());
        }
    }
    over.store(true, Ordering::Relaxed);
    if let Some(other) = other {
        other.join().expect("no panic");
    }
    started.then_some(())
}

/// Stoppers that outlive what they could stop.
static LATE_STOPPERS: Mutex<Vec<woodchuck_io::runtime::Stopper>> = Mutex::new(Vec::new());

fn memory_maps() -> usize {
    std::fs::read_to_string("/proc/self/maps").expect("a process has memory").lines().count()
}

/// Panics on purpose are not told.
fn hush() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic.payload_as_str().unwrap_or_default();
        if !message.ends_with("on purpose") {
            usual(panic);
        }
    }));
}

#[test]
fn a_thousand_cycles_leak_nothing() {
    hush();
    let watch = Watch::start();
    for &backend in BACKENDS {
        for shards in 1..=2 {
            let mut maps = 0;
            for number in 0..cycles(backend) {
                let life = LIVES[number % LIVES.len()];
                watch.begin(format!("cycle {number}, {life:?}, {shards} shards on {backend}"));
                let before = Held::now().and_known_leaks(backend, shards);
                if cycle(backend, shards, life).is_none() {
                    break;
                }
                let context = format!("{life:?}, {shards} shards on {backend}");
                match life {
                    Life::Forgotten => {
                        before.check_only_files_are_left(FORGOTTEN, shards, &context)
                    }
                    _ => before.check_nothing_is_left(&context),
                }
                LATE_STOPPERS.lock().expect("no panic with the lock held").clear();
                // The first cycles fill caches of thread stacks and of memory.
                if number == cycles(backend) / 5 {
                    maps = memory_maps();
                }
            }
            let grown = memory_maps().saturating_sub(maps);
            println!("{backend}, {shards} shards: {maps} memory maps, later {grown} more");
            assert!(
                maps == 0 || grown < cycles(backend) / 4,
                "{grown} memory maps more than {maps}"
            );
        }
    }
}
