//! Packets that wait: at a partition until the link heals, at a clog for their turn.
//!
//! An event is kept when its packet would arrive, so a partition also stops what was on its way
//! when it began. The packets of one stream are interchangeable as events: each lets the next of
//! them in order arrive, so nothing here can bring a stream out of order.

use super::Network;
use super::link::{Cut, Link, time_on_line};
use crate::event::Event;
use crate::fault_kind::FaultKind;
use crate::kernel::{Kernel, node_of};
use crate::limits::{CLOG_INTERVAL, HEALED_NANOS};
use crate::machine::Machine;

impl Link {
    /// Whether it lets hardly anything pass.
    pub(super) fn is_clogged(&self, kernel: &Kernel) -> bool {
        self.clogged_until > kernel.now
    }

    /// Until when packets pass one by one.
    fn slow_until(&self) -> u64 {
        self.clogged_until.max(self.cap.until)
    }

    /// Something met the partition.
    pub(super) fn meet_cut(&mut self, kernel: &mut Kernel) {
        self.statistics.held += 1;
        kernel.fault(FaultKind::CutPacket, node_of(self.from, 0), "met a partition");
    }

    /// Lets all that waits go on, if nothing is in its way any more.
    pub(super) fn release(&mut self, kernel: &mut Kernel) {
        if self.cut.is_none() && self.slow_until() <= kernel.now {
            for event in self.held.drain(..) {
                // All at one time, so that they keep their order.
                kernel.after(HEALED_NANOS, event);
            }
        }
    }
}

impl Network {
    /// Keeps an event back if its packet's way is cut or clogged.
    pub(super) fn held_back(&mut self, number: u32, event: Event, kernel: &mut Kernel) -> bool {
        let link = &mut self.links[number];
        if link.cut.is_none() && link.slow_until() <= kernel.now {
            return false;
        }
        link.held.push_back(event);
        if link.cut.is_some() {
            link.meet_cut(kernel);
        } else {
            link.statistics.delayed += 1;
            let (kind, note) = if link.is_clogged(kernel) {
                (FaultKind::CloggedPacket, "clogged packet")
            } else {
                (FaultKind::CappedPacket, "packet on a slow line")
            };
            kernel.fault(kind, node_of(link.from, 0), note);
            self.keep_trickling(number, kernel);
        }
        true
    }

    /// Schedules the next packet's way through a slow link.
    pub(super) fn keep_trickling(&mut self, number: u32, kernel: &mut Kernel) {
        let link = &self.links[number];
        let Some(&next) = link.held.front() else { return };
        if link.trickling || link.cut.is_some() {
            return;
        }
        let mut nanos = 0;
        if link.is_clogged(kernel) {
            nanos = CLOG_INTERVAL.as_nanos() as u64;
        }
        if let Event::NetArrive { connection, end } = next
            && link.cap.until > kernel.now
        {
            let connection = self.connections.get(connection);
            let bytes = connection.map_or(0, |there| there.next_packet_bytes(end.into()));
            nanos = nanos.max(time_on_line(bytes, link.cap.bytes_per_second));
        }
        let time = kernel.now.saturating_add(nanos).min(link.slow_until().max(kernel.now));
        self.links[number].trickling = true;
        kernel.events.push(time, Event::NetTrickle { link: number });
    }

    /// A slow link lets a packet pass, or all if it is slow no more.
    pub(crate) fn trickle(&mut self, number: u32, machines: &[Machine], kernel: &mut Kernel) {
        let link = &mut self.links[number];
        link.trickling = false;
        if link.cut.is_some() {
            return;
        }
        if link.slow_until() <= kernel.now {
            return link.release(kernel);
        }
        let Some(event) = link.held.pop_front() else { return };
        match event {
            Event::NetArrive { connection, end } => {
                self.deliver_packet(connection, end.into(), machines, kernel);
            }
            Event::NetWindow { connection, end } => {
                self.deliver_window(connection, end.into(), kernel);
            }
            Event::NetReset { connection, end } => {
                self.deliver_reset(connection, end.into(), kernel);
            }
            _ => unreachable!("nothing else is held back"),
        }
        self.keep_trickling(number, kernel);
    }

    /// Cuts a link.
    pub(super) fn cut(&mut self, from: u32, to: u32, cut: Cut, kernel: &mut Kernel) {
        let number = self.links.number(from, to);
        self.links[number].cut = Some(cut);
        kernel.tell_link(from, to, false);
        if cut == Cut::Drop {
            // Even an end that only reads sends something now and then, to see whether the other is
            // there; and gets no answer, whichever way is cut.
            for (key, connection) in self.connections.iter_mut() {
                if connection.uses(number) {
                    connection.bear_silence(key, 0, kernel);
                    connection.bear_silence(key, 1, kernel);
                }
            }
        } else {
            self.hear_again(number);
        }
    }

    /// Lets packets pass again.
    pub(super) fn mend(&mut self, from: u32, to: u32, kernel: &mut Kernel) {
        let number = self.links.number(from, to);
        let link = &mut self.links[number];
        if link.cut.take().is_some() {
            kernel.tell_link(from, to, true);
            link.release(kernel);
            self.keep_trickling(number, kernel);
            self.hear_again(number);
        }
    }

    /// Ends that a partition on this link has kept waiting hear from each other again.
    fn hear_again(&mut self, number: u32) {
        let Self { connections, links, .. } = self;
        for (_, connection) in connections.iter_mut() {
            if connection.uses(number) && !connection.is_cut_off(links) {
                connection.hear_again(0);
                connection.hear_again(1);
            }
        }
    }

    /// Clogs a link until a time.
    pub(super) fn clog(&mut self, from: u32, to: u32, until: u64) {
        self.links.between(from, to).clogged_until = until;
    }

    /// Frees a clogged link.
    pub(super) fn unclog(&mut self, from: u32, to: u32, kernel: &mut Kernel) {
        let link = self.links.between(from, to);
        link.clogged_until = 0;
        link.release(kernel);
    }
}
