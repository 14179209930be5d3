//! One part of the generator: its connections, its share of every flow, its backend. It has a
//! thread of its own, or shares one (`together`).
//!
//! ```text
//!   turn:  poll ─► handle completions ─► open connections ─► send operations ─► heartbeats
//! ```
//!
//! A worker never waits for another. The coordinator publishes when traffic starts and when to
//! finish ([`Control`]); the workers publish their progress ([`Gauges`]). A message is encoded
//! once, copied into a pooled block, patched in place and passed to the backend; nothing is
//! allocated for it.

mod answers;
mod churn;
mod clock_gaps;
pub(crate) mod control;
mod ending;
mod fleet;
mod flow;
mod heartbeat;
mod pacemaker;
mod receive;
mod recorder;
mod result;
mod share;
mod stage;
mod steps;
mod together;
mod traffic;
mod turns;

pub(crate) use clock_gaps::ClockGaps;
pub(crate) use fleet::FleetStats;
pub(crate) use result::{FlowResult, WorkerResult};
pub(crate) use share::Share;
pub(crate) use stage::{Beats, ChurnStats, StageStats};
pub(crate) use steps::StepCounts;
pub(crate) use together::run_together;

use crate::backend::BackendContext;
use crate::client::Protocol;
use crate::clock::RunClock;
use crate::http::Pusher;
use crate::numbers::Gaps;
use crate::plan::{Duty, Path, Role, RunPlan};
use control::{Control, Gauges, Interval, Window};
use ending::{CLOSE_WAIT, Ending};
use fleet::Fleet;
use flow::Flow;
use netpoll::{Backend, BackendConfig, Buffer, Completions, PoolSize, PoolsConfig};
use pacemaker::Pacemaker;
use share::thread_cpu;
use stage::Departures;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::mpsc;
use std::time::Duration;
use turns::Turns;

/// The longest sleep of a turn while something waits for room.
const STALL_WAIT: Duration = Duration::from_millis(1);
/// How often the thread's processor time is read.
const CPU_EVERY: u64 = 20_000_000;
/// At most so many connections are opened in one turn.
const OPEN_BATCH: usize = 64;

/// What a worker is made from.
#[derive(Clone)]
pub(crate) struct Assignment {
    pub(crate) plan: Arc<RunPlan>,
    pub(crate) duty: Duty,
    /// This worker counts the processor time of the thread that it shares.
    pub(crate) counts_thread: bool,
    pub(crate) control: Arc<Control>,
    pub(crate) gauges: Arc<Gauges>,
    pub(crate) clock: RunClock,
    /// What the workers share of their backend.
    #[cfg_attr(not(feature = "dpdk"), expect(dead_code, reason = "kernel backends share nothing"))]
    pub(crate) context: BackendContext,
    /// One sender for each flow.
    pub(crate) intervals: Vec<mpsc::Sender<Interval>>,
}

/// Counts that are neither about connections nor about flows.
#[derive(Debug, Default)]
struct WorkerStats {
    notices: BTreeMap<String, u64>,
    violations: BTreeMap<String, u64>,
    /// Heartbeats without an answer before one that has it.
    beat_gaps: Gaps,
    /// Sends delayed because the pools were empty.
    stalls: u64,
    cpu_read_at: u64,
    /// At the ends of the present window.
    share_before: Option<Share>,
    share_after: Option<Share>,
    network_error: Option<String>,
    /// Until when the worker meant to sleep.
    awake_by: Cell<u64>,
}

/// See the module's text.
pub(crate) struct Worker<B, P> {
    backend: B,
    protocol: P,
    to: Assignment,
    fleet: Fleet,
    flows: Vec<Flow>,
    pushers: Vec<Pusher>,
    pacemaker: Option<Pacemaker>,
    departures: Departures,
    /// Counts of the present stage, or of the opening before the first.
    stats: StageStats,
    /// Counts of the stages before the present one.
    finished: Vec<StageStats>,
    window: Option<Window>,
    batch: Completions,
    /// Slow readers: the buffers that they received and keep.
    held: Vec<Buffer>,
    /// Bytes to be copied into a block and sent.
    scratch: Vec<u8>,
    has_begun: bool,
    /// More could be sent at once.
    behind: bool,
    /// Everything is being closed, when set.
    ending: Option<Ending>,
    counts: WorkerStats,
}

