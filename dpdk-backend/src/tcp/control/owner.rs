//! The owner's requests, and the reports to it.

use crate::tcp::control::end::FinOrReset;
use crate::tcp::engine::{Context, Limits, Listener, Notice, Tcp};
use crate::tcp::tables::control_block::State;
use crate::tcp::tables::index::BlockIndex;
use crate::tcp::tables::marks::{Facts, Lists, Todos};
use crate::tcp::tables::send_queue::Keeper;
use crate::wire::Ip;
use netpoll::{
    Buffer, BufferPools, CloseReason, ConnectionId, ListenerId, PoolId, PoolSet, Priority, Refusal,
    SendError, SendStoreLevel, SharedBuffer, Shares,
};
use std::net::SocketAddr;

/// The reason that a connect could not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectFailure {
    /// No control block, active block or place in the flow table is free.
    TableFull,
    /// None of our addresses can reach the remote address.
    NoAddress,
    /// Every port toward the destination is in use.
    NoPort,
}

/// An event.
#[derive(Debug)]
pub(crate) enum Report {
    Accepted { connection: ConnectionId, listener: ListenerId, peer: SocketAddr },
    Connected(ConnectionId),
    Sent(ConnectionId),
    Received(ConnectionId, Buffer),
    PeerFinished(ConnectionId),
    Closed(ConnectionId, CloseReason),
}

impl Tcp {
    /// Listens. Port 0 takes a free one. `None` when the table of listeners is full or the port is
    /// taken.
    pub(crate) fn listen(&mut self, ip: Ip, port: u16, backlog: usize, limits: Limits) -> Option<(u8, u16)> {
        if self.ports.listeners.len() >= usize::from(crate::tcp::engine::NO_LISTENER) {
            return None;
        }
        let overlaps = |l: &Listener, port: u16| {
            l.port == port && (l.ip == ip || l.ip.is_any_of_family(ip) || ip.is_any_of_family(l.ip))
        };
        let is_free = |port: u16| !self.ports.listeners.iter().any(|listener| overlaps(listener, port));
        let port = match port {
            0 => (49_152..u16::MAX).find(|port| is_free(*port))?,
            port => Some(port).filter(|port| is_free(*port))?,
        };
        self.ports.listeners.push(Listener { ip, port, backlog: backlog.max(1), limits });
        Some((self.ports.listeners.len() as u8 - 1, port))
    }

    /// Closes the listeners: half-open connections are not answered any more, and new ones are
    /// refused.
    pub(crate) fn close_listeners(&mut self) {
        self.ports.listening = false;
        self.ports.accepting = false;
    }

    pub(crate) fn set_accepting(&mut self, accepting: bool) {
        self.ports.accepting = accepting && self.ports.listening;
    }

    /// The block of an id that the owner may still use.
    pub(in crate::tcp) fn live(&self, id: ConnectionId) -> Option<BlockIndex> {
        let index = self.table.inner(id.index(), id.generation())?;
        (self.table[index].state != State::Ended).then_some(index)
    }

    pub(crate) fn id(&self, index: BlockIndex) -> ConnectionId {
        ConnectionId::new(index.get(), self.table[index].generation)
    }

    /// Queues a buffer behind earlier ones.
    pub(crate) fn send(
        &mut self,
        cx: &mut Context<'_>,
        id: ConnectionId,
        buffer: SharedBuffer,
        priority: Priority,
    ) -> Result<(), SendError> {
        let Some(index) = self.live(id).filter(|index| !self.table[*index].has(Facts::FIN_QUEUED)) else {
            return Err(SendError::Closed(buffer));
        };
        let mut bytes_max = priority.bytes_max(self.config.connection.send_queue_bytes_max);
        if self.table[index].has(Facts::WAITED) && priority.is_of_others() {
            bytes_max = bytes_max.min(cx.pools.waiting_bytes_max());
        }
        self.enqueue(cx, index, buffer, bytes_max, priority).map_err(|(refusal, buffer)| match refusal {
            Refusal::Queue => SendError::Full(buffer),
            Refusal::Store => SendError::Exhausted(buffer),
        })
    }

