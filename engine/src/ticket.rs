//! The answer to an append, while it is on its way.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_channel::oneshot;
use futures_util::FutureExt;

use crate::calls::Reply;
use crate::shard::AppendResult;
use crate::{Appended, EngineError};

/// The answer to an append that has its place in the order. Completes when the batch is durable,
/// or when it is certain or likely that it will not be.
pub struct Ticket {
    pub(crate) answer: TicketAnswer,
}

/// Where the answer comes from.
pub(crate) enum TicketAnswer {
    Known(Option<AppendResult>),
    Here(oneshot::Receiver<AppendResult>),
    Elsewhere(oneshot::Receiver<Reply>),
}

impl Future for Ticket {
    type Output = Result<Appended, EngineError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.answer {
            TicketAnswer::Known(result) => {
                Poll::Ready(result.take().unwrap_or(Err(EngineError::Closed)))
            }
            TicketAnswer::Here(answer) => {
                answer.poll_unpin(context).map(|result| result.unwrap_or(Err(EngineError::Closed)))
            }
            TicketAnswer::Elsewhere(reply) => reply.poll_unpin(context).map(|reply| match reply {
                Ok(Reply::Append(result)) => result,
                _ => Err(EngineError::Closed),
            }),
        }
    }
}