/// The longest sleep of a turn, so that the coordinator's orders are seen; longer where many
/// workers share few processors.
pub(crate) fn wait_max(plan: &RunPlan) -> Duration {
    Duration::from_millis(if plan.machinery.workers > 8 { 100 } else { 10 })
}

/// Sizes of a worker's backend.
pub(crate) fn backend_config(plan: &RunPlan, duty: &Duty) -> BackendConfig {
    let frame = |payload: usize| payload + 400;
    let depth = |flow: &crate::plan::FlowPlan| match &flow.pace {
        crate::plan::Pace::Closed { depth } => usize::from(*depth),
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
        send_pieces_shared: 64 << 10,
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
        let fleet = Fleet::new(to.duty, plan.connect, backend.index_bound(), tick);
        let pacemaker = |every| Some(Pacemaker::new(protocol.heartbeat()?, every, fleet.ticks));
        let pacemaker = plan.heartbeat.and_then(pacemaker);
        Worker {
            fleet,
            flows,
            pushers: (0..pushers).map(|_| Pusher::new(plan.machinery.http_pipeline)).collect(),
            pacemaker,
            departures: Departures::default(),
            stats: StageStats::new(),
            finished: Vec::with_capacity(plan.stages.len() + 1),
            window: None,
            batch: Completions::with_capacity(512),
            held: Vec::new(),
            scratch: Vec::with_capacity(32 << 10),
            has_begun: false,
            behind: false,
            ending: None,
            counts: WorkerStats::default(),
            backend,
            protocol,
            to,
        }
    }

    /// Works until the coordinator orders the end, alone on its thread. Returns the backend without
    /// connections.
    ///
    /// # Errors
    /// What makes the backend unusable.
    pub(crate) fn run(mut self) -> io::Result<(WorkerResult, B)> {
        while self.turn(self.time_to_wait())? {}
        Ok(self.into_result())
    }

    fn now(&self) -> u64 {
        self.to.clock.now()
    }

    /// Waits for completions, at most so long, and does what there is to do. False: the connections
    /// are closed, and nothing is left to do.
    ///
    /// # Errors
    /// What makes the backend unusable.
    fn turn(&mut self, wait: Duration) -> io::Result<bool> {
        let mut batch = std::mem::replace(&mut self.batch, Completions::with_capacity(0));
        let polled = self.backend.poll(wait, &mut batch);
        let woken = self.now();
        if self.ending.is_none() {
            batch.drain().for_each(|completion| self.handle(completion));
        }
        batch.drain().for_each(drop);
        self.batch = batch;
        polled?;
        if self.ending.is_some() || self.to.control.finish.load(Relaxed) {
            return Ok(self.close_more());
        }
        let now = self.now();
        if !self.has_begun {
            self.begin(now);
        }
        self.open_pushers(now);
        self.open_connections(now);
        self.follow_phase(now);
        self.close_connections(now);
        self.behind = self.send_operations();
        self.expire_timers(now);
        self.publish();
        self.watch_clock(woken);
        Ok(true)
    }

    /// Looks for time in which the worker stood still: before it woke, and since.
    fn watch_clock(&mut self, woken: u64) {
        let now = self.now();
        let meant = self.counts.awake_by.replace(now);
        if let Some(window) = self.window {
            self.stats.gaps.saw_nothing(meant, woken, &window);
            self.stats.gaps.saw_nothing(woken, now, &window);
        }
    }

    fn begin(&mut self, now: u64) {
        // Sleeps end when they should, not up to 50 µs later (prctl(2), PR_SET_TIMERSLACK).
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        self.has_begun = true;
        self.fleet.begin(now);
        self.counts.share_before = self.to.counts_thread.then(Share::read);
    }

    /// How long there is nothing to do, unless a completion comes.
    fn time_to_wait(&self) -> Duration {
        if self.behind || !self.has_begun {
            return Duration::ZERO;
        }
        if self.ending.is_some() {
            return CLOSE_WAIT;
        }
        let now = self.now();
        let window = self.window.unwrap_or_default();
        let present = || self.flows.iter().filter(|flow| flow.plan.stage == window.stage);
        // A flow that waits for room is woken by the completion that makes some; polling for it
        // would take the processor from the thread that is to make it.
        let stalled = present().any(|flow| flow.room.is_missing);
        let within = wait_max(&self.to.plan);
        let within = if stalled { within.min(STALL_WAIT) } else { within };
        let within = self.fleet.until_expiry(now, within);
        let flows = present().filter(|flow| !flow.room.is_missing).filter_map(Flow::next_due);
        let due =
            flows.chain(self.departures.turns.as_ref().and_then(Turns::next)).filter(|due| *due < window.end);
        let due = due.chain(self.fleet.next_due()).min();
        let wait = due.map_or(within, |due| within.min(Duration::from_nanos(due.saturating_sub(now))));
        self.counts.awake_by.set(now + wait.as_nanos() as u64);
        wait
    }

    fn publish(&mut self) {
        let gauges = &*self.to.gauges;
        let sum = |of: fn(&Flow) -> u64| self.flows.iter().map(of).sum::<u64>();
        gauges.ready.store(u64::from(self.fleet.ready_count), Relaxed);
        gauges.failed.store(self.fleet.stats.given_up, Relaxed);
        gauges.owed.store(sum(|flow| flow.recorder.owed.saturating_sub(flow.excused)), Relaxed);
        gauges.delivered.store(sum(|flow| flow.recorder.delivered), Relaxed);
        let pending = self.pushers.iter().map(|pusher| pusher.pending.len() as u64).sum::<u64>();
        let opening = u64::from(self.fleet.is_opening() || self.pushers.iter().any(|pusher| !pusher.ready));
        let now = self.now();
        let waiting = if self.beats_are_over(now) { self.beats_unanswered() } else { 0 };
        let replies = sum(Flow::unanswered);
        gauges.unanswered.store(pending + opening + waiting + replies + self.turns_under_way(), Relaxed);
        // Stored last: a reader that sees the stage sees its other numbers too.
        gauges.stage.store(self.window.map_or(0, |window| window.stage + 1), Release);
        if self.to.counts_thread && now >= self.counts.cpu_read_at + CPU_EVERY {
            self.counts.cpu_read_at = now;
            gauges.cpu.store(thread_cpu(), Relaxed);
        }
    }

    // --- opening and closing ---

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

    /// Opens the HTTP connections that are missing. A stale one is closed, and is missing once that
    /// is confirmed: the table has no place for both.
    fn open_pushers(&mut self, now: u64) {
        let Some(address) = self.to.plan.endpoints.http else { return };
        for number in 0..self.pushers.len() {
            let pusher = &mut self.pushers[number];
            if let Some(id) = pusher.id.filter(|_| pusher.is_stale(now)) {
                pusher.ready = false;
                self.backend.close(id);
            }
            if self.pushers[number].id.is_some() || self.counts.network_error.is_some() {
                continue;
            }
            match self.backend.connect(None, address) {
                Ok(id) => {
                    let pusher = &mut self.pushers[number];
                    (pusher.id, pusher.used_at) = (Some(id), now);
                    self.fleet.own_pusher(id, number);
                }
                Err(error) => self.counts.network_error = Some(format!("HTTP connection: {error:?}")),
            }
        }
    }

    // --- sending ---

    /// Queues what is in the scratch space for connection `local`.
    fn send_scratch(&mut self, local: u32) {
        let Some(id) = self.fleet.connections[local as usize].id else { return };
        let Some(buffer) = self.backend.pools().copy(&self.scratch) else {
            self.counts.stalls += 1;
            return self.backend.close(id);
        };
        if self.backend.send(id, buffer.freeze()).is_err() {
            self.backend.close(id);
        }
    }
}