    fn enqueue(
        &mut self,
        cx: &mut Context<'_>,
        index: BlockIndex,
        buffer: SharedBuffer,
        bytes_max: usize,
        priority: Priority,
    ) -> Result<(), (Refusal, SharedBuffer)> {
        let size = buffer.len();
        if size == 0 {
            return Ok(());
        }
        let before = self.unacknowledged(index);
        if (before > 0 && before + size > bytes_max) || before + size > i32::MAX as usize {
            return Err((Refusal::Queue, buffer));
        }
        let Some(active) = self.make_active(index, cx.now) else {
            cx.counters.send_store_full += 1;
            return Err((Refusal::Store, buffer));
        };
        let active = &mut self.stores.actives[active];
        // What waits for a slow peer does not hold receive buffers when those are scarce.
        let waits = self.table[index].has(Facts::WAITED);
        let moves = waits && cx.pools.receive_is_half_taken();
        let (pools, last) = (&mut *cx.pools, &mut self.turn.moved);
        let mut keeper = Keeper { pools, last, copy_break: self.config.connection.copy_break };
        let copies = &mut cx.counters.send_copies;
        let keep = |buffer| {
            if waits && priority.is_of_others() && (moves || keeper.pools.is_scarce(&buffer)) {
                return keeper.keep_if_plenty(buffer, copies);
            }
            Ok(if moves { keeper.keep(buffer, copies) } else { buffer })
        };
        if let Err(refused) = self.stores.pieces.push(&mut active.queue, buffer, priority, keep) {
            cx.counters.send_store_full += 1;
            self.reschedule(index, cx.now);
            return Err(refused);
        }
        active.unsent += size as u32;
        self.mark_dirty(index);
        Ok(())
    }

    /// Drops the queued pieces of which no byte has been sent, and passes them to `dropped`. Bytes
    /// in flight, and the piece that has begun, stay.
    pub(crate) fn drop_unbegun(&mut self, id: ConnectionId, dropped: &mut dyn FnMut(&[u8])) {
        let Some(index) = self.live(id).filter(|index| !self.table[*index].has(Facts::FIN_QUEUED)) else {
            return;
        };
        let Some(active) = self.stores.actives.get_mut(self.table[index].active) else { return };
        active.unsent -= self.stores.pieces.drop_unbegun(&mut active.queue, dropped);
        self.mark_dirty(index); // its peer may have finished, and nothing else is queued
    }

    /// Shuts the connection's window, or opens it again. The announced window is taken back, which
    /// RFC 9293, 3.8.6 discourages: what one peer may still send would hold receive buffers that
    /// all others need. The peer sends it again.
    pub(crate) fn set_receiving(&mut self, id: ConnectionId, receiving: bool) {
        let Some(index) = self.live(id) else { return };
        let block = &mut self.table[index];
        if !receiving {
            block.set(Facts::STOPPED);
            (block.rcv.wup, block.rcv.wnd) = (block.rcv.nxt, 0);
        } else if block.has(Facts::STOPPED) {
            block.clear(Facts::STOPPED);
            if block.state.receives() {
                self.turn.starved.push(&mut self.table, index);
            } else {
                self.mark_dirty(index); // its end was held back
            }
        }
    }

    /// Sends what is queued, then `last`, then FIN. Discards what is received from then on.
    pub(crate) fn finish(&mut self, cx: &mut Context<'_>, id: ConnectionId, last: Option<SharedBuffer>) {
        let Some(index) = self.live(id).filter(|index| !self.table[*index].has(Facts::FIN_QUEUED)) else {
            return;
        };
        if let Some(last) = last {
            // When the store of pieces is full, `last` is lost, not the close. An empty queue
            // always has a piece.
            let _ = self.enqueue(cx, index, last, usize::MAX, Priority::Reply);
        }
        match self.table[index].state {
            State::SynSent | State::SynReceived => self.end_gone(cx, index, CloseReason::Local),
            _ => {
                self.table[index].set(Facts::DISCARD.or(Facts::FIN_QUEUED));
                self.purge_received(index);
                // A shut window opens: see `window_target`.
                let block = &mut self.table[index];
                if block.window_left() < u32::from(block.mss) {
                    block.set(Todos::ACK_NOW);
                }
                self.mark_dirty(index);
            }
        }
    }

