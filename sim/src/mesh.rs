//! Mailboxes between the shards of one process.
//!
//! Parcels from one shard to another arrive in order, each after a drawn delay; between pairs there
//! is no order. A mailbox is full when [`MAILBOX_PARCELS`] parcels of its direction have been sent
//! and not received: then senders wait, in the order in which they began to. All of it dies with
//! the process. A parcel for a shard whose program has ended vanishes.

use std::any::Any;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use woodchuck_io::limits::MAILBOX_PARCELS;
use woodchuck_io::{Mesh, Parcel};

use crate::event::Event;
use crate::kernel::Kernel;
use crate::machine::Process;
use crate::shard::Handle;
use crate::site::Site;

/// The mailboxes of one process.
pub(crate) struct MeshState {
    shards: usize,
    /// By sender times the number of shards plus receiver.
    pairs: Vec<Pair>,
    receivers: Vec<Receiver>,
    next_sender: u64,
}

/// One direction between two shards.
#[derive(Default)]
struct Pair {
    transit: VecDeque<Parcel>,
    /// Parcels sent and not received: those in transit and those in the inbox. At most
    /// [`MAILBOX_PARCELS`].
    held: usize,
    /// When the latest parcel arrives; the next arrives no earlier.
    last_arrival: u64,
    waiting: VecDeque<Waiting>,
}

/// A sender that found the mailbox full, with what it sends.
struct Waiting {
    sender: u64,
    parcel: Parcel,
    waker: Waker,
}

#[derive(Default)]
struct Receiver {
    inbox: VecDeque<(usize, Parcel)>,
    waker: Option<Waker>,
    ended: bool,
}

impl MeshState {
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            shards,
            pairs: std::iter::repeat_with(Pair::default).take(shards * shards).collect(),
            receivers: std::iter::repeat_with(Receiver::default).take(shards).collect(),
            next_sender: 0,
        }
    }

    /// Everything still held, to be dropped where nothing is borrowed.
    pub(crate) fn into_parcels(self) -> Box<dyn Any> {
        Box::new((self.pairs, self.receivers))
    }

    /// Adds what the mailboxes hold.
    pub(crate) fn count(&self, counted: &mut crate::machine::Resources) {
        let inboxes = self.receivers.iter().map(|receiver| receiver.inbox.len());
        let transits = self.pairs.iter().map(|pair| pair.transit.len());
        counted.parcels += inboxes.chain(transits).sum::<usize>() as u64;
        counted.waiting_senders +=
            self.pairs.iter().map(|pair| pair.waiting.len()).sum::<usize>() as u64;
    }

    /// Shard `shard` has ended: what is for it vanishes, now and later.
    pub(crate) fn end(&mut self, shard: usize, kernel: &mut Kernel) {
        self.receivers[shard].ended = true;
        let inbox = std::mem::take(&mut self.receivers[shard].inbox);
        kernel.dropped.push(Box::new(inbox));
        for from in 0..self.shards {
            let pair = &mut self.pairs[from * self.shards + shard];
            let waiting = std::mem::take(&mut pair.waiting);
            for Waiting { parcel, waker, .. } in waiting {
                kernel.dropped.push(Box::new(parcel));
                kernel.wakes.push(waker);
            }
        }
    }
}

impl Process {
    /// Puts a parcel on its way.
    fn dispatch(&mut self, from: usize, to: usize, parcel: Parcel, kernel: &mut Kernel) {
        let pair = &mut self.mesh.pairs[from * self.mesh.shards + to];
        pair.transit.push_back(parcel);
        pair.held += 1;
        let node = crate::kernel::node_of(self.machine, from);
        let delay = 200 + 50 * kernel.choose(Site::MeshLatency, node, 100);
        pair.last_arrival = pair.last_arrival.max(kernel.now + delay);
        let event = Event::MeshArrive {
            process: self.id,
            machine: self.machine as u16,
            from: from as u8,
            to: to as u8,
        };
        kernel.events.push(pair.last_arrival, event);
    }

    /// Sends a parcel, or queues its sender.
    fn send(
        &mut self,
        (from, to): (usize, usize),
        parcel: Parcel,
        waker: &Waker,
        kernel: &mut Kernel,
    ) -> Option<u64> {
        if self.mesh.receivers[to].ended {
            kernel.dropped.push(Box::new(parcel));
            return None;
        }
        let pair = &mut self.mesh.pairs[from * self.mesh.shards + to];
        if pair.held < MAILBOX_PARCELS && pair.waiting.is_empty() {
            self.dispatch(from, to, parcel, kernel);
            return None;
        }
        let sender = self.mesh.next_sender;
        self.mesh.next_sender += 1;
        pair.waiting.push_back(Waiting { sender, parcel, waker: waker.clone() });
        Some(sender)
    }

