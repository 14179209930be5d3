//! A backend on the simulated network: the readiness machine of the epoll backend over simulated
//! system calls.
//!
//! Queues, pieces, pools and the table are the real ones, so a simulation runs the code that
//! production runs.

use super::core::{Core, nanos};
use super::link::SocketId;
use super::slot::Slot;
use super::socket::Stop;
use super::{Mutation, SimNetwork};
use crate::PieceStore;
use crate::lifecycle::{Common, Emptied, Finish, Notice, PeerFinish, State, common_queues};
use crate::send_queue::PIECES_PER_WRITE;
use crate::{
    Backend, BackendConfig, BackendCounters, BufferPools, CloseReason, Completion, Completions, ConnectError,
    ConnectionId, Introspect, ListenerConfig, ListenerId, Priority, Queues, SendError, SharedBuffer,
    Timestamp, Waker,
};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// How long to wait for buffers to return when connections are ready and no buffer is free.
const BUFFER_REST: Duration = Duration::from_millis(1);

/// One backend of a [`SimNetwork`]. See the module's text.
pub struct SimBackend {
    pub(super) network: Rc<RefCell<Core>>,
    host: usize,
    waker: Waker,
    accepting: bool,
    pub(super) common: Common<Slot>,
    /// Connections that may have bytes to receive, each once (`Slot::in_ready`).
    ready: VecDeque<ConnectionId>,
    /// Connections with something new to send, each once (`Slot::in_dirty`).
    dirty: Vec<ConnectionId>,
    batch_max: usize,
}

impl SimBackend {
    pub(super) fn new(network: Rc<RefCell<Core>>, config: &BackendConfig) -> io::Result<SimBackend> {
        let common = Common::new(config, config.connections_max)?;
        let (host, waker) = network.borrow_mut().add_host();
        Ok(SimBackend {
            network,
            host,
            waker,
            accepting: true,
            common,
            ready: VecDeque::new(),
            dirty: Vec::new(),
            batch_max: config.batch_max,
        })
    }

    /// The backend's number in the network, from 0: what [`SimNetwork::step`] returns.
    pub fn number(&self) -> usize {
        self.host
    }

    /// The network that the backend is on.
    pub fn network(&self) -> SimNetwork {
        SimNetwork { core: Rc::clone(&self.network) }
    }

    /// Breaks a connection as a failing link would: both sides see a reset, and what was under way
    /// is lost.
    pub fn cut(&mut self, connection: ConnectionId) {
        if let Some(slot) = self.common.table.get(connection) {
            self.network.borrow_mut().cut(slot.socket);
        }
    }

    fn insert(&mut self, core: &mut Core, socket: SocketId, state: State) -> Result<ConnectionId, Slot> {
        let id = self.common.table.insert(Slot::new(socket, state))?;
        core.name(socket, id);
        Ok(id)
    }

    // --- news ---

    fn take_news(&mut self, core: &mut Core) {
        for _ in 0..self.batch_max {
            let Some(id) = core.next_ready(self.host) else { return };
            self.common.counters.events += 1;
            self.note_connection(core, id);
        }
    }

    fn note_connection(&mut self, core: &mut Core, id: ConnectionId) {
        let Some(slot) = self.common.table.get_mut(id) else { return };
        if slot.life.state == State::Connecting {
            match core.connect_result(slot.socket) {
                None => return,
                Some(Err(reason)) => return self.end(id, reason),
                Some(Ok(())) => {
                    slot.life.state = State::Open;
                    self.common.notices.push_back(Notice::Connected(id));
                }
            }
        }
        self.mark_dirty(id);
        let Some(slot) = self.common.table.get_mut(id) else { return };
        slot.life.send_waits = false;
        if core.is_readable(slot.socket) {
            self.mark_ready(id);
        }
    }

    fn mark_ready(&mut self, id: ConnectionId) {
        let Some(slot) = self.common.table.get_mut(id) else { return };
        let reads = slot.life.state.receives() && !slot.is_left_unread();
        if reads && !std::mem::replace(&mut slot.in_ready, true) {
            self.ready.push_back(id);
        }
    }

    pub(super) fn mark_dirty(&mut self, id: ConnectionId) {
        let Some(slot) = self.common.table.get_mut(id) else { return };
        if !std::mem::replace(&mut slot.in_dirty, true) {
            self.dirty.push(id);
        }
    }

