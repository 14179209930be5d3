//! One generator thread: its connections, its share of every flow, its backend.
//!
//! ```text
//!   turn:  open connections that are due ─► send operations that are due ─► heartbeats ─► poll ─► handle what came
//! ```
//!
//! A worker never waits for another. The coordinator tells all of them when traffic starts and when to finish
//! ([`Control`]); they tell it how far they are ([`Gauges`]). A message is encoded once, copied into a pooled block,
//! patched in place and handed to the backend; nothing is allocated for it.

pub(crate) mod control;
mod fleet;
mod flow;
mod heartbeat;
mod receive;
mod recorder;
mod result;
mod traffic;

pub(crate) use result::{FlowResult, WorkerResult};

use crate::client::template::Template;
use crate::client::{Protocol, Stage};
use crate::histogram::fresh;
use crate::http::Pusher;
use crate::plan::{Duty, Path, Plan, Role};
use crate::schedule::Schedule;
use control::{Control, Gauges, Interval, Window};
use fleet::Fleet;
use flow::Flow;
use hdrhistogram::Histogram;
use netpoll::{
    Backend, BackendConfig, Buffer, Completions, MonotonicClock, PoolSize, PoolsConfig, SendError, Timestamp,
};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::time::Duration;

/// The longest sleep of a turn, so that the coordinator's word is heard.
const WAIT_MAX: Duration = Duration::from_millis(10);
/// How often the thread's processor time is read.
const CPU_EVERY: u64 = 20_000_000;
/// Connections opened in one turn at most.
const OPEN_BATCH: usize = 64;

/// What a worker is given.
#[derive(Clone)]
pub(crate) struct Assignment {
    pub(crate) plan: Arc<Plan>,
    pub(crate) duty: Duty,
    pub(crate) control: Arc<Control>,
    pub(crate) gauges: Arc<Gauges>,
    pub(crate) clock: MonotonicClock,
    /// One a flow.
    pub(crate) intervals: Vec<mpsc::Sender<Interval>>,
}

/// What is neither about connections nor about flows.
#[derive(Debug)]
struct Odds {
    beats_sent: u64,
    beats_answered: u64,
    /// Answers within the window.
    beats_measured: u64,
    /// Beats whose connection closed before the answer.
    beats_void: u64,
    beat_latency: Histogram<u64>,
    notices: BTreeMap<String, u64>,
    violations: BTreeMap<String, u64>,
    /// Sends put off because the pools were empty.
    stalls: u64,
    cpu_read_at: u64,
    cpu_before: Option<Share>,
    cpu_after: Option<Share>,
    network_error: Option<String>,
}

/// Connections that come and go.
#[derive(Debug)]
struct Churn {
    schedule: Option<Schedule>,
    operations: u64,
    completed: u64,
    /// Completed within the window.
    measured: u64,
    /// The connection whose turn it was had not come back.
    missed: u64,
    latency: Histogram<u64>,
}

/// See the module's text.
pub(crate) struct Worker<B, P> {
    backend: B,
    protocol: P,
    to: Assignment,
    fleet: Fleet,
    flows: Vec<Flow>,
    pushers: Vec<Pusher>,
    beat: Option<Template>,
    churn: Churn,
    window: Option<Window>,
    batch: Completions,
    /// Slow readers: what they got and do not give back.
    held: Vec<Buffer>,
    /// Bytes to be copied into a block and sent.
    scratch: Vec<u8>,
    odds: Odds,
}

