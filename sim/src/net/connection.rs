//! One connection: two ends and, between them, a pipe each way.
//!
//! A pipe holds what was written and has not been read: first in transit, then arrived. Packets of
//! one pipe arrive in order, each by its own event. An end that is closed by its process stays
//! until the other is closed too, so that what it sent still arrives.
//!
//! An end may forget a connection while the other knows nothing of it: because it gave up, because
//! its reset was lost, because its machine died. Such a connection is half open. The other end
//! learns of it from the answer to what it sends; if it only reads, it gives up after a silence, as
//! kernels do that probe idle connections.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::task::Waker;

use bytes::{Bytes, BytesMut};

use super::Network;
use super::link::{Cut, Links, Resend};
use super::segments::{corrupt, take_front};
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
    /// The links on which the ends send.
    links: [u32; 2],
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
    /// It knows nothing of the connection any more, and has not told the other end.
    forgotten: bool,
    /// When it has borne silence for long enough.
    give_up_at: Option<u64>,
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
            forgotten: false,
            give_up_at: None,
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
    /// A packet was lost so often that nothing more gets through: the writer gives up soon.
    broken: bool,
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
}

impl Connection {
    pub(super) fn new(ends: [End; 2], links: [u32; 2], window: u64) -> Self {
        let window = WINDOW_BYTES[window as usize];
        Self { ends, pipes: [Pipe::default(), Pipe::default()], links, window }
    }

    /// The node of an end, if this process holds it.
    pub(super) fn held_by(&self, end: usize, process: u32) -> Option<u32> {
        let end = &self.ends[end];
        (end.open && end.process == process).then_some(end.node)
    }

    /// Whether an end sends on this link.
    pub(super) fn uses(&self, link: u32) -> bool {
        self.links.contains(&link)
    }

    /// Whether a partition makes either end give up.
    pub(super) fn is_cut_off(&self, links: &Links) -> bool {
        self.links.iter().any(|&link| links[link].cut == Some(Cut::Drop))
    }

    /// How many bytes of data the next packet from an end holds.
    pub(super) fn next_packet_bytes(&self, end: usize) -> usize {
        match self.pipes[end].transit.front() {
            Some(Packet::Data(segments)) => segments.iter().map(Bytes::len).sum(),
            Some(Packet::End) | None => 0,
        }
    }

    /// Whether an end is in use and has not learnt of a reset.
    pub(super) fn is_usable(&self, end: usize) -> bool {
        self.ends[end].open && self.ends[end].reset.is_none()
    }

    /// Sends a packet with so many bytes from an end.
    fn send(
        &mut self,
        (key, end): (Key, usize),
        (packet, bytes): (Packet, usize),
        links: &mut Links,
        kernel: &mut Kernel,
    ) {
        if self.pipes[end].broken {
            return;
        }
        let link = &mut links[self.links[end]];
        let journey = link.travel(bytes, self.ends[end].node, Resend::DATA, kernel);
        let pipe = &mut self.pipes[end];
        if !journey.arrives {
            pipe.broken = true;
            self.give_up_after(key, end, journey.nanos, kernel);
            return;
        }
        let (node, to) = (self.ends[end].node, self.ends[1 - end].machine);
        kernel.chronicle(|keeper| keeper.packet_sent(key, end, node, to, bytes));
        kernel.trace.contents(node, packet.parts());
        pipe.transit.push_back(packet);
        pipe.last_arrival = pipe.last_arrival.max(kernel.now.saturating_add(journey.nanos));
        let event = Event::NetArrive { connection: key, end: end as u8 };
        kernel.events.push(pipe.last_arrival, event);
    }

    /// Lets an end learn of a reset that the other end sends now, if it is not lost.
    fn send_reset(&mut self, key: Key, end: usize, links: &mut Links, kernel: &mut Kernel) {
        let sender = 1 - end;
        let link = &mut links[self.links[sender]];
        let journey = link.travel(0, self.ends[sender].node, Resend::NEVER, kernel);
        if journey.arrives {
            kernel.after(journey.nanos, Event::NetReset { connection: key, end: end as u8 });
        } else {
            self.forget(key, sender, kernel);
        }
    }

