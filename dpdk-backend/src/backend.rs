//! The poll-mode backend: [`netpoll::Backend`] over a stack and a device.
//!
//! ```text
//!   poll: queued frames leave ─► a burst is received ─► its events are the batch
//!         no event? idle as the clock decides, until there is one or the wait is over
//! ```
//!
//! What a burst requires (acknowledgements, windows) leaves at the start of the next poll, together
//! with the owner's answers: an answer carries the acknowledgement. The clock is a parameter, so
//! the same loop runs in virtual time.

pub use crate::clock::{Clock, SystemClock};
use crate::device::{BURST, Device, RECEIVE_RESERVE, Received};
use crate::iface::InterfaceConfig;
use crate::stack::{ListenLimits, Stack, StackConfig};
use crate::tcp::TcpConfig;
use crate::waiting::WaitingList;
use crate::wire::ethernet;
use netpoll::{
    Backend, BackendConfig, BackendCounters, Buffer, BufferPools, Completions, ConnectError, ConnectionId,
    Introspect, ListenerConfig, ListenerId, PoolId, PoolSet, PoolSize, Priority, Queues, SendError,
    SendStoreLevel, SharedBuffer, Timestamp, Waiting, Waker, release_spare,
};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Blocks of each size that are added for bytes in flight: at least this many, or an eighth. A
/// kernel copies what it sends; here it stays in the owner's blocks until it is acknowledged.
const FLIGHT_BLOCKS_MIN: u32 = 16;
/// The part of all blocks above which a connection is slow, whatever its flight limit: one over
/// this number. Small pools would otherwise be held by one connection that does not read.
const SLOW_PART_OF_BLOCKS: usize = 16;
/// Bytes that a connection may keep in any case without being slow.
const SLOW_BYTES_MIN: usize = 16 << 10;
/// The longest time that timers are held back while frames keep arriving.
const BEHIND_MAX: Duration = Duration::from_millis(50);
/// The longest idle period when the time of the next frame is not known.
const IDLE_MAX: Duration = Duration::from_millis(1);

/// What a backend needs beyond netpoll's own configuration.
#[derive(Clone, Debug)]
pub struct PollConfig {
    /// Sizes, as for every backend. Receive buffers smaller than a frame are enlarged to one frame;
    /// the announced MSS still fits the configured size.
    pub backend: BackendConfig,
    /// The host on its link.
    pub interface: InterfaceConfig,
    /// The engine. Its sizes are taken from `backend`.
    pub tcp: TcpConfig,
    /// Two numbers from the system's random source.
    pub secret: [u64; 2],
}

impl PollConfig {
    /// The engine's defaults for the sizes of `backend`.
    pub fn new(backend: &BackendConfig, interface: InterfaceConfig, secret: [u64; 2]) -> PollConfig {
        let tcp = PollConfig::engine(backend);
        PollConfig { backend: backend.clone(), interface, tcp, secret }
    }

    /// The engine's defaults for these sizes. [`TcpConfig::memory`] lists what its tables take.
    pub fn engine(backend: &BackendConfig) -> TcpConfig {
        let mut tcp = TcpConfig::new(backend.connections_max);
        tcp.stores.pieces_max = backend.send_pieces_shared;
        tcp.connection.send_queue_bytes_max = backend.send_queue_bytes_max;
        tcp.connection.copy_break = backend.copy_break;
        tcp.tables.unread_max = (backend.pools.receive.count + RECEIVE_RESERVE) as usize;
        tcp.connection.mss_max = backend.pools.receive.size.min(u32::from(u16::MAX)) as u16;
        tcp
    }

    /// Bytes that a connection may keep without being slow, whatever its listener's limit.
    fn kept_bytes_max(&self) -> usize {
        let blocks: usize = self.backend.pools.blocks.iter().map(|pool| pool.bytes()).sum();
        (blocks / SLOW_PART_OF_BLOCKS).max(SLOW_BYTES_MIN).min(self.tcp.connection.flight_bytes_max as usize)
    }

    fn stack(&self) -> StackConfig {
        let mut pools = self.backend.pools.clone();
        let frame_size = (u32::from(self.interface.mtu) + ethernet::HEADER_SIZE as u32).next_multiple_of(64);
        pools.receive = PoolSize {
            size: pools.receive.size.max(frame_size),
            count: pools.receive.count + RECEIVE_RESERVE,
        };
        for pool in &mut pools.blocks {
            pool.count += (pool.count / 8).max(FLIGHT_BLOCKS_MIN);
        }
        StackConfig {
            interface: self.interface.clone(),
            tcp: self.tcp.clone(),
            pools,
            receive_reserve: RECEIVE_RESERVE,
        }
    }
}

