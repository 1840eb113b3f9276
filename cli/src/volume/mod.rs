//! How many frames of its log a shard keeps in flight, chosen from what the volume does.
//!
//! **What lives here.** `choice` chooses from rates, and does nothing else; `measure` measures them;
//! `record` keeps them in the data directory. [`Settle`] is the program that does all of it before
//! `serve` starts the engine; `probe` measures and chooses with the same code.
//!
//! **Faults.** Nothing here keeps a broker from starting, and nothing is worth more than a start:
//! whatever fails, the default is used, and [`Settled::told`] says why. A crash may leave the scratch
//! file, or the record under its first name; the next start removes both. The record is found whole
//! or not at all.
//!
//! **What must never be here.** Anything that is not done again if it is lost.

mod choice;
mod measure;
mod record;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use woodchuck::{
    EngineOptions, LOCK_NAME, VOLUME_NAME, VOLUME_NEW_NAME, VOLUME_SCRATCH_NAME, create_durably,
};
use woodchuck_io::runtime::{Backend, Runtime, RuntimeOptions};
use woodchuck_io::{Buffer, Disk, Durability, Env, File, OpenMode, Program};

pub(crate) use choice::Rates;
pub(crate) use measure::{Rounds, measure};
pub(crate) use record::read as recorded;

use crate::limits::{
    FLIGHT_DEPTH_MAX, FLIGHT_GIVE_UP_MS, FLIGHT_MEASURE_MS, FLIGHT_SCRATCH_BYTES, PROBE_FILL_BYTES,
};

/// What the command line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FramesInFlight {
    /// What the volume is good for.
    Auto,
    /// So many.
    Given(usize),
}

/// Reads `auto`, or a number of frames.
pub(crate) fn parse(text: &str) -> Result<FramesInFlight, String> {
    if text == "auto" {
        return Ok(FramesInFlight::Auto);
    }
    let frames = text.parse().ok().filter(|frames| (1..=FLIGHT_DEPTH_MAX).contains(frames));
    frames
        .map(FramesInFlight::Given)
        .ok_or_else(|| format!("give auto, or from 1 to {FLIGHT_DEPTH_MAX}"))
}

/// How many frames are to be in flight, and why.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settled {
    pub(crate) frames: usize,
    pub(crate) why: Why,
}

/// Where a number of frames comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Why {
    /// The command line.
    Given,
    /// An earlier start has measured, and written it down.
    Recorded,
    /// This start has measured.
    Measured {
        rates: Rates,
        /// Why the record that was there could not be used.
        replaced: Option<String>,
        /// Why the next start will have to measure again.
        unrecorded: Option<String>,
    },
    /// It is the default, because nothing could be measured. Says why.
    Default(String),
}

impl Settled {
    fn default_because(why: String) -> Self {
        let log = EngineOptions::new(PathBuf::new()).log;
        Self { frames: log.frames_in_flight, why: Why::Default(why) }
    }

    /// Whether somebody should look into it. Where a volume cannot be measured, the engine, which
    /// needs it, will say why it cannot start, or the default does no harm.
    pub(crate) fn needs_attention(&self) -> bool {
        matches!(&self.why, Why::Measured { replaced: Some(_), .. })
    }

    /// The line for the log.
    pub(crate) fn told(&self, data: &Path) -> String {
        let record = data.join(VOLUME_NAME);
        let record = record.display();
        let why = match &self.why {
            Why::Given => "as --frames-in-flight says".to_owned(),
            Why::Recorded => {
                format!("as {record} says; remove that file if the volume is another now")
            }
            Why::Default(why) => format!("the default: the volume was not measured ({why})"),
            Why::Measured { rates, replaced, unrecorded } => {
                let mut why = format!("{} (measured now, {})", rates.reason(), rates.told());
                if let Some(replaced) = replaced {
                    why.push_str(&format!("; {record} {replaced}"));
                }
                if let Some(unrecorded) = unrecorded {
                    why.push_str(&format!(
                        "; {record} was not written, so the next start measures again \
                         ({unrecorded})"
                    ));
                }
                why
            }
        };
        format!("up to {} frames of each log in flight: {why}", self.frames)
    }
}

/// Settles how many frames are in flight, on one shard of the runtime that the engine will have.
/// Says besides which backend that was, if one ran.
pub(crate) fn settle(
    runtime: &RuntimeOptions,
    data: &Path,
    asked: FramesInFlight,
) -> (Settled, Option<Backend>) {
    let options = RuntimeOptions { shards: 1, ..runtime.clone() };
    let settle = Settle { data: data.to_path_buf(), asked };
    let running = match Runtime::start(options, settle) {
        Ok(running) => running,
        Err(error) => return (without_measuring(asked, error.to_string()), None),
    };
    let backend = running.backend();
    let settled = match running.join().into_iter().next() {
        Some(Ok(settled)) => settled,
        Some(Err(panic)) => without_measuring(asked, format!("this is a bug: {panic}")),
        None => without_measuring(asked, "this is a bug: no shard ran".to_owned()),
    };
    (settled, Some(backend))
}