    // --- accepting ---

    fn may_accept(&self) -> bool {
        self.accepting && self.common.table.len() < self.common.table.capacity()
    }

    fn accept_all(&mut self, core: &mut Core, batch: &mut Completions) {
        for position in 0..core.hosts[self.host].listeners.len() {
            while self.may_accept() && !batch.is_full() {
                let Some((socket, peer)) = core.accept(self.host, position) else { break };
                let Ok(connection) = self.insert(core, socket, State::Open) else { return };
                self.common.counters.accepts += 1;
                batch.push(Completion::Accepted { connection, listener: ListenerId(position as u8), peer });
            }
        }
    }

    // --- receiving ---

    fn receive_all(&mut self, core: &mut Core, batch: &mut Completions) {
        while let Some(id) = self.common.discards.next(|| Timestamp::from_nanos(core.now)) {
            if let Some(slot) = self.common.table.get_mut(id) {
                slot.in_ready = false;
                self.mark_ready(id);
            }
        }
        if self.ready.is_empty() || core.chance(|faults| faults.empty_pool) {
            return;
        }
        for _ in 0..self.ready.len() {
            if batch.is_full() {
                return;
            }
            let Some(id) = self.ready.pop_front() else { return };
            match self.common.table.get_mut(id) {
                Some(slot) => slot.in_ready = false,
                None => continue,
            }
            if !self.receive_one(core, id, batch) {
                self.mark_ready(id);
                return; // no buffer: the others would not get one either
            }
        }
    }

    /// Receives one buffer; false when none was free.
    fn receive_one(&mut self, core: &mut Core, connection: ConnectionId, batch: &mut Completions) -> bool {
        let Some(slot) = self.common.table.get_mut(connection) else { return true };
        if slot.is_left_unread() {
            return true; // stopped since it became ready
        }
        let socket = slot.socket;
        if slot.life.state != State::Open {
            if slot.life.state.receives() {
                self.discard_one(core, connection, socket, batch);
            }
            return true;
        }
        let Some(mut buffer) = self.common.pools.take_receive() else {
            self.common.counters.receive_pauses += 1;
            return false;
        };
        if core.mutates(Mutation::LeakBuffer) {
            std::mem::forget(buffer.split_to(0));
        }
        let result = core.receive(socket, buffer.spare_mut());
        match result {
            Ok(count @ 1..) => {
                buffer.set_len(count);
                batch.push(Completion::Received { connection, buffer });
            }
            _ => self.common.pools.give_back(buffer),
        }
        self.received(core, connection, result, batch);
        true
    }

    /// The owner has finished: what still comes is received into nowhere, as far as that is paid
    /// for.
    fn discard_one(
        &mut self,
        core: &mut Core,
        connection: ConnectionId,
        socket: SocketId,
        batch: &mut Completions,
    ) {
        let result = core.receive(socket, &mut [0; 4096]);
        let now = Timestamp::from_nanos(core.now);
        let waits = matches!(result, Ok(1..)) && !self.common.discards.goes_on(connection, now);
        if let Some(slot) = self.common.table.get_mut(connection).filter(|_| waits) {
            slot.in_ready = true; // in line
        }
        self.received(core, connection, result, batch);
    }

    fn received(
        &mut self,
        core: &mut Core,
        connection: ConnectionId,
        result: Result<usize, Stop>,
        batch: &mut Completions,
    ) {
        match result {
            Ok(0) => match self.common.peer_finished(connection, batch) {
                PeerFinish::Nothing => {}
                PeerFinish::Reported => self.mark_dirty(connection),
                PeerFinish::End(reason) => self.end(connection, reason),
            },
            Ok(count) => {
                self.common.counters.receives += 1;
                self.common.counters.receive_bytes += count as u64;
                let slot = self.common.table.get(connection);
                if slot.is_some_and(|slot| core.is_readable(slot.socket)) {
                    self.mark_ready(connection);
                }
            }
            Err(Stop::WouldBlock) => {}
            Err(Stop::Broken(reason)) => self.end(connection, reason),
        }
    }

    // --- sending ---

