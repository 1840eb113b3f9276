//! Mailboxes between the shards of one process.
//!
//! There is one bounded queue for each ordered pair of shards, so each has one producer and one
//! consumer thread. What waits for room waits on the sending shard, in a list that only that
//! thread sees, in front of everything sent later: that is what keeps the order of a pair.
//!
//! # Why no wake-up is missed
//! 1. A parcel: it is pushed, then announced. The receiving shard takes the announcement, then
//!    wakes the receiver, which looks at the queues before it waits.
//! 2. Room: a sender that found the queue full sets `sender_waits`, then a full fence, then tries
//!    once more, and only then waits. The receiver pops, then a full fence, then reads the flag.
//!    Either the second try finds the room or the receiver finds the flag.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::task::{Context, Poll, Waker};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use super::process::Process;
use crate::limits::MAILBOX_PARCELS;
use crate::{Mesh, Parcel};

/// All mailboxes of a process.
pub(crate) struct Mailboxes {
    shards: usize,
    /// From shard `i` to shard `j` at `i * shards + j`.
    boxes: Vec<Mailbox>,
}

struct Mailbox {
    parcels: ArrayQueue<Parcel>,
    /// Set by a sender that found the queue full; cleared by the receiver that told it of room.
    sender_waits: CachePadded<AtomicBool>,
}

impl Mailboxes {
    pub(crate) fn new(shards: usize) -> Self {
        let boxes = (0..shards * shards)
            .map(|_| Mailbox {
                parcels: ArrayQueue::new(MAILBOX_PARCELS),
                sender_waits: CachePadded::default(),
            })
            .collect();
        Self { shards, boxes }
    }

    /// Drops all parcels. For when no shard sends or receives any more.
    pub(crate) fn clear(&self) {
        for mailbox in &self.boxes {
            while let Some(parcel) = mailbox.parcels.pop() {
                drop(parcel);
            }
        }
    }

    fn between(&self, from: usize, to: usize) -> &Mailbox {
        &self.boxes[from * self.shards + to]
    }
}

/// One shard's end of the mesh.
#[derive(Clone)]
pub(crate) struct MeshEnd {
    end: Rc<End>,
}

struct End {
    process: Arc<Process>,
    shard: usize,
    /// The task that waits for a parcel.
    receiver: RefCell<Option<Waker>>,
    /// The sender that is asked first for the next parcel.
    cursor: Cell<usize>,
    /// By target: parcels that wait for room, the oldest first.
    waiting: RefCell<Vec<VecDeque<Waiting>>>,
    /// How many parcels wait, over all targets.
    waiting_count: Cell<usize>,
    next_ticket: Cell<u64>,
}

/// A parcel that waits for room.
struct Waiting {
    /// Rises within a list, which is how the sender finds its own.
    ticket: u64,
    parcel: Parcel,
    sender: Waker,
}

impl MeshEnd {
    pub(crate) fn new(process: Arc<Process>, shard: usize) -> Self {
        let shards = process.doorbells.len();
        Self {
            end: Rc::new(End {
                process,
                shard,
                receiver: RefCell::default(),
                cursor: Cell::new(0),
                waiting: RefCell::new((0..shards).map(|_| VecDeque::new()).collect()),
                waiting_count: Cell::new(0),
                next_ticket: Cell::new(0),
            }),
        }
    }

    /// Forgets who waits for a parcel, and the parcels that wait for room.
    pub(crate) fn clear(&self) {
        let receiver = self.end.receiver.borrow_mut().take();
        let mut waiting = self.end.waiting.borrow_mut();
        let parcels: Vec<VecDeque<Waiting>> = waiting.iter_mut().map(std::mem::take).collect();
        drop(waiting);
        self.end.waiting_count.set(0);
        drop((receiver, parcels));
    }

    /// Acts on what the doorbell announced: wakes the receiver, and moves waiting parcels on.
    pub(crate) fn turn(&self) {
        let doorbell = &self.end.process.doorbells[self.end.shard];
        if doorbell.take_mail() {
            let receiver = self.end.receiver.borrow_mut().take();
            if let Some(receiver) = receiver {
                receiver.wake();
            }
        }
        if doorbell.take_room() && self.end.waiting_count.get() > 0 {
            for to in 0..self.end.process.doorbells.len() {
                self.end.move_waiting(to);
            }
        }
    }
}

