//! What the tests of the seam share. Three of them hold every backend to the promises of
//! `io/src/env.rs`, and what they start and write to is made here:
//!
//! - `seam`: one suite of cases, which the simulated world is held to as well;
//! - `torture`: everything at once, from a seed;
//! - `start_stop`: runtimes that end in every way leave nothing behind.
//!
//! They are a package of their own because the whole of a backend is compiled again for each
//! program that runs on it, and there are hundreds: without optimisation, which would take several
//! times as long as it saves.

use std::future::{Future, poll_fn};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use woodchuck_io::runtime::{Backend, Runtime, RuntimeOptions};
use woodchuck_io::{Buffer, Program};

/// A directory that is removed when the check is over.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one in the directory that `WOODCHUCK_TEST_DIRECTORY` names, or else in `usual`.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn new(usual: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let parent = std::env::var_os("WOODCHUCK_TEST_DIRECTORY")
            .map_or_else(|| PathBuf::from(usual), PathBuf::from);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("io-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a scratch directory");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Ends the process if a test makes no progress at all: an operation whose end is never reported
/// keeps its shard for ever, and nobody could say which test that was.
pub struct Watch(Arc<Mutex<String>>);

impl Watch {
    /// Starts to watch. The thread that does lives as long as the process.
    pub fn start() -> Self {
        let doing = Arc::new(Mutex::new(String::new()));
        let watched = Arc::clone(&doing);
        std::thread::spawn(move || {
            let mut before = String::new();
            loop {
                std::thread::sleep(Duration::from_secs(HANG_S));
                let now = watched.lock().expect("no panic with the lock held").clone();
                if now == before {
                    writeln!(std::io::stderr(), "it does not come to its end: {now}").ok();
                    std::process::abort();
                }
                before = now;
            }
        });
        Self(doing)
    }

    /// Says what is being done, which is something else each time.
    pub fn begin(&self, doing: String) {
        *self.0.lock().expect("no panic with the lock held") = doing;
    }
}

/// Far longer than what is watched takes on the slowest machine.
const HANG_S: u64 = 120;

/// What this process has that a runtime must give back.
#[derive(Debug, PartialEq, Eq)]
pub struct Held {
    /// What each open descriptor is.
    descriptors: Vec<String>,
    /// The names of its threads.
    threads: Vec<String>,
    buffers: usize,
}

impl Held {
    /// What it has now. Nothing else may run in this process meanwhile.
    pub fn now() -> Self {
        let directory = std::fs::read_dir("/proc/self/fd").expect("a process has descriptors");
        // The listing's own is among them, each time.
        let targets = directory.flatten().map(|entry| std::fs::read_link(entry.path()));
        let mut descriptors: Vec<_> =
            targets.flatten().map(|target| kind_of(&target.to_string_lossy())).collect();
        descriptors.sort();
        let directory = std::fs::read_dir("/proc/self/task").expect("a process has threads");
        let names = directory.flatten().map(|entry| entry.path().join("comm"));
        let mut threads: Vec<_> =
            names.flat_map(std::fs::read_to_string).map(|name| name.trim().to_owned()).collect();
        threads.sort();
        Self { descriptors, threads, buffers: woodchuck_io::buffers_in_use() }
    }

    /// What is left, as it is due, of what it had and `shards` shards of this backend: glommio
    /// leaks the eventfd of each of its executors, and nothing else.
    #[must_use]
    pub fn and_known_leaks(mut self, backend: Backend, shards: usize) -> Self {
        if backend == Backend::Glommio {
            self.descriptors.extend(std::iter::repeat_n("anon_inode:eventfd".to_owned(), shards));
            self.descriptors.sort();
        }
        self
    }

    /// Fails unless the process comes to have again what it had then. The kernel takes a moment
    /// to end threads that have been joined, and its own that worked for a ring.
    pub fn check_nothing_is_left(&self, context: &str) {
        let now = await_what(|now| now == self);
        assert_eq!(*self, now, "something leaked: {context}");
    }

    /// As [`check_nothing_is_left`](Self::check_nothing_is_left), but `count` more open files whose
    /// paths have `name` in them are due.
    pub fn check_only_files_are_left(&self, name: &str, count: usize, context: &str) {
        let split = |held: &Self| {
            let (files, descriptors) =
                held.descriptors.iter().cloned().partition(|path| path.contains(name));
            let files: Vec<String> = files;
            let (threads, buffers) = (held.threads.clone(), held.buffers);
            (files.len(), Self { descriptors, threads, buffers })
        };
        let (files, others) = split(self);
        let now = await_what(|now| split(now) == (files + count, split(self).1));
        assert_eq!((files + count, others), split(&now), "something else leaked: {context}");
    }
}

/// What this process has as soon as `due` says so, or after ten seconds.
fn await_what(due: impl Fn(&Held) -> bool) -> Held {
    for _ in 0..2000 {
        let now = Held::now();
        if due(&now) {
            return now;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Held::now()
}

/// What a descriptor is, without what tells it from others of its kind.
fn kind_of(target: &str) -> String {
    let is_number = |character: char| character.is_ascii_digit() || "[]".contains(character);
    if target.starts_with('/') { target.to_owned() } else { target.replace(is_number, "") }
}

/// Tells loudly what cannot be checked here: past what the harness keeps to itself of tests that
/// pass.
pub fn skipped(what: impl std::fmt::Display) {
    static SKIPPED: AtomicU32 = AtomicU32::new(0);
    let number = 1 + SKIPPED.fetch_add(1, Ordering::Relaxed);
    writeln!(std::io::stderr(), "skipped: {what} ({number} so far)").ok();
}

/// The backends of this build.
pub const BACKENDS: &[Backend] = &[
    Backend::Uring,
    Backend::Posix,
    #[cfg(feature = "glommio")]
    Backend::Glommio,
];

/// Options for a small, unpinned runtime.
pub fn options(backend: Backend, shards: usize) -> RuntimeOptions {
    RuntimeOptions { shards, backend, pin: false, ..RuntimeOptions::default() }
}

/// Starts a runtime; None, and a word about it, where this backend is refused.
pub fn start<P: Program>(
    backend: Backend,
    shards: usize,
    program: P,
) -> Option<Runtime<P::Output>> {
    match Runtime::start(options(backend, shards), program) {
        Ok(runtime) => Some(runtime),
        Err(error) if backend == Backend::Uring || error.kind() == ErrorKind::Unsupported => {
            skipped(error);
            None
        }
        Err(error) => panic!("{backend} does not start: {error}"),
    }
}

/// Polls a future once, and drops it if that was not enough.
pub async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

/// A buffer whose every eight bytes are `number`.
pub fn patterned(length: usize, number: u64) -> Buffer {
    let mut buffer = Buffer::zeroed(length);
    // Like the comparison below, one call for megabytes, not one for every eight bytes.
    buffer.copy_from_slice(&number.to_le_bytes().repeat(length / 8));
    buffer
}

/// The number that fills `bytes`, if one does.
pub fn pattern_of(bytes: &[u8]) -> Option<u64> {
    let first = bytes.first_chunk::<8>()?;
    // Each eight bytes are those before them.
    let same = bytes[8..] == bytes[..bytes.len() - 8];
    same.then(|| u64::from_le_bytes(*first))
}
