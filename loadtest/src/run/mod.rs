//! The coordinator: starts the workers, moves them from stage to stage, watches processes,
//! collects.
//!
//! ```text
//!   preflight ─► workers connect ─► each stage: warm-up, window ─► settle ─► finish ─► results
//! ```

mod pool;
mod stages;
mod watcher;

pub(crate) use pool::WorkerPool;

use crate::agents::{AgentState, Connected};
use crate::backend::{self, BackendContext};
use crate::clock::RunClock;
use crate::error::RunError;
use crate::exporter::{Exporter, Figures, FlowFigures};
use crate::histogram::{fresh, merge};
use crate::limits;
use crate::monitor::{self, Usage, Watched};
use crate::plan::{Role, RunPlan};
use crate::profile::{Folded, Profiler};
use crate::progress::Progress;
use crate::report::{Sample, Second};
use crate::worker::WorkerResult;
use crate::worker::control::{Control, Gauges, Interval, Window};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;
use watcher::Watcher;

/// How often the coordinator looks.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// How often a server without connections is asked whether it is there, ns.
const ASK_EVERY: u64 = 200_000_000;

/// What a run yields, not yet summed up.
pub(crate) struct RunOutput {
    pub(crate) results: Vec<WorkerResult>,
    /// One for each stage that was begun.
    pub(crate) stages: Vec<StageOutput>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) pids: Vec<i32>,
    pub(crate) usage: Usages,
    pub(crate) metrics: BTreeMap<String, [f64; 2]>,
    pub(crate) interrupted: bool,
    /// The server does not listen any more, and every connection is lost.
    pub(crate) server_gone: bool,
    /// The server's stacks, or why there are none; where they were asked for.
    pub(crate) profile: Option<Result<Folded, RunError>>,
    pub(crate) agents: Vec<AgentState>,
}

/// What the coordinator saw of one stage.
#[derive(Clone, Debug)]
pub(crate) struct StageOutput {
    pub(crate) window: Window,
    /// Deliveries were still arriving when settling had to end.
    pub(crate) unsettled: bool,
    /// When everything that the stage began was done.
    pub(crate) settled_at: u64,
    pub(crate) seconds: Vec<Second>,
    /// Readings of the server at the ends of the window.
    pub(crate) start: Usage,
    pub(crate) end: Usage,
    /// Readings after the stage had settled and its pause was over.
    pub(crate) rested: Usage,
    /// When the server reported no connections any more; after a disconnect.
    pub(crate) emptied_at: Option<u64>,
    /// Connection requests that were sent from unused addresses.
    pub(crate) syns: u64,
}

/// Readings of the server between the parts of the run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usages {
    pub(crate) before: Usage,
    pub(crate) connected: Usage,
    pub(crate) after: Usage,
}

/// What is watched in addition to the workers, and how it is shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    pub(crate) server_pid: Option<i32>,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) quiet: bool,
    /// Where figures are served while the run lasts.
    pub(crate) metrics_listen: Option<String>,
    /// The stacks of the server are recorded while traffic flows.
    pub(crate) profile: bool,
}

struct Run<'a> {
    plan: Arc<RunPlan>,
    control: Arc<Control>,
    clock: RunClock,
    pool: WorkerPool,
    watcher: Watcher,
    context: BackendContext,
    /// Where the server publishes its number of connections, if it does.
    metrics: Option<SocketAddr>,
    /// By stage and second.
    seconds: BTreeMap<(usize, u32), (Second, Histogram<u64>)>,
    stages: Vec<StageOutput>,
    stop: &'a AtomicBool,
    /// The server was found gone.
    gone: bool,
    /// When the server was last asked whether it is there.
    asked: u64,
    progress: Progress,
}