impl End {
    /// Delivers a parcel, or gives it back if the mailbox is full.
    fn push(&self, to: usize, parcel: Parcel) -> Result<(), Parcel> {
        let mailbox = self.process.mailboxes.between(self.shard, to);
        let first_try = mailbox.parcels.push(parcel);
        if let Err(parcel) = first_try {
            mailbox.sender_waits.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            mailbox.parcels.push(parcel)?;
        }
        self.process.doorbells[to].announce_mail();
        Ok(())
    }

    /// Moves waiting parcels into a mailbox until it is full or none wait.
    fn move_waiting(&self, to: usize) {
        loop {
            let mut waiting = self.waiting.borrow_mut();
            let Some(first) = waiting[to].pop_front() else { return };
            match self.push(to, first.parcel) {
                Ok(()) => {
                    self.waiting_count.set(self.waiting_count.get() - 1);
                    // The borrow ends first: a waker may drop a task, and with it a send.
                    drop(waiting);
                    first.sender.wake();
                }
                Err(parcel) => {
                    waiting[to].push_front(Waiting { parcel, ..first });
                    return;
                }
            }
        }
    }

    /// The next parcel for this shard, if there is one; senders take turns.
    fn pop(&self) -> Option<(usize, Parcel)> {
        let shards = self.process.doorbells.len();
        for step in 0..shards {
            let from = (self.cursor.get() + step) % shards;
            let mailbox = self.process.mailboxes.between(from, self.shard);
            if mailbox.parcels.is_empty() {
                continue;
            }
            if let Some(parcel) = mailbox.parcels.pop() {
                self.cursor.set((from + 1) % shards);
                fence(Ordering::SeqCst);
                if mailbox.sender_waits.load(Ordering::Relaxed)
                    && mailbox.sender_waits.swap(false, Ordering::AcqRel)
                {
                    self.process.doorbells[from].announce_room();
                }
                return Some((from, parcel));
            }
        }
        None
    }
}

impl Mesh for MeshEnd {
    fn shard(&self) -> usize {
        self.end.shard
    }

    fn shards(&self) -> usize {
        self.end.process.doorbells.len()
    }

    fn send(&self, to: usize, parcel: Parcel) -> impl Future<Output = ()> + 'static {
        assert!(to < self.shards(), "shard {to} of {}", self.shards());
        Send { end: Rc::clone(&self.end), to, parcel: Some(parcel), ticket: None }
    }

    fn receive(&self) -> impl Future<Output = (usize, Parcel)> + 'static {
        let end = Rc::clone(&self.end);
        std::future::poll_fn(move |context| {
            if let Some(received) = end.pop() {
                return Poll::Ready(received);
            }
            let replaced = end.receiver.borrow_mut().replace(context.waker().clone());
            drop(replaced);
            Poll::Pending
        })
    }
}

/// Completes when its parcel is in the mailbox.
struct Send {
    end: Rc<End>,
    to: usize,
    /// The parcel, until it is in the mailbox or in the list of those that wait.
    parcel: Option<Parcel>,
    /// Its place in that list.
    ticket: Option<u64>,
}

impl Future for Send {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if let Some(ticket) = this.ticket {
            let mut waiting = this.end.waiting.borrow_mut();
            let list = &mut waiting[this.to];
            let Ok(index) = list.binary_search_by_key(&ticket, |entry| entry.ticket) else {
                this.ticket = None;
                return Poll::Ready(());
            };
            let replaced = std::mem::replace(&mut list[index].sender, context.waker().clone());
            // The borrow ends first: a waker may be the last hold on a task, and with it a send.
            drop(waiting);
            drop(replaced);
            return Poll::Pending;
        }
        let Some(mut parcel) = this.parcel.take() else { return Poll::Ready(()) };
        let nobody_waits = this.end.waiting.borrow()[this.to].is_empty();
        if nobody_waits {
            match this.end.push(this.to, parcel) {
                Ok(()) => return Poll::Ready(()),
                Err(refused) => parcel = refused,
            }
        }
        let ticket = this.end.next_ticket.get();
        this.end.next_ticket.set(ticket + 1);
        this.ticket = Some(ticket);
        let entry = Waiting { ticket, parcel, sender: context.waker().clone() };
        this.end.waiting.borrow_mut()[this.to].push_back(entry);
        this.end.waiting_count.set(this.end.waiting_count.get() + 1);
        Poll::Pending
    }
}

impl Drop for Send {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut waiting = self.end.waiting.borrow_mut();
        let list = &mut waiting[self.to];
        if let Ok(index) = list.binary_search_by_key(&ticket, |entry| entry.ticket) {
            let removed = list.remove(index);
            self.end.waiting_count.set(self.end.waiting_count.get() - 1);
            drop(waiting);
            drop(removed);
        }
    }
}
