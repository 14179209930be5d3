//! The readiness backend: one edge-triggered epoll instance.
//!
//! ```text
//!   epoll_wait ──► events ──► ready list ──► receive one buffer each ──► batch
//!                                 ▲   │ buffer filled whole, or no buffer free: stays ready
//!                                 └───┘   (a filled one up to eight times a poll, in rounds)
//!   send ──► queue of the connection, dirty list ──► next poll: one write each ──► short? wait
//! ```
//!
//! An edge says "something changed since you looked"; what is left over is remembered in the ready
//! list. Receiving goes in rounds, one buffer from each connection, so that none starves and a
//! peer's burst is still answered by one write. A connection that the owner has stopped is kept out
//! of the ready list; edges are missed meanwhile, so the resume puts it there unconditionally. A
//! receive that does not fill its buffer has drained the socket (epoll(7), "Questions and answers",
//! 9). A peer's FIN is seen as `EPOLLRDHUP`.

mod accept;
mod handover;
mod slot;

use crate::fifo::Fifo;
use crate::lifecycle::{Common, Emptied, Finish, Notice, PeerFinish, State, common_queues};
use crate::sys::{descriptors, socket};
use crate::{
    Backend, BackendConfig, BackendCounters, BufferPools, CloseReason, Completion, Completions, ConnectError,
    ConnectionId, Introspect, ListenerConfig, ListenerId, MonotonicClock, Priority, Queues, SendError,
    SharedBuffer, Timestamp, Waker,
};
use accept::{ACCEPT_PAUSE, Listeners};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
pub(crate) use slot::Slot;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// `ConnectionId::pack` tags: what an event is about.
const TAG_CONNECTION: u8 = 0;
const TAG_LISTENER: u8 = 1;
const TAG_WAKER: u8 = 2;

/// How long to wait for buffers to return when connections are ready and no buffer is free.
const BUFFER_REST: Duration = Duration::from_millis(1);

/// At most so many buffers are filled by one connection in one poll.
const RECEIVES_PER_POLL: usize = 8;

const INTEREST: EventFlags =
    EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);
/// The peer's FIN or an error lies behind the bytes still to be received.
const PEER_DONE: EventFlags = EventFlags::RDHUP.union(EventFlags::HUP).union(EventFlags::ERR);

/// The epoll backend. See the module's text.
pub struct EpollBackend {
    epoll: OwnedFd,
    events: Vec<Event>,
    listeners: Listeners,
    common: Common<Slot>,
    /// Connections that may have bytes to receive, each once (`Slot::in_ready`).
    ready: Fifo<ConnectionId>,
    /// Connections with something new to send, each once (`Slot::in_dirty`).
    dirty: Vec<ConnectionId>,
    batch_max: usize,
    waker: Waker,
    clock: MonotonicClock,
    /// Its descriptors may be in the table of one thread only, so it stays on that thread.
    of_thread: PhantomData<*const ()>,
}

impl EpollBackend {
    /// Bytes of user space that a connection takes, including its entries in the lists.
    pub const BYTES_PER_CONNECTION: usize =
        Common::<Slot>::BYTES_PER_CONNECTION + 2 * size_of::<ConnectionId>();

    /// Makes the epoll instance and reserves everything that `config` names.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE` or `ENOMEM`, as `epoll_create1(2)`, `eventfd(2)` and `mmap(2)` return
    /// them.
    pub fn new(config: &BackendConfig) -> io::Result<EpollBackend> {
        EpollBackend::make(config, Waker::event_fd()?)
    }

