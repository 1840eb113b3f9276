//! One connection: two ends and, between them, a pipe each way.
//!
//! A pipe holds what was written and has not been read: first in transit, then arrived. Packets of
//! one pipe arrive in order, each by its own event. An end that is closed by its process stays
//! until the other is closed too, so that what it sent still arrives.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::task::Waker;

use bytes::{Bytes, BytesMut};

use super::{Network, latency};
use crate::event::Event;
use crate::fault_kind::FaultKind;
use crate::kernel::Kernel;
use crate::limits::{SILENCE_TIMEOUT, WINDOW_BYTES};
use crate::machine::Machine;
use crate::site::Site;
use crate::slab::Key;

/// A connection. End 0 dialled, end 1 accepted.
pub(super) struct Connection {
    pub(super) ends: [End; 2],
    /// Pipe 0 carries from end 0 to end 1, pipe 1 back.
    pipes: [Pipe; 2],
    window: usize,
}

/// One end, as its machine's kernel sees it.
pub(super) struct End {
    pub(super) machine: u32,
    pub(super) process: u32,
    pub(super) node: u32,
    pub(super) address: SocketAddr,
    /// A process holds it, or a listener on behalf of one.
    pub(super) open: bool,
    /// It learnt of a reset, and this is what it makes of it.
    reset: Option<io::ErrorKind>,
    /// Its machine died and says nothing.
    silent: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl End {
    pub(super) fn new(machine: u32, process: u32, node: u32, address: SocketAddr) -> Self {
        Self {
            machine,
            process,
            node,
            address,
            open: true,
            reset: None,
            silent: false,
            reader: None,
            writer: None,
        }
    }
}

#[derive(Default)]
struct Pipe {
    transit: VecDeque<Packet>,
    arrived: VecDeque<Bytes>,
    arrived_bytes: usize,
    /// In transit or arrived, and not read. At most the window.
    held_bytes: usize,
    last_arrival: u64,
    /// The writer said that nothing more will come.
    ending: bool,
    /// The reader was told so.
    ended: bool,
}

enum Packet {
    Data(VecDeque<Bytes>),
    End,
}

impl Packet {
    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let segments = match self {
            Self::Data(segments) => Some(segments),
            Self::End => None,
        };
        segments.into_iter().flatten().map(|segment| &segment[..])
    }

    fn bytes(&self) -> usize {
        self.parts().map(<[u8]>::len).sum()
    }
}

impl Connection {
    pub(super) fn new(ends: [End; 2], window: u64) -> Self {
        let window = WINDOW_BYTES[window as usize];
        Self { ends, pipes: [Pipe::default(), Pipe::default()], window }
    }

    /// The node of an end, if this process holds it.
    pub(super) fn held_by(&self, end: usize, process: u32) -> Option<u32> {
        let end = &self.ends[end];
        (end.open && end.process == process).then_some(end.node)
    }

    /// Machines of the sending and the receiving end.
    fn route(&self, from: usize) -> (u32, u32) {
        (self.ends[from].machine, self.ends[1 - from].machine)
    }

    /// Sends a packet from an end.
    fn send(&mut self, key: Key, end: usize, packet: Packet, kernel: &mut Kernel) {
        let (from, to) = self.route(end);
        let delay = latency(from, to, self.ends[end].node, kernel);
        let (node, bytes) = (self.ends[end].node, packet.bytes());
        kernel.chronicle(|keeper| keeper.packet_sent(key, end, node, to, bytes));
        kernel.trace.contents(node, packet.parts());
        let pipe = &mut self.pipes[end];
        pipe.transit.push_back(packet);
        pipe.last_arrival = pipe.last_arrival.max(kernel.now + delay);
        let event = Event::NetArrive { connection: key, end: end as u8 };
        kernel.events.push(pipe.last_arrival, event);
    }

    /// Lets an end learn of a reset that the other end sends now.
    fn send_reset(&mut self, key: Key, end: usize, kernel: &mut Kernel) {
        let (from, to) = self.route(1 - end);
        let delay = latency(from, to, self.ends[1 - end].node, kernel);
        kernel.after(delay, Event::NetReset { connection: key, end: end as u8 });
    }

