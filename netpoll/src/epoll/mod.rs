//! The readiness backend: one edge-triggered epoll instance.
//!
//! ```text
//!   epoll_wait ──► events ──► ready list ──► receive one buffer each ──► batch
//!                                 ▲   │ buffer filled whole, or no buffer free: stays ready
//!                                 └───┘
//!   send ──► queue of the connection, dirty list ──► next poll: one write each ──► short? wait for the edge
//! ```
//!
//! An edge says "something changed since you looked"; what is left over is remembered in the ready list, so that one
//! turn takes at most one buffer from each connection and none starves. A receive that does not fill its buffer has
//! drained the socket (epoll(7), "Questions and answers", 9); a peer's FIN is seen as `EPOLLRDHUP`.

mod slot;

use crate::connection_table::ConnectionTable;
use crate::send_queue::{PIECES_PER_WRITE, Pieces};
use crate::sys::socket;
use crate::{
    Backend, BackendConfig, BackendCounters, BufferPools, CloseReason, Completion, Completions, ConnectError,
    ConnectionId, ListenerConfig, ListenerId, MonotonicClock, SendError, SharedBuffer, Timestamp, Waker,
};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use slot::{Slot, State};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// `ConnectionId::pack` tags of what an event may be about.
const TAG_CONNECTION: u8 = 0;
const TAG_LISTENER: u8 = 1;
const TAG_WAKER: u8 = 2;

/// How long accepting rests after the system ran short of descriptors or memory.
const ACCEPT_REST: Duration = Duration::from_millis(20);
/// How long to wait for buffers to come back when there are connections to receive from and none is free.
const BUFFER_REST: Duration = Duration::from_millis(1);

const INTEREST: EventFlags =
    EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);
/// The peer's FIN or an error lies behind the bytes still to be received.
const PEER_DONE: EventFlags = EventFlags::RDHUP.union(EventFlags::HUP).union(EventFlags::ERR);

struct Listener {
    socket: OwnedFd,
    /// An edge came and `accept` has not said EAGAIN since.
    ready: bool,
}

/// The epoll backend. See the module's text.
pub struct EpollBackend {
    epoll: OwnedFd,
    events: Vec<Event>,
    listeners: Vec<Listener>,
    accepting: bool,
    accept_after: Timestamp,
    connections: ConnectionTable<Slot>,
    /// Connections that may have bytes to receive, each once (`Slot::in_ready`).
    ready: VecDeque<ConnectionId>,
    /// Connections with something new to send, each once (`Slot::in_dirty`).
    dirty: Vec<ConnectionId>,
    /// Completions that did not come out of a receive, to be reported first.
    notices: VecDeque<Notice>,
    pieces: Pieces,
    pools: BufferPools,
    waker: Waker,
    clock: MonotonicClock,
    limits: Limits,
    counters: BackendCounters,
}

struct Limits {
    send_queue_bytes_max: usize,
    copy_break: usize,
}

#[derive(Clone, Copy)]
enum Notice {
    Connected(ConnectionId),
    Sent(ConnectionId),
    Closed(ConnectionId, CloseReason),
}

impl EpollBackend {
    /// Bytes of user space that a connection takes, its places in the lists included.
    pub const BYTES_PER_CONNECTION: usize =
        ConnectionTable::<Slot>::BYTES_PER_SLOT + 2 * size_of::<ConnectionId>() + 2 * size_of::<Notice>();

