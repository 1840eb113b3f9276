//! Production's runtime: one thread a shard, each with its own driver and environment.
//!
//! ```
//! use woodchuck_io::runtime::{Runtime, RuntimeOptions};
//! use woodchuck_io::{Env, Mesh, Program};
//!
//! #[derive(Clone)]
//! struct Greeting;
//!
//! impl Program for Greeting {
//!     type Output = usize;
//!
//!     fn run<E: Env>(self, env: E) -> impl Future<Output = usize> + 'static {
//!         async move { env.mesh().shard() }
//!     }
//! }
//!
//! # fn main() -> std::io::Result<()> {
//! let options = RuntimeOptions { shards: 2, pin: false, ..RuntimeOptions::from_environment()? };
//! let outputs = Runtime::start(options, Greeting)?.join();
//! let outputs: Result<Vec<usize>, _> = outputs.into_iter().collect();
//! assert_eq!(outputs.expect("no shard panicked"), [0, 1]);
//! # Ok(())
//! # }
//! ```

use std::any::Any;
use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use crate::executor::Executor;
use crate::limits::SHARDS;
use crate::native::calls;
use crate::native::core::Core;
use crate::native::driver::{Driver, DriverSetup};
use crate::native::env::NativeEnv;
use crate::native::process::Process;
use crate::posix::Posix;
use crate::uring::{self, Ring};
use crate::{Group, Program};

/// The environment variable that chooses the backend: `automatic`, `uring`, `posix` or `glommio`.
pub const BACKEND_VARIABLE: &str = "WOODCHUCK_IO";

/// How shards reach the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// [`Uring`](Self::Uring) if the kernel allows it, else [`Posix`](Self::Posix) and one line in
    /// the log.
    #[default]
    Automatic,
    /// One io_uring a shard.
    Uring,
    /// Ordinary system calls on helper threads, and epoll.
    Posix,
    /// Files and sockets of the runtime glommio, to be measured against. Starts only in a build with
    /// the feature `glommio`; `Unsupported` in any other.
    Glommio,
}

impl Backend {
    /// What [`BACKEND_VARIABLE`] says; [`Automatic`](Self::Automatic) if it is not set or empty.
    /// `InvalidInput` if it says anything else than a backend's name.
    pub fn from_environment() -> io::Result<Self> {
        match std::env::var_os(BACKEND_VARIABLE) {
            None => Ok(Self::default()),
            Some(value) if value.is_empty() => Ok(Self::default()),
            Some(value) => value.to_string_lossy().parse(),
        }
    }
}

impl FromStr for Backend {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        match text {
            "automatic" => Ok(Self::Automatic),
            "uring" => Ok(Self::Uring),
            "posix" => Ok(Self::Posix),
            "glommio" => Ok(Self::Glommio),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "{BACKEND_VARIABLE} is \"{text}\"; it can be \"uring\", \"posix\", \
                     \"glommio\" or \"automatic\""
                ),
            )),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Automatic => "automatic",
            Self::Uring => "uring",
            Self::Posix => "posix",
            Self::Glommio => "glommio",
        })
    }
}

/// When the kernel does its share of completing an operation on a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompletionMode {
    /// Whenever the shard makes a system call (`COOP_TASKRUN`).
    #[default]
    Cooperative,
    /// When the shard asks for completions, and only then (`DEFER_TASKRUN`).
    Deferred,
}

/// What a shard that has nothing to do does until it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdlePolicy {
    /// Polls if its latest waits were short enough that sleeping would have cost more than it
    /// saved; else sleeps at once, and tries now and then whether polling makes the waits short.
    #[default]
    Adaptive,
    /// Polls for a while, then sleeps.
    Spin,
    /// Sleeps at once.
    Sleep,
}

/// How to start a [`Runtime`].
#[derive(Clone, Debug)]
pub struct RuntimeOptions {
    /// How many shards, and so threads: 1 to [`SHARDS`].
    pub shards: usize,
    /// How shards reach the kernel.
    pub backend: Backend,
    /// Whether each shard is bound to one CPU of those the process may use, in turn.
    pub pin: bool,
    /// How rings complete; nothing to the other backends.
    pub completion_mode: CompletionMode,
    /// What idle shards do.
    pub idle_policy: IdlePolicy,
}

impl Default for RuntimeOptions {
    /// One pinned shard for each CPU the process may use.
    fn default() -> Self {
        let cpus = calls::allowed_cpus().map_or(1, |set| calls::cpus_in(&set).len());
        Self {
            shards: cpus.clamp(1, SHARDS),
            backend: Backend::default(),
            pin: true,
            completion_mode: CompletionMode::default(),
            idle_policy: IdlePolicy::default(),
        }
    }
}

impl RuntimeOptions {
    /// The default, with the backend that [`BACKEND_VARIABLE`] names. `InvalidInput` if it names
    /// none.
    pub fn from_environment() -> io::Result<Self> {
        Ok(Self { backend: Backend::from_environment()?, ..Self::default() })
    }
}

/// Asks the shards of a [`Runtime`] to stop. May be used from any thread, one that handles signals
/// included, and outlive the runtime.
#[derive(Clone)]
pub struct Stopper {
    process: Arc<Process>,
}

