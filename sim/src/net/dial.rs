//! How a connection comes to be: listeners, and attempts to reach them.
//!
//! The shards of one process may listen on one address; the world chooses which of them gets a
//! connection. A connection stands as soon as the listening machine's kernel took it, before the
//! process accepts it: what the other end writes meanwhile waits.
//!
//! A dialler whose request gets no answer asks again, after a while that doubles each time, and
//! fails with a time-out in the end: requests are lost, meet a partition, find a machine that is off
//! or a listener with no room. It is refused at once if nobody listens.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::Waker;

use super::connection::{Connection, End};
use super::link::Resend;
use super::{Network, address_of, machine_at};
use crate::event::Event;
use crate::fault_kind::FaultKind;
use crate::kernel::Kernel;
use crate::limits::{
    BACKLOG_CONNECTIONS, CLOG_INTERVAL, CONNECT_TIMEOUT, FIRST_EPHEMERAL_PORT, REDIAL_AFTER,
    WINDOW_BYTES,
};
use crate::machine::Machine;
use crate::shard::Handle;
use crate::site::Site;
use crate::slab::Key;

/// What listens on one port of one machine.
#[derive(Default)]
pub(super) struct Port {
    /// A process that is not simulated has it.
    occupied: bool,
    listeners: Vec<Key>,
}

/// A listening socket.
pub(super) struct ListenerState {
    pub(super) machine: u32,
    pub(super) process: u32,
    node: u32,
    pub(super) address: SocketAddr,
    /// What was asked for, maybe with port 0.
    requested: SocketAddr,
    /// Which socket of the network it is: listeners of several shards may share one.
    socket: u64,
    pub(super) backlog: VecDeque<Key>,
    waker: Option<Waker>,
}

/// An attempt to connect.
pub(super) struct Dial {
    pub(super) machine: u32,
    pub(super) process: u32,
    node: u32,
    local: SocketAddr,
    to: SocketAddr,
    waker: Option<Waker>,
    outcome: Option<io::Result<Key>>,
    answered: bool,
    /// When the first request was sent.
    began: u64,
    /// How often a request got no answer.
    unanswered: u32,
    /// It crawled through a clogged link already.
    crawled: bool,
}

/// What a listening machine does about a request.
enum Answer {
    Accept(Key),
    Refuse,
    /// There are listeners, and none has room.
    Ignore,
}

/// How often a request or its answer is sent again when it is lost.
const DIAL: Resend = Resend { after: REDIAL_AFTER, most: 3 };

impl Network {
    /// Takes a port as a process that is not simulated would.
    pub(crate) fn occupy(&mut self, machine: u32, port: u16) {
        self.ports.entry((machine, port)).or_default().occupied = true;
    }