    /// If the other end's machine died and is back, this end learns so from the answer to whatever
    /// its kernel sends next.
    pub(super) fn reset_silent_peer(&mut self, key: Key, machine: u32, kernel: &mut Kernel) {
        for end in 0..2 {
            let peer = &self.ends[1 - end];
            if peer.silent && peer.machine == machine && self.ends[end].open {
                self.send_reset(key, end, kernel);
            }
        }
    }

    /// Hands over what the window takes of `segments`. True if that was all.
    pub(super) fn write(
        &mut self,
        key: Key,
        end: usize,
        segments: &mut VecDeque<Bytes>,
        waker: &Waker,
        kernel: &mut Kernel,
    ) -> io::Result<bool> {
        if let Some(error) = self.ends[end].reset {
            return Err(error.into());
        }
        if self.pipes[end].ending {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut room = self.window - self.pipes[end].held_bytes;
        let total: usize = segments.iter().map(Bytes::len).sum();
        if total == 0 {
            return Ok(true);
        }
        let packet = if total <= room {
            room = total;
            std::mem::take(segments)
        } else {
            take_front(segments, room)
        };
        let handed_over = room.min(total);
        if handed_over > 0 {
            self.pipes[end].held_bytes += handed_over;
            self.send(key, end, Packet::Data(packet), kernel);
        }
        if handed_over < total {
            kernel.fault(FaultKind::FullWindow, self.ends[end].node, "full window");
            self.ends[end].writer = Some(waker.clone());
        }
        Ok(handed_over == total)
    }

    /// Moves arrived bytes to `buffer`. `None` if there is nothing to tell yet.
    pub(super) fn read(
        &mut self,
        key: Key,
        end: usize,
        buffer: &mut BytesMut,
        waker: &Waker,
        kernel: &mut Kernel,
    ) -> Option<io::Result<usize>> {
        let (from, to) = self.route(1 - end);
        let node = self.ends[end].node;
        let pipe = &mut self.pipes[1 - end];
        if pipe.arrived_bytes == 0 {
            if pipe.ended {
                return Some(Ok(0));
            }
            if let Some(error) = self.ends[end].reset {
                return Some(Err(error.into()));
            }
            self.ends[end].reader = Some(waker.clone());
            return None;
        }
        let mut wanted = pipe.arrived_bytes.min(buffer.capacity() - buffer.len());
        if wanted > 1 && kernel.chance(Site::NetShortRead, node, kernel.faults.net.segment) {
            let drawn =
                kernel.choose(Site::NetShortReadBytes, node, 2 * wanted as u64 - 2) as usize;
            // Half of the short reads give a single byte: the hardest on whoever reads.
            wanted = if drawn < wanted { 1 } else { drawn - wanted + 2 };
            kernel.fault(FaultKind::ShortReceive, node, "short receive");
        }
        let mut left = wanted;
        while left > 0 {
            let first = pipe.arrived.front_mut().expect("as many bytes arrived as were counted");
            let part = first.split_to(left.min(first.len()));
            buffer.extend_from_slice(&part);
            left -= part.len();
            if first.is_empty() {
                pipe.arrived.pop_front();
            }
        }
        pipe.arrived_bytes -= wanted;
        pipe.held_bytes -= wanted;
        if self.ends[1 - end].writer.is_some() {
            let delay = latency(to, from, node, kernel);
            kernel.after(delay, Event::NetWindow { connection: key, end: 1 - end as u8 });
        }
        Some(Ok(wanted))
    }

    /// Says that nothing more will be sent from this end.
    pub(super) fn shutdown(&mut self, key: Key, end: usize, kernel: &mut Kernel) -> io::Result<()> {
        if let Some(error) = self.ends[end].reset {
            return Err(error.into());
        }
        if !self.pipes[end].ending {
            self.pipes[end].ending = true;
            self.send(key, end, Packet::End, kernel);
        }
        Ok(())
    }

    /// The next packet from `end` arrives. True if the receiver is gone and answers with a reset.
    fn arrive(&mut self, key: Key, end: usize, receiver_off: bool, kernel: &mut Kernel) -> bool {
        let (from, _) = self.route(end);
        let pipe = &mut self.pipes[end];
        let packet = pipe.transit.pop_front().expect("one event for each packet in transit");
        let receiver = &mut self.ends[1 - end];
        let node = receiver.node;
        if receiver.silent && receiver_off {
            kernel.chronicle(|keeper| keeper.packet_lost(key, end, node, from));
            return false;
        }
        if !receiver.open || receiver.reset.is_some() {
            kernel.chronicle(|keeper| keeper.packet_lost(key, end, node, from));
            return true;
        }
        match packet {
            Packet::End => {
                kernel.chronicle(|keeper| keeper.packet_arrived(key, end, node, from, 0));
                pipe.ended = true;
            }
            Packet::Data(mut segments) => {
                let bytes: usize = segments.iter().map(Bytes::len).sum();
                if bytes > 1 && kernel.chance(Site::NetSplit, node, kernel.faults.net.segment) {
                    let part = 1 + kernel.choose(Site::NetSplitBytes, node, bytes as u64 - 1);
                    let first = take_front(&mut segments, part as usize);
                    pipe.transit.push_front(Packet::Data(segments));
                    segments = first;
                    // The packets behind it have arrivals of their own and move up by one.
                    let event = Event::NetArrive { connection: key, end: end as u8 };
                    pipe.last_arrival = pipe.last_arrival.max(kernel.now + 1_000);
                    kernel.events.push(pipe.last_arrival, event);
                }
                let bytes: usize = segments.iter().map(Bytes::len).sum();
                kernel.chronicle(|keeper| keeper.packet_arrived(key, end, node, from, bytes));
                pipe.arrived_bytes += bytes;
                pipe.arrived.extend(segments);
                kernel.statistics.net_bytes += bytes as u64;
            }
        }
        kernel.wake(&mut receiver.reader);
        false
    }

    /// An end learns of a reset.
    fn be_reset(&mut self, key: Key, end: usize, error: io::ErrorKind, kernel: &mut Kernel) {
        if self.ends[end].reset.is_some() || !self.ends[end].open {
            return;
        }
        let node = self.ends[end].node;
        self.ends[end].reset = Some(error);
        let pipe = &mut self.pipes[1 - end];
        if pipe.arrived_bytes > 0 && kernel.choose(Site::NetResetUnread, node, 2) == 1 {
            pipe.held_bytes -= pipe.arrived_bytes;
            pipe.arrived_bytes = 0;
            pipe.arrived.clear();
        }
        kernel.fault(FaultKind::PeerReset, node, "connection reset");
        kernel.chronicle(|keeper| keeper.connection_reset(key, node, error));
        kernel.wake(&mut self.ends[end].reader);
        kernel.wake(&mut self.ends[end].writer);
    }
}

/// The first `bytes` of some segments.
fn take_front(segments: &mut VecDeque<Bytes>, mut bytes: usize) -> VecDeque<Bytes> {
    let mut front = VecDeque::new();
    while bytes > 0 {
        let first = segments.front_mut().expect("there are more bytes than are taken");
        let part = first.split_to(bytes.min(first.len()));
        bytes -= part.len();
        if !part.is_empty() {
            front.push_back(part);
        }
        if first.is_empty() {
            segments.pop_front();
        }
    }
    front
}

impl Network {
    pub(super) fn connection(&mut self, key: Key) -> Option<&mut Connection> {
        self.connections.get_mut(key)
    }