    /// The next parcel in transit arrives.
    pub(crate) fn mesh_arrive(&mut self, from: usize, to: usize, kernel: &mut Kernel) {
        let pair = &mut self.mesh.pairs[from * self.mesh.shards + to];
        let parcel = pair.transit.pop_front().expect("one event for each parcel in transit");
        let receiver = &mut self.mesh.receivers[to];
        if receiver.ended {
            kernel.dropped.push(Box::new(parcel));
            return;
        }
        receiver.inbox.push_back((from, parcel));
        kernel.wake(&mut receiver.waker);
    }

    /// Takes a parcel out of the inbox, which lets the first waiting sender of its direction go on.
    fn receive(&mut self, to: usize, kernel: &mut Kernel) -> Option<(usize, Parcel)> {
        let (from, parcel) = self.mesh.receivers[to].inbox.pop_front()?;
        let pair = &mut self.mesh.pairs[from * self.mesh.shards + to];
        pair.held -= 1;
        assert!(pair.held < MAILBOX_PARCELS, "a mailbox held more than its bound");
        if let Some(Waiting { parcel, waker, .. }) = pair.waiting.pop_front() {
            kernel.wakes.push(waker);
            self.dispatch(from, to, parcel, kernel);
        }
        Some((from, parcel))
    }
}

/// The mailboxes as one shard sees them.
#[derive(Clone)]
pub struct SimMesh(pub(crate) Rc<Handle>);

impl Mesh for SimMesh {
    fn shard(&self) -> usize {
        self.0.shard
    }

    fn shards(&self) -> usize {
        self.0.shards
    }

    fn send(&self, to: usize, parcel: Parcel) -> impl Future<Output = ()> + 'static {
        assert!(to < self.0.shards, "shard {to} of a process with {}", self.0.shards);
        Send { handle: Rc::clone(&self.0), to, parcel: Some(parcel), waiting: None }
    }

    fn receive(&self) -> impl Future<Output = (usize, Parcel)> + 'static {
        let handle = Rc::clone(&self.0);
        poll_fn(move |context| {
            let received = handle.process(|process, kernel| {
                let received = process.receive(handle.shard, kernel);
                if received.is_none() {
                    let waker = &mut process.mesh.receivers[handle.shard].waker;
                    kernel.dropped.extend(
                        waker
                            .replace(context.waker().clone())
                            .map(|waker| Box::new(waker) as Box<dyn Any>),
                    );
                }
                received
            });
            handle.local.waits("a parcel", received.flatten().map_or(Poll::Pending, Poll::Ready))
        })
    }
}

/// A parcel being sent.
struct Send {
    handle: Rc<Handle>,
    to: usize,
    /// Taken by the first poll.
    parcel: Option<Parcel>,
    /// Which of the waiting senders this is, if it waits.
    waiting: Option<u64>,
}

impl Future for Send {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let route = (this.handle.shard, this.to);
        let (parcel, waiting) = (this.parcel.take(), this.waiting);
        let still_waiting = this.handle.process(|process, kernel| {
            if let Some(parcel) = parcel {
                return process.send(route, parcel, context.waker(), kernel);
            }
            let pair = &mut process.mesh.pairs[route.0 * process.mesh.shards + route.1];
            let entry = pair.waiting.iter_mut().find(|entry| Some(entry.sender) == waiting)?;
            entry.waker.clone_from(context.waker());
            waiting
        });
        match still_waiting {
            // The process is dead: nothing completes any more.
            None => Poll::Pending,
            Some(waiting) => {
                this.waiting = waiting;
                let poll = if waiting.is_some() { Poll::Pending } else { Poll::Ready(()) };
                this.handle.local.waits("room in a mailbox", poll)
            }
        }
    }
}

impl Drop for Send {
    fn drop(&mut self) {
        let Some(sender) = self.waiting else { return };
        let (from, to) = (self.handle.shard, self.to);
        self.handle.process(|process, kernel| {
            let pair = &mut process.mesh.pairs[from * process.mesh.shards + to];
            if let Some(index) = pair.waiting.iter().position(|entry| entry.sender == sender) {
                let removed = pair.waiting.remove(index).map(|entry| (entry.parcel, entry.waker));
                kernel.dropped.push(Box::new(removed));
            }
        });
    }
}
