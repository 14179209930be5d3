//! A backend on the simulated network: the readiness machine of the epoll backend over simulated system calls.
//!
//! Queues, pieces, pools and the table are the real ones, so that a simulation runs the code that production runs.

use super::core::{Core, nanos};
use super::link::SocketId;
use super::slot::{Slot, State};
use super::socket::Stop;
use super::{Mutation, SimNetwork};
use crate::connection_table::ConnectionTable;
use crate::send_queue::{PIECES_PER_WRITE, Pieces};
use crate::{
    Backend, BackendConfig, BackendCounters, BufferPools, CloseReason, Completion, Completions, ConnectError,
    ConnectionId, ListenerConfig, ListenerId, SendError, SharedBuffer, Timestamp, Waker,
};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// How long to wait for buffers to come back when there are connections to receive from and none is free.
const BUFFER_REST: Duration = Duration::from_millis(1);

#[derive(Clone, Copy)]
enum Notice {
    Connected(ConnectionId),
    Sent(ConnectionId),
    Closed(ConnectionId, CloseReason),
}

/// One backend of a [`SimNetwork`]. See the module's text.
pub struct SimBackend {
    network: Rc<RefCell<Core>>,
    host: usize,
    waker: Waker,
    accepting: bool,
    connections: ConnectionTable<Slot>,
    /// Connections that may have bytes to receive, each once (`Slot::in_ready`).
    ready: VecDeque<ConnectionId>,
    /// Connections with something new to send, each once (`Slot::in_dirty`).
    dirty: Vec<ConnectionId>,
    /// Completions that did not come out of a receive, to be reported first.
    notices: VecDeque<Notice>,
    pieces: Pieces,
    pools: BufferPools,
    limits: Limits,
    counters: BackendCounters,
}

struct Limits {
    batch_max: usize,
    send_queue_bytes_max: usize,
    copy_break: usize,
}

impl SimBackend {
    pub(super) fn new(network: Rc<RefCell<Core>>, config: &BackendConfig) -> io::Result<SimBackend> {
        let pools = BufferPools::new(&config.pools)?;
        let (host, waker) = network.borrow_mut().add_host();
        Ok(SimBackend {
            network,
            host,
            waker,
            accepting: true,
            connections: ConnectionTable::with_capacity(config.connections_max),
            ready: VecDeque::new(),
            dirty: Vec::new(),
            notices: VecDeque::new(),
            pieces: Pieces::with_capacity(config.send_pieces_max),
            pools,
            limits: Limits {
                batch_max: config.batch_max,
                send_queue_bytes_max: config.send_queue_bytes_max,
                copy_break: config.copy_break,
            },
            counters: BackendCounters::default(),
        })
    }

    /// Its number in the network, from 0: what [`SimNetwork::step`] returns.
    pub fn number(&self) -> usize {
        self.host
    }

    /// The network that it is on.
    pub fn network(&self) -> SimNetwork {
        SimNetwork { core: Rc::clone(&self.network) }
    }

    /// Breaks a connection as a failing link would: both sides hear of a reset, what was under way is lost.
    pub fn cut(&mut self, connection: ConnectionId) {
        if let Some(slot) = self.connections.get(connection) {
            self.network.borrow_mut().cut(slot.socket);
        }
    }

    fn insert(&mut self, core: &mut Core, socket: SocketId, state: State) -> Result<ConnectionId, Slot> {
        let id = self.connections.insert(Slot::new(socket, state))?;
        core.name(socket, id);
        Ok(id)
    }

    // --- news ----------------------------------------------------------------------------------------------------

    fn take_news(&mut self, core: &mut Core) {
        for _ in 0..self.limits.batch_max {
            let Some(id) = core.next_ready(self.host) else { return };
            self.counters.events += 1;
            self.note_connection(core, id);
        }
    }