/// Sizes of a worker's backend.
pub(crate) fn backend_config(plan: &Plan, duty: &Duty) -> BackendConfig {
    let frame = |payload: usize| payload + 400;
    let depth = |flow: &crate::plan::FlowPlan| match flow.pace {
        crate::plan::Pace::Closed { depth } => usize::from(depth),
        crate::plan::Pace::Open { .. } => 1,
    };
    let wave = plan.flows.iter().map(|flow| depth(flow) * frame(flow.payload_size)).max().unwrap_or(256);
    let receive_size = (2 * wave).next_power_of_two().clamp(4096, 64 << 10) as u32;
    let receive = match duty.role {
        Role::Slow => PoolSize { size: 4096, count: 64 },
        _ => PoolSize { size: receive_size, count: 1024 },
    };
    let mut blocks = vec![
        PoolSize { size: 256, count: 8192 },
        PoolSize { size: 1024, count: 2048 },
        PoolSize { size: 4096, count: 1024 },
        PoolSize { size: 16 << 10, count: 256 },
    ];
    if wave > 16 << 10 {
        blocks.push(PoolSize { size: wave.next_power_of_two() as u32, count: 256 });
    }
    blocks.push(PoolSize { size: (wave.next_power_of_two() * 2).max(1 << 20) as u32, count: 16 });
    let others = plan.machinery.http_connections as usize;
    BackendConfig {
        connections_max: duty.count() as usize + others + 1,
        batch_max: 512,
        pools: PoolsConfig { receive, blocks, huge_pages: false },
        send_pieces_max: 64 << 10,
        send_queue_bytes_max: 1 << 20,
        copy_break: 512,
        idle_demote: None,
    }
}

impl<B: Backend, P: Protocol> Worker<B, P> {
    /// A worker over `backend`, which was made by [`backend_config`].
    pub(crate) fn new(backend: B, protocol: P, to: Assignment) -> Worker<B, P> {
        let plan = &to.plan;
        let make = |(index, intervals): (usize, &mpsc::Sender<Interval>)| {
            Flow::new(index, plan, &to.duty, protocol.template(&plan.flows[index]), intervals.clone())
        };
        let flows: Vec<Flow> = to.intervals.iter().enumerate().map(make).collect();
        let pushes =
            flows.iter().any(|flow| matches!(flow.plan.path, Path::Http(_)) && !flow.senders.is_empty());
        let pushers = if pushes { plan.machinery.http_connections as usize } else { 0 };
        let tick = plan.heartbeat.map_or(Duration::from_millis(10), |every| every / 1000);
        let tick = tick.clamp(Duration::from_millis(2), Duration::from_millis(100));
        let heartbeat = plan.heartbeat.and_then(|_| protocol.heartbeat());
        Worker {
            fleet: Fleet::new(to.duty, plan.connect, plan.machinery.http_connections as usize + 1, tick),
            flows,
            pushers: (0..pushers).map(|_| Pusher::new(plan.machinery.http_pipeline)).collect(),
            beat: heartbeat,
            churn: Churn {
                schedule: None,
                operations: 0,
                completed: 0,
                measured: 0,
                missed: 0,
                latency: fresh(3),
            },
            window: None,
            batch: Completions::with_capacity(512),
            held: Vec::new(),
            scratch: Vec::with_capacity(32 << 10),
            odds: Odds::new(),
            backend,
            protocol,
            to,
        }
    }

    /// Works until the coordinator says to finish.
    ///
    /// # Errors
    /// What makes the backend unusable.
    pub(crate) fn run(mut self) -> io::Result<WorkerResult> {
        // Sleeps end when they should, not up to 50 µs later (prctl(2), PR_SET_TIMERSLACK).
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        self.fleet.begin(self.now());
        while !self.to.control.finish.load(Relaxed) {
            self.turn()?;
        }
        self.flows.iter_mut().for_each(|flow| flow.recorder.flush());
        self.close_everything()?;
        Ok(self.into_result())
    }

    fn now(&self) -> u64 {
        self.to.clock.now().as_nanos()
    }

    fn turn(&mut self) -> io::Result<()> {
        let now = self.now();
        self.open_pushers();
        self.open_connections(now);
        self.follow_phase(now);
        self.churn_connections(now);
        let behind = self.send_operations();
        self.expire_timers(now);
        let wait = if behind { Duration::ZERO } else { self.time_to_wait() };
        let mut batch = std::mem::replace(&mut self.batch, Completions::with_capacity(0));
        self.backend.poll(wait, &mut batch)?;
        for completion in batch.drain() {
            self.handle(completion);
        }
        self.batch = batch;
        self.publish();
        Ok(())
    }