fn without_measuring(asked: FramesInFlight, why: String) -> Settled {
    match asked {
        FramesInFlight::Given(frames) => Settled { frames, why: Why::Given },
        FramesInFlight::Auto => Settled::default_because(why),
    }
}

/// Settles how many frames are in flight in a data directory, or in what will be one.
#[derive(Clone)]
pub(crate) struct Settle {
    pub(crate) data: PathBuf,
    pub(crate) asked: FramesInFlight,
}

impl Program for Settle {
    type Output = Settled;

    async fn run<E: Env>(self, env: E) -> Settled {
        match self.asked {
            FramesInFlight::Given(frames) => {
                // Only to clean up, so that whatever fails is left for another start.
                let _cleaned = self.clean(&env).await;
                Settled { frames, why: Why::Given }
            }
            FramesInFlight::Auto => {
                self.automatic(&env).await.unwrap_or_else(Settled::default_because)
            }
        }
    }
}

impl Settle {
    /// Removes what a crash has left, if no other process has the directory.
    async fn clean<E: Env>(&self, env: &E) -> io::Result<()> {
        let disk = env.disk();
        let names = disk.list(&self.data).await?;
        let is_left = |name: &str| [VOLUME_NEW_NAME, VOLUME_SCRATCH_NAME].contains(&name);
        if !names.iter().any(|entry| is_left(&entry.name)) {
            return Ok(());
        }
        let _lock = disk.lock(&self.data.join(LOCK_NAME)).await?;
        for name in [VOLUME_NEW_NAME, VOLUME_SCRATCH_NAME] {
            remove_if_there(disk, &self.data.join(name)).await?;
        }
        Ok(())
    }

    /// Reads the record, or measures and writes it.
    async fn automatic<E: Env>(&self, env: &E) -> Result<Settled, String> {
        let disk = env.disk();
        let failed = |error: io::Error| error.to_string();
        create_durably(env, &self.data).await.map_err(|error| error.to_string())?;
        // Whoever has the directory open measures nothing now, and must not be slowed down.
        let lock = disk.lock(&self.data.join(LOCK_NAME)).await;
        let _lock = lock.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => "another process has the directory".to_owned(),
            _ => failed(error),
        })?;
        for name in [VOLUME_NEW_NAME, VOLUME_SCRATCH_NAME] {
            remove_if_there(disk, &self.data.join(name)).await.map_err(failed)?;
        }
        let replaced = match recorded(disk, &self.data).await {
            Ok(Some(frames)) => return Ok(Settled { frames, why: Why::Recorded }),
            Ok(None) => None,
            Err(why) => Some(why),
        };
        let measured = self.measure_volume(env).await;
        let rounds = measured.map_err(|error| match &replaced {
            None => error.to_string(),
            Some(why) => format!("{error}; {VOLUME_NAME} {why}"),
        })?;
        let rates = rounds.medians();
        let unrecorded = if rounds.agree() {
            let written = record::write(disk, &self.data, &rates).await;
            written.err().map(|error| error.to_string())
        } else {
            // Nobody would look into it again once it is written down.
            Some("what was measured differs from moment to moment: the machine is busy".to_owned())
        };
        let why = Why::Measured { rates, replaced, unrecorded };
        Ok(Settled { frames: rates.frames_in_flight(), why })
    }

    /// Measures in a file of its own, which is removed whatever happens.
    async fn measure_volume<E: Env>(&self, env: &E) -> io::Result<Rounds> {
        let give_up = env.now() + Duration::from_millis(FLIGHT_GIVE_UP_MS);
        let time = Duration::from_millis(FLIGHT_MEASURE_MS);
        let (disk, path) = (env.disk(), self.data.join(VOLUME_SCRATCH_NAME));
        let file = disk.open(&path, OpenMode::CreateNew).await?;
        let clock = env.clone();
        let measured = async {
            fill(env, &file).await?;
            let rounds = measure(env, &file, time, move || clock.now() >= give_up).await?;
            rounds.ok_or_else(|| {
                let why = "durable writes take too long to be measured at a start";
                io::Error::new(io::ErrorKind::TimedOut, why)
            })
        };
        let measured = measured.await;
        drop(file);
        let removed = disk.remove(&path).await;
        // Of two troubles, the first explains the other; a file that stays is removed another time.
        let rounds = measured?;
        removed.map(|()| rounds)
    }
}

/// Gives the file its space, with every block of it written.
async fn fill<E: Env>(env: &E, file: &impl File) -> io::Result<()> {
    match file.allocate(FLIGHT_SCRATCH_BYTES).await {
        // Writing will do; the log, which needs it, will say so.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
        allocated => allocated?,
    }
    let mut buffer = Buffer::zeroed(PROBE_FILL_BYTES);
    env.random("contents").fill(&mut buffer);
    for offset in (0..FLIGHT_SCRATCH_BYTES).step_by(PROBE_FILL_BYTES) {
        let (written, returned) = file.write_at(buffer, offset, Durability::Volatile).await;
        buffer = returned;
        written?;
    }
    file.sync_data().await
}

async fn remove_if_there<D: Disk>(disk: &D, path: &Path) -> io::Result<()> {
    match disk.remove(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