    /// The same on a thread that has, from here on, a table of descriptors of its own:
    /// RLIMIT_NOFILE then bounds the connections of this backend, not those of the process.
    ///
    /// For a thread that runs this backend and nothing else. What is open already stays open under
    /// the same number until the thread ends. That includes `waker`, which another thread must
    /// therefore have made before: as long as any thread may use the waker, a thread that shares
    /// the process's table must hold it, because only there closing it ends it. No other thread can
    /// use what this thread opens (connections and listeners), and `/proc/PID/fd` does not show it:
    /// `/proc/PID/task/TID/fd` does.
    ///
    /// # Safety
    /// A descriptor is a number in a table, and from here on this thread's numbers mean other files
    /// than those of the process. So from this call to the thread's end nothing that owns or
    /// borrows a descriptor may pass between this thread and others, in either direction
    /// (`std::io`, "I/O Safety"): neither what this thread opens (a `File` that is sent elsewhere
    /// would be another file there), nor what another thread opens later. What was open before, and
    /// is kept open by other threads, may be used here, and must not be closed here for the last
    /// time.
    ///
    /// # Errors
    /// As [`EpollBackend::new`]; `ENOSYS` before Linux 5.9, `EPERM` where a sandbox forbids
    /// `close_range(2)`.
    #[allow(unsafe_code)]
    pub unsafe fn with_own_descriptors(config: &BackendConfig, waker: Waker) -> io::Result<EpollBackend> {
        // SAFETY: handed on to the caller.
        unsafe { descriptors::own_table() }?;
        EpollBackend::make(config, waker)
    }

    /// Tests, on a thread that ends with the call, whether threads can have descriptors of their
    /// own here.
    ///
    /// # Errors
    /// As [`EpollBackend::with_own_descriptors`], and what keeps a thread from starting.
    pub fn probe_own_descriptors() -> io::Result<()> {
        let thread = std::thread::Builder::new().spawn(descriptors::try_own_table)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    }