    fn time_to_wait(&self) -> Duration {
        let now = self.now();
        let within = self.fleet.timers.next_expiry(Timestamp::from_nanos(now), WAIT_MAX);
        let flows = self.flows.iter().filter_map(Flow::next_due);
        let end = self.window.map_or(0, |window| window.end);
        let due = flows.filter(|due| *due < end).chain(self.fleet.next_due()).chain(self.next_churn()).min();
        due.map_or(within, |due| within.min(Duration::from_nanos(due.saturating_sub(now))))
    }

    // --- phases --------------------------------------------------------------------------------------------------

    fn follow_phase(&mut self, now: u64) {
        let first = self.window.is_none();
        self.window = self.to.control.window();
        let Some(window) = self.window else { return };
        if first {
            self.start_traffic(&window);
        }
        if now >= window.start && self.odds.cpu_before.is_none() {
            self.odds.cpu_before = Some(Share::read());
        }
        if now >= window.end && self.odds.cpu_after.is_none() {
            self.odds.cpu_after = Some(Share::read());
        }
        self.flows.iter_mut().for_each(|flow| flow.recorder.tick(now, &window));
    }

    fn start_traffic(&mut self, window: &Window) {
        for flow in &mut self.flows {
            for (local, connection) in self.fleet.connections.iter().enumerate() {
                if connection.link.stage == Stage::Ready && self.to.duty.role == Role::Measured {
                    flow.checker.admit(local as u32);
                }
            }
            flow.begin(window.traffic_start);
        }
        if let (Role::Churn, Some(churn)) = (self.to.duty.role, self.to.plan.churn) {
            self.churn.schedule =
                Some(Schedule::new(window.traffic_start, churn.rate, u64::from(self.to.duty.step)));
        }
    }

    fn publish(&mut self) {
        let gauges = &*self.to.gauges;
        let sum = |of: fn(&Flow) -> u64| self.flows.iter().map(of).sum::<u64>();
        gauges.ready.store(u64::from(self.fleet.ready_count), Relaxed);
        gauges.failed.store(self.fleet.stats.given_up, Relaxed);
        gauges.sent.store(sum(|flow| flow.recorder.sent), Relaxed);
        gauges.owed.store(sum(|flow| flow.recorder.owed.saturating_sub(flow.excused)), Relaxed);
        gauges.delivered.store(sum(|flow| flow.recorder.delivered), Relaxed);
        let pending = self.pushers.iter().map(|pusher| pusher.pending.len() as u64).sum::<u64>();
        let opening = u64::from(self.fleet.is_opening() || self.pushers.iter().any(|pusher| !pusher.ready));
        let now = self.now();
        let ended = self.window.is_some_and(|window| now >= window.end);
        let beats = self.odds.beats_sent.saturating_sub(self.odds.beats_answered + self.odds.beats_void);
        gauges.unanswered.store(pending + opening + if ended { beats } else { 0 }, Relaxed);
        if now >= self.odds.cpu_read_at + CPU_EVERY {
            self.odds.cpu_read_at = now;
            self.to.gauges.cpu.store(thread_cpu(), Relaxed);
        }
    }

    // --- opening and closing -------------------------------------------------------------------------------------

    fn source(&self, index: u32) -> Option<SocketAddr> {
        let sources = &self.to.plan.endpoints.sources;
        let address = sources.get(index as usize % sources.len().max(1))?;
        Some(SocketAddr::new(*address, 0))
    }

