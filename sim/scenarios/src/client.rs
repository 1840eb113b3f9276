//! A Kafka client over the seam, for bots. It knows one connection and nothing of retries.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use woodchuck_io::{Env, Net, Stream};
use woodchuck_server::protocol::{ApiKey, Request, Response, decode_response, encode_request};

/// How long to wait for an answer. A broker that is alive answers sooner, whatever happens; one
/// that lost its power says nothing.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

const LENGTH_BYTES: usize = 4;

/// Why a call got no answer.
#[derive(Debug)]
pub enum ClientError {
    /// The connection broke, or could not be made.
    Connection(String),
    /// Nothing came in time.
    Timeout,
    /// What came is not what Kafka's protocol has there. Never the network's fault.
    Protocol(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) => write!(formatter, "connection: {error}"),
            Self::Timeout => formatter.write_str("no answer in time"),
            Self::Protocol(error) => write!(formatter, "protocol violation: {error}"),
        }
    }
}

/// A connection to a broker. Requests may be sent ahead; answers come in the order of the requests.
pub struct Client<E: Env> {
    env: E,
    stream: <E::Net as Net>::Stream,
    next_correlation_id: i32,
    /// What was sent and not answered, oldest first.
    unanswered: VecDeque<(i32, ApiKey, i16)>,
    received: BytesMut,
}

impl<E: Env> Client<E> {
    /// Connects.
    ///
    /// # Errors
    /// If nobody listens there, or nobody answers.
    pub async fn connect(env: &E, address: SocketAddr) -> Result<Self, ClientError> {
        let connected = env.net().connect(address).await;
        Ok(Self {
            env: env.clone(),
            stream: connected.map_err(|error| ClientError::Connection(error.to_string()))?,
            next_correlation_id: 1,
            unanswered: VecDeque::new(),
            received: BytesMut::new(),
        })
    }

    /// Sends a request. Its answer is the one after those of all requests before it.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn send(&mut self, version: i16, request: &Request) -> Result<(), ClientError> {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id += 1;
        let segments = encode_request(version, correlation_id, Some("bot"), request);
        let answered = !matches!(request, Request::Produce(produce) if produce.acks == 0);
        if answered {
            self.unanswered.push_back((correlation_id, request.api_key(), version));
        }
        let sent = self.stream.write(segments).await;
        sent.map_err(|error| ClientError::Connection(error.to_string()))
    }

    /// The answer to the oldest request that has none.
    ///
    /// # Errors
    /// If the connection breaks, nothing comes in time, or what comes is not that answer.
    pub async fn receive(&mut self) -> Result<Response, ClientError> {
        let Some((correlation_id, api_key, version)) = self.unanswered.pop_front() else {
            return Err(ClientError::Protocol("nothing was asked".to_owned()));
        };
        let late = self.env.sleep(ANSWER_LIMIT);
        let frame = {
            let frame = std::pin::pin!(self.receive_frame());
            match select(frame, std::pin::pin!(late)).await {
                Either::Left((frame, _)) => frame?,
                Either::Right(_) => return Err(ClientError::Timeout),
            }
        };
        let (answered, response) = decode_response(api_key, version, frame)
            .map_err(|error| ClientError::Protocol(error.to_string()))?;
        if answered != correlation_id {
            return Err(ClientError::Protocol(format!(
                "request {correlation_id} was due an answer, and {answered} got one"
            )));
        }
        Ok(response)
    }

    /// Sends a request and waits for its answer, with nothing else under way.
    ///
    /// # Errors
    /// As [`send`](Self::send) and [`receive`](Self::receive).
    pub async fn call(&mut self, version: i16, request: &Request) -> Result<Response, ClientError> {
        self.send(version, request).await?;
        self.receive().await
    }

    /// How many answers are due.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    async fn receive_frame(&mut self) -> Result<Bytes, ClientError> {
        loop {
            if let Some(length) = self.received.first_chunk::<LENGTH_BYTES>() {
                let length = usize::try_from(i32::from_be_bytes(*length))
                    .map_err(|_| ClientError::Protocol("a negative length".to_owned()))?;
                if self.received.len() >= LENGTH_BYTES + length {
                    let frame = self.received.split_to(LENGTH_BYTES + length).freeze();
                    return Ok(frame.slice(LENGTH_BYTES..));
                }
            }
            let mut buffer = std::mem::take(&mut self.received);
            buffer.reserve(64 << 10);
            let (result, buffer) = self.stream.read(buffer).await;
            self.received = buffer;
            match result {
                Ok(0) => return Err(ClientError::Connection("closed by the broker".to_owned())),
                Ok(_) => {}
                Err(error) => return Err(ClientError::Connection(error.to_string())),
            }
        }
    }
}