    fn flush_all(&mut self, core: &mut Core) {
        while let Some(id) = self.dirty.pop() {
            let Some(slot) = self.common.table.get_mut(id) else { continue };
            slot.in_dirty = false;
            if slot.life.state.sends() && !slot.life.send_waits {
                self.flush_one(core, id);
            }
        }
    }

    fn flush_one(&mut self, core: &mut Core, id: ConnectionId) {
        while let Some(slot) = self.common.table.get_mut(id).filter(|slot| !slot.life.queue.is_empty()) {
            let (offered, result) = write_front(core, slot, &self.common.pieces);
            self.common.counters.sends += 1;
            match result {
                Ok(count) => {
                    self.common.sent(id, count);
                    if count < offered {
                        return self.common.send_must_wait(id, || Timestamp::from_nanos(core.now));
                    }
                }
                Err(Stop::WouldBlock) => {
                    return self.common.send_must_wait(id, || Timestamp::from_nanos(core.now));
                }
                Err(Stop::Broken(reason)) => return self.end(id, reason),
            }
        }
        match self.common.queue_emptied(id) {
            Emptied::Nothing => {}
            Emptied::Shut => {
                if let Some(slot) = self.common.table.get(id) {
                    core.shut(slot.socket);
                }
            }
            Emptied::End(reason) => self.end(id, reason),
        }
    }

    /// Drops what is queued and queues `Closed`; the slot is freed when that is reported.
    fn end(&mut self, id: ConnectionId, reason: CloseReason) {
        if self.common.end(id, reason) {
            self.common.notices.push_back(Notice::Closed(id, reason));
        }
    }

    // --- reporting ---

    fn report_notices(&mut self, core: &mut Core, batch: &mut Completions) {
        while !batch.is_full() {
            let Some(notice) = self.common.next_notice() else { return };
            if let Notice::Closed(id, _) = notice {
                if core.mutates(Mutation::CloseTwice) {
                    self.common.notices.push_back(notice);
                }
                if let Some(slot) = self.common.table.remove(id) {
                    core.close(slot.socket);
                }
                if core.mutates(Mutation::ForgetClose) {
                    continue;
                }
            }
            batch.push(notice.into());
        }
    }

    /// Bounds what this poll may append.
    fn admit(&self, core: &mut Core, batch: &mut Completions) {
        batch.admit(self.batch_max);
        let room = batch.room();
        if room > 1 && core.chance(|faults| faults.small_batch) {
            batch.admit(1 + core.rng.below(room - 1));
        }
    }

    /// Publishes when the next turn is wanted.
    fn go_to_sleep(&mut self, core: &mut Core, wait: Duration) {
        let starved = !self.ready.is_empty() && self.common.pools.receive_level().free == 0;
        let wait = self.common.discards.allow(if starved { wait.min(BUFFER_REST) } else { wait });
        let accepts = self.may_accept();
        let host = &mut core.hosts[self.host];
        host.left_over =
            !self.common.notices.is_empty() || !self.dirty.is_empty() || (!self.ready.is_empty() && !starved);
        host.accepts = accepts;
        // A wake-up ends the wait of the poll that finds it.
        let woken = std::mem::take(&mut host.woken);
        host.deadline = if woken { core.now } else { core.now.saturating_add(nanos(wait)) };
    }

    /// Asks for a turn: the owner queued something between two polls.
    pub(super) fn want_turn(&self) {
        self.network.borrow_mut().hosts[self.host].left_over = true;
    }
}

/// Offers the socket the front of the queue in one call. Returns the bytes offered and the result.
fn write_front(core: &mut Core, slot: &Slot, pieces: &PieceStore) -> (usize, Result<usize, Stop>) {
    let front = || pieces.iter(slot.life.queue.list()).take(PIECES_PER_WRITE);
    let offered = front().map(|piece| piece.len()).sum();
    if !slot.life.queue.is_single() && core.mutates(Mutation::ReorderTwoSends) {
        let swapped = front().skip(1).take(1).chain(front().take(1)).chain(front().skip(2));
        return (offered, core.send(slot.socket, swapped.map(|piece| &**piece), offered));
    }
    (offered, core.send(slot.socket, front().map(|piece| &**piece), offered))
}