    /// If the other end's machine died and is back, this end learns so from the answer to whatever
    /// its kernel sends next.
    pub(super) fn reset_silent_peer(
        &mut self,
        key: Key,
        machine: u32,
        links: &mut Links,
        kernel: &mut Kernel,
    ) {
        for end in 0..2 {
            let peer = &self.ends[1 - end];
            if peer.silent && peer.machine == machine && self.ends[end].open {
                self.send_reset(key, end, links, kernel);
            }
        }
    }

    /// An end knows nothing of the connection any more, and the other is not told.
    pub(super) fn forget(&mut self, key: Key, end: usize, kernel: &mut Kernel) {
        if self.ends[end].forgotten {
            return;
        }
        self.ends[end].forgotten = true;
        if self.is_usable(1 - end) {
            let node = self.ends[1 - end].node;
            kernel.fault(FaultKind::HalfOpen, node, "half open connection");
        }
        self.bear_silence(key, 1 - end, kernel);
    }

    /// Nothing reaches an end any more: it will give up.
    pub(super) fn bear_silence(&mut self, key: Key, end: usize, kernel: &mut Kernel) {
        let End { open: true, reset: None, give_up_at: None, node, .. } = self.ends[end] else {
            return;
        };
        let patience = SILENCE_TIMEOUT.as_nanos() as u64;
        let patience = patience + kernel.choose(Site::NetTimeout, node, 1 << 32) * 10;
        self.give_up_after(key, end, patience, kernel);
    }

    /// An end will give up, unless it does so earlier or hears something.
    fn give_up_after(&mut self, key: Key, end: usize, nanos: u64, kernel: &mut Kernel) {
        let at = kernel.now.saturating_add(nanos);
        let give_up_at = &mut self.ends[end].give_up_at;
        if give_up_at.is_none_or(|other| at < other) {
            *give_up_at = Some(at);
            kernel.events.push(at, Event::NetGiveUp { connection: key, end: end as u8 });
        }
    }

    /// Packets pass again: an end that was waiting for no other reason has something to hear.
    pub(super) fn hear_again(&mut self, end: usize) {
        let peer = &self.ends[1 - end];
        if !peer.silent && !peer.forgotten && !self.pipes[end].broken {
            self.ends[end].give_up_at = None;
        }
    }