    /// The next packet from `end` of a connection arrives.
    pub(crate) fn packet_arrives(
        &mut self,
        key: Key,
        end: usize,
        machines: &[Machine],
        kernel: &mut Kernel,
    ) {
        let Some(connection) = self.connections.get(key) else { return };
        let (from, to) = connection.route(end);
        let event = Event::NetArrive { connection: key, end: end as u8 };
        if self.held_back(from, to, event) {
            return;
        }
        let receiver_off = !machines[to as usize].powered;
        let connection = self.connections.get_mut(key).expect("it was there");
        let node = connection.ends[1 - end].node;
        if connection.arrive(key, end, receiver_off, kernel) {
            connection.send_reset(key, end, kernel);
        }
        if kernel.chance(Site::NetReset, node, kernel.faults.net.reset) {
            kernel.fault(FaultKind::RandomReset, node, "random reset");
            connection.be_reset(key, 1 - end, io::ErrorKind::ConnectionReset, kernel);
            connection.send_reset(key, end, kernel);
        }
    }

    /// The writer at `end` learns that there is room.
    pub(crate) fn window_opens(&mut self, key: Key, end: usize, kernel: &mut Kernel) {
        let Some(connection) = self.connections.get(key) else { return };
        let (from, to) = connection.route(1 - end);
        let event = Event::NetWindow { connection: key, end: end as u8 };
        if self.held_back(from, to, event) {
            return;
        }
        if let Some(connection) = self.connections.get_mut(key) {
            kernel.wake(&mut connection.ends[end].writer);
        }
    }