    /// A port of a machine that nobody listens on.
    fn free_port(&self, machine: u32, next: &mut u16) -> io::Result<u16> {
        for _ in FIRST_EPHEMERAL_PORT..=u16::MAX {
            let port = *next;
            *next = next.checked_add(1).unwrap_or(FIRST_EPHEMERAL_PORT);
            if !self.ports.contains_key(&(machine, port)) {
                return Ok(port);
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    /// The oldest socket for what is asked for that other shards of the process have and this one
    /// has not: the first that each asks for on port 0 is the same, and so is the second.
    fn socket_to_share(&self, handle: &Handle, asked: SocketAddr) -> Option<(u64, SocketAddr)> {
        let mut sockets: BTreeMap<u64, (SocketAddr, bool)> = BTreeMap::new();
        for (_, listener) in self.listeners.iter() {
            let same = listener.requested == asked || listener.address == asked;
            if same && listener.process == handle.process {
                let known = sockets.entry(listener.socket).or_insert((listener.address, false));
                known.1 |= listener.node == handle.node;
            }
        }
        let mut others = sockets.into_iter().filter(|(_, (_, mine))| !mine);
        others.next().map(|(socket, (address, _))| (socket, address))
    }

    /// A socket of its own, if nobody has the address. The port is filled in.
    fn new_socket(
        &mut self,
        handle: &Handle,
        mut address: SocketAddr,
        next_port: &mut u16,
    ) -> io::Result<(u64, SocketAddr)> {
        if address.port() == 0 {
            address.set_port(self.free_port(handle.machine, next_port)?);
        }
        if let Some(port) = self.ports.get(&(handle.machine, address.port())) {
            let listeners = &self.listeners;
            let mut holders = port.listeners.iter().filter_map(|&key| listeners.get(key));
            let meets = |holder: &ListenerState| {
                let (one, other) = (holder.address.ip(), address.ip());
                let overlap = one == other || one.is_unspecified() || other.is_unspecified();
                overlap || holder.process != handle.process
            };
            if port.occupied || holders.any(meets) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
        }
        self.sockets += 1;
        Ok((self.sockets, address))
    }

    /// Listens on an address. The port is filled in.
    pub(super) fn listen(
        &mut self,
        handle: &Handle,
        requested: SocketAddr,
        next_port: &mut u16,
    ) -> io::Result<(Key, SocketAddr)> {
        let machine = handle.machine;
        if machine_at(requested.ip(), machine) != Some(machine) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let (socket, address) = match self.socket_to_share(handle, requested) {
            Some(shared) => shared,
            None => self.new_socket(handle, requested, next_port)?,
        };
        let key = self.listeners.insert(ListenerState {
            machine,
            process: handle.process,
            node: handle.node,
            address,
            requested,
            socket,
            backlog: VecDeque::new(),
            waker: None,
        });
        let port = self.ports.entry((machine, address.port())).or_default();
        port.listeners.push(key);
        Ok((key, address))
    }

    /// The next connection of a listener, with its peer's address.
    pub(super) fn accept(&mut self, key: Key, waker: &Waker) -> Option<(Key, SocketAddr)> {
        let listener = self.listeners.get_mut(key)?;
        while let Some(connection) = listener.backlog.pop_front() {
            // One whose other end is gone is accepted all the same: reading from it tells.
            if let Some(connected) = self.connections.get(connection) {
                return Some((connection, connected.ends[0].address));
            }
        }
        listener.waker = Some(waker.clone());
        None
    }

    /// Stops listening. Connections that were not accepted are reset.
    pub(super) fn drop_listener(&mut self, key: Key, kernel: &mut Kernel) {
        let Some(listener) = self.listeners.remove(key) else { return };
        let place = (listener.machine, listener.address.port());
        if let Some(port) = self.ports.get_mut(&place) {
            port.listeners.retain(|&other| other != key);
            if port.listeners.is_empty() && !port.occupied {
                self.ports.remove(&place);
            }
        }
        if !self.off.contains(&listener.machine) {
            for connection in listener.backlog {
                self.close_end(connection, 1, true, kernel);
            }
        }
        kernel.dropped.push(Box::new(listener.waker));
    }

    pub(super) fn drop_listeners(
        &mut self,
        gone: impl Fn(&ListenerState) -> bool,
        kernel: &mut Kernel,
    ) {
        let keys: Vec<Key> =
            self.listeners.iter().filter(|(_, state)| gone(state)).map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.drop_listener(key, kernel));
    }

    pub(super) fn drop_dials(&mut self, gone: impl Fn(&Dial) -> bool, kernel: &mut Kernel) {
        let keys: Vec<Key> =
            self.dials.iter().filter(|(_, state)| gone(state)).map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.drop_dial(key, kernel));
    }

    /// Begins to connect.
    pub(super) fn dial(
        &mut self,
        handle: &Handle,
        to: SocketAddr,
        waker: &Waker,
        next_port: &mut u16,
        kernel: &mut Kernel,
    ) -> io::Result<Key> {
        let port = self.free_port(handle.machine, next_port)?;
        let local = if to.ip().is_loopback() { to.ip() } else { address_of(handle.machine) };
        let key = self.dials.insert(Dial {
            machine: handle.machine,
            process: handle.process,
            node: handle.node,
            local: SocketAddr::new(local, port),
            to,
            waker: Some(waker.clone()),
            outcome: None,
            answered: false,
            began: kernel.now,
            unanswered: 0,
            crawled: false,
        });
        // What is sent nowhere gets no answer however long it takes.
        let nanos = machine_at(to.ip(), handle.machine).map_or(0, |target| {
            let link = self.links.between(handle.machine, target);
            link.travel(0, handle.node, DIAL, kernel).nanos
        });
        kernel.after(nanos, Event::NetDial { dial: key });
        Ok(key)
    }

    /// A connection attempt reaches its machine, or fails to.
    pub(crate) fn dial_arrives(&mut self, key: Key, machines: &[Machine], kernel: &mut Kernel) {
        let Some(dial) = self.dials.get_mut(key) else { return };
        let (from, node, to) = (dial.machine, dial.node, dial.to);
        let target = machine_at(to.ip(), from)
            .filter(|&target| machines.get(target as usize).is_some_and(|machine| machine.powered));
        let in_time = kernel.now - dial.began < CONNECT_TIMEOUT.as_nanos() as u64;
        let Some(target) = target.filter(|_| in_time) else { return self.dial_again(key, kernel) };
        let (there, back) = (self.links.number(from, target), self.links.number(target, from));
        if self.links[there].cut.is_some() || self.links[back].cut.is_some() {
            let cut = if self.links[there].cut.is_some() { there } else { back };
            self.links[cut].meet_cut(kernel);
            return self.dial_again(key, kernel);
        }
        let clogged = self.links[there].is_clogged(kernel) || self.links[back].is_clogged(kernel);
        if clogged && !dial.crawled {
            dial.crawled = true;
            kernel.fault(FaultKind::CloggedPacket, node, "clogged request");
            kernel.after(CLOG_INTERVAL.as_nanos() as u64, Event::NetDial { dial: key });
            return;
        }
        let journey = self.links[back].travel(0, node, DIAL, kernel);
        if !journey.arrives {
            return self.dial_again(key, kernel);
        }
        match self.answer_to(target, to, node, kernel) {
            Answer::Accept(listener) => {
                self.establish(key, listener, [there, back], journey.nanos, kernel);
            }
            Answer::Refuse => {
                kernel.fault(FaultKind::Refused, node, "connection refused");
                kernel.chronicle(|keeper| keeper.connection_failed(node, to, true));
                let refused = Err(io::ErrorKind::ConnectionRefused.into());
                self.answer(key, refused, journey.nanos, kernel);
            }
            Answer::Ignore => {
                kernel.fault(FaultKind::FullBacklog, node, "full backlog");
                self.dial_again(key, kernel);
            }
        }
    }

    /// A request got no answer: it is sent again, unless that would be too late.
    fn dial_again(&mut self, key: Key, kernel: &mut Kernel) {
        let Some(dial) = self.dials.get_mut(key) else { return };
        let wait = (REDIAL_AFTER.as_nanos() as u64) << dial.unanswered;
        dial.unanswered += 1;
        let patience = CONNECT_TIMEOUT.as_nanos() as u64;
        if kernel.now + wait - dial.began < patience {
            kernel.after(wait, Event::NetDial { dial: key });
            return;
        }
        let give_up_at =
            dial.began + patience + kernel.choose(Site::NetTimeout, dial.node, 1 << 32) * 4;
        let wait = give_up_at.saturating_sub(kernel.now);
        let (node, to) = (dial.node, dial.to);
        kernel.chronicle(|keeper| keeper.connection_failed(node, to, false));
        self.answer(key, Err(io::ErrorKind::TimedOut.into()), wait, kernel);
    }

    fn answer(&mut self, key: Key, outcome: io::Result<Key>, delay: u64, kernel: &mut Kernel) {
        if let Some(dial) = self.dials.get_mut(key) {
            dial.outcome = Some(outcome);
            kernel.after(delay, Event::NetDialed { dial: key });
        }
    }

    /// What becomes of a request that has reached its machine.
    fn answer_to(&self, machine: u32, to: SocketAddr, node: u32, kernel: &mut Kernel) -> Answer {
        let place = (machine, to.port());
        if self.refusing.get(&place).is_some_and(|&until| until > kernel.now) {
            return Answer::Refuse;
        }
        let hears = |listener: &&ListenerState| {
            let bound: IpAddr = listener.address.ip();
            bound.is_unspecified()
                || bound == to.ip()
                || bound.is_loopback() && to.ip().is_loopback()
        };
        let Some(port) = self.ports.get(&place) else { return Answer::Refuse };
        let listener = |key: &Key| self.listeners.get(*key).filter(hears);
        if !port.listeners.iter().any(|key| listener(key).is_some()) {
            return Answer::Refuse;
        }
        let has_room =
            |key: &Key| listener(key).is_some_and(|one| one.backlog.len() < BACKLOG_CONNECTIONS);
        let listeners: Vec<Key> = port.listeners.iter().copied().filter(has_room).collect();
        match listeners.len() {
            0 => Answer::Ignore,
            1 => Answer::Accept(listeners[0]),
            count => {
                let index = kernel.choose(Site::NetAccept, node, count as u64) as usize;
                Answer::Accept(listeners[index])
            }
        }
    }

    /// The listening kernel takes a connection.
    fn establish(
        &mut self,
        key: Key,
        listener: Key,
        links: [u32; 2],
        delay: u64,
        kernel: &mut Kernel,
    ) {
        let dial = self.dials.get(key).expect("it has just arrived");
        let listener = self.listeners.get_mut(listener).expect("it was just picked");
        let window = kernel.choose(Site::NetWindow, listener.node, WINDOW_BYTES.len() as u64);
        let mut ends = [
            End::new(dial.machine, dial.process, dial.node, dial.local),
            End::new(listener.machine, listener.process, listener.node, dial.to),
        ];
        let unaware = (links[0] != links[1]
            && kernel.chance(Site::NetOneSided, dial.node, kernel.faults.net.one_sided))
        .then(|| 1 - kernel.choose(Site::NetOneSidedEnd, dial.node, 2) as usize);
        if let Some(unaware) = unaware {
            ends[unaware].open = false;
            kernel.fault(FaultKind::OneSidedConnect, dial.node, "connected on one side only");
        }
        let connection = self.connections.insert(Connection::new(ends, links, window));
        if unaware != Some(1) {
            listener.backlog.push_back(connection);
            kernel.wake(&mut listener.waker);
        }
        let (node, to) = (dial.node, listener.machine);
        kernel.chronicle(|keeper| keeper.connection_opened(connection, node, to));
        kernel.statistics.connections += 1;
        self.links[links[0]].statistics.connections += 1;
        if let (Some(unaware), Some(made)) = (unaware, self.connections.get_mut(connection)) {
            made.forget(connection, unaware, kernel);
        }
        if unaware == Some(0) {
            self.dial_again(key, kernel);
        } else {
            self.answer(key, Ok(connection), delay, kernel);
        }
    }

    /// The answer to a connection attempt is back.
    pub(crate) fn dial_answered(&mut self, key: Key, kernel: &mut Kernel) {
        let Some(dial) = self.dials.get_mut(key) else { return };
        dial.answered = true;
        kernel.wake(&mut dial.waker);
        let outcome = dial.outcome.as_ref().and_then(|outcome| outcome.as_ref().err());
        if outcome.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            kernel.fault(FaultKind::DialTimeout, dial.node, "nobody answers");
        }
    }