    fn make(config: &BackendConfig, waker: Waker) -> io::Result<EpollBackend> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        if let Some(fd) = waker.as_fd() {
            let data = ConnectionId::new(0, 0).pack(TAG_WAKER);
            epoll::add(&epoll, fd, EventData::new_u64(data), EventFlags::IN | EventFlags::ET)?;
        }
        Ok(EpollBackend {
            epoll,
            events: Vec::with_capacity(config.batch_max),
            listeners: Listeners::new(),
            common: Common::new(config, config.connections_max)?,
            ready: Fifo::with_capacity(config.connections_max),
            dirty: Vec::with_capacity(config.connections_max),
            batch_max: config.batch_max,
            waker,
            clock: MonotonicClock::start(),
            of_thread: PhantomData,
        })
    }

    fn insert(&mut self, socket: OwnedFd, state: State) -> Result<ConnectionId, ConnectError> {
        let Some(id) = self.common.table.vacant_id() else { return Err(ConnectError::TableFull) };
        let data = EventData::new_u64(id.pack(TAG_CONNECTION));
        epoll::add(&self.epoll, &socket, data, INTEREST).map_err(|error| ConnectError::Io(error.into()))?;
        self.common.table.insert(Slot::new(socket, state)).map_err(|_| ConnectError::TableFull)
    }

    // --- waiting ---

    fn wait(&mut self, wait: Duration, batch: &Completions) -> io::Result<()> {
        let accepts = self.listeners.any_ready() && self.may_accept();
        let left_over =
            !self.common.notices.is_empty() || (accepts && !self.listeners.is_paused(|| self.clock.now()));
        let wait = match () {
            () if left_over || batch.is_full() => Duration::ZERO,
            // Only an empty pool leaves connections ready while the batch has room.
            () if !self.ready.is_empty() => match self.common.pools.receive_level().free {
                0 => wait.min(BUFFER_REST),
                _ => Duration::ZERO,
            },
            () if accepts => wait.min(ACCEPT_PAUSE),
            () => wait,
        };
        let wait = self.common.discards.allow(wait);
        let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        self.events.clear();
        let room = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, room, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.common.counters.polls += 1;
        self.common.counters.events += self.events.len() as u64;
        Ok(())
    }

    fn note_events(&mut self) {
        for position in 0..self.events.len() {
            let event = self.events[position];
            let (tag, id) = ConnectionId::unpack(event.data.u64());
            match tag {
                TAG_LISTENER => self.listeners.note_edge(id.index()),
                TAG_CONNECTION => self.note_connection(id, event.flags),
                _ => {} // the waker: having ended the wait is all it does
            }
        }
    }

    fn note_connection(&mut self, id: ConnectionId, flags: EventFlags) {
        let Some(slot) = self.common.table.get_mut(id) else { return };
        if slot.life.state == State::Connecting
            && flags.intersects(EventFlags::OUT | EventFlags::ERR | EventFlags::HUP)
        {
            // The edge may be the last one: it also stands for a peer that sent and left at once.
            slot.peer_done = flags.intersects(PEER_DONE);
            return self.finish_connecting(id);
        }
        if flags.contains(EventFlags::OUT) && slot.life.send_waits {
            slot.life.send_waits = false;
            self.mark_dirty(id);
        }
        if flags.intersects(PEER_DONE | EventFlags::IN) {
            let Some(slot) = self.common.table.get_mut(id) else { return };
            slot.peer_done |= flags.intersects(PEER_DONE);
            self.mark_ready(id);
        }
    }

    fn mark_ready(&mut self, id: ConnectionId) {
        let Some(slot) = self.common.table.get_mut(id) else { return };
        if !slot.life.state.receives() || slot.is_left_unread() || std::mem::replace(&mut slot.in_ready, true)
        {
            return;
        }
        if self.ready.len() == self.ready.capacity() {
            // Only connections that ended while no buffer was free can have filled the list.
            self.ready.retain(|id| self.common.table.get(*id).is_some());
        }
        self.ready.push_back(id);
    }

    fn mark_dirty(&mut self, id: ConnectionId) {
        let Some(slot) = self.common.table.get_mut(id) else { return };
        if !std::mem::replace(&mut slot.in_dirty, true) {
            self.dirty.push(id);
        }
    }

    fn finish_connecting(&mut self, id: ConnectionId) {
        let Some(slot) = self.common.table.get_mut(id) else { return };
        match socket::take_error(&slot.socket) {
            Ok(()) => {
                slot.life.state = State::Open;
                self.common.notices.push_back(Notice::Connected(id));
                self.mark_ready(id);
                self.mark_dirty(id);
            }
            Err(error) => self.end(id, CloseReason::of_error(&error)),
        }
    }

    // --- accepting ---

    fn may_accept(&self) -> bool {
        self.listeners.is_accepting() && self.common.table.len() < self.common.table.capacity()
    }

    fn accept_all(&mut self, batch: &mut Completions) {
        if !self.may_accept() || self.listeners.is_paused(|| self.clock.now()) {
            return;
        }
        // At most half of what is left: a storm of new connections must not keep existing ones from
        // receiving.
        let room_kept = batch.room() / 2;
        while self.may_accept() && batch.room() > room_kept {
            let Some((listener, accepted)) = self.listeners.accept() else { return };
            if let Err(error) = accepted.and_then(|accepted| self.admit(listener, accepted, batch)) {
                self.common.counters.accept_errors += 1;
                if self.listeners.handle_error(&error, || self.clock.now()) {
                    return;
                }
            }
        }
    }

    fn admit(
        &mut self,
        listener: ListenerId,
        (socket, peer): (OwnedFd, SocketAddr),
        batch: &mut Completions,
    ) -> io::Result<()> {
        let connection = self.insert(socket, State::Open).map_err(|error| match error {
            ConnectError::Io(error) => error,
            ConnectError::TableFull => io::ErrorKind::QuotaExceeded.into(), // `may_accept` says no
        })?;
        self.common.counters.accepts += 1;
        batch.push(Completion::Accepted { connection, listener, peer });
        Ok(())
    }

    // --- receiving ---

    /// Receives one buffer from each ready connection, then another from each that filled it: what
    /// a peer has sent at once should be answered at once, and no connection gets a second buffer
    /// before each has had one.
    fn receive_all(&mut self, batch: &mut Completions) {
        while let Some(id) = self.common.discards.next(|| self.clock.now()) {
            self.leave_line(id);
        }
        for _ in 0..RECEIVES_PER_POLL {
            for _ in 0..self.ready.len() {
                if batch.is_full() {
                    return;
                }
                let Some(id) = self.ready.pop_front() else { return };
                match self.common.table.get_mut(id) {
                    Some(slot) => slot.in_ready = false,
                    None => continue,
                }
                if !self.receive_one(id, batch) {
                    self.mark_ready(id);
                    return; // no buffer: the others would not get one either
                }
            }
        }
    }

    /// Its next discard is paid for.
    fn leave_line(&mut self, id: ConnectionId) {
        if let Some(slot) = self.common.table.get_mut(id) {
            slot.in_ready = false;
            self.mark_ready(id);
        }
    }

    /// Receives one buffer; false when none was free.
    fn receive_one(&mut self, connection: ConnectionId, batch: &mut Completions) -> bool {
        let Some(slot) = self.common.table.get_mut(connection) else { return true };
        if slot.is_left_unread() {
            return true; // stopped since it became ready
        }
        if slot.life.state != State::Open {
            self.discard_one(connection, batch);
            return true;
        }
        let Some(mut buffer) = self.common.pools.take_receive() else {
            self.common.counters.receive_pauses += 1;
            return false;
        };
        match socket::receive(&slot.socket, buffer.spare_mut()) {
            Ok(count @ 1..) => {
                let more = count == buffer.capacity() || slot.peer_done;
                self.common.counters.receives += 1;
                self.common.counters.receive_bytes += count as u64;
                buffer.set_len(count);
                batch.push(Completion::Received { connection, buffer });
                if more {
                    self.mark_ready(connection);
                }
            }
            nothing => {
                self.common.pools.give_back(buffer);
                self.received_nothing(connection, nothing, batch);
            }
        }
        true
    }

    /// Discards what arrives after the owner has finished. Left unread, it would make the kernel
    /// reset the connection in the end, and the peer could lose a last message that it has not
    /// read.
    fn discard_one(&mut self, connection: ConnectionId, batch: &mut Completions) {
        let Some(slot) = self.common.table.get_mut(connection) else { return };
        if !slot.life.state.receives() {
            return; // closed since it became ready
        }
        match socket::discard(&slot.socket) {
            Ok(count @ 1..) => {
                let more = count == socket::DISCARD_MAX || slot.peer_done;
                self.common.counters.receives += 1;
                self.common.counters.receive_bytes += count as u64;
                if !self.common.discards.goes_on(connection, self.clock.now()) {
                    slot.in_ready = true; // in line
                } else if more {
                    self.mark_ready(connection);
                }
            }
            nothing => self.received_nothing(connection, nothing, batch),
        }
    }

    /// Handles a receive that returned the peer's FIN, or an error.
    fn received_nothing(
        &mut self,
        connection: ConnectionId,
        result: io::Result<usize>,
        batch: &mut Completions,
    ) {
        match result.map_err(|error| (error.kind(), error)) {
            Ok(_) => match self.common.peer_finished(connection, batch) {
                PeerFinish::Nothing => {}
                // The next poll sends what the owner queues, then asks for the end.
                PeerFinish::Reported => self.mark_dirty(connection),
                PeerFinish::End(reason) => self.end(connection, reason),
            },
            Err((io::ErrorKind::WouldBlock, _)) => {}
            Err((io::ErrorKind::Interrupted, _)) => self.mark_ready(connection),
            Err((_, error)) => self.end(connection, CloseReason::of_error(&error)),
        }
    }

    // --- sending ---

    fn flush_all(&mut self) {
        while let Some(id) = self.dirty.pop() {
            let Some(slot) = self.common.table.get_mut(id) else { continue };
            slot.in_dirty = false;
            if slot.life.state.sends() && !slot.life.send_waits {
                self.flush_one(id);
            }
        }
    }

    fn flush_one(&mut self, id: ConnectionId) {
        while let Some(slot) = self.common.table.get_mut(id).filter(|slot| !slot.life.queue.is_empty()) {
            let (offered, result) = slot.write_front(&self.common.pieces);
            self.common.counters.sends += 1;
            match result {
                Ok(count) => {
                    self.common.sent(id, count);
                    if count < offered {
                        return self.common.send_must_wait(id, || self.clock.now());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.common.send_must_wait(id, || self.clock.now());
                }
                Err(error) => return self.end(id, CloseReason::of_error(&error)),
            }
        }
        match self.common.queue_emptied(id) {
            Emptied::Nothing => {}
            Emptied::Shut => self.shut(id),
            Emptied::End(reason) => self.end(id, reason),
        }
    }

    /// Sends FIN.
    fn shut(&mut self, id: ConnectionId) {
        let Some(slot) = self.common.table.get(id) else { return };
        match socket::shutdown_write(&slot.socket) {
            Ok(()) => {}
            // A connected socket that is not connected any more has been reset (shutdown(2),
            // ENOTCONN).
            Err(error) if error.kind() == io::ErrorKind::NotConnected => self.end(id, CloseReason::PeerReset),
            Err(error) => self.end(id, CloseReason::of_error(&error)),
        }
    }

    /// Drops what is queued and queues `Closed`; the slot is freed when that is reported.
    fn end(&mut self, id: ConnectionId, reason: CloseReason) {
        if self.common.end(id, reason) {
            self.common.notices.push_back(Notice::Closed(id, reason));
        }
    }

    fn report_notices(&mut self, batch: &mut Completions) {
        while !batch.is_full() {
            let Some(notice) = self.common.next_notice() else { return };
            if let Notice::Closed(id, _) = notice {
                drop(self.common.table.remove(id)); // closes the socket, which leaves the epoll set
            }
            batch.push(notice.into());
        }
    }
}

