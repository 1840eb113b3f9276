//! One connection.
//!
//! Two halves of one task. The first reads requests, begins them, and queues their answers, at
//! most [`REQUESTS_IN_FLIGHT`] at a time. The second takes the answers in the order of the requests,
//! as Kafka's clients expect, and writes them. A fetch begins only when all before it has been
//! answered, so a connection holds the records of one fetch at a time; produced batches have their
//! place in the log's order from the moment they were read.
//!
//! What a client may do wrong, and what becomes of it:
//! * a length that is negative or above [`REQUEST_BYTES`], a request that cannot be decoded, an API
//!   or version that is not served: what was asked before is answered, then the connection is
//!   closed, with one line in the log;
//! * a request that begins and does not go on for [`RECEIVE_STALL`], or is so large that its share
//!   of the memory for requests does not come free for [`RECEIVE_BUDGET_WAIT`]: the same;
//! * not reading its answers: it is not read from either.

use std::cell::Cell;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use event_listener::Event;
use futures_channel::mpsc;
use futures_util::future::{Either, select};
use futures_util::{SinkExt, StreamExt};
use woodchuck::Reader;
use woodchuck_io::{Env, Stream};

use super::Connected;
use super::budget::Share;
use crate::limits::{
    RECEIVE_BUDGET_WAIT, RECEIVE_BYTES, RECEIVE_FREE_BYTES, RECEIVE_STALL, REQUEST_BYTES,
    REQUESTS_IN_FLIGHT,
};
use crate::protocol::{
    ApiVersionsResponse, Request, RequestError, RequestHeader, Response, decode_request,
};

/// Bytes of the length in front of every request.
const LENGTH_BYTES: usize = 4;

/// What becomes of a request.
type Answer = Pin<Box<dyn Future<Output = Answered>>>;

/// An answer ready to be written.
pub(super) struct Answered {
    /// What to write; nothing if there is no answer.
    segments: Vec<Bytes>,
    /// The memory that its records hold until they are written.
    _share: Option<Share>,
}

/// A queued answer, and the memory its request holds until then.
struct Queued {
    answer: Answer,
    _share: Share,
}

/// Why a connection ends.
enum End {
    /// The client closed it, or it broke: nothing to tell.
    Gone,
    /// The broker stops.
    Stopping,
    /// The client did something that is not served.
    Refused(String),
}

/// Says that no more requests are read, so that a fetch need not wait for more records.
#[derive(Clone, Default)]
struct Closing {
    inner: Rc<(Cell<bool>, Event)>,
}

impl Closing {
    fn begin(&self) {
        self.inner.0.set(true);
        self.inner.1.notify(usize::MAX);
    }

    async fn begun(&self) {
        while !self.inner.0.get() {
            let begun = self.inner.1.listen();
            if !self.inner.0.get() {
                begun.await;
            }
        }
    }
}

struct Connection<E: Env, S: Stream> {
    connected: Connected<E>,
    stream: S,
    closing: Closing,
    /// The one reader of this connection; taken by the fetch that runs.
    reader: Rc<Cell<Option<Reader>>>,
}

/// Serves a connection to its end.
pub(super) async fn serve<E: Env, S: Stream>(connected: Connected<E>, stream: S, peer: SocketAddr) {
    let reader = Rc::new(Cell::new(Some(connected.broker.inner.engine.reader())));
    let connection = Connection { connected, stream, closing: Closing::default(), reader };
    let (answers, queue) = mpsc::channel(REQUESTS_IN_FLIGHT);
    let write = Box::pin(connection.write_answers(queue));
    let read = Box::pin(connection.read_requests(answers));
    match select(read, write).await {
        Either::Left((end, write)) => {
            connection.closing.begin();
            if let End::Refused(why) = end {
                tracing::warn!(%peer, "closing connection: {why}");
            }
            write.await;
            // The peer may be gone already, and then has nothing left to be told.
            drop(connection.stream.shutdown().await);
        }
        Either::Right(((), _)) => {} // It broke while an answer was written.
    }
}

impl<E: Env, S: Stream> Connection<E, S> {
    /// Writes answers in order until there are no more, or the connection breaks.
    async fn write_answers(&self, mut queue: mpsc::Receiver<Queued>) {
        while let Some(queued) = queue.next().await {
            let mut answered = queued.answer.await;
            let segments = std::mem::take(&mut answered.segments);
            if !segments.is_empty() && self.stream.write(segments).await.is_err() {
                return;
            }
        }
    }

    /// Reads and begins requests until there are no more.
    async fn read_requests(&self, mut answers: mpsc::Sender<Queued>) -> End {
        let broker = &self.connected.broker;
        let mut buffer = BytesMut::new();
        loop {
            let mut share = broker.inner.requests.share();
            let frame = {
                let receive = std::pin::pin!(self.receive(&mut buffer, &mut share));
                let stopping = std::pin::pin!(broker.stopping());
                match select(receive, stopping).await {
                    Either::Left((Ok(frame), _)) => frame,
                    Either::Left((Err(end), _)) => return end,
                    Either::Right(((), _)) => return End::Stopping,
                }
            };
            let answer = match self.begin(frame).await {
                Ok(answer) => answer,
                Err(why) => return End::Refused(why),
            };
            if answers.send(Queued { answer, _share: share }).await.is_err() {
                return End::Gone;
            }
        }
    }