/// Runs `plan` to its end, or until `stop`.
///
/// # Errors
/// The reason why it could not run.
pub(crate) fn execute(
    plan: RunPlan,
    watch: &Watch,
    agents: Vec<Connected>,
    stop: &AtomicBool,
) -> Result<RunOutput, RunError> {
    if watch.profile {
        Profiler::check()?;
    }
    let limit = limits::raise_descriptors();
    if agents.is_empty() {
        backend::check(plan.machinery.backend)?;
        limits::check_descriptors(&plan, limit)?;
    }
    // Past the kernel, only the workers reach the server; so do agents.
    if plan.machinery.link.is_none() && agents.is_empty() {
        reach("server", plan.endpoints.server)?;
    }
    if let Some(http) = plan.endpoints.http {
        reach("http", http)?;
    }
    let pids = match watch.server_pid {
        Some(pid) => vec![pid],
        None => monitor::listening_on(watched(&plan)),
    };
    let context = BackendContext::open(&plan)?;
    // In this order: what the server needs to answer for its metrics is no cost of connections.
    let metrics_before = watch.metrics.map(monitor::metrics::scrape).unwrap_or_default();
    let tells = metrics_before.contains_key("gateway_connections");
    let busy_at = plan.machinery.link.as_ref().map(|_| watched(&plan));
    let server = Watched { pids, busy_at };
    let before = server.read();
    let control = Arc::new(Control::new(plan.stages.len()));
    let watcher = Watcher::new(server, watch.metrics);
    let (plan, clock) = (Arc::new(plan), RunClock::start());
    let exporter = watch.metrics_listen.as_deref().map(|address| exporter(address, &plan)).transpose()?;
    let mut pool = match agents.is_empty() {
        true => WorkerPool::start(&plan, &control, clock, &context)?,
        false => WorkerPool::of_agents(agents, &plan, &control, clock)?,
    };
    pool.exporter = exporter;
    let mut run = Run {
        plan,
        control,
        clock,
        pool,
        watcher,
        context,
        metrics: watch.metrics.filter(|_| tells),
        seconds: BTreeMap::new(),
        stages: Vec::new(),
        stop,
        gone: false,
        asked: 0,
        progress: Progress::new(watch.quiet),
    };
    run.connect();
    let mut usage = Usages { before, connected: run.watcher.read(), after: Usage::default() };
    let profiler = watch.profile.then(|| Profiler::start(run.watcher.pids()));
    for stage in 0..run.plan.stages.len() {
        if stage == 0 || !run.stopped() {
            run.stage(stage);
        }
    }
    usage.after = run.watcher.read();
    let profile = profiler.map(|profiler| profiler.and_then(Profiler::finish));
    let metrics = deltas(metrics_before, watch.metrics);
    Ok(RunOutput { profile, ..run.finish(usage, metrics)? })
}

/// The address by which this machine's kernel knows the server's process: past it, only the control
/// port.
fn watched(plan: &RunPlan) -> SocketAddr {
    let control = plan.endpoints.http.or_else(|| plan.endpoints.http_name.parse().ok());
    control.filter(|_| plan.machinery.link.is_some()).unwrap_or(plan.endpoints.server)
}

/// Checks by a plain connect, which is the quickest, whether a server is there.
fn reach(flag: &str, address: SocketAddr) -> Result<(), RunError> {
    match TcpStream::connect_timeout(&address, Duration::from_secs(5)) {
        Ok(_) => Ok(()),
        Err(error) => Err(RunError::new(
            format!("cannot reach {address}: {error}"),
            format!("start the server, or name its address with --{flag}"),
        )),
    }
}

/// Serves the figures of a run.
fn exporter(address: &str, plan: &RunPlan) -> Result<Exporter, RunError> {
    let flows = plan.flows.iter().map(|flow| FlowFigures::named(plan.flow_name(flow))).collect();
    let scenario = plan.scenario.to_owned();
    Exporter::start(address, Figures { scenario, flows, ..Figures::default() })
}

