//! Connections with slow peers.

use crate::stack::Stack;
use netpoll::{ConnectionId, Waiting};

/// Connections that keep more than may be in flight, which is what a kernel's socket would hold, or
/// so many pieces that they burden pools and store whatever their bytes.
#[derive(Debug)]
pub(crate) struct WaitingList {
    /// Bytes that a connection may keep without being slow: the lowest flight limit of all
    /// listeners.
    pub(crate) flight_bytes_max: usize,
    /// Connections that were sent to since the last poll and keep more than that. A round adds
    /// nothing, so a connection that is not noted can not become slow in it.
    pub(crate) fresh: Vec<ConnectionId>,
    pub(crate) slow: Vec<Waiting>,
    /// By the connection's index: the list that it is in.
    listed: Vec<Listed>,
}

/// The list of [`WaitingList`] that a connection is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listed {
    No,
    Fresh,
    Slow,
}

impl WaitingList {
    pub(crate) fn new(connections_max: usize, flight_bytes_max: usize) -> WaitingList {
        WaitingList {
            flight_bytes_max,
            fresh: Vec::with_capacity(connections_max),
            slow: Vec::with_capacity(connections_max),
            listed: vec![Listed::No; connections_max],
        }
    }

    pub(crate) fn note(&mut self, connection: ConnectionId) {
        if self.listed[connection.index()] == Listed::No {
            self.listed[connection.index()] = Listed::Fresh;
            self.fresh.push(connection);
        }
    }

    pub(crate) fn is_slow(&self, connection: ConnectionId) -> bool {
        self.listed.get(connection.index()) == Some(&Listed::Slow)
    }

    /// Forgets a connection. Most that close are in no list, so that many closes at once search
    /// nothing.
    pub(crate) fn remove(&mut self, connection: ConnectionId) {
        match std::mem::replace(&mut self.listed[connection.index()], Listed::No) {
            Listed::No => {}
            Listed::Fresh => self.fresh.retain(|one| *one != connection),
            Listed::Slow => self.slow.retain(|one| one.connection != connection),
        }
    }

    /// Updates the lists after a round: a connection that keeps too much is slow until its queue is
    /// empty.
    pub(crate) fn update(&mut self, stack: &Stack) {
        let WaitingList { flight_bytes_max, fresh, slow, listed } = self;
        let mut keep = |connection: ConnectionId, waits: bool| {
            listed[connection.index()] = if waits { Listed::Slow } else { Listed::No };
            if waits { stack.waiting(connection) } else { None }
        };
        slow.retain_mut(|one| match keep(one.connection, stack.queued_bytes(one.connection) > 0) {
            Some(now) => {
                *one = now;
                true
            }
            None => false,
        });
        let may_be_slow = |connection| stack.may_be_slow(connection, *flight_bytes_max);
        slow.extend(fresh.drain(..).filter_map(|connection| keep(connection, may_be_slow(connection))));
    }
}
