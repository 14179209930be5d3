//! The completion backend: one io_uring per thread.
//!
//! ```text
//!   lend buffers ─► arm, send, close ─► enter (submit, run deferred work, wait) ─► reap ─► batch
//!                        ▲                                                           │
//!                        └────────── todo list: each connection at most once ◄───────┘
//! ```
//!
//! * Sockets are direct descriptors: they live in the ring's own table, at the index of their
//!   connection, and count against no limit of the process but the table's size (RLIMIT_NOFILE, per
//!   ring).
//! * Every operation carries its connection's id and a tag. A slot is freed when nothing with its
//!   id is in flight any more, and its generation guards against late completions.
//! * Completions that the batch has no room for stay in the completion queue; nothing is reaped
//!   that could not be reported.
//!
//! The files `accept`, `receive`, `send` and `connection` each begin with their own rules; `state`
//! is what they keep beside the connections.

mod accept;
mod connection;
mod lending;
mod probe;
mod receive;
mod send;
mod slot;
mod state;

pub use crate::sys::uring::setup::{RingMode, RingSetup};
pub use probe::{Features, ProbeError, probe, probe_rings};

use crate::fifo::Fifo;
use crate::lifecycle::{Common, Slot as _, State, common_queues};
use crate::sys::uring::ring::Ring;
use crate::sys::uring::{Event, tag};
use crate::{
    Backend, BackendConfig, BackendCounters, BufferPools, CloseReason, Completions, ConnectError,
    ConnectionId, Introspect, ListenerConfig, ListenerId, MonotonicClock, Priority, Queues, SendError,
    SendStoreLevel, SharedBuffer, SharesThread, Timestamp, WaitSlot, Waker,
};
use lending::Lending;
pub(crate) use slot::Slot;
use slot::Todo;
use state::accepts::{ACCEPT_REST, Accepts};
use state::receives::Receives;
use state::sends::Sends;
pub(crate) use state::sends::Sent;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// How long to wait for buffers to return when connections are ready and no buffer is free.
const BUFFER_REST: Duration = Duration::from_millis(1);

/// At most so many submissions are needed by one connection at once: cancellations of what is in
/// flight and a close.
const SUBMISSIONS_PER_CONNECTION: usize = 8;

/// Sizes of one ring. The defaults keep a process with fifty rings modest: 0.4 MiB of locked memory
/// each.
#[derive(Clone, Debug)]
pub struct UringConfig {
    /// At most so many submissions are queued before they are handed over; a power of two.
    pub sq_entries: u32,
    /// At most so many completions are posted before the kernel falls back to a slow list; a power
    /// of two.
    pub cq_entries: u32,
    /// Accepts in flight, over all listeners. They have slots of their own in addition to the
    /// connections.
    pub accepts_in_flight: u16,
    /// At most so many receive buffers are with the kernel; the pool's count, if that is less.
    /// Rounded down to a power of two, at most 32 768. The kernel is lent few until it needs more.
    pub receive_ring_max: u32,
    /// Kernel threads that may run shutdowns, the one operation here that the kernel does not do in
    /// line.
    pub kernel_workers_max: u32,
}

impl Default for UringConfig {
    fn default() -> UringConfig {
        UringConfig {
            sq_entries: 1024,
            cq_entries: 8192,
            accepts_in_flight: UringConfig::ACCEPTS_IN_FLIGHT,
            receive_ring_max: 32_768,
            kernel_workers_max: 4,
        }
    }
}

impl UringConfig {
    /// Accepts in flight of a ring, by default.
    pub const ACCEPTS_IN_FLIGHT: u16 = 128;
}

/// How the thread is woken while it waits.
struct Wake {
    waker: Waker,
    /// The waker's descriptor is being watched.
    watching: bool,
    /// The thread waits for several backends, outside of this one.
    shares_thread: bool,
}

/// The io_uring backend, bound to the thread that made it. See the module's text.
pub struct UringBackend {
    ring: Ring,
    /// The setup that was asked for.
    wanted: RingSetup,
    common: Common<Slot>,
    connections_max: usize,
    batch_max: usize,
    /// Connections with something to submit, each once (`Slot::todo`).
    todo: Fifo<ConnectionId>,
    accepts: Accepts,
    sends: Sends,
    receives: Receives,
    wake: Wake,
    overflowing: bool,
    clock: MonotonicClock,
}

impl UringBackend {
    /// Bytes of user space that a connection takes, including its entries in the lists; those of
    /// sends between submission and confirmation are touched only as far as one turn sends.
    pub const BYTES_PER_CONNECTION: usize =
        Common::<Slot>::BYTES_PER_CONNECTION + 5 * size_of::<ConnectionId>();