impl Backend for SimBackend {
    fn listen(&mut self, config: &ListenerConfig) -> io::Result<(ListenerId, SocketAddr)> {
        let mut core = self.network.borrow_mut();
        let id =
            u8::try_from(core.hosts[self.host].listeners.len()).map_err(|_| io::ErrorKind::QuotaExceeded)?;
        let (_, address) = core.listen(self.host, config)?;
        Ok((ListenerId(id), address))
    }

    fn set_accepting(&mut self, accepting: bool) {
        self.accepting = accepting;
        let accepts = self.may_accept();
        self.network.borrow_mut().hosts[self.host].accepts = accepts;
    }

    fn close_listeners(&mut self) {
        self.network.borrow_mut().close_listeners(self.host);
    }

    fn connect(
        &mut self,
        local: Option<SocketAddr>,
        remote: SocketAddr,
    ) -> Result<ConnectionId, ConnectError> {
        if self.common.table.len() == self.common.table.capacity() {
            return Err(ConnectError::TableFull);
        }
        let network = Rc::clone(&self.network);
        let core = &mut *network.borrow_mut();
        let socket = core.connect(self.host, local, remote);
        self.insert(core, socket, State::Connecting).map_err(|_| ConnectError::TableFull)
    }

    fn poll(&mut self, wait: Duration, batch: &mut Completions) -> io::Result<()> {
        let network = Rc::clone(&self.network);
        let core = &mut *network.borrow_mut();
        self.common.counters.polls += 1;
        core.run_due();
        self.common.note_time(|| Timestamp::from_nanos(core.now));
        self.flush_all(core);
        if !core.chance(|faults| faults.idle_poll) {
            self.admit(core, batch);
            self.take_news(core);
            self.report_notices(core, batch);
            // Notices come first: bytes may not overtake their Connected.
            if self.common.notices.is_empty() {
                self.accept_all(core, batch);
                self.receive_all(core, batch);
            }
        }
        core.trace.record(core.now, "poll", self.host as u32, batch.len() as u32);
        self.go_to_sleep(core, wait);
        Ok(())
    }

    fn send_as(
        &mut self,
        connection: ConnectionId,
        buffer: SharedBuffer,
        priority: Priority,
    ) -> Result<(), SendError> {
        self.common.queue(connection, buffer, priority)?;
        self.mark_dirty(connection);
        self.want_turn();
        Ok(())
    }

    fn set_receiving(&mut self, connection: ConnectionId, receiving: bool) {
        let Some(slot) = self.common.table.get_mut(connection) else { return };
        if std::mem::replace(&mut slot.stopped, !receiving) && receiving {
            match slot.life.state {
                State::PeerFinished => self.mark_dirty(connection), // its end was held back
                _ => self.mark_ready(connection),
            }
            self.want_turn();
        }
    }

    fn drop_unsent(&mut self, connection: ConnectionId, dropped: &mut dyn FnMut(&[u8])) {
        self.common.drop_unsent(connection, 0, dropped);
    }

    fn finish(&mut self, connection: ConnectionId, last: Option<SharedBuffer>) {
        match self.common.finish(connection, last) {
            Finish::Ignored => return,
            Finish::End => self.end(connection, CloseReason::Local),
            Finish::Flush => self.mark_ready(connection),
        }
        self.mark_dirty(connection);
        self.want_turn();
    }

    fn close(&mut self, connection: ConnectionId) {
        self.end(connection, CloseReason::Local);
        self.want_turn();
    }

    fn trim(&mut self) {
        self.common.trim();
    }

    fn pools(&mut self) -> &mut BufferPools {
        &mut self.common.pools
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.network.borrow().now)
    }
}

impl Queues for SimBackend {
    common_queues!();
}

impl Introspect for SimBackend {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn connection_count(&self) -> usize {
        self.common.table.len()
    }

    fn is_full(&self) -> bool {
        self.accepting && self.common.table.len() == self.common.table.capacity()
    }

    fn index_bound(&self) -> usize {
        self.common.table.capacity()
    }

    fn counters(&self) -> BackendCounters {
        self.common.counters
    }
}

impl Drop for SimBackend {
    /// Resets the connections and frees the addresses, as the end of a process does.
    fn drop(&mut self) {
        let mut core = self.network.borrow_mut();
        for (_, slot) in self.common.table.iter() {
            core.abort(slot.socket);
        }
        core.remove_host(self.host);
    }
}