    /// The next request's bytes, without their length.
    async fn receive(&self, buffer: &mut BytesMut, share: &mut Share) -> Result<Bytes, End> {
        loop {
            let needed = match buffer.first_chunk::<LENGTH_BYTES>() {
                None => LENGTH_BYTES,
                Some(length) => {
                    let announced = i32::from_be_bytes(*length);
                    let length = usize::try_from(announced).unwrap_or(usize::MAX);
                    if length > REQUEST_BYTES {
                        return Err(End::Refused(format!(
                            "a request of {announced} bytes was announced, and the limit is \
                             {REQUEST_BYTES}; this port speaks the Kafka protocol"
                        )));
                    }
                    LENGTH_BYTES + length
                }
            };
            if needed > LENGTH_BYTES && buffer.len() >= needed {
                return Ok(buffer.split_to(needed).freeze().slice(LENGTH_BYTES..));
            }
            if needed == LENGTH_BYTES && buffer.len() >= needed {
                return Err(End::Refused("a request of 0 bytes was announced".to_owned()));
            }
            self.receive_more(buffer, needed, share).await?;
        }
    }

    /// Receives at least one byte into `buffer`, which is to hold `needed` in the end.
    async fn receive_more(
        &self,
        buffer: &mut BytesMut,
        needed: usize,
        share: &mut Share,
    ) -> Result<(), End> {
        // Capacity follows what has arrived, not what was announced.
        let target = needed.min((buffer.len() * 2).max(RECEIVE_FREE_BYTES)).max(RECEIVE_BYTES);
        let env = &self.connected.broker.inner.env;
        if target > RECEIVE_FREE_BYTES {
            let grown = std::pin::pin!(share.grow(target));
            let late = std::pin::pin!(env.sleep(RECEIVE_BUDGET_WAIT));
            if let Either::Right(_) = select(grown, late).await {
                return Err(End::Refused(format!(
                    "there was no memory for a request of {needed} bytes within {} s; others have \
                     too much under way",
                    RECEIVE_BUDGET_WAIT.as_secs()
                )));
            }
        }
        let begun = !buffer.is_empty();
        let mut taken = std::mem::take(buffer);
        taken.reserve(target - taken.len().min(target - 1));
        let read = self.stream.read(taken);
        let (result, filled) = if begun {
            let stalled = std::pin::pin!(env.sleep(RECEIVE_STALL));
            match select(std::pin::pin!(read), stalled).await {
                Either::Left((done, _)) => done,
                Either::Right(_) => {
                    return Err(End::Refused(format!(
                        "a request of {needed} bytes did not go on for {} s",
                        RECEIVE_STALL.as_secs()
                    )));
                }
            }
        } else {
            read.await
        };
        *buffer = filled;
        match result {
            Ok(0) if buffer.is_empty() => Err(End::Gone),
            Ok(0) => Err(End::Refused(format!(
                "the client left in the middle of a request: {} bytes of {needed} came",
                buffer.len()
            ))),
            Ok(_) => Ok(()),
            Err(_) => Err(End::Gone),
        }
    }

    /// Begins a request. What it returns is to be awaited when all before it is answered.
    async fn begin(&self, frame: Bytes) -> Result<Answer, String> {
        let (header, request) = match decode_request(frame) {
            Ok(decoded) => decoded,
            Err(RequestError::UnsupportedApiVersionsVersion { correlation_id, .. }) => {
                let answer = ApiVersionsResponse::unsupported_version(correlation_id);
                return Ok(Box::pin(async { Answered { segments: answer, _share: None } }));
            }
            Err(error) => return Err(error.to_string()),
        };
        let broker = self.connected.broker.clone();
        Ok(match request {
            Request::Produce(request) => {
                let answered = request.acks != 0;
                let placed = broker.place(request).await;
                if !answered {
                    placed.unanswered()?;
                    return Ok(Box::pin(async { Answered { segments: Vec::new(), _share: None } }));
                }
                respond(header, async move { Response::Produce(placed.answer().await) })
            }
            Request::Fetch(request) => {
                let (reader, closing) = (Rc::clone(&self.reader), self.closing.clone());
                Box::pin(async move {
                    let Some(mut own) = reader.take() else {
                        unreachable!("answers are awaited one at a time")
                    };
                    let (response, share) = broker.fetch(&mut own, request, closing.begun()).await;
                    reader.set(Some(own));
                    let segments = Response::Fetch(response).encode(&header);
                    Answered { segments, _share: Some(share) }
                })
            }
            Request::ListOffsets(request) => {
                respond(
                    header,
                    async move { Response::ListOffsets(broker.list_offsets(request).await) },
                )
            }
            Request::Metadata(request) => {
                respond(header, async move { Response::Metadata(broker.metadata(request).await) })
            }
            Request::FindCoordinator(_) => respond(header, async move {
                Response::FindCoordinator(super::topics::no_coordinator())
            }),
            Request::ApiVersions(_) => {
                respond(
                    header,
                    async move { Response::ApiVersions(ApiVersionsResponse::supported()) },
                )
            }
            Request::CreateTopics(request) => respond(header, async move {
                Response::CreateTopics(broker.create_topics(request).await)
            }),
            Request::DeleteTopics(request) => respond(header, async move {
                Response::DeleteTopics(broker.delete_topics(request).await)
            }),
            Request::InitProducerId(request) => respond(header, async move {
                Response::InitProducerId(broker.init_producer_id(&request))
            }),
        })
    }
}

fn respond(header: RequestHeader, response: impl Future<Output = Response> + 'static) -> Answer {
    Box::pin(async move { Answered { segments: response.await.encode(&header), _share: None } })
}