    /// Makes the ring, on the thread that will use it, and reserves everything that the two configs
    /// name.
    ///
    /// # Errors
    /// `EPERM` or `ENOSYS` where io_uring cannot be used ([`probe()`] explains), `ENOMEM` when
    /// locked memory is short even for the smallest ring, `EMFILE` when RLIMIT_NOFILE is below
    /// `connections_max`.
    pub fn new(config: &BackendConfig, uring: &UringConfig) -> io::Result<UringBackend> {
        let slots = table_size(config.connections_max, usize::from(uring.accepts_in_flight));
        let wanted = RingSetup::best(uring.sq_entries, uring.cq_entries);
        let buffers = config.pools.receive.count.min(uring.receive_ring_max);
        let ring = Ring::new(wanted, slots as u32, buffers)?;
        let lent_max = ring.receive_capacity();
        // Old kernels have no such bound; theirs is RLIMIT_NPROC.
        let _ = ring.limit_workers(uring.kernel_workers_max);
        Ok(UringBackend {
            ring,
            wanted,
            common: Common::new(config, slots)?,
            connections_max: config.connections_max,
            batch_max: config.batch_max,
            todo: Fifo::with_capacity(slots),
            accepts: Accepts::new(usize::from(uring.accepts_in_flight).max(1)),
            sends: Sends::new(slots),
            receives: Receives::new(slots, lent_max, config.idle_demote),
            wake: Wake { waker: Waker::event_fd()?, watching: false, shares_thread: false },
            overflowing: false,
            clock: MonotonicClock::start(),
        })
    }

    /// The setup that the kernel granted.
    pub fn setup(&self) -> RingSetup {
        self.ring.setup()
    }

    /// The same in words, with what was asked for where the kernel granted less.
    pub fn description(&self) -> String {
        self.setup().describe(self.wanted)
    }

    /// Puts `what` on the list of things to submit for a connection.
    fn mark(&mut self, id: ConnectionId, what: Todo) {
        let Some(slot) = self.common.table.get_mut(id) else { return };
        if slot.life.state.is_over() && what != Todo::CLOSE {
            return;
        }
        if slot.todo.is_empty() {
            self.todo.push_back(id);
        }
        slot.todo.add(what);
    }

    // --- a turn ---

    /// Does everything that comes before entering the kernel. The owner has had what was reaped.
    fn prepare(&mut self) {
        self.sends.hold_ends(false);
        self.sends.begin_round();
        self.replenish();
        self.feed_starved();
        self.resume_discards();
        self.sweep_idle();
        self.look_at_suspects();
        self.drive_accepts();
        self.submit_todo(usize::MAX);
    }

    /// Queues what is to be submitted, for the first `connections_max` in the list. What finds no
    /// room stays for the next turn.
    fn submit_todo(&mut self, connections_max: usize) {
        if !self.wake.watching && self.ring.reserve(1) {
            if let Some(fd) = self.wake.waker.as_fd() {
                self.ring.watch(fd, ConnectionId::new(0, 0));
            }
            self.wake.watching = true;
        }
        for _ in 0..connections_max {
            let Some(id) = self.todo.front().copied() else { return };
            if !self.ring.reserve(SUBMISSIONS_PER_CONNECTION) || self.sends.is_full() {
                return;
            }
            self.todo.pop_front();
            self.submit_for(id);
        }
    }

    fn submit_for(&mut self, id: ConnectionId) {
        let Some(slot) = self.common.table.get_mut(id) else { return };
        let todo = std::mem::take(&mut slot.todo);
        if todo.has(Todo::CLOSE) {
            return self.submit_close(id);
        }
        let waits = slot.in_flight.has(tag::RECEIVE) || slot.in_flight.has(tag::READABLE);
        if todo.has(Todo::RECEIVE) && !waits && slot.life.state.receives() && !slot.is_left_unread() {
            slot.in_flight.add(tag::RECEIVE);
            match slot.life.state {
                State::Open if slot.idling.receives_once() => self.ring.receive_once(id),
                State::Open => self.ring.receive(id),
                _ => self.ring.discard(id),
            }
        } else if todo.has(Todo::WAIT_READABLE) && !waits {
            slot.in_flight.add(tag::READABLE);
            self.ring.wait_readable(id);
        } else if todo.has(Todo::DEMOTE) && slot.in_flight.has(tag::RECEIVE) && slot.ends_receive() {
            self.ring.cancel(id, tag::RECEIVE);
        }
        if todo.has(Todo::WAIT_WRITABLE) && !slot.in_flight.has(tag::WRITABLE) {
            slot.in_flight.add(tag::WRITABLE);
            self.ring.wait_writable(id);
        }
        if todo.has(Todo::LOOK) && !slot.in_flight.has(tag::LOOK) {
            slot.in_flight.add(tag::LOOK);
            self.ring.look(id);
        }
        if todo.has(Todo::SHUTDOWN) {
            slot.in_flight.add(tag::SHUTDOWN);
            self.ring.shutdown_write(id);
        }
        if todo.has(Todo::SEND) {
            self.flush_one(id);
        }
    }