/// The sizes that a backend is made with.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// Limits of listeners that set none.
    limits: ListenLimits,
    connections_max: usize,
    /// Completions of one poll at most.
    batch_max: usize,
}

/// What a backend itself counts.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    polls: u64,
    /// Payloads without a buffer at the last poll.
    pauses: u64,
}

/// The poll-mode backend.
#[derive(Debug)]
pub struct PollBackend<D, C> {
    stack: Stack,
    device: D,
    clock: C,
    waker: Waker,
    frames: Vec<Received>,
    sizes: Sizes,
    waiting: WaitingList,
    accepting: bool,
    counts: Counts,
    received_until: ReceivedUntil,
    work: Work,
    /// The time of the last poll. Sends use it: their bytes leave in the next poll, and reading the
    /// clock for each of many small messages is a measurable part of their cost
    /// (docs/decisions/0015).
    recent: Timestamp,
}

/// The time up to which all received frames have been handled. Timers use it: a thread that had no
/// processor for a while finds timers due and, in its queue, the acknowledgements that stop them.
#[derive(Clone, Copy, Debug)]
struct ReceivedUntil {
    at: Timestamp,
    /// The start of the period in which the queue was read without becoming empty.
    behind_since: Option<Timestamp>,
}

impl ReceivedUntil {
    fn note(&mut self, now: Timestamp, is_empty: bool) {
        let since = *self.behind_since.get_or_insert(now);
        if is_empty || now.since(since) > BEHIND_MAX {
            *self = ReceivedUntil { at: now, behind_since: None };
        }
    }
}

/// The time that the backend was busy, by the clock. A polling thread uses its processor whether or
/// not there is work, so processor time says nothing. Time that another thread had the processor is
/// included.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    /// Rounds that moved a frame or reported an event, and the owner's work between two polls.
    busy: Duration,
    /// When the last poll ended.
    handed_over: Option<Timestamp>,
}

impl Work {
    /// Ends the owner's period: a poll begins.
    fn back(&mut self, now: Timestamp) {
        if let Some(since) = self.handed_over.take() {
            self.busy += now.since(since);
        }
    }
}

impl<D: Device, C: Clock> PollBackend<D, C> {
    /// Reserves everything that `config` names.
    ///
    /// # Errors
    /// Those of [`Stack::new`].
    pub fn new(config: &PollConfig, mut device: D, clock: C) -> io::Result<PollBackend<D, C>> {
        let memory = device.receive_memory();
        Ok(PollBackend {
            stack: Stack::over(&config.stack(), memory, config.secret, clock.now())?,
            device,
            waker: Waker::flag(),
            frames: Vec::with_capacity(BURST),
            sizes: Sizes {
                limits: ListenLimits::of(&config.tcp),
                connections_max: config.backend.connections_max,
                batch_max: config.backend.batch_max,
            },
            waiting: WaitingList::new(config.backend.connections_max, config.kept_bytes_max()),
            accepting: true,
            counts: Counts::default(),
            received_until: ReceivedUntil { at: clock.now(), behind_since: None },
            work: Work::default(),
            recent: clock.now(),
            clock,
        })
    }

    /// The stack.
    pub fn stack(&mut self) -> &mut Stack {
        &mut self.stack
    }

    /// The device.
    pub fn device(&mut self) -> &mut D {
        &mut self.device
    }

    /// The time that the backend was busy so far, by the clock: rounds that moved a frame or
    /// reported an event, and the owner's work between two polls. Processor time says nothing about
    /// that in poll mode.
    pub fn busy(&self) -> Duration {
        self.work.busy
    }

    /// Polls until no closed connection is left to complete, for at most `at_most`. An owner that
    /// is about to end calls it last, as a kernel would continue after a process. Events meanwhile
    /// are discarded.
    ///
    /// # Errors
    /// Those of [`Backend::poll`].
    pub fn linger(&mut self, at_most: Duration) -> io::Result<()> {
        let start = self.clock.now();
        let mut batch = Completions::with_capacity(self.sizes.batch_max);
        while (self.stack.levels()[0] > 0 || self.stack.has_output())
            && self.clock.now().since(start) < at_most
        {
            self.poll(IDLE_MAX, &mut batch)?;
            batch.drain().for_each(drop);
        }
        Ok(())
    }