fn add(figures: &mut FlowFigures, interval: &Interval) {
    figures.operations += interval.operations;
    figures.late += interval.late;
    figures.owed += interval.sent;
    figures.delivered += interval.delivered;
    figures.record(&interval.latency);
}

fn deltas(before: BTreeMap<String, f64>, address: Option<SocketAddr>) -> BTreeMap<String, [f64; 2]> {
    let after = address.map(monitor::metrics::scrape).unwrap_or_default();
    after
        .into_iter()
        .map(|(name, value)| (name.clone(), [before.get(&name).copied().unwrap_or(0.0), value]))
        .collect()
}

impl Run<'_> {
    fn now(&self) -> u64 {
        self.clock.now()
    }

    fn sum(&self, of: fn(&Gauges) -> &AtomicU64) -> u64 {
        self.pool.gauges.iter().map(|gauges| of(gauges).load(Relaxed)).sum()
    }

    fn stopped(&self) -> bool {
        self.gone || self.stop.load(Relaxed) || self.pool.threads.iter().any(JoinHandle::is_finished)
    }

    /// Detects that the server is gone: connections should be there, not one is left, and no socket
    /// listens. What is measured from then on would say nothing about it.
    fn watch_server(&mut self) {
        let now = self.now();
        if self.gone || now < self.asked + ASK_EVERY || self.sum(|gauges| &gauges.ready) > 0 {
            return;
        }
        self.asked = now;
        self.gone = !self.answers();
    }

    /// Whether a socket listens at the server's address; past the kernel, at its control port. A
    /// server past the kernel whose control port was not named counts as there.
    fn answers(&self) -> bool {
        let (is_past, http) = (self.plan.machinery.link.is_some(), self.plan.endpoints.http);
        (is_past && http.is_none())
            || TcpStream::connect_timeout(&watched(&self.plan), Duration::from_secs(1)).is_ok()
    }

    /// Collects intervals, and takes a sample now and then.
    fn look(&mut self) {
        std::thread::sleep(LOOK_EVERY);
        self.collect();
        self.export();
        let now = self.now();
        if self.watcher.is_due(now) {
            self.sample(now);
        }
    }

    fn collect(&mut self) {
        for (index, (flow, receiver)) in self.plan.flows.iter().zip(&self.pool.intervals).enumerate() {
            while let Ok(interval) = receiver.try_recv() {
                if let Some(exporter) = &self.pool.exporter {
                    exporter.update(|figures| add(&mut figures.flows[index], &interval));
                }
                let entry = self.seconds.entry((flow.stage, interval.second));
                let (second, latency) = entry.or_insert_with(|| (Second::default(), fresh(2)));
                second.second = interval.second;
                second.owed += interval.sent;
                second.delivered += interval.delivered;
                merge(latency, &interval.latency);
            }
        }
    }

    /// Serves the present figures.
    fn export(&self) {
        let Some(exporter) = &self.pool.exporter else { return };
        let stage = self.control.started().checked_sub(1).map(|stage| &self.plan.stages[stage].name);
        let (owed, delivered) = (self.sum(|gauges| &gauges.owed), self.sum(|gauges| &gauges.delivered));
        exporter.update(|figures| {
            figures.stage = stage.map_or_else(|| "connect".to_owned(), String::clone);
            figures.connections_ready = self.sum(|gauges| &gauges.ready);
            figures.connections_failed = self.sum(|gauges| &gauges.failed);
            figures.in_flight = owed.saturating_sub(delivered);
            figures.unanswered = self.sum(|gauges| &gauges.unanswered);
        });
    }

    fn sample(&mut self, now: u64) {
        let (ready, cpu) = (self.sum(|gauges| &gauges.ready), self.sum(|gauges| &gauges.cpu));
        self.watcher.sample(now, ready, cpu, self.control.started());
    }

    /// Waits until every connection is ready or given up.
    fn connect(&mut self) {
        let total = u64::from(self.plan.connections_total());
        let attempts = u32::from(self.plan.connect.retries) + 1;
        let ramp = self.plan.connect.rate.map_or(0.0, |rate| total as f64 / rate.per_second());
        let slack = Duration::from_secs_f64(30.0 + ramp + total as f64 / 2000.0);
        let patience = self.plan.connect.timeout * attempts + slack;
        self.progress.phase("connecting", total);
        self.until_ready(total, self.now() + patience.as_nanos() as u64);
        self.sample(self.now());
    }

    /// Waits until `total` connections are ready or given up; false when that took too long.
    fn until_ready(&mut self, total: u64, deadline: u64) -> bool {
        while !self.stopped() && self.now() < deadline {
            self.look();
            let (ready, failed) = (self.sum(|gauges| &gauges.ready), self.sum(|gauges| &gauges.failed));
            self.progress.at(ready, &format!("{ready} ready, {failed} given up"));
            if ready + failed >= total && self.sum(|gauges| &gauges.unanswered) == 0 {
                return true;
            }
        }
        false
    }

    fn finish(mut self, usage: Usages, metrics: BTreeMap<String, [f64; 2]>) -> Result<RunOutput, RunError> {
        self.progress.phase("closing", 0);
        self.control.finish.store(true, Relaxed);
        let threads = std::mem::take(&mut self.pool.threads);
        let mut results = Vec::new();
        // All have ended before an error of one is looked at.
        let joined: Vec<_> = threads.into_iter().map(JoinHandle::join).collect();
        for result in joined {
            let result = result.map_err(|_| {
                RunError::new(
                    "a worker panicked",
                    "that is a bug in loadtest; please report it with the message above",
                )
            })?;
            results.extend(result?);
        }
        self.collect();
        let samples = self.watcher.finish();
        self.progress.end();
        // A worker that pushes over HTTP may have noticed first.
        self.gone |= results.iter().any(|result| result.network_error.is_some()) && !self.answers();
        none_connected(&self.plan, &results, self.gone)?;
        for ((stage, _), (second, latency)) in self.seconds {
            if let Some(output) = self.stages.get_mut(stage) {
                output.seconds.push(seal(second, &latency));
            }
        }
        Ok(RunOutput {
            results,
            stages: self.stages,
            samples,
            pids: self.watcher.pids().to_vec(),
            usage,
            metrics,
            interrupted: self.stop.load(Relaxed),
            server_gone: self.gone,
            profile: None,
            agents: self.pool.agents(),
        })
    }
}

