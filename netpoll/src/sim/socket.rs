//! The simulated system calls: what a backend does to a socket, with every result that may come of
//! it.

use super::Mutation;
use super::core::{Core, Event, Listener};
use super::link::{Phase, SocketId};
use crate::{CloseReason, ConnectionId, ListenerConfig};
use std::io;
use std::net::SocketAddr;

/// Why a call moved nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The call moves something later; the socket is announced then.
    WouldBlock,
    Broken(CloseReason),
}

/// Ports that the network gives out: those of Linux (`ip_local_port_range`).
const PORT_FIRST: u16 = 32_768;
const PORTS: u16 = 28_232;

impl Core {
    fn port(&mut self) -> u16 {
        self.next_port = (self.next_port + 1) % PORTS;
        PORT_FIRST + self.next_port
    }

    fn with_port(&mut self, mut address: SocketAddr) -> SocketAddr {
        if address.port() == 0 {
            let port = self.port();
            address.set_port(port);
        }
        address
    }

    pub(super) fn listen(&mut self, host: usize, config: &ListenerConfig) -> io::Result<(u32, SocketAddr)> {
        let mut address = self.with_port(config.address);
        while config.address.port() == 0 && self.groups.contains_key(&address) {
            address.set_port(self.port());
        }
        let listener = self.listeners.len() as u32;
        self.listeners.push(Listener {
            host: host as u16,
            address,
            backlog: Default::default(),
            backlog_max: config.backlog as usize,
            window: config.send_buffer,
        });
        self.hosts[host].listeners.push(listener);
        self.groups.entry(address).or_default().push(listener);
        Ok((listener, address))
    }

    pub(super) fn connect(&mut self, host: usize, local: Option<SocketAddr>, remote: SocketAddr) -> SocketId {
        let local = self.with_port(local.unwrap_or(SocketAddr::new(remote.ip(), 0)));
        let id = self.links.open(local, remote);
        if let Some(end) = self.links.end_mut(id) {
            end.host = host as u16;
        }
        self.trace.record(self.now, "connect", id.place(), u32::from(local.port()));
        self.begin_connect(id);
        id
    }

    /// Takes the oldest connection from the backlog of the host's listener number `position`, with
    /// its peer's address.
    pub(super) fn accept(&mut self, host: usize, position: usize) -> Option<(SocketId, SocketAddr)> {
        let listener = self.hosts[host].listeners[position];
        let id = self.listeners[listener as usize].backlog.pop_front()?;
        self.trace.record(self.now, "accept", id.place(), position as u32);
        let peer = self.links.link(id)?.local;
        Some((id, peer))
    }

    /// Names the socket by its owner's id, under which its readiness is announced from here on.
    pub(super) fn name(&mut self, id: SocketId, token: ConnectionId) {
        let Some(end) = self.links.end_mut(id) else { return };
        end.token = Some(token);
        if end.is_readable() {
            self.announce(id);
        }
    }

    /// Takes the socket from its backend: it is announced nowhere.
    pub(super) fn detach(&mut self, id: SocketId) {
        let Some(end) = self.links.end_mut(id) else { return };
        (end.token, end.flagged) = (None, false);
        let host = end.host as usize;
        self.hosts[host].ready.retain(|other| *other != id);
    }

    /// Gives the socket to a backend, under the id that it has there.
    pub(super) fn attach(&mut self, id: SocketId, host: usize, token: ConnectionId) {
        let Some(end) = self.links.end_mut(id) else { return };
        end.host = host as u16;
        self.name(id, token);
    }

    /// Whether a connect has ended, and with what result.
    pub(super) fn connect_result(&self, id: SocketId) -> Option<Result<(), CloseReason>> {
        let end = self.links.end(id)?;
        match (end.phase, end.error) {
            (Phase::Open, _) => Some(Ok(())),
            (_, Some(reason)) => Some(Err(reason)),
            _ => None,
        }
    }

    pub(super) fn is_readable(&self, id: SocketId) -> bool {
        self.links.end(id).is_some_and(|end| end.is_readable())
    }

    /// Fills `into` with what has arrived; 0 is the peer's FIN.
    pub(super) fn receive(&mut self, id: SocketId, into: &mut [u8]) -> Result<usize, Stop> {
        let Some(end) = self.links.end(id) else { return Err(Stop::Broken(CloseReason::Failed)) };
        let arrived = end.incoming.arrived;
        if arrived == 0 {
            return match (end.error, end.incoming.ended) {
                (Some(reason), _) => Err(Stop::Broken(reason)),
                (None, true) => Ok(0),
                (None, false) => Err(Stop::WouldBlock),
            };
        }
        if self.chance(|faults| faults.spurious_again) {
            return Err(self.again_later(id));
        }
        let mut count = arrived.min(into.len());
        if self.chance(|faults| faults.short_read) {
            count = 1 + self.rng.below(count);
        }
        if let Some(end) = self.links.end_mut(id) {
            end.incoming.read(into, count);
        }
        self.trace.record(self.now, "receive", id.place(), count as u32);
        self.room_made(id.peer());
        Ok(count)
    }

    fn again_later(&mut self, id: SocketId) -> Stop {
        let at = self.later();
        self.schedule(at, Event::Ready(id));
        Stop::WouldBlock
    }