    /// Frames received from the device and given to it so far.
    pub fn frame_count(&self) -> u64 {
        let counters = self.stack.counters();
        counters.frames_received + counters.frames_sent
    }

    /// Runs one round at `now`, without waiting.
    fn turn(&mut self, now: Timestamp, batch: &mut Completions) {
        self.counts.polls += 1;
        self.stack.poll_received_until(now, self.received_until.at, &mut self.device);
        self.report(batch);
        // One burst, so that it is answered before the next is received: peers that wait for an
        // answer send nothing meanwhile.
        if !batch.is_full() && self.stack.has_room() {
            self.device.receive_burst(now, self.stack.pools(), &mut self.frames);
            self.received_until.note(now, self.frames.len() < BURST);
            self.stack.handle_burst(now, &mut self.frames);
            self.report(batch);
        } else {
            self.received_until.note(now, false);
        }
    }

    fn report(&mut self, batch: &mut Completions) {
        while !batch.is_full() {
            let Some(event) = self.stack.next_event() else { return };
            batch.push(event);
        }
    }

    /// The time in which nothing can happen without a new frame.
    fn quiet_time(&self, now: Timestamp) -> Duration {
        let arrival = self.device.next_arrival().map(|at| at.since(now));
        let timer = self.stack.next_timer(now);
        [arrival, timer].into_iter().flatten().fold(IDLE_MAX, Duration::min)
    }
}

impl<D: Device, C: Clock> Backend for PollBackend<D, C> {
    fn listen(&mut self, config: &ListenerConfig) -> io::Result<(ListenerId, SocketAddr)> {
        let small = |size: usize| u32::try_from(size).unwrap_or(u32::MAX).max(2048);
        let limits = ListenLimits {
            user_timeout_ms: config.user_timeout.map_or(0, |limit| limit.as_millis() as u32),
            flight_bytes_max: config.send_buffer.map_or(self.sizes.limits.flight_bytes_max, small),
            window_max: config
                .receive_buffer
                .map_or(self.sizes.limits.window_max, small)
                .min(self.sizes.limits.window_max),
        };
        self.waiting.flight_bytes_max = self.waiting.flight_bytes_max.min(limits.flight_bytes_max as usize);
        let (id, port) = self.stack.listen(config.address, config.backlog as usize, limits)?;
        Ok((ListenerId(id), SocketAddr::new(config.address.ip(), port)))
    }

    fn set_accepting(&mut self, accepting: bool) {
        self.accepting = accepting;
        self.stack.set_accepting(accepting);
    }

    fn close_listeners(&mut self) {
        self.accepting = false;
        self.stack.close_listeners();
    }

    fn connect(
        &mut self,
        local: Option<SocketAddr>,
        remote: SocketAddr,
    ) -> Result<ConnectionId, ConnectError> {
        let now = self.clock.now();
        self.stack.connect(now, local, remote).map_err(|error| match error {
            None => ConnectError::TableFull,
            Some(error) => ConnectError::Io(error),
        })
    }

    fn poll(&mut self, wait: Duration, batch: &mut Completions) -> io::Result<()> {
        batch.admit(self.sizes.batch_max);
        let (before, start) = (batch.len(), self.clock.now());
        self.work.back(start);
        let mut round = start;
        loop {
            let frames = self.frame_count();
            self.turn(round, batch);
            self.waiting.update(&self.stack);
            let pauses = self.stack.counters().receive_pauses;
            if std::mem::replace(&mut self.counts.pauses, pauses) < pauses {
                self.stack.pools().receive_refused();
            }
            let has_work = self.stack.has_output() || self.stack.has_events();
            let now = self.clock.now();
            let moved = batch.len() > before;
            if moved || self.frame_count() > frames {
                self.work.busy += now.since(round);
            }
            self.work.handed_over = Some(now);
            self.recent = now;
            if moved || self.waker.wait(Duration::ZERO) || batch.is_full() {
                self.clock.busy();
                return Ok(());
            }
            let left = wait.saturating_sub(now.since(start));
            if left.is_zero() {
                return Ok(());
            }
            if !has_work {
                self.clock.idle(left.min(self.quiet_time(now)), &self.waker);
            }
            round = self.clock.now();
        }
    }