impl Stopper {
    /// Makes [`Env::stopping`](crate::Env::stopping) complete on every shard.
    pub fn stop(&self) {
        self.process.stop();
    }
}

impl fmt::Debug for Stopper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Stopper").field("stopping", &self.process.is_stopping()).finish()
    }
}

/// A shard ended by a panic in one of its tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardPanic {
    /// Which shard.
    pub shard: usize,
    /// What the panic said.
    pub message: String,
}

impl fmt::Display for ShardPanic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "shard {} panicked: {}", self.shard, self.message)
    }
}

impl std::error::Error for ShardPanic {}

/// Running shards. Dropping it asks them to stop and does not wait; [`join`](Self::join) waits and
/// does not ask.
#[derive(Debug)]
pub struct Runtime<T> {
    threads: Vec<JoinHandle<Option<Result<T, ShardPanic>>>>,
    stopper: Stopper,
    backend: Backend,
}

impl<T: Send + 'static> Runtime<T> {
    /// Starts one thread a shard and runs `program` on each.
    ///
    /// Fails if the options make no sense, if the system has no room for the threads, or if
    /// [`Backend::Uring`] or [`Backend::Glommio`] was asked for and is refused. A shard that panics
    /// asks the others to stop; what the process does then is the caller's to say, after [`join`](Self::join).
    pub fn start<P: Program<Output = T>>(options: RuntimeOptions, program: P) -> io::Result<Self> {
        if !(1..=SHARDS).contains(&options.shards) {
            let message = format!("{} shards were asked for; 1 to {SHARDS} can be", options.shards);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        match options.backend {
            Backend::Posix => return launch::<Posix, P>(&options, program),
            Backend::Glommio => return launch_glommio(&options, program),
            Backend::Automatic | Backend::Uring => {}
        }
        let launched = uring::probe(options.completion_mode)
            .and_then(|()| launch::<Ring, P>(&options, program.clone()));
        match launched {
            Err(error) if options.backend == Backend::Automatic => {
                tracing::warn!(
                    %error,
                    "io_uring is refused here, so ordinary system calls are used: expect less \
                     throughput, higher latency and {} more threads a shard. Allow io_uring \
                     (Linux 6.1 or later, kernel.io_uring_disabled = 0, a seccomp profile that \
                     lets it through) or set {BACKEND_VARIABLE}=posix to silence this",
                    crate::limits::HELPER_THREADS
                );
                launch::<Posix, P>(&options, program)
            }
            Err(error) => Err(io::Error::new(
                error.kind(),
                format!(
                    "io_uring was asked for and is refused: {error}. It needs Linux 6.1 or later, \
                     kernel.io_uring_disabled = 0 and, in a container, a seccomp profile that \
                     lets it through. Or set {BACKEND_VARIABLE}=posix to do without"
                ),
            )),
            launched => launched,
        }
    }

    /// How the shards reach the kernel: never [`Backend::Automatic`].
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// A handle that asks the shards to stop.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits until every shard is done, and gives what each returned, by shard.
    #[must_use = "a panic of a shard is in here"]
    pub fn join(mut self) -> Vec<Result<T, ShardPanic>> {
        let threads = std::mem::take(&mut self.threads);
        let ended = threads.into_iter().enumerate().map(|(shard, thread)| {
            let message = match thread.join() {
                Ok(Some(result)) => return result,
                Ok(None) => "it never began".to_owned(),
                Err(payload) => describe(&*payload),
            };
            Err(ShardPanic { shard, message })
        });
        let ended = ended.collect();
        // Not `drop`, which asks to stop: nobody is left to ask.
        ended
    }
}

impl<T> Drop for Runtime<T> {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.stopper.stop();
        }
    }
}

/// One shard's way to its thread.
struct Launch<P> {
    process: Arc<Process>,
    shard: usize,
    cpu: Option<usize>,
    setup: DriverSetup,
    idle_policy: IdlePolicy,
    program: P,
    /// Says whether the driver could be made.
    made: mpsc::Sender<io::Result<()>>,
    /// Gives the word to begin; closed without it if another shard's driver could not be made.
    begin: mpsc::Receiver<()>,
}

