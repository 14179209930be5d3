//! Connections of the network: two ends, and a pipe of bytes towards each.
//!
//! ```text
//!   end 0 (connected) ── send ──► [ under way │ arrived ] ── receive ──► end 1 (accepted)
//!                     ◄───────────                        ◄────────────
//! ```
//!
//! Links are used again, with their memory, so that a churn of connections allocates nothing. A
//! generation tells an event for the link's former life from one for the present.

use crate::{CloseReason, ConnectionId};
use std::collections::VecDeque;
use std::net::SocketAddr;

/// One end of a link, in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketId {
    link: u32,
    generation: u32,
    side: u8,
}

impl SocketId {
    pub(super) fn peer(self) -> SocketId {
        SocketId { side: 1 - self.side, ..self }
    }

    /// The end's number in a trace.
    pub(super) fn place(self) -> u32 {
        2 * self.link + u32::from(self.side)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not there yet, or gone.
    #[default]
    Absent,
    Connecting,
    Open,
}

/// Bytes towards one end. Invariant: `arrived <= bytes.len()`.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    /// The bytes that arrived, then those under way.
    pub(super) bytes: VecDeque<u8>,
    pub(super) arrived: usize,
    /// The FIN has arrived.
    pub(super) ended: bool,
    /// What is sent next arrives no earlier than this.
    pub(super) last_arrival: u64,
    pub(super) capacity: usize,
}

impl Pipe {
    pub(super) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.bytes.len())
    }

    /// Takes up to `count` arrived bytes out.
    pub(super) fn read(&mut self, into: &mut [u8], count: usize) {
        let (first, second) = self.bytes.as_slices();
        let cut = count.min(first.len());
        into[..cut].copy_from_slice(&first[..cut]);
        into[cut..count].copy_from_slice(&second[..count - cut]);
        self.bytes.drain(..count);
        self.arrived -= count;
    }

    fn clear(&mut self) {
        self.bytes.clear();
        // Without this, a pipe that once held megabytes would keep them through every later life of
        // its link.
        self.bytes.shrink_to(64 << 10);
        *self = Pipe { bytes: std::mem::take(&mut self.bytes), ..Pipe::default() };
    }
}

/// One end of a link.
#[derive(Debug, Default)]
pub(super) struct End {
    pub(super) phase: Phase,
    /// The backend that the end belongs to, and its name there; `None` in a backlog.
    pub(super) host: u16,
    pub(super) token: Option<ConnectionId>,
    /// The end is in its host's list of ready sockets.
    pub(super) flagged: bool,
    pub(super) incoming: Pipe,
    /// Why the end is broken; reported behind what has arrived.
    pub(super) error: Option<CloseReason>,
    /// A write found no room, so room makes the socket ready.
    pub(super) wants_room: bool,
    /// The end's FIN is on its way.
    pub(super) shut: bool,
}

impl End {
    /// Whether a receive would return something other than EAGAIN.
    pub(super) fn is_readable(&self) -> bool {
        self.incoming.arrived > 0 || self.incoming.ended || self.error.is_some()
    }

    fn clear(&mut self) {
        self.incoming.clear();
        *self = End { incoming: std::mem::take(&mut self.incoming), ..End::default() };
    }
}

#[derive(Debug)]
pub(super) struct Link {
    generation: u32,
    ends: [End; 2],
    /// The address of the end that connects.
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// All links of a network.
#[derive(Debug, Default)]
pub(super) struct Links {
    links: Vec<Link>,
    free: Vec<u32>,
}

impl Links {
    /// Opens a link between two addresses; returns the connecting end.
    pub(super) fn open(&mut self, local: SocketAddr, remote: SocketAddr) -> SocketId {
        let link = self.free.pop().unwrap_or_else(|| {
            self.links.push(Link { generation: 0, ends: Default::default(), local, remote });
            self.links.len() as u32 - 1
        });
        let entry = &mut self.links[link as usize];
        (entry.local, entry.remote) = (local, remote);
        entry.ends[0].phase = Phase::Connecting;
        SocketId { link, generation: entry.generation, side: 0 }
    }

    pub(super) fn link(&self, id: SocketId) -> Option<&Link> {
        self.links.get(id.link as usize).filter(|link| link.generation == id.generation)
    }

    pub(super) fn end(&self, id: SocketId) -> Option<&End> {
        self.link(id).map(|link| &link.ends[id.side as usize])
    }

    pub(super) fn end_mut(&mut self, id: SocketId) -> Option<&mut End> {
        let link = self.links.get_mut(id.link as usize).filter(|link| link.generation == id.generation)?;
        Some(&mut link.ends[id.side as usize])
    }

    /// Ends one end's life; the link ends with the second.
    pub(super) fn leave(&mut self, id: SocketId) {
        let Some(link) = self.links.get_mut(id.link as usize).filter(|link| link.generation == id.generation)
        else {
            return;
        };
        link.ends[id.side as usize].clear();
        if link.ends.iter().all(|end| end.phase == Phase::Absent) {
            link.ends.iter_mut().for_each(End::clear);
            link.generation = link.generation.wrapping_add(1);
            self.free.push(id.link);
        }
    }

    /// Links in use.
    pub(super) fn len(&self) -> usize {
        self.links.len() - self.free.len()
    }
}