    /// The outcome of a connection attempt, once it is known.
    pub(super) fn dialled(&mut self, key: Key, waker: &Waker) -> Option<io::Result<Key>> {
        let dial = self.dials.get_mut(key)?;
        if !dial.answered {
            dial.waker.clone_from(&Some(waker.clone()));
            return None;
        }
        self.dials.remove(key)?.outcome
    }

    /// Nobody waits for a connection attempt any more.
    pub(super) fn drop_dial(&mut self, key: Key, kernel: &mut Kernel) {
        let Some(dial) = self.dials.remove(key) else { return };
        if let Some(Ok(connection)) = dial.outcome
            && !self.off.contains(&dial.machine)
        {
            self.close_end(connection, 0, true, kernel);
        }
        kernel.dropped.push(Box::new(dial.waker));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_in_turn() {
        let mut network = Network::default();
        network.occupy(0, FIRST_EPHEMERAL_PORT + 1);
        let mut next = FIRST_EPHEMERAL_PORT;
        let mut free = || network.free_port(0, &mut next).expect("most are free");
        assert_eq!((free(), free()), (FIRST_EPHEMERAL_PORT, FIRST_EPHEMERAL_PORT + 2));
        next = u16::MAX;
        let mut free = || network.free_port(0, &mut next).expect("most are free");
        assert_eq!((free(), free()), (u16::MAX, FIRST_EPHEMERAL_PORT));
    }
}