    /// Hands over what the window takes of `segments`. True if that was all.
    pub(super) fn write(
        &mut self,
        key: Key,
        end: usize,
        (segments, waker): (&mut VecDeque<Bytes>, &Waker),
        links: &mut Links,
        kernel: &mut Kernel,
    ) -> io::Result<bool> {
        let total: usize = segments.iter().map(Bytes::len).sum();
        if total == 0 {
            return Ok(true);
        }
        if let Some(error) = self.ends[end].reset {
            return Err(error.into());
        }
        if self.pipes[end].ending {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut room = self.window - self.pipes[end].held_bytes;
        let packet = if total <= room {
            room = total;
            std::mem::take(segments)
        } else {
            take_front(segments, room)
        };
        let handed_over = room.min(total);
        if handed_over > 0 {
            self.pipes[end].held_bytes += handed_over;
            self.send((key, end), (Packet::Data(packet), handed_over), links, kernel);
        }
        if handed_over < total {
            kernel.fault(FaultKind::FullWindow, self.ends[end].node, "full window");
            self.ends[end].writer = Some(waker.clone());
            // A kernel that cannot send asks now and then whether there is room. If nobody holds
            // the other end any more, the answer is a reset; without it nobody would ever read.
            let peer = &self.ends[1 - end];
            if !peer.open && !peer.silent {
                self.send_reset(key, end, links, kernel);
            }
        }
        Ok(handed_over == total)
    }

    /// Moves arrived bytes to `buffer`. `None` if there is nothing to tell yet.
    pub(super) fn read(
        &mut self,
        key: Key,
        end: usize,
        (buffer, waker): (&mut BytesMut, &Waker),
        links: &mut Links,
        kernel: &mut Kernel,
    ) -> Option<io::Result<usize>> {
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
        let there = pipe.arrived_bytes.min(buffer.capacity() - buffer.len());
        let mut wanted = there;
        if wanted > 1 && kernel.chance(Site::NetShortRead, node, kernel.faults.net.segment) {
            let drawn =
                kernel.choose(Site::NetShortReadBytes, node, 2 * wanted as u64 - 2) as usize;
            // Half of the short reads give a single byte: the hardest on whoever reads.
            wanted = if drawn < wanted { 1 } else { drawn - wanted + 2 };
        }
        if wanted < there {
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
            let journey = links[self.links[end]].travel(0, node, Resend::DATA, kernel);
            // A window is told of again and again, so it is never lost for good.
            kernel.after(journey.nanos, Event::NetWindow { connection: key, end: 1 - end as u8 });
        }
        Some(Ok(wanted))
    }

    /// Says that nothing more will be sent from this end.
    pub(super) fn shutdown(
        &mut self,
        key: Key,
        end: usize,
        links: &mut Links,
        kernel: &mut Kernel,
    ) -> io::Result<()> {
        if let Some(error) = self.ends[end].reset {
            return Err(error.into());
        }
        if !self.pipes[end].ending {
            self.pipes[end].ending = true;
            self.send((key, end), (Packet::End, 0), links, kernel);
        }
        Ok(())
    }

    /// The next packet from `end` arrives. True if the receiver is gone and answers with a reset.
    fn arrive(
        &mut self,
        key: Key,
        end: usize,
        receiver_off: bool,
        links: &mut Links,
        kernel: &mut Kernel,
    ) -> bool {
        let from = self.ends[end].machine;
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
                let sent = bytes;
                let bytes: usize = segments.iter().map(Bytes::len).sum();
                if bytes < sent {
                    kernel.fault(FaultKind::SplitPacket, node, "packet in parts");
                }
                kernel.chronicle(|keeper| keeper.packet_arrived(key, end, node, from, bytes));
                if links[self.links[end]].corrupts(node, kernel) {
                    corrupt(&mut segments, bytes, node, kernel);
                }
                pipe.arrived_bytes += bytes;
                pipe.arrived.extend(segments);
                kernel.statistics.net_bytes += bytes as u64;
            }
        }
        kernel.wake(&mut receiver.reader);
        false
    }

    /// An end learns of a reset.
    pub(super) fn be_reset(
        &mut self,
        key: Key,
        end: usize,
        error: io::ErrorKind,
        kernel: &mut Kernel,
    ) {
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
            // An end may stand behind what is thrown away. Without it the bytes before it would
            // seem to have been all.
            pipe.ended = false;
        }
        if error == io::ErrorKind::TimedOut {
            kernel.fault(FaultKind::SilentPeer, node, "gave up");
        } else {
            kernel.fault(FaultKind::PeerReset, node, "connection reset");
        }
        kernel.chronicle(|keeper| keeper.connection_reset(key, node, error));
        kernel.wake(&mut self.ends[end].reader);
        kernel.wake(&mut self.ends[end].writer);
    }
}

impl Network {
    /// A connection and what it sends on.
    pub(super) fn connection(&mut self, key: Key) -> Option<(&mut Connection, &mut Links)> {
        Some((self.connections.get_mut(key)?, &mut self.links))
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
        let event = Event::NetArrive { connection: key, end: end as u8 };
        if !self.held_back(connection.links[end], event, kernel) {
            self.deliver_packet(key, end, machines, kernel);
        }
    }