    fn open_connections(&mut self, now: u64) {
        for _ in 0..OPEN_BATCH {
            let Some((local, intended)) = self.fleet.take_due(now) else { return };
            let source = self.source(self.to.duty.global(local));
            match self.backend.connect(source, self.to.plan.endpoints.server) {
                Ok(id) => self.fleet.opening(local, id, intended, now),
                Err(netpoll::ConnectError::TableFull) => self.fleet.reopen(local, intended),
                Err(netpoll::ConnectError::Io(error)) => {
                    self.fleet.connections[local as usize].begun = intended;
                    self.fleet.attempt_failed(local, &error.to_string());
                }
            }
        }
    }

    fn open_pushers(&mut self) {
        let Some(address) = self.to.plan.endpoints.http else { return };
        for number in 0..self.pushers.len() {
            if self.pushers[number].id.is_some() || self.odds.network_error.is_some() {
                continue;
            }
            match self.backend.connect(None, address) {
                Ok(id) => {
                    self.pushers[number].id = Some(id);
                    self.fleet.own_pusher(id, number);
                }
                Err(error) => self.odds.network_error = Some(format!("HTTP connection: {error:?}")),
            }
        }
    }

    fn next_churn(&self) -> Option<u64> {
        let turn = self.churn.operations * u64::from(self.to.duty.step);
        Some(self.churn.schedule?.intended(turn + u64::from(self.to.duty.first % self.to.duty.step)))
    }

    /// Closes the connections whose turn it is; they come back by themselves.
    fn churn_connections(&mut self, now: u64) {
        let Some(window) = self.window else { return };
        while let Some(intended) = self.next_churn() {
            if intended > now || intended >= window.end || self.fleet.connections.is_empty() {
                return;
            }
            let local = (self.churn.operations % self.fleet.connections.len() as u64) as usize;
            self.churn.operations += 1;
            let connection = &mut self.fleet.connections[local];
            match (connection.link.stage, connection.id) {
                (Stage::Ready, Some(id)) => {
                    connection.begun = intended;
                    self.backend.close(id);
                }
                _ => self.churn.missed += 1,
            }
        }
    }

    /// Closes all and waits a little for the backend to be done with them.
    fn close_everything(&mut self) -> io::Result<()> {
        self.held.clear();
        let ids = self.fleet.connections.iter().filter_map(|connection| connection.id);
        let ids = ids.chain(self.pushers.iter().filter_map(|pusher| pusher.id));
        ids.for_each(|id| self.backend.close(id));
        let deadline = self.now() + 5_000_000_000;
        while self.backend.connection_count() > 0 && self.now() < deadline {
            self.backend.poll(Duration::from_millis(10), &mut self.batch)?;
            self.batch.drain().for_each(drop);
        }
        Ok(())
    }

    // --- sending -------------------------------------------------------------------------------------------------

    /// Queues what is in the scratch space for connection `local`.
    fn send_scratch(&mut self, local: u32) {
        let Some(id) = self.fleet.connections[local as usize].id else { return };
        let Some(buffer) = self.backend.pools().copy(&self.scratch) else {
            self.odds.stalls += 1;
            return self.backend.close(id);
        };
        if let Err(SendError::Full(_) | SendError::Closed(_)) = self.backend.send(id, buffer.freeze()) {
            self.backend.close(id);
        }
    }
}

impl Odds {
    fn new() -> Odds {
        Odds {
            beats_sent: 0,
            beats_answered: 0,
            beats_measured: 0,
            beats_void: 0,
            beat_latency: fresh(3),
            notices: BTreeMap::new(),
            violations: BTreeMap::new(),
            stalls: 0,
            cpu_read_at: 0,
            cpu_before: None,
            cpu_after: None,
            network_error: None,
        }
    }
}

/// What the calling thread had of the processors, ns.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    /// On one.
    cpu: u64,
    /// Ready to run, while something else ran.
    waited: u64,
}

impl Share {
    fn read() -> Share {
        Share { cpu: thread_cpu(), waited: crate::monitor::run_queue_wait("/proc/thread-self/schedstat") }
    }
}

/// Processor time of the calling thread, ns.
fn thread_cpu() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}
