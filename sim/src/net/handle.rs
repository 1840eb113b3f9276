//! The seam's `Net`, `Listener` and `Stream` over the simulated network.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use woodchuck_io::{Listener, Net, Stream};

use super::Network;
use crate::kernel::Kernel;
use crate::shard::Handle;
use crate::slab::Key;

impl Handle {
    /// Visits the network and this machine's next port, if the process lives.
    fn network<T>(
        &self,
        visit: impl FnOnce(&mut Network, &mut u16, &mut Kernel) -> T,
    ) -> Option<T> {
        let machine = self.machine as usize;
        self.if_alive(|core| {
            visit(&mut core.network, &mut core.machines[machine].next_port, &mut core.kernel)
        })
    }
}

/// The network as one shard sees it.
#[derive(Clone)]
pub struct SimNet(pub(crate) Rc<Handle>);

impl Net for SimNet {
    type Listener = SimListener;
    type Stream = SimStream;

    fn listen(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<SimListener>> + 'static {
        let handle = Rc::clone(&self.0);
        async move {
            let listening =
                handle.network(|network, next_port, _| network.listen(&handle, address, next_port));
            match listening {
                Some(listening) => {
                    let (key, address) = listening?;
                    Ok(SimListener(Rc::new(Listening { handle, key, address })))
                }
                None => std::future::pending().await,
            }
        }
    }

    fn connect(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<SimStream>> + 'static {
        Connect { handle: Rc::clone(&self.0), address, dial: None }
    }
}

/// A connection attempt. Dropping it closes what may have come of it.
struct Connect {
    handle: Rc<Handle>,
    address: SocketAddr,
    dial: Option<Key>,
}

impl Future for Connect {
    type Output = io::Result<SimStream>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<SimStream>> {
        let this = &mut *self;
        let handle = Rc::clone(&this.handle);
        let waker = context.waker();
        let Some(dial) = this.dial else {
            let dialling = handle.network(|network, next_port, kernel| {
                network.dial(&handle, this.address, waker, next_port, kernel)
            });
            return match dialling {
                Some(Err(error)) => Poll::Ready(Err(error)),
                dialling => {
                    this.dial = dialling.and_then(Result::ok);
                    handle.local.waits("a connect", Poll::Pending)
                }
            };
        };
        let dialled = handle.network(|network, _, _| network.dialled(dial, waker)).flatten();
        if dialled.is_none() {
            handle.local.note_wait("a connect", None);
        }
        dialled.map_or(Poll::Pending, |outcome| {
            this.dial = None;
            let key = outcome?;
            Poll::Ready(Ok(SimStream(Rc::new(Connected { handle, key, end: 0 }))))
        })
    }
}

impl Drop for Connect {
    fn drop(&mut self) {
        if let Some(dial) = self.dial {
            self.handle.network(|network, _, kernel| network.drop_dial(dial, kernel));
        }
    }
}

/// A socket that accepts connections.
#[derive(Clone)]
pub struct SimListener(Rc<Listening>);

/// Stops listening when the last handle goes.
struct Listening {
    handle: Rc<Handle>,
    key: Key,
    address: SocketAddr,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.handle.network(|network, _, kernel| network.drop_listener(self.key, kernel));
    }
}

impl Listener for SimListener {
    type Stream = SimStream;

    fn accept(&self) -> impl Future<Output = io::Result<(SimStream, SocketAddr)>> + 'static {
        let listening = Rc::clone(&self.0);
        poll_fn(move |context| {
            let Listening { handle, key, .. } = &*listening;
            let accepted =
                handle.network(|network, _, _| network.accept(*key, context.waker())).flatten();
            if accepted.is_none() {
                handle.local.note_wait("an accept", None);
            }
            accepted.map_or(Poll::Pending, |(key, peer)| {
                let handle = Rc::clone(handle);
                Poll::Ready(Ok((SimStream(Rc::new(Connected { handle, key, end: 1 })), peer)))
            })
        })
    }

    fn local_address(&self) -> SocketAddr {
        self.0.address
    }
}

/// A connection.
#[derive(Clone)]
pub struct SimStream(Rc<Connected>);

/// Closes its end when the last handle goes.
struct Connected {
    handle: Rc<Handle>,
    key: Key,
    end: usize,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.handle.network(|network, _, kernel| network.drop_end(self.key, self.end, kernel));
    }
}

impl Stream for SimStream {
    fn read(
        &self,
        buffer: BytesMut,
    ) -> impl Future<Output = (io::Result<usize>, BytesMut)> + 'static {
        let connected = Rc::clone(&self.0);
        let mut buffer = Some(buffer);
        poll_fn(move |context| {
            let Connected { handle, key, end } = &*connected;
            let into = buffer.as_mut().expect("not polled after it completed");
            if into.capacity() == into.len() {
                let error = io::Error::new(io::ErrorKind::InvalidInput, "the buffer has no room");
                return Poll::Ready((Err(error), buffer.take().expect("it was there")));
            }
            let read = handle.network(|network, _, kernel| {
                let (connection, links) = network.connection(*key)?;
                connection.read(*key, *end, (into, context.waker()), links, kernel)
            });
            let read = read.flatten().map_or(Poll::Pending, |result| {
                Poll::Ready((result, buffer.take().expect("it was there")))
            });
            handle.local.waits("a connection read", read)
        })
    }

    fn write(&self, segments: Vec<Bytes>) -> impl Future<Output = io::Result<()>> + 'static {
        let connected = Rc::clone(&self.0);
        let mut segments = VecDeque::from(segments);
        poll_fn(move |context| {
            let Connected { handle, key, end } = &*connected;
            let written = handle.network(|network, _, kernel| {
                let (connection, links) = network.connection(*key)?;
                let waiting = (&mut segments, context.waker());
                Some(connection.write(*key, *end, waiting, links, kernel))
            });
            match written.flatten() {
                Some(Ok(true)) => Poll::Ready(Ok(())),
                Some(Err(error)) => Poll::Ready(Err(error)),
                Some(Ok(false)) | None => handle.local.waits("a connection write", Poll::Pending),
            }
        })
    }

    fn shutdown(&self) -> impl Future<Output = io::Result<()>> + 'static {
        let connected = Rc::clone(&self.0);
        async move {
            let Connected { handle, key, end } = &*connected;
            let shut = handle.network(|network, _, kernel| {
                let (connection, links) = network.connection(*key)?;
                Some(connection.shutdown(*key, *end, links, kernel))
            });
            match shut.flatten() {
                Some(result) => result,
                None => std::future::pending().await,
            }
        }
    }
}