fn seal(second: Second, latency: &Histogram<u64>) -> Second {
    let at = |quantile| if latency.is_empty() { 0 } else { latency.value_at_quantile(quantile) };
    Second { p50: at(0.5), p99: at(0.99), max: latency.max(), ..second }
}

/// Fails when no connection was made at all: then nothing was measured. What a server did that is
/// gone by now stays.
fn none_connected(plan: &RunPlan, results: &[WorkerResult], gone: bool) -> Result<(), RunError> {
    let network = results.iter().find_map(|result| result.network_error.clone()).filter(|_| !gone);
    let fleets = || results.iter().flat_map(|result| &result.stages).map(|stats| &stats.fleet);
    let established: u64 = fleets().map(|fleet| fleet.established).sum();
    if established > 0 || !results.iter().any(|result| result.role != Role::Slow) {
        return network
            .map_or(Ok(()), |error| Err(RunError::new(error, "check --http and the server's log")));
    }
    let violations = results.iter().flat_map(|result| result.violations.keys());
    let why = fleets().flat_map(|fleet| fleet.failures.keys()).chain(violations);
    let mut why: Vec<&str> = why.map(String::as_str).collect();
    why.sort_unstable();
    why.dedup();
    Err(RunError::new(
        format!("none of {} connections became ready: {}", plan.connections_total(), why.join(", ")),
        "check --transport, --protocol and --server against what listens there, and the server's log",
    ))
}
