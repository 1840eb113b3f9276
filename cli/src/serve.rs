//! `woodchuck serve`.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;

use tracing_subscriber::EnvFilter;
use woodchuck::limits::SHARDS;
use woodchuck::{EngineOptions, Identity, probe};
use woodchuck_io::runtime::{Backend, Runtime, RuntimeOptions};
use woodchuck_io::{Env, Program};
use woodchuck_server::Serve;
use woodchuck_server::kafka::KafkaOptions;

use crate::signals::Caught;
use crate::text::parse_bytes;
use crate::volume::{self, FramesInFlight};

/// The variable that sets how much is logged.
const LOG_VARIABLE: &str = "WOODCHUCK_LOG";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The data directory. Made if it is missing.
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,

    /// Where to listen for Kafka clients. Port 0 picks a free port.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9092")]
    kafka: SocketAddr,

    /// What clients are told to connect to, if not the address listened on.
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_host_and_port)]
    advertise: Option<(String, u16)>,

    /// How many shards a new data directory gets. One that exists keeps what it has. [default: one
    /// for each CPU]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=i64::from(SHARDS)))]
    shards: Option<u32>,

    /// How many partitions a topic gets when its creator does not say.
    #[arg(long, value_name = "COUNT", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    default_partitions: u32,

    /// Do not create a topic because a client asks for it.
    #[arg(long)]
    no_auto_create_topics: bool,

    /// How much each shard's log may have on the disk, such as 192MiB (the least) or 10GiB. When all
    /// of it is needed, producers are asked to try again later. [default: what the disk has]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    log_capacity: Option<u64>,

    /// How many frames of each shard's log may be in flight at once, from 1 to 16, or auto: what pays
    /// on the volume. That is measured when there is no woodchuck-volume.json in the data directory,
    /// which takes a third of a second, and written there.
    #[arg(long, value_name = "COUNT", default_value = "auto", value_parser = volume::parse)]
    frames_in_flight: FramesInFlight,

    /// How to reach the kernel: automatic, uring, posix or, if it is built in, glommio. [default:
    /// what WOODCHUCK_IO says, or automatic: io_uring where it is allowed]
    #[arg(long, value_name = "BACKEND")]
    io: Option<String>,
}

/// Serves until a signal asks to stop, or a shard fails.
pub(crate) fn run(arguments: Arguments) -> Result<(), String> {
    start_logging();
    let backend = match &arguments.io {
        Some(name) => name.parse().map_err(|_| {
            format!("--io {name} is not known; give automatic, uring, posix or glommio")
        })?,
        None => Backend::from_environment().map_err(|error| error.to_string())?,
    };
    let mut runtime = RuntimeOptions { backend, ..RuntimeOptions::default() };
    let identity = look_up_identity(&runtime, arguments.data.clone())?;
    let shards = match identity {
        Some(identity) => arguments.shards.unwrap_or(identity.shards),
        None => {
            arguments.shards.unwrap_or(u32::try_from(runtime.shards).unwrap_or(SHARDS)).min(SHARDS)
        }
    };
    runtime.shards = shards as usize;
    let mut engine = EngineOptions::new(arguments.data);
    if let Some(capacity) = arguments.log_capacity {
        engine.log.capacity_bytes = capacity;
        engine.log.check().map_err(|error| format!("--log-capacity {capacity}: {error}"))?;
    }
    let (settled, ran_on) = volume::settle(&runtime, &engine.data, arguments.frames_in_flight);
    engine.log.frames_in_flight = settled.frames;
    if settled.needs_attention() {
        tracing::warn!("{}", settled.told(&engine.data));
    } else {
        tracing::info!("{}", settled.told(&engine.data));
    }
    if ran_on == Some(Backend::Posix) {
        // That rings are refused has been told; it need not be found out once more.
        runtime.backend = Backend::Posix;
    }
    let serve = Serve {
        engine,
        kafka: KafkaOptions {
            advertised: arguments.advertise,
            auto_create_topics: !arguments.no_auto_create_topics,
            default_partitions: arguments.default_partitions,
            ..KafkaOptions::new(arguments.kafka)
        },
    };
    let running =
        Runtime::start(runtime, serve).map_err(|error| format!("cannot start: {error}"))?;
    tracing::info!("{shards} shards run on {}", running.backend());
    let stopper = running.stopper();
    let _watching = Caught::new()?.watch(move || {
        tracing::info!("stopping; once more to stop at once");
        stopper.stop();
    })?;
    let mut failures: Vec<String> = Vec::new();
    for outcome in running.join() {
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => failures.push(error.to_string()),
            Err(panic) => failures.push(format!("this is a bug: {panic}")),
        }
    }
    // Shards fail together and for the same reason; it is told once.
    failures.dedup();
    match failures.into_iter().next() {
        None => Ok(()),
        Some(failure) => Err(failure),
    }
}

/// Looks into a data directory before the number of shards is known.
#[derive(Clone)]
struct LookUp {
    data: PathBuf,
}

impl Program for LookUp {
    type Output = Result<Option<Identity>, String>;

    async fn run<E: Env>(self, env: E) -> Self::Output {
        probe(&env, &self.data).await.map_err(|error| error.to_string())
    }
}

fn look_up_identity(runtime: &RuntimeOptions, data: PathBuf) -> Result<Option<Identity>, String> {
    // Ordinary calls do for reading one block, and say nothing about io_uring yet.
    let options = RuntimeOptions { shards: 1, backend: Backend::Posix, ..runtime.clone() };
    let looked = Runtime::start(options, LookUp { data })
        .map_err(|error| format!("cannot start: {error}"))?
        .join();
    match looked.into_iter().next() {
        Some(Ok(identity)) => identity,
        Some(Err(panic)) => Err(format!("this is a bug: {panic}")),
        None => Ok(None),
    }
}

fn start_logging() {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter)
        .init();
}

fn parse_host_and_port(text: &str) -> Result<(String, u16), String> {
    let wrong = || format!("{text:?} is not HOST:PORT");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    if host.is_empty() { Err(wrong()) } else { Ok((host.to_owned(), port)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advertised_addresses_are_checked() {
        assert_eq!(parse_host_and_port("a.example:9092"), Ok(("a.example".to_owned(), 9092)));
        for wrong in ["", "host", ":9092", "host:", "host:99999"] {
            assert!(parse_host_and_port(wrong).is_err(), "{wrong}");
        }
    }
}
