//! TCP, over whichever driver.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::calls::during;
use super::core::Core;
use super::disk::outcome;
use super::driver::Driver;
use super::operate::Operate;
use super::sockets::{self, Address};
use super::work::{Accepted, Accepting, Message, Parked, Socket, Turnstile, Work, take_accepted};
use crate::limits::SEGMENTS_AT_ONCE;
use crate::{Listener, Net, Stream};

/// The machine's TCP.
pub(crate) struct NativeNet<D: Driver> {
    core: Rc<Core<D>>,
}

impl<D: Driver> NativeNet<D> {
    pub(crate) fn new(core: &Rc<Core<D>>) -> Self {
        Self { core: Rc::clone(core) }
    }
}

impl<D: Driver> Clone for NativeNet<D> {
    fn clone(&self) -> Self {
        Self::new(&self.core)
    }
}

impl<D: Driver> Net for NativeNet<D> {
    type Listener = NativeListener<D>;
    type Stream = NativeStream<D>;

    fn listen(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<NativeListener<D>>> + 'static {
        let core = Rc::clone(&self.core);
        async move {
            let socket = core
                .process
                .listeners
                .join(core.shard, address, D::NONBLOCKING_SOCKETS)
                .map_err(during(format_args!("listening on {address}")))?;
            let accepting = Rc::new(Accepting {
                socket,
                left_over: RefCell::default(),
                accepts: Turnstile::default(),
            });
            Ok(NativeListener { hold: Rc::new(Hold { core, accepting }) })
        }
    }

    fn connect(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<NativeStream<D>>> + 'static {
        let core = Rc::clone(&self.core);
        async move {
            let connected = async {
                let fd = sockets::socket(address, D::NONBLOCKING_SOCKETS)?;
                let socket = Socket::new(fd, address)?;
                let peer = Parked::new(Address::new(address));
                let work = Work::Connect { socket: Rc::clone(&socket), peer };
                let (result, _) = Operate::new(&core, work).await;
                outcome(result)?;
                Ok(socket)
            };
            let connected: io::Result<Rc<Socket>> = connected.await;
            let socket = connected.map_err(during(format_args!("connecting to {address}")))?;
            Ok(NativeStream { core, socket })
        }
    }
}

impl Socket {
    fn new(fd: OwnedFd, peer: SocketAddr) -> io::Result<Rc<Self>> {
        sockets::set_no_delay(fd.as_raw_fd())?;
        Ok(Rc::new(Self {
            fd,
            peer,
            reading: RefCell::default(),
            reads: Turnstile::default(),
            is_drained: Cell::new(true),
            sent_in: Cell::new(None),
        }))
    }

    /// What a dropped read left, if anything.
    fn take_left_over(&self, buffer: &mut BytesMut) -> Option<io::Result<usize>> {
        let mut reading = self.reading.borrow_mut();
        if reading.left_over.is_empty() {
            return reading.failed.take().map(Err);
        }
        let room = buffer.spare_capacity_mut().len();
        let count = room.min(reading.left_over.len());
        buffer.extend_from_slice(&reading.left_over.split_to(count));
        Some(Ok(count))
    }
}

/// A socket that accepts connections for one shard.
pub(crate) struct NativeListener<D: Driver> {
    hold: Rc<Hold<D>>,
}

/// Gives up the shard's share of the socket when the last clone is dropped.
struct Hold<D: Driver> {
    core: Rc<Core<D>>,
    accepting: Rc<Accepting>,
}

impl<D: Driver> Drop for Hold<D> {
    fn drop(&mut self) {
        self.core.process.listeners.leave(self.core.shard, &self.accepting.socket);
    }
}

impl<D: Driver> Clone for NativeListener<D> {
    fn clone(&self) -> Self {
        Self { hold: Rc::clone(&self.hold) }
    }
}

impl<D: Driver> Listener for NativeListener<D> {
    type Stream = NativeStream<D>;

    fn accept(&self) -> impl Future<Output = io::Result<(NativeStream<D>, SocketAddr)>> + 'static {
        let hold = Rc::clone(&self.hold);
        async move {
            let local = hold.accepting.socket.local;
            accept(&hold)
                .await
                .and_then(|(fd, peer)| {
                    let peer = peer?;
                    let core = Rc::clone(&hold.core);
                    Ok((NativeStream { core, socket: Socket::new(fd, peer)? }, peer))
                })
                .map_err(during(format_args!("accepting a connection on {local}")))
        }
    }

    fn local_address(&self) -> SocketAddr {
        self.hold.accepting.socket.local
    }
}

