//! How the shards of a process open together.
//!
//! Shard 0 leads: it takes the directory's lock, tells the others what the directory is, waits until
//! every log is open, gives everybody the topics its own log speaks of, and, when all have them in
//! place, says to serve. If anything fails on any shard, none serves.
//!
//! # A log that is missing
//! In a new directory, shard 0's log is made before the others, and nothing is written to any before
//! all are there. So a log that is missing was lost, and is not made anew, if shard 0's is missing
//! and another is there, or if shard 0's speaks of topics.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use woodchuck_io::{Disk, Env, Mesh};
use woodchuck_wal::is_segment;

use crate::calls::{Calls, Message, Startup};
use crate::directory::{DataDirectory, create_durably, log_path};
use crate::recovered::{RecoveredState, ShardLog, open_log};
use crate::{Engine, EngineError, EngineOptions};

/// A shard on its way to being open.
pub(crate) struct Opening<E: Env> {
    env: E,
    calls: Calls<E>,
    /// Requests from shards that were told to serve before this one was.
    early: VecDeque<(usize, Message)>,
}

impl<E: Env> Opening<E> {
    pub(crate) fn new(env: E) -> Self {
        Self { calls: Calls::new(env.clone()), env, early: VecDeque::new() }
    }

    /// Shard 0: opens the directory, and leads the others.
    pub(crate) async fn coordinate(
        mut self,
        options: EngineOptions,
    ) -> Result<Engine<E>, EngineError> {
        match self.try_coordinate(&options).await {
            Ok(engine) => Ok(engine),
            Err(error) => {
                self.tell_others(|| Startup::Abort(error.clone())).await;
                Err(error)
            }
        }
    }

    async fn try_coordinate(&mut self, options: &EngineOptions) -> Result<Engine<E>, EngineError> {
        let shards = self.env.mesh().shards();
        let count = u32::try_from(shards).unwrap_or(u32::MAX);
        let directory = DataDirectory::open(&self.env, &options.data, count).await?;
        let identity = directory.identity;
        let missing = missing_logs(&self.env, &options.data, shards).await?;
        if missing.first() == Some(&0) && missing.len() < shards {
            return Err(log_is_missing(options, 0, "other shards have theirs"));
        }
        let opened = if missing.is_empty() { None } else { Some(self.open_log(options).await?) };
        if let (Some((_, state)), Some(&shard)) = (&opened, missing.first())
            && !state.topics.is_empty()
        {
            return Err(log_is_missing(options, shard, "the log of shard 0 speaks of topics"));
        }
        self.tell_others(|| Startup::Hello(identity)).await;
        let (log, state) = match opened {
            Some(opened) => opened,
            None => self.open_log(options).await?,
        };
        for _ in 1..shards {
            match self.startup().await {
                Startup::Ready(result) => result?,
                _ => unreachable!("shards that were greeted answer that they are ready"),
            }
        }
        let topics = Arc::new(state.topics.clone());
        self.tell_others(|| Startup::Install(Arc::clone(&topics))).await;
        let engine =
            Engine::assemble(&self.env, &self.calls, (log, state), identity, Some(directory));
        engine.install(topics)?;
        for _ in 1..shards {
            match self.startup().await {
                Startup::Installed(result) => result?,
                _ => unreachable!("shards that were given topics answer that they are in place"),
            }
        }
        self.tell_others(|| Startup::Serve).await;
        self.serve(&engine);
        Ok(engine)
    }

    /// Every other shard: does what shard 0 says.
    pub(crate) async fn follow(mut self, options: EngineOptions) -> Result<Engine<E>, EngineError> {
        let Startup::Hello(identity) = self.next_step().await? else {
            unreachable!("shard 0 greets first")
        };
        let opened = self.open_log(&options).await;
        let ready = opened.as_ref().map(|_| ()).map_err(Clone::clone);
        self.calls.startup(0, Startup::Ready(ready)).await;
        let (log, state) = opened?;
        let Startup::Install(topics) = self.next_step().await? else {
            unreachable!("shard 0 sends topics after its greeting")
        };
        let engine = Engine::assemble(&self.env, &self.calls, (log, state), identity, None);
        let installed = engine.install(topics);
        self.calls.startup(0, Startup::Installed(installed.clone())).await;
        installed?;
        let Startup::Serve = self.next_step().await? else {
            unreachable!("shard 0 says to serve after the topics")
        };
        self.serve(&engine);
        Ok(engine)
    }

    async fn open_log(
        &self,
        options: &EngineOptions,
    ) -> Result<(ShardLog<E>, RecoveredState), EngineError> {
        let index = self.env.mesh().shard();
        let path = log_path(&options.data, index);
        for directory in [path.parent().unwrap_or(&path), &path] {
            create_durably(&self.env, directory).await?;
        }
        let opened = open_log(&self.env, path, options.log, options.tail_bytes).await;
        let (log, state, recovery) =
            opened.map_err(|error| EngineError::Open(format!("shard {index}: {error}")))?;
        tracing::info!(
            "shard {index}: log {}; {} commits of {} bytes",
            recovery.verdict,
            recovery.commits,
            recovery.bytes
        );
        Ok((log, state))
    }

    fn serve(&mut self, engine: &Engine<E>) {
        let early = std::mem::take(&mut self.early);
        self.env.spawn("dispatch", engine.clone().dispatch(early)).detach();
    }

    /// The next thing shard 0 says, or why it gave up.
    async fn next_step(&mut self) -> Result<Startup, EngineError> {
        match self.startup().await {
            Startup::Abort(error) => Err(error),
            step => Ok(step),
        }
    }

    async fn startup(&mut self) -> Startup {
        loop {
            match self.calls.receive().await {
                (_, Message::Startup(startup)) => return startup,
                early => self.early.push_back(early),
            }
        }
    }

    async fn tell_others(&self, what: impl Fn() -> Startup) {
        for shard in 1..self.env.mesh().shards() {
            self.calls.startup(shard, what()).await;
        }
    }
}

/// The shards whose logs have no segment, rising.
async fn missing_logs<E: Env>(
    env: &E,
    data: &Path,
    shards: usize,
) -> Result<Vec<usize>, EngineError> {
    let mut missing = Vec::new();
    for shard in 0..shards {
        let path = log_path(data, shard);
        match env.disk().list(&path).await {
            Ok(entries) if entries.iter().any(|entry| is_segment(&entry.name)) => {}
            Ok(_) => missing.push(shard),
            Err(error) if error.kind() == ErrorKind::NotFound => missing.push(shard),
            Err(error) => {
                let reason = format!("cannot list {}: {error}", path.display());
                return Err(EngineError::Open(reason));
            }
        }
    }
    Ok(missing)
}

fn log_is_missing(options: &EngineOptions, shard: usize, evidence: &str) -> EngineError {
    EngineError::Open(format!(
        "shard {shard}: {} holds no log, and {evidence}: restore it from a copy of the data \
         directory, or see what can be salvaged without it with `woodchuck repair`",
        log_path(&options.data, shard).display()
    ))
}