    /// Ends the connection for its owner. Bytes in flight are still delivered; queued bytes are
    /// dropped.
    pub(crate) fn close(&mut self, cx: &mut Context<'_>, id: ConnectionId) {
        let Some(index) = self.live(id) else { return };
        let unread = self.purge_received(index) | self.table[index].has(Facts::PAYLOAD_REFUSED);
        match self.table[index].state {
            State::SynSent => self.end_gone(cx, index, CloseReason::Local),
            // Half of a simultaneous open: the peer loses nothing but its SYN.
            State::SynReceived => self.end_for_owner(cx, index, CloseReason::Local, FinOrReset::Reset),
            // RFC 2525, 2.17: unread data must not look as if it had been read.
            _ if unread && !self.table[index].has(Facts::DISCARD) => {
                self.end_for_owner(cx, index, CloseReason::Local, FinOrReset::Reset);
            }
            _ => self.end_for_owner(cx, index, CloseReason::Local, FinOrReset::Fin),
        }
    }

    /// Drops payloads that were not reported. Returns whether there were any.
    fn purge_received(&mut self, index: BlockIndex) -> bool {
        let before = self.reports.received.len();
        self.reports.received.retain(|(other, _)| *other != index);
        let had_received = self.reports.received.len() < before;
        self.table[index].clear(Lists::UNREAD);
        self.reports.unread.purge(index) | had_received
    }

    /// Payload bytes that the connection holds: queued, or in flight until they are acknowledged.
    pub(crate) fn queued_bytes(&self, id: ConnectionId) -> usize {
        self.live(id).map_or(0, |index| self.unacknowledged(index))
    }

    /// Pieces that the connection holds: queued, or in flight until they are acknowledged.
    pub(crate) fn queued_pieces(&self, id: ConnectionId) -> usize {
        let active = self.live(id).and_then(|index| self.stores.actives.get(self.table[index].active));
        active.map_or(0, |active| self.stores.pieces.count(&active.queue))
    }

    /// Bytes of blocks of `pools` that the connection holds.
    pub(crate) fn queued_blocks(&self, id: ConnectionId, pools: &BufferPools, set: PoolSet) -> usize {
        let active = self.live(id).and_then(|index| self.stores.actives.get(self.table[index].active));
        let is_counted = |piece: &SharedBuffer| pools.is_shared_of(piece, set);
        active.map_or(0, |active| self.stores.pieces.block_bytes(&active.queue, is_counted))
    }

    /// Whether the connection may have a slow peer: it holds more than `bytes_max`, or more pieces
    /// than the store easily spares. Pieces are counted only for a connection that had to wait.
    pub(crate) fn may_be_slow(&self, id: ConnectionId, bytes_max: usize) -> bool {
        let Some(index) = self.live(id) else { return false };
        let block = &self.table[index];
        let Some(active) = self.stores.actives.get(block.active) else { return false };
        self.unacknowledged(index) > bytes_max
            || active.flight.count as usize > Shares::REPLIES_MIN
            || (block.has(Facts::WAITED) && self.stores.pieces.count(&active.queue) > Shares::REPLIES_MIN)
    }

    /// Bytes of blocks of `pool` that the connection holds.
    pub(crate) fn queued_blocks_of(&self, id: ConnectionId, pool: PoolId) -> usize {
        let active = self.live(id).and_then(|index| self.stores.actives.get(self.table[index].active));
        let is_counted = |piece: &SharedBuffer| piece.pool() == pool;
        active.map_or(0, |active| self.stores.pieces.block_bytes(&active.queue, is_counted))
    }

    /// The time at which bytes were last acknowledged, or first sent, in milliseconds. `None` while
    /// the connection holds nothing.
    pub(crate) fn progress_ms(&self, id: ConnectionId) -> Option<u32> {
        let active = self.live(id).and_then(|index| self.stores.actives.get(self.table[index].active));
        active.map(|active| active.progress_ms)
    }

    /// The account of the pieces that connections share.
    pub(crate) fn send_shares(&self) -> Shares {
        self.stores.pieces.shares()
    }

    /// How full the store of segments in flight is.
    pub(crate) fn flight_level(&self) -> SendStoreLevel {
        let used = self.stores.segments.len();
        SendStoreLevel { used, max: used + self.stores.segments.room() }
    }