    /// `end` learns that the connection was reset, or gives up on a silent peer.
    pub(crate) fn reset_arrives(&mut self, key: Key, end: usize, kernel: &mut Kernel) {
        let Some(connection) = self.connections.get(key) else { return };
        let (from, to) = connection.route(1 - end);
        let given_up = self.off.contains(&from);
        let event = Event::NetReset { connection: key, end: end as u8 };
        if !given_up && self.held_back(from, to, event) {
            return;
        }
        let error = if given_up { io::ErrorKind::TimedOut } else { io::ErrorKind::ConnectionReset };
        if let Some(connection) = self.connections.get_mut(key) {
            connection.be_reset(key, end, error, kernel);
        }
    }

    /// An end is closed: by the process that holds it, or because that process died.
    pub(super) fn close_end(&mut self, key: Key, end: usize, reset: bool, kernel: &mut Kernel) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if !connection.ends[end].open {
            return;
        }
        let broken = connection.ends[end].reset.is_some();
        let closing = &mut connection.ends[end];
        closing.open = false;
        let node = closing.node;
        kernel.chronicle(|keeper| keeper.connection_closed(key, node));
        let wakers = [closing.reader.take(), closing.writer.take()];
        kernel.dropped.push(Box::new(wakers));
        if reset && !broken {
            connection.send_reset(key, 1 - end, kernel);
        } else if !connection.pipes[end].ending && !broken {
            connection.pipes[end].ending = true;
            connection.send(key, end, Packet::End, kernel);
        }
        self.forget_if_closed(key);
    }

    /// The last handle of an end is dropped. Closing with bytes unread may look like a reset to
    /// the other end, as it does with real kernels.
    pub(super) fn drop_end(&mut self, key: Key, end: usize, kernel: &mut Kernel) {
        let Some(connection) = self.connections.get(key) else { return };
        let unread = connection.pipes[1 - end].held_bytes > 0;
        let node = connection.ends[end].node;
        let reset = unread && kernel.choose(Site::NetClose, node, 2) == 1;
        self.close_end(key, end, reset, kernel);
    }

    /// An end's machine died, if it is the one given.
    pub(super) fn silence_end(&mut self, key: Key, end: usize, machine: u32, kernel: &mut Kernel) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let dying = &mut connection.ends[end];
        if dying.machine != machine || !dying.open {
            return;
        }
        dying.open = false;
        dying.silent = true;
        let wakers = [dying.reader.take(), dying.writer.take()];
        kernel.dropped.push(Box::new(wakers));
        let node = connection.ends[1 - end].node;
        let patience = SILENCE_TIMEOUT.as_nanos() as u64;
        let patience = patience + kernel.choose(Site::NetTimeout, node, 1 << 32) * 10;
        kernel.after(patience, Event::NetReset { connection: key, end: 1 - end as u8 });
        self.forget_if_closed(key);
    }

    /// A connection with both ends closed is nobody's concern.
    fn forget_if_closed(&mut self, key: Key) {
        let closed = |connection: &Connection| connection.ends.iter().all(|end| !end.open);
        if self.connections.get(key).is_some_and(closed) {
            self.connections.remove(key);
        }
    }
}