    fn note_connection(&mut self, core: &mut Core, id: ConnectionId) {
        let Some(slot) = self.connections.get_mut(id) else { return };
        if slot.state == State::Connecting {
            match core.connect_result(slot.socket) {
                None => return,
                Some(Err(reason)) => return self.end(id, reason),
                Some(Ok(())) => {
                    slot.state = State::Open;
                    self.notices.push_back(Notice::Connected(id));
                }
            }
        }
        self.mark_dirty(id);
        let Some(slot) = self.connections.get_mut(id) else { return };
        slot.send_waits = false;
        if core.is_readable(slot.socket) {
            self.mark_ready(id);
        }
    }

    fn mark_ready(&mut self, id: ConnectionId) {
        let Some(slot) = self.connections.get_mut(id) else { return };
        if slot.state.receives() && !std::mem::replace(&mut slot.in_ready, true) {
            self.ready.push_back(id);
        }
    }

    fn mark_dirty(&mut self, id: ConnectionId) {
        let Some(slot) = self.connections.get_mut(id) else { return };
        if !std::mem::replace(&mut slot.in_dirty, true) {
            self.dirty.push(id);
        }
    }

    // --- accepting -----------------------------------------------------------------------------------------------

    fn may_accept(&self) -> bool {
        self.accepting && self.connections.len() < self.connections.capacity()
    }

    fn accept_all(&mut self, core: &mut Core, batch: &mut Completions, stop: usize) {
        for position in 0..core.hosts[self.host].listeners.len() {
            while self.may_accept() && batch.len() < stop {
                let Some((socket, peer)) = core.accept(self.host, position) else { break };
                let Ok(connection) = self.insert(core, socket, State::Open) else { return };
                self.counters.accepts += 1;
                batch.push(Completion::Accepted { connection, listener: ListenerId(position as u8), peer });
            }
        }
    }

    // --- receiving -----------------------------------------------------------------------------------------------