    /// Segments that one connection may have in flight: at least one, and at most a quarter of the
    /// free shared ones, so that peers which do not acknowledge leave room for all others.
    pub(in crate::tcp) fn segments_allowed(&self) -> u32 {
        let free = self.config.stores.segments_max.saturating_sub(self.stores.segments.len());
        (free.div_ceil(4).max(1) as u32).min(self.config.stores.segments_per_connection_max)
    }

    fn unacknowledged(&self, index: BlockIndex) -> usize {
        let block = &self.table[index];
        let Some(active) = self.stores.actives.get(block.active) else { return 0 };
        let takes_number =
            block.has(Facts::FIN_SENT) || matches!(block.state, State::SynSent | State::SynReceived);
        active.unsent as usize + (block.flight() as usize).saturating_sub(usize::from(takes_number))
    }

    pub(crate) fn connection_count(&self) -> usize {
        self.table.connection_count()
    }

    /// Counts of closed connections that are not complete, half-open ones, and records in
    /// TIME-WAIT.
    pub(crate) fn levels(&self) -> [usize; 3] {
        [self.table.orphan_count(), self.peers.syn_cache.len(), self.peers.time_wait.len()]
    }

    /// Whether there is anything to report.
    pub(crate) fn has_reports(&self) -> bool {
        let reports = &self.reports;
        let is_empty =
            reports.notices.is_empty() && reports.received.is_empty() && reports.closings.is_empty();
        !is_empty || self.reports.unread.has_ready()
    }

    /// The next report: opened connections first, then payloads, then peers' FINs and closed
    /// connections. A reported end frees the block, unless it still has to send a reset.
    pub(crate) fn next_report(&mut self) -> Option<Report> {
        while let Some(notice) = self.reports.notices.pop_front() {
            if let Some(report) = self.of_notice(notice) {
                return Some(report);
            }
        }
        // A cleared deque begins at its front again, so that only memory that was ever needed is
        // touched.
        self.reports.notices.clear();
        if let Some((index, buffer)) = self.next_payload() {
            return Some(Report::Received(self.id(index), buffer));
        }
        if let Some(connection) = self.next_peer_finish() {
            return Some(Report::PeerFinished(connection));
        }
        let Some(&(index, reason)) = self.reports.closings.front() else {
            self.reports.closings.clear();
            return None;
        };
        if self.deliver_before_end(index)
            && let Some((index, buffer)) = self.next_payload()
        {
            return Some(Report::Received(self.id(index), buffer));
        }
        self.reports.closings.pop_front();
        let id = self.id(index);
        self.note_reported(index);
        Some(Report::Closed(id, reason))
    }

    /// The peer's FIN that is next in the list of ends. The next poll asks whether the connection
    /// ends.
    fn next_peer_finish(&mut self) -> Option<ConnectionId> {
        while let Some(&(index, _)) = self.reports.closings.front()
            && self.table[index].has(Facts::FIN_UNREPORTED)
        {
            self.reports.closings.pop_front();
            self.table[index].clear(Facts::FIN_UNREPORTED);
            self.mark_dirty(index);
            if !self.table[index].has(Facts::FIN_QUEUED) {
                return Some(self.id(index));
            }
        }
        None
    }

    /// The next payload. Returned payloads are older than all others.
    fn next_payload(&mut self) -> Option<(BlockIndex, Buffer)> {
        if let Some((index, payload)) = self.reports.unread.next() {
            if self.table[index].state == State::CloseWait {
                self.mark_dirty(index); // its end may have waited for the payload
            }
            return Some((index, payload));
        }
        self.reports.received.pop_front()
    }

    fn of_notice(&mut self, notice: Notice) -> Option<Report> {
        match notice {
            Notice::Accepted(index) => {
                let block = &self.table[index];
                let peer = SocketAddr::new(block.remote.into(), block.remote_port);
                let listener = ListenerId(block.listener);
                Some(Report::Accepted { connection: self.id(index), listener, peer })
            }
            Notice::Connected(index) => Some(Report::Connected(self.id(index))),
            Notice::Sent(index) => {
                self.table[index].clear(Lists::SENT);
                let is_open = self.table[index].state != State::Ended;
                is_open.then(|| Report::Sent(self.id(index)))
            }
        }
    }
}