    /// Makes the epoll instance and reserves everything that `config` names.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE` or `ENOMEM`, as `epoll_create1(2)`, `eventfd(2)` and `mmap(2)` give them.
    pub fn new(config: &BackendConfig) -> io::Result<EpollBackend> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let waker = Waker::event_fd()?;
        if let Some(fd) = waker.as_fd() {
            let data = ConnectionId::new(0, 0).pack(TAG_WAKER);
            epoll::add(&epoll, fd, EventData::new_u64(data), EventFlags::IN | EventFlags::ET)?;
        }
        Ok(EpollBackend {
            epoll,
            events: Vec::with_capacity(config.batch_max),
            listeners: Vec::with_capacity(8),
            accepting: true,
            accept_after: Timestamp::ZERO,
            connections: ConnectionTable::with_capacity(config.connections_max),
            ready: VecDeque::with_capacity(config.connections_max),
            dirty: Vec::with_capacity(config.connections_max),
            // At most one Closed, and one Connected or Sent before it, a connection.
            notices: VecDeque::with_capacity(2 * config.connections_max),
            pieces: Pieces::with_capacity(config.send_pieces_max),
            pools: BufferPools::new(&config.pools)?,
            waker,
            clock: MonotonicClock::start(),
            limits: Limits {
                send_queue_bytes_max: config.send_queue_bytes_max,
                copy_break: config.copy_break,
            },
            counters: BackendCounters::default(),
        })
    }

    fn insert(&mut self, socket: OwnedFd, state: State) -> Result<ConnectionId, ConnectError> {
        let Some(id) = self.connections.vacant_id() else { return Err(ConnectError::TableFull) };
        let data = EventData::new_u64(id.pack(TAG_CONNECTION));
        epoll::add(&self.epoll, &socket, data, INTEREST).map_err(|error| ConnectError::Io(error.into()))?;
        self.connections.insert(Slot::new(socket, state)).map_err(|_| ConnectError::TableFull)
    }

    // --- waiting -------------------------------------------------------------------------------------------------

    fn wait(&mut self, wait: Duration, batch: &Completions) -> io::Result<()> {
        let accept_rests = self.listeners.iter().any(|listener| listener.ready) && self.may_accept();
        let left_over = !self.notices.is_empty() || (accept_rests && self.clock.now() >= self.accept_after);
        let wait = match () {
            () if left_over || batch.is_full() => Duration::ZERO,
            // Only a pool run dry leaves connections ready with room in the batch.
            () if !self.ready.is_empty() => match self.pools.receive_level().free {
                0 => wait.min(BUFFER_REST),
                _ => Duration::ZERO,
            },
            () if accept_rests => wait.min(ACCEPT_REST),
            () => wait,
        };
        let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        self.events.clear();
        let room = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, room, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.counters.polls += 1;
        self.counters.events += self.events.len() as u64;
        Ok(())
    }

    fn note_events(&mut self) {
        for position in 0..self.events.len() {
            let event = self.events[position];
            let (tag, id) = ConnectionId::unpack(event.data.u64());
            match tag {
                TAG_LISTENER => self.listeners[id.index()].ready = true,
                TAG_CONNECTION => self.note_connection(id, event.flags),
                _ => {} // the waker: having ended the wait is all it does
            }
        }
    }

    fn note_connection(&mut self, id: ConnectionId, flags: EventFlags) {
        let Some(slot) = self.connections.get_mut(id) else { return };
        if slot.state == State::Connecting
            && flags.intersects(EventFlags::OUT | EventFlags::ERR | EventFlags::HUP)
        {
            // The edge may be the last one: a peer that spoke and left at once is in it too.
            slot.peer_done = flags.intersects(PEER_DONE);
            return self.finish_connecting(id);
        }
        if flags.contains(EventFlags::OUT) && slot.send_waits {
            slot.send_waits = false;
            self.mark_dirty(id);
        }
        if flags.intersects(PEER_DONE | EventFlags::IN) {
            let Some(slot) = self.connections.get_mut(id) else { return };
            slot.peer_done |= flags.intersects(PEER_DONE);
            self.mark_ready(id);
        }
    }

    fn mark_ready(&mut self, id: ConnectionId) {
        let Some(slot) = self.connections.get_mut(id) else { return };
        if !slot.state.receives() || std::mem::replace(&mut slot.in_ready, true) {
            return;
        }
        if self.ready.len() == self.ready.capacity() {
            // Only connections that ended while no buffer was free can have filled it.
            self.ready.retain(|id| self.connections.get(*id).is_some());
        }
        self.ready.push_back(id);
    }

    fn mark_dirty(&mut self, id: ConnectionId) {
        let Some(slot) = self.connections.get_mut(id) else { return };
        if !std::mem::replace(&mut slot.in_dirty, true) {
            self.dirty.push(id);
        }
    }

    fn finish_connecting(&mut self, id: ConnectionId) {
        let Some(slot) = self.connections.get_mut(id) else { return };
        match socket::take_error(&slot.socket) {
            Ok(()) => {
                slot.state = State::Open;
                self.notices.push_back(Notice::Connected(id));
                self.mark_ready(id);
                self.mark_dirty(id);
            }
            Err(error) => self.end(id, CloseReason::of_error(&error)),
        }
    }

    // --- accepting -----------------------------------------------------------------------------------------------

    fn may_accept(&self) -> bool {
        self.accepting && self.connections.len() < self.connections.capacity()
    }

    fn accept_all(&mut self, batch: &mut Completions) {
        if !self.may_accept() || self.clock.now() < self.accept_after {
            return;
        }
        // At most half of what is left: a storm of new connections must not silence those that are there.
        let room_kept = batch.room() / 2;
        for position in 0..self.listeners.len() {
            while self.listeners[position].ready && self.may_accept() && batch.room() > room_kept {
                let accepted = self.accept_one(position, batch);
                if accepted.is_err_and(|error| self.accept_failed(position, &error)) {
                    return;
                }
            }
        }
    }

    fn accept_one(&mut self, position: usize, batch: &mut Completions) -> io::Result<()> {
        let (socket, peer) = socket::accept(&self.listeners[position].socket)?;
        let connection = self.insert(socket, State::Open).map_err(|error| match error {
            ConnectError::Io(error) => error,
            ConnectError::TableFull => io::ErrorKind::QuotaExceeded.into(), // `may_accept` has just said no
        })?;
        self.counters.accepts += 1;
        batch.push(Completion::Accepted { connection, listener: ListenerId(position as u8), peer });
        Ok(())
    }

    /// accept(2): EAGAIN ends the edge; a shortage (EMFILE, ENFILE, ENOBUFS, ENOMEM) calls for a rest of all
    /// listeners, and is the one case that returns true; anything else concerns only the connection at hand.
    fn accept_failed(&mut self, position: usize, error: &io::Error) -> bool {
        if error.kind() == io::ErrorKind::WouldBlock {
            self.listeners[position].ready = false;
            return false;
        }
        self.counters.accept_errors += 1;
        let shortage = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
        let is_shortage = error.raw_os_error().is_some_and(|number| shortage.contains(&number));
        if is_shortage {
            self.accept_after = self.clock.now() + ACCEPT_REST;
        }
        is_shortage
    }

    // --- receiving -----------------------------------------------------------------------------------------------

    fn receive_all(&mut self, batch: &mut Completions) {
        for _ in 0..self.ready.len() {
            if batch.is_full() {
                return;
            }
            let Some(id) = self.ready.pop_front() else { return };
            match self.connections.get_mut(id) {
                Some(slot) => slot.in_ready = false,
                None => continue,
            }
            if !self.receive_one(id, batch) {
                self.mark_ready(id);
                return; // no buffer: the others would not get one either
            }
        }
    }

    /// Receives one buffer; false when none was free.
    fn receive_one(&mut self, connection: ConnectionId, batch: &mut Completions) -> bool {
        let Some(slot) = self.connections.get_mut(connection) else { return true };
        if !slot.state.receives() {
            return true; // closed since it became ready: what lies unread makes the kernel reset it
        }
        let Some(mut buffer) = self.pools.take_receive() else {
            self.counters.receive_pauses += 1;
            return false;
        };
        match socket::receive(&slot.socket, buffer.spare_mut()) {
            Ok(0) => {
                self.pools.give_back(buffer);
                self.peer_finished(connection);
            }
            Ok(count) => {
                self.counters.receives += 1;
                self.counters.receive_bytes += count as u64;
                let more = count == buffer.capacity() || slot.peer_done;
                if slot.state == State::Open {
                    buffer.set_len(count);
                    batch.push(Completion::Received { connection, buffer });
                } else {
                    self.pools.give_back(buffer); // finishing: what still comes is discarded
                }
                if more {
                    self.mark_ready(connection);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.pools.give_back(buffer),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.pools.give_back(buffer);
                self.mark_ready(connection);
            }
            Err(error) => {
                self.pools.give_back(buffer);
                self.end(connection, CloseReason::of_error(&error));
            }
        }
        true
    }

    /// The peer's FIN. What is queued for it still leaves: it may have closed only its own side.
    fn peer_finished(&mut self, id: ConnectionId) {
        let Some(slot) = self.connections.get_mut(id) else { return };
        if slot.queue.is_empty() {
            let reason = slot.reason_of_fin();
            return self.end(id, reason);
        }
        slot.state = State::PeerFinished;
    }

    // --- sending -------------------------------------------------------------------------------------------------

    fn flush_all(&mut self) {
        while let Some(id) = self.dirty.pop() {
            let Some(slot) = self.connections.get_mut(id) else { continue };
            slot.in_dirty = false;
            if slot.state.sends() && !slot.send_waits {
                self.flush_one(id);
            }
        }
    }

    fn flush_one(&mut self, id: ConnectionId) {
        let Some(slot) = self.connections.get_mut(id) else { return };
        while !slot.queue.is_empty() {
            let (offered, result) = write_front(slot, &self.pieces);
            self.counters.sends += 1;
            match result {
                Ok(count) => {
                    self.counters.send_bytes += count as u64;
                    self.pieces.advance(&mut slot.queue, count);
                    if count < offered {
                        return self.send_must_wait(id);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.send_must_wait(id),
                Err(error) => return self.end(id, CloseReason::of_error(&error)),
            }
        }
        self.queue_emptied(id);
    }

    fn send_must_wait(&mut self, id: ConnectionId) {
        let Some(slot) = self.connections.get_mut(id) else { return };
        slot.send_waits = true;
        slot.sent_after_wait = true;
        self.counters.send_waits += 1;
        self.counters.send_copies += self.pieces.retain(&slot.queue, &mut self.pools, self.limits.copy_break);
    }

    fn queue_emptied(&mut self, id: ConnectionId) {
        let Some(slot) = self.connections.get_mut(id) else { return };
        match slot.state {
            State::Open => {
                if std::mem::take(&mut slot.sent_after_wait) {
                    self.notices.push_back(Notice::Sent(id));
                }
            }
            State::Finishing => {
                slot.state = State::Finished;
                match socket::shutdown_write(&slot.socket) {
                    Ok(()) => {}
                    // A socket that was connected and is not any more has been reset (shutdown(2), ENOTCONN).
                    Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                        self.end(id, CloseReason::PeerReset);
                    }
                    Err(error) => self.end(id, CloseReason::of_error(&error)),
                }
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

    fn report_notices(&mut self, batch: &mut Completions) {
        while !batch.is_full() {
            let Some(notice) = self.notices.pop_front() else { return };
            match notice {
                Notice::Connected(connection) => batch.push(Completion::Connected { connection }),
                Notice::Sent(connection)
                    if self.connections.get(connection).is_some_and(|s| s.state == State::Open) =>
                {
                    batch.push(Completion::Sent { connection });
                }
                Notice::Sent(_) => {}
                Notice::Closed(connection, reason) => {
                    drop(self.connections.remove(connection)); // closes the socket, which leaves the epoll set
                    batch.push(Completion::Closed { connection, reason });
                }
            }
        }
    }
}

/// Offers the socket the front of the queue in one call; returns what was offered and what came of it.
fn write_front(slot: &Slot, pieces: &Pieces) -> (usize, io::Result<usize>) {
    match pieces.front(&slot.queue) {
        Some(only) if pieces.is_single(&slot.queue) => (only.len(), socket::send(&slot.socket, only)),
        _ => {
            let mut slices = [IoSlice::new(&[]); PIECES_PER_WRITE];
            let count = pieces.gather(&slot.queue, &mut slices);
            let offered = slices[..count].iter().map(|slice| slice.len()).sum();
            (offered, socket::send_vectored(&slot.socket, &slices[..count]))
        }
    }
}

impl Backend for EpollBackend {
    fn name(&self) -> &'static str {
        "epoll"
    }

    fn listen(&mut self, config: &ListenerConfig) -> io::Result<(ListenerId, SocketAddr)> {
        let id = u8::try_from(self.listeners.len()).map_err(|_| io::ErrorKind::QuotaExceeded)?;
        let (socket, address) = socket::listen(config)?;
        let data = ConnectionId::new(u32::from(id), 0).pack(TAG_LISTENER);
        epoll::add(&self.epoll, &socket, EventData::new_u64(data), EventFlags::IN | EventFlags::ET)?;
        self.listeners.push(Listener { socket, ready: true });
        Ok((ListenerId(id), address))
    }

    fn set_accepting(&mut self, accepting: bool) {
        self.accepting = accepting;
    }

    fn connect(
        &mut self,
        local: Option<SocketAddr>,
        remote: SocketAddr,
    ) -> Result<ConnectionId, ConnectError> {
        if self.connections.len() == self.connections.capacity() {
            return Err(ConnectError::TableFull);
        }
        let socket = socket::client(local, remote).map_err(ConnectError::Io)?;
        let done = socket::connect(&socket, remote);
        let id = self.insert(socket, State::Connecting)?;
        match done {
            Ok(true) => self.finish_connecting(id),
            Ok(false) => {}
            Err(error) => self.end(id, CloseReason::of_error(&error)),
        }
        Ok(id)
    }

    fn poll(&mut self, wait: Duration, batch: &mut Completions) -> io::Result<()> {
        self.flush_all();
        self.wait(wait, batch)?;
        self.note_events();
        self.report_notices(batch);
        self.accept_all(batch);
        self.receive_all(batch);
        Ok(())
    }

    fn send(&mut self, connection: ConnectionId, buffer: SharedBuffer) -> Result<(), SendError> {
        let Some(slot) = self.connections.get_mut(connection).filter(|slot| slot.state.takes_sends()) else {
            return Err(SendError::Closed(buffer));
        };
        self.pieces
            .push(&mut slot.queue, buffer, self.limits.send_queue_bytes_max)
            .map_err(SendError::Full)?;
        if !std::mem::replace(&mut slot.in_dirty, true) {
            self.dirty.push(connection);
        }
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
            _ => {
                slot.state = State::Finishing;
                self.mark_dirty(connection);
                self.mark_ready(connection);
            }
        }
    }

    fn close(&mut self, connection: ConnectionId) {
        self.end(connection, CloseReason::Local);
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
        self.clock.now()
    }

    fn counters(&self) -> BackendCounters {
        self.counters
    }
}