fn launch<D: Driver, P: Program>(
    options: &RuntimeOptions,
    program: P,
) -> io::Result<Runtime<P::Output>> {
    let process = Arc::new(Process::new(options.shards)?);
    let allowed = calls::allowed_cpus().ok();
    let cpus = match &allowed {
        Some(set) if options.pin => calls::cpus_in(set),
        _ => Vec::new(),
    };
    let (made, made_by_all) = mpsc::channel();
    let mut starters = Vec::new();
    let mut runtime = Runtime {
        threads: Vec::new(),
        stopper: Stopper { process: Arc::clone(&process) },
        backend: D::BACKEND,
    };
    for shard in 0..options.shards {
        let (start, begin) = mpsc::channel();
        let name = format!("shard-{shard}");
        let setup = DriverSetup {
            doorbell: Arc::clone(&process.doorbells[shard]),
            name: name.clone(),
            allowed,
            completion_mode: options.completion_mode,
        };
        let launch = Launch {
            process: Arc::clone(&process),
            shard,
            cpu: (!cpus.is_empty()).then(|| cpus[shard % cpus.len()]),
            setup,
            idle_policy: options.idle_policy,
            program: program.clone(),
            made: made.clone(),
            begin,
        };
        let thread = std::thread::Builder::new().name(name);
        runtime.threads.push(thread.spawn(move || run_shard::<D, P>(launch))?);
        starters.push(start);
    }
    drop(made);
    for _ in 0..options.shards {
        let made = made_by_all.recv().unwrap_or_else(|_| Err(io::Error::other("a thread died")));
        if let Err(error) = made {
            // Without the word to begin, the threads that wait for it end.
            drop(starters);
            drop(runtime.join());
            return Err(calls::during("starting a shard")(error));
        }
    }
    for start in starters {
        // A thread that is gone is reported by `join`.
        start.send(()).ok();
    }
    tracing::debug!(backend = %runtime.backend, shards = options.shards, "shards run");
    Ok(runtime)
}

#[cfg(feature = "glommio")]
fn launch_glommio<P: Program>(
    options: &RuntimeOptions,
    program: P,
) -> io::Result<Runtime<P::Output>> {
    launch::<crate::glommio::Glommio, P>(options, program)
}

#[cfg(not(feature = "glommio"))]
fn launch_glommio<P: Program>(
    _options: &RuntimeOptions,
    _program: P,
) -> io::Result<Runtime<P::Output>> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        format!(
            "the backend \"glommio\" was asked for, and is not in this build: it is built with the \
             feature \"glommio\" of woodchuck-io. Without it there are \"uring\" and \"posix\"; see \
             {BACKEND_VARIABLE}"
        ),
    ))
}

/// The life of a shard's thread. None if it never began.
fn run_shard<D: Driver, P: Program>(launch: Launch<P>) -> Option<Result<P::Output, ShardPanic>> {
    let Launch { process, shard, cpu, setup, idle_policy, program, made, begin } = launch;
    if let Some(cpu) = cpu
        && let Err(error) = calls::bind_to_cpus(&calls::one_cpu(cpu))
    {
        tracing::warn!(shard, cpu, %error, "the shard cannot be bound to its CPU and runs on any");
    }
    let driver = match D::new(setup) {
        Ok(driver) => driver,
        Err(error) => {
            drop(made.send(Err(error)));
            return None;
        }
    };
    drop(made.send(Ok(())));
    begin.recv().ok()?;

    let _leaving = Leaving(Arc::clone(&process));
    // Released only when nothing is in flight any more; see below.
    let core = ManuallyDrop::new(Core::new(Arc::clone(&process), shard, driver, idle_policy));
    let env = NativeEnv::new(&core, Group::Foreground);
    let ran = catch_unwind(AssertUnwindSafe(|| core.run(program.run(env))));
    if ran.is_err() {
        process.stop();
    }
    let erased = catch_unwind(AssertUnwindSafe(|| erase_all(&core.executor)));
    match catch_unwind(AssertUnwindSafe(|| core.drain())) {
        Ok(Ok(())) => drop(ManuallyDrop::<Rc<Core<D>>>::into_inner(core)),
        Ok(Err(error)) => {
            tracing::error!(shard, %error, "operations in flight cannot be awaited; memory leaks");
        }
        Err(_) => tracing::error!(shard, "operations in flight cannot be awaited; memory leaks"),
    }
    let ended = ran.and_then(|output| erased.map(|()| output));
    if ended.is_err() {
        process.stop();
    }
    Some(ended.map_err(|payload| ShardPanic { shard, message: describe(&*payload) }))
}

/// Drops every task of a shard.
fn erase_all(executor: &Executor) {
    executor.erase();
    while executor.unfinished() > 0 {
        // Another thread is waking a task; see `Executor::erase`.
        calls::yield_cpu();
        executor.erase();
    }
}

/// Tells the process that a shard is over, and the other shards to stop if a panic got this far.
struct Leaving(Arc<Process>);

impl Drop for Leaving {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
        self.0.leave();
    }
}

/// What a panic said.
fn describe(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "something that is not text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_parsed_by_name_and_nothing_else() {
        for backend in [Backend::Automatic, Backend::Uring, Backend::Posix, Backend::Glommio] {
            assert_eq!(backend.to_string().parse::<Backend>().expect("its own name"), backend);
        }
        let error = "io_uring".parse::<Backend>().expect_err("not a name");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("WOODCHUCK_IO is \"io_uring\""), "{error}");
    }

    #[cfg(not(feature = "glommio"))]
    #[test]
    fn a_backend_that_is_not_built_in_says_so() {
        #[derive(Clone)]
        struct Nothing;

        impl Program for Nothing {
            type Output = ();

            async fn run<E: crate::Env>(self, _env: E) {}
        }

        let options = RuntimeOptions { backend: Backend::Glommio, ..RuntimeOptions::default() };
        let error = Runtime::start(options, Nothing).expect_err("it is not there");
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(error.to_string().contains("the feature \"glommio\""), "{error}");
    }
}
