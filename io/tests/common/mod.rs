//! Runs one check on every backend, in a directory of its own.

#![allow(dead_code, reason = "every test file uses its own part of this")]
#![allow(unreachable_pub, reason = "shared by test files, each of which is its own crate")]
#![allow(unused_macros, reason = "as above")]

use std::future::{Future, poll_fn};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;

use woodchuck_io::runtime::{Backend, Runtime, RuntimeOptions};
use woodchuck_io::{Buffer, Program};

/// A directory that is removed when the check is over.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let parent = std::env::var_os("WOODCHUCK_TEST_DIRECTORY")
            .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("io-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a scratch directory");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

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
        Err(error) if backend == Backend::Uring => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{backend} does not start: {error}"),
    }
}

/// Runs a program to its end and fails if a shard panicked.
pub fn run<P: Program>(backend: Backend, shards: usize, program: P) {
    let Some(runtime) = start(backend, shards, program) else { return };
    assert_eq!(runtime.backend(), backend);
    for ended in runtime.join() {
        match ended {
            Err(panic) if panic.message != "another shard panicked" => panic!("{backend}: {panic}"),
            _ => {}
        }
    }
}

/// Defines a check: a module with one test for each backend. The body runs on every shard.
#[macro_export]
macro_rules! check {
    ($name:ident, $shards:expr, |$env:ident, $directory:ident| $body:block) => {
        mod $name {
            #[allow(unused_imports, reason = "checks use what they use")]
            use super::*;

            #[derive(Clone)]
            struct Check(std::path::PathBuf);

            impl woodchuck_io::Program for Check {
                type Output = ();

                fn run<E: woodchuck_io::Env>(self, $env: E) -> impl Future<Output = ()> + 'static {
                    #[allow(unused_variables, reason = "not every check has files")]
                    let $directory = self.0;
                    async move {
                        let stopping = std::pin::pin!($env.stopping());
                        let body = std::pin::pin!(async { $body });
                        // Not to wait for a shard that has panicked.
                        let first = futures_util::future::select(body, stopping).await;
                        assert!(
                            matches!(first, futures_util::future::Either::Left(_)),
                            "another shard panicked"
                        );
                    }
                }
            }

            #[test]
            fn uring() {
                let scratch = $crate::common::Scratch::new();
                let backend = woodchuck_io::runtime::Backend::Uring;
                $crate::common::run(backend, $shards, Check(scratch.path().to_path_buf()));
            }

            #[test]
            fn posix() {
                let scratch = $crate::common::Scratch::new();
                let backend = woodchuck_io::runtime::Backend::Posix;
                $crate::common::run(backend, $shards, Check(scratch.path().to_path_buf()));
            }
        }
    };
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
    for word in buffer.chunks_exact_mut(8) {
        word.copy_from_slice(&number.to_le_bytes());
    }
    buffer
}

/// The number that fills `bytes`, if one does.
pub fn pattern_of(bytes: &[u8]) -> Option<u64> {
    let first = bytes.first_chunk::<8>()?;
    let same = bytes.chunks_exact(8).all(|word| word == first);
    same.then(|| u64::from_le_bytes(*first))
}