    /// Notes that a reader has made room for this writer; the readiness travels as an
    /// acknowledgement does.
    fn room_made(&mut self, writer: SocketId) {
        let Some(end) = self.links.end_mut(writer) else { return };
        if std::mem::take(&mut end.wants_room) {
            let at = self.arrival();
            self.schedule(at, Event::Ready(writer));
        }
    }

    /// Takes as much of the slices as the pipe has room for.
    pub(super) fn send<'a>(
        &mut self,
        id: SocketId,
        slices: impl Iterator<Item = &'a [u8]>,
        offered: usize,
    ) -> Result<usize, Stop> {
        let end = self.links.end_mut(id).filter(|end| end.phase == Phase::Open);
        let Some(end) = end else { return Err(Stop::Broken(CloseReason::Failed)) };
        if let Some(reason) = end.error {
            return Err(Stop::Broken(reason));
        }
        let to = id.peer();
        let is_there = self.links.end(to).is_some_and(|end| end.phase != Phase::Absent);
        if !is_there {
            // No reader is left; the answer is a reset, one round trip later.
            let at = self.arrival();
            self.schedule(at, Event::Arrive { to, count: 0 });
            return Ok(offered);
        }
        if self.chance(|faults| faults.reset) {
            self.cut(id);
            return Err(Stop::Broken(CloseReason::PeerReset));
        }
        let room = self.links.end(to).map_or(0, |end| end.incoming.room());
        if room == 0 {
            return Err(self.wait_for_room(id));
        }
        if self.chance(|faults| faults.spurious_again) {
            return Err(self.again_later(id));
        }
        let mut count = offered.min(room);
        if self.chance(|faults| faults.partial_write) {
            count = 1 + self.rng.below(count);
        }
        self.transmit(to, slices, count);
        match () {
            () if count == offered => {}
            () if count == room => drop(self.wait_for_room(id)),
            () => drop(self.again_later(id)),
        }
        Ok(count)
    }

    fn wait_for_room(&mut self, id: SocketId) -> Stop {
        if let Some(end) = self.links.end_mut(id) {
            end.wants_room = true;
        }
        Stop::WouldBlock
    }

    /// Sends the first `count` bytes, behind what is under way.
    fn transmit<'a>(&mut self, to: SocketId, slices: impl Iterator<Item = &'a [u8]>, count: usize) {
        let duplicates = self.mutates(Mutation::DuplicateBytes);
        let at = self.arrival();
        let Some(end) = self.links.end_mut(to) else { return };
        let pipe = &mut end.incoming;
        let mut left = count;
        for slice in slices {
            let taken = left.min(slice.len());
            pipe.bytes.extend(&slice[..taken]);
            left -= taken;
            if left == 0 {
                break;
            }
        }
        assert_eq!(left, 0, "as much was offered as was said");
        if duplicates {
            pipe.bytes.extend(pipe.bytes.back().copied());
        }
        let at = at.max(pipe.last_arrival);
        pipe.last_arrival = at;
        self.trace.record(self.now, "send", to.place(), count as u32);
        self.schedule(at, Event::Arrive { to, count: count as u32 + u32::from(duplicates) });
    }

    /// Sends a FIN behind what is under way.
    pub(super) fn shut(&mut self, id: SocketId) {
        let Some(end) = self.links.end_mut(id) else { return };
        if std::mem::replace(&mut end.shut, true) {
            return;
        }
        let delayed = self.chance(|faults| faults.fin_delay);
        let at = if delayed { self.later() } else { self.arrival() };
        let to = id.peer();
        let Some(peer) = self.links.end_mut(to) else { return };
        let at = at.max(peer.incoming.last_arrival);
        peer.incoming.last_arrival = at;
        self.trace.record(self.now, "fin", to.place(), 0);
        self.schedule(at, Event::Fin { to });
    }

    /// Closes the socket: with a FIN, or with a reset when bytes were left unread (RFC 2525, 2.17).
    pub(super) fn close(&mut self, id: SocketId) {
        let Some(end) = self.links.end(id) else { return };
        match end.incoming.arrived > 0 {
            true => self.abort(id),
            false => {
                self.shut(id);
                self.trace.record(self.now, "close", id.place(), 0);
                self.links.leave(id);
            }
        }
    }

    /// Closes the socket with a reset, behind what is under way.
    pub(super) fn abort(&mut self, id: SocketId) {
        let to = id.peer();
        let at = self.arrival();
        let at = at.max(self.links.end(to).map_or(0, |end| end.incoming.last_arrival));
        self.schedule(at, Event::Reset { to });
        self.trace.record(self.now, "abort", id.place(), 0);
        self.links.leave(id);
    }

    /// Breaks the connection for both sides, now; what is under way or unread is lost.
    pub(super) fn cut(&mut self, id: SocketId) {
        for id in [id, id.peer()] {
            let Some(end) = self.links.end_mut(id).filter(|end| end.phase != Phase::Absent) else { continue };
            end.incoming.bytes.clear();
            end.incoming.arrived = 0;
            end.error = Some(CloseReason::PeerReset);
            self.trace.record(self.now, "cut", id.place(), 0);
            self.announce(id);
        }
    }
}