    /// Whether work is left that no event of the kernel will call for, so that waiting would delay
    /// it. The one place that decides so: a list that is worked off in parts belongs here.
    fn has_work_left(&mut self) -> bool {
        !self.common.notices.is_empty()
            || !self.todo.is_empty()
            || !self.wake.watching
            || self.sends.is_awaited()
            || self.accepts_have_work()
            || self.overflowing
            || self.ring.waiting() > 0
    }

    /// How long this turn may wait, at most `wait`.
    fn wait_allowed(&mut self, wait: Duration) -> Duration {
        if self.has_work_left() {
            return Duration::ZERO;
        }
        debug_assert!(self.nothing_may_leave(), "the ring is about to wait over something that may leave");
        let wait = self.receives.suspects.allow(self.clock.now(), self.common.discards.allow(wait));
        match () {
            () if !self.receives.starved.line.is_empty() => wait.min(BUFFER_REST),
            () if self.accepts.is_resting() => wait.min(ACCEPT_REST),
            () => wait,
        }
    }

    /// Whether no connection has bytes or a FIN that its socket could take: each has nothing
    /// queued, waits for its socket, or has offered all that is queued in this round, with nothing
    /// to follow. Looks at every slot, so it is for assertions only.
    fn nothing_may_leave(&self) -> bool {
        let slots = (0..self.common.table.high_water()).filter_map(|index| self.common.table.id_at(index));
        let mut slots = slots.filter_map(|id| self.common.table.get(id));
        slots.all(|slot| {
            let (life, queued) = (&slot.life, slot.life.queue.bytes());
            let has_left = match life.state {
                State::Open => slot.offered as usize == queued && (queued == 0 || !life.is_waiting()),
                State::Finishing => false, // FIN follows
                State::PeerFinished => queued == 0 && slot.is_stopped(), // else the end follows
                _ => true,
            };
            has_left || life.send_waits
        })
    }

    fn enter(&mut self, wait: Duration) -> io::Result<()> {
        if std::mem::take(&mut self.receives.relent) {
            self.ring.publish();
        }
        match wait.is_zero() {
            // The turns of a shared thread have many causes, and most of them are not the kernel's.
            true if self.wake.shares_thread && !self.ring.has_errand() => {
                self.confirm_sends(); // what was consumed to make room for more may be certain
                return Ok(());
            }
            true => self.ring.enter(0, None)?,
            false => self.ring.enter(1, Some(wait))?,
        }
        self.common.counters.polls += 1;
        self.overflowing = self.ring.is_overflowing();
        self.common.counters.overflows += u64::from(self.overflowing);
        self.confirm_sends();
        Ok(())
    }

    /// Receives from connections that have just become readable: their bytes are there, and the
    /// owner need not turn in between.
    fn receive_at_once(&mut self, batch: &mut Completions) -> io::Result<()> {
        if !std::mem::take(&mut self.receives.readable) {
            return Ok(());
        }
        self.report_notices(batch); // bytes may not overtake their Connected
        if !batch.is_full() {
            // What ends comes back into the list, for the next poll.
            self.submit_todo(self.todo.len());
            self.enter(Duration::ZERO)?;
            self.reap(batch);
        }
        Ok(())
    }

    fn reap(&mut self, batch: &mut Completions) {
        self.sends.hold_ends(true);
        while !batch.is_full() {
            let Some(event) = self.ring.reap() else { return };
            self.common.counters.events += 1;
            self.note(event, batch);
        }
    }

    fn note(&mut self, event: Event, batch: &mut Completions) {
        match event.tag {
            tag::RECEIVE => self.note_received(event, batch),
            tag::SEND => self.note_send(event),
            tag::WRITABLE => self.note_writable(event),
            tag::READABLE => self.note_readable(event),
            tag::ACCEPT => self.note_accept(event, batch),
            tag::CONNECT => self.note_connect(event),
            tag::CLOSE => self.note_close(event),
            tag::SHUTDOWN => self.note_shutdown(event),
            tag::LOOK => self.note_look(event, batch),
            // Having ended the wait is all else that the waker does.
            tag::WAKER => self.wake.watching = event.more,
            _ => {} // a cancellation that came too late
        }
    }
}