    fn send_as(
        &mut self,
        connection: ConnectionId,
        buffer: SharedBuffer,
        priority: Priority,
    ) -> Result<(), SendError> {
        self.stack.send_as(self.recent, connection, buffer, priority)?;
        if self.stack.may_be_slow(connection, self.waiting.flight_bytes_max) {
            self.waiting.note(connection);
        }
        Ok(())
    }

    fn unread(&mut self, connection: ConnectionId, buffer: Buffer, size: usize) -> Result<(), Buffer> {
        self.stack.unread(self.recent, connection, buffer, size)
    }

    fn has_unread(&self, connection: ConnectionId) -> bool {
        self.stack.has_unread(connection)
    }

    fn set_receiving(&mut self, connection: ConnectionId, receiving: bool) {
        self.stack.set_receiving(connection, receiving);
    }

    fn drop_unsent(&mut self, connection: ConnectionId, dropped: &mut dyn FnMut(&[u8])) {
        self.stack.drop_unsent(connection, dropped);
    }

    fn finish(&mut self, connection: ConnectionId, last: Option<SharedBuffer>) {
        let now = self.clock.now();
        self.stack.finish(now, connection, last);
    }

    fn close(&mut self, connection: ConnectionId) {
        let now = self.clock.now();
        self.stack.close(now, connection);
        self.waiting.remove(connection);
    }

    fn trim(&mut self) {
        release_spare(&mut self.waiting.fresh);
        release_spare(&mut self.waiting.slow);
        self.stack.trim();
    }

    fn pools(&mut self) -> &mut BufferPools {
        self.stack.pools()
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

impl<D: Device, C: Clock> Queues for PollBackend<D, C> {
    fn queued_bytes(&self, connection: ConnectionId) -> usize {
        self.stack.queued_bytes(connection)
    }

    fn queued_blocks(&self, connection: ConnectionId, pools: PoolSet) -> usize {
        self.stack.queued_blocks(connection, pools)
    }

    fn queued_blocks_of(&self, connection: ConnectionId, pool: PoolId) -> usize {
        self.stack.queued_blocks_of(connection, pool)
    }

    fn queued_pieces(&self, connection: ConnectionId) -> usize {
        self.stack.queued_pieces(connection)
    }

    fn send_store(&self) -> SendStoreLevel {
        self.stack.send_store()
    }

    fn flight_store(&self) -> SendStoreLevel {
        self.stack.flight_store()
    }

    fn waiting(&self) -> &[Waiting] {
        &self.waiting.slow
    }

    fn stalled_for(&self, connection: ConnectionId, now: Timestamp) -> Duration {
        let waiting = self.is_waiting(connection).then(|| self.stack.waiting(connection)).flatten();
        waiting.map_or(Duration::ZERO, |waiting| waiting.stalled_for(now))
    }

    fn is_waiting(&self, connection: ConnectionId) -> bool {
        self.waiting.is_slow(connection)
    }
}

impl<D: Device, C: Clock> Introspect for PollBackend<D, C> {
    fn name(&self) -> &'static str {
        "dpdk"
    }

    fn connection_count(&self) -> usize {
        self.stack.connection_count()
    }

    fn is_full(&self) -> bool {
        self.accepting && self.stack.connection_count() >= self.sizes.connections_max
    }

    fn index_bound(&self) -> usize {
        self.sizes.connections_max
    }

    fn details(&mut self, tell: &mut dyn FnMut(&'static str, u64)) {
        self.stack.counters().iter().for_each(|(name, count)| tell(name, count));
        tell("busy_nanos", self.work.busy.as_nanos() as u64);
        self.device.counters(tell);
    }

    fn counters(&self) -> BackendCounters {
        let counters = self.stack.counters();
        BackendCounters {
            polls: self.counts.polls,
            events: counters.frames_received,
            accepts: counters.connections_accepted,
            accept_errors: counters.flow_table_full,
            receives: counters.receives,
            receive_bytes: counters.bytes_received,
            receive_pauses: counters.receive_pauses,
            sends: counters.tcp_segments_sent,
            send_bytes: counters.bytes_sent,
            send_waits: counters.send_waits,
            send_copies: counters.send_copies,
            ..BackendCounters::default()
        }
    }
}