async fn accept<D: Driver>(hold: &Hold<D>) -> io::Result<Accepted> {
    poll_fn(|context| hold.accepting.accepts.poll(context)).await;
    let left_over = hold.accepting.left_over.borrow_mut().pop_front();
    if let Some(accepted) = left_over {
        return Ok(accepted);
    }
    let peer = Parked::new(Address::empty());
    let work = Work::Accept { listener: Rc::clone(&hold.accepting), peer };
    match Operate::new(&hold.core, work).await {
        (result, Work::Accept { mut peer, .. }) => {
            outcome(result)?;
            Ok(take_accepted(result, &mut peer))
        }
        _ => unreachable!("an operation gives back its own work"),
    }
}

/// A connection. A read that is dropped before it completes loses nothing: the next one gets what
/// it received. A write that is dropped may have sent any prefix, so that only closing is left.
pub(crate) struct NativeStream<D: Driver> {
    core: Rc<Core<D>>,
    socket: Rc<Socket>,
}

impl<D: Driver> Clone for NativeStream<D> {
    fn clone(&self) -> Self {
        Self { core: Rc::clone(&self.core), socket: Rc::clone(&self.socket) }
    }
}

impl<D: Driver> NativeStream<D> {
    /// Sends what the kernel takes at once, without a request and the wait for its answer. Returns
    /// whether that was all.
    ///
    /// Only if nothing else is to be done: what several tasks send goes to the kernel together at
    /// the end of the turn, so that their peers are woken once (`docs/io.md`). And once a turn for
    /// each connection: a task that only sends, to a peer that keeps up, would never let go of the
    /// shard otherwise.
    fn send_at_once(&self, message: &mut Message) -> io::Result<bool> {
        if !self.core.is_quiet() || message.rest().len() > SEGMENTS_AT_ONCE {
            return Ok(false);
        }
        let turn = Some(self.core.turns());
        if self.socket.sent_in.replace(turn) == turn {
            return Ok(false);
        }
        let sent = sockets::send_at_once(self.socket.fd.as_raw_fd(), message.rest())?;
        Ok(message.advance(sent))
    }
}

impl<D: Driver> Stream for NativeStream<D> {
    fn read(
        &self,
        mut buffer: BytesMut,
    ) -> impl Future<Output = (io::Result<usize>, BytesMut)> + 'static {
        let this = self.clone();
        async move {
            let receiving = format_args!("receiving from {}", this.socket.peer);
            if buffer.spare_capacity_mut().is_empty() {
                let error = io::Error::new(io::ErrorKind::InvalidInput, "the buffer has no room");
                return (Err(during(receiving)(error)), buffer);
            }
            poll_fn(|context| this.socket.reads.poll(context)).await;
            if let Some(received) = this.socket.take_left_over(&mut buffer) {
                return (received.map_err(during(receiving)), buffer);
            }
            let work = Work::Receive { socket: Rc::clone(&this.socket), buffer };
            match Operate::new(&this.core, work).await {
                (result, Work::Receive { buffer, .. }) => {
                    (outcome(result).map_err(during(receiving)), buffer)
                }
                _ => unreachable!("an operation gives back its own work"),
            }
        }
    }

    fn write(&self, segments: Vec<Bytes>) -> impl Future<Output = io::Result<()>> + 'static {
        let this = self.clone();
        async move {
            let sending = format_args!("sending to {}", this.socket.peer);
            let Some(mut message) = Message::new(segments) else { return Ok(()) };
            if this.send_at_once(&mut message).map_err(during(sending))? {
                return Ok(());
            }
            let work = Work::Send { socket: Rc::clone(&this.socket), message };
            let (result, _) = Operate::new(&this.core, work).await;
            outcome(result).map(drop).map_err(during(sending))
        }
    }

    fn shutdown(&self) -> impl Future<Output = io::Result<()>> + 'static {
        let socket = Rc::clone(&self.socket);
        async move {
            sockets::shutdown(socket.fd.as_raw_fd())
                .map_err(during(format_args!("ending what is sent to {}", socket.peer)))
        }
    }
}