impl Backend for EpollBackend {
    fn listen(&mut self, config: &ListenerConfig) -> io::Result<(ListenerId, SocketAddr)> {
        let id = self.listeners.next_id()?;
        let (socket, address) = socket::listen(config)?;
        let data = ConnectionId::new(u32::from(id.0), 0).pack(TAG_LISTENER);
        epoll::add(&self.epoll, &socket, EventData::new_u64(data), EventFlags::IN | EventFlags::ET)?;
        self.listeners.add(socket);
        Ok((id, address))
    }

    fn set_accepting(&mut self, accepting: bool) {
        self.listeners.set_accepting(accepting);
    }

    fn close_listeners(&mut self) {
        self.listeners.close();
    }

    fn connect(
        &mut self,
        local: Option<SocketAddr>,
        remote: SocketAddr,
    ) -> Result<ConnectionId, ConnectError> {
        if self.common.table.len() == self.common.table.capacity() {
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
        batch.admit(self.batch_max);
        self.common.note_time(|| self.clock.now());
        self.flush_all();
        self.wait(wait, batch)?;
        self.note_events();
        self.report_notices(batch);
        self.accept_all(batch);
        self.receive_all(batch);
        Ok(())
    }

    fn send_as(
        &mut self,
        connection: ConnectionId,
        buffer: SharedBuffer,
        priority: Priority,
    ) -> Result<(), SendError> {
        let slot = self.common.queue(connection, buffer, priority)?;
        if !std::mem::replace(&mut slot.in_dirty, true) {
            self.dirty.push(connection);
        }
        Ok(())
    }

    fn set_receiving(&mut self, connection: ConnectionId, receiving: bool) {
        let Some(slot) = self.common.table.get_mut(connection) else { return };
        if std::mem::replace(&mut slot.stopped, !receiving) && receiving {
            if slot.life.state == State::PeerFinished {
                return self.mark_dirty(connection); // its end was held back
            }
            self.mark_ready(connection);
        }
    }

    fn drop_unsent(&mut self, connection: ConnectionId, dropped: &mut dyn FnMut(&[u8])) {
        self.common.drop_unsent(connection, 0, dropped);
    }

    fn finish(&mut self, connection: ConnectionId, last: Option<SharedBuffer>) {
        match self.common.finish(connection, last) {
            Finish::Ignored => {}
            Finish::End => self.end(connection, CloseReason::Local),
            Finish::Flush => {
                self.mark_dirty(connection);
                self.mark_ready(connection);
            }
        }
    }

    fn close(&mut self, connection: ConnectionId) {
        self.end(connection, CloseReason::Local);
    }

    fn trim(&mut self) {
        self.common.trim();
        self.ready.trim();
        crate::release_spare(&mut self.dirty);
    }

    fn pools(&mut self) -> &mut BufferPools {
        &mut self.common.pools
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

impl Queues for EpollBackend {
    common_queues!();
}

impl Introspect for EpollBackend {
    fn name(&self) -> &'static str {
        "epoll"
    }

    fn connection_count(&self) -> usize {
        self.common.table.len()
    }

    fn is_full(&self) -> bool {
        self.listeners.is_accepting() && self.common.table.len() == self.common.table.capacity()
    }

    fn index_bound(&self) -> usize {
        self.common.table.capacity()
    }

    fn counters(&self) -> BackendCounters {
        self.common.counters
    }
}
