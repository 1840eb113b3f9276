//! What a process does to be a broker.

use std::fmt;
use std::net::SocketAddr;

use woodchuck::{Engine, EngineError, EngineOptions};
use woodchuck_io::{Env, Mesh, Program};

use crate::kafka::{Kafka, KafkaOptions};

/// Opens the engine, serves Kafka's protocol until the process is asked to stop, and closes.
#[derive(Clone, Debug)]
pub struct Serve {
    /// The data and how to keep it.
    pub engine: EngineOptions,
    /// The broker.
    pub kafka: KafkaOptions,
}

/// Why a shard did not serve. The text says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServeError {
    /// The engine could not be opened.
    Open(EngineError),
    /// The engine could not be closed: what was not acknowledged may not be durable.
    Close(EngineError),
    /// The address could not be listened on.
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: String,
        /// Whether another process has it.
        in_use: bool,
    },
}

impl fmt::Display for ServeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => error.fmt(formatter),
            Self::Close(error) => write!(
                formatter,
                "{error}. What was acknowledged is safe; start again once the disk is in order"
            ),
            Self::Listen { address, in_use: true, .. } => write!(
                formatter,
                "{address} is in use by another process; stop it, or choose another address with \
                 --kafka"
            ),
            Self::Listen { address, error, .. } => {
                write!(
                    formatter,
                    "cannot listen on {address}: {error}; choose another with --kafka"
                )
            }
        }
    }
}

impl std::error::Error for ServeError {}

impl Program for Serve {
    type Output = Result<(), ServeError>;

    async fn run<E: Env>(self, env: E) -> Self::Output {
        let engine = Engine::open(env.clone(), self.engine).await.map_err(ServeError::Open)?;
        let address = self.kafka.address;
        let kafka = match Kafka::listen(env.clone(), engine.clone(), self.kafka).await {
            Ok(kafka) => kafka,
            Err(error) => {
                let in_use = error.kind() == std::io::ErrorKind::AddrInUse;
                // A broker with some of its shards missing would lose requests; there is none.
                engine.stop_all().await;
                engine.close().await.map_err(ServeError::Close)?;
                return Err(ServeError::Listen { address, error: error.to_string(), in_use });
            }
        };
        if env.mesh().shard() == 0 {
            tracing::info!("serving Kafka on {}", kafka.local_address());
        }
        kafka.serve().await;
        engine.close().await.map_err(ServeError::Close)
    }
}