/// Slots of the table: the connections and the accepts in flight, as far as RLIMIT_NOFILE allows.
fn table_size(connections_max: usize, accepts: usize) -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limit = limit.map_or(usize::MAX, |limit| limit as usize);
    (connections_max + accepts).min(limit).max(connections_max)
}

impl Backend for UringBackend {
    fn listen(&mut self, config: &ListenerConfig) -> io::Result<(ListenerId, SocketAddr)> {
        self.add_listener(config)
    }

    fn set_accepting(&mut self, accepting: bool) {
        self.accepts.set_accepting(accepting);
    }

    fn close_listeners(&mut self) {
        self.accepts.begin_closing();
    }

    fn connect(
        &mut self,
        local: Option<SocketAddr>,
        remote: SocketAddr,
    ) -> Result<ConnectionId, ConnectError> {
        self.begin_connect(local, remote)
    }

    fn poll(&mut self, wait: Duration, batch: &mut Completions) -> io::Result<()> {
        batch.admit(self.batch_max);
        self.prepare();
        let wait = if batch.is_full() { Duration::ZERO } else { self.wait_allowed(wait) };
        self.common.end_sends();
        self.enter(wait)?;
        self.common.note_time(|| self.clock.now());
        self.report_notices(batch);
        self.deliver_accepted(batch);
        self.reap(batch);
        self.receive_at_once(batch)?;
        self.confirm_sends();
        self.report_notices(batch);
        Ok(())
    }

    fn send_as(
        &mut self,
        connection: ConnectionId,
        buffer: SharedBuffer,
        priority: Priority,
    ) -> Result<(), SendError> {
        let slot = self.common.queue(connection, buffer, priority)?;
        if slot.todo.is_empty() {
            self.todo.push_back(connection);
        }
        slot.todo.add(Todo::SEND);
        Ok(())
    }

    fn set_receiving(&mut self, connection: ConnectionId, receiving: bool) {
        self.change_receiving(connection, receiving);
    }

    fn drop_unsent(&mut self, connection: ConnectionId, dropped: &mut dyn FnMut(&[u8])) {
        let offered = self.common.table.get(connection).map_or(0, |slot| slot.offered as usize);
        self.common.drop_unsent(connection, offered, dropped);
    }

    fn finish(&mut self, connection: ConnectionId, last: Option<SharedBuffer>) {
        self.begin_finish(connection, last);
    }

    fn close(&mut self, connection: ConnectionId) {
        self.end(connection, CloseReason::Local);
    }

    fn trim(&mut self) {
        if self.live_count() > 0 {
            return; // the kernel may be writing to what it was lent
        }
        self.todo.trim();
        self.receives.starved.line.trim();
        self.sends.trim();
        self.receives.suspects.trim();
        self.ring.trim();
        self.receives.lending = Lending::new(self.ring.receive_capacity());
        self.common.trim();
        self.renew_table();
    }

    fn pools(&mut self) -> &mut BufferPools {
        self.common.pools.set_receive_lent(self.ring.lent_count() as u32);
        &mut self.common.pools
    }

    fn waker(&self) -> Waker {
        self.wake.waker.clone()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

impl Queues for UringBackend {
    fn flight_store(&self) -> SendStoreLevel {
        self.sends.level()
    }

    common_queues!();
}

impl Introspect for UringBackend {
    fn name(&self) -> &'static str {
        "io_uring"
    }

    fn connection_count(&self) -> usize {
        self.live_count()
    }

    fn is_full(&self) -> bool {
        self.accepts.accepting && self.live_count() >= self.connections_max
    }

    fn index_bound(&self) -> usize {
        self.common.table.capacity()
    }

    fn counters(&self) -> BackendCounters {
        self.common.counters
    }
}

impl SharesThread for UringBackend {
    fn join_wait(&mut self, slot: WaitSlot) -> io::Result<()> {
        self.ring.register_eventfd(slot.as_fd())?;
        self.wake.waker = Waker::slot(slot);
        self.wake.watching = true; // by the ring group
        self.wake.shares_thread = true;
        Ok(())
    }

    fn flush_before_wait(&mut self, wait: Duration) -> io::Result<Duration> {
        self.prepare();
        self.enter(Duration::ZERO)?;
        Ok(self.wait_allowed(wait))
    }

    fn watch(&mut self, watch: bool) {
        self.ring.signal(watch);
    }

    fn is_ready(&mut self) -> bool {
        self.ring.waiting() > 0 || self.ring.has_errand()
    }
}