    fn receive_all(&mut self, core: &mut Core, batch: &mut Completions, stop: usize) {
        if self.ready.is_empty() || core.chance(|faults| faults.empty_pool) {
            return;
        }
        for _ in 0..self.ready.len() {
            if batch.len() >= stop {
                return;
            }
            let Some(id) = self.ready.pop_front() else { return };
            match self.connections.get_mut(id) {
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
        let Some(slot) = self.connections.get_mut(connection) else { return true };
        if !slot.state.receives() {
            return true;
        }
        let Some(mut buffer) = self.pools.take_receive() else {
            self.counters.receive_pauses += 1;
            return false;
        };
        if core.mutates(Mutation::LeakBuffer) {
            std::mem::forget(buffer.split_to(0));
        }
        let socket = slot.socket;
        match core.receive(socket, buffer.spare_mut()) {
            Ok(0) => {
                self.pools.give_back(buffer);
                self.peer_finished(connection);
            }
            Ok(count) => {
                self.counters.receives += 1;
                self.counters.receive_bytes += count as u64;
                if slot.state == State::Open {
                    buffer.set_len(count);
                    batch.push(Completion::Received { connection, buffer });
                } else {
                    self.pools.give_back(buffer); // finishing: what still comes is discarded
                }
                if core.is_readable(socket) {
                    self.mark_ready(connection);
                }
            }
            Err(Stop::WouldBlock) => self.pools.give_back(buffer),
            Err(Stop::Broken(reason)) => {
                self.pools.give_back(buffer);
                self.end(connection, reason);
            }
        }
        true
    }

    /// The peer's FIN. What is queued for it still leaves: it may have closed only its own side.
    fn peer_finished(&mut self, id: ConnectionId) {
        let Some(slot) = self.connections.get_mut(id) else { return };
        if !slot.queue.is_empty() {
            slot.state = State::PeerFinished;
            return;
        }
        let reason = slot.reason_of_fin();
        self.end(id, reason);
    }

    // --- sending -------------------------------------------------------------------------------------------------

    fn flush_all(&mut self, core: &mut Core) {
        while let Some(id) = self.dirty.pop() {
            let Some(slot) = self.connections.get_mut(id) else { continue };
            slot.in_dirty = false;
            if slot.state.sends() && !slot.send_waits {
                self.flush_one(core, id);
            }
        }
    }

    fn flush_one(&mut self, core: &mut Core, id: ConnectionId) {
        let Some(slot) = self.connections.get_mut(id) else { return };
        while !slot.queue.is_empty() {
            let (offered, result) = write_front(core, slot, &self.pieces);
            self.counters.sends += 1;
            match result {
                Ok(count) => {
                    self.counters.send_bytes += count as u64;
                    self.pieces.advance(&mut slot.queue, count);
                    if count < offered {
                        return self.send_must_wait(id);
                    }
                }
                Err(Stop::WouldBlock) => return self.send_must_wait(id),
                Err(Stop::Broken(reason)) => return self.end(id, reason),
            }
        }
        self.queue_emptied(core, id);
    }

    fn send_must_wait(&mut self, id: ConnectionId) {
        let Some(slot) = self.connections.get_mut(id) else { return };
        slot.send_waits = true;
        slot.sent_after_wait = true;
        self.counters.send_waits += 1;
        self.counters.send_copies += self.pieces.retain(&slot.queue, &mut self.pools, self.limits.copy_break);
    }

    fn queue_emptied(&mut self, core: &mut Core, id: ConnectionId) {
        let Some(slot) = self.connections.get_mut(id) else { return };
        match slot.state {
            State::Open => {
                if std::mem::take(&mut slot.sent_after_wait) {
                    self.notices.push_back(Notice::Sent(id));
                }
            }
            State::Finishing => {
                slot.state = State::Finished;
                core.shut(slot.socket);
            }
            State::PeerFinished => {
                let reason = slot.reason_of_fin();
                self.end(id, reason);
            }
            State::Connecting | State::Finished | State::Ended => {}
        }
    }

    /// Drops what is queued and puts the `Closed` on its way; the slot goes when that is reported.
    fn end(&mut self, id: ConnectionId, reason: CloseReason) {
        let Some(slot) = self.connections.get_mut(id) else { return };
        if slot.state == State::Ended {
            return;
        }
        slot.state = State::Ended;
        self.pieces.clear(&mut slot.queue);
        self.notices.push_back(Notice::Closed(id, reason));
    }

    // --- reporting -----------------------------------------------------------------------------------------------

    fn report_notices(&mut self, core: &mut Core, batch: &mut Completions, stop: usize) {
        while batch.len() < stop {
            let Some(notice) = self.notices.pop_front() else { return };
            match notice {
                Notice::Connected(connection) => batch.push(Completion::Connected { connection }),
                Notice::Sent(connection) => {
                    if self.connections.get(connection).is_some_and(|slot| slot.state == State::Open) {
                        batch.push(Completion::Sent { connection });
                    }
                }
                Notice::Closed(connection, reason) => {
                    if core.mutates(Mutation::CloseTwice) {
                        self.notices.push_back(notice);
                    }
                    if let Some(slot) = self.connections.remove(connection) {
                        core.close(slot.socket);
                    }
                    if !core.mutates(Mutation::ForgetClose) {
                        batch.push(Completion::Closed { connection, reason });
                    }
                }
            }
        }
    }

    /// How long the batch may become in this poll.
    fn stop(&self, core: &mut Core, batch: &Completions) -> usize {
        let mut room = batch.room().min(self.limits.batch_max);
        if room > 1 && core.chance(|faults| faults.small_batch) {
            room = 1 + core.rng.below(room - 1);
        }
        batch.len() + room
    }

    /// Tells the network when the next turn is wanted.
    fn go_to_sleep(&mut self, core: &mut Core, wait: Duration) {
        let starved = !self.ready.is_empty() && self.pools.receive_level().free == 0;
        let wait = if starved { wait.min(BUFFER_REST) } else { wait };
        let accepts = self.may_accept();
        let host = &mut core.hosts[self.host];
        host.left_over =
            !self.notices.is_empty() || !self.dirty.is_empty() || (!self.ready.is_empty() && !starved);
        host.accepts = accepts;
        // A wake-up ends the wait of the poll that finds it.
        let woken = std::mem::take(&mut host.woken);
        host.deadline = if woken { core.now } else { core.now.saturating_add(nanos(wait)) };
    }

    /// Something was asked for between two polls: the owner's next poll has work.
    fn want_turn(&self) {
        self.network.borrow_mut().hosts[self.host].left_over = true;
    }
}

/// Offers the socket the front of the queue in one call; returns what was offered and what came of it.
fn write_front(core: &mut Core, slot: &Slot, pieces: &Pieces) -> (usize, Result<usize, Stop>) {
    let front = || pieces.iter(&slot.queue).take(PIECES_PER_WRITE);
    let offered = front().map(|piece| piece.len()).sum();
    if !pieces.is_single(&slot.queue) && core.mutates(Mutation::ReorderTwoSends) {
        let swapped = front().skip(1).take(1).chain(front().take(1)).chain(front().skip(2));
        return (offered, core.send(slot.socket, swapped.map(|piece| &**piece), offered));
    }
    (offered, core.send(slot.socket, front().map(|piece| &**piece), offered))
}

impl Backend for SimBackend {
    fn name(&self) -> &'static str {
        "sim"
    }

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

    fn connect(
        &mut self,
        local: Option<SocketAddr>,
        remote: SocketAddr,
    ) -> Result<ConnectionId, ConnectError> {
        if self.connections.len() == self.connections.capacity() {
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
        self.counters.polls += 1;
        core.run_due();
        self.flush_all(core);
        if !core.chance(|faults| faults.idle_poll) {
            let stop = self.stop(core, batch);
            self.take_news(core);
            self.report_notices(core, batch, stop);
            // What is reported first has priority: bytes may not overtake their Connected.
            if self.notices.is_empty() {
                self.accept_all(core, batch, stop);
                self.receive_all(core, batch, stop);
            }
        }
        core.trace.record(core.now, "poll", self.host as u32, batch.len() as u32);
        self.go_to_sleep(core, wait);
        Ok(())
    }

    fn send(&mut self, connection: ConnectionId, buffer: SharedBuffer) -> Result<(), SendError> {
        let Some(slot) = self.connections.get_mut(connection).filter(|slot| slot.state.takes_sends()) else {
            return Err(SendError::Closed(buffer));
        };
        self.pieces
            .push(&mut slot.queue, buffer, self.limits.send_queue_bytes_max)
            .map_err(SendError::Full)?;
        self.mark_dirty(connection);
        self.want_turn();
        Ok(())
    }

    fn finish(&mut self, connection: ConnectionId, last: Option<SharedBuffer>) {
        let Some(slot) = self.connections.get_mut(connection).filter(|slot| slot.state.takes_sends()) else {
            return;
        };
        if let Some(last) = last {
            // A full store of pieces loses the farewell, not the close.
            let _ = self.pieces.push(&mut slot.queue, last, usize::MAX);
        }
        slot.finishing = true;
        match slot.state {
            State::Connecting => self.end(connection, CloseReason::Local),
            State::PeerFinished => {}
            _ => {
                slot.state = State::Finishing;
                self.mark_ready(connection);
            }
        }
        self.mark_dirty(connection);
        self.want_turn();
    }

    fn close(&mut self, connection: ConnectionId) {
        self.end(connection, CloseReason::Local);
        self.want_turn();
    }

    fn queued_bytes(&self, connection: ConnectionId) -> usize {
        self.connections.get(connection).map_or(0, |slot| slot.queue.bytes())
    }

    fn connection_count(&self) -> usize {
        self.connections.len()
    }

    fn is_full(&self) -> bool {
        self.accepting && self.connections.len() == self.connections.capacity()
    }

    fn index_bound(&self) -> usize {
        self.connections.capacity()
    }

    fn pools(&mut self) -> &mut BufferPools {
        &mut self.pools
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.network.borrow().now)
    }

    fn counters(&self) -> BackendCounters {
        self.counters
    }
}

impl Drop for SimBackend {
    /// A process that ends resets its connections and frees its addresses.
    fn drop(&mut self) {
        let mut core = self.network.borrow_mut();
        for (_, slot) in self.connections.iter() {
            core.abort(slot.socket);
        }
        core.remove_host(self.host);
    }
}