    pub(super) fn deliver_packet(
        &mut self,
        key: Key,
        end: usize,
        machines: &[Machine],
        kernel: &mut Kernel,
    ) {
        let Some((connection, links)) = self.connection(key) else { return };
        let receiver = &connection.ends[1 - end];
        let receiver_off = !machines[receiver.machine as usize].powered;
        let node = receiver.node;
        if connection.arrive(key, end, receiver_off, links, kernel) {
            connection.send_reset(key, end, links, kernel);
        }
        if kernel.chance(Site::NetReset, node, kernel.faults.net.reset) {
            links[connection.links[end]].statistics.resets += 1;
            let usable = connection.is_usable(1 - end);
            connection.be_reset(key, 1 - end, io::ErrorKind::ConnectionReset, kernel);
            if usable && !connection.is_usable(1 - end) {
                kernel.fault(FaultKind::RandomReset, node, "random reset");
            }
            connection.send_reset(key, end, links, kernel);
        }
    }

    /// The writer at `end` learns that there is room.
    pub(crate) fn window_opens(&mut self, key: Key, end: usize, kernel: &mut Kernel) {
        let Some(connection) = self.connections.get(key) else { return };
        let event = Event::NetWindow { connection: key, end: end as u8 };
        if !self.held_back(connection.links[1 - end], event, kernel) {
            self.deliver_window(key, end, kernel);
        }
    }

    pub(super) fn deliver_window(&mut self, key: Key, end: usize, kernel: &mut Kernel) {
        if let Some((connection, _)) = self.connection(key) {
            kernel.wake(&mut connection.ends[end].writer);
        }
    }

    /// `end` learns that the connection was reset, unless the reset is lost on its way.
    pub(crate) fn reset_arrives(&mut self, key: Key, end: usize, kernel: &mut Kernel) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let link = connection.links[1 - end];
        if self.links[link].cut == Some(Cut::Drop) {
            self.links[link].meet_cut(kernel);
            connection.forget(key, 1 - end, kernel);
            return;
        }
        let event = Event::NetReset { connection: key, end: end as u8 };
        if !self.held_back(link, event, kernel) {
            self.deliver_reset(key, end, kernel);
        }
    }

    pub(super) fn deliver_reset(&mut self, key: Key, end: usize, kernel: &mut Kernel) {
        let Some((connection, links)) = self.connection(key) else { return };
        links[connection.links[1 - end]].statistics.resets += 1;
        connection.be_reset(key, end, io::ErrorKind::ConnectionReset, kernel);
    }

    /// Whether an end may still give up.
    pub(crate) fn may_give_up(&self, key: Key, end: usize) -> bool {
        let connection = self.connections.get(key);
        connection.is_some_and(|connection| connection.ends[end].give_up_at.is_some())
    }

    /// `end` has heard nothing for too long, if it did not hear something meanwhile.
    pub(crate) fn give_up(&mut self, key: Key, end: usize, kernel: &mut Kernel) {
        let Some((connection, _)) = self.connection(key) else { return };
        if connection.ends[end].give_up_at == Some(kernel.now) {
            connection.ends[end].give_up_at = None;
            connection.be_reset(key, end, io::ErrorKind::TimedOut, kernel);
            connection.forget(key, end, kernel);
        }
    }

    /// An end is closed: by the process that holds it, or because that process died.
    pub(super) fn close_end(&mut self, key: Key, end: usize, reset: bool, kernel: &mut Kernel) {
        let Some((connection, links)) = self.connection(key) else { return };
        if !connection.ends[end].open {
            return;
        }
        let broken = connection.ends[end].reset.is_some();
        // Whoever waits for room on the other side asks for it, and learns that nobody reads.
        let reset = reset || connection.ends[1 - end].writer.is_some();
        let closing = &mut connection.ends[end];
        closing.open = false;
        let node = closing.node;
        kernel.chronicle(|keeper| keeper.connection_closed(key, node));
        let wakers = [closing.reader.take(), closing.writer.take()];
        kernel.dropped.push(Box::new(wakers));
        if reset && !broken {
            connection.send_reset(key, 1 - end, links, kernel);
        } else if !connection.pipes[end].ending && !broken {
            connection.pipes[end].ending = true;
            connection.send((key, end), (Packet::End, 0), links, kernel);
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
        connection.bear_silence(key, 1 - end, kernel);
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
